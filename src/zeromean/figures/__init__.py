"""Arrays in, matplotlib Figure out; imported late.

Figures are built from `matplotlib.figure.Figure` alone: no pyplot, no backend switch, no global
state, so several threads may draw at once and nothing needs a screen. A caller that wants a file
asks `save`, which writes the same bytes for the same figure. `terminal_histogram` returns text and
needs no matplotlib.
"""

from __future__ import annotations

from zeromean.figures.distributions import distribution
from zeromean.figures.features import feature_summary
from zeromean.figures.grids import picture_grids
from zeromean.figures.images import mean_image
from zeromean.figures.panels import three_distributions
from zeromean.figures.saving import save
from zeromean.figures.terminal import terminal_histogram

__all__ = [
    "distribution",
    "feature_summary",
    "mean_image",
    "picture_grids",
    "save",
    "terminal_histogram",
    "three_distributions",
]
