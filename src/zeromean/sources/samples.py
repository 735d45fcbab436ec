"""Which part of an element of a data set is the data, and that part as an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.destination import dtype_of
from zeromean.errors import PatternError
from zeromean.sources.arrays import as_array, is_picture

#: What the data is called in mappings, and what a label is called.
_DATA = (
    *("image", "images", "img", "pixel_values", "input", "inputs", "input_values"),
    *("input_features", "x", "features"),
)
_LABELS = ("label", "labels", "target", "targets", "class", "cls", "y")
_CLASS = "class"


def data_in(element: Any, key: str, name: str) -> Any:
    """The part of an element that is the data.

    Parameters
    ----------
    element : array, picture, tuple, or mapping
    key : str
        A key, or the number of an entry; several with slashes between them. Empty for what a
        mapping calls its data, or its only array of pictures or numbers, and for the first entry
        of a tuple.
    name : str
        Of the element, for messages.

    Raises
    ------
    PatternError
        When there is no such part, or several may be meant: with all of them and their shapes.
    """
    if key:
        return _at(element, key, name)
    while not _is_data(element):
        if isinstance(element, Mapping):
            element = element[_key_of(element, name)]
        elif isinstance(element, tuple | list) and element:
            if _are_samples(element):
                return element
            element = element[0]
        else:
            raise PatternError(
                f"{name} is {_kind(element)}, in which no array is found; say which part is the "
                "data: key= (--key)"
            )
    return element


def label_in(element: Any, key: str, name: str) -> Any:
    """The label of an element, or the labels of a batch.

    Parameters
    ----------
    element : tuple or mapping
    key : str
        "class" for the second entry of a tuple, or what a mapping calls its label; else as for
        `data_in`.
    name : str

    Raises
    ------
    PatternError
        When there is none.
    """
    if key == _CLASS and isinstance(element, Mapping):
        held = [k for k in element if str(k).lower() in _LABELS]
        if len(held) == 1:
            return element[held[0]]
    elif key == _CLASS and isinstance(element, tuple | list) and len(element) > 1:
        return element[1]
    return _at(element, key, name)


def _at(element: Any, key: str, name: str) -> Any:
    """The part that a key names: a part as a whole before one that lies between its slashes."""
    try:
        return _inside(element, key.strip("/").split("/"))
    except LookupError:
        raise PatternError(f"{name} has no part {key!r}: it is {_kind(element)}") from None


def _inside(part: Any, names: list[str]) -> Any:
    if not names:
        return part
    for n in range(len(names), 0, -1):
        with suppress(LookupError, TypeError, ValueError, AttributeError):
            return _inside(_step(part, "/".join(names[:n])), names[n:])
    raise LookupError


def _step(part: Any, key: str) -> Any:
    if isinstance(part, Mapping):
        return part[key] if key in part else part[int(key)]
    if isinstance(part, tuple | list) and key.lstrip("-").isdigit():
        return part[int(key)]
    if key.startswith("_"):
        raise KeyError(key)
    return getattr(part, key)


def _key_of(element: Mapping[Any, Any], name: str) -> Any:
    """The key of what is the data in a mapping."""
    held = [key for key in element if str(key).lower() in _DATA]
    if not held:
        held = [key for key, value in element.items() if _is_measurable(value)]
    if len(held) == 1:
        return held[0]
    several = f"{len(held)} parts may be the data" if held else "no part is surely the data"
    raise PatternError(
        f"{name}: {several}; say which: key={next(iter(held or element), 'image')!r} (--key). It "
        f"has {_kind(element)}"
    )


def _is_measurable(value: Any) -> bool:
    """Whether a part of a mapping can hardly be anything but the data."""
    if is_picture(value):
        return True
    shape, dtype = getattr(value, "shape", None), str(getattr(value, "dtype", ""))
    return shape is not None and len(shape) >= 2 and ("float" in dtype or "uint8" in dtype)


def _is_data(element: Any) -> bool:
    if is_picture(element) or hasattr(element, "shape"):
        return True
    if isinstance(element, int | float | complex) and not isinstance(element, bool):
        return True
    return isinstance(element, list) and bool(element) and _is_numbers(element[0])


def _is_numbers(element: Any) -> bool:
    if isinstance(element, list):
        return bool(element) and _is_numbers(element[0])
    return isinstance(element, int | float) and not isinstance(element, bool)


def _are_samples(element: Sequence[Any]) -> bool:
    """Whether all entries are pictures, as where sizes differ and no batch can be made."""
    return len(element) > 1 and all(
        is_picture(one) or len(getattr(one, "shape", ())) >= 2 for one in element
    )


def single_values(data: Any) -> list[Any]:
    """The arrays or pictures of the data: one, or those that no batch could be made of.

    Parameters
    ----------
    data : array, picture, or sequence of them
    """
    if isinstance(data, tuple | list) and data and not _is_numbers(data[0]):
        return list(data)
    return [data]


def _kind(element: Any) -> str:
    """What something is, with keys and shapes."""
    if isinstance(element, Mapping):
        parts = ", ".join(f"{key!r}: {_kind(value)}" for key, value in [*element.items()][:20])
        return f"{{{parts}}}"
    if isinstance(element, tuple | list):
        parts = ", ".join(_kind(value) for value in element[:8])
        return f"({parts}{', ...' if len(element) > 8 else ''})"
    shape = getattr(element, "shape", None)
    if shape is not None:
        return f"{str(getattr(element, 'dtype', '')).removeprefix('torch.')} {tuple(shape)}".strip()
    return type(element).__name__


# ---------------------------------------------------------------- as an array


def as_values(value: Any, name: str) -> npt.NDArray[Any]:
    """A tensor of any library, or anything else that NumPy takes, as an array.

    Parameters
    ----------
    value : Tensor, array, number, or list of numbers
    name : str
        For messages.

    Raises
    ------
    PatternError
        When it is none, with what to give instead.
    """
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        return _of_torch(value, name)
    if callable(getattr(value, "numpy", None)) and not isinstance(value, np.ndarray | np.generic):
        return as_array(value.numpy(), name)
    return as_array(value, name)


def _of_torch(tensor: Any, name: str) -> npt.NDArray[Any]:
    """The memory of a tensor, without gradients, on the processor."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if str(tensor.layout) != "torch.strided":
        raise PatternError(f"{name} is a tensor of layout {tensor.layout}; give x.to_dense()")
    if getattr(tensor, "is_quantized", False):
        raise PatternError(f"{name} is a quantized tensor; give x.dequantize() or x.int_repr()")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    try:
        if dtype == "bfloat16":  # its bits, through a type of the same size that NumPy has
            halves: npt.NDArray[Any] = plain.view(plain.new_empty(0).short().dtype).numpy()
            return halves.view(dtype_of("bfloat16"))
        array: npt.NDArray[Any] = plain.numpy()
    except (ImportError, TypeError) as error:
        raise PatternError(
            f"{name} is a {dtype} tensor, which cannot become an array here ({error}); give "
            "x.float()"
        ) from None
    return array
