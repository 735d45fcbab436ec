"""Recognizes what was given to `measure` and opens it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
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
from zeromean.sources.frames import FrameSource, is_frame, row_count
from zeromean.sources.images import ImageFiles
from zeromean.sources.tables import TableFiles, is_table, kind_of


@dataclass(frozen=True, slots=True)
class Options:
    """How files are read: as for `zeromean.measure`."""

    colors: str = "RGB"
    group: str | None = None
    limit: int | None = None
    extensions: tuple[str, ...] | None = None


Opened = ImageFiles | ArraySource | ZippedArray | ItemSource | FrameSource | TableFiles


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
    if is_frame(source):
        return [FrameSource([source], pattern, options.limit, row_count(source))]
    if is_picture(source):
        return [ItemSource([source], pattern, options.colors)]
    if isinstance(source, list | tuple) and source and _is_numbers(source[0]):
        return [ArraySource(as_array(source), pattern, limit=options.limit)]
    if hasattr(source, "__array__") or isinstance(source, np.ndarray):
        return [ArraySource(as_array(source), pattern, limit=options.limit)]
    if any(base.__module__.startswith("torch.utils.data") for base in type(source).__mro__):
        raise PatternError(
            f"a {type(source).__name__} of PyTorch is measured with zeromean.torch: "
            "from zeromean.torch import measure"
        )
    if isinstance(source, Iterable) and not isinstance(source, str | bytes | dict | set):
        source, frames = _frames_of(source)
        if frames:
            return [FrameSource(source, pattern, options.limit)]
        return [ItemSource(source, pattern, options.colors, options.limit)]
    raise PatternError(
        f"cannot measure {type(source).__name__}; give an array, a folder, a .npy or .npz file, "
        "a .csv or .parquet file, a data frame, a list of them, or an iterable of arrays or PIL "
        "images"
    )


def _frames_of(source: Iterable[Any]) -> tuple[Iterable[Any], bool]:
    """An iterable that still has all its elements, and whether the first one is a data frame."""
    if isinstance(source, Sequence):
        return source, len(source) > 0 and is_frame(source[0])
    elements = iter(source)
    first = list(islice(elements, 1))
    return chain(first, elements), bool(first) and is_frame(first[0])


def _is_numbers(entry: Any) -> bool:
    """Whether an entry of a list is a number or a plain list of them, so that it is one array."""
    if isinstance(entry, list | tuple):
        return bool(entry) and _is_numbers(entry[0])
    return isinstance(entry, int | float | complex | np.number | np.bool_)


def _open_paths(paths: list[Any], pattern: Pattern | None, options: Options) -> list[Opened]:
    opened: list[Opened] = []
    images = []
    tables: dict[str, list[Path]] = {}  # files of one kind are one source: types hold for all
    for entry in paths:
        text = os.fspath(entry)
        if is_table(text):
            tables.setdefault(kind_of(text), []).append(Path(text))
            continue
        array = _open_array_file(text, pattern, options)
        if array is None:
            images.append(entry)
        else:
            opened.append(array)
    opened += [TableFiles(held, pattern, options.limit) for held in tables.values()]
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
