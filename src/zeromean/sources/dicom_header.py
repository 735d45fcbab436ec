"""Reads of a DICOM file what describes its pixels, and nothing else; finds where they begin."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from zeromean.sources.decode import DecodeError
from zeromean.sources.modality import WANTED

_LARGEST_INFLATED = 256 << 20  # bytes of a data set that is compressed as a whole
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXELS = {0x0010: "PixelData", 0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData"}
_FORMATS = (b"OB", b"OW", b"OF", b"OD", b"UN")
_IMAGE = (
    *("BitsAllocated", "BitsStored", "Columns", "HighBit", "NumberOfFrames"),
    *("PhotometricInterpretation", "PixelRepresentation", "PlanarConfiguration", "Rows"),
    *("SamplesPerPixel", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "SOPClassUID"),
)
_COLORS = ("Red", "Green", "Blue", "Alpha")
_PALETTE = (
    *(f"{color}PaletteColorLookupTableDescriptor" for color in _COLORS[:3]),
    *(f"{color}PaletteColorLookupTableData" for color in _COLORS),
    *(f"Segmented{color}PaletteColorLookupTableData" for color in _COLORS),
)


def read_header(stream: Any, size: int) -> tuple[Any, Any, int, Any]:
    """The elements that are wanted; the stream at the pixels, its size, and the encoding.

    Parameters
    ----------
    stream : binary file
        At its beginning.
    size : int
        Of the file, in bytes.

    Returns
    -------
    header : pydicom.Dataset
    stream : binary file
        Another one where the data set was compressed as a whole.
    size : int
    syntax : pydicom.uid.UID

    Raises
    ------
    DecodeError
        When it is no DICOM file.
    """
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import UID

    marked = stream.read(132)[128:] == b"DICM"
    if not marked:
        stream.seek(0)
    meta: Any = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = UID(str(meta.get("TransferSyntaxUID", "")).rstrip("\0 "))
    if syntax == _DEFLATED:
        stream = io.BytesIO(_inflated(stream))
        size = stream.getbuffer().nbytes
    elif not syntax:
        syntax = UID(_likely_syntax(stream))
    header = read_dataset(
        stream,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, vr, length: tag.group == 0x7FE0 and tag.element in _PIXELS,
        specific_tags=[Tag(name) for name in (*_IMAGE, *_PALETTE, *WANTED)],
    )
    header.file_meta = meta
    if not marked and "Rows" not in header:
        raise DecodeError("not a DICOM file")
    return header, stream, size, syntax


def known_name(uid: Any) -> str:
    """What the standard calls a UID; nothing for what may be any text of a damaged header.

    Parameters
    ----------
    uid : pydicom.uid.UID or None
    """
    name = getattr(uid, "name", "")
    return "" if name == str(uid) else str(name)  # pydicom calls an unknown one by itself


def _likely_syntax(stream: Any) -> str:
    """The encoding of a file that does not say: by the look of its first element."""
    from pydicom import uid

    at = stream.tell()
    head = stream.read(6)
    stream.seek(at)
    if not (head[4:6].isalpha() and head[4:6].isupper()):
        return str(uid.ImplicitVRLittleEndian)
    little = int.from_bytes(head[:2], "little") < 1024
    return str(uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian)


def _inflated(stream: Any) -> bytes:
    """A data set that is compressed as a whole."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpacker.decompress(stream.read(_LARGEST_INFLATED), _LARGEST_INFLATED)
    if not unpacker.eof:
        raise DecodeError("its deflated data is cut short, or takes more than 256 MB")
    return data


def pixel_element(stream: Any, syntax: Any, header: Any) -> tuple[str, str, int]:
    """Keyword, format and length of the pixels; the stream is left at their first byte.

    Parameters
    ----------
    stream, syntax, header
        As `read_header` gives them.

    Raises
    ------
    DecodeError
        When there are none.
    """
    order = "<" if syntax.is_little_endian else ">"
    head = stream.read(8)
    group, element = struct.unpack_from(f"{order}HH", head) if len(head) == 8 else (0, 0)
    if group != 0x7FE0 or element not in _PIXELS:
        what = known_name(header.get("SOPClassUID"))
        raise DecodeError(f"holds no pixels{f' ({what})' if what else ''}")
    if head[4:6] not in _FORMATS:  # implicit, whatever the syntax says: lengths are even
        return _PIXELS[element], "", struct.unpack_from(f"{order}I", head, 4)[0]
    length = struct.unpack(f"{order}I", stream.read(4))[0]
    return _PIXELS[element], head[4:6].decode("ascii", "replace"), length
