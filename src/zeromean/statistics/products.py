"""Σxᵢxⱼ of rows by matrix products: of integers exactly, in pieces too small to be rounded.

A float holds every integer up to 2^p, with p = 24 for float32 and 53 for float64. If the absolute
values of all terms of a sum of integers add up to no more than that, no partial sum in any order
is ever rounded, fused or not; so a matrix product of such a piece is exact on every BLAS.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.statistics.formats import exact

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

_SAFE = 1 << 61  # as for `exact`: two of these add up within int64
_TILE = 512  # of a product of floats; fixed, as it decides how they are rounded
_PANEL = 768  # columns of a product at a time: the other triangle is hardly computed
_NARROW = 64  # up to so many features, rows are too short to gain from float32
_DIGIT = 16  # bits
_LONGEST = 1 << 24  # rows at a time: 2^24 products of 16 bits stay below 2^56


def cross_products(rows: _Array) -> tuple[_Array, _Array]:
    """Exact Σxᵢ and Σxᵢxⱼ of integer rows.

    Parameters
    ----------
    rows : ndarray of bool or integers, (n_samples, n_features), C order
        At least one row.

    Returns
    -------
    sums : ndarray of int64 or Python integers, (n_features,)
    products : ndarray of int64 or Python integers, (n_features, n_features)
        Symmetric.

    Examples
    --------
    >>> sums, products = cross_products(np.array([[1, 10], [2, 30]], dtype=np.uint8))
    >>> sums.tolist(), products.tolist()
    ([3, 40], [[5, 70], [70, 1000]])
    """
    sums, products = _some(rows[:_LONGEST])
    for begin in range(_LONGEST, len(rows), _LONGEST):
        more, others = _some(rows[begin : begin + _LONGEST])
        sums, products = exact(sums + more), exact_square(products + others)
    return sums, products


def _some(rows: _Array) -> tuple[_Array, _Array]:
    if rows.dtype == bool:
        rows = rows.view(np.uint8)
    if rows.itemsize == 1:
        return _direct(rows, 128)
    if rows.itemsize == 2:
        return _direct(rows, 1 << 16)
    sums, products = exact([0] * rows.shape[1]), np.zeros((rows.shape[1],) * 2, np.int64)
    for part in _parts(rows, 1 << 14):
        largest = max(-int(part.min()), int(part.max()))
        fits = largest * largest << 10 <= 1 << 53
        more, others = _direct(part, largest) if fits else _by_digits(part, largest)
        sums, products = exact(sums + more), exact_square(products + others)
    return sums, products


def _direct(rows: _Array, largest: int) -> tuple[_Array, _Array]:
    """Of values that are small enough as they are, or less 128 for uint8."""
    n, features = rows.shape
    narrow = features <= _NARROW or rows.itemsize > 1
    shift = 128 if rows.dtype == np.uint8 and not narrow else 0
    kind: Any = np.float64 if narrow else np.float32
    room = 1 << 53 if narrow else 1 << 24
    if rows.itemsize == 1 and narrow:
        largest = 255
    sums, products = np.zeros(features, np.int64), np.zeros((features, features), np.int64)
    for part in _parts(rows, room // max(largest, 1) ** 2):
        values = part.astype(kind)
        if shift:
            values -= kind(shift)
        sums += (np.ones(len(values), kind) @ values).astype(np.int64)
        add_products(products, values)
    mirror(products)
    if shift:  # Σxᵢxⱼ = Σaᵢaⱼ + c (Σaᵢ + Σaⱼ) + n c², with a = x - c
        products += shift * sums + n * shift**2
        products += shift * sums[:, None]
        sums += n * shift
    return exact(sums), exact_square(products)


def _by_digits(rows: _Array, largest: int) -> tuple[_Array, _Array]:
    """Of large integers: in digits of 16 bits, of which only the highest has a sign."""
    features, n_digits = rows.shape[1], rows.itemsize * 8 // _DIGIT
    n_digits = min(n_digits, largest.bit_length() // _DIGIT + 1)
    values = rows.astype(np.uint64 if rows.dtype.kind == "u" else np.int64)
    sums, products = np.zeros(features, object), np.zeros((features, features), object)
    digits: list[_Array] = []
    for k in range(n_digits):
        digit = values >> values.dtype.type(_DIGIT * k)
        if k < n_digits - 1:
            digit &= digit.dtype.type(0xFFFF)
        digits.append(digit.astype(np.float64))
        sums += _whole(np.ones(len(rows)) @ digits[k]) << _DIGIT * k
    for k, first in enumerate(digits):
        products += _whole(first.T @ first) << 2 * _DIGIT * k
        for m in range(k):
            mixed = _whole(first.T @ digits[m]) << _DIGIT * (k + m)
            products += mixed + mixed.T
    return exact(sums), exact_square(products)


def _whole(values: _Array) -> _Array:
    """Floats that are integers, as Python integers."""
    return values.astype(np.int64).astype(object)


def _parts(rows: _Array, most: int) -> Iterator[_Array]:
    """Rows in pieces that are as long as allowed, and small enough for the cache if narrow."""
    step = min(most, max(1024, (1 << 18) // max(rows.shape[1], 1)))
    for begin in range(0, len(rows), step):
        yield rows[begin : begin + step]


def add_products(total: _Array, values: _Array) -> None:
    """Add valuesᵀ values, which are integers, to a square; below the diagonal only some of it.

    Parameters
    ----------
    total : ndarray of int64, (n_features, n_features)
    values : ndarray of float32 or float64, (n_samples, n_features)
    """
    features = values.shape[1]
    for begin in range(0, features, _PANEL):
        end = min(begin + _PANEL, features)
        block = values[:, :end].T @ values[:, begin:end]
        total[:end, begin:end] += block.astype(np.int64)


def add_tiles(total: _Floats, values: _Floats, pool: Executor | None = None) -> None:
    """`add_products` of floats in tiles of a fixed size, whatever the pool.

    Each entry is computed by the same call of BLAS, so with BLAS on one thread its bits do not
    depend on how many threads the pool has.

    Parameters
    ----------
    total : ndarray of float64, (n_features, n_features)
    values : ndarray of float64, (n_samples, n_features)
    pool : concurrent.futures.Executor, optional
        Of threads.
    """
    edges = range(0, values.shape[1], _TILE)

    def add(corner: tuple[int, int]) -> None:
        down, across = (slice(begin, begin + _TILE) for begin in corner)
        total[down, across] += values[:, down].T @ values[:, across]

    corners = [(i, j) for j in edges for i in edges if i <= j]
    for _ in (map if pool is None else pool.map)(add, corners):
        pass


def mirror(total: _Array) -> None:
    """Copy what is above the diagonal of a square below it, in place."""
    features = len(total)
    for begin in range(0, features, _PANEL):
        end = min(begin + _PANEL, features)
        block = total[begin:end, begin:end]
        block[...] = np.triu(block) + np.triu(block, 1).T
        total[end:, begin:end] = total[begin:end, end:].T


def exact_square(products: _Array) -> _Array:
    """A matrix of Σxᵢxⱼ: int64 if the diagonal is below 2^61, else Python integers.

    By Cauchy and Schwarz no entry is larger than the largest of the diagonal.
    """
    largest = max(np.diagonal(products).tolist(), default=0)
    products = products.astype(np.int64 if largest < _SAFE else object, copy=False)
    products.flags.writeable = False
    return products
