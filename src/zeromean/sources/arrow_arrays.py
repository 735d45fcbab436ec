"""Columns of lists and tensors in Parquet and Arrow files, as arrays for `measure`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.pattern import Pattern
from zeromean.sources import Item, Source
from zeromean.sources.arrays import likely_pattern
from zeromean.sources.arrow_columns import (
    at_path,
    class_named,
    class_names,
    found_at,
    is_list,
    is_number,
    leaf,
    plain,
    unwrapped,
)
from zeromean.sources.arrow_files import DataFile, Outline, named, noted, opened_rows, runs
from zeromean.sources.columns import few

_Array = npt.NDArray[Any]
_BATCH_BYTES = 8 << 20


def n_axes(kind: Any) -> int:
    """How many axes the values of a type have.

    Parameters
    ----------
    kind : pyarrow.DataType
    """
    if _is_tensor(kind):
        return len(kind.shape)
    kind, count = unwrapped(kind), 0
    while is_list(kind):
        kind, count = unwrapped(kind.value_type), count + 1
    return count


def _is_tensor(kind: Any) -> bool:
    return hasattr(kind, "permutation") and hasattr(kind, "dim_names")


def stacked(values: Any) -> _Array | None:
    """The values of a column as one array, None when they are of unequal shapes.

    Parameters
    ----------
    values : pyarrow.Array
        Without missing ones.

    Returns
    -------
    ndarray or None
        With the rows in front. Missing floats inside are NaN; other missing numbers give None.
    """
    import pyarrow.compute as pc

    kind = values.type
    if _is_tensor(kind):
        flat = _numbers(values.storage.flatten())
        return None if flat is None else _turned(flat, len(values), kind)
    shape = [len(values)]
    while is_list(unwrapped(values.type)):
        values = getattr(values, "storage", values)
        ends = pc.min_max(pc.list_value_length(values)).as_py()
        if values.null_count or ends["min"] != ends["max"]:
            return None
        shape.append(ends["max"] or 0)
        values = values.flatten()
    flat = _numbers(getattr(values, "storage", values))
    return None if flat is None else flat.reshape(shape)


def _turned(flat: _Array, n: int, kind: Any) -> _Array:
    """Tensors with their axes in logical order."""
    array = flat.reshape(n, *kind.shape)
    if kind.permutation is None:
        return array
    return np.ascontiguousarray(array.transpose(0, *(axis + 1 for axis in kind.permutation)))


def _numbers(values: Any) -> _Array | None:
    from pyarrow import types

    if values.null_count and not types.is_floating(values.type):
        return None
    array: _Array = values.to_numpy(zero_copy_only=False)
    return array


@dataclass(frozen=True, slots=True)
class ArrayReading:
    """How rows of a column become items; picklable.

    Attributes
    ----------
    path : tuple of str
        Of the column.
    pattern : Pattern
    by : str or None
        The column that says the group of each row.
    names : tuple of str
        Of the groups, where that column numbers them.
    """

    path: tuple[str, ...]
    pattern: Pattern
    by: str | None = None
    names: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that must be read."""
        return (".".join(self.path), *([] if self.by is None else [self.by]))

    def items(self, batch: Any, name: str, numbers: Sequence[int]) -> Iterator[Item]:
        """The rows of a record batch or a table, together if they are of one shape.

        Parameters
        ----------
        batch : pyarrow.RecordBatch or pyarrow.Table
        name : str
            Of the file.
        numbers : sequence of int
            Of the rows in it.
        """
        values = _in_one(at_path(batch, self.path))
        there = np.asarray(values.is_valid())
        labels = self._labels(batch)
        for row in np.flatnonzero(~there).tolist():
            yield Item(None, f"{name}[{numbers[row]}]", "no array")
        if not there.any():
            return
        present = np.flatnonzero(there)
        array = stacked(values.drop_null() if len(present) < len(values) else values)
        if array is not None and self._fits(array, name):
            group = None if labels is None else labels[present]
            yield Item(array, name, n_bytes=array.nbytes, batched=True, group=group)
            return
        for row in present.tolist():
            group = None if labels is None else labels[row]
            yield self._one(values.slice(row, 1), f"{name}[{numbers[row]}]", group)

    def _labels(self, batch: Any) -> Any:
        if self.by is None:
            return None
        held = [class_named(plain(v), self.names) for v in at_path(batch, (self.by,))]
        labels = np.empty(len(held), object)
        labels[:] = held
        return labels

    def _fits(self, array: _Array, name: str) -> bool:
        """Whether the pattern's first axis is that of the rows; else it is one inside of each."""
        try:
            complete = self.pattern.complete(array.shape)
        except PatternError as error:
            if array.ndim > 1 and len(self.pattern.axes) == array.ndim - 1:
                return False
            raise PatternError(f"{name}: {error}") from None
        if complete and self.pattern.unit(array.shape) == 1:
            return True
        raise PatternError(
            f"{name}: rows are read a few at a time, each one sample, but the pattern "
            f"{str(self.pattern)!r} needs several together; load the column as an array"
        )

    def _one(self, value: Any, name: str, group: Any) -> Item:
        """One row whose shape is not that of the others, or that misses numbers."""
        array = stacked(value)
        if array is None:
            return Item(None, name, "an array with missing numbers, or of rows of unequal lengths")
        n_bytes, axes = array.nbytes, self.pattern.axes
        if len(axes) == array.ndim - 1 and ("...",) not in axes:  # its first axis is one inside
            return Item(array[0], name, n_bytes=n_bytes, batched=True, group=group, n_items=1)
        return Item(array, name, n_bytes=n_bytes, batched=True, group=_each(group))


def _each(group: Any) -> Any:
    if group is None:
        return None
    held = np.empty(1, object)
    held[0] = group
    return held


def _in_one(column: Any) -> Any:
    """A column as one array; a chunked one of a table is small here."""
    if not hasattr(column, "combine_chunks") or not hasattr(column, "num_chunks"):
        return column
    combined = column.combine_chunks()
    return combined.chunk(0) if hasattr(combined, "num_chunks") else combined


@dataclass(frozen=True, slots=True)
class ArrayShard:
    """Row groups of a file; picklable, and read where they are measured.

    Attributes
    ----------
    file : DataFile
    reading : ArrayReading
    groups : range
    first : int
        The number of their first row in the file.
    n_items : int
        How many rows; fewer than there are with a limit.
    n_rows : int
        To read at a time.
    """

    file: DataFile
    reading: ArrayReading
    groups: range
    first: int
    n_items: int
    n_rows: int

    def items(self) -> Iterator[Item]:
        """Some rows at a time."""
        at = 0
        with named(self.file), opened_rows(self.file) as held:
            for group in self.groups:
                for batch in held.batches(group, self.reading.read, self.n_rows):
                    part = batch.slice(0, self.n_items - at)
                    numbers = range(self.first + at, self.first + at + len(part))
                    yield from self.reading.items(part, self.file.name, numbers)
                    at += len(part)
                    if at >= self.n_items:
                        return


class ArrayRows(Source):
    """A column of arrays, each row a sample.

    Parameters
    ----------
    files : sequence of DataFile
    outlines : sequence of Outline
    path : tuple of str
        Of the column.
    name : str
        For messages.
    pattern : Pattern or None
        None for the likely one.
    limit : int, optional
        Only the first rows.

    Attributes
    ----------
    warnings : tuple of str
        What is probably not meant.

    Raises
    ------
    PatternError
        When a file has no such column or one of another type, and without a pattern for arrays of
        more than one axis.
    """

    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        files: Sequence[DataFile],
        outlines: Sequence[Outline],
        path: tuple[str, ...],
        *,
        name: str,
        pattern: Pattern | None,
        limit: int | None = None,
    ) -> None:
        self.name, self.files, self.limit = name, tuple(files), limit
        self._outlines = tuple(outlines)
        self._check(path)
        self.pattern = pattern or likely_pattern(self._shape(path))
        self._reading = ArrayReading(path, self.pattern)

    def _check(self, path: tuple[str, ...]) -> None:
        """Refuse files whose column holds other numbers, or other numbers of axes."""
        key = ".".join(path)
        first: tuple[str, int] | None = None
        for file, outline in zip(self.files, self._outlines, strict=True):
            _, kind = found_at(outline.schema, key, file.where)
            own = (str(leaf(kind)), n_axes(kind)) if is_number(leaf(kind)) else (str(kind), -1)
            if first is not None and own != first:
                raise PatternError(
                    f"{file.where}: the column {key!r} holds {kind}, but arrays of {first[0]} with "
                    f"{first[1]} axes in {self.files[0].name}; convert it, or measure the files "
                    "apart"
                )
            first = own

    def _shape(self, path: tuple[str, ...]) -> tuple[int, ...]:
        """Of a batch, as the first value has it."""
        for shard in self._shards(ArrayReading(path, Pattern.parse("n ... ->")), 1):
            for item in shard.items():
                if item.array is not None:
                    array = item.array
                    return array.shape if item.batched else (1, *array.shape)
        _, kind = found_at(self._outlines[0].schema, ".".join(path), self.name)
        return (0,) * (1 + n_axes(kind))

    @property
    def n_whole(self) -> int:
        """How many rows there are without a limit."""
        return sum(sum(outline.rows) for outline in self._outlines)

    @property
    def n_items(self) -> int:
        """How many rows will be read."""
        return self.n_whole if self.limit is None else min(self.n_whole, self.limit)

    @property
    def n_bytes(self) -> int:
        """Size of the row groups."""
        return sum(sum(outline.sizes) for outline in self._outlines)

    def group_by(self, column: str) -> None:
        """Take a column as the group of each row.

        Parameters
        ----------
        column : str

        Raises
        ------
        PatternError
            When there is no such column.
        """
        check_column(self.files, self._outlines, column)
        names = class_names(self._outlines[0].schema, column)
        self._reading = replace(self._reading, by=column, names=names)

    def complete(self, record: Any) -> Any:
        """With files whose pages have no checksums."""
        return noted(replace(record, warnings=self.warnings), self._outlines)

    def shards(self, cores: int | None = None) -> Iterator[ArrayShard]:
        """Row groups, small ones together."""
        return self._shards(self._reading, self.limit)

    def _shards(self, reading: ArrayReading, left: int | None) -> Iterator[ArrayShard]:
        for file, outline in zip(self.files, self._outlines, strict=True):
            first = 0
            for groups in runs(outline):
                rows = sum(outline.rows[g] for g in groups)
                size = sum(outline.sizes[g] for g in groups) // max(1, rows)
                taken = rows if left is None else min(rows, left)
                n_rows = max(1, min(1 << 16, _BATCH_BYTES // max(1, size)))
                if taken:
                    yield ArrayShard(file, reading, groups, first, taken, n_rows)
                first += rows
                left = None if left is None else left - taken
                if left == 0:
                    return


def check_column(files: Sequence[DataFile], outlines: Sequence[Any], column: str) -> None:
    """Refuse a column for groups that a sound file does not have.

    Raises
    ------
    PatternError
        With the columns that it has.
    """
    for file, outline in zip(files, outlines, strict=True):
        if isinstance(outline, Outline) and column not in outline.schema.names:
            held = few(outline.schema.names)
            raise PatternError(
                f"by is {column!r}, but {file.name} has no such column; it has {held}"
            )
