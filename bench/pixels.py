"""Part (b): uint8 pictures in memory, full histograms against mean and std alone."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

import zeromean as zm
from floats import READ, read, words_sum
from photographs import make_crops, make_tiles
from rounds import Answer, Contestant, Goal, Part, Race, equals, run_race, same_bits, timed, within
from sizes import Sizes

_Bytes = npt.NDArray[np.uint8]

OURS, TWO = "zeromean, 1 thread", "zeromean, 2 threads"
NUMPY, OPENCV, BINCOUNT = "NumPy mean + std, float64", "OpenCV meanStdDev", "NumPy bincount"


def run_pixels(sizes: Sizes) -> Part:
    """All of part (b)."""
    part = Part("(b) uint8 pictures in memory, (n, h, w, c)")
    cv2.setNumThreads(1)
    tiles = f"{sizes.tiles:,} × {sizes.tile} × {sizes.tile} × 3"
    part.races.append(_race(tiles, make_tiles(sizes.tiles, sizes.tile), sizes.rounds))
    part.races.append(
        _race(f"{sizes.crops:,} × 32 × 32 × 3", make_crops(sizes.crops), sizes.rounds)
    )
    for race in part.races:
        part.text.append(race.table(OURS))
        part.goals += _goals(race)
    part.text.append(
        "Real pixels, cut from photographs. Ours gives the full histogram of each channel (so "
        "every quantile too) and the std of every single picture; bincount gives the histogram; "
        "the others give mean and std."
    )
    return part


def _goals(race: Race) -> list[Goal]:
    rate = race.rate(OURS)
    return [
        Goal(f"uint8 {race.title}, one thread", rate, 700, 1000, " megapixels/s"),
        Goal("the same : NumPy float64 mean + std", race.ratio(NUMPY, OURS), 20),
    ]


def _race(title: str, x: _Bytes, rounds: int) -> Race:
    n = x.size // 3
    race = Race(title, n / 1e6, "megapixels")
    exact = ours(x)
    contestants = [
        Contestant(OURS, timed(lambda: ours(x)), same_bits(exact)),
        Contestant(TWO, timed(lambda: ours(x, 2)), same_bits(exact)),
        Contestant(NUMPY, timed(lambda: numpy_moments(x)), within(exact, n)),
        Contestant(OPENCV, timed(lambda: opencv(x)), within(exact, n, one_pass=True)),
        Contestant(BINCOUNT, timed(lambda: bincount(x)), within(exact, 4)),
        Contestant(READ, timed(lambda: read(x)), equals(words_sum(x))),
    ]
    return run_race(race, contestants, rounds)


def ours(x: _Bytes, workers: int = 1) -> Answer:
    """zeromean, with the read-out."""
    profile = zm.measure(x, "n h w c -> c", workers=workers)
    return Answer(profile.mean, profile.std)


def numpy_moments(x: _Bytes) -> Answer:
    """NumPy over all axes but the last."""
    axes = (0, 1, 2)
    return Answer(x.mean(axis=axes, dtype=np.float64), x.std(axis=axes, dtype=np.float64))


def opencv(x: _Bytes) -> Answer:
    """OpenCV, with all pictures seen as one tall one."""
    mean, std = cv2.meanStdDev(x.reshape(-1, x.shape[2], 3))
    return Answer(mean[:, 0], std[:, 0])


def bincount(x: _Bytes) -> Answer:
    """NumPy's histogram of each channel, and exact sums from it."""
    flat = x.reshape(-1, 3)
    pairs = [_read_out(np.bincount(flat[:, c], minlength=256).tolist()) for c in range(3)]
    return Answer(*np.array(pairs).T)


def _read_out(counts: list[int]) -> tuple[float, float]:
    n = sum(counts)
    s = sum(v * count for v, count in enumerate(counts))
    q = sum(v * v * count for v, count in enumerate(counts))
    return s / n, math.sqrt((n * q - s * s) / (n * n))
