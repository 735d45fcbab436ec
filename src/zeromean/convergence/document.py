"""A study as a JSON document, and back: every dataclass is an object, every tuple a list."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from zeromean import documents
from zeromean.convergence.results import Study
from zeromean.errors import FormatError

_T = TypeVar("_T")
_KIND = "study"


def to_document(study: Study) -> dict[str, Any]:
    """The fields of a study's file."""
    numbers = _plain(study)
    head = {"format": documents.FORMAT, "kind": _KIND}
    return {**head, **numbers, "checksum": documents.checksum(numbers, {})}


def to_json(study: Study) -> str:
    """The text of a study's file."""
    return documents.to_text(to_document(study))


def save(study: Study, path: str | os.PathLike[str]) -> None:
    """Write a study.

    Raises
    ------
    FormatError
        For another suffix than .json, or a folder that cannot be written to.
    """
    if not os.fspath(path).endswith(".json"):
        raise FormatError(f"cannot save to {os.fspath(path)!r}: a study is saved as .json")
    documents.save(path, to_document(study), {})


def from_document(document: Mapping[str, Any]) -> Study:
    """The study in a document, every field checked.

    Raises
    ------
    FormatError
        Naming the field.
    """
    study = _made(Study, document, "study")
    documents.check_sum(document, documents.checksum(_plain(study), {}))
    return study


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _made(kind: type[_T], held: Any, name: str) -> _T:
    """A dataclass from an object; fields that it does not know are ignored."""
    if not isinstance(held, Mapping):
        raise FormatError(f"field {name!r} must be an object")
    known = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in held:
            raise FormatError(f"lacks the field {name + '.' + field.name!r}")
        hint = _hints(kind)[field.name]  # type: ignore[arg-type]
        known[field.name] = _checked(hint, held[field.name], f"{name}.{field.name}")
    return kind(**known)


def _checked(hint: Any, value: Any, name: str) -> Any:
    """A value of the type that the field is annotated with."""
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), value, name)
    if get_origin(hint) is UnionType:
        if value is None and NoneType in get_args(hint):
            return None
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if is_dataclass(hint):
        return _made(hint, value, name)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise FormatError(f"field {name!r} must be {hint.__name__}, not {type(value).__name__}")
    return value


def _tuple(hints: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise FormatError(f"field {name!r} must be a list")
    if len(hints) == 2 and hints[1] is Ellipsis:
        return tuple(_checked(hints[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    if len(hints) != len(value):
        raise FormatError(f"field {name!r} must have {len(hints)} entries, not {len(value)}")
    pairs = zip(hints, value, strict=True)
    return tuple(_checked(hint, item, f"{name}[{i}]") for i, (hint, item) in enumerate(pairs))
