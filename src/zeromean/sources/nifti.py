"""NIfTI volumes: `.nii`, `.nii.gz` and pairs of `.hdr` and `.img`, in blocks from front to back.

Alone knows nibabel, which reads the header. The values are read here: in the order of the file,
so that a compressed volume is unpacked once, and never held whole if it is large.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.pattern import Pattern
from zeromean.sources import Item, Source
from zeromean.sources.access import HeldFile, ReadError, is_remote, opened
from zeromean.sources.choosing import ChosenFiles, accepts
from zeromean.sources.decode import DecodeError
from zeromean.sources.parts import can_cut, counted_once

_Array = npt.NDArray[Any]

EXTENSIONS = (".nii", ".nii.gz", ".img", ".img.gz")
_PART = 8 << 20  # bytes of a part
_WHOLE = 32 << 20  # bytes up to which a volume is not cut, so that it stays one item
_HEADER = 540  # bytes of the longer header
_PAIR = re.compile(r"\.(hdr|img)(\.gz)?$", re.IGNORECASE)
_COLORS = {3: "RGB", 4: "RGBA"}


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open folders and files of volumes as one source.

    Parameters
    ----------
    paths : list of str
    pattern : Pattern or None
        None for one number over all voxels.
    options : Options
    name : str
        Of the format.
    """
    _nibabel()  # a missing one is said before any file is opened
    chosen = pattern or Pattern.parse("n ... ->")
    files = ChosenFiles(
        [_image_of(path) for path in paths],
        NiftiReader(chosen, options.group or ""),
        accept=_choice(options.extensions or EXTENSIONS),
        extensions=options.extensions or EXTENSIONS,
        pattern=chosen,
        limit=options.limit,
    )
    return [files]


def _choice(extensions: Sequence[str]) -> Callable[[str], bool]:
    """Files by the ends of their names; the image of a pair has its header beside it."""
    named, images = accepts(extensions), accepts((".img", ".img.gz"))
    return lambda path: named(path) and (not images(path) or _header_beside(path) is not None)


def _image_of(path: str) -> str:
    """The image of a pair that was named by its header; else the path itself."""
    found = _PAIR.search(path)
    if found is None or found[1].lower() == "img" or is_remote(path):
        return path
    stem = path[: found.start()]
    beside = (stem + suffix for suffix in (".img", ".img.gz", ".IMG"))
    return next((other for other in beside if os.path.exists(other)), path)


def _header_beside(path: str) -> str | None:
    stem = _PAIR.sub("", path)
    if is_remote(path):
        return f"{stem}.hdr"
    beside = (stem + suffix for suffix in (".hdr", ".hdr.gz", ".HDR"))
    return next((other for other in beside if os.path.exists(other)), None)


@dataclass(frozen=True, slots=True)
class NiftiReader:
    """Reads volumes; each counts as one item, whatever its size.

    Attributes
    ----------
    pattern : Pattern
        Says along which axes a volume may be cut.
    group : str
        The one kind that is wanted, such as ``"nifti-volume int16"``; empty for any.
    """

    pattern: Pattern
    group: str = ""

    def __call__(self, file: HeldFile, memory: Any) -> Iterator[Item]:
        """Parts of one volume, in the order of the file."""
        decoder = f"nibabel {_nibabel().__version__}"
        try:
            with _unpacked(file) as stream:
                volume = _volume(stream, file)
                kind = volume.kind
                if self.group and self.group not in (kind, kind.split(" ")[0]):
                    raise DecodeError(f"{kind}, not the chosen group {self.group}")
                yield from counted_once(
                    Item(part, file.name, "", kind, decoder, volume.notes)
                    for part in volume.parts(stream, self.pattern)
                )
                while stream is not file.file and stream.read(1 << 20):
                    pass  # up to the checksum at the end
        except EOFError:
            raise DecodeError("is cut short") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise DecodeError(f"damaged gzip file: {error}") from None

    def scratch(self) -> None:
        """None: parts wait for each other."""


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise ImportError('NIfTI files need nibabel: pip install "zeromean[medical]"') from None
    return nibabel


@contextmanager
def _unpacked(file: HeldFile) -> Iterator[Any]:
    """The bytes of a file, unpacked where they are compressed, whatever its name says."""
    file.file.seek(0)
    packed = file.file.read(2) == b"\x1f\x8b"
    file.file.seek(0)
    if not packed:
        yield file.file
        return
    with gzip.GzipFile(fileobj=file.file, mode="rb") as stream:
        yield stream


# ---------------------------------------------------------------- one volume


@dataclass(frozen=True, slots=True)
class _Volume:
    """What the header says of the values.

    Attributes
    ----------
    shape : tuple of int
        Without the colors.
    dtype : dtype
        Of the file.
    offset : int
        Where the values begin.
    slope, intercept : float or None
        None where they change nothing.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float | None = None
    intercept: float | None = None

    @property
    def colors(self) -> int:
        """How many there are; 0 for numbers."""
        return len(self.dtype.names or ())

    @property
    def kind(self) -> str:
        """Such as ``"nifti-volume int16"``."""
        if self.colors:
            return f"{_COLORS[self.colors]} uint8"
        return f"nifti-volume {'float64' if self.slope is not None else self.dtype.name}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to its values."""
        return () if self.slope is None else ("slope and intercept applied",)

    def parts(self, stream: Any, pattern: Pattern) -> Iterator[_Array]:
        """All values, in the order of the file: the first axis runs fastest.

        Parameters
        ----------
        stream : binary file
            At the first value.
        pattern : Pattern
        """
        axis, step = self._cut(pattern)
        inner, rest = self.shape[:axis], self.shape[axis + 1 :]
        ones = (1,) * len(rest)
        for _ in range(math.prod(rest)):
            for begin in range(0, self.shape[axis], step):
                length = min(step, self.shape[axis] - begin)
                yield self._values(stream, (*inner, length, *ones))

    def _cut(self, pattern: Pattern) -> tuple[int, int]:
        """The axis to cut along, with all that come after it, and how many entries make a part."""
        axis, size = len(self.shape) - 1, math.prod(self.shape) * self.dtype.itemsize
        full = (1, *self.shape, self.colors) if self.colors else (1, *self.shape)
        if size <= _WHOLE or not can_cut(pattern, full, axis + 1):
            return axis, self.shape[axis]
        while True:
            entry = math.prod(self.shape[:axis]) * self.dtype.itemsize
            if entry <= _PART or axis == 0 or not can_cut(pattern, full, axis):
                return axis, max(1, _PART // max(entry, 1))
            axis -= 1

    def _values(self, stream: Any, shape: tuple[int, ...]) -> _Array:
        data = _exactly(stream, math.prod(shape) * self.dtype.itemsize)
        if self.colors:
            values = np.frombuffer(data, np.uint8).reshape((self.colors, *shape), order="F")
            return np.moveaxis(values, 0, -1)
        raw = np.frombuffer(data, self.dtype).reshape(shape, order="F")
        if self.slope is None:
            return raw.astype(self.dtype.newbyteorder("="), copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: _Array = raw.astype(np.float64) * self.slope
            return scaled + self.intercept


def _exactly(stream: Any, size: int) -> bytes:
    pieces, held = [], 0
    while held < size and (piece := stream.read(size - held)):
        pieces.append(piece)
        held += len(piece)
    if held < size:
        raise DecodeError("is cut short")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _volume(stream: Any, file: HeldFile) -> _Volume:
    """Read the header; leaves the stream at the first value.

    Raises
    ------
    DecodeError
        When it is no NIfTI header, or one of values that cannot be measured.
    """
    pair = _PAIR.search(file.path)
    if pair is not None and pair[1].lower() == "hdr":
        raise DecodeError("the header of a NIfTI pair, without its image (.img) beside it")
    head = _head_of_pair(file) if pair else _some(stream, _HEADER)
    volume = _described(head, pair is not None)
    size = volume.offset + math.prod(volume.shape) * volume.dtype.itemsize
    if stream is file.file and file.size < size:
        raise DecodeError(f"is cut short: {file.size:,} of {size:,} bytes")
    stream.seek(volume.offset)
    return volume


def _some(stream: Any, size: int) -> bytes:
    """At most that many bytes."""
    data = b""
    while len(data) < size and (piece := stream.read(size - len(data))):
        data += piece
    return data


def _head_of_pair(file: HeldFile) -> bytes:
    path = _header_beside(file.path)
    if path is None:
        raise DecodeError("has no header (.hdr) beside it")
    try:
        with opened(path, file.name) as held, _unpacked(held) as stream:
            return _some(stream, _HEADER)
    except (ReadError, OSError) as error:
        raise DecodeError(f"its header cannot be read: {error}") from None


def _described(head: bytes, pair: bool) -> _Volume:
    header = _parsed(head, pair)
    try:
        dtype, shape = header.get_data_dtype(), tuple(map(int, header.get_data_shape()))
        slope, intercept = header.get_slope_inter()
        offset = int(header.get_data_offset())
    except Exception as error:  # nibabel has errors of its own, and KeyError, ...
        text = (str(error).splitlines() or [""])[0][:120]
        raise DecodeError(f"damaged NIfTI header: {text or type(error).__name__}") from None
    if not shape or min(shape) < 0:
        raise DecodeError(f"damaged NIfTI header: a shape of {shape}")
    if 0 in shape:
        raise DecodeError("holds no data")
    if dtype.itemsize > 8 or (dtype.names is None and dtype.kind not in "iuf"):
        raise DecodeError(f"holds {dtype} values, which are not measured")
    if offset < 0 or (not pair and offset < len(header.binaryblock)):
        raise DecodeError(f"damaged NIfTI header: values that begin at byte {offset}")
    if slope is None or (slope, intercept) == (1, 0) or dtype.names:
        slope = intercept = None
    return _Volume(shape, dtype, offset, slope, intercept)


def _parsed(head: bytes, pair: bool) -> Any:
    """nibabel's header of the right version and byte order."""
    nibabel = _nibabel()
    sizes = {int.from_bytes(head[:4], order): order for order in ("little", "big")}
    version = 2 if 540 in sizes else 1 if 348 in sizes else 0
    magic = head[4:8] if version == 2 else head[344:348]
    length = 540 if version == 2 else 348
    if not head:
        raise DecodeError("empty file")
    if version and len(head) < length:
        raise DecodeError("is cut short within its header")
    if version == 1 and magic not in (b"n+1\0", b"ni1\0"):
        raise DecodeError("an Analyze 7.5 file, the forerunner of NIfTI; convert it first")
    if not version or magic[:3] not in (b"n+1", b"ni1", b"n+2", b"ni2"):
        raise DecodeError("not a NIfTI file")
    if magic.startswith(b"ni") and not pair:
        raise DecodeError("the header of a NIfTI pair, without its image (.img)")
    name = f"Nifti{version}{'Pair' if pair else ''}Header"
    endianness = "<" if sizes.get(length) == "little" else ">"
    return getattr(nibabel.nifti2 if version == 2 else nibabel.nifti1, name)(
        head[:length], endianness, check=False
    )
