"""Nothing that a figure says is cut off or covered; matplotlib is imported late."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from figure_samples import EVERY_FIGURE, distribution

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402

pytestmark = pytest.mark.filterwarnings("error")


def texts(figure: Any) -> list[Any]:
    """Every visible text that says something."""
    found = figure.findobj(matplotlib.text.Text)
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def text_boxes(figure: Any) -> list[tuple[str, Any]]:
    """Every text that is drawn and the box around it, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    ticks, drawn = _tick_labels(figure), set(_drawn_ticks(figure))
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in texts(figure)
        if text not in ticks or text in drawn
    ]


def cut_off(figure: Any, boxes: list[tuple[str, Any]]) -> list[str]:
    """Texts that leave the figure."""
    frame = figure.bbox.padded(0.5)
    return [
        text
        for text, box in boxes
        if not (frame.x0 <= box.x0 <= box.x1 <= frame.x1)
        or not (frame.y0 <= box.y0 <= box.y1 <= frame.y1)
    ]


def overlaps(boxes: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other by more than a pixel."""
    return [
        (one, other)
        for index, (one, box) in enumerate(boxes)
        for other, box2 in boxes[index + 1 :]
        if box.padded(-1).overlaps(box2.padded(-1))
    ]


def _axis_ticks(figure: Any) -> list[tuple[Any, Any]]:
    return [(axis, tick) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks() + axis.get_minor_ticks()]  # fmt: skip


def _tick_labels(figure: Any) -> set[Any]:
    return {label for _, tick in _axis_ticks(figure) for label in (tick.label1, tick.label2)}


def _drawn_ticks(figure: Any) -> list[Any]:
    """Labels of ticks inside the view: matplotlib keeps the others, but does not draw them."""
    drawn = []
    for axis, tick in _axis_ticks(figure):
        low, high = sorted(axis.get_view_interval())
        if low <= tick.get_loc() <= high:
            drawn.append(tick.label1)
    return drawn


@pytest.mark.parametrize("draw", EVERY_FIGURE.values(), ids=EVERY_FIGURE.keys())
def test_no_text_is_cut_off_or_covered(draw: Any) -> None:
    figure = draw()
    boxes = text_boxes(figure)
    assert boxes
    assert cut_off(figure, boxes) == []
    assert overlaps(boxes) == []


def test_the_checks_of_texts_can_fail() -> None:
    figure = distribution()
    figure.text(0.98, 0.5, "this sticks out")
    figure.text(0.5, 0.5, "over")
    figure.text(0.5, 0.5, "under")
    boxes = text_boxes(figure)
    assert cut_off(figure, boxes) == ["this sticks out"]
    assert overlaps(boxes) == [("over", "under")]


# --- imports ------------------------------------------------------------------------------------


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_matplotlib_is_imported_late_and_pyplot_never() -> None:
    code = """
        import sys
        from zeromean import figures
        print("matplotlib" in sys.modules)
        figures.terminal_histogram([0, 1], [1, 1])
        print("matplotlib" in sys.modules)
        figures.distribution([0, 1], [1, 1])
        print("matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
    """
    assert run_python(code).split() == ["False", "False", "True", "False"]


def test_without_matplotlib_the_error_says_what_to_install() -> None:
    code = """
        import sys
        sys.modules["matplotlib"] = None
        sys.modules["matplotlib.figure"] = None
        from zeromean import figures
        try:
            figures.mean_image([[1.0]])
        except ImportError as error:
            print(error)
    """
    assert run_python(code) == 'figures are drawn with matplotlib: pip install "zeromean[plot]"'


def test_dots_are_seen_in_pixels_and_small_in_a_drawing(tmp_path):
    """A line without length is dropped by one back end or the other; a marker each is large."""
    from zeromean.figures import save
    from zeromean.figures.style import dots, new_figure

    figure = new_figure(2, 2)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 400), ylim=(0, 2))
    axes.set_axis_off()
    dots(axes, range(0, 400, 20), [1.0] * 19 + [float("nan")], 3, color="#d55e00")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    colored = (np.asarray(canvas.buffer_rgba())[..., 2] < 128).any(axis=0)
    assert np.count_nonzero(np.diff(colored.astype(int)) == 1) == 19
    assert "<use" not in save(figure, tmp_path / "dots.svg").read_text()
