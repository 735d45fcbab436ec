"""Measures fitting a whitening side by side with scikit-learn, and writes its section of the page.

    python bench/bench_whitening.py                         # to the terminal; some minutes
    python bench/bench_whitening.py -o docs/benchmarks.md   # and its section
    python bench/bench_whitening.py --tiny                  # a second, for a test

Needs ``pip install "zeromean[bench]"``, a quiet machine and 8 GB of memory.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

import zeromean as zm
from machine import describe_machine, describe_software
from page import write_section
from photographs import make_crops
from rounds import (
    Contestant,
    Deviation,
    DisagreementError,
    Goal,
    Race,
    goal_table,
    run_race,
    timed,
)
from script import in_words

_Array = npt.NDArray[Any]
_PATTERN = "n h w c -> h w c"
_SIZES = {"full": (50_000, 32, 3), "medium": (10_000, 16, 3), "tiny": (300, 4, 2)}

OURS, ZCA = "zeromean, measure + whiten", 'the same, "zca"'
MEASURE, EIGEN = "of this: measure, covariance=True", "of this: numpy.linalg.eigh"
PEER = 'PCA(whiten=True, "covariance_eigh").fit'

_PREFACE = """## Whitening

Made by `python bench/bench_whitening.py{options}` in {minutes} on {machine}.
{software}.
{trial}
Fitting PCA whitening to {count:,} crops of two photographs, {side} × {side} × 3 uint8, from the
pixels to the matrix, with the default threads of everybody. All contestants ran in interleaved
rounds, after one round to warm up; figures are medians over {rounds} rounds. Every fit's variances
were compared with those of the exact covariance: the last column says how far off they were at
most, in units of the largest, and in brackets what the arithmetic allows.
"""

_AFTER = """Ours multiplies pixels as float32, in pieces whose sums a float32 holds exactly, and
adds them up as integers: twice the speed of float64, and no rounding. Then there is the covariance
to read out (each entry rounded once) and its eigenvectors, which are LAPACK's for both."""

_TRIAL = "\n**A trial of the script at small sizes: the figures and verdicts mean nothing.**\n"


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--tiny", "size", flag_value="tiny", help="A second; the figures mean nothing.")
@click.option("--medium", "size", flag_value="medium", help="Half a minute.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the section here.")
@click.option("--json", "raw", type=click.Path(path_type=Path), help="Write all seconds here.")
def main(size: str | None, output: Path | None, raw: Path | None) -> None:
    """Run, print, and write what was asked for."""
    start = time.monotonic()
    count, side, rounds = _SIZES[size or "full"]
    race = whitening_race(make_crops(count, side), rounds)
    seconds = time.monotonic() - start
    preface = _PREFACE.format(
        options=f" --{size}" if size else "",
        minutes=in_words(seconds),
        machine=describe_machine(),
        software=describe_software(),
        trial=_TRIAL if size else "",
        count=count,
        side=side,
        rounds=rounds,
    )
    goal = Goal("whitening fit : scikit-learn's", race.ratio(PEER, OURS), 1)
    blocks = [preface, race.table(OURS), _AFTER, "### Whitening must reach", goal_table([goal])]
    text = "\n\n".join(block.strip() for block in blocks) + "\n"
    click.echo(text)
    if output is not None:
        write_section(output, "bench_whitening", text)
    if raw is not None:
        raw.write_text(json.dumps({race.title: race.seconds}, indent=1), encoding="utf-8")


def whitening_race(crops: _Array, rounds: int) -> Race:
    """Let everybody fit the same pictures."""
    count, features = len(crops), crops[0].size
    profile = zm.measure(crops, _PATTERN, covariance=True)
    covariance = profile.cov(ddof=1)
    exact = np.linalg.eigvalsh(covariance)[::-1]
    flat = crops.reshape(count, features)
    known = ours(crops)
    contestants = [
        Contestant(OURS, timed(lambda: ours(crops)), same(known)),
        Contestant(ZCA, timed(lambda: ours(crops, "zca")), same(ours(crops, "zca"))),
        Contestant(MEASURE, timed(lambda: measured(crops)), same(covariance)),
        Contestant(EIGEN, timed(lambda: eigenvalues(covariance)), close(exact, covariance, 0)),
        Contestant(PEER, timed(lambda: theirs(flat)), close(exact, covariance, count)),
    ]
    race = Race(f"{count:,} × {features:,} uint8", count * features / 1e6, "megavalues")
    return run_race(race, contestants, rounds)


# ---------------------------------------------------------------- contestants


def ours(crops: _Array, kind: str = "pca") -> _Array:
    """The matrix that whitens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a direction without variance, in small trials
        norm = zm.whiten(zm.measure(crops, _PATTERN, covariance=True), kind, ddof=1)
    assert norm.matrix is not None
    return norm.matrix


def measured(crops: _Array) -> _Array:
    """The covariance alone."""
    return zm.measure(crops, _PATTERN, covariance=True).cov(ddof=1)


def eigenvalues(covariance: _Array) -> _Array:
    """LAPACK's part, which everybody needs; with the vectors."""
    return np.linalg.eigh(covariance)[0][::-1]


def theirs(flat: _Array) -> _Array:
    """scikit-learn's explained variances."""
    from sklearn.decomposition import PCA

    variances: _Array = PCA(whiten=True, svd_solver="covariance_eigh").fit(flat).explained_variance_
    return variances


# ---------------------------------------------------------------- agreement


def same(expected: _Array) -> Callable[[_Array], Deviation]:
    """A check for ourselves: the same bits every time."""

    def check(found: _Array) -> Deviation:
        if not np.array_equal(found, expected):
            raise DisagreementError("another run gave other bits")
        return Deviation(0.0, 0.0)

    return check


def close(exact: _Array, covariance: _Array, terms: int) -> Callable[[_Array], Deviation]:
    """A check for peers: eigenvalues move by no more than the norm of the error (Weyl).

    Summing so many products in float64 errs by terms u of their magnitudes, here at most 255² for
    each entry; LAPACK by a small multiple of d u of the largest eigenvalue.
    """
    features, unit = len(covariance), 2.0**-53
    allowed = (terms * unit * 255.0**2 * features) / exact[0] + 10 * features * unit

    def check(found: _Array) -> Deviation:
        padded = np.zeros_like(exact)
        padded[: len(found)] = found[: len(exact)]
        off = float(np.abs(padded - exact).max() / exact[0])
        if not off <= allowed:
            raise DisagreementError(f"variances are off by {off:.1e}, allowed are {allowed:.1e}")
        return Deviation(off, allowed)

    return check


if __name__ == "__main__":
    main()
