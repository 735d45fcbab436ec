"""What to paste into a framework, each with the unit that it expects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean.reporting.wording import Words, number

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

MOST_PASTED = 64  # more numbers are a file's job


@dataclass(frozen=True)
class Snippet:
    """Code for one framework."""

    title: str
    unit: str
    code: str


def snippets(norm: Normalizer, words: Words, name: str, mark: str = "") -> list[Snippet]:
    """Code that standardizes, for every framework that the profile's pattern fits.

    Parameters
    ----------
    norm : Normalizer
        Made by `zeromean.standardize`.
    words : Words
    name : str
        Of the profile's file.
    mark : str
        What a comment in front says of the numbers, where they are not exact.
    """
    if norm.shift.size > MOST_PASTED or _broadcast(norm) is None:
        return _files(words, name)
    raw = _raw_unit(norm, words)
    head = f"# {mark}\n" if mark else ""
    found = [Snippet(words.plain("paste.numpy"), raw, head + _numpy(norm))]
    if _is_channels(norm) and not _reshape(norm):
        found = [*_pictures(norm, words, head), *found]
    found.append(Snippet(words.plain("paste.torch"), raw, head + _torch(norm)))
    if norm.shift.ndim == 1 and not _reshape(norm):
        found.append(Snippet(words.plain("paste.keras"), raw, head + _keras(norm)))
    return found + _files(words, name)[:1]


def _pictures(norm: Normalizer, words: Words, head: str) -> list[Snippet]:
    """Those that scale a picture to 0..1 themselves."""
    top = norm.units.top
    if top is None or norm.dtype == "bool":
        return []
    mean, std = _digits(norm.shift / top), _digits(norm.scale / top)
    scaled, gray = words.plain("paste.from_0_1"), norm.units.colors == "gray"
    first = '\n    v2.Grayscale(),  # of Pillow images: convert("L"), as they were measured' * gray
    bottom, high = (number(v) for v in norm.units.range or (0, top))
    code = f"""{head}import torch
from torchvision.transforms import v2

transform = v2.Compose([{first}
    v2.ToImage(),
    v2.ToDtype(torch.float32, scale=True),  # {bottom}..{high} becomes 0..1
    v2.Normalize(mean={mean}, std={std}),
])"""
    config = {
        "do_rescale": True,
        "rescale_factor": 1 / top,
        "do_normalize": True,
        "image_mean": json.loads(mean),
        "image_std": json.loads(std),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in config.items()]
    raw = _raw_unit(norm, words)
    made = words.plain("paste.from_uint8", low=bottom, high=high)
    return [
        Snippet(words.plain("paste.torchvision"), f"{made} → {scaled}", code),
        Snippet(words.plain("paste.huggingface"), raw, "{\n" + ",\n".join(lines) + "\n}"),
    ]


def _numpy(norm: Normalizer) -> str:
    shape = _reshape(norm)
    return f"""import numpy as np

mean = np.array({_nested(norm.shift)}){shape}
std = np.array({_nested(norm.scale)}){shape}
y = ((x - mean) / std).astype(np.float32)  # x: {_axes(norm)}"""


def _torch(norm: Normalizer) -> str:
    shape, axes = _reshape(norm), _axes(norm)
    if _is_channels(norm) and not shape:
        shape, axes = ".reshape(-1, 1, 1)", "channels first: (..., c, h, w)"
    return f"""import torch

mean = torch.tensor({_nested(norm.shift)}){shape}
std = torch.tensor({_nested(norm.scale)}){shape}
y = (x.float() - mean) / std  # x: {axes}"""


def _keras(norm: Normalizer) -> str:
    variance = _nested(np.asarray(norm.scale) ** 2)
    return f"""import keras

normalize = keras.layers.Normalization(
    axis=-1,
    mean={_nested(norm.shift)},
    variance={variance},
)  # x: {_axes(norm)}"""


def _files(words: Words, name: str) -> list[Snippet]:
    python = f"""import zeromean as zm

norm = zm.standardize(zm.load({json.dumps(name, ensure_ascii=False)}))
norm.save("norm.safetensors")
y = norm(x)
x = norm.invert(y)"""
    any_unit = words.plain("paste.from_raw")
    shell = f"zeromean apply {_quoted(name)} data --method standardize -o normalized"
    return [
        Snippet(words.plain("paste.zeromean"), any_unit, python),
        Snippet(words.plain("paste.shell"), any_unit, shell),
    ]


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)


def _raw_unit(norm: Normalizer, words: Words) -> str:
    if norm.units.range is None:
        return words.plain("paste.from_raw")
    low, high = (number(v) for v in norm.units.range)
    said = [words.plain("paste.from_gray")] if norm.units.colors == "gray" else []
    return words.listed([*said, words.plain("paste.from_uint8", low=low, high=high)])


def _is_channels(norm: Normalizer) -> bool:
    """Whether the numbers belong to the last axis of pictures."""
    return norm.shift.ndim == 1 and bool(norm.units.channels)


def _broadcast(norm: Normalizer) -> tuple[int, ...] | None:
    """The shape in which the numbers meet the data; None where no reshape makes them meet."""
    pattern = norm.pattern
    if not pattern.kept:
        return ()
    names = [axis[0] if len(axis) == 1 else "" for axis in pattern.axes]
    places = [names.index(kept) if kept in names else -1 for kept in pattern.kept]
    if -1 in places or places != sorted(places) or "..." in names[places[0] :]:
        return None
    sizes = dict(zip(pattern.kept, norm.kept_shape, strict=True))
    return tuple(sizes.get(name, 1) for name in names[places[0] :])


def _reshape(norm: Normalizer) -> str:
    """What must be called on the numbers before they are used; mostly nothing."""
    shape = _broadcast(norm)
    return "" if shape == norm.kept_shape else f".reshape{shape}"


def _axes(norm: Normalizer) -> str:
    """The axes that the data must have."""
    return "(" + ", ".join(" ".join(axis) for axis in norm.pattern.axes) + ")"


def _digits(values: Any) -> str:
    return "[" + ", ".join(f"{v:.6g}" for v in np.ravel(values).tolist()) + "]"


def _nested(values: Any) -> str:
    """Numbers with nine digits, in nested lists."""
    array = np.asarray(values)
    if array.ndim == 0:
        return f"{float(array):.9g}"
    return "[" + ", ".join(_nested(part) for part in array) + "]"
