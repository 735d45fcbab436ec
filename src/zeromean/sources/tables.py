"""CSV and Parquet files as sources, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Item, Source
from zeromean.sources.arrow import ArrowTable, Field
from zeromean.sources.columns import ColumnBatch
from zeromean.sources.delimited import CsvFiles, Widened
from zeromean.sources.frames import (
    arrow_labels,
    check_fields,
    filled,
    index_of,
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
    """CSV or Parquet files with the same columns as one source.

    Parameters
    ----------
    paths : sequence of Path
        Of one kind.
    pattern : Pattern or None
        None for one number a column.
    limit : int, optional
        Only the first rows.

    Raises
    ------
    SourceError
        For files that are missing or damaged.
    PatternError
        For tables without numeric columns.
    """

    def __init__(
        self, paths: Sequence[Path], pattern: Pattern | None, limit: int | None = None
    ) -> None:
        for path in paths:
            if not path.exists():
                raise SourceError(f"{path}: there is no such file")
        self.paths, self.limit = tuple(paths), limit
        self.name = ", ".join(path.name for path in paths)
        self.pattern = pattern or Pattern.parse(NAMED["feature"])
        self._columnwise = is_columnwise(self.pattern, False)
        self._csv = CsvFiles(self.paths) if kind_of(str(paths[0])) == "csv" else None
        self._parquet = [] if self._csv else [opened_parquet(path) for path in self.paths]
        self._by: str | None = None
        check_fields(self._fields, self.name)

    @property
    def _fields(self) -> list[Field]:
        fields = _fields_of(self._parquet[0]) if self._csv is None else self._csv.fields
        return fields if self._by is None else without(fields, self._by, self.name)

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
        return () if self._csv is None else self._csv.warnings

    def complete(self, record: Any) -> Any:
        """With the columns that hold no numbers, or not only."""
        rows = dict.fromkeys(self.left_out, max(1, record.items))
        return replace(record, left_out=rows, warnings=self.warnings)

    @property
    def n_items(self) -> int | None:
        """How many rows; None for CSV files."""
        if self._csv is not None:
            return None
        rows: int = sum(file.metadata.num_rows for file in self._parquet)
        return rows if self.limit is None else min(rows, self.limit)

    @property
    def n_bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.paths)

    def shards(self, cores: int | None = None) -> Iterator[Any]:
        """Blocks of a CSV file; row groups of a Parquet file.

        Raises
        ------
        Widened
            When a column needs a wider type than it had: begin again.
        PatternError
            When a file has other columns than the first one.
        """
        check_fields(self._fields, self.name)
        if self._csv is None and self.limit is None and self._columnwise:
            yield from self._row_groups()
            return
        left = self.limit
        for path, batch in self._batches():
            part = batch if left is None else batch.part(0, min(left, len(batch)))
            yield from shards_of(part, path.name, columnwise=self._columnwise, cores=cores)
            left = None if left is None else left - len(part)
            if left == 0:
                return

    def _batches(self) -> Iterator[tuple[Path, ColumnBatch]]:
        names = self._names
        for path in self.paths:
            read = (*names, *([] if self._by is None else [self._by]))
            held = self._csv.batches(path) if self._csv else _record_batches(path, read)
            for batch in held:
                yield path, _columns(batch, names, path.name, self._by)

    def _row_groups(self) -> Iterator[RowGroup]:
        expected = _dtypes(self._parquet[0])
        for path, file in zip(self.paths, self._parquet, strict=True):
            _check_same(path, _dtypes(file), self.paths[0], expected)
            for group in range(max(1, file.num_row_groups)):
                rows = file.metadata.row_group(group).num_rows if file.num_row_groups else 0
                yield RowGroup(str(path), group, self._names, rows, self._by)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a Parquet file; picklable, and read where it is measured.

    Attributes
    ----------
    path : str
    group : int
    names : tuple of str
        The columns to read.
    n_items : int
        How many rows.
    by : str or None
        The column that says the group of each row.
    """

    path: str
    group: int
    names: tuple[str, ...]
    n_items: int
    by: str | None = None

    def items(self) -> Iterator[Item]:
        """Some rows at a time."""
        path = Path(self.path)
        read = (*self.names, *([] if self.by is None else [self.by]))
        for batch in _record_batches(path, read, self.group):
            held: Any = _columns(batch, self.names, path.name, self.by)
            yield Item(held, path.name, n_bytes=held.nbytes, batched=True, group=held.groups)


# ---------------------------------------------------------------- Parquet


def opened_parquet(path: Path) -> Any:
    """A Parquet file whose metadata has been read."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError('Parquet files need pyarrow: pip install "zeromean[parquet]"') from None
    with reading(path):
        return parquet.ParquetFile(path, memory_map=True)


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


def _fields_of(file: Any) -> list[Field]:
    index = index_of(file.schema_arrow)
    return ArrowTable(file.schema_arrow.empty_table(), index=index).fields


def _dtypes(file: Any) -> dict[str, str]:
    return {field.name: field.dtype for field in _fields_of(file) if field.dtype}


def _check_same(path: Path, dtypes: dict[str, str], first: Path, expected: dict[str, str]) -> None:
    """Refuse a file whose numeric columns are not those of the first."""
    for name, dtype in expected.items():
        if dtypes.get(name) != dtype:
            raise PatternError(
                f"{path}: the column {name!r} is {dtypes.get(name) or 'not one of numbers'}, but "
                f"{dtype} in {first.name}; convert it, or measure the files apart"
            )
    more = [name for name in dtypes if name not in expected]
    if more:
        raise PatternError(f"{path}: {first.name} has no numeric column {more[0]!r}")


def _record_batches(path: Path, names: Sequence[str], group: int | None = None) -> Iterator[Any]:
    """Rows of a row group, or of all; an empty batch where there is none."""
    file = opened_parquet(path)
    row = max(1, sum(8 for _ in names))
    with reading(path), file:
        groups = range(file.num_row_groups) if group is None else [group]
        none = True
        for batch in file.iter_batches(
            batch_size=max(1, _BATCH_BYTES // row),
            row_groups=[g for g in groups if g < file.num_row_groups],
            columns=list(names),
            use_threads=False,
        ):
            none = False
            yield batch
        if none:
            yield empty_batch(file.schema_arrow, names)


def empty_batch(schema: Any, names: Sequence[str]) -> Any:
    """A record batch without rows."""
    import pyarrow

    fields = [schema.field(name) for name in names]
    columns = [pyarrow.array([], field.type) for field in fields]
    return pyarrow.RecordBatch.from_arrays(columns, schema=pyarrow.schema(fields))


def _columns(batch: Any, names: Sequence[str], where: str, by: str | None = None) -> ColumnBatch:
    """A record batch as columns, in order, and the group of each row."""
    (held,) = filled(ArrowTable(batch, where))
    if by is not None:
        labels = arrow_labels(batch.column(by))
        if labels.dtype == object:  # CSV does not tell empty from missing
            labels = labels.copy()
            labels[labels == ""] = None
        held = held.grouped(by, labels)
    return held.ordered(names, where)
