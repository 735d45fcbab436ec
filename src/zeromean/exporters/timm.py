"""timm: mean and std in the `pretrained_cfg` of a model's `config.json`.

Read in timm 1.0.31: pictures go through `ToTensor`, which divides uint8 by 255 and leaves floats
as they are, and `Normalize`, which rounds mean and std to float32, subtracts and divides: 4.51 ulp
at most, 5.51 with an offset, 1 less for floats (see `squares`).

timm makes a dataclass of what `pretrained_cfg` holds and takes no other fields, so our own document
stands beside it, at the top of `config.json`; in a flat file there is no place for it.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.embedding import KEY, embedded
from zeromean.errors import FormatError, PatternError
from zeromean.exporters.channels import Channels, channels_of
from zeromean.exporters.existing import read_existing, written_like
from zeromean.exporters.forms import expected
from zeromean.exporters.squares import (
    PictureMade,
    check_count_known,
    check_top,
    places_of,
    roundings,
    square_of,
    unsquared,
)
from zeromean.exporters.targets import CannotRun, Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]

_TITLE = "timm"
_FEEDS = "RGB"
_NESTED = "pretrained_cfg"
_FLAT = {"architecture", "input_size", "crop_pct", "interpolation", "first_conv"}
_TOPS = {"uint8": 255.0, "float32": 1.0}


def _make(norm: Normalizer, order: Order) -> Made:
    channels = channels_of(
        norm,
        _TITLE,
        to_unit=True,
        wants=_FEEDS,
        declared=order.channels,
        counts=() if order.existing else (1, 3),
    )
    check_top(norm, _TITLE, _TOPS)
    check_count_known(norm, channels, _TITLE)
    numbers = {"mean": channels.mean.tolist(), "std": channels.std.tolist()}
    document, config = _document(order.existing, order.path)
    _check_channels(config, len(channels))
    config |= numbers
    notes: tuple[str, ...] = ()
    if config is document:
        document.pop(KEY, None)
        notes = ("a flat pretrained_cfg: it has no place for the normalizer's own document",)
    else:
        document[KEY] = embedded(channels.carried)
    return PictureMade(
        written_like(document, order.existing),
        {name: value for name, value in config.items() if name != KEY},
        _expects(norm, channels),
        "float32, axes (c, h, w)",
        channels.carried,
        channels.lost,
        bound=roundings(channels.carried, x=int(norm.dtype == "uint8"), mean=1, std=1),
        notes=notes,
        places=places_of(norm, channels),
    )


def _expects(norm: Normalizer, channels: Channels) -> str:
    axes = "h w" if channels.form.layout == "hw" else "h w c"
    if norm.dtype == "uint8":
        return f"a Pillow picture: {expected(norm, axes=axes, order=channels.order)}"
    return f"a tensor: {expected(norm, axes='c h w', order=channels.order)}"


def _document(existing: bytes | None, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The whole file, and the part with mean and std; the same object where the file is flat."""
    if existing is None:
        document: dict[str, Any] = {_NESTED: {}}
        return document, document[_NESTED]
    document = read_existing(existing, _TITLE, path)
    if isinstance(document.get(_NESTED), dict):
        return document, document[_NESTED]
    if document.keys() & _FLAT or {"mean", "std"} <= document.keys():
        return document, document
    raise FormatError(
        f"{path}: is there already and is no timm configuration (neither pretrained_cfg nor mean "
        "and std): write to another path"
    )


def _check_channels(config: dict[str, Any], n_channels: int) -> None:
    """Refuse numbers for other channels than the model takes."""
    size = config.get("input_size")
    if isinstance(size, list) and size and size[0] != n_channels:
        raise PatternError(
            f"the model in the file takes {size[0]} channels (input_size), and the normalizer has "
            f"{n_channels}: measure the channels that the model is given"
        )


def _run(made: Made, x: _Array) -> _Array:
    """Through the transforms that timm makes of the configuration, at the size of the picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from timm.data import create_transform, resolve_data_config
    except ImportError as error:
        missing = error.name or "timm"
        raise ImportError(f"{missing} is not installed", name=missing) from None
    except RuntimeError as error:
        raise CannotRun(f"timm cannot be imported: {error}") from error
    document = json.loads(made.content)
    picture = square_of(made, x)
    size = {"input_size": (picture.shape[-1], *picture.shape[:2]), "crop_pct": 1.0}
    config = resolve_data_config(size, pretrained_cfg=document.get(_NESTED, document))
    y = create_transform(**config, is_training=False)(_fed(picture)).numpy()
    return unsquared(made, np.moveaxis(y, 0, -1), x)


def _fed(picture: _Array) -> Any:
    """A Pillow picture, or a tensor of what Pillow has no kind for."""
    import torch
    from torchvision.transforms.functional import to_pil_image

    if picture.dtype != np.uint8:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(picture, -1, 0)))
    if picture.shape[-1] not in (1, 3, 4):
        raise CannotRun(f"Pillow has no pictures of {picture.shape[-1]} channels")
    return to_pil_image(picture)


TARGET = Target(
    "timm",
    _TITLE,
    (".json",),
    _make,
    _run,
    library="timm",
    options=frozenset({"channels", "existing"}),
)
