"""Part (a): float columns in memory, exactly, against what people use and what memory allows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

import zeromean as zm
from avx2_worker import Avx2Worker
from machine import has_feature
from rounds import Answer, Contestant, Goal, Part, Race, equals, run_race, same_bits, timed, within
from sizes import Sizes

_Array = npt.NDArray[Any]
_COLUMNS = 64

OURS, TWO, AVX2 = "zeromean, 1 thread", "zeromean, 2 threads", "zeromean, 1 thread, AVX2 code"
FIT, NUMPY = "StandardScaler().fit", "NumPy mean + var, float64"
LOOP, READ = "plain Numba loop, inexact", "bare memory read"


@njit(nogil=True, cache=True, error_model="numpy")
def plain_loop(x: Any, sums: Any, squares: Any) -> None:
    """Σx and Σx² of each column in float64, as one would write it without a second thought."""
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            v = np.float64(x[r, j])
            sums[j] += v
            squares[j] += v * v


@njit(nogil=True, cache=True, error_model="numpy")
def plain_loop_skipping(x: Any, sums: Any, squares: Any, counts: Any) -> None:
    """The same, leaving NaN out."""
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            v = np.float64(x[r, j])
            good = v == v
            sums[j] += v if good else 0.0
            squares[j] += v * v if good else 0.0
            counts[j] += good


@njit(nogil=True, cache=True)
def read_words(words: Any) -> int:
    """Sum of 64-bit words modulo 2^64: touches every byte, and hardly computes."""
    total = np.uint64(0)
    for i in range(len(words)):
        total += words[i]
    return total


def run_floats(sizes: Sizes) -> Part:
    """All of part (a)."""
    part = Part(f"(a) Float columns in memory, {sizes.rows:,} × {_COLUMNS}")
    for dtype in ("float32", "float64"):
        part.races.append(_main_race(sizes, dtype))
        part.text.append(part.races[-1].table(OURS))
    part.goals += _goals(part.races[0])
    for name in ("N(0, 1)", "lognormal(σ = 3)", "N(5, 2) with 5 % NaN"):
        part.races.append(_stress_race(sizes, name))
        part.text.append(part.races[-1].table(OURS))
    part.text.append(
        "Ours gives the correctly rounded mean and std, minimum, maximum and counts of NaN and "
        "infinities. The plain loop's error grows with |mean| / std; it gives nothing else."
    )
    return part


def _goals(race: Race) -> list[Goal]:
    goals = [
        Goal("float32 fit, one thread : scikit-learn's fit", race.ratio(FIT, OURS), 12, 16),
        Goal("the same : plain inexact Numba loop", race.ratio(LOOP, OURS), 0.45, 0.55),
    ]
    if AVX2 in race.seconds:
        goals.append(Goal("the same, AVX2 code only : its fit", race.ratio(FIT, AVX2), 8))
    goals.append(Goal("float32 fit, two threads : its fit", race.ratio(FIT, TWO), 17, 25))
    return goals


def make(name: str, rows: int, dtype: str) -> _Array:
    """Data by the name of its distribution; the same in every process."""
    rng = np.random.default_rng(20_24)
    x = rng.standard_normal((rows, _COLUMNS), dtype=dtype)  # type: ignore[call-overload]
    if name == "N(0, 1)":
        return x  # type: ignore[no-any-return]
    if name.startswith("lognormal"):
        return np.exp(3 * x, out=x)  # type: ignore[no-any-return]
    x *= 2
    x += 5
    if name.endswith("NaN"):
        x[rng.random((rows, _COLUMNS), dtype=np.float32) < 0.05] = np.nan
    return x  # type: ignore[no-any-return]


def _main_race(sizes: Sizes, dtype: str) -> Race:
    x = make("N(5, 2)", sizes.rows, dtype)
    race = Race(f"{dtype}, N(5, 2)", x.nbytes / 1e9, "GB")
    exact = ours(x)
    contestants = [
        Contestant(OURS, timed(lambda: ours(x)), same_bits(exact)),
        Contestant(TWO, timed(lambda: ours(x, 2)), same_bits(exact)),
        Contestant(FIT, timed(lambda: fit(x)), within(exact, len(x))),
        Contestant(NUMPY, timed(lambda: numpy_moments(x)), within(exact, len(x))),
        Contestant(LOOP, timed(lambda: looped(x)), within(exact, len(x), one_pass=True)),
        Contestant(READ, timed(lambda: read(x)), equals(words_sum(x))),
    ]
    if dtype not in sizes.avx2 or not has_feature("avx2"):
        return run_race(race, contestants, sizes.rounds)
    with Avx2Worker("N(5, 2)", sizes.rows, dtype) as worker:
        contestants.insert(2, Contestant(AVX2, worker.clock, same_bits(exact)))
        return run_race(race, contestants, sizes.rounds)


def _stress_race(sizes: Sizes, name: str) -> Race:
    x = make(name, sizes.rows, "float32")
    race = Race(f"float32, {name}", x.nbytes / 1e9, "GB")
    exact = ours(x)
    loop: Callable[[_Array], Answer] = looped_skipping if name.endswith("NaN") else looped
    contestants = [
        Contestant(OURS, timed(lambda: ours(x)), same_bits(exact)),
        Contestant(TWO, timed(lambda: ours(x, 2)), same_bits(exact)),
        Contestant(FIT, timed(lambda: fit(x)), within(exact, len(x))),
        Contestant(LOOP, timed(lambda: loop(x)), within(exact, len(x), one_pass=True)),
    ]
    return run_race(race, contestants, sizes.rounds)


# ---------------------------------------------------------------- contestants


def ours(x: _Array, workers: int = 1) -> Answer:
    """zeromean, with the read-out."""
    profile = zm.measure(x, workers=workers)
    return Answer(profile.mean, profile.std)


def fit(x: _Array) -> Answer:
    """scikit-learn."""
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaler = StandardScaler().fit(x)
    return Answer(scaler.mean_, scaler.scale_)


def numpy_moments(x: _Array) -> Answer:
    """NumPy as one should write it: both reductions in float64."""
    mean, variance = x.mean(axis=0, dtype=np.float64), x.var(axis=0, dtype=np.float64)
    return Answer(mean, np.sqrt(variance))


def looped(x: _Array) -> Answer:
    """The plain loop: E[x²] - E[x]²."""
    sums, squares = np.zeros((2, x.shape[1]))
    plain_loop(x, sums, squares)
    return _from_sums(sums, squares, len(x))


def looped_skipping(x: _Array) -> Answer:
    """The plain loop without NaN."""
    sums, squares, counts = np.zeros((3, x.shape[1]))
    plain_loop_skipping(x, sums, squares, counts)
    return _from_sums(sums, squares, counts)


def _from_sums(sums: _Array, squares: _Array, n: Any) -> Answer:
    return Answer(sums / n, np.sqrt(np.maximum(squares / n - (sums / n) ** 2, 0)))


def read(x: _Array) -> int:
    """Read all memory once."""
    return int(read_words(x.reshape(-1).view(np.uint64)))


def words_sum(x: _Array) -> int:
    """What `read` must give."""
    return int(x.reshape(-1).view(np.uint64).sum(dtype=np.uint64))
