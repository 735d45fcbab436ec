"""Arrow files and streams, and Feather: record batches, read where they lie."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from zeromean.sources.access import HeldFile
from zeromean.sources.arrow_messages import Message, messages
from zeromean.sources.arrow_rows import RowFile
from zeromean.sources.decode import DecodeError

_MAGIC = 8


class ArrowRows(RowFile):
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
