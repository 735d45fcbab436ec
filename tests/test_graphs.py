"""A normalizer as an ONNX graph gives what the exact rational says, within the stated bound."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import zeromean as zm
from zeromean.provenance import Units

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

from zeromean.graphs import metadata  # noqa: E402
from zeromean.graphs.building import build  # noqa: E402
from zeromean.graphs.splitting import plain_shift, split, ulp_bound  # noqa: E402

RECIPES = {
    "zero_mean": zm.zero_mean,
    "standardize": zm.standardize,
    "min_max": lambda p: zm.min_max(p, -1, 1),
    "odd ends": lambda p: zm.min_max(p, 0.1, 0.7),
    "robust": zm.robust,
}


def run(model, x):
    """What ONNX Runtime makes of x; the whole model is checked on the way."""
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def pictures(dtype=np.uint8, shape=(4, 5, 6, 3)):
    top = 2 if np.dtype(dtype) == bool else np.iinfo(dtype).max + 1
    return np.random.default_rng(5).integers(0, top, shape).astype(dtype)


def columns(shift, scale, offset=0.0, dtype="uint8"):
    """A normalizer of as many columns as there are shifts."""
    return zm.Normalizer(
        zm.Pattern.parse("n d -> d"),
        np.shape(shift),
        np.asarray(shift, np.float64),
        np.asarray(scale, np.float64),
        dtype,
        Units.of(dtype),
        "given",
        offset=np.float64(offset),
    )


def exact(norm, x):
    """The rational y for column data."""
    shift, scale, offset = (
        [Fraction(v) for v in np.broadcast_to(a, norm.kept_shape).tolist()]
        for a in (norm.shift, norm.scale, norm.offset)
    )
    return [
        [(Fraction(v) - a) / s + o for v, a, s, o in zip(row, shift, scale, offset, strict=True)]
        for row in x.tolist()
    ]


def ulps(y, truth):
    """The largest distance from the truth, in units in the last place of float32 there."""
    worst = 0.0
    for row, wanted in zip(y.tolist(), truth, strict=True):
        for value, true in zip(row, wanted, strict=True):
            if true == 0:
                assert value == 0
                continue
            exponent = max(math.frexp(float(true))[1], -125)
            worst = max(worst, float(abs(Fraction(value) - true) / Fraction(2) ** (exponent - 24)))
    return worst


SHIFTS = [0, 255, 127.5, 0.1, 99.92692, 254.99999, 128 + 2.0**-17, 128 + 2.0**-18, 128 - 1e-9]
SHIFTS += [128 + 2.0**-40, 3 + 2.0**-16 * 0.75, -1000.3, 300.7, 1e-7, 0.485 * 255, math.pi]
SCALES = [1, 255, 1 / 3, 95.10329, 64, 0.229 * 255, 1e-3, 1e6 / 7]


@pytest.mark.parametrize(("dtype", "arithmetic"), [("uint8", "float32"), ("uint8", "float64")])
def test_all_bytes_under_many_shifts_and_scales_within_the_bound(dtype, arithmetic):
    """Also where the mean lies next to a value, and the result is next to zero."""
    x = np.repeat(np.arange(256, dtype=dtype)[:, None], len(SHIFTS), 1)
    for scale in SCALES:
        for shift in np.array_split(SHIFTS, 2):  # one column's bound would hide another's
            norm = columns(shift, scale, dtype=dtype)
            y = run(build(norm, arithmetic=arithmetic), x[:, : len(shift)])
            bound = ulp_bound(norm, dtype, arithmetic)
            assert bound <= (3.5 if scale not in (1, 64, 255) else 2.5) + 1e-6
            assert ulps(y, exact(norm, x[:, : len(shift)])) <= bound


def test_random_shifts_and_scales_within_the_bound():
    random = np.random.default_rng(7)
    norm = columns(random.uniform(0, 255, 60), np.exp(random.uniform(-3, 6, 60)))
    x = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 60, 1)
    assert ulps(run(build(norm), x), exact(norm, x)) <= ulp_bound(norm, "uint8", "float32") < 2.51


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int8"])
def test_other_integers_within_the_bound(dtype):
    info = np.iinfo(dtype)
    random = np.random.default_rng(8)
    shift = np.array([info.min + 0.3, (info.min + info.max) / 2 + 1e-6, 77.123456789, 3])
    near = [v + d for v in np.rint(shift).astype(int) for d in (-1, 0, 1)]
    x = np.concatenate([random.integers(info.min, info.max + 1, 300), near, [info.min, info.max]])
    x = np.repeat(np.clip(x, info.min, info.max).astype(dtype)[:, None], 4, 1)
    for scale in (1.0, 123.456, 65535.0):
        norm = columns(shift, scale, dtype=dtype)
        assert ulps(run(build(norm), x), exact(norm, x)) <= ulp_bound(norm, dtype, "float32")


def test_a_shift_rounded_once_would_break_the_bound():
    """Why the shift is written in two parts: 128 + 2^-18 is 128 in float32."""
    norm = columns([128 + 2.0**-18], 1.0)
    x = np.array([[128]], np.uint8)
    naive = x.astype(np.float32) - norm.shift.astype(np.float32)
    assert naive.item() == 0.0 != float(exact(norm, x)[0][0])
    assert run(build(norm), x).item() == -(2.0**-18)


def test_the_first_difference_is_exact():
    """x - hi has 24 bits for every x."""
    for dtype, low, high in (("uint8", 0, 255), ("uint16", 0, 65535), ("int16", -32768, 32767)):
        x = np.arange(low, high + 1)
        for shift in (0.1, 99.92692, 254.99999, -70.3, 31337.123456, 0.0):
            hi, lo = split(np.array([shift]), np.zeros(1), dtype)
            difference = x.astype(np.float32) - hi
            assert (difference.astype(np.float64) == x - hi.astype(np.float64)).all()
            assert abs(float(hi[0]) + float(lo[0]) - shift) <= 2.0**-30 * max(1, abs(shift))


def test_offsets_go_into_the_shift_exactly():
    norm = columns([10.1, 250.3], [3.3, 7.7], 0.1)
    high, low = plain_shift(norm)
    for i in range(2):
        wanted = Fraction(norm.shift[i]) - Fraction(0.1) * Fraction(norm.scale[i])
        held = Fraction(high[i]) + Fraction(low[i])
        assert abs(held - wanted) <= abs(wanted) * Fraction(2) ** -104


def test_floats_obey_their_bound():
    """|error| <= 4 u |y| + 2 u² |shift| / scale, next to the shift as well."""
    shift, scale, u = 0.4853217, 0.2291, 2.0**-24
    random = np.random.default_rng(9)
    near = np.nextafter(np.float32(shift), np.array([0, 1], np.float32))
    x = np.concatenate([random.normal(0.5, 0.3, 500), near, [0, 1, shift]]).astype(np.float32)
    norm = columns([shift], scale, dtype="float32")
    y = run(build(norm), x[:, None])
    for value, (true,) in zip(y[:, 0].tolist(), exact(norm, x[:, None]), strict=True):
        allowed = (4 * u * abs(float(true)) + 2 * u * u * shift / scale) * (1 + 1e-6)
        assert abs(float(Fraction(value) - true)) <= allowed
    assert ulp_bound(norm, "float32", "float32") == math.inf


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        ("n h w c -> c", (4, 5, 6, 3)),
        ("n c h w -> c", (4, 3, 5, 6)),
        ("n h w c ->", (4, 5, 6, 3)),
        ("n h w c -> h w c", (4, 5, 6, 3)),
        ("n h w c -> c w", (4, 5, 6, 3)),
        ("n h w -> h w", (4, 5, 6)),
        ("n d -> d", (40, 7)),
        ("n t f -> f", (6, 5, 4)),
        ("... c -> c", (4, 5, 6, 3)),
        ("n ... -> ...", (4, 5, 6)),
        ("h w c -> c", (5, 6, 3)),
    ],
)
def test_every_pattern_gives_what_the_normalizer_gives(pattern, shape, recipe):
    x = pictures(shape=shape)
    norm = RECIPES[recipe](zm.measure(x, pattern))
    for arithmetic in ("float32", "float64"):
        model = build(norm, arithmetic=arithmetic, rank=x.ndim)
        y, truth = run(model, x), norm(x, dtype="float64")
        allowed = (ulp_bound(norm, "uint8", arithmetic) + 0.01) * np.spacing(np.abs(norm(x)))
        assert y.dtype == np.float32
        assert (np.abs(y - truth) <= allowed).all()
        by_the_book = onnx.reference.ReferenceEvaluator(model).run(None, {"raw": x})[0]
        assert (by_the_book == y).all()


def test_groups_of_known_length():
    pattern = zm.Pattern.parse("n h w (g c) -> g", g=3, c=2)
    x = pictures(shape=(3, 4, 5, 6))
    norm = zm.standardize(zm.measure(x, pattern))
    assert np.allclose(run(build(norm), x), norm(x), rtol=0, atol=1e-6)
    half_open = zm.standardize(zm.measure(x, zm.Pattern.parse("n h w (g c) -> g", g=3)))
    with pytest.raises(zm.PatternError, match=r"keeps part of the axis \(g c\).*c= given"):
        build(half_open)


@pytest.mark.parametrize("begin", ["nhwc", "nchw"])
@pytest.mark.parametrize("end", ["nhwc", "nchw"])
@pytest.mark.parametrize("pattern", ["n h w c -> c", "n c h w -> c", "n h w c -> h w c"])
def test_layouts(begin, end, pattern):
    hwc = pictures()
    moved = {"nhwc": hwc, "nchw": hwc.transpose(0, 3, 1, 2)}
    own = "nchw" if pattern.startswith("n c") else "nhwc"
    norm = zm.standardize(zm.measure(np.ascontiguousarray(moved[own]), pattern))
    model = build(norm, layout_in=begin, layout_out=end)
    y = run(model, np.ascontiguousarray(moved[begin]))
    wanted = norm(moved[own])
    wanted = wanted if own == "nhwc" else wanted.transpose(0, 2, 3, 1)
    wanted = wanted if end == "nhwc" else wanted.transpose(0, 3, 1, 2)
    assert np.abs(y - wanted).max() < 1e-6


def test_sizes_stay_open_and_named():
    norm = zm.standardize(zm.measure(pictures(), "n h w c -> c"))
    model = build(norm, layout_in="nhwc", layout_out="nchw")
    dims = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (model.graph.input[0], model.graph.output[0])
    ]
    assert dims == [["n", "h", "w", 3], ["n", 3, "h", "w"]]
    for shape in ((1, 2, 9, 3), (7, 8, 1, 3), (0, 4, 4, 3)):
        assert run(model, pictures(shape=shape)).shape == (shape[0], 3, *shape[1:3])


# ---------------------------------------------------------------- whitening


@pytest.mark.parametrize("arithmetic", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["zca", "pca"])
@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        ("n h w c -> c", (6, 5, 6, 3)),
        ("n c h w -> c", (6, 3, 5, 6)),
        ("n d -> d", (60, 5)),
        ("n h w c -> h w c", (90, 2, 3, 3)),
        ("n h w c -> c h", (30, 2, 3, 3)),
    ],
)
def test_whitening(pattern, shape, kind, arithmetic):
    x = pictures(shape=shape)
    norm = zm.whiten(zm.measure(x, pattern, covariance=True), kind)
    y, truth = run(build(norm, arithmetic=arithmetic), x), norm(x, dtype="float64")
    k = norm.shift.size
    scatter = np.abs(norm.matrix).sum(1).max() * 255
    allowed = (k + 3) * 2.0**-24 * scatter if arithmetic == "float32" else np.spacing(np.float32(8))
    assert y.shape == truth.shape
    assert np.abs(y - truth).max() <= allowed


@pytest.mark.parametrize("layout", [None, "nhwc", "nchw"])
@pytest.mark.parametrize("pattern", ["n h w c -> c", "n c h w -> c", "n h w c -> h w c"])
def test_whitening_to_fewer_features(pattern, layout):
    own = "nchw" if pattern.startswith("n c") else "nhwc"
    x = pictures(shape=(60, 3, 2, 2) if own == "nchw" else (60, 2, 2, 3))
    norm = zm.whiten(zm.measure(x, pattern, covariance=True), "pca", n_components=2)
    moved = {("nhwc", "nchw"): (0, 3, 1, 2), ("nchw", "nhwc"): (0, 2, 3, 1)}.get((own, layout))
    raw = x.transpose(moved) if moved else x
    model = build(norm, layout_in=layout)
    y, truth = run(model, np.ascontiguousarray(raw)), norm(x)
    if layout == "nchw" and truth.ndim == 4:
        truth = truth.transpose(0, 3, 1, 2)
    assert y.shape == truth.shape
    assert np.abs(y - truth).max() < 1e-5


# ---------------------------------------------------------------- dtypes, metadata, refusals


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_results(dtype):
    norm = zm.standardize(zm.measure(pictures(), "n h w c -> c"))
    model = build(norm, output_dtype=dtype)
    assert model.graph.output[0].type.tensor_type.elem_type == getattr(
        onnx.TensorProto, {"float64": "DOUBLE"}.get(dtype, dtype.upper())
    )
    if dtype == "bfloat16":
        return  # ONNX Runtime hands out no bfloat16 arrays
    y, truth = run(model, pictures()), norm(pictures(), dtype="float64")
    allowed = {"float16": 1, "float64": 4}[dtype] * np.spacing(np.abs(truth).astype(dtype))
    assert (np.abs(y - truth) <= allowed).all()


@pytest.mark.parametrize("dtype", ["bool", "int32", "float16", "float64"])
def test_other_raw_data(dtype):
    x = pictures(bool if dtype == "bool" else np.int8).astype(dtype)
    norm = zm.standardize(zm.measure(x, "n h w c -> c"))
    model = build(norm)
    wide = dtype in ("int32", "float64")
    assert [n.op_type for n in model.graph.node].count("Cast") == 1 + wide - (dtype == "float64")
    assert np.allclose(run(model, x), norm(x), rtol=1e-6, atol=1e-7)


def test_the_model_says_what_it_holds():
    norm = zm.standardize(zm.measure(pictures(), "n h w c -> c", channels="RGB"))
    model = build(norm, layout_in="nchw")
    read, placement = metadata.described(onnx.load_from_string(model.SerializeToString()))
    assert read == norm
    assert placement == {"how": "alone", "input": "raw", "dtype": "uint8", "layout": "nchw"}
    assert model.graph.input[0].doc_string == "raw uint8 (RGB 0..255), axes n c h w"
    assert "Gives float32: standardize of it, axes n c h w" in model.doc_string


def test_large_mean_images_are_described_in_full():
    x = pictures(shape=(3, 70, 70, 3))
    norm = zm.zero_mean(zm.measure(x, "n h w c -> h w c"))
    model = build(norm)
    assert metadata.described(model)[0] == norm
    entry = next(p for p in model.metadata_props if p.key == "zeromean.numbers.shift")
    entry.value = entry.value[:-8] + "AAAAAAA="
    with pytest.raises(zm.FormatError, match=r"metadata 'zeromean.normalizer'.*(checksum|damaged)"):
        metadata.described(model)


def test_the_same_normalizer_gives_the_same_bytes():
    norm = zm.standardize(zm.measure(pictures(), "n h w c -> c"))
    assert build(norm).SerializeToString(deterministic=True) == build(norm).SerializeToString(
        deterministic=True
    )


def test_refusals():
    norm = zm.standardize(zm.measure(pictures(), "n h w c -> c"))
    with pytest.raises(zm.PatternError, match="layout is 'hwc'; the choice is 'nhwc' or 'nchw'"):
        build(norm, layout_in="hwc")
    table = zm.standardize(zm.measure(pictures(shape=(9, 4)), "n d -> d"))
    with pytest.raises(zm.PatternError, match="layout 'nchw' is for pictures"):
        build(table, layout_in="nchw")
    with pytest.raises(zm.PatternError, match="give rank="):
        build(zm.zero_mean(zm.measure(pictures(), "... c -> c")))
    with pytest.raises(zm.PatternError, match="names 2 axes, but the tensor has 4"):
        build(table, rank=4)
    with pytest.raises(zm.PatternError, match="each sample has its own numbers"):
        build(replace(table, pattern=zm.Pattern.parse("d n -> d")))
    with pytest.raises(zm.PatternError, match="output_dtype is 'int8'; the choice is float32"):
        build(norm, output_dtype="int8")
    with pytest.raises(zm.PatternError, match="a graph needs numbers that are known beforehand"):
        build(zm.per_sample(zm.standardize, "n h w c -> n"))


def test_units_are_guarded():
    unit = zm.standardize(zm.measure(pictures() / 255, "n h w c -> c", range=(0, 1)))
    with pytest.raises(zm.UnitError, match="uint8 input cannot hold what was measured"):
        build(unit, input_dtype="uint8")
    unknown = zm.standardize(zm.measure(pictures() / 1.0, "n h w c -> c"))
    with pytest.raises(zm.UnitError, match="may be on another scale; measure with range="):
        build(unknown, input_dtype="uint8")
    deep = zm.standardize(zm.measure(pictures(np.uint16), "n h w c -> c"))
    with pytest.raises(zm.UnitError, match="uint16 from 0 to 65535"):
        build(deep, input_dtype="uint8")
    known = zm.standardize(zm.measure(pictures() / 1.0, "n h w c -> c", range=(0, 255)))
    assert run(build(known, input_dtype="uint8"), pictures()).dtype == np.float32


def test_numbers_beyond_float32():
    huge = columns([1e300], 1.0, dtype="float64")
    assert run(build(huge), np.array([[2e300]])).item() == np.inf  # cast at the end, not before
    with pytest.raises(zm.UnitError, match="too large for float32"):
        build(huge, arithmetic="float32")
    with pytest.raises(zm.UnitError, match=r"beyond float32.*arithmetic='float64'"):
        build(columns([0.0], 1e-60))
