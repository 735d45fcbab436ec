"""How data lie in memory, for code that walks through it one value after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zeromean.errors import PatternError
from zeromean.exporters.forms import broadcastable, form_of

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer


@dataclass(frozen=True)
class Walk:
    """The order of values in memory.

    Attributes
    ----------
    n_features : int
    n_out : int
        Fewer where a matrix reduces them.
    inner : tuple of str
        Axes after the last kept one: their values, side by side, share a feature.
    channels_last : bool
        Whether these are pictures whose last axis, the channels, alone is kept or mixed.
    """

    n_features: int
    n_out: int
    inner: tuple[str, ...]
    channels_last: bool

    def inner_length(self, norm: Normalizer, shape: tuple[int, ...]) -> int:
        """How many values in a row share a feature, in data of a shape."""
        pairs = zip(_names(norm), shape, strict=True)
        return math.prod(length for name, length in pairs if name in self.inner)

    def shape_out(self, norm: Normalizer, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the result for data of a shape."""
        if self.n_out == self.n_features:
            return shape
        pairs = zip(_names(norm), shape, strict=True)
        return (*(length for name, length in pairs if name not in norm.pattern.kept), self.n_out)


def walk_of(norm: Normalizer, title: str) -> Walk:
    """How to walk through a normalizer's data, one value after the other.

    Raises
    ------
    PatternError
        When kept axes do not lie side by side, so that no two loops can follow them.
    """
    broadcastable(norm, title)
    names = _names(norm)
    places = [names.index(name) for name in norm.pattern.kept]
    if places and places[-1] - places[0] != len(places) - 1:
        raise PatternError(
            f"{title} walks through memory, and under the pattern {str(norm.pattern)!r} the kept "
            "axes do not lie side by side; move them to the end, as in 'n h w c -> h w c'"
        )
    n = math.prod(norm.kept_shape)
    form = form_of(norm)
    last = form.kind == "pictures" and form.layout == "hwc" and form.keeps == "channel"
    n_out = n if norm.matrix is None else len(norm.matrix)
    inner = tuple(names[places[-1] + 1 :]) if places else ()
    if norm.matrix is not None and n_out != n and inner:
        raise PatternError(
            f"{title} cannot put {n_out} features where {n} were, before the axes "
            f"{', '.join(inner)}; measure with the kept axes last"
        )
    return Walk(n, n_out, inner, last)


def _names(norm: Normalizer) -> list[str]:
    return [group[0] for group in norm.pattern.axes]
