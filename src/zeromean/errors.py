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
