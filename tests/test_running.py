"""Sums that run in place: the same bits as sums of the whole, whatever the blocks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import FLOAT_TEMPERS, numbers
from zeromean.errors import MergeError, PatternError
from zeromean.statistics import Extrema, Moments, RunningMoments, WeightedMoments, running, weighted

seeds = st.integers(0, 2**32 - 1)
formats = st.sampled_from(["float32", "float64"])
tempers = st.sampled_from(FLOAT_TEMPERS)
finite_tempers = st.sampled_from([t for t in FLOAT_TEMPERS if t not in ("bits", "special")])
_UNIT = Fraction(1, 2**1074)


def of(*blocks, workers=1):
    """Running sums of blocks."""
    total = RunningMoments(blocks[0].shape[1], blocks[0].dtype.name)
    for block in blocks:
        total.add(block, workers=workers)
    return total


@given(formats, tempers, seeds, st.integers(1, 300), st.sampled_from([1, 2, 5, 63, 64, 65]))
def test_blocks_of_any_size_and_layout(dtype, temper, seed, rows, columns):
    x = numbers(dtype, temper, (rows, columns), seed)
    rng = np.random.default_rng(seed)
    parts = np.split(x[rng.permutation(rows)], np.sort(rng.integers(0, rows + 1, 3)))
    total = of(*[rng.choice([np.asfortranarray, np.ascontiguousarray])(p) for p in parts])
    assert Moments.of_running(total) == Moments.of(x)
    assert total.extrema() == Extrema.of(x)
    assert total.rows == rows
    other = of(*parts[:2])
    other += of(*parts[2:])
    assert Moments.of_running(other) == Moments.of(x)


@given(formats, tempers, seeds)
def test_power_sums_are_exact(dtype, temper, seed):
    x = numbers(dtype, temper, (30, 2), seed)
    sums = of(x).power_sums
    for j in range(2):
        values = [Fraction(float(v)) for v in x[:, j] if np.isfinite(v)]
        unit = Fraction(2) ** sums.exponent
        assert sums.n[j] == len(values)
        assert sums.sums[j] * unit == sum(values)
        assert sums.squares[j] * unit**2 == sum(v * v for v in values)


@pytest.mark.parametrize("columns", [1, 64, 3000])
def test_threads_give_the_same_bits(columns):
    x = np.random.default_rng(0).normal(size=(3_000_000 // columns, columns)).astype("float32")
    for layout in (x, np.asfortranarray(x)):
        one, four = of(layout), of(layout, workers=4)
        assert Moments.of_running(one) == Moments.of_running(four)
        assert one.extrema() == four.extrema()


@pytest.mark.parametrize("columns", [3, 70])
def test_carries_come_in_time(columns, monkeypatch):
    """With room for 256 rows only, the limbs are carried again and again."""
    x = np.random.default_rng(0).normal(size=(2000, columns))
    expected = Moments.of(x)
    monkeypatch.setattr(running, "_CARRY_ROWS", 256)
    monkeypatch.setattr(weighted, "_CARRY_ROWS", 256)
    assert Moments.of_running(of(*np.split(x, [100, 700, 1999]))) == expected
    weighed = WeightedMoments.of(x, np.ones(2000))
    assert weighed == WeightedMoments.of_moments(expected)
    rows, columns_of = np.nonzero(np.ones_like(x))
    entries = RunningMoments(columns, "float64")
    entries.add_entries(x.ravel(), columns_of, 2000)
    assert Moments.of_running(entries) == expected
    assert WeightedMoments.of_entries(x.ravel(), rows, columns_of, np.ones(2000), columns) == (
        weighed
    )


@given(formats, finite_tempers, seeds, st.sampled_from([1, 70]))
def test_a_block_with_infinities_is_not_added(dtype, temper, seed, columns):
    x, worse = (
        numbers(dtype, temper, (200, columns), seed),
        numbers(dtype, "wide", (150, columns), 1),
    )
    total = of(x)
    worse[120, 0] = np.inf
    assert not total.add_finite(worse)
    assert Moments.of_running(total) == Moments.of(x)
    assert total.extrema() == Extrema.of(x)
    assert total.rows == 200
    assert total.add_finite(worse[:120])
    assert Moments.of_running(total) == Moments.of(np.concatenate([x, worse[:120]]))


@given(formats, tempers, seeds)
def test_entries_of_a_sparse_matrix(dtype, temper, seed):
    """Stored values, NaN and infinities among them; the rest is zero."""
    rng = np.random.default_rng(seed)
    x = numbers(dtype, temper, (40, 5), seed)
    x[rng.random(x.shape) < 0.5] = 0
    rows, columns = np.nonzero(x)
    total = RunningMoments(5, dtype)
    total.add_entries(x[rows, columns], columns, 40)
    assert Moments.of_running(total) == Moments.of(x)
    assert total.extrema() == Extrema.of(x)


@given(finite_tempers, seeds, st.integers(1, 40))
def test_weighted_sums_are_exact(temper, seed, rows):
    """Weights of all magnitudes, zero and negative ones too; nothing over- or underflows."""
    x = numbers("float64", temper, (rows, 2), seed)
    rng = np.random.default_rng(seed)
    x[rng.random(x.shape) < 0.1] = np.nan
    w = np.ldexp(rng.normal(size=rows), rng.integers(-1074, 1000, rows))
    w[rng.random(rows) < 0.1] = 0
    total = WeightedMoments.of(x, w)
    for j in range(2):
        pairs = [(Fraction(a), Fraction(b)) for a, b in zip(x[:, j], w, strict=True) if a == a]
        assert total.weights[j] * _UNIT == sum(b for _, b in pairs)
        assert total.sums[j] * _UNIT**2 == sum(a * b for a, b in pairs)
        assert total.squares[j] * _UNIT**3 == sum(a * a * b for a, b in pairs)
    assert WeightedMoments.of(x[:3], w[:3]) + WeightedMoments.of(x[3:], w[3:]) == total
    assert total - WeightedMoments.of(x[3:], w[3:]) == WeightedMoments.of(x[:3], w[:3])
    assert WeightedMoments.empty(2) + total == total
    i, j = np.nonzero(x != 0)
    assert WeightedMoments.of_entries(x[i, j], i, j, w, 2) == total


def test_wrong_blocks_are_refused():
    total = RunningMoments(2, "float32")
    for block in (np.zeros((3, 2)), np.zeros((3, 1), "float32"), np.zeros(2, "float32")):
        with pytest.raises(PatternError, match="float32 x 2 features"):
            total.add(block)
    with pytest.raises(PatternError, match="float16"):
        RunningMoments(2, "float16")
    with pytest.raises(MergeError, match="running sums"):
        total += RunningMoments(3, "float32")
    total.add(np.zeros((0, 2), "float32"))
    total.add(np.ones((2, 2), ">f4"))
    assert total.power_sums.n.tolist() == [2, 2]
    with pytest.raises(MergeError, match="weighted"):
        WeightedMoments.empty(2) + WeightedMoments.empty(3)
    with pytest.raises(MergeError, match="int"):
        WeightedMoments.empty(2) - 1
