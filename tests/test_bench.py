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
    for part in ("(a)", "(b)", "(c)", "(d)", "Measuring must reach"):
        assert f"## {part}" in page
    goals = page.split("## Measuring must reach")[1].strip().splitlines()[2:]
    assert len(goals) >= 20
    assert all(line.count("|") == 6 for line in goals)
    assert "cores, " in page
    assert str(Path.home()) not in page
    assert str(_BENCH.parent) not in page


@pytest.fixture(scope="module")
def tiny_apply(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """A page that had another section, and raw figures, of a tiny run of `bench_apply`."""
    below = tmp_path_factory.mktemp("bench_apply")
    page, raw = below / "page.md", below / "raw.json"
    page.write_text("# Benchmarks\n\nMade by hand.\n\n## (a) Other\n", encoding="utf-8")
    script = str(_BENCH / "bench_apply.py")
    command = [sys.executable, script, "--tiny", "-o", page, "--json", raw]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return page.read_text(encoding="utf-8"), json.loads(raw.read_text(encoding="utf-8"))


def test_peers_normalize_as_we_do(tiny_apply: tuple[str, list[dict[str, Any]]]) -> None:
    """Ours has the bits of the formula, each peer is near it, and nobody was left out unnamed."""
    page, figures = tiny_apply
    names = {figure["contestant"] for figure in figures}
    assert {"StandardScaler().transform", "OpenCV blobFromImages, / std"} <= names
    for figure in figures:
        ours = figure["contestant"].startswith("zeromean")
        if figure["allowed"] is None:
            assert figure["contestant"].startswith("bare ")
            continue
        assert 0 <= figure["off"] <= figure["allowed"] <= 1e-4, figure
        assert not ours or figure["allowed"] == 0, figure
    for package, peer in (("torch", "plain torch"), ("albumentations", "Albumentations")):
        present = any(name.startswith(peer) for name in names)
        assert present == (importlib.util.find_spec(package) is not None)
        assert present or package in page.split("Not installed, so left out:")[1]


def test_scripts_leave_each_others_sections_alone(
    tiny_apply: tuple[str, list[dict[str, Any]]],
) -> None:
    """One title; sections in a fixed order; written again, a section is replaced."""
    page, _ = tiny_apply
    assert page.startswith("# Benchmarks\n\n<!-- made by bench/bench_measure.py -->\n\nMade by")
    assert page.count("# Benchmarks\n") == 1
    assert page.index("## (a) Other") < page.index("## Normalizing")
    assert str(Path.home()) not in page
    assert str(_BENCH.parent) not in page


def test_a_section_is_replaced(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("page", _BENCH / "page.py")
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    path = tmp_path / "page.md"
    page.write_section(path, "bench_apply", "## B\n\nfirst\n")
    page.write_section(path, "bench_measure", "# Benchmarks\n\n## A\n")
    page.write_section(path, "bench_estimators", "## C")
    before = path.read_text(encoding="utf-8")
    page.write_section(path, "bench_apply", "## B\n\nsecond\n")
    assert path.read_text(encoding="utf-8") == before.replace("first", "second")
    assert list(page.read_sections(before)) == ["bench_measure", "bench_apply", "bench_estimators"]
    assert [line for line in before.splitlines() if line.startswith("#")] == [
        "# Benchmarks", "## A", "## B", "## C",
    ]  # fmt: skip
    page.write_section(path, "bench_measure", "# Benchmarks\n\n## A\n")
    assert path.read_text(encoding="utf-8").count("## A") == 1


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
