"""Part (b): one, two and four workers on each engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from containers import measured
from photographs import write_jpegs
from rounds import Contestant, Goal, Part, Race, run_race, same_bits, timed
from sizes import Sizes

_SIZE = (500, 375)


def run_workers(sizes: Sizes) -> Part:
    """All of part (b)."""
    part = Part(f"(b) {sizes.files:,} JPEGs of {_SIZE[0]}×{_SIZE[1]} on each engine")
    with tempfile.TemporaryDirectory() as below, ExitStack() as open_pools:
        folder = Path(below) / "pictures"
        write_jpegs(folder, sizes.files, _SIZE)
        exact = measured(folder, workers=1)
        race = Race("pools that are running already", sizes.files, "pictures")
        contestants = []
        for engine, pool in engines().items():
            for workers in sizes.workers:
                executor = open_pools.enter_context(pool(workers))
                clock = timed(lambda executor=executor: _through(folder, executor))  # type: ignore[misc]
                contestants.append(Contestant(_name(engine, workers), clock, same_bits(exact)))
        run_race(race, contestants, sizes.file_rounds)
    base = _name("threads", sizes.workers[0])
    part.races.append(race)
    part.text += [race.table(base), "This machine has two cores; four workers share them."]
    for engine in ("threads", "processes"):
        one, two = _name(engine, 1), _name(engine, 2)
        part.goals.append(Goal(f"JPEG folder, 2 {engine} : 1", race.ratio(one, two), 1.8))
    return part


def _name(engine: str, workers: int) -> str:
    return f"{engine}, {workers}"


def _through(folder: Path, executor: Executor) -> Any:
    return measured(folder, workers=None, executor=executor)


def engines() -> dict[str, Callable[[int], Any]]:
    """A context that gives an executor with so many workers, for each engine that is installed."""
    held: dict[str, Callable[[int], Any]] = {
        "threads": ThreadPoolExecutor,
        "processes": lambda n: ProcessPoolExecutor(n, mp_context=get_context("forkserver")),
    }
    if find_spec("loky"):
        held["loky"] = _loky
    if find_spec("distributed"):
        held["Dask"] = _dask
    return held


def _loky(workers: int) -> Any:
    from loky import ProcessPoolExecutor as Loky

    return Loky(workers)


@contextmanager
def _dask(workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield client.get_executor()
