"""Arrays in memory, memory maps, `.npy` and `.npz` files, and iterables of arrays or pictures."""

from __future__ import annotations

import math
import mmap
import os
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from zeromean.errors import PatternError, SourceError, ZeromeanWarning
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Entry, Item, ListedSource, Source
from zeromean.sources.access import stamp_of

_Array = npt.NDArray[Any]
_SHARD_BYTES = 32 << 20
_LARGEST_VIEW = 64 << 20
_SMALLEST_VIEW = 4 << 20
#: What NumPy and zipfile raise for damaged files.
_DAMAGE = (
    ValueError, KeyError, EOFError, OSError, RuntimeError, SyntaxError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_SHARD_ITEMS = 64
_ENTRY_BYTES = 8 << 20  # of a stretch of a file that a ledger knows, the same on every machine


@dataclass(frozen=True, slots=True)
class ItemShard:
    """Items that are in memory already; picklable.

    Attributes
    ----------
    held : tuple of Item
    """

    held: tuple[Item, ...]

    @property
    def n_items(self) -> int:
        """How many samples or pictures it holds."""
        return sum(len(i.array) if i.batched and i.array is not None else 1 for i in self.held)

    def items(self) -> Iterator[Item]:
        """Hand them over."""
        return iter(self.held)


class MappedShard(ItemShard):
    """Views of a memory map, whose pages are given back once they have been measured.

    They would else count as this process's memory until the system wants them: all of a file
    that is larger than the memory.
    """

    __slots__ = ()

    def items(self) -> Iterator[Item]:
        """Hand them over."""
        for item in self.held:
            yield item
            _give_back(item.array)


def _give_back(view: _Array) -> None:
    """Drop the pages of a view that lie in a memory map; to read them again is no harm."""
    held: Any = view
    while held is not None and not isinstance(held, np.memmap):
        held = getattr(held, "base", None)
    mapped = getattr(held, "_mmap", None)
    kept = getattr(held, "mode", "") != "r"  # changes in a private map are nowhere else
    if mapped is None or kept or not view.flags.c_contiguous or not hasattr(mmap, "MADV_DONTNEED"):
        return
    begin = view.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
    first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (begin + view.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length > 0:
        mapped.madvise(mmap.MADV_DONTNEED, first, length)


def likely_pattern(shape: tuple[int, ...]) -> Pattern:
    """The pattern of an array that was given without one.

    Raises
    ------
    PatternError
        For three and more axes, with the two likely patterns.
    """
    if len(shape) == 1:
        return Pattern.parse("n ->")
    if len(shape) == 2:
        return Pattern.parse(NAMED["feature"])
    choices = {
        0: ("n ->", NAMED["feature"]),
        3: ("n h w ->", "h w c -> c" if shape and shape[-1] in (1, 3, 4) else "n t f -> f"),
        4: (NAMED["channel"], "n c h w -> c"),
    }.get(len(shape), ("... c -> c", "n ... ->"))
    raise PatternError(
        f"an array of shape {shape} needs a pattern that names its axes, "
        f"such as {choices[0]!r} or {choices[1]!r}"
    )


class ArraySource(Source):
    """One array as a source; shards are views of it.

    Parameters
    ----------
    array : ndarray
    pattern : Pattern or None
        None for the likely one.
    name : str
        For messages.
    limit : int, optional
        Only that many entries of the first axis, spread evenly.
    """

    def __init__(
        self, array: _Array, pattern: Pattern | None, name: str = "array", limit: int | None = None
    ) -> None:
        self.pattern = likely_pattern(array.shape) if pattern is None else pattern
        if array.ndim == 0 or not self.pattern.complete(array.shape):
            array = array[None]
        self._unit = self.pattern.unit(array.shape)
        units = len(array) // self._unit
        self.chosen: _Array | None = None
        if limit is not None and (wanted := max(1, limit // self._unit)) < units:
            starts = np.array(spread(units, wanted)) * self._unit
            self.chosen = np.add.outer(starts, np.arange(self._unit)).ravel()
            array = array[self.chosen]
        self.name, self.array = name, array
        self._n_whole = units * self._unit

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array, with its first axis."""
        return self.array.shape

    @property
    def n_items(self) -> int:
        """Length of the first axis."""
        return len(self.array)

    @property
    def n_whole(self) -> int:
        """The same without a limit."""
        return self._n_whole

    @property
    def n_bytes(self) -> int:
        """Size of the array."""
        return self.array.nbytes

    def shards(self, cores: int | None = None) -> Iterator[ItemShard]:
        """Views along the first axis, two or more for each core and none above 64 MB."""
        wanted = self.array.nbytes // (2 * (cores or os.cpu_count() or 1))
        wanted = min(max(wanted, _SMALLEST_VIEW), _LARGEST_VIEW)
        rows = max(1, len(self.array) * wanted // max(self.array.nbytes, 1))
        step = max(1, rows // self._unit) * self._unit
        for begin in range(0, max(len(self.array), 1), step):
            part = self.array[begin : begin + step]
            yield MappedShard((Item(part, self.name, n_bytes=part.nbytes, batched=True),))


class ArrayFile(ArraySource, ListedSource):
    """A `.npy` file; stretches of its first axis are the entries that a ledger knows.

    Parameters
    ----------
    path : Path
    pattern, limit
        As for `ArraySource`.
    """

    def __init__(self, path: Path, pattern: Pattern | None, limit: int | None = None) -> None:
        array = open_npy(path)
        self._stamp = stamp_of(path.stat())
        super().__init__(array, pattern, path.name, limit)

    @property
    def _begins(self) -> range:
        """Where the stretches begin."""
        row = max(1, self.array.nbytes // max(1, len(self.array)))
        step = max(1, _ENTRY_BYTES // row // self._unit) * self._unit
        return range(0, max(1, len(self.array)), step)

    def _entry(self, i: int) -> tuple[int, int, Entry]:
        begins = self._begins
        begin, end = begins[i], min(begins[i] + begins.step, len(self.array))
        name = self.name if len(begins) == 1 else f"{self.name}[{begin}:{end}]"
        return begin, end, Entry(name, (*self._stamp, begin))

    def entries(self) -> Iterator[Entry]:
        """Every stretch, with the stamp of the file."""
        return (self._entry(i)[2] for i in range(len(self._begins)))

    def shards_of(self, chosen: Sequence[int]) -> Iterator[ItemShard]:
        """Views of some of them, one by one."""
        for i in chosen:
            begin, end, (name, stamp) = self._entry(i)
            part = self.array[begin:end]
            yield MappedShard((Item(part, name, n_bytes=part.nbytes, batched=True, stamp=stamp),))


def spread(length: int, limit: int) -> list[int]:
    """The middle of each of `limit` equal stretches of 0..length."""
    return [(2 * i + 1) * length // (2 * limit) for i in range(limit)]


# ---------------------------------------------------------------- files of arrays


def open_npy(path: Path) -> _Array:
    """A `.npy` file as a memory map.

    Raises
    ------
    SourceError
        When it is damaged, holds Python objects, or claims more data than the file has.
    """
    try:
        with path.open("rb") as file:
            shape, _, dtype = _npy_header(file)
            held = path.stat().st_size - file.tell()
        if any(length < 0 for length in shape):
            raise SourceError(f"claims the impossible shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        if size > held:
            raise SourceError(f"claims {size:,} bytes of data for shape {shape}, holds {held:,}")
        if size < held:
            text = f"{path}: {held - size:,} bytes after the data were left out"
            warnings.warn(text, ZeromeanWarning, stacklevel=2)
        if size == 0:
            return np.zeros(shape, dtype)
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except _DAMAGE as error:
        raise SourceError(f"{path}: {_why(error)}") from None


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise SourceError("holds Python objects (pickle), which are never loaded")
    return shape, fortran, dtype


def _why(error: Exception) -> str:
    if isinstance(error, SourceError):
        return str(error)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read as an array: {text}"


def _few_of(names: list[str]) -> str:
    return ", ".join(names[:6] or ["none"]) + (", ..." if len(names) > 6 else "")


class ZippedArray(Source):
    """One member of a `.npz` file, read as a stream: compressed data is never held whole.

    Parameters
    ----------
    path : Path
    member : str
        Name of the array; empty when the file holds just one.
    pattern : Pattern or None
    limit : int, optional
        Stop after that many entries of the first axis.
    """

    def __init__(
        self, path: Path, member: str, pattern: Pattern | None, limit: int | None = None
    ) -> None:
        self.path, self.limit = path, limit
        try:
            with zipfile.ZipFile(path) as archive:
                names = [n.removesuffix(".npy") for n in archive.namelist()]
                self.member = member or (names[0] if len(names) == 1 else "")
                if self.member not in names:
                    raise SourceError(
                        f"holds {len(names)} arrays, {_few_of(names)}; name one: "
                        f"{path.name}:{names[0] if names else 'name'}"
                    )
                with archive.open(self.member + ".npy") as file:
                    self._shape, self._fortran, self._dtype = _npy_header(file)
        except _DAMAGE as error:
            raise SourceError(f"{path}: {_why(error)}") from None
        self.pattern = likely_pattern(self._shape) if pattern is None else pattern
        self._complete = bool(self._shape) and self.pattern.complete(self._shape)
        self._unit = self.pattern.unit(self._shape if self._complete else (1, *self._shape))
        self.name = f"{path.name}:{self.member}"

    @property
    def n_items(self) -> int:
        """Length of the first axis."""
        n = self._shape[0] if self._complete else 1
        if self.limit is None or n <= self._unit:
            return n
        return min(n // self._unit, max(1, self.limit // self._unit)) * self._unit

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return self._shape

    @property
    def n_bytes(self) -> int:
        """Size of the array, uncompressed."""
        return math.prod(self._shape) * self._dtype.itemsize

    def shards(self, cores: int | None = None) -> Iterator[ItemShard]:
        """Blocks of about 32 MB; the whole array when it is in Fortran order."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member + ".npy") as file:
                _npy_header(file)
                yield from self._blocks(file)
                if self.limit is None and file.read(1):  # at the end, the checksum is compared
                    text = f"{self.path}: bytes after the data of {self.member} were left out"
                    warnings.warn(text, ZeromeanWarning, stacklevel=2)
        except _DAMAGE as error:
            raise SourceError(f"{self.path}: {_why(error)}") from None

    def _blocks(self, file: IO[bytes]) -> Iterator[ItemShard]:
        whole = self._fortran or not self._complete or self._shape[0] in (0, self._unit)
        row = self._shape if whole else self._shape[1:]
        row_bytes = math.prod(row) * self._dtype.itemsize
        left = 1 if whole else self.n_items
        step = max(1, _SHARD_BYTES // max(row_bytes, 1) // self._unit) * self._unit
        while left > 0:
            take = min(step, left)
            data = file.read(take * row_bytes)
            if len(data) < take * row_bytes:
                raise SourceError("ends before its data does")
            array = np.frombuffer(data, self._dtype) if data else np.zeros(0, self._dtype)
            if whole:
                array = array.reshape(row, order="F" if self._fortran else "C")
                array = array[: self.n_items] if self._complete else array[None]
            else:
                array = array.reshape(take, *row)
            yield ItemShard((Item(array, self.name, n_bytes=len(data), batched=True),))
            left -= take


# ---------------------------------------------------------------- iterables


class ItemSource(Source):
    """An iterable of arrays or PIL images, of unequal sizes if need be; read once.

    Parameters
    ----------
    elements : iterable
        NumPy arrays, anything with ``__array__``, or PIL images.
    pattern : Pattern or None
        None for pictures; each array must then be (height, width, channels).
    colors : str
        How PIL images are converted.
    limit : int, optional
        Stop after that many elements.
    """

    def __init__(
        self,
        elements: Iterable[Any],
        pattern: Pattern | None,
        colors: str = "RGB",
        limit: int | None = None,
    ) -> None:
        self._elements, self._colors, self.limit = elements, colors, limit
        self.pattern = Pattern.parse(NAMED["channel"]) if pattern is None else pattern
        self._guessed = pattern is None
        self.name = "items"

    @cached_property
    def n_items(self) -> int | None:
        """How many samples or pictures, None for a generator."""
        if not isinstance(self._elements, Sequence):
            return None
        return sum(self._length(element) for element in self._elements[: self.limit])

    def _length(self, element: Any) -> int:
        shape: Any = getattr(element, "shape", ())
        if self._guessed or len(shape) == 0:
            return 1
        try:
            return int(shape[0]) if self.pattern.complete(tuple(shape)) else 1
        except PatternError:  # measuring it will say so, by its name
            return 1

    @property
    def n_bytes(self) -> int | None:
        """Not known beforehand."""
        return None

    def shards(self, cores: int | None = None) -> Iterator[ItemShard]:
        """Gather elements into shards of about 32 MB."""
        held: list[Item] = []
        size = 0
        for i, element in enumerate(self._elements):
            if self.limit is not None and i >= self.limit:
                break
            held.append(self._item(element, f"item {i}"))
            size += held[-1].n_bytes
            if size >= _SHARD_BYTES or len(held) == _SHARD_ITEMS:
                yield ItemShard(tuple(held))
                held, size = [], 0
        if held:
            yield ItemShard(tuple(held))

    def _item(self, element: Any, name: str) -> Item:
        if is_picture(element):
            return self._picture(element, name)
        array = as_array(element, name)
        if not isinstance(self._elements, Sequence):
            array = array.copy()  # a generator may fill the same buffer again
        if self._guessed and not (array.ndim == 3 and array.shape[2] in (1, 2, 3, 4)):
            raise PatternError(
                f"{name} has shape {array.shape}; without a pattern each array must be a picture "
                "(height, width, 1 to 4 channels). Name the axes, such as 'n h w ->' for gray "
                "pictures or 'n d -> d' for batches of rows"
            )
        try:
            batched = array.ndim > 0 and self.pattern.complete(array.shape)
        except PatternError as error:
            raise PatternError(f"{name}: {error}") from None
        return Item(array, name, n_bytes=array.nbytes, batched=batched)

    def _picture(self, image: Any, name: str) -> Item:
        from zeromean.sources.decode import DecodeError, from_pil

        try:
            decoded = from_pil(image, self._colors)
        except DecodeError as error:
            return Item(None, name, str(error))
        kind = f"{decoded.mode} {decoded.pixels.dtype}"
        n_bytes = decoded.pixels.nbytes
        return Item(decoded.pixels, name, "", kind, decoded.decoder, decoded.notes, n_bytes=n_bytes)


def is_picture(element: Any) -> bool:
    """Whether this is a PIL image; looks at the name of its module, imports nothing."""
    return type(element).__module__.startswith("PIL.")


def as_array(element: Any, name: str = "data") -> _Array:
    """Anything with ``__array__``, or nested lists of numbers, as an array without a copy.

    Raises
    ------
    PatternError
        When it is not an array of numbers.
    """
    if isinstance(element, np.ma.MaskedArray):
        raise PatternError(
            f"{name} is a masked array; give x.compressed(), or x.astype(float).filled(np.nan)"
        )
    try:
        return np.asarray(element)
    except (ValueError, TypeError, RuntimeError) as error:
        raise PatternError(
            f"{name} of type {type(element).__name__} is no array: {error}"
        ) from None


def is_path(source: Any) -> bool:
    """Whether this names a file or folder."""
    return isinstance(source, str | os.PathLike)
