"""Whether a study was made of the data that a profile was measured on, as far as that can be told.

Files have a digest, and equal digests settle it. Of arrays and tables only what must agree can be
held together: the number of samples, the form of one sample, names of columns, the range, the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean.convergence.resizing import LUMA
from zeromean.errors import MergeError
from zeromean.reporting.gathering import is_partial

if TYPE_CHECKING:
    from zeromean.convergence.results import Data, Study
    from zeromean.profile import Profile

_DECODERS = 4.0  # levels by which two JPEG decoders may differ
_ROUNDING = 1e-6  # of the standard deviation
_SURE = 6.0  # standard errors


def kinship(profile: Profile, study: Study) -> str:
    """How sure it is that a study belongs to a profile.

    Parameters
    ----------
    profile : Profile
    study : Study

    Returns
    -------
    {"same", "agrees", "part", "doubtful"}
        The same files; all that can be compared agrees; only a part was measured, so hardly
        anything can be compared; the means are further apart than sampling explains.

    Raises
    ------
    MergeError
        When they cannot be of the same data: saying why, and what to do.
    """
    data = study.data
    if is_partial(profile):
        return "part"
    _check(_other_form(profile, data), profile, data)
    _check(_other_count(profile, data), profile, data)
    digest = f"{profile.provenance.digest:064x}" if profile.provenance.digest else ""
    if digest and data.digest:
        _check(digest != data.digest and "the files differ (other digest)", profile, data)
        return "same"
    _check(_other_range(profile, data), profile, data)
    expected = _expected_mean(profile, data)
    if expected is None:
        return "agrees"
    off, whole = abs(data.mean - expected), data.samples == data.available
    if whole and not profile.units.colors and off > _ROUNDING * data.std:
        _check(f"its mean is {data.mean:.6g}, not {expected:.6g}", profile, data)
    error = data.std / np.sqrt(data.samples) * _SURE + _DECODERS * bool(profile.units.colors)
    return "doubtful" if off > error else "agrees"


def _check(why: str | bool, profile: Profile, data: Data) -> None:
    """Refuse when there is a reason."""
    if why:
        measured = "; ".join(profile.provenance.sources) or "the data of the profile"
        raise MergeError(
            f"the study of {data.source} does not belong to the profile of {measured}: {why}; "
            "study the data that was measured (`zeromean study SOURCE -o study.json`), or leave "
            "the study out"
        )


def _other_form(profile: Profile, data: Data) -> str:
    """Pictures against rows, other columns, other names of columns."""
    names = profile.feature_names
    missing = [name for name in data.columns if names and name not in names]
    if missing:
        return f"column {missing[0]!r} is not among those that were measured"
    axes = _axes(profile)
    if axes == 2 and len(profile.kept_shape) == 1 and not data.columns:
        columns, values = profile.n_features, int(np.prod(data.shape))
        if columns != values:
            return f"it has {values} values a sample, not {columns}"
    if profile.units.colors and not data.is_pictures:
        return "it is about rows of a table, not about pictures"
    return ""


def _axes(profile: Profile) -> int:
    return len(str(profile.pattern).partition("->")[0].split())


def _other_count(profile: Profile, data: Data) -> str:
    record = profile.provenance
    if record.items and not 0 <= data.available - record.items <= len(record.skipped):
        return f"it is about {data.available:,} samples, not {record.items:,}"
    return ""


def _other_range(profile: Profile, data: Data) -> str:
    """Values of the study that the profile would have seen."""
    low, high = float(np.nanmin(profile.min)), float(np.nanmax(profile.max))
    slack = _ROUNDING * data.std + _DECODERS * bool(profile.units.colors)
    if data.low < low - slack or data.high > high + slack:
        return (
            f"its values reach from {data.low:.6g} to {data.high:.6g}, those that were measured "
            f"only from {low:.6g} to {high:.6g}"
        )
    return ""


def _expected_mean(profile: Profile, data: Data) -> float | None:
    """What the mean of all values of the study should be; None where the profile cannot tell."""
    mean: Any = np.asarray(profile.mean, np.float64)
    if not data.is_pictures:
        if profile.feature_names and data.columns:
            at = [profile.feature_names.index(name) for name in data.columns]
            mean = np.ravel(mean)[at]
        return float(np.mean(mean))
    if _axes(profile) == 3:
        return float(np.mean(mean))
    if not _keeps_last(profile) or mean.shape[-1] not in (1, 3):
        return None
    if mean.shape[-1] == 1:
        return float(np.mean(mean))
    channels = mean.reshape(-1, 3).mean(axis=0)
    return float(channels @ LUMA if data.shape[-1] == 1 else channels.mean())


def _keeps_last(profile: Profile) -> bool:
    """Whether the channels keep their own statistics, in (n, h, w, c)."""
    axes, _, kept = str(profile.pattern).partition("->")
    return _axes(profile) == 4 and kept.split()[-1:] == axes.split()[-1:]
