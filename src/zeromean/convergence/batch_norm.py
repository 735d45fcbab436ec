"""Batch norm right after the first layer takes any mean away: centering the inputs does nothing.

W (x + c) + b − mean = W x − mean(W x), and the gradients of a batch add up to 0 behind the
normalization, so forward *and* backward pass are those of x. In evaluation the running averages
stand in for the batch's own; they lag behind the weights, the more the larger the mean is.
Everything is float64, so that what is left is rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeromean.convergence.results import BatchNormCheck
from zeromean.convergence.watching import Limits, Watch

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_WIDTH, _BATCH, _EPSILON, _MOMENTUM, _CHECKED = 64, 64, 1e-5, 0.1, 400
_SHIFTS, _STEPS, _RATE = (0.0, 2.0, -5.0), 300, 0.1


@dataclass
class NormNet:
    """x → W₁ → batch norm → ReLU → W₂, one copy for each learning rate.

    Attributes
    ----------
    weights : list of ndarray
        W₁ (rates, d, width), gain and offset (rates, 1, width), W₂ (rates, width, classes), and
        its bias (rates, 1, classes). W₁ has no bias: batch norm would take it away.
    running : list of ndarray
        Mean and variance as in evaluation, (rates, 1, width).
    """

    weights: list[Floats]
    running: list[Floats]

    @classmethod
    def started(cls, d: int, classes: int, rates: int, seed: int) -> NormNet:
        """The same random weights for every rate."""
        random = np.random.default_rng([seed, 1])
        first = random.uniform(-1, 1, (d, _WIDTH)) / d**0.5
        last = random.uniform(-1, 1, (_WIDTH, classes)) / _WIDTH**0.5
        unit, zero = np.ones((1, _WIDTH)), np.zeros((1, _WIDTH))
        parts = [first, unit, zero, last, np.zeros((1, classes))]
        copies = [np.repeat(part[None], rates, axis=0) for part in parts]
        return cls(copies, [copies[2].copy(), copies[1].copy()])

    def scores(self, x: Floats, *, evaluating: bool = False) -> tuple[Floats, tuple[Floats, ...]]:
        """Scores (rates, n, classes), and what the backward pass needs."""
        first, gain, offset, last, bias = self.weights
        z = np.matmul(x, first)
        mean, variance = self.running
        if not evaluating:
            mean, variance = z.mean(axis=1, keepdims=True), z.var(axis=1, keepdims=True)
        inverse = 1 / np.sqrt(variance + _EPSILON)
        unit = (z - mean) * inverse
        hidden = np.maximum(gain * unit + offset, 0)
        return np.matmul(hidden, last) + bias, (unit, inverse, hidden, mean, variance)

    def step(self, x: Floats, y: Ints, rates: Floats) -> None:
        """One update of plain SGD, and of the running averages."""
        scores, (unit, inverse, hidden, mean, variance) = self.scores(x)
        _, gain, _, last, _ = self.weights
        delta = _probabilities(scores)
        delta[:, np.arange(len(y)), y] -= 1
        delta /= len(y)
        below = np.matmul(delta, np.swapaxes(last, 1, 2)) * (hidden > 0)
        inner = below * gain
        spread = inner - inner.mean(axis=1, keepdims=True)
        spread -= unit * (inner * unit).mean(axis=1, keepdims=True)
        gradients = [
            np.matmul(x.T, spread * inverse),
            (below * unit).sum(axis=1, keepdims=True),
            below.sum(axis=1, keepdims=True),
            np.matmul(np.swapaxes(hidden, 1, 2), delta),
            delta.sum(axis=1, keepdims=True),
        ]
        for part, gradient in zip(self.weights, gradients, strict=True):
            part -= rates * gradient
        unbiased = len(y) / (len(y) - 1)
        for held, new in zip(self.running, (mean, variance * unbiased), strict=True):
            held += _MOMENTUM * (new - held)


@np.errstate(over="ignore", invalid="ignore")
def train(
    x: Floats, y: Ints, classes: int, rates: list[float], seed: int, limits: Limits
) -> npt.NDArray[np.floating]:
    """Training loss of every rate, check by check; as `networks.train`, in float64."""
    net = NormNet.started(x.shape[1], classes, len(rates), seed)
    pace = np.array(rates)[:, None, None]
    checked = np.random.default_rng([seed, 2]).permutation(len(x))[:_CHECKED]
    order = _Order(len(x), seed)
    watch = Watch(limits)
    for step in range(limits.max_steps + 1):
        if step % limits.every == 0:
            over = watch.check(step, _losses(net.scores(x[checked])[0], y[checked]))
            if over:
                break
            assert watch.alive is not None
            for part in net.weights:
                part[~watch.alive] = 0
        rows = order(step)
        net.step(x[rows], y[rows], pace)
    return watch.history()


def check(x: Floats, y: Ints, classes: int, seed: int = 0) -> BatchNormCheck:
    """Train on the same inputs, moved by some standard deviations, and compare all weights.

    Parameters
    ----------
    x : ndarray of float64, (n, d)
        Zero-mean, divided by their standard deviation.
    y : ndarray of int, (n,)
    classes : int
    seed : int

    Returns
    -------
    BatchNormCheck
    """
    nets, pace = [], np.full((1, 1, 1), _RATE)
    for shift in _SHIFTS:
        net, order = NormNet.started(x.shape[1], classes, 1, seed), _Order(len(x), seed)
        for step in range(_STEPS):
            rows = order(step)
            net.step(x[rows] + shift, y[rows], pace)
        nets.append(net)
    differences = [
        max(float(np.abs(a - b).max()) for a, b in zip(net.weights, nets[0].weights, strict=True))
        for net in nets
    ]
    losses = [
        float(_losses(net.scores(x + shift, evaluating=True)[0], y)[0])
        for net, shift in zip(nets, _SHIFTS, strict=True)
    ]
    return BatchNormCheck(_SHIFTS, tuple(differences), tuple(losses), _STEPS)


class _Order:
    """Minibatches without replacement; the rest of an epoch that is too short is left out."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._random = n, np.random.default_rng([seed, 3])
        self._size = min(_BATCH, n)
        self._order: Ints = np.zeros(0, np.int64)

    def __call__(self, step: int) -> Ints:
        place = step % (self._n // self._size)
        if place == 0:
            self._order = self._random.permutation(self._n)
        return self._order[place * self._size : (place + 1) * self._size]


def _probabilities(scores: Floats) -> Floats:
    powers: Floats = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def _losses(scores: Floats, y: Ints) -> Floats:
    lowered = scores - scores.max(axis=-1, keepdims=True)
    own = lowered[:, np.arange(len(y)), y]
    mean: Floats = (np.log(np.exp(lowered).sum(axis=-1)) - own).mean(axis=1)
    return mean
