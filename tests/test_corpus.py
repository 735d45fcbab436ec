"""The corpus of odd and broken files: what is sound decodes, what is broken is named."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zeromean.sources.decode import DecodeError, decode

CORPUS = Path(__file__).parents[2] / "shared" / "data" / "corpus"
PRESENT = (CORPUS / "MANIFEST.csv").is_file()
pytestmark = pytest.mark.skipif(not PRESENT, reason="the corpus is not beside the repository")


def manifest():
    if not PRESENT:
        return {}
    with (CORPUS / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file) if row["got_pil"]}


ROWS = manifest()
UNDETECTABLE = {"made/jpeg_bitflip.jpg"}  # every decoder reads it without a sign
MISSED = {"bmpsuite/badrle.bmp"}  # Pillow's RLE decoder forgives it

# What the policies of the manifest come to. RGB and keep: kind of the pixels, or why there
# are none ("!" and a part of the reason); None where the file's own mode decides.
DEEP = "!which Pillow cuts to 8 bits"
KEEP = "!--colors keep"
SETTLED = {
    "pillow/12bit.cropped.tif": (KEEP, "I;16 uint16"),
    "pillow/16bit.MM.cropped.tif": (KEEP, "I;16 uint16"),
    "pillow/16_bit_noise.tif": (KEEP, "I;16 uint16"),
    "pillow/16_bit_binary.pgm": (KEEP, "I int32"),
    "pillow/tiff_16bit_RGB.tiff": (DEEP, DEEP),
    "pillow/tiff_16bit_RGBa.tiff": (DEEP, DEEP),
    "pillow/tiff_strip_planar_16bit_RGB.tiff": (DEEP, DEEP),
    "pillow/10ct_32bit_128.tiff": (KEEP, "F float32"),
    "pillow/hopper.pfm": (KEEP, "F float32"),
    "pillow/hopper.Lab.tif": (KEEP, "LAB uint8"),
    "pillow/lab.tif": (KEEP, "LAB uint8"),
    "pillow/hopper_g4.tif": ("RGB uint8", "1 bool"),
    "pillow/1_trns.png": ("RGB uint8", "1 bool"),
    "pillow/tiff_strip_cmyk_jpeg.tif": ("RGB uint8", "CMYK uint8"),
    "pillow/hopper.fits": ("!a FITS file", "!a FITS file"),
    "pillow/truncated_end_chunk.png": ("!end chunk is missing", "!end chunk is missing"),
    "pillow/unknown_compression_method.png": ("!wrong checksum", "!wrong checksum"),
    "pillow/png_decompression_dos.png": ("!damaged PNG file", "!damaged PNG file"),
    "bmpsuite/badpalettesize.bmp": ("!damaged BMP file", "!damaged BMP file"),
    "libjpeg-turbo/monkey12.jpg": ("!a 12-bit JPEG", "!a 12-bit JPEG"),
    "libjpeg-turbo/monkey16.png": (DEEP, DEEP),
    "rasterio/float_raster_with_nodata.tif": (KEEP, "F float32"),
    "made/cmyk.jpg": ("RGB uint8", "CMYK uint8"),
    "made/gray16.png": (KEEP, "I;16 uint16"),
    "made/la.png": ("RGB uint8", "LA uint8"),
    "made/rgba_all_transparent.png": ("RGB uint8", "RGBA uint8"),
}


def expected(name):
    """What must come of a file under RGB and under keep."""
    expect = ROWS[name]["expect"]
    if name in SETTLED:
        return SETTLED[name]
    if name in UNDETECTABLE:
        return "RGB uint8", None
    if expect == "BOMB" or expect.startswith("REJECT"):
        return "!", "!"
    if name.startswith("pngsuite/") and expect == "POLICY:16-bit":
        return (KEEP, "I;16 uint16") if "0g16" in name else (DEEP, DEEP)
    return "RGB uint8", None


def outcome(name, colors):
    try:
        decoded = decode((CORPUS / name).read_bytes(), name, colors)
    except DecodeError as error:
        reason = str(error)
        return f"!{reason}" if reason and "/" not in reason else f"a bad reason: {reason}"
    assert decoded.pixels.ndim == 3
    assert decoded.pixels.flags.c_contiguous
    return f"{decoded.mode} {decoded.pixels.dtype}"


MISS = pytest.mark.xfail(strict=True, reason="a known miss")
CASES = [pytest.param(name, marks=MISS if name in MISSED else ()) for name in ROWS]


@pytest.mark.parametrize("name", CASES)
def test_outcome_is_the_one_of_the_manifest(name):
    for colors, wanted in zip(("RGB", "keep"), expected(name), strict=True):
        found = outcome(name, colors)
        if wanted is None:
            assert not found.startswith("!"), found
        elif wanted.startswith("!"):
            assert found.startswith("!"), found
            assert wanted[1:] in found
        else:
            assert wanted == found


def test_nothing_of_the_manifest_is_left_unsettled():
    """Every expectation is one that `expected` knows; a new word would pass for OK."""
    words = {row["expect"].partition(":")[0].split()[0] for row in ROWS.values()}
    assert words == {"OK", "REJECT", "BOMB", "POLICY"}
    assert set(SETTLED) | UNDETECTABLE | MISSED <= set(ROWS)


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("pngsuite/")])
def test_pngsuite_pixels_are_the_published_ones(name):
    truth = CORPUS / "pngsuite_truth" / (Path(name).stem + ".json")
    if not truth.exists():
        pytest.skip("no pixels are published for it")
    wanted = expected(name)
    if wanted[1] and wanted[1].startswith("!"):
        assert outcome(name, "keep").startswith("!")
        return
    data = (CORPUS / name).read_bytes()
    kept = decode(data, name, "keep").pixels
    rgba = np.array(json.loads(truth.read_text())).reshape(*kept.shape[:2], 4)
    if kept.dtype == np.uint16:
        assert np.array_equal(rgba[..., :1], kept)
        return
    assert np.array_equal(rgba[..., :3], decode(data, name).pixels)
    if kept.shape[2] == 4:
        assert np.array_equal(rgba, kept)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux counts it")
def test_broken_files_and_bombs_stay_in_bounded_memory():
    """Peak of a process that decodes all of them; the bombs alone claim terabytes.

    Read from VmHWM: ``ru_maxrss`` starts at the peak of the process that forked this one.
    """
    code = """
import sys
from pathlib import Path
from zeromean.sources.decode import DecodeError, decode
refused = 0
for name in sys.stdin.read().split("\\n"):
    try:
        decode(Path(name).read_bytes(), name)
    except DecodeError:
        refused += 1
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(refused, int(peak) // 1024)
"""
    bad = [name for name in ROWS if expected(name)[0] == "!" or "dos" in name]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(str(CORPUS / name) for name in bad),
        capture_output=True,
        text=True,
        check=True,
    )
    refused, peak_mb = map(int, done.stdout.split())
    assert refused == len(bad) - len(MISSED)
    assert peak_mb < 300
