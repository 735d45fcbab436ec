"""Finds the array that is meant, among all that a file holds and all files that were given."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NamedTuple

from zeromean.errors import SourceError
from zeromean.sources.access import is_remote, shown, stamp_of
from zeromean.sources.blocks import Unreadable
from zeromean.sources.walk import printable


class Found(NamedTuple):
    """An array in a file.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : object
    holds : str
        What it holds instead of numbers, or why it is not taken by itself; empty for numbers.
    refused : bool
        Whether it cannot be measured even when it is named.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Any
    holds: str = ""
    refused: bool = False


def what_it_holds(dtype: Any, shape: tuple[int, ...]) -> str:
    """What an array holds instead of numbers, empty for numbers."""
    kind = getattr(dtype, "kind", "O")
    other = {
        "c": "complex numbers",
        "S": "text",
        "U": "text",
        "T": "text",
        "O": "objects, such as text or rows of unequal length",
        "M": "dates",
        "m": "spans of time",
    }
    if kind == "V" and dtype.name != "bfloat16":
        names = ", ".join(dtype.names or ())
        what = "arrays as single values" if dtype.subdtype else "raw bytes"
        return f"compound values ({names})" if names else what
    if kind in other:
        return other[kind]
    if dtype.itemsize > 8:
        return f"numbers of {8 * dtype.itemsize} bits"
    return "" if shape else "a single number"


def one_of(found: Sequence[Found], place: str, key: str) -> Found:
    """The array that a key names, or the only one of numbers.

    Parameters
    ----------
    found : sequence of Found
    place : str
        Name of the file, for messages.
    key : str
        Of an array, or of a group that holds it; empty for the only one.

    Raises
    ------
    SourceError
        When there is none, or several: with their shapes and dtypes.
    """
    wanted = key.strip("/")
    held = list(found)
    if wanted:
        for one in found:
            if one.name.strip("/") == wanted:
                if one.refused:
                    raise SourceError(
                        f"{place}:{one.name} holds {one.holds}, not an array of numbers"
                    )
                return one
        held = [one for one in found if one.name.strip("/").startswith(wanted + "/")]
        if not held:
            raise SourceError(_no_such(found, place, key))
    numbers = [one for one in held if not one.holds]
    if len(numbers) == 1:
        return numbers[0]
    inside = f"{place}:{key}" if wanted else place
    if not numbers:
        others = "; ".join(f"{one.name} holds {one.holds}" for one in held[:6])
        raise SourceError(f"{inside} holds no array of numbers" + (f": {others}" if others else ""))
    largest = max(numbers, key=lambda one: math.prod(one.shape))
    raise SourceError(
        f"{inside} holds {len(numbers)} arrays of numbers; name one, such as "
        f"{place}:{largest.name}\n{_listed(numbers)}"
    )


def _accepted(one: Found, place: str) -> Found:
    if one.refused:
        raise SourceError(f"{place}:{one.name} holds {one.holds}, not an array of numbers")
    return one


def _no_such(found: Sequence[Found], place: str, key: str) -> str:
    names = [one.name for one in found if not one.refused]
    near = get_close_matches(key, names, 1) or get_close_matches(f"/{key.lstrip('/')}", names, 1)
    hint = f"; did you mean {place}:{near[0]}?" if near else ""
    numbers = [one for one in found if not one.refused]
    held = f"; it holds\n{_listed(numbers)}" if numbers and not near else ""
    return f"{place} holds no array {key!r}{hint or held}"


def _listed(found: Sequence[Found]) -> str:
    width = max(len(one.name) for one in found[:20])
    lines = [f"  {one.name:<{width}}  {one.shape} {one.dtype}" for one in found[:20]]
    if len(found) > 20:
        lines.append(f"  ... and {len(found) - 20} more")
    return "\n".join(lines)


# ---------------------------------------------------------------- files


def labeled_files(paths: Sequence[str], name: str) -> list[tuple[str, str]]:
    """The files of a format at the paths, and what they are called.

    Raises
    ------
    SourceError
        For a path that is not there, and a folder without such files.
    """
    files: list[str] = []
    for path, _ in labeled_paths(paths):
        held = _files_at(path, name)
        if not held:
            raise SourceError(f"{printable(shown(path))} holds no files of this format")
        files += held
    return labeled_paths(files)


def _files_at(path: str, name: str) -> list[str]:
    """The files of a format at a path or URL: itself, or those below it."""
    from zeromean.sources.recognition import FORMATS, files_of

    if not is_remote(path):
        return [str(file) for file in files_of(path, name)]
    from zeromean.sources.remote import head_of, walk_remote

    if head_of(path) is not None:
        return [path]
    roots = walk_remote([path], frozenset(FORMATS[name].suffixes))
    return [root.place(below) for root in roots for below in root.files]


def labeled_paths(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Paths, and what they are called: relative to the folder that they share.

    Raises
    ------
    SourceError
        For a path that is not there.
    """
    paths = list(dict.fromkeys(paths))
    for path in paths:
        if not is_remote(path) and not os.path.exists(path):
            raise SourceError(f"{printable(path)}: there is no such file")
    names = [shown(path).replace(os.sep, "/").rstrip("/") for path in paths]
    folders = [name[: name.rfind("/") + 1].split("/") for name in names]
    first, last = min(folders), max(folders)  # what these two share, all do
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    begin = len("/".join([*first[: -1 if same is None else same], ""]))
    return [(path, printable(name[begin:])) for path, name in zip(paths, names, strict=True)]


def opened_arrays(files: Sequence[tuple[str, str]], opened: Callable[[str, str], Any]) -> list[Any]:
    """The array of each file; of several files, those that are broken do not stop the others.

    Parameters
    ----------
    files : sequence of (str, str)
        Path and name.
    opened : callable
        From path and name to a BlockArray; raises SourceError, which names the file.

    Raises
    ------
    SourceError
        When it is the only one, or none can be opened.
    """
    arrays: list[Any] = []
    first: SourceError | None = None
    for path, name in files:
        try:
            arrays.append(opened(path, name))
        except SourceError as error:
            first = first or error
            reason = str(error).removeprefix(f"{name}: ").split("\n")[0]
            stamp: tuple[int, ...] = ()
            with suppress(OSError):
                stamp = stamp_of(os.stat(path))
            arrays.append(Unreadable(name, reason, stamp))
    if first is not None and all(isinstance(array, Unreadable) for array in arrays):
        raise first
    return arrays


def title(files: Sequence[tuple[str, str]], arrays: Sequence[Any], paths: Sequence[str]) -> str:
    """What a source is called: its array, or the paths that were given."""
    if len(files) == 1:
        return str(arrays[0].name)
    return ", ".join(printable(shown(path)) for path in paths)
