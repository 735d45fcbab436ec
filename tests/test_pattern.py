"""Patterns: what they say, what they refuse, and that blocks hold every value exactly once."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import LAYOUTS, laid_out
from zeromean.errors import PatternError
from zeromean.pattern import NAMED, Pattern

# ---------------------------------------------------------------- parsing


@pytest.mark.parametrize(
    ("text", "shape", "kept"),
    [
        ("n h w c -> c", (2, 4, 5, 3), (3,)),
        ("n h w c -> h w c", (2, 4, 5, 3), (4, 5, 3)),
        ("n h w c -> c h", (2, 4, 5, 3), (3, 4)),
        ("n h w c ->", (2, 4, 5, 3), ()),
        ("n c h w -> c", (2, 3, 4, 5), (3,)),
        ("n d -> d", (7, 2), (2,)),
        ("n ->", (7,), ()),
        ("n t f -> f", (2, 9, 4), (4,)),
        ("... c -> c", (2, 4, 5, 3), (3,)),
        ("... c -> c", (3,), (3,)),
        ("n ... -> ...", (2, 4, 5), (4, 5)),
        ("n ... c -> ... c", (2, 4, 5, 3), (4, 5, 3)),
        ("n ... ->", (2,), ()),
        ("n->", (2,), ()),
        ("  n   d->d ", (2, 5), (5,)),
        ("sample_1 Feature2 -> Feature2", (2, 5), (5,)),
        ("n d -> d", (0, 5), (5,)),
        ("n d -> d", (5, 0), (0,)),
        ("n h w c -> h c", (0, 0, 0, 3), (0, 3)),
    ],
)
def test_kept_shape(text, shape, kept):
    pattern = Pattern.parse(text)
    assert kept == pattern.kept_shape(shape)
    assert Pattern.parse(str(pattern)) == pattern


def test_groups_split_axes():
    pattern = Pattern.parse("n h w (g c) -> g", g=2)
    assert pattern.kept_shape((10, 4, 4, 6)) == (2,)
    assert Pattern.parse("n (g c) h w -> g c", c=3).kept_shape((1, 6, 2, 2)) == (2, 3)
    assert Pattern.parse("(n t) c -> c", t=5).kept_shape((10, 3)) == (3,)
    assert Pattern.parse("n (a b c) -> b", a=2, b=3).kept_shape((1, 24)) == (3,)
    assert Pattern.parse("n (a) -> a").kept_shape((1, 24)) == (24,)
    assert Pattern.parse("n (g c) -> g", g=2).kept_shape((4, 0)) == (2,)


@pytest.mark.parametrize(
    ("text", "sizes", "said"),
    [
        ("n h w c", {}, 'needs one "->", as in "n h w c -> c"'),
        ("n -> c -> c", {}, 'needs one "->"'),
        ("-> c", {}, "names no axes on the left"),
        ("n h h c -> c", {}, "names the axis 'h' twice"),
        ("... h ... -> h", {}, "names the axis '...' twice"),
        ("n h w c -> d", {}, "keeps 'd', which is not an axis on the left"),
        ("n h w c -> ...", {}, "keeps '...', which is not an axis"),
        ("n h w c -> c c", {}, "keeps 'c' twice"),
        ("n (g c -> g", {"g": 2}, "a ( without its )"),
        ("n g c) -> g", {"g": 2}, "a ) without its ("),
        ("n () c -> c", {}, "an empty group"),
        ("n (a (b c)) -> c", {"a": 1, "b": 1}, "a group inside a group"),
        ("n (a ...) -> a", {"a": 1}, "... inside a group"),
        ("n h w c -> (w c)", {}, "group on the right"),
        ("n h w 3 -> 3", {}, "contains '3'; axes are names such as n, h, w, c"),
        ("n h, w -> h", {}, "contains ','"),
        ("n .. -> n", {}, "contains '..'"),
        ("n (g c) -> g", {}, "cannot split (g c) without g=..."),
        ("n (a b c) -> a", {"b": 2}, "cannot split (a b c) without a=..."),
        ("n c -> c", {"g": 2}, "is given g=2, but names no axis 'g'"),
        ("n (g c) -> g", {"g": 0}, "g=0; a length is a positive integer"),
        ("n (g c) -> g", {"g": 2.0}, "g=2.0; a length is a positive integer"),
        ("n (g c) -> g", {"g": True}, "g=True; a length is a positive integer"),
    ],
)
def test_malformed_patterns_are_refused_by_name(text, sizes, said):
    with pytest.raises(PatternError) as caught:
        Pattern.parse(text, **sizes)
    assert repr(text) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sizes", "shape", "said"),
    [
        ("n h w c -> c", {}, (5, 2), "names 4 axes, but the array has 2: (5, 2)"),
        ("n d -> d", {}, (2, 4, 5, 3), "try 'n h w c -> c' or 'n c h w -> c'"),
        ("n d -> d", {}, (4, 5, 3), "try 'h w c -> c'"),
        ("n ... c -> c", {}, (5,), "names 3 axes, but the array has 1: (5,)"),
        (
            "n (g c) -> g",
            {"g": 4},
            (2, 6),
            "length 6 in shape (2, 6) cannot be split into (g c) = 4 x ?",
        ),
        ("n (g c) -> g", {"g": 2, "c": 2}, (2, 6), "(g c) = 2 x 2"),
        ("n c -> c", {"c": 3}, (2, 6), "length 6"),
    ],
)
def test_misfit_names_pattern_shape_and_repair(text, sizes, shape, said):
    pattern = Pattern.parse(text, **sizes)
    for check in (pattern.kept_shape, pattern.broadcast_shape):
        with pytest.raises(PatternError) as caught:
            check(shape)
        assert repr(str(pattern)) in str(caught.value)
        assert said in str(caught.value)


def test_sizes_beside_a_ready_pattern_are_not_swallowed():
    ready = Pattern.parse("n (g c) -> g", g=2)
    assert Pattern.parse(ready) is ready
    with pytest.raises(PatternError, match="g=3"):
        Pattern.parse(ready, g=3)


def test_pattern_is_a_value():
    one, two = Pattern.parse("n (g c) -> g", g=2), Pattern.parse("n  (g c)->g", g=2)
    assert one == two
    assert hash(one) == hash(two)
    assert one != Pattern.parse("n (g c) -> g", c=2)
    assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one)
    assert eval(repr(one)) == one
    assert str(one) == "n (g c) -> g"
    assert str(Pattern.parse("n d->")) == "n d ->"


def test_first_axis():
    assert Pattern.parse("n h w c -> n c").keeps_first
    assert not Pattern.parse("n h w c -> c").keeps_first
    assert Pattern.parse("n h w c -> c").per_item
    assert not Pattern.parse("n d -> d").per_item
    assert not Pattern.parse("n ->").per_item
    assert Pattern.parse("n d ->").per_item


def test_a_missing_first_axis_is_accepted():
    pattern = Pattern.parse(NAMED["channel"])
    assert pattern.complete((2, 4, 4, 3))
    assert not pattern.complete((4, 4, 3))
    with pytest.raises(PatternError, match=r"\(4, 3\)"):
        pattern.complete((4, 3))
    with pytest.raises(PatternError, match=r"\(4, 4, 3\)"):
        Pattern.parse("n h w c -> n c").complete((4, 4, 3))


# ---------------------------------------------------------------- blocks

AXES = ["a", "b", "c", "d"]


@st.composite
def patterns_and_shapes(draw, first_kept=True):
    """A pattern of up to four axes that keeps any of them in any order, and a shape for it."""
    names = AXES[: draw(st.integers(1, 4))]
    rest = names if first_kept else names[1:]
    kept = draw(st.permutations(rest))[: draw(st.integers(0, len(rest)))]
    shape = tuple(draw(st.integers(0, 5)) for _ in names)
    return f"{' '.join(names)} -> {' '.join(kept)}", shape


def numbered(shape, layout):
    """An array whose values are their own positions, in some memory layout."""
    return laid_out(np.arange(np.prod(shape), dtype=np.int32).reshape(shape), layout)


def by_feature(text, array):
    """The sorted values of each kept entry, taken by plain indexing."""
    left, right = (side.split() for side in text.split("->"))
    order = [left.index(name) for name in right]
    order += [i for i in range(len(left)) if i not in order]
    n_features = int(np.prod([array.shape[left.index(name)] for name in right]))
    moved = np.transpose(array, order)
    flat = moved.reshape(n_features, moved.size // n_features if n_features else 0)
    return [sorted(row) for row in flat.tolist()]


@settings(max_examples=200)
@given(patterns_and_shapes(), st.sampled_from(LAYOUTS), st.sampled_from([1, 64, 1 << 20]))
def test_blocks_hold_every_value_exactly_once_under_its_feature(drawn, layout, max_bytes):
    text, shape = drawn
    array = numbered(shape, layout)
    expected = by_feature(text, array)
    found = [[] for _ in expected]
    for block in Pattern.parse(text).blocks(array, max_bytes):
        assert block.ndim == 3
        assert block.flags.c_contiguous
        assert block.dtype == np.int32
        assert block.shape[1] == len(expected)
        for j, values in enumerate(found):
            values += block[:, j].ravel().tolist()
    assert expected == [sorted(values) for values in found]


@settings(max_examples=100)
@given(
    patterns_and_shapes(first_kept=False),
    st.sampled_from(LAYOUTS),
    st.sampled_from([1, 64, 1 << 20]),
)
def test_items_hold_every_value_exactly_once_under_its_item(drawn, layout, max_bytes):
    text, shape = drawn
    array = numbered(shape, layout)
    pattern = Pattern.parse(text)
    seen = 0
    for items in pattern.items(array, max_bytes):
        assert items.flags.c_contiguous
        for item in items:
            whole = array[seen : seen + 1]
            assert by_feature(text, whole) == [
                sorted(item[:, j].tolist()) for j in range(item.shape[1])
            ]
            seen += 1
    assert seen == len(array)


def test_groups_cut_into_the_right_blocks():
    array = np.arange(2 * 6).reshape(2, 6)
    (block,) = Pattern.parse("n (g c) -> g", g=2).blocks(array)
    assert sorted(block[:, 0].ravel().tolist()) == [0, 1, 2, 6, 7, 8]
    (block,) = Pattern.parse("n (g c) -> c", g=2).blocks(array)
    assert sorted(block[:, 0].ravel().tolist()) == [0, 3, 6, 9]


def test_contiguous_arrays_are_not_copied():
    for text in ("n h w c -> c", "n c h w -> c", "n h w c -> h w c", "n h w c ->"):
        array = np.zeros((3, 4, 5, 6), np.float32)
        blocks = list(Pattern.parse(text).blocks(array))
        if text == "n c h w -> c":
            assert blocks[0].shape == (3, 4, 30)
        assert len(blocks) == 1
        assert np.shares_memory(blocks[0], array)


def test_copies_stay_small():
    """Only the sample axes are cut, and a piece is never much more than asked for."""
    array = np.zeros((64, 64, 64, 3), np.float32)[:, ::-1]
    sizes = [b.nbytes for b in Pattern.parse("n h w c -> c").blocks(array, 1 << 16)]
    assert max(sizes) <= 1 << 16
    assert sum(sizes) == array.nbytes


# ---------------------------------------------------------------- spread


@settings(max_examples=150)
@given(patterns_and_shapes())
def test_spread_statistics_broadcast_to_where_they_belong(drawn):
    """Spreading the index of each feature marks every value with its own feature."""
    text, shape = drawn
    pattern = Pattern.parse(text)
    kept = pattern.kept_shape(shape)
    index = np.arange(int(np.prod(kept))).reshape(kept)
    spread = np.broadcast_to(pattern.spread(index, shape), shape)
    values = np.arange(int(np.prod(shape))).reshape(shape)
    found = [sorted(values[spread == j].tolist()) for j in range(index.size)]
    assert by_feature(text, values) == found
    broadcast = pattern.broadcast_shape(shape)
    if broadcast is not None:
        assert (np.broadcast_to(index.reshape(broadcast), shape) == spread).all()


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("n h w (g c) -> g", {"g": 2}),
        ("n h w (g c) -> c", {"g": 2}),
        ("(n t) h w c -> c t", {"t": 2}),
        ("n (a h) (b w) c -> b a", {"a": 2, "b": 3}),
    ],
)
def test_spread_of_groups(text, sizes):
    """As reshaping by hand, and without blowing up the axes that are no group."""
    shape = (4, 2, 6, 8)
    pattern = Pattern.parse(text, **sizes)
    kept = pattern.kept_shape(shape)
    index = np.arange(int(np.prod(kept))).reshape(kept)
    spread = pattern.spread(index, shape)
    assert spread.size <= 4 * 6 * 8
    values = np.arange(int(np.prod(shape))).reshape(shape)
    marked = np.broadcast_to(spread, shape)
    for block in pattern.blocks(values):
        for j in range(index.size):
            assert set(marked.ravel()[block[:, j].ravel()].tolist()) == {j}
    assert pattern.broadcast_shape(shape) is None


def test_broadcast_shape_needs_plain_axes_in_order():
    shape = (2, 4, 5, 3)
    assert Pattern.parse("n h w c -> c").broadcast_shape(shape) == (1, 1, 1, 3)
    assert Pattern.parse("n h w c -> h c").broadcast_shape(shape) == (1, 4, 1, 3)
    assert Pattern.parse("n h w c ->").broadcast_shape(shape) == (1, 1, 1, 1)
    assert Pattern.parse("n ... -> ...").broadcast_shape(shape) == (1, 4, 5, 3)
    assert Pattern.parse("n h w c -> c h").broadcast_shape(shape) is None
