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
                for library, threads in _PIN.limited:
                    _set(library, threads)


def _limit(controller: Any) -> list[tuple[Any, int]]:
    """Set each BLAS to one thread; what it had before."""
    found = [one for one in controller.lib_controllers if one.user_api == "blas"]
    limited = [(library, library.num_threads) for library in found]
    for library in found:
        _set(library, 1)
    return limited


def _set(library: Any, threads: int) -> None:
    """Set the threads of a BLAS from whatever thread this is.

    Since 3.8 threadpoolctl lets only the thread that came first do so, and ignores all others
    without a word; but the last of our threads to leave need not be the first that entered.
    """
    free = getattr(library, "clear_controlling_thread", None)
    if free is not None:
        free(force=True)
    library.set_num_threads(threads)
    if free is not None:
        free(force=True)


def _cores() -> int:
    return os.cpu_count() or 1
