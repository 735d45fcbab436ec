"""Rows of data frames, CSV and Parquet files as an array, and one column as their classes."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.convergence.thinning import Thinned, thinned
from zeromean.errors import PatternError, SourceError
from zeromean.sources.columns import ColumnBatch
from zeromean.sources.frames import FrameSource, row_count, unwrapped
from zeromean.sources.labels import factorized
from zeromean.sources.tables import TableFiles, Widened, kind_of

_Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def table_sample(path: Path, labels: Any, n: int) -> dict[str, Any]:
    """The fields of a sample of a CSV or Parquet file.

    Parameters
    ----------
    path : Path
    labels : str, array or None
        The name of a column, one class for each row, or nothing.
    n : int

    Returns
    -------
    dict
    """
    table = TableFiles([path], None)
    name = _column_name(labels)
    kept = _measured(table.feature_names, name, path.name)
    try:
        rows = thinned(_blocks(table.shards(), kept), n)
    except Widened:
        rows = thinned(_blocks(table.shards(), kept), n)
    given = _column_of_file(path, name) if name else labels
    left = [text.rsplit(" (", 1)[0] for text in table.left_out]
    names = tuple(compress(table.feature_names, kept))
    return _fields(rows, given, path.name, names, [text for text in left if text != name])


def frame_sample(frame: Any, labels: Any, n: int) -> dict[str, Any]:
    """The fields of a sample of a data frame; as `table_sample`."""
    source = FrameSource([frame], None, None, row_count(frame))
    name = _column_name(labels)
    kept = _measured(source.feature_names, name, source.name)
    rows = thinned(_blocks(source.shards(), kept), n)
    given = _column_of_frame(unwrapped(frame), name) if name else labels
    left = [text.rsplit(" (", 1)[0] for text in source.left_out]
    names = tuple(compress(source.feature_names, kept))
    return _fields(rows, given, source.name, names, [text for text in left if text != name])


def _column_name(labels: Any) -> str:
    return labels if isinstance(labels, str) and labels != "none" else ""


def _measured(names: Sequence[str], label: str, where: str) -> list[bool]:
    kept = [name != label for name in names]
    if not any(kept):
        raise PatternError(f"{where} has no column of numbers beside the labels {label!r}")
    return kept


def _blocks(shards: Any, kept: list[bool]) -> Iterator[Floats]:
    """Float64 rows, missing values as NaN."""
    for shard in shards:
        for item in shard.items():
            batch: ColumnBatch = item.array
            columns = compress(batch.columns, kept)
            yield np.stack([_filled(*column.arrays()) for column in columns], axis=1)


def _filled(values: _Array, missing: _Array | None) -> Floats:
    column = values.astype(np.float64)
    if missing is not None:
        column[missing] = np.nan
    return column


def _fields(
    rows: Thinned, labels: Any, name: str, columns: tuple[str, ...], left: list[str]
) -> dict[str, Any]:
    codes: _Array | None = None
    classes: tuple[str, ...] = ()
    if labels is not None and not isinstance(labels, str):
        classes, every = factorized(labels)
        if len(every) != rows.total:
            raise PatternError(f"there are {len(every)} labels, but {name} has {rows.total} rows")
        codes = every[rows.places]
    notes = (f"Columns without numbers were left out: {', '.join(left)}.",) if left else ()
    return {
        "x": rows.rows,
        "codes": codes,
        "classes": classes,
        "source": name,
        "available": rows.total,
        "notes": notes,
        "columns": columns,
    }


# ---------------------------------------------------------------- the column of labels


def _column_of_frame(frame: Any, name: str) -> Any:
    columns = [str(c) for c in getattr(frame, "columns", getattr(frame, "column_names", []))]
    names = getattr(frame, "column_names", columns)
    if name not in columns and name not in names:
        raise PatternError(_no_column(name, columns))
    column = frame[name]
    return column.to_pylist() if hasattr(column, "to_pylist") else column.to_numpy()


def _column_of_file(path: Path, name: str) -> Any:
    if kind_of(str(path)) == "parquet":
        from pyarrow import parquet

        names = parquet.read_schema(path).names
        if name not in names:
            raise PatternError(f"{path.name}: " + _no_column(name, names))
        return parquet.read_table(path, columns=[name]).column(name).to_pylist()
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        separator = max(",;\t|", key=head.count)
        names = next(csv.reader([head], delimiter=separator))
        if name not in names:
            raise PatternError(f"{path.name}: " + _no_column(name, names))
        at = names.index(name)
        return [_cell(row, at, path) for row in csv.reader(file, delimiter=separator) if row]


def _cell(row: list[str], at: int, path: Path) -> str:
    if at >= len(row):
        raise SourceError(f"{path}: a row has {len(row)} cells, too few for its column of labels")
    return row[at]


def _no_column(name: str, names: Sequence[str]) -> str:
    shown = ", ".join(map(str, names[:8])) + (", ..." if len(names) > 8 else "")
    return f"there is no column {name!r} for the labels; the columns are: {shown}"
