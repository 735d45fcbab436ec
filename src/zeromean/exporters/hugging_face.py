"""Hugging Face: `preprocessor_config.json`, or the image processor of a `processor_config.json`.

A file that is there is updated in place: do_rescale, rescale_factor, do_normalize, image_mean and
image_std say what they must, whatever they said before (rescale_factor becomes 1 / top), and what
would normalize once more is switched off, with a note. All other keys stay, in their order. Our own
document goes beside them, under "zeromean"; transformers keeps keys that it does not know.

Read in transformers 5.24. Its Pillow backend multiplies by rescale_factor in float64 and rounds to
float32, rounds mean and std, subtracts and divides: 4.51 ulp at most. Its torchvision backend
rounds mean and std, multiplies both by float32(1 / rescale_factor), subtracts and divides: 5.51
ulp, and with an offset 7.51 (see `squares`). So the answers are not the bits that `norm` gives,
which rounds once. A top such as 0.3 that is no float32 adds a rounding to mean and std each.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
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
    places_of,
    roundings,
    square_of,
    unsquared,
)
from zeromean.exporters.targets import CannotRun, Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]

_TITLE = "Hugging Face"
_NESTED = "image_processor"
_TYPE = "image_processor_type"
#: Without a file, one whose processor does nothing else: the plainest of transformers' classes.
_NEW = {_TYPE: "ViTImageProcessor", "do_resize": False}
#: Switches of single classes that subtract or divide once more.
_ONCE_MORE = {"offset": "Vivit", "rescale_offset": "EfficientNet", "include_top": "EfficientNet"}
#: Classes of transformers that take image_mean and do not use it.
_NEVER = (
    *("EfficientLoFTR", "ImageGPT", "LayoutLMv2", "LightGlue", "MobileViT", "SuperGlue"),
    *("SuperPoint", "Swin2SR"),
)
_CLAIMS = {"do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", _TYPE}


def _make(norm: Normalizer, order: Order) -> Made:
    document, config = _document(order.existing)
    channels = channels_of(
        norm, _TITLE, to_unit=True, wants="RGB", declared=order.channels, counts=(1, 3)
    )
    check_count_known(norm, channels, _TITLE)
    _check_processor(config, len(channels))
    notes = _update(config, channels)
    config[KEY] = embedded(channels.carried)
    mean, std = (2, 2) if float(np.float32(channels.top)) == channels.top else (3, 3)
    return PictureMade(
        written_like(document, order.existing),
        document,
        _expects(norm, channels),
        "float32 pixel_values, axes (n, c, h, w)",
        channels.carried,
        channels.lost,
        bound=roundings(channels.carried, x=0, mean=mean, std=std),
        notes=notes,
        places=places_of(norm, channels),
    )


def _document(existing: bytes | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The whole file, and the part of it that is the image processor's; often the same."""
    if existing is None:
        document: dict[str, Any] = dict(_NEW)
        return document, document
    document = read_existing(existing, _TITLE)
    config = document.get(_NESTED, document)
    if not isinstance(config, dict) or not (
        config.keys() & (_CLAIMS | {"feature_extractor_type", "size", "crop_size"})
    ):
        raise FormatError(
            "the file that is there is no configuration of an image processor: write to "
            "preprocessor_config.json in the model's folder"
        )
    return document, config


def _check_processor(config: dict[str, Any], n_channels: int) -> None:
    """Refuse processors that do something else than the file says, or with the channels.

    Raises
    ------
    PatternError
    """
    kind = _kind(config)
    if kind.startswith(_NEVER):
        raise PatternError(
            f"{kind} never normalizes by a mean and a std, whatever its file says: put the "
            "normalization into the model, with zm.fold or export to onnx"
        )
    if config.get("do_flip_channel_order") is True:
        raise PatternError(
            "the file that is there turns the channels round after normalizing them "
            "(do_flip_channel_order): set it to false, or put the normalization into the model"
        )
    if config.get("do_convert_rgb") is True and n_channels == 1:
        raise PatternError(
            "the file that is there makes three channels of every picture (do_convert_rgb), and "
            "the normalizer has 1: measure RGB pictures, or set do_convert_rgb to false"
        )


def _kind(config: dict[str, Any]) -> str:
    return str(config.get(_TYPE) or config.get("feature_extractor_type") or "")


def _update(config: dict[str, Any], channels: Channels) -> tuple[str, ...]:
    """Say the five things that are normalization, and unsay what would do it again."""
    before = config.get("rescale_factor")
    factor = 1 / channels.top
    config |= {
        "do_rescale": True,
        "rescale_factor": factor,
        "do_normalize": True,
        "image_mean": channels.mean.tolist(),
        "image_std": channels.std.tolist(),
    }
    notes = []
    if before is not None and before != factor:
        notes.append(f"rescale_factor was {before!r} and is 1/{channels.top:g} now")
    kind = _kind(config)
    for name, start in _ONCE_MORE.items():
        if config.get(name) is True or (kind.startswith(start) and config.get(name) is not False):
            config[name] = False
            notes.append(f"{name} is false now: it would normalize once more")
    return tuple(notes)


def _expects(norm: Normalizer, channels: Channels) -> str:
    axes = "h w 1" if channels.form.layout == "hw" else "h w c"
    fed = "a Pillow picture or an array" if norm.dtype == "uint8" else "an array"
    return f"{fed}: {expected(norm, axes=axes, order=channels.order)}"


# ---------------------------------------------------------------- run


def _run(made: Made, x: _Array) -> _Array:
    """Through what `AutoImageProcessor` loads from a folder, without resizing and cropping."""
    config = json.loads(made.content)
    nested = isinstance(config.get(_NESTED), dict)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = "processor_config.json" if nested else "preprocessor_config.json"
        (Path(folder) / name).write_bytes(made.content)
        processor = _loaded(folder)
        picture = np.ascontiguousarray(np.moveaxis(square_of(made, x), -1, 0))
        y = _processed(processor, picture)
    if y.shape != picture.shape:
        raise CannotRun(
            f"{type(processor).__name__} makes {y.shape} of a picture {picture.shape}: it does "
            "more than normalize"
        )
    return unsquared(made, np.moveaxis(y, 0, -1), x)


def _loaded(folder: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise ImportError("transformers is not installed", name="transformers") from None
    try:
        AutoImageProcessor = transformers.AutoImageProcessor
    except Exception as error:  # a torchvision that is built for another PyTorch, for one
        raise CannotRun(f"transformers cannot be imported: {_first_line(error)}") from error
    try:
        return AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise CannotRun(f"transformers cannot load it: {_first_line(error)}") from error


def _processed(processor: Any, picture: _Array) -> _Array:
    plain = {"do_resize": False, "do_center_crop": False, "do_pad": False}
    try:
        out = processor(picture, input_data_format="channels_first", **plain)
        y: _Array = np.asarray(out["pixel_values"][0])
    except Exception as error:
        raise CannotRun(
            f"{type(processor).__name__} cannot be fed: {_first_line(error)}"
        ) from error
    return y


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


TARGET = Target(
    "huggingface",
    _TITLE,
    (".json",),
    _make,
    _run,
    library="transformers",
    options=frozenset({"channels", "existing"}),
)
