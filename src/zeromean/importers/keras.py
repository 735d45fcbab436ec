"""Keras: `Normalization` and `Rescaling`, from a layer, a model, or the front of a `.keras` file.

Read in Keras 3.15: Normalization is (x - mean) / max(sqrt(variance), 1e-7); Rescaling is
x scale + offset. A `.keras` file is a zip of `config.json` and `model.weights.h5`, in which a layer
of a Sequential or Functional model stands under `layers/<class>_<n>/vars`; it is read without
Keras, so that none of its code runs.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from zeromean.embedding import ATTRIBUTE, MEMBER
from zeromean.errors import FormatError, UnitError
from zeromean.importers.found import Exact, Found, exact, fractions, inverse, plain
from zeromean.importers.opening import json_of
from zeromean.rounding import sqrt_ratio

TITLE = "Keras"
CLASSES = {"Normalization", "Rescaling"}
_EPSILON = 1e-7
_MODELS = ("Sequential", "Functional", "Model")
#: Layers that move pixels or stand for inputs: what is behind them is still in raw units.
_HARMLESS = {
    *("InputLayer", "Resizing", "CenterCrop", "RandomCrop", "RandomFlip", "RandomRotation"),
    *("RandomZoom", "RandomTranslation", "Cropping2D", "Identity"),
}
_AXES = {2: "n d", 3: "n t d", 4: "n h w c", 5: "n t h w c"}
_KEPT_ALONE = "... c -> c"

Config = dict[str, Any]


# ---------------------------------------------------------------- where layers come from


def read_object(thing: Any, place: str, key: str | None) -> Found:
    """What a layer says, or the layers at the front of a model.

    Raises
    ------
    FormatError
        When there is no normalization, or it stands behind other layers.
    """
    layers = list(_objects(thing))
    document = getattr(thing, ATTRIBUTE, None)
    if document is None:
        held = (getattr(layer["layer"], ATTRIBUTE, None) for layer in layers if "layer" in layer)
        document = next((d for d in held if d is not None), None)
    return _found(_front(layers, place, key), place, document)


def _objects(thing: Any) -> Iterator[Config]:
    name = type(thing).__name__
    if hasattr(thing, "layers"):
        for layer in thing.layers:
            yield from _objects(layer)
        return
    config = thing.get_config() if name in CLASSES else {"name": getattr(thing, "name", "")}
    made: Config = {"class": name, "config": config, "layer": thing}
    if name == "Normalization":
        shape = (thing.get_build_config() or {}).get("input_shape")
        made["shape"] = shape
        if not _told(config.get("mean")):
            made["weights"] = thing.get_weights()
    yield made


def read_file(place: str, key: str | None) -> Found:
    """What a `.keras` file says at its front.

    Raises
    ------
    FormatError
        When it is damaged or holds no such layers.
    ImportError
        Without h5py, with what to install, when the numbers are among the weights.
    """
    try:
        with zipfile.ZipFile(place) as archive:
            held = set(archive.namelist())
            if "config.json" not in held:
                raise FormatError(f"{place}: is a zip archive, but holds no config.json of Keras")
            config = json_of(archive.read("config.json"), f"{place}: config.json")
            ours = json_of(archive.read(MEMBER), f"{place}: {MEMBER}") if MEMBER in held else None
            layers = list(_configs(config, "", Counter()))
            if any("path" in layer and "weights" not in layer for layer in layers):
                _add_weights(layers, archive, place)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise FormatError(f"{place}: is a damaged .keras file ({error})") from None
    return _found(_front(layers, place, key), place, ours)


def _configs(node: Mapping[str, Any], inside: str, used: Counter[str]) -> Iterator[Config]:
    """All layers of a model's configuration, in order, with their place among the weights."""
    name, config = str(node.get("class_name")), node.get("config") or {}
    where = f"{inside}{_unique(name, used)}"
    if isinstance(config, Mapping) and isinstance(config.get("layers"), list):
        inner: Counter[str] = Counter()
        within = "layers/" if not inside else f"{where}/layers/"
        for layer in config["layers"]:
            yield from _configs(layer, within, inner)
        return
    made: Config = {"class": name, "config": config}
    if name == "Normalization":
        made["shape"] = (node.get("build_config") or {}).get("input_shape")
        if not _told(config.get("mean")):
            made["path"] = where
    yield made


def _unique(name: str, used: Counter[str]) -> str:
    """As Keras names the weights of a layer: its class in snake case, numbered from the second."""
    snake = re.sub(r"\W+", "", name)
    snake = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", snake)
    snake = re.sub("([a-z])([A-Z])", r"\1_\2", snake).lower()
    used[snake] += 1
    return snake if used[snake] == 1 else f"{snake}_{used[snake] - 1}"


def _add_weights(layers: list[Config], archive: zipfile.ZipFile, place: str) -> None:
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f"{place} keeps its numbers in model.weights.h5, which needs h5py: pip install h5py, "
            "or load the model with Keras and pass the layer"
        ) from None
    with archive.open("model.weights.h5") as held, h5py.File(held, "r") as file:
        for layer in layers:
            group = file.get(f"{layer['path']}/vars") if "path" in layer else None
            if group is not None and {"0", "1"} <= set(group):
                layer["weights"] = [np.asarray(group["0"]), np.asarray(group["1"])]


def _told(mean: Any) -> bool:
    """Whether a mean stands in the configuration: Keras writes None as None or as NaN."""
    return mean is not None and np.asarray(mean).dtype.kind in "fiu"


# ---------------------------------------------------------------- which of them


def _front(layers: list[Config], place: str, key: str | None) -> list[Config]:
    """The layers that normalize, from the first on; with a key, the one of that name."""
    if key is not None:
        named = [v for v in layers if v["class"] in CLASSES and v["config"].get("name") == key]
        if not named:
            held = [str(v["config"].get("name")) for v in layers if v["class"] in CLASSES]
            raise UnitError(
                f"{place}: has no Normalization or Rescaling called {key!r}; it has "
                + (", ".join(held) or "none")
            )
        return named
    front: list[Config] = []
    for layer in layers:
        if layer["class"] in CLASSES:
            front.append(layer)
        elif layer["class"] not in _HARMLESS:
            break
    if not front:
        _say_where(layers, place)
    return front


def _say_where(layers: list[Config], place: str) -> None:
    held = [str(v["config"].get("name")) for v in layers if v["class"] in CLASSES]
    if not held:
        raise FormatError(
            f"{place}: holds no Normalization and no Rescaling; if it has them in a model of your "
            "own class, pass the layer itself"
        )
    before = next(v["class"] for v in layers if v["class"] not in _HARMLESS)
    raise UnitError(
        f"{place}: begins with {before}, and {', '.join(held)} stands behind it, so its numbers "
        "are not for the raw data; to take them as they are, say key= (--key)"
    )


# ---------------------------------------------------------------- what they say


def _found(layers: list[Config], place: str, document: Any) -> Found:
    """One after the other, as one affine map: y = (x - shift) / scale, all exact."""
    shift, scale = fractions(np.zeros(())), fractions(np.ones(()))
    pattern, recipe = "", "rescale"
    for layer in layers:
        if layer["class"] == "Rescaling":
            first, second = _rescaling(layer["config"], place)
        else:
            first, second = _normalization(layer, place)
            pattern, recipe = _pattern(layer, first, place), "standardize"
        shift, scale = np.asarray(shift + scale * first), np.asarray(scale * second)
    if not pattern:
        pattern = _KEPT_ALONE if shift.ndim else "... c ->"
    return Found(
        title=TITLE,
        place=place,
        shift=np.asarray(shift, object),
        scale=np.asarray(np.broadcast_to(scale, np.shape(shift)), object),
        pattern=pattern,
        dtype="float32",
        recipe=recipe,
        document=document,
        precision="float32",
    )


def _rescaling(config: Mapping[str, Any], place: str) -> tuple[Exact, Exact]:
    """x s + o = (x + o / s) / (1 / s)."""
    factors = np.asarray(plain(_array(config.get("scale"))), object)
    offsets = exact(_array(config.get("offset", 0.0)), "offset", place)
    scale = np.empty(factors.shape, object)
    scale[...] = np.reshape(
        [inverse(v, "Rescaling scale", place) for v in factors.ravel().tolist()], factors.shape
    )
    return np.asarray(-offsets * scale), scale


def _normalization(layer: Config, place: str) -> tuple[Exact, Exact]:
    config = layer["config"]
    if config.get("invert"):
        raise FormatError(
            f"{place}: {config.get('name')} has invert=True, so it undoes a normalization; import "
            "the layer that does it, and use norm.invert"
        )
    if _told(config.get("mean")):
        mean, variance = config["mean"], config["variance"]
    elif layer.get("weights"):
        mean, variance = layer["weights"][:2]
        if not np.any(mean) and np.all(np.asarray(variance) == 1):  # as they are initialized
            raise FormatError(
                f"{place}: {config.get('name')} has mean 0 and variance 1 everywhere, so it was "
                "never adapted and does nothing; call adapt first"
            )
    else:
        raise FormatError(
            f"{place}: {config.get('name')} was not adapted, or its weights are not where Keras 3 "
            "puts them; load the model with Keras and pass the layer"
        )
    shift, squares = exact(mean, "mean", place), exact(variance, "variance", place)
    if shift.shape != squares.shape or (squares < 0).any():
        raise FormatError(
            f"{place}: mean has shape {shift.shape} and variance {squares.shape}, and no variance "
            "may be negative: adapt the layer again"
        )
    roots = [max(_root(v), _EPSILON) for v in squares.ravel().tolist()]
    return shift, fractions(np.reshape(roots, shift.shape))


def _root(variance: Fraction) -> float:
    return sqrt_ratio(variance.numerator, variance.denominator)


def _array(value: Any) -> Any:
    """Keras writes arrays in a configuration as {"class_name": "__numpy__", ...}."""
    if isinstance(value, Mapping):
        inner = value.get("config", value)
        return inner.get("value") if isinstance(inner, Mapping) else inner
    return value


def _pattern(layer: Config, mean: Exact, place: str) -> str:
    """The axes that keep their own numbers, of an input with as many axes as it was built for."""
    axis, shape = layer["config"].get("axis"), layer.get("shape")
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    if not axes or not mean.ndim:
        return f"{_AXES.get(len(shape), '... c') if shape else '... c'} ->"
    if not shape:
        if axes == [-1]:
            return _KEPT_ALONE
        raise FormatError(f"{place}: was not built, so axis {axes} cannot be placed; call it once")
    names = _AXES.get(len(shape), "").split()
    if not names:
        raise FormatError(f"{place}: its input has {len(shape)} axes; say pattern= (--pattern)")
    kept = sorted(a % len(shape) for a in axes)
    if 0 in kept:
        raise FormatError(f"{place}: keeps the axis of the samples, so it fits no other data")
    return f"{' '.join(names)} -> {' '.join(names[a] for a in kept)}"
