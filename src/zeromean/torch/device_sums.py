"""Exact sums on the device where a tensor lives: windows first, then fixed point in integers.

A finite float is ±m·2^e with integers m and e. With the format's smallest number as the unit it
is the integer ±m << (e - e_min), which goes into limbs of 32 bits, each held in an int64 with
room for carries. Nearly all values are first summed up in blocks, in float64 and without error
(`zeromean.torch.device_windows`); the sums of the blocks go into the limbs, and so does, one by
one, what falls outside the windows. No step rounds, so the order in which a device adds cannot
matter, and the results are the ones that the processor gives (`zeromean.statistics.Moments`),
bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zeromean.statistics import Extrema, Moments
from zeromean.statistics.formats import UNIT_EXPONENT, exact, frozen
from zeromean.torch.device_windows import FLOAT32, FLOAT64
from zeromean.torch.normalizing import WITHOUT_FLOAT64

_LIMB = (1 << 32) - 1
_DIGIT = (1 << 16) - 1
_LOWEST = -(1 << 63)
CARRY_ROWS = 1 << 24  # of integers: each sample adds less than 2^36 to an int64
#: Of floats: samples after which limbs, which hold 2^63, are carried. Each adds less than 2^40 to
#: a limb: its block's sums in at most 16 windows of 6 squares, itself 3 times, each below 2^33.
_CARRY = 1 << 22
_FEW_ROWS = 8  # sums of fewer are hardly fewer than the values themselves
_AT_ONCE = 1 << 20  # what is placed together: each takes some thirty int64 on the way
_COPIES = 1024  # columns of limbs, so that not all values of few features add to the same ones
_Waiting = list[tuple[Tensor, ...]]


class FloatSums:
    """Running Σx, Σx², special counts and extrema of floats, feature by feature.

    Parameters
    ----------
    n_features : int
    dtype : str
        float16, bfloat16, float32 or float64.
    device : torch.device
    """

    def __init__(self, n_features: int, dtype: str, device: torch.device) -> None:
        wide = dtype == "float64"
        self.dtype, self.n_features, self._rows, self._uncarried = dtype, n_features, 0, 0
        self._own, self._unit = (torch.float64, -1074) if wide else (torch.float32, -149)
        self._window, self._bits = (FLOAT64, 52) if wide else (FLOAT32, 23)
        self._windowed = device.type not in WITHOUT_FLOAT64
        top, square = (2045, 4144) if wide else (253, 506)  # where the largest values are placed
        self._n_limbs = (top >> 5) + 4, (square >> 5) + 4  # of Σx, then of Σx²
        self._copies = max(1, _COPIES // max(n_features, 1))
        self._width = self._copies * n_features
        shape = sum(self._n_limbs), self._width
        self._limbs = torch.zeros(shape, dtype=torch.int64, device=device)
        self._special = torch.zeros((3, n_features), dtype=torch.int64, device=device)
        self._low = torch.full((n_features,), torch.inf, dtype=self._own, device=device)
        self._high = -self._low
        # What waits for `_settle`, so that a few large operations do the work of many small ones:
        self._ends: _Waiting = []  # low, high
        self._blocks: _Waiting = []  # exponents of windows, then the integers of each part
        self._single: _Waiting = []  # values, columns

    def add(self, rows: Tensor) -> None:
        """Add rows, (n_samples, n_features), fewer than 2^31 values."""
        if not rows.numel():
            return
        self._rows += len(rows)
        self._uncarried += len(rows) // self._copies + 8  # the cut leaves at most 4 remainders
        for blocks in self._window.blocks(rows.to(self._own).contiguous()):
            self._add_blocks(*self._finite(blocks))
        waiting = (*self._ends, *self._blocks, *self._single)
        if self._uncarried > _CARRY or sum(len(w) * w[0].numel() for w in waiting) > _AT_ONCE:
            self._settle()

    def _finite(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks with 0 for what is not finite, and max |x| of each block and lane.

        Special values and extrema are noted on the way.
        """
        low, high = torch.aminmax(blocks, dim=1)  # NaN where there is one
        largest = torch.maximum(-low, high)
        if not math.isfinite(largest.max()):
            special = (blocks.isnan(), blocks == torch.inf, blocks == -torch.inf)
            for counts, found in zip(self._special, special, strict=True):
                counts += found.sum(1).view(-1, self.n_features).sum(0)
            finite = blocks.isfinite()
            low = torch.where(finite, blocks, torch.inf).amin(1)
            high = torch.where(finite, blocks, -torch.inf).amax(1)
            blocks = torch.where(finite, blocks, 0)
            largest = torch.maximum(-low, high).clamp(min=0)  # of nothing, -inf
        self._ends.append((low, high))
        return blocks, largest

    def _add_blocks(self, blocks: Tensor, largest: Tensor) -> None:
        """Add window below window, while many values are left and each takes a fair share."""
        size = left = blocks.numel()
        if blocks.shape[1] < _FEW_ROWS or not self._windowed:
            self._single.append((blocks.flatten().clone(), self._columns(size)))  # not a view
            return
        while True:
            rare, exponents, integers = self._window.sums(blocks, largest)
            self._blocks.append((exponents, *integers))
            places = rare.flatten().nonzero()[:, 0]
            before, left = left, len(places)
            if left <= size >> 7 or before - left < size >> 4:
                break
            blocks = torch.where(rare, blocks, 0)
            largest = blocks.abs().amax(1)
        self._single.append((blocks.flatten()[places], places % self._width))

    def _columns(self, size: int) -> Tensor:
        """Columns of limbs for values that are in the order of whole rows of features."""
        return torch.arange(size, device=self._limbs.device) % self._width

    def _settle(self) -> None:
        """Bring what waits into extrema and limbs."""
        if not self._single:  # then nothing waits
            return
        low, high = (end.view(-1, self.n_features) for end in _joined(self._ends))
        self._low = torch.minimum(self._low, low.amin(0))
        self._high = torch.maximum(self._high, high.amax(0))
        values, columns = (each.split(_AT_ONCE) for each in _joined(self._single))
        summands = self._of_blocks() if self._blocks else []
        for x, column in zip(values, columns, strict=True):
            _place(self._limbs, *_joined(summands + self._of_values(x, column)))
            summands = []
        for waiting in (self._ends, self._blocks, self._single):
            waiting.clear()
        if self._uncarried > _CARRY:
            for limbs in self._limbs.split(self._n_limbs):
                _carry(limbs)
            self._uncarried = 0

    def _of_blocks(self) -> _Waiting:
        """The sums of blocks for `_place`: integers, positions, columns."""
        exponents, *integers = _joined(self._blocks)
        one = exponents.to(torch.int64) - self._window.top - self._unit  # where y = 1 is
        columns = self._columns(len(one))
        return [
            (total.to(torch.int64), self._begin(power) + power * one + place, columns)
            for (power, place), total in zip(self._window.parts, integers, strict=True)
        ]

    def _of_values(self, x: Tensor, columns: Tensor) -> _Waiting:
        """Single values and their squares for `_place`: integers, positions, columns."""
        mantissa, exponent = self._split(x)
        square = self._begin(2) + 2 * exponent
        signed = (torch.where(x < 0, -mantissa, mantissa), exponent, columns)
        if self._own == torch.float32:
            return [signed, (mantissa * mantissa, square, columns)]
        # 53 bits in halves of 27, since the square of 32 bits would overflow
        low, high = mantissa & ((1 << 27) - 1), mantissa >> 27
        middle = (2 * low * high, square + 27, columns)
        return [signed, (low * low, square, columns), middle, (high * high, square + 54, columns)]

    def _begin(self, power: int) -> int:
        """Where the limbs of Σ x**power begin, in bits."""
        return 32 * self._n_limbs[0] if power == 2 else 0

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """|x| as mantissa << exponent on the format's unit."""
        narrow = self._own == torch.float32
        bits = x.view(torch.int32 if narrow else torch.int64).to(torch.int64)
        magnitude = bits & ((1 << (31 if narrow else 63)) - 1)
        exponent = magnitude >> self._bits
        leading = (exponent > 0).to(torch.int64) << self._bits
        return (magnitude & ((1 << self._bits) - 1)) | leading, exponent.clamp(min=1) - 1

    def finish(self) -> tuple[Moments, Extrema]:
        """The exact results."""
        self._settle()
        limbs = self._limbs.reshape(len(self._limbs), self._copies, self.n_features).sum(1)
        shift = UNIT_EXPONENT[self.dtype] - self._unit  # halves are multiples of their own unit
        sums, squares = (
            exact([whole >> power * shift for whole in _integers(part)])
            for power, part in enumerate(limbs.split(self._n_limbs), start=1)
        )
        special = frozen(np.ascontiguousarray(_numpy(self._special).T))
        n = frozen(self._rows - special.sum(axis=1))
        low, high = (_numpy(end).astype(np.float64) for end in (self._low, self._high))
        low[n == 0] = high[n == 0] = np.nan
        return Moments(self.dtype, n, sums, squares, special), Extrema.between(low, high)


def _joined(waiting: _Waiting) -> list[Tensor]:
    """Tensors end to end, place by place of the tuples."""
    return [torch.cat([part.flatten() for part in parts]) for parts in zip(*waiting, strict=True)]


def _place(limbs: Tensor, values: Tensor, positions: Tensor, columns: Tensor) -> None:
    """Add values << positions, |values| < 2^54, to columns of limbs; all three (n_values,)."""
    within = positions & 31
    low, high = (values & _LIMB) << within, (values >> 32) << within  # below 2^63 and 2^53
    parts = (low & _LIMB, (low >> 32) + (high & _LIMB), high >> 32)
    index = (positions >> 5) * limbs.shape[1] + columns
    for i, part in enumerate(parts):  # integers: the order of atomic additions does not matter
        limbs.view(-1).index_add_(0, index + i * limbs.shape[1], part)


def _carry(limbs: Any) -> None:
    """Bring all limbs but the last into 0 .. 2^32 - 1."""
    for i in range(len(limbs) - 1):
        limbs[i + 1] += limbs[i] >> 32
        limbs[i] &= _LIMB


def _integers(limbs: Tensor) -> list[int]:
    """Limbs, (n_limbs, n_features), as Python integers."""
    held = _numpy(limbs)
    _carry(held)
    low, top = np.ascontiguousarray(held[:-1].T.astype("<u4")), held[-1].tolist()
    size, raw = low.shape[1] * 4, low.tobytes()
    return [
        int.from_bytes(raw[j * size : (j + 1) * size], "little") + (end << size * 8)
        for j, end in enumerate(top)
    ]


class IntegerSums:
    """Running Σx, Σx² and extrema of integers, feature by feature.

    Values are split into 16-bit digits, so that products of digits sum up within an int64.

    Parameters
    ----------
    n_features : int
    dtype : str
        Any integer format, or bool.
    device : torch.device
    """

    def __init__(self, n_features: int, dtype: str, device: torch.device) -> None:
        self.dtype, self._rows, self._uncarried = dtype, 0, 0
        self._digits = 4 if "64" in dtype else 2 if "32" in dtype else 1
        self._sums = torch.zeros((self._digits, n_features), dtype=torch.int64, device=device)
        self._squares = self._sums.new_zeros((2 * self._digits - 1, n_features))
        self._whole = [0] * n_features, [0] * n_features
        self._low = self._sums.new_full((n_features,), -1 - _LOWEST)
        self._high = self._sums.new_full((n_features,), _LOWEST)

    def add(self, rows: Tensor) -> None:
        """Add a block, (n_samples, n_features), of at most `CARRY_ROWS` samples."""
        if not rows.numel():
            return
        self._rows += len(rows)
        self._uncarried += len(rows)
        if self._uncarried > CARRY_ROWS:
            self._carry()
            self._uncarried = len(rows)
        unsigned = rows.dtype == torch.uint64
        wide = rows.view(torch.int64) if unsigned else rows.to(torch.int64)
        ordered = wide ^ _LOWEST if unsigned else wide
        self._low = torch.minimum(self._low, ordered.amin(0))
        self._high = torch.maximum(self._high, ordered.amax(0))
        digits = [(wide >> 16 * i) & _DIGIT for i in range(self._digits)]
        if not unsigned:
            digits[-1] = wide >> 16 * (self._digits - 1)  # the top digit has the sign
        for i, first in enumerate(digits):
            self._sums[i] += first.sum(0)
            self._squares[2 * i] += (first * first).sum(0)
            for j, second in enumerate(digits[:i]):
                self._squares[i + j] += (first * second).sum(0) * 2

    def _carry(self) -> None:
        """Move what has gathered into Python integers."""
        for whole, parts in zip(self._whole, (self._sums, self._squares), strict=True):
            for i, part in enumerate(_numpy(parts).tolist()):
                whole[:] = [w + (p << 16 * i) for w, p in zip(whole, part, strict=True)]
            parts.zero_()

    def finish(self) -> tuple[Moments, Extrema]:
        """The exact results."""
        features = len(self._low)
        if self._rows == 0:
            return Moments.empty(features, self.dtype), Extrema.empty(features, self.dtype)
        self._carry()
        sums, squares = (exact(whole) for whole in self._whole)
        n = frozen(np.full(features, self._rows, np.int64))
        special = frozen(np.zeros((features, 3), np.int64))
        low, high = _numpy(self._low), _numpy(self._high)
        if self.dtype == "uint64":
            low, high = ((end ^ _LOWEST).view(np.uint64) for end in (low, high))
        return Moments(self.dtype, n, sums, squares, special), Extrema.between(low, high)


def _numpy(values: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = values.to("cpu", copy=True).numpy()
    return array
