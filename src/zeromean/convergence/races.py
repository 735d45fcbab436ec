"""One model, all variants, each at its own best learning rate: who needs how many updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeromean.convergence.rates import (
    at_edge,
    chosen_without,
    first_stay,
    grid,
    level_reached,
)
from zeromean.convergence.schedule import Schedule
from zeromean.convergence.watching import Limits

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_PILOT = 1_000_003  # a seed that no study uses otherwise
_EXTENSIONS = 4
_WORST = 10.0
_SLACK = 1 + 1e-6  # a target that equals a loss to the last bit would hang on rounding


@dataclass(frozen=True)
class Entrant:
    """One side of a race.

    Attributes
    ----------
    key, label : str
    run : callable
        (seed, rates, limits) to losses (checks, rates).
    guess : float
        A learning rate to begin the search with.
    near : float
        For what differs from the base in scale or sign alone: its best rates are those of the base
        times this, and so is its grid of rates. 0 for all others.
    """

    key: str
    label: str
    run: Callable[[int, list[float], Limits], Floats]
    guess: float
    near: float = 0.0


@dataclass(frozen=True)
class Course:
    """What all entrants share.

    Attributes
    ----------
    max_steps, every : int
        Updates allowed, and updates between checks.
    per_octave : int
        Points of the grid of learning rates in a factor of two.
    reach : int
        How many factors of four the first search goes to each side of the guess.
    floor : float
        The target is not lower: a loss near 0 is another story, of separable classes.
    part : float
        The base reaches the target in this part of the updates allowed.
    fine : int
        Points in a factor of two beside the chosen rates; 0 for `per_octave`.
    """

    max_steps: int
    every: int
    per_octave: int
    reach: int
    floor: float = 0.0
    part: float = 0.75
    fine: int = 0

    @property
    def finest(self) -> int:
        """Points in a factor of two where it matters."""
        return max(self.fine, self.per_octave)


@dataclass
class Runs:
    """All runs of one entrant: losses by rate and seed."""

    course: Course
    losses: dict[float, list[Floats]] = field(default_factory=dict)

    @property
    def rates(self) -> list[float]:
        """In increasing order."""
        return sorted(self.losses)

    def steps(self, target: float) -> tuple[Ints, Ints]:
        """Updates to the target (−1: not reached) and updates tried, each (rates, seeds)."""
        every = self.course.every
        index = [[int(first_stay(one, target)) for one in self.losses[r]] for r in self.rates]
        reached = np.array(index)
        tried = np.array([[(len(one) - 1) * every for one in self.losses[r]] for r in self.rates])
        return np.where(reached < 0, -1, np.maximum(reached * every, 1)), np.maximum(tried, 1)

    def chosen(self, target: float, *, hopeful: bool = False) -> Ints:
        """For each seed the index of the rate that was best on the others.

        What was not reached counts as all updates allowed or more; where `hopeful`, a run that was
        ended early counts as if it had arrived right then.
        """
        steps, tried = self.steps(target)
        levels = np.array([[float(level_reached(o)) for o in self.losses[r]] for r in self.rates])
        # Where nothing is reached, nearer to the target is better: the search knows where to go.
        missed = self.course.max_steps * np.minimum(np.maximum(levels, target), _WORST * target)
        missed /= target
        if hopeful:
            missed = np.where(self.ended_early(target), tried, missed)
        return chosen_without(np.where(steps < 0, missed, steps))

    def ended_early(self, target: float) -> Bools:
        """Runs that might still reach the target with all updates allowed, (rates, seeds)."""
        steps, tried = self.steps(target)
        lost = np.array([[not np.isfinite(o[-1]) for o in self.losses[r]] for r in self.rates])
        early: Bools = (steps < 0) & (tried + self.course.every <= self.course.max_steps) & ~lost
        return early

    def own_target(self) -> float:
        """The lowest loss that every seed reaches at one rate, in a part of the updates."""
        checks = int(self.course.part * self.course.max_steps / self.course.every) + 1
        levels = [
            max(float(level_reached(one[:checks])) for one in self.losses[r]) for r in self.rates
        ]
        return max(min(levels), self.course.floor) * _SLACK


class Race:
    """Runs entrants one after the other; the first one is the base and sets the target.

    Parameters
    ----------
    course : Course
    seeds : int
    schedule : Schedule
    """

    def __init__(self, course: Course, seeds: int, schedule: Schedule) -> None:
        self.course, self._seeds, self._schedule = course, range(seeds), schedule
        self.target: float | None = None

    def enter(self, entrant: Entrant, near: Sequence[float] = ()) -> Runs:
        """All seeds of an entrant, on a window of the grid that holds its best rates inside.

        Parameters
        ----------
        entrant : Entrant
        near : sequence of float
            Where to look first; otherwise a first search by another seed finds out.

        Raises
        ------
        OutOfTimeError
        """
        step = 2 ** (1 / self.course.per_octave)
        if near:
            unit, finest = entrant.near or 1.0, self.course.finest
            ends = min(near) / unit / step, max(near) / unit * step
            first = [unit * rate for rate in grid(*ends, finest)]
        else:
            best = self._pilot(entrant)
            first = grid(best / step**2, best * step**2, self.course.per_octave)
        runs = Runs(self.course)
        self._run(entrant, runs, first, self._seeds)
        self._extend(entrant, runs, step)
        if not near:
            self._refine(entrant, runs)
        if self.target is None:
            self.target = runs.own_target()
        self._finish(entrant, runs, self.target)
        return runs

    def _extend(self, entrant: Entrant, runs: Runs, step: float) -> None:
        """Go on where a chosen rate is the smallest or largest that was tried."""
        for _ in range(_EXTENSIONS):
            below, above = at_edge(runs.chosen(self._target_of(runs)), len(runs.losses))
            if not (below or above):
                return
            more = [runs.rates[0] / step**k for k in (2, 1) if below]
            more += [runs.rates[-1] * step**k for k in (1, 2) if above]
            self._run(entrant, runs, self._points(entrant, more), self._seeds)

    def _refine(self, entrant: Entrant, runs: Runs) -> None:
        """Also the rates right beside the chosen ones: no side shall win by the grid alone."""
        step = 2 ** (1 / self.course.finest)
        chosen = {runs.rates[i] for i in runs.chosen(self._target_of(runs))}
        beside = self._points(entrant, [r * by for r in chosen for by in (1 / step, step)])
        missing = [rate for rate in beside if rate not in runs.losses]
        if missing:
            self._run(entrant, runs, missing, self._seeds)

    def _points(self, entrant: Entrant, rates: Sequence[float]) -> list[float]:
        """The rates moved to the grid, which goes along with the scale of the inputs."""
        unit = entrant.near or 1.0
        return [unit * r for r in grid_points([r / unit for r in rates], self.course.finest)]

    def bridge(self, entrant: Entrant, runs: Runs, ends: Sequence[float]) -> None:
        """Also run an entrant at the base's own rates, and at every octave in between.

        Its best rate stays what it was; but now both sides can be compared at one rate.

        Parameters
        ----------
        entrant : Entrant
        runs : Runs
            Of the entrant; rates are added.
        ends : sequence of float
            The rates of the base.
        """
        assert self.target is not None
        first, last = min(ends), runs.rates[0]
        octaves = [first * 2.0**k for k in range(1, 2 + max(0, round(np.log2(last / first))))]
        wanted = grid_points([*ends, *octaves], self.course.finest)
        steps, _ = runs.steps(self.target)
        whole = {r for r, row in zip(runs.rates, steps, strict=True) if (row >= 0).all()}
        missing = [rate for rate in wanted if rate not in whole]
        if missing:
            self._run(entrant, runs, missing, self._seeds, all_rates=True)
            self._finish(entrant, runs, self.target)

    def _finish(self, entrant: Entrant, runs: Runs, target: float) -> None:
        """Give all updates to every run that the choice of a rate could hang on.

        Runs end early where another rate is much quicker. As long as a rate would be chosen if
        such runs had arrived right then, they are run to their end: so the choice, and every
        number that counts, is that of runs without early ends.
        """
        while True:
            early, chosen = runs.ended_early(target), runs.chosen(target, hopeful=True)
            rows = sorted({int(i) for i in chosen if early[i].any()})
            if not rows:
                return
            self._run_on(entrant, runs, rows, early[rows])

    def _run_on(self, entrant: Entrant, runs: Runs, rows: list[int], early: Bools) -> None:
        """Run these rates to their end, for the seeds where they were ended early."""
        limits = Limits(self.course.max_steps, self.course.every, None, self._schedule.tick)
        rates, seeds = runs.rates, np.flatnonzero(early.any(axis=0)).tolist()
        wanted = {k: [rates[i] for i, cut in zip(rows, early[:, k], strict=True) if cut]
                  for k in seeds}  # fmt: skip
        done = self._schedule.each(lambda k: entrant.run(k, wanted[k], limits), seeds)
        for k, losses in zip(seeds, done, strict=True):
            for column, rate in enumerate(wanted[k]):
                runs.losses[rate][k] = losses[:, column]

    def _target_of(self, runs: Runs) -> float:
        return runs.own_target() if self.target is None else self.target

    def _pilot(self, entrant: Entrant) -> float:
        """The best rate of a coarse search with a seed of its own."""
        reach, runs = self.course.reach, Runs(self.course)
        rates = [entrant.guess * 4.0**k for k in range(-reach, reach + 1)]
        self._run(entrant, runs, grid_points(rates, self.course.per_octave), [_PILOT])
        doubled = Runs(self.course, {rate: ones * 2 for rate, ones in runs.losses.items()})
        return runs.rates[int(doubled.chosen(self._target_of(runs))[0])]

    def _run(
        self,
        entrant: Entrant,
        runs: Runs,
        rates: list[float],
        seeds: Sequence[int],
        *,
        all_rates: bool = False,
    ) -> None:
        course, tick = self.course, self._schedule.tick
        limits = Limits(course.max_steps, course.every, self.target, tick, all_rates)
        done = self._schedule.each(lambda seed: entrant.run(seed, rates, limits), seeds)
        for i, rate in enumerate(rates):
            runs.losses[rate] = [losses[:, i] for losses in done]


def grid_points(rates: Sequence[float], per_octave: int) -> list[float]:
    """Each rate moved to the grid."""
    return sorted({grid(rate, rate, per_octave)[0] for rate in rates})
