"""Whether somebody records, transforms or differentiates what is done to a tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode


def observed(x: Tensor) -> bool:
    """Whether operations are recorded or transformed, so that values must not be looked at."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return True
    if _get_current_dispatch_mode() is not None or type(x).__name__ == "FakeTensor":
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None  # vmap, grad, jvp


def wants_gradient(x: Tensor) -> bool:
    """Whether a derivative may be asked of the result, backward or forward."""
    if torch.is_grad_enabled() and x.requires_grad:
        return True
    return forward_ad.unpack_dual(x).tangent is not None
