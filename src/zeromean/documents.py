"""Reads and writes saved objects: canonical JSON or safetensors, checked, without code.

A *document* is a dictionary of plain JSON values with ``format`` and ``kind``; large
arrays travel beside it as *tensors* (safetensors files only). `docs/format.md` is the
promise that this module keeps.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zeromean.errors import FormatError, ZeromeanError

FORMAT = "zeromean/1"
_METADATA_KEY = "zeromean"
_MAX_DIGITS = 8192
_NESTED = ("groups", "statistics", "provenance")

Tensors = dict[str, npt.NDArray[Any]]
_T = TypeVar("_T")


def canonical(value: Any) -> str:
    """One line of JSON: sorted keys, no spaces, ASCII; NaN must be null already."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def to_text(document: Mapping[str, Any]) -> str:
    """A document as JSON that a person can read and a diff can follow: one line per field."""

    def lines(mapping: Mapping[str, Any], indent: str) -> str:
        rows = []
        for key, value in mapping.items():
            if key in _NESTED and isinstance(value, Mapping):
                ordered = dict(sorted(value.items()))
                text = lines(ordered, indent + " ") if ordered else "{}"
            else:
                text = json.dumps(value, sort_keys=True, allow_nan=False)
            rows.append(f"{indent} {json.dumps(key)}: {text}")
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"

    return lines(document, "") + "\n"


def checksum(numbers: Mapping[str, Any], tensors: Tensors) -> str:
    """SHA-256 of the numbers of a file: their canonical JSON, then each tensor in order of name.

    A tensor enters as the canonical JSON of its name, dtype and shape, then its bytes.
    """
    digest = hashlib.sha256(canonical(numbers).encode())
    for name, values in sorted(tensors.items()):
        digest.update(canonical([name, values.dtype.name, list(values.shape)]).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def check_sum(document: Mapping[str, Any], expected: str) -> None:
    """Refuse numbers that are not the ones that were written."""
    if field(document, "checksum", str) != expected:
        raise FormatError("field 'checksum' does not match: the file was edited or damaged")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target, sync, and rename: a reader sees the old file or the new one.

    Raises
    ------
    FormatError
        When the folder cannot be written to, naming it.
    """
    handle, name = -1, ""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, ZeromeanError):  # of what was to be written
            raise
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if name and os.path.exists(name):
            os.unlink(name)


def save(path: str | os.PathLike[str], document: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a document; `.json` takes no tensors, `.safetensors` takes any.

    Raises
    ------
    FormatError
        For another suffix, or a folder that cannot be written to.
    """
    target = Path(path)
    if target.suffix == ".json":
        text = to_text(document)
        write_atomically(target, lambda p: _write_text(p, text))
    elif target.suffix == ".safetensors":
        from safetensors.numpy import save_file

        metadata = {_METADATA_KEY: canonical(document)}
        tensors = {name: np.asarray(v, order="C") for name, v in tensors.items()}  # else read wrong
        write_atomically(target, lambda p: save_file(tensors, p, metadata=metadata))
    else:
        raise FormatError(f"cannot save to {target.name!r}: use .json (small) or .safetensors")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Tensors]:
    """Read a document and its tensors.

    Raises
    ------
    FormatError
        When the file is missing, damaged, not ours or from a newer version; names the file.
    """
    source = Path(path)
    try:
        document, tensors = _read(source)
        check_header(document)
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from None
    except OSError as error:
        raise FormatError(f"{source}: cannot be read: {error.strerror or error}") from error
    return document, tensors


def _read(source: Path) -> tuple[dict[str, Any], Tensors]:
    if source.suffix != ".safetensors":
        return from_text(source.read_bytes()), {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FormatError(f"is not a readable safetensors file ({error})") from None
    if _METADATA_KEY not in metadata:
        raise FormatError("is a safetensors file, but not one of zeromean's")
    return from_text(metadata[_METADATA_KEY].encode()), tensors


def from_text(text: bytes) -> dict[str, Any]:
    """Parse JSON strictly: no NaN, no repeated keys, no endless digits or nesting."""
    try:
        value = json.loads(
            text, object_pairs_hook=_no_repeats, parse_constant=_no_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise FormatError("is JSON, but not a zeromean file (no object at the top)")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"holds the field {twice!r} twice")
    return result


def _no_constant(text: str) -> float:
    raise FormatError(f"holds {text}, which is not JSON; a missing number is null")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise FormatError(f"holds the number {text[:20]}, which is too large")
    return value


def check_header(document: Mapping[str, Any]) -> None:
    """Refuse what is not ours or is newer than this library."""
    found = document.get("format")
    if not isinstance(found, str) or not found.startswith("zeromean/"):
        raise FormatError('is not a zeromean file (no "format": "zeromean/1")')
    if found != FORMAT:
        raise FormatError(f"has format {found!r}; this version reads {FORMAT!r}: upgrade zeromean")


# ---------------------------------------------------------------- checked fields


def field(document: Mapping[str, Any], name: str, kind: type[_T] | tuple[type, ...]) -> _T:
    """A field of a document, with its type checked; bool does not pass as int."""
    if name not in document:
        raise FormatError(f"lacks the field {name!r}")
    value = document[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(k.__name__ for k in kinds)
        raise FormatError(f"field {name!r} must be {wanted}, not {type(value).__name__}")
    return value  # type: ignore[return-value]


def to_hex(values: Any) -> Any:
    """Integers, or nested lists of them, as hex strings."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    return [to_hex(v) for v in values] if isinstance(values, list) else format(int(values), "x")


def from_hex(text: Any, name: str, *, negative: bool = False) -> int:
    """One integer from its canonical hex string."""
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_DIGITS:
        raise FormatError(f"field {name!r} must hold hex strings, not {text!r:.40}")
    try:
        value = int(text, 16)
    except ValueError:
        raise FormatError(f"field {name!r} holds {text!r:.40}, which is not hex") from None
    if format(value, "x") != text:
        raise FormatError(f"field {name!r} holds {text!r:.40}, which is not canonical hex")
    if value < 0 and not negative:
        raise FormatError(f"field {name!r} holds a negative count")
    return value


def hex_list(value: Any, name: str, length: int, *, negative: bool = False) -> list[int]:
    """A list of `length` integers from hex strings."""
    if not isinstance(value, list) or len(value) != length:
        raise FormatError(f"field {name!r} must be a list of {length} hex strings")
    return [from_hex(item, name, negative=negative) for item in value]


def plain(array: Any) -> Any:
    """An array or scalar as nested lists of JSON numbers, NaN and inf as null."""
    if isinstance(array, np.ndarray | np.generic):
        array = array.tolist()
    if isinstance(array, list):
        return [plain(item) for item in array]
    if isinstance(array, float) and not math.isfinite(array):
        return None
    return array


def to_bytes_tensor(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Python integers as a (n, width) uint8 tensor of little-endian two's complement."""
    width = max((v.bit_length() // 8 + 1 for v in values.tolist()), default=1)
    raw = b"".join(v.to_bytes(width, "little", signed=True) for v in values.tolist())
    return np.frombuffer(raw, np.uint8).reshape(len(values), width)


def from_bytes_tensor(tensor: npt.NDArray[Any], name: str, length: int) -> list[int]:
    """The integers of `to_bytes_tensor`."""
    if tensor.dtype != np.uint8 or tensor.ndim != 2 or len(tensor) != length:
        raise FormatError(f"tensor {name!r} must be uint8 of shape ({length}, width)")
    return [int.from_bytes(row.tobytes(), "little", signed=True) for row in tensor]


def tensor(tensors: Tensors, name: str, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A tensor with its dtype and shape checked."""
    if name not in tensors:
        raise FormatError(f"lacks the tensor {name!r}")
    value = tensors[name]
    if value.dtype != dtype or value.shape != shape:
        raise FormatError(
            f"tensor {name!r} must be {np.dtype(dtype).name} of shape {shape}, "
            f"not {value.dtype.name} {value.shape}"
        )
    return value
