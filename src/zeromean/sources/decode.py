"""Decodes one image file to an array, or says in a sentence why it cannot.

Alone knows Pillow and simplejpeg. Pillow is the reference: whatever `Image.open(file).convert(...)`
gives is the truth, as it is for torchvision's default loader. simplejpeg decodes ordinary JPEGs
to the same bits in half the time and, unlike Pillow, tells when their data is corrupt.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import SourceError
from zeromean.sources import sniff
from zeromean.sources.strictness import STRICTLY

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image as PillowImage

COLORS = ("RGB", "gray", "keep")


class DecodeError(SourceError):
    """A file is no image, a damaged one, or one whose pixels would come out wrong.

    The message is a sentence fragment without the file's name.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The pixels of one image and how they came about.

    Attributes
    ----------
    pixels : ndarray of shape (h, w, c)
        C-contiguous, in native byte order.
    mode : str
        Pillow's name of what the channels are: ``"RGB"``, ``"L"``, ``"I;16"``, ...
    decoder : str
        ``"simplejpeg"`` or ``"Pillow"``.
    notes : tuple of str
        What was done on the way: ``"palette"``, ``"alpha dropped"``, ...
    """

    pixels: npt.NDArray[Any]
    mode: str
    decoder: str
    notes: tuple[str, ...] = ()


class Scratch:
    """Memory that one picture after another is decoded into, in one thread.

    Fresh memory for every picture costs a tenth of its decoding.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def take(self, size: int) -> npt.NDArray[np.uint8]:
        """`size` bytes, the same ones every time."""
        if size > len(self._memory):
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]


def decode(
    data: bytes, name: str = "", colors: str = "RGB", scratch: Scratch | None = None
) -> Decoded:
    """Decode the first picture of an image file.

    Safe to call from many threads at once. The content decides the format, never the name.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        Its name; only the extension is looked at, for a note when it lies.
    colors : {"RGB", "gray", "keep"}
        ``"RGB"`` and ``"gray"`` convert 8-bit images as Pillow's ``convert("RGB")`` and
        ``convert("L")`` do: palettes looked up, alpha dropped without compositing, EXIF
        rotation not applied. ``"keep"`` leaves channels and dtype as the file has them;
        only palettes, whose numbers mean nothing, become RGB or RGBA.
    scratch : Scratch, optional
        The pixels may lie there, and live until it is used again.

    Returns
    -------
    Decoded

    Raises
    ------
    DecodeError
        The bytes are not an image, are damaged, or hold what cannot be had exactly.
    SourceError
        `colors` is none of the three.

    Examples
    --------
    >>> decoded = decode(b"P5 2 1 255 " + bytes([10, 20]))
    >>> decoded.pixels.tolist(), decoded.notes
    ([[[10, 10, 10], [20, 20, 20]]], ('gray',))
    """
    _check_colors(colors)
    image_format = sniff.image_format(data, name)
    if not image_format:
        raise DecodeError(sniff.not_an_image(data))
    try:
        decoded = _decode_jpeg(data, colors, scratch) if image_format == "JPEG" else None
        if decoded is None:
            decoded = _decode_with_pillow(data, image_format, colors)
    except DecodeError:
        raise
    except Exception as error:  # decoders fail in every way there is: struct.error, KeyError, ...
        raise DecodeError(_reason(error, image_format)) from error
    if note := sniff.misnamed(name, image_format):
        return Decoded(decoded.pixels, decoded.mode, decoded.decoder, (*decoded.notes, note))
    return decoded


def from_pil(image: PillowImage, colors: str = "RGB") -> Decoded:
    """Take the pixels of an opened PIL image by the rules of `decode`.

    Parameters
    ----------
    image : PIL.Image.Image
        Its current frame is read. An image that Pillow has already cut from 16 to 8 bits
        and that was loaded before cannot be told from a true 8-bit one.
    colors : {"RGB", "gray", "keep"}
        As for `decode`.

    Returns
    -------
    Decoded

    Raises
    ------
    DecodeError
        The image cannot be loaded, or not exactly.
    SourceError
        `colors` is none of the three.
    """
    _check_colors(colors)
    try:
        with STRICTLY:
            return _convert(image, colors)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(_reason(error, getattr(image, "format", None) or "image")) from error


def labels_of(data: bytes, name: str = "") -> npt.NDArray[Any]:
    """The labels in a label image: one number for each pixel, as the file has them.

    The indices of a palette are the labels, as in PASCAL VOC; its colors are but for people.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        Its name.

    Returns
    -------
    ndarray of bool or integers, (h, w)

    Raises
    ------
    DecodeError
        The bytes are no image, are damaged, or hold colors.
    """
    image_format = sniff.image_format(data, name)
    if not image_format:
        raise DecodeError(sniff.not_an_image(data))
    try:
        with STRICTLY:
            image = _opened(data, image_format)
            _refuse_deep_image(image)
            image.load()
            pixels = _as_file_has_it(np.array(image), image)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(_reason(error, image_format)) from error
    if image.mode == "RGB" and (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    if pixels.ndim != 2 or image.mode == "F":
        raise DecodeError(
            f"it holds {image.mode} and not one whole number for each pixel; save labels as a gray "
            "or palette picture"
        )
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def decoder_version(decoder: str) -> str:
    """Version of a decoder named in `Decoded.decoder`, for the provenance."""
    if decoder == "simplejpeg":
        import simplejpeg

        return str(simplejpeg.__version__)
    import PIL

    return PIL.__version__


def _check_colors(colors: str) -> None:
    if colors not in COLORS:
        raise SourceError(f"colors is {colors!r}; choose 'RGB', 'gray' or 'keep'")


# ---------------------------------------------------------------- JPEG


@cache
def _fast_decoder() -> Callable[..., npt.NDArray[np.uint8]] | None:
    """Give simplejpeg's decoder where it is sure to agree with Pillow, else None."""
    from PIL import features

    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    # Both carry libjpeg-turbo; a Pillow built on IJG's libjpeg has another upsampling.
    return decode_jpeg if features.check_feature("libjpeg_turbo") else None


# Of libjpeg's warnings these are about the pixels; the others (junk in the header, a bad
# ICC profile, an unknown JFIF revision) leave them alone, and Pillow may have its say.
_CORRUPT = re.compile(
    r"premature end|bad (?:huffman|arithmetic) code|instead of RST|inconsistent progression"
    r"|(?P<count>\d+) extraneous bytes before marker 0x(?P<marker>[0-9a-f]{2})",
    re.IGNORECASE,
)


def _decode_jpeg(data: bytes, colors: str, scratch: Scratch | None) -> Decoded | None:
    """Decode an ordinary JPEG with simplejpeg; None leaves it to Pillow."""
    header, decoder = sniff.jpeg_header(data), _fast_decoder()
    if header is None:
        return None
    if header.bits != 8:
        raise DecodeError(f"a {header.bits}-bit JPEG, which Pillow cannot read")
    # Pillow always inverts CMYK, and lossless or arithmetic frames are rare enough for it.
    if decoder is None or header.components not in (1, 3) or not 0xC0 <= header.frame <= 0xC2:
        return None
    _check_size(header.width, header.height)
    single = header.components == 1
    try:
        space = "GRAY" if single and colors != "RGB" else "RGB"
        size = header.width * header.height * (1 if space == "GRAY" else 3)
        pixels = decoder(data, space, buffer=scratch.take(size) if scratch else None)
    except ValueError as error:
        _judge_jpeg(str(error), data, header)
        return None
    notes = _jpeg_notes(header, colors)
    if colors == "gray" and not single:
        # The Y plane of the file differs from this by rounding, and Pillow is the truth.
        from PIL import Image

        image = Image.frombuffer("RGB", (header.width, header.height), pixels)
        pixels = np.asarray(image.convert("L"))[..., None]
    mode = "L" if colors == "gray" or (single and colors == "keep") else "RGB"
    return Decoded(pixels, mode, "simplejpeg", notes)


def _jpeg_notes(header: sniff.JpegHeader, colors: str) -> tuple[str, ...]:
    notes = []
    if header.components == 1 and colors == "RGB":
        notes.append("gray")
    if header.components == 3 and colors == "gray":
        notes.append("color")
    if header.orientation in _TURNED:
        notes.append(_NOT_TURNED)
    if header.pictures > 1:
        notes.append(_FIRST_FRAME)
    return tuple(notes)


def _judge_jpeg(message: str, data: bytes, header: sniff.JpegHeader) -> None:
    """Refuse a JPEG whose pixel data is corrupt, by what the strict decoder said about it."""
    found = _CORRUPT.search(message)
    if found is None:
        return
    # The header was walked without a gap, so extraneous bytes lie in or after a scan.
    if found["count"]:
        marker = bytes((0xFF, int(found["marker"], 16)))
        if sniff.is_padding(data, header.scan, marker, int(found["count"])):
            return
    if "end of jpeg" in message.lower():
        raise DecodeError("the JPEG file is cut short")
    raise DecodeError(f"damaged JPEG file: {message.removeprefix('Corrupt JPEG data: ')}")


# ---------------------------------------------------------------- Pillow

_TURNED = range(2, 9)  # EXIF orientations that turn or mirror; 1 is upright
_NOT_TURNED = "EXIF orientation not applied"
_FIRST_FRAME = "first frame only"
_XMP_TURNED = re.compile(rb"tiff:Orientation(=.|>)[2-8]")


def _decode_with_pillow(data: bytes, image_format: str, colors: str) -> Decoded:
    with STRICTLY:
        image = _opened(data, image_format)
        decoded = _convert(image, colors)
        if image_format != "PSD" and _has_more_frames(image):  # a PSD's "frames" are layers
            notes = (*decoded.notes, _FIRST_FRAME)
            return Decoded(decoded.pixels, decoded.mode, decoded.decoder, notes)
        return decoded


def _opened(data: bytes, image_format: str) -> PillowImage:
    """A PIL image of which no pixel is decoded yet, if its header is sound."""
    from PIL import Image, UnidentifiedImageError

    if image_format == "PNG" and (fault := sniff.png_fault(data)):
        raise DecodeError(fault)
    _refuse_deep_file(data, image_format)
    try:
        image = Image.open(io.BytesIO(data), formats=(image_format,))
    except UnidentifiedImageError:
        raise DecodeError(
            f"damaged {image_format} file, or of a kind that Pillow cannot read"
        ) from None
    _check_size(*image.size)
    return image


def _has_more_frames(image: PillowImage) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a second frame that cannot even be found is still a second frame
        return True


def _check_size(width: int, height: int) -> None:
    """Refuse a decompression bomb before any memory is taken for its pixels."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:
        raise DecodeError(_too_large(width * height, 2 * limit))


def _too_large(n_pixels: int | str, limit: int | str) -> str:
    return (
        f"{n_pixels} pixels, more than the limit of {limit}; "
        "if this is no decompression bomb, raise PIL.Image.MAX_IMAGE_PIXELS"
    )


def _convert(image: PillowImage, colors: str) -> Decoded:
    _refuse_deep_image(image)
    notes = (*_scale_notes(image), *_orientation_notes(image))  # loading forgets both
    image.load()
    mode = _target_mode(image, colors)
    notes = (*_mode_notes(image, mode), *notes)
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    pixels = _as_file_has_it(pixels, image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    native = pixels.dtype.newbyteorder("=")
    mode = "I;16" if mode.startswith("I;16") else mode
    return Decoded(np.ascontiguousarray(pixels, native), mode, "Pillow", notes)


_WIDE = {"I;16": "16-bit gray", "I": "integer gray of more than 8 bits", "F": "floating-point gray"}
_BASE_MODES = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}


def _target_mode(image: PillowImage, colors: str) -> str:
    mode = image.mode
    if colors == "keep":
        if mode == "P":
            return "RGBA" if image.has_transparency_data else "RGB"
        return _BASE_MODES.get(mode, mode)
    repair = 'keep its values with colors="keep" (--colors keep)'
    if wide := _WIDE.get(mode[:4]):
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]
        raise DecodeError(f"{wide.replace('16', str(bits))}, not 8-bit; {repair}")
    if mode == "LAB":
        # Pillow has a conversion, but through a color management profile of its own choice.
        raise DecodeError(f"CIE Lab, not RGB; {repair}")
    return "L" if colors == "gray" else "RGB"


def _mode_notes(image: PillowImage, target: str) -> tuple[str, ...]:
    """Say what the conversion to `target` does to an image."""
    mode, notes = image.mode, []
    if mode in ("P", "PA"):
        notes.append("palette")
    elif mode == "1" and target != "1":
        notes.append("1-bit")
    elif mode in ("L", "LA", "La") and target == "RGB":
        notes.append("gray")
    elif mode in ("CMYK", "YCbCr", "HSV") and target != mode:
        notes.append(mode)
    elif mode.startswith("RGB") and target == "L":
        notes.append("color")
    if target[-1] not in "Aa" and (
        mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    ):
        notes.append("alpha dropped")
    return tuple(notes)


def _orientation_notes(image: PillowImage) -> tuple[str, ...]:
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        # Pillow turns TIFFs while it loads them, for everybody who opens one.
        return ("TIFF orientation applied",) if tags.get(0x0112) in _TURNED else ()
    exif = image.info.get("exif", b"")
    xmp = image.info.get("xmp", b"") or image.info.get("XML:com.adobe.xmp", "")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    turned = isinstance(exif, bytes) and sniff.tiff_tag(exif.removeprefix(b"Exif\0\0"), 0x0112)
    return (_NOT_TURNED,) if turned in _TURNED or _XMP_TURNED.search(xmp) else ()


# ---------------------------------------------------------------- depth


def _refuse_deep_file(data: bytes, image_format: str) -> None:
    """Refuse files whose depth only the bytes show: Pillow's object no longer knows it."""
    bits = 0
    if image_format == "AVIF":
        bits = sniff.avif_bits(data)
    elif image_format == "JPEG2000":
        bits = sniff.jpeg2000_bits(data)
        bits = 0 if bits == 16 else bits  # 16-bit gray comes out whole; color has a tile of its own
    if bits > 8:
        _refuse_deep(bits, image_format)


def _refuse_deep_image(image: PillowImage) -> None:
    """Refuse images of which Pillow would silently keep the upper 8 bits."""
    if image.mode.startswith(("I", "F")):
        return
    tags = getattr(image, "tag_v2", None) or {}
    depths = tags.get(258, ())
    bits = max(depths) if isinstance(depths, tuple) and depths else 0
    for tile in getattr(image, "tile", ()):
        args = tile[3] if isinstance(tile[3], tuple) and tile[3] else (tile[3],)
        if tile[0] == "SGI16" or str(args[0]).endswith((";16B", ";16L", ";16N")):
            bits = 16
        elif str(tile[0]).startswith("ppm") and isinstance(args[-1], int):
            bits = args[-1].bit_length()
    if bits > 8:
        _refuse_deep(bits, image.format or "")
    if 2 in tags.get(339, ()):
        raise DecodeError(
            "signed 8-bit TIFF, which Pillow reads as unsigned; measure it as an array"
        )


def _refuse_deep(bits: int, image_format: str) -> None:
    raise DecodeError(
        f"{bits}-bit {image_format} picture, which Pillow cuts to 8 bits; "
        "convert it to 8 bits, or measure it as an array"
    )


def _scale_notes(image: PillowImage) -> tuple[str, ...]:
    """Say when Pillow stretches the gray levels of a PPM to the full range of its mode."""
    top = 65535 if image.mode == "I" else 255
    for tile in getattr(image, "tile", ()):
        if str(tile[0]).startswith("ppm") and tile[3][-1] not in (top, "1;I"):
            return (f"gray levels stretched to 0..{top}",)
    return ()


def _as_file_has_it(pixels: npt.NDArray[Any], image: PillowImage) -> npt.NDArray[Any]:
    """Undo the one wrap-around of Pillow: unsigned 32-bit TIFFs come as signed integers."""
    tags = getattr(image, "tag_v2", None)
    if image.mode == "I" and tags and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,):
        return pixels.view(np.uint32)
    return pixels


# ---------------------------------------------------------------- errors


def _reason(error: Exception, image_format: str) -> str:
    """Turn whatever a decoder raised into a sentence fragment."""
    text = (str(error).splitlines() or [""])[0].removesuffix(" when reading image file")
    if type(error).__name__ == "DecompressionBombError":
        return _too_large(*re.findall(r"\d+", text)[:2])
    if isinstance(error, MemoryError):
        return "takes more memory to decode than there is"
    if "truncated" in text.lower():
        return f"the {image_format} file is cut short"
    return f"damaged {image_format} file: {text[:120] or type(error).__name__}"
