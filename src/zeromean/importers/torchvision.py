"""torchvision's `Normalize`, `Compose`, presets, `LinearTransformation`.

Read in torchvision 0.28: `ToTensor` divides 8-bit pictures by 255; `ToDtype(scale=True)` and
`ConvertImageDtype` divide integers by the top of their dtype; `Normalize` is
(x - mean) / std; `LinearTransformation` flattens (c, h, w) and is, with row vectors,
(x - mean_vector) @ transformation_matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from zeromean.embedding import ATTRIBUTE
from zeromean.errors import FormatError
from zeromean.importers.found import Found, channels_of, exact, fractions, pair, plain

TITLE = "torchvision"
PRESETS = {
    "ImageClassification": "n h w c -> c",
    "SemanticSegmentation": "n h w c -> c",
    "VideoClassification": "n t h w c -> c",
    "OpticalFlow": "n h w c -> c",
}
CLASSES = {"Normalize", "LinearTransformation", "Compose", "Sequential", *PRESETS}
_ASKS = "these numbers are for 0..1 data, and nothing here says what was divided to get there"


def read(transform: Any, place: str) -> Found:
    """What a transform says.

    Raises
    ------
    FormatError
        Without a normalization, with several, or behind code that cannot be looked into.
    """
    name = type(transform).__name__
    if name in ("Compose", "Sequential"):
        return _last(list(_steps(transform)), place)
    if name in PRESETS:
        return _normalize(transform, place, pattern=PRESETS[name], usual_range=(0, 255))
    if name == "LinearTransformation":
        return _linear(transform, place, asks_range=_ASKS)
    return _normalize(transform, place, asks_range=_ASKS)


def _steps(transform: Any) -> Iterator[Any]:
    """All transforms, in order, containers opened."""
    inner: Iterable[Any] = getattr(transform, "transforms", None) or list(transform)
    for step in inner:
        if type(step).__name__ in ("Compose", "Sequential"):
            yield from _steps(step)
        else:
            yield step


def _last(steps: list[Any], place: str) -> Found:
    """The one normalization, in the units that the steps before it make."""
    names = [type(step).__name__ for step in steps]
    held = [i for i, name in enumerate(names) if name in ("Normalize", "LinearTransformation")]
    if not held:
        raise FormatError(f"{place}: holds no Normalize and no LinearTransformation to import")
    if len(held) > 1:
        raise FormatError(
            f"{place}: holds {len(held)} normalizations; import each by itself, and join them with "
            "first.then(second)"
        )
    if "Lambda" in names[: held[0]]:
        raise FormatError(
            f"{place}: a Lambda stands in front of the normalization and cannot be looked into; "
            "import the Normalize itself, and say range="
        )
    step = steps[held[0]]
    reader = _linear if names[held[0]] == "LinearTransformation" else _normalize
    return reader(step, place, **_units(steps[: held[0]], names))


def _units(before: list[Any], names: list[str]) -> dict[str, Any]:
    """What the steps in front of a normalization do to the raw values."""
    for step, name in zip(reversed(before), reversed(names[: len(before)]), strict=True):
        if name == "ToTensor":
            return {"usual_range": (0, 255)}
        if name == "ToDtype" and not getattr(step, "scale", False):
            why = "ToDtype(scale=False) leaves the values as they are"
            return {"unit": 1, "asks_range": why}
        if name in ("ToDtype", "ConvertImageDtype", "ConvertDtype"):
            return {"asks_range": f"{name} divides by the top of the dtype that it is given"}
    return {"asks_range": _ASKS}


def _normalize(step: Any, place: str, **options: Any) -> Found:
    if type(step).__name__ == "OpticalFlow":  # its numbers stand in its code
        mean, std = [0.5] * 3, [0.5] * 3
    else:
        mean, std = step.mean, step.std
    shift, scale = pair(mean, std, ("mean", "std"), place)
    if shift.size == 1:
        shift, scale = shift.reshape(()), scale.reshape(())
    raw = options.pop("unit", None)
    return Found(
        title=TITLE,
        place=place,
        shift=shift,
        scale=scale,
        unit=raw,
        top=1 if raw is None else None,
        pattern=options.pop("pattern", "n h w c -> c") if shift.ndim else "n h w c ->",
        channels=channels_of(shift.size, "RGB"),
        document=getattr(step, ATTRIBUTE, None),
        **options,
    )


def _linear(step: Any, place: str, **options: Any) -> Found:
    shift = exact(step.mean_vector, "mean_vector", place).ravel()
    exact(step.transformation_matrix, "transformation_matrix", place)
    matrix = np.asarray(plain(step.transformation_matrix), np.float64).T
    raw = options.pop("unit", None)
    return Found(
        title=TITLE,
        place=place,
        shift=shift,
        scale=fractions(np.ones(shift.shape)),
        matrix=matrix,
        unit=raw,
        top=1 if raw is None else None,
        pattern="n d -> d",
        recipe="whiten",
        document=getattr(step, ATTRIBUTE, None),
        precision="float32" if "32" in str(step.transformation_matrix.dtype) else "float64",
        **options,
    )
