"""What the stored values of a DICOM file stand for: rescale slope, look-up tables, padding.

The headers are pydicom's data sets; numbers are only taken out of them by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.sources.decode import DecodeError

_Array = npt.NDArray[Any]

#: What is needed of a header beside the pixels, and all of it that is read.
WANTED = (
    "DoseGridScaling",
    "ModalityLUTSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "RescaleIntercept",
    "RescaleSlope",
    "SharedFunctionalGroupsSequence",
)


@dataclass(frozen=True, slots=True)
class Modality:
    """From the stored values of each frame to those that are measured.

    Attributes
    ----------
    stored, dtype : str
        dtypes before and after.
    lines : tuple of (float, float)
        Slope and intercept: of each frame, of all of them, or none.
    table : ndarray of int32, optional
        What stored values from `first` on stand for.
    first : int
    note : str
        What is done.
    """

    stored: str
    dtype: str
    lines: tuple[tuple[float, float], ...] = ()
    table: Any = None
    first: int = 0
    note: str = ""

    def __call__(self, frame: _Array, number: int) -> _Array:
        """The values of one frame."""
        if self.table is not None:
            places = np.clip(frame.astype(np.int64) - self.first, 0, len(self.table) - 1)
            looked_up: _Array = self.table[places]
            return looked_up
        if not self.lines:
            return frame
        slope, intercept = self.lines[number if len(self.lines) > 1 else 0]
        if self.dtype.startswith("int"):
            of = np.dtype(self.dtype).type
            whole: _Array = frame.astype(self.dtype) * of(int(slope)) + of(int(intercept))
            return whole
        with np.errstate(over="ignore", invalid="ignore"):
            return frame.astype(np.float64) * slope + intercept


def modality_of(header: Any, stored: str, n_frames: int) -> Modality:
    """What the header says that stored values stand for.

    Parameters
    ----------
    header : pydicom.Dataset
    stored : str
        dtype of the stored values.
    n_frames : int

    Raises
    ------
    DecodeError
        When it contradicts itself, or integers would not fit 64 bits.
    """
    if header.get("ModalityLUTSequence"):
        return _by_table(header.ModalityLUTSequence[0], stored)
    dose = header.get("DoseGridScaling")
    if dose is not None:
        lines: tuple[tuple[float, float], ...] = ((float(dose), 0.0),)
        return Modality(stored, "float64", lines, note="dose grid scaling applied")
    lines = _lines(header, n_frames)
    if not lines:
        return Modality(stored, stored)
    whole = all(value.is_integer() for line in lines for value in line)
    if not whole or stored.startswith("float"):
        return Modality(stored, "float64", lines, note="rescale slope and intercept applied")
    note = "rescale slope and intercept applied"
    if len(set(lines)) == 1:
        note = f"rescale slope {lines[0][0]:g} intercept {lines[0][1]:g} applied"
    return Modality(stored, _integers(stored, lines), lines, note=note)


def _integers(stored: str, lines: tuple[tuple[float, float], ...]) -> str:
    """The dtype that holds whatever stored values may become."""
    limits = (0, 1) if stored == "bool" else (np.iinfo(stored).min, np.iinfo(stored).max)
    ends = [int(limit) * int(a) + int(b) for limit in limits for a, b in lines]
    for dtype in ("int32", "int64"):
        if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
            return dtype
    raise DecodeError("its rescaled values may not fit 64 bits")


def _lines(header: Any, n_frames: int) -> tuple[tuple[float, float], ...]:
    """Slope and intercept: of the whole file, shared by its frames, or of each."""
    if (line := _line(header)) is not None:
        return (line,)
    shared = header.get("SharedFunctionalGroupsSequence") or [None]
    if (line := _line(_transformation(shared[0]))) is not None:
        return (line,)
    each = [_line(_transformation(g)) for g in header.get("PerFrameFunctionalGroupsSequence") or ()]
    known = tuple(line for line in each if line is not None)
    if known and len(known) != n_frames:
        raise DecodeError(f"says how to rescale {len(known)} of its {n_frames} frames")
    return known if len(set(known)) != 1 else known[:1]


def _transformation(group: Any) -> Any:
    sequence = None if group is None else group.get("PixelValueTransformationSequence")
    return sequence[0] if sequence else None


def _line(header: Any) -> tuple[float, float] | None:
    if header is None:
        return None
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if slope is None and intercept is None:
        return None
    line = float(1 if slope is None else slope), float(0 if intercept is None else intercept)
    if not np.isfinite(line).all():
        raise DecodeError("its rescale slope or intercept is not finite")
    return line


def _by_table(item: Any, stored: str) -> Modality:
    """A table is measured in int32, as rescaled integers are."""
    count, first, _ = (int(v) for v in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if item.original_encoding[1] else ">"
        values = np.frombuffer(data, f"{order}u2").astype(np.int32)
    else:
        values = np.atleast_1d(np.asarray(data, np.int32))
    count = count or 1 << 16
    if len(values) < count:
        raise DecodeError(f"its modality table has {len(values)} of {count} entries")
    return Modality(stored, "int32", (), values[:count], first, "modality look-up table applied")


# ---------------------------------------------------------------- padding


def padding_of(header: Any, dtype: str) -> tuple[int, int] | None:
    """The smallest and largest stored value that stand for no data, None for none.

    Parameters
    ----------
    header : pydicom.Dataset
    dtype : str
        Of the stored values.
    """
    value = header.get("PixelPaddingValue")
    if not isinstance(value, int) or not dtype.startswith(("int", "uint")):
        return None
    limit = header.get("PixelPaddingRangeLimit")
    ends = [_wrapped(v, dtype) for v in (value, limit if isinstance(limit, int) else value)]
    return min(ends), max(ends)


def _wrapped(value: int, dtype: str) -> int:
    """A number of 16 bits as the dtype reads it: files name the wrong one of two formats."""
    if dtype.startswith("int") and value > np.iinfo(dtype).max:
        return value - (1 << 16)
    return value + (1 << 16) if dtype.startswith("uint") and value < 0 else value
