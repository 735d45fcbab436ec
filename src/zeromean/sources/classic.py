"""Reads the header of netCDF 3 files (classic, 64-bit offset, 64-bit data), and maps their arrays.

The format is that of the NetCDF Classic Format Specification of Unidata. The netCDF C library reads
zeros beyond the end of a file that was cut off; here it is an error.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zeromean.errors import SourceError

_TYPES = ("i1", "S1", ">i2", ">i4", ">f4", ">f8", "u1", ">u2", ">u4", ">i8", ">u8")
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
_LARGEST_HEADER = 64 << 20
_STREAMING = 0xFFFFFFFF


@dataclass(frozen=True)
class Variable:
    """An array of a netCDF 3 file; picklable.

    Attributes
    ----------
    name : str
    dims : tuple of str
    shape : tuple of int
    dtype : dtype
    attributes : dict
    begin : int
        Where it lies in the file.
    record : int
        Bytes from one record to the next; 0 where it does not grow along its first axis.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attributes: dict[str, Any] = field(repr=False)
    begin: int
    record: int

    @property
    def end(self) -> int:
        """Where its data ends."""
        if 0 in self.shape:
            return 0
        if not self.record:
            return self.begin + math.prod(self.shape) * self.dtype.itemsize
        own = math.prod(self.shape[1:]) * self.dtype.itemsize
        return self.begin + (self.shape[0] - 1) * self.record + own

    def check(self, path: str) -> None:
        """Refuse a file that ends before it does.

        Raises
        ------
        SourceError
            With both places.
        """
        size = os.path.getsize(path)
        if self.end > size:
            raise SourceError(
                f"is cut off: {self.name} ends at byte {self.end:,}, the file at {size:,}"
            )

    def mapped(self, path: str) -> np.ndarray[Any, Any]:
        """The whole of it as a memory map; nothing is read yet."""
        self.check(path)
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        data = np.memmap(path, np.uint8, "r")
        strides = [self.dtype.itemsize] * len(self.shape)
        for axis in range(len(self.shape) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * self.shape[axis + 1]
        if self.record:
            strides[0] = self.record
        return np.ndarray(self.shape, self.dtype, data, self.begin, strides)


def variables_of(path: str) -> list[Variable]:
    """The variables of a netCDF 3 file.

    Raises
    ------
    SourceError
        When its header is damaged.
    """
    with open(path, "rb") as file:
        data = file.read(_LARGEST_HEADER)
        size = file.seek(0, os.SEEK_END)
    try:
        return _Header(data).variables(size)
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot be read as netCDF 3: its header is damaged ({error})") from None


class _Header:
    """Reads the header piece by piece."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4
        version = data[3]
        self.count = ">u8" if version == 5 else ">u4"
        self.offset = ">u4" if version == 1 else ">u8"

    def variables(self, size: int) -> list[Variable]:
        """All of them; of a file that was being written, the records that it has."""
        records = self._number(self.count)
        dims = [(self._name(), self._number(self.count)) for _ in self._list(_DIMENSIONS)]
        self._attributes()
        held = [self._variable() for _ in self._list(_VARIABLES)]
        growing = [n for n in held if n[1] and dims[n[1][0]][1] == 0]
        widths = [_width(dims, n) for n in growing]
        record = widths[0] if len(widths) == 1 else sum(-(-w // 4) * 4 for w in widths)
        if records in (_STREAMING, (1 << 64) - 1):
            first = min((n[4] for n in growing), default=size)
            records = max(0, size - first) // record if record else 0
        found = []
        for name, axes, attributes, dtype, begin in held:
            lengths = [dims[axis][1] for axis in axes]
            grows = bool(lengths) and lengths[0] == 0
            shape = (records, *lengths[1:]) if grows else tuple(lengths)
            names = tuple(dims[axis][0] for axis in axes)
            step = record if grows else 0
            found.append(Variable(name, names, shape, dtype, attributes, begin, step))
        return found

    def _variable(self) -> tuple[str, list[int], dict[str, Any], np.dtype[Any], int]:
        name = self._name()
        axes = [self._number(self.count) for _ in range(self._few())]
        attributes = self._attributes()
        dtype = self._type()
        self._number(self.count)  # the size, which follows from the shape and may have overflown
        return name, axes, attributes, dtype, self._number(self.offset)

    def _attributes(self) -> dict[str, Any]:
        found = {}
        for _ in self._list(_ATTRIBUTES):
            name, dtype = self._name(), self._type()
            values = self._values(dtype, self._few())
            native = values.astype(dtype.newbyteorder("="))
            found[name] = values.tobytes() if dtype.kind == "S" else native
        return found

    def _list(self, tag: int) -> range:
        """The numbers of the elements of a list; of an absent one there are none."""
        found, length = self._number(">u4"), self._few()
        if found not in (0, tag) or (found == 0 and length):
            raise ValueError(f"byte {self.at}")
        return range(length)

    def _few(self) -> int:
        """A length, of which there cannot be more than there are bytes."""
        length = self._number(self.count)
        if length > len(self.data):
            raise ValueError(f"byte {self.at}")
        return length

    def _name(self) -> str:
        return self._values(np.dtype("u1"), self._few()).tobytes().decode()

    def _type(self) -> np.dtype[Any]:
        code = self._number(">u4")
        if not 1 <= code <= len(_TYPES):
            raise ValueError(f"type {code}")
        return np.dtype(_TYPES[code - 1])

    def _number(self, dtype: str) -> int:
        return int(self._values(np.dtype(dtype), 1)[0])

    def _values(self, dtype: np.dtype[Any], length: int) -> np.ndarray[Any, Any]:
        """Some values, padded to four bytes."""
        values = np.frombuffer(self.data, dtype, length, self.at)
        self.at += -(-values.nbytes // 4) * 4
        return values


def _width(dims: list[tuple[str, int]], variable: Any) -> int:
    """Bytes of one record of a variable."""
    _, axes, _, dtype, _ = variable
    return int(math.prod(dims[axis][1] for axis in axes[1:]) * dtype.itemsize)
