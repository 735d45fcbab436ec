"""Reads compressed tar archives from their beginning to their end, in blocks."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import IO, Any

from zeromean.sources.access import ReadError

_CHUNK = 1 << 18

#: First bytes of what tar archives are compressed with.
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def compression(head: bytes) -> str:
    """What a file is compressed with, by its first bytes; empty for nothing.

    Parameters
    ----------
    head : bytes
        Six of them.
    """
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def decompressed(file: IO[bytes], name: str) -> IO[bytes]:
    """What is in a compressed file, to be read forward; leaves the file itself open.

    Parameters
    ----------
    file : binary file
        At its beginning.
    name : str
        Of the compression.

    Raises
    ------
    ImportError
        For zstd, before Python 3.14.
    """
    if name == "zstd":
        try:
            zstd: Any = import_module("compression.zstd")
        except ModuleNotFoundError:
            raise ImportError(
                "archives compressed by zstd need Python 3.14; decompress them first: zstd -d FILE"
            ) from None
        return zstd.open(file)  # type: ignore[no-any-return]
    openers: dict[str, Callable[..., Any]] = {
        "gzip": lambda held: gzip.GzipFile(fileobj=held, mode="rb"),
        "bzip2": bz2.open,
        "xz": lzma.open,
    }
    return openers[name](file)  # type: ignore[no-any-return]


class Stream:
    """A compressed archive as `tar_members.Blocks`; can only be read forward.

    Parameters
    ----------
    file : binary file
        At its beginning.
    name : str
        Of the compression.

    Attributes
    ----------
    at : int
        How many bytes of its content have been read.
    fault : str
        Why it could not be read on; empty while it could.
    damaged : bool
        Whether what was read before is in doubt too: its checksum is wrong, or it is no sound
        compressed data. A file that is merely cut short is not.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name, self.at = name, 0
        self.fault, self.damaged = "", False
        self._content: Any = decompressed(file, name)

    def take(self, at: int, size: int) -> bytes:
        """Bytes at a place that has not been passed."""
        if self.reach(at) < at:
            return b""
        parts, left = [], size
        while left and (data := self._read(min(left, _CHUNK))):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def reach(self, end: int) -> int:
        """Read up to a place; where it ends if it comes first."""
        while self.at < end and self._read(min(end - self.at, _CHUNK)):
            pass
        return min(end, self.at)

    def drain(self) -> None:
        """Read to the very end, where the checksum stands."""
        while self._read(_CHUNK):
            pass

    def close(self) -> None:
        """Give back the decompressor's memory."""
        self._content.close()

    def _read(self, size: int) -> bytes:
        if self.fault:
            return b""
        try:
            data: bytes = self._content.read1(size)
        except EOFError:
            self.fault = f"its {self.name} data end too soon, after {self.at} bytes of content"
            return b""
        except ReadError:
            raise
        except (OSError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk or the network
            self._doubt(error)
            return b""
        except Exception as error:  # zstd has an error of its own
            if type(error).__name__ != "ZstdError":
                raise
            self._doubt(error)
            return b""
        self.at += len(data)
        return data

    def _doubt(self, error: Exception) -> None:
        """A wrong checksum puts everything in doubt; what follows a sound end does not."""
        follows = isinstance(error, gzip.BadGzipFile) and str(error).startswith("Not a gzip")
        self.damaged = not (follows and self.at)
        what = "are followed by something else" if not self.damaged else "are damaged"
        why = str(error).rpartition(": ")[2].rstrip(".").lower()  # zlib begins with a number
        self.fault = f"its {self.name} data {what}, near byte {self.at} of the content ({why})"
