"""Rasters: every dtype, layout and compression as NumPy has it; nodata, masks; cut ones refused."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.sources.raster import is_raster
from zeromean.sources.recognition import recognized
from zeromean.sources.tiff_planes import PART, WHOLE

tifffile = pytest.importorskip("tifffile")

GEOTIFF = Path(__file__).parents[2] / "shared" / "data" / "geotiff"
PRESENT = GEOTIFF.is_dir()
shared = pytest.mark.skipif(not PRESENT, reason="the rasters are not here")
FILES = sorted(path.name for path in GEOTIFF.iterdir()) if PRESENT else []

RANDOM = np.random.default_rng(11)
GEOGRAPHY = (33550, "d", 3, (30.0, 30.0, 0.0), False)  # size of a pixel


def values(dtype, shape):
    if np.dtype(dtype).kind == "f":
        return (RANDOM.standard_normal(shape) * 100).astype(dtype)
    info = np.iinfo(dtype)
    return RANDOM.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def nodata(text):
    return (42113, "s", 0, text, False)


def write(path, array, *tags, **options):
    """A GeoTIFF of (h, w, bands)."""
    options.setdefault("photometric", "minisblack")
    if array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3:
        options.setdefault("planarconfig", "contig")
    tifffile.imwrite(path, array, metadata=None, extratags=[GEOGRAPHY, *tags], **options)
    return path


def bands(array):
    return zm.measure(array[None], "n h w c -> c")


# ---------------------------------------------------------------- recognition


@shared
@pytest.mark.parametrize("name", FILES)
def test_rasters_are_recognized_by_their_tags(name):
    path = GEOTIFF / name
    assert is_raster(str(path))
    assert is_raster(path.read_bytes())
    assert recognized(str(path)) == "tiff"


def pictures():
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    yield "gray", gray
    yield "rgb", np.dstack([gray] * 3)
    yield "rgba", np.dstack([gray] * 4)
    yield "gray16", gray.astype(np.uint16)
    yield "float", gray.astype(np.float32)


@pytest.mark.parametrize(("name", "array"), list(pictures()))
def test_ordinary_pictures_are_none(name, array, tmp_path):
    """Whatever Pillow reads whole stays a picture."""
    Image.fromarray(array).save(tmp_path / "a.tif")
    assert not is_raster(str(tmp_path / "a.tif"))
    assert recognized(str(tmp_path / "a.tif")) == "images"
    assert recognized(str(tmp_path)) == "images"


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("dtype", "n_bands", "expected"),
    [
        ("uint8", 3, False),
        ("uint16", 3, True),
        ("int8", 2, True),
        ("float32", 2, True),
        ("uint8", 5, True),
        ("uint16", 40, True),
    ],
)
def test_depth_and_bands_that_pillow_cuts_make_a_raster(
    dtype, n_bands, expected, order, big, tmp_path
):
    tifffile.imwrite(
        tmp_path / "a.tif",
        values(dtype, (8, 8, n_bands)),
        planarconfig="contig",
        photometric="rgb" if n_bands == 3 else "minisblack",
        byteorder=order,
        bigtiff=big,
    )
    assert expected == is_raster(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0+" + b"\xff" * 40])
def test_what_is_too_broken_to_tell_is_left_to_its_reader(data, tmp_path):
    (tmp_path / "a.tif").write_bytes(data)
    assert not is_raster(str(tmp_path / "a.tif"))
    assert not is_raster(data)
    assert not is_raster(str(tmp_path / "none.tif"))


def test_pictures_in_tiff_need_no_tifffile(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.tif")
    code = (
        "import sys, zeromean as zm; sys.modules['tifffile'] = None\n"
        "print(zm.measure(sys.argv[1]).units.channels)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "RGB\n"


def test_a_missing_library_is_said(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", values("uint16", (8, 8, 4)))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=r"need tifffile: pip install \"zeromean\[tiff\]\""):
        zm.measure(tmp_path)


# ---------------------------------------------------------------- what is read


def truth(path):
    """The first page by tifffile, and where it holds data by its tags and masks."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        array = page.asarray()
        array = np.moveaxis(array, 0, -1) if page.axes == "SYX" else array
        array = array.reshape(*array.shape[:2], -1)
        text = page.tags.valueof(42113)
        held = np.ones(array.shape, bool)
        if text not in (None, "nan"):
            held &= array != array.dtype.type(float(text))
        for other in tiff.pages[1:]:
            other = other.aspage()
            if other.is_mask and other.shape[:2] == array.shape[:2]:
                held &= (other.asarray() != 0)[..., None]
    return array, held


@shared
@pytest.mark.parametrize("name", FILES)
def test_shared_rasters_have_the_sums_of_their_pages(name):
    """Exact sums, by rationals, of what is neither nodata, nor masked, nor NaN."""
    array, held = truth(GEOTIFF / name)
    profile = zm.measure(GEOTIFF / name)
    assert profile.dtype == array.dtype.name
    for band in range(array.shape[2]):
        column = array[..., band][held[..., band]]
        column = column[~np.isnan(column)] if array.dtype.kind == "f" else column
        n, whole = len(column), array.dtype.kind in "iu"
        total = int(column.sum(dtype=np.int64)) if whole else sum(map(Fraction, column.tolist()))
        assert profile.count[band] == n
        assert profile.mean[band] == float(Fraction(total) / n)
        assert (profile.min[band], profile.max[band]) == (column.min(), column.max())
        assert profile.nan_count[band] == array[..., band].size - n


@shared
def test_the_published_means_of_a_16_bit_scene():
    mean = zm.measure(GEOTIFF / "rgb16.tif").mean
    assert np.round(mean, 2).tolist() == [7943.68, 8945.59, 10093.38]


@shared
def test_colors_of_a_jpeg_raster_are_those_of_pillow():
    with Image.open(GEOTIFF / "goes.tif") as image:
        picture = np.asarray(image.convert("RGB"))
    array, held = truth(GEOTIFF / "goes.tif")
    assert (picture == array).all()
    profile = zm.measure(GEOTIFF / "goes.tif")
    assert profile.mean.tolist() == [float(picture[..., c][held[..., c]].mean()) for c in range(3)]
    assert profile.provenance.notes == {"mask": 1, "YCbCr": 1}


DTYPES = "uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64".split()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", ["strips", "tiles", "separate", "separate tiles", "one strip"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_in_every_layout_is_the_array(dtype, layout, order, tmp_path):
    array = values(dtype, (70, 90, 3))
    options = {"rowsperstrip": 7} if layout in ("strips", "separate") else {}
    if "tiles" in layout:
        options = {"tile": (32, 48)}
    stored = array
    if "separate" in layout:
        options["planarconfig"], stored = "separate", np.moveaxis(array, -1, 0)
    path = write(tmp_path / "a.tif", stored, byteorder=order, **options)
    profile = zm.measure(path)
    assert bands(array) == profile
    assert profile.provenance.items == 1


@pytest.mark.parametrize("layout", ["rows", "tiles"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("method", ["deflate", "lzw", "zstd", "packbits", "lzma"])
def test_lossless_compression_changes_nothing(method, predictor, layout, tmp_path):
    pytest.importorskip("imagecodecs")
    for dtype in ("uint16", "float32"):
        array = values(dtype, (50, 60, 2))
        shape = {"tile": (16, 32)} if layout == "tiles" else {"rowsperstrip": 9}
        options = {"compression": method, "predictor": predictor, **shape}
        path = write(tmp_path / "a.tif", array, **options)
        assert bands(array) == zm.measure(path)


def test_big_tiff_and_one_bit_and_twelve_bits(tmp_path):
    array = values("uint16", (40, 30, 4))
    assert bands(array) == zm.measure(write(tmp_path / "big.tif", array, bigtiff=True))
    bits = RANDOM.integers(0, 2, (33, 21)).astype(bool)
    profile = zm.measure(write(tmp_path / "bits.tif", bits))
    assert bands(bits[..., None]) == profile
    assert profile.dtype == "bool"
    pytest.importorskip("imagecodecs")
    twelve = RANDOM.integers(0, 4096, (20, 32)).astype(np.uint16)
    path = write(tmp_path / "12.tif", twelve, bitspersample=12)
    assert bands(twelve[..., None]) == zm.measure(path)


def test_an_image_that_is_cut_gives_the_same_as_in_one_piece(tmp_path):
    """Larger than is held: by rows, by tiles in both directions, band by band."""
    array = values("int16", (1500, 2600, 5))
    assert array.nbytes > WHOLE > 2 * PART
    expected = bands(array).statistics
    assert expected == zm.measure(write(tmp_path / "rows.tif", array)).statistics
    path = write(tmp_path / "tiles.tif", array, tile=(256, 256), compression="deflate")
    profile = zm.measure(path)
    assert expected == profile.statistics
    assert profile.provenance.items == 1
    parts = np.moveaxis(array, -1, 0)
    options = {"planarconfig": "separate", "tile": (512, 2608)}
    assert expected == zm.measure(write(tmp_path / "separate.tif", parts, **options)).statistics
    floats = array.astype("float32")[..., :3]
    assert floats.nbytes > WHOLE
    assert bands(floats) == zm.measure(write(tmp_path / "floats.tif", floats))


def test_an_image_is_not_cut_where_the_pattern_keeps_its_axes(tmp_path):
    array = values("uint8", (3000, 6000, 2))
    path = write(tmp_path / "a.tif", array, tile=(512, 512))
    for pattern in ("n h w c -> w", "n h w c -> h"):
        assert zm.measure(array[None], pattern) == zm.measure(path, pattern)


# ---------------------------------------------------------------- no data


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("uint8", "255", 255),
        ("int16", "-9999", -9999),
        ("int16", "-9999.0", -9999),
        ("uint16", "0", 0),
        ("uint64", str(2**64 - 1), 2**64 - 1),
        ("int64", str(-(2**63)), -(2**63)),
        ("float32", "-9999", -9999),
        ("float32", "-3.4e+38", np.float32(-3.4e38)),
        ("float32", "-3.4028234663852886e+38", np.finfo("float32").min),
        ("float32", "-3.40282346639e+38", np.finfo("float32").min),
        ("float32", "0.1", np.float32(0.1)),
        ("float64", "1e-300", 1e-300),
        ("float32", "inf", np.inf),
    ],
)
def test_nodata_is_left_out_and_counted(dtype, text, value, tmp_path):
    """Decimals are compared in the dtype of the raster, as GDAL does."""
    array = RANDOM.integers(1, 100, (20, 30, 2)).astype(dtype)
    array[3:7, :, 0] = value
    array[0, 0, 1] = value
    profile = zm.measure(write(tmp_path / "a.tif", array, nodata(text)))
    assert profile.count.tolist() == [600 - 120, 599]
    assert profile.nan_count.tolist() == [120, 1]
    assert profile.provenance.notes == {f"nodata {text}": 1}
    for band in range(2):
        column = array[..., band][array[..., band] != np.dtype(dtype).type(value)]
        numbers = [Fraction(v) for v in column.tolist()]
        assert profile.mean[band] == float(sum(numbers) / len(numbers))
        assert profile.max[band] == column.max()


@pytest.mark.parametrize(
    ("dtype", "text", "note"),
    [
        ("uint8", "-9999", "nodata -9999 is beyond uint8"),
        ("uint8", "nan", "nodata nan is beyond uint8"),
        ("int16", "0.5", "nodata 0.5 is beyond int16"),
        ("float32", "-1.79769e+308", "nodata -1.79769e+308 is beyond float32"),
        ("float32", "nan", "nodata nan"),
        ("int16", "none", "nodata 'none' is no number"),
    ],
)
def test_nodata_that_the_dtype_does_not_have_stands_for_nothing(dtype, text, note, tmp_path):
    array = RANDOM.integers(0, 100, (20, 30, 1)).astype(dtype)
    profile = zm.measure(write(tmp_path / "a.tif", array, nodata(text)))
    assert bands(array) == profile
    assert profile.provenance.notes == {note: 1}


def test_a_mask_page_leaves_pixels_out_of_all_bands(tmp_path):
    """Beside nodata: whatever either says is missing."""
    array = RANDOM.integers(1, 9, (64, 80, 3)).astype(np.uint16)
    array[0, :5, 0] = 0
    mask = RANDOM.integers(0, 2, (64, 80)).astype(bool)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        options = {"metadata": None, "tile": (32, 32)}
        tiff.write(
            array, photometric="minisblack", planarconfig="contig",
            extratags=[GEOGRAPHY, nodata("0")], **options,
        )  # fmt: skip
        tiff.write(mask, photometric="mask", subfiletype=4, **options)
        tiff.write(array[::2, ::2] * 0, subfiletype=1, photometric="minisblack",
                   planarconfig="contig", **options)  # fmt: skip
        tiff.write(mask[::2, ::2], photometric="mask", subfiletype=5, **options)
    profile = zm.measure(tmp_path / "a.tif")
    held = mask[..., None] & (array != 0)
    assert profile.count.tolist() == held.sum(axis=(0, 1)).tolist()
    sums = np.where(held, array, 0).sum(axis=(0, 1))
    assert profile.mean.tolist() == (sums / profile.count).tolist()
    assert profile.provenance.notes == {"mask": 1, "nodata 0": 1}
    assert profile.provenance.items == 1


@pytest.mark.parametrize("text", ["", "7"])
def test_tiles_that_the_file_leaves_out_are_nodata_or_zero(text, tmp_path):
    tile = np.full((32, 32), 3, np.uint16)
    tags = [GEOGRAPHY, nodata(text)] if text else [GEOGRAPHY]
    tifffile.imwrite(
        tmp_path / "a.tif", iter([tile, None, None, tile]), shape=(64, 64), dtype="uint16",
        tile=(32, 32), metadata=None, extratags=tags, photometric="minisblack",
        compression="deflate",
    )  # fmt: skip
    profile = zm.measure(tmp_path / "a.tif")
    assert profile.count.item() == (2048 if text else 4096)
    assert profile.mean.item() == (3 if text else 1.5)


def test_a_masked_image_that_is_cut_gives_the_same_as_in_one_piece(tmp_path):
    array = RANDOM.integers(0, 50, (2000, 3000, 3)).astype(np.uint16)
    assert array.nbytes > WHOLE
    path = write(tmp_path / "a.tif", array, nodata("0"), tile=(256, 256))
    profile = zm.measure(path)
    assert profile.count.tolist() == (array != 0).sum(axis=(0, 1)).tolist()
    assert profile.mean.tolist() == (array.sum(axis=(0, 1)) / profile.count).tolist()


def test_what_is_not_applied_is_noted(tmp_path):
    xml = (
        '<GDALMetadata><Item name="OFFSET" sample="0" role="offset">-5</Item>'
        '<Item name="SCALE" sample="0" role="scale">0.1</Item></GDALMetadata>'
    )
    array = values("int16", (8, 9, 2))
    path = write(
        tmp_path / "a.tif", array, (42112, "s", 0, xml, False), (274, "H", 1, 3, False),
        extrasamples=["unassalpha"],
    )  # fmt: skip
    profile = zm.measure(path)
    assert bands(array) == profile
    assert profile.provenance.notes == {
        "TIFF orientation not applied": 1,
        "alpha kept as a band": 1,
        "scale 0.1 offset -5 not applied": 1,
    }


# ---------------------------------------------------------------- pages


def test_every_page_of_full_resolution_is_a_sample(tmp_path):
    pages = values("uint16", (6, 20, 30))
    tifffile.imwrite(tmp_path / "a.tif", pages, metadata=None, photometric="minisblack")
    profile = zm.measure(tmp_path / "a.tif", format="tiff")
    assert zm.measure(pages[..., None], "n h w c -> c") == profile
    assert profile.provenance.items == 6


@pytest.mark.parametrize("kind", ["imagej", "ome", "imagej in one page"])
def test_channels_of_a_microscope_are_the_bands_of_one_image(kind, tmp_path):
    """Times and slices are samples, channels are not, wherever their pages lie."""
    stack = values("uint16", (2, 3, 4, 20, 30))  # T Z C Y X
    options = {"ome": True} if kind == "ome" else {"imagej": True}
    if kind == "imagej in one page":
        options["truncate"] = True
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    tifffile.imwrite(path, stack, metadata={"axes": "TZCYX"}, **options)
    profile = zm.measure(path, format="tiff")
    images = np.moveaxis(stack, 2, -1).reshape(6, 20, 30, 4)
    assert zm.measure(images, "n h w c -> c") == profile
    assert profile.provenance.items == 6


def test_channels_that_lie_in_several_files_are_noted(tmp_path):
    """Of a set of OME files each has some of the planes; which are its channels is not asked."""
    stack = values("uint16", (2, 3, 20, 30))
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, metadata={"axes": "CZYX"}, ome=True)
    with tifffile.TiffFile(path) as tiff:
        text = tiff.ome_metadata
    with tifffile.TiffWriter(path) as tiff:
        for i, plane in enumerate(stack.reshape(6, 20, 30)[:4]):
            description = text if i == 0 else None
            tiff.write(plane, description=description, metadata=None, photometric="minisblack")
    profile = zm.measure(path, format="tiff")
    assert zm.measure(stack.reshape(6, 20, 30)[:4, ..., None], "n h w c -> c") == profile
    assert profile.provenance.notes == {"channels are not told apart": 1}


def test_images_that_are_said_to_follow_a_compressed_page_are_not_made_up(tmp_path):
    text = "ImageJ=1.11a\nimages=3\nslices=3\n"
    path = write(tmp_path / "a.tif", values("uint8", (8, 8, 1)), compression="deflate",
                 description=text)  # fmt: skip
    with pytest.raises(zm.SourceError, match="images follow its only page"):
        zm.measure(path)


def test_pages_of_different_kinds_are_refused_by_name(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(values("uint16", (8, 8)), metadata=None)
        tiff.write(values("float32", (8, 8)), metadata=None)
    with pytest.raises(zm.SourceError, match="different kinds: 1-band uint16, 1-band float32"):
        zm.measure(tmp_path / "a.tif", format="tiff")


def test_rasters_of_different_kinds_are_never_mixed(tmp_path):
    array = values("uint16", (8, 8, 4))
    write(tmp_path / "a.tif", array)
    write(tmp_path / "b.tif", array[..., :2])
    with pytest.raises(zm.SourceError, match=r"2-band uint16: such as b\.tif") as caught:
        zm.measure(tmp_path)
    assert "--group '2-band uint16'" in str(caught.value)
    for group in ("4-band uint16", "4-band"):
        with pytest.warns(zm.SkippedWarning, match="not the chosen group"):
            assert bands(array) == zm.measure(tmp_path, group=group)


# ---------------------------------------------------------------- broken files


def sound():
    array = values("uint16", (64, 64, 4))
    file = io.BytesIO()
    write(file, array, rowsperstrip=8, compression="deflate")
    return file.getvalue(), array


def check_skipped(folder, said):
    """One file of two is broken: it is named, and leaves no trace."""
    data, array = sound()
    (folder / "good.tif").write_bytes(data)
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(folder, format="tiff")
    assert bands(array) == profile
    ((name, reason),) = profile.provenance.skipped
    assert name == "bad.tif"
    assert said in reason
    assert "\n" not in reason
    with pytest.raises(zm.SourceError, match=r"bad\.tif"):
        zm.measure(folder, strict=True, format="tiff")
    with pytest.raises(zm.SourceError, match=r"bad\.tif"):
        zm.measure(folder / "bad.tif", format="tiff")


@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_cut_raster_is_skipped_with_a_reason(part, tmp_path):
    data, _ = sound()
    (tmp_path / "bad.tif").write_bytes(data[: int(len(data) * part)])
    check_skipped(tmp_path, "cut short")


def test_a_cut_raster_without_compression_is_skipped_with_a_reason(tmp_path):
    path = write(tmp_path / "bad.tif", values("float32", (64, 64, 2)))
    path.write_bytes(path.read_bytes()[:-100])
    check_skipped(tmp_path, "the TIFF file is cut short")


@pytest.mark.parametrize("big", [False, True])
def test_pages_that_are_cut_off_or_go_round_are_noticed(big, tmp_path):
    """tifffile reads a stack up to the page that is missing, and says nothing."""
    pages = values("uint16", (5, 16, 16))
    path = tmp_path / "bad.tif"
    with tifffile.TiffWriter(path, bigtiff=big) as tiff:
        for page in pages:
            tiff.write(page, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages[4].offset
        first = tiff.pages[0].offset
        nexts = tiff.pages[3].offset + (8 + 20 * len(tiff.pages[3].tags) if big else
                                        2 + 12 * len(tiff.pages[3].tags))  # fmt: skip
    data = path.read_bytes()
    path.write_bytes(data[:last])
    check_skipped(tmp_path, "the TIFF file is cut short")
    width = 8 if big else 4
    back = first.to_bytes(width, "little")
    path.write_bytes(data[:nexts] + back + data[nexts + width :])
    check_skipped(tmp_path, "its pages go round in a circle")


def test_a_cut_jpeg_tile_is_noticed(tmp_path):
    """The JPEG decoder itself fills such a tile with gray, and says nothing."""
    pytest.importorskip("imagecodecs")
    array = RANDOM.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    path = write(tmp_path / "bad.tif", array, photometric="rgb", tile=(64, 64), compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        begin, size = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[begin + size // 2 : begin + size] = bytes(size - size // 2)
    path.write_bytes(data)
    check_skipped(tmp_path, "a JPEG tile in it is cut short")


@pytest.mark.parametrize("what", ["deflate", "zstd", "lzw"])
def test_a_damaged_strip_is_skipped_with_a_reason(what, tmp_path):
    pytest.importorskip("imagecodecs")
    path = write(tmp_path / "bad.tif", values("uint16", (64, 64, 2)), compression=what)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        begin = tiff.pages[0].dataoffsets[0]
    data[begin : begin + 3000] = bytes(3000)
    path.write_bytes(data)
    check_skipped(tmp_path, "damaged TIFF file: ")


def test_what_cannot_be_measured_is_said(tmp_path):
    refused = {
        "complex": values("float32", (8, 8)) + 1j,
        "volume": values("uint8", (4, 16, 16)),
    }
    tifffile.imwrite(tmp_path / "complex.tif", refused["complex"].astype("complex64"))
    tifffile.imwrite(
        tmp_path / "volume.tif", refused["volume"], volumetric=True, metadata=None,
        tile=(4, 16, 16), photometric="minisblack", planarconfig="contig",
    )  # fmt: skip
    with tifffile.TiffWriter(tmp_path / "small.tif") as tiff:
        tiff.write(values("uint8", (8, 8)), subfiletype=1)
    (tmp_path / "text.tif").write_bytes(b"not a raster" * 9)
    (tmp_path / "empty.tif").write_bytes(b"")
    write(tmp_path / "good.tif", values("uint8", (8, 8, 2)))
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(tmp_path, format="tiff")
    reasons = dict(profile.provenance.skipped)
    assert reasons["complex.tif"] == "holds complex64 values; measure their parts as arrays"
    assert reasons["volume.tif"] == "is a volume in a single page; save its slices as pages"
    assert reasons["small.tif"] == "holds no image of full resolution"
    assert reasons["text.tif"] == "not a TIFF file"
    assert reasons["empty.tif"] == "empty file"
    assert profile.provenance.items == 1


def test_a_strip_that_is_too_large_to_be_decoded_is_refused_before_it_is(tmp_path):
    path = tmp_path / "a.tif"
    write(path, np.zeros((300, 1 << 19), np.uint8)[..., None], compression="deflate",
          rowsperstrip=300)  # fmt: skip
    with pytest.raises(zm.SourceError, match="has a strip or tile of 150 MB, too large"):
        zm.measure(path)


def test_rasters_in_a_remote_store_give_the_same(tmp_path):
    """One by one, and as a folder; libraries are given an open file there, not a path."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    write(tmp_path / "a.tif", values("uint16", (50, 60, 4)), nodata("7"))
    write(tmp_path / "b.tif", values("uint16", (50, 60, 4)), tile=(16, 16), compression="deflate")
    for path in sorted(tmp_path.iterdir()):
        store.pipe(f"/rasters/{path.name}", path.read_bytes())
        assert zm.measure(path) == zm.measure(f"memory://rasters/{path.name}"), path.name
    assert zm.measure(tmp_path) == zm.measure("memory://rasters")


# ---------------------------------------------------------------- workers and memory


def test_rasters_are_the_same_in_threads_and_processes(tmp_path):
    for i in range(6):
        write(tmp_path / f"{i}.tif", values("uint16", (90, 90, 4)), nodata("0"))
    alone = zm.measure(tmp_path, workers=1)
    assert alone == zm.measure(tmp_path, workers=4)
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert alone == zm.measure(tmp_path, executor=pool)


def test_what_a_worker_gets_can_be_pickled(tmp_path):
    from zeromean.sources.opening import Options, open_source

    array = values("uint16", (9, 9, 4))
    write(tmp_path / "a.tif", array, nodata(str(array[0, 0, 0])))
    (source,) = open_source(str(tmp_path), None, Options())
    (shard,) = pickle.loads(pickle.dumps(list(source.shards())))
    (item,) = shard.items()
    assert (item.array == array).all()
    assert (item.missing == (array == array[0, 0, 0])).all()


_CHILD = """
import sys, zeromean as zm
zm.measure(sys.argv[1])
def peak():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = peak()
profile = zm.measure(sys.argv[2], workers=2)
print(peak() - before, profile.count[0], profile.max[0])
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("layout", ["strip", "tiles"])
def test_a_raster_of_a_gigabyte_takes_little_memory(layout, tmp_path):
    small = write(tmp_path / "small.tif", values("uint16", (64, 64, 4)), nodata("9"))
    tile = np.zeros((512, 512, 4), np.uint16)
    tile[5, 5] = 1234
    path, shape = tmp_path / "large.tif", (8192, 16384, 4)
    options = {"shape": shape, "dtype": "uint16", "planarconfig": "contig", "metadata": None}
    if layout == "tiles":
        tiles = (tile for _ in range(16 * 32))
        tifffile.imwrite(path, tiles, tile=(512, 512), compression="deflate", photometric="rgb",
                         extratags=[GEOGRAPHY, nodata("1")], **options)  # fmt: skip
    else:
        tifffile.imwrite(path, photometric="rgb", extratags=[GEOGRAPHY, nodata("1")], **options)
        with tifffile.TiffFile(path) as tiff:
            begin = tiff.pages[0].dataoffsets[0]
        with path.open("r+b") as file:
            file.seek(begin + (1 << 30) - 8)
            file.write(np.full(4, 1234, "<u2").tobytes())
    command = [sys.executable, "-c", _CHILD, str(small), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, count, top = done.stdout.split()
    assert (int(count), int(top)) == (1 << 27, 1234)
    assert int(grown) < 250_000  # kB
