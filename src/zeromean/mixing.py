"""Applies a whitening matrix to the samples of an array, and back, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.pattern import Pattern

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_BLOCK_BYTES = 16 << 20  # of float64 scratch; large enough for a fast matrix product


def reduced_shape(pattern: Pattern, shape: tuple[int, ...], n_out: int) -> tuple[int, ...]:
    """Shape of what is left when the kept axes become one last axis of another length.

    Parameters
    ----------
    pattern : Pattern
    shape : tuple of int
        Of the data, with all its axes.
    n_out : int

    Returns
    -------
    tuple of int
    """
    lengths, kept = pattern.layout(shape)
    return (*(n for i, n in enumerate(lengths) if i not in kept), n_out)


def mix(
    pattern: Pattern, x: _Array, shift: _Floats, matrix: _Floats, offset: _Floats, target: _Array
) -> None:
    """target = (x - shift) matrixᵀ + offset for every sample, in float64, rounded once.

    Parameters
    ----------
    pattern : Pattern
    x : ndarray
        With all its axes.
    shift : ndarray of float64, kept shape
    matrix : ndarray of float64, (n_out, n_features)
    offset : ndarray of float64, (n_out,)
    target : ndarray of floats
        Of the shape of `x` if n_out is n_features, else of `reduced_shape`.
    """
    center = shift.ravel()
    same = target.ndim == x.ndim and target.shape == x.shape and len(matrix) == len(center)
    for part, out in _parts(pattern, x, target):
        samples = samples_of(pattern, part).astype(np.float64)
        samples -= center
        y = samples @ matrix.T
        y += offset
        if same:
            put_back(pattern, y, out)
        else:
            out[...] = y.reshape(out.shape)


def unmix(
    pattern: Pattern,
    y: _Array,
    shift: _Floats,
    inverse: _Floats,
    offset: _Floats,
    *,
    reduced: bool,
) -> _Floats:
    """x = (y - offset) inverseᵀ + shift for every sample, in float64.

    Parameters
    ----------
    pattern : Pattern
    y : ndarray
        As `mix` left it.
    shift : ndarray of float64, kept shape
    inverse : ndarray of float64, (n_features, n_out)
    offset : ndarray of float64, (n_out,)
    reduced : bool
        Whether the kept axes of `y` are one last axis.

    Returns
    -------
    ndarray of float64
        Of the raw data's shape.
    """
    rows = y.reshape(-1, y.shape[-1]) if reduced else samples_of(pattern, y)
    x = rows.astype(np.float64)
    x -= offset
    x = x @ inverse.T
    x += shift.ravel()
    result = np.empty(_whole_shape(pattern, y, shift) if reduced else y.shape, np.float64)
    put_back(pattern, x, result)
    return result


def _whole_shape(pattern: Pattern, y: _Array, shift: _Floats) -> tuple[int, ...]:
    """Shape of the raw data: the kept axes back in their places, groups merged again."""
    others, kept = list(y.shape[:-1]), list(shift.shape)
    held = {True: kept, False: others}
    names = [name for group in pattern.axes for name in group]
    ranks = {True: len(kept), False: len(others)}
    for name in names:
        ranks[name in pattern.kept] -= name != "..."
    lengths: dict[str, list[int]] = {}
    for order, inside in ((pattern.kept, True), (names, False)):
        for name in order:
            if (name in pattern.kept) == inside:
                count = ranks[inside] if name == "..." else 1
                lengths[name] = [held[inside].pop(0) for _ in range(count)]
    shape: list[int] = []
    for group in pattern.axes:
        if group == ("...",):
            shape += lengths["..."]
        else:
            shape.append(math.prod(lengths[name][0] for name in group))
    return tuple(shape)


def samples_of(pattern: Pattern, x: _Array) -> _Array:
    """(n_samples, n_features); a view where memory order allows."""
    lengths, kept = pattern.layout(x.shape)
    order = [i for i in range(len(lengths)) if i not in kept] + kept
    features = math.prod(lengths[i] for i in kept)
    view = x.reshape(lengths).transpose(order)
    return view.reshape(view.size // features if features else 0, features)


def put_back(pattern: Pattern, rows: _Array, out: _Array) -> None:
    """Put samples back where `samples_of` took them from."""
    lengths, kept = pattern.layout(out.shape)
    order = [i for i in range(len(lengths)) if i not in kept] + kept
    back = rows.reshape([lengths[i] for i in order]).transpose(np.argsort(order))
    out[...] = back.reshape(out.shape)


def _parts(pattern: Pattern, x: _Array, target: _Array) -> Iterator[tuple[_Array, _Array]]:
    """Data and target side by side in blocks along the first axis, where it is the target's too."""
    if len(pattern.axes[0]) != 1 or len(target) != len(x):
        yield x, target
        return
    step = max(1, len(x) * _BLOCK_BYTES // max(8 * x.size, 1))
    for begin in range(0, len(x), step):
        yield x[begin : begin + step], target[begin : begin + step]
