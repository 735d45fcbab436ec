"""Measures what a transform makes of each picture, beside the picture itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Item
from zeromean.sources.arrays import is_picture
from zeromean.sources.decode import DecodeError, from_pil
from zeromean.sources.resizing import as_pil, resized

_Array = npt.NDArray[Any]
_LONGEST = 200  # characters of what a function raised
_CHANNELS = (1, 3, 4)  # of a tensor that has them in front

# ---------------------------------------------------------------- transforms of our own


@dataclass(frozen=True, slots=True)
class Resize:
    """A picture resized as torchvision's ``Resize`` does with PIL images: bilinear, antialiased.

    Gray and RGB pictures are the same to the pixel. All others are resized channel by channel;
    torchvision multiplies RGBA by its alpha first.

    Parameters
    ----------
    size : int or (int, int)
        Of the shorter side, which keeps the ratio; or height and width.

    Examples
    --------
    >>> Resize(4)(np.zeros((8, 20, 3), np.uint8)).shape
    (4, 10, 3)
    >>> Resize((5, 6))(np.zeros((8, 20, 3), np.uint8)).shape
    (5, 6, 3)
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        _check(self.size, "Resize")

    def __call__(self, pixels: _Array) -> _Array:
        """The picture, (h, w) or (h, w, c), of another size."""
        height, width = self.of(*pixels.shape[:2])
        return pixels if (height, width) == pixels.shape[:2] else resized(pixels, height, width)

    def of(self, height: int, width: int) -> tuple[int, int]:
        """What becomes of a size."""
        if not isinstance(self.size, int):
            return self.size
        if width <= height:
            return int(self.size * height / width), self.size
        return self.size, int(self.size * width / height)


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """The middle of a picture, as torchvision's ``CenterCrop``; a smaller one gets a border of 0.

    Parameters
    ----------
    size : int or (int, int)
        Of both sides; or height and width.

    Examples
    --------
    >>> CenterCrop(2)(np.arange(16).reshape(4, 4)).tolist()
    [[5, 6], [9, 10]]
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        _check(self.size, "CenterCrop")

    def __call__(self, pixels: _Array) -> _Array:
        """The middle of a picture, (h, w) or (h, w, c)."""
        wanted = (self.size, self.size) if isinstance(self.size, int) else self.size
        lacking = [max(0, n - m) for n, m in zip(wanted, pixels.shape, strict=False)]
        if any(lacking):
            border = [(n // 2, (n + 1) // 2) for n in lacking]
            pixels = np.pad(pixels, [*border, *[(0, 0)] * (pixels.ndim - 2)])
        begin = [round((m - n) / 2) for n, m in zip(wanted, pixels.shape, strict=False)]
        rows, columns = (slice(b, b + n) for b, n in zip(begin, wanted, strict=True))
        return pixels[rows, columns]


def _check(size: Any, name: str) -> None:
    sides = size if isinstance(size, tuple) else (size,)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sides)
    if not whole or len(sides) > 2 or (isinstance(size, tuple) and len(sides) != 2):
        raise PatternError(f"{name}({size!r}): give one side, or (height, width), in pixels")


def size_of(text: str) -> int | tuple[int, int]:
    """What ``256`` and ``256x128``, height and width, mean.

    Raises
    ------
    PatternError
        For other text.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise PatternError(f"a size is {text!r}; give one side in pixels, or both, as in 256x128")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


@dataclass(frozen=True, slots=True)
class Steps:
    """Transforms one after the other, whatever each of them takes.

    Attributes
    ----------
    steps : tuple of callable
    """

    steps: tuple[Callable[[Any], Any], ...]

    def __call__(self, pixels: Any) -> Any:
        """What the last one makes of what the others made."""
        return reduce(lambda value, step: applied(step, value), self.steps, pixels)


def loaded(text: str) -> Callable[[Any], Any]:
    """The function that ``module:function`` names; modules of the current folder too.

    Raises
    ------
    SourceError
        When it cannot be imported, with the module and the name.
    """
    module, found, name = text.partition(":")
    if not (found and module and name):
        raise SourceError(f"a transform is {text!r}; name it module:function, as in mydata:augment")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function: Any = import_module(module)
    except Exception as error:  # whatever the module does when it is imported
        raise SourceError(
            f"the transform {text}: the module {module} cannot be imported: {_said(error)}"
        ) from error
    for part in name.split("."):
        if not hasattr(function, part):
            raise SourceError(f"the transform {text}: the module {module} has no {name}")
        function = getattr(function, part)
    if not callable(function):
        raise SourceError(f"the transform {text} is {type(function).__name__} and no function")
    return function  # type: ignore[no-any-return]


# ---------------------------------------------------------------- what transforms take and give


def _library(function: Any) -> str:
    """The package that a transform is of; empty for a plain function."""
    while isinstance(function, partial):
        function = function.func
    own = getattr(function, "__module__", None) or ""
    for name in (own, *(kind.__module__ for kind in type(function).__mro__)):
        package = str(name).partition(".")[0]
        if package in ("torchvision", "albumentations"):
            return package
    return ""


def applied(function: Callable[..., Any], value: Any) -> Any:
    """What a transform makes of a picture, which it gets in the form that its library works with.

    Parameters
    ----------
    function : callable
        Of torchvision (gets a PIL image), Albumentations (``t(image=array)["image"]``), or any
        other (an array).
    value : ndarray, PIL image or tensor

    Raises
    ------
    DecodeError
        When there is no such PIL image.
    """
    library = _library(function)
    if library == "torchvision" and isinstance(value, np.ndarray):
        return function(as_pil(value))
    if library == "albumentations":
        return function(image=_plain(value))["image"]
    if isinstance(function, Resize | CenterCrop | Steps):
        return function(_plain(value) if not isinstance(function, Steps) else value)
    return function(value)


def _plain(value: Any) -> Any:
    """A PIL image as an array; all else as it is."""
    return from_pil(value, "keep").pixels if is_picture(value) else value


def name_of(function: Any) -> str:
    """What a transform is called in messages and in the provenance."""
    if isinstance(function, Steps):
        return ", ".join(map(name_of, function.steps))
    if isinstance(function, Resize | CenterCrop):
        size = function.size if isinstance(function.size, int) else "{}x{}".format(*function.size)
        return f"{type(function).__name__}({size})"
    while isinstance(function, partial):
        function = function.func
    own = function if hasattr(function, "__qualname__") else type(function)
    return f"{own.__module__}:{own.__qualname__}"


@dataclass(frozen=True, slots=True)
class Transform:
    """Makes of each item the pair of what it was and what a function makes of it.

    As picklable as the function.

    Attributes
    ----------
    function : callable
    """

    function: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """What it is called."""
        return name_of(self.function)

    def pairs(self, item: Item, pattern: Pattern) -> Iterator[tuple[Item, Item]]:
        """Each picture of an item before and after; twice the reason where there is none.

        Raises
        ------
        PatternError
            When the item holds no whole pictures.
        """
        if item.array is None:
            yield item, item
            return
        self._check(item, pattern)
        if not item.batched:
            yield self._pair(item, pattern)
            return
        for i, pixels in enumerate(item.array):
            yield self._pair(_entry(item, i, pixels), pattern)

    def _check(self, item: Item, pattern: Pattern) -> None:
        if not isinstance(item.array, np.ndarray):
            raise PatternError(f"{item.name} is a table; a transform is for pictures")
        if item.more:
            raise PatternError(f"{item.name} comes in parts, and a transform is for whole pictures")
        if item.batched and pattern.axes[0] in (("h",), ("w",), ("c",)):
            raise PatternError(
                f"pattern {str(pattern)!r}: a transform gets one picture after the other, so the "
                "first axis must be that of the pictures, as in 'n h w c -> c'"
            )

    def _pair(self, item: Item, pattern: Pattern) -> tuple[Item, Item]:
        try:
            after = self._after(item, pattern)
        except Exception as error:  # whatever a user's function may raise
            reason = f"the transform {self.name} raised {_said(error)}"
            if isinstance(error, DecodeError):
                reason = f"it cannot be given to the transform {self.name}: {error}"
            after = replace(item, array=None, missing=None, reason=reason)
        return (item if after.array is not None else after), after

    def _after(self, item: Item, pattern: Pattern) -> Item:
        if item.missing is not None and item.missing.any():
            raise DecodeError("it has pixels without data, which would be taken for values")
        place = channel_place(pattern, item.array.ndim)
        pixels = item.array.copy()  # the function may change it
        if place == 0:
            pixels = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
        made = applied(self.function, pixels)
        made = made["image"] if isinstance(made, dict) and "image" in made else made
        array, mode, note = _array_of(made, place)
        return replace(
            item,
            array=array,
            missing=None,
            kind=_kind(item, array, place, mode),
            notes=(*item.notes, note) if note else item.notes,
        )


def _entry(item: Item, i: int, pixels: _Array) -> Item:
    """One picture of a batch; what was read for all of them stands on the first."""
    group = item.group
    if isinstance(group, np.ndarray):
        group = group[i] if group.dtype.kind not in "iu" else int(group[i])
    counts = None if item.n_items is None else item.n_items * (i == 0)
    one = replace(item, array=pixels, batched=False, group=group, n_items=counts)
    if item.missing is not None:
        whole = np.broadcast_to(item.missing, item.array.shape)
        one = replace(one, missing=whole[i])
    first = i == 0 and item.digest
    return replace(one, n_bytes=pixels.nbytes, digest=item.digest if first else 0)


def channel_place(pattern: Pattern, ndim: int) -> int | None:
    """Which axis of a picture holds its channels: 0, the last (-1), or None for gray ones.

    Parameters
    ----------
    pattern : Pattern
        Of pictures with their first axis.
    ndim : int
        Of a picture.

    Examples
    --------
    >>> channel_place(Pattern.parse("n h w c -> c"), 3), channel_place(
    ...     Pattern.parse("n c h w ->"), 3), channel_place(Pattern.parse("n h w ->"), 2)
    (-1, 0, None)
    """
    axes = pattern.axes[1:]
    if ndim < 3:
        return None
    if len(axes) == ndim and axes[0] == ("c",):
        return 0
    kept = len(axes) == ndim and pattern.kept == axes[0] and len(pattern.kept) == 1
    return 0 if kept and ("c",) not in axes else -1


def _array_of(made: Any, place: int | None) -> tuple[_Array, str, str]:
    """What a transform made as the pattern needs it; the mode of a PIL image; what was done."""
    mode = note = ""
    if is_picture(made):
        decoded = from_pil(made, "keep")
        array, mode = decoded.pixels, decoded.mode
    elif isinstance(made, np.ndarray):
        array = made
    elif hasattr(made, "detach"):
        array = np.asarray(made.detach().cpu())
        if array.ndim == 3 and array.shape[0] in _CHANNELS:
            array, note = np.moveaxis(array, 0, -1), "CHW to HWC" if place == -1 else ""
    else:
        raise TypeError(f"gave {type(made).__name__}, and no array, PIL image or tensor")
    if place is None:
        return (array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array), mode, note
    array = array[..., None] if array.ndim == 2 else array
    array = np.moveaxis(array, -1, 0) if place == 0 else array
    return np.ascontiguousarray(array), mode, note


def _kind(item: Item, array: _Array, place: int | None, mode: str) -> str:
    """Channels and dtype of what was made; empty where the data had none."""
    if not item.kind:
        return ""
    if mode:
        return f"{mode} {array.dtype.name}"
    channels = item.kind.split(" ")[0]
    if place is not None and array.ndim == 3 and array.shape[place] != item.array.shape[place]:
        channels = f"{array.shape[place]}-channel"
    return f"{channels} {array.dtype.name}"


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")[:_LONGEST]


# ---------------------------------------------------------------- what `transform` may be


def transform_of(
    transform: Any, *, nodata: Sequence[float], mask: Any, within: float | None
) -> Transform | None:
    """What ``transform=`` means.

    Parameters
    ----------
    transform : as for `zeromean.measure`
    nodata, mask, within
        What was asked for beside it.

    Raises
    ------
    PatternError
        When it is no function, or does not go together with the rest.
    """
    if transform is None:
        return None
    if not callable(transform):
        raise PatternError(
            f"transform is {type(transform).__name__}; give a function from a picture to a picture"
        )
    if nodata or mask is not None:
        raise PatternError(
            "nodata= and mask= say which pixels of the raw pictures count, and a transform may "
            "move and mix them: let it return floats with NaN where there is no data"
        )
    if within is not None:
        raise PatternError("within= estimates what files hold, and not what a transform makes")
    return Transform(transform)
