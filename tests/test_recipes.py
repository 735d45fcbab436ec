"""Every recipe × pattern × dtype against fractions; composition; per-sample; robust on floats."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeromean as zm
from strategies import LAYOUTS, laid_out, numbers, seeds
from zeromean.errors import FormatError, PatternError, SourceError, UnitError, ZeromeanWarning

SEED = np.array([[-1, 2], [-0.5, 6], [0, 10], [1, 18]])
RNG = np.random.default_rng(41)
PICTURES = RNG.integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
PATTERNS = ("n h w c -> c", "n h w c -> h w c", "n h w c ->", "n h w c -> w", "n h w (g c) -> g c")
RECIPES = ("zero_mean", "standardize", "min_max", "mean_normalize", "max_abs", "robust")
DTYPES = ("uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "bool")


# ---------------------------------------------------------------- an independent formulation


def features(x, pattern, g):
    """The values of every kept entry as fractions, and where they stand."""
    left, right = pattern.replace("(", "").replace(")", "").split("->")
    names, kept = left.split(), right.split()
    if "g" in names:
        x = x.reshape(*x.shape[:3], g, x.shape[3] // g)
    order = [names.index(k) for k in kept]
    rest = [i for i in range(x.ndim) if i not in order]
    moved = np.transpose(x, order + rest)
    shape = moved.shape[: len(order)]
    return shape, moved.reshape(math.prod(shape), -1)


def quantile(values, q):
    """Linear interpolation at rank q (n - 1)."""
    position = Fraction(q) * (len(values) - 1)
    low = math.floor(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def shift_and_scale(recipe, values):
    """What a recipe should find, as a fraction and a float; scale None without spread."""
    values = sorted(map(Fraction, values))
    n, low, high = len(values), values[0], values[-1]
    mean = sum(values) / n
    variance = sum((v - mean) ** 2 for v in values) / n
    return {
        "zero_mean": lambda: (mean, 1.0),
        "standardize": lambda: (mean, math.sqrt(variance)),
        "min_max": lambda: (low, float(high - low)),
        "mean_normalize": lambda: (mean, float(high - low)),
        "max_abs": lambda: (Fraction(0), float(max(abs(low), abs(high)))),
        "robust": lambda: (
            quantile(values, 0.5),
            float(quantile(values, 0.75) - quantile(values, 0.25)),
        ),
    }[recipe]()


def made(recipe, x, pattern, **sizes):
    """A normalizer, with the warnings about constants out of the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeromeanWarning)
        profile = zm.measure(x, pattern, **sizes)
        if recipe == "robust":
            return zm.robust(profile, x)
        return getattr(zm, recipe)(profile)


@settings(max_examples=120)
@given(
    recipe=st.sampled_from(RECIPES),
    pattern=st.sampled_from(PATTERNS),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    shape=st.tuples(
        st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.sampled_from([2, 4])
    ),
    seed=seeds,
)
def test_each_recipe_finds_what_fractions_find(recipe, pattern, dtype, layout, shape, seed):
    """Also one sample, one row, read-only data; and the map goes there and back."""
    temper = "normal" if dtype[0] == "f" else "bits"
    x = laid_out(numbers(dtype, temper, shape, seed), layout)
    x.flags.writeable = False
    sizes = {"g": 2} if "g" in pattern else {}
    norm = made(recipe, x, pattern, **sizes)
    kept, rows = features(x, pattern, 2)
    assert norm.kept_shape == kept
    constant = set()
    names = list(np.ndindex(kept)) if kept else ["all"]
    for j, row in enumerate(rows.tolist()):
        shift, scale = shift_and_scale(recipe, row)
        assert norm.shift.ravel()[j] == float(shift)
        if scale == 0 or (recipe != "zero_mean" and norm.scale.ravel()[j] == 1 != scale):
            constant.add(",".join(map(str, names[j])) if kept else "all")
            roundoff = {"float16": 2**-11, "float32": 2**-24}.get(dtype, 2**-53)
            spread = shift_and_scale("standardize", row)
            assert scale == 0 or spread[1] <= 2 * roundoff * abs(spread[0])
            assert norm.scale.ravel()[j] == 1
        else:
            assert norm.scale.ravel()[j] == pytest.approx(scale, rel=1e-15)
    assert set(norm.constant) == constant
    check_there_and_back(norm, x)


def check_there_and_back(norm, x):
    wide = norm(x, dtype="float64")
    back = norm.invert(wide)
    assert back.dtype == x.dtype.newbyteorder("=")
    if x.dtype.kind in "iub" and x.dtype.itemsize <= 2:
        assert (back == x).all()
        if x.dtype.itemsize == 1 or x.dtype == "uint16":
            assert (norm.invert(norm(x)) == x).all()
    size = np.abs(x.astype(np.float64)).max() + np.abs(norm.shift).max()
    loose = {"float16": 1e-3, "float32": 1e-6}.get(x.dtype.name, 1e-14)
    assert np.abs(back.astype(np.float64) - x.astype(np.float64)).max() <= loose * size


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_inf_are_left_out_and_passed_on(recipe, dtype):
    x = RNG.normal(3, 2, (40, 2)).astype(dtype)
    odd = np.concatenate([x, [[np.nan, 1], [np.inf, -np.inf]]]).astype(dtype)
    odd[-2:, 1] = [np.nan, -np.inf]
    with pytest.warns(ZeromeanWarning, match="infinite"):
        profile = zm.measure(odd)
    norm = zm.robust(profile, odd) if recipe == "robust" else getattr(zm, recipe)(profile)
    clean = made(recipe, x, "n d -> d")
    assert (norm.shift == clean.shift).all()
    assert (norm.scale == clean.scale).all()
    y = norm(odd)
    assert np.isnan(y[-2]).all()
    assert y[-1].tolist() == [np.inf, -np.inf]
    assert (y[:-2] == clean(x)).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_empty_data_is_normalized_to_empty_data(recipe):
    norm = made(recipe, SEED, "n d -> d")
    assert norm(np.zeros((0, 2))).shape == (0, 2)
    empty = zm.measure(np.zeros((0, 2)))
    with pytest.warns(ZeromeanWarning, match="empty"):
        assert np.isnan(empty.mean).all()
    with pytest.raises(PatternError, match="too few values to normalize: 0, 1"):
        getattr(zm, recipe)(empty)


# ---------------------------------------------------------------- each recipe by itself


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (-0.3, 0.7), (0, 255), (5, 5.1)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_min_max_hits_both_ends(low, high, dtype):
    x = numbers(dtype, "bits" if dtype[0] != "f" else "normal", (60, 7), 3)
    y = zm.min_max(zm.measure(x), low, high)(x)
    assert (y.min(axis=0) == np.float32(low)).all()
    assert (y.max(axis=0) == np.float32(high)).all()
    wide = zm.min_max(zm.measure(x), low, high)(x, dtype="float64")
    assert (wide.min(axis=0) == low).all()
    np.testing.assert_allclose(wide.max(axis=0), high, rtol=3e-16)


def test_min_max_of_exact_extrema_only():
    profile = zm.measure(SEED)
    rest = profile - zm.measure(SEED[:1])
    for recipe in (zm.min_max, zm.mean_normalize, zm.max_abs):
        with pytest.raises(PatternError, match="only bounds after a subtraction"):
            recipe(rest)
    assert zm.zero_mean(rest).shift.tolist() == SEED[1:].mean(axis=0).tolist()
    with pytest.raises(PatternError, match=r"two numbers: not 1 and 0"):
        zm.min_max(profile, 1, 0)


def test_constants_become_what_the_map_says_and_are_named():
    x = np.array([[1.0, 7.0], [3.0, 7.0]])
    for recipe, value in (("min_max", 0), ("mean_normalize", 0), ("standardize", 0), ("robust", 0)):
        profile = zm.measure(x)
        with pytest.warns(ZeromeanWarning, match=r"1 constant feature\(s\) have no .*: 1"):
            norm = zm.robust(profile, x) if recipe == "robust" else getattr(zm, recipe)(profile)
        assert norm.constant == ("1",)
        assert norm.scale[1] == 1
        assert norm(x)[:, 1].tolist() == [value, value]
    assert zm.max_abs(zm.measure(x)).scale.tolist() == [3, 7]
    with pytest.warns(ZeromeanWarning, match="no largest value"):
        assert zm.max_abs(zm.measure(np.zeros((3, 1)))).scale.tolist() == [1]


def test_spread_that_is_only_rounding_counts_as_none():
    """0.1 + 0.2 and 0.3 are meant to be equal; 1e8 ± 1 is not a constant."""
    noisy = np.array([[0.1 + 0.2], [0.3], [0.3]])
    with pytest.warns(ZeromeanWarning, match="constant"):
        assert zm.standardize(zm.measure(noisy)).scale.tolist() == [1]
    real = np.array([[1e8 - 1], [1e8 + 1]])
    assert zm.standardize(zm.measure(real)).scale.tolist() == [1]
    assert zm.standardize(zm.measure(real)).constant == ()
    tiny = np.array([[2.0**-900], [3 * 2.0**-900]])
    assert zm.standardize(zm.measure(tiny)).scale.tolist() == [2.0**-900]
    counted = np.array([[2**40], [2**40 + 1]])
    assert zm.standardize(zm.measure(counted)).constant == ()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64", "int64"])
@pytest.mark.parametrize("temper", ["bits", "few", "wide", "equal", "denormal", "zeros", "ends"])
def test_quantiles_of_summed_data_are_exact(dtype, temper, monkeypatch):
    """With one gathering pass, and with counting passes alone."""
    from strategies import tempers
    from zeromean import refinement

    if temper not in tempers(dtype):
        temper = "bits"
    x = numbers(dtype, temper, (501, 2), 5)
    if x.dtype.kind == "f":
        x = np.where(np.isfinite(x), x, x.dtype.type(1))
    wanted = [0.0, 0.25, 0.5, 0.9, 1.0]
    expected = [
        [float(quantile(sorted(map(Fraction, column)), q)) for column in x.T.tolist()]
        for q in wanted
    ]
    profile = zm.measure(x)
    assert refinement.exact_quantiles(profile, x, wanted).tolist() == expected
    monkeypatch.setattr(refinement, "_GATHERED", 0)
    assert refinement.exact_quantiles(profile, x, wanted).tolist() == expected


def test_robust_reads_the_source_again_and_notices_another_one(tmp_path):
    x = RNG.normal(size=(300, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    profile = zm.measure(x)
    norm = zm.robust(profile, tmp_path / "x.npy")
    np.testing.assert_allclose(norm.shift, np.median(x.astype(float), axis=0), rtol=1e-15)
    assert norm == zm.robust(profile, [x[:100], x[100:]])
    with pytest.raises(PatternError, match=r"robust\(profile, source\)"):
        zm.robust(profile)
    with pytest.raises(SourceError, match="the source gives 600 values, but the profile has 900"):
        zm.robust(profile, x[:200])
    with pytest.raises(SourceError, match=r"can be read twice|nothing"):
        zm.robust(profile, (part for part in [x[:100]]))
    with pytest.raises(PatternError, match="array is float64, but the profile is of float32"):
        zm.robust(profile, x.astype(np.float64))
    with pytest.raises(SourceError, match="the source is not what was measured: 0 goes from"):
        zm.robust(profile, x + 1)
    with pytest.raises(PatternError, match="quantile_range must be"):
        zm.robust(profile, x, quantile_range=(75, 25))
    counted = zm.robust(zm.measure(PICTURES, "n h w c -> c"), quantile_range=(10, 90))
    expected = np.percentile(PICTURES.reshape(-1, 3), [10, 50, 90], axis=0)
    np.testing.assert_allclose(counted.shift, expected[1])
    np.testing.assert_allclose(counted.scale, expected[2] - expected[0])


# ---------------------------------------------------------------- composition


@pytest.mark.parametrize("wide", ["n h w c -> h w c", "n h w c -> c h", "n h w c -> c"])
@pytest.mark.parametrize("narrow", ["n h w c -> c", "n h w c ->"])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_normalizers_become_one(wide, narrow, swapped):
    first_pattern, second_pattern = (wide, narrow) if swapped else (narrow, wide)
    first = zm.standardize(zm.measure(PICTURES, first_pattern))
    between = first(PICTURES, dtype="float64")
    second = zm.min_max(zm.measure(between, second_pattern), -1, 1)
    both = first.then(second)
    expected = second(between, dtype="float64")
    np.testing.assert_allclose(both(PICTURES, dtype="float64"), expected, atol=1e-14)
    assert str(both.pattern) == wide
    assert (both.dtype, both.units, both.recipe) == ("uint8", first.units, "standardize, min_max")
    assert (both.invert(both(PICTURES)) == PICTURES).all()


def test_composing_what_does_not_fit_says_why():
    first = zm.zero_mean(zm.measure(PICTURES, "n h w c -> c"))
    y = first(PICTURES)
    with pytest.raises(UnitError, match="the second normalizer was measured on uint8 0"):
        first.then(zm.standardize(zm.measure(PICTURES, "n h w c -> c")))
    rows = zm.zero_mean(zm.measure(y, "n h w c -> h"))
    with pytest.raises(PatternError, match="one must keep all that the other keeps"):
        first.then(rows)
    other = zm.zero_mean(zm.measure(y.reshape(5, -1), "n d -> d"))
    with pytest.raises(PatternError, match="must name the same axes"):
        first.then(other)


# ---------------------------------------------------------------- per sample


def test_contrast_normalization_of_each_picture():
    norm = zm.per_sample(zm.standardize, "n h w c -> n")
    y = norm(PICTURES, dtype="float64")
    wide = PICTURES.astype(np.float64)
    mean = wide.mean(axis=(1, 2, 3), keepdims=True)
    std = wide.std(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, (wide - mean) / std, atol=1e-13)
    assert repr(norm) == 'per_sample(standardize, "n h w c -> n")'
    own = norm.of(PICTURES)
    assert (own.invert(own(PICTURES)) == PICTURES).all()
    with pytest.raises(FormatError, match="each sample has its own numbers"):
        own.to_json()


def test_a_sample_does_not_depend_on_its_batch():
    norm = zm.per_sample(zm.min_max, "n h w c -> n c", low=-1, high=1)
    whole = norm(PICTURES)
    for i in range(len(PICTURES)):
        assert (norm(PICTURES[i : i + 1]) == whole[i]).all()
    assert whole.min() == -1
    assert whole.max() == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cepstral_mean_and_variance_normalization(dtype):
    speech = RNG.normal(50, 9, (3, 80, 13)).astype(dtype)
    speech[1, 60:] = np.nan  # a shorter utterance, padded
    y = zm.per_sample(zm.standardize, "n t f -> n f", ddof=1)(speech, dtype="float64")
    np.testing.assert_allclose(np.nanmean(y, axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(y, axis=1, ddof=1), 1, atol=1e-6)


def test_groups_of_channels_in_each_sample():
    """Group normalization without its affine part (Wu and He, 2018)."""
    x = RNG.normal(size=(2, 3, 3, 6))
    y = zm.per_sample(zm.standardize, "n h w (g c) -> n g", g=2)(x, dtype="float64")
    parts = x.reshape(2, 9, 2, 3)
    mean, std = parts.mean(axis=(1, 3), keepdims=True), parts.std(axis=(1, 3), keepdims=True)
    np.testing.assert_allclose(y.reshape(parts.shape), (parts - mean) / std, atol=1e-13)


def test_blank_samples_are_centered_without_a_word():
    blank = np.full((2, 4, 4), 9, np.uint8)
    assert (zm.per_sample(zm.standardize, "n h w -> n")(blank) == 0).all()


def test_per_sample_composes_both_ways():
    fixed = zm.zero_mean(zm.measure(PICTURES, "n h w c -> c"))
    own = zm.per_sample(zm.max_abs, "n h w c -> n")
    expected = own(fixed(PICTURES, dtype="float64"))
    assert (fixed.then(own)(PICTURES) == expected).all()
    after = own.then(zm.zero_mean(zm.measure(own(PICTURES, dtype="float64"), "n h w c -> c")))
    np.testing.assert_allclose(after(PICTURES).mean(axis=(0, 1, 2)), 0, atol=1e-7)
    out = np.empty(PICTURES.shape, np.float64)
    assert after(PICTURES, out=out) is out


def test_patterns_that_keep_no_samples_are_refused():
    with pytest.raises(PatternError, match="does not keep its first axis"):
        zm.per_sample(zm.standardize, "n h w c -> c")
    with pytest.raises(PatternError, match=r"zm.per_sample\(zm.standardize, 'n h w c -> n'\)"):
        zm.standardize("n h w c -> n")
    with pytest.raises(PatternError, match=r"zm.per_sample\(zm.standardize, 'n d -> n'\)"):
        zm.standardize(zm.measure(SEED, "n d -> n"))


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_files_give_the_same_normalizer_back(recipe, suffix, tmp_path):
    norm = made(recipe, SEED, "n d -> d")
    norm.save(tmp_path / f"norm{suffix}")
    assert zm.load(tmp_path / f"norm{suffix}") == norm


def test_composed_offsets_are_kept_in_files(tmp_path):
    x = RNG.normal(3, 2, (30, 4))
    first = zm.standardize(zm.measure(x))
    both = first.then(zm.min_max(zm.measure(first(x)), 5, 6))
    both.save(tmp_path / "both.json")
    loaded = zm.load(tmp_path / "both.json")
    assert loaded == both
    assert (loaded(x) == both(x)).all()


# ---------------------------------------------------------------- what a person sees


def test_normalizers_show_what_they_do():
    x = np.array([[1.0, 7.0], [3.0, 7.0]])
    with pytest.warns(ZeromeanWarning, match="constant"):
        norm = zm.min_max(zm.measure(x, feature_names=["<a>", "b"]), -1, 1)
    assert repr(norm) == (
        'Normalizer(min_max, "n d -> d", float64 (unknown units))\n'
        "  shift [1, 7]\n  scale [1, 1]\n  offset [-1, -1]\n  constant, scale 1: b"
    )
    page = norm._repr_html_()
    assert "<th>then add</th>" in page
    assert "<td>&lt;a&gt;</td>" in page
    assert "constant, scale 1: b" in page
    assert "then add" not in zm.max_abs(zm.measure(x))._repr_html_()


def test_wrong_arguments_are_named():
    profile = zm.measure(SEED)
    for call, said in (
        (lambda: zm.min_max(profile, (0, 1)), r"two numbers: not \(0, 1\)"),
        (lambda: zm.standardize(profile, ddof="1"), "ddof is '1'"),
        (lambda: zm.zero_mean(profile).then(profile), "not by a Profile"),
        (lambda: zm.zero_mean(profile)(SEED, dtype="float33"), "'float33' is no dtype"),
    ):
        with pytest.raises(PatternError, match=said):
            call()


def test_raw_floats_are_not_undone_without_a_word():
    norm = zm.standardize(zm.measure(PICTURES, "n h w c -> c"))
    with pytest.warns(ZeromeanWarning, match="is this data normalized"):
        norm.invert(PICTURES.astype(np.float64))
    assert (norm.invert(norm(PICTURES) * 1.01) != 0).any()


def test_samples_without_a_number_pass_through():
    x = np.array([[1.0, 3.0], [np.nan, np.nan], [np.nan, 4.0], [np.inf, np.nan]])
    for recipe, options in ((zm.standardize, {}), (zm.min_max, {"low": -1})):
        norm = zm.per_sample(recipe, "n t -> n", **options)
        y, alone = norm(x), norm(x[[0, 2]])
        np.testing.assert_array_equal(y[[0, 2]], alone)
        np.testing.assert_array_equal(y[[1, 3]], x[[1, 3]])
        made = norm.of(x)
        assert made.shift[1] == made.offset[1] == 0
        assert made.scale[1] == 1
        assert made.constant == norm.of(x[[0, 2, 2]]).constant[:1] or made.constant == ("2",)
    grouped = zm.per_sample(zm.zero_mean, "n (g c) -> n g", g=2)(np.array([[1, 3, np.nan, np.nan]]))
    np.testing.assert_array_equal(grouped, [[-1, 1, np.nan, np.nan]])
    assert zm.per_sample(zm.standardize, "n t -> n")(np.zeros((2, 0))).shape == (2, 0)


def test_per_sample_says_what_is_wrong():
    norm = zm.standardize(zm.measure(np.eye(2)))
    for recipe in ("standardize", norm):
        with pytest.raises(PatternError, match=r"zm.per_sample\(zm.standardize, 'n d -> n'\)"):
            zm.per_sample(recipe, "n d -> n")
    with pytest.raises(PatternError, match="recipe comes first"):
        zm.per_sample("n d -> n", zm.standardize)
    with pytest.raises(PatternError, match="the pattern is a function"):
        zm.per_sample(zm.standardize, zm.standardize)
    own = zm.per_sample(zm.standardize, "n d -> n")
    with pytest.raises(PatternError, match=r"norm.of\(batch\).invert"):
        own.invert(np.eye(2))
    with pytest.raises(PatternError, match="known beforehand"):
        own.torch()
    with pytest.raises(FormatError, match="no numbers to save"):
        own.save("x.json")
