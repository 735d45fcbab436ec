"""Shards over executors: any order, any death, the same bytes; a bounded number under way."""

from __future__ import annotations

import io
import os
import pickle
import random
import re
import shutil
import threading
import time
import warnings
import zipfile
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import zeromean as zm
from zeromean import execution
from zeromean.accumulation import Plan, combine, measure_shard
from zeromean.engines import Engine, Threads, opened
from zeromean.engines.paths import anchored, sent_bytes
from zeromean.errors import SkippedWarning, SourceError, ZeromeanWarning
from zeromean.execution import Run, measured
from zeromean.pattern import Pattern
from zeromean.sources import Item
from zeromean.sources.arrays import ArraySource, ItemShard
from zeromean.sources.files import Files
from zeromean.sources.images import ImageFiles, ImageReader


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """300 pictures in three class folders: five shards."""
    place = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for i in range(300):
        (place / f"class{i % 3}").mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (*rng.integers(1, 12, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"class{i % 3}" / f"{i:03}.png")
    return place


# ---------------------------------------------------------------- an engine that dies


class Mortal(Engine):
    """Finishes what it was given in random order, and breaks when it is told to.

    `dies` is called with each shard that is to be measured. Where it says so, all that is under
    way is lost, as with a process pool.
    """

    def __init__(self, dies=lambda shard: False, seed=0, workers=3):
        super().__init__(workers)
        self.dies, self.random = dies, random.Random(seed)
        self.waiting, self.broken = [], False
        self.most = self.renewed = 0
        self.lock = threading.Lock()

    def submit(self, shard, plan):
        future = Future()
        with self.lock:
            if self.broken:
                raise BrokenProcessPool("it is broken")
            self.waiting.append((future, *pickle.loads(pickle.dumps((shard, plan)))))
            self.most = max(self.most, len(self.waiting))
        threading.Timer(0.002, self.run).start()
        return future

    def run(self):
        with self.lock:
            if not self.waiting:
                return
            future, shard, plan = self.waiting.pop(self.random.randrange(len(self.waiting)))
            if not future.set_running_or_notify_cancel():
                return
            if self.dies(shard):
                lost, self.waiting, self.broken = [future, *(w[0] for w in self.waiting)], [], True
                for each in lost:
                    each.set_exception(BrokenProcessPool("a process was terminated abruptly"))
                return
        try:
            result = pickle.loads(pickle.dumps(measure_shard(shard, plan)))
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def renew(self):
        with self.lock:
            self.renewed += 1
            self.broken = False


def killing(*names, times=None):
    """Dies of shards that hold such files; or so many times of any."""
    left = [times]

    def dies(shard):
        if times is not None and left[0] == 0:
            return False
        held = getattr(shard, "files", ())
        fatal = any(Path(path).name in names for path, _, _ in held) if names else True
        if fatal and times is not None:
            left[0] -= 1
        return fatal

    return dies


def ours(caught):
    """What was warned of, apart from skipped files."""
    assert all(issubclass(w.category, ZeromeanWarning) for w in caught)
    return [str(w.message) for w in caught if not issubclass(w.category, SkippedWarning)]


def measuring(source, *arguments, engine, **options):
    """The profile by an engine, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with opened(engine):
            profile = zm.measure(source, *arguments, executor=engine, **options)
    return profile, caught


RNG = np.random.default_rng(6)
FLOATS = RNG.normal(1e3, 1, (400_000, 6)).astype(np.float32) * RNG.choice(
    [1, 1e-3, 50], (400_000, 1)
)
TABLE = pd.DataFrame({"a": RNG.integers(0, 99, 5000), "b": RNG.normal(size=5000), "site": "x"})
MANY = [RNG.integers(0, 255, (3, 4, 3), dtype=np.uint8) for _ in range(400)]

CASES = {
    "folder": (lambda folder: (folder,), {}),
    "classes": (lambda folder: (folder,), {"by": "class"}),
    "mean image": (lambda folder: (np.stack(MANY * 40), "n h w c -> h w c"), {}),
    "floats": (lambda folder: (FLOATS, "n d -> d"), {"quantiles": True}),
    "covariance": (lambda folder: (FLOATS, "n d -> d"), {"covariance": True}),
    "covariance of pictures": (lambda folder: (folder,), {"covariance": True}),
    "labels": (lambda folder: (MANY,), {"by": [str(i % 7) for i in range(400)]}),
    "table": (lambda folder: (TABLE,), {"by": "site"}),
    "generator": (lambda folder: (iter(MANY),), {}),
}


@pytest.mark.parametrize("deaths", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_no_order_and_no_death_leaves_a_trace(folder, case, deaths):
    """The saved bytes are those of one thread, whatever finishes first and whoever dies."""
    source, options = CASES[case]
    expected = zm.measure(*source(folder), workers=1, **options).to_json()
    for seed in range(3):
        engine = Mortal(killing(times=deaths), seed)
        profile, caught = measuring(*source(folder), engine=engine, **options)
        assert profile.to_json() == expected
        assert engine.renewed == engine.deaths == deaths
        assert len(ours(caught)) == (1 if deaths else 0)
        assert engine.most <= engine.window


def test_the_order_of_a_covariance_of_floats_matters():
    """Else the test above would show nothing of it."""
    source = ArraySource(FLOATS, Pattern.parse("n d -> d"))
    plan = Plan(source.pattern, covariance=True)
    parts = [measure_shard(shard, plan) for shard in source.shards(cores=8)]
    assert len(parts) > 3
    there, back = (
        combine(iter(each), plan.pattern).partials[""].covariance.settled().matrix()
        for each in (parts, parts[::-1])
    )
    assert (there != back).any()


# ---------------------------------------------------------------- what kills


def without(folder, tmp_path, *names):
    """A copy of a folder that lacks some files."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    for path in list(copy.rglob("*.png")):
        if path.name in names:
            path.unlink()
    return copy


@pytest.mark.parametrize("options", [{}, {"by": "class"}])
def test_a_file_that_kills_is_left_out_and_named(folder, tmp_path, options):
    """All others count, once each; there is one warning, beside the usual one of skipped files."""
    engine = Mortal(killing("100.png"))
    profile, caught = measuring(folder, engine=engine, **options)
    rest = zm.measure(without(folder, tmp_path, "100.png"), **options)
    assert profile == rest
    whole = profile.total if options else profile
    assert whole.provenance.skipped == (
        ("class1/100.png", "killed the worker that read it, twice"),
    )
    assert whole.provenance.items == 299
    (text,) = ours(caught)
    assert "workers died 4 times" in text
    assert "class1/100.png" in text
    assert engine.renewed == 4  # among others, alone in its shard, and twice by itself


def test_several_files_that_kill(folder, tmp_path):
    """In one shard and in several."""
    bad = ("000.png", "003.png", "150.png", "299.png")
    engine = Mortal(killing(*bad), seed=3)
    profile, caught = measuring(folder, engine=engine)
    assert profile == zm.measure(without(folder, tmp_path, *bad))
    assert {Path(name).name for name, _ in profile.provenance.skipped} == set(bad)
    (text,) = ours(caught)
    assert "and 1 more" in text


def test_a_file_that_kills_once_is_measured(folder):
    """Bad luck is not held against a file."""
    for times in (1, 2, 3):
        engine = Mortal(killing("100.png", times=times))
        profile, caught = measuring(folder, engine=engine)
        assert profile.to_json() == zm.measure(folder).to_json()
        assert len(ours(caught)) == 1


def test_a_file_that_kills_stops_a_strict_run(folder):
    with pytest.raises(SourceError, match=r"class1/100.png: killed the worker that read it, twice"):
        measuring(folder, engine=Mortal(killing("100.png")), strict=True)


def test_data_that_kills_and_has_no_files_stops_the_run():
    """What cannot be taken apart is tried three times, and named."""
    engine = Mortal(lambda shard: float(shard.held[0].array[0, 0]) == 7.0)
    x = np.zeros((3_000_000, 1))
    x[2_000_000:] = 7
    with pytest.raises(
        SourceError, match=r"array: array \(part \d\) killed .* three times.*memory"
    ):
        measuring(x, "n d -> d", engine=engine)
    assert engine.renewed == 3


def test_when_everything_kills_it_is_not_the_files(folder):
    engine = Mortal(lambda shard: True)
    with pytest.raises(SourceError, match=r"7 files before it all killed.*memory"):
        measuring(folder, engine=engine)
    assert engine.renewed == 2 + 2 * 8


def test_an_error_of_a_shard_is_no_death(folder):
    engine = Mortal()
    with pytest.raises(zm.PatternError, match="keeps"):
        measuring(folder, "n h w c -> h w c", engine=engine)
    assert engine.deaths == 0


# ---------------------------------------------------------------- results are only read


def read_only(result):
    """A result as Ray hands it over: its arrays cannot be written."""
    buffers = []
    data = pickle.dumps(result, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(b) for b in buffers])


class Sealed(Engine):
    """Results are read-only, and looked at again at the end."""

    def __init__(self, same):
        super().__init__(2)
        self.same, self.given, self.known = same, [], {}

    def submit(self, shard, plan):
        call = pickle.dumps((shard, plan))
        if call not in self.known or not self.same:
            result = read_only(measure_shard(*pickle.loads(call)))
            self.known[call] = result
            self.given.append((result, pickle.dumps(result)))
        future = Future()
        future.set_result(self.known[call])
        return future


@pytest.mark.parametrize("case", CASES)
def test_merging_writes_into_no_result(folder, case):
    """Their arrays may be read-only, and others may hold them, too."""
    source, options = CASES[case]
    engine = Sealed(same=False)
    profile, _ = measuring(*source(folder), engine=engine, **options)
    assert profile.to_json() == zm.measure(*source(folder), **options).to_json()
    assert engine.given
    for result, before in engine.given:
        assert pickle.dumps(result) == before


@pytest.mark.parametrize("by", [None, ["a", "b"] * 32 * 5])
def test_equal_shards_count_each(by):
    """An executor may run equal calls once, and hand over the same object for all of them."""
    x = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pictures = [x] * 320
    engine = Sealed(same=True)
    profile, _ = measuring(pictures, engine=engine, by=by)
    expected = zm.measure(pictures, by=by)
    assert profile == expected
    if by:
        assert profile["a"] == expected["a"]


# ---------------------------------------------------------------- bounds


class Counted(Executor):
    """Threads; counts the bytes that are under way."""

    def __init__(self):
        self.pool, self.now, self.most, self.lock = ThreadPoolExecutor(2), 0, 0, threading.Lock()

    def submit(self, fn, shard, plan):
        size = sum(item.array.nbytes for item in getattr(shard, "shard", shard).held)
        with self.lock:
            self.now += size
            self.most = max(self.most, self.now)
        future = self.pool.submit(fn, shard, plan)
        future.add_done_callback(lambda _: self.less(size))
        return future

    def less(self, size):
        with self.lock:
            self.now -= size


def test_data_in_memory_is_sent_little_by_little(monkeypatch):
    """What waits in an executor is a copy: its size is bounded, not only its number."""
    monkeypatch.setattr(execution, "_SENT_BYTES", 12 << 20)
    x = np.zeros((1 << 22, 4), np.float32)  # 64 MB, in shards of 16 or less
    executor = Counted()
    with executor.pool:
        assert zm.measure(x, "n d -> d", executor=executor) == zm.measure(x, "n d -> d")
    assert 0 < executor.most <= (12 << 20) + (32 << 20)
    pieces = [np.zeros((1 << 20, 1), np.float32)] * 200  # 4 MB each, 32 MB together in a shard
    executor = Counted()
    with executor.pool:
        zm.measure(pieces, "n d -> d", executor=executor)
    assert executor.most <= (12 << 20) + (36 << 20)


def test_few_files_are_cut_so_that_workers_end_together(folder):
    """But not where each piece has a large result, or one that depends on the cut."""
    for workers, pattern, options, longest in (
        (3, "n h w c -> c", {}, 8),
        (1, "n h w c -> c", {}, 18),
        (3, "n h w c -> c", {"covariance": True}, 64),
        (3, "n h w c -> h w c", {}, 64),
    ):
        source = ImageFiles(folder, Pattern.parse(pattern))
        flow = execution._Flow(Mortal(workers=workers), Plan(source.pattern, **options), source)
        pieces = [shard.files for shard in flow._parted(source.shards())]
        assert sum(pieces, ()) == tuple(source.files())
        assert max(map(len, pieces)) == longest


def test_views_in_threads_are_not_held_back(monkeypatch):
    """Nothing is copied there."""
    monkeypatch.setattr(execution, "_SENT_BYTES", 1)
    engine = Threads(3)
    flow = execution._Flow(engine, Plan(Pattern.parse("n d -> d")), None)
    shards = [ItemShard((Item(np.zeros((10, 1)), "x", batched=True),))] * 50
    with opened(engine):
        assert flow._fill(execution._Task(i, shard, 0) for i, shard in enumerate(shards))
        assert len(flow._under_way) == engine.window == 5


def test_the_window_counts_results_that_wait_for_their_turn():
    """A slow first shard of a covariance must not pile up all the others."""

    class Late(Engine):
        def __init__(self):
            super().__init__(2)
            self.first = self.count = 0

        def submit(self, shard, plan):
            self.count += 1
            future = Future()
            if self.count == 1:
                self.first = future, shard, plan
            else:
                future.set_result(measure_shard(shard, plan))
            if self.count == self.window:
                self.counted = self.count
                threading.Timer(0.3, self.late).start()
            return future

        def late(self):
            future, shard, plan = self.first
            if self.count == self.counted:
                future.set_result(measure_shard(shard, plan))
            else:
                future.set_exception(AssertionError("others went on meanwhile"))

    engine = Late()
    x = RNG.normal(size=(2_000_000, 2))  # eight shards
    profile, _ = measuring(x, "n d -> d", engine=engine, covariance=True)
    assert profile.to_json() == zm.measure(x, "n d -> d", covariance=True).to_json()
    assert engine.count > engine.window


# ---------------------------------------------------------------- other people's executors


def test_a_given_executor_stays_open_and_a_closed_one_is_an_error(folder):
    with ThreadPoolExecutor(2) as pool:
        assert zm.measure(folder, executor=pool) == zm.measure(folder)
        assert pool.submit(int, 3).result() == 3
    with pytest.raises(SourceError, match="the executor is closed"):
        zm.measure(folder, executor=pool)


def test_an_executor_that_breaks_for_good_says_what_to_do(folder):
    """Of a kind that nobody here could start again."""

    class Broken(Executor):
        def submit(self, fn, /, *args):
            raise BrokenExecutor("gone")

    with pytest.raises(SourceError, match=r"cannot start another Broken: give a new one"):
        zm.measure(folder, executor=Broken())


def test_an_executor_that_cancels_is_an_error(folder):
    class Cancels(Executor):
        def submit(self, fn, /, *args):
            future = Future()
            future.cancel()
            return future

    with pytest.raises(SourceError, match="has cancelled the run"):
        zm.measure(folder, executor=Cancels())


@pytest.mark.parametrize("executor", [3, [], zm])
def test_what_is_no_executor_is_an_error(folder, executor):
    with pytest.raises(
        SourceError, match=r"give a concurrent.futures.Executor, or one of 'threads"
    ):
        zm.measure(folder, executor=executor)


def test_workers_belong_to_the_executor(folder):
    with (
        ThreadPoolExecutor(2) as pool,
        pytest.raises(SourceError, match="workers is 2, but the executor that was given has its"),
    ):
        zm.measure(folder, executor=pool, workers=2)


class Elsewhere(Executor):
    """Another machine: its folders are not ours."""

    def __init__(self, blind=()):
        self.blind, self.paths = blind, []

    def submit(self, fn, shard, plan):
        files = shard.shard.files
        self.paths += [path for path, _, _ in files]
        future = Future()
        for path, _, _ in files:
            if Path(path).name in self.blind:
                Path(path).rename(path + ".away")
        future.set_result(fn(shard, plan))
        for path, _, _ in files:
            if Path(path + ".away").exists():
                Path(path + ".away").rename(path)
        return future


class Started(Executor):
    """Workers that were started in another folder; they may not see a path."""

    def __init__(self, folder, hidden=None):
        self.folder, self.hidden = folder, hidden

    def submit(self, fn, shard, plan):
        call, here, future = pickle.dumps((shard, plan)), os.getcwd(), Future()
        if self.hidden:
            self.hidden.rename(self.hidden.with_suffix(".away"))
        os.chdir(self.folder)
        try:
            future.set_result(pickle.loads(pickle.dumps(fn(*pickle.loads(call)))))
        except Exception as error:
            future.set_exception(error)
        finally:
            os.chdir(here)
            if self.hidden:
                self.hidden.with_suffix(".away").rename(self.hidden)
        return future


def write(kind, path):
    """A file of that kind, and how it is measured."""
    x = np.random.default_rng(4).integers(1, 256, (40, 6, 5, 3), dtype=np.uint8)
    if kind == "hdf5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["x"] = x
    elif kind == "zarr":
        pytest.importorskip("zarr").save(str(path), x)
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        TABLE.to_parquet(path)
        return ()
    elif kind == "npy":
        np.save(path, x)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for i, pixels in enumerate(x):
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "png")
                archive.writestr(f"{i}.png", file.getvalue())
        return ()
    return ("n h w c -> c",)


KINDS = {"hdf5": "x.h5", "parquet": "x.parquet", "npy": "x.npy", "zip": "x.zip", "zarr": "x.zarr"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_found_from_another_folder(tmp_path, monkeypatch, kind):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    pattern = write(kind, tmp_path / KINDS[kind])
    expected = zm.measure(tmp_path / KINDS[kind], *pattern)
    started = Started(tmp_path / "there")
    assert zm.measure(tmp_path / KINDS[kind], *pattern, executor=started) == expected
    assert zm.measure(KINDS[kind], *pattern, executor=started) == expected


def test_an_open_zarr_array_of_a_relative_store_is_refused_elsewhere(tmp_path, monkeypatch):
    """It cannot be told another path, and what is missing of a store counts as its fill value."""
    zarr = pytest.importorskip("zarr")
    monkeypatch.chdir(tmp_path)
    pattern = write("zarr", Path("x.zarr"))
    opened = zarr.open("x.zarr", mode="r")
    opened.store_path.store.root = Path("x.zarr")  # whatever the package makes of the path
    with pytest.raises(SourceError, match=r"^x.zarr: workers elsewhere need its absolute path"):
        zm.measure(opened, *pattern, executor=Started(tmp_path))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "npy"])  # its data is sent
def test_a_worker_that_does_not_see_a_file_never_takes_it_for_empty(tmp_path, kind):
    """Zarr would: what is missing of a store counts as its fill value."""
    path = tmp_path / KINDS[kind]
    pattern = write(kind, path)
    with pytest.raises(SourceError, match=rf"the worker on .* does not see {re.escape(str(path))}"):
        zm.measure(path, *pattern, executor=Started(tmp_path, hidden=path))


def test_a_folder_of_masks_is_found_from_another_folder(folder, tmp_path, monkeypatch):
    """A path in the plan of a run, and not in a shard."""
    source = without(folder, tmp_path)
    masks = tmp_path / "masks"
    for path in source.rglob("*.png"):
        place = masks / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            labels = np.arange(picture.width * picture.height, dtype=np.uint8) % 2
            Image.fromarray(labels.reshape(picture.height, picture.width)).save(place)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    found = zm.measure(source.name, mask="masks", executor=Started(tmp_path / "there"))
    assert found == zm.measure(source.name, mask="masks")
    assert found.count[0] < zm.measure(source).count[0]


def test_only_what_leads_somewhere_is_made_absolute(tmp_path, monkeypatch):
    """A path within an archive or data set is left alone, and so is a URL."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()

    @dataclass(frozen=True)
    class Thing:
        path: str
        name: str
        parts: tuple = ()

    inner = Thing("s3://bucket/here", "here"), Thing("there", "here")
    thing = Thing("here", "here", inner)
    made = anchored(thing)
    assert made == Thing(str(tmp_path / "here"), "here", inner)
    assert made.parts is inner
    assert anchored(made) is made


def test_all_data_that_is_sent_is_counted():
    x = np.zeros((100, 3))
    item = Item(x, "x", batched=True, group=np.zeros(100, np.int64))
    assert sent_bytes(ItemShard((item, Item(x, "y")))) == 2 * 2400 + 800
    assert sent_bytes(SimpleNamespace()) == 0


def test_paths_hold_wherever_a_worker_was_started(folder, monkeypatch):
    """A relative path means another file in another folder; names in messages stay short."""
    monkeypatch.chdir(folder.parent)
    executor = Elsewhere()
    profile = zm.measure(folder.name, executor=executor)
    assert profile.to_json() == zm.measure(folder.name).to_json()
    assert len(executor.paths) == 300
    assert all(os.path.isabs(path) for path in executor.paths)


def test_a_worker_that_does_not_see_the_files_is_an_error(folder, tmp_path):
    """One is enough: a part of the data would be missing. A file that is gone is only skipped."""
    copy = without(folder, tmp_path)
    with pytest.raises(SourceError, match=r"does not see .*100.png, which is here: all workers"):
        zm.measure(copy, executor=Elsewhere(["100.png"]))
    source = ImageFiles(copy)
    (copy / "class1" / "100.png").unlink()
    with closing(
        measured(source.shards(), source, Plan(source.pattern), Run(None, Elsewhere()))
    ) as p:
        whole = combine(p, source.pattern)
    assert whole.record.skipped == (("class1/100.png", "vanished before it was read"),)
    assert whole.handed == 300


# ---------------------------------------------------------------- stopping


class Slow(ImageReader):
    """Takes its time for each file."""

    seen = 0

    def __call__(self, file, memory):
        time.sleep(0.05)
        type(self).seen += 1
        yield from super().__call__(file, memory)


@pytest.mark.parametrize("given", [False, True])
def test_threads_stop_after_the_file_at_hand(folder, given):
    """Not at the end of their shard, which takes three seconds here."""
    source = Files(folder, Slow(), extensions=[".png"], pattern=Pattern.parse("n h w c -> c"))
    pool = ThreadPoolExecutor(2, thread_name_prefix="zeromean")
    run = Run(None, pool) if given else Run(2)
    parts = measured(source.shards(), source, Plan(source.pattern), run)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), 2))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(parts)
    begin = time.monotonic()
    parts.close()
    pool.shutdown()
    assert time.monotonic() - begin < 0.5
    assert not [t for t in threading.enumerate() if t.name.startswith("zeromean")]
    seen = Slow.seen
    time.sleep(0.2)
    assert Slow.seen == seen
