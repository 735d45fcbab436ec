"""Samples and mean images as small pictures inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.drawing import is_image
from zeromean.recipes import standardize, zero_mean
from zeromean.sources.opening import Options, open_source

if TYPE_CHECKING:
    from zeromean.profile import Profile

_Array = npt.NDArray[Any]

LARGEST = 160  # pixels of the longer side; small ones keep theirs
_CRISP = 64  # up to here a picture is shown pixel by pixel
_STDS = 2.0  # standard deviations from middle gray to black and to white


@dataclass(frozen=True)
class Picture:
    """One picture as a data URI, from what to what its values go, and the share below zero."""

    uri: str
    width: int
    height: int
    low: float
    high: float
    negative: float
    crisp: bool


@dataclass(frozen=True)
class Sample:
    """One sample three times: original, zero-mean, standardized."""

    name: str
    original: Picture
    zero_mean: Picture
    standardized: Picture


def samples(source: Any, profile: Profile, wanted: int) -> list[Sample]:
    """A few pictures of a source before and after; none if it holds no pictures.

    Parameters
    ----------
    source
        As for `zeromean.measure`.
    profile : Profile
    wanted : int
    """
    centered, scaled = zero_mean(profile), standardize(profile)
    low, high = profile.units.range or (float(np.min(profile.min)), float(np.max(profile.max)))
    span = (high - low) or 1.0
    found = []
    for name, array in items(source, profile, wanted):
        if not _is_picture(array):
            return []
        zero, standard = centered(array), scaled(array)
        found.append(
            Sample(
                name,
                picture(array, low, high),
                picture(zero, -span / 2, span / 2),
                picture(standard, -_STDS, _STDS),
            )
        )
    return found


def items(source: Any, profile: Profile, wanted: int) -> Iterator[tuple[str, _Array]]:
    """Single items of a source, spread evenly over it, with their names where they have any."""
    options = Options(colors=profile.units.colors or "RGB", limit=wanted)
    left = wanted
    for opened in open_source(source, profile.pattern, options):
        for shard in opened.shards():
            for item in shard.items():
                if not isinstance(item.array, np.ndarray) or left <= 0:
                    continue
                batch = item.array if item.batched else item.array[None]
                for array in batch[:left]:
                    left -= 1
                    yield item.name if not item.batched else "", array


def _is_picture(array: _Array) -> bool:
    return array.ndim in (2, 3) and (array.ndim == 2 or array.shape[-1] in (1, 3))


def mean_pictures(profile: Profile) -> tuple[Picture, Picture] | None:
    """The mean image and the std of every pixel, if the profile keeps pixels."""
    if not is_image(profile):
        return None
    low, high = profile.units.range or (float(np.min(profile.min)), float(np.max(profile.max)))
    spread = np.asarray(profile.std)
    return picture(profile.mean, low, high), picture(spread, 0.0, float(spread.max()) or 1.0)


def picture(values: _Array, black: float, white: float) -> Picture:
    """Values as a PNG or JPEG, black and white where told.

    Parameters
    ----------
    values : ndarray, (h, w), (h, w, 1) or (h, w, 3)
    black, white : float
        Values beyond are cut off.
    """
    from PIL import Image

    floats = np.asarray(values, np.float64)
    low, high = float(np.nanmin(floats)), float(np.nanmax(floats))
    negative = float((floats < 0).mean())
    floats = floats[..., 0] if floats.ndim == 3 and floats.shape[-1] == 1 else floats
    with np.errstate(invalid="ignore"):
        levels = np.clip((floats - black) / (white - black), 0, 1) * 255
    image = Image.fromarray(np.rint(np.nan_to_num(levels)).astype(np.uint8))
    crisp = max(image.size) <= _CRISP
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    if crisp:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=82, optimize=True)
    kind = "png" if crisp else "jpeg"
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind};base64,{code}", *image.size, low, high, negative, crisp)
