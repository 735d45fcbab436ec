"""The formula by compiled loops: chooses kernels, folds and cuts arrays into their shapes.

Arrays that are contiguous, or interleaved pixels on their way to planes, go to the kernels as
they are. All others go block by block through a small contiguous copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from threading import local
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.affine.plain import apply_plain, nan_error, unless_zero
from zeromean.affine.tasks import Numbers, Task, name_of, pieces, same_memory, split

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_Job = Callable[[], None]
_Shape = tuple[int, int, int]  # outer, features, run

_HALVES = {"float16": np.int16, "bfloat16": np.uint16}  # their bits, as the kernels write them
_CODES = {"bool": 1 << 8, "uint8": 1 << 8, "uint16": 1 << 16, "int16": 1 << 16}
_TAKEN = {*_CODES, "float32", "float64"}  # by kernels, as they are
_WHOLE = {"uint8", "uint16", "int16"}  # integers that kernels write

_PIECE = 1 << 18  # elements that a kernel does at a time
_BLOCK = 1 << 17  # elements of a block that is copied; its copies stay in the second-level cache
_FOLD = 512  # features are repeated to about so many: short loops cost more than they do
_CHECKED = 1 << 20  # values of an integer, times features, that are compared with the formula
_REMEMBERED = 1 << 12  # features whose loops are kept ready for the next call
_WOVEN = 16  # features of interleaved pixels, beyond which their planes leave the cache


@dataclass(frozen=True, slots=True)
class _Loops:
    """Kernels and what they are called with.

    Attributes
    ----------
    rows, runs, weave : callable
        Of `zeromean.kernels.affine`, or the same with a check.
    numbers : tuple of three ndarrays of float64, (features,)
    folded : tuple of three ndarrays of float64, or None
        The same, repeated to the length of a row; None where runs are long enough for `runs`.
    """

    rows: Callable[..., None]
    runs: Callable[..., None]
    weave: Callable[..., None] | None
    numbers: Numbers
    folded: Numbers | None


def jobs_of(
    kernels: ModuleType, task: Task, look: Callable[[_Array], None] | None = None
) -> Iterator[_Job]:
    """All that there is to do, in pieces that may be done in any order."""
    jobs = _direct(kernels, task)
    if look is not None and (jobs is None or not _ready(task.x)):
        look(task.x)
        look = None
    if jobs is not None:
        return jobs if look is None else (partial(_looked, look, job) for job in jobs)
    scratch = _Scratch(kernels)
    return (partial(scratch.apply, part) for part in split(task, _BLOCK))


def _looked(look: Callable[[_Array], None], job: Any) -> None:
    """Look at the piece that a job is about to map: the first of what its kernel is given."""
    look(job.args[0])
    job()


# ---------------------------------------------------------------- arrays as they are


def _direct(kernels: ModuleType, task: Task) -> Iterator[_Job] | None:
    """Jobs on the arrays themselves; None where they are not made for that."""
    x, out = task.x, task.out
    first, last = _middle(task)
    if not all(task.kept[first:last]) or not _ready(out) or name_of(x.dtype) not in _TAKEN:
        return None
    in_place = same_memory(x, out)
    if in_place and (x.dtype != out.dtype or x.dtype.kind != "f"):
        return None
    woven = None if _ready(x) else _woven(task)
    if woven is None and not _ready(x):
        return None
    loops = _loops(kernels, task, in_place)
    if loops is None:
        return None
    if woven is None:
        shape = _three(task)
        return _lines(loops, _given(x).reshape(shape), _written(out).reshape(shape))
    if loops.weave is None:
        return None
    return _weave(loops, loops.weave, kernels.TILE, _given(woven), _written(out))


def _middle(task: Task) -> tuple[int, int]:
    """The range of axes from the first one that is kept to the last one."""
    if True not in task.kept:
        return task.x.ndim, task.x.ndim
    return task.kept.index(True), task.x.ndim - task.kept[::-1].index(True)


def _three(task: Task) -> _Shape:
    """(outer, features, run)."""
    shape, (first, last) = task.x.shape, _middle(task)
    return prod(shape[:first]), prod(shape[first:last]), prod(shape[last:])


def _ready(array: _Array) -> bool:
    return array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative


def _given(x: _Array) -> _Array:
    """As kernels take it: read-only, or each of them would be compiled twice."""
    view = x.view(np.uint8) if x.dtype.kind == "b" else x.view()
    view.flags.writeable = False
    return view


def _written(out: _Array) -> _Array:
    """As kernels write it."""
    return out.view(_HALVES.get(name_of(out.dtype), out.dtype))


def _woven(task: Task) -> _Array | None:
    """The data in C order, three axes, if its last two must only change places on the way.

    Forward it is (outer, pixels, features), to become planes; backward (outer, features, pixels).
    """
    x = task.x
    forward = task.way == "forward"
    kept = (False, True, False) if forward else (False, False, True)
    if x.ndim not in (2, 3) or task.kept != kept[-x.ndim :]:
        return None
    woven = np.moveaxis(x, -1, -2)
    features = woven.shape[-1] if forward else woven.shape[-2]
    if features > _WOVEN or not _ready(woven):
        return None
    return woven.reshape(-1, *woven.shape[-2:])


def _lines(loops: _Loops, x: _Array, out: _Array) -> Iterator[_Job]:
    """From (outer, features, run) to the same."""
    if loops.folded is not None:
        yield from _rows(loops.rows, loops.folded, x.reshape(-1), out.reshape(-1))
        return
    for index in pieces(x.shape, _PIECE):
        numbers = (a[index[1]] for a in loops.numbers)
        yield partial(loops.runs, x[index], *numbers, out[index])


def _rows(kernel: Callable[..., None], numbers: Numbers, x: _Array, out: _Array) -> Iterator[_Job]:
    """A sequence along which the numbers repeat."""
    width = len(numbers[0])
    whole = x.size - x.size % width
    xs, ys = (a[:whole].reshape(-1, width) for a in (x, out))
    for index in pieces(xs.shape, _PIECE) if whole else ():
        yield partial(kernel, xs[index], *(a[index[1]] for a in numbers), ys[index])
    if rest := x.size - whole:
        xs, ys = (a[whole:].reshape(1, rest) for a in (x, out))
        yield partial(kernel, xs, *(a[:rest] for a in numbers), ys)


def _weave(
    loops: _Loops, kernel: Callable[..., None], tile: int, x: _Array, out: _Array
) -> Iterator[_Job]:
    """From (outer, pixels, features) to (outer, features, pixels), or back."""
    outer, second, third = x.shape
    features = len(loops.numbers[0])
    tiles = outer * -(-(second * third // features) // tile)
    step = max(1, _PIECE // (tile * features))
    out = out.reshape(outer, third, second)
    for first in range(0, tiles, step):
        yield partial(kernel, x, first, min(first + step, tiles), *loops.numbers, out)


# ---------------------------------------------------------------- kernels and their numbers


_NAMES = {
    "forward": "{}",
    "forward in place": "{}_over",
    "quickly forward": "quick_{}",
    "backward": "back_{}",
    "backward in place": "back_{}_over",
    "backward to integers": "whole_{}",
}


def _loops(kernels: ModuleType, task: Task, in_place: bool) -> _Loops | None:
    """Kernels for data of a dtype that they take; None if they do not give the result's."""
    _, features, run = _three(task)
    x, out = name_of(task.x.dtype), task.out.dtype.newbyteorder("=")
    way = f"{task.way} in place" if in_place else task.way
    few = x in _CODES and _CODES[x] * features <= min(_CHECKED, task.x.size)
    if way == "forward" and few:
        way = "quickly forward"
    if way == "backward" and name_of(out) not in ("float32", "float64"):
        if name_of(out) not in _WHOLE:
            return None
        way = "backward to integers"
    if features * run > _FOLD and run > 1:
        run = 0  # long enough for a loop of its own
    shift, scale, offset = task.numbers
    if shift.size == features <= _REMEMBERED:
        numbers = shift.tobytes(), scale.tobytes(), offset.tobytes()
        return _remembered(kernels, way, x, out, run, numbers)
    first, last = _middle(task)
    index: Any = (*(0,) * first, ..., *(0,) * (task.x.ndim - last))
    shape = task.x.shape[first:last]
    shift, scale, offset = (np.broadcast_to(a[index], shape).reshape(-1) for a in task.numbers)
    return _made(kernels, way, x, out, run, (shift, scale, offset))


@lru_cache(maxsize=64)
def _remembered(
    kernels: ModuleType,
    way: str,
    x: str,
    out: np.dtype[Any],
    run: int,
    numbers: tuple[bytes, bytes, bytes],
) -> _Loops:
    shift, scale, offset = (np.frombuffer(a) for a in numbers)
    return _made(kernels, way, x, out, run, (shift, scale, offset))


def _made(
    kernels: ModuleType, way: str, x: str, out: np.dtype[Any], run: int, numbers: Numbers
) -> _Loops:
    if way == "quickly forward":
        quick = _with_rates(kernels, x, out, numbers)
        way, numbers = ("forward", numbers) if quick is None else (way, quick)
    found: list[Any] = [
        getattr(kernels, _NAMES[way].format(n), None) for n in ("rows", "runs", "weave")
    ]
    if way == "backward to integers":
        found = [partial(_checked, kernel, out) for kernel in found]
    elif way.endswith("in place"):
        found = [kernel and partial(_over, kernel) for kernel in found]
    rows, runs, weave = found
    numbers, folded = _laid_out(numbers, run, "forward" in way)
    return _Loops(rows, runs, weave, numbers, folded)


def _laid_out(numbers: Numbers, run: int, forward: bool) -> tuple[Numbers, Numbers | None]:
    """The numbers for runs, and repeated for rows if `run` is not 0.

    Rows know no offset at all as a vector of length 0; to runs it is -0.0 on the way forward.
    """
    shift, scale, offset = numbers
    some = offset.any()
    if run == 1:
        offset = unless_zero(offset) if some and forward else offset
    elif forward:
        offset = unless_zero(offset)
    shift, scale, offset = (_frozen(a) for a in (shift, scale, offset))
    numbers = shift, scale, offset
    if run == 0:
        return numbers, None
    fold = max(1, _FOLD // (len(shift) * run))
    if run * fold > 1:
        shift, scale, offset = (_frozen(np.tile(np.repeat(a, run), fold)) for a in numbers)
    return numbers, (shift, scale, offset if some else offset[:0])


def _frozen(vector: _Floats) -> _Floats:
    return _given(np.ascontiguousarray(vector, np.float64))


def _with_rates(
    kernels: ModuleType, x: str, out: np.dtype[Any], numbers: Numbers
) -> Numbers | None:
    """1 / scale for scale, if multiplying gives the formula's bits for every integer."""
    shift, scale, offset = (_frozen(a) for a in numbers)
    with np.errstate(all="ignore"):
        quick = shift, _frozen(1 / scale), _frozen(unless_zero(offset))
    codes = np.arange(_CODES[x], dtype=np.uint16 if _CODES[x] > 256 else np.uint8)
    codes = codes if x == "bool" else codes.view(x)
    grid = _given(np.repeat(codes, len(shift)).reshape(len(codes), -1))
    expected, found = np.empty(grid.shape, out), np.empty(grid.shape, out)
    by_row = shift[None], scale[None], offset[None]
    apply_plain(Task("forward", grid, expected, by_row, (False, True)))
    kernels.quick_rows(grid, *quick, _written(found))
    return quick if expected.tobytes() == found.tobytes() else None


def _over(kernel: Callable[..., None], _: _Array, *rest: _Array) -> None:
    """Call a kernel that works in place: its data is the result's memory."""
    *numbers, out = rest
    kernel(out, *numbers)


def _checked(kernel: Callable[..., bool], dtype: np.dtype[Any], *rest: Any) -> None:
    """Call a kernel into integers, which says whether there was a NaN."""
    *given, out = rest
    info = np.iinfo(dtype)
    if kernel(*given, float(info.min), float(info.max), out):
        raise nan_error(dtype)


# ---------------------------------------------------------------- through a small copy


class _Scratch:
    """Does blocks of any layout; what the blocks of a task share is worked out once."""

    def __init__(self, kernels: ModuleType) -> None:
        self._kernels = kernels
        self._known: dict[Any, _Loops | None] = {}
        self._memory = local()

    def apply(self, task: Task) -> None:
        """Copy the block in where it must be, run the loops, copy the result out likewise."""
        task = self._copied(_squeezed(task))
        loops = self._loops(task)
        if loops is None:
            return apply_plain(task)
        out, shape = task.out, _three(task)
        native = out.dtype.newbyteorder("=")
        target = out if _ready(out) else self._buffer("out", out.shape, native)
        for job in _lines(loops, _given(task.x).reshape(shape), _written(target).reshape(shape)):
            job()
        if target is not out:
            out[...] = target
        return None

    def _copied(self, task: Task) -> Task:
        """The block with data that kernels take, and that is not the result's memory."""
        x = task.x
        name = name_of(x.dtype)
        if name in _TAKEN and _ready(x) and not same_memory(x, task.out):
            return task
        wanted = name if name in _TAKEN else "float32" if name in _HALVES else "float64"
        copy = self._buffer("x", x.shape, np.dtype(wanted))
        with np.errstate(invalid="ignore"):  # a signaling NaN is no news
            copy[...] = x
        return replace(task, x=copy)

    def _buffer(self, role: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Array:
        """Memory of this thread: fresh memory would cost more than what is done with it."""
        memory = getattr(self._memory, role, None)
        size = prod(shape) * dtype.itemsize
        if memory is None or memory.size < size:
            memory = np.empty(size, np.uint8)
            setattr(self._memory, role, memory)
        return memory[:size].view(dtype).reshape(shape)

    def _loops(self, task: Task) -> _Loops | None:
        places = (a.__array_interface__["data"][0] for a in task.numbers)
        where = *places, task.x.shape
        if where not in self._known:
            if len(self._known) > 8:
                self._known.clear()
            self._known[where] = _loops(self._kernels, task, in_place=False)
        return self._known[where]


def _squeezed(task: Task) -> Task:
    """Without the axes of length 1."""
    if 1 not in task.x.shape:
        return task
    shift, scale, offset = (
        np.squeeze(a, tuple(i for i, n in enumerate(task.x.shape) if n == 1)) for a in task.numbers
    )
    kept = tuple(k for k, n in zip(task.kept, task.x.shape, strict=True) if n > 1)
    return Task(task.way, np.squeeze(task.x), np.squeeze(task.out), (shift, scale, offset), kept)
