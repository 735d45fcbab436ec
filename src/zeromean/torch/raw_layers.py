"""Layers of a folded model: convolutions that pad with raw values, or have a map for a bias."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zeromean.errors import UnitError


def padded(x: Tensor, values: Tensor, pads: list[list[int]]) -> Tensor:
    """A tensor with each channel surrounded by its own value.

    Parameters
    ----------
    x : Tensor, (n, c, ...)
    values : Tensor, (c,)
    pads : list of [before, after]
        Of each axis behind the channels.
    """
    value = values.to(x.dtype).reshape(1, -1, *(1,) * (x.ndim - 2))
    for axis, ends in enumerate(pads, start=2):
        frame = [value.expand(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in ends]
        if any(ends):
            x = torch.cat([part for part in (frame[0], x, frame[1]) if part.shape[axis]], dim=axis)
    return x


class PadEach(nn.Module):
    """Pads each channel with its own raw value: what was a padding of normalized zeros.

    Parameters
    ----------
    values : Tensor, (c,)
    pads : list of [before, after]
        Of each axis behind the channels.

    Attributes
    ----------
    values : Tensor, (c,)
        A buffer.
    """

    values: Tensor

    def __init__(self, values: Tensor, pads: list[list[int]]) -> None:
        super().__init__()
        self.pads = pads
        self.register_buffer("values", values)

    def forward(self, x: Tensor) -> Tensor:
        """Pad a tensor (n, c, ...)."""
        return padded(x, self.values, self.pads)

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return f"pads={self.pads}, values={[round(v, 4) for v in self.values.tolist()[:4]]}"


class _Padded:
    """A convolution in front of which raw values are padded; a buffer beside its own weights."""

    pad_values: Tensor
    outer_pads: list[list[int]]

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve."""
        return super().forward(padded(x, self.pad_values, self.outer_pads))  # type: ignore[misc]

    def extra_repr(self) -> str:
        values = [round(v, 4) for v in self.pad_values.tolist()[:4]]
        own = super().extra_repr()  # type: ignore[misc]
        return f"{own}, pads={self.outer_pads}, pad_values={values}"


class PaddedConv1d(_Padded, nn.Conv1d):
    """A `torch.nn.Conv1d` whose input is padded with raw values."""


class PaddedConv2d(_Padded, nn.Conv2d):
    """A `torch.nn.Conv2d` whose input is padded with raw values."""


class PaddedConv3d(_Padded, nn.Conv3d):
    """A `torch.nn.Conv3d` whose input is padded with raw values."""


class _Mapped:
    """A convolution with a bias for each place of its output."""

    bias_map: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and add the map."""
        return super().forward(x) + self.bias_map  # type: ignore[misc]

    def extra_repr(self) -> str:
        size = " x ".join(map(str, self.bias_map.shape[2:]))
        return f"{super().extra_repr()}, bias_map of {size}"  # type: ignore[misc]


class MappedConv1d(_Mapped, nn.Conv1d):
    """A `torch.nn.Conv1d` with a bias for each place of its output."""


class MappedConv2d(_Mapped, nn.Conv2d):
    """A `torch.nn.Conv2d` with a bias for each place of its output."""


class MappedConv3d(_Mapped, nn.Conv3d):
    """A `torch.nn.Conv3d` with a bias for each place of its output."""


PADDED: dict[type, type] = {
    nn.Conv1d: PaddedConv1d,
    nn.Conv2d: PaddedConv2d,
    nn.Conv3d: PaddedConv3d,
}
MAPPED: dict[type, type] = {
    nn.Conv1d: MappedConv1d,
    nn.Conv2d: MappedConv2d,
    nn.Conv3d: MappedConv3d,
}


class Cast(nn.Module):
    """Bytes to the dtype that the model computes in; what is no uint8 is refused.

    Parameters
    ----------
    dtype : torch.dtype
    device : torch.device, optional
    expects : str
        What the model must be given, for the message.
    """

    like: Tensor

    def __init__(self, dtype: torch.dtype, device: Any = None, expects: str = "uint8") -> None:
        super().__init__()
        self.expects = expects
        self.register_buffer("like", torch.empty(0, dtype=dtype, device=device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same numbers as floats.

        Raises
        ------
        UnitError
            For another dtype than uint8.
        """
        if isinstance(x, Tensor) and x.dtype != torch.uint8:  # else a proxy, while tracing
            raise UnitError(
                f"the folded model expects {self.expects}, and is given {x.dtype}: give it the raw "
                "data, neither normalized nor divided, or fold with input='float'"
            )
        return x.to(self.like.dtype)

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return self.expects
