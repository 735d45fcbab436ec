"""Counts values on the device where a tensor lives; integers only, so in any order the same."""

from __future__ import annotations

import torch
from torch import Tensor

from zeromean.statistics import Histogram


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
        self.n_features, self.dtype = n_features, dtype
        self._bins = 256 if dtype in ("bool", "uint8", "int8") else 65536
        self._counts = torch.zeros(n_features * self._bins, dtype=torch.int64, device=device)
        self._begins = torch.arange(n_features, device=device) * self._bins

    def add(self, rows: Tensor) -> None:
        """Count the values of a block, (n_samples, n_features)."""
        narrow = self._bins == 256
        codes = rows.view(torch.uint8 if narrow else torch.int16).to(torch.int64)
        places = (codes & (self._bins - 1)) + self._begins
        self._counts += torch.bincount(places.flatten(), minlength=len(self._counts))

    def histogram(self) -> Histogram:
        """What was counted."""
        counts = self._counts.reshape(self.n_features, self._bins).cpu().numpy().copy()
        return Histogram.of_tallies(counts, self.dtype)


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


def item_sums(items: Tensor) -> tuple[Tensor, Tensor]:
    """Σx and Σx² of each item of 8- or 16-bit integers.

    Parameters
    ----------
    items : Tensor, (n_items, n_samples, n_features)

    Returns
    -------
    sums, squares : Tensor of int64, (n_items, n_features)
    """
    wide = items.to(torch.int64)
    return wide.sum(dim=1), (wide * wide).sum(dim=1)
