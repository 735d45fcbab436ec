"""Tells which columns of an Arrow schema hold encoded pictures, and which hold arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from zeromean.errors import PatternError
from zeromean.pattern import Pattern
from zeromean.sources import sniff
from zeromean.sources.arrow import ArrowTable, Field
from zeromean.sources.columns import few
from zeromean.sources.frames import index_of

_LOOKED_AT = 8  # values that say whether a column holds pictures
_OTHER_MEDIA = frozenset(("Audio", "Video", "Pdf", "Nifti"))  # of Hugging Face, stored alike
_LISTS = (
    "is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view",
)  # fmt: skip
_BYTES = ("is_binary", "is_large_binary", "is_binary_view", "is_fixed_size_binary")


@dataclass(frozen=True, slots=True)
class PictureColumn:
    """A column of encoded pictures; picklable.

    Attributes
    ----------
    path : tuple of str
        Its name, after those of the structures that it lies in.
    structured : bool
        Whether each value is a structure of ``bytes`` and ``path``, as Hugging Face writes it.
    with_path : bool
        Whether that structure has a path at all.
    """

    path: tuple[str, ...]
    structured: bool
    with_path: bool = False

    @property
    def name(self) -> str:
        """With dots between the parts."""
        return ".".join(self.path)

    @property
    def read(self) -> tuple[str, ...]:
        """The columns of a file that must be read."""
        if not self.structured:
            return (self.name,)
        return (f"{self.name}.bytes", *([f"{self.name}.path"] if self.with_path else []))

    def values(self, batch: Any) -> tuple[Any, Any]:
        """Bytes and paths of a record batch, or of a table; None for paths where there are none."""
        if not self.structured:
            return at_path(batch, self.path), None
        paths = at_path(batch, (*self.path, "path")) if self.with_path else None
        return at_path(batch, (*self.path, "bytes")), paths


def at_path(batch: Any, path: Sequence[str]) -> Any:
    """A column, or a part of one that is a structure; missing where the structure is."""
    import pyarrow.compute as pc

    column = batch.column(path[0])
    return pc.struct_field(column, list(path[1:])) if len(path) > 1 else column


def plain(value: Any) -> Any:
    """One value as Python's; text that is not UTF-8 written out."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return bytes(value.as_buffer()).decode("utf-8", "backslashreplace")


def unwrapped(kind: Any) -> Any:
    """The type that an extension type is stored as."""
    while hasattr(kind, "storage_type"):
        kind = kind.storage_type
    return kind


def _is(kind: Any, tests: Sequence[str]) -> bool:
    from pyarrow import types

    return any(getattr(types, test)(kind) for test in tests if hasattr(types, test))


def is_list(kind: Any) -> bool:
    """Whether a type is one of the kinds of list."""
    return _is(kind, _LISTS)


def is_nested(kind: Any) -> bool:
    """Whether a type is of lists or structures."""
    return _is(unwrapped(kind), ("is_nested",))


def is_number(kind: Any) -> bool:
    """Whether a type is of numbers that can be measured, or of truth values."""
    return _is(kind, ("is_integer", "is_floating", "is_boolean"))


def leaf(kind: Any) -> Any:
    """What lists of lists hold in the end."""
    kind = unwrapped(kind)
    while is_list(kind):
        kind = unwrapped(kind.value_type)
    return kind


# ---------------------------------------------------------------- looking for them


def _fields(schema: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and type of each column, and of each part of those that are structures."""
    waiting: list[tuple[tuple[str, ...], Any]]
    waiting = [((field.name,), field.type) for field in reversed(list(schema))]
    while waiting:
        path, kind = waiting.pop()
        yield path, kind
        if _is(kind, ("is_struct",)) and _as_pictures(path, kind) is None:
            inner = [kind.field(i) for i in range(kind.num_fields)]
            waiting += [((*path, field.name), field.type) for field in reversed(inner)]


def _as_pictures(path: tuple[str, ...], kind: Any) -> PictureColumn | None:
    """A column that may hold pictures, by its type."""
    kind = _decoded(kind)
    if _is(kind, _BYTES):
        return PictureColumn(path, False)
    if not _is(kind, ("is_struct",)) or kind.get_field_index("bytes") < 0:
        return None
    if not _is(_decoded(kind.field("bytes").type), _BYTES):
        return None
    return PictureColumn(path, True, kind.get_field_index("path") >= 0)


def _decoded(kind: Any) -> Any:
    return unwrapped(kind.value_type) if _is(kind, ("is_dictionary",)) else unwrapped(kind)


def picture_columns(
    schema: Any, look: Callable[[PictureColumn], Iterator[tuple[Any, Any]]]
) -> list[PictureColumn]:
    """The columns that hold pictures.

    Parameters
    ----------
    schema : pyarrow.Schema
    look : callable
        From a column to its first values that are there, as bytes and path, either of them None.
    """
    features = _features(schema)
    found = []
    for path, kind in _fields(schema):
        column = _as_pictures(path, kind)
        told = _feature(features, path)
        if column is None or told in _OTHER_MEDIA:
            continue
        if told == "Image" or _look_like_pictures(look(column)):
            found.append(column)
    return found


def _look_like_pictures(values: Iterator[tuple[Any, Any]]) -> bool:
    """By the first bytes of a few values; a single one may be damaged, or may deceive."""
    seen = hits = 0
    for data, path in values:
        if data is not None:
            hits += bool(sniff.image_format(data, path or ""))
        else:
            suffix = os.path.splitext(path)[1].lower()
            hits += any(suffix in suffixes for suffixes in sniff.SUFFIXES.values())
        seen += 1
        if seen == _LOOKED_AT:
            break
    return 2 * hits > seen


def present_values(column: PictureColumn, batch: Any) -> Iterator[tuple[Any, Any]]:
    """Bytes and path of those rows of a batch or table that have either."""
    data, paths = column.values(batch)
    for i in range(len(batch)):
        content, path = data[i].as_py(), None if paths is None else plain(paths[i])
        if content is not None or path:
            yield content, path


def _features(schema: Any) -> Any:
    """What Hugging Face says of the columns, where it wrote the file."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features


def _feature(features: Any, path: Sequence[str], key: str = "_type") -> Any:
    for name in path:
        features = features.get(name) if isinstance(features, dict) else None
    return features.get(key) if isinstance(features, dict) else None


def class_names(schema: Any, column: str) -> tuple[str, ...]:
    """The names of the classes that a column numbers; empty where none are known.

    Parameters
    ----------
    schema : pyarrow.Schema
    column : str
    """
    features = _features(schema)
    names = _feature(features, (column,), "names")
    numbered = _feature(features, (column,)) == "ClassLabel" and isinstance(names, list)
    return tuple(map(str, names)) if numbered else ()


def class_named(value: Any, names: Sequence[str]) -> Any:
    """A label by the name of its class, if it is a number that has one."""
    numbered = isinstance(value, int) and 0 <= value < len(names)
    return names[value] if numbered else value


def fields_of(schema: Any) -> list[Field]:
    """All columns, with the dtypes of those that hold numbers, each a feature.

    Parameters
    ----------
    schema : pyarrow.Schema
    """
    import pyarrow

    empty = pyarrow.RecordBatchReader.from_batches(schema, [])
    return ArrowTable(empty, index=index_of(schema)).fields


def array_columns(schema: Any) -> list[str]:
    """The columns whose values are arrays of numbers.

    Parameters
    ----------
    schema : pyarrow.Schema
    """
    return [
        field.name
        for field in schema
        if is_list(unwrapped(field.type)) and is_number(leaf(field.type))
    ]


# ---------------------------------------------------------------- choosing one


def chosen_column(schema: Any, key: str, where: str) -> PictureColumn | tuple[str, ...]:
    """The column that a key names: of pictures, or of numbers by its path.

    Parameters
    ----------
    schema : pyarrow.Schema
    key : str
        Its name; dots lead into structures.
    where : str
        For messages.

    Raises
    ------
    PatternError
        When there is no such column, or it holds neither.
    """
    path, kind = found_at(schema, key, where)
    pictures = _as_pictures(path, kind)
    if pictures is not None:
        return pictures
    if is_number(leaf(kind)):
        return path
    raise PatternError(
        f"{where}: the column {key!r} holds {kind}, which is neither encoded pictures nor numbers"
    )


def found_at(schema: Any, key: str, where: str) -> tuple[tuple[str, ...], Any]:
    """Path and type of a column by its name; dots lead into structures.

    Raises
    ------
    PatternError
        When there is no such column.
    """
    kinds = {".".join(path): (path, kind) for path, kind in _fields(schema)}
    if key not in kinds:
        near = get_close_matches(key, kinds, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {few(list(kinds))}"
        raise PatternError(f"{where} has no column {key!r}; {hint}")
    return kinds[key]


def same_pictures(schema: Any, column: PictureColumn, where: str, first: str) -> PictureColumn:
    """A column of pictures in another file.

    Raises
    ------
    PatternError
        When there is none of this name there, or it is of another kind.
    """
    path, kind = found_at(schema, column.name, where)
    own = _as_pictures(path, kind)
    if own is None or own.structured != column.structured:
        wanted = "structures of bytes and path" if column.structured else "bytes"
        raise PatternError(
            f"{where}: the column {column.name!r} holds {kind}, but {wanted} in {first}; convert "
            "it, or measure the files apart"
        )
    return own


def only(columns: Sequence[str], what: str, where: str) -> str:
    """The one column of several kinds of which there must be but one.

    Raises
    ------
    PatternError
        When there are more, with their names.
    """
    if len(columns) > 1:
        raise PatternError(
            f"{where} has {len(columns)} columns of {what}, {few(columns)}; choose one with "
            f"key={columns[0]!r} (--key {columns[0]})"
        )
    return columns[0]


def default_column(schema: Any, pattern: Pattern | None, given: str) -> tuple[str, ...]:
    """The column of arrays where there is nothing else; nothing for the numeric columns.

    Raises
    ------
    PatternError
        When there are several, and when the pattern is one of arrays.
    """
    arrays = array_columns(schema)
    if arrays and not any(field.dtype for field in fields_of(schema)):
        return (only(arrays, "arrays", given),)
    if arrays and pattern is not None and len(pattern.axes) > 2:
        raise PatternError(
            f"the pattern {str(pattern)!r} is none of a table; the column {arrays[0]!r} of {given} "
            f"holds arrays: choose it with key={arrays[0]!r} (--key {arrays[0]})"
        )
    return ()
