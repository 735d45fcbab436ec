"""What applying writes and how: dtype, layout, file formats, and a record of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.provenance import Units

_Array = npt.NDArray[Any]
FORMATS = ("npy", "npz", "safetensors")


@dataclass(slots=True)
class Applied:
    """What was written.

    Attributes
    ----------
    files : list of Path
    items : int
    skipped : list of (str, str)
        Path and reason.
    low, high : float
        Range of the output; infinite where nothing was written.
    dtype : str
        Of the output.
    """

    files: list[Path] = field(default_factory=list)
    items: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    low: float = np.inf
    high: float = -np.inf
    dtype: str = ""

    def saw(self, array: _Array) -> None:
        """Widen the range."""
        self.dtype = array.dtype.name
        if array.size:
            self.low = min(self.low, float(array.min()))
            self.high = max(self.high, float(array.max()))


@dataclass(frozen=True, slots=True)
class Output:
    """How results are written: dtype, channel layout, file format, pictures in a file; inverted."""

    dtype: str | None = None
    layout: str | None = None
    format: str = "npz"
    shard_size: int | None = None
    invert: bool = False

    def of(self, norm: Any, array: _Array) -> _Array:
        """Normalize an array with all its axes, or undo it."""
        if self.invert:
            inverted: _Array = norm.invert(array, dtype=self.dtype, layout=self.layout)
            return inverted
        result: _Array = norm(array, dtype=self.dtype, layout=self.layout)
        return result


def units_of(norm: Any) -> Units:
    """Units of the raw data; none for numbers of single samples."""
    units: Units = getattr(norm, "units", Units())
    return units


def save_npy(path: Path, array: _Array) -> None:
    """Write a `.npy` file, whatever its name."""
    with path.open("wb") as file:  # np.save would add a suffix to a temporary name
        np.save(file, array)


def save_arrays(path: Path, arrays: dict[str, _Array], kind: str) -> None:
    """Write named arrays to `.npz` or `.safetensors`."""
    if kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return
    from safetensors.numpy import save_file

    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, path)
