"""The words of the page as data, one file a language; the same keys in each."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from zeromean.errors import PatternError

LANGUAGES = ("en", "zh")


@cache
def load(language: str) -> dict[str, Any]:
    """All texts of a language, nested as in its file.

    Raises
    ------
    PatternError
        For a language without a file.
    """
    if language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise PatternError(f"lang is {language!r}; choose one of {known}")
    source = files(__name__).joinpath(f"{language}.toml").read_text(encoding="utf-8")
    return tomllib.loads(source)


def flat(texts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Texts by dotted key, such as ``"page.title"``."""
    found: dict[str, Any] = {}
    for key, value in texts.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
