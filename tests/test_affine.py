"""The affine map on arrays: every dtype, layout and engine gives the bits of the formula."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromean import affine
from zeromean.affine import compiled, plain, threads
from zeromean.affine.tasks import pieces
from zeromean.errors import PatternError

try:
    import ml_dtypes
except ImportError:
    BFLOAT16 = None
else:
    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

WHOLE = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
FLOAT = ["float16", "float32", "float64"]
needs_bfloat16 = pytest.mark.skipif(BFLOAT16 is None, reason="ml_dtypes is not installed")


@pytest.fixture(params=["compiled", "plain"])
def engine(request, monkeypatch):
    """Both engines, with blocks so small that tiny arrays have several."""
    small_blocks(monkeypatch)
    if request.param == "plain":
        monkeypatch.setattr(affine, "_kernels", lambda: None)
    return request.param


def small_blocks(monkeypatch):
    monkeypatch.setattr(affine, "_SMALL", 0)
    monkeypatch.setattr(affine, "_BLOCK", 150)
    monkeypatch.setattr(compiled, "_BLOCK", 200)
    monkeypatch.setattr(compiled, "_PIECE", 500)


# ---------------------------------------------------------------- independent formulations


def formula(x, shift, scale, offset):
    """Forward in float64, in one go."""
    with np.errstate(all="ignore"):
        quotient = np.divide(np.subtract(x.astype(np.float64), shift), scale)
        return np.where(np.equal(offset, 0), quotient, np.add(quotient, offset))


def nearest(value, fraction, lowest, top):
    """The nearest float with so many fraction bits, ties to even, by integers; sign apart.

    `lowest` is the exponent of the smallest normal number, `top` the one of the largest.
    """
    if value == 0:
        return Fraction(0)
    exponent = max(lowest, value.numerator.bit_length() - value.denominator.bit_length())
    while Fraction(2) ** exponent > value and exponent > lowest:
        exponent -= 1
    unit = Fraction(2) ** (exponent - fraction)
    rounded = round(value / unit) * unit  # Python rounds half to even
    return rounded if rounded < Fraction(2) ** (top + 1) else None  # None: infinity


def expected_in(values, dtype):
    """Float64 values rounded once to a dtype, where NumPy can; bfloat16 by fractions."""
    if dtype != BFLOAT16:
        with np.errstate(all="ignore"):
            return values.astype(dtype)
    rounded = np.array([brain(v) for v in values.ravel().tolist()]).reshape(values.shape)
    return rounded.astype(np.float32).astype(dtype)  # exact


def brain(v):
    if not np.isfinite(v):
        return v
    found = nearest(abs(Fraction(v)), 7, -126, 127)
    return float(np.copysign(np.inf if found is None else float(found), v))


def same(found, expected):
    """Bit for bit, but for which NaN a NaN is."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    found, expected = np.asarray(found, order="C"), np.asarray(expected, order="C")
    if found.dtype.kind in "iub":
        assert (found == expected).all()
        return
    nan = np.isnan(expected.astype(np.float64))
    assert (np.isnan(found.astype(np.float64)) == nan).all()
    bits = f"u{found.itemsize}"
    assert (found.view(bits)[~nan] == expected.view(bits)[~nan]).all()


def test_the_comparison_can_fail():
    zero = np.zeros(2, np.float32)
    same(zero, zero.copy())
    for other in (-zero, np.float32([0, 1e-45]), np.float32([np.nan, 0])):
        with pytest.raises(AssertionError):
            same(zero, other)


# ---------------------------------------------------------------- data


def make(rng, shape, dtype):
    """The whole range of an integer; floats with NaN, infinities and both zeros."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    x = rng.standard_normal(shape) * 3
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-7, -6e-5])
    places = rng.integers(0, x.size, min(x.size, len(special)))
    x.reshape(-1)[places] = special[: len(places)]
    return x.astype(dtype)


def make_numbers(rng, shape, offset=True):
    shift = np.round(rng.standard_normal(shape) * 40) / rng.choice([1, 3], shape)
    scale = rng.random(shape) * 50 + 0.1
    offsets = rng.integers(-1, 2, shape).astype(float) if offset else np.zeros(shape)
    return shift, scale, offsets


SHAPES = [
    ((60, 7), (1, 7)),  # columns
    ((60, 7), (1, 1)),  # one number
    ((9, 70), (9, 1)),  # per sample
    ((9, 70), (9, 70)),  # everything has its own
    ((3, 9, 11, 3), (1, 1, 1, 3)),  # channels
    ((3, 9, 11, 4), (1, 1, 1, 4)),
    ((3, 9, 11, 5), (1, 1, 1, 5)),
    ((3, 3, 19, 20), (1, 3, 1, 1)),  # planes
    ((4, 5, 6, 3), (1, 5, 6, 3)),  # pixels
    ((4, 5, 6, 3), (1, 5, 1, 3)),  # not side by side
    ((4, 5, 6, 3), (4, 1, 6, 1)),
    ((2, 17, 1030), (1, 17, 1)),  # long runs
    ((3, 600, 2), (1, 600, 1)),  # short ones
    ((40, 1, 17), (1, 1, 17)),
    ((700,), (1,)),
    ((1, 1), (1, 1)),
]


def arranged(rng, name, shape, dtype, out_dtype):
    """Data and result in some layout."""
    x, out = make(rng, shape, dtype), np.empty(shape, out_dtype)
    if name == "fortran x":
        return np.asfortranarray(x), out
    if name == "fortran":
        return np.asfortranarray(x), np.asfortranarray(out)
    if name == "planes" and len(shape) > 1:  # the last axis moves to the second place on the way
        moved = (*shape[:1], *shape[-1:], *shape[1:-1])
        return x, np.moveaxis(np.empty(moved, out_dtype), 1, -1)
    if name == "gaps":
        wide = np.empty(tuple(2 * n for n in shape), out_dtype)
        return x[..., ::-1], wide[tuple(slice(None, None, -2) for _ in shape)]
    if name == "backwards":
        return x[::-1], out[::-1]
    if name == "swapped" and np.dtype(dtype).kind != "V":
        x = x.astype(x.dtype.newbyteorder(">"))
        return x, np.empty(shape, np.dtype(out_dtype).newbyteorder(">"))
    return x, out


LAYOUTS = ["plain", "fortran x", "fortran", "planes", "gaps", "backwards", "swapped"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(engine, layout):
    """Each pattern-like spread in each layout."""
    rng = np.random.default_rng(5)
    for (shape, spread), dtype in itertools.product(SHAPES, ("uint8", "float32", "int64")):
        x, out = arranged(rng, layout, shape, dtype, "float32")
        numbers = make_numbers(rng, spread, offset=bool(rng.integers(2)))
        before = x.copy()
        affine.forward(x, *numbers, out)
        same(out.astype("float32"), formula(x, *numbers).astype("float32"))
        assert (x == before).all() or x.dtype.kind == "f"


@pytest.mark.parametrize("dtype", WHOLE + FLOAT + ["bfloat16"])
def test_dtypes(engine, dtype):
    """From each dtype to float32."""
    check_dtypes(dtype, "float32")


@pytest.mark.parametrize("out", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int32"])
def test_result_dtypes(engine, dtype, out):
    """From some to each of the others."""
    check_dtypes(dtype, out)


def check_dtypes(dtype, out_dtype):
    if "bfloat16" in (dtype, out_dtype) and BFLOAT16 is None:
        pytest.skip("ml_dtypes is not installed")
    dtype, out_dtype = (BFLOAT16 if d == "bfloat16" else np.dtype(d) for d in (dtype, out_dtype))
    rng = np.random.default_rng(6)
    for shape, spread in (
        ((60, 7), (1, 7)),
        ((2, 8, 9, 3), (1, 1, 1, 3)),
        ((2, 3, 530), (1, 3, 1)),
    ):
        x = make(rng, shape, dtype)
        numbers = make_numbers(rng, spread)
        for moved in (False, True):
            out = np.empty(shape, out_dtype)
            if moved and len(shape) == 4:
                out = np.moveaxis(np.empty((2, 3, 8, 9), out_dtype), 1, -1)
            affine.forward(x, *numbers, out)
            same(np.ascontiguousarray(out), expected_in(formula(x, *numbers), out_dtype))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("spread", [(1, 1), (1, 5)])
def test_large_arrays(dtype, spread):
    """With blocks, pieces and threads as they really are."""
    rng = np.random.default_rng(7)
    x, numbers = make(rng, (240_000, 5), dtype), make_numbers(rng, spread)
    expected = formula(x, *numbers).astype(np.float32)
    for data in (x, np.asfortranarray(x)):
        out = np.empty(x.shape, np.float32)
        affine.forward(data, *numbers, out)
        same(out, expected)
    if dtype == "float32":
        affine.forward(x, *numbers, x)
        same(x, expected)


@given(st.data())
def test_any_strides(data):
    """Steps, turns, transpositions and missing axes, of data and result apart; both ways."""
    rank = data.draw(st.integers(0, 4))
    shape = tuple(data.draw(st.lists(st.integers(0, 6), min_size=rank, max_size=rank)))
    kept = data.draw(st.lists(st.booleans(), min_size=rank, max_size=rank))
    spread = tuple(n if keep else 1 for n, keep in zip(shape, kept, strict=True))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = strided(data, rng, shape, np.dtype(data.draw(st.sampled_from(["uint8", "float32"]))))
    out = strided(data, rng, shape, np.dtype("float32"))
    numbers = make_numbers(rng, spread)
    workers = data.draw(st.sampled_from([None, 1, 3]))
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        patch.setattr(affine, "_BLOCK", 20)
        patch.setattr(compiled, "_BLOCK", 20)
        if data.draw(st.booleans()):
            patch.setattr(affine, "_kernels", lambda: None)
        affine.forward(x, *numbers, out, workers=workers)
        same(out.copy(), formula(x, *numbers).astype(np.float32))
        back = strided(data, rng, shape, np.dtype("uint8"))
        values = np.nan_to_num(x.astype(np.float32), posinf=9, neginf=-9)
        affine.backward(values, *numbers, back, workers=workers)
        same(back.copy(), inverse(values, *numbers, np.dtype("uint8")))


def strided(data, rng, shape, dtype):
    """An array whose axes lie in any order, with steps in either direction."""
    order = data.draw(st.permutations(range(len(shape))))
    steps = data.draw(
        st.lists(st.sampled_from([1, 1, 2, -1]), min_size=len(shape), max_size=len(shape))
    )
    memory = make(rng, tuple(shape[a] * abs(steps[a]) for a in order) or (), dtype)
    view = np.asarray(memory).transpose(np.argsort(order))
    index = tuple(slice(None, None, s) for s in steps)
    return view[(*index, ...)]


# ---------------------------------------------------------------- rounding


def corners(fraction, lowest, top):
    """Numbers at, just above and just below the midpoints of a 16-bit float."""
    values = [0.0, 5e-324, 2.0 ** (lowest - fraction - 1), 2.0 ** (lowest - fraction - 2)]
    for exponent in (lowest - fraction, lowest - 3, lowest - 1, lowest, -3, 0, 9, top):
        unit = 2.0 ** (max(exponent, lowest) - fraction)
        for k in (0, 1, 2, 3, 2**fraction - 2, 2**fraction - 1):
            middle = 2.0**exponent + (k + 0.5) * unit
            values += [2.0**exponent + k * unit, middle]
            values += [np.nextafter(middle, 0), np.nextafter(middle, np.inf)]
            values += [middle * (1 - 2.0**-30), middle * (1 + 2.0**-30)]
    values += [1e300, np.inf]
    return np.array([*values, *(-v for v in values), np.nan, -0.0])


def test_float16_is_rounded_once(engine):
    values = corners(10, -14, 15)
    expected = []
    for v in values.tolist():
        if np.isfinite(v):
            found = nearest(abs(Fraction(v)), 10, -14, 15)
            expected.append(np.copysign(np.inf if found is None else float(found), v))
        else:
            expected.append(v)
    out = np.empty(len(values), np.float16)
    affine.forward(values, np.zeros(1), np.ones(1), np.zeros(1), out)
    same(out, np.array(expected).astype(np.float16))


@needs_bfloat16
def test_bfloat16_is_rounded_once(engine):
    """Not through float32, as a plain cast does."""
    values = corners(7, -126, 127)
    out = np.empty(len(values), BFLOAT16)
    affine.forward(values, np.zeros(1), np.ones(1), np.zeros(1), out)
    expected = expected_in(values, BFLOAT16)
    same(out, expected)
    with np.errstate(all="ignore"):
        cast = values.astype(BFLOAT16)
    assert (cast.view("u2") != expected.view("u2")).any(), "the cast would do"


# ---------------------------------------------------------------- numbers


EXTREME = [5e-324, 1e-310, 1e-300, 1e-160, 1e-30, 1.0, 3.0, 1e30, 1e160, 1e300, 1.7e308]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_extreme_numbers(engine, dtype):
    """Overflow, underflow and subnormal scales, also where 1 / scale is infinite or 0."""
    rng = np.random.default_rng(8)
    shift, scale = (np.array(v) for v in zip(*itertools.product(EXTREME, EXTREME), strict=True))
    x = make(rng, (300, len(shift)), dtype)
    if dtype == "float64":
        x *= 10.0 ** rng.integers(-308, 308, x.shape)
    for numbers in ((shift, scale, 0 * shift), (-shift, scale, shift), (0 * shift, scale, -scale)):
        numbers = tuple(a[None] for a in numbers)
        out = np.empty(x.shape, np.float32)
        affine.forward(x, *numbers, out)
        same(out, expected_in(formula(x, *numbers), "float32"))
        out = np.empty(x.shape)
        affine.forward(x, *numbers, out)
        same(out, formula(x, *numbers))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "bool"])
def test_every_value_of_small_integers(monkeypatch, dtype):
    """Reciprocals, divisions and NumPy: the same bits, whichever is chosen."""
    small_blocks(monkeypatch)
    if dtype == "bool":
        codes = np.array([False, True])
    else:
        info = np.iinfo(dtype)
        codes = np.arange(info.min, info.max + 1).astype(dtype)
    rng = np.random.default_rng(9)
    x = np.repeat(codes, 12)[:, None] * np.ones(3, dtype)
    x = x.astype(dtype)
    quickly = set()
    remember = compiled._made

    def made(kernels, way, *rest):
        loops = remember(kernels, way, *rest)
        quickly.add(loops.rows is kernels.quick_rows)
        return loops

    monkeypatch.setattr(compiled, "_made", made)
    for numbers in [
        make_numbers(rng, (1, 3), offset=False),
        make_numbers(rng, (1, 3)),
        (np.full((1, 3), 3.0), np.full((1, 3), 49.0), np.full((1, 3), -1.0)),
        (np.full((1, 3), 0.1 + 0.2), np.full((1, 3), 5e-324), np.zeros((1, 3))),
    ]:
        out = np.empty(x.shape, np.float32)
        affine.forward(x, *numbers, out)
        same(out, expected_in(formula(x, *numbers), "float32"))
    assert quickly == {True, False} if dtype != "bool" else quickly


def test_an_offset_of_zero_is_not_added(engine):
    """-0.0 stays -0.0 beside a feature that has an offset, and one without all."""
    x = np.full((300, 2), -0.0, np.float32)
    for offset in ([0.0, 1.0], [0.0, 0.0]):
        out = np.empty_like(x)
        affine.forward(x, np.zeros((1, 2)), np.ones((1, 2)), np.array([offset]), out)
        assert np.signbit(out[:, 0]).all()
        assert (out == offset).all()


def test_numbers_of_different_shapes_spread(engine):
    x = np.arange(600.0).reshape(30, 20)
    shift, scale, offset = np.ones((1, 20)), np.full((1, 1), 2.0), np.ones((30, 1))
    out = np.empty_like(x)
    affine.forward(x, shift, scale, offset, out)
    same(out, (x - 1) / 2 + 1)


# ---------------------------------------------------------------- backward


def inverse(y, shift, scale, offset, dtype):
    """Backward by Python numbers for integers, by NumPy for floats."""
    with np.errstate(all="ignore"):
        values = np.add(np.multiply(np.subtract(y.astype(np.float64), offset), scale), shift)
        if dtype.kind not in "iub":
            return expected_in(values, dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    whole = []
    for v in values.ravel().tolist():
        if not np.isfinite(v):
            whole.append(high if v > 0 else low)
        else:
            whole.append(min(max(round(v) if dtype.kind != "b" else int(v >= 0.5), low), high))
    return np.array(whole, object).reshape(values.shape).astype(dtype)


@pytest.mark.parametrize("dtype", WHOLE + FLOAT)
def test_backward(engine, dtype):
    """Into every dtype, from float32 and float64, with and without an offset."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(11)
    large = 1.0 if dtype.kind not in "iu" else float(np.iinfo(dtype).max) / 200
    shapes = (((60, 7), (1, 7)), ((2, 3, 530), (1, 3, 1)), ((4, 5, 6, 3), (1, 5, 1, 3)))
    for (shape, spread), kind, offset in itertools.product(shapes, (4, 8), (False, True)):
        y = make(rng, shape, f"f{kind}")
        y = np.where(np.isnan(y), np.float32(0.5), y).astype(y.dtype)
        shift, scale, offsets = make_numbers(rng, spread, offset)
        numbers = shift, scale * large, offsets
        out = np.empty(shape, dtype)
        affine.backward(y, *numbers, out)
        same(out, inverse(y, *numbers, dtype))


@pytest.mark.parametrize("channels", [3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float16"])
def test_backward_from_planes_to_pixels(engine, dtype, channels):
    """What `layout="chw"` gave, back to pixels, in one go; with a rest after the whole tiles."""
    rng = np.random.default_rng(17)
    planes = rng.standard_normal((2, channels, 50, 61)).astype(np.float32)
    numbers = make_numbers(rng, (1, 1, 1, channels))
    y = np.moveaxis(planes, 1, -1)
    for part in (np.s_[:], np.s_[:1], np.s_[:, :, 1:]):
        out = np.empty(y[part].shape, dtype)
        affine.backward(y[part], *numbers, out)
        same(out, inverse(y[part], *numbers, np.dtype(dtype)))
    planes[1, 2, 49, 60] = np.nan
    if dtype == "uint8":
        with pytest.raises(PatternError, match="NaN cannot become uint8"):
            affine.backward(y, *numbers, np.empty(y.shape, dtype))


def test_numbers_that_repeat_differently(engine):
    """One shift for all rows, but a scale of each: no block may take those of another."""
    rng = np.random.default_rng(18)
    x = rng.standard_normal((40, 30)).astype(np.float32)[:, ::-1]
    shift, scale, offset = rng.random((1, 30)), rng.random((40, 1)) + 1, rng.random((40, 30))
    for numbers in ((shift, scale, offset), (scale, scale, shift), (shift, shift, scale)):
        out = np.empty(x.shape, np.float32)
        affine.forward(x, *numbers, out)
        same(out, formula(x, *numbers).astype(np.float32))


def test_ties_and_clipping(engine):
    y = np.array([-1e300, -1.0, -0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 1e300, np.inf, -np.inf] * 20)
    out = np.empty(len(y), np.uint8)
    affine.backward(y, np.zeros(1), np.ones(1), np.zeros(1), out)
    assert out[:11].tolist() == [0, 0, 0, 0, 2, 2, 254, 255, 255, 255, 0]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
@pytest.mark.parametrize("workers", [1, 3])
def test_nan_becomes_no_integer(engine, dtype, workers):
    for spread in ((1, 40), (60, 1)):
        y = np.zeros((60, 40), np.float32)
        y[41, 39] = np.nan
        numbers = np.zeros(spread), np.ones(spread), np.zeros(spread)
        with pytest.raises(PatternError, match=f"NaN cannot become {dtype}; give dtype='float32'"):
            affine.backward(y, *numbers, np.empty(y.shape, dtype), workers=workers)


@pytest.mark.parametrize("raw", ["uint8", "uint16"])
@pytest.mark.parametrize("between", ["float32", "float64"])
def test_round_trips_are_the_identity(engine, raw, between):
    """Every value, for scales from those of images to those of nothing much."""
    top = np.iinfo(raw).max
    x = np.arange(top + 1).astype(raw)[:, None]
    rng = np.random.default_rng(12)
    for _ in range(12 if raw == "uint8" else 3):
        shift = rng.random((1, 1)) * top
        scale = np.exp(rng.uniform(np.log(top / 1000), np.log(top), (1, 1)))
        offset = rng.choice([0.0, -1.0, 0.25], (1, 1))
        y, again = np.empty(x.shape, between), np.empty_like(x)
        affine.forward(x, shift, scale, offset, y)
        affine.backward(y, shift, scale, offset, again)
        assert (again == x).all()


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_in_place(engine, dtype, way):
    """As into other memory, for contiguous and other arrays."""
    rng = np.random.default_rng(13)
    spreads = (((60, 7), (1, 7)), ((2, 3, 530), (1, 3, 1)), ((4, 5, 6, 3), (1, 5, 1, 3)))
    for (shape, spread), view, offset in itertools.product(
        spreads, (np.s_[:], np.s_[::-1], np.s_[..., ::2]), (False, True)
    ):
        x = make(rng, shape, dtype)[view]
        spread = tuple(n if m > 1 else 1 for n, m in zip(x.shape, spread, strict=True))
        numbers = make_numbers(rng, spread, offset)
        apart = np.empty_like(x)
        getattr(affine, way)(x, *numbers, apart)
        getattr(affine, way)(x, *numbers, x)
        same(x.copy(), apart)


@pytest.mark.parametrize("view", [np.s_[1:], np.s_[:-1], np.s_[::-1]])
def test_memory_that_overlaps(engine, view):
    """As if the data had been copied before."""
    memory = np.arange(2001, dtype=np.float32)
    x = memory[:-1] if view == np.s_[1:] else memory[1:] if view == np.s_[:-1] else memory
    expected = (x.astype(np.float64) - 3) / 7
    affine.forward(x, np.full(1, 3.0), np.full(1, 7.0), np.zeros(1), memory[view])
    same(memory[view].copy(), expected.astype(np.float32))
    halves = np.arange(1000, dtype=np.float32)
    affine.forward(halves[::2], np.zeros(1), np.full(1, 2.0), np.zeros(1), halves[1::2])
    assert (halves[1::2] == halves[::2] / 2).all()


def test_bytes_of_the_result_may_be_those_of_the_data(engine):
    """float32 to uint8 in the same memory."""
    y = np.linspace(-1, 1, 999, dtype=np.float32)
    expected = np.rint(y.astype(np.float64) * 127.5 + 127.5).astype(np.uint8)
    out = y.view(np.uint8)[: len(y)]
    affine.backward(y, np.full(1, 127.5), np.full(1, 127.5), np.zeros(1), out)
    assert (out == expected).all()


def test_read_only_and_unaligned_data_and_maps(engine, tmp_path):
    numbers = np.array([[1.0, 2, 3]]), np.array([[4.0, 5, 6]]), np.zeros((1, 3))
    x = np.random.default_rng(3).random((200, 3), np.float32)
    expected = formula(x, *numbers).astype(np.float32)
    x.flags.writeable = False
    shifted = np.frombuffer(b"?" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape)
    for data in (x, shifted, mapped):
        out = np.empty(x.shape, np.float32)
        affine.forward(data, *numbers, out)
        same(out, expected)
    written = np.memmap(tmp_path / "y", np.float32, "w+", shape=x.shape)
    affine.forward(x, *numbers, written)
    same(np.asarray(written), expected)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), ()])
def test_empty_and_single(engine, shape):
    x, out = np.full(shape, 7, np.uint8), np.empty(shape, np.float32)
    numbers = np.full((1,) * len(shape), 3.0), np.full((1,) * len(shape), 2.0)
    affine.forward(x, *numbers, np.zeros((1,) * len(shape)), out)
    assert (out == 2).all()
    back = np.empty(shape, np.uint8)
    affine.backward(out, *numbers, np.zeros((1,) * len(shape)), back)
    assert (back == 7).all()


def test_nothing_as_large_as_the_array_is_allocated():
    """Neither for transposed data nor in place; traced by NumPy's own allocations."""
    import tracemalloc

    x = np.zeros((3000, 1000), np.float32)
    out = np.empty((1000, 3000), np.float32).T
    numbers = np.zeros((1, 1000)), np.ones((1, 1000)), np.zeros((1, 1000))
    affine.forward(x, *numbers, out)
    tracemalloc.start()
    affine.forward(x, *numbers, out)
    affine.forward(x, *numbers, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 4


# ---------------------------------------------------------------- refusals


def test_refusals():
    x, ones = np.zeros((4, 3)), np.ones((1, 3))
    with pytest.raises(PatternError, match=r"out has shape \(3, 4\)"):
        affine.forward(x, ones, ones, ones, np.empty((3, 4)))
    with pytest.raises(PatternError, match="cannot map from dtype complex128; use one of"):
        affine.forward(x.astype(complex), ones, ones, ones, x)
    with pytest.raises(PatternError, match="cannot map to dtype uint8; use one of float16"):
        affine.forward(x, ones, ones, ones, x.astype(np.uint8))
    with pytest.raises(PatternError, match=r"numbers of shape \(1, 2\) do not spread"):
        affine.forward(x, ones[:, :2], ones[:, :2], ones[:, :2], x)
    with pytest.raises(PatternError, match=r"numbers of shape \(3,\) do not spread"):
        affine.forward(x, ones[0], ones[0], ones[0], x)
    frozen = x.copy()
    frozen.flags.writeable = False
    with pytest.raises(PatternError, match="out is read-only"):
        affine.forward(x, ones, ones, ones, frozen)


# ---------------------------------------------------------------- engines and threads


@pytest.mark.parametrize("layout", ["plain", "fortran x", "planes"])
def test_workers_do_not_matter(engine, layout):
    rng = np.random.default_rng(21)
    x, out = arranged(rng, layout, (9, 30, 11, 3), "uint8", "float32")
    numbers = make_numbers(rng, (1, 1, 1, 3))
    results = []
    for workers in (1, 2, 5):
        out[...] = np.nan
        affine.forward(x, *numbers, out, workers=workers)
        results.append(out.copy())
    same(results[1], results[0])
    same(results[2], results[0])


def test_errors_of_threads_reach_the_caller():
    """And nothing more is begun."""
    begun = []

    def fail():
        begun.append(1)
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        threads.run(iter([fail] * 1000), 10**9, 3)
    assert len(begun) <= 3


def test_large_arrays_at_exit():
    """When no thread can be started any more."""
    code = """
import atexit, numpy as np
from zeromean import affine
x, one = np.ones((1000, 1000), np.float32), np.ones((1, 1))
atexit.register(lambda: print(affine.forward(x, one, one, 3 * one, x, workers=2), x.mean()))
affine.forward(x[:500], one, one, one, x[:500], workers=2)
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout == "None 3.0\n", ended.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_threads_after_a_fork():
    """The pool of the parent is of no use in the child."""
    code = """
import os, numpy as np
from zeromean import affine
x, one = np.ones((1000, 1000), np.float32), np.ones((1, 1))
out = np.empty_like(x)
affine.forward(x, one, one, one, out, workers=2)
child = os.fork()
if not child:
    affine.forward(x, one, one, 3 * one, out, workers=2)
    os._exit(0 if (out == 3).all() else 1)
print(os.waitpid(child, 0)[1])
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout == "0\n", ended.stderr


def test_slim_machines_get_the_same_bits():
    """Numba is not there at all, and small arrays do not even ask for it."""
    code = """
import sys, numpy as np
{}
from zeromean import affine
x = np.arange(90_000).reshape(3, 100, 100, 3).astype(np.uint8)
one = np.ones((1, 1, 1, 1))
out = np.empty((3, 3, 100, 100), np.float32)
affine.forward(x[:1, :9], 2 * one, 7 * one, one, np.empty((1, 9, 100, 3), np.float16))
assert "numba" not in sys.modules or sys.modules["numba"] is None
affine.forward(x, 2 * one, 7 * one, one, np.moveaxis(out, 1, -1))
print(hash(out.tobytes()), sys.modules.get("numba") is not None)
"""
    answers = []
    for first in ("", 'sys.modules["numba"] = None'):
        command = [sys.executable, "-c", code.format(first)]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, env=environment
        )
        assert ended.returncode == 0, ended.stderr
        answers.append(ended.stdout.split())
    assert answers[0][0] == answers[1][0]
    assert [answer[1] for answer in answers] == ["True", "False"]


@given(st.lists(st.integers(1, 9), max_size=4), st.integers(1, 60))
def test_pieces_cover_everything_once(shape, size):
    counts = np.zeros(tuple(shape), int)
    for index in pieces(counts.shape, size):
        block = counts[(*index, ...)]
        assert block.size <= size or block.size <= max(shape, default=1)
        assert block.flags.c_contiguous
        block += 1
    assert (counts == 1).all()


def test_the_plain_engine_needs_no_kernels(monkeypatch):
    """Small arrays do not ask for them."""
    monkeypatch.setattr(affine, "_kernels", lambda: pytest.fail("asked"))
    out = np.empty(3)
    affine.forward(np.arange(3.0), np.ones(1), np.ones(1), np.zeros(1), out)
    assert out.tolist() == [-1, 0, 1]
    assert plain.unless_zero(np.array([0.0, 2.0])).tolist() == [0.0, 2.0]
