"""bridgescaler JSON: distributed, deep and scikit-learn scalers as `save_scaler` writes them.

Read in bridgescaler 0.8.6, `backend.py` (arrays as base64 under `__numpy__`, or, in older files, as
lists), `distributed.py` ((x - mean_x_) / sqrt(var_x_); (x - min_x_) / (max_x_ - min_x_)) and
`deep.py` ((x - mean_) / sd_).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from zeromean.errors import FormatError, UnitError
from zeromean.importers import sklearn_scalers
from zeromean.importers.found import Exact, Found, check_positive, exact, fractions, said, which
from zeromean.importers.opening import json_of
from zeromean.rounding import sqrt_ratio

TITLE = "bridgescaler"
_MEAN_STD = {"DStandardScaler": ("mean_x_", "var_x_"), "DeepStandardScaler": ("mean_", "sd_")}
_MIN_MAX = {"DMinMaxScaler": ("min_x_", "max_x_"), "DeepMinMaxScaler": ("min_", "max_")}
#: And what it writes besides, which is refused by name.
_KNOWN = {
    *(*_MEAN_STD, *_MIN_MAX, *sklearn_scalers.CLASSES, "DQuantileScaler", "DQuantileTransformer"),
    *("DeepQuantileTransformer", "GroupStandardScaler", "GroupRobustScaler", "GroupMinMaxScaler"),
}


def is_scaler(config: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a scaler, or a dictionary of them."""
    name = config.get("type")
    if isinstance(name, str) and name.removesuffix("Tensor") in _KNOWN:
        return True
    return bool(_scalers(config, ""))


def _scalers(config: Mapping[str, Any], start: str) -> dict[str, str]:
    """Of `save_scaler_dict`: each scaler is JSON in a string; names joined by slashes."""
    held: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            held |= _scalers(value, f"{start}{name}/")
        elif isinstance(value, str) and value.startswith("{") and '"type"' in value:
            held[f"{start}{name}"] = value
    return held


def read(config: Mapping[str, Any], place: str, key: str | None) -> Found:
    """What a scaler says.

    Raises
    ------
    UnitError
        When it must be told which of several scalers is meant.
    FormatError
        For one that is not affine, not fitted, or damaged.
    """
    if "type" not in config:
        scalers = _scalers(config, "")
        if key is None and len(scalers) == 1:
            key = next(iter(scalers))
        if key not in scalers:
            raise UnitError(which(list(scalers), key, "scalers", place))
        place = f"{place}: {key}"
        config = json_of(scalers[key], place)
    held = {name: _value(value, name, place) for name, value in config.items()}
    kind = str(held.pop("type")).removesuffix("Tensor")
    if kind in _MEAN_STD:
        numbers = _mean_std(kind, held, place)
    elif kind in _MIN_MAX:
        numbers = _min_max(kind, held, place)
    elif kind in sklearn_scalers.CLASSES:
        return sklearn_scalers.read(SimpleNamespace(**held), place, kind)
    else:
        raise FormatError(f"{place}: {kind} is no affine map of columns; keep it in bridgescaler")
    last = kind.startswith("Deep") or held.get("channels_last", True)
    columns = held.get("x_columns_")
    names = [] if columns is None else np.asarray(columns).tolist()
    return Found(
        title=TITLE,
        place=place,
        pattern="n d -> d" if last else "n c ... -> c",
        dtype="float64",
        feature_names=tuple(names) if all(isinstance(n, str) for n in names) else (),
        **numbers,
    )


def _mean_std(kind: str, held: Mapping[str, Any], place: str) -> dict[str, Any]:
    first, second = _MEAN_STD[kind]
    shift = exact(said(held, first, place), first, place)
    spread = exact(said(held, second, place), second, place)
    check_positive(spread, second, place)
    return {"shift": shift, "scale": _roots(spread) if kind == "DStandardScaler" else spread}


def _roots(variance: Exact) -> Exact:
    return fractions(np.array([_root(v) for v in variance.ravel().tolist()]))


def _root(variance: Fraction) -> float:
    return sqrt_ratio(variance.numerator, variance.denominator)


def _min_max(kind: str, held: Mapping[str, Any], place: str) -> dict[str, Any]:
    low, high = (exact(said(held, name, place), name, place) for name in _MIN_MAX[kind])
    span = high - low
    check_positive(span, f"{_MIN_MAX[kind][1]} - {_MIN_MAX[kind][0]}", place)
    return {"shift": low, "scale": span, "recipe": "min_max"}


def _value(value: Any, name: str, place: str) -> Any:
    """An array from how bridgescaler writes it; anything else as it is. No pickles."""
    if not isinstance(value, Mapping):
        return value
    try:
        if "__numpy__" in value:
            dtype = np.dtype(str(value["dtype"]))  # of objects: refused by frombuffer
            array = np.frombuffer(base64.b64decode(value["__numpy__"], validate=True), dtype)
            return array.reshape(value["shape"])
        if value.get("object") == "ndarray":
            return np.array(value["data"], np.dtype(str(value["dtype"]))).reshape(value["shape"])
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise FormatError(f"{place}: the array {name!r} is damaged ({error})") from None
    return value
