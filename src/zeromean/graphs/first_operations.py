"""Finds the first layer of an ONNX model, and what lies between it and the input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import FormatError, PatternError
from zeromean.first_layer import Entering
from zeromean.graphs.walking import Use, Walk, attribute

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_MOVING = frozenset(
    "Identity Transpose Reshape Flatten Squeeze Unsqueeze SpaceToDepth DepthToSpace Slice "
    "Gather".split()
)
_KEEPING = frozenset(["Cast", "Dropout"])
_AVERAGING = frozenset(["AveragePool", "GlobalAveragePool", "Resize"])
_LARGEST = frozenset(["MaxPool", "GlobalMaxPool"])
_LAYERS = frozenset(["Conv", "Gemm", "MatMul"])
_AFFINE = frozenset("Sub Div Mul Add Neg BatchNormalization".split())
_QUANTIZED = frozenset(
    "QuantizeLinear DequantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger "
    "DynamicQuantizeLinear".split()
)
_FLOATS = ("float16", "float32", "float64")
_IN_FRONT = "put the normalizer in front of the model instead"


@dataclass(frozen=True, eq=False)
class Reached:
    """The first layer of a model, and the operators in front of it.

    Attributes
    ----------
    walk : Walk
    source : str
        The input.
    steps : list of onnx.NodeProto
        From the input on.
    layer : onnx.NodeProto
        Conv, Gemm or MatMul.
    """

    walk: Walk
    source: str
    steps: list[Any]
    layer: Any

    @property
    def called(self) -> str:
        """For messages."""
        return _called(self.layer)

    @property
    def is_convolution(self) -> bool:
        """Whether the layer is a Conv."""
        return bool(self.layer.op_type == "Conv")

    @cached_property
    def held_weight(self) -> _Array:
        """The constant as the layer reads it.

        Raises
        ------
        FormatError
            When it is no constant, is quantized, or belongs to others too.
        """
        name = self.layer.input[1]
        for ancestor in self._ancestors(name):
            node = self.walk.producers.get(ancestor)
            if node is not None and node.op_type in _QUANTIZED:
                raise FormatError(f"{self.called} has quantized weights; fold before quantizing")
            if len(self.walk.uses(ancestor)) > 1 or ancestor in self.walk.outputs:
                raise FormatError(
                    f"the weights {ancestor!r} of {self.called} are shared with other operators, "
                    "which do not take the raw input; give the layer a copy of them"
                )
        weight = self.walk.constant(name)
        if weight is None:
            raise FormatError(
                f"the weights {name!r} of {self.called} are no initializer, but computed while "
                f"the model runs; {_IN_FRONT}"
            )
        if weight.dtype.name not in _FLOATS:
            raise FormatError(
                f"{self.called} has weights of {weight.dtype.name}; fold into a float32 model and "
                "convert or quantize it afterwards"
            )
        return weight

    def _ancestors(self, name: str) -> list[str]:
        """A tensor and all that it is computed from."""
        found, waiting = [], [name]
        while waiting:
            current = waiting.pop()
            found.append(current)
            node = self.walk.producers.get(current)
            waiting += [] if node is None else [given for given in node.input if given]
        return found

    @property
    def weight(self) -> _Floats:
        """(out, inputs / groups, *kernel), in float64."""
        held = self.held_weight
        if self.layer.op_type == "Conv":
            return held.astype(np.float64)
        if held.ndim != 2:
            raise FormatError(
                f"{self.called} multiplies by {held.ndim} axes of weights, not 2; {_IN_FRONT}"
            )
        turned = self.layer.op_type == "MatMul" or not attribute(self.layer, "transB", 0)
        return (held.T if turned else held).astype(np.float64)

    @property
    def axis(self) -> int:
        """Where the layer's inputs lie, from the end."""
        return 1 - self.held_weight.ndim if self.is_convolution else -1

    @property
    def groups(self) -> int:
        """Of a convolution; 1 for others."""
        return int(attribute(self.layer, "group", 1)) if self.is_convolution else 1

    # ------------------------------------------------------------ the way there

    def enter(self, start: Entering) -> tuple[Entering, list[tuple[Any, Entering]]]:
        """Follow numbers through the operators in front of the layer.

        Parameters
        ----------
        start : Entering
            At the input.

        Returns
        -------
        Entering
            At the layer.
        list of (onnx.NodeProto, Entering)
            The paddings with a constant on the way, and what enters each.
        """
        known: dict[str, _Array] = {self.source: start.index}
        state, paddings = start, []
        for step in self.steps:
            if _is_padding(step):
                paddings.append((step, state))
            state = self._stepped(step, state, known)
            known[step.output[0]] = state.index
        return state, paddings

    def _stepped(self, step: Any, state: Entering, known: dict[str, _Array]) -> Entering:
        what = _called(step)
        if step.op_type in _KEEPING:
            return state
        if step.op_type in _AVERAGING | _LARGEST:
            if step.op_type in _LARGEST:
                state.check_rising(what)
            zeros = {step.input[0]: np.zeros(state.index.shape, np.float32)}
            return state.pooled(self._run(step, known | zeros).shape, what)
        if _is_padding(step):
            pads = self.pads_of(step, state.index.ndim)
            return state.moved(np.pad(state.index, pads, constant_values=-1))
        return state.moved(self._run(step, known))

    def pads_of(self, step: Any, rank: int) -> list[tuple[int, int]]:
        """What a Pad adds to each axis, (before, after)."""
        held = self.walk.constant(step.input[1])
        if held is None or (held < 0).any():
            raise FormatError(f"{_called(step)} pads by amounts that are not known; {_IN_FRONT}")
        given = held.reshape(2, -1).T.tolist()
        axes = list(range(rank))
        if len(step.input) > 3 and step.input[3]:
            named = self.walk.constant(step.input[3])
            axes = [] if named is None else [int(a) % rank for a in named]
        if len(given) != len(axes):
            raise FormatError(f"{_called(step)} pads axes that are not known; {_IN_FRONT}")
        pads = dict(zip(axes, given, strict=True))
        return [tuple(pads.get(axis, (0, 0))) for axis in range(rank)]

    def value_of(self, step: Any) -> float:
        """What a Pad pads with."""
        if len(step.input) < 3 or not step.input[2]:
            return 0.0
        value = self.walk.constant(step.input[2])
        if value is None:
            raise FormatError(f"{_called(step)} pads with a value that is not known; {_IN_FRONT}")
        return float(value.reshape(-1)[0])

    def _run(self, step: Any, known: dict[str, _Array]) -> _Array:
        """What an operator makes of tensors that are known."""
        operands = {name: self._value(name, known) for name in step.input if name}
        try:
            return self.walk.run(step, operands)[0]
        except Exception as error:  # whatever the reference raises at a shape that does not fit
            raise PatternError(
                f"{_called(step)} does not take an input of the shape that the pattern says "
                f"({str(error).partition(chr(10))[0]}); give shape= (--shape), the shape of one "
                "raw input"
            ) from error

    def _value(self, name: str, known: dict[str, _Array]) -> _Array:
        if name in known:
            return known[name]
        constant = self.walk.constant(name)
        if constant is not None:
            return constant
        node = self.walk.producers.get(name)
        if node is None:
            raise FormatError(f"an operator in front of {self.called} needs another input, {name}")
        return self._run(node, known)


def first_layer(walk: Walk, source: str) -> Reached:
    """The first layer that an input meets.

    Parameters
    ----------
    walk : Walk
    source : str
        Name of the input.

    Raises
    ------
    FormatError
        When there is none to fold into, with the reason.
    """
    name, steps = source, list[Any]()
    while True:
        use = _only_use(walk, name)
        node = use.node
        if node.op_type in _LAYERS and node.domain in ("", "ai.onnx"):
            _check_side(use)
            reached = Reached(walk, source, steps, node)
            if len(reached.weight) == 0:
                raise FormatError(f"{reached.called} has no outputs")
            return reached
        _check_step(walk, use)
        steps.append(node)
        name = node.output[0]


def _only_use(walk: Walk, name: str) -> Use:
    uses = [use for use in walk.uses(name) if use.node.op_type != "Shape"]
    if name in walk.outputs or not uses:
        raise FormatError("the input meets no Conv, Gemm or MatMul that could be folded into")
    if len(uses) > 1:
        names = ", ".join(_called(use.node) for use in uses)
        raise FormatError(
            f"the raw input would reach {len(uses)} consumers ({names}), of which folding changes "
            f"one; {_IN_FRONT}"
        )
    if uses[0].inner:
        raise FormatError(f"a graph inside {_called(uses[0].node)} reads the input; {_IN_FRONT}")
    return uses[0]


def _check_side(use: Use) -> None:
    if use.index != 0:
        raise FormatError(
            f"{_called(use.node)} has the input on its right, which mixes along another axis than "
            f"channels or features; {_IN_FRONT}"
        )
    if attribute(use.node, "transA", 0):
        raise FormatError(f"{_called(use.node)} transposes its input (transA); {_IN_FRONT}")


def _check_step(walk: Walk, use: Use) -> None:
    """Refuse what does not commute with an affine map."""
    node, what = use.node, _called(use.node)
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    if kind in _QUANTIZED:
        raise FormatError(f"{what}: the model is quantized; fold before quantizing")
    if kind == "BatchNormalization":
        raise FormatError(
            f"{what} stands before the first layer, a normalization of its own that was trained; "
            "`zeromean check norm.json --model model.onnx` shows its numbers. "
            f"{_IN_FRONT.capitalize()}"
        )
    if kind in _AFFINE:
        raise FormatError(
            f"the model itself begins with {what}, which may be a normalization: folding another "
            "in would apply two. `zeromean check norm.json --model model.onnx` shows it; take it "
            "out first"
        )
    known = _MOVING | _KEEPING | _AVERAGING | _LARGEST | {"Pad"}
    if kind not in known or use.index != 0:
        raise FormatError(
            f"the first operation on the input is {what}, which is no Conv, Gemm or MatMul and "
            f"does not let an affine map pass; {_IN_FRONT}"
        )
    _check_options(walk, node, what)


def _check_options(walk: Walk, node: Any, what: str) -> None:
    kind = node.op_type
    if kind == "Cast" and attribute(node, "to") not in (1, 10, 11):  # float, half, double
        raise FormatError(f"{what} makes no floats of the normalized input; {_IN_FRONT}")
    if kind == "Dropout" and len(node.input) > 2 and node.input[2]:
        training = walk.constant(node.input[2])
        if training is None or training.any():
            raise FormatError(f"{what} is in training mode; export the model for inference")
    if kind == "AveragePool":
        padded = any(attribute(node, "pads", ())) or _automatic(node)
        if padded and attribute(node, "count_include_pad", 0):
            raise FormatError(
                f"{what} averages in zeros of its own, which normalized are not the raw ones; use "
                "count_include_pad=0"
            )
    plain = attribute(node, "coordinate_transformation_mode", b"") != b"tf_crop_and_resize"
    if kind == "Resize" and not (attribute(node, "mode", b"nearest") != b"cubic" and plain):
        raise FormatError(f"{what} does more than interpolate linearly; {_IN_FRONT}")
    if len(node.output) > 1 and any(node.output[1:]) and kind in _LARGEST:
        raise FormatError(f"{what} returns indices too; {_IN_FRONT}")


def _automatic(node: Any) -> bool:
    return attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")


def _is_padding(node: Any) -> bool:
    """Whether an operator pads with a constant."""
    return bool(node.op_type == "Pad" and attribute(node, "mode", b"constant") == b"constant")


def _called(node: Any) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} {node.output[0]!r}"
