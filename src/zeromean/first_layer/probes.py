"""Raw inputs on which a folded model is compared with the one that it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
#: What axes of any length are tried with, one after the other, until a model takes them.
SIZES = (32, 224, 28, 64, 96, 128, 16, 8, 299, 256, 384, 512)
MOST_PROBED = 1 << 22  # numbers in one raw input that is only tried


@dataclass(frozen=True, slots=True)
class Probes:
    """Raw inputs in a normalizer's range, its ends included.

    Attributes
    ----------
    raw : ndarray of float64, (n, ...)
        In the axes of the model.
    measured : ndarray of float64, (n, ...)
        The same in the axes of the pattern.
    """

    raw: _Array
    measured: _Array

    @classmethod
    def of(
        cls,
        norm: Normalizer,
        shape: tuple[int, ...],
        layout: str,
        *,
        as_bytes: bool = False,
        count: int = 4,
    ) -> Probes:
        """Random values, and one probe each of the lowest, the highest and both in turn.

        Parameters
        ----------
        norm : Normalizer
        shape : tuple of int
            Of the model's input; its first axis is not looked at.
        layout : {"hwc", "chw"}
        as_bytes : bool
            Whole numbers from 0 to 255, for a model that takes uint8, whatever was measured.
        count : int
            Of random probes.
        """
        rng = np.random.default_rng(20)
        size = (count + 3, *shape[1:])
        measured = (*size[:-3], *size[-2:], size[-3]) if layout == "chw" else size
        values = _in_range(norm, rng, measured, as_bytes)
        return cls(np.moveaxis(values, -1, -3) if layout == "chw" else values, values)

    def normalized(self, norm: Normalizer, dtype: Any, layout: str) -> _Array:
        """What the model took before, in its axes."""
        return _normalized(norm, self.measured, dtype, layout)

    def nudged(self, norm: Normalizer, dtype: Any, layout: str, by: float) -> _Array:
        """The same for raw values that are a little off, each up or down, within their range.

        Parameters
        ----------
        norm : Normalizer
        dtype : numpy dtype
        layout : {"hwc", "chw"}
        by : float
            How far, relative to the value and the shift together: these are what a folded layer
            adds up, and so the size of what it rounds.
        """
        shift: _Array = norm.pattern.spread(norm.shift, self.measured.shape)
        signs = np.random.default_rng(21).choice([-by, by], self.measured.shape)
        moved = self.measured + signs * (np.abs(self.measured) + np.abs(shift))
        if norm.units.range is not None:
            moved = moved.clip(*norm.units.range)
        return _normalized(norm, moved, dtype, layout)


def _normalized(norm: Normalizer, measured: _Array, dtype: Any, layout: str) -> _Array:
    exact: _Array = norm(measured, dtype=dtype)
    moved: _Array = np.moveaxis(exact, -1, -3) if layout == "chw" else exact
    return moved


def _in_range(
    norm: Normalizer, rng: np.random.Generator, shape: tuple[int, ...], as_bytes: bool
) -> _Array:
    limits = (0, 255) if as_bytes else norm.units.range
    if limits is None:
        return _around(norm, rng, shape)
    low, high = limits
    values = rng.uniform(low, high, shape)
    if as_bytes or not norm.dtype.startswith(("float", "bfloat")):
        values = np.rint(values)
    values[-3], values[-2] = low, high
    values[-1] = np.where(np.indices(shape[1:]).sum(axis=0) % 2, low, high)
    return values


def _around(norm: Normalizer, rng: np.random.Generator, shape: tuple[int, ...]) -> _Array:
    """Values that become normal noise, where no range is known."""
    reduced = norm.matrix is not None and norm.matrix.shape[0] != norm.matrix.shape[1]
    if reduced:
        spread: _Array = norm.pattern.spread(norm.shift, shape)
        noise = rng.normal(size=shape) * float(np.abs(norm.shift).max(initial=1.0))
        return np.add(spread, noise)
    values: _Array = norm.invert(3 * rng.normal(size=shape), dtype="float64")
    return np.rint(values) if norm.dtype.startswith(("int", "uint")) else values
