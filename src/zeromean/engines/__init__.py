"""Executors by name: threads, processes, loky, Dask, MPI; and what is done when workers die."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from zeromean.accumulation import Measured, Plan, measure_shard
from zeromean.errors import SourceError, warn
from zeromean.sources import Item

_SOME = 2  # shards for each worker that may be under way in an executor that does not tell
_NAMES = ("threads", "processes", "loky", "dask", "mpi")
_FORMS = "'threads:N', 'processes:N', 'loky:N', 'dask:tcp://HOST:PORT' or 'mpi'"


class Engine:
    """Where shards are measured: an executor, and what to do when it breaks.

    Attributes
    ----------
    executor : Executor
    workers : int
        How many shards are measured at a time.
    elsewhere : bool
        Perhaps on other machines, where a path may lead to something else.
    deaths, repeated : int
        Workers that died, and shards that were measured again.
    killers : list of str
        Files that were left out because they kill workers.
    """

    executor: Executor
    elsewhere = False

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.deaths = self.repeated = 0
        self.killers: list[str] = []

    @property
    def window(self) -> int:
        """How many shards to keep under way, so that no worker waits for one."""
        return self.workers + self.workers // 2 + 2

    def submit(self, shard: Any, plan: Plan) -> Future[Measured]:
        """Have a shard measured."""
        return self.executor.submit(measure_shard, shard, plan)

    def died(self) -> None:
        """A worker died, and what it was measuring with it."""
        self.deaths += 1

    def renew(self) -> None:
        """Replace an executor that broke because a worker died.

        Raises
        ------
        SourceError
            When that is not possible.
        """
        raise SourceError(
            f"the executor broke, and zeromean cannot start another {type(self.executor).__name__}"
            ": give a new one, and measure again"
        )

    def check(self) -> None:
        """Called while nothing has come for some time.

        Raises
        ------
        SourceError
            When nothing ever will.
        """

    def cancelled(self) -> SourceError:
        """What to say when the executor has cancelled what it was given."""
        return SourceError("the executor was shut down, or has cancelled the run")

    def stop(self) -> None:
        """End at once: what is under way is not wanted any more."""

    def close(self) -> None:
        """End; nothing is under way."""

    def report(self) -> None:
        """Warn once of everything that went wrong and was put right."""
        if not self.deaths:
            return
        died = "a worker died" if self.deaths == 1 else f"workers died {self.deaths} times"
        again = "1 shard was" if self.repeated == 1 else f"{self.repeated} shards were"
        text = f"{died}; {again if self.repeated else 'no shard had to be'} measured again"
        if self.killers:
            more = f" and {len(self.killers) - 3} more" if len(self.killers) > 3 else ""
            text += f"; left out, because they kill workers: {', '.join(self.killers[:3])}{more}"
        warn(text)


@contextmanager
def opened(engine: Engine) -> Iterator[Engine]:
    """Use an engine in a block, then close it; at once, if the block fails.

    Parameters
    ----------
    engine : Engine
    """
    try:
        yield engine
        engine.close()
    except BaseException:
        engine.stop()
        raise
    engine.report()


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_Opening = Callable[[], Engine]


def engine_of(executor: Any, workers: int | None) -> tuple[_Opening | None, int | None]:
    """What ``executor=`` and ``workers=`` ask for; nothing is started yet.

    Parameters
    ----------
    executor, workers : as for `zeromean.measure`

    Returns
    -------
    opening : callable or None
        Gives the engine; None for threads.
    workers : int or None
        How many threads, where that was said.

    Raises
    ------
    SourceError
        When they make no sense, with what does.
    """
    if workers is not None and workers < 1:
        raise SourceError(f"workers is {workers}; choose 1 or more")
    if executor is None:
        return None, workers
    if isinstance(executor, str):
        return _named(executor, workers)
    if not isinstance(executor, Executor) and hasattr(executor, "get_executor"):
        executor = executor.get_executor()  # a Dask client
    if not hasattr(executor, "submit"):
        raise SourceError(
            f"executor is {executor!r:.60}; give a concurrent.futures.Executor, or one of {_FORMS}"
        )
    if workers is not None:
        raise SourceError(
            f"workers is {workers}, but the executor that was given has its own; leave workers out"
        )
    return partial(_given, executor), None


def _named(text: str, workers: int | None) -> tuple[_Opening | None, int | None]:
    name, colon, rest = text.partition(":")
    if name not in _NAMES:
        near = get_close_matches(name, _NAMES, 1)
        hint = f"did you mean {near[0]}? There are" if near else "there are"
        raise SourceError(f"executor is {text!r}; {hint} {_FORMS}")
    if name in ("dask", "mpi"):
        if workers is not None:
            raise SourceError(
                f"workers is {workers}, but with executor={text!r} their number is that of the "
                "cluster; leave workers out"
            )
        return partial(_cluster, name, rest), None
    number = _number(text, rest, workers) if colon else workers
    return (None, number) if name == "threads" else (partial(_pool, name, number), None)


def _cluster(name: str, rest: str) -> Engine:
    from zeromean.engines import clusters

    return clusters.dask(rest) if name == "dask" else clusters.mpi(rest)


def _pool(name: str, number: int | None) -> Engine:
    from zeromean.engines import pools

    kind = pools.Processes if name == "processes" else pools.Loky
    return kind(number or cores())


def _number(text: str, rest: str, workers: int | None) -> int:
    if not rest.isdecimal() or int(rest) < 1:
        name = text.partition(":")[0]
        raise SourceError(f"executor is {text!r}; how many {name}? Such as '{name}:4'")
    if workers is not None and workers != int(rest):
        raise SourceError(f"executor is {text!r}, but workers is {workers}; say it once")
    return int(rest)


def _given(executor: Any) -> Engine:
    """The engine of an executor that somebody made; it is theirs, and stays open."""
    module = type(executor).__module__.partition(".")[0]
    if module == "distributed":
        from zeromean.engines import clusters

        return clusters.Dask(executor)
    if isinstance(executor, ProcessPoolExecutor) or module == "loky":
        from zeromean.engines import pools

        return pools.Given(executor)
    told = [getattr(executor, name, None) for name in ("max_workers", "_max_workers")]
    return Foreign(executor, next((n for n in told if isinstance(n, int)), cores()))


# ---------------------------------------------------------------- threads


class Threads(Engine):
    """Threads of our own."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.executor = ThreadPoolExecutor(workers, thread_name_prefix="zeromean")
        self._stopped = threading.Event()

    @property
    def window(self) -> int:
        """Little more than there are threads: the next shard is at hand without delay."""
        return self.workers + 2

    def submit(self, shard: Any, plan: Plan) -> Future[Measured]:
        """Have a shard measured, or given up when the run stops."""
        return self.executor.submit(measure_shard, Stoppable(shard, self._stopped), plan)

    def stop(self) -> None:
        """Wait for one item in each thread, and no more."""
        self._stopped.set()
        self.executor.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """End the threads."""
        self.executor.shutdown(wait=True)


@dataclass(frozen=True, slots=True)
class Stoppable:
    """A shard that ends after the item at hand when nobody wants it any more.

    Attributes
    ----------
    shard : Shard
    stopped : Event
    """

    shard: Any
    stopped: threading.Event

    @property
    def n_items(self) -> int:
        """How many items it would hand over."""
        return int(self.shard.n_items)

    def items(self) -> Iterator[Item]:
        """Its items, until it is stopped."""
        for item in getattr(self.shard, "passing_items", self.shard.items)():
            if self.stopped.is_set():
                raise SourceError("the run was stopped")
            yield item


class Foreign(Engine):
    """An executor that somebody made, of a kind that is not known here."""

    def __init__(self, executor: Any, workers: int) -> None:
        super().__init__(workers)
        self.executor = executor
        self.elsewhere = not isinstance(executor, ThreadPoolExecutor)
        self._stopped = threading.Event()

    @property
    def window(self) -> int:
        """Two shards for each worker."""
        return _SOME * self.workers + 2

    def submit(self, shard: Any, plan: Plan) -> Future[Measured]:
        """Have a shard measured; in threads it can be stopped."""
        held: Any = shard if self.elsewhere else Stoppable(shard, self._stopped)
        return self.executor.submit(measure_shard, held, plan)

    def stop(self) -> None:
        """Let go of what is under way in threads; the executor stays open."""
        self._stopped.set()
