"""Arrays of known shape, dtype and chunks that are read in blocks, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from zeromean.sources import Item
from zeromean.sources.access import ReadError
from zeromean.sources.cutting import Box, Layout
from zeromean.sources.decode import DecodeError
from zeromean.sources.walk import why_unreadable


class Values(NamedTuple):
    """What a block holds.

    Attributes
    ----------
    array : ndarray or ColumnBatch
    missing : ndarray of bool, optional
        Where there is no data.
    """

    array: Any
    missing: Any = None


class Reading(Protocol):
    """Reads one block; picklable."""

    def __call__(self) -> Values:
        """Read it now."""

    def stamp(self) -> tuple[int, ...]:
        """What its file is now, as `zeromean.sources.Entry.stamp`; empty for memory."""


class BlockArray(Protocol):
    """An array that can be read in blocks.

    Attributes
    ----------
    name : str
        As in ``images.h5:/train/x``.
    layout : Layout
    dims : tuple of str
        Names of its axes; empty where there are none.
    notes, warnings : tuple of str
        What is done to its values; what is probably not meant.
    """

    name: str
    layout: Layout
    dims: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What reads a box, or some entries of the first axis of it."""

    def stamp(self, box: Box) -> tuple[int, ...]:
        """What the file of a box was when it was listed."""


def picked(array: Any, rows: tuple[int, ...] | None) -> Any:
    """Some entries of the first axis, or all."""
    return array if rows is None else array[list(rows)]


def slices(box: Box) -> tuple[slice, ...]:
    """A box as an index."""
    return tuple(slice(begin, end) for begin, end in box)


@dataclass(frozen=True)
class Unreadable:
    """One of several files that could not be opened.

    Attributes
    ----------
    name, reason : str
    at : tuple of int
        Its stamp.
    """

    name: str
    reason: str
    at: tuple[int, ...] = ()

    def __call__(self) -> Values:
        raise DecodeError(self.reason)

    def stamp(self) -> tuple[int, ...]:
        """What it was."""
        return self.at


@dataclass(frozen=True)
class Read:
    """What was read already, for another process that could not."""

    values: Values

    def __call__(self) -> Values:
        """Hand it over."""
        return self.values

    def stamp(self) -> tuple[int, ...]:
        """None."""
        return ()


# ---------------------------------------------------------------- shards


@dataclass(frozen=True, slots=True)
class Piece:
    """One block of an array, before it is read; picklable.

    Attributes
    ----------
    name : str
    reading : Reading
    n_items : int
        How many items it counts as.
    """

    name: str
    reading: Any
    n_items: int

    def item(self) -> Item:
        """Read it; what cannot be read is an item with a reason."""
        stamp: tuple[int, ...] = ()
        try:
            stamp = self.reading.stamp()
            array, missing = self.reading()
            if self.reading.stamp() != stamp:
                return self._skipped("changed while it was read", (), passing=True)
        except DecodeError as error:
            return self._skipped(str(error), stamp)
        except (MemoryError, PermissionError, FileNotFoundError, ReadError) as error:
            return self._skipped(why_unreadable(error), stamp, passing=True)
        except Exception as error:  # whatever the library and its codecs say of damaged bytes
            known = getattr(error, "errno", None) is not None
            return self._skipped(why_damaged(error), stamp, passing=known)
        return Item(
            array,
            self.name,
            n_bytes=array.nbytes,
            batched=True,
            n_items=self.count(array),
            missing=missing,
            stamp=stamp,
        )

    def count(self, array: Any) -> int:
        """How many items it counts as, when it has been read."""
        return self.n_items

    def _skipped(self, reason: str, stamp: tuple[int, ...], passing: bool = False) -> Item:
        count = self.n_items
        return Item(None, self.name, reason, n_items=count, stamp=stamp, passing=passing)


def why_damaged(error: BaseException) -> str:
    """What a library says of bytes that it cannot read, in one line."""
    text = " ".join(str(error).split())
    return f"cannot be read: {text or type(error).__name__}"


@dataclass(frozen=True, slots=True)
class BlockShard:
    """Some blocks; picklable.

    Attributes
    ----------
    pieces : tuple of Piece
    """

    pieces: tuple[Piece, ...]

    @property
    def n_items(self) -> int:
        """How many items it counts as."""
        return sum(piece.n_items for piece in self.pieces)

    def items(self) -> Iterator[Item]:
        """Read them in order."""
        return (piece.item() for piece in self.pieces)

    def split(self) -> Iterator[BlockShard]:
        """Shards of one block each."""
        return (BlockShard((piece,)) for piece in self.pieces)
