"""Files of any kind that hold one sample each: walks folders, cuts shards, reads one after another.

What the bytes of a file mean is the business of its `Reader`.
"""

from __future__ import annotations

import os
import statistics
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Protocol

from zeromean.errors import SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Entry, Item, ListedSource
from zeromean.sources.access import HeldFile, ReadError, is_remote, opened, shown, stamp_of
from zeromean.sources.decode import DecodeError
from zeromean.sources.walk import Root, labels_of, printable, walk, warnings_about, why_unreadable

_SHARD_ITEMS = 64
_SHARD_BYTES = 16 << 20
_LOOKED_AT = 1024  # remote files at a time that a list of entries asks the store about
_NAMED = 3  # paths that stand in the name of a source
_SMALL_FILE = 20_000  # bytes: below, two threads on one interpreter are slower than one


class Reader(Protocol):
    """Turns one file into arrays; picklable."""

    def __call__(self, file: HeldFile, memory: Any) -> Iterator[Item]:
        """Hand over the parts of one file, in order; mostly one.

        Name, kind, decoder and notes are the reader's to give; digest, size and stamp are added
        to the last part by the shard. A file that is too large to be held whole comes in several
        parts, each a new array.

        Parameters
        ----------
        file : HeldFile
        memory : object or None
            What `scratch` gave: the array may lie there until the next file is read.

        Raises
        ------
        DecodeError
            With a sentence fragment that says why the file is not what it should be. Whatever
            was handed over before does not count.
        """

    def scratch(self) -> Any:
        """Memory for one thread to decode into, or None."""


@dataclass(frozen=True, slots=True)
class FileShard:
    """Some files of a `Files`, by path; picklable.

    Attributes
    ----------
    files : tuple of (str, str, str)
        Path, name in messages, and why it must not be opened (mostly empty).
    reader : Reader
    stamps : dict of str to tuple of int
        By URL, of files in remote stores, from their listing.
    """

    files: tuple[tuple[str, str, str], ...]
    reader: Reader
    stamps: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @property
    def n_items(self) -> int:
        """How many files it reads."""
        return len(self.files)

    @property
    def names(self) -> list[str]:
        """What its files are called."""
        return [name for _, name, _ in self.files]

    @property
    def paths(self) -> list[str]:
        """Where they are."""
        return [path for path, _, _ in self.files]

    def items(self) -> Iterator[Item]:
        """Read the files in order; what cannot be read is an item with a reason."""
        return self._items(None)

    def passing_items(self) -> Iterator[Item]:
        """`items`, but each array may be written over when the next item is asked for."""
        return self._items(self.reader.scratch())

    def split(self) -> Iterator[FileShard]:
        """Shards of one file each."""
        for file in self.files:
            own = {file[0]: self.stamps[file[0]]} if file[0] in self.stamps else {}
            yield FileShard((file,), self.reader, own)

    def _items(self, memory: Any) -> Iterator[Item]:
        ahead: Any = None
        if self.stamps:
            from zeromean.sources.remote import Ahead

            ahead = Ahead(self.files, self.stamps)
        for i, (path, name, reason) in enumerate(self.files):
            if reason:
                yield Item(None, name, reason)
            elif path not in self.stamps:
                yield from self._parts(opened(path, name), name, memory)
            else:
                yield from self._parts(ahead.opened(i), name, memory)

    def _parts(
        self, opening: AbstractContextManager[HeldFile], name: str, memory: Any
    ) -> Iterator[Item]:
        """All parts of a file; the last one is held back until the file was still the same."""
        known: dict[str, Any] = {}
        last: Item | None = None
        try:
            with opening as file:
                known["stamp"], known["n_bytes"] = file.stamp, file.size
                for item in self.reader(file, memory):
                    if last is not None:
                        yield replace(last, more=True)
                    last = item
                known["digest"] = file.digest
        except DecodeError as error:
            if "digest" not in known:
                known["digest"] = _digest(file)
            yield Item(None, name, str(error), **known)
            return
        except (OSError, MemoryError) as error:
            reason = str(error) if isinstance(error, ReadError) else why_unreadable(error)
            yield Item(None, name, reason, passing=True)
            return
        yield replace(last, **known) if last else Item(None, name, "holds no data", **known)


def _digest(file: HeldFile) -> int:
    try:
        return file.digest
    except (OSError, ValueError):  # it changes, or is closed
        return 0


class Files(ListedSource):
    """Folders and files, each file one sample or more, as a source for `measure`.

    Folders are walked with everything below them, in sorted order. Hidden files and
    folders are passed over; links to folders are followed, and a folder that is reached
    twice is read once.

    Parameters
    ----------
    paths : path, or sequence of paths
        Folders and files, or URLs. A file that is named here is read whatever its extension.
    reader : Reader
    extensions : sequence of str
        The extensions to read in folders.
    pattern : Pattern
    limit : int, optional
        Take a quick look at that many files, spread evenly over the sorted list, so that
        every class has its share. The choice is always the same.

    Attributes
    ----------
    n_items : int
        Number of files that will be read, or reported as skipped.
    n_whole : int
        Number of files without a limit.
    warnings : tuple of str
        What is probably not meant, such as a validation folder inside.
    left_out : dict of str to int
        Files passed over because of their extension, counted by it.
    ignored : int
        Number of files passed over because they are of another kind altogether.
    problems : list of (str, str)
        Folders that could not be listed, and why.

    Raises
    ------
    SourceError
        A path does not exist, a folder holds no such file, or an argument makes no sense.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        reader: Reader,
        *,
        extensions: Iterable[str],
        pattern: Pattern,
        limit: int | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise SourceError(f"limit is {limit}; choose 1 or more files, or leave it out")
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not given:
            raise SourceError("no folder and no file was given")
        self.name = _named([os.fspath(path) for path in given])
        self.reader, self.pattern = reader, pattern
        self.extensions = _normalized(extensions)
        roots = _roots([os.fspath(path) for path in given], frozenset(self.extensions))
        self.problems = [problem for root in roots for problem in root.problems]
        self.left_out = dict(sum((root.left_out for root in roots), Counter[str]()))
        self.ignored = sum(root.ignored.total() for root in roots)
        self.warnings = tuple(warnings_about(roots))
        self._roots = roots
        # A walk of millions: nothing per file is kept but its path below the root, once.
        self._starts = list(accumulate((len(root.files) for root in roots), initial=0))
        self._chosen = _spread(range(self._starts[-1]), limit)

    @property
    def n_whole(self) -> int:
        """How many files there are without a limit."""
        return self._starts[-1]

    @property
    def n_items(self) -> int:
        """How many files will be read, or reported as skipped."""
        return len(self._chosen)

    @cached_property
    def n_bytes(self) -> int:
        """Size of all files together; the first look asks the file system about each."""
        return sum(map(self._size, range(self.n_items)))

    @cached_property
    def median_size(self) -> int:
        """Median size of a file in bytes, from at most 255 files spread over the list."""
        return int(statistics.median(map(self._size, _spread(range(self.n_items), 255))))

    @property
    def small_files(self) -> bool:  # type: ignore[override]
        """Whether threads would only get in each other's way; not where they wait for a store."""
        if any(root.remote for root in self._roots):
            return False
        return self.median_size < _SMALL_FILE

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Sub-folders of a single given folder that hold files, as class names; sorted."""
        if len(self._roots) != 1:
            return ()
        root = self._roots[0]
        parts = (root.name(below).partition("/") for below in root.files)
        return tuple(sorted({first for first, deeper, _ in parts if deeper}))

    @property
    def labels(self) -> tuple[str, ...]:
        """What stands for each given path in the names of its files."""
        return tuple(printable(root.label) for root in self._roots)

    def outside_classes(self) -> Iterator[str]:
        """Names of the files that lie in no folder below a given one."""
        for root in self._roots:
            label = f"{printable(root.label)}/" if root.label else ""
            names = (root.name(below) for below in root.files)
            yield from (name for name in names if "/" not in name.removeprefix(label))

    def files(self) -> Iterator[tuple[str, str, str]]:
        """List path, name and reason (why it is not opened, mostly empty) of every file."""
        return map(self._file, range(self.n_items))

    def entries(self) -> Iterator[Entry]:
        """Name and stamp of every file."""
        for begin in range(0, self.n_items, _LOOKED_AT):
            chosen = range(begin, min(begin + _LOOKED_AT, self.n_items))
            self._ask(chosen)
            for i in chosen:
                yield Entry(self._file(i)[1], self._stamp(i))

    def shards_of(self, chosen: Sequence[int]) -> Iterator[FileShard]:
        """Cut the files into shards of about 64 files or 16 MB, whichever comes first."""
        held: list[int] = []
        n_bytes = 0
        for i in chosen:
            held.append(i)
            n_bytes += self._size(i)
            if len(held) == _SHARD_ITEMS or n_bytes >= _SHARD_BYTES:
                yield self._shard(held)
                held, n_bytes = [], 0
        if held:
            yield self._shard(held)

    def _shard(self, chosen: Sequence[int]) -> FileShard:
        files = tuple(map(self._file, chosen))
        listed = zip(files, map(self._listed, chosen), strict=True)
        return FileShard(files, self.reader, {file[0]: stamp for file, stamp in listed if stamp})

    def complete(self, record: Any) -> Any:
        """With what the walk came upon."""
        return replace(
            record,
            skipped=tuple(sorted((*record.skipped, *self.problems))),
            left_out=self.left_out,
            warnings=(*record.warnings, *self.warnings),
        )

    def _place(self, i: int) -> tuple[Root, int]:
        at = self._chosen[i]
        r = bisect_right(self._starts, at) - 1
        return self._roots[r], at - self._starts[r]

    def _file(self, i: int) -> tuple[str, str, str]:
        root, at = self._place(i)
        below = root.files[at]
        return root.place(below), root.name(below), root.refused.get(below, "")

    @cached_property
    def _sizes(self) -> array[int]:
        return array("q", [-1]) * self.n_items

    def _size(self, i: int) -> int:
        if self._sizes[i] < 0:
            listed = self._listed(i)
            self._sizes[i] = max(0, listed[0]) if listed else (*self._stamp(i), 0)[0]
        return self._sizes[i]

    def _listed(self, i: int) -> tuple[int, ...]:
        """What the listing of a remote store says of a file; nothing of local ones."""
        root, at = self._place(i)
        return tuple(root.stamps[3 * at : 3 * at + 3])

    def _ask(self, chosen: Sequence[int]) -> None:
        """Look at those remote files that were named, and have not been looked at."""
        places = [self._place(i) for i in chosen]
        unknown = [(root, at) for root, at in places if root.stamps and root.stamps[3 * at] < 0]
        if not unknown:
            return
        from zeromean.sources.remote import stamps_of

        stamps = stamps_of([root.place(root.files[at]) for root, at in unknown])
        for (root, at), stamp in zip(unknown, stamps, strict=True):
            root.stamps[3 * at : 3 * at + 3] = array("q", stamp or (-1, 0, 0))

    def _stamp(self, i: int) -> tuple[int, ...]:
        """Look at a file; nothing for one that must not be opened, or cannot be looked at."""
        root, at = self._place(i)
        below = root.files[at]
        if below in root.refused:
            return ()
        if root.remote:
            stamp = self._listed(i)
            return stamp if stamp[0] >= 0 or any(stamp[1:]) else ()
        try:
            return stamp_of(os.stat(root.place(below)))
        except OSError:
            return ()  # reading it will say why


def _roots(paths: list[str], extensions: frozenset[str]) -> list[Root]:
    """What is below each path, here and in remote stores."""
    far = [path for path in paths if is_remote(path)]
    if not far:
        return walk(paths, extensions)
    from zeromean.sources.remote import walk_remote

    near = [path for path in paths if not is_remote(path)]
    if not near:
        return walk_remote(far, extensions)
    labels = dict(zip(paths, labels_of([shown(path) for path in paths]), strict=True))
    return [
        *walk(near, extensions, [labels[path] for path in near]),
        *walk_remote(far, extensions, [labels[path] for path in far]),
    ]


def _named(paths: list[str]) -> str:
    """The paths in a few words; of a long list the first ones."""
    first = ", ".join(
        printable(shown(path) if is_remote(path) else path) for path in paths[:_NAMED]
    )
    left = len(paths) - _NAMED
    return f"{first} and {left:,} more" if left > 0 else first


def _normalized(extensions: Iterable[str]) -> tuple[str, ...]:
    names = [extensions] if isinstance(extensions, str) else list(extensions)
    if not names:
        raise SourceError("extensions is empty; name at least one, such as '.png'")
    return tuple("." + name.lower().lstrip("*").lstrip(".") for name in names)


def _spread(values: range, n: int | None) -> Sequence[int]:
    """Take the middle of each of `n` equal stretches; everything where that is no more."""
    if n is None or n >= len(values):
        return values
    return [values[(2 * i + 1) * len(values) // (2 * n)] for i in range(n)]
