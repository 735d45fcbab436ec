"""The benchmark of the estimators runs, at tiny sizes, and checks every answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_BENCH = Path(__file__).parents[1] / "bench"

pytest.importorskip("sklearn", reason="the peer; pip install zeromean[bench]")


def test_a_tiny_run_writes_its_section(tmp_path: Path) -> None:
    """Ours is exact in every race, the peer is within its bound, and other sections stay."""
    page, raw = tmp_path / "page.md", tmp_path / "raw.json"
    page.write_text("# Benchmarks\n\nwhat was there\n")
    script = str(_BENCH / "bench_estimators.py")
    command = [sys.executable, script, "--tiny", "-o", str(page), "--json", str(raw)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    text = page.read_text(encoding="utf-8")
    assert "what was there" in text
    for part in ("(a)", "(b)", "(c)", "(d)", "Estimators must reach"):
        assert f"### {part}" in text
    figures = json.loads(raw.read_text(encoding="utf-8"))
    judged = [figure for figure in figures if figure["allowed"] is not None]
    assert len({figure["race"] for figure in judged}) >= 20
    for figure in judged:
        assert 0 <= figure["off"] <= figure["allowed"] < 1e-3, figure
        assert (figure["contestant"] == "zeromean") == (figure["allowed"] == 0), figure
