"""What is but a bound is said and drawn as one; where the rates end, nothing is called slower."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeromean.convergence import benchmarks
from zeromean.convergence.outcomes import outcomes_of
from zeromean.convergence.races import Course, Entrant, Race, Runs
from zeromean.convergence.rates import first_stay, median_steps
from zeromean.convergence.results import SMALLEST_EFFECT
from zeromean.convergence.schedule import Schedule
from zeromean.convergence.watching import Limits, Watch
from zeromean.figures.ratios import Ratio, all_ratios, predicted_ratios

pytest.importorskip("scipy")

COURSE = Course(100, 1, 2, 1)
TARGET = 1.0


def runs(*steps):
    """At rates 1, 2, 4, ...: the target is reached after these updates, by all of three seeds."""
    made = Runs(COURSE)
    for k, needed in enumerate(steps):
        loss = np.where(np.arange(101) >= needed, 0.5, 2.0)
        made.losses[2.0**k] = [loss] * 3
    return made


def outcome(base, own):
    """The outcome of the second of two sides, without a control."""
    sides = [(Entrant(key, key, lambda *_: np.array([]), 1.0), made)
             for key, made in (("original", base), ("own", own))]  # fmt: skip
    return outcomes_of(sides, TARGET, "", {})[1]


INSIDE, QUICK, SLOW, MISSED = (30, 20, 30), (20, 5, 20), (90, 60, 90), (999, 999, 999)


@pytest.mark.parametrize(
    ("base", "own", "bound", "verdict"),
    [
        (INSIDE, QUICK, "", "faster"),
        (INSIDE, SLOW, "", "slower"),
        (INSIDE, (90, 70, 60), "at least", "not shown"),  # quicker still beyond the last rate?
        (INSIDE, (60, 70, 90), "at least", "not shown"),
        (INSIDE, (20, 10, 5), "at least", "faster"),
        ((40, 30, 20), QUICK, "at most", "not shown"),  # the base may be quicker beyond
        ((40, 30, 20), SLOW, "at most", "slower"),
        ((40, 30, 20), (90, 70, 60), "unknown", "not shown"),
        (INSIDE, MISSED, "unknown", "not shown"),  # the first of equally bad rates: an edge
        (MISSED, QUICK, "unknown", "not shown"),
        (INSIDE, (20, 1, 20), "at least", "faster"),
    ],
)
def test_where_the_rates_end_there_are_but_bounds(base, own, bound, verdict):
    """The smallest or largest rate of the grid may not be the best one there is."""
    found = outcome(runs(*base), runs(*own))
    assert (found.bound, found.verdict) == (bound, verdict)


def test_the_base_is_compared_with_nothing():
    """Where its best rate lies at the edge, too, its own row is exactly 1."""
    entrant = Entrant("original", "original", lambda *_: np.array([]), 1.0)
    (base,) = outcomes_of([(entrant, runs(40, 30, 20))], TARGET, "", {})
    assert base.edge
    assert (base.speedup, base.bound, base.verdict) == (1, "", "base")


# ---------------------------------------------------------------- runs are not cut too early


def test_a_high_swing_is_not_the_end():
    """A net may jump to many times its first loss and then learn: only what overflows is lost."""
    watch = Watch(Limits(60, 5, None, lambda: None))
    swing, lost = [1.0, 40.0, *[0.5] * 11], [1.0, np.inf, *[0.5] * 11]
    for check, losses in enumerate(zip(swing, lost, strict=True)):
        watch.check(5 * check, np.array(losses))
    assert first_stay(watch.history(), TARGET).tolist() == [2, -1]


def watched(table):
    """Runs that arrive after `table[rate][seed]` updates, and end as `Watch` says."""

    def run(seed, rates, limits):
        watch = Watch(limits)
        for step in range(0, limits.max_steps + 1, limits.every):
            needed = [table[rate][seed % 4] for rate in rates]  # the pilot has a seed of its own
            if watch.check(step, np.where(step >= np.array(needed), 0.5, 2.0)):
                break
        return watch.history()

    return run


@pytest.mark.parametrize("draw", range(12))
def test_early_ends_change_no_number(draw):
    """The rates chosen and the updates counted are those of runs that were never ended early."""
    random, rates = np.random.default_rng(draw), [2.0**k for k in range(-20, 21)]
    middle = 20 + random.integers(-1, 2, (1, 4))
    needed = 5 * 2.0 ** np.abs(np.arange(41)[:, None] - middle)
    needed = np.where(random.random((41, 4)) < 0.3, 9 * needed, needed)  # some seeds straggle
    table = dict(zip(rates, needed.tolist(), strict=True))
    course = Course(120, 1, 1, 1)
    race = Race(course, 4, Schedule(600.0, 1))
    race.target = TARGET
    found = race.enter(Entrant("own", "own", watched(table), 1.0))
    whole = Runs(course)
    for rate in found.rates:
        limits = Limits(120, 1, None, lambda: None)
        whole.losses[rate] = [watched(table)(seed, [rate], limits)[:, 0] for seed in range(4)]
    chosen = whole.chosen(TARGET)
    assert found.chosen(TARGET).tolist() == chosen.tolist()
    seeds = np.arange(4)
    assert (found.steps(TARGET)[0] == whole.steps(TARGET)[0])[chosen, seeds].all()
    assert not found.ended_early(TARGET)[chosen].any()


def test_a_seed_that_never_arrived_is_not_the_fastest():
    """It stands at the end of the median, and counts as all updates allowed in the ratio."""
    needed = [40, 50, 60, 60, 70, 80, 90, None]

    def loss(n):
        return np.array([2.0, np.inf]) if n is None else np.where(np.arange(101) >= n, 0.5, 2.0)

    own, base = Runs(COURSE), Runs(COURSE)
    for rate in (1.0, 2.0, 4.0):
        far = 999 * (rate != 2)
        own.losses[rate] = [loss(n if n is None else n + far) for n in needed]
        base.losses[rate] = [loss(10 + far)] * 8
    found = outcome(base, own)
    assert found.steps == tuple(needed)
    assert (found.median_steps, found.unreached, found.bound) == (65, 1, "at most")
    logs = np.log([10 / (n or COURSE.max_steps) for n in needed])
    assert found.speedup == pytest.approx(np.exp(logs.mean()))
    assert not found.median_open


@pytest.mark.parametrize(("steps", "median"), [([3, 5, -1], 5), ([3, -1], 80), ([-1, -1, 2], 80)])
def test_medians_count_the_unreached_as_infinite(steps, median):
    assert median_steps(steps, 80) == median


# ---------------------------------------------------------------- the grid of rates


def parabola(best, seen):
    """A side that is quickest at one rate, and twice as slow an octave away."""

    def run(seed, rates, limits):
        seen.update(rates)
        needed = [20 * 2 ** abs(np.log2(rate / best)) for rate in rates]
        return np.stack([np.where(np.arange(101) >= n, 0.5, 2.0) for n in needed], axis=1)

    return run


@pytest.mark.parametrize("best", [0.7, 1.0, 1.19, 1.3, 1.41])
def test_no_full_batch_side_wins_by_the_grid_alone(best):
    """Its best rate is found to within less than what is called a difference."""
    course = replace(benchmarks._GD, max_steps=100)
    seen = set()
    race = Race(course, 3, Schedule(600.0))
    race.target = TARGET
    found = race.enter(Entrant("own", "own", parabola(best, seen), 1.0))
    chosen = {found.rates[i] for i in found.chosen(TARGET)}
    assert all(1 / SMALLEST_EFFECT < rate / best < SMALLEST_EFFECT for rate in chosen)
    assert 2 ** (1 / course.finest) < SMALLEST_EFFECT


def test_what_differs_in_scale_alone_has_the_rates_of_the_base():
    """So the same path is found, wherever the scale puts it."""
    race = Race(replace(benchmarks._GD, max_steps=100), 3, Schedule(600.0))
    race.target = TARGET
    base = race.enter(Entrant("original", "", parabola(1.3, set()), 1.0))
    best = [base.rates[i] for i in base.chosen(TARGET)]
    unit = 7.06
    scaled = Entrant("original_255", "", parabola(1.3 * unit, set()), 1.0, near=unit)
    found = race.enter(scaled, [unit * rate for rate in best])
    assert [found.rates[i] for i in found.chosen(TARGET)] == pytest.approx(
        [unit * rate for rate in best]
    )
    assert (found.steps(TARGET)[0].min(axis=0) == base.steps(TARGET)[0].min(axis=0)).all()


# ---------------------------------------------------------------- figures

RATIO = Ratio("zero-mean", 10.0, 5.0, 20.0, predicted=9.0)


@pytest.mark.parametrize(
    ("bound", "across", "upright"),
    [("at least", "→", "↑"), ("at most", "←", "↓"), ("unknown", "?", "?")],
)
def test_bounds_are_drawn_without_an_interval(bound, across, upright):
    """An arrow says which way the truth lies; a bar on both sides would say something else."""
    pytest.importorskip("matplotlib")
    from matplotlib.collections import LineCollection

    open_end = replace(RATIO, bound=bound)
    for ratio, segments in ((RATIO, 1), (open_end, 0)):
        axes = all_ratios([("race", (0.9, 1.1), [ratio])]).axes[0]
        drawn = [c for c in axes.collections if isinstance(c, LineCollection)]
        assert len(drawn) == segments
        assert [t.get_text() for t in axes.texts] == ([across] if ratio.bound else [])
        axes = predicted_ratios([ratio]).axes[0]
        drawn = [c for c in axes.collections if isinstance(c, LineCollection)]
        assert len(drawn) == segments
        assert [t.get_text() for t in axes.texts] == ([upright] if ratio.bound else [])
