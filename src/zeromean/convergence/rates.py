"""Learning rates: one grid, when a target counts as reached, and a choice that is not biased."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zeromean.convergence.results import STAYS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def first_stay(losses: npt.NDArray[np.floating], target: float) -> Ints:
    """Index of the first of five checks in a row at or below the target; −1 where there is none.

    A single check would reward lucky crossings.

    Parameters
    ----------
    losses : ndarray, (checks, ...)
        NaN counts as above.
    target : float

    Returns
    -------
    ndarray of int, (...)

    Examples
    --------
    >>> first_stay(np.array([3.0, 1, 3, 1, 1, 1, 1, 1]), 2).item()
    3
    """
    below = losses <= target
    if len(below) < STAYS:
        return np.full(losses.shape[1:], -1)
    checks = len(below) - STAYS + 1
    stays = np.logical_and.reduce([below[i : i + checks] for i in range(STAYS)])
    return np.where(stays.any(axis=0), stays.argmax(axis=0), -1)


def level_reached(losses: npt.NDArray[np.floating]) -> Floats:
    """The lowest target that `first_stay` finds reached, (...)."""
    checks = len(losses) - STAYS + 1
    if checks < 1:
        return np.full(losses.shape[1:], math.inf)
    worst = np.maximum.reduce([losses[i : i + checks] for i in range(STAYS)])
    lowest: Floats = np.nan_to_num(worst, nan=math.inf).min(axis=0)
    return lowest


def chosen_without(steps: Floats) -> Ints:
    """For each seed the rate with the fewest steps on the *other* seeds (geometric mean).

    So no seed picks its own luck. Of equal rates the smaller one is taken.

    Parameters
    ----------
    steps : ndarray, (rates, seeds)
        Positive; what was tried where the target was not reached.

    Returns
    -------
    ndarray of int, (seeds,)
        Index of the rate.
    """
    logs = np.log(steps)
    others = logs.sum(axis=1, keepdims=True) - logs
    best: Ints = np.argmin(np.round(others, 9), axis=0)
    return best


def grid(low: float, high: float, per_octave: int) -> list[float]:
    """The points of the one grid 2^(k / per_octave) from `low` to `high`, both rounded to it.

    Examples
    --------
    >>> grid(0.9, 4.2, 1)
    [1.0, 2.0, 4.0]
    """
    first, last = (round(per_octave * math.log2(end)) for end in (low, high))
    return [2 ** (k / per_octave) for k in range(first, last + 1)]


def at_edge(chosen: Ints, rates: int) -> tuple[bool, bool]:
    """Whether any seed chose the smallest rate, and whether any chose the largest."""
    return bool((chosen == 0).any()), bool((chosen == rates - 1).any())


def median_steps(steps: Sequence[int], most: int) -> float:
    """The median with what was not reached as infinity; `most`, a bound, where it is infinite.

    Parameters
    ----------
    steps : sequence of int
        −1 where the target was not reached.
    most : int
        Updates allowed.

    Examples
    --------
    >>> median_steps([155, 90, 115, 175, 155, -1, 140, 200], 300)
    155.0
    >>> median_steps([10, -1], 300)
    300.0
    """
    ordered = np.sort([math.inf if n < 0 else n for n in steps])
    half = len(ordered) // 2
    return min(float(ordered[half] + ordered[-half - 1]) / 2, float(most))


def middle(values: Sequence[float]) -> float:
    """The lower median: always one of the values."""
    return sorted(values)[(len(values) - 1) // 2]
