"""HDF5: every way to store a data set gives the bits of the array; what is damaged is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import block_files
import zeromean as zm
from strategies import numbers, tempers
from zeromean.errors import PatternError, SkippedWarning, SourceError
from zeromean.sources import cutting, hdf5
from zeromean.sources.opening import Options, open_source
from zeromean.sources.recognition import recognized

h5py = pytest.importorskip("h5py")

DTYPES = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64"),
)
PACKED = (
    {},
    {"compression": "gzip"},
    {"compression": "lzf", "shuffle": True},
    {"fletcher32": True},
)


@pytest.fixture
def x(tmp_path):
    """A file with pictures, labels, and much that is no array of numbers."""
    pictures = block_files.integers("uint8", (40, 6, 5, 3))
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["train/images"] = pictures
        file["train/names"] = np.array([b"a", b"bb"])
        file["labels"] = np.arange(40)
        file["one"] = 3.5
        file["words"] = "hello"
        file["unequal"] = file.create_dataset("u", 2, h5py.vlen_dtype(np.int32))
        file["table"] = np.zeros(4, [("a", "f4"), ("b", "i2")])
        file["reference"] = np.array([file["labels"].ref], dtype=h5py.ref_dtype)
        file["complex"] = np.zeros(3, "c8")
        file["nothing"] = h5py.Empty("f4")
        file["opaque"] = np.zeros(3, "V7")
        file["vectors"] = np.zeros(3, np.dtype([("v", "f4", (2,))]))["v"][:, :0]
        file["soft"] = h5py.SoftLink("/train/images")
        file["nowhere"] = h5py.SoftLink("/gone")
    return path, pictures


# ---------------------------------------------------------------- the same bits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "<>")
def test_dtypes_in_both_byte_orders(tmp_path, dtype, order):
    """Each number format, little and big endian, packed or not."""
    stored = np.dtype(dtype).newbyteorder(order)
    for temper in tempers(dtype):
        array = numbers(dtype, temper, (30, 7), 1).astype(stored)
        for i, packed in enumerate(PACKED):
            chunks = (4, 3) if packed else None
            path = block_files.hdf5(array, tmp_path / f"{temper}{i}.h5", chunks, **packed)
            with np.errstate(all="ignore"):
                assert _quietly(path) == _quietly(array)


def _quietly(source):
    """Measured, without the warning of infinities."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zm.ZeromeanWarning)
        return zm.measure(source, "n d -> d")


@given(
    shape=st.tuples(st.integers(0, 40), st.integers(1, 6), st.integers(1, 6)),
    chunk=st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6)),
    pattern=st.sampled_from(("n h w -> w", "n h w -> h w", "n h w ->", "n h w -> n")),
    packed=st.sampled_from(PACKED),
    limit=st.one_of(st.none(), st.integers(1, 9)),
)
@pytest.mark.filterwarnings("ignore:.*each chunk was read")
def test_any_chunks(tmp_path_factory, shape, chunk, pattern, packed, limit):
    """Whatever the chunks, filters and limit: the bits of the array itself."""
    array = np.random.default_rng(0).normal(size=shape).astype("float32")
    folder = tmp_path_factory.mktemp("any")
    chunks = tuple(max(1, min(a, b)) for a, b in zip(chunk, shape, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_WANTED", 300)
        patch.setattr(cutting, "_LARGE", 600)
        patch.setattr(cutting, "_MOST", 1200)
        path = block_files.hdf5(array, folder / "x.h5", chunks, **packed)
        found = zm.measure(path, pattern, limit=limit)
    assert found == zm.measure(array, pattern, limit=limit)
    shutil.rmtree(folder)


def test_chunks_that_were_never_written_are_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        held = file.create_dataset("x", (50, 4), "i2", chunks=(5, 4), fillvalue=-3)
        held[10:20] = 7
        expected = held[:]
    assert zm.measure(tmp_path / "x.h5") == zm.measure(expected)


def test_scale_offset_and_virtual_data_sets(tmp_path):
    """As h5py reads them; a virtual one whose part is gone is an error, not fill values."""
    array = block_files.integers("uint16", (20, 3))
    part = block_files.hdf5(array, tmp_path / "part.h5", (5, 3), scaleoffset=0)
    assert zm.measure(part) == zm.measure(array)
    layout = h5py.VirtualLayout((40, 3), "u2")
    layout[:20] = h5py.VirtualSource("part.h5", "x", (20, 3))
    layout[20:] = h5py.VirtualSource("part.h5", "x", (20, 3))
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    assert zm.measure(tmp_path / "whole.h5") == zm.measure(np.concatenate([array, array]))
    part.unlink()
    with pytest.raises(SourceError, match=r"^whole.h5: its part part.h5 is not there$"):
        zm.measure(tmp_path / "whole.h5")


def test_a_file_behind_a_text_is_found(tmp_path):
    """MATLAB writes 512 bytes of its own first."""
    array = block_files.integers("int16", (9, 4))
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        file["x"] = array
    assert recognized(str(tmp_path / "x.mat")) == "hdf5"
    assert zm.measure(tmp_path / "x.mat") == zm.measure(array)


def test_plain_data_sets_are_mapped_and_others_are_not(tmp_path):
    """What lies in the file as NumPy has it is read without the library; nothing else is."""
    array = np.arange(12, dtype="i4").reshape(4, 3)
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=1024) as file:
        for name in ("little", "big"):
            file[name] = array.astype("<i4" if name == "little" else ">i4")
        file.create_dataset("chunked", data=array, chunks=(2, 3))
        file.create_dataset("unwritten", (4, 3), "i4", fillvalue=7)
        file["truth"] = array > 3
        file.create_dataset("enum", data=array, dtype=h5py.enum_dtype({"a": 0, "b": 11}, "i4"))
        few = h5py.h5t.NATIVE_INT32.copy()
        few.set_precision(20)
        few.set_offset(3)
        space = h5py.h5s.create_simple((4, 3))
        held = h5py.h5d.create(file.id, b"bits", few, space)
        held.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
        file.create_dataset("outside", data=array, external=[(str(tmp_path / "raw"), 0, 48)])
    mapped = {}
    for name in ("little", "big", "chunked", "unwritten", "truth", "enum", "bits", "outside"):
        (opened,) = open_source(tmp_path / "x.h5", None, Options(key=name))
        mapped[name] = opened._arrays[0].offset is not None
        with h5py.File(tmp_path / "x.h5") as file:
            expected = file[name][:]
        assert zm.measure(tmp_path / "x.h5", key=name) == zm.measure(expected), name
    assert [name for name, held in mapped.items() if held] == ["little", "big"]


# ---------------------------------------------------------------- which data set


def test_the_data_set_is_named_or_the_only_one(x):
    """By path, by key, by group, through a link; else all are listed with shape and dtype."""
    path, pictures = x
    pattern, expected = "n h w c -> c", zm.measure(pictures, "n h w c -> c")
    assert zm.measure(f"{path}:/train/images", pattern) == expected
    assert zm.measure(f"{path}:train/images", pattern) == expected
    assert zm.measure(path, pattern, key="train") == expected
    assert zm.measure(path, pattern, key="/soft") == expected
    assert zm.measure(f"{path}:train", pattern).provenance.sources == ("data.h5:/train/images",)
    with pytest.raises(SourceError) as raised:
        zm.measure(path, pattern)
    assert str(raised.value).startswith("data.h5 holds 3 arrays of numbers; name one, such as ")
    assert "\n  /train/images  (40, 6, 5, 3) uint8" in str(raised.value)
    assert "\n  /labels        (40,) int64" in str(raised.value)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train/names", "text"),
        ("one", "a single number"),
        ("words", "text"),
        ("unequal", "rows of unequal length"),
        ("table", "compound values (a, b)"),
        ("reference", "references"),
        ("complex", "complex numbers"),
        ("nothing", "nothing"),
        ("opaque", "raw bytes"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(x, key, words):
    path, _ = x
    with pytest.raises(SourceError) as raised:
        zm.measure(path, key=key)
    assert str(raised.value) == f"data.h5:/{key} holds {words}, not an array of numbers"
    with h5py.File(path) as file, pytest.raises(SourceError, match="not an array of numbers"):
        zm.measure(file[key])


def test_misspelled_keys_are_corrected(x):
    path, _ = x
    with pytest.raises(SourceError, match=r"no array 'train/image'; did you mean data.h5:/train/i"):
        zm.measure(f"{path}:train/image")
    with pytest.raises(SourceError, match=r"data.h5 holds no array 'nowhere'"):
        zm.measure(path, key="nowhere")


def test_a_pattern_is_asked_for_with_the_name(x):
    path, _ = x
    with pytest.raises(PatternError, match=r"^data.h5:/train/images: an array of shape \(40, 6"):
        zm.measure(f"{path}:train")


def test_empty_arrays_and_single_pictures(tmp_path):
    """No entries is a value; a picture without n is one entry."""
    empty = np.zeros((0, 5, 3), "uint8")
    assert zm.measure(block_files.hdf5(empty, tmp_path / "e.h5"), "n h c -> c") == zm.measure(
        empty, "n h c -> c"
    )
    picture = block_files.integers("uint8", (8, 9, 3))
    profile = zm.measure(block_files.hdf5(picture, tmp_path / "p.h5"), "n h w c -> c")
    assert profile == zm.measure(picture, "n h w c -> c")
    assert profile.provenance.items == 1


# ---------------------------------------------------------------- open files


def test_open_files_groups_and_data_sets(x):
    """What the caller has open is read through it, and stays open."""
    path, pictures = x
    pattern, expected = "n h w c -> c", zm.measure(pictures, "n h w c -> c")
    with h5py.File(path, "r") as file:
        assert zm.measure(file["train/images"], pattern) == expected
        assert zm.measure(file["train"], pattern) == expected
        assert zm.measure(file, pattern, key="train/images") == expected
        assert zm.measure(file["train/images"], pattern, limit=7) == (
            zm.measure(pictures, pattern, limit=7)
        )
        with pytest.raises(SourceError, match=r"data.h5 holds 3 arrays"):
            zm.measure(file, pattern)
        with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
            assert zm.measure(file["train/images"], pattern, executor=pool) == expected
        assert file["labels"][3] == 3


def test_a_file_that_lies_in_memory_only():
    array = block_files.integers("uint8", (10, 4))
    with h5py.File("nowhere.h5", "w", driver="core", backing_store=False) as file:
        file["x"] = array
        assert zm.measure(file) == zm.measure(array)
        assert zm.measure(file["x"]).provenance.sources == ("nowhere.h5:/x",)


def test_nothing_stays_open(x):
    """After measuring, the file can be written over at once."""
    path, pictures = x
    zm.measure(f"{path}:train", "n h w c -> c", workers=3)
    with h5py.File(path, "w") as file:
        file["x"] = pictures[:1]
    assert zm.measure(path, "n h w c -> c").provenance.items == 1


# ---------------------------------------------------------------- several files


def test_a_folder_is_one_source(tmp_path):
    """All files below it, in sorted order; a broken one is skipped by name, the rest counts."""
    arrays = [block_files.integers("uint8", (n, 3), n) for n in (5, 8, 2)]
    (tmp_path / "d" / "sub").mkdir(parents=True)
    for name, array in zip(("a.h5", "b.h5", "sub/c.hdf5"), arrays, strict=True):
        block_files.hdf5(array, tmp_path / "d" / name)
    whole = np.concatenate(arrays)
    assert zm.measure(tmp_path / "d") == zm.measure(whole)
    assert zm.measure(str(tmp_path / "d/*.h5")) == zm.measure(np.concatenate(arrays[:2]))
    assert zm.measure(tmp_path / "d", limit=4) == zm.measure(whole, limit=4)
    (opened,) = open_source(tmp_path / "d", None, Options())
    assert [e.name for e in opened.entries()] == ["a.h5:/x", "b.h5:/x", "sub/c.hdf5:/x"]
    data = (tmp_path / "d" / "b.h5").read_bytes()
    (tmp_path / "d" / "b.h5").write_bytes(data[: len(data) // 2])
    with pytest.warns(SkippedWarning, match=r"b.h5: cannot be read: .*truncated file"):
        profile = zm.measure(tmp_path / "d")
    assert profile == zm.measure(np.concatenate([arrays[0], arrays[2]]))
    assert profile.provenance.items == 7
    (opened,) = open_source(tmp_path / "d", None, Options())
    assert opened.n_items == 8
    with pytest.raises(SourceError, match=r"^b.h5: cannot be read"):
        zm.measure(tmp_path / "d", strict=True)


def test_files_of_several_shapes_and_dtypes(tmp_path):
    """Lengths may differ; what is kept, and dtypes, may not: both files are named."""
    for name, shape, dtype in (("a", (3, 4), "u1"), ("b", (3, 5), "u1"), ("c", (3, 4), "f4")):
        block_files.hdf5(np.zeros(shape, dtype), tmp_path / f"{name}.h5")
    paths = [tmp_path / f"{name}.h5" for name in "abc"]
    with pytest.raises(PatternError, match=r"b.h5:/x(?s:.)*keeps \(5,\), but a.h5:/x"):
        zm.measure(paths[:2])
    with pytest.raises(PatternError, match=r"is float32, but a.h5:/x is uint8"):
        zm.measure([paths[0], paths[2]])


def test_a_folder_without_such_files(tmp_path):
    (tmp_path / "x.txt").touch()
    with pytest.raises(SourceError, match="holds no files of this format"):
        zm.measure(tmp_path, format="hdf5")


# ---------------------------------------------------------------- damage and changes


def test_a_single_broken_file_is_an_error_with_its_name(tmp_path):
    """Cut anywhere, or filled with noise: one sentence, no traceback of the library."""
    array = block_files.integers("uint8", (2000, 3))
    data = block_files.hdf5(array, tmp_path / "x.h5", (100, 3), compression="gzip").read_bytes()
    bad = tmp_path / "bad.h5"
    for end in (9, 100, 600, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:end])
        with pytest.raises(SourceError, match=r"^bad.h5"):
            zm.measure(bad)
    for end in (0, 5):
        bad.write_bytes(data[:end])
        with pytest.raises(SourceError, match=r"bad.h5"):
            zm.measure(bad)


def test_flipped_bits_never_give_another_number(tmp_path):
    """With a checksum on every chunk, each flip in the data is found, and named with its block."""
    array = block_files.integers("uint8", (600, 3))
    path = block_files.hdf5(array, tmp_path / "x.h5", (100, 3), fletcher32=True)
    with h5py.File(path) as file:
        chunk = file["x"].id.get_chunk_info(2)
    data = path.read_bytes()
    for at in (0, 150, chunk.size - 1):
        held = bytearray(data)
        held[chunk.byte_offset + at] ^= 16
        path.write_bytes(held)
        with pytest.raises(SourceError, match=r"none of 1 files could be measured(?s:.)*x.h5:/x: "):
            zm.measure(path)


def test_a_file_that_changes_while_it_is_read_is_not_trusted(tmp_path, monkeypatch):
    """What was read may be half old and half new; it may be tried again."""
    array = block_files.integers("uint8", (100, 3))
    path = block_files.hdf5(array, tmp_path / "x.h5", (10, 3))
    real = hdf5._read

    def read(data, box):
        os.utime(path, ns=(1, 1))
        return real(data, box)

    monkeypatch.setattr(hdf5, "_read", read)
    (opened,) = open_source(path, None, Options())
    (item,) = [item for shard in opened.shards() for item in shard.items()]
    assert (item.reason, item.passing) == ("changed while it was read", True)
    path.unlink()
    (item,) = [item for shard in opened.shards() for item in shard.items()]
    assert (item.reason, item.passing) == ("vanished before it was read", True)


@pytest.mark.skipif(sys.platform != "linux", reason="locks of HDF5")
def test_a_file_that_is_being_written_says_so(tmp_path):
    path = block_files.hdf5(np.zeros((3, 2)), tmp_path / "x.h5")
    code = f"import h5py\nf = h5py.File({str(path)!r}, 'r+')\nprint(1, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"1\n"
        with pytest.raises(SourceError, match=r"^x.h5: another program has it open for writing"):
            zm.measure(path)
        writer.communicate(b"\n")
    assert zm.measure(path).count.tolist() == [3, 3]


def test_a_filter_that_is_not_there_is_named(tmp_path, monkeypatch):
    """Blosc and others come in a package of their own."""
    monkeypatch.setitem(hdf5._PLUGINS, 333, "squeeze")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((5,))
        properties.set_filter(333, h5py.h5z.FLAG_OPTIONAL, (2, 2, 4, 20))
        space = h5py.h5s.create_simple((20,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, space, dcpl=properties)
        file["x"].id.write_direct_chunk((0,), b"\x02\x01packed by others")
    with pytest.raises(SourceError, match=r"is packed with squeeze: pip install hdf5plugin"):
        zm.measure(tmp_path / "x.h5")


# ---------------------------------------------------------------- ledger, remote, command line


def test_a_ledger_reads_only_what_has_changed(tmp_path, monkeypatch):
    """Blocks are entries: the second run reads nothing, until the file is another one."""
    array = block_files.integers("uint8", (5000, 3000))
    (tmp_path / "d").mkdir()
    path = block_files.hdf5(array, tmp_path / "d" / "a.h5", (100, 3000), compression="lzf")
    os.utime(path, ns=(10**18, 10**18))
    (opened,) = open_source(path, None, Options())
    entries = list(opened.entries())
    assert [entry.name for entry in entries] == ["a.h5:/x[0:2700]", "a.h5:/x[2700:5000]"]
    status = path.stat()
    assert entries[1].stamp == (status.st_size, 10**18, status.st_ctime_ns, 2700)
    expected, ledger = zm.measure(array, "n d ->"), tmp_path / "l"
    assert zm.measure(path, "n d ->", ledger=ledger) == expected
    monkeypatch.setattr(hdf5, "_read", None)  # a call would fail
    assert zm.measure(path, "n d ->", ledger=ledger) == expected
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    with pytest.raises(SourceError, match=r"none of 2 files could be measured"):
        zm.measure(path, "n d ->", ledger=ledger)


def test_remote_files_are_read_where_they_lie(tmp_path):
    """By the URL of a store: the bits of the local file, and its blocks."""
    fsspec = pytest.importorskip("fsspec")
    array = block_files.integers("uint8", (50, 4))
    path = block_files.hdf5(array, tmp_path / "x.h5", (10, 4), compression="gzip")
    memory = fsspec.filesystem("memory")
    memory.pipe("/blocks/x.h5", path.read_bytes())
    try:
        assert zm.measure("memory://blocks/x.h5") == zm.measure(array)
        assert zm.measure("memory://blocks/x.h5:/x", limit=5) == zm.measure(array, limit=5)
        (opened,) = open_source("memory://blocks/x.h5", None, Options())
        (entry,) = opened.entries()
        (item,) = [item for shard in opened.shards() for item in shard.items()]
        assert (entry.name, entry.stamp) == (item.name, item.stamp)
        assert entry.name == "x.h5:/x"
        assert entry.stamp[0] == path.stat().st_size
        memory.pipe("/blocks/sub/y.h5", path.read_bytes())
        memory.pipe("/blocks/notes.txt", b"mine")
        both = zm.measure("memory://blocks")
        assert both == zm.measure(np.concatenate([array, array]))
        assert both.provenance.items == 100
    finally:
        memory.rm("/blocks", recursive=True)


def test_secrets_in_urls_are_written_nowhere():
    from zeromean.sources.contents import labeled_paths

    urls = ["s3://me:secret@host/a/x.h5?token=t", "s3://me:secret@host/a/b/y.h5"]
    assert labeled_paths(urls) == [(urls[0], "x.h5"), (urls[1], "b/y.h5")]
    assert "secret" not in str(labeled_paths([*urls[:1], "s3://me:secret@other/y.h5"])[1][1])


def test_the_command_line_takes_the_same_names(x):
    from zeromean.cli import main

    path, pictures = x
    expected = zm.measure(pictures, "n h w c -> c")
    for arguments in ([f"{path}:/train/images"], [str(path), "--key", "train/images"]):
        run = CliRunner().invoke(main, ["measure", *arguments, "--per", "channel", "--json"])
        assert run.exit_code == 0, run.output
        Path(path.with_suffix(".json")).write_text(run.stdout)
        assert zm.load(path.with_suffix(".json")) == expected
    run = CliRunner().invoke(main, ["measure", str(path), "--per", "channel"])
    assert run.exit_code == 2
    assert "name one, such as data.h5:/train/images" in run.stderr.replace("\n", " ")
