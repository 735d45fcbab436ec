"""Which group an item or a row belongs to: labels, class folders, functions of a name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, SourceError
from zeromean.sources.arrays import ItemShard

_Codes = npt.NDArray[np.int64]


def class_of(name: str, label: str = "") -> str:
    """The class of a picture: the first folder below the root, as torchvision's `ImageFolder`.

    Parameters
    ----------
    name : str
        Path below the root, with forward slashes.
    label : str
        What stands for the root in front of it, when there are several.

    Returns
    -------
    str

    Raises
    ------
    SourceError
        When the picture lies in no folder below the root.

    Examples
    --------
    >>> class_of("cat/indoors/1.png")
    'cat'
    """
    below = name.removeprefix(label).removeprefix("/") if label else name
    first, deeper, _ = below.partition("/")
    if not deeper:
        raise SourceError(
            f"{name} lies in no class folder: by='class' takes the first folder below the one "
            "that is measured. Move it into one, or give by=a function from its name to a group"
        )
    return first


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """`class_of` below the given folders; picklable.

    Attributes
    ----------
    labels : tuple of str
        What stands for each folder in names; empty strings for a single one.
    """

    labels: tuple[str, ...] = ("",)

    def __call__(self, name: str) -> str:
        fitting = [label for label in self.labels if name.startswith(label + "/")]
        return class_of(name, max(fitting, key=len, default=""))


def named(label: Any, where: str) -> str:
    """A label as the name of its group.

    Parameters
    ----------
    label : str, int or bool
    where : str
        For messages, such as "label 7".

    Raises
    ------
    PatternError
        For what is missing (None, NaN), and for other types.
    """
    if isinstance(label, str):
        return str(label)
    if isinstance(label, bool | int | np.bool_ | np.integer):
        return str(label)
    kind = type(label).__name__
    if label is None or kind in ("NAType", "NaTType") or label is np.ma.masked or label != label:
        raise PatternError(
            f"{where} is missing ({label}): give every sample a group, or leave those without one "
            "out"
        )
    raise PatternError(
        f"{where} is {label!r:.60} ({kind}); a group is named by text, a whole number or a truth "
        "value"
    )


def factorized(labels: Any) -> tuple[tuple[str, ...], _Codes]:
    """Names of the groups, and for each label the position of its group's name.

    Parameters
    ----------
    labels : array or iterable of str, int or bool
        NumPy, pandas, polars, tensors on the CPU, lists.

    Returns
    -------
    names : tuple of str
    codes : ndarray of int64

    Raises
    ------
    PatternError
        For labels that are missing, of other types, or not in one row.

    Examples
    --------
    >>> factorized(["dog", "cat", "dog"])
    (('dog', 'cat'), array([0, 1, 0]))
    """
    array = _as_array(labels)
    if array.ndim != 1:
        raise PatternError(f"labels have shape {array.shape}; give one for each sample")
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        _refuse_floats(array)
    if array.dtype.kind not in "iub":
        return _one_by_one(array.tolist())
    held, codes = _whole_numbers(array)
    return tuple(str(value) for value in held.tolist()), codes


def _as_array(labels: Any) -> npt.NDArray[Any]:
    if isinstance(labels, str | bytes) or not (
        hasattr(labels, "__array__") or isinstance(labels, Iterable)
    ):
        raise PatternError(f"labels are {labels!r:.60}; give an array or list, one for each sample")
    if isinstance(labels, np.ma.MaskedArray) or not hasattr(labels, "__array__"):
        values = list(labels)
        array = np.empty(len(values), object)
        array[:] = values
        return array
    return np.asarray(labels)


def _refuse_floats(array: npt.NDArray[Any]) -> None:
    missing = np.flatnonzero(np.isnan(array))
    if len(missing):
        rest = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        named(float("nan"), f"label {missing[0]}{rest}")
    raise PatternError(
        f"labels are {array.dtype.name}; a group is named by text, a whole number or a truth "
        "value: convert them with labels.astype(int)"
    )


def _whole_numbers(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], _Codes]:
    """Distinct numbers and the position of each label's; in linear time for class numbers."""
    if len(array) == 0 or array.dtype == bool:
        held, codes = np.unique(array, return_inverse=True)
        return held, codes.reshape(-1)
    low, high = int(array.min()), int(array.max())
    if high - low > 2 * len(array) + 65536:
        held, codes = np.unique(array, return_inverse=True)
        return held, codes.reshape(-1)
    places = (array - array.dtype.type(low)).astype(np.int64)
    present = np.zeros(high - low + 1, np.bool_)
    present[places] = True
    held = np.flatnonzero(present) + low
    return held, (np.cumsum(present) - 1)[places]


def _one_by_one(labels: list[Any]) -> tuple[tuple[str, ...], _Codes]:
    if set(map(type, labels)) == {str}:
        names = tuple(dict.fromkeys(labels))
        lookup = {name: i for i, name in enumerate(names)}
        return names, np.fromiter(map(lookup.__getitem__, labels), np.int64, len(labels))
    return _of_any_type(labels)


def _of_any_type(labels: list[Any]) -> tuple[tuple[str, ...], _Codes]:
    known: dict[tuple[type, Any], int] = {}
    names: dict[str, str] = {}
    places: dict[str, int] = {}
    codes = np.empty(len(labels), np.int64)
    for i, label in enumerate(labels):
        key = (type(label), label) if isinstance(label, str | int | np.generic) else (type(i), None)
        code = known.get(key)
        if code is None:
            name = named(label, f"label {i}")
            kind = _kind(label)
            if names.setdefault(name, kind) != kind:
                raise PatternError(
                    f"labels hold {name!r} as {names[name]} and as {kind}; give one type"
                )
            code = known[key] = places.setdefault(name, len(places))
        codes[i] = code
    return tuple(names), codes


def _kind(label: Any) -> str:
    if isinstance(label, bool | np.bool_):
        return "a truth value"
    return "text" if isinstance(label, str) else "a number"


def labeled(shards: Iterable[Any], codes: _Codes, per_element: bool, exact: bool) -> Iterator[Any]:
    """Shards whose items know their groups.

    Parameters
    ----------
    shards : iterable of shards of items in memory
    codes : ndarray of int
        In the order of the source.
    per_element : bool
        One for each item, whatever it holds; else one for each entry of the first axis.
    exact : bool
        Whether there must be as many codes as samples.

    Raises
    ------
    PatternError
        When there are too few codes or too many, with both numbers.
    """
    at = 0
    for shard in shards:
        items = []
        held = shard.held if hasattr(shard, "held") else tuple(shard.items())
        for item in held:
            rows = item.batched and not per_element
            count = len(item.array) if rows else 1
            if at + count > len(codes):
                raise PatternError(_unequal(len(codes), f"more than {len(codes)}", per_element))
            group = codes[at : at + count] if rows else int(codes[at])
            items.append(replace(item, group=group))
            at += count
        yield ItemShard(tuple(items))
    if exact and at != len(codes):
        raise PatternError(_unequal(len(codes), str(at), per_element))


def _unequal(labels: int, samples: str, per_element: bool) -> str:
    what = "elements" if per_element else "entries along the first axis"
    return f"there are {labels} labels, but the data has {samples} {what}; give one for each"


def check_length(codes: _Codes, length: int) -> None:
    """Refuse labels of another number than the entries of the first axis.

    Raises
    ------
    PatternError
        With both numbers.
    """
    if len(codes) != length:
        raise PatternError(_unequal(len(codes), str(length), False))
