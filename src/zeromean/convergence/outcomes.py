"""Runs become outcomes: paired ratios, intervals, and verdicts that the A/A control allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeromean.convergence.intervals import ratio_interval
from zeromean.convergence.races import Entrant, Runs
from zeromean.convergence.rates import at_edge, median_steps
from zeromean.convergence.results import SMALLEST_EFFECT, Outcome, RatePoint

Ints = npt.NDArray[np.int64]
Band = tuple[float, float]
_Picked = tuple[Ints, Ints, int, bool]
NO_EFFECT: Band = (1.0, 1.0)


def outcomes_of(
    held: Sequence[tuple[Entrant, Runs]],
    target: float,
    control: str,
    predicted: dict[str, float],
) -> tuple[Outcome, ...]:
    """One outcome for each entrant, the base first.

    Parameters
    ----------
    held : sequence of (Entrant, Runs)
    target : float
    control : str
        Key of the A/A control; empty for none.
    predicted : dict of str to float

    Returns
    -------
    tuple of Outcome
    """
    base = _picked(held[0][1], target)
    band = NO_EFFECT
    for entrant, runs in held:
        if entrant.key == control:
            _, low, high = _ratio(base, _picked(runs, target))
            band = min(1.0, low), max(1.0, high)
    made = [
        _outcome(entrant, runs, target, base, band, predicted.get(entrant.key))
        for entrant, runs in held
    ]
    made[0] = replace(made[0], verdict="base", bound="")
    return tuple(replace(o, verdict="control") if o.variant == control else o for o in made)


def _picked(runs: Runs, target: float) -> _Picked:
    """Of each seed: index of its rate, updates (−1: not reached); updates allowed; any edge."""
    chosen = runs.chosen(target)
    steps, _ = runs.steps(target)
    seeds = np.arange(len(chosen))
    edge = any(at_edge(chosen, len(runs.rates)))
    return chosen, steps[chosen, seeds], runs.course.max_steps, edge


def _counted(picked: _Picked) -> Ints:
    """Updates, all that were allowed where the target was not reached: a bound."""
    return np.where(picked[1] < 0, picked[2], picked[1])


def _ratio(base: _Picked, own: _Picked) -> tuple[float, float, float]:
    return ratio_interval((_counted(base) / _counted(own)).tolist())


def _outcome(
    entrant: Entrant,
    runs: Runs,
    target: float,
    base: _Picked,
    band: Band,
    predicted: float | None,
) -> Outcome:
    picked = _picked(runs, target)
    chosen, steps, _, edge = picked
    speedup, low, high = _ratio(base, picked)
    every = max(1, runs.course.every)
    missed = bool((base[1] < 0).any()), bool((steps < 0).any())
    bound = _Open(*missed, base[3], edge, bool((steps == every).any())).bound
    return Outcome(
        variant=entrant.key,
        label=entrant.label,
        rates=tuple(float(runs.rates[i]) for i in chosen),
        steps=tuple(int(n) if n >= 0 else None for n in steps),
        median_steps=median_steps(steps.tolist(), runs.course.max_steps),
        unreached=int((steps < 0).sum()),
        edge=edge,
        speedup=speedup,
        low=low,
        high=high,
        bound=bound,
        predicted=predicted,
        verdict=verdict_of(speedup, low, high, band, bound),
        curve=_curve(runs, target),
    )


class _Open(NamedTuple):
    """What leaves open how far two sides are apart.

    Either may have missed the target. One whose best rate is the last of the grid may have a
    better one beyond it, and one that had arrived at the first check was perhaps quicker.
    """

    base_missed: bool
    missed: bool
    base_edge: bool
    edge: bool
    at_once: bool

    @property
    def bound(self) -> str:
        longer = self.base_missed or self.edge or self.at_once
        shorter = self.missed or self.base_edge
        if longer and shorter:
            return "unknown"
        return "at least" if longer else "at most" if shorter else ""


def verdict_of(speedup: float, low: float, high: float, band: Band, bound: str) -> str:
    """What may be said.

    Parameters
    ----------
    speedup, low, high : float
    band : (float, float)
        What the A/A control reached, with 1.
    bound : str

    Returns
    -------
    {"faster", "slower", "not shown"}

    Examples
    --------
    >>> verdict_of(1.6, 1.4, 1.8, (0.8, 1.29), "")
    'faster'
    >>> verdict_of(1.2, 1.1, 1.3, (1.0, 1.0), "")
    'not shown'
    """
    if speedup > SMALLEST_EFFECT and low > max(1.0, band[1]) and bound in ("", "at least"):
        return "faster"
    if speedup < 1 / SMALLEST_EFFECT and high < min(1.0, band[0]) and bound in ("", "at most"):
        return "slower"
    return "not shown"


def _curve(runs: Runs, target: float) -> tuple[RatePoint, ...]:
    steps, tried = runs.steps(target)
    return tuple(
        RatePoint(
            float(rate),
            tuple(int(n) if n >= 0 else None for n in steps[i]),
            tuple(int(n) for n in tried[i]),
        )
        for i, rate in enumerate(runs.rates)
    )
