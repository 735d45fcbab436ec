"""Names of dtypes, as PyTorch spells them."""

from __future__ import annotations

import numpy as np
import torch

from zeromean.errors import PatternError

_OUTPUTS = ("float16", "bfloat16", "float32", "float64")


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A dtype by its name, its NumPy dtype, or itself.

    Raises
    ------
    PatternError
        When there is no such dtype.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise PatternError(f"dtype is {name!r}; choose one of {', '.join(_OUTPUTS)}")
    return found


def output_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    """The dtype of normalized data; float32 unless another is given."""
    wanted = torch.float32 if dtype is None else as_dtype(dtype)
    if str(wanted).removeprefix("torch.") not in _OUTPUTS:
        raise PatternError(f"dtype is {wanted}; choose one of {', '.join(_OUTPUTS)}")
    return wanted
