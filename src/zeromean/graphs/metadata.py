"""What a model says about the normalizer inside it, so that it can be read back and checked.

Three entries of an ONNX model's `metadata_props` (strings by name):

``zeromean.normalizer``
    The normalizer's document, as `docs/format.md` has it, on one line.
``zeromean.placement``
    JSON: ``how`` ("alone", "in front" or "folded"), and for the first two ``input``, ``dtype``,
    ``layout`` of the raw data; for the second the tensor ``normalized``, its ``layout_inside``
    and ``rank``, what the model ``takes``, such as "float16", and where merging was forced, what
    the model does to its input ``already``, such as "Sub, Div before Conv".
``zeromean.numbers.NAME``
    Only where there are too many numbers for the document: base64 of little-endian float64.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from zeromean import documents, normalizer_file
from zeromean.errors import FormatError
from zeromean.normalizer import Normalizer

_NORMALIZER = "zeromean.normalizer"
_PLACEMENT = "zeromean.placement"
_NUMBERS = "zeromean.numbers."
_MOST = 10_000  # numbers that the document itself may hold


def describe(model: Any, norm: Normalizer, how: str, **details: Any) -> None:
    """Write into a model which normalizer it holds; what it said before is replaced.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed.
    norm : Normalizer
    how : {"alone", "in front", "folded"}
    **details : JSON values
        Such as input="pixels", dtype="uint8", layout="nhwc".
    """
    large = max(norm.shift.size, 0 if norm.matrix is None else norm.matrix.size) > _MOST
    document, numbers = normalizer_file.to_document(norm, tensors=large)
    forget(model)
    _put(model, _NORMALIZER, documents.canonical(document))
    _put(model, _PLACEMENT, documents.canonical({"how": how, **details}))
    for name, values in numbers.items():
        raw = np.ascontiguousarray(values, "<f8").tobytes()
        _put(model, _NUMBERS + name, base64.b64encode(raw).decode("ascii"))


def forget(model: Any) -> None:
    """Remove what a model says about a normalizer."""
    kept = [p for p in model.metadata_props if not p.key.startswith("zeromean.")]
    kept = [(p.key, p.value) for p in kept]
    del model.metadata_props[:]
    for key, value in kept:
        _put(model, key, value)


def described(model: Any) -> tuple[Normalizer, dict[str, Any]] | None:
    """The normalizer that a model says it holds, and how; None if it says nothing.

    Raises
    ------
    FormatError
        When the entries are damaged, naming the field.
    """
    entries = {p.key: p.value for p in model.metadata_props}
    if _NORMALIZER not in entries:
        return None
    try:
        document = documents.from_text(entries[_NORMALIZER].encode())
        documents.check_header(document)
        norm = Normalizer.from_document(document, _tensors(document, entries))
        placement = documents.from_text(entries.get(_PLACEMENT, "{}").encode())
    except FormatError as error:
        raise FormatError(f"the model's metadata {_NORMALIZER!r}: {error}") from None
    return norm, placement


def _tensors(document: dict[str, Any], entries: dict[str, str]) -> documents.Tensors:
    tensors: documents.Tensors = {}
    kept = tuple(documents.field(document, "kept_shape", list))
    for key, text in entries.items():
        if not key.startswith(_NUMBERS):
            continue
        name = key.removeprefix(_NUMBERS)
        try:
            flat = np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
            shape = _shape_of(name, kept, document.get("n_out"))
            tensors[name] = flat.reshape(shape)
        except (binascii.Error, TypeError, ValueError):
            raise FormatError(f"the numbers {name!r} are damaged") from None
    return tensors


def _shape_of(name: str, kept: tuple[int, ...], n_out: Any) -> tuple[int, ...]:
    if name == "matrix":
        return (int(n_out), -1)
    return (int(n_out),) if name == "offset" and n_out is not None else kept


def _put(model: Any, key: str, value: str) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = key, value
