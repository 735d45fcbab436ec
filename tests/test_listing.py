"""What a path stands for: itself, a pattern, numbers in braces, or a list of files."""

from __future__ import annotations

import io
import os
import sys
import time

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.errors import SkippedWarning, SourceError, ZeromeanWarning
from zeromean.sources.images import ImageFiles
from zeromean.sources.listing import expanded
from zeromean.sources.opening import Options, open_source

posix = pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")


def picture(value=0):
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def put(folder, *names):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(i))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(source):
    return [name for _, name, _ in source.files()]


# ---------------------------------------------------------------- patterns


def test_patterns_are_sorted_and_kept_in_the_order_given(here):
    put(here, "b/10.png", "b/9.png", "a/x/1.png", "a/2.png", ".h/3.png")
    assert expanded(["b/*.png", "a/*.png"]) == ["b/10.png", "b/9.png", "a/2.png"]
    assert expanded(["**/*.png"]) == ["a/2.png", "a/x/1.png", "b/10.png", "b/9.png"]
    assert expanded(["?/[0-9].png"]) == ["a/2.png", "b/9.png"]
    assert expanded(["a", here / "b"]) == ["a", str(here / "b")]
    with pytest.raises(SourceError, match=r"no file fits the pattern 'c/\*\.png'"):
        expanded(["c/*.png"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s-{00..03}.tar", "s-00.tar s-01.tar s-02.tar s-03.tar"),
        ("s-{8..11}.tar", "s-8.tar s-9.tar s-10.tar s-11.tar"),
        ("s-{008..10}", "s-008 s-009 s-010"),
        ("{3..1}", "3 2 1"),
        ("{0..9..4}", "0 4 8"),
        ("{a,b}{1,2}", "a1 a2 b1 b2"),
        ("x{,.bak}", "x x.bak"),
        ("{1}", "{1}"),
        ("{}", "{}"),
        ("a{b", "a{b"),
        ("a}b{c}", "a}b{c}"),
        ("{a..c}", "{a..c}"),
    ],
)
def test_braces_are_written_out_as_a_shell_does(here, text, expected):
    """Numbers keep their width; what is missing is not left out in silence."""
    assert expanded([text]) == expected.split()


def test_braces_and_wildcards_together(here):
    put(here, "a1.png", "a2.png", "b1.png", "c1.png")
    assert expanded(["{b,a}*.png"]) == ["b1.png", "a1.png", "a2.png"]


def test_braces_do_not_fill_the_memory(here):
    begin = time.perf_counter()
    for text in ("{0..99999999999}", "{0..999}{0..999}{0..999}"):
        with pytest.raises(SourceError, match="stands for more than 1,000,000 files"):
            expanded([text])
    assert time.perf_counter() - begin < 20


def test_what_exists_under_its_own_name_is_that_file(here):
    odd = ["a*b.png", "@x.png", "{1,2}.png", "[0].png", "what?.png", "-", "two  spaces .png"]
    put(here, *odd, "aXb.png", "1.png", "0.png")
    assert expanded(odd) == odd
    assert zm.measure(odd[:-2]).provenance.items == 5


def test_what_is_given_twice_is_read_once_and_said(here):
    put(here, "a.png", "b.png")
    with pytest.warns(ZeromeanWarning, match=r"^1 path\(s\) were given .* such as 'a\.png'"):
        assert expanded(["a.png", "*.png"]) == ["a.png", "b.png"]
    (here / "list").write_text("a.png\nb.png\na.png\na.png\n")
    with pytest.warns(ZeromeanWarning, match=r"^2 path\(s\)"):
        profile = zm.measure("@list")
    assert profile == zm.measure(["a.png", "b.png"])


# ---------------------------------------------------------------- lists


def test_a_list_keeps_its_order_and_its_names(here):
    put(here, "z.png", "a.png", "with space.png", " lead.png", "a*.png")
    for text in (
        "z.png\nwith space.png\n lead.png\na*.png\na.png\n",
        "z.png\r\nwith space.png\r\n lead.png\r\na*.png\r\na.png\r\n",
        "\ufeffz.png\nwith space.png\n\n lead.png\na*.png\n   \na.png",
        "z.png\0with space.png\0 lead.png\0a*.png\0a.png\0",
    ):
        (here / "list.txt").write_text(text, encoding="utf-8", newline="")
        paths = expanded(["@list.txt"])
        assert paths == ["z.png", "with space.png", " lead.png", "a*.png", "a.png"]
    assert names(open_source("@list.txt", None, Options())[0]) == paths


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="the file system takes UTF-8 only")
def test_a_list_holds_names_of_any_bytes(here):
    """Also line ends, where the names are parted by NUL."""
    odd = [b"caf\xe9.png", b"two\nlines.png", b"tail\r.png", "été.png".encode()]
    for i, name in enumerate(odd):
        with open(name, "wb") as file:
            file.write(picture(i))
    (here / "list").write_bytes(b"\0".join(odd) + b"\0")
    assert [os.fsencode(path) for path in expanded(["@list"])] == odd
    profile = zm.measure("@list")
    assert profile.provenance.items == 4
    profile.save(here / "p.json")
    (here / "lines").write_bytes(odd[0] + b"\n" + odd[3] + b"\n")
    assert zm.measure("@lines").provenance.items == 2


def test_find_print0_on_standard_input(here, monkeypatch):
    put(here, "a/1.png", "a/two words.png", "b/1.png")
    data = b"./a/1.png\0./a/two words.png\0./b/1.png\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    (source,) = open_source("-", None, Options())
    assert names(source) == ["a/1.png", "a/two words.png", "b/1.png"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("a/1.png\nb/1.png\n"))
    assert expanded(["-"]) == ["a/1.png", "b/1.png"]


def test_a_list_that_is_missing_or_empty_is_said(here):
    with pytest.raises(SourceError, match=r"cannot read the list 'no\.txt': No such file"):
        expanded(["@no.txt"])
    for data in (b"", b"\n  \n", b"\0"):
        (here / "empty").write_bytes(data)
        with pytest.raises(SourceError, match="the list empty names no file"):
            expanded(["@empty"])


def test_a_list_may_name_folders_and_other_formats(here):
    put(here, "train/a.png", "train/b.png", "c.png")
    np.save(here / "x.npy", np.arange(5))
    (here / "list").write_text("train\nc.png\n")
    assert zm.measure("@list").provenance.items == 3
    (here / "arrays").write_text("x.npy\n")
    assert zm.measure("@arrays").mean == 2.0


# ---------------------------------------------------------------- files that are not there


def test_one_vanished_file_does_not_stop_a_list(here):
    """It is skipped by its name, as one that breaks; strict stops."""
    put(here, "a/1.png", "a/2.png", "b/3.png")
    os.symlink("nowhere", here / "a" / "link.png")
    os.mkfifo(here / "a" / "pipe.png")
    paths = ["a/1.png", "a/gone.png", "a/link.png", "a/pipe.png", "b/3.png", "a/1.png/x", "a/\0"]
    with pytest.warns(SkippedWarning, match="skipped 5"):
        profile = zm.measure(paths)
    assert profile == zm.measure(["a/1.png", "b/3.png"])
    assert dict(profile.provenance.skipped) == {
        "a/gone.png": "no such file",
        "a/link.png": "a broken link",
        "a/pipe.png": "a named pipe, not a file",
        "a/1.png/x": "no such file",
        "a/\0": "no path: embedded null byte",
    }
    with pytest.raises(SourceError, match=r"a/gone\.png: no such file"):
        zm.measure(paths, strict=True)


def test_a_missing_folder_or_the_only_file_is_an_error(here):
    """A slip of the pen must not become half a data set."""
    put(here, "train/1.png", "extra/2.png")
    for paths in (["train", "extar"], ["gone.png"], ["gone.png", "gone2.png"], ["train", "no.png"]):
        with pytest.raises(SourceError, match="no such folder or file"):
            zm.measure(paths)


def test_a_ledger_reads_a_file_of_a_list_when_it_appears(here):
    put(here, "a.png", "b.png")
    (here / "b.png").rename("later")
    (here / "list").write_text("a.png\nb.png\n")
    with pytest.warns(SkippedWarning):
        first = zm.measure("@list", ledger="ledger")
    (here / "later").rename("b.png")
    assert zm.measure("@list", ledger="ledger") == zm.measure(["a.png", "b.png"])
    assert first == zm.measure("a.png")


# ---------------------------------------------------------------- names


def test_names_leave_out_the_folder_that_all_files_share(here):
    put(here, "data/cat/1.png", "data/cat/2.png", "data/dog/1.png")
    files = ["data/cat/2.png", "data/dog/1.png", "./data/cat/1.png"]
    source = ImageFiles(files)
    assert names(source) == ["cat/2.png", "dog/1.png", "cat/1.png"]
    assert source.classes == ("cat", "dog")
    assert names(ImageFiles([str(here / f) for f in files])) == names(source)
    mixed = names(ImageFiles([files[0], str(here / files[1])]))
    assert len(set(mixed)) == 2
    assert zm.measure(files, by="class") == zm.measure("data", by="class")
    with pytest.raises(SourceError, match="lies in no class folder"):
        zm.measure(files[:1] + files[2:], by="class")


def test_names_of_files_beside_folders_stay_apart(here):
    put(here, "one/1.png", "two/1.png", "three/one/1.png")
    source = ImageFiles(["one", "two/1.png", "three/one/1.png"])
    assert names(source) == ["one/1.png", "two/1.png", "three/one/1.png"]


def test_the_name_of_a_long_list_stays_short(here):
    put(here, *(f"{i}.png" for i in range(10)))
    source = ImageFiles([f"{i}.png" for i in range(10)])
    assert source.name == "0.png, 1.png, 2.png and 7 more"
    assert zm.measure([f"{i}.png" for i in range(10)]).provenance.sources == (source.name,)


# ---------------------------------------------------------------- long lists


def test_a_long_list_costs_little_for_each_path(here, monkeypatch):
    """No file is opened before it is read, and none is looked at but a few times."""
    put(here, *(f"{i % 10}/{i:05}.png" for i in range(0, 3000, 100)))
    paths = [f"{i % 10}/{i:05}.png" for i in range(3000)]
    looks = 0
    stat = os.stat

    def counting(*args, **kwargs):
        nonlocal looks
        looks += 1
        return stat(*args, **kwargs)

    def refusing(path, *args, **kwargs):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(os, "stat", counting)
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refusing)
        (source,) = open_source(paths, None, Options())
        assert sum(shard.n_items for shard in source.shards()) == source.n_items == 3000
    assert looks <= 3 * 3000 + 100
    assert len(source._roots) == 1


def test_pictures_of_a_list_may_hold_something_else(here):
    """They are not opened twice; one that is none is skipped by name."""
    put(here, "a.png", "b.png")
    np.save(here / "c", np.arange(3))
    (here / "c.npy").rename("c.png")
    with pytest.warns(SkippedWarning, match=r"c\.png: a NumPy array file"):
        profile = zm.measure(["a.png", "b.png", "c.png"])
    assert profile.provenance.items == 2
    assert zm.measure("c.png").mean == 1.0  # alone, its content decides
