"""Exact sums on the device where a tensor lives: fixed point in 32-bit limbs, integers only.

A finite float is ±m·2^e with integers m and e. With the format's smallest number as the unit it
is the integer ±m << (e - e_min), which goes into limbs of 32 bits, each held in an int64 with
room for carries. No step rounds, so the order in which a device adds cannot matter, and the
results are the ones that the processor gives (`zeromean.statistics.Moments`), bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zeromean.statistics import Extrema, Moments
from zeromean.statistics.formats import UNIT_EXPONENT, exact, frozen

_LIMB = (1 << 32) - 1
_DIGIT = (1 << 16) - 1
_LOWEST = -(1 << 63)
_FEW = 6  # up to that many limbs, masked sums beat adding at indices
#: Samples after which limbs are carried: each adds less than 2^36 to a limb, which holds 2^63.
CARRY_ROWS = 1 << 25


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
        self.dtype, self._rows, self._uncarried = dtype, 0, 0
        self._own = torch.float64 if dtype == "float64" else torch.float32
        self._bits, top = (52, 2045) if dtype == "float64" else (23, 253)
        highest_square = 2 * top + (54 if dtype == "float64" else 0)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self._sums = zeros((top >> 5) + 4, n_features)
        self._squares = zeros((highest_square >> 5) + 4, n_features)
        self._special = zeros(3, n_features)
        self._low = torch.full((n_features,), torch.inf, dtype=self._own, device=device)
        self._high = -self._low

    def add(self, rows: Tensor) -> None:
        """Add a block, (n_samples, n_features), of at most `CARRY_ROWS` samples."""
        if not rows.numel():
            return
        self._rows += len(rows)
        self._uncarried += len(rows)
        if self._uncarried > CARRY_ROWS:
            _carry(self._sums)
            _carry(self._squares)
            self._uncarried = len(rows)
        rows = rows.to(self._own)
        mantissa, exponent = self._split(rows)
        if self._own == torch.float32:
            _place(self._squares, mantissa * mantissa, 2 * exponent)
        else:  # 53 bits in halves of 27, since the square of 32 bits would overflow
            low, high = mantissa & ((1 << 27) - 1), mantissa >> 27
            _place(self._squares, low * low, 2 * exponent)
            _place(self._squares, 2 * low * high, 2 * exponent + 27)
            _place(self._squares, high * high, 2 * exponent + 54)
        _place(self._sums, torch.where(rows < 0, -mantissa, mantissa), exponent)

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """|x| as mantissa << exponent on the format's unit; 0 for what is not finite.

        Special values and extrema are noted on the way.
        """
        narrow = self._own == torch.float32
        bits = rows.view(torch.int32 if narrow else torch.int64).to(torch.int64)
        magnitude = bits & ((1 << (31 if narrow else 63)) - 1)
        infinite = (255 if narrow else 2047) << self._bits
        finite = magnitude < infinite
        plus, minus = rows == torch.inf, rows == -torch.inf
        self._special += torch.stack([m.sum(0) for m in (magnitude > infinite, plus, minus)])
        self._low = torch.minimum(self._low, torch.where(finite, rows, torch.inf).amin(0))
        self._high = torch.maximum(self._high, torch.where(finite, rows, -torch.inf).amax(0))
        magnitude = torch.where(finite, magnitude, 0)
        exponent = magnitude >> self._bits
        leading = (exponent > 0).to(torch.int64) << self._bits
        mantissa = (magnitude & ((1 << self._bits) - 1)) | leading
        return mantissa, exponent.clamp(min=1) - 1

    def finish(self) -> tuple[Moments, Extrema]:
        """The exact results."""
        _carry(self._sums)
        _carry(self._squares)
        own = "float64" if self._own == torch.float64 else "float32"
        shift = UNIT_EXPONENT[self.dtype] - UNIT_EXPONENT[own]  # halves are multiples of their own
        sums = exact([s >> shift for s in _integers(self._sums)])
        squares = exact([q >> 2 * shift for q in _integers(self._squares)])
        special = frozen(np.ascontiguousarray(_numpy(self._special).T))
        n = frozen(self._rows - special.sum(axis=1))
        low, high = (_numpy(end).astype(np.float64) for end in (self._low, self._high))
        low[n == 0] = high[n == 0] = np.nan
        return Moments(self.dtype, n, sums, squares, special), Extrema.between(low, high)


def _place(limbs: Tensor, values: Tensor, positions: Tensor) -> None:
    """Add Σ values << positions to limbs, (n_limbs, n_features); |values| < 2^54."""
    within = positions & 31
    low, high = (values & _LIMB) << within, (values >> 32) << within  # below 2^63 and 2^53
    parts = (low & _LIMB, (low >> 32) + (high & _LIMB), high >> 32)
    places = positions >> 5
    places = torch.where(values == 0, places.max(), places)  # zeros may go anywhere
    first, last = (int(end) for end in torch.aminmax(places))
    if last - first < _FEW:
        for place in range(first, last + 1):
            here = places == place
            for i, part in enumerate(parts):
                limbs[place + i] += torch.where(here, part, 0).sum(0)
        return
    features = limbs.shape[1]
    index = (places * features + torch.arange(features, device=limbs.device)).flatten()
    for i, part in enumerate(parts):  # integers: the order of atomic additions does not matter
        limbs.view(-1).index_add_(0, index + i * features, part.flatten())


def _carry(limbs: Tensor) -> None:
    """Bring all limbs but the last into 0 .. 2^32 - 1."""
    for i in range(len(limbs) - 1):
        limbs[i + 1] += limbs[i] >> 32
        limbs[i] &= _LIMB


def _integers(limbs: Tensor) -> list[int]:
    """Carried limbs, (n_limbs, n_features), as Python integers."""
    held = _numpy(limbs)
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
    array: npt.NDArray[Any] = values.cpu().numpy().copy()
    return array
