"""Cuts an array into blocks along its storage chunks, each small enough to be held in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zeromean.notation import ELLIPSIS
from zeromean.pattern import Pattern

_Ints = npt.NDArray[np.int64]

_WANTED = 8 << 20  # bytes of a block; it does not depend on the machine, so that names do not
_LARGE = 32 << 20  # above, a row of chunks is cut along other axes as well
_MOST = 128 << 20  # above, chunks are cut, and read several times
_NEAR = 256 << 10  # what lies between two wanted entries, and is sooner read than passed over

#: Begin and end of a block along each axis.
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What an array is, and in what pieces it is stored.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    chunks : tuple of int or tuple of int, optional
        For each axis the length of a chunk, or the lengths of all; None where the array is not
        chunked, or any part of a chunk can be read without the rest of it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int | tuple[int, ...], ...] | None = None

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def chunk(self, axis: int) -> int:
        """The length of the longest chunk along an axis."""
        if self.chunks is None:
            return 1
        length = self.chunks[axis]
        return max(1, max(length, default=1) if isinstance(length, tuple) else length)

    def led(self) -> Layout:
        """The same with a first axis of length 1."""
        chunks = None if self.chunks is None else (1, *self.chunks)
        return Layout((1, *self.shape), self.dtype, chunks)


@dataclass(frozen=True, slots=True)
class Cut:
    """An array cut into boxes; a sequence of them, made when they are asked for.

    Attributes
    ----------
    shape : tuple of int
    begins : tuple of sequences of int
        Along each axis.
    rows, nbytes : int
        Entries of the first axis in the largest box, and its size.
    passes : int
        How many times each chunk is read.
    """

    shape: tuple[int, ...]
    begins: tuple[Sequence[int], ...]
    rows: int
    nbytes: int
    passes: int = 1

    @property
    def large(self) -> bool:
        """Whether a box takes so much memory that there had better be one at a time."""
        return self.nbytes > _LARGE

    def __len__(self) -> int:
        return math.prod(len(begins) for begins in self.begins)

    def __getitem__(self, i: int) -> Box:
        box: list[tuple[int, int]] = []
        for begins, length in zip(reversed(self.begins), reversed(self.shape), strict=True):
            i, at = divmod(i, len(begins))
            end = begins[at + 1] if at + 1 < len(begins) else length
            box.append((begins[at], end))
        return tuple(reversed(box))

    def others(self) -> Iterator[Box]:
        """The boxes, without their first axis."""
        sides = [
            list(pairwise((*begins, length)))
            for begins, length in zip(self.begins[1:], self.shape[1:], strict=True)
        ]
        return iter(product(*sides))


def free_axes(pattern: Pattern, n_axes: int) -> list[int]:
    """The axes behind the first one that can be cut: plain axes of samples."""
    groups: list[tuple[str, ...]] = []
    for group in pattern.axes:
        spread = n_axes - len(pattern.axes) + 1 if group == (ELLIPSIS,) else 1
        groups += [group] * spread
    plain = [len(g) == 1 and g[0] not in pattern.kept for g in groups]
    return [axis for axis in range(1, n_axes) if plain[axis]]


def cut(layout: Layout, pattern: Pattern, *, whole_items: bool) -> Cut:
    """Cut an array along its first axis, in whole chunks where that is possible.

    Parameters
    ----------
    layout : Layout
    pattern : Pattern
        That fits its shape.
    whole_items : bool
        Whether an entry of the first axis must not be parted; else what is still too large is cut
        along other axes of samples.
    """
    shape, size = layout.shape, max(1, layout.dtype.itemsize)
    unit = pattern.unit(shape)
    steps = [max(1, length) for length in shape]
    least = [min(steps[axis], layout.chunk(axis)) for axis in range(len(steps))]
    least[0] = steps[0] = min(steps[0], math.lcm(least[0], unit))
    for axis in [] if whole_items else free_axes(pattern, len(shape)):
        if (held := math.prod(steps) * size) > _LARGE:
            steps[axis] = _aligned(steps[axis] * _WANTED // held, least[axis])
    held = math.prod(steps) * size
    passes = 1
    if held <= _WANTED:
        steps[0] = min(steps[0] * (_WANTED // held), max(1, shape[0]))
    elif held > _MOST and any(a > b for a, b in zip(steps, least, strict=True)):
        steps[0] = _aligned(steps[0] * _MOST // held, unit)
        passes = math.ceil(least[0] / steps[0])
    begins = tuple(_begins(layout, axis, steps[axis], unit) for axis in range(len(shape)))
    return Cut(shape, begins, steps[0], math.prod(steps) * size, passes)


def _aligned(length: int, unit: int) -> int:
    return max(1, length // unit) * unit


def _begins(layout: Layout, axis: int, step: int, unit: int) -> Sequence[int]:
    """Where boxes begin: at regular steps, or at the bounds of chunks of unequal lengths."""
    length = layout.shape[axis]
    chunks = layout.chunks[axis] if layout.chunks is not None else 1
    if isinstance(chunks, int) or step < max(chunks, default=1) or step >= length:
        return range(0, max(1, length), step)
    ends = np.cumsum(chunks)
    begins, last = [0], 0
    for end in ends[ends % (unit if axis == 0 else 1) == 0].tolist():
        if end - begins[-1] > step and last > begins[-1]:
            begins.append(last)
        last = end
    return tuple(begins)


# ---------------------------------------------------------------- a quick look


class Some(NamedTuple):
    """A box, and which entries of its first axis are meant; None for all."""

    box: Box
    rows: tuple[int, ...] | None = None


def some(whole: Cut, layout: Layout, starts: _Ints, unit: int) -> list[Some]:
    """The boxes that hold certain entries of the first axis, each chunk in one box.

    Parameters
    ----------
    whole : Cut
    layout : Layout
    starts : ndarray of int
        Where the wanted entries begin, increasing.
    unit : int
        How many entries begin there.
    """
    found: list[Some] = []
    for group in np.split(starts, _breaks(whole, layout, starts)):
        if len(group) == 0:
            continue
        rows = np.add.outer(group, np.arange(unit)).ravel()
        begin, end = int(rows[0]), int(rows[-1]) + 1
        chosen = None if len(rows) == end - begin else tuple((rows - begin).tolist())
        found += [Some(((begin, end), *other), chosen) for other in whole.others()]
    return found


def _breaks(whole: Cut, layout: Layout, starts: _Ints) -> _Ints:
    """Where the next entry lies in another chunk, or too far away to be read along."""
    row = max(1, whole.nbytes // whole.rows)
    gaps: _Ints
    if layout.chunks is None:
        gaps = np.cumsum(np.diff(starts, prepend=starts[:1]) * row > _NEAR)
        window = _WANTED
    elif isinstance(held := layout.chunks[0], tuple):
        gaps, window = np.searchsorted(np.cumsum(held), starts, side="right"), _MOST
    else:
        gaps, window = starts // held, _MOST
    far = (starts - starts[:1]) * row // window
    new: _Ints = np.flatnonzero((np.diff(gaps) != 0) | (np.diff(far) != 0)) + 1
    return new
