"""Where a normalizer writes: the dtype, and the array, new or given."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError

_Array = npt.NDArray[Any]
_OUTPUTS = ("float16", "bfloat16", "float32", "float64")


def target_of(shape: tuple[int, ...], complete: bool, out: _Array | None, dtype: Any) -> _Array:
    """The array that results are written to, with all its axes: a given one, or a new one.

    Parameters
    ----------
    shape : tuple of int
        Of the result with all its axes.
    complete : bool
        Whether the data came with its first axis.
    out : ndarray or None
        The given one.
    dtype : optional

    Raises
    ------
    PatternError
        When shape or dtype do not fit.
    """
    if out is None:
        wanted = np.dtype(np.float32) if dtype is None else dtype_of(dtype)
        if wanted.name not in _OUTPUTS:
            raise PatternError(f"dtype is {wanted.name}; choose one of {', '.join(_OUTPUTS)}")
        return np.empty(shape, wanted)
    if dtype is not None and out.dtype != dtype_of(dtype):
        raise PatternError(f"out is {out.dtype.name}, but dtype says {dtype_of(dtype).name}")
    out = checked(out, shape if complete else shape[1:], "fV")
    return out if complete else out[None]


def checked(out: _Array, shape: tuple[int, ...], kinds: str) -> _Array:
    """The given array, if it can hold the result.

    Raises
    ------
    PatternError
        With what it is and what it must be.
    """
    known = out.dtype.kind in kinds and (out.dtype.kind != "V" or out.dtype.name == "bfloat16")
    if out.shape != shape or not known:
        kind = "a float" if kinds[0] == "f" else "a"
        raise PatternError(
            f"out is {out.dtype.name} {out.shape}; it must be {kind} array of {shape}"
        )
    if not out.flags.writeable:
        raise PatternError("out is read-only")
    return out


def dtype_of(dtype: Any) -> np.dtype[Any]:
    """A NumPy dtype by name; bfloat16 is one of ml_dtypes.

    Raises
    ------
    ImportError
        For bfloat16 without ml_dtypes, with what to install.
    """
    if isinstance(dtype, str) and "," in dtype:  # of a table: an array holds all its columns
        return np.dtype(np.float64)
    if dtype == "bfloat16":  # known to NumPy once ml_dtypes is imported
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError(
                'bfloat16 arrays need ml_dtypes: pip install "zeromean[bfloat16]"'
            ) from None
        known: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return known
    if type(dtype).__module__ == "torch":
        return dtype_of(str(dtype).removeprefix("torch."))
    try:
        plain: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise PatternError(f"{dtype!r} is no dtype") from None
    return plain
