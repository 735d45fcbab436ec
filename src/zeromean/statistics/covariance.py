"""`Covariance`: Σxᵢxⱼ of all pairs of features; exact for integers, centered for floats."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError, PatternError
from zeromean.statistics.formats import as_planes, as_rows, check_dtype
from zeromean.statistics.scatter import BLOCK_ROWS, CenteredScatter, ExactScatter

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_UNIT = 2.0**-53
_COPIES = 6  # of the matrix: state, sum, block and rows while measuring; LAPACK's when whitening
_UNKNOWN_MEMORY = 8 << 30  # where the system does not tell
_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


@dataclass(frozen=True, slots=True, eq=False)
class Covariance:
    """How features vary together.

    Integers are exact: the law ``of(a joined to b) == of(a) + of(b)`` holds bit for bit, and a
    sum can be taken apart again. Floats are not (`exact` is False): they are centered block by
    block and merged with `error_bound`; blocks are merged in the order of the additions, and
    ``==`` compares bits.

    While rows take less memory than the matrix they are kept as they are, and multiplied when
    more have gathered: a few pictures of many features would else cost a matrix each.

    Attributes
    ----------
    dtype : str
    n_features : int
    state : ExactScatter, CenteredScatter or None
        Of the rows that have been multiplied; None if none have.
    waiting : tuple of ndarray
        Rows that have not, in order.

    Examples
    --------
    >>> x = np.array([[1, 10], [2, 30], [6, 20]], dtype=np.uint8)
    >>> Covariance.of(x).matrix(ddof=1)
    array([[  7.,   5.],
           [  5., 100.]])
    >>> Covariance.of(x[:1]) + Covariance.of(x[1:]) == Covariance.of(x)
    True
    """

    dtype: str
    n_features: int
    state: ExactScatter | CenteredScatter | None = None
    waiting: tuple[_Array, ...] = ()

    @classmethod
    def empty(cls, n_features: int, dtype: str) -> Self:
        """The covariance of no data."""
        return cls(dtype, n_features)

    @classmethod
    def of(cls, block: _Array) -> Self:
        """Multiply one block, or keep it for later if it is small.

        Parameters
        ----------
        block : ndarray, (n_samples, n_features) or (outer, n_features, inner)
            Any integer or float format up to 64 bits.
        """
        dtype = check_dtype(block.dtype)
        rows = as_rows(as_planes(block))
        gathered = cls(dtype, rows.shape[1], None, (rows,) if rows.size else ())
        if not gathered._many:  # the caller may write over them
            kept = tuple(rows.copy() for rows in gathered.waiting)
            return cls(dtype, gathered.n_features, None, kept)
        return gathered.settled()

    @property
    def _many(self) -> bool:
        """Whether the rows that wait take as much memory as the matrix."""
        size = sum(rows.nbytes for rows in self.waiting)
        return size > 0 and size >= 8 * self.n_features**2

    def settled(self) -> Self:
        """The same value, with all rows multiplied."""
        if self.state is not None and not self.waiting:
            return self
        kind = CenteredScatter if "float" in self.dtype else ExactScatter
        if not self.waiting:
            return type(self)(self.dtype, self.n_features, kind.empty(self.n_features))
        rows = self.waiting[0] if len(self.waiting) == 1 else np.concatenate(self.waiting)
        state: Any = kind.of(rows)
        if self.state is not None:
            state = self.state + state
        return type(self)(self.dtype, self.n_features, state)

    def less(self, left_out: int) -> Self:
        """The same, with so many more rows that were left out.

        Parameters
        ----------
        left_out : int
        """
        if not left_out:
            return self
        state: Any = self.scatter
        state = replace(state, left_out=state.left_out + left_out)
        return type(self)(self.dtype, self.n_features, state)

    def __add__(self, other: Covariance) -> Self:
        self._like(other)
        mine, theirs = self, other
        if mine.waiting and theirs.state is not None:  # the order of rows is kept
            mine = mine.settled()
        states: list[Any] = [s for s in (mine.state, theirs.state) if s is not None]
        state = states[0] + states[1] if len(states) == 2 else states[0] if states else None
        waiting = (*mine.waiting, *theirs.waiting)
        both = type(self)(self.dtype, self.n_features, state, waiting)
        return both.settled() if both._many else both

    def __sub__(self, other: Covariance) -> Self:
        self._like(other)
        rest: Any = self.scatter - other.scatter  # type: ignore[operator]
        return type(self)(self.dtype, self.n_features, rest)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Covariance)
            and (self.dtype, self.n_features) == (other.dtype, other.n_features)
            and self.scatter == other.scatter
        )

    __hash__ = None  # type: ignore[assignment]

    def _like(self, other: object) -> None:
        if not isinstance(other, Covariance):
            raise MergeError(f"cannot combine a covariance with {type(other).__name__}")
        if (self.dtype, self.n_features) != (other.dtype, other.n_features):
            raise MergeError(
                f"cannot combine covariances of {self.dtype} x {self.n_features} features "
                f"and {other.dtype} x {other.n_features}"
            )

    # ------------------------------------------------------------ read-outs

    @property
    def scatter(self) -> ExactScatter | CenteredScatter:
        """The state of all rows."""
        state = self.settled().state
        assert state is not None
        return state

    @property
    def exact(self) -> bool:
        """Whether the laws hold bit for bit."""
        return "float" not in self.dtype

    @property
    def n(self) -> int:
        """Rows that were taken."""
        return self.scatter.n

    @property
    def left_out(self) -> int:
        """Rows with a NaN or an infinity in any feature; they are not in `n`."""
        return self.scatter.left_out

    def means(self) -> _Floats:
        """Mean of every feature over the rows that were taken, NaN without rows."""
        return self.scatter.means()

    def matrix(self, ddof: int = 0) -> _Floats:
        """The covariance matrix, (n_features, n_features); NaN where n <= ddof.

        Parameters
        ----------
        ddof : int
            0 for the covariance of these rows, 1 to estimate that of a population.
        """
        scatter = self.scatter
        if scatter.n <= ddof:
            return np.full((self.n_features, self.n_features), np.nan)
        return scatter.covariance(ddof)

    @property
    def error_bound(self) -> float:
        """How far entry (i, j) may be from the exact one, in units of √(cᵢᵢ cⱼⱼ).

        Summing a block of b centered products in any order errs by (b + 2) u of the sum of their
        magnitudes (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., 3.1), which
        Cauchy and Schwarz bound by √(sᵢᵢ sⱼⱼ); centering adds 3 u, and each merge 8 u of what is
        there. It holds while |mean| / std is below 1e12.
        """
        state = self.scatter
        if isinstance(state, ExactScatter):
            return _UNIT
        return (min(state.n, BLOCK_ROWS) + 8 * state.blocks + 8) * _UNIT


def joint_dtype(dtypes: Sequence[str]) -> str:
    """The dtype in which columns of several are multiplied: exact unless one of them is a float,
    or uint64 and signed columns stand side by side, which no integer format holds.

    Parameters
    ----------
    dtypes : sequence of str

    Returns
    -------
    str

    Examples
    --------
    >>> joint_dtype(["uint8", "int32"]), joint_dtype(["uint8", "float32"]), joint_dtype(["int8"])
    ('int64', 'float64', 'int8')
    """
    kinds = set(dtypes)
    if len(kinds) == 1:
        return dtypes[0]
    if any("float" in name for name in kinds):
        return "float64"
    if "uint64" not in kinds:
        return "int64"
    return "uint64" if all(name[0] in "ub" for name in kinds) else "float64"


def of_columns(columns: Sequence[tuple[_Array, Any]], dtypes: Sequence[str]) -> Covariance:
    """The covariance of some rows of a table; a row with a missing entry is left out.

    Parameters
    ----------
    columns : sequence of (ndarray, ndarray of bool or None)
        Values of each column, of one length, and where they are missing.
    dtypes : sequence of str

    Returns
    -------
    Covariance
    """
    dtype = joint_dtype(dtypes)
    total, left_out = Covariance.empty(len(columns), dtype), 0
    length = len(columns[0][0])
    step = max(BLOCK_ROWS, (1 << 20) // len(columns) // BLOCK_ROWS * BLOCK_ROWS)
    for begin in range(0, length, step):
        part = slice(begin, begin + step)
        rows = np.stack([values[part].astype(dtype) for values, _ in columns], axis=1)
        complete = np.ones(len(rows), np.bool_)
        for _, missing in columns:
            if missing is not None:
                complete &= ~missing[part]
        left_out += len(rows) - int(complete.sum())
        total += Covariance.of(rows[complete])
    return total.less(left_out)


def check_memory(n_features: int) -> None:
    """Refuse a covariance that this machine cannot hold, before any work is done.

    Parameters
    ----------
    n_features : int

    Raises
    ------
    PatternError
        With the memory it would need, and what to do instead.
    """
    needed, there = _COPIES * 8 * n_features**2, memory_size()
    if needed > there:
        raise PatternError(
            f"a covariance of {n_features:,} features needs about {_size(needed)} of memory, and "
            f"there are {_size(there)}: keep fewer features, such as the channels "
            "('n h w c -> c'), cut the data into patches, or make the pictures smaller"
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.3g} GB" if n_bytes < 1e11 else f"{n_bytes / 1e9:,.0f} GB"


@cache
def memory_size() -> int:
    """Bytes of memory that this machine, or its container, has; 8 GB where it does not tell."""
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN_MEMORY
    try:
        return min(size, int(_GROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return size
