"""Variables of netCDF files, versions 3 and 4.

netCDF 4 files are HDF5 files and are read by h5py; netCDF 3 files are mapped into memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from zeromean.pattern import Pattern
from zeromean.sources import Source
from zeromean.sources.access import is_remote, stamp_of
from zeromean.sources.block_sources import FileBlocks
from zeromean.sources.blocks import Reading, Values, picked, slices
from zeromean.sources.classic import Variable, variables_of
from zeromean.sources.contents import (
    Found,
    labeled_files,
    one_of,
    opened_arrays,
    title,
    what_it_holds,
)
from zeromean.sources.conventions import Decoded, decoding_of, is_time, named_by, unchecked
from zeromean.sources.cutting import Box, Layout
from zeromean.sources.hdf5 import data_sets, file_data, naming, open_file, what_data_holds
from zeromean.sources.together import Together, alike

#: What the netCDF library puts before a name that is also one of a dimension.
_SET_ASIDE = "_nc4_non_coord_"
_NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open one variable of each netCDF file at the paths, together as one source.

    Without a key and a pattern, several variables that share their axes become the columns of a
    table.

    Parameters
    ----------
    paths : list of str
        Files and folders, or URLs of netCDF 4 files.
    pattern : Pattern or None
    options : Options
        ``key`` names the variable.
    name : str
        Of the format.

    Raises
    ------
    SourceError
        When there is no such file or variable, several and none is named, or a single file that is
        damaged.
    """
    files = labeled_files(paths, name)

    def wanted(path: str, label: str) -> Any:
        with naming(label):
            return _wanted(_variables(path, label), label, options.key, pattern is None)

    arrays = opened_arrays(files, wanted)
    return [FileBlocks(arrays, pattern, title(files, arrays, paths), options.limit)]


@dataclass(frozen=True)
class Held:
    """A variable of a file, as it was found.

    Attributes
    ----------
    name : str
        With its group.
    dims : tuple of str
    attributes : dict
    array : BlockArray or None
        As stored; None for what is no array of numbers.
    found : Found
    """

    name: str
    dims: tuple[str, ...]
    attributes: dict[str, Any]
    array: Any
    found: Found


def _wanted(held: Sequence[Held], label: str, key: str, as_table: bool) -> Any:
    """The variable that is wanted, or several together."""
    found = [one.found for one in held]
    numbers = [one for one in held if not one.found.holds]
    if (
        as_table
        and not key
        and len(numbers) > 1
        and alike([(n.dims, n.found.shape) for n in numbers])
    ):
        return Together(label, tuple((one.name, _decoded(one)) for one in numbers))
    name = one_of(found, label, key).name
    return _decoded(next(one for one in held if one.name == name))


def _decoded(held: Held) -> Any:
    """A variable as xarray gives it.

    Raises
    ------
    SourceError
        When a netCDF 3 file ends before it does.
    """
    if isinstance(held.array, MappedVariable):
        held.array.variable.check(held.array.path)
    decoding = decoding_of(held.array.layout.dtype, held.attributes)
    return held.array if decoding is None else Decoded(held.array, decoding)


def _variables(path: str, label: str) -> list[Held]:
    """All variables of a file, with what keeps some from being taken by themselves."""
    if not is_remote(path):
        with open(path, "rb") as file:
            if file.read(3) == b"CDF":
                return _of_classic(path, label)
    return _of_hdf5(path, label)


def _held(name: str, dims: tuple[str, ...], attributes: dict[str, Any], array: Any, kind: Any,
          holds: str, serving: set[str]) -> Held:  # fmt: skip
    shape, dtype = kind
    refused = bool(holds)
    last = name.rpartition("/")[2]
    if not holds and is_time(attributes):
        holds = "dates"
    if not holds and (dims == (last,) or last in serving):
        holds = "coordinates"
    return Held(name, dims, attributes, array, Found(name, shape, dtype, holds, refused))


# ---------------------------------------------------------------- netCDF 4


def is_netcdf(path: str) -> bool:
    """Whether an HDF5 file was written as netCDF: by its mark, or named dimensions.

    Parameters
    ----------
    path : str
        Of a file here.
    """
    try:
        with open_file(path, path) as (file, _):
            if "_NCProperties" in file.attrs:
                return True
            sets = [thing for thing in file.values() if hasattr(thing, "shape")]
            return any(thing.attrs.get("CLASS") == b"DIMENSION_SCALE" for thing in sets)
    except (ImportError, OSError, KeyError, RuntimeError, ValueError):
        return False  # reading it says why


def _of_hdf5(path: str, label: str) -> list[Held]:
    with open_file(path, label) as (file, stamp):
        sets = [(name.lstrip("/"), data) for name, data in data_sets(file)]
        sets.sort(key=lambda pair: _place(file, pair[0]))
        attributes = {name: dict(_plain(data)) for name, data in sets}
        serving = named_by(attributes.values())
        held = []
        for name, data in sets:
            if str(_NOT_A_VARIABLE)[2:-1] in str(attributes[name].get("NAME", "")):
                continue
            dims, holds = _dims(data, name), what_data_holds(data)
            array, own = None, name.replace(_SET_ASIDE, "")
            if not holds:
                more = {"dims": dims, "notes": unchecked(attributes[name])}
                array = file_data(data, label, name, path, stamp, **more)
                array = replace(array, name=f"{label}:{own}")
            kind = (data.shape or (), data.dtype)
            held.append(_held(own, dims, attributes[name], array, kind, holds, serving))
        return held


def _place(file: Any, name: str) -> list[int]:
    """When each part of a name was made: the order of a netCDF file is that of its making."""
    places, group = [], file
    for part in name.split("/"):
        info = group.id.links.get_info(part.encode())
        places.append(info.corder if info.corder_valid else 0)
        group = group[part]
    return places


def _plain(data: Any) -> Any:
    """Attributes that can be read; references and what is damaged are passed over."""
    for name in data.attrs:
        if name not in ("DIMENSION_LIST", "REFERENCE_LIST"):
            try:
                yield name, data.attrs[name]
            except (OSError, TypeError, ValueError, RuntimeError):
                continue


def _dims(data: Any, name: str) -> tuple[str, ...]:
    """Names of its axes; its own where it is a dimension itself; empty where one has none."""
    if data.attrs.get("CLASS") == b"DIMENSION_SCALE" and len(data.shape or ()) == 1:
        return (name.rpartition("/")[2],)
    names = []
    for axis in data.dims:
        if len(axis) == 0:
            return ()
        names.append(axis[0].name.rpartition("/")[2])
    return tuple(names)


# ---------------------------------------------------------------- netCDF 3


def _of_classic(path: str, label: str) -> list[Held]:
    stamp = stamp_of(os.stat(path))
    held = variables_of(path)
    serving = named_by(variable.attributes for variable in held)
    found = []
    for variable in held:
        holds = what_it_holds(variable.dtype, variable.shape)
        array = None if holds else MappedVariable(f"{label}:{variable.name}", variable, path, stamp)
        kind = (variable.shape, variable.dtype.newbyteorder("="))
        held_one = (variable.name, variable.dims, variable.attributes, array)
        found.append(_held(*held_one, kind, holds, serving))
    return found


@dataclass(frozen=True)
class MappedVariable:
    """A variable of a netCDF 3 file, as a `zeromean.sources.blocks.BlockArray`.

    Attributes
    ----------
    name : str
    variable : Variable
    path : str
    listed : tuple of int
        Stamp of the file when it was listed.
    """

    name: str
    variable: Variable
    path: str
    listed: tuple[int, ...]
    warnings: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        """Not chunked."""
        return Layout(self.variable.shape, self.variable.dtype)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of its axes."""
        return self.variable.dims

    @property
    def notes(self) -> tuple[str, ...]:
        """Limits that nobody applies."""
        return unchecked(self.variable.attributes)

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What reads a box."""
        return MappedReading(self.variable, self.path, box, rows)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """That of the file, and where the block begins."""
        return (*self.listed, box[0][0])


@dataclass(frozen=True)
class MappedReading:
    """Reads a box of a variable in a netCDF 3 file."""

    variable: Variable
    path: str
    box: Box
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Map it."""
        return Values(picked(self.variable.mapped(self.path)[slices(self.box)], self.rows))

    def stamp(self) -> tuple[int, ...]:
        """What the file is now."""
        return (*stamp_of(os.stat(self.path)), self.box[0][0])
