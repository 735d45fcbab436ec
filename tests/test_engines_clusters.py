"""Dask and MPI, with real schedulers, workers and `mpirun`: the same bytes, and what goes wrong."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.accumulation import Plan
from zeromean.errors import SkippedWarning, SourceError
from zeromean.execution import Run, measured
from zeromean.sources.images import ImageFiles

pytestmark = pytest.mark.long
needs_dask = pytest.mark.skipif(not find_spec("distributed"), reason="Dask is not installed")
needs_mpi = pytest.mark.skipif(
    not (find_spec("mpi4py") and shutil.which("mpirun")), reason="there is no mpi4py or no mpirun"
)
BIN = Path(sys.executable).parent
BY = """
import os, signal, time

def once(name):
    if name.endswith("200.png"):
        try:
            os.close(os.open(os.environ["ONCE"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "all"
        os.kill(os.getpid(), signal.SIGKILL)
    return "all"

def always(name):
    if name.endswith("200.png") and os.getpid() != int(os.environ["DRIVER"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return "all"

def slowly(name):
    time.sleep(0.02)
    return "all"

def all(name):
    return "all"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """400 pictures in two class folders, and a module of functions that workers can import."""
    place = tmp_path_factory.mktemp("cluster")
    rng = np.random.default_rng(8)
    for i in range(400):
        (place / "data" / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*rng.integers(1, 12, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "data" / f"class{i % 2}" / f"{i:03}.png")
    (place / "cluster_by.py").write_text(BY)
    return place


@pytest.fixture(scope="module")
def folder(place):
    return place / "data"


@pytest.fixture(scope="module")
def expected(folder):
    return zm.measure(folder, workers=1)


@pytest.fixture
def by(place, monkeypatch):
    """The functions, here."""
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("DRIVER", str(os.getpid()))
    monkeypatch.setenv("ONCE", str(place / "once"))
    (place / "once").unlink(missing_ok=True)
    import cluster_by

    return cluster_by


def caught_measuring(*arguments, **options):
    """A profile, and all that was warned of but skipped files."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        profile = zm.measure(*arguments, **options)
    return profile, [str(w.message) for w in caught if w.category is not SkippedWarning]


# ---------------------------------------------------------------- Dask


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, place, number, **environment):
        self.place, self.processes = place, []
        self.file = place / f"scheduler{number}.json"
        self.file.unlink(missing_ok=True)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]),
            "ONCE": str(place / "once"),
            "DRIVER": str(os.getpid()),
            **environment,
        }
        self.scheduler = self.run("scheduler", "--port", "0", "--no-dashboard")
        end = time.monotonic() + 60
        while "address" not in (self.file.read_text() if self.file.exists() else ""):
            assert time.monotonic() < end
            time.sleep(0.05)
        self.address = re.search(r'"address": "([^"]+)"', self.file.read_text()).group(1)

    def run(self, what, *arguments, folder=None):
        process = subprocess.Popen(
            [BIN / "dask", what, *arguments, "--scheduler-file", self.file],
            cwd=folder or self.place,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def worker(self, *arguments, folder=None):
        return self.run("worker", "--no-dashboard", "--nthreads", "1", *arguments, folder=folder)

    def close(self):
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def cluster_of(place, *workers, number=0, **environment):
    cluster = Cluster(place, number, **environment)
    try:
        for arguments in workers:
            cluster.worker(*arguments)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster(place):
    """Two workers, one of them under a nanny that starts it again."""
    with cluster_of(place, ["--no-nanny"], ["--nanny"]) as held:
        yield held


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@needs_dask
def test_dask_by_address_gives_the_same_bytes(cluster, folder, expected):
    for text in (f"dask:{cluster.address}", f"dask:{cluster.file}"):
        profile, warned = caught_measuring(folder, executor=text)
        assert profile.to_json() == expected.to_json()
        assert warned == []


@needs_dask
def test_dask_by_the_client_gives_the_same_bytes(client, folder, expected):
    """Its executor, or itself; both stay open. Groups, arrays and covariances travel."""
    for executor in (client.get_executor(), client):
        assert zm.measure(folder, executor=executor).to_json() == expected.to_json()
    found = zm.measure(folder, executor=client, by="class")
    assert found.to_json() == zm.measure(folder, by="class").to_json()
    x = np.random.default_rng(9).normal(size=(700_000, 4))
    for options in ({"quantiles": True}, {"covariance": True}, {"by": np.arange(700_000) % 3}):
        profile, warned = caught_measuring(x, "n d -> d", executor=client, **options)
        assert profile.to_json() == zm.measure(x, "n d -> d", **options).to_json()
        assert warned == []  # not even of the size of what is sent
    assert client.submit(int, 3).result() == 3


@needs_dask
def test_an_asynchronous_client_is_refused(folder):
    from distributed import Client

    client = SimpleNamespace(asynchronous=True)
    client.get_executor = lambda: Client.get_executor(client)
    with pytest.raises(SourceError, match="the Dask client is asynchronous"):
        zm.measure(folder, executor=client)


@needs_dask
def test_equal_shards_count_each_on_dask(client):
    """By default, Dask runs a call once however often it is asked for."""
    x = np.random.default_rng(10).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    assert zm.measure([x] * 640, executor=client) == zm.measure([x] * 640)


@needs_dask
def test_a_file_that_has_changed_is_read_again_on_dask(client, tmp_path):
    """Though the call is the same, and its old result may still be known."""
    kept = []
    for value in (3, 200):
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / "a.png")
        executor = client.get_executor()
        submit = executor.submit
        executor.submit = lambda *a, submit=submit, **k: kept.append(submit(*a, **k)) or kept[-1]
        assert zm.measure(tmp_path, executor=executor).mean.tolist() == [value] * 3


@needs_dask
def test_the_command_line_on_dask(cluster, folder, expected, tmp_path):
    """Its relative paths hold, though the workers were started in another folder."""
    where, output = f"dask:{cluster.address}", tmp_path / "found.json"
    command = ["zeromean", "measure", "data", "--no-ledger", "--executor", where, "-o", output]
    result = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder.parent,
    )
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr
    found = zm.load(output)
    assert found == expected
    assert found.provenance.sources == ("data",)


@needs_dask
def test_a_relative_path_on_workers_elsewhere(place, folder, expected, tmp_path, monkeypatch):
    with cluster_of(place, number=1) as cluster:
        cluster.worker("--no-nanny", folder=tmp_path)
        monkeypatch.chdir(place)
        assert zm.measure("data", executor=f"dask:{cluster.address}") == expected


@needs_dask
@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_a_dask_worker_killed_midway_leaves_no_trace(place, folder, by, nanny):
    """Dask measures again what it had; one warning says so."""
    with cluster_of(place, [nanny], [nanny], number=2) as cluster:
        from distributed import Client

        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        text = f"dask:{cluster.address}"
        found, warned = caught_measuring(folder, executor=text, by=by.once)
        assert (place / "once").exists()
        assert found.to_json() == zm.measure(folder, by=by.all).to_json()
        (sentence,) = warned
        assert re.match(r"a worker died; \d+ shards? (was|were) measured again", sentence)


@needs_dask
def test_a_local_cluster_with_a_killed_worker(folder, by):
    """The cluster of a single machine, in the hands of the user."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        LocalCluster(**options) as local,
        Client(local, set_as_default=False) as client,
    ):
        pids = client.run(os.getpid)
        executor = client.get_executor()
        killed = []

        def progress(done):
            if not killed:
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

        found, warned = caught_measuring(folder, executor=executor, by=by.slowly, progress=progress)
        assert found.to_json() == zm.measure(folder, by=by.all).to_json()
        assert len(warned) == 1
        assert warned[0].startswith("a worker died")


@needs_dask
def test_a_file_that_kills_dask_workers_is_left_out(place, folder, by):
    """Dask gives it up after two workers here, usually four; their nannies start new ones."""
    setting = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    with cluster_of(place, ["--nanny"], ["--nanny"], number=3, **setting) as cluster:
        found, warned = caught_measuring(folder, executor=f"dask:{cluster.address}", by=by.always)
    assert found.total.provenance.skipped == (
        ("class0/200.png", "killed the worker that read it, twice"),
    )
    rest = [p for p in sorted(folder.rglob("*.png")) if p.name != "200.png"]
    assert found.total == zm.measure(rest)
    (sentence,) = warned
    assert "left out, because they kill workers: class0/200.png" in sentence


@needs_dask
def test_a_lost_scheduler_is_an_error(place, folder, by):
    """Nothing would ever come: it is said at once, and that a ledger has kept what was done."""
    with cluster_of(place, ["--no-nanny"], number=4) as cluster:

        def progress(done):
            cluster.scheduler.kill()

        begin = time.monotonic()
        with pytest.raises(SourceError, match=r"scheduler at tcp://.* is gone.*ledger"):
            zm.measure(folder, executor=f"dask:{cluster.address}", by=by.slowly, progress=progress)
        assert time.monotonic() - begin < 60


@needs_dask
def test_dask_workers_that_do_not_see_the_files(cluster, folder, tmp_path, monkeypatch):
    """As on another machine: for them the folder is not there, and for us it is."""
    shutil.copytree(folder, tmp_path / "here")
    source = ImageFiles(tmp_path / "here")
    shutil.rmtree(tmp_path / "here")
    monkeypatch.setattr("zeromean.execution.os.path.lexists", lambda path: True)
    run = Run(None, f"dask:{cluster.address}")
    with (
        closing(measured(source.shards(), source, Plan(source.pattern), run)) as parts,
        pytest.raises(SourceError, match="all workers must find the data under the same path"),
    ):
        next(parts)


@needs_dask
def test_no_scheduler_and_no_worker_are_named(place, folder, monkeypatch):
    from zeromean.engines import clusters

    monkeypatch.setattr(clusters, "_ANSWERS", 1)
    with pytest.raises(SourceError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1 "):
        zm.measure(folder, executor="dask:tcp://127.0.0.1:1")
    with pytest.raises(SourceError, match="no Dask scheduler answers at what"):
        zm.measure(folder, executor="dask:what")
    monkeypatch.setattr(clusters, "_JOINS", 1)
    with (
        cluster_of(place, number=5) as cluster,
        pytest.raises(SourceError, match=rf"has no workers; .*dask worker {cluster.address}"),
    ):
        zm.measure(folder, executor=f"dask:{cluster.address}")


# ---------------------------------------------------------------- MPI


def mpirun(count, *arguments, **options):
    """Start so many processes; root is allowed, and more of them than there are processors."""
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    more = ["--oversubscribe"] if "Open MPI" in mpi_version() else []
    start = ["mpirun", *more, "-n", str(count)] if count else []
    return subprocess.run(
        [*start, sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **allowed},
        **options,
    )


def mpi_version():
    return subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout


@needs_mpi
@pytest.mark.parametrize("count", [2, 3])
def test_mpi_gives_the_same_bytes(folder, tmp_path, expected, count):
    output = tmp_path / "found.json"
    result = mpirun(
        count, "-m", "mpi4py.futures", "-m", "zeromean", "measure", folder, "--no-ledger",
        "--executor", "mpi", "-o", output, "-q",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert output.read_text() == expected.to_json()
    assert result.stdout.count("class0") <= 1  # one process prints, not all


@needs_mpi
def test_mpi_in_a_program(folder, tmp_path):
    """Arrays, a covariance and groups; twice in one program."""
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np, zeromean as zm\n"
        "if __name__ == '__main__':\n"
        "    x = np.random.default_rng(9).normal(size=(700_000, 4))\n"
        "    for options in ({'covariance': True}, {'by': np.arange(700_000) % 3}):\n"
        "        here = zm.measure(x, 'n d -> d', **options).to_json()\n"
        "        assert zm.measure(x, 'n d -> d', executor='mpi', **options).to_json() == here\n"
        "    print('same')\n"
    )
    result = mpirun(3, "-m", "mpi4py.futures", program)
    assert (result.returncode, result.stdout) == (0, "same\n"), result.stderr


@needs_mpi
@pytest.mark.parametrize(
    ("count", "start", "said"),
    [
        (0, [], "MPI has this one process only"),
        (2, [], "all 2 processes run this program"),
        (0, ["-m", "mpi4py.futures"], "MPI has this one process only"),
    ],
)
def test_mpi_that_was_started_wrongly_says_how_to(folder, count, start, said):
    result = mpirun(
        count, *start, "-m", "zeromean", "measure", folder, "--executor", "mpi", "--no-ledger"
    )
    assert result.returncode != 0
    assert f"error: executor is 'mpi', but {said}" in result.stderr
    assert "mpirun -n 3 python -m mpi4py.futures" in result.stderr


@needs_mpi
def test_an_error_on_mpi_is_a_sentence_and_an_exit_code(folder):
    result = mpirun(
        2, "-m", "mpi4py.futures", "-m", "zeromean", "measure", folder, "--per", "pixel",
        "--executor", "mpi", "--no-ledger",
    )  # fmt: skip
    assert result.returncode != 0
    assert "keeps" in result.stderr
    assert "Traceback" not in result.stderr


# ---------------------------------------------------------------- Ray


def adapter():
    """The class that the documentation shows."""
    page = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8")
    (text,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "import ray" in b]
    return text


RAY = """
if __name__ == "__main__":
    import os, sys
    os.environ["DRIVER"] = str(os.getpid())
    import zeromean as zm, cluster_by
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    here = zm.measure(sys.argv[1])
    assert zm.measure(sys.argv[1], executor=RayExecutor()).to_json() == here.to_json()
    groups = zm.measure(sys.argv[1], by="class")
    assert zm.measure(sys.argv[1], by="class", executor=RayExecutor()) == groups
    by = cluster_by.once
    assert zm.measure(sys.argv[1], by=by, executor=RayExecutor()).total == here
    assert os.path.exists(os.environ["ONCE"])
    x = [pixels for pixels in __import__("numpy").full((640, 4, 5, 3), 9, "uint8")]
    assert zm.measure(x, executor=RayExecutor()) == zm.measure(x)
    found = zm.measure(sys.argv[1], by=cluster_by.always, executor=RayExecutor(max_retries=0))
    print(found.total.provenance.skipped, found.total.provenance.items)
"""


@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
def test_ray_by_the_adapter_of_the_documentation(place, folder, by, tmp_path):
    """The same bytes, with a worker killed midway, and without a file that always kills."""
    program = tmp_path / "program.py"
    program.write_text(adapter() + RAY)
    result = subprocess.run(
        [sys.executable, program, folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *sys.path])},
    )
    assert result.returncode == 0, result.stderr
    reason = "killed the worker that read it, twice"
    assert f"(('class0/200.png', '{reason}'),) 399" in result.stdout


def test_the_adapter_for_ray_is_an_executor():
    """What can be said of it without Ray: `submit` gives the future of a task."""
    made = []

    class Task:
        def __init__(self, function):
            made.append(function)
            self.function = function

        def options(self, **options):
            return self

        def remote(self, *arguments):
            future = Future()
            future.set_result(self.function(*arguments))
            return SimpleNamespace(future=lambda: future)

    ray = SimpleNamespace(remote=Task, cluster_resources=lambda: {"CPU": 3.0})
    names = {}
    exec(adapter().replace("import ray\n", ""), {"ray": ray}, names)
    x = np.arange(3_000_000.0).reshape(-1, 1)
    executor = names["RayExecutor"]()
    assert zm.measure(x, "n d -> d", executor=executor) == zm.measure(x, "n d -> d")
    assert len(made) == 1
    assert executor.max_workers == 3
