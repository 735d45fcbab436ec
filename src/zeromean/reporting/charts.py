"""Figures as SVG for the page: text stays text, colors follow the theme, words the language."""

from __future__ import annotations

import io
import re
import textwrap
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zeromean.figures.style import INK
from zeromean.reporting.compact import compact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS = 50  # per inch, of what is drawn as pixels
_LOCK = threading.Lock()  # matplotlib's settings are global
_COLOR = re.compile(r"#([0-9a-f]{6})\b")


def as_svg(
    figure: Figure,
    prefix: str,
    alt: str,
    pairs: Sequence[Sequence[str]] = (),
    *,
    ticks: bool = False,
    fold: bool = False,
) -> Any:
    """A figure as an inline `<svg>`, described by `alt`; the same figure gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    prefix : str
        Of all ids and classes, which must differ between the figures of one page.
    alt : str
        What a screen reader says.
    pairs : sequence of (pattern, replacement)
        Regular expressions that bring the figure's English words into another language.
    ticks : bool
        Whether the labels of ticks are ours to translate, and no names of the user's columns.
    fold : bool
        Break the note at the foot anew, for a narrow screen.
    """
    from markupsafe import Markup, escape

    relabel(figure, pairs, ticks=ticks)
    if fold:
        _fold_note(figure, int(figure.get_size_inches()[0] * 13))
    raw = _drawn(figure)
    body = raw[raw.index("<svg") :]
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None, "matplotlib writes a viewBox"
    rest = compact(_themed(rest), prefix)
    most = f"max-width:{1.35 * 72 * figure.get_size_inches()[0]:.0f}px"
    opening = f'<svg role="img" aria-label="{escape(alt)}" {box[0]} style="{most}">'
    return Markup(opening + rest)


def relabel(figure: Figure, pairs: Sequence[Sequence[str]], *, ticks: bool = False) -> None:
    """Replace words in every text of a figure; in the labels of its ticks only if told."""
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    if not pairs:
        return
    with _settings():
        figure.draw_without_rendering()  # so that the texts of ticks exist
    for text in figure.findobj(Text):
        text.set_text(translated(text.get_text(), pairs))
    for axes in figure.axes if ticks else ():
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_locator(), FixedLocator):
                said = [label.get_text() for label in axis.get_ticklabels()]
                axis.set_ticklabels([translated(text, pairs) for text in said])


def translated(words: str, pairs: Sequence[Sequence[str]]) -> str:
    """Words after every rule.

    >>> translated("mean 3", [["^mean ", "均值 "]])
    '均值 3'
    """
    for pattern, replacement in pairs:
        words = re.sub(pattern, replacement, words)
    return words


def as_pixels(figure: Figure) -> Figure:
    """The filled contours of a figure as small pictures inside it: they are soft anyway."""
    from matplotlib.contour import ContourSet

    for contours in figure.findobj(ContourSet):
        contours.set_rasterized(True)
    return figure


def _fold_note(figure: Figure, most: int) -> int:
    """Break the note at the foot of a figure for a narrow screen; how many lines it has."""
    notes = [
        text
        for text in figure.texts
        if text.get_text() and text.get_verticalalignment() == "bottom"
    ]
    for note in notes:
        note.set_text(_folded(" ".join(note.get_text().split()), most))
    return max((note.get_text().count("\n") + 1 for note in notes), default=0)


def _folded(words: str, most: int) -> str:
    """Words in lines of so many places; Chinese breaks between any two letters, each two wide.

    >>> _folded("区间，A/A 对照，双方", 9).split("\\n")
    ['区间，A/A', '对照，双', '方']
    """
    if not any(ord(letter) > 0x2E80 for letter in words):
        return textwrap.fill(words, most)
    lines, places = [""], 0
    for part in re.findall(r"[!-~]+|.", words):
        wide = sum(2 if ord(letter) > 0x2E80 else 1 for letter in part)
        if places + wide > most and part not in "，。；：、）":
            lines.append("")
            places = 0
        lines[-1] += part
        places += wide
    return "\n".join(line.strip() for line in lines)


def _drawn(figure: Figure) -> str:
    """What matplotlib writes, with text as text."""
    buffer = io.StringIO()
    with _settings():
        figure.savefig(
            buffer, format="svg", facecolor="none", dpi=_DOTS,
            metadata={"Date": None, "Creator": None},
        )  # fmt: skip
    return buffer.getvalue()


@contextmanager
def _settings() -> Iterator[None]:
    """Text as text, ids that do not change from run to run, and no word about missing glyphs."""
    import matplotlib

    options: Any = {"svg.fonttype": "none", "svg.hashsalt": "zeromean"}
    with _LOCK, matplotlib.rc_context(options), warnings.catch_warnings():
        # The reader's fonts have what ours may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def _themed(svg: str) -> str:
    """Colors become variables of the page, fonts the page's own."""
    svg = re.sub(r"(font: [^;\"]*?\d+(?:\.\d+)?px )[^;\"]*", r"\1var(--sans)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    return _COLOR.sub(lambda found: f"var(--x{found[1]},#{found[1]})", svg)


def narrowed(figure: Figure, width: float = 4.8) -> Figure:
    """A figure of rows for a narrow screen: as high, with fewer ticks."""
    figure.set_size_inches(width, figure.get_size_inches()[1])
    axis = figure.axes[0].xaxis
    locator: Any = axis.get_major_locator()
    if hasattr(locator, "set_params") and figure.axes[0].get_xscale() == "symlog":
        locator.set_params(numticks=4)
    return figure


def stacked(figure: Figure, width: float = 4.4, panel: float = 2.4) -> Figure:
    """The panels of a figure one below the other, all of one size, for a narrow screen."""
    panels = figure.axes
    handles, labels = panels[0].get_legend_handles_labels()
    top = 0.55 + 0.22 * len(labels)
    lines = _fold_note(figure, int(width * 13))
    below, gap = 1.1 + 0.16 * lines, 1.45  # inches under the last panel, and between two
    height = top + len(panels) * panel + (len(panels) - 1) * gap + below
    figure.set_layout_engine("none")
    figure.set_size_inches(width, height)
    for old in list(figure.legends):
        old.remove()
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.05, 1 - 0.1 / height),
        frameon=False, fontsize=10, labelcolor=INK, handlelength=2.6, borderaxespad=0,
    )  # fmt: skip
    for text in figure.texts:
        text.set_y(
            0.1 / height if text.get_verticalalignment() == "bottom" else text.get_position()[1]
        )
    for index, axes in enumerate(panels):
        bottom = height - top - (index + 1) * panel - index * gap
        axes.set_position((0.09, bottom / height, 0.86, panel / height))
    return figure
