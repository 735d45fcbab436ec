"""The budget: work is done in parallel by seeds, and stops cleanly when time is up or on Ctrl-C."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeVar

from zeromean.statistics.blas import one_thread

_T = TypeVar("_T")
Progress = Callable[[str, float], None]


class OutOfTimeError(Exception):
    """The budget is spent, or Ctrl-C was pressed: keep what is done."""


class Schedule:
    """Runs one function for every seed, and raises `OutOfTimeError` when there is no time left.

    Each call uses one BLAS thread, so results do not depend on how many run at once.

    Parameters
    ----------
    budget : float
        Seconds from now.
    workers : int or None
        Threads; None for the processors that this process may use.
    progress : callable, optional
        Called with what is being done and the share of the budget that is spent.
    """

    def __init__(
        self, budget: float, workers: int | None = None, progress: Progress | None = None
    ) -> None:
        self._begin, self._budget = time.monotonic(), budget
        self._workers = workers or _processors()
        self._stop = threading.Event()
        self._progress = progress
        self.interrupted = False

    def tick(self) -> None:
        """Raise when time is up.

        Raises
        ------
        OutOfTimeError
        """
        if self._stop.is_set() or self.spent >= 1:
            raise OutOfTimeError

    @property
    def spent(self) -> float:
        """The share of the budget that is gone."""
        return (time.monotonic() - self._begin) / self._budget

    def say(self, what: str) -> None:
        """Tell what comes next; raise when time is up."""
        self.tick()
        if self._progress is not None:
            self._progress(what, min(self.spent, 1.0))

    def each(self, function: Callable[[int], _T], items: Sequence[int]) -> list[_T]:
        """The results of all items, in order.

        Raises
        ------
        OutOfTimeError
            Also on Ctrl-C; then nothing else can be begun.
        """
        with ThreadPoolExecutor(min(self._workers, len(items))) as pool:
            futures = [pool.submit(function, item) for item in items]
            try:
                return [future.result() for future in futures]
            except KeyboardInterrupt:
                self.interrupted = True
                raise OutOfTimeError from None
            finally:
                if not all(future.done() for future in futures):
                    self._stop.set()

    def stop(self) -> None:
        """Ctrl-C between two parts."""
        self.interrupted = True
        self._stop.set()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Sums of products do not depend on the number of processors.

    Raises
    ------
    ImportError
        Without the packages of the extra `study`.
    """
    for package in ("scipy", "threadpoolctl"):
        if find_spec(package) is None:
            raise ImportError(f'a study needs {package}: pip install "zeromean[study]"')
    with one_thread():
        yield
