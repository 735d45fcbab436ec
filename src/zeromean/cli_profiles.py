"""Saved profiles on the command line: read, added up, taken apart."""

from __future__ import annotations

from typing import Any


def saved_profile(path: str) -> Any:
    """A profile, or profiles by group, from a file."""
    from zeromean.errors import FormatError
    from zeromean.loading import load

    loaded: Any = load(path)
    if not hasattr(loaded, "provenance") or hasattr(loaded, "recipe"):
        raise FormatError(f"{path} holds a {type(loaded).__name__}, but a profile is needed")
    return loaded


def combined(first: Any, second: Any, path: str, sign: str) -> Any:
    """The sum or the difference of two profiles; an error names the file of the second."""
    from zeromean.errors import MergeError

    try:
        if type(first) is not type(second):
            raise MergeError(f"a {type(second).__name__} does not go with a {type(first).__name__}")
        return first + second if sign == "+" else first - second
    except MergeError as error:
        raise MergeError(f"{path}: {error}") from None


def same_way(before: Any, pattern: str | None, colors: str) -> tuple[str, str]:
    """Pattern and colors to measure with, so that the result can be added to a saved profile."""
    return pattern or str(before.pattern), before.units.colors or colors


def added(before: Any, new: Any, path: str) -> Any:
    """The saved profile and the new one together.

    Raises
    ------
    MergeError
        When they differ in what they describe, or the new files are those that it already holds.
    """
    from zeromean.errors import MergeError, warn

    held, more = before.provenance, new.provenance
    if more.digest and more.digest == held.digest:
        raise MergeError(f"{path} was measured from these very files; they would count twice")
    for source in more.sources:
        if source in held.sources:
            warn(f"{path} already holds data from {source}: what is in both counts twice")
    return combined(before, new, path, "+")
