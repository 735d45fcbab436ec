"""95 % t-intervals of log ratios: the percentile bootstrap undercovers with few seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_LEVEL = 0.975


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t.

    Examples
    --------
    >>> round(t_quantile(7), 4)
    2.3646
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, _LEVEL))


def ratio_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of paired ratios, and the ends of its 95 % t-interval.

    Parameters
    ----------
    ratios : sequence of float
        Positive; one for each seed, two or more.

    Returns
    -------
    (float, float, float)
        Estimate, low, high.

    Examples
    --------
    >>> [round(end, 3) for end in ratio_interval([2.0, 2.0, 2.0])]
    [2.0, 2.0, 2.0]
    """
    logs = np.log(np.asarray(ratios, np.float64))
    middle = float(logs.mean())
    half = t_quantile(len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def halves_interval(whole: float, halves: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a ratio from its values in random halves of the samples.

    A random half differs from the whole with the variance with which the whole differs from the
    truth: Var(half − whole) = σ²/(n/2) − σ²/n = σ²/n.

    Parameters
    ----------
    whole : float
        Positive; of all samples.
    halves : sequence of float

    Returns
    -------
    (float, float)
    """
    logs = np.log(np.asarray(halves, np.float64)) - math.log(whole)
    half = t_quantile(len(logs)) * math.sqrt(float(np.mean(logs**2)))
    return whole * math.exp(-half), whole * math.exp(half)
