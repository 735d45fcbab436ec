"""Measured by group: each group is what measuring it alone gives, and all add up to the whole."""

from __future__ import annotations

import json
import math
import pickle
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from itertools import permutations
from multiprocessing import get_context
from operator import add
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import zeromean as zm
from strategies import COUNTED, arrays, cuts, is_nearest_root, rounded, rows, seeds, truth
from zeromean import partition
from zeromean.cli import main
from zeromean.errors import FormatError, MergeError, PatternError, SourceError, ZeromeanWarning
from zeromean.provenance import Provenance
from zeromean.readouts import Readouts
from zeromean.sources.labels import ClassFolder, class_of, factorized, named
from zeromean.statistics import Extrema, Histogram, Moments
from zeromean.statistics.groups import GroupBy, in_order, runs

GOLDEN = Path(__file__).parent / "golden_groups"
quiet = pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")


def labels_for(length, seed, kinds=("a", "b", "c")):
    """Random labels."""
    return np.random.default_rng(seed).choice(np.array(kinds), length)


# ---------------------------------------------------------------- the statistic


def check_grouped_laws(statistic, array, labels, where, minus=True):
    """Joining is adding; order does not matter; no groups are zero; minus undoes."""

    def of(cut):
        return GroupBy.of(array[cut], labels[cut], statistic)

    whole, parts = of(slice(None)), [of(cut) for cut in where]
    for order in permutations(parts):
        assert reduce(add, order) == whole
    for a, b in permutations(parts, 2):
        assert a + b == b + a
        assert not minus or (a + b) - b == a
    empty = GroupBy.empty()
    assert empty + whole == whole == whole + empty
    assert not minus or whole - whole == empty


@pytest.mark.parametrize("statistic", [Histogram, Moments, Extrema], ids=lambda s: s.__name__)
@settings(max_examples=25)
@given(data=st.data(), array=arrays(rows, COUNTED[:5]), seed=seeds)
def test_group_by_is_a_monoid_whatever_is_inside(statistic, data, array, seed):
    where = data.draw(cuts(len(array)))
    check_grouped_laws(
        statistic.of, array, labels_for(len(array), seed), where, statistic is not Extrema
    )


@settings(max_examples=25)
@given(data=st.data(), array=arrays(rows, ("float32", "float64")), seed=seeds)
def test_group_by_of_floats_is_exact(data, array, seed):
    where = data.draw(cuts(len(array)))
    check_grouped_laws(Moments.of, array, labels_for(len(array), seed), where)


def test_the_checker_of_groups_catches_a_mean():
    array, labels = np.random.default_rng(1).normal(size=(30, 1)), labels_for(30, 1)
    with pytest.raises(AssertionError):
        check_grouped_laws(lambda x: float(x.sum()), array, labels, [slice(0, 7), slice(7, 30)])


def test_group_by_says_which_group():
    one = GroupBy.of(np.zeros((2, 1), np.uint8), ["a", "b"], Histogram.of)
    other = GroupBy.of(np.ones((1, 1), np.uint8), ["b"], Histogram.of)
    with pytest.raises(MergeError, match="group 'b': cannot subtract"):
        one - other
    with pytest.raises(MergeError, match="group 'c', which is not there"):
        one - GroupBy({"c": other.groups["b"]})
    with pytest.raises(MergeError, match="with int"):
        one + 1
    with pytest.raises(MergeError, match="group 'b': cannot combine histograms"):
        one + GroupBy.of(np.zeros((1, 2), np.uint8), ["b"], Histogram.of)
    with pytest.raises(PatternError, match="3 labels for 2 rows"):
        GroupBy.of(np.zeros((2, 1)), [1, 2, 3], Moments.of)


@given(st.lists(st.integers(0, 5), max_size=60), st.sampled_from([1, 64, 1 << 20]))
def test_runs_give_every_row_once_to_its_group_in_order(codes, max_bytes):
    codes = np.array(codes, np.int64)
    array = np.arange(len(codes) * 3, dtype=np.int32).reshape(-1, 3)
    found = {}
    for code, part in runs(array, codes, max_bytes):
        assert len(part) > 0
        found.setdefault(code, []).append(part)
    for code in set(codes.tolist()):
        assert np.concatenate(found.pop(code)).tolist() == array[codes == code].tolist()
    assert not found


def test_sorted_rows_are_not_copied():
    array, codes = np.zeros((100, 3)), np.repeat([0, 4], 50)
    assert all(np.shares_memory(part, array) for _, part in runs(array, codes))
    assert not any(np.shares_memory(part, array) for _, part in runs(array, codes[::-1]))


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b"], ["b", "a", "b"]),
        (("b", "a"), ["b", "a"]),
        (np.array(["b", "a", "b"]), ["b", "a", "b"]),
        (np.array(["b", "a"], object), ["b", "a"]),
        ([3, -1, 3], ["3", "-1", "3"]),
        (np.array([3, -1, 3], np.int8), ["3", "-1", "3"]),
        (np.array([-128, 127], np.int8), ["-128", "127"]),
        (np.array([2**64 - 1, 0], np.uint64), [str(2**64 - 1), "0"]),
        (np.array([2**63 - 1, -(2**63)]), [str(2**63 - 1), str(-(2**63))]),
        ([True, False], ["True", "False"]),
        (np.array([True, False]), ["True", "False"]),
        ([np.int64(7), np.str_("x")], ["7", "x"]),
        ([7, np.int64(7), np.uint8(7), True], ["7", "7", "7", "True"]),
        (iter(["x"]), ["x"]),
        ([], []),
        ([""], [""]),
    ],
    ids=str,
)
def test_labels_become_names(labels, names):
    held, codes = factorized(labels)
    assert [held[code] for code in codes] == names
    assert len(set(held)) == len(held)


def test_labels_of_data_frames_are_labels():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for series in (
        pd.Series(["b", "a", "b"]),
        pd.Series(["b", "a", "b"], dtype="category"),
        pl.Series(["b", "a", "b"]),
    ):
        held, codes = factorized(series)
        assert [held[code] for code in codes] == ["b", "a", "b"]
    with pytest.raises(PatternError, match="label 1 is missing"):
        factorized(pd.Series(["a", None, "b"]))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", None], "label 1 is missing .None."),
        ([math.nan, "a"], "label 0 is missing .nan."),
        (np.array([1.0, np.nan, np.nan]), "label 1 and 1 more is missing"),
        (np.array([1.0, 2.0]), r"float64.*labels.astype\(int\)"),
        ([1.5], r"label 0 is 1.5 \(float\)"),
        ([b"a"], r"label 0 is b'a' \(bytes\)"),
        ([(1, 2)], r"label 0 is \(1, 2\) \(tuple\)"),
        ([[1], [2]], r"label 0 is \[1\] \(list\)"),
        ([1, "1"], "'1' as a number and as text"),
        ([True, 1, "True"], "'True' as a truth value and as text"),
        (np.zeros((2, 2), int), r"shape \(2, 2\); give one for each sample"),
        (np.ma.masked_array([1, 2], [False, True]), "label 1 is missing"),
        (5, "labels are 5; give an array or list"),
    ],
    ids=str,
)
def test_labels_that_are_none_are_refused_by_place(labels, said):
    with pytest.raises(PatternError, match=said):
        factorized(labels)


def test_names_are_listed_as_a_person_would():
    names = ["b", "10", "a", "-2", "9", "1e3", "", "²"]
    assert in_order(names) == ["-2", "9", "10", "", "1e3", "a", "b", "²"]
    assert named(np.bool_(True), "x") == "True"


def test_class_folders():
    assert class_of("cat/1.png") == "cat"
    assert class_of("cat/in/1.png") == "cat"
    assert class_of("train/cat/1.png", "train") == "cat"
    folder = pickle.loads(pickle.dumps(ClassFolder(("a/train", "a"))))
    assert folder("a/train/cat/1.png") == "cat"
    assert folder("a/dog/1.png") == "dog"
    with pytest.raises(SourceError, match=r"1\.png lies in no class folder"):
        class_of("1.png")
    with pytest.raises(SourceError, match=r"a/1\.png lies in no class folder"):
        folder("a/1.png")


# ---------------------------------------------------------------- arrays


def check_by_label(array, labels, by_group, pattern, **options):
    """Every group is what measuring it alone gives, and the total what measuring all gives."""
    assert isinstance(by_group, zm.GroupedProfile)
    assert set(by_group) == {str(label) for label in labels.tolist()}
    for name, profile in by_group.items():
        chosen = np.array([str(label) == name for label in labels.tolist()], bool)
        alone = zm.measure(array[chosen], pattern, workers=1, **options)
        assert profile == alone
        assert profile.provenance == alone.provenance
        if profile.count.size and profile.count.all():
            assert (profile.min == alone.min).all()
            assert (profile.max == alone.max).all()
        assert (
            profile.mean_of_item_stds is None
            or (profile.mean_of_item_stds == alone.mean_of_item_stds).all()
        )
    whole = zm.measure(array, pattern, workers=1, **options)
    assert by_group.total == whole
    assert by_group.provenance == whole.provenance


@quiet
@settings(max_examples=40)
@given(
    array=arrays(st.tuples(st.integers(0, 30), st.integers(1, 4), st.integers(1, 3))),
    seed=seeds,
    pattern=st.sampled_from(["n a b -> b", "n a b -> a b", "n a b ->", "n ... -> ..."]),
    quantiles=st.booleans(),
    in_order_=st.booleans(),
)
def test_each_group_is_what_measuring_it_alone_gives(array, seed, pattern, quantiles, in_order_):
    labels = labels_for(len(array), seed)
    labels = np.sort(labels) if in_order_ else labels
    by_group = zm.measure(array, pattern, by=labels, quantiles=quantiles, workers=1)
    check_by_label(array, labels, by_group, pattern, quantiles=quantiles)


@pytest.fixture
def many_shards(monkeypatch):
    """Shards of a few rows, so that groups lie in many of them."""
    monkeypatch.setattr(partition, "_SHARD_BYTES", 300)
    monkeypatch.setattr("zeromean.sources.arrays._SMALLEST_VIEW", 300)
    monkeypatch.setattr("zeromean.sources.arrays._SHARD_BYTES", 300)


IMAGES = np.random.default_rng(3).integers(0, 256, (60, 5, 4, 3), dtype=np.uint8)
CLASSES = labels_for(60, 4, ("cat", "dog", "emu"))
FLOATS = np.random.default_rng(5).normal(1e3, 1, (400, 3)).astype(np.float32)
SITES = labels_for(400, 6, (1, 2, 30))


def test_any_number_of_workers_and_processes_gives_the_same_bytes(many_shards):
    for array, labels, pattern in (
        (IMAGES, CLASSES, "n h w c -> c"),
        (FLOATS, SITES, None),
        (FLOATS.astype(np.int64), SITES, None),
    ):
        one = zm.measure(array, pattern, by=labels, workers=1)
        check_by_label(array, labels, one, pattern)
        assert zm.measure(array, pattern, by=labels, workers=5).to_json() == one.to_json()
        order = np.random.default_rng(7).permutation(len(array))
        assert zm.measure(array[order], pattern, by=labels[order]) == one
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert zm.measure(FLOATS, by=SITES, executor=pool) == zm.measure(FLOATS, by=SITES)


def test_a_process_gets_its_rows_and_not_the_array():
    source = partition.ArraySource(np.zeros((100_000, 8)), None)
    shard = partition.RowShard(source, np.array([5, 7]), np.array([0, 1]))
    grouping = partition.Grouping(("a",), None, np.zeros(100_000, int))
    assert len(pickle.dumps(shard)) < 2000
    assert len(pickle.dumps(grouping)) < 200
    (item,) = pickle.loads(pickle.dumps(shard)).items()
    assert item.array.shape == (2, 8)


def test_each_of_many_groups_lies_in_few_shards(many_shards):
    """Else the work would be groups times shards."""
    codes = np.random.default_rng(1).permutation(np.repeat(np.arange(500), 40))
    source = partition.ArraySource(np.zeros((len(codes), 2), np.float32), None)
    shards = list(partition.Grouping(("",) * 500, None, codes).shards(source, []))
    assert len(shards) > 400
    assert sum(len(np.unique(shard.codes)) for shard in shards) <= 500 + len(shards)
    assert sum(shard.n_items for shard in shards) == len(codes)


def test_files_of_arrays_take_labels(tmp_path, many_shards):
    np.save(tmp_path / "x.npy", FLOATS)
    np.savez(tmp_path / "x.npz", x=FLOATS)
    expected = zm.measure(FLOATS, by=SITES)
    for name in ("x.npy", "x.npz"):
        for workers in (1, 3):
            found = zm.measure(tmp_path / name, by=SITES, workers=workers)
            assert found == expected
            assert found.provenance.items == 400
            assert [p.provenance.items for p in found.values()] == [
                p.provenance.items for p in expected.values()
            ]


def test_non_contiguous_swapped_and_fortran_arrays(many_shards):
    for array in (FLOATS[::-1], FLOATS[:, ::-1], np.asfortranarray(FLOATS), FLOATS.astype(">f4")):
        check_by_label(array, SITES, zm.measure(array, by=SITES), "n d -> d")


def test_lists_and_generators_take_one_label_for_each_element():
    pictures = [Image.fromarray(p[: 2 + i % 3]) for i, p in enumerate(IMAGES)]
    for source in (pictures, list(map(np.asarray, pictures))):
        found = zm.measure(source, by=CLASSES)
        assert found == zm.measure((p for p in source), by=list(CLASSES))
        for name in found:
            alone = [p for p, label in zip(source, CLASSES, strict=True) if label == name]
            assert found[name] == zm.measure(alone)
        assert found.total == zm.measure(source)
    batches = [FLOATS[:100], FLOATS[100:150], FLOATS[150:]]
    found = zm.measure(batches, "n d -> d", by=["a", "b", "a"])
    assert found["b"] == zm.measure(FLOATS[100:150])
    assert found["a"].provenance.items == 350


def test_a_quick_look_takes_its_labels_along(tmp_path):
    found = zm.measure(FLOATS, by=SITES, limit=10)
    assert found.provenance.items == 10
    assert "a quick look at 10 of 400" in found.provenance.sources[0]
    chosen = [(2 * i + 1) * 400 // 20 for i in range(10)]
    check = zm.measure(FLOATS[chosen], by=SITES[chosen])
    assert found == check
    np.savez(tmp_path / "x.npz", FLOATS)
    assert zm.measure(tmp_path / "x.npz", by=SITES, limit=7) == zm.measure(FLOATS[:7], by=SITES[:7])
    assert zm.measure(iter(IMAGES), by=CLASSES, limit=5).provenance.items == 5


def test_a_function_of_the_name_groups_files(tmp_path):
    for i, site in enumerate(["oslo-1", "oslo-2", "rome-1"]):
        np.save(tmp_path / f"{site}.npy", FLOATS[i * 100 : i * 100 + 100])
    files = sorted(tmp_path.glob("*.npy"))
    found = zm.measure(files, by=lambda name: name.split("-")[0])
    assert found["oslo"] == zm.measure(FLOATS[:200])
    assert found["rome"] == zm.measure(FLOATS[200:300])
    assert found.total == zm.measure(files)
    with pytest.raises(PatternError, match=r"group of oslo-1\.npy is missing"):
        zm.measure(files, by=lambda name: None)


def test_no_rows_are_no_groups():
    found = zm.measure(IMAGES[:0], "n h w c -> c", by=CLASSES[:0])
    whole = zm.measure(IMAGES, "n h w c -> c", by=CLASSES)
    assert len(found) == 0
    assert found.total == zm.measure(IMAGES[:0], "n h w c -> c")
    assert found + whole == whole == whole + found
    assert whole - whole == found
    assert "0 groups" in repr(found)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (FLOATS, {"by": SITES[:-1]}, "399 labels, but the data has 400 entries"),
        (FLOATS, {"by": [*SITES, 1]}, "401 labels, but the data has 400"),
        (list(IMAGES), {"by": CLASSES[:-1]}, "59 labels, but the data has more than 59 elements"),
        (list(IMAGES), {"by": [*CLASSES, "x"]}, "61 labels, but the data has 60 elements"),
        (FLOATS, {"by": "class"}, "array lies in no class folder"),
        (FLOATS, {"by": "site"}, "by is 'site'; give 'class'"),
        (FLOATS, {"by": [None] * 400}, "label 0 is missing"),
        (FLOATS, {"by": SITES, "pattern": "n d -> n"}, "single samples along its first axis"),
        (FLOATS, {"by": SITES, "pattern": "(n g) d -> g d", "g": 4}, "single samples"),
        ([FLOATS, FLOATS.astype(float)], {"by": [1, 2], "pattern": "n d -> d"}, "float64"),
        ([FLOATS, FLOATS[:, :2]], {"by": [1, 2], "pattern": "n d -> d"}, r"keeps \(2,\)"),
    ],
    ids=str,
)
def test_what_cannot_be_grouped_is_said(source, options, said):
    with pytest.raises(PatternError, match=said):
        zm.measure(source, **options)


def test_too_many_counts_are_refused_before_memory_is_full(monkeypatch, many_shards):
    monkeypatch.setattr(partition, "_LARGEST_STATE", 10 * 65536 * 8)
    x = np.arange(400, dtype=np.uint16)[:, None]
    with pytest.raises(PatternError, match=r"groups with 524,288 bytes.*convert to float32"):
        zm.measure(x, by=np.arange(400))
    assert len(zm.measure(x, by=np.arange(400) // 40)) == 10


def test_covariance_by_group():
    x = IMAGES[:, 0, 0]
    found = zm.measure(x, by=CLASSES, covariance=True)
    for name in found:
        alone = zm.measure(x[name == CLASSES], covariance=True)
        assert found[name] == alone
        assert (found[name].cov() == alone.cov()).all()
    assert found.total == zm.measure(x, covariance=True)


# ---------------------------------------------------------------- folders of pictures


@pytest.fixture
def folder(tmp_path):
    """Three classes of pictures of unequal sizes, some deeper, one of them cut short."""
    for i, (pixels, label) in enumerate(zip(IMAGES[:24], CLASSES[:24], strict=True)):
        place = tmp_path / "train" / label / ("deep" if i % 3 else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[: 3 + i % 3]).save(place / f"{i}.{'png' if i % 2 else 'ppm'}")
    whole = (place / f"{i}.png").read_bytes()
    (tmp_path / "train" / "dog" / "torn.png").write_bytes(whole[:-20])
    return tmp_path / "train"


@quiet
@pytest.mark.parametrize("workers", [1, 4])
def test_classes_are_what_their_folders_give(folder, workers):
    found = zm.measure(folder, by="class", workers=workers)
    assert list(found) == ["cat", "dog", "emu"]
    for name, profile in found.items():
        alone = zm.measure(folder / name)
        assert profile == alone
        for what in ("items", "digest", "decoders", "notes", "versions"):
            assert getattr(profile.provenance, what) == getattr(alone.provenance, what)
        assert [f"{name}/{path}" for path, _ in alone.provenance.skipped] == [
            path for path, _ in profile.provenance.skipped
        ]
    whole = zm.measure(folder)
    assert found.total == whole
    assert found.provenance == whole.provenance
    assert found.provenance.skipped == (("dog/torn.png", "the PNG file is cut short"),)


@quiet
def test_classes_in_processes_and_of_several_folders(folder, tmp_path):
    found = zm.measure(folder, by="class")
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert zm.measure(folder, by="class", executor=pool).to_json() == found.to_json()
    (tmp_path / "other").mkdir()
    shutil.copytree(folder / "cat", tmp_path / "other" / "train" / "cat")
    both = zm.measure([folder, tmp_path / "other" / "train"], by="class")
    assert both["cat"] == found["cat"] + found["cat"]
    assert {name: both[name] for name in ("dog", "emu")} == {n: found[n] for n in ("dog", "emu")}
    assert both["dog"].provenance.skipped == both.provenance.skipped
    by_kind = zm.measure(folder, by=lambda name: name.rpartition(".")[2])
    assert set(by_kind) == {"png", "ppm"}
    assert by_kind.total == found.total


def test_a_picture_in_no_class_is_named(folder):
    (folder / "stray.png").write_bytes(next(folder.rglob("1.png")).read_bytes())
    with pytest.raises(SourceError, match=r"stray\.png lies in no class folder.*Move it"):
        zm.measure(folder, by="class")
    with pytest.raises(SourceError, match=r"1\.png lies in no class folder"):
        zm.measure([next(folder.rglob("1.png"))], by="class")
    with pytest.raises(PatternError, match="cannot be matched with the files"):
        zm.measure(folder, by=["a"] * 25)


def test_strict_stops_by_group_too(folder):
    with pytest.raises(SourceError, match="torn"):
        zm.measure(folder, by="class", strict=True)


# ---------------------------------------------------------------- algebra


def by_site():
    return zm.measure(FLOATS, by=SITES)


def test_groups_are_a_mapping():
    found = by_site()
    assert list(found) == ["1", "2", "30"]
    assert found["30"] == found[30] == found.get("30")
    assert "2" in found
    assert dict(found) == dict(found.items())
    assert found.kept_shape == (3,)
    assert found.dtype == "float32"
    with pytest.raises(KeyError, match="no group '7'; there are '1', '2', '30'"):
        found[7]


@settings(max_examples=20)
@given(st.data(), arrays(st.tuples(st.integers(1, 40), st.integers(1, 3)), ("uint8", "float64")))
@quiet
def test_parts_add_up_and_come_apart_group_by_group(data, array):
    labels = np.arange(len(array)) // 7
    whole = zm.measure(array, "n d -> d", by=labels, workers=1)
    parts = [
        zm.measure(array[cut], "n d -> d", by=labels[cut], workers=1)
        for cut in data.draw(cuts(len(array)))
    ]
    for order in permutations(parts):
        assert sum(order) == whole
    assert statistics_bytes(sum(parts)) == statistics_bytes(whole)
    assert whole - parts[0] == parts[1] + parts[2]
    assert (whole - parts[0]).total == (parts[1] + parts[2]).total


def statistics_bytes(grouped):
    document = json.loads(grouped.to_json())
    return {name: group["statistics"] for name, group in document["groups"].items()}


def test_what_differs_does_not_add():
    one = by_site()
    with pytest.raises(MergeError, match=r"profile by group and Profile; .*\.total"):
        one + one.total
    with pytest.raises(MergeError, match="differ in dtype"):
        one + zm.measure(FLOATS.astype(float), by=SITES)
    with pytest.raises(MergeError, match="group '4', which is not there"):
        one - zm.measure(FLOATS[:1], by=[4])
    with pytest.raises(MergeError, match="'1'"):
        one - (one + one)
    with pytest.raises(MergeError, match="group 'b': cannot add profiles that differ in dtype"):
        zm.GroupedProfile({"a": one["1"], "b": zm.measure(FLOATS.astype(float))})
    assert one != one.total
    assert one != one + one


# ---------------------------------------------------------------- weights


def brute_force(array, labels, weights):
    """Mean and variance of each column, as rationals."""
    for column in array.T:
        n = total = squares = Fraction(0)
        for name, weight in weights.items():
            true = truth(column[labels == name])
            w = Fraction(weight)
            n, total, squares = n + w * true.n, total + w * true.sum, squares + w * true.squares
        yield n, total / n, squares / n - (total / n) ** 2


def check_weights(array, labels, weights):
    weighted = zm.measure(array, "n d -> d", by=labels, workers=1).reweight(weights)
    expected = list(brute_force(array, labels, weights))
    assert weighted.count.tolist() == [rounded(n) for n, _, _ in expected]
    assert weighted.mean.tolist() == [rounded(mean) for _, mean, _ in expected]
    assert weighted.var().tolist() == [rounded(var) for _, _, var in expected]
    for std, (_, _, var) in zip(weighted.std.tolist(), expected, strict=True):
        assert is_nearest_root(std, var)


WEIGHTS = st.one_of(
    st.integers(0, 9), st.floats(0, 1e6), st.sampled_from([1e-300, 0.1, 1e300, Fraction(1, 3)])
)


@settings(max_examples=60)
@given(
    array=arrays(
        st.tuples(st.integers(3, 30), st.integers(1, 3)), ("uint8", "int64", "float32", "float64")
    ),
    a=WEIGHTS,
    b=WEIGHTS,
    seed=seeds,
)
@quiet
def test_weights_are_combined_exactly(array, a, b, seed):
    array = np.where(np.isfinite(array), array, 0).astype(array.dtype)
    labels = np.concatenate([["a", "b", "c"], labels_for(len(array) - 3, seed)])
    check_weights(array, labels, {"a": a, "b": b, "c": 0.5})


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_whole_weights_are_repetitions(dtype):
    x = (FLOATS - 990).astype(dtype)
    found = zm.measure(x, by=SITES)
    weighted = found.reweight({"1": 3, "2": 1, "30": 2})
    repeated = np.concatenate(
        [x[s == SITES] for s in (1, 2, 30) for _ in range({1: 3, 30: 2}.get(s, 1))]
    )
    whole = zm.measure(repeated)
    for name in ("count", "mean", "std", "min", "max", "constant", "nan_count"):
        assert (getattr(weighted, name) == getattr(whole, name)).all(), name
    assert zm.standardize(weighted) == zm.standardize(whole)
    assert zm.min_max(weighted) == zm.min_max(whole)
    assert weighted == found.reweight({1: 3.0, 2: Fraction(1), 30: np.float32(2)})
    halved = found.reweight({1: 1.5, 2: 0.5, 30: 1})
    assert (halved.std == weighted.std).all()
    assert (halved.count * 2 == weighted.count).all()
    assert weighted != found.reweight({1: 1, 2: 1, 30: 1})
    assert isinstance(weighted, Readouts)
    if dtype == "uint8":
        values, counts = weighted.histogram
        dense = np.stack([np.bincount(repeated[:, j], minlength=256) for j in range(3)])
        assert counts.tolist() == dense[:, values.astype(int)].tolist()


def test_weighted_quantiles_invert_the_weighted_distribution():
    x = IMAGES.reshape(60, -1)[:, :2]
    found = zm.measure(x, by=CLASSES)
    q = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]
    weighted = found.reweight({"cat": 2, "dog": 0, "emu": 5})
    repeated = np.concatenate([x[CLASSES == "cat"]] * 2 + [x[CLASSES == "emu"]] * 5)
    for j in range(2):
        ordered = sorted(repeated[:, j].tolist())
        expected = [ordered[max(0, math.ceil(Fraction(p) * len(ordered)) - 1)] for p in q]
        assert weighted.quantile(q)[:, j].tolist() == expected
    assert weighted.quantile(0.5).shape == (2,)
    doubled = found.reweight({"cat": 4, "dog": 0, "emu": 10})
    assert (doubled.quantile(q) == weighted.quantile(q)).all()
    assert (zm.robust(weighted).shift == weighted.quantile(0.5)).all()
    assert (weighted.min == repeated.min(axis=0)).all()  # the dogs do not count
    with pytest.raises(PatternError, match="between 0 and 1"):
        weighted.quantile(1.5)
    with pytest.raises(PatternError, match="no weighted quantile"):
        by_site().reweight("balanced").quantile(0.5)


def test_balanced_is_what_scikit_learn_means():
    utils = pytest.importorskip("sklearn.utils.class_weight")
    found = by_site()
    weighted = found.reweight("balanced")
    classes = np.unique(SITES)
    theirs = utils.compute_class_weight("balanced", classes=classes, y=SITES)
    assert [float(w) for w in weighted.weights.values()] == theirs.tolist()
    shares = [w * found[name].provenance.items for name, w in weighted.weights.items()]
    assert len(set(shares)) == 1
    each = sum(
        Fraction(1, 3) * truth(FLOATS[s == SITES][:, 0]).sum / (s == SITES).sum()
        for s in classes.tolist()
    )
    assert weighted.mean[0] == rounded(each)


def test_unit_readouts_and_names_are_there():
    weighted = zm.measure(IMAGES, "n h w c -> c", by=CLASSES, channels="RGB").reweight("balanced")
    assert weighted.names == ["R", "G", "B"]
    assert np.allclose(weighted.unit_mean, weighted.mean / 255, rtol=1e-15)
    assert np.allclose(weighted.unit_std, weighted.std / 255, rtol=1e-15)
    assert weighted.mean_of_item_stds is None
    assert "weights: cat " in repr(weighted)
    assert zm.mean_normalize(weighted).recipe == "mean_normalize"
    assert zm.max_abs(weighted).scale.tolist() == weighted.max.tolist()


def test_whitening_with_weights():
    x = IMAGES.reshape(60, -1)[:, :4]
    weighted = zm.measure(x, by=CLASSES, covariance=True).reweight({"cat": 2, "dog": 1, "emu": 0})
    repeated = np.concatenate([x[CLASSES == "cat"]] * 2 + [x[CLASSES == "dog"]])
    whole = zm.measure(repeated, covariance=True)
    assert np.allclose(weighted.cov(), whole.cov(), rtol=1e-13)
    assert np.allclose(zm.whiten(weighted, "zca").matrix, zm.whiten(whole, "zca").matrix)
    with pytest.raises(PatternError, match="covariance"):
        zm.whiten(by_site().reweight("balanced"), "zca")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"1": 1, "2": 1}, "no weight for '30'; give one for every group, 0 to leave it out"),
        ({"1": 1, "2": 1, "30": 1, "x": 1}, "no group 'x'; there are '1', '2', '30'"),
        ({"1": 1, "2": 1, "30": -0.5}, "weight of '30' is -0.5"),
        ({"1": 1, "2": 1, "30": math.nan}, "weight of '30' is nan"),
        ({"1": 1, "2": 1, "30": math.inf}, "weight of '30' is inf"),
        ({"1": 1, "2": 1, "30": "2"}, "weight of '30' is '2'"),
        ({"1": 1, "2": 1, "30": True}, "weight of '30' is True"),
        ({"1": 0, "2": 0.0, "30": 0}, "all weights are 0"),
        ([1, 2, 3], "give 'balanced', or a weight for each group"),
        ("equal", "give 'balanced'"),
    ],
    ids=str,
)
def test_weights_that_make_no_sense_are_refused(weights, said):
    with pytest.raises(PatternError, match=said):
        by_site().reweight(weights)


def test_other_weighted_mistakes():
    weighted = by_site().reweight("balanced")
    for read in (weighted.var, weighted.sample_std):
        with pytest.raises(PatternError, match="ddof is 1"):
            read(1)
    with pytest.raises(PatternError, match="ddof"):
        zm.standardize(weighted, ddof=1)
    unknown = zm.GroupedProfile({"a": without_items()})
    with pytest.raises(PatternError, match="number of items of 'a'"):
        unknown.reweight("balanced")
    with pytest.raises(MergeError, match="no group"):
        zm.measure(FLOATS[:0], by=[]).reweight("balanced")


def without_items():
    """A profile that does not know how many items it is of."""
    return replace(zm.measure(FLOATS), provenance=Provenance())


# ---------------------------------------------------------------- a normalizer for each group


@pytest.mark.parametrize("recipe", [zm.zero_mean, zm.standardize, zm.min_max, zm.robust])
def test_each_sample_is_normalized_by_its_group(recipe):
    norm = zm.measure(IMAGES, "n h w c -> c", by=CLASSES).normalizers(recipe)
    y = norm(IMAGES, by=CLASSES)
    assert y.dtype == np.float32
    for name in norm:
        chosen = name == CLASSES
        alone = recipe(zm.measure(IMAGES[chosen], "n h w c -> c"))
        assert norm[name] == alone
        assert (y[chosen] == alone(IMAGES[chosen])).all()
    assert (norm.invert(y, by=CLASSES) == IMAGES).all()
    out = np.empty(IMAGES.shape, np.float64)
    assert norm(IMAGES, by=list(CLASSES), out=out) is out
    assert (out == norm(IMAGES, by=CLASSES, dtype="float64")).all()
    assert (norm(IMAGES, by=CLASSES, layout="chw") == np.moveaxis(y, -1, 1)).all()
    assert (norm(IMAGES[0], by=CLASSES[0]) == y[0]).all()
    assert (norm(IMAGES[:3], by="cat") == norm["cat"](IMAGES[:3])).all()
    assert norm(IMAGES[:0], by=[]).shape == (0, 5, 4, 3)
    assert norm.recipe == norm["cat"].recipe


def test_normalizing_comes_in_blocks(monkeypatch):
    monkeypatch.setattr("zeromean.group_normalizer._BLOCK_BYTES", 100)
    norm = by_site().normalizers(zm.standardize)
    expected = np.empty_like(FLOATS)
    for name in norm:
        expected[str(name) == SITES.astype(str)] = norm[name](FLOATS[SITES.astype(str) == name])
    assert (norm(FLOATS, by=SITES) == expected).all()
    order = np.argsort(SITES, kind="stable")
    assert (norm(FLOATS[order], by=SITES[order]) == expected[order]).all()


def test_whitening_by_group_may_leave_fewer_features():
    x = IMAGES.reshape(60, -1)[:, :5].astype(np.float32)
    found = zm.measure(x, by=CLASSES, covariance=True)
    norm = found.normalizers(zm.whiten, "pca", n_components=2)
    y = norm(x, by=CLASSES)
    assert y.shape == (60, 2)
    assert np.allclose(np.cov(y[CLASSES == "dog"].T, ddof=0), np.eye(2), atol=1e-4)
    assert norm.invert(y, by=CLASSES).shape == x.shape
    assert "matrix" in repr(norm)


@pytest.mark.parametrize("end", [".json", ".safetensors"])
def test_normalizers_are_saved_and_loaded(end, tmp_path):
    for norm in (
        by_site().normalizers(zm.standardize),
        zm.measure(IMAGES, "n h w c -> c", by=CLASSES).normalizers(zm.min_max, -1, 1),
        zm.measure(IMAGES[:, 0, 0], by=CLASSES, covariance=True).normalizers(zm.whiten, "zca"),
    ):
        norm.save(tmp_path / f"n{end}")
        loaded = zm.load(tmp_path / f"n{end}")
        assert loaded == norm
        assert loaded.to_json() == norm.to_json()
    assert repr(loaded) == repr(norm)
    assert "cat" in loaded._repr_html_()
    assert loaded != by_site().normalizers(zm.standardize)


def test_unknown_labels_are_named():
    norm = by_site().normalizers(zm.zero_mean)
    with pytest.raises(PatternError, match="the group '4', '7'; there are '1', '2', '30'"):
        norm(FLOATS[:3], by=[7, 1, 4])
    with pytest.raises(PatternError, match="the group 'x'"):
        norm(FLOATS[:3], by="x")
    with pytest.raises(PatternError, match="2 labels for 3 samples"):
        norm(FLOATS[:3], by=[1, 2])
    with pytest.raises(PatternError, match="missing"):
        norm(FLOATS[:1], by=[None])
    with pytest.raises(PatternError, match="missing"):
        norm(FLOATS[:1], by=None)
    with pytest.raises(PatternError, match=r"out has shape \(2, 3\)"):
        norm(FLOATS[:3], by=[1, 2, 1], out=np.empty((2, 3)))
    with pytest.raises(KeyError, match="'x'"):
        norm["x"]
    assert norm.normalizer_for(30) == norm["30"]
    with pytest.raises(PatternError, match="no group"):
        zm.GroupedNormalizer({})
    whole = zm.measure(FLOATS)
    with pytest.raises(PatternError, match="'a' has recipe zero_mean and 'b' has standardize"):
        zm.GroupedNormalizer({"a": zm.zero_mean(whole), "b": zm.standardize(whole)})


def test_recipes_say_which_group_they_cannot_do():
    x = np.array([[1.0], [1.0], [2.0]])
    found = zm.measure(x, by=["a", "a", "b"])
    with pytest.warns(ZeromeanWarning, match="1 constant feature") as caught:
        norm = found.normalizers(zm.standardize)
    assert [str(each.message).partition(":")[0] for each in caught] == ["group 'a'", "group 'b'"]
    assert norm["a"].constant == ("0",)
    found = zm.measure(np.array([[1.0], [2.0], [3.0]]), by=["a", "a", "b"])
    with pytest.raises(PatternError, match="group 'b': too few values"):
        found.normalizers(zm.standardize, ddof=1)
    with pytest.raises(PatternError, match=r"grouped\.normalizers"):
        zm.standardize(found)


# ---------------------------------------------------------------- files


def made(name):
    pixels = (np.arange(4 * 3 * 2 * 3) * 7 % 256).astype(np.uint8).reshape(4, 3, 2, 3)
    table = np.array([[0.1, -1e300], [np.nan, 5e-324], [3.0, 2.0]])
    return {
        "pictures": lambda: zm.measure(
            pixels, "n h w c -> c", channels="RGB", by=["cat", "dog", "cat", "ärgs"]
        ),
        "table": lambda: zm.measure(table, feature_names=["a", "b"], by=[10, 9, 10]),
        "nothing": lambda: zm.measure(table[:0], by=[]),
        "normalizers": lambda: zm.measure(table, by=[1, 1, 1]).normalizers(zm.standardize),
    }[name]()


ENDS = (".json", ".safetensors")
GOLDEN_NAMES = [
    f"{n}{end}" for n in ("pictures", "table", "nothing", "normalizers") for end in ENDS
]


def test_golden_files_are_there():
    assert sorted(p.name for p in GOLDEN.iterdir()) == sorted(GOLDEN_NAMES)


def without_versions(path):
    """Bytes of a file, but for the versions that measured it."""
    return re.sub(rb'"(numpy|zeromean)": ?"[^"]*"', b"", path.read_bytes())


@quiet
@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_golden_files_load_to_known_values_and_save_to_the_same_bytes(name, tmp_path):
    held = zm.load(GOLDEN / name)
    assert held == made(name.partition(".")[0])
    held.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()
    if isinstance(held, zm.GroupedProfile) and name.endswith(".json"):
        made(name.partition(".")[0]).save(tmp_path / name)
        assert without_versions(tmp_path / name) == without_versions(GOLDEN / name)


@quiet
@pytest.mark.parametrize("end", ENDS)
def test_round_trip(end, tmp_path, folder):
    for held in (
        zm.measure(folder, by="class"),
        by_site(),
        by_site() - zm.measure(FLOATS[:9], by=SITES[:9]),
        zm.measure(FLOATS[:20], by=SITES[:20], quantiles=True),
        zm.measure(IMAGES[:4].astype(np.int32), "n h w c -> h w c", by=CLASSES[:4]),
    ):
        path = tmp_path / f"a{end}"
        held.save(path)
        loaded = zm.load(path)
        assert loaded == held
        assert loaded.provenance == held.provenance
        assert {n: p.provenance for n, p in loaded.items()} == {
            n: p.provenance for n, p in held.items()
        }
        assert repr(loaded) == repr(held)
        loaded.save(tmp_path / f"b{end}")
        assert path.read_bytes() == (tmp_path / f"b{end}").read_bytes()


def test_json_is_readable_and_small_and_has_the_numbers_of_the_total_on_top(tmp_path):
    found = by_site()
    document = json.loads(found.to_json())
    assert document["mean"] == found.total.mean.tolist()
    assert document["groups"]["30"]["mean"] == found["30"].mean.tolist()
    assert document["n_groups"] == 3
    assert len(found.to_json().splitlines()) < 45
    many = zm.measure(np.zeros((11, 1000)), by=np.arange(11))
    with pytest.raises(FormatError, match=r"11000 kept entries are too many for .json"):
        many.save(tmp_path / "x.json")
    many.save(tmp_path / "x.safetensors")
    assert zm.load(tmp_path / "x.safetensors") == many


def change(*keys, value=None, name=None):
    """Set a field, rename it, or take it out."""

    def edit(document):
        place = document
        for key in keys[:-1]:
            place = place[key]
        held = place.pop(keys[-1])
        if name is not None:
            place[name] = held
        elif value is not None:
            place[keys[-1]] = value

    return edit


WRONG = [
    (change("mean", value=[1.0, 2.0]), "'mean'"),
    (change("mean"), "lacks the field 'mean'"),
    (change("count", value=[1, 1]), "'count'"),
    (change("items", value=-1), "'items'"),
    (change("items"), "'items'"),
    (change("n_groups", value=3), "'n_groups' is 3, but there are 2"),
    (change("n_groups"), "'n_groups'"),
    (change("n_groups", value="2"), "'n_groups'"),
    (change("checksum", value="0" * 64), "'checksum'"),
    (change("groups"), "'groups'"),
    (change("groups", value=[]), "'groups'"),
    (change("groups", value={"a": 1}), "'groups'"),
    (change("groups", "9"), "'checksum'"),
    (change("groups", "9", name="8"), "'checksum'"),
    (change("groups", "9", "mean", value=[1.0, 2.0]), "group '9': field 'mean'"),
    (change("groups", "9", "checksum", value="0" * 64), "'checksum'"),
    (change("groups", "9", "checksum"), "'checksum'"),
    (change("groups", "9", "statistics"), "group '9': lacks the field 'statistics'"),
    (change("groups", "9", "provenance"), "group '9': lacks the field 'provenance'"),
    (change("groups", "10", "statistics", "moments", "n", value=["1", "3"]), "group '10'"),
    (change("pattern", value="n d -> n"), "group '9'"),
    (change("dtype", value="float32"), "group '9'"),
    (change("provenance"), "'provenance'"),
    (change("kind", value="profile"), "'statistics'"),
]


@quiet
@pytest.mark.parametrize(("edit", "said"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_wrong_fields_are_refused_by_name(edit, said, tmp_path):
    path = tmp_path / "edited.json"
    document = json.loads(made("table").to_json())
    path.write_text(json.dumps(document))
    assert zm.load(path) == made("table")
    edit(document)
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError) as caught:
        zm.load(path)
    assert "edited.json" in str(caught.value)
    assert said in str(caught.value)


@quiet
@pytest.mark.parametrize("name", ["table.json", "normalizers.json", "table.safetensors"])
def test_a_flipped_byte_gives_no_other_number(name, tmp_path):
    data = (GOLDEN / name).read_bytes()
    expected = zm.load(GOLDEN / name)
    path, refused = tmp_path / name, 0
    for at in range(0, len(data), 11):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 7
        path.write_bytes(changed)
        try:
            held = zm.load(path)
        except FormatError:
            refused += 1
        else:
            assert held == expected
    assert refused > len(data) // 20


def test_foreign_tensors_are_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(GOLDEN / "table.safetensors", framework="numpy") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    for name in ("9.moments.n", "x", "²"):
        save_file({**tensors, name: np.zeros(2)}, tmp_path / "x.safetensors", metadata=metadata)
        with pytest.raises(FormatError, match="belongs to no group"):
            zm.load(tmp_path / "x.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if k != "1.moments.n"},
        tmp_path / "x.safetensors",
        metadata=metadata,
    )
    with pytest.raises(FormatError, match=r"group '10': lacks the tensor 'moments\.n'"):
        zm.load(tmp_path / "x.safetensors")


# ---------------------------------------------------------------- what a person sees


def test_repr_lists_groups_and_the_total():
    text = repr(by_site())
    assert text.splitlines()[0].startswith('GroupedProfile(3 groups, "n d -> d", float32, 400')
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["group", "1", "2", "30", "total"]
    wide = repr(zm.measure(np.arange(300.0).reshape(30, 10), by=range(30)))
    assert "... and 18 more groups" in wide
    assert "... and 6 more features" in wide
    hostile = zm.measure(np.zeros((1, 1)), by=["<script>"])._repr_html_()
    assert "<script>" not in hostile
    assert "&lt;script&gt;" in hostile


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def test_the_command_prints_a_row_for_each_class(folder, tmp_path):
    saved = tmp_path / "by.json"
    result = run("measure", folder, "--by", "class", "-o", saved)
    assert result.exit_code == 0
    assert "3 groups" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines() if line][-4:] == [
        "cat", "dog", "emu", "total",
    ]  # fmt: skip
    assert "dog/torn.png" in result.stderr
    assert run("measure", folder, "--by", "class", "--json").stdout == saved.read_text()
    shown = run("show", saved)
    assert shown.stdout.splitlines()[2:] == result.stdout.splitlines()[2:]
    assert run("show", saved, "--json").stdout == saved.read_text()
    assert run("show", saved, "--plot", tmp_path / "x.svg").exit_code == 0
    assert (tmp_path / "x.svg").exists()
    norms = tmp_path / "norms.json"
    zm.load(saved).normalizers(zm.standardize).save(norms)
    assert "3 groups, standardize" in run("show", norms).stdout
    assert run("show", norms, "--plot", tmp_path / "y.svg").exit_code == 2
    (folder / "stray.png").write_bytes(b"")
    failed = run("measure", folder, "--by", "class")
    assert failed.exit_code == 2
    assert "stray.png lies in no class folder" in failed.stderr


def test_many_classes_are_cut_with_a_note(tmp_path):
    for i in range(30):
        (tmp_path / "train" / f"c{i:02d}").mkdir(parents=True)
        Image.fromarray(IMAGES[i]).save(tmp_path / "train" / f"c{i:02d}" / "0.png")
    out = run("measure", tmp_path / "train", "--by", "class", "-o", tmp_path / "x.json").stdout
    assert "c19" in out
    assert "c20" not in out
    assert "... and 10 more groups in the saved file" in out
    assert len(zm.load(tmp_path / "x.json")) == 30


if __name__ == "__main__":  # pragma: no cover - run once, by hand
    import warnings

    warnings.simplefilter("ignore")
    GOLDEN.mkdir(exist_ok=True)
    for golden in GOLDEN_NAMES:
        if not (GOLDEN / golden).exists():
            made(golden.partition(".")[0]).save(GOLDEN / golden)


# ---------------------------------------------------------------- frames and tensors by group


def cities():
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(
        {
            "age": np.array([20, 30, 70, 50], "int16"),
            "name": list("wxyz"),
            "height": [1.5, 1.7, 1.9, 1.6],
            "city": ["b", "a", "b", "a"],
        },
        index=[7, 5, 5, 1],
    )


def expected_of(frame, norm, way="__call__"):
    """Row by row, each through the normalizer of its group."""
    rows = [getattr(norm[c], way)(frame.iloc[[i]]) for i, c in enumerate(frame["city"])]
    pd = pytest.importorskip("pandas")
    return pd.concat(rows)


@pytest.mark.parametrize("by", ["city", ["b", "a", "b", "a"]])
def test_frames_go_through_their_groups_by_name(by):
    pd = pytest.importorskip("pandas")
    frame = cities()
    norm = zm.measure(frame, by="city").normalizers(zm.standardize)
    y = norm(frame, by=by)
    pd.testing.assert_frame_equal(y, expected_of(frame, norm))
    pd.testing.assert_frame_equal(norm.invert(y, by=by), frame)
    other = frame[["city", "height", "name", "age"]]  # in another order
    pd.testing.assert_frame_equal(norm(other, by=by), y[list(other)])
    pd.testing.assert_frame_equal(norm(frame.iloc[:0], by="city"), y.iloc[:0])
    pd.testing.assert_frame_equal(norm(frame, by="a"), norm["a"](frame))


def test_frames_of_all_kinds_go_through_their_groups():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    nw = pytest.importorskip("narwhals")
    frame = cities().reset_index(drop=True)
    norm = zm.measure(frame, by="city").normalizers(zm.zero_mean)
    right = expected_of(frame, norm)
    held = pl.from_pandas(frame)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for kind in (held, held.lazy(), table, table.to_batches()[0], nw.from_native(held)):
        y = norm(kind, by="city")
        assert type(y) is type(kind)
        x = norm.invert(y, by=["b", "a", "b", "a"])
        y, x = (z.collect() if hasattr(z, "collect") else z for z in (y, x))
        assert [y[n].to_pylist() if table is kind else list(y[n]) for n in ("age", "height")] != []
        y, x = (pa.table(z) if not isinstance(z, pa.Table) else z for z in (y, x))
        assert y.to_pydict() == right.to_dict("list")
        assert x.to_pydict() == table.to_pydict()


def test_columns_by_themselves_go_through_their_groups():
    pd = pytest.importorskip("pandas")
    frame = cities()
    norm = zm.measure(frame, by="city").normalizers(zm.zero_mean)
    y = norm(frame["height"], by=frame["city"])
    pd.testing.assert_series_equal(y, norm(frame, by="city")["height"])
    with pytest.raises(PatternError, match="'x' is none of the 2 features"):
        norm(frame["height"].rename("x"), by=frame["city"])


def test_frames_by_group_say_what_is_wrong():
    frame = cities()
    norm = zm.measure(frame, by="city").normalizers(zm.zero_mean)
    with pytest.raises(PatternError, match=r"3 labels.* 4 "):
        norm(frame, by=["a", "b", "a"])
    with pytest.raises(PatternError, match="no normalizer for the group 'c'"):
        norm(frame.assign(city="c"), by="city")
    with pytest.raises(PatternError, match="lacks 1 of the 2"):
        norm(frame.drop(columns="age"), by="city")
    with pytest.raises(PatternError, match="no out="):
        norm(frame, by="city", out=np.zeros((4, 4)))
    with pytest.warns(ZeromeanWarning, match="'more'") as caught:
        norm(frame.assign(more=1.0), by="city")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for recipe in ("zero_mean", norm["a"]):
        with pytest.raises(PatternError, match=r"grouped.normalizers\(zm\."):
            zm.measure(frame, by="city").normalizers(recipe)
    with pytest.raises(PatternError, match=r"norm\['a'\].torch\(\)"):
        norm.torch()


def test_a_numeric_column_of_groups_is_no_feature():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"site": [1, 2, 1], "x": [1.0, 5.0, 3.0]})
    norm = zm.measure(frame["x"].to_numpy(), by=frame["site"]).normalizers(zm.zero_mean)
    y = norm(frame, by="site")
    assert y["site"].tolist() == [1, 2, 1]
    assert y["x"].tolist() == [-1, 0, 1]


def test_tensors_stay_tensors_by_group():
    torch = pytest.importorskip("torch")
    x = np.array([[1, 2], [9, 3], [5, 6]], np.float32)
    norm = zm.measure(x, by=[0, 1, 0]).normalizers(zm.zero_mean)
    labels, out = torch.tensor([0, 1, 0]), torch.empty(3, 2, dtype=torch.float64)
    y = norm(torch.from_numpy(x), by=labels)
    assert isinstance(y, torch.Tensor)
    assert y.dtype == torch.float32
    assert y.tolist() == norm(x, by=[0, 1, 0]).tolist() == [[-2, -2], [0, 0], [2, 2]]
    assert norm.invert(y, by=labels).tolist() == x.tolist()
    assert norm(torch.from_numpy(x), by=labels, out=out) is out
    assert out.tolist() == y.tolist()


def test_weighted_tables_count_their_dtypes():
    text = repr(zm.measure(cities().assign(b=1.0), by="city").reweight("balanced"))
    assert "2 float64, int16" in text
