"""Sums of squares and products about the mean: exact for integers, centered for floats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError
from zeromean.rounding import ratio
from zeromean.statistics.blas import one_thread
from zeromean.statistics.formats import exact, frozen
from zeromean.statistics.products import add_tiles, cross_products, exact_square, mirror

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]

BLOCK_ROWS = 2048  # of floats; fixed, so that nothing depends on the machine's cores
_SEVERAL_TILES = 512  # features
_SMALL = 32  # features up to which read-outs go through Python's integers
_STRIP = 128  # rows of a large matrix that are read out at a time


@dataclass(frozen=True, slots=True, eq=False)
class ExactScatter:
    """n, Σxᵢ and Σxᵢxⱼ of integers.

    Attributes
    ----------
    n, left_out : int
        Rows that were taken, and that were not: those with a missing entry.
    sums : ndarray of int64 or Python integers, (n_features,)
    products : ndarray of int64 or Python integers, (n_features, n_features)
        Symmetric.
    """

    n: int
    left_out: int
    sums: _Array
    products: _Array

    @classmethod
    def empty(cls, n_features: int) -> Self:
        """Of no data."""
        return cls(0, 0, exact([0] * n_features), frozen(np.zeros((n_features,) * 2, np.int64)))

    @classmethod
    def of(cls, rows: _Array) -> Self:
        """Of integer rows, (n_samples, n_features), C order."""
        if not rows.size:
            return cls.empty(rows.shape[1])
        return cls(len(rows), 0, *cross_products(rows))

    def __add__(self, other: ExactScatter) -> Self:
        n, left_out = self.n + other.n, self.left_out + other.left_out
        products = exact_square(self.products + other.products)
        return type(self)(n, left_out, exact(self.sums + other.sums), products)

    def __sub__(self, other: ExactScatter) -> Self:
        n, left_out = self.n - other.n, self.left_out - other.left_out
        products = exact_square(self.products - other.products)
        rest = type(self)(n, left_out, exact(self.sums - other.sums), products)
        if not rest.possible:
            raise MergeError("cannot subtract the covariance of data that this one does not hold")
        return rest

    @property
    def possible(self) -> bool:
        """Whether there can be n rows with these sums (Cauchy and Schwarz, on the diagonal)."""
        if self.n <= 0 or self.left_out < 0:
            nothing = not (self.sums.any() or self.products.any())
            return self.n == 0 and self.left_out >= 0 and nothing
        pairs = zip(self.sums.tolist(), np.diagonal(self.products).tolist(), strict=True)
        return all(self.n * square >= total * total for total, square in pairs)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ExactScatter)
            and (self.n, self.left_out) == (other.n, other.left_out)
            and np.array_equal(self.sums, other.sums)
            and np.array_equal(self.products, other.products)
        )

    __hash__ = None  # type: ignore[assignment]

    def means(self) -> _Floats:
        """Σxᵢ / n, correctly rounded."""
        return np.array([ratio(s, self.n) if self.n else math.nan for s in self.sums.tolist()])

    def covariance(self, ddof: int) -> _Floats:
        """(n Σxᵢxⱼ - Σxᵢ Σxⱼ) / (n (n - ddof)), each entry rounded once from the rational.

        Ties closer than 2⁻⁵⁰ of the last place may go either way in large matrices.
        """
        features, n = len(self.sums), self.n
        denominator = n * (n - ddof)
        largest = n * max(np.diagonal(self.products).tolist(), default=0)
        quick = features > _SMALL and denominator < 1 << 53 and largest < 1 << 62
        result = np.empty((features, features))
        sums = self.sums if quick else self.sums.astype(object)
        for begin in range(0, features, _STRIP):
            part = slice(begin, begin + _STRIP)
            products = self.products[part] if quick else self.products[part].astype(object)
            spread = n * products - sums[part, None] * sums
            result[part] = quotients(spread, denominator)
        return result


def quotients(numerators: _Array, denominator: int) -> _Floats:
    """Integers over an integer, rounded once.

    Python integers by CPython's own division. int64 below 2^62 by a float64 quotient and its
    exact remainder: the product of Dekker (*A Floating-Point Technique for Extending the Available
    Precision*, Numer. Math. 18, 1971) makes no error.

    Parameters
    ----------
    numerators : ndarray of int64 or Python integers
    denominator : int
        Positive; below 2^53 for int64.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> quotients(np.array([1, 2, -10**17]), 3).tolist() == [1 / 3, 2 / 3, -10**17 / 3]
    True
    """
    if numerators.dtype == object:
        flat = [ratio(v, denominator) for v in numerators.ravel().tolist()]
        return np.array(flat, np.float64).reshape(numerators.shape)
    high = numerators.astype(np.float64)
    low = (numerators - high.astype(np.int64)).astype(np.float64)
    divisor = float(denominator)
    quotient = high / divisor
    product = quotient * divisor
    (a, b), (c, d) = _halves(quotient), _halves(divisor)
    error = ((a * c - product) + a * d + b * c) + b * d
    remainder = ((high - product) - error) + low
    return quotient + remainder / divisor  # type: ignore[no-any-return]


def _halves(values: Any) -> tuple[Any, Any]:
    """Floats as sums of two of 26 bits each (Veltkamp)."""
    shifted = values * 134217729.0
    high = shifted - (shifted - values)
    return high, values - high


@contextmanager
def _threads(features: int) -> Iterator[Executor | None]:
    """BLAS on one thread, and threads of our own where a product has many tiles."""
    with one_thread() as cores:
        if cores == 1 or features <= _SEVERAL_TILES:
            yield None
            return
        with ThreadPoolExecutor(cores, thread_name_prefix="zeromean") as pool:
            yield pool


@dataclass(frozen=True, slots=True, eq=False)
class CenteredScatter:
    """Σ(xᵢ - mᵢ)(xⱼ - mⱼ) about the means m of float rows, block by block.

    Blocks of 2 048 rows are centered and multiplied, and merged by the formula of Chan, Golub and
    LeVeque, *Algorithms for Computing the Sample Variance: Analysis and Recommendations*, The
    American Statistician 37(3), 1983. The mean is kept as a center, that of the first block, and
    a small offset from it, so that merging loses nothing where the means are large.

    Rows with a NaN or an infinity in any feature are left out, and counted.

    Attributes
    ----------
    n, left_out : int
        Rows that were taken, and that were not.
    center, offset : ndarray of float64, (n_features,)
        Their sum is the mean.
    spread : ndarray of float64, (n_features, n_features)
        Symmetric.
    blocks : int
        How many were merged; of `error_bound`.
    """

    n: int
    left_out: int
    center: _Floats
    offset: _Floats
    spread: _Floats
    blocks: int

    @classmethod
    def empty(cls, n_features: int) -> Self:
        """Of no data."""
        zeros, square = frozen(np.zeros(n_features)), frozen(np.zeros((n_features,) * 2))
        return cls(0, 0, zeros, zeros, square, 0)

    @classmethod
    def of(cls, rows: _Array) -> Self:
        """Of float rows, (n_samples, n_features), C order."""
        running = _Running(rows.shape[1])
        # signaling NaN, and values beyond 1e150
        with np.errstate(over="ignore", invalid="ignore"), _threads(rows.shape[1]) as pool:
            for begin in range(0, len(rows), BLOCK_ROWS):
                running.add(rows[begin : begin + BLOCK_ROWS], pool)
        center, offset, spread = running.center, running.offset, running.spread
        mirror(spread)
        n, left_out = running.n, len(rows) - running.n
        return cls(n, left_out, frozen(center), frozen(offset), frozen(spread), running.blocks)

    def __add__(self, other: CenteredScatter) -> Self:
        n, left_out = self.n + other.n, self.left_out + other.left_out
        if not (self.n and other.n):
            held = self if self.n else other
            return replace(held, left_out=left_out)  # type: ignore[return-value]
        with np.errstate(over="ignore", invalid="ignore"):
            apart = (other.center - self.center) + (other.offset - self.offset)
            offset = self.offset + apart * (other.n / n)
            apart *= math.sqrt(self.n * other.n / n)
            spread = self.spread + other.spread
            spread += np.outer(apart, apart)
        arrays = self.center, frozen(offset), frozen(spread)
        return type(self)(n, left_out, *arrays, self.blocks + other.blocks)

    def __sub__(self, other: CenteredScatter) -> Self:
        raise MergeError(
            "the covariance of float data is centered and rounded, so nothing can be taken out of "
            "it again: measure what is left once more"
        )

    def __eq__(self, other: object) -> bool:
        """The same bits."""
        return isinstance(other, CenteredScatter) and all(
            np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True)
            for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]

    def means(self) -> _Floats:
        """Mean of the rows that were taken."""
        if not self.n:
            return np.full(len(self.center), math.nan)
        return self.center + self.offset

    def covariance(self, ddof: int) -> _Floats:
        """Σ(xᵢ - mᵢ)(xⱼ - mⱼ) / (n - ddof)."""
        return self.spread / (self.n - ddof)


class _Running:
    """A `CenteredScatter` that grows block by block; only the upper triangle."""

    def __init__(self, features: int) -> None:
        self.n = self.blocks = 0
        self.center, self.offset = np.zeros(features), np.zeros(features)
        self.spread = np.zeros((features, features))

    def add(self, rows: _Array, pool: Executor | None) -> None:
        """Center a block, and multiply it together with the row that merging it adds.

        The new mean is n₂ / n of the way to that of the block, and √(n₁ n₂ / n) times their
        distance is one more row: its products are Chan's correction.
        """
        finite = np.isfinite(rows).all(axis=1)
        taken = rows if finite.all() else rows[finite]
        if not len(taken):
            return
        x = np.empty((len(taken) + 1, rows.shape[1]))
        center, offset = _center(taken, x[:-1])
        if not self.n:
            self.center, self.offset = center, offset
        apart = (center - self.center) + (offset - self.offset)
        before, self.n = self.n, self.n + len(taken)
        self.offset = self.offset + apart * (len(taken) / self.n)
        x[-1] = apart * math.sqrt(before * len(taken) / self.n)
        add_tiles(self.spread, x, pool)
        self.blocks += 1


def _center(rows: _Array, x: _Floats) -> tuple[_Floats, _Floats]:
    """Write rows less their mean into x; the mean is the sum of what is returned.

    A mean has an error of u |mean|, which may be more than the spread. So the center is corrected
    once, which makes constants exactly 0, and the mean of what is left is taken off again.
    """
    x[...] = rows
    ones = np.ones(len(x))
    center = ones @ x / len(x)
    center += ones @ (x - center) / len(x)
    x -= center
    offset = ones @ x / len(x)
    x -= offset
    return center, offset
