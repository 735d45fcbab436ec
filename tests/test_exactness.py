"""Mean, variance and std are the exact numbers, rounded once, where the usual formulas fail."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeromean as zm
from strategies import (
    FLOATS,
    INTEGERS,
    LAYOUTS,
    arrays,
    is_nearest_root,
    laid_out,
    numbers,
    numpy_dtype,
    rounded,
    tempers,
    truth,
)
from zeromean.rounding import ratio, sqrt_ratio
from zeromean.statistics import Extrema, Histogram, Moments

NIST = Path(__file__).parents[2] / "shared" / "data" / "nist"
with_nist = pytest.mark.skipif(
    not (NIST / "certified.json").is_file(), reason="NIST's data sets are not beside the repository"
)
quiet = pytest.mark.filterwarnings("ignore:.*infinite value:zeromean.ZeromeanWarning")


def check_readouts(profile, columns):
    """Every read-out of a profile is the exact number of its column, rounded once."""
    as_list = [np.ravel(a).tolist() for a in (profile.count, profile.mean, profile.std)]
    variances = {ddof: np.ravel(profile.var(ddof)).tolist() for ddof in (0, 1)}
    sample = np.ravel(profile.sample_std(1)).tolist()
    low, high = np.ravel(profile.min).tolist(), np.ravel(profile.max).tolist()
    nan, inf = np.ravel(profile.nan_count).tolist(), np.ravel(profile.inf_count).tolist()
    for j, values in enumerate(columns):
        true = truth(values)
        assert (true.n, true.nan, true.plus + true.minus) == (as_list[0][j], nan[j], inf[j])
        if not true.n:
            assert math.isnan(as_list[1][j])
            continue
        assert true.mean == as_list[1][j]
        assert is_nearest_root(as_list[2][j], true.var())
        assert rounded(true.var()) == variances[0][j]
        assert (true.low, true.high) == (low[j], high[j])
        if true.n > 1:
            assert rounded(true.var(1)) == variances[1][j]
            assert is_nearest_root(sample[j], true.var(1))
        else:
            assert math.isnan(variances[1][j])
            assert math.isnan(sample[j])


# ---------------------------------------------------------------- the list


def test_300_batches_of_1e306():
    """The sum is far beyond float64's range; the mean is not."""
    profile = sum(zm.measure(np.full(1000, 1e306)) for _ in range(300))
    assert profile.mean == 1e306
    assert profile.std == 0.0
    assert profile.count == 300_000
    streamed = zm.measure((np.full(1000, 1e306) for _ in range(300)), "n ->")
    assert streamed == profile


def test_20_million_float32_ones():
    ones = np.ones(20_000_000, np.float32)
    profile = zm.measure(ones)
    assert (profile.mean, profile.std, profile.count) == (1.0, 0.0, 20_000_000)
    stacked = zm.measure(ones.reshape(5000, 20, 100, 2), "n h w c -> c")
    assert stacked.mean.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("center", "spread", "dtype"),
    [(1e4, 1, "float32"), (1e8, 1, "float64"), (3000, 2, "float32"), (300, 0.05, "float32")],
)
def test_small_spread_around_a_large_center(center, spread, dtype):
    """c ± s, equally often, as the format holds them."""
    low, high = (np.array(center, dtype) + np.array([-spread, spread], dtype)).tolist()
    values = np.tile(np.array([low, high], dtype), 50_000)
    profile = zm.measure(values)
    mean = (Fraction(low) + Fraction(high)) / 2
    deviation = (Fraction(high) - Fraction(low)) / 2
    assert profile.mean == float(mean)
    assert profile.var() == float(deviation**2)
    assert profile.std == float(deviation)
    noise = np.random.default_rng(7).normal(center, spread, 10_001).astype(dtype)
    check_readouts(zm.measure(noise), [noise])


@pytest.mark.parametrize("dtype", FLOATS)
def test_denormals(dtype):
    """Numbers without leading bits; a std that is itself subnormal, or too small for float64."""
    values = numbers(dtype, "denormal", (1001, 2), seed=3)
    tiny = numbers(dtype, "tiny", (1001, 2), seed=4)
    for array in (values, tiny):
        check_readouts(zm.measure(array), array.T)


def test_one_nan_among_a_million():
    values = np.random.default_rng(1).normal(5, 2, 1_000_000).astype(np.float32)
    values[123_456] = np.nan
    profile = zm.measure(values)
    assert (profile.nan_count, profile.count) == (1, 999_999)
    assert profile == zm.measure(np.delete(values, 123_456)) + zm.measure(values[123_456:123_457])
    check_readouts(profile, [values])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e300, 5e-324, -7.3, 0.0, -0.0])
def test_constant_column(value):
    """The std of a constant is 0 and not 1e-17; its mean is the constant."""
    for n in (1, 3, 10, 12_345):
        profile = zm.measure(np.full((n, 2), value))
        assert profile.mean.tolist() == [value, value]
        assert profile.std.tolist() == [0.0, 0.0]
        assert profile.constant.all()


# ---------------------------------------------------------------- NIST


def ulps(actual, expected):
    return abs(actual - expected) / math.ulp(expected)


@with_nist
@pytest.mark.parametrize(
    "name",
    ["Lew", "Lottery", "Mavro", "Michelso", "NumAcc1", "NumAcc2", "NumAcc3", "NumAcc4", "PiDigits"],
)
def test_nist_univariate_sets(name):
    """0 ulp for the mean and 1 ulp for the std from the exact values of the float64 data."""
    expected = json.loads((NIST / "certified.json").read_text())[name]["exact_float64"]
    values = np.array((NIST / f"{name}.txt").read_text().split(), np.float64)
    profile = zm.measure(values)
    assert float.fromhex(expected["mean_hex"]) == profile.mean
    assert ulps(profile.std, float.fromhex(expected["std_ddof0_hex"])) <= 1
    assert ulps(profile.sample_std(), float.fromhex(expected["std_ddof1_hex"])) <= 1


@pytest.mark.parametrize("center", [10_000_002, 1_000_000.2, 10_000_000.2])
def test_sets_like_nist_numacc(center):
    """NumAcc2 to 4 from their definition: a center, and 500 times center ± 0.1."""
    values = np.array([center, *[center - 0.1, center + 0.1] * 500])
    check_readouts(zm.measure(values), [values])


# ---------------------------------------------------------------- any data


@quiet
@settings(max_examples=150)
@given(arrays(st.tuples(st.integers(1, 60), st.integers(1, 4))))
def test_every_readout_is_the_exact_number_rounded_once(array):
    check_readouts(zm.measure(array, "n d -> d", workers=1), array.T)


@quiet
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "int64", "float32", "float64"])
def test_planar_and_channel_last_pictures_in_any_layout(dtype, layout):
    temper = "bits" if dtype == "uint8" else tempers(dtype)[-1]
    pictures = laid_out(numbers(dtype, temper, (3, 5, 7, 4), seed=5), layout)
    check_readouts(zm.measure(pictures, "n h w c -> c"), np.moveaxis(pictures, 3, 0))
    check_readouts(zm.measure(pictures, "n c h w -> c"), np.moveaxis(pictures, 1, 0))
    check_readouts(zm.measure(pictures, "n h w c ->"), [pictures])
    check_readouts(
        zm.measure(pictures, "n h w c -> c w"), pictures.transpose(3, 2, 0, 1).reshape(28, -1)
    )


@quiet
@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_wide_integers_at_their_ends(dtype):
    """Σx² of uint64's largest needs more than 128 bits; none is lost, none becomes a float."""
    info = np.iinfo(dtype)
    ends = np.array([info.max] * 1000 + [info.min] * 999 + [info.max - 1, 1, 0], dtype)
    check_readouts(zm.measure(ends), [ends])
    same = np.full(4097, info.max, dtype)
    profile = zm.measure(same)
    assert int(info.max) == int(profile.max) == int(profile.min)
    assert float(int(info.max)) == profile.mean
    assert profile.std == 0.0
    near = np.array([info.max, info.max - 1], dtype)
    assert zm.measure(near).std == 0.5


def test_counts_beyond_what_an_int64_sum_could_hold():
    """2^60 pixels of a uint16 picture: Σx² is about 2^92."""
    counts = np.zeros((1, 65536), np.int64)
    counts[0, 65535], counts[0, 65534] = 1 << 60, 1 << 60
    sums = Histogram("uint16", counts).power_sums
    assert sums.sums[0] == (65535 + 65534) << 60
    assert sums.squares[0] == (65535**2 + 65534**2) << 60
    for n in ((1 << 31) - 1, 1 << 31, (1 << 33) + 1):  # where int64 just does, and no more
        few = np.zeros((1, 65536), np.int64)
        few[0, 65535] = n
        sums = Histogram("uint16", few).power_sums
        assert (sums.n[0], sums.sums[0], sums.squares[0]) == (n, 65535 * n, 65535**2 * n)


def test_sums_carry_over_int64_and_back():
    """A uint16 mean image summed beyond int64 equals itself after the excess is taken out."""
    block = np.full((1, 17), 65535, np.uint16)
    one = Moments.of(block)
    big = one
    for _ in range(40):
        big = big + big
    assert big.squares.tolist() == [65535**2 << 40] * 17
    assert big.squares.dtype == object
    rest = big
    for k in reversed(range(40)):
        half = one
        for _ in range(k):
            half = half + half
        rest = rest - half
    assert rest == one
    assert rest.squares.dtype == np.int64


# ---------------------------------------------------------------- where kernels change gear


def check_sums(block):
    """Moments and extrema of a block of floats, column by column, against exact sums."""
    moments, extrema = Moments.with_extrema(block)
    unit = Fraction(2) ** {"float32": -149, "float64": -1074}[block.dtype.name]
    for j in range(block.shape[1]):
        true = truth(block[:, j])
        assert true.n == moments.n[j]
        assert true.sum == int(moments.sums[j]) * unit
        assert true.squares == int(moments.squares[j]) * unit**2
        assert [true.nan, true.plus, true.minus] == moments.special[j].tolist()
        assert (true.low, true.high) == (extrema.low[j], extrema.high[j])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "n", [1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 127, 128, 129, 131, 255, 256, 257, 511, 513, 1025]
)
def test_row_counts_around_block_sizes(dtype, n):
    for columns in (1, 3):
        check_sums(numbers(dtype, "offset", (n, columns), seed=n))
        check_sums(numbers(dtype, "wide", (n, columns), seed=n))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [*range(1, 71), 511, 512, 513, 1030])
def test_column_counts_around_lane_and_tile_sizes(dtype, columns):
    n = 260 if columns < 3 else 141 if columns < 80 else 6
    temper = ("normal", "special", "jump", "wide")[columns % 4]
    check_sums(numbers(dtype, temper, (n, columns), seed=columns))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_windows_that_must_move_between_blocks(dtype):
    """The scale jumps by 1e30 and back, at every offset to the blocks of 128 rows."""
    rng = np.random.default_rng(9)
    for at in (1, 4, 100, 127, 128, 129, 256, 300):
        for factor in (1e30, 1e-30, 1e15, 2.0**20, 2.0**-19, 2.0**-23, 2.0**22):
            column = rng.normal(size=(520, 1))
            column[at : at + 130] *= factor
            check_sums(np.repeat(column, 2, axis=1).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_first_and_values_later(dtype):
    """The first block gives no hint of the scale; neither do zeros in between, of either sign."""
    rng = np.random.default_rng(10)
    for scale in (1.0, 1e-35, 1e35, 1e-300, 1e300):
        with np.errstate(over="ignore", under="ignore"):
            values = (rng.normal(size=(700, 3)) * scale).astype(dtype)
        values[:300] = 0.0
        values[::7, 1] = -0.0
        values[512:640, 2] = 0.0
        check_sums(values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 2, 40, 70])
def test_values_at_the_ends_of_the_exponents(dtype, columns):
    """float32's and float64's largest and smallest, alone, together, and beside a window's ends."""
    info = np.finfo(dtype)
    edges = [float(info.max), float(info.smallest_subnormal), float(info.smallest_normal), 1.0]
    if dtype == "float64":
        edges += [2.0**e for e in (-431, -430, -429, -411, -449, -450, 499, 500, 501, 502)]
        edges += [1e308, 1e-308, 1e154, 1e-154]
    edges += [
        np.nextafter(np.array(v, dtype), np.array(np.inf if v < 1 else 0.0, dtype)) for v in edges
    ]
    rng = np.random.default_rng(columns)
    values = np.array(edges, dtype)
    for n in (5, 131, 400):
        mixed = rng.choice(values, (n, columns)) * rng.choice(
            np.array([-1, 1], dtype), (n, columns)
        )
        check_sums(mixed.astype(dtype))
    for edge in values:
        check_sums(np.full((133, 2), edge, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_pair_of_binades_in_one_block(dtype):
    """Two values, any distance of exponents apart: the slow path takes what the window cannot."""
    info = np.finfo(dtype)
    lowest = info.minexp - info.nmant
    exponents = range(lowest, info.maxexp, 7 if dtype == "float32" else 61)
    for low in exponents:
        pairs = [(low, high) for high in exponents if high >= low]
        values = np.ldexp(1.0, np.array(pairs)).T * (1 + 2.0**-10 * (info.nmant > 10))
        block = np.repeat(values, 66, axis=0).astype(dtype)
        check_sums(block)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_special_values_spoil_no_lane(dtype):
    """One NaN or inf in any row of a block, in any lane of a fold."""
    base = np.random.default_rng(2).normal(size=(300, 5)).astype(dtype)
    for row in (0, 1, 3, 127, 128, 131, 255, 296, 299):
        for special in (np.nan, np.inf, -np.inf):
            block = base.copy()
            block[row, row % 5] = special
            check_sums(block)
    check_sums(np.full((260, 3), np.nan, dtype))
    check_sums(np.where(np.arange(780).reshape(260, 3) % 2, np.inf, -np.inf).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_columns_where_partial_sums_must_be_flushed(dtype):
    """More rows than the blocks whose sums an int64 holds: 512 x 128 rows of 64 lanes."""
    n = 70_000 if dtype == "float32" else 66_500
    top = float(np.finfo(dtype).max) * 0.99
    for value in (1.0 + float(np.finfo(dtype).eps), top):
        moments = Moments.of(np.full((n, 64), value, dtype))
        true = Fraction(float(np.array(value, dtype)))
        unit = Fraction(2) ** {"float32": -149, "float64": -1074}[dtype]
        assert set(moments.sums.tolist()) == {int(n * true / unit)}
        assert set(moments.squares.tolist()) == {int(n * true**2 / unit**2)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_of_the_largest_sums_that_a_window_holds(dtype):
    """A window opened by 1, then values just below 4: each block fills its 53 bits."""
    n, columns, value = 128 * 1100, 33, np.array(4 - 2.0**-20, dtype)
    block = np.full((n, columns), value)
    block[:128] = 1
    moments = Moments.of(block)
    true, unit = Fraction(float(value)), Fraction(2) ** {"float32": -149, "float64": -1074}[dtype]
    assert set(moments.sums.tolist()) == {int((128 + (n - 128) * true) / unit)}
    assert set(moments.squares.tolist()) == {int((128 + (n - 128) * true**2) / unit**2)}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_bounds_of_shards_and_threads_leave_no_trace(dtype):
    """An array of several shards, for any number of threads."""
    temper = "bits" if dtype in INTEGERS else "normal"
    values = numbers(dtype, temper, (9, 1 << 20), seed=6)[:, : (1 << 20) - 3]
    flat = np.ascontiguousarray(values).reshape(-1)
    profiles = [zm.measure(flat, "n ->", workers=k) for k in (1, 2, 5)]
    assert profiles[0] == profiles[1] == profiles[2]
    parts = [zm.measure(part, "n ->") for part in np.array_split(flat, 7)]
    assert sum(parts) == profiles[0]
    assert profiles[0].min == flat.min()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<i2", ">i2", ">f4", ">u8"])
def test_memory_maps_of_any_byte_order(tmp_path, dtype, order):
    temper = "bits" if dtype[1] in "iu" else "wide"
    name = np.dtype(dtype).newbyteorder("=").name
    values = numbers(name, temper, (200, 6), seed=8)
    on_disk = np.memmap(tmp_path / "x", dtype, "w+", shape=values.shape, order=order)
    on_disk[:] = values
    on_disk.flush()
    mapped = np.memmap(tmp_path / "x", dtype, "r", shape=values.shape, order=order)
    assert zm.measure(mapped) == zm.measure(values)
    check_readouts(zm.measure(mapped), values.T)


@quiet
def test_bfloat16_and_float16_mean_images_are_summed_exactly():
    """More kept entries than a histogram is kept for: exact sums instead."""
    for dtype in ("float16", "bfloat16"):
        for temper in ("bits", "denormal", "huge", "special"):
            block = numbers(dtype, temper, (9, 20), seed=11)
            profile = zm.measure(block)
            assert isinstance(profile.statistics, Moments)
            check_readouts(profile, block.T)


def test_extrema_of_integers_stay_integers():
    values = np.array([[2**64 - 1], [2**63 + 1]], np.uint64)
    assert [Extrema.of(values).low.tolist(), Extrema.of(values).high.tolist()] == [
        [2**63 + 1],
        [2**64 - 1],
    ]
    profile = zm.measure(values)
    assert profile.max.dtype == np.uint64
    assert profile.max.tolist() == [2**64 - 1]


# ---------------------------------------------------------------- rounding


@given(st.integers(0, 2**1200), st.integers(1, 2**600))
def test_ratio_and_root_are_rounded_to_nearest(numerator, denominator):
    value = Fraction(numerator, denominator)
    assert ratio(numerator, denominator) == rounded(value)
    assert is_nearest_root(sqrt_ratio(numerator, denominator), value)


@given(st.integers(1, 2**40), st.integers(-2200, 2200))
def test_roots_at_both_ends_of_float64(odd, exponent):
    """Halfway cases, subnormal roots and overflow."""
    value = Fraction(odd) * Fraction(2) ** exponent
    assert is_nearest_root(sqrt_ratio(value.numerator, value.denominator), value)
    exact = Fraction(odd) ** 2 * Fraction(2) ** (2 * (exponent // 2))
    root = Fraction(odd) * Fraction(2) ** (exponent // 2)
    assert rounded(root) == sqrt_ratio(exact.numerator, exact.denominator)


def test_root_comes_from_the_rational_where_the_variance_overflows():
    values = np.array([1e200, -1e200, 1.5e200])
    with np.errstate(over="ignore"):
        profile = zm.measure(values)
    assert math.isinf(profile.var())
    assert is_nearest_root(float(profile.std), truth(values).var())
    small = np.array([1e-200, -1e-200, 0.0])
    assert zm.measure(small).var() == 0.0
    assert is_nearest_root(float(zm.measure(small).std), truth(small).var())


# ---------------------------------------------------------------- why not the usual formulas


def test_float32_mean_of_ones_stops_at_2_to_the_24():
    """One running float32 sum, as a loop or `np.mean` along outer axes keeps it, gets stuck.

    From 16 777 216 on, adding 1 no longer changes a float32.
    """
    ones = np.ones((20_000_000, 2), np.float32)
    assert ones.mean(axis=0).tolist() == [np.float32(0.8388608)] * 2
    assert zm.measure(ones).mean.tolist() == [1.0, 1.0]


def test_float32_mean_of_pictures_drifts():
    """NHWC pictures of one value: the channel means of NumPy's float32 mean are not that value."""
    pictures = np.full((100, 128, 128, 3), 0.1, np.float32)
    naive = pictures.mean(axis=(0, 1, 2))
    assert (np.abs(naive - np.float32(0.1)) > 1e-6).all()
    assert zm.measure(pictures, "n h w c -> c").mean.tolist() == [float(np.float32(0.1))] * 3


def test_mean_of_squares_minus_squared_mean_is_nan():
    """E[x²] − E[x]² cancels: for 1e8 ± 1 it is off by a factor, and its root can be NaN.

    Chan, Golub and LeVeque, *Algorithms for Computing the Sample Variance*, The American
    Statistician 37(3), 1983.
    """
    constants = [np.full(k, 1e8 + 0.1) for k in range(2, 400)]
    naive = np.array([(v**2).mean() - v.mean() ** 2 for v in constants])
    assert (naive < 0).any()
    with np.errstate(invalid="ignore"):
        assert np.isnan(np.sqrt(naive)).any()
    assert all(zm.measure(v).std == 0.0 for v in constants)
    pair = np.tile([1e8 - 1, 1e8 + 1], 500)
    assert (pair**2).mean() - pair.mean() ** 2 != 1.0
    assert zm.measure(pair).var() == 1.0


def test_mean_of_batch_means_and_stds_is_not_the_whole():
    """Unequal batches: the average of their means is wrong, and so is that of their stds."""
    batches = [np.array([0.0] * 90), np.array([10.0] * 10)]
    assert np.mean([b.mean() for b in batches]) == 5.0
    assert np.mean([b.std() for b in batches]) == 0.0
    whole = sum(map(zm.measure, batches))
    assert (whole.mean, whole.std) == (1.0, 3.0)


def test_plain_float64_sums_depend_on_the_order():
    values = np.array([1e16, 1.0, -1e16, 1.0] * 50)
    assert sum(values.tolist()) != sum(sorted(values.tolist()))
    assert zm.measure(values) == zm.measure(np.sort(values))
    assert zm.measure(values).mean == 0.5


@pytest.mark.parametrize("dtype", FLOATS)
def test_both_zeros_are_one_zero(dtype):
    for n in (1, 5, 128, 300):
        plus, minus = (z.astype(numpy_dtype(dtype)) for z in (np.zeros((n, 1)), -np.zeros((n, 1))))
        one, two = zm.measure(plus), zm.measure(minus)
        assert one == two
        assert Extrema.of(plus) == Extrema.of(minus)
        read = [v for p in (one, two) for v in (p.min[0], p.max[0], p.mean[0])]
        read += [v for e in map(Extrema.of, (plus, minus)) for v in (e.low[0], e.high[0])]
        assert [math.copysign(1, v) for v in read] == [1.0] * 10
