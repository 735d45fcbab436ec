"""Opens one file, here or in a remote store, and says what it was when it was read."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from zeromean.errors import SourceError
from zeromean.sources.decode import DecodeError
from zeromean.sources.walk import what_it_is, why_unreadable

#: Protocols of what lies inside one file.
INSIDE = frozenset(("libarchive", "reference", "tar", "zip"))
_LARGEST_WHOLE = 2 << 30  # nothing that is decoded from memory needs more
_BLOCK = 1 << 20


class ReadError(SourceError):
    """A file cannot be read just now: it vanished, changed, is locked, the network is down."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL of a remote store, such as ``s3://bucket/folder``."""
    head, found, _ = path.partition("://")
    return bool(found) and head.replace("+", "").replace(":", "").isalnum()


_SECRETS = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")
_QUERY = re.compile(r"\?[^?\s]*?=[^\s]*?(?=::|\s|$)")


def shown(path: str) -> str:
    """A path or URL as it may be written down: without a password, and without what follows `?`.

    Parameters
    ----------
    path : str
        Or a text with URLs in it.

    Examples
    --------
    >>> shown("https://me:secret@host/a.png?X-Amz-Signature=f00")
    'https://me@host/a.png'
    """
    return _QUERY.sub("", _SECRETS.sub(r"\1@", path)) if "://" in path else path


@dataclass(frozen=True, slots=True)
class Address:
    """A URL in its parts: ``lead`` + ``first`` + ``tail``.

    Attributes
    ----------
    lead : str
        Caches in front, such as ``"simplecache::"``.
    first : str
        What has the path of the file.
    tail : str
        Where the archive lies that holds it, such as ``"::s3://bucket/a.zip"``.
    """

    lead: str
    first: str
    tail: str

    @property
    def path(self) -> str:
        """Of the file in its store, without a query; empty for all of an archive."""
        return shown(self.first).partition("://")[2]

    @property
    def protocol(self) -> str:
        """Of the file itself."""
        return self.first.partition("://")[0]

    def protocols(self) -> set[str]:
        """All that are passed through."""
        bits = f"{self.lead}{self.first}{self.tail}".split("::")
        return {bit.partition("://")[0] for bit in bits}

    def store_url(self) -> str:
        """The same for all files of one store."""
        rest = self.first.partition("://")[2]
        authority = "" if self.protocol in INSIDE else rest.partition("/")[0]
        return f"{self.lead}{self.protocol}://{authority}{self.tail}"


def address_of(url: str) -> Address:
    """The parts of a URL.

    Parameters
    ----------
    url : str

    Examples
    --------
    >>> address_of("simplecache::zip://train/1.png::s3://bucket/a.zip").first
    'zip://train/1.png'
    """
    if "::" not in url:
        return Address("", url, "")
    bits = url.split("::")
    at = next((i for i, bit in enumerate(bits) if "://" in bit or bit in INSIDE), 0)
    first = bits[at] if "://" in bits[at] else bits[at] + "://"
    lead = "".join(bit + "::" for bit in bits[:at])
    return Address(lead, first, "".join("::" + bit for bit in bits[at + 1 :]))


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """Size, time of change and time of status change: a file that keeps all three is the same."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stamp_at(path: str) -> tuple[int, ...]:
    """What a file is now, without reading it.

    Parameters
    ----------
    path : str
        Or a URL.

    Raises
    ------
    OSError
        When it cannot be looked at.
    """
    if not is_remote(path):
        return stamp_of(os.stat(path))
    from zeromean.sources.stores import locate, looked_at

    return looked_at(*locate(path))


class HeldFile:
    """One file while it is read.

    Attributes
    ----------
    path, name : str
        Where it is, and what it is called in messages.
    file : binary file
        Open for reading, at its beginning; can seek.
    size : int
        In bytes.
    stamp : tuple of int
    """

    def __init__(self, path: str, name: str, file: IO[bytes], stamp: tuple[int, ...]) -> None:
        self.path, self.name, self.file = path, name, file
        self.size, self.stamp = stamp[0], stamp
        self._digest: int | None = None

    def data(self) -> bytes:
        """The whole file.

        Raises
        ------
        ReadError
            When it has another length than it had.
        DecodeError
            When it is too large to be held.
        """
        if self.size > _LARGEST_WHOLE:
            raise DecodeError(f"a file of {self.size / 1e9:.1f} GB, too large to be read whole")
        self.file.seek(0)
        data = self.file.read()
        if len(data) != self.size:
            raise ReadError("changed while it was read")
        self._digest = int.from_bytes(hashlib.sha256(data).digest(), "big")
        return data

    @property
    def digest(self) -> int:
        """SHA-256 of its content, as an integer; reads it in blocks if nobody has read it whole."""
        if self._digest is None:
            hashed, length = hashlib.sha256(), 0
            self.file.seek(0)
            while block := self.file.read(_BLOCK):
                hashed.update(block)
                length += len(block)
            if length != self.size:
                raise ReadError("changed while it was read")
            self._digest = int.from_bytes(hashed.digest(), "big")
        return self._digest


@contextmanager
def opened(path: str, name: str) -> Iterator[HeldFile]:
    """Open a file for the time of a block; at its end it must be what it was.

    Parameters
    ----------
    path : str
        Or a URL.
    name : str
        What it is called in messages.

    Raises
    ------
    ReadError
        When it cannot be opened, is no regular file, or has changed meanwhile.
    """
    if is_remote(path):
        from zeromean.sources.remote import opened_remote

        with opened_remote(path, name) as held:
            yield held
        return
    try:
        file: Any = open(path, "rb", buffering=0, opener=_open)  # noqa: SIM115
    except OSError as error:
        raise ReadError(why_unreadable(error)) from None
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ReadError(what_it_is(status.st_mode))
        yield HeldFile(path, name, file, stamp_of(status))
        if stamp_of(os.fstat(file.fileno()))[:2] != stamp_of(status)[:2]:
            raise ReadError("changed while it was read")


def _open(path: str, flags: int) -> int:
    # A pipe put in the file's place after the walk would else block for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
