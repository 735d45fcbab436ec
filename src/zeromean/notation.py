"""Reads the notation of patterns: names, groups in brackets, and ``...``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zeromean.errors import PatternError

ELLIPSIS = "..."
_TOKEN = re.compile(r"\.\.\.|[()]|[A-Za-z_][A-Za-z0-9_]*")


def tokens(text: str) -> list[str]:
    """Names, brackets and ``...`` of one side of a pattern."""
    rest = _TOKEN.sub("", text).strip()
    if rest:
        raise PatternError(f"contains {rest.split()[0]!r}; axes are names such as n, h, w, c")
    return _TOKEN.findall(text)


def groups(tokens: list[str]) -> list[tuple[str, ...]]:
    """One tuple of names for each array axis."""
    found: list[tuple[str, ...]] = []
    inside: list[str] | None = None
    for token in tokens:
        if token == "(":
            if inside is not None:
                raise PatternError("has a group inside a group")
            inside = []
        elif token == ")":
            if not inside:
                raise PatternError("has an empty group or a ) without its (")
            found.append(tuple(inside))
            inside = None
        elif inside is None:
            found.append((token,))
        elif token == ELLIPSIS:
            raise PatternError("has ... inside a group")
        else:
            inside.append(token)
    if inside is not None:
        raise PatternError("has a ( without its )")
    return found


def check_sizes(left: list[tuple[str, ...]], names: list[str], sizes: Mapping[str, int]) -> None:
    """Refuse lengths of axes that are not there, and groups that cannot be split."""
    for name, size in sizes.items():
        if name not in names:
            raise PatternError(f"is given {name}={size}, but names no axis {name!r}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise PatternError(f"is given {name}={size!r}; a length is a positive integer")
    for group in left:
        unknown = [name for name in group if name not in sizes]
        if len(group) > 1 and len(unknown) > 1:
            hint = ", ".join(f"{name}=..." for name in unknown[:-1])
            raise PatternError(f"cannot split ({' '.join(group)}) without {hint}")
