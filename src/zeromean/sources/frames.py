"""Data frames as sources: pandas, polars, PyArrow, and whatever speaks the Arrow C stream.

The numeric and boolean columns are the features; the others are listed as left out. No library
is imported here: the objects bring their own methods.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Item, Source
from zeromean.sources.arrays import ItemShard, spread
from zeromean.sources.arrow import ArrowTable, Field
from zeromean.sources.columns import BufferColumn, ColumnBatch, few
from zeromean.sources.nullable import is_pandas, label_name, numeric_name, pandas_batch

_Array = npt.NDArray[Any]
_Bools = npt.NDArray[np.bool_]
_SMALLEST_VIEW, _LARGEST_VIEW = 4 << 20, 64 << 20
_PANDAS = ("pandas",)
GROUP = "group"  # instead of the type of a column that says the group of each row
_TABLES = ("DataFrame", "LazyFrame", "Series")


def is_frame(x: Any) -> bool:
    """Whether this is a data frame, a table, or a column of one; imports nothing.

    Parameters
    ----------
    x : anything

    Returns
    -------
    bool
    """
    kind = type(x)
    if kind.__module__.partition(".")[0] in (*_PANDAS, "polars", "narwhals"):
        return kind.__name__ in _TABLES or any(b.__name__ in _TABLES for b in kind.__mro__)
    if kind.__module__.startswith("PIL."):
        return False  # Pillow lends its pixels to Arrow too
    return hasattr(x, "__arrow_c_stream__") or hasattr(x, "__arrow_c_array__")


def unwrapped(frame: Any) -> Any:
    """What a Narwhals object is wrapped around."""
    return frame.to_native() if type(frame).__module__.startswith("narwhals") else frame


# ---------------------------------------------------------------- any frame


def opened_frame(frame: Any) -> tuple[list[Field], Iterable[ColumnBatch], bool]:
    """All columns of a frame, batches of the numeric ones, and whether it is but a column.

    Raises
    ------
    PatternError
        When two columns to be measured have one name, or there is none.
    """
    frame = unwrapped(frame)
    if is_pandas(frame):
        fields, batch = pandas_batch(frame)
        batches: Iterable[ColumnBatch] = [batch]
        single = batch.single
    else:
        table = ArrowTable(_numeric_part(frame), type(frame).__name__, index_of(frame))
        fields, batches, single = _fields(frame, table), filled(table), table.single
    check_fields(fields, type(frame).__name__)
    return fields, batches, single


def check_fields(fields: Sequence[Field], where: str) -> None:
    """Refuse a table without numbers, and names that are not one column's own."""
    names = [f.name for f in fields if f.dtype]
    if not names:
        held = ", ".join(f"{f.name} ({f.type})" for f in fields[:8]) or "none"
        raise PatternError(
            f"{where} has no numeric columns to measure; its columns are: {held}. Convert those "
            "that hold numbers first"
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise PatternError(f"{where} has several numeric columns named {few(twice)}; rename them")


def index_of(table: Any) -> tuple[str, ...]:
    """The columns of a PyArrow table, or of its schema, that were the index of a pandas frame."""
    if not type(table).__module__.startswith("pyarrow"):
        return ()
    schema = getattr(table, "schema", table)
    pandas = getattr(schema, "pandas_metadata", None) or {}
    return tuple(name for name in pandas.get("index_columns", ()) if isinstance(name, str))


def _numeric_part(frame: Any) -> Any:
    """A polars frame without its other columns, collected if it is lazy: none is converted."""
    if not type(frame).__module__.startswith("polars") or type(frame).__name__ == "Series":
        return frame
    numeric = [name for name, kind in frame.collect_schema().items() if _is_polars_number(kind)]
    part = frame.select(numeric)
    return part.collect() if type(part).__name__ == "LazyFrame" else part


def _is_polars_number(kind: Any) -> bool:
    text = str(kind)
    return numeric_name(text.lower()) != "" or text == "Boolean"


def _fields(frame: Any, table: ArrowTable) -> list[Field]:
    if not type(frame).__module__.startswith("polars") or type(frame).__name__ == "Series":
        return table.fields
    known = {field.name: field for field in table.fields}
    schema = frame.collect_schema()
    return [known.get(n, Field(n, "", polars_text(kind))) for n, kind in schema.items()]


def polars_text(kind: Any) -> str:
    """A polars dtype for messages, without its parameters."""
    return str(kind).split("(")[0].lower()


def filled(table: ArrowTable) -> Iterator[ColumnBatch]:
    """Batches; an empty one if there is none, so that the dtypes are known."""
    none = True
    for batch in table.batches():
        none = False
        yield batch
    if none:
        held = [f for f in table.fields if f.dtype]
        columns = tuple(BufferColumn(np.zeros(0, f.dtype)) for f in held)
        yield ColumnBatch(tuple(f.name for f in held), columns, 0, table.single)


class FrameSource(Source):
    """A data frame, or several with the same columns, as a source.

    Parameters
    ----------
    frames : iterable of frames
        Read once.
    pattern : Pattern or None
        None for one number a column.
    limit : int, optional
        Only that many rows, spread evenly; of several frames the first ones.
    n_items : int or None
        How many rows there are.

    Attributes
    ----------
    feature_names : tuple of str
    left_out : list of str
        The columns that hold no numbers, with their type.
    """

    def __init__(
        self,
        frames: Iterable[Any],
        pattern: Pattern | None,
        limit: int | None = None,
        n_items: int | None = None,
    ) -> None:
        self._frames = iter(frames)
        first = next(self._frames)
        self._fields, self._first, single = opened_frame(first)
        self.name = type(first).__name__
        self._names = tuple(f.name for f in self._fields if f.dtype)
        self.pattern = pattern or Pattern.parse("n ->" if single else NAMED["feature"])
        self.columnwise = is_columnwise(self.pattern, single)
        named = self.columnwise and self._names != ("",)
        self.feature_names = self._names if named else ()
        self._n_whole = self._n_items = n_items
        self.chosen: _Array | None = None
        self._by: str | None = None
        self._head = first
        self._limit = limit
        if limit is not None and n_items is not None:
            self._n_items = min(limit, n_items)
            self.chosen = np.array(spread(n_items, limit)) if limit < n_items else None

    @property
    def left_out(self) -> list[str]:
        """The columns that hold no numbers."""
        return left_out(self._fields)

    @property
    def n_items(self) -> int | None:
        """How many rows."""
        return self._n_items

    @property
    def n_whole(self) -> int | None:
        """How many rows without a limit."""
        return self._n_whole

    def complete(self, record: Any) -> Any:
        """With the columns that hold no numbers."""
        return replace(record, left_out=dict.fromkeys(self.left_out, max(1, record.items)))

    def shards(self, cores: int | None = None) -> Iterator[ItemShard]:
        """Views of some rows each, two or more for each core and none above 64 MB."""
        for batch in self._limited():
            yield from shards_of(batch, self.name, columnwise=self.columnwise, cores=cores)

    def _limited(self) -> Iterator[ColumnBatch]:
        begin = 0
        for batch in self._batches():
            end = begin + len(batch)
            if self.chosen is not None:
                own = self.chosen[(self.chosen >= begin) & (self.chosen < end)]
                yield batch.take(own - begin)
            elif self._limit is not None and end > self._limit:
                yield batch.part(0, self._limit - begin)
                return
            else:
                yield batch
            begin = end

    def group_by(self, column: str) -> None:
        """Take a column as the group of each row, and not as a feature.

        Parameters
        ----------
        column : str

        Raises
        ------
        PatternError
            When there is no such column.
        """
        self._by = column
        self._fields = without(self._fields, column, self.name)
        check_fields(self._fields, self.name)
        self._names = tuple(f.name for f in self._fields if f.dtype)
        self.feature_names = self._names if self.feature_names else ()

    def _batches(self) -> Iterator[ColumnBatch]:
        yield from self._grouped(self._head, self._first, self.name)
        for i, frame in enumerate(self._frames, 1):
            where = f"table {i}"
            if not is_frame(frame):
                raise PatternError(f"{where} is no data frame, but {type(frame).__name__}")
            yield from self._grouped(frame, opened_frame(frame)[1], where)

    def _grouped(
        self, frame: Any, batches: Iterable[ColumnBatch], where: str
    ) -> Iterator[ColumnBatch]:
        """Batches with the columns in order, and with the group of each row."""
        labels = None if self._by is None else labels_in(frame, self._by)
        at = 0
        for batch in batches:
            if self._by is not None and labels is not None:
                batch = batch.grouped(self._by, labels[at : at + len(batch)])
                at += len(batch)
            batch = batch.ordered(self._names, where)
            self._check_dtypes(batch, where)
            yield batch

    def _check_dtypes(self, batch: ColumnBatch, where: str) -> None:
        """Each frame's columns must have the dtypes of the first."""
        expected = {field.name: field.dtype for field in self._fields}
        for name, dtype in zip(batch.names, batch.dtypes, strict=True):
            if dtype != expected[name]:
                raise PatternError(
                    f"{where}: the column {name!r} is {dtype}, but it was {expected[name]} in the "
                    "first table; convert it to one dtype first"
                )


def is_columnwise(pattern: Pattern, single: bool) -> bool:
    """Whether a pattern keeps just the columns, so that each is measured in its own dtype."""
    if len(pattern.axes) != (1 if single else 2) or any(len(g) > 1 for g in pattern.axes):
        return False
    kept = () if single else pattern.axes[1]
    return pattern.kept == kept and ("...",) not in pattern.axes


def left_out(fields: Sequence[Field]) -> list[str]:
    """The columns that hold no numbers, with their type."""
    return [f"{f.name} ({f.type})" for f in fields if not f.dtype and f.type != GROUP]


def without(fields: Sequence[Field], column: str, where: str) -> list[Field]:
    """The fields when one column says the group of each row.

    Raises
    ------
    PatternError
        When there is no such column.
    """
    if column not in [field.name for field in fields]:
        held = few([field.name for field in fields])
        raise PatternError(f"by is {column!r}, but {where} has no such column; it has {held}")
    return [Field(f.name, "", GROUP) if f.name == column else f for f in fields]


def labels_in(frame: Any, column: str) -> _Array:
    """A column as labels.

    Raises
    ------
    PatternError
        For tables that cannot give it.
    """
    frame = unwrapped(frame)
    if is_pandas(frame):
        places = [i for i, label in enumerate(frame.columns) if label_name(label) == column]
        return np.asarray(frame.iloc[:, places[0]].to_numpy())
    home = type(frame).__module__.partition(".")[0]
    if home == "polars":
        part = frame.select(column)
        part = part.collect() if type(part).__name__ == "LazyFrame" else part
        return np.asarray(part.to_series().to_numpy())
    if home == "pyarrow" and hasattr(frame, "column"):
        return arrow_labels(frame.column(column))
    raise PatternError(f"cannot group a {type(frame).__name__} by a column; give by= the labels")


def arrow_labels(column: Any) -> _Array:
    """A PyArrow column as labels."""
    if hasattr(column.type, "value_type") and hasattr(column.type, "index_type"):
        column = column.cast(column.type.value_type)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def shards_of(
    batch: ColumnBatch, name: str, *, columnwise: bool = True, cores: int | None = None
) -> Iterator[ItemShard]:
    """Cut a batch into views; as arrays where columns are not kept apart."""
    wanted = batch.nbytes // (2 * (cores or os.cpu_count() or 1))
    wanted = min(max(wanted, _SMALLEST_VIEW), _LARGEST_VIEW)
    rows = max(1, len(batch) * wanted // max(batch.nbytes, 1))
    for begin in range(0, max(len(batch), 1), rows):
        part = batch.part(begin, min(begin + rows, len(batch)))
        held: Any = part if columnwise else part.stacked(name)
        item = Item(held, name, n_bytes=part.nbytes, batched=True, group=part.groups)
        yield ItemShard((item,))


def row_count(frame: Any) -> int | None:
    """How many rows a frame has, None when it does not know."""
    frame = unwrapped(frame)
    if type(frame).__name__ == "LazyFrame":
        return None
    for name in ("height", "num_rows"):
        if isinstance(getattr(frame, name, None), int):
            return int(getattr(frame, name))
    return len(frame) if hasattr(frame, "__len__") else None
