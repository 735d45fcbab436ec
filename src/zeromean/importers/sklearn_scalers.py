"""scikit-learn: fitted scalers, PCA, and pipelines of them; read from their attributes.

Read in scikit-learn 1.9: StandardScaler is (x - mean_) / scale_; MinMaxScaler x scale_ + min_;
MaxAbsScaler x / scale_; RobustScaler (x - center_) / scale_; PCA (x - mean_) @ components_.T, and
with `whiten` / sqrt(explained_variance_), floored at the machine epsilon of its dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zeromean.embedding import ATTRIBUTE
from zeromean.errors import FormatError, warn
from zeromean.importers.found import Exact, Found, check_positive, exact, fractions

TITLE = "scikit-learn"
_NOT_AFFINE = {
    "Normalizer": "scales each row by itself; use zm.per_sample(...)",
    "QuantileTransformer": "is no affine map; keep it in its own pipeline",
    "PowerTransformer": "is no affine map; keep it in its own pipeline",
    "SplineTransformer": "is no affine map; keep it in its own pipeline",
    "ColumnTransformer": "treats columns differently; pass the scaler inside, by its name in "
    "named_transformers_",
}


def read(scaler: Any, place: str, name: str = "", *, pattern: str = "n d -> d") -> Found:
    """What a fitted scaler says.

    Raises
    ------
    FormatError
        For one that is not fitted, or is no affine map.
    """
    name = name or class_of(scaler)
    if name not in _READERS:
        reason = _NOT_AFFINE.get(name, f"is not known here; known are {', '.join(_READERS)}")
        raise FormatError(f"{place}: {name} {reason}")
    try:
        numbers = _READERS[name](scaler, place)
    except AttributeError as error:
        raise FormatError(
            f"{place}: has no attribute {error.name!r}: it is not fitted; call fit first"
        ) from None
    check_positive(numbers["scale"], "scale_", place)
    return Found(
        title=TITLE,
        place=place,
        pattern=pattern,
        feature_names=tuple(map(str, getattr(scaler, "feature_names_in_", ()))),
        document=getattr(scaler, ATTRIBUTE, None),
        **({"dtype": "float64"} | numbers),
    )


def class_of(scaler: Any) -> str:
    """The name of the first class, among it and those it derives from, that is known here."""
    names = [c.__name__ for c in type(scaler).__mro__]
    return next((n for n in names if n in CLASSES), names[0])


def _ones(shape: tuple[int, ...]) -> Exact:
    return fractions(np.ones(shape))


def _standard(scaler: Any, place: str) -> dict[str, Any]:
    centers, scales = scaler.with_mean, scaler.with_std
    scale = exact(scaler.scale_, "scale_", place) if scales else None
    shift = exact(scaler.mean_, "mean_", place) if centers else None
    if scale is None and shift is None:
        raise FormatError(f"{place}: with_mean and with_std are both False, so it does nothing")
    shape = (scale if shift is None else shift).shape  # type: ignore[union-attr]
    return {
        "shift": _ones(shape) * 0 if shift is None else shift,
        "scale": _ones(shape) if scale is None else scale,
        "recipe": "standardize" if scales else "zero_mean",
    }


def _min_max(scaler: Any, place: str) -> dict[str, Any]:
    low, high = (exact(v, "feature_range", place).item() for v in scaler.feature_range)
    bottom = exact(scaler.data_min_, "data_min_", place)
    top = exact(scaler.data_max_, "data_max_", place)
    scale = (top - bottom) / (high - low)
    # a constant feature: scikit-learn takes 1 for a range that is next to none
    fitted = exact(scaler.scale_, "scale_", place)
    scale = np.where(fitted == high - low, 1 / (high - low), scale)
    _say_clipped(scaler, place, f"{float(low):g}..{float(high):g}")
    return {"shift": bottom, "scale": scale, "offset": scale * 0 + low, "recipe": "min_max"}


def _max_abs(scaler: Any, place: str) -> dict[str, Any]:
    scale = exact(scaler.scale_, "scale_", place)
    _say_clipped(scaler, place, "-1..1")
    return {"shift": scale * 0, "scale": scale, "recipe": "max_abs"}


def _robust(scaler: Any, place: str) -> dict[str, Any]:
    shift = exact(scaler.center_, "center_", place) if scaler.with_centering else None
    scale = exact(scaler.scale_, "scale_", place) if scaler.with_scaling else None
    if shift is None and scale is None:
        raise FormatError(f"{place}: it neither centers nor scales, so it does nothing")
    shape = (scale if shift is None else shift).shape  # type: ignore[union-attr]
    return {
        "shift": _ones(shape) * 0 if shift is None else shift,
        "scale": _ones(shape) if scale is None else scale,
        "recipe": "robust",
    }


def _pca(pca: Any, place: str) -> dict[str, Any]:
    exact(pca.components_, "components_", place)
    components = np.asarray(pca.components_, np.float64)
    if pca.whiten:
        variance = np.asarray(pca.explained_variance_)
        std = np.sqrt(variance)
        std = np.maximum(std, np.finfo(std.dtype).eps).astype(np.float64)
        components = components / std[:, None]
    shift = exact(pca.mean_, "mean_", place)
    recipe = "whiten_pca" if pca.whiten else "pca"
    return {"shift": shift, "scale": _ones(shift.shape), "matrix": components, "recipe": recipe}


def _say_clipped(scaler: Any, place: str, limits: str) -> None:
    if getattr(scaler, "clip", False):
        warn(
            f"{place}: clip=True is not carried over: data beyond what was measured will go beyond "
            f"{limits}"
        )


_READERS: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
    "PCA": _pca,
}
CLASSES = {*_READERS, *_NOT_AFFINE}
