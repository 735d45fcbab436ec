"""Export to Keras, OpenVINO and OpenCV: run by each of them, beside the exact answers."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import zeromean as zm
from zeromean.exporters import targets
from zeromean.exporters.feeding import entering
from zeromean.exporters.keras import variance_of
from zeromean.exporters.probing import compare, probes
from zeromean.exporters.targets import Order

os.environ.setdefault("KERAS_BACKEND", "torch")  # as a user of Keras with PyTorch would
R = np.random.default_rng(3)
PICTURES = R.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
TABLE = R.normal(40, 3, (50, 4))


def library(name, *needs):
    """Skip where it is not installed."""
    return [pytest.importorskip(each, reason=f"{each} is not installed") for each in (name, *needs)]


def rgb(data=PICTURES, pattern="n h w c -> c", channels="RGB", recipe=zm.standardize):
    return recipe(zm.measure(data, pattern, channels=channels))


def first(x):
    """Channels first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def of(dtype, n_channels=3):
    kind = np.dtype(dtype).kind
    values = R.integers(0, 200, (6, 4, 5, n_channels)) if kind in "iu" else None
    return (values if values is not None else R.normal(5, 2, (6, 4, 5, n_channels))).astype(dtype)


def ranged(top):
    """Zero mean of floats from 0 to a top, or of who knows what."""
    data = (PICTURES / 255 * (top or 1)).astype(np.float32)
    limits = {} if top is None else {"range": (0, top)}
    return zm.zero_mean(zm.measure(data, "n h w c -> c", channels="RGB", **limits))


def is_right(made, bound):
    assert made.verification is not None, made.unverified
    assert made.verification.ok
    assert made.verification.bound == bound
    assert made.verification.n_values > 100


def run(target, made, x):
    return targets.target_named(target).run(made, x)


def scaled_by(target, norm, factor, **order):
    """What a target says with another scale than its own: the check must see it."""
    wrong = dataclasses.replace(norm, scale=norm.scale * factor)
    made = targets.target_named(target).make(wrong, Order(**order))
    x = probes(norm)
    return compare(norm, x, run(target, made, x), made.arithmetic)[0]


# ---------------------------------------------------------------- Keras


def keras_cases():
    yield "channels", rgb(), 3.5
    yield "channels first", rgb(first(PICTURES), "n c h w -> c"), 3.5
    yield "an offset", rgb(recipe=lambda p: zm.min_max(p, -1, 1)), 4.5
    yield "a mean image", rgb(pattern="n h w c -> h w c"), 3.5
    yield "one number", rgb(pattern="n h w c ->"), 3.5
    yield "gray", zm.zero_mean(zm.measure(PICTURES[..., 0], "n h w -> h w")), 3.5
    yield "columns", zm.standardize(zm.measure(TABLE)), 4.5
    yield "float32 columns", zm.max_abs(zm.measure(TABLE.astype(np.float32))), 3.5
    yield "frames", zm.standardize(zm.measure(PICTURES[..., 0], "n t f -> f")), 3.5
    yield "one axis", zm.standardize(zm.measure(TABLE[:, 0], "n ->")), 4.5
    yield "uint16", rgb(of(np.uint16)), 3.5
    yield "int32", rgb(of(np.int32)), 4.5
    yield "four channels", rgb(of(np.uint8, 4), channels="RGBA"), 3.5


KERAS = [pytest.param(norm, bound, id=name) for name, norm, bound in keras_cases()]


@pytest.mark.parametrize(("norm", "bound"), KERAS)
def test_keras_gives_the_exact_answer_within_the_bound(norm, bound):
    library("keras", "torch")
    is_right(zm.export(norm, "keras"), bound)


def wide(offset):
    """400 columns of all sizes and signs, far from zero and near, float32."""
    random = np.random.default_rng(11)
    sizes = 10.0 ** random.uniform(-5, 6, 400)
    data = sizes * random.normal(random.normal(0, 3, 400), 1, (50, 400))
    profile = zm.measure(data.astype(np.float32))
    return zm.min_max(profile, -1, 1) if offset else zm.standardize(profile)


@pytest.mark.parametrize("offset", [False, True])
def test_keras_keeps_its_bound_for_many_columns(offset):
    library("keras", "torch")
    is_right(zm.export(wide(offset), "keras"), 3.5 + offset)


@pytest.mark.parametrize("layout", ["hwc", "chw"])
@pytest.mark.parametrize("channels", ["", "RGB", "BGR"])
@pytest.mark.parametrize("pattern", ["n h w c -> c", "n c h w -> c h w", "n h w c ->"])
def test_keras_takes_any_layout_and_order(layout, channels, pattern):
    library("keras", "torch")
    norm = rgb(first(PICTURES) if " c h w ->" in pattern else PICTURES, pattern)
    made = zm.export(norm, "keras", layout=layout, channels=channels)
    is_right(made, 3.5)
    assert (channels or "RGB") in made.expects
    assert ("(n, c, h, w)" if layout == "chw" else "(n, h, w, c)") in made.expects


def test_the_keras_layer_works_in_a_model(tmp_path):
    """In front of other layers, saved and loaded, on pictures of any size."""
    keras, _ = library("keras", "torch")
    norm = rgb()
    layer = zm.export(norm, "keras", verify=False).value
    model = keras.Sequential([keras.Input((None, None, 3)), layer, keras.layers.ReLU()])
    y = model(PICTURES[:, :3]).detach().numpy()
    np.testing.assert_allclose(y, np.maximum(norm(PICTURES[:, :3]), 0), atol=1e-6)
    config = json.dumps(layer.get_config())
    again = keras.layers.Normalization.from_config(json.loads(config))
    np.testing.assert_array_equal(
        again(PICTURES).detach().numpy(), layer(PICTURES).detach().numpy()
    )


@pytest.mark.parametrize(("norm", "bound"), KERAS)
def test_keras_comes_back_by_import(norm, bound, tmp_path):
    """From the file, whose document Keras passes over, and from the layer."""
    made = zm.export(norm, "keras", tmp_path / "norm.keras", verify=False)
    assert zm.import_normalizer(tmp_path / "norm.keras") == norm
    if made.value is not None:
        assert zm.import_normalizer(made.value) == norm


def test_keras_files_are_plain_zip_archives():
    """Without Keras; the same content, the same bytes; a float64 mean with all its digits."""
    norm = rgb()
    content = zm.export(norm, "keras", verify=False).content
    assert content == zm.export(norm, "keras", verify=False).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        config = json.loads(archive.read("config.json"))["config"]["layers"][1]["config"]
    np.testing.assert_array_equal(config["mean"], norm.shift)
    np.testing.assert_array_equal(variance_of(norm.scale), config["variance"])


def large(offset=False):
    """A mean image of 4,107 numbers, more than stand in a configuration; the last one is odd."""
    x = R.integers(0, 256, (5, 37, 37, 3)).astype(np.uint8)
    profile = zm.measure(x, "n h w c -> h w c", channels="RGB")
    return zm.min_max(profile, -1, 1) if offset else zm.standardize(profile)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saves
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("layout", [None, "chw"])
def test_a_large_mean_image_goes_into_the_weights(offset, layout, tmp_path):
    """Where Keras has them after `adapt`, and not into lists that it walks through in minutes."""
    keras, _ = library("keras", "torch")
    norm, path = large(offset), tmp_path / "large.keras"
    made = zm.export(norm, "keras", path, layout=layout)
    is_right(made, 3.5 + offset)
    assert made.content == zm.export(norm, "keras", layout=layout, verify=False).content
    with zipfile.ZipFile(path) as archive:
        assert "model.weights.h5" in archive.namelist()
        config = json.loads(archive.read("config.json"))["config"]["layers"][1]["config"]
    assert config["mean"] is config["variance"] is None
    x = R.integers(0, 256, (2, 37, 37, 3)).astype(np.uint8)
    given = first(x) if layout else x
    expected = first(norm(x)) if layout else norm(x)
    layer = made.value
    saved = tmp_path / "model.keras"
    keras.Sequential([keras.Input(given.shape[1:]), layer, keras.layers.Identity()]).save(saved)
    for model in (keras.saving.load_model(path), layer, keras.saving.load_model(saved)):
        y = model(given).detach().numpy()
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-4)


def test_a_large_mean_image_comes_back_from_the_weights(tmp_path):
    """As float32 numbers where our own document is too long, and exactly where it is not."""
    pytest.importorskip("h5py")
    norm = large()
    made = zm.export(norm, "keras", tmp_path / "large.keras", verify=False)
    said = any("keep the normalizer's own file" in note for note in made.notes)
    back = zm.import_normalizer(tmp_path / "large.keras")
    if not said:
        assert back == norm
    np.testing.assert_array_equal(back.shift.astype(np.float32), norm.shift.astype(np.float32))
    np.testing.assert_array_equal(back.scale.astype(np.float32), norm.scale.astype(np.float32))
    assert str(back.pattern) == str(norm.pattern)
    more = zm.standardize(zm.measure(R.normal(size=(3, 20_000)).astype(np.float32)))
    notes = zm.export(more, "keras", verify=False).notes
    assert any("keep the normalizer's own file" in note for note in notes)


def test_without_h5py_a_large_mean_image_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"4,107 numbers .* pip install h5py, or export to onnx"):
        zm.export(large(), "keras", verify=False)


def test_the_root_of_the_variance_is_the_nearest_float32():
    """For 200 thousand scales of all sizes that are allowed, next to powers of two as well."""
    powers = 2.0 ** np.arange(-22, 63)
    near = np.concatenate([powers, np.nextafter(powers, 0), powers * (1 - 2.0**-25)])
    scale = np.concatenate([np.exp(R.uniform(np.log(1.1e-7), np.log(1.7e19), 200_000)), near])
    roots = np.sqrt(variance_of(scale).astype(np.float32))
    np.testing.assert_array_equal(roots, scale.astype(np.float32))
    plain = np.sqrt((scale * scale).astype(np.float32))
    assert (plain != scale.astype(np.float32)).mean() > 0.1, "the square alone would not do"


def test_keras_refuses_what_it_cannot_hold():
    mixed = zm.whiten(zm.measure(PICTURES, "n h w c -> c", covariance=True), "zca")
    with pytest.raises(
        zm.PatternError, match=r"whiten_zca mixes .*; export to onnx, torch or numpy"
    ):
        zm.export(mixed, "keras")
    for size in (1e-9, 1e25):
        with pytest.raises(zm.PatternError, match=re.escape("(1e-07 to 1.8e+19): bring the data")):
            zm.export(zm.standardize(zm.measure(TABLE * size)), "keras")
    with pytest.raises(zm.PatternError, match="cannot follow the pattern"):
        zm.export(zm.standardize(zm.measure(of(np.uint8, 4), "n h w (g c) -> g", g=2)), "keras")
    with pytest.raises(zm.UnitError, match="'XYZ' is no reordering of the measured channels 'RGB'"):
        zm.export(rgb(), "keras", channels="XYZ")
    with pytest.raises(zm.PatternError, match="layout='chw' is about pictures with channels"):
        zm.export(zm.standardize(zm.measure(TABLE)), "keras", layout="chw")


def test_the_check_of_keras_can_fail():
    library("keras", "torch")
    assert scaled_by("keras", rgb(), 1) <= 3.5 < scaled_by("keras", rgb(), 1 + 1e-6)


def test_no_backend_is_chosen_for_the_user(tmp_path):
    """Without TensorFlow and without KERAS_BACKEND: a file, no layer, and what to do."""
    library("keras")
    code = (
        "import os, numpy as np, zeromean as zm\n"
        "x = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)\n"
        "made = zm.export(zm.standardize(zm.measure(x, 'n h w c -> c')), 'keras')\n"
        "assert 'KERAS_BACKEND' not in os.environ\n"
        "print(len(made.content) > 500, made.value is None, made.unverified)\n"
    )
    kept = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    home = {"HOME": str(tmp_path), "KERAS_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=kept | home, capture_output=True)
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    if "True False" not in said:  # TensorFlow is installed
        assert "Keras looks for tensorflow, which is not installed" in said
        assert "KERAS_BACKEND=torch (or jax) before Python starts" in said


# ---------------------------------------------------------------- OpenVINO


def openvino_cases():
    yield "channels", rgb(), 5.5
    yield "channels first", rgb(first(PICTURES), "n c h w -> c"), 5.5
    yield "an offset", rgb(recipe=lambda p: zm.min_max(p, -1, 1)), 7.5
    yield "one number", rgb(pattern="n h w c ->"), 5.5
    yield "gray", zm.standardize(zm.measure(PICTURES[..., 0], "n h w ->")), 5.5
    yield "one channel", rgb(PICTURES[..., :1], channels=""), 5.5
    yield "two channels", rgb(of(np.uint8, 2), channels=""), 5.5
    yield "four channels", rgb(of(np.uint8, 4), channels="RGBA"), 5.5
    for dtype, bound in (("uint16", 5.5), ("int32", 6.5), ("float32", 5.5), ("float64", 6.5)):
        yield dtype, rgb(of(dtype)), bound


OPENVINO = [pytest.param(norm, bound, id=name) for name, norm, bound in openvino_cases()]


@pytest.mark.parametrize(("norm", "bound"), OPENVINO)
def test_openvino_gives_the_exact_answer_within_the_bound(norm, bound):
    library("openvino")
    made = zm.export(norm, "openvino")
    is_right(made, bound)
    assert made.verification.ulp < 3, "far below the bound in practice"


@pytest.mark.parametrize("layout", ["hwc", "chw"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("data", [PICTURES, first(PICTURES)])
def test_openvino_takes_any_layout_and_order(layout, channels, data):
    library("openvino")
    norm = rgb(data, "n h w c -> c" if data is PICTURES else "n c h w -> c")
    made = zm.export(norm, "openvino", layout=layout, channels=channels)
    is_right(made, 5.5)
    assert channels in made.expects
    assert f'Layout("{"NHWC" if layout == "hwc" else "NCHW"}")' in made.text


def test_openvino_computes_as_its_bound_supposes():
    """x r + b with r = 1 / scale and b = -mean r, bit for bit; joined where the CPU can."""
    library("openvino")
    for seed in range(10):
        random = np.random.default_rng(seed)
        data = random.integers(0, 256, (4, 4, 4, 3), dtype=np.uint8)
        norm = rgb(data)
        x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
        r = np.float32(1) / norm.scale.astype(np.float32)
        b = -norm.shift.astype(np.float32) * r
        joined = (x * r.astype(np.float64) + b.astype(np.float64)).astype(np.float32)
        apart = x.astype(np.float32) * r + b
        first_the_difference = (x - norm.shift.astype(np.float32)) * r
        y = run("openvino", targets.target_named("openvino").make(norm, Order()), x)
        assert any(np.array_equal(y, form) for form in (joined, apart, first_the_difference))


def test_openvino_stands_in_front_of_a_model():
    """A convolution that was made for NCHW and a fixed size, fed with raw pictures."""
    (openvino,) = library("openvino")
    from openvino import opset13

    weights = R.normal(size=(2, 3, 3, 3)).astype(np.float32)
    start = opset13.parameter([1, 3, 4, 5], openvino.Type.f32, name="x")
    end = opset13.convolution(start, opset13.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1])
    norm = rgb()
    core, hint = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    plain = core.compile_model(openvino.Model([end], [start], "m"), "CPU", hint)
    served = zm.export(norm, "openvino").value(openvino.Model([end], [start], "m"))
    assert served.input(0).element_type == openvino.Type.u8
    y = core.compile_model(served, "CPU", hint)(PICTURES[:1])[0]
    np.testing.assert_allclose(y, plain(norm(PICTURES[:1], layout="chw"))[0], rtol=1e-4, atol=1e-4)


def test_openvino_refuses_what_it_cannot_hold():
    with pytest.raises(
        zm.PatternError, match=r"whiten_zca mixes .*; export to torch, onnx or numpy"
    ):
        zm.export(
            zm.whiten(zm.measure(PICTURES, "n h w c -> c", covariance=True), "zca"), "openvino"
        )
    with pytest.raises(zm.UnitError, match=r"cannot hold a mean image: .* off by up to \d+ gray"):
        zm.export(rgb(pattern="n h w c -> h w c"), "openvino")
    made = zm.export(rgb(pattern="n h w c -> h w c"), "openvino", approximate=True)
    assert f"off by up to {made.approximation:.3g} in raw units" in made.text
    assert made.verification is None or made.verification.ok
    with pytest.raises(zm.PatternError, match="takes pictures"):
        zm.export(zm.standardize(zm.measure(TABLE)), "openvino")


def test_the_check_of_openvino_can_fail():
    library("openvino")
    assert scaled_by("openvino", rgb(), 1) <= 5.5 < scaled_by("openvino", rgb(), 1 + 2e-6)


def test_openvino_does_not_count_the_verification(tmp_path):
    """Importing it writes a client's number into the home directory; verifying does not."""
    library("openvino")
    code = (
        "import os, numpy as np, zeromean as zm\n"
        "x = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)\n"
        "made = zm.export(zm.standardize(zm.measure(x, 'n h w c -> c')), 'openvino')\n"
        "assert made.verification.ok\n"
        "print(os.environ.get('CI'), sorted(os.listdir(os.path.expanduser('~'))))\n"
    )
    kept = {k: v for k, v in os.environ.items() if k != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert said.startswith("None ")
    assert "intel" not in said.lower()


# ---------------------------------------------------------------- OpenCV


def one_scale_cases():
    yield "gray", zm.standardize(zm.measure(PICTURES[..., 0], "n h w ->")), 3.5
    yield "one channel", rgb(PICTURES[..., :1], channels=""), 3.5
    yield "one number", rgb(pattern="n h w c ->"), 3.5
    yield "an offset", rgb(pattern="n h w c ->", recipe=lambda p: zm.min_max(p, -1, 1)), 4.5
    yield "a mean each", rgb(recipe=zm.zero_mean), 3.5
    yield "a mean each, first", rgb(first(PICTURES), "n c h w -> c", recipe=zm.zero_mean), 3.5
    yield "uint16", rgb(of("uint16"), recipe=zm.zero_mean), 3.5
    yield "float64", rgb(of("float64"), recipe=zm.zero_mean), 4.5


def opencv_cases():
    yield from one_scale_cases()
    yield "channels", rgb(), 3.5
    yield "channels first", rgb(first(PICTURES), "n c h w -> c"), 3.5
    yield "measured as BGR", rgb(channels="BGR"), 3.5
    yield "alpha", rgb(of("uint8", 4), channels="RGBA"), 3.5
    yield "offsets", rgb(recipe=lambda p: zm.min_max(p, -1, 1)), 4.5
    yield "int32", rgb(of("int32")), 4.5


OPENCV = [pytest.param("opencv", n, b, id=f"opencv, {i}") for i, n, b in one_scale_cases()]
OPENCV += [pytest.param("opencv-params", n, b, id=f"params, {i}") for i, n, b in opencv_cases()]


@pytest.mark.parametrize(("target", "norm", "bound"), OPENCV)
def test_opencv_gives_the_exact_answer_within_the_bound(target, norm, bound):
    library("cv2")
    is_right(zm.export(norm, target), bound)


@pytest.mark.parametrize("target", ["opencv", "opencv-params"])
@pytest.mark.parametrize("measured", ["RGB", "BGR"])
@pytest.mark.parametrize("fed", ["", "RGB", "BGR"])
def test_opencv_exchanges_red_and_blue_where_it_must(target, measured, fed):
    """`cv2.imread` gives BGR; the blob is in the measured order. Told by an all red picture."""
    (cv2,) = library("cv2")
    recipe = zm.zero_mean if target == "opencv" else zm.standardize
    norm = rgb(channels=measured, recipe=recipe)
    made = zm.export(norm, target, channels=fed)
    assert made.verification.ok
    assert made.value["swapRB"] == ((fed or "BGR") != measured)
    assert (fed or "BGR") in made.expects
    assert measured in made.gives
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., (fed or "BGR").index("R")] = 255
    if target == "opencv":
        blob = cv2.dnn.blobFromImage(red, **made.value)
    else:
        blob = cv2.dnn.blobFromImageWithParams(red, cv2.dnn.Image2BlobParams(**made.value))
    ours = np.zeros((1, 2, 2, 3), np.uint8)
    ours[..., measured.index("R")] = 255
    np.testing.assert_allclose(
        blob, norm(first(ours).transpose(0, 2, 3, 1), layout="chw"), rtol=1e-6
    )


def test_opencv_code_resizes_and_reads_a_file(tmp_path):
    """As on the page: imread, blob_of with a size."""
    (cv2,) = library("cv2")
    path = str(tmp_path / "red.png")
    cv2.imwrite(path, np.full((9, 7, 3), (0, 0, 255), np.uint8))
    norm, scope = rgb(), {}
    exec(zm.export(norm, "opencv-params").text, scope)
    blob = scope["blob_of"](cv2.imread(path), (8, 4))
    assert blob.shape == (1, 3, 4, 8)
    pure = np.array([[[[255, 0, 0]]]], np.uint8)
    np.testing.assert_allclose(blob[0, :, 0, 0], norm(pure).ravel(), rtol=1e-6)


def reading(made):
    """The call of imread that a file names, and what it says of the result."""
    said = re.search(r"To read it: (.*)\.$", made.text, re.MULTILINE)
    assert made.notes == ((said[1],) if said else ())
    whole = said[1] if said else made.expects.rpartition("; ")[2]
    call, _, rest = whole.partition(" gives ")
    return call, rest


@pytest.mark.parametrize("target", ["opencv", "opencv-params"])
@pytest.mark.parametrize(
    ("stored", "norm", "says"),
    [
        ((np.uint8, 3), rgb(recipe=zm.zero_mean), "that"),
        ((np.uint8, 4), rgb(of("uint8", 4), channels="RGBA", recipe=zm.zero_mean), "that of "),
        ((np.uint16, 3), rgb(of("uint16"), recipe=zm.zero_mean), "that of files of 16 bits"),
        ((np.uint16, 4), rgb(of("uint16", 4), channels="RGBA", recipe=zm.zero_mean), "that of "),
        ((np.uint8, 3), ranged(1), "uint8 0..255: divide it by 255"),
        ((np.uint8, 3), ranged(255), "that, as uint8"),
        ((np.uint8, 3), ranged(None), "uint8 0..255: bring it to these units"),
    ],
)
def test_opencv_says_how_to_read_such_a_picture(target, stored, norm, says, tmp_path):
    """Run with OpenCV: what imread gives by that call has the dtype and the channels it says."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    dtype, n_channels = stored
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, n_channels)).astype(dtype)
    picture *= dtype(257 if dtype == np.uint16 else 1)
    assert cv2.imwrite(str(tmp_path / "file.png"), picture)
    call, rest = reading(zm.export(norm, target))
    assert rest.startswith(says)
    if "(" not in call:
        call += "(file)"
    read = eval(call, {"cv2": cv2, "file": str(tmp_path / "file.png")})
    np.testing.assert_array_equal(read, picture)
    assert (read.dtype == np.uint8) == (stored[0] == np.uint8)


def test_opencv_promises_no_imread_of_other_orders():
    made = zm.export(rgb(recipe=zm.zero_mean), "opencv", channels="RGB")
    assert "imread" not in made.text


def test_opencv_points_to_what_holds_whitening_and_tables():
    """The targets that its refusals name do carry them."""
    pytest.importorskip("torch")
    zca = zm.whiten(zm.measure(PICTURES, "n h w c -> c", covariance=True), "zca")
    table = zm.standardize(zm.measure(PICTURES.reshape(len(PICTURES), -1)[:, :5], "n d -> d"))
    for norm in (zca, table):
        with pytest.raises(zm.PatternError, match="export to onnx, torch or numpy") as refusal:
            zm.export(norm, "opencv-params")
        for name in re.findall(r"onnx|torch|numpy", str(refusal.value).rpartition("export to")[2]):
            assert zm.export(norm, name, verify=False).content


def test_one_scale_for_three_is_refused_with_its_error():
    norm = rgb()
    with pytest.raises(zm.UnitError, match="one scale for each channel") as caught:
        zm.export(norm, "opencv")
    assert "opencv-params" in str(caught.value)
    made = zm.export(norm, "opencv", approximate=True)
    told = float(re.search(r"off by up to ([\d.]+) gray levels", str(caught.value))[1])
    assert made.approximation == pytest.approx(told, rel=1e-2)
    assert f"off by up to {made.approximation:.3g} in raw units" in made.text
    x = probes(norm).astype(np.float64)
    value = made.value
    y = (x - np.array(value["mean"][:3])) * value["scalefactor"]
    errors = np.abs((y - (x - norm.shift) / norm.scale) * norm.scale)
    assert errors.max() == pytest.approx(made.approximation, rel=1e-12)
    library("cv2")
    assert made.verification.ok


@pytest.mark.parametrize("target", ["opencv", "opencv-params"])
@pytest.mark.parametrize(
    ("norm", "options", "error", "says"),
    [
        (lambda: rgb(channels=""), {}, zm.UnitError, "say channels='RGB' or channels='BGR'"),
        (lambda: rgb(), {"channels": "GRB"}, zm.UnitError, "say channels='RGB' or channels='BGR'"),
        (lambda: rgb(), {"channels": "XYZ"}, zm.UnitError, "the numbers are for RGB, so say"),
        (lambda: rgb(of("uint8", 5), channels=""), {}, zm.PatternError, "1 or 3 or 4 channels"),
        (
            lambda: rgb(pattern="n h w c -> h w c"),
            {},
            zm.UnitError,
            "a mean image: it has one number for each channel; it would be off by up to",
        ),
        (
            lambda: zm.whiten(zm.measure(PICTURES, "n h w c -> c", covariance=True), "zca"),
            {},
            zm.PatternError,
            "export to onnx, torch or numpy",
        ),
        (lambda: zm.standardize(zm.measure(TABLE)), {}, zm.PatternError, "takes pictures"),
        (
            lambda: zm.standardize(zm.measure(PICTURES[..., 0], "n h w ->")),
            {"channels": "RGB"},
            zm.PatternError,
            "has none",
        ),
        (lambda: rgb(), {"layout": "chw"}, zm.PatternError, "does nothing for OpenCV"),
    ],
)
def test_opencv_refuses_what_it_cannot_hold(target, norm, options, error, says):
    with pytest.raises(error, match=re.escape(says)):
        zm.export(norm(), target, **options)


@pytest.mark.parametrize("target", ["opencv", "opencv-params"])
def test_the_check_of_opencv_can_fail(target):
    library("cv2")
    norm = rgb(recipe=zm.zero_mean)
    assert scaled_by(target, norm, 1) <= 3.5 < scaled_by(target, norm, 1 + 1e-6)
    swapped = targets.target_named(target).make(norm, Order(channels="RGB"))
    x = probes(norm)
    as_bgr = dataclasses.replace(swapped, places=(2, 1, 0))
    assert compare(norm, x, run(target, as_bgr, x), "float32")[0] > 1000


def test_a_single_number_would_blacken_the_other_channels():
    """Why all four scales are written: the trap of `Image2BlobParams`."""
    (cv2,) = library("cv2")
    white = np.full((1, 1, 3), 255, np.uint8)
    lone = cv2.dnn.blobFromImageWithParams(white, cv2.dnn.Image2BlobParams(0.5))
    assert lone.ravel().tolist() == [127.5, 0, 0]
    made = zm.export(rgb(pattern="n h w c ->"), "opencv-params")
    assert len(set(made.value["scalefactor"])) == 1
    assert len(made.value["scalefactor"]) == 4


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    ("dtype", "range_", "expected"),
    [
        ("uint8", None, 0),
        ("uint16", None, 0),
        ("float16", None, 0),
        ("float32", None, 0),
        ("int32", None, 1),
        ("int32", (0, 4095), 0),
        ("int64", (-(2**24), 2**24), 0),
        ("uint32", (0, 2**24 + 1), 1),
        ("float64", (0, 1), 1),
    ],
)
def test_roundings_on_entering_are_counted(dtype, range_, expected):
    data = np.array([[0, 1], [1, 0]], dtype)
    assert entering(zm.zero_mean(zm.measure(data, "n d -> d", range=range_))) == expected


@pytest.mark.parametrize("target", ["keras", "openvino", "opencv", "opencv-params"])
def test_units_are_raw_and_said(target):
    """0..255 in, as measured: there is nothing to divide by first, and the text says so."""
    made = zm.export(rgb(recipe=zm.zero_mean), target, verify=False)
    assert "uint8 0..255" in made.expects
    if target != "keras":
        assert "Expects uint8 0..255" in made.text


@pytest.mark.parametrize("target", ["openvino", "opencv", "opencv-params"])
def test_without_the_library_the_file_is_still_written(target, monkeypatch):
    import builtins

    real = builtins.__import__

    def absent(name, *rest, **named):
        if name.partition(".")[0] in ("openvino", "cv2"):
            raise ImportError(name)
        return real(name, *rest, **named)

    norm = rgb(recipe=zm.zero_mean)
    expected = zm.export(norm, target, verify=False).content
    monkeypatch.setattr(builtins, "__import__", absent)
    made = zm.export(norm, target)
    assert made.content == expected
    assert "is not installed" in made.unverified
