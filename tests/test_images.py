"""Walking folders: every image once, in one order, and a sentence for everything else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from zeromean.errors import SourceError
from zeromean.sources.images import IMAGE_EXTENSIONS, ImageFiles

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX file system")


def picture(value=0, mode="RGB", image_format="PNG", size=(3, 2)):
    buffer = io.BytesIO()
    fill = (value,) * len(mode) if len(mode) > 1 and ";" not in mode else value
    Image.new(mode, size, fill).save(buffer, image_format)
    return buffer.getvalue()


def put(folder, *names, data=None):
    """Write one small picture, each of its own color, under every name."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i) if data is None else data)
    return folder


def items(source):
    return [item for shard in source.shards() for item in shard.items()]


def names(source):
    return [name for _, name, _ in source.files()]


def skipped(source):
    return {item.name: item.reason for item in items(source) if item.reason}


# ---------------------------------------------------------------- what is read


def test_folder_is_walked_in_sorted_order(tmp_path):
    put(tmp_path, "b/2.png", "b/10.png", "a/x/1.png", "a/9.png", "z.png", "Z.png")
    source = ImageFiles(tmp_path)
    expected = ["Z.png", "z.png", "a/9.png", "a/x/1.png", "b/10.png", "b/2.png"]
    assert expected == names(source)
    assert expected == [item.name for item in items(source)]
    assert source.n_items == 6
    assert source.classes == ("a", "b")
    assert (source.left_out, source.ignored, source.problems, source.warnings) == ({}, 0, [], ())


def test_item_carries_pixels_and_their_story(tmp_path):
    data = picture(7, "L")
    put(tmp_path, "a.png", data=data)
    (item,) = items(ImageFiles(str(tmp_path)))
    assert np.array_equal(np.full((2, 3, 3), 7, np.uint8), item.array)
    assert (item.name, item.reason, item.kind) == ("a.png", "", "RGB uint8")
    assert (item.decoder, item.notes, item.batched) == ("Pillow", ("gray",), False)
    assert item.n_bytes == len(data)
    assert item.digest == int(hashlib.sha256(data).hexdigest(), 16)


def test_extensions_are_those_of_torchvision_in_any_case(tmp_path):
    put(tmp_path, *(f"{i}{ext.upper()}" for i, ext in enumerate(IMAGE_EXTENSIONS)))
    put(tmp_path, "a.gif", "b.GIF", "c.avif", "labels.csv", "README")
    source = ImageFiles(tmp_path)
    assert source.n_items == len(IMAGE_EXTENSIONS) == 9
    assert source.left_out == {".gif": 2, ".avif": 1}
    assert source.ignored == 2


def test_other_extensions_are_read_when_asked_for(tmp_path):
    put(tmp_path, "a.png")
    put(tmp_path, "b.gif", data=picture(3, "P", "GIF"))
    for extensions in ([".gif"], ["gif"], ["*.GIF"], ".gif"):
        source = ImageFiles(tmp_path, extensions=extensions)
        assert names(source) == ["b.gif"], extensions
        assert source.left_out == {".png": 1}
    named = ImageFiles([tmp_path, tmp_path / "b.gif"])
    assert names(named) == [f"{tmp_path.name}/a.png", "b.gif"]
    assert [item.reason for item in items(named)] == ["", ""]


def test_hidden_files_and_clutter_are_passed_over(tmp_path):
    put(tmp_path, "a.png", ".b.png", "._a.png", ".git/c.png", "__MACOSX/d.png", "Thumbs.db")
    source = ImageFiles(tmp_path)
    assert names(source) == ["a.png"]
    assert source.ignored == 0


def test_folder_given_by_a_hidden_path_is_read(tmp_path):
    put(tmp_path / ".cache", "a.png")
    assert names(ImageFiles(tmp_path / ".cache")) == ["a.png"]


def test_several_paths_stay_apart_in_the_names(tmp_path):
    put(tmp_path, "one/cats/1.png", "two/cats/1.png", "two/cats/2.png", "3.png")
    source = ImageFiles([tmp_path / "one", tmp_path / "two", tmp_path / "3.png"])
    assert names(source) == ["one/cats/1.png", "two/cats/1.png", "two/cats/2.png", "3.png"]
    assert source.classes == ()
    twins = ImageFiles([tmp_path / "one" / "cats", tmp_path / "two" / "cats"])
    assert len(set(names(twins))) == 3
    assert names(twins)[0].endswith("one/cats/1.png")


def test_single_file_is_named_by_its_last_part(tmp_path):
    put(tmp_path, "a/b.png")
    source = ImageFiles(tmp_path / "a" / "b.png")
    assert (names(source), source.n_items) == (["b.png"], 1)
    assert items(source)[0].array.shape == (2, 3, 3)


def test_relative_paths_work(tmp_path, monkeypatch):
    put(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    assert names(ImageFiles(".")) == names(ImageFiles("./a.png")) == ["a.png"]


def test_nothing_is_read_twice(tmp_path):
    put(tmp_path, "a/1.png", "a/b/2.png", "c/3.png")
    a, b = tmp_path / "a", tmp_path / "a" / "b"
    for paths in ([a, a], [a, b], [a, a / "1.png"], [a / "1.png", a], [a, str(a) + os.sep]):
        source = ImageFiles(paths)
        assert source.n_items == 2, paths
        assert any("given twice; it is read once" in text for text in source.warnings)
    assert ImageFiles([b, a]).n_items == 2
    assert ImageFiles([a / "1.png", a / "1.png"]).n_items == 1
    assert ImageFiles([a, tmp_path / "c" / "3.png"]).warnings == ()


# ---------------------------------------------------------------- links, pipes, permissions


@posix
def test_links_are_followed_and_loops_end(tmp_path):
    put(tmp_path, "data/a.png", "elsewhere/b.png")
    data = tmp_path / "data"
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "again").symlink_to(tmp_path / "elsewhere")
    (data / "loop").symlink_to(data)
    (data / "c.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (data / "self").symlink_to(data / "self")
    assert names(ImageFiles(data)) == ["a.png", "c.png", "again/b.png"]


@posix
def test_special_files_are_reported_and_never_opened(tmp_path, monkeypatch):
    put(tmp_path, "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        os.mkfifo(tmp_path / "pipe.txt")
        source = ImageFiles(tmp_path)
        reasons = skipped(source)
    assert reasons.pop("loop.png")
    assert reasons == {
        "pipe.png": "a named pipe, not a file",
        "socket.png": "a socket, not a file",
        "null.png": "a device, not a file",
        "broken.png": "a broken link",
    }
    assert source.n_items == 6


@posix
def test_pipe_that_takes_a_files_place_does_not_block(tmp_path):
    put(tmp_path, "a.png", "b.png")
    source = ImageFiles(tmp_path)
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").unlink()
    (tmp_path / "b.png").mkdir()
    assert skipped(source) == {"a.png": "a named pipe, not a file", "b.png": "is a directory"}


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read all")
def test_forbidden_files_and_folders_are_named(tmp_path):
    put(tmp_path, "a.png", "b.png", "locked/c.png")
    (tmp_path / "b.png").chmod(0)
    (tmp_path / "locked").chmod(0)
    try:
        source = ImageFiles(tmp_path)
        assert skipped(source) == {"b.png": "permission denied"}
        assert source.problems == [("locked", "permission denied")]
        with pytest.raises(SourceError, match=r"cannot list .*permission denied"):
            ImageFiles(tmp_path / "locked")
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_folder_that_cannot_be_listed_is_a_problem_not_a_crash(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "locked/c.png")
    scandir = os.scandir

    def refusing(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    source = ImageFiles(tmp_path)
    assert (names(source), source.problems) == (["a.png"], [("locked", "permission denied")])


def test_file_that_vanishes_or_changes_is_skipped(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "b.png", "c.png")
    source = ImageFiles(tmp_path)
    (tmp_path / "a.png").unlink()
    fstat = os.fstat

    def growing(number):
        status = list(fstat(number))
        status[6] += 1
        return os.stat_result(status)

    assert skipped(source) == {"a.png": "vanished before it was read"}
    monkeypatch.setattr(os, "fstat", growing)
    assert skipped(source)["b.png"] == "changed while it was read"


def test_giant_file_is_not_read_into_memory(tmp_path):
    put(tmp_path, "a.png")
    with (tmp_path / "b.png").open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no room on the disk
    assert skipped(ImageFiles(tmp_path)) == {
        "b.png": "a file of 3.2 GB, too large to be read whole"
    }


def test_damaged_files_are_skipped_with_their_reason(tmp_path):
    put(tmp_path, "a.png")
    put(tmp_path, "b.png", data=b"")
    put(tmp_path, "c.jpg", data=picture(1)[:-20])
    bad = {item.name: item for item in items(ImageFiles(tmp_path)) if item.reason}
    assert bad["b.png"].reason == "empty file"
    assert bad["c.jpg"].reason == "the PNG file is cut short"
    assert bad["c.jpg"].array is None
    assert bad["c.jpg"].n_bytes == len(picture(1)) - 20


# ---------------------------------------------------------------- names


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="the file system takes UTF-8 only")
def test_names_that_are_not_utf8_can_still_be_saved(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:
        file.write(picture())
    put(tmp_path, "été.png", "two\nlines.png", 'quote".png')
    source = ImageFiles(tmp_path)
    found = names(source)
    assert set(found) == {"caf\\xe9.png", "été.png", "two\nlines.png", 'quote".png'}
    assert skipped(source) == {}
    json.dumps(found, ensure_ascii=False).encode("utf-8")


# ---------------------------------------------------------------- warnings


def test_validation_folders_inside_draw_a_warning(tmp_path):
    put(tmp_path, "train/a.png", "VAL/x/b.png", "VAL/y/c.png", "train/test/d.png", "valley/e.png")
    (tmp_path / "validation").mkdir()  # holds no image, leaks nothing
    warned = ImageFiles(tmp_path).warnings
    assert len(warned) == 2
    assert warned[0] == (
        f"{tmp_path.as_posix()}/VAL is inside the measured folder; "
        "statistics should come from training data only"
    )
    assert "train/test is inside" in warned[1]
    assert ImageFiles(tmp_path / "VAL").warnings == ()


# ---------------------------------------------------------------- groups, limit, shards


def test_group_skips_the_other_kinds_by_name(tmp_path):
    put(tmp_path, "a.png", data=picture(1, "RGB"))
    put(tmp_path, "b.png", data=picture(1, "RGBA"))
    put(tmp_path, "c.png", data=picture(1, "I;16"))
    everything = items(ImageFiles(tmp_path, colors="keep"))
    assert [item.kind for item in everything] == ["RGB uint8", "RGBA uint8", "I;16 uint16"]
    for group in ("RGB uint8", "RGB"):
        assert skipped(ImageFiles(tmp_path, colors="keep", group=group)) == {
            "b.png": f"RGBA uint8, not the chosen group {group}",
            "c.png": f"I;16 uint16, not the chosen group {group}",
        }


def test_limit_is_spread_evenly_and_always_the_same(tmp_path):
    put(tmp_path, *(f"{c}/{i}.png" for c in "abcd" for i in range(10)))
    chosen = names(ImageFiles(tmp_path, limit=4))
    assert chosen == names(ImageFiles(tmp_path, limit=4))
    assert [name[0] for name in chosen] == ["a", "b", "c", "d"]
    assert names(ImageFiles(tmp_path, limit=99)) == names(ImageFiles(tmp_path))
    for n in range(1, 41):
        source = ImageFiles(tmp_path, limit=n)
        assert len(set(names(source))) == source.n_items == len(items(source)) == n


def test_shards_are_cut_by_count_and_by_size(tmp_path):
    put(tmp_path, *(f"{i:03}.png" for i in range(150)))
    source = ImageFiles(tmp_path)
    assert [shard.n_items for shard in source.shards()] == [64, 64, 22]
    for i in (0, 1, 2):
        with (tmp_path / f"{i:03}.png").open("ab") as file:
            file.truncate(9 << 20)
    assert [shard.n_items for shard in ImageFiles(tmp_path).shards()] == [2, 64, 64, 20]


def test_shards_survive_pickling(tmp_path):
    put(tmp_path, "a.png", "b.png", "c.png")
    (shard,) = ImageFiles(tmp_path, colors="gray").shards()
    copy = pickle.loads(pickle.dumps(shard))
    assert copy == shard
    pairs = zip(shard.items(), copy.items(), strict=True)
    assert all(np.array_equal(one.array, two.array) for one, two in pairs)


def test_sizes_are_those_of_the_files(tmp_path):
    put(tmp_path, "a.png", data=bytes(10))
    put(tmp_path, "b.png", data=bytes(30))
    put(tmp_path, "c.png", data=bytes(500))
    source = ImageFiles(tmp_path)
    assert (source.n_bytes, source.median_size) == (540, 30)
    (tmp_path / "a.png").unlink()
    assert ImageFiles([tmp_path / "b.png", tmp_path / "c.png"]).n_bytes == 530


def test_walk_asks_for_no_sizes(tmp_path, monkeypatch):
    put(tmp_path, *(f"{i}.png" for i in range(50)))
    calls = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **kw: calls.append(args) or stat(*args, **kw))
    assert ImageFiles(tmp_path).n_items == 50
    assert len(calls) < 5


# ---------------------------------------------------------------- what cannot be


def test_missing_path_is_named_with_the_nearest_one(tmp_path):
    put(tmp_path, "train/a.png", "other/b.png")
    with pytest.raises(
        SourceError, match=r"no such folder or file: '.*trian'; did you mean '.*train'"
    ):
        ImageFiles(tmp_path / "trian")
    with pytest.raises(SourceError, match=r"'.*' holds other, train"):
        ImageFiles(tmp_path / "zzz" / "deep")
    with pytest.raises(SourceError, match="no such folder or file"):
        ImageFiles([tmp_path / "train", tmp_path / "train" / "a.png" / "b"])


def test_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(SourceError, match=r"holds no image .* and no other file either"):
        ImageFiles(tmp_path)
    put(tmp_path, "a.gif", "b.gif", "x/c.csv", "LICENSE")
    with pytest.raises(SourceError) as caught:
        ImageFiles(tmp_path)
    text = str(caught.value)
    assert "only 2 .gif" in text
    assert "1 .csv" in text
    assert "1 without extension" in text
    assert "--ext .gif" in text


@posix
def test_link_to_nowhere_and_pipe_are_refused_when_named(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"is a broken link to '.*nowhere'"):
        ImageFiles(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(SourceError, match="is a named pipe, not a file"):
        ImageFiles(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"colors": "BGR"}, "choose 'RGB', 'gray' or 'keep'"),
        ({"limit": 0}, "limit is 0; choose 1 or more"),
        ({"extensions": []}, "extensions is empty"),
    ],
)
def test_senseless_arguments_are_refused(tmp_path, options, match):
    put(tmp_path, "a.png")
    with pytest.raises(SourceError, match=match):
        ImageFiles(tmp_path, **options)
    with pytest.raises(SourceError, match="no folder and no file was given"):
        ImageFiles([])


def test_moved_folder_gives_the_same_names_and_digests(tmp_path):
    put(tmp_path / "here", "a/1.png", "b/2.png")
    before = [(item.name, item.digest) for item in items(ImageFiles(tmp_path / "here"))]
    shutil.move(tmp_path / "here", tmp_path / "there")
    after = [(item.name, item.digest) for item in items(ImageFiles(tmp_path / "there"))]
    assert before == after


def test_passing_items_hand_over_the_same_pictures(tmp_path):
    """Memory that is used again must not change what is measured, whatever sizes follow."""
    rng = np.random.default_rng(3)
    for i, (height, width) in enumerate([(40, 30), (9, 7), (64, 80), (64, 80), (1, 1)]):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    (shard,) = ImageFiles([tmp_path]).shards()
    kept = [item.array for item in shard.items()]
    passing = [item.array.copy() for item in shard.passing_items()]
    assert all(np.array_equal(a, b) for a, b in zip(kept, passing, strict=True))
    lasting = [item.array for item in shard.passing_items()]
    assert np.shares_memory(lasting[0], lasting[1])
