"""Mean ± std and range of every feature: named rows for a few, bands over the index for many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from zeromean.figures.bins import Floats, short_names, vector
from zeromean.figures.style import FAINT, INK, SINGLE_COLOR, dress, frame, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 60  # more rows of names cannot be read


def feature_summary(
    mean: ArrayLike,
    std: ArrayLike,
    minimum: ArrayLike,
    maximum: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    unit: str = "value",
    title: str = "",
) -> Figure:
    """Draw mean ± std and the range from min to max of every feature.

    Up to 60 features get a named row each; more become a line and two bands over the feature's
    index. The value axis turns symmetric-logarithmic when the features' magnitudes differ by more
    than a factor of 1000, and its label then says so.

    Parameters
    ----------
    mean, std, minimum, maximum : array_like, shape (n_features,)
        In the data's units; NaN (an empty feature) is left blank.
    names : sequence of str, optional
        One per feature.
    unit : str
        Label of the value axis.
    title : str
        Heading of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        One axes.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the shapes disagree.

    Examples
    --------
    >>> figure = feature_summary([0, 5], [1, 2], [-3, 0], [3, 9], names=["age", "height"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['age', 'height']
    """
    center = vector(mean)
    half, low, high = (vector(column, center.size) for column in (std, minimum, maximum))
    spread = Spread(short_names(names, center.size), center, half, low, high, "min to max")
    return spread_figure(spread, unit, title)


@dataclass(frozen=True)
class Spread:
    """Mean, std and an outer range per feature."""

    names: list[str]
    mean: Floats
    std: Floats
    low: Floats
    high: Floats
    range_label: str


def spread_figure(spread: Spread, unit: str, title: str) -> Figure:
    """Named rows for a few features, bands over the index for many."""
    n_features = len(spread.names)
    many = n_features > MOST_NAMED
    figure = new_figure(9.0, 4.0) if many else new_figure(8.0, 0.9 + 0.23 * n_features)
    axes = figure.add_subplot()
    if many:
        frame(axes, "feature index", unit)
        _draw_bands(axes, spread)
    else:
        frame(axes, unit, "")
        _draw_rows(axes, spread)
    _symlog(axes, spread, "y" if many else "x")
    dress(figure, axes, title)
    return figure


def _draw_rows(axes: Axes, spread: Spread) -> None:
    """One row per feature: a hairline for the range, a bar for ± 1 std, a dot for the mean."""
    rows = np.arange(len(spread.names))
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    axes.hlines(
        rows, spread.low, spread.high, colors=SINGLE_COLOR, linewidth=1, label=spread.range_label
    )
    axes.hlines(
        rows, spread.mean - spread.std, spread.mean + spread.std, colors=SINGLE_COLOR, alpha=0.35,
        linewidth=6, label="mean ± std",
    )  # fmt: skip
    axes.plot(spread.mean, rows, "o", color=INK, markersize=4.5, label="mean")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(rows, spread.names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def _draw_bands(axes: Axes, spread: Spread) -> None:
    """The same three things as bands and a line over the index of the feature."""
    index = np.arange(len(spread.names))
    axes.axhline(0, color=FAINT, linewidth=1, zorder=0)
    for low, high, alpha, label in (
        (spread.low, spread.high, 0.16, spread.range_label),
        (spread.mean - spread.std, spread.mean + spread.std, 0.35, "mean ± std"),
    ):
        axes.fill_between(
            index, low, high, color=SINGLE_COLOR, alpha=alpha, linewidth=0, label=label
        )
    axes.plot(index, spread.mean, color=INK, linewidth=1.2, label="mean")
    axes.set_xlim(0, index[-1])


def _symlog(axes: Axes, spread: Spread, which: str) -> None:
    """Switch to a symmetric logarithm where features differ in magnitude by more than 1000."""
    sizes = np.fmax(np.abs(spread.low), np.abs(spread.high))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not sizes.size or sizes.max() / 1e3 <= sizes.min():
        return
    threshold = 10.0 ** math.floor(math.log10(sizes.min()))
    room = max(1.0, math.log10(sizes.max() / threshold) / 5)  # for the labels around zero
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    set_scale("symlog", linthresh=threshold, linscale=room)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_label_text(f"{axis.get_label_text()} (log scale, linear near 0)")
    locator: Any = axis.get_major_locator()
    locator.set_params(numticks=9 if which == "x" else 13)
    if np.nanmin(spread.low) >= 0:  # a band below zero would take half of the axis
        (axes.set_xlim if which == "x" else axes.set_ylim)(0, None)
