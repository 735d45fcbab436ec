"""The histogram of every feature in one panel, with its mean and its band of ± 1 std."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from zeromean.figures.bins import Bins, binned, checked
from zeromean.figures.curves import (
    MOST_CURVES,
    ceiling,
    curve_label,
    cut_off,
    draw_curve,
    peak,
    power_ticks,
)
from zeromean.figures.features import Spread, spread_figure
from zeromean.figures.style import SOFT, curve_styles, dress, frame, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND, BAND_STEP = 1.035, 0.035  # height of the lowest band over the axes, and to the next one


def distribution(
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
    """Draw the histogram of every feature, its mean and its band of ± 1 std.

    Parameters
    ----------
    values : array_like, shape (n_bins,) or (n_bins + 1,)
        The finite, increasing value of every bin, or the edges of the bins.
    counts : array_like of int, shape (n_bins,) or (n_features, n_bins)
        How often each feature had each value. More than 256 bins are added up for display.
    names : sequence of str, optional
        One per feature; "R", "G" and "B" are drawn in their colors.
    mean, std : array_like, shape (n_features,), optional
        In the data's units; worked out from the counts where left out.
    unit : str
        Label of the value axis, such as "pixel value (0..255)".
    counted : str
        What is counted, such as "pixels".
    title : str
        Heading of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        One axes with the densities (the area under each is 1) and, above, the means and bands. With
        more than 8 features it holds mean ± std and the 5 to 95 % quantiles of each instead.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the shapes disagree, or the values are not finite and increasing.

    Examples
    --------
    >>> figure = distribution([0, 1, 2], [1, 2, 1], unit="pixel value (0..2)")
    >>> figure.axes[0].get_xlabel()
    'pixel value (0..2)'
    """
    table = checked(values, counts)
    bins = binned(table, names, mean, std)
    if len(bins.names) > MOST_CURVES:
        low, high = table.quantile(0.05), table.quantile(0.95)
        label = f"5 to 95 % of the {counted}"
        return spread_figure(Spread(bins.names, bins.mean, bins.std, low, high, label), unit, title)
    figure = new_figure(8.0, 4.6 + 0.14 * len(bins.names))
    axes = figure.add_subplot()
    top = 1.06 * min(ceiling(bins.density), peak(bins.density))
    axes.set(xlim=(bins.edges[0], bins.edges[-1]), ylim=(0, top))
    for index, style in enumerate(curve_styles(bins.names)):
        draw_curve(axes, bins.density[index], bins.edges, curve_label(bins, index), style)
        _draw_mean(axes, bins, index, style)
    _name_bands(axes, len(bins.names))
    whole = np.array_equal(bins.first, np.rint(bins.first))
    frame(axes, unit, f"share of {counted} per {'value' if whole else 'unit'}")
    axes.yaxis.set_major_formatter(_percent)
    power_ticks(axes, bins)
    dress(figure, axes, title, cut_off(bins, np.full_like(bins.mean, top)))
    return figure


def _draw_mean(axes: Axes, bins: Bins, index: int, style: dict[str, Any]) -> None:
    """The mean as a line through the histogram, up to a dot on its band of ± 1 std."""
    mean, std = bins.mean[index], bins.std[index]
    if not np.isfinite(mean):
        return
    ends = np.clip([mean - std, mean + std], bins.edges[0], bins.edges[-1])
    height, color = BAND + BAND_STEP * (len(bins.names) - 1 - index), style["color"]
    above = {"transform": axes.get_xaxis_transform(), "clip_on": False, "color": color}
    axes.plot(ends, [height, height], alpha=0.3, linewidth=5, solid_capstyle="butt", **above)
    axes.plot(mean, height, "o", markersize=5, **above)
    axes.axvline(
        mean, ymax=height, linestyle=style["linestyle"], linewidth=1, color=color, clip_on=False
    )


def _name_bands(axes: Axes, n_features: int) -> None:
    """The words "mean ± std" left of the bands."""
    axes.text(
        -0.014, BAND + BAND_STEP / 2 * (n_features - 1), "mean ± std", ha="right", va="center",
        transform=axes.transAxes, fontsize=8, color=SOFT,
    )  # fmt: skip


def _percent(value: float, _position: float) -> str:
    """A tick label for a share."""
    return f"{100 * value:.3g} %"
