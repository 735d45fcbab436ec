"""One map over one pair of arrays: its axes put in order and merged, and cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_Index = tuple[slice, ...]
Numbers = tuple[_Floats, _Floats, _Floats]  # shift, scale, offset


@dataclass(frozen=True, slots=True)
class Task:
    """One map over one pair of arrays.

    Attributes
    ----------
    way : {"forward", "backward"}
    x, out : ndarray
        Of one shape.
    numbers : tuple of three ndarrays of float64
        Shift, scale, offset: all of one shape, whose axes are as long as those of x, or 1.
    kept : tuple of bool
        Along which axes the numbers differ.
    """

    way: str
    x: _Array
    out: _Array
    numbers: Numbers
    kept: tuple[bool, ...]

    def part(self, index: _Index) -> Task:
        """What of all that belongs to a block."""
        own = (s if keep else slice(None) for s, keep in zip(index, self.kept, strict=True))
        own_index: Any = (*own, ...)  # with dots, or 0-d would become a number
        whole_index: Any = (*index, ...)
        shift, scale, offset = (a[own_index] for a in self.numbers)
        x, out = self.x[whole_index], self.out[whole_index]
        return Task(self.way, x, out, (shift, scale, offset), self.kept)


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """Its name, which NumPy works out anew each time, as slowly as a thousand values."""
    return dtype.name


def same_memory(x: _Array, out: _Array) -> bool:
    """Whether each element of one lies exactly where that of the other does."""
    return (
        x.strides == out.strides
        and x.itemsize == out.itemsize
        and x.__array_interface__["data"][0] == out.__array_interface__["data"][0]
    )


def simplified(task: Task) -> Task:
    """The same task with as few axes as possible, in the order in which `out` lies in memory."""
    x, out = task.x, task.out
    turns = tuple(slice(None, None, -1) if s < 0 else slice(None) for s in out.strides)
    long = [a for a, n in enumerate(x.shape) if n > 1]
    order = sorted(long, key=lambda a: -abs(out.strides[a]))
    groups: list[list[int]] = []
    for axis in order:
        if groups and _mergeable(task, turns, groups[-1][-1], axis):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    order += [a for a, n in enumerate(x.shape) if n == 1]

    full = [prod(x.shape[a] for a in group) for group in groups]
    kept = tuple(task.kept[group[0]] for group in groups)
    own = [n if keep else 1 for n, keep in zip(full, kept, strict=True)]
    turned = any(s < 0 for s in out.strides)

    def moved(array: _Array, shape: list[int]) -> _Array:
        view = array[(*turns, ...)] if turned else array
        return view.transpose(order).reshape(shape)

    shift, scale, offset = (moved(a, own) for a in task.numbers)
    return Task(task.way, moved(x, full), moved(out, full), (shift, scale, offset), kept)


def _mergeable(task: Task, turns: _Index, first: int, second: int) -> bool:
    """Whether two axes are one to both arrays and to the numbers."""
    return (
        task.kept[first] == task.kept[second]
        and turns[first] == turns[second]
        and all(a.strides[first] == a.strides[second] * a.shape[second] for a in (task.x, task.out))
    )


def split(task: Task, size: int) -> Iterator[Task]:
    """Blocks of about so many elements, one after the other."""
    for index in pieces(task.x.shape, size):
        yield task.part(index)


def pieces(shape: tuple[int, ...], size: int) -> Iterator[_Index]:
    """Indices of blocks of about so many elements, contiguous ones where the array is.

    Parameters
    ----------
    shape : tuple of int
    size : int

    Yields
    ------
    tuple of slice

    Examples
    --------
    >>> [(rows.start, rows.stop) for rows, columns in pieces((5, 10), 25)]
    [(0, 2), (2, 4), (4, 6)]
    """
    axis, tail = len(shape), 1
    while axis and tail * shape[axis - 1] <= size:
        axis -= 1
        tail *= shape[axis]
    rest = (slice(None),) * (len(shape) - axis)
    if axis == 0:
        yield rest
        return
    step = max(1, size // tail)
    starts = range(0, shape[axis - 1], step)
    for *outer, start in product(*map(range, shape[: axis - 1]), starts):
        yield (*(slice(i, i + 1) for i in outer), slice(start, start + step), *rest)
