"""Parquet, Arrow and Feather files, and saved data sets: tables, arrays, encoded pictures."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Source
from zeromean.sources.access import is_remote, opened
from zeromean.sources.arrow_arrays import ArrayRows
from zeromean.sources.arrow_columns import (
    PictureColumn,
    array_columns,
    chosen_column,
    default_column,
    only,
    picture_columns,
    present_values,
)
from zeromean.sources.arrow_files import Broken, DataFile, Outline, looked_at, opened_rows
from zeromean.sources.arrow_pictures import PictureRows
from zeromean.sources.files import Files
from zeromean.sources.images import ImageReader
from zeromean.sources.recognition import FORMATS
from zeromean.sources.tables import TableFiles
from zeromean.sources.walk import printable

_NAMED = 3  # files of a table that stand in the name of the source
_AT_ONCE = 16  # files of a remote store that are looked at together
_LOOKED_AT = 100_000  # rows without a value, before a column is given up
_HELD_OUT = re.compile(r"(val|valid|validation|test|testing)(-\d+-of-\d+[^.]*)?\.")


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open the files of a format that are at the paths, as one source.

    Parameters
    ----------
    paths : list of str
        Files, folders of them, URLs; for "dataset" folders that ``save_to_disk`` wrote.
    pattern : Pattern or None
    options : Options
    name : {"parquet", "arrow", "dataset"}

    Returns
    -------
    list of Source
        One: pictures where a column holds encoded images, else the numeric columns, or the column
        of arrays that ``options.key`` names.

    Raises
    ------
    SourceError
        When there is no such file, or none that is sound; for tables and arrays when any is broken.
    PatternError
        When several columns could be meant, or the files differ.
    """
    found = _found(paths, options, name)
    column = _column(found, pattern, options.key)
    shared: dict[str, Any] = {"name": found.name, "pattern": pattern, "limit": options.limit}
    if isinstance(column, PictureColumn):
        reader = ImageReader(options.colors, options.group or "")
        pictures = PictureRows(found.files, found.outlines, column, reader=reader, **shared)
        pictures.warnings, pictures.problems = found.warnings, found.problems
        return [pictures]
    if fault := found.fault:
        raise SourceError(fault)
    outlines = [o for o in found.outlines if isinstance(o, Outline)]
    if column and (len(column) > 1 or column[0] in array_columns(found.first.schema)):
        arrays = ArrayRows(found.files, outlines, column, **shared)
        arrays.warnings = found.warnings
        return [arrays]
    if len(found.files) <= _NAMED:
        shared["name"] = ", ".join(file.name for file in found.files)
    only_one, told = ".".join(column), found.warnings
    return [TableFiles(found.files, only=only_one, outlines=outlines, told=told, **shared)]


# ---------------------------------------------------------------- which column


def _column(found: _Found, pattern: Pattern | None, key: str) -> PictureColumn | tuple[str, ...]:
    """The column of pictures or of arrays; nothing for the numeric columns."""
    schema = found.first.schema
    if key:
        return chosen_column(schema, key, found.name)

    def look(column: PictureColumn) -> Iterator[tuple[Any, Any]]:
        return _first_values(found, column)

    pictures = {column.name: column for column in picture_columns(schema, look)}
    if pictures:
        return pictures[only(list(pictures), "pictures", found.name)]
    return default_column(schema, pattern, found.name)


def _first_values(found: _Found, column: PictureColumn) -> Iterator[tuple[Any, Any]]:
    """The first values of a column that are there, as bytes and path."""
    seen = 0
    for file, outline in zip(found.files, found.outlines, strict=True):
        if isinstance(outline, Broken):
            continue
        try:
            with opened_rows(file) as held:
                for group in range(len(outline.rows)):
                    for batch in held.batches(group, column.read, 8):
                        yield from present_values(column, batch)
                        seen += len(batch)
                        if seen >= _LOOKED_AT:
                            return
        except OSError:  # measuring it says so
            continue


# ---------------------------------------------------------------- which files


@dataclass(frozen=True, slots=True)
class _Found:
    """What lies at the given paths.

    Attributes
    ----------
    name : str
        The paths in a few words.
    files : list of DataFile
    outlines : list of Outline or Broken
    warnings : tuple of str
        What is probably not meant.
    problems : tuple of (str, str)
        Folders that could not be listed, and why.
    """

    name: str
    files: list[DataFile]
    outlines: list[Outline | Broken]
    warnings: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def first(self) -> Outline:
        """Of the first sound file.

        Raises
        ------
        SourceError
            When there is none.
        """
        sound = next((o for o in self.outlines if isinstance(o, Outline)), None)
        if sound is None:
            raise SourceError(self.fault)
        return sound

    @property
    def fault(self) -> str:
        """What is wrong with the first broken file; empty when none is."""
        pairs = zip(self.files, self.outlines, strict=True)
        faults = (f"{file.where}: {o.reason}" for file, o in pairs if isinstance(o, Broken))
        return next(faults, "")


def _found(paths: list[str], options: Any, name: str) -> _Found:
    if name == "dataset":
        several = len(paths) > 1
        labels = [os.path.basename(path.rstrip("/")) + "/" if several else "" for path in paths]
        pairs = zip(paths, labels, strict=True)
        saved = [file for path, label in pairs for file in _saved(path, label)]
        return _Found(", ".join(map(printable, paths)), saved, _looked_at(saved))
    walked = Files(
        paths,
        ImageReader(),
        extensions=options.extensions or FORMATS[name].suffixes,
        pattern=Pattern.parse("n ->"),
    )
    listed = list(walked.files())
    files = [DataFile(path, called, name) for path, called, _ in listed]
    outlines = _looked_at(files, [reason for _, _, reason in listed])
    warnings = (*walked.warnings, *_held_out([file.name for file in files]))
    return _Found(walked.name, files, outlines, warnings, tuple(walked.problems))


def _looked_at(files: Sequence[DataFile], refused: Sequence[str] = ()) -> list[Outline | Broken]:
    """What is known of each file; of many in a remote store at the same time."""
    reasons = refused or [""] * len(files)

    def look(file: DataFile, reason: str) -> Outline | Broken:
        return Broken(reason, True) if reason else looked_at(file)

    if len(files) > 1 and is_remote(files[0].path):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(_shared(pool.map(look, files, reasons)))
    return list(_shared(map(look, files, reasons)))


def _shared(outlines: Iterable[Outline | Broken]) -> Iterator[Outline | Broken]:
    """The same with one schema for all files that have the same: there may be thousands."""
    schema: Any = None
    for known in outlines:
        if isinstance(known, Broken):
            yield known
            continue
        if schema is None or not known.schema.equals(schema, check_metadata=True):
            schema = known.schema
        yield replace(known, schema=schema)


def _held_out(names: Sequence[str]) -> Iterator[str]:
    """A warning for files that are named as Hugging Face names those for validation and test."""
    found = [name for name in names if _HELD_OUT.match(name.rpartition("/")[2])]
    if found and len(found) < len(names):
        yield (
            f"{found[0]} is inside the measured folder; statistics should come from training data "
            "only"
        )


def _saved(path: str, label: str) -> Iterator[DataFile]:
    """The files of a data set that `save_to_disk` wrote, as its state lists them.

    Raises
    ------
    PatternError
        For a dictionary of data sets, with their names.
    SourceError
        When it is no such folder, or its state makes no sense.
    """
    splits = _json(path, "dataset_dict.json")
    if splits is not None:
        names = [str(name) for name in splits.get("splits", ())]
        raise PatternError(
            f"{path} holds the data sets {', '.join(names)}; measure one, such as "
            f"{os.path.join(path, names[0] if names else 'train')}"
        )
    state = _json(path, "state.json")
    if state is None:
        raise SourceError(f"{path} holds no state.json, as a data set saved by save_to_disk does")
    if state.get("_indices_data_files"):
        raise SourceError(
            f"{path} was saved with a list of chosen rows, by an old version of datasets; load it "
            "and save it again"
        )
    entries = state.get("_data_files")
    if not isinstance(entries, list) or not entries:
        raise SourceError(f"{path}: its state.json lists no file")
    for entry in entries:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or os.path.basename(name) != name:
            raise SourceError(f"{path}: its state.json names no file of the folder, but {entry!r}")
        yield DataFile(os.path.join(path, name), label + name, "arrow")


def _json(path: str, name: str) -> dict[str, Any] | None:
    """What a file of a folder says; None when there is no such file."""
    place = os.path.join(path, name)
    if not is_remote(path) and not os.path.exists(place):
        return None
    try:
        with opened(place, name) as file:
            held = json.loads(file.data())
    except OSError as error:
        if is_remote(path) and name == "dataset_dict.json":
            return None
        raise SourceError(f"{place}: {error}") from None
    except (ValueError, RecursionError):
        raise SourceError(f"{place}: is no JSON") from None
    if not isinstance(held, dict):
        raise SourceError(f"{place}: is no JSON object")
    return held
