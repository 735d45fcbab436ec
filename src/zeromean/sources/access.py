"""Opens one file, here or in a remote store, and says what it was when it was read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from zeromean.errors import SourceError
from zeromean.sources.decode import DecodeError
from zeromean.sources.walk import what_it_is, why_unreadable

_LARGEST_WHOLE = 2 << 30  # nothing that is decoded from memory needs more
_BLOCK = 1 << 20


class ReadError(SourceError):
    """A file cannot be read just now: it vanished, changed, is locked, the network is down."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL of a remote store, such as ``s3://bucket/folder``."""
    head, found, _ = path.partition("://")
    return bool(found) and head.replace("+", "").replace(":", "").isalnum()


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """Size, time of change and time of status change: a file that keeps all three is the same."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


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
