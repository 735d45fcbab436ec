"""Missing values: left out of every statistic and counted, exactly, whatever tells them."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import zeromean as zm
from strategies import COUNTED, DTYPES, ITEMIZED, numbers, rounded, tempers, truth
from zeromean.accumulation import Plan, combine, measure_shard
from zeromean.errors import PatternError, SourceError, ZeromeanWarning
from zeromean.masking import nodata_values, representable
from zeromean.sources import Item
from zeromean.sources.arrays import ItemShard
from zeromean.sources.decode import DecodeError, labels_of
from zeromean.statistics import ItemStds

GEOTIFF = Path(__file__).parents[2] / "shared" / "data" / "geotiff"
RNG = np.random.default_rng(70)
PER_CHANNEL, PER_PIXEL = "n h w c -> c", "n h w c -> h w c"
#: Patterns, and the matrix (samples, features) that each makes of an array, by hand.
PATTERNS = {
    PER_CHANNEL: lambda x: x.reshape(-1, x.shape[3]),
    "n h w c ->": lambda x: x.reshape(-1, 1),
    PER_PIXEL: lambda x: x.reshape(len(x), -1),
    "n c h w -> c": lambda x: x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1]),
    "n h w c -> w": lambda x: x.transpose(0, 1, 3, 2).reshape(-1, x.shape[2]),
    "n h w (g c) -> g": lambda x: (
        x.reshape(*x.shape[:3], 2, 2).transpose(0, 1, 2, 4, 3).reshape(-1, 2)
    ),
    "(n b) h w c -> b": lambda x: (
        x.reshape(-1, 2, *x.shape[1:]).transpose(0, 2, 3, 4, 1).reshape(-1, 2)
    ),
    "n h w c -> n c": lambda x: x.transpose(1, 2, 0, 3).reshape(-1, x.shape[0] * x.shape[3]),
}
SIZES = {"n h w (g c) -> g": {"g": 2}, "(n b) h w c -> b": {"b": 2}}


def matrix(values, gaps, pattern):
    """The columns of present values, by hand."""
    rows, missing = PATTERNS[pattern](values), PATTERNS[pattern](gaps)
    return [rows[~missing[:, j], j] for j in range(rows.shape[1])], missing.sum(axis=0)


def check(profile, columns, lacking):
    """Every statistic is that of the present values, by integers and rationals alone."""
    sums = profile.statistics.power_sums
    nan = np.ravel(profile.nan_count)
    for j, column in enumerate(columns):
        expected = truth(column)
        assert sums.n[j] == expected.n
        assert nan[j] == lacking[j] + expected.nan
        assert np.ravel(profile.inf_count)[j] == expected.plus + expected.minus
        scale = 1 << -sums.exponent if sums.exponent < 0 else 1
        assert sums.sums[j] == expected.sum * scale
        assert sums.squares[j] == expected.squares * scale * scale
        assert profile.extrema.low[j] == expected.low
        assert profile.extrema.high[j] == expected.high
        if expected.n:
            assert np.ravel(profile.mean)[j] == rounded(expected.sum / expected.n)
            assert np.ravel(profile.var())[j] == rounded(expected.var())


def measured(items, plan):
    """What items with missing values give, through one shard."""
    whole = combine(iter([measure_shard(ItemShard(tuple(items)), plan)]), plan.pattern)
    ((kind, partial),) = whole.partials.items()
    return partial.profile(plan, kind, whole.record)


def plan_of(pattern, **options):
    return Plan(zm.Pattern.parse(pattern, **SIZES.get(pattern, {})), **options)


def gaps_of(shape, share=0.3, seed=1):
    return np.random.default_rng(seed).random(shape) < share


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*infinite value:zeromean.ZeromeanWarning",
    "ignore:.*is NaN.*empty:zeromean.ZeromeanWarning",
)

# ---------------------------------------------------------------- items that know what is missing


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_missing_elements_are_left_out_of_every_statistic(dtype, pattern):
    """All formats, all kinds of patterns; counted and summed ones."""
    values = numbers(dtype, tempers(dtype)[0], (6, 3, 5, 4), seed=71)
    gaps = gaps_of(values.shape)
    gaps[:, :, 0, 0] = True  # nothing at all is left of some features of mean images
    item = Item(values, "x", batched=True, missing=gaps)
    profile = measured([item], plan_of(pattern, quantiles=True))
    columns, lacking = matrix(values, gaps, pattern)
    check(profile, columns, lacking)
    if (buckets := profile.buckets) is not None:
        assert (buckets.finite[1].sum(axis=1) == profile.statistics.power_sums.n).all()
        assert (buckets.special == profile.statistics.special).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float32"])
@pytest.mark.parametrize("shape", [(1, 3, 5, 1), (6, 1, 1, 1), (5, 4), (1, 3, 5, 4)])
def test_what_is_missing_broadcasts(dtype, shape):
    """A picture's mask holds for all channels, one of a channel for all pictures."""
    values = numbers(dtype, tempers(dtype)[1], (6, 3, 5, 4), seed=72)
    gaps = gaps_of(shape)
    full = np.broadcast_to(gaps, values.shape)
    profile = measured([Item(values, "x", batched=True, missing=gaps)], plan_of(PER_CHANNEL))
    check(profile, *matrix(values, full, PER_CHANNEL))


@pytest.mark.parametrize("layout", ["F", "reversed", "big-endian", "strided"])
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_any_memory_layout(dtype, layout):
    values = numbers(dtype, "few", (6, 3, 5, 4), seed=73)
    gaps = gaps_of(values.shape)
    laid = {
        "F": np.asfortranarray,
        "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
        "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
        "strided": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    }[layout](values)
    laid.flags.writeable = False
    for pattern in PATTERNS:
        profile = measured([Item(laid, "x", batched=True, missing=gaps)], plan_of(pattern))
        check(profile, *matrix(values, gaps, pattern))


@settings(max_examples=60)
@given(data=st.data())
def test_any_split_gives_the_same_bits(data):
    """Pictures by themselves or in batches, some with gaps and some without: one profile."""
    dtype = data.draw(st.sampled_from(DTYPES))
    pattern = data.draw(st.sampled_from([PER_CHANNEL, "n h w c ->", PER_PIXEL, "n h w c -> w"]))
    values = numbers(dtype, data.draw(st.sampled_from(tempers(dtype))), (7, 3, 4, 2), seed=74)
    gaps = gaps_of(values.shape, data.draw(st.sampled_from([0.05, 0.5, 1.0])))
    gaps[data.draw(st.lists(st.integers(0, 6), max_size=7))] = False
    plan = plan_of(pattern, quantiles=True)
    whole = measured([Item(values, "x", batched=True, missing=gaps)], plan)
    cut = data.draw(st.integers(1, 6))
    items = [
        Item(v, "x", missing=g if g.any() else None) for v, g in zip(values, gaps, strict=True)
    ]
    batch = Item(values[:cut], "x", batched=True, missing=gaps[:cut])
    assert measured(items, plan) == whole
    assert measured([*items[cut:], batch], plan) == whole
    assert measured(items[:cut], plan) + measured(items[cut:], plan) == whole
    assert whole - measured(items[cut:], plan) == measured(items[:cut], plan)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_missing_is_as_if_nobody_had_looked(dtype):
    """A mask that leaves out nothing, and no mask, are equal and save the same bytes."""
    values = numbers(dtype, "few" if dtype != "bool" else "bits", (5, 4, 3, 2), seed=75)
    none = np.zeros((4, 3, 1), bool)
    for pattern in (PER_CHANNEL, PER_PIXEL, "n h w c ->"):
        plan = plan_of(pattern)
        plain = measured([Item(values, "x", batched=True)], plan)
        assert measured([Item(values, "x", batched=True, missing=none)], plan) == plain
        assert measured([Item(v, "x", missing=none) for v in values], plan) == plain


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int32"])
def test_large_arrays_are_measured_in_pieces(dtype, monkeypatch):
    """However small the pieces, and wherever a large picture is cut."""
    values = numbers(dtype, "few", (3, 31, 17, 4), seed=76)
    gaps = gaps_of(values.shape)
    item = Item(values, "x", batched=True, missing=gaps)
    whole = {pattern: measured([item], plan_of(pattern)) for pattern in (PER_CHANNEL, PER_PIXEL)}
    for size in (1, 100, 3000):
        monkeypatch.setattr("zeromean.gathering._STACK_KEPT", size)
        monkeypatch.setattr("zeromean.gathering._ROWS_KEPT", 1)
        for pattern, expected in whole.items():
            assert measured([item], plan_of(pattern)) == expected


def test_an_empty_array_with_gaps_is_an_empty_profile():
    for shape in ((0, 3, 5, 4), (2, 0, 5, 4)):
        for dtype in ("uint8", "int32", "float32"):
            item = Item(np.zeros(shape, dtype), "x", batched=True, missing=np.ones(shape, bool))
            profile = measured([item], plan_of(PER_CHANNEL))
            assert profile.count.tolist() == [0] * 4
            assert profile == measured([replace(item, missing=None)], plan_of(PER_CHANNEL))


# ---------------------------------------------------------------- the stds of single items


@pytest.mark.parametrize("dtype", ITEMIZED)
def test_the_stds_of_items_are_those_of_their_present_values(dtype):
    """Each picture's own std, of the values that it has; one that has none is left out."""
    values = numbers(dtype, "bits", (9, 6, 5, 3), seed=77)
    gaps = gaps_of((9, 6, 5, 1))
    gaps[2], gaps[5, :, 1:] = True, False
    stds = ItemStds.empty(3)
    for picture, missing in zip(values, gaps[..., 0], strict=True):
        present = picture[~missing]
        if len(present):
            stds += ItemStds.of(np.ascontiguousarray(present)[None])
    item = Item(values, "x", batched=True, missing=gaps)
    profile = measured([item], plan_of(PER_CHANNEL))
    assert profile.items_stds == stds
    assert profile.items_stds.n == 8
    by_value = np.where(gaps, values.dtype.type(1), values)
    dropped = measured([Item(by_value, "x", batched=True)], plan_of(PER_CHANNEL, nodata=(1,)))
    of_present = measured(
        [Item(by_value, "x", batched=True, missing=by_value == 1)], plan_of(PER_CHANNEL)
    )
    assert dropped == of_present


# ---------------------------------------------------------------- covariance


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_with_a_missing_feature_are_left_out_of_a_covariance(dtype):
    values = numbers(dtype, "few" if dtype != "bool" else "bits", (40, 3), seed=78)
    gaps = gaps_of(values.shape, 0.2)
    complete = ~gaps.any(axis=1)
    pattern = "n d -> d"
    item = Item(values, "x", batched=True, missing=gaps)
    profile = measured([item], plan_of(pattern, covariance=True))
    expected = measured(
        [Item(values[complete], "x", batched=True)], plan_of(pattern, covariance=True)
    )
    assert profile.covariance.n == complete.sum()
    assert profile.covariance.left_out == (~complete).sum()
    assert np.array_equal(profile.cov(), expected.cov())


def test_nodata_values_are_left_out_of_a_covariance_too():
    """Though the counts could be dropped at the end, rows must be told apart one by one."""
    values = RNG.integers(0, 4, (200, 3), dtype=np.uint8)
    profile = zm.measure(values, nodata=3, covariance=True)
    complete = values[(values != 3).all(axis=1)].astype(np.int64)
    assert profile.covariance.n == len(complete)
    centered = complete - complete.mean(axis=0)
    assert np.allclose(profile.cov(), centered.T @ centered / len(complete), rtol=1e-12)
    assert (
        zm.measure(values[:50], nodata=3, covariance=True)
        + zm.measure(values[50:], nodata=3, covariance=True)
    ) == profile
    assert replace(profile, covariance=None) == zm.measure(values, nodata=3)


# ---------------------------------------------------------------- nodata=


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nodata_values_are_left_out(dtype, pattern):
    """As with the same elements missing, for every format and pattern."""
    values = numbers(dtype, "few" if dtype != "bool" else "bits", (6, 3, 5, 4), seed=79)
    gaps = values == values.dtype.type(1)
    assert gaps.any()
    profile = zm.measure(values, pattern, nodata=1, quantiles=True, **SIZES.get(pattern, {}))
    check(profile, *matrix(values, gaps, pattern))
    item = Item(values, "x", batched=True, missing=gaps)
    assert profile == measured([item], plan_of(pattern, quantiles=True))
    if pattern not in ("(n b) h w c -> b", "n h w c -> n c"):  # pictures are the samples
        sizes = SIZES.get(pattern, {})
        assert zm.measure(list(values), pattern, nodata=[1], quantiles=True, **sizes) == profile


@pytest.mark.parametrize("dtype", COUNTED)
def test_several_nodata_values_and_missing_elements_together(dtype):
    values = numbers(dtype, "few" if dtype != "bool" else "bits", (6, 3, 5, 4), seed=80)
    gaps = gaps_of(values.shape, 0.4)
    item = Item(values, "x", batched=True, missing=gaps)
    profile = measured([item], plan_of(PER_CHANNEL, nodata=(0, 1)))
    check(profile, *matrix(values, gaps | (values == 0) | (values == 1), PER_CHANNEL))


def test_minus_zero_is_the_nodata_value_zero():
    values = np.array([[0.0], [-0.0], [3.0]])
    for dtype in ("float16", "float32", "float64", ml_dtypes.bfloat16):
        for nodata in (0, 0.0, -0.0):
            profile = zm.measure(values.astype(dtype), nodata=nodata)
            assert (profile.count[0], profile.nan_count[0], profile.mean[0]) == (1, 2, 3.0)


def test_a_decimal_nodata_value_is_rounded_to_the_format():
    """-3.4e38 of GDAL, and 0.1, are no float32; what a file holds is the nearest one."""
    for value in (-3.4e38, -3.4028234663852886e38, 0.1):
        for dtype in ("float32", "float64"):
            values = np.array([[value], [5.0]], dtype)
            profile = zm.measure(values, nodata=value)
            assert (profile.count[0], profile.mean[0]) == (1, 5.0)
    half = np.array([[0.1], [5.0]], np.float16)
    assert zm.measure(half, nodata=0.1).mean == 5.0


def test_infinity_may_stand_for_no_data():
    values = np.array([[np.inf], [1.0], [-np.inf]], np.float32)
    profile = zm.measure(values, nodata=-np.inf)
    assert (profile.nan_count[0], profile.inf_count[0], profile.count[0]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", -9999),
        ("uint8", 256),
        ("int16", 0.5),
        ("bool", 2),
        ("float16", 1e6),
        ("float32", 1e39),
        ("int64", 2**63),
        ("uint8", np.inf),
    ],
)
def test_a_nodata_value_that_the_data_cannot_hold_is_warned_of_once(dtype, nodata):
    values = numbers(dtype, "bits", (8, 2), seed=81)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        profile = zm.measure(values, nodata=nodata)
    texts = [str(w.message) for w in caught if "nodata" in str(w.message)]
    value = nodata_values(nodata)[0]
    assert texts == [
        f"nodata={value!r} is no value of {dtype} data, so nothing was left out for it"
    ]
    assert profile == zm.measure(values)


def test_large_integers_are_compared_as_integers():
    """No way through float64, where 2^63 - 1 and its neighbors are one."""
    values = np.array([[2**63 - 1], [2**63 - 2], [5]])
    profile = zm.measure(values, nodata=2**63 - 1)
    assert profile.extrema.high[0] == 2**63 - 2
    huge = np.array([[2**64 - 1], [7]], np.uint64)
    assert zm.measure(huge, nodata=2**64 - 1).extrema.high[0] == 7


def test_nodata_may_be_nan_and_any_kind_of_number():
    values = np.array([[1.0, np.nan], [2.0, 3.0]])
    assert zm.measure(values, nodata=np.nan) == zm.measure(values)
    for nodata in (2, 2.0, np.float32(2), np.int8(2), np.array(2), [2, 2.0], (np.nan, 2)):
        assert zm.measure(values, nodata=nodata).count.tolist() == [1, 1]
    assert nodata_values(None) == () == nodata_values([])
    for wrong in ("0", ["0"], [None], 1j, {"a": 1}):
        with pytest.raises(PatternError, match=r"nodata is .*; give a number"):
            zm.measure(values, nodata=wrong)


def test_only_representable_values_are_compared():
    assert representable((0, -1, 255, 256, 0.5), np.dtype("uint8")) == (0, 255)
    assert representable((0, 1, 2), np.dtype(bool)) == (False, True)
    assert representable((10**400, 1), np.dtype("float64")) == (1.0,)
    assert [v.dtype for v in representable((0.1,), np.dtype("float32"))] == [np.float32]


def test_nodata_in_tables_column_by_column():
    """Each column in its own dtype; warned of only if no column can hold the value."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "a": np.array([0, 7, 255], np.uint8),
            "b": np.array([0.5, -9999, np.nan], np.float32),
            "c": np.array([-9999, 3, 0], np.int32),
        }
    )
    profile = zm.measure(frame, nodata=-9999, quantiles=True, covariance=True)
    assert profile.count.tolist() == [3, 1, 2]
    assert profile.nan_count.tolist() == [0, 2, 1]
    assert profile.mean.tolist() == [262 / 3, 0.5, 1.5]
    assert profile.covariance.n == 0
    assert zm.measure(frame, nodata=0).nan_count.tolist() == [1, 1, 1]
    parts = [zm.measure(frame[i : i + 1], nodata=0) for i in range(3)]
    assert sum(parts) == zm.measure(frame, nodata=0)
    with pytest.warns(ZeromeanWarning, match="no value of float32, int32, uint8 data"):
        zm.measure(frame, nodata=1e39)


def test_nodata_by_group():
    values = RNG.integers(0, 4, (60, 3), dtype=np.uint8)
    labels = RNG.integers(0, 3, 60)
    for dtype in ("uint8", "int32", "float32"):
        groups = zm.measure(values.astype(dtype), by=labels, nodata=0)
        for k in range(3):
            assert groups[k] == zm.measure(values[labels == k].astype(dtype), nodata=0)
        assert groups.total == zm.measure(values.astype(dtype), nodata=0)


def test_what_was_left_out_is_saved_and_loaded(tmp_path):
    values = numbers("int16", "few", (6, 3, 5, 4), seed=82)
    for dtype in ("uint8", "int16", "int32", "float16", "float32", "bool"):
        for pattern in (PER_CHANNEL, PER_PIXEL):
            profile = zm.measure(values.astype(dtype), pattern, nodata=1, quantiles=True)
            assert profile.nan_count.any()
            for name in ("a.json", "a.safetensors"):
                profile.save(tmp_path / name)
                assert zm.load(tmp_path / name) == profile


def test_quantiles_and_recipes_leave_it_out():
    values = RNG.integers(0, 9, (200, 2), dtype=np.uint8)
    kept = [column[column != 0] for column in values.T]
    profile = zm.measure(values, nodata=0)
    assert profile.quantile(0.3).tolist() == [np.quantile(c, 0.3) for c in kept]
    assert zm.robust(profile).shift.tolist() == [np.median(c) for c in kept]
    assert zm.standardize(profile).scale.tolist() == profile.std.tolist()


# ---------------------------------------------------------------- masks


def write(path, array, mode=None, palette=None):
    """Save a label image or a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image = Image.frombytes("P", image.size, array.tobytes())
        image.putpalette(palette)
    elif mode is not None:
        image = image.convert(mode)
    image.save(path)


PICTURES = {
    f"{'ab'[i % 2]}/{i}": RNG.integers(0, 256, (5 + i, 9 - i, 3), dtype=np.uint8) for i in range(5)
}
LABELS = {name: RNG.integers(0, 3, x.shape[:2], dtype=np.uint8) for name, x in PICTURES.items()}


@pytest.fixture
def folders(tmp_path):
    """Pictures, and label images beside them under the same names."""
    for name, picture in PICTURES.items():
        write(tmp_path / "images" / f"{name}.png", picture)
        write(tmp_path / "masks" / f"{name}.png", LABELS[name])
    return tmp_path / "images", tmp_path / "masks"


def foreground(ignore=(0,), names=tuple(PICTURES)):
    """Columns of the pixels that count, and how many do not."""
    present = np.concatenate(
        [PICTURES[n][~np.isin(LABELS[n], ignore)] for n in names], dtype=np.uint8
    )
    lacking = sum(int(np.isin(LABELS[n], ignore).sum()) for n in names)
    return list(present.T), [lacking] * 3


def test_a_folder_of_label_images_says_which_pixels_count(folders):
    images, masks = folders
    profile = zm.measure(images, mask=masks)
    check(profile, *foreground())
    assert profile.provenance.notes["masked"] == 5
    assert profile.provenance.items == 5
    for ignore in ((1,), (0, 2), [2], (7,)):
        check(zm.measure(images, mask=str(masks), ignore=ignore), *foreground(ignore))
    check(zm.measure(images, mask=masks, ignore=2), *foreground((2,)))
    assert zm.measure(images, mask=masks, ignore=(7,)) == zm.measure(images)


def test_masks_have_any_form(folders):
    """Palette (whose indices count, not its colors), gray, 1-bit, 16-bit, gray saved as RGB."""
    images, masks = folders
    colors = bytes(RNG.integers(0, 256, 768, dtype=np.uint8))
    expected = zm.measure(images, mask=masks, ignore=(0, 2))
    saved = {
        "palette": lambda path, x: write(path, x, palette=colors),
        "16-bit": lambda path, x: write(path, x.astype(np.uint16) * 300),
        "RGB": lambda path, x: write(path, np.repeat(x[..., None], 3, axis=2)),
        "1-bit": lambda path, x: write(path, (x == 1).astype(np.uint8) * 255, "1"),
    }
    for form, save in saved.items():
        shutil.rmtree(masks)
        for name, labels in LABELS.items():
            save(masks / f"{name}.png", labels)
        ignore = {"16-bit": (0, 600), "1-bit": (0,)}.get(form, (0, 2))
        assert zm.measure(images, mask=masks, ignore=ignore) == expected, form


def test_masks_have_any_extension(folders):
    images, masks = folders
    expected = zm.measure(images, mask=masks)
    for i, (name, extension) in enumerate(
        zip(PICTURES, (".bmp", ".tif", ".PNG", ".webp", ".pgm"), strict=True)
    ):
        (masks / f"{name}.png").unlink()
        if extension == ".webp":
            Image.fromarray(LABELS[name]).convert("RGB").save(masks / f"{name}.webp", lossless=True)
        else:
            write(masks / f"{name}{extension}", LABELS[name])
        assert i < 5
    assert zm.measure(images, mask=masks) == expected


def test_several_folders_and_single_files_share_masks(folders, tmp_path):
    """By the name below each folder, or with the folder's own name in front."""
    images, masks = folders
    more = tmp_path / "more"
    write(more / "x" / "9.png", PICTURES["a/0"])
    write(masks / "x" / "9.png", LABELS["a/0"])
    profile = zm.measure([images, more], mask=masks)
    assert profile == zm.measure(images, mask=masks) + zm.measure(more, mask=masks)
    nested = tmp_path / "nested"
    shutil.copytree(masks, nested / "images")
    shutil.move(nested / "images" / "x", nested / "more" / "x")
    assert zm.measure([images, more], mask=nested) == profile
    one = tmp_path / "one"
    write(one / "0.png", LABELS["a/0"])
    check(zm.measure(images / "a" / "0.png", mask=one), *foreground(names=("a/0",)))


def test_a_picture_without_its_mask_is_skipped_with_the_reason(folders):
    images, masks = folders
    (masks / "a" / "2.png").unlink()
    write(masks / "b" / "1.png", LABELS["b/1"][1:])
    (masks / "a" / "4.png").write_bytes(b"GIF89a no picture at all")
    write(masks / "a" / "0.png", PICTURES["a/0"])
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(images, mask=masks)
    check(profile, *foreground(names=("b/3",)))
    reasons = dict(profile.provenance.skipped)
    assert reasons["a/2.png"] == f"there is no mask a/2 (.png) in {masks}"
    assert reasons["b/1.png"] == "its mask is 5 x 8, but the picture 6 x 8"
    assert f"its mask {masks}/a/4.png cannot be used: " in reasons["a/4.png"]
    assert "it holds RGB and not one whole number for each pixel" in reasons["a/0.png"]
    assert profile.provenance.notes == {"masked": 1}
    with pytest.raises(SourceError, match=r"a/0\.png: its mask"):
        zm.measure(images, mask=masks, strict=True)


def test_a_function_gives_the_labels(folders):
    """As integers, truth values, or the path of a label image."""
    images, masks = folders
    expected = zm.measure(images, mask=masks)
    forms = {
        "integers": lambda name: LABELS[name[:-4]].astype(np.int64),
        "truth values": lambda name: LABELS[name[:-4]] > 0,
        "with a channel": lambda name: LABELS[name[:-4]][..., None],
        "a path": lambda name: masks / name,
    }
    for form, function in forms.items():
        assert zm.measure(images, mask=function) == expected, form
    with pytest.raises(PatternError, match=r"the mask of a/0.png is float64; labels are integers"):
        zm.measure(images, mask=lambda name: LABELS[name[:-4]] / 2)

    def some(name):
        if name.startswith("b"):
            raise KeyError(name)
        return None if name == "a/2.png" else LABELS[name[:-4]]

    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(images, mask=some)
    check(profile, *foreground(names=("a/0", "a/4")))
    reasons = dict(profile.provenance.skipped)
    assert reasons["b/1.png"] == "the function that gives its mask raised KeyError: 'b/1.png'"
    assert reasons["a/2.png"] == "there is no mask for it: the function gave None"


def test_masks_of_lists_and_of_other_patterns(folders):
    images, masks = folders
    names = list(PICTURES)
    given = list(PICTURES.values())
    profile = zm.measure(given, mask=lambda item: LABELS[names[int(item.split()[1])]])
    assert profile.statistics == zm.measure(images, mask=masks).statistics
    first = [x.transpose(2, 0, 1) for x in given]
    turned = zm.measure(
        first, "n c h w -> c", mask=lambda item: LABELS[names[int(item.split()[1])]]
    )
    assert turned.statistics == profile.statistics
    gray = zm.measure(
        [x[..., 0] for x in given],
        "n h w ->",
        mask=lambda item: LABELS[names[int(item.split()[1])]],
    )
    assert gray.count == profile.count[0]
    assert gray.mean == profile.mean[0]
    one = zm.measure(images, "n h w c ->", mask=masks)
    assert one.count == profile.count.sum()


def test_mask_and_nodata_and_groups_together(folders):
    images, masks = folders
    profile = zm.measure(images, mask=masks, nodata=[0, 255], by="class")
    for group in "ab":
        names = [n for n in PICTURES if n.startswith(group)]
        kept = np.concatenate([PICTURES[n][LABELS[n] != 0] for n in names])
        columns = [c[(c != 0) & (c != 255)] for c in kept.T]
        size = sum(PICTURES[n].shape[0] * PICTURES[n].shape[1] for n in names)
        check(profile[group], columns, [size - len(c) for c in columns])
    assert profile.total == zm.measure(images, mask=masks, nodata=[0, 255])


def test_the_digest_is_that_of_pictures_and_masks(folders):
    images, masks = folders
    before = zm.measure(images, mask=masks).provenance
    write(masks / "a" / "0.png", 1 - LABELS["a/0"] % 2)
    after = zm.measure(images, mask=masks).provenance
    assert before.digest != after.digest
    assert zm.measure(images).provenance.digest not in (before.digest, after.digest)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_masks_travel_to_workers(folders, executor):
    images, masks = folders
    expected = zm.measure(images, mask=masks)
    pool = (
        ThreadPoolExecutor(2)
        if executor == "threads"
        else ProcessPoolExecutor(1, mp_context=get_context("forkserver"))
    )
    with pool:
        assert zm.measure(images, mask=masks, executor=pool) == expected


ARRAY = RNG.integers(0, 5, (12, 4, 6, 3), dtype=np.uint8)
ARRAY_LABELS = RNG.integers(0, 3, (12, 4, 6), dtype=np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
@pytest.mark.parametrize("pattern", [PER_CHANNEL, PER_PIXEL, "n h w c ->"])
def test_a_mask_that_is_an_array_is_cut_along_with_the_data(dtype, pattern, monkeypatch):
    monkeypatch.setattr("zeromean.sources.arrays._SMALLEST_VIEW", 200)
    monkeypatch.setattr("zeromean.sources.arrays._LARGEST_VIEW", 200)
    values = ARRAY.astype(dtype)
    gaps = np.broadcast_to((ARRAY_LABELS == 0)[..., None], values.shape)
    profile = zm.measure(values, pattern, mask=ARRAY_LABELS)
    check(profile, *matrix(values, gaps, pattern))
    for mask in (
        ARRAY_LABELS > 0,
        ARRAY_LABELS[..., None],
        ARRAY_LABELS.tolist(),
        np.repeat(ARRAY_LABELS[..., None], 3, axis=3),
    ):
        assert zm.measure(values, pattern, mask=mask) == profile
    shared = np.broadcast_to((ARRAY_LABELS[0] == 0)[..., None], values.shape)
    check(zm.measure(values, pattern, mask=ARRAY_LABELS[0]), *matrix(values, shared, pattern))
    few = zm.measure(values, pattern, mask=ARRAY_LABELS, limit=3)
    chosen = [2, 6, 10]
    check(few, *matrix(values[chosen], gaps[chosen], pattern))


def test_a_mask_of_an_array_by_group_by_file_and_channels_first(tmp_path):
    labels = RNG.integers(0, 2, 12)
    groups = zm.measure(ARRAY, PER_CHANNEL, mask=ARRAY_LABELS, by=labels)
    for k in range(2):
        own = labels == k
        assert groups[k] == zm.measure(ARRAY[own], PER_CHANNEL, mask=ARRAY_LABELS[own])
    expected = zm.measure(ARRAY, PER_CHANNEL, mask=ARRAY_LABELS)
    turned = np.ascontiguousarray(ARRAY.transpose(0, 3, 1, 2))
    assert zm.measure(turned, "n c h w -> c", mask=ARRAY_LABELS).statistics == expected.statistics
    np.save(tmp_path / "x.npy", ARRAY)
    np.savez_compressed(tmp_path / "x.npz", ARRAY)
    for name in ("x.npy", "x.npz"):
        assert zm.measure(tmp_path / name, PER_CHANNEL, mask=ARRAY_LABELS) == expected
    few = zm.measure(tmp_path / "x.npy", PER_CHANNEL, mask=ARRAY_LABELS, limit=3)
    assert few == zm.measure(ARRAY, PER_CHANNEL, mask=ARRAY_LABELS, limit=3)
    first = zm.measure(tmp_path / "x.npz", PER_CHANNEL, mask=ARRAY_LABELS, limit=3)
    assert first == zm.measure(ARRAY[:3], PER_CHANNEL, mask=ARRAY_LABELS[:3])
    single = zm.measure(ARRAY[0], PER_CHANNEL, mask=ARRAY_LABELS[0])
    assert single == zm.measure(ARRAY[:1], PER_CHANNEL, mask=ARRAY_LABELS[:1])
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        assert zm.measure(ARRAY, PER_CHANNEL, mask=ARRAY_LABELS, executor=pool) == expected


def test_a_pickled_mask_does_not_carry_the_labels_of_a_whole_array():
    from zeromean.masking import Mask

    mask = Mask(np.zeros((100, 100, 100), np.uint8), (0,))
    assert len(pickle.dumps(mask)) < 1000
    assert pickle.loads(pickle.dumps(mask)).of_array


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (ARRAY, {"mask": ARRAY_LABELS[1:]}, r"mask has shape \(11, 4, 6\), but the array \(12, 4"),
        (ARRAY, {"mask": ARRAY_LABELS / 2}, r"mask is float64; labels are integers or truth"),
        (ARRAY, {"mask": "masks"}, r"array is an array, whose pictures have no names"),
        (ARRAY, {"mask": len}, r"array is an array, whose pictures have no names"),
        (ARRAY, {"mask": 5}, r"mask is int; give a folder of label images, a function"),
        (ARRAY, {"ignore": (3,)}, r"ignore= names labels of a mask, but there is no mask="),
        (ARRAY, {"mask": ARRAY_LABELS, "ignore": (0.5,)}, r"ignore is .*; labels are integers"),
        (ARRAY, {"mask": ARRAY_LABELS, "within": 0.1}, r"a mask that is an array is of all of it"),
        ([ARRAY], {"mask": ARRAY_LABELS}, r"a mask that is an array is for one array"),
    ],
)
def test_what_is_no_mask_is_refused_with_the_repair(source, options, message):
    with pytest.raises(PatternError, match=message):
        zm.measure(source, PER_CHANNEL, **options)


def test_folders_that_hold_no_masks_are_refused(folders, tmp_path):
    images, masks = folders
    with pytest.raises(SourceError, match=r"the folder of masks .*none does not exist"):
        zm.measure(images, mask=tmp_path / "none")
    with pytest.raises(SourceError, match=r"0\.png is no folder"):
        zm.measure(images, mask=masks / "a" / "0.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty holds no label image \(\.jpg"):
        zm.measure(images, mask=tmp_path / "empty")
    write(masks / "a" / "0.bmp", LABELS["a/0"])
    with pytest.raises(SourceError, match=r"a/0 has two masks, \.(png|bmp) and \.(png|bmp); keep"):
        zm.measure(images, mask=masks)
    with pytest.raises(SourceError, match=r"s3://b/masks lie in a remote store"):
        zm.measure(images, mask="s3://b/masks")


def test_a_mask_cannot_be_matched_with_parts_of_a_picture():
    part = Item(np.zeros((2, 3, 3), np.uint8), "big.tif", more=True)
    from zeromean.masking import Mask

    mask = Mask(lambda name: (np.ones((2, 3), bool), 0, 0), (0,))
    with pytest.raises(PatternError, match=r"big\.tif comes in parts, and a mask is for whole"):
        mask(part, zm.Pattern.parse(PER_CHANNEL))


def test_a_mask_adds_to_what_the_file_says_is_missing():
    """A raster's own nodata and the mask: what either leaves out is left out."""
    from zeromean.masking import Mask

    values = RNG.integers(0, 9, (4, 6, 3), dtype=np.uint8)
    own = gaps_of((4, 6, 3))
    mask = Mask(lambda name: (ARRAY_LABELS[0], 0, 0), (0,))
    item = mask(Item(values, "x", missing=own), zm.Pattern.parse(PER_CHANNEL))
    profile = measured([item], plan_of(PER_CHANNEL))
    full = own | (ARRAY_LABELS[0] == 0)[..., None]
    check(profile, *matrix(values[None], full[None], PER_CHANNEL))


# ---------------------------------------------------------------- label images


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_the_indices_of_a_palette_are_the_labels():
    labels = RNG.integers(0, 21, (7, 5), dtype=np.uint8)
    image = Image.frombytes("P", (5, 7), labels.tobytes())
    image.putpalette(bytes(RNG.integers(0, 256, 768, dtype=np.uint8)))
    for kind in ("PNG", "BMP", "TIFF"):  # GIF is written with another order of colors
        assert np.array_equal(labels_of(encoded(image, kind)), labels), kind
    few = Image.frombytes("P", (5, 7), (labels % 2).tobytes())
    few.putpalette([0, 0, 0, 128, 0, 0])
    assert np.array_equal(labels_of(encoded(few, bits=1)), labels % 2)
    assert np.array_equal(labels_of(encoded(image, "PNG", transparency=3)), labels)


def test_label_images_keep_their_numbers():
    wide = RNG.integers(0, 65536, (7, 5), dtype=np.uint16)
    assert np.array_equal(labels_of(encoded(Image.fromarray(wide))), wide)
    truth_values = RNG.integers(0, 2, (7, 5)).astype(bool)
    held = labels_of(encoded(Image.fromarray(truth_values)))
    assert np.array_equal(held, truth_values)
    for array in (
        RNG.integers(0, 9, (7, 5, 3), dtype=np.uint8),
        RNG.integers(0, 9, (7, 5, 4), dtype=np.uint8),
        RNG.integers(0, 9, (7, 5, 2), dtype=np.uint8),
    ):
        with pytest.raises(DecodeError, match="save labels as a gray or palette picture"):
            labels_of(encoded(Image.fromarray(array)))
    with pytest.raises(DecodeError, match="it holds F and not one whole number"):
        labels_of(encoded(Image.fromarray(np.zeros((3, 3), np.float32)), "TIFF"))
    good = encoded(Image.fromarray(wide))
    with pytest.raises(DecodeError):
        labels_of(good[: len(good) // 2])
    with pytest.raises(DecodeError):
        labels_of(b"no picture")


# ---------------------------------------------------------------- the command line


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "zeromean", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_masks_and_nodata_on_the_command_line(folders, tmp_path):
    images, masks = folders
    done = run(
        "measure",
        images,
        "--mask",
        masks,
        "--ignore",
        0,
        "--ignore",
        2,
        "--nodata",
        255,
        "-o",
        tmp_path / "x.json",
        "--no-ledger",
    )
    assert done.returncode == 0, done.stderr
    expected = zm.measure(images, mask=masks, ignore=(0, 2), nodata=255)
    assert zm.load(tmp_path / "x.json") == expected
    done = run("measure", images, "--nodata", -9999, "--no-ledger")
    assert "nodata=-9999 is no value of uint8 data" in done.stderr
    np.save(tmp_path / "x.npy", np.array([[2**63 - 1], [1]]))
    done = run("measure", tmp_path / "x.npy", "--nodata", 2**63 - 1, "--json")
    document = json.loads(done.stdout)
    assert (document["count"], document["nan_count"], document["max"]) == ([1], [1], [1])
    assert "Invalid value for '--nodata'" in run("measure", images, "--nodata", "many").stderr


# ---------------------------------------------------------------- exact quantiles by a second pass


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
@pytest.mark.parametrize("pattern", [PER_CHANNEL, PER_PIXEL, "n h w ->"])
def test_robust_reads_again_without_what_is_missing(dtype, pattern):
    """The median and quartiles of the present values, by NumPy."""
    values = RNG.integers(0, 50, (30, 4, 6, 3)).astype(dtype)
    labels = RNG.integers(0, 2, (30, 4, 6))
    gaps = np.broadcast_to((labels == 0)[..., None], values.shape) | (values == 7)
    if pattern == "n h w ->":
        values, gaps = values[..., 0], gaps[..., 0]
        columns = [values[~gaps]]
    else:
        columns, _ = matrix(values, gaps, pattern)
    options = {"nodata": 7, "mask": labels}
    norm = zm.robust(zm.measure(values, pattern, **options), values, **options)
    expected = [np.quantile(c.astype(np.float64), [0.25, 0.5, 0.75]) for c in columns]
    assert np.ravel(norm.shift).tolist() == [q[1] for q in expected]
    spread = [q[2] - q[0] for q in expected]
    assert np.ravel(norm.scale).tolist() == [s or 1.0 for s in spread]
    with pytest.raises(SourceError, match=r"with the same nodata= and mask="):
        zm.robust(zm.measure(values, pattern, **options), values)


def test_robust_honors_what_files_and_tables_say_is_missing(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [0.5, -9999, 2.5, np.nan, 3.5], "b": [1, 2, -9999, 4, 6]})
    norm = zm.robust(zm.measure(frame, nodata=-9999), frame, nodata=-9999)
    assert norm.shift.tolist() == [2.5, 3.0]


class Breaking:
    """A reader of files in two parts; one of them breaks in the middle."""

    def __call__(self, file, memory):
        values = np.frombuffer(file.data(), np.float32).reshape(-1, 2, 1, 1)
        yield Item(values[0], file.name)
        if file.name == "b.png":
            raise DecodeError("breaks in the middle")
        yield Item(values[1], file.name)

    def scratch(self):
        return None


def test_robust_takes_nothing_of_a_file_that_broke_in_the_middle(tmp_path, monkeypatch):
    """Its first part came, and does not count; neither the second time."""
    from zeromean.sources.files import Files

    for i, name in enumerate("abc"):
        values = np.arange(4, dtype=np.float32) + 10 * i
        (tmp_path / f"{name}.png").write_bytes(values.tobytes())
    source = Files(tmp_path, Breaking(), extensions=[".png"], pattern=zm.Pattern.parse(PER_CHANNEL))
    monkeypatch.setattr("zeromean.measurement.open_source", lambda *_: [source])
    monkeypatch.setattr("zeromean.refinement.open_source", lambda *_: [source])
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(tmp_path)
    assert profile.count.tolist() == [8]
    norm = zm.robust(profile, tmp_path)
    kept = [0, 1, 2, 3, 20, 21, 22, 23]
    assert norm.shift.tolist() == [np.median(kept)]


def test_a_picture_in_parts_has_one_std():
    """Cut along its height or not: one item, with the std of all its values; also with gaps."""
    rng = np.random.default_rng(4)
    for dtype, gaps in ((np.uint8, False), (np.uint16, False), (np.uint8, True)):
        pixels = rng.integers(0, 200, (90, 7, 2)).astype(dtype)
        missing = rng.random(pixels.shape) < 0.2 if gaps else None

        def parts(cuts, pixels=pixels, missing=missing):
            for begin, end in itertools.pairwise(cuts):
                own = None if missing is None else missing[begin:end]
                last = end == cuts[-1]
                yield Item(pixels[begin:end], "a", more=not last, n_items=int(last), missing=own)

        plan = Plan(zm.Pattern.parse("n h w c -> c"))
        whole, cut = (
            measure_shard(ItemShard(tuple(parts(cuts))), plan).partials[""]
            for cuts in ([0, 90], [0, 30, 31, 90])
        )
        assert cut.stds == whole.stds
        assert cut.stds.n == 1
        assert cut.statistics == whole.statistics


# ---------------------------------------------------------------- together with the rest


@pytest.mark.skipif(not GEOTIFF.is_dir(), reason="the data sets are not beside the repository")
@pytest.mark.parametrize(
    "name", ["RGB.byte.tif", "cog_int16.tif", "cog_nodata_nan.tif", "shade.tif"]
)
def test_what_a_geotiff_calls_no_data_is_left_out_as_with_nodata(name):
    """The same bits, whether the file says it or the caller; stds of items among them."""
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(GEOTIFF / name) as file:
        values, nodata = file.asarray(), float(file.pages[0].tags[42113].value)
    values = values if values.ndim == 3 else values[..., None]
    own = zm.measure(GEOTIFF / name, format="tiff")
    told = zm.measure(values[None], PER_CHANNEL, nodata=nodata)
    assert own.nan_count.all()
    assert own.statistics == told.statistics
    assert own.items_stds == told.items_stds
    assert own.extrema == told.extrema
    check(own, *matrix(values[None], values[None] == nodata, PER_CHANNEL))


def test_a_ledger_knows_what_was_left_out(folders, tmp_path):
    """It keeps exact states with missing values, and is of one set of nodata values."""
    images, masks = folders
    ledger = tmp_path / "ledger.db"
    expected = zm.measure(images, nodata=[0, 255])
    for _ in range(2):
        assert zm.measure(images, nodata=[0, 255], ledger=ledger) == expected
    (images / "a" / "0.png").unlink()
    rest = zm.measure(images, nodata=[0, 255], ledger=ledger)
    assert rest == zm.measure(images, nodata=[255, 0])
    with pytest.raises(SourceError, match="nodata="):
        zm.measure(images, nodata=0, ledger=ledger)
    with pytest.raises(SourceError, match="nobody could tell when a mask has changed"):
        zm.measure(images, mask=masks, ledger=ledger)


def test_a_sample_leaves_out_what_is_missing(tmp_path):
    """within=: estimates from files whose present values are not equally many."""
    for i in range(40):
        picture = RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        picture[RNG.random((12, 12)) < 0.3] = 0
        write(tmp_path / "images" / f"{i}.png", picture)
        write(tmp_path / "masks" / f"{i}.png", (picture[..., 0] > 0).astype(np.uint8))
    for options in ({"nodata": 0}, {"mask": tmp_path / "masks"}):
        whole = zm.measure(tmp_path / "images", **options)
        sample = zm.measure(tmp_path / "images", within=0.05, **options)
        assert sample.nan_count.all()
        assert np.abs(sample.unit_mean - whole.unit_mean).max() < 0.05
