"""Estimators as documents: parameters and exact state, checked on load, without code."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from zeromean import documents
from zeromean.documents import FORMAT, Tensors, check_sum, checksum, field
from zeromean.errors import FormatError
from zeromean.profile_file import check_size

_OWN = ("estimator", "parameters", "n_features", "profile_checksum")


def to_document(estimator: Any, *, tensors: bool) -> tuple[dict[str, Any], Tensors]:
    """Class, parameters, names and state of a fitted estimator.

    Raises
    ------
    FormatError
        When it holds no exact state, a parameter is not plain, or JSON would be too long.
    """
    if estimator._state is None:
        raise FormatError(f"cannot save {estimator!r}: it holds no exact state; call fit")
    if not tensors:
        check_size(estimator.n_features_in_)
    fields, arrays = estimator._state.to_fields(estimator._names(), tensors=tensors)
    document = {
        "format": FORMAT,
        "kind": "estimator",
        "estimator": type(estimator).__name__,
        "parameters": {k: _plain(k, v) for k, v in estimator.get_params(deep=False).items()},
        "n_features": estimator.n_features_in_,
    }
    if "checksum" in fields:  # of the profile that these fields are
        document["profile_checksum"] = fields["checksum"]
    document |= {k: v for k, v in fields.items() if k not in ("format", "kind", "checksum")}
    document["checksum"] = _checksum(document, arrays)
    return document, arrays


def _checksum(document: Mapping[str, Any], arrays: Tensors) -> str:
    parts = (*_OWN, "feature_names", "statistics", "weighted")
    return checksum({k: document[k] for k in parts if k in document}, arrays)


def from_document(document: Mapping[str, Any], arrays: Tensors, wanted: type | None) -> Any:
    """A fitted estimator from its document, every field checked.

    Raises
    ------
    FormatError
    """
    kind = field(document, "kind", str)
    if kind != "estimator":
        raise FormatError(f"holds a {kind}, not an estimator; use zeromean.load")
    name = field(document, "estimator", str)
    cls = _class(name, wanted)
    made = cls(**_parameters(cls, field(document, "parameters", dict)))
    n_features = field(document, "n_features", int)
    if not 0 < n_features < 1 << 40:
        raise FormatError(f"field 'n_features' is {n_features}")
    names = field(document, "feature_names", list)
    if names and (len(names) != n_features or not all(isinstance(n, str) for n in names)):
        raise FormatError(f"field 'feature_names' must hold {n_features} names or none")
    fields = {k: v for k, v in document.items() if k not in _OWN}
    if "profile_checksum" in document:
        fields |= {"kind": "profile", "checksum": document["profile_checksum"]}
    made._state = cls._State.from_fields(fields, arrays, n_features)
    made.n_features_in_ = n_features
    if names:
        made.feature_names_in_ = np.array(names, object)
    check_sum(document, _checksum(document, arrays))
    return made


def _class(name: str, wanted: type | None) -> Any:
    import zeromean.sklearn

    if wanted is not None and wanted.__name__ != name:
        raise FormatError(f"holds a {name}, not a {wanted.__name__}")
    if wanted is None and name not in zeromean.sklearn.ESTIMATORS:
        raise FormatError(f"field 'estimator' is {name!r}, which this version does not know")
    return wanted or getattr(zeromean.sklearn, name)


def _parameters(cls: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    expected = cls().get_params(deep=False)
    if set(found) != set(expected):
        raise FormatError(f"field 'parameters' must hold {', '.join(sorted(expected))}")
    made = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    for k, v in made.items():
        parts = v if isinstance(v, tuple) else (v,)
        if not all(isinstance(p, bool | int | float | str | None) for p in parts):
            raise FormatError(f"field 'parameters' holds {v!r:.40} for {k!r}")
    try:
        cls(**made)._validate_params()
    except ValueError as error:
        raise FormatError(f"field 'parameters': {error}") from None
    return made


def _plain(name: str, value: Any) -> Any:
    """A parameter as JSON."""
    if isinstance(value, tuple | list):
        return [_plain(name, v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise FormatError(f"cannot save the parameter {name}={value!r}: give a plain number")


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator to `.json` or `.safetensors`."""
    documents.save(path, *to_document(estimator, tensors=str(path).endswith(".safetensors")))


def load(path: str | os.PathLike[str], wanted: type | None = None) -> Any:
    """Read an estimator that `save` wrote.

    Parameters
    ----------
    path : path
    wanted : class, optional
        Of the estimator; whatever the file holds unless given.

    Returns
    -------
    estimator

    Raises
    ------
    FormatError
        When the file is missing, damaged, or holds something else; names file and field.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zeromean.sklearn import MinMaxScaler, load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scaler.json"
    ...     MinMaxScaler().fit([[1.0], [3.0]]).save(path)
    ...     load(path).transform([[2.0]])
    array([[0.5]])
    """
    document, arrays = documents.load(path)
    try:
        return from_document(document, arrays, wanted)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
