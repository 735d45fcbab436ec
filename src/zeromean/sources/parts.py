"""Files that are too large to be held whole: which axis they may be cut along, and what counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from zeromean.errors import PatternError
from zeromean.pattern import Pattern
from zeromean.sources import Item


def can_cut(pattern: Pattern, shape: tuple[int, ...], axis: int) -> bool:
    """Whether pieces along an axis can be measured one after another.

    Parameters
    ----------
    pattern : Pattern
    shape : tuple of int
        Of an array with all its axes.
    axis : int
    """
    try:
        lengths, kept = pattern.layout(shape)
    except PatternError:
        return True  # measuring the first piece says what is wrong
    return len(lengths) == len(shape) and axis % len(shape) not in kept


def counted_once(parts: Iterator[Item]) -> Iterator[Item]:
    """Parts of one file, of which only the last counts as items and carries notes."""
    last: Item | None = None
    for part in parts:
        if last is not None:
            yield replace(last, n_items=0, decoder="", notes=())
        last = part
    if last is not None:
        yield last
