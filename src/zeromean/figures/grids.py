"""The same pictures several times, side by side: original, zero-mean, whitened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeromean.figures.style import INK, SOFT, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 3.6  # inches of a panel's longer side
_GAP = 0.09  # of a picture's side, between two pictures
_REACH = 99.0  # percent of the values that a centered panel shows without clipping


def picture_grids(
    panels: Mapping[str, ArrayLike],
    *,
    columns: int | None = None,
    captions: Sequence[str] = (),
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw the same pictures several times, side by side.

    A panel of integers is shown as it is. One of floats is centered: 0 becomes mid-gray, and the
    value below which 99 % of all magnitudes lie becomes black and white, so panels of any scale
    can be compared; each says which value that is.

    Parameters
    ----------
    panels : mapping of str to array_like, shape (n, h, w), (n, h, w, 1) or (n, h, w, 3)
        By heading; all of one shape. Three channels are taken as RGB.
    columns : int, optional
        Pictures in a row; about a square by default.
    captions : sequence of str
        One under each panel.
    title, note : str
        Over and under the figure.

    Returns
    -------
    matplotlib.figure.Figure
        One axes for each panel.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there are no panels or no pictures, or the shapes are none of these or disagree.

    Examples
    --------
    >>> pictures = np.zeros((4, 8, 8, 3), np.uint8)
    >>> figure = picture_grids({"original": pictures, "zero-mean": pictures - 0.5})
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['original', 'zero-mean']
    """
    held = _checked(panels)
    count, height, width = next(iter(held.values())).shape[:3]
    across = columns or int(np.ceil(np.sqrt(count)))
    down = -(-count // across)
    inches = np.array([across * width, down * height])
    size = inches * _PANEL / inches.max()
    figure = new_figure(len(held) * (size[0] + 0.2), size[1] + 0.75)
    for index, (name, pictures) in enumerate(held.items()):
        axes = figure.add_subplot(1, len(held), index + 1)
        shown, scale = _shown(pictures)
        axes.imshow(_tiled(shown, across), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        _label(axes, name, scale, captions[index] if index < len(captions) else "")
    dress(figure, figure.axes[0], title, note)
    return figure


def _checked(panels: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """Panels of one shape (n, h, w) or (n, h, w, 3)."""
    held = {name: np.asarray(pictures) for name, pictures in panels.items()}
    shapes = {pictures.shape for pictures in held.values()}
    if len(shapes) != 1:
        raise ValueError(f"panels must hold the same pictures, not shapes {sorted(shapes)}")
    (shape,) = shapes
    known = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    if not known or 0 in shape:
        raise ValueError(
            f"pictures have shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), not {shape}"
        )
    gray = len(shape) == 4 and shape[3] == 1
    return {name: pictures[..., 0] if gray else pictures for name, pictures in held.items()}


def _shown(pictures: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Pictures in 0..1, and what black and white stand for."""
    if pictures.dtype.kind in "iub":
        top = 1 if pictures.dtype == bool else int(np.iinfo(pictures.dtype).max)
        return pictures / top, f"0 to {top}"
    finite = np.abs(pictures[np.isfinite(pictures)])
    reach = float(np.percentile(finite, _REACH)) if finite.size else 1.0
    scaled = np.nan_to_num(pictures, nan=0.0) / (2 * (reach or 1.0)) + 0.5
    return np.clip(scaled, 0, 1), f"−{reach:.3g} to {reach:.3g}"


def _tiled(pictures: NDArray[Any], across: int) -> NDArray[Any]:
    """One white sheet with all pictures on it, row by row."""
    count, height, width = pictures.shape[:3]
    gap = max(1, round(min(height, width) * _GAP))
    down = -(-count // across)
    size = down * (height + gap) - gap, across * (width + gap) - gap, *pictures.shape[3:]
    sheet = np.ones(size)
    for i, picture in enumerate(pictures):
        y, x = (i // across) * (height + gap), (i % across) * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def _label(axes: Axes, name: str, scale: str, caption: str) -> None:
    """The panel's name over it; what black and white are, and the caption, under it."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(name, loc="left", fontsize=12, fontweight="bold", color=INK, parse_math=False)
    axes.set_title(f"black to white: {scale}", loc="right", fontsize=8, color=SOFT)
    if caption:
        axes.set_xlabel(caption, color=SOFT, fontsize=9.5, parse_math=False)
