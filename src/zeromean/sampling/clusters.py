"""Mean and std from a random sample of files, and how well they are known: files are clusters.

The pixels of one picture are not independent, so the sample is one of files, not of pixels.
File i holds m_i values of a feature, with sums y_i = Σx and q_i = Σx². Mean and std are functions
of totals over all N files, R = Σy/Σm and S² = Σq/Σm − R² (ratio estimates, since sizes m_i differ).
To the first order, each errs by the mean over the sample of a *residual* of each file (Taylor
series; W. G. Cochran, *Sampling Techniques*, 3rd ed. 1977, §2.11 and §6.8; C.-E. Särndal,
B. Swensson and J. Wretman, *Model Assisted Survey Sampling*, 1992, §5.5)::

    of R:  e_i = (y_i − R m_i) / m̄
    of S:  e_i = (q_i − 2 R y_i + (R² − S²) m_i) / (2 S m̄)

with standard error sqrt((1 − n/N) Σe² / (n (n − 1))): the finite population correction makes it 0
when all files were read. A file that cannot be read counts as one of size 0: the result is that of
the readable files (a domain estimate; Särndal et al., §5.8).

Only sums over files are kept, of the three numbers, their products, and triple products for the
skewness of residuals; so memory does not grow with the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]
_JOINT = 32  # features up to which it is known how their errors vary together
_DRAWS = 1 << 14
_TINY = 1e-300
_FAR = 32.0  # standard errors that nothing reaches
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Residuals:
    """What is known of the residuals of all estimates: the means of all features, then their stds.

    Attributes
    ----------
    n : int
        Files of the sample.
    mean, std : ndarray of float64, (features,)
        The estimates.
    deviation : ndarray of float64, (2 features,)
        Standard deviations of residuals; inf where there is no data.
    skewness : ndarray of float64, (2 features,)
    correlation : ndarray of float64, (2 features, 2 features), or None
        None where there are too many.
    """

    n: int
    mean: _Floats
    std: _Floats
    deviation: _Floats
    skewness: _Floats
    correlation: _Floats | None


class ClusterSums:
    """Running sums over files, from which `residuals` follow.

    Parameters
    ----------
    n_features : int
    """

    def __init__(self, n_features: int) -> None:
        self.n, self.n_features = 0, n_features
        self._zero: _Floats | None = None
        self._first = np.zeros((n_features, 3))
        self._second = np.zeros((n_features, 3, 3))
        self._third = np.zeros((n_features, 3, 3, 3))
        wide = 3 * n_features if n_features <= _JOINT else 0
        self._cross = np.zeros((wide, wide))

    def add(self, rows: _Floats) -> None:
        """Take in some files.

        Parameters
        ----------
        rows : ndarray of float64, (files, features, 3)
            Number of values, Σx and Σx² of each file.
        """
        if self._zero is None:  # products of what lies about 0 do not cancel
            self._zero = rows.mean(axis=0)
        held = rows - self._zero
        self.n += len(held)
        self._first += held.sum(axis=0)
        self._second += np.einsum("nfi,nfj->fij", held, held)
        self._third += np.einsum("nfi,nfj,nfk->fijk", held, held, held)
        if self._cross.size:
            flat = held.reshape(len(held), -1)
            self._cross += flat.T @ flat

    def residuals(self, constant: npt.NDArray[np.bool_]) -> Residuals:
        """Estimates, and the spread of the residuals of files.

        Parameters
        ----------
        constant : ndarray of bool, (features,)
            Whether all values are equal so far: then there is no residual of the std.
        """
        assert self._zero is not None
        average = self._first / self.n
        mean, std, slopes = _linear(self._zero + average, constant)
        second = self._second / self.n - average[:, :, None] * average[:, None, :]
        variance = np.einsum("afi,afj,fij->af", slopes, slopes, second)
        third = np.einsum("afi,afj,afk,fijk->af", slopes, slopes, slopes, self._about(average))
        deviation = np.sqrt(np.maximum(variance, 0) * self.n / max(self.n - 1, 1)).ravel()
        with np.errstate(divide="ignore", invalid="ignore"):
            skewness = np.where(variance > 0, third / variance**1.5, 0.0).ravel()
        deviation[~np.isfinite(np.concatenate([mean, std]))] = np.inf
        return Residuals(self.n, mean, std, deviation, skewness, self._joint(slopes, average))

    def _about(self, average: _Floats) -> _Floats:
        """Third central moments of the three numbers."""
        a, b = average, self._second / self.n
        mixed = sum(np.einsum(f"fi,fjk->f{order}", a, b) for order in ("ijk", "jik", "jki"))
        return self._third / self.n - mixed + 2 * np.einsum("fi,fj,fk->fijk", a, a, a)  # type: ignore[no-any-return]

    def _joint(self, slopes: _Floats, average: _Floats) -> _Floats | None:
        """Correlation of all residuals."""
        if not self._cross.size:
            return None
        flat = average.ravel()
        spread = self._cross / self.n - np.outer(flat, flat)
        # A residual of feature f takes the three numbers of feature f alone.
        weights = np.zeros((2, self.n_features, self.n_features, 3))
        places = np.arange(self.n_features)
        weights[:, places, places] = slopes
        taken = weights.reshape(2 * self.n_features, -1)
        covariance = taken @ spread @ taken.T
        scale = np.sqrt(np.maximum(np.diag(covariance), 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            joint: _Floats = np.nan_to_num(covariance / np.outer(scale, scale))
        np.fill_diagonal(joint, 1.0)
        return joint


def _linear(average: _Floats, constant: Any) -> tuple[_Floats, _Floats, _Floats]:
    """Mean, std, and the slopes of both along the averages of m, y and q; (2, features, 3)."""
    m, y, q = average.T
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = y / m
        variance = np.where(constant, 0.0, np.maximum(q / m - mean**2, 0.0))
        std = np.sqrt(variance) + 0 * mean
        one = 1 / m
        of_mean = np.stack([-mean * one, one, 0 * one], axis=1)
        half = np.where(std > 0, one / (2 * std), 0.0)
        of_std = np.stack([(mean**2 - variance) * half, -2 * mean * half, half], axis=1)
    return mean, std, np.nan_to_num(np.stack([of_mean, of_std]), posinf=0.0, neginf=0.0)


# ---------------------------------------------------------------- all of them at once


def half_widths(
    residuals: Residuals, whole: int, asked: float, level: float
) -> tuple[_Floats | None, int]:
    """Intervals that hold all estimates at once, if none need be wider than was asked.

    The errors are taken as jointly normal, with the correlation of the residuals; of more than 32
    features as if they were independent, which is on the safe side whatever they are (Z. Šidák,
    *Rectangular confidence regions*, J. Amer. Statist. Assoc. 62, 1967). Each is widened for
    Student's t and for skewness (see `_widened`).

    Parameters
    ----------
    residuals : Residuals
    whole : int
        Files of the population.
    asked : float
    level : float
        Probability that one of them misses.

    Returns
    -------
    (ndarray of float64, (2 features,), or None; int)
        Half widths, none above `asked`; and how large a sample would do.
    """
    n = residuals.n
    errors = residuals.deviation * _widened(residuals, level)
    if not np.isfinite(errors).all():
        return None, whole
    width, shaped = _joint_quantile(residuals.correlation, errors, level)
    infinite = (width / asked) ** 2
    wanted = math.ceil(infinite / (1 + infinite / whole))
    root = math.sqrt((1 - n / whole) / n)
    if width * root > asked:
        return None, max(wanted, n + 1)
    factor = shaped(asked / root if root else math.inf)
    return np.minimum(asked, factor * errors * root), wanted


def _widened(residuals: Residuals, level: float) -> _Floats:
    """By how much the quantile of a studentized mean is larger than the normal one.

    Second-order Cornish-Fisher terms of P(|T| > z) from P. Hall, *The Bootstrap and Edgeworth
    Expansion*, 1992, §2.6, for a variance with n − 1: (z² + 1)/4 is Student's t, and
    γ²(z⁴ + 2z² − 3)/18 is what skewness γ costs. The term of the kurtosis would make it smaller for
    heavy tails, and is left out.
    """
    z = _sidak(level, len(residuals.deviation))
    skew = np.square(residuals.skewness)
    terms = skew * (z**4 + 2 * z**2 - 3) / 18 + (z**2 + 1) / 4
    return 1 + terms / residuals.n


def _sidak(level: float, count: int) -> float:
    """The normal quantile of each of several intervals."""
    return _NORMAL.inv_cdf(0.5 + 0.5 * (1 - level) ** (1 / count))


def _joint_quantile(correlation: _Floats | None, errors: _Floats, level: float) -> Any:
    """The quantile of the largest |error|; and a function of a bound on all of them.

    That gives the smallest factor f such that all errors are below both the bound and f times their
    own standard error, with the same probability.
    """
    if correlation is None:
        return _independent(errors, level)
    unknown = errors > 0  # what has no error needs no room
    if not unknown.any():
        return 0.0, lambda _: 0.0
    scores = np.abs(_scores(correlation[np.ix_(unknown, unknown)]))
    errors = errors[unknown]
    farthest, largest = (scores * errors).max(axis=1), scores.max(axis=1)
    keep = math.ceil((1 - level) * len(scores))

    def shaped(bound: float) -> float:
        within = np.sort(largest[farthest <= bound])
        return float(within[keep - 1]) if len(within) >= keep else _FAR

    return float(np.partition(farthest, keep - 1)[keep - 1]), shaped


def _scores(correlation: _Floats) -> _Floats:
    """Draws of standard normal numbers with a correlation; the same ones every time."""
    one = np.eye(len(correlation))
    for slack in (1e-9, 1e-6, 1e-3):  # gray pictures in color have equal channels
        with suppress(np.linalg.LinAlgError):
            root = np.linalg.cholesky((1 - slack) * correlation + slack * one)
            return np.asarray(_draws(len(correlation)) @ root.T)
    return _draws(len(correlation))


@cache
def _draws(count: int) -> _Floats:
    # This old generator gives the same numbers in every version of NumPy (NEP 19).
    return np.random.RandomState(0).standard_normal((_DRAWS, count))


def _independent(errors: _Floats, level: float) -> Any:
    """The same two of independent errors."""
    spread = errors[errors > 0]

    def below(limits: _Floats) -> bool:
        inside = (max(2 * _NORMAL.cdf(z) - 1, _TINY) for z in limits.tolist())
        return sum(math.log(p) for p in inside) >= math.log(1 - level)

    def shaped(bound: float) -> float:
        return _bisected(lambda f: below(np.minimum(bound / spread, f)), _FAR)

    high = float(_sidak(level, len(errors)) * errors.max())
    return _bisected(lambda width: below(width / spread), high), shaped


def _bisected(enough: Callable[[float], bool], high: float) -> float:
    """The smallest number that is enough, where larger ones are, and `high` is."""
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
