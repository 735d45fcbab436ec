"""The same data three times, original, zero-mean and standardized: figures for the page."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean import figures
from zeromean.drawing import draw, value_unit
from zeromean.measurement import measure
from zeromean.reporting import gathering
from zeromean.reporting.charts import as_svg, narrowed, stacked
from zeromean.reporting.wording import Words, count, silently
from zeromean.statistics import Histogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zeromean.profile import Profile

_MOST_CURVES = 8
_MOST_NAMES = 60  # rows with a name
_MOST_PLACES = 400  # along the axis, for more features than that
_SAMPLED = 2000  # items that are looked at again for a histogram
_STANDARD = "standard deviations from the mean"


def three_times(profile: Profile, source: Any, words: Words, pairs: Any) -> dict[str, Any]:
    """Figures for a wide and for a narrow screen, and a note on how they were made."""
    summary = "; ".join(
        f"{row[0]} {row[1]}: {row[3]} ± {row[4]}"
        for row in gathering.three_versions(profile, words).rows[: 3 * _MOST_CURVES]
    )
    many = profile.n_features > _MOST_CURVES
    figure, note = (None, "") if many else _histograms(profile, source, words)
    if figure is not None:
        alt = words.plain("distributions.alt", summary=summary)
        wide = as_svg(figure, "w", alt, pairs)
        narrow = as_svg(stacked(figure), "n", alt, pairs)
        return {"wide": [wide], "narrow": [narrow], "note": note, "log": False}
    note = words("distributions.many" if many else "distributions.rows")
    together = -(-profile.n_features // _MOST_PLACES)
    if together > 1:
        note = words("distributions.grouped", count=count(together))
    keys = ("original", "zero_mean", "standardized")
    drawn = {key: _rows(profile, key, together) for key in keys}
    log = any("symlog" in (f.axes[0].get_xscale(), f.axes[0].get_yscale()) for f in drawn.values())
    wide = [_as_svg(drawn[key], key, "r", words, pairs) for key in keys]
    narrow = [_as_svg(narrowed(drawn[key]), key, "s", words, pairs) for key in keys]
    return {"wide": wide, "narrow": narrow, "note": note, "log": log}


def _histograms(profile: Profile, source: Any, words: Words) -> tuple[Any, Any]:
    """The figure from what the profile counted, or from a part of the data; and how."""
    if isinstance(profile.statistics, Histogram):
        return draw(profile, "three"), ""
    buckets = profile.buckets
    if buckets is None and source is not None:
        part = silently(partial(measure, source, limit=_SAMPLED, quantiles=True), profile.pattern)
        buckets = part.buckets if part.kept_shape == profile.kept_shape else None
    if buckets is None:
        return None, ""
    values, counts = buckets.finite
    keep = np.append(np.diff(values) > 0, True)  # -0.0 and +0.0 are one value, counted as +0.0
    figure = figures.three_distributions(
        values[keep],
        counts[:, keep],
        names=profile.names,
        mean=np.ravel(profile.mean),
        std=np.ravel(profile.std),
        unit=value_unit(profile),
    )
    drawn = count(int(counts.sum(axis=1).max()))
    return figure, "" if profile.buckets is not None else words(
        "distributions.sampled", count=drawn
    )


def _as_svg(figure: Figure, version: str, prefix: str, words: Words, pairs: Any) -> Any:
    alt = f"{words.plain(f'distributions.{version}')}: {words.plain('distributions.alt_rows')}"
    return as_svg(figure, f"{prefix}{version[0]}", alt, pairs)


def _rows(profile: Profile, version: str, together: int) -> Figure:
    """Every feature, or a few neighbors together: the range, ± 1 std and the mean."""
    mean, std, low, high = (
        np.ravel(np.asarray(v, np.float64))
        for v in (profile.mean, profile.std, profile.min, profile.max)
    )
    shift = np.zeros_like(mean) if version == "original" else mean
    scale = np.where(std > 0, std, 1.0) if version == "standardized" else np.ones_like(std)
    starts = np.arange(0, len(mean), together)
    sizes = np.diff(np.append(starts, len(mean)))
    value = value_unit(profile).split(" (")[0]
    unit = {"original": value, "zero_mean": f"{value} − mean"}.get(version, _STANDARD)
    figure = figures.feature_summary(
        np.add.reduceat((mean - shift) / scale, starts) / sizes,
        np.add.reduceat(std / scale, starts) / sizes,
        np.minimum.reduceat((low - shift) / scale, starts),
        np.maximum.reduceat((high - shift) / scale, starts),
        names=profile.names if len(mean) <= _MOST_NAMES else None,
        unit=unit,
        title={"zero_mean": "zero-mean"}.get(version, version),
    )
    if together > 1:
        figure.axes[0].xaxis.set_major_formatter(lambda place, _: f"{place * together:,.0f}")
    return figure
