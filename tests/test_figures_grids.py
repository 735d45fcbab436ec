"""Grids of pictures: what is drawn where, on which scale, and that every word is readable."""

from __future__ import annotations

import numpy as np
import pytest

from zeromean import figures

pytest.importorskip("matplotlib")

from test_figures import cut_off, overlaps, text_boxes


def pictures(count=5, channels=3, seed=0):
    shape = (count, 11, 12) if channels == 0 else (count, 11, 12, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def drawn(axes):
    """The sheet that a panel shows."""
    return np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_pictures_stand_row_by_row_with_a_gap(channels):
    x = pictures(channels=channels)
    sheet = drawn(figures.picture_grids({"original": x}, columns=2).axes[0])
    assert sheet.shape[:2] == (3 * 12 - 1, 2 * 13 - 1)
    assert sheet.ndim == (3 if channels == 3 else 2)
    expected = x[..., 0] if channels == 1 else x
    for i, picture in enumerate(expected):
        y, across = i // 2 * 12, i % 2 * 13
        assert np.array_equal(sheet[y : y + 11, across : across + 12], picture / 255)
    assert (sheet[11] == 1).all()
    assert (sheet[24:, 13:] == 1).all()  # nothing beside the fifth


def test_integers_are_shown_as_they_are_and_floats_centered():
    x = pictures(9)
    centered = x - 100.0
    one, two = figures.picture_grids({"original": x, "zero-mean": centered}).axes
    assert one.get_title(loc="right") == "black to white: 0 to 255"
    reach = np.percentile(np.abs(centered), 99)
    assert two.get_title(loc="right") == f"black to white: −{reach:.3g} to {reach:.3g}"
    shown = drawn(two)[:11, :12]
    assert np.allclose(shown, np.clip(centered[0] / (2 * reach) + 0.5, 0, 1))
    assert drawn(figures.picture_grids({"flat": np.zeros((1, 4, 4))}).axes[0]).tolist() == (
        np.full((4, 4), 0.5).tolist()
    )


def test_values_that_are_not_finite_are_drawn():
    x = np.zeros((1, 4, 4))
    x[0, 0] = np.nan, np.inf, -np.inf, 1.0
    assert drawn(figures.picture_grids({"odd": x}).axes[0])[0].tolist() == [0.5, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("count", [1, 2, 9, 30])
def test_no_text_is_cut_off_or_covered(count):
    x = pictures(count)
    panels = {"original": x, "zero-mean": x - 127.5, "whitened (ZCA)": x / 64 - 2}
    figure = figures.picture_grids(
        panels, captions=["values", "$less$", "white"], title="Pictures " * 9, note="A note " * 40
    )
    boxes = text_boxes(figure)
    assert len(boxes) == 3 * 3 + 2
    assert cut_off(figure, boxes) == []
    assert overlaps(boxes) == []


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="the same pictures"):
        figures.picture_grids({"a": pictures(2), "b": pictures(3)})
    with pytest.raises(ValueError, match="the same pictures"):
        figures.picture_grids({})
    for shape in ((4, 4), (2, 4, 4, 2), (0, 4, 4)):
        with pytest.raises(ValueError, match="pictures have shape"):
            figures.picture_grids({"a": np.zeros(shape)})
