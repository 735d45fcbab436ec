"""The mean image, with a color bar when it has one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeromean.figures.style import FAINT, SOFT, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

LONGEST = 5.0  # inches of the longer side
SHORTEST = 1.6


def mean_image(
    pixels: ArrayLike,
    *,
    limits: tuple[float, float] | None = None,
    unit: str = "mean pixel value",
    title: str = "",
) -> Figure:
    """Draw a mean image, with a color bar when it has one channel.

    Parameters
    ----------
    pixels : array_like, shape (h, w), (h, w, 1) or (h, w, 3)
        Three channels are taken as RGB.
    limits : (float, float), optional
        Values drawn as black and as white. By default the extremes for one channel; for RGB zero
        and the dtype's top (integers) or the first of 1, 255 and 65535 that no pixel exceeds.
    unit : str
        Label of the color bar.
    title : str
        Heading of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        The image's axes, then the color bar's if there is one.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the shape is none of the three, or has no pixels.

    Examples
    --------
    >>> figure = mean_image([[0.0, 1.0], [2.0, 3.0]])
    >>> figure.axes[0].get_xlabel()
    '2 × 2 pixels'
    """
    image = _checked(pixels)
    gray = image.ndim == 2
    height, width = image.shape[:2]
    black, white = limits or _limits(image)
    if not gray:
        image = np.clip((image - black) / ((white - black) or 1.0), 0, 1)
    inches = np.maximum(np.array([width, height]) * LONGEST / max(width, height), SHORTEST)
    figure = new_figure(inches[0] + (1.0 if gray else 0.25), inches[1] + 0.45)
    axes = figure.add_subplot()
    drawn = axes.imshow(
        image, cmap="gray", vmin=black, vmax=white, interpolation="nearest", aspect="equal"
    )
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"{width} × {height} pixels", color=SOFT, fontsize=9)
    axes.spines[:].set_color(FAINT)
    if gray:
        _color_bar(figure, drawn, unit)
    dress(figure, axes, title)
    return figure


def _checked(pixels: ArrayLike) -> NDArray[Any]:
    """An image of shape (h, w) or (h, w, 3) with at least one pixel."""
    image = np.asarray(pixels)
    image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)):
        raise ValueError(
            f"a mean image has shape (h, w), (h, w, 1) or (h, w, 3), not {np.shape(pixels)}"
        )
    return image


def _limits(image: NDArray[Any]) -> tuple[float, float]:
    """Black and white: the extremes of one channel; for RGB zero and the top of its scale."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    if image.ndim == 2:
        return float(finite.min()), float(finite.max())
    if image.dtype.kind in "iu":
        return 0.0, float(np.iinfo(image.dtype).max)
    largest = float(finite.max())
    return 0.0, next((top for top in (1.0, 255.0, 65535.0) if largest <= top), largest)


def _color_bar(figure: Figure, drawn: AxesImage, unit: str) -> None:
    """The bar of grays, beside the image or below a wide one."""
    height, width = drawn.get_size()
    slender = max(width, height) > 2 * min(width, height)
    shape: dict[str, Any] = {"fraction": 0.3, "aspect": 30} if slender else {}
    side = "bottom" if width > 2 * height else "right"
    bar = figure.colorbar(drawn, ax=drawn.axes, pad=0.03, location=side, **shape)
    bar.outline.set_edgecolor(FAINT)
    bar.ax.tick_params(colors=SOFT, labelsize=8, length=3)
    bar.set_label(unit, color=SOFT, fontsize=9.5, parse_math=False)
