"""Data sets of HDF5 files, and open ones of h5py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from zeromean.errors import SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Source
from zeromean.sources.access import is_remote, opened, shown, stamp_of
from zeromean.sources.block_sources import Blocks, FileBlocks
from zeromean.sources.blocks import Read, Reading, Values, picked, slices, why_damaged
from zeromean.sources.contents import (
    Found,
    labeled_files,
    one_of,
    opened_arrays,
    title,
    what_it_holds,
)
from zeromean.sources.cutting import Box, Layout
from zeromean.sources.walk import printable

_PLUGINS = {32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd", 32026: "blosc2"}


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open one data set of each HDF5 file at the paths, together as one source.

    Parameters
    ----------
    paths : list of str
        Files and folders, or URLs of files.
    pattern : Pattern or None
    options : Options
        ``key`` names the data set, or a group with only one.
    name : str
        Of the format.

    Raises
    ------
    SourceError
        When there is no such file or data set, several and none is named, or a single file that
        is damaged.
    """
    files = labeled_files(paths, name)
    arrays = opened_arrays(files, lambda path, label: _array(path, label, options.key))
    return [FileBlocks(arrays, pattern, title(files, arrays, paths), options.limit)]


def open_object(source: Any, pattern: Pattern | None, options: Any) -> Source:
    """Open a data set of h5py, or the one in an open file or group that the key names."""
    place = printable(os.path.basename(_file_name(source)))
    if not hasattr(source, "shape"):
        name = one_of(_found(source, options.key), place, options.key).name
        source = source[name]
    holds = what_data_holds(source)
    if holds:
        raise SourceError(f"{place}:{source.name} holds {holds}, not an array of numbers")
    array = OpenData(f"{place}:{source.name}", layout_of(source), source)
    return Blocks([array], pattern, array.name, options.limit)


def _file_name(source: Any) -> str:
    name = source.file.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else "HDF5"


# ---------------------------------------------------------------- files


def library() -> Any:
    """The h5py package.

    Raises
    ------
    ImportError
        With how to install it.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError('HDF5 files need h5py: pip install "zeromean[hdf5]"') from None
    return h5py


@contextmanager
def open_file(path: str, name: str) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """An HDF5 file for the time of a block, and its stamp."""
    h5py = library()
    if is_remote(path):
        with opened(path, name) as held, h5py.File(held.file, "r") as file:
            yield file, held.stamp
        return
    status = os.stat(path)
    with h5py.File(path, "r") as file:
        yield file, stamp_of(status)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say which file it is that the library cannot read.

    Raises
    ------
    SourceError
    """
    try:
        yield
    except SourceError as error:
        raise SourceError(f"{name}: {error}" if name not in str(error) else str(error)) from None
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, BlockingIOError) or getattr(error, "errno", None) == 11:
            raise SourceError(
                f"{name}: another program has it open for writing; try again when it has ended"
            ) from None
        raise SourceError(f"{name}: {why_damaged(error)}") from None


def _array(path: str, label: str, key: str) -> FileData:
    """The data set that is wanted of a file."""
    with naming(label), open_file(path, label) as (file, stamp):
        name = one_of(_found(file, key), label, key).name
        data = file[name]
        _check_parts(data, label)
        return file_data(data, label, name, path, stamp)


def _found(group: Any, key: str) -> list[Found]:
    """The data set that a key names, or every one below a group, in order."""
    held = data_sets(group)
    if key and hasattr(data := group.get(key.rstrip("/")), "shape"):
        held = [(f"{group.name.rstrip('/')}/{key.strip('/')}", data)]
    return [
        Found(name, data.shape or (), data.dtype, what, bool(what))
        for name, data in held
        for what in [what_data_holds(data)]
    ]


def data_sets(group: Any) -> list[tuple[str, Any]]:
    """Every data set below a group with its full name; links are followed where they lead."""
    found: list[tuple[str, Any]] = []

    def see(name: str, thing: Any) -> None:
        if hasattr(thing, "shape"):
            found.append((f"{group.name.rstrip('/')}/{name}", thing))

    group.visititems(see)
    _add_links(group, group.name.rstrip("/"), {data.id for _, data in found}, found)
    return found


def _add_links(group: Any, prefix: str, known: set[Any], found: list[tuple[str, Any]]) -> None:
    """Data sets that only soft and external links of this group lead to."""
    h5py = library()
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
            with suppress(KeyError, OSError):  # it leads nowhere
                thing = group[name]
                if hasattr(thing, "shape") and thing.id not in known:
                    found.append((f"{prefix}/{name}", thing))


def what_data_holds(data: Any) -> str:
    """What a data set holds instead of an array of numbers."""
    if data.shape is None:
        return "nothing"
    h5py = library()
    if h5py.check_ref_dtype(data.dtype) is not None:
        return "references"
    if h5py.check_string_dtype(data.dtype) is not None:
        return "text"
    if h5py.check_vlen_dtype(data.dtype) is not None:
        return "rows of unequal length"
    return what_it_holds(data.dtype, data.shape)


def layout_of(data: Any) -> Layout:
    """What a data set is; of chunks that are not packed, parts can be read."""
    packed = data.chunks is not None and data.id.get_create_plist().get_nfilters() > 0
    return Layout(data.shape, data.dtype, data.chunks if packed else None)


def file_data(
    data: Any, label: str, name: str, path: str, stamp: tuple[int, ...], **more: Any
) -> FileData:
    """A data set as it can be read without its file being open.

    Parameters
    ----------
    data : h5py.Dataset
    label, name, path : str
        Name of the file in messages, of the data set, and where the file is.
    stamp : tuple of int
    **more
        ``dims`` and ``notes``.
    """
    offset = None if is_remote(path) else _offset(data)
    return FileData(f"{label}:{name}", layout_of(data), path, name, stamp, offset, **more)


def _offset(data: Any) -> int | None:
    """Where its values lie in the file, one after the other as NumPy has them; None elsewhere."""
    h5py = library()
    if data.chunks is not None or data.is_virtual or data.external or data.dtype.kind not in "iuf":
        return None
    if data.id.get_type() != h5py.h5t.py_create(data.dtype):
        return None  # fewer bits, or other ones, than NumPy's
    if not data.size or data.id.get_storage_size() != data.nbytes:
        return None  # never written: it reads as the fill value
    found: int | None = data.id.get_offset()
    return found


def _check_parts(data: Any, label: str) -> None:
    """Refuse a virtual data set whose parts are not there: they would read as fill values.

    Raises
    ------
    SourceError
        With the missing file.
    """
    if not data.is_virtual:
        return
    folder = os.path.dirname(os.path.abspath(_file_name(data)))
    for part in data.virtual_sources():
        path = os.path.join(folder, part.file_name)
        if part.file_name != "." and "%" not in part.file_name and not os.path.exists(path):
            raise SourceError(f"{label}: its part {part.file_name} is not there")


@dataclass(frozen=True)
class FileData:
    """A data set of a file, as a `zeromean.sources.blocks.BlockArray`.

    Attributes
    ----------
    name : str
    layout : Layout
    path, key : str
        Of the file, and of the data set in it.
    listed : tuple of int
        Stamp of the file when it was listed.
    offset : int or None
        Where its values lie in the file, if they can be mapped.
    """

    name: str
    layout: Layout
    path: str
    key: str
    listed: tuple[int, ...]
    offset: int | None = None
    dims: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What reads a box."""
        if self.offset is not None:
            return MappedReading(self.path, self.layout, self.offset, box, rows)
        return FileReading(self.path, self.key, box, rows)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """That of the file, and where the block begins."""
        return (*self.listed, box[0][0])


@dataclass(frozen=True)
class FileReading:
    """Reads a box of a data set; opens the file for it, so that nothing stays open.

    Attributes
    ----------
    path, key : str
    box, rows
        As for `zeromean.sources.blocks.BlockArray`.
    """

    path: str
    key: str
    box: Box
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Read it."""
        with open_file(self.path, shown(self.path)) as (file, _):
            data = file[self.key]
            return Values(picked(_read(data, self.box), self.rows))

    def stamp(self) -> tuple[int, ...]:
        """What the file is now."""
        if is_remote(self.path):
            with opened(self.path, shown(self.path)) as held:
                return (*held.stamp, self.box[0][0])
        return (*stamp_of(os.stat(self.path)), self.box[0][0])


@dataclass(frozen=True)
class MappedReading:
    """Reads a box of a data set that lies in the file as NumPy has it: without the library.

    Attributes
    ----------
    path : str
    layout : Layout
    offset : int
        Of the data set in the file.
    box, rows
        As for `zeromean.sources.blocks.BlockArray`.
    """

    path: str
    layout: Layout
    offset: int
    box: Box
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Map it."""
        shape, dtype = self.layout.shape, self.layout.dtype
        whole = np.memmap(self.path, dtype, "r", self.offset, shape)
        return Values(picked(np.asarray(whole)[slices(self.box)], self.rows))

    def stamp(self) -> tuple[int, ...]:
        """What the file is now."""
        return (*stamp_of(os.stat(self.path)), self.box[0][0])


def _read(data: Any, box: Box) -> Any:
    """A box of a data set.

    Raises
    ------
    OSError
        With the filter that is missing, if it is one.
    """
    try:
        return data[slices(box)]
    except OSError as error:
        lacking = _lacking(data)
        if not lacking:
            raise
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401

            return data[slices(box)]
        raise OSError(f"is packed with {lacking}: pip install hdf5plugin") from error


def _lacking(data: Any) -> str:
    """The filter that a data set is packed with, if h5py does not have it."""
    h5py = library()
    properties = data.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            return str(_PLUGINS.get(code) or name.decode(errors="replace") or f"filter {code}")
    return ""


# ---------------------------------------------------------------- open files


@dataclass(frozen=True)
class OpenData:
    """A data set of a file that the caller has open.

    Attributes
    ----------
    name : str
    layout : Layout
    data : h5py.Dataset
    """

    name: str
    layout: Layout
    data: Any
    dims: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What reads a box."""
        return OpenReading(self.data, box, rows)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """None: it may be in memory only."""
        return ()


@dataclass(frozen=True)
class OpenReading:
    """Reads a box of an open data set; for another process, what was read."""

    data: Any
    box: Box
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Read it."""
        return Values(picked(_read(self.data, self.box), self.rows))

    def stamp(self) -> tuple[int, ...]:
        """None."""
        return ()

    def __reduce__(self) -> Any:
        return Read, (self(),)
