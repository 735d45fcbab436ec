"""NumPy's view of a tensor on the processor, sharing its memory."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from zeromean.destination import dtype_of


def view_of(tensor: Tensor) -> npt.NDArray[Any] | None:
    """The same memory as an array; None for what NumPy does not know.

    Parameters
    ----------
    tensor : Tensor
        On the processor. bfloat16 needs the package ml_dtypes.
    """
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.is_neg() or tensor.is_conj():
        return None
    if tensor.dtype == torch.bfloat16:
        try:
            halves: npt.NDArray[Any] = tensor.view(torch.int16).numpy().view(dtype_of("bfloat16"))
        except ImportError:
            return None
        return halves
    try:
        array: npt.NDArray[Any] = tensor.numpy()
    except TypeError:  # 8-bit floats and the like
        return None
    return array
