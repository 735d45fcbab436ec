"""Recognizes what was given to `measure` and opens it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from zeromean.errors import PatternError, SourceError, warn
from zeromean.pattern import Pattern
from zeromean.sources import Source
from zeromean.sources.access import is_remote, shown
from zeromean.sources.arrays import (
    ArrayFile,
    ArraySource,
    ItemSource,
    ZippedArray,
    as_array,
    is_path,
    is_picture,
)
from zeromean.sources.frames import FrameSource, is_frame, row_count
from zeromean.sources.images import ImageFiles
from zeromean.sources.listing import expanded
from zeromean.sources.recognition import FORMATS, beside, recognized, suffix_format
from zeromean.sources.tables import TableFiles


@dataclass(frozen=True, slots=True)
class Options:
    """How sources are read: as for `zeromean.measure`.

    Attributes
    ----------
    format : str or None
        A name in `zeromean.sources.recognition.FORMATS`; None to recognize it.
    key : str
        The part of a file or of a sample that is wanted: a data set of an HDF5 file, an array of
        a Zarr store or `.npz` file, a variable, an image column, an entry of what a loader gives.
        Empty when there is but one.
    features : {"samples", "logmel"}
        What recordings are measured by.
    """

    colors: str = "RGB"
    group: str | None = None
    limit: int | None = None
    extensions: tuple[str, ...] | None = None
    format: str | None = None
    key: str = ""
    features: str = "samples"


#: Modules below `zeromean.sources` whose ``open_object(source, pattern, options)`` takes objects of
#: a library, by the start of the name of the module that their class is defined in.
_OBJECTS = {
    "h5py.": "hdf5",
    "zarr.": "zarr",
    "dask.array": "dask_arrays",
    "xarray.": "xarray_objects",
    "datasets.": "hugging_face",
    "torch.utils.data": "loaders",
    "tensorflow.": "loaders",
    "grain.": "loaders",
}


def open_source(source: Any, pattern: Pattern | None, options: Options) -> list[Source]:
    """Open whatever it is: array, path, several paths, or an iterable of arrays.

    Raises
    ------
    SourceError, PatternError
        Naming what was given and what can be.
    """
    if options.limit is not None and options.limit < 1:
        raise SourceError(f"limit is {options.limit}; choose 1 or more, or leave it out")
    if options.format is not None and options.format not in FORMATS:
        near = get_close_matches(options.format, FORMATS, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; choose one of {', '.join(FORMATS)}"
        raise SourceError(f"format is {options.format!r}{hint}")
    if is_path(source):
        return _open_paths([source], pattern, options)
    if isinstance(source, Sequence) and source and all(is_path(entry) for entry in source):
        return _open_paths(list(source), pattern, options)
    if (module := _library_of(source)) is not None:
        return [_reader(module).open_object(source, pattern, options)]
    if is_frame(source):
        return [FrameSource([source], pattern, options.limit, row_count(source))]
    if is_picture(source):
        return [ItemSource([source], pattern, options.colors)]
    if isinstance(source, list | tuple) and source and _is_numbers(source[0]) and not options.key:
        return [ArraySource(as_array(source), pattern, limit=options.limit)]
    if hasattr(source, "__array__") or isinstance(source, np.ndarray):
        return [ArraySource(as_array(source), pattern, limit=options.limit)]
    if callable(getattr(source, "as_numpy_iterator", None)) or _is_indexed(source):
        return [_reader("loaders").open_object(source, pattern, options)]
    if isinstance(source, Iterable) and not isinstance(source, str | bytes | dict | set):
        return [_open_iterable(source, pattern, options)]
    raise PatternError(
        f"cannot measure {type(source).__name__}; give an array, a path of "
        f"{', '.join(f.says for f in FORMATS.values())}, a data frame, a data set or loader, a "
        "list of them, or an iterable of arrays or PIL images"
    )


def _library_of(source: Any) -> str | None:
    """The module here that knows objects of this class; imports nothing."""
    for base in type(source).__mro__:
        for start, module in _OBJECTS.items():
            if base.__module__.startswith(start) or base.__module__ == start.rstrip("."):
                return module
    return None


def _is_indexed(source: Any) -> bool:
    """Whether it is a data set whose samples are asked for by number, and no iterable."""
    kind = type(source)
    methods = (hasattr(kind, name) for name in ("__getitem__", "__len__"))
    return all(methods) and not hasattr(kind, "__iter__")


def _reader(module: str) -> Any:
    return import_module(f"zeromean.sources.{module}")


def _open_iterable(source: Iterable[Any], pattern: Pattern | None, options: Options) -> Source:
    source, first = _first_of(source)
    if first and is_frame(first[0]):
        return FrameSource(source, pattern, options.limit)
    if first and isinstance(first[0], dict | tuple):
        opened: Source = _reader("loaders").open_object(source, pattern, options)
        return opened
    return ItemSource(source, pattern, options.colors, options.limit)


def _first_of(source: Iterable[Any]) -> tuple[Iterable[Any], list[Any]]:
    """An iterable that still has all its elements, and the first one if there is one."""
    if isinstance(source, Sequence):
        return source, list(source[:1])
    elements = iter(source)
    first = list(islice(elements, 1))
    return chain(first, elements), first


def _is_numbers(entry: Any) -> bool:
    """Whether an entry of a list is a number or a plain list of them, so that it is one array."""
    if isinstance(entry, list | tuple):
        return bool(entry) and _is_numbers(entry[0])
    return isinstance(entry, int | float | complex | np.number | np.bool_)


# ---------------------------------------------------------------- paths


def _open_paths(paths: list[Any], pattern: Pattern | None, options: Options) -> list[Source]:
    """Paths of one format, and one part of it, are opened together: types hold for all."""
    held: dict[tuple[str, str], list[str]] = {}
    every = expanded(paths)
    for text in every:
        path, key = _split_key(text)
        name = options.format or (_promised(path) if len(every) > 1 else "") or _recognized(path)
        held.setdefault((name, key or options.key), []).append(path)
    opened: list[Source] = []
    for (name, key), group in held.items():
        reader = _reader(FORMATS[name].module)
        opened += reader.open_paths(group, pattern, replace(options, key=key), name)
    return opened


def _promised(path: str) -> str:
    """What is not opened to see what it is: pictures of a list, and what a store would be asked."""
    if is_remote(path):
        name = suffix_format(path)
        return "" if name == "tiff" else name  # a picture or a raster
    pictured = path.lower().endswith(FORMATS["images"].suffixes)
    return "images" if pictured and not os.path.isdir(path) else ""


def _recognized(path: str) -> str:
    """The format of a path; says what a folder of several formats holds beside it."""
    name = recognized(path)
    others = beside(path, name) if os.path.isdir(path) and FORMATS[name].suffixes else ""
    if others:
        warn(
            f"{path} is measured as {FORMATS[name].says}; it also holds {others}, left out: name "
            "those files, or give their format"
        )
    return name


def _split_key(text: str) -> tuple[str, str]:
    """A path, and the part of the file that it names: ``data.npz:images``, ``x.h5:/train/x``."""
    head, found, key = text.rpartition(":")
    if not found or os.path.lexists(text):
        return text, ""
    if is_remote(text):  # else a port, a password, or a time in a name
        exists = "://" in head and bool(suffix_format(head))
    else:
        exists = os.path.exists(head)
    return (head, key) if exists and not key.startswith("//") else (text, "")


def open_paths(
    paths: list[str], pattern: Pattern | None, options: Options, name: str
) -> list[Source]:
    """Open image files, NumPy's files and CSV tables.

    Parameters
    ----------
    paths : list of str
    pattern : Pattern or None
    options : Options
    name : str
        Of the format.
    """
    if name == "images":
        files = ImageFiles(
            paths,
            pattern,
            colors=options.colors,
            group=options.group,
            limit=options.limit,
            extensions=options.extensions,
        )
        return [files]
    if name == "csv":
        from zeromean.sources.recognition import files_of

        files_held = [file for path in paths for file in files_of(path, name)]
        return [TableFiles(files_held, pattern, options.limit)]
    for path in filter(is_remote, paths):
        raise SourceError(f"{shown(path)}: copy it to a disk; {FORMATS[name].says} are read there")
    return [_open_array_file(Path(path), pattern, options) for path in paths]


def _open_array_file(
    path: Path, pattern: Pattern | None, options: Options
) -> ArraySource | ZippedArray:
    """An array file; of several arrays the one that the key names."""
    if path.is_dir():
        raise SourceError(f"{path} is a folder; to measure arrays, name their files")
    if not path.exists():
        raise SourceError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK" or path.suffix == ".npz"
        if zipped:
            return ZippedArray(path, options.key, pattern, options.limit)
        return ArrayFile(path, pattern, options.limit)
    except PatternError as error:
        raise PatternError(f"{path.name}: {error}") from None
