"""Applies the affine map to arrays, element by element, as fast as memory allows, and back.

The formula is float64, operation by operation, and rounded once to the dtype of the result:

* `forward`: ``((x - shift) / scale) + offset``, where an offset of 0 is not added at all;
* `backward`: ``((y - offset) * scale) + shift``.

Two engines compute it and give the same bits (but for which of the many NaNs a NaN becomes):
plain NumPy in small blocks, which needs nothing else, and compiled loops, which large arrays use
where Numba is installed. Neither makes a copy as large as the array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.affine.plain import apply_plain
from zeromean.affine.tasks import Numbers, Task, name_of, same_memory, simplified, split
from zeromean.affine.threads import run
from zeromean.errors import PatternError

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_ALL = (
    *_FLOATS, "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
_SMALL = 1 << 13  # elements up to which NumPy is as fast, and Numba is not even imported
_BLOCK = 1 << 17  # elements whose float64 copy stays in the second-level cache


def forward(
    x: _Array,
    shift: _Floats,
    scale: _Floats,
    offset: _Floats,
    out: _Array,
    *,
    workers: int | None = None,
    look: Callable[[_Array], None] | None = None,
) -> None:
    """Write ``(x - shift) / scale + offset`` into `out`.

    Parameters
    ----------
    x : ndarray of booleans, integers or floats of at most 64 bits
        Any strides and byte order; may be the same memory as `out`.
    shift, scale, offset : ndarray of float64
        As many axes as `x`, each as long as there or of length 1.
    out : ndarray of float16, bfloat16, float32 or float64, shape of `x`
        Any strides: give a transposed view to change the layout on the way.
    workers : int, optional
        Threads; all cores for large arrays by default. The result does not depend on it.
    look : callable, optional
        Called with pieces of `x`, together all of it, each before it is mapped and while it is
        in the cache. What it raises ends the call, with `out` half written.

    Raises
    ------
    PatternError
        For shapes that do not fit and dtypes that are not known.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0, 10], [255, 20]], dtype=np.uint8)
    >>> out = np.empty(x.shape, np.float32)
    >>> forward(x, np.array([[127.5, 10]]), np.array([[127.5, 5]]), np.zeros((1, 1)), out)
    >>> out
    array([[-1.,  0.],
           [ 1.,  2.]], dtype=float32)
    """
    _apply("forward", x, (shift, scale, offset), out, workers, look)


def backward(
    y: _Array,
    shift: _Floats,
    scale: _Floats,
    offset: _Floats,
    out: _Array,
    *,
    workers: int | None = None,
    look: Callable[[_Array], None] | None = None,
) -> None:
    """Write ``(y - offset) * scale + shift`` into `out`.

    Parameters
    ----------
    y : ndarray
        As `x` of `forward`.
    shift, scale, offset : ndarray of float64
        As for `forward`.
    out : ndarray of booleans, integers or floats of at most 64 bits, shape of `y`
        Integers are rounded to nearest, ties to even, and clipped to their range.
    workers, look : optional
        As for `forward`.

    Raises
    ------
    PatternError
        As `forward`, and when NaN would have to become an integer.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([-1.0, 0.5, 3.0], dtype=np.float32)
    >>> out = np.empty(y.shape, np.uint8)
    >>> backward(y, np.array([127.5]), np.array([127.5]), np.zeros(1), out)
    >>> out
    array([  0, 191, 255], dtype=uint8)
    """
    _apply("backward", y, (shift, scale, offset), out, workers, look)


def _apply(
    way: str,
    x: _Array,
    numbers: Numbers,
    out: _Array,
    workers: int | None,
    look: Callable[[_Array], None] | None,
) -> None:
    numbers = _checked(way, x, numbers, out)
    if x.size == 0:
        return
    kept = tuple(n > 1 for n in numbers[0].shape)
    task = Task(way, np.asarray(_apart(x, out)), np.asarray(out), numbers, kept)
    kernels = None if x.size <= _SMALL else _kernels()
    if look is not None and kernels is None:
        look(x)
    if x.size <= _SMALL:
        apply_plain(task)
        return
    task = simplified(task)
    jobs: Iterator[Callable[[], None]]
    if kernels is None:
        jobs = (partial(apply_plain, part) for part in split(task, _BLOCK))
    else:
        from zeromean.affine.compiled import jobs_of

        jobs = jobs_of(kernels, task, look)
    run(jobs, x.size, workers)


def _checked(way: str, x: _Array, numbers: Numbers, out: _Array) -> Numbers:
    """The numbers, with one shape for all three.

    Raises
    ------
    PatternError
    """
    for array, known in ((x, _ALL), (out, _FLOATS if way == "forward" else _ALL)):
        if name_of(array.dtype) not in known:
            raise PatternError(
                f"cannot map {'from' if array is x else 'to'} dtype {array.dtype.name}; "
                f"use one of {', '.join(known)}"
            )
    if out.shape != x.shape:
        raise PatternError(f"out has shape {out.shape}; it must be that of the data, {x.shape}")
    if not out.flags.writeable:
        raise PatternError("out is read-only; give an array that can be written to")
    shape = numbers[0].shape
    if numbers[1].shape != shape or numbers[2].shape != shape:
        shape = np.broadcast_shapes(*(a.shape for a in numbers))
        shift, scale, offset = (np.broadcast_to(a, shape) for a in numbers)
        numbers = shift, scale, offset
    fits = len(shape) == x.ndim and all(m in (1, n) for m, n in zip(shape, x.shape, strict=True))
    if not fits:
        raise PatternError(f"numbers of shape {shape} do not spread over data of shape {x.shape}")
    return numbers


def _apart(x: _Array, out: _Array) -> _Array:
    """The data itself where it shares all or none of the result's memory; else a copy."""
    if not np.may_share_memory(x, out) or same_memory(x, out):
        return x
    try:
        shared = np.shares_memory(x, out, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        shared = True
    return x.copy() if shared else x


@cache
def _kernels() -> ModuleType | None:
    try:
        from zeromean.kernels import affine
    except ImportError:  # a slim machine without Numba
        return None
    return affine
