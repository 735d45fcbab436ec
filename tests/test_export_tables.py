"""Export to scikit-learn: rebuilt from JSON by itself, transforms as the exact answers say."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import zeromean as zm  # noqa: E402
from zeromean.exporters.probing import compare, probes  # noqa: E402
from zeromean.exporters.sklearn_pipeline import TARGET, load  # noqa: E402

R = np.random.default_rng(8)
TABLE = R.normal(5, 2, (60, 4)) * [1, 1e6, 1, 1e-3] + [0, 0, 1e5, 0]
MIXED = R.normal(5, 2, (60, 4)) @ R.normal(size=(4, 4))
PICTURES = R.integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)


def cases():
    profile, covariance = zm.measure(TABLE), zm.measure(MIXED, covariance=True)
    image = zm.measure(PICTURES, "n h w c -> h w c")
    yield "zero_mean", "StandardScaler", zm.zero_mean(profile)
    yield "standardize", "StandardScaler", zm.standardize(profile)
    yield "ddof=1", "StandardScaler", zm.standardize(profile, ddof=1)
    yield "min_max", "RobustScaler", zm.min_max(profile)
    yield "an offset", "RobustScaler", zm.min_max(profile, -1, 1)
    yield "mean_normalize", "RobustScaler", zm.mean_normalize(profile)
    yield "max_abs", "MaxAbsScaler", zm.max_abs(profile)
    yield "robust", "RobustScaler", zm.robust(profile, TABLE)
    yield "whitening", "PCA", zm.whiten(covariance, "pca")
    yield "fewer features", "PCA", zm.whiten(covariance, "pca", n_components=2)
    yield "a mean image", "StandardScaler", zm.standardize(image)
    first = zm.standardize(image)
    then = zm.max_abs(zm.measure(first(PICTURES), "n h w c -> h w c"))
    yield "composed", "RobustScaler", first.then(then)
    narrow = TABLE.astype(np.float32)
    yield "float32", "StandardScaler", zm.standardize(zm.measure(narrow))
    large = R.integers(-(2**62), 2**62, (40, 2))
    yield "int64", "StandardScaler", zm.standardize(zm.measure(large))
    yield "one column", "StandardScaler", zm.standardize(zm.measure(TABLE[:, :1]))


CASES = [pytest.param(kind, norm, id=name) for name, kind, norm in cases()]


def rows(x):
    return x.reshape(len(x), -1).astype(np.float64)


@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_pipelines_give_the_exact_answer_within_the_bound(kind, norm):
    made = zm.export(norm, "sklearn")
    assert made.verification.ok
    assert made.verification.arithmetic == "float64"
    assert made.verification.bound <= (2.5 if norm.matrix is None else 2 * norm.shift.size + 8)
    assert made.verification.n_values > 50
    assert type(made.value.steps[0][1]).__name__ == kind
    assert made.approximation == 0


@pytest.mark.parametrize("recipe", [zm.standardize, lambda p: zm.min_max(p, -1, 1)])
def test_pipelines_keep_their_bound_for_many_columns(recipe):
    """400 columns of all sizes and signs, far from zero and near."""
    sizes = 10.0 ** R.uniform(-8, 8, 400)
    norm = recipe(zm.measure(sizes * R.normal(R.normal(0, 3, 400), 1, (50, 400))))
    assert zm.export(norm, "sklearn").verification.ok


@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_pipelines_agree_with_the_normalizer(kind, norm):
    """In float64; both are within their bounds, so that they differ by no more than the sum."""
    x = probes(norm)
    y = zm.export(norm, "sklearn", verify=False).value.transform(rows(x))
    own = norm(x, dtype="float64")
    ulp = compare(norm, x, own, "float64")[0]
    assert ulp <= (1.5 if norm.matrix is None else 2 * norm.shift.size + 8)
    size = np.abs(rows(x)).max() / (norm.scale.min() if norm.matrix is None else 1e-4)
    np.testing.assert_allclose(y, own.reshape(y.shape), rtol=1e-13, atol=1e-14 * size)


@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_the_file_comes_back(kind, norm, tmp_path):
    """From a path, from text and from bytes, to the last bit; the same content, the same bytes."""
    path = tmp_path / "scaler.json"
    made = zm.export(norm, "sklearn", path, verify=False)
    assert zm.export(norm, "sklearn", verify=False).content == made.content
    expected = made.value.transform(rows(probes(norm)))
    for source in (path, str(path), made.text, made.content):
        again = load(source)
        assert repr(again) == repr(made.value)
        np.testing.assert_array_equal(again.transform(rows(probes(norm))), expected)


@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_import_gives_the_same_normalizer(kind, norm, tmp_path):
    """From the fitted object, from one that was loaded, and from the file."""
    made = zm.export(norm, "sklearn", tmp_path / "pipeline.json", verify=False)
    assert zm.import_normalizer(made.value) == norm
    assert zm.import_normalizer(load(made.text)) == norm
    assert zm.import_normalizer(tmp_path / "pipeline.json") == norm


def test_a_wrong_number_is_found():
    """The verification can fail: a mean one part in 1e12 off is 4 thousand ulp."""
    norm = zm.standardize(zm.measure(TABLE))
    made = TARGET.make(norm, zm.exporters.targets.Order())
    document = json.loads(made.content)
    document["steps"][0]["fitted"]["mean_"][2] *= 1 + 1e-12
    import dataclasses

    wrong = dataclasses.replace(made, content=json.dumps(document).encode())
    x = probes(norm)
    assert compare(norm, x, TARGET.run(made, x), "float64")[0] <= made.bound
    assert compare(norm, x, TARGET.run(wrong, x), "float64")[0] > 1000


def test_min_and_max_are_met_exactly():
    """What `MinMaxScaler` itself, multiplying by a rounded reciprocal, does not promise."""
    from sklearn.preprocessing import MinMaxScaler

    met = {"ours": 0, "theirs": 0}
    for seed in range(30):
        x = np.random.default_rng(seed).integers(0, 1000, (20, 1)).astype(np.float64)
        norm = zm.min_max(zm.measure(x), -1, 1)
        ours = zm.export(norm, "sklearn", verify=False).value.transform(x)
        theirs = MinMaxScaler((-1, 1)).fit_transform(x)
        met["ours"] += (ours.min(), ours.max()) == (-1, 1)
        met["theirs"] += (theirs.min(), theirs.max()) == (-1, 1)
    assert met["ours"] == 30 > met["theirs"]


def test_pipelines_are_fitted_for_scikit_learn():
    """Names, checks of the number of features, clones, inverse, a model behind."""
    from sklearn.base import clone
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.utils.validation import check_is_fitted

    norm = zm.standardize(zm.measure(TABLE))
    pipeline = zm.export(norm, "sklearn", verify=False).value
    check_is_fitted(pipeline)
    assert pipeline.n_features_in_ == 4
    with pytest.raises(ValueError, match="4 features"):
        pipeline.transform(TABLE[:, :3])
    np.testing.assert_allclose(pipeline.inverse_transform(pipeline.transform(TABLE)), TABLE)
    assert not hasattr(clone(pipeline).steps[0][1], "mean_")
    model = LinearRegression().fit(pipeline.transform(TABLE), TABLE.sum(1))
    whole = make_pipeline(pipeline, model)
    np.testing.assert_allclose(whole.predict(TABLE), TABLE.sum(1))


@pytest.mark.parametrize("recipe", [zm.zero_mean, zm.standardize])
def test_partial_fit_begins_anew(recipe):
    """How many rows were measured is not known, so nothing is weighed against a guess."""
    from sklearn.preprocessing import StandardScaler

    made = zm.export(recipe(zm.measure(TABLE)), "sklearn", verify=False).value.steps[0][1]
    fresh = StandardScaler(with_std=recipe is zm.standardize).partial_fit(MIXED)
    made.partial_fit(MIXED)
    np.testing.assert_array_equal(made.mean_, fresh.mean_)
    np.testing.assert_array_equal(made.scale_, fresh.scale_)


def test_whitening_can_be_undone():
    pipeline = zm.export(zm.whiten(zm.measure(MIXED, covariance=True), "pca"), "sklearn").value
    back = pipeline.inverse_transform(pipeline.transform(MIXED))
    np.testing.assert_allclose(back, MIXED, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.cov(pipeline.transform(MIXED).T, bias=True), np.eye(4), atol=1e-7)


def test_columns_keep_their_names():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(TABLE, columns=["age", "income", "size", "rate"])
    made = zm.export(zm.standardize(zm.measure(frame)), "sklearn")
    assert made.verification.ok
    assert list(made.value.feature_names_in_) == list(frame.columns)
    assert list(made.value.get_feature_names_out()) == list(frame.columns)
    np.testing.assert_allclose(made.value.transform(frame).mean(0), 0, atol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        made.value.transform(frame[["income", "age", "size", "rate"]])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("norm", "says"),
    [
        (
            lambda: zm.whiten(zm.measure(MIXED, covariance=True), "zca"),
            "whiten_zca are not: use zm.whiten(profile, kind='pca'), or export to onnx",
        ),
        (
            lambda: zm.standardize(zm.measure(PICTURES, "n h w c -> c")),
            "measure with 'n d -> d', or pictures with 'n h w c -> h w c'",
        ),
        (lambda: zm.standardize(zm.measure(TABLE, "n d ->")), "rows with one number for each"),
        (lambda: zm.zero_mean(zm.measure(TABLE[:, 0], "n ->")), "rows with one number for each"),
        (
            lambda: zm.whiten(zm.measure(MIXED * 1e-17, covariance=True), "pca"),
            "divides by 2.22045e-16 at least",
        ),
    ],
)
def test_what_cannot_be_held_is_refused(norm, says):
    with pytest.raises(zm.PatternError, match=re.escape(says)):
        zm.export(norm(), "sklearn")


@pytest.mark.parametrize("option", [{"channels": "RGB"}, {"layout": "chw"}])
def test_options_of_pictures_are_refused(option):
    with pytest.raises(zm.PatternError, match="does nothing for scikit-learn"):
        zm.export(zm.standardize(zm.measure(TABLE)), "sklearn", **option)


def edited(change):
    document = json.loads(zm.export(zm.standardize(zm.measure(TABLE)), "sklearn").text)
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format="other"), "is no pipeline that zeromean wrote"),
        (lambda d: d["steps"][0].update({"class": "FunctionTransformer"}), "is none of Standard"),
        (lambda d: d["steps"][0]["fitted"].update(transform=[1.0]), "has no 'transform'"),
        (lambda d: d["steps"][0]["parameters"].update(copy=1), "has no 'copy'"),
        (lambda d: d["steps"][0]["fitted"]["mean_"].pop(), r"mean_ has shape \(3,\)"),
        (lambda d: d["steps"][0]["fitted"].update(mean_=["a"] * 4), "could not convert"),
        (lambda d: d["steps"][0]["fitted"]["mean_"].__setitem__(0, 1e999), "must be finite"),
        (lambda d: d.pop("steps"), "steps"),
        (lambda d: d.update(n_features=5), "not \\(5,\\)"),
    ],
)
def test_damaged_files_are_refused(change, says):
    with pytest.raises(zm.FormatError, match=says):
        load(edited(change))


def test_files_that_are_not_there_or_no_json():
    with pytest.raises(zm.SourceError, match="cannot be read"):
        load("nowhere.json")
    with pytest.raises(zm.FormatError, match="is not JSON"):
        load('{"format": ')


def test_without_scikit_learn_the_file_is_still_written(monkeypatch):
    import builtins

    real = builtins.__import__

    def absent(name, *rest, **named):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **named)

    norm = zm.standardize(zm.measure(TABLE))
    expected = zm.export(norm, "sklearn", verify=False).content
    monkeypatch.setattr(builtins, "__import__", absent)
    made = zm.export(norm, "sklearn")
    assert made.content == expected
    assert made.value is None
    assert 'pip install "zeromean[sklearn]"' in made.unverified
