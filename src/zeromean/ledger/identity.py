"""What a ledger is of, and where it lies when nobody says where."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeromean.sources.access import is_remote

_CACHE = "ZEROMEAN_CACHE"


def about(source: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for rows to be of use.

    Parameters
    ----------
    source : path or sequence of path
        As it was given.
    options : mapping
        Everything that a file's state depends on, as JSON values.
    """
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    paths = [os.fspath(path) for path in given]
    places = [path if is_remote(path) else os.path.abspath(path) for path in paths]
    return {"source": [_printable(place) for place in places], "options": dict(options)}


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def cached(of: Mapping[str, Any]) -> Path:
    """The ledger of a source and its options in the user's cache.

    Parameters
    ----------
    of : mapping
        From `about`.
    """
    digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]
    name = os.path.basename(of["source"][0].rstrip("/\\")) or "data"
    return folder() / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:40]}-{digest}.ledger"


def folder() -> Path:
    """Where the ledgers of this user lie: below ZEROMEAN_CACHE, or the system's folder for it."""
    if own := os.environ.get(_CACHE):
        return Path(own) / "ledgers"
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "zeromean" / "ledgers"


def difference(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say in which options two ledgers differ; empty when in none."""
    names = sorted({*held, *wanted})
    said = [
        f"{name}={held.get(name)!r} and not {wanted.get(name)!r}"
        for name in names
        if held.get(name) != wanted.get(name)
    ]
    return ", ".join(said)
