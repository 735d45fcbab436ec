"""Dask: arrays of any chunks, computed a few at a time; the bits of the array itself."""

from __future__ import annotations

import pickle
import threading
import time
import weakref
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zeromean as zm
from strategies import numbers, tempers
from zeromean.errors import PatternError, SkippedWarning, SourceError
from zeromean.sources import cutting
from zeromean.sources.opening import Options, open_source

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")

DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint64")
FLOATS = ("float16", "float32", "float64")


@pytest.fixture
def small(monkeypatch):
    """Blocks of a few values."""
    monkeypatch.setattr(cutting, "_WANTED", 300)
    monkeypatch.setattr(cutting, "_LARGE", 600)


# ---------------------------------------------------------------- the same bits


@pytest.mark.filterwarnings("ignore::zeromean.ZeromeanWarning")
@pytest.mark.parametrize("dtype", DTYPES + FLOATS)
def test_every_dtype(dtype, small):
    for temper in tempers(dtype):
        array = numbers(dtype, temper, (30, 7), 4)
        held = da.from_array(array, chunks=(4, 3))
        assert zm.measure(held, "n d -> d") == zm.measure(array, "n d -> d")
        turned = held.astype(held.dtype.newbyteorder(">"))
        assert zm.measure(turned, "n d -> d") == zm.measure(array, "n d -> d")


def parts(length):
    """Lengths of chunks that add up."""
    if length == 0:
        return st.just((0,))
    return st.lists(st.integers(1, length), min_size=1).map(lambda ends: _parts(length, ends))


def _parts(length, ends):
    bounds = sorted({0, length, *(end for end in ends if end < length)})
    return tuple(b - a for a, b in pairwise(bounds))


@given(data=st.data())
@pytest.mark.filterwarnings("ignore:.*each chunk was read")
def test_any_chunks(data):
    """Unequal lengths along every axis, any pattern and limit."""
    shape = (data.draw(st.integers(0, 30)), *data.draw(st.tuples(*[st.integers(1, 6)] * 2)))
    chunks = tuple(data.draw(parts(n)) for n in shape)
    pattern = data.draw(st.sampled_from(("n h w -> w", "n h w -> h w", "n h w ->", "n h w -> n")))
    limit = data.draw(st.one_of(st.none(), st.integers(1, 9)))
    array = np.random.default_rng(0).normal(size=shape)
    held = (da.from_array(array, chunks=chunks) * 2)[::-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_WANTED", 300)
        patch.setattr(cutting, "_LARGE", 600)
        patch.setattr(cutting, "_MOST", 1200)
        found = zm.measure(held, pattern, limit=limit)
    assert found == zm.measure((array * 2)[::-1], pattern, limit=limit)


def test_pictures_by_class_and_in_groups_of_an_axis(small):
    array = np.random.default_rng(1).integers(0, 256, (24, 5, 4, 3), dtype=np.uint8)
    held = da.from_array(array, chunks=((5, 7, 12), (2, 3), 4, 3))
    labels = [i % 3 for i in range(24)]
    assert zm.measure(held, "n h w c -> c", by=labels) == (
        zm.measure(array, "n h w c -> c", by=labels)
    )
    assert zm.measure(held, "(n t) h w c -> t", t=4) == zm.measure(array, "(n t) h w c -> t", t=4)
    assert zm.measure(held[0], "n h w c -> c") == zm.measure(array[0], "n h w c -> c")
    assert zm.measure(held, "n h w c -> c", covariance=True) == (
        zm.measure(array, "n h w c -> c", covariance=True)
    )


def test_any_computation(small):
    """Slices, joins, transposes, maps with functions of every kind, random numbers."""
    array = np.random.default_rng(2).normal(size=(40, 6))
    held = da.from_array(array, chunks=(7, 2))
    joined = da.concatenate([held[::3], held.map_blocks(lambda block: block + 1)]).T
    expected = np.concatenate([array[::3], array + 1]).T
    assert zm.measure(joined) == zm.measure(expected)
    centered = held - held.mean(axis=0)
    assert zm.measure(centered) == zm.measure(centered.compute())
    assert zm.measure(held.rechunk((40, 1))) == zm.measure(array)


def test_masked_arrays_say_where_there_is_no_data(small):
    """The mask goes along with each block."""
    array = np.arange(80, dtype="i2").reshape(20, 4)
    held = da.ma.masked_equal(da.from_array(array, chunks=(3, 2)), 5)
    (opened,) = open_source(held, None, Options())
    items = [item for shard in opened.shards() for item in shard.items()]
    masks = [np.zeros(i.array.shape, bool) if i.missing is None else i.missing for i in items]
    assert (np.concatenate(masks) == (array == 5)).all()
    assert zm.measure(held).count.tolist() == [20, 19, 20, 20]
    whole = da.ma.masked_array(da.from_array(array, chunks=(3, 2)))
    assert zm.measure(whole) == zm.measure(array)


# ---------------------------------------------------------------- lengths that nobody knows


def test_unknown_lengths(small):
    """What is left of a choice of rows, chunk by chunk."""
    array = np.random.default_rng(3).normal(size=(50, 4, 3)).astype("f4")
    held = da.from_array(array, chunks=(7, 2, 3))
    chosen = held[held[:, 0, 0] > 0]
    expected = array[array[:, 0, 0] > 0]
    assert np.isnan(chosen.shape[0])
    for pattern in ("n h c -> c", "n h c -> h c", "n h c ->"):
        profile = zm.measure(chosen, pattern)
        assert profile == zm.measure(expected, pattern)
        assert profile.provenance.items == len(expected)
    none = held[held[:, 0, 0] > 99]
    assert zm.measure(none, "n h c -> c") == zm.measure(array[:0], "n h c -> c")
    assert zm.measure(chosen[:, 0]) == zm.measure(expected[:, 0])
    for pattern, limit in (("n h c -> n", None), ("n h c -> c", 5), ("(n t) h c -> t", None)):
        sizes = {"t": 2} if "t" in pattern else {}
        with pytest.raises(PatternError, match=r"x.compute_chunk_sizes\(\) first"):
            zm.measure(chosen, pattern, limit=limit, **sizes)
    with pytest.raises(PatternError, match="lacks the first axis"):
        zm.measure(chosen, "n h w c -> c")
    with pytest.raises(PatternError, match="needs a pattern"):
        zm.measure(chosen)


# ---------------------------------------------------------------- bounded


def test_only_a_few_chunks_are_in_memory_at_once(small):
    """Chunks are made when they are needed, and gone when they have been measured."""
    made_so_far, most, lock = [], [0], threading.Lock()

    class Chunk(np.ndarray):
        pass

    def make(block_info=None):
        made = np.zeros((10, 4)).view(Chunk)
        with lock:
            made_so_far.append(weakref.ref(made))
            most[0] = max(most[0], sum(ref() is not None for ref in made_so_far))
        return made

    held = da.map_blocks(make, chunks=((10,) * 200, (4,)), dtype="f8", meta=np.zeros((0, 0)))
    assert zm.measure(held, workers=2).count.tolist() == [2000] * 4
    assert 1 <= most[0] <= 12


def test_each_chunk_is_computed_once(small):
    """Also those that are cut along an axis of samples."""
    made, lock = [], threading.Lock()

    def make(block_info=None):
        with lock:
            made.append(block_info[None]["chunk-location"])
        return np.ones((100, 2))

    held = da.map_blocks(make, chunks=((100, 100), (2,) * 9), dtype="f8", meta=np.zeros((0, 0)))
    assert zm.measure(held, "n d ->").count == 3600
    assert sorted(made) == [(i, j) for i in range(2) for j in range(9)]


def test_shards_hold_their_own_tasks_alone(small):
    """What goes to another process is small, and functions of every kind go along."""
    held = da.ones((100_000, 8), chunks=(20, 8)).map_blocks(lambda block: block * 3)
    (opened,) = open_source(held, None, Options())
    shard = next(iter(opened.shards()))
    data = pickle.dumps(shard)
    assert len(data) < 5000 * len(shard.pieces)
    item = next(pickle.loads(data).items())
    assert (item.array == 3).all()


def test_processes_compute_their_own_blocks(small):
    array = np.random.default_rng(5).normal(size=(50, 4))
    held = da.from_array(array, chunks=(7, 2)).map_blocks(lambda block: block + 1)
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert zm.measure(held, executor=pool) == zm.measure(array + 1)


def test_many_chunks_cost_no_more_than_their_number(small):
    """Twice as many take about twice as long, and not four times."""

    def seconds(chunks):
        held = da.ones((chunks * 4, 4), chunks=(4, 4)) + 1
        begin = time.perf_counter()
        assert zm.measure(held, workers=1).count.tolist() == [4 * chunks] * 4
        return time.perf_counter() - begin

    seconds(50)
    assert seconds(2000) < 25 * seconds(200)


# ---------------------------------------------------------------- refused, failing, elsewhere


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("c16", "complex numbers"), ("M8[s]", "dates"), ("U3", "text"), ("O", "objects, such as")],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(dtype, words):
    with pytest.raises(PatternError, match=f"dask array holds {words}"):
        zm.measure(da.from_array(np.zeros((3, 2), dtype), chunks=2), "n d -> d")
    with pytest.raises(PatternError, match="dask array holds a single number"):
        zm.measure(da.ones(5).sum())


def test_a_chunk_that_fails_is_skipped_by_name(small):
    """As a file that is broken: the rest counts, and strict stops."""

    def fail(block, block_info=None):
        if block_info[0]["chunk-location"] == (2, 0):
            raise RuntimeError("the file\nis broken")
        return block

    array = np.random.default_rng(6).normal(size=(50, 10))
    held = da.from_array(array, chunks=(5, 10)).map_blocks(fail, dtype="f8")
    with pytest.warns(SkippedWarning, match=r"dask array\[10:15\]: cannot be read: the file is br"):
        profile = zm.measure(held)
    assert profile == zm.measure(np.concatenate([array[:10], array[15:]]))
    with pytest.raises(SourceError, match=r"dask array\[10:15\]: cannot be read: the file is bro"):
        zm.measure(held, strict=True)


@pytest.mark.long
def test_arrays_that_lie_on_a_cluster(small):
    """What was computed there already is fetched, block by block."""
    distributed = pytest.importorskip("distributed")
    array = np.random.default_rng(7).normal(size=(40, 4))
    more = {"processes": False, "dashboard_address": None, "n_workers": 1}
    with distributed.Client(**more) as client:
        held = client.persist(da.from_array(array, chunks=(7, 2)) + 1)
        assert zm.measure(held) == zm.measure(array + 1)
        assert zm.measure(held * 2, limit=9) == zm.measure((array + 1) * 2, limit=9)
        lazy = da.from_array(array, chunks=(7, 2)) + 1
        assert zm.measure(lazy, executor=client.get_executor()) == zm.measure(array + 1)
