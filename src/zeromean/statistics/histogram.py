"""`Histogram`: how often each value occurs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError, PatternError
from zeromean.statistics.extrema import Extrema
from zeromean.statistics.formats import (
    COUNTED,
    UNIT_EXPONENT,
    PowerSums,
    as_planes,
    bin_values,
    check_dtype,
    exact,
    frozen,
    n_bins,
    read_only,
)

_Array = npt.NDArray[Any]
_Ints = npt.NDArray[np.int64]


_ONE_NAN = {"float16": 0x7E00, "bfloat16": 0x7FC0}  # the bin where every NaN is counted


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often each value occurs, feature by feature, for formats with at most 65 536 values.

    Attributes
    ----------
    dtype : str
    counts : ndarray of int64, (n_features, n_bins)
        For integers bin i holds the i-th smallest value; for float16 and bfloat16 bin i
        holds bit pattern i, with -0.0 counted as +0.0 and every NaN as one.
    missing : ndarray of int64, (n_features,), or None
        How many values are missing: the nulls of tables, for which integers have no bin. None
        where nothing is, and never all zero.

    Examples
    --------
    >>> h = Histogram.of(np.array([[1], [1], [255]], dtype=np.uint8))
    >>> h.counts[0, [1, 255]]
    array([2, 1])
    >>> h + h - h == h
    True
    """

    dtype: str
    counts: _Ints
    missing: _Ints | None = None

    @classmethod
    def empty(cls, n_features: int, dtype: str) -> Self:
        """The histogram of no data."""
        return cls(dtype, frozen(np.zeros((n_features, n_bins(dtype)), np.int64)))

    @classmethod
    def of(cls, block: _Array) -> Self:
        """Count the values of one block.

        Parameters
        ----------
        block : ndarray, (n_samples, n_features) or (outer, n_features, inner)
            bool, 8- or 16-bit integers, float16 or bfloat16.

        Raises
        ------
        PatternError
            For another dtype.
        """
        dtype = check_dtype(block.dtype)
        if dtype not in COUNTED:
            raise PatternError(f"cannot count every value of {dtype}; use Moments")
        planes = as_planes(block)
        return cls.of_codes(planes.view(np.uint8 if planes.itemsize == 1 else np.uint16), dtype)

    @classmethod
    def of_codes(cls, codes: _Array, dtype: str) -> Self:
        """Count bit patterns of a format that need not exist as a NumPy dtype.

        Parameters
        ----------
        codes : ndarray of uint8 or uint16, C order, (outer, n_features, inner)
        dtype : str
            What the bits mean.
        """
        counts = np.zeros((codes.shape[1], 256 if codes.itemsize == 1 else 65536), np.int64)
        if codes.size:
            _count(read_only(codes), counts)
        return cls.of_tallies(counts, dtype)

    @classmethod
    def of_tallies(cls, counts: _Ints, dtype: str) -> Self:
        """From counts by bit pattern, (n_features, 256 or 65 536)."""
        return cls(dtype, frozen(_ordered(dtype, counts)))

    def __add__(self, other: Histogram) -> Self:
        counts = frozen(self.counts + self._like(other).counts)
        if self.missing is None and other.missing is None:
            return type(self)(self.dtype, counts)
        return type(self)(self.dtype, counts, some(self.lacking + other.lacking))

    def __sub__(self, other: Histogram) -> Self:
        counts = self.counts - self._like(other).counts
        missing = self.lacking - other.lacking
        if (counts < 0).any() or (missing < 0).any():
            raise MergeError(
                "cannot subtract: the second holds values that the first does not, so it is no "
                "part of it"
            )
        return type(self)(self.dtype, frozen(counts), some(missing))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Histogram)
            and self.dtype == other.dtype
            and np.array_equal(self.counts, other.counts)
            and np.array_equal(self.lacking, other.lacking)
        )

    __hash__ = None  # type: ignore[assignment]

    def _like(self, other: object) -> Histogram:
        if not isinstance(other, Histogram):
            raise MergeError(f"cannot combine a histogram with {type(other).__name__}")
        if (self.dtype, self.counts.shape) != (other.dtype, other.counts.shape):
            raise MergeError(
                f"cannot combine histograms of {self.dtype} x {len(self.counts)} features "
                f"and {other.dtype} x {len(other.counts)}"
            )
        return other

    @property
    def n_features(self) -> int:
        """How many features."""
        return len(self.counts)

    @property
    def nan_bin(self) -> int | None:
        """Where NaN is counted; None for integers, which have none."""
        return _ONE_NAN.get(self.dtype)

    @property
    def lacking(self) -> _Ints:
        """How many values of each feature are missing, also where none is."""
        return np.zeros(self.n_features, np.int64) if self.missing is None else self.missing

    @property
    def special(self) -> _Ints:
        """Counts of NaN or missing values, +inf and -inf, shape (n_features, 3)."""
        values = bin_values(self.dtype)
        if self.dtype not in ("float16", "bfloat16"):
            none = np.zeros(self.n_features, np.int64)
            return np.stack([self.lacking, none, none], axis=1)
        kinds = np.stack([np.isnan(values), values == np.inf, values == -np.inf])
        return self.counts @ kinds.T.astype(np.int64)

    @property
    def finite(self) -> tuple[_Array, _Ints]:
        """Bins of finite values in increasing order: (n_bins,) values, (n_features, n_bins)."""
        values = bin_values(self.dtype)
        order = np.argsort(values, kind="stable")
        order = order[(np.isfinite(values) & ~unused_bins(self.dtype))[order]]
        return values[order], self.counts[:, order]

    @property
    def power_sums(self) -> PowerSums:
        """Exact sums, from the counts."""
        exponent = UNIT_EXPONENT[self.dtype]
        values, counts = self.finite
        filled = counts.any(axis=0)
        values, counts = values[filled], counts[:, filled]
        units = np.array([int(math.ldexp(v, -exponent)) for v in values], object)
        wide = [
            [int(c) for c in row] if exponent or row.sum() >= 1 << 31 else row for row in counts
        ]
        if not exponent:
            units = units.astype(np.int64)
        sums = [_dot(row, units) for row in wide]
        squares = [_dot(row, units * units) for row in wide]
        return PowerSums(counts.sum(axis=1), exact(sums), exact(squares), exponent)

    @property
    def extrema(self) -> Extrema:
        """Smallest and largest finite value of each feature."""
        values, counts = self.finite
        low = np.full(self.n_features, np.nan)
        high = np.full(self.n_features, np.nan)
        for j, row in enumerate(counts):
            filled = np.flatnonzero(row)
            if len(filled):
                low[j], high[j] = values[filled[0]], values[filled[-1]]
        return Extrema.between(low, high)


def some(missing: _Ints) -> _Ints | None:
    """Counts of missing values, or None where nothing is missing."""
    return frozen(missing) if missing.any() else None


def _dot(counts: Any, units: _Array) -> int:
    """Σ counts * units as a Python integer, never overflowing."""
    if isinstance(counts, list) or units.dtype == object:
        return sum(int(c) * int(u) for c, u in zip(counts, units, strict=True) if c)
    return int(np.dot(counts, units))  # counts < 2^31 in all, units < 2^32: fits int64


def _count(codes: _Array, counts: _Ints) -> None:
    from zeromean.kernels import integers

    _, features, inner = codes.shape
    if inner > 1:
        integers.count_planes(codes, counts)
    elif codes.itemsize == 1 and features <= 12:
        integers.count_bytes(codes.reshape(-1), features, counts)
    else:
        integers.count_rows(codes[:, :, 0], counts)


def _ordered(dtype: str, counts: _Ints) -> _Ints:
    """Counts by bit pattern as counts by bin."""
    if dtype == "bool":
        return np.ascontiguousarray(counts[:, :2])
    if dtype in ("int8", "int16"):
        return np.roll(counts, counts.shape[1] // 2, axis=1)
    if dtype in _ONE_NAN:
        counts[:, 0] += counts[:, 0x8000]
        total = counts[:, np.isnan(bin_values(dtype))].sum(axis=1)
        counts[:, unused_bins(dtype)] = 0
        counts[:, _ONE_NAN[dtype]] = total
    return counts


def unused_bins(dtype: str) -> npt.NDArray[np.bool_]:
    """Which bins stay empty: -0.0, counted as +0.0, and all bit patterns of NaN but one."""
    values = bin_values(dtype)
    unused: npt.NDArray[np.bool_] = np.isnan(values) | ((values == 0) & np.signbit(values))
    unused[_ONE_NAN.get(dtype, [])] = False
    return unused
