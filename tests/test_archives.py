"""Archives: the numbers of the folder they were made of, and damage and attacks by name."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import textwrap
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.accumulation import Plan, measure_shard
from zeromean.errors import PatternError, SourceError, ZeromeanWarning
from zeromean.sources import Item, archives, zip_members
from zeromean.sources.archive_listing import Listing
from zeromean.sources.archives import Archives
from zeromean.sources.decode import DecodeError
from zeromean.sources.opening import Options
from zeromean.sources.recognition import recognized
from zeromean.sources.tar_members import Fault, Member, Seekable, Slice, members

DATA = Path(__file__).parents[2] / "shared" / "data"
CIFAR, PHOTOS, MADE = DATA / "cifar10-train-5k", DATA / "photos", DATA / "corpus" / "made"
with_cifar = pytest.mark.skipif(not CIFAR.is_dir(), reason="the data is not beside the repository")
with_corpus = pytest.mark.skipif(not MADE.is_dir(), reason="the data is not beside the repository")
COMPRESSIONS = ("gz", "bz2", "xz")


def png(seed: int, size: int = 9) -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size + 1, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def folder_of(path: Path, n: int = 12, classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    """A folder of pictures in class folders."""
    for i in range(n):
        own = path / classes[i % len(classes)]
        own.mkdir(parents=True, exist_ok=True)
        (own / f"{i:03d}.png").write_bytes(png(i))
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes, **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def tar_of(path: Path, held: dict[str, bytes], mode: str = "w", **options: object) -> Path:
    """A tar archive of names and their bytes."""
    with tarfile.open(path, mode, **options) as tar:
        for name, data in held.items():
            add(tar, name, data)
    return path


def zip_of(path: Path, held: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in held.items():
            file.writestr(name, data)
    return path


def quietly(source: object, **options: object) -> zm.Profile:
    """Measure, whatever is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeromeanWarning)
        return zm.measure(source, **options)


def skips(profile: zm.Profile) -> dict[str, str]:
    """What was skipped, and why; each name once."""
    skipped = profile.provenance.skipped
    assert len(dict(skipped)) == len(skipped)
    return dict(skipped)


def opened(*paths: Path, name: str = "tar", **options: object) -> Archives:
    return archives.open_paths([str(p) for p in paths], None, Options(**options), name)[0]


def same(first: zm.Profile, second: zm.Profile) -> bool:
    """The same statistics, of the same content."""
    one, two = first.provenance, second.provenance
    return first == second and (one.digest, one.items) == (two.digest, two.items)


# ---------------------------------------------------------------- the same numbers as a folder


@with_cifar
def test_five_thousand_pictures_give_one_profile_whatever_holds_them(tmp_path):
    """Folder, tar by Python and by GNU tar, compressed, zip stored and deflated: `==`, digests."""
    folder = zm.measure(CIFAR)
    made = [tmp_path / name for name in ("a.tar", "b.tar", "c.tar.gz", "d.zip", "e.zip")]
    with tarfile.open(made[0], "w") as tar:
        tar.add(CIFAR, "cifar")
    subprocess.run(["tar", "-cf", made[1], "-C", CIFAR, "."], check=True)
    subprocess.run(["tar", "-czf", made[2], "-C", CIFAR.parent, CIFAR.name], check=True)
    for path, method in zip(made[3:], (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), strict=True):
        with zipfile.ZipFile(path, "w", method) as file:
            for picture in sorted(CIFAR.rglob("*.png")):
                file.write(picture, picture.relative_to(CIFAR))
    for path in made:
        profile = zm.measure(path)
        assert same(profile, folder), path.name
        assert not profile.provenance.skipped
        assert profile.provenance.bytes == folder.provenance.bytes


def test_classes_are_those_of_the_folder(tmp_path):
    """`by="class"` takes the first folder in the archive, whichever archive it is."""
    folder = folder_of(tmp_path / "in", 40, ("ant", "bee", "cow", "dog"))
    expected = zm.measure(folder, by="class")
    assert len(expected) == 4
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(folder, ".")
    assert zm.measure(tmp_path / "a.tar", by="class") == expected
    whole = sorted(folder.rglob("*.png"))
    for k in range(2):  # each class in both
        with tarfile.open(tmp_path / f"{k}.tar", "w") as tar:
            for path in whole[k::2]:
                tar.add(path, path.relative_to(folder))
    shards = [tmp_path / "0.tar", tmp_path / "1.tar"]
    assert zm.measure(shards, by="class") == expected


def test_by_class_says_what_lies_in_no_folder(tmp_path):
    """A flat archive has no classes, and labels cannot be matched with its members."""
    flat = tar_of(tmp_path / "a.tar", {"1.png": png(1), "b/2.png": png(2)})
    with pytest.raises(SourceError, match=r"1\.png lies in no class folder"):
        zm.measure(flat, by="class")
    with pytest.raises(PatternError, match="cannot be matched"):
        zm.measure(flat, by=["a", "b"])


def test_a_key_names_a_folder_in_the_archive(tmp_path):
    """`archive.zip:folder` is that folder, with names below it."""
    folder = folder_of(tmp_path / "in")
    held = {f"set/train/{p.relative_to(folder)}": p.read_bytes() for p in folder.rglob("*.png")}
    held |= {f"set/val/ant/{i}.png": png(100 + i) for i in range(3)}
    path = zip_of(tmp_path / "a.zip", held)
    part = zm.measure(f"{path}:set/train", by="class")
    assert part == zm.measure(folder, by="class")
    with pytest.warns(ZeromeanWarning, match="val is inside the measured"):
        zm.measure(path)
    with pytest.raises(SourceError, match="only what is below 'set/test' was looked at"):
        zm.measure(f"{path}:set/test")


def test_webdataset_shards(tmp_path):
    """Shards of WebDataset's own writer: pictures are samples, what is beside them is counted."""
    wds = pytest.importorskip("webdataset")
    pictures = [png(i) for i in range(7)]
    for k in range(2):
        with wds.TarWriter(str(tmp_path / f"train-{k}.tar")) as writer:
            for i in range(k, 7, 2):
                key = f"{i:06d}"
                sample = {"__key__": key, "png": pictures[i], "cls": i, "json": {"i": i}}
                writer.write(sample | {"txt": "a word", "seg.gif": b"GIF89a"})
    (tmp_path / "index.json").write_text("{}")
    source = opened(tmp_path)
    assert [entry.name for entry in source.entries()] == [
        f"train-{k}.tar/{i:06d}.png" for k in range(2) for i in range(k, 7, 2)
    ]
    assert (source.ignored, source.left_out) == (21, {".gif": 7})
    (tmp_path / "folder").mkdir()
    for i, data in enumerate(pictures):
        (tmp_path / "folder" / f"{i}.png").write_bytes(data)
    expected = zm.measure(tmp_path / "folder")
    for given in (tmp_path, [tmp_path / "train-0.tar", tmp_path / "train-1.tar"]):
        assert same(zm.measure(given, format="tar"), expected)
    assert same(zm.measure(str(tmp_path / "train-{0..1}.tar")), expected)


@pytest.mark.parametrize("form", ["ustar", "pax", "gnu", "v7", "posix", "oldgnu"])
def test_every_format_of_gnu_tar(form, tmp_path):
    """Long names, names that are not ASCII, prefixes: what GNU tar writes in each format."""
    deep = "/".join(["a rather long name of a folder"] * 5)  # 154 characters
    names = ["short.png", "sub/ümläut.png"]
    if form != "v7":
        names.append(f"{deep}/{'x' * 60}.png")
    if form not in ("v7", "ustar"):
        names.append(f"{deep}/{'y' * 120}.png")
    for i, name in enumerate(names):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    path = tmp_path / "a.tar"
    form = "posix" if form == "pax" else form
    subprocess.run(["tar", "-cf", path, f"--format={form}", "-C", tmp_path / "in", "."], check=True)
    assert sorted(e.name for e in opened(path).entries()) == sorted(names)
    assert same(zm.measure(path, format="tar"), zm.measure(tmp_path / "in"))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_walk_finds_what_tarfile_finds(form, tmp_path):
    """Names, offsets and sizes of `tarfile`, in each of its formats."""
    path = tmp_path / "a.tar"
    held = {
        f"{'d' * (i * 11)}/{i}.bin"[-200 + 100 * (form == 0) :]: bytes(i * 100) for i in range(20)
    }
    with tarfile.open(path, "w", format=form, encoding="latin-1") as tar:
        for name, data in held.items():
            add(tar, name, data, uid=1 << (21 if form else 3), mtime=12345.678)
    with tarfile.open(path, encoding="latin-1") as tar:
        expected = [(m.name, (m.offset_data, m.size)) for m in tar.getmembers()]
    found = walked(path.read_bytes())
    assert [(m.name, m.numbers) for m in found] == expected


def walked(data: bytes) -> list[Member | Fault]:
    return list(members(Seekable(io.BytesIO(data), len(data))))


def test_sizes_in_binary(tmp_path):
    """GNU's numbers in base 256, for members of more than 8 GB; here of a few bytes."""
    data = bytearray(tar_of(tmp_path / "a.tar", {"a.png": png(0)}).read_bytes())
    size = int(data[124:135], 8)
    data[124:136] = b"\x80" + size.to_bytes(11, "big")
    seal(data)
    (tmp_path / "b.tar").write_bytes(data)
    assert same(zm.measure(tmp_path / "a.tar"), zm.measure(tmp_path / "b.tar"))
    data[124:136] = b"\xff" * 12  # minus one
    seal(data)
    assert "byte 0" not in str(walked(bytes(data)))
    assert isinstance(walked(bytes(data))[0], Fault)


def seal(data: bytearray, at: int = 0) -> None:
    """Write the right checksum into a header."""
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])


def test_checksums_of_signed_bytes(tmp_path):
    """Old systems summed signed characters; `tarfile` and GNU tar read those too."""
    data = bytearray(tar_of(tmp_path / "a.tar", {"ü.png": png(0)}, format=0).read_bytes())
    header = data[:148] + b" " * 8 + data[156:512]
    signed = sum(b - 256 if b > 127 else b for b in header)
    data[148:156] = b"%06o\0 " % signed
    (tmp_path / "b.tar").write_bytes(data)
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert len(tar.getmembers()) == 1
    assert same(zm.measure(tmp_path / "a.tar"), zm.measure(tmp_path / "b.tar"))


@pytest.mark.parametrize("end", COMPRESSIONS)
def test_compressed_tar_archives(end, tmp_path):
    """Read from their beginning; shards carry the bytes; recognized by content."""
    folder = folder_of(tmp_path / "in", 200)
    path = tmp_path / "archive"
    with tarfile.open(path, f"w:{end}") as tar:
        tar.add(folder, ".")
    assert recognized(str(path)) == "tar"
    assert same(zm.measure(path), zm.measure(folder))
    source = opened(path)
    shards = [pickle.loads(pickle.dumps(shard)) for shard in source.shards()]
    path.unlink()  # the bytes are in the shards
    items = [item for shard in shards for item in shard.items()]
    assert Counter(item.reason for item in items) == {"": 200}


def test_zstd_where_python_can(tmp_path):
    """Python 3.14 reads zstd; before that the error says what to do."""
    zstd = shutil.which("zstd")
    if zstd is None:
        pytest.skip("there is no zstd program")
    folder = folder_of(tmp_path / "in")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(folder, ".")
    subprocess.run([zstd, "-q", tmp_path / "a.tar"], check=True)
    if sys.version_info >= (3, 14):
        assert same(zm.measure(tmp_path / "a.tar.zst"), zm.measure(folder))
        return
    with pytest.raises(ImportError, match=r"need Python 3\.14; decompress them first: zstd -d"):
        zm.measure(tmp_path / "a.tar.zst")


@pytest.mark.parametrize("end", COMPRESSIONS)
def test_other_compressed_files_are_named(end, tmp_path):
    """A compressed text is no archive, whatever it is compressed with."""
    opener = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[end]
    path = tmp_path / f"notes.txt.{end}"
    with opener(path, "wb") as file:
        file.write(b"only words " * 100)
    with pytest.raises(SourceError, match="something else than a tar archive"):
        zm.measure(path)


# ---------------------------------------------------------------- the source


def test_entries_and_stamps(tmp_path):
    """A stamp is size, the archive's times, and the place in it; items carry the same."""
    for path in (
        tar_of(tmp_path / "a.tar", {f"{i}.png": png(i) for i in range(3)}),
        tar_of(tmp_path / "a.tgz", {f"{i}.png": png(i) for i in range(3)}, "w:gz"),
        zip_of(tmp_path / "a.zip", {f"{i}.png": png(i) for i in range(3)}),
    ):
        source = opened(path, name=recognized(str(path)))
        entries = list(source.entries())
        status = path.stat()
        assert len({entry.stamp[3] for entry in entries}) == len(entries) == source.n_items == 3
        for i, entry in enumerate(entries):
            size, *times, _ = entry.stamp
            assert (entry.name, size) == (f"{i}.png", len(png(i)))
            assert times == [status.st_mtime_ns, status.st_ctime_ns]
        items = [item for shard in source.shards() for item in shard.items()]
        assert [(i.name, i.stamp) for i in items] == [tuple(e) for e in entries]
        assert source.n_bytes == sum(entry.stamp[0] for entry in entries)


@pytest.mark.parametrize("end", ["tar", "tar.gz", "zip"])
def test_any_choice_in_any_order(end, tmp_path, monkeypatch):
    """`shards_of` gives the chosen ones in the order given; a stream takes several passes."""
    monkeypatch.setattr(archives, "_WINDOW", 2000)
    held = {f"{i:03d}.png": png(i) for i in range(150)}
    paths = []
    for k in range(2):
        own = {name: data for name, data in held.items() if int(name[:3]) % 2 == k}
        make = zip_of if end == "zip" else tar_of
        mode = {"tar.gz": ("w:gz",)}.get(end, ())
        paths.append(make(tmp_path / f"{k}.{end}", own, *mode))
    source = opened(*paths, name="zip" if end == "zip" else "tar")
    names = [entry.name for entry in source.entries()]
    chosen = np.random.default_rng(5).permutation(150)[:100].tolist()
    chosen += [7, 7]
    shards = list(source.shards_of(chosen))
    items = [item for shard in shards for item in shard.items()]
    assert [item.name for item in items] == [names[i] for i in chosen]
    for item in items:
        assert (item.array == decoded(held[item.name[-7:]])).all()
    assert max(shard.n_items for shard in shards) == 64
    for shard in shards:
        single = [item for part in shard.split() for item in part.items()]
        assert [item.name for item in single] == [item.name for item in shard.items()]


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_shards_are_cut_by_size(tmp_path, monkeypatch):
    """64 members or 16 MB; those that carry their bytes are smaller."""
    held = {f"{i}.png": png(i, 40) for i in range(30)}
    monkeypatch.setattr(archives, "_SHARD_BYTES", 4 * sum(map(len, held.values())) // 15)
    plain = opened(tar_of(tmp_path / "a.tar", held))
    assert [shard.n_items for shard in plain.shards()] == [8, 8, 8, 6]
    assert len(pickle.dumps(next(plain.shards()))) < 2000


def test_processes_measure_shards(tmp_path):
    """Shards and their results travel to other processes and back."""
    folder = folder_of(tmp_path / "in", 130)
    for name in ("a.tar", "a.tgz"):
        with tarfile.open(tmp_path / name, "w:gz" if name == "a.tgz" else "w") as tar:
            tar.add(folder, ".")
    expected = zm.measure(folder)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for name in ("a.tar", "a.tgz"):
            assert same(zm.measure(tmp_path / name, executor=pool), expected)


def test_options_reach_the_reader(tmp_path):
    """Colors, group, extensions and limit mean what they mean for folders."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(20):
        image = Image.open(io.BytesIO(png(i)))
        if i % 4 == 1:
            image = image.convert("L")
        image.save(folder / f"{i:02d}.{'gif' if i % 4 == 2 else 'png'}")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for picture in sorted(folder.iterdir()):
            tar.add(picture, picture.name)
    for options in (
        {"colors": "gray"},
        {"colors": "keep", "group": "L"},
        {"extensions": ["gif"]},
        {"limit": 4},
    ):
        profile, expected = quietly(path, **options), quietly(folder, **options)
        assert same(profile, expected)
        assert skips(profile) == skips(expected)
        assert profile.provenance.left_out == expected.provenance.left_out
    assert zm.measure(path, limit=4).provenance.sources[0].endswith("(a quick look at 4 of 15)")
    with pytest.raises(SourceError, match="kinds cannot share"):
        zm.measure(path, colors="keep")


def test_paths_hold_wherever_a_worker_was_started(tmp_path, monkeypatch):
    """Shards of a relative path name the archive in full; messages as it was given."""
    tar_of(tmp_path / "a.tar", {"1.png": png(1)})
    tar_of(tmp_path / "b.tar", {"1.txt": b""})
    monkeypatch.chdir(tmp_path)
    source = opened(Path("a.tar"))
    with pytest.raises(SourceError, match=r"^'b\.tar' holds no image"):
        zm.measure("b.tar")
    monkeypatch.chdir("/")
    (shard,) = source.shards()
    assert [item.reason for item in shard.items()] == [""]
    assert (source.name, shard.name) == ("a.tar", "1.png")


def test_hidden_members_are_passed_over(tmp_path):
    """macOS's `._x.jpg` and `__MACOSX`, and hidden folders, as in a folder."""
    held = {"a/1.png": png(1), "a/._1.png": b"\0", "__MACOSX/a/2.png": b"\0", ".git/3.png": b"\0"}
    for path in (tar_of(tmp_path / "a.tar", held), zip_of(tmp_path / "a.zip", held)):
        profile = zm.measure(path)
        assert (profile.provenance.items, profile.provenance.skipped) == (1, ())


def test_an_archive_that_is_given_twice_is_read_once(tmp_path):
    """Also under another name."""
    path = tar_of(tmp_path / "a.tar", {"1.png": png(1)})
    (tmp_path / "b.tar").symlink_to(path)
    with pytest.warns(ZeromeanWarning, match="given twice"):
        profile = zm.measure([path, tmp_path / "b.tar"])
    assert profile.provenance.items == 1


def test_archives_of_one_name_are_told_apart(tmp_path):
    """Labels are base names, or whole paths where these are the same."""
    paths = []
    for k in "xy":
        (tmp_path / k).mkdir()
        paths.append(tar_of(tmp_path / k / "0.tar", {"1.png": png(ord(k))}))
    names = [entry.name for entry in opened(*paths).entries()]
    assert names == [f"{path}/1.png" for path in paths]


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_archives_without_images_say_what_they_hold(make, tmp_path):
    """The error counts what is there, and says that only images are read."""
    end = "tar" if make is tar_of else "zip"
    path = make(tmp_path / f"a.{end}", {f"{i}.npy": b"NUMPY" for i in range(3)} | {"x.txt": b""})
    with pytest.raises(SourceError, match=r"3 \.npy, 1 \.txt; .*NumPy arrays are not read out of"):
        zm.measure(path)
    path = make(tmp_path / f"b.{end}", {"a.gif": b"GIF89a"})
    with pytest.raises(SourceError, match=r"read them with extensions=\['\.gif'\]"):
        zm.measure(path)
    path = make(tmp_path / f"c.{end}", {})
    with pytest.raises(SourceError, match="no other file either"):
        zm.measure(path)


@pytest.mark.parametrize(
    ("name", "package", "options"),
    [
        ("speech", "soundfile", {}),
        ("dicom", "pydicom", {"group": "1-channel int32"}),
        ("nifti", "nibabel", {"group": "nifti-volume int16"}),
    ],
)
def test_recordings_and_medical_images_in_archives(name, package, options, tmp_path):
    """Where there are no images: what the folder gives, also of what cannot be read."""
    pytest.importorskip(package)
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip("the data is not beside the repository")
    files = sorted(path for path in folder.iterdir() if path.is_file())[:60]
    held = {path.name: path.read_bytes() for path in files}
    (tmp_path / "in").mkdir()
    for file, data in held.items():
        (tmp_path / "in" / file).write_bytes(data)
    format_ = {"speech": "audio"}.get(name, name)
    expected = quietly(tmp_path / "in", format=format_, **options)
    for path in (
        tar_of(tmp_path / "a.tar", held),
        tar_of(tmp_path / "a.tgz", held, "w:gz"),
        zip_of(tmp_path / "a.zip", held),
    ):
        profile = quietly(path, **options)
        assert same(profile, expected)
        assert skips(profile) == skips(expected)


def test_images_come_first_and_extensions_choose(tmp_path):
    """Beside images, recordings are passed over, unless they are asked for."""
    soundfile = pytest.importorskip("soundfile")
    sound = io.BytesIO()
    values = np.arange(-50, 50, dtype=np.int16)
    soundfile.write(sound, values, 8000, format="WAV")
    held = {"a.png": png(1), "a.wav": sound.getvalue(), "b.wav": sound.getvalue()}
    path = tar_of(tmp_path / "a.tar", held)
    assert zm.measure(path).provenance.items == 1
    profile = zm.measure(path, extensions=["wav"])
    assert (profile.provenance.items, profile.mean.tolist()) == (2, [-0.5])
    only = tar_of(tmp_path / "b.tar", {"a.wav": sound.getvalue()})
    with pytest.raises(SourceError, match="only samples are read; unpack them first"):
        zm.measure(only, features="logmel")


def test_an_archive_without_images_among_others_is_a_warning(tmp_path):
    held = tar_of(tmp_path / "a.tar", {"1.png": png(1)})
    empty = tar_of(tmp_path / "b.tar", {"1.json": b"{}"})
    with pytest.warns(ZeromeanWarning, match=r"b\.tar holds nothing to read"):
        assert zm.measure([held, empty]).provenance.items == 1


def test_missing_and_unreadable_archives(tmp_path):
    """The only one is an error; one among others is skipped by name, and may come back."""
    held = tar_of(tmp_path / "train-a.tar", {"1.png": png(1)})
    with pytest.raises(SourceError, match=r"no such folder or file: .*did you mean .*train-a\.tar"):
        zm.measure(tmp_path / "train-b.tar", format="tar")
    missing = tmp_path / "train-b.tar"
    profile = quietly([held, missing], format="tar")
    assert skips(profile) == {"train-b.tar": "no such file"}
    items = [i for shard in opened(held, missing).shards() for i in shard.items()]
    assert [item.passing for item in items] == [False, True]
    with pytest.raises(SourceError, match=r"train-b\.tar: no such file"):
        zm.measure([held, missing], format="tar", strict=True)
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(SourceError, match="a named pipe, not a file"):
        zm.measure(tmp_path / "pipe.tar", format="tar")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SourceError, match="holds no tar archive"):
        zm.measure(tmp_path / "nothing", format="tar")


# ---------------------------------------------------------------- damage


def test_a_tar_cut_anywhere_is_reported(tmp_path):
    """Cut at each block, and within: no statistic without a skip, and never a wrong one."""
    held = {f"{i}.png": png(i) for i in range(4)} | {"notes.json": b"{}" * 600}
    whole = tar_of(tmp_path / "whole.tar", held, format=tarfile.PAX_FORMAT).read_bytes()
    end = whole.rindex(b"{}") // 512 * 512 + 512
    path = tmp_path / "cut.tar"
    errors = []
    cuts = sorted({*range(0, end + 1024, 512), *range(100, end, 700), end + 513, end + 1023})
    for cut in cuts:
        path.write_bytes(whole[:cut])
        try:
            profile = quietly(path, format="tar")
        except SourceError as error:
            errors.append(str(error))
            continue
        reasons = skips(profile)
        assert "cut.tar" in reasons, cut
        n = profile.provenance.items
        assert profile == zm.measure([decoded(png(i)) for i in range(n)], channels="RGB"), cut
        assert whole.index(png(n - 1)) + len(png(n - 1)) <= cut
    assert len(errors) >= 4
    assert all("cut.tar' cannot be read: cut short at byte" in error for error in errors)
    path.write_bytes(whole[: end + 1024])
    assert not zm.measure(path).provenance.skipped


@pytest.mark.parametrize("end", COMPRESSIONS)
def test_a_compressed_tar_cut_anywhere_is_reported(end, tmp_path):
    """What was whole before the cut counts, and the cut is named."""
    held = {f"{i}.png": png(i, 30) for i in range(6)}
    whole = tar_of(tmp_path / "whole.tar", held, f"w:{end}").read_bytes()
    path = tmp_path / "cut.tar"
    seen, errors = set(), []
    for cut in range(20, len(whole), 131):
        path.write_bytes(whole[:cut])
        try:
            profile = quietly(path, format="tar")
        except SourceError as error:
            errors.append(str(error))
            continue
        n = profile.provenance.items
        seen.add(n)
        assert "end too soon" in skips(profile)["cut.tar"]
        assert profile == zm.measure([decoded(png(i, 30)) for i in range(n)], channels="RGB")
    assert errors
    assert all("cut.tar' cannot be read: " in error for error in errors)
    assert end == "bz2" or len(seen) >= 5  # bzip2 gives nothing before a whole block is there


def test_every_flipped_bit_of_a_header_is_noticed(tmp_path):
    """A header is what its checksum says, or its member is missing by name."""
    held = {f"{i}.png": png(i, 4) for i in range(3)}
    whole = tar_of(tmp_path / "a.tar", held, format=tarfile.USTAR_FORMAT).read_bytes()
    expected = [m for m in walked(whole) if isinstance(m, Member)]
    at = expected[1].numbers[0] - 512
    for bit in range(0, 4096, 7):
        data = bytearray(whole)
        data[at + bit // 8] ^= 1 << bit % 8
        found = walked(bytes(data))
        if [m for m in found if isinstance(m, Member)] == expected and len(found) == 3:
            assert 148 <= at % 512 + bit // 8 < 156  # blanks of the checksum itself
        else:
            assert any(isinstance(m, Fault) for m in found), bit
            assert {m for m in found if isinstance(m, Member)} == {expected[0], expected[2]}


def test_pax_records_that_are_damaged(tmp_path):
    """Nothing protects them but their form: the member is refused, and the walk goes on."""
    held = {f"{'é' * 60}{i}.png": png(i) for i in range(3)}
    whole = tar_of(tmp_path / "a.tar", held, format=tarfile.PAX_FORMAT).read_bytes()
    at = whole.index(b" path=", 2048) - 3
    for wrong in (b"999 path=", b"001 path=", b"\xff\xff\xff path=", b"   path=x"):
        data = bytearray(whole)
        data[at : at + len(wrong)] = wrong
        path = tmp_path / "b.tar"
        path.write_bytes(data)
        profile = quietly(path)
        assert profile.provenance.items == 2, wrong
        assert "extended header is damaged" in str(skips(profile)), wrong


def test_sizes_of_pax_records(tmp_path):
    """They come before the header's own; nonsense refuses the member."""
    good = png(1)
    for size, reason in (
        (b"%d" % len(good), ""),
        (b"1099511627776", "declares 1,099,511,627,776 bytes, but the archive ends after"),
        (b"9" * 30, "its extended header is damaged"),
        (b"-5", "its extended header is damaged"),
    ):
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            add(tar, "0.png", png(0))
            add(tar, "1.png", good, pax_headers={"size": size.decode()})
            add(tar, "2.png", png(2))
        profile = quietly(path)
        assert reason in skips(profile).get("1.png", "")
        assert profile.provenance.items == (3 if not reason else 1 if "declares" in reason else 2)


def test_joined_archives_are_not_half_read_in_silence(tmp_path):
    """`cat a.tar b.tar`: what follows the end is not read, and said."""
    first = tar_of(tmp_path / "a.tar", {"1.png": png(1)}).read_bytes()
    second = tar_of(tmp_path / "b.tar", {"2.png": png(2)}).read_bytes()
    path = tmp_path / "c.tar"
    path.write_bytes(first + second)
    assert "goes on after its end" in skips(quietly(path))["c.tar"]
    path.write_bytes(first + bytes(3 << 20))  # padding is no news
    assert not zm.measure(path).provenance.skipped


def test_a_lone_block_of_zeros(tmp_path):
    """As a failed write leaves behind: the walk ends there, and says so."""
    data = bytearray(
        tar_of(tmp_path / "a.tar", {f"{i}.png": png(i) for i in range(3)}).read_bytes()
    )
    at = data.index(b"1.png")
    data[at : at + 512] = bytes(512)
    path = tmp_path / "b.tar"
    path.write_bytes(data)
    profile = quietly(path)
    assert profile.provenance.items == 1
    assert f"a lone block of zeros at byte {at}" in skips(profile)["b.tar"]


@with_corpus
def test_archives_of_the_corpus():
    """Each attack as its manifest asks: what is sound counts, the rest is named."""
    expected = {
        "tar_symlink_escape.tar": (
            1,
            {"d": "a symbolic link", "l.png": "a sym", "h.png": "a hard"},
        ),
        "tar_devices.tar": (1, {"fifo.png": "a named pipe", "dev.png": "a device"}),
        "tar_dup.tar": (1, {}),
        "tar_cut_between.tar": (1, {"tar_cut_between.tar": "cut short at byte 1536"}),
        "tar_garbage_mid.tar": (2, {"tar_garbage_mid.tar": "damaged at byte 1536: 512 bytes"}),
        "tar_cut_header.tar": (
            0,
            {"a/000.png": "declares 902 bytes, but the archive ends after 451"},
        ),
        "tar_huge_size.tar": (0, {"x.png": "declares 1,099,511,627,776 bytes"}),
        "tar_gz_bomb.tar.gz": (0, {}),
    }
    with (MADE.parent / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        listed = {r["file"].removeprefix("made/") for r in csv.DictReader(file)}
    assert {n for n in listed if n.startswith("tar_")} == set(expected)
    for name, (n, reasons) in expected.items():
        if n == 0:
            with pytest.raises(SourceError, match=f"{name}|none of"):
                quietly(MADE / name)
            continue
        profile = quietly(MADE / name)
        assert profile.provenance.items == n, name
        found = skips(profile)
        assert set(found) == set(reasons), name
        for key, reason in reasons.items():
            assert found[key].startswith(reason), name


def test_nothing_but_damage_is_an_error(tmp_path):
    """What is no archive at all, under the name of one."""
    path = tmp_path / "a.tar"
    path.write_bytes(np.random.default_rng(1).bytes(20_000))
    with pytest.raises(SourceError, match=r"a\.tar' cannot be read: no tar archive"):
        zm.measure(path, format="tar")
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\3\4" + bytes(3000))
    with pytest.raises(SourceError, match=r"a\.zip' cannot be read: its directory"):
        zm.measure(path)


def test_a_wrong_checksum_of_a_stream_puts_all_of_it_in_doubt(tmp_path):
    """The checksum of gzip stands at the end, so the archive is read to there before it counts."""
    held = {f"{i}.png": png(i) for i in range(4)}
    path = tar_of(tmp_path / "a.tgz", held, "w:gz")
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"gzip data are damaged.*crc check failed"):
        zm.measure(path)
    other = tar_of(tmp_path / "b.tgz", {"1.png": png(9)}, "w:gz")
    profile = quietly([path, other])
    assert profile.provenance.items == 1
    assert "damaged" in skips(profile)["a.tgz"]


def test_what_follows_a_sound_stream(tmp_path):
    """Bytes after the end of gzip data do no harm to those before them, and are reported."""
    path = tar_of(tmp_path / "a.tgz", {f"{i}.png": png(i) for i in range(4)}, "w:gz")
    path.write_bytes(path.read_bytes() + b"something else")
    profile = quietly(path)
    assert profile.provenance.items == 4
    assert "followed by something else" in skips(profile)["a.tgz"]


def test_one_broken_picture_is_skipped_by_name(tmp_path):
    """A member that is no sound image is an item with a reason; under strict it stops the run."""
    held = {"a/1.png": png(1), "a/2.png": png(2)[:-30], "a/3.jpg": b"<html>", "a/4.png": b""}
    for path in (
        tar_of(tmp_path / "a.tar", held),
        tar_of(tmp_path / "a.tgz", held, "w:gz"),
        zip_of(tmp_path / "a.zip", held),
    ):
        profile = quietly(path)
        assert profile.provenance.items == 1
        reasons = skips(profile)
        assert "cut short" in reasons["a/2.png"]
        assert "HTML" in reasons["a/3.jpg"]
        assert reasons["a/4.png"] == "empty file"
        with pytest.raises(SourceError, match=r"a/2\.png: the PNG file is cut short"):
            zm.measure(path, strict=True)


# ---------------------------------------------------------------- attacks


def test_members_that_lead_out_of_a_tar(tmp_path):
    """`../`, absolute names, links, pipes, devices: by name, each with its reason."""
    path = tmp_path / "a.tar"
    kinds = {
        "sym.png": (tarfile.SYMTYPE, "a symbolic link to '/etc/passwd'"),
        "no-extension": (tarfile.SYMTYPE, "a symbolic link to '/etc/passwd'"),
        "hard.png": (tarfile.LNKTYPE, "a hard link to '/etc/passwd'"),
        "fifo.png": (tarfile.FIFOTYPE, "a named pipe"),
        "char.png": (tarfile.CHRTYPE, "a device"),
        "block.png": (tarfile.BLKTYPE, "a device"),
        "odd.png": (b"Z", "of an unknown type ('Z')"),
        "part.png": (b"M", "the rest of a file that begins in another volume"),
    }
    with tarfile.open(path, "w") as tar:
        add(tar, "ok/1.png", png(1))
        add(tar, "../../x.png", png(2))
        add(tar, "/root/y.png", png(3))
        add(tar, "a/../z.png", png(4))
        for name, (kind, _) in kinds.items():
            add(tar, name, b"", type=kind, linkname="/etc/passwd")
        add(tar, "folder.png/", b"", type=tarfile.DIRTYPE)
        add(tar, "pipe.txt", b"", type=tarfile.FIFOTYPE)
        add(tar, "ok/2.png", png(5))
    before = sorted(tmp_path.rglob("*"))
    profile = quietly(path)
    assert sorted(tmp_path.rglob("*")) == before
    reasons = skips(profile)
    assert profile.provenance.items == 2
    assert set(reasons) == {*kinds, "../../x.png", "/root/y.png", "a/../z.png"}
    for name, (_, reason) in kinds.items():
        assert reasons[name].startswith(reason)
    assert "leads out of the archive" in reasons["../../x.png"]
    assert "absolute" in reasons["/root/y.png"]


@pytest.mark.parametrize("form", ["gnu", "posix", "0.0", "0.1"])
def test_sparse_members(form, tmp_path):
    """GNU tar's sparse files, of all its formats: refused by name, and the next one is read."""
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "a.png").open("wb") as file:
        for i in range(40):  # more holes than one header holds
            file.seek(i << 17)
            file.write(png(i))
        file.truncate(8 << 20)
    (tmp_path / "in" / "b.png").write_bytes(png(1))
    path = tmp_path / "a.tar"
    options = ["--format=gnu"] if form == "gnu" else ["--format=posix"]
    if form[0] == "0":
        options.append(f"--sparse-version={form}")
    command = ["tar", "-cSf", path, *options, "-C", tmp_path / "in", "a.png", "b.png"]
    subprocess.run(command, check=True)
    assert path.stat().st_size < 1 << 20
    profile = quietly(path)
    assert profile.provenance.items == 1
    assert skips(profile) == {"a.png": "a sparse file; pack it without --sparse"}


@pytest.mark.parametrize("end", ["tar", "tar.gz"])
def test_a_member_that_comes_again(end, tmp_path):
    """The last one counts, as after unpacking; `tar -r` makes such archives."""
    path = tmp_path / f"a.{end}"
    with tarfile.open(path, "w:gz" if end == "tar.gz" else "w") as tar:
        for i, name in enumerate(("a.png", "b.png", "./a.png", "a.png")):
            add(tar, name, png(i))
    with pytest.warns(ZeromeanWarning, match="2 member.s. come again later under the same name"):
        profile = zm.measure(path)
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    assert same(profile, zm.measure(tmp_path / "out"))
    names = [entry.name for entry in opened(path).entries()]
    assert names == ["b.png", "a.png"]


def sparse_tar(path: Path, size: int) -> Path:
    """A picture, a member of `size` zeros that takes no room on the disk, and a picture."""
    with path.open("wb") as file:
        for name, length in (("1.png", None), ("zeros.png", size), ("2.png", None)):
            info = tarfile.TarInfo(name)
            data = png(int(name[0])) if length is None else b""
            info.size = length or len(data)
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.write(data)
            file.seek(file.tell() + info.size - len(data))
            file.seek(-(-file.tell() // 512) * 512)
        file.truncate(file.tell() + 10240)
    return path


def test_ten_gigabytes_of_zeros_are_refused_unread(tmp_path):
    """By their size alone, in no time, and what follows is read."""
    path = sparse_tar(tmp_path / "a.tar", 10 << 30)
    profile = quietly(path)
    assert profile.provenance.items == 2
    assert skips(profile) == {"zeros.png": "a file of 10.7 GB, too large to be read whole"}
    assert profile.provenance.bytes == len(png(1)) + len(png(2))


CHILD = """
import resource, sys, warnings
import zeromean as zm
from zeromean.sources.archives import Archives
zm.measure(sys.argv[1])
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) // 1024
before = peak()
warnings.simplefilter("ignore")
for path in sys.argv[2:]:
    try:
        print(zm.measure(path).provenance.items)
    except zm.SourceError as error:
        print(str(error).replace(chr(10), " "))
print(peak() - before)
"""


def in_child(*paths: Path) -> list[str]:
    """Measure in a process of its own: what came of each, and last the growth of memory in MB."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.splitlines()


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


@pytest.mark.long
@needs_proc
def test_memory_is_bounded(tmp_path):
    """A tar of 1 GB with one member of 900 MB that is no image, and bombs of every kind."""
    small = tar_of(tmp_path / "small.tar", {"1.png": png(1)})
    big = tmp_path / "big.tar"
    with big.open("wb") as file:
        for i in range(300):
            info = tarfile.TarInfo(f"{i}.bin" if i == 150 else f"{i}.png")
            data = b"" if i == 150 else png(i)
            info.size = 900 << 20 if i == 150 else len(data)
            file.write(info.tobuf())
            file.write(data)
            file.seek(-(-(file.tell() + info.size - len(data)) // 512) * 512)
        file.truncate(1 << 30)
    bomb = tmp_path / "bomb.tgz"
    with gzip.open(bomb, "wb", 1) as file:
        info = tarfile.TarInfo("zeros.png")
        info.size = 300 << 20
        file.write(info.tobuf())
        for _ in range(300):
            file.write(bytes(1 << 20))
        info = tarfile.TarInfo("1.png")
        info.size = len(png(1))
        file.write(info.tobuf() + png(1) + bytes(-len(png(1)) % 512) + bytes(1024))
    packed = zip_of(tmp_path / "a.zip", {"1.png": png(1), "zeros.png": bytes(200 << 20)})
    *items, grown = in_child(small, big, bomb, packed)
    assert items == ["299", "1", "1"]
    assert int(grown) < 100


@with_corpus
@needs_proc
def test_the_bomb_of_the_corpus(tmp_path):
    """200 MB of zeros in 200 kB: refused by name, in bounded memory."""
    small = tar_of(tmp_path / "small.tar", {"1.png": png(1)})
    said, grown = in_child(small, MADE / "tar_gz_bomb.tar.gz")
    assert "bytes, more than the 67,108,864 that are taken out of a compressed archive" in said
    assert int(grown) < 100


# ---------------------------------------------------------------- zip


def patched(path: Path, name: str, **fields: int) -> Path:
    """Change fields of one entry of a central directory."""
    places = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<I"), "size": (24, "<I")}
    places |= {"packed": (20, "<I"), "attributes": (38, "<I"), "offset": (42, "<I")}
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    for field, value in fields.items():
        offset, code = places[field]
        struct.pack_into(code, data, at + offset, value)
    path.write_bytes(data)
    return path


def test_zip_members_that_are_not_read(tmp_path):
    """Encrypted, of other methods, links, too large, longer or shorter than declared: by name."""
    n = len(png(1))
    cases = {
        "encrypted": ({"flags": 1}, "encrypted"),
        "deflate64": ({"method": 9}, "compressed by Deflate64; pack the archive anew"),
        "unknown": ({"method": 77}, "compressed by method 77; pack"),
        "link": ({"attributes": 0o120777 << 16}, "a symbolic link"),
        "device": ({"attributes": 0o020777 << 16}, "something special"),
        "huge": ({"size": 3 << 30}, "a file of 3.2 GB, too large to be read whole"),
        "bomb": ({"size": 1 << 30}, "unpacks to 1,073,741,824 bytes"),
        "longer": ({"size": n - 5}, f"unpacks to more, not to the {n - 5} bytes"),
        "shorter": ({"size": n + 5}, f"unpacks to {n} bytes, not to the {n + 5} bytes"),
        "checksum": ({"crc": 77}, "damaged in the archive: its checksum (CRC-32) is wrong"),
        "beyond": ({"packed": 1 << 30}, "lies beyond the end of the archive"),
        "nowhere": ({"offset": 5}, "its header in the archive is missing"),
    }
    for name, (fields, reason) in cases.items():
        path = zip_of(tmp_path / f"{name}.zip", {"1.png": png(1), "2.png": png(2)})
        patched(path, "1.png", **fields)
        profile = quietly(path)
        assert profile.provenance.items == 1, name
        assert skips(profile)["1.png"].startswith(reason), name


def test_encrypted_and_linked_by_the_zip_program(tmp_path):
    """What Info-ZIP itself writes: a password, a link, a stored and a deflated picture."""
    if shutil.which("zip") is None:
        pytest.skip("there is no zip program")
    folder = folder_of(tmp_path / "in")
    (folder / "link.png").symlink_to("ant/000.png")
    zipped = ["zip", "-q", "-r", "-y"]
    subprocess.run([*zipped, tmp_path / "a.zip", "."], cwd=folder, check=True)
    profile = quietly(tmp_path / "a.zip")
    assert skips(profile) == {"link.png": "a symbolic link; links are not followed"}
    (folder / "link.png").unlink()
    assert same(profile, zm.measure(folder))
    subprocess.run([*zipped, "-P", "secret", tmp_path / "b.zip", "."], cwd=folder, check=True)
    with pytest.raises(SourceError, match=r"none of 12 files could be measured; .*: encrypted"):
        zm.measure(tmp_path / "b.zip")


def test_names_in_a_zip(tmp_path):
    """Backslashes of DOS, cp437 and UTF-8 as `zipfile` has them; absolute names, `..`."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i, name in enumerate(("ant/é.png", "x.png", "../y.png", "/z.png")):
            file.writestr(name, png(i))
        info = zipfile.ZipInfo("bee?1.png")
        info.create_system = 0
        file.writestr(info, png(9))
    path.write_bytes(path.read_bytes().replace(b"bee?1.png", b"bee\\1.png"))
    profile = quietly(path)
    assert set(skips(profile)) == {"../y.png", "/z.png"}
    names = {entry.name for entry in opened(path, name="zip").entries()}
    assert names == {"ant/é.png", "x.png", "../y.png", "/z.png", "bee/1.png"}


def test_the_directory_is_read_as_zipfile_reads_it(tmp_path):
    """Names, offsets, sizes and checksums; 64 bits, comments, a program in front, many members."""
    held = {f"{i % 7}/{'n' * (i % 50)}{i}.png": bytes([i % 256]) * (i % 300) for i in range(30_000)}
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = b"a comment" * 50
        for name, data in held.items():
            with file.open(zipfile.ZipInfo(name), "w", force_zip64=len(name) % 2 == 0) as member:
                member.write(data)
    (tmp_path / "b.zip").write_bytes(b"#!/bin/sh\n" * 777 + path.read_bytes())
    for each in (path, tmp_path / "b.zip"):
        with zipfile.ZipFile(each) as file:
            expected = [
                (
                    i.filename,
                    (i.header_offset, i.file_size, i.compress_size, i.CRC, i.compress_type),
                )
                for i in file.infolist()
            ]
        with each.open("rb") as file:
            found = list(zip_members.members(file, each.stat().st_size))
            assert [(m.name, m.numbers) for m in found] == expected
            for member in found[::997]:
                assert zip_members.unpacked(file, member.numbers).read() == held[member.name]


def test_a_comment_that_looks_like_the_end(tmp_path):
    """The last record is the one whose comment goes to the end of the file."""
    path = zip_of(tmp_path / "a.zip", {"1.png": png(1)})
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"PK\5\6 is a comment" * 50
    assert zm.measure(path).provenance.items == 1


@pytest.mark.long
def test_more_than_65535_members(tmp_path):
    """The record of 64 bits is read."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(66_000):
            file.writestr(f"{i}.txt" if i else "0.png", png(0) if i == 0 else b"")
    assert b"PK\6\6" in path.read_bytes()
    source = opened(path, name="zip")
    assert (source.n_items, source.ignored) == (1, 65_999)
    assert zm.measure(path).provenance.items == 1


def test_a_zip_cut_or_changed_anywhere(tmp_path):
    """Every cut is an error or a report; every flipped byte too, or changes nothing that counts."""
    held = {f"{i}.png": png(i, 3) for i in range(3)}
    path = zip_of(tmp_path / "a.zip", held)
    whole = path.read_bytes()
    expected = zm.measure(path)
    for cut in range(1, len(whole) - 1, 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(SourceError, match=r"a\.zip"):
            quietly(path, format="zip")
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            profile = quietly(path, format="zip")
        except SourceError:
            continue
        n = profile.provenance.items
        if n == 3:
            assert profile == expected, at
        else:
            record = profile.provenance
            assert record.skipped or record.left_out or opened(path, name="zip").ignored, at


def test_members_that_share_their_bytes(tmp_path):
    """The bomb of overlapping files (Fifield, "A better zip bomb", 2019): refused by name."""
    path = zip_of(tmp_path / "a.zip", {f"{i}.png": png(i) for i in range(4)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2", data.index(b"PK\1\2", data.index(b"PK\1\2") + 4) + 4)
    first = data.index(b"PK\1\2")
    data[at + 42 : at + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)
    profile = quietly(path)
    reason = "shares its bytes with another member, as in a zip bomb"
    assert skips(profile) == {"0.png": reason, "2.png": reason}
    assert profile.provenance.items == 2
    assert zip_members.overlapping([0, 100, 50, 1000], [60, 10, 30, 5]) == [0, 1, 2]
    assert zip_members.overlapping([], []) == []


def test_split_archives_are_named(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"1.png": png(1)})
    data = bytearray(path.read_bytes())
    struct.pack_into("<2H", data, data.rindex(b"PK\5\6") + 4, 2, 1)
    path.write_bytes(data)
    with pytest.raises(SourceError, match="one part of a split archive; join its parts first"):
        zm.measure(path, format="zip")


def test_a_directory_that_is_damaged(tmp_path):
    """What comes before the damage counts, and the damage is named."""
    path = zip_of(tmp_path / "a.zip", {f"{i}.png": png(i) for i in range(4)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    data[at : at + 4] = b"XXXX"
    path.write_bytes(data)
    profile = quietly(path)
    assert profile.provenance.items == 1
    assert f"its directory is damaged at byte {at}" in skips(profile)["a.zip"]
    data[at : at + 4] = b"PK\1\2"
    end = data.rindex(b"PK\5\6")
    struct.pack_into("<2H", data, end + 8, 5, 5)
    path.write_bytes(data)
    profile = quietly(path)
    assert profile.provenance.items == 4
    assert skips(profile) == {"a.zip": "its directory lists 4 members, not the 5 it says"}


# ---------------------------------------------------------------- while it is read


@pytest.mark.parametrize("end", ["tar", "zip", "tar.gz"])
def test_an_archive_that_changes_after_it_was_listed(end, tmp_path):
    """Its members are skipped, to be tried again: no byte of another file is taken for them."""
    held = {f"{i}.png": png(i) for i in range(5)}
    path = tmp_path / f"a.{end}"
    make = zip_of if end == "zip" else tar_of
    mode = ("w:gz",) if end == "tar.gz" else ()
    make(path, held, *mode)
    source = opened(path, name="zip" if end == "zip" else "tar")
    make(path, {f"{i}.png": png(50 + i) for i in range(6)}, *mode)
    items = [item for shard in source.shards() for item in shard.items()]
    assert len(items) == 5
    for item in items:
        assert (item.passing, item.array) == (True, None)
        assert item.reason == f"its archive a.{end}: changed after it was listed"
    path.unlink()
    items = [item for shard in source.shards() for item in shard.items()]
    assert {item.reason for item in items} == {f"its archive a.{end}: vanished before it was read"}


def test_an_archive_that_changes_while_it_is_read(tmp_path):
    """What was read before counts; from the change on everything is skipped."""
    path = tar_of(tmp_path / "a.tar", {f"{i}.png": png(i) for i in range(5)})
    (shard,) = opened(path).shards()
    items = shard.items()
    first = [next(items), next(items)]
    with path.open("ab") as file:
        file.write(bytes(512))
    rest = list(items)
    assert [item.reason for item in first] == ["", ""]
    assert {item.reason for item in rest} == {"its archive a.tar: changed while it was read"}
    assert all(item.passing for item in rest)


class InParts:
    """A reader that gives the bytes of a file in parts, and refuses those with a zero."""

    def __call__(self, file, memory):
        while block := file.file.read(10):
            if 0 in block:
                raise DecodeError("holds a zero")
            yield Item(np.frombuffer(block, np.uint8)[:, None], file.name, batched=True, n_items=0)

    def scratch(self):
        return None


def test_the_reader_is_exchangeable(tmp_path):
    """Any reader of files reads members, in parts too; a member that breaks leaves no trace."""
    held = {"a.bin": bytes(range(1, 36)), "b.bin": bytes([*range(30, 60), 0]), "c.bin": b""}
    for path in (
        tar_of(tmp_path / "a.tar", held),
        tar_of(tmp_path / "a.tgz", held, "w:gz"),
        zip_of(tmp_path / "a.zip", held, zipfile.ZIP_STORED),
    ):
        source = Archives(
            [str(path)],
            InParts(),
            form=recognized(str(path)),
            extensions=[".bin"],
            pattern=zm.Pattern.parse("n c -> c"),
        )
        (shard,) = source.shards()
        items = list(pickle.loads(pickle.dumps(shard)).items())
        assert [(i.name, i.more) for i in items[:4]] == [("a.bin", True)] * 3 + [("a.bin", False)]
        assert items[3].digest
        assert not items[0].digest
        assert [i.reason for i in items if i.reason] == ["holds a zero", "holds no data"]
        total = measure_shard(shard, Plan(source.pattern))
        (part,) = total.partials.values()
        assert part.statistics.power_sums.sums.tolist() == [sum(range(1, 36))]


def test_slices_are_files():
    """A member of a tar can be sought and read like a file of its own."""
    data = np.random.default_rng(0).bytes(1000)
    slice_, plain = Slice(io.BytesIO(b"x" * 77 + data + b"y" * 99), 77, 1000), io.BytesIO(data)
    rng = np.random.default_rng(1)
    for _ in range(300):
        what, value = rng.integers(4), int(rng.integers(0, 1200))
        if what == 0:
            assert slice_.seek(value) == plain.seek(value)
        elif what == 1:
            assert slice_.seek(-(value % 1000), 2) == plain.seek(-(value % 1000), 2)
        elif what == 2:
            assert slice_.read(value) == plain.read(value)
        else:
            buffers = bytearray(value), bytearray(value)
            assert slice_.readinto(buffers[0]) == plain.readinto(buffers[1])
            assert buffers[0] == buffers[1]
        assert slice_.tell() == plain.tell()
    slice_.seek(0)
    assert slice_.readall() == data
    with pytest.raises(ValueError, match="negative"):
        slice_.seek(-1)


def test_listings_are_small():
    """Some 60 bytes a member: ten millions of them fit into what a source may take."""
    listing = Listing()
    for i in range(100_000):
        listing.add(f"class-{i % 100:03d}/picture-{i:08d}.jpg", (i * 1536, 900))
    held = len(listing._names) + sum(
        len(a) * a.itemsize for a in (listing._ends, *listing._numbers)
    )
    assert held / len(listing) < 60
    assert listing.name(0), listing.numbers(99_999) == ("", (99_999 * 1536, 900))
    assert listing.replaced() == []
    listing.add(listing.name(5), (0, 1))
    assert listing.replaced() == [5]
    assert len(listing.without([5])) == 100_000


def test_remote_archives(tmp_path):
    """Through fsspec: tar and zip by their places, compressed ones from their beginning."""
    fsspec = pytest.importorskip("fsspec")
    folder = folder_of(tmp_path / "in", 100)
    expected = zm.measure(folder)
    made = [tmp_path / "a.tar", tmp_path / "a.tgz", tmp_path / "a.zip"]
    for path, mode in zip(made[:2], ("w", "w:gz"), strict=True):
        with tarfile.open(path, mode) as tar:
            tar.add(folder, ".")
    zip_of(made[2], {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")})
    store = fsspec.filesystem("memory")
    for path in made:
        store.pipe(f"/shards/{path.name}", path.read_bytes())
    store.pipe("/empty/notes.txt.gz", b"")
    for path in made:
        assert same(zm.measure(f"memory://shards/{path.name}"), expected), path.name
    assert zm.measure("memory://shards", format="tar").provenance.items == 200
    with pytest.raises(SourceError, match="holds no tar archive"):
        zm.measure("memory://empty", format="tar")
    store.rm("/shards", recursive=True)
    store.rm("/empty", recursive=True)


def test_a_remote_archive_that_changes_stops_the_run(tmp_path):
    """Its members cannot be told apart any more, so nothing of the shard may count."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    held = {f"{i}.png": png(i) for i in range(30)}
    held["big.bin"] = bytes(17 << 20)  # a smaller archive is fetched by one request
    data = tar_of(tmp_path / "a.tar", held).read_bytes()
    store.pipe("/far/a.tar", data)
    source = archives.open_paths(["memory://far/a.tar"], None, Options(), "tar")[0]
    (shard,) = source.shards()
    assert {item.reason for item in shard.items()} == {""}
    items = shard.items()
    next(items)
    store.pipe("/far/a.tar", data + bytes(512))
    with pytest.raises(SourceError, match=r"a\.tar: changed while it was read"):
        list(items)
    assert {item.reason for item in shard.items()} == {
        "its archive a.tar: changed after it was listed"
    }
    store.rm("/far", recursive=True)


def test_a_ledger_knows_members(tmp_path):
    """A second run reads nothing; a member that is appended is the only one that is decoded."""
    path = tar_of(tmp_path / "a.tar", {f"{i}.png": png(i) for i in range(5)})
    ledger = tmp_path / "a.ledger"
    past = path.stat().st_mtime_ns - 10_000_000_000
    os.utime(path, ns=(past, past))
    first = zm.measure(path, ledger=ledger)
    assert same(zm.measure(path, ledger=ledger), first)
    with tarfile.open(path, "a") as tar:
        add(tar, "5.png", png(5))
    more = zm.measure(path, ledger=ledger)
    assert same(more, zm.measure(path))
    assert more.provenance.items == 6
