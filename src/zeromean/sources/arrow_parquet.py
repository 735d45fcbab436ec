"""Parquet files: row groups, read page by page, with the checksums of pages compared."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

from zeromean.sources.access import HeldFile
from zeromean.sources.arrow_rows import RowFile
from zeromean.sources.decode import DecodeError

_BLOCK = 1 << 20  # of a file that is read at once, for each column
_LARGEST_BATCH = 64 << 20  # bytes of rows that are held together
_FEW = 16  # rows, where nothing tells how large they are


class ParquetRows(RowFile):
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
        self.checked = full is not None and _page_header(held, full.column(0))[1]

    def _batches(self, group: int, columns: Sequence[str], n_rows: int) -> Iterator[Any]:
        n_rows = min(n_rows, self._most_rows(group, columns))
        yield from self._file.iter_batches(
            batch_size=n_rows, row_groups=[group], columns=list(columns), use_threads=False
        )

    def _most_rows(self, group: int, columns: Sequence[str]) -> int:
        """How many rows can be held whatever is in them.

        Values that come again are stored once, so that the size of a row group does not tell how
        large its rows are.
        """
        known, schema = self._file.metadata.row_group(group), self._file.metadata.schema
        most: int = known.num_rows
        for i in range(known.num_columns):
            path = schema.column(i).path
            if any(path == name or path.startswith(name + ".") for name in columns):
                size = self._largest(known.column(i), schema.column(i))
                per_row = size * known.column(i).num_values // max(1, known.num_rows)
                most = min(most, _LARGEST_BATCH // max(1, per_row))
        return max(1, most)

    def _largest(self, chunk: Any, column: Any) -> int:
        """How many bytes one value may have; 0 for text, and for bytes stored as they are."""
        if chunk.physical_type != "BYTE_ARRAY":
            return max(8, int(column.length))
        if column.logical_type.type == "STRING":
            return 0
        if any(name.startswith("DELTA_BYTE_ARRAY") for name in chunk.encodings):
            return _LARGEST_BATCH // _FEW
        return _page_header(self._held, chunk)[0] if chunk.has_dictionary_page else 0


def _counted(group: Any, schema: Any) -> int:
    """How many rows a row group has; -1 where a column without lists has another number."""
    for i in range(group.num_columns):
        if schema.column(i).max_repetition_level == 0:
            rows: int = group.num_rows
            return rows if group.column(i).num_values == rows else -1
    return int(group.num_rows)


def _page_header(held: HeldFile, chunk: Any) -> tuple[int, bool]:
    """Size of the first page when unpacked, and whether it has a checksum.

    They are the second and the fourth field of its header, in Thrift's compact form.
    """
    at = chunk.data_page_offset
    if chunk.has_dictionary_page:
        at = min(at, chunk.dictionary_page_offset)
    held.file.seek(at)
    header = held.file.read(32)
    place, sizes = 0, []
    for _ in range(3):  # kind, size, size when compressed: each a mark and a number
        if header[place : place + 1] != b"\x15":
            return 0, False
        number, place = _number(header, place + 1)
        sizes.append(number)
    return sizes[1], header[place : place + 1] == b"\x15"


def _number(data: bytes, place: int) -> tuple[int, int]:
    """A positive number of variable length, and where it ends."""
    number = shift = 0
    while place < len(data):
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            break
    return number >> 1, place  # the lowest bit is the sign
