"""The error tree: every failure names the thing, the place and the repair.

::

    ZeromeanError
    ├── PatternError   a pattern is malformed or does not fit the array (also a ValueError)
    ├── MergeError     two profiles or statistics cannot be added or subtracted (also a ValueError)
    ├── SourceError    data cannot be found or read (also an OSError)
    ├── FormatError    a saved file is damaged, foreign or from the future (also a ValueError)
    └── UnitError      data and numbers are in different units (also a ValueError)
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType


class ZeromeanError(Exception):
    """Base of every error that zeromean raises on purpose."""


class PatternError(ZeromeanError, ValueError):
    """A pattern is malformed, or does not fit the array it was given."""


class MergeError(ZeromeanError, ValueError):
    """Two statistics or profiles differ in what they describe and cannot be combined."""


class SourceError(ZeromeanError, OSError):
    """Data cannot be found, listed or read."""


class FormatError(ZeromeanError, ValueError):
    """A saved profile or normalizer is damaged, foreign, or newer than this library."""


class UnitError(ZeromeanError, ValueError):
    """Data and numbers are in different units (0..1 against 0..255, RGB against gray)."""


class ZeromeanWarning(UserWarning):
    """Something is legal but probably not what was meant."""


class SkippedWarning(ZeromeanWarning):
    """Some files could not be read and were left out of the statistics."""


def warn(text: str) -> None:
    """A `ZeromeanWarning` at the line of the user's own program that called this library."""
    warnings.warn(text, ZeromeanWarning, stacklevel=user_level())


def user_level() -> int:
    """The stacklevel, for the caller, of the first line outside of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    return level


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "zeromean"
