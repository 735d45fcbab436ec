"""Remote stores give what a local folder gives, and say what they cannot give."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.errors import SkippedWarning, SourceError, ZeromeanWarning
from zeromean.sources import remote_read, stores
from zeromean.sources.access import address_of, opened, shown
from zeromean.sources.images import ImageFiles
from zeromean.sources.opening import _split_key
from zeromean.sources.recognition import recognized

fsspec = pytest.importorskip("fsspec")
from fsspec.asyn import AsyncFileSystem  # noqa: E402

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos"
NAMES = [
    *("b/2.png", "b/10.png", "a/x/1.png", "a/9.png", "a/with space.png", "a/[x]*.png", "z.png"),
    *("Z.png", ".hidden/1.png", "a/.1.png", "__MACOSX/1.png", "val/7.png", "notes.txt", "a/b.gif"),
]


def picture(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 4, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def contents():
    return {name: picture(i) if name.endswith("png") else b"text" for i, name in enumerate(NAMES)}


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    stores._CHAINS.clear()
    yield store
    store.store.clear()


@pytest.fixture
def local(tmp_path):
    for name, data in contents().items():
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(data)
    return tmp_path / "train"


def put(store, files, below="/train/"):
    for name, data in files.items():
        store.pipe_file(below + name, data)


class Far(AsyncFileSystem):
    """A store that answers late and can fail: folders are listed one by one."""

    protocol = "far"
    files: dict[str, bytes] = {}  # noqa: RUF012
    failing: dict[str, Exception] = {}  # noqa: RUF012
    asked: list[tuple[str, str]] = []  # noqa: RUF012
    under_way = most = 0

    @classmethod
    def reset(cls, files=()):
        cls.files, cls.failing, cls.asked = dict(files), {}, []
        cls.under_way = cls.most = 0

    async def _answer(self, what, path):
        type(self).asked.append((what, path))
        type(self).under_way += 1
        type(self).most = max(self.most, self.under_way)
        await asyncio.sleep(0.01)
        type(self).under_way -= 1
        if path in self.failing:
            raise self.failing[path]

    def _of(self, path):
        tag = str(hash(self.files[path]))
        return {"name": path, "type": "file", "size": len(self.files[path]), "ETag": tag}

    async def _ls(self, path, detail=True, **kwargs):
        await self._answer("ls", path)
        found = {}
        for name in self.files:
            if name.startswith(path + "/"):
                first, deeper, _ = name[len(path) + 1 :].partition("/")
                inside = f"{path}/{first}"
                folder = {"name": inside, "type": "directory", "size": 0}
                found[inside] = folder if deeper else self._of(inside)
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    async def _info(self, path, **kwargs):
        await self._answer("info", path)
        if path in self.files:
            return self._of(path)
        if any(name.startswith(path + "/") for name in self.files):
            return {"name": path, "type": "directory", "size": 0}
        raise FileNotFoundError(path)

    async def _cat_file(self, path, start=None, end=None, **kwargs):
        await self._answer("cat", path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][start:end]


@pytest.fixture
def far():
    fsspec.register_implementation("far", Far, clobber=True)
    Far.reset({"train/" + name: data for name, data in contents().items()})
    yield Far
    Far.reset()


def measured(source, **options):
    """A profile, and the warnings on the way."""
    with pytest.warns(ZeromeanWarning) as said:
        profile = zm.measure(source, **options)
    return profile, [str(w.message) for w in said]


def names(source):
    return [name for _, name, _ in source.files()]


def skipped(source):
    items = (item for shard in source.shards() for item in shard.items())
    return {item.name: (item.reason, item.passing) for item in items if item.reason}


# ---------------------------------------------------------------- the same as a local folder


@pytest.fixture
def everywhere(local, memory, far, tmp_path):
    """The same folder in many places."""
    put(memory, contents())
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents().items():
            archive.writestr("train/" + name, data)
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        for name, data in contents().items():
            member = tarfile.TarInfo("train/" + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    memory.pipe_file("/a.zip", zipped.getvalue())
    memory.pipe_file("/a.tar", tarred.getvalue())
    return (
        "memory://train",
        "memory://train/",
        "memory:///train",
        "far://train",
        "zip://train::memory://a.zip",
        "tar://train::memory://a.tar",
        "simplecache::memory://train",
        "simplecache::zip://train::memory://a.zip",
        f"file://{local}",
        local.as_uri(),
    )


def test_a_folder_anywhere_is_the_local_folder(everywhere, local):
    """Same bits, same digest, same files in the same order, same warnings, same things left out."""
    expected, said = measured(local)
    here = ImageFiles(local)
    assert expected.provenance.items == 9
    for url in everywhere:
        profile, warnings = measured(url)
        assert profile == expected, url
        assert profile.provenance.digest == expected.provenance.digest, url
        assert profile.provenance.left_out == expected.provenance.left_out, url
        there = ImageFiles(url)
        assert names(there) == names(here), url
        assert (there.classes, there.ignored) == (here.classes, here.ignored), url
        assert len(warnings) == len(said) == 1, url
        assert "/val" in warnings[0], url
        assert warnings[0].endswith("statistics should come from training data only"), url


def test_the_check_of_sameness_can_fail(everywhere, memory, local):
    expected, _ = measured(local)
    memory.pipe_file("/train/z.png", picture(99))
    assert measured("memory://train")[0] != expected


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_groups_and_limits_are_those_of_a_local_folder(everywhere, memory, local):
    for path in local.rglob("*.png"):
        if path.parent == local:
            path.unlink()
    for name in ("z.png", "Z.png"):
        memory.rm("/train/" + name)
    assert zm.measure("memory://train", by="class") == zm.measure(local, by="class")
    for limit in (1, 2, 5):
        assert zm.measure("memory://train", limit=limit) == zm.measure(local, limit=limit)


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_threads_share_an_archive(everywhere, local):
    expected = zm.measure(local)
    for url in everywhere[3:8]:
        shards = [s for shard in ImageFiles(url).shards() for s in shard.split()]
        found, errors = [], []

        def work(part, found=found, errors=errors):
            try:
                found.extend(item for shard in part for item in shard.items())
            except Exception as error:  # pragma: no cover
                errors.append(error)

        threads = [threading.Thread(target=work, args=(shards[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert [item.reason for item in found] == [""] * 9
        digest = sum(item.digest for item in found) % (1 << 256)
        assert digest == expected.provenance.digest


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_processes_open_a_shard_themselves(local, tmp_path):
    """A shard is pickled as URLs; a process that knows nothing of this one reads them."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in contents().items():
            archive.writestr("train/" + name, data)
    url = f"zip://train::file://{tmp_path}/a.zip"
    (shard,) = ImageFiles(url).shards()
    again = pickle.loads(pickle.dumps(shard))
    assert [i.digest for i in again.items()] == [i.digest for i in shard.items()]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert zm.measure(url, executor=pool) == zm.measure(local)


@pytest.mark.skipif(not PHOTOS.exists(), reason="the photos are not here")
def test_real_photos_have_the_published_sums(memory):
    for path in PHOTOS.rglob("*.*"):
        memory.pipe_file(f"/photos/{path.relative_to(PHOTOS)}", path.read_bytes())
    profile = zm.measure("memory://photos")
    assert profile.provenance.items == 90
    assert profile.count.tolist() == [16970805] * 3
    assert profile.mean.tolist() == [134.98335529752418, 125.67195174300807, 93.80071181066543]
    assert profile == zm.measure(PHOTOS)


# ---------------------------------------------------------------- lists, patterns, several places


def test_lists_and_patterns_of_urls(everywhere, local, tmp_path):
    a = zm.measure([local / "a" / "9.png", local / "b" / "2.png"])
    urls = ["memory://train/a/9.png", "memory://train/b/2.png"]
    assert zm.measure(urls) == a
    assert names(ImageFiles(urls)) == ["a/9.png", "b/2.png"]
    (tmp_path / "list.txt").write_text("\n".join(urls))
    assert zm.measure(f"@{tmp_path}/list.txt") == a
    b = zm.measure([local / "b" / "10.png", local / "b" / "2.png"])
    for pattern in (
        "memory://train/b/*.png",
        "memory://train/**/[12]*0.png",
        "memory://train/b/{2,10}.png",
        "zip://train/b/*.png::memory://a.zip",
        "far://train/b/*.png",
        "simplecache::memory://train/b/*.png",
    ):
        expected = zm.measure(local / "b" / "10.png") if "12" in pattern else b
        assert zm.measure(pattern) == expected, pattern
    with pytest.raises(SourceError, match="no file fits the pattern"):
        zm.measure("memory://train/*.jpg")


def test_names_stay_apart_where_places_are_mixed(everywhere, local):
    source = ImageFiles(
        ["memory://train/b", local / "b", "far://train/a/9.png", "zip://train/b::memory://a.zip"]
    )
    assert len(set(names(source))) == source.n_items == 7
    both, _ = measured([local, "memory://train"])
    one, _ = measured(local)
    assert both == one + one
    mixed = ImageFiles([local / "b", "memory://train/b"])
    assert {name.rpartition("/")[0] for name in names(mixed)} == {f"{local}/b", "memory://train/b"}


def test_nothing_is_read_twice(everywhere):
    for urls in (
        ["memory://train/a", "memory://train/a/x"],
        ["memory://train/a", "memory://train/a/9.png"],
        ["memory://train/a", "memory://train/a/"],
    ):
        source = ImageFiles(urls)
        assert source.n_items == 4, urls
        assert any("given twice; it is read once" in text for text in source.warnings), urls
    assert ImageFiles(["memory://train/a/x", "memory://train/a"]).n_items == 4


def test_a_missing_file_of_a_list_is_skipped_by_name(everywhere):
    urls = ["memory://train/a/9.png", "memory://train/a/gone.png"]
    with pytest.warns(SkippedWarning):
        profile = zm.measure(urls)
    assert profile.provenance.skipped == (("gone.png", "no such file"),)
    with pytest.raises(SourceError, match=r"gone\.png: no such file"):
        zm.measure(urls, strict=True)


def test_long_lists_are_not_asked_about_file_by_file(far):
    Far.reset({f"d/{i:03}.png": picture(i % 200) for i in range(100)})
    source = ImageFiles([f"far://d/{i:03}.png" for i in range(100)])
    shards = list(source.shards())
    assert Far.asked == []
    assert sum(shard.n_items for shard in shards) == 100
    entries = list(source.entries())
    assert [what for what, _ in Far.asked] == ["info"] * 100
    assert Far.most > 4
    assert all(entry.stamp[0] == len(Far.files["d/" + entry.name]) for entry in entries)
    list(source.entries())
    assert len(Far.asked) == 100  # asked once


# ---------------------------------------------------------------- failures


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_network_errors_are_passing_reasons_by_file(far):
    """The run goes on, names the file, and a ledger must not keep it; strict stops."""
    Far.failing = {
        "train/b/2.png": ConnectionResetError("reset by peer"),
        "train/z.png": TimeoutError(),
        "train/a/9.png": PermissionError("forbidden"),
        "train/Z.png": ValueError("500, url=https://host/x?X-Sig=secret"),
    }
    source = ImageFiles("far://train")
    assert skipped(source) == {
        "b/2.png": ("reset by peer (ConnectionResetError)", True),
        "z.png": ("the store does not answer in time", True),
        "a/9.png": ("permission denied", True),
        "Z.png": ("500, url=https://host/x (ValueError)", True),
    }
    with pytest.raises(SourceError, match="permission denied"):
        zm.measure("far://train/a", strict=True)


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_a_folder_that_cannot_be_listed_is_reported_and_a_whole_source_is_an_error(far):
    """fsspec's own walk would leave the folder out without a word."""
    Far.failing = {"train/b": PermissionError("no")}
    source = ImageFiles("far://train")
    assert source.problems == [("b", "permission denied")]
    assert zm.measure("far://train").provenance.skipped == (("b", "permission denied"),)
    Far.failing = {"train": ConnectionError("down")}
    with pytest.raises(
        SourceError, match=r"cannot (read|list) far://train: down \(ConnectionError\)"
    ):
        zm.measure("far://train")


def test_what_is_not_there_is_named(everywhere):
    for url, match in (
        ("memory://nope", "no such folder or file: memory://nope"),
        ("far://train/nope.png", "no such folder or file: far://train/nope.png"),
        ("zip://nope::memory://a.zip", "no such folder or file: zip://nope"),
        ("zip://train::memory://no.zip", "no such folder or file: zip://"),
        ("zip://train::memory://a.tar", r"cannot open .*: File is not a zip file \(BadZipFile\)"),
        ("nostore://x", "nostore:// is no protocol that fsspec knows"),
    ):
        with pytest.raises(SourceError, match=match):
            zm.measure(url)
    fsspec.filesystem("memory").pipe_file("/text/notes.txt", b"text")
    with pytest.raises(SourceError, match=r"'memory://text' holds no image .*only 1 \.txt"):
        zm.measure("memory://text")


def test_a_missing_package_is_named(monkeypatch):
    fsspec.register_implementation("cloudy", "no_such_cloud.Store", clobber=True)
    with pytest.raises(ImportError) as caught:
        zm.measure("cloudy://bucket/train")
    assert str(caught.value) == (
        'cloudy:// needs no_such_cloud: pip install "zeromean[remote]" no_such_cloud'
    )
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ImportError, match=r'URLs need fsspec: pip install "zeromean\[remote\]"'):
        zm.measure("memory://train")


def test_http_without_its_package_says_which():
    code = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "import zeromean as zm\n"
        "try: zm.measure('https://localhost:1/a.png')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'https:// needs aiohttp: pip install "zeromean[remote]" aiohttp'


# ---------------------------------------------------------------- changes


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_what_changes_after_it_was_listed_is_skipped(far, memory):
    put(memory, contents())
    for url in ("far://train", "memory://train"):
        shards = list(ImageFiles(url).shards())
        for files in (far.files, memory.store):
            prefix = "/train/" if files is memory.store else "train/"
            files.pop(prefix + "z.png", None)
        far.files["train/b/2.png"] = picture(1) + b"!"
        memory.pipe_file("/train/b/2.png", picture(1) + b"!")
        found = {i.name: i.reason for shard in shards for i in shard.items() if i.reason}
        assert found == {
            "b/2.png": "changed since it was listed",
            "z.png": "vanished before it was read",
        }
        put(memory, contents())
        Far.reset({"train/" + name: data for name, data in contents().items()})


def test_a_large_file_must_be_the_same_before_and_after(memory, monkeypatch):
    """Many requests could come from two files; the tag or the time tells."""
    monkeypatch.setattr(remote_read, "_WHOLE", 100)
    data = bytes(range(256)) * 10
    memory.pipe_file("/big.bin", data)
    with opened("memory://big.bin", "big.bin") as file:
        assert (file.size, file.stamp[0]) == (2560, 2560)
        assert file.file.read(3) == b"\0\1\2"
        assert file.file.seek(-1, 2) == 2559
        assert file.file.read() == b"\xff"
        assert file.data() == data
    with pytest.raises(SourceError, match="changed while it was read"):
        _read_while_it_changes(memory, data[::-1])


def _read_while_it_changes(memory, data):
    with opened("memory://big.bin", "big.bin") as file:
        file.file.read(3)
        memory.pipe_file("/big.bin", data)


def test_two_readers_of_one_file_in_memory_do_not_move_each_other(memory, monkeypatch):
    monkeypatch.setattr(remote_read, "_WHOLE", 10)
    memory.pipe_file("/big.bin", bytes(range(100)))
    with opened("memory://big.bin", "a") as one, opened("memory://big.bin", "b") as two:
        assert one.file.read(10) == bytes(range(10))
        two.file.seek(50)
        assert one.file.read(10) == bytes(range(10, 20))
        assert io.BufferedReader(two.file).read(3) == bytes((50, 51, 52))


def test_stamps_say_what_the_store_says():
    """Size, time in nanoseconds, and a number from the tag, as the stores spell them."""
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    ns = int(moment.timestamp()) * 10**9
    for info, time in (
        ({"size": 5, "LastModified": moment, "ETag": '"x"'}, ns),
        ({"size": 5, "updated": "2024-05-06T07:08:09.000Z", "md5Hash": "x"}, ns),
        ({"size": 5, "last_modified": moment, "etag": "x"}, ns),
        ({"size": 5, "mtime": moment.timestamp()}, ns),
        ({"size": 5, "Last-Modified": "Mon, 06 May 2024 07:08:09 GMT", "ETag": "x"}, ns),
        ({"size": 5, "date_time": (2024, 5, 6, 7, 8, 9), "CRC": 77}, ns),
        ({"size": 5, "mtime": datetime(2024, 5, 6, 7, 8, 9)}, ns),
        ({"size": 5, "mtime": "yesterday", "ETag": "x"}, 0),
        ({"size": 5}, 0),
    ):
        size, found, tag = stores.stamp_in(info)
        assert (size, found) == (5, time), info
        assert (tag > 0) == bool({"ETag", "etag", "md5Hash", "CRC"} & set(info)), info
        assert tag < 1 << 53
    assert stores.stamp_in({"size": None}) == (-1, 0, 0)
    assert stores.stamp_in({"ETag": "a"})[2] != stores.stamp_in({"ETag": "b"})[2]
    assert not stores.differ((5, 1, 7), (5, 2, 7))  # the tag knows better than the time
    assert stores.differ((5, 1, 7), (5, 1, 8))
    assert stores.differ((5, 1, 0), (5, 2, 7))
    assert not stores.differ((-1, 0, 0), (5, 2, 7))


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_a_ledger_reads_only_what_the_store_says_has_changed(far, tmp_path):
    first = zm.measure("far://train", ledger=tmp_path / "ledger")
    far.asked.clear()
    assert zm.measure("far://train", ledger=tmp_path / "ledger") == first
    assert "cat" not in {what for what, _ in far.asked}
    far.files["train/b/2.png"] = picture(77)
    far.asked.clear()
    again = zm.measure("far://train", ledger=tmp_path / "ledger")
    assert [path for what, path in far.asked if what == "cat"] == ["train/b/2.png"]
    assert again == zm.measure("far://train") != first


# ---------------------------------------------------------------- requests


@pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")
def test_each_picture_is_one_request_and_several_are_under_way(far):
    Far.reset({f"d/{i:03}.png": picture(i) for i in range(60)})
    source = ImageFiles("far://d")
    (shard,) = source.shards()
    Far.asked, Far.most = [], 0
    assert len([i for i in shard.items() if not i.reason]) == 60
    assert sorted(Far.asked) == [("cat", f"d/{i:03}.png") for i in range(60)]
    assert Far.most > 8


def test_shards_of_a_list_are_not_asked_what_they_are(far, monkeypatch):
    """Hundreds of archives would else cost hundreds of requests before the first is read."""
    from zeromean.sources import opening

    seen = []
    monkeypatch.setattr(opening, "recognized", lambda path: seen.append(path) or "images")
    names = ["far://d/0.tar", "far://d/1.png", "far://d/2.tif", "far://d/3.parquet?x=1"]
    assert [opening._promised(name) for name in names] == ["tar", "images", "", "parquet"]
    with pytest.raises(SourceError):
        zm.measure("far://d/{00..20}.tar")
    assert seen == []


def test_no_more_is_fetched_ahead_than_a_few_megabytes(far, monkeypatch):
    monkeypatch.setattr(remote_read, "_WHOLE", 1000)
    Far.reset({f"d/{i}.png": bytes(400) for i in range(8)} | {"d/8.png": bytes(5000)})
    source = ImageFiles("far://d")
    (shard,) = source.shards()
    ahead = remote_read.Ahead(shard.files, shard.stamps)
    for i in range(8):
        with ahead.opened(i) as file:
            assert file.data() == bytes(400)
        assert sum(map(len, ahead._data.values())) <= 1000


def test_a_part_of_a_shard_knows_the_stamps_of_its_files(far):
    """Whoever cuts a shard need not know that there are any."""
    Far.reset({f"d/{i}.png": bytes(i + 1) for i in range(8)})
    (shard,) = ImageFiles("far://d").shards()
    assert hash(shard) == hash(pickle.loads(pickle.dumps(shard)))
    for part in (replace(shard, files=shard.files[3:6]), *list(shard.split())[3:6]):
        for item in part.items():
            assert item.stamp[0] == item.n_bytes == int(item.name[0]) + 1
            assert "changed" not in item.reason


def test_a_quick_look_asks_little(far):
    Far.reset({f"d/{c}/{i}.png": picture(i) for c in "abcd" for i in range(30)})
    zm.measure("far://d", limit=3)
    assert len([path for what, path in Far.asked if what == "cat"]) == 3


# ---------------------------------------------------------------- URLs


def test_secrets_are_not_written_down(memory, capsys):
    for url, expected in (
        ("https://me:pw@host/a.png?X-Amz-Signature=f00", "https://me@host/a.png"),
        ("ftp://u:p@host/x", "ftp://u@host/x"),
        ("abfs://container@account.net/x.png", "abfs://container@account.net/x.png"),
        ("s3://bucket/what?.png", "s3://bucket/what?.png"),
        ("zip://a.png::https://h/x.zip?sig=1", "zip://a.png::https://h/x.zip"),
        ("a?b=c.png", "a?b=c.png"),
    ):
        assert shown(url) == expected
    memory.pipe_file("/x/a.png?key=secret", picture(1))
    profile = zm.measure("memory://x/a.png?key=secret")
    assert "secret" not in str(profile.provenance)
    memory.pipe_file("/x/a.png?key=other", picture(2))
    both = ImageFiles(["memory://x/a.png?key=secret", "memory://x/a.png?key=other"])
    assert len(set(names(both))) == 2
    assert "secret" not in str(names(both)) + both.name


def test_chains_fall_into_parts():
    for url, lead, first, tail in (
        ("s3://b/a.png", "", "s3://b/a.png", ""),
        ("zip://x/1.png::s3://b/a.zip", "", "zip://x/1.png", "::s3://b/a.zip"),
        ("zip::s3://b/a.zip", "", "zip://", "::s3://b/a.zip"),
        ("simplecache::s3://b/a.png", "simplecache::", "s3://b/a.png", ""),
        ("filecache::zip://1::s3://b/a.zip", "filecache::", "zip://1", "::s3://b/a.zip"),
    ):
        parts = address_of(url)
        assert (parts.lead, parts.first, parts.tail) == (lead, first, tail)


def test_a_part_of_a_file_is_no_port_and_no_password():
    for text, expected in (
        ("s3://b/x.h5:/train/x", ("s3://b/x.h5", "/train/x")),
        ("memory://x.npz:images", ("memory://x.npz", "images")),
        ("http://host:8080/x", ("http://host:8080/x", "")),
        ("ftp://me:pw@host/x", ("ftp://me:pw@host/x", "")),
        ("s3://b/12:00:00.png", ("s3://b/12:00:00.png", "")),
        ("zip://a.png::memory://a.zip", ("zip://a.png::memory://a.zip", "")),
        ("memory://x", ("memory://x", "")),
    ):
        assert _split_key(text) == expected


def test_the_format_is_told_by_content(memory):
    for name, data, expected in (
        ("a.bin", b"\0\0\x08\x03" + bytes(12), "idx"),
        ("b.bin", bytes(3073), "cifar"),
        ("c", picture(1), "images"),
        ("d.npy", b"\x93NUMPY\1\0", "npy"),
        ("e.png", b"", "images"),
        ("f/1.parquet", b"PAR1", "parquet"),
        ("g/zarr.json", b"{}", "zarr"),
        ("h/deep/1.png", b"", "images"),
    ):
        memory.pipe_file("/" + name, data)
        url = "memory://" + (name.partition("/")[0])
        assert recognized(url) == expected, name
    with pytest.raises(SourceError, match=r"memory://d\.npy: copy it to a disk; NumPy"):
        zm.measure("memory://d.npy")


def test_a_name_that_no_url_can_hold_is_skipped_by_name(memory):
    memory.store["/x/a::b.png"] = fsspec.implementations.memory.MemoryFile(
        memory, "/x/a::b.png", picture(1)
    )
    memory.pipe_file("/x/c.png", picture(1))
    with pytest.warns(SkippedWarning):
        profile = zm.measure("memory://x")
    assert profile.provenance.skipped == (
        ("a::b.png", "has '::' in its name, which no URL can hold"),
    )


def test_the_command_takes_urls(local, tmp_path):
    from click.testing import CliRunner

    from zeromean.cli import main

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in contents().items():
            archive.writestr("train/" + name, data)
    out = tmp_path / "p.json"
    result = CliRunner().invoke(
        main, ["measure", f"zip://train::file://{tmp_path}/a.zip", "-o", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert zm.load(out) == measured(local)[0]
    result = CliRunner().invoke(main, ["measure", "cloudy://x", "-o", str(out)])
    assert result.exit_code == 2
    assert os.linesep.join(result.output.splitlines()).count("Traceback") == 0


# ---------------------------------------------------------------- a real server


def test_a_folder_behind_http(local):
    """With aiohttp: pages of links, tags, queries, errors of the server by name."""
    pytest.importorskip("aiohttp")
    import functools
    import http.server

    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            if self.path.startswith("/500"):
                self.send_error(500)
            else:
                super().do_GET()

    (local / "a" / "[x]*.png").rename(local / "a" / "x.png")
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=local)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            base = f"http://127.0.0.1:{server.server_port}/"
            expected, _ = measured(local)
            profile, _ = measured(base)
            assert profile == expected
            assert profile.provenance.digest == expected.provenance.digest
            with pytest.warns(SkippedWarning):
                some = zm.measure([base + "z.png?token=secret", base + "500.png", base + "no.png"])
            reasons = dict(some.provenance.skipped)
            assert reasons["no.png"] == "no such file"
            assert reasons["500.png"].startswith("500")
            assert "secret" not in str(some.provenance)
            assert some == zm.measure(local / "z.png")
        finally:
            server.shutdown()
            thread.join()
