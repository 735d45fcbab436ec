"""Pixels as PIL images, and pixels of another size: what transforms of pictures work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.sources.decode import DecodeError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

#: What a PIL image is called that holds pixels of a dtype and a number of channels.
_MODES = {
    **{("uint8", n): mode for n, mode in enumerate(("L", "LA", "RGB", "RGBA"), start=1)},
    ("bool", 1): "1",
    ("uint16", 1): "I;16",
    ("int32", 1): "I",
    ("float32", 1): "F",
}


def as_pil(pixels: npt.NDArray[Any]) -> PillowImage:
    """Pixels as a PIL image that shares no memory with them.

    Parameters
    ----------
    pixels : ndarray, (h, w) or (h, w, c)

    Raises
    ------
    DecodeError
        When there is no such PIL image.
    """
    from PIL import Image

    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or (pixels.dtype.name, channels) not in _MODES:
        raise DecodeError(
            f"{channels} channel(s) of {pixels.dtype.name} of shape {pixels.shape} are no PIL image"
        )
    flat = pixels[..., 0] if pixels.ndim == 3 and channels == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(flat)).copy()


def resized(pixels: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Pixels of another size, by Pillow: bilinear, and antialiased where they become fewer.

    Channels do not mix: Pillow would multiply RGBA by its alpha, and four bands need not be that.

    Parameters
    ----------
    pixels : ndarray, (h, w) or (h, w, c)
    height, width : int

    Returns
    -------
    ndarray
        Of the same dtype and channels.

    Raises
    ------
    DecodeError
        For a dtype that PIL images do not have.
    """
    from PIL import Image

    if pixels.ndim == 3 and (pixels.shape[2] not in (1, 3) or pixels.dtype != np.uint8):
        bands = [resized(pixels[..., k], height, width) for k in range(pixels.shape[2])]
        return np.stack(bands, axis=-1)
    image = as_pil(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image).reshape(height, width, *pixels.shape[2:])
