"""CIFAR's binary batches: one or two label bytes, then the planes of a picture, 32 by 32."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Source
from zeromean.sources.access import HeldFile, is_remote, opened, shown, stamp_at
from zeromean.sources.blocks import Unreadable, Values, picked
from zeromean.sources.contents import labeled_paths, opened_arrays, title
from zeromean.sources.cutting import Box, Layout
from zeromean.sources.decode import DecodeError
from zeromean.sources.labeled_blocks import LabeledBlocks, called, leaks_among
from zeromean.sources.walk import printable

_PICKLES = (
    "Python pickles, which can run any program and are never loaded; take the binary version of "
    "the data set (cifar-10-binary.tar.gz)"
)
_PIXELS = 3 * 32 * 32
_KIND = "RGB uint8"
_RECORDS = 4096  # that are looked at together
#: Largest labels, by how many there are of each picture.
_CLASSES = {1: (10,), 2: (20, 100)}
_NAMES = {
    "class": ("batches.meta.txt", "fine_label_names.txt"),
    "superclass": ("coarse_label_names.txt",),
}


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open binary batches together; of a folder all that it holds.

    Parameters
    ----------
    paths : list of str
        Files and folders, or URLs.
    pattern : Pattern or None
        None for one number for each channel.
    options : Options
    name : str
        Of the format.

    Raises
    ------
    SourceError
        When there is no such file, or a single one is no batch.
    """
    found = [(path, list(_batches_at(path))) for path in paths]
    files = labeled_paths([file for _, held in found for file in held])
    arrays = opened_arrays(files, cifar_array)
    folders = [path for path, held in found if held != [path]]
    inside = {file for path, held in found if held != [path] for file in held}
    said = leaks_among(
        [label for path, label in files if path in inside],
        ", ".join(printable(shown(path)) for path in folders),
    )
    held = [array for array in arrays if not isinstance(array, Unreadable)]
    if len({array.n_labels for array in held}) > 1:
        raise SourceError("CIFAR-10 and CIFAR-100 batches lie together; name those of one data set")
    return [
        LabeledBlocks(
            arrays,
            pattern or Pattern.parse(NAMED["channel"]),
            title(files, arrays, paths),
            options.limit,
            kind=_KIND,
            warnings=said,
        )
    ]


def _batches_at(path: str) -> Iterator[str]:
    """The batch at a path, or those in a folder, in sorted order."""
    if is_remote(path):
        from zeromean.sources.remote import head_of, walk_remote

        if head_of(path) is not None:
            yield path
            return
        for root in walk_remote([path], frozenset((".bin",))):
            yield from map(root.place, root.files)
        return
    if not os.path.isdir(path):
        yield path
        return
    held = os.listdir(path)
    names = sorted(name for name in held if name.endswith(".bin") and not name.startswith("."))
    if not names:
        pickled = f"; its batches are {_PICKLES}" if "batches.meta" in held else ""
        raise SourceError(f"{printable(path)} holds no binary batches (.bin){pickled}")
    yield from (os.path.join(path, name) for name in names)


def cifar_array(path: str, label: str) -> CifarBatch:
    """The pictures of a batch; its size and all labels must be those of one.

    Parameters
    ----------
    path, label : str
        Where it is, and what it is called.

    Raises
    ------
    SourceError
        When it is none.
    """
    with opened(path, label) as held:
        held.file.seek(0)
        if (
            held.file.read(2)[:1] == b"\x80"
            and held.size % (_PIXELS + 1)
            and held.size % (_PIXELS + 2)
        ):
            raise SourceError(f"{label}: holds {_PICKLES}")
        fitting = [n for n in _CLASSES if held.size and held.size % (_PIXELS + n) == 0]
        if not fitting:
            raise SourceError(
                f"{label}: has {held.size:,} bytes, no multiple of {_PIXELS + 1:,} (CIFAR-10) or "
                f"{_PIXELS + 2:,} (CIFAR-100): cut short, or no batch"
            )
        faults = [_fault(_labels(held, n), n) for n in fitting]
        for n, fault in zip(fitting, faults, strict=True):
            if not fault:
                layout = Layout((held.size // (_PIXELS + n), 32, 32, 3), np.dtype(np.uint8))
                return CifarBatch(label, layout, path, n, held.stamp)
        raise SourceError(f"{label}: is no CIFAR batch: {faults[0]}")


def _labels(held: HeldFile, n: int) -> npt.NDArray[np.uint8]:
    """All labels of a file, (records, n)."""
    size = _PIXELS + n
    held.file.seek(0)
    parts = []
    for _ in range(0, held.size, _RECORDS * size):
        block = np.frombuffer(_block(held, _RECORDS * size), np.uint8)
        parts.append(block.reshape(-1, size)[:, :n].copy())
    return np.concatenate(parts)


def _block(held: HeldFile, size: int) -> bytes:
    """So many bytes, fewer at the end: a file without a buffer may give them piece by piece."""
    parts, left = [], size
    while left and (part := held.file.read(left)):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _fault(labels: npt.NDArray[np.uint8], n: int) -> str:
    """Which label no data set has; empty when all are fine."""
    wrong = labels >= np.array(_CLASSES[n])
    if not wrong.any():
        return ""
    record, at = np.argwhere(wrong)[0].tolist()
    label, classes = labels[record, at], _CLASSES[n][at]
    return f"record {record} has the label {label}, and there are {classes} classes"


@dataclass(frozen=True)
class CifarBatch:
    """The pictures of a batch, as a `zeromean.sources.blocks.BlockArray`.

    Attributes
    ----------
    name : str
    layout : Layout
        (n, height, width, channels), though channels lie first in the file.
    path : str
    n_labels : int
        Bytes before each picture.
    listed : tuple of int
        Stamp of the file when it was listed.
    """

    name: str
    layout: Layout
    path: str
    n_labels: int
    listed: tuple[int, ...]
    dims: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> CifarReading:
        """What reads a box: some pictures."""
        return CifarReading(self.path, self.name, self.n_labels, box[0], rows)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """That of the file."""
        return self.listed

    def labels(self, column: str) -> npt.NDArray[Any]:
        """The labels of all pictures, by name where the data set's list of names lies beside it.

        Raises
        ------
        PatternError
            When there are no such labels.
        """
        kinds = ("class",) if self.n_labels == 1 else ("superclass", "class")
        if column not in kinds:
            raise PatternError(
                f"by is {column!r}; this data set has by={' and by='.join(map(repr, kinds))}"
            )
        with opened(self.path, self.name) as held:
            labels = _labels(held, self.n_labels)[:, kinds.index(column)]
        return called(labels, self._names(column))

    def _names(self, column: str) -> list[str]:
        """What the classes are called; nothing when the list is not there."""
        if is_remote(self.path):
            return []
        for name in _NAMES[column]:
            path = os.path.join(os.path.dirname(self.path), name)
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    return [line.strip() for line in file if line.strip()]
        return []


@dataclass(frozen=True)
class CifarReading:
    """Reads some pictures of a batch.

    Attributes
    ----------
    path, name : str
    n_labels : int
    stretch : (int, int)
        First record, and the one after the last.
    rows : tuple of int or None
        Which of these are meant.
    """

    path: str
    name: str
    n_labels: int
    stretch: tuple[int, int]
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Read them."""
        begin, end = self.stretch
        size = _PIXELS + self.n_labels
        with opened(self.path, self.name) as held:
            held.file.seek(begin * size)
            data = _block(held, (end - begin) * size)
        if len(data) < (end - begin) * size:
            raise DecodeError("ends before its data does")
        records = picked(np.frombuffer(data, np.uint8).reshape(-1, size), self.rows)
        planes = records[:, self.n_labels :].reshape(-1, 3, 32, 32)
        return Values(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))

    def stamp(self) -> tuple[int, ...]:
        """What the file is now."""
        return stamp_at(self.path)
