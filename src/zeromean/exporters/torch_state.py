"""PyTorch state dict: float64 buffers in safetensors, for zeromean's module or any other code.

The file is also a normalizer's own `.safetensors`: `zm.load` reads it. `shift` and `scale` have the
kept shape; `offset` too, or one number for each row of `matrix`.

The module computes in float64 and rounds once: within 0.51 ulp, as `torch_program` counts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean import documents, normalizer_file
from zeromean.embedding import KEY
from zeromean.exporters.forms import broadcastable, expected
from zeromean.exporters.targets import Made, Order, Target
from zeromean.exporters.torch_program import BOUND

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]

_TITLE = "PyTorch state dict (.safetensors)"


def _make(norm: Normalizer, order: Order) -> Made:
    from safetensors.numpy import save

    document, tensors = normalizer_file.to_document(norm, tensors=True)
    tensors["offset"] = np.array(norm.offset)
    content = save(
        {name: np.asarray(values, order="C") for name, values in tensors.items()},
        metadata={KEY: documents.canonical(document)},
    )
    return Made(
        content,
        _state(tensors),
        expected(norm),
        "float32, from norm.torch() with this state",
        norm,
        bound=BOUND,
        notes=(_formula(norm),),
    )


def _state(tensors: dict[str, _Array]) -> Any:
    """Tensors for `load_state_dict`; the arrays where PyTorch is not installed."""
    try:
        import torch
    except ImportError:
        return tensors
    return {name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}


def _formula(norm: Normalizer) -> str:
    """How code without zeromean uses the tensors."""
    if norm.matrix is not None:
        return "elsewhere: (x.double() - shift.flatten()) @ matrix.T + offset, features last"
    try:
        shape = broadcastable(norm, _TITLE)
    except ValueError:
        return "elsewhere: y = (x - shift) / scale + offset, in float64"
    while shape and shape[0] == 1:
        shape = shape[1:]
    as_ = "" if shape == norm.shift.shape else f".view({shape})"
    return f"elsewhere: (x.double() - shift{as_}) / scale{as_} + offset{as_}"


def _run(made: Made, x: _Array) -> _Array:
    """As somebody who got the file would: tensors into a module of the same normalizer."""
    try:
        import torch
        from safetensors.torch import load
    except ImportError:
        raise ImportError("PyTorch is not installed", name="torch") from None
    module = made.carried.torch()
    blank = {name: torch.full_like(v, torch.nan) for name, v in module.state_dict().items()}
    module.load_state_dict(blank)
    module.load_state_dict(load(made.content), strict=True)
    result: _Array = module(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return result


TARGET = Target(
    "torch-state",
    _TITLE,
    (".safetensors",),
    _make,
    _run,
    library="torch",
    text=False,
)
