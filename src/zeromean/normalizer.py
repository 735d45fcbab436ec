"""The affine `Normalizer`: apply, invert, compose, save."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from zeromean import documents, normalizer_file
from zeromean.destination import checked, dtype_of, target_of
from zeromean.errors import PatternError, UnitError, ZeromeanWarning
from zeromean.pattern import Pattern
from zeromean.provenance import Units

if TYPE_CHECKING:
    from torch.nn import Module

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_NUMBERS = ("shift", "scale", "offset")


@dataclass(frozen=True, eq=False)
class Normalizer:
    """y = (x - shift) / scale + offset, feature by feature; or y = (x - shift) matrixᵀ + offset.

    Made by a recipe such as `zeromean.zero_mean` or `zeromean.whiten`, or by `zeromean.load`.

    Attributes
    ----------
    pattern : Pattern
    kept_shape : tuple of int
    shift : ndarray of float64, kept shape
        What is subtracted, in the units of the raw data.
    scale : ndarray of float64, kept shape
        What the shifted data is divided by; 1 for constant features, and where there is a matrix.
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
    offset : ndarray of float64, kept shape; (n_out,) where there is a matrix
        What is added last: 0, but for `zeromean.min_max` and what `then` composed.
    matrix : ndarray of float64, (n_out, n_features), or None
        Of whitening; features are the kept entries in C order.
    details : mapping of str to float
        What a recipe reports, such as the condition number of whitening. Not compared.

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
    offset: _Floats = field(default_factory=lambda: np.zeros(()))
    matrix: _Floats | None = None
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_out = None if self.matrix is None else (len(self.matrix),)
        shapes: dict[str, Any] = {"offset": n_out or self.kept_shape}
        if self.matrix is not None:
            shapes["matrix"] = np.shape(self.matrix)
        for name in _NUMBERS if self.matrix is None else (*_NUMBERS, "matrix"):
            shape = shapes.get(name, self.kept_shape)
            values = np.array(np.broadcast_to(getattr(self, name), shape), np.float64)
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    # ------------------------------------------------------------ there and back

    def __call__(
        self, x: Any, *, out: Any = None, dtype: Any = None, layout: str | None = None
    ) -> Any:
        """Normalize data.

        Parameters
        ----------
        x : array, tensor or data frame
            Any shape that fits the pattern; the first axis may be missing if it is not kept.
        out : ndarray or tensor, optional
            Where to write; sets the dtype. May be `x` itself.
        dtype : {"float32", "float16", "bfloat16", "float64"}, optional
            Of the result; float32 unless given. Computed in float64 and rounded once at the end.
            A data frame keeps its float columns as they are and gets float64 for the others.
        layout : {"chw"}, optional
            Move the last axis, the channels, in front of height and width, on the way.

        Returns
        -------
        ndarray, tensor or data frame
            Of the kind and shape of `x`, unless `layout` says otherwise; the samples by n_out
            features where a matrix leaves fewer features.

        Raises
        ------
        PatternError
            When the shape does not fit.
        UnitError
            When the data is visibly on another scale than what was measured.
        """
        foreign = _foreign(x)
        if foreign is not None:
            return foreign.apply(self, x, out=out, dtype=dtype, layout=layout)
        array, complete = self._fitted(x)
        self.check_units(array)
        shape = self._shape_out(array.shape, layout)
        target = target_of(shape, complete, out, dtype)
        self._forward(array, np.moveaxis(target, -3, -1) if layout == "chw" else target)
        return out if out is not None else target if complete else target[0]

    def _forward(self, array: _Array, target: _Array) -> None:
        if self.matrix is None:
            from zeromean.affine import forward

            forward(array, *self._spread(array.shape), target)
        else:
            from zeromean.mixing import mix

            mix(self.pattern, array, self.shift, self.matrix, self.offset, target)

    def invert(
        self, y: Any, *, out: Any = None, dtype: Any = None, layout: str | None = None
    ) -> Any:
        """Undo the normalization: x = (y - offset) * scale + shift.

        Parameters
        ----------
        y : array, tensor or data frame
            As `__call__` gave it.
        out : ndarray, optional
            Where to write; sets the dtype.
        dtype : optional
            Of the result; the raw dtype by default. Integers are rounded to nearest and
            clipped to their range, so that a round trip through float32 is the identity for
            uint8 and uint16.
        layout : {"chw"}, optional
            When `__call__` was given it: the channels are moved back behind height and width.

        Returns
        -------
        ndarray, tensor or data frame
            Of the shape of the raw data. Where a matrix left fewer features, the point of the
            kept subspace.

        Raises
        ------
        PatternError
            When the shape does not fit, or NaN would have to become an integer.
        UnitError
            For integers, which are raw data and not normalized.
        """
        foreign = _foreign(y)
        if foreign is not None:
            return foreign.invert(self, y, out=out, dtype=dtype, layout=layout)
        array = np.asarray(y)
        if array.dtype.kind in "iub":
            raise UnitError(
                f"invert takes what normalizing gave, floats around zero, not "
                f"{array.dtype.name} data"
            )
        if layout == "chw":
            array = np.moveaxis(array, -3, -1)
        wanted = dtype_of(self.dtype if dtype is None else dtype) if out is None else out.dtype
        if self.matrix is not None:
            return self._unmix(array, wanted, out)
        array, complete = self._fitted(array)
        if wanted.kind in "iu":
            self._doubt(array)
        shape = array.shape if complete else array.shape[1:]
        result = np.empty(shape, wanted) if out is None else checked(out, shape, "biufV")
        from zeromean.affine import backward

        backward(array, *self._spread(array.shape), result if complete else result[None])
        return result

    def _doubt(self, array: _Array) -> None:
        """Warn of values that no data in the range can have become, such as raw ones."""
        if self.units.range is None or array.size == 0 or array.dtype.name == "bfloat16":
            return
        low, high = self.units.range
        largest = float(np.fmax.reduce(np.abs(array), axis=None))
        undone = float(((largest - self.offset) * self.scale + self.shift).min())
        if high + (high - low) < undone < np.inf:
            warnings.warn(
                f"values up to {largest:.6g} become {undone:.6g} and more, far beyond "
                f"{low:g}..{high:g}, and are clipped: is this data normalized?",
                ZeromeanWarning,
                stacklevel=3,
            )

    def _unmix(self, array: _Array, dtype: np.dtype[Any], out: _Array | None) -> _Array:
        from zeromean.mixing import unmix

        assert self.matrix is not None
        reduced = len(self.matrix) != self.shift.size
        if not reduced:
            array, complete = self._fitted(array)
        else:
            complete = True
        x = unmix(self.pattern, array, self.shift, self._inverse, self.offset, reduced=reduced)
        result = np.empty(x.shape, dtype) if out is None else checked(out, x.shape, "biufV")
        from zeromean.affine import backward

        zero, one = np.zeros((1,) * x.ndim), np.ones((1,) * x.ndim)
        backward(x, zero, one, zero, result)
        return result if complete or out is not None else result[0]

    @cached_property
    def _inverse(self) -> _Floats:
        """(n_features, n_out): the inverse of the matrix, or its pseudo-inverse."""
        return np.linalg.pinv(self.matrix)  # type: ignore[arg-type]

    def then(self, second: Any) -> Any:
        """This normalization and then another, as one.

        Parameters
        ----------
        second : Normalizer
            Made from a profile of what this one gives. Its pattern has the same axes; where the
            two keep different ones, the result keeps those of the pattern that keeps more.

        Returns
        -------
        Normalizer
            One affine map; equal to one after the other but for the rounding of the composed
            shift and scale (a few units in the last place of float64).

        Raises
        ------
        PatternError
            When the patterns cannot be brought together.
        UnitError
            When the second was measured on raw data and not on what this one gives.

        Examples
        --------
        >>> import numpy as np
        >>> import zeromean as zm
        >>> x = np.array([[1.0], [2.0], [6.0]])
        >>> first = zm.zero_mean(zm.measure(x))
        >>> second = zm.max_abs(zm.measure(first(x)))
        >>> first.then(second)(x).ravel()
        array([-0.6666667 , -0.33333334,  1.        ], dtype=float32)
        """
        if hasattr(second, "after"):
            return second.after(self)  # per-sample recipes know how to follow
        if not isinstance(second, Normalizer):
            raise PatternError(
                f"a normalizer is followed by another one, not by a {type(second).__name__}; make "
                "one from the profile of what this one gives"
            )
        from zeromean.composition import composed

        return composed(self, second)

    def torch(self, **options: Any) -> Module:
        """The same map as a `torch.nn.Module`; see `zeromean.torch.module` for the options.

        Parameters
        ----------
        **options
            Passed on.

        Returns
        -------
        torch.nn.Module

        Raises
        ------
        ImportError
            Without PyTorch, with what to install.
        """
        from zeromean.torch import module

        made: Module = module(self, **options)
        return made

    # ------------------------------------------------------------ checks

    def _fitted(self, x: Any) -> tuple[_Array, bool]:
        if isinstance(x, str | os.PathLike):
            raise PatternError("a normalizer takes arrays; for files there is `zeromean apply`")
        array = np.asarray(x)
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
        if wide or (array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16"):
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

    def check_units(self, array: _Array) -> None:
        """Refuse 0..1 data for 0..255 numbers and the like; both are named.

        Parameters
        ----------
        array : ndarray

        Raises
        ------
        UnitError
        """
        top = self.units.top
        if top is None or array.size == 0:
            return
        if array.dtype.name == self.dtype and array.dtype.kind != "f":
            return  # all its values are in its range
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # all-NaN data has no extrema, and no units to doubt
            low, high = float(np.nanmin(array)), float(np.nanmax(array))
        self.units.check(self.dtype, array.dtype.name, low, high)

    def _shape_out(self, shape: tuple[int, ...], layout: str | None) -> tuple[int, ...]:
        if self.matrix is not None and len(self.matrix) != self.shift.size:
            from zeromean.mixing import reduced_shape

            shape = reduced_shape(self.pattern, shape, len(self.matrix))
        if layout is None:
            return shape
        if layout != "chw":
            raise PatternError(f"layout is {layout!r}; the choice is 'chw' or nothing")
        if len(shape) < 4 and not (len(shape) == 3 and self.pattern.axes[-1] == ("c",)):
            raise PatternError(
                "layout 'chw' moves the last of the axes h, w, c before the others; data of "
                f"shape {shape} under the pattern '{self.pattern}' does not end in them"
            )
        return (*shape[:-3], shape[-1], *shape[-3:-1])

    def _spread(self, shape: tuple[int, ...]) -> tuple[_Floats, _Floats, _Floats]:
        """Shift, scale and offset, so that they broadcast against data of this shape."""
        cache: dict[Any, Any] = self.__dict__.setdefault("_spreads", {})
        if shape not in cache:
            if len(cache) > 64:
                cache.clear()  # pictures of many sizes
            cache[shape] = tuple(self.pattern.spread(getattr(self, n), shape) for n in _NUMBERS)
        return cache[shape]  # type: ignore[no-any-return]

    # ------------------------------------------------------------ as a value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Normalizer):
            return NotImplemented
        plain = ("pattern", "kept_shape", "dtype", "units", "recipe", "ddof", "feature_names")
        same = all(getattr(self, n) == getattr(other, n) for n in plain)
        if not same or (self.matrix is None) != (other.matrix is None):
            return False
        return all(
            np.array_equal(getattr(self, n), getattr(other, n)) for n in (*_NUMBERS, "matrix")
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __repr__(self) -> str:
        from zeromean.tables import normalizer_headline, normalizer_rows

        _, _, notes = normalizer_rows(self, 1)
        lines = [f"Normalizer({normalizer_headline(self)})", f"  shift {_few(self.shift)}"]
        if self.matrix is None:
            lines.append(f"  scale {_few(self.scale)}")
        if self.offset.any():
            lines.append(f"  offset {_few(self.offset)}")
        return "\n".join(lines + [f"  {note}" for note in notes if not note.startswith("...")])

    def _repr_html_(self) -> str:
        from zeromean.tables import normalizer_html

        return normalizer_html(self, 12)

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to `.json` (readable, up to 10 000 numbers) or `.safetensors` (any size).

        Parameters
        ----------
        path : path
            An old file is replaced at once, or stays as it is.

        Raises
        ------
        FormatError
            For another suffix, too many entries for JSON, a folder that cannot be written, or
            numbers that belong to the samples of one batch.
        """
        tensors = str(path).endswith(".safetensors")
        documents.save(path, *normalizer_file.to_document(self, tensors=tensors))

    def to_json(self) -> str:
        """The text that `save` writes to a `.json` file."""
        return documents.to_text(normalizer_file.to_document(self, tensors=False)[0])

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
        held = cls(**normalizer_file.fields_of(document, arrays))
        documents.check_sum(document, normalizer_file.checksum_of(held))
        return held


def _foreign(x: Any) -> Any:
    """The module that normalizes this kind of object, None for arrays; imports what it needs."""
    home = type(x).__module__.partition(".")[0]
    if home in ("torch", "torchvision"):
        from zeromean import torch

        return torch
    if home in ("pandas", "polars", "pyarrow", "narwhals"):
        from zeromean import tabular

        return tabular
    return None


def _few(values: _Floats) -> str:
    flat = np.ravel(values)
    text = ", ".join(f"{v:.7g}" for v in flat[:6].tolist())
    return f"[{text}{', ...' if flat.size > 6 else ''}]"


def _channels_last_hint(kept: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if len(kept) == 1 and len(shape) >= 3 and shape[-3] == kept[0] and shape[-1] != kept[0]:
        return (
            "; the channels seem to come first here: move them last, or measure with 'n c h w -> c'"
        )
    return ""
