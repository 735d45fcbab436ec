"""Normalizers: the textbook numbers, apply and invert, units, and errors that name the repair."""

from __future__ import annotations

import math
import pickle
import warnings
from dataclasses import FrozenInstanceError
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeromean as zm
from strategies import LAYOUTS, laid_out, numbers, seeds, truth
from zeromean.errors import PatternError, UnitError, ZeromeanWarning

SEED = np.array([[-1, 2], [-0.5, 6], [0, 10], [1, 18]])
RNG = np.random.default_rng(40)
PICTURES = RNG.integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
PER_CHANNEL, PER_PIXEL, ALL = "n h w c -> c", "n h w c -> h w c", "n h w c ->"


def standard(data=PICTURES, pattern=PER_CHANNEL, **options):
    return zm.standardize(zm.measure(data, pattern, **options))


# ---------------------------------------------------------------- the textbook


def test_the_seed_example():
    norm = zm.standardize(zm.measure(SEED))
    expected = [-1.18321596, -0.50709255, 0.16903085, 1.52127766]
    for dtype in ("float64", "float32"):
        y = norm(SEED, dtype=dtype)
        np.testing.assert_allclose(
            y[:, 0], expected, rtol=0, atol=1e-8 if dtype == "float64" else 1e-7
        )
        np.testing.assert_allclose(
            y[:, 1], expected, rtol=0, atol=1e-8 if dtype == "float64" else 1e-7
        )
    assert [f"{v:.8f}" for v in norm(SEED, dtype="float64")[:, 1]] == [f"{v:.8f}" for v in expected]


def test_zero_mean_of_a_picture_with_mean_128_spans_exactly_minus_128_to_127():
    """As many values above 128 as below: (0 + 255 + 129) / 3 = 128."""
    picture = np.array([0, 255, 129] * 4, np.uint8).reshape(3, 4, 1)
    profile = zm.measure(picture, PER_CHANNEL)
    assert profile.mean.tolist() == [128.0]
    y = zm.zero_mean(profile)(picture)
    assert y.dtype == np.float32
    assert (y.min(), y.max()) == (-128.0, 127.0)
    assert zm.measure(y, PER_CHANNEL).mean.tolist() == [0.0]


def test_what_was_measured_has_mean_0_and_variance_1():
    for pattern in (PER_CHANNEL, PER_PIXEL, ALL):
        y = standard(pattern=pattern)(PICTURES, dtype="float64")
        profile = zm.measure(y, pattern)
        np.testing.assert_allclose(profile.mean, 0, atol=1e-15)
        np.testing.assert_allclose(profile.std, 1, atol=1e-14)


def test_ddof_is_recorded_and_used():
    profile = zm.measure(SEED)
    one, two = zm.standardize(profile), zm.standardize(profile, ddof=1)
    assert (one.ddof, two.ddof) == (0, 1)
    assert (two.scale == profile.sample_std(1)).all()
    assert one != two
    with pytest.raises(PatternError, match="too few values to normalize: 0, 1"):
        zm.standardize(zm.measure(SEED[:1]), ddof=1)


# ---------------------------------------------------------------- apply


def by_hand(norm, x, pattern):
    """(x - shift) / scale in float64, with axes moved by hand."""
    left, right = (side.split() for side in pattern.split("->"))
    order = [left.index(name) for name in right]
    rest = [i for i in range(len(left)) if i not in order]
    moved = np.transpose(np.asarray(x, np.float64), rest + order)
    y = (moved - norm.shift) / norm.scale
    return np.transpose(y, np.argsort(rest + order))


@settings(max_examples=60)
@given(
    pattern=st.sampled_from([PER_CHANNEL, PER_PIXEL, ALL, "n h w c -> c h", "n h w c -> w"]),
    dtype=st.sampled_from(
        ["uint8", "int16", "uint16", "float32", "float64", "float16", "int64", "bool"]
    ),
    layout=st.sampled_from(LAYOUTS),
    output=st.sampled_from(["float32", "float64", "float16"]),
    seed=seeds,
)
def test_apply_is_computed_in_float64_and_rounded_once(pattern, dtype, layout, output, seed):
    temper = "bits" if dtype[0] in "ub" else "normal" if dtype[0] == "f" else "few"
    x = laid_out(numbers(dtype, temper, (3, 4, 5, 2), seed), layout)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeromeanWarning)
        norm = standard(x, pattern)
    with np.errstate(over="ignore"):
        expected = by_hand(norm, x, pattern).astype(output)
        y = norm(x, dtype=output)
        single = norm(x[1], dtype=output)
    assert y.dtype == output
    assert (y == expected).all()
    assert (single == expected[1]).all()
    assert not np.shares_memory(y, x)


def test_apply_against_exact_fractions():
    """Within two roundings of the exact (x - Σx/n) / std in float64."""
    x = RNG.normal(1e6, 3, (200, 1))
    norm, true = standard(x, "n d -> d"), truth(x)
    y = norm(x, dtype="float64")
    for value, result in zip(x[:, 0].tolist(), y[:, 0].tolist(), strict=True):
        exact = (Fraction(value) - Fraction(true.mean)) / Fraction(float(norm.scale[0]))
        assert abs(Fraction(result) - exact) <= Fraction(math.ulp(result)) * 2


def test_large_arrays_under_every_pattern():
    for shape in ((300, 70), (1, 300, 7), (2, 150, 70), (1, 1, 2100), (40, 300), (1, 2, 1000)):
        x = np.random.default_rng(41).integers(0, 256, shape, dtype=np.uint8)
        axes = ["a", "b", "c", "d"][: len(shape)]
        for kept in ([], axes[-1:], axes[1:]):
            pattern = f"{' '.join(axes)} -> {' '.join(kept)}"
            norm = zm.zero_mean(zm.measure(x, pattern))
            assert (norm(x) == by_hand(norm, x, pattern).astype(np.float32)).all(), (shape, pattern)
            assert (norm.invert(norm(x)) == x).all(), (shape, pattern)


def test_a_missing_first_axis():
    norm = standard()
    assert norm(PICTURES[0]).shape == (6, 4, 3)
    assert (norm(PICTURES[0]) == norm(PICTURES)[0]).all()
    assert (norm.invert(norm(PICTURES[0])) == PICTURES[0]).all()
    rows = zm.standardize(zm.measure(SEED))
    assert rows(SEED[0]).shape == (2,)
    scalar = zm.zero_mean(zm.measure(np.array([1.0, 3.0])))
    assert scalar(5.0) == 3.0
    assert scalar([5.0, 2.0]).tolist() == [3.0, 0.0]


def test_layout_chw():
    norm = standard()
    y = norm(PICTURES, layout="chw")
    assert y.shape == (5, 3, 6, 4)
    assert y.flags.c_contiguous
    assert (y == np.moveaxis(norm(PICTURES), -1, 1)).all()
    single = norm(PICTURES[0], layout="chw")
    assert single.shape == (3, 6, 4)
    assert (single == y[0]).all()
    clips = zm.zero_mean(zm.measure(PICTURES[None], "n t h w c -> c"))
    assert clips(PICTURES[None], layout="chw").shape == (1, 5, 3, 6, 4)
    out = np.empty((5, 3, 6, 4), np.float64)
    assert norm(PICTURES, layout="chw", out=out) is out
    assert (out == by_hand(norm, PICTURES, PER_CHANNEL).transpose(0, 3, 1, 2)).all()


def test_layout_that_makes_no_sense_is_refused():
    with pytest.raises(PatternError, match="layout is 'hwc'; the choice is 'chw'"):
        standard()(PICTURES, layout="hwc")
    sequences = np.random.default_rng(0).normal(size=(4, 5, 6))
    by_feature = zm.standardize(zm.measure(sequences, "n t f -> f"))
    for norm, x in ((by_feature, sequences), (zm.standardize(zm.measure(SEED)), SEED)):
        with pytest.raises(PatternError, match="'chw' moves the last of the axes h, w, c"):
            norm(x, layout="chw")


def test_layout_moves_the_channels_of_every_pattern_of_pictures():
    for pattern in (ALL, "n h w c -> c", "n h w c -> h w c", "n h w c -> w"):
        norm = standard(pattern=pattern)
        assert np.array_equal(norm(PICTURES, layout="chw"), norm(PICTURES).transpose(0, 3, 1, 2))
        assert np.array_equal(norm(PICTURES[0], layout="chw"), norm(PICTURES[0]).transpose(2, 0, 1))


def test_invert_refuses_raw_integers():
    with pytest.raises(UnitError, match="floats around zero, not uint8 data"):
        standard().invert(PICTURES)


def test_out_and_dtype():
    norm = standard()
    out = np.full((5, 6, 4, 3), 99, np.float32)
    assert norm(PICTURES, out=out) is out
    assert (out == norm(PICTURES)).all()
    one = np.empty((6, 4, 3), np.float16)
    assert norm(PICTURES[0], out=one) is one
    assert (one == norm(PICTURES[0], dtype="float16")).all()
    strided = np.empty((5, 6, 4, 6), np.float64)[..., ::2]
    assert (norm(PICTURES, out=strided) == norm(PICTURES, dtype=np.float64)).all()
    x = SEED.copy()
    rows = zm.standardize(zm.measure(SEED))
    assert rows(x, out=x) is x
    assert (x == rows(SEED, dtype="float64")).all()
    for dtype, said in (
        ("int8", "dtype is int8; choose one of float16, bfloat16, float32, float64"),
        ("complex64", "complex64"),
    ):
        with pytest.raises(PatternError, match=said):
            norm(PICTURES, dtype=dtype)
    for wrong in (
        np.empty((5, 6, 4, 2), np.float32),
        np.empty((6, 4, 3), np.float32),
        np.empty((5, 6, 4, 3), np.uint8),
    ):
        with pytest.raises(
            PatternError, match=r"out is .* it must be a float array of \(5, 6, 4, 3\)"
        ):
            norm(PICTURES, out=wrong)
    with pytest.raises(PatternError, match="out is float32, but dtype says float64"):
        norm(PICTURES, out=out, dtype="float64")


def test_nan_and_inf_pass_through():
    norm = zm.standardize(zm.measure(SEED))
    y = norm(np.array([[np.nan, np.inf], [-np.inf, 2.0]]))
    assert np.isnan(y[0, 0])
    assert y[0, 1] == np.inf
    assert y[1, 0] == -np.inf


def test_empty_data_gives_empty_results():
    norm = standard()
    assert norm(PICTURES[:0]).shape == (0, 6, 4, 3)
    assert norm.invert(norm(PICTURES[:0])).dtype == np.uint8
    assert norm(PICTURES[:, :0]).shape == (5, 0, 4, 3)


# ---------------------------------------------------------------- invert


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16", "bool"])
@pytest.mark.parametrize("output", ["float32", "float64"])
def test_round_trip_is_the_identity_for_every_value(dtype, output):
    """All 256 or 65 536 values, for features of very different mean and spread."""
    info = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    every = np.arange(info[0], info[1] + 1).astype(dtype)
    columns = [every]
    for low, width in ((info[0], 3), (info[1], 2), (0, 1), (1, 1)):
        values = np.full(len(every), low, dtype)
        values[: max(1, len(every) // 1000)] = (
            np.clip(low + width, *info) if low < info[1] else low - width + (dtype == "bool")
        )
        columns.append(values)
    data = np.stack(columns, axis=1)
    profile = zm.measure(data, "n d -> d")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeromeanWarning)
        norms = [zm.zero_mean(profile), zm.standardize(profile), zm.standardize(profile, ddof=1)]
    x = np.repeat(every[:, None], data.shape[1], axis=1)
    for norm in norms:
        back = norm.invert(norm(x, dtype=output))
        assert back.dtype == dtype
        assert (back == x).all()


def test_invert_rounds_and_clips():
    norm = zm.zero_mean(zm.measure(np.array([[100], [200]], np.uint8)))
    y = np.array([[-1000.0], [-150.4], [0.5], [1.5], [104.4], [1e9], [np.inf], [-np.inf]])
    assert norm.invert(y).ravel().tolist() == [0, 0, 150, 152, 254, 255, 255, 0]
    assert norm.invert(y, dtype="float64")[3] == 151.5
    with pytest.raises(PatternError, match="NaN cannot become uint8; give dtype='float32'"):
        norm.invert(np.array([[np.nan]]))
    assert np.isnan(norm.invert(np.array([[np.nan]]), dtype="float32"))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "uint32"])
def test_invert_clips_wide_integers_without_wrapping_round(dtype):
    info = np.iinfo(dtype)
    norm = zm.zero_mean(zm.measure(np.array([[0], [2]], dtype)))
    back = norm.invert(np.array([[1e30], [-1e30], [float(info.max)], [5.0]]))
    assert back.ravel().tolist() == [info.max, info.min, info.max, 6]


def test_round_trip_of_floats_is_close():
    x = RNG.normal(50, 9, (100, 3)).astype(np.float32)
    norm = standard(x, "n d -> d")
    assert norm.invert(norm(x)).dtype == np.float32
    np.testing.assert_allclose(norm.invert(norm(x)), x, rtol=1e-6)
    np.testing.assert_allclose(
        norm.invert(norm(x, dtype="float64"), dtype="float64"), x, rtol=1e-14
    )


def test_bfloat16_in_and_out():
    x = RNG.normal(3, 2, (50, 2)).astype(ml_dtypes.bfloat16)
    norm = standard(x, "n d -> d")
    assert (norm(x) == norm(x.astype(np.float32))).all()
    assert norm.invert(norm(x)).dtype == ml_dtypes.bfloat16
    assert (norm.invert(norm(x, dtype="float64")) == x).all()


# ---------------------------------------------------------------- shapes that do not fit


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((5, 3, 6, 4), r"keeps \(4,\) .* holds \(3,\); the channels seem to come first"),
        (
            (3, 6, 4),
            "the channels seem to come first here: move them last, or measure with 'n c h w -> c'",
        ),
        ((5, 6, 4, 1), r"data of shape \(5, 6, 4, 1\) keeps \(1,\)"),
        ((6, 4), "names 4 axes, but the array has 2"),
    ],
)
def test_misfits_name_both_shapes_and_the_repair(shape, said):
    norm = standard()
    for call in (norm, norm.invert):
        with pytest.raises(PatternError, match=said):
            call(np.zeros(shape, np.float32))


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "datetime64[s]"])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(PatternError, match="cannot normalize values of dtype"):
        standard()(np.zeros((6, 4, 3), dtype))


def test_numbers_of_single_samples_cannot_normalize_others():
    profile = zm.measure(PICTURES, "n h w c -> n c")
    for recipe in (zm.zero_mean, zm.standardize):
        with pytest.raises(PatternError, match=r"keeps its first axis.*cannot normalize others"):
            recipe(profile)


def test_features_without_data_are_named():
    values = np.array([[1.0, np.nan, 2.0], [2.0, np.nan, 3.0]])
    profile = zm.measure(values, feature_names=["a", "b", "c"])
    for recipe in (zm.zero_mean, zm.standardize):
        with pytest.raises(PatternError, match="too few values to normalize: b"):
            recipe(profile)
        with pytest.raises(PatternError, match="too few values"):
            recipe(zm.measure(SEED[:0]))


def test_a_std_beyond_float64_is_refused():
    for values in ([[1e308], [-1.7e308]], [[5e-324], [0.0]]):
        profile = zm.measure(np.array(values))
        if 0 < profile.std[0] < math.inf:
            continue
        with pytest.raises(PatternError, match="rescale the data first"):
            zm.standardize(profile)
    assert zm.zero_mean(zm.measure(np.array([[1e308], [-1.7e308]])))


# ---------------------------------------------------------------- units


def test_data_on_another_scale_is_refused_with_both_units():
    norm = standard()
    unit = PICTURES / np.float32(255)
    unit[0, 0, 0, 0] = 0
    with pytest.raises(UnitError) as caught:
        norm(unit)
    for said in (
        "float32 from 0 to 1",
        "looks like 0..1",
        "uint8 0..255",
        "multiply the data by 255",
    ):
        assert said in str(caught.value)
    with pytest.raises(UnitError, match="from -1 to 1"):
        norm(unit * 2 - 1)
    with pytest.raises(
        UnitError,
        match=r"uint16 from 257 to 65535, but the normalizer was measured on uint8 0\.\.255",
    ):
        norm(PICTURES.astype(np.uint16) * 257)
    assert (norm(PICTURES.astype(np.float32)) == norm(PICTURES)).all()
    assert (norm(PICTURES.astype(np.int64)) == norm(PICTURES)).all()


def test_numbers_of_0_to_1_refuse_0_to_255():
    unit = (PICTURES / 255).astype(np.float32)
    norm = standard(unit, range=(0, 1))
    assert norm(unit).shape == unit.shape
    for data in (PICTURES, PICTURES.astype(np.float32), PICTURES.astype(np.float64)):
        with pytest.raises(
            UnitError, match=r"to 255, but the normalizer was measured on float32 0\.\.1"
        ):
            norm(data)
    with pytest.raises(UnitError, match="multiply the data by 255"):
        standard(PICTURES.astype(np.float32), range=(0, 255))(unit)


def test_what_cannot_be_judged_is_let_through():
    norm = standard()
    norm(np.zeros((6, 4, 3), np.float32))
    norm(np.full((6, 4, 3), np.nan, np.float32))
    norm(PICTURES[:0].astype(np.float32))
    norm(np.full((6, 4, 3), 255.0001, np.float32))
    floats = standard(PICTURES.astype(np.float32))
    floats(PICTURES / 255)
    standard(PICTURES.astype(np.int16))(PICTURES.astype(np.float32) * 9)


# ---------------------------------------------------------------- constant features


def test_constant_features_get_scale_1_and_are_named():
    values = np.array([[1.0, 5.0, 0.1], [3.0, 5.0, 0.1], [8.0, 5.0, 0.1]])
    profile = zm.measure(values, feature_names=["a", "b", "c"])
    with pytest.warns(
        ZeromeanWarning, match=r"2 constant feature\(s\) have no std and are divided by 1: b, c"
    ) as caught:
        norm = zm.standardize(profile)
    assert caught[0].filename == __file__
    assert norm.constant == ("b", "c")
    assert norm.scale.tolist()[1:] == [1.0, 1.0]
    assert norm(values)[:, 1:].tolist() == [[0.0, 0.0]] * 3
    assert "constant, scale 1: b, c" in repr(norm)
    assert zm.zero_mean(profile).constant == ()


def test_near_constant_features_are_judged_by_the_rounding_of_their_format():
    """A std of u |mean| is what rounding leaves of equal numbers; four times as much is spread."""
    for dtype, ulp in (("float32", 2**-23), ("float64", 2**-52)):
        values = np.array([[1.0], [1.0], [1.0 + ulp]], dtype)
        with pytest.warns(ZeromeanWarning, match="constant"):
            assert zm.standardize(zm.measure(values)).constant == ("0",)
        values = np.array([[1.0], [1.0], [1.0 + 4 * ulp]], dtype)
        norm = zm.standardize(zm.measure(values))
        assert norm.constant == ()
        np.testing.assert_allclose(norm(values, dtype="float64").std(), 1, rtol=0.5)


def test_many_constant_features_make_a_short_warning():
    with pytest.warns(ZeromeanWarning, match=r"500 constant feature\(s\)") as caught:
        zm.standardize(zm.measure(np.zeros((2, 500))))
    assert len(str(caught[0].message)) < 150


# ---------------------------------------------------------------- groups and mean images


@pytest.mark.parametrize(
    ("pattern", "sizes"),
    [
        ("n h w (g c) -> g", {"g": 2}),
        ("n h (a w) c -> a c", {"a": 2}),
        ("(n t) h w c -> t", {"t": 5}),
        ("n h w (g c) -> c g", {"g": 2}),
    ],
)
def test_grouped_patterns(pattern, sizes):
    x = RNG.integers(0, 256, (10, 3, 8, 4), dtype=np.uint8)
    profile = zm.measure(x, pattern, **sizes)
    norm = zm.standardize(profile)
    again = zm.measure(norm(x, dtype="float64"), pattern, **sizes)
    assert again.kept_shape == norm.shift.shape
    np.testing.assert_allclose(again.mean, 0, atol=1e-14)
    np.testing.assert_allclose(again.std, 1, atol=1e-14)
    assert (norm.invert(norm(x)) == x).all()


def test_a_mean_image_is_subtracted_pixel_by_pixel():
    norm = zm.zero_mean(zm.measure(PICTURES, PER_PIXEL))
    assert norm.shift.shape == (6, 4, 3)
    assert (norm(PICTURES, dtype="float64") == PICTURES - PICTURES.mean(axis=0)).all()
    with pytest.raises(PatternError, match=r"keeps \(5, 4, 3\)"):
        norm(PICTURES[:, :5])


# ---------------------------------------------------------------- values


def test_normalizer_is_a_value(tmp_path):
    norm = standard(channels="RGB")
    assert norm == standard(channels="RGB")
    assert norm != standard(channels="BGR")
    assert norm != zm.zero_mean(zm.measure(PICTURES, PER_CHANNEL, channels="RGB"))
    assert norm != 1
    assert pickle.loads(pickle.dumps(norm)) == norm
    with pytest.raises(FrozenInstanceError):
        norm.recipe = "x"
    with pytest.raises(ValueError, match="read-only"):
        norm.shift[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        norm.scale[0] = 0


@pytest.mark.parametrize("end", [".json", ".safetensors"])
@pytest.mark.parametrize("pattern", [ALL, PER_CHANNEL, PER_PIXEL])
def test_a_loaded_normalizer_gives_the_same_bits(tmp_path, end, pattern):
    norm = standard(pattern=pattern)
    norm.save(tmp_path / f"norm{end}")
    loaded = zm.load(tmp_path / f"norm{end}")
    assert loaded == norm
    assert (loaded(PICTURES) == norm(PICTURES)).all()
    assert (loaded.invert(norm(PICTURES)) == PICTURES).all()
    with pytest.raises(ValueError, match="read-only"):
        loaded.scale[...] = 0


def test_repr_names_recipe_pattern_units_and_numbers():
    text = repr(standard(channels="RGB"))
    assert 'Normalizer(standardize, "n h w c -> c", uint8 (RGB 0..255))' in text
    assert f"{PICTURES[..., 0].mean():.7g}" in text
    assert "..." in repr(standard(pattern=PER_PIXEL))
    assert len(repr(standard(pattern=PER_PIXEL))) < 300


def test_applying_changes_neither_input_nor_normalizer():
    x, norm = PICTURES.copy(), standard()
    before = norm.shift.copy(), norm.scale.copy()
    norm(x)
    norm.invert(norm(x))
    assert (x == PICTURES).all()
    assert (norm.shift == before[0]).all()
    assert (norm.scale == before[1]).all()
