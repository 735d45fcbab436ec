"""`ExactEstimator`: what the estimators share: fit in batches, merge, subtract, save and load."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from zeromean.errors import MergeError
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.provenance import Units
from zeromean.sklearn import intake, mapping
from zeromean.sklearn.fitted import given
from zeromean.sklearn.sums import InfiniteValueError

_Floats = npt.NDArray[np.float64]


class ExactEstimator(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An affine map of columns whose numbers are read from exact state.

    A subclass says which state it keeps, and which `shift`, `scale` and `offset` follow from it.
    """

    _state: Any = None
    _State: ClassVar[Any]
    _formats: ClassVar[Any] = False  # sparse formats
    _theirs: ClassVar[Any] = None  # scikit-learn's class, if it takes arrays of other libraries

    # ------------------------------------------------------------ fitting

    def fit(self, X: Any, y: Any = None) -> Self:
        """Measure the columns, forgetting what was measured before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        self
        """
        self._reset()
        return self._add(X)

    def _reset(self) -> None:
        """Forget all data, and all numbers that somebody assigned."""
        self._state = None
        for name in given(self):
            delattr(self, name)

    def _add(self, X: Any) -> Self:
        if intake.is_elsewhere(X):
            return self._add_elsewhere(X)
        first = self._begin()
        batch, finite = intake.fitting(self, X, reset=first, formats=self._formats)
        self._add_batch(batch, finite, first)
        return self

    def _add_elsewhere(self, X: Any, **more: Any) -> Self:
        """Fit arrays of another library, on any device, as scikit-learn does; not exact."""
        if self._theirs is None:
            raise TypeError(f"{type(self).__name__} takes NumPy arrays, not {type(X).__name__}")
        if self._state is not None:
            raise MergeError(
                f"cannot go on with {type(X).__name__} batches after NumPy batches; call fit"
            )
        self._theirs.partial_fit(self, X, **more)
        return self

    def _begin(self) -> bool:
        """Whether this is the first batch; checks parameters then, as scikit-learn does."""
        if given(self):
            raise MergeError(
                f"cannot go on from {', '.join(given(self))}, which somebody assigned: the exact "
                "sums behind them are not known; call fit"
            )
        if self._state is not None:
            return False
        self._validate_params()
        return True

    def _add_batch(self, batch: Any, finite: bool, first: bool, **more: Any) -> None:
        state = self._State(self.n_features_in_) if first else self._state
        try:
            state.add(batch, known_finite=finite, **more)
        except InfiniteValueError:
            intake.refuse_infinities(self, batch)
        self._state = state

    def _told(self) -> Any:
        """The parameters that read-outs depend on."""
        return ()

    def __sklearn_is_fitted__(self) -> bool:
        return self._state is not None or bool(given(self))

    # ------------------------------------------------------------ applying

    def _numbers(self) -> tuple[Any, Any, Any]:
        """Shift, scale and offset: one per column, or one for all."""
        raise NotImplementedError

    def transform(self, X: Any) -> Any:
        """Map each column; computed in float64 and rounded once.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN stays NaN.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            float32 and float16 stay what they are; everything else becomes float64.
        """
        return self._apply(X, self.copy)

    def inverse_transform(self, X: Any) -> Any:
        """Map back; computed in float64 and rounded once.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        return self._apply(X, self.copy, back=True)

    def _apply(self, X: Any, copy: bool, *, back: bool = False) -> Any:
        check_is_fitted(self)
        if self._theirs is not None and intake.is_elsewhere(X):
            return (self._theirs.inverse_transform if back else self._theirs.transform)(self, X)
        batch, finite = intake.applying(self, X, copy=copy, formats=self._formats, back=back)
        if intake.is_sparse(batch):
            return self._apply_sparse(batch, back=back)
        own = copy and batch is X  # else it is a copy already, or is to be written into
        return mapping.apply(self, batch, self._numbers(), back=back, copy=own, known_finite=finite)

    def _apply_sparse(self, X: Any, *, back: bool) -> Any:
        scale = self._numbers()[1]
        return X if np.ndim(scale) == 0 else mapping.scale_sparse(X, scale, back=back)

    def normalizer(self) -> Normalizer:
        """The same map as a `zeromean.Normalizer`, which can be saved, exported and composed.

        Returns
        -------
        Normalizer
        """
        check_is_fitted(self)
        shift, scale, offset = (np.asarray(v, np.float64) for v in self._numbers())
        return Normalizer(
            pattern=Pattern.parse("n d -> d"),
            kept_shape=(self.n_features_in_,),
            shift=shift,
            scale=scale,
            offset=offset,
            dtype="float64",
            units=Units.of("float64"),
            recipe=type(self).__name__,
            feature_names=self._names(),
        )

    def _names(self) -> tuple[str, ...]:
        return tuple(map(str, vars(self).get("feature_names_in_", ())))

    # ------------------------------------------------------------ algebra

    def merge(self, other: Self) -> Self:
        """An estimator fitted to the data of both; the same bits as from one fit to all.

        Parameters
        ----------
        other : estimator of the same class
            With the same parameters and features.

        Returns
        -------
        estimator
            A new one.

        Raises
        ------
        MergeError
            When they differ in class, parameters or features, or are not fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from zeromean.sklearn import StandardScaler
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> both = StandardScaler().fit(x[:30]).merge(StandardScaler().fit(x[30:]))
        >>> bool((both.var_ == StandardScaler().fit(x).var_).all())
        True
        """
        self._check_like(other, "merge")
        return self._made(self._state.plus(other._state))

    def __add__(self, other: Self) -> Self:
        return self.merge(other)

    def __radd__(self, other: object) -> Self:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __sub__(self, other: Self) -> Self:
        """An estimator fitted to what is left when the other's data is taken out.

        Raises
        ------
        MergeError
            Where that cannot be known: for minimum, maximum and quantiles.
        """
        self._check_like(other, "subtract")
        return self._made(self._state.minus(other._state))

    def _made(self, state: Any) -> Self:
        made = type(self)(**self.get_params(deep=False))
        made._state, made.n_features_in_ = state, self.n_features_in_
        if "feature_names_in_" in vars(self):
            made.feature_names_in_ = self.feature_names_in_
        return made

    def _check_like(self, other: Any, verb: str) -> None:
        if type(other) is not type(self):
            raise MergeError(
                f"cannot {verb} {type(self).__name__} and {type(other).__name__}: "
                "they must be of one class"
            )
        for one in (self, other):
            if one._state is None or given(one):
                raise MergeError(f"cannot {verb}: {one!r} holds no exact state; call fit first")
        for what, mine, theirs in (
            ("parameters", self.get_params(deep=False), other.get_params(deep=False)),
            ("number of features", self.n_features_in_, other.n_features_in_),
            ("feature names", self._names(), other._names()),
        ):
            if mine != theirs:
                raise MergeError(f"cannot {verb}: they differ in {what}: {mine} and {theirs}")

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the state at rest, which further batches do not change."""
        fields = dict(super().__getstate__())
        if fields.get("_state") is not None:
            fields["_state"] = fields["_state"].copy()
        return fields

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and exact state as JSON (`.json`) or safetensors; no code inside.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            For another suffix, or a folder that cannot be written.
        """
        from zeromean.sklearn.storing import save

        check_is_fitted(self)
        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; every field is checked.

        Parameters
        ----------
        path : path

        Returns
        -------
        estimator
            Fitted; further batches add to it exactly.

        Raises
        ------
        FormatError
            When the file is missing, damaged, or holds another estimator.
        """
        from zeromean.sklearn.storing import load

        return load(path, cls)  # type: ignore[no-any-return]


class BatchEstimator(ExactEstimator):
    """One that can be fitted batch by batch."""

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Measure one more batch. Neither order nor size of the batches changes a bit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        self
        """
        return self._add(X)
