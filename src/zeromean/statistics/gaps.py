"""Statistics of rows in which some values are missing; exact, whatever the format.

What is missing is filled, measured with the rest, and taken out again. Integers are filled with 0,
which adds nothing to Σx and Σx², so that only counts and extrema need care; floats are filled with
NaN, which every statistic leaves out and counts by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.statistics.extrema import Extrema
from zeromean.statistics.formats import frozen
from zeromean.statistics.histogram import Histogram, some
from zeromean.statistics.items import counted_items
from zeromean.statistics.moments import Moments

_Array = npt.NDArray[Any]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]
_PIECE = 1 << 20  # values that are compared at a time


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a format has a NaN; bfloat16 is none of NumPy's own kinds."""
    return "float" in dtype.name


def filled(values: _Array, gaps: _Bools | None) -> _Array:
    """The values in C order and native bytes, with NaN or 0 where they are missing.

    Parameters
    ----------
    values : ndarray
    gaps : ndarray of bool, the same shape, or None
        None where nothing is missing; then it is a copy only if it must be.
    """
    native = values.dtype.newbyteorder("=")
    if gaps is None:
        return np.ascontiguousarray(values, native)
    copy = np.array(values, native, order="C")
    copy[gaps] = np.nan if is_float(copy.dtype) else 0
    return copy


def counted_without(block: _Array, gaps: _Bools | None) -> Histogram:
    """The histogram of a filled block, without the fillings.

    Parameters
    ----------
    block : ndarray, (n_samples, n_features)
        From `filled`.
    gaps : ndarray of bool, the same shape, or None
    """
    return _taken_out(Histogram.of(block), gaps)


def items_without(
    block: _Array, gaps: _Bools | None, n_items: int
) -> tuple[Histogram, tuple[_Ints, _Ints, _Ints]]:
    """The histogram of a filled block of integers, and n, Σx and Σx² of each item in it.

    Parameters
    ----------
    block : ndarray, (n_items * n_samples, n_features)
        From `filled`; item after item.
    gaps : ndarray of bool, the same shape, or None
    n_items : int

    Returns
    -------
    histogram : Histogram
    n, sums, squares : ndarray of int64, (n_items, n_features)
    """
    items = block.reshape(n_items, -1, block.shape[1])
    histogram, sums, squares = counted_items(items)
    n = np.full(sums.shape, items.shape[1], np.int64)
    if gaps is not None:
        n -= np.count_nonzero(gaps.reshape(items.shape), axis=1)
    return _taken_out(histogram, gaps), (n, sums, squares)


def _taken_out(histogram: Histogram, gaps: _Bools | None) -> Histogram:
    """Zeros that stand for missing integers, counted as what they are."""
    if gaps is None or histogram.nan_bin is not None:
        return histogram
    lacking = np.count_nonzero(gaps, axis=0)
    counts = histogram.counts.copy()
    counts[:, bin_of(np.zeros((), histogram.dtype))] -= lacking
    return Histogram(histogram.dtype, frozen(counts), some(histogram.lacking + lacking))


def summed_without(block: _Array, gaps: _Bools | None) -> tuple[Moments, Extrema]:
    """Moments and extrema of a filled block, without the fillings.

    Parameters
    ----------
    block : ndarray, (n_samples, n_features)
        From `filled`.
    gaps : ndarray of bool, the same shape, or None
    """
    moments, extrema = Moments.with_extrema(block)
    if gaps is None or is_float(block.dtype):
        return moments, extrema
    lacking = np.count_nonzero(gaps, axis=0)
    special = moments.special.copy()
    special[:, 0] += lacking
    moments = replace(moments, n=frozen(moments.n - lacking), special=frozen(special))
    return moments, _ends(block, gaps).where(moments.n > 0)


def _ends(block: _Array, gaps: _Bools) -> Extrema:
    least: Any = 0 if block.dtype == bool else np.iinfo(block.dtype).min
    most: Any = 1 if block.dtype == bool else np.iinfo(block.dtype).max
    low = np.where(gaps, block.dtype.type(most), block).min(axis=0)
    return Extrema.between(low, np.where(gaps, block.dtype.type(least), block).max(axis=0))


# ---------------------------------------------------------------- values that stand for no data


def bin_of(value: Any) -> int:
    """The bin of a `Histogram` where a value is counted.

    Parameters
    ----------
    value : scalar of a counted format
    """
    array = np.asarray(value)
    if array.dtype == bool:
        return int(array)
    if is_float(array.dtype):
        return int((array + array.dtype.type(0)).view(np.uint16))  # -0.0 counts as +0.0
    return int(array) - int(np.iinfo(array.dtype).min)


def dropped(histogram: Histogram, values: Sequence[Any]) -> Histogram:
    """The histogram with some values counted as missing.

    Parameters
    ----------
    histogram : Histogram
    values : sequence of scalars of its format
        Different ones; none of them NaN, which is missing anyway.
    """
    bins = [bin_of(value) for value in values]
    lacking = histogram.counts[:, bins].sum(axis=1)
    if not lacking.any():
        return histogram
    counts = histogram.counts.copy()
    counts[:, bins] = 0
    if histogram.nan_bin is None:
        return Histogram(histogram.dtype, frozen(counts), some(histogram.lacking + lacking))
    counts[:, histogram.nan_bin] += lacking
    return Histogram(histogram.dtype, frozen(counts))


def found(values: _Array, wanted: Sequence[Any]) -> _Bools:
    """Where an array holds one of some values."""
    with np.errstate(invalid="ignore"):  # signaling NaN
        gaps: _Bools = np.asarray(values == wanted[0])
        for value in wanted[1:]:
            gaps |= values == value
    return gaps


def occurrences(items: _Array, value: Any) -> _Ints:
    """How often each item holds a value, feature by feature.

    Parameters
    ----------
    items : ndarray, (n_items, n_samples, n_features)
    value : scalar of its format

    Returns
    -------
    ndarray of int64, (n_items, n_features)
    """
    counts = np.zeros((len(items), items.shape[2]), np.int64)
    step = max(1, _PIECE // max(1, len(items) * items.shape[2]))
    for begin in range(0, items.shape[1], step):
        counts += np.count_nonzero(items[:, begin : begin + step] == value, axis=1)
    return counts
