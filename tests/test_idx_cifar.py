"""MNIST's IDX files and CIFAR's binary batches: the bits of the arrays that they hold."""

from __future__ import annotations

import gzip
import math
import os
import pickle
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.errors import PatternError, SkippedWarning, SourceError, ZeromeanWarning
from zeromean.sources import cutting
from zeromean.sources.opening import Options, open_source

DATA = Path(__file__).parents[2] / "shared" / "data"
MNIST = DATA / "idx" / "t10k-images-idx3-ubyte.gz"
CIFAR = DATA / "cifar10-train-5k"

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array):
    """An array as an IDX file, from the format's description."""
    head = struct.pack(">BBBB", 0, 0, CODES[array.dtype.str[1:]], array.ndim)
    lengths = struct.pack(f">{array.ndim}I", *array.shape)
    return head + lengths + array.astype(array.dtype.newbyteorder(">")).tobytes()


def some(shape, dtype="u1", seed=0):
    rng = np.random.default_rng(seed)
    if dtype.startswith("f"):
        return (rng.standard_normal(shape) * 1e3).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def items(source):
    return [item for shard in source.shards() for item in shard.items()]


# ---------------------------------------------------------------- IDX: values


@pytest.mark.skipif(not MNIST.exists(), reason="MNIST is not here")
def test_mnist_has_its_published_sums(tmp_path):
    """10 000 pictures, sum 264 923 200, sum of squares 58 095 386 156; packed or not."""
    n, total, squares = 7_840_000, 264_923_200, 58_095_386_156
    profile = zm.measure(MNIST)
    mean = Fraction(total, n)
    variance = Fraction(squares, n) - mean**2
    assert profile.count == n
    assert profile.mean == float(mean) == 33.791224489795916
    assert profile.var() == float(variance)
    assert (profile.provenance.items, profile.provenance.skipped) == (10_000, ())
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(gzip.decompress(MNIST.read_bytes()))
    assert zm.measure(tmp_path / "t10k-images-idx3-ubyte") == profile


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", CODES)
def test_every_type_gives_the_bits_of_the_array(tmp_path, dtype, packed):
    array = some((50, 6, 7), dtype)
    data = idx(array)
    path = tmp_path / "x-images-idx3-data"
    path.write_bytes(gzip.compress(data) if packed else data)
    profile = zm.measure(path)
    assert profile == zm.measure(array, "n h w ->")
    assert profile.dtype == array.dtype.name
    assert zm.measure(path, "n h w -> h w") == zm.measure(array, "n h w -> h w")


def test_the_pattern_follows_from_the_axes(tmp_path):
    for shape, pattern in (
        ((9,), "n ->"),
        ((9, 4), "n d -> d"),
        ((9, 4, 5), "n h w ->"),
        ((9, 4, 5, 3), "n h w c -> c"),
    ):
        array = some(shape)
        (tmp_path / "x.idx").write_bytes(idx(array))
        profile = zm.measure(tmp_path / "x.idx")
        assert str(profile.pattern) == pattern
        assert profile == zm.measure(array, pattern)
    (tmp_path / "x.idx").write_bytes(idx(some((2, 3, 4, 5, 6))))
    with pytest.raises(PatternError, match=r"needs a pattern .* such as '.*' or '.*'"):
        zm.measure(tmp_path / "x.idx")
    five = "n t h w c -> t"
    assert zm.measure(tmp_path / "x.idx", five) == zm.measure(some((2, 3, 4, 5, 6)), five)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "pattern"), [("f4", "n h w -> w"), ("u1", "n h w -> h"), ("i4", "n h w ->")]
)
def test_blocks_have_the_bits_of_the_whole(tmp_path, monkeypatch, dtype, pattern, packed):
    """Cut along the samples, and along other axes where one sample is too large for a block."""
    monkeypatch.setattr(cutting, "_WANTED", 1 << 10)
    monkeypatch.setattr(cutting, "_LARGE", 2 << 10)
    monkeypatch.setattr(cutting, "_MOST", 4 << 10)
    array = some((7, 40, 33), dtype)
    path = tmp_path / "x.idx"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    (source,) = open_source(path, zm.Pattern.parse(pattern), Options())
    assert len(items(source)) > 1
    profile = zm.measure(path, pattern)
    assert profile == zm.measure(array, pattern)
    assert profile.provenance.items == 7


@pytest.mark.parametrize("packed", [False, True])
def test_gray_pictures_have_one_channel(tmp_path, packed):
    """Under a pattern with channels, as gray image files have one; never one picture of many."""
    array = some((9, 4, 5))
    data = idx(array)
    (tmp_path / "x.idx").write_bytes(gzip.compress(data) if packed else data)
    for pattern in ("n h w c -> c", "n h w c -> h w c", "n h w c ->"):
        profile = zm.measure(tmp_path / "x.idx", pattern)
        assert profile == zm.measure(array[..., None], pattern)
        assert profile.provenance.items == 9


@pytest.mark.parametrize("packed", [False, True])
def test_limit_is_spread_evenly(tmp_path, packed):
    array = some((100, 5, 5))
    path = tmp_path / "x.idx"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    profile = zm.measure(path, limit=4)
    assert profile == zm.measure(array[[12, 37, 62, 87]], "n h w ->")
    assert profile.provenance.sources == ("x.idx (a quick look at 4 of 100)",)
    assert zm.measure(path, limit=1000) == zm.measure(array, "n h w ->")


@pytest.mark.long
def test_memory_stays_small(tmp_path):
    """A file of 650 MB, and its packed twin, are measured in a few blocks of memory."""
    path = tmp_path / "big-images-idx3-ubyte"
    shape = (800, 900, 900)
    with path.open("wb") as file:
        file.write(struct.pack(">BBBB3I", 0, 0, 8, 3, *shape))
        file.truncate(16 + math.prod(shape))  # sparse
    with path.open("rb") as file, gzip.open(tmp_path / "big-images-idx3-ubyte.gz", "wb", 1) as out:
        while block := file.read(1 << 24):
            out.write(block)
    code = (
        "import resource, sys, zeromean as zm, numpy as np\n"
        "zm.measure(np.zeros((4, 9, 9), np.uint8), 'n h w ->')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "profile = zm.measure(sys.argv[1], workers=2)\n"
        "print(int(profile.count), float(profile.mean))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    for name in ("big-images-idx3-ubyte", "big-images-idx3-ubyte.gz"):
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        said, kilobytes = done.stdout.splitlines()
        assert said == f"{math.prod(shape)} 0.0"
        assert int(kilobytes) < 400_000, name


# ---------------------------------------------------------------- IDX: folders and labels


def test_a_folder_gives_its_pictures_and_leaves_labels_out(tmp_path):
    images, labels = some((20, 4, 4)), some((20,), seed=1) % 10
    for name, data in (
        ("train-images-idx3-ubyte", idx(images)),
        ("train-labels-idx1-ubyte", idx(labels)),
        ("train-labels-idx1-ubyte.gz", gzip.compress(idx(labels))),
    ):
        (tmp_path / name).write_bytes(data)
    profile = zm.measure(tmp_path)
    assert profile == zm.measure(images, "n h w ->")
    assert profile.provenance.left_out == {"IDX without pictures": 2}
    assert zm.measure(tmp_path / "train-labels-idx1-ubyte") == zm.measure(labels)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    assert zm.measure(tmp_path / "test") == profile  # a folder for that
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "test" / "t10k-images-idx3-ubyte").unlink()
    with pytest.warns(ZeromeanWarning, match="t10k-images-idx3-ubyte is inside the measured fol"):
        both = zm.measure(tmp_path)
    assert both == profile + profile
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (tmp_path / name).unlink()
    assert zm.measure(tmp_path).provenance.items == 40  # nothing but labels


@pytest.mark.parametrize("packed", [False, True])
def test_classes_come_from_the_labels_beside(tmp_path, packed):
    images, labels = some((60, 4, 4)), some((60,), seed=1) % 10
    end = ".gz" if packed else ""
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        data = gzip.compress(idx(array)) if packed else idx(array)
        (tmp_path / (name + end)).write_bytes(data)
    path = tmp_path / ("train-images-idx3-ubyte" + end)
    expected = zm.measure(images, "n h w ->", by=labels)
    assert zm.measure(path, by="class") == expected
    assert zm.measure(tmp_path, by="class") == expected
    chosen = [7, 22, 37, 52]
    by_hand = zm.measure(images[chosen], "n h w ->", by=labels[chosen])
    assert zm.measure(path, by="class", limit=4) == by_hand
    with pytest.raises(PatternError, match="by is 'speaker'"):
        zm.measure(path, by="speaker")
    (tmp_path / ("train-labels-idx1-ubyte" + end)).write_bytes(idx(labels[:-1]))
    with pytest.raises(PatternError, match="holds 60 pictures and has 59 labels"):
        zm.measure(path, by="class")
    (tmp_path / ("train-labels-idx1-ubyte" + end)).unlink()
    with pytest.raises(SourceError, match=r"has no labels beside it \(train-labels-idx1-ubyte"):
        zm.measure(path, by="class")


def test_a_ledger_knows_blocks(tmp_path):
    array = some((300, 4, 4))
    (tmp_path / "x.idx").write_bytes(idx(array))
    first = zm.measure(tmp_path / "x.idx", ledger=tmp_path / "ledger")
    assert zm.measure(tmp_path / "x.idx", ledger=tmp_path / "ledger") == first
    array[5] += 1
    (tmp_path / "x.idx").write_bytes(idx(array))
    again = zm.measure(tmp_path / "x.idx", ledger=tmp_path / "ledger")
    assert again == zm.measure(array, "n h w ->") != first


# ---------------------------------------------------------------- IDX: damage


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda d: d[:-1], "claims 960 bytes of data for shape (60, 4, 4), holds 959"),
        (lambda d: d[:20], "claims 960 bytes of data for shape (60, 4, 4), holds 4"),
        (lambda d: d[:9], "ends before its data does"),
        (lambda d: d[:3] + b"\0" + d[4:], "is no IDX file: it begins with 00 00 08 00"),
        (lambda d: b"\0\0\x0a" + d[3:], "is no IDX file: it begins with 00 00 0a 03"),
        (lambda d: d[:4] + b"\xff" * 12 + d[16:], "for shape (4294967295, 4294967295, 4294967295)"),
        (lambda d: gzip.compress(d)[:-9], "the gzip data is cut short"),
        (lambda d: gzip.compress(d)[:-8] + bytes(8), "damaged gzip data: CRC check failed"),
        (lambda d: gzip.compress(d[:-1]), "claims 960 bytes of data for shape (60, 4, 4)"),
        (lambda d: b"", "ends before its data does"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, damage, match):
    """Alone it is an error; beside others it is skipped, and leaves no trace in the numbers."""
    array = some((60, 4, 4))
    (tmp_path / "bad-idx3-ubyte").write_bytes(damage(idx(array)))
    (tmp_path / "good-idx3-ubyte").write_bytes(idx(array))
    with pytest.raises(SourceError) as caught:
        zm.measure(tmp_path / "bad-idx3-ubyte", format="idx")
    assert str(caught.value).startswith("bad-idx3-ubyte: ")
    assert match in str(caught.value)
    with pytest.warns(SkippedWarning):
        profile = zm.measure(tmp_path)
    assert profile == zm.measure(array, "n h w ->")
    ((name, reason),) = profile.provenance.skipped
    assert name == "bad-idx3-ubyte"
    assert match in reason
    with pytest.raises(SourceError, match="bad-idx3-ubyte"):
        zm.measure(tmp_path, strict=True)


def test_bytes_after_the_data_are_left_out_and_said(tmp_path):
    array = some((60, 4, 4))
    for data in (idx(array) + b"xyz", gzip.compress(idx(array) + b"xyz")):
        (tmp_path / "x.idx").write_bytes(data)
        with pytest.warns(ZeromeanWarning, match=r"x\.idx: 3 bytes after the data were left out"):
            assert zm.measure(tmp_path / "x.idx") == zm.measure(array, "n h w ->")


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path):
    array = some((3, 4, 4))
    with gzip.open(tmp_path / "x.idx", "wb", 1) as file:
        file.write(idx(array))
        for _ in range(100):
            file.write(bytes(1 << 20))
    with pytest.warns(ZeromeanWarning, match="more than 67,108,864 bytes after the data"):
        assert zm.measure(tmp_path / "x.idx") == zm.measure(array, "n h w ->")


def test_a_file_that_changes_while_it_is_read_is_skipped(tmp_path):
    array = some((60, 4, 4))
    (tmp_path / "x.idx").write_bytes(idx(array))
    (source,) = open_source(tmp_path / "x.idx", None, Options())
    (tmp_path / "x.idx").write_bytes(idx(array)[:-4])
    (item,) = items(source)
    assert (item.array, item.reason) == (None, "ends before its data does")
    (tmp_path / "x.idx").unlink()
    (item,) = items(source)
    assert (item.reason, item.passing) == ("vanished before it was read", True)


def test_idx_in_a_remote_store():
    fsspec = pytest.importorskip("fsspec")
    array = some((60, 4, 4))
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/m/x-images-idx3-ubyte.gz", gzip.compress(idx(array)))
    assert zm.measure("memory://m/x-images-idx3-ubyte.gz") == zm.measure(array, "n h w ->")
    memory.rm("/m", recursive=True)


# ---------------------------------------------------------------- CIFAR


def batch(pictures, labels):
    """Pictures (n, 32, 32, 3) as a binary batch, from the data set's description."""
    labels = np.atleast_2d(labels.T).T.astype(np.uint8)
    return np.hstack([labels, pictures.transpose(0, 3, 1, 2).reshape(len(pictures), -1)]).tobytes()


@pytest.fixture
def ten(tmp_path):
    """Two batches and a test batch of CIFAR-10's form, and a folder of the same pictures."""
    pictures, labels = some((30, 32, 32, 3)), some((30,), seed=1) % 10
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = [f"kind{i}" for i in range(10)]
    for i in range(3):
        name = f"data_batch_{i + 1}.bin" if i < 2 else "test_batch.bin"
        part = slice(10 * i, 10 * i + 10)
        (folder / name).write_bytes(batch(pictures[part], labels[part]))
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    (folder / "readme.html").write_text("<html>")
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        place = tmp_path / "pngs" / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i:02}.png")
    return folder, pictures, labels


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_batches_are_the_folder_of_the_same_pictures(ten, tmp_path):
    folder, pictures, labels = ten
    profile = zm.measure(folder)
    assert profile == zm.measure(tmp_path / "pngs")
    assert profile == zm.measure(pictures, "n h w c -> c", channels="RGB")
    assert profile.units.channels == "RGB"
    assert profile.provenance.items == 30
    assert zm.measure(folder, by="class") == zm.measure(tmp_path / "pngs", by="class")
    (folder / "batches.meta.txt").unlink()
    assert zm.measure(folder, by="class") == zm.measure(
        pictures, "n h w c -> c", by=labels, channels="RGB"
    )
    pixels = "n h w c -> h w c"
    assert zm.measure(folder, pixels) == zm.measure(pictures, pixels, channels="RGB")


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
@pytest.mark.skipif(not CIFAR.exists(), reason="CIFAR is not here")
def test_real_pictures_as_a_batch(tmp_path):
    """The 5 000 PNGs of the data folder, written as a binary batch."""
    paths = sorted(CIFAR.rglob("*.png"))
    pictures = np.stack([np.asarray(Image.open(path)) for path in paths])
    labels = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    (tmp_path / "data_batch_1.bin").write_bytes(batch(pictures, labels))
    profile = zm.measure(tmp_path / "data_batch_1.bin")
    assert profile == zm.measure(CIFAR)
    assert profile.mean.tolist() == [124.606650390625, 122.0598107421875, 113.67845]


def test_a_test_batch_in_a_folder_draws_a_warning(ten):
    folder, _, _ = ten
    with pytest.warns(ZeromeanWarning, match=r"test_batch\.bin is inside the measured folder"):
        zm.measure(folder)
    zm.measure([folder / "data_batch_1.bin", folder / "data_batch_2.bin"])  # no warning
    zm.measure(folder / "test_batch.bin")


def test_limit_labels_and_ledger(ten, tmp_path):
    folder, pictures, labels = ten
    files = [folder / "data_batch_1.bin", folder / "data_batch_2.bin"]
    chosen = [2, 7, 12, 17]
    expected = zm.measure(pictures[chosen], "n h w c -> c", by=labels[chosen], channels="RGB")
    (folder / "batches.meta.txt").unlink()
    assert zm.measure(files, limit=4, by="class") == expected
    assert zm.measure(files, limit=4) == expected.total
    first = zm.measure(files, ledger=tmp_path / "ledger")
    assert zm.measure(files, ledger=tmp_path / "ledger") == first
    (source,) = open_source([str(f) for f in files], None, Options())
    assert [entry.name for entry in source.entries()] == ["data_batch_1.bin", "data_batch_2.bin"]


def test_cifar_100_has_two_labels(tmp_path):
    pictures = some((40, 32, 32, 3))
    labels = np.stack([some((40,), seed=1) % 20, some((40,), seed=2) % 100], axis=1)
    path = tmp_path / "train.bin"
    path.write_bytes(batch(pictures, labels))
    rgb = {"channels": "RGB"}
    assert zm.measure(path) == zm.measure(pictures, "n h w c -> c", **rgb)
    for kind, column in (("superclass", 0), ("class", 1)):
        expected = zm.measure(pictures, "n h w c -> c", by=labels[:, column], **rgb)
        assert zm.measure(path, by=kind) == expected
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"f{i}" for i in range(100)))
    assert set(zm.measure(path, by="class")) == {f"f{i}" for i in labels[:, 1]}
    with pytest.raises(PatternError, match="this data set has by='superclass' and by='class'"):
        zm.measure(path, by="color")
    (tmp_path / "data_batch_1.bin").write_bytes(batch(pictures, labels[:, 0] % 10))
    with pytest.raises(SourceError, match="CIFAR-10 and CIFAR-100 batches lie together"):
        zm.measure(tmp_path)


def test_a_batch_that_is_none_is_named(ten):
    folder, pictures, labels = ten
    good = (folder / "data_batch_1.bin").read_bytes()
    bad = folder / "data_batch_2.bin"
    for data, match in (
        (good[:-1], "has 30,729 bytes, no multiple of 3,073"),
        (b"", "has 0 bytes"),
        (batch(pictures[:4], labels[:4] + 10), "is no CIFAR batch: record 0 has the label"),
    ):
        bad.write_bytes(data)
        with pytest.raises(SourceError, match=match) as caught:
            zm.measure(bad, format="cifar")
        assert str(caught.value).startswith("data_batch_2.bin: ")
        with pytest.warns(ZeromeanWarning):
            profile = zm.measure(folder)
        assert [name for name, _ in profile.provenance.skipped] == ["data_batch_2.bin"]
        assert profile.provenance.items == 21 - 1


def test_pickles_are_never_loaded(tmp_path):
    """The Python version of the data set would run whatever program is in it."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for protocol in (2, 3, 4, 5):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Evil(), protocol))
        with pytest.raises(SourceError, match="is a Python pickle, which can run any program"):
            zm.measure(tmp_path / "data_batch_1")
        with pytest.raises(SourceError, match=r"holds Python pickles.* take the binary version"):
            zm.measure(tmp_path / "data_batch_1", format="cifar")
    (tmp_path / "batches.meta").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(
        SourceError, match=r"holds no binary batches \(\.bin\); its batches are Pyt"
    ):
        zm.measure(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_groups_count_their_own_pictures(tmp_path):
    """Two batches of four classes: every class has its pictures, and all have all of them."""
    rng = np.random.default_rng(13)
    for number in (1, 2):
        records = rng.integers(0, 256, (40, 3073)).astype(np.uint8)
        records[:, 0] = np.arange(40) % 4
        (tmp_path / f"data_batch_{number}.bin").write_bytes(records.tobytes())
    groups = zm.measure(tmp_path, by="class")
    assert [group.provenance.items for group in groups.values()] == [20] * 4
    assert groups.total.provenance.items == 80
