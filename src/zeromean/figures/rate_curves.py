"""Updates to the target against the learning rate: the most honest single picture of a race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from zeromean.figures.ratios import plain_ticks
from zeromean.figures.style import COLORS, FAINT, INK, dots, dress, frame, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = "os^Dv"


@dataclass(frozen=True)
class RateCurve:
    """One side of a race.

    Attributes
    ----------
    label : str
    rates : array_like, (rates,)
        Increasing.
    steps : array_like, (rates, seeds)
        Updates to the target; NaN where it was not reached.
    chosen : array_like
        The rates that count.
    """

    label: str
    rates: ArrayLike
    steps: ArrayLike
    chosen: ArrayLike


def rate_curves(
    panels: Sequence[tuple[str, Sequence[RateCurve]]],
    *,
    columns: int = 3,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw updates against learning rate, every seed a dot and the median a line.

    Parameters
    ----------
    panels : sequence of (str, sequence of RateCurve)
        Heading and sides of each; the sides have the same labels everywhere.
    columns : int
        Panels in a row at most.
    title, note : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> curve = RateCurve("original", [0.1, 0.2], [[40, 42], [20, float("nan")]], [0.1])
    >>> rate_curves([("softmax", [curve])]).axes[0].get_xlabel()
    'learning rate'
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(3.7 * columns + 0.6, 3.5 * rows)
    for i, (heading, curves) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set(xscale="log", yscale="log")
        for k, curve in enumerate(curves):
            _draw(axes, curve, k)
        frame(axes, "learning rate", "updates to the target")
        axes.set_title(heading, loc="left", fontsize=10.5, fontweight="bold", color=INK)
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.1)  # room for what was not reached
        plain_ticks(axes, "y", *axes.get_ylim(), unit="")
        axes.tick_params(which="minor", length=0, labelbottom=False)
    dress(figure, figure.axes[0], title, note)
    return figure


def _draw(axes: Axes, curve: RateCurve, index: int) -> None:
    """Seeds as faint dots, their median where more than half reached the target, the choice."""
    rates, steps = np.asarray(curve.rates, np.float64), np.asarray(curve.steps, np.float64)
    color, mark = COLORS[index % len(COLORS)], _MARKS[index % len(_MARKS)]
    counted = np.where(np.isnan(steps), np.inf, steps)
    median = np.median(counted, axis=1)
    shown = np.isfinite(median)
    axes.plot(
        rates[shown], median[shown], "-", marker=mark, color=color, linewidth=1.6, markersize=5,
        label=curve.label, zorder=3,
    )  # fmt: skip
    dots(axes, np.repeat(rates, steps.shape[1]), steps, 2.6, color=color, alpha=0.45, zorder=2)
    best = np.isin(rates, np.asarray(curve.chosen, np.float64)) & shown
    axes.plot(
        rates[best], median[best], "o", markersize=12, markerfacecolor="none",
        markeredgecolor=color, markeredgewidth=1.2, zorder=4,
    )  # fmt: skip
    failed = rates[~shown]
    if len(failed):
        axes.plot(
            failed, np.full(len(failed), 0.95), "x", color=color, markersize=5, clip_on=False,
            transform=axes.get_xaxis_transform(), zorder=4,
        )  # fmt: skip
