"""Variables with the same axes as the columns of one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zeromean.errors import PatternError
from zeromean.sources.blocks import Reading, Values
from zeromean.sources.columns import BufferColumn, ColumnBatch
from zeromean.sources.cutting import Box, Layout


def alike(axes: Sequence[tuple[tuple[str, ...], tuple[int, ...]]]) -> bool:
    """Whether all variables have the same named axes, and the same lengths.

    Parameters
    ----------
    axes : sequence of (names, shape)
    """
    return bool(axes[0][0]) and len(set(axes)) == 1


@dataclass(frozen=True)
class Together:
    """Several arrays of one shape, each of which becomes a column.

    Attributes
    ----------
    name : str
    variables : tuple of (str, BlockArray)
    """

    name: str
    variables: tuple[tuple[str, Any], ...]
    dims: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name, _ in self.variables)

    def like(self, first: Together) -> Together:
        """The same with the columns in the order of another table.

        Raises
        ------
        PatternError
            When that has other columns, or dtypes.
        """
        held = dict(self.variables)
        if set(held) != set(first.columns):
            raise PatternError(
                f"{self.name} holds {', '.join(held)}, and {first.name} "
                f"{', '.join(first.columns)}; name one variable, or give files with the same ones"
            )
        for name, other in first.variables:
            own, known = (array.layout.dtype.name for array in (held[name], other))
            if own != known:
                raise PatternError(
                    f"{self.name}: {name} is {own}, but {known} in {first.name}; convert it, or "
                    "measure the files apart"
                )
        return Together(self.name, tuple((name, held[name]) for name in first.columns))

    @property
    def layout(self) -> Layout:
        """That of the first, with room for all in each value."""
        first: Layout = self.variables[0][1].layout
        size = sum(array.layout.dtype.itemsize for _, array in self.variables)
        return Layout(first.shape, np.dtype((np.void, size)), first.chunks)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to the values of each."""
        return tuple(f"{name}: {note}" for name, array in self.variables for note in array.notes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of all."""
        return tuple(text for _, array in self.variables for text in array.warnings)

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What reads a box of each."""
        held = tuple((name, array.reading(box, rows)) for name, array in self.variables)
        return TogetherReading(held)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """Those of all."""
        return tuple(n for _, array in self.variables for n in array.stamp(box))


@dataclass(frozen=True)
class TogetherReading:
    """Reads a box of several arrays, and lays their values out as columns."""

    held: tuple[tuple[str, Any], ...]

    def __call__(self) -> Values:
        """Read them."""
        columns = []
        for _, reading in self.held:
            array, missing = reading()
            flat = np.ravel(array)
            valid = None if missing is None else ~np.ravel(np.broadcast_to(missing, array.shape))
            columns.append(
                BufferColumn(flat.astype(flat.dtype.newbyteorder("="), copy=False), valid)
            )
        names = tuple(name for name, _ in self.held)
        lengths = {len(column.values) for column in columns}  # type: ignore[arg-type]
        if len(lengths) > 1:
            raise PatternError(f"{', '.join(names)} have different lengths")
        return Values(ColumnBatch(names, tuple(columns), lengths.pop()))

    def stamp(self) -> tuple[int, ...]:
        """Those of all."""
        return tuple(n for _, reading in self.held for n in reading.stamp())
