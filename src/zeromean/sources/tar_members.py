"""Walks the headers of a tar archive and says where its members lie, or where it is damaged.

Python's `tarfile` stops without a word at a bad header (cpython #120740), and at a missing end.
Here nothing is passed over in silence: what cannot be read is a `Fault`, or a member with a reason.
The formats are those of POSIX.1-2001 (ustar, pax), GNU tar and Version 7.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, Protocol

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_CHUNK = 1 << 18
_LARGEST_EXTENSION = 1 << 20  # bytes of names and attributes that one member may have
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")


class Member(NamedTuple):
    """One member of an archive that is no folder.

    Attributes
    ----------
    name : str
        As the archive has it.
    numbers : tuple of int
        Where its bytes begin, how many they are, and what else is needed to read them.
    reason : str
        Why it cannot be read; mostly empty.
    special : bool
        Whether it is to be reported whatever its extension, as links are.
    """

    name: str
    numbers: tuple[int, ...]
    reason: str = ""
    special: bool = False


class Fault(NamedTuple):
    """What is wrong with an archive as a whole, as a sentence fragment."""

    text: str


class Blocks(Protocol):
    """An archive that is read forward; places are never asked for in falling order."""

    def take(self, at: int, size: int) -> bytes:
        """Bytes at a place; fewer than asked for only where it ends."""

    def reach(self, end: int) -> int:
        """That place, or the end of the archive where it comes first."""


class Seekable:
    """`Blocks` of an uncompressed archive: only headers are read.

    Parameters
    ----------
    file : binary file
        That can seek.
    size : int
        Of the file.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def take(self, at: int, size: int) -> bytes:
        """Bytes at a place."""
        return read_at(self._file, at, min(size, max(0, self._size - at)))

    def reach(self, end: int) -> int:
        """That place, or the end of the file."""
        return min(end, self._size)


def read_at(file: IO[bytes], at: int, size: int) -> bytes:
    """Bytes at a place of a file, also where one call gives only some of them.

    Parameters
    ----------
    file : binary file
    at, size : int

    Returns
    -------
    bytes
        Fewer than `size` where the file ends.
    """
    file.seek(at)
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


class Slice(io.RawIOBase):
    """A member as a file of its own; reads from the archive's file.

    Parameters
    ----------
    file : binary file
        The archive.
    begin, size : int
        Where its bytes are.
    """

    def __init__(self, file: IO[bytes], begin: int, size: int) -> None:
        self._file, self._begin, self._size, self._at = file, begin, size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; as for any file."""
        base = (0, self._at, self._size)[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek value {base + offset}")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Bytes from here on; all that were asked for, unless the member ends."""
        left = max(0, self._size - self._at)
        n = left if size is None or size < 0 else min(size, left)
        data = read_at(self._file, self._begin + self._at, n)
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        """All bytes from here on."""
        return self.read(-1)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def members(blocks: Blocks) -> Iterator[Member | Fault]:
    """Every member that is no folder, in order, and what is wrong with the archive.

    After a damaged header the walk goes on at the next sound one, as GNU tar does.

    Parameters
    ----------
    blocks : Blocks

    Yields
    ------
    Member or Fault
        The numbers of a member are its offset and its size.
    """
    return _Walk(blocks).members()


# ---------------------------------------------------------------- one header


class _Header(NamedTuple):
    name: bytes
    size: int
    kind: bytes
    link: bytes
    extended: bool  # an old GNU header of a sparse file, followed by more of its map


def _number(field: bytes) -> int | None:
    """An octal number, or GNU's binary one; None when it is neither, or negative."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else None
    found = _OCTAL.fullmatch(field)
    return None if found is None else int(found[1] or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _header(block: bytes) -> _Header | None:
    """What a header says; None when its checksum is wrong, or it makes no sense."""
    declared = _number(block[148:156])
    if declared is None or declared not in _checksums(block):
        return None
    size = _number(block[124:136])
    if size is None or size >= 1 << 63:
        return None
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name  # GNU's own magic is another: it has times there
    return _Header(name, size, block[156:157], _text(block[157:257]), block[482] != 0)


def _checksums(block: bytes) -> Iterator[int]:
    """The sum of all bytes, with blanks for the sum itself; then that of signed ones, as of old."""
    total = sum(block) - sum(block[148:156]) + 8 * 32
    yield total
    yield total - 256 * sum(b > 127 for b in block[:148] + block[156:])


def _records(data: bytes) -> dict[str, bytes] | None:
    """The records of a pax header, ``length key=value`` and a newline; None when damaged."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        digits, blank, _ = data[at : at + 20].partition(b" ")
        if not blank or not digits.isdigit():
            return None
        end = at + int(digits)
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if end > len(data) or not equals or data[end - 1 : end] != b"\n":
            return None
        found[key.decode("utf-8", "surrogateescape")] = value
        at = end
    return found


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


# ---------------------------------------------------------------- the walk

_EXTENSIONS = frozenset((b"x", b"X", b"g", b"L", b"K"))
_FILES = frozenset((b"0", b"\0", b"7"))
_LINKS = {b"1": "a hard link", b"2": "a symbolic link"}
_SPECIAL = {b"3": "a device", b"4": "a device", b"6": "a named pipe"}
_SILENT = frozenset((b"5", b"D", b"V"))  # folders, GNU's listings of folders, volume labels
_WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))


class _Walk:
    """Where a walk is, and what the extended headers said of the next member."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.at = blocks, 0
        self.common: dict[str, bytes] = {}  # of all members from here on
        self.own: dict[str, bytes] = {}  # of the next one
        self.doubt = ""  # why the next one cannot be trusted
        self.found: _Header | None = None  # the one at this place, read already

    def members(self) -> Iterator[Member | Fault]:
        while self.at >= 0:
            header, self.found = self.found, None
            if header is None:
                block = self.blocks.take(self.at, _BLOCK)
                if len(block) < _BLOCK:
                    yield Fault(self._missing_end(self.at + len(block)))
                    return
                if block == _ZEROS:
                    yield from self._end()
                    return
                header = _header(block)
            if header is None:
                yield Fault(self._damage())
            elif header.kind in _EXTENSIONS:
                yield from self._extend(header)
            else:
                yield from self._member(header)

    def _missing_end(self, end: int) -> str:
        return (
            f"cut short at byte {end}: the blocks of zeros that end a tar archive are missing, so "
            "that members may be missing too"
        )

    def _end(self) -> Iterator[Fault]:
        """Two blocks of zeros end an archive, and nothing but zeros may follow."""
        begin, at = self.at, self.at + _BLOCK
        second = self.blocks.take(at, _BLOCK)
        if second != _ZEROS:
            what = "its end is cut short" if len(second) < _BLOCK else "a lone block of zeros"
            yield Fault(f"{what} at byte {begin}; what may have followed is not read")
            return
        at += _BLOCK
        while chunk := self.blocks.take(at, _CHUNK):
            if chunk.count(0) < len(chunk):
                yield Fault(
                    f"goes on after its end at byte {begin}, and that is not read; archives that "
                    "were joined must be taken apart"
                )
                return
            at += len(chunk)

    # ------------------------------------------------------------ damage

    def _damage(self) -> str:
        """Go on at the next sound header; say what was passed over."""
        begin, self.own, self.doubt = self.at, {}, ""
        found = -1 if begin == 0 else self._next_header(begin + _BLOCK)
        self.at = found
        if begin == 0:
            return "no tar archive: its first header is missing or damaged"
        passed = "the rest was not read"
        if found >= 0:
            passed = f"{found - begin:,} bytes up to the next header were passed over"
        return f"damaged at byte {begin}: {passed}"

    def _next_header(self, at: int) -> int:
        while len(block := self.blocks.take(at, _BLOCK)) == _BLOCK:
            if block != _ZEROS and (header := _header(block)) is not None:
                self.found = header
                return at
            at += _BLOCK
        return -1

    # ------------------------------------------------------------ extended headers

    def _extend(self, header: _Header) -> Iterator[Fault]:
        """Take what is said of the next member, or of all."""
        begin, end = self.at + _BLOCK, self.at + _BLOCK + header.size
        self.at += _BLOCK + _padded(header.size)
        if header.size > _LARGEST_EXTENSION:
            self.doubt = f"its extended header has {header.size:,} bytes"
            reached = self.blocks.reach(end)
        else:
            data = self.blocks.take(begin, header.size)
            reached = begin + len(data)
            self._learn(header.kind, data)
        if reached < end:
            yield Fault(f"cut short at byte {reached}, within an extended header")
            self.at = -1

    def _learn(self, kind: bytes, data: bytes) -> None:
        if kind in (b"L", b"K"):
            self.own["path" if kind == b"L" else "linkpath"] = _text(data)
            return
        records = _records(data)
        if records is None:
            self.doubt = "its extended header is damaged"
        elif kind == b"g":
            self.common = self.common | records
        else:
            self.own |= records

    # ------------------------------------------------------------ members

    def _member(self, header: _Header) -> Iterator[Member | Fault]:
        said, doubt = self.common | self.own, self.doubt
        self.own, self.doubt = {}, ""
        name = _decoded(said.get("GNU.sparse.name") or said.get("path") or header.name)
        begin = self.at + _BLOCK
        if header.kind == b"S" and header.extended:
            begin = self._after_map(begin)
        size = _size(header, said)
        if size is None:
            size, doubt = header.size, "its extended header is damaged"
        end = begin + size
        reached = self.blocks.reach(end)
        reason = doubt or self._reason(header, said)
        if reached < end:
            reason = f"declares {size:,} bytes, but the archive ends after {reached - begin:,}"
        if header.kind not in _SILENT and not name.endswith("/"):
            yield Member(name, (begin, size), reason, header.kind in _LINKS)
        if reached < end:
            yield Fault(f"cut short at byte {reached}, within {name}")
        self.at = begin + _padded(size) if reached == end else -1

    def _reason(self, header: _Header, said: dict[str, bytes]) -> str:
        """Why a member is no file that could be read; empty for an ordinary one."""
        if header.kind in _LINKS:
            target = _decoded(said.get("linkpath") or header.link)
            return f"{_LINKS[header.kind]} to {target!r:.120}; links are not followed"
        if header.kind in _SPECIAL:
            return f"{_SPECIAL[header.kind]}, not a file"
        if header.kind == b"S" or any(key.startswith("GNU.sparse.") for key in said):
            return "a sparse file; pack it without --sparse"
        if header.kind == b"M":
            return "the rest of a file that begins in another volume"
        if header.kind not in _FILES:
            return f"of an unknown type ({header.kind.decode('latin-1')!r})"
        return ""

    def _after_map(self, at: int) -> int:
        """Pass over the rest of the map of a sparse file."""
        while len(block := self.blocks.take(at, _BLOCK)) == _BLOCK:
            at += _BLOCK
            if not block[504]:
                break
        return at


def _size(header: _Header, said: dict[str, bytes]) -> int | None:
    """How many bytes follow a header; None when an extended one says nonsense."""
    if header.kind in _WITHOUT_DATA:
        return 0
    digits = said.get("size")
    if digits is None:
        return header.size
    return int(digits) if digits.isdigit() and len(digits) < 20 else None


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
