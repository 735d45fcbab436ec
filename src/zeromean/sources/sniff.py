"""Reads image headers from their bytes: the format, depth and soundness, or what it is instead."""

from __future__ import annotations

import os
import re
import struct
import zlib
from typing import NamedTuple

# Pillow's format name and the file names that go with it. Formats that are not here are
# never opened: Pillow would run an outside program (EPS), or nobody has looked whether it
# quietly drops bits (DDS, FITS, ...).
SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jpc"),
    "AVIF": (".avif", ".avifs"),
    "ICO": (".ico",),
    "PSD": (".psd",),
    "TGA": (".tga",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "PCX": (".pcx",),
}

_FORMAT_OF_SUFFIX = {suffix: name for name, group in SUFFIXES.items() for suffix in group}

_MAGIC = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)"
    rb"|(?P<PNG>\x89PNG\r\n\x1a\n)"
    rb"|(?P<PPM>P[1-6f]\s)"
    rb"|(?P<BMP>BM)"
    rb"|(?P<TIFF>II\*\0|MM\0\*|MM\*\0|II\0\*|II\+\0|MM\0\+)"
    rb"|(?P<WEBP>RIFF....WEBP)"
    rb"|(?P<GIF>GIF8[79]a)"
    rb"|(?P<JPEG2000>\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n)"
    rb"|(?P<AVIF>....ftyp(?:avi[fs]|mi[af]..{1,60}?avi[fs]))"
    rb"|(?P<ICO>\0\0\x01\0)"
    rb"|(?P<PSD>8BPS)"
    rb"|(?P<QOI>qoif)"
    rb"|(?P<SGI>\x01\xda)"
    rb"|(?P<PCX>\n[\0\x02\x03\x05]\x01)",
    re.DOTALL,
)


def image_format(data: bytes, name: str = "") -> str:
    """Tell by the first bytes Pillow's name of the format; empty when it is none we read."""
    if found := _MAGIC.match(data):
        return found.lastgroup or ""
    # TGA has no magic number at all, so here the name has to do.
    return "TGA" if len(data) > 18 and name[-4:].lower() == ".tga" else ""


def misnamed(name: str, image_format: str) -> str:
    """Note when the file name promises another image format than the content has."""
    suffix = os.path.splitext(name)[1].lower()
    if _FORMAT_OF_SUFFIX.get(suffix, image_format) == image_format:
        return ""
    return f"extension says {suffix}, content is {image_format}"


_NOT_PICTURES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), reason)
    for pattern, reason in (
        (rb"version https://git-lfs", "a git-lfs pointer; run `git lfs pull`"),
        (rb"\s*(<\?xml.{0,600}?)?(<!--.{0,600}?-->\s*)?(<!doctype svg.{0,600}?)?<svg",
         "an SVG drawing, which has no pixels; render it to PNG first"),
        (rb"\s*(<!--.{0,600}?-->\s*)?(<!doctype html|<html|<head|<body)",
         "an HTML page, not an image"),
        (rb"....ftyp(hei[cfms]|hev[cx]|mif1|msf1)",
         "an HEIF picture, which Pillow cannot read; convert it to JPEG or PNG first"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript drawing, which has no pixels; render it first"),
        (rb"%PDF-", "a PDF document, not an image"),
        (rb"PK\x03\x04", "a zip archive, not an image"),
        (rb"\x1f\x8b", "a gzip archive, not an image"),
        (rb"SIMPLE  =", "a FITS file; measure it as an array"),
        (rb"\x93NUMPY", "a NumPy array file, not an image; measure it as an array"),
    )
)  # fmt: skip


def not_an_image(data: bytes) -> str:
    """Say what a file that begins like no image is instead."""
    if not data:
        return "empty file"
    head = data[:2048]
    for pattern, reason in _NOT_PICTURES:
        if pattern.match(head):
            return reason
    if not any(head):
        return "only zero bytes, as an interrupted copy leaves behind"
    text = head.decode("utf-8", "replace")  # the cut may fall inside one character
    if text.count("\ufffd") <= 1 and all(char >= " " or char in "\t\n\r\f" for char in text):
        return "a text file, not an image that Pillow knows"
    return "not an image that Pillow knows"


class JpegHeader(NamedTuple):
    """What the markers before the first scan of a JPEG say.

    `frame` is the code of the frame marker (0xC0 baseline, 0xC2 progressive, ...), `scan`
    the offset of the first scan, `orientation` the EXIF one (0 when there is none) and
    `pictures` how many the multi-picture index lists.
    """

    width: int
    height: int
    bits: int
    components: int
    frame: int
    scan: int
    orientation: int
    pictures: int


# SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC), which share the range.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length (TEM, RSTn, SOI, EOI) and no markers at all (00).
_BARE = frozenset((0x00, 0x01, *range(0xD0, 0xDA)))

_segment = struct.Struct(">BBH").unpack_from
_frame = struct.Struct(">BHHB").unpack_from


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Walk the markers up to the first scan; None when anything there is out of the ordinary."""
    at, end = 2, len(data) - 12
    frame = bits = height = width = components = orientation = 0
    pictures = 1
    while at < end:
        first, marker, length = _segment(data, at)
        if first != 0xFF or marker in _BARE:
            return None
        if marker == 0xFF:  # a fill byte, legal before any marker
            at += 1
        else:
            if marker in _FRAMES:
                bits, height, width, components = _frame(data, at + 4)
                frame = marker
            elif marker == 0xE1 and data.startswith(b"Exif\0\0", at + 4):
                orientation = tiff_tag(data[at + 10 : at + 2 + length], 0x0112)
            elif marker == 0xE2 and data.startswith(b"MPF\0", at + 4):
                pictures = tiff_tag(data[at + 8 : at + 2 + length], 0xB001)
            elif marker == 0xDA:
                break
            at += 2 + length
    if not (width and height) or at >= end:
        return None
    return JpegHeader(width, height, bits, components, frame, at, orientation, pictures)


def tiff_tag(block: bytes, tag: int) -> int:
    """Read an integer tag in the first directory of a TIFF or EXIF block; 0 when absent."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 0
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            key, kind = struct.unpack_from(f"{order}HH", block, at)
            if key == tag:
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), block, at + 8)
                return int(value)
    except struct.error:
        pass  # a damaged block says nothing; the pixels are not in it
    return 0


def is_padding(data: bytes, scan: int, marker: bytes, n_bytes: int) -> bool:
    """Tell whether the `n_bytes` that a decoder left before a marker of a JPEG are all the same.

    Some cameras pad so; anything else there was meant to be pixels, and the decoder lost step.
    """
    # Inside a scan FF is always followed by 00, so the first such pair is the marker.
    end = data.find(marker, scan + 2)
    return end > n_bytes and len(set(data[end - n_bytes : end])) == 1


_chunk = struct.Struct(">I4s").unpack_from
_checksum = struct.Struct(">I").unpack_from


def png_fault(data: bytes) -> str:
    """Say what is wrong with the chunks of a PNG; empty when nothing is.

    Pillow checks no checksum of pixel data and needs no end chunk when it loads; its
    `verify` does, by opening the file a second time and leniently where a process has set
    LOAD_TRUNCATED_IMAGES.
    """
    view, at, n_bytes = memoryview(data), 8, len(data)
    while at + 12 <= n_bytes:
        length, kind = _chunk(data, at)
        end = at + 12 + length
        if end > n_bytes:
            return "the PNG file is cut short"
        if zlib.crc32(view[at + 4 : end - 4]) != _checksum(data, end - 4)[0]:
            return f"damaged PNG file: wrong checksum in its {kind.decode('latin-1')!r} chunk"
        if kind == b"IEND":
            return ""
        at = end
    return "the PNG file is cut short: its end chunk is missing"


def jpeg2000_bits(data: bytes) -> int:
    """Read the bits per sample that a JPEG 2000 codestream declares, 0 when there is none."""
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1 if at >= 0 and at + 42 < len(data) else 0


def avif_bits(data: bytes) -> int:
    """Read the bits per sample of an AVIF from its configuration box (AV1-ISOBMFF 2.3.3)."""
    at = data.find(b"av1C", 0, 1 << 16)
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
