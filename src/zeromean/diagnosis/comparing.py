"""Holds the affine map inside a model against that of a normalizer, in units of the raw data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.graphs.pictures import Axes, axes_of, spread_in

if TYPE_CHECKING:
    from zeromean.graphs.inspecting import Inside
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]
SAME = 0.002  # of the range: half a gray level of 255, as much as published numbers are rounded
_TOPS = (1.0, 255.0, 65535.0)
_UNIT = 1.5  # numbers of data in 0..1 are not larger


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model's own map y = (x - shift) / scale beside a normalizer's.

    Attributes
    ----------
    unit : float
        What raw data is divided by before the model gets it: 1, or 255 where the model's numbers
        are those of 0..1 data; 1/255 where the normalizer's are and the model's are not.
    foreign : bool
        Whether that brings raw data to a scale that is neither its own nor 0..1.
    shift, scale : ndarray of float64
        The model's, in units of the raw data.
    difference : float
        The largest |difference| of both maps over the range of the raw data, undone by the
        normalizer's scale to units of the raw data. inf where the two do not broadcast.
    reach : float
        Length of that range.
    """

    unit: float
    shift: _Floats
    scale: _Floats
    difference: float
    reach: float
    foreign: bool = False

    @property
    def same(self) -> bool:
        """Whether both are one map, but for rounding of the published numbers."""
        return self.difference <= SAME * self.reach


def compare(norm: Normalizer, inside: Inside, layout: str | None) -> Comparison:
    """Compare in raw units and in 0..1, and keep what is nearer.

    Parameters
    ----------
    norm : Normalizer
    inside : Inside
        With numbers.
    layout : {"nhwc", "nchw"} or None
        Of the model's pictures.
    """
    rank = None if inside.dims is None else len(inside.dims)
    axes = axes_of(norm, rank)
    low, high = range_of(norm)
    units = {1.0} if norm.units.top in (None, 1) else {1.0, float(norm.units.top or 1)}
    made = [_compared(norm, inside, axes, layout, unit, (low, high)) for unit in sorted(units)]
    small = is_of_unit_data(inside)
    best = min(made, key=lambda c: (not c.same, (c.unit == 1) == small, c.difference))
    if best.same:
        return best
    others = factors(norm) - units
    foreign = [_compared(norm, inside, axes, layout, unit, (low, high)) for unit in sorted(others)]
    same = [replace(c, foreign=True) for c in foreign if c.same]
    return min([*same, best], key=lambda c: (not c.same, c.difference))


def is_of_unit_data(inside: Inside) -> bool:
    """Whether a model's own numbers can be those of data in 0..1."""
    return float(np.abs(inside.shift).max()) <= _UNIT and float(inside.scale.max()) <= _UNIT


def factors(norm: Normalizer) -> set[float]:
    """What the numbers of usual scales are multiplied by to be in the units of a normalizer's data.

    Where nobody said its range, it may be 0..1, or the model's may.
    """
    top = norm.units.top
    if top is None:
        return {n for t in _TOPS for n in (t, 1 / t)} - {1.0}
    return {float(top) / t for t in _TOPS} - {1.0}


def spelled(norm: Normalizer, unit: float) -> tuple[str, str]:
    """The scales of a normalizer's data, and of what this is divided by `unit`."""
    top = norm.units.top or max(1.0, unit)
    return f"0..{top:.6g}", f"0..{top / unit:.6g}"


def behind(norm: Normalizer, inside: Inside, layout: str | None) -> str:
    """What normalizer and model give together, where that is a common scale; else empty.

    Some networks take data normalized in one way, and bring it to another scale themselves.

    Parameters
    ----------
    norm : Normalizer
    inside : Inside
    layout : {"nhwc", "nchw"} or None

    Returns
    -------
    {"-1..1", "0..1", "raw", ""}
    """
    top = norm.units.top
    if top is None or norm.matrix is not None:
        return ""
    axes = axes_of(norm, None if inside.dims is None else len(inside.dims))
    numbers = (spread_in(axes, v, layout) for v in (norm.shift, norm.scale, norm.offset))
    shift, scale, offset = numbers
    try:
        gain = inside.gain / scale
        bias = inside.gain * (offset - shift / scale) + inside.bias
    except ValueError:  # other lengths
        return ""
    ends = {"-1..1": (-1, 1), "0..1": (0, 1), "raw": (0, top)}
    for name, (low, high) in ends.items():
        slack = SAME * (high - low)
        if np.abs(bias - low).max() <= slack and np.abs(gain * top + bias - high).max() <= slack:
            return name
    return ""


def range_of(norm: Normalizer) -> tuple[float, float]:
    """Smallest and largest raw value, or four scales around the shift where it is not known."""
    if norm.units.range is not None:
        low, high = norm.units.range
        return float(low), float(high)
    spread = 4 * np.abs(norm.scale)
    return float((norm.shift - spread).min()), float((norm.shift + spread).max())


def _compared(
    norm: Normalizer,
    inside: Inside,
    axes: Axes,
    layout: str | None,
    unit: float,
    ends: tuple[float, float],
) -> Comparison:
    shift, scale = inside.shift * unit, inside.scale * unit
    difference = np.inf
    if norm.matrix is None:
        numbers = (spread_in(axes, v, layout) for v in (norm.shift, norm.scale, norm.offset))
        own_shift, own_scale, own_offset = numbers
        try:
            differences: list[Any] = [
                np.abs((x - shift) / scale - (x - own_shift) / own_scale - own_offset) * own_scale
                for x in ends
            ]
            difference = max(float(d.max()) for d in differences)
        except ValueError:  # other lengths
            difference = np.inf
    return Comparison(unit, shift, scale, difference, ends[1] - ends[0])
