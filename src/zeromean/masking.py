"""Which values count: nodata values, and masks that say which pixels of a picture do."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Item, Source
from zeromean.sources.access import ReadError, is_remote, opened
from zeromean.sources.arrays import ArraySource, ZippedArray, is_path
from zeromean.sources.decode import DecodeError, labels_of
from zeromean.sources.walk import IMAGE_EXTENSIONS, printable, why_unreadable

_Array = npt.NDArray[Any]
_NOTE = "masked"
_CHANNEL = ("c",)  # the axis that a mask does not have

# ---------------------------------------------------------------- values that stand for no data


def nodata_values(nodata: Any) -> tuple[float, ...]:
    """What was given as ``nodata=`` as numbers, each once; whole numbers as integers.

    Parameters
    ----------
    nodata : number, sequence of numbers, or None

    Raises
    ------
    PatternError
        When it is something else.

    Examples
    --------
    >>> nodata_values(-9999.0), nodata_values([0, 0.5, 0.0]), nodata_values(None)
    ((-9999,), (0, 0.5), ())
    """
    if nodata is None:
        return ()
    given = [nodata] if isinstance(nodata, Real | str) or np.ndim(nodata) == 0 else list(nodata)
    values: dict[float, None] = {}
    for value in given:
        plain = value.item() if isinstance(value, np.generic | np.ndarray) else value
        if not isinstance(plain, Real):
            raise PatternError(f"nodata is {value!r:.40}; give a number, or several")
        values[_number(plain)] = None
    return tuple(value for value in values if value == value)  # NaN never counts anyway


def _number(value: Any) -> float:
    whole = isinstance(value, Integral) or float(value).is_integer()
    return int(value) if whole else float(value)


def representable(values: Sequence[float], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Those of the values that data of a dtype can hold, rounded to it.

    Parameters
    ----------
    values : sequence of numbers
    dtype : numpy.dtype

    Returns
    -------
    tuple of scalars of the dtype
        Each once.

    Examples
    --------
    >>> representable((0, -9999, 0.5), np.dtype("uint8"))
    (np.uint8(0),)
    """
    kind = dtype.type
    if dtype.kind in "iub":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return tuple(kind(v) for v in values if isinstance(v, int) and low <= v <= high)
    held: dict[float, Any] = {}
    with np.errstate(over="ignore"):
        for value in map(_float, values):
            scalar = kind(value)
            if np.isfinite(scalar) or math.isinf(value):
                held[float(scalar) + 0.0] = scalar
    return tuple(held.values())


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer that no float holds
        return math.nan


def unheld(values: Sequence[float], dtypes: Sequence[str]) -> list[float]:
    """Those of the values that data of none of the dtypes can hold.

    Parameters
    ----------
    values : sequence of numbers
    dtypes : sequence of str
    """
    kinds = {np.dtype("float32" if name == "bfloat16" else name) for name in dtypes}
    return [v for v in values if not any(representable((v,), kind) for kind in kinds)]


# ---------------------------------------------------------------- masks


@dataclass(frozen=True, slots=True)
class LabelFolder:
    """Label images in a folder, by the names of the pictures without their extension; picklable.

    Attributes
    ----------
    path : str
        From the root of the file system: a worker may be at home elsewhere.
    name : str
        As it was given, for messages.
    extensions : tuple of str
        To look for, in this order.
    labels : tuple of str
        What stands for each measured folder in the names of pictures.
    """

    path: str
    name: str
    extensions: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def __call__(self, name: str) -> tuple[_Array, int, int]:
        """The labels of a picture, and size and digest of the file that they were read from.

        Raises
        ------
        DecodeError
            When there are none.
        """
        stems = [os.path.splitext(name)[0]]
        stems += [stems[0].removeprefix(f"{label}/") for label in self.labels if label]
        for stem in dict.fromkeys(stems):
            for extension in self.extensions:
                path = os.path.join(self.path, *stem.split("/")) + extension
                if os.path.isfile(path):
                    return _read(path, os.path.join(self.name, *stem.split("/")) + extension)
        raise DecodeError(f"there is no mask {stems[0]} ({self.extensions[0]}) in {self.name}")


def _read(path: str, name: str) -> tuple[_Array, int, int]:
    try:
        with opened(path, name) as file:
            return labels_of(file.data(), name), file.size, file.digest
    except DecodeError as error:
        raise DecodeError(f"its mask {printable(name)} cannot be used: {error}") from None
    except (OSError, MemoryError) as error:
        why = str(error) if isinstance(error, ReadError) else why_unreadable(error)
        raise DecodeError(f"its mask {printable(name)} cannot be read: {why}") from None


@dataclass(frozen=True, slots=True)
class LabelFunction:
    """Labels that a function makes of the name of a picture; as picklable as the function.

    Attributes
    ----------
    function : callable
        From a name to an array of labels, or to the path of a label image.
    """

    function: Callable[[str], Any]

    def __call__(self, name: str) -> tuple[_Array, int, int]:
        """The labels of a picture, and size and digest of the file that they were read from.

        Raises
        ------
        DecodeError
            When there are none.
        PatternError
            When it gives something else than labels.
        """
        try:
            made = self.function(name)
        except Exception as error:  # whatever a user's function may raise
            text = f"{type(error).__name__}: {error}".split("\n")[0]
            raise DecodeError(f"the function that gives its mask raised {text:.200}") from error
        if made is None:
            raise DecodeError("there is no mask for it: the function gave None")
        if is_path(made):
            return _read(os.fspath(made), os.fspath(made))
        return checked_labels(made, f"the mask of {name}"), 0, 0


def checked_labels(labels: Any, what: str) -> _Array:
    """Labels as an array.

    Raises
    ------
    PatternError
        When they are no integers or truth values.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "biu":
        raise PatternError(
            f"{what} is {array.dtype.name}; labels are integers or truth values: convert it, such "
            "as with mask > 0.5"
        )
    return array


@dataclass(frozen=True, slots=True)
class Mask:
    """Says which pixels of each picture count; picklable, without the labels of a whole array.

    Attributes
    ----------
    labels : LabelFolder, LabelFunction or ndarray
        An array is of the data in memory.
    ignore : tuple of int
        Labels that are left out.
    """

    labels: Any
    ignore: tuple[int, ...]

    def __reduce__(self) -> Any:
        return Mask, (np.empty(0, np.bool_) if self.of_array else self.labels, self.ignore)

    @property
    def of_array(self) -> bool:
        """Whether it is of data in memory, which is cut along with it."""
        return isinstance(self.labels, np.ndarray)

    def __call__(self, item: Item, pattern: Pattern) -> Item:
        """An item that knows which of its pixels are left out, or why it must be skipped.

        Raises
        ------
        PatternError
            When the item is no whole picture.
        """
        if item.array is None or self.of_array:
            return item
        if item.more or not isinstance(item.array, np.ndarray):
            raise PatternError(f"{item.name} comes in parts, and a mask is for whole pictures")
        try:
            labels, n_bytes, digest = self.labels(item.name)
            gaps = self.gaps(labels, item, pattern)
        except DecodeError as error:
            return replace(item, array=None, missing=None, reason=str(error))
        return replace(
            item,
            missing=gaps if item.missing is None else gaps | item.missing,
            notes=(*item.notes, _NOTE),
            n_bytes=item.n_bytes + n_bytes,
            digest=item.digest + digest,
        )

    def gaps(self, labels: _Array, item: Item, pattern: Pattern) -> npt.NDArray[np.bool_]:
        """Where an item is left out; broadcasts against its array.

        Raises
        ------
        DecodeError
            When the labels have another size.
        """
        shape: tuple[int, ...] = item.array.shape
        axes = pattern.axes if item.batched else pattern.axes[1:]
        fitted = _fitted(labels, shape, axes)
        if fitted is None:
            raise DecodeError(
                f"its mask is {_size(labels.shape)}, but the picture "
                f"{_size(_without_channels(shape, axes))}"
            )
        return self._left_out(fitted)

    def _left_out(self, labels: _Array) -> npt.NDArray[np.bool_]:
        left_out = np.zeros(labels.shape, np.bool_)
        for label in self.ignore:
            left_out |= labels == label
        return left_out

    def shards(self, source: Source, shards: Iterator[Any]) -> Iterator[Any]:
        """Shards of an array in memory whose items know what is left out of them.

        Raises
        ------
        PatternError
            When the mask does not fit the array.
        """
        labels, at = self.labels, 0
        chosen = getattr(source, "chosen", None)
        shape: tuple[int, ...] = source.shape  # type: ignore[attr-defined]
        if not source.pattern.complete(shape):
            shape = (1, *shape)
        if chosen is not None:
            shape = (source.n_whole or 0, *shape[1:])
        fitted = _of_array(labels, shape, source.pattern.axes)
        if fitted is None:
            raise PatternError(
                f"the mask has shape {labels.shape}, but the array {shape}; give one label for "
                "each pixel"
            )
        if chosen is not None and len(fitted) > 1:
            fitted = fitted[chosen]
        for shard in shards:
            items = []
            for item in shard.held:
                own = fitted if len(fitted) == 1 else fitted[at : at + len(item.array)]
                at += len(item.array)
                notes = (*item.notes, _NOTE)
                items.append(replace(item, missing=self._left_out(own), notes=notes))
            yield replace(shard, held=tuple(items))


def _of_array(labels: _Array, shape: tuple[int, ...], axes: Any) -> _Array | None:
    """Labels with the axes of an array; of one picture, if all have the same. None if none fit."""
    fitted = _fitted(labels, shape, axes)
    if fitted is None:
        fitted = _fitted(labels[None], (1, *shape[1:]), axes)
    return fitted


def _fitted(labels: _Array, shape: tuple[int, ...], axes: Any) -> _Array | None:
    """Labels with as many axes as the data, so that they broadcast against it; None if none do."""
    if labels.ndim == len(shape) - 1:
        labels = np.expand_dims(labels, _channel_axis(shape, axes))
    elif labels.ndim != len(shape):
        return None
    wanted = list(shape)
    if shape and labels.shape[_channel_axis(shape, axes)] == 1:
        wanted[_channel_axis(shape, axes)] = 1
    return labels if labels.shape == tuple(wanted) else None


def _channel_axis(shape: tuple[int, ...], axes: Any) -> int:
    """Where the channels are: at the axis c, or else at the end."""
    named = len(axes) == len(shape) and _CHANNEL in axes
    return axes.index(_CHANNEL) if named else len(shape) - 1


def _without_channels(shape: tuple[int, ...], axes: Any) -> tuple[int, ...]:
    if len(shape) < 3:
        return shape
    at = _channel_axis(shape, axes)
    return shape[:at] + shape[at + 1 :]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


# ---------------------------------------------------------------- what `mask` may be


def mask_of(
    mask: Any, ignore: Sequence[int], sources: Sequence[Source], within: float | None = None
) -> Mask | None:
    """What ``mask=`` and ``ignore=`` mean.

    Parameters
    ----------
    mask, ignore : as for `zeromean.measure`
    sources : sequence of Source
        That are measured.
    within : float or None
        Whether a sample of them is.

    Raises
    ------
    PatternError, SourceError
        When it is no mask, or none for such a source.
    """
    left_out = _ignored(ignore)
    if mask is None:
        if left_out:
            raise PatternError("ignore= names labels of a mask, but there is no mask=")
        return None
    left_out = left_out or (0,)
    in_memory = [one for one in sources if isinstance(one, ArraySource | ZippedArray)]
    if is_path(mask) or callable(mask):
        if in_memory:
            raise PatternError(
                f"{in_memory[0].name} is an array, whose pictures have no names; give mask= an "
                "array of labels"
            )
        if callable(mask):
            return Mask(LabelFunction(mask), left_out)
        return Mask(_folder(os.fspath(mask), sources), left_out)
    if not hasattr(mask, "__array__") and not isinstance(mask, list | tuple):
        raise PatternError(
            f"mask is {type(mask).__name__}; give a folder of label images, a function from the "
            "name of a picture to its labels, or an array of labels"
        )
    if not in_memory or len(sources) > 1:
        raise PatternError(
            "a mask that is an array is for one array; for files give a folder of label images, or "
            "a function from the name of a picture to its labels"
        )
    if within is not None:
        raise PatternError(
            "within= takes a sample of the data, and a mask that is an array is of all of it: "
            "measure it without within="
        )
    return Mask(checked_labels(mask, "mask"), left_out)


def _ignored(ignore: Any) -> tuple[int, ...]:
    given = [ignore] if isinstance(ignore, Integral) else list(ignore)
    if not all(isinstance(label, Integral) for label in given):
        raise PatternError(f"ignore is {ignore!r:.60}; labels are integers")
    return tuple(int(label) for label in given)


def _folder(path: str, sources: Sequence[Source]) -> LabelFolder:
    """A folder of label images, looked through once.

    Raises
    ------
    SourceError
        When there are none, or two of one name.
    """
    if is_remote(path):
        raise SourceError(f"the masks {path} lie in a remote store; copy them here first")
    if not os.path.isdir(path):
        there = "is no folder" if os.path.exists(path) else "does not exist"
        raise SourceError(f"the folder of masks {printable(path)} {there}")
    extensions: Counter[str] = Counter()
    for folder, _, files in os.walk(path):
        stems: dict[str, str] = {}
        for file in files:
            stem, extension = os.path.splitext(file)
            if extension.lower() not in IMAGE_EXTENSIONS:
                continue
            extensions[extension] += 1
            if stem in stems:
                raise SourceError(
                    f"{printable(os.path.join(folder, stem))} has two masks, {stems[stem]} and "
                    f"{extension}; keep one"
                )
            stems[stem] = extension
    if not extensions:
        raise SourceError(
            f"the folder of masks {printable(path)} holds no label image "
            f"({' '.join(IMAGE_EXTENSIONS)})"
        )
    known = [extension for extension, _ in extensions.most_common()]
    labels = {label for one in sources for label in getattr(one, "labels", ())}
    every = dict.fromkeys([*known, *IMAGE_EXTENSIONS])
    return LabelFolder(os.path.abspath(path), path, tuple(every), tuple(sorted(labels)))
