"""`import_normalizer`: reads the mean and std that other systems keep, with their units."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zeromean.embedding import ATTRIBUTE, KEY, restored
from zeromean.errors import FormatError, SourceError, UnitError, ZeromeanError
from zeromean.group_normalizer import GroupedNormalizer
from zeromean.grouped import GroupedProfile
from zeromean.importers import (
    albumentations,
    bridgescaler,
    caffe,
    huggingface,
    kaldi,
    keras,
    lerobot,
    nnunet,
    sklearn_scalers,
    timm,
    torchvision,
)
from zeromean.importers.finishing import Told, check_agreement, finished
from zeromean.importers.found import Found
from zeromean.importers.opening import ZIP, content_of, located
from zeromean.loading import load
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.profile import Profile

#: What `kind` may be.
KINDS = (
    *("huggingface", "timm", "torchvision", "albumentations", "keras", "sklearn", "caffe"),
    *("kaldi", "wenet", "lerobot", "nnunet", "bridgescaler"),
)
#: What `zeromean export --to sklearn` writes, and what it leaves out because it is the default.
_PIPELINE = "zeromean-sklearn/1"
_UNSAID = {"with_mean": True, "with_std": True, "with_centering": True, "with_scaling": True}


def import_normalizer(
    source: Any,
    kind: str | None = None,
    *,
    range: tuple[float, float] | None = None,
    channels: str | None = None,
    pattern: str | Pattern | None = None,
    dtype: str | None = None,
    key: str | None = None,
    norm_vars: bool | None = None,
) -> Normalizer:
    """Read a normalization that another system holds, in raw units.

    What a format states is taken, and what it leaves open is asked for: an error says which option
    answers. Nothing falls back to a default of anybody.

    Parameters
    ----------
    source : path, mapping or object
        A file: `preprocessor_config.json` or `processor_config.json` of Hugging Face, `config.json`
        of timm, what `A.save` of Albumentations writes, a `.keras` file, `mean.binaryproto` of
        Caffe, CMVN statistics of Kaldi or WeNet, `stats.json` of LeRobot,
        `dataset_fingerprint.json` of nnU-Net, JSON of bridgescaler; or a folder with one of them.
        A dictionary of the same content. Or an object: a transform or preset of torchvision, a
        transform of Albumentations, a layer or model of Keras, a fitted scaler, PCA or pipeline
        of scikit-learn, a processor of Hugging Face. A normalizer that zeromean saved is loaded
        as it is. A pickle is never read.
    kind : str, optional
        "huggingface", "timm", "torchvision", "albumentations", "keras", "sklearn", "caffe",
        "kaldi", "wenet", "lerobot", "nnunet" or "bridgescaler"; seen from the content by default.
    range : (low, high), optional
        Of the raw data, such as (0, 255), where the format does not say.
    channels : str, optional
        What the channels are and in which order, such as "RGB"; "" if they have no letters.
    pattern : str or Pattern, optional
        Of the data; the format's own layout by default.
    dtype : str, optional
        Of the raw data; what the format or the range says by default.
    key : str, optional
        Which one, where a file holds several: a speaker, a feature, a layer, a scaler.
    norm_vars : bool, optional
        Kaldi only: whether `apply-cmvn` divides by the std.

    Returns
    -------
    Normalizer
        Shift and scale in raw units, computed exactly from the numbers in the file and rounded
        once. What zeromean exported comes back as it was, with recipe and feature names, unless
        the numbers were edited since.

    Raises
    ------
    UnitError
        When units or channel order are not known, contradict each other, or are visibly wrong.
    FormatError
        When the source is not recognized, is damaged, or is no affine map.
    SourceError
        When there is no such file.
    PatternError
        When the numbers do not fit the pattern.

    Examples
    --------
    >>> import zeromean as zm
    >>> config = {"image_mean": [0.5], "image_std": [0.25], "do_normalize": True,
    ...           "do_rescale": True, "rescale_factor": 1 / 255}
    >>> norm = import_normalizer(config)
    >>> norm.shift, norm.scale, str(norm.units)
    (array([127.5]), array([63.75]), '0..255')
    """
    if kind is not None and kind not in KINDS:
        raise FormatError(f"kind is {kind!r}; it can be {', '.join(KINDS)}")
    told = Told(range, channels, pattern, dtype)
    options = {"key": key, "norm_vars": norm_vars}
    if isinstance(source, str | os.PathLike):
        return _of_path(source, kind, told, options)
    if isinstance(source, Mapping):
        place = "the dictionary"
        kind = kind or _kind_of_json(source, place)
        return finished(_of_json(source, place, kind, options), told)
    return _of_object(source, kind, told, options)


# ---------------------------------------------------------------- files


def _of_path(source: Any, kind: str | None, told: Told, options: dict[str, Any]) -> Normalizer:
    paths = located(source)
    for path in paths:
        if path.suffix == ".safetensors":
            return _own_file(path, kind, told, options)
        content, place = content_of(path), str(path)
        if isinstance(content, bytes):
            found = _of_bytes(content, place, kind or _kind_of_bytes(content, place), told, options)
            return finished(found, told)
        if content.get("format") == _PIPELINE:
            return _pipeline_file(content, place, told)
        if _is_ours(content):
            return _own_file(path, kind, told, options)
        seen = kind or _kind_of_json(content, place, sure=len(paths) == 1)
        if seen:
            return finished(_of_json(content, place, seen, options), told)
    names = ", ".join(path.name for path in paths)
    raise SourceError(f"{source}: {names} hold no mean and std; name the file that does")


def _is_ours(content: Mapping[str, Any]) -> bool:
    return str(content.get("format", "")).startswith("zeromean/")


def _own_file(path: Path, kind: str | None, told: Told, options: Mapping[str, Any]) -> Normalizer:
    """A normalizer that zeromean saved, as it is.

    Raises
    ------
    FormatError
        When it is damaged, or holds something else.
    UnitError
        When an option says something else than it does.
    """
    place = str(path)
    if kind is not None:
        raise FormatError(f"{place}: is zeromean's own, which {kind} does not write; leave it out")
    _check_options("zeromean's own file", options, place)
    held = load(path)
    if not isinstance(held, Normalizer):
        raise FormatError(f"{place}: {_no_normalizer(held)}")
    check_agreement(held, told, place)
    return held


def _no_normalizer(held: Any) -> str:
    """What one of our own files holds instead, and what to do with it."""
    if isinstance(held, Profile):
        return (
            "holds a profile, which says what was measured and not how to normalize: make a "
            "normalizer of it with zm.standardize(zm.load(path)), or give it to `zeromean export` "
            "as it is, with --method standardize"
        )
    if isinstance(held, GroupedProfile | GroupedNormalizer):
        return (
            "holds numbers by group, and one normalizer is read here: take that of one group, "
            "with zm.load(path)"
        )
    return "holds a study and no numbers to normalize by: give a normalizer or a profile"


def _kind_of_json(content: Mapping[str, Any], place: str, *, sure: bool = True) -> str:
    """Which system wrote this.

    Raises
    ------
    FormatError
        When none did; without `sure`, an empty string.
    """
    if _is_ours(content):
        raise FormatError(
            f"{place}: is zeromean's own document; save it to a file and give its path"
        )
    seen: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "wenet": lambda c: "mean_stat" in c and "var_stat" in c,
        "nnunet": lambda c: nnunet.KEY in c,
        "albumentations": albumentations.is_config,
        "huggingface": huggingface.is_config,
        "timm": timm.is_config,
        "bridgescaler": bridgescaler.is_scaler,
        "lerobot": lerobot.is_stats,
    }
    for kind, is_of in seen.items():
        if is_of(content):
            return kind
    if sure:
        few = ", ".join(map(repr, list(content)[:6])) or "none"
        raise FormatError(
            f"{place}: is JSON of none of the known kinds (its fields: {few}); these are "
            f"{', '.join(KINDS)}: say kind= (--from) if it is one of them"
        )
    return ""


def _of_json(
    content: Mapping[str, Any], place: str, kind: str, options: Mapping[str, Any]
) -> Found:
    key = options["key"]
    readers: dict[str, Callable[[], Found]] = {
        "huggingface": lambda: huggingface.read(content, place),
        "timm": lambda: timm.read(content, place),
        "albumentations": lambda: albumentations.read(content, place),
        "wenet": lambda: kaldi.read_json(content, place),
        "lerobot": lambda: lerobot.read(content, place, key),
        "nnunet": lambda: nnunet.read(content, place),
        "bridgescaler": lambda: bridgescaler.read(content, place, key),
    }
    if kind not in readers:
        raise FormatError(f"{place}: is JSON, which {kind} does not write")
    _check_options(kind, options, place)
    return readers[kind]()


def _kind_of_bytes(content: bytes, place: str) -> str:
    if content == ZIP:
        return "keras"
    if kaldi.is_statistics(content):
        return "kaldi"
    try:
        caffe.blob(content, place)
    except ZeromeanError:
        if place.endswith(".binaryproto"):
            raise
        raise FormatError(
            f"{place}: is none of the known kinds, which are {', '.join(KINDS)}: say kind= "
            "(--from) if it is one of them"
        ) from None
    return "caffe"


def _of_bytes(
    content: bytes, place: str, kind: str, told: Told, options: Mapping[str, Any]
) -> Found:
    readers: dict[str, Callable[[], Found]] = {
        "keras": lambda: keras.read_file(place, options["key"]),
        "kaldi": lambda: kaldi.read(content, place, options["key"], options["norm_vars"]),
        "caffe": lambda: caffe.read(content, place, told.pattern),
    }
    if kind not in readers:
        raise FormatError(f"{place}: is not JSON, which {kind} writes")
    _check_options(kind, options, place)
    return readers[kind]()


_KEYED = {"keras", "kaldi", "lerobot", "bridgescaler"}


def _check_options(kind: str, options: Mapping[str, Any], place: str) -> None:
    """Refuse an option that says nothing about this format, instead of passing over it."""
    if options["key"] is not None and kind not in _KEYED:
        raise UnitError(f"{place}: {kind} holds one normalization; leave key (--key) out")
    if options["norm_vars"] is not None and kind != "kaldi":
        raise UnitError(f"{place}: norm_vars is Kaldi's, and this is {kind}; leave it out")


# ---------------------------------------------------------------- objects


def _of_object(source: Any, kind: str | None, told: Told, options: dict[str, Any]) -> Normalizer:
    name = type(source).__name__
    place = f"the {name}"
    preset = getattr(source, "transforms", None)
    if isinstance(source, Enum) and callable(preset):  # weights of torchvision
        source = preset()
    if isinstance(source, Normalizer):
        raise FormatError("this is a normalizer already")
    kind = kind or _kind_of_object(source)
    if kind not in ("torchvision", "albumentations", "keras", "sklearn", "timm", "huggingface"):
        raise FormatError(
            f"{place}: is no file, dictionary, or object of torchvision, Albumentations, Keras, "
            "scikit-learn, timm or Hugging Face; pass one of these"
        )
    _check_options(kind, options, place)
    if kind == "sklearn" and hasattr(source, "steps"):
        return _pipeline(source, place, told)
    readers: dict[str, Callable[[], Found]] = {
        "torchvision": lambda: torchvision.read(source, place),
        "albumentations": lambda: albumentations.read(source, place),
        "keras": lambda: keras.read_object(source, place, options["key"]),
        "sklearn": lambda: sklearn_scalers.read(source, place),
        "timm": lambda: timm.read(timm.config_of(source), place),
        "huggingface": lambda: huggingface.read(huggingface.config_of(source), place),
    }
    return finished(readers[kind](), told)


def _kind_of_object(source: Any) -> str:
    names = {c.__name__ for c in type(source).__mro__}
    homes = {c.__module__.partition(".")[0] for c in type(source).__mro__}
    if "keras" in homes or names & keras.CLASSES:
        return "keras"
    if "albumentations" in homes:
        return "albumentations"
    if names & torchvision.CLASSES:
        return "torchvision"
    if names & (sklearn_scalers.CLASSES | {"Pipeline"}):
        return "sklearn"
    if "PretrainedCfg" in names or hasattr(source, "pretrained_cfg"):
        return "timm"
    if "transformers" in homes or hasattr(source, "image_mean"):
        return "huggingface"
    return ""


def _pipeline(pipeline: Any, place: str, told: Told) -> Normalizer:
    """All steps, joined into one; `passthrough` does nothing."""
    steps = [
        (f"{place}: {name}", step, sklearn_scalers.class_of(step))
        for name, step in pipeline.steps
        if step is not None and step != "passthrough"
    ]
    return _joined(steps, getattr(pipeline, ATTRIBUTE, None), place, told)


def _pipeline_file(content: Mapping[str, Any], place: str, told: Told) -> Normalizer:
    """What `zeromean export --to sklearn` wrote."""
    try:
        steps = [
            (
                f"{place}: {step['name']}",
                SimpleNamespace(**_UNSAID | step["parameters"] | step["fitted"]),
                str(step["class"]),
            )
            for step in content["steps"]
        ]
    except (KeyError, TypeError) as error:
        raise FormatError(f"{place}: is a damaged pipeline ({error})") from None
    return _joined(steps, content.get(KEY), place, told)


def _joined(
    steps: Sequence[tuple[str, Any, str]], document: Any, place: str, told: Told
) -> Normalizer:
    if not steps:
        raise FormatError(f"{place}: has no steps")
    first, *rest = [
        finished(sklearn_scalers.read(scaler, where, name), told if i == 0 else Told())
        for i, (where, scaler, name) in enumerate(steps)
    ]
    for norm in rest:
        first = first.then(norm)
    if document is None:
        return first
    ours = restored(document, first.shift, first.scale, offset=first.offset, matrix=first.matrix)
    if ours is None:
        return first
    check_agreement(ours, told, place)
    return ours
