"""How often all weights of a neuron are pushed one way, in a real net: the article's picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zeromean.convergence.networks import Batches, Net, Plain, gradients_of, started
from zeromean.convergence.results import SignShare

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_WIDTHS, _UPDATES, _RATE = (64, 64), 100, 0.01
BATCHES, HIDDEN = (1, 8, 64), ("sigmoid", "relu", "tanh")


def sign_shares(
    sides: dict[str, Floats], y: Ints, classes: int, tick: Callable[[], None]
) -> tuple[SignShare, ...]:
    """The first 100 updates of a net with two hidden layers, one seed, at a small rate.

    Parameters
    ----------
    sides : dict of str to ndarray (n, d)
        The inputs of each variant.
    y : ndarray of int, (n,)
    classes : int
    tick : callable
        Raises when time is up.

    Returns
    -------
    tuple of SignShare
    """
    found: list[SignShare] = []
    for variant, x in sides.items():
        for hidden in HIDDEN:
            for batch in BATCHES:
                tick()
                net = Net(hidden, _WIDTHS, batch=batch)
                found += _counted(variant, net, x, y, classes)
    return tuple(found)


def _counted(variant: str, net: Net, x: Floats, y: Ints, classes: int) -> list[SignShare]:
    random = np.random.default_rng([0, 1])
    layers = started(net, x.shape[1], classes, 1, random)
    batches, update = Batches(len(x), min(net.batch, len(x)), random), Plain([_RATE])
    signs: list[list[Floats]] = [[], []]
    for _ in range(_UPDATES):
        rows = batches.next()
        gradients = gradients_of(net, layers, x[rows], y[rows])
        for layer in (0, 1):
            signs[layer].append(_imbalance(gradients[layer][0][0]))
        update(layers, gradients)
    made = []
    for layer in (0, 1):
        values = np.concatenate(signs[layer])
        values = values[np.isfinite(values)]
        share = float((values == 1).mean()) if len(values) else 0.0
        mean = float(values.mean()) if len(values) else 0.0
        made.append(SignShare(variant, net.hidden, layer + 1, net.batch, share, mean))
    return made


def _imbalance(gradient: Floats) -> Floats:
    """|n₊ − n₋| ÷ (n₊ + n₋) of each neuron, (width,); NaN without any gradient."""
    plus, minus = (gradient > 0).sum(axis=0), (gradient < 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        share: Floats = np.abs(plus - minus) / (plus + minus)
    return share
