"""The formula by NumPy, in float64, rounded once: what every other path must agree with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.affine.tasks import Task, name_of
from zeromean.errors import PatternError

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]


def apply_plain(task: Task) -> None:
    """Do a block.

    Parameters
    ----------
    task : Task
        Its data is copied as float64.

    Raises
    ------
    PatternError
        When NaN would have to become an integer.
    """
    shift, scale, offset = task.numbers
    with np.errstate(all="ignore"):
        values = task.x.astype(np.float64)
        if task.way == "forward":
            values -= shift
            values /= scale
            if offset.any():
                values += unless_zero(offset)
        else:
            values -= offset
            values *= scale
            values += shift
        _store(values, task.out)


def unless_zero(offset: _Floats) -> _Floats:
    """What to add so that an offset of 0 changes nothing: -0.0, which leaves even -0.0 alone."""
    return np.where(offset == 0, -0.0, offset)


def nan_error(dtype: np.dtype[Any]) -> PatternError:
    """NaN has no integer."""
    return PatternError(f"NaN cannot become {dtype.name}; give dtype='float32' to keep it")


def _store(values: _Floats, out: _Array) -> None:
    if out.dtype.kind in "iub":
        out[...] = _whole(values, out.dtype)
    elif name_of(out.dtype) == "bfloat16":
        out.view(np.uint16)[...] = _bfloat16_bits(values)
    else:
        out[...] = values


def _bfloat16_bits(values: _Floats) -> npt.NDArray[np.uint16]:
    """Bits of the nearest bfloat16, ties to even.

    Through float32 they would be rounded twice. So the step to float32 rounds to odd: it
    truncates, and sets the last bit if anything was lost (Boldo and Melquiond, *Emulation of
    FMA and correctly rounded sums: proved algorithms using rounding to odd*, IEEE Trans.
    Comput. 57(4), 2008).
    """
    near = values.astype(np.float32)
    again = near.astype(np.float64)
    bits = near.view(np.uint32)
    bits -= np.abs(again) > np.abs(values)
    bits |= again != values
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def _whole(values: _Floats, dtype: np.dtype[Any]) -> _Array:
    """Floats to the nearest integers, ties to even, clipped to the range of the dtype."""
    if np.isnan(values).any():
        raise nan_error(dtype)
    if dtype.kind == "b":
        return np.greater_equal(values, 0.5)
    info = np.iinfo(dtype)
    too_high = values >= float(info.max)  # 2**64 - 1 is no float64; the next one would wrap round
    low = np.clip(np.where(too_high, 0, values), info.min, None)
    whole: _Array = np.where(too_high, dtype.type(info.max), np.rint(low).astype(dtype))
    return whole
