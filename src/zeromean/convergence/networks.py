"""Small networks with minibatches, all learning rates of one seed in the same products.

Weights start uniform in ±1 / √fan_in, as in PyTorch; seeds fix them and the order of the samples,
so that two variants differ in nothing but their inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from zeromean.convergence.watching import Limits, Watch

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
CHECKED = 400  # samples of the training data whose loss is watched
_BETA1, _BETA2, _EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-8)


@dataclass(frozen=True)
class Activation:
    """A function and its slope, the slope from the function's own value."""

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]


def _sigmoid(z: Floats) -> Floats:
    half = np.float32(0.5)
    value: Floats = half + half * np.tanh(half * z)
    return value


ACTIVATIONS = {
    "sigmoid": Activation(_sigmoid, lambda a: a * (1 - a)),
    "sigmoid_minus_half": Activation(
        lambda z: np.float32(0.5) * np.tanh(np.float32(0.5) * z),
        lambda a: (np.float32(0.5) + a) * (np.float32(0.5) - a),
    ),
    "tanh": Activation(np.tanh, lambda a: 1 - a * a),
    "relu": Activation(lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(np.float32)),
}


@dataclass(frozen=True)
class Net:
    """What is trained.

    Attributes
    ----------
    hidden : str
        A key of `ACTIVATIONS`.
    widths : tuple of int
        Of the hidden layers.
    adam : bool
        Adam; else plain SGD.
    batch : int
        Samples an update.
    """

    hidden: str
    widths: tuple[int, ...]
    adam: bool = False
    batch: int = 64


@np.errstate(over="ignore", invalid="ignore")
def train(
    net: Net, x: Floats, y: Ints, classes: int, rates: list[float], seed: int, limits: Limits
) -> Floats:
    """Training loss of every rate, check by check, on the first samples of a shuffled order.

    Parameters
    ----------
    net : Net
    x : ndarray of float32, (n, d)
    y : ndarray of int, (n,)
    classes : int
    rates : list of float
    seed : int
        Of the weights and of the order of the samples.
    limits : Limits

    Returns
    -------
    ndarray, (checks, rates)
    """
    random = np.random.default_rng([seed, 1])
    layers = started(net, x.shape[1], classes, len(rates), random)
    checked = np.random.default_rng([seed, 2]).permutation(len(x))[:CHECKED]
    x_checked, y_checked = x[checked], y[checked]
    update = Adam(rates) if net.adam else Plain(rates)
    batches = Batches(len(x), min(net.batch, len(x)), random)
    watch = Watch(limits)
    for step in range(limits.max_steps + 1):
        if step % limits.every == 0:
            losses = losses_of(forward(net, layers, x_checked)[-1], y_checked)
            if watch.check(step, losses):
                break
            update.keep(watch.alive, layers)
        rows = batches.next()
        gradients = gradients_of(net, layers, x[rows], y[rows])
        update(layers, gradients)
    return watch.history()


# ---------------------------------------------------------------- layers

Layers = list[tuple[Floats, Floats]]  # weights (rates, fan_in, width) and biases (rates, 1, width)


def started(net: Net, d: int, classes: int, rates: int, random: np.random.Generator) -> Layers:
    """The same random weights for every rate."""
    sizes = (d, *net.widths, classes)
    layers = []
    for fan_in, width in pairwise(sizes):
        bound = fan_in**-0.5
        w = random.uniform(-bound, bound, (fan_in, width)).astype(np.float32)
        b = random.uniform(-bound, bound, (1, width)).astype(np.float32)
        layers.append((np.repeat(w[None], rates, axis=0), np.repeat(b[None], rates, axis=0)))
    return layers


def forward(net: Net, layers: Layers, x: Floats) -> list[Floats]:
    """The inputs of every layer, and the scores (rates, n, classes) at the end."""
    activation = ACTIVATIONS[net.hidden].value
    values: list[Floats] = [x]
    for w, b in layers[:-1]:
        values.append(activation(np.matmul(values[-1], w) + b))
    w, b = layers[-1]
    return [*values, np.matmul(values[-1], w) + b]


def gradients_of(net: Net, layers: Layers, x: Floats, y: Ints) -> Layers:
    """Gradients of the mean loss, like the layers."""
    values = forward(net, layers, x)
    delta = probabilities(values[-1])
    delta[:, np.arange(len(y)), y] -= 1
    delta /= np.float32(len(y))
    slope = ACTIVATIONS[net.hidden].slope
    gradients: Layers = []
    for i in reversed(range(len(layers))):
        below = values[i]
        gradients.append(
            (np.matmul(np.swapaxes(below, -1, -2), delta), delta.sum(axis=1, keepdims=True))
        )
        if i:
            delta = np.matmul(delta, np.swapaxes(layers[i][0], -1, -2)) * slope(below)
    return gradients[::-1]


def probabilities(scores: Floats) -> Floats:
    powers: Floats = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def losses_of(scores: Floats, y: Ints) -> npt.NDArray[np.float64]:
    """Mean cross-entropy in nats, (rates,)."""
    lowered = scores - scores.max(axis=-1, keepdims=True)
    own = lowered[:, np.arange(len(y)), y]
    logs: Floats = np.log(np.exp(lowered).sum(axis=-1)) - own
    mean: npt.NDArray[np.float64] = logs.mean(axis=1, dtype=np.float64)
    return mean


# ---------------------------------------------------------------- updates


class Batches:
    """Minibatches without replacement, epoch after epoch."""

    def __init__(self, n: int, size: int, random: np.random.Generator) -> None:
        self._n, self._size, self._random = n, size, random
        self._rest = np.zeros(0, np.int64)

    def next(self) -> Ints:
        """Indices of the next samples."""
        if len(self._rest) < self._size:
            self._rest = self._random.permutation(self._n)
        rows, self._rest = self._rest[: self._size], self._rest[self._size :]
        return rows


class Plain:
    """w ← w − rate × gradient."""

    def __init__(self, rates: list[float]) -> None:
        self._rates = np.array(rates, np.float32)[:, None, None]

    def keep(self, alive: npt.NDArray[np.bool_] | None, layers: Layers) -> None:
        """Stop the rates that diverged: their weights become 0 and stay there."""
        assert alive is not None
        dead = ~alive
        if dead.any():
            self._rates[dead] = 0
            for w, b in layers:
                w[dead], b[dead] = 0, 0

    def __call__(self, layers: Layers, gradients: Layers) -> None:
        for (w, b), (dw, db) in zip(layers, gradients, strict=True):
            w -= self._rates * dw
            b -= self._rates * db


class Adam(Plain):
    """Kingma and Ba (2015), β = 0.9 and 0.999, ε = 1e-8."""

    def __init__(self, rates: list[float]) -> None:
        super().__init__(rates)
        self._moments: list[tuple[Floats, Floats]] = []
        self._t = 0

    def __call__(self, layers: Layers, gradients: Layers) -> None:
        flat = [part for pair in layers for part in pair]
        slopes = [part for pair in gradients for part in pair]
        if not self._moments:
            self._moments = [(np.zeros_like(p), np.zeros_like(p)) for p in flat]
        self._t += 1
        fix1, fix2 = (np.float32(1 - float(b) ** self._t) for b in (_BETA1, _BETA2))
        for part, slope, (first, second) in zip(flat, slopes, self._moments, strict=True):
            first += (1 - _BETA1) * (slope - first)
            second += (1 - _BETA2) * (slope * slope - second)
            part -= self._rates * (first / fix1) / (np.sqrt(second / fix2) + _EPSILON)
