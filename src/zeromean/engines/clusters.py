"""Dask clusters and MPI: workers that may be on other machines."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Any

from zeromean.accumulation import Measured, Plan, measure_shard
from zeromean.engines import Engine
from zeromean.engines.pools import measure_packed, packed
from zeromean.errors import SourceError, warn

_ANSWERS = 10  # seconds in which a scheduler must answer
_JOINS = 60  # seconds in which a first worker must be there
_COUNTED = 5  # seconds after which workers are counted again
_MPI = "mpirun -n 3 python -m mpi4py.futures"


class Dask(Engine):
    """A Dask client's executor; Dask itself measures again what a lost worker had.

    Parameters
    ----------
    executor : distributed.cfexecutor.ClientExecutor
    own : bool
        Whether the client is ours to be closed.
    """

    elsewhere = True

    def __init__(self, executor: Any, *, own: bool = False) -> None:
        super().__init__(1)
        self.executor: Any = executor
        self._client: Any = executor._client
        if self._client.asynchronous:
            raise SourceError("the Dask client is asynchronous; give one that is not")
        self._own = own
        self._counted, self._threads = -float("inf"), 1
        self._missing = False
        self._began = max((stamp for stamp, _ in self._asked("get_events", "all")), default=0.0)

    @property
    def window(self) -> int:
        """Two shards for each thread that the cluster has now."""
        if time.monotonic() - self._counted > _COUNTED:
            self._threads = sum(self._asked("nthreads").values())
            self._counted = time.monotonic()
        return 2 * self._threads + 2

    def submit(self, shard: Any, plan: Plan) -> Future[Measured]:
        """Have a shard measured, even if an equal one has been: files may have changed."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self.executor.submit(measure_shard, shard, plan, pure=False)  # type: ignore[no-any-return]

    def died(self) -> None:
        """The scheduler counts them; see `close`."""

    def renew(self) -> None:
        """Nothing to do: the cluster is still there."""

    def check(self) -> None:
        """Say so when there are no workers, and stop when there is no scheduler."""
        if self._client.status != "running":
            raise self.cancelled()
        if not self._missing and not self._asked("nthreads"):
            self._missing = True
            warn("the Dask cluster has no workers; waiting for one")

    def cancelled(self) -> SourceError:
        """A client cancels all when it has lost its scheduler."""
        address = getattr(self._client.scheduler, "address", "?")
        return SourceError(
            f"the Dask scheduler at {address} is gone, or has cancelled the run; what a ledger has "
            "kept is safe: run the same again"
        )

    def stop(self) -> None:
        """Close our client; what was under way has been cancelled."""
        if self._own:
            with _quiet():
                self._client.close()

    def close(self) -> None:
        """Ask how many workers were lost, and close our client."""
        with suppress(SourceError):  # all results are here: it may be gone now
            for stamp, event in self._asked("get_events", "all"):
                removed = event.get("action") == "remove-worker" and not event.get("expected")
                if stamp > self._began and removed:
                    self.deaths += 1
                    keys = map(str, event.get("processing-tasks", ()))
                    self.repeated += sum(key.startswith(measure_shard.__name__) for key in keys)
        self.stop()

    def _asked(self, what: str, *arguments: Any) -> Any:
        """What the scheduler answers.

        Raises
        ------
        SourceError
            When it does not.
        """
        try:
            return getattr(self._client, what)(*arguments)
        except (OSError, TimeoutError, CancelledError):
            raise self.cancelled() from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of a client that is closed while it looks for its scheduler."""
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def dask(address: str) -> Dask:
    """The cluster of a scheduler that is running.

    Parameters
    ----------
    address : str
        Such as ``tcp://host:8786``, or the path of a scheduler's `.json` file.

    Raises
    ------
    SourceError
        When nothing answers there.
    ImportError
        Without Dask.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError('Dask clusters need Dask: pip install "zeromean[dask]"') from None
    if not address:
        raise SourceError(
            "executor is 'dask'; at which address is the scheduler? Such as "
            "'dask:tcp://127.0.0.1:8786'"
        )
    by_file = address.endswith(".json")
    if by_file and not os.path.exists(address):
        raise SourceError(f"{address}: there is no such file of a Dask scheduler")
    given = {"scheduler_file": address} if by_file else {"address": address}
    connect: Any = Client
    try:
        client: Any = connect(timeout=_ANSWERS, set_as_default=False, **given)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise SourceError(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, "
            "and workers with `dask worker ADDRESS`"
        ) from None
    where = client.scheduler.address
    try:
        client.wait_for_workers(1, timeout=_JOINS)
        return Dask(client.get_executor(), own=True)
    except TimeoutError:
        client.close()
        raise SourceError(
            f"the Dask scheduler at {where} has no workers; start one with `dask worker {where}`"
        ) from None
    except BaseException:
        client.close()
        raise


class Mpi(Engine):
    """The other processes of an MPI run. When one of them dies, MPI ends them all."""

    elsewhere = True

    def __init__(self, executor: Any) -> None:
        super().__init__(max(1, executor.num_workers))
        self.executor: Any = executor

    def submit(self, shard: Any, plan: Plan) -> Future[Measured]:
        """Have a shard measured."""
        return self.executor.submit(measure_packed, packed(shard), packed(plan))  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Forget what waits; what is under way is finished first."""
        self.executor.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Let the other processes go."""
        self.executor.shutdown(wait=True)


def mpi(rest: str) -> Mpi:
    """The processes that `mpirun` has started beside this one.

    Parameters
    ----------
    rest : str
        What follows "mpi" in the option: nothing.

    Raises
    ------
    SourceError
        When this program was not started so that there are any.
    ImportError
        Without mpi4py.
    """
    if rest:
        raise SourceError(f"executor is 'mpi:{rest}'; it is just 'mpi': mpirun says how many")
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPIPoolExecutor, _core
    except ImportError as error:
        raise ImportError(f'MPI needs mpi4py ({error}): pip install "zeromean[mpi]"') from None
    world = MPI.COMM_WORLD
    size, universe = world.Get_size(), world.Get_attr(MPI.UNIVERSE_SIZE) or 1
    alone = size == 1 and universe == 1
    if alone or (size > 1 and getattr(_core, "SharedPool", None) is None):
        what = (
            "MPI has this one process only" if alone else f"all {size} processes run this program"
        )
        raise SourceError(
            f"executor is 'mpi', but {what}; start it with `{_MPI} script.py`, or "
            f"`{_MPI} -m zeromean measure ... --executor mpi`"
        )
    return Mpi(MPIPoolExecutor())
