"""Takes data frames apart into columns of numbers, and puts them together again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.sources.arrow import ArrowTable, Field
from zeromean.sources.columns import ColumnBatch
from zeromean.sources.frames import index_of, polars_text, unwrapped
from zeromean.sources.nullable import is_pandas, label_name, pandas_column, pandas_dtype

_Array = npt.NDArray[Any]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class New:
    """A column that takes the place of another.

    Attributes
    ----------
    name : str
    values : ndarray, (n,)
    missing : ndarray of bool, (n,), or None
    like : int
        The column whose place it takes: it stays nullable if that was.
    """

    name: str
    values: _Array
    missing: _Bools | None
    like: int


class Framed:
    """A frame as columns of numbers.

    Attributes
    ----------
    fields : list of Field
        Of all columns; those that hold no numbers have no dtype.
    length : int
        How many rows.
    single : bool
        Whether it is one column by itself.
    """

    fields: list[Field]
    length: int
    single: bool

    def labels(self) -> tuple[str, ...]:
        """Those of the rows, for one column of pandas; else none."""
        return ()

    def column(self, place: int) -> tuple[_Array, _Bools | None]:
        """Values of a numeric column, and where they are missing."""
        raise NotImplementedError

    def rebuilt(self, entries: Sequence[int | New]) -> Any:
        """A frame of this kind, of columns of this one and new ones."""
        raise NotImplementedError


def lazily(frame: Any, do: Callable[[Any], Any]) -> Any:
    """Do something with a frame; later, if it is a lazy one; and with what Narwhals wraps.

    Parameters
    ----------
    frame : frame
    do : callable
        From an eager frame to another.

    Returns
    -------
    frame
    """
    home = type(frame).__module__
    if home.startswith("narwhals"):
        stable = ".".join(home.split(".")[:3]) if "stable" in home else "narwhals"
        return sys.modules[stable].from_native(lazily(unwrapped(frame), do), allow_series=True)
    if type(frame).__name__ == "LazyFrame":
        schema = do(frame.collect_schema().to_frame()).schema  # finds what is wrong right away
        return frame.map_batches(do, schema=schema)
    return do(frame)


def frame_of(frame: Any) -> Framed:
    """A frame that can be taken apart.

    Raises
    ------
    PatternError
        For an unknown kind.
    """
    home = type(frame).__module__.partition(".")[0]
    if home == "polars":
        return _PolarsFrame(frame)
    if home == "pyarrow":
        return _ArrowFrame(frame)
    if is_pandas(frame):
        return _PandasFrame(frame)
    raise PatternError(
        f"cannot normalize {type(frame).__module__}.{type(frame).__name__}; give a pandas, polars "
        "or PyArrow table"
    )


def taken_rows(frame: Any, rows: Any) -> Any:
    """Some rows of an eager frame or column, in this order.

    Parameters
    ----------
    frame : frame
    rows : ndarray of int

    Returns
    -------
    frame
        Of the same kind.
    """
    if is_pandas(frame):
        return frame.iloc[rows]
    return frame[rows] if type(frame).__module__.startswith("polars") else frame.take(rows)


def joined(parts: Sequence[Any]) -> Any:
    """Frames of one kind with the same columns, below each other.

    Parameters
    ----------
    parts : sequence of frames
        At least one.

    Returns
    -------
    frame
        Of the same kind.
    """
    kind = type(parts[0])
    if is_pandas(parts[0]):
        import pandas as pd

        return pd.concat(parts)
    if kind.__module__.startswith("polars"):
        import polars as pl

        return pl.concat(parts)
    import pyarrow as pa

    if kind is pa.Table:
        return pa.concat_tables(parts)
    if kind is pa.RecordBatch:
        return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
    if kind is pa.ChunkedArray:
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    return pa.concat_arrays(parts)


# ---------------------------------------------------------------- pandas


class _PandasFrame(Framed):
    def __init__(self, frame: Any) -> None:
        self._frame, self.length = frame, len(frame)
        self.single = not hasattr(frame, "columns")
        labels = [frame.name] if self.single else list(frame.columns)
        self._series = [frame] if self.single else [column for _, column in frame.items()]
        dtypes = [(s.dtype, pandas_dtype(s.dtype)) for s in self._series]
        self.fields = [
            Field(label_name(label), name, name or str(dtype))
            for label, (dtype, name) in zip(labels, dtypes, strict=True)
        ]

    def labels(self) -> tuple[str, ...]:
        return tuple(map(label_name, self._frame.index)) if self.single else ()

    def column(self, place: int) -> tuple[_Array, _Bools | None]:
        return pandas_column(self._series[place]).arrays()

    def rebuilt(self, entries: Sequence[int | New]) -> Any:
        import pandas as pd

        columns = {
            k: self._array(entry) if isinstance(entry, New) else self._series[entry]
            for k, entry in enumerate(entries)
        }
        if self.single:
            return pd.Series(columns[0], index=self._frame.index, name=self._frame.name)
        frame = pd.DataFrame(columns, index=self._frame.index, copy=False)
        frame.columns = self._labels(entries)
        frame.attrs = dict(self._frame.attrs)
        return frame

    def _labels(self, entries: Sequence[int | New]) -> Any:
        import pandas as pd

        labels = self._frame.columns
        places = [entry.like if isinstance(entry, New) else entry for entry in entries]
        if places == list(range(len(labels))):
            return labels
        known = {label_name(label): label for label in labels}
        return pd.Index(
            [known.get(e.name, e.name) if isinstance(e, New) else labels[e] for e in entries]
        )

    def _array(self, new: New) -> Any:
        """Nullable where the column was; Arrow-backed where it was."""
        import pandas as pd

        old = self._series[new.like].dtype
        if isinstance(old, np.dtype):
            return new.values
        if hasattr(old, "pyarrow_dtype"):
            import pyarrow

            return pd.arrays.ArrowExtensionArray(pyarrow.array(new.values, mask=new.missing))
        if new.values.dtype == np.float16:
            raise PatternError("pandas has no nullable float16; choose dtype='float32'")
        gaps = np.zeros(len(new.values), np.bool_) if new.missing is None else new.missing.copy()
        kinds: Any = {"f": pd.arrays.FloatingArray, "b": pd.arrays.BooleanArray}
        return kinds.get(new.values.dtype.kind, pd.arrays.IntegerArray)(new.values, gaps)


# ---------------------------------------------------------------- polars and PyArrow


class _Exported(Framed):
    """A frame whose columns come through the Arrow C stream."""

    _held: dict[int, list[ColumnBatch]]

    def _export(self, place: int) -> Any:
        """One column as an object that speaks the Arrow C stream."""
        raise NotImplementedError

    def column(self, place: int) -> tuple[_Array, _Bools | None]:
        pairs = [batch.columns[0].arrays() for batch in ArrowTable(self._export(place)).batches()]
        if len(pairs) == 1:
            return pairs[0]
        kind = np.dtype(self.fields[place].dtype)
        values = np.concatenate([v for v, _ in pairs] or [np.zeros(0, kind)])
        if all(gaps is None for _, gaps in pairs):
            return values, None
        gaps = [np.zeros(len(v), np.bool_) if g is None else g for v, g in pairs]
        return values, np.concatenate(gaps)


class _PolarsFrame(_Exported):
    def __init__(self, frame: Any) -> None:
        self.single = type(frame).__name__ == "Series"
        self._frame = frame.to_frame() if self.single else frame
        self.length = self._frame.height
        known = ArrowTable(self._frame.clear().select(_numbers(self._frame))).fields
        dtypes = {field.name: field.dtype for field in known}
        self.fields = [
            Field(name, dtypes.get(name, ""), polars_text(kind))
            for name, kind in self._frame.schema.items()
        ]

    def _export(self, place: int) -> Any:
        return self._frame.to_series(place)

    def rebuilt(self, entries: Sequence[int | New]) -> Any:
        import polars as pl

        held = [_polars_series(e) if isinstance(e, New) else self._export(e) for e in entries]
        return held[0] if self.single else pl.DataFrame(held)


def _numbers(frame: Any) -> list[str]:
    """Columns that are worth exporting to see what they hold."""
    return [
        name
        for name, kind in frame.schema.items()
        if str(kind).startswith(("Int", "UInt", "Float", "Boolean"))
    ]


def _polars_series(new: New) -> Any:
    import polars as pl

    series = pl.Series(new.name, new.values)
    if new.missing is None:
        return series
    there = pl.Series(~new.missing)
    return pl.select(pl.when(there).then(series).alias(new.name)).to_series()


class _ArrowFrame(_Exported):
    def __init__(self, frame: Any) -> None:
        self._frame, self.length = frame, len(frame)
        table = ArrowTable(frame.slice(0, 0), index=index_of(frame))
        self.single, self.fields = table.single, table.fields

    def _export(self, place: int) -> Any:
        return self._frame if self.single else self._frame.column(place)

    def rebuilt(self, entries: Sequence[int | New]) -> Any:
        import pyarrow as pa

        held = [
            pa.array(e.values, mask=e.missing) if isinstance(e, New) else self._export(e)
            for e in entries
        ]
        kind = type(self._frame)
        if self.single:
            return pa.chunked_array([held[0]]) if kind is pa.ChunkedArray else held[0]
        pairs = zip(entries, held, strict=True)
        schema = pa.schema([self._field(e, column.type) for e, column in pairs])
        metadata = {k: v for k, v in (self._frame.schema.metadata or {}).items() if k != b"pandas"}
        return kind.from_arrays(held, schema=schema.with_metadata(metadata or None))

    def _field(self, entry: int | New, kind: Any) -> Any:
        import pyarrow as pa

        if not isinstance(entry, New):
            return self._frame.schema.field(entry)
        return pa.field(entry.name, kind)
