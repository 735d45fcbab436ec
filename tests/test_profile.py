"""Profiles: every read-out, every shape, adding, subtracting, and what they say of themselves."""

from __future__ import annotations

import math
import pickle
import warnings
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zeromean as zm
from strategies import (
    COUNTED,
    arrays,
    is_nearest_root,
    numbers,
    numpy_dtype,
    rounded,
    seeds,
    tempers,
    truth,
)
from zeromean.errors import MergeError, PatternError, UnitError, ZeromeanWarning
from zeromean.profile import Profile
from zeromean.readouts import HistogramReadout

RNG = np.random.default_rng(20)
PICTURES = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
TABLE = RNG.normal(size=(50, 3))
PER_CHANNEL, PER_PIXEL, ALL = "n h w c -> c", "n h w c -> h w c", "n h w c ->"


def channels(pictures=PICTURES, **options):
    return zm.measure(pictures, PER_CHANNEL, **options)


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [(ALL, ()), (PER_CHANNEL, (3,)), (PER_PIXEL, (5, 4, 3)), ("n h w c -> c h", (3, 5))],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "int64"])
def test_every_readout_has_the_kept_shape(pattern, shape, dtype):
    profile = zm.measure(PICTURES.astype(dtype), pattern)
    assert shape == profile.kept_shape
    assert math.prod(shape) == profile.n_features
    names = ["mean", "std", "min", "max", "count", "nan_count", "inf_count", "constant"]
    for name in names:
        value = getattr(profile, name)
        assert shape == np.shape(value), name
        if shape:
            assert not value.flags.writeable, name
        else:
            assert isinstance(value, np.generic), name
    assert shape == np.shape(profile.var()) == np.shape(profile.sample_std())
    for name in ("mean", "std"):
        assert getattr(profile, name).dtype == np.float64
    for name in ("count", "nan_count", "inf_count"):
        assert getattr(profile, name).dtype == np.int64
    assert profile.min.dtype == (np.float64 if "float" in dtype else np.int64)


def test_numpy_agrees_where_numpy_is_accurate():
    for pattern, axes in ((ALL, (0, 1, 2, 3)), (PER_CHANNEL, (0, 1, 2)), (PER_PIXEL, (0,))):
        profile = zm.measure(PICTURES, pattern)
        np.testing.assert_allclose(profile.mean, PICTURES.mean(axes), rtol=1e-14)
        np.testing.assert_allclose(profile.std, PICTURES.std(axes), rtol=1e-14)
        np.testing.assert_allclose(profile.var(1), PICTURES.var(axes, ddof=1), rtol=1e-14)
        assert (profile.min == PICTURES.min(axes)).all()
        assert (profile.max == PICTURES.max(axes)).all()
        assert (profile.count == PICTURES.size // max(profile.n_features, 1)).all()


def test_kept_axes_come_in_the_order_of_the_right_side():
    one, two = zm.measure(PICTURES, "n h w c -> h c"), zm.measure(PICTURES, "n h w c -> c h")
    assert (one.mean == two.mean.T).all()
    assert (one.max == two.max.T).all()
    assert one != two


def test_ddof():
    profile = zm.measure(np.array([[1.0], [3.0], [8.0]]))
    assert profile.var().tolist() == [rounded(Fraction(26, 3))]
    assert profile.var(1).tolist() == [13.0]
    assert profile.var(2).tolist() == [26.0]
    assert np.isnan(profile.var(3)).all()
    assert np.isnan(profile.var(4)).all()
    assert profile.sample_std(1).tolist() == [math.sqrt(13)]
    assert np.isnan(profile.sample_std(3)).all()


# ---------------------------------------------------------------- units


def test_unit_readouts_are_rounded_once():
    """Σx / (n 255) from the integers, not mean / 255: those two differ in the last digit."""
    twice_rounded = 0
    for seed in range(30):
        pictures = np.random.default_rng(seed).integers(0, 256, (1, 7, 11, 3), np.uint8)
        profile = channels(pictures)
        for j in range(3):
            true = truth(pictures[..., j])
            assert profile.unit_mean[j] == rounded(true.sum / (true.n * 255))
            assert is_nearest_root(profile.unit_std[j], true.var() / 255**2)
        twice_rounded += (profile.mean / 255 != profile.unit_mean).any()
        twice_rounded += (profile.std / 255 != profile.unit_std).any()
    assert twice_rounded > 0


def test_ranges_of_formats():
    deep = np.array([[0], [65535]], np.uint16)
    assert zm.measure(deep).unit_mean.tolist() == [0.5]
    assert zm.measure(deep).units.range == (0, 65535)
    assert zm.measure(np.array([True, False, True, True])).unit_mean == 0.75
    for dtype in ("int8", "int16", "float32", "int64", "uint32"):
        profile = zm.measure(np.ones((2, 1), dtype))
        assert profile.unit_mean is profile.unit_std is profile.units.range is None
    ranged = zm.measure(np.full((2, 1), 0.25, np.float32), range=(0, 0.5))
    assert ranged.unit_mean.tolist() == [0.5]
    assert zm.measure(np.ones(3, np.int8), range=(-128, 127)).unit_mean is None


@pytest.mark.parametrize("limits", [(1, 0), (0, 0), (0, math.inf), (math.nan, 1), (0,), (0, 1, 2)])
def test_impossible_ranges_are_refused(limits):
    with pytest.raises(UnitError, match="range must be"):
        zm.measure(TABLE, range=limits)


def test_names():
    assert channels(channels="RGB").names == ["R", "G", "B"]
    assert channels().names == ["0", "1", "2"]
    assert zm.measure(PICTURES, ALL).names == ["all"]
    assert zm.measure(PICTURES, PER_PIXEL).names[:4] == ["0,0,0", "0,0,1", "0,0,2", "0,1,0"]
    assert zm.measure(TABLE, feature_names=["a", "b", "c"]).names == ["a", "b", "c"]
    with pytest.raises(PatternError, match=r"2 feature names.*3"):
        zm.measure(TABLE, feature_names=["a", "b"])


# ---------------------------------------------------------------- quantiles and histogram


@given(arrays(st.tuples(st.integers(1, 40), st.integers(1, 2)), COUNTED), st.floats(0, 1), seeds)
@pytest.mark.filterwarnings("ignore:.*infinite value:zeromean.ZeromeanWarning")
def test_quantiles_are_those_of_numpy_rounded_once(array, q, seed):
    """NumPy interpolates in floating point; here it is the exact rational, rounded once."""
    profile = zm.measure(array, "n d -> d")
    quantiles = [0.0, q, 0.5, seed / 2**32, 1.0]
    values = profile.quantile(quantiles)
    assert values.shape == (5, array.shape[1])
    with np.errstate(invalid="ignore"):
        wide = array.astype(np.float64)
    for j in range(array.shape[1]):
        held = sorted(wide[np.isfinite(wide[:, j]), j].tolist())
        if not held:
            assert np.isnan(values[:, j]).all()
            continue
        expected = np.quantile(held, quantiles, method="linear")
        np.testing.assert_allclose(values[:, j], expected, rtol=1e-12, atol=1e-300)
        for p, value in zip(quantiles, values[:, j].tolist(), strict=True):
            position = Fraction(p) * (len(held) - 1)
            k = math.floor(position)
            low, high = Fraction(held[k]), Fraction(held[min(k + 1, len(held) - 1)])
            assert value == rounded(low + (high - low) * (position - k))
        low, high = profile.quantile_bounds(quantiles)
        assert (low == high).all()
        assert low[:, j].tolist() == np.quantile(held, quantiles, method="lower").tolist()


def test_shapes_of_quantiles():
    profile = channels()
    assert profile.quantile(0.5).shape == (3,)
    assert profile.quantile([0.1, 0.9]).shape == (2, 3)
    assert np.shape(zm.measure(PICTURES, ALL).quantile(0.5)) == ()
    assert zm.measure(PICTURES, ALL).quantile([0.5]).shape == (1,)
    assert profile.quantile(np.zeros((2, 5))).shape == (2, 5, 3)
    assert (profile.quantile(0) == profile.min).all()
    assert (profile.quantile(1) == profile.max).all()


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan, [0.5, 2]])
def test_quantiles_out_of_range_are_refused(q):
    with pytest.raises(PatternError, match="between 0 and 1"):
        channels().quantile(q)


def test_summed_data_has_no_exact_quantiles_and_says_what_to_do():
    profile = zm.measure(TABLE)
    with pytest.raises(PatternError, match="quantiles=True"):
        profile.quantile(0.5)
    with pytest.raises(PatternError, match="quantiles=True"):
        profile.quantile_bounds(0.5)
    with pytest.raises(PatternError, match="no histogram"):
        _ = profile.histogram


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "temper", ["normal", "wide", "tiny", "denormal", "huge", "special", "bits", "zeros"]
)
@pytest.mark.filterwarnings("ignore:.*infinite value:zeromean.ZeromeanWarning")
def test_quantile_bounds_hold_the_true_quantile(dtype, temper):
    """For any float, also those that float32 cannot hold; within 1/128 for ordinary ones."""
    block = numbers(dtype, temper, (301, 2), seed=12)
    profile = zm.measure(block, quantiles=True)
    quantiles = np.linspace(0, 1, 41)
    low, high = profile.quantile_bounds(quantiles)
    for j in range(2):
        with np.errstate(invalid="ignore"):
            wide = block[:, j].astype(np.float64)
        held = np.sort(wide[np.isfinite(wide)])
        ranks = [math.floor(Fraction(q) * (len(held) - 1)) for q in quantiles.tolist()]
        expected = held[ranks]
        assert (low[:, j] <= expected).all()
        assert (expected <= high[:, j]).all()
        if temper == "normal":
            assert (high[:, j] - low[:, j] <= np.abs(expected) / 128).all()


@pytest.mark.parametrize("dtype", COUNTED)
@pytest.mark.filterwarnings("ignore:.*infinite value:zeromean.ZeromeanWarning")
def test_histogram_holds_every_value(dtype):
    for temper in tempers(dtype):
        block = numbers(dtype, temper, (99, 2), seed=13)
        profile = zm.measure(block)
        values, counts = profile.histogram
        assert isinstance(profile.histogram, HistogramReadout)
        assert counts.shape == (2, len(values))
        assert (np.diff(values) > 0).all()
        assert not np.signbit(values[values == 0]).any()
        assert (counts.sum(axis=1) == profile.count).all()
        with np.errstate(invalid="ignore"):
            wide = block.astype(np.float64)
        for j in range(2):
            held = np.sort(wide[np.isfinite(wide[:, j]), j]) + 0.0
            assert np.repeat(values, counts[j]).tolist() == held.tolist()
    assert zm.measure(block[:, 0]).histogram.counts.shape == (len(values),)


# ---------------------------------------------------------------- NaN and inf


def test_nan_and_inf_are_counted_and_left_out():
    values = np.array([[1.0, np.nan], [np.inf, np.nan], [3.0, -np.inf], [np.nan, np.inf]])
    with pytest.warns(ZeromeanWarning, match="3 infinite value"):
        profile = zm.measure(values)
    assert profile.count.tolist() == [2, 0]
    assert profile.nan_count.tolist() == [1, 2]
    assert profile.inf_count.tolist() == [1, 2]
    assert profile.min.tolist()[0] == 1.0
    with pytest.warns(ZeromeanWarning, match="mean is NaN: 1 are empty"):
        assert profile.mean[0] == 2.0
    assert math.isnan(profile.max[1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_alone_warns_of_nothing(dtype):
    profile = zm.measure(np.array([1.0, np.nan], dtype))
    assert (profile.nan_count, profile.inf_count, profile.mean) == (1, 0, 1.0)


# ---------------------------------------------------------------- empty


@pytest.mark.parametrize("dtype", ["uint8", "float16", "int64", "float32"])
@pytest.mark.parametrize("pattern", [ALL, PER_CHANNEL, PER_PIXEL])
def test_empty_is_a_value(dtype, pattern):
    full = zm.measure(PICTURES.astype(dtype), pattern)
    empty = zm.measure(PICTURES[:0].astype(dtype), pattern)
    assert empty + full == full == full + empty
    assert full - empty == full
    assert full - full == empty == empty + empty == empty - empty
    assert (empty.count == 0).all()
    for read in ("mean", "std"):
        with pytest.warns(ZeromeanWarning, match="empty"):
            assert np.isnan(getattr(empty, read)).all()
    with pytest.warns(ZeromeanWarning, match="empty"):
        assert np.isnan(empty.var(1)).all()
    assert np.isnan(empty.min).all()
    assert np.isnan(empty.max).all()
    assert not np.any(empty.constant)
    assert "0 values" in repr(empty)
    if dtype in COUNTED and pattern != PER_PIXEL:
        assert np.isnan(empty.quantile([0.1, 0.5])).all()
        assert empty.histogram.counts.sum() == 0


def test_repr_of_an_empty_profile_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for empty in (zm.measure(TABLE[:0]), zm.measure(TABLE[:, :0]), channels(PICTURES[:0])):
            assert repr(empty)
            assert empty._repr_html_()


# ---------------------------------------------------------------- algebra


def test_profiles_of_parts_sum_up():
    parts = [channels(part) for part in np.array_split(PICTURES, 4)]
    whole = sum(parts)
    assert whole == channels()
    assert (whole.std == channels().std).all()
    assert whole.provenance.items == 6
    assert isinstance(whole, Profile)


def test_subtraction_gives_the_rest_and_marks_what_it_cannot_know():
    floats = zm.measure(TABLE)
    rest = floats - zm.measure(TABLE[:20])
    assert rest == zm.measure(TABLE[20:])
    assert (rest.mean == zm.measure(TABLE[20:]).mean).all()
    assert not rest.extrema_exact
    assert floats.extrema_exact
    assert (rest.min <= TABLE[20:].min(0)).all()
    assert (rest.max >= TABLE[20:].max(0)).all()
    assert "bounds" in repr(rest)
    assert "bounds" in rest._repr_html_()
    assert not (rest + floats).extrema_exact
    assert rest + zm.measure(TABLE[:20]) == floats
    counted = channels() - channels(PICTURES[:2])
    assert counted.extrema_exact
    assert (counted.max == PICTURES[2:].max((0, 1, 2))).all()
    assert counted.mean_of_item_stds.tolist() == channels(PICTURES[2:]).mean_of_item_stds.tolist()


def test_subtracting_everything_leaves_no_extrema():
    nothing = zm.measure(TABLE) - zm.measure(TABLE)
    assert nothing == zm.measure(TABLE[:0])
    assert np.isnan(nothing.min).all()
    assert (nothing + zm.measure(TABLE[:5])).min.tolist() == TABLE[:5].min(0).tolist()


def test_subtracting_what_was_never_added_is_refused():
    for other in (np.full((1, 3), 99.0), TABLE[:1] * 99, np.concatenate([TABLE, TABLE])):
        with pytest.raises(MergeError, match="cannot subtract"):
            zm.measure(TABLE) - zm.measure(other)
    with pytest.raises(MergeError, match="cannot subtract"):
        channels(PICTURES[:1]) - channels(PICTURES[1:2])
    # the sums alone would allow it: 5 ± 1 taken out of 5 ± 3, 5 ± 3
    some, others = np.array([2.0, 8.0, 2.0, 8.0]), np.array([-4.0])
    with pytest.raises(MergeError, match="cannot subtract"):
        zm.measure(some) - zm.measure(others)


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        (
            lambda: channels(),
            lambda: zm.measure(PICTURES, PER_PIXEL),
            "pattern: 'n h w c -> c' and 'n h w c -> h w c'",
        ),
        (lambda: channels(), lambda: channels(PICTURES[..., :2]), r"kept shape: \(3,\) and \(2,\)"),
        (
            lambda: channels(),
            lambda: channels(PICTURES.astype(np.int16)),
            "dtype: 'uint8' and 'int16'",
        ),
        (
            lambda: channels(channels="RGB"),
            lambda: channels(channels="BGR"),
            "units: RGB 0..255 and BGR 0..255",
        ),
        (
            lambda: zm.measure(TABLE, feature_names=list("abc")),
            lambda: zm.measure(TABLE, feature_names=list("abd")),
            r"feature names: \('a', 'b', 'c'\) and \('a', 'b', 'd'\)",
        ),
    ],
)
def test_different_things_do_not_add_and_the_difference_is_named(one, two, said):
    first, second = one(), two()
    assert first != second
    with pytest.raises(MergeError, match=f"cannot add profiles that differ in {said}"):
        first + second
    with pytest.raises(MergeError, match=f"cannot subtract profiles that differ in {said}"):
        first - second


def test_profiles_with_and_without_buckets_do_not_add():
    """Else the sum would have no quantiles, and the order of adding would decide nothing less."""
    one, two = zm.measure(TABLE), zm.measure(TABLE, quantiles=True)
    assert one != two
    with pytest.raises(MergeError, match="quantiles"):
        one + two


def test_profiles_add_to_profiles_only():
    for other in (1, "x", None, TABLE):
        with pytest.raises((MergeError, TypeError)):
            channels() + other
        with pytest.raises((MergeError, TypeError)):
            channels() - other
    assert channels() != 3
    with pytest.raises(TypeError):
        hash(channels())


def test_profile_is_immutable_and_pickles():
    profile = channels()
    with pytest.raises(FrozenInstanceError):
        profile.dtype = "int8"
    copy = pickle.loads(pickle.dumps(profile))
    assert copy == profile
    assert (copy.mean == profile.mean).all()


def test_equality_ignores_provenance_and_extrema():
    rest = zm.measure(TABLE) - zm.measure(TABLE[:20])
    assert rest == zm.measure(TABLE[20:])
    assert zm.measure(iter(list(PICTURES)), PER_CHANNEL) == channels()


# ---------------------------------------------------------------- three stds


def test_three_stds():
    profile = channels()
    stds = PICTURES.std(axis=(1, 2))
    np.testing.assert_allclose(profile.mean_of_item_stds, stds.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(
        profile.root_mean_item_variance, np.sqrt((stds**2).mean(axis=0)), rtol=1e-14
    )
    assert (profile.mean_of_item_stds <= profile.root_mean_item_variance).all()
    assert (profile.root_mean_item_variance <= profile.std).all()
    assert zm.measure(TABLE).mean_of_item_stds is None
    assert zm.measure(PICTURES, PER_PIXEL).root_mean_item_variance is None
    assert zm.measure(PICTURES[:0], PER_CHANNEL).mean_of_item_stds is None


# ---------------------------------------------------------------- what it says of itself


def test_repr_is_a_table():
    text = repr(channels(channels="RGB"))
    head, *lines = text.splitlines()
    assert head == 'Profile("n h w c -> c", uint8 (RGB 0..255), 6 items, 360 values)'
    assert lines[0].split() == ["feature", "mean", "std", "min", "max"]
    assert [line.split()[0] for line in lines[1:]] == ["R", "G", "B"]
    assert len({len(line) for line in lines}) == 1
    assert f"{PICTURES[..., 0].mean():.7g}" in lines[1]


def test_repr_stays_short():
    text = repr(zm.measure(PICTURES, PER_PIXEL))
    assert len(text.splitlines()) == 15
    assert "... and 48 more" in text
    wide = zm.measure(np.zeros((2, 100_000), np.uint8))
    assert "... and 99,988 more" in repr(wide)


def test_repr_counts_nan_and_inf_only_where_there_are_some():
    with pytest.warns(ZeromeanWarning):
        profile = zm.measure(np.array([[1.0], [np.nan], [np.inf]]))
    assert repr(profile).splitlines()[1].split()[-2:] == ["NaN", "inf"]
    assert "NaN" not in repr(zm.measure(TABLE))


def test_html_is_escaped():
    page = zm.measure(TABLE, feature_names=["<script>", "b & c", "d"])._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "b &amp; c" in page
    assert page.count("<tr>") == 4


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize("kind", ["distribution", "three", "features"])
def test_plots_are_figures(kind):
    figure = pytest.importorskip("matplotlib.figure")
    assert isinstance(channels(channels="RGB").plot(kind), figure.Figure)
    half = zm.measure(TABLE.astype(np.float16))
    assert isinstance(half.plot(kind), figure.Figure)


def test_plots_of_mean_images_and_of_summed_data():
    figure = pytest.importorskip("matplotlib.figure")
    assert isinstance(zm.measure(PICTURES, PER_PIXEL).plot("image"), figure.Figure)
    assert isinstance(zm.measure(TABLE).plot(), figure.Figure)
    assert isinstance(zm.measure(TABLE).plot("features"), figure.Figure)


def test_plots_that_cannot_be_drawn_say_why():
    pytest.importorskip("matplotlib")
    with pytest.raises(PatternError, match="kind is 'pie'; choose one of"):
        channels().plot("pie")
    with pytest.raises(PatternError, match="a mean image needs a pattern"):
        channels().plot("image")
    with pytest.raises(PatternError, match="empty"):
        channels(PICTURES[:0]).plot()
    with pytest.raises(PatternError, match="no histogram"):
        zm.measure(TABLE).plot("three")


def test_zeros_of_half_precision_are_drawn():
    """Both zeros are one bar: the one that was counted."""
    from zeromean.drawing import _histogram

    drawn = _histogram(zm.measure(np.zeros(7, numpy_dtype("float16"))))
    assert drawn["counts"][0][drawn["values"] == 0].tolist() == [7]
