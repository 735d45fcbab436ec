"""`WeightedMoments`: exact Σw, Σwx and Σwx²; adds and subtracts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError
from zeromean.statistics.formats import UNIT_EXPONENT, exact, read_only
from zeromean.statistics.moments import Moments
from zeromean.statistics.running import integers_of

_Array = npt.NDArray[Any]
_UNIT = UNIT_EXPONENT["float64"]
_CARRY_ROWS = 1 << 24  # each row adds at most a few times 2^32 to a limb


@dataclass(frozen=True, slots=True, eq=False)
class WeightedMoments:
    """Exact Σw, Σwx and Σwx² of the values that are not NaN, feature by feature.

    Attributes
    ----------
    weights, sums, squares : ndarray of Python integers, (n_features,)
        In units of 2**-1074, of its square and of its cube: of the smallest float64.

    Examples
    --------
    >>> x, w = np.array([[1.0], [4.0]]), np.array([0.5, 1e-300])
    >>> WeightedMoments.of(x, w) - WeightedMoments.of(x[1:], w[1:]) == WeightedMoments.of(x, w * 1)
    False
    >>> WeightedMoments.of(x[:1], w[:1]) + WeightedMoments.of(x[1:], w[1:]) == (
    ...     WeightedMoments.of(x, w)
    ... )
    True
    """

    weights: _Array
    sums: _Array
    squares: _Array

    @classmethod
    def empty(cls, n_features: int) -> Self:
        """The moments of no data."""
        zeros = exact([0] * n_features)
        return cls(zeros, zeros, zeros)

    @classmethod
    def of(cls, rows: _Array, weight: _Array) -> Self:
        """Sum rows, each with its weight.

        Parameters
        ----------
        rows : ndarray of floats, (n_samples, n_features)
            NaN is left out; infinities are not allowed.
        weight : ndarray, (n_samples,)
            Finite; may be zero or negative.
        """
        from zeromean.kernels import entries

        limbs = _limbs(rows.shape[1])
        x = np.ascontiguousarray(rows, np.float64)
        w = np.ascontiguousarray(weight, np.float64)
        for begin in range(0, len(x), _CARRY_ROWS):
            part = slice(begin, begin + _CARRY_ROWS)
            entries.weigh_rows(read_only(x[part]), read_only(w[part]), *limbs)
            _carry(limbs)
        return cls(*_integers(limbs))

    @classmethod
    def of_entries(
        cls, values: _Array, rows: _Array, columns: _Array, weight: _Array, n_features: int
    ) -> Self:
        """Sum the entries of a sparse matrix; all its other values are zero.

        Parameters
        ----------
        values : ndarray of floats, (n_entries,)
        rows, columns : ndarray of integers, (n_entries,)
        weight : ndarray, (n_samples,)
        n_features : int
        """
        from zeromean.kernels import entries

        limbs = _limbs(n_features)
        x, w = (read_only(np.ascontiguousarray(a, np.float64)) for a in (values, weight))
        i, j = (read_only(np.ascontiguousarray(a, np.int64)) for a in (rows, columns))
        entries.weigh_entries(x, i, j, w, *limbs)
        _carry(limbs)
        return cls(*_integers(limbs))

    @classmethod
    def of_moments(cls, moments: Moments) -> Self:
        """Values without weights are values of weight one."""
        shift = UNIT_EXPONENT[moments.dtype] - _UNIT
        one = -_UNIT
        return cls(
            _scaled(moments.n.tolist(), one),
            _scaled(moments.sums.tolist(), one + shift),
            _scaled(moments.squares.tolist(), one + 2 * shift),
        )

    def __add__(self, other: WeightedMoments) -> Self:
        self._like(other)
        mine, theirs = self._parts, other._parts
        return type(self)(*(exact(a + b) for a, b in zip(mine, theirs, strict=True)))

    def __sub__(self, other: WeightedMoments) -> Self:
        self._like(other)
        mine, theirs = self._parts, other._parts
        return type(self)(*(exact(a - b) for a, b in zip(mine, theirs, strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightedMoments) and all(
            np.array_equal(a, b) for a, b in zip(self._parts, other._parts, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def _parts(self) -> tuple[_Array, _Array, _Array]:
        return self.weights, self.sums, self.squares

    def _like(self, other: object) -> None:
        if not isinstance(other, WeightedMoments):
            raise MergeError(f"cannot combine weighted moments with {type(other).__name__}")
        if len(self.weights) != len(other.weights):
            raise MergeError(
                f"cannot combine weighted moments of {len(self.weights)} and "
                f"{len(other.weights)} features"
            )


def _limbs(n_features: int) -> tuple[_Array, _Array, _Array]:
    from zeromean.kernels import entries

    grids = entries.WEIGHTS, entries.SUMS, entries.SQUARES
    first, second, third = (np.zeros((n_features, size), np.int64) for _, size in grids)
    return first, second, third


def _carry(limbs: tuple[_Array, ...]) -> None:
    from zeromean.kernels import floats

    for array in limbs:
        floats.carry(array)


def _integers(limbs: tuple[_Array, ...]) -> list[_Array]:
    """Carried limbs as integers on the three units; the bits shifted out are zero."""
    from zeromean.kernels import entries

    grids = entries.WEIGHTS, entries.SUMS, entries.SQUARES
    return [
        exact([v >> (_UNIT * (i + 1) - first) for v in integers_of(array)])
        for i, (array, (first, _)) in enumerate(zip(limbs, grids, strict=True))
    ]


def _scaled(values: list[int], shift: int) -> _Array:
    return exact([v << shift for v in values])
