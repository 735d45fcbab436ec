"""What a path given by a person stands for: itself, a pattern of files, or a list of them."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence

from zeromean.errors import SourceError
from zeromean.sources.access import is_remote

_WILD = frozenset("*?[")


def expanded(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Paths with patterns and lists written out, each path once.

    Parameters
    ----------
    paths : sequence of path
        ``data/*.tar`` (with ``**`` for folders below, and ``{00..31}`` for numbers), ``@files.txt``
        for a list with one path on each line, ``-`` for such a list on standard input. Whatever
        exists under its own name is that file.

    Returns
    -------
    list of str

    Raises
    ------
    SourceError
        When a pattern fits nothing, or a list cannot be read or is empty.
    """
    found = [each for path in paths for each in _expanded(os.fspath(path))]
    return list(dict.fromkeys(found))


def _expanded(path: str) -> list[str]:
    if os.path.lexists(path):
        return [path]
    if path == "-":
        return _lines(sys.stdin.read(), "standard input")
    if path.startswith("@"):
        return _listed(path[1:])
    if is_remote(path):
        return _remote(path) if _WILD & set(path) or "{" in path else [path]
    if "{" in path or _WILD & set(path):
        found = [f for one in _numbered(path) for f in _globbed(one)]
        if not found:
            raise SourceError(f"no file fits the pattern {path!r}")
        return found
    return [path]


def _globbed(path: str) -> list[str]:
    if not _WILD & set(path):
        return [path] if os.path.lexists(path) else []
    return sorted(glob.glob(path, recursive=True))


def _remote(path: str) -> list[str]:
    from zeromean.sources.remote import globbed

    found = [f for one in _numbered(path) for f in globbed(one)]
    if not found:
        raise SourceError(f"no file fits the pattern {path!r}")
    return found


def _numbered(path: str) -> list[str]:
    """``{00..31}`` and ``{a,b}`` written out, as shells and WebDataset do."""
    head, found, rest = path.partition("{")
    inner, closed, tail = rest.partition("}")
    if not found or not closed:
        return [path]
    low, dots, high = inner.partition("..")
    if dots and low.isdigit() and high.isdigit():
        names = [f"{i:0{len(low)}d}" for i in range(int(low), int(high) + 1)]
    else:
        names = inner.split(",")
    return [head + name + end for name in names for end in _numbered(tail)]


def _listed(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return _lines(file.read(), path)
    except OSError as error:
        raise SourceError(f"cannot read the list {path!r}: {error.strerror or error}") from None


def _lines(text: str, where: str) -> list[str]:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    found = [line for line in lines if line.strip()]
    if not found:
        raise SourceError(f"the list {where} names no file")
    return found
