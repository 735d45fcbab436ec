"""Decoding: the same pixels as Pillow, and a plain reason for everything that has none."""

from __future__ import annotations

import importlib
import io
import itertools
import pickle
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from zeromean.errors import SourceError
from zeromean.sources.decode import DecodeError, decode, decoder_version, from_pil
from zeromean.sources.strictness import STRICTLY

PHOTOS = sorted((Path(__file__).parents[2] / "shared" / "data" / "photos").glob("*/*.jpg"))
RNG = np.random.default_rng(20)


def photo(height=53, width=77, channels=3):
    """Make a picture with edges, gradients and noise, of odd sizes on purpose."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / (3 + c) + y / (7 - c)) for c in range(channels)]
    noisy = np.stack(waves, -1) + RNG.normal(0, 12, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8).squeeze()


def encoded(pixels, image_format, mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, image_format, **options)
    return buffer.getvalue()


def by_pillow(data, mode):
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def tiff(pixels, *, bits, sample_format=1, photometric=1, body=None):
    """Write an uncompressed one-strip TIFF by hand, of kinds that Pillow does not write."""
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    body = pixels.tobytes() if body is None else body
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8}
    tags |= {277: samples, 278: height, 279: len(body), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows, width, height, *, depth=8, color=2, extra=b""):
    """Write a PNG by hand: rows already filtered, chunks of `extra` before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def reason_of(data, name="", colors="RGB"):
    with pytest.raises(DecodeError) as caught:
        decode(data, name, colors)
    return str(caught.value)


# ---------------------------------------------------------------- JPEG

JPEGS = {
    f"q{quality} sub{sub} {'progressive' if progressive else 'baseline'} {h}x{w}": encoded(
        photo(h, w), "JPEG", quality=quality, subsampling=sub, progressive=progressive
    )
    for quality, sub, progressive, (h, w) in itertools.product(
        (30, 75, 95, 100), (0, 1, 2), (False, True), ((53, 77), (1, 1), (17, 8))
    )
} | {
    "restart markers": encoded(photo(), "JPEG", restart_marker_blocks=2),
    "optimized": encoded(photo(), "JPEG", optimize=True),
    "RGB inside": encoded(photo(), "JPEG", keep_rgb=True),
    "gray": encoded(photo(channels=1), "JPEG"),
    "gray progressive": encoded(photo(channels=1), "JPEG", progressive=True),
}


@pytest.mark.parametrize(("colors", "mode"), [("RGB", "RGB"), ("gray", "L")])
@pytest.mark.parametrize("data", JPEGS.values(), ids=JPEGS)
def test_jpeg_by_simplejpeg_has_the_bits_of_pillow(data, colors, mode):
    decoded = decode(data, "x.jpg", colors)
    assert decoded.decoder == "simplejpeg"
    assert decoded.mode == mode
    assert decoded.pixels.flags.c_contiguous
    assert np.array_equal(by_pillow(data, mode), decoded.pixels)


@pytest.mark.parametrize(("colors", "mode"), [("RGB", "RGB"), ("gray", "L"), ("keep", "CMYK")])
def test_cmyk_jpeg_goes_to_pillow(colors, mode):
    data = encoded(photo(), "JPEG", "CMYK")
    decoded = decode(data, "x.jpg", colors)
    assert (decoded.decoder, decoded.mode) == ("Pillow", mode)
    assert decoded.notes == (() if colors == "keep" else ("CMYK",))
    assert np.array_equal(by_pillow(data, mode), decoded.pixels)


@pytest.mark.skipif(not PHOTOS, reason="no photos beside the repository")
def test_photos_have_the_bits_of_pillow():
    for path in PHOTOS:
        data = path.read_bytes()
        decoded = decode(data, path.name)
        assert decoded.decoder == "simplejpeg", path
        assert np.array_equal(by_pillow(data, "RGB"), decoded.pixels), path


def test_pillow_takes_over_where_simplejpeg_may_differ(monkeypatch):
    monkeypatch.setattr("zeromean.sources.decode._fast_decoder", lambda: None)
    decoded = decode(JPEGS["optimized"], "x.jpg")
    assert (decoded.decoder, decoded.notes) == ("Pillow", ())
    assert np.array_equal(by_pillow(JPEGS["optimized"], "RGB"), decoded.pixels)


def test_keep_leaves_gray_jpeg_gray():
    decoded = decode(JPEGS["gray"], "x.jpg", "keep")
    assert (decoded.mode, decoded.pixels.shape, decoded.notes) == ("L", (53, 77, 1), ())
    assert np.array_equal(by_pillow(JPEGS["gray"], "L"), decoded.pixels)
    assert decode(JPEGS["gray"], "x.jpg").notes == ("gray",)


@pytest.mark.parametrize("progressive", [False, True])
def test_cut_jpeg_is_refused_wherever_it_is_cut(progressive):
    data = encoded(photo(), "JPEG", progressive=progressive)
    for share in (0.1, 0.3, 0.6, 0.9, 0.99):
        reason_of(data[: int(len(data) * share)], "x.jpg")
    for n_bytes in (1, 2, 3):
        assert reason_of(data[:-n_bytes]) == "the JPEG file is cut short"


def test_zeroed_tail_is_refused():
    data = JPEGS["restart markers"]
    assert reason_of(data[: len(data) // 2] + bytes(len(data) // 2)) in (
        "the JPEG file is cut short",
        "damaged JPEG file: premature end of data segment",
    )


def test_bytes_left_over_by_the_decoder_are_damage_but_padding_is_not():
    data = JPEGS["optimized"]
    leftover = bytes(RNG.integers(0, 255, 600, dtype=np.uint8))
    assert "extraneous bytes" in reason_of(data[:-2] + leftover + data[-2:])
    padded = decode(data[:-2] + bytes(600) + data[-2:])
    assert padded.decoder == "Pillow"
    assert np.array_equal(decode(data).pixels, padded.pixels)


def test_flipped_bits_are_refused_whenever_libjpeg_notices():
    data = encoded(photo(200, 300), "JPEG")
    scan = data.index(b"\xff\xda") + 20
    refused = 0
    for at in range(scan, len(data) - 2, 97):
        broken = bytearray(data)
        broken[at] ^= 0x10
        try:
            decode(bytes(broken))
        except DecodeError:
            refused += 1
    assert refused > 5  # most flips decode without any sign; Pillow alone notices none of these


def test_header_oddities_are_left_to_pillow():
    data = JPEGS["optimized"]
    assert data[11:13] == b"\x01\x01"  # the JFIF revision, of which strict libjpeg knows 1.x only
    odd = data[:11] + b"\x07\x01" + data[13:]
    decoded = decode(odd)
    assert decoded.decoder == "Pillow"
    assert np.array_equal(by_pillow(data, "RGB"), decoded.pixels)
    with_junk = data[:20] + b"junk" + data[20:]
    assert np.array_equal(decoded.pixels, decode(with_junk).pixels)


def test_bytes_after_the_end_are_harmless():
    data = JPEGS["optimized"]
    assert np.array_equal(decode(data).pixels, decode(data + b"more" * 100).pixels)


def test_multi_picture_jpeg_gives_its_first():
    first, second = (Image.fromarray(photo()) for _ in range(2))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    decoded = decode(data, "x.mpo")
    assert (decoded.decoder, decoded.notes) == ("simplejpeg", ("first frame only",))
    assert np.array_equal(by_pillow(data, "RGB"), decoded.pixels)


def test_12_bit_jpeg_is_named():
    data = JPEGS["optimized"]
    at = data.index(b"\xff\xc0")
    assert reason_of(data[: at + 4] + b"\x0c" + data[at + 5 :]) == (
        "a 12-bit JPEG, which Pillow cannot read"
    )


# ---------------------------------------------------------------- orientation


def oriented(image_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(20, 30), image_format, exif=exif)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_noted_and_not_applied(image_format):
    turned, upright = oriented(image_format, 6), oriented(image_format, 1)
    assert decode(turned).pixels.shape == (20, 30, 3)
    assert decode(turned).notes == ("EXIF orientation not applied",)
    assert decode(upright).notes == ()


def test_tiff_orientation_is_applied_as_pillow_does():
    data = encoded(photo(20, 30), "TIFF", tiffinfo={0x0112: 6})
    assert decode(data).notes == ("TIFF orientation applied",)
    assert decode(data).pixels.shape == (30, 20, 3)
    assert np.array_equal(by_pillow(data, "RGB"), decode(data).pixels)


# ---------------------------------------------------------------- modes


def transparent_palette():
    image = Image.fromarray(photo()).quantize(16)
    image.info["transparency"] = bytes([0, 128] * 8)
    return image


MODES = {
    "RGB": (Image.fromarray(photo()), (), "RGB uint8"),
    "L": (Image.fromarray(photo(channels=1)), ("gray",), "L uint8"),
    "1": (Image.fromarray(photo(channels=1) > 128), ("1-bit",), "1 bool"),
    "RGBA": (Image.fromarray(photo(channels=4)), ("alpha dropped",), "RGBA uint8"),
    "LA": (Image.fromarray(photo(channels=2), "LA"), ("gray", "alpha dropped"), "LA uint8"),
    "P": (Image.fromarray(photo()).quantize(16), ("palette",), "RGB uint8"),
    "P clear": (transparent_palette(), ("palette", "alpha dropped"), "RGBA uint8"),
}


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_converts_as_pillow_does(mode, image_format):
    if mode == "P clear" and image_format == "TIFF":
        pytest.skip("TIFF has no transparent palette")
    image, notes, _ = MODES[mode]
    data = encoded(image, image_format)
    decoded = decode(data, f"x.{image_format.lower()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(by_pillow(data, "RGB"), decoded.pixels)
        assert np.array_equal(by_pillow(data, "L"), decode(data, colors="gray").pixels)
    assert (decoded.mode, decoded.decoder, decoded.notes) == ("RGB", "Pillow", notes)
    assert decoded.pixels.dtype == np.uint8


@pytest.mark.parametrize("mode", MODES)
def test_keep_leaves_the_channels_of_the_file(mode):
    image, _, kind = MODES[mode]
    decoded = decode(encoded(image, "PNG"), colors="keep")
    assert f"{decoded.mode} {decoded.pixels.dtype}" == kind
    assert decoded.pixels.shape[:2] == (53, 77)
    assert ("palette" in decoded.notes) == mode.startswith("P")
    if not mode.startswith("P"):
        pixels = np.asarray(image)
        assert np.array_equal(pixels.reshape(decoded.pixels.shape), decoded.pixels)


def test_alpha_is_dropped_without_compositing():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0] = 200  # red under full transparency
    assert decode(encoded(pixels, "PNG")).pixels[0, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize(("image_format", "mode"), [("TIFF", "LAB"), ("TIFF", "CMYK")])
def test_keep_reads_other_color_spaces(image_format, mode):
    pixels = photo(channels=3 if mode == "LAB" else 4)
    image = Image.frombytes(mode, (77, 53), pixels.tobytes())
    decoded = decode(encoded(image, image_format), colors="keep")
    assert decoded.mode == mode
    assert np.array_equal(pixels, decoded.pixels)


def test_lab_is_refused_unless_kept():
    image = Image.frombytes("LAB", (77, 53), photo().tobytes())
    assert "--colors keep" in reason_of(encoded(image, "TIFF"))


# ---------------------------------------------------------------- more than 8 bits

GRAY16 = RNG.integers(0, 65536, (9, 11), dtype=np.uint16)


@pytest.mark.parametrize("colors", ["RGB", "gray"])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_gray_is_refused_with_the_repair(image_format, colors):
    data = encoded(Image.fromarray(GRAY16), image_format)
    reason = reason_of(data, colors=colors)
    assert "8-bit" in reason
    assert "--colors keep" in reason


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_gray_is_kept_exactly(image_format):
    options = {"irreversible": False} if image_format == "JPEG2000" else {}
    decoded = decode(encoded(Image.fromarray(GRAY16), image_format, **options), colors="keep")
    assert decoded.pixels.dtype.isnative
    assert np.array_equal(GRAY16[..., None], decoded.pixels)
    # Pillow has 32 bits for PPM, 16 for the others; the group says so.
    expected = ("I", "int32") if image_format == "PPM" else ("I;16", "uint16")
    assert expected == (decoded.mode, str(decoded.pixels.dtype))


def test_big_endian_16_bit_tiff_is_kept_in_native_order():
    image = Image.frombytes("I;16B", (11, 9), GRAY16.astype(">u2").tobytes())
    decoded = decode(encoded(image, "TIFF"), colors="keep")
    assert (decoded.mode, decoded.pixels.dtype.isnative) == ("I;16", True)
    assert np.array_equal(GRAY16[..., None], decoded.pixels)


@pytest.mark.parametrize("colors", ["RGB", "gray", "keep"])
@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_color_png_is_refused_always(color, channels, colors):
    """Pillow opens these as 8-bit without a word."""
    row = bytes([0]) + bytes(range(2 * channels))
    data = png(row, 1, 1, depth=16, color=color)
    assert by_pillow(data, "RGBA").dtype == np.uint8
    assert "16-bit PNG picture, which Pillow cuts to 8 bits" in reason_of(data, colors=colors)


@pytest.mark.parametrize("colors", ["RGB", "gray", "keep"])
def test_16_bit_color_of_other_formats_is_refused_always(colors):
    wide = RNG.integers(0, 65536, (2, 3, 3), dtype=np.uint16)
    ppm = b"P6 3 2 65535\n" + wide.astype(">u2").tobytes()
    plain = b"P3 1 1 1023\n" + b"1 2 1023"
    sgi = encoded(photo(), "SGI", bpc=2)
    for data in (ppm, plain, sgi):
        assert "which Pillow cuts to 8 bits" in reason_of(data, colors=colors)
    reason = reason_of(tiff(wide, bits=16, photometric=2), colors=colors)
    assert reason.startswith("16-bit TIFF picture")


def test_deep_avif_is_refused():
    data = encoded(photo(), "AVIF")
    assert decode(data, "x.avif").notes == ()
    at = data.index(b"av1C") + 6
    deep = data[:at] + bytes([data[at] | 0x40]) + data[at + 1 :]
    assert "10-bit AVIF picture" in reason_of(deep, colors="keep")


def test_floats_and_integers_are_kept():
    floats = RNG.normal(size=(4, 5)).astype(np.float32)
    integers = RNG.integers(-(2**31), 2**31, (4, 5), dtype=np.int32)
    for pixels, mode in ((floats, "F"), (integers, "I")):
        data = encoded(Image.fromarray(pixels), "TIFF")
        assert "--colors keep" in reason_of(data)
        decoded = decode(data, colors="keep")
        assert decoded.mode == mode
        assert np.array_equal(pixels[..., None], decoded.pixels)


def test_unsigned_32_bit_tiff_does_not_wrap_around():
    pixels = np.array([[0, 1, 2**31, 2**32 - 1]], np.uint32)
    decoded = decode(tiff(pixels, bits=32), colors="keep")
    assert decoded.pixels.dtype == np.uint32
    assert np.array_equal(pixels[..., None], decoded.pixels)


def test_signed_16_bit_tiff_keeps_its_signs_and_8_bit_is_refused():
    pixels = np.array([[-32768, -1, 0, 32767]], np.int16)
    decoded = decode(tiff(pixels, bits=16, sample_format=2), colors="keep")
    assert np.array_equal(pixels[..., None], decoded.pixels)
    small = tiff(pixels.astype(np.int8), bits=8, sample_format=2)
    for colors in ("RGB", "keep"):
        assert "signed 8-bit TIFF" in reason_of(small, colors=colors)


def test_packed_12_bit_tiff_keeps_its_own_values():
    pixels = np.array([[0, 1, 2048, 4095]], np.uint16)
    body = bytes.fromhex("000001800fff")
    data = tiff(pixels, bits=12, body=body)
    assert reason_of(data).startswith("12-bit gray, not 8-bit")
    decoded = decode(data, colors="keep")
    assert np.array_equal(pixels[..., None], decoded.pixels)


def test_stretched_gray_levels_are_noted():
    decoded = decode(b"P5 3 1 15\n" + bytes([0, 5, 15]))
    assert decoded.notes == ("gray", "gray levels stretched to 0..255")
    assert decoded.pixels[0, :, 0].tolist() == [0, 85, 255]


# ---------------------------------------------------------------- PNG


def test_any_damage_to_a_png_is_refused():
    data = encoded(photo(8, 8), "PNG")
    for at in range(8, len(data)):
        broken = bytearray(data)
        broken[at] ^= 1
        reason_of(bytes(broken))
    for n_bytes in range(len(data)):
        reason_of(data[:n_bytes])


def test_bytes_after_a_png_are_harmless():
    data = encoded(photo(), "PNG")
    assert np.array_equal(photo_of(data), photo_of(data + b"more" * 10))


def photo_of(data):
    return decode(data).pixels


def test_wrong_checksum_names_its_chunk():
    text = png_chunk(b"tEXt", b"a\0b")
    data = png(bytes(4), 1, 1, extra=text[:-1] + bytes([text[-1] ^ 1]))
    assert reason_of(data) == "damaged PNG file: wrong checksum in its 'tEXt' chunk"
    assert decode(png(bytes(4), 1, 1, extra=text)).pixels.tolist() == [[[0, 0, 0]]]


def test_text_bomb_is_refused():
    bomb = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26)))
    assert reason_of(png(bytes(4), 1, 1, extra=bomb * 3)).startswith("damaged PNG file")


def test_apng_and_gif_give_their_first_frame():
    frames = [Image.fromarray(photo(8, 8)) for _ in range(3)]
    for image_format in ("PNG", "GIF", "WEBP", "TIFF"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
        decoded = decode(data)
        assert decoded.notes[-1] == "first frame only", image_format
        assert np.array_equal(by_pillow(data, "RGB"), decoded.pixels)


# ---------------------------------------------------------------- bombs


def test_bombs_are_refused_before_allocating():
    jpeg = JPEGS["optimized"]
    at = jpeg.index(b"\xff\xc0")
    bombs = {
        "JPEG": jpeg[: at + 5] + b"\xff\xff\xff\xff" + jpeg[at + 9 :],
        "PNG": png(b"", 65535, 65535),
        "PPM": b"P6 60000 60000 255\n",
        "TIFF": tiff(np.empty((65535, 65535), np.bool_), bits=8, body=b"12"),
        "BMP": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 65535, 65535, 1, 24, *[0] * 6),
    }
    for image_format, data in bombs.items():
        assert "pixels, more than the limit of 178956970" in reason_of(data), image_format


def test_between_warning_and_error_pillow_says_nothing(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    for image_format in ("JPEG", "PNG", "TIFF", "GIF"):
        assert decode(encoded(photo(7, 9), image_format)).pixels.shape == (7, 9, 3)
        assert "more than the limit of 80" in reason_of(encoded(photo(9, 9), image_format))


def test_the_limit_can_be_lifted(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(encoded(photo(), "PNG")).mode == "RGB"


# ---------------------------------------------------------------- what is no image

NOT_IMAGES = {
    b"": "empty file",
    bytes(3000): "only zero bytes, as an interrupted copy leaves behind",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n": (
        "a git-lfs pointer; run `git lfs pull`"
    ),
    b"\n<!DOCTYPE html><html>404</html>": "an HTML page, not an image",
    b"<HTML><BODY>gone</BODY></HTML>": "an HTML page, not an image",
    b'<?xml version="1.0"?>\n<!-- made by -->\n<svg xmlns="x"/>': (
        "an SVG drawing, which has no pixels; render it to PNG first"
    ),
    b"\0\0\0\x18ftypheic\0\0\0\0": (
        "an HEIF picture, which Pillow cannot read; convert it to JPEG or PNG first"
    ),
    b"%!PS-Adobe-3.0 EPSF-3.0\n": ("a PostScript drawing, which has no pixels; render it first"),
    b"%PDF-1.7\n": "a PDF document, not an image",
    b"PK\x03\x04....": "a zip archive, not an image",
    b"label,x,y\n1,2,3\n": "a text file, not an image that Pillow knows",
    bytes(range(128, 256)): "not an image that Pillow knows",
}


@pytest.mark.parametrize("data", NOT_IMAGES, ids=range(len(NOT_IMAGES)))
def test_what_is_no_image_is_named(data):
    assert reason_of(data, "x.jpg") == NOT_IMAGES[data]


def test_content_decides_and_a_wrong_extension_is_noted():
    data = encoded(photo(), "PNG")
    assert decode(data, "a/b.JPG").notes == ("extension says .jpg, content is PNG",)
    for name in ("a.png", "a.PNG", "a", "a.dat", "jpg", ""):
        assert decode(data, name).notes == (), name


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "GIF", "WEBP", "BMP", "AVIF", "JPEG2000"])
def test_garbage_behind_a_good_header_never_escapes(image_format):
    """Whatever a decoder raises, it becomes a DecodeError without a path or an address."""
    data = encoded(photo(16, 16), image_format)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        broken = bytearray(data)
        for at in rng.integers(4, len(data), 12):
            broken[at] = rng.integers(256)
        try:
            decode(bytes(broken[: rng.integers(8, len(data) + 1)]))
        except DecodeError as error:
            reason = str(error)
            assert reason
            assert "\n" not in reason
            assert " at 0x" not in reason


def test_errors_are_source_errors_and_unknown_colors_are_usage():
    assert issubclass(DecodeError, SourceError)
    for call in (lambda: decode(b"", "", "rgb"), lambda: from_pil(Image.new("L", (1, 1)), "BGR")):
        with pytest.raises(SourceError, match="choose 'RGB', 'gray' or 'keep'") as caught:
            call()
        assert not isinstance(caught.value, DecodeError)


# ---------------------------------------------------------------- PIL images


@pytest.mark.parametrize("colors", ["RGB", "gray", "keep"])
@pytest.mark.parametrize("mode", MODES)
def test_from_pil_follows_the_same_rules(mode, colors):
    data = encoded(MODES[mode][0], "PNG")
    with Image.open(io.BytesIO(data)) as image:
        taken = from_pil(image, colors)
    expected = decode(data, "", colors)
    assert (taken.mode, taken.notes) == (expected.mode, expected.notes)
    assert np.array_equal(expected.pixels, taken.pixels)


def test_from_pil_leaves_the_image_alone():
    image = transparent_palette()
    before = image.copy()
    from_pil(image, "RGB")
    assert image.mode == "P"
    assert image.info == before.info
    assert image.tobytes() == before.tobytes()


def test_from_pil_refuses_what_would_be_cut():
    deep, cut = png(bytes(7), 1, 1, depth=16), encoded(photo(), "PNG")[:-400]
    for data, reason in ((deep, "16-bit PNG picture"), (cut, "the PNG file is cut short")):
        with Image.open(io.BytesIO(data)) as image, pytest.raises(DecodeError, match=reason):
            from_pil(image)


# ---------------------------------------------------------------- strict and silent


def test_truncated_files_are_refused_even_when_the_process_tolerates_them(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for image_format in ("JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "SGI"):
        data = encoded(photo(40, 40), image_format)
        reason_of(data[: len(data) * 3 // 4])
    cmyk = encoded(photo(), "JPEG", "CMYK")
    reason_of(cmyk[: len(cmyk) * 3 // 4])
    # ... and the process still tolerates them outside.
    assert ImageFile.LOAD_TRUNCATED_IMAGES
    assert ImageFile.LOAD_TRUNCATED_IMAGES == True  # noqa: E712
    whole = encoded(photo(40, 40), "BMP")
    assert by_pillow(whole[: len(whole) * 3 // 4], "RGB").shape == (40, 40, 3)


def test_other_threads_keep_their_warnings_and_their_tolerance(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    seen = []

    def elsewhere():
        seen.append(bool(ImageFile.LOAD_TRUNCATED_IMAGES))
        with pytest.raises(UserWarning, match="loud"):
            warnings.warn("loud", UserWarning, stacklevel=1)
        seen.append("warned")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with STRICTLY:
            warnings.warn("silent", UserWarning, stacklevel=1)
            assert not ImageFile.LOAD_TRUNCATED_IMAGES
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        elsewhere()
    assert seen == [True, "warned", True, "warned"]


def test_the_silence_is_set_once_and_can_be_pickled():
    with warnings.catch_warnings():
        for _ in range(3):
            decode(encoded(photo(2, 2), "PNG"))
        silences = [
            entry for entry in warnings.filters if type(entry[1]).__name__ == "_InsideDecode"
        ]
        assert len(silences) == 1
        assert pickle.loads(pickle.dumps(silences[0])) == silences[0]


def test_pillow_warnings_neither_show_nor_fail():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(transparent_palette(), "PNG")).mode == "RGB"
        bad_apng = png_chunk(b"acTL", bytes(8))
        assert decode(png(bytes(4), 1, 1, extra=bad_apng)).mode == "RGB"


def test_many_threads_decode_the_same():
    files = [JPEGS["optimized"], *(encoded(photo(), f) for f in ("PNG", "TIFF", "GIF", "WEBP"))]
    expected = [decode(data).pixels for data in files]
    with ThreadPoolExecutor(8) as pool:
        for i, decoded in enumerate(pool.map(decode, files * 40)):
            assert np.array_equal(expected[i % len(files)], decoded.pixels)


def test_importing_the_module_loads_no_decoder():
    code = (
        "import sys, zeromean.sources.decode as d; "
        "print(*({'PIL', 'simplejpeg', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_versions_are_those_of_the_packages():
    for decoder, package in (("Pillow", "PIL"), ("simplejpeg", "simplejpeg")):
        assert decoder_version(decoder) == importlib.import_module(package).__version__
