"""Measured ratios with their intervals: beside what was predicted, or all below each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean.figures.style import COLORS, FAINT, INK, SOFT, dress, frame, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAND = 1.3
_ACROSS = {"at least": "→", "at most": "←", "unknown": "?"}
_UPRIGHT = {"at least": "↑", "at most": "↓", "unknown": "?"}


@dataclass(frozen=True)
class Ratio:
    """A speed-up and its 95 % interval.

    Attributes
    ----------
    label : str
    value, low, high : float
    predicted : float or None
    sure : bool
        Filled mark; else a ring: no difference shown.
    bound : {"", "at least", "at most", "unknown"}
        A bound is drawn as a mark with an arrow, without an interval, which would look two-sided.
    """

    label: str
    value: float
    low: float
    high: float
    predicted: float | None = None
    sure: bool = True
    bound: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """What is drawn reaches from here to here."""
        return (self.value, self.value) if self.bound else (self.low, self.high)


def predicted_ratios(
    ratios: Sequence[Ratio], *, width: float = 6.4, title: str = "", note: str = ""
) -> Figure:
    """Draw measured against predicted, with the diagonal and a band of a factor of 1.3.

    Parameters
    ----------
    ratios : sequence of Ratio
        Those with a prediction are drawn.
    width : float
        In inches.
    title, note : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    shown = [r for r in ratios if r.predicted is not None]
    figure = new_figure(width, 0.84 * width)
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log")
    ends = [value for r in shown for value in (r.predicted or 1.0, *r.ends)]
    low, high = min(ends, default=1.0) / 1.6, max(ends, default=1.0) * 1.6
    line = np.array([low, high])
    axes.fill_between(line, line / _BAND, line * _BAND, color=FAINT, alpha=0.6, linewidth=0)
    axes.plot(line, line, color=SOFT, linewidth=1, linestyle=(0, (5, 3)))
    for i, ratio in enumerate(shown):
        assert ratio.predicted is not None
        errors = None if ratio.bound else [[ratio.value - ratio.low], [ratio.high - ratio.value]]
        color = COLORS[i % len(COLORS)]
        axes.errorbar(
            [ratio.predicted], [ratio.value], yerr=errors, fmt="osD^v"[i % 5],
            color=color, markersize=7, capsize=3, label=ratio.label,
        )  # fmt: skip
        if ratio.bound:
            _arrow(axes, _UPRIGHT[ratio.bound], (ratio.predicted, ratio.value), (0, 5), color)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    frame(axes, "predicted: λ₁(original) ÷ λ₁(variant)", "measured: updates(original) ÷ updates")
    plain_ticks(axes, "xy", low, high)
    dress(figure, axes, title, note)
    return figure


def all_ratios(
    groups: Sequence[tuple[str, tuple[float, float], Sequence[Ratio]]],
    *,
    narrow: bool = False,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw every ratio and interval in a row of its own, over the band of its A/A control.

    Parameters
    ----------
    groups : sequence of (str, (float, float), sequence of Ratio)
        Heading, ends of the A/A control, and rows.
    narrow : bool
        For a phone: labels stand above their rows, not beside them.
    title, note : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    count = sum(len(rows) + 1 for _, _, rows in groups)
    figure = new_figure(4.6, 0.9 + 0.4 * count) if narrow else new_figure(8.6, 0.9 + 0.27 * count)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    ends = [v for _, band, rows in groups for v in (*band, *(e for r in rows for e in r.ends))]
    room = 2.0 if any(r.bound == "at most" for _, _, rows in groups for r in rows) else 1.25
    low, high = min([0.8, *ends]) / room, max([2.0, *ends]) * 1.6  # an arrow needs its room
    names: list[tuple[int, str, bool]] = []
    at = 0
    for i, (heading, band, rows) in enumerate(groups):
        names.append((at, heading, True))
        top, bottom = at + 0.5, at + len(rows) + 0.5
        axes.fill_betweenx([top, bottom], *band, color=FAINT, alpha=0.8, linewidth=0)
        for k, ratio in enumerate(rows, at + 1):
            _row(axes, ratio, k, COLORS[i % len(COLORS)])
            names.append((k, ratio.label, False))
        at += len(rows) + 1
    axes.axvline(1, color=INK, linewidth=1)
    axes.set(xlim=(low, high), ylim=(at - 0.3, -0.7))
    frame(axes, "speed-up in updates", "")
    _name_rows(axes, names, narrow)
    axes.spines["left"].set_visible(False)
    plain_ticks(axes, "x", low, high)
    dress(figure, axes, title, note)
    return figure


def _name_rows(axes: Axes, names: list[tuple[int, str, bool]], above: bool) -> None:
    """Labels beside the rows, or above them; headings are bold."""
    bold: dict[str, Any] = {"fontweight": "bold", "color": INK}
    looks = [bold if strong else {"color": SOFT} for _, _, strong in names]
    if above:
        axes.set_yticks([])
        for (at, text, strong), look in zip(names, looks, strict=True):
            axes.text(
                0, at + (0.3 if strong else -0.18), text, transform=axes.get_yaxis_transform(),
                va="bottom", fontsize=9, in_layout=False, **look,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
        return
    axes.set_yticks([k for k, _, _ in names], [text for _, text, _ in names])
    axes.tick_params(axis="y", length=0)
    for tick, look in zip(axes.get_yticklabels(), looks, strict=True):
        tick.set(**look)


def _row(axes: Axes, ratio: Ratio, at: int, color: str) -> None:
    if not ratio.bound:
        axes.hlines(at, *ratio.ends, colors=color, linewidth=1.6)
    face = color if ratio.sure else "white"
    axes.plot(ratio.value, at, "o", color=color, markerfacecolor=face, markersize=6, zorder=3)
    if ratio.bound:
        side = -5 if ratio.bound == "at most" else 5
        _arrow(axes, _ACROSS[ratio.bound], (ratio.value, at), (side, 0), color)


def _arrow(
    axes: Axes, sign: str, at: tuple[float, float], off: tuple[int, int], color: str
) -> None:
    """The way in which the truth lies, beside the mark of a bound."""
    across = {-1: "right", 0: "center", 1: "left"}[int(np.sign(off[0]))]
    upright = "bottom" if off[1] else "center"
    down = sign == "↓"
    axes.annotate(
        sign, at, (off[0], -off[1] if down else off[1]), textcoords="offset points",
        ha=across, va="top" if down else upright, fontsize=10, color=color,
    )  # fmt: skip


def plain_ticks(axes: Axes, which: str, low: float, high: float, unit: str = "×") -> None:
    """Ticks at 1, 2, 5, 10, ... with plain numbers; every power of ten on long axes."""
    steps = (1, 2, 5) if high / low < 400 else (1,)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [s * 10.0**k for k in powers for s in steps if low <= s * 10.0**k <= high]
    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_ticks(ticks, [f"{tick:g}{unit}" for tick in ticks])
        axis.set_ticks([], minor=True)
