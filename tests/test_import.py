"""Numbers of other systems, read as they write them and compared with what they make of data."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import zeromean as zm
from zeromean.cli_import import import_
from zeromean.importers import caffe
from zeromean.importers.importing import KINDS, import_normalizer

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is imported

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PICTURE = np.random.default_rng(7).integers(0, 256, (9, 8, 3), dtype=np.uint8)


def in_raw_units(values, unit):
    """What must come out: exact, rounded once."""
    return [float(Fraction(v) * unit) for v in values]


def written(folder, content, name="file.json"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def error_of(source, expected=ValueError, **options):
    """The sentence with which a source is refused."""
    with pytest.raises(expected) as caught:
        import_normalizer(source, **options)
    assert isinstance(caught.value, zm.ZeromeanError)
    return str(caught.value)


# ---------------------------------------------------------------- Hugging Face

VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "image_mean": MEAN,
    "image_processor_type": "ViTImageProcessor",
    "image_std": STD,
    "rescale_factor": 1 / 255,
}


def without(*names, **changes):
    return {k: v for k, v in (VIT | changes).items() if k not in names}


def test_hugging_face_numbers_become_raw_ones(tmp_path):
    norm = import_normalizer(written(tmp_path, VIT, "preprocessor_config.json"))
    assert norm.shift.tolist() == in_raw_units(MEAN, 255)
    assert norm.scale.tolist() == in_raw_units(STD, 255)
    assert norm.units == zm.provenance.Units((0, 255), "RGB")
    assert (norm.dtype, norm.recipe, str(norm.pattern)) == (
        "uint8",
        "standardize",
        "n h w c -> c",
    )
    assert import_normalizer(tmp_path) == norm, "a folder holds the file"
    assert import_normalizer(VIT) == norm, "so does a dictionary"


def test_a_nested_processor_comes_before_an_old_file_and_one_without_numbers_does_not(tmp_path):
    """As transformers has it: the nested configuration, if there is one."""
    written(tmp_path, VIT, "preprocessor_config.json")
    written(tmp_path, {"processor_class": "CLIPProcessor"}, "processor_config.json")
    assert import_normalizer(tmp_path) == import_normalizer(VIT)
    other = without(image_mean=[0.5] * 3)
    written(tmp_path, {"image_processor": other}, "processor_config.json")
    assert import_normalizer(tmp_path).shift.tolist() == [127.5] * 3


def test_a_scale_of_16_bit_pictures():
    norm = import_normalizer(without(rescale_factor=1 / 65535))
    assert (norm.dtype, norm.units.range) == ("uint16", (0, 65535))
    assert norm.scale.tolist() == in_raw_units(STD, 65535)


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        (without("rescale_factor"), {}, ["no rescale_factor", "range=(0, 255)"]),
        (without("do_rescale"), {}, ["fits several", "range=(0, 255)"]),
        (without(do_rescale=False), {}, ["do_rescale is false", "range=(0, 1)"]),
        (without(do_rescale=False), {"range": (0, 255)}, ["0.485", "0..255", "range=(0, 1)"]),
        (without(rescale_factor=1 / 256), {}, ["0.00390625", "fits several"]),
        (without(rescale_factor=0), {}, ["rescale_factor", "positive"]),
        (VIT, {"range": (0, 1)}, ["0..255", "0..1", "leave range out"]),
        (without(image_mean=[123.7, 116.3, 103.5]), {}, ["123.7", "0..1", "divide"]),
        (without(image_std=[58.4, 57.1, 57.4]), {}, ["std of 58.4", "0..1"]),
        (without(image_std=[0.2, 0.0, 0.2]), {}, ["image_std", "0 at place 1", "write 1"]),
        (without(image_std=[0.2, -0.1, 0.2]), {}, ["image_std", "-0.1"]),
        (without(image_std=[0.2, 0.2]), {}, ["3 numbers", "'image_std' 2"]),
        (without(image_mean=[0.4, math.nan, 0.4]), {}, ["nan at place 1", "zeromean measure"]),
        (without(image_mean="ImageNet"), {}, ["image_mean", "numbers"]),
        (without(image_mean=[[0.5], [0.5, 0.5]]), {}, ["image_mean", "numbers"]),
        (without(image_mean=[True] * 3), {}, ["image_mean", "numbers"]),
        (without(image_mean=[0.5] * 4, image_std=[0.5] * 4), {}, ["4 channels", "channels="]),
        (
            without(image_mean=[0.5] * 4, image_std=[0.5] * 4),
            {"channels": "RGB"},
            ["4 numbers", "'RGB' names 3"],
        ),
        (without("image_mean"), {}, ["no image_mean", "pass the object"]),
        (without("image_std"), {}, ["lacks the field 'image_std'"]),
        (without("do_normalize"), {}, ["does not say do_normalize", "true or false"]),
        (without(do_normalize=False), {}, ["do_normalize is false", "never uses"]),
        (without(do_flip_channel_order=True), {}, ["do_flip_channel_order", "BGR"]),
        (without(image_processor_type="VivitImageProcessor"), {}, ["does not say offset"]),
        (
            {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True},
            {},
            ["each recording by itself", "per_sample"],
        ),
        (VIT, {"pattern": "n h w c ->"}, ["shape (3,)", "n h w c ->"]),
        (VIT, {"dtype": "complex64"}, ["complex64"]),
        (without(rescale_factor=1 / 65535), {"dtype": "uint8"}, ["uint8", "65535"]),
        (VIT, {"key": "x"}, ["leave key"]),
        (VIT, {"norm_vars": True}, ["norm_vars", "Kaldi"]),
        (VIT, {"kind": "kaldi"}, ["JSON", "kaldi"]),
        (VIT, {"kind": "hf"}, ["'hf'", "huggingface"]),
    ],
)
def test_what_hugging_face_does_not_say_is_asked_for(config, options, words):
    text = error_of(config, **options)
    assert all(word in text for word in words), text


def test_nobody_can_say_another_order_than_that_in_which_a_system_feeds_pictures(tmp_path):
    text = error_of(VIT, channels="BGR")
    assert "feeds RGB" in text
    assert "turn the channels of your data round" in text
    path = written(tmp_path, blob_proto(), "mean.binaryproto")
    assert "feeds BGR" in error_of(path, channels="RGB")
    step = Normalize(MEAN, STD)  # torchvision decodes nothing here
    assert import_normalizer(step, range=(0, 255), channels="BGR").units.channels == "BGR"


def test_an_answer_is_taken():
    whole = import_normalizer(VIT)
    assert import_normalizer(without("rescale_factor"), range=(0, 255)) == whole
    assert import_normalizer(without("rescale_factor", "do_rescale"), range=(0, 255)) == whole
    assert import_normalizer(VIT, range=(0, 255.0)) == whole
    raw = import_normalizer(without(do_rescale=False), range=(0, 1))
    assert (raw.shift.tolist(), raw.dtype, raw.units.top) == (MEAN, "float32", 1)
    four = without(image_mean=[0.5] * 4, image_std=[0.5] * 4)
    assert import_normalizer(four, channels="RGBN").units.channels == "RGBN"
    assert import_normalizer(four, channels="").units.channels == ""
    first = import_normalizer(VIT, pattern="n c h w -> c", dtype="float32")
    assert (str(first.pattern), first.dtype) == ("n c h w -> c", "float32")


def test_one_number_for_all_channels():
    norm = import_normalizer(without(image_mean=0.5, image_std=0.25))
    assert (norm.kept_shape, float(norm.shift), float(norm.scale)) == ((), 127.5, 63.75)


PROCESSORS = [
    ("ViTImageProcessor", {}),
    ("CLIPImageProcessor", {}),
    ("ViTImageProcessor", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}),
    ("EfficientNetImageProcessor", {"include_top": False}),
    ("EfficientNetImageProcessor", {"include_top": True}),
    (
        "EfficientNetImageProcessor",
        {"include_top": True, "rescale_offset": True, "rescale_factor": 1 / 127.5},
    ),
]


@pytest.mark.parametrize(("name", "options"), PROCESSORS)
def test_a_saved_processor_makes_the_same_of_a_picture(tmp_path, name, options):
    """Saved by transformers, read here, and compared with what the processor itself does."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    still = {"do_resize": False, "do_center_crop": False}
    processor = getattr(transformers, name)(**still, **options)
    processor.save_pretrained(tmp_path)
    norm = import_normalizer(tmp_path)
    assert import_normalizer(processor) == norm, "the object says the same as its file"
    theirs = np.asarray(processor(PICTURE, return_tensors="np")["pixel_values"])[0]
    ours = norm(PICTURE, layout="chw")
    assert np.abs(theirs - ours).max() <= 8 * 2**-24 * max(1, np.abs(ours).max())


def test_vivit_subtracts_one(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    try:
        processor = transformers.VivitImageProcessor(do_resize=False, do_center_crop=False)
    except ImportError as error:
        pytest.skip(str(error))
    processor.save_pretrained(tmp_path)
    norm = import_normalizer(tmp_path)
    theirs = np.asarray(processor([PICTURE], return_tensors="np")["pixel_values"])[0, 0]
    assert np.abs(theirs - norm(PICTURE, layout="chw")).max() < 2e-6


@pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")
def test_audio_spectrograms_are_divided_by_two_stds(tmp_path):
    """The trap in `ASTFeatureExtractor.normalize`."""
    config = {"feature_extractor_type": "ASTFeatureExtractor", "do_normalize": True}
    norm = import_normalizer(config | {"mean": -4.5, "std": 2.25})
    assert (float(norm.shift), float(norm.scale)) == (-4.5, 4.5)
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    extractor = transformers.ASTFeatureExtractor()
    extractor.save_pretrained(tmp_path)
    frames = np.random.default_rng(0).normal(-4, 4, (5, 128)).astype(np.float32)
    theirs = extractor.normalize(frames)
    assert np.abs(import_normalizer(tmp_path)(frames) - theirs).max() < 1e-6
    assert import_normalizer(extractor) == import_normalizer(tmp_path)


# ---------------------------------------------------------------- timm, torchvision


def test_timm_numbers_are_for_0_to_1_data(tmp_path):
    inner = {"mean": MEAN, "std": STD, "input_size": [3, 224, 224]}
    norm = import_normalizer(inner)
    assert norm == import_normalizer(VIT)
    hub = {"architecture": "resnet50", "num_classes": 5, "pretrained_cfg": inner}
    assert import_normalizer(written(tmp_path, hub, "config.json").parent) == norm
    gray = {"mean": [0.5], "std": [0.25], "input_size": [1, 28, 28]}
    assert import_normalizer(gray).kept_shape == (1,)
    assert import_normalizer(gray | {"input_size": [3, 28, 28]}).kept_shape == ()
    assert import_normalizer(inner, range=(0, 65535)).dtype == "uint16"


def test_timm_says_imagenet_when_nobody_measured():
    """What `resolve_data_config` gives for four channels."""
    text = error_of({"mean": MEAN, "std": STD, "input_size": [4, 224, 224]})
    assert "4 channels" in text
    assert "3 numbers" in text


def test_range_of_0_to_1_numbers_begins_at_zero():
    inner = {"mean": MEAN, "std": STD, "input_size": [3, 224, 224]}
    assert "does not begin at 0" in error_of(inner, range=(-1, 1))


class Normalize:
    """As torchvision's, for where it is not installed: the importer looks at attributes only."""

    def __init__(self, mean, std):
        self.mean, self.std = mean, std


class ToTensor:
    pass


class ToDtype:
    def __init__(self, scale):
        self.scale = scale


class Lambda:
    pass


class Compose:
    def __init__(self, *transforms):
        self.transforms = list(transforms)


def test_what_stands_before_a_normalize_says_its_units():
    whole = import_normalizer(VIT)
    step = Normalize(MEAN, STD)
    assert "range=(0, 255)" in error_of(step)
    assert import_normalizer(step, range=(0, 255)) == whole
    assert import_normalizer(Compose(ToTensor(), step)) == whole
    assert import_normalizer(Compose(Compose(ToTensor()), step)) == whole
    scaled = Compose(ToDtype(True), step)
    assert "ToDtype" in error_of(scaled)
    assert import_normalizer(scaled, range=(0, 65535)).dtype == "uint16"
    raw = Compose(ToDtype(False), Normalize([123.0, 117.0, 104.0], [58.0, 57.0, 57.0]))
    assert import_normalizer(raw, range=(0, 255)).shift.tolist() == [123, 117, 104]
    assert "Lambda" in error_of(Compose(Lambda(), step))
    assert "2 normalizations" in error_of(Compose(step, step))
    assert "no Normalize" in error_of(Compose(ToTensor()))


TORCHVISION = Path(sys.prefix) / "torchvision"
WITH_TORCHVISION = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
library = torch.library.Library("torchvision", "DEF")  # beside a torch without CUDA
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import numpy as np
import timm
from timm.data import create_transform, resolve_data_config
from timm.models import PretrainedCfg
from PIL import Image
from torchvision import transforms as v1
from torchvision.models import ResNet50_Weights
from torchvision.models.video import R3D_18_Weights
from torchvision.transforms import v2
from zeromean.importers.importing import import_normalizer

x = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
image = Image.fromarray(x)

def same(transform, **options):
    ours = import_normalizer(transform, **options)(x, layout="chw")
    return float(np.abs(transform(image).numpy() - ours).max()) < 1e-6

mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
assert same(v1.Compose([v1.ToTensor(), v1.Normalize(mean, std)]))
to_float = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
assert same(v2.Compose([*to_float, v2.Normalize(mean, std)]), range=(0, 255))
raw = [v2.ToImage(), v2.ToDtype(torch.float32, scale=False), v2.Normalize([100.0] * 3, [50.0] * 3)]
assert same(v2.Compose(raw), range=(0, 255))
preset = ResNet50_Weights.DEFAULT.transforms(crop_size=224, resize_size=224)
assert same(preset)
assert import_normalizer(ResNet50_Weights.DEFAULT) == import_normalizer(preset)
video = import_normalizer(R3D_18_Weights.DEFAULT)
assert str(video.pattern) == "n t h w c -> c"

matrix = torch.tensor(np.random.default_rng(1).normal(size=(12, 12)))
center = torch.tensor(np.random.default_rng(2).uniform(size=12))
linear = v2.LinearTransformation(matrix, center)
y = linear(torch.tensor(x[:2, :2] / 255.0).permute(2, 0, 1)).numpy().ravel()
flat = x[:2, :2].transpose(2, 0, 1).reshape(1, 12)
assert np.abs(import_normalizer(linear, range=(0, 255))(flat, dtype="float64") - y).max() < 1e-12

model = timm.create_model("resnet18", pretrained=False)
config = resolve_data_config(model=model)
transform = create_transform(**config | {"crop_pct": 1.0})
ours = import_normalizer(config)
assert float(np.abs(transform(image).numpy() - ours(x, layout="chw")).max()) < 1e-6
assert import_normalizer(model) == ours == import_normalizer(PretrainedCfg())
assert import_normalizer(model.pretrained_cfg) == ours
print("same")
"""


@pytest.mark.skipif(not TORCHVISION.is_dir(), reason="needs torchvision in a folder of its own")
def test_torchvision_and_timm_make_the_same_of_a_picture():
    """In a process of its own: transformers takes a torchvision without its operators amiss."""
    command = [sys.executable, "-c", WITH_TORCHVISION, str(TORCHVISION)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr


def test_albumentations_multiplies_by_its_largest_value():
    albumentations = pytest.importorskip("albumentations", reason="needs albumentations")
    step = albumentations.Normalize(MEAN, STD)
    norm = import_normalizer(step)
    assert norm == import_normalizer(VIT)
    assert np.abs(step(image=PICTURE)["image"] - norm(PICTURE)).max() < 2e-6
    by_picture = albumentations.Normalize(MEAN, STD, normalization="image")
    assert "each picture by itself" in error_of(by_picture)


def saved_by_albumentations(*steps, kind="Compose", **more):
    """As `A.save` of albumentations 2.0.8 writes a container."""
    inner = [{"__class_fullname__": name, "p": 1.0, **fields} for name, fields in steps]
    transform = {"__class_fullname__": kind, "p": 1.0, "transforms": inner, "bbox_params": None}
    return {"__version__": "2.0.8", "transform": transform | more}


NORMALIZE = (
    "Normalize",
    {"mean": MEAN, "std": STD, "max_pixel_value": 255.0, "normalization": "standard"},
)
RESIZE = ("Resize", {"height": 8, "width": 8})


def test_albumentations_files_are_read_as_albumentations_reads_them(tmp_path):
    """A Normalize alone, and in containers; the same numbers as from the object that `A.load`s."""
    albumentations = pytest.importorskip("albumentations", reason="needs albumentations")
    steps = [albumentations.Resize(8, 8), albumentations.HorizontalFlip(p=0.5)]
    normalize = albumentations.Normalize(MEAN, STD, max_pixel_value=4095.0)
    inner = albumentations.Sequential([normalize], p=1.0)
    for i, transform in enumerate((normalize, albumentations.Compose([*steps, inner]))):
        path = tmp_path / f"{i}.json"
        albumentations.save(transform, path)
        norm = import_normalizer(path)
        assert norm == import_normalizer(transform) == import_normalizer(albumentations.load(path))
        assert norm == import_normalizer(path, "albumentations")
        assert norm.shift.tolist() == in_raw_units(MEAN, 4095)
        assert str(norm.units) == "RGB 0..4095"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (saved_by_albumentations(RESIZE), ["holds 0 Normalize", "(Resize)"]),
        (saved_by_albumentations(), ["holds 0 Normalize", "(nothing)"]),
        (saved_by_albumentations(NORMALIZE, NORMALIZE), ["holds 2 Normalize", "exactly one"]),
        (saved_by_albumentations(NORMALIZE, kind="OneOf"), ["left out at random", "set p to 1"]),
        (saved_by_albumentations(NORMALIZE, p=0.5), ["left out at random"]),
        (
            saved_by_albumentations((NORMALIZE[0], NORMALIZE[1] | {"p": 0.9})),
            ["left out at random"],
        ),
        (
            {"transform": {"__class_fullname__": "Normalize", **NORMALIZE[1]}},
            ["left out at random"],
        ),
        (
            saved_by_albumentations((NORMALIZE[0], NORMALIZE[1] | {"normalization": "image"})),
            ["normalization='image'", "zm.per_sample"],
        ),
        (saved_by_albumentations(("FromFloat", {}), NORMALIZE), ["FromFloat", "change the scale"]),
        (saved_by_albumentations(("ToFloat", {}), NORMALIZE), ["max_pixel_value=255 once more"]),
        (
            saved_by_albumentations(
                ("ToFloat", {"max_value": None}),
                (NORMALIZE[0], NORMALIZE[1] | {"max_pixel_value": 1}),
            ),
            ["ToFloat divides by the top of the dtype", "range=(0, 255)"],
        ),
        (saved_by_albumentations((NORMALIZE[0], {"std": STD})), ["lacks the field 'mean'"]),
    ],
)
def test_what_albumentations_files_cannot_hand_over(tmp_path, config, words):
    text = error_of(written(tmp_path, config))
    assert all(word in text for word in words), text


def test_what_stands_before_a_normalize_of_albumentations():
    one = (NORMALIZE[0], NORMALIZE[1] | {"max_pixel_value": 1.0})
    told = saved_by_albumentations(("ToFloat", {"max_value": 65535.0}), one)
    assert import_normalizer(told).scale.tolist() == in_raw_units(STD, 65535)
    open_ = saved_by_albumentations(("ToFloat", {"max_value": None}), one)
    assert import_normalizer(open_, range=(0, 255)) == import_normalizer(VIT)


@pytest.mark.parametrize(
    "config",
    [
        {"transform": {"mean": MEAN, "std": STD, "eps": 1e-5}},
        {"transform": {"mean": MEAN, "std": STD}, "version": 3},
        {"a": {"mean": 1.0, "std": 2.0}},
        {"type": "SwinTransformer", "mean": MEAN},
        {"feature_extractor": {"layers": 3}},
    ],
)
def test_a_mean_and_a_std_alone_make_no_known_kind(config):
    assert "none of the known kinds" in error_of(config)


# ---------------------------------------------------------------- Keras


@pytest.fixture(scope="module")
def keras():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras", reason="needs Keras and a backend")


def applied(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras and NumPy 2 about __array__
        y = model(x)
        return np.asarray(y.detach().cpu() if hasattr(y, "detach") else y)


def adapted(layer, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer.adapt(x)
    return layer


def saved(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


PICTURES = np.random.default_rng(3).integers(0, 256, (4, 5, 6, 3)).astype(np.float32)
KERAS_QUIET = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@KERAS_QUIET
@pytest.mark.parametrize(
    ("axis", "pattern"),
    [(-1, "n h w c -> c"), (None, "n h w c ->"), ((1, 2, 3), "n h w c -> h w c"), (1, "-> h")],
)
def test_a_layer_of_keras(keras, axis, pattern):
    layer = adapted(keras.layers.Normalization(axis=axis), PICTURES)
    norm = import_normalizer(layer)
    assert str(norm.pattern).endswith(pattern)
    assert np.abs(applied(layer, PICTURES) - norm(PICTURES)).max() < 1e-6


@KERAS_QUIET
def test_a_keras_file_is_read_without_keras(keras, tmp_path):
    """Weights of several layers of one class, nested models, Rescaling in front."""
    inputs = keras.Input((5, 6, 3))
    first = adapted(keras.layers.Normalization(name="first"), PICTURES / 255)
    flat = np.random.default_rng(4).normal(3, 2, (50, 90)).astype(np.float32)
    second = adapted(keras.layers.Normalization(name="second"), flat)
    hidden = keras.layers.Flatten()(first(keras.layers.Rescaling(1 / 255)(inputs)))
    path = saved(keras.Model(inputs, second(hidden)), tmp_path / "model.keras")
    front = keras.Sequential([keras.layers.Rescaling(1 / 255), first])
    norm = import_normalizer(path)
    assert str(norm.pattern) == "n h w c -> c"
    assert np.abs(applied(front, PICTURES) - norm(PICTURES)).max() < 2e-6
    behind = import_normalizer(path, key="second")
    assert np.abs(applied(second, flat) - behind(flat)).max() < 1e-6
    assert "first, second" in error_of(path, key="third")
    nested = keras.Sequential([keras.Input((5, 6, 3)), keras.Sequential([first])])
    norm = import_normalizer(saved(nested, tmp_path / "nested.keras"))
    assert np.abs(applied(first, PICTURES) - norm(PICTURES)).max() < 2e-6 * 255
    assert norm == import_normalizer(nested)


@KERAS_QUIET
def test_keras_divides_by_its_epsilon_at_least(keras):
    layer = keras.layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 0.0])
    assert import_normalizer(layer).scale.tolist() == [2, 1e-7]
    x = np.array([[3, 2], [5, 2 + 2**-20]], np.float32)
    assert np.allclose(applied(layer, x), import_normalizer(layer)(x), rtol=1e-6)


@KERAS_QUIET
def test_rescaling_layers(keras):
    layer = keras.layers.Rescaling(1 / 127.5, offset=-1)
    norm = import_normalizer(layer, range=(0, 255))
    assert (float(norm.shift), float(norm.scale)) == (127.5, 127.5)
    each = import_normalizer(keras.layers.Rescaling([1 / 255, 0.5]))
    assert each.scale.tolist() == [255, 2]


@KERAS_QUIET
def test_what_keras_does_not_hold_is_refused(keras, tmp_path):
    layers = keras.layers
    assert "invert" in error_of(layers.Normalization(mean=1.0, variance=1.0, invert=True))
    fresh = layers.Normalization()
    assert "adapt" in error_of(fresh)
    fresh.build((None, 3))
    assert "adapt" in error_of(fresh)
    late = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2), layers.Normalization(mean=1.0, variance=2.0)]
    )
    text = error_of(late)
    assert "begins with Dense" in text
    assert "key=" in text
    assert "holds no Normalization" in error_of(keras.Sequential([layers.Dense(2)]))
    torn = tmp_path / "torn.keras"
    torn.write_bytes(saved(late, tmp_path / "late.keras").read_bytes()[:-40])
    assert "damaged" in error_of(torn)


# ---------------------------------------------------------------- scikit-learn


def rows():
    return np.random.default_rng(5).normal([3, -40, 1e6], [2, 0.1, 30], (60, 3))


SCALERS = [
    ("StandardScaler", {}, "standardize"),
    ("StandardScaler", {"with_mean": False}, "standardize"),
    ("StandardScaler", {"with_std": False}, "zero_mean"),
    ("MinMaxScaler", {}, "min_max"),
    ("MinMaxScaler", {"feature_range": (-2, 3)}, "min_max"),
    ("MaxAbsScaler", {}, "max_abs"),
    ("RobustScaler", {}, "robust"),
    ("RobustScaler", {"with_centering": False, "unit_variance": True}, "robust"),
    ("RobustScaler", {"with_scaling": False}, "robust"),
]


@pytest.mark.parametrize(("name", "options", "recipe"), SCALERS)
def test_scalers_of_scikit_learn(name, options, recipe):
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs scikit-learn")
    x = rows()
    x[:, 0] = 5  # constant
    scaler = getattr(preprocessing, name)(**options).fit(x)
    norm = import_normalizer(scaler)
    assert norm.recipe == recipe
    assert norm.dtype == "float64"
    theirs, ours = scaler.transform(x), norm(x, dtype="float64")
    assert np.abs(theirs - ours).max() <= 1e-11 * max(1, np.abs(theirs).max()), "x is up to 1e6"


@pytest.mark.parametrize("whiten", [True, False])
def test_principal_components(whiten):
    decomposition = pytest.importorskip("sklearn.decomposition", reason="needs scikit-learn")
    x = rows()
    pca = decomposition.PCA(2, whiten=whiten).fit(x)
    norm = import_normalizer(pca)
    assert np.abs(pca.transform(x) - norm(x, dtype="float64")).max() < 1e-6 * x.max() / 30


def test_pipelines_and_feature_names():
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs scikit-learn")
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    from sklearn.pipeline import make_pipeline

    frame = pandas.DataFrame(rows(), columns=["a", "b", "c"])
    scaler = preprocessing.StandardScaler().fit(frame)
    assert import_normalizer(scaler).feature_names == ("a", "b", "c")
    steps = make_pipeline(preprocessing.StandardScaler(), preprocessing.MinMaxScaler())
    steps.set_output(transform="pandas").fit(frame)
    ours = import_normalizer(steps)(frame.to_numpy(), dtype="float64")
    assert np.abs(np.asarray(steps.transform(frame)) - ours).max() < 1e-9


def test_what_scikit_learn_scalers_do_besides_is_said():
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs scikit-learn")
    clipped = preprocessing.MinMaxScaler(clip=True).fit(rows())
    with pytest.warns(zm.ZeromeanWarning, match="clip=True is not carried"):
        import_normalizer(clipped)
    assert "not fitted" in error_of(preprocessing.StandardScaler())
    assert "no affine map" in error_of(preprocessing.PowerTransformer())
    assert "each row by itself" in error_of(preprocessing.Normalizer())


def test_our_own_estimators():
    estimators = pytest.importorskip("zeromean.sklearn", reason="needs scikit-learn")
    x = rows()
    scaler = estimators.StandardScaler().fit(x)
    norm = import_normalizer(scaler)
    assert norm.scale.tolist() == zm.standardize(zm.measure(x)).scale.tolist()


def test_a_pickle_is_never_read(tmp_path):
    """Neither by its name nor under another one: it would run code."""

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    for name in ("scaler.pkl", "scaler.joblib", "scaler.dat"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Bomb()))
        text = error_of(path)
        assert "pickle" in text
        assert "pass the object" in text
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------- Caffe

MEAN_IMAGE = np.arange(24, dtype=np.float32).reshape(3, 2, 4) + np.float32(0.1)


def varint(value):
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def blob_proto(data=MEAN_IMAGE, *, packed=True, legacy=True, doubles=False):
    """By hand, after `caffe.proto`."""
    if legacy:
        dims = enumerate((1, *data.shape), 1)
        head = b"".join(varint(n << 3) + varint(size) for n, size in dims)
    else:
        inner = b"".join(varint(size) for size in data.shape)
        shape = varint(1 << 3 | 2) + varint(len(inner)) + inner
        head = varint(7 << 3 | 2) + varint(len(shape)) + shape
    kind, number, wire = ("<f8", 8, 1) if doubles else ("<f4", 5, 5)
    values = data.astype(kind)
    if packed:
        body = varint(number << 3 | 2) + varint(values.nbytes) + values.tobytes()
    else:
        body = b"".join(varint(number << 3 | wire) + v.tobytes() for v in values.ravel())
    return head + body


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("doubles", [True, False])
def test_the_mean_image_of_caffe(tmp_path, packed, legacy, doubles):
    content = blob_proto(packed=packed, legacy=legacy, doubles=doubles)
    norm = import_normalizer(written(tmp_path, content, "mean.binaryproto"))
    assert (norm.shift == MEAN_IMAGE).all()
    assert (norm.scale == 1).all()
    assert (norm.recipe, norm.units.channels, norm.units.range) == ("zero_mean", "BGR", (0, 255))
    assert str(norm.pattern) == "n c h w -> c h w"


def test_the_same_bytes_by_protobuf():
    """Google's own writer, of the same message."""
    pb = pytest.importorskip("google.protobuf.descriptor_pb2", reason="needs protobuf")
    from google.protobuf import descriptor_pool, message_factory

    file = pb.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    kinds = pb.FieldDescriptorProto
    shape = file.message_type.add(name="BlobShape")
    shape.field.add(name="dim", number=1, label=3, type=kinds.TYPE_INT64).options.packed = True
    message = file.message_type.add(name="BlobProto")
    for number, name in enumerate(("num", "channels", "height", "width"), 1):
        message.field.add(name=name, number=number, label=1, type=kinds.TYPE_INT32)
    message.field.add(name="data", number=5, label=3, type=kinds.TYPE_FLOAT).options.packed = True
    message.field.add(
        name="shape", number=7, label=1, type=kinds.TYPE_MESSAGE, type_name=".caffe.BlobShape"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    blob = message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.BlobProto"))
    old = blob(num=1, channels=3, height=2, width=4, data=MEAN_IMAGE.ravel().tolist())
    assert old.SerializeToString() == blob_proto()
    new = blob(data=MEAN_IMAGE.ravel().tolist())
    new.shape.dim.extend([1, 3, 2, 4])
    assert (caffe.blob(new.SerializeToString(), "x") == MEAN_IMAGE).all()


def test_a_mean_image_in_our_order_and_a_mean_pixel(tmp_path):
    path = written(tmp_path, blob_proto(), "mean.binaryproto")
    image = import_normalizer(path, pattern="n h w c -> h w c")
    assert (image.shift == MEAN_IMAGE.transpose(1, 2, 0)).all()
    pixel = import_normalizer(path, pattern="n h w c -> c", channels="BGR")
    exact = [sum(map(Fraction, part.ravel().tolist())) / 8 for part in MEAN_IMAGE]
    assert pixel.shift.tolist() == [float(v) for v in exact]
    assert "keeps others" in error_of(path, pattern="n d -> d")
    assert "'BG' names 2" in error_of(path, pattern="n h w c -> c", channels="BG")


@pytest.mark.parametrize("end", range(1, len(blob_proto()), 7))
def test_a_mean_image_that_is_cut_off(tmp_path, end):
    path = written(tmp_path, blob_proto()[:end], "mean.binaryproto")
    assert str(path) in error_of(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_blob_or_refused(content):
    with contextlib.suppress(zm.FormatError):
        assert caffe.blob(content, "x").ndim == 3


# ---------------------------------------------------------------- Kaldi, WeNet

FRAMES = np.random.default_rng(6).normal([0, 5, -80], [1, 2, 10], (40, 3))
STATISTICS = np.array([[*FRAMES.sum(0), 40], [*(FRAMES**2).sum(0), 0]])


def kaldi_matrix(matrix, kind="D"):
    """Of `kaldi-matrix.cc`, binary; the bytes are those that kaldiio 2.18 writes."""
    head = b"\0B" + kind.encode() + b"M \x04" + struct.pack("<i", len(matrix))
    body = matrix.astype("<f8" if kind == "D" else "<f4").tobytes()
    return head + b"\x04" + struct.pack("<i", matrix.shape[1]) + body


def kaldi_text(matrix):
    lines = [" ".join(map(repr, row)) for row in matrix.tolist()]
    return (" [\n  " + "\n  ".join(lines) + " ]\n").encode()


@pytest.mark.parametrize(
    "content",
    [
        kaldi_matrix(STATISTICS),
        b"global " + kaldi_matrix(STATISTICS),
        kaldi_text(STATISTICS),
        b"global " + kaldi_text(STATISTICS),
        kaldi_text(STATISTICS).replace(b"\n  ", b" ; ").replace(b"[ ;", b"["),
    ],
)
def test_statistics_of_kaldi(tmp_path, content):
    path = written(tmp_path, content, "cmvn.ark")
    norm = import_normalizer(path, norm_vars=True)
    count = Fraction(40)
    mean = [Fraction(v) / count for v in STATISTICS[0, :3]]
    variance = [Fraction(v) / count - m * m for v, m in zip(STATISTICS[1, :3], mean, strict=True)]
    assert norm.shift.tolist() == [float(m) for m in mean]
    assert all(
        abs(Fraction(s) ** 2 / v - 1) <= Fraction(1, 2**51)
        for s, v in zip(norm.scale.tolist(), variance, strict=True)
    )
    assert np.allclose(norm(FRAMES).std(axis=0), 1, rtol=1e-6)
    plain = import_normalizer(path, norm_vars=False)
    assert (plain.recipe, plain.scale.tolist()) == ("zero_mean", [1, 1, 1])
    assert "--norm-vars" in error_of(path)


def test_statistics_of_several_speakers(tmp_path):
    archive = b"".join(
        f"speaker-{i} ".encode() + kaldi_matrix(STATISTICS * i, "F" if i == 2 else "D")
        for i in (1, 2, 3)
    )
    path = written(tmp_path, archive, "cmvn.ark")
    assert "speaker-1, speaker-2, speaker-3" in error_of(path, norm_vars=True)
    assert "no 'speaker-4'" in error_of(path, norm_vars=True, key="speaker-4")
    third = import_normalizer(path, norm_vars=True, key="speaker-3")
    assert np.allclose(third.shift, FRAMES.mean(0))
    second = import_normalizer(path, norm_vars=True, key="speaker-2")
    assert (second.shift == (STATISTICS * 2).astype(np.float32)[0, :3].astype(float) / 80).all()


def test_kaldi_floors_the_variance(tmp_path):
    still = np.array([[40.0, 20.0, 10.0], [160.0, 100.0, 0.0]])
    path = written(tmp_path, kaldi_matrix(still), "cmvn")
    with pytest.warns(zm.ZeromeanWarning, match=r"1 feature\(s\) do not vary.*: 0"):
        norm = import_normalizer(path, norm_vars=True)
    assert norm.scale.tolist() == [1e-10, math.sqrt(6)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (kaldi_matrix(STATISTICS)[:-3], ["cut off"]),
        (kaldi_matrix(STATISTICS)[:9], ["cut off"]),
        (kaldi_matrix(STATISTICS[:1]), ["shape (1, 4)", "2 x (d + 1)"]),
        (kaldi_matrix(STATISTICS[::-1]), ["2 x (d + 1)"]),
        (b"\0BCM \x04", ["'CM'", "copy-matrix"]),
        (b"a [ 1 2 x ]", ["text where a matrix has numbers"]),
        (kaldi_matrix(STATISTICS * 0), ["0 frames"]),
    ],
)
def test_what_kaldi_does_not_write(tmp_path, content, words):
    text = error_of(written(tmp_path, content, "cmvn.ark"), norm_vars=True)
    assert all(word in text for word in words), text


def test_wenet_is_kaldi_in_json(tmp_path):
    sums, squares = STATISTICS[:, :3].tolist()
    config = {"mean_stat": sums, "var_stat": squares, "frame_num": 40}
    norm = import_normalizer(written(tmp_path, config, "global_cmvn"))
    path = written(tmp_path, kaldi_matrix(STATISTICS), "cmvn.ark")
    assert norm == import_normalizer(path, norm_vars=True)
    assert "lacks the field 'frame_num'" in error_of({"mean_stat": sums, "var_stat": squares})
    assert "3 sums and 2" in error_of(config | {"var_stat": squares[:2]})
    assert "NaN" in error_of(config | {"mean_stat": [math.nan] * 3})


# ---------------------------------------------------------------- LeRobot, nnU-Net, bridgescaler

STATS = {
    "observation.image": {
        "mean": [[[v]] for v in MEAN],
        "std": [[[v]] for v in STD],
        "min": [[[0.0]]] * 3,
        "max": [[[1.0]]] * 3,
        "count": [100],
    },
    "observation.state": {"mean": [1.0, 2.0], "std": [0.5, 0.0], "count": [100]},
}


def test_features_of_lerobot(tmp_path):
    folder = written(tmp_path, STATS, "meta/stats.json").parent.parent
    assert "observation.image, observation.state" in error_of(folder)
    image = import_normalizer(folder, key="observation.image")
    assert image.shift.tolist() == in_raw_units(MEAN, 255)
    eps = Fraction(1, 10**8)
    assert image.scale.tolist() == [float((Fraction(v) + eps) * 255) for v in STD]
    assert str(image.units) == "RGB 0..255"
    with pytest.warns(zm.ZeromeanWarning, match="do not vary"):
        state = import_normalizer(folder, key="observation.state")
    assert state.scale.tolist() == [0.50000001, 1e-8]
    assert (state.units.range, str(state.pattern)) == (None, "n d -> d")
    with pytest.warns(zm.ZeromeanWarning) as caught:
        import_normalizer(folder, key="observation.state")
    assert caught[0].filename == __file__, "a warning shows the line of the user's program"
    assert "holds no features with numbers" in error_of({"a": 1}, kind="lerobot")
    assert "no 'action'" in error_of(folder, key="action")
    wrong = {"action": {"mean": [1.0, 2.0], "std": [-1.0, 1.0]}}
    assert "no std may be negative" in error_of(wrong, kind="lerobot")


FINGERPRINT = {
    "foreground_intensity_properties_per_channel": {
        str(i): {
            "mean": -40.5 + i,
            "std": 60.25 if i else 0.0,
            "percentile_00_5": -300.0,
            "percentile_99_5": 200.0,
        }
        for i in range(11)
    },
    "spacings": [],
}


def test_the_fingerprint_of_nnunet(tmp_path):
    path = written(tmp_path, FINGERPRINT, "dataset_fingerprint.json")
    with pytest.warns(zm.ZeromeanWarning, match=r"clips the data to -300\.\.200"):
        norm = import_normalizer(path)
    assert norm.shift.tolist() == [-40.5 + i for i in range(11)], "channel 10 comes after 9"
    assert norm.scale.tolist() == [1e-8] + [60.25] * 10
    volume = np.random.default_rng(8).normal(size=(11, 2, 3, 4)).astype(np.float32)
    assert norm(volume).shape == volume.shape
    plans = FINGERPRINT | {
        "configurations": {"3d_fullres": {"normalization_schemes": ["ZScoreNormalization"]}}
    }
    text = error_of(plans)
    assert "ZScoreNormalization" in text
    assert "per_sample" in text
    lacking = {"foreground_intensity_properties_per_channel": {"0": {"mean": 1.0}}}
    assert "channel 0: lacks the field 'std'" in error_of(lacking)


def packed(values, dtype="<f8"):
    array = np.array(values, dtype)
    text = base64.b64encode(array.tobytes()).decode()
    return {"__numpy__": text, "dtype": dtype, "shape": list(array.shape)}


#: Written by bridgescaler 0.8.6: `print_scaler` of a DStandardScaler of a data frame, and of an
#: array with its channels first.
FRAME_SCALER = {
    "_fit": True,
    "channels_last": True,
    "is_array_": False,
    "mean_x_": {"__numpy__": "3t8IsqOUcUDTAwjlSIyEPw==", "dtype": "<f8", "shape": [2]},
    "n_": 50,
    "type": "DStandardScaler",
    "var_x_": {"__numpy__": "oZVKMQfBVEDPkfcxcA6xPg==", "dtype": "<f8", "shape": [2]},
    "x_columns_": ["t", "q"],
}
FIRST_SCALER = FRAME_SCALER | {
    "channels_last": False,
    "is_array_": True,
    "mean_x_": {"__numpy__": "pJasvNA+Mz4gxbK9", "dtype": "<f4", "shape": [3]},
    "var_x_": {"__numpy__": "0NaEP3ayKD8nMXo/", "dtype": "<f4", "shape": [3]},
    "x_columns_": packed([0, 1, 2], "<i8"),
}


def test_scalers_of_bridgescaler(tmp_path):
    norm = import_normalizer(written(tmp_path, FRAME_SCALER))
    assert norm.feature_names == ("t", "q")
    mean, variance = (
        np.frombuffer(base64.b64decode(FRAME_SCALER[name]["__numpy__"]), "<f8")
        for name in ("mean_x_", "var_x_")
    )
    assert (norm.shift == mean).all()
    assert (norm.scale == np.sqrt(variance)).all()
    first = import_normalizer(FIRST_SCALER)
    assert str(first.pattern) == "n c ... -> c"
    assert first(np.zeros((2, 3, 4, 5))).shape == (2, 3, 4, 5)
    tensor = import_normalizer(FRAME_SCALER | {"type": "DStandardScalerTensor"})
    assert tensor == norm


def test_other_scalers_of_bridgescaler(tmp_path):
    ends = {"type": "DMinMaxScaler", "min_x_": packed([1, 2]), "max_x_": packed([3, 6])}
    norm = import_normalizer(ends)
    assert (norm.shift.tolist(), norm.scale.tolist()) == ([1, 2], [2, 4])
    old = {"object": "ndarray", "dtype": "<f8", "shape": [2], "data": [1.0, 2.0]}
    deep = {"type": "DeepStandardScaler", "mean_": old, "sd_": packed([0.5, 4])}
    assert import_normalizer(deep).scale.tolist() == [0.5, 4]
    scaler = {"type": "StandardScaler", "with_mean": True, "with_std": True}
    scaler |= {"mean_": old, "scale_": old, "feature_names_in_": ["a", "b"]}
    assert import_normalizer(scaler).feature_names == ("a", "b")
    both = {"in": {"a": json.dumps(ends)}, "out": {"b": json.dumps(deep)}}
    assert "in/a, out/b" in error_of(written(tmp_path, both))
    assert import_normalizer(both, key="in/a") == norm


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "DQuantileScaler"}, ["no affine map"]),
        ({"var_x_": packed([1.0, 0.0])}, ["var_x_", "0 at place 1"]),
        ({"mean_x_": packed([math.nan, 1.0])}, ["mean_x_", "nan at place 0"]),
        ({"mean_x_": {"__numpy__": "!!", "dtype": "<f8", "shape": [1]}}, ["'mean_x_' is damaged"]),
        ({"mean_x_": {"__numpy__": "AAAA", "dtype": "|O", "shape": [1]}}, ["'mean_x_' is damaged"]),
        ({"mean_x_": None}, ["lacks the field 'mean_x_'"]),
    ],
)
def test_what_bridgescaler_cannot_hand_over(change, words):
    text = error_of(FRAME_SCALER | change)
    assert all(word in text for word in words), text


# ---------------------------------------------------------------- what is none of these


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.json", {"a": 1}, ["none of the known kinds", *KINDS]),
        ("x.json", b"{", ["not valid JSON"]),
        ("x.json", {"format": "zeromean/1"}, ["lacks the field 'kind'"]),
        ("x.json", b"[]", ["a JSON list", "image_mean"]),
        ("x.json", b" [1, 2]", ["a JSON list"]),
        ("x.json", b'"text"', ["a JSON text"]),
        ("x.json", b"hello", ["not valid JSON"]),
        ("x.json", b"", ["not valid JSON"]),
        ("x", b"[[1, 2], [3, 4]]", ["a JSON list"]),
        ("x.safetensors", b"", ["not a readable safetensors file"]),
        ("x.onnx", b"", ["zeromean check"]),
        ("x.npy", b"", ["zeromean measure"]),
        ("x.h5", b"", [".keras"]),
        ("x.pt", b"", ["checkpoint"]),
        ("x.scp", b"", [".ark"]),
        ("x", b"hello world", ["none of the known kinds"]),
        ("x.zip", b"PK\x03\x04", ["damaged .keras"]),
    ],
)
def test_other_files_are_refused_with_what_to_do(tmp_path, name, content, words):
    path = written(tmp_path, content, name)
    text = error_of(path)
    assert str(path) in text
    assert all(word in text for word in words), text


def test_nothing_there(tmp_path):
    assert "no such file" in error_of(tmp_path / "x.json", zm.SourceError)
    assert "holds none of" in error_of(tmp_path, zm.SourceError)
    written(tmp_path, {"model_type": "bert"}, "config.json")
    assert "none of the known kinds" in error_of(tmp_path)
    assert "no file, dictionary, or object" in error_of(object())
    assert "already" in error_of(import_normalizer(VIT))


# ---------------------------------------------------------------- there and back


def channel_norm():
    return zm.standardize(zm.measure(PICTURES_8, "n h w c -> c", channels="RGB"))


PICTURES_8 = np.random.default_rng(9).integers(0, 250, (3, 4, 5, 3), dtype=np.uint8)
PROFILES = {
    "pictures": lambda: zm.measure(PICTURES_8, "n h w c -> c", channels="RGB"),
    "channels first": lambda: zm.measure(
        PICTURES_8.transpose(0, 3, 1, 2), "n c h w -> c", channels="RGB"
    ),
    "blue first": lambda: zm.measure(PICTURES_8, "n h w c -> c", channels="BGR"),
    "gray": lambda: zm.measure(PICTURES_8[..., :1], "n h w c -> c"),
    "one number": lambda: zm.measure(PICTURES_8, "n h w c ->", channels="RGB"),
    "floats": lambda: zm.measure(
        (PICTURES_8 / 255).astype(np.float32), "n h w c -> c", channels="RGB", range=(0, 1)
    ),
    "12 bit": lambda: zm.measure(
        PICTURES_8 * np.uint16(16), "n h w c -> c", channels="RGB", range=(0, 4095)
    ),
    "mean image": lambda: zm.measure(PICTURES_8, "n h w c -> h w c", channels="RGB"),
    "table": lambda: zm.measure(rows()),
}
RECIPES = (
    *(zm.zero_mean, zm.standardize, zm.mean_normalize, zm.max_abs),
    lambda profile: zm.min_max(profile, -3, 10),
)
JOURNEYS = [
    ("huggingface", "preprocessor_config.json", "pictures"),
    ("huggingface", "preprocessor_config.json", "channels first"),
    ("huggingface", "preprocessor_config.json", "blue first"),
    ("huggingface", "preprocessor_config.json", "gray"),
    ("huggingface", "preprocessor_config.json", "one number"),
    ("huggingface", "preprocessor_config.json", "floats"),
    ("huggingface", "preprocessor_config.json", "12 bit"),
    ("timm", "config.json", "pictures"),
    ("timm", "config.json", "blue first"),
    ("timm", "config.json", "floats"),
    ("albumentations", "normalize.json", "pictures"),
    ("albumentations", "normalize.json", "channels first"),
    ("albumentations", "normalize.json", "gray"),
    ("albumentations", "normalize.json", "one number"),
    ("albumentations", "normalize.json", "12 bit"),
    ("keras", "norm.keras", "pictures"),
    ("keras", "norm.keras", "channels first"),
    ("keras", "norm.keras", "floats"),
    ("keras", "norm.keras", "mean image"),
    ("keras", "norm.keras", "table"),
    ("sklearn", "pipeline.json", "table"),
    ("sklearn", "pipeline.json", "mean image"),
]


@KERAS_QUIET
@pytest.mark.parametrize(("target", "name", "data"), JOURNEYS)
def test_what_we_exported_comes_back_to_the_last_bit(tmp_path, target, name, data):
    """No warning either: rounding to the units of the file is no edit."""
    for recipe in RECIPES:
        norm = recipe(PROFILES[data]())
        options = {"channels": "RGB"} if data == "blue first" else {}
        made = zm.export(norm, target, tmp_path / name, verify=False, **options)
        assert import_normalizer(tmp_path / name) == norm
        if target in ("keras", "sklearn") and made.value is not None:
            assert import_normalizer(made.value) == norm, "the object in Python says the same"
        (tmp_path / name).unlink()


def test_albumentations_files_of_ours_keep_the_order_that_they_were_measured_in(tmp_path):
    """Their plain numbers do not say it; read alone, they would be taken for RGB."""
    norm = zm.standardize(PROFILES["blue first"]())
    for channels in ("", "BGR", "RGB"):
        made = zm.export(
            norm, "albumentations", tmp_path / "a.json", channels=channels, verify=False
        )
        back = import_normalizer(tmp_path / "a.json")
        assert back == import_normalizer(made.value)
        assert back.units.channels == (channels or "BGR")
        turned = slice(None, None, -1 if channels == "RGB" else 1)
        assert back.shift.tolist() == norm.shift[turned].tolist()


def test_kaldi_says_what_is_wrong_before_it_asks(tmp_path):
    assert "shape (1, 2)" in error_of(written(tmp_path, b" [ 1 2 ]", "cmvn"))


@pytest.mark.parametrize("n_components", [None, 2])
def test_whitening_through_scikit_learn(tmp_path, n_components):
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    norm = zm.whiten(zm.measure(rows(), covariance=True), n_components=n_components)
    path = tmp_path / "pipeline.json"
    pipeline = zm.export(norm, "sklearn", path, verify=False).value
    assert import_normalizer(path) == norm == import_normalizer(pipeline)


def test_our_own_json_is_loaded(tmp_path):
    norm = channel_norm()
    norm.save(tmp_path / "norm.json")
    norm.save(tmp_path / "norm.safetensors")
    for name in ("norm.json", "norm.safetensors"):
        path = tmp_path / name
        assert import_normalizer(path) == norm == zm.load(path)
        assert import_normalizer(path, range=(0, 255), channels="RGB") == norm
        assert "leave channels out" in error_of(path, channels="BGR")
        assert "leave it out" in error_of(path, kind="huggingface")
        assert "leave key (--key) out" in error_of(path, key="a")
        done = CliRunner().invoke(import_, [str(path), "-o", str(tmp_path / "again.json")])
        assert done.exit_code == 0, done.output
        assert zm.load(tmp_path / "again.json") == norm


def test_our_own_profile_is_no_normalizer(tmp_path):
    profile = PROFILES["pictures"]()
    profile.save(tmp_path / "train.json")
    text = error_of(tmp_path / "train.json")
    assert "zm.standardize(zm.load(path))" in text
    assert "--method standardize" in text
    labels = [str(i % 2) for i in range(len(PICTURES_8))]
    zm.measure(PICTURES_8, "n h w c -> c", by=labels).save(tmp_path / "groups.json")
    assert "numbers by group" in error_of(tmp_path / "groups.json")


@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_without_our_document_the_plain_numbers_are_within_an_ulp(tmp_path, top):
    pictures = PICTURES_8.astype(np.uint16) * (top // 255)
    profile = zm.measure(pictures, "n h w c -> c", channels="RGB", range=(0, top))
    norm = zm.standardize(profile)
    path = tmp_path / "preprocessor_config.json"
    zm.export(norm, "huggingface", path, verify=False)
    config = json.loads(path.read_text())
    del config["zeromean"]
    plain = import_normalizer(config, range=(0, top))
    assert (plain.units, plain.pattern) == (norm.units, norm.pattern)
    for name in ("shift", "scale"):
        ours = getattr(norm, name)
        assert (np.abs(getattr(plain, name) - ours) <= np.spacing(ours)).all()


def test_an_edited_file_gives_what_it_says_now(tmp_path):
    path = tmp_path / "preprocessor_config.json"
    zm.export(channel_norm(), "huggingface", path, verify=False)
    config = json.loads(path.read_text())
    config["image_mean"] = [0.5, 0.5, 0.5]
    path.write_text(json.dumps(config))
    with pytest.warns(zm.ZeromeanWarning, match="edited since"):
        assert import_normalizer(path).shift.tolist() == [127.5] * 3
    config["zeromean"]["shift"][0] += 1
    path.write_text(json.dumps(config))
    with pytest.warns(zm.ZeromeanWarning, match="checksum"):
        assert import_normalizer(path).shift.tolist() == [127.5] * 3


def test_an_option_against_our_own_document_is_refused():
    from zeromean.embedding import KEY, embedded

    norm = import_normalizer(VIT)
    config = without("rescale_factor", "do_rescale", **{KEY: embedded(norm)})
    assert import_normalizer(config) == norm, "the range stands in the document"
    assert import_normalizer(config, range=(0, 255), channels="RGB", dtype="uint8") == norm
    assert "leave channels out" in error_of(config, channels="BGR")
    assert "leave pattern out" in error_of(config, pattern="n c h w -> c")


@given(
    st.lists(
        st.tuples(st.floats(0, 255, allow_subnormal=False), st.floats(1e-3, 255)),
        min_size=3,
        max_size=3,
    ),
    st.sampled_from([255, 65535]),
)
def test_rounding_on_the_way_is_no_edit(numbers, top):
    """Divided by the top and rounded, as in any 0..1 file: the very normalizer comes back."""
    from zeromean.embedding import KEY, embedded

    shift, scale = (np.array(values) for values in zip(*numbers, strict=True))
    norm = zm.Normalizer(
        pattern=zm.Pattern.parse("n h w c -> c"),
        kept_shape=(3,),
        shift=shift,
        scale=scale,
        dtype="uint8" if top == 255 else "uint16",
        units=zm.provenance.Units((0, top), "RGB"),
        recipe="standardize",
    )
    plain = {
        "image_mean": [float(Fraction(v) / top) for v in norm.shift.tolist()],
        "image_std": [float(Fraction(v) / top) for v in norm.scale.tolist()],
        "rescale_factor": 1 / top,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert import_normalizer(VIT | plain | {KEY: embedded(norm)}) == norm


@given(st.floats(1e-6, 1e6))
def test_the_float_next_to_a_fraction_means_the_fraction(value):
    from zeromean.importers.found import inverse

    assert float(1 / inverse(value, "x", "y")) == value


# ---------------------------------------------------------------- the command


def test_the_command(tmp_path):
    path = written(tmp_path, VIT, "preprocessor_config.json")
    done = CliRunner().invoke(import_, [str(path), "-o", str(tmp_path / "norm.json")])
    assert done.exit_code == 0, done.output
    assert "123.675" in done.output
    assert zm.load(tmp_path / "norm.json") == import_normalizer(VIT)
    as_json = CliRunner().invoke(import_, [str(path), "--json"])
    assert as_json.stdout == (tmp_path / "norm.json").read_text()


def test_options_of_the_command(tmp_path):
    path = written(tmp_path, without("rescale_factor", image_mean=[0.5] * 4, image_std=[0.5] * 4))
    options = ["--range", "0", "255", "--channels", "RGBN", "-p", "n c h w -> c", "--json"]
    done = CliRunner().invoke(import_, [str(path), *options, "--from", "huggingface"])
    assert json.loads(done.stdout)["pattern"] == "n c h w -> c"
    statistics = written(tmp_path, b"a " + kaldi_matrix(STATISTICS), "cmvn.ark")
    done = CliRunner().invoke(import_, [str(statistics), "--norm-vars", "--key", "a", "--json"])
    assert json.loads(done.stdout)["recipe"] == "standardize"
    asked = CliRunner().invoke(import_, [str(statistics)])
    assert isinstance(asked.exception, zm.UnitError)
