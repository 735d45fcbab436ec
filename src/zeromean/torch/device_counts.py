"""Counts values on the device where a tensor lives; integers only, so in any order the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zeromean.statistics import Histogram

_SHORT = 1 << 15  # the squares of so many 8-bit values sum up to less than 2^31


class Counts:
    """Running counts of the bit patterns of each feature.

    Parameters
    ----------
    n_features : int
    dtype : str
        A format with at most 65 536 values.
    device : torch.device
    """

    def __init__(self, n_features: int, dtype: str, device: torch.device) -> None:
        self.n_features, self.dtype, self._n = n_features, dtype, 0
        self._narrow = dtype in ("bool", "uint8", "int8")
        self._bins = 256 if self._narrow else 65536
        size = n_features * self._bins
        self._counts = torch.zeros(size, dtype=torch.int64, device=device)
        begins = torch.arange(n_features, device=device) * self._bins
        if not self._narrow:
            begins += 1 << 15  # codes are signed: the least is -2^15
        self._begins = begins.to(torch.int32) if size < 1 << 31 else begins

    def add(self, values: Tensor) -> None:
        """Count values, fewer than 2^31, (..., n_features)."""
        self._n += values.numel()
        codes = values.view(torch.uint8 if self._narrow else torch.int16)
        self._counts += _tally(_flat(codes + self._begins), len(self._counts))

    def histogram(self) -> Histogram:
        """What was counted."""
        counts = self._counts.reshape(self.n_features, self._bins)
        if not self._narrow:
            counts = counts.roll(1 << 15, 1)  # from signed order to that of bit patterns
        if self._n < 1 << 31:  # the way to the processor is longer than all that went before
            counts = counts.to(torch.int32)
        return Histogram.of_tallies(counts.cpu().numpy().astype(np.int64), self.dtype)


def _flat(values: Tensor) -> Tensor:
    """All values, in the order in which they lie in memory."""
    order = sorted(range(values.ndim), key=values.stride, reverse=True)
    return values.permute(order).flatten()


def _tally(places: Tensor, size: int) -> Tensor:
    """How often each of 0 .. size - 1 occurs.

    On CUDA `torch.histc` of int32 counts in int32, which a GPU adds up several times faster than
    the int64 of `bincount`; some versions refuse it when deterministic operations are asked for,
    though integers are that.
    """
    if places.is_cuda and not torch.are_deterministic_algorithms_enabled():
        return torch.histc(places, bins=size, min=0, max=size)
    return torch.bincount(places, minlength=size)


def bucket_codes(rows: Tensor) -> Tensor:
    """float32 or float64 cut to bfloat16 toward zero, as bit patterns in int16.

    The same codes as those of `zeromean.quantiles.codes`.
    """
    single = rows.to(torch.float32)
    bits = single.view(torch.int32)
    if rows.dtype == torch.float64:
        away = single.abs().to(torch.float64) > rows.abs()
        bits = bits - (away & rows.isfinite()).to(torch.int32)  # one step toward zero
    cut = torch.where(rows.isnan(), 0x7FC0, bits >> 16)  # a NaN's bits may all be in the low half
    return cut.to(torch.int16)


def item_sums(items: Tensor) -> Tensor:
    """Σx and Σx² of each item of 8- or 16-bit integers.

    Parameters
    ----------
    items : Tensor, (n_items, n_samples, n_features)

    Returns
    -------
    Tensor of int64, (2, n_items, n_features)
    """
    if items.element_size() > 1:
        wide = items.to(torch.int64)
        return torch.stack([wide.sum(1), (wide * wide).sum(1)])
    n = items.shape[1]
    least = -(-n // _SHORT)
    n_runs = next((k for k in range(least, 64 * least) if n % k == 0), n)
    x = items.unflatten(1, (n_runs, n // n_runs)).to(torch.int32)  # half as long as int64
    return torch.stack([part.sum(2, dtype=torch.int32).sum(1) for part in (x, x * x)])
