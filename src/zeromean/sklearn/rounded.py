"""Means, variances and standard deviations of exact sums, each rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.rounding import ratio, sqrt_ratio
from zeromean.statistics import PowerSums, WeightedMoments

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Totals:
    """Σw, Σwx and Σwx² of each feature, as integers times a power of two.

    Attributes
    ----------
    weights : list of int
        Counts, or weights in some unit that cancels.
    sums, squares : list of int
        Σwx in units of that unit times 2**exponent, Σwx² times 4**exponent.
    exponent : int
    """

    weights: list[int]
    sums: list[int]
    squares: list[int]
    exponent: int

    @classmethod
    def of(cls, parts: list[PowerSums]) -> Totals:
        """The total of parts that were summed apart, all of equally many features."""
        if len(parts) == 1:
            (one,) = parts
            return cls(one.n.tolist(), one.sums.tolist(), one.squares.tolist(), one.exponent)
        exponent = min(part.exponent for part in parts)
        weights = [part.n.tolist() for part in parts]
        sums = [_shifted(part.sums, part.exponent - exponent) for part in parts]
        squares = [_shifted(part.squares, 2 * (part.exponent - exponent)) for part in parts]
        return cls(_added(weights), _added(sums), _added(squares), exponent)

    @classmethod
    def of_weighted(cls, moments: WeightedMoments) -> Totals:
        """Weighted sums, all on the unit of the smallest float64."""
        m = moments
        return cls(m.weights.tolist(), m.sums.tolist(), m.squares.tolist(), -1074)

    def means(self) -> _Floats:
        """Σwx / Σw, NaN where there is no weight."""
        up, down = max(self.exponent, 0), max(-self.exponent, 0)
        return np.array(
            [
                ratio(s << up, w << down) if w else math.nan
                for w, s in zip(self.weights, self.sums, strict=True)
            ]
        )

    def variances(self) -> _Floats:
        """(Σw Σwx² - (Σwx)²) / (Σw)², NaN where there is no weight."""
        return self._spreads(ratio)

    def stds(self) -> _Floats:
        """Their square roots, from the rational and not from the rounded variance."""
        return self._spreads(lambda a, b: sqrt_ratio(a, b) if a >= 0 else math.nan)

    def _spreads(self, rounded: Callable[[int, int], float]) -> _Floats:
        up, down = max(2 * self.exponent, 0), max(-2 * self.exponent, 0)
        return np.array(
            [
                rounded((w * q - s * s) << up, (w * w) << down) if w else math.nan
                for w, s, q in zip(self.weights, self.sums, self.squares, strict=True)
            ]
        )


def trimmed(sums: PowerSums) -> PowerSums:
    """The same on the coarsest unit that all sums are multiples of: short integers are fast."""
    both = 0, 0
    for i, values in enumerate((sums.sums, sums.squares)):
        for v in values.tolist():
            both = (both[0] | v, both[1]) if i == 0 else (both[0], both[1] | v)
    zeros = [(v & -v).bit_length() - 1 for v in both]
    shift = min([z for z in (zeros[0], zeros[1] >> 1) if z >= 0], default=0)
    first = _objects([v >> shift for v in sums.sums.tolist()])
    second = _objects([v >> 2 * shift for v in sums.squares.tolist()])
    return PowerSums(sums.n, first, second, sums.exponent + shift)


def _shifted(values: Any, shift: int) -> list[int]:
    return [v << shift for v in values.tolist()]


def _added(lists: list[list[int]]) -> list[int]:
    return [sum(values) for values in zip(*lists, strict=True)]


def _objects(values: list[int]) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array
