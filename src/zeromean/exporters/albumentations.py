"""Albumentations: the JSON of `A.Normalize`, as `A.save` writes it and `A.load` reads it.

Read in albumentations 2.0.8: y = (x - mean_np) * denominator in float32, with
mean_np = float32(mean) * max_pixel_value (two roundings) and
denominator = 1 / (float32(std) * max_pixel_value) (three); for uint8 as a table of 256 answers.
With the difference and the product: 6.51 ulp at most, 8.51 with an offset (see `squares`).
`A.load` looks at `transform` alone: beside it stands our own document, in the channel order of the
plain numbers, which Albumentations says nothing of.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.embedding import KEY, embedded
from zeromean.exporters.channels import Channels, channels_of
from zeromean.exporters.feeding import turned
from zeromean.exporters.forms import expected
from zeromean.exporters.squares import PictureMade, places_of, roundings, square_of, unsquared
from zeromean.exporters.targets import CannotRun, Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]

_TITLE = "Albumentations"
_WRITTEN_AS = "2.0.8"
_QUIET = "NO_ALBUMENTATIONS_UPDATE"  # else importing it asks the network for a newer version


def _make(norm: Normalizer, order: Order) -> Made:
    channels = channels_of(norm, _TITLE, to_unit=True, declared=order.channels)
    arguments = {
        "mean": channels.mean.tolist(),
        "std": channels.std.tolist(),
        "max_pixel_value": float(channels.top),
        "normalization": "standard",
        "p": 1.0,
    }
    document = {
        "__version__": _WRITTEN_AS,
        "transform": {"__class_fullname__": "Normalize", **arguments},
        KEY: embedded(_in_order(channels, order)),
    }
    axes = "h w" if channels.form.layout == "hw" else "h w c"
    return PictureMade(
        (json.dumps(document, indent=2) + "\n").encode(),
        document,
        expected(norm, axes=axes, order=channels.order),
        "float32, the same axes",
        channels.carried,
        channels.lost,
        bound=roundings(channels.carried, x=0, mean=2, std=3),
        notes=("load it with A.load(path), or A.from_dict(value)",),
        places=places_of(norm, channels),
    )


def _in_order(channels: Channels, order: Order) -> Normalizer:
    """What is carried, with its channels as the file has them."""
    if channels.form.layout not in ("hwc", "chw"):
        return channels.carried
    return turned(channels.carried, _TITLE, order)[0]


@contextmanager
def _without_network() -> Iterator[None]:
    before = os.environ.get(_QUIET)
    os.environ[_QUIET] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ[_QUIET]
        else:
            os.environ[_QUIET] = before


def _run(made: Made, x: _Array) -> _Array:
    with _without_network():
        try:
            import albumentations
        except ImportError:
            raise ImportError("Albumentations is not installed", name="albumentations") from None
        except Exception as error:  # of what it imports in turn
            raise CannotRun(f"Albumentations cannot be imported: {error}") from error
        transform = albumentations.from_dict(json.loads(made.content))
        y = transform(image=square_of(made, x))["image"]
    side = y.shape[0]
    return unsquared(made, np.asarray(y).reshape(side, side, -1), x)


TARGET = Target(
    "albumentations",
    _TITLE,
    (".json",),
    _make,
    _run,
    library="albumentations",
    options=frozenset({"channels"}),
)
