"""Paths of two weights over their loss, one panel for each story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeromean.figures.style import COLORS, INK, SOFT, dots, dress, frame, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CUT = 0.35  # of the distance to the optimum: room around the path
_GRID = 90


@dataclass(frozen=True)
class PathPanel:
    """One panel.

    Attributes
    ----------
    title, caption : str
        What is shown, and its numbers.
    path : array_like, (points, 2)
    optimum : (float, float)
    inputs, labels : array_like, (n, 2) and (n,)
        Of the sigmoid neuron whose loss is drawn.
    color : int
        Index into the palette.
    """

    title: str
    caption: str
    path: ArrayLike
    optimum: tuple[float, float]
    inputs: ArrayLike
    labels: ArrayLike
    color: int = 0


def weight_paths(
    panels: Sequence[PathPanel],
    *,
    columns: int = 4,
    size: float = 3.15,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw paths of gradient descent over contours of the loss, in squares of equal units.

    Parameters
    ----------
    panels : sequence of PathPanel
    columns : int
        Panels in a row.
    size : float
        Width of a panel in inches.
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
    >>> import numpy as np
    >>> x = np.array([[1.0, 1.0], [1.0, -1.0]])
    >>> panel = PathPanel("a path", "2 updates", [[0, 0], [1, 1]], (1, 1), x, [0.9, 0.5])
    >>> [axes.get_title(loc="left") for axes in weight_paths([panel], columns=1).axes]
    ['a path']
    """
    rows = -(-len(panels) // columns)
    lines = max(panel.caption.count("\n") + 1 for panel in panels)
    figure = new_figure(size * columns, (size + 0.45 + 0.15 * lines) * rows)
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        _draw(axes, panel)
        frame(axes, "weight w₁", "weight w₂" if i % columns == 0 else "")
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_title(
            panel.title,
            loc="left",
            fontsize=10.5,
            fontweight="bold",
            color=INK,
            pad=10 + 11 * lines,
        )
        axes.annotate(
            panel.caption, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points",
            va="bottom", fontsize=8.5, color=SOFT, in_layout=False,
        )  # fmt: skip
    dress(figure, figure.axes[0], title, note)
    return figure


def _draw(axes: Axes, panel: PathPanel) -> None:
    path, best = np.asarray(panel.path, np.float64), np.asarray(panel.optimum, np.float64)
    low, high = _view(path, best)
    first = np.linspace(low[0], high[0], _GRID)
    second = np.linspace(low[1], high[1], _GRID)
    excess = _excess(panel, first, second, best)
    levels = np.geomspace(1e-4, max(1.0, float(excess.max())), 14)
    axes.contourf(
        first, second, np.maximum(excess, levels[0]), levels=levels, cmap="Greys_r", alpha=0.55,
        norm="log", extend="both",
    )  # fmt: skip
    color = COLORS[panel.color]
    axes.plot(*path.T, color=color, linewidth=1.1, zorder=3)
    dots(axes, path[:, 0], path[:, 1], 3, color=color, zorder=3)
    axes.plot(*path[0], "o", color=INK, markeredgecolor="white", markersize=7, zorder=4)
    axes.plot(*best, "*", color=INK, markeredgecolor="white", markersize=14, zorder=5)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.locator_params(nbins=5)


def _view(path: NDArray[np.float64], best: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """A square that holds start and optimum, and the path as far as it does not run away."""
    room = float(np.abs(best).max())
    points = np.clip(np.vstack([path, best[None]]), -2 * room, 2.5 * room)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    half = float(np.ptp(points, axis=0).max()) / 2 + _CUT * room
    return middle - half, middle + half


def _excess(
    panel: PathPanel,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    best: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Loss above its least value on a grid of weights, (second, first)."""
    x, y = np.asarray(panel.inputs, np.float64), np.asarray(panel.labels, np.float64)

    def loss(z: NDArray[np.float64]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = (np.logaddexp(0, z) - y * z).mean(axis=-1)
        return mean

    z = first[None, :, None] * x[:, 0] + second[:, None, None] * x[:, 1]
    return loss(z) - loss(x @ best)
