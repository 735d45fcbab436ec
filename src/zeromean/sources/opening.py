"""Recognizes what was given to `measure` and opens it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources.arrays import (
    ArraySource,
    ItemSource,
    ZippedArray,
    as_array,
    is_path,
    is_picture,
    open_npy,
)
from zeromean.sources.images import ImageFiles


@dataclass(frozen=True, slots=True)
class Options:
    """How files are read: as for `zeromean.measure`."""

    colors: str = "RGB"
    group: str | None = None
    limit: int | None = None
    extensions: tuple[str, ...] | None = None


Opened = ImageFiles | ArraySource | ZippedArray | ItemSource


def open_source(source: Any, pattern: Pattern | None, options: Options) -> list[Opened]:
    """Open whatever it is: array, path, several paths, or an iterable of arrays.

    Raises
    ------
    SourceError, PatternError
        Naming what was given and what can be.
    """
    if options.limit is not None and options.limit < 1:
        raise SourceError(f"limit is {options.limit}; choose 1 or more, or leave it out")
    if is_path(source):
        return _open_paths([source], pattern, options)
    if isinstance(source, Sequence) and source and all(is_path(entry) for entry in source):
        return _open_paths(list(source), pattern, options)
    if is_picture(source):
        return [ItemSource([source], pattern, options.colors)]
    if isinstance(source, list | tuple) and source and _is_numbers(source[0]):
        return [ArraySource(as_array(source), pattern, limit=options.limit)]
    if hasattr(source, "__array__") or isinstance(source, np.ndarray):
        return [ArraySource(as_array(source), pattern, limit=options.limit)]
    if isinstance(source, Iterable) and not isinstance(source, str | bytes | dict | set):
        return [ItemSource(source, pattern, options.colors, options.limit)]
    raise PatternError(
        f"cannot measure {type(source).__name__}; give an array, a folder, a .npy or .npz file, "
        "a list of them, or an iterable of arrays or PIL images"
    )


def _is_numbers(entry: Any) -> bool:
    """Whether an entry of a list is a number or a plain list of them, so that it is one array."""
    if isinstance(entry, list | tuple):
        return bool(entry) and _is_numbers(entry[0])
    return isinstance(entry, int | float | complex | np.number | np.bool_)


def _open_paths(paths: list[Any], pattern: Pattern | None, options: Options) -> list[Opened]:
    opened: list[Opened] = []
    images = []
    for entry in paths:
        array = _open_array_file(os.fspath(entry), pattern, options)
        if array is None:
            images.append(entry)
        else:
            opened.append(array)
    if images:
        opened.append(
            ImageFiles(
                images,
                colors=options.colors,
                group=options.group,
                limit=options.limit,
                extensions=options.extensions,
            )
        )
    return opened


def _open_array_file(
    text: str, pattern: Pattern | None, options: Options
) -> ArraySource | ZippedArray | None:
    """An array file, or None when the path is not one. `data.npz:name` picks a member."""
    path, member = Path(text), ""
    if ".npz:" in text and not path.exists():
        head, member = text.rsplit(":", 1)
        path = Path(head)
    if path.suffix not in (".npy", ".npz") or path.is_dir():
        return None
    if not path.exists():
        raise SourceError(f"{path}: there is no such file")
    try:
        if path.suffix == ".npy":
            return ArraySource(open_npy(path), pattern, path.name, options.limit)
        return ZippedArray(path, member, pattern, options.limit)
    except PatternError as error:
        raise PatternError(f"{path.name}: {error}") from None


def pattern_of(opened: Opened, pattern: Pattern | None) -> Pattern:
    """The pattern that a source is measured with."""
    if isinstance(opened, ImageFiles):
        return Pattern.parse(NAMED["channel"]) if pattern is None else pattern
    return opened.pattern
