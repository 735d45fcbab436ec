"""Applies a normalizer to tensors, and undoes it: what `norm(x)` does when x is a tensor."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zeromean.errors import PatternError
from zeromean.normalizer import Normalizer
from zeromean.torch.dtypes import output_dtype
from zeromean.torch.normalizing import Normalize

_MOVED = {None: None, "chw": "hwc->chw"}


def apply(
    norm: Normalizer,
    x: Tensor,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: str | None = None,
) -> Tensor:
    """Normalize a tensor: what ``norm(x)`` does.

    Parameters
    ----------
    norm : Normalizer
    x : Tensor
        On any device.
    out : Tensor, optional
        Where to write; sets the dtype. May be `x` itself.
    dtype : optional
        Of the result, float32 unless given.
    layout : {"chw"}, optional
        Move the last axis, the channels, in front of height and width, on the way.

    Returns
    -------
    Tensor
        On the device of `x`.

    Raises
    ------
    PatternError
        When the shape does not fit.
    UnitError
        When the data is visibly on another scale than what was measured.

    Examples
    --------
    >>> import torch
    >>> import zeromean as zm
    >>> x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    >>> zm.zero_mean(zm.measure(x))(x)
    tensor([[ -1., -10.],
            [  1.,  10.]])
    """
    if out is not None and dtype is not None and output_dtype(dtype) != out.dtype:
        raise PatternError(f"out is {out.dtype}, but dtype says {output_dtype(dtype)}")
    made = _made(norm, x, dtype if out is None else out.dtype, layout)
    return made(x) if out is None else made.write(x, out)


def invert(
    norm: Normalizer,
    y: Tensor,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: str | None = None,
) -> Tensor:
    """Undo the normalization of a tensor: what ``norm.invert(y)`` does.

    Parameters
    ----------
    norm : Normalizer
    y : Tensor of floats
    out : Tensor, optional
        Where to write; sets the dtype.
    dtype : optional
        Of the result; the raw dtype by default.
    layout : {"chw"}, optional
        When it was given to the normalizer: the channels are moved back.

    Returns
    -------
    Tensor
        On the device of `y`.

    Raises
    ------
    PatternError
        When the shape does not fit, or NaN would have to become an integer.
    UnitError
        For integers, which are raw data and not normalized.
    """
    made = _made(norm, y, None, layout)
    x = made.invert(y, dtype if out is None else out.dtype)
    if out is None:
        return x
    if out.shape != x.shape:
        raise PatternError(f"out has shape {tuple(out.shape)}; it must be {tuple(x.shape)}")
    return out.copy_(x)


def _made(norm: Normalizer, x: Tensor, dtype: Any, layout: str | None) -> Normalize:
    """The module for a call; kept beside the normalizer, as a batch will hardly come alone."""
    if layout not in _MOVED:
        raise PatternError(f"layout is {layout!r}; the choice is 'chw' or nothing")
    known: dict[Any, Normalize] = norm.__dict__.setdefault("_modules", {})
    key = output_dtype(dtype), layout, x.device
    if key not in known:
        known[key] = Normalize(norm, dtype=key[0], layout=_MOVED[layout]).to(x.device)
    return known[key]
