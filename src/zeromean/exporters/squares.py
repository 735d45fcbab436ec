"""Probe data as one square picture in a target's channel order, and its answers put back.

Targets with one mean and std for each channel do the same to every pixel, so any arrangement of
the pixels will do; a square one passes through a target's resizing and cropping unchanged.

Their arithmetic is float32, and its roundings are counted here, in units of the last place of the
largest term |x| / scale, |shift| / scale or |y|. A rounding of x, of a mean or a std, or of the
difference is a relative one of at most 2^-24, carried to the result: less than 1 unit. That of the
result itself is at most half a unit. Where an offset was taken into the mean, the mean may be
twice as large as the largest term, and its roundings count twice. Their products are below 0.01.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import UnitError
from zeromean.exporters.channels import Channels
from zeromean.exporters.targets import Made
from zeromean.mixing import put_back, samples_of

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]

_EXACT_IN_FLOAT32 = {"bool", "uint8", "int8", "uint16", "int16", "float16", "bfloat16", "float32"}


@dataclass(frozen=True)
class PictureMade(Made):
    """A normalizer for pictures, written for a target.

    Attributes
    ----------
    places : tuple of int
        Where each channel that the target is fed stands in the normalizer's own order.
    """

    places: tuple[int, ...] = (0,)


def places_of(norm: Normalizer, channels: Channels) -> tuple[int, ...]:
    """Where each channel of the target stands in the normalizer's own order."""
    held, n = norm.units.channels, len(channels)
    if len(held) == n and sorted(held) == sorted(channels.order):
        return tuple(held.index(letter) for letter in channels.order)
    return tuple(range(n))


def check_count_known(norm: Normalizer, channels: Channels, title: str) -> None:
    """Refuse one number for all channels where nobody said how many there are.

    Raises
    ------
    UnitError
    """
    if channels.form.keeps == "one" and channels.form.layout != "hw" and not channels.order:
        raise UnitError(
            f"{title} holds a number for each channel, and the pattern {str(norm.pattern)!r} has "
            "one for all, of how many is not known: say channels='RGB', or what they are"
        )


def roundings(norm: Normalizer, *, x: int, mean: int, std: int) -> float:
    """The bound of (x - mean) / std in float32, with so many roundings on the way to each.

    Parameters
    ----------
    norm : Normalizer
    x, mean, std : int
        How often each is rounded before it is used; x once more where its dtype has more digits.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> norm = zm.zero_mean(zm.measure(np.zeros((1, 2, 2, 3), np.uint8), "n h w c -> c"))
    >>> roundings(norm, x=1, mean=1, std=1)
    4.51
    """
    once_more = 0 if set(norm.dtype.split(",")) <= _EXACT_IN_FLOAT32 else 1
    difference, result, products = 1, 0.5, 0.01
    held = mean * (2 if norm.offset.any() else 1)
    return x + once_more + held + difference + std + result + products


def square_of(made: Made, x: _Array) -> _Array:
    """(side, side, channels): all pixels of the data, the first one again where they are too few.

    Parameters
    ----------
    made : PictureMade
    x : ndarray
        Raw data under the pattern of `made.carried`.
    """
    places = _places(made)
    pixels = samples_of(made.carried.pattern, x)
    if pixels.shape[1] != len(places):  # one number for all
        pixels = _filled(pixels.ravel(), len(places)).reshape(-1, len(places))
    pixels = pixels[:, places]
    side = math.isqrt(len(pixels) - 1) + 1
    return np.ascontiguousarray(_filled(pixels, side * side).reshape(side, side, len(places)))


def unsquared(made: Made, y: _Array, x: _Array) -> _Array:
    """The answers for `square_of`, in the layout of the data.

    Parameters
    ----------
    made : PictureMade
    y : ndarray, (side, side, channels)
    x : ndarray
    """
    places = _places(made)
    rows = y.reshape(-1, len(places))[:, np.argsort(places)]
    features = made.carried.shift.size
    out = np.empty(x.shape, y.dtype)
    put_back(made.carried.pattern, rows.ravel()[: x.size].reshape(-1, features), out)
    return out


def _places(made: Made) -> list[int]:
    assert isinstance(made, PictureMade)
    return list(made.places)


def _filled(values: _Array, count: int) -> _Array:
    """Up to a multiple of `count` entries along the first axis."""
    missing = -len(values) % count
    return np.concatenate([values, np.repeat(values[:1], missing, axis=0)])


def check_top(norm: Normalizer, title: str, tops: dict[str, float]) -> None:
    """Refuse data that the target does not bring to 0..1: it divides by what the dtype says.

    Parameters
    ----------
    norm : Normalizer
    title : str
    tops : dict of str to float
        What the target divides each dtype by: 1 for floats.

    Raises
    ------
    UnitError
    """
    divisor, top = tops.get(norm.dtype), norm.units.top
    if divisor is None:
        raise UnitError(
            f"{title} is not fed {norm.dtype}; it takes {', '.join(tops)}: measure one of these, "
            "or export to torch"
        )
    if top is None or top == divisor:
        return
    if divisor == 1:
        raise UnitError(
            f"{title} takes floats to be 0..1 already, and the data was {norm.dtype} "
            f"{norm.units}: measure the integers that it was made of, or divide it by {top:g}, "
            "measure and feed that; or export to torch"
        )
    raise UnitError(
        f"{title} divides {norm.dtype} by {divisor:g}, and the data was measured in {norm.units}: "
        f"measure with range=(0, {divisor:g}), or export to torch"
    )
