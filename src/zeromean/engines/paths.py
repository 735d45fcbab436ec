"""Paths for workers elsewhere: made absolute, and looked for where a shard is measured."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from zeromean.errors import SourceError
from zeromean.sources import Item
from zeromean.sources.access import is_remote
from zeromean.sources.files import FileShard

_REPAIR = "all workers must find the data under the same path. Put it where all machines can read"


@dataclass(frozen=True, slots=True)
class Sent:
    """A shard for a worker that was started elsewhere; it looks for the files before it reads.

    A format that takes a missing piece for an empty one would else measure nothing but that.

    Attributes
    ----------
    shard : Shard
    paths : tuple of str
        Files and folders that it reads from.
    """

    shard: Any
    paths: tuple[str, ...]

    @property
    def n_items(self) -> int:
        """How many items it will hand over."""
        return int(self.shard.n_items)

    def items(self) -> Iterator[Item]:
        """Its items.

        Raises
        ------
        SourceError
            When one of the paths leads nowhere.
        """
        for path in self.paths:
            if not os.path.lexists(path):
                raise unseen(path, f"the worker on {socket.gethostname()}")
        yield from getattr(self.shard, "passing_items", self.shard.items)()


def unseen(path: str, who: str) -> SourceError:
    """What to say of a path that is here, and leads nowhere for a worker."""
    return SourceError(f"{who} does not see {path}, which is here: {_REPAIR}")


def sent(shard: Any) -> Sent:
    """A shard whose paths hold wherever a worker was started.

    Parameters
    ----------
    shard : Shard

    Raises
    ------
    SourceError
        When there is a path that cannot be made absolute.
    """
    held = anchored(shard)
    if isinstance(held, FileShard):  # what is not seen of them comes back as such
        files = tuple((_absolute(path), name, reason) for path, name, reason in held.files)
        held = replace(held, files=files)
    paths = dict.fromkeys(path for leaf in _leaves(held) for path in _paths_of(*leaf))
    return Sent(held, tuple(paths))


def anchored(thing: Any, name: str = "") -> Any:
    """The same with absolute paths, wherever a relative one leads to something from here.

    Parameters
    ----------
    thing : a dataclass or tuple, or what they hold
    name : str
        Of the field that it is.
    """
    if isinstance(thing, str):
        return _absolute(thing) if name == "path" and os.path.lexists(thing) else thing
    if isinstance(thing, tuple):
        names = getattr(thing, "_fields", [name] * len(thing))
        parts = [anchored(part, n) for n, part in zip(names, thing, strict=True)]
        if all(new is old for new, old in zip(parts, thing, strict=True)):
            return thing
        return type(thing)(*parts) if hasattr(thing, "_fields") else tuple(parts)
    if not _has_parts(thing):
        return thing
    changed = {}
    for field in fields(thing):
        old = getattr(thing, field.name)
        new = anchored(old, field.name)
        if new is not old:
            changed[field.name] = new
    return replace(thing, **changed) if changed else thing


def sent_bytes(shard: Any) -> int:
    """How much data in memory is sent with a shard.

    Parameters
    ----------
    shard : Shard
    """
    leaves = (leaf for _, leaf in _leaves(shard))
    return sum(
        leaf.nbytes if isinstance(leaf, np.ndarray) else len(leaf)
        for leaf in leaves
        if isinstance(leaf, np.ndarray | bytes)
    )


def _leaves(thing: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What a shard is made of, with the names of the fields."""
    if isinstance(thing, tuple | list):
        names = getattr(thing, "_fields", [name] * len(thing))
        for own, part in zip(names, thing, strict=True):
            yield from _leaves(part, own)
    elif _has_parts(thing):
        for field in fields(thing):
            yield from _leaves(getattr(thing, field.name), field.name)
    else:
        yield name, thing


def _has_parts(thing: Any) -> bool:
    """Whether to look into it; an open Zarr array is a data class, too, and taken as it is."""
    return is_dataclass(thing) and not isinstance(thing, type) and not hasattr(thing, "store_path")


def _paths_of(name: str, leaf: Any) -> Iterator[str]:
    """The local path that a leaf is, or that an open Zarr array has."""
    store = getattr(getattr(leaf, "store_path", None), "store", None)
    if store is not None:
        place = getattr(store, "root", None) or getattr(store, "path", None)
        if not isinstance(place, str | os.PathLike):
            return
        name, leaf = "path", os.fspath(place)
        if not is_remote(leaf) and not os.path.isabs(leaf):
            raise SourceError(f"{leaf}: workers elsewhere need its absolute path; give that")
    if name == "path" and isinstance(leaf, str) and not is_remote(leaf) and os.path.lexists(leaf):
        yield leaf


def _absolute(path: str) -> str:
    absolute = path if is_remote(path) else os.path.abspath(path)
    return path if absolute == path else absolute
