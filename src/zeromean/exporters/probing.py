"""Probe inputs, their exact answers, and how far a target's own answers are from these."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.exporters.forms import raw_dtype
from zeromean.mixing import put_back, samples_of

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]

_MOST_VALUES = 4096  # of one feature
_MOST_DATA = 1 << 18
_MOST_CHECKED = 6144
_MOST_ORDERS = 64
_MOST_TERMS = 400_000  # products that whitening is checked with
#: Binary digits, and the exponent of the smallest normal number as `frexp` counts it.
_FORMATS = {"float32": (24, -125), "float64": (53, -1021)}


@dataclass(frozen=True)
class Verification:
    """What running a target on probe inputs gave.

    Attributes
    ----------
    by : str
        Library and version, or the compiler or interpreter.
    ulp : float
        The largest difference from the exact answer in units of the last place of the target's
        arithmetic, at the size of the largest term: |x| or |shift| over scale, |offset| or |y|.
    raw : float
        The same difference in units of the raw data (gray levels, for pictures).
    n_values : int
        How many values were compared.
    arithmetic : str
    bound : float
        How many ulp are allowed.
    """

    by: str
    ulp: float
    raw: float
    n_values: int
    arithmetic: str
    bound: float

    @property
    def ok(self) -> bool:
        """Whether the difference is within the target's bound."""
        return self.ulp <= self.bound


def probes(norm: Normalizer, grid: int = 16) -> _Array:
    """Raw data that show a wrong number: all values of a small range, the ends, what is near shift.

    Parameters
    ----------
    norm : Normalizer
    grid : int
        The height of pictures, or the length of the first axis that is not kept.

    Returns
    -------
    ndarray
        Of the dtype that was measured, with all its axes, at most 2^18 values but for one sample.
    """
    values = _values(norm)
    x = np.empty(_shape(norm, len(values), grid), values.dtype)
    rows = _shuffled(values, x.size // norm.shift.size, norm.shift.size)
    put_back(norm.pattern, rows, x)
    return x


def _values(norm: Normalizer) -> _Array:
    dtype = raw_dtype(norm)
    near = np.unique(np.concatenate([norm.shift.ravel(), norm.shift.ravel() + norm.scale.ravel()]))
    near = near[:: max(1, len(near) // 64)]
    if dtype.kind in "iub":
        low, high = _ends(norm, dtype)
        step = max(1, (high - low) // _MOST_VALUES)
        close = [np.clip(int(v) + d, low, high) for v in near for d in (-1, 0, 1)]
        return np.unique([*range(low, high + 1, step), high, *close]).astype(dtype)
    low, high = _ends(norm, dtype)
    close = [np.nextafter(dtype.type(v), dtype.type(to)) for v in near for to in (-np.inf, np.inf)]
    spread = np.linspace(low, high, 512).astype(dtype)
    around = [norm.shift.ravel() + k * norm.scale.ravel() for k in (-3, -0.1, 0.1, 3)]
    found = np.concatenate([spread, near.astype(dtype), close, *(a[:64] for a in around)])
    return np.unique(np.clip(found, low, high).astype(dtype))


def _ends(norm: Normalizer, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if norm.units.range is not None:
        low, high = norm.units.range
    else:
        low = float((norm.shift - 4 * norm.scale).min())
        high = float((norm.shift + 4 * norm.scale).max())
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return max(math.floor(low), limits.min), min(math.ceil(high), limits.max)
    return low, high


def _shape(norm: Normalizer, n_values: int, grid: int) -> tuple[int, ...]:
    """Of data that hold each value once a feature, if they are not too large."""
    sizes = dict(zip(norm.pattern.kept, norm.kept_shape, strict=False)) | dict(norm.pattern.sizes)
    plain = [group for group in norm.pattern.axes if group != ("...",)]
    free = [name for group in plain for name in group if name not in sizes]
    n_samples = max(2, min(n_values, _MOST_DATA // norm.shift.size))
    lengths = dict.fromkeys(free, 1)
    if len(free) > 1:
        lengths[free[-2]] = min(grid, n_samples)
        n_samples = math.ceil(n_samples / lengths[free[-2]])
    if free:
        lengths[free[-1]] = n_samples
    return tuple(math.prod((sizes | lengths)[name] for name in group) for group in plain)


def _shuffled(values: _Array, n_samples: int, n_features: int) -> _Array:
    """(n_samples, n_features): each feature sees the values in an order of its own, ends first."""
    random = np.random.default_rng(0)
    ends, rest = values[[0, -1]], values[1:-1]
    orders = np.stack(
        [
            np.resize(np.concatenate([ends, random.permutation(rest)]), n_samples)
            for _ in range(min(n_features, _MOST_ORDERS))
        ]
    )
    features = np.arange(n_features)
    begins = features // _MOST_ORDERS  # later features begin later in the same orders
    samples = (np.arange(n_samples)[:, None] + begins) % n_samples
    rows: _Array = orders[features % _MOST_ORDERS, samples]
    return rows


# ---------------------------------------------------------------- exact answers


def compare(norm: Normalizer, x: _Array, y: Any, arithmetic: str) -> tuple[float, float, int]:
    """The largest difference between a target's answers and the exact ones.

    Parameters
    ----------
    norm : Normalizer
    x : ndarray
        Raw data with all axes.
    y : array
        What the target gave, in the layout of `norm(x)`.
    arithmetic : {"float32", "float64"}

    Returns
    -------
    ulp : float
        At the size of the terms; inf where an answer is not finite.
    raw : float
        In units of the raw data.
    n_values : int
        How many answers were compared.

    Raises
    ------
    ValueError
        When the shape is not that of `norm(x)`.
    """
    rows, answers = samples_of(norm.pattern, x), _answers(norm, x, np.asarray(y))
    shift, offset = norm.shift.ravel(), norm.offset.ravel()
    worst_ulp = worst_raw = 0.0
    chosen = _chosen(norm, rows, len(offset))
    for i, j in chosen:
        if not math.isfinite(answers[i, j]):
            return math.inf, math.inf, len(chosen)
        weights, places = _weights(norm, j)
        pairs = [(float(rows[i, k]), float(shift[k])) for k in places]
        terms = [(Fraction(x) - Fraction(s)) * w for (x, s), w in zip(pairs, weights, strict=True)]
        exact = sum(terms, Fraction(offset[j]))
        error = abs(float(Fraction(float(answers[i, j])) - exact))
        sizes = (
            max(map(abs, pair)) * abs(float(w)) for pair, w in zip(pairs, weights, strict=True)
        )
        size = max(sum(sizes), abs(float(exact)), abs(offset[j]))
        worst_ulp = max(worst_ulp, error / _unit(size, arithmetic))
        worst_raw = max(worst_raw, error / math.sqrt(sum(float(w) ** 2 for w in weights)))
    return worst_ulp, worst_raw, len(chosen)


def _weights(norm: Normalizer, j: int) -> tuple[list[Fraction], range]:
    """What each centered feature is multiplied by for the j-th result, and which they are."""
    if norm.matrix is None:
        return [1 / Fraction(norm.scale.ravel()[j])], range(j, j + 1)
    return [Fraction(v) for v in norm.matrix[j].tolist()], range(norm.shift.size)


def _answers(norm: Normalizer, x: _Array, y: _Array) -> _Array:
    """(n_samples, n_out)"""
    if norm.matrix is None or len(norm.matrix) == norm.shift.size:
        if y.shape != x.shape:
            raise ValueError(f"gave shape {y.shape}, not {x.shape}")
        return samples_of(norm.pattern, y)
    return y.reshape(-1, len(norm.matrix))


def _unit(size: float, arithmetic: str) -> float:
    """One unit in the last place at a size; below the normal numbers, that of the smallest."""
    digits, lowest = _FORMATS[arithmetic]
    return math.ldexp(1.0, max(math.frexp(size)[1], lowest) - digits)


def _chosen(norm: Normalizer, rows: _Array, n_out: int) -> list[tuple[int, int]]:
    """Which (sample, result) are compared: all, or those nearest to zero and an even spread."""
    size = len(rows) * n_out
    most = _MOST_CHECKED if norm.matrix is None else max(64, _MOST_TERMS // norm.shift.size)
    if size <= most:
        places = np.arange(size)
    else:
        places = np.linspace(0, size - 1, most // 2).astype(np.int64)
        if norm.matrix is None:
            nearness = np.abs(rows - norm.shift.ravel()) / norm.scale.ravel()
            places = np.concatenate(
                [places, np.argpartition(nearness, most // 2, None)[: most // 2]]
            )
    return [divmod(int(place), n_out) for place in np.unique(places)]
