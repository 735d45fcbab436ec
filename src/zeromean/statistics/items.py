"""`ItemStds`: what tells the pooled std from the mean of the stds of single pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError
from zeromean.statistics.formats import exact, exact_difference, exact_sum, read_only
from zeromean.statistics.histogram import Histogram

_Array = npt.NDArray[Any]
_Ints = npt.NDArray[np.int64]
_LARGE = 8192  # samples from which an item's sums are cheaper through its own histogram
_FAST = (1, 2, 3, 4, 6, 12)  # channels that the counting kernel takes in turns


@dataclass(frozen=True, slots=True, eq=False)
class ItemStds:
    """Sums of the stds and variances of single items, to tell the pooled std from look-alikes.

    Many published constants are not the std of all pixels but the mean of the stds of single
    pictures. Each item's std and variance are float64 (IEEE operations on exact integer sums,
    so the same everywhere); their sums are exact.

    Attributes
    ----------
    n : int
        Items with at least one sample.
    stds, variances : ndarray of int objects, (n_features,)
        In units of 2**-64.
    """

    n: int
    stds: _Array
    variances: _Array

    @classmethod
    def empty(cls, n_features: int, dtype: str = "uint8") -> Self:
        """No items."""
        return cls(0, exact([0] * n_features), exact([0] * n_features))

    @classmethod
    def of_sums(cls, n: int, sums: _Ints, squares: _Ints) -> Self:
        """From the power sums of items that have n samples each.

        Parameters
        ----------
        n : int
        sums, squares : ndarray of int64, (n_items, n_features)
        """
        items, features = sums.shape
        if n == 0 or items == 0:
            return cls.empty(features)
        if items == 1:
            return cls._of_one(n, sums[0].tolist(), squares[0].tolist())
        return cls.of_uneven_sums(np.full(sums.shape, n, np.int64), sums, squares)

    @classmethod
    def of_uneven_sums(cls, n: _Ints, sums: _Ints, squares: _Ints) -> Self:
        """From the power sums of items of which some samples are missing.

        An item counts if each of its features has at least one sample.

        Parameters
        ----------
        n, sums, squares : ndarray of int64, (n_items, n_features)
        """
        counted = (n > 0).all(axis=1)
        n, sums, squares = (values[counted] for values in (n, sums, squares))
        if n.size == 0:
            return cls.empty(sums.shape[1])
        if int(n.max()) * max(int(squares.max()), 1) < 1 << 62:
            spread = (n * squares - sums * sums).astype(np.float64)
        else:
            wide = n * squares.astype(object) - sums.astype(object) ** 2
            spread = wide.astype(np.float64)
        stds, variances = _fixed_sums(np.sqrt(spread) / n), _fixed_sums(spread / n / n)
        return cls(len(n), exact(stds), exact(variances))

    @classmethod
    def _of_one(cls, n: int, sums: list[int], squares: list[int]) -> Self:
        """The same bits for a single item, at a fifth of the time."""
        spreads = [float(n * q - s * s) for s, q in zip(sums, squares, strict=True)]
        stds = [int(math.ldexp(math.sqrt(v) / n, 64)) for v in spreads]
        return cls(1, exact(stds), exact([int(math.ldexp(v / n / n, 64)) for v in spreads]))

    @classmethod
    def of(cls, items: _Array) -> Self:
        """From 8- or 16-bit items of one shape, (n_items, n_samples, n_features), C order."""
        return cls.of_sums(items.shape[1], *counted_items(items)[1:])

    def __add__(self, other: ItemStds) -> Self:
        return type(self)(
            self.n + other.n,
            exact_sum(self.stds, other.stds),
            exact_sum(self.variances, other.variances),
        )

    def __sub__(self, other: ItemStds) -> Self:
        n = self.n - other.n
        stds = exact_difference(self.stds, other.stds)
        variances = exact_difference(self.variances, other.variances)
        if not _possible(n, stds) or not _possible(n, variances):
            raise MergeError("cannot subtract items that are not there")
        return type(self)(n, stds, variances)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ItemStds)
            and self.n == other.n
            and self.stds.tolist() == other.stds.tolist()
            and self.variances.tolist() == other.variances.tolist()
        )

    __hash__ = None  # type: ignore[assignment]


def _possible(n: int, sums: _Array) -> bool:
    return n >= 0 and bool((sums >= 0).all()) and (n > 0 or not sums.any())


def counted_items(items: _Array) -> tuple[Histogram, _Ints, _Ints]:
    """Histogram of all values, and Σx and Σx² of each item.

    Parameters
    ----------
    items : ndarray of 8- or 16-bit integers, (n_items, n_samples, n_features), C order

    Returns
    -------
    histogram : Histogram
    sums, squares : ndarray of int64, (n_items, n_features)
    """
    from zeromean.kernels import integers

    count, samples, features = items.shape
    sums, squares = np.zeros((2, count, features), np.int64)
    codes = items.view(np.uint8) if items.dtype == bool else items
    flat = read_only(codes.reshape(count, samples * features))
    if items.itemsize > 1 or samples < _LARGE or features not in _FAST:
        if flat.size:
            integers.sum_items(flat, features, sums, squares)
        return Histogram.of(items.reshape(-1, features)), sums, squares
    counts = np.zeros((features, 256), np.int64)
    values = np.arange(256).astype(codes.dtype).astype(np.int64)
    integers.count_items(flat.view(np.uint8), features, values, counts, sums, squares)
    return Histogram.of_tallies(counts, items.dtype.name), sums, squares


def _fixed_sums(values: npt.NDArray[np.float64]) -> list[int]:
    """Column sums in units of 2**-64, each value below 2**32 cut to that grid, the sum exact."""
    totals = [0] * values.shape[1]
    rest = values
    for shift in (64, 32, 0):
        digit = np.floor(rest)
        rest = (rest - digit) * 2.0**32
        column_sums = digit.astype(np.int64).sum(axis=0).tolist()
        totals = [total + (c << shift) for total, c in zip(totals, column_sums, strict=True)]
    return totals
