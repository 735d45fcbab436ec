"""Data under a normalizer's own pattern, in a target's layout and channel order, and back.

`turned` does it with the normalizer; `Fed` is a `Made` that remembers it, so that probes are run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.exporters.channels import ordered
from zeromean.exporters.forms import form_of
from zeromean.exporters.targets import Made, Order
from zeromean.pattern import Pattern

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
_FROM_THE_OTHER = {"hwc": (0, 2, 3, 1), "chw": (0, 3, 1, 2)}
_NUMBERS = ("shift", "scale", "offset")
_EXACT = frozenset("bool uint8 int8 uint16 int16 float16 bfloat16 float32".split())


@dataclass(frozen=True)
class Fed(Made):
    """A normalizer, written for a target that takes its data in another way.

    Attributes
    ----------
    own, layout : {"hwc", "chw", "hw", ""}
        Of the normalizer's data, and of the target's.
    places : tuple of int
        Channel i of the target is channel places[i] of the normalizer; empty for the same order.
    """

    own: str = ""
    layout: str = ""
    places: tuple[int, ...] = ()

    def there(self, x: _Array) -> _Array:
        """Data of the normalizer, as the target takes them."""
        return np.ascontiguousarray(
            reordered(moved(x, self.own, self.layout), self.layout, self.places)
        )

    def back(self, y: _Array) -> _Array:
        """What the target gave, in its own layout and order, as the normalizer gives it."""
        undone = tuple(int(place) for place in np.argsort(self.places))
        return moved(reordered(y, self.layout, undone), self.layout, self.own)


def moved(x: _Array, source: str, to: str) -> _Array:
    """Pictures with four axes, from one layout to the other; anything else as it is."""
    return x if source == to or to not in _FROM_THE_OTHER else x.transpose(_FROM_THE_OTHER[to])


def reordered(x: _Array, layout: str, places: tuple[int, ...]) -> _Array:
    """Channels in another order."""
    return np.take(x, places, 1 if layout == "chw" else -1) if places else x


def turned(
    norm: Normalizer, title: str, order: Order
) -> tuple[Normalizer, str, str, tuple[int, ...]]:
    """The normalizer for pictures in the layout and the channel order that were asked for.

    Returns
    -------
    norm : Normalizer
        Itself, where nothing was asked for or nothing changes.
    own, layout : str
    places : tuple of int

    Raises
    ------
    PatternError
        When there are no channels to lay out or to name, and for a matrix, which would have to be
        turned as well.
    UnitError
        When the named channels are others than those that were measured.
    """
    form = form_of(norm)
    if (order.layout or order.channels) and form.layout not in _FROM_THE_OTHER:
        asked = f"layout={order.layout!r}" if order.layout else f"channels={order.channels!r}"
        raise PatternError(
            f"{asked} is about pictures with channels; the pattern {str(norm.pattern)!r} has none"
        )
    held, said = norm.units.channels, ordered(norm, title, order.channels, order.channels)
    differ = held and said != held and form.keeps != "one"  # one number fits any order
    places = tuple(held.index(letter) for letter in said) if differ else ()
    layout = order.layout or form.layout
    if norm.matrix is not None and (places or layout != form.layout):
        raise PatternError(
            f"{title} would have to be fed the features in another order than the matrix of "
            f"{norm.recipe} mixes them in; measure the data as the model will be given them"
        )
    if said != held:
        norm = _with_order(norm, said, places)
    return _with_layout(norm, form.layout, layout), form.layout, layout, places


def _with_order(norm: Normalizer, said: str, places: tuple[int, ...]) -> Normalizer:
    numbers: dict[str, Any] = {}
    axis = form_of(norm).channel_axis
    if axis in norm.pattern.kept and places:
        place = norm.pattern.kept.index(axis)
        numbers = {
            n: np.take(getattr(norm, n), places, place) for n in ("shift", "scale", "offset")
        }
    return replace(norm, units=replace(norm.units, channels=said), **numbers)


def _with_layout(norm: Normalizer, own: str, layout: str) -> Normalizer:
    """The same numbers under the pattern of the other layout."""
    if own == layout:
        return norm
    axes = [norm.pattern.axes[place] for place in _FROM_THE_OTHER[layout]]
    old = norm.pattern.kept
    kept = [group[0] for group in axes if group[0] in old]
    pattern = Pattern.parse(f"{' '.join(group[0] for group in axes)} -> {' '.join(kept)}")
    turn = [old.index(name) for name in kept]
    numbers: dict[str, Any] = {name: getattr(norm, name).transpose(turn) for name in _NUMBERS}
    shape = tuple(norm.kept_shape[place] for place in turn)
    return replace(norm, pattern=pattern, kept_shape=shape, **numbers)


def entering(norm: Normalizer) -> float:
    """How many roundings raw data undergo when they become float32: none, or one.

    Integers of 8 and 16 bits and floats up to 32 bits are exact; wider integers are where their
    range is within 2^24.
    """
    limits = norm.units.range or (0, np.inf)
    for name in norm.dtype.split(","):
        small = "int" in name and max(map(abs, limits)) <= 1 << 24
        if name not in _EXACT and not small:
            return 1.0
    return 0.0
