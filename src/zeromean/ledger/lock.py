"""One writer at a time: a lock that the system takes back when its holder dies."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from zeromean.errors import SourceError


class InUseError(SourceError):
    """Another process is writing to the ledger."""


class Lock:
    """Holds a file next to the ledger for as long as it is written to.

    The file stays when the lock is given back: to remove it would let two others in.

    Parameters
    ----------
    path : Path
        Of the ledger.

    Raises
    ------
    InUseError
        With the process that holds it, and since when.
    OSError
        When the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._file: Any = self._path.open("a+", encoding="utf-8")
        try:
            _take(self._file)
        except OSError:
            holder = self._holder()
            self._file.close()
            raise InUseError(
                f"{path} is being written to by {holder}; wait until it has ended, or keep another "
                "ledger (--ledger FILE)"
            ) from None
        self._file.seek(0)
        self._file.truncate()
        own = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        json.dump(own, self._file)
        self._file.flush()

    def _holder(self) -> str:
        with suppress(OSError, ValueError, KeyError, TypeError):
            self._file.seek(0)
            held = json.load(self._file)
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["since"]))
            return f"process {held['pid']} on {held['host']} since {since}"
        return "another process"

    def release(self) -> None:
        """Let others in."""
        self._file.close()


def _take(file: Any) -> None:
    """Lock a file or raise OSError."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
