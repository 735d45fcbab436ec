"""Data sets of Hugging Face's `datasets`, in memory or streamed; that library is not imported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Source
from zeromean.sources.arrays import ItemShard, is_picture, likely_pattern, spread
from zeromean.sources.arrow_arrays import ArrayReading
from zeromean.sources.arrow_columns import (
    PictureColumn,
    array_columns,
    chosen_column,
    class_named,
    class_names,
    default_column,
    fields_of,
    is_nested,
    only,
    picture_columns,
    plain,
    present_values,
)
from zeromean.sources.arrow_datasets import DatasetRows
from zeromean.sources.arrow_encoded import (
    NOTHING,
    SMALL_PICTURE,
    Decoding,
    Encoded,
    EncodedShard,
    in_shards,
)
from zeromean.sources.columns import ColumnBatch, few
from zeromean.sources.frames import FrameSource, left_out
from zeromean.sources.images import ImageReader

_PICTURES = 64  # rows that are taken at a time, of pictures, arrays and numbers
_ARRAYS = 256
_NUMBERS = 10_000


def open_object(source: Any, pattern: Pattern | None, options: Any) -> Source:
    """Open a data set: its pictures, the arrays that the key names, or its numeric columns.

    Parameters
    ----------
    source : datasets.Dataset, IterableDataset, or a column of one
    pattern : Pattern or None
    options : Options

    Raises
    ------
    PatternError
        For a dictionary of data sets; when several columns could be meant, or none can.
    """
    kinds = {base.__name__ for base in type(source).__mro__}
    if kinds & {"DatasetDict", "IterableDatasetDict"}:
        names = list(source)
        raise PatternError(
            f"a {type(source).__name__} holds the data sets {few(names)}; give one of them, such "
            f"as data[{(names or ['train'])[0]!r}]"
        )
    if kinds & {"Column", "IterableColumn"}:
        key = ".".join(filter(None, (source.column_name, options.key)))
        return open_object(source.source, pattern, replace(options, key=key))
    if not kinds & {"Dataset", "IterableDataset"}:
        raise PatternError(
            f"cannot measure {type(source).__name__}; give a Dataset or an IterableDataset"
        )
    rows = DatasetRows(source, options.key)
    if rows.untyped and (pictures := rows.pictures_of_first(options.key)):
        name = only(pictures, "pictures", rows.name)
        return _pictures(rows, PictureColumn((name,), False), pattern, options)
    return _opened(rows, pattern, options)


def _pictures(
    rows: DatasetRows, column: PictureColumn, pattern: Pattern | None, options: Any
) -> DatasetPictures:
    reader = ImageReader(options.colors, options.group or "")
    return DatasetPictures(rows, column, pattern, reader, options.limit)


def _opened(rows: DatasetRows, pattern: Pattern | None, options: Any) -> Source:
    """A data set whose columns are known."""
    column = _column(rows, pattern, options.key)
    if isinstance(column, PictureColumn):
        return _pictures(rows, column, pattern, options)
    if column and (len(column) > 1 or column[0] in array_columns(rows.schema)):
        return DatasetArrays(rows, column, pattern, options.limit)
    return DatasetTable(rows, column, pattern, options.limit)


def _column(
    rows: DatasetRows, pattern: Pattern | None, key: str
) -> PictureColumn | tuple[str, ...]:
    if key:
        return chosen_column(rows.schema, key, rows.name)

    def look(column: PictureColumn) -> Iterator[tuple[Any, Any]]:
        for _, table in rows.blocks(column.path[:1], 8):
            yield from present_values(column, table)

    found = {column.name: column for column in picture_columns(rows.schema, look)}
    if found:
        return found[only(list(found), "pictures", rows.name)]
    return default_column(rows.schema, pattern, rows.name)


class _DatasetSource(Source):
    """What sources of a data set have in common.

    Parameters
    ----------
    rows : DatasetRows
    limit : int, optional
        Only that many rows, spread evenly; the first ones of a stream.
    """

    def __init__(self, rows: DatasetRows, limit: int | None) -> None:
        self.name, self._rows, self.limit = rows.name, rows, limit
        self._by: str | None = None
        self._names: tuple[str, ...] = ()
        self.chosen: Sequence[int] | None = None
        if limit is not None and (rows.n_rows is None or limit < rows.n_rows):
            self.chosen = range(limit) if rows.n_rows is None else spread(rows.n_rows, limit)

    @property
    def n_whole(self) -> int | None:
        """How many rows there are without a limit; None for a stream."""
        return self._rows.n_rows

    @property
    def n_items(self) -> int | None:
        """How many rows will be read; None for a stream."""
        if self._rows.n_rows is None:
            return None
        return self._rows.n_rows if self.chosen is None else len(self.chosen)

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
        names = self._rows.names
        if column not in names:
            raise PatternError(
                f"by is {column!r}, but {self.name} has no such column; it has {few(names)}"
            )
        self._by = column
        self._names = () if self._rows.untyped else class_names(self._rows.schema, column)

    def _blocks(self, column: str, n_rows: int) -> Iterator[tuple[Sequence[int], Any]]:
        columns = dict.fromkeys((column, *([] if self._by is None else [self._by])))
        return self._rows.blocks(columns, n_rows, self.chosen)


class DatasetPictures(_DatasetSource):
    """A column of pictures of a data set, decoded from the bytes that it holds.

    Parameters
    ----------
    rows : DatasetRows
    column : PictureColumn
    pattern : Pattern or None
        None for one number a channel.
    reader : ImageReader
    limit : int, optional
    """

    def __init__(
        self,
        rows: DatasetRows,
        column: PictureColumn,
        pattern: Pattern | None,
        reader: ImageReader,
        limit: int | None,
    ) -> None:
        super().__init__(rows, limit)
        self.pattern = pattern or Pattern.parse(NAMED["channel"])
        self._column, self._decoding = column, Decoding(reader)

    @cached_property
    def small_files(self) -> bool:  # type: ignore[override]
        """Whether threads would only get in each other's way; not asked of a stream."""
        if self._rows.n_rows is None:
            return False
        first = [row for row in islice(self._encoded(8), 8) if not row.reason]
        sizes = [len(row.data) if row.data is not None else _size_of(row.path) for row in first]
        return bool(sizes) and sum(sizes) < SMALL_PICTURE * len(sizes)

    def shards(self, cores: int | None = None) -> Iterator[EncodedShard]:
        """Some pictures each, not yet decoded."""
        rows = self._encoded(_PICTURES) if self._rows.n_rows is not None else self._streamed()
        return in_shards(rows, self._decoding)

    def _encoded(self, n_rows: int) -> Iterator[Encoded]:
        for numbers, table in self._blocks(self._column.path[0], n_rows):
            data, paths = self._column.values(table)
            labels = None if self._by is None else table.column(self._by)
            for i, number in enumerate(numbers):
                path = None if paths is None else plain(paths[i])
                label = None if labels is None else plain(labels[i])
                yield self._row(number, data[i].as_py(), path, label)

    def _streamed(self) -> Iterator[Encoded]:
        for i, (value, label) in enumerate(
            self._rows.examples(self._column.path, self._by, self.limit)
        ):
            if is_picture(value):
                group = class_named(label, self._names)
                yield Encoded(f"{self.name}[{i}]", group=group, image=value)
            elif isinstance(value, dict):
                yield self._row(i, value.get("bytes"), value.get("path"), label)
            else:
                yield self._row(i, value if isinstance(value, bytes) else None, None, label)

    def _row(self, number: int, data: bytes | None, path: str | None, label: Any) -> Encoded:
        reason = NOTHING if data is None and not path else ""
        group = class_named(label, self._names)
        return Encoded(f"{self.name}[{number}]", data, path or "", reason, group=group)


def _size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return SMALL_PICTURE


class DatasetArrays(_DatasetSource):
    """A column of arrays of a data set.

    Parameters
    ----------
    rows : DatasetRows
    path : tuple of str
        Of the column.
    pattern : Pattern or None
        None for the likely one.
    limit : int, optional
    """

    def __init__(
        self, rows: DatasetRows, path: tuple[str, ...], pattern: Pattern | None, limit: int | None
    ) -> None:
        super().__init__(rows, limit)
        self._path = path
        self.pattern = pattern or likely_pattern(self._shape())

    def _shape(self) -> tuple[int, ...]:
        """Of a batch, as the first value has it."""
        reading = ArrayReading(self._path, Pattern.parse("n ... ->"))
        for _, table in self._blocks(self._path[0], 1):
            for item in reading.items(table, self.name, range(1)):
                if item.array is not None:
                    array = item.array
                    return array.shape if item.batched else (1, *array.shape)
        raise SourceError(f"{self.name} has no array in the column {'.'.join(self._path)!r}")

    def shards(self, cores: int | None = None) -> Iterator[ItemShard]:
        """Some rows each."""
        reading = ArrayReading(self._path, self.pattern, self._by, self._names)
        for numbers, table in self._blocks(self._path[0], _ARRAYS):
            yield ItemShard(tuple(reading.items(table, self.name, numbers)))


class DatasetTable(FrameSource):
    """The numeric columns of a data set.

    Parameters
    ----------
    rows : DatasetRows
    column : tuple of str
        The only one that is wanted; empty for all.
    pattern : Pattern or None
        None for one number a column.
    limit : int, optional
        Only that many rows, spread evenly; the first ones of a stream.
    """

    def __init__(
        self, rows: DatasetRows, column: tuple[str, ...], pattern: Pattern | None, limit: int | None
    ) -> None:
        flat = [field.name for field in rows.schema if not is_nested(field.type)]
        self._columns = list(column) or flat
        self._schema = rows.schema
        self._classes: tuple[str, ...] = ()
        super().__init__(self._tables(rows), pattern, limit, rows.n_rows)
        self.name = rows.name

    def _tables(self, rows: DatasetRows) -> Iterator[Any]:
        none = True
        for _, table in rows.blocks(self._columns, _NUMBERS):
            none = False
            yield table.combine_chunks()  # of shuffled rows each is one
        if none:
            yield rows.schema.empty_table().select(self._columns)

    @property
    def left_out(self) -> list[str]:
        """The columns that hold no numbers, and those that were not read."""
        fields = fields_of(self._schema)
        measured = {*self._names, self._by}
        held = [replace(f, dtype="") for f in fields if f.name not in measured]
        return left_out(held)

    def group_by(self, column: str) -> None:
        """As of any table; numbers of classes become their names.

        Parameters
        ----------
        column : str
        """
        super().group_by(column)
        self._classes = class_names(self._schema, column)

    def _grouped(
        self, frame: Any, batches: Iterable[ColumnBatch], where: str
    ) -> Iterator[ColumnBatch]:
        for batch in super()._grouped(frame, batches, where):
            labels = batch.groups
            if labels is not None and self._classes and labels.dtype.kind in "iu":
                named = [class_named(label, self._classes) for label in labels.tolist()]
                yield replace(batch, groups=np.array(named, object))
            else:
                yield batch
