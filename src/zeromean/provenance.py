"""Where numbers came from: units, files read and skipped, decoders, versions.

Units are part of what a profile *means* and are compared; provenance is the record of how
it was made, adds and subtracts along, and is not compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from zeromean.documents import field as checked
from zeromean.documents import from_hex
from zeromean.errors import FormatError, UnitError

_MODULUS = 1 << 256
_SLACK = 1e-6  # how far a float may lie outside its range before the units are doubted
#: What the largest and smallest value of a format are, for formats that use all of them.
_FULL_RANGE = {"uint8": (0, 255), "uint16": (0, 65535), "bool": (0, 1)}


@dataclass(frozen=True, slots=True)
class Units:
    """What one raw value means.

    Attributes
    ----------
    range : tuple of two numbers, or None
        Smallest and largest value of the raw data's scale, (0, 255) for uint8; None for
        signed integers and floats unless told.
    channels : str
        What the channels are and in which order, such as "RGB"; empty when not known.
    colors : str
        How files were decoded to those channels: "RGB", "gray" or "keep"; empty for arrays.
        Recorded, but not compared: the same channels add up wherever they came from.
    """

    range: tuple[float, float] | None = None
    channels: str = ""
    colors: str = field(default="", compare=False)

    @classmethod
    def of(cls, dtype: str, channels: str = "", colors: str = "", range_: Any = None) -> Self:
        """Units of raw data of a dtype, with the dtype's own range unless one is given."""
        limits = _FULL_RANGE.get(dtype) if range_ is None else tuple(range_)
        if limits is not None and not _is_range(limits):
            raise UnitError(f"range must be (low, high), finite, with low < high, not {range_!r}")
        return cls(limits, channels, colors)

    def __str__(self) -> str:
        limits = "" if self.range is None else f"{self.range[0]:g}..{self.range[1]:g}"
        return " ".join(part for part in (self.channels, limits) if part) or "unknown units"

    @property
    def top(self) -> float | None:
        """What to divide by to bring the data to 0..1; None unless the range starts at 0."""
        return self.range[1] if self.range is not None and self.range[0] == 0 else None

    def check(self, measured: str, dtype: str, low: float, high: float) -> None:
        """Refuse data whose dtype and extrema do not fit these units.

        Parameters
        ----------
        measured : str
            The dtype that was measured.
        dtype : str
            Of the data at hand.
        low, high : float
            Its extrema; NaN if it has none.

        Raises
        ------
        UnitError
            With both units and what to do.
        """
        if self.top is None:
            return
        what = f"the data is {dtype} from {low:.6g} to {high:.6g}"
        if high > self.top * (1 + _SLACK) or low < -self.top * _SLACK:
            raise UnitError(
                f"{what}, but the normalizer was measured on {measured} {self}; bring the data to "
                "that range first"
            )
        if "float" in dtype and self.top > 1 and high <= 1 and low < high:
            raise UnitError(
                f"{what}, which looks like 0..1, but the normalizer was measured on {measured} "
                f"{self}; multiply the data by {self.top:g}"
            )

    def to_fields(self) -> dict[str, Any]:
        """As JSON values."""
        limits = None if self.range is None else list(self.range)
        return {"range": limits, "channels": self.channels, "colors": self.colors}

    @classmethod
    def from_fields(cls, document: Mapping[str, Any]) -> Self:
        """From JSON values, checked."""
        limits: Any = checked(document, "range", (list, type(None)))
        if limits is not None:
            numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in limits)
            if not numbers or not _is_range(limits):
                raise FormatError("field 'range' must be null or [low, high] with low < high")
            limits = (limits[0], limits[1])
        channels, colors = checked(document, "channels", str), checked(document, "colors", str)
        return cls(limits, channels, colors)


def _is_range(limits: Sequence[float]) -> bool:
    return len(limits) == 2 and -math.inf < limits[0] < limits[1] < math.inf


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a profile was made.

    Attributes
    ----------
    items : int
        Pictures, recordings or rows that were measured.
    skipped : tuple of (str, str)
        Path and reason of everything that could not be read, sorted.
    bytes : int
        Bytes read.
    digest : int
        Sum modulo 2**256 of the SHA-256 of each measured file; 0 for arrays. Adds and
        subtracts, and does not depend on order.
    decoders, notes, left_out : dict
        How often each decoder ran; what was done on the way (palette, alpha dropped, ...);
        files left out, by extension.
    warnings : tuple of str
    sources : tuple of str
        What was asked for, such as a folder's name.
    versions : dict
        Of zeromean and NumPy.
    """

    items: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    bytes: int = 0
    digest: int = 0
    decoders: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: Provenance) -> Provenance:
        return Provenance(
            items=self.items + other.items,
            skipped=tuple(sorted((Counter(self.skipped) + Counter(other.skipped)).elements())),
            bytes=self.bytes + other.bytes,
            digest=(self.digest + other.digest) % _MODULUS,
            decoders=_added(self.decoders, other.decoders),
            notes=_added(self.notes, other.notes),
            left_out=_added(self.left_out, other.left_out),
            warnings=_united(self.warnings, other.warnings),
            sources=_united(self.sources, other.sources),
            versions={**other.versions, **self.versions},
        )

    def __sub__(self, other: Provenance) -> Provenance:
        skipped = Counter(self.skipped)
        skipped.subtract(Counter(other.skipped))
        return replace(
            self,
            items=max(0, self.items - other.items),  # parts may be cut along other axes
            skipped=tuple(sorted((+skipped).elements())),
            bytes=max(0, self.bytes - other.bytes),
            digest=(self.digest - other.digest) % _MODULUS,
            decoders=_removed(self.decoders, other.decoders),
            notes=_removed(self.notes, other.notes),
            left_out=_removed(self.left_out, other.left_out),
        )

    def to_fields(self) -> dict[str, Any]:
        """As JSON values, without `items` and `skipped`, which stand at the top of a file."""
        result: dict[str, Any] = {}
        for entry in fields(self):
            if entry.name not in ("items", "skipped"):
                value = getattr(self, entry.name)
                is_map = isinstance(value, Mapping)
                result[entry.name] = dict(value) if is_map else value
        result["digest"] = format(self.digest, "064x")
        result["warnings"], result["sources"] = list(self.warnings), list(self.sources)
        return result

    @classmethod
    def from_fields(cls, document: Mapping[str, Any]) -> Self:
        """From a whole document, checked."""
        part: Mapping[str, Any] = checked(document, "provenance", dict)
        digest = checked(part, "digest", str)
        if len(digest) != 64:
            raise FormatError("field 'digest' must be 64 hex digits")
        return cls(
            items=_count(document, "items"),
            skipped=tuple(_skip(entry) for entry in checked(document, "skipped", list)),
            bytes=_count(part, "bytes"),
            digest=from_hex(digest.lstrip("0") or "0", "digest"),
            decoders=_counts(part, "decoders"),
            notes=_counts(part, "notes"),
            left_out=_counts(part, "left_out"),
            warnings=_strings(part, "warnings"),
            sources=_strings(part, "sources"),
            versions={k: str(v) for k, v in checked(part, "versions", dict).items()},
        )


def _added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(first) + Counter(second)).items()))


def _removed(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(first) - Counter(second)).items()))


def _united(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _skip(entry: Any) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise FormatError("field 'skipped' must hold objects with path and reason")
    return checked(entry, "path", str), checked(entry, "reason", str)


def _count(document: Mapping[str, Any], name: str) -> int:
    value: int = checked(document, name, int)
    if value < 0:
        raise FormatError(f"field {name!r} is negative")
    return value


def _counts(document: Mapping[str, Any], name: str) -> dict[str, int]:
    counts: dict[str, Any] = checked(document, name, dict)
    if not all(isinstance(v, int) and v >= 0 for v in counts.values()):
        raise FormatError(f"field {name!r} must hold counts")
    return counts


def _strings(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    strings: list[Any] = checked(document, name, list)
    if not all(isinstance(v, str) for v in strings):
        raise FormatError(f"field {name!r} must hold strings")
    return tuple(strings)
