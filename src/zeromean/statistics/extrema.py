"""`Extrema`: smallest and largest value; adds, and cannot subtract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError
from zeromean.statistics.formats import as_planes, as_rows, frozen

_Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Extrema:
    """Smallest and largest finite value of each feature; adds, and cannot subtract.

    Attributes
    ----------
    low, high : ndarray of objects, (n_features,)
        Python ints for integers, floats otherwise, None where there is no value.
    """

    low: _Array
    high: _Array

    @classmethod
    def empty(cls, n_features: int, dtype: str = "float64") -> Self:
        """The extrema of no data."""
        nothing = np.full(n_features, None, object)
        return cls(frozen(nothing), frozen(nothing.copy()))

    @classmethod
    def of(cls, block: _Array) -> Self:
        """Extrema of one block."""
        rows = as_rows(as_planes(block))
        if not rows.size:
            return cls.empty(rows.shape[1])
        if rows.dtype.kind in "iub":
            return cls.between(rows.min(axis=0), rows.max(axis=0))
        with np.errstate(invalid="ignore"):  # signaling NaN
            rows = rows.astype(np.float64)
        finite = np.isfinite(rows)
        low = np.where(finite, rows, np.inf).min(axis=0)
        high = np.where(finite, rows, -np.inf).max(axis=0)
        none = ~finite.any(axis=0)
        low[none] = high[none] = np.nan
        return cls.between(low, high)

    @classmethod
    def between(cls, low: _Array, high: _Array) -> Self:
        """Extrema from arrays, NaN where there is no value; -0.0 becomes +0.0."""

        def clean(values: _Array) -> list[Any]:
            if values.dtype == bool:
                values = values.astype(np.uint8)
            return [None if v != v else v if v else type(v)(0) for v in values.tolist()]

        return cls.of_lists(clean(low), clean(high))

    @classmethod
    def of_lists(cls, low: list[Any], high: list[Any]) -> Self:
        """Extrema from Python numbers, None where there is no value."""
        ends = np.empty((2, len(low)), object)
        ends[0], ends[1] = low, high
        return cls(frozen(ends[0]), frozen(ends[1]))

    def where(self, held: npt.NDArray[np.bool_]) -> Self:
        """The same, with no value for the features that hold none."""
        low, high = self.low.copy(), self.high.copy()
        low[~held] = high[~held] = None
        return type(self)(frozen(low), frozen(high))

    def __add__(self, other: Extrema) -> Self:
        if len(self.low) != len(other.low):
            raise MergeError(
                f"cannot combine extrema of {len(self.low)} and {len(other.low)} features"
            )
        return type(self)(
            frozen(_pick(min, self.low, other.low)), frozen(_pick(max, self.high, other.high))
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Extrema)
            and self.low.tolist() == other.low.tolist()
            and self.high.tolist() == other.high.tolist()
        )

    __hash__ = None  # type: ignore[assignment]


def _pick(better: Any, first: _Array, second: _Array) -> _Array:
    picked = np.empty(len(first), object)
    picked[:] = [
        b if a is None else a if b is None else better(a, b)
        for a, b in zip(first, second, strict=True)
    ]
    return picked
