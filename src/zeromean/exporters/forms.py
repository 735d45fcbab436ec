"""Which kind of data a normalizer takes, as targets see it: pictures or rows, and what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.first_layer.inputs import UNSAID, phrase
from zeromean.graphs.splitting import plain_shift

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Form:
    """The axes of a normalizer's data.

    Attributes
    ----------
    kind : {"pictures", "rows", "other"}
        Pictures have a first axis of samples, two of height and width, and maybe channels;
        rows have samples and features.
    layout : {"hwc", "chw", "hw", ""}
        Of one picture.
    keeps : {"one", "channel", "pixel", "feature", "other"}
        "pixel" is a mean image: every pixel, and every channel, by itself.
    axes : tuple of str
        Names, in order.
    """

    kind: str
    layout: str
    keeps: str
    axes: tuple[str, ...]

    @property
    def channel_axis(self) -> str:
        """The name of the channels' axis; empty where there is none."""
        place = {"hwc": -1, "chw": 1}.get(self.layout)
        return "" if place is None else self.axes[place]


def form_of(norm: Normalizer) -> Form:
    """Tell pictures from rows, and what is kept, by the pattern alone.

    Four axes are pictures. Their channels are the axis that is kept alone, or else the last one,
    or the second where it is called c. Two axes, the second kept or none, are rows.

    Parameters
    ----------
    norm : Normalizer

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.zeros((2, 3, 4, 4), np.uint8)
    >>> form_of(zm.zero_mean(zm.measure(x, "n c h w -> c")))
    Form(kind='pictures', layout='chw', keeps='channel', axes=('n', 'c', 'h', 'w'))
    """
    pattern = norm.pattern
    names = tuple(group[0] if len(group) == 1 else "" for group in pattern.axes)
    odd = "" in names or "..." in names or pattern.keeps_first
    kept = pattern.kept
    if not odd and len(names) == 2:
        keeps = "one" if not kept else "feature"
        return Form("rows", "", keeps, names)
    if not odd and len(names) == 3 and names[1:] == ("h", "w"):
        keeps = {(): "one", ("h", "w"): "pixel"}.get(kept, "other")
        return Form("pictures", "hw", keeps, names)
    if not odd and len(names) == 4:
        chw = kept == names[1:2] or (len(kept) != 1 and names[1] == "c")
        channel, grid = (names[1], names[2:]) if chw else (names[3], names[1:3])
        keeps = "other"
        if not kept:
            keeps = "one"
        elif kept == (channel,):
            keeps = "channel"
        elif kept == names[1:]:
            keeps = "pixel"
        if keeps != "other" or set(kept) <= set(grid):
            return Form("pictures", "chw" if chw else "hwc", keeps, names)
    return Form("other", "", "other" if kept else "one", names)


def plain_numbers(norm: Normalizer) -> tuple[_Floats, _Floats]:
    """Shift and scale of y = (x - shift) / scale, with the offset taken into the shift.

    (x - a) / s + o = (x - (a - o s)) / s; the new shift is that rational, rounded once.

    Parameters
    ----------
    norm : Normalizer
        Without a matrix.

    Returns
    -------
    shift, scale : ndarray of float64, kept shape
    """
    return plain_shift(norm)[0], norm.scale


def broadcastable(norm: Normalizer, title: str) -> tuple[int, ...]:
    """The shape in which kept numbers meet data with all its axes: 1 for axes that are not kept.

    Raises
    ------
    PatternError
        For groups, ``...`` and kept axes in another order, which no plain array code can follow.
    """
    pattern = norm.pattern
    names = [group[0] if len(group) == 1 else "" for group in pattern.axes]
    places = [names.index(kept) if kept in names else -1 for kept in pattern.kept]
    if -1 in places or places != sorted(places) or "..." in names or pattern.keeps_first:
        raise PatternError(
            f"{title} cannot follow the pattern {str(pattern)!r}: it needs plain axes, kept in "
            "their own order; measure with a pattern such as 'n h w c -> c'"
        )
    sizes = dict(zip(pattern.kept, norm.kept_shape, strict=True))
    return tuple(sizes.get(name, 1) for name in names)


def raw_dtype(norm: Normalizer) -> np.dtype[Any]:
    """One NumPy dtype that holds the raw data of every column; float32 for bool and bfloat16."""
    names = (np.float32 if n in ("bfloat16", "bool") else n for n in norm.dtype.split(","))
    return np.result_type(*names)


def raw_unit(norm: Normalizer) -> str:
    """What a difference of raw data is counted in."""
    return "gray levels" if norm.units.top in (255, 65535) else "units of the raw data"


def expected(norm: Normalizer, *, axes: str = "", order: str | None = None) -> str:
    """What must be fed, in a phrase: values, channel order, axes.

    Parameters
    ----------
    norm : Normalizer
    axes : str
        As in "n c h w"; those of the pattern if empty.
    order : str, optional
        Of the channels, where it is not the measured one.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    >>> expected(zm.zero_mean(zm.measure(x, "n h w c -> c", channels="RGB")))
    'uint8 0..255, RGB, axes (n, h, w, c)'
    """
    dtype = norm.dtype if len(norm.dtype) < 40 else "mixed dtypes"
    held = norm.units.channels if order is None else order
    unsaid = form_of(norm).keeps == "channel"
    named = [" ".join(group) for group in norm.pattern.axes]
    return phrase(norm, dtype, held or UNSAID * unsaid, axes.split() if axes else named)
