"""What open files of rows have in common: they say what is wrong, and notice when they change."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zeromean.errors import SourceError
from zeromean.sources.access import HeldFile, ReadError, stamp_of
from zeromean.sources.decode import DecodeError
from zeromean.sources.walk import why_unreadable


@contextmanager
def told(called: str, place: str = "") -> Iterator[None]:
    """What goes wrong with a file as a fragment: damage, or a failure that may pass."""
    import pyarrow

    try:
        yield
    except SourceError:
        raise
    except MemoryError as error:
        raise ReadError(why_unreadable(error)) from None
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, struct.error) as error:
        if isinstance(error, OSError) and error.errno:  # PyArrow's own have none
            raise ReadError(why_unreadable(error)) from None
        said = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        where = f" ({place})" if place else ""
        raise DecodeError(f"cannot be read as {called}: {said}{where}") from None


class RowFile:
    """What both kinds have: the file was the same before and after each batch was read."""

    called: str
    part: str
    schema: Any
    rows: array[int]
    sizes: array[int]
    checked = False

    def __init__(self, held: HeldFile) -> None:
        self._held, self.stamp = held, held.stamp

    def batches(self, group: int, columns: Sequence[str], n_rows: int) -> Iterator[Any]:
        """Record batches of a row group, each but the last of so many rows.

        Parameters
        ----------
        group : int
        columns : sequence of str
            Their names; dots lead into structures.
        n_rows : int

        Raises
        ------
        ReadError
            When the file has changed.
        DecodeError
            When it is damaged there. What was handed over before is sound.
        """
        try:
            with told(self.called, f"{self.part} {group}"):
                for batch in self._batches(group, columns, n_rows):
                    self._check()
                    yield batch
        except DecodeError:
            self._check()  # no wonder, if it has changed
            raise

    def _batches(self, group: int, columns: Sequence[str], n_rows: int) -> Iterator[Any]:
        raise NotImplementedError

    def _check(self) -> None:
        try:
            status = os.fstat(self._held.file.fileno())
        except (OSError, AttributeError):  # in a remote store
            return
        if stamp_of(status)[:2] != self.stamp[:2]:
            raise ReadError("changed while it was read")
