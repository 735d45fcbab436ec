"""Simulates `within`: how many files are read, and how often the intervals hold.

A population is one row for each file and feature (number of pixels, Σx, Σx², smallest and largest
value, on a 0..1 scale), drawn once. Each trial reads its files in another random order with the
very code that `zeromean.measure` runs; it is a hit when every mean and std of the population lies
within its interval. ``python bench/within.py`` writes a table of all of them.

The pictures of `cifar` follow CIFAR-10's: per picture and channel, the logit of the mean and the
logarithm of the std are jointly normal, with the averages, standard deviations and correlations
that 5,000 pictures of the training set have (they are written below).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.sampling.clusters import ClusterSums
from zeromean.sampling.looks import Seen, sample_size, size_floor

_Floats = npt.NDArray[np.float64]
_SIDE = 1024.0  # pixels of a picture

# Of CIFAR-10: logit of the mean of R, G, B, then log of the std of R, G, B.
_CENTER = [-0.045, -0.088, -0.234, -1.669, -1.688, -1.687]
_SPREAD = [0.550, 0.550, 0.711, 0.337, 0.339, 0.375]
_CORRELATION = [
    [1.000, 0.837, 0.598, 0.026, 0.135, 0.193],
    [0.837, 1.000, 0.838, -0.068, 0.052, 0.183],
    [0.598, 0.838, 1.000, -0.039, 0.067, 0.271],
    [0.026, -0.068, -0.039, 1.000, 0.887, 0.683],
    [0.135, 0.052, 0.067, 0.887, 1.000, 0.842],
    [0.193, 0.183, 0.271, 0.683, 0.842, 1.000],
]


@dataclass(frozen=True)
class Population:
    """Files, on a 0..1 scale; all arrays are (files, features).

    Attributes
    ----------
    pixels, mean, variance : ndarray of float64
        Of each file.
    low, high : ndarray of float64
        Smallest and largest value of each file.
    """

    pixels: _Floats
    mean: _Floats
    variance: _Floats
    low: _Floats
    high: _Floats

    @property
    def rows(self) -> _Floats:
        """What `ClusterSums.add` takes."""
        sums = self.pixels * self.mean
        squares = self.pixels * (self.variance + self.mean**2)
        return np.stack([self.pixels, sums, squares], axis=2)

    def truth(self) -> tuple[_Floats, _Floats]:
        """Mean and std of all pixels of all files."""
        n, sums, squares = self.rows.sum(axis=0).T
        return sums / n, np.sqrt(np.maximum(squares / n - (sums / n) ** 2, 0))


def cifar(rng: np.random.Generator, files: int) -> Population:
    """Color pictures of one size."""
    root = np.linalg.cholesky(np.array(_CORRELATION))
    drawn = rng.standard_normal((files, 6)) @ root.T * _SPREAD + _CENTER
    mean = 1 / (1 + np.exp(-drawn[:, :3]))
    variance = np.minimum(np.exp(2 * drawn[:, 3:]), 0.98 * mean * (1 - mean))
    whole = np.ones((files, 3))
    return Population(_SIDE * whole, mean, variance, 0 * whole, whole)


def mnist(rng: np.random.Generator, files: int) -> Population:
    """White strokes on black."""
    mean = rng.gamma(9.2, 0.1325 / 9.2, (files, 1))
    variance = np.maximum(mean * (0.728 + 0.03 * rng.standard_normal((files, 1))) - mean**2, 1e-4)
    whole = np.ones((files, 1))
    return Population(784 * whole, mean, variance, 0 * whole, whole)


def sizes(spread: float) -> Callable[[np.random.Generator, int], Population]:
    """Photographs of many sizes: lognormal, with heavy tails."""

    def made(rng: np.random.Generator, files: int) -> Population:
        pixels = np.exp(rng.normal(11, spread, (files, 1))) * np.ones((1, 3))
        return replace(cifar(rng, files), pixels=pixels)

    return made


def darker_when_larger(rng: np.random.Generator, files: int) -> Population:
    """Sizes that have to do with brightness."""
    held, drawn = cifar(rng, files), rng.standard_normal((files, 1))
    mean = 1 / (1 + (1 - held.mean) / held.mean * np.exp(0.4 * drawn))
    variance = np.minimum(held.variance, 0.98 * mean * (1 - mean))
    pixels = np.exp(11 + drawn) * np.ones((1, 3))
    return replace(held, pixels=pixels, mean=mean, variance=variance)


def lognormal(rng: np.random.Generator, files: int) -> Population:
    """Mostly dark pictures, and a few bright ones."""
    mean = np.minimum(np.exp(rng.normal(-3, 1, (files, 1))), 0.9) * np.ones((1, 3))
    variance = np.minimum((0.5 * mean) ** 2, 0.9 * mean * (1 - mean))
    return replace(cifar(rng, files), mean=mean, variance=variance)


def with_flat(
    share: float, level: float, base: Callable[[np.random.Generator, int], Population] = cifar
) -> Callable[[np.random.Generator, int], Population]:
    """A share of the files is black or white throughout."""

    def made(rng: np.random.Generator, files: int) -> Population:
        held, flat = base(rng, files), np.zeros((files, 1), np.bool_)
        flat[rng.permutation(files)[: round(share * files)]] = True
        return Population(
            held.pixels,
            np.where(flat, level, held.mean),
            np.where(flat, 0.0, held.variance),
            np.where(flat, level, held.low),
            np.where(flat, level, held.high),
        )

    return made


def black(rng: np.random.Generator, files: int) -> Population:
    """Nothing at all."""
    zero = 0 * cifar(rng, files).mean
    return Population(_SIDE + zero, zero, zero, zero, zero)


def textures(rng: np.random.Generator, files: int) -> Population:
    """Pictures that are nearly alike."""
    held = cifar(rng, files)
    variance = 0.04 + 1e-4 * rng.standard_normal(held.mean.shape)
    return replace(held, mean=0.5 + 0.01 * (held.mean - 0.5), variance=variance)


def giants(rng: np.random.Generator, files: int) -> Population:
    """Two files of a thousand are a hundred times as large, and bright: a pilot misses them."""
    held, large = cifar(rng, files), np.zeros((files, 1), np.bool_)
    large[rng.permutation(files)[: round(0.002 * files)]] = True
    return replace(
        held,
        pixels=np.where(large, 100.0, 1.0) * held.pixels,
        mean=np.where(large, 0.8 + 0.2 * held.mean, held.mean),
        variance=np.where(large, 0.01, held.variance),
    )


POPULATIONS = {
    "cifar": cifar,
    "mnist": mnist,
    "sizes, lognormal 1": sizes(1.0),
    "sizes, lognormal 1.5": sizes(1.5),
    "darker when larger": darker_when_larger,
    "brightness, lognormal": lognormal,
    "half are black": with_flat(0.5, 0.0),
    "1 % are white": with_flat(0.01, 1.0),
    "black, 0.5 % white": with_flat(0.005, 1.0, black),
    "textures": textures,
    "textures, 1 % white": with_flat(0.01, 1.0, textures),
    "giants": giants,
}


#: Population, files, and what is asked: the rows of the table in docs/estimates.md.
TABLE = (
    ("cifar", 100_000, 0.001),
    ("cifar", 100_000, 0.002),
    ("cifar", 100_000, 0.005),
    ("cifar", 100_000, 0.01),
    ("cifar", 10_000, 0.01),
    ("cifar", 2_000, 0.01),
    ("cifar", 300, 0.01),
    ("cifar", 50, 0.01),
    ("mnist", 100_000, 0.002),
    ("brightness, lognormal", 100_000, 0.005),
    ("half are black", 100_000, 0.005),
    ("1 % are white", 100_000, 0.005),
    ("black, 0.5 % white", 100_000, 0.01),
    ("textures", 100_000, 0.005),
    ("textures, 1 % white", 100_000, 0.01),
    ("darker when larger", 100_000, 0.01),
    ("sizes, lognormal 1", 100_000, 0.01),
    ("sizes, lognormal 1.5", 100_000, 0.02),
    ("giants", 100_000, 0.02),
)


@dataclass(frozen=True)
class Outcome:
    """What many trials gave.

    Attributes
    ----------
    coverage : float
        Share of trials in which every mean and std was within what was asked.
    read : float
        Average share of the files that were read.
    most : float
        The largest share.
    complete : float
        Share of trials that read all files.
    looks : float
        Average number of looks.
    """

    coverage: float
    read: float
    most: float
    complete: float
    looks: float


def simulate(
    name: str, asked: float, trials: int, *, files: int = 100_000, seed: int = 0
) -> Outcome:
    """Read a population many times, each time in another order.

    Parameters
    ----------
    name : str
        In `POPULATIONS`.
    asked : float
        As ``measure(..., within=)``.
    trials : int
    files : int
        Of the population.
    seed : int
    """
    rng = np.random.default_rng(seed)
    held = POPULATIONS[name](rng, files)
    rows, truth = held.rows, np.concatenate(held.truth())
    taken = [_trial(held, rows, truth, asked, rng.permutation(files)) for _ in range(trials)]
    hits, counts, looks = (np.array(v, np.float64) for v in zip(*taken, strict=True))
    shares = counts / files
    complete = float((counts == files).mean())
    return Outcome(hits.mean(), shares.mean(), shares.max(), complete, looks.mean())


def _trial(
    held: Population, rows: _Floats, truth: _Floats, asked: float, order: Any
) -> tuple[bool, int, int]:
    """Whether all intervals hold, how many files were read, and how many looks that took."""
    sums, read = ClusterSums(rows.shape[1]), 0

    def more(n: int) -> Seen:
        nonlocal read
        sums.add(rows[order[read:n]])
        read = n
        seen = order[:n]
        return Seen(sums, held.low[seen].min(axis=0), held.high[seen].max(axis=0))

    sizes_read = held.pixels[order, 0].astype(np.int64)
    looks, widths = sample_size(len(rows), asked, more, size_floor(sizes_read, asked))
    if widths is None:
        return True, len(rows), len(looks)
    seen = sums.residuals(np.zeros(rows.shape[1], np.bool_))
    error = np.abs(np.concatenate([seen.mean, seen.std]) - truth)
    assert (widths <= asked).all()
    return bool((error <= widths).all()), looks[-1], len(looks)


def _line(task: tuple[str, int, float, int]) -> str:
    name, files, asked, trials = task
    o = simulate(name, asked, trials, files=files)
    return (
        f"| {name} | {files:,} | {asked:g} | {100 * o.read:.1f} % | {100 * o.most:.1f} % | "
        f"{100 * o.complete:.1f} % | {o.looks:.1f} | {100 * o.coverage:.1f} % |"
    )


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--only", choices=POPULATIONS)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    tasks = [(*row, given.trials) for row in TABLE if given.only in (None, row[0])]
    print("| population | files | within | read | at most | all read | looks | coverage |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    with ProcessPoolExecutor(given.workers) as pool:
        for line in pool.map(_line, tasks):
            print(line, flush=True)


if __name__ == "__main__":
    main()
