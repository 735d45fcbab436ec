"""Runs shards over an executor, with a bounded number of them under way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from zeromean.accumulation import Measured, Plan, measure_shard
from zeromean.errors import SourceError
from zeromean.sources import Source


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    items, bytes : int
        Done so far, skipped items included.
    total_items : int or None
        None when the source does not know.
    seconds : float
        Since the start.
    """

    items: int
    bytes: int
    total_items: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """Where shards are measured, and who is told: as for `zeromean.measure`."""

    workers: int | None = None
    executor: Executor | str | None = None
    progress: Callable[[Progress], None] | None = None

    def threads(self, source: Source) -> int:
        """How many threads a source is worth."""
        if self.workers is not None:
            if self.workers < 1:
                raise SourceError(f"workers is {self.workers}; choose 1 or more")
            return self.workers
        if source.small_files:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores()


def _cores() -> int:
    return os.cpu_count() or 1


def measured(
    shards: Iterator[Any], source: Source, plan: Plan, run: Run
) -> Generator[Measured, None, None]:
    """Measure shards; results come in any order, of a covariance in that of the shards.

    Close it, so that an error leaves no thread behind.

    Parameters
    ----------
    shards : iterator of shards
        Taken as they are needed.
    source : Source
        They are of.
    plan : Plan
    run : Run
    """
    if isinstance(run.executor, str):
        raise SourceError(f"executor is {run.executor!r}")
    if run.executor is not None:
        yield from _through(run.executor, 2 * _cores() + 2, shards, plan)
        return
    threads = run.threads(source)
    if threads == 1:
        for shard in shards:
            yield measure_shard(shard, plan)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="zeromean")
    try:
        yield from _through(pool, threads + 2, shards, plan)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def watched(
    parts: Iterable[Measured], total: int | None, progress: Callable[[Progress], None] | None
) -> Iterator[Measured]:
    """Pass results on and report progress.

    Parameters
    ----------
    parts : iterable of Measured
    total : int or None
        Number of items.
    progress : callable or None
    """
    start, items, n_bytes = time.monotonic(), 0, 0
    for part in parts:
        items += part.handed
        n_bytes += part.record.bytes
        if progress is not None:
            progress(Progress(items, n_bytes, total, time.monotonic() - start))
        yield part


def _through(
    executor: Executor, window: int, shards: Iterator[Any], plan: Plan
) -> Iterator[Measured]:
    """Keep a bounded number of shards under way, so that memory stays bounded too."""
    pending: list[Future[Measured]] = []
    try:
        for shard in shards:
            pending.append(executor.submit(measure_shard, shard, plan))
            while len(pending) >= window:
                yield from _finished(pending, plan)
        while pending:
            yield from _finished(pending, plan)
    finally:
        for future in pending:
            future.cancel()


def _finished(pending: list[Future[Measured]], plan: Plan) -> Iterator[Measured]:
    """Take out what is done; of a covariance, which is added in order, the oldest."""
    first = plan.covariance
    for future in pending[:1] if first else list(wait(pending, return_when=FIRST_COMPLETED).done):
        pending.remove(future)
        yield future.result()
