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
    assert not target.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize(
    ("more", "said"),
    [(["--no-ledger"], "stopped: nothing was written"), ([], "stopped: what was measured is kept")],
)
def test_ctrl_c_ends_with_one_line_and_exit_code_130(tmp_path, more, said):
    folder = tmp_path / "many"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "0.png")
    for i in range(1, 3000):
        os.link(folder / "0.png", folder / f"{i}.png")
    command = [sys.executable, "-m", "zeromean", "measure", str(folder), "-o", "never.json", *more]
    env = {**os.environ, "PYTHONPATH": str(Path(zm.__file__).parents[1])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(3)
        assert process.poll() is None, "it was to be stopped in the middle"
        process.send_signal(signal.SIGINT)
        message = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert message.startswith(said)
    assert message.count("\n") == 1
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


# ---------------------------------------------------------------- every method, and back


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("zero-mean", []),
        ("standardize", ["--ddof", 1]),
        ("min-max", ["--feature-range", -1, 1]),
        ("mean-normalize", []),
        ("max-abs", []),
        ("robust", []),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_a_folder_is_normalized_and_inverted(pictures, tmp_path, method, options, kind):
    saved, target, back = tmp_path / "train.json", tmp_path / "out", tmp_path / "back"
    run("measure", pictures, "-o", saved)
    arguments = ["--layout", "chw", "--format", kind, "--shard-size", 5, *options]
    done = run("apply", saved, pictures, "-o", target, "--method", method, *arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{method}: 12 items, float32 from ")
    norm = zm.load(target / "normalizer.json")
    assert norm.recipe == method.replace("-", "_")
    undone = run("apply", target / "normalizer.json", target, "--invert", "-o", back)
    assert undone.exit_code == 0, undone.output
    assert undone.stdout.startswith(f"{method} undone: 12 items, uint8 from ")
    manifest = json.loads((back / "manifest.json").read_text())
    assert manifest["output"] == {"dtype": "uint8", "layout": "hwc"}
    for item in manifest["items"]:
        picture = shard_array(back, item)
        assert list(picture.shape) == item["shape"]
        assert (picture == np.asarray(Image.open(pictures / item["file"]))).all()


def shard_array(folder, item):
    """One picture of a shard, as the manifest says where it is."""
    path = folder / item["shard"]
    if path.suffix == ".npy":
        return np.load(path)[item["index"]]
    if path.suffix == ".npz":
        return np.load(path)[item["key"]]
    return load_file(path)[item["key"]]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_an_array_is_normalized_and_inverted(tmp_path, suffix):
    x = np.random.default_rng(5).integers(0, 65536, (40, 7), dtype=np.uint16)
    np.save(tmp_path / "x.npy", x)
    run("measure", tmp_path / "x.npy", "-o", tmp_path / "x.json")
    arguments = ["--method", "standardize", "--dtype", "float64"]
    target = tmp_path / "y.npy"
    done = run("apply", tmp_path / "x.json", tmp_path / "x.npy", "-o", target, *arguments)
    assert done.exit_code == 0, done.output
    back = tmp_path / f"back{suffix}"
    arguments = ["--method", "standardize", "--invert"]
    done = run("apply", tmp_path / "x.json", target, "-o", back, *arguments)
    assert done.exit_code == 0, done.output
    if suffix == ".safetensors":
        result = load_file(back)["data"]
    else:
        result = np.load(back) if suffix == ".npy" else np.load(back)["data"]
    assert result.dtype == np.uint16
    assert (result == x).all()


def test_each_picture_by_its_own_numbers(pictures, tmp_path):
    done = run("apply", "n h w c -> n", pictures, "--method", "standardize", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for item in manifest["items"]:
        picture = shard_array(tmp_path / "out", item)
        assert abs(picture.mean(dtype=np.float64)) < 1e-6
    assert not (tmp_path / "out" / "normalizer.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "min-max", "--ddof", 1], "--ddof does not belong to --method min-max"),
        (["--components", 2], "--components does not belong to --method zero-mean"),
        (["--invert"], "holds pictures, which are raw data"),
        (["--method", "min-max", "--feature-range", 1, 0], "low < high, two numbers"),
    ],
)
def test_options_that_make_no_sense_are_refused(pictures, tmp_path, arguments, said):
    run("measure", pictures, "-o", tmp_path / "train.json")
    refused = run("apply", tmp_path / "train.json", pictures, "-o", tmp_path / "out", *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_each_class_by_its_own_numbers_and_back(pictures, tmp_path, kind):
    saved, target, back = tmp_path / "by.json", tmp_path / "out", tmp_path / "back"
    done = run("measure", pictures, "--by", "class", "-o", saved)
    assert done.exit_code == 0, done.output
    arguments = ["--method", "standardize", "--format", kind, "-o", target]
    done = run("apply", saved, pictures, *arguments)
    assert done.exit_code == 0, done.output
    manifest = json.loads((target / "manifest.json").read_text())
    for name in ("ants", "bees"):
        own = [shard_array(target, i) for i in manifest["items"] if i["file"].startswith(name)]
        stack = np.stack(own).astype(np.float64)
        np.testing.assert_allclose(stack.mean(axis=(0, 1, 2)), 0, atol=1e-6)
        np.testing.assert_allclose(stack.std(axis=(0, 1, 2)), 1, atol=1e-6)
    done = run("apply", target / "normalizer.json", target, "--invert", "-o", back)
    assert done.exit_code == 0, done.output
    for item in json.loads((back / "manifest.json").read_text())["items"]:
        raw = np.asarray(Image.open(pictures / item["file"]))
        assert (shard_array(back, item) == raw).all()
    np.save(tmp_path / "x.npy", np.zeros((2, 9, 7, 3), np.uint8))
    refused = run("apply", saved, tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert refused.exit_code == 2
    assert "norm(x, by=labels)" in refused.stderr


@pytest.fixture
def standardized(pictures, tmp_path):
    """A profile, and a folder that was standardized with it."""
    saved, folder = tmp_path / "train.json", tmp_path / "y"
    run("measure", pictures, "-o", saved)
    run("apply", saved, pictures, "--method", "standardize", "-o", folder)
    return saved, folder


def test_a_folder_is_undone_by_what_made_it(standardized, pictures, tmp_path):
    saved, folder = standardized
    back = tmp_path / "back"
    done = run("apply", saved, folder, "--invert", "-o", back)  # without --method
    assert done.stdout.startswith("standardize undone: 12 items, uint8"), done.output
    manifest = json.loads((back / "manifest.json").read_text())
    assert manifest["recipe"] == "standardize, undone"
    assert not {"normalizer", "shift", "scale"} & set(manifest)
    for item in manifest["items"]:
        assert (shard_array(back, item) == np.asarray(Image.open(pictures / item["file"]))).all()
    for other in (["--method", "min-max"], ["--method", "standardize", "--ddof", 1]):
        refused = run("apply", saved, folder, "--invert", "-o", tmp_path / "no", *other)
        assert refused.exit_code == 2
        assert "was written with standardize" in refused.stderr
        assert "normalizer.json" in refused.stderr
    forgotten = run("apply", folder / "normalizer.json", folder, "-o", tmp_path / "no")
    assert "add --invert" in forgotten.stderr
    assert not (tmp_path / "no").exists()


def test_numbers_of_single_samples_cannot_be_undone(standardized, tmp_path):
    _, folder = standardized
    refused = run("apply", "n h w c -> n", folder, "--invert", "-o", tmp_path / "no")
    assert refused.exit_code == 2
    assert "cannot be undone" in refused.stderr
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,5\n")
    refused = run("apply", "n d -> n", tmp_path / "t.csv", "-o", tmp_path / "no.csv")
    assert refused.exit_code == 2


def test_a_folder_of_pictures_becomes_no_file(standardized, pictures, tmp_path):
    saved, _ = standardized
    refused = run("apply", saved, pictures, "-o", tmp_path / "x.npy")
    assert refused.exit_code == 2
    assert "becomes a folder of shards" in refused.stderr
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("option", [["--format", "npz"], ["--shard-size", 2]])
def test_options_that_do_nothing_are_refused(tmp_path, option):
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(4, 3))
    run("measure", tmp_path / "x.npy", "-o", tmp_path / "x.json")
    refused = run(
        "apply", tmp_path / "x.json", tmp_path / "x.npy", "-o", tmp_path / "y.npy", *option
    )
    assert refused.exit_code == 2
    assert f"{option[0]}: does nothing" in refused.stderr


def test_robust_reads_what_was_measured_again(tmp_path):
    pytest.importorskip("pyarrow")
    rows = np.random.default_rng(3).normal(5, 2, (50, 2))
    text = "\n".join(["a,b", *(f"{a},{b}" for a, b in rows.tolist())])
    (tmp_path / "t.csv").write_text(text + "\n")
    run("measure", tmp_path / "t.csv", "-o", tmp_path / "t.json")
    arguments = ["apply", tmp_path / "t.json", tmp_path / "t.csv", "--method", "robust", "-o"]
    refused = run(*arguments, tmp_path / "y.csv")
    assert refused.exit_code == 2
    assert "--from TRAIN" in refused.stderr
    done = run(*arguments, tmp_path / "y.csv", "--from", tmp_path / "t.csv")
    assert done.exit_code == 0, done.output
    y = np.loadtxt(tmp_path / "y.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(np.median(y, axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(np.subtract(*np.percentile(y, [75, 25], axis=0)), 1, rtol=1e-12)


def test_components_may_be_a_share_and_true_and_false_are_numbers(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.csv").write_text(
        "a,b,flag\n1,2,True\n3,5,False\n4,4,True\n9,1,False\n2,8,False\n"
    )
    run("measure", tmp_path / "t.csv", "--covariance", "-o", tmp_path / "t.json")
    arguments = ["apply", tmp_path / "t.json", tmp_path / "t.csv", "-o", tmp_path / "y.csv"]
    done = run(*arguments, "--method", "whiten-pca", "--components", 0.9)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "y.csv").read_text().startswith("pca0")
    assert run(*arguments, "--method", "whiten-zca").exit_code == 0
    refused = run(*arguments, "--method", "whiten-pca", "--components", 1.5)
    assert refused.exit_code == 2
    assert "share of the variance" in refused.stderr


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_bfloat16_shards_are_undone(pictures, tmp_path, kind):
    pytest.importorskip("ml_dtypes")
    saved, folder, back = tmp_path / "train.json", tmp_path / "y", tmp_path / "back"
    run("measure", pictures, "-o", saved)
    arguments = ["--dtype", "bfloat16", "--format", kind, "-o", folder]
    assert run("apply", saved, pictures, *arguments).exit_code == 0
    done = run("apply", saved, folder, "--invert", "-o", back)
    assert done.exit_code == 0, done.output
    for item in json.loads((back / "manifest.json").read_text())["items"]:
        raw = np.asarray(Image.open(pictures / item["file"])).astype(int)
        assert np.abs(shard_array(back, item).astype(int) - raw).max() <= 1  # 8 bits of mantissa
