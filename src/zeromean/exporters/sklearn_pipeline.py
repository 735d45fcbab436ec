"""scikit-learn: a fitted `Pipeline`, in a JSON file that holds numbers and no code.

`load` rebuilds the pipeline; a pickle is neither written nor read. Rows are features: those of the
pattern "n d -> d", or all kept axes flattened in C order, so that a mean image takes
`x.reshape(len(x), -1)`. The classes are those that say no more than is known:

=======================  ==============================================================
`zero_mean`              `StandardScaler(with_std=False)`
`standardize`            `StandardScaler`
`max_abs`                `MaxAbsScaler`
whitening                `PCA(whiten=True)`, for orthogonal rows: `whiten_pca`
everything else          `RobustScaler`, which is (x - center) / scale and claims nothing
=======================  ==============================================================

An offset is a second step. `MinMaxScaler` is not used: it would want the smallest and largest value
and multiplies by a rounded reciprocal, so that its ends are not met. `n_samples_seen_` is not
known and not made up, so that `partial_fit` begins anew and weighs no data against a guess.

The bound, with u = 2⁻⁵³, in ulp of float64 at the size of the largest term (each u is one ulp at
most), for float64 rows: difference u, quotient half a unit: 1.5. With an offset, quotient u and sum
half a unit: 2.5. The shift, the scale and the offset are exact. Integers beyond 2⁵³ are rounded
first: one more. scikit-learn keeps float32 rows as float32, which then has its own, coarser, units.

`PCA` computes x Cᵀ - m Cᵀ, divided by the roots of the variances: products and sums of n terms give
(n + 1) u each for two sums, u for their difference; component and root are off by 2 u and 2 u, and
half a unit for the quotient: 2 n + 8.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.embedding import ATTRIBUTE, KEY, embedded
from zeromean.errors import FormatError, PatternError, SourceError
from zeromean.exporters.targets import Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]
_TITLE = "scikit-learn Pipeline"
_FORMAT = "zeromean-sklearn/1"
_EPSILON = float(np.finfo(np.float64).eps)
_MISSING = 'scikit-learn is not installed: pip install "zeromean[sklearn]"'
#: What a file may say of each class: parameters, and fitted attributes with their axes.
_CLASSES: dict[str, tuple[frozenset[str], dict[str, int]]] = {
    "StandardScaler": (frozenset({"with_mean", "with_std"}), {"mean_": 1, "scale_": 1, "var_": 1}),
    "RobustScaler": (frozenset({"with_centering", "with_scaling"}), {"center_": 1, "scale_": 1}),
    "MaxAbsScaler": (frozenset(), {"scale_": 1, "max_abs_": 1}),
    "PCA": (
        frozenset({"n_components", "whiten"}),
        {"components_": 2, "mean_": 1, "explained_variance_": 1},
    ),
}
_Step = dict[str, Any]


def _make(norm: Normalizer, order: Order) -> Made:
    _check_rows(norm)
    document = {
        "format": _FORMAT,
        "n_features": norm.shift.size,
        "feature_names": list(norm.feature_names) or None,
        "steps": _steps(norm),
    }
    with contextlib.suppress(FormatError):  # more numbers than our own JSON holds
        document[KEY] = embedded(norm)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    own = 1.5 if norm.matrix is None else 2.0 * norm.shift.size + 8
    value, notes = _value(text)
    return Made(
        text.encode(),
        value,
        _expects(norm),
        "float64 rows; float32 rows stay float32",
        norm,
        arithmetic="float64",
        bound=own + bool(norm.offset.any()) + _entering(norm),
        notes=notes,
    )


def _expects(norm: Normalizer) -> str:
    values = "of the data as measured"
    if norm.units.range is not None:
        values = "of values {:g}..{:g}".format(*norm.units.range)
    rows = f"float64 rows (n, {norm.shift.size}) {values}"
    if len(norm.pattern.kept) > 1:
        rows += f", the axes ({', '.join(norm.pattern.kept)}) flattened in this order"
    return rows


def _check_rows(norm: Normalizer) -> None:
    """Only the first axis may be samples, and the others keep their order."""
    axes = norm.pattern.axes
    names = tuple(group[0] if len(group) == 1 else "" for group in axes)
    if len(axes) < 2 or names[1:] != norm.pattern.kept:
        raise PatternError(
            f"{_TITLE} takes rows with one number for each feature; the pattern "
            f"{str(norm.pattern)!r} is not of that kind: measure with 'n d -> d', or pictures with "
            "'n h w c -> h w c', whose values are flattened to features, or export to onnx, torch "
            "or numpy"
        )


def _entering(norm: Normalizer) -> float:
    """One rounding for 64-bit integers, unless they are known to be small."""
    limits = norm.units.range or (0, np.inf)
    wide = "int64" in norm.dtype  # and uint64
    return 1.0 if wide and max(map(abs, limits)) > 1 << 53 else 0.0


# ---------------------------------------------------------------- numbers to steps


def _steps(norm: Normalizer) -> list[_Step]:
    shift, scale, offset = (getattr(norm, n).ravel() for n in ("shift", "scale", "offset"))
    steps = [_pca(norm) if norm.matrix is not None else _scaler(norm, shift, scale)]
    if offset.any():
        steps.append(_step("offset", "RobustScaler", {"with_scaling": False}, {"center_": -offset}))
    return steps


def _scaler(norm: Normalizer, shift: _Floats, scale: _Floats) -> _Step:
    if norm.recipe == "zero_mean" and (scale == 1).all():
        return _step("center", "StandardScaler", {"with_std": False}, {"mean_": shift})
    if norm.recipe == "standardize":
        fitted = {"mean_": shift, "scale_": scale, "var_": scale * scale}
        return _step("scale", "StandardScaler", {}, fitted)
    if norm.recipe == "max_abs" and not shift.any():
        return _step("scale", "MaxAbsScaler", {}, {"scale_": scale, "max_abs_": scale})
    return _step("scale", "RobustScaler", {}, {"center_": shift, "scale_": scale})


def _pca(norm: Normalizer) -> _Step:
    """Row i of the matrix is the i-th component, divided by the root of its variance.

    Raises
    ------
    PatternError
        When the rows are not orthogonal, as those of ZCA.
    """
    assert norm.matrix is not None
    lengths = np.array([math.hypot(*row) for row in norm.matrix.tolist()])
    components = norm.matrix / lengths[:, None]
    apart = np.abs(components @ components.T - np.eye(len(components))).max()
    if not apart <= 1e-6:
        raise PatternError(
            f"{_TITLE} holds whitening as PCA, whose directions are orthogonal; those of "
            f"{norm.recipe} are not: use zm.whiten(profile, kind='pca'), or export to onnx, torch "
            "or numpy"
        )
    roots = 1 / lengths
    if roots.min() < _EPSILON:
        raise PatternError(
            f"{_TITLE} divides by {_EPSILON:g} at least, and a direction has a std of "
            f"{roots.min():g}; measure in other units, or export to onnx, torch or numpy"
        )
    fitted = {
        "components_": components,
        "mean_": norm.shift.ravel(),
        "explained_variance_": roots * roots,
    }
    return _step("whiten", "PCA", {"n_components": len(components), "whiten": True}, fitted)


def _step(name: str, kind: str, parameters: Mapping[str, Any], fitted: Mapping[str, Any]) -> _Step:
    numbers = {key: np.asarray(value).tolist() for key, value in fitted.items()}
    return {"name": name, "class": kind, "parameters": dict(parameters), "fitted": numbers}


# ---------------------------------------------------------------- and back


def load(source: str | os.PathLike[str] | bytes) -> Any:
    """The fitted pipeline in a file that `zeromean.export(norm, "sklearn", path)` wrote.

    Only the classes that are written are made, and only their own attributes are set.

    Parameters
    ----------
    source : path, str or bytes
        The file, or its text.

    Returns
    -------
    sklearn.pipeline.Pipeline

    Raises
    ------
    FormatError
        When it is no such file, or damaged.
    SourceError
        When it cannot be read.
    ImportError
        Without scikit-learn, with what to install.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.array([[1.0, 10.0], [3.0, 50.0]])
    >>> made = zm.export(zm.standardize(zm.measure(x)), "sklearn")
    >>> load(made.text).transform(x)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    text, place = _text_of(source)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{place} is not JSON ({error}); export it again") from None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise FormatError(
            f"{place} is no pipeline that zeromean wrote: its format is not {_FORMAT}"
        )
    try:
        return _pipeline(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{place} is damaged ({error}); export it again") from None


def _text_of(source: str | os.PathLike[str] | bytes) -> tuple[str, str]:
    if isinstance(source, bytes):
        return source.decode("utf-8", "replace"), "the text"
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return source, "the text"
    try:
        return Path(source).read_text("utf-8"), str(source)
    except (OSError, ValueError) as error:
        raise SourceError(f"{source} cannot be read ({error})") from None


def _pipeline(document: Mapping[str, Any]) -> Any:
    try:
        from sklearn.pipeline import Pipeline
    except ImportError:
        raise ImportError(_MISSING) from None
    n, names = int(document["n_features"]), document["feature_names"]
    steps = []
    for step in document["steps"]:
        made, n = _estimator(step, n, names)
        steps.append((str(step["name"]), made))
        if step["class"] == "PCA":
            names = None
    pipeline = Pipeline(steps)
    if document.get(KEY) is not None:
        setattr(pipeline, ATTRIBUTE, document[KEY])
    return pipeline


def _estimator(step: Mapping[str, Any], n: int, names: Any) -> tuple[Any, int]:
    """One estimator, as if fitted to n features; and how many it gives."""
    from sklearn import decomposition, preprocessing

    kind = step["class"]
    if kind not in _CLASSES:
        raise ValueError(f"class {kind!r} is none of {', '.join(_CLASSES)}")
    parameters, attributes = _CLASSES[kind]
    odd = [*(set(step["parameters"]) - parameters), *(set(step["fitted"]) - set(attributes))]
    if odd:
        raise ValueError(f"{kind} has no {odd[0]!r}")
    home = decomposition if kind == "PCA" else preprocessing
    made = getattr(home, kind)(**step["parameters"])
    for attribute in attributes:  # None for what was not fitted, such as scale_ without with_std
        values = step["fitted"].get(attribute)
        setattr(made, attribute, None if values is None else _array(values, attributes[attribute]))
    made.n_features_in_ = n
    if names is not None:
        made.feature_names_in_ = np.array(names, object)
    return made, _finish_pca(made, n) if kind == "PCA" else _check_lengths(made, attributes, n)


def _array(values: Any, n_axes: int) -> _Floats:
    array = np.array(values, np.float64)
    if array.ndim != n_axes or not np.isfinite(array).all():
        raise ValueError(f"numbers of shape {array.shape} must be finite and have {n_axes} axes")
    return array


def _check_lengths(made: Any, attributes: Mapping[str, int], n: int) -> int:
    for name in attributes:
        values = getattr(made, name)
        if values is not None and values.shape != (n,):
            raise ValueError(f"{name} has shape {values.shape}, not ({n},)")
    return n


def _finish_pca(pca: Any, n: int) -> int:
    k = len(pca.components_)
    if pca.components_.shape != (k, n) or pca.mean_.shape != (n,):
        raise ValueError(f"components_ has shape {pca.components_.shape}, not ({k}, {n})")
    if pca.explained_variance_.shape != (k,):
        raise ValueError(f"explained_variance_ has shape {pca.explained_variance_.shape}")
    pca.n_components_ = k
    return k


# ---------------------------------------------------------------- value and proof


def _value(text: str) -> tuple[Any, tuple[str, ...]]:
    try:
        return load(text), ()
    except ImportError as error:
        return None, (f"the file is complete, but value is None: {error}",)


def _run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rebuild from the file, and transform rows of float64."""
    pipeline = load(made.content)
    rows = x.reshape(len(x), -1).astype(np.float64)
    with warnings.catch_warnings():  # an array has no column names
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        y = np.asarray(pipeline.transform(rows))
    return y.reshape(x.shape) if y.shape == rows.shape else y


TARGET = Target("sklearn", _TITLE, (".json",), _make, _run, library="scikit-learn")
