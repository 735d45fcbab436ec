"""Which number formats can be measured, how, and what a block of them looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError

_Array = npt.NDArray[Any]
_Ints = npt.NDArray[np.int64]

#: Formats whose values are few enough to count them all.
COUNTED = ("bool", "uint8", "int8", "uint16", "int16", "float16", "bfloat16")
#: Formats that are summed instead.
SUMMED = ("int32", "uint32", "int64", "uint64", "float32", "float64")

#: A value of each format is an integer times 2**exponent.
UNIT_EXPONENT = {
    **dict.fromkeys((*COUNTED[:5], *SUMMED[:4]), 0),
    "float16": -24,
    "bfloat16": -133,
    "float32": -149,
    "float64": -1074,
}


def check_dtype(dtype: np.dtype[Any]) -> str:
    """Name of a dtype that can be measured.

    Raises
    ------
    PatternError
        For longdouble, complex, dates, text and objects, with what to convert to.
    """
    name = dtype.name
    if name in UNIT_EXPONENT:
        return name
    if dtype.kind == "c":
        advice = "measure x.real and x.imag, or np.abs(x)"
    elif dtype.kind == "f":
        advice = "convert with x.astype('float64')"
    elif dtype.kind in "mM":
        advice = "convert to numbers first, such as seconds: x / np.timedelta64(1, 's')"
    elif dtype.kind == "O":
        advice = "rows of unequal length or mixed types? Give a list of arrays, or x.astype(float)"
    else:
        advice = "give numbers, such as x.astype('float64')"
    raise PatternError(f"cannot measure values of dtype {name}; {advice}")


def joined_dtype(dtypes: Sequence[str]) -> str:
    """The dtype of a table: that of all its columns, or a list of theirs."""
    return ",".join(dtypes) if len(set(dtypes)) > 1 else dtypes[0]


def split_dtype(dtype: str, n_features: int) -> tuple[str, ...]:
    """The dtype of every feature."""
    return tuple(dtype.split(",")) if "," in dtype else (dtype,) * n_features


def n_bins(dtype: str) -> int:
    """How many values a counted format has."""
    return {"bool": 2, "uint8": 256, "int8": 256}.get(dtype, 65536)


def is_counted(dtype: str, n_features: int) -> bool:
    """Whether values are counted (histogram) or summed: a function of pattern and dtype alone."""
    return dtype in COUNTED and n_features * n_bins(dtype) <= 1 << 20


def bin_values(dtype: str) -> _Array:
    """The value of each histogram bin as float64, increasing for integers.

    For float16 and bfloat16 bins are bit patterns, so the values are those of the codes
    0..65535; codes of NaN and inf give NaN and inf.
    """
    if dtype == "bool":
        return np.arange(2.0)
    if dtype == "float16":
        return np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    if dtype == "bfloat16":
        codes = np.arange(65536, dtype=np.uint32) << np.uint32(16)
        with np.errstate(invalid="ignore"):  # signaling NaN codes
            return codes.view(np.float32).astype(np.float64)
    info = np.iinfo(dtype)
    return np.arange(info.min, info.max + 1, dtype=np.float64)


def frozen(array: _Array) -> _Array:
    array.flags.writeable = False
    return array


def as_planes(block: _Array) -> _Array:
    """A block as (outer, features, inner) in C order and native bytes, without needless copies."""
    if block.ndim == 2:
        rows, features = block.shape
        fortran = block.flags.f_contiguous and not block.flags.c_contiguous
        block = block.T[None] if fortran else block[:, :, None]
        if rows == 0:
            block = block.reshape(0, features, 1)
    if block.ndim != 3:
        raise PatternError(f"a block has 2 or 3 axes, not {block.ndim}: {block.shape}")
    native = block.dtype.newbyteorder("=")
    return read_only(np.ascontiguousarray(block, dtype=native))


def read_only(array: _Array) -> _Array:
    """A view that nobody writes to: a kernel is compiled once, for memory maps and all others."""
    view = array.view()
    view.flags.writeable = False
    return view


def as_rows(planes: _Array) -> _Array:
    """(outer, features, inner) as (outer * inner, features) in C order."""
    if planes.shape[2] == 1:
        return planes[:, :, 0]
    moved = read_only(np.ascontiguousarray(np.moveaxis(planes, 1, 2)))
    return moved.reshape(-1, planes.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class PowerSums:
    """What mean and variance need: counts and exact power sums of the finite values.

    Attributes
    ----------
    n : ndarray of int64, (n_features,)
        Finite values.
    sums, squares : ndarray of int objects, (n_features,)
        Σx in units of 2**exponent, Σx² in units of 4**exponent; Python integers.
    exponent : int
    """

    n: _Ints
    sums: _Array
    squares: _Array
    exponent: int


_SAFE = 1 << 61  # two of these add up within int64


def exact(values: list[int] | _Array) -> _Array:
    """Integers of any size as an array: int64 where all are below 2^61, else Python integers.

    The choice depends on the values alone, so equal values are equal arrays.
    """
    array = np.asarray(values, np.int64 if _fit(values) else object)
    if array.dtype == np.int64 and array.size and np.abs(array).max() >= _SAFE:
        array = array.astype(object)
    return frozen(array)


def _fit(values: list[int] | _Array) -> bool:
    if isinstance(values, np.ndarray) and values.dtype == np.int64:
        return True
    return all(-_SAFE < v < _SAFE for v in values)


def exact_sum(first: _Array, second: _Array) -> _Array:
    """first + second, without overflow."""
    return exact(first + second)  # int64 + int64 stays below 2^62; objects never overflow


def exact_difference(first: _Array, second: _Array) -> _Array:
    """first - second, without overflow."""
    return exact(first - second)
