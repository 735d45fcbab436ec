"""Columns of a table as plain buffers: numbers, and which of them are there.

A batch holds columns of one length and any dtypes, so nothing is converted to bring them
together. Columns are views; what must be unpacked (bits, nullable columns) is unpacked piece by
piece, where it is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError

_Array = npt.NDArray[Any]
_Bools = npt.NDArray[np.bool_]
_FEW = 6


class Column(Protocol):
    """A column of numbers."""

    @property
    def dtype(self) -> str:
        """Of its values."""

    @property
    def nbytes(self) -> int:
        """Its size."""

    def part(self, begin: int, end: int) -> Column:
        """Some of its rows, without a copy."""

    def take(self, rows: _Array) -> Column:
        """Single rows, copied."""

    def arrays(self) -> tuple[_Array, _Bools | None]:
        """Values, and where they are missing; None where nothing is."""


@dataclass(frozen=True, slots=True)
class Bits:
    """Booleans packed as Arrow packs them: eight to a byte, the lowest bit first.

    Attributes
    ----------
    buffer : ndarray of uint8
    begin, length : int
        Of the bits that count.
    """

    buffer: npt.NDArray[np.uint8]
    begin: int
    length: int

    def part(self, begin: int, end: int) -> Bits:
        """Some of them, without a copy."""
        return Bits(self.buffer, self.begin + begin, end - begin)

    def unpacked(self) -> _Bools:
        """One byte each."""
        first, last = self.begin // 8, (self.begin + self.length + 7) // 8
        bits = np.unpackbits(self.buffer[first:last], bitorder="little")
        return bits[self.begin - 8 * first :][: self.length].view(np.bool_)


@dataclass(frozen=True, slots=True)
class BufferColumn:
    """A column whose values lie in memory.

    Attributes
    ----------
    values : ndarray, (n,), or Bits
    valid : ndarray of bool, Bits, or None
        Where there is a value; None for everywhere.
    """

    values: _Array | Bits
    valid: _Bools | Bits | None = None

    @property
    def dtype(self) -> str:
        """Of its values."""
        return "bool" if isinstance(self.values, Bits) else dtype_name(self.values.dtype)

    @property
    def nbytes(self) -> int:
        """Size of its values."""
        return self.values.length if isinstance(self.values, Bits) else self.values.nbytes

    def part(self, begin: int, end: int) -> BufferColumn:
        """Some of its rows, without a copy."""

        def cut(held: Any) -> Any:
            if held is None:
                return None
            return held.part(begin, end) if isinstance(held, Bits) else held[begin:end]

        return BufferColumn(cut(self.values), cut(self.valid))

    def take(self, rows: _Array) -> BufferColumn:
        """Single rows, copied."""
        values, missing = self.arrays()
        return BufferColumn(values[rows], None if missing is None else ~missing[rows])

    def arrays(self) -> tuple[_Array, _Bools | None]:
        """Values, and where they are missing."""
        values, valid = (
            held.unpacked() if isinstance(held, Bits) else held
            for held in (self.values, self.valid)
        )
        assert values is not None
        if valid is None or valid.all():
            return values, None
        return values, ~valid


@dataclass(frozen=True, slots=True)
class ColumnBatch:
    """Rows of a table, column by column.

    Attributes
    ----------
    names : tuple of str
    columns : tuple of Column
    length : int
        How many rows.
    single : bool
        Whether it is one column by itself and not a table with one column.
    groups : ndarray, (length,), or None
        The group of each row.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    length: int
    single: bool = False
    groups: Any = None

    def __len__(self) -> int:
        return self.length

    @property
    def dtypes(self) -> tuple[str, ...]:
        """One for each column."""
        return tuple(column.dtype for column in self.columns)

    @property
    def nbytes(self) -> int:
        """Size of the values."""
        return sum(column.nbytes for column in self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array it would have this shape."""
        return (self.length,) if self.single else (self.length, len(self.columns))

    def part(self, begin: int, end: int) -> ColumnBatch:
        """Some of the rows, without a copy."""
        cut = tuple(column.part(begin, end) for column in self.columns)
        groups = None if self.groups is None else self.groups[begin:end]
        return replace(self, columns=cut, length=end - begin, groups=groups)

    def take(self, rows: _Array) -> ColumnBatch:
        """Single rows, copied."""
        taken = tuple(column.take(rows) for column in self.columns)
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, columns=taken, length=len(rows), groups=groups)

    def grouped(self, column: str, groups: Any) -> ColumnBatch:
        """The same with the group of each row, without the column that says it."""
        pairs = [(n, c) for n, c in zip(self.names, self.columns, strict=True) if n != column]
        names, columns = tuple(n for n, _ in pairs), tuple(c for _, c in pairs)
        return replace(self, names=names, columns=columns, groups=groups)

    def ordered(self, names: Sequence[str], where: str) -> ColumnBatch:
        """The columns in the order of these names.

        Raises
        ------
        PatternError
            When there are others.
        """
        if self.names == tuple(names):
            return self
        places = {name: i for i, name in enumerate(self.names)}
        lacking = [name for name in names if name not in places]
        extra = [name for name in self.names if name not in set(names)]
        if lacking or extra:
            parts = [f"lacks {few(lacking)}"] * bool(lacking) + [f"has {few(extra)}"] * bool(extra)
            raise PatternError(
                f"{where} {' and '.join(parts)}, unlike the first table: their numeric columns "
                "must have the same names"
            )
        columns = tuple(self.columns[places[name]] for name in names)
        return replace(self, names=tuple(names), columns=columns)

    def stacked(self, where: str) -> _Array:
        """One array of all columns, copied.

        Raises
        ------
        PatternError
            When dtypes differ or values are missing.
        """
        if len(set(self.dtypes)) > 1:
            raise PatternError(
                f"{where} holds {', '.join(dict.fromkeys(self.dtypes))} columns, which only the "
                "pattern 'n d -> d' keeps apart; convert them to one dtype"
            )
        pairs = [column.arrays() for column in self.columns]
        gaps = [n for n, (_, m) in zip(self.names, pairs, strict=True) if m is not None]
        if gaps:
            raise PatternError(
                f"{where} has missing values in {few(gaps)}, which only the pattern 'n d -> d' "
                "counts; fill them first"
            )
        return pairs[0][0] if self.single else np.stack([values for values, _ in pairs], axis=1)


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """Name of a dtype; NumPy makes it anew each time, which is slow for thousands of columns."""
    return dtype.name


def few(names: Sequence[str]) -> str:
    """Some names for a message."""
    shown = ", ".join(repr(name) for name in names[:_FEW])
    return shown + (f", ... ({len(names)} in all)" if len(names) > _FEW else "")
