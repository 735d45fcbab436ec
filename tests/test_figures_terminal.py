"""Terminal histograms, character by character; they need no matplotlib."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest

from figure_samples import VALUES, rgb_counts
from zeromean import figures

pytestmark = pytest.mark.filterwarnings("error")


def terminal(values: Any, counts: Any, **options: Any) -> list[str]:
    """Lines without colors, unless asked for."""
    return figures.terminal_histogram(values, counts, **{"color": False, **options}).split("\n")


def test_terminal_histogram_in_eighths() -> None:
    assert terminal(range(5), [1, 2, 4, 3, 0], width=10, height=2, names=["G"]) == [
        "G  mean 1.9  std 0.9434  min 0  max 3",
        "    ██▄▄",
        "▄▄██████",
        "────┴───",
        "0  1.9 3",
    ]


def test_terminal_histogram_in_ascii() -> None:
    assert terminal([-2, -1, 0], [1, 4, 2], width=9, height=2, ascii=True) == [
        "mean -0.8571  std 0.6389  min -2  max 0",
        "   ###",
        ":::######",
        "----+----",
        "-2      0",
    ]
    assert figures.terminal_histogram([0, 1], [1, 2], ascii=True, color=False).isascii()


def test_terminal_blocks_share_the_axis_and_are_parted_by_a_line() -> None:
    lines = terminal(
        [0, 1, 2], [[1, 0, 0], [0, 0, 2], [0, 0, 0]], names=list("RGB"), width=6, height=1
    )
    assert lines == [
        "R  mean 0  std 0  min 0  max 0",
        "██",
        "─┴────",
        "0    2",
        "",
        "G  mean 2  std 0  min 2  max 2",
        "    ██",
        "─────┴",
        "0    2",
        "",
        "B  no values",
    ]


@pytest.mark.parametrize(
    ("values", "counts", "options", "expected"),
    [
        ([7], [3], {"width": 4}, ["mean 7  std 0  min 7  max 7", "████", "──┴─", "7"]),
        ([5, 6, 7], [0, 9, 0], {"width": 3}, ["mean 6  std 0  min 6  max 6", "███", "─┴─", "6"]),
        ([0, 1], [1, 3], {"width": 8},
         ["mean 0.75  std 0.433  min 0  max 1", "▃▃▃▃████", "─────┴──", "0 0.75 1"]),
        ([0, 1], [1, 1], {"width": 2}, ["mean 0.5  std 0.5  min 0  max 1", "██", "─┴", "0..1"]),
        ([0, 1], [1, 1], {"width": 0}, ["mean 0.5  std 0.5  min 0  max 1", "█", "┴", "0..1"]),
        ([0, 1, 2], [0, 0, 0], {}, ["no values"]),
        ([0, 1], [1, 10**6], {"width": 2},
         ["mean 1  std 0.001  min 0  max 1", "▁█", "─┴", "0..1"]),
    ],
    ids=["one value", "all equal", "two bins", "narrow", "no width", "no values", "rare value"],
)  # fmt: skip
def test_terminal_edge_cases(values: Any, counts: Any, options: Any, expected: Any) -> None:
    assert terminal(values, counts, height=1, **options) == expected


def test_terminal_lines_fit_the_width_and_have_no_trailing_spaces() -> None:
    for width in (1, 7, 52, 60, 200, 600):
        lines = terminal(VALUES, rgb_counts(), width=width, height=5, names=["R", "G", "B"])
        bars = [line for line in lines if line and "mean" not in line and ".." not in line]
        assert max(map(len, bars)) <= width
        assert [line for line in lines if line != line.rstrip()] == []


def test_terminal_labels_never_touch() -> None:
    seen = set()
    for width in range(1, 40):
        label = terminal(VALUES, VALUES[::-1], width=width, height=1)[-1]
        seen.add(tuple(label.split()))
    assert seen == {("0..254",), ("0", "254"), ("0", "84.67", "254")}


def test_terminal_colors_only_the_bars() -> None:
    plain = terminal([0, 1], [[1, 2], [2, 1]], names=["R", "height"], width=4, height=2)
    colored = terminal(
        [0, 1], [[1, 2], [2, 1]], names=["R", "height"], width=4, height=2, color=True
    )
    bars = {1: "31", 2: "31", 7: "36", 8: "36"}
    assert colored == [
        f"\x1b[{bars[row]}m{line}\x1b[0m" if row in bars else line for row, line in enumerate(plain)
    ]


def test_ascii_holds_for_shortened_names_and_negative_exponents() -> None:
    lines = terminal([-1e-9, 0], [1, 1], names=["a" * 20 + "b" * 20], ascii=True)
    assert lines[0].split("  ")[:2] == ["a" * 14 + "..." + "b" * 9, "mean -5e-10"]
    assert "".join(lines).isascii()


def test_terminal_histogram_needs_no_matplotlib() -> None:
    code = """
        import sys
        sys.modules["matplotlib"] = None
        from zeromean.figures.terminal import terminal_histogram
        print(terminal_histogram([0, 1], [1, 1], height=1, color=False).split()[0])
        from zeromean import figures
        print(figures.terminal_histogram is terminal_histogram)
        print([name for name in sys.modules if name.startswith("matplotlib.")])
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.split("\n")[:3], done.stderr) == (["mean", "True", "[]"], "")
