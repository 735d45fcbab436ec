"""Caffe: a mean image in `mean.binaryproto`, a `BlobProto` in protobuf's wire format.

Read in caffe's `src/caffe/proto/caffe.proto` (num 1, channels 2, height 3, width 4, data 5,
shape 7, double_data 8; shape.dim 1) and `tools/compute_image_mean.cpp`: means of raw 8-bit pixels,
axes (channels, height, width), channels blue, green, red as OpenCV decodes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from zeromean.errors import FormatError, PatternError
from zeromean.importers.found import Exact, Found, channels_of, exact, fractions
from zeromean.pattern import Pattern

TITLE = "Caffe"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LEGACY = (1, 2, 3, 4)
_DATA, _SHAPE, _DOUBLES = 5, 7, 8
_AXES = "chw"


def read(content: bytes, place: str, pattern: str | Pattern | None) -> Found:
    """A mean image, or under a pattern that keeps only the channels, its mean pixel.

    Raises
    ------
    FormatError
        When it is no BlobProto of one image.
    PatternError
        For a pattern that keeps something else than of channels, height and width.
    """
    image = exact(blob(content, place), "data", place)
    wanted = Pattern.parse("n c h w -> c h w" if pattern is None else pattern)
    shift = _kept(image, wanted, place)
    return Found(
        title=TITLE,
        place=place,
        shift=shift,
        scale=fractions(np.ones(shift.shape)),
        pattern=str(wanted),
        usual_range=(0, 255),
        channels=channels_of(image.shape[0], "BGR"),
        feeds_them=True,
        recipe="zero_mean",
        precision="float32",
    )


def _kept(image: Exact, pattern: Pattern, place: str) -> Exact:
    """The image in the order that the pattern keeps; means over the axes that it does not."""
    names = [name for group in pattern.axes for name in group]
    if not set(pattern.kept) <= set(_AXES) or not set(_AXES) <= set(names):
        raise PatternError(
            f"{place}: a mean image has the axes c, h and w, and the pattern {str(pattern)!r} "
            "keeps others; say 'n h w c -> h w c' for the image, 'n h w c -> c' for a mean pixel"
        )
    gone = tuple(i for i, name in enumerate(_AXES) if name not in pattern.kept)
    count = math.prod(image.shape[i] for i in gone)
    reduced = np.asarray(image.sum(axis=gone) if gone else image, object) / Fraction(count)
    left = [name for name in _AXES if name in pattern.kept]
    return np.asarray(np.transpose(reduced, [left.index(name) for name in pattern.kept]), object)


def blob(content: bytes, place: str) -> npt.NDArray[np.float64]:
    """The image of a BlobProto, (channels, height, width).

    Raises
    ------
    FormatError
    """
    legacy: dict[int, int] = {}
    shape: list[int] = []
    values: dict[int, list[npt.NDArray[np.float64]]] = {_DATA: [], _DOUBLES: []}
    for number, wire, value in fields(content, place):
        if number in _LEGACY and isinstance(value, int):
            legacy[number] = value
        elif number == _SHAPE and isinstance(value, bytes):
            shape += _dims(value, place)
        elif number in values and isinstance(value, bytes):
            values[number].append(_floats(value, number, wire, place))
    parts = values[_DOUBLES] or values[_DATA]
    data = np.concatenate(parts) if parts else np.zeros(0)
    return _image(data, shape or [legacy.get(n, 1) for n in _LEGACY], place)


def _image(data: npt.NDArray[np.float64], shape: list[int], place: str) -> npt.NDArray[np.float64]:
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or math.prod(shape) != data.size or not data.size:
        raise FormatError(
            f"{place}: is no mean image of Caffe: it says shape {tuple(shape)} and holds "
            f"{data.size} values; write it with compute_image_mean"
        )
    return data.reshape(shape)


def _dims(content: bytes, place: str) -> list[int]:
    dims: list[int] = []
    for number, _, value in fields(content, place):
        if number != 1:
            continue
        if isinstance(value, int):
            dims.append(value)
        else:
            position = 0
            while position < len(value):
                dim, position = _varint(value, position, place)
                dims.append(dim)
    return dims


def _floats(value: bytes, number: int, wire: int, place: str) -> npt.NDArray[np.float64]:
    """Packed (a run of bytes) or not (one value): the same bytes either way."""
    kind = "<f8" if number == _DOUBLES else "<f4"
    if len(value) % np.dtype(kind).itemsize or (wire == _FIXED64) != (wire != 2 and kind == "<f8"):
        raise FormatError(f"{place}: is damaged: field {number} has {len(value)} bytes")
    return np.frombuffer(value, kind).astype(np.float64)


def fields(content: bytes, place: str) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and value of each field of a protobuf message.

    Raises
    ------
    FormatError
        When it is cut off, or no message.
    """
    position = 0
    while position < len(content):
        key, position = _varint(content, position, place)
        number, wire = key >> 3, key & 7
        if number == 0 or wire not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise FormatError(f"{place}: is no protobuf message (at byte {position})")
        if wire == _VARINT:
            value, position = _varint(content, position, place)
            yield number, wire, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
        if wire == _BYTES:
            length, position = _varint(content, position, place)
        end = position + length
        if end > len(content):
            raise FormatError(f"{place}: is cut off: field {number} ends after the file")
        yield number, wire, content[position:end]
        position = end


def _varint(content: bytes, position: int, place: str) -> tuple[int, int]:
    value = shift = 0
    while position < len(content) and shift < 70:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise FormatError(f"{place}: is cut off, or no protobuf message (at byte {position})")
