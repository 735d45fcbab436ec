"""`RunningMoments`: adds blocks of floats to exact sums in place, with next to no cost per call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError, PatternError
from zeromean.statistics.extrema import Extrema
from zeromean.statistics.formats import PowerSums, as_planes, as_rows, frozen, read_only

_Array = npt.NDArray[Any]
_Ints = npt.NDArray[np.int64]

_CARRY_ROWS = 1 << 24  # each row adds at most a few times 2^32 to a limb
_LANES = 64  # full vectors: fewer features than that are folded to about so many
_SHORT = 1 << 14  # rows below which it costs less to turn the block than to go column by column
_PIECE = 1 << 19  # values that a thread takes at a time
_LEAST = 1 << 11  # rows of a piece: each call looks at 128 of them beforehand


class RunningMoments:
    """Running exact Σx and Σx² of float32 or float64 blocks, with extrema; mutable.

    What `Moments` is for values, this is for loops: it keeps its limbs between calls. The state
    depends on the values that were added alone, not on their order, blocks or threads.

    Parameters
    ----------
    n_features : int
    dtype : {"float32", "float64"}

    Attributes
    ----------
    n_features : int
    dtype : str
    rows : int
        Samples added so far, NaN included.
    low, high : ndarray of dtype, (n_features,)
        Smallest and largest finite value; +inf and -inf before there is one.

    Examples
    --------
    >>> running = RunningMoments(2, "float64")
    >>> running.add(np.array([[1e300, 1.0], [1.0, 2.0]]))
    >>> running.add(np.array([[-1e300, np.nan]]))
    >>> sums = running.power_sums
    >>> [s * 2**sums.exponent for s in sums.sums.tolist()], sums.n
    ([1, 3], array([3, 2]))
    """

    def __init__(self, n_features: int, dtype: str) -> None:
        if dtype not in ("float32", "float64"):
            raise PatternError(f"running sums take float32 or float64, not {dtype}")
        self.n_features, self.dtype, self.rows = n_features, dtype, 0
        self._lanes = _Lanes(n_features, dtype)
        self._fold = max(1, _LANES // max(n_features, 1))
        self._wide = _Lanes(n_features * self._fold, dtype) if self._fold > 1 else None

    # ------------------------------------------------------------ adding

    def add(self, block: _Array, *, workers: int = 1) -> None:
        """Add a block of this dtype.

        Parameters
        ----------
        block : ndarray, (n_samples, n_features) or (outer, n_features, inner)
            Any strides and byte order.
        workers : int
            Threads.

        Raises
        ------
        PatternError
            For another dtype or number of features.
        """
        if block.ndim < 2 or not self._takes(block.dtype) or block.shape[1] != self.n_features:
            raise PatternError(
                f"expected a block of {self.dtype} x {self.n_features} features, "
                f"not {block.dtype.name} of shape {block.shape}"
            )
        if block.size == 0:
            return
        if workers > 1 and block.size > 2 * _PIECE:
            self._add_parallel(block, workers)
        elif block.ndim == 2 and block.flags.c_contiguous and block.dtype.isnative:
            self.rows += len(block)
            self._add_rows(block)
        else:
            self._add_planes(as_planes(block))

    def _add_planes(self, planes: _Array) -> None:
        outer, _, inner = planes.shape
        self.rows += outer * inner
        if inner > 1 and outer * inner < _SHORT:
            planes = as_rows(planes)[:, :, None]
        if planes.shape[2] == 1:
            self._add_rows(planes[:, :, 0])
        else:
            self._add_columns(planes)

    def _takes(self, dtype: np.dtype[Any]) -> bool:
        own = self._lanes.low.dtype
        return dtype is own or dtype.newbyteorder("=") == own

    def _add_parallel(self, block: _Array, workers: int) -> None:
        """Threads take pieces of rows in turn; all but the first add to sums of their own."""
        step = max(_LEAST, _PIECE // (block.size // len(block)))
        pieces = iter(range(0, len(block), step))

        def work(part: RunningMoments) -> None:
            for begin in pieces:
                part.add(block[begin : begin + step])

        others = [RunningMoments(self.n_features, self.dtype) for _ in range(workers - 1)]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, [self, *others]))
        for part in others:
            self += part

    def _add_rows(self, rows: _Array) -> None:
        whole = 0
        if self._wide is not None:
            whole = len(rows) - len(rows) % (self._fold * 4)
            self._wide.add(rows[:whole].reshape(-1, self._wide.count))
        self._lanes.add(rows[whole:] if whole else rows)

    def _add_columns(self, planes: _Array) -> None:
        """Features that lie in long runs: each is folded to full vectors."""
        step = max(1, (1 << 18) // planes.shape[2])
        for j in range(self.n_features):
            column = RunningMoments(1, self.dtype)
            for begin in range(0, len(planes), step):
                run = np.ascontiguousarray(planes[begin : begin + step, j])
                column._add_rows(run.reshape(-1, 1))
            self._lanes.take(column._folded(), slice(j, j + 1))

    def __iadd__(self, other: RunningMoments) -> Self:
        if (self.n_features, self.dtype) != (other.n_features, other.dtype):
            raise MergeError(
                f"cannot add running sums of {other.dtype} x {other.n_features} features "
                f"to {self.dtype} x {self.n_features}"
            )
        self._lanes.take(other._folded(), slice(0, self.n_features))
        self.rows += other.rows
        return self

    def add_finite(self, block: _Array, *, workers: int = 1) -> bool:
        """Add a block unless it holds infinities; nothing changes then.

        Nobody looks for them beforehand: that would cost another pass over the data.

        Parameters
        ----------
        block, workers
            As for `add`.

        Returns
        -------
        bool
            Whether it was added.
        """
        before, low, high = self.infinities, self.low, self.high
        self.add(block, workers=workers)
        if self.infinities == before:
            return True
        taken = RunningMoments(self.n_features, self.dtype)
        taken.add(block, workers=workers)
        self._lanes.take(taken._folded(), slice(0, self.n_features), -1)
        self.rows -= taken.rows
        for lanes in filter(None, (self._lanes, self._wide)):
            lanes.low[:], lanes.high[:] = np.inf, -np.inf
        self._lanes.low[:], self._lanes.high[:] = low, high
        return False

    def add_entries(self, values: _Array, columns: _Array, rows: int) -> None:
        """Add the entries of a sparse matrix; all its other values are zero.

        Parameters
        ----------
        values : ndarray of float64, (n_entries,)
        columns : ndarray of integers, (n_entries,)
        rows : int
            Samples of the matrix.
        """
        from zeromean.kernels import entries

        lanes = self._lanes
        where = np.ascontiguousarray(columns, np.int64)
        state = lanes.sums, lanes.squares, lanes.low, lanes.high, lanes.special
        for begin in range(0, len(values), _CARRY_ROWS):
            part = slice(begin, begin + _CARRY_ROWS)
            lanes.make_room(_CARRY_ROWS)
            numbers = read_only(np.ascontiguousarray(values[part], self.dtype))
            entries.sum_entries(numbers, read_only(where[part]), *state, lanes.grid)
        zeros = np.bincount(where, minlength=self.n_features) < rows
        np.minimum(lanes.low, 0, out=lanes.low, where=zeros)
        np.maximum(lanes.high, 0, out=lanes.high, where=zeros)
        self.rows += rows

    # ------------------------------------------------------------ reading

    @property
    def infinities(self) -> int:
        """How many values were infinite."""
        return self._lanes.infinities + (0 if self._wide is None else self._wide.infinities)

    @property
    def low(self) -> _Array:
        """Smallest finite value of each feature, +inf before there is one."""
        if self._wide is None:
            return self._lanes.low.copy()
        wide = self._wide.low.reshape(self._fold, -1).min(axis=0)
        return np.asarray(np.minimum(self._lanes.low, wide))

    @property
    def high(self) -> _Array:
        """Largest finite value of each feature, -inf before there is one."""
        if self._wide is None:
            return self._lanes.high.copy()
        wide = self._wide.high.reshape(self._fold, -1).max(axis=0)
        return np.asarray(np.maximum(self._lanes.high, wide))

    @property
    def power_sums(self) -> PowerSums:
        """Counts and exact sums, on a unit that makes the integers short."""
        return self.read()[0]

    def read(self) -> tuple[PowerSums, _Ints]:
        """The power sums, and the counts of NaN, +inf and -inf of shape (n_features, 3)."""
        total = self._folded()
        sums, squares = (_trimmed(limbs) for limbs in (total.sums, total.squares))
        first = total.grid[0] + 32 * sums[1], total.grid[2] + 32 * squares[1]
        exponent = min(first[0], first[1] >> 1)
        shifts = first[0] - exponent, first[1] - 2 * exponent
        first_power, second = _objects(sums[0], shifts[0]), _objects(squares[0], shifts[1])
        n = frozen(self.rows - total.special.sum(axis=0))
        return PowerSums(n, first_power, second, exponent), frozen(
            np.ascontiguousarray(total.special.T)
        )

    def extrema(self) -> Extrema:
        """Smallest and largest finite values."""
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        none = low > high
        low[none] = high[none] = np.nan
        return Extrema.between(low, high)

    def _folded(self) -> _Lanes:
        """Everything in one lane per feature, carried; a copy, so that readers may be many."""
        total = self._lanes.carried()
        if self._wide is not None:
            total.take(self._wide, slice(0, self.n_features))
            total.carry()
        return total


class _Lanes:
    """Limbs, extrema and counts of so many lanes; a feature is one lane or a few."""

    def __init__(self, count: int, dtype: str) -> None:
        from zeromean.kernels import floats

        narrow = dtype == "float32"
        self._kernels = floats
        self._add: Any = floats.sum_float32 if narrow else floats.sum_float64
        self._units = floats.UNITS32 if narrow else floats.UNITS64
        self.grid = floats.FLOAT32_GRID if narrow else floats.FLOAT64_GRID
        self.count, self._added = count, 0  # rows since the last carry
        self.sums = np.zeros((count, self.grid[1]), np.int64)
        self.squares = np.zeros((count, self.grid[3]), np.int64)
        self.low = np.full(count, np.inf, dtype)
        self.high = np.full(count, -np.inf, dtype)
        self.special = np.zeros((3, count), np.int64)

    def add(self, rows: _Array) -> None:
        """Add rows of one value per lane, C order."""
        for begin in range(0, len(rows), _CARRY_ROWS):
            part = read_only(rows[begin : begin + _CARRY_ROWS])
            self.make_room(len(part))
            left = np.zeros((len(part) // self._kernels.ROWS + 1, self.count), np.bool_)
            if self._add(part, self.sums, self.squares, self.low, self.high, self.special, left):
                self._kernels.sum_wide(
                    part, left, self.sums, self.squares, self.special, self.grid, self._units
                )

    def take(self, other: _Lanes, where: slice, sign: int = 1) -> None:
        """Add (or with sign -1 subtract) sums to some of these: carried ones, or folded ones."""
        self.make_room(1)
        width = where.stop - where.start
        self.sums[where] += sign * self._fold(other.sums, width)
        self.squares[where] += sign * self._fold(other.squares, width)
        self.special[:, where] += sign * other.special.reshape(3, -1, width).sum(axis=1)
        low, high = other.low.reshape(-1, width).min(axis=0), other.high.reshape(-1, width)
        self.low[where] = np.minimum(self.low[where], low)
        self.high[where] = np.maximum(self.high[where], high.max(axis=0))

    def carried(self) -> _Lanes:
        """A carried copy of the sums and counts."""
        other = copy(self)
        other.sums, other.squares = self.sums.copy(), self.squares.copy()
        other.special, other.low, other.high = (
            self.special.copy(),
            self.low.copy(),
            self.high.copy(),
        )
        other.carry()
        return other

    def _fold(self, limbs: _Ints, width: int) -> _Ints:
        """Limbs of folded lanes added up, carried before so that they cannot overflow."""
        if len(limbs) == width:
            return limbs
        limbs = limbs.copy()
        self._kernels.carry(limbs)
        total: _Ints = limbs.reshape(-1, width, limbs.shape[1]).sum(axis=0)
        return total

    def make_room(self, rows: int) -> None:
        """Carry before so many rows if they could overflow a limb."""
        self._added += rows
        if self._added > _CARRY_ROWS:
            self.carry()
            self._added = rows

    def carry(self) -> None:
        """Bring all limbs but the last below 2^32."""
        self._kernels.carry(self.sums)
        self._kernels.carry(self.squares)

    @property
    def infinities(self) -> int:
        """How many values were infinite."""
        return int(np.add.reduce(self.special[1:], axis=None))


def _trimmed(limbs: _Ints) -> tuple[list[int], int]:
    """Carried limbs as Python integers without the lowest limbs that all are zero, and how many."""
    used = limbs.any(axis=0)
    first = int(used.argmax()) if used.any() else 0
    return integers_of(limbs[:, first:]), first


def integers_of(limbs: _Ints) -> list[int]:
    """Carried limbs, the lowest first, as Python integers; the last one carries the sign."""
    digits = np.ascontiguousarray(limbs.astype("<u4"))  # the top one is 0 or -1
    size = digits.shape[1] * 4
    raw = digits.tobytes()
    return [
        int.from_bytes(raw[i : i + size], "little", signed=True) for i in range(0, len(raw), size)
    ]


def _objects(values: list[int], shift: int) -> _Array:
    array = np.empty(len(values), object)
    array[:] = [v << shift for v in values] if shift else values
    return frozen(array)
