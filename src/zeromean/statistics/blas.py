"""Keeps BLAS to one thread where its rounding must not depend on how many there are."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


class _Pin:
    """How many are inside, and what restores the number of threads after the last; global, as
    the setting of BLAS is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.limited: list[tuple[Any, int]] = []


_PIN = _Pin()


@cache
def _controller() -> Any:
    """What sets the threads of the BLAS that NumPy uses; None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[int]:
    """Keep BLAS to one thread meanwhile, in all threads of this process.

    Yields
    ------
    int
        How many threads of our own may call BLAS at once: all cores; 1 where BLAS could not be
        held, because threadpoolctl is not installed.
    """
    controller = _controller()
    if controller is None:
        yield 1
        return
    with _PIN.lock:
        if _PIN.inside == 0:
            _PIN.limited = _limit(controller)
        _PIN.inside += 1
    try:
        yield len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores()
    finally:
        with _PIN.lock:
            _PIN.inside -= 1
            if _PIN.inside == 0:
                for library, threads in reversed(_PIN.limited):
                    library.set_num_threads(threads)


def _limit(controller: Any) -> list[tuple[Any, int]]:
    """Set each BLAS to one thread; what it had before, in order.

    Restored in reverse: NumPy's and SciPy's OpenBLAS may share the setting, and then the second
    one was seen after the first had been changed.
    """
    found = [one for one in controller.lib_controllers if one.user_api == "blas"]
    limited = []
    for library in found:
        limited.append((library, library.num_threads))
        library.set_num_threads(1)
    return limited


def _cores() -> int:
    return os.cpu_count() or 1
