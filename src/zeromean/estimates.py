"""`Estimate`: what a profile of a sample of files says of how well it knows mean and std."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.documents import field, plain
from zeromean.errors import FormatError

_Floats = npt.NDArray[np.float64]
_DIGITS = 6
_CLUSTERS = ("files", "blocks")
#: The details of a normalizer that says so.
DETAILS = {"estimate_files", "estimate_of_files", "estimate_within"}
_WIDTHS = ("mean_half_width", "std_half_width")


@dataclass(frozen=True, eq=False)
class Estimate:
    """How well a random sample of files knows mean and std.

    Attributes
    ----------
    confidence : float
        Probability that all intervals hold at once: 0.95.
    asked : float
        Half width that was asked for, on the scale where the range has length 1.
    scale : float
        Length of the range: 255 for uint8.
    files, of_files : int
        How many were drawn, and of how many. Those that could not be read are among them.
    clusters : {"files", "blocks"}
        What was drawn: files, pictures of an archive say, or blocks of large arrays.
    looks : tuple of int
        How many files had been read whenever it was looked whether they are enough.
    seed : int
        Of the random order of files: see `zeromean.sampling.random_order`.
    unit_mean_half_width, unit_std_half_width : ndarray of float64, kept shape
        Each mean and std of all files lies within this of the one that was measured; on the scale
        where the range has length 1. Rounded up to six digits.
    """

    confidence: float
    asked: float
    scale: float
    files: int
    of_files: int
    clusters: str
    looks: tuple[int, ...]
    seed: int
    unit_mean_half_width: _Floats
    unit_std_half_width: _Floats

    @property
    def mean_half_width(self) -> _Floats:
        """The half width of each mean in the data's own units."""
        return self.unit_mean_half_width * self.scale

    @property
    def std_half_width(self) -> _Floats:
        """The half width of each std in the data's own units."""
        return self.unit_std_half_width * self.scale

    def of_entry(self, place: int) -> Self:
        """The estimate of one kept entry, as one number.

        Parameters
        ----------
        place : int
            In C order.
        """
        mean, std = self.unit_mean_half_width, self.unit_std_half_width
        return replace(
            self,
            unit_mean_half_width=np.ravel(mean)[place],
            unit_std_half_width=np.ravel(std)[place],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Estimate):
            return NotImplemented
        return self.scale == other.scale and self.to_fields() == other.to_fields()

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        width = f"{number(self.asked * self.scale)} ({number(self.asked)} of the range)"
        sure = f"with {number(100 * self.confidence)} % confidence for all of them together"
        return (
            f"estimate from {self._drawn}: every mean and std is within {width} of that of all "
            f"{self.clusters}, {sure}"
        )

    @property
    def short(self) -> str:
        """The same in few words, for a line of code."""
        return f"estimate from {self._drawn}, within {number(self.asked)} of the range"

    @property
    def _drawn(self) -> str:
        return f"{self.files:,} of {self.of_files:,} {self.clusters}"

    @property
    def details(self) -> dict[str, float]:
        """What a normalizer that is made of an estimate says of it."""
        return {
            "estimate_files": float(self.files),
            "estimate_of_files": float(self.of_files),
            "estimate_within": self.asked,
        }

    # ------------------------------------------------------------ files

    def to_fields(self) -> dict[str, Any]:
        """As JSON values."""
        widths = {n: plain(getattr(self, n)) for n in _WIDTHS}
        units = {f"unit_{n}": plain(getattr(self, f"unit_{n}")) for n in _WIDTHS}
        return {
            "confidence": self.confidence,
            "within": self.asked,
            "files": self.files,
            "of_files": self.of_files,
            "clusters": self.clusters,
            "looks": list(self.looks),
            "seed": self.seed,
            **widths,
            **units,
        }

    @classmethod
    def from_fields(cls, document: Mapping[str, Any], shape: tuple[int, ...]) -> Self | None:
        """From a whole document, checked; None where it is exact.

        Parameters
        ----------
        document : mapping
        shape : tuple of int
            The kept shape.

        Raises
        ------
        FormatError
            Naming the field.
        """
        if "estimate" not in document:
            return None
        part: Mapping[str, Any] = field(document, "estimate", dict)
        limits = document["range"]
        if limits is None:
            raise FormatError("field 'range' is null, but an estimate is a share of the range")
        asked = _share(part, "within")
        files, whole = _count(part, "files"), _count(part, "of_files")
        if not 0 < files < whole:
            raise FormatError(
                f"field 'estimate.files' is {files} of {whole}, which is no sample of them"
            )
        clusters = _inner(part, "clusters", str)
        if clusters not in _CLUSTERS:
            raise FormatError(f"field 'estimate.clusters' is {clusters!r:.40}")
        held = cls(
            confidence=_share(part, "confidence"),
            asked=asked,
            scale=float(limits[1] - limits[0]),
            files=files,
            of_files=whole,
            clusters=clusters,
            looks=_looks(part, files),
            seed=_count(part, "seed"),
            **{f"unit_{name}": _widths(part, f"unit_{name}", shape, asked) for name in _WIDTHS},
        )
        for name in _WIDTHS:
            if part.get(name) != plain(getattr(held, name)):
                raise FormatError(f"field 'estimate.{name}' does not follow from the others")
        return held


def rounded_up(widths: Any, asked: float, shape: tuple[int, ...]) -> _Floats:
    """Half widths with six digits, so that they are the same on every machine; none above `asked`.

    Parameters
    ----------
    widths : sequence of float
    asked : float
    shape : tuple of int

    Examples
    --------
    >>> rounded_up([0.0123456789, 0.02, 0.0], 0.02, (3,))
    array([0.0123457, 0.02     , 0.       ])
    """
    held = np.array([min(asked, _up(float(v))) for v in widths], np.float64).reshape(shape)
    held.flags.writeable = False
    return held


def _up(value: float) -> float:
    if value == 0:
        return 0.0
    exact = Decimal(value)
    step = Decimal((0, (1,), exact.adjusted() + 1 - _DIGITS))
    return float(exact.quantize(step, rounding=ROUND_CEILING))


def said_of(details: Mapping[str, float]) -> str:
    """That a normalizer was made of an estimate, in a few words; empty where it was not.

    Parameters
    ----------
    details : mapping of str to float
        Of a `zeromean.Normalizer`; see `Estimate.details`.
    """
    if any(name not in details for name in DETAILS):
        return ""
    files, whole = (f"{details[name]:,.0f}" for name in ("estimate_files", "estimate_of_files"))
    share = number(details["estimate_within"])
    return f"made of an estimate from {files} of {whole} files, within {share} of the range"


def number(value: float) -> str:
    """A few digits, without an exponent where none is needed."""
    return f"{value:.6g}"


# ---------------------------------------------------------------- checked fields


def _share(part: Mapping[str, Any], name: str) -> float:
    value: Any = _inner(part, name, (float, int))
    if not 0 < value < 1:
        raise FormatError(f"field 'estimate.{name}' is {value!r:.40}, which is not between 0 and 1")
    return float(value)


def _count(part: Mapping[str, Any], name: str) -> int:
    value: int = _inner(part, name, int)
    if value < 0:
        raise FormatError(f"field 'estimate.{name}' is negative")
    return value


def _looks(part: Mapping[str, Any], files: int) -> tuple[int, ...]:
    looks: list[Any] = _inner(part, "looks", list)
    whole = all(type(n) is int and n > 0 for n in looks)
    if not whole or not looks or sorted(set(looks)) != looks or looks[-1] != files:
        raise FormatError("field 'estimate.looks' must hold growing numbers up to 'files'")
    return tuple(looks)


def _widths(part: Mapping[str, Any], name: str, shape: tuple[int, ...], asked: float) -> _Floats:
    entries: Any = _inner(part, name, (list, float, int))
    try:
        values = np.array(entries, np.float64)
    except (ValueError, TypeError):
        raise FormatError(f"field 'estimate.{name}' must hold numbers") from None
    if values.shape != shape or not np.isfinite(values).all() or values.tolist() != entries:
        raise FormatError(f"field 'estimate.{name}' must hold numbers of shape {list(shape)}")
    if not ((values >= 0) & (values <= asked)).all():
        raise FormatError(f"field 'estimate.{name}' must lie between 0 and {asked!r}")
    values.flags.writeable = False
    return values


def _inner(part: Mapping[str, Any], name: str, kind: Any) -> Any:
    try:
        return field(part, name, kind)
    except FormatError as error:
        raise FormatError(str(error).replace(f"'{name}'", f"'estimate.{name}'")) from None
