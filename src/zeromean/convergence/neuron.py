"""A sigmoid neuron with two weights: the smallest place where the mean slows learning down.

Labels come from a teacher w* = (3, −3), perpendicular to the shift (1, 1): so labels, optimum and
start are the same whatever the mean. Sample order is too. Negating the second input afterwards
mirrors the problem: no two gradients share a sign any more, and every path is the mirror image,
bit for bit, since gradient descent commutes with sign flips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeromean.convergence.intervals import ratio_interval
from zeromean.convergence.rates import chosen_without, first_stay, grid, median_steps, middle
from zeromean.convergence.results import Neuron, NeuronRun

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
DATA = ("zero_mean", "all_positive", "x2_negated")
BATCHES = (1, 8, 0)
SHIFT, OPTIMUM = 2.0, (3.0, -3.0)
_POINTS, _UPDATES, _LONGER = 200, 200, 400
_RATES = grid(0.35, 46, 2)
_TARGET, _TIMID = 0.01, 0.3


@dataclass(frozen=True)
class Problem:
    """Inputs (seeds, n, 2), soft labels (seeds, n), and the order of the samples."""

    x: Floats
    y: Floats
    order: npt.NDArray[np.int64]

    @classmethod
    def of(cls, data: str, seeds: int) -> Problem:
        """One of the three data sets; all share their seeds' draws."""
        draws = [np.random.default_rng(k) for k in range(seeds)]
        x = np.stack([draw.uniform(-1, 1, (_POINTS, 2)) for draw in draws])
        order = np.stack(
            [np.concatenate([d.permutation(_POINTS) for _ in range(16)]) for d in draws]
        )
        y = 1 / (1 + np.exp(-OPTIMUM[0] * x[..., 0] - OPTIMUM[1] * x[..., 1]))
        moved = x if data == "zero_mean" else x + SHIFT
        return cls(moved * np.array([1.0, -1.0]) if data == "x2_negated" else moved, y, order)


@dataclass(frozen=True)
class Paths:
    """Weights (updates + 1, seeds, rates, 2) and excess loss ÷ that of the start, without the 2."""

    weights: Floats
    excess: Floats


def neuron_of(seeds: int) -> Neuron:
    """All runs of the two-weight neuron.

    Parameters
    ----------
    seeds : int

    Returns
    -------
    Neuron
    """
    runs: list[NeuronRun] = []
    rates = np.tile(_RATES, (seeds, 1))
    mirror = 0.0
    for batch in BATCHES:
        paths = [descend(Problem.of(name, seeds), rates, batch, _UPDATES) for name in DATA]
        mirror = max(mirror, _mirror_difference(paths[1], paths[2]))
        base = _steps(paths[0])
        picked = [_own_rate(p) for p in paths]
        runs += [
            _run(DATA[i], batch, "", p, picked[i], _chosen(base, picked[0]))
            for i, p in enumerate(paths)
        ]
    best = [middle([float(r) for r in np.asarray(_RATES)[pick]]) for pick in picked]
    reference = _chosen(base, picked[0])
    for name, control, rate in (
        ("all_positive", "timid", _TIMID * best[1]),
        ("zero_mean", "same_rate", best[1]),
    ):
        slow = descend(Problem.of(name, seeds), np.full((seeds, 1), rate), 0, _LONGER)
        runs.append(_run(name, 0, control, slow, np.zeros(seeds, np.int64), reference, [rate]))
    samples = tuple((float(a), float(b)) for a, b in Problem.of("zero_mean", 1).x[0])
    return Neuron(tuple(runs), mirror, OPTIMUM, samples, SHIFT)


def descend(problem: Problem, rates: Floats, batch: int, updates: int) -> Paths:
    """Gradient descent from (0, 0) at every rate at once.

    Plain sums and products in one order, so that a mirrored problem gives mirrored bits.

    Parameters
    ----------
    problem : Problem
    rates : ndarray, (seeds, rates)
    batch : int
        0 for all samples.
    updates : int

    Returns
    -------
    Paths
    """
    x1, x2, y = problem.x[:, None, :, 0], problem.x[:, None, :, 1], problem.y[:, None, :]
    seeds = np.arange(len(problem.x))[:, None]
    least = _entropy(problem.y)[:, None]
    w = np.zeros((*rates.shape, 2))
    weights, excess = [], []
    for update in range(updates + 1):
        z = x1 * w[..., :1] + x2 * w[..., 1:]
        weights.append(w)
        small = np.exp(-np.abs(z))
        excess.append((np.maximum(z, 0) + np.log(1 + small) - y * z).mean(axis=-1) - least)
        parts = x1, x2, y
        if batch:
            place = np.arange(update * batch, (update + 1) * batch) % problem.order.shape[1]
            rows = problem.order[:, place]
            parts = tuple(part[seeds, 0, rows][:, None] for part in parts)
            z = parts[0] * w[..., :1] + parts[1] * w[..., 1:]
        delta = 0.5 * (1 + np.tanh(z / 2)) - parts[2]  # sigmoid(z) − y, without overflow
        gradient = np.stack([(delta * part).mean(axis=-1) for part in parts[:2]], axis=-1)
        w = w - rates[..., None] * gradient
    losses = np.stack(excess)
    return Paths(np.stack(weights), losses / losses[0])


def _entropy(y: Floats) -> Floats:
    """The least loss that soft labels allow, (seeds,)."""
    least: Floats = -(y * np.log(y) + (1 - y) * np.log1p(-y)).mean(axis=-1)
    return least


def _mirror_difference(one: Paths, other: Paths) -> float:
    return float(np.abs(one.weights - other.weights * np.array([1.0, -1.0])).max())


# ---------------------------------------------------------------- numbers of a run


def _steps(paths: Paths) -> Ints:
    """Updates to the target, (seeds, rates); −1 where it was not reached."""
    return first_stay(paths.excess, _TARGET)


def _own_rate(paths: Paths) -> Ints:
    steps = _steps(paths)
    tried = len(paths.excess) - 1
    return chosen_without(np.where(steps < 1, tried, steps).T.astype(np.float64))


def _chosen(steps: Ints, picked: Ints) -> Ints:
    return steps[np.arange(len(steps)), picked]


def _run(
    data: str,
    batch: int,
    control: str,
    paths: Paths,
    picked: Ints,
    base: Ints,
    rates: list[float] | None = None,
) -> NeuronRun:
    steps = _chosen(_steps(paths), picked)
    tried = len(paths.excess) - 1
    counted = np.where(steps < 1, tried, steps)
    tracks = [paths.weights[: n + 1, k, picked[k]] for k, n in enumerate(counted)]
    signs = np.array([zig_zag(track) for track in tracks])
    ratio = ratio_interval((counted / np.where(base < 1, tried, base)).tolist())
    x = Problem.of(data, len(steps)).x
    top = np.linalg.eigvalsh(np.einsum("sni,snj->sij", x, x) / x.shape[1])[:, -1]
    return NeuronRun(
        data,
        batch,
        control,
        middle([float(r) for r in np.asarray(rates or _RATES)[picked]]),
        tuple(int(n) if n >= 1 else None for n in steps),
        median_steps(np.where(steps < 1, -1, steps).tolist(), tried),
        int((steps < 1).sum()),
        *ratio,
        same_sign=float(np.mean(signs[:, 0])),
        chance=0.5,
        turns=float(np.mean(signs[:, 1])),
        path_ratio=float(np.mean(signs[:, 2])),
        lambda1=float(top.mean()),
        path=tuple((float(a), float(b)) for a, b in tracks[0]),
    )


def zig_zag(track: Floats) -> tuple[float, float, float]:
    """Three numbers of a path, (points, 2): never one of them alone.

    Returns
    -------
    (float, float, float)
        Share of updates that move both weights in one direction (zeros are not counted); share of
        successive updates that turn by more than 90°; length ÷ distance from start to end.

    Examples
    --------
    >>> zig_zag(np.array([[0, 0], [1, 1], [2, 0]]))
    (0.5, 0.0, 1.4142135623730951)
    """
    moves = np.diff(track, axis=0)
    product = moves[:, 0] * moves[:, 1]
    counted = max(1, np.count_nonzero(product))
    turns = (moves[1:] * moves[:-1]).sum(axis=1) < 0
    length = float(np.hypot(*moves.T).sum())
    distance = float(np.hypot(*(track[-1] - track[0])))
    back = float(turns.mean()) if len(turns) else 0.0
    return float((product > 0).sum() / counted), back, length / distance if distance else 1.0
