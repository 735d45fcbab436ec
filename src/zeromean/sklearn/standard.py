"""`StandardScaler` and `ZeroMean`: mean and variance, correctly rounded from exact sums."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn import preprocessing
from sklearn.utils.validation import _check_sample_weight

from zeromean.errors import MergeError
from zeromean.profile import Profile
from zeromean.rounding import ratio
from zeromean.sklearn import intake, mapping
from zeromean.sklearn.exact import BatchEstimator
from zeromean.sklearn.fitted import fitted
from zeromean.sklearn.sums import Sums

_Floats = npt.NDArray[np.float64]
_EPSILON = float(np.finfo(np.float64).eps)


class OfSums(BatchEstimator):
    """An estimator that keeps `Sums`."""

    _State = Sums

    @fitted
    def n_samples_seen_(self) -> Any:
        """How many values each feature has, NaN left out: one number if all have the same."""
        totals = self._state.totals
        if self._state.is_weighted:
            counts = np.array([ratio(w, 1 << 1074) for w in totals.weights])
        else:
            counts = np.array(totals.weights, np.int64)
        return counts[0] if (counts == counts[0]).all() else counts

    def profile(self) -> Profile:
        """What was measured, as a `zeromean.Profile` of float64 columns.

        Returns
        -------
        Profile
            Equal to ``zeromean.measure`` of the same data as float64.

        Raises
        ------
        MergeError
            For weighted data, which a profile cannot hold.
        """
        if self._state is None:
            raise MergeError(f"{self!r} is not fitted; call fit first")
        if self._state.is_weighted:
            raise MergeError("a profile holds no weights; use the estimator itself, or save it")
        profile: Profile = self._state.profile(self._names())
        return profile


class StandardScaler(OfSums, preprocessing.StandardScaler):  # type: ignore[misc]
    """y = (x - mean) / std, column by column; a drop-in for scikit-learn's, exact.

    Mean and variance are correctly rounded from integer sums, so that neither batches nor their
    order nor threads change a bit, and fitted scalers can be merged and subtracted.

    Parameters
    ----------
    copy : bool
        False to write the result into the data where that is possible.
    with_mean, with_std : bool
        Whether to center, and to scale.

    Attributes
    ----------
    mean_, var_ : ndarray of float64, (n_features,), or None
        None where neither is asked for; the variance also without ``with_std``.
    scale_ : ndarray of float64, (n_features,), or None
        The std; 1 for features that are constant up to rounding.
    n_samples_seen_ : int or ndarray
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the data names its columns.

    Examples
    --------
    >>> scaler = StandardScaler().fit([[0, 0], [0, 0], [1, 1], [1, 1]])
    >>> scaler.mean_
    array([0.5, 0.5])
    >>> scaler.transform([[2, 2]])
    array([[3., 3.]])
    """

    _formats = ("csr", "csc")
    _theirs = preprocessing.StandardScaler

    def __init__(self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std
        self.copy = copy

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Measure the columns, forgetting what was measured before.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            NaN is left out. Sparse data is taken with ``with_mean=False`` only.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        self._reset()
        return self.partial_fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Measure one more batch. Neither order nor size of the batches changes a bit.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            A batch without weights has weights of one.

        Returns
        -------
        self
        """
        if intake.is_elsewhere(X):
            return self._add_elsewhere(X, sample_weight=sample_weight)
        if sample_weight is None and not vars(self).keys() & _CALLBACKS:
            first = self._begin()
            batch, finite = intake.fitting(self, X, reset=first, formats=self._formats)
            self._measure(batch, finite, first)
            return self
        with _callbacks(self):
            return self._fit_watched(X, y, sample_weight)

    def _fit_watched(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """The same with weights, and with scikit-learn's callbacks where it has them."""
        first = self._begin()
        batch, finite = intake.fitting(self, X, reset=first, formats=self._formats)
        watch = vars(self).keys() & _CALLBACKS
        told = {"estimator": self, "X": X, "y": y, "metadata": {"sample_weight": sample_weight}}
        context = self._init_callback_context() if watch else None
        if context is not None:
            context.call_on_fit_task_begin(**told)
        more = {}
        if sample_weight is not None:
            more["weight"] = _check_sample_weight(sample_weight, batch, dtype=np.float64)
            if not finite and mapping.holds_infinities(batch):
                intake.refuse_infinities(self, batch)
        self._measure(batch, finite, first, **more)
        if context is not None:
            context.call_on_fit_task_end(**told, reconstruction_attributes={})
        return self

    def _measure(self, batch: Any, finite: bool, first: bool, **more: Any) -> None:
        if self.with_mean and intake.is_sparse(batch):
            raise ValueError(
                "Cannot center sparse matrices: pass `with_mean=False` instead. "
                "See docstring for motivation and alternatives."
            )
        self._add_batch(batch, finite, first, **more)

    # ------------------------------------------------------------ read-outs

    def _told(self) -> Any:
        return self.with_mean, self.with_std

    @fitted
    def mean_(self) -> _Floats | None:
        """Mean of each feature, correctly rounded."""
        if not (self.with_mean or self.with_std):
            return None
        return self._state.totals.means()  # type: ignore[no-any-return]

    @fitted
    def var_(self) -> _Floats | None:
        """Population variance of each feature, correctly rounded."""
        return self._state.totals.variances() if self.with_std else None

    @fitted
    def scale_(self) -> _Floats | None:
        """What centered features are divided by: the std, or 1 where that is rounding alone.

        Scikit-learn's rule: a feature is constant if ``var <= n eps var + (n mean eps)**2``; here
        solved for the std, which neither over- nor underflows.
        """
        if not self.with_std:
            return None
        stds, means = self._state.totals.stds(), self._state.totals.means()
        with np.errstate(invalid="ignore", over="ignore"):
            share = np.asarray(self.n_samples_seen_, np.float64) * _EPSILON
            room = np.sqrt(np.maximum(1 - share, 0))
            constant = stds * room <= share * np.abs(means)
        return np.where(constant, 1.0, stds)

    # ------------------------------------------------------------ applying

    def _numbers(self) -> tuple[Any, Any, Any]:
        shift = self.mean_ if self.with_mean else 0.0
        scale = self.scale_ if self.with_std else 1.0
        return shift, scale, 0.0

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Center and scale; computed in float64 and rounded once.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            NaN stays NaN.
        copy : bool, optional
            Instead of the parameter.

        Returns
        -------
        {ndarray, sparse matrix} of shape (n_samples, n_features)
        """
        return self._apply(X, self.copy if copy is None else copy)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Scale and move back; computed in float64 and rounded once.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        copy : bool, optional
            Instead of the parameter.

        Returns
        -------
        {ndarray, sparse matrix} of shape (n_samples, n_features)
        """
        return self._apply(X, self.copy if copy is None else copy, back=True)

    def _apply_sparse(self, X: Any, *, back: bool) -> Any:
        if self.with_mean:
            verb = "uncenter" if back else "center"
            raise ValueError(
                f"Cannot {verb} sparse matrices: pass `with_mean=False` instead. "
                "See docstring for motivation and alternatives."
            )
        return super()._apply_sparse(X, back=back)


class ZeroMean(OfSums):
    """y = x - mean, column by column; nothing else.

    Parameters
    ----------
    copy : bool
        False to write the result into the data where that is possible.

    Attributes
    ----------
    mean_ : ndarray of float64, (n_features,)
    n_samples_seen_ : int or ndarray
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the data names its columns.

    Examples
    --------
    >>> ZeroMean().fit_transform([[1.0, 10.0], [3.0, 30.0]])
    array([[ -1., -10.],
           [  1.,  10.]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"copy": ["boolean"]}

    def __init__(self, *, copy: bool = True) -> None:
        self.copy = copy

    @fitted
    def mean_(self) -> _Floats:
        """Mean of each feature, correctly rounded."""
        return self._state.totals.means()  # type: ignore[no-any-return]

    def _numbers(self) -> tuple[Any, Any, Any]:
        return self.mean_, 1.0, 0.0

    def __sklearn_tags__(self) -> Any:
        return tags_of(super().__sklearn_tags__())


def tags_of(tags: Any) -> Any:
    """The tags of estimators that keep NaN and float32."""
    tags.input_tags.allow_nan = True
    tags.transformer_tags.preserves_dtype = ["float64", "float32"]
    return tags


_CALLBACKS = {"_skl_callbacks", "_parent_callback_ctx"}


def _callbacks(estimator: Any) -> Any:
    """Scikit-learn's context around a fit with callbacks, which it has since 1.9."""
    try:
        from sklearn.callback._callback_support import callback_management_context
    except ImportError:
        return nullcontext()
    return callback_management_context(estimator)
