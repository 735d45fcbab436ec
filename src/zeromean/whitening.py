"""`whiten`: makes features uncorrelated and of variance one, by the covariance of a profile."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, ZeromeanWarning
from zeromean.normalizer import Normalizer
from zeromean.readouts import Readouts
from zeromean.recipes import check_filled

_Floats = npt.NDArray[np.float64]
_KINDS = ("pca", "zca")


def whiten(
    profile: Readouts,
    kind: str = "pca",
    *,
    eps: float = 0.0,
    shrinkage: float = 0.0,
    n_components: int | float | None = None,
    ddof: int = 0,
) -> Normalizer:
    """Decorrelate: features without covariance, all of variance one.

    With C = V Λ Vᵀ, the covariance and its eigenvectors, PCA whitening is
    y = Λ^(-1/2) Vᵀ (x - μ): coordinates along the principal directions, largest first. ZCA
    whitening is y = V Λ^(-1/2) Vᵀ (x - μ): turned back, so of all whitened data it is the nearest
    to the original, and whitened pictures still look like pictures (Bell and Sejnowski, *The
    "Independent Components" of Natural Scenes are Edge Filters*, Vision Research 37(23), 1997;
    Kessy, Lewin and Strimmer, *Optimal Whitening and Decorrelation*, The American Statistician
    72(4), 2018).

    Parameters
    ----------
    profile : Profile
        Measured with ``covariance=True``.
    kind : {"pca", "zca"}
    eps : float
        Added to every eigenvalue, in squared units of the data. It keeps directions that hardly
        vary, mostly noise, from being blown up.
    shrinkage : float
        Between 0 and 1: whiten (1 - s) C + s tr(C) / d I instead of C. A well-conditioned estimate
        where samples are few (Ledoit and Wolf, *A Well-Conditioned Estimator for
        Large-Dimensional Covariance Matrices*, J. Multivariate Analysis 88(2), 2004).
    n_components : int or float, optional
        How many directions to keep, the largest ones: a number, or the share of the variance
        that they must exceed, as in scikit-learn's PCA. All that are not rounding noise by
        default.
    ddof : int
        0 gives the measured data a variance of exactly one, 1 that of a population.

    Returns
    -------
    Normalizer
        With a `matrix`. ZCA, and PCA that keeps all, give data of the shape they were given; PCA
        that keeps fewer directions gives one last axis of them. The sign of a principal direction
        is such that its largest component is positive. `details` holds `condition_number`
        (largest over smallest kept eigenvalue, after eps and shrinkage), `variance_kept` (a
        share), `n_components`, `rank`, `eps` and `shrinkage`.

        Directions whose eigenvalue may be rounding alone are left out with a warning: PCA drops
        them, ZCA gives zero there; `eps` or `shrinkage` keeps them. That is up to d 2⁻⁵² times the
        largest eigenvalue for d features, and for float data up to `Covariance.error_bound` times
        the sum of all variances.

    Raises
    ------
    PatternError
        When the covariance was not measured, samples are kept by the pattern, no direction has
        any variance, or an option is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.array([[3.0, 3.0], [-3.0, -3.0], [1.0, -1.0], [-1.0, 1.0]])
    >>> norm = zm.whiten(zm.measure(x, covariance=True))
    >>> np.round(norm(x, dtype="float64"), 3) + 0.0
    array([[ 1.414,  0.   ],
           [-1.414,  0.   ],
           [ 0.   ,  1.414],
           [ 0.   , -1.414]])
    >>> round(norm.details["condition_number"], 6)
    9.0
    """
    _check(profile, kind, eps, shrinkage, ddof)
    spectrum = _Spectrum.of(profile, ddof)
    scaled = (1 - shrinkage) * spectrum.values + shrinkage * spectrum.values.mean() + eps
    known = int((scaled > spectrum.noise).sum())
    kept = _how_many(n_components, spectrum, known)
    if n_components is None and known < len(scaled):
        _warn(known, len(scaled))
    values = scaled[:kept]
    vectors = spectrum.vectors[:, :kept]
    if kind == "pca":
        matrix = np.ascontiguousarray((vectors / np.sqrt(values)).T)
    else:
        half = vectors / values**0.25
        matrix = half @ half.T  # symmetric to the last bit
    return Normalizer(
        pattern=profile.pattern,
        kept_shape=profile.kept_shape,
        shift=_mean(profile),
        scale=np.ones(profile.kept_shape),
        matrix=matrix,
        dtype=profile.dtype,
        units=profile.units,
        recipe=f"whiten_{kind}",
        ddof=ddof,
        constant=spectrum.constant,
        feature_names=profile.feature_names,
        details={
            "condition_number": float(values[0] / values[-1]),
            "variance_kept": spectrum.share(kept),
            "n_components": kept,
            "rank": int((spectrum.values > spectrum.noise).sum()),
            "eps": float(eps),
            "shrinkage": float(shrinkage),
        },
    )


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """Eigenvalues and eigenvectors of a covariance.

    Attributes
    ----------
    values : ndarray of float64, (n_features,)
        Falling; none below 0.
    vectors : ndarray of float64, (n_features, n_features)
        One in each column.
    noise : float
        What is no more than this may be rounding alone.
    constant : tuple of str
        Features without variance.
    """

    values: _Floats
    vectors: _Floats
    noise: float
    constant: tuple[str, ...]

    @classmethod
    def of(cls, profile: Readouts, ddof: int) -> Self:
        """Of a measured covariance; scaled by a power of two so that nothing over- or underflows.

        Two errors move the eigenvalues: LAPACK's, a small multiple of d u λ₁, and that of the
        entries, up to b √(cᵢᵢ cⱼⱼ), which is a matrix of norm at most b tr(C) (Weyl).
        """
        matrix = profile.cov(ddof)
        own = np.diagonal(matrix).copy()
        with np.errstate(over="ignore"):
            total = float(own.sum())
        if not np.isfinite(total):
            raise PatternError("the covariance overflows float64; rescale the data first")
        unit = 2.0 ** math.frexp(total)[1] if total else 1.0
        matrix /= unit
        rising, vectors = np.linalg.eigh(matrix)
        values = np.maximum(rising[::-1], 0.0) * unit
        vectors = vectors[:, ::-1]
        largest = np.abs(vectors).argmax(axis=0)
        vectors *= np.where(vectors[largest, np.arange(len(values))] < 0, -1.0, 1.0)
        bound = 0.0 if profile.covariance is None else profile.covariance.error_bound
        noise = max(len(values) * 2.0**-52 * float(values[0]), bound * total)
        still = tuple(name for name, v in zip(profile.names, own, strict=True) if v == 0)
        return cls(values, vectors, noise, still)

    def share(self, count: int) -> float:
        """Of the variance, in the first so many directions."""
        total = float(self.values.sum())
        return min(float(self.values[:count].sum()) / total, 1.0) if total else 1.0


def _how_many(n_components: int | float | None, spectrum: _Spectrum, known: int) -> int:
    """Directions to keep, at least one."""
    if known == 0:
        raise PatternError(
            "no direction has any variance, so there is nothing to whiten; eps > 0 only centers"
        )
    if n_components is None:
        return known
    if isinstance(n_components, int | np.integer) and not isinstance(n_components, bool):
        if not 1 <= n_components <= known:
            raise PatternError(
                f"n_components is {n_components}; the data varies in {known} directions, so choose "
                f"1 to {known}"
            )
        return int(n_components)
    if not 0 < n_components <= 1:
        raise PatternError(
            f"n_components is {n_components!r}; give a number of directions, or a share of the "
            "variance between 0 and 1"
        )
    total = float(spectrum.values.sum()) or 1.0
    shares = np.cumsum(spectrum.values) / total
    return min(int(np.searchsorted(shares, n_components, side="right")) + 1, known)


def _mean(profile: Readouts) -> _Floats:
    """Mean of the samples that the covariance is of."""
    assert profile.covariance is not None
    if profile.covariance.left_out == 0:
        return np.asarray(profile.mean)
    return profile.covariance.means().reshape(profile.kept_shape)


def _warn(known: int, features: int) -> None:
    warnings.warn(
        f"the data varies in {known} of {features} directions; the others hold no more than "
        "rounding and are left out (eps or shrinkage keeps them)",
        ZeromeanWarning,
        stacklevel=3,
    )


def _check(profile: Readouts, kind: str, eps: float, shrinkage: float, ddof: int) -> None:
    if kind not in _KINDS:
        raise PatternError(f"kind is {kind!r}; choose 'pca' or 'zca'")
    check_filled(profile, ddof)
    if profile.pattern.keeps_first:
        raise PatternError(
            f"the pattern {str(profile.pattern)!r} keeps the samples, and a covariance needs many; "
            "whiten with numbers measured from a training set"
        )
    if profile.covariance is None:
        raise PatternError(
            "whitening needs the covariance, which was not measured; "
            "measure(..., covariance=True) does (--covariance on the command line)"
        )
    if profile.covariance.n <= ddof:
        raise PatternError(
            f"{profile.covariance.n} of the samples are complete, too few for a covariance; fill "
            "in the NaN and infinities first, or drop the features that hold them"
        )
    if not (math.isfinite(eps) and eps >= 0):
        raise PatternError(f"eps is {eps!r}; it is added to variances, so choose 0 or more")
    if not 0 <= shrinkage <= 1:
        raise PatternError(f"shrinkage is {shrinkage!r}; choose between 0 and 1")
