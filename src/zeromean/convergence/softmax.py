"""Full-batch gradient descent on softmax regression: the case that λ₁ predicts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeromean.convergence.watching import Limits, Watch

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@np.errstate(over="ignore", invalid="ignore")
def descend(x: Floats, y: Ints, classes: int, rates: list[float], limits: Limits) -> Floats:
    """Training loss of every rate, check by check; weights and bias start at 0.

    All rates share each product with the samples. The weights start at the same function for
    every variant, so a common target is fair; and a sign flip of some inputs mirrors every path
    exactly.

    Parameters
    ----------
    x : ndarray of float32, (n, d)
    y : ndarray of int, (n,)
    classes : int
    rates : list of float
    limits : Limits

    Returns
    -------
    ndarray of float32, (checks, rates)
    """
    n = len(x)
    inputs = np.concatenate([x, np.ones((n, 1), np.float32)], axis=1)
    w = np.zeros((inputs.shape[1], len(rates) * classes), np.float32)
    pace = np.repeat(np.array(rates, np.float32), classes) / np.float32(n)
    rows = np.arange(n)
    watch = Watch(limits)
    for step in range(limits.max_steps + 1):
        scores = (inputs @ w).reshape(n, len(rates), classes)
        scores -= scores.max(axis=2, keepdims=True)
        own = scores[rows, :, y]
        np.exp(scores, out=scores)
        total = scores.sum(axis=2, keepdims=True)
        if step % limits.every == 0:
            loss = (np.log(total[:, :, 0]) - own).mean(axis=0, dtype=np.float64)
            if watch.check(step, loss):
                break
        scores /= total
        scores[rows, :, y] -= 1
        w -= pace * (inputs.T @ scores.reshape(n, -1))
        assert watch.alive is not None
        if not watch.alive.all():
            w[:, ~np.repeat(watch.alive, classes)] = 0
    return watch.history()
