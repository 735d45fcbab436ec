"""A normalizer as a document, and back; `docs/format.md` says what each field means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean import documents
from zeromean.documents import field
from zeromean.errors import FormatError
from zeromean.profile_file import check_size, head_of
from zeromean.provenance import Units

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]


def to_document(norm: Normalizer, *, tensors: bool) -> tuple[dict[str, Any], documents.Tensors]:
    """The fields of a normalizer's file; with `tensors`, its numbers stand apart.

    Raises
    ------
    FormatError
        When there are too many numbers for JSON, or they belong to the samples of one batch.
    """
    if norm.pattern.keeps_first:
        raise FormatError(
            f"under the pattern {str(norm.pattern)!r} each sample has its own numbers, which fit "
            "no other data: keep the recipe and its pattern in your code"
        )
    document = {**_head(norm), "checksum": checksum_of(norm)}
    numbers = _numbers_of(norm)
    if tensors:
        return document, {name: np.array(values) for name, values in numbers.items()}
    check_size(max(values.size for values in numbers.values()))
    return document | {name: values.tolist() for name, values in numbers.items()}, {}


def _numbers_of(norm: Normalizer) -> dict[str, _Floats]:
    """The arrays that are written: offset and matrix only where there is one."""
    numbers = {"shift": norm.shift, "scale": norm.scale}
    if norm.offset.any():
        numbers["offset"] = norm.offset
    if norm.matrix is not None:
        numbers["matrix"] = norm.matrix
    return numbers


def _head(norm: Normalizer) -> dict[str, Any]:
    head = {
        "format": documents.FORMAT,
        "kind": "normalizer",
        "recipe": norm.recipe,
        "pattern": str(norm.pattern),
        "sizes": dict(norm.pattern.sizes),
        "kept_shape": list(norm.kept_shape),
        "dtype": norm.dtype,
        **norm.units.to_fields(),
        "feature_names": list(norm.feature_names),
        "ddof": norm.ddof,
        "constant": list(norm.constant),
    }
    if norm.matrix is not None:
        head["n_out"] = len(norm.matrix)
    if norm.details:
        head["details"] = dict(norm.details)
    return head


def checksum_of(norm: Normalizer) -> str:
    """Over everything in the file."""
    numbers = {k: [v.hex() for v in a.ravel().tolist()] for k, a in _numbers_of(norm).items()}
    return documents.checksum({**_head(norm), **numbers}, {})


def fields_of(document: Mapping[str, Any], arrays: documents.Tensors) -> dict[str, Any]:
    """What a `zeromean.Normalizer` is made of, every field checked but the checksum.

    Raises
    ------
    FormatError
        Naming the field.
    """
    pattern, shape, dtype, names = head_of(document)
    numbers = {name: _floats(document, arrays, name, shape) for name in ("shift", "scale")}
    if not (numbers["scale"] > 0).all():
        raise FormatError("field 'scale' must be positive")
    held: Mapping[str, Any] = arrays if arrays else document
    out_shape = shape
    if "matrix" in held:
        out_shape = (_positive(document, "n_out"),)
        numbers["matrix"] = _floats(document, arrays, "matrix", (*out_shape, math.prod(shape)))
    if "offset" in held:
        numbers["offset"] = _floats(document, arrays, "offset", out_shape)
    return {
        **numbers,
        "pattern": pattern,
        "kept_shape": shape,
        "dtype": dtype,
        "units": Units.from_fields(document),
        "recipe": field(document, "recipe", str),
        "ddof": field(document, "ddof", int),
        "constant": tuple(map(str, field(document, "constant", list))),
        "feature_names": names,
        "details": _details(document),
    }


def _positive(document: Mapping[str, Any], name: str) -> int:
    value = field(document, name, int)
    if value < 1:
        raise FormatError(f"field {name!r} must be positive, not {value}")
    return value


def _details(document: Mapping[str, Any]) -> dict[str, float]:
    if "details" not in document:
        return {}
    details = field(document, "details", dict)
    for name, value in details.items():
        if type(value) not in (int, float):
            raise FormatError(f"field 'details.{name}' must be a number, not {value!r:.40}")
    return details


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
