"""Hugging Face: `preprocessor_config.json`, nested `processor_config.json`, audio extractors.

Read in transformers 5.24: `image_transforms.rescale` and `normalize` make
y = (x rescale_factor - image_mean) / image_std; `ViVit` (`offset`) and `EfficientNet`
(`rescale_offset`) subtract 1 after the rescaling, and the latter divides by image_std once more
under `include_top`; `ASTFeatureExtractor.normalize` divides by **twice** the std.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from zeromean.embedding import KEY
from zeromean.errors import FormatError, UnitError
from zeromean.importers.found import Found, channels_of, inverse, pair, said

TITLE = "Hugging Face"
_NESTED = ("image_processor", "feature_extractor", "video_processor")
_TYPES = ("image_processor_type", "feature_extractor_type", "video_processor_type")
_ATTRIBUTES = (
    *("image_mean", "image_std", "do_rescale", "rescale_factor", "do_normalize", "offset"),
    *("rescale_offset", "include_top", "do_flip_channel_order", "mean", "std", "num_mel_bins"),
)
_LOAD = "load the processor and pass the object: zm.import_normalizer(processor)"
_TOPS = (255, 65535)
_OWN_RECORDING = ("Wav2Vec2", "SpeechT5", "Whisper", "Seamless", "Parakeet", "CohereAsr")


def is_config(config: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a processor's."""
    inner = (config.get(name) for name in _NESTED)
    if any(isinstance(held, Mapping) and is_config(held) for held in inner):
        return True
    return "image_mean" in config or any(name in config for name in _TYPES)


def config_of(processor: Any) -> dict[str, Any]:
    """What a processor object would save; its class's defaults are known here."""
    inner = next((getattr(processor, n) for n in _NESTED if hasattr(processor, n)), processor)
    held = {n: getattr(inner, n) for n in _ATTRIBUTES if getattr(inner, n, None) is not None}
    name = type(inner).__name__
    kind = "feature_extractor_type" if name.endswith("FeatureExtractor") else _TYPES[0]
    return {**held, kind: name, KEY: getattr(inner, KEY, None)}


def read(config: Mapping[str, Any], place: str) -> Found:
    """What a processor's configuration says.

    Raises
    ------
    FormatError
        Where it normalizes nothing, or what its class does by default is not in the file.
    UnitError
        Where it turns the channels round.
    """
    document = config.get(KEY)
    for name in _NESTED:
        if isinstance(config.get(name), Mapping):
            config = config[name]
            document = config.get(KEY, document)
            break
    kind = next((str(config[name]) for name in _TYPES if config.get(name)), "")
    if kind == "ASTFeatureExtractor":
        return _spectrogram(config, place, document)
    _check_mean(config, kind, place)
    shift, scale = pair(
        config["image_mean"], said(config, "image_std", place), ("image_mean", "image_std"), place
    )
    minus = _offset(config, kind, place)
    if kind.startswith("EfficientNet"):
        scale = scale * scale if _switch(config, "include_top", kind, place) else scale
    return Found(
        title=TITLE,
        place=place,
        shift=shift + minus,
        scale=scale,
        pattern="n h w c -> c" if shift.ndim else "n h w c ->",
        channels=_channels(config, shift.size, place),
        feeds_them=True,
        document=document,
        **_units(config, minus, place),
    )


def _check_mean(config: Mapping[str, Any], kind: str, place: str) -> None:
    if config.get("image_mean") is None:
        if kind.startswith(_OWN_RECORDING):
            raise FormatError(
                f"{place}: {kind} normalizes each recording by itself, if at all; do the same with "
                "zm.per_sample(zm.standardize, 'n t -> n') (zeromean apply 'n t -> n')"
            )
        raise FormatError(
            f"{place}: {_named(kind)} has no image_mean here, and what its class takes instead is "
            f"not in the file; {_LOAD}"
        )
    if not _switch(config, "do_normalize", kind, place):
        raise FormatError(
            f"{place}: do_normalize is false, so {_named(kind)} never uses its "
            "image_mean; set it to true if the model was trained with these numbers"
        )


def _named(kind: str) -> str:
    return kind or "the processor"


def _switch(config: Mapping[str, Any], name: str, kind: str, place: str) -> bool:
    """A truth value that must be in the file: classes differ in what they do without it."""
    value = config.get(name)
    if not isinstance(value, bool):
        raise FormatError(
            f"{place}: does not say {name}, and processors differ in what they do then; write "
            f'"{name}": true or false into it, or {_LOAD}'
        )
    return value


def _offset(config: Mapping[str, Any], kind: str, place: str) -> int:
    for start, name in (("Vivit", "offset"), ("EfficientNet", "rescale_offset")):
        if kind.startswith(start):
            return int(_switch(config, name, kind, place))
    return int(config.get("offset") is True or config.get("rescale_offset") is True)


def _channels(config: Mapping[str, Any], count: int, place: str) -> str | None:
    if config.get("do_flip_channel_order") is True:
        raise UnitError(
            f"{place}: do_flip_channel_order turns RGB into BGR, which no normalizer can do; set "
            "it to false, import, and turn the channels round in your own code"
        )
    return channels_of(count, "RGB")


def _units(config: Mapping[str, Any], minus: int, place: str) -> dict[str, Any]:
    """What the mean and std are in units of."""
    rescaled, factor = config.get("do_rescale"), config.get("rescale_factor")
    if rescaled is False:
        why = "do_rescale is false, so image_mean and image_std are in the units of the raw data"
        return {"asks_range": why}
    if factor is None:
        why = "has no rescale_factor, and processors differ in what they do then"
        if minus:
            raise FormatError(f"{place}: {why}; write the rescale_factor into the file")
        return {"unit": None, "top": 1, "asks_range": why}
    unit = inverse(factor, "rescale_factor", place)
    top = next((n for n in _TOPS if n in (unit, 2 * unit)), None)  # to 0..1, or to 0..2 and -1..1
    if top is None or rescaled is not True:
        return {"unit": unit, "asks_range": f"its rescale_factor is {factor:g}, which fits several"}
    return {"unit": unit, "top": float(top / unit), "range": (0, top)}


def _spectrogram(config: Mapping[str, Any], place: str, document: Any) -> Found:
    if not _switch(config, "do_normalize", "ASTFeatureExtractor", place):
        raise FormatError(
            f"{place}: do_normalize is false, so ASTFeatureExtractor never uses its mean; set it "
            "to true if the model was trained with these numbers"
        )
    shift, scale = pair(
        said(config, "mean", place), said(config, "std", place), ("mean", "std"), place
    )
    return Found(
        title="Hugging Face audio",
        place=place,
        shift=shift,
        scale=scale * Fraction(2),
        pattern="n t d ->",
        dtype="float32",
        document=document,
    )
