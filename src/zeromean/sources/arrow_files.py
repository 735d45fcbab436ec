"""Opens Parquet and Arrow files, and reads some of their rows at a time, in bounded memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from zeromean.errors import SourceError
from zeromean.sources.access import ReadError, opened, shown
from zeromean.sources.arrow_ipc import ArrowRows
from zeromean.sources.arrow_parquet import ParquetRows
from zeromean.sources.arrow_rows import told
from zeromean.sources.decode import DecodeError
from zeromean.sources.walk import printable, why_unreadable

_MAGIC = 8
_RUN_BYTES = 16 << 20  # of small row groups that one worker reads


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet or Arrow file by its path; picklable.

    Attributes
    ----------
    path : str
        Or a URL.
    name : str
        In messages, and in front of the number of a row.
    format : str
        "parquet" or "arrow": what it should be, where its first bytes do not tell.
    """

    path: str
    name: str
    format: str

    @property
    def where(self) -> str:
        """Its path in messages, without the secrets that a URL may have."""
        return printable(shown(self.path))

    @property
    def called(self) -> str:
        """What it should be, for people."""
        return "Parquet" if self.format == "parquet" else "Arrow"


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a file before its data is read.

    Attributes
    ----------
    schema : pyarrow.Schema
    rows : array of int
        How many rows each row group of a Parquet file has, or each record batch of an Arrow file.
    sizes : array of int
        Their sizes in bytes, all columns together.
    stamp : tuple of int
        Of the file, as in `zeromean.sources.Entry`.
    checked : bool
        Whether pages carry checksums.
    """

    schema: Any
    rows: array[int]
    sizes: array[int]
    stamp: tuple[int, ...]
    checked: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that cannot be read, and says why.

    Attributes
    ----------
    reason : str
    passing : bool
    """

    reason: str
    passing: bool


def looked_at(file: DataFile) -> Outline | Broken:
    """`outline`, or why there is none."""
    try:
        return outline(file)
    except (OSError, MemoryError) as error:
        return Broken(why_unreadable(error), not isinstance(error, DecodeError))


def outline(file: DataFile) -> Outline:
    """Look at a file without reading its data.

    Raises
    ------
    ReadError
        When it cannot be opened just now.
    DecodeError
        When it is damaged, or something else. A fragment without its name.
    """
    with opened_rows(file) as held:
        return Outline(held.schema, held.rows, held.sizes, held.stamp, held.checked)


@contextmanager
def opened_rows(file: DataFile) -> Iterator[ParquetRows | ArrowRows]:
    """Open a file for the time of a block.

    Raises
    ------
    ReadError, DecodeError
        As `outline`.
    ImportError
        Without PyArrow.
    """
    _require_pyarrow(file.called)
    with opened(file.path, file.name) as held:
        with told(file.called):
            head = held.file.read(_MAGIC)
            held.file.seek(0)
            rows = _kind_of(head, file)(held)
            _read_names(rows.schema)
        yield rows


def _kind_of(head: bytes, file: DataFile) -> type[ParquetRows | ArrowRows]:
    if head.startswith(b"FEA1"):
        raise DecodeError(
            "is of the first version of Feather, which PyArrow gives up; write it again with "
            "pyarrow.feather.write_feather"
        )
    arrow = head.startswith((b"ARROW1", b"\xff\xff\xff\xff"))
    parquet = head.startswith(b"PAR1") or (file.format == "parquet" and not arrow)
    return ParquetRows if parquet else ArrowRows


def _read_names(fields: Any) -> None:
    """Look at all names: those that are no text fail here, where it is told."""
    from pyarrow import types

    for _, kind in [(field.name, field.type) for field in fields]:
        if types.is_struct(kind):
            _read_names(kind.field(i) for i in range(kind.num_fields))


def _require_pyarrow(called: str) -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ImportError(f'{called} files need pyarrow: pip install "zeromean[parquet]"') from None


def noted(record: Any, outlines: Sequence[Outline | Broken]) -> Any:
    """A provenance that says how many files have no checksums, so that damage may go unseen."""
    bare = sum(isinstance(o, Outline) and not o.checked for o in outlines)
    if not bare:
        return record
    return replace(record, notes={**record.notes, "files without checksums": bare})


@contextmanager
def named(file: DataFile) -> Iterator[None]:
    """An error with the name of the file in front; of a file that cannot be skipped."""
    try:
        yield
    except (ReadError, DecodeError) as error:
        raise SourceError(f"{file.where}: {error}") from None


def runs(outline: Outline) -> Iterator[range]:
    """Row groups of a file in order, small ones together."""
    begin = size = 0
    for group, own in enumerate(outline.sizes):
        size += own
        if size >= _RUN_BYTES:
            yield range(begin, group + 1)
            begin, size = group + 1, 0
    if begin < len(outline.sizes):
        yield range(begin, len(outline.sizes))
