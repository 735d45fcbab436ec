"""Lists the members of a zip archive, and reads them with their checksums.

The central directory is read in blocks: `zipfile` keeps half a kilobyte for each member, which is
too much for millions. What both accept, both read alike (a test says so).
"""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np

from zeromean.sources.decode import DecodeError
from zeromean.sources.tar_members import Fault, Member, read_at

_CHUNK = 1 << 20
_LARGEST = 2 << 30  # bytes: what no file that is decoded from memory needs
_SUSPICIOUS = 64 << 20  # bytes from which on the ratio is looked at
_RATIO = 100  # what pictures, which are compressed already, never shrink by

# APPNOTE.TXT of PKWARE, 4.3.16 (end of central directory), 4.3.15 and 4.3.14 (the same in 64 bits),
# 4.3.12 (central directory) and 4.3.7 (local header).
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")

_STORED, _DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd", 99: "AES"}
_UNIX = (3, 19)  # systems whose attributes say what a member is


class _Directory(NamedTuple):
    begin: int
    size: int
    n_members: int
    shift: int  # bytes in front of the archive, as of a program that unpacks itself


def members(file: IO[bytes], size: int) -> Iterator[Member | Fault]:
    """Every member that is no folder, in order, and what is wrong with the archive.

    Parameters
    ----------
    file : binary file
        That can seek.
    size : int
        Of the file.

    Yields
    ------
    Member or Fault
        The numbers of a member: offset of its header, size, size in the archive, CRC-32, method.
    """
    directory = _directory(file, size)
    if isinstance(directory, Fault):
        yield directory
        return
    count = 0
    for entry in _entries(file, directory):
        if isinstance(entry, Fault):
            yield entry
            return
        count += 1
        if entry.name and not entry.name.endswith("/"):
            yield _checked(entry, directory)
    if count % 65536 != directory.n_members % 65536:  # some writers let the short field overflow
        yield Fault(
            f"its directory lists {count:,} members, not the {directory.n_members:,} it says"
        )


def overlapping(offsets: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Members whose bytes are those of others too, as in a bomb of many names for one content.

    Parameters
    ----------
    offsets, sizes : sequence of int
        Of their headers, and of their data in the archive.

    Returns
    -------
    list of int
        Their places, sorted.
    """
    begins = np.asarray(offsets, np.int64)
    ends = begins + _LOCAL.size + np.asarray(sizes, np.int64)
    order = np.lexsort((ends, begins))
    before = np.maximum.accumulate(ends[order])[:-1] > begins[order][1:]
    hit = np.zeros(len(begins), np.bool_)
    hit[order[1:][before]] = True
    hit[order[:-1][before]] = True
    return [int(i) for i in np.flatnonzero(hit)]


def unpacked(file: IO[bytes], numbers: tuple[int, ...]) -> io.BytesIO:
    """The bytes of a member, checked.

    Parameters
    ----------
    file : binary file
        The archive.
    numbers : tuple of int
        As from `members`.

    Raises
    ------
    DecodeError
        When they are not as long as declared, or their checksum is wrong.
    """
    offset, size, packed, crc, method = numbers
    head = read_at(file, offset, _LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
        raise DecodeError("its header in the archive is missing")
    *_, name_size, extra_size = _LOCAL.unpack(head)
    at = offset + _LOCAL.size + name_size + extra_size
    data = read_at(file, at, packed) if method == _STORED else _inflated(file, at, packed, size)
    if len(data) != size:
        more = "more" if len(data) > size else f"{len(data):,} bytes"
        raise DecodeError(f"unpacks to {more}, not to the {size:,} bytes that it declares")
    if zlib.crc32(data) != crc:
        raise DecodeError("damaged in the archive: its checksum (CRC-32) is wrong")
    return io.BytesIO(data)


def _inflated(file: IO[bytes], at: int, packed: int, size: int) -> bytes:
    """At most one byte more than declared, whatever is packed."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    parts, left, end = [], size + 1, at + packed
    data = b""
    try:
        while left and not engine.eof:
            data = engine.unconsumed_tail
            if not data:
                data = read_at(file, at, min(end - at, _CHUNK))
                at += len(data)
            if not data:
                break
            parts.append(engine.decompress(data, left))
            left -= len(parts[-1])
    except zlib.error as error:
        raise DecodeError(f"damaged in the archive: {str(error).rpartition(': ')[2]}") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


# ---------------------------------------------------------------- the central directory


def _directory(file: IO[bytes], size: int) -> _Directory | Fault:
    """Where the central directory is, from the record at the end of the file."""
    begin = max(0, size - _END.size - 65535)
    tail = read_at(file, begin, size - begin)
    found = _end_in(tail)
    if found < 0:
        return Fault(
            "its directory, which is at the end of a zip archive, is missing: it was cut short, or "
            "is no zip archive"
        )
    _, disk, first, _, count, length, offset, _ = _END.unpack_from(tail, found)
    end = begin + found
    if found >= _LOCATOR.size and tail.startswith(b"PK\6\7", found - _LOCATOR.size):
        at = _LOCATOR.unpack_from(tail, found - _LOCATOR.size)[2]
        end, record = _record_64(file, at, end - _LOCATOR.size)
        if record is not None:
            *_, disk, first, _, count, length, offset = record
    if disk not in (0, 0xFFFF) or first not in (0, 0xFFFF):
        return Fault("one part of a split archive; join its parts first (zip -s 0)")
    actual = end - length
    if actual < offset or actual < 0:
        return Fault(f"its directory is damaged: it cannot begin at byte {offset}")
    return _Directory(actual, length, count, actual - offset)


def _end_in(tail: bytes) -> int:
    """Where the record at the end is: its comment goes to the end of the file; else the last."""
    found = last = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - _END.size + 4))
    while found >= 0:
        if found + _END.size + _END.unpack_from(tail, found)[-1] == len(tail):
            return found
        found = tail.rfind(b"PK\5\6", 0, found + 3)
    return last


def _record_64(file: IO[bytes], at: int, end: int) -> tuple[int, tuple[int, ...] | None]:
    """The record of 64 bits in front of a locator, where it says, or right before."""
    for place in (at, end - _END_64.size):
        data = read_at(file, place, _END_64.size) if place >= 0 else b""
        if len(data) == _END_64.size and data.startswith(b"PK\6\6"):
            return place, _END_64.unpack(data)
    return end, None


class _Entry(NamedTuple):
    name: str
    host: int
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    attributes: int
    offset: int
    sound: bool


def _entries(file: IO[bytes], directory: _Directory) -> Iterator[_Entry | Fault]:
    """The entries of the directory, from blocks of it."""
    at, end = directory.begin, directory.begin + directory.size
    held, used = b"", 0
    while at - len(held) + used < end:
        if len(held) - used < _ENTRY.size + 3 * 65535 and at < end:
            more = read_at(file, at, min(_CHUNK, end - at))
            if not more:
                break
            held, used, at = held[used:] + more, 0, at + len(more)
        if not held.startswith(b"PK\1\2", used) or len(held) - used < _ENTRY.size:
            break
        fields = _ENTRY.unpack_from(held, used)
        name_size, extra_size, comment_size = fields[10:13]
        begin = used + _ENTRY.size
        middle = begin + name_size
        used = middle + extra_size + comment_size
        if used > len(held):
            break
        yield _entry(fields, held[begin:middle], held[middle : middle + extra_size])
    else:
        return
    yield Fault(f"its directory is damaged at byte {at - len(held) + used}; the rest was not read")


def _entry(fields: tuple[int, ...], raw: bytes, extra: bytes) -> _Entry:
    """One entry; numbers that do not fit in 32 bits are in an extra field."""
    _, made, _, flags, method, _, _, crc, packed, size = fields[:10]
    attributes, offset = fields[15:17]
    name = raw.decode("utf-8", "surrogateescape") if flags & 0x800 else raw.decode("cp437")
    name, _, _ = name.partition("\0")
    host = made >> 8
    if "/" not in name and host in (0, 10, 11):  # as unzip does
        name = name.replace("\\", "/")
    wide = _extra_64(extra)
    values = [
        wide.pop(0) if value == 0xFFFFFFFF and wide else value for value in (size, packed, offset)
    ]
    sound = max(values) < 1 << 62
    size, packed, offset = values
    return _Entry(name, host, flags, method, crc, packed, size, attributes, offset, sound)


def _extra_64(extra: bytes) -> list[int]:
    at = 0
    while at + 4 <= len(extra):
        key, length = struct.unpack_from("<2H", extra, at)
        if key == 1:
            n = min(length, len(extra) - at - 4) // 8
            return list(struct.unpack_from(f"<{n}Q", extra, at + 4))
        at += 4 + length
    return []


def _checked(entry: _Entry, directory: _Directory) -> Member:
    """A member, and why it must not be read if there is a reason."""
    offset = entry.offset + directory.shift
    numbers = (offset, entry.size, entry.packed, entry.crc, entry.method)
    is_link = entry.host in _UNIX and stat.S_ISLNK(entry.attributes >> 16)
    if not entry.sound or offset + _LOCAL.size + entry.packed > directory.begin:
        beyond = "lies beyond the end of the archive"
        return Member(entry.name, (0, 0, 0, 0, 0), beyond, special=is_link)
    return Member(entry.name, numbers, _reason(entry, is_link), special=is_link)


def _reason(entry: _Entry, is_link: bool) -> str:
    size, packed = entry.size, entry.packed
    kind = entry.attributes >> 16
    if is_link:
        return "a symbolic link; links are not followed"
    if entry.host in _UNIX and stat.S_IFMT(kind) not in (0, stat.S_IFREG):
        return "something special, not a file"
    if entry.flags & 1:
        return "encrypted"
    if entry.method not in (_STORED, _DEFLATED):
        name = _METHODS.get(entry.method, f"method {entry.method}")
        return f"compressed by {name}; pack the archive anew, with Deflate or without compression"
    if max(size, packed) > _LARGEST:
        return f"a file of {max(size, packed) / 1e9:.1f} GB, too large to be read whole"
    if entry.method == _STORED and size != packed:
        return f"stored in {packed:,} bytes, but declares {size:,}"
    if size > _SUSPICIOUS and size > _RATIO * packed:
        return (
            f"unpacks to {size:,} bytes, {size // max(packed, 1):,} times what it takes in the "
            "archive: a zip bomb, or no picture"
        )
    return ""
