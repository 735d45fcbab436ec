"""CSV, Parquet and Arrow files as sources, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Item, Source
from zeromean.sources.arrow import ArrowTable, Field
from zeromean.sources.arrow_columns import class_named, class_names, fields_of
from zeromean.sources.arrow_files import DataFile, Outline, named, noted, opened_rows, outline, runs
from zeromean.sources.columns import ColumnBatch
from zeromean.sources.delimited import CsvFiles, Widened
from zeromean.sources.frames import (
    arrow_labels,
    check_fields,
    filled,
    is_columnwise,
    left_out,
    shards_of,
    without,
)

__all__ = ["TableFiles", "Widened", "is_table", "kind_of"]

_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq")
_BATCH_BYTES = 16 << 20


def kind_of(path: str) -> str:
    """What kind of table file a path names.

    Parameters
    ----------
    path : str

    Returns
    -------
    {"csv", "parquet", ""}
        Empty for other files.
    """
    name = path.lower()
    return "csv" if name.endswith(_CSV) else "parquet" if name.endswith(_PARQUET) else ""


def is_table(path: str) -> bool:
    """Whether a path names a CSV or Parquet file.

    Parameters
    ----------
    path : str

    Returns
    -------
    bool
    """
    return kind_of(path) != "" and not Path(path).is_dir()


class TableFiles(Source):
    """CSV, Parquet or Arrow files with the same columns as one source.

    Parameters
    ----------
    paths : sequence of Path or DataFile
        Of one kind.
    pattern : Pattern or None
        None for one number a column.
    limit : int, optional
        Only the first rows.
    name : str
        For messages.
    only : str
        Of all columns just this one.
    outlines : sequence of Outline
        Of Parquet and Arrow files, where they are known.
    told : tuple of str
        Warnings: what is probably not meant.

    Raises
    ------
    SourceError
        For files that are missing or damaged.
    PatternError
        For tables without numeric columns, and files whose columns differ.
    """

    def __init__(
        self,
        paths: Sequence[Path | DataFile],
        pattern: Pattern | None,
        limit: int | None = None,
        *,
        name: str = "",
        only: str = "",
        outlines: Sequence[Outline] = (),
        told: tuple[str, ...] = (),
    ) -> None:
        for path in paths:
            if isinstance(path, Path) and not path.exists():
                raise SourceError(f"{path}: there is no such file")
        self.limit, self._only, self._told, self._by = limit, only, told, ""
        self.name = name or ", ".join(path.name for path in paths)
        self.pattern = pattern or Pattern.parse(NAMED["feature"])
        self._columnwise = is_columnwise(self.pattern, False)
        self._csv: CsvFiles | None = None
        self.files: tuple[DataFile, ...] = ()
        plain = [path for path in paths if isinstance(path, Path)]
        if plain and kind_of(str(plain[0])) == "csv":
            self._csv, self.paths = CsvFiles(tuple(plain)), tuple(plain)
        else:
            self.files = tuple(
                DataFile(str(path), path.name, "parquet") if isinstance(path, Path) else path
                for path in paths
            )
            self._outlines = outlines or [_outline(file) for file in self.files]
            self._check_same()
        check_fields(self._fields, self.name)

    @property
    def _fields(self) -> list[Field]:
        fields = self._csv.fields if self._csv else _fields_of(self._outlines[0].schema, self._only)
        return without(fields, self._by, self.name) if self._by else fields

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
        check_fields(self._fields, self.name)
        if self._csv is not None:
            self._csv.by = column

    def expect(self, names: Sequence[str], dtypes: Sequence[str]) -> None:
        """Read the columns of CSV files as they were measured.

        Parameters
        ----------
        names, dtypes : sequence of str
        """
        if self._csv is not None:
            self._csv.expect(dict(zip(names, dtypes, strict=False)))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self._fields if field.dtype)

    @property
    def feature_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The numeric columns."""
        return self._names if self._columnwise else ()

    @property
    def left_out(self) -> list[str]:
        """The columns that hold no numbers, with their type."""
        return left_out(self._fields)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Columns that hold numbers, and something else."""
        return self._told if self._csv is None else self._csv.warnings

    def complete(self, record: Any) -> Any:
        """With the columns that hold no numbers, or not only."""
        rows = dict.fromkeys(self.left_out, max(1, record.items))
        record = replace(record, left_out=rows, warnings=self.warnings)
        return record if self._csv else noted(record, self._outlines)

    @property
    def n_items(self) -> int | None:
        """How many rows; None for CSV files."""
        if self._csv is not None:
            return None
        rows = sum(sum(own.rows) for own in self._outlines)
        return rows if self.limit is None else min(rows, self.limit)

    @property
    def n_bytes(self) -> int:
        """Size of the files."""
        if self._csv is not None:
            return sum(path.stat().st_size for path in self.paths)
        return sum(own.stamp[0] for own in self._outlines)

    def shards(self, cores: int | None = None) -> Iterator[Any]:
        """Blocks of a CSV file; row groups of the others.

        Raises
        ------
        Widened
            When a column needs a wider type than it had: begin again.
        """
        check_fields(self._fields, self.name)
        if self._csv is None and self.limit is None and self._columnwise:
            yield from self._row_groups()
            return
        left = self.limit
        for name, batch in self._batches():
            part = batch if left is None else batch.part(0, min(left, len(batch)))
            yield from shards_of(part, name, columnwise=self._columnwise, cores=cores)
            left = None if left is None else left - len(part)
            if left == 0:
                return

    def _batches(self) -> Iterator[tuple[str, ColumnBatch]]:
        if self._csv is None:
            for shard in self._row_groups():
                yield from ((item.name, item.array) for item in shard.items())
            return
        for path in self.paths:
            for batch in self._csv.batches(path):
                yield path.name, _columns(batch, self._names, path.name, self._by)

    def _row_groups(self) -> Iterator[RowGroups]:
        names = class_names(self._outlines[0].schema, self._by) if self._by else ()
        for file, own in zip(self.files, self._outlines, strict=True):
            for groups in list(runs(own)) or [range(0)]:
                rows = sum(own.rows[g] for g in groups)
                yield RowGroups(file, groups, self._names, rows, self._by, names)

    def _check_same(self) -> None:
        """Refuse a file whose numeric columns are not those of the first."""
        first, expected = self.files[0], _dtypes(self._outlines[0].schema, self._only)
        for file, own in zip(self.files, self._outlines, strict=True):
            if own.schema is self._outlines[0].schema:
                continue
            found = _dtypes(own.schema, self._only)
            for name, dtype in expected.items():
                if found.get(name) != dtype:
                    raise PatternError(
                        f"{file.where}: the column {name!r} is "
                        f"{found.get(name) or 'not one of numbers'}, but {dtype} in {first.name}; "
                        "convert it, or measure the files apart"
                    )
            if more := [name for name in found if name not in expected]:
                raise PatternError(f"{file.where}: {first.name} has no numeric column {more[0]!r}")


@dataclass(frozen=True, slots=True)
class RowGroups:
    """Row groups of a Parquet file, or batches of an Arrow file; picklable, read where measured.

    Attributes
    ----------
    file : DataFile
    groups : range
        Without any, an empty batch, so that the dtypes are known.
    names : tuple of str
        The columns to read.
    n_items : int
        How many rows.
    by : str
        The column that says the group of each row; empty for none.
    classes : tuple of str
        The names of the groups, where that column numbers them.
    """

    file: DataFile
    groups: range
    names: tuple[str, ...]
    n_items: int
    by: str = ""
    classes: tuple[str, ...] = ()

    def items(self) -> Iterator[Item]:
        """Some rows at a time."""
        read = (*self.names, *([self.by] if self.by else []))
        n_rows = max(1, _BATCH_BYTES // (8 * len(read)))
        with named(self.file), opened_rows(self.file) as held:
            none = True
            for group in self.groups:
                for batch in held.batches(group, read, n_rows):
                    none = False
                    yield self._item(batch)
            if none:
                yield self._item(empty_batch(held.schema, read))

    def _item(self, batch: Any) -> Item:
        name = self.file.name
        held = _columns(batch, self.names, name, self.by, self.classes)
        return Item(held, name, n_bytes=held.nbytes, batched=True, group=held.groups)


def _outline(file: DataFile) -> Outline:
    with named(file):
        return outline(file)


def _fields_of(schema: Any, only: str) -> list[Field]:
    fields = fields_of(schema)
    return [f if f.name == only or not only else Field(f.name, "", f.type) for f in fields]


def _dtypes(schema: Any, only: str) -> dict[str, str]:
    return {field.name: field.dtype for field in _fields_of(schema, only) if field.dtype}


# ---------------------------------------------------------------- Parquet


def opened_parquet(path: Path) -> Any:
    """A Parquet file whose metadata has been read."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError('Parquet files need pyarrow: pip install "zeromean[parquet]"') from None
    with reading(path):
        return parquet.ParquetFile(path, memory_map=True, page_checksum_verification=True)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in what PyArrow says."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: cannot be read as Parquet: {error}") from None


def empty_batch(schema: Any, names: Sequence[str]) -> Any:
    """A record batch without rows."""
    import pyarrow

    fields = [schema.field(name) for name in names]
    columns = [pyarrow.array([], field.type) for field in fields]
    return pyarrow.RecordBatch.from_arrays(columns, schema=pyarrow.schema(fields))


def _columns(
    batch: Any, names: Sequence[str], where: str, by: str | None, classes: Sequence[str] = ()
) -> ColumnBatch:
    """A record batch as columns, in order, and the group of each row."""
    (held,) = filled(ArrowTable(batch, where))
    if by:
        labels = arrow_labels(batch.column(by))
        if labels.dtype == object:  # CSV does not tell empty from missing
            labels = labels.copy()
            labels[labels == ""] = None
        elif classes and labels.dtype.kind in "iu":
            labels = np.array([class_named(label, classes) for label in labels.tolist()], object)
        held = held.grouped(by, labels)
    return held.ordered(names, where)
