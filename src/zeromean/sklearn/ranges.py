"""`MinMaxScaler`, `MaxAbsScaler`, `MeanNormalizer`: scales from the true minimum and maximum."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt
from sklearn import preprocessing

from zeromean.errors import MergeError
from zeromean.sklearn import intake
from zeromean.sklearn.exact import BatchEstimator
from zeromean.sklearn.extremes import Extremes
from zeromean.sklearn.fitted import fitted, given
from zeromean.sklearn.standard import OfSums, tags_of

_Floats = npt.NDArray[np.float64]


class _OfExtremes(BatchEstimator):
    """An estimator that keeps `Extremes`."""

    _State = Extremes

    @fitted
    def n_samples_seen_(self) -> int:
        """How many rows were measured."""
        return int(self._state.rows)

    def _clipped(self, Y: Any, low: float, high: float) -> Any:
        return np.clip(Y, low, high, out=Y) if self.clip else Y


class MinMaxScaler(_OfExtremes, preprocessing.MinMaxScaler):  # type: ignore[misc]
    """y = (x - min) / (max - min), moved to a range; a drop-in for scikit-learn's.

    Both ends of the range are hit exactly, and all fitted numbers are float64.

    Parameters
    ----------
    feature_range : tuple of (min, max)
    copy : bool
        False to write the result into the data where that is possible.
    clip : bool
        Whether to clip what is outside of the range.

    Attributes
    ----------
    min_, scale_ : ndarray of float64, (n_features,)
        The map as ``x * scale_ + min_``.
    data_min_, data_max_, data_range_ : ndarray of float64, (n_features,)
    n_samples_seen_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the data names its columns.

    Examples
    --------
    >>> scaler = MinMaxScaler().fit([[-1, 2], [-0.5, 6], [0, 10], [1, 18]])
    >>> scaler.data_max_
    array([ 1., 18.])
    >>> scaler.transform([[2, 2]])
    array([[1.5, 0. ]])
    """

    def __init__(
        self,
        feature_range: tuple[float, float] = (0, 1),
        *,
        copy: bool = True,
        clip: bool = False,
    ) -> None:
        self.feature_range = feature_range
        self.copy = copy
        self.clip = clip

    _theirs = preprocessing.MinMaxScaler

    def _add(self, X: Any) -> Self:
        if self.feature_range[0] >= self.feature_range[1]:
            raise ValueError(
                "Minimum of desired feature range must be smaller than maximum. "
                f"Got {self.feature_range}."
            )
        if intake.is_sparse(X):
            raise TypeError(
                "MinMaxScaler does not support sparse input. Consider using MaxAbsScaler instead."
            )
        return super()._add(X)

    def _told(self) -> Any:
        return self.feature_range

    @fitted
    def data_min_(self) -> _Floats:
        """Smallest value of each feature."""
        return self._state.ends[0]  # type: ignore[no-any-return]

    @fitted
    def data_max_(self) -> _Floats:
        """Largest value of each feature."""
        return self._state.ends[1]  # type: ignore[no-any-return]

    @fitted
    def data_range_(self) -> _Floats:
        """Their difference."""
        return _range(self.data_min_, self.data_max_)

    @fitted
    def scale_(self) -> _Floats:
        """Width of the wanted range over that of the data, which counts as 1 where it is 0."""
        low, high = self.feature_range
        with np.errstate(over="ignore"):
            return (high - low) / _one_for_zero(self.data_range_)

    @fitted
    def min_(self) -> _Floats:
        """Where zero goes."""
        return self.feature_range[0] - self.data_min_ * self.scale_

    @fitted
    def _divisor(self) -> _Floats:
        low, high = map(float, self.feature_range)
        return meeting(_one_for_zero(self.data_range_), low, high)

    def _numbers(self) -> tuple[Any, Any, Any]:
        if "scale_" in vars(self) or "min_" in vars(self):  # somebody assigned them
            return -self.min_ / self.scale_, 1 / self.scale_, 0.0
        return self.data_min_, self._divisor, float(self.feature_range[0])

    def _apply(self, X: Any, copy: bool, *, back: bool = False) -> Any:
        Y = super()._apply(X, copy, back=back)
        if back or not isinstance(Y, np.ndarray) or given(self):
            return Y
        low, high = map(float, self.feature_range)
        self._meet(Y, low, high)
        return self._clipped(Y, low, high)

    def _meet(self, Y: Any, low: float, high: float) -> None:
        """Where no float64 divisor takes the maximum to the end, put it there."""
        with np.errstate(invalid="ignore", over="ignore"):
            ends = self.data_range_ / self._divisor + low
            landed, wanted = ends.astype(Y.dtype), Y.dtype.type(high)
        for j in np.flatnonzero((landed != wanted) & (self.data_range_ > 0)):
            column = Y[:, j]
            column[column == landed[j]] = wanted


class MaxAbsScaler(_OfExtremes, preprocessing.MaxAbsScaler):  # type: ignore[misc]
    """y = x / max |x|: into [-1, 1] without moving zero; a drop-in for scikit-learn's.

    Parameters
    ----------
    copy : bool
        False to write the result into the data where that is possible.
    clip : bool
        Whether to clip what is outside of [-1, 1].

    Attributes
    ----------
    max_abs_ : ndarray of float64, (n_features,)
    scale_ : ndarray of float64, (n_features,)
        The same, 1 for features that are all zero.
    n_samples_seen_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the data names its columns.

    Examples
    --------
    >>> MaxAbsScaler().fit_transform([[1.0, -1.0], [2.0, 0.0]])
    array([[ 0.5, -1. ],
           [ 1. ,  0. ]])
    """

    _formats = ("csr", "csc")
    _theirs = preprocessing.MaxAbsScaler

    def __init__(self, *, copy: bool = True, clip: bool = False) -> None:
        self.copy = copy
        self.clip = clip

    @fitted
    def max_abs_(self) -> _Floats:
        """Largest magnitude of each feature."""
        low, high = self._state.ends
        return np.asarray(np.maximum(-low, high) + 0.0)

    @fitted
    def scale_(self) -> _Floats:
        """What features are divided by."""
        return _one_for_zero(self.max_abs_)

    def _numbers(self) -> tuple[Any, Any, Any]:
        return 0.0, self.scale_, 0.0

    def _apply(self, X: Any, copy: bool, *, back: bool = False) -> Any:
        Y = super()._apply(X, copy, back=back)
        if not back and (intake.is_sparse(Y) or isinstance(Y, np.ndarray)):
            self._clipped(Y.data if intake.is_sparse(Y) else Y, -1.0, 1.0)
        return Y


class MeanNormalizer(OfSums):
    """y = (x - mean) / (max - min), column by column: mean zero, range of length one.

    Parameters
    ----------
    copy : bool
        False to write the result into the data where that is possible.

    Attributes
    ----------
    mean_ : ndarray of float64, (n_features,)
    data_min_, data_max_, data_range_ : ndarray of float64, (n_features,)
    scale_ : ndarray of float64, (n_features,)
        The range, 1 for constant features.
    n_samples_seen_ : int or ndarray
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the data names its columns.

    Examples
    --------
    >>> MeanNormalizer().fit_transform([[1.0, 7.0], [2.0, 7.0], [6.0, 7.0]])
    array([[-0.4,  0. ],
           [-0.2,  0. ],
           [ 0.6,  0. ]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"copy": ["boolean"]}

    def __init__(self, *, copy: bool = True) -> None:
        self.copy = copy

    @fitted
    def mean_(self) -> _Floats:
        """Mean of each feature, correctly rounded."""
        return self._state.totals.means()  # type: ignore[no-any-return]

    @fitted
    def data_min_(self) -> _Floats:
        """Smallest value of each feature."""
        return self._state.extrema().low.astype(np.float64)  # type: ignore[no-any-return]

    @fitted
    def data_max_(self) -> _Floats:
        """Largest value of each feature."""
        return self._state.extrema().high.astype(np.float64)  # type: ignore[no-any-return]

    @fitted
    def data_range_(self) -> _Floats:
        """Their difference."""
        return _range(self.data_min_, self.data_max_)

    @fitted
    def scale_(self) -> _Floats:
        """What centered features are divided by."""
        return _one_for_zero(self.data_range_)

    def _numbers(self) -> tuple[Any, Any, Any]:
        return self.mean_, self.scale_, 0.0

    def __sub__(self, other: Any) -> NoReturn:
        raise MergeError(
            "a minimum and a maximum do not tell what they would be without some of the data: "
            "fit again on what is left"
        )

    def __sklearn_tags__(self) -> Any:
        return tags_of(super().__sklearn_tags__())


def _range(low: _Floats, high: _Floats) -> _Floats:
    with np.errstate(over="ignore"):
        return high - low


def _one_for_zero(spread: _Floats) -> _Floats:
    return np.where(spread == 0, 1.0, spread)


def meeting(span: _Floats, low: float, high: float) -> _Floats:
    """A divisor d near span / (high - low) for which ``span / d + low`` is `high`, if there is one.

    Where two roundings leave no such float64, the largest result below `high` is taken.

    Examples
    --------
    >>> d = meeting(np.array([0.7]), 0.0, 255.0)
    >>> 0.7 / d
    array([255.])
    """
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        best = span / (high - low)
        candidates = [best]
        for toward in (0.0, np.inf):
            step = best
            for _ in range(2):
                step = np.nextafter(step, toward)
                candidates.append(step)
        ends = np.stack([span / d + low for d in candidates])
        rank = np.where(ends == high, np.inf, np.where(ends < high, ends, -np.inf))
    chosen = np.argmax(rank, axis=0)
    return np.asarray(np.stack(candidates)[chosen, np.arange(len(span))])
