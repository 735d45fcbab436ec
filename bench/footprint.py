"""Part (d): peak memory over folders of two lengths, start-up time, and the first call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from photographs import jpeg, photographs
from rounds import Goal, Part, Race, Spread, rounded, table
from sizes import Sizes

_PERIOD = 32  # the largest picture first, so that every shard of 64 files begins with one
_HEAVY = ("numba", "PIL", "matplotlib", "rich")

_MEASURE = """
import sys
import zeromean as zm
profile = zm.measure(sys.argv[1], workers=2)
items = profile.provenance.items
profile.mean, profile.std
try:
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
except OSError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024)
import json
print(json.dumps({"items": items, "peak": peak}))
"""

_FIRST = """
import json, sys, time
if sys.argv[2] == "plain":
    sys.modules["scipy"] = None  # as if it were not installed
import numpy as np
start = time.perf_counter()
import numba
imported = time.perf_counter()
import zeromean as zm
kind = sys.argv[1]
if kind == "uint8":
    x, pattern = np.arange(6144, dtype=kind).reshape(8, 16, 16, 3), "n h w c -> c"
else:
    x, pattern = np.arange(2048, dtype=kind).reshape(256, 8), "n d -> d"
profile = zm.measure(x, pattern)
profile.mean, profile.std
print(json.dumps({"numba": imported - start, "call": time.perf_counter() - imported}))
"""

_LOADED = """
import json, sys
command = sys.argv.pop(1)
try:
    exec(command)
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([name for name in {heavy!r} if name in sys.modules]), file=sys.stderr)
"""
_HELP = (
    "import sys, runpy; sys.argv = ['zeromean', '--help']; "
    "runpy.run_module('zeromean', run_name='__main__')"
)


def run_footprint(sizes: Sizes) -> Part:
    """All of part (d)."""
    part = Part("(d) Peak memory and start-up")
    _add_memory(part, sizes)
    _add_startup(part, sizes)
    _add_first_calls(part, sizes)
    return part


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, **environment},  # installed packages have their bytecode
        check=True,
        capture_output=True,
        text=True,
    )


def _told(code: str, *arguments: str, **environment: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(_python("-c", code, *arguments, **environment).stdout)
    return told


# ---------------------------------------------------------------- memory


def _add_memory(part: Part, sizes: Sizes) -> None:
    with tempfile.TemporaryDirectory() as below:
        originals = _write_originals(Path(below) / "originals", sizes.large)
        few = _link(Path(below) / "few", originals, sizes.few)
        many = _link(Path(below) / "many", originals, sizes.many)
        few_peaks = [_peak(few, sizes.few) for _ in range(3)]
        many_peak = _peak(many, sizes.many)
    rows = [
        [f"{sizes.few:,} pictures", f"{Spread.of(few_peaks).text()} MB"],
        [f"{sizes.many:,} pictures", f"{rounded(many_peak)} MB"],
    ]
    title = "**Peak resident memory of a fresh process, two threads**\n\n"
    part.text.append(title + table(["folder", "peak"], rows))
    part.text.append(
        f"JPEGs: in every {_PERIOD} one of {sizes.large} megapixels, two of a quarter of that, the "
        "others of 320×240. The longer folder is made of hard links."
    )
    what = f"peak memory, {sizes.many:,} pictures up to {sizes.large} megapixels"
    part.goals.append(Goal(what, Spread.of([many_peak]), 350, 250, " MB", at_most=True))
    flat = Spread.of([many_peak / peak for peak in few_peaks])
    part.goals.append(Goal(f"the same : {sizes.few:,} pictures", flat, 1.1, at_most=True))


def _peak(folder: Path, count: int) -> float:
    told = _told(_MEASURE, str(folder))
    if told["items"] != count:
        raise AssertionError(f"measured {told['items']} of {count} pictures")
    return float(told["peak"])


def _write_originals(folder: Path, megapixels: int) -> list[Path]:
    """The pictures of one period, the largest first."""
    folder.mkdir()
    side = round((megapixels * 1e6 / 12) ** 0.5)
    sizes = [(4 * side, 3 * side), *[(2 * side, 3 * side // 2)] * 2, *[(320, 240)] * (_PERIOD - 3)]
    photos = photographs()
    paths = [folder / f"{i:02}.jpg" for i in range(_PERIOD)]
    for i, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        path.write_bytes(jpeg(photos[i % 2].resize(size, Image.Resampling.BICUBIC)))
    return paths


def _link(folder: Path, originals: Sequence[Path], count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        os.link(originals[i % len(originals)], folder / f"{i:06}.jpg")
    return folder


# ---------------------------------------------------------------- start-up

_NUMPY, _OURS, _HELPED = "`import numpy`", "`import zeromean`", "`zeromean --help`"


def _add_startup(part: Part, sizes: Sizes) -> None:
    commands = {
        _NUMPY: ["-c", "import numpy"],
        _OURS: ["-c", "import zeromean"],
        _HELPED: ["-m", "zeromean", "--help"],
    }
    race = Race("start-up, whole processes", 1, "processes")
    for i in range(-1, sizes.starts):  # the first round warms up
        for name, command in commands.items():
            start = time.perf_counter()
            _python(*command)
            if i >= 0:
                race.seconds.setdefault(name, []).append(time.perf_counter() - start)
    rows = [
        [name, Spread.of([1e3 * s for s in seconds]).text(), race.ratio(name, _NUMPY).text()]
        for name, seconds in race.seconds.items()
    ]
    head = ["whole process", "milliseconds", "time : `import numpy`"]
    part.text.append(f"**Start-up, {sizes.starts} rounds**\n\n" + table(head, rows))
    part.races.append(race)
    help_ratio, import_ratio = race.ratio(_HELPED, _NUMPY), race.ratio(_OURS, _NUMPY)
    loaded = len({*_loaded("import zeromean"), *_loaded(_HELP)})
    part.goals += [
        Goal(f"{_HELPED} : {_NUMPY}", help_ratio, 2, at_most=True),
        Goal(f"{_OURS} : {_NUMPY}", import_ratio, 1.5, at_most=True),
        Goal(f"of {', '.join(_HEAVY)}: loaded by either", Spread.of([loaded]), 0, None, "", True),
    ]


def _loaded(command: str) -> list[str]:
    """Which heavy modules a command loads."""
    ended = _python("-c", _LOADED.format(heavy=_HEAVY), command)
    names: list[str] = json.loads(ended.stderr.splitlines()[-1])
    return names


# ---------------------------------------------------------------- first calls


def _add_first_calls(part: Part, sizes: Sizes) -> None:
    calls: dict[tuple[str, str], list[float]] = {}
    for i in range(-1, sizes.installs):
        for kind in sizes.kinds:
            if i < 0:  # writes the bytecode
                _first_call(kind)
                continue
            with tempfile.TemporaryDirectory() as cache:
                first = _first_call(kind, "plain", NUMBA_CACHE_DIR=cache)
                calls.setdefault((kind, "empty"), []).append(first)
                for install in ("plain", "SciPy") * 3:
                    later = _first_call(kind, install, NUMBA_CACHE_DIR=cache)
                    calls.setdefault((kind, install), []).append(later)
    columns = ("empty", "plain", "SciPy")
    rows = [
        [kind, *(Spread.of(calls[kind, column]).text() for column in columns)]
        for kind in sizes.kinds
    ]
    head = ["dtype", "empty cache, seconds", "next processes", "the same, SciPy installed"]
    part.text.append("**First call of `measure` in a process**\n\n" + table(head, rows))
    part.text.append(
        "Without the time of `import numpy` and `import numba`. Where SciPy is installed, as with "
        "scikit-learn, Numba loads a part of it before it runs the first kernel."
    )
    part.goals += [
        goal
        for kind in sizes.kinds
        for goal in _first_goals(kind, [calls[kind, c] for c in columns])
    ]


def _first_call(kind: str, install: str = "SciPy", **environment: str) -> float:
    return float(_told(_FIRST, kind, install, **environment)["call"])


def _first_goals(kind: str, calls: list[list[float]]) -> list[Goal]:
    floors = (4 if kind == "uint8" else 8, 0.3, 0.3)
    names = ("after install", "in later processes", "in later processes, SciPy installed")
    return [
        Goal(f"first call {name}, {kind}", Spread.of(seconds), floor, None, " s", at_most=True)
        for name, floor, seconds in zip(names, floors, calls, strict=True)
    ]
