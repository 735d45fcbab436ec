"""The monoid laws with ``==``, one checker for every statistic, and the exact sums behind them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import permutations
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeromean as zm
from strategies import (
    COUNTED,
    DTYPES,
    FLOATS,
    ITEMIZED,
    arrays,
    cuts,
    float_sums,
    numbers,
    numpy_dtype,
    planes,
    rows,
    seeds,
    truth,
)
from zeromean.errors import MergeError
from zeromean.statistics import Extrema, Histogram, ItemStds, Moments
from zeromean.statistics.formats import UNIT_EXPONENT


def check_laws(of, empty, parts, *, axis=0, minus=True):
    """Joining is adding, whatever the split and the order; empty is zero; minus undoes."""
    whole = of(np.concatenate(parts, axis=axis))
    values = [of(part) for part in parts]
    for order in permutations(values):
        assert reduce(add, order) == whole
    for a, b in permutations(values, 2):
        assert a + b == b + a
        assert not minus or (a + b) - b == a
    assert reduce(add, reversed(values[1:]), empty) + values[0] == whole
    assert empty + whole == whole == whole + empty
    assert empty + empty == empty


def split(data, array, axis=0):
    """Drawn parts of an array, some of them empty."""
    where = (slice(None),) * axis
    return [array[(*where, cut)] for cut in data.draw(cuts(array.shape[axis]))]


# ---------------------------------------------------------------- statistics


@given(st.data(), arrays(rows, COUNTED))
def test_histogram_of_rows_is_a_monoid(data, array):
    empty = Histogram.empty(array.shape[1], array.dtype.name)
    check_laws(Histogram.of, empty, split(data, array))


@given(st.data(), arrays(planes, COUNTED), st.sampled_from([0, 2]))
def test_histogram_of_planes_is_a_monoid(data, array, axis):
    empty = Histogram.empty(array.shape[1], array.dtype.name)
    check_laws(Histogram.of, empty, split(data, array, axis), axis=axis)


@settings(max_examples=150)
@given(st.data(), arrays(rows))
def test_moments_of_rows_are_a_monoid(data, array):
    check_laws(Moments.of, Moments.empty(array.shape[1], array.dtype.name), split(data, array))


@settings(max_examples=100)
@given(st.data(), arrays(planes), st.sampled_from([0, 2]))
def test_moments_of_planes_are_a_monoid(data, array, axis):
    empty = Moments.empty(array.shape[1], array.dtype.name)
    check_laws(Moments.of, empty, split(data, array, axis), axis=axis)


@settings(max_examples=100)
@given(st.data(), arrays(rows))
def test_extrema_are_a_monoid_without_minus(data, array):
    check_laws(Extrema.of, Extrema.empty(array.shape[1]), split(data, array), minus=False)
    assert not hasattr(Extrema, "__sub__")


@given(
    st.data(), arrays(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(1, 4)), ITEMIZED)
)
def test_item_stds_are_a_monoid(data, array):
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    check_laws(ItemStds.of, ItemStds.empty(array.shape[2]), split(data, array))


PATTERNS = ("n a b -> b", "n a b -> a", "n a b -> a b", "n a b -> b a", "n a b ->")


def statistics_bytes(profile):
    """The part of a saved profile that must not depend on how it was measured."""
    return json.dumps(json.loads(profile.to_json())["statistics"]).encode()


@pytest.mark.filterwarnings("ignore:.*infinite value:zeromean.ZeromeanWarning")
@settings(max_examples=60)
@given(
    st.data(),
    arrays(st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(1, 5))),
    st.sampled_from(PATTERNS),
    st.booleans(),
)
def test_profile_is_a_monoid_with_equal_bytes(data, array, pattern, quantiles):
    """Nothing about a split shows: not in ``==`` and not in the saved statistics."""

    def of(part):
        return zm.measure(part, pattern, quantiles=quantiles, workers=1)

    parts = split(data, array)
    check_laws(of, of(array[:0]), parts)
    joined = reduce(add, map(of, parts))
    assert statistics_bytes(joined) == statistics_bytes(of(array))


@settings(max_examples=30)
@given(arrays(st.tuples(st.integers(1, 40), st.integers(1, 3))), seeds)
def test_any_order_of_rows_gives_the_same_statistics(array, seed):
    order = np.random.default_rng(seed).permutation(len(array))
    assert Moments.of(array) == Moments.of(array[order])
    assert Extrema.of(array) == Extrema.of(array[order])


# ---------------------------------------------------------------- the checker can fail


@dataclass
class Naive:
    """Σx and Σx² in plain float64: looks like a statistic, and is none."""

    sums: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, block):
        wide = block.astype(np.float64)
        return cls(wide.sum(axis=0), (wide * wide).sum(axis=0))

    def __add__(self, other):
        return Naive(self.sums + other.sums, self.squares + other.squares)

    def __sub__(self, other):
        return Naive(self.sums - other.sums, self.squares - other.squares)

    def __eq__(self, other):
        return np.array_equal(self.sums, other.sums) and np.array_equal(self.squares, other.squares)


class Forgetful(list):
    """Keeps the values of both sides, but in the order of arrival."""

    def __add__(self, other):
        return Forgetful([*self, *other])

    def __sub__(self, other):
        return Forgetful(self[: len(self) - len(other)])


class Leaky(int):
    """Counts right, and does not subtract what it adds."""

    def __add__(self, other):
        return Leaky(int(self) + int(other))

    def __sub__(self, other):
        return Leaky(int(self))


def test_checker_catches_statistics_that_break_a_law():
    """A check that cannot fail is no check: rounding, order, minus and identity, each caught."""
    parts = [numbers("float64", "normal", (n, 2), seed=n) for n in (50, 31, 7)]
    nothing = np.zeros((0, 2))
    with pytest.raises(AssertionError):
        check_laws(Naive.of, Naive.of(nothing), parts)
    with pytest.raises(AssertionError):
        check_laws(lambda x: Forgetful(x.ravel().tolist()), Forgetful(), parts)
    with pytest.raises(AssertionError):
        check_laws(lambda x: Leaky(len(x)), Leaky(0), parts)
    with pytest.raises(AssertionError):
        check_laws(lambda x: len(x), 1, parts)
    with pytest.raises(AssertionError):  # a mean of means
        check_laws(lambda x: x.mean(), 0.0, parts)
    check_laws(lambda x: len(x), 0, parts)


# ---------------------------------------------------------------- against fractions


def features(block):
    """The values of each feature of a block."""
    return [block[:, j] for j in range(block.shape[1])]


def check_moments(block):
    """Moments and extrema hold the exact numbers, feature by feature."""
    moments, extrema = Moments.with_extrema(block)
    unit = Fraction(2) ** UNIT_EXPONENT[block.dtype.name]
    for j, values in enumerate(features(block)):
        true = truth(values)
        assert true.n == moments.n[j]
        assert true.sum == int(moments.sums[j]) * unit
        assert true.squares == int(moments.squares[j]) * unit**2
        assert [true.nan, true.plus, true.minus] == moments.special[j].tolist()
        assert (true.low, true.high) == (extrema.low[j], extrema.high[j])
    assert extrema == Extrema.of(block)


@settings(max_examples=250)
@given(st.one_of(arrays(rows), arrays(planes)))
def test_moments_are_exact(block):
    check_moments(block)


@settings(max_examples=80)
@given(st.one_of(arrays(rows, COUNTED), arrays(planes, COUNTED)))
def test_histograms_hold_the_same_exact_sums_as_moments(block):
    histogram, moments = Histogram.of(block), Moments.of(block)
    counted, summed = histogram.power_sums, moments.power_sums
    assert counted.n.tolist() == summed.n.tolist()
    assert histogram.special.tolist() == moments.special.tolist()
    unit = Fraction(2) ** (summed.exponent - counted.exponent)
    assert counted.sums.tolist() == [s * unit for s in summed.sums.tolist()]
    assert counted.squares.tolist() == [q * unit**2 for q in summed.squares.tolist()]
    assert histogram.extrema == Extrema.of(block)
    total = np.prod(block.shape) // block.shape[1]
    assert [total] * block.shape[1] == histogram.counts.sum(axis=1).tolist()


def test_every_value_of_the_sixteen_bit_formats_counts_as_itself():
    """All 65 536 bit patterns, once: the histogram's values and the exact sums agree."""
    codes = np.arange(65536, dtype=np.uint16)
    for dtype in FLOATS[:2]:
        block = codes.view(numpy_dtype(dtype))[:, None]
        check_moments(block)
        values, counts = Histogram.of(block).finite
        with np.errstate(invalid="ignore"):
            wide = block[:, 0].astype(np.float64)
        finite = np.sort(wide[np.isfinite(wide)] + 0.0)
        assert np.repeat(values, counts[0]).tolist() == finite.tolist()


def test_truth_itself_agrees_with_plain_fractions():
    """The truth that the tests trust is shown right on values one can add by hand."""
    values = np.array([0.1, -0.1, 1e300, 5e-324, 3.0])
    total, squares = float_sums(values)
    assert sum(map(Fraction, values.tolist())) == total
    assert sum(Fraction(v) ** 2 for v in values.tolist()) == squares
    assert float_sums(values[:4])[0] != total


# ---------------------------------------------------------------- what may not be combined


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_immutable(dtype):
    block = numbers(dtype, "few" if dtype != "bool" else "bits", (9, 2), seed=1)
    moments, extrema = Moments.with_extrema(block)
    held = [moments.n, moments.sums, moments.squares, moments.special, extrema.low, extrema.high]
    if dtype in COUNTED:
        held.append(Histogram.of(block).counts)
    for array in held:
        assert not array.flags.writeable


def test_statistics_of_different_things_do_not_add():
    one, two = np.zeros((3, 1), np.uint8), np.zeros((3, 2), np.uint8)
    for kind in (Histogram, Moments):
        with pytest.raises(MergeError, match=r"uint8 x 1 features.*uint8 x 2"):
            kind.of(one) + kind.of(two)
        with pytest.raises(MergeError, match="int16"):
            kind.of(one) + kind.of(one.astype(np.int16))
        with pytest.raises(MergeError, match="cannot combine"):
            kind.of(one) + 1
    with pytest.raises(MergeError, match="1 and 2 features"):
        Extrema.of(one) + Extrema.of(two)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32", "float64"])
def test_what_is_not_in_there_cannot_be_subtracted(dtype):
    """Even where the counts would do: 2, 2 cannot hold a 1 or a 9."""
    held = np.array([[2], [2]]).astype(dtype)
    kinds = (Histogram, Moments) if dtype == "uint8" else (Moments,)
    for kind in kinds:
        for absent in ([[9]], [[1], [1]], [[2], [2], [2]], [[0], [0]], [[1], [2]]):
            with pytest.raises(MergeError, match="cannot subtract"):
                kind.of(held) - kind.of(np.array(absent).astype(dtype))


def test_item_stds_of_more_or_other_items_cannot_be_subtracted():
    flat, rough = np.zeros((1, 4, 1), np.uint8), np.array([[[0], [9], [0], [9]]], np.uint8)
    with pytest.raises(MergeError, match="cannot subtract"):
        ItemStds.of(flat) - ItemStds.of(np.repeat(flat, 2, axis=0))
    with pytest.raises(MergeError, match="cannot subtract"):
        ItemStds.of(flat) - ItemStds.of(rough)


@given(data=st.data())
def test_stds_of_one_item_are_those_of_many(data):
    """One picture by itself goes another way to the same bits."""
    n = data.draw(st.integers(1, 1 << 28))
    values = st.integers(0, 65535)
    pairs = []
    for _ in range(data.draw(st.integers(1, 4))):
        some = data.draw(st.lists(values, min_size=1, max_size=5))
        scale = n // len(some) or 1
        pairs.append((sum(some) * scale, sum(v * v for v in some) * scale))
    n = (n // 60 or 1) * 60
    sums = np.array([[s for s, _ in pairs]], np.int64)
    squares = np.array([[max(q, -(-s * s // n)) for s, q in pairs]], np.int64)
    twice = ItemStds.of_sums(n, np.repeat(sums, 2, 0), np.repeat(squares, 2, 0))
    once = ItemStds.of_sums(n, sums, squares)
    assert once + once == twice
