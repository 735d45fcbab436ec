"""Keras 3: a `Normalization` layer, in a `.keras` file that holds a model of this layer alone.

The file is written without Keras, by its own format: a zip archive with `config.json`,
`metadata.json` and weights, of which there are none, since mean and variance stand in the layer's
configuration. More than 4,096 numbers are weights, as `adapt` makes them, in `model.weights.h5`:
Keras takes minutes over long lists. Our own document lies beside them, unless it is too long for
JSON, and brings back the same bits; Keras passes over it. `value` is the layer, where Keras and its
backend can be imported.

The layer computes (x - mean) / max(sqrt(variance), 1e-7) in float32. It is given a variance, not a
std; one whose root, in float32, is the float32 number next to the scale: let s be that number. The
float32 next to s² is within 2⁻²⁴ s² of it, so its root is within 2⁻²⁵ s of s, which is less than
half of the distance to the next float32, and a correctly rounded root is s itself. So the std has
one rounding, as if it had been given.

The bound, with u = 2⁻²⁴, in ulp at the size of the largest term (each u is one ulp at most): mean
u, difference u, std u, and half a unit for the quotient: 3.5. One more where the data must be
rounded to float32 first. An offset goes into the mean, which may then be as large as two such
terms: one more. A backend that multiplies by a reciprocal instead of dividing adds one.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.embedding import ATTRIBUTE, MEMBER, embedded
from zeromean.errors import FormatError, PatternError
from zeromean.exporters.feeding import Fed, entering, turned
from zeromean.exporters.forms import broadcastable, expected, plain_numbers
from zeromean.exporters.targets import Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]
_TITLE = "Keras Normalization"
_EPSILON = 1e-7  # keras.config.epsilon(), unless somebody set it
_LARGEST = 1.8e19  # whose square is still a float32
_MOST_LISTED = 4096  # numbers in a configuration
_EPOCH = (1980, 1, 1, 0, 0, 0)  # same content, same bytes
_TOO_LONG = (
    "recipe, units and channel order are not in the file, which has too many numbers for them: "
    "keep the normalizer's own file beside it"
)
_MISSING = (
    'Keras is not installed: pip install "zeromean[keras]", and a backend such as TensorFlow or '
    "PyTorch"
)


def _make(norm: Normalizer, order: Order) -> Made:
    _check(norm)
    fed, own, layout, places = turned(norm, _TITLE, order)
    arguments, shape = _arguments(fed)
    document = _document(fed)
    layer, notes = _layer(arguments, shape, document)
    if document is None:
        notes += (_TOO_LONG,)
    return Fed(
        _archive(arguments, shape, document),
        layer,
        expected(fed),
        "float32, the same axes",
        norm,
        bound=3.5 + entering(norm) + bool(norm.offset.any()),
        notes=notes,
        own=own,
        layout=layout,
        places=places,
    )


def _document(norm: Normalizer) -> dict[str, Any] | None:
    """Our own document; None where it would be too long for JSON."""
    try:
        return embedded(norm)
    except FormatError:
        return None


def _check(norm: Normalizer) -> None:
    if norm.matrix is not None:
        raise PatternError(
            f"{_TITLE} holds a mean and a variance for each feature, and {norm.recipe} mixes the "
            "features with a matrix; export to onnx, torch or numpy"
        )
    small, large = float(norm.scale.min()), float(norm.scale.max())
    if small <= _EPSILON or large >= _LARGEST:
        odd = small if small <= _EPSILON else large
        raise PatternError(
            f"{_TITLE} keeps a float32 variance and divides by {_EPSILON:g} at least; a scale of "
            f"{odd:g} is outside of what it can hold ({_EPSILON:g} to {_LARGEST:g}): bring the "
            "data to other units before measuring, or export to onnx, torch or numpy"
        )


def _arguments(norm: Normalizer) -> tuple[dict[str, Any], list[int | None]]:
    """What the layer is constructed with, and the shape of its input."""
    broadcast = broadcastable(norm, _TITLE)
    kept = [group[0] in norm.pattern.kept for group in norm.pattern.axes]
    axes = [place for place, keeps in enumerate(kept) if keeps]
    shift, scale = plain_numbers(norm)
    shape = [n if keeps else None for n, keeps in zip(broadcast, kept, strict=True)]
    arguments = {
        "axis": [-1] if axes == [len(kept) - 1] else axes or None,
        "mean": shift,
        "variance": variance_of(scale),
    }
    return arguments, shape


def variance_of(scale: _Floats) -> _Floats:
    """The variance whose root, in float32, is the float32 number next to the scale.

    The square of the scale itself, where that does; else the square of that float32 number, which
    float64 holds exactly.

    Parameters
    ----------
    scale : ndarray of float64

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> import numpy as np
    >>> scale = np.array([0.1, 58.395, 1 / 3])
    >>> bool((np.sqrt(variance_of(scale).astype(np.float32)) == scale.astype(np.float32)).all())
    True
    """
    near = scale.astype(np.float32)
    square = scale * scale
    return np.where(
        np.sqrt(square.astype(np.float32)) == near, square, near.astype(np.float64) ** 2
    )


# ---------------------------------------------------------------- the file


def _configuration(arguments: Mapping[str, Any], shape: list[int | None]) -> dict[str, Any]:
    """Of a Sequential model, as Keras 3 serializes it, but for what has defaults."""
    listed = _is_listed(arguments)
    layer = _entry(
        "keras.layers",
        "Normalization",
        {
            "name": "normalization",
            "trainable": True,
            "dtype": "float32",
            "axis": arguments["axis"] or [],
            "invert": False,
            "mean": arguments["mean"].tolist() if listed else None,
            "variance": arguments["variance"].tolist() if listed else None,
        },
        shape,
    )
    start = {"batch_shape": shape, "dtype": "float32", "sparse": False, "name": "input"}
    layers = [_entry("keras.layers", "InputLayer", start), layer]
    held = {
        "name": "normalizer",
        "trainable": True,
        "dtype": "float32",
        "layers": layers,
        "build_input_shape": shape,
    }
    return _entry("keras", "Sequential", held, shape) | {"compile_config": {}}


def _entry(
    module: str, name: str, config: Mapping[str, Any], shape: list[int | None] | None = None
) -> dict[str, Any]:
    entry = {"module": module, "class_name": name, "config": config, "registered_name": None}
    return entry if shape is None else entry | {"build_config": {"input_shape": shape}}


def _is_listed(arguments: Mapping[str, Any]) -> bool:
    """Whether the numbers stand in the configuration, and not among the weights."""
    return bool(arguments["mean"].size <= _MOST_LISTED)


def _archive(
    arguments: Mapping[str, Any], shape: list[int | None], document: dict[str, Any] | None
) -> bytes:
    """A zip archive, with the weights last."""
    members: dict[str, str | bytes] = {
        "metadata.json": json.dumps({"keras_version": "3.0.0"}),
        "config.json": json.dumps(_configuration(arguments, shape)),
    }
    if document is not None:
        members[MEMBER] = json.dumps(document)
    if _is_listed(arguments):
        nothing = io.BytesIO()
        np.savez(nothing)
        members["model.weights.npz"] = nothing.getvalue()
    else:
        members["model.weights.h5"] = _weights(arguments)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), member, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def _weights(arguments: Mapping[str, Any]) -> bytes:
    """The variables of the layer, as Keras 3 saves them: mean, variance, and a count of batches.

    Raises
    ------
    ImportError
    """
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f"{arguments['mean'].size:,} numbers go into the weights of a .keras file, which needs "
            "h5py: pip install h5py, or export to onnx or torch"
        ) from None
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        places = file.create_group("layers/normalization/vars")
        for name, values in enumerate((arguments["mean"], arguments["variance"])):
            places.create_dataset(str(name), data=values.astype(np.float32))
        places.create_dataset("2", data=np.int32(0))
    return held.getvalue()


# ---------------------------------------------------------------- Keras itself


def _keras() -> Any:
    """Keras, with whatever backend the user has chosen.

    Raises
    ------
    ImportError
        Without it, or without the backend.
    """
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name == "keras":
            raise ImportError(_MISSING) from None
        raise ImportError(
            f"Keras looks for {error.name}, which is not installed: pip install {error.name}, or "
            "set KERAS_BACKEND=torch (or jax) before Python starts"
        ) from None
    return keras


def _layer(
    arguments: Mapping[str, Any], shape: list[int | None], document: dict[str, Any] | None
) -> tuple[Any, tuple[str, ...]]:
    """The layer, with our document on it; without Keras None, and why."""
    try:
        keras = _keras()
    except ImportError as error:
        return None, (f"the file is complete, but value is None: {error}",)
    if _is_listed(arguments):
        layer = keras.layers.Normalization(dtype="float32", **arguments)
        layer.build(tuple(shape))
    else:  # as after `adapt`; the layer saves them as weights
        layer = keras.layers.Normalization(dtype="float32", axis=arguments["axis"])
        layer.build(tuple(shape))
        layer.adapt_mean.assign(arguments["mean"].astype(np.float32))
        layer.adapt_variance.assign(arguments["variance"].astype(np.float32))
        layer.finalize_state()
    if document is not None:
        setattr(layer, ATTRIBUTE, document)
    return layer, ()


def _run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Load the file and call the model."""
    assert isinstance(made, Fed)
    keras = _keras()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "normalizer.keras"
        path.write_bytes(made.content)
        model = keras.saving.load_model(path)
    y = model(made.there(x))
    if hasattr(y, "detach"):  # a tensor of PyTorch
        y = y.detach().cpu().numpy()
    return made.back(np.asarray(y))


TARGET = Target(
    "keras",
    _TITLE,
    (".keras",),
    _make,
    _run,
    library="keras",
    options=frozenset({"layout", "channels"}),
    text=False,
)
