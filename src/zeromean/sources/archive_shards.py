"""Shards of members of archives: read by their place, or carried out of a compressed one."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from zeromean.errors import SourceError
from zeromean.sources import Item, zip_members
from zeromean.sources.access import HeldFile, ReadError, is_remote, opened, stamp_of
from zeromean.sources.archive_listing import Place
from zeromean.sources.decode import DecodeError
from zeromean.sources.files import Reader
from zeromean.sources.tar_members import Slice
from zeromean.sources.tar_streams import Stream
from zeromean.sources.walk import why_unreadable

_HASHED = 64 << 20  # bytes up to which what cannot be decoded is hashed
_CHANGED = "changed while it was read"


class Row(NamedTuple):
    """One member of a shard, or an archive that is at fault itself.

    Attributes
    ----------
    archive : int
        Which one of the shard's archives it is in.
    name : str
        In messages.
    stamp : tuple of int
    numbers : tuple of int
        Where it lies in the archive.
    reason : str
        Why it must not be read; mostly empty.
    data : bytes, optional
        Its content, where it has been carried out.
    passing : bool
        Whether the reason may be gone when it is tried again.
    """

    archive: int
    name: str
    stamp: tuple[int, ...]
    numbers: tuple[int, ...] = ()
    reason: str = ""
    data: bytes | None = None
    passing: bool = False


@dataclass(frozen=True, slots=True)
class MemberShard:
    """Some members of archives; picklable.

    Attributes
    ----------
    places : tuple of Place
        The archives.
    rows : tuple of Row
    reader : Reader
    """

    places: tuple[Place, ...]
    rows: tuple[Row, ...]
    reader: Reader

    @property
    def name(self) -> str:
        """The first member, for messages."""
        return self.rows[0].name

    @property
    def n_items(self) -> int:
        """How many members it reads."""
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """What its members are called."""
        return [row.name for row in self.rows]

    @property
    def paths(self) -> list[str]:
        """The archives that they are in."""
        return [place.path for place in self.places]

    def items(self) -> Iterator[Item]:
        """Read the members in order; what cannot be read is an item with a reason."""
        return self._items(None)

    def passing_items(self) -> Iterator[Item]:
        """`items`, but each array may be written over when the next item is asked for."""
        return self._items(self.reader.scratch())

    def split(self) -> Iterator[MemberShard]:
        """Shards of one member each."""
        return (MemberShard(self.places, (row,), self.reader) for row in self.rows)

    def _items(self, memory: Any) -> Iterator[Item]:
        archives = Reading(self.places)
        try:
            for row in self.rows:
                if row.reason:
                    yield Item(None, row.name, row.reason, stamp=row.stamp, passing=row.passing)
                else:
                    yield from self._parts(row, archives, memory)
        finally:
            archives.close()

    def _parts(self, row: Row, archives: Reading, memory: Any) -> Iterator[Item]:
        """All parts of a member; the last one is held back until the archive was still the same."""
        known: dict[str, Any] = {"stamp": row.stamp}
        last: Item | None = None
        try:
            file = archives.member(row)
            for item in self.reader(file, memory):
                if last is not None:
                    yield replace(last, more=True)
                last = item
            known["digest"], known["n_bytes"] = file.digest, file.size
            archives.check(row)
        except DecodeError as error:
            yield archives.failure(row, str(error))
            return
        except (OSError, MemoryError) as error:
            reason = str(error) if isinstance(error, ReadError) else why_unreadable(error)
            yield Item(None, row.name, reason, passing=True)
            return
        yield replace(last, **known) if last else Item(None, row.name, "holds no data", **known)


class Reading:
    """The archives of a shard while it is read; one is open at a time.

    Parameters
    ----------
    places : sequence of Place
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places, self._stack = places, ExitStack()
        self._current = -1
        self._held: HeldFile | None = None
        self._member: HeldFile | None = None
        self._failed: dict[int, str] = {}

    def member(self, row: Row) -> HeldFile:
        """A member as a file of its own.

        Raises
        ------
        ReadError
            When the archive cannot be opened, or is not the one that was listed.
        DecodeError
            When the member is not what the archive says of it.
        """
        self._member = None
        place = self._places[row.archive]
        if row.data is not None:
            content: Any = io.BytesIO(row.data)
        elif place.kind == "zip":
            content = zip_members.unpacked(self._archive(row.archive).file, row.numbers)
        else:
            content = Slice(self._archive(row.archive).file, *row.numbers)
        self._member = HeldFile(f"{place.path}/{row.name}", row.name, content, row.stamp)
        return self._member

    def check(self, row: Row) -> None:
        """Look whether the archive is still what it was.

        Raises
        ------
        ReadError
            When it is not.
        """
        if row.data is None and (held := self._held) and not unchanged(held):
            raise ReadError(self._say(row.archive, _CHANGED))

    def failure(self, row: Row, reason: str) -> Item:
        """The item of a member that is not what it should be; or whose archive has changed."""
        try:
            self.check(row)
        except ReadError as error:
            return Item(None, row.name, str(error), passing=True)
        member, digest = self._member, 0
        if member is not None and member.size <= _HASHED:
            try:
                digest = member.digest
            except (OSError, ValueError):
                member = None
        n_bytes = member.size if member is not None and digest else 0
        return Item(None, row.name, reason, stamp=row.stamp, digest=digest, n_bytes=n_bytes)

    def close(self) -> None:
        """Close the archive that is open.

        Raises
        ------
        SourceError
            When a remote one has changed: what was read of it cannot be told apart any more.
        """
        self._held = None
        try:
            self._stack.close()
        except ReadError as error:  # of local ones each member was checked
            place = self._places[self._current]
            if is_remote(place.path) and str(error) == _CHANGED:
                raise SourceError(f"{place.name}: {error}") from None

    def _archive(self, i: int) -> HeldFile:
        if i in self._failed:
            raise ReadError(self._failed[i])
        if i != self._current or self._held is None:
            self.close()
            self._current = i
            try:
                self._held = self._opened(self._places[i])
            except ReadError as error:
                self._failed[i] = self._say(i, str(error))
                raise ReadError(self._failed[i]) from None
        return self._held

    def _opened(self, place: Place) -> HeldFile:
        held = self._stack.enter_context(opened(place.path, place.name))
        _check_listed(held, place)
        return held

    def _say(self, i: int, reason: str) -> str:
        return f"its archive {self._places[i].name}: {reason}"


def unchanged(held: HeldFile) -> bool:
    """Whether an open local file is still what it was; True for a remote one.

    Parameters
    ----------
    held : HeldFile
    """
    if is_remote(held.path):
        return True
    return stamp_of(os.fstat(held.file.fileno()))[:2] == held.stamp[:2]


def _check_listed(held: HeldFile, place: Place) -> None:
    """Refuse an archive that is not the one that was listed."""
    now, then = held.stamp, place.stamp
    last = 3 if is_remote(place.path) and now[2] and then[2] else 2  # a tag says more than a time
    if now[0] != then[0] or now[last - 1] != then[last - 1]:
        raise ReadError("changed after it was listed")


class Carrier:
    """Takes members out of compressed archives, in as few passes as their order allows."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._place: Place | None = None
        self._held: HeldFile | None = None
        self._stream: Stream | None = None

    def fetch(self, place: Place, wanted: Sequence[tuple[int, int]]) -> Mapping[int, bytes]:
        """The bytes of members, by their offset.

        Parameters
        ----------
        place : Place
        wanted : sequence of (int, int)
            Offsets and sizes.

        Raises
        ------
        OSError
            When the archive is not what it was.
        """
        found = {}
        for offset, size in sorted(wanted):
            if place != self._place or self._stream is None or offset < self._stream.at:
                self._open(place)
            assert self._stream is not None
            data = self._stream.take(offset, size)
            if len(data) != size:
                raise ReadError(_CHANGED)
            found[offset] = data
        if self._held is not None and not unchanged(self._held):
            raise ReadError(_CHANGED)
        return found

    def close(self) -> None:
        """Close the archive that is open."""
        self._place = self._stream = None
        with suppress(ReadError):  # whatever was fetched has been checked
            self._stack.close()

    def _open(self, place: Place) -> None:
        self.close()
        self._held = self._stack.enter_context(opened(place.path, place.name))
        _check_listed(self._held, place)
        self._stream = Stream(self._held.file, place.kind)
        self._stack.callback(self._stream.close)
        self._place = place
