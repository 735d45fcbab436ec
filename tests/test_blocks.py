"""Arrays in blocks: every value once, whole chunks, bounded memory, the bits of the array."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import block_files
import zeromean as zm
from zeromean.errors import PatternError, SkippedWarning, SourceError, ZeromeanWarning
from zeromean.pattern import Pattern
from zeromean.sources import arrays, cutting
from zeromean.sources.arrays import ArraySource
from zeromean.sources.block_sources import Blocks, FileBlocks
from zeromean.sources.blocks import Unreadable, Values, picked, slices
from zeromean.sources.contents import Found, labeled_paths, one_of, what_it_holds
from zeromean.sources.cutting import Layout, cut, free_axes, some
from zeromean.sources.decode import DecodeError
from zeromean.sources.opening import Options, open_source

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-train-5k"
TRUTH = CIFAR.parent / "truth.json"
PATTERNS = ("n h w c -> c", "n h w c ->", "n h w c -> h w c", "n h w c -> n", "n h w c -> c h")


@pytest.fixture
def small(monkeypatch):
    """Limits so small that little arrays are cut in every way."""
    _shrink(monkeypatch)


@dataclass(frozen=True)
class Stored:
    """An array in memory, read in blocks, that notes which chunks were unpacked for it."""

    array: np.ndarray
    layout: Layout
    name: str = "stored"
    dims: tuple = ()
    notes: tuple = ()
    warnings: tuple = ()
    damaged: tuple = ()

    def reading(self, box, rows):
        return StoredReading(self, box, rows)

    def stamp(self, box):
        return (*box[0], 7)


@dataclass(frozen=True)
class StoredReading:
    stored: Stored
    box: tuple
    rows: tuple | None

    def __call__(self):
        if self.box[0] in self.stored.damaged:
            raise DecodeError("a bit of it has changed")
        return Values(picked(self.stored.array[slices(self.box)], self.rows))

    def stamp(self):
        return self.stored.stamp(self.box)


def lengths_of(chunks, length):
    """The lengths of all chunks along an axis."""
    if isinstance(chunks, tuple):
        return chunks
    return tuple(min(chunks, length - begin) for begin in range(0, length, chunks))


@st.composite
def layouts(draw):
    """Shapes of two to four axes, with regular chunks, chunks of unequal lengths, or none."""
    shape = tuple(draw(st.lists(st.integers(0, 12), min_size=2, max_size=4)))
    kind = draw(st.sampled_from(("none", "regular", "unequal")))
    chunks = None
    if kind == "regular":
        chunks = tuple(draw(st.integers(1, max(1, n))) for n in shape)
    if kind == "unequal":
        chunks = tuple(_unequal(draw, n) for n in shape)
    return Layout(shape, np.dtype(draw(st.sampled_from(("uint8", "float32", "float64")))), chunks)


def _unequal(draw, length):
    parts = []
    while sum(parts) < length:
        parts.append(draw(st.integers(1, length - sum(parts))))
    return tuple(parts) or (0,)


@st.composite
def patterns(draw, n_axes):
    """Any plain pattern of so many axes."""
    names = "nabcd"[:n_axes]
    kept = draw(st.lists(st.sampled_from(names), unique=True))
    return Pattern.parse(f"{' '.join(names)} -> {' '.join(kept)}")


# ---------------------------------------------------------------- cutting


@given(data=st.data())
def test_boxes_hold_every_value_once(data):
    """They tile the array, whatever its shape and chunks; axes that are kept are never cut."""
    layout = data.draw(layouts())
    pattern = data.draw(patterns(len(layout.shape)))
    whole_items = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        whole = cut(layout, pattern, whole_items=whole_items)
    seen = np.zeros(layout.shape, int)
    for i in range(len(whole)):
        seen[slices(whole[i])] += 1
    assert (seen == 1).all()
    lawful = [0, *([] if whole_items else free_axes(pattern, len(layout.shape)))]
    if pattern.keeps_first:
        lawful.remove(0)
    cut_axes = [axis for axis, begins in enumerate(whole.begins) if len(begins) > 1]
    assert set(cut_axes) <= set(lawful)


@given(data=st.data())
def test_chunks_are_cut_only_where_nothing_else_helps(data):
    """Boxes end where chunks end; else the chunks of one box are too large to be held."""
    layout = data.draw(layouts())
    pattern = data.draw(patterns(len(layout.shape)))
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        whole = cut(layout, pattern, whole_items=False)
    if layout.chunks is None:
        return
    for axis, begins in enumerate(whole.begins):
        ends = {0, *np.cumsum(lengths_of(layout.chunks[axis], layout.shape[axis])).tolist()}
        if not set(begins) <= ends:
            assert axis == 0
            assert whole.passes > 1
    if whole.passes > 1:
        row = math.prod(layout.shape[1:]) * layout.chunk(0) * layout.dtype.itemsize
        assert row > 900


@given(data=st.data())
def test_boxes_are_small_where_that_is_possible(data):
    """Above the limit only for one chunk, for one entry, or for what the pattern keeps."""
    layout = data.draw(layouts())
    pattern = data.draw(patterns(len(layout.shape)))
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        whole = cut(layout, pattern, whole_items=False)
    if whole.nbytes <= 900 or pattern.keeps_first:
        return
    free = free_axes(pattern, len(layout.shape))
    least = [n if axis not in free else layout.chunk(axis) for axis, n in enumerate(layout.shape)]
    least[0] = 1
    one_chunk = math.prod(layout.chunk(axis) for axis in range(len(layout.shape)))
    assert whole.nbytes <= layout.dtype.itemsize * max(math.prod(least), one_chunk)


def _shrink(patch):
    for name, value in (("_WANTED", 200), ("_LARGE", 400), ("_MOST", 900), ("_NEAR", 30)):
        patch.setattr(cutting, name, value)


@given(data=st.data())
def test_any_cut_gives_the_bits_of_the_whole_array(data):
    """Measured block by block == measured as one array, under any pattern and any limit."""
    layout = data.draw(layouts())
    pattern = data.draw(patterns(len(layout.shape)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    array = (rng.normal(size=layout.shape) * 90).astype(layout.dtype)
    limit = data.draw(st.one_of(st.none(), st.integers(1, 14)))
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        blocks = Blocks([Stored(array, layout)], pattern, "stored", limit)
        expected = ArraySource(array, pattern, limit=limit)
        assert (blocks.n_items, blocks.n_whole) == (expected.n_items, expected.n_whole)
        assert sum(shard.n_items for shard in blocks.shards()) == blocks.n_items
        assert measured(blocks, pattern) == measured(expected, pattern)


def measured(source, pattern):
    """The statistics of a source."""
    from zeromean.accumulation import Plan, combine, measure_shard

    plan = Plan(pattern)
    whole = combine((measure_shard(shard, plan) for shard in source.shards()), pattern)
    assert whole.record.items == source.n_items
    ((_, partial),) = whole.partials.items()
    return partial.profile(plan, "", whole.record)


def test_groups_of_an_axis_are_never_parted(small):
    """``(t n)`` with t=6 belongs together, whatever the chunks are."""
    array = np.random.default_rng(0).normal(size=(48, 5))
    for chunks in ((4, 5), (7, 2), None):
        for pattern in (Pattern.parse("(n t) d -> t d", t=6), Pattern.parse("n (g d) -> g", g=5)):
            blocks = Blocks([Stored(array, Layout(array.shape, array.dtype, chunks))], pattern, "x")
            assert len(list(blocks.shards())) > 0
            assert measured(blocks, pattern) == zm.measure(array, pattern)


def test_each_chunk_is_read_once_for_channels_that_are_chunks(small):
    """(all, 1, h, w) chunks and a pattern that keeps only pixels: boxes are whole chunks."""
    layout = Layout((5, 3, 4, 6), np.dtype("float32"), (5, 1, 4, 6))
    whole = cut(layout, Pattern.parse("n c h w -> h w"), whole_items=False)
    assert whole.passes == 1
    assert [len(begins) for begins in whole.begins] == [1, 3, 1, 1]
    items = cut(layout, Pattern.parse("n c h w -> h w"), whole_items=True)
    assert [len(begins) for begins in items.begins] == [2, 1, 1, 1]
    assert items.passes == 2


def test_a_chunk_that_is_read_many_times_is_a_warning(small):
    """When the pattern keeps what the chunks cut, they are read in slabs, and that is said."""
    array = np.random.default_rng(0).normal(size=(100, 4, 4))
    blocks = Blocks(
        [Stored(array, Layout(array.shape, array.dtype, (100, 1, 1)))],
        Pattern.parse("t y x -> y x"),
        "x",
    )
    assert measured(blocks, blocks.pattern) == zm.measure(array, "t y x -> y x")
    record = blocks.complete(zm.measure(array, "t y x -> y x").provenance)
    assert "each chunk was read 15 times" in record.warnings[0]
    assert blocks.small_files, "one large block at a time"


def test_a_quick_look_reads_only_the_chunks_it_needs(small):
    """Two entries of one chunk are one box; entries far apart in bare memory are two."""
    layout = Layout((100, 3), np.dtype("float64"), (10, 3))
    pattern = Pattern.parse("n d -> d")
    starts = np.array([3, 5, 18, 77])
    found = some(cut(layout, pattern, whole_items=False), layout, starts, 1)
    assert [s.box[0] for s in found] == [(3, 6), (18, 19), (77, 78)]
    assert [s.rows for s in found] == [(0, 2), None, None]
    bare = Layout((100, 3), np.dtype("float64"))
    found = some(cut(bare, pattern, whole_items=False), bare, starts, 1)
    assert [s.box[0] for s in found] == [(3, 4), (5, 6), (18, 19), (77, 78)]


def test_names_of_blocks_do_not_depend_on_the_machine():
    """Each has its own, with where it lies; a whole array has its own name."""
    layout = Layout((4000, 2000), np.dtype("float32"), (100, 2000))
    blocks = FileBlocks([Stored(None, layout)], Pattern.parse("n d -> d"), "x")
    names = [entry.name for entry in blocks.entries()]
    assert names[:2] == ["stored[0:1000]", "stored[1000:2000]"]
    assert len(set(names)) == len(names) == 4
    assert [entry.stamp for entry in blocks.entries()][1] == (1000, 2000, 7)
    sides = Layout((2, 5000, 5000), np.dtype("float32"), (2, 5000, 1000))
    blocks = FileBlocks([Stored(None, sides)], Pattern.parse("n h w ->"), "x")
    assert [entry.name for entry in blocks.entries()][:2] == [
        "stored[0:2, :, 0:1000]",
        "stored[0:2, :, 1000:2000]",
    ]
    one = FileBlocks([Stored(None, Layout((3, 2), np.dtype("u1")))], Pattern.parse("n d -> d"), "x")
    assert [entry.name for entry in one.entries()] == ["stored"]


def test_a_choice_of_blocks_in_any_order(small):
    """What a ledger or a sample asks for is what it gets."""
    array = np.random.default_rng(1).normal(size=(90, 7))
    pattern = Pattern.parse("n d -> d")
    blocks = FileBlocks([Stored(array, Layout(array.shape, array.dtype, (5, 7)))], pattern, "x")
    names = [entry.name for entry in blocks.entries()]
    order = [4, 0, 11]
    items = [item for shard in blocks.shards_of(order) for item in shard.items()]
    assert [item.name for item in items] == [names[i] for i in order]
    assert (items[0].array == array[20:25]).all()
    assert items[0].stamp == (20, 25, 7)
    (shard,) = blocks.shards_of([3, 4])
    assert [s.n_items for s in shard.split()] == [5, 5]
    copied = pickle.loads(pickle.dumps(shard))
    assert (next(copied.items()).array == next(shard.items()).array).all()


def test_what_cannot_be_read_is_named_and_the_rest_counts(small):
    """A damaged block is skipped with its name, and every entry is used or skipped."""
    array = np.arange(300.0).reshape(50, 6)
    layout = Layout(array.shape, array.dtype, (4, 6))
    source = Blocks([Stored(array, layout, damaged=((4, 8),))], Pattern.parse("n d -> d"), "x")
    items = [item for shard in source.shards() for item in shard.items()]
    (broken,) = [item for item in items if item.array is None]
    assert (broken.name, broken.reason) == ("stored[4:8]", "a bit of it has changed")
    assert not broken.passing
    assert sum(item.count for item in items) == 50


def test_failures_that_may_pass_are_marked(small):
    """No memory and a changed file are tried again; a library's own complaint is damage."""
    cases = (
        (MemoryError(), "takes more memory to read than there is", True),
        (FileNotFoundError(2, "No such file"), "vanished before it was read", True),
        (PermissionError(13, "Permission denied"), "permission denied", True),
        (OSError(5, "Input/output error"), "cannot be read: [Errno 5] Input/output error", True),
        (RuntimeError("Zstd:\n bad"), "cannot be read: Zstd: bad", False),
        (ValueError(), "cannot be read: ValueError", False),
    )
    for error, reason, passing in cases:
        item = next(_shard_of(_Failing(error)).items())
        assert (item.array, item.reason, item.passing) == (None, reason, passing)
    item = next(_shard_of(_Changing([1, 2])).items())
    assert (item.reason, item.passing) == ("changed while it was read", True)


def _shard_of(reading):
    from zeromean.sources.blocks import BlockShard, Piece

    return BlockShard((Piece("x[0:1]", reading, 1),))


@dataclass
class _Failing:
    error: Exception

    def __call__(self):
        raise self.error

    def stamp(self):
        return ()


@dataclass
class _Changing:
    stamps: list

    def __call__(self):
        return Values(np.zeros(1))

    def stamp(self):
        return (self.stamps.pop(0),)


def test_labels_need_whole_rows(small):
    """Blocks that are cut along other axes are cut again along the first one alone."""
    array = np.random.default_rng(2).normal(size=(12, 30))
    layout = Layout(array.shape, array.dtype, (12, 3))
    source = Blocks([Stored(array, layout)], Pattern.parse("n d ->"), "x")
    assert any(item.n_items == 0 for shard in source.shards() for item in shard.items())
    source.cut_rows_only()
    items = [item for shard in source.shards() for item in shard.items()]
    assert all(item.n_items == len(item.array) for item in items)
    assert (np.concatenate([item.array for item in items]) == array).all()


# ---------------------------------------------------------------- axes and names


def test_an_array_without_its_first_axis_is_one_entry(small):
    """As for arrays in memory; its parts are cut along the axes of samples."""
    array = np.random.default_rng(3).normal(size=(40, 9, 2))
    layout = Layout(array.shape, array.dtype, (8, 9, 2))
    blocks = Blocks([Stored(array, layout)], Pattern.parse("n h w c -> c"), "x")
    items = [item for shard in blocks.shards() for item in shard.items()]
    assert len(items) > 1
    assert [item.count for item in items] == [1] + [0] * (len(items) - 1)
    assert items[1].name == "stored[8:16]"
    assert measured(blocks, blocks.pattern) == zm.measure(array, "n h w c -> c")
    (shard, *_) = blocks.shards()
    assert (next(pickle.loads(pickle.dumps(shard)).items()).array == items[0].array).all()


def test_axes_with_names_are_not_mixed_up():
    """The same names in another order are refused; other names are the caller's own."""
    layout = Layout((5, 2, 3), np.dtype("float32"))
    stored = Stored(np.zeros(layout.shape, "float32"), layout, dims=("time", "lat", "lon"))
    with pytest.raises(PatternError, match="has its axes in the order time lat lon, and the"):
        Blocks([stored], Pattern.parse("lat lon time -> time"), "x")
    assert Blocks([stored], Pattern.parse("time lat lon -> lat"), "x").n_items == 5
    assert Blocks([stored], Pattern.parse("n y x ->"), "x").n_items == 5
    with pytest.raises(PatternError, match="'time lat lon -> lat lon' for one at each place"):
        Blocks([stored], None, "x")
    odd = Stored(None, layout, dims=("2 m", "a-b", "c"))
    with pytest.raises(PatternError, match="'_2_m a_b c ->' for one number"):
        Blocks([odd], None, "x")


def test_misfits_name_the_array():
    layout = Layout((5, 2, 3), np.dtype("float32"))
    with pytest.raises(PatternError, match=r"^stored: pattern 'n d -> d' names 2 axes"):
        Blocks([Stored(None, layout)], Pattern.parse("n d -> d"), "x")
    with pytest.raises(PatternError, match=r"^stored: an array of shape \(5, 2, 3\) needs"):
        Blocks([Stored(None, layout)], None, "x")


NUMBERS = [
    Found("/images", (50, 4), np.dtype("u1")),
    Found("/train/labels", (50,), np.dtype("i8")),
    Found("/train/names", (50,), np.dtype("S4"), "text", True),
    Found("/time", (50,), np.dtype("i8"), "coordinates"),
]


def test_which_array():
    """The only one, the named one, the only one of a group; else all are listed."""
    assert one_of(NUMBERS[1:], "x.h5", "").name == "/train/labels"
    assert one_of(NUMBERS, "x.h5", "images").name == "/images"
    assert one_of(NUMBERS, "x.h5", "/images").name == "/images"
    assert one_of(NUMBERS, "x.h5", "train").name == "/train/labels"
    assert one_of(NUMBERS, "x.h5", "time").name == "/time", "coordinates, when they are named"
    with pytest.raises(SourceError) as raised:
        one_of(NUMBERS, "x.h5", "")
    assert str(raised.value) == (
        "x.h5 holds 2 arrays of numbers; name one, such as x.h5:/images\n"
        "  /images        (50, 4) uint8\n"
        "  /train/labels  (50,) int64"
    )
    with pytest.raises(SourceError, match=r"x.h5:/train/names holds text, not an array of numbers"):
        one_of(NUMBERS, "x.h5", "train/names")
    with pytest.raises(SourceError, match=r"no array 'image'; did you mean x.h5:/images"):
        one_of(NUMBERS, "x.h5", "image")
    with pytest.raises(SourceError, match=r"x.h5 holds no array 'what'; it holds\n  /images"):
        one_of(NUMBERS, "x.h5", "what")
    with pytest.raises(SourceError, match=r"x.h5 holds no array of numbers: /train/names holds te"):
        one_of(NUMBERS[2:3], "x.h5", "")
    with pytest.raises(SourceError, match=r"^x.h5 holds no array of numbers$"):
        one_of([], "x.h5", "")
    many = [Found(f"/a{i:02}", (i,), np.dtype("u1")) for i in range(30)]
    with pytest.raises(SourceError, match=r"such as x.h5:/a29(?s:.)*and 10 more$"):
        one_of(many, "x.h5", "")


def test_what_is_no_number_is_named():
    """Every kind that cannot be measured, in the words of people."""
    cases = {
        "c8": "complex numbers",
        "S3": "text",
        "U3": "text",
        "O": "objects, such as text or rows of unequal length",
        "M8[s]": "dates",
        "m8[s]": "spans of time",
        "V5": "raw bytes",
        "(2,)f4": "arrays as single values",
    }
    for dtype, words in cases.items():
        assert what_it_holds(np.dtype(dtype), (3,)) == words
    assert what_it_holds(np.dtype([("a", "f4"), ("b", "i4")]), (3,)) == "compound values (a, b)"
    assert what_it_holds(np.dtype("f4"), ()) == "a single number"
    if np.dtype("g").itemsize > 8:
        assert what_it_holds(np.dtype("g"), (3,)).startswith("numbers of 1")
    for dtype in ("?", "u1", "i8", "f2", "f4", ">f8"):
        assert what_it_holds(np.dtype(dtype), (3,)) == ""


def test_names_are_relative_to_the_folder_that_files_share(tmp_path, monkeypatch):
    for name in ("a/x.h5", "a/y.h5", "b/x.h5", "b1/x.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(*files):
        return [label for _, label in labeled_paths([str(tmp_path / file) for file in files])]

    assert names("a/x.h5") == ["x.h5"]
    assert names("a/x.h5", "a/y.h5") == ["x.h5", "y.h5"]
    assert names("b/x.h5", "b1/x.h5", "b/x.h5") == ["b/x.h5", "b1/x.h5"]
    monkeypatch.chdir(tmp_path / "a")
    assert labeled_paths(["x.h5"]) == [("x.h5", "x.h5")]
    with pytest.raises(SourceError, match=r"nothing.h5: there is no such file"):
        labeled_paths(["nothing.h5"])


def test_unreadable_files_count_once_and_stop_nothing(small):
    array = np.random.default_rng(4).normal(size=(10, 3))
    good = Stored(array, Layout(array.shape, array.dtype))
    source = FileBlocks([Unreadable("b.h5", "is cut off", (5, 6, 7)), good], None, "x")
    assert source.n_items == 11
    assert [(e.name, e.stamp) for e in source.entries()][-1] == ("b.h5", (5, 6, 7))
    items = [item for shard in source.shards() for item in shard.items()]
    assert [(i.name, i.reason) for i in items if i.array is None] == [("b.h5", "is cut off")]
    assert items[-1].stamp == (5, 6, 7)


# ---------------------------------------------------------------- every container, one profile


def cifar():
    """5 000 pictures as one array, and their files."""
    files = sorted(CIFAR.rglob("*.png"))
    if not files:
        pytest.skip("the CIFAR-10 pictures are not there")
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def containers(array, folder):
    """The same array in every container."""
    np.save(folder / "x.npy", array)
    classic = array.dtype.name in ("int8", "int16", "int32", "float32", "float64")
    chunk = (max(1, len(array) // 7), *array.shape[1:])
    part = (max(1, len(array) // 3), *(-(-n // 2) for n in array.shape[1:]))
    yield folder / "x.npy"
    yield block_files.hdf5(array, folder / "plain.h5")
    yield block_files.hdf5(array, folder / "gzip.h5", chunk, compression="gzip", shuffle=True)
    yield block_files.hdf5(array, folder / "lzf.h5", part, compression="lzf", fletcher32=True)
    yield block_files.zarr(array, folder / "v2.zarr", chunk, 2)
    yield block_files.zarr(array, folder / "v3.zarr", part)
    shards = tuple(2 * n for n in chunk)
    yield block_files.zarr(array, folder / "sharded.zarr", chunk, shards=shards)
    yield block_files.zarr(array, folder / "zip.zip", chunk)
    if array.dtype != bool:  # netCDF has none
        yield block_files.netcdf(
            array, folder / "4.nc", chunksizes=part, zlib=True, fill_value=False
        )
    if classic:
        yield block_files.netcdf(array, folder / "3.nc", "NETCDF3_CLASSIC", fill_value=False)
    yield block_files.dask(array, part)
    yield pytest.importorskip("xarray").DataArray(array)


def test_cifar_is_the_same_in_every_container(tmp_path):
    """Folder, .npy, HDF5, Zarr, netCDF, Dask, xarray: one profile, and the published sums."""
    array = cifar()
    pattern = "n h w c -> c"
    profiles = [zm.measure(source, pattern) for source in containers(array, tmp_path)]
    assert all(profile == profiles[0] for profile in profiles)
    assert len(profiles) == 11
    assert profiles[0].statistics == zm.measure(CIFAR).statistics
    assert {profile.provenance.items for profile in profiles} == {5000}
    truth = json.loads(TRUTH.read_text())["cifar10-train-5k"]["channels"]
    sums = profiles[0].statistics.power_sums
    assert sums.sums.tolist() == [channel["sum"] for channel in truth]
    assert sums.squares.tolist() == [channel["sum_sq"] for channel in truth]
    assert profiles[0].std.tolist() == [channel["std"] for channel in truth]


@pytest.mark.filterwarnings("ignore:.*each chunk was read")
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "bool", "int64"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_dtype_and_pattern_in_every_container(tmp_path, small, dtype, pattern):
    """Cut into the smallest blocks, each container gives the bits of the array."""
    rng = np.random.default_rng(5)
    array = (rng.normal(size=(23, 5, 4, 3)) * 100).astype(dtype)
    for source in containers(array, tmp_path):
        assert zm.measure(source, pattern) == zm.measure(array, pattern), source
        few = zm.measure(source, pattern, limit=6)
        assert few == zm.measure(array, pattern, limit=6), source


def test_quantiles_covariance_and_labels_in_blocks(tmp_path, small):
    """What else is measured in the same pass; labels follow the entries of the first axis."""
    rng = np.random.default_rng(6)
    array = rng.integers(0, 256, (60, 4), dtype=np.uint8)
    labels = rng.integers(0, 3, 60).tolist()
    expected = zm.measure(array, covariance=True)
    for source in containers(array, tmp_path):
        assert zm.measure(source, covariance=True) == expected
        assert (zm.measure(source, covariance=True).cov() == expected.cov()).all()
        assert zm.measure(source, by=labels) == zm.measure(array, by=labels)
        with pytest.raises(PatternError, match="59 labels"):
            zm.measure(source, by=labels[1:])
    floats = array.astype("float32")
    for source in containers(floats, tmp_path):
        assert zm.measure(source, quantiles=True).quantile_bounds(0.3)[0].tolist() == (
            zm.measure(floats, quantiles=True).quantile_bounds(0.3)[0].tolist()
        )
        assert (zm.robust(zm.measure(source), source).shift == zm.robust(zm.measure(floats), floats).shift).all()  # fmt: skip  # noqa: E501


def test_threads_and_processes_give_the_same_bits(tmp_path, small):
    """Shards are picklable, and read their own part in another process."""
    array = np.random.default_rng(7).normal(size=(50, 8)).astype("float32")
    expected = zm.measure(array)
    sources = list(containers(array, tmp_path))
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        for source in sources:
            assert zm.measure(source, workers=4) == expected
            assert zm.measure(source, executor=pool) == expected, source


def test_many_threads_measure_one_file_at_once(tmp_path, small):
    array = block_files.integers("uint8", (400, 6))
    path = block_files.hdf5(array, tmp_path / "x.h5", (9, 6), compression="gzip")
    store = block_files.zarr(array, tmp_path / "x.zarr", (9, 6))
    expected, found = zm.measure(array), []

    def run(source):
        found.append(zm.measure(source) == expected)

    threads = [threading.Thread(target=run, args=(s,)) for s in (path, store) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


# ---------------------------------------------------------------- memory

_CHILD = """
import sys
from pathlib import Path
import numpy as np
import zeromean as zm

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10

{opened}
zm.measure(np.zeros((4, 4), "float32"))
zm.measure(few, "n d -> d")
before = peak()
profile = zm.measure(source, "n d -> d")
print(peak() - before, profile.count[0], profile.mean[0])
"""


def child(opened):
    """Megabytes above what the libraries take, count and mean; in a process of its own."""
    code = _CHILD.format(opened=opened)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr
    used, count, mean = result.stdout.split()
    assert int(count) == 1 << 18
    assert float(mean) == 1.5
    return int(used)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["hdf5", "zarr", "dask"])
def test_a_gigabyte_takes_little_memory(tmp_path, kind):
    """1 GB of floats, in chunks that are packed: far less than 400 MB above the libraries."""
    few = block_files.integers("int16", (10, 1024)).astype("float32")
    path = tmp_path / f"x.{kind}"
    if kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        block_files.hdf5(few, tmp_path / "few.h5", (10, 1024), compression="gzip")
        packed = zlib.compress(np.full((1000, 1024), 1.5, "f4").tobytes(), 1)
        with h5py.File(path, "w") as file:
            more = {"chunks": (1000, 1024), "compression": "gzip"}
            held = file.create_dataset("x", (1 << 18, 1024), "f4", **more)
            for begin in range(0, 1 << 18, 1000):
                held.id.write_direct_chunk((begin, 0), packed)
        opened = f"few, source = {str(tmp_path / 'few.h5')!r}, {str(path)!r}"
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        block_files.zarr(few, tmp_path / "few.zarr", (10, 1024))
        group = zarr.open_group(str(path), mode="w")
        held = group.create_array("x", shape=(1 << 18, 1024), dtype="f4", chunks=(1000, 1024))
        for begin in range(0, 1 << 18, 4000):
            held[begin : begin + 4000] = 1.5
        opened = f"few, source = {str(tmp_path / 'few.zarr')!r}, {str(path)!r}"
    else:
        pytest.importorskip("dask.array")
        opened = (
            "import dask.array as da\nfew = da.ones((10, 1024), chunks=(5, 1024), dtype='f4')\n"
            "source = da.full((1 << 18, 1024), 0.5, chunks=(2000, 1024), dtype='f4') + 1"
        )
    used = child(opened)
    assert used < 250, f"{used} MB"


def test_a_file_that_claims_much_and_holds_nothing_reads_as_fill_values(tmp_path):
    """Chunks that were never written are the fill value, as the libraries read them."""
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (1 << 20, 16), "u1", chunks=(1 << 12, 16), fillvalue=7)
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    group.create_array("x", shape=(1 << 20, 16), dtype="u1", chunks=(1 << 12, 16), fill_value=7)
    for name in ("x.h5", "x.zarr"):
        profile = zm.measure(tmp_path / name)
        assert profile.count.tolist() == [1 << 20] * 16
        assert (profile.min == profile.max).all()
        assert profile.mean.tolist() == [7.0] * 16


def test_warnings_of_skipped_blocks_name_the_first(tmp_path):
    """One bad chunk in a file: a warning with its block, its entries left out, the rest exact."""
    h5py = pytest.importorskip("h5py")
    array = block_files.integers("uint8", (3 << 20, 8))
    path = block_files.hdf5(array, tmp_path / "x.h5", (1 << 18, 8), fletcher32=True)
    with h5py.File(path) as file:
        chunk = file["x"].id.get_chunk_info(5)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + 77] ^= 1
    path.write_bytes(data)
    with pytest.warns(SkippedWarning, match=r"x.h5:/x\[1048576:2097152\]: cannot be read: "):
        profile = zm.measure(path)
    assert profile == zm.measure(np.concatenate([array[: 1 << 20], array[2 << 20 :]]))
    assert profile.provenance.items == 2 << 20
    with pytest.raises(SourceError, match=r"x.h5:/x\[1048576:2097152\]: cannot be read"):
        zm.measure(path, strict=True)
    assert issubclass(SkippedWarning, ZeromeanWarning)


# ---------------------------------------------------------------- .npy files


@pytest.mark.parametrize("order", "CF")
def test_a_ledger_knows_the_stretches_of_an_npy_file(tmp_path, monkeypatch, order):
    """What was measured of a huge file before a run was stopped is not measured again."""
    monkeypatch.setattr(arrays, "_ENTRY_BYTES", 1000)
    array = np.random.default_rng(8).normal(size=(90, 7))
    np.save(tmp_path / "x.npy", np.asarray(array, order=order))
    expected = zm.measure(array)
    (opened,) = open_source(tmp_path / "x.npy", None, Options())
    names = [entry.name for entry in opened.entries()]
    assert names[:2] == ["x.npy[0:17]", "x.npy[17:34]"]
    assert names[-1] == "x.npy[85:90]"
    status = (tmp_path / "x.npy").stat()
    stamps = [entry.stamp for entry in opened.entries()]
    assert stamps[1] == (status.st_size, status.st_mtime_ns, status.st_ctime_ns, 17)
    items = [item for shard in opened.shards_of([2, 0]) for item in shard.items()]
    assert [item.name for item in items] == [names[2], names[0]]
    assert (items[0].array == array[34:51]).all()
    assert items[0].stamp == stamps[2]
    time.sleep(0.05)  # what was changed a moment ago is not trusted
    real, read = arrays.ArrayFile.shards_of, []

    def noted(self, chosen):
        read.append(list(chosen))
        return real(self, chosen)

    monkeypatch.setattr(arrays.ArrayFile, "shards_of", noted)
    for _ in range(2):
        assert zm.measure(tmp_path / "x.npy", ledger=tmp_path / "l") == expected
    assert read == [[0, 1, 2, 3, 4, 5], []]
    groups = zm.measure(tmp_path / "x.npy", "(n t) d -> t", t=6)
    assert groups == zm.measure(array, "(n t) d -> t", t=6)


def test_small_and_empty_npy_files_are_one_entry(tmp_path):
    for array in (np.arange(12.0).reshape(4, 3), np.zeros((0, 3))):
        np.save(tmp_path / "x.npy", array)
        (opened,) = open_source(tmp_path / "x.npy", None, Options())
        assert [entry.name for entry in opened.entries()] == ["x.npy"]
        (shard,) = opened.shards_of([0])
        assert shard.n_items == len(array)
        assert zm.measure(tmp_path / "x.npy") == zm.measure(array)
