"""Export to what feeds pictures to models: each file run by its own library, and checked.

torchvision and timm run in a process of their own: their operators may be built for another PyTorch
than the one that is here (see `torchvision_shim.py`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import zeromean as zm
from zeromean.exporters import targets
from zeromean.exporters.existing import written_like
from zeromean.exporters.probing import compare, probes

R = np.random.default_rng(11)
RGB = "n h w c -> c"
TO_ONE = ("torchvision", "timm", "huggingface", "albumentations")
SHIM = Path(__file__).with_name("torchvision_shim.py")


def pictures(n=6, h=5, w=7, c=3, dtype=np.uint8):
    return R.integers(0, np.iinfo(dtype).max + 1, (n, h, w, c)).astype(dtype)


def first(x):
    """Channels first."""
    return np.moveaxis(x, -1, 1)


def measured(x, pattern=RGB, channels="RGB", **options):
    return zm.measure(x, pattern, channels=channels, **options)


def covariance(x, pattern, channels="RGB", **options):
    return zm.whiten(measured(x, pattern, channels, covariance=True), "zca", eps=1e-3, **options)


def cases():
    x = pictures()
    unit = R.random((4, 5, 6, 3))
    yield "standardize", zm.standardize(measured(x))
    yield "zero_mean", zm.zero_mean(measured(x))
    yield "min_max, an offset", zm.min_max(measured(x), -1, 1)
    yield "a large offset", zm.min_max(measured((x // 8).astype(np.uint8)), 1, 2)
    yield "max_abs", zm.max_abs(measured(x))
    yield "robust", zm.robust(measured(x, quantiles=True))
    yield "dark", zm.standardize(measured((x // 40).astype(np.uint8)))
    yield "narrow", zm.standardize(measured((x // 64 + 128).astype(np.uint8)))
    yield "channels first", zm.standardize(measured(first(x), "n c h w -> c"))
    yield "gray", zm.standardize(measured(x[..., 0], "n h w ->", ""))
    yield "one channel", zm.standardize(measured(x[..., :1], RGB, ""))
    yield "uint16", zm.standardize(measured(pictures(dtype=np.uint16)))
    yield "12 bits", zm.standardize(measured(pictures(dtype=np.uint16) >> 4, range=(0, 4095)))
    yield "float32", zm.standardize(measured(unit.astype(np.float32), range=(0, 1)))
    yield "float64", zm.standardize(measured(unit, range=(0, 1)))
    yield "float32 0..255", zm.standardize(measured(x.astype(np.float32), range=(0, 255)))
    yield "four channels", zm.standardize(measured(pictures(c=4), RGB, "RGBA"))
    small = pictures(200, 2, 3)
    yield "whitening", covariance(small, "n h w c -> h w c")
    yield "whitening, first", covariance(first(small), "n c h w -> c h w")
    yield "whitening, gray", covariance(small[..., 0], "n h w -> h w", "")
    yield "colors", covariance(x, RGB)
    yield (
        "fewer features",
        zm.whiten(measured(small, "n h w c -> h w c", covariance=True), n_components=4),
    )
    yield "large whitening", covariance(pictures(20, 13, 13), "n h w c -> h w c")
    yield "mean image", zm.standardize(measured(x, "n h w c -> h w c"))
    yield "BGR", zm.standardize(measured(x[..., ::-1], RGB, "BGR"))
    yield "no order", zm.standardize(measured(x, RGB, ""))
    yield "no range", zm.standardize(measured(unit))
    yield "range from -1", zm.standardize(measured(unit * 2 - 1, range=(-1, 1)))
    yield "one number", zm.standardize(measured(x, "n h w c ->", ""))
    yield "columns", zm.standardize(zm.measure(R.normal(size=(30, 4))))


CASES = dict(cases())
INTEGERS = (
    *("standardize", "zero_mean", "min_max, an offset", "a large offset", "max_abs", "robust"),
    *("dark", "narrow", "channels first", "gray", "one channel"),
)
CARRIED = {
    "torchvision": (
        *(*INTEGERS, "uint16", "float32", "float64", "four channels"),
        *("whitening", "whitening, first", "whitening, gray"),
    ),
    "timm": (*INTEGERS, "float32"),
    "huggingface": (*INTEGERS, "uint16", "12 bits", "float32", "float64", "float32 0..255"),
    "albumentations": (
        *(*INTEGERS, "uint16", "12 bits", "float32", "float32 0..255"),
        *("four channels", "BGR", "no order", "one number"),
    ),
}


# ---------------------------------------------------------------- torchvision and timm, elsewhere

SCRIPT = """
import json, sys, warnings
from pathlib import Path
import numpy as np
import zeromean as zm
from zeromean.exporters.probing import compare
from PIL import Image

folder, wanted = Path(sys.argv[1]), json.loads(sys.argv[2])
found = {}
for target, names in wanted.items():
    for name in names:
        made = zm.export(zm.load(folder / (name + ".safetensors")), target)
        v = made.verification
        found[target + ": " + name] = {
            "ulp": v and v.ulp, "bound": v and v.bound, "by": v and v.by, "why": made.unverified,
            "value": type(made.value).__name__,
        }

norm = zm.load(folder / "standardize.safetensors")
x = np.random.default_rng(2).integers(0, 256, (9, 8, 3), dtype=np.uint8)
scope = {}
exec(zm.export(norm, "torchvision").text, scope)
y = scope["transform"](Image.fromarray(x)).numpy()
array = scope["transform"](x).numpy()
found["picture"] = compare(norm, x[None], np.moveaxis(y, 0, -1)[None], "float32")[0]
found["same"] = bool((y == array).all())

if "huggingface" in wanted:
    from transformers import AutoImageProcessor

    (folder / "processor").mkdir()
    zm.export(norm, "huggingface", folder / "processor" / "preprocessor_config.json")
    found["backend"] = AutoImageProcessor.from_pretrained(folder / "processor").backend

import timm, timm.data
model_folder = folder / "model"
model_folder.mkdir()
start = {"architecture": "test_resnet", "pretrained_cfg": {"input_size": [3, 64, 64]}}
(model_folder / "config.json").write_text(json.dumps(start))
zm.export(norm, "timm", model_folder / "config.json")
model = timm.create_model("local-dir:" + str(model_folder), pretrained=False)
config = timm.data.resolve_data_config({"crop_pct": 1.0}, model=model)
big = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
y = timm.data.create_transform(**config)(Image.fromarray(big)).numpy()
found["model"] = compare(norm, big[None], np.moveaxis(y, 0, -1)[None], "float32")[0]
found["size"] = list(config["input_size"])
Path(sys.argv[3]).write_text(json.dumps(found))
"""


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """What torchvision and timm gave, by target and case."""
    beside = Path(sys.prefix) / "torchvision"
    command, environment = [sys.executable], dict(os.environ)
    if importlib.util.find_spec("torchvision") is None:
        if not (beside / "torchvision").is_dir():
            pytest.skip("torchvision is not installed, and not beside the environment either")
        paths = [str(beside), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        command.append(str(SHIM))
    folder = tmp_path_factory.mktemp("elsewhere")
    wanted = {target: CARRIED[target] for target in ("torchvision", "timm")}
    if importlib.util.find_spec("transformers"):
        wanted["huggingface"] = CARRIED["huggingface"]
    for name in {name for names in wanted.values() for name in names}:
        CASES[name].save(folder / f"{name}.safetensors")
    (folder / "script.py").write_text(SCRIPT)
    command += [str(folder / "script.py"), str(folder), json.dumps(wanted), str(folder / "out")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out").read_text())


@pytest.mark.parametrize(
    ("target", "name"), [(t, n) for t in ("torchvision", "timm") for n in CARRIED[t]]
)
def test_torchvision_and_timm_are_within_their_bounds(elsewhere, target, name):
    found = elsewhere[f"{target}: {name}"]
    assert found["why"] == ""
    assert found["ulp"] <= found["bound"] < 7, found
    assert found["by"].startswith(target)
    assert found["value"] == ("Compose" if target == "torchvision" else "dict")


@pytest.mark.parametrize("name", CARRIED["huggingface"])
def test_hugging_face_is_within_its_bound_beside_torchvision_too(elsewhere, name):
    """There it computes by torchvision: other roundings, the larger bound of the two."""
    pytest.importorskip("transformers")
    found = elsewhere[f"huggingface: {name}"]
    assert found["why"] == ""
    assert found["ulp"] <= found["bound"]
    assert elsewhere["backend"] == "torchvision"


def test_torchvision_takes_pillow_pictures_and_arrays(elsewhere):
    assert elsewhere["picture"] <= 5.51
    assert elsewhere["same"]


def test_a_timm_model_from_the_folder_feeds_itself_the_same(elsewhere):
    """`create_model` reads the file, our own document in it and all, and keeps its size."""
    assert elsewhere["model"] <= 4.51
    assert elsewhere["size"] == [3, 64, 64]


def test_a_torchvision_that_does_not_load_is_a_reason_and_no_error(monkeypatch):
    """Built for another PyTorch, its import raises RuntimeError."""

    class Broken:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    made = zm.export(CASES["standardize"], "torchvision")
    assert made.unverified == (
        "torchvision cannot be imported: operator torchvision::nms does not exist"
    )
    assert list(made.value) == ["mean", "std"]


# ---------------------------------------------------------------- here


def exported(target, name, **options):
    pytest.importorskip({"huggingface": "transformers"}.get(target, target))
    return zm.export(CASES[name], target, **options)


@pytest.mark.parametrize(
    ("target", "name"), [(t, n) for t in ("huggingface", "albumentations") for n in CARRIED[t]]
)
def test_targets_are_within_their_bounds(target, name):
    made = exported(target, name)
    assert made.verification is not None, made.unverified
    assert made.verification.ok, made
    assert made.verification.bound < 9
    assert made.lost == ""


@pytest.mark.parametrize("target", ["huggingface", "albumentations"])
def test_wrong_numbers_are_found_out(target):
    """The check can fail: a scale that is off by a hundred-thousandth."""
    pytest.importorskip({"huggingface": "transformers"}.get(target, target))
    norm, kind = CASES["standardize"], targets.target_named(target)
    made = kind.make(replace(norm, scale=norm.scale * (1 + 1e-5)), targets.Order())
    x = probes(norm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ulp, _, _ = compare(norm, x, kind.run(made, x), "float32")
    assert ulp > made.bound


def test_channels_go_where_the_target_has_them():
    """BGR numbers in RGB order: the same map, entry by entry."""
    norm = CASES["BGR"]
    for target in TO_ONE:
        made = zm.export(norm, target, channels="RGB", verify=target == "albumentations")
        assert "RGB" in made.expects
        own = norm.shift[::-1] / 255
        numbers = json.dumps(made.value) if isinstance(made.value, dict) else made.text
        assert json.dumps(own.tolist()) in numbers or target == "torchvision"
        if made.verification is not None:
            assert made.verification.ok


def test_one_number_for_all_is_repeated_for_each():
    norm = CASES["one number"]
    made = exported("huggingface", "one number", channels="RGB")
    assert made.value["image_mean"] == [norm.shift / 255] * 3
    assert made.verification.ok


# ---------------------------------------------------------------- refused

REFUSED = [
    (
        "no range",
        TO_ONE,
        r"0..1 units, .* not known: measure with range=\(0, 1\) \(--range 0 1\) if that",
    ),
    (
        "range from -1",
        TO_ONE,
        r"0..1 units, and .* is RGB -1..1: measure it as it was before",
    ),
    ("BGR", TO_ONE[:3], "the numbers are for BGR, and .* feeds RGB: channels='RGB' puts them"),
    ("no order", TO_ONE[:3], "order of the measured channels is not recorded: say channels='RGB'"),
    ("four channels", ("timm", "huggingface"), "takes 1 or 3 channels, and .* has 4: measure the"),
    ("colors", ("timm", "huggingface", "albumentations"), "one mean and std .* export to torch"),
    ("whitening", ("timm", "huggingface", "albumentations"), "one mean and std .* export to"),
    ("colors", ("torchvision",), "mixes all values of a picture, .* export to torch or onnx"),
    ("fewer features", ("torchvision",), "leaves 4 of 18 features: export to torch or onnx, or"),
    ("large whitening", ("torchvision",), "257,049 numbers; .* export to onnx or torch"),
    ("mean image", TO_ONE, r"cannot hold a mean image: .* off by up to [\d.]+ gray levels"),
    ("one number", TO_ONE[:3], "has one for all, of how many is not known: say channels='RGB'"),
    ("columns", TO_ONE, "takes pictures with one mean and std .* measure with 'n h w c -> c'"),
    ("12 bits", ("torchvision",), r"divides uint16 by 65535, .* measure with range=\(0, 65535\)"),
    ("12 bits", ("timm",), "is not fed uint16; it takes uint8, float32: measure one of these"),
    ("float32 0..255", ("torchvision", "timm"), "takes floats to be 0..1 .* divide it by 255"),
]


@pytest.mark.parametrize(
    ("name", "target", "text"), [(n, t, text) for n, where, text in REFUSED for t in where]
)
def test_what_a_target_cannot_hold_is_refused_with_the_repair(name, target, text):
    with pytest.raises((zm.PatternError, zm.UnitError), match=text):
        zm.export(CASES[name], target)


@pytest.mark.parametrize("target", TO_ONE)
def test_a_mean_image_is_accepted_as_an_approximation(target):
    """The error is the largest distance of a pixel's numbers from those of its channel."""
    norm = CASES["mean image"]
    made = zm.export(norm, target, approximate=True, verify=target == "albumentations")
    assert 0 < made.approximation < 255
    assert any("off by up to" in line and "gray levels" in line for line in made.lines)
    x = np.array([0, 255], np.uint8)[:, None, None, None] + np.zeros((1, 5, 7, 3), np.uint8)
    mean = norm.shift.mean((0, 1))
    pooled = np.sqrt((norm.scale**2).mean((0, 1)) + norm.shift.var((0, 1)))
    here, there = (x - mean) / pooled, norm(x, dtype="float64")
    assert made.approximation == pytest.approx(np.abs((here - there) * norm.scale).max())


# ---------------------------------------------------------------- Hugging Face

CLIP = """{
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": true,
    "do_convert_rgb": true,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.0078,
    "who wrote it": "é",
    "size": {"shortest_edge": 224}
}"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def processed(folder, image, **options):
    from transformers import AutoImageProcessor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = AutoImageProcessor.from_pretrained(folder)
        return processor, processor(image, return_tensors="np", **options)["pixel_values"][0]


@pytest.mark.parametrize("name", ["standardize", "min_max, an offset", "gray"])
def test_the_processor_in_a_folder_gives_what_the_normalizer_gives(name, folder):
    """To the same tensor, but for the roundings of its float32 arithmetic: see the bound."""
    pytest.importorskip("transformers")
    from PIL import Image

    norm = CASES[name]
    made = zm.export(norm, "huggingface", folder / "preprocessor_config.json")
    image = pictures(1, 33, 21)[0] if norm.shift.size == 3 else pictures(1, 33, 21)[0, :, :, 0]
    _, y = processed(folder, Image.fromarray(image))
    _, from_array = processed(folder, image if image.ndim == 3 else image[..., None])
    np.testing.assert_array_equal(y, from_array)
    expected = norm(image)
    given = np.moveaxis(y, 0, -1) if image.ndim == 3 else y[0]
    assert given.dtype == expected.dtype == np.float32
    ulp, gray_levels, _ = compare(norm, image[None], given[None], "float32")
    assert ulp <= made.verification.bound
    assert gray_levels < 1e-4
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=2e-6)


def test_an_old_file_is_updated_in_place(folder):
    """Five fields change; every other stays, in its order, indented and escaped as before."""
    norm, path = CASES["standardize"], folder / "preprocessor_config.json"
    path.write_text(CLIP, encoding="utf-8")
    made = zm.export(norm, "huggingface", path, verify=False)
    old, new = json.loads(CLIP), json.loads(path.read_text(encoding="utf-8"))
    changed = {"image_mean", "image_std", "rescale_factor"}
    assert {k: v for k, v in old.items() if k not in changed} == {
        k: new[k] for k in old if k not in changed
    }
    assert list(new)[: len(old)] == list(old)
    assert set(new) - set(old) == {"do_rescale", "do_normalize", "zeromean"}
    assert (new["do_rescale"], new["do_normalize"], new["rescale_factor"]) == (True, True, 1 / 255)
    assert new["image_mean"] == (norm.shift / 255).tolist()
    assert "é" in path.read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8").startswith('{\n    "crop_size"')
    assert not path.read_text(encoding="utf-8").endswith("\n")
    notes = made.notes
    assert notes[0] == "rescale_factor was 0.0078 and is 1/255 now"
    assert notes[1].startswith("image_mean was [0.4815, 0.4578, 0.4082] and is [")
    assert [note.split()[0] for note in notes[2:]] == ["image_std"]
    again = path.read_bytes()
    assert zm.export(norm, "huggingface", path, verify=False).notes == ()
    assert path.read_bytes() == again


def test_an_updated_processor_still_resizes_and_is_verified_without(folder):
    pytest.importorskip("transformers")
    norm, path = CASES["standardize"], folder / "preprocessor_config.json"
    path.write_text(CLIP, encoding="utf-8")
    made = zm.export(norm, "huggingface", path)
    assert made.verification.ok
    processor, y = processed(folder, pictures(1, 40, 50)[0])
    assert y.shape == (3, 224, 224)
    assert type(processor).__name__.startswith("CLIPImageProcessor")
    _, plain = processed(
        folder, image := pictures(1, 9, 9)[0], do_resize=False, do_center_crop=False
    )
    np.testing.assert_allclose(np.moveaxis(plain, 0, -1), norm(image), rtol=1e-5, atol=2e-6)


def test_a_nested_processor_is_updated(folder):
    pytest.importorskip("transformers")
    norm, path = CASES["standardize"], folder / "processor_config.json"
    start = {"processor_class": "CLIPProcessor", "image_processor": json.loads(CLIP), "x": [1]}
    path.write_text(json.dumps(start))
    made = zm.export(norm, "huggingface", path)
    assert made.verification.ok
    new = json.loads(path.read_text())
    assert list(new) == list(start)
    assert new["image_processor"]["image_mean"] == (norm.shift / 255).tolist()
    assert zm.import_normalizer(path) == norm


def test_every_change_in_an_old_file_is_noted(folder):
    path = folder / "preprocessor_config.json"
    start = {"image_processor_type": "ViTImageProcessor", "do_normalize": False}
    start |= {"do_rescale": False, "image_mean": [1, 2, 3, 4], "image_std": [1, 1, 1, 1, 1]}
    path.write_text(json.dumps(start))
    notes = zm.export(CASES["standardize"], "huggingface", path, verify=False).notes
    assert notes[:2] == (
        "do_rescale was false and is true now",
        "do_normalize was false and is true now",
    )
    assert notes[2].startswith("image_mean was [1, 2, 3, 4] and is [0.")
    assert notes[3].startswith("image_std was [1, 1, 1, 1, ...] and is [0.")


def test_an_old_type_of_a_picture_processor_is_updated(folder):
    """As of transformers 4 before image processors had their own name."""
    path = folder / "preprocessor_config.json"
    path.write_text('{"feature_extractor_type": "ViTFeatureExtractor", "image_mean": [0.5]}')
    zm.export(CASES["standardize"], "huggingface", path, verify=False)
    assert zm.import_normalizer(path) == CASES["standardize"]


def test_a_long_foreign_reason_is_cut(monkeypatch):
    """To one line; what a library knows besides is of no interest."""
    target = targets.target_named("albumentations")

    def run(made, x):
        raise targets.CannotRun("\n" + ", ".join(f"kind{i}" for i in range(500)) + "\nmore")

    broken = replace(target, run=run)
    monkeypatch.setattr("zeromean.exporters.exporting.target_named", lambda name: broken)
    reason = zm.export(CASES["standardize"], "albumentations").unverified
    assert reason.startswith("kind0, kind1, ")
    assert reason.endswith("...")
    assert len(reason) <= 160


def test_what_would_normalize_once_more_is_switched_off(folder):
    pytest.importorskip("transformers")
    path = folder / "preprocessor_config.json"
    for start, names in (
        ({"image_processor_type": "EfficientNetImageProcessor"}, ["rescale_offset", "include_top"]),
        ({"image_processor_type": "VivitImageProcessor", "offset": True}, ["offset"]),
    ):
        path.write_text(json.dumps(start))
        made = zm.export(CASES["standardize"], "huggingface", path)
        assert made.verification is None or made.verification.ok
        assert [note.split()[0] for note in made.notes] == names
        assert not any(json.loads(path.read_text())[name] for name in names)


@pytest.mark.parametrize(
    ("start", "name", "text"),
    [
        ("[1]", "standardize", "config.json: is there .* a JSON list, and .* write to another"),
        ("{", "standardize", "config.json: is there already and is not JSON .* write to another"),
        ('{"a": 1}', "standardize", "no configuration of an image processor: write to"),
        (CLIP, "gray", "do_convert_rgb.*the normalizer has 1: measure RGB pictures"),
        (
            '{"image_processor_type": "MobileViTImageProcessor"}',
            "standardize",
            "MobileViTImageProcessor never normalizes .* put the normalization into the model",
        ),
        (
            '{"image_processor_type": "TvpImageProcessor", "do_flip_channel_order": true}',
            "standardize",
            "turns the channels round .* set it to false",
        ),
        (
            '{"feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 16000}',
            "standardize",
            "config.json: is there already, for WhisperFeatureExtractor, which takes no pictures",
        ),
        (
            '{"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": true, '
            '"feature_size": 1}',
            "standardize",
            "for Wav2Vec2FeatureExtractor, which takes no pictures",
        ),
        (
            '{"feature_extractor_type": "OfSomebodyFeatureExtractor"}',
            "standardize",
            "for OfSomebodyFeatureExtractor, which takes no pictures",
        ),
        (
            '{"image_processor_type": "NotAThing"}',
            "standardize",
            "names 'NotAThing', which is no image processor .* correct image_processor_type",
        ),
    ],
)
def test_files_that_cannot_be_updated_stay_as_they_are(start, name, text, folder):
    path = folder / "preprocessor_config.json"
    path.write_text(start, encoding="utf-8")
    with pytest.raises((zm.FormatError, zm.PatternError), match=text):
        zm.export(CASES[name], "huggingface", path)
    assert path.read_text(encoding="utf-8") == start


def test_a_processor_that_cannot_be_run_here_is_written_and_said_to_be_unverified(folder):
    pytest.importorskip("transformers")
    path = folder / "preprocessor_config.json"
    path.write_text('{"image_processor_type": "OfSomebodyImageProcessor", "size": {}}')
    made = zm.export(CASES["standardize"], "huggingface", path)
    assert made.verification is None
    assert "transformers cannot load it: it has no class OfSomebodyImage" in made.unverified
    path.write_text(
        '{"image_processor_type": "OfSomebody", "auto_map": {"AutoImageProcessor": "x"}}'
    )
    own = zm.export(CASES["standardize"], "huggingface", path)
    assert "(auto_map): make sure that it uses these numbers" in own.notes[0]
    assert "not run here" in own.unverified
    path.write_text('{"image_processor_type": "Siglip2ImageProcessor"}')
    assert (
        "it does more than normalize"
        in zm.export(CASES["standardize"], "huggingface", path).unverified
    )


# ---------------------------------------------------------------- and back

BACK = {
    "huggingface": (*CARRIED["huggingface"],),
    "timm": (*CARRIED["timm"],),
    "albumentations": (*CARRIED["albumentations"],),
}


@pytest.mark.parametrize(("target", "name"), [(t, n) for t, names in BACK.items() for n in names])
def test_import_gives_the_same_normalizer(target, name, folder):
    norm = CASES[name]
    path = folder / {"huggingface": "preprocessor_config.json"}.get(target, "config.json")
    zm.export(norm, target, path, verify=False)
    assert zm.import_normalizer(path) == norm


@pytest.mark.parametrize("target", ["huggingface", "timm"])
def test_import_gives_the_same_normalizer_in_another_order(target, folder):
    path = folder / "preprocessor_config.json"
    zm.export(CASES["BGR"], target, path, channels="RGB", verify=False)
    assert zm.import_normalizer(path) == CASES["BGR"]


def test_what_transformers_saves_again_still_holds_the_normalizer(folder):
    pytest.importorskip("transformers")
    norm = CASES["standardize"]
    zm.export(norm, "huggingface", folder / "preprocessor_config.json", verify=False)
    processor, _ = processed(folder, pictures(1)[0])
    (folder / "again").mkdir()
    processor.save_pretrained(folder / "again")
    assert zm.import_normalizer(folder / "again") == norm


def test_an_approximated_mean_image_comes_back_as_what_was_written(folder):
    path = folder / "preprocessor_config.json"
    zm.export(CASES["mean image"], "huggingface", path, approximate=True, verify=False)
    back = zm.import_normalizer(path)
    np.testing.assert_array_equal(back.shift, CASES["mean image"].shift.mean((0, 1)))


# ---------------------------------------------------------------- timm


def test_a_flat_timm_file_is_updated_and_keeps_to_fields_that_timm_knows(folder):
    path = folder / "config.json"
    start = {"architecture": "resnet18", "mean": [0.5], "crop_pct": 0.95, "input_size": [3, 9, 9]}
    path.write_text(json.dumps(start) + "\n")
    made = zm.export(CASES["standardize"], "timm", path, verify=False)
    new = json.loads(path.read_text())
    assert list(new) == ["architecture", "mean", "crop_pct", "input_size", "std"]
    assert new["mean"] == (CASES["standardize"].shift / 255).tolist()
    assert "no place for the normalizer's own document" in made.notes[0]
    assert path.read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("start", "error", "text"),
    [
        ({"model_type": "vit"}, zm.FormatError, "is no timm configuration .* another path"),
        (
            {"pretrained_cfg": {"input_size": [4, 224, 224]}},
            zm.PatternError,
            "takes 4 channels .* the normalizer has 3: measure the channels",
        ),
    ],
)
def test_timm_files_for_other_models_are_refused(start, error, text, folder):
    path = folder / "config.json"
    path.write_text(json.dumps(start))
    with pytest.raises(error, match=text):
        zm.export(CASES["standardize"], "timm", path, verify=False)
    assert json.loads(path.read_text()) == start


def test_timm_takes_four_channels_where_the_model_does(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({"pretrained_cfg": {"input_size": [4, 224, 224]}}))
    made = zm.export(CASES["four channels"], "timm", path, verify=False)
    assert len(made.value["mean"]) == 4
    assert made.value["input_size"] == [4, 224, 224]


# ---------------------------------------------------------------- Albumentations


def test_the_file_is_what_albumentations_writes_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        albumentations = pytest.importorskip("albumentations")
    norm, path = CASES["standardize"], tmp_path / "normalize.json"
    zm.export(norm, "albumentations", path)
    transform = albumentations.load(path)
    own = json.loads(json.dumps(albumentations.to_dict(transform)))
    written = json.loads(path.read_text())
    del written["zeromean"]
    assert own | {"__version__": "2.0.8"} == written
    image = pictures(1, 8, 9)[0]
    y = transform(image=image)["image"]
    assert y.dtype == np.float32
    assert compare(norm, image[None], y[None], "float32")[0] <= 6.51


def test_the_environment_is_as_it_was(monkeypatch):
    for value in (None, "0"):
        if value is None:
            monkeypatch.delenv("NO_ALBUMENTATIONS_UPDATE", raising=False)
        else:
            monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", value)
        exported("albumentations", "standardize")
        assert os.environ.get("NO_ALBUMENTATIONS_UPDATE") == value


# ---------------------------------------------------------------- old files


@pytest.mark.parametrize(
    "text", ['{\n\t"a": 1,\n\t"b": "é"\n}\n', '{"a": 1, "b": "\\u00e9"}', '{\n  "a": []\n}\n']
)
def test_a_file_that_nothing_changes_in_stays_byte_for_byte(text):
    assert written_like(json.loads(text), text.encode()) == text.encode()
