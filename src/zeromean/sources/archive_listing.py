"""Lists what is wanted of an archive: where its samples lie, and what else is there."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from zeromean.sources import tar_members, zip_members
from zeromean.sources.access import HeldFile, is_remote, opened, shown
from zeromean.sources.tar_members import Fault, Member
from zeromean.sources.tar_streams import Stream, compression
from zeromean.sources.walk import Root, hidden, printable, suffix_of

_LARGEST_CARRIED = 64 << 20  # bytes of one member of a compressed tar archive
_FAULTS = 3  # that are written out
_DRIVE = re.compile(r"[A-Za-z]:/")


class Place(NamedTuple):
    """Where members are; picklable.

    Attributes
    ----------
    path : str
        Of the archive.
    name : str
        Of the archive, in messages.
    kind : str
        ``"tar"``, ``"zip"``, or what a tar archive is compressed with.
    stamp : tuple of int
        Of the archive as it was listed.
    """

    path: str
    name: str
    kind: str
    stamp: tuple[int, ...]

    @property
    def is_stream(self) -> bool:
        """Whether it can only be read from its beginning."""
        return self.kind not in ("tar", "zip")


class Listing:
    """Names and numbers of members; some 60 bytes for each, as there may be millions."""

    def __init__(self) -> None:
        self._names, self._ends = bytearray(), array("q")
        self._numbers: list[array[int]] = []
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, name: str, numbers: tuple[int, ...], reason: str = "") -> None:
        """Append a member."""
        if not self._numbers:
            self._numbers = [array("q") for _ in numbers]
        if reason:
            self._reasons[len(self)] = reason
        self._names += name.encode()
        self._ends.append(len(self._names))
        for column, number in zip(self._numbers, numbers, strict=True):
            column.append(number)

    def name(self, i: int) -> str:
        """Path of a member in its archive."""
        return self._names[self._ends[i - 1] if i else 0 : self._ends[i]].decode()

    def names(self) -> Iterator[str]:
        """All of them."""
        return map(self.name, range(len(self)))

    def numbers(self, i: int) -> tuple[int, ...]:
        """As in `zeromean.sources.tar_members.Member`: first the offset, then the size."""
        return tuple(column[i] for column in self._numbers)

    def size(self, i: int) -> int:
        """Of a member, in bytes."""
        return self._numbers[1][i]

    def reason(self, i: int) -> str:
        """Why a member must not be read; mostly empty."""
        return self._reasons.get(i, "")

    @property
    def is_readable(self) -> bool:
        """Whether there is any member that may be read."""
        return len(self._reasons) < len(self)

    def refuse(self, i: int, reason: str) -> None:
        """A member must not be read, unless there is a reason for that already."""
        self._reasons.setdefault(i, reason)

    def column(self, k: int) -> Sequence[int]:
        """One of the numbers of all members."""
        return self._numbers[k] if self._numbers else ()

    def without(self, places: Sequence[int]) -> Listing:
        """All members but some."""
        rest, out = Listing(), set(places)
        for i in range(len(self)):
            if i not in out:
                rest.add(self.name(i), self.numbers(i), self.reason(i))
        return rest

    def replaced(self) -> list[int]:
        """Members that come again under the same name: unpacking leaves the last one."""
        hashes = np.fromiter(map(hash, self.names()), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
        last: dict[str, int] = {}
        out = []
        for i in sorted({int(order[k]) for k in (*same.tolist(), *(same + 1).tolist())}):
            if (before := last.get(name := self.name(i))) is not None:
                out.append(before)
            last[name] = i
        return out


class Wanted(NamedTuple):
    """Which members are samples.

    Attributes
    ----------
    endings : tuple of str
        Extensions, in small letters; they may have two dots.
    below : str
        The folder in the archive that they lie in; empty for all.
    """

    endings: tuple[str, ...]
    below: str = ""


@dataclass(slots=True, eq=False)
class Archive:
    """An archive as it was listed.

    Attributes
    ----------
    place : Place
    root : Root
        What else is in it, counted.
    listing : Listing
    faults : list of str
        What is wrong with it as a whole.
    n_replaced : int
        How many members a later one of the same name replaces.
    passing : bool
        Whether it could not be opened just now.
    """

    place: Place
    root: Root
    listing: Listing = field(default_factory=Listing)
    faults: list[str] = field(default_factory=list)
    n_replaced: int = 0
    passing: bool = False
    _folder: str = ""

    def __len__(self) -> int:
        """Its entries: the members, and itself when something is wrong with it."""
        return len(self.listing) + bool(self.faults)

    def note_folder(self, folder: str) -> None:
        """Look once whether the name of a folder says that it is for validation or test."""
        if folder != self._folder:
            self._folder = folder
            self.root.note_leak(folder.replace("/", os.sep))

    @property
    def fault(self) -> str:
        """All faults as one sentence fragment."""
        rest = len(self.faults) - _FAULTS
        more = f"; and {rest:,} more such places" if rest > 0 else ""
        return "; ".join(self.faults[:_FAULTS]) + more


def root_of(path: str, label: str) -> Root:
    """What is counted in an archive."""
    return Root(path, label, remote=is_remote(path))


def listed(path: str, label: str, form: str, wanted: Wanted) -> Archive:
    """List an archive.

    Parameters
    ----------
    path : str
        Or a URL.
    label : str
        What stands for it in the names of its members; empty when it is the only one.
    form : {"tar", "zip"}
    wanted : Wanted

    Raises
    ------
    OSError
        When it cannot be opened or read; what is wrong with its content is in `faults`.
    """
    name = label or printable(os.path.basename(os.path.normpath(shown(path))))
    with opened(path, name) as file:
        kind = "zip" if form == "zip" else compression(file.file.read(6)) or "tar"
        where = path if is_remote(path) else os.path.abspath(path)  # workers may start elsewhere
        archive = Archive(Place(where, name, kind, file.stamp), root_of(path, label))
        for found in _found(file, archive):
            if isinstance(found, Fault):
                archive.faults.append(found.text)
            else:
                _take(archive, found, wanted)
    _settle(archive)
    return archive


def _found(file: HeldFile, archive: Archive) -> Iterator[Member | Fault]:
    """Everything in an archive; a compressed one is read to its end, and must be sound."""
    kind = archive.place.kind
    if kind == "zip":
        yield from zip_members.members(file.file, file.size)
    elif kind == "tar":
        yield from tar_members.members(tar_members.Seekable(file.file, file.size))
    else:
        file.file.seek(0)
        stream = Stream(file.file, kind)
        yield from tar_members.members(stream)
        stream.drain()
        stream.close()
        if stream.damaged:  # whatever came before its checksum counts for nothing
            archive.listing, archive.faults = Listing(), []
        if stream.fault:
            yield Fault(stream.fault)


def _settle(archive: Archive) -> None:
    """Refuse what only the whole list shows."""
    listing = archive.listing
    if archive.place.kind == "zip":
        for i in zip_members.overlapping(listing.column(0), listing.column(2)):
            listing.refuse(i, "shares its bytes with another member, as in a zip bomb")
    elif archive.place.is_stream:
        for i, size in enumerate(listing.column(1)):
            if size > _LARGEST_CARRIED:
                listing.refuse(
                    i,
                    f"{size:,} bytes, more than the {_LARGEST_CARRIED:,} that are taken out of a "
                    "compressed archive; decompress the archive first",
                )
    if out := listing.replaced():
        archive.listing, archive.n_replaced = listing.without(out), len(out)


# ---------------------------------------------------------------- names


@lru_cache(1024)
def _in_hidden(folder: str) -> bool:
    return any(map(hidden, folder.split("/")))


def _tidy(name: str) -> tuple[str, str]:
    """A member's name without ``./`` and ``//``; and why it must not be used."""
    if name.startswith("/") or _DRIVE.match(name):
        return name, "an absolute name, which leads out of the archive"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        return name, "a name with '..', which leads out of the archive"
    return "/".join(parts), ""


def _take(archive: Archive, member: Member, wanted: Wanted) -> None:
    """Put a member into the list, or count it."""
    name, astray = _tidy(printable(member.name))
    if wanted.below and not astray:
        if not name.startswith(wanted.below + "/"):
            return
        name = name[len(wanted.below) + 1 :]
    folder, _, base = name.rpartition("/")
    if not astray and (not name or hidden(base) or _in_hidden(folder)):
        return
    if base.lower().endswith(wanted.endings) or member.special:
        archive.listing.add(name, member.numbers, astray or member.reason)
        archive.note_folder("" if astray else folder)
    elif base.endswith(".gz"):  # two dots: of .nii.gz, .csv.gz the second tells nothing
        archive.root.ignored[suffix_of(base[:-3]) + ".gz"] += 1
    else:
        archive.root.take(base, frozenset())
