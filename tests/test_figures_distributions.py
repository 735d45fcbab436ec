"""Histogram figures show the counts and means that they are given, and say what they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from figure_samples import VALUES, distribution, outlines, rgb_counts, three, vertical_lines
from zeromean import figures
from zeromean.figures import style

matplotlib = pytest.importorskip("matplotlib")

pytestmark = pytest.mark.filterwarnings("error")


def moments(values: Any, counts: Any) -> tuple[Any, Any]:
    """Mean and std from a histogram, the textbook way."""
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    return mean, np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))


def test_distribution_draws_the_shares_with_area_one() -> None:
    figure = distribution()
    (axes,) = figure.axes
    counts = rgb_counts()
    assert len(outlines(axes)) == 3
    for patch, channel in zip(outlines(axes), counts, strict=True):
        drawn = patch.get_data()
        np.testing.assert_array_equal(drawn.edges, np.arange(257) - 0.5)
        np.testing.assert_allclose(drawn.values, channel / channel.sum(), rtol=1e-15)
        assert np.sum(drawn.values * np.diff(drawn.edges)) == pytest.approx(1, abs=1e-12)


def test_distribution_marks_the_means_that_it_is_given() -> None:
    (axes,) = distribution(mean=[10.0, 100.0, 200.0], std=[3.0, 5.0, 70.0]).axes
    assert vertical_lines(axes) == [10.0, 100.0, 200.0]
    bands = [list(line.get_xdata()) for line in axes.lines if len(set(line.get_xdata())) == 2]
    assert bands == [[7, 13], [95, 105], [130, 255.5]]  # the last one ends with the axis


def test_distribution_works_out_missing_means() -> None:
    (axes,) = distribution().axes
    mean, _ = moments(VALUES, rgb_counts())
    np.testing.assert_allclose(vertical_lines(axes), mean, rtol=1e-13)


def test_distribution_says_what_is_drawn() -> None:
    figure = distribution(mean=[1, 2, 3], std=[4, 5, 6], title="Photos")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "pixel value (0..255)"
    assert axes.get_ylabel() == "share of pixels per value"
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["R  mean 1, std 4", "G  mean 2, std 5", "B  mean 3, std 6"]
    assert figure.texts[0].get_text() == "Photos"
    assert list(axes.get_xticks()) == [0, 64, 128, 192, 255]


def test_channels_have_their_colors_and_different_lines() -> None:
    (axes,) = distribution().axes
    drawn = outlines(axes)
    colors = [matplotlib.colors.to_hex(patch.get_edgecolor()) for patch in drawn]
    assert colors == [style.CHANNEL_COLORS[channel] for channel in "rgb"]
    assert len({str(patch.get_linestyle()) for patch in drawn}) == 3


def test_a_single_feature_has_one_color_and_no_name() -> None:
    figure = figures.distribution([0, 1, 2], [1, 2, 1])
    (patch,) = outlines(figure.axes[0])
    assert matplotlib.colors.to_hex(patch.get_edgecolor()) == style.SINGLE_COLOR
    assert figure.legends[0].get_texts()[0].get_text() == "mean 1, std 0.7071"


def test_many_bins_are_added_up_without_losing_any() -> None:
    counts = np.random.default_rng(0).integers(0, 99, 65536)
    (patch,) = outlines(figures.distribution(np.arange(65536), counts).axes[0])
    drawn = patch.get_data()
    assert drawn.values.size == 256
    np.testing.assert_array_equal(drawn.edges, np.arange(257) * 256 - 0.5)
    expected = counts.reshape(256, 256).sum(axis=1) / counts.sum() / 256
    np.testing.assert_allclose(drawn.values, expected, rtol=1e-14)


def test_twelve_bits_in_sixteen_show_only_the_occupied_range() -> None:
    counts = np.zeros(65536, np.int64)
    counts[:4096] = 1
    (patch,) = outlines(figures.distribution(np.arange(65536), counts).axes[0])
    drawn = patch.get_data()
    assert (drawn.edges[0], drawn.edges[-1]) == (-0.5, 4095.5)
    np.testing.assert_allclose(drawn.values, 1 / 4096, rtol=1e-14)


def test_uneven_values_keep_their_area() -> None:
    codes = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    values = np.unique(codes[np.isfinite(codes)])
    sample = np.random.default_rng(0).normal(0, 1, 5000).astype(np.float16).astype(np.float64)
    counts = np.bincount(np.searchsorted(values, sample), minlength=values.size)
    (patch,) = outlines(figures.distribution(values, counts).axes[0])
    drawn = patch.get_data()
    assert drawn.values.size <= 256
    assert drawn.edges[0] <= sample.min() <= sample.max() <= drawn.edges[-1]
    assert np.sum(drawn.values * np.diff(drawn.edges)) == pytest.approx(1, abs=1e-12)
    for low, high, value in zip(drawn.edges, drawn.edges[1:], drawn.values, strict=False):
        inside = np.count_nonzero((sample >= low) & (sample < high)) / sample.size
        assert value * (high - low) == pytest.approx(inside, abs=1e-12)


def test_edges_are_taken_as_they_are() -> None:
    (axes,) = figures.distribution([0.0, 1.0, 4.0], [3, 3]).axes
    drawn = outlines(axes)[0].get_data()
    np.testing.assert_array_equal(drawn.edges, [0, 1, 4])
    np.testing.assert_allclose(drawn.values, [0.5, 0.5 / 3])
    assert vertical_lines(axes) == [1.5]


def test_a_spike_is_cut_and_named() -> None:
    counts = np.full(256, 10)
    counts[0] = 5000
    figure = figures.distribution(VALUES, counts)
    share = 5000 / counts.sum()
    assert figure.axes[0].get_ylim()[1] < 0.1 * share
    assert figure.texts[1].get_text() == f"Taller than shown: {100 * share:.0f} % at 0."
    assert outlines(figure.axes[0])[0].get_data().values[0] == pytest.approx(share)


def test_nothing_is_said_to_be_cut_when_nothing_is() -> None:
    figure = figures.distribution(VALUES, VALUES)
    assert figure.texts[1].get_text() == ""
    assert figure.axes[0].get_ylim()[1] > VALUES.max() / VALUES.sum()


@pytest.mark.parametrize("n_features", [9, 60])
def test_more_than_eight_features_become_rows(n_features: int) -> None:
    counts = np.zeros((n_features, 101), np.int64)
    counts[:, :] = 1
    figure = figures.distribution(np.arange(101), counts, counted="pixels", unit="pixel value")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "pixel value"
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        str(index) for index in range(n_features)
    ]
    segments = axes.collections[0].get_segments()
    assert len(segments) == n_features
    np.testing.assert_array_equal(segments[3], [[5, 3], [95, 3]])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["5 to 95 % of the pixels", "mean ± std", "mean"]


@pytest.mark.parametrize("draw", [figures.distribution, figures.three_distributions])
def test_wrong_arrays_are_refused_with_both_shapes(draw: Any) -> None:
    with pytest.raises(
        ValueError, match=r"values of shape \(3,\) do not fit counts of shape \(1, 9"
    ):
        draw([0, 1, 2], np.ones(9))
    with pytest.raises(ValueError, match="finite and increasing"):
        draw([0, np.nan], [1, 1])
    with pytest.raises(ValueError, match="finite and increasing"):
        draw([1, 0], [1, 1])
    with pytest.raises(ValueError, match="expected 1 names"):
        draw([0, 1], [1, 1], names=["a", "b"])
    with pytest.raises(ValueError, match="one number for each of the 1 features, got 2"):
        draw([0, 1], [1, 1], mean=[0.5, 0.5])


# --- three distributions ------------------------------------------------------------------------


def test_three_panels_transform_the_edges_exactly() -> None:
    counts = rgb_counts()
    mean, std = moments(VALUES, counts)
    figure = three(mean=mean, std=std)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "original",
        "zero-mean",
        "standardized",
    ]
    edges = np.arange(0, 257, 2) - 0.5
    pairs = counts.reshape(3, 128, 2).sum(axis=2) / counts.sum(axis=1, keepdims=True)
    shifts, scales = [0 * mean, mean, mean], [1 + 0 * std, 1 + 0 * std, std]
    for axes, shift, scale in zip(figure.axes, shifts, scales, strict=True):
        assert len(outlines(axes)) == 3
        for channel, patch in enumerate(outlines(axes)):
            drawn = patch.get_data()
            expected = (edges - shift[channel]) / scale[channel]
            np.testing.assert_allclose(drawn.edges, expected, rtol=1e-14)
            np.testing.assert_allclose(drawn.values, pairs[channel] / 2 * scale[channel])
            assert np.sum(drawn.values * np.diff(drawn.edges)) == pytest.approx(1, abs=1e-12)


def test_three_panels_mark_zero_and_the_means() -> None:
    mean = [10.0, 100.0, 200.0]
    figure = three(mean=mean, std=[5.0, 6.0, 7.0])
    for axes, expected in zip(figure.axes, [mean, [0] * 3, [0] * 3], strict=True):
        assert vertical_lines(axes) == [*expected, 0.0]
        low, high = axes.get_xlim()
        assert low < 0 < high


def test_equal_ink_is_equal_share_in_all_panels() -> None:
    sizes = []
    for axes in three().axes:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert bottom == 0
        sizes.append((right - left) * top)
    np.testing.assert_allclose(sizes, sizes[0], rtol=1e-12)
    spans = [np.ptp(axes.get_xlim()) for axes in three().axes]
    assert spans[0] == pytest.approx(spans[1])


def test_captions_say_what_the_network_sees() -> None:
    figure = three(mean=[10.0, 100.0, 125.0], std=[50.0, 60.0, 70.0])
    captions = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert captions == [
        ["all inputs ≥ 0", "mean 10 to 125"],
        ["centered on 0", "spans −125 to 245"],
        ["mean 0, std 1", "spans −1.79 to 4.9"],
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "pixel value (0..255)",
        "pixel value − mean",
        "standard deviations from the mean",
    ]


@pytest.mark.parametrize(
    ("values", "headline"),
    [([0, 1], "all inputs ≥ 0"), ([-3, -1], "all inputs ≤ 0"), ([-3, 1], "off center")],
)
def test_the_first_caption_looks_at_the_signs(values: list[int], headline: str) -> None:
    figure = figures.three_distributions(values, [1, 2])
    assert figure.axes[0].texts[0].get_text() == headline


def test_constant_features_are_divided_by_one() -> None:
    counts = np.zeros((2, 10), np.int64)
    counts[0, 4] = 5
    counts[1, [0, 9]] = 1
    figure = figures.three_distributions(np.arange(10), counts, names=["a", "b"])
    drawn = outlines(figure.axes[2])[0].get_data()
    np.testing.assert_allclose(drawn.edges, np.arange(11) - 4.5)
    assert figure.axes[2].texts[1].get_text() == "spans −1 to 1; constant: a"
    alone = figures.three_distributions([7], [3])
    assert alone.axes[2].texts[0].get_text() == "constant: all 0"


def test_an_empty_channel_is_named_and_left_blank() -> None:
    counts = rgb_counts()
    counts[2] = 0
    figure = figures.three_distributions(VALUES, counts, names=["R", "G", "B"])
    assert figure.legends[0].get_texts()[2].get_text() == "B  no values"
    assert len(figure.axes[1].texts) == 2
    none = figures.three_distributions(VALUES, 0 * counts)
    assert {axes.texts[0].get_text() for axes in none.axes} == {"no values"}


def test_three_distributions_refuses_nine_features() -> None:
    with pytest.raises(
        ValueError, match="at most 8 features, not 9: pick some of them, or use dis"
    ):
        figures.three_distributions([0, 1], np.ones((9, 2)))


def test_counts_beyond_int64_are_drawn() -> None:
    figure = figures.three_distributions([0, 1], [10**30, 3 * 10**30])
    np.testing.assert_allclose(outlines(figure.axes[0])[0].get_data().values, [0.25, 0.75])
