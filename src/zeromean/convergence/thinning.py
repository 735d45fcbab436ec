"""Takes samples evenly from a stream whose length nobody knows beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Thinned:
    """Some rows of a stream.

    Attributes
    ----------
    rows : ndarray, (n, ...)
    places : ndarray of int, (n,)
        Where they stood.
    total : int
        How many rows the stream had.
    """

    rows: _Array
    places: npt.NDArray[np.int64]
    total: int


def thinned(blocks: Iterable[_Array], n: int) -> Thinned:
    """At most `n` rows of a stream, evenly spread and always the same, in little memory.

    Every row is kept until there are 4 n; then every second one is dropped, and of what follows
    only every second is taken, and so on.

    Parameters
    ----------
    blocks : iterable of ndarray, (rows, ...)
        All with the same shape after the first axis.
    n : int

    Returns
    -------
    Thinned

    Examples
    --------
    >>> thinned([np.arange(5), np.arange(5, 10)], 5).rows.tolist()
    [1, 3, 5, 7, 9]
    """
    held: list[_Array] = []
    stride, total, count = 1, 0, 0
    for block in blocks:
        part = np.array(block[-total % stride :: stride])
        total += len(block)
        held.append(part)
        count += len(part)
        while count > 4 * n:
            held = [np.concatenate(held)[::2]]
            stride, count = 2 * stride, len(held[0])
    rows = np.concatenate(held) if held else np.zeros((0,))
    chosen = spread(len(rows), n)
    return Thinned(rows[chosen], chosen * stride, total)


def spread(length: int, n: int) -> npt.NDArray[np.int64]:
    """The middle of each of `n` equal stretches of 0..length; everything where that is no more."""
    if n >= length:
        return np.arange(length)
    return (2 * np.arange(n) + 1) * length // (2 * n)
