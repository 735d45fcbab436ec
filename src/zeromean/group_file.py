"""Documents of groups as one document, and back; `docs/format.md` says what each field means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zeromean.documents import Tensors, check_sum, checksum, field
from zeromean.errors import FormatError
from zeromean.profile_file import check_size
from zeromean.statistics.groups import in_order

__all__ = ["SHARED", "check_size", "packed", "unpacked"]

#: What all groups have in common and is written once.
SHARED = (
    "format", "kind", "recipe", "pattern", "sizes", "kept_shape", "dtype", "range", "channels",
    "colors", "feature_names",
)  # fmt: skip
_Part = tuple[Mapping[str, Any], Tensors]


def packed(
    head: Mapping[str, Any], parts: Mapping[str, _Part], kind: str
) -> tuple[dict[str, Any], Tensors]:
    """One document of many: what they share on top, the rest by group.

    Parameters
    ----------
    head : mapping
        Fields on top, those of `SHARED` among them.
    parts : mapping of str to (document, tensors)
    kind : str
        Of the whole.
    """
    groups: dict[str, Any] = {}
    arrays: Tensors = {}
    for i, name in enumerate(in_order(parts)):
        document, tensors = parts[name]
        groups[name] = {
            k: v
            for k, v in document.items()
            if k != "kind" and (k not in SHARED or head.get(k) != v)
        }
        arrays |= {f"{i}.{key}": values for key, values in tensors.items()}
    whole = {**head, "kind": kind, "checksum": _checksum(groups), "groups": groups}
    return whole, arrays


def _checksum(groups: Mapping[str, Any]) -> str:
    """Over the checksums of the groups, so that none is missing or under another name."""
    return checksum({name: field(group, "checksum", str) for name, group in groups.items()}, {})


def unpacked(
    document: Mapping[str, Any], arrays: Tensors, kind: str
) -> Iterator[tuple[str, dict[str, Any], Tensors]]:
    """Name, document and tensors of each group.

    Parameters
    ----------
    document, arrays
        As `packed` gave them.
    kind : str
        Of the parts.

    Raises
    ------
    FormatError
        Naming the field.
    """
    groups = field(document, "groups", dict)
    if not all(isinstance(group, dict) for group in groups.values()):
        raise FormatError("field 'groups' must hold an object for each group")
    check_sum(document, _checksum(groups))
    names = in_order(groups)
    tensors: list[Tensors] = [{} for _ in names]
    for key, values in arrays.items():
        number, _, rest = key.partition(".")
        if not (number.isascii() and number.isdigit() and int(number) < len(names)):
            raise FormatError(f"tensor {key!r} belongs to no group")
        tensors[int(number)][rest] = values
    shared = {k: document[k] for k in SHARED if k in document}
    for name, own in zip(names, tensors, strict=True):
        yield name, {**shared, **groups[name], "kind": kind}, own
