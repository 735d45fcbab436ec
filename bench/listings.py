"""Part (e): the listing of a directory tree that would not fit on this disk."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from rounds import Part, rounded, table
from sizes import Sizes

_IN_A_FOLDER = 1000
_ROOT = "/simulated"


class _Entry:
    """What `os.scandir` gives, made up."""

    __slots__ = ("folder", "name")

    def __init__(self, name: str, folder: bool) -> None:
        self.name, self.folder = name, folder

    def is_file(self) -> bool:
        """Whether it is a file."""
        return not self.folder

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.folder


def run_listings(sizes: Sizes) -> Part:
    """All of part (e)."""
    from zeromean.sources.images import ImageFiles

    part = Part(f"(e) A simulated folder of {sizes.listed:,} files")
    before = _resident()
    with _simulated(sizes.listed):
        start = time.perf_counter()
        source = ImageFiles(_ROOT)
        walked = time.perf_counter() - start
        held = _resident() - before
        start = time.perf_counter()
        count = sum(1 for _ in source.entries())
        looked = time.perf_counter() - start
    if not count == source.n_items == sizes.listed:
        raise AssertionError(f"listed {count} of {sizes.listed}")
    rows = [
        ["walk", f"{walked:.1f}", rounded(1e6 * walked / count)],
        ["name and stamp of each file", f"{looked:.1f}", rounded(1e6 * looked / count)],
    ]
    part.text += [
        table(["step", "seconds", "microseconds a file"], rows),
        f"Memory for the list: {held / 1e6:,.0f} MB, {held / count:.0f} bytes a file. The file "
        "system's own time is not in these figures: its answers are made up.",
    ]
    return part


@contextmanager
def _simulated(count: int) -> Iterator[None]:
    """Folders of a thousand pictures each, below one root; nothing of it exists."""
    folders = [f"{i:05}" for i in range(-(-count // _IN_A_FOLDER))]
    look, scan = os.stat, os.scandir

    def fake_stat(path: Any, *rest: Any, **more: Any) -> os.stat_result:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
        if not isinstance(text, str) or not text.startswith(_ROOT):
            return look(path, *rest, **more)
        mode = stat.S_IFREG if text.endswith(".jpg") else stat.S_IFDIR
        return os.stat_result((mode | 0o644, hash(text), 1, 1, 0, 0, 50_000, 0, 0, 0))

    @contextmanager
    def fake_scan(path: Any) -> Iterator[Any]:
        if not str(path).startswith(_ROOT):
            with scan(path) as listing:
                yield listing
            return
        below = str(path)[len(_ROOT) + 1 :]
        if not below:
            yield iter([_Entry(name, True) for name in folders])
            return
        first = int(below) * _IN_A_FOLDER
        last = min(first + _IN_A_FOLDER, count)
        yield iter([_Entry(f"image-{i:08}.jpg", False) for i in range(first, last)])

    with patch("os.stat", fake_stat), patch("os.scandir", fake_scan):
        yield


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
