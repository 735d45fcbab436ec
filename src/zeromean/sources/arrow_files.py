"""Opens Parquet and Arrow files, and reads some of their rows at a time, in bounded memory."""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from zeromean.errors import SourceError
from zeromean.sources.access import HeldFile, ReadError, opened, shown, stamp_of
from zeromean.sources.arrow_messages import Message, messages
from zeromean.sources.decode import DecodeError
from zeromean.sources.walk import printable, why_unreadable

_BLOCK = 1 << 20  # of a Parquet file that is read at once, for each column
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
    except DecodeError as error:
        return Broken(str(error), False)
    except (OSError, MemoryError) as error:
        reason = str(error) if isinstance(error, ReadError) else why_unreadable(error)
        return Broken(reason, True)


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


@contextmanager
def told(called: str, place: str = "") -> Iterator[None]:
    """What goes wrong with a file as a fragment: damage, or a failure that may pass."""
    import pyarrow

    try:
        yield
    except SourceError:
        raise
    except MemoryError as error:
        raise ReadError(why_unreadable(error)) from None
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, struct.error) as error:
        if isinstance(error, OSError) and error.errno:  # PyArrow's own have none
            raise ReadError(why_unreadable(error)) from None
        said = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        where = f" ({place})" if place else ""
        raise DecodeError(f"cannot be read as {called}: {said}{where}") from None


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


class _Rows:
    """What both kinds have: the file was the same before and after each batch was read."""

    called: str
    part: str
    schema: Any
    rows: array[int]
    sizes: array[int]
    checked = False

    def __init__(self, held: HeldFile) -> None:
        self._held, self.stamp = held, held.stamp

    def batches(self, group: int, columns: Sequence[str], n_rows: int) -> Iterator[Any]:
        """Record batches of a row group, each but the last of so many rows.

        Parameters
        ----------
        group : int
        columns : sequence of str
            Their names; dots lead into structures.
        n_rows : int

        Raises
        ------
        ReadError
            When the file has changed.
        DecodeError
            When it is damaged there. What was handed over before is sound.
        """
        try:
            with told(self.called, f"{self.part} {group}"):
                for batch in self._batches(group, columns, n_rows):
                    self._check()
                    yield batch
        except DecodeError:
            self._check()  # no wonder, if it has changed
            raise

    def _batches(self, group: int, columns: Sequence[str], n_rows: int) -> Iterator[Any]:
        raise NotImplementedError

    def _check(self) -> None:
        try:
            status = os.fstat(self._held.file.fileno())
        except (OSError, AttributeError):  # in a remote store
            return
        if stamp_of(status)[:2] != self.stamp[:2]:
            raise ReadError("changed while it was read")


class ParquetRows(_Rows):
    """An open Parquet file.

    Pages are read through a small buffer and their checksums compared, where they have any.
    """

    called, part = "Parquet", "row group"

    def __init__(self, held: HeldFile) -> None:
        from pyarrow import parquet

        super().__init__(held)
        # Neither a memory map, whose pages count as ours, nor whole column chunks.
        self._file = parquet.ParquetFile(
            held.file, pre_buffer=False, buffer_size=_BLOCK, page_checksum_verification=True
        )
        self.schema, known = self._file.schema_arrow, self._file.metadata
        groups = [known.row_group(i) for i in range(known.num_row_groups)]
        if known.num_rows != sum(map(_counted, groups, repeat(known.schema))):
            raise DecodeError(
                "is a damaged Parquet file: its numbers of rows contradict each other"
            )
        self.rows = array("q", (group.num_rows for group in groups))
        self.sizes = array("q", (group.total_byte_size for group in groups))
        full = next((g for g in groups if g.num_rows and g.num_columns), None)
        self.checked = full is not None and _has_checksum(held, full.column(0))

    def _batches(self, group: int, columns: Sequence[str], n_rows: int) -> Iterator[Any]:
        yield from self._file.iter_batches(
            batch_size=n_rows, row_groups=[group], columns=list(columns), use_threads=False
        )


def _counted(group: Any, schema: Any) -> int:
    """How many rows a row group has; -1 where a column without lists has another number."""
    for i in range(group.num_columns):
        if schema.column(i).max_repetition_level == 0:
            rows: int = group.num_rows
            return rows if group.column(i).num_values == rows else -1
    return int(group.num_rows)


def _has_checksum(held: HeldFile, column: Any) -> bool:
    """Whether the first page has one: the fourth field of its header, in Thrift's short form."""
    at = column.data_page_offset
    if column.has_dictionary_page:
        at = min(at, column.dictionary_page_offset)
    held.file.seek(at)
    header = held.file.read(32)
    place = 0
    for _ in range(3):  # kind, size, size when compressed: each a mark and a varint
        if header[place : place + 1] != b"\x15":
            return False
        place += 1
        while place < len(header) and header[place] & 0x80:
            place += 1
        place += 1
    return header[place : place + 1] == b"\x15"


class ArrowRows(_Rows):
    """An open Arrow file, a file of the second version of Feather, or an Arrow stream."""

    called, part = "Arrow", "record batch"

    def __init__(self, held: HeldFile) -> None:
        from pyarrow import ipc

        super().__init__(held)
        self._size = held.size
        if not self._size:
            raise DecodeError("is empty")
        self._memory = _mapped(held)
        self._footed = self._read(0, _MAGIC).startswith(b"ARROW1")
        found = list(messages(self._read, _MAGIC if self._footed else 0, self._size))
        self._batches_at: list[Message] = [m for m in found if m.rows >= 0]
        self._with_dictionaries = len(found) > len(self._batches_at)
        self.rows = array("q", (m.rows for m in self._batches_at))
        self.sizes = array("q", (m.size for m in self._batches_at))
        if self._footed:
            reader = ipc.open_file(self._source())
            if reader.num_record_batches != len(self.rows):
                raise DecodeError("is a damaged Arrow file")
        else:
            reader = ipc.open_stream(self._source())
        self.schema = reader.schema

    def _read(self, at: int, length: int) -> bytes:
        self._held.file.seek(at)
        data = self._held.file.read(length)
        return bytes(data)

    def _source(self) -> Any:
        import pyarrow

        if self._memory is None:
            self._held.file.seek(0)
            return pyarrow.PythonFile(self._held.file, mode="r")
        return pyarrow.BufferReader(pyarrow.py_buffer(self._memory))

    def _batches(self, group: int, columns: Sequence[str], n_rows: int) -> Iterator[Any]:
        batch = self._batch(group, columns)
        batch.validate(full=True)  # offsets that lead astray would be followed
        for begin in range(0, len(batch), n_rows):
            yield batch.slice(begin, n_rows)
            if self._memory is not None:
                _give_back(self._memory)

    def _batch(self, group: int, columns: Sequence[str]) -> Any:
        """One record batch, of these columns; nothing is copied that is not compressed."""
        from pyarrow import ipc

        names = self.schema.names
        wanted = {_top(name, names) for name in columns}
        places = [i for i, name in enumerate(names) if name in wanted]
        options = ipc.IpcReadOptions(included_fields=places, use_threads=False)
        source = self._source()
        if self._footed:
            return ipc.open_file(source, options=options).get_batch(group)
        reader = ipc.open_stream(source, options=options)
        if self._with_dictionaries:  # each may change what the next batches mean
            for _ in range(group):
                reader.read_next_batch()
        else:
            source.seek(self._batches_at[group].at)
        return reader.read_next_batch()


def _top(name: str, names: Sequence[str]) -> str:
    """The column that a name with dots leads into; names of columns may have dots themselves."""
    while name not in names and "." in name:
        name = name.rpartition(".")[0]
    return name


def _mapped(held: HeldFile) -> mmap.mmap | None:
    """The file as memory; None in a remote store."""
    try:
        return mmap.mmap(held.file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, AttributeError, ValueError):
        return None


def _give_back(memory: mmap.mmap) -> None:
    """Let go of the pages that were looked at: they are the file's, and can be had again."""
    if hasattr(memory, "madvise"):
        memory.madvise(mmap.MADV_DONTNEED)
