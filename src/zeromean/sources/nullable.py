"""Columns of pandas frames, nullable and Arrow-backed ones among them, as numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.sources.arrow import ArrowTable, Field
from zeromean.sources.columns import BufferColumn, Column, ColumnBatch, dtype_name

_Array = npt.NDArray[Any]
_Bools = npt.NDArray[np.bool_]
_NUMBERS = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()


def is_pandas(x: Any) -> bool:
    """Whether it is a pandas object, or one that behaves like it."""
    return type(x).__module__.partition(".")[0] in ("pandas",) or any(
        b.__module__.startswith("pandas.") for b in type(x).__mro__
    )


def label_name(label: Any) -> str:
    """A pandas column label as a feature name; the levels of a tuple are joined by dots."""
    return ".".join(map(str, label)) if isinstance(label, tuple) else str(label)


@dataclass(frozen=True, slots=True)
class NullableColumn:
    """A pandas column of a nullable or Arrow-backed dtype; unpacked where it is measured.

    Attributes
    ----------
    series : pandas.Series
    dtype : str
    """

    series: Any
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size of its values."""
        return len(self.series) * np.dtype(self.dtype).itemsize

    def part(self, begin: int, end: int) -> NullableColumn:
        """Some of its rows, without a copy."""
        return NullableColumn(self.series.iloc[begin:end], self.dtype)

    def take(self, rows: _Array) -> NullableColumn:
        """Single rows, copied."""
        return NullableColumn(self.series.iloc[rows], self.dtype)

    def arrays(self) -> tuple[_Array, _Bools | None]:
        """Values, and where they are missing."""
        if hasattr(self.series.dtype, "pyarrow_dtype"):
            parts = [c.arrays() for c in _arrow_columns(self.series.array.__arrow_array__())]
            missing = [np.zeros(len(v), np.bool_) if m is None else m for v, m in parts]
            gaps = np.concatenate(missing) if parts else np.zeros(0, np.bool_)
            values = np.concatenate([v for v, _ in parts] or [np.zeros(0, self.dtype)])
            return values, gaps if gaps.any() else None
        gaps = self.series.isna().to_numpy()
        values = self.series.to_numpy(dtype=self.dtype, na_value=self.series.dtype.type(0))
        return values, gaps if gaps.any() else None


def _arrow_columns(array: Any) -> Iterator[Column]:
    for batch in ArrowTable(array).batches():
        yield from batch.columns


def pandas_dtype(dtype: Any) -> str:
    """The NumPy name of a pandas dtype of numbers; empty for one that holds none."""
    if isinstance(dtype, np.dtype):
        known = dtype.kind in "biuf" and dtype.itemsize <= 8
        return dtype_name(dtype) if known else ""
    if hasattr(dtype, "pyarrow_dtype"):
        name = {"float": "float32", "double": "float64", "halffloat": "float16"}
        return numeric_name(name.get(str(dtype.pyarrow_dtype), str(dtype.pyarrow_dtype)))
    masked = getattr(dtype, "numpy_dtype", None) if hasattr(dtype, "na_value") else None
    if masked is None or type(dtype).__name__ == "NumpyEADtype":
        return ""
    return numeric_name(np.dtype(masked).name)


def numeric_name(name: str) -> str:
    """A name if it is one of a dtype of numbers, else nothing."""
    return name if name in _NUMBERS else ""


def pandas_batch(frame: Any) -> tuple[list[Field], ColumnBatch]:
    """All columns as fields, and the numeric ones as views."""
    single = not hasattr(frame, "columns")
    labels = [frame.name] if single else list(frame.columns)
    series = [frame] if single else [column for _, column in frame.items()]
    fields = [
        Field("" if single and label is None else label_name(label), *_dtype_and_text(s.dtype))
        for label, s in zip(labels, series, strict=True)
    ]
    pairs = [(f, pandas_column(s)) for f, s in zip(fields, series, strict=True) if f.dtype]
    names, columns = tuple(f.name for f, _ in pairs), tuple(c for _, c in pairs)
    return fields, ColumnBatch(names, columns, len(frame), single)


def pandas_column(series: Any) -> Column:
    """A numeric pandas column."""
    name = pandas_dtype(series.dtype)
    if isinstance(series.dtype, np.dtype):
        return BufferColumn(series.to_numpy())
    return NullableColumn(series, name)


def _dtype_and_text(dtype: Any) -> tuple[str, str]:
    name = pandas_dtype(dtype)
    text = name or str(dtype)
    return name, "string" if text in ("str", "string") else text
