"""Parquet, Arrow, Feather and saved data sets: the numbers of a folder, a frame or an array."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import zeromean as zm
from zeromean.accumulation import Plan, combine, measure_shard
from zeromean.sources import arrow_files, arrow_pictures
from zeromean.sources.arrow_arrays import stacked
from zeromean.sources.arrow_files import DataFile, outline
from zeromean.sources.opening import Options, open_source

pa = pytest.importorskip("pyarrow")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

DATA = Path(__file__).parents[2] / "shared" / "data"
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CLASSES = ("cat", "dog")


def encoded(seed, image_format="PNG", mode="RGB", size=(7, 5)):
    """A small picture of random pixels."""
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode in ("L", "P") else (size[1], size[0], len(mode))
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.quantize(16) if mode == "P" else image).save(buffer, image_format)
    return buffer.getvalue()


KINDS = [
    ("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("BMP", "RGB"),
    ("JPEG", "L"),
]  # fmt: skip
PICTURES = [encoded(i, *KINDS[i % 7], size=(3 + i % 5, 2 + i % 4)) for i in range(60)]
PICTURES[13] = PICTURES[13][:-9]  # cut short
PICTURES[29] = b""
PICTURES[41] = b"<html>not found</html>"
BROKEN = (13, 29, 41)
LABELS = [i // 30 for i in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pictures as files, in a folder for each class."""
    base = tmp_path_factory.mktemp("pictures")
    for i, data in enumerate(PICTURES):
        path = base / CLASSES[LABELS[i]] / f"{i:03d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return base


def quietly(source, *arguments, **options):
    """Measure without the warning that some were skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zm.SkippedWarning)
        return zm.measure(source, *arguments, **options)


@pytest.fixture(scope="module")
def truth(folder):
    """What the folder gives, which its own tests hold against Pillow."""
    return quietly(folder)


def images(pictures=PICTURES, kind=STRUCT):
    """A column of pictures of any type that can hold them."""
    if pa.types.is_struct(kind):
        rows = [
            None if data is None else {"bytes": data, "path": f"{i:03d}.png"}
            for i, data in enumerate(pictures)
        ]
        return pa.array(rows, kind)
    return pa.array(pictures, kind)


def table(**more):
    return pa.table({"image": images(), "label": LABELS, **more})


def write(path, data, how="parquet", **options):
    """Write a table in one of the formats."""
    if how == "parquet":
        parquet.write_table(data, path, **options)
    elif how == "feather":
        feather.write_feather(data, str(path), **options)
    else:
        rows, compression = options.get("rows"), options.get("compression")
        new = pa.ipc.new_stream if how == "stream" else pa.ipc.new_file
        choice = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.OSFile(str(path), "wb") as file, new(file, data.schema, options=choice) as writer:
            writer.write_table(data, max_chunksize=rows)
    return path


def skipped(profile):
    return dict(profile.provenance.skipped)


def same(profile, truth):
    """The same bits, the same record, but for names."""
    assert profile == truth
    assert profile.extrema == truth.extrema
    mine, other = profile.provenance, truth.provenance
    assert mine.digest == other.digest != 0
    assert (mine.items, mine.bytes, mine.decoders) == (other.items, other.bytes, other.decoders)
    notes = {k: n for k, n in mine.notes.items() if k != "files without checksums"}
    assert notes == other.notes
    assert sorted(r for _, r in mine.skipped) == sorted(r for _, r in other.skipped)


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("parquet", {}),
        ("parquet", {"row_group_size": 7, "compression": "snappy"}),
        ("parquet", {"row_group_size": 1, "compression": "zstd", "data_page_version": "2.0"}),
        ("parquet", {"compression": "none", "use_dictionary": False, "data_page_size": 300}),
        ("parquet", {"write_page_checksum": True, "row_group_size": 25}),
        ("stream", {}),
        ("stream", {"rows": 7, "compression": "zstd"}),
        ("file", {"rows": 11}),
        ("file", {"rows": 11, "compression": "lz4"}),
        ("feather", {"chunksize": 9}),
    ],
)
def test_the_same_pictures_give_the_numbers_of_their_folder(tmp_path, truth, how, options):
    """Bit for bit, and the same digest, whatever row groups, pages and compression there are."""
    path = write(tmp_path / f"x.{how}", table(), how, **options)
    profile = quietly(path, format=None if how == "parquet" else "arrow")
    same(profile, truth)
    assert sorted(skipped(profile)) == [f"x.{how}[{i}]" for i in BROKEN]


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.struct([("path", pa.string()), ("bytes", pa.large_binary())]),
        pa.struct([("bytes", pa.binary())]),
        *([pa.binary_view()] if hasattr(pa, "binary_view") else []),
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["parquet", "file"])
def test_any_type_that_holds_bytes(tmp_path, truth, kind, how):
    rows = images(kind=kind) if not pa.types.is_struct(kind) else pa.array(
        [{"bytes": p, "path": f"{i:03d}.png"} if kind.num_fields > 1 else {"bytes": p}
         for i, p in enumerate(PICTURES)], kind
    )  # fmt: skip
    path = write(tmp_path / "x.parquet", pa.table({"p": rows}), how)
    profile = quietly(path)
    assert profile == truth
    assert profile.provenance.digest == truth.provenance.digest


def test_the_content_decides_and_not_the_name(tmp_path, truth):
    """A stream, whatever it is called; a Parquet file that is called Arrow."""
    stream = write(tmp_path / "x", table(), "stream")
    assert quietly(stream) == truth
    assert quietly(write(tmp_path / "y.arrow", table())) == truth


@pytest.mark.skipif(not (DATA / "cifar10-train-5k").exists(), reason="CIFAR is absent")
def test_cifar_as_a_folder_and_as_parquet(tmp_path):
    """5 000 real pictures, their exact sums, and the same digest."""
    base = DATA / "cifar10-train-5k"
    names = sorted(base.glob("*/*.png"))
    rows = [{"bytes": name.read_bytes(), "path": name.name} for name in names]
    path = tmp_path / "cifar.parquet"
    parquet.write_table(pa.table({"img": pa.array(rows, STRUCT)}), path, row_group_size=777)
    profile, expected = zm.measure(path), zm.measure(base)
    assert profile == expected
    assert profile.provenance.digest == expected.provenance.digest
    known = json.loads((DATA / "truth.json").read_text())["cifar10-train-5k"]
    assert json.dumps(known).count(str(int(profile.count[0])))  # the sums are those of the truth


def test_row_groups_that_are_large_are_read_here_and_decoded_elsewhere(
    tmp_path, truth, monkeypatch
):
    """And small ones together: how rows are cut into shards does not matter."""
    path = write(tmp_path / "x.parquet", table(), row_group_size=20)
    shards = list(opened(path).shards())
    assert {type(shard).__name__ for shard in shards} == {"PictureShard"}
    assert len(shards) == 1  # 60 rows of three row groups
    monkeypatch.setattr(arrow_pictures, "_LARGEST_GROUP", 10)
    shards = list(opened(path).shards())
    assert {type(shard).__name__ for shard in shards} == {"EncodedShard"}
    same(quietly(path), truth)
    monkeypatch.setattr(arrow_pictures, "_BATCH_BYTES", 1)
    same(quietly(path), truth)


def opened(path, pattern=None, **options):
    (source,) = open_source(path, pattern, Options(**options))
    return source


@pytest.mark.parametrize("largest", [10, 1 << 30])
def test_shards_can_be_sent_away_and_split(tmp_path, truth, monkeypatch, largest):
    monkeypatch.setattr(arrow_pictures, "_LARGEST_GROUP", largest)
    source = opened(write(tmp_path / "x.parquet", table(), row_group_size=25))
    plan = Plan(source.pattern)
    shards = [pickle.loads(pickle.dumps(shard)) for shard in source.shards()]
    assert sum(shard.n_items for shard in shards) == 60
    ones = [one for shard in shards for one in shard.split()]
    assert [one.n_items for one in ones] == [1] * 60
    for some in (shards, ones):
        whole = combine((measure_shard(shard, plan) for shard in some), source.pattern)
        (partial,) = whole.partials.values()
        assert partial.statistics == truth.statistics
        assert whole.record.digest == truth.provenance.digest


def test_rows_without_an_image_are_skipped_by_name(tmp_path):
    rows = [None, PICTURES[0], None, PICTURES[1]]
    for kind in (STRUCT, pa.binary()):
        path = write(tmp_path / "x.parquet", pa.table({"p": images(rows, kind)}))
        profile = quietly(path)
        assert skipped(profile) == {"x.parquet[0]": "no image", "x.parquet[2]": "no image"}
        assert profile.provenance.items == 2
    empty = pa.array([{"bytes": None, "path": None}, {"bytes": PICTURES[0], "path": None}], STRUCT)
    path = write(tmp_path / "x.parquet", pa.table({"p": empty}))
    assert skipped(quietly(path)) == {"x.parquet[0]": "no image"}
    with pytest.raises(zm.SourceError, match=r"x\.parquet\[0\]: no image"):
        zm.measure(path, strict=True)


def test_a_path_without_bytes_is_read_beside_the_file_and_nowhere_else(tmp_path, monkeypatch):
    base = tmp_path / "data"
    (base / "sub").mkdir(parents=True)
    (base / "sub" / "a.png").write_bytes(PICTURES[0])
    (tmp_path / "secret.png").write_bytes(PICTURES[1])
    (base / "link.png").symlink_to(tmp_path / "secret.png")
    (base / "bad.png").write_bytes(b"GIF8")
    paths = [
        "sub/a.png", "../secret.png", str(tmp_path / "secret.png"), "link.png", "none.png",
        "http://host/a.png", "bad.png", "sub", "a\0.png", str(base / "sub" / "a.png"),
    ]  # fmt: skip
    rows = pa.array([{"bytes": None, "path": path} for path in paths], STRUCT)
    profile = quietly(write(base / "x.parquet", pa.table({"p": rows})))
    outside = "lies outside of the folder of the table"
    reasons = skipped(profile)
    assert profile.provenance.items == 2
    expected = zm.measure(base / "sub")
    assert profile == expected + expected
    assert profile.provenance.digest == (expected + expected).provenance.digest
    assert all(reasons[f"x.parquet[{i}]"].endswith(outside) for i in (1, 2, 3, 5))
    assert reasons["x.parquet[4]"] == "no image but the path none.png, which does not exist"
    assert set(reasons) == {f"x.parquet[{i}]" for i in range(1, 9)}
    monkeypatch.chdir(base)
    assert quietly("x.parquet") == profile


def test_several_columns_of_pictures(tmp_path):
    """Must be told apart, and none is taken by chance."""
    thumbs = [encoded(100 + i) for i in range(60)]
    path = write(tmp_path / "x.parquet", table(thumb=images(thumbs, pa.binary())))
    with pytest.raises(
        zm.PatternError, match=r"has 2 columns of pictures, 'image', 'thumb'; "
    ) as e:
        zm.measure(path)
    assert "key='image' (--key image)" in str(e.value)
    first, second = quietly(path, key="image"), zm.measure(path, key="thumb")
    assert first.provenance.items == 57
    assert second.provenance.items == 60
    assert zm.measure(f"{path}:thumb") == second
    with pytest.raises(zm.PatternError, match=r"has no column 'thumbs'; did you mean 'thumb'\?"):
        zm.measure(path, key="thumbs")
    with pytest.raises(zm.PatternError, match=r"no column 'q'; it has 'image', 'label', 'thumb'"):
        zm.measure(path, key="q")


def test_a_column_in_a_structure(tmp_path, truth):
    nested = pa.StructArray.from_arrays(
        [images(), pa.array(LABELS), pa.array(["x.y"] * 60)], ["png", "number", "t"]
    )
    data = pa.table({"a.b": nested, "note": ["t"] * 60})
    for how in ("parquet", "file", "stream"):
        path = write(tmp_path / "x.parquet", data, how)
        assert quietly(path) == truth
        assert quietly(path, key="a.b.png") == truth
        with pytest.raises(zm.PatternError, match=r"'a\.b\.t' holds string, which is neither"):
            zm.measure(path, key="a.b.t")
        numbers = zm.measure(path, key="a.b.number")
        assert numbers == zm.measure(np.array(LABELS))


def test_what_is_no_column_of_pictures(tmp_path):
    """Bytes of something else, recordings that Hugging Face stores alike, nothing at all."""
    other = [b"\x1f\x8b" + bytes([i]) * 9 for i in range(5)]
    wav = [{"bytes": b"RIFF....WAVEfmt " + bytes(9), "path": "a.wav"}] * 5
    data = pa.table({"n": np.arange(5.0), "blob": other, "sound": pa.array(wav, STRUCT)})
    profile = zm.measure(write(tmp_path / "x.parquet", data))
    assert profile.feature_names == ("n",)
    assert list(profile.provenance.left_out) == ["blob (binary)", "sound (struct)"]
    told = {"info": {"features": {"p": {"_type": "Audio"}}}}
    data = pa.table({"n": np.arange(60.0), "p": images()})
    data = data.replace_schema_metadata({"huggingface": json.dumps(told)})
    assert zm.measure(write(tmp_path / "x.parquet", data)).feature_names == ("n",)
    none = pa.table({"n": np.arange(4.0), "p": images([None] * 4)})
    assert zm.measure(write(tmp_path / "x.parquet", none)).feature_names == ("n",)


def test_one_damaged_picture_in_front_deceives_nobody(tmp_path):
    rows = [b"oops", *PICTURES[:5]]
    for kind in (STRUCT, pa.binary()):
        path = write(tmp_path / "x.parquet", pa.table({"p": images(rows, kind)}))
        profile = quietly(path)
        assert profile.provenance.items == 5
        assert list(skipped(profile)) == ["x.parquet[0]"]


def test_hugging_face_says_what_a_column_is(tmp_path):
    """Where no picture can be looked at: the first ones are missing or broken."""
    told = {"info": {"features": {"p": {"_type": "Image"}}}}
    data = pa.table({"p": images([b"x"] * 9 + [PICTURES[0]])})
    path = write(tmp_path / "x.parquet", data.replace_schema_metadata(
        {"huggingface": json.dumps(told)}))  # fmt: skip
    assert quietly(path).provenance.items == 1
    for bad in ("{", "[]", '{"info": 1}', "[" * 100_000):
        write(path, data.replace_schema_metadata({"huggingface": bad}))
        with pytest.raises(zm.PatternError, match="no numeric columns"):
            zm.measure(path)


def test_patterns_colors_and_kinds(tmp_path, folder):
    """As for a folder: mean images, gray, the mixture that is refused, one kind of it."""
    square = [encoded(i, size=(4, 4)) for i in range(9)]
    path = write(tmp_path / "s.parquet", pa.table({"p": images(square)}))
    (tmp_path / "s").mkdir()
    for i, data in enumerate(square):
        (tmp_path / "s" / f"{i}.png").write_bytes(data)
    for options in ({"pattern": "n h w c -> h w c"}, {"colors": "gray"}, {"limit": 4}):
        assert zm.measure(path, **options) == zm.measure(tmp_path / "s", **options)
    mixed = write(tmp_path / "m.parquet", table())
    with pytest.raises(zm.SourceError, match="pictures of different kinds"):
        quietly(mixed, colors="keep")
    kept = quietly(mixed, colors="keep", group="L uint8")
    assert kept == quietly(folder, colors="keep", group="L uint8")


def test_groups_by_a_column(tmp_path, folder):
    """With the names of the classes, where the file has them: then it is the folder's grouping."""
    told = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    path = write(tmp_path / "x.parquet", table(text=[CLASSES[n] for n in LABELS]), row_group_size=9)
    expected = quietly(folder, by="class")
    assert quietly(path, by="text") == expected
    numbered = quietly(path, by="label")
    assert list(numbered) == ["0", "1"]
    assert numbered["1"] == expected["dog"]
    data = table().replace_schema_metadata({"huggingface": json.dumps(told)})
    named = write(tmp_path / "y.parquet", data, row_group_size=9)
    assert quietly(named, by="label") == expected
    assert quietly(named, by=np.array(LABELS))["0"] == expected["cat"]
    with pytest.raises(zm.PatternError, match=r"by is 'class', but x\.parquet has no such column"):
        zm.measure(path, by="class")
    missing = write(tmp_path / "z.parquet", table(text=[None, *["a"] * 59]))
    with pytest.raises(zm.PatternError, match=r"z\.parquet\[0\]"):
        quietly(missing, by="text")


# ---------------------------------------------------------------- many files


def shards_in(base, n=4):
    """The pictures in several files."""
    base.mkdir(exist_ok=True)
    data, step = table(), 60 // n
    for k in range(n):
        part = data.slice(k * step, step)
        write(base / f"train-{k:05d}-of-{n:05d}.parquet", part, row_group_size=5)
    return base


def test_a_folder_of_files(tmp_path, truth):
    base = shards_in(tmp_path / "data")
    (base / ".hidden.parquet").write_bytes(b"no")
    (base / "README.md").write_text("x")
    profile = quietly(base)
    same(profile, truth)
    assert sorted(skipped(profile))[0] == "train-00000-of-00004.parquet[13]"
    assert profile.provenance.sources == (str(base),)
    assert quietly(sorted(base.glob("*.parquet"))) == truth
    source = opened(base)
    assert [e.name for e in source.entries()] == [
        i.name for s in source.shards() for i in s.items()
    ]


def test_a_damaged_file_among_others_is_skipped_by_name(tmp_path):
    """And the pictures of the others are measured; on its own it is an error."""
    base = shards_in(tmp_path / "data")
    names = sorted(base.glob("*.parquet"))
    good = quietly([names[1], names[3]])
    names[0].write_bytes(names[0].read_bytes()[:-20])
    names[2].write_bytes(b"")
    profile = quietly(base)
    assert profile == good
    reasons = skipped(profile)
    assert reasons[names[0].name].startswith("cannot be read as Parquet: ")
    assert reasons[names[2].name].startswith("cannot be read as Parquet: ")
    assert profile.provenance.items == good.provenance.items
    with pytest.raises(zm.SourceError, match=r"train-00000-of-00004\.parquet: cannot be read as P"):
        zm.measure(base, strict=True)
    for name in (names[0], names[2]):
        with pytest.raises(zm.SourceError, match="cannot be read as Parquet") as caught:
            zm.measure(name)
        assert str(caught.value).startswith(str(name))
    with pytest.raises(zm.SourceError, match=r"train-00000-of-00004\.parquet: cannot be read"):
        zm.measure([names[0], names[2]])


def test_files_whose_pictures_lie_in_other_columns(tmp_path):
    base = shards_in(tmp_path / "data", 2)
    second = base / "train-00001-of-00002.parquet"
    for column, said in (
        ({"image": images(kind=pa.binary())}, r"holds binary, but structures of bytes and path in"),
        (
            {"image": ["text"] * 60},
            r"holds string, but structures of bytes and path in train-",
        ),
        ({"picture": images()}, r"00001-of-00002\.parquet has no column 'image'; "),
    ):
        write(second, pa.table(column))
        with pytest.raises(zm.PatternError, match=said):
            zm.measure(base)
    wide = pa.struct([("bytes", pa.large_binary())])
    rows = pa.array([{"bytes": data} for data in PICTURES[:3]], wide)
    write(second, pa.table({"image": rows}))  # the same thing, stored otherwise
    assert quietly(base).provenance.items == 3 + 30 - 2


def test_test_data_in_the_same_folder_is_warned_of(tmp_path):
    base = shards_in(tmp_path / "data", 1)
    write(base / "test-00000-of-00001.parquet", table().slice(0, 5))
    with pytest.warns(zm.ZeromeanWarning, match="statistics should come from training data only"):
        quietly(base)
    only_test = tmp_path / "other"
    only_test.mkdir()
    write(only_test / "test-00000-of-00001.parquet", table().slice(0, 5))
    quietly(only_test)  # nothing to warn of


def test_limit_takes_rows_spread_evenly(tmp_path):
    base = shards_in(tmp_path / "data")
    source = opened(base, limit=7)
    assert (source.n_items, source.n_whole) == (7, 60)
    picked = [(2 * i + 1) * 60 // 14 for i in range(7)]
    names = [f"train-{i // 15:05d}-of-00004.parquet[{i % 15}]" for i in picked]
    assert [entry.name for entry in source.entries()] == names
    assert sorted(i.name for s in source.shards() for i in s.items()) == sorted(names)
    profile = quietly(base, limit=7)
    assert profile.provenance.sources == (f"{base} (a quick look at 7 of 60)",)


# ---------------------------------------------------------------- entries and ledgers


def test_entries_are_rows_and_any_choice_can_be_read(tmp_path):
    base = shards_in(tmp_path / "data")
    source = opened(base)
    entries = list(source.entries())
    assert len({entry.name for entry in entries}) == len(entries) == source.n_items == 60
    stamps = {entry.name: entry.stamp for entry in entries}
    chosen = [59, 3, 17, 44, 18, 0]
    held = [item for shard in source.shards_of(chosen) for item in shard.items()]
    assert sorted(item.name for item in held) == sorted(entries[i].name for i in chosen)
    assert all(item.stamp == stamps[item.name] for item in held)
    assert list(source.shards_of([])) == []


def test_each_row_group_is_read_once_for_any_choice(tmp_path, monkeypatch):
    source = opened(write(tmp_path / "x.parquet", table(), row_group_size=10))
    read = []
    real = arrow_files.ParquetRows._batches
    monkeypatch.setattr(
        arrow_files.ParquetRows,
        "_batches",
        lambda self, group, *rest: read.append(group) or real(self, group, *rest),
    )
    chosen = [55, 1, 52, 3, 50, 2]
    assert sum(1 for s in source.shards_of(chosen) for _ in s.items()) == 6
    assert sorted(read) == [0, 5]


def test_a_ledger_reads_only_what_is_new(tmp_path, truth, monkeypatch):
    base = shards_in(tmp_path / "data")
    old = 1_600_000_000
    for path in base.glob("*.parquet"):
        os.utime(path, (old, old))
    monkeypatch.setattr("zeromean.ledger.rows._settled", lambda stamp: " ".join(map(str, stamp)))
    ledger = tmp_path / "x.ledger"
    same(quietly(base, ledger=ledger), truth)
    monkeypatch.setattr(arrow_files.ParquetRows, "_batches", lambda *a: pytest.fail("was read"))
    monkeypatch.setattr(
        "zeromean.sources.parquet._first_values", lambda *a: iter([(PICTURES[0], "")])
    )
    again = quietly(base, ledger=ledger)
    same(again, truth)
    monkeypatch.undo()
    (base / "train-00003-of-00004.parquet").unlink()
    assert quietly(base, ledger=ledger) == quietly(base)


def test_tables_and_arrays_are_no_files_for_a_ledger(tmp_path):
    path = write(tmp_path / "x.parquet", pa.table({"a": [1.0, 2.0]}))
    with pytest.raises(zm.SourceError, match=r"no ledger can be kept of x\.parquet"):
        zm.measure(path, ledger=tmp_path / "x.ledger")


# ---------------------------------------------------------------- damage


def flip(path, group, column, into=0.5, bit=1):
    """Change one bit in the middle of a column chunk."""
    chunk = parquet.ParquetFile(path).metadata.row_group(group).column(column)
    data = bytearray(path.read_bytes())
    at = chunk.data_page_offset
    data[at + int(chunk.total_compressed_size * into)] ^= bit
    path.write_bytes(data)


def test_a_flipped_bit_in_a_table_with_checksums_is_an_error(tmp_path):
    values = pa.table({"a": np.random.default_rng(0).normal(size=3000)})
    options = {"row_group_size": 1000, "compression": "none", "use_dictionary": False}
    path = write(tmp_path / "x.parquet", values, write_page_checksum=True, **options)
    expected = zm.measure(path)
    assert "files without checksums" not in expected.provenance.notes
    flip(path, 1, 0)
    with pytest.raises(zm.SourceError, match=r"x\.parquet: cannot .*CRC.*\(row group 1\)"):
        zm.measure(path)
    bare = write(tmp_path / "y.parquet", values, **options)
    assert zm.measure(bare) == expected
    assert zm.measure(bare).provenance.notes == {"files without checksums": 1}
    flip(bare, 1, 0)
    assert zm.measure(bare) != expected  # nobody could tell: that is what the note says


def test_a_flipped_bit_among_pictures_skips_rows_by_name(tmp_path, truth):
    """The row groups before and after are measured."""
    path = write(
        tmp_path / "x.parquet", table(), row_group_size=20, write_page_checksum=True,
        compression="none", use_dictionary=False,
    )  # fmt: skip
    flip(path, 1, 0)
    profile = quietly(path)
    lost = {name: reason for name, reason in skipped(profile).items() if "CRC" in reason}
    assert list(lost) == [f"x.parquet[{i}]" for i in range(20, 40)]
    assert set(lost.values()) == {next(iter(lost.values()))}
    assert next(iter(lost.values())).endswith("(row group 1)")
    rest = table().slice(0, 20), table().slice(40)
    expected = quietly(write(tmp_path / "y.parquet", pa.concat_tables(rest)))
    assert profile == expected
    assert profile.provenance.items == expected.provenance.items == 60 - 20 - 2
    with pytest.raises(zm.SourceError, match=r"x\.parquet\[13\]"):
        zm.measure(path, strict=True)


def test_damage_inside_is_the_same_for_any_choice_of_rows(tmp_path, monkeypatch):
    """Whether a row can be read depends on the file alone, not on what else is asked for."""
    path = write(
        tmp_path / "x.parquet", table(), row_group_size=60, write_page_checksum=True,
        compression="none", use_dictionary=False, data_page_size=1, write_batch_size=6,
    )  # fmt: skip
    flip(path, 0, 0, 0.7)
    monkeypatch.setattr(arrow_pictures, "_BATCH_BYTES", 400)
    source = opened(path)
    whole = {i.name: i.reason for s in source.shards() for i in s.items()}
    assert 0 < sum("CRC" in reason for reason in whole.values()) < 60
    single = {}
    for row in range(60):
        (item,) = [item for shard in source.shards_of([row]) for item in shard.items()]
        single[item.name] = item.reason
    assert single == whole


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.parquet", b"", "cannot be read as Parquet"),
        ("x.parquet", b"PAR1PAR1", "cannot be read as Parquet"),
        ("x.parquet", b"a,b\n1,2\n", "cannot be read as Parquet"),
        ("x.arrow", b"", "is empty"),
        ("x.arrow", b"ARROW1\0\0", "cannot be read as Arrow"),
        ("x.arrow", b"\xff\xff\xff\xff\x10\0\0\0" + bytes(16), "Arrow"),
        ("x.arrow", b"junk and more junk", "is no Arrow file"),
        ("x.feather", b"FEA1" + bytes(40), "of the first version of Feather"),
    ],
)
def test_foreign_and_empty_files_say_so(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(zm.SourceError, match=said) as caught:
        zm.measure(tmp_path / name, format="parquet" if name == "x.parquet" else "arrow")
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("how", ["stream", "file"])
def test_an_arrow_file_cut_anywhere_is_an_error(tmp_path, how):
    """Never a shorter table, but where a stream ends between two batches: it needs no end."""
    path = write(tmp_path / "x.arrow", pa.table({"a": range(40)}), how, rows=10)
    whole = path.read_bytes()
    expected = zm.measure(path)
    rows = set()
    said = set()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            rows.add(zm.measure(path, format="arrow").count[0])
        except zm.SourceError as error:
            said.add(str(error).partition(": ")[0])
    assert said == {str(path)}
    assert expected.count[0] == 40
    assert rows <= ({0, 10, 20, 30, 40} if how == "stream" else {40})


def test_any_damage_is_an_error_of_ours_or_none(tmp_path):
    """Random bits and cuts: no other exception, no endless run, no crash."""
    rng = random.Random(5)
    pictures = table().slice(0, 12)
    numbers = pa.table({"a": np.arange(12.0), "l": pa.array([[1, 2]] * 12), "s": ["x"] * 12})
    wholes = []
    for data in (pictures, numbers):
        wholes.append(write(tmp_path / "w", data, row_group_size=4).read_bytes())
        for how in ("stream", "file"):
            for compression in (None, "lz4"):
                made = write(tmp_path / "w", data, how, rows=4, compression=compression)
                wholes.append(made.read_bytes())
    said = 0
    path = tmp_path / "x.bin"
    for trial in range(300):
        data = bytearray(wholes[trial % len(wholes)])
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))]
        else:
            for _ in range(rng.choice((1, 1, 3))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        kind = "parquet" if trial % len(wholes) in (0, 5) else "arrow"
        try:
            quietly(path, format=kind, key="l" if trial % 20 == 19 else "")
        except zm.ZeromeanError:
            said += 1
    assert 50 < said < 300


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    """What comes after is not mixed with what was there before."""
    path = write(tmp_path / "x.parquet", table(), row_group_size=20)
    real = arrow_files.ParquetRows._batches

    def changing(self, group, columns, n_rows):
        if group == 1:
            os.utime(path, (1, 1))
        yield from real(self, group, columns, n_rows)

    source = opened(path)
    monkeypatch.setattr(arrow_files.ParquetRows, "_batches", changing)
    items = [item for shard in source.shards() for item in shard.items()]
    assert len(items) == 60
    late = items[20:]
    assert {item.reason for item in late} == {"changed while it was read"}
    assert all(item.passing and item.array is None for item in late)
    assert [item.name for item in items if item.array is not None] == [
        f"x.parquet[{i}]" for i in range(20) if i not in BROKEN
    ]


def test_a_file_that_is_gone_when_it_is_read(tmp_path):
    path = write(tmp_path / "x.parquet", table())
    source = opened(path)
    path.unlink()
    items = [item for shard in source.shards() for item in shard.items()]
    assert {(i.reason, i.passing) for i in items} == {("vanished before it was read", True)}
    assert len(items) == 60


# ---------------------------------------------------------------- tables


FRAME = {
    "a": pa.array([1, None, 3, 2**40], pa.int64()),
    "b": pa.array([1.5, -2.0, None, 0.25], pa.float32()),
    "c": pa.array([True, False, True, True]),
    "u": pa.array([1, 2, 3, 255], pa.uint8()),
    "h": pa.array(np.array([1, 2, 3, 4], np.float16)),
    "text": pa.array(["p", "q", None, "p"]),
    "category": pa.array(["p", "q", "q", "p"]).dictionary_encode(),
    "decimal": pa.array([1, 2, 3, 4]).cast(pa.decimal128(30, 2)),
    "when": pa.array([1, 2, 3, 4], pa.timestamp("s")),
    "nested": pa.array([{"x": 1}] * 4),
    "vector": pa.array([[1.0, 2.0]] * 4),
}


@pytest.mark.parametrize("how", ["parquet", "stream", "file", "feather"])
def test_tables_in_all_formats_give_one_profile(tmp_path, how):
    data = pa.table(FRAME)
    path = write(tmp_path / f"x.{'parquet' if how == 'parquet' else 'arrow'}", data, how)
    profile, expected = zm.measure(path), zm.measure(data)
    assert profile == expected
    assert profile.extrema == expected.extrema
    assert profile.feature_names == ("a", "b", "c", "u", "h")
    left = ["text (string)", "category (categorical)", "decimal (decimal)", "when (timestamp)",
            "nested (struct)", "vector (list)"]  # fmt: skip
    assert list(profile.provenance.left_out) == left
    assert zm.measure(path, by="category") == zm.measure(data, by="category")
    assert zm.measure(path, key="b") == zm.measure(data.select(["b"]))
    assert zm.measure(path, limit=2) == zm.measure(data[:2])


def test_tables_with_many_rows_row_groups_and_codecs(tmp_path):
    rng = np.random.default_rng(1)
    data = pa.table({f"c{i}": rng.normal(size=5000).astype("f4") for i in range(5)})
    expected = zm.measure(data)
    for codec in ("snappy", "zstd", "gzip", "none"):
        path = write(tmp_path / "x.parquet", data, compression=codec, row_group_size=17)
        assert zm.measure(path) == expected
    for codec in ("lz4", "zstd", None):
        path = write(tmp_path / "x.arrow", data, "stream", compression=codec, rows=17)
        assert zm.measure(path) == expected
        assert zm.measure(path, workers=3) == expected
    base = tmp_path / "many"
    base.mkdir()
    for i in range(10):
        write(base / f"{i}.arrow", data.slice(500 * i, 500), "file")
    assert zm.measure(base) == expected


def test_names_with_dots_and_names_that_lead_into_others(tmp_path):
    data = pa.table({"a": [1, 2], "a.b": [3.5, 4.5], "a.b.c": [5, 6]})
    for how in ("parquet", "stream", "file"):
        path = write(tmp_path / "x.parquet", data, how)
        assert zm.measure(path) == zm.measure(data)
        assert zm.measure(path, key="a.b") == zm.measure(data.select(["a.b"]))


def test_empty_tables(tmp_path):
    """Rows there are none: a value, as for an empty frame. Pictures there are none: an error."""
    data = pa.table({"a": pa.array([], pa.int32()), "b": pa.array([], pa.float64())})
    schema = data.schema
    none = tmp_path / "none.parquet"
    parquet.ParquetWriter(none, schema).close()
    assert parquet.ParquetFile(none).num_row_groups == 0
    paths = [none, write(tmp_path / "x.parquet", data)]
    with pa.OSFile(str(tmp_path / "s.arrow"), "wb") as file:
        pa.ipc.new_stream(file, schema).close()
    paths += [tmp_path / "s.arrow", write(tmp_path / "f.arrow", data, "file")]
    for path in paths:
        profile = zm.measure(path)
        assert profile == zm.measure(data)
        assert profile.count.tolist() == [0, 0]
    full = write(tmp_path / "full.parquet", pa.table({"a": [1, 2], "b": [1.0, 2.0]}, schema))
    assert zm.measure([none, full, *paths[1:2]]) == zm.measure(full)
    told = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})}
    empty = table().slice(0, 0).replace_schema_metadata(told)
    with pytest.raises(zm.SourceError, match="there is nothing to measure: the source is empty"):
        zm.measure(write(tmp_path / "p.parquet", empty))
    pictures = write(tmp_path / "q.parquet", table().slice(0, 3))
    assert zm.measure([tmp_path / "p.parquet", pictures]) == zm.measure(pictures)


def test_a_table_whose_files_differ_or_are_broken(tmp_path):
    first = write(tmp_path / "1.arrow", pa.table({"a": [1, 2]}), "file")
    second = write(tmp_path / "2.arrow", pa.table({"a": ["x"]}), "stream")
    with pytest.raises(zm.PatternError, match=r"2\.arrow: the column 'a' is not one of numbers"):
        zm.measure([first, second])
    write(second, pa.table({"a": [3], "b": [4]}), "stream")
    with pytest.raises(zm.PatternError, match=r"2\.arrow: 1\.arrow has no numeric column 'b'"):
        zm.measure([first, second])
    second.write_bytes(first.read_bytes()[:-30])
    with pytest.raises(zm.SourceError, match=r"2\.arrow: cannot be read as Arrow"):
        zm.measure([first, second])


def test_class_names_are_the_groups_of_tables_too(tmp_path):
    told = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    data = pa.table({"x": [1.0, 2.0, 4.0], "label": [1, 0, 1]})
    data = data.replace_schema_metadata({"huggingface": json.dumps(told)})
    groups = zm.measure(write(tmp_path / "x.parquet", data), by="label")
    assert {name: group.mean.tolist() for name, group in groups.items()} == {
        "dog": [2.5], "cat": [2.0],
    }  # fmt: skip


def test_dictionaries_that_change_within_a_stream(tmp_path):
    """The groups are those that each batch names."""
    kind = pa.dictionary(pa.int8(), pa.string())
    schema = pa.schema([("x", pa.float64()), ("g", kind)])
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for k, names in enumerate((["a", "b"], ["b", "c"], ["d"])):
            codes = pa.array(range(len(names)), pa.int8())
            labels = pa.DictionaryArray.from_arrays(codes, names)
            values = pa.array([10.0 * k + i for i in range(len(names))])
            writer.write_batch(pa.record_batch([values, labels], schema=schema))
    groups = zm.measure(path, by="g")
    assert {name: group.mean.item() for name, group in groups.items()} == {
        "a": 0, "b": 5.5, "c": 11, "d": 20,
    }  # fmt: skip


# ---------------------------------------------------------------- arrays


def lists(array, kind):
    """Rows of an array as nested lists of a type."""
    return pa.array(array.tolist(), kind)


ROWS = np.random.default_rng(2).integers(-100, 100, (40, 6)).astype(np.int16)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int16()),
        pa.large_list(pa.int16()),
        pa.list_(pa.int16(), 6),
        *([pa.list_view(pa.int16())] if hasattr(pa, "list_view") else []),
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["parquet", "stream", "file"])
def test_columns_of_lists_are_arrays(tmp_path, kind, how):
    if "view" in str(kind) and how == "parquet":
        how = "file"  # Parquet has none
    data = pa.table({"v": lists(ROWS, kind), "label": [i % 3 for i in range(40)]})
    path = write(tmp_path / "x.parquet", data, how, **({} if how == "parquet" else {"rows": 7}))
    profile = zm.measure(path, key="v")
    assert profile == zm.measure(ROWS)
    assert zm.measure(path, "n d ->", key="v") == zm.measure(ROWS, "n d ->")
    assert zm.measure(path, key="v", limit=9) == zm.measure(ROWS[:9])
    labels = np.arange(40) % 3
    assert zm.measure(path, key="v", by="label") == zm.measure(ROWS, by=labels)
    alone = write(tmp_path / "y.parquet", data.select(["v"]), how)
    assert zm.measure(alone) == profile  # where there is nothing else
    assert opened(path, key="v").n_items == 40


def tensors(array, permutation):
    """Physical arrays as a column of tensors whose axes are permuted."""
    flat = pa.array(np.ascontiguousarray(array).reshape(len(array), -1).tolist())
    kind = pa.fixed_shape_tensor(pa.uint8(), array.shape[1:], permutation=permutation)
    return pa.ExtensionArray.from_storage(kind, flat.cast(kind.storage_type))


def test_tensors_are_read_in_their_logical_order(tmp_path):
    array = np.random.default_rng(3).integers(0, 256, (12, 2, 3, 4), dtype=np.uint8)
    pattern = "n h w c -> c"
    plain = pa.FixedShapeTensorArray.from_numpy_ndarray(array)
    swapped = tensors(array.transpose(0, 2, 1, 3), permutation=[1, 0, 2])
    turned = tensors(array.transpose(0, 3, 1, 2), permutation=[1, 2, 0])
    assert np.array_equal(swapped.to_numpy_ndarray(), array)  # PyArrow refuses the other one
    for column in (plain, swapped, turned):
        assert np.array_equal(stacked(column), array)
        assert np.array_equal(stacked(column.slice(3, 5)), array[3:8])
        for how in ("parquet", "stream"):
            path = write(tmp_path / "x.parquet", pa.table({"t": column}), how)
            assert zm.measure(path, pattern) == zm.measure(array, pattern)
            with pytest.raises(zm.PatternError, match=r"needs a pattern that names its axes"):
                zm.measure(path)


def test_arrays_in_lists_of_lists(tmp_path):
    array = np.random.default_rng(4).normal(size=(10, 3, 2, 2)).astype(np.float32)
    kind = pa.list_(pa.list_(pa.list_(pa.float32())))
    path = write(tmp_path / "x.parquet", pa.table({"t": lists(array, kind)}), row_group_size=3)
    assert zm.measure(path, "n c h w -> c") == zm.measure(array, "n c h w -> c")
    each, whole = zm.measure(path, "c h w -> c"), zm.measure(array, "n c h w -> c")
    assert each.std.tolist() == whole.std.tolist()  # each row by itself
    for pattern in ("h w -> h", "n a b c d -> d", "(n m) c h w -> c"):
        with pytest.raises(zm.PatternError):
            zm.measure(path, pattern, **({"m": 2} if "m" in pattern else {}))
    with pytest.raises(zm.PatternError, match="load the column as an array"):
        zm.measure(path, "n c h w -> n c")


def test_rows_of_unequal_lengths_and_missing_values(tmp_path):
    rows = [[1.0, 2.0], [3.0], None, [], [None, 4.0], [5.0, 6.0, 7.0]]
    path = write(tmp_path / "x.parquet", pa.table({"v": pa.array(rows, pa.list_(pa.float64()))}))
    profile = quietly(path, "n t ->")
    assert profile.count.item() == 7
    assert profile.mean.item() == 4
    assert profile.nan_count.item() == 1
    assert skipped(profile) == {"x.parquet[2]": "no array"}
    assert profile.provenance.items == 5
    with pytest.raises(zm.PatternError, match=r"x\.parquet\[1\] keeps \(1,\)"):
        quietly(path)
    numbers = [[1, 2], [3, None], [5, 6]]
    whole = pa.table({"v": pa.array(numbers, pa.list_(pa.int8()))})
    profile = quietly(write(path, whole))
    assert profile.mean.tolist() == [3, 4]
    assert list(skipped(profile)) == ["x.parquet[1]"]
    assert "missing numbers" in skipped(profile)["x.parquet[1]"]
    ragged = pa.table({"v": [[[1, 2], [3]], [[1, 2], [3, 4]]]})
    profile = quietly(write(path, ragged), "n a b ->")
    assert profile.mean.item() == 2.5
    assert list(skipped(profile)) == ["x.parquet[0]"]


def test_which_column_of_arrays(tmp_path):
    data = pa.table({"v": [[1.0]], "w": [[2.0]], "t": [["x"]]})
    path = write(tmp_path / "x.parquet", data)
    with pytest.raises(zm.PatternError, match=r"has 2 columns of arrays, 'v', 'w'; choose one"):
        zm.measure(path)
    assert zm.measure(path, key="w").mean.tolist() == [2]
    with pytest.raises(zm.PatternError, match=r"'t' holds list<element: string>, which is neith"):
        zm.measure(path, key="t")
    write(path, pa.table({"v": [[[1.0]]], "n": [1]}))
    with pytest.raises(zm.PatternError, match=r"column 'v' of .* holds arrays: choose it with"):
        zm.measure(path, "n h w -> w")
    other = write(tmp_path / "y.parquet", pa.table({"v": [[1.0]], "n": [1]}))
    with pytest.raises(zm.PatternError, match=r"y\.parquet: the column 'v' holds list<element: d"):
        zm.measure([path, other], "n h w -> w", key="v")
    broken = tmp_path / "z.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(zm.SourceError, match=r"z\.parquet: cannot be read"):
        zm.measure([path, broken], "n h w -> w", key="v")


# ---------------------------------------------------------------- elsewhere


def test_remote_files_are_the_same(tmp_path, truth):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    base = shards_in(tmp_path / "data")
    for path in base.glob("*.parquet"):
        store.pipe(f"/zm/pictures/{path.name}", path.read_bytes())
    stream = write(tmp_path / "s.arrow", table(), "stream", rows=9)
    store.pipe("/zm/s.arrow", stream.read_bytes())
    numbers = write(tmp_path / "n.parquet", pa.table(FRAME))
    store.pipe("/zm/n.parquet", numbers.read_bytes())
    store.pipe("/zm/pictures/train-00009.parquet", b"PAR1 no")
    paths = pa.array([{"bytes": None, "path": p} for p in ("a/1.png", "../1.png", "2.png")], STRUCT)
    beside = write(tmp_path / "p.parquet", pa.table({"p": paths}))
    store.pipe("/zm/p.parquet", beside.read_bytes())
    store.pipe("/zm/a/1.png", PICTURES[0])
    try:
        profile = quietly("memory://zm/pictures")
        assert profile == truth
        assert "train-00009.parquet" in skipped(profile)
        assert quietly("memory://zm/s.arrow") == truth
        assert zm.measure("memory://zm/n.parquet") == zm.measure(numbers)
        profile = quietly("memory://zm/p.parquet")
        assert profile.provenance.items == 1
        assert list(skipped(profile)) == ["p.parquet[1]", "p.parquet[2]"]
    finally:
        store.rm("/zm", recursive=True)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path / "x.arrow", table(), "stream")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'Arrow files need pyarrow: pip install "zeromean\[pa'):
        zm.measure(tmp_path / "x.arrow")


# ---------------------------------------------------------------- memory

CHILD = """
import sys
from pathlib import Path
import zeromean as zm

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024

zm.measure(sys.argv[1])
own = peak()
profile = zm.measure(sys.argv[2], workers=2)
print(profile.provenance.items, profile.provenance.bytes, peak() - own)
"""


def jpeg_with_much_beside(size):
    """A JPEG whose application segments, as those of cameras, are most of it: soon decoded."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (10, 20, 30)).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    noise = np.random.default_rng(0).integers(0, 255, 65_000, dtype=np.uint8).tobytes()
    segment = b"\xff\xeb" + (len(noise) + 2).to_bytes(2, "big") + noise
    return data[:2] + segment * (size // len(segment)) + data[2:]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("how", ["one row group", "small row groups", "one record batch"])
def test_memory_stays_small_whatever_the_size(tmp_path, how):
    """More than 500 MB of pictures in a few hundred MB, even in a single row group."""
    data = jpeg_with_much_beside(550_000)
    count = 1000
    rows = pa.array([{"bytes": data, "path": "a.jpg"}] * 100, STRUCT)
    part = pa.table({"image": rows})
    whole = pa.concat_tables([part] * (count // 100))
    path = tmp_path / "x.parquet"
    options = {"use_dictionary": False, "compression": "none"}
    if how == "one record batch":
        write(path, whole.combine_chunks(), "stream")
    else:
        rows_each = count if how == "one row group" else 20
        write(path, whole, row_group_size=rows_each, **options)
    small = write(tmp_path / "small.parquet", part.slice(0, 1))
    assert path.stat().st_size > 500e6
    arguments = [sys.executable, "-c", CHILD, str(small), str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    items, size, grown = map(int, done.stdout.split())
    assert (items, size) == (count, count * len(data))
    assert grown < 400


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("what", ["pictures", "prefixes", "arrays"])
def test_memory_stays_small_where_values_are_stored_once(tmp_path, what):
    """A file of a megabyte that stands for half a gigabyte."""
    path, small = tmp_path / "x.parquet", tmp_path / "small.parquet"
    if what == "arrays":
        flat = pa.array(np.zeros(120_000_000, np.uint8))
        whole = pa.table({"v": pa.FixedSizeListArray.from_arrays(flat, 3000)})
        parquet.write_table(whole, path, row_group_size=1 << 30)
        parquet.write_table(whole.slice(0, 1), small)
        expected = 40_000, 120_000_000
    else:
        data = jpeg_with_much_beside(550_000)
        rows = pa.array([{"bytes": data, "path": "a.jpg"}] * 100, STRUCT)
        whole = pa.concat_tables([pa.table({"image": rows})] * 10)
        options = {}
        if what == "prefixes":
            options = {"use_dictionary": False, "column_encoding": {
                "image.bytes": "DELTA_BYTE_ARRAY", "image.path": "PLAIN"}}  # fmt: skip
        parquet.write_table(whole, path, row_group_size=1 << 30, **options)
        parquet.write_table(whole.slice(0, 1), small)
        expected = 1000, 1000 * len(data)
    assert path.stat().st_size < 5e6
    arguments = [sys.executable, "-c", CHILD, str(small), str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    items, size, grown = map(int, done.stdout.split())
    assert (items, size) == expected
    assert grown < 400


def test_the_outline_of_a_file_reads_no_page(tmp_path):
    """How many rows there are stands in the metadata: pages may be damaged."""
    for how in ("parquet", "stream", "file"):
        path = write(tmp_path / "x", table(), how, **({} if how == "parquet" else {"rows": 9}))
        known = outline(DataFile(str(path), "x", "parquet" if how == "parquet" else "arrow"))
        assert sum(known.rows) == 60
        assert known.schema.names == ["image", "label"]
        assert known.stamp[0] == path.stat().st_size


def test_png_text_and_other_chunks_do_not_matter(tmp_path):
    """The digest is that of the bytes; the numbers are those of the pixels."""
    image, info = Image.fromarray(np.full((2, 2, 3), 9, np.uint8)), PngImagePlugin.PngInfo()
    info.add_text("k", "v")
    buffers = [io.BytesIO(), io.BytesIO()]
    image.save(buffers[0], "PNG")
    image.save(buffers[1], "PNG", pnginfo=info)
    first, second = (
        zm.measure(write(tmp_path / "x.parquet", pa.table({"p": images([b.getvalue()])})))
        for b in buffers
    )
    assert first == second
    assert first.provenance.digest != second.provenance.digest
