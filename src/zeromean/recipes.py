"""Recipes: plain functions from a profile to a `Normalizer`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, ZeromeanWarning, warn
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.readouts import Readouts
from zeromean.samples import BatchProfile

_Floats = npt.NDArray[np.float64]


def zero_mean(profile: Readouts) -> Normalizer:
    """y = x - mean: every kept feature of the measured data gets mean zero.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    Normalizer

    Raises
    ------
    PatternError
        When a feature has no data.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> zm.zero_mean(zm.measure(x))(x)
    array([[ -1., -10.],
           [  1.,  10.]], dtype=float32)
    """
    check_filled(profile)
    return _normalizer(profile, "zero_mean", profile.mean, np.ones(profile.kept_shape))


def standardize(profile: Readouts, *, ddof: int = 0) -> Normalizer:
    """y = (x - mean) / std: mean zero and variance one.

    Parameters
    ----------
    profile : Profile
    ddof : int
        0 gives the measured data a variance of exactly one; 1 uses the estimate for a
        population.

    Returns
    -------
    Normalizer
        Features without spread get scale 1 and are named in `constant`, with a warning. These are
        constants, and floats whose std is no more than the rounding of their format,
        u |mean| with u = 2⁻²⁴ for float32 and 2⁻⁵³ for float64.

    Raises
    ------
    PatternError
        When a feature has no more than `ddof` values.
    """
    check_filled(profile, ddof)
    std = profile.std if ddof == 0 else profile.sample_std(ddof)
    return _scaled(profile, "standardize", profile.mean, std, "std", ddof=ddof)


def min_max(profile: Readouts, low: float = 0.0, high: float = 1.0) -> Normalizer:
    """y = (x - min) / (max - min) (high - low) + low: the measured data fills [low, high].

    Parameters
    ----------
    profile : Profile
    low, high : float
        What the smallest and largest measured value become; in float32 exactly. Data beyond what
        was measured goes beyond them.

    Returns
    -------
    Normalizer
        Features without spread get scale 1, so they become `low`, and are named in `constant`.

    Raises
    ------
    PatternError
        When a feature has no data, `low` is not below `high`, or min and max are but bounds.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.array([[2.0], [4.0], [10.0]])
    >>> zm.min_max(zm.measure(x), -1, 1)(x).ravel()
    array([-1. , -0.5,  1. ], dtype=float32)
    """
    _check_extrema(profile)
    if not all(isinstance(v, Real) and math.isfinite(v) for v in (low, high)) or not low < high:
        raise PatternError(
            f"min_max needs finite low < high, two numbers: not {low!r} and {high!r}"
        )
    bottom = np.asarray(profile.min, np.float64)
    span = _span(profile)
    scale = _meeting(span, float(low), float(high))
    scale = np.where(span == 0, 0.0, scale)
    return _scaled(profile, "min_max", bottom, scale, "range", offset=float(low))


def mean_normalize(profile: Readouts) -> Normalizer:
    """y = (x - mean) / (max - min): mean zero, and a range of length one.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    Normalizer
        Features without spread get scale 1 and are named in `constant`.

    Raises
    ------
    PatternError
        When a feature has no data, or min and max are but bounds.
    """
    _check_extrema(profile)
    return _scaled(profile, "mean_normalize", profile.mean, _span(profile), "range")


def max_abs(profile: Readouts) -> Normalizer:
    """y = x / max |x|: into [-1, 1] without moving zero.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    Normalizer
        Features that are all zero get scale 1 and are named in `constant`.

    Raises
    ------
    PatternError
        When a feature has no data, or min and max are but bounds.
    """
    _check_extrema(profile)
    low, high = (np.asarray(v, np.float64) for v in (profile.min, profile.max))
    largest = np.maximum(np.abs(low), np.abs(high))
    constant = largest == 0
    scale = np.where(constant, 1.0, largest)
    names = _named(profile, constant, "largest value")
    return _normalizer(profile, "max_abs", np.zeros(profile.kept_shape), scale, constant=names)


def robust(
    profile: Readouts,
    source: Any = None,
    *,
    quantile_range: tuple[float, float] = (25.0, 75.0),
    nodata: Any = None,
    mask: Any = None,
    ignore: Sequence[int] = (),
) -> Normalizer:
    """y = (x - median) / (q₇₅ - q₂₅): what outliers cannot move.

    Parameters
    ----------
    profile : Profile
    source : optional
        What was measured, for float32, float64 and 32- and 64-bit integers, whose values are not
        all counted: it is read again, twice or a few times, and the quantiles are exact.
    quantile_range : (low, high)
        In percent; their distance is the scale.
    nodata, mask, ignore : optional
        With a source: what it was measured with, as for `zeromean.measure`.

    Returns
    -------
    Normalizer
        Features whose two quantiles agree get scale 1 and are named in `constant`.

    Raises
    ------
    PatternError
        When a feature has no data, or the source is needed and not given.
    SourceError
        When the source does not hold what was measured.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.array([[1.0], [2.0], [3.0], [4.0], [1000.0]])
    >>> zm.robust(zm.measure(x), x)(x).ravel()
    array([ -1. ,  -0.5,   0. ,   0.5, 498.5], dtype=float32)
    """
    check_filled(profile)
    low, high = quantile_range
    if not 0 <= low < high <= 100:
        raise PatternError(f"quantile_range must be 0 <= low < high <= 100, not {quantile_range}")
    wanted = [low / 100, 0.5, high / 100]
    if profile.estimate is not None and source is not None:
        raise PatternError(
            "robust(profile, source) reads all that was measured once more, and this profile is an "
            f"{profile.estimate.short}; measure without within="
        )
    _warn_of_sample(profile, "the quantiles")
    if source is None:
        quartiles = _counted_quantiles(profile, wanted)
    else:
        from zeromean.refinement import exact_quantiles

        left_out = {"nodata": nodata, "mask": mask, "ignore": ignore}
        quartiles = exact_quantiles(profile, source, wanted, **left_out)
    first, median, third = quartiles
    return _scaled(profile, "robust", median, third - first, "spread between the quantiles")


def _counted_quantiles(profile: Readouts, wanted: list[float]) -> _Floats:
    try:
        return profile.quantile(wanted)
    except PatternError as error:
        raise PatternError(
            "robust needs exact quantiles: give the data once more, robust(profile, source); "
            f"{error}"
        ) from None


# ---------------------------------------------------------------- what they share


def _span(profile: Readouts) -> _Floats:
    """max - min, rounded once."""
    low, high = np.asarray(profile.min), np.asarray(profile.max)
    if low.dtype.kind in "iu":
        exact = [b - a for a, b in zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)]
        return np.array([float(v) for v in exact]).reshape(low.shape)
    with np.errstate(over="ignore"):
        return np.asarray(high - low, np.float64)


def _meeting(span: _Floats, low: float, high: float) -> _Floats:
    """span / (high - low), nudged by an ulp where that makes span / scale + low hit `high`."""
    width = high - low
    scale = span / width
    best = scale.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = span / best + low != high
        for candidate in (np.nextafter(scale, 0), np.nextafter(scale, np.inf)):
            hits = missed & (span / candidate + low == high)
            best = np.where(hits, candidate, best)
            missed = missed & ~hits
    return best


def _scaled(
    profile: Readouts, recipe: str, shift: Any, spread: Any, what: str, **rest: Any
) -> Normalizer:
    """A normalizer whose scale is a spread, 1 where there is none."""
    spread = np.asarray(spread, np.float64)
    constant = np.asarray(profile.negligible)
    if recipe == "robust":
        constant = constant | (spread == 0)  # more than half of the values are equal
    scale = np.where(constant, 1.0, spread)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise PatternError(
            f"the {what} of a feature over- or underflows float64; rescale the data first"
        )
    names = _named(profile, constant, what)
    return _normalizer(profile, recipe, shift, scale, constant=names, **rest)


def _named(profile: Readouts, constant: Any, what: str) -> tuple[str, ...]:
    """Names of the features without spread, with a warning."""
    if not np.any(constant):
        return ()
    names = tuple(n for n, c in zip(profile.names, np.ravel(constant), strict=True) if c)
    few = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    warnings.warn(
        f"{len(names)} constant feature(s) have no {what} and are divided by 1: {few}",
        ZeromeanWarning,
        stacklevel=4,
    )
    return names


def _normalizer(
    profile: Readouts, recipe: str, shift: Any, scale: Any, offset: float = 0.0, **rest: Any
) -> Normalizer:
    return Normalizer(
        pattern=profile.pattern,
        kept_shape=profile.kept_shape,
        shift=np.asarray(shift, np.float64),
        scale=np.asarray(scale, np.float64),
        offset=np.full(profile.kept_shape, offset),
        dtype=profile.dtype,
        units=profile.units,
        recipe=recipe,
        feature_names=profile.feature_names,
        details={} if profile.estimate is None else profile.estimate.details,
        **rest,
    )


def _check_extrema(profile: Readouts) -> None:
    check_filled(profile)
    if not profile.extrema_exact:
        raise PatternError(
            "min and max are only bounds after a subtraction of float profiles; measure what is "
            "left once more"
        )
    _warn_of_sample(profile, "min and max")


def _warn_of_sample(profile: Readouts, what: str) -> None:
    """An estimate bounds mean and std, and nothing else."""
    if profile.estimate is not None:
        warn(
            f"{what} are those of the {profile.estimate.files:,} sampled "
            f"{profile.estimate.clusters}: how far those of all {profile.estimate.of_files:,} lie "
            "beyond them is not known"
        )


def check_filled(profile: Readouts, ddof: int = 0) -> None:
    if isinstance(profile, str | Pattern):
        raise PatternError(
            f"a recipe takes a profile, not the pattern {str(profile)!r}; numbers for each sample, "
            "measured from the batch itself: zm.per_sample(zm.standardize, 'n h w c -> n')"
        )
    if hasattr(profile, "normalizers"):
        raise PatternError(
            "a recipe takes one profile, and this holds one for each group: use "
            "grouped.normalizers(zm.standardize), grouped.total, or grouped.reweight(...)"
        )
    if not isinstance(profile, Readouts):
        raise PatternError(
            f"a recipe takes a profile, not {type(profile).__name__}: measure the data first, or "
            "load a saved profile"
        )
    if profile.pattern.keeps_first and not isinstance(profile, BatchProfile):
        raise PatternError(
            f"the pattern {str(profile.pattern)!r} keeps its first axis, so its numbers belong to "
            "single samples and cannot normalize others; for numbers measured from each batch: "
            f"zm.per_sample(zm.standardize, {str(profile.pattern)!r})"
        )
    if not isinstance(ddof, Real):
        raise PatternError(f"ddof is {ddof!r}; it must be a number, such as 0 or 1")
    short = np.ravel(profile.count <= ddof)
    if short.any():
        few = [n for n, s in zip(profile.names, short, strict=True) if s][:8]
        raise PatternError(f"too few values to normalize: {', '.join(few)}")
