"""The benchmark runs, at tiny sizes, and refuses to compare what is not the same."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

_BENCH = Path(__file__).parents[1] / "bench"
_PEERS = {
    "float32, N(5, 2)": {"StandardScaler().fit", "NumPy mean + var, float64"},
    "4 × 64 × 64 × 3": {"NumPy mean + std, float64", "OpenCV meanStdDev", "NumPy bincount"},
    "8 JPEGs": {"Pillow + /255. + mean/std loop", "torch-style loader, 2 processes"},
}

for _package in ("sklearn", "cv2", "pyvips"):
    pytest.importorskip(_package, reason="a peer of the benchmark; pip install zeromean[bench]")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """Page and raw figures of a tiny run of everything."""
    below = tmp_path_factory.mktemp("bench")
    page, raw = below / "page.md", below / "raw.json"
    command = [
        sys.executable,
        str(_BENCH / "bench_measure.py"),
        "--tiny",
        "-o",
        page,
        "--json",
        raw,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return page.read_text(encoding="utf-8"), json.loads(raw.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rounds() -> ModuleType:
    """The module that runs and judges the rounds."""
    spec = importlib.util.spec_from_file_location("rounds", _BENCH / "rounds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["rounds"] = module
    spec.loader.exec_module(module)
    return module


def test_every_peer_computes_what_we_compute(tiny: tuple[str, list[dict[str, Any]]]) -> None:
    """Each peer is within its own error bound, and we give the same bits every time."""
    _, figures = tiny
    judged = [figure for figure in figures if figure["allowed"] is not None]
    for race, peers in _PEERS.items():
        assert peers <= {f["contestant"] for f in judged if f["race"] == race}
    for figure in judged:
        assert 0 <= figure["off"] <= figure["allowed"], figure
        assert figure["allowed"] < 1e-5, figure
        assert ("zeromean" in figure["contestant"]) == (figure["allowed"] == 0), figure


def test_contestants_take_turns_equally(tiny: tuple[str, list[dict[str, Any]]]) -> None:
    """Everybody in a race ran as often as the others, and took time."""
    _, figures = tiny
    for race in {figure["race"] for figure in figures}:
        runs = [figure["seconds"] for figure in figures if figure["race"] == race]
        assert {len(seconds) for seconds in runs} == {2}
        assert all(s > 0 for seconds in runs for s in seconds)


def test_page_has_every_part_and_every_goal(tiny: tuple[str, list[dict[str, Any]]]) -> None:
    """The page says what it ran on, and holds the issue's table; nothing private."""
    page, _ = tiny
    for part in ("(a)", "(b)", "(c)", "(d)", "It must reach"):
        assert f"## {part}" in page
    goals = page.split("## It must reach")[1].strip().splitlines()[2:]
    assert len(goals) >= 20
    assert all(line.count("|") == 6 for line in goals)
    assert "cores, " in page
    assert str(Path.home()) not in page
    assert str(_BENCH.parent) not in page


def _answer(rounds: ModuleType, mean: float, std: float) -> Any:
    return rounds.Answer(np.array([mean]), np.array([std]))


def test_a_wrong_answer_stops_the_run(rounds: ModuleType) -> None:
    """A mean or std beyond its bound, NaN, or another shape, is an error that names who."""
    exact = _answer(rounds, 5.0, 2.0)
    check = rounds.within(exact, 1000)
    assert check(_answer(rounds, 5.0, 2.0)).found == 0
    for mean, std in ((5.0 + 1e-9, 2.0), (5.0, 2.0 - 1e-9), (np.nan, 2.0), (5.0, np.nan)):
        with pytest.raises(rounds.DisagreementError, match="of feature 0 is"):
            check(_answer(rounds, mean, std))
    with pytest.raises(rounds.DisagreementError, match="shape"):
        check(rounds.Answer(np.zeros(2), np.ones(2)))
    wrong = rounds.Contestant("peer", rounds.timed(lambda: _answer(rounds, 5.1, 2.0)), check)
    with pytest.raises(rounds.DisagreementError, match="small: peer: mean of feature 0"):
        rounds.run_race(rounds.Race("small", 1, "runs"), [wrong], 1)


def test_ours_must_not_differ_by_one_bit(rounds: ModuleType) -> None:
    """One ulp off is wrong for us."""
    check = rounds.same_bits(_answer(rounds, 5.0, 2.0))
    assert check(_answer(rounds, 5.0, 2.0)).allowed == 0
    with pytest.raises(rounds.DisagreementError):
        check(_answer(rounds, np.nextafter(5.0, 6), 2.0))


def test_a_baseline_must_touch_all_data(rounds: ModuleType) -> None:
    """Reading less than everything is not a baseline."""
    check = rounds.equals(10)
    assert check(10) is None
    with pytest.raises(rounds.DisagreementError):
        check(9)


def test_rounds_are_interleaved(rounds: ModuleType) -> None:
    """A B A B ..., and the warm-up is not counted."""
    ran: list[str] = []

    def runner(name: str) -> Any:
        return rounds.Contestant(name, rounds.timed(lambda: ran.append(name)), rounds.equals(None))

    pair = [runner("a"), runner("b")]
    race = rounds.run_race(rounds.Race("order", 1, "runs"), pair, 3)
    assert "".join(ran) == "ab" * 4
    assert {name: len(seconds) for name, seconds in race.seconds.items()} == {"a": 3, "b": 3}


def test_ratios_are_taken_within_a_round(rounds: ModuleType) -> None:
    """A machine that is twice as slow in one round does not change a ratio."""
    race = rounds.Race("slow", 1, "runs", {"a": [1.0, 2.0], "b": [3.0, 6.0]})
    assert race.ratio("b", "a") == rounds.Spread(3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("at_most", "figure", "verdict"),
    [
        (False, 11.9, "**missed**"),
        (False, 12.0, "met"),
        (False, 16.0, "met, and the aim"),
        (True, 16.1, "**missed**"),
        (True, 13.0, "met"),
        (True, 12.0, "met, and the aim"),
    ],
)
def test_verdicts(rounds: ModuleType, at_most: bool, figure: float, verdict: str) -> None:
    """Floors and aims, in both directions."""
    floor, aim = (16, 12) if at_most else (12, 16)
    goal = rounds.Goal("x", rounds.Spread.of([figure]), floor, aim, at_most=at_most)
    assert goal.verdict == verdict
