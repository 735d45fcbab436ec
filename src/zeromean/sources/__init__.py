"""Turns a folder, archive, table, array or loader into picklable shards of items.

A *source* knows where data lives and cuts it into *shards*; a shard is picklable and
hands over *items* one after the other; an item is one array (a picture, or a block of a
bigger array) or the reason why there is none. A source whose data lies in files also lists
its *entries*, so that a ledger can tell which of them it knows, and a sample can be drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from zeromean.pattern import Pattern


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
        never mixed in one profile. The first word is the channel order, unless it has a hyphen
        (``"4-band uint16"``).
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
    more : bool
        Whether more parts of the same file follow. Nothing of a file counts until its last part
        has come, and nothing at all if a reason comes instead: a file that breaks in the middle
        leaves no trace in the statistics. Bytes, digest and notes stand on the last part.
    n_items : int, optional
        How many items it counts as, where that is not the length of its first axis when it is
        batched and 1 when it is not; 0 for all parts of a file but one.
    missing : ndarray of bool, optional
        Where the array holds no data (nodata, masked); broadcasts against it.
    stamp : tuple of int
        Size, time of change and time of status change of the file as it was read; empty when
        it is not a file.
    passing : bool
        Whether the failure may be gone when it is tried again (no permission, no memory, no
        network), so that a ledger must not keep it.
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
    more: bool = False
    n_items: int | None = None
    missing: Any = None
    stamp: tuple[int, ...] = ()
    passing: bool = False

    @property
    def count(self) -> int:
        """How many items it counts as."""
        if self.n_items is not None:
            return self.n_items
        return len(self.array) if self.batched and self.array is not None else 1


class Entry(NamedTuple):
    """One file of a source, as listed, without being opened.

    Attributes
    ----------
    name : str
        As its items are called.
    stamp : tuple of int
        Size in bytes, time of change and time of status change in nanoseconds; a number made
        from its tag where a remote store gives no times. Empty when it cannot be looked at.
    """

    name: str
    stamp: tuple[int, ...]


class Shard(Protocol):
    """A picklable piece of a source."""

    @property
    def n_items(self) -> int:
        """How many items it will hand over (0 when not known beforehand)."""

    def items(self) -> Iterator[Item]:
        """Hand over the items in order.

        A shard may also have `passing_items`, which does the same but may write the next array
        over the last one; and `split()`, which gives shards of one file each.
        """


class Source:
    """What `measure` reads from; a base that knows of nothing.

    Attributes
    ----------
    name : str
        For messages.
    pattern : Pattern
        The one that was given, or the source's own.
    feature_names : tuple of str
        Of the kept entries, where the source has names for them.
    small_files : bool
        Whether the files are so small that threads only get in each other's way.
    """

    name: str
    pattern: Pattern
    feature_names: tuple[str, ...] = ()
    small_files = False

    @property
    def n_items(self) -> int | None:
        """How many items there are, None when not known beforehand."""
        return None

    @property
    def n_whole(self) -> int | None:
        """How many there are without a limit, None when not known beforehand."""
        return self.n_items

    @property
    def n_bytes(self) -> int | None:
        """How many bytes will be read, None when not known beforehand."""
        return None

    def shards(self, cores: int | None = None) -> Iterator[Any]:
        """Cut the source into picklable shards; lazily, so that a huge source costs nothing.

        Parameters
        ----------
        cores : int, optional
            That they are made for, where sums of floats must not depend on the machine.
        """
        raise NotImplementedError

    def complete(self, record: Any) -> Any:
        """The provenance of a whole run, with what the source alone knows.

        Parameters
        ----------
        record : Provenance

        Returns
        -------
        Provenance
        """
        return record


class ListedSource(Source):
    """A source that can list its files and measure any choice of them, in any order."""

    def entries(self) -> Iterator[Entry]:
        """Every file that would be read, in order; of a large array, every block.

        Names are unique. What cannot be looked at has an empty stamp, and says why when it is
        read.
        """
        raise NotImplementedError

    def shards_of(self, chosen: Sequence[int]) -> Iterator[Any]:
        """Shards of some of the entries, by their place in the list, in the order given."""
        raise NotImplementedError

    def shards(self, cores: int | None = None) -> Iterator[Any]:
        """Shards of all entries."""
        return self.shards_of(range(self.n_items or 0))
