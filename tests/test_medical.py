"""DICOM and NIfTI: the values that their own libraries give, exact; nothing about a patient."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import zeromean as zm
from zeromean.sources.recognition import recognized

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate, generate_frames  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

SHARED = Path(__file__).parents[2] / "shared" / "data"
PRESENT = (SHARED / "dicom").is_dir()
shared = pytest.mark.skipif(not PRESENT, reason="the images are not here")
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"

RANDOM = np.random.default_rng(5)
SECRET = "Doe^Jane"


def bundled(name):
    """A file that comes with pydicom."""
    path = BUNDLED / name
    if not path.is_file():
        pytest.skip(f"pydicom brings no {name}")
    return path


def check_sums(profile, values, held=None):
    """Count, mean and extrema of each channel, by rationals."""
    for c in range(values.shape[-1]):
        column = values[..., c] if held is None else values[..., c][held[..., c]]
        column = column.ravel()
        if column.dtype.kind == "f":
            total = sum(map(Fraction, column.tolist()), Fraction())
        else:
            total = Fraction(int(column.sum(dtype=np.int64)))
        assert profile.count[c] == len(column)
        assert profile.mean[c] == float(total / len(column))
        assert (profile.min[c], profile.max[c]) == (column.min(), column.max())


# ================================================================ DICOM


def dicom(array, syntax=ExplicitVRLittleEndian, **elements):
    """A data set with the pixels of an array: (h, w), (n, h, w) or, with samples=3, colors."""
    data = Dataset()
    data.file_meta, data.preamble = FileMetaDataset(), b"\0" * 128
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.PatientName, data.PatientID = SECRET, "S3CR3T"
    samples = elements.pop("samples", 1)
    frames = array.ndim - 2 - (samples > 1)
    rows, columns = array.shape[frames : frames + 2]
    data.Rows, data.Columns, data.SamplesPerPixel = rows, columns, samples
    if frames:
        data.NumberOfFrames = len(array)
    bits = 8 * array.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(array.dtype.kind == "i")
    data.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples > 1:
        data.PlanarConfiguration = 0
    for name, value in elements.items():
        setattr(data, name, value)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    stored = array.astype(array.dtype.newbyteorder(order)).tobytes()
    data.PixelData = stored + b"\0" * (len(stored) % 2)
    data["PixelData"].VR = "OW" if bits > 8 else "OB"
    return data


def save(path, data, **options):
    options.setdefault("enforce_file_format", True)
    data.save_as(path, **options)
    return path


def image(dtype="int16", shape=(20, 30), low=None, high=None):
    info = np.iinfo(dtype)
    low, high = info.min if low is None else low, info.max if high is None else high
    return RANDOM.integers(low, high, shape, dtype=np.int64, endpoint=True).astype(dtype)


def channels(array):
    """An array of frames as `measure` takes it."""
    return zm.measure(array.reshape(-1, *array.shape[-2:], 1), "n h w c -> c")


def by_pydicom(path):
    """Values as pydicom's own functions make them, (n, h, w, channels); and the header."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    header = pydicom.dcmread(path)
    values = header.pixel_array
    samples = header.SamplesPerPixel
    if header.PhotometricInterpretation == "PALETTE COLOR":
        values, samples = apply_color_lut(values, header), 3
    elif samples == 1:
        values = apply_modality_lut(values, header)
    if "DoseGridScaling" in header:
        values = values * float(header.DoseGridScaling)
    return values.reshape(-1, header.Rows, header.Columns, samples), header


SOUND = (
    "693_J2KI CT_small ExplVR_BigEnd JPEG2000 MR_small MR_small_RLE MR_small_bigendian "
    "SC_rgb_rle_16bit examples_overlay examples_palette examples_rgb_color liver_1frame rtdose"
).split()


@shared
@pytest.mark.parametrize("name", SOUND)
def test_shared_images_have_the_values_that_pydicom_gives(name):
    path = SHARED / "dicom" / f"{name}.dcm"
    profile = zm.measure(path)
    values, header = by_pydicom(path)
    held = None
    if (padding := header.get("PixelPaddingValue")) is not None:
        held = (header.pixel_array != padding).reshape(values.shape)
    check_sums(profile, values, held)
    assert profile.provenance.items == len(values)


BUNDLED_SOUND = (
    "J2K_pixelrep_mismatch MR_small_expb MR_small_implicit MR_small_jp2klossless MR_small_padded "
    "SC_rgb_dcmtk_+eb+cr SC_rgb_dcmtk_+eb+cy+np SC_rgb_dcmtk_+eb+cy+s4 SC_rgb_gdcm_KY SC_rgb_jpeg "
    "SC_rgb_jpeg_dcmd SC_rgb_rle_16bit_2frame SC_rgb_rle_32bit SC_rgb_small_odd "
    "SC_rgb_small_odd_big_endian SC_ybr_full_422_uncompressed examples_jpeg2k examples_ybr_color "
    "image_dfl liver_expb_1frame rtdose_expb rtdose_rle"
).split()


@pytest.mark.parametrize("name", BUNDLED_SOUND)
def test_bundled_images_have_the_values_that_pydicom_gives(name):
    path = bundled(f"{name}.dcm")
    profile = zm.measure(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, about its own files
        values = by_pydicom(path)[0]
    check_sums(profile, values)
    assert profile.provenance.items == len(values)


@shared
def test_one_image_in_three_encodings_is_one_profile():
    folder = SHARED / "dicom"
    plain, packed, swapped = (
        zm.measure(folder / f"MR_small{end}.dcm") for end in ("", "_RLE", "_bigendian")
    )
    assert plain == packed == swapped
    assert plain.dtype == "int16"


@shared
def test_hounsfield_units_are_exact_integers():
    stored = pydicom.dcmread(SHARED / "dicom" / "CT_small.dcm").pixel_array
    profile = zm.measure(SHARED / "dicom" / "CT_small.dcm")
    assert channels(stored.astype("int32") - 1024) == profile
    assert profile.provenance.notes == {
        "pixel padding -2000": 1,
        "rescale slope 1 intercept -1024 applied": 1,
    }


SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("dtype", "uint8 int8 uint16 int16 uint32 int32".split())
def test_every_format_of_pixels_is_the_array(dtype, syntax, tmp_path):
    for shape in ((20, 30), (3, 7, 7)):
        array = image(dtype, shape)
        assert channels(array) == zm.measure(save(tmp_path / "a.dcm", dicom(array, syntax)))


def test_bits_that_are_not_stored_are_cut_off(tmp_path):
    """12 bits of 16, signed and not, with an overlay in the upper four."""
    for dtype, low, high in (("uint16", 0, 4095), ("int16", -2048, 2047)):
        array = image(dtype, low=low, high=high)
        dirty = (array.view("uint16") & 0x0FFF) | (image("uint16") & 0xF000)
        elements = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(low < 0)}
        profile = zm.measure(save(tmp_path / "a.dcm", dicom(dirty, **elements)))
        assert channels(array) == profile
        assert profile.provenance.notes == {"12 of 16 bits stored": 1}


def test_monochrome1_is_not_inverted_but_noted(tmp_path):
    array = image("uint16")
    data = dicom(array, PhotometricInterpretation="MONOCHROME1")
    profile = zm.measure(save(tmp_path / "a.dcm", data))
    assert channels(array) == profile
    assert profile.provenance.notes == {"MONOCHROME1 not inverted": 1}


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "expected"),
    [
        ("int16", "1", "-1024", "int32"),
        ("uint16", "1.0000", "0", "int32"),
        ("uint16", "2.5e1", "-7", "int32"),
        ("uint16", "100000", "0", "int64"),
        ("int32", "1", "1", "int64"),
        ("int16", "0.3", "-1024", "float64"),
        ("uint8", "1", "0.5", "float64"),
    ],
)
def test_rescaled_values_are_integers_where_slope_and_intercept_are(
    dtype, slope, intercept, expected, tmp_path
):
    array = image(dtype)
    data = dicom(array, RescaleSlope=slope, RescaleIntercept=intercept)
    profile = zm.measure(save(tmp_path / "a.dcm", data))
    assert profile.dtype == expected
    if expected == "float64":
        assert channels(array * float(slope) + float(intercept)) == profile
        return
    exact = [int(v) * int(float(slope)) + int(intercept) for v in array.ravel().tolist()]
    assert profile.mean.item() == float(Fraction(sum(exact), len(exact)))
    assert profile.var().item() == float(
        Fraction(sum(v * v for v in exact), len(exact)) - Fraction(sum(exact), len(exact)) ** 2
    )
    assert (profile.min.item(), profile.max.item()) == (min(exact), max(exact))


def functional_groups(lines):
    groups = []
    for slope, intercept in lines:
        line = Dataset()
        line.RescaleSlope, line.RescaleIntercept, line.RescaleType = slope, intercept, "US"
        group = Dataset()
        group.PixelValueTransformationSequence = Sequence([line])
        groups.append(group)
    return Sequence(groups)


def test_each_frame_of_an_enhanced_image_has_its_own_line(tmp_path):
    array = image("uint16", (3, 8, 9))
    lines = [("1", "-5"), ("2", "0"), ("3", "7")]
    data = dicom(array, PerFrameFunctionalGroupsSequence=functional_groups(lines))
    profile = zm.measure(save(tmp_path / "a.dcm", data))
    slopes, offsets = np.array([[int(a), int(b)] for a, b in lines]).T[..., None, None]
    assert channels((array.astype("int32") * slopes + offsets).astype("int32")) == profile
    assert profile.provenance.items == 3
    assert profile.provenance.notes == {"rescale slope and intercept applied": 1}
    data = dicom(array, SharedFunctionalGroupsSequence=functional_groups(lines[:1]))
    assert channels(array.astype("int32") - 5) == zm.measure(save(tmp_path / "a.dcm", data))
    data = dicom(array, PerFrameFunctionalGroupsSequence=functional_groups(lines[:2]))
    with pytest.raises(zm.SourceError, match="how to rescale 2 of its 3 frames"):
        zm.measure(save(tmp_path / "a.dcm", data))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("form", ["US", "OW"])
def test_a_modality_table_is_looked_up_and_ends_are_kept(form, syntax, tmp_path):
    array = image("uint16", low=0, high=300)
    table = image("uint16", (200,))
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [200, 50, 16])
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    values = table.tolist() if form == "US" else table.astype(f"{order}u2").tobytes()
    item.add_new("LUTData", form, values)
    item.ModalityLUTType = "HU"
    data = dicom(array, syntax, ModalityLUTSequence=Sequence([item]))
    profile = zm.measure(save(tmp_path / "a.dcm", data))
    expected = table[np.clip(array.astype(int) - 50, 0, 199)].astype("int32")
    assert channels(expected) == profile
    assert profile.provenance.notes == {"modality look-up table applied": 1}


@pytest.mark.parametrize(
    ("dtype", "value", "limit", "low", "high"),
    [
        ("int16", -2000, None, -2000, -2000),
        ("uint16", 0, None, 0, 0),
        ("int16", -2000, -1990, -2000, -1990),
        ("uint16", 60, 50, 50, 60),
    ],
)
def test_padding_is_left_out_and_counted(dtype, value, limit, low, high, tmp_path):
    """It is compared with what is stored, before it is rescaled."""
    array = image(dtype, low=low - 20, high=high + 20) if low else image(dtype, high=9)
    form = "SS" if dtype == "int16" else "US"
    data = dicom(array, RescaleSlope="2", RescaleIntercept="1")
    data.add_new("PixelPaddingValue", form, value)
    if limit is not None:
        data.add_new("PixelPaddingRangeLimit", form, limit)
    profile = zm.measure(save(tmp_path / "a.dcm", data))
    held = (array < low) | (array > high)
    assert 0 < held.sum() < array.size
    assert profile.nan_count.item() == array.size - held.sum()
    check_sums(profile, array[..., None].astype("int64") * 2 + 1, held[..., None])


def test_padding_of_the_wrong_format_is_understood(tmp_path):
    """Files give 63536 for −2000 where pixels are signed."""
    array = image("int16", low=-2001, high=-1999)
    data = dicom(array)
    data.add_new("PixelPaddingValue", "US", 63536)
    profile = zm.measure(save(tmp_path / "a.dcm", data))
    assert profile.nan_count.item() == (array == -2000).sum() > 0


def test_float_pixels_are_floats(tmp_path):
    for keyword, dtype in (("FloatPixelData", "float32"), ("DoubleFloatPixelData", "float64")):
        array = RANDOM.standard_normal((9, 8)).astype(dtype)
        data = dicom(image("int32", (9, 8)))
        del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
        data.BitsAllocated = 8 * array.itemsize
        setattr(data, keyword, array.tobytes())
        assert channels(array) == zm.measure(save(tmp_path / "a.dcm", data))


def test_colors_and_palettes_are_rgb(tmp_path):
    colors = image("uint8", (6, 8, 3))
    profile = zm.measure(save(tmp_path / "a.dcm", dicom(colors, samples=3)))
    assert zm.measure(colors[None], "n h w c -> c", channels="RGB") == profile
    assert profile.units.channels == "RGB"
    for bits in (8, 16):
        indices = image("uint8", (6, 8))
        tables = image(f"uint{bits}", (3, 256))
        data = dicom(indices, PhotometricInterpretation="PALETTE COLOR")
        for color, table in zip(("Red", "Green", "Blue"), tables, strict=True):
            data.add_new(f"{color}PaletteColorLookupTableDescriptor", "US", [256, 0, bits])
            setattr(data, f"{color}PaletteColorLookupTableData", table.tobytes())
        profile = zm.measure(save(tmp_path / "a.dcm", data))
        expected = np.moveaxis(tables[:, indices], 0, -1)
        assert zm.measure(expected[None], "n h w c -> c", channels="RGB") == profile
        assert profile.provenance.notes == {"palette": 1}


def test_a_bit_is_a_truth_value(tmp_path):
    array = RANDOM.integers(0, 2, (3, 5, 7)).astype(bool)  # frames end within a byte
    data = dicom(array.astype("uint8"), BitsAllocated=1, BitsStored=1, HighBit=0)
    packed = np.packbits(array.ravel(), bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    profile = zm.measure(save(tmp_path / "a.dcm", data))
    assert channels(array) == profile
    assert profile.units.range == (0, 1)


def test_compressed_data_sets_and_frames_are_the_array(tmp_path):
    array = image("uint16", (4, 16, 18))
    deflated = dicom(array, DeflatedExplicitVRLittleEndian)
    assert channels(array) == zm.measure(save(tmp_path / "a.dcm", deflated))
    packed = dicom(array)
    packed.compress(RLELossless)
    profile = zm.measure(save(tmp_path / "a.dcm", packed))
    assert channels(array) == profile
    assert profile.provenance.notes == {"RLE Lossless": 1}


def test_many_frames_come_in_parts_and_are_items(tmp_path):
    array = image("int16", (600, 128, 128))
    assert array.nbytes > 16 << 20
    profile = zm.measure(save(tmp_path / "a.dcm", dicom(array)))
    assert channels(array) == profile
    assert profile.provenance.items == 600


# ---------------------------------------------------------------- files without a mark


@shared
def test_a_file_without_its_head_is_read_when_it_is_sound(tmp_path):
    """`no_meta.dcm` has a byte too many in front; without it, it is the CT image."""
    data = (SHARED / "dicom" / "no_meta.dcm").read_bytes()
    with pytest.raises(zm.SourceError, match=r"no_meta\.dcm: not a DICOM file"):
        zm.measure(SHARED / "dicom" / "no_meta.dcm")
    (tmp_path / "a.dcm").write_bytes(data[1:])
    assert zm.measure(SHARED / "dicom" / "CT_small.dcm") == zm.measure(tmp_path / "a.dcm")


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_the_encoding_of_a_file_without_its_head_is_found(syntax, tmp_path):
    array = image("uint16")
    data = dicom(array, syntax)
    del data.file_meta, data.preamble
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    data.save_as(tmp_path / "a.dcm", implicit_vr=implicit, little_endian=little)
    assert channels(array) == zm.measure(tmp_path / "a.dcm")


def test_a_folder_as_scanners_write_it(tmp_path):
    """Files without extension, or called by a UID; the table of contents is passed over."""
    arrays = [image("uint16") for _ in range(4)]
    (tmp_path / "series").mkdir()
    names = ("IM_0001", "series/1.2.840.113619.2.5.176", "series/IM_0002", "series/x.IMA")
    for name, array in zip(names, arrays, strict=True):
        save(tmp_path / name, dicom(array))
    (tmp_path / "DICOMDIR").write_bytes((tmp_path / "IM_0001").read_bytes())
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    assert recognized(str(tmp_path)) == "dicom"
    profile = zm.measure(tmp_path)
    assert channels(np.stack(arrays)) == profile
    assert profile.provenance.items == 4
    (tmp_path / "README").write_text("nothing of interest")
    with pytest.warns(zm.SkippedWarning, match="README: not a DICOM file"):
        assert channels(np.stack(arrays)) == zm.measure(tmp_path)


def test_a_format_that_is_named_reads_every_file_and_ext_those_alone(tmp_path):
    arrays = [image("uint16") for _ in range(2)]
    save(tmp_path / "a.img2", dicom(arrays[0]))
    save(tmp_path / "b.dcm", dicom(arrays[1]))
    assert channels(np.stack(arrays)) == zm.measure(tmp_path, format="dicom")
    assert channels(arrays[1]) == zm.measure(tmp_path)
    assert channels(arrays[0]) == zm.measure(tmp_path, format="dicom", extensions=[".img2"])
    with pytest.raises(zm.SourceError, match="holds no"):
        zm.measure(tmp_path, format="dicom", extensions=[".none"])


def test_by_class_and_workers_and_pickling(tmp_path):
    arrays = [image("uint16") for _ in range(6)]
    for i, array in enumerate(arrays):
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        save(folder / f"{i}.dcm", dicom(array, RescaleSlope="1", RescaleIntercept="-3"))
    whole = zm.measure(tmp_path, workers=1)
    assert channels(np.stack(arrays).astype("int32") - 3) == whole
    assert whole == zm.measure(tmp_path, workers=3)
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert whole == zm.measure(tmp_path, executor=pool)
    groups = zm.measure(tmp_path, by="class")
    assert channels(np.stack(arrays[::2]).astype("int32") - 3) == groups["a"]
    from zeromean.sources.opening import Options, open_source

    (source,) = open_source(str(tmp_path), None, Options())
    shards = pickle.loads(pickle.dumps(list(source.shards())))
    assert sum(len(item.array) for shard in shards for item in shard.items()) == 6


# ---------------------------------------------------------------- broken and foreign files


def cut(data, part):
    return data[: int(len(data) * part)]


def check_skipped(folder, said, sound, measured=channels):
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(folder)
    assert measured(sound) == profile
    ((name, reason),) = profile.provenance.skipped
    assert name.startswith("bad")
    assert said in reason
    assert "\n" not in reason
    with pytest.raises(zm.SourceError, match="bad"):
        zm.measure(folder, strict=True)
    with pytest.raises(zm.SourceError, match="bad"):
        zm.measure(folder / name)


def broken():
    data = dicom(image("uint16"))
    yield "frames", dicom(image("uint16"), NumberOfFrames=3), "is cut short: 1,200 of 3,600 bytes"
    yield "bits", dicom(image("uint16"), HighBit=14), "end in bit 14, not in bit 15"
    yield (
        "allocated",
        dicom(image("uint16"), BitsAllocated=24, BitsStored=24, HighBit=23),
        "24 bits",
    )
    del data.Rows
    yield "rows", data, "does not say Rows"
    data = dicom(image("uint16"))
    del data.PixelData
    yield "none", data, "holds no pixels (CT Image Storage)"
    data = dicom(image("uint16"), RescaleSlope="1e300", RescaleIntercept="0")
    yield "wide", data, "may not fit 64 bits"


@pytest.mark.parametrize(("name", "data", "said"), list(broken()), ids=lambda v: str(v)[:12])
def test_a_header_that_contradicts_its_pixels_is_skipped(name, data, said, tmp_path):
    sound = image("uint16")
    save(tmp_path / "good.dcm", dicom(sound))
    save(tmp_path / "bad.dcm", data)
    check_skipped(tmp_path, said, sound)


@pytest.mark.parametrize("part", [0.001, 0.2, 0.4, 0.7, 0.99])
def test_a_cut_image_is_skipped(part, tmp_path):
    sound = image("uint16")
    whole = save(tmp_path / "good.dcm", dicom(sound)).read_bytes()
    (tmp_path / "bad.dcm").write_bytes(cut(whole, part))
    check_skipped(tmp_path, "", sound)


@shared
def test_the_broken_shared_images_are_refused_by_name():
    reasons = {
        "MR_truncated": "is cut short: 8,130 of 8,192 bytes of pixels",
        "badVR": "its number of frames is no number",
        "no_meta": "not a DICOM file",
    }
    for name, said in reasons.items():
        with pytest.raises(zm.SourceError, match=f"{name}.dcm: .*{said}"):
            zm.measure(SHARED / "dicom" / f"{name}.dcm")


@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless", "SC_rgb_jpeg_dcmtk", "MR_small_RLE", "693_J2KI"]
)
def test_a_cut_frame_inside_a_whole_file_is_refused(name, part, tmp_path):
    data = pydicom.dcmread(bundled(f"{name}.dcm"))
    frame = next(generate_frames(data.PixelData, number_of_frames=1))
    data.PixelData = encapsulate([frame[: int(len(frame) * part) // 2 * 2]])
    data["PixelData"].is_undefined_length = True
    with pytest.raises(zm.SourceError, match="damaged DICOM file"):
        zm.measure(save(tmp_path / "a.dcm", data))


def test_other_numbers_of_compressed_frames_than_the_header_says_are_refused(tmp_path):
    array = image("uint16", (3, 8, 8))
    for count, table, said in (
        (5, False, "fewer fragments than frames"),
        (5, True, "is cut short: 3 of 5 frames"),
        (2, True, "holds more than the 2 frames"),
    ):
        data = dicom(array)
        data.compress(RLELossless)
        frames = list(generate_frames(data.PixelData, number_of_frames=3))
        data.PixelData = encapsulate(frames, has_bot=table)
        data["PixelData"].is_undefined_length = True
        data.NumberOfFrames = count
        with pytest.raises(zm.SourceError, match=said):
            zm.measure(save(tmp_path / "a.dcm", data))


def test_a_decoder_that_is_not_there_is_named():
    path = bundled("MR_small_jpeg_ls_lossless.dcm")
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGLSLossless

    if get_decoder(JPEGLSLossless).is_available:
        pytest.skip("there is one")
    with pytest.raises(zm.SourceError, match="for which pydicom needs pyjpegls"):
        zm.measure(path)


def test_what_is_no_image_is_said(tmp_path):
    with pytest.raises(zm.SourceError, match=r"holds no pixels \(Basic Text SR Storage\)"):
        zm.measure(bundled("reportsi.dcm"))
    for name, data in (("empty", b""), ("text", b"hello" * 99), ("page", b"<html>" * 40)):
        (tmp_path / f"{name}.dcm").write_bytes(data)
        with pytest.raises(zm.SourceError, match="not a DICOM file"):
            zm.measure(tmp_path / f"{name}.dcm")


def test_a_missing_library_is_said(tmp_path, monkeypatch):
    save(tmp_path / "a.dcm", dicom(image()))
    nibabel.save(volume(image("int16", (3, 4, 5))), tmp_path / "a.nii")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    with pytest.raises(ImportError, match=r"need pydicom: pip install \"zeromean\[medical\]\""):
        zm.measure(tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"need nibabel: pip install \"zeromean\[medical\]\""):
        zm.measure(tmp_path / "a.nii")


def test_nothing_about_the_patient_is_kept_or_said(tmp_path, capfd):
    """Neither in a profile, nor in a reason, nor on the screen; even where it is malformed."""
    sound = dicom(image("uint16"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sound.PatientBirthDate = "no date of S3CR3T"
        save(tmp_path / "good.dcm", sound)
        save(tmp_path / "bad.dcm", dicom(image("uint16"), NumberOfFrames=3))
    whole = (tmp_path / "good.dcm").read_bytes()
    damaged = {
        "class": whole.replace(b"\x08\0\x16\0UI\x1a\0", b"\x08\0\x16\0UI\xd0\0"),
        "frames": whole.replace(b"\x28\0\x02\0US\x02\0", b"\x28\0\x08\0IS\x40\0"),
        "name": whole.replace(b"\x10\0\x10\0PN", b"\x28\0\x53\x10DS"),
        "colors": whole.replace(b"\x10\0\x10\0PN", b"\x28\0\x04\0CS"),
        "syntax": whole.replace(b"1.2.840.10008.1.2.1\0", b"Doe^Jane.Doe^Jane.0\0"),
    }
    for name, data in damaged.items():
        assert data != whole, name
        (tmp_path / f"bad {name}.dcm").write_bytes(data)
    with pytest.warns(zm.SkippedWarning) as caught:
        profile = zm.measure(tmp_path)
    profile.save(tmp_path / "profile.json")
    said = (tmp_path / "profile.json").read_text() + "".join(str(w.message) for w in caught)
    said += "".join(capfd.readouterr()) + repr(profile)
    assert "bad.dcm" in said
    for word in (SECRET, "Jane", "S3CR3T"):
        assert word not in said


def test_images_of_different_kinds_are_never_mixed(tmp_path):
    array = image("uint16")
    save(tmp_path / "a.dcm", dicom(array))
    save(tmp_path / "b.dcm", dicom(array, RescaleSlope="1", RescaleIntercept="0"))
    with pytest.raises(zm.SourceError, match=r"1-channel int32: such as b\.dcm"):
        zm.measure(tmp_path)
    with pytest.warns(zm.SkippedWarning, match="not the chosen group"):
        assert channels(array) == zm.measure(tmp_path, group="1-channel uint16")


# ================================================================ NIfTI


def volume(array, version=1, slope=None, order="<"):
    kind = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}[version]
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    made = kind(array, np.eye(4), header)
    if slope is not None:
        made.header.set_slope_inter(*slope)
    return made


def voxels(array):
    return zm.measure(array[None], "n ... ->")


@shared
@pytest.mark.parametrize(
    "name",
    ["anatomical.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "functional.nii",
     "standard.nii.gz"],
)  # fmt: skip
def test_shared_volumes_have_the_values_that_nibabel_gives(name):
    path = SHARED / "nifti" / name
    data = nibabel.load(path)
    profile = zm.measure(path)
    scaled = name == "functional.nii"
    expected = data.get_fdata() if scaled else np.asarray(data.dataobj)
    assert voxels(expected.astype(expected.dtype.newbyteorder("="))) == profile
    numbers = [Fraction(v) for v in data.get_fdata().ravel().tolist()]
    assert profile.mean.item() == float(sum(numbers) / len(numbers))
    assert profile.dtype == ("float64" if scaled else np.dtype(expected.dtype).name)
    assert profile.provenance.items == 1


DTYPES = "uint8 int8 uint16 int16 uint32 int32 int64 uint64 float32 float64".split()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_byte_order_is_the_array(dtype, order, version, tmp_path):
    array = (RANDOM.standard_normal((5, 6, 7, 2)) * 9).astype(dtype) if dtype[0] == "f" else image(
        dtype, (5, 6, 7, 2), *((0, 1 << 60) if dtype == "uint64" else ())
    )  # fmt: skip
    expected = voxels(array)
    for end in (".nii", ".nii.gz"):
        path = tmp_path / f"a{end}"
        nibabel.save(volume(array, version, order=order), path)
        if dtype not in ("int64", "uint64", "float64") or version == 2 or end == ".nii":
            assert expected == zm.measure(path), end


def test_pairs_are_read_from_their_header_or_their_image(tmp_path):
    array = image("int16", (5, 6, 7))
    pair = nibabel.Nifti1Pair(array, np.eye(4))
    nibabel.save(pair, tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        assert voxels(array) == zm.measure(tmp_path / name)
    assert voxels(array) == zm.measure(tmp_path)
    (tmp_path / "packed").mkdir()
    nibabel.save(pair, tmp_path / "packed" / "b.img.gz")
    for name in ("b.img.gz", "b.hdr.gz"):
        assert voxels(array) == zm.measure(tmp_path / "packed" / name)
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(zm.SourceError, match=r"a\.img: has no header \(\.hdr\) beside it"):
        zm.measure(tmp_path / "a.img")
    (tmp_path / "packed" / "b.img.gz").unlink()
    with pytest.raises(zm.SourceError, match=r"without its image \(\.img\)"):
        zm.measure(tmp_path / "packed" / "b.hdr.gz")


@pytest.mark.parametrize(
    ("slope", "scaled"),
    [((1, 0), False), ((np.nan, np.nan), False), ((2, 0), True), ((0.1, -5), True), ((1, 7), True)],
)
def test_slope_and_intercept_are_applied_as_nibabel_does(slope, scaled, tmp_path):
    array = image("int16", (5, 6, 7))
    made = volume(array)
    made.to_filename(tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[112:120] = struct.pack("<2f", *slope)
    (tmp_path / "a.nii").write_bytes(data)
    profile = zm.measure(tmp_path / "a.nii")
    loaded = nibabel.load(tmp_path / "a.nii")
    expected = loaded.get_fdata() if scaled else np.asarray(loaded.dataobj)
    assert voxels(expected) == profile
    notes = {"slope and intercept applied": 1} if scaled else {}
    assert profile.provenance.notes == notes


def test_volumes_of_different_shapes_and_axes_are_measured_together(tmp_path):
    arrays = [image("int16", shape) for shape in ((4, 5, 6), (7, 3, 2), (3, 3, 3, 4))]
    for i, array in enumerate(arrays):
        nibabel.save(volume(array), tmp_path / f"{i}.nii.gz")
    (tmp_path / "events.tsv.gz").write_bytes(gzip.compress(b"a\tb\n1\t2\n"))
    (tmp_path / "study.json").write_text("{}")
    profile = zm.measure(tmp_path)
    assert sum((voxels(a) for a in arrays[1:]), voxels(arrays[0])) == profile
    assert profile.provenance.items == 3
    assert profile.kept_shape == ()


def test_colors_are_channels(tmp_path):
    colors = image("uint8", (4, 5, 6, 3))
    form = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    structured = np.ascontiguousarray(colors).view(form)[..., 0]
    nibabel.save(nibabel.Nifti1Image(structured, np.eye(4)), tmp_path / "a.nii")
    profile = zm.measure(tmp_path / "a.nii", "n x y z c -> c")
    assert zm.measure(colors[None], "n x y z c -> c", channels="RGB") == profile


def test_nan_is_ignored_and_counted(tmp_path):
    array = RANDOM.standard_normal((4, 5, 6)).astype("float32")
    array[0, :, :] = np.nan
    nibabel.save(volume(array), tmp_path / "a.nii")
    profile = zm.measure(tmp_path / "a.nii")
    assert voxels(array) == profile
    assert profile.nan_count.item() == 30


def test_a_large_volume_is_cut_where_the_pattern_allows_it(tmp_path):
    array = RANDOM.standard_normal((70, 80, 90, 20)).astype("float32")
    assert array.nbytes > 32 << 20
    nibabel.save(volume(array), tmp_path / "a.nii")
    nibabel.save(volume(array), tmp_path / "b.nii.gz")
    for pattern in ("n ... ->", "n x y z t -> t", "n x y z t -> z", "n x (a b) z t -> a"):
        sizes = {"a": 8} if "a b" in pattern else {}
        expected = zm.measure(array[None], pattern, **sizes)
        assert expected == zm.measure(tmp_path / "a.nii", pattern, **sizes), pattern
        assert expected == zm.measure(tmp_path / "b.nii.gz", pattern, **sizes), pattern
    long = image("int16", (3_000_000, 2, 3))
    nibabel.save(volume(long, 2), tmp_path / "c.nii")
    assert voxels(long).statistics == zm.measure(tmp_path / "c.nii").statistics


def unsound():
    array = image("int16", (20, 30, 40))
    whole = volume(array).to_bytes()
    packed = gzip.compress(whole)
    yield "cut", "nii", whole[:-1], "is cut short: 48,351 of 48,352 bytes"
    yield "head", "nii", whole[:200], "is cut short within its header"
    yield "empty", "nii", b"", "empty file"
    yield "text", "nii", b"no volume" * 99, "not a NIfTI file"
    yield "packed", "nii.gz", packed[: len(packed) // 2], "is cut short"
    yield "packed end", "nii.gz", packed[:-8], "is cut short"
    yield "checksum", "nii.gz", packed[:-8] + b"\0" * 4 + packed[-4:], "damaged gzip file: CRC"
    yield "flip", "nii.gz", packed[:400] + b"\xff\0\xff" + packed[403:], "damaged gzip file"
    yield "packed text", "nii.gz", gzip.compress(b"x" * 999), "not a NIfTI file"
    yield "short", "nii.gz", gzip.compress(whole[:-1]), "is cut short"
    negative = whole[:42] + struct.pack("<h", -5) + whole[44:]
    yield "shape", "nii", negative, "a shape of (-5, 30, 40)"
    nothing = whole[:42] + struct.pack("<h", 0) + whole[44:]
    yield "none", "nii", nothing, "holds no data"
    yield "code", "nii", whole[:70] + struct.pack("<h", 77) + whole[72:], "damaged NIfTI header"
    offset = whole[:108] + struct.pack("<f", 16) + whole[112:]
    yield "offset", "nii", offset, "values that begin at byte 16"
    broken = whole[:112] + struct.pack("<2f", 2, np.inf) + whole[120:]
    yield "intercept", "nii", broken, "invalid intercept"
    yield "analyze", "nii", whole[:344] + bytes(4) + whole[348:], "an Analyze 7.5 file"
    imaginary = nibabel.Nifti1Image(array.astype("complex64"), np.eye(4)).to_bytes()
    yield "complex", "nii", imaginary, "holds complex64 values"


@pytest.mark.parametrize(("name", "end", "data", "said"), list(unsound()), ids=lambda v: str(v)[:9])
def test_a_broken_volume_is_skipped_with_a_reason(name, end, data, said, tmp_path):
    sound = image("int16", (6, 7, 8))
    nibabel.save(volume(sound), tmp_path / "good.nii")
    (tmp_path / f"bad.{end}").write_bytes(data)
    check_skipped(tmp_path, said, sound, voxels)


def test_a_misnamed_volume_is_told_by_its_content(tmp_path):
    array = image("int16", (6, 7, 8))
    (tmp_path / "a.nii").write_bytes(gzip.compress(volume(array).to_bytes()))
    assert voxels(array) == zm.measure(tmp_path / "a.nii")


def test_volumes_in_workers_and_kinds_and_groups(tmp_path):
    arrays = [image("int16", (6, 7, 8)) for _ in range(4)]
    for i, array in enumerate(arrays):
        nibabel.save(volume(array), tmp_path / f"{i}.nii.gz")
    whole = zm.measure(tmp_path, workers=1)
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert whole == zm.measure(tmp_path, executor=pool)
    nibabel.save(volume(arrays[0].astype("float32")), tmp_path / "float.nii")
    with pytest.raises(zm.SourceError, match=r"nifti-volume float32: such as float\.nii"):
        zm.measure(tmp_path)
    with pytest.warns(zm.SkippedWarning, match="not the chosen group"):
        assert whole == zm.measure(tmp_path, group="nifti-volume int16")


def test_scans_in_a_remote_store_give_the_same(tmp_path):
    """One by one, and as a folder; libraries are given an open file there, not a path."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    save(tmp_path / "IM_1", dicom(image("uint16")))
    save(tmp_path / "IM_2", dicom(image("uint16", (3, 8, 9))))
    for path in sorted(tmp_path.iterdir()):
        store.pipe(f"/scans/{path.name}", path.read_bytes())
        assert zm.measure(path) == zm.measure(f"memory://scans/{path.name}"), path.name
    assert zm.measure(tmp_path) == zm.measure("memory://scans")


def test_volumes_in_a_remote_store_give_the_same(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    array = image("int16", (5, 6, 7))
    nibabel.save(volume(array), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Pair(array, np.eye(4)), tmp_path / "b.img")
    for path in sorted(tmp_path.iterdir()):
        store.pipe(f"/volumes/{path.name}", path.read_bytes())
    for name in ("a.nii.gz", "b.img"):
        assert voxels(array) == zm.measure(f"memory://volumes/{name}")
    assert zm.measure(tmp_path) == zm.measure("memory://volumes")


# ================================================================ memory

_CHILD = """
import sys, zeromean as zm
zm.measure(sys.argv[1])
def peak():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = peak()
profile = zm.measure(sys.argv[2])
print(peak() - before, profile.count.sum(), profile.max.max())
"""


def check_memory(small, large, count):
    command = [sys.executable, "-c", _CHILD, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, counted, top = done.stdout.split()
    assert (int(counted), int(top)) == (count, 1234)
    assert int(grown) < 200_000  # kB


def sparse(path, head, n_bytes):
    """Zeros that take no disk, and one value at the end."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + n_bytes)
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<h", 1234))


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", ["nii", "nii.gz"])
def test_a_volume_of_a_gigabyte_takes_little_memory(end, tmp_path):
    shape = (512, 512, 512, 4)
    header = nibabel.Nifti1Header()
    header.set_data_dtype("int16")
    header.set_data_shape(shape)
    header["vox_offset"] = 352
    sparse(tmp_path / "large.nii", header.binaryblock + bytes(4), 1 << 30)
    nibabel.save(volume(image("int16", (3, 4, 5))), tmp_path / "small.nii.gz")
    if end == "nii.gz":
        with (
            (tmp_path / "large.nii").open("rb") as file,
            gzip.open(tmp_path / "large.nii.gz", "wb", 1) as packed,
        ):
            while block := file.read(1 << 24):
                packed.write(block)
    check_memory(tmp_path / "small.nii.gz", tmp_path / f"large.{end}", 1 << 29)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_frames_of_a_gigabyte_take_little_memory(tmp_path):
    small = save(tmp_path / "small.dcm", dicom(image("int16", (2, 512, 512))))
    data = small.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OW\0\0")
    head = data[:at].replace(b"IS\x02\x002 ", b"IS\x04\x002048")
    assert len(head) == at + 2
    head += data[at : at + 8] + struct.pack("<I", 1 << 30)
    sparse(tmp_path / "large.dcm", head, 1 << 30)
    check_memory(small, tmp_path / "large.dcm", 1 << 29)
