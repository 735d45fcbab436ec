"""What a target is: how a normalizer is written for it, and how what was written is run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zeromean.errors import PatternError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zeromean.normalizer import Normalizer

#: Where each target lives, by its name on the command line, in the order of help texts.
HOMES = {
    "torch": "torch_program",
    "torch-state": "torch_state",
    "torchvision": "torchvision",
    "huggingface": "hugging_face",
    "timm": "timm",
    "albumentations": "albumentations",
    "keras": "keras",
    "sklearn": "sklearn_pipeline",
    "onnx": "onnx_file",
    "openvino": "openvino",
    "opencv": "opencv",
    "opencv-params": "opencv_params",
    "numpy": "numpy_code",
    "c": "c_header",
    "javascript": "javascript",
    "markdown": "model_card",
    "json": "own_file",
}


@dataclass(frozen=True)
class Order:
    """What was asked for, besides the target.

    Attributes
    ----------
    layout : {"hwc", "chw"} or None
        Of the pictures that the target is given; each target has its own habit.
    channels : str
        The channel order that the target feeds, such as "RGB"; empty if not said.
    model : path or None
        A model to put the normalization in front of.
    input : str or None
        Which input of that model is meant.
    model_layout : {"hwc", "chw"} or None
        Of the pictures that the model takes, where it does not tell.
    force : bool
        Also where the model normalizes by itself.
    existing : bytes or None
        The file that is there already, for targets that update one in place.
    path : str
        Where that is, for messages.
    name : str
        What the numbers are called in comments.
    """

    layout: str | None = None
    channels: str = ""
    model: Any = None
    input: str | None = None
    model_layout: str | None = None
    force: bool = False
    existing: bytes | None = None
    path: str = ""
    name: str = ""


@dataclass(frozen=True)
class Made:
    """A normalizer, written for a target.

    Attributes
    ----------
    content : bytes
        Of the file.
    value : object
        The same thing in Python: a module, a layer, arguments; None for plain code.
    expects : str
        Units, channel order and layout of what the target must be given.
    gives : str
        dtype and layout of what comes out.
    carried : Normalizer
        What the target holds. `norm` itself where nothing is lost.
    lost : str
        What it cannot hold, as in "one scale for each channel"; empty where nothing is lost.
    arithmetic : {"float32", "float64"}
        Whose units in the last place count.
    bound : float
        How many of them the result may be off; why stands in the target's docstring.
    notes : tuple of str
        What else its user must know.
    """

    content: bytes
    value: Any
    expects: str
    gives: str
    carried: Normalizer
    lost: str = ""
    arithmetic: str = "float32"
    bound: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """Where a normalizer can go.

    Attributes
    ----------
    name : str
        On the command line.
    title : str
        In a sentence.
    suffixes : tuple of str
        Of the file, the usual one first.
    make : callable
        `(norm, order)` to `Made`. Raises PatternError or UnitError for what can never be carried.
    run : callable
        `(made, x)` to y: loads `made.content` with the target's own library and normalizes x,
        raw data under the normalizer's own pattern; y in the same layout. Raises ImportError
        where the library is not there, or `CannotRun`.
    library : str
        The distribution that runs it; empty for plain code.
    options : frozenset of str
        Which fields of `Order` mean something to it.
    text : bool
        Whether the content is text.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    make: Callable[[Normalizer, Order], Made]
    run: Callable[[Made, NDArray[Any]], NDArray[Any]]
    library: str = ""
    options: frozenset[str] = field(default_factory=frozenset)
    text: bool = True


class CannotRun(Exception):  # noqa: N818  # not an error: the file is fine, this machine is not
    """A target cannot be run here, and why."""


def target_named(name: str) -> Target:
    """A target by its name.

    Raises
    ------
    PatternError
        With all names, when there is none such.
    """
    if name not in HOMES:
        raise PatternError(f"there is no target {name!r}; the targets are {', '.join(HOMES)}")
    module = importlib.import_module(f"zeromean.exporters.{HOMES[name]}")
    target: Target = module.TARGET
    return target


def check_options(target: Target, given: Mapping[str, Any]) -> None:
    """Refuse options that would do nothing.

    Raises
    ------
    PatternError
    """
    idle = [name for name, value in given.items() if value and name not in target.options]
    if idle:
        raise PatternError(
            f"{idle[0]}={given[idle[0]]!r} (--{idle[0].replace('_', '-')}) does nothing for "
            f"{target.title}; leave it out"
        )
