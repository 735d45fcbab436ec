"""Data arrays and data sets of xarray, in memory, lazy, or of Dask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zeromean.errors import SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Source
from zeromean.sources.block_sources import Blocks
from zeromean.sources.blocks import Reading, Values, picked, slices
from zeromean.sources.contents import Found, one_of, what_it_holds
from zeromean.sources.cutting import Box, Layout
from zeromean.sources.dask_arrays import DaskArray, of_dask
from zeromean.sources.together import Together, alike


def open_object(source: Any, pattern: Pattern | None, options: Any) -> Source:
    """Open a DataArray or Variable, or the variable of a Dataset that the key names.

    Without a key and a pattern, the variables of a Dataset that share their axes become the columns
    of a table.

    Parameters
    ----------
    source : xarray.DataArray, xarray.Variable or xarray.Dataset
    pattern : Pattern or None
    options : Options

    Raises
    ------
    SourceError
        When there is no such variable, or several and none is named.
    """
    if hasattr(source, "data_vars"):
        if not hasattr(source, "dims") or hasattr(source, "subtree"):
            raise SourceError("a DataTree holds several data sets; give one: tree['name'].dataset")
        return _of_dataset(source, pattern, options)
    variable = getattr(source, "variable", source)
    return _of_variable(variable, str(getattr(source, "name", None) or "x"), pattern, options)


def _of_dataset(dataset: Any, pattern: Pattern | None, options: Any) -> Source:
    held = {str(name): dataset[name].variable for name in dataset.variables}
    found = [_found(name, variable, name in dataset.coords) for name, variable in held.items()]
    numbers = [one.name for one in found if not one.holds]
    axes = [(held[name].dims, held[name].shape) for name in numbers]
    if not options.key and pattern is None and len(numbers) > 1 and alike(axes):
        columns = tuple((name, _array(held[name], name)) for name in numbers)
        return Blocks([Together("data set", columns)], pattern, "data set", options.limit)
    name = one_of(found, "data set", options.key).name
    return _of_variable(held[name], name, pattern, options)


def _found(name: str, variable: Any, coordinate: bool) -> Found:
    holds = what_it_holds(variable.dtype, variable.shape)
    refused = bool(holds)
    if coordinate and not holds:
        holds = "coordinates"
    return Found(name, variable.shape, variable.dtype, holds, refused)


def _of_variable(variable: Any, name: str, pattern: Pattern | None, options: Any) -> Source:
    holds = what_it_holds(variable.dtype, variable.shape)
    if holds:
        raise SourceError(f"{name} holds {holds}, not an array of numbers")
    if variable.chunks is not None:
        return of_dask(variable.data, pattern, options, name, _dims(variable))
    return Blocks([_array(variable, name)], pattern, name, options.limit)


def _array(variable: Any, name: str) -> Any:
    if variable.chunks is not None:
        return DaskArray(variable.data, name, _dims(variable))
    return XarrayVariable(name, variable)


def _dims(variable: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in variable.dims)


@dataclass(frozen=True)
class XarrayVariable:
    """A variable of xarray, as a `zeromean.sources.blocks.BlockArray`.

    Attributes
    ----------
    name : str
    variable : xarray.Variable
    """

    name: str
    variable: Any
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of its axes."""
        return _dims(self.variable)

    @property
    def layout(self) -> Layout:
        """With the chunks that it has where it is stored, if it is not in memory."""
        chunks = self.variable.encoding.get("chunksizes") or self.variable.encoding.get("chunks")
        in_memory = getattr(self.variable, "_in_memory", True)
        fitting = not in_memory and chunks and len(chunks) == self.variable.ndim
        shape, dtype = self.variable.shape, self.variable.dtype
        return Layout(shape, dtype, tuple(map(int, chunks)) if fitting else None)

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What reads a box."""
        return XarrayReading(self.variable[slices(box)], rows)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """None."""
        return ()


@dataclass(frozen=True)
class XarrayReading:
    """Reads a part of a variable that was cut out already, and of which nothing was read."""

    part: Any
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Read it."""
        return Values(picked(np.asarray(self.part.values), self.rows))

    def stamp(self) -> tuple[int, ...]:
        """None."""
        return ()
