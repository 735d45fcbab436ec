"""The parts of `bench_estimators`: ours against scikit-learn's scalers of the same names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import preprocessing

import zeromean.sklearn as zs
from applying import bits_of, copied_from, near
from rounds import Answer, Contestant, Goal, Part, Race, run_race, same_bits, timed, within
from sizes import Sizes

_Array = npt.NDArray[Any]
_COLUMNS, _WIDE = 64, 4_096
_BATCH = 1_000
OURS, THEIRS, COPY = "zeromean", "scikit-learn", "bare x.copy(), new array"


def run_fit(sizes: Sizes) -> Part:
    """Part (a): everything in memory, fitted at once, default threads."""
    part = Part("(a) StandardScaler().fit")
    for rows, columns in ((sizes.rows, _COLUMNS), (_few(sizes), _WIDE)):
        for dtype in ("float32", "float64"):
            part.races.append(_fit(make(rows, columns, dtype), sizes.rounds))
    part.text += [race.table(OURS) for race in part.races]
    goals = zip(part.races, ((17, 25), (6, 10)), ("float32", "float64"), strict=False)
    part.goals += [
        Goal(f"fit, {dtype}, {sizes.rows:,} × {_COLUMNS}", race.ratio(THEIRS, OURS), *marks)
        for race, marks, dtype in goals
    ]
    return part


def _fit(x: _Array, rounds: int) -> Race:
    race = Race(_title(x), x.nbytes / 1e9, "GB")
    contestants = _both(x, lambda scaler: scaler.fit(x))
    return run_race(race, contestants, rounds)


def run_batches(sizes: Sizes) -> Part:
    """Part (b): fitted batch by batch, read out at the end."""
    part = Part(f"(b) StandardScaler().partial_fit, batches of {_BATCH:,} rows")
    for rows, columns in ((min(sizes.rows, 100_000), _COLUMNS), (_few(sizes), _WIDE)):
        for dtype in ("float32", "float64"):
            x = make(rows, columns, dtype)
            race = Race(_title(x), x.nbytes / 1e9, "GB")
            part.races.append(run_race(race, _both(x, _by_batches(x)), sizes.rounds))
    part.text += [race.table(OURS) for race in part.races]
    part.goals += [
        Goal(f"partial_fit, {dtype}, {_BATCH:,} × {_COLUMNS}", race.ratio(THEIRS, OURS), 4, 8)
        for race, dtype in zip(part.races, ("float32", "float64"), strict=False)
    ]
    return part


def _by_batches(x: _Array) -> Callable[[Any], Any]:
    batches = [x[i : i + _BATCH] for i in range(0, len(x), _BATCH)]

    def fit(scaler: Any) -> Any:
        for batch in batches:
            scaler.partial_fit(batch)
        return scaler

    return fit


def run_transform(sizes: Sizes) -> Part:
    """Part (c): transform and back, to a new array as scikit-learn's do."""
    part = Part("(c) StandardScaler().transform and inverse_transform")
    for rows, columns in ((sizes.rows, _COLUMNS), (_few(sizes), _WIDE), (_BATCH, _COLUMNS)):
        for dtype in ("float32", "float64"):
            x = make(rows, columns, dtype)
            part.races += [_there(x, sizes.rounds), _back(x, sizes.rounds)]
    part.text += [race.table(OURS) for race in part.races]
    first = part.races[0]
    part.goals += [
        Goal(f"transform, float32, {sizes.rows:,} × {_COLUMNS}", first.ratio(THEIRS, OURS), 3),
        Goal("the same, bytes/s : bare copy to a new array", first.ratio(COPY, OURS), 0.7),
    ]
    return part


def _there(x: _Array, rounds: int) -> Race:
    ours, theirs = zs.StandardScaler().fit(x), preprocessing.StandardScaler().fit(x)
    exact = ((x - ours.mean_) / ours.scale_).astype(x.dtype)
    contestants = [
        Contestant(OURS, timed(lambda: ours.transform(x)), bits_of(exact)),
        Contestant(THEIRS, timed(lambda: theirs.transform(x)), near(exact, _rough(x))),
        Contestant(COPY, timed(x.copy), copied_from(x)),
    ]
    return run_race(Race(f"{_title(x)}, transform", x.nbytes / 1e9, "GB"), contestants, rounds)


def _back(x: _Array, rounds: int) -> Race:
    ours, theirs = zs.StandardScaler().fit(x), preprocessing.StandardScaler().fit(x)
    y = ours.transform(x)
    exact = (y * ours.scale_ + ours.mean_).astype(x.dtype)
    contestants = [
        Contestant(OURS, timed(lambda: ours.inverse_transform(y)), bits_of(exact)),
        Contestant(THEIRS, timed(lambda: theirs.inverse_transform(y)), near(exact, _rough(x))),
        Contestant(COPY, timed(y.copy), copied_from(y)),
    ]
    race = Race(f"{_title(x)}, inverse_transform", x.nbytes / 1e9, "GB")
    return run_race(race, contestants, rounds)


def run_others(sizes: Sizes) -> Part:
    """Part (d): the other scalers."""
    part = Part("(d) MinMaxScaler, MaxAbsScaler, RobustScaler: fit")
    for name in ("MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        rounds = min(sizes.rounds, 3) if name == "RobustScaler" else sizes.rounds
        for dtype in ("float32", "float64"):
            part.races.append(_fit_other(name, make(sizes.rows, _COLUMNS, dtype), rounds))
    part.text += [race.table(OURS) for race in part.races]
    return part


def _fit_other(name: str, x: _Array, rounds: int) -> Race:
    exact = np.asarray(getattr(zs, name)().fit(x).scale_)
    contestants = [
        Contestant(OURS, timed(lambda: getattr(zs, name)().fit(x).scale_), bits_of(exact)),
        Contestant(
            THEIRS,
            timed(lambda: getattr(preprocessing, name)().fit(x).scale_),
            near(exact, 1e-5 if x.dtype == np.float32 else 1e-13),
        ),
    ]
    return run_race(Race(f"{name}, {_title(x)}", x.nbytes / 1e9, "GB"), contestants, rounds)


# ---------------------------------------------------------------- data and answers


def make(rows: int, columns: int, dtype: str) -> _Array:
    """N(5, 2), the same every time."""
    rng = np.random.default_rng(20_24)
    x = rng.standard_normal((rows, columns), dtype=dtype)  # type: ignore[call-overload]
    x *= 2
    x += 5
    return x  # type: ignore[no-any-return]


def _few(sizes: Sizes) -> int:
    return max(sizes.rows // 100, 64)


def _title(x: _Array) -> str:
    return f"{x.dtype.name}, {x.shape[0]:,} × {x.shape[1]:,}"


def _rough(x: _Array) -> float:
    return 1e-4 if x.dtype == np.float32 else 1e-12


def _both(x: _Array, fit: Callable[[Any], Any]) -> list[Contestant]:
    """Ours and theirs, each fitted and read out."""
    exact = _answer(zs.StandardScaler().fit(x))

    def ours() -> Answer:
        return _answer(fit(zs.StandardScaler()))

    def theirs() -> Answer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _answer(fit(preprocessing.StandardScaler()))

    return [
        Contestant(OURS, timed(ours), same_bits(exact)),
        Contestant(THEIRS, timed(theirs), within(exact, len(x))),
    ]


def _answer(scaler: Any) -> Answer:
    return Answer(scaler.mean_, scaler.scale_)
