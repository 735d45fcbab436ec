"""Pools of processes on this machine: how they start, what they are sent, how they are replaced."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing import forkserver, process
from typing import Any

from zeromean.accumulation import Measured, Plan, measure_shard
from zeromean.engines import Engine
from zeromean.errors import SourceError

_PRELOADED = ("zeromean.engines.warm",)  # by the process that others are forked from
_FORGETS = 0.5  # seconds in which a pool must have forgotten what was cancelled
_GUARD = (
    "a program that measures in processes must do so under `if __name__ == '__main__':`, because "
    "each worker begins by importing it"
)


class Processes(Engine):
    """Processes of our own."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._plan: tuple[Plan | None, bytes] = (None, b"")
        self.executor: Any = self._new()

    def _new(self) -> Any:
        check_may_start()
        return ProcessPoolExecutor(self.workers, mp_context=context(), initializer=settle)

    def submit(self, shard: Any, plan: Plan) -> Future[Measured]:
        """Have a shard measured; what a worker cannot load is an error, and not its death."""
        if self._plan[0] is not plan:
            self._plan = plan, packed(plan)
        held = packed(shard) if hasattr(shard, "split") else shard
        return self.executor.submit(measure_packed, held, self._plan[1])  # type: ignore[no-any-return]

    def renew(self) -> None:
        """Start other processes in place of the dead ones."""
        kill(self.executor)
        self.executor = self._new()
        check_starts(self.executor)

    def stop(self) -> None:
        """Kill the processes."""
        kill(self.executor)

    def close(self) -> None:
        """End the processes."""
        self.executor.shutdown(wait=True)


class Loky(Processes):
    """Processes of our own, by loky: they are sent functions that have no name, too."""

    def _new(self) -> Any:
        try:
            import loky
        except ImportError:
            raise ImportError("executor='loky' needs loky: pip install loky") from None
        check_may_start()
        return loky.ProcessPoolExecutor(self.workers, initializer=settle)

    def submit(self, shard: Any, plan: Plan) -> Future[Measured]:
        """Have a shard measured."""
        return self.executor.submit(measure_shard, shard, plan)  # type: ignore[no-any-return]


class Given(Processes):
    """A process pool that somebody made; once it is broken, one of its kind of our own."""

    def __init__(self, executor: Any) -> None:
        self._given = executor
        super().__init__(getattr(executor, "_max_workers", None) or os.cpu_count() or 1)

    def _new(self) -> Any:
        return self._given

    def submit(self, shard: Any, plan: Plan) -> Future[Measured]:
        """Have a shard measured."""
        if isinstance(self.executor, ProcessPoolExecutor):
            return super().submit(shard, plan)
        return self.executor.submit(measure_shard, shard, plan)  # type: ignore[no-any-return]

    def renew(self) -> None:
        """Start a pool of the same kind: a broken one is lost to its owner, too."""
        if self.executor is not self._given:
            kill(self.executor)
        self.executor = like(self._given, self.workers)
        check_starts(self.executor)

    def stop(self) -> None:
        """Kill the processes of our own, if there are."""
        if self.executor is not self._given:
            kill(self.executor)

    def close(self) -> None:
        """End the processes of our own, if there are."""
        if self.executor is not self._given:
            self.executor.shutdown(wait=True)


# ---------------------------------------------------------------- starting


def context() -> Any:
    """How processes start: from a small server where there is one; never as copies of this one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    server: Any = getattr(forkserver, "_forkserver", None)
    known = list(getattr(server, "_preload_modules", ["__main__"]))
    forkserver.set_forkserver_preload([*known, *(m for m in _PRELOADED if m not in known)])
    signals: Any = signal  # none of this on Windows
    signals.pthread_sigmask(signals.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()  # it makes ready meanwhile, deaf to Ctrl-C: see `warm`
    finally:
        signals.pthread_sigmask(signals.SIG_UNBLOCK, {signal.SIGINT})
    return multiprocessing.get_context("forkserver")


def check_may_start() -> None:
    """Refuse to start processes where that cannot be.

    Raises
    ------
    SourceError
        In a worker that is importing the program it belongs to, and in daemonic processes.
    """
    current: Any = process.current_process()
    if getattr(current, "_inheriting", False):
        raise SourceError(_GUARD)
    if current.daemon:
        raise SourceError("a daemonic process cannot start others; measure in threads there")


def check_starts(executor: Any) -> None:
    """Wait until the first worker of a new pool is there.

    Raises
    ------
    SourceError
        When it dies before it is.
    """
    try:
        executor.submit(os.getpid).result()
    except BrokenExecutor:
        raise SourceError(_not_starting()) from None


def _not_starting() -> str:
    path = getattr(sys.modules["__main__"], "__file__", None)
    hint = f"; what it wrote to stderr says why. {_GUARD[0].upper()}{_GUARD[1:]}" if path else ""
    return f"the worker processes die before they have begun{hint}"


def settle(initializer: Callable[..., Any] | None = None, arguments: tuple[Any, ...] = ()) -> None:
    """Begin as a worker: leave Ctrl-C to the parent, and end when the parent does.

    Parameters
    ----------
    initializer : callable, optional
        What else there is to do, with its arguments.
    arguments : tuple
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _follow(number: int) -> None:
    """End with the parent: a killed one cannot tell its workers to go."""
    parent = multiprocessing.parent_process()
    if getattr(parent, "_sentinel", None) is not None:
        parent.join()  # type: ignore[union-attr]
    else:  # a child of loky
        while os.getppid() == number:
            time.sleep(1)
    os._exit(1)


def like(executor: Any, workers: int) -> Any:
    """A pool like one that broke.

    Parameters
    ----------
    executor : ProcessPoolExecutor, of the standard library or of loky
    workers : int
    """
    if not isinstance(executor, ProcessPoolExecutor):
        import loky

        if "Reusable" in type(executor).__name__:
            return loky.get_reusable_executor(max_workers=workers)
        return loky.ProcessPoolExecutor(workers, initializer=settle)
    theirs = getattr(executor, "_mp_context", None)
    forked = theirs is None or theirs.get_start_method() == "fork"  # not with threads alive
    first = (getattr(executor, "_initializer", None), getattr(executor, "_initargs", ()))
    return ProcessPoolExecutor(
        workers, mp_context=context() if forked else theirs, initializer=settle, initargs=first
    )


def kill(executor: Any) -> None:
    """End a pool at once, whatever its workers are doing.

    Parameters
    ----------
    executor : ProcessPoolExecutor, of the standard library or of loky
    """
    if not isinstance(executor, ProcessPoolExecutor):
        executor.shutdown(wait=True, kill_workers=True)
        return
    workers = list((getattr(executor, "_processes", None) or {}).values())
    manager: Any = getattr(executor, "_executor_manager_thread", None)
    executor.shutdown(wait=False, cancel_futures=True)
    end = time.monotonic() + _FORGETS
    # Python 3.11's manager stumbles over a cancelled future when it finds a dead worker.
    while _has_cancelled(manager) and time.monotonic() < end:
        time.sleep(0.001)
    for worker in workers:
        worker.kill()
    if manager is not None:
        manager.join()


def _has_cancelled(manager: Any) -> bool:
    pending = dict(getattr(manager, "pending_work_items", None) or {})
    return any(item.future.cancelled() for item in pending.values())


# ---------------------------------------------------------------- sending


def packed(thing: Any) -> bytes:
    """A plan, or a shard of files, as it is sent.

    Raises
    ------
    SourceError
        When it holds a function that cannot be sent.
    """
    try:
        return pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SourceError(
            f"cannot be sent to other processes: {error}. A function that is given to measure must "
            "stand at the top of a module there, and be no lambda"
        ) from None


def measure_packed(shard: Any, plan: bytes) -> Measured:
    """Measure a shard that was sent; runs in a worker.

    Parameters
    ----------
    shard : bytes or Shard
    plan : bytes

    Raises
    ------
    SourceError
        When the worker has not what they need.
    """
    try:
        held = pickle.loads(shard) if isinstance(shard, bytes) else shard
        unpacked = pickle.loads(plan)
    except (AttributeError, ImportError) as error:
        raise SourceError(
            f"a worker process cannot load what it was sent: {error}. A function that is given to "
            "measure must stand in a module that can be imported, not in an interactive session"
        ) from None
    return measure_shard(held, unpacked)
