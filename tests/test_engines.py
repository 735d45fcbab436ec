"""Engines by name, for real: processes and loky whose workers are killed, and Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean import engines
from zeromean.accumulation import Plan
from zeromean.engines import opened, pools
from zeromean.errors import SkippedWarning, SourceError
from zeromean.pattern import Pattern

needs_loky = pytest.mark.skipif(not find_spec("loky"), reason="loky is not installed")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """400 pictures in two class folders: seven shards."""
    place = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(8)
    for i in range(400):
        (place / f"class{i % 2}").mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (*rng.integers(1, 12, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"class{i % 2}" / f"{i:03}.png")
    return place


@pytest.fixture(scope="module")
def expected(folder):
    return zm.measure(folder, workers=1)


def caught_measuring(*arguments, **options):
    """A profile, and all that was warned of but skipped files."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        profile = zm.measure(*arguments, **options)
    return profile, [str(w.message) for w in caught if w.category is not SkippedWarning]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there are 'threads:N', 'processes:N', 'loky:N', 'dask:tcp://HOST:PORT' or 'mpi'"),
        ("spark", "there are 'threads:N'"),
        ("proceses:2", r"did you mean processes\? There are 'threads:N'"),
        ("processes:", r"how many processes\? Such as 'processes:4'"),
        ("processes:0", "how many processes"),
        ("threads:-1", "how many threads"),
        ("loky:two", "how many loky"),
        ("processes:2.5", "how many processes"),
        ("dask", "at which address is the scheduler"),
        ("dask:", "at which address is the scheduler"),
        ("dask:nowhere.json", "nowhere.json: there is no such file of a Dask scheduler"),
        ("mpi:3", "mpirun says how many"),
    ],
)
def test_what_makes_no_sense_is_said(folder, text, said):
    if text.startswith(("dask", "mpi")):
        pytest.importorskip("distributed" if text.startswith("dask") else "mpi4py")
    with pytest.raises(SourceError, match=said):
        zm.measure(folder, executor=text)


@pytest.mark.parametrize("text", ["threads:2", "processes:2", "loky:2"])
def test_workers_and_executor_must_agree(text):
    assert engines.engine_of(text, 2)[1] in (2, None)
    with pytest.raises(SourceError, match=f"executor is '{text}', but workers is 3; say it once"):
        engines.engine_of(text, 3)


@pytest.mark.parametrize("text", ["dask:tcp://127.0.0.1:1", "mpi"])
def test_the_workers_of_a_cluster_are_its_own(text):
    with pytest.raises(SourceError, match="that of the cluster; leave workers out"):
        engines.engine_of(text, 3)


def test_an_executor_is_judged_before_any_file_is_listed():
    with pytest.raises(SourceError, match="executor is 'spark'"):
        zm.measure("/no/such/folder", executor="spark")


@pytest.mark.parametrize("package", ["loky", "distributed", "mpi4py"])
def test_a_missing_package_is_named(folder, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    text = {"distributed": "dask:tcp://127.0.0.1:1", "mpi4py": "mpi"}.get(package, package)
    with pytest.raises(ImportError, match="pip install"):
        zm.measure(folder, executor=text)


# ---------------------------------------------------------------- the same bytes


ENGINES = [
    "threads",
    "threads:1",
    "threads:8",
    "processes:1",
    "processes:3",
    pytest.param("loky:2", marks=needs_loky),
]


@pytest.mark.parametrize("text", ENGINES)
def test_every_engine_gives_the_same_bytes(folder, expected, text):
    profile = zm.measure(folder, executor=text)
    assert profile == expected
    assert profile.to_json() == expected.to_json()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("text", ["processes:2", pytest.param("loky:2", marks=needs_loky)])
def test_arrays_and_groups_travel(text):
    """Floats, a covariance in order, labels: to other processes and back."""
    x = np.random.default_rng(9).normal(size=(700_000, 4))
    for options in ({"quantiles": True}, {"covariance": True}, {"by": np.arange(700_000) % 3}):
        found = zm.measure(x, "n d -> d", executor=text, **options)
        assert found.to_json() == zm.measure(x, "n d -> d", **options).to_json()


def test_processes_without_a_number_are_as_many_as_workers_or_cores():
    for workers, count in ((3, 3), (None, engines.cores())):
        opening, _ = engines.engine_of("processes", workers)
        engine = opening()
        engine.stop()
        assert engine.workers == count


def test_several_sources_share_one_pool(tmp_path, monkeypatch):
    """Starting processes for each of many files would take longer than reading them."""
    made = []
    new = pools.Processes._new
    monkeypatch.setattr(pools.Processes, "_new", lambda self: made.append(self) or new(self))
    x = np.arange(12.0).reshape(6, 2)
    files = []
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", x[2 * i : 2 * i + 2])
        files.append(tmp_path / f"{i}.npy")
    assert zm.measure(files, "n d -> d", executor="processes:2") == zm.measure(x, "n d -> d")
    assert len(made) == 1


# ---------------------------------------------------------------- workers that die


class Killer:
    """A group for each file; kills the worker that asks for one of these files."""

    def __init__(self, *names, once=None):
        self.names, self.once = names, once

    def __call__(self, name):
        if Path(name).name in self.names and multiprocessing.parent_process() is not None:
            if self.once is None:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return "all"
            os.kill(os.getpid(), signal.SIGKILL)
        return "all"


POOLS = ["processes:2", pytest.param("loky:2", marks=needs_loky)]


@pytest.mark.parametrize("text", POOLS)
def test_a_worker_killed_midway_leaves_no_trace(folder, tmp_path, text):
    """All shards count, once each; one warning says so."""
    by = Killer("200.png", once=str(tmp_path / "died"))
    found, warned = caught_measuring(folder, executor=text, by=by)
    assert (tmp_path / "died").exists()
    assert found.to_json() == zm.measure(folder, by=Killer()).to_json()
    (sentence,) = warned
    assert re.match(r"a worker died; \d+ shards? (was|were) measured again", sentence)


def test_a_file_that_kills_its_worker_is_left_out(folder):
    text = "processes:2"
    found, warned = caught_measuring(folder, executor=text, by=Killer("200.png"))
    assert found.total.provenance.skipped == (
        ("class0/200.png", "killed the worker that read it, twice"),
    )
    rest = [p for p in sorted(folder.rglob("*.png")) if p.name != "200.png"]
    assert found.total == zm.measure(rest)
    (sentence,) = warned
    assert "class0/200.png" in sentence
    with pytest.raises(SourceError, match=r"class0/200.png: killed the worker that read it"):
        zm.measure(folder, executor=text, by=Killer("200.png"), strict=True)


def test_a_broken_pool_of_the_user_is_replaced(folder, tmp_path):
    """It cannot be repaired; the rest of the work is done in a pool of the same kind, of ours."""
    context = multiprocessing.get_context("forkserver")
    by = Killer("200.png", once=str(tmp_path / "died"))
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found, warned = caught_measuring(folder, executor=pool, by=by)
    assert found.to_json() == zm.measure(folder, by=Killer()).to_json()
    assert len(warned) == 1
    assert multiprocessing.active_children() == []


def test_a_forked_pool_is_not_forked_again():
    """This process has threads, and a lock that one of them holds would stay locked for ever."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        new = pools.like(pool, 3)
    assert new._mp_context.get_start_method() != "fork"
    assert new._max_workers == 3
    pools.kill(new)


@needs_loky
@pytest.mark.parametrize("reusable", [True, False])
def test_a_broken_loky_pool_of_the_user_is_replaced(folder, tmp_path, reusable):
    import loky

    pool = loky.get_reusable_executor(2) if reusable else loky.ProcessPoolExecutor(2)
    by = Killer("200.png", once=str(tmp_path / "died"))
    found, warned = caught_measuring(folder, executor=pool, by=by)
    assert found.to_json() == zm.measure(folder, by=Killer()).to_json()
    assert len(warned) == 1
    pool.shutdown(kill_workers=True)
    if reusable:
        loky.get_reusable_executor(2).shutdown(kill_workers=True)


# ---------------------------------------------------------------- what workers must be able to load


def test_a_function_without_a_name_cannot_be_sent(folder):
    with pytest.raises(SourceError, match=r"cannot be sent to other processes: .*lambda"):
        zm.measure(folder, executor="processes:2", by=lambda name: "all")


@needs_loky
def test_loky_sends_functions_without_a_name(folder, expected):
    assert zm.measure(folder, executor="loky:2", by=lambda name: "all").total == expected


def run(code, *arguments, **options):
    """Run a program from standard input's place: with no file, as in a notebook."""
    return subprocess.run(
        [sys.executable, *arguments, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def test_a_function_of_an_interactive_session_is_an_error_and_no_death(folder):
    """The workers cannot find it; they say so, and are not taken for dead."""
    code = (
        "import zeromean as zm\n"
        "def group(name): return 'all'\n"
        f"zm.measure({str(folder)!r}, executor='processes:2', by=group)\n"
    )
    result = run(code)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "a worker process cannot load what it was sent" in last
    assert "group" in last
    assert "not in an interactive session" in last


def test_a_program_without_a_guard_says_what_is_missing(folder, tmp_path):
    """Each worker begins by importing the program, which would start workers again."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import zeromean as zm\nprint(zm.measure({str(folder)!r}, executor='processes:2'))\n"
    )
    result = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 1
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert "the worker processes die before they have begun" in last
    assert "`if __name__ == '__main__':`" in last


def test_a_program_with_a_guard_runs(folder, tmp_path, expected):
    program = tmp_path / "program.py"
    program.write_text(
        "import zeromean as zm\nif __name__ == '__main__':\n"
        f"    zm.measure({str(folder)!r}, executor='processes:2').save('found.json')\n"
    )
    subprocess.run([sys.executable, str(program)], cwd=tmp_path, check=True, timeout=120)
    assert (tmp_path / "found.json").read_text() == expected.to_json()


def daemon(folder, text, answers):
    try:
        zm.measure(folder, executor=text)
    except SourceError as error:
        answers.put(str(error))


@pytest.mark.parametrize("text", POOLS)
def test_a_daemonic_process_cannot_start_others(folder, text):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=daemon, args=(folder, text, answers), daemon=True)
    child.start()
    assert answers.get(timeout=60).startswith("a daemonic process cannot start others")
    child.join()
    answers.close()


def test_a_damaged_package_is_sent_as_an_error():
    """What a worker cannot load is an error of the shard, not of the process."""
    plan = pickle.dumps(Plan(Pattern.parse("n ->"))).replace(
        b"zeromean.accumulation", b"zeromean.accumulatiom"
    )
    with pytest.raises(SourceError, match="cannot load what it was sent: No module named"):
        pools.measure_packed(None, plan)


# ---------------------------------------------------------------- stopping


SLOW = """
import os, sys, time
import zeromean as zm
from zeromean.sources.images import ImageReader

read = ImageReader.__call__

def slowly(self, file, memory):
    os.close(os.open(f"{os.environ['READS']}/{file.name.replace('/', '-')}", os.O_CREAT))
    time.sleep(0.05)
    yield from read(self, file, memory)

ImageReader.__call__ = slowly

if __name__ == "__main__":
    print("begun", flush=True)
    from zeromean.cli import main
    main(sys.argv[1:], prog_name="zeromean")
"""


def group_of(number):
    """The processes of a process group that are alive, with their state and command."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue
        if fields[0] != "Z" and int(fields[2]) == number:
            found[int(entry.name)] = command
    return found


def wait_until(condition, seconds):
    """Look again and again; whether it came true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def slow_program(tmp_path, *arguments, text=SLOW):
    """A program in a process group of its own, of which nothing is left afterwards."""
    program = tmp_path / "slow.py"
    program.write_text(text)
    (tmp_path / "reads").mkdir()
    with subprocess.Popen(
        [sys.executable, str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "READS": str(tmp_path / "reads")},
    ) as child:
        try:
            assert child.stdout.readline() == "begun\n"
            yield child
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def measuring(folder, text):
    return "measure", str(folder), "--executor", text, "--no-ledger"


def wait_for_reads(tmp_path):
    """Until some files have been read; nearly all are still to come."""
    assert wait_until(lambda: len(os.listdir(tmp_path / "reads")) >= 10, 60)


@needs_proc
@pytest.mark.parametrize("text", ["threads:2", "processes:2"])
def test_control_c_stops_within_a_second_and_leaves_no_process(folder, tmp_path, text):
    """Sent to the whole group, as a terminal does; 20 seconds of work are under way."""
    with slow_program(tmp_path, *measuring(folder, text)) as child:
        wait_for_reads(tmp_path)
        os.killpg(child.pid, signal.SIGINT)
        begin = time.monotonic()
        _, errors = child.communicate(timeout=20)
        assert time.monotonic() - begin < 1.5
        assert child.returncode == 130
        assert errors.splitlines()[-1].startswith("stopped")
        assert "Traceback" not in errors
        assert wait_until(lambda: not group_of(child.pid), 3), group_of(child.pid)


SLOW_LOKY = """
import os, sys, time
import zeromean as zm

def group(name):
    os.close(os.open(f"{os.environ['READS']}/{name.replace('/', '-')}", os.O_CREAT))
    time.sleep(0.05)
    return "all"

print("begun", flush=True)
zm.measure(sys.argv[1], executor="loky:2", by=group)
"""


@needs_loky
@needs_proc
def test_control_c_ends_the_processes_of_loky(folder, tmp_path):
    with slow_program(tmp_path, str(folder), text=SLOW_LOKY) as child:
        wait_for_reads(tmp_path)
        os.killpg(child.pid, signal.SIGINT)
        begin = time.monotonic()
        _, errors = child.communicate(timeout=20)
        assert time.monotonic() - begin < 1.5
        assert errors.splitlines()[-1] == "KeyboardInterrupt"
        assert wait_until(lambda: not group_of(child.pid), 3), group_of(child.pid)


@needs_proc
def test_control_c_while_processes_start(folder, tmp_path):
    """The first second is spent in loading the compiler, in a process that is not interrupted."""
    with slow_program(tmp_path, *measuring(folder, "processes:2")) as child:
        assert wait_until(lambda: len(group_of(child.pid)) >= 3, 60)
        time.sleep(0.2)
        os.killpg(child.pid, signal.SIGINT)
        begin = time.monotonic()
        _, errors = child.communicate(timeout=20)
        assert time.monotonic() - begin < 1.5
        assert child.returncode == 130
        assert "stopped: " in errors
        assert wait_until(lambda: not group_of(child.pid), 5), group_of(child.pid)


def test_workers_leave_control_c_to_their_parent():
    """Else each would write a traceback of its own."""
    with opened(pools.Processes(1)) as engine:
        assert engine.executor.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


COMPILER = """
from zeromean.engines import opened, pools
if __name__ == "__main__":
    with opened(pools.Processes(1)) as engine:
        if engine.executor._mp_context.get_start_method() == "forkserver":
            assert engine.executor.submit(eval, "'numba' in __import__('sys').modules").result()
"""


def test_workers_start_with_the_compiler_loaded(tmp_path):
    """It is loaded once, by the server that they are forked from; there is one in a process."""
    program = tmp_path / "program.py"
    program.write_text(COMPILER)
    subprocess.run([sys.executable, str(program)], check=True, timeout=120)


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_do_not_outlive_a_killed_parent(folder, tmp_path, how):
    with slow_program(tmp_path, *measuring(folder, "processes:2")) as child:
        wait_for_reads(tmp_path)
        assert len(group_of(child.pid)) >= 4
        os.kill(child.pid, how)
        child.communicate(timeout=20)
        assert wait_until(lambda: not group_of(child.pid), 5), group_of(child.pid)


KILLS = """
import multiprocessing, os, signal, sys
from zeromean.sources.images import ImageReader

read = ImageReader.__call__

def call(self, file, memory):
    open(os.path.join(os.environ["READS"], file.name.replace("/", "-")), "a").close()
    if file.name == "class0/200.png" and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from read(self, file, memory)

ImageReader.__call__ = call

if __name__ == "__main__":
    print("begun", flush=True)
    from zeromean.cli import main
    main(sys.argv[1:], prog_name="zeromean")
"""


def test_the_command_line_and_a_file_that_kills(folder, tmp_path):
    """Exit 0; the file is listed. A ledger keeps all others, and has it tried again next time."""
    ledger, output = str(tmp_path / "kept.ledger"), tmp_path / "found.json"
    rest = zm.measure([p for p in sorted(folder.rglob("*.png")) if p.name != "200.png"])
    where = "--executor", "processes:2", "--ledger", ledger, "-o", str(output)
    for reads in (400, 1):
        with slow_program(tmp_path, "measure", str(folder), *where, text=KILLS) as child:
            _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
        (warned,) = [line for line in errors.splitlines() if line.startswith("warning")]
        assert "left out, because they kill workers: class0/200.png" in warned
        assert "class0/200.png: killed the worker that read it, twice" in errors
        found = zm.load(output)
        assert found == rest
        assert found.provenance.items == 399
        assert len(os.listdir(tmp_path / "reads")) == reads
        shutil.rmtree(tmp_path / "reads")


@needs_proc
def test_the_command_line_survives_a_killed_worker(folder, tmp_path, expected):
    """From outside, in the middle: exit 0, one warning, the same file."""
    output = tmp_path / "found.json"
    with slow_program(tmp_path, *measuring(folder, "processes:2"), "-o", str(output)) as child:
        wait_for_reads(tmp_path)
        commands = group_of(child.pid)
        forked = sorted(n for n, text in commands.items() if "forkserver import main" in text)[1:]
        assert len(forked) == 2
        os.kill(forked[0], signal.SIGKILL)
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
        warned = [line for line in errors.splitlines() if line.startswith("warning")]
        assert len(warned) == 1
        assert "a worker died" in warned[0]
        assert output.read_text() == expected.to_json()
