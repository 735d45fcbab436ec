"""Refuses tensors that are visibly on another scale than what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zeromean.provenance import Units
from zeromean.torch.watching import observed


def check_range(x: Tensor, units: Units, measured: str) -> None:
    """Compare the extrema of a tensor with the units of what was measured.

    Parameters
    ----------
    x : Tensor
        On a GPU, its values are waited for, unless its dtype tells.
    units : Units
    measured : str
        The dtype that was measured.

    Raises
    ------
    UnitError
        With both units and what to do.
    """
    name = str(x.dtype).removeprefix("torch.")
    if units.top is None or x.numel() == 0 or x.device.type == "meta":
        return
    if name == measured and not x.is_floating_point():
        return  # all its values are in its range
    values = x.detach() if x.is_floating_point() else x.to(torch.int64)
    low, high = (float(end) for end in torch.aminmax(values))
    if math.isnan(low):  # NaN is no doubt about units; look again without it
        known = ~values.isnan()
        low = float(torch.where(known, values, torch.inf).amin())
        high = float(torch.where(known, values, -torch.inf).amax())
    if x.is_floating_point() and high == float(torch.tensor(units.top, dtype=x.dtype)):
        high = units.top  # as few digits hold it: 65535 is 65536 in bfloat16
    units.check(measured, name, low, high)


@dataclass(frozen=True)
class InputCheck:
    """A hook in front of a folded model that refuses raw data in other units; see `check_range`.

    Values are not looked at while operations are recorded or transformed: when compiling, tracing
    and exporting.

    Attributes
    ----------
    units : Units
    measured : str
        The dtype that was measured.
    place : int
        Of the raw data among the model's arguments.
    name : str
        Of that argument.
    """

    units: Units
    measured: str
    place: int
    name: str

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Look at the argument, if it is a tensor."""
        x = args[self.place] if len(args) > self.place else kwargs.get(self.name)
        if isinstance(x, Tensor) and not observed(x):
            check_range(x, self.units, self.measured)
