r"""Writes float64 numbers so that float32 arithmetic loses next to nothing, also near zero.

A mean rounded to float32 is wrong by up to 2⁻¹⁸ gray levels at 100; where x is close to the mean,
that is most of x - shift. So the shift is written as hi + lo, both float32, and subtracted in two
steps.

For integers x between `low` and `high`, hi is the nearest multiple of 2⁻ᵏ, with the largest k for
which every x - hi is below 2²⁴⁻ᵏ in magnitude: then a = x - hi has at most 24 bits and is *exact*.
(uint8: k = 16; uint16: k = 8.) lo = shift - hi is at most 2⁻ᵏ⁻¹ and rounded once. With
u = 2⁻²⁴ and d = x - shift:

- a = 0: the result is -lo, relative error u.
- otherwise \|a\| ≥ 2⁻ᵏ ≥ 2\|lo\|, so \|d\| ≥ \|lo\|; the relative error is u from the subtraction
  and at most u ρ from lo, with ρ = \|lo\| / \|d\| ≤ 1. At distance 1 from the mean ρ is at most
  2⁻¹⁷ for uint8.

Division by the scale rounded to float32 adds u for the scale, unless it is a float32 number, and
half a unit in the last place for the quotient. A relative error of u is at most 1 ulp, the last
rounding at most 0.5, so the result is off by no more than

    0.5 + [scale ≠ 1] + [scale is no float32] + ρ   units in the last place of float32

(first order; the neglected terms are below 2⁻²⁰ ulp). A product with the rounded reciprocal would
have the same bound, but never the smaller one: 1/255 is no float32 number, 255 is. Hence `Div`.

For floats hi is the nearest float32 and lo the rest: by Sterbenz's lemma x - hi is exact for x
between hi/2 and 2 hi, so the error of y is at most 4 u \|y\| + 2 u² \|shift\| / scale; with one
rounded shift it would be u \|shift\| / scale.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import UnitError

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_BITS = 24
#: Raw dtypes whose values are all float32 numbers.
NARROW = ("uint8", "int8", "uint16", "int16", "bool", "float16", "bfloat16", "float32")


def limits_of(dtype: str) -> tuple[int, int] | None:
    """Smallest and largest value of an integer dtype that float32 holds; None for others."""
    if dtype == "bool":
        return 0, 1
    if dtype not in NARROW or "float" in dtype:
        return None
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def plain_shift(norm: Normalizer) -> tuple[_Floats, _Floats]:
    """Shift of y = (x - shift) / scale with the offset taken into it, as high and low float64.

    (x - a) / s + o = (x - (a - o s)) / s, which is one rational number for each feature.

    Parameters
    ----------
    norm : Normalizer
        Without a matrix.

    Returns
    -------
    high, low : ndarray of float64, kept shape
        Whose sum is the rational to about 106 bits.
    """
    if not norm.offset.any():
        return norm.shift, np.zeros_like(norm.shift)
    columns = (getattr(norm, name).ravel().tolist() for name in ("shift", "scale", "offset"))
    exact = [Fraction(a) - Fraction(o) * Fraction(s) for a, s, o in zip(*columns, strict=True)]
    high = [float(value) for value in exact]
    low = [float(value - Fraction(h)) for value, h in zip(exact, high, strict=True)]
    shape = norm.shift.shape
    return np.array(high).reshape(shape), np.array(low).reshape(shape)


def split(high: _Floats, low: _Floats, dtype: str) -> tuple[_Array, _Array]:
    """The float32 parts hi and lo of a shift, for raw data of a dtype.

    Parameters
    ----------
    high, low : ndarray of float64
        The shift, as `plain_shift` gives it.
    dtype : str

    Returns
    -------
    hi, lo : ndarray of float32

    Raises
    ------
    UnitError
        When float32 cannot hold the shift.
    """
    limits = limits_of(dtype)
    if limits is None:
        with np.errstate(over="ignore"):  # refused in a sentence below
            hi = high.astype(np.float32)
    else:
        hi = _on_grid(high, limits).astype(np.float32)
    lo = ((high - hi) + low).astype(np.float32)
    if not (np.isfinite(hi).all() and np.isfinite(lo).all()):
        raise UnitError(
            f"the shift {np.abs(high).max():.6g} is too large for float32; build with "
            "arithmetic='float64'"
        )
    return hi, lo


def _on_grid(shift: _Floats, limits: tuple[int, int]) -> _Floats:
    """The nearest multiples of 2⁻ᵏ; every x - hi, and hi itself, is below 2²⁴⁻ᵏ."""
    reach = np.maximum(np.abs(shift - limits[0]), np.abs(shift - limits[1]))
    reach = np.maximum(reach, np.abs(shift)) + 1  # rounding to the grid moves hi by less than 1
    exponent = np.frexp(reach)[1]  # reach < 2 ** exponent
    step = np.ldexp(1.0, np.maximum(exponent - _BITS, -100))
    return np.asarray(np.rint(shift / step) * step)


def float32_scale(scale: _Floats) -> _Array:
    """A scale rounded to float32.

    Raises
    ------
    UnitError
        When it has no normal float32 number near it.
    """
    with np.errstate(over="ignore", under="ignore"):
        rounded = scale.astype(np.float32)
    tiny = float(np.finfo(np.float32).tiny)
    if not np.isfinite(rounded).all() or (np.abs(rounded) < tiny).any():
        raise UnitError(
            f"a scale between {scale.min():.6g} and {scale.max():.6g} is beyond float32; build "
            "with arithmetic='float64'"
        )
    return rounded


def ulp_bound(norm: Normalizer, dtype: str, arithmetic: str) -> float:
    """How many units in the last place of float32 a graph's result can be off, for integers.

    Parameters
    ----------
    norm : Normalizer
        Without a matrix.
    dtype : str
        Of the raw data.
    arithmetic : {"float32", "float64"}

    Returns
    -------
    float
        inf for raw floats in float32 arithmetic, whose bound is another; see above.
    """
    if arithmetic == "float64":
        return 1.0
    limits = limits_of(dtype)
    if limits is None:
        return math.inf
    high, low = plain_shift(norm)
    hi, lo = split(high, low, dtype)
    nearest = np.clip(np.rint(high), *limits)
    distance = np.abs(nearest - high)
    near = np.where(nearest == hi, 1.0, distance)  # there only lo is left, and rounded once
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.where(lo == 0, 0.0, np.minimum(np.abs(lo) / near, 1.0))
    scaled = norm.scale != 1
    rounded = norm.scale != float32_scale(norm.scale)
    return float((0.5 + rho + scaled + rounded).max(initial=0.5)) + 2.0**-20


def arithmetic_for(dtype: str) -> str:
    """The arithmetic that holds raw data of a dtype: float32, or float64 for wide numbers."""
    return "float32" if dtype in NARROW else "float64"
