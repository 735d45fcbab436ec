"""λ₁ before and after: the label-free prediction of the full-batch speed-up.

For inputs x with mean m and covariance Σ, prepared as (x − b) / s, and x̃ = (x, 1),

    E[x̃ x̃ᵀ] = [[D (Σ + δ δᵀ) D, D δ], [(D δ)ᵀ, 1]],   δ = m − b,   D = diag(1 / s).

Its largest eigenvalue λ₁ caps the learning rate (LeCun, Kanter, Solla 1991). Only products with
vectors are needed: with Σ for few columns, with the samples themselves for many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeromean.convergence.intervals import halves_interval
from zeromean.convergence.results import Prediction
from zeromean.convergence.variants import BASE, Variant

Floats = npt.NDArray[np.float64]
_Product = Callable[[Floats], Floats]
_HALVES = 8
_MATRIX_UP_TO = 1024  # columns; above, Σ costs more than the products it saves
_TOLERANCE = 1e-7
_NOT_SHOWN = ("sign_flipped", "original_255")
UNLIKE = 3.0  # stds that differ by more than this are unlike scales


@dataclass(frozen=True)
class Spread:
    """Mean, and covariance as a product with a vector, of some samples.

    Attributes
    ----------
    mean, variance : ndarray, (d,)
    product : callable
        v to Σ v.
    """

    mean: Floats
    variance: Floats
    product: _Product

    @classmethod
    def of(cls, x: Floats) -> Spread:
        """Of samples, (n, d)."""
        mean = x.mean(axis=0)
        centered = x - mean
        variance = np.einsum("nd,nd->d", centered, centered) / len(x)
        if x.shape[1] <= _MATRIX_UP_TO:
            covariance = centered.T @ centered / len(x)
            return cls(mean, variance, lambda v: covariance @ v)
        return cls(mean, variance, lambda v: (centered @ v) @ centered / len(x))


def predictions_of(x: Floats, variants: tuple[Variant, ...]) -> tuple[Prediction, ...]:
    """λ₁ of every variant, its ratio to the base, and what random halves of the samples say.

    Parameters
    ----------
    x : ndarray, (n, d)
    variants : tuple of Variant
        The base first.

    Returns
    -------
    tuple of Prediction
        In the same order, and `whitened` at the end.
    """
    shown = [v for v in variants if v.key not in _NOT_SHOWN]
    whole = Spread.of(x)
    vectors = [_largest(whole, v, None) for v in shown]
    halves = [_half_ratios(x, shown, [vector for _, vector in vectors], k) for k in range(_HALVES)]
    base = vectors[0][0]
    made = [
        _prediction(v, whole, value, base, tuple(half[i] for half in halves))
        for i, (v, (value, _)) in enumerate(zip(shown, vectors, strict=True))
    ]
    return (*made, _whitened(whole, base, tuple(half[-1] for half in halves)))


def largest_eigenvalues(x: Floats, variants: Sequence[Variant]) -> dict[str, float]:
    """λ₁ of each variant by its key, nothing else.

    Parameters
    ----------
    x : ndarray, (n, d)
    variants : sequence of Variant

    Returns
    -------
    dict of str to float
    """
    spread = Spread.of(x)
    return {v.key: _largest(spread, v, None)[0] for v in variants}


def _half_ratios(
    x: Floats, variants: list[Variant], starts: list[Floats], seed: int
) -> list[float]:
    """λ₁(base) ÷ λ₁ of each variant, then λ₁(base) alone, in a random half."""
    order = np.random.default_rng(seed).permutation(len(x))
    part = Spread.of(x[np.sort(order[: len(x) // 2])])
    values = [_largest(part, v, start)[0] for v, start in zip(variants, starts, strict=True)]
    return [values[0] / value for value in values] + [values[0]]


def _prediction(
    variant: Variant, spread: Spread, value: float, base: float, halves: tuple[float, ...]
) -> Prediction:
    ratio = base / value
    low, high = (1.0, 1.0) if variant.key == BASE else halves_interval(ratio, halves)
    delta = (spread.mean - variant.shift) / variant.scale
    trace = float(np.sum(spread.variance / variant.scale**2) + delta @ delta + 1)
    same_scale = bool(np.ptp(variant.scale) == 0)
    subtracts = np.any(variant.shift) and variant.key.startswith("zero_mean")
    closed = _closed_form(spread, variant) if same_scale and subtracts else None
    alike = bool(variant.scale.max() <= UNLIKE * variant.scale.min())
    return Prediction(
        variant.key, variant.label, value, value / trace, ratio, low, high, halves, closed, alike
    )


def _closed_form(spread: Spread, variant: Variant) -> float:
    """1 + ‖μ‖² ÷ λ₁(Σ), where μ is what was subtracted and Σ what is left."""
    left = spread.mean - variant.shift
    value, _ = _top(lambda v: spread.product(v) + left * (left @ v), len(left), None)
    return float(1 + variant.shift @ variant.shift / value)


def _whitened(spread: Spread, base: float, halves: tuple[float, ...]) -> Prediction:
    """Whitening makes every eigenvalue 1, whatever the data: nothing is left to compute."""
    rank = int(np.count_nonzero(spread.variance))
    low, high = halves_interval(base, halves)
    label = "whitened (ZCA)"
    return Prediction("whitened", label, 1.0, 1 / (rank + 1), base, low, high, halves, None, False)


# ---------------------------------------------------------------- the largest eigenvalue


def _largest(spread: Spread, variant: Variant, start: Floats | None) -> tuple[float, Floats]:
    """λ₁ of E[x̃ x̃ᵀ] and its vector."""
    inverse = 1 / variant.scale
    delta = (spread.mean - variant.shift) * inverse

    def product(v: Floats) -> Floats:
        inner, last = v[:-1], v[-1]
        along = delta @ inner + last
        return np.append(inverse * spread.product(inverse * inner) + delta * along, along)

    return _top(product, len(delta) + 1, start)


def _top(product: _Product, d: int, start: Floats | None) -> tuple[float, Floats]:
    """Largest eigenvalue of a symmetric map and its vector, by Lanczos (ARPACK)."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    if d < 8:
        matrix = np.stack([product(row) for row in np.eye(d)])
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return float(values[-1]), vectors[:, -1]
    if start is None:
        start = np.random.default_rng(0).standard_normal(d)
    operator = LinearOperator((d, d), matvec=product, dtype=np.float64)
    values, vectors = eigsh(operator, 1, which="LA", v0=start, tol=_TOLERANCE, ncv=min(d - 1, 8))
    return float(values[0]), vectors[:, 0]
