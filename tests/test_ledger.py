"""The ledger: resume, add, change, remove; the same bits as a fresh measurement, always."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.ledger import identity, rows
from zeromean.ledger.keeping import Where, kept
from zeromean.ledger.lock import Lock
from zeromean.ledger.states import decode, encode
from zeromean.sources import Entry, images

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-train-5k"
RNG = np.random.default_rng(6)


def put(folder, name, shape=(6, 5, 3), dtype=np.uint8):
    """Write one picture of random pixels."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape).astype(dtype)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def data(tmp_path):
    """A folder of 70 small pictures: more than one shard."""
    folder = tmp_path / "data"
    for i in range(70):
        put(folder, f"{i % 3}/{i:03d}.png", (6 + i % 4, 5, 3))
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The names of all files that are decoded."""
    names: list[str] = []
    usual = images.picture

    def noting(data, name, *rest):
        names.append(name)
        return usual(data, name, *rest)

    monkeypatch.setattr(images, "picture", noting)
    return names


def settle(folder):
    """Make all files look older than a tick of the file system's clock."""
    time.sleep(0.03)


def same(first, second):
    """Bit for bit: statistics, extrema, and where they came from."""
    assert first == second
    assert np.array_equal(first.min, second.min)
    assert np.array_equal(first.max, second.max)
    mine, theirs = first.provenance, second.provenance
    for name in ("items", "skipped", "bytes", "digest", "decoders", "notes", "warnings"):
        assert getattr(mine, name) == getattr(theirs, name), name


# ---------------------------------------------------------------- again


def test_a_second_run_reads_nothing(data, tmp_path, decoded):
    fresh = zm.measure(data)
    settle(data)
    decoded.clear()
    same(zm.measure(data, ledger=tmp_path / "x.ledger"), fresh)
    assert len(decoded) == 70
    decoded.clear()
    same(zm.measure(data, ledger=tmp_path / "x.ledger"), fresh)
    assert decoded == []


@pytest.mark.parametrize("per", ["n h w c -> c", "n h w c ->", "n h w c -> n"])
def test_patterns(data, tmp_path, per):
    """Also one that keeps nothing; one that cannot be measured says so as without a ledger."""
    if per.endswith("n"):
        with pytest.raises(zm.PatternError):
            zm.measure(data, per, ledger=tmp_path / "x.ledger")
        return
    for _ in range(2):
        same(zm.measure(data, per, ledger=tmp_path / "x.ledger"), zm.measure(data, per))


def change(folder):
    """Add, change, delete, touch, and break some files."""
    settle(folder)
    added = [put(folder, f"new/{i}.png") for i in range(5)]
    changed = [put(folder, f"0/{i:03d}.png", (9, 9, 3)) for i in range(0, 12, 3)]
    for i in range(1, 9, 3):
        (folder / f"1/{i:03d}.png").unlink()
    broken = folder / "2/002.png"
    broken.write_bytes(broken.read_bytes()[:-20])
    touched = folder / "2/005.png"
    os.utime(touched)
    return {p.relative_to(folder).as_posix() for p in [*added, *changed, broken]}, touched


def test_what_is_new_changed_or_gone_and_nothing_else_is_read(data, tmp_path, decoded):
    ledger = tmp_path / "x.ledger"
    settle(data)
    zm.measure(data, ledger=ledger)
    expected, touched = change(data)
    settle(data)
    decoded.clear()
    with pytest.warns(zm.SkippedWarning):
        after = zm.measure(data, ledger=ledger)
    assert set(decoded) == expected  # a touched file is read, and not decoded
    with pytest.warns(zm.SkippedWarning):
        same(after, zm.measure(data))
    decoded.clear()
    with pytest.warns(zm.SkippedWarning):
        same(zm.measure(data, ledger=ledger), after)
    assert decoded == []
    assert touched.exists()


def test_a_file_that_is_mended_counts(data, tmp_path):
    ledger = tmp_path / "x.ledger"
    whole = zm.measure(data)
    file = data / "0/000.png"
    content = file.read_bytes()
    file.write_bytes(content[:40])
    with pytest.warns(zm.SkippedWarning):
        assert zm.measure(data, ledger=ledger).provenance.items == 69
    file.write_bytes(content)
    same(zm.measure(data, ledger=ledger), whole)


def test_an_emptied_and_refilled_folder(data, tmp_path):
    ledger = tmp_path / "x.ledger"
    zm.measure(data, ledger=ledger)
    for name in ("0", "1", "2"):
        shutil.rmtree(data / name)
    put(data, "only.png")
    same(zm.measure(data, ledger=ledger), zm.measure(data))
    (data / "only.png").write_bytes(b"nothing")
    with pytest.raises(zm.SourceError, match="none of 1 files could be measured"):
        zm.measure(data, ledger=ledger)


def test_a_change_within_a_tick_of_the_clock_is_noticed(data, tmp_path, monkeypatch):
    """Same size, same times: only its content tells. The file is read again for that reason."""
    ledger = tmp_path / "x.ledger"
    monkeypatch.setattr(rows, "_TICK", 10**18)
    zm.measure(data, ledger=ledger)
    file = data / "0/000.png"
    before = file.stat()
    pixels = np.asarray(Image.open(file)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(file, compress_level=6)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setattr(identity, "about", identity.about)
    same(zm.measure(data, ledger=ledger), zm.measure(data))


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_engines(data, tmp_path, executor):
    fresh = zm.measure(data)
    if executor == "threads":
        same(zm.measure(data, ledger=tmp_path / "x.ledger", workers=3), fresh)
        return
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        same(zm.measure(data, ledger=tmp_path / "x.ledger", executor=pool), fresh)
    same(zm.measure(data, ledger=tmp_path / "x.ledger"), fresh)


def test_kinds_are_kept_apart(data, tmp_path):
    """Two kinds are refused as without a ledger, naming a file of each."""
    ledger = tmp_path / "x.ledger"
    put(data, "gray.png", (4, 4))
    for _ in range(2):
        with pytest.raises(zm.SourceError, match=r"L uint8: such as gray\.png"):
            zm.measure(data, colors="keep", ledger=ledger)
    (data / "gray.png").unlink()
    same(zm.measure(data, colors="keep", ledger=ledger), zm.measure(data, colors="keep"))


def test_floats_whose_extrema_cannot_be_subtracted(tmp_path):
    """After a removal extrema are found anew, so they stay exact."""
    folder, ledger = tmp_path / "floats", tmp_path / "x.ledger"
    folder.mkdir()
    for i in range(9):
        Image.fromarray(RNG.normal(i, 1, (4, 4)).astype(np.float32)).save(folder / f"{i}.tif")
    options = {"colors": "keep", "format": "images", "quantiles": True}
    same(zm.measure(folder, ledger=ledger, **options), zm.measure(folder, **options))
    (folder / "8.tif").unlink()
    (folder / "0.tif").unlink()
    after = zm.measure(folder, ledger=ledger, **options)
    same(after, zm.measure(folder, **options))
    assert after.extrema_exact


def test_sums_that_are_too_large_for_each_file(tmp_path, decoded):
    """Mean images: a shard's files share a sum; one that goes takes the others along, aloud."""
    folder, ledger, per = tmp_path / "data", tmp_path / "x.ledger", "n h w c -> h w c"
    for i in range(130):
        put(folder, f"{i:03d}.png", (40, 30, 3))
    settle(folder)
    same(zm.measure(folder, per, ledger=ledger), zm.measure(folder, per))
    decoded.clear()
    same(zm.measure(folder, per, ledger=ledger), zm.measure(folder, per))
    assert len(decoded) == 130  # of the fresh measurement
    (folder / "005.png").unlink()
    put(folder, "999.png", (40, 30, 3))
    settle(folder)
    decoded.clear()
    with pytest.warns(zm.ZeromeanWarning, match="63 files are measured again"):
        after = zm.measure(folder, per, ledger=ledger)
    assert len(decoded) == 64
    same(after, zm.measure(folder, per))


def test_groups(data, tmp_path, decoded):
    """Any grouping by name comes from the same ledger, and equals a fresh measurement."""
    ledger = tmp_path / "x.ledger"
    settle(data)
    zm.measure(data, ledger=ledger)
    decoded.clear()
    classes = zm.measure(data, by="class", ledger=ledger)
    tens = zm.measure(data, by=lambda name: name[2], ledger=ledger)
    assert decoded == []
    for kept_groups, fresh in (
        (classes, zm.measure(data, by="class")),
        (tens, zm.measure(data, by=lambda name: name[2])),
    ):
        assert list(kept_groups) == list(fresh)
        for name in fresh:
            same(kept_groups[name], fresh[name])
        same(kept_groups.total, fresh.total)
    with pytest.raises(zm.PatternError, match="labels cannot be matched"):
        zm.measure(data, by=[0] * 70, ledger=ledger)


# ---------------------------------------------------------------- states


def test_states_come_back_as_they_were(tmp_path):
    """Every kind of statistic, through the bytes of a ledger."""
    from zeromean.accumulation import Plan, gathering_of
    from zeromean.pattern import Pattern
    from zeromean.sources import Item

    arrays = [
        RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8),
        RNG.integers(0, 2, (5, 4, 3)).astype(bool),
        RNG.integers(-9, 9, (5, 4, 3)).astype(np.int8),
        RNG.integers(0, 65536, (5, 4, 3)).astype(np.uint16),
        RNG.normal(size=(5, 4, 3)).astype(np.float16),
        RNG.normal(size=(5, 4, 3)).astype(np.float32),
        RNG.normal(size=(5, 4, 3)) * 1e300,
        np.full((5, 4, 3), np.nan),
        RNG.integers(-(2**63), 2**63 - 1, (5, 4, 3)),
        np.zeros((0, 4, 3)),
    ]
    for array in arrays:
        for quantiles in (False, True):
            plan = Plan(Pattern.parse("n h w c -> c"), quantiles=quantiles)
            gathering = gathering_of(plan, Item(array, "a"))
            gathering.add(Item(array, "a"))
            part = gathering.finish()
            back = decode(encode(part), "a")
            for name in ("statistics", "extrema", "stds", "buckets", "kept_shape", "dtype"):
                assert getattr(back, name) == getattr(part, name), (array.dtype, name)


def test_a_state_with_another_bit_is_refused():
    profile = RNG.integers(0, 256, (1, 3, 3, 1)).astype(np.uint8)
    from zeromean.accumulation import Plan, gathering_of
    from zeromean.pattern import Pattern
    from zeromean.sources import Item

    gathering = gathering_of(Plan(Pattern.parse("n h w c -> c")), Item(profile[0], "a"))
    gathering.add(Item(profile[0], "a"))
    state = encode(gathering.finish())
    for i in range(len(state)):
        for bit in (1, 16, 128):
            bad = bytearray(state)
            bad[i] ^= bit
            with pytest.raises(zm.FormatError):
                decode(bytes(bad), "a")


# ---------------------------------------------------------------- what a ledger is of


def test_other_options_are_refused_and_said(data, tmp_path):
    ledger = tmp_path / "x.ledger"
    zm.measure(data, ledger=ledger)
    with pytest.raises(zm.SourceError, match="was kept with colors='RGB' and not 'gray'"):
        zm.measure(data, colors="gray", ledger=ledger)


def test_other_data_is_refused_and_moved_data_is_not(data, tmp_path, decoded):
    ledger = tmp_path / "x.ledger"
    fresh = zm.measure(data, ledger=ledger)
    other = tmp_path / "other"
    put(other, "a.png")
    with pytest.raises(zm.SourceError, match="only 0 of its 70 files are here"):
        zm.measure(other, ledger=ledger)
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    decoded.clear()
    same(zm.measure(moved, ledger=ledger), fresh)
    assert decoded == []  # copied files have other times, and the same content


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"by": lambda name: name[0], "limit": 3}, "a quick look"),
        ({"covariance": True}, "covariances"),
        ({"limit": 3}, "a quick look"),
    ],
)
def test_what_no_ledger_is_kept_of(data, tmp_path, options, reason):
    with pytest.raises(zm.SourceError, match=f"no ledger can be kept of {reason}"):
        zm.measure(data, ledger=tmp_path / "x.ledger", **options)


def test_arrays_have_no_ledger(tmp_path):
    with pytest.raises(zm.SourceError, match="no ledger can be kept of array"):
        zm.measure(np.zeros((3, 2)), ledger=tmp_path / "x.ledger")


def test_chosen_files(data, tmp_path, decoded):
    """A sample of the files gives the sum of the sample, and the rest can follow."""
    from zeromean.accumulation import Plan
    from zeromean.execution import Run

    source = images.ImageFiles(data)
    of = identity.about(data, {})
    ledger = Where(tmp_path / "x.ledger", of, chosen=True)
    plan = Plan(source.pattern, colors="RGB")
    chosen = [3, 40, 69]
    part = kept(source, plan, Run(workers=1), ledger, chosen)
    names = [entry.name for entry in source.entries()]
    plain = zm.measure([data / names[i] for i in chosen])
    assert part.partials["RGB uint8"].statistics == plain.statistics
    assert part.record.digest == plain.provenance.digest
    more = kept(source, plan, Run(workers=1), ledger, [*chosen, 5])
    assert more.record.items == 4
    settle(data)
    decoded.clear()
    whole = kept(source, plan, Run(workers=1), ledger)
    assert len(decoded) <= 67
    assert whole.partials["RGB uint8"].statistics == zm.measure(data).statistics
    again = kept(source, plan, Run(workers=1), ledger, chosen)
    assert again.partials["RGB uint8"].statistics == plain.statistics


# ---------------------------------------------------------------- trouble


def test_a_second_writer_is_told_who_holds_it(data, tmp_path):
    ledger = tmp_path / "x.ledger"
    lock = Lock(ledger)
    with pytest.raises(zm.SourceError, match=rf"written to by process {os.getpid()} on .* since"):
        zm.measure(data, ledger=ledger)
    lock.release()
    zm.measure(data, ledger=ledger)


def test_a_lock_of_the_dead_holds_nobody(data, tmp_path):
    ledger = tmp_path / "x.ledger"
    (tmp_path / "x.ledger.lock").write_text('{"pid": 1, "host": "x", "since": 0}')
    zm.measure(data, ledger=ledger)


def test_damage_is_found_and_the_ledger_made_anew(data, tmp_path):
    """Whatever bit is flipped: the result is that of a fresh measurement."""
    ledger, fresh = tmp_path / "x.ledger", zm.measure(data)
    settle(data)
    zm.measure(data, ledger=ledger)
    good = ledger.read_bytes()
    chance = random.Random(6)
    found = 0
    for trial in range(120):
        bad = bytearray(good)
        if trial % 10 == 9:
            del bad[chance.randrange(len(bad)) :]
        else:
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        ledger.write_bytes(bytes(bad))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if bad[:16] == good[:16] and bad[60:64] + bad[68:72] == good[60:64] + good[68:72]:
                same(zm.measure(data, ledger=ledger), fresh)
            else:  # what says that it is a ledger
                with pytest.raises(zm.SourceError, match=r"is no ledger|is damaged|version"):
                    zm.measure(data, ledger=ledger)
        found += any("measured again" in str(w.message) for w in said)
    assert found > 20
    assert list(tmp_path.glob("x.ledger.damaged-*"))


def test_a_state_that_was_damaged_is_not_subtracted(data, tmp_path):
    """The sum is sound, the state of a file is not: it is found when the file goes."""
    ledger = tmp_path / "x.ledger"
    settle(data)
    zm.measure(data, ledger=ledger)
    with sqlite3.connect(ledger) as base:
        base.execute("UPDATE files SET state = x'00' || state WHERE name = '0/000.png'")
    base.close()
    (data / "0/000.png").unlink()
    with pytest.warns(zm.ZeromeanWarning, match="damaged"):
        same(zm.measure(data, ledger=ledger), zm.measure(data))


def test_somebody_elses_file_is_left_alone(data, tmp_path):
    for content in (b"my notes", b"SQLite format 3\0" + bytes(4000)):
        notes = tmp_path / "notes.txt"
        notes.write_bytes(content)
        with pytest.raises(zm.SourceError, match="give the name of a new file"):
            zm.measure(data, ledger=notes)
        assert notes.read_bytes() == content


def test_a_newer_ledger_is_not_thrown_away(data, tmp_path):
    ledger = tmp_path / "x.ledger"
    zm.measure(data, ledger=ledger)
    with sqlite3.connect(ledger) as base:
        base.execute("PRAGMA user_version = 9")
    base.close()
    with pytest.raises(zm.SourceError, match="version 9"):
        zm.measure(data, ledger=ledger)


def test_files_that_vanish_or_cannot_be_read_are_tried_again(data, tmp_path, monkeypatch):
    ledger = tmp_path / "x.ledger"
    gone = data / "0/000.png"
    content = gone.read_bytes()
    usual = images.ImageFiles.shards_of

    def vanishing(self, chosen):
        gone.unlink(missing_ok=True)
        return usual(self, chosen)

    monkeypatch.setattr(images.ImageFiles, "shards_of", vanishing)
    with pytest.warns(zm.SkippedWarning, match="vanished before it was read"):
        assert zm.measure(data, ledger=ledger).provenance.items == 69
    monkeypatch.undo()
    gone.write_bytes(content)
    same(zm.measure(data, ledger=ledger), zm.measure(data))


def test_a_file_that_changes_while_it_is_read_does_not_count(data, tmp_path, monkeypatch):
    ledger = tmp_path / "x.ledger"
    usual, target = images.picture, data / "0/000.png"

    def growing(content, name, *rest):
        if name == "0/000.png":
            with target.open("ab") as file:
                file.write(b"more")
        return usual(content, name, *rest)

    monkeypatch.setattr(images, "picture", growing)
    with pytest.warns(zm.SkippedWarning, match="changed while it was read"):
        after = zm.measure(data, ledger=ledger)
    assert after.provenance.items == 69
    monkeypatch.undo()
    same(zm.measure(data, ledger=ledger), zm.measure(data))


def test_what_was_done_before_an_error_is_kept(data, tmp_path, decoded, monkeypatch):
    """Ctrl-C, and everything else that ends a run."""
    ledger = tmp_path / "x.ledger"
    settle(data)
    usual = images.picture

    def stopping(content, name, *rest):
        if len(decoded) == 66:
            raise KeyboardInterrupt
        return usual(content, name, *rest)

    monkeypatch.setattr(images, "picture", stopping)
    with pytest.raises(KeyboardInterrupt):
        zm.measure(data, ledger=ledger, workers=1)
    monkeypatch.setattr(images, "picture", usual)
    done = len(decoded)
    decoded.clear()
    same(zm.measure(data, ledger=ledger), zm.measure(data))
    assert len(decoded) - 70 <= 70 - 64  # the first shard was written down
    assert done == 66


def test_strict_stops_also_for_what_is_known_to_be_broken(data, tmp_path):
    (data / "2/002.png").write_bytes(b"nothing")
    ledger = tmp_path / "x.ledger"
    with pytest.raises(zm.SourceError, match=r"2/002\.png"):
        zm.measure(data, ledger=ledger, strict=True)
    with pytest.warns(zm.SkippedWarning):
        zm.measure(data, ledger=ledger)
    with pytest.raises(zm.SourceError, match=r"2/002\.png"):
        zm.measure(data, ledger=ledger, strict=True)


def test_decoders_of_several_versions_are_said(data, tmp_path, monkeypatch):
    ledger = tmp_path / "x.ledger"
    monkeypatch.setattr(rows, "_versioned", lambda name: f"{name} 1.0")
    zm.measure(data, ledger=ledger)
    monkeypatch.undo()
    put(data, "new.png")
    with pytest.warns(zm.ZeromeanWarning, match=r"decoded by Pillow .* and by Pillow"):
        after = zm.measure(data, ledger=ledger)
    assert after.provenance.decoders["Pillow 1.0"] == 70
    assert after == zm.measure(data)


def test_names_that_cannot_be_told_apart(data, tmp_path, monkeypatch):
    """Nothing is left out without a word."""
    monkeypatch.setattr(images.ImageFiles, "entries", lambda self: iter([Entry("a", ())] * 70))
    with pytest.raises(zm.SourceError, match="cannot be told apart"):
        zm.measure(data, ledger=tmp_path / "x.ledger")


def test_numbers_of_huge_floats():
    """What is listed is rounded; what no float can hold is infinite, and no error."""
    from zeromean.accumulation import Plan, gathering_of
    from zeromean.pattern import Pattern
    from zeromean.sources import Item

    item = Item(np.array([1e300, -1e300, 3e300]), "a", stamp=(24, 0, 0), batched=True)
    gathering = gathering_of(Plan(Pattern.parse("n ->")), item)
    gathering.add(item)
    n, sums, squares, low, high = json.loads(rows.Keep()(item, gathering.finish()).numbers)
    assert (n, sums, low, high) == ([3], [3e300], [-1e300], [3e300])
    assert squares == [float("inf")]


def test_a_cache_that_cannot_be_written_is_said_and_done_without(data, tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("no folder")
    monkeypatch.setenv("ZEROMEAN_CACHE", str(blocked))
    with pytest.warns(zm.ZeromeanWarning, match="nothing is kept for the next run"):
        same(zm.measure(data, ledger=True), zm.measure(data))
    monkeypatch.setenv("ZEROMEAN_CACHE", str(tmp_path / "cache"))
    same(zm.measure(data, ledger=True), zm.measure(data))
    assert list((tmp_path / "cache" / "ledgers").glob("data-*.ledger"))
    with pytest.raises(zm.SourceError, match="there is no such folder"):
        zm.measure(data, ledger=tmp_path / "nowhere" / "x.ledger")
    with pytest.raises(zm.SourceError, match="is a folder"):
        zm.measure(data, ledger=tmp_path)


FULL = """
import resource, signal, sys, warnings
import zeromean as zm
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    profile = zm.measure(sys.argv[1], ledger=sys.argv[2])
print(profile.provenance.digest, profile.count.tolist(), profile.provenance.items)
print(*[w.message for w in said], sep=chr(10))
"""


@pytest.mark.parametrize("size", [50_000, 70_000])
def test_a_full_disk(data, tmp_path, size):
    """The result is right, one sentence says what became of the ledger, and it is of use again."""
    ledger, fresh = tmp_path / "x.ledger", zm.measure(data)
    command = [sys.executable, "-c", FULL, str(data), str(ledger), str(size)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"{fresh.provenance.digest} {fresh.count.tolist()} 70"
    assert len(lines) == 2, lines
    assert "cannot be written any more" in lines[1]
    same(zm.measure(data, ledger=ledger), fresh)


# ---------------------------------------------------------------- killed

KILLED = """
import os, sys
import zeromean as zm
from zeromean.ledger import keeping
from zeromean.sources import Entry, images

log = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
usual = images.picture
def noting(data, name, *rest):
    os.write(log, (name + chr(10)).encode())
    return usual(data, name, *rest)
images.picture = noting
keeping._OFTEN = float(sys.argv[4])
profile = zm.measure(sys.argv[1], ledger=sys.argv[2])
profile.save(sys.argv[5])
"""


def recorded(ledger):
    """The names of all rows."""
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as base:
        try:
            names = {name for (name,) in base.execute("SELECT name FROM files")}
        except sqlite3.OperationalError:  # killed before the tables were made
            names = set()
    base.close()
    return names


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
@pytest.mark.parametrize("wanted", [6, pytest.param(50, marks=pytest.mark.long)])
def test_killed_at_any_moment_and_resumed(tmp_path, wanted):
    """kill -9 at random moments, with -m long at 50: the bits of an undisturbed run.

    Nothing is read twice: what the fault injector notes in a run and what the ledger held before
    it never overlap.
    """
    data = CIFAR
    if not data.exists():
        data = tmp_path / "data"
        for i in range(1500):
            put(data, f"{i:04d}.png", (32, 32, 3))
        settle(data)
    ledger, log, out = tmp_path / "x.ledger", tmp_path / "log", tmp_path / "out.json"
    command = [sys.executable, "-c", KILLED, str(data), str(ledger), str(log), "0.01", str(out)]
    chance = random.Random(50)
    kills, resumed = 0, 0
    while kills < wanted:
        before = recorded(ledger) if ledger.exists() else set()
        log.write_text("")
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=chance.uniform(0.3, 1.5))
            assert process.returncode == 0
            same(zm.load(out), zm.measure(data))
            for file in (ledger, out):
                file.unlink()
            continue
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        kills += 1
        seen = set(log.read_text().split("\n")) - {""}
        assert not seen & before
        resumed += bool(before) and bool(seen)
    before = recorded(ledger) if ledger.exists() else set()
    log.write_text("")
    subprocess.run(command, check=True)
    assert not set(log.read_text().split("\n")) & before
    same(zm.load(out), zm.measure(data))
    assert resumed >= wanted // 5 or wanted < 50  # few may all fall before the first row


# ---------------------------------------------------------------- reading it


def run(*arguments):
    """The command line, with everything it prints."""
    from click.testing import CliRunner

    from zeromean.cli import main

    return CliRunner().invoke(main, [str(a) for a in arguments])


def levels(folder, values):
    """Pictures of one gray level each, with one pixel that differs."""
    folder.mkdir(exist_ok=True)
    for name, value in values.items():
        pixels = np.full((8, 8, 3), value, np.uint8)
        pixels[0, 0] = 255 - value
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_odd_files_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEROMEAN_CACHE", str(tmp_path / "cache"))
    folder = levels(tmp_path / "data", {f"usual{i}": 100 + i for i in range(10)} | {"black": 0})
    assert run("measure", folder).exit_code == 0
    result = run("show", folder, "--by-file", "-n", 2)
    assert result.exit_code == 0, result.output
    titles = {}
    for line in result.output.splitlines():
        if line in ("Darkest", "Brightest", "Flattest", "Most unusual"):
            title = line
        elif ".png" in line:
            titles.setdefault(title, []).append(line.split()[0])
    assert titles["Darkest"] == ["black.png", "usual0.png"]
    assert titles["Brightest"] == ["usual9.png", "usual8.png"]
    assert titles["Most unusual"][0] == "black.png"
    assert len(titles["Flattest"]) == 2
    files = json.loads(run("show", folder, "--by-file", "--json").output)
    black = next(f for f in files if f["name"] == "black.png")
    assert black["mean"] == [255 / 64] * 3
    assert black["unusual"] > 3.5
    assert run("show", folder).output == run(
        "show", next((tmp_path / "cache").rglob("*.ledger"))
    ).output.replace(str(next((tmp_path / "cache").rglob("*.ledger"))), str(folder))


def test_numbers_of_files_are_those_of_their_profiles(data, tmp_path):
    zm.measure(data, ledger=tmp_path / "x.ledger")
    ledger = zm.Ledger(tmp_path / "x.ledger")
    for file in ledger.files:
        alone = zm.measure(data / file.name)
        assert np.allclose(file.mean, alone.mean, rtol=1e-14)
        assert np.allclose(file.std, alone.std, rtol=1e-12)
        assert file.min == tuple(alone.min.tolist())
        assert file.max == tuple(alone.max.tolist())
        assert int(file.sha256, 16) == alone.provenance.digest
    assert ledger.profile() == zm.measure(data)


def test_what_two_splits_share(data, tmp_path):
    other = tmp_path / "val"
    put(other, "own.png")
    for name in ("0/000.png", "1/001.png"):
        shutil.copy(data / name, other / Path(name).name)
    ledgers = tmp_path / "a.ledger", tmp_path / "b.ledger"
    for folder, ledger in zip((data, other), ledgers, strict=True):
        zm.measure(folder, ledger=ledger)
    pairs = zm.Ledger(ledgers[0]).shared(zm.Ledger(ledgers[1]))
    assert [(a.name, b.name) for a, b in pairs] == [
        ("0/000.png", "000.png"),
        ("1/001.png", "001.png"),
    ]
    result = run("show", ledgers[0], "--shared-with", ledgers[1])
    assert result.exit_code == 1
    assert "2 of 70 files" in result.output
    for name in ("000.png", "001.png"):
        (other / name).unlink()
    zm.measure(other, ledger=ledgers[1])
    assert run("show", ledgers[0], "--shared-with", ledgers[1]).exit_code == 0


def test_no_ledger_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEROMEAN_CACHE", str(tmp_path / "cache"))
    result = run("show", data, "--by-file")
    assert result.exit_code == 2
    assert "no ledger of" in result.output
    assert "measure it with a ledger first" in result.output


def test_the_command_line_keeps_one_and_can_do_without(data, tmp_path, monkeypatch, decoded):
    monkeypatch.setenv("ZEROMEAN_CACHE", str(tmp_path / "cache"))
    settle(data)
    first = run("measure", data, "--no-ledger", "--json")
    assert not (tmp_path / "cache").exists()
    assert run("measure", data, "--json").stdout == first.stdout
    decoded.clear()
    assert run("measure", data, "--json").stdout == first.stdout
    assert decoded == []
    assert run("measure", data, "--colors", "gray").exit_code == 0
    assert len(decoded) == 70  # other options, another ledger
    assert run("measure", data, "--ledger", "x", "--no-ledger").exit_code == 2


# ---------------------------------------------------------------- merge, subtract, update


def test_merge_subtract_and_update(data, tmp_path):
    """What the command line adds and takes away is what measuring together gives."""
    other = tmp_path / "more"
    for i in range(3):
        put(other, f"{i}.png")
    both = zm.measure([data, other])
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    assert run("measure", data, "-o", a).exit_code == 0
    assert run("measure", other, "-o", b).exit_code == 0
    assert run("merge", a, b, "-o", c).exit_code == 0
    assert zm.load(c) == both
    assert run("subtract", c, b, "-o", tmp_path / "rest.json").exit_code == 0
    assert zm.load(tmp_path / "rest.json") == zm.load(a)
    result = run("measure", "--update", a, other)
    assert result.exit_code == 0, result.output
    assert zm.load(a) == both
    again = run("measure", "--update", b, other)
    assert again.exit_code == 2
    assert "they would count twice" in again.output
    assert zm.load(b) == zm.measure(other)
    assert "already holds data from" in run("measure", "--update", a, other).output
    wrong = run("subtract", b, c)
    assert wrong.exit_code == 2
    assert "c.json" in wrong.output
    twice = run("merge", b, b)
    assert twice.exit_code == 2
    assert "they would count twice" in twice.output
    norm = tmp_path / "norm.json"
    zm.zero_mean(both).save(norm)
    assert "holds a Normalizer, but a profile is needed" in run("merge", a, norm).output


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_of_an_archive_that_grew(data, tmp_path, decoded, kind):
    """The archive is another file now; members whose content is known are not decoded again."""
    archive, ledger = tmp_path / f"x.{kind}", tmp_path / "x.ledger"
    shutil.make_archive(str(tmp_path / "x"), kind, data)
    first = zm.measure(archive, ledger=ledger)
    assert len(decoded) == 70
    settle(data)
    put(data, "0/new.png")
    shutil.make_archive(str(tmp_path / "x"), kind, data)
    decoded.clear()
    after = zm.measure(archive, ledger=ledger)
    assert decoded == ["0/new.png"]
    assert after == zm.measure(data) != first
