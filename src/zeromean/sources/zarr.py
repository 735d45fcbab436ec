"""Arrays of Zarr stores, versions 2 and 3, and open ones of the zarr package."""

from __future__ import annotations

import base64
import os
import struct
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from zeromean.errors import SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Source
from zeromean.sources.access import is_remote, stamp_of
from zeromean.sources.block_sources import Blocks, FileBlocks
from zeromean.sources.blocks import Read, Reading, Values, picked, slices, why_damaged
from zeromean.sources.contents import (
    Found,
    labeled_paths,
    one_of,
    opened_arrays,
    title,
    what_it_holds,
)
from zeromean.sources.conventions import Decoded, decoding_of, is_time, named_by, unchecked
from zeromean.sources.cutting import Box, Layout


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open one array of each Zarr store at the paths, together as one source.

    Parameters
    ----------
    paths : list of str
        Folders, zip files, or URLs.
    pattern : Pattern or None
    options : Options
        ``key`` names the array, or a group with only one.
    name : str
        Of the format.

    Raises
    ------
    SourceError
        When there is no such store or array, several and none is named, or the metadata is damaged.
    """
    stores = labeled_paths(paths)
    arrays = opened_arrays(
        stores, lambda path, label: _array(_node(path, label), label, options.key)
    )
    return [FileBlocks(arrays, pattern, title(stores, arrays, paths), options.limit)]


def open_object(source: Any, pattern: Pattern | None, options: Any) -> Source:
    """Open an array of the zarr package, or the one in a group that the key names."""
    place = os.path.basename(str(source.store_path).rstrip("/")) or "Zarr"
    array = _array(source, place, options.key)
    return Blocks([array], pattern, array.name, options.limit)


def _node(path: str, label: str) -> Any:
    """The array or group at a path.

    Raises
    ------
    SourceError
        When there is none, or its metadata is damaged.
    """
    try:
        import zarr
    except ImportError:
        raise ImportError('Zarr stores need zarr: pip install "zeromean[zarr]"') from None
    try:
        if is_remote(path):
            return zarr.open(path, mode="r")
        whole = os.path.abspath(path)  # it is opened again wherever it is read
        if os.path.isfile(path):
            return zarr.open(zarr.storage.ZipStore(whole, mode="r"), mode="r")
        return zarr.open(whole, mode="r")
    except FileNotFoundError:
        raise SourceError(f"{label} holds no Zarr array or group") from None
    except Exception as error:  # whatever the library says of damaged metadata
        raise SourceError(f"{label}: {_why(error)}") from None


def _why(error: Exception) -> str:
    """What the library says, and of a missing key that it is one."""
    if isinstance(error, KeyError):
        return f"cannot be read: its metadata has no {error}"
    return why_damaged(error)


def _array(node: Any, label: str, key: str) -> Any:
    """The array that is wanted of a store."""
    held = _arrays(node, label, key)
    name = one_of(_found(held), label, key).name
    (data,) = (array for known, array in held if known == name)
    attributes = _attributes(data)
    array = ZarrArray(
        f"{label}:{name}" if name else label,
        Layout(data.shape, data.dtype, data.chunks),
        data,
        _dims(data),
        unchecked(attributes),
    )
    decoding = decoding_of(data.dtype, attributes) if array.dims else None
    return array if decoding is None else Decoded(array, decoding)


def _arrays(node: Any, label: str, key: str) -> list[tuple[str, Any]]:
    """The array itself, the one that the key names, or all of a group."""
    if hasattr(node, "shape"):
        if key:
            raise SourceError(f"{label} is an array and holds no other, so none is {key!r}")
        return [("", node)]
    try:
        if key:
            with suppress(KeyError):
                named = node[key.strip("/")]
                if hasattr(named, "shape"):
                    return [(key.strip("/"), named)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are other files, too
            members = node.members(max_depth=None)
    except Exception as error:
        raise SourceError(f"{label}: {_why(error)}") from None
    return sorted((name, thing) for name, thing in members if hasattr(thing, "shape"))


def _found(arrays: list[tuple[str, Any]]) -> list[Found]:
    """What there is, without the coordinates of others."""
    serving = named_by(_attributes(array) for _, array in arrays)
    found = []
    for name, array in arrays:
        last = name.rpartition("/")[2]
        holds = what_it_holds(array.dtype, array.shape)
        refused = bool(holds)
        if not holds and is_time(_attributes(array)):
            holds = "dates"
        if not holds and len(arrays) > 1 and (_dims(array) == (last,) or last in serving):
            holds = "coordinates"
        found.append(Found(name, array.shape, array.dtype, holds, refused))
    return found


def _dims(array: Any) -> tuple[str, ...]:
    """Names of all axes; empty where one has none."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    return tuple(names) if all(isinstance(name, str) for name in names) else ()


def _attributes(array: Any) -> dict[str, Any]:
    """As xarray writes and reads them: version 2 has the fill value outside."""
    held = dict(array.attrs)
    if array.metadata.zarr_format == 2:
        if array.fill_value is not None:
            held["_FillValue"] = array.fill_value
        return held
    fill = held.get("_FillValue")
    if isinstance(fill, str) and array.dtype.kind == "f":
        with suppress(ValueError, struct.error):
            held["_FillValue"] = struct.unpack("<d", base64.standard_b64decode(fill))[0]
    return held


@dataclass(frozen=True)
class ZarrArray:
    """An array of a store, as a `zeromean.sources.blocks.BlockArray`.

    Attributes
    ----------
    name : str
    layout : Layout
    data : zarr.Array
    """

    name: str
    layout: Layout
    data: Any
    dims: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What reads a box."""
        return ZarrReading(self.data, box, rows)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """That of the files of the chunks of a box, together."""
        return ZarrReading(self.data, box, None).stamp()


@dataclass(frozen=True)
class ZarrReading:
    """Reads a box of an array; pickled without the data, unless that lies in memory."""

    data: Any
    box: Box
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Read it."""
        return Values(picked(np.asarray(self.data[slices(self.box)]), self.rows))

    def stamp(self) -> tuple[int, ...]:
        """Size, times and a checksum of the files of the chunks; of the metadata where none is."""
        store = self.data.store
        if hasattr(store, "path") and os.path.isfile(store.path):
            return (*stamp_of(os.stat(store.path)), self.box[0][0])
        if not hasattr(store, "root"):
            return ()
        folder = os.path.join(str(store.root), self.data.path)
        known = []
        for path in (*_metadata(folder), *self._chunks(folder)):
            with suppress(OSError):  # a chunk that was never written
                known.append((path, *stamp_of(os.stat(path))))
        if not known:
            return ()
        _, sizes, changed, entered = zip(*known, strict=True)
        check = zlib.crc32(repr([k[1:] for k in known]).encode())
        return sum(sizes), max(changed), max(entered), len(known), check

    def _chunks(self, folder: str) -> Any:
        """The files that hold a box."""
        lengths = self.data.shards or self.data.chunks
        sides = [
            range(begin // length, -(-end // length))
            for (begin, end), length in zip(self.box, lengths, strict=True)
        ]
        encode = self.data.metadata.encode_chunk_key
        return (os.path.join(folder, encode(at)) for at in product(*sides))

    def __reduce__(self) -> Any:
        if type(self.data.store).__name__ == "MemoryStore":
            return Read, (self(),)
        return ZarrReading, (self.data, self.box, self.rows)


def _metadata(folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in ("zarr.json", ".zarray", ".zattrs")]
