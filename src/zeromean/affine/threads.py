"""Threads that wait for jobs: starting them anew would cost as much as a whole picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from threading import Lock

_Job = Callable[[], None]

_ALONE = 1 << 18  # elements up to which further threads cost more than they bring
_WINDOW = 256  # jobs of each thread that are put in order at a time
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run(jobs: Iterator[_Job], size: int, workers: int | None) -> None:
    """Do all jobs, on this thread and on others.

    Parameters
    ----------
    jobs : iterator of callables
        In any order, at once.
    size : int
        Elements in all.
    workers : int or None
        Threads; None for all cores if there is much to do.
    """
    if workers is None:
        workers = _cores() if size > _ALONE else 1
    if workers <= 1:
        for job in jobs:
            job()
        return
    jobs = _apart(jobs, workers)
    lock = Lock()

    def drain() -> None:
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            job()

    helpers = []
    with suppress(RuntimeError):  # at exit no thread can be had; this one does it all
        pool = _pool(workers - 1)
        helpers = [pool.submit(drain) for _ in range(workers - 1)]
    try:
        drain()
    finally:
        with lock:
            for _ in jobs:  # after an error, nothing more
                pass
        running = [helper for helper in helpers if not helper.cancel()]  # others never began
        wait(running)
    for helper in running:
        helper.result()


def _apart(jobs: Iterator[_Job], workers: int) -> Iterator[_Job]:
    """Jobs in an order that keeps the threads in different places.

    Side by side both would touch the same fresh pages, and the system clears each page once for
    everybody who asks: a new array took a fifth longer.
    """
    while batch := list(islice(jobs, _WINDOW * workers)):
        step = -(-len(batch) // workers)
        for i in range(step):
            yield from batch[i::step]


def _pool(threads: int) -> ThreadPoolExecutor:
    """The pool of this process: after a fork the threads of the parent are not there."""
    key = os.getpid(), threads
    if key not in _pools:
        _pools.setdefault(key, ThreadPoolExecutor(threads, thread_name_prefix="affine"))
    return _pools[key]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
