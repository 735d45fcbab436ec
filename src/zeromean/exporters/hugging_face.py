"""Hugging Face: `preprocessor_config.json`, or the image processor of a `processor_config.json`.

A file that is there is updated in place: do_rescale, rescale_factor, do_normalize, image_mean and
image_std say what they must, whatever they said before (rescale_factor becomes 1 / top), and what
would normalize once more is switched off, each with a note. All other keys stay, in their order.
Our own document goes beside them, under "zeromean"; transformers keeps keys that it does not know.

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
_OLD_TYPE = "feature_extractor_type"
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
#: What only files for pictures say, and only files for sound.
_PICTURES = {"size", "crop_size", "do_resize", "do_center_crop", "image_size", "resample"}
_SOUND = {"sampling_rate", "feature_size", "num_mel_bins", "n_fft", "hop_length"}
_ENDINGS = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")


def _make(norm: Normalizer, order: Order) -> Made:
    document, config = _document(order.existing, order.path)
    channels = channels_of(
        norm, _TITLE, to_unit=True, wants="RGB", declared=order.channels, counts=(1, 3)
    )
    check_count_known(norm, channels, _TITLE)
    if order.existing is not None:
        _check_processor(config, len(channels), order.path)
    notes = (*_update(config, channels), *_own_code(config))
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


def _document(existing: bytes | None, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The whole file, and the part of it that is the image processor's; often the same."""
    if existing is None:
        document: dict[str, Any] = dict(_NEW)
        return document, document
    document = read_existing(existing, _TITLE, path)
    config = document.get(_NESTED, document)
    if not isinstance(config, dict) or not config.keys() & (_CLAIMS | _PICTURES | {_OLD_TYPE}):
        raise FormatError(
            f"{path}: is there already and is no configuration of an image processor: write to "
            "preprocessor_config.json in the model's folder"
        )
    return document, config


def _check_processor(config: dict[str, Any], n_channels: int, path: str) -> None:
    """Refuse processors that do something else than the file says, or with the channels.

    Raises
    ------
    FormatError, PatternError
    """
    kind = _kind(config)
    _check_kind(config, kind, path)
    if kind.startswith(_NEVER):
        raise PatternError(
            f"{kind} never normalizes by a mean and a std, whatever its file says: put the "
            "normalization into the model, with zm.fold or export to onnx"
        )
    if config.get("do_flip_channel_order") is True:
        raise PatternError(
            f"{path}: turns the channels round after normalizing them "
            "(do_flip_channel_order): set it to false, or put the normalization into the model"
        )
    if config.get("do_convert_rgb") is True and n_channels == 1:
        raise PatternError(
            f"{path}: makes three channels of every picture (do_convert_rgb), and the "
            "normalizer has 1: measure RGB pictures, or set do_convert_rgb to false"
        )


def _check_kind(config: dict[str, Any], kind: str, path: str) -> None:
    """Refuse what takes no pictures, such as speech, and a class that cannot be found."""
    pictures = config.keys() & (_PICTURES | _CLAIMS - {_TYPE})
    if config.keys() & _SOUND or (not config.get(_TYPE) and not pictures):
        raise FormatError(
            f"{path}: is there already, for {kind or 'no image processor'}, which takes no "
            "pictures: write to preprocessor_config.json in the folder of an image model"
        )
    if kind and not kind.endswith(_ENDINGS) and "auto_map" not in config:
        raise FormatError(
            f"{path}: names {kind!r}, which is no image processor of transformers, and no code of "
            f"its own (auto_map): correct {_TYPE}, or write to another path"
        )


def _kind(config: dict[str, Any]) -> str:
    return str(config.get(_TYPE) or config.get(_OLD_TYPE) or "")


def _own_code(config: dict[str, Any]) -> tuple[str, ...]:
    if "auto_map" not in config:
        return ()
    what = _kind(config) or "its processor"
    return (f"{what} is code of the model's own (auto_map): make sure that it uses these numbers",)


def _update(config: dict[str, Any], channels: Channels) -> tuple[str, ...]:
    """Say the five things that are normalization, and unsay what would do it again."""
    said = {
        "do_rescale": True,
        "rescale_factor": 1 / channels.top,
        "do_normalize": True,
        "image_mean": channels.mean.tolist(),
        "image_std": channels.std.tolist(),
    }
    notes = [
        f"{name} was {_spelled(config[name])} and is "
        f"{f'1/{channels.top:g}' if name == 'rescale_factor' else _spelled(value)} now"
        for name, value in said.items()
        if config.get(name) is not None and config[name] != value
    ]
    config |= said
    kind = _kind(config)
    for name, start in _ONCE_MORE.items():
        if config.get(name) is True or (kind.startswith(start) and config.get(name) is not False):
            config[name] = False
            notes.append(f"{name} is false now: it would normalize once more")
    return tuple(notes)


def _spelled(value: Any) -> str:
    """As in the file, but short: numbers rounded, at most four of a list."""
    if isinstance(value, list):
        few = [_spelled(v) for v in value[:4]] + ["..."] * (len(value) > 4)
        return f"[{', '.join(few)}]"
    return f"{value:.4g}" if isinstance(value, float) else f"{json.dumps(value):.40}"


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
        processor = _loaded(folder, config.get(_NESTED) if nested else config)
        picture = np.ascontiguousarray(np.moveaxis(square_of(made, x), -1, 0))
        y = _processed(processor, picture)
    if y.shape != picture.shape:
        raise CannotRun(
            f"{type(processor).__name__} makes {y.shape} of a picture {picture.shape}: it does "
            "more than normalize"
        )
    return unsquared(made, np.moveaxis(y, 0, -1), x)


def _loaded(folder: str, config: dict[str, Any]) -> Any:
    if "auto_map" in config:
        raise CannotRun(
            "the processor is code of the model's own (auto_map), which is not run here"
        )
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
        why = _first_line(error)
        if _kind(config) and not hasattr(transformers, _kind(config)):
            why = f"it has no class {_kind(config)}"
        raise CannotRun(f"transformers cannot load it: {why}") from error


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
