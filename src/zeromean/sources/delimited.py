"""Reads CSV files block by block, with column types that hold for every row of all of them.

A reader that infers types from its first block gives other numbers for other blocks. Here a
column has the first of these types that takes all its values: int64, uint64, bool, float64. It is
tried on the first block; if a later value does not fit, `Widened` tells the caller to begin again.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeromean.errors import SourceError
from zeromean.sources.arrow import Field
from zeromean.sources.columns import few

BLOCK = 8 << 20  # bytes read at a time
_SNIFFED = 1 << 16
_ORDER = ("null", "int64", "uint64", "bool", "float64", "string")
_NUMERIC = _ORDER[1:5]
_FAILED = re.compile(
    r"column #(\d+): .*CSV conversion error to (\S+): invalid value '(.*)'", re.DOTALL
)
_ARROW_NAMES = {"double": "float64"}


class Widened(Exception):  # noqa: N818 (no error: it says to begin again)
    """A column holds values that its type does not take; the types have changed: begin again."""


@dataclass(frozen=True, slots=True)
class _Head:
    """Of one file: separator, column names, and what the first block looks like.

    Attributes
    ----------
    separator : str
    names : tuple of str
    types : dict of str to str
        Of `_ORDER`.
    said : dict of str to str
        Types as they are called in messages.
    """

    separator: str
    names: tuple[str, ...]
    types: dict[str, str]
    said: dict[str, str]


class CsvFiles:
    """CSV files with the same columns.

    Parameters
    ----------
    paths : sequence of Path
        Compressed ones end in `.gz`.

    Raises
    ------
    SourceError
        For files that cannot be read, are empty, or lack a header line.

    Attributes
    ----------
    by : str
        A column that says the group of each row; read as text.
    warnings : tuple of str
        Columns that begin with numbers and hold something else later on.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._heads = {path: _head(path) for path in paths}
        first = self._heads[paths[0]]
        self._types = {
            name: max((h.types.get(name, "null") for h in self._heads.values()), key=_ORDER.index)
            for name in first.names
        }
        self._said = dict(first.said)
        self.by = ""

    def expect(self, kinds: dict[str, str]) -> None:
        """Give columns the types that are known already.

        Parameters
        ----------
        kinds : dict of str to str
            By name; other columns are read as text.
        """
        self._types = {name: kinds.get(name, "string") for name in self._types}

    @property
    def fields(self) -> list[Field]:
        """The columns; those of numbers have a dtype."""
        return [
            Field(name, kind, kind)
            if kind in _NUMERIC and name
            else Field(name, "", self._said_of(name))
            for name, kind in self._types.items()
        ]

    def _said_of(self, name: str) -> str:
        if not name:
            return "index"  # pandas writes its index without a name
        if self._types[name] == "null":
            return "empty"
        said = self._said.get(name, "string")
        return "string" if said in _ORDER else said

    @property
    def warnings(self) -> tuple[str, ...]:
        """Names that look like data; columns that begin with numbers and hold something else."""
        return self._nameless() + tuple(
            text
            for name, kind in self._types.items()
            if kind == "string" and name not in ("", self.by) and (text := self._intruder(name))
        )

    def _nameless(self) -> tuple[str, ...]:
        """A sentence when the columns of numbers have numbers for names, as without a header."""
        names = [field.name for field in self.fields if field.dtype]
        if not names or not all(_takes("float64", name) for name in names):
            return ()
        if names == [str(k + int(float(names[0]))) for k in range(len(names))]:
            return ()  # counted, or years
        return (
            f"{next(iter(self._heads)).name}: the first row was taken as the names of the columns, "
            f"but they are numbers: {few(names)}; if it is data, put a line with names first",
        )

    def batches(self, path: Path) -> Iterator[Any]:
        """Record batches of the numeric columns of one file.

        Raises
        ------
        Widened
            When a later value does not fit the type of its column.
        SourceError
            When the file is damaged.
        """
        head = self._heads[path]
        names = [field.name for field in self.fields if field.dtype and field.name != self.by]
        lacking = [name for name in names if name not in head.types]
        if lacking:
            raise SourceError(f"{path}: lacks the columns {few(lacking)} of the first file")
        kinds = {name: self._types[name] for name in names}
        if self.by:
            names, kinds = [*names, self.by], {**kinds, self.by: "string"}
        try:
            with _reading(path):
                yield from open_csv(path, head.separator, kinds, names)
        except SourceError as error:
            self._widen(head, str(error.__cause__))
            raise

    def _widen(self, head: _Head, said: str) -> None:
        """Give a column that failed a wider type, and say so; nothing for other failures."""
        failed = _FAILED.search(said)
        if failed is None:
            return
        name, value = head.names[int(failed[1])], failed[3]
        tried = _ORDER.index(self._types[name])
        self._types[name] = next(k for k in _ORDER[tried + 1 :] if _takes(k, value))
        raise Widened(name)

    def _intruder(self, name: str) -> str:
        """The sentence about the first value that is no number, if numbers come before it."""
        numbers = False
        for path, head in self._heads.items():
            found = intruder(path, name) if name in head.types else None
            if found is None:
                numbers = numbers or head.types.get(name, "null") != "null"
                continue
            row, value, after = found
            if not (numbers or after):
                return ""
            return (
                f"{path.name}: the column {name!r} was left out: row {row + 1} holds {value!r}, "
                "which is no number"
            )
        return ""


def open_csv(path: Path, separator: str, kinds: dict[str, str], names: Sequence[str] | None) -> Any:
    """PyArrow's streaming reader, with these column types."""
    csv = _csv()
    import pyarrow

    return csv.open_csv(
        str(path),
        read_options=csv.ReadOptions(block_size=BLOCK),
        parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={name: pyarrow.type_for_alias(kind) for name, kind in kinds.items()},
            include_columns=names or (),
            check_utf8=names is None,
        ),
    )


def _csv() -> Any:
    try:
        from pyarrow import csv
    except ImportError:
        raise ImportError('CSV files need pyarrow: pip install "zeromean[parquet]"') from None
    return csv


@contextmanager
def reading_csv(path: Path, names: Sequence[str]) -> Iterator[None]:
    """Name file, column, row and value when text stands in a column of numbers.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Of all columns of the file.

    Raises
    ------
    SourceError
    """
    try:
        with _reading(path):
            yield
    except SourceError as error:
        failed = _FAILED.search(str(error.__cause__))
        if failed is None:
            raise
        name = names[int(failed[1])]
        place = intruder(path, name)
        row = f", row {place[0] + 1}" if place else ""
        raise SourceError(
            f"{path}: the column {name!r}{row}: {failed[3]!r} is no number, but numbers were "
            "measured there"
        ) from None


def intruder(path: Path, name: str) -> tuple[int, str, bool] | None:
    """The first value of a column that is no number.

    Parameters
    ----------
    path : Path
    name : str

    Returns
    -------
    (int, str, bool) or None
        Its row, from 0; the value; whether numbers come before it. None if there are but numbers.
    """
    row, numbers = 0, False
    with _reading(path):
        for batch in open_csv(path, separator_of(path)[0], {name: "string"}, [name]):
            values = batch.column(0)
            at = _first_text(values)
            numbers = numbers or _holds_numbers(values, at)
            if at is not None:
                return row + at, values[at].as_py(), numbers
            row += len(batch)
    return None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in what PyArrow says."""
    import pyarrow

    try:
        yield
    except SourceError:
        raise
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid utf8" in str(error).lower():
            raise SourceError(
                f"{path}: is not UTF-8 but some other encoding; convert it, e.g. "
                f"iconv -f LATIN1 -t UTF-8 {path.name} > converted.csv"
            ) from None
        raise SourceError(f"{path}: cannot be read as CSV: {str(error) or error}") from error


def separator_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """The separator of a file, and the names in its header line.

    Raises
    ------
    SourceError
        When there is no header line.
    """
    import csv

    _csv()
    import pyarrow

    with _reading(path), pyarrow.input_stream(str(path), compression="detect") as file:
        begin = file.read(_SNIFFED)
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(begin)  # may end within a letter
    if not text.strip():
        raise SourceError(f"{path}: is empty")
    first = text.lstrip("\r\n")
    line = re.sub(r'"[^"]*"', "", first.splitlines()[0])
    separator = max(",;\t|", key=line.count)
    names = tuple(next(csv.reader(first.splitlines(keepends=True), delimiter=separator)))
    if all(_takes("float64", name) for name in names):
        raise SourceError(
            f"{path}: the first line holds numbers and no names; put a line with the names of the "
            "columns first"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{path}: several columns are named {few(twice)}; rename them")
    return separator, names


def _head(path: Path) -> _Head:
    separator, names = separator_of(path)
    with _reading(path):
        reader = open_csv(path, separator, {}, list(names))
        schema = reader.schema
        batch = next(iter(reader), None)
    said = {f.name: _ARROW_NAMES.get(str(f.type), str(f.type)).split("[")[0] for f in schema}
    types = {name: kind if kind in _ORDER else "string" for name, kind in said.items()}
    for name, kind in types.items():  # PyArrow takes integers beyond int64 for floats
        if kind == "float64" and batch is not None and _beyond_int64(batch.column(name)):
            types[name] = "uint64"
    return _Head(separator, names, types, said)


def _beyond_int64(values: Any) -> bool:
    """Whether floats could be integers that only uint64 holds; if not, they are widened again."""
    import pyarrow.compute as pc

    largest = pc.max(values).as_py()
    return largest is not None and 2.0**63 <= largest <= 2.0**64 and pc.min(values).as_py() >= 0


def _takes(kind: str, value: str) -> bool:
    """Whether a type of column takes a value."""
    if kind == "string":
        return True
    import pyarrow

    try:
        pyarrow.array([value.strip()]).cast(pyarrow.type_for_alias(kind))
    except pyarrow.ArrowException:
        return False
    return kind != "null"


def _first_text(values: Any) -> int | None:
    """Where the first value stands that is no number, by bisection; None if all are."""
    import pyarrow.compute as pc

    none = pc.is_in(values, value_set=_nothing())
    numbers = pc.utf8_trim_whitespace(pc.if_else(none, "0", values))
    if _casts(numbers):
        return None
    low, high = 0, len(numbers)  # numbers[:low] casts, numbers[:high] does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _casts(numbers[low:middle]) else (low, middle)
    return low


def _holds_numbers(values: Any, end: int | None) -> bool:
    """Whether there is a number before this place."""
    import pyarrow.compute as pc

    head = values if end is None else values[:end]
    return len(head) > 0 and not pc.all(pc.is_in(head, value_set=_nothing())).as_py()


def _nothing() -> Any:
    """What stands for a missing value."""
    import pyarrow

    return pyarrow.array(_csv().ConvertOptions().null_values)


def _casts(values: Any) -> bool:
    import pyarrow

    try:
        values.cast(pyarrow.float64())
    except pyarrow.ArrowException:
        return False
    return True
