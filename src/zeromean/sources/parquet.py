"""Parquet, Arrow and Feather files: tables of numbers, and columns of encoded images."""

from __future__ import annotations

from typing import Any

from zeromean.pattern import Pattern
from zeromean.sources import Source
from zeromean.sources.recognition import files_of
from zeromean.sources.tables import TableFiles


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open the files of a format that are at the paths, as one source."""
    files = [file for path in paths for file in files_of(path, name)]
    return [TableFiles(files, pattern, options.limit)]
