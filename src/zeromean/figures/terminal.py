"""Histograms as text, for a terminal; NumPy is all they need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from zeromean.figures.bins import Bins, Floats, binned, channel, checked, number_text

ANSI = {"r": "31", "g": "32", "b": "34"}
OTHER_COLOR = "36"
MARKS = " ▁▂▃▄▅▆▇█"
ASCII_MARKS = " .:#"
TO_ASCII = str.maketrans({"−": "-", "─": "-", "┴": "+", "…": "..."})


def terminal_histogram(
    values: ArrayLike,
    counts: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    width: int = 60,
    height: int = 8,
    color: bool = True,
    ascii: bool = False,
) -> str:
    """Draw one block of text per feature: its numbers, its histogram, an axis with the mean.

    The blocks share the value axis, which ends at the smallest and largest value that occurs. Every
    value that occurs leaves a mark, however rare.

    Parameters
    ----------
    values, counts, names
        As for `distribution`.
    width, height : int
        Most columns, and rows of each histogram; at least 1.
    color : bool
        Color the bars with ANSI sequences.
    ascii : bool
        Draw with ASCII only, instead of the eighth blocks.

    Returns
    -------
    str
        Lines without trailing spaces; no newline at the end.

    Raises
    ------
    ValueError
        If the shapes disagree, or the values are not finite and increasing.

    Examples
    --------
    >>> print(terminal_histogram([0, 1, 2], [1, 4, 2], names=["R"], width=9, height=2, color=False))
    R  mean 1.143  std 0.6389  min 0  max 2
       ███
    ▄▄▄██████
    ────┴────
    0 1.143 2
    """
    bins = binned(checked(values, counts), names, most=max(1, width), trim=True)
    repeat = max(1, width // (bins.edges.size - 1))
    blocks = []
    for index, name in enumerate(bins.names):
        if not bins.share[index].any():
            blocks.append(f"{name}  no values".strip())
            continue
        bars = _bars(bins.density[index], max(1, height), ASCII_MARKS if ascii else MARKS, repeat)
        if color:
            code = ANSI.get(channel(name), OTHER_COLOR)
            bars = [line and f"\x1b[{code}m{line}\x1b[0m" for line in bars]
        blocks.append("\n".join([_heading(bins, index), *bars, *_axis(bins, index, repeat)]))
    text = "\n\n".join(blocks)
    return text.translate(TO_ASCII) if ascii else text


def _heading(bins: Bins, index: int) -> str:
    """A feature's name and numbers."""
    columns = {"mean": bins.mean, "std": bins.std, "min": bins.low, "max": bins.high}
    words = [f"{word} {number_text(column[index])}" for word, column in columns.items()]
    return "  ".join([bins.names[index], *words]).strip()


def _bars(density: Floats, height: int, marks: str, repeat: int) -> list[str]:
    """Rows of bars, top row first; whatever is not zero gets at least the lowest mark."""
    steps = len(marks) - 1
    levels = np.rint(density / density.max() * height * steps).astype(int)
    levels = np.maximum(levels, density > 0)
    rows = []
    for floor in range((height - 1) * steps, -1, -steps):
        filled = np.clip(levels - floor, 0, steps)
        rows.append("".join(marks[level] * repeat for level in filled).rstrip())
    return rows


def _axis(bins: Bins, index: int, repeat: int) -> list[str]:
    """The line under the bars with its tick at the mean, and the labels under it."""
    columns = repeat * np.arange(bins.edges.size)
    width = int(columns[-1])
    at = min(int(np.interp(bins.mean[index], bins.edges, columns)), width - 1)
    labels = _labels(
        number_text(bins.first[0]), number_text(bins.mean[index]), number_text(bins.last[-1]),
        at=at, width=width,
    )  # fmt: skip
    return ["─" * at + "┴" + "─" * (width - at - 1), labels]


def _labels(low: str, mean: str, high: str, *, at: int, width: int) -> str:
    """The line under the axis: both ends, and the mean under its tick where there is room."""
    if low == high:
        return low
    room = width - len(low) - len(high)
    if room < 1:
        return f"{low}..{high}"
    if room < len(mean) + 2 or mean in (low, high):
        return low + " " * room + high
    start = min(max(at - len(mean) // 2, len(low) + 1), width - len(high) - 1 - len(mean))
    return (low.ljust(start) + mean).ljust(width - len(high)) + high
