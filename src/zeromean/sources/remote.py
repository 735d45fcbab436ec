"""Remote stores through fsspec: lists folders, opens files, reads their first bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zeromean.errors import SourceError

if TYPE_CHECKING:
    from zeromean.sources.access import HeldFile
    from zeromean.sources.walk import Root


def head_of(url: str) -> bytes | None:
    """The first bytes of a file, None for a folder."""
    raise SourceError(f"cannot read {url}")


def globbed(url: str) -> list[str]:
    """The URLs that fit a pattern, sorted."""
    raise SourceError(f"cannot read {url}")


def walk_remote(urls: Sequence[str], extensions: frozenset[str]) -> list[Root]:
    """What is below each URL, with the stamps that the listing gives."""
    raise SourceError(f"cannot read {urls[0]}")


@contextmanager
def opened_remote(url: str, name: str) -> Iterator[HeldFile]:
    """Open a file for the time of a block."""
    raise SourceError(f"cannot read {url}")
    yield
