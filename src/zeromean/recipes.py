"""Recipes: plain functions from a profile to a `Normalizer`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from zeromean.errors import PatternError, ZeromeanWarning
from zeromean.normalizer import Normalizer
from zeromean.profile import Profile


def zero_mean(profile: Profile) -> Normalizer:
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
    _check_filled(profile)
    return _normalizer(profile, "zero_mean", np.ones(profile.kept_shape))


def standardize(profile: Profile, *, ddof: int = 0) -> Normalizer:
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
        Constant features get scale 1 and are named in `constant`, with a warning.

    Raises
    ------
    PatternError
        When a feature has no more than `ddof` values.
    """
    _check_filled(profile, ddof)
    spread = profile.std if ddof == 0 else profile.sample_std(ddof)
    constant = profile.constant
    scale = np.where(constant, 1.0, spread)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise PatternError(
            "the std of a feature over- or underflows float64; rescale the data first"
        )
    names = tuple(n for n, c in zip(profile.names, np.ravel(constant), strict=True) if c)
    if names:
        few = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        warnings.warn(
            f"{len(names)} constant feature(s) have no std and are divided by 1: {few}",
            ZeromeanWarning,
            stacklevel=2,
        )
    return _normalizer(profile, "standardize", scale, ddof, names)


def _normalizer(
    profile: Profile, recipe: str, scale: Any, ddof: int = 0, constant: tuple[str, ...] = ()
) -> Normalizer:
    return Normalizer(
        pattern=profile.pattern,
        kept_shape=profile.kept_shape,
        shift=np.asarray(profile.mean, np.float64),
        scale=np.asarray(scale, np.float64),
        dtype=profile.dtype,
        units=profile.units,
        recipe=recipe,
        ddof=ddof,
        constant=constant,
        feature_names=profile.feature_names,
    )


def _check_filled(profile: Profile, ddof: int = 0) -> None:
    if not isinstance(profile, Profile):
        raise PatternError(
            f"a recipe takes a profile, not {type(profile).__name__}: measure the data first, or "
            "load a saved profile"
        )
    if profile.pattern.keeps_first:
        raise PatternError(
            f"the pattern {str(profile.pattern)!r} keeps its first axis, so its numbers belong to "
            "single samples and cannot normalize others"
        )
    short = np.ravel(profile.count <= ddof)
    if short.any():
        few = [n for n, s in zip(profile.names, short, strict=True) if s][:8]
        raise PatternError(f"too few values to normalize: {', '.join(few)}")
