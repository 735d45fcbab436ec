"""Feature summaries and mean images show the numbers that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zeromean import figures

pytest.importorskip("matplotlib")

pytestmark = pytest.mark.filterwarnings("error")


def test_feature_summary_draws_ranges_bands_and_means() -> None:
    figure = figures.feature_summary(
        [0.0, 5.0], [1.0, 2.0], [-3.0, 0.0], [3.0, 9.0], names=["age", "size"], unit="raw units"
    )
    (axes,) = figure.axes
    ranges, bands = axes.collections[:2]
    np.testing.assert_array_equal(ranges.get_segments(), [[[-3, 0], [3, 0]], [[0, 1], [9, 1]]])
    np.testing.assert_array_equal(bands.get_segments(), [[[-1, 0], [1, 0]], [[3, 1], [7, 1]]])
    dots = axes.lines[-1]
    np.testing.assert_array_equal(dots.get_xydata(), [[0, 0], [5, 1]])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["age", "size"]
    assert (axes.get_xlabel(), axes.get_xscale()) == ("raw units", "linear")
    assert axes.yaxis_inverted()


def test_feature_summary_turns_logarithmic_when_magnitudes_differ() -> None:
    small = figures.feature_summary([1, 1000], [0, 0], [1, 1000], [1, 1000])
    large = figures.feature_summary([1, 1001], [0, 0], [1, 1001], [1, 1001])
    assert small.axes[0].get_xscale() == "linear"
    assert large.axes[0].get_xscale() == "symlog"
    assert large.axes[0].get_xlim()[0] == 0
    many = figures.feature_summary(*[10.0 ** np.arange(61)] * 4)
    assert (many.axes[0].get_xscale(), many.axes[0].get_yscale()) == ("linear", "symlog")


def test_more_than_sixty_features_become_bands_over_the_index() -> None:
    mean = np.linspace(-1, 1, 61)
    (axes,) = figures.feature_summary(mean, 0 * mean + 2, mean - 5, mean + 5).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("feature index", "value")
    np.testing.assert_array_equal(axes.lines[-1].get_ydata(), mean)
    tops = [band.get_paths()[0].vertices[:, 1].max() for band in axes.collections]
    assert tops == [6, 3]


def test_names_are_shown_as_they_are_but_short() -> None:
    names = ["price_$a$", "two\nlines", "_hidden", "a" * 20 + "b" * 20]
    figure = figures.distribution([0, 1], np.ones((4, 2), int), names=names)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    shown = [label.split("  ")[0].strip() for label in labels]
    assert shown == ["price_$a$", "two lines", "_hidden", "a" * 14 + "…" + "b" * 9]
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())


def test_feature_summary_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="each of the 2 features, got 3"):
        figures.feature_summary([1, 2], [1, 2, 3], [0, 0], [1, 1])


# --- mean image ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1)])
def test_a_gray_mean_image_has_a_color_bar(shape: tuple[int, ...]) -> None:
    pixels = np.arange(12.0).reshape(shape)
    image_axes, bar = figures.mean_image(pixels, unit="mean gray value").axes
    (image,) = image_axes.get_images()
    np.testing.assert_array_equal(image.get_array(), pixels.reshape(3, 4))
    assert image.get_clim() == (0, 11)
    assert bar.get_ylabel() == "mean gray value"
    assert image_axes.get_xlabel() == "4 × 3 pixels"


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((2, 2, 3), 0.25), 0.25),
        (np.full((2, 2, 3), 51.0), 0.2),
        (np.full((2, 2, 3), 13107.0), 0.2),
        (np.full((2, 2, 3), 51, np.uint8), 0.2),
        (np.full((2, 2, 3), 1e6), 1.0),
    ],
)
def test_an_rgb_mean_image_is_scaled_by_its_top(pixels: Any, expected: float) -> None:
    (axes,) = figures.mean_image(pixels).axes
    np.testing.assert_allclose(axes.get_images()[0].get_array(), expected)


def test_limits_choose_black_and_white() -> None:
    (axes,) = figures.mean_image(np.full((1, 1, 3), 3.0), limits=(2, 4)).axes
    np.testing.assert_allclose(axes.get_images()[0].get_array(), 0.5)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (0, 4), (1, 2, 2, 3)])
def test_other_shapes_are_no_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a mean image has shape"):
        figures.mean_image(np.zeros(shape))
