"""How the axes of a normalizer's data lie in a tensor: ranks, lengths, channels first or last."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.pattern import Pattern

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
#: Of pictures; None means the pattern's own.
LAYOUTS = ("nhwc", "nchw")
_MOVES = {("nhwc", "nchw"): (0, 3, 1, 2), ("nchw", "nhwc"): (0, 2, 3, 1)}


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a tensor that a pattern describes, ``...`` spelled out.

    Attributes
    ----------
    pattern : Pattern
        Without ``...``.
    lengths : tuple of int or None
        Of every tensor axis; None where any length will do.
    channel : int or None
        Which axis the channels are, for pictures.
    """

    pattern: Pattern
    lengths: tuple[int | None, ...]
    channel: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """What the axes are called; a group by all its names."""
        return tuple("_".join(group) for group in self.pattern.axes)

    @property
    def layout(self) -> str | None:
        """ "nhwc" or "nchw" for pictures, else None."""
        return None if self.channel is None else "nchw" if self.channel == 1 else "nhwc"

    @property
    def kept(self) -> tuple[int, ...]:
        """The kept axes, in the order of the right side; of patterns without groups."""
        places = [group[0] for group in self.pattern.axes]
        return tuple(places.index(name) for name in self.pattern.kept)

    def spread(self, values: _Array) -> _Array:
        """Kept numbers with as many axes as the tensor, so that they broadcast against it."""
        shape = tuple(1 if length is None else length for length in self.lengths)
        return self.pattern.spread(values, shape)


def axes_of(norm: Normalizer, rank: int | None = None) -> Axes:
    """The axes of a normalizer's data, for tensors of some rank.

    Parameters
    ----------
    norm : Normalizer
    rank : int, optional
        Of the tensor: needed where the pattern says ``...``; one more than the pattern's means a
        first axis of samples before it.

    Returns
    -------
    Axes

    Raises
    ------
    PatternError
        When the rank does not fit, or numbers of the pattern do not broadcast.
    """
    pattern = norm.pattern
    if pattern.keeps_first:
        raise PatternError(
            f"under the pattern {str(pattern)!r} each sample has its own numbers, which no model "
            "can hold; normalize the samples before the model"
        )
    if ("...",) in pattern.axes:
        pattern = _spelled(pattern, norm.kept_shape, rank)
    if rank is not None and rank == len(pattern.axes) + 1:
        pattern = _with_samples(pattern)
    if rank is not None and rank != len(pattern.axes):
        raise PatternError(
            f"the pattern {str(norm.pattern)!r} names {len(pattern.axes)} axes, but the tensor "
            f"has {rank}; measure with a pattern of {rank} axes, or reshape before"
        )
    sizes = dict(pattern.sizes) | dict(zip(pattern.kept, norm.kept_shape, strict=True))
    lengths = tuple(_length(pattern, group, sizes) for group in pattern.axes)
    return Axes(pattern, lengths, _channel(pattern))


def _spelled(pattern: Pattern, kept_shape: tuple[int, ...], rank: int | None) -> Pattern:
    """A pattern with names in the place of ``...``."""
    if "..." in pattern.kept:
        count = len(kept_shape) - len(pattern.kept) + 1
    elif rank is not None:
        count = rank - len(pattern.axes) + 1
    else:
        raise PatternError(
            f"the pattern {str(pattern)!r} fits tensors of any number of axes, and a graph needs "
            "to know how many: give rank="
        )
    if count < 0:
        raise PatternError(f"the pattern {str(pattern)!r} does not fit a tensor of {rank} axes")
    names = tuple(f"axis{i}" for i in range(count))
    place = pattern.axes.index(("...",))
    axes = (*pattern.axes[:place], *((n,) for n in names), *pattern.axes[place + 1 :])
    kept = tuple(n for k in pattern.kept for n in (names if k == "..." else (k,)))
    return replace(pattern, axes=axes, kept=kept)


def _with_samples(pattern: Pattern) -> Pattern:
    names = {name for group in pattern.axes for name in group}
    first = next(name for name in ("n", "samples", "samples_") if name not in names)
    return replace(pattern, axes=((first,), *pattern.axes))


def _length(pattern: Pattern, group: tuple[str, ...], sizes: dict[str, int]) -> int | None:
    """Of one tensor axis, if the pattern fixes it."""
    if all(name in sizes for name in group):
        return math.prod(sizes[name] for name in group)
    if any(name in pattern.kept for name in group):
        unknown = next(name for name in group if name not in sizes)
        raise PatternError(
            f"the pattern {str(pattern)!r} keeps part of the axis ({' '.join(group)}), whose "
            f"length is open; measure with {unknown}= given"
        )
    return None


def _channel(pattern: Pattern) -> int | None:
    """Pictures have four plain axes; channels are the axis kept alone, or the one called c."""
    names = [group[0] for group in pattern.axes]
    if len(names) != 4 or any(len(group) > 1 for group in pattern.axes):
        return None
    name = pattern.kept[0] if len(pattern.kept) == 1 else "c"
    place = names.index(name) if name in names else 0
    return place if place in (1, 3) else None


def nameless(axes: Axes) -> Axes:
    """The same axes where nobody knows which one the channels are."""
    names = tuple((f"axis{i}",) for i in range(1, len(axes.lengths)))
    pattern = replace(axes.pattern, axes=(axes.pattern.axes[0], *names))
    return Axes(pattern, axes.lengths, None)


def order_between(axes: Axes, begin: str | None, end: str | None) -> tuple[int, ...] | None:
    """How to transpose pictures from one layout to another; None where nothing moves.

    Raises
    ------
    PatternError
        For a layout where there are no pictures, or an unknown one.
    """
    for layout in (begin, end):
        check_layout(axes, layout)
    return _MOVES.get((begin or axes.layout or "", end or axes.layout or ""))


def check_layout(axes: Axes, layout: str | None) -> None:
    """Refuse a layout that means nothing here."""
    if layout is None:
        return
    if layout not in LAYOUTS:
        raise PatternError(f"layout is {layout!r}; the choice is 'nhwc' or 'nchw'")
    if axes.layout is None:
        raise PatternError(
            f"layout {layout!r} is for pictures; the pattern {str(axes.pattern)!r} does not say "
            "which axis the channels are: measure with 'n h w c -> c' or 'n c h w -> c'"
        )


def in_layout(axes: Axes, values: tuple[Any, ...], layout: str | None) -> tuple[Any, ...]:
    """Something for each axis, from the pattern's own order to that of a layout."""
    order = _MOVES.get((axes.layout or "", layout or axes.layout or ""))
    return tuple(values[i] for i in order) if order else values


def kept_places(axes: Axes, layout: str | None) -> tuple[int, ...]:
    """Where the kept axes lie in data of a layout, in the order of the right side."""
    order = in_layout(axes, tuple(range(len(axes.lengths))), layout)
    return tuple(order.index(axis) for axis in axes.kept)


def spread_in(axes: Axes, values: _Array, layout: str | None) -> _Array:
    """Kept numbers that broadcast against data in a layout, without leading axes of length 1."""
    full = axes.spread(values)
    order = _MOVES.get((axes.layout or "", layout or axes.layout or ""))
    full = np.transpose(full, order) if order else full
    while full.ndim and full.shape[0] == 1:
        full = full[0]
    return np.ascontiguousarray(full)
