"""Reads what the Arrow C data interface hands over: numeric columns as views, nothing copied.

Polars, PyArrow, DuckDB and others give their tables away through ``__arrow_c_stream__``, so none
of them need be imported here, nor PyArrow installed. The structures are those of
*The Arrow C data interface* and *The Arrow C stream interface* (Apache Arrow, format 1.0).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zeromean.errors import PatternError, SourceError
from zeromean.sources.columns import Bits, BufferColumn, ColumnBatch

_NUMBERS = {
    "b": "bool", "c": "int8", "C": "uint8", "s": "int16", "S": "uint16", "i": "int32",
    "I": "uint32", "l": "int64", "L": "uint64", "e": "float16", "f": "float32", "g": "float64",
}  # fmt: skip
_OTHERS = (  # the first that a format begins with
    ("u", "string"), ("U", "string"), ("vu", "string"), ("z", "binary"), ("Z", "binary"),
    ("vz", "binary"), ("w", "binary"), ("d", "decimal"), ("td", "date"), ("tt", "time"),
    ("ts", "timestamp"), ("tD", "duration"), ("ti", "interval"), ("n", "null"), ("+s", "struct"),
    ("+m", "map"), ("+", "list"),
)  # fmt: skip


class _Schema(ctypes.Structure):
    pass


class _Node(ctypes.Structure):
    """An ArrowArray."""


class _Stream(ctypes.Structure):
    pass


_SCHEMA, _NODE, _STREAM = (ctypes.POINTER(kind) for kind in (_Schema, _Node, _Stream))
_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(_SCHEMA)),
    ("dictionary", _SCHEMA),
    ("release", ctypes.CFUNCTYPE(None, _SCHEMA)),
    ("private_data", ctypes.c_void_p),
]
_Node._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset")),
    *((name, ctypes.c_int64) for name in ("n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(_NODE)),
    ("dictionary", _NODE),
    ("release", ctypes.CFUNCTYPE(None, _NODE)),
    ("private_data", ctypes.c_void_p),
]
_Stream._fields_ = [
    ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, _STREAM, _SCHEMA)),
    ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, _STREAM, _NODE)),
    ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, _STREAM)),
    ("release", ctypes.CFUNCTYPE(None, _STREAM)),
    ("private_data", ctypes.c_void_p),
]


@dataclass(frozen=True, slots=True)
class Field:
    """Name and type of a column.

    Attributes
    ----------
    name : str
    dtype : str
        Of its numbers; empty for a column that holds none.
    type : str
        For messages, such as "string".
    """

    name: str
    dtype: str
    type: str


class _Owner:
    """Releases a structure when nobody looks at its buffers any more."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __del__(self) -> None:
        if self.held.release:
            self.held.release(ctypes.byref(self.held))


class ArrowTable:
    """What one object hands over; can be read once.

    Parameters
    ----------
    table : object with ``__arrow_c_stream__`` or ``__arrow_c_array__``
    name : str
        For messages.
    index : sequence of str
        Columns that number the rows and are no features.

    Attributes
    ----------
    fields : list of Field
    single : bool
        Whether it is one column and not a table.
    """

    def __init__(self, table: Any, name: str = "data", index: Sequence[str] = ()) -> None:
        self._name = name
        self._batch: Any = None
        if hasattr(table, "__arrow_c_stream__"):
            self._capsule = table.__arrow_c_stream__(None)
            self._stream = _pointer(self._capsule, b"arrow_array_stream", _STREAM)
            schema = _Schema()
            self._check(self._stream.contents.get_schema(self._stream, ctypes.byref(schema)))
            self._schema = _Owner(schema)
        else:
            self._capsule = table.__arrow_c_array__(None)
            schema = _pointer(self._capsule[0], b"arrow_schema", _SCHEMA).contents
            self._batch = _pointer(self._capsule[1], b"arrow_array", _NODE).contents
        self.single = schema.format != b"+s"
        children = [schema.children[i].contents for i in range(schema.n_children)]
        self.fields = [_field(child, index) for child in ([schema] if self.single else children)]

    def _check(self, code: int) -> None:
        if code:
            said = self._stream.contents.get_last_error(self._stream)
            text = said.decode(errors="replace") if said else f"error {code}"
            raise SourceError(f"{self._name}: cannot be read: {text}")

    def batches(self) -> Iterator[ColumnBatch]:
        """The numeric columns, in the pieces in which they lie in memory."""
        if self._batch is not None:
            yield self._columns(self._batch, self._capsule)
            return
        while True:
            node = _Node()
            self._check(self._stream.contents.get_next(self._stream, ctypes.byref(node)))
            if not node.release:
                return
            yield self._columns(node, _Owner(node))

    def _columns(self, node: Any, owner: Any) -> ColumnBatch:
        children = [node] if self.single else [node.children[i].contents for i in self._range()]
        if not self.single and node.null_count > 0:
            raise PatternError(f"{self._name} is a column of structures with missing ones")
        begin = 0 if self.single else node.offset
        pairs = [
            (field.name, _column(child, begin, node.length, field.dtype, owner))
            for field, child in zip(self.fields, children, strict=True)
            if field.dtype
        ]
        names, columns = tuple(n for n, _ in pairs), tuple(c for _, c in pairs)
        return ColumnBatch(names, columns, node.length, self.single)

    def _range(self) -> range:
        return range(len(self.fields))


def _pointer(capsule: Any, name: bytes, kind: Any) -> Any:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.cast(get(capsule, name), kind)


def _field(schema: Any, index: Sequence[str]) -> Field:
    name = (schema.name or b"").decode()
    if name in index:
        return Field(name, "", "index")
    if schema.dictionary:
        return Field(name, "", "categorical")
    code = schema.format.decode()
    if code in _NUMBERS:
        return Field(name, _NUMBERS[code], _NUMBERS[code])
    return Field(name, "", next((t for head, t in _OTHERS if code.startswith(head)), code))


def _column(node: Any, begin: int, length: int, dtype: str, owner: Any) -> BufferColumn:
    """Rows begin to begin + length of a column, as views that keep their owner alive."""
    begin += node.offset
    valid = None
    if node.buffers[0] and node.null_count != 0:
        valid = _bits(node.buffers[0], begin, length, owner)
    if dtype == "bool":
        return BufferColumn(_bits(node.buffers[1], begin, length, owner), valid)
    kind = np.dtype(dtype)
    raw = _memory(node.buffers[1], (begin + length) * kind.itemsize, owner)
    return BufferColumn(raw.view(kind)[begin:], valid)


def _bits(address: int | None, begin: int, length: int, owner: Any) -> Bits:
    return Bits(_memory(address, (begin + length + 7) // 8, owner), begin, length)


def _memory(address: int | None, size: int, owner: Any) -> Any:
    if not address or not size:
        return np.zeros(0, np.uint8)
    held: Any = (ctypes.c_uint8 * size).from_address(address)
    held._owner = owner
    array = np.frombuffer(held, np.uint8)
    array.flags.writeable = False
    return array
