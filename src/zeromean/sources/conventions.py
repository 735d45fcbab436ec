"""The CF conventions of what stored values mean: fill values, scale and offset, coordinates.

The dtype of what is unpacked follows xarray's ``decode_cf``, so that both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zeromean.sources.blocks import Reading, Values
from zeromean.sources.cutting import Box, Layout

_NAMING = ("coordinates", "bounds", "climatology", "grid_mapping", "cell_measures", "formula_terms")
_LIMITS = ("valid_range", "valid_min", "valid_max")


@dataclass(frozen=True)
class Decoding:
    """What stored values mean; picklable.

    Attributes
    ----------
    stored : dtype
        That the bytes are taken for.
    dtype : dtype
        Of what comes out.
    fills : tuple of numbers
        Stored values that stand for no data.
    scale, offset : NumPy scalar, optional
        For packed values: stored * scale + offset.
    """

    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    fills: tuple[Any, ...] = ()
    scale: Any = None
    offset: Any = None

    def __call__(self, raw: Any) -> Values:
        """Unpack; where there is no data floats are NaN, and for integers a mask says so."""
        held = raw.view(self.stored)
        missing = self._missing(held)
        if self.scale is None and self.offset is None:
            if self.dtype.kind == "f" and missing is not None:
                held = held.copy()
                held[missing] = np.nan
                missing = None
            return Values(held.astype(self.dtype, copy=False), missing)
        values = held.astype(self.dtype)
        if self.scale is not None:
            values *= self.scale
        if self.offset is not None:
            values += self.offset
        if missing is not None:
            values[missing] = np.nan
        return Values(values)

    def _missing(self, held: Any) -> Any:
        """Where the fill values are; None for nowhere."""
        found = None
        for fill in self.fills:
            here = held == fill
            found = here if found is None else found | here
        return found if found is not None and found.any() else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to the values."""
        pairs = (("scale_factor", self.scale), ("add_offset", self.offset))
        applied = [f"{name} {value.item():g}" for name, value in pairs if value is not None]
        notes = [f"{' and '.join(applied)} applied"] * bool(applied)
        return (*notes, *(f"{fill:g} stands for no data" for fill in self.fills))


def decoding_of(dtype: np.dtype[Any], attributes: Mapping[str, Any]) -> Decoding | None:
    """What the attributes of a variable say of its values; None for nothing.

    Parameters
    ----------
    dtype : dtype
        As stored.
    attributes : mapping
        Numbers may be in arrays of one element.
    """
    unsigned = _text(attributes.get("_Unsigned")).lower()
    stored = dtype
    if dtype.kind in "iu" and unsigned in ("true", "false"):
        kind = "u" if unsigned == "true" else "i"
        stored = np.dtype(f"{kind}{dtype.itemsize}").newbyteorder(dtype.byteorder)
    fills: dict[Any, None] = {}
    for name in ("_FillValue", "missing_value"):
        for value in np.ravel(attributes.get(name, ())).tolist():
            if (fill := _as_stored(value, dtype, stored)) is not None:
                fills[fill] = None
    scale, offset = _number(attributes.get("scale_factor")), _number(attributes.get("add_offset"))
    out = stored if scale is None and offset is None else _float_dtype(stored, scale, offset)
    if _text(attributes.get("dtype")) == "bool" and dtype.itemsize == 1:
        out = np.dtype(bool)
    if not fills and stored == dtype == out:
        return None
    return Decoding(stored, out, tuple(fills), scale, offset)


def _as_stored(value: Any, dtype: np.dtype[Any], stored: np.dtype[Any]) -> Any:
    """A fill value as the dtype has it; None where no stored value can be equal to it."""
    if not isinstance(value, int | float) or value != value:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value).item()
    if value != int(value) if np.isfinite(value) else True:
        return None
    for kind in (dtype, stored):  # written for what is stored, or for what it means
        limits = np.iinfo(kind) if kind.kind in "iu" else None
        if limits is not None and limits.min <= value <= limits.max:
            return np.array(int(value), kind).view(stored).item()
    return None


def _float_dtype(stored: np.dtype[Any], scale: Any, offset: Any) -> np.dtype[Any]:
    """Of unpacked values, as `xarray.coding.variables._choose_float_dtype`."""
    if offset is None:
        own: np.dtype[Any] = scale.dtype
        return own
    if scale is None or scale.dtype != offset.dtype:
        return np.dtype(np.float64)
    wide = stored.kind in "iu" and stored.itemsize == 4
    return np.dtype(np.float64 if wide else scale.dtype)


def _number(value: Any) -> Any:
    """An attribute as a NumPy float of its own width."""
    if value is None:
        return None
    held = np.ravel(value)
    if held.size != 1 or held.dtype.kind not in "iuf":
        return None
    return held[0] if held.dtype in (np.float32, np.float64) else np.float64(held[0])


def _text(value: Any) -> str:
    if value is None:
        return ""
    held = np.ravel(value).tolist()
    first = held[0] if held else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def is_time(attributes: Mapping[str, Any]) -> bool:
    """Whether values are dates: counted in some unit since a day."""
    return " since " in _text(attributes.get("units"))


def unchecked(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes of limits that nobody applies."""
    return tuple(f"{name} not applied" for name in _LIMITS if name in attributes)


def named_by(variables: Iterable[Mapping[str, Any]]) -> set[str]:
    """The variables that only serve others: coordinates, bounds, grid mappings.

    Parameters
    ----------
    variables : iterable of mapping
        The attributes of each variable.
    """
    found: set[str] = set()
    for attributes in variables:
        for name in _NAMING:
            found |= {word for word in _text(attributes.get(name)).split() if word[-1] != ":"}
    return found


@dataclass(frozen=True)
class Decoded:
    """An array whose stored values are unpacked, as a `zeromean.sources.blocks.BlockArray`.

    Attributes
    ----------
    array : BlockArray
        As stored.
    decoding : Decoding
    layout, notes
        Of what comes out.
    """

    array: Any
    decoding: Decoding
    layout: Layout = field(init=False)
    notes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        held: Layout = self.array.layout
        own = Layout(held.shape, self.decoding.dtype, held.chunks)
        object.__setattr__(self, "layout", own)
        object.__setattr__(self, "notes", (*self.decoding.notes, *self.array.notes))

    @property
    def name(self) -> str:
        """That of the stored one."""
        return str(self.array.name)

    @property
    def dims(self) -> tuple[str, ...]:
        """Those of the stored one."""
        return tuple(self.array.dims)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the stored one."""
        return tuple(self.array.warnings)

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What reads a box."""
        return DecodedReading(self.array.reading(box, rows), self.decoding)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """That of the stored one."""
        return tuple(self.array.stamp(box))


@dataclass(frozen=True)
class DecodedReading:
    """Reads a box and unpacks it."""

    reading: Any
    decoding: Decoding

    def __call__(self) -> Values:
        """Read it."""
        return self.decoding(self.reading().array)

    def stamp(self) -> tuple[int, ...]:
        """That of the stored one."""
        return tuple(self.reading.stamp())
