"""The two-weight sigmoid neuron of the interactive picture, in NumPy: the script's twin.

The page computes the same sums in `neuron.js`, from the same small generator. So its numbers can
be tested, and printed where no script runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

SEED, ORDER = 8747, 127  # of the points, and of the order in which they are drawn
POINTS = 200
TEACHER = 3.0  # the optimum is (3, -3): at a right angle to the mean, which then moves no label
MOST = 600  # updates after which a run counts as not reached
STAY = 5  # updates in a row that must stay below the target
TARGET = 0.01  # of the excess loss at the start
#: Half an octave apart, from 1/32 to 64: one grid for both sides.
RATES = tuple(2.0 ** (k / 2) for k in range(-10, 13))
FEW = 5  # updates below which a ratio would look finer than it is
TIMID = 0.4  # of a side's best rate
STORY_MEAN = 2.0
_MODULUS = 1 << 32


class Generator:
    """A linear congruential generator modulo 2³², with the constants of Numerical Recipes."""

    def __init__(self, seed: int) -> None:
        self.state = seed % _MODULUS

    def uniform(self) -> float:
        """The next number in [0, 1)."""
        self.state = (1664525 * self.state + 1013904223) % _MODULUS
        return self.state / _MODULUS


@dataclass(frozen=True)
class Data:
    """Centered points of a square, their soft labels, and the order in which they are drawn.

    Attributes
    ----------
    points : ndarray of float64, (POINTS, 2)
        Their mean is 0.
    labels : ndarray of float64, (POINTS,)
        Between 0 and 1: what the teacher says. The same for every mean.
    order : list of int
        Which point each update sees, for small batches.
    """

    points: _Floats
    labels: _Floats
    order: list[int]

    def shifted(self, mean: float, *, flip: bool = False) -> _Floats:
        """The points with this mean in both inputs; `flip` then negates the second."""
        moved: _Floats = (self.points + mean) * np.array([1.0, -1.0 if flip else 1.0])
        return moved


def sample(seed: int = SEED, order: int = ORDER) -> Data:
    """The data of one seed."""
    draw = Generator(seed)
    points = np.array([[2 * draw.uniform() - 1 for _ in range(2)] for _ in range(POINTS)])
    points -= points.mean(axis=0)
    labels = 1 / (1 + np.exp(-TEACHER * (points[:, 0] - points[:, 1])))
    draw = Generator(order)
    return Data(points, labels, [int(draw.uniform() * POINTS) for _ in range(8 * MOST)])


def largest_eigenvalue(points: _Floats) -> float:
    """λ₁ of E[x xᵀ], in closed form for two inputs."""
    a, c = (points**2).mean(axis=0)
    b = float((points[:, 0] * points[:, 1]).mean())
    return float((a + c) / 2 + math.hypot((a - c) / 2, b))


@dataclass(frozen=True)
class Run:
    """One path.

    Attributes
    ----------
    rate : float
    path : ndarray of float64, (updates + 1, 2)
        The weights, from the start.
    excess : ndarray of float64, (updates + 1,)
        Loss above the optimum's.
    gradients : ndarray of float64, (updates, 2)
    reached : int or None
        The first update from which on the target is kept.
    """

    rate: float
    path: _Floats
    excess: _Floats
    gradients: _Floats
    reached: int | None

    @property
    def _counted(self) -> int:
        return len(self.gradients) if self.reached is None else self.reached

    @property
    def same_sign(self) -> float:
        """Share of the updates, until the target, whose two gradients have one sign."""
        pairs = self.gradients[: self._counted]
        return float((pairs[:, 0] * pairs[:, 1] > 0).mean()) if len(pairs) else math.nan

    @property
    def turns(self) -> float:
        """Share of the updates, until the target, that turn by more than 90°."""
        steps = np.diff(self.path[: self._counted + 1], axis=0)
        return float(((steps[1:] * steps[:-1]).sum(axis=1) < 0).mean()) if len(steps) > 1 else 0.0

    @property
    def path_ratio(self) -> float:
        """Length of the path ÷ distance from its start to its end."""
        part = self.path[: self._counted + 1]
        length = np.hypot(*np.diff(part, axis=0).T).sum()
        return float(length / np.hypot(*(part[-1] - part[0])))


def train(data: Data, points: _Floats, rate: float, batch: int, most: int = MOST) -> Run:
    """Gradient descent from zero until the target has been kept, or for `most` updates.

    Parameters
    ----------
    data : Data
    points : ndarray of float64
        As `Data.shifted` returns them.
    rate : float
        Learning rate.
    batch : int
        Points an update; 0 for all of them.
    most : int
    """
    optimum = np.array([TEACHER, -TEACHER if _same_way(data, points) else TEACHER])
    floor = _loss(points @ optimum, data.labels)
    weights = np.zeros(2)
    path: list[_Floats] = [weights]
    gradients: list[_Floats] = []
    excess, kept = [_loss(points @ weights, data.labels) - floor], 0
    while len(gradients) < most and kept < STAY:
        rows: Any = slice(None)
        if batch:
            first = len(gradients) * batch
            rows = [data.order[(first + k) % len(data.order)] for k in range(batch)]
        x = points[rows]
        gradients.append((_sigmoid(x @ weights) - data.labels[rows]) @ x / len(x))
        weights = weights - rate * gradients[-1]
        path.append(weights)
        excess.append(_loss(points @ weights, data.labels) - floor)
        kept = kept + 1 if excess[-1] <= TARGET * excess[0] else 0
    reached = len(gradients) - STAY + 1 if kept == STAY else None
    gained = np.array(gradients).reshape(-1, 2)
    return Run(rate, np.array(path), np.array(excess), gained, reached)


def _same_way(data: Data, points: _Floats) -> bool:
    """Whether the second input was not negated."""
    return bool((points[0, 1] - points[1, 1]) * (data.points[0, 1] - data.points[1, 1]) > 0)


def _sigmoid(logits: _Floats) -> _Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))


def _loss(logits: _Floats, labels: _Floats) -> float:
    """Mean cross entropy."""
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))
    return float((softplus - labels * logits).mean())


def best_rate(data: Data, points: _Floats, batch: int) -> float:
    """The rate of the grid with the fewest updates; of equals the smallest.

    Tried from the likely ones outward (the curvature is at most λ₁ / 4), so that a run can be
    given up as soon as it is too long: the answer does not depend on that order.
    """
    likely = math.log(12 / largest_eigenvalue(points))
    best, found, fallback = MOST + 1, math.inf, (math.inf, RATES[0])
    for rate in sorted(RATES, key=lambda r: abs(math.log(r) - likely)):
        limit = best + STAY - 1 - (rate > found)
        run = train(data, points, rate, batch, min(MOST, limit))
        if run.reached is not None:
            best, found = min((best, found), (run.reached, rate))
        fallback = min(fallback, (float(run.excess[-1]), rate))
    return fallback[1] if math.isinf(found) else found


@dataclass(frozen=True)
class Race:
    """Both sides of the picture, each at its own best rate (times a factor)."""

    shifted: Run
    centered: Run
    eigenvalues: tuple[float, float]  # λ₁ of the shifted and of the zero-mean inputs

    @property
    def slowdown(self) -> float | None:
        """Updates of the shifted side ÷ those of the zero-mean side."""
        if self.shifted.reached is None or self.centered.reached is None:
            return None
        return self.shifted.reached / self.centered.reached

    @property
    def predicted(self) -> float:
        """The slow-down that λ₁ predicts, for the full batch."""
        return self.eigenvalues[0] / self.eigenvalues[1]


def race(
    data: Data,
    mean: float,
    batch: int = 0,
    *,
    flip: bool = False,
    factor: float = 1.0,
    same_rate: bool = False,
) -> Race:
    """Run both sides.

    Parameters
    ----------
    data : Data
    mean : float
        Of both inputs of the shifted side.
    batch : int
        1, 8, or 0 for all points.
    flip : bool
        Negate the second input of both sides.
    factor : float
        Of each side's own best rate.
    same_rate : bool
        Give the zero-mean side the shifted side's rate.
    """
    sides = [data.shifted(m, flip=flip) for m in (mean, 0.0)]
    rates = [best_rate(data, side, batch) for side in sides]
    if same_rate:
        rates[1] = rates[0]
    runs = [train(data, x, rate * factor, batch) for x, rate in zip(sides, rates, strict=True)]
    return Race(runs[0], runs[1], (largest_eigenvalue(sides[0]), largest_eigenvalue(sides[1])))


@cache
def stories() -> Sequence[tuple[str, Race]]:
    """The races that the page tells about, by name.

    Examples
    --------
    >>> [(name, r.shifted.reached, r.centered.reached) for name, r in stories()]
    [('zigzag', 50, 4), ('flip', 50, 4), ('timid', 173, 10), ('single', 108, 10)]
    """
    held = sample()
    return [
        ("zigzag", race(held, STORY_MEAN)),
        ("flip", race(held, STORY_MEAN, flip=True)),
        ("timid", race(held, STORY_MEAN, factor=TIMID)),
        ("single", race(held, STORY_MEAN, batch=1)),
    ]
