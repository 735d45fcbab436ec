"""MNIST's IDX files: a header of big-endian lengths and the values behind it, also as `.gz`."""

from __future__ import annotations

import gzip
import math
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Source
from zeromean.sources.access import HeldFile, is_remote, opened, stamp_at
from zeromean.sources.blocks import Unreadable, Values, picked
from zeromean.sources.contents import labeled_files, opened_arrays, title
from zeromean.sources.cutting import Box, Layout
from zeromean.sources.decode import DecodeError
from zeromean.sources.labeled_blocks import LabeledBlocks, leaks_among
from zeromean.sources.walk import printable

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_DEFAULTS = {1: "n ->", 2: NAMED["feature"], 3: "n h w ->", 4: NAMED["channel"]}
_BLOCK = 1 << 20
_FAR_BEYOND = 64 << 20  # bytes after the data that are counted
_MOST_AXES = 32
_PICTURES = 3  # axes of a file that holds them


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open IDX files; of a folder those that hold pictures.

    Parameters
    ----------
    paths : list of str
        Files and folders, or URLs of files.
    pattern : Pattern or None
        None for one number of gray pictures, one for each channel of others.
    options : Options
    name : str
        Of the format.

    Raises
    ------
    SourceError
        When there is no such file, or a single one is damaged.
    PatternError
        When no pattern is given and there is no usual one.
    """
    files = labeled_files(paths, name)
    arrays = opened_arrays(files, idx_array)
    from_folders = {path for path, _ in files} - set(paths)
    arrays, without = _pictures(arrays, files, from_folders)
    folders = ", ".join(printable(path) for path in paths if os.path.isdir(path))
    said = leaks_among([array.name for array in arrays], folders) if from_folders else []
    called = title(files, arrays, paths)
    if pattern is not None and len(pattern.axes) == _PICTURES + 1:
        arrays = [_with_channel(array) for array in arrays]
    left_out = {"IDX without pictures": without} if without else {}
    groups = [arrays] if pattern else _by_axes(arrays)
    sources: list[Source] = []
    for held in groups:
        first = not sources  # which tells of the others
        own = pattern or _usual(held)
        sources.append(
            LabeledBlocks(
                held,
                own,
                called,
                options.limit,
                left_out=left_out if first else {},
                warnings=said if first else (),
            )
        )
    return sources


def _pictures(
    arrays: list[Any], files: Sequence[tuple[str, str]], from_folders: set[str]
) -> tuple[list[Any], int]:
    """Of folders only what has three axes and more, if anything has; and how many have not."""
    flat = [
        not isinstance(array, Unreadable)
        and len(array.layout.shape) < _PICTURES
        and path in from_folders
        for array, (path, _) in zip(arrays, files, strict=True)
    ]
    if all(
        f or isinstance(a, Unreadable) for f, a in zip(flat, arrays, strict=True)
    ):  # nothing but labels, or rows
        return arrays, 0
    return [a for f, a in zip(flat, arrays, strict=True) if not f], sum(flat)


def _with_channel(array: Any) -> Any:
    """Gray pictures under a pattern for those with channels: they have one."""
    if isinstance(array, Unreadable) or len(array.layout.shape) != _PICTURES:
        return array
    return replace(array, layout=Layout((*array.layout.shape, 1), array.layout.dtype))


def _by_axes(arrays: list[Any]) -> list[list[Any]]:
    """Files with as many axes as each other; what cannot be read stays with the first."""
    groups: dict[int, list[Any]] = {}
    broken = [array for array in arrays if isinstance(array, Unreadable)]
    for array in arrays:
        if not isinstance(array, Unreadable):
            groups.setdefault(len(array.layout.shape), []).append(array)
    held = list(groups.values())
    return [held[0] + broken, *held[1:]]


def _usual(arrays: list[Any]) -> Pattern | None:
    """The pattern of files that were given without one; None to have two shown."""
    shape = arrays[0].layout.shape
    return Pattern.parse(_DEFAULTS[len(shape)]) if len(shape) in _DEFAULTS else None


# ---------------------------------------------------------------- one file


def idx_array(path: str, label: str) -> IdxData:
    """The array of an IDX file; its size is held against what its header claims.

    Parameters
    ----------
    path, label : str
        Where it is, and what it is called.

    Raises
    ------
    SourceError
        When it is none, or is damaged.
    """
    with opened(path, label) as held:
        try:
            stream, packed = _unpacked(held)
            with _in_words():
                shape, dtype = _header(stream)
                size = math.prod(shape) * dtype.itemsize
                offset = 4 + 4 * len(shape)
                behind = _length(stream, size) if packed else held.size - offset
        except DecodeError as error:
            raise SourceError(f"{label}: {error}") from None
        if behind < size:
            raise SourceError(
                f"{label}: claims {size:,} bytes of data for shape {shape}, holds {behind:,}"
            )
        said: tuple[str, ...] = ()
        if behind > size:
            more = "more than " if packed and behind >= size + _FAR_BEYOND else ""
            over = min(behind - size, _FAR_BEYOND) if packed else behind - size
            said = (f"{label}: {more}{over:,} bytes after the data were left out",)
        layout = Layout(shape, dtype.newbyteorder("="))
        return IdxData(label, layout, path, dtype, packed, offset, held.stamp, warnings=said)


def _unpacked(held: HeldFile) -> tuple[IO[bytes], bool]:
    """The content of a file, and whether it is packed."""
    held.file.seek(0)
    packed = held.file.read(2) == b"\x1f\x8b"
    held.file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=held.file, mode="rb") if packed else held.file
    return stream, packed


@contextmanager
def _in_words() -> Iterator[None]:
    """Say what is wrong with packed data.

    Raises
    ------
    DecodeError
    """
    try:
        yield
    except EOFError:
        raise DecodeError("the gzip data is cut short") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DecodeError(f"damaged gzip data: {error}") from None


class _Stream:
    """A packed file that is being read."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.stamp = path, stamp_at(path)
        self._stack = ExitStack()
        self.file, _ = _unpacked(self._stack.enter_context(opened(path, name)))

    def __del__(self) -> None:
        with suppress(Exception):  # it has changed meanwhile, which whoever reads it next will see
            self._stack.close()


_HELD = threading.local()  # the stream that a thread read last


def _continued(path: str, name: str, begin: int) -> _Stream:
    """A packed file, read no further than to a place."""
    held: _Stream | None = getattr(_HELD, "stream", None)
    if (
        held is None
        or held.path != path
        or held.file.tell() > begin
        or held.stamp != stamp_at(path)
    ):
        held = _HELD.stream = _Stream(path, name)
    return held


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    magic = _exactly(stream, 4)
    if magic[0] or magic[1] or magic[2] not in _TYPES or not 1 <= magic[3] <= _MOST_AXES:
        raise DecodeError(
            f"is no IDX file: it begins with {magic.hex(' ')}, not with 00 00, a type of values "
            "(08 09 0b 0c 0d 0e) and a number of axes"
        )
    lengths = np.frombuffer(_exactly(stream, 4 * magic[3]), ">u4")
    return tuple(lengths.tolist()), np.dtype(_TYPES[magic[2]])


def _exactly(stream: IO[bytes], size: int) -> bytearray:
    """That many bytes.

    Raises
    ------
    DecodeError
        When there are fewer.
    """
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        n = stream.readinto(view[at:])  # type: ignore[attr-defined]
        if not n:
            raise DecodeError("ends before its data does")
        at += n
    return data


def _length(stream: IO[bytes], size: int) -> int:
    """How many bytes follow, checked against their checksum; much more is not counted."""
    length = 0
    while length < size + _FAR_BEYOND and (block := stream.read(_BLOCK)):
        length += len(block)
    return length


@dataclass(frozen=True)
class IdxData:
    """The array of an IDX file, as a `zeromean.sources.blocks.BlockArray`.

    Attributes
    ----------
    name : str
    layout : Layout
    path : str
    stored : dtype
        As in the file, big-endian.
    packed : bool
    offset : int
        Of the data in the file.
    listed : tuple of int
        Stamp of the file when it was listed.
    """

    name: str
    layout: Layout
    path: str
    stored: np.dtype[Any]
    packed: bool
    offset: int
    listed: tuple[int, ...]
    dims: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> IdxReading:
        """What reads a box."""
        return IdxReading(self, box, rows)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """That of the file."""
        return self.listed

    def labels(self, column: str) -> npt.NDArray[Any]:
        """The labels in the file that lies beside this one.

        Raises
        ------
        PatternError, SourceError
            When there is none.
        """
        if column != "class":
            raise PatternError(
                f"by is {column!r}; IDX files have one label for each picture: by='class'"
            )
        path = _labels_beside(self.path)
        labels = idx_array(path, printable(path))
        shape = labels.layout.shape
        if len(shape) != 1 or labels.layout.dtype.kind not in "iu":
            raise SourceError(f"{labels.name} holds no labels, but an array of shape {shape}")
        whole = ((0, shape[0]),)
        read: npt.NDArray[Any] = labels.reading(whole, None)().array
        return read.astype(np.int64)


def _labels_beside(path: str) -> str:
    """``train-labels-idx1-ubyte`` for ``train-images-idx3-ubyte``, packed or not."""
    folder, name = os.path.split(path)
    other = name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    bare = other.removesuffix(".gz")
    for candidate in dict.fromkeys((other, bare, bare + ".gz")):
        place = f"{folder}/{candidate}" if folder else candidate
        if candidate != name and (is_remote(path) or os.path.exists(place)):
            return place
    raise SourceError(
        f"{printable(path)} has no labels beside it ({other}); give by= one label for each picture"
    )


@dataclass(frozen=True)
class IdxReading:
    """Reads a box of an IDX file.

    What is packed can be read from its beginning only: a thread goes on where it was.

    Attributes
    ----------
    data : IdxData
    box, rows
        As for `zeromean.sources.blocks.BlockArray`.
    """

    data: IdxData
    box: Box
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Read it."""
        if self.data.packed:
            array = self._read_packed()
        else:
            with opened(self.data.path, self.data.name) as held:
                array = self._read(held.file)
        return Values(picked(array.astype(self.data.layout.dtype, copy=False), self.rows))

    @property
    def _row(self) -> int:
        """Bytes of an entry of the first axis."""
        return math.prod(self.data.layout.shape[1:]) * self.data.stored.itemsize

    def _read_packed(self) -> npt.NDArray[Any]:
        begin, end = self.box[0]
        data = self.data
        stream = _continued(data.path, data.name, data.offset + begin * self._row)
        try:
            with _in_words():
                return self._read(stream.file)
        finally:
            if end == data.layout.shape[0]:
                _HELD.stream = None

    def _read(self, stream: IO[bytes]) -> npt.NDArray[Any]:
        (begin, end), *others = self.box
        shape = self.data.layout.shape
        if all(side == (0, n) for side, n in zip(others, shape[1:], strict=True)):
            return self._stretch(stream, begin * self._row, (end - begin, *shape[1:]))
        (first, last), *rest = others
        slab = self._row // shape[1]
        wanted = (slice(None), *(slice(*side) for side in rest))
        parts = []
        for i in range(begin, end):
            at = i * self._row + first * slab
            parts.append(self._stretch(stream, at, (last - first, *shape[2:]))[wanted])
        return np.stack(parts)

    def _stretch(self, stream: IO[bytes], begin: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """What lies together in the file."""
        stream.seek(self.data.offset + begin)
        data = _exactly(stream, math.prod(shape) * self.data.stored.itemsize)
        return np.frombuffer(data, self.data.stored).reshape(shape)

    def stamp(self) -> tuple[int, ...]:
        """What the file is now."""
        return stamp_at(self.data.path)
