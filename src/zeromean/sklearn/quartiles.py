"""`RobustScaler`: median and quantile range of the data in memory."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from statistics import NormalDist
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt
from sklearn import preprocessing

from zeromean.documents import Tensors, field
from zeromean.errors import FormatError, MergeError
from zeromean.sklearn import intake, mapping
from zeromean.sklearn.exact import ExactEstimator
from zeromean.sklearn.extremes import floats
from zeromean.sklearn.fitted import fitted

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]


class Quartiles:
    """Median, lower and upper quantile of each column, NaN left out; neither adds nor subtracts.

    Attributes
    ----------
    n_features : int
    values : ndarray of float64, (3, n_features)
        Lower quantile, median, upper quantile; NaN where there is no value.
    cache : dict
        Read-outs.
    """

    def __init__(self, n_features: int, values: _Floats | None = None) -> None:
        self.n_features = n_features
        self.values = np.full((3, n_features), np.nan) if values is None else values
        self.cache: dict[Any, Any] = {}

    def add(self, X: Any, *, range_: tuple[float, float], known_finite: bool = True) -> None:
        """Find the quantiles of all data there is.

        Parameters
        ----------
        X : ndarray of floats or CSC matrix, (n_samples, n_features)
        range_ : tuple of two floats
            Percentages of the lower and the upper quantile.
        known_finite : bool
            Not used: the data was checked.
        """
        levels = [Fraction(q) / 100 for q in (range_[0], 50.0, range_[1])]

        def work(j: int) -> list[float]:
            return quantiles(_column(X, j), levels)

        workers = intake.workers_for(X.shape[0] * X.shape[1])
        if workers == 1:
            rows = [work(j) for j in range(self.n_features)]
        else:
            with ThreadPoolExecutor(workers) as pool:
                rows = list(pool.map(work, range(self.n_features)))
        self.values = np.array(rows, np.float64).reshape(self.n_features, 3).T

    def plus(self, other: Self) -> NoReturn:
        """Not lawful.

        Raises
        ------
        MergeError
        """
        raise MergeError(
            "the quantiles of two data sets do not tell those of both: fit on all data at once"
        )

    minus = plus

    def copy(self) -> Self:
        """The same."""
        return type(self)(self.n_features, self.values)

    def to_fields(self, names: tuple[str, ...], *, tensors: bool) -> tuple[dict[str, Any], Tensors]:
        """The quantiles in hex, null where there is none."""
        state = {
            name: [None if v != v else v.hex() for v in row]
            for name, row in zip(_NAMES, self.values.tolist(), strict=True)
        }
        return {"feature_names": list(names), "statistics": state}, {}

    @classmethod
    def from_fields(cls, document: Mapping[str, Any], arrays: Tensors, n_features: int) -> Self:
        """From those fields, every one checked.

        Raises
        ------
        FormatError
        """
        state = field(document, "statistics", dict)
        values = np.stack([floats(state, name, n_features) for name in _NAMES])
        if (values[0] > values[2]).any():
            raise FormatError("fields 'lower' and 'upper' contradict each other")
        return cls(n_features, values)


_NAMES = ("lower", "median", "upper")


def quantiles(values: _Array, levels: list[Fraction]) -> list[float]:
    """Quantiles as ``numpy.nanquantile(..., method="linear")`` defines them, rounded once.

    Parameters
    ----------
    values : ndarray of floats, (n,)
    levels : list of Fraction
        Between 0 and 1.

    Examples
    --------
    >>> quantiles(np.array([4.0, 1.0, np.nan, 2.0]), [Fraction(1, 4), Fraction(1, 2)])
    [1.5, 2.0]
    """
    n = len(values) - int(np.count_nonzero(np.isnan(values)))
    if n == 0:
        return [np.nan] * len(levels)
    places = [level * (n - 1) for level in levels]
    ranks = {int(place) for place in places}
    ordered = np.partition(values, sorted(ranks | {min(i + 1, n - 1) for i in ranks}))  # NaN last
    return [_between(ordered, place) for place in places]


def _between(ordered: _Array, place: Fraction) -> float:
    """The value at a place between two ranks, rounded once."""
    i = int(place)
    low, share = float(ordered[i]), place - i
    if share == 0:
        return low
    return float(Fraction(low) * (1 - share) + Fraction(float(ordered[i + 1])) * share)


def _column(X: Any, j: int) -> _Array:
    if not intake.is_sparse(X):
        column: _Array = X[:, j]
        return column.astype(np.float32) if column.dtype == np.float16 else column
    stored = X.data[X.indptr[j] : X.indptr[j + 1]]
    return np.concatenate([stored, np.zeros(X.shape[0] - len(stored), stored.dtype)])


class RobustScaler(ExactEstimator, preprocessing.RobustScaler):  # type: ignore[misc]
    """y = (x - median) / quantile range, column by column; a drop-in for scikit-learn's.

    Parameters
    ----------
    with_centering, with_scaling : bool
    quantile_range : tuple of (q_min, q_max)
        In percent.
    copy : bool
        False to write the result into the data where that is possible.
    unit_variance : bool
        Whether normally distributed features get a variance of one.

    Attributes
    ----------
    center_ : ndarray of float64, (n_features,), or None
        The median.
    scale_ : ndarray of float64, (n_features,), or None
        The quantile range, 1 where it is 0.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the data names its columns.

    Examples
    --------
    >>> RobustScaler().fit_transform([[1.0], [2.0], [3.0], [4.0], [100.0]])
    array([[-1. ],
           [-0.5],
           [ 0. ],
           [ 0.5],
           [48.5]])
    """

    _State = Quartiles
    _formats = ("csr", "csc")

    def __init__(
        self,
        *,
        with_centering: bool = True,
        with_scaling: bool = True,
        quantile_range: tuple[float, float] = (25.0, 75.0),
        copy: bool = True,
        unit_variance: bool = False,
    ) -> None:
        self.with_centering = with_centering
        self.with_scaling = with_scaling
        self.quantile_range = quantile_range
        self.unit_variance = unit_variance
        self.copy = copy

    def _add(self, X: Any) -> Self:
        self._begin()
        batch, finite = intake.fitting(self, X, reset=True, formats=("csc",))
        q_min, q_max = self.quantile_range
        if not 0 <= q_min <= q_max <= 100:
            raise ValueError(f"Invalid quantile range: {self.quantile_range}")
        if self.with_centering and intake.is_sparse(batch):
            raise ValueError(
                "Cannot center sparse matrices: use `with_centering=False` instead. "
                "See docstring for motivation and alternatives."
            )
        if not finite and mapping.holds_infinities(batch):
            intake.refuse_infinities(self, batch)
        self._add_batch(batch, True, True, range_=(float(q_min), float(q_max)))
        return self

    def _told(self) -> Any:
        return self.with_centering, self.with_scaling, self.quantile_range, self.unit_variance

    @fitted
    def center_(self) -> _Floats | None:
        """Median of each feature."""
        return self._state.values[1] if self.with_centering else None

    @fitted
    def scale_(self) -> _Floats | None:
        """Quantile range of each feature, 1 where it is 0."""
        if not self.with_scaling:
            return None
        lower, _, upper = self._state.values
        spread = upper - lower
        scale = np.where(spread == 0, 1.0, spread)
        if self.unit_variance:
            normal = NormalDist()
            q_min, q_max = self.quantile_range
            scale = scale / (_ppf(normal, q_max) - _ppf(normal, q_min))
        return scale

    def _numbers(self) -> tuple[Any, Any, Any]:
        shift = self.center_ if self.with_centering else 0.0
        return shift, self.scale_ if self.with_scaling else 1.0, 0.0


def _ppf(normal: NormalDist, percent: float) -> float:
    return normal.inv_cdf(percent / 100) if 0 < percent < 100 else np.inf * (1 if percent else -1)
