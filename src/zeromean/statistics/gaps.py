"""Statistics of rows in which some values are missing; exact, whatever the format.

What is missing is filled with 0, measured with the rest, and taken out again: zeros add nothing to
Σx and Σx², so that only counts and extrema need care.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.pattern import Pattern
from zeromean.statistics.extrema import Extrema
from zeromean.statistics.formats import frozen
from zeromean.statistics.histogram import Histogram, some
from zeromean.statistics.items import counted_items
from zeromean.statistics.moments import Moments

_Array = npt.NDArray[Any]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]
_LANES = 768  # values side by side, so that processors take many at a time
_MOST = 255  # of them that a byte can count


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a format has a NaN; bfloat16 is none of NumPy's own kinds."""
    return "float" in dtype.name


def filled(values: _Array, gaps: _Bools | None) -> _Array:
    """The values in C order and native bytes, with 0 where they are missing.

    Parameters
    ----------
    values : ndarray
    gaps : ndarray of bool, the same shape, or None
        None where nothing is missing; then it is a copy only if it must be.
    """
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if gaps is None:
        return values
    if values.dtype == bool:
        return values & ~gaps
    bits = values.view(f"u{values.itemsize}")  # their product is many times as fast as a choice
    filled: _Array = np.multiply(bits, (~gaps).view(np.uint8), dtype=bits.dtype)
    return filled.view(values.dtype)


def counted_without(block: _Array, gaps: _Bools | None) -> Histogram:
    """The histogram of a filled block, without the fillings.

    Parameters
    ----------
    block : ndarray, (n_samples, n_features)
        From `filled`.
    gaps : ndarray of bool, the same shape, or None
    """
    return taken_out(Histogram.of(block), gaps)


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
        n -= _counts(gaps.reshape(items.shape))
    return taken_out(histogram, gaps), (n, sums, squares)


def taken_out(histogram: Histogram, gaps: _Bools | None) -> Histogram:
    """The histogram of a filled block, with its fillings counted as what they are.

    Parameters
    ----------
    histogram : Histogram
    gaps : ndarray of bool, (n_samples, n_features), or None
    """
    if gaps is None:
        return histogram
    lacking = _counts(gaps[None])[0]
    counts = histogram.counts.copy()
    if histogram.nan_bin is not None:
        counts[:, 0] -= lacking
        counts[:, histogram.nan_bin] += lacking
        return Histogram(histogram.dtype, frozen(counts))
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
    if gaps is None:
        return moments, extrema
    lacking = _counts(gaps[None])[0]
    special = moments.special.copy()
    special[:, 0] += lacking
    moments = replace(moments, n=frozen(moments.n - lacking), special=frozen(special))
    return moments, _ends(block, gaps, extrema).where(moments.n > 0)


def _ends(block: _Array, gaps: _Bools, known: Extrema) -> Extrema:
    """Extrema without the fillings; known ones where 0 lies between them."""
    if block.dtype == bool:
        block = block.view(np.uint8)
    low, high = known.low, known.high
    if any(v == 0 for v in low.tolist()):
        ends = _utmost(np.minimum, block, gaps)
        low = Extrema.between(ends, ends).low
    if any(v == 0 for v in high.tolist()):
        ends = _utmost(np.maximum, block, gaps)
        high = Extrema.between(ends, ends).high
    return Extrema(low, high)


def _utmost(ufunc: Any, block: _Array, gaps: _Bools) -> _Array:
    """Smallest or largest present value of each feature; anything where there is none."""
    lowest = ufunc is np.minimum
    if not is_float(block.dtype):
        info = np.iinfo(block.dtype)
        block = block + gaps * block.dtype.type(info.max if lowest else info.min)
        return _reduced(ufunc, block)
    if block.itemsize < 4:
        block = block.astype(np.float32)
    beyond = np.array(np.inf if lowest else -np.inf, block.dtype)
    bits = block.view(f"u{block.itemsize}") | gaps * beyond.view(f"u{block.itemsize}")
    utmost = _reduced(ufunc, bits.view(block.dtype))
    if np.isfinite(utmost).all():
        return utmost
    return _reduced(ufunc, np.where(gaps | ~np.isfinite(block), beyond, block))


def _reduced(ufunc: Any, block: _Array) -> _Array:
    """Feature by feature; of few features, many rows at a time."""
    features = block.shape[1]
    wide = max(1, _LANES // features) * features
    flat, whole = block.reshape(-1), block.size // wide * wide
    parts = [flat[whole:].reshape(-1, features)]
    with np.errstate(invalid="ignore"):  # signaling NaN
        if whole:
            parts.append(ufunc.reduce(flat[:whole].reshape(-1, wide), axis=0).reshape(-1, features))
        utmost: _Array = ufunc.reduce(np.concatenate(parts), axis=0)
    return utmost


def _counts(flags: _Bools) -> _Ints:
    """How many flags of each item and feature are set.

    Parameters
    ----------
    flags : ndarray of bool, (n_items, n_samples, n_features)

    Returns
    -------
    ndarray of int64, (n_items, n_features)
    """
    items, samples, features = flags.shape
    flat = np.ascontiguousarray(flags).view(np.uint8).reshape(items, samples * features)
    wide = max(1, _LANES // max(features, 1)) * features
    whole = samples * features // max(wide, 1) * wide
    lanes = flat[:, :whole].reshape(items, -1, max(wide, 1))
    counts = np.zeros((items, lanes.shape[2]), np.int64)
    for begin in range(0, lanes.shape[1], _MOST):
        counts += np.add.reduce(lanes[:, begin : begin + _MOST], axis=1, dtype=np.uint8)
    rest = flat[:, whole:].reshape(items, -1, max(features, 1))
    total: _Ints = counts.reshape(items, -1, features).sum(axis=1)
    total += rest.sum(axis=1, dtype=np.int64)
    return total


# ---------------------------------------------------------------- rows


def aligned(missing: _Bools, array: _Array) -> _Bools:
    """Gaps with all axes of an array that has its first one; of length 1 where they are shared.

    Parameters
    ----------
    missing : ndarray of bool
        Broadcasts against the array, or against each entry of its first axis.
    array : ndarray
    """
    gaps = missing.reshape((1,) * (array.ndim - missing.ndim) + missing.shape)
    return np.broadcast_to(gaps, (len(array), *gaps.shape[1:]))


def rows_with_gaps(
    pattern: Pattern, array: _Array, gaps: _Bools | None, limit: int
) -> Iterator[tuple[slice, _Array, _Bools | None]]:
    """Cut an array into rows (n_samples, n_features), and say where they are missing.

    Parameters
    ----------
    pattern : Pattern
    array : ndarray
        With all its axes.
    gaps : ndarray of bool, or None
        Broadcasts against it.
    limit : int
        Bytes of a piece; more only where a single sample has more.

    Yields
    ------
    place : slice
        Which entries of the first axis the rows are of; several pieces may be of one.
    rows : ndarray, (n_samples, n_features)
        Not empty.
    gaps : ndarray of bool, the same shape, or None
    """
    lengths, kept = pattern.layout(array.shape)
    samples = [i for i in range(len(lengths)) if i not in kept]
    features = math.prod(lengths[i] for i in kept)
    values = array.reshape(lengths).transpose(samples + kept)
    missing = None
    if gaps is not None:
        missing = np.broadcast_to(gaps, array.shape).reshape(lengths).transpose(samples + kept)
    for first, piece, own in _pieces(values, missing, len(samples), limit):
        if piece.size:
            rows = piece.reshape(-1, features)
            yield (
                slice(first, first + len(piece)),
                rows,
                None if own is None else _contiguous(own.reshape(rows.shape)),
            )


def _contiguous(gaps: _Bools) -> _Bools:
    """Rows of gaps in C order; fast where all features share theirs."""
    if gaps.strides[1] or gaps.shape[1] > _LANES:
        return np.ascontiguousarray(gaps)
    copy = np.empty(gaps.shape, np.bool_)
    for j in range(gaps.shape[1]):
        copy[:, j] = gaps[:, j]
    return copy


def _pieces(
    values: _Array, gaps: _Bools | None, n_axes: int, limit: int, axis: int = 0
) -> Iterator[tuple[int, _Array, _Bools | None]]:
    """Cut along the first axes until a piece is small enough; says where on the first it begins."""
    while axis < n_axes and values.shape[axis] == 1:
        axis += 1
    if axis == n_axes or values.nbytes <= limit:
        yield 0, values, gaps
        return
    step = max(1, values.shape[axis] * limit // values.nbytes)
    for begin in range(0, values.shape[axis], step):
        index = (slice(None),) * axis + (slice(begin, begin + step),)
        part, own = values[index], None if gaps is None else gaps[index]
        for first, piece, missing in _pieces(part, own, n_axes, limit, axis + (step == 1)):
            yield (begin if axis == 0 else first), piece, missing


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
    return _counts(items == value)
