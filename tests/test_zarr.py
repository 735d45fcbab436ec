"""Zarr 2 and 3: every codec and layout gives the bits of the array; what is damaged is named."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import block_files
import zeromean as zm
from strategies import numbers, tempers
from zeromean.errors import PatternError, SkippedWarning, SourceError, ZeromeanWarning
from zeromean.sources import cutting
from zeromean.sources.opening import Options, open_source
from zeromean.sources.recognition import recognized
from zeromean.sources.zarr import ZarrReading

zarr = pytest.importorskip("zarr")

DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint64")
FLOATS = ("float16", "float32", "float64")


def state(profile):
    """The saved statistics."""
    return json.loads(profile.to_json())["statistics"]


# ---------------------------------------------------------------- the same bits


@pytest.mark.filterwarnings("ignore::zeromean.ZeromeanWarning")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES + FLOATS)
def test_every_dtype(tmp_path, dtype, version):
    """Each number format in both versions, whole and in parts."""
    for temper in tempers(dtype):
        array = numbers(dtype, temper, (30, 7), 2)
        path = block_files.zarr(array, tmp_path / f"{temper}.zarr", (4, 3), version)
        with np.errstate(all="ignore"):
            assert zm.measure(path, "n d -> d") == zm.measure(array, "n d -> d")


def _codecs():
    """Version and options of every codec that comes with the package."""
    from zarr import codecs

    yield 3, {"compressors": None}
    yield 3, {"compressors": codecs.GzipCodec()}
    yield 3, {"compressors": codecs.ZstdCodec(level=5)}
    yield 3, {"compressors": codecs.BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=4)}
    yield 3, {"serializer": codecs.BytesCodec(endian="big")}
    yield 3, {"filters": [codecs.TransposeCodec(order=(1, 0))]}
    yield 3, {"compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()]}
    yield 3, {"shards": (8, 6)}
    yield 3, {"shards": (16, 3), "compressors": codecs.GzipCodec()}
    yield 3, {"chunk_key_encoding": {"name": "v2", "separator": "."}}
    from numcodecs import BZ2, LZ4, Blosc, Delta, Zlib

    yield 2, {"compressors": None}
    yield 2, {"compressors": Zlib()}
    yield 2, {"compressors": BZ2()}
    yield 2, {"compressors": LZ4()}
    yield 2, {"compressors": Blosc(cname="zstd", clevel=3)}
    yield 2, {"compressors": Zlib(), "filters": [Delta(dtype="f4")]}
    yield 2, {"chunk_key_encoding": {"name": "v2", "separator": "/"}}


@pytest.mark.parametrize("number", range(17))
def test_every_codec(tmp_path, number):
    """Packed, sharded, transposed, big endian: as the library reads it."""
    version, options = list(_codecs())[number]
    array = np.random.default_rng(0).normal(size=(37, 6)).astype("float32")
    if "filters" in options and version == 2:
        array = np.round(array).cumsum(0).astype("float32")
    path = block_files.zarr(array, tmp_path / "x.zarr", (4, 3), version, **options)
    held = zarr.open(str(path), mode="r")["x"][:]
    assert zm.measure(path) == zm.measure(held)
    assert zm.measure(path, limit=5) == zm.measure(held, limit=5)


def test_big_endian_and_fortran_order(tmp_path):
    """Version 2 has them in its metadata."""
    array = block_files.integers("int16", (20, 6)).astype(">i2")
    path = block_files.zarr(array, tmp_path / "x.zarr", (4, 3), 2, order="F")
    assert zm.measure(path) == zm.measure(array)


@given(
    shape=st.tuples(st.integers(0, 30), st.integers(1, 6), st.integers(1, 6)),
    chunk=st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6)),
    factor=st.integers(1, 3),
    pattern=st.sampled_from(("n h w -> w", "n h w -> h w", "n h w ->", "n h w -> n")),
    limit=st.one_of(st.none(), st.integers(1, 9)),
)
@pytest.mark.filterwarnings("ignore:.*each chunk was read")
def test_any_chunks_and_shards(tmp_path_factory, shape, chunk, factor, pattern, limit):
    """Whatever the chunks, shards and limit: the bits of the array itself."""
    array = np.random.default_rng(0).normal(size=shape).astype("float32")
    folder = tmp_path_factory.mktemp("any")
    more = {} if factor == 1 else {"shards": tuple(factor * n for n in chunk)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_WANTED", 300)
        patch.setattr(cutting, "_LARGE", 600)
        patch.setattr(cutting, "_MOST", 1200)
        path = block_files.zarr(array, folder / "x.zarr", chunk, **more)
        found = zm.measure(path, pattern, limit=limit)
    assert found == zm.measure(array, pattern, limit=limit)
    shutil.rmtree(folder)


@pytest.mark.parametrize("version", [2, 3])
def test_chunks_that_are_not_there_are_the_fill_value(tmp_path, version):
    """Never written, or deleted since: Zarr says that they are the fill value."""
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=version)
    held = group.create_array("x", shape=(50, 4), chunks=(5, 4), dtype="i2", fill_value=-3)
    held[10:20] = 7
    expected = np.full((50, 4), -3, "i2")
    expected[10:20] = 7
    assert zm.measure(tmp_path / "x.zarr") == zm.measure(expected)
    for file in (tmp_path / "x.zarr" / "x").rglob("*"):
        if file.is_file() and not file.name.startswith((".z", "zarr")):
            file.unlink()
    expected[:] = -3
    assert zm.measure(tmp_path / "x.zarr") == zm.measure(expected)


# ---------------------------------------------------------------- which array


@pytest.fixture(params=[2, 3])
def store(tmp_path, request):
    """A group with pictures, labels in a group below, and a number."""
    pictures = block_files.integers("uint8", (40, 6, 5, 3))
    path = tmp_path / "data.zarr"
    root = zarr.open_group(str(path), mode="w", zarr_format=request.param)
    root.create_array("train/images", data=pictures, chunks=(7, 6, 5, 3))
    root.create_array("labels", data=np.arange(40))
    root.create_array("one", data=np.array(3.5))
    root.create_array("complex", data=np.zeros(3, "c8"))
    return path, pictures


def test_the_array_is_named_or_the_only_one(store):
    path, pictures = store
    pattern, expected = "n h w c -> c", zm.measure(pictures, "n h w c -> c")
    assert recognized(str(path)) == "zarr"
    assert zm.measure(f"{path}:train/images", pattern) == expected
    assert zm.measure(f"{path}:/train/images", pattern) == expected
    assert zm.measure(path, pattern, key="train") == expected
    assert zm.measure(path / "train", pattern) == expected
    assert zm.measure(path / "train" / "images", pattern) == expected
    sources = zm.measure(f"{path}:train", pattern).provenance.sources
    assert sources == ("data.zarr:train/images",)
    with pytest.raises(SourceError) as raised:
        zm.measure(path, pattern)
    assert str(raised.value) == (
        "data.zarr holds 2 arrays of numbers; name one, such as data.zarr:train/images\n"
        "  labels        (40,) int64\n"
        "  train/images  (40, 6, 5, 3) uint8"
    )
    with pytest.raises(SourceError, match=r"data.zarr:one holds a single number, not an array"):
        zm.measure(path, key="one")
    with pytest.raises(SourceError, match=r"data.zarr:complex holds complex numbers, not an arr"):
        zm.measure(path, key="complex")
    with pytest.raises(SourceError, match=r"no array 'train/image'; did you mean data.zarr:train/"):
        zm.measure(path, key="train/image")
    with pytest.raises(SourceError, match=r"images is an array and holds no other, so none is 'x'"):
        zm.measure(path / "train" / "images", pattern, key="x")
    with pytest.raises(PatternError, match=r"^data.zarr:train/images: an array of shape"):
        zm.measure(path, key="train")


def test_open_arrays_and_groups(store):
    """What the caller has open, also in memory only, also in another process."""
    path, pictures = store
    pattern, expected = "n h w c -> c", zm.measure(pictures, "n h w c -> c")
    root = zarr.open(str(path), mode="r")
    memory = zarr.create_array(zarr.storage.MemoryStore(), data=pictures, chunks=(9, 6, 5, 3))
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        for source in (root["train/images"], root["train"], memory):
            assert zm.measure(source, pattern) == expected
            assert zm.measure(source, pattern, executor=pool) == expected
    assert zm.measure(root, pattern, key="train/images") == expected
    with pytest.raises(SourceError, match="holds 2 arrays of numbers"):
        zm.measure(root, pattern)


def test_other_files_in_a_store_are_passed_over(store):
    path, pictures = store
    (path / "notes.txt").write_text("mine")
    (path / "empty").mkdir()
    assert zm.measure(path, "n h w c -> c", key="train") == zm.measure(pictures, "n h w c -> c")
    with pytest.raises(SourceError, match="holds 2 arrays of numbers"):
        zm.measure(path)


def test_several_stores_are_one_source(tmp_path):
    """In the order given; one that is broken is skipped by name."""
    arrays = [block_files.integers("uint8", (n, 3), n) for n in (5, 8, 2)]
    for i, array in enumerate(arrays):
        block_files.zarr(array, tmp_path / f"{i}.zarr", (2, 3))
    assert zm.measure(str(tmp_path / "*.zarr")) == zm.measure(np.concatenate(arrays))
    (tmp_path / "1.zarr" / "x" / "zarr.json").write_text("{")
    with pytest.warns(SkippedWarning, match=r"1.zarr: cannot be read: Expecting property name"):
        profile = zm.measure(str(tmp_path / "*.zarr"))
    assert profile == zm.measure(np.concatenate([arrays[0], arrays[2]]))


# ---------------------------------------------------------------- what xarray writes


def test_variables_of_xarray_are_unpacked(tmp_path):
    """Scale, offset and fill value as `xarray.open_zarr` applies them; coordinates are no data."""
    xarray = pytest.importorskip("xarray")
    rng = np.random.default_rng(0)
    values = 280 + 9 * rng.normal(size=(30, 4, 5))
    values[3, 1] = np.nan
    dims = ("time", "lat", "lon")
    dataset = xarray.Dataset(
        {"t": (dims, values)},
        {"lat": np.arange(4.0), "lon": np.arange(5.0), "time": np.arange(30)},
    )
    packed = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32768}
    for version in (2, 3):
        path = tmp_path / f"{version}.zarr"
        kind = {"zarr_format": version, "consolidated": False}
        dataset.to_zarr(path, encoding={"t": packed}, **kind)
        with xarray.open_zarr(path, chunks=None, consolidated=False) as opened:
            expected = opened["t"].values
            assert zm.measure(opened["t"], "n y x -> y x") == zm.measure(expected, "n y x -> y x")
        profile = zm.measure(path, "time lat lon -> lat lon")
        assert profile == zm.measure(expected, "time lat lon -> lat lon")
        assert profile.nan_count.sum() == 5
        assert profile.provenance.notes == {
            "scale_factor 0.01 and add_offset 273.15 applied": 30,
            "-32768 stands for no data": 30,
        }
        with pytest.raises(PatternError, match=r"'time lat lon -> lat lon' for one at each place"):
            zm.measure(path)
        with pytest.raises(PatternError, match="in the order time lat lon"):
            zm.measure(path, "lat lon time -> lat")
        floats = tmp_path / f"floats{version}.zarr"
        dataset.to_zarr(floats, **kind)
        assert state(zm.measure(floats, "n y x ->")) == state(zm.measure(values, "n y x ->"))


# ---------------------------------------------------------------- damage


def test_damaged_chunks_are_named_and_the_rest_counts(tmp_path, monkeypatch):
    """Cut off, overwritten, with a wrong checksum: one block is lost, by name."""
    monkeypatch.setattr(cutting, "_WANTED", 40)
    array = block_files.integers("int32", (50, 2))
    from zarr.codecs import Crc32cCodec, GzipCodec

    for i, options in enumerate(({}, {"compressors": None}, {"compressors": [GzipCodec()]},
                                 {"compressors": [Crc32cCodec()]})):  # fmt: skip
        path = block_files.zarr(array, tmp_path / f"{i}.zarr", (5, 2), **options)
        chunk = path / "x" / "c" / "4" / "0"
        good = chunk.read_bytes()
        damages = [good[: len(good) // 2], b"", b"\xff" * len(good)]
        for damage in damages if i != 1 else damages[:1]:
            chunk.write_bytes(damage)
            with pytest.warns(SkippedWarning, match=r"zarr:x\[20:25\]: cannot be read: "):
                profile = zm.measure(path)
            assert profile == zm.measure(np.concatenate([array[:20], array[25:]]))
            assert profile.provenance.items == 45


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", '{"zarr_format": 3}', '{"zarr_format": 7, "node_type": "array"}',
     '{"zarr_format": 3, "node_type": "array"}', '{"shape": [3]}'],
)  # fmt: skip
def test_damaged_metadata_is_an_error_with_the_name(tmp_path, text):
    path = block_files.zarr(np.zeros((4, 2)), tmp_path / "x.zarr", (2, 2))
    (path / "x" / "zarr.json").write_text(text)
    for source in (path, path / "x", f"{path}:x"):
        with pytest.raises(SourceError, match=r"x(\.zarr)?"):
            zm.measure(source)


def test_a_codec_that_is_not_there_is_named(tmp_path):
    path = block_files.zarr(np.zeros((4, 2)), tmp_path / "x.zarr", (2, 2))
    document = json.loads((path / "x" / "zarr.json").read_text())
    document["codecs"].append({"name": "mine", "configuration": {}})
    (path / "x" / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match=r"x.zarr(?s:.)*mine"):
        zm.measure(f"{path}:x")


def test_what_is_no_store(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(SourceError, match=r"^a.zarr holds no Zarr array or group$"):
        zm.measure(tmp_path / "a.zarr", format="zarr")
    with pytest.raises(SourceError, match=r"b.zarr: there is no such file"):
        zm.measure(tmp_path / "b.zarr", format="zarr")


# ---------------------------------------------------------------- stamps, zip, remote


@pytest.mark.parametrize("options", [{}, {"shards": (10, 2)}])
def test_the_stamp_of_a_block_is_that_of_its_chunks(tmp_path, monkeypatch, options):
    """A chunk that is written, deleted or touched changes its own block; metadata changes all."""
    monkeypatch.setattr(cutting, "_WANTED", 80)
    array = block_files.integers("int32", (50, 2))
    path = block_files.zarr(array, tmp_path / "x.zarr", (5, 2), **options)

    def stamps():
        (opened,) = open_source(path, None, Options())
        return [entry.stamp for entry in opened.entries()]

    before = stamps()
    assert len(before) == 5
    chunk = path / "x" / "c" / ("2" if options else "4") / "0"
    os.utime(chunk, ns=(1, 1))
    changed = stamps()
    assert [a == b for a, b in zip(before, changed, strict=True)] == [True, True, False, True, True]
    chunk.unlink()
    gone = stamps()
    assert gone[2] != changed[2]
    assert gone[:2] == before[:2]
    os.utime(path / "x" / "zarr.json", ns=(5, 5))
    assert not set(stamps()) & set(gone)


def test_a_ledger_reads_only_the_blocks_that_have_changed(tmp_path, monkeypatch):
    """One chunk is written over: its block alone is measured again, to the bits of a fresh run."""
    monkeypatch.setattr(cutting, "_WANTED", 80)
    array = block_files.integers("uint8", (100, 4))
    path = block_files.zarr(array, tmp_path / "x.zarr", (10, 4))
    time.sleep(0.05)  # what was changed a moment ago is not trusted
    real, read = ZarrReading.__call__, []

    def noted(self):
        read.append(self.box[0])
        return real(self)

    monkeypatch.setattr(ZarrReading, "__call__", noted)
    assert zm.measure(path, ledger=tmp_path / "l") == zm.measure(array)
    assert len(read) == 5
    zarr.open(str(path), mode="r+")["x"][30:35] = 9
    array[30:35] = 9
    del read[:]
    assert zm.measure(path, ledger=tmp_path / "l") == zm.measure(array)
    assert read == [(20, 40)]


def test_zip_files_are_stores(tmp_path):
    """Known by what is in them; the file is the stamp; another process reads them too."""
    array = block_files.integers("uint8", (50, 4))
    path = block_files.zarr(array, tmp_path / "x.zip", (10, 4))
    assert recognized(str(path)) == "zarr"
    assert zm.measure(path) == zm.measure(f"{path}:x") == zm.measure(array)
    (opened,) = open_source(path, None, Options())
    (entry,) = opened.entries()
    assert entry.name == "x.zip:x"
    assert entry.stamp[:2] == (path.stat().st_size, path.stat().st_mtime_ns)
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        assert zm.measure(path, executor=pool) == zm.measure(array)


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_remote_stores(tmp_path):
    """By URL: the bits of the local one."""
    fsspec = pytest.importorskip("fsspec")
    array = block_files.integers("uint8", (50, 4))
    path = block_files.zarr(array, tmp_path / "x.zarr", (10, 4))
    memory = fsspec.filesystem("memory")
    memory.put(str(path), "/blocks/x.zarr", recursive=True)
    try:
        assert zm.measure("memory://blocks/x.zarr") == zm.measure(array)
        assert zm.measure("memory://blocks/x.zarr:x", limit=3) == zm.measure(array, limit=3)
    finally:
        memory.rm("/blocks", recursive=True)
    assert issubclass(SkippedWarning, ZeromeanWarning)
