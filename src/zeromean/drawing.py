"""Chooses the figure for a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean import figures
from zeromean.errors import PatternError
from zeromean.statistics import Histogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zeromean.profile import Profile

KINDS = ("distribution", "three", "features", "image")


def draw(profile: Profile, kind: str = "distribution", title: str = "") -> Figure:
    """Draw one figure of a profile.

    Raises
    ------
    PatternError
        For an unknown kind, or one that the profile has no data for.
    """
    if kind not in KINDS:
        raise PatternError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}")
    if not np.any(profile.count):
        raise PatternError("the profile is empty: there is nothing to draw")
    if profile.estimate is not None:
        title = f"{title} ({profile.estimate.short})" if title else profile.estimate.short
    if kind == "image" or (kind == "distribution" and is_image(profile)):
        return _image(profile, title)
    counted = isinstance(profile.statistics, Histogram)
    if kind == "three":
        return figures.three_distributions(**_histogram(profile), title=title)
    if kind == "distribution" and counted:
        return figures.distribution(**_histogram(profile), title=title)
    ends = [np.ravel(np.asarray(v, np.float64)) for v in (profile.min, profile.max)]
    return figures.feature_summary(
        np.ravel(profile.mean), np.ravel(profile.std), *ends, names=profile.names, title=title
    )


def is_image(profile: Profile) -> bool:
    """Whether the read-outs are pictures themselves, as those of "n h w c -> h w c"."""
    shape = profile.kept_shape
    return len(shape) == 3 and shape[-1] in (1, 3) and shape[0] > 1 and shape[1] > 1


def _histogram(profile: Profile) -> dict[str, Any]:
    values, counts = profile.histogram
    if "float" in profile.dtype:  # -0.0 and +0.0 are one value, counted as +0.0
        keep = np.concatenate([np.diff(values) > 0, [True]])
        values, counts = values[keep], counts[..., keep]
    return {
        "values": values,
        "counts": counts.reshape(profile.n_features, -1),
        "names": profile.names,
        "mean": np.ravel(profile.mean),
        "std": np.ravel(profile.std),
        "unit": value_unit(profile),
        "counted": "pixels" if profile.units.channels else "values",
    }


def value_unit(profile: Profile) -> str:
    """What the x axis shows, such as "pixel value (0..255)"."""
    what = "pixel value" if profile.units.channels else "value"
    limits = profile.units.range
    return what if limits is None else f"{what} ({limits[0]:g}..{limits[1]:g})"


def _image(profile: Profile, title: str) -> Figure:
    shape = profile.kept_shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[-1] not in (1, 3)):
        raise PatternError(
            f"a mean image needs a pattern such as 'n h w c -> h w c', not {str(profile.pattern)!r}"
        )
    return figures.mean_image(profile.mean, limits=profile.units.range, title=title)
