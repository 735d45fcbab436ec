"""Reads quantiles out of counts."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

_TINY = 2.0**-133  # smallest bfloat16
_LARGEST = (2 - 2.0**-7) * 2.0**127  # largest bfloat16: its bucket takes all that is larger


def _ranked(values: npt.NDArray[Any], cumulative: npt.NDArray[np.int64], rank: int) -> float:
    return float(values[int(np.searchsorted(cumulative, rank, side="right"))])


def interpolated(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], q: float
) -> tuple[float, float]:
    """The q-quantile by linear interpolation at rank q (n - 1), rounded once; twice for a pair.

    Definition 7 of Hyndman and Fan, *Sample Quantiles in Statistical Packages*, The American
    Statistician 50(4), 1996, which is NumPy's default.
    """
    cumulative = np.cumsum(counts)
    n = int(cumulative[-1])
    if n == 0:
        return math.nan, math.nan
    position = Fraction(q) * (n - 1)
    rank = math.floor(position)
    low = Fraction(_ranked(values, cumulative, rank))
    high = Fraction(_ranked(values, cumulative, min(rank + 1, n - 1)))
    value = float(low + (high - low) * (position - rank))
    return value, value


def truncated(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], q: float, *, exact: bool
) -> tuple[float, float]:
    """Bounds of the value at rank floor(q (n - 1)).

    Equal when the values are exact; otherwise they were cut to bfloat16 toward zero, and the
    bounds are the cut value and its neighbor away from zero; infinity beyond the largest.
    """
    cumulative = np.cumsum(counts)
    n = int(cumulative[-1])
    if n == 0:
        return math.nan, math.nan
    value = _ranked(values, cumulative, math.floor(Fraction(q) * (n - 1)))
    if exact:
        return value, value
    step = max(_TINY, 2.0 ** (math.frexp(value)[1] - 8)) if value else _TINY
    step = math.inf if abs(value) == _LARGEST else step
    return (value - step if value <= 0 else value), (value + step if value >= 0 else value)


def codes(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats cut to bfloat16 toward zero, as an array that `Histogram` counts.

    Parameters
    ----------
    x : ndarray of float32 or float64

    Returns
    -------
    ndarray of uint16, the same shape
        bfloat16 bit patterns. Values too large for float32 count as its largest.
    """
    with np.errstate(all="ignore"):  # too large, too small, signaling NaN
        single = x.astype(np.float32)
        rounded_up = np.abs(single) > np.abs(x)
        toward_zero = np.nextafter(single, np.float32(0))
    single = np.where(rounded_up & np.isfinite(x), toward_zero, single)
    bits = (single.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return np.where(
        np.isnan(x), np.uint16(0x7FC0), bits
    )  # a NaN's bits may all be in the lower half
