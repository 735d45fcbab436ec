"""Rounds float64 once to any dtype; PyTorch itself rounds twice on the way to halves."""

from __future__ import annotations

import torch
from torch import Tensor

from zeromean.errors import PatternError

HALVES = (torch.float16, torch.bfloat16)


def rounded(y: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 to a float dtype, rounded once to the nearest, ties to even; gradients flow.

    PyTorch takes the way through float32 to a half, and two roundings may differ from one. It is
    right when the first one rounds to odd (Boldo and Melquiond, *Emulation of FMA and Correctly
    Rounded Sums: Proved Algorithms Using Rounding to Odd*, IEEE Transactions on Computers 57(4),
    2008), since float32 has more than two bits more than either half.

    Parameters
    ----------
    y : Tensor of float64 or float32
    dtype : torch.dtype
    """
    if dtype not in HALVES or y.dtype != torch.float64:
        return y.to(dtype)
    near = y.to(torch.float32)
    exact, bits = near.detach(), near.detach().view(torch.int32)
    wide = exact.to(torch.float64)
    inexact = (wide != y.detach()) & exact.isfinite()
    outward = torch.where(wide.abs() < y.detach().abs(), 1, -1).to(torch.int32)
    odd = (bits + outward).view(torch.float32)
    step = torch.where(inexact & (bits & 1 == 0), odd - exact, -0.0)  # -0.0 changes nothing
    return (near + step.to(torch.float32)).to(dtype)


def whole(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Floats to the nearest integers, ties to even, clipped to the range of the dtype.

    Parameters
    ----------
    values : Tensor of float64
        Without NaN.
    dtype : torch.dtype
        An integer dtype or bool.
    """
    if dtype == torch.bool:
        return values >= 0.5
    info = torch.iinfo(dtype)
    if info.bits < 64:
        if values.dtype == torch.float32 and info.bits > 16:
            raise PatternError(
                f"this device has no float64, and float32 cannot hold every {dtype}; "
                "give dtype='float32', or invert on the processor"
            )
        return values.clamp(info.min, info.max).round().to(torch.int64).to(dtype)
    values = values.round().clamp(min=info.min)
    if dtype == torch.int64:
        return _int64(values)
    upper = (
        values >= 2.0**63
    )  # PyTorch has no arithmetic for uint64: the lower 63 bits, and the top
    lower = _int64(torch.where(upper, values - 2.0**63, values))
    return torch.where(upper, lower ^ -(1 << 63), lower).view(torch.uint64)


def _int64(values: Tensor) -> Tensor:
    """Whole numbers as int64; 2^63 - 1 is no float64, and what is above would wrap round."""
    too_high = values >= 2.0**63
    return torch.where(too_high, (1 << 63) - 1, torch.where(too_high, 0, values).to(torch.int64))
