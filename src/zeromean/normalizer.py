"""The affine `Normalizer`: apply, invert, save."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean import documents
from zeromean.documents import field
from zeromean.errors import FormatError, PatternError, UnitError
from zeromean.pattern import Pattern
from zeromean.profile_file import check_size, head_of
from zeromean.provenance import Units

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_BLOCK_BYTES = 1 << 20
_NUMBERS = ("shift", "scale")
_OUTPUTS = ("float16", "float32", "float64")
_SLACK = 1e-6  # how far a float may lie outside its range before the units are doubted


@dataclass(frozen=True, eq=False)
class Normalizer:
    """y = (x - shift) / scale, feature by feature, and back.

    Made by a recipe (`zeromean.zero_mean`, `zeromean.standardize`) or by `zeromean.load`.

    Attributes
    ----------
    pattern : Pattern
    kept_shape : tuple of int
    shift : ndarray of float64, kept shape
        What is subtracted, in the units of the raw data.
    scale : ndarray of float64, kept shape
        What the shifted data is divided by; 1 for constant features.
    dtype : str
        Of the raw data.
    units : Units
        Range and channel order of the raw data.
    recipe : str
    ddof : int
        Of the std that became the scale.
    constant : tuple of str
        Features without spread, whose scale is 1.
    feature_names : tuple of str

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> image = np.array([[[0], [255]], [[1], [256 - 2]]], dtype=np.uint8)
    >>> norm = zm.zero_mean(zm.measure(image, "h w c -> c"))
    >>> norm(image).ravel()
    array([-127.5,  127.5, -126.5,  126.5], dtype=float32)
    >>> bool((norm.invert(norm(image)) == image).all())
    True
    """

    pattern: Pattern
    kept_shape: tuple[int, ...]
    shift: _Floats
    scale: _Floats
    dtype: str
    units: Units
    recipe: str
    ddof: int = 0
    constant: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            values = np.array(getattr(self, name), np.float64)
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def __call__(
        self, x: Any, *, out: _Array | None = None, dtype: Any = None, layout: str | None = None
    ) -> _Array:
        """Normalize data.

        Parameters
        ----------
        x : array
            Any shape that fits the pattern; the first axis may be missing if it is not kept.
        out : ndarray, optional
            Where to write; sets the dtype.
        dtype : {"float32", "float16", "float64"}, optional
            Of the result. Computed in float64 and rounded once at the end.
        layout : {"chw"}, optional
            Move the last axis, the channels, in front of height and width. The result is
            contiguous.

        Returns
        -------
        ndarray
            Same shape as `x`, unless `layout` says otherwise.

        Raises
        ------
        PatternError
            When the shape does not fit.
        UnitError
            When the data is visibly on another scale than what was measured.
        """
        array, complete = self._fitted(x)
        self._check_units(array)
        target = self._target(array, complete, out, dtype, layout)
        shift, scale = self._spread(array.shape)
        moved = np.moveaxis(target, -3, -1) if layout == "chw" else target
        for index in _pieces(array):
            centered = array[index].astype(np.float64)
            centered -= _at(shift, index)
            centered /= _at(scale, index)
            moved[index] = centered
        result = target if complete else target[0]
        return result if out is None else out

    def invert(self, y: Any, *, dtype: Any = None) -> _Array:
        """Undo the normalization: x = y * scale + shift.

        Parameters
        ----------
        y : array
            As `__call__` gave it, in the original layout.
        dtype : optional
            Of the result; the raw dtype by default. Integers are rounded to nearest and
            clipped to their range, so that a round trip through float32 is the identity for
            uint8 and uint16.

        Returns
        -------
        ndarray, same shape as `y`

        Raises
        ------
        PatternError
            When the shape does not fit, or NaN would have to become an integer.
        UnitError
            For integers, which are raw data and not normalized.
        """
        if np.asarray(y).dtype.kind in "iub":
            raise UnitError(
                f"invert takes what normalizing gave, floats around zero, not "
                f"{np.asarray(y).dtype.name} data"
            )
        array, complete = self._fitted(y)
        wanted = _dtype(self.dtype) if dtype is None else np.dtype(dtype)
        result = np.empty(array.shape, wanted)
        shift, scale = self._spread(array.shape)
        for index in _pieces(array):
            values = array[index].astype(np.float64)
            values *= _at(scale, index)
            values += _at(shift, index)
            result[index] = _whole(values, wanted) if wanted.kind in "iub" else values
        return result if complete else result[0]

    def _fitted(self, x: Any) -> tuple[_Array, bool]:
        if isinstance(x, str | os.PathLike):
            raise PatternError("a normalizer takes arrays; for files there is `zeromean apply`")
        array = np.asarray(x)
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        if array.dtype.kind not in "biuf":
            raise PatternError(f"cannot normalize values of dtype {array.dtype.name}")
        complete = self.check_shape(array.shape)
        return array if complete else array[None], complete

    def check_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape has its first axis, or lacks just that one.

        Parameters
        ----------
        shape : tuple of int

        Returns
        -------
        bool

        Raises
        ------
        PatternError
            When such an array cannot be normalized.
        """
        complete = self.pattern.complete(shape)
        kept = self.pattern.kept_shape(shape if complete else (1, *shape))
        if kept != self.kept_shape:
            raise PatternError(
                f"data of shape {shape} keeps {kept} under the pattern "
                f"{str(self.pattern)!r}, but the normalizer holds {self.kept_shape}"
                + _channels_last_hint(self.kept_shape, shape)
            )
        return complete

    def _check_units(self, array: _Array) -> None:
        """Refuse 0..1 data for 0..255 numbers and the like; both are named."""
        top = self.units.top
        if top is None or array.size == 0:
            return
        if array.dtype.name == self.dtype and array.dtype.kind != "f":
            return  # all its values are in its range
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # all-NaN data has no extrema, and no units to doubt
            low, high = float(np.nanmin(array)), float(np.nanmax(array))
        what = f"the data is {array.dtype.name} from {low:.6g} to {high:.6g}"
        if high > top * (1 + _SLACK) or low < -top * _SLACK:
            raise UnitError(
                f"{what}, but the normalizer was measured on {self.dtype} {self.units}; "
                "bring the data to that range first"
            )
        if array.dtype.kind == "f" and top > 1 and high <= 1 and low < high:
            raise UnitError(
                f"{what}, which looks like 0..1, but the normalizer was measured on {self.dtype} "
                f"{self.units}; multiply the data by {top:g}"
            )

    def _target(
        self, array: _Array, complete: bool, out: _Array | None, dtype: Any, layout: str | None
    ) -> _Array:
        shape = array.shape
        if layout == "chw":
            if len(shape) < 4 and not (len(shape) == 3 and self.pattern.axes[-1] == ("c",)):
                raise PatternError(
                    "layout 'chw' moves the last of the axes h, w, c before the others; data of "
                    f"shape {shape} under the pattern '{self.pattern}' does not end in them"
                )
            shape = (*shape[:-3], shape[-1], *shape[-3:-1])
        elif layout is not None:
            raise PatternError(f"layout is {layout!r}; the choice is 'chw' or nothing")
        if out is None:
            wanted = np.dtype("float32" if dtype is None else dtype)
            if wanted.name not in _OUTPUTS:
                raise PatternError(f"dtype is {wanted.name}; choose one of {', '.join(_OUTPUTS)}")
            return np.empty(shape, wanted)
        if dtype is not None and out.dtype != np.dtype(dtype):
            raise PatternError(f"out is {out.dtype.name}, but dtype says {np.dtype(dtype).name}")
        if out.shape != (shape if complete else shape[1:]) or out.dtype.name not in _OUTPUTS:
            wanted_shape = shape if complete else shape[1:]
            raise PatternError(
                f"out is {out.dtype.name} {out.shape}; it must be a float array of {wanted_shape}"
            )
        return out if complete else out[None]

    def _spread(self, shape: tuple[int, ...]) -> tuple[_Floats, _Floats]:
        return self.pattern.spread(self.shift, shape), self.pattern.spread(self.scale, shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Normalizer):
            return NotImplemented
        plain = ("pattern", "kept_shape", "dtype", "units", "recipe", "ddof", "feature_names")
        return all(getattr(self, n) == getattr(other, n) for n in plain) and all(
            np.array_equal(getattr(self, n), getattr(other, n)) for n in ("shift", "scale")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        what = f'Normalizer({self.recipe}, "{self.pattern}", {self.dtype} ({self.units}))'
        lines = [what, f"  shift {_few(self.shift)}", f"  scale {_few(self.scale)}"]
        if self.constant:
            lines.append(f"  constant, scale 1: {', '.join(self.constant[:8])}")
        return "\n".join(lines)

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to `.json` (readable, up to 10 000 kept entries) or `.safetensors` (any size).

        Parameters
        ----------
        path : path
            An old file is replaced at once, or stays as it is.

        Raises
        ------
        FormatError
            For another suffix, too many entries for JSON, or a folder that cannot be written.
        """
        tensors = str(path).endswith(".safetensors")
        documents.save(path, *self._document(tensors=tensors))

    def to_json(self) -> str:
        """The text that `save` writes to a `.json` file."""
        return documents.to_text(self._document(tensors=False)[0])

    def _document(self, *, tensors: bool) -> tuple[dict[str, Any], documents.Tensors]:
        document = {**self._head(), "checksum": self._checksum()}
        if tensors:
            return document, {k: np.array(getattr(self, k)) for k in _NUMBERS}
        check_size(math.prod(self.kept_shape))
        return document | {k: getattr(self, k).tolist() for k in _NUMBERS}, {}

    def _head(self) -> dict[str, Any]:
        return {
            "format": documents.FORMAT,
            "kind": "normalizer",
            "recipe": self.recipe,
            "pattern": str(self.pattern),
            "sizes": dict(self.pattern.sizes),
            "kept_shape": list(self.kept_shape),
            "dtype": self.dtype,
            **self.units.to_fields(),
            "feature_names": list(self.feature_names),
            "ddof": self.ddof,
            "constant": list(self.constant),
        }

    def _checksum(self) -> str:
        """Over everything in the file."""
        numbers = {k: [v.hex() for v in getattr(self, k).ravel().tolist()] for k in _NUMBERS}
        return documents.checksum({**self._head(), **numbers}, {})

    @classmethod
    def from_document(cls, document: Mapping[str, Any], arrays: documents.Tensors) -> Self:
        """A normalizer from its document, every field checked.

        Parameters
        ----------
        document : mapping
        arrays : dict of str to ndarray
            The tensors beside it, empty for JSON.

        Returns
        -------
        Normalizer

        Raises
        ------
        FormatError
            Naming the field.
        """
        pattern, shape, dtype, names = head_of(document)
        shift, scale = (_floats(document, arrays, name, shape) for name in _NUMBERS)
        if not (scale > 0).all():
            raise FormatError("field 'scale' must be positive")
        constant = field(document, "constant", list)
        held = cls(
            pattern=pattern,
            kept_shape=shape,
            shift=shift,
            scale=scale,
            dtype=dtype,
            units=Units.from_fields(document),
            recipe=field(document, "recipe", str),
            ddof=field(document, "ddof", int),
            constant=tuple(map(str, constant)),
            feature_names=names,
        )
        documents.check_sum(document, held._checksum())
        return held


def _floats(
    document: Mapping[str, Any], arrays: documents.Tensors, name: str, shape: tuple[int, ...]
) -> _Floats:
    if arrays:
        values = documents.tensor(arrays, name, np.float64, shape)
    else:
        entries: Any = field(document, name, (list, float, int))
        try:
            values = np.array(_numbers(entries, name), np.float64)
        except (ValueError, OverflowError):
            raise FormatError(f"field {name!r} must hold numbers of shape {shape}") from None
        if values.shape != shape and values.size + math.prod(shape):
            raise FormatError(f"field {name!r} has shape {values.shape}, not {shape}")
        values = values.reshape(shape)
    if not np.isfinite(values).all():
        raise FormatError(f"field {name!r} holds a value that is not finite")
    return values


def _numbers(entries: Any, name: str) -> Any:
    """Nested lists of numbers as they are; no text, no truth values."""
    if isinstance(entries, list):
        return [_numbers(entry, name) for entry in entries]
    if type(entries) not in (int, float):
        raise FormatError(f"field {name!r} must hold numbers, not {entries!r:.40}")
    return entries


def _channels_last_hint(kept: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if len(kept) == 1 and len(shape) >= 3 and shape[-3] == kept[0] and shape[-1] != kept[0]:
        return (
            "; the channels seem to come first here: move them last, or measure with 'n c h w -> c'"
        )
    return ""


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:  # bfloat16 is known to NumPy once ml_dtypes is imported
        import ml_dtypes

        known: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return known


def _whole(values: _Floats, dtype: np.dtype[Any]) -> _Array:
    """Floats to the nearest integers, clipped to the range of the dtype."""
    if np.isnan(values).any():
        raise PatternError(f"NaN cannot become {dtype.name}; give dtype='float32' to keep it")
    if dtype.kind == "b":
        return np.greater_equal(values, 0.5)
    info = np.iinfo(dtype)
    too_high = values >= float(info.max)  # 2**64 - 1 is no float64; the next one would wrap round
    low = np.clip(np.where(too_high, 0, values), info.min, None)
    whole: _Array = np.rint(low).astype(dtype)
    whole[too_high] = info.max
    return whole


def _few(values: _Floats) -> str:
    flat = np.ravel(values)
    text = ", ".join(f"{v:.7g}" for v in flat[:6].tolist())
    return f"[{text}{', ...' if flat.size > 6 else ''}]"


def _pieces(array: _Array) -> Any:
    """Indices along the first axis that keep the float64 scratch small."""
    if array.ndim == 0:
        return [()]
    step = max(1, len(array) * _BLOCK_BYTES // max(array.size * 8, 1))
    if len(array) == 1 and array.size * 8 > _BLOCK_BYTES and array.ndim > 1:
        rows = array.shape[1]
        inner = max(1, rows * _BLOCK_BYTES // (array.size * 8))
        return [(slice(None), slice(i, i + inner)) for i in range(0, rows, inner)]
    return [(slice(i, i + step),) for i in range(0, len(array), step)]


def _at(values: _Floats, index: tuple[slice, ...]) -> _Floats:
    """The part of broadcastable statistics that belongs to a piece."""
    own = tuple(
        part if length > 1 else slice(None)
        for part, length in zip(index, values.shape, strict=False)
    )
    return values[own]
