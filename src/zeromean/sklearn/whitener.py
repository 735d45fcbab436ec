"""`Whitener`: uncorrelated features of variance one, from the covariance of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from zeromean.documents import Tensors
from zeromean.errors import FormatError, MergeError
from zeromean.measurement import measure
from zeromean.normalizer import Normalizer
from zeromean.profile import Profile
from zeromean.profile_file import from_document, to_document
from zeromean.sklearn.exact import BatchEstimator
from zeromean.sklearn.fitted import fitted
from zeromean.whitening import whiten

_Floats = npt.NDArray[np.float64]
_FLOATS = (np.float64, np.float32, np.float16)


class Covariances:
    """A profile with covariance; exact for integers.

    Attributes
    ----------
    n_features : int
    profile : Profile or None
        None before the first batch.
    cache : dict
        Read-outs; emptied by `add`.
    """

    def __init__(self, n_features: int, profile: Profile | None = None) -> None:
        self.n_features, self.profile = n_features, profile
        self.cache: dict[Any, Any] = {}

    def add(self, X: Any, *, known_finite: bool = True) -> None:
        """Add a batch of integers or floats, (n_samples, n_features), without NaN."""
        values = X.astype(np.float64) if X.dtype.kind == "f" else X
        part = measure(values, "n d -> d", covariance=True)
        self.profile = part if self.profile is None else self.profile + part
        self.cache.clear()

    def plus(self, other: Self) -> Self:
        """Both data sets together."""
        return type(self)(self.n_features, self._held + other._held)

    def minus(self, other: Self) -> Self:
        """What is left when the other data is taken out; integers only.

        Raises
        ------
        MergeError
        """
        return type(self)(self.n_features, self._held - other._held)

    def copy(self) -> Self:
        """The same; profiles are immutable."""
        return type(self)(self.n_features, self.profile)

    @property
    def _held(self) -> Profile:
        assert self.profile is not None
        return self.profile

    def to_fields(self, names: tuple[str, ...], *, tensors: bool) -> tuple[dict[str, Any], Tensors]:
        """The fields of the profile's file."""
        document, arrays = to_document(self._held, tensors=tensors)
        return document | {"feature_names": list(names)}, arrays

    @classmethod
    def from_fields(cls, document: Mapping[str, Any], arrays: Tensors, n_features: int) -> Self:
        """From those fields, every one checked.

        Raises
        ------
        FormatError
        """
        profile = from_document({**document, "feature_names": []}, arrays)
        if profile.kept_shape != (n_features,) or profile.covariance is None:
            raise FormatError(f"holds no covariance of {n_features} columns")
        return cls(n_features, profile)


class Whitener(BatchEstimator):
    """y = matrix (x - mean): uncorrelated features, all of variance one.

    `zeromean.whiten` as an estimator. For integer data (pictures, say) the covariance is exact:
    the same bits for every split into batches and any order, and fitted whiteners merge and
    subtract. For floats it is centered batch by batch and merged; there the order of batches
    shows in the last digits.

    Parameters
    ----------
    kind : {"pca", "zca"}
        Principal directions, or the same turned back to stay near the data.
    eps : float
        Added to every eigenvalue.
    shrinkage : float
        Between 0 and 1: how far the covariance moves towards a multiple of the identity.
    n_components : int, float or None
        Directions to keep, or the share of variance that they must exceed.

    Attributes
    ----------
    mean_ : ndarray of float64, (n_features,)
    matrix_ : ndarray of float64, (n_out, n_features)
    n_components_ : int
        Directions that are kept.
    condition_number_ : float
    variance_kept_ : float
        Share of the variance in the directions that are kept.
    n_samples_seen_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the data names its columns.

    Examples
    --------
    >>> x = np.array([[3.0, 3.0], [-3.0, -3.0], [1.0, -1.0], [-1.0, 1.0]])
    >>> y = Whitener().fit_transform(x)
    >>> np.round(y.T @ y / 4, 9) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """

    _State = Covariances
    _parameter_constraints: ClassVar[dict[str, Any]] = {}  # `whiten` names what is wrong

    def __init__(
        self,
        kind: str = "pca",
        *,
        eps: float = 0.0,
        shrinkage: float = 0.0,
        n_components: int | float | None = None,
    ) -> None:
        self.kind = kind
        self.eps = eps
        self.shrinkage = shrinkage
        self.n_components = n_components

    def _add(self, X: Any) -> Self:
        first = self._begin()
        batch = validate_data(self, X, reset=first, dtype="numeric", ensure_min_samples=2)
        if not first:
            known = self._state.profile.dtype
            mine = "float64" if batch.dtype.kind == "f" else batch.dtype.name
            if known != mine:
                raise MergeError(f"cannot add a {mine} batch to {known} data; convert to one dtype")
        self._add_batch(batch, True, first)
        return self

    def _told(self) -> Any:
        return self.kind, self.eps, self.shrinkage, self.n_components

    @fitted
    def _normalizer(self) -> Normalizer:
        return whiten(
            self._state.profile,
            self.kind,
            eps=self.eps,
            shrinkage=self.shrinkage,
            n_components=self.n_components,
        )

    @fitted
    def mean_(self) -> _Floats:
        """Mean of each feature."""
        return self._normalizer.shift

    @fitted
    def matrix_(self) -> _Floats:
        """What centered samples are multiplied with."""
        matrix = self._normalizer.matrix
        assert matrix is not None
        return matrix

    @fitted
    def n_components_(self) -> int:
        """Directions that are kept."""
        return int(self._normalizer.details["n_components"])

    @fitted
    def condition_number_(self) -> float:
        """Largest over smallest eigenvalue that is kept, after eps and shrinkage."""
        return float(self._normalizer.details["condition_number"])

    @fitted
    def variance_kept_(self) -> float:
        """Share of the variance in the directions that are kept."""
        return float(self._normalizer.details["variance_kept"])

    @fitted
    def n_samples_seen_(self) -> int:
        """How many samples were measured."""
        return int(self._state.profile.covariance.n)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Measure mean and covariance, forgetting what was measured before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Integers stay integers, and so exact; no NaN.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        self._reset()
        self._add(X)
        _ = self._normalizer  # so that `fit` names what is wrong, and not the first `transform`
        return self

    def transform(self, X: Any) -> Any:
        """Whiten samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_out)
            float32 and float16 stay what they are; everything else becomes float64.
        """
        check_is_fitted(self)
        batch = validate_data(self, X, reset=False, dtype=_FLOATS)
        return self._normalizer(batch, dtype=batch.dtype.name)

    def inverse_transform(self, X: Any) -> Any:
        """Back to the features, as far as the kept directions tell.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_out)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        batch = check_array(X, dtype=_FLOATS)
        if batch.shape[1] != len(self.matrix_):
            raise ValueError(f"X has {batch.shape[1]} features, not {len(self.matrix_)}")
        return self._normalizer.invert(batch, dtype=batch.dtype.name)

    def normalizer(self) -> Normalizer:
        """The same map as a `zeromean.Normalizer`, which can be saved, exported and composed.

        Returns
        -------
        Normalizer
        """
        check_is_fitted(self)
        return self._normalizer

    def profile(self) -> Profile:
        """What was measured, as a `zeromean.Profile` with covariance.

        Returns
        -------
        Profile
        """
        check_is_fitted(self)
        profile: Profile = self._state.profile
        return profile

    @property
    def _n_features_out(self) -> int:
        return len(self.matrix_)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Names of the output: those of the input for ZCA, whitener0, whitener1, ... for PCA.

        Parameters
        ----------
        input_features : array-like of str, optional

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names = OneToOneFeatureMixin if self.kind == "zca" else ClassNamePrefixFeaturesOutMixin
        return names.get_feature_names_out(self, input_features)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
