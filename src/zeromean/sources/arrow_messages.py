"""Lists the record batches of an Arrow file or stream by their headers, without reading them.

*Arrow Columnar Format, Serialization and Interprocess Communication* (Apache Arrow, format 1.0):
each message is a length, a flatbuffer and a body. PyArrow tells how many rows a batch has only
after it has read it, and decompressed it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from zeromean.sources.decode import DecodeError

_CONTINUATION = 0xFFFFFFFF
_LARGEST_HEADER = 256 << 20
_DICTIONARY, _RECORDS = 2, 3  # of the union MessageHeader
_TYPE, _HEADER, _BODY = 1, 2, 3  # places of the fields of a Message
_LENGTH, _NODES = 0, 1  # of a RecordBatch


class Message(NamedTuple):
    """One message.

    Attributes
    ----------
    at : int
        Where it begins.
    size : int
        Of its body in bytes.
    rows : int
        How many rows it has, -1 for a dictionary.
    """

    at: int
    size: int
    rows: int


def messages(read: Callable[[int, int], bytes], begin: int, end: int) -> Iterator[Message]:
    """Batches and dictionaries in order.

    Parameters
    ----------
    read : callable
        From a place and a length to bytes; fewer at the end of the file.
    begin, end : int
        Where the first message begins, and where the file ends.

    Raises
    ------
    DecodeError
        When it is cut short or is no such file.
    """
    at = begin
    while at < end:
        head = read(at, 8)
        if len(head) < 4:
            raise DecodeError("ends before its data does")
        (length,) = struct.unpack_from("<I", head)
        prefix = 4
        if length == _CONTINUATION and len(head) == 8:
            prefix, (length,) = 8, struct.unpack_from("<I", head, 4)
        if length == 0:
            return
        if length > _LARGEST_HEADER:
            raise DecodeError("is no Arrow file")
        header = read(at + prefix, length)
        if len(header) < length:
            raise DecodeError("ends before its data does")
        kind, size, rows = _parsed(header)
        after = at + prefix + length + size
        if after > end:
            raise DecodeError("ends before its data does")
        if kind in (_DICTIONARY, _RECORDS):
            yield Message(at, size, rows if kind == _RECORDS else -1)
        at = after


def _parsed(header: bytes) -> tuple[int, int, int]:
    """Kind, size of the body, and number of rows of a message."""
    try:
        (message,) = struct.unpack_from("<I", header)
        kind = _field(header, message, _TYPE, "<B")
        size = _field(header, message, _BODY, "<q")
        rows = 0
        if kind == _RECORDS:
            place = _place(header, message, _HEADER)
            rows = _rows(header, place + _number(header, place, "<I"))
    except struct.error:
        raise DecodeError("is no Arrow file, or a damaged one") from None
    if size < 0 or rows < 0:
        raise DecodeError("is a damaged Arrow file")
    return kind, size, rows


def _rows(header: bytes, batch: int) -> int:
    """How many rows a record batch has: it and its first column must say the same."""
    rows = _field(header, batch, _LENGTH, "<q")
    place = _place(header, batch, _NODES)
    nodes = place + _number(header, place, "<I") if place else 0
    if rows and not (nodes and _number(header, nodes, "<I")):
        raise DecodeError("is a damaged Arrow file")
    if nodes and _number(header, nodes, "<I") and _number(header, nodes + 4, "<q") != rows:
        raise DecodeError("is a damaged Arrow file")
    return rows


def _place(data: bytes, table: int, field: int) -> int:
    """Where a field of a flatbuffer's table lies; 0 when it has its default."""
    fields = table - _number(data, table, "<i")
    if 6 + 2 * field > _number(data, fields, "<H"):
        return 0
    offset = _number(data, fields + 4 + 2 * field, "<H")
    return table + offset if offset else 0


def _field(data: bytes, table: int, field: int, kind: str) -> int:
    place = _place(data, table, field)
    return _number(data, place, kind) if place else 0


def _number(data: bytes, place: int, kind: str) -> Any:
    if place < 0:
        raise struct.error
    return struct.unpack_from(kind, data, place)[0]
