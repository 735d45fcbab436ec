"""The same data three times: as it is, zero-mean, and standardized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from zeromean.figures.bins import MOST_BINS, Bins, Floats, binned, checked, range_text
from zeromean.figures.curves import (
    MOST_CURVES,
    ceiling,
    curve_label,
    cut_off,
    draw_curve,
    peak,
    power_ticks,
)
from zeromean.figures.style import INK, SOFT, curve_styles, dress, frame, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def three_distributions(
    values: ArrayLike,
    counts: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    unit: str = "value",
    counted: str = "values",
    title: str = "",
) -> Figure:
    """Draw the same data three times: as it is, zero-mean, and standardized.

    Each panel transforms the edges of the bins, never the counts, so nothing is sampled anew. The
    first two panels have one scale (only the place changes); in the third the axes are stretched so
    that equal areas still mean equal shares of the data. Constant features are divided by 1.

    Parameters
    ----------
    values, counts, names, mean, std, unit, counted, title
        As for `distribution`; at most 8 features.

    Returns
    -------
    matplotlib.figure.Figure
        Three axes; the area under every curve is 1.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the shapes disagree, the values are not finite and increasing, or there are more than 8
        features.

    Examples
    --------
    >>> figure = three_distributions([0, 1, 2], [1, 2, 1], mean=[1.0], std=[0.5])
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['original', 'zero-mean', 'standardized']
    """
    bins = binned(checked(values, counts), names, mean, std, most=MOST_BINS // 2)
    if len(bins.names) > MOST_CURVES:
        raise ValueError(
            f"three_distributions draws at most {MOST_CURVES} features, not {len(bins.names)}: "
            "pick some of them, or use distribution"
        )
    figure = new_figure(10.0, 4.2)
    places = [figure.add_subplot(1, 3, index + 1) for index in range(3)]
    panels = _panels(bins, unit)
    for axes, panel in zip(places, panels, strict=True):
        _draw_curves(axes, panel, bins)
        _write(axes, panel)
    tops = _share_area(places, panels, bins)
    places[0].set_ylabel("density", color=SOFT, fontsize=9.5)
    power_ticks(places[0], bins)
    note = "Every curve encloses the same area. " + cut_off(bins, tops)
    dress(figure, places[0], title, note.strip())
    return figure


@dataclass(frozen=True)
class _Panel:
    """One transformation (x - shift) / scale and what to write about it."""

    name: str
    formula: str
    label: str
    shift: Floats
    scale: Floats
    headline: str
    detail: str


def _panels(bins: Bins, unit: str) -> list[_Panel]:
    """Original, zero-mean and standardized, with what the network sees of each."""
    zero, one = np.zeros_like(bins.mean), np.ones_like(bins.mean)
    short = unit.split(" (")[0]
    original, centered, standard = _captions(bins)
    return [
        _Panel("original", "x", unit, zero, one, *original),
        _Panel("zero-mean", "x − mean", f"{short} − mean", bins.mean, one, *centered),
        _Panel(
            "standardized", "(x − mean) / std", "standard deviations from the mean",
            bins.mean, bins.scale, *standard,
        ),
    ]  # fmt: skip


def _captions(bins: Bins) -> list[tuple[str, str]]:
    """Headline and detail under each panel."""
    if not np.isfinite(bins.low + bins.mean).any():
        return [("no values", "")] * 3
    low, high = np.nanmin(bins.low), np.nanmax(bins.high)
    sign = "all inputs ≥ 0" if low >= 0 else "all inputs ≤ 0" if high <= 0 else "off center"
    constant = [name for name, std in zip(bins.names, bins.std, strict=True) if std == 0]
    everywhere = len(constant) == len(bins.names)
    among = f"; constant: {', '.join(constant)}" if constant and not everywhere else ""
    return [
        (sign, f"mean {range_text(np.nanmin(bins.mean), np.nanmax(bins.mean))}"),
        ("centered on 0", _spans(bins, np.ones_like(bins.mean))),
        ("constant: all 0" if everywhere else "mean 0, std 1", _spans(bins, bins.scale) + among),
    ]


def _spans(bins: Bins, scale: Floats) -> str:
    """From where to where the centered values go, in units of `scale`."""
    low, high = (bins.low - bins.mean) / scale, (bins.high - bins.mean) / scale
    return f"spans {range_text(np.nanmin(low), np.nanmax(high))}"


def _draw_curves(axes: Axes, panel: _Panel, bins: Bins) -> None:
    """Every feature's histogram under the panel's transformation, zero, and the means."""
    top = axes.get_xaxis_transform()
    means = (bins.mean - panel.shift) / panel.scale
    together = len(means) > 1 and not means[np.isfinite(means)].any()
    for index, style in enumerate(curve_styles(bins.names)):
        mean, label = means[index], curve_label(bins, index)
        if np.isnan(mean):
            axes.plot([], [], label=label, **style)
            continue
        edges = (bins.edges - panel.shift[index]) / panel.scale[index]
        draw_curve(axes, bins.density[index] * panel.scale[index], edges, label, style)
        color = INK if together else style["color"]
        axes.axvline(mean, color=color, linestyle=style["linestyle"], linewidth=1)
        axes.plot(mean, 1, "v", color=color, markersize=6.5, transform=top, clip_on=False)
    axes.axvline(0, color=INK, linewidth=1.3, zorder=3)


def _write(axes: Axes, panel: _Panel) -> None:
    """The panel's name and formula over it, its caption under it."""
    frame(axes, panel.label, "")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.set_title(panel.name, loc="left", fontsize=12, fontweight="bold", color=INK, pad=10)
    axes.set_title(panel.formula, loc="right", fontsize=10, color=SOFT, pad=10)
    for text, below, color, weight in (
        (panel.headline, 44, INK, "bold"),
        (panel.detail, 60, SOFT, "normal"),
    ):
        axes.annotate(
            text, (0.5, 0), (0, -below), xycoords="axes fraction", textcoords="offset points",
            ha="center", va="top", fontsize=10.5, color=color, fontweight=weight,
        )  # fmt: skip


def _share_area(places: list[Axes], panels: list[_Panel], bins: Bins) -> Floats:
    """Set the limits so that equal areas on paper are equal shares, and all panels show zero.

    In axes `w` wide and `h` high a share of 1 covers the part 1 / (w h): w h is the same for all.
    Returns the density, per unit of the original, up to which every panel shows each feature.
    """
    limits = [_extent(bins, panel) for panel in panels]
    widths = [1.08 * (right - left) for left, right in limits]
    widths[:2] = [max(widths[:2])] * 2
    peaks = np.minimum(bins.density.max(axis=1), ceiling(bins.density))
    room = 1.06 * max(
        peak(peaks * panel.scale) * width for panel, width in zip(panels, widths, strict=True)
    )
    for axes, (left, right), width in zip(places, limits, widths, strict=True):
        middle = (left + right) / 2
        axes.set_xlim(middle - width / 2, middle + width / 2)
        axes.set_ylim(0, room / width)
        axes.locator_params(axis="x", nbins=5 if width < 2000 else 4)
    tops = [room / width / panel.scale for panel, width in zip(panels, widths, strict=True)]
    lowest: Floats = np.min(tops, axis=0)
    return lowest


def _extent(bins: Bins, panel: _Panel) -> tuple[float, float]:
    """From the first to the last bin in use by any feature, in the panel's units, with zero."""
    ends = [
        (bins.edges[np.flatnonzero(share)[[0, -1]] + [0, 1]] - shift) / scale
        for share, shift, scale in zip(bins.share, panel.shift, panel.scale, strict=True)
        if share.any()
    ]
    return (min(0.0, *np.ravel(ends)), max(0.0, *np.ravel(ends))) if ends else (-1.0, 1.0)
