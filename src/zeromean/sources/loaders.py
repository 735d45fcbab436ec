"""Data sets and loaders of PyTorch and others, as the network sees them."""

from __future__ import annotations

from typing import Any

from zeromean.errors import PatternError
from zeromean.pattern import Pattern
from zeromean.sources import Source


def open_object(source: Any, pattern: Pattern | None, options: Any) -> Source:
    """Open a data set, a loader, or an iterable of tuples or dictionaries."""
    raise PatternError(
        f"a {type(source).__name__} of PyTorch is measured with zeromean.torch: "
        "from zeromean.torch import measure"
    )
