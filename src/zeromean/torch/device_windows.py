"""Sums of floats on a device that make no error: plain float64 additions, inside windows.

If every summand is a multiple of 2^k and every partial sum is at most 2^(k+53), float64
additions are exact, in whatever order a device makes them. A *window* sees to that. Rows are cut
into blocks. In a block, a column with all |x| < 2^e is multiplied by 2^(top - e), so |y| < 2^top,
and what then is at most 2^low is left out: those values are *rare*, and summed elsewhere. What
stays is a multiple of the last place of 2^low, so y and y² have few bits:

* float32, top = 21, low = 1, blocks of up to 2^10 rows. y is a multiple of 2^(1-23) = 2^-22, and
  Σ|y| <= 2^(21+10): 53 bits. y² has 48 bits, so the product is exact, and a multiple of 2^-44.
  It is cut at the binary point: the nearest integers, at most 2^42, sum up to at most 2^52; the
  rests, at most 2^-1, to at most 2^9, on 2^-44: 53 bits.
* float64, top = 22, low = 8, blocks of up to 2^9 rows. y is a multiple of 2^(8-52) = 2^-44, and
  is cut into three integers, h + 2^-22·m + 2^-44·l with |h| <= 2^22 and |m|, |l| <= 2^21. They
  sum up to at most 2^31, and their products, at most 2^44, to at most 2^53.

This is the error-free extraction of Rump, Ogita and Oishi, *Accurate Floating-Point Summation
Part I*, SIAM J. Sci. Comput. 31(1), 2008, as in `zeromean.kernels.floats`, in the operations that
PyTorch has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_LANES = 64  # rows of fewer values are folded to about that many: a GPU reads them well


@dataclass(frozen=True)
class Window:
    """Which values a plain float64 sum adds without error, and how.

    Attributes
    ----------
    rows : int
        Of a block, at most.
    top, low : int
        Scaled values y with 2**low < |y| < 2**top are summed.
    lowest : int
        Least e of a block: below it, scales or positions would leave their range.
    parts : tuple of (power, place)
        What the sums are: Σ y**power is the sum over its parts of integer * 2**place.
    cut : callable
        From y, (n_blocks, n_rows, n_lanes), to the integers of each part, (n_blocks, n_lanes),
        as float64; at most 2**53.
    """

    rows: int
    top: int
    low: int
    lowest: int
    parts: tuple[tuple[int, int], ...]
    cut: Callable[[Tensor], list[Tensor]]

    def blocks(self, rows: Tensor) -> Iterator[Tensor]:
        """Views (n_blocks, n_rows, n_lanes) of rows, (n_samples, n_features).

        Lane j holds values of feature j % n_features.
        """
        features = rows.shape[1]
        while len(rows):
            fold = _LANES // features if len(rows) >= self.rows * _LANES else 1
            fold = 1 << max(fold.bit_length() - 1, 0)  # powers of two leave less over
            n = self._n_blocks(len(rows) // fold)
            length = len(rows) // fold // n
            whole = rows[: n * length * fold]
            yield whole.reshape(n, length, fold * features)
            rows = rows[len(whole) :]

    def _n_blocks(self, rows: int) -> int:
        """As few as can be; up to twice as many if then they are equally long."""
        least = -(-rows // self.rows)
        return next((n for n in range(least, 2 * least) if rows % n == 0), least)

    def sums(self, blocks: Tensor, largest: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Exact sums over the rows of blocks, of what lies in the window of its block and lane.

        Parameters
        ----------
        blocks : Tensor, (n_blocks, n_rows, n_lanes)
            Finite.
        largest : Tensor, (n_blocks, n_lanes)
            max |x| over the rows.

        Returns
        -------
        rare : Tensor of bool, like blocks
            Which values are not in the sums.
        exponents : Tensor of int32, (n_blocks, n_lanes)
            y = x * 2**(top - exponent).
        integers : list of Tensor of float64, (n_blocks, n_lanes)
            For each of `parts`.
        """
        exponents = torch.frexp(largest).exponent.clamp(min=self.lowest)
        y = blocks * _power_of_two(self.top - exponents, blocks.dtype)[:, None]  # exact, or rare
        kept = torch.nn.functional.hardshrink(y, 2.0**self.low)  # y where |y| > 2^low, else 0
        rare = torch.logical_xor(kept, blocks)  # zero there, but not here
        return rare, exponents, self.cut(kept)


def _power_of_two(exponents: Tensor, dtype: torch.dtype) -> Tensor:
    """2**exponents by their bits, for normal numbers."""
    if dtype == torch.float32:
        return ((exponents + 127) << 23).view(torch.float32)
    return ((exponents.to(torch.int64) + 1023) << 52).view(torch.float64)


def _cut32(kept: Tensor) -> list[Tensor]:
    """Σy, and Σy² in two parts."""
    y = kept.to(torch.float64)
    total = y.sum(1)
    square = y.mul_(y)
    whole = square.round()
    return [total * 2.0**22, whole.sum(1), square.sub_(whole).sum(1) * 2.0**44]


def _cut64(y: Tensor) -> list[Tensor]:
    """Σy and Σy² from digits of 22 bits."""
    high = y.round()
    rest = (y - high).mul_(2.0**22)
    middle = rest.round()
    digits = (high, middle, rest.sub_(middle).mul_(2.0**22))
    return [digit.sum(1) for digit in digits] + [
        (digits[i] * digits[j]).sum(1) * (1 if i == j else 2) for i, j in _PAIRS
    ]


_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
_PARTS64 = (*((1, -22 * i) for i in range(3)), *((2, -22 * (i + j)) for i, j in _PAIRS))

FLOAT32 = Window(1024, top=21, low=1, lowest=-106, parts=((1, -22), (2, 0), (2, -44)), cut=_cut32)
FLOAT64 = Window(512, top=22, low=8, lowest=-1000, parts=_PARTS64, cut=_cut64)
