"""Pictures become small squares: each new pixel is the mean of the area that it covers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: ITU-R 601, as Pillow's convert("L").
LUMA = np.array([0.299, 0.587, 0.114])


def shrunk(pictures: npt.NDArray[np.generic], height: int, width: int) -> Floats:
    """Pictures of another size, each new pixel the mean of the area that it covers.

    Parameters
    ----------
    pictures : ndarray, (..., h, w, c)
    height, width : int
        At most h and w for means; more repeats pixels.

    Returns
    -------
    ndarray of float64, (..., height, width, c)

    Examples
    --------
    >>> shrunk(np.arange(16.0).reshape(1, 4, 4, 1), 2, 2)[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    values = np.asarray(pictures, np.float64)
    if values.shape[-3:-1] == (height, width):
        return values
    rows, columns = _areas(values.shape[-3], height), _areas(values.shape[-2], width)
    made: Floats = np.einsum("ih,...hwc,jw->...ijc", rows, values, columns, optimize=True)
    return made


def _areas(old: int, new: int) -> Floats:
    """Share of each old pixel in each new one, (new, old); every row adds up to 1."""
    edges = np.arange(new + 1) * (old / new)
    low = np.maximum(edges[:-1, None], np.arange(old)[None])
    high = np.minimum(edges[1:, None], np.arange(1, old + 1)[None])
    shared: Floats = np.clip(high - low, 0, None) * (new / old)
    return shared


def grayed(pictures: Floats) -> Floats:
    """Three channels as one, by the weights of ITU-R 601; others stay as they are.

    Parameters
    ----------
    pictures : ndarray, (..., h, w, c)

    Returns
    -------
    ndarray, (..., h, w, 1) or (..., h, w, c)
    """
    return (pictures @ LUMA)[..., None] if pictures.shape[-1] == 3 else pictures
