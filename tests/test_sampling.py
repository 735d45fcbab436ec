"""Samples of files: honest intervals, the same files everywhere, and a mark on every number."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import pickle
import sys
import threading
import warnings
from fractions import Fraction
from math import comb
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import zeromean as zm
from strategies import arrays
from zeromean.accumulation import Plan
from zeromean.cli import main
from zeromean.errors import SkippedWarning, ZeromeanWarning
from zeromean.estimates import Estimate, rounded_up, said_of
from zeromean.execution import Run
from zeromean.pattern import Pattern
from zeromean.sampling import KeepSums, measurer, sampled, unit_sums
from zeromean.sampling.clusters import ClusterSums, Residuals, half_widths
from zeromean.sampling.looks import Seen, _met, sample_size, size_floor
from zeromean.sampling.order import random_order
from zeromean.sources import Entry, Item, ListedSource
from zeromean.sources.images import ImageFiles
from zeromean.statistics import Histogram, Moments
from zeromean.statistics.formats import COUNTED

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-train-5k"
TRUTH = CIFAR.parent / "truth.json"
FILES = 400


def _bench():
    """The module of simulations."""
    path = Path(__file__).parents[1] / "bench" / "within.py"
    spec = importlib.util.spec_from_file_location("within_simulations", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["within_simulations"] = module
    spec.loader.exec_module(module)
    return module


bench = _bench()


def _picture(rng, level, size=(4, 4)):
    return rng.normal(level, 20, (*size, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures whose brightness differs, in two folders."""
    below, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(5)
    for name in ("cats", "dogs"):
        (below / name).mkdir()
    for i in range(FILES):
        picture = _picture(rng, rng.normal(120, 15), (4, 3 + i % 4))
        Image.fromarray(picture).save(below / ("cats", "dogs")[i % 2] / f"{i:04}.png")
    return below


@pytest.fixture(scope="module")
def estimate(folder):
    """Of about half of them."""
    profile = zm.measure(folder, within=0.012)
    assert profile.estimate is not None
    return profile


# ---------------------------------------------------------------- the order of files


ORDER = [6, 1, 3, 10, 8, 7, 11, 5, 4, 2, 9, 0]
ORDER_1 = [9, 0, 3, 7, 11, 2, 6, 1, 4, 8, 5, 10]


def test_the_order_never_changes():
    """A resumed run, another machine and a later version must read the same files."""
    names = [f"class/{i}.png" for i in range(12)]
    assert random_order(names).tolist() == ORDER
    assert random_order(names, seed=1).tolist() == ORDER_1


@given(st.lists(st.text(), unique=True, max_size=30), st.data())
def test_an_order_is_one_of_names_and_keeps_it_when_files_are_added(names, data):
    """The names in order are the same wherever they stand in the list; a part keeps its order."""
    order = [names[i] for i in random_order(names)]
    assert sorted(order) == sorted(names)
    shuffled = data.draw(st.permutations(names))
    assert [shuffled[i] for i in random_order(shuffled)] == order
    part = [name for name in names if data.draw(st.booleans())]
    assert [part[i] for i in random_order(part)] == [name for name in order if name in part]


def test_every_file_is_as_likely_to_come_first():
    """Chi-squared of the first of 8 names over 4,000 seeds, with 7 degrees of freedom."""
    names = [f"{i}.png" for i in range(8)]
    first = [int(random_order(names, seed)[0]) for seed in range(4000)]
    counts = np.bincount(first, minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3  # 99.9 %


# ---------------------------------------------------------------- numbers of files


@pytest.mark.long
@pytest.mark.parametrize("whole", [2, 7, 50, 333])
def test_a_group_that_counts_is_met(whole):
    """By the hypergeometric distribution, computed exactly."""
    for share in (0.0, 0.003, 0.02, 0.1, 0.5):
        n = _met(whole, share)
        group = math.floor(share * whole) + 1
        missed = Fraction(comb(whole - group, n), comb(whole, n))
        assert missed <= Fraction(5, 1000)
        assert 0 < n <= whole


@pytest.mark.long
@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=40), st.floats(0.001, 0.9))
def test_large_files_are_met(sizes, asked):
    """The fewest files so that larger ones hold at most that share of the bytes."""
    held = np.array(sizes, np.int64)

    def beyond(n):
        largest = max(sizes[:n], default=-1)
        return sum(size for size in sizes[n:] if size > largest)

    n = size_floor(held, asked)
    assert beyond(n) <= asked * sum(sizes)
    assert n == 0 or beyond(n - 1) > asked * sum(sizes)


def test_a_giant_among_small_files_is_read():
    sizes = np.array([10] * 500 + [100_000] + [10] * 499)
    assert size_floor(sizes, 0.01) == 501
    assert size_floor(np.full(1000, 10), 0.01) <= 1


# ---------------------------------------------------------------- sums of files


def _rows(rng, files, features=3):
    """Files of unequal size, some of them empty: number, Σx, Σx²."""
    pixels = np.round(np.exp(rng.normal(3, 1, (files, 1)))) * np.ones(features)
    pixels[rng.random(files) < 0.1] = 0
    mean = rng.beta(2, 3, (files, 1)) * rng.uniform(0.5, 1, (files, features))
    spread = rng.uniform(0, 0.1, (files, features))
    return np.stack([pixels, pixels * mean, pixels * (mean**2 + spread**2)], axis=2)


def _direct(rows):
    """Residuals of every file, one by one, as the formulas say."""
    m, y, q = np.moveaxis(rows, 2, 0)
    mean = y.sum(axis=0) / m.sum(axis=0)
    variance = q.sum(axis=0) / m.sum(axis=0) - mean**2
    std, average = np.sqrt(variance), m.mean(axis=0)
    of_mean = (y - mean * m) / average
    of_std = (q - 2 * mean * y + (mean**2 - variance) * m) / (2 * std * average)
    return mean, std, np.hstack([of_mean, of_std])


NOTHING = np.zeros(3, np.bool_)


@pytest.mark.parametrize("cut", [1, 7, 200])
def test_sums_give_what_residuals_of_single_files_give(cut):
    """Estimates, deviations, skewness and correlations, however the files come."""
    rows = _rows(np.random.default_rng(0), 200)
    sums = ClusterSums(3)
    for begin in range(0, 200, cut):
        sums.add(rows[begin : begin + cut])
    found = sums.residuals(NOTHING)
    mean, std, residuals = _direct(rows)
    assert found.n == 200
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.std, std, rtol=1e-12)
    np.testing.assert_allclose(found.deviation, residuals.std(axis=0, ddof=1), rtol=1e-9)
    scaled = residuals / residuals.std(axis=0)
    np.testing.assert_allclose(found.skewness, (scaled**3).mean(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.correlation, np.corrcoef(residuals.T), atol=1e-9)


def test_of_many_features_no_correlation_is_kept():
    """Memory is bounded by the number of features, and their products would not be."""
    sums = ClusterSums(33)
    sums.add(_rows(np.random.default_rng(0), 50, 33))
    assert sums.residuals(np.zeros(33, np.bool_)).correlation is None
    held = [v for v in vars(sums).values() if isinstance(v, np.ndarray)]
    before = sum(v.nbytes for v in held)
    sums.add(_rows(np.random.default_rng(1), 5000, 33))
    assert sum(v.nbytes for v in vars(sums).values() if isinstance(v, np.ndarray)) == before


def test_a_feature_without_data_is_never_known():
    rows = _rows(np.random.default_rng(0), 50)
    rows[:, 1] = 0
    sums = ClusterSums(3)
    sums.add(rows)
    found = sums.residuals(NOTHING)
    assert np.isinf(found.deviation[[1, 4]]).all()
    assert np.isfinite(found.deviation[[0, 2, 3, 5]]).all()
    assert half_widths(found, 1000, 0.5, 0.05) == (None, 1000)


@pytest.mark.long
def test_standard_errors_are_those_of_many_samples():
    """Taylor and finite population correction against 4,000 samples of 300 of 600 files."""
    rng = np.random.default_rng(3)
    rows = _rows(rng, 600)
    mean, std, _ = _direct(rows)
    errors, said = [], []
    for _ in range(4000):
        sums = ClusterSums(3)
        sums.add(rows[rng.permutation(600)[:300]])
        found = sums.residuals(NOTHING)
        errors.append(np.concatenate([found.mean - mean, found.std - std]))
        said.append(found.deviation * math.sqrt(0.5 / 300))
    averaged = np.sqrt(np.mean(np.square(said), axis=0))
    np.testing.assert_allclose(averaged, np.std(errors, axis=0), rtol=0.08)


# ---------------------------------------------------------------- intervals


def _residuals(deviation, correlation=None, skewness=0.0, n=1_000_000):
    half = len(deviation) // 2
    return Residuals(
        n,
        np.full(half, 0.5),
        np.full(half, 0.2),
        np.asarray(deviation, np.float64),
        np.full(len(deviation), skewness),
        correlation,
    )


NORMAL = NormalDist()
HUGE = 1 << 60


def _alone(level):
    """The half width for one estimate of deviation 1 in a million files, none for the other."""
    widths, _ = half_widths(_residuals([1.0, 0.0], np.eye(2)), HUGE, 0.9, level)
    return float(widths[0]) * 1000


def test_one_interval_is_the_normal_one():
    for level in (0.05, 0.01):
        assert _alone(level) == pytest.approx(NORMAL.inv_cdf(1 - level / 2), rel=0.02)


@pytest.mark.long
def test_several_intervals_hold_together():
    """Independent ones are Šidák's; of errors that go together one is enough."""
    level = 0.05
    sidak = NORMAL.inv_cdf(0.5 + 0.5 * (1 - level) ** (1 / 6))
    widths, _ = half_widths(_residuals(np.ones(6), np.eye(6)), HUGE, 0.9, level)
    np.testing.assert_allclose(widths * 1000, sidak, rtol=0.02)
    widths, _ = half_widths(_residuals(np.ones(6), np.ones((6, 6))), HUGE, 0.9, level)
    np.testing.assert_allclose(widths * 1000, NORMAL.inv_cdf(0.975), rtol=0.02)
    widths, _ = half_widths(_residuals(np.ones(6)), HUGE, 0.9, level)  # not known: on the safe side
    np.testing.assert_allclose(widths * 1000, sidak, rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("known", [True, False])
def test_intervals_are_cut_at_what_was_asked_and_still_hold(known):
    """The widest one takes what it needs of the level, and no more than was asked."""
    deviation = np.array([1.0, 0.7, 0.5, 0.2])
    found = _residuals(deviation, np.eye(4) if known else None)
    plenty, _ = half_widths(found, HUGE, 0.9, 0.05)
    asked = float(plenty[0]) * 0.97
    widths, _ = half_widths(found, HUGE, asked, 0.05)
    assert widths[0] == asked
    assert (widths <= asked).all()
    inside = math.prod(
        2 * NORMAL.cdf(w * 1000 / d) - 1 for w, d in zip(widths, deviation, strict=True)
    )
    assert inside == pytest.approx(0.95, abs=0.006)
    assert half_widths(found, HUGE, asked / 2, 0.05)[0] is None


@pytest.mark.parametrize("known", [True, False])
def test_how_many_files_would_do(known):
    """With that many, and the same residuals, the intervals are narrow enough; with fewer not."""
    joint = np.full((4, 4), 0.5) + 0.5 * np.eye(4) if known else None
    for whole in (3000, 100_000, HUGE):
        found = _residuals([0.1, 0.1, 0.05, 0.05], joint, n=500)
        none, wanted = half_widths(found, whole, 0.004, 0.04)
        assert none is None
        # (the widening for t is that of 500 files, so it is kept)
        at = dataclasses.replace(found, n=wanted)
        scale = (1 + _t(500)) / (1 + _t(wanted))
        at = dataclasses.replace(at, deviation=at.deviation * scale)
        assert half_widths(at, whole, 0.004, 0.04)[0] is not None
        fewer = dataclasses.replace(at, n=int(wanted * 0.99))
        assert half_widths(fewer, whole, 0.004, 0.04)[0] is None


def _t(n):
    z = NORMAL.inv_cdf(0.5 + 0.5 * 0.96 ** (1 / 4))
    return (z * z + 1) / 4 / n


@pytest.mark.long
def test_skewed_residuals_get_wider_intervals_that_hold():
    """Means of exponential numbers: the plain interval misses too often, the wider one does not."""
    rng, n, level = np.random.default_rng(0), 60, 0.05
    means = rng.exponential(size=(40_000, n))
    t = (means.mean(axis=1) - 1) / (means.std(axis=1, ddof=1) / math.sqrt(n))
    widths, _ = half_widths(_residuals([1.0, 0.0], np.eye(2), 2.0, n), HUGE, 0.9, level)
    plain, _ = half_widths(_residuals([1.0, 0.0], np.eye(2), 0.0, n), HUGE, 0.9, level)
    assert (np.abs(t) > plain[0] * math.sqrt(n)).mean() > 1.15 * level
    assert (np.abs(t) > widths[0] * math.sqrt(n)).mean() < 1.03 * level


def test_equal_channels_do_no_harm():
    """Gray pictures in color: correlations of exactly 1."""
    rows = _rows(np.random.default_rng(0), 300, 1)
    sums = ClusterSums(3)
    sums.add(np.repeat(rows, 3, axis=1))
    widths, _ = half_widths(sums.residuals(NOTHING), 1000, 0.3, 0.05)
    assert widths is not None
    np.testing.assert_allclose(widths[:3], widths[0])


# ---------------------------------------------------------------- coverage

SIMULATED = [
    ("cifar", 2000, 0.01),
    ("cifar", 20_000, 0.01),
    ("mnist", 20_000, 0.003),
    ("sizes, lognormal 1", 5000, 0.02),
    ("darker when larger", 5000, 0.02),
    ("brightness, lognormal", 5000, 0.02),
    ("half are black", 5000, 0.02),
    ("1 % are white", 5000, 0.02),
    ("black, 0.5 % white", 20_000, 0.02),
    ("textures, 1 % white", 5000, 0.02),
    ("giants", 5000, 0.02),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "files", "asked"), SIMULATED)
def test_intervals_hold(name, files, asked):
    """At least 95 % of 80 trials, less three standard deviations of their share."""
    found = bench.simulate(name, asked, 80, files=files)
    assert found.coverage >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 80)
    assert found.complete < 0.5 or name == "giants"


@pytest.mark.long
def test_a_quarter_of_a_hundred_thousand_pictures_is_enough():
    """The goal: within 0.002 on 100,000 pictures like CIFAR-10's."""
    found = bench.simulate("cifar", 0.002, 20)
    assert found.most <= 0.25
    assert found.coverage >= 0.8


def test_the_page_shows_the_table_of_the_simulation(capsys, monkeypatch):
    """Every row of it, and the simulation writes them."""
    page = (Path(__file__).parents[1] / "docs" / "estimates.md").read_text(encoding="utf-8")
    rows = page.split("| population |")[1].split("\n\n")[0].splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == [f"{asked:g}" for _, _, asked in bench.TABLE]
    assert all(float(row.rstrip("| %").split(" ")[-1]) >= 95 for row in rows)
    monkeypatch.setattr(sys, "argv", ["within.py", "--trials", "1", "--only", "textures"])
    bench.main()
    assert capsys.readouterr().out.splitlines()[-1].startswith("| textures | 100,000 | 0.005 | 1.")


def test_few_files_are_all_read():
    for files in (1, 2, 50, 99):
        found = bench.simulate("cifar", 0.01, 3, files=files)
        assert (found.read, found.complete, found.coverage) == (1, 1, 1)


def test_pixels_are_not_independent():
    """The check can fail: intervals of independent pixels would nearly never hold."""
    rng = np.random.default_rng(0)
    held = bench.cifar(rng, 20_000)
    mean, std = held.truth()
    hits = 0
    for _ in range(50):
        seen = held.rows[rng.permutation(20_000)[:1000]].sum(axis=0)
        error = np.abs(seen[:, 1] / seen[:, 0] - mean)
        hits += bool((error <= 2.64 * std / np.sqrt(seen[:, 0])).all())
    assert hits < 10


@pytest.mark.long
def test_stopping_when_the_numbers_please_is_dishonest():
    """The check can fail: looks after every file with a plain interval stop far too early."""
    rng, hits = np.random.default_rng(0), 0
    held = bench.POPULATIONS["black, 0.5 % white"](rng, 5000)
    truth = held.mean[:, 0].mean()
    for _ in range(100):
        seen = held.mean[rng.permutation(5000), 0]
        counts = np.arange(1, 5001)
        average = np.cumsum(seen) / counts
        spread = np.sqrt(np.maximum(np.cumsum(seen**2) / counts - average**2, 0) / counts)
        n = 10 + int(np.argmax(1.96 * spread[10:] <= 0.002))
        hits += abs(average[n] - truth) <= 0.002
    assert hits < 20


def test_looks_are_few_and_grow():
    held = bench.cifar(np.random.default_rng(0), 50_000)
    sums, read = ClusterSums(3), []

    def more(n):
        sums.add(held.rows[sums.n : n])
        read.append(n)
        return Seen(sums, np.zeros(3), np.ones(3))

    looks, widths = sample_size(50_000, 0.004, more)
    assert list(looks) == read == sorted(set(read))
    assert 2 <= len(looks) <= 6
    assert (widths <= 0.004).all()


@pytest.mark.parametrize("low", [0.0, 1.0])
def test_a_channel_without_spread_is_not_believed(low):
    """All values equal so far says nothing of the std: one file in a thousand could change it."""
    rows = np.ones((5000, 1, 3)) * [[100.0, 100 * low, 100 * low]]
    sums = ClusterSums(1)

    def more(n):
        sums.add(rows[sums.n : n])
        return Seen(sums, np.array([low]), np.array([low]))

    looks, widths = sample_size(5000, 0.002, more)
    assert looks[-1] == 5000
    assert widths is None
    sums = ClusterSums(1)
    looks, widths = sample_size(5000, 0.2, more)
    assert looks[-1] < 1000
    assert widths.tolist() == [0.2, 0.2]


# ---------------------------------------------------------------- sums of one file


@given(arrays(st.tuples(st.integers(1, 6), st.integers(1, 3))), st.sampled_from([0, -3, 0.5]))
def test_sums_of_a_file_are_rounded_once(array, low):
    """For every dtype: against rationals."""
    statistics = (Histogram if array.dtype.name in COUNTED else Moments).of(array)
    limits = (low, low + 1000.25)
    found = unit_sums(statistics, limits)
    span = Fraction(limits[1]) - Fraction(limits[0])
    for j, column in enumerate(array.T):
        values = [Fraction(float(v)) if array.dtype.kind not in "iub" else Fraction(int(v))
                  for v in column if np.isfinite(np.float64(v))]  # fmt: skip
        units = [(v - Fraction(limits[0])) / span for v in values]
        expected = [len(values), sum(units), sum(u * u for u in units)]
        for value, true in zip(found[j].tolist(), expected, strict=True):
            exact = _float(true)
            assert value == exact or abs(value - exact) <= 4e-16 * abs(exact)


def _float(value):
    try:
        return float(value)
    except OverflowError:
        return math.inf


def test_what_is_kept_of_a_file_travels():
    keep = pickle.loads(pickle.dumps(KeepSums((0, 255))))
    part_of = Item(np.zeros((2, 2, 3), np.uint8), "a.png")
    assert keep(part_of, None) == ("a.png", None)
    assert keep.alone(4096)
    with pytest.raises(zm.PatternError, match=r"up to 4,096 kept entries, .* keeps 4,097; a mean"):
        keep.alone(4097)


# ---------------------------------------------------------------- measuring


def test_an_estimate_reads_a_part_and_is_right(folder, estimate):
    said = estimate.estimate
    assert said.files < said.of_files == FILES
    assert estimate.provenance.items == said.files == said.looks[-1]
    assert estimate.provenance.sources == (f"{folder} (an {said.short})",)
    exact = zm.measure(folder)
    assert exact.estimate is None
    assert (abs(estimate.mean - exact.mean) <= said.mean_half_width).all()
    assert (abs(estimate.std - exact.std) <= said.std_half_width).all()
    assert (said.unit_mean_half_width <= 0.012).all()
    assert said.scale == 255
    np.testing.assert_array_equal(said.mean_half_width, said.unit_mean_half_width * 255)


def test_the_sample_is_the_first_files_in_random_order(folder, estimate):
    """Measuring just those files gives the same numbers."""
    source = ImageFiles(folder)
    names = [entry.name for entry in source.entries()]
    chosen = [names[i] for i in random_order(names)[: estimate.estimate.files]]
    by_hand = zm.measure([folder / name for name in chosen])
    assert by_hand == estimate
    assert by_hand.provenance.digest == estimate.provenance.digest


@pytest.mark.parametrize("run", [Run(1), Run(3), Run(executor="processes:2")])
def test_the_estimate_does_not_depend_on_who_measures(folder, estimate, run):
    again = zm.measure(folder, within=0.012, workers=run.workers, executor=run.executor)
    assert again == estimate
    assert again.estimate == estimate.estimate
    assert again.to_json() == estimate.to_json()


def test_a_sample_of_everything_is_exact(folder):
    """Bit for bit what measuring gives, and without a mark."""
    whole = zm.measure(folder, within=0.0005)
    assert whole.estimate is None
    assert whole.to_json() == zm.measure(folder).to_json()
    assert "estimate" not in json.loads(whole.to_json())


def test_larger_samples_hold_smaller_ones(folder):
    small = zm.measure(folder, within=0.02)
    large = zm.measure(folder, within=0.012)
    exact = [dataclasses.replace(p, estimate=None) for p in (small, large)]
    rest = exact[1] - exact[0]  # raises if it were no part
    assert rest.provenance.items == large.estimate.files - small.estimate.files > 0


def test_progress_tells_how_many_will_be_read(folder):
    seen = []
    profile = zm.measure(folder, within=0.012, progress=seen.append)
    assert [p.items for p in seen] == sorted(p.items for p in seen)
    assert seen[-1].items == seen[-1].total_items == profile.estimate.files
    assert all(p.total_items in profile.estimate.looks for p in seen)


def test_files_that_cannot_be_read_leave_the_population(folder, tmp_path):
    """Broken files count as empty ones: the estimate is that of the readable ones."""
    rng = np.random.default_rng(1)
    for i in range(600):
        path = tmp_path / f"{i:04}.png"
        if i % 5 == 0:
            path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
        else:
            Image.fromarray(_picture(rng, rng.normal(120, 15))).save(path)
    with pytest.warns(SkippedWarning):
        profile = zm.measure(tmp_path, within=0.02)
    with pytest.warns(SkippedWarning):
        exact = zm.measure(tmp_path)
    said = profile.estimate
    assert profile.provenance.items + len(profile.provenance.skipped) == said.files < 600
    assert (abs(profile.mean - exact.mean) <= said.mean_half_width).all()
    assert (abs(profile.std - exact.std) <= said.std_half_width).all()
    with pytest.raises(zm.SourceError, match=r"\.png: "):
        zm.measure(tmp_path, within=0.02, strict=True)


def test_when_nothing_can_be_read_that_is_said(tmp_path):
    for i in range(300):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(zm.SourceError, match="none of 300 files could be measured"):
        zm.measure(tmp_path, within=0.1)


def test_pictures_of_several_kinds_are_refused_by_name(tmp_path):
    """As without a sample, and before all of it was read."""
    for i in range(300):
        shape = (4, 4, 3) if i % 2 else (4, 4)
        Image.fromarray(np.full(shape, i % 256, np.uint8)).save(tmp_path / f"{i}.png")
    seen = []
    with pytest.raises(zm.SourceError, match=r"different kinds cannot share .*\n  L uint8: "):
        zm.measure(tmp_path, within=0.02, colors="keep", progress=seen.append)
    assert seen[-1].items < 300
    with pytest.warns(SkippedWarning, match="not the chosen group L"):
        assert zm.measure(tmp_path, within=0.3, colors="keep", group="L").units.channels == "L"


def test_recordings_are_measured_on_the_range_that_is_given(tmp_path):
    """Signed integers: X is a share of the length of the range."""
    sound = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for i in range(300):
        level = rng.normal(0, 300)
        values = rng.normal(level, 2000, 200 + i % 50).clip(-32768, 32767).astype(np.int16)
        sound.write(tmp_path / f"{i}.wav", values, 8000)
    profile = zm.measure(tmp_path, within=0.01, range=(-32768, 32767))
    exact = zm.measure(tmp_path, range=(-32768, 32767))
    assert profile.estimate.scale == 65535
    assert profile.unit_mean is None
    assert (abs(profile.mean - exact.mean) <= profile.estimate.mean_half_width).all()
    with pytest.raises(zm.SourceError, match=r"not known for int16; give range=\(low, high\)"):
        zm.measure(tmp_path, within=0.01)


class _Blocks(ListedSource):
    """An array of 3,000 rows as 300 blocks of ten: entries are not items."""

    name, pattern, n_items = "blocks", Pattern.parse("n d -> d"), 3000

    def __init__(self, values):
        self.values = values

    def entries(self):
        return (Entry(f"rows {10 * i}", ()) for i in range(300))

    def shards_of(self, chosen):
        for i in chosen:
            yield _Block(self.values[10 * i : 10 * i + 10], f"rows {10 * i}")


@dataclasses.dataclass(frozen=True)
class _Block:
    values: np.ndarray
    name: str

    def items(self):
        yield Item(self.values, self.name, batched=True)


def test_blocks_of_an_array_are_no_files():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (3000, 2), dtype=np.uint8)
    source = _Blocks(values)
    whole, said = sampled(source, Plan(source.pattern), Run(1), 0.02)
    assert said.clusters == "blocks"
    assert said.of_files == 300
    assert str(said).startswith(f"estimate from {said.files} of 300 blocks: every mean")
    ((_, part),) = whole.partials.items()
    assert part.statistics.counts.sum() == said.files * 20


def test_another_seed_takes_other_files(folder):
    source = ImageFiles(folder)
    plan = Plan(source.pattern)
    pairs = [sampled(source, plan, Run(1), 0.012, seed=seed) for seed in range(3)]
    assert [said.seed for _, said in pairs] == [0, 1, 2]
    assert len({whole.record.digest for whole, _ in pairs}) == 3


@pytest.mark.long
def test_memory_does_not_grow_with_the_sample():
    """No more files are asked for at once than fit a fixed number of numbers."""
    asked = []
    values = np.random.default_rng(0).integers(0, 256, (3000, 2), dtype=np.uint8)
    source = _Blocks(values)
    plan = Plan(source.pattern, keep=KeepSums(None))
    plain = measurer(source, plan, Run(1))

    def some(chosen, target):
        asked.append(len(chosen))
        return plain(chosen, target)

    sampled(source, plan, Run(1), 0.02, some=some)
    assert asked[0] == 64  # before it is known how many features there are
    from zeromean.sampling import measuring

    sample = measuring._Sample(some, plan, np.arange(300))
    sample.sums = ClusterSums(4096)
    assert sample._at_once() * 3 * 4096 * 8 <= 16 << 20
    sample.sums = ClusterSums(1)
    assert sample._at_once() == 1 << 16


@pytest.mark.long
@pytest.mark.skipif(not CIFAR.exists(), reason="the pictures are not there")
def test_real_pictures_are_covered():
    """5,000 pictures of CIFAR-10 whose sums are known: 200 orders of files."""
    source = ImageFiles(CIFAR)
    names = [entry.name for entry in source.entries()]
    _, kept = measurer(source, Plan(source.pattern, keep=KeepSums(None)), Run())(
        range(len(names)), 0
    )
    by_name = {row.name: row.sums for row in kept}
    rows = np.stack([by_name[name] for name in names])
    channels = json.loads(TRUTH.read_text())["cifar10-train-5k"]["channels"]
    truth = np.array([[c[key] / 255 for c in channels] for key in ("mean", "std")]).ravel()
    hits = []
    for seed in range(200):
        order, sums = random_order(names, seed), ClusterSums(3)

        def more(n, order=order, sums=sums):
            sums.add(rows[order[sums.n : n]])
            return Seen(sums, np.zeros(3), np.ones(3))

        looks, widths = sample_size(len(names), 0.01, more)
        assert looks[-1] < 1100
        found = sums.residuals(NOTHING)
        error = np.abs(np.concatenate([found.mean, found.std]) - truth)
        hits.append(bool((error <= widths).all()))
    assert np.mean(hits) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 200)
    profile = zm.measure(CIFAR, within=0.01)
    assert (abs(profile.unit_mean - truth[:3]) <= profile.estimate.unit_mean_half_width).all()
    assert (abs(profile.unit_std - truth[3:]) <= profile.estimate.unit_std_half_width).all()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("asked", [0, -0.1, 1, 5, math.nan, math.inf, True, "0.1", None])
def test_what_is_no_share_is_refused(folder, asked):
    if asked is None:
        assert zm.measure(folder, within=None).estimate is None
        return
    with pytest.raises(zm.SourceError, match=r"within is .*; it is a share of the data's range"):
        zm.measure(folder, within=asked)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "class"}, "leave out by="),
        ({"covariance": True}, "leave out covariance="),
        ({"limit": 10}, "leave out limit="),
    ],
)
def test_what_a_sample_cannot_say_is_refused(folder, options, said):
    with pytest.raises(zm.SourceError, match=f"within= and .* do not go together: .*{said}"):
        zm.measure(folder, within=0.01, **options)


def test_data_that_is_no_files_is_refused(folder, tmp_path):
    pixels = np.zeros((10, 4, 4, 3), np.uint8)
    with pytest.raises(zm.SourceError, match="a random sample of files, and array is none of many"):
        zm.measure(pixels, "n h w c -> c", within=0.01)
    np.save(tmp_path / "x.npy", pixels)
    with pytest.raises(zm.SourceError, match="these are 2 of different kinds; measure them one by"):
        zm.measure([folder, tmp_path / "x.npy"], "n h w c -> c", within=0.01)


def test_large_mean_images_are_refused(tmp_path):
    for i in range(3):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(zm.PatternError, match=r"keeps 12,288; a mean image is measured from all"):
        zm.measure(tmp_path, "n h w c -> h w c", within=0.1)


def test_small_mean_images_are_not(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(1200):
        Image.fromarray(_picture(rng, 120, (2, 2))).save(tmp_path / f"{i}.png")
    profile = zm.measure(tmp_path, "n h w c -> h w c", within=0.03)
    said = profile.estimate
    exact = zm.measure(tmp_path, "n h w c -> h w c")
    assert said.files < 1200
    assert said.mean_half_width.shape == (2, 2, 3)
    assert (abs(profile.mean - exact.mean) <= said.mean_half_width).all()
    assert "estimate from" in repr(profile)


def test_estimates_do_not_add(folder, estimate):
    """The sentence says how to get what adds."""
    exact = zm.measure(folder)
    said = "cannot {} an estimate from .*; measure all files, without within="
    for first, second in ((estimate, estimate), (estimate, exact), (exact, estimate)):
        with pytest.raises(zm.MergeError, match=said.format("add")):
            _ = first + second
        with pytest.raises(zm.MergeError, match=said.format("subtract")):
            _ = first - second
    assert dataclasses.replace(estimate, estimate=None) + exact != exact


# ---------------------------------------------------------------- marks


def test_an_estimate_is_marked_wherever_it_is_shown(estimate):
    """In text, in a notebook, in the terminal, in the line to paste."""
    from zeromean.summary import paste_line, profile_text

    said = f"estimate from {estimate.estimate.files} of {FILES} files"
    text = profile_text(estimate, color=False, histogram=True)
    for shown in (repr(estimate), estimate._repr_html_(), text):
        assert said in shown
        assert shown.count("±") == 2
        assert "min, max and all else are of these files only" in shown
    assert paste_line(estimate).endswith(f"# {said}, within 0.012 of the range")
    assert f"{estimate.estimate.mean_half_width[0]:.3g}" in text


@pytest.mark.parametrize("kind", ["distribution", "three"])
def test_figures_say_it(folder, estimate, kind):
    """Behind the title, or in its place."""
    from zeromean.drawing import draw

    def written(profile, title):
        texts = draw(profile, kind, title).findobj(lambda artist: hasattr(artist, "get_text"))
        return [" ".join(text.get_text().split()) for text in texts]

    said = estimate.estimate.short
    assert said in written(estimate, "")
    assert f"train ({said})" in written(estimate, "train")
    assert "train" in written(zm.measure(folder), "train")


def test_exact_profiles_are_not_marked(folder):
    from zeromean.summary import paste_line, profile_text

    exact = zm.measure(folder)
    shown = [repr(exact), exact._repr_html_(), profile_text(exact, color=False, histogram=True)]
    shown += [paste_line(exact), exact.to_json(), repr(zm.standardize(exact))]
    assert not any("estimate" in text or "±" in text for text in shown)
    assert zm.standardize(exact).details == {}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_report_says_it(folder, estimate, lang):
    pytest.importorskip("jinja2")
    page, exact = zm.report(estimate, lang=lang), zm.report(zm.measure(folder), lang=lang)
    word = {"en": "estimates", "zh": "估计值"}[lang]
    assert page.count(f"<strong>{word}") + page.count(f"{word}</strong>") >= 1
    assert page.count(word) - exact.count(word) == 3  # on top, beside the table, before the code
    assert page.count(f"# {estimate.estimate.short}") == 4  # torchvision, NumPy, PyTorch, Keras
    assert page.count(">±<") == 2
    claim = {"en": "Mean and std are exact", "zh": "均值和标准差是精确的"}[lang]
    assert claim in exact
    assert claim not in page


def test_normalizers_of_an_estimate_say_so(estimate, tmp_path):
    """In print, in the file, after composing, in a model card and in code."""
    norm = zm.standardize(estimate)
    said = f"made of an estimate from {estimate.estimate.files} of {FILES} files"
    assert said in repr(norm)
    assert said in norm._repr_html_()
    norm.save(tmp_path / "norm.json")
    assert said in repr(zm.load(tmp_path / "norm.json"))
    assert zm.load(tmp_path / "norm.json").details == estimate.estimate.details
    other = zm.zero_mean(zm.measure(np.zeros((2, 1, 1, 3)), "n h w c -> c"))
    assert said_of(norm.then(other).details)
    for target, name in (("markdown", "card.md"), ("c", "norm.h"), ("numpy", "norm.py")):
        zm.export(norm, target, tmp_path / name)
        assert said in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", [zm.min_max, zm.mean_normalize, zm.max_abs, zm.robust])
def test_recipes_that_need_more_than_mean_and_std_warn(folder, estimate, recipe):
    with pytest.warns(
        ZeromeanWarning, match=rf"those of the {estimate.estimate.files} sampled fil"
    ):
        recipe(estimate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zm.standardize(estimate)
        recipe(zm.measure(folder))


def test_quantiles_of_the_source_are_not_those_of_a_sample(folder, estimate):
    with pytest.raises(zm.PatternError, match=r"this profile is an estimate from .*without within"):
        zm.robust(estimate, folder)


def test_a_feature_alone_keeps_its_interval(folder):
    profile = zm.measure(folder, within=0.02, feature_names=["r", "g", "b"])
    column = profile.column("g")
    assert column.estimate.mean_half_width == profile.estimate.mean_half_width[1]
    assert zm.standardize(column).details == profile.estimate.details


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("end", [".json", ".safetensors"])
def test_round_trip(estimate, end, tmp_path):
    estimate.save(tmp_path / f"a{end}")
    loaded = zm.load(tmp_path / f"a{end}")
    assert loaded == estimate
    assert loaded.estimate == estimate.estimate
    assert repr(loaded) == repr(estimate)
    loaded.save(tmp_path / f"b{end}")
    assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()
    assert pickle.loads(pickle.dumps(estimate)).estimate == estimate.estimate


def test_one_number_is_saved_as_one_number(folder, tmp_path):
    profile = zm.measure(folder, "n h w c ->", within=0.02)
    profile.save(tmp_path / "a.json")
    held = json.loads((tmp_path / "a.json").read_text())["estimate"]
    assert isinstance(held["mean_half_width"], float)
    assert zm.load(tmp_path / "a.json").estimate == profile.estimate


DAMAGE = [
    ("within", 0, "'estimate.within' is 0"),
    ("within", "0.01", "'estimate.within' must be"),
    ("within", None, "'estimate.within' must be"),
    ("confidence", 1.0, "'estimate.confidence' is 1.0"),
    ("files", 0, "'estimate.files' is 0 of 400"),
    ("files", 400, "'estimate.files' is 400 of 400"),
    ("files", True, "'estimate.files' must be int"),
    ("of_files", -1, "'estimate.of_files' is negative"),
    ("seed", -1, "'estimate.seed' is negative"),
    ("clusters", "pixels", "'estimate.clusters' is 'pixels'"),
    ("looks", [], "'estimate.looks' must hold growing numbers"),
    ("looks", [5, 5], "'estimate.looks' must hold growing numbers"),
    ("looks", [1.5], "'estimate.looks' must hold growing numbers"),
    ("looks", 5, "'estimate.looks' must be list"),
    (
        "unit_mean_half_width",
        [0.001, 0.001],
        "'estimate.unit_mean_half_width' must hold numbers of",
    ),
    ("unit_mean_half_width", [0.001, None, 0.1], "'estimate.unit_mean_half_width' must hold"),
    ("unit_std_half_width", [0.001, "x", 0.1], "'estimate.unit_std_half_width' must hold numbers"),
    (
        "unit_std_half_width",
        [0.001, [0.1], 0.1],
        "'estimate.unit_std_half_width' must hold numbers",
    ),
    ("unit_std_half_width", [-0.1, 0.0, 0.0], "'estimate.unit_std_half_width' must lie between"),
    ("unit_std_half_width", [0.5, 0.0, 0.0], "'estimate.unit_std_half_width' must lie between"),
    ("mean_half_width", [0.1, 0.1, 0.1], "'estimate.mean_half_width' does not follow"),
]


@pytest.mark.parametrize(("name", "value", "said"), DAMAGE)
def test_damage_is_named(estimate, name, value, said, tmp_path):
    document = json.loads(estimate.to_json())
    document["estimate"][name] = value
    _refused(document, said, tmp_path)
    del document["estimate"][name]
    _refused(document, f"estimate.{name}", tmp_path)


def _refused(document, said, tmp_path):
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(document))
    with pytest.raises(zm.FormatError) as caught:
        zm.load(path)
    assert said in str(caught.value)
    assert "damaged.json" in str(caught.value)


def test_an_estimate_cannot_be_made_exact_by_hand(estimate, tmp_path):
    """The mark is a part of what the checksum holds."""
    document = json.loads(estimate.to_json())
    held = document.pop("estimate")
    _refused(document, "field 'checksum' does not match", tmp_path)
    for change in ({"files": held["files"] + 1, "looks": [held["files"] + 1]}, {"seed": 7}):
        document["estimate"] = held | change
        _refused(document, "field 'checksum' does not match", tmp_path)
    document["estimate"] = []
    _refused(document, "field 'estimate' must be dict", tmp_path)


def test_an_estimate_without_a_range_is_refused(estimate, tmp_path):
    document = json.loads(estimate.to_json())
    document["range"] = None
    _refused(document, "field 'range' is null, but an estimate is a share", tmp_path)


@given(st.floats(1e-9, 0.9), st.floats(0, 1))
def test_half_widths_are_rounded_up(asked, share):
    """To six digits, and never above what was asked."""
    value = asked * share
    (found,) = rounded_up([value], asked, (1,)).tolist()
    assert found <= asked
    assert found >= value * (1 - 1e-12)
    assert found <= value * (1 + 1.001e-5)


def test_estimates_compare_by_value(estimate):
    said = estimate.estimate
    assert said == dataclasses.replace(said)
    assert said != dataclasses.replace(said, seed=1)
    assert said != "an estimate"
    assert isinstance(said, Estimate)


# ---------------------------------------------------------------- with a ledger


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "sample.ledger"


def _read(run):
    """The result, and the number of items that were read."""
    seen = []
    lock = threading.Lock()

    def note(progress):
        with lock:
            seen.append(progress)

    profile = run(note)
    return profile, max((p.items for p in seen), default=0)


def test_a_ledger_goes_on_from_the_sample_to_all(folder, estimate, ledger):
    """Nothing is read twice, and each answer is what it is without a ledger."""
    first, n = _read(lambda p: zm.measure(folder, within=0.012, ledger=ledger, progress=p))
    assert first == estimate
    assert first.estimate == estimate.estimate
    assert first.provenance.digest == estimate.provenance.digest
    assert n == estimate.estimate.files
    again, n = _read(lambda p: zm.measure(folder, within=0.012, ledger=ledger, progress=p))
    assert (again, n) == (first, 0)
    assert again.estimate == first.estimate
    whole, n = _read(lambda p: zm.measure(folder, ledger=ledger, progress=p))
    assert n == FILES - estimate.estimate.files
    assert whole == zm.measure(folder)
    assert whole.estimate is None
    known, n = _read(lambda p: zm.measure(folder, within=0.012, ledger=ledger, progress=p))
    assert (known, n) == (estimate, 0)


def test_broken_files_are_known_to_the_ledger(tmp_path, ledger):
    data, rng = tmp_path / "data", np.random.default_rng(0)
    data.mkdir()
    for i in range(300):
        Image.fromarray(_picture(rng, 120)).save(data / f"{i}.png")
        if i % 4 == 0:
            (data / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.warns(SkippedWarning):
        plain = zm.measure(data, within=0.03)
    for _ in range(2):
        with pytest.warns(SkippedWarning):
            kept = zm.measure(data, within=0.03, ledger=ledger)
        assert kept == plain
        assert kept.estimate == plain.estimate
        assert kept.provenance.skipped == plain.provenance.skipped


def test_states_that_are_too_large_for_a_ledger_are_measured_without(tmp_path, ledger):
    """16-bit pictures of noise: the ledger holds sums of many files, of which none can be told."""
    data, rng = tmp_path / "data", np.random.default_rng(0)
    data.mkdir()
    for i in range(160):
        pixels = rng.integers(0, 65536, (200, 200), dtype=np.uint16)
        Image.fromarray(pixels).save(data / f"{i}.png")
    options = {"within": 0.3, "colors": "keep"}
    plain = zm.measure(data, **options)
    kept = zm.measure(data, ledger=ledger, **options)
    assert plain.estimate is not None
    assert kept == plain
    assert kept.estimate == plain.estimate


# ---------------------------------------------------------------- command line


def run_cli(*args, tmp_path):
    runner = CliRunner(env={"ZEROMEAN_CACHE": str(tmp_path / "cache")})
    return runner.invoke(main, [str(a) for a in args])


def test_the_command_line_shows_and_saves_it(folder, estimate, tmp_path):
    out = tmp_path / "some.json"
    result = run_cli("measure", folder, "--within", "0.012", "-o", out, tmp_path=tmp_path)
    assert result.exit_code == 0, result.output
    said = f"estimate from {estimate.estimate.files} of {FILES} files: every mean and std is within"
    assert said in result.output
    assert zm.load(out) == estimate
    shown = run_cli("show", out, tmp_path=tmp_path)
    assert said in shown.output
    assert "# estimate from" in shown.output
    printed = run_cli("measure", folder, "--within", "0.012", "--json", "-q", tmp_path=tmp_path)
    assert json.loads(printed.stdout)["estimate"]["within"] == 0.012
    refused = run_cli("measure", folder, "--within", "0.01", "--limit", "5", tmp_path=tmp_path)
    assert refused.exit_code == 2
    assert "do not go together" in refused.output
