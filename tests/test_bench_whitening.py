"""The whitening benchmark runs at tiny sizes, and stops where variances differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="a peer of the benchmark; pip install zeromean[bench]")
pytest.importorskip("pyvips", reason="named on the page; pip install zeromean[bench]")

_BENCH = Path(__file__).parents[1] / "bench"


def run(script, *arguments):
    command = [sys.executable, str(_BENCH / script), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_section_is_written_beside_the_others(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n\n<!-- made by bench/bench_apply.py -->\n\n## Normalizing\n")
    run("bench_whitening.py", "--tiny", "-o", page)
    text = page.read_text(encoding="utf-8")
    assert "## Normalizing" in text
    section = text.split("<!-- made by bench/bench_whitening.py -->")[1]
    for name in ("zeromean, measure + whiten", "covariance_eigh", "Whitening must reach"):
        assert name in section
    assert str(_BENCH.parent) not in section


def test_a_fit_with_other_variances_stops_the_run(monkeypatch):
    monkeypatch.syspath_prepend(str(_BENCH))
    bench = __import__("bench_whitening")
    covariance = np.diag([4.0, 1.0])
    check = bench.close(np.array([4.0, 1.0]), covariance, 1)
    assert check(np.array([4.0, 1.0])).found == 0
    for wrong in ([4.0, 1.1], [4.0], [4.0, np.nan]):
        with pytest.raises(AssertionError, match="variances are off"):
            check(np.array(wrong))
    with pytest.raises(AssertionError, match="other bits"):
        bench.same(covariance)(np.nextafter(covariance, 9))


def test_the_picture_of_the_docs_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    run("whitened_pictures.py", "-o", tmp_path / "x.png", "--count", 600, "--side", 6)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
