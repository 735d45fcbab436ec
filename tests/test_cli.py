"""What a person gets from the command line: results, messages, files and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.numpy import load_file

import zeromean as zm
from zeromean.cli import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve PNGs in two class folders, one of them cut short."""
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / "train" / ("ants" if i % 2 else "bees")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    whole = (folder / "11.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[:-20])
    return tmp_path / "train"


def stacked(folder: Path) -> np.ndarray:
    good = sorted(p for p in folder.rglob("*.png") if p.name != "torn.png")
    return np.stack([np.asarray(Image.open(p)) for p in good])


def test_json_is_what_the_output_file_holds(pictures, tmp_path):
    saved = tmp_path / "train.json"
    result = run("measure", pictures, "--json", "-o", saved)
    assert result.exit_code == 0
    assert result.stdout == saved.read_text()
    document = json.loads(result.stdout)
    pixels = stacked(pictures).reshape(-1, 3).astype(np.float64)
    assert document["mean"] == pixels.mean(axis=0).tolist()
    assert document["items"] == 12
    assert document["skipped"] == [{"path": "ants/torn.png", "reason": "the PNG file is cut short"}]
    assert "torn.png" in result.stderr


def test_the_table_names_the_three_stds_and_the_line_to_paste(pictures):
    out = run("measure", pictures).stdout
    for part in (
        "all values pooled",
        "use this one",
        "mean of item stds",
        "root mean item variance",
    ):
        assert part in out
    profile = zm.measure(stacked(pictures), "n h w c -> c")
    mean = ", ".join(f"{v:.6g}" for v in profile.unit_mean)
    std = ", ".join(f"{v:.6g}" for v in profile.unit_std)
    assert f"transforms.Normalize(mean=[{mean}], std=[{std}])" in out


def test_strict_stops_and_names_the_file(pictures):
    result = run("measure", pictures, "--strict")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "ants/torn.png: the PNG file is cut short" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["measure", "nowhere"], "nowhere"),
        (["measure", ".", "-p", "n h w c -> z"], "'z'"),
        (["measure", ".", "-p", "n d -> d", "--per", "all"], "give one"),
        (["measure", ".", "-o", "x.pkl"], ".json, .safetensors"),
        (["measure", ".", "--plot", "x.gif"], ".png, .svg, .pdf"),
        (["measure", ".", "-o", "no/such/x.json"], "no such folder"),
        (["show", "nowhere.json"], "nowhere.json"),
        (["apply", "nowhere.json", ".", "-o", "x"], "nowhere.json"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_quick_look_is_marked(pictures, tmp_path):
    out = run("measure", pictures, "--limit", 3, "-o", tmp_path / "look.json").stdout
    assert "a quick look" in out
    assert "a quick look at 3 of 13" in zm.load(tmp_path / "look.json").provenance.sources[0]
    assert "a quick look" not in run("measure", pictures, "--limit", 99).stdout


def test_show_prints_table_and_histogram_and_draws(pictures, tmp_path):
    saved, picture = tmp_path / "train.json", tmp_path / "three.svg"
    run("measure", pictures, "-o", saved)
    result = run("show", saved, "--kind", "three", "--plot", picture)
    assert result.exit_code == 0
    assert "█" in result.stdout
    assert picture.read_text().startswith("<?xml")
    assert run("show", saved, "--json").stdout == saved.read_text()


def test_mean_images_are_shown_and_drawn_as_pictures(pictures, tmp_path):
    saved, picture = tmp_path / "mean.safetensors", tmp_path / "mean.png"
    out = run("measure", pictures, "--per", "pixel", "-o", saved, "--plot", picture).stdout
    assert "9 x 7" in out
    assert "highest mean" in out
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_apply_writes_zero_mean_shards_and_a_manifest(pictures, tmp_path, kind):
    saved, target = tmp_path / "train.json", tmp_path / "out"
    run("measure", pictures, "-o", saved)
    result = run("apply", saved, pictures, "-o", target, "--format", kind, "--shard-size", 5)
    assert result.exit_code == 0
    manifest = json.loads((target / "manifest.json").read_text())
    assert len(manifest["items"]) == 12
    assert [s["path"] for s in manifest["skipped"]] == ["ants/torn.png"]
    assert len({entry["shard"] for entry in manifest["items"]}) == 3
    loaders = {"npy": np.load, "npz": np.load, "safetensors": load_file}
    everything = []
    for entry in manifest["items"]:
        shard = loaders[kind](target / entry["shard"])
        array = shard[entry["index"] if kind == "npy" else entry["key"]]
        original = np.asarray(Image.open(pictures / entry["file"]))
        assert array.dtype == np.float32
        assert np.array_equal(array, zm.zero_mean(zm.load(saved))(original))
        everything.append(array)
    assert np.abs(np.stack(everything).mean(axis=(0, 1, 2), dtype=np.float64)).max() < 1e-4


def test_apply_moves_channels_first_for_channels_and_for_mean_images(pictures, tmp_path):
    for per in ("channel", "pixel"):
        saved, target = tmp_path / f"{per}.safetensors", tmp_path / per
        run("measure", pictures, "--per", per, "-o", saved)
        result = run("apply", saved, pictures, "-o", target, "--format", "npy", "--layout", "chw")
        assert result.exit_code == 0, result.output
        expected = zm.zero_mean(zm.load(saved))(stacked(pictures)).transpose(0, 3, 1, 2)
        got = np.load(target / "shard-00000.npy")
        assert got.shape == (12, 3, 9, 7)
        assert sorted(map(bytes, got)) == sorted(map(bytes, np.ascontiguousarray(expected)))


def test_apply_to_an_array_file_streams_into_another(tmp_path):
    x = np.random.default_rng(1).normal(5, 2, (1000, 4))
    np.save(tmp_path / "x.npy", x)
    run("measure", tmp_path / "x.npy", "-o", tmp_path / "x.json")
    for suffix in ("npy", "npz", "safetensors"):
        target = tmp_path / f"y.{suffix}"
        result = run("apply", tmp_path / "x.json", tmp_path / "x.npy", "--method", "standardize",
                     "--dtype", "float64", "-o", target)  # fmt: skip
        assert result.exit_code == 0, result.output
        read = np.load(target) if suffix != "safetensors" else load_file(target)
        y = read if suffix == "npy" else read["data"]
        assert np.array_equal(y, zm.standardize(zm.measure(x))(x, dtype="float64"))


def test_apply_never_writes_over_its_input_or_into_a_full_folder(pictures, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(8.0))
    run("measure", tmp_path / "x.npy", "-o", tmp_path / "x.json")
    before = (tmp_path / "x.npy").read_bytes()
    result = run("apply", tmp_path / "x.json", tmp_path / "x.npy", "-o", tmp_path / "x.npy")
    assert result.exit_code == 2
    assert "the data itself" in result.stderr
    assert (tmp_path / "x.npy").read_bytes() == before
    run("measure", pictures, "-o", tmp_path / "train.json")
    result = run("apply", tmp_path / "train.json", pictures, "-o", pictures)
    assert result.exit_code == 2
    assert "not empty" in result.stderr


def test_errors_about_an_array_file_name_it_and_its_whole_shape(pictures, tmp_path):
    run("measure", pictures, "-o", tmp_path / "train.json")
    np.save(tmp_path / "first.npy", np.zeros((5000, 3, 32, 32), np.uint8))
    np.save(tmp_path / "unit.npy", np.random.default_rng(0).random((4, 9, 7, 3)))
    shape = run("apply", tmp_path / "train.json", tmp_path / "first.npy", "-o", tmp_path / "o.npy")
    assert "first.npy: data of shape (5000, 3, 32, 32)" in shape.stderr
    units = run("apply", tmp_path / "train.json", tmp_path / "unit.npy", "-o", tmp_path / "o.npy")
    assert "unit.npy: the data is float64" in units.stderr
    assert "looks like 0..1" in units.stderr
    assert not (tmp_path / "o.npy").exists()


def test_a_failing_apply_leaves_no_shards(tmp_path):
    """Pictures of two sizes cannot share one array; the first shard must not stay behind."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i, size in enumerate([(4, 4), (4, 4), (4, 5), (4, 4)]):
        Image.new("RGB", size, (i, i, 9)).save(folder / f"{i}.png")
    run("measure", folder, "-o", tmp_path / "m.json")
    target = tmp_path / "out"
    result = run("apply", tmp_path / "m.json", folder, "-o", target, "--format", "npy",
                 "--shard-size", 2)  # fmt: skip
    assert result.exit_code == 2
    assert "one .npy array needs one size" in result.stderr
    assert list(target.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_with_one_line_and_exit_code_130(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "0.png")
    for i in range(1, 3000):
        os.link(folder / "0.png", folder / f"{i}.png")
    command = [sys.executable, "-m", "zeromean", "measure", str(folder), "-o", "never.json"]
    env = {**os.environ, "PYTHONPATH": str(Path(zm.__file__).parents[1])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(3)
        assert process.poll() is None, "it was to be stopped in the middle"
        process.send_signal(signal.SIGINT)
        message = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert message.strip().startswith("stopped: nothing was written")
    assert not (tmp_path / "never.json").exists()


def test_the_demo_measures_centers_and_draws(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    for _ in range(2):  # it may be run again
        result = run("demo", "-o", tmp_path / "demo")
        assert result.exit_code == 0, result.output
    assert "became 0, 0, 0" in result.stdout
    profile = zm.load(tmp_path / "demo" / "photos.json")
    assert zm.load(tmp_path / "demo" / "zero-mean.json") == zm.zero_mean(profile)
    assert (tmp_path / "demo" / "three-distributions.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "demo" / "zero-mean" / "mine.txt").write_text("precious")
    refused = run("demo", "-o", tmp_path / "demo")
    assert refused.exit_code == 2
    assert "mine.txt" in refused.stderr
