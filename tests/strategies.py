"""Generators of measurable data, built by operations, and the exact truth about it.

A block is drawn as *format x temper x shape x layout*: numbers of one temper (huge, tiny,
equal, all bits random, ...) in one format, seen through one memory layout. All of it
follows from a few drawn integers, so examples stay small to print and always repeat.

The truth is computed here with Python integers and `fractions`, and shares no code with
the package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
DTYPES = ("bool", *INTEGERS, *FLOATS)
COUNTED = ("bool", "int8", "uint8", "int16", "uint16", "float16", "bfloat16")
ITEMIZED = COUNTED[:5]

INTEGER_TEMPERS = ("bits", "ends", "equal", "few")
FLOAT_TEMPERS = (
    "bits", "equal", "few", "zeros", "normal", "offset", "huge", "tiny", "denormal", "wide",
    "special", "cancel", "jump",
)  # fmt: skip


def numpy_dtype(name):
    """The dtype of a name; bfloat16 lives in ml_dtypes."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


# ---------------------------------------------------------------- numbers


def tempers(dtype):
    """What kinds of numbers a format can hold."""
    if dtype == "bool":
        return ("bits", "equal")
    return INTEGER_TEMPERS if dtype in INTEGERS else FLOAT_TEMPERS


def numbers(dtype, temper, shape, seed):
    """An array in C order of numbers of one temper."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return (
            _equal(rng.integers(0, 2, shape).astype(bool))
            if temper == "equal"
            else (rng.integers(0, 2, shape).astype(bool))
        )
    values = (
        _integers(rng, dtype, temper, shape)
        if dtype in INTEGERS
        else (_floats(rng, dtype, temper, shape))
    )
    return _equal(values) if temper == "equal" else values


def _equal(values):
    return np.full_like(values, values.flat[0]) if values.size else values


def _bits(rng, dtype, shape):
    size = math.prod(shape) * numpy_dtype(dtype).itemsize
    return np.frombuffer(rng.bytes(size), np.uint8).copy().view(numpy_dtype(dtype)).reshape(shape)


def _integers(rng, dtype, temper, shape):
    info = np.iinfo(dtype)
    if temper == "ends":
        ends = np.array([info.min, info.max, info.max - 1, info.min + 1, 0, 1], dtype)
        return ends[rng.integers(0, len(ends), shape)]
    if temper == "few":
        return rng.integers(0, 4, shape).astype(dtype)
    return _bits(rng, dtype, shape)


def _floats(rng, dtype, temper, shape):
    own = numpy_dtype(dtype)
    info = ml_dtypes.finfo(own)
    largest, smallest = float(info.max), float(info.smallest_subnormal)
    sign = rng.choice([-1.0, 1.0], shape)
    normal = rng.normal(size=shape)
    if temper == "bits":
        return _bits(rng, dtype, shape)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        values = {
            "equal": lambda: np.full(shape, rng.normal() * 10.0 ** rng.integers(-3, 4)),
            "few": lambda: rng.integers(-2, 3, shape) * 0.5,
            "zeros": lambda: sign * 0.0,
            "normal": lambda: normal,
            "offset": lambda: (1e8 if largest > 1e9 else 1e4) + sign,
            "huge": lambda: sign * largest * rng.uniform(0.5, 1.0, shape),
            "tiny": lambda: sign * smallest * rng.integers(0, 5, shape),
            "denormal": lambda: sign * float(info.smallest_normal) * rng.uniform(0, 1, shape),
            "wide": lambda: sign * np.exp(normal * math.log(largest) / 4),
            "special": lambda: np.choose(
                rng.integers(0, 8, shape), [np.nan, np.inf, -np.inf, *[normal] * 5]
            ),
            "cancel": lambda: sign * rng.choice([1.0, 1.0 + float(info.eps), largest], shape),
            "jump": lambda: normal * rng.choice([1.0, largest**0.5, largest**-0.5], shape),
        }[temper]()
        return np.asarray(values, np.float64).astype(own)


# ---------------------------------------------------------------- layouts

LAYOUTS = ("C", "F", "reversed", "strided", "swapped", "flipped last")


def laid_out(array, layout):
    """The same values in the same shape, elsewhere in memory."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1])[::-1]
    if layout == "flipped last":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    if layout == "strided":
        wide = np.zeros((*array.shape[:-1], array.shape[-1] * 2 + 1), array.dtype)
        wide[..., 1::2] = array
        return wide[..., 1::2]
    if layout == "swapped" and array.dtype.itemsize > 1 and array.dtype.name != "bfloat16":
        return array.astype(array.dtype.newbyteorder())  # big-endian on a small-endian machine
    return array


seeds = st.integers(0, 2**32 - 1)


@st.composite
def arrays(draw, shapes, dtypes=DTYPES, layouts=LAYOUTS):
    """An array of one of the formats, of a drawn shape, temper and layout."""
    dtype = draw(st.sampled_from(dtypes))
    temper = draw(st.sampled_from(tempers(dtype)))
    values = numbers(dtype, temper, draw(shapes), draw(seeds))
    return laid_out(values, draw(st.sampled_from(layouts)))


counts = st.one_of(
    st.integers(0, 6),
    st.sampled_from([127, 128, 129, 255, 257, 300]),
)
rows = st.tuples(counts, st.integers(1, 5))
planes = st.tuples(st.integers(0, 5), st.integers(1, 4), st.sampled_from([0, 1, 2, 5, 131]))


@st.composite
def cuts(draw, length, n_parts=3):
    """Where to cut 0..length into parts, some of them empty."""
    inside = sorted(draw(st.integers(0, length)) for _ in range(n_parts - 1))
    return [slice(a, b) for a, b in zip([0, *inside], [*inside, length], strict=True)]


# ---------------------------------------------------------------- truth


@dataclass
class Truth:
    """Exact count, Σx, Σx², extrema and special counts of a flat array."""

    n: int
    sum: Fraction
    squares: Fraction
    low: float | int | None
    high: float | int | None
    nan: int
    plus: int
    minus: int

    @property
    def mean(self):
        """The mean to the nearest float64."""
        return rounded(self.sum / self.n)

    def var(self, ddof=0):
        """The variance as a rational."""
        return (self.squares - self.sum**2 / self.n) / (self.n - ddof)


def rounded(value):
    """A rational to the nearest float64 (CPython's int / int), inf where it overflows."""
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def truth(values):
    """What is true of an array, by integers alone."""
    flat = np.ravel(values)
    if flat.dtype.kind in "iub":
        whole = [int(v) for v in flat.tolist()]
        n, low, high = len(whole), min(whole, default=None), max(whole, default=None)
        return Truth(
            n, Fraction(sum(whole)), Fraction(sum(v * v for v in whole)), low, high, 0, 0, 0
        )
    with np.errstate(invalid="ignore"):  # signaling NaN
        flat = flat.astype(np.float64)
    nan, plus, minus = (int(np.sum(k)) for k in (np.isnan(flat), flat == np.inf, flat == -np.inf))
    flat = flat[np.isfinite(flat)]
    total, squares = float_sums(flat)
    low = float(flat.min()) + 0.0 if len(flat) else None
    high = float(flat.max()) + 0.0 if len(flat) else None
    return Truth(len(flat), total, squares, low, high, nan, plus, minus)


def float_sums(flat):
    """Exact Σx and Σx² of finite float64 values: integers, one power of two at a time."""
    mantissas, exponents = np.frexp(flat)
    whole = (mantissas * 2.0**53).astype(np.int64)
    total = squares = Fraction(0)
    for exponent in set(exponents.tolist()):
        chosen = whole[exponents == exponent].tolist()
        unit = Fraction(2) ** (exponent - 53)
        total += sum(chosen) * unit
        squares += sum(v * v for v in chosen) * unit**2
    return total, squares


def is_nearest_root(root, square):
    """Whether a float64 is the one nearest to the root of a rational."""
    if math.isinf(root):
        return square >= Fraction(np.finfo(np.float64).max) ** 2
    middle_down = (Fraction(root) + Fraction(math.nextafter(root, 0.0))) / 2
    up = math.nextafter(root, math.inf)
    if math.isinf(up):
        return middle_down**2 <= square
    middle_up = (Fraction(root) + Fraction(up)) / 2
    return middle_down**2 <= square <= middle_up**2
