"""Walks folders and file lists of images into shards."""

from __future__ import annotations

import hashlib
import os
import stat
import statistics
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from zeromean.errors import SourceError
from zeromean.sources import Item
from zeromean.sources.decode import COLORS, DecodeError, Scratch, decode
from zeromean.sources.walk import (
    IMAGE_EXTENSIONS,
    printable,
    walk,
    warnings_about,
    what_it_is,
    why_unreadable,
)

__all__ = ["IMAGE_EXTENSIONS", "ImageFiles", "ImageShard"]

_SHARD_ITEMS = 64
_SHARD_BYTES = 16 << 20
_LARGEST_FILE = 2 << 30  # nothing under the pixel limit needs more, and it is read into memory


@dataclass(frozen=True, slots=True)
class ImageShard:
    """Some files of an `ImageFiles`, by path; picklable.

    Attributes
    ----------
    files : tuple of (str, str, str)
        Path, name in messages, and why it must not be opened (mostly empty).
    colors : str
        As for `zeromean.sources.decode.decode`.
    group : str
        The one kind of picture that is wanted, such as ``"RGB uint8"`` or ``"RGB"``;
        empty for any.
    """

    files: tuple[tuple[str, str, str], ...]
    colors: str = "RGB"
    group: str = ""

    @property
    def n_items(self) -> int:
        """How many items it will hand over."""
        return len(self.files)

    def items(self) -> Iterator[Item]:
        """Read and decode the files in order; what cannot be read is an item with a reason."""
        return self._items(None)

    def passing_items(self) -> Iterator[Item]:
        """`items`, but each array may be written over when the next item is asked for."""
        return self._items(Scratch())

    def _items(self, scratch: Scratch | None) -> Iterator[Item]:
        for path, name, reason in self.files:
            yield Item(None, name, reason) if reason else self._item(path, name, scratch)

    def _item(self, path: str, name: str, scratch: Scratch | None) -> Item:
        try:
            data = _read(path)
        except (OSError, MemoryError) as error:
            return Item(None, name, why_unreadable(error))
        digest = int.from_bytes(hashlib.sha256(data).digest(), "big")
        try:
            decoded = decode(data, name, self.colors, scratch)
        except DecodeError as error:
            return Item(None, name, str(error), n_bytes=len(data), digest=digest)
        kind = f"{decoded.mode} {decoded.pixels.dtype}"
        if self.group and self.group not in (kind, decoded.mode):
            reason = f"{kind}, not the chosen group {self.group}"
            return Item(None, name, reason, kind, n_bytes=len(data), digest=digest)
        return Item(
            decoded.pixels,
            name,
            kind=kind,
            decoder=decoded.decoder,
            notes=decoded.notes,
            n_bytes=len(data),
            digest=digest,
        )


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0, opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(what_it_is(status.st_mode))
        if status.st_size > _LARGEST_FILE:
            raise SourceError(f"a file of {status.st_size / 1e9:.1f} GB, too large for one image")
        data = file.readall()
    if len(data) != status.st_size:
        raise SourceError("changed while it was read")
    return data


def _open(path: str, flags: int) -> int:
    # A pipe put in the file's place after the walk would else block for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class ImageFiles:
    """Folders and files of images, as a source for `measure`.

    Folders are walked with everything below them, in sorted order. Hidden files and
    folders are passed over; links to folders are followed, and a folder that is reached
    twice is read once.

    Parameters
    ----------
    paths : path, or sequence of paths
        Folders and files. A file that is named here is read whatever its extension.
    colors : {"RGB", "gray", "keep"}
        As for `zeromean.sources.decode.decode`.
    group : str, optional
        Under ``colors="keep"``: the one kind of picture to read, such as ``"RGB uint8"``
        or ``"RGB"``; the others are skipped with a reason.
    limit : int, optional
        Take a quick look at that many files, spread evenly over the sorted list, so that
        every class has its share. The choice is always the same.
    extensions : sequence of str, optional
        The extensions to read in folders, instead of `IMAGE_EXTENSIONS`.

    Attributes
    ----------
    n_items : int
        Number of files that will be read, or reported as skipped.
    n_whole : int
        Number of files without a limit.
    warnings : tuple of str
        What is probably not meant, such as a validation folder inside.
    left_out : dict of str to int
        Pictures passed over because of their extension, counted by it.
    ignored : int
        Number of files passed over because they are no pictures.
    problems : list of (str, str)
        Folders that could not be listed, and why.

    Raises
    ------
    SourceError
        A path does not exist, a folder holds no image, or an argument makes no sense.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        colors: str = "RGB",
        group: str | None = None,
        limit: int | None = None,
        extensions: Iterable[str] | None = None,
    ) -> None:
        if colors not in COLORS:
            raise SourceError(f"colors is {colors!r}; choose 'RGB', 'gray' or 'keep'")
        if limit is not None and limit < 1:
            raise SourceError(f"limit is {limit}; choose 1 or more files, or leave it out")
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not given:
            raise SourceError("no folder and no file was given")
        self.name = ", ".join(printable(os.fspath(path)) for path in given)
        self.colors = colors
        self.group = group or ""
        self.extensions = _normalized(IMAGE_EXTENSIONS if extensions is None else extensions)
        roots = walk([os.fspath(path) for path in given], frozenset(self.extensions))
        self.problems = [problem for root in roots for problem in root.problems]
        self.left_out = dict(sum((root.left_out for root in roots), Counter[str]()))
        self.ignored = sum(root.ignored.total() for root in roots)
        self.warnings = tuple(warnings_about(roots))
        self._roots = roots
        # A walk of millions: nothing per file is kept but its path below the root, once.
        self._starts = list(accumulate((len(root.files) for root in roots), initial=0))
        self._chosen = _spread(range(self._starts[-1]), limit)
        self.n_whole = self._starts[-1]

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

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Sub-folders of a single given folder that hold images, as class names; sorted."""
        if len(self._roots) != 1:
            return ()
        parts = (below.partition(os.sep) for below in self._roots[0].files)
        return tuple(sorted({printable(first) for first, deeper, _ in parts if deeper}))

    @property
    def labels(self) -> tuple[str, ...]:
        """What stands for each given path in the names of its files."""
        return tuple(printable(root.label) for root in self._roots)

    def outside_classes(self) -> Iterator[str]:
        """Names of the files that lie in no folder below a given one."""
        for root in self._roots:
            yield from (root.name(below) for below in root.files if os.sep not in below)

    def files(self) -> Iterator[tuple[str, str, str]]:
        """List path, name and reason (why it is not opened, mostly empty) of every file."""
        return map(self._file, range(self.n_items))

    def shards(self) -> Iterator[ImageShard]:
        """Cut the files into shards of about 64 files or 16 MB, whichever comes first."""
        files: list[tuple[str, str, str]] = []
        n_bytes = 0
        for i in range(self.n_items):
            files.append(self._file(i))
            n_bytes += self._size(i)
            if len(files) == _SHARD_ITEMS or n_bytes >= _SHARD_BYTES:
                yield ImageShard(tuple(files), self.colors, self.group)
                files, n_bytes = [], 0
        if files:
            yield ImageShard(tuple(files), self.colors, self.group)

    def _file(self, i: int) -> tuple[str, str, str]:
        at = self._chosen[i]
        r = bisect_right(self._starts, at) - 1
        root = self._roots[r]
        below = root.files[at - self._starts[r]]
        path = os.path.join(root.path, below) if below else root.path
        return path, root.name(below), root.refused.get(below, "")

    @cached_property
    def _sizes(self) -> array[int]:
        return array("q", [-1]) * self.n_items

    def _size(self, i: int) -> int:
        if self._sizes[i] < 0:
            path, _, reason = self._file(i)
            try:
                self._sizes[i] = 0 if reason else os.stat(path).st_size
            except OSError:
                self._sizes[i] = 0  # reading it will say why
        return self._sizes[i]


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
