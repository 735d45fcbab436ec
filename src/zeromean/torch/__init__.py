"""Tensors in, tensors out: `module` makes an `nn.Module` of a normalizer, `fold` hides it.

>>> import torch
>>> import zeromean as zm
>>> from zeromean.torch import measure
>>> images = torch.tensor([[[[0, 255]]], [[[1, 254]]]], dtype=torch.uint8)
>>> profile = measure(images, "n c h w -> c")
>>> zm.standardize(profile).torch()(images).flatten()
tensor([-1.0039,  1.0039, -0.9961,  0.9961])
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        'zeromean.torch needs PyTorch: pip install "zeromean[torch]"', name="torch"
    ) from error

from zeromean.torch.applying import apply, invert
from zeromean.torch.folding import fold
from zeromean.torch.measuring import measure
from zeromean.torch.normalizing import Normalize, module

__all__ = ["Normalize", "apply", "fold", "invert", "measure", "module"]
