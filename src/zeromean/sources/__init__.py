"""Turns a folder, archive, table, array or loader into picklable shards of items.

A *source* knows where data lives and cuts it into *shards*; a shard is picklable and
hands over *items* one after the other; an item is one array (a picture, or a block of a
bigger array) or the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Item:
    """One array that a shard hands over, or the reason why there is none.

    Attributes
    ----------
    array : ndarray, ColumnBatch or None
        The data, None when the item was skipped; columns of a table where each keeps its dtype.
    name : str
        Where it came from, relative to the source; used in messages and in `skipped`.
    reason : str
        Why it was skipped, empty when it was not. One plain sentence fragment.
    kind : str
        Decoded form of a picture, such as ``"RGB uint8"``; items of different kinds are
        never mixed in one profile.
    decoder : str
        Library that produced the pixels, such as ``"simplejpeg"``; empty for arrays.
    notes : tuple of str
        Short keys of what was done on the way (``"palette"``, ``"alpha dropped"``, ...),
        counted in the provenance.
    n_bytes : int
        Bytes read to produce it.
    digest : int
        SHA-256 of the file read, as an integer; 0 for arrays.
    batched : bool
        True when the array carries the sample axis ``n`` in front, False for one picture.
    group : str, int or ndarray, optional
        With ``by=``, which group it belongs to: a name, or a number of the grouping's names; an
        array of them, one for each entry of the first axis, when it is batched.
    """

    array: Any
    name: str
    reason: str = ""
    kind: str = ""
    decoder: str = ""
    notes: tuple[str, ...] = ()
    n_bytes: int = 0
    digest: int = 0
    batched: bool = False
    group: Any = None


class Shard(Protocol):
    """A picklable piece of a source."""

    @property
    def n_items(self) -> int:
        """How many items it will hand over (0 when not known beforehand)."""

    def items(self) -> Iterator[Item]:
        """Hand over the items in order.

        A shard may also have `passing_items`, which does the same but may write the next array
        over the last one.
        """


class Source(Protocol):
    """What `measure` reads from."""

    @property
    def n_items(self) -> int | None:
        """How many items there are, None when not known beforehand."""

    @property
    def n_bytes(self) -> int | None:
        """How many bytes will be read, None when not known beforehand."""

    def shards(self) -> Iterator[Shard]:
        """Cut the source into picklable shards; lazily, so that a huge source costs nothing."""
