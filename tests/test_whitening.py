"""Whitening: what it does to a covariance, what it keeps, what it reports, what it refuses."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import zeromean as zm
from strategies import seeds
from zeromean.cli import main

PIXELS = "n h w c -> h w c"
CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-train-5k"


def table(seed=0, n=400, d=6, condition=100.0):
    """Rows whose covariance has about this condition number."""
    rng = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return rng.normal(size=(n, d)) * np.geomspace(1, condition**0.5, d) @ turned + 50 * turned[0]


def pictures(count=300, side=3, seed=1):
    """Smooth pictures: neighbors vary together."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, side + 2, side + 2, 3))
    smooth = sum(noise[:, i : i + side, j : j + side] for i in range(3) for j in range(3))
    return np.clip(128 + 20 * smooth, 0, 255).astype(np.uint8)


def profile_of(x, pattern=None):
    return zm.measure(x, pattern, covariance=True)


def mapped(norm, x):
    """What the formula says, by NumPy."""
    flat = np.reshape(x, (len(x), -1)).astype(np.float64)
    return (flat - norm.shift.ravel()) @ norm.matrix.T


def covariance_of(y, ddof=0):
    return np.atleast_2d(np.cov(y.T, ddof=ddof))


# ---------------------------------------------------------------- what it does


@given(seeds, st.sampled_from(["pca", "zca"]), st.sampled_from([0, 1]), st.integers(1, 8))
def test_whitened_data_has_the_identity_as_covariance(seed, kind, ddof, features):
    x = table(seed, d=features)
    norm = zm.whiten(profile_of(x), kind, ddof=ddof)
    y = mapped(norm, x)
    assert np.abs(y.mean(axis=0)).max() < 1e-10
    assert np.abs(covariance_of(y, ddof) - np.eye(features)).max() < 1e-10
    assert np.allclose(norm(x, dtype="float64"), y, rtol=0, atol=1e-12)
    assert (norm.recipe, norm.ddof) == (f"whiten_{kind}", ddof)


@given(seeds)
@settings(max_examples=20)
def test_kinds_are_what_their_papers_say(seed):
    """PCA: rows along falling principal directions, largest component positive. ZCA: C^(-1/2)."""
    x = table(seed)
    profile = profile_of(x)
    pca, zca = (zm.whiten(profile, kind).matrix for kind in ("pca", "zca"))
    matrix = profile.cov()
    lengths = 1 / np.linalg.norm(pca, axis=1)
    directions = pca * lengths[:, None]
    assert (np.diff(lengths) < 0).all()
    assert np.allclose(directions @ directions.T, np.eye(6))
    assert np.allclose(directions @ matrix @ directions.T, np.diag(lengths**2), atol=1e-8)
    largest = np.abs(directions).argmax(axis=1)
    assert (directions[np.arange(6), largest] > 0).all()
    assert np.array_equal(zca, zca.T)
    assert (np.linalg.eigvalsh(zca) > 0).all()
    assert np.allclose(zca @ matrix @ zca, np.eye(6))


def test_zca_is_the_nearest_whitening():
    """Of all turned versions it moves standardized directions the least (Kessy et al. 2018)."""
    x = table(3)
    centered = x - x.mean(axis=0)
    profile = profile_of(x)

    def distance(matrix):
        return np.mean((centered @ matrix.T - centered) ** 2)

    zca = zm.whiten(profile, "zca").matrix
    rng = np.random.default_rng(0)
    turns = [np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(20)]
    assert all(distance(zca) < distance(turn @ zca) for turn in turns)
    assert distance(zca) < distance(zm.whiten(profile, "pca").matrix)


def test_it_agrees_with_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = table(4)
    theirs = decomposition.PCA(whiten=True, svd_solver="covariance_eigh").fit(x)
    ours = zm.whiten(profile_of(x), ddof=1)
    signs = np.sign(np.sum(theirs.components_ * ours.matrix, axis=1))
    assert np.allclose(ours(x, dtype="float64"), theirs.transform(x) * signs, atol=1e-9)
    for share in (0.2, 0.5, 0.9, 0.999):
        fewer = decomposition.PCA(share, whiten=True, svd_solver="full").fit(x)
        assert len(zm.whiten(profile_of(x), n_components=share).matrix) == fewer.n_components_


@pytest.mark.parametrize("scale", [1e-140, 1e-20, 1.0, 1e20, 1e140])
def test_units_do_not_matter(scale):
    x = table(5) * scale
    assert np.abs(covariance_of(mapped(zm.whiten(profile_of(x)), x)) - np.eye(6)).max() < 1e-10


def test_far_from_zero_there_is_no_cancellation():
    x = table(6) + 1e9
    y = mapped(zm.whiten(profile_of(x)), x)
    assert np.abs(covariance_of(y) - np.eye(6)).max() < 1e-7


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_pictures_keep_their_shape_and_come_back(kind):
    x = pictures()
    norm = zm.whiten(profile_of(x, PIXELS), kind)
    y = norm(x)
    assert (y.shape, y.dtype) == (x.shape, np.float32)
    assert np.abs(covariance_of(y.reshape(300, -1)) - np.eye(27)).max() < 1e-5
    assert np.array_equal(norm.invert(y), x)
    assert norm(x[0]).shape == x[0].shape
    assert np.allclose(norm(x[0]), y[0], atol=1e-4)


def test_colors_alone_can_be_whitened_in_pictures_of_any_size():
    x = [pictures(1, side)[0] for side in (5, 8, 13)]
    norm = zm.whiten(profile_of(x, "n h w c -> c"), "zca")
    assert norm.matrix.shape == (3, 3)
    colors = np.concatenate([norm(picture).reshape(-1, 3) for picture in x])
    assert np.abs(covariance_of(colors) - np.eye(3)).max() < 1e-5


def test_patches_of_pictures_are_whitened():
    """As in learning filters: every window of a picture is a sample."""
    x = pictures(40, 8)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 3, 3, 3)
    norm = zm.whiten(profile_of(patches, PIXELS), "zca")
    assert np.abs(covariance_of(mapped(norm, patches)) - np.eye(27)).max() < 1e-9
    center = norm.matrix.reshape(3, 3, 3, 3, 3, 3)[1, 1, 0]  # what makes the middle's red
    assert np.unravel_index(np.abs(center).argmax(), center.shape) == (1, 1, 0)


@pytest.mark.skipif(not CIFAR.is_dir(), reason="needs 5 000 pictures of CIFAR-10")
def test_cifar_is_white_to_one_part_in_a_thousand():
    profile = profile_of(CIFAR, "n h w c -> h w c")
    norm = zm.whiten(profile, "zca")
    assert norm.details["rank"] == norm.details["n_components"] == 3072
    assert norm.details["condition_number"] > 1e8
    image = pytest.importorskip("PIL.Image")
    files = sorted(CIFAR.rglob("*.png"))
    x = np.stack([np.asarray(image.open(file)) for file in files])
    y = norm(x).reshape(len(x), -1).astype(np.float64)
    assert np.abs(y.T @ y / len(y) - np.eye(3072)).max() < 1e-3


# ---------------------------------------------------------------- fewer directions, and noise


@given(seeds, st.integers(1, 6))
@settings(max_examples=20)
def test_fewer_components_are_the_first_ones(seed, count):
    x = table(seed)
    profile = profile_of(x)
    whole, fewer = zm.whiten(profile), zm.whiten(profile, n_components=count)
    assert np.array_equal(fewer.matrix, whole.matrix[:count])
    assert fewer(x).shape == (400, count)
    values = 1 / np.linalg.norm(whole.matrix, axis=1) ** 2
    assert fewer.details["variance_kept"] == pytest.approx(values[:count].sum() / values.sum())
    assert fewer.details["condition_number"] == pytest.approx(values[0] / values[count - 1])
    assert fewer.details["n_components"] == count
    zca = zm.whiten(profile, "zca", n_components=count)
    assert zca.matrix.shape == (6, 6)
    assert np.linalg.matrix_rank(zca.matrix) == count
    white = np.linalg.eigvalsh(covariance_of(mapped(zca, x)))
    assert np.allclose(white, [0] * (6 - count) + [1] * count, atol=1e-9)


def degenerate():
    """Eight features of rank five: a sum, a copy and a constant among them."""
    rng = np.random.default_rng(2)
    free = rng.integers(0, 100, (500, 5))
    more = [free[:, 0] + free[:, 1], free[:, 2], np.full(500, 7)]
    return np.column_stack([free, *more])


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_directions_without_variance_are_left_out_and_reported(dtype, kind):
    x = degenerate().astype(dtype)
    with pytest.warns(zm.ZeromeanWarning, match="varies in 5 of 8 directions"):
        norm = zm.whiten(profile_of(x), kind)
    assert norm.details["rank"] == norm.details["n_components"] == 5
    assert norm.details["variance_kept"] == pytest.approx(1)
    assert norm.details["condition_number"] < 100
    assert norm.constant == ("7",)
    assert norm.matrix.shape == ((5, 8) if kind == "pca" else (8, 8))
    white = np.linalg.eigvalsh(covariance_of(mapped(norm, x)))
    kept = [1] * 5 if kind == "pca" else [0] * 3 + [1] * 5
    assert np.allclose(white, kept, atol=1e-9)
    assert np.allclose(norm.invert(norm(x, dtype="float64"), dtype="float64"), x, atol=1e-6)


def test_fewer_samples_than_features():
    x = np.random.default_rng(0).normal(size=(10, 40))
    with pytest.warns(zm.ZeromeanWarning, match="9 of 40"):
        norm = zm.whiten(profile_of(x))
    assert np.abs(covariance_of(mapped(norm, x)) - np.eye(9)).max() < 1e-10


@pytest.mark.parametrize(
    "options", [{"eps": 3.0}, {"shrinkage": 0.25}, {"eps": 2.0, "shrinkage": 0.5}]
)
def test_eps_and_shrinkage_keep_every_direction(options):
    x = degenerate().astype(np.uint8)
    profile = profile_of(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pca, zca = (zm.whiten(profile, kind, **options) for kind in ("pca", "zca"))
    s, eps = options.get("shrinkage", 0.0), options.get("eps", 0.0)
    own = profile.cov()
    changed = (1 - s) * own + (s * np.trace(own) / 8 + eps) * np.eye(8)
    for norm in (pca, zca):
        assert np.allclose(norm.matrix @ changed @ norm.matrix.T, np.eye(8), atol=1e-9)
        assert (norm.details["rank"], norm.details["n_components"]) == (5, 8)
        assert (norm.details["eps"], norm.details["shrinkage"]) == (eps, s)
    values = np.linalg.eigvalsh(changed)
    assert pca.details["condition_number"] == pytest.approx(values[-1] / values[0])


def test_shrinkage_of_one_only_scales():
    x = table(8)
    norm = zm.whiten(profile_of(x), "zca", shrinkage=1.0)
    scale = np.sqrt(np.trace(profile_of(x).cov()) / 6)
    assert np.allclose(norm.matrix, np.eye(6) / scale)


def test_incomplete_rows_are_left_out_of_mean_and_covariance():
    x = table(9)
    holes = x.copy()
    holes[3, 0], holes[8, 2] = np.nan, np.inf
    complete = np.delete(x, [3, 8], axis=0)
    with pytest.warns(zm.ZeromeanWarning, match="infinite"):
        norm = zm.whiten(profile_of(holes))
    y = mapped(norm, complete)
    assert np.abs(y.mean(axis=0)).max() < 1e-10
    assert np.abs(covariance_of(y) - np.eye(6)).max() < 1e-10


# ---------------------------------------------------------------- files, composing, command line


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_normalizers_are_saved_with_what_they_report(suffix, tmp_path):
    norm = zm.whiten(profile_of(table(1)), n_components=3)
    norm.save(tmp_path / f"white{suffix}")
    loaded = zm.load(tmp_path / f"white{suffix}")
    assert loaded == norm
    assert loaded.details == norm.details
    assert "condition number" in repr(loaded)


def test_a_saved_profile_whitens_the_same(tmp_path):
    profile = profile_of(pictures(), PIXELS)
    profile.save(tmp_path / "x.safetensors")
    assert zm.whiten(zm.load(tmp_path / "x.safetensors")) == zm.whiten(profile)


def test_parts_of_the_data_whiten_as_the_whole():
    x = pictures()
    parts = [profile_of(part, PIXELS) for part in np.array_split(x, 4)]
    assert zm.whiten(sum(parts[::-1])) == zm.whiten(profile_of(x, PIXELS))


def test_standardized_first_whitening_follows_the_correlations():
    x = table(2) * [1, 10, 100, 1e3, 1e4, 1e5]
    first = zm.standardize(profile_of(x))
    second = zm.whiten(profile_of(first(x, dtype="float64")), "zca")
    y = first.then(second)(x, dtype="float64")
    assert np.abs(covariance_of(y) - np.eye(6)).max() < 1e-8


def test_command_line_whitens(tmp_path):
    x = pictures()
    np.save(tmp_path / "x.npy", x)
    names = [str(tmp_path / name) for name in ("x.npy", "p.safetensors", "y.npy")]
    measured = ["measure", names[0], "--per", "pixel", "--covariance", "-o", names[1]]
    applied = ["apply", names[1], names[0], "--method", "whiten-zca", "-o", names[2]]
    for arguments in (measured, applied):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
    expected = zm.whiten(profile_of(x, PIXELS), "zca")(x)
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)


# ---------------------------------------------------------------- what is refused


def refuse(match, profile, *given, **options):
    with pytest.raises(zm.PatternError, match=match):
        zm.whiten(profile, *given, **options)


def test_wrong_options_are_named():
    profile = profile_of(table(0))
    refuse("kind is 'ica'; choose 'pca' or 'zca'", profile, "ica")
    refuse("eps is -1.0", profile, eps=-1.0)
    refuse("eps is nan", profile, eps=float("nan"))
    refuse("shrinkage is 1.5", profile, shrinkage=1.5)
    refuse("n_components is 7; the data varies in 6 directions", profile, n_components=7)
    refuse("n_components is 0;", profile, n_components=0)
    refuse("n_components is 1.5", profile, n_components=1.5)
    refuse("n_components is 0.0", profile, n_components=0.0)


def test_profiles_that_cannot_be_whitened_are_refused():
    x = table(0)
    refuse(r"measure\(\.\.\., covariance=True\)", zm.measure(x))
    refuse("too few values", profile_of(x[:1]), ddof=1)
    refuse("no direction has any variance", profile_of(np.full((9, 3), 5.0)))
    refuse("overflows float64", profile_of(table(1) * 1e160))
    refuse("0 of the samples are complete", profile_of(np.array([[1, np.nan], [np.nan, 2]])))
    keeps = profile_of(pictures(4), "n h w c -> n c")
    refuse("keeps its first axis", keeps)
    per_sample = zm.per_sample(zm.whiten, "n h w c -> n")
    with pytest.raises(zm.PatternError, match="keeps the samples"):
        per_sample(pictures(4))


def test_constants_can_be_centered_with_eps():
    norm = zm.whiten(profile_of(np.full((9, 3), 5.0)), "zca", eps=4.0)
    assert np.allclose(norm.matrix, np.eye(3) / 2)
    assert norm.details["variance_kept"] == 1
