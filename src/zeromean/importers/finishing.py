"""From what a foreign file says to a `Normalizer` in raw units; what nobody said is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.destination import dtype_of
from zeromean.embedding import restored
from zeromean.errors import FormatError, PatternError, UnitError
from zeromean.importers.found import Found
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.provenance import Units
from zeromean.statistics.formats import UNIT_EXPONENT

_Floats = npt.NDArray[np.float64]
_DTYPE_OF_RANGE: dict[tuple[float, float], str] = {(0, 255): "uint8", (0, 65535): "uint16"}
_TOPS = {"uint8": 255, "uint16": 65535, "bool": 1}


@dataclass(frozen=True)
class Told:
    """What the user said; None where nothing."""

    range: tuple[float, float] | None = None
    channels: str | None = None
    pattern: str | Pattern | None = None
    dtype: str | None = None


def finished(found: Found, told: Told) -> Normalizer:
    """The normalizer.

    Raises
    ------
    UnitError
        When range or channel order must be told, contradict the file, or the numbers are visibly of
        another scale.
    PatternError
        When the numbers do not fit the pattern.
    FormatError
        When they cannot be a normalizer's.
    """
    limits = _range(found, told)
    numbers = _in_raw_units(found, limits)
    ours = None if found.document is None else _ours(found, numbers)
    if ours is not None:
        check_agreement(ours, told, found.place)
        return ours
    if found.asks_range and limits is None:
        raise UnitError(_question(found))
    _plausible(found, numbers, limits)
    channels = _channels(found, told)
    pattern, shape = _pattern(found, told)
    dtype = _dtype(told.dtype or found.dtype, limits)
    return Normalizer(
        pattern=pattern,
        kept_shape=shape,
        dtype=dtype,
        units=Units(limits, channels),
        recipe=found.recipe,
        feature_names=found.feature_names if len(found.feature_names) == math.prod(shape) else (),
        details=found.details,
        **numbers,
    )


# ---------------------------------------------------------------- range


def _range(found: Found, told: Told) -> tuple[float, float] | None:
    limits = None if told.range is None else _pair(told.range)
    if found.range is not None and limits not in (None, found.range):
        raise UnitError(
            f"{found.place}: {found.title} says that the raw data is {_spell(found.range)}, and "
            f"range says {_spell(limits)}; leave range out, or mend the file"
        )
    limits = limits or found.range or _embedded_range(found.document) or found.usual_range
    if limits is not None and found.unit is None and limits[0] != 0:
        raise UnitError(
            f"{found.place}: these numbers are for data brought to 0..1 by a division, and "
            f"{_spell(limits)} does not begin at 0; say range=(0, top)"
        )
    return limits


def _pair(range_: Any) -> tuple[float, float]:
    """As numbers, whole ones as integers, so that it equals what a measurement records."""
    checked = Units.of("float32", range_=range_).range
    assert checked is not None
    low, high = (int(v) if float(v).is_integer() else float(v) for v in checked)
    return low, high


def _embedded_range(document: Any) -> tuple[float, float] | None:
    try:
        return Units.from_fields(document).range
    except (FormatError, TypeError):
        return None


def _spell(limits: tuple[float, float] | None) -> str:
    return "unknown" if limits is None else f"{limits[0]:g}..{limits[1]:g}"


def _question(found: Found) -> str:
    return (
        f"{found.place}: {found.asks_range}; say what the raw data is: range=(0, 255) (--range 0 "
        "255) for 8-bit pictures, range=(0, 65535) for 16-bit ones, range=(0, 1) for floats"
    )


# ---------------------------------------------------------------- numbers


def _in_raw_units(found: Found, limits: tuple[float, float] | None) -> dict[str, Any]:
    """Shift, scale, offset and matrix for raw data, each rounded once."""
    unit = found.unit
    if unit is None:
        if limits is None:
            raise UnitError(_question(found))
        unit = Fraction(limits[1])
    numbers: dict[str, Any] = {"shift": _rounded(found.shift * unit)}
    if found.matrix is not None:
        numbers["matrix"] = found.matrix / float(unit)
        numbers["scale"] = np.ones(found.shift.shape)
    else:
        numbers["scale"] = _rounded(found.scale * unit)
    if found.offset is not None:
        numbers["offset"] = _rounded(found.offset)
    for name, values in numbers.items():
        low = values if name == "scale" else 1
        if not np.isfinite(values).all() or not np.all(np.asarray(low) > 0):
            raise FormatError(f"{found.place}: the {name} over- or underflows float64 in raw units")
    return numbers


def _rounded(values: Any) -> _Floats:
    values = np.asarray(values, object)
    try:
        return np.reshape([float(v) for v in values.ravel().tolist()], values.shape)
    except OverflowError:
        return np.full(np.shape(values), np.inf)


def _plausible(
    found: Found, numbers: Mapping[str, _Floats], limits: tuple[float, float] | None
) -> None:
    """Refuse numbers of 0..255 data where the file says 0..1, and the other way round."""
    largest = max(found.shift.ravel().tolist())
    spread = 0 if found.matrix is not None else max(found.scale.ravel().tolist())
    if found.top is not None and max(largest, spread) > found.top:
        what, value = ("mean", largest) if largest > found.top else ("std", spread)
        raise UnitError(
            f"{found.place}: a {what} of {float(value):g} cannot be of the 0..{found.top:g} data "
            f"that {found.title} normalizes here, and is probably of 0..255 data: divide mean and "
            "std by 255 in the file, or switch its rescaling off"
        )
    if (
        limits is None
        or found.recipe not in ("standardize", "zero_mean")
        or found.offset is not None
    ):
        return
    low, high = limits
    shift, scale = numbers["shift"], numbers["scale"]
    outside = shift[(shift < low) | (shift > high)]
    if outside.size and found.top is None:
        raise UnitError(
            f"{found.place}: a mean of {outside.ravel()[0]:g} cannot be of data in "
            f"{_spell(limits)}; say another range, or mend the file"
        )
    if high > 2 and shift.any() and shift.max() <= 1 and scale.max() <= 1 and found.channels != "":
        raise UnitError(
            f"{found.place}: a mean of {shift.max():g} looks like that of 0..1 data, but range "
            f"says {_spell(limits)}, and {found.title} does not divide here; say range=(0, 1)"
        )


# ---------------------------------------------------------------- what the numbers belong to


def _channels(found: Found, told: Told) -> str:
    count = found.shift.shape[-1] if found.shift.ndim == 1 else None
    channels = found.channels if told.channels is None else told.channels
    if channels is None:
        raise UnitError(
            f"{found.place}: has {found.shift.size} channels, and nothing says which; say "
            "channels='RGBA' (--channels RGBA) or what they are, or channels='' if they have no "
            "letters"
        )
    if found.feeds_them and channels != found.channels and _reordered(channels, found.channels):
        raise UnitError(
            f"{found.place}: {found.title} feeds {found.channels}, so its numbers are in this "
            f"order, and channels says {channels}; leave channels out, and turn the channels of "
            "your data round"
        )
    if channels and count is not None and found.channels != "" and len(channels) != count:
        raise UnitError(
            f"{found.place}: holds {count} numbers, and channels {channels!r} names "
            f"{len(channels)}; say what all the channels are, or mend the file"
        )
    return channels


def _reordered(told: str, held: str | None) -> bool:
    return bool(held) and sorted(told) == sorted(held or "")


def _pattern(found: Found, told: Told) -> tuple[Pattern, tuple[int, ...]]:
    pattern = Pattern.parse(found.pattern if told.pattern is None else told.pattern)
    shape = found.shift.shape
    if not pattern.can_keep(shape):
        raise PatternError(
            f"{found.place}: holds numbers of shape {shape}, which the pattern {str(pattern)!r} "
            f"cannot keep; {found.pattern!r} can"
        )
    return pattern, shape


def _dtype(dtype: str, limits: tuple[float, float] | None) -> str:
    if not dtype:
        return "float32" if limits is None else _DTYPE_OF_RANGE.get(limits, "float32")
    name = dtype_of(dtype).name
    if name not in UNIT_EXPONENT:
        raise PatternError(
            f"dtype {name!r} cannot be normalized; say what the raw data is, such as uint8"
        )
    top = _TOPS.get(name)
    if top is not None and limits is not None and limits[1] > top:
        raise UnitError(f"dtype={name!r} ends at {top}, and the range is {_spell(limits)}: say one")
    return name


# ---------------------------------------------------------------- our own document in the file


def _ours(found: Found, numbers: Mapping[str, Any]) -> Normalizer | None:
    return restored(
        found.document,
        numbers["shift"],
        numbers["scale"],
        offset=numbers.get("offset", 0.0),
        matrix=numbers.get("matrix"),
        channels=found.channels or "",
        precision=found.precision,
    )


def check_agreement(norm: Normalizer, told: Told, place: str) -> None:
    """Refuse what the user says where our own document says something else.

    Raises
    ------
    UnitError
    """
    held: dict[str, Any] = {
        "range": (told.range and _pair(told.range), norm.units.range),
        "channels": (told.channels, norm.units.channels),
        "pattern": (told.pattern and Pattern.parse(told.pattern), norm.pattern),
        "dtype": (told.dtype and dtype_of(told.dtype).name, norm.dtype),
    }
    for name, (said, known) in held.items():
        if said is not None and said != known:
            raise UnitError(
                f"{place}: was exported by zeromean and holds {name} {_plain(known)}, not "
                f"{_plain(said)}; leave {name} out"
            )


def _plain(value: Any) -> str:
    return repr(str(value)) if isinstance(value, str | Pattern) else _spell(value)
