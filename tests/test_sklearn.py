"""The estimators: exact numbers, laws with `==`, the same behavior as scikit-learn's otherwise."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sklearn", reason='pip install "zeromean[sklearn]"')

from scipy import sparse
from sklearn import config_context, preprocessing
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import zeromean as zm
import zeromean.sklearn as zs
from strategies import FLOAT_TEMPERS, numbers
from zeromean.errors import FormatError, MergeError
from zeromean.rounding import ratio, sqrt_ratio
from zeromean.sklearn.ranges import meeting
from zeromean.statistics import Moments

CLASSES = [getattr(zs, name) for name in zs.ESTIMATORS]
BATCHED = [zs.StandardScaler, zs.MinMaxScaler, zs.MaxAbsScaler, zs.MeanNormalizer, zs.ZeroMean]
by_name = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
batched = pytest.mark.parametrize("cls", BATCHED, ids=lambda cls: cls.__name__)

seeds = st.integers(0, 2**32 - 1)
formats = st.sampled_from(["float32", "float64"])
tempers = st.sampled_from([t for t in FLOAT_TEMPERS if t not in ("bits", "special")])


def normal(rows=50, columns=3, dtype="float64", seed=0):
    """Ordinary data."""
    return np.random.default_rng(seed).normal(5, 2, (rows, columns)).astype(dtype)


def with_nan(x, seed=0):
    """The same with a tenth of the values missing."""
    x = x.copy()
    x[np.random.default_rng(seed).random(x.shape) < 0.1] = np.nan
    return x


def readouts(estimator):
    """Everything fitted, as bytes."""
    names = [n for n in dir(estimator) if n.endswith("_") and not n.startswith("_")]
    values = {n: getattr(estimator, n) for n in names if n != "feature_names_in_"}
    return {
        n: None if v is None else (np.asarray(v).dtype.name, np.asarray(v).tobytes())
        for n, v in values.items()
    }


def exact_moments(column, weights=None):
    """n, mean and variance as fractions, of what is not NaN."""
    weights = [1.0] * len(column) if weights is None else weights
    pairs = [
        (Fraction(w), Fraction(float(v)))
        for v, w in zip(column.tolist(), np.asarray(weights).tolist(), strict=True)
        if v == v
    ]
    total = sum(w for w, _ in pairs)
    if total == 0:
        return total, None, None
    mean = sum(w * v for w, v in pairs) / total
    return total, mean, sum(w * v * v for w, v in pairs) / total - mean**2


def rounded(value):
    return math.nan if value is None else ratio(value.numerator, value.denominator)


# ---------------------------------------------------------------- the numbers


@given(formats, tempers, seeds, st.integers(1, 40), st.integers(1, 3), st.booleans())
def test_mean_and_variance_are_correctly_rounded(dtype, temper, seed, rows, columns, missing):
    x = numbers(dtype, temper, (rows, columns), seed)
    x[~np.isfinite(x)] = 0
    x = with_nan(x, seed) if missing else x
    scaler = zs.StandardScaler().fit(x)
    for j in range(columns):
        n, mean, variance = exact_moments(x[:, j])
        assert np.broadcast_to(scaler.n_samples_seen_, columns)[j] == n
        np.testing.assert_equal(scaler.mean_[j], rounded(mean))
        np.testing.assert_equal(scaler.var_[j], rounded(variance))
        if variance is not None and scaler.scale_[j] != 1:
            root = sqrt_ratio(variance.numerator, variance.denominator)
            assert scaler.scale_[j] == root
    assert (zs.ZeroMean().fit(x).mean_.tobytes()) == scaler.mean_.tobytes()


@given(tempers, seeds, st.integers(1, 30))
def test_weighted_mean_and_variance_are_correctly_rounded(temper, seed, rows):
    x = numbers("float64", temper, (rows, 2), seed)
    x[~np.isfinite(x)] = 0
    x = with_nan(x, seed)
    rng = np.random.default_rng(seed)
    w = np.ldexp(rng.random(rows), rng.integers(-300, 300, rows))
    w[1:][rng.random(rows - 1) < 0.2] = 0
    scaler = zs.StandardScaler().fit(x, sample_weight=w)
    for j in range(2):
        total, mean, variance = exact_moments(x[:, j], w)
        assert np.broadcast_to(scaler.n_samples_seen_, 2)[j] == rounded(total)
        np.testing.assert_equal(scaler.mean_[j], rounded(mean))
        np.testing.assert_equal(scaler.var_[j], rounded(variance))


def test_a_feature_is_constant_by_scikit_learns_bound():
    """Rounding noise has a variance, which is reported, and a scale of one; real spread has not."""
    n, noise = 100, np.spacing(1e8)
    x = np.full((n, 3), 1e8)
    x[::2, 0] += noise
    x[:, 1] = np.where(np.arange(n) % 2, 1e-170, -1e-170)  # its variance underflows
    x[:, 2] = np.where(np.arange(n) % 2, 1e200, -1e200)  # and this one's overflows
    scaler = zs.StandardScaler().fit(x)
    assert scaler.var_.tolist() == [(noise / 2) ** 2, 0.0, math.inf]
    assert scaler.scale_.tolist() == [1.0, 1e-170, 1e200]
    assert preprocessing.StandardScaler().fit(x[:, :1]).scale_ == [1.0]


def test_everything_equals_scikit_learns_up_to_rounding():
    x = with_nan(normal(300, 4))
    for cls in (zs.StandardScaler, zs.MinMaxScaler, zs.MaxAbsScaler, zs.RobustScaler):
        ours, theirs = cls().fit(x), getattr(preprocessing, cls.__name__)().fit(x)
        for name in vars(theirs):
            if name.endswith("_"):
                np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-13)
        y = ours.transform(x)
        np.testing.assert_allclose(y, theirs.transform(x), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(ours.inverse_transform(y), x, rtol=1e-14)


# ---------------------------------------------------------------- laws


def splits(x, seed, *more):
    """The rows in another order, cut into batches."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    cuts = np.sort(rng.integers(1, len(x), 3)) if len(x) > 1 else []
    parts = [np.split(a[order], cuts) for a in (x, *more)]
    return [part for part in zip(*parts, strict=True) if len(part[0])]


@batched
@given(formats, tempers, seeds, st.integers(2, 200), st.sampled_from([1, 2, 65]))
def test_order_and_batches_do_not_change_a_bit(cls, dtype, temper, seed, rows, columns):
    x = numbers(dtype, temper, (rows, columns), seed)
    x = with_nan(np.where(np.isfinite(x), x, 0).astype(dtype), seed)
    whole = cls().fit(x)
    parts = [part for (part,) in splits(x, seed)]
    running = cls()
    for part in parts:
        running.partial_fit(part)
    merged = sum(cls().fit(part) for part in parts)
    assert readouts(running) == readouts(merged) == readouts(whole)


@given(seeds)
def test_weighted_batches_do_not_change_a_bit(seed):
    """Dense, sparse, float32 and float64 batches, with weights and without, in any order."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((60, 3)) < 0.5, 0, rng.normal(3, 1, (60, 3))).astype("float32")
    w = rng.random(60)
    w[30:] = 1
    whole = zs.StandardScaler(with_mean=False).fit(x.astype(float), sample_weight=w)
    running = zs.StandardScaler(with_mean=False)
    for part, weight in splits(x, seed, w):
        form = rng.choice(["csr", "csc", "float64", "float32"])
        batch = part.astype(form) if "float" in form else sparse.csr_array(part).asformat(form)
        running.partial_fit(batch, sample_weight=weight)
    assert readouts(running) == readouts(whole)
    mixed = zs.StandardScaler(with_mean=False).fit(x[:30], sample_weight=w[:30])
    mixed.partial_fit(sparse.csr_array(x[30:]))
    assert readouts(mixed) == readouts(whole)


def test_a_weight_of_three_is_three_rows():
    x, w = with_nan(normal(20, 2)), np.arange(20) % 4
    weighted = zs.StandardScaler().fit(x, sample_weight=w)
    repeated = zs.StandardScaler().fit(np.repeat(x, w, axis=0))
    for name in ("mean_", "var_", "scale_"):
        assert getattr(weighted, name).tobytes() == getattr(repeated, name).tobytes()


def test_sparse_is_dense():
    x = np.where(np.random.default_rng(0).random((40, 5)) < 0.6, 0, normal(40, 5))
    x[:, 4] = 0
    x[3, 1] = np.nan
    for form in (sparse.csr_array, sparse.csc_array, sparse.csr_matrix):
        for cls, more in ((zs.StandardScaler, {"with_mean": False}), (zs.MaxAbsScaler, {})):
            ours, dense = cls(**more).fit(form(x)), cls(**more).fit(x)
            assert readouts(ours) == readouts(dense)
            y = ours.transform(form(x))
            np.testing.assert_array_equal(y.toarray(), dense.transform(x))
            np.testing.assert_allclose(ours.inverse_transform(y).toarray(), x, rtol=1e-15)


def test_entries_that_stand_twice_are_added():
    x = sparse.csr_array((np.array([1.0, 2.0, 4.0]), ([0, 0, 1], [0, 0, 0])), shape=(2, 1))
    twice = sparse.csr_array(
        (np.array([1.0, 2.0, 4.0]), np.array([0, 0, 0]), np.array([0, 2, 3])), shape=(2, 1)
    )
    assert not twice.has_canonical_format
    for batch in (x, twice):
        assert zs.StandardScaler(with_mean=False).fit(batch).mean_ == [3.5]


@given(formats, tempers, seeds)
def test_subtracting_gives_back_what_was_there(dtype, temper, seed):
    x = numbers(dtype, temper, (40, 2), seed)
    x[~np.isfinite(x)] = 0
    w = np.random.default_rng(seed).random(40)
    for cls, more in ((zs.StandardScaler, {}), (zs.StandardScaler, {"sample_weight": w})):
        first = {k: v[:25] for k, v in more.items()}
        second = {k: v[25:] for k, v in more.items()}
        rest = cls().fit(x, **more) - cls().fit(x[25:], **second)
        assert readouts(rest) == readouts(cls().fit(x[:25], **first))


def test_what_cannot_be_subtracted_or_merged_says_so():
    x = normal()
    for cls in (zs.MinMaxScaler, zs.MaxAbsScaler, zs.MeanNormalizer):
        with pytest.raises(MergeError, match="fit again"):
            cls().fit(x) - cls().fit(x[:5])
    with pytest.raises(MergeError, match="quantiles"):
        zs.RobustScaler().fit(x) + zs.RobustScaler().fit(x)
    with pytest.raises(MergeError, match="cannot subtract"):
        zs.StandardScaler().fit(x[:5]) - zs.StandardScaler().fit(x)
    with pytest.raises(MergeError, match="weighted"):
        zs.StandardScaler().fit(x) - zs.StandardScaler().fit(x, sample_weight=np.ones(50))
    fitted = zs.StandardScaler().fit(x)
    for other, what in (
        (zs.MinMaxScaler().fit(x), "one class"),
        (zs.StandardScaler(), "no exact state"),
        (zs.StandardScaler(with_std=False).fit(x), "parameters"),
        (zs.StandardScaler().fit(x[:, :2]), "number of features"),
    ):
        with pytest.raises(MergeError, match=what):
            fitted.merge(other)


def test_merging_changes_neither():
    first, second = zs.StandardScaler().fit(normal(seed=1)), zs.StandardScaler().fit(normal(seed=2))
    before = readouts(first), readouts(second)
    both = first + second
    both.partial_fit(normal(seed=3))
    assert (readouts(first), readouts(second)) == before
    every = np.concatenate([normal(seed=s) for s in (1, 2, 3)])
    assert readouts(both) == readouts(zs.StandardScaler().fit(every))


@batched
def test_layout_threads_and_formats_do_not_change_a_bit(cls):
    x = with_nan(normal(70_000, 33, "float32"))  # enough for threads
    whole = readouts(cls().fit(x))
    assert readouts(cls().fit(np.asfortranarray(x))) == whole
    assert readouts(cls().fit(x[::-1])) == whole
    assert readouts(cls().fit(x.astype(float))) == whole
    assert readouts(cls().partial_fit(x[:1000]).partial_fit(x[1000:].astype(float))) == whole


def test_halves_are_measured_exactly():
    x = normal(50, 3, "float16")
    for cls in CLASSES:
        if cls is not zs.Whitener:
            assert readouts(cls().fit(x)) == readouts(cls().fit(x.astype(float)))


# ---------------------------------------------------------------- what must not be


@batched
@pytest.mark.parametrize("columns", [3, 80])
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_a_batch_with_infinities_changes_nothing(cls, columns, bad):
    """Sums, counts and extrema are as before, although the kernel saw half of the batch."""
    x, worse = normal(300, columns), 100 * normal(200, columns)
    worse[150, columns // 2] = bad
    worse[:, 0] *= -1
    scaler = cls().fit(x)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        scaler.partial_fit(worse)
    assert readouts(scaler) == readouts(cls().fit(x))
    scaler.partial_fit(normal(seed=7, columns=columns))
    every = np.concatenate([x, normal(seed=7, columns=columns)])
    assert readouts(scaler) == readouts(cls().fit(every))


@by_name
def test_infinities_are_not_transformed(cls):
    x = normal()
    scaler = cls().fit(x)
    for layout in ("C", "F"):
        bad = np.array(x, order=layout)
        bad[7, 1] = np.inf
        held = bad.copy()
        if "copy" in scaler.get_params():
            scaler.set_params(copy=False)
        for method in (scaler.transform, scaler.inverse_transform):
            with pytest.raises(ValueError, match="infinity"):
                method(bad)
            assert (bad == held).all()


def test_numbers_that_somebody_assigned_are_used_and_not_built_upon():
    scaler = zs.StandardScaler()
    scaler.mean_, scaler.scale_ = np.array([1.0]), np.array([2.0])
    scaler.var_, scaler.n_features_in_, scaler.n_samples_seen_ = np.array([4.0]), 1, 10
    assert scaler.transform([[5.0]]) == [[2.0]]
    with pytest.raises(MergeError, match="mean_"):
        scaler.partial_fit([[1.0]])
    assert scaler.fit([[1.0], [3.0]]).mean_ == [2.0]
    scaler.mean_ = np.array([0.0])
    assert scaler.transform([[1.0]]) == [[1.0]]
    del scaler.mean_
    assert scaler.mean_ == [2.0]


@by_name
def test_unfitted_estimators_say_so(cls):
    with pytest.raises(NotFittedError):
        cls().transform(normal())
    assert not any(n.endswith("_") and not n.startswith("_") for n in vars(cls()))
    for name in ("mean_", "scale_", "matrix_", "center_"):
        assert not hasattr(cls(), name)


def test_read_outs_follow_the_parameters():
    scaler = zs.StandardScaler(with_std=False).fit(normal())
    assert scaler.scale_ is scaler.var_ is None
    assert scaler.set_params(with_std=True).scale_.shape == (3,)
    ends = zs.MinMaxScaler().fit(normal())
    assert ends.transform(normal()).max() == 1
    ends.feature_range = (0, 7)
    assert ends.transform(normal()).max() == 7


# ---------------------------------------------------------------- transforming


@pytest.mark.parametrize("cls", [*BATCHED, zs.RobustScaler], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rows", [1, 50, 5000])
def test_transform_is_float64_rounded_once(cls, dtype, rows):
    x = normal(rows, 5, dtype)
    if rows > 1:
        x = with_nan(x)
    scaler = cls().fit(normal(200, 5))
    shift, scale, offset = scaler._numbers()
    wide = x.astype(np.float64)
    expected = (((wide - shift) / scale) + offset).astype(dtype)
    for data in (x, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
        y = scaler.transform(data)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, expected)
        assert not np.shares_memory(y, data)
    back = ((expected.astype(np.float64) - offset) * scale + shift).astype(dtype)
    np.testing.assert_array_equal(scaler.inverse_transform(expected), back)
    in_place = scaler.set_params(copy=False).transform(x)
    np.testing.assert_array_equal(in_place, expected)
    assert np.shares_memory(in_place, x)


@pytest.mark.parametrize("data", [[[1, 2], [3, 5]], np.array([[1, 2], [3, 5]], ">f8")])
def test_other_input_becomes_float64(data):
    for cls in BATCHED:
        assert cls().fit(data).transform(data).dtype == np.float64


@given(seeds, st.sampled_from(["float32", "float64"]))
def test_both_ends_are_hit_exactly(seed, dtype):
    rng = np.random.default_rng(seed)
    low, high = np.sort(np.round(rng.normal(0, 10.0 ** rng.integers(-2, 4), 2), rng.integers(1, 9)))
    if low == high:
        return
    scale = 10.0 ** rng.integers(-30, 30, 40)
    x = (rng.normal(rng.normal(0, 3, 40), 1, (20, 40)) * scale).astype(dtype)
    scaler = zs.MinMaxScaler(feature_range=(float(low), float(high)))
    for data in (x, np.asfortranarray(x)):
        y = scaler.fit_transform(data)
        assert (y.min(axis=0) == np.array(low, dtype)).all()
        assert (y.max(axis=0) == np.array(high, dtype)).all()


def test_a_divisor_that_meets_the_end_is_not_always_there():
    """Then the result stays below, and `transform` puts the maximum in its place."""
    span = np.random.default_rng(0).random(1000)
    ends = span / meeting(span, 0.0, 255.0)
    assert (ends <= 255).all()
    assert 0 < (ends != 255).sum() < 500
    x = np.stack([np.zeros(1000), span])
    assert (zs.MinMaxScaler((0, 255)).fit_transform(x)[1] == 255).all()


def test_held_out_values_leave_the_range_unless_clipped():
    x = np.array([[0.0], [2.0]])
    assert zs.MinMaxScaler().fit(x).transform([[-1.0], [3.0]]).tolist() == [[-0.5], [1.5]]
    assert zs.MinMaxScaler(clip=True).fit(x).transform([[-1.0], [3.0]]).tolist() == [[0], [1]]
    assert zs.MaxAbsScaler(clip=True).fit(x).transform([[-3.0]]).tolist() == [[-1]]
    clipped = zs.MaxAbsScaler(clip=True).fit(x).transform(sparse.csr_array([[-3.0]]))
    assert clipped.toarray() == [[-1]]


def test_small_ranges_are_scaled_and_constants_are_not():
    """Scikit-learn takes every range below 2.2e-15 for none, whatever the unit of the data."""
    x = np.array([[0.0, 5.0], [1e-20, 5.0]])
    for cls in (zs.MinMaxScaler, zs.MeanNormalizer, zs.RobustScaler):
        y = cls().fit_transform(x)
        assert np.ptp(y[:, 0]) >= 1
        assert (y[:, 1] == 0).all()
    assert zs.MaxAbsScaler().fit_transform(x)[1].tolist() == [1, 1]
    assert preprocessing.MinMaxScaler().fit_transform(x)[1, 0] < 1e-19


def test_columns_without_any_value_stay_nan():
    x = np.array([[np.nan, 1.0], [np.nan, 3.0]])
    for cls in [*BATCHED, zs.RobustScaler]:
        y = cls().fit_transform(x)
        assert np.isnan(y[:, 0]).all()
        assert np.isfinite(y[:, 1]).all()


# ---------------------------------------------------------------- quantiles


@given(seeds, st.integers(1, 60), st.tuples(st.integers(0, 50), st.integers(51, 100)))
def test_robust_scaler_finds_the_exact_quantiles(seed, rows, range_):
    x = with_nan(np.random.default_rng(seed).normal(size=(rows, 2)), seed)
    x[0] = 1
    scaler = zs.RobustScaler(quantile_range=range_).fit(x)
    for j in range(2):
        values = sorted(Fraction(v) for v in x[:, j].tolist() if v == v)

        def at(percent, values=values):
            place = Fraction(percent) / 100 * (len(values) - 1)
            i = int(place)
            above = values[min(i + 1, len(values) - 1)]
            return values[i] + (above - values[i]) * (place - i)

        assert scaler.center_[j] == float(at(50))
        assert scaler.scale_[j] == (float(at(range_[1])) - float(at(range_[0])) or 1.0)


def test_robust_scaler_on_sparse_and_with_unit_variance():
    x = np.where(np.random.default_rng(0).random((99, 3)) < 0.3, 0, normal(99, 3))
    more = {"with_centering": False, "unit_variance": True}
    ours = zs.RobustScaler(**more).fit(sparse.csr_array(x))
    theirs = preprocessing.RobustScaler(**more).fit(x)
    np.testing.assert_allclose(ours.scale_, theirs.scale_, rtol=1e-13)
    assert ours.center_ is None
    with pytest.raises(ValueError, match="Cannot center sparse"):
        zs.RobustScaler().fit(sparse.csr_array(x))


# ---------------------------------------------------------------- whitening


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_whitened_integers_are_white_and_the_same_bits(kind):
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) * 10 + 120).round().astype(np.uint8)
    whole = zs.Whitener(kind).fit(x)
    y = whole.transform(x)
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(6), atol=1e-10)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(whole.inverse_transform(y), x, atol=1e-9)
    running = zs.Whitener(kind).partial_fit(x[300:]).partial_fit(x[:300])
    merged = zs.Whitener(kind).fit(x[:100]) + zs.Whitener(kind).fit(x[100:])
    rest = zs.Whitener(kind).fit(np.concatenate([x, x[:50]])) - zs.Whitener(kind).fit(x[:50])
    for other in (running, merged, rest):
        assert readouts(other) == readouts(whole)
    with pytest.raises(MergeError, match="one dtype"):
        running.partial_fit(x.astype(float))


def test_fewer_components_get_names_of_their_own():
    x = normal(100, 4)
    whitener = zs.Whitener(n_components=2).set_output(transform="pandas").fit(x)
    y = whitener.transform(x.astype("float32"))
    assert list(y.columns) == ["whitener0", "whitener1"]
    assert set(map(str, y.dtypes)) == {"float32"}
    assert whitener.n_components_ == 2
    assert 0 < whitener.variance_kept_ < 1 < whitener.condition_number_
    assert whitener.inverse_transform(y.to_numpy()).shape == x.shape
    assert list(zs.Whitener("zca").fit(x).get_feature_names_out()) == ["x0", "x1", "x2", "x3"]


# ---------------------------------------------------------------- files and copies


@by_name
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_saved_and_loaded_is_the_same_and_goes_on(cls, suffix, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(normal(60, 3), columns=["a", "b", "c"])
    scaler, path = cls().fit(frame[:40]), tmp_path / f"scaler{suffix}"
    scaler.save(path)
    for loaded in (cls.load(path), zs.load(path)):
        assert type(loaded) is cls
        assert loaded.get_params() == scaler.get_params()
        assert list(loaded.feature_names_in_) == ["a", "b", "c"]
        assert readouts(loaded) == readouts(scaler)
        np.testing.assert_array_equal(loaded.transform(frame), scaler.transform(frame))
        if cls in BATCHED:
            loaded.partial_fit(frame[40:])
            assert readouts(loaded) == readouts(cls().fit(frame))


@batched
def test_the_same_data_gives_the_same_file(cls, tmp_path):
    x = with_nan(normal(100, 2))
    cls().fit(x).save(tmp_path / "whole.json")
    cls().partial_fit(x[60:]).partial_fit(x[:60]).save(tmp_path / "parts.json")
    assert (tmp_path / "whole.json").read_bytes() == (tmp_path / "parts.json").read_bytes()


def test_parameters_and_weights_are_saved(tmp_path):
    x, path = normal(), tmp_path / "scaler.json"
    for scaler in (
        zs.MinMaxScaler((-1, 0.5), clip=True).fit(x),
        zs.RobustScaler(quantile_range=(np.float64(10), 80), unit_variance=True).fit(x),
        zs.StandardScaler(with_mean=False).fit(x, sample_weight=np.linspace(0, 1, 50)),
        zs.Whitener("zca", shrinkage=0.1, n_components=2).fit(x),
    ):
        scaler.save(path)
        loaded = zs.load(path)
        assert loaded.get_params() == scaler.get_params()
        assert readouts(loaded) == readouts(scaler)


@by_name
def test_files_that_were_edited_are_refused(cls, tmp_path):
    path = tmp_path / "scaler.json"
    cls().fit(normal(columns=2)).save(path)
    document = json.loads(path.read_text())
    for key in document:
        for value in (None, 3, "x", [], {}, document[key] * 2 if key == "n_features" else -1):
            changed = {**document, key: value}
            if changed != document:
                path.write_text(json.dumps(changed))
                if _read_outs_only(key):
                    continue
                with pytest.raises(FormatError, match=r"scaler\.json"):
                    zs.load(path)
        path.write_text(json.dumps({k: v for k, v in document.items() if k != key}))
        if not _read_outs_only(key):
            with pytest.raises(FormatError):
                zs.load(path)


def _read_outs_only(key):
    """Provenance says how, not what, and is in no checksum."""
    return key in ("provenance", "items", "skipped")


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "file.json"
    zs.StandardScaler().fit(normal()).save(path)
    with pytest.raises(FormatError, match="holds a StandardScaler, not a MinMaxScaler"):
        zs.MinMaxScaler.load(path)
    zm.measure(normal()).save(path)
    with pytest.raises(FormatError, match=r"holds a profile.*zeromean\.load"):
        zs.load(path)
    with pytest.raises(NotFittedError):
        zs.StandardScaler().save(path)
    scaler = zs.StandardScaler()
    scaler.mean_ = scaler.scale_ = np.ones(1)
    with pytest.raises(FormatError, match="no exact state"):
        scaler.save(path)


@by_name
def test_copies_are_independent(cls):
    x = normal()
    scaler = cls().fit(x)
    before = readouts(scaler)
    for other in (
        copy.copy(scaler),
        copy.deepcopy(scaler),
        pickle.loads(pickle.dumps(scaler)),
    ):
        assert readouts(other) == before
        if cls in BATCHED:
            other.partial_fit(10 * x)
            assert readouts(other) != before
        assert readouts(scaler) == before
    assert not hasattr(clone(scaler), "n_features_in_")
    if cls in BATCHED:
        assert readouts(scaler.partial_fit(x[:5])) != before


# ---------------------------------------------------------------- among scikit-learn's things


@by_name
def test_frames_in_frames_out(cls):
    for library, kind in (("pandas", "pandas"), ("polars", "polars")):
        module = pytest.importorskip(library)
        frame = module.DataFrame(dict(zip("abc", normal().T, strict=True)))
        scaler = cls(**({"kind": "zca"} if cls is zs.Whitener else {})).set_output(transform=kind)
        y = scaler.fit_transform(frame)
        assert type(y).__module__.startswith(library)
        assert list(y.columns) == ["a", "b", "c"]
        plain = clone(scaler).set_output(transform="default").fit(frame.to_numpy())
        np.testing.assert_array_equal(y.to_numpy(), plain.transform(frame.to_numpy()))
        with pytest.warns(UserWarning, match="feature names"):
            scaler.transform(frame.to_numpy())


def test_pipelines_and_column_transformers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(normal(), columns=["a", "b", "c"])
    together = ColumnTransformer(
        [("std", zs.StandardScaler(), ["a"]), ("ends", zs.MinMaxScaler(), ["b", "c"])]
    )
    y = make_pipeline(together, zs.ZeroMean()).fit_transform(frame)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-15)
    assert list(together.get_feature_names_out()) == ["std__a", "ends__b", "ends__c"]


def test_they_are_scikit_learns_own_kind():
    """Also by `isinstance`, and with the same parameters; older versions have fewer."""
    for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        ours, theirs = getattr(zs, name), getattr(preprocessing, name)
        assert issubclass(ours, theirs)
        mine = {p.name: (p.default, p.kind) for p in inspect.signature(ours).parameters.values()}
        other = {p.name: (p.default, p.kind) for p in inspect.signature(theirs).parameters.values()}
        assert other.items() <= mine.items()


def test_assume_finite_is_heard():
    x = normal()
    x[0, 0] = np.inf
    with config_context(assume_finite=True):
        assert np.isposinf(zs.ZeroMean().fit(normal()).transform(x)[0, 0])


def test_normalizer_and_profile():
    x = normal(dtype="float32")
    scaler = zs.StandardScaler().fit(x)
    assert scaler.profile() == zm.measure(x.astype(float))
    assert scaler.profile().max.tolist() == x.max(axis=0).tolist()
    norm = scaler.normalizer()
    np.testing.assert_array_equal(norm(x, dtype="float32"), scaler.transform(x))
    np.testing.assert_array_equal(norm.scale, zm.standardize(scaler.profile()).scale)
    for cls in CLASSES:
        fitted = cls().fit(x)
        y = fitted.normalizer()(x.astype(float), dtype="float64")
        np.testing.assert_array_equal(y, fitted.transform(x.astype(float)))
    with pytest.raises(MergeError, match="weights"):
        scaler.partial_fit(x, sample_weight=np.ones(50)).profile()


def test_scikit_learn_changes_with_the_batches_and_ours_do_not():
    """The reason for all this."""
    x = normal(1000, 1) + 1e6
    for kind, same in ((zs.StandardScaler, True), (preprocessing.StandardScaler, False)):
        first, second = kind(), kind()
        for i in range(0, 1000, 100):
            first.partial_fit(x[i : i + 100])
            second.partial_fit(x[900 - i : 1000 - i])
        assert (first.var_.tobytes() == second.var_.tobytes()) is same


# ---------------------------------------------------------------- contracts


@parametrize_with_checks([cls() for cls in CLASSES])
@pytest.mark.filterwarnings("ignore")
def test_estimator_checks(estimator, check):
    """Scikit-learn's own checks of what an estimator must do."""
    check(estimator)


@by_name
def test_public_methods_are_documented(cls):
    assert inspect.getdoc(cls)
    for name, member in inspect.getmembers(cls, inspect.isfunction):
        ours = member.__module__.startswith("zeromean")
        if name.startswith("_") or not ours:
            continue
        text = inspect.getdoc(member)
        assert text, name
        for parameter in list(inspect.signature(member).parameters)[1:]:
            assert re.search(rf"^{parameter}( :|, )|, {parameter} :", text, re.MULTILINE), (
                name,
                parameter,
            )


def test_moments_of_the_state_are_those_of_the_data():
    x = with_nan(normal(100, 70, "float32"))
    scaler = zs.StandardScaler().partial_fit(x[:10]).partial_fit(x[10:])
    assert scaler._state.moments() == Moments.of(x.astype(np.float64))
