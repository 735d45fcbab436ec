"""`Moments`: exact count, Σx and Σx²."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError
from zeromean.statistics.extrema import Extrema
from zeromean.statistics.formats import (
    UNIT_EXPONENT,
    PowerSums,
    as_planes,
    as_rows,
    check_dtype,
    exact,
    exact_difference,
    exact_sum,
    frozen,
)
from zeromean.statistics.running import RunningMoments

_Array = npt.NDArray[Any]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Exact count, Σx and Σx² of the finite values, feature by feature; the rest is counted.

    Attributes
    ----------
    dtype : str
    n : ndarray of int64, (n_features,)
    sums, squares : ndarray of int64 or Python integers, (n_features,)
        In units of 2**UNIT_EXPONENT[dtype] and its square.
    special : ndarray of int64, (n_features, 3)
        Counts of NaN, +inf and -inf.

    Examples
    --------
    >>> m = Moments.of(np.array([[1e300], [1.0], [-1e300]]))
    >>> int(m.sums[0]) >> 1074
    1
    """

    dtype: str
    n: _Ints
    sums: _Array
    squares: _Array
    special: _Ints

    @classmethod
    def empty(cls, n_features: int, dtype: str) -> Self:
        """The moments of no data."""
        zeros = exact([0] * n_features)
        n = frozen(np.zeros(n_features, np.int64))
        return cls(dtype, n, zeros, zeros, frozen(np.zeros((n_features, 3), np.int64)))

    @classmethod
    def of(cls, block: _Array) -> Self:
        """Sum one block exactly.

        Parameters
        ----------
        block : ndarray, (n_samples, n_features) or (outer, n_features, inner)
            Any integer or float format up to 64 bits.
        """
        return cls.with_extrema(block)[0]

    @classmethod
    def with_extrema(cls, block: _Array) -> tuple[Self, Extrema]:
        """Sum one block and find its extrema in the same pass."""
        dtype = check_dtype(block.dtype)
        planes = as_planes(block)
        n_features = planes.shape[1]
        if planes.size == 0:
            return cls.empty(n_features, dtype), Extrema.empty(n_features, dtype)
        if dtype in ("float16", "bfloat16", "float32", "float64"):
            return cls._of_floats(planes, dtype)
        return cls._of_integers(as_rows(planes), dtype)

    @classmethod
    def _of_floats(cls, planes: _Array, dtype: str) -> tuple[Self, Extrema]:
        if planes.dtype.itemsize < 4:
            planes = planes.astype(np.float32)
        running = RunningMoments(planes.shape[1], planes.dtype.name)
        running.add(planes)
        return cls.of_running(running, dtype), running.extrema()

    @classmethod
    def of_running(cls, running: RunningMoments, dtype: str = "") -> Self:
        """What running sums hold, as a value.

        Parameters
        ----------
        running : RunningMoments
        dtype : str
            Another format of which every sum is a multiple of the unit; the running one's unless
            given.
        """
        dtype = dtype or running.dtype
        sums, special = running.read()
        shift = sums.exponent - UNIT_EXPONENT[dtype]
        first, second = (
            exact([v << k if k >= 0 else v >> -k for v in values.tolist()])
            for values, k in ((sums.sums, shift), (sums.squares, 2 * shift))
        )
        return cls(dtype, sums.n, first, second, special)

    @classmethod
    def _of_integers(cls, rows: _Array, dtype: str) -> tuple[Self, Extrema]:
        sums, squares = _sum_integers(rows)
        n_features = rows.shape[1]
        n = frozen(np.full(n_features, len(rows), np.int64))
        special = frozen(np.zeros((n_features, 3), np.int64))
        extrema = Extrema.between(rows.min(axis=0), rows.max(axis=0))
        return cls(dtype, n, exact(sums), exact(squares), special), extrema

    def __add__(self, other: Moments) -> Self:
        self._like(other)
        sums = exact_sum(self.sums, other.sums)
        squares = exact_sum(self.squares, other.squares)
        return self._new(self.n + other.n, sums, squares, self.special + other.special)

    def __sub__(self, other: Moments) -> Self:
        self._like(other)
        n, special = self.n - other.n, self.special - other.special
        squares = exact_difference(self.squares, other.squares)
        sums = exact_difference(self.sums, other.sums)
        if (n < 0).any() or (special < 0).any() or not possible(n, sums, squares):
            raise MergeError("cannot subtract moments of data that these do not hold")
        return self._new(n, sums, squares, special)

    def _new(self, n: _Ints, sums: _Array, squares: _Array, special: _Ints) -> Self:
        cls = type(self)
        return cls(self.dtype, frozen(n), sums, squares, frozen(special))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Moments)
            and self.dtype == other.dtype
            and np.array_equal(self.n, other.n)
            and np.array_equal(self.special, other.special)
            and np.array_equal(self.sums, other.sums)
            and np.array_equal(self.squares, other.squares)
        )

    __hash__ = None  # type: ignore[assignment]

    def _like(self, other: object) -> None:
        if not isinstance(other, Moments):
            raise MergeError(f"cannot combine moments with {type(other).__name__}")
        if (self.dtype, len(self.n)) != (other.dtype, len(other.n)):
            raise MergeError(
                f"cannot combine moments of {self.dtype} x {len(self.n)} features "
                f"and {other.dtype} x {len(other.n)}"
            )

    @property
    def n_features(self) -> int:
        """How many features."""
        return len(self.n)

    @property
    def power_sums(self) -> PowerSums:
        """The sums, as `Histogram` gives them too."""
        return PowerSums(self.n, self.sums, self.squares, UNIT_EXPONENT[self.dtype])


def possible(n: _Ints, sums: _Array, squares: _Array) -> bool:
    """Whether there can be n numbers with these power sums (Cauchy and Schwarz)."""
    return all(
        k * q >= s * s and (k > 0 or q == 0)
        for k, s, q in zip(n.tolist(), sums.tolist(), squares.tolist(), strict=True)
    )


def _sum_integers(rows: _Array) -> tuple[list[int], list[int]]:
    """Exact Σx and Σx² of integer columns."""
    from zeromean.kernels import integers

    features = rows.shape[1]
    if rows.itemsize <= 2:
        s, q = np.zeros(features, np.int64), np.zeros(features, np.int64)
        integers.sum_small(rows.view(np.uint8) if rows.dtype == bool else rows, s, q)
        return s.tolist(), q.tolist()
    halves = np.zeros((features, 10), np.uint64)
    step = max(1, (1 << 17) // features)
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        negative = part < 0
        magnitude = part.astype(np.uint64)
        np.negative(magnitude, out=magnitude, where=negative)  # modulo 2^64: right for the lowest
        integers.sum_wide(magnitude, negative, halves)
    sums, squares = [], []
    for h in halves.tolist():
        sums.append(h[0] + (h[1] << 32) - h[2] - (h[3] << 32))
        low, mixed, high = (h[i] + (h[i + 1] << 32) for i in (4, 6, 8))
        squares.append(low + (mixed << 33) + (high << 64))
    return sums, squares
