"""What all figures share: colors, lines, a quiet frame, and room for heading, legend and note."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from zeromean.figures.bins import channel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1f2933", "#5f6b7a", "#d5dae0"
# Red, green and blue of equal weight that stay apart for the color-blind (after Tol's "vibrant").
CHANNEL_COLORS = {"r": "#cc3311", "g": "#009e73", "b": "#0068b5"}
# Okabe and Ito (2008), without the yellow that vanishes on white.
COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c510a", "#e69f00", "#4d4d4d",
)  # fmt: skip
SINGLE_COLOR = "#3b6ea5"
LINES: tuple[Any, ...] = ("-", (0, (6, 1.2)), (0, (2.6, 0.8)), (0, (6, 1, 1.6, 1)))


def new_figure(width: float, height: float) -> Figure:
    """A white figure of this size in inches, to which `dress` adds the room for its texts."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'figures are drawn with matplotlib: pip install "zeromean[plot]"'
        ) from error
    return Figure(figsize=(width, height), facecolor="white", layout="compressed")


def curve_styles(names: Sequence[str]) -> list[dict[str, Any]]:
    """One color and line style per feature."""
    colors = [SINGLE_COLOR] if len(names) == 1 else list(COLORS)
    return [
        {
            "color": CHANNEL_COLORS.get(channel(name), colors[index % len(colors)]),
            "linestyle": LINES[index % len(LINES)],
            "linewidth": 1.25,
        }
        for index, name in enumerate(names)
    ]


def frame(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Two quiet spines, small ticks, labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=SOFT, labelsize=8.5, length=3, width=0.8)
    axes.set_xlabel(xlabel, color=SOFT, fontsize=9.5, parse_math=False)
    axes.set_ylabel(ylabel, color=SOFT, fontsize=9.5, parse_math=False)


def dots(axes: Axes, x: ArrayLike, y: ArrayLike, size: float, **style: Any) -> None:
    """Many round dots as one path of hardly any length: an SVG of markers is far larger."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    points = np.stack([np.ravel(x), np.ravel(y)], axis=1).astype(np.float64)
    points = points[np.isfinite(points).all(axis=1)].repeat(2, axis=0)
    points[1::2, 0] += 1e-9 + 1e-6 * np.abs(points[1::2, 0])  # pixels show no line without length
    path = Path(points, np.resize([Path.MOVETO, Path.LINETO], len(points)))
    path.should_simplify = False  # nor would it leave them
    dotted = PathPatch(path, fill=False, linewidth=size, capstyle="round", snap=False, **style)
    axes.add_patch(dotted)


def dress(figure: Figure, axes: Axes, title: str, note: str = "") -> None:
    """Grow the figure by a heading, the legend of `axes` and a note; fit the axes in between."""
    width, body = figure.get_size_inches()
    heading = textwrap.fill(title, max(8, int(width * 6.5)))
    footing = textwrap.fill(note, int(width * 14))
    columns, rows = _legend_grid(axes, width)
    above = 0.12 + 0.3 * bool(title) + 0.25 * heading.count("\n")
    below = bool(note) * (0.22 + 0.15 * footing.count("\n"))
    height = above + 0.24 * rows + body + below
    figure.set_size_inches(width, height)
    figure.set_layout_engine(
        "compressed", w_pad=0.12, h_pad=0.09, wspace=0.03,
        rect=(0, below / height, 1, body / height),
    )  # fmt: skip
    left, top = 0.14 / width, 1 - 0.12 / height
    words = [
        figure.text(left, top, heading, va="top", fontsize=14, fontweight="bold", color=INK),
        figure.text(left, 0.1 / height, footing, va="bottom", fontsize=8, color=SOFT),
    ]
    if rows:
        words += _legend_box(figure, axes, columns, (left, 1 - above / height))
    for text in words:
        text.set_parse_math(False)
        text.set_in_layout(False)


def _legend_grid(axes: Axes, width: float) -> tuple[int, int]:
    """Columns and rows of the legend that the labels of `axes` need at this width."""
    labels = axes.get_legend_handles_labels()[1]
    fitting = int(width * 12 / (max(map(len, labels), default=1) + 7))
    columns = max(1, min(fitting, len(labels)))
    return columns, -(-len(labels) // columns)


def _legend_box(figure: Figure, axes: Axes, columns: int, corner: tuple[float, float]) -> list[Any]:
    """The legend over the panels, where it can hide nothing; returns its texts."""
    box = figure.legend(
        *axes.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=corner, ncols=columns,
        frameon=False, fontsize=9.5, labelcolor=INK, handlelength=2.6, columnspacing=2.2,
        borderaxespad=0, borderpad=0,
    )  # fmt: skip
    box.set_in_layout(False)
    return list(box.get_texts())
