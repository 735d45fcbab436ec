"""Normalizers with a matrix: whitening maps of any pattern, there and back, composed and saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import zeromean as zm
from zeromean import mixing
from zeromean.errors import FormatError, PatternError

RNG = np.random.default_rng(42)
X = RNG.normal(size=(7, 4, 5, 6))
# (pattern, lengths inside groups, how a stranger would write samples x features with einsum)
CASES = [
    ("n h w c -> c", {}, lambda x: x.reshape(-1, 6)),
    ("n h w c -> h w c", {}, lambda x: x.reshape(7, -1)),
    ("n h w c -> c h", {}, lambda x: x.transpose(0, 2, 3, 1).reshape(-1, 24)),
    (
        "n h w (g c) -> g h",
        {"g": 2},
        lambda x: x.reshape(7, 4, 5, 2, 3).transpose(0, 2, 4, 3, 1).reshape(-1, 8),
    ),
    ("n ... c -> ... c", {}, lambda x: x.reshape(7, -1)),
]


def mixed(pattern, sizes, n_out=None):
    """A normalizer with a well-conditioned random matrix."""
    profile = zm.measure(X, pattern, **sizes)
    d = profile.n_features
    matrix = np.eye(d) * 2 + RNG.normal(size=(d, d)) / d
    matrix = matrix if n_out is None else matrix[:n_out]
    base = zm.zero_mean(profile)
    offset = RNG.normal(size=len(matrix))
    return replace(base, matrix=matrix, offset=offset, recipe="mixed")


@pytest.mark.parametrize(("pattern", "sizes", "rows"), CASES)
def test_every_sample_is_multiplied(pattern, sizes, rows):
    norm = mixed(pattern, sizes)
    y = norm(X, dtype="float64")
    assert y.shape == X.shape
    expected = (rows(X) - norm.shift.ravel()) @ norm.matrix.T + norm.offset
    np.testing.assert_allclose(rows(y), expected, atol=1e-12)
    np.testing.assert_allclose(norm.invert(y), X, atol=1e-12)
    if "..." not in pattern:  # then nobody could say which axis is missing
        np.testing.assert_allclose(norm(X[0], dtype="float64"), y[0], atol=1e-12)
        np.testing.assert_allclose(norm.invert(y[0]), X[0], atol=1e-12)
    assert norm(X).dtype == np.float32
    np.testing.assert_allclose(norm(np.asfortranarray(X), dtype="float64"), y, atol=1e-12)


@pytest.mark.parametrize(("pattern", "sizes", "rows"), CASES)
def test_fewer_features_stand_in_one_last_axis(pattern, sizes, rows):
    norm = mixed(pattern, sizes, n_out=3)
    y = norm(X, dtype="float64")
    expected = (rows(X) - norm.shift.ravel()) @ norm.matrix.T + norm.offset
    np.testing.assert_allclose(y.reshape(-1, 3), expected, atol=1e-12)
    back = norm.invert(y)
    assert back.shape == X.shape
    np.testing.assert_allclose(norm(back, dtype="float64"), y, atol=1e-12)


def test_large_data_goes_through_in_blocks(monkeypatch):
    norm = mixed("n h w c -> h w c", {})
    whole = norm(X, dtype="float64")
    monkeypatch.setattr(mixing, "_BLOCK_BYTES", 1)
    np.testing.assert_allclose(norm(X, dtype="float64"), whole, atol=1e-12)


def test_output_arrays_and_channel_layout():
    norm = mixed("n h w c -> c", {})
    chw = norm(X, layout="chw")
    assert chw.shape == (7, 6, 4, 5)
    assert (np.moveaxis(chw, 1, -1) == norm(X)).all()
    np.testing.assert_allclose(norm.invert(chw, layout="chw"), X, atol=1e-5)
    out = np.empty(X.shape, np.float16)
    assert norm(X, out=out) is out
    assert (out == norm(X, dtype="float64").astype(np.float16)).all()
    back = np.empty(X.shape)
    assert norm.invert(norm(X, dtype="float64"), out=back) is back
    np.testing.assert_allclose(back, X, atol=1e-12)
    with pytest.raises(PatternError, match=r"must be a float array of \(7, 4, 5, 3\)"):
        mixed("n h w c -> c", {}, n_out=3)(X, out=out)


def test_integers_come_back():
    x = RNG.integers(0, 256, (20, 3), dtype=np.uint8)
    norm = replace(
        zm.zero_mean(zm.measure(x)), matrix=np.linalg.qr(RNG.normal(size=(3, 3)))[0], offset=0.0
    )
    assert (norm.invert(norm(x)) == x).all()
    assert norm.invert(norm(x)).dtype == np.uint8


@pytest.mark.parametrize("first_mixes", [False, True])
@pytest.mark.parametrize("second_mixes", [False, True])
@pytest.mark.parametrize("n_out", [None, 4])
def test_matrices_compose(first_mixes, second_mixes, n_out):
    x = RNG.normal(3, 2, (50, 6))
    first = zm.standardize(zm.measure(x))
    if first_mixes:
        first = replace(first, scale=1.0, matrix=RNG.normal(size=(n_out or 6, 6)), offset=1.5)
    between = first(x, dtype="float64")
    second = zm.min_max(zm.measure(between), -1, 1)
    if second_mixes:
        matrix = RNG.normal(size=(3, between.shape[1]))
        second = replace(second, scale=1.0, matrix=matrix, offset=np.arange(3.0))
    both = first.then(second)
    np.testing.assert_allclose(
        both(x, dtype="float64"), second(between, dtype="float64"), atol=1e-12
    )


def test_matrices_that_do_not_fit_are_refused():
    x = RNG.normal(3, 2, (50, 6))
    first = replace(zm.zero_mean(zm.measure(x)), matrix=RNG.normal(size=(4, 6)), offset=0.0)
    for second in (zm.standardize(zm.measure(x)), first):
        with pytest.raises(PatternError, match="gives 4 features, but the second was made for"):
            first.then(second)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_files(suffix, tmp_path):
    norm = replace(mixed("n h w c -> c", {}, n_out=3), details={"condition_number": 2.5})
    norm.save(tmp_path / f"norm{suffix}")
    loaded = zm.load(tmp_path / f"norm{suffix}")
    assert loaded == norm
    assert loaded.details == {"condition_number": 2.5}
    assert (loaded(X) == norm(X)).all()


def test_a_damaged_matrix_is_named(tmp_path):
    norm = mixed("n h w c -> c", {}, n_out=3)
    text = norm.to_json()
    path = tmp_path / "norm.json"
    for old, new, said in (
        ('"n_out": 3', '"n_out": 2', "matrix"),
        ('"n_out": 3', '"n_out": 0', "n_out"),
        ('"matrix"', '"matrxi"', "offset"),
        ('"kept_shape": [6]', '"kept_shape": [5]', "shift"),
    ):
        assert old in text, old
        path.write_text(text.replace(old, new))
        with pytest.raises(FormatError, match=said):
            zm.load(path)


def test_large_matrices_need_safetensors(tmp_path):
    norm = mixed("n h w c -> h w c", {})
    with pytest.raises(FormatError, match="safetensors"):
        norm.save(tmp_path / "norm.json")
    norm.save(tmp_path / "norm.safetensors")
    assert zm.load(tmp_path / "norm.safetensors") == norm
