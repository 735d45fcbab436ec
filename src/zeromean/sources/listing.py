"""What a path given by a person stands for: itself, a pattern of files, or a list of them."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from zeromean.errors import SourceError, warn
from zeromean.sources.access import is_remote

_WILD = frozenset("*?[")
_MOST = 1_000_000  # paths that braces may stand for
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")


def expanded(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Paths with patterns and lists written out, each path once.

    Parameters
    ----------
    paths : sequence of path
        ``data/*.tar`` (with ``**`` for folders below), ``{00..31}`` for numbers and ``{a,b}`` for
        words, ``@files.txt`` for a list with one path on each line, ``-`` for such a list on
        standard input. The paths of a list may be parted by NUL instead, as by ``find -print0``,
        and stand for themselves. Whatever exists under its own name is that file.

    Returns
    -------
    list of str

    Raises
    ------
    SourceError
        When a pattern fits nothing, or a list cannot be read or is empty.
    """
    found = [each for path in paths for each in _expanded(os.fspath(path))]
    once = dict.fromkeys(found)
    if len(once) < len(found):
        seen: set[str] = set()
        twice = next(path for path in found if path in seen or seen.add(path))  # type: ignore[func-returns-value]
        warn(f"{len(found) - len(once):,} path(s) were given more than once, such as {twice!r}; "
             "each is read once")  # fmt: skip
    return list(once)


def _expanded(path: str) -> list[str]:
    if os.path.lexists(path):
        return [path]
    if path == "-":
        return _lines(_standard_input(), "on standard input")
    if path.startswith("@"):
        return _listed(path[1:])
    if path.startswith(("file://", "local://")) and "::" not in path:
        return _expanded(_local(path))
    written_out = _numbered(path)
    if is_remote(path):
        return _remote(path, written_out)
    found = [each for one in written_out for each in _globbed(one)]
    if not found:
        raise SourceError(f"no file fits the pattern {path!r}")
    return found


def _local(url: str) -> str:
    """The path that a ``file://`` URL is of; as it stands, or with its ``%20`` written out."""
    path = url.partition("://")[2]
    return path if os.path.lexists(path) else unquote(path, errors="surrogateescape")


def _globbed(path: str) -> list[str]:
    if not _WILD & set(path) or os.path.lexists(path):
        return [path]  # whether it exists is for others to say: numbers may have gaps
    return sorted(glob.glob(path, recursive=True))


def _remote(path: str, written_out: list[str]) -> list[str]:
    from zeromean.sources.stores import globbed, is_pattern

    found = [f for one in written_out for f in (globbed(one) if is_pattern(one) else [one])]
    if not found:
        raise SourceError(f"no file fits the pattern {path!r}")
    return found


def _numbered(path: str) -> list[str]:
    """``{00..31}`` and ``{a,b}`` written out, as shells and WebDataset do."""
    paths, rest, size = [""], path, 1
    while match := _BRACES.search(rest):
        inside = _words(match[1])
        words = [match[0]] if inside is None else inside
        size *= len(words)
        if size > _MOST:
            raise SourceError(f"{path!r} stands for more than {_MOST:,} files; give a list of them")
        head = rest[: match.start()]
        paths = [f"{path}{head}{word}" for path in paths for word in words]
        rest = rest[match.end() :]
    return [path + rest for path in paths]


def _words(inside: str) -> Sequence[str] | None:
    """What braces stand for; None when they stand for themselves."""
    if match := _RANGE.fullmatch(inside):
        low, high, step = int(match[1]), int(match[2]), max(1, int(match[3] or 1))
        if abs(high - low) // step > _MOST:
            return [""] * (_MOST + 1)
        padded = any(len(text) > 1 and text[0] == "0" for text in match.group(1, 2))
        width = max(len(match[1]), len(match[2])) if padded else 0
        numbers = range(low, high + 1, step) if low <= high else range(low, high - 1, -step)
        return [f"{i:0{width}d}" for i in numbers]
    return inside.split(",") if "," in inside else None


def _standard_input() -> bytes:
    stream: Any = getattr(sys.stdin, "buffer", None)
    return stream.read() if stream is not None else os.fsencode(sys.stdin.read())


def _listed(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return _lines(file.read(), path)
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"cannot read the list {path!r}: {error.strerror or error}") from None


def _lines(data: bytes, where: str) -> list[str]:
    """The paths of a list, byte for byte: names need not be UTF-8."""
    if b"\0" in data:
        found = [name for name in data.split(b"\0") if name]
    else:
        lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        found = [line for each in lines if (line := each.removesuffix(b"\r")).strip()]
    if not found:
        raise SourceError(f"the list {where} names no file")
    return [os.fsdecode(name) for name in found]
