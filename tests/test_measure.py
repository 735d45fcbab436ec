"""`measure`: whatever the source, the workers and the order, one profile; and plain refusals."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import warnings
import zipfile
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from strategies import DTYPES, is_nearest_root, numbers, rounded, tempers, truth
from zeromean.errors import (
    MergeError,
    PatternError,
    SkippedWarning,
    SourceError,
    UnitError,
    ZeromeanWarning,
)
from zeromean.sources import arrays as array_sources

DATA = Path(__file__).parents[2] / "shared" / "data"
CORPUS = DATA / "corpus"
RNG = np.random.default_rng(30)
PICTURES = [RNG.integers(0, 256, (4 + i, 9 - i, 3), dtype=np.uint8) for i in range(6)]
EQUAL = np.stack([RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8) for _ in range(7)])
TABLE = RNG.normal(size=(60, 3))
PER_CHANNEL, PER_PIXEL = "n h w c -> c", "n h w c -> h w c"


def state(profile):
    """The saved statistics, as bytes."""
    return json.dumps(json.loads(profile.to_json())["statistics"]).encode()


def same(*profiles):
    """All profiles are equal, to the byte."""
    return all(p == profiles[0] and state(p) == state(profiles[0]) for p in profiles)


def put(folder, pictures=PICTURES, end=".png"):
    """Write pictures into class folders."""
    for i, pixels in enumerate(pictures):
        path = folder / f"class{i % 2}" / f"{i}{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


# ---------------------------------------------------------------- arrays and what is like them


class ArrayLike:
    """Like a tensor: no array, but becomes one."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_the_same_values_in_every_wrapping(tmp_path):
    np.save(tmp_path / "x.npy", TABLE)
    np.save(tmp_path / "f.npy", np.asfortranarray(TABLE))
    np.savez(tmp_path / "x.npz", TABLE)
    np.savez_compressed(tmp_path / "y.npz", x=TABLE, other=TABLE[:3])
    np.savez(tmp_path / "f.npz", np.asfortranarray(TABLE))
    np.savez(tmp_path / "b.npz", TABLE.astype(">f8"))
    pattern = "n d -> d"
    sources = {
        "array": TABLE,
        "lists": TABLE.tolist(),
        "tuples": [tuple(row) for row in TABLE.tolist()],
        "big-endian": TABLE.astype(">f8"),
        "fortran": np.asfortranarray(TABLE),
        "tensor": ArrayLike(TABLE),
        "batches": np.array_split(TABLE, 7),
        "generator": (ArrayLike(part) for part in np.array_split(TABLE, 3)),
        "rows": list(TABLE),
        "memmap": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "npy": tmp_path / "x.npy",
        "npy as text": str(tmp_path / "x.npy"),
        "npy fortran": tmp_path / "f.npy",
        "npz": tmp_path / "x.npz",
        "npz fortran": tmp_path / "f.npz",
        "npz big-endian": tmp_path / "b.npz",
        "npz member": f"{tmp_path / 'y.npz'}:x",
    }
    expected = zm.measure(TABLE)
    for name, source in sources.items():
        profile = zm.measure(source, pattern)
        assert same(expected, profile), name
        assert (profile.min == TABLE.min(0)).all(), name
        assert profile.provenance.items == len(TABLE), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:.*infinite value:zeromean.ZeromeanWarning")
def test_every_format_is_measured_from_an_array_and_from_npy(dtype, tmp_path):
    values = numbers(dtype, tempers(dtype)[0], (33, 2), seed=31)
    profile = zm.measure(values)
    assert profile.dtype == dtype
    for j in range(2):
        assert profile.count[j] == truth(values[:, j]).n
    if dtype != "bfloat16":
        np.save(tmp_path / "x.npy", values)
        assert same(profile, zm.measure(tmp_path / "x.npy"))


def test_without_a_pattern():
    assert zm.measure(np.arange(5.0)).kept_shape == ()
    assert zm.measure(TABLE).kept_shape == (3,)
    assert str(zm.measure(PICTURES).pattern) == PER_CHANNEL
    assert zm.measure([[1, 2], [3, 4]]).mean.tolist() == [2.0, 3.0]
    assert zm.measure([1, 2, 3]).mean == 2.0
    assert zm.measure(np.array(3.0), "n ->").mean == zm.measure(np.float64(3), "... ->").mean == 3.0
    for shape, first, second in (
        ((5, 4, 3), "n h w ->", "h w c -> c"),
        ((5, 4, 7), "n h w ->", "n t f -> f"),
        ((2, 5, 4, 3), "n h w c -> c", "n c h w -> c"),
        ((1,) * 5, "... c -> c", "n ... ->"),
        ((), "n ->", "n d -> d"),
    ):
        with pytest.raises(PatternError) as caught:
            zm.measure(np.zeros(shape))
        assert f"{first!r} or {second!r}" in str(caught.value)
        assert str(shape) in str(caught.value)


def test_a_missing_first_axis_is_accepted():
    assert zm.measure(EQUAL[0], PER_CHANNEL) == zm.measure(EQUAL[:1], PER_CHANNEL)
    assert zm.measure(EQUAL[0], PER_CHANNEL).provenance.items == 1


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("longdouble", "astype"),
        ("complex64", "x.real and x.imag"),
        ("complex128", "x.real and x.imag"),
        ("datetime64[s]", "np.timedelta64"),
        ("timedelta64[s]", "np.timedelta64"),
        ("object", "list of arrays"),
        ("S3", "give numbers"),
        ("U3", "give numbers"),
        ("V4", "give numbers"),
        (ml_dtypes.float8_e4m3fn, "give numbers"),
        (np.dtype([("a", "i4"), ("b", "f8")]), "give numbers"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], iter], ids=["array", "list", "rows"])
def test_other_formats_are_refused_by_name(dtype, advice, wrap):
    values = np.zeros((3, 2), dtype)
    with pytest.raises(PatternError) as caught:
        zm.measure(wrap(values), "n d -> d")
    assert f"cannot measure values of dtype {values.dtype.name}" in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.parametrize("source", [None, 3, 2.5, b"abc", {"a": 1}, {1, 2}, object()])
def test_what_is_no_source_is_refused_by_type(source):
    with pytest.raises(
        PatternError, match=f"cannot measure {type(source).__name__}; give an array"
    ):
        zm.measure(source)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([[1, 2], [3]], "is no array"),
        ([1, None], "dtype object"),
        ([1, "a"], "dtype str"),
        ([np.zeros(3)], r"item 0 has shape \(3,\)"),
        ([np.zeros((2, 2, 3)), np.zeros((2, 2, 5))], r"item 1 has shape \(2, 2, 5\)"),
        (np.ma.masked_array([1.0, 2.0], [0, 1]), "masked array"),
        ([np.ma.masked_array([1.0, 2.0], [0, 1])], "masked array"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(source, said):
    with pytest.raises(PatternError, match=said):
        zm.measure(source)


def test_misspelled_options_are_refused():
    with pytest.raises(PatternError, match="colour='gray'"):
        zm.measure(TABLE, colour="gray")
    with pytest.raises(PatternError, match="colour=gray, but names no axis 'colour'"):
        zm.measure(TABLE, "n d -> d", colour="gray")


@pytest.mark.parametrize(
    ("option", "said"), [({"limit": 0}, "limit is 0"), ({"workers": 0}, "workers is 0")]
)
def test_impossible_options_are_refused(option, said):
    with pytest.raises(SourceError, match=said):
        zm.measure(TABLE, **option)


def test_arrays_larger_than_a_shard(monkeypatch):
    """Cut along the first axis, in whole groups; a kept first axis is not cut at all."""
    monkeypatch.setattr(array_sources, "_SHARD_BYTES", 200)
    values = np.arange(840.0).reshape(60, 14)
    for text, sizes, axes in (
        ("n d -> d", {}, (0,)),
        ("d n -> d", {}, (1,)),
        ("n d ->", {}, (0, 1)),
        ("... d -> d", {}, (0,)),
    ):
        profile = zm.measure(values, text, workers=3, **sizes)
        np.testing.assert_allclose(profile.mean, values.mean(axes), rtol=1e-14)
        assert np.sum(profile.count) == values.size
    grouped = zm.measure(values, "(n t) d -> t d", t=5, workers=3)
    assert (grouped.mean == values.reshape(12, 5, 14).mean(axis=0)).all()
    assert (zm.measure(values[:, 0], "... c -> c").mean == values[:, 0]).all()


def test_limit_takes_a_spread_of_whole_groups():
    values = np.arange(100.0)[:, None]
    assert zm.measure(values, limit=4).mean.tolist() == [np.mean([12, 37, 62, 87])]
    assert zm.measure(values, limit=1000) == zm.measure(values)
    grouped = zm.measure(values, "(n t) d -> t d", t=5, limit=10)
    assert grouped.count.tolist() == [[2]] * 5
    assert np.diff(grouped.mean[:, 0]).tolist() == [1.0] * 4
    assert zm.measure(values, "(n t) d -> t d", t=5, limit=1).count.sum() == 5
    assert zm.measure(values, "d n -> d", limit=3).kept_shape == (100,)
    assert zm.measure((row for row in values), "n d -> d", limit=7).count.tolist() == [7]
    assert zm.measure(list(values), "n d -> d", limit=7).provenance.items == 7


# ---------------------------------------------------------------- files of arrays


def test_members_of_npz_are_named(tmp_path):
    np.savez(tmp_path / "two.npz", a=TABLE, b=TABLE[:5])
    with pytest.raises(SourceError, match=r"two\.npz: holds 2 arrays, a, b; name one: two\.npz:a"):
        zm.measure(tmp_path / "two.npz")
    with pytest.raises(SourceError, match="holds 2 arrays, a, b"):
        zm.measure(f"{tmp_path / 'two.npz'}:c")
    assert zm.measure(f"{tmp_path / 'two.npz'}:b") == zm.measure(TABLE[:5])
    both = zm.measure([f"{tmp_path / 'two.npz'}:a", f"{tmp_path / 'two.npz'}:b"])
    assert both == zm.measure(TABLE) + zm.measure(TABLE[:5])
    with zipfile.ZipFile(tmp_path / "none.npz", "w"):
        pass
    with pytest.raises(SourceError, match="holds 0 arrays, none"):
        zm.measure(tmp_path / "none.npz")


def test_npz_is_read_like_npy(tmp_path, monkeypatch):
    """In blocks, whatever is kept, and with or without the first axis."""
    monkeypatch.setattr(array_sources, "_SHARD_BYTES", 100)
    for name, array, text, sizes in (
        ("pictures", EQUAL, PER_CHANNEL, {}),
        ("picture", EQUAL[0], PER_CHANNEL, {}),
        ("picture image", EQUAL[0], PER_PIXEL, {}),
        ("kept", EQUAL, "n h w c -> n c", {}),
        ("fortran", np.asfortranarray(EQUAL), PER_CHANNEL, {}),
        ("groups", np.arange(60.0).reshape(30, 2), "(n t) d -> t d", {"t": 5}),
        ("empty", np.zeros((0, 3)), "n d -> d", {}),
        ("scalar", np.array(2.5), "n ->", {}),
        ("columns", np.zeros((3, 0)), "n d -> d", {}),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        np.savez_compressed(tmp_path / f"{name}.npz", array)
        one, two = (
            zm.measure(tmp_path / f"{name}{end}", text, **sizes) for end in (".npy", ".npz")
        )
        assert same(one, two, zm.measure(array, text, **sizes)), name
        assert one.provenance.items == two.provenance.items, name


def outcome(path):
    """The profile of a file, or what is said instead."""
    try:
        return zm.measure(path, PER_CHANNEL, workers=1), ""
    except (SourceError, PatternError) as error:
        return None, str(error)


def test_damaged_npz_is_refused_never_measured(tmp_path):
    """Any one byte wrong: the same profile, or a sentence that names the file."""
    expected = zm.measure(EQUAL, PER_CHANNEL)
    for write in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        write(buffer, EQUAL)
        path, refused = tmp_path / "bad.npz", 0
        for at in range(0, len(buffer.getvalue()), 2):
            data = bytearray(buffer.getvalue())
            data[at] ^= 0x11
            path.write_bytes(data)
            profile, said = outcome(path)
            assert profile == expected or "bad.npz" in said
            refused += bool(said)
        assert refused > 100


def test_damaged_npy_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, EQUAL)
    data, path = buffer.getvalue(), tmp_path / "bad.npy"
    for length in (0, 1, 5, 9, 60, 127, 128, 200, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(SourceError, match=r"bad\.npy"):
            zm.measure(path, PER_CHANNEL)
    for at in range(128):
        for flip in (0x01, 0x40):
            changed = bytearray(data)
            changed[at] ^= flip
            path.write_bytes(changed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                profile, said = outcome(path)
            assert profile is not None or "bad.npy" in said


def test_bytes_after_the_data_are_reported(tmp_path):
    np.save(tmp_path / "x.npy", TABLE)
    with (tmp_path / "x.npy").open("ab") as file:
        file.write(b"tail")
    with pytest.warns(ZeromeanWarning, match=r"x\.npy: 4 bytes after the data"):
        assert zm.measure(tmp_path / "x.npy") == zm.measure(TABLE)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
    with pytest.warns(ZeromeanWarning, match=r"x\.npz: bytes after the data of x"):
        assert zm.measure(tmp_path / "x.npz") == zm.measure(TABLE)


def test_missing_files_are_named(tmp_path):
    for name in ("none.npy", "none.npz", "none.npz:x", "none"):
        with pytest.raises(SourceError, match="none"):
            zm.measure(tmp_path / name)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not beside the repository")
def test_array_files_of_the_corpus():
    """Objects are never unpickled, huge claims never allocated, and a tail is warned of."""
    with pytest.raises(SourceError, match=r"npy_object\.npy: holds Python objects \(pickle\)"):
        zm.measure(CORPUS / "made" / "npy_object.npy")
    with pytest.raises(SourceError, match=r"npy_huge_shape\.npy: claims"):
        zm.measure(CORPUS / "made" / "npy_huge_shape.npy")
    with pytest.warns(ZeromeanWarning, match=r"npy_trailing\.npy: .* bytes after the data"):
        zm.measure(CORPUS / "made" / "npy_trailing.npy", "n ... ->")


def test_pickles_inside_npz_are_never_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([print, None], object))
    with pytest.raises(SourceError, match="pickle"):
        zm.measure(tmp_path / "x.npz")


def test_several_array_files_add_up_and_differences_are_named(tmp_path):
    np.save(tmp_path / "a.npy", TABLE[:20])
    np.save(tmp_path / "b.npy", TABLE[20:])
    np.save(tmp_path / "c.npy", TABLE.astype(np.float32))
    np.save(tmp_path / "d.npy", TABLE[:, :2])
    assert zm.measure([tmp_path / "a.npy", tmp_path / "b.npy"]) == zm.measure(TABLE)
    with pytest.raises(MergeError, match=r"c\.npy: .*float64.*float32"):
        zm.measure([tmp_path / "a.npy", tmp_path / "c.npy"])
    with pytest.raises(MergeError, match=r"d\.npy: .*kept shape"):
        zm.measure([tmp_path / "a.npy", tmp_path / "d.npy"])
    with pytest.raises(PatternError, match=r"a\.npy: .*names 4 axes"):
        zm.measure([tmp_path / "a.npy"], PER_CHANNEL)


# ---------------------------------------------------------------- pictures


def test_pictures_of_unequal_size_in_every_wrapping(tmp_path):
    """Lists, generators, PIL images and folders: the same channels."""
    images = [Image.fromarray(p) for p in PICTURES]
    folder = put(tmp_path / "folder")
    expected = zm.measure(PICTURES)
    for j in range(3):
        true = truth(np.concatenate([p[..., j].ravel() for p in PICTURES]))
        assert true.mean == expected.mean[j]
        assert is_nearest_root(expected.std[j], true.var())
    for source in (iter(PICTURES), PICTURES[::-1], tuple(PICTURES)):
        assert same(expected, zm.measure(source))
    pictured = zm.measure(images)
    assert state(pictured) == state(expected)
    assert pictured.units.channels == "RGB"
    assert same(pictured, zm.measure(iter(images)), zm.measure(folder))
    assert pictured + zm.measure(folder) == zm.measure([folder]) + zm.measure(folder)
    assert zm.measure(folder).provenance.items == 6


def test_several_folders_and_files_add_up(tmp_path):
    one, two = put(tmp_path / "one", PICTURES[:3]), put(tmp_path / "two", PICTURES[3:])
    whole = zm.measure([one, two])
    assert same(whole, zm.measure(two) + zm.measure(one), zm.measure(one) + zm.measure(two))
    files = sorted(tmp_path.rglob("*.png"))
    random.Random(1).shuffle(files)
    assert same(whole, zm.measure(files), zm.measure([str(f) for f in files]))
    assert whole - zm.measure(one) == zm.measure(two)
    assert whole.provenance.digest == zm.measure(files).provenance.digest
    assert (whole - zm.measure(one)).provenance.digest == zm.measure(two).provenance.digest


def test_pictures_of_one_size_give_a_mean_image(tmp_path):
    folder = put(tmp_path, list(EQUAL))
    images = zm.measure(folder, PER_PIXEL)
    assert state(images) == state(zm.measure(EQUAL, PER_PIXEL))
    assert state(images) == state(zm.measure(list(EQUAL), PER_PIXEL))
    assert (images.mean == EQUAL.mean(axis=0)).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mean_image_of_unequal_sizes_names_a_file_and_the_repair(tmp_path, workers):
    folder = put(tmp_path, [*EQUAL, PICTURES[3]])
    with pytest.raises(PatternError) as caught:
        zm.measure(folder, PER_PIXEL, workers=workers)
    text = str(caught.value)
    assert "7.png" in text
    assert "(7, 6, 3)" in text
    assert "(5, 4, 3)" in text
    assert "'n h w c -> c'" in text
    with pytest.raises(PatternError, match="item 7"):
        zm.measure([*EQUAL, PICTURES[3]], PER_PIXEL, workers=workers)


def test_broken_files_are_reported_and_change_nothing(tmp_path):
    good = zm.measure(put(tmp_path / "good"))
    bad = put(tmp_path / "bad")
    (bad / "class0" / "zero.png").write_bytes(b"")
    data = (bad / "class0" / "0.png").read_bytes()
    (bad / "class1" / "cut.png").write_bytes(data[:-20])
    (bad / "class1" / "page.jpg").write_text("<html>not found</html>")
    for workers in (1, 3):
        with pytest.warns(SkippedWarning, match=r"skipped 3, .*; the first, class0/zero\.png: "):
            profile = zm.measure(bad, workers=workers)
        assert same(profile, good)
        paths = [path for path, _ in profile.provenance.skipped]
        assert paths == ["class0/zero.png", "class1/cut.png", "class1/page.jpg"]
        assert all(reason for _, reason in profile.provenance.skipped)
        assert profile.provenance.items == 6
        assert "3 skipped" in repr(profile)
        assert profile.provenance.digest == good.provenance.digest
        with pytest.raises(SourceError, match=r"(zero|cut|page)\.(png|jpg): "):
            zm.measure(bad, workers=workers, strict=True)
    assert zm.measure(tmp_path / "good", strict=True) == good
    for path in bad.rglob("[0-9].png"):
        path.unlink()
    with pytest.raises(
        SourceError, match=r"none of 3 files could be measured; the first, class0/zero\.png: "
    ):
        zm.measure(bad)


def test_limit_and_extensions_of_folders(tmp_path):
    folder = put(tmp_path / "x")
    assert zm.measure(folder, limit=2).provenance.items == 2
    put(tmp_path / "x", [EQUAL[0]], end=".gif")
    profile = zm.measure(folder)
    assert profile.provenance.left_out == {".gif": 1}
    assert profile.provenance.items == 6
    assert zm.measure(folder, extensions=[".gif"]).provenance.items == 1


def test_kinds_are_not_mixed_under_keep(tmp_path):
    folder = put(tmp_path, [*PICTURES, EQUAL[0, ..., 0]])
    with pytest.raises(SourceError) as caught:
        zm.measure(folder, colors="keep")
    for said in (
        "L uint8: such as class0/6.png",
        "RGB uint8: such as",
        "--group 'L uint8'",
        "--colors RGB",
    ):
        assert said in str(caught.value)
    with pytest.warns(SkippedWarning, match="RGB uint8, not the chosen group L uint8"):
        gray = zm.measure(folder, colors="keep", group="L uint8")
    assert gray.units.channels == "L"
    assert gray.names == ["gray"]
    assert gray.mean.tolist() == [EQUAL[0, ..., 0].mean()]
    assert len(gray.provenance.skipped) == 6


def test_empty_sources_are_refused_by_name(tmp_path):
    for source in ([], iter([]), ()):
        with pytest.raises(SourceError, match="there is nothing to measure"):
            zm.measure(source)
    with pytest.raises(SourceError, match="holds no image"):
        zm.measure(tmp_path)
    assert zm.measure(np.zeros((0, 3))).count.tolist() == [0, 0, 0]


def test_how_files_were_decoded_is_recorded_and_not_compared(tmp_path):
    folder = put(tmp_path)
    kept, converted = zm.measure(folder, colors="keep"), zm.measure(folder)
    assert (kept.units.colors, converted.units.colors) == ("keep", "RGB")
    assert kept == converted == zm.measure(PICTURES, channels="RGB")
    assert (kept + converted).count.tolist() == (2 * kept.count).tolist()


# ---------------------------------------------------------------- once, in any order, by anyone


class Once:
    """An iterable that may be gone through one single time."""

    def __init__(self, elements):
        self.elements, self.begun = elements, False

    def __iter__(self):
        assert not self.begun, "read twice"
        self.begun = True
        return iter(self.elements)


def test_a_source_is_read_once():
    assert same(zm.measure(Once(PICTURES)), zm.measure(PICTURES))
    assert zm.measure(Once(np.array_split(TABLE, 5)), "n d -> d", quantiles=True).mean.tolist() == (
        zm.measure(TABLE).mean.tolist()
    )
    source = Once(PICTURES)
    zm.measure(source)
    with pytest.raises(AssertionError, match="read twice"):
        zm.measure(source)


def test_a_generator_is_read_lazily():
    """Never more than a bounded number of shards ahead of what is measured."""
    made = [0]

    def batches():
        for _ in range(400):
            made[0] += 1
            yield np.zeros((1, 1 << 10))

    seen = []
    profile = zm.measure(
        batches(), "n d -> d", workers=2, progress=lambda p: seen.append(made[0] - p.items)
    )
    assert profile.count[0] == 400
    assert max(seen) < 64 * 6


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of several shards, of unequal sizes and three formats."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(33)
    pictures = [
        rng.integers(0, 256, (*rng.integers(1, 20, 2), 3), dtype=np.uint8) for _ in range(200)
    ]
    for end, part in (
        (".png", pictures[:70]),
        (".jpg", pictures[70:140]),
        (".bmp", pictures[140:]),
    ):
        put(folder / end[1:], part, end)
    return folder


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_number_of_workers_leaves_no_trace(many, workers):
    one = zm.measure(many, workers=1)
    other = zm.measure(many, workers=workers)
    assert same(one, other)
    assert one.to_json() == other.to_json()
    default = zm.measure(many)
    assert default.to_json() == one.to_json()


def test_shuffled_files_leave_no_trace(many):
    files = [p for p in sorted(many.rglob("*")) if p.is_file()]
    expected = zm.measure(many)
    for seed in range(3):
        random.Random(seed).shuffle(files)
        for workers in (1, 3):
            profile = zm.measure(files, workers=workers)
            assert same(profile, expected)
            assert profile.provenance.digest == expected.provenance.digest
    halves = zm.measure(files[:77]) + zm.measure(files[77:])
    assert same(halves, expected)
    assert halves.mean_of_item_stds.tolist() == expected.mean_of_item_stds.tolist()


def test_processes_give_the_same(many):
    """Shards travel to other processes and partial results come back, with nothing lost."""
    context = multiprocessing.get_context("forkserver")
    big = np.random.default_rng(34).normal(size=(600_000, 10))
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert same(zm.measure(many, executor=pool), zm.measure(many))
        assert same(zm.measure(big, executor=pool), zm.measure(big))
        assert same(zm.measure(iter(PICTURES), executor=pool), zm.measure(PICTURES))
        with pytest.raises(PatternError, match=r"\d keeps|\.\w+ keeps"):
            zm.measure(many, PER_PIXEL, executor=pool)


class Backwards(Executor):
    """Runs nothing until it is waited for, and then the last first; asks for nothing but submit."""

    def __init__(self):
        self.waiting, self.most = [], 0

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self.waiting.append((future, fn, args, kwargs))
        self.most = max(self.most, len(self.waiting))
        threading.Timer(0.01, self.run).start()
        return future

    def run(self):
        while self.waiting:
            future, fn, args, kwargs = self.waiting.pop()
            future.set_result(fn(*args, **kwargs))


def test_any_executor_in_any_order(many):
    expected = zm.measure(many)
    backwards = Backwards()
    assert same(zm.measure(many, executor=backwards), expected)
    assert 1 < backwards.most <= 2 * (os.cpu_count() or 1) + 2
    with ThreadPoolExecutor(3) as pool:
        assert same(zm.measure(many, executor=pool), expected)
        assert pool.submit(int, 3).result() == 3  # it is the caller's: still open


# ---------------------------------------------------------------- stopping


def our_threads():
    return [t.name for t in threading.enumerate() if t.name.startswith("zeromean")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit])
@pytest.mark.parametrize("workers", [1, 4])
def test_an_interrupted_source_leaves_no_threads(error, workers):
    def batches():
        for _ in range(300):
            yield np.zeros((10, 3))
        raise error("stop")

    with pytest.raises(error) as caught:
        zm.measure(batches(), "n d -> d", workers=workers)
    assert our_threads() == [], caught  # the traceback is alive, and holds no thread


def test_an_error_anywhere_leaves_no_threads(many):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as first:
        zm.measure(many, workers=3, progress=stop)
    assert our_threads() == [], first
    with pytest.raises(PatternError) as second:
        zm.measure(many, PER_PIXEL, workers=3)
    assert our_threads() == [], second
    batches = [np.zeros((1, 3))] * 200 + [np.zeros((1, 4))]
    with pytest.raises(PatternError, match="item 200") as third:
        zm.measure(batches, "n d -> d", workers=3)
    assert our_threads() == [], third


def test_measuring_leaves_no_threads(many):
    zm.measure(many, workers=4)
    assert our_threads() == []


# ---------------------------------------------------------------- progress and warnings


@pytest.mark.parametrize("workers", [1, 3])
def test_progress_counts_items_and_bytes(many, workers):
    seen = []
    profile = zm.measure(many, workers=workers, progress=seen.append)
    files = [p for p in many.rglob("*") if p.is_file()]
    assert len(seen) > 2
    assert seen[-1].items == seen[-1].total_items == 200 == profile.provenance.items
    assert seen[-1].bytes == sum(p.stat().st_size for p in files) == profile.provenance.bytes
    assert [p.items for p in seen] == sorted({p.items for p in seen})
    assert [p.seconds for p in seen] == sorted(p.seconds for p in seen)
    assert seen[0].seconds >= 0


def test_progress_counts_skipped_items_too(tmp_path):
    folder = put(tmp_path)
    (folder / "class0" / "bad.png").write_bytes(b"")
    seen = []
    with pytest.warns(SkippedWarning, match="skipped 1"):
        zm.measure(folder, progress=seen.append)
    assert (seen[-1].items, seen[-1].total_items) == (7, 7)


def test_progress_never_passes_its_total(tmp_path):
    """Rows, batches and generators: the total is of what is counted, or not known."""
    np.savez(tmp_path / "x.npz", TABLE)
    sources = {
        "array": (TABLE, 60),
        "batches": (np.array_split(TABLE, 7), 60),
        "rows": (list(TABLE), 60),
        "generator": (iter(TABLE), None),
        "npz": (tmp_path / "x.npz", 60),
    }
    for name, (source, total) in sources.items():
        seen = []
        zm.measure(source, "n d -> d", progress=seen.append)
        assert (seen[-1].items, seen[-1].total_items) == (60, total), name


def test_infinite_values_are_named_in_a_warning_and_nan_in_none():
    with pytest.warns(
        ZeromeanWarning, match=r"2 infinite value\(s\) were counted and left out"
    ) as caught:
        zm.measure(np.array([1.0, np.inf, -np.inf, np.nan]))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zm.measure(np.array([1.0, np.nan]))


def test_a_folder_for_validation_inside_draws_a_warning(tmp_path):
    put(tmp_path / "train")
    put(tmp_path / "val")
    with pytest.warns(ZeromeanWarning, match="val is inside the measured folder"):
        profile = zm.measure(tmp_path)
    assert any("val" in text for text in profile.provenance.warnings)


def test_decoders_are_recorded_and_a_mixture_is_noted(tmp_path):
    one = zm.measure(put(tmp_path / "png"))
    two = zm.measure(put(tmp_path / "jpg", end=".jpg"))
    assert all(" " in name for name in one.provenance.decoders)
    both = one + two
    if set(one.provenance.decoders) != set(two.provenance.decoders):
        assert any("decoded by" in text for text in both.provenance.warnings)
    assert both + one
    assert sum(both.provenance.decoders.values()) == 12


# ---------------------------------------------------------------- real pictures


def expected_of(name):
    return json.loads((DATA / "truth.json").read_text())[name]


@pytest.mark.skipif(
    not (DATA / "truth.json").is_file(), reason="the data sets are not beside the repository"
)
@pytest.mark.parametrize(
    ("name", "workers"),
    [("cifar10-train-5k", 1), ("cifar10-train-5k", 2), ("photos", 1), ("photos", 2)],
)
def test_real_pictures_have_the_true_statistics(name, workers):
    """Every digit of truth.json, which was computed elsewhere; std to 1 ulp."""
    expected = expected_of(name)
    profile = zm.measure(DATA / name, workers=workers)
    assert expected["items"] == profile.provenance.items
    sums = profile.statistics.power_sums
    for j, channel in enumerate(expected["channels"]):
        assert (channel["n"], channel["sum"], channel["sum_sq"]) == (
            sums.n[j],
            sums.sums[j],
            sums.squares[j],
        )
        assert (channel["min"], channel["max"]) == (profile.min[j], profile.max[j])
        assert channel["mean"] == profile.mean[j]
        assert abs(channel["std"] - profile.std[j]) <= np.spacing(channel["std"])
        assert abs(channel["std_ddof1"] - profile.sample_std()[j]) <= np.spacing(
            channel["std_ddof1"]
        )
        np.testing.assert_allclose(
            profile.mean_of_item_stds[j], channel["mean_of_image_stds"], rtol=1e-13
        )


@pytest.mark.skipif(
    not (DATA / "photos").is_dir(), reason="the data sets are not beside the repository"
)
def test_real_photos_in_any_order_and_any_parts():
    files = [p for p in sorted((DATA / "photos").rglob("*.jpg")) if p.is_file()][::4]
    expected = zm.measure(files)
    random.Random(5).shuffle(files)
    shuffled = zm.measure(files, workers=2)
    assert same(expected, shuffled)
    assert same(expected, zm.measure(files[:9]) + zm.measure(files[9:]))
    assert expected - zm.measure(files[9:]) == zm.measure(files[:9])


# ---------------------------------------------------------------- safety of what is around


def test_measuring_changes_no_input():
    values = TABLE.copy()
    zm.measure(values, quantiles=True)
    assert (values == TABLE).all()
    readonly = TABLE.copy()
    readonly.flags.writeable = False
    assert zm.measure(readonly) == zm.measure(TABLE)


def test_many_threads_may_measure_at_once():
    with ThreadPoolExecutor(6) as pool:
        profiles = list(pool.map(lambda _: zm.measure(TABLE, workers=2), range(12)))
    assert same(*profiles)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's limit of memory")
@pytest.mark.parametrize("text", ["n c h w -> c", "n h w c -> c"])
def test_a_memory_map_larger_than_the_memory_allowed(tmp_path, text):
    """256 MB on disk, big-endian, within 128 MB of memory."""
    script = (
        "import resource, sys\n"
        "import numpy as np, zeromean as zm\n"
        "shape = (16, 4, 1000, 1000) if 'n c' in sys.argv[2] else (16, 1000, 1000, 4)\n"
        "x = np.lib.format.open_memmap(sys.argv[1], 'w+', '>f4', shape)\n"
        "x[0] = 3\n"
        "x.flush()\n"
        "del x\n"
        "zm.measure(np.ones((2, 4, 3, 4), '>f4'), sys.argv[2], workers=2)\n"
        "held = int(open('/proc/self/status').read().split('VmData:')[1].split()[0]) << 10\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (held + (128 << 20),) * 2)\n"
        "try:\n"
        "    np.load(sys.argv[1]).sum()\n"
        "    sys.exit('the limit does not limit')\n"
        "except MemoryError:\n"
        "    pass\n"
        "p = zm.measure(sys.argv[1], sys.argv[2], workers=2)\n"
        "assert (p.mean == 3 / 16).all(), p\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.npy"), text]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (tmp_path / "x.npy").unlink()


def test_rounding_helper_of_these_tests_agrees_with_numpy():
    assert rounded(truth(np.array([1.0, 2.0])).sum / 2) == np.mean([1.0, 2.0])


def test_generators_may_fill_one_buffer_again_and_again():
    """As loaders do that save memory: each batch must be taken before the next one is made."""
    data = np.random.default_rng(8).normal(size=(6, 5, 3))

    def batches():
        buffer = np.empty((5, 3))
        for part in data:
            buffer[:] = part
            yield buffer

    assert zm.measure(batches(), "n d -> d") == zm.measure(data.reshape(-1, 3))


def test_what_is_said_of_the_data_is_held_against_it():
    pixels = np.arange(12, dtype=np.uint8).reshape(4, 3) * 20
    with pytest.raises(UnitError, match=r"from 0 to 220, beyond the range 0..1 that was given"):
        zm.measure(pixels, range=(0, 1))
    assert zm.measure(pixels.astype(np.uint16), range=(0, 4095)).units.range == (0, 4095)
    with pytest.warns(ZeromeanWarning, match="beyond the range 0..1"):
        zm.measure(pixels.astype(np.float32) / 200, range=(0, 1))
    with pytest.raises(UnitError, match=r"names 1 channel\(s\), but 3 were measured"):
        zm.measure(pixels, channels="R")


def test_floats_in_0_1_under_a_wider_range_are_doubted():
    """Divided by that range they would become hardly anything."""
    x = np.random.default_rng(0).random((50, 3), dtype=np.float32)
    with pytest.warns(zm.ZeromeanWarning, match=r"looks like 0..1 and not like 0..255"):
        zm.measure(x, range=(0, 255))
    zm.measure(x, range=(0, 1))
    zm.measure(x * 255, range=(0, 255))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_a_memory_map_does_not_stay_in_memory(tmp_path):
    """What has been measured of a file is given back: 300 MB take 200 at most."""
    path = tmp_path / "x.npy"
    held = np.lib.format.open_memmap(path, "w+", np.uint8, (300 << 10, 1 << 10))
    held[::1000] = 7
    held.flush()
    code = (
        "import sys, zeromean as zm\n"
        "def now(name):\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith(name))\n"
        "zm.measure([1, 2])\n"
        "before = now('VmRSS')\n"
        "profile = zm.measure(sys.argv[1], 'n d ->', workers=2)\n"
        "print((now('VmHWM') - before) // 1024, profile.count, profile.max)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, count, highest = result.stdout.split()
    assert int(grown) <= 200
    assert (int(count), int(highest)) == (300 << 20, 7)
