"""Histogram curves over one value axis: outline, area, legend, and where to cut the view."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zeromean.figures.bins import Bins, Floats, number_text, range_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CURVES = 8  # more lines in one panel cannot be followed
MOST_CUTS = 6  # more cut spikes are counted, not listed


def draw_curve(
    axes: Axes, density: Floats, edges: Floats, label: str, style: dict[str, Any]
) -> None:
    """A histogram's outline and, below all outlines, its area, faint enough to overlap."""
    axes.stairs(density, edges, label=label, **style, zorder=2)
    axes.stairs(density, edges, fill=True, color=style["color"], alpha=0.13, linewidth=0, zorder=1)


def curve_label(bins: Bins, index: int) -> str:
    """A feature's name and numbers, for the legend."""
    if np.isnan(bins.mean[index]):
        return f"{bins.names[index]}  no values".strip()
    numbers = f"mean {number_text(bins.mean[index])}, std {number_text(bins.std[index])}"
    text = f"{bins.names[index]}  {numbers}".strip()
    return "\N{NO-BREAK SPACE}" + text if text.startswith("_") else text  # "_": not in the legend


def power_ticks(axes: Axes, bins: Bins) -> None:
    """Ticks at the quarters of 0..255 or 0..65535, which round decimal numbers would miss."""
    top = bins.last[-1]
    if bins.first[0] == 0 and top >= 15 and math.log2(top + 1).is_integer():
        axes.set_xticks([0, (top + 1) / 4, (top + 1) / 2, 3 * (top + 1) / 4, top])


def ceiling(density: Floats) -> float:
    """Where to cut the view: spikes (black borders, blown highlights) must not flatten the rest."""
    used = density[density > 0]
    if used.size < 24:
        return math.inf
    typical = float(np.quantile(used, 0.96))
    return 1.6 * typical if used.max() > 3 * typical else math.inf


def peak(density: Floats) -> float:
    """The largest density, or 1 if there is none."""
    return float(density.max()) or 1.0


def cut_off(bins: Bins, tops: Floats) -> str:
    """Name the runs of bins taller than their feature's view, with the share that each holds."""
    parts = []
    for name, share, tall in zip(bins.names, bins.share, bins.density > tops[:, None], strict=True):
        for run in _runs(tall):
            percent = 100 * share[run].sum()
            place = range_text(bins.first[run[0]], bins.last[run[-1]], "–")
            whose = f" of {name}" if name else ""
            parts.append(f"{percent:.{1 if percent < 10 else 0}f} %{whose} at {place}")
    more = f" and {len(parts) - MOST_CUTS} more" if len(parts) > MOST_CUTS else ""
    return f"Taller than shown: {', '.join(parts[:MOST_CUTS])}{more}." if parts else ""


def _runs(true: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
    """The indices of each unbroken run of true."""
    found = np.flatnonzero(true)
    runs = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    return (run for run in runs if run.size)
