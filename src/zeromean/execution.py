"""Runs shards over an executor, a bounded number of them at a time, and survives dead workers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from zeromean.accumulation import Measured, Plan, measure_shard
from zeromean.engines import Engine, Threads, cores, engine_of, opened
from zeromean.engines.paths import anchored, sent, sent_bytes, unseen
from zeromean.errors import SourceError
from zeromean.sources import Item, Source
from zeromean.sources.access import is_remote
from zeromean.sources.arrays import ItemShard
from zeromean.sources.files import FileShard
from zeromean.sources.walk import why_unreadable

_SENT_BYTES = 128 << 20  # of data in memory that may be on its way to a cluster
_FILES, _PIECES = 8, 16  # the fewest files of a piece of a shard; pieces for each worker
_PATIENCE = 5.0  # seconds without a result after which the executor is looked at
_IN_A_ROW = 8  # files that kill their worker, one after the other: it is not the files
_KILLER = "killed the worker that read it, twice"
_VANISHED = why_unreadable(FileNotFoundError())


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
    known : int
        Items that a ledger knew already; they are not in the other numbers.
    """

    items: int
    bytes: int
    total_items: int | None
    seconds: float
    known: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Where shards are measured, and who is told: as for `zeromean.measure`.

    Attributes
    ----------
    workers : int or None
    executor : Executor, str, Engine or None
        An engine is used as it is, and left open.
    progress : callable or None
    """

    workers: int | None = None
    executor: Executor | str | Engine | None = None
    progress: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.executor, Engine):
            engine_of(self.executor, self.workers)  # what makes no sense is said at once

    def engine(self, source: Source) -> AbstractContextManager[Engine | None]:
        """Where to measure a source; None for this thread."""
        if isinstance(self.executor, Engine):
            return nullcontext(self.executor)
        opening, workers = engine_of(self.executor, self.workers)
        if opening is not None:
            return opened(opening())
        threads = workers or (1 if source.small_files else cores())
        return nullcontext(None) if threads == 1 else opened(Threads(threads))

    @contextmanager
    def opened(self) -> Iterator[Run]:
        """The same run with processes, or a connection to a cluster, that serve several sources."""
        if isinstance(self.executor, Engine):
            yield self
            return
        opening, workers = engine_of(self.executor, self.workers)
        if opening is None:
            yield Run(workers, None, self.progress)
            return
        with opened(opening()) as engine:
            yield Run(None, engine, self.progress)


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

    Raises
    ------
    SourceError
        When the executor cannot go on.
    """
    with run.engine(source) as engine:
        if engine is None:
            for shard in shards:
                yield measure_shard(shard, plan)
        else:
            yield from _Flow(engine, plan, source).results(shards)


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


# ---------------------------------------------------------------- shards under way


@dataclass(frozen=True, slots=True)
class _Task:
    """A shard, its place among the others, and the bytes that are sent with it."""

    place: int
    shard: Any
    size: int


_Done = tuple[int, list[Measured]]  # the place of a shard, and what it gave: itself, or its files


class _WorkerDiedError(Exception):
    """A worker died that had this shard; it may have killed it.

    Attributes
    ----------
    broken : bool
        Whether the executor is dead as well.
    """

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.broken = broken


class _Flow:
    """Shards under way in an engine.

    When a worker dies, any of the shards under way may have killed it. What is done stays done; the
    others are measured again one at a time. A shard that then kills again is taken apart into
    files, and a file that does it twice is left out.
    """

    def __init__(self, engine: Engine, plan: Plan, source: Source) -> None:
        self._engine, self._source, self._there = engine, source, engine.elsewhere
        self._plan: Plan = anchored(plan) if self._there else plan
        self._finished: SimpleQueue[Future[Measured]] = SimpleQueue()
        self._under_way: dict[Future[Measured], _Task] = {}
        self._held: dict[int, list[Measured]] = {}  # results that wait for their turn
        self._turn = 0
        self._in_a_row = 0

    def results(self, shards: Iterator[Any]) -> Iterator[Measured]:
        """Measure all shards; of a covariance of floats in order, because sums depend on it."""
        try:
            tasks = (_Task(i, s, self._size(s)) for i, s in enumerate(self._parted(shards)))
            while self._fill(tasks):
                self._held.update(self._some())
                for place in self._ready():
                    yield from self._held.pop(place)
        finally:
            for future in self._under_way:
                future.cancel()

    def _ready(self) -> list[int]:
        if not self._plan.covariance:
            return list(self._held)
        first = self._turn
        while self._turn in self._held:
            self._turn += 1
        return list(range(first, self._turn))

    # ------------------------------------------------------------ in

    def _parted(self, shards: Iterator[Any]) -> Iterator[Any]:
        """Shards of few files in small pieces, so that workers end at the same time."""
        items = self._source.n_items
        plan, size = self._plan, _FILES
        if items is not None and plan.pattern.per_item and not plan.covariance:
            size = max(size, items // (_PIECES * self._engine.workers))
        else:  # large results, or such that depend on how they are cut
            size = sys.maxsize
        for shard in shards:
            if isinstance(shard, FileShard) and len(shard.files) > size:
                for begin in range(0, len(shard.files), size):
                    yield replace(shard, files=shard.files[begin : begin + size])
            else:
                yield shard

    def _fill(self, tasks: Iterator[_Task]) -> bool:
        """Submit as much as there is room for; whether anything is under way."""
        while self._has_room():
            task = next(tasks, None)
            if task is None:
                break
            self._submit(task)
        return bool(self._under_way)

    def _size(self, shard: Any) -> int:
        return sent_bytes(shard) if self._there else 0  # a pool here is sent one after the other

    def _has_room(self) -> bool:
        count = len(self._under_way) + len(self._held)
        if count >= self._engine.window:
            return False
        return count == 0 or sum(t.size for t in self._under_way.values()) < _SENT_BYTES

    def _submit(self, task: _Task) -> None:
        future = self._submitted(task.shard)
        self._under_way[future] = task
        future.add_done_callback(self._finished.put)

    def _submitted(self, shard: Any) -> Future[Measured]:
        try:
            return self._engine.submit(sent(shard) if self._there else shard, self._plan)
        except BrokenExecutor as error:  # it broke just now; those under way say so, too
            future: Future[Measured] = Future()
            future.set_exception(error)
            return future
        except RuntimeError as error:
            if "shutdown" not in str(error):
                raise
            raise SourceError(f"the executor is closed: {error}") from None

    # ------------------------------------------------------------ out

    def _some(self) -> list[_Done]:
        """Wait for a result, or several."""
        future, task = self._next()
        try:
            return [(task.place, [self._result(future, task.shard)])]
        except _WorkerDiedError as death:
            del future
            return self._recovered(task, death)

    def _next(self) -> tuple[Future[Measured], _Task]:
        while True:
            try:
                future = self._finished.get(timeout=_PATIENCE)
            except Empty:
                self._engine.check()
                continue
            if future in self._under_way:
                return future, self._under_way.pop(future)

    def _result(self, future: Future[Measured], shard: Any) -> Measured:
        try:
            part = future.result()
        except CancelledError:
            raise self._engine.cancelled() from None
        except Exception as error:
            if isinstance(error, BrokenExecutor) or _is_death(error):
                raise _WorkerDiedError(isinstance(error, BrokenExecutor)) from error
            raise
        self._in_a_row = 0
        if self._there and part.record.skipped:
            _check_seen(shard, part)
        return part

    # ------------------------------------------------------------ after a death

    def _recovered(self, task: _Task, death: _WorkerDiedError) -> list[_Done]:
        """Results of all that was under way when a worker died."""
        done, suspects = [], [task]
        broken = death.broken
        while self._under_way:
            future, other = self._next()
            try:
                done.append((other.place, [self._result(future, other.shard)]))
            except _WorkerDiedError as another:
                suspects.append(other)
                broken = broken or another.broken
        self._replace(broken)
        for suspect in sorted(suspects, key=lambda t: t.place):
            self._engine.repeated += 1
            done.append((suspect.place, self._alone(suspect)))
        return done

    def _replace(self, broken: bool) -> None:
        self._engine.died()
        if broken:
            self._engine.renew()

    def _alone(self, task: _Task) -> list[Measured]:
        """Measure a shard with nothing else under way; file by file, if it kills again."""
        part = self._tried(task.shard)
        if part is not None:
            return [part]
        files = list(task.shard.split()) if hasattr(task.shard, "split") else []
        if not files:
            part = self._tried(task.shard)
            if part is None:
                raise SourceError(self._of_no_file(task))
            return [part]
        return [self._tried(f) or self._tried(f) or self._left_out(f) for f in files]

    def _tried(self, shard: Any) -> Measured | None:
        """Measure a shard now; None when it kills the worker."""
        try:
            return self._result(self._submitted(shard), shard)
        except _WorkerDiedError as death:
            self._replace(death.broken)
            return None

    def _left_out(self, file: Any) -> Measured:
        """The result of a file that cannot be measured here."""
        name = _name_of(file) or "a file"
        self._in_a_row += 1
        if self._in_a_row == _IN_A_ROW:
            raise SourceError(
                f"{name} and the {_IN_A_ROW - 1} files before it all killed the worker that read "
                "them: it is probably not the files. Is there enough memory? Try fewer workers"
            )
        self._engine.killers.append(name)
        item = Item(None, name, _KILLER, passing=True)
        return measure_shard(ItemShard((item,)), self._plan)

    def _of_no_file(self, task: _Task) -> str:
        name = _name_of(task.shard)
        what = f"{name} (part {task.place + 1})" if name else f"part {task.place + 1}"
        return (
            f"{self._source.name}: {what} killed each worker that measured it, three times. Is "
            "there enough memory? Try fewer workers, or threads to see the error itself"
        )


def _is_death(error: Exception) -> bool:
    """Whether a cluster says so that a worker died; no class of theirs need be imported."""
    home = type(error).__module__.partition(".")[0]
    return (home, type(error).__name__) in (
        ("distributed", "KilledWorker"),
        ("ray", "WorkerCrashedError"),
        ("ray", "OutOfMemoryError"),
        ("ray", "NodeDiedError"),
    )


def _name_of(shard: Any) -> str:
    """What the first item of a shard is called in messages; empty when not known."""
    if isinstance(shard, FileShard):
        return shard.files[0][1]
    parts = ("held", "rows", "pieces")
    firsts = [next(iter(getattr(shard, part, ())), None) for part in parts]
    names = [getattr(thing, "name", "") for thing in (shard, *firsts)]
    return next((str(name) for name in names if name), "")


def _check_seen(shard: Any, part: Measured) -> None:
    """Refuse what a worker measured that does not see the files.

    Raises
    ------
    SourceError
        Naming one that is here, and was not there.
    """
    if not isinstance(shard, FileShard):
        return
    reasons = dict(part.record.skipped)
    for path, name, _ in shard.files:
        if reasons.get(name) == _VANISHED and not is_remote(path) and os.path.lexists(path):
            raise unseen(path, "a worker")
