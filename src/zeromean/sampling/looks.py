"""How many files of a sample are enough: looks that plan, and looks that decide.

Files are read in a random order, and more of them are added until all intervals, of every mean and
every std together, are as narrow as was asked. Looking repeatedly and stopping when the numbers
please is what makes sampling dishonest, so the looks are of two kinds. The first ones only find out
how many files will be needed (a pilot that grows with what it finds; C. Stein, *A two-sample test
for a linear hypothesis whose power is independent of the variance*, Ann. Math. Statist. 16, 1945).
Then, with a margin, comes the one look that decides, and mostly it is the last. Each further one is
held to a smaller level, so that the levels of all add up (Bonferroni):

- 0.5 % that a group of files that would count has not been met, see `_met`;
- 4 % that the first look that decides is wrong;
- 0.5 % for all later ones: a half of it for the second, a quarter for the third, and so on.

What is known of the residuals of files decides too: see `_floor`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeromean.sampling.clusters import ClusterSums, Residuals, half_widths

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

CONFIDENCE = 0.95
_UNMET, _FIRST, _LATER = 0.005, 0.04, 0.005  # they add up to what is left
_LEAST = 100  # files, whatever they look like
_ALL = 0.85  # of the files from which on all are read: the exact answer costs little more
_GROWTH = 4  # between two looks, at most
_SHORT = 0.75  # of what seems to be needed: where to look again before deciding
_STEP = 1.1  # between two looks, at least


class Seen(NamedTuple):
    """What a sample has shown so far.

    Attributes
    ----------
    sums : ClusterSums or None
        On the scale where the range goes from 0 to 1; None if no file could be read.
    low, high : ndarray of float64, (features,)
        Smallest and largest value, on the same scale.
    """

    sums: ClusterSums | None
    low: _Floats
    high: _Floats


def sample_size(
    whole: int, asked: float, read: Callable[[int], Seen], least: int = _LEAST
) -> tuple[tuple[int, ...], _Floats | None]:
    """Read more and more files until they are enough.

    Parameters
    ----------
    whole : int
        How many files there are.
    asked : float
        Half width, on the scale where the range has length 1.
    read : callable
        Reads files up to that many in all, and says what all of them have shown.
    least : int
        Not to stop with fewer.

    Returns
    -------
    (tuple of int, ndarray of float64, (2 features,), or None)
        How many files there were at each look, and the half widths of all means, then stds; None
        when all files were read.
    """
    n, looks = max(least, _LEAST, _met(whole, asked)), []
    deciding, decided = False, 0
    while n < _ALL * whole:
        seen = read(n)
        looks.append(n)
        if seen.sums is None:
            break
        constant = seen.low == seen.high
        residuals = seen.sums.residuals(constant)
        widths, wanted = half_widths(residuals, whole, asked, _level(decided))
        floor = _floor(residuals, seen, whole, asked)
        if deciding and widths is not None and n >= floor:
            return tuple(looks), np.where(np.tile(constant, 2), asked, widths)
        if deciding:
            decided += 1
            wanted = half_widths(residuals, whole, asked, _level(decided))[1]
        n, deciding = _next(n, max(wanted, floor), residuals)
    read(whole)
    return (*looks, whole), None


def _level(decided: int) -> float:
    """Of the next look that decides, after that many."""
    return _FIRST if decided == 0 else _LATER / 2.0**decided


def _next(n: int, needed: int, residuals: Residuals) -> tuple[int, bool]:
    """How many files to look at next, and whether that look decides.

    An estimate of the number needed rests on a variance, whose relative error is about
    sqrt((2 + 3γ²/2) / n) for the skewness γ of a gamma distribution. Two of it are the margin, so
    that the look that decides is rarely in vain.
    """
    if needed > _GROWTH * n:
        return _GROWTH * n, False
    if _SHORT * needed > _STEP * n:
        return math.ceil(_SHORT * needed), False
    skew = float(np.square(residuals.skewness).max(initial=0))
    margin = 2 * math.sqrt((2 + 1.5 * skew) * max(1 / n - 1 / max(needed, 1), 0))
    return math.ceil(max(needed * (1 + margin), n * _STEP)), True


def _floor(residuals: Residuals, seen: Seen, whole: int, asked: float) -> int:
    """How many files there must be for the intervals to be trusted.

    Cochran's rule for the smallest sample whose mean is normal enough, n > 25 γ², as corrected for
    an estimated variance: 28 + 25 γ² (R. A. Sugden, T. M. F. Smith and R. P. Jones, *Cochran's rule
    for simple random sampling*, J. R. Statist. Soc. B 62, 2000). Where a few files stand out it
    asks for 25 of them.

    And a group of files that was not met, with values as far from the mean as any that were met,
    must not move a std by more than was asked: a share p of the files moves S² by p d² at most.
    Where all values so far are equal nothing is known of the std, and d is that of the whole range.
    """
    skew = float(np.square(residuals.skewness).max(initial=0))
    mean, std = residuals.mean, residuals.std
    constant = seen.low == seen.high
    low, high = np.where(constant, 0.0, seen.low), np.where(constant, 1.0, seen.high)
    distance = np.maximum(high - mean, mean - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = ((std + asked) ** 2 - std**2) / distance**2
    share = float(np.nanmin(shares, initial=1.0))
    return max(math.ceil(28 + 25 * skew), _met(whole, share))


def _met(whole: int, share: float) -> int:
    """How many files to read, so that a group of more than a share of all is met.

    A sample of n misses all of a group of g with probability C(N − g, n) / C(N, n) ≤ (1 − n/N)^g,
    which is at most 0.5 % here. With the share that is asked for, no group that was not met can
    move the mean by more, if files are of one size.
    """
    group = math.floor(share * whole) + 1
    return math.ceil(whole * -math.expm1(math.log(_UNMET) / group))


def size_floor(sizes: _Ints, asked: float) -> int:
    """How many files to read at least, so that the large ones are met.

    Files that are larger than all that were read must hold no more than the share that is asked for
    of all bytes: else a few giants that were not met could move the mean.

    Parameters
    ----------
    sizes : ndarray of int64
        In bytes, in the order in which files are read.
    asked : float
    """
    whole, allowed = len(sizes), asked * float(sizes.sum(dtype=np.float64))
    largest = np.maximum.accumulate(sizes)
    low, high = 0, whole
    while low < high:  # the share falls with n
        n = (low + high) // 2
        rest = sizes[n:]
        beyond = rest if n == 0 else rest[rest > largest[n - 1]]
        low, high = (low, n) if beyond.sum(dtype=np.float64) <= allowed else (n + 1, high)
    return low
