"""Finds the first layer of a module, and what lies between it and the input."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from zeromean.errors import FormatError, PatternError
from zeromean.first_layer import Entering

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MOVING = (
    *(nn.Flatten, nn.Unflatten, nn.Identity, nn.PixelShuffle, nn.PixelUnshuffle),
    *(nn.ChannelShuffle, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
)
_DROPPING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_AVERAGING = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
)
_LARGEST = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
PADDING = (
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
)
_MOVES: set[Any] = {
    *(torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze),
    *(torch.unsqueeze, torch.movedim, torch.moveaxis, torch.swapaxes, torch.swapdims),
    *("flatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze"),
    *("movedim", "moveaxis", "swapaxes", "swapdims", "unflatten", "flip"),
    *(torch.flip, operator.getitem),
}
_KEEPS: set[Any] = {"contiguous", "clone", "float", "double", "half", "bfloat16", "to", torch.clone}
_SHAPES: set[Any] = {"size", "dim", "numel", "ndimension", getattr, torch.numel}
_AFFINE: set[Any] = {operator.sub, operator.truediv, operator.mul, operator.add, operator.isub}
_AFFINE |= {operator.itruediv, operator.imul, operator.iadd, torch.sub, torch.div, torch.mul}
_AFFINE |= {torch.add, "sub", "div", "mul", "add", "sub_", "div_", "mul_", "add_"}
_AS_FUNCTIONS = frozenset(["conv1d", "conv2d", "conv3d", "linear"])
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}
_BY_NAME = "or name the layer that takes the raw input: layer='...'"


@dataclass(frozen=True)
class Found:
    """The first layer, and the operations in front of it.

    Attributes
    ----------
    name : str
    layer : Module
    steps : list of fx.Node
        From the input on; empty for a layer that was named.
    modules : dict of str to Module
    source : fx.Node or None
    """

    name: str
    layer: Any
    steps: list[fx.Node] = field(default_factory=list)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    source: fx.Node | None = None

    @property
    def called(self) -> str:
        """For messages."""
        return f"{type(self.layer).__name__} {self.name!r}"

    @property
    def argument(self) -> tuple[int, str]:
        """Which argument of the model the raw data are: place and name."""
        if self.source is None:
            return 0, "input"
        inputs = [node for node in self.source.graph.nodes if node.op == "placeholder"]
        return inputs.index(self.source), str(self.source.target)

    def enter(self, start: Entering) -> Entering:
        """Follow numbers through the steps.

        Parameters
        ----------
        start : Entering
            At the input.

        Raises
        ------
        PatternError
            When an operation does not commute with these numbers, or takes another shape.
        """
        if self.source is None:
            flat = isinstance(self.layer, nn.Linear) and start.index.shape[-1] != (
                self.layer.in_features
            )
            return start.moved(start.index.reshape(1, -1)) if flat else start
        known: dict[fx.Node, Any] = {self.source: _tensor(start)}
        state = start
        for step in self.steps:
            state = self._stepped(step, state, known)
            known[step] = _tensor(state)
        return state

    def _stepped(self, step: fx.Node, state: Entering, known: dict[fx.Node, Any]) -> Entering:
        what = _called(step, self.modules)
        module = self.modules.get(str(step.target)) if step.op == "call_module" else None
        if step.target in _KEEPS or isinstance(module, _DROPPING):
            return state
        try:
            if isinstance(module, _AVERAGING + _LARGEST):
                if isinstance(module, _LARGEST):
                    state.check_rising(what)
                return state.pooled(module(_tensor(state) * 0.0).shape, what)
            if isinstance(module, PADDING):
                return state.moved(nn.functional.pad(_tensor(state), _pads(module), value=-1.0))
            return state.moved(np.asarray(_value(step, known, self.modules)))
        except (RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, PatternError):
                raise
            raise PatternError(
                f"{what} does not take an input of shape {start_shape(state)}, which was a guess; "
                "give shape=, the shape of one raw input, such as shape=(3, 32, 32)"
            ) from error

    def paddings(self, start: Entering) -> list[tuple[str, Any, Entering]]:
        """The constant paddings among the steps, with what enters each."""
        known: dict[fx.Node, Any] = {} if self.source is None else {self.source: _tensor(start)}
        found: list[tuple[str, Any, Entering]] = []
        state = start
        for step in self.steps:
            module = self.modules.get(str(step.target)) if step.op == "call_module" else None
            if isinstance(module, PADDING):
                found.append((str(step.target), module, state))
            state = self._stepped(step, state, known)
            known[step] = _tensor(state)
        return found


def start_shape(state: Entering) -> tuple[int, ...]:
    """Of one raw input, for messages."""
    return state.shape[1:]


def _tensor(state: Entering) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(state.index).astype(np.float64))


def _pads(module: nn.Module) -> list[int]:
    pads: Any = module.padding
    return list(pads)


def _value(node: fx.Node, known: dict[fx.Node, Any], modules: dict[str, nn.Module]) -> Any:
    """What a node computes, of tensors that are known."""
    if node in known:
        return known[node]
    args = fx.node.map_arg(node.args, lambda n: _value(n, known, modules))
    kwargs = fx.node.map_arg(node.kwargs, lambda n: _value(n, known, modules))
    if node.op == "call_module":
        return modules[str(node.target)](*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "call_function":
        function: Callable[..., Any] = node.target  # type: ignore[assignment]
        return function(*args, **kwargs)
    raise PatternError(f"{node} depends on more than the input")


# ---------------------------------------------------------------- the walk


def first_layer(model: nn.Module, name: str | None) -> Found:
    """The first layer of a module.

    Parameters
    ----------
    model : Module
    name : str, optional
        Of the layer, where the module cannot be traced.

    Raises
    ------
    FormatError
        When there is none to fold into, with the reason.
    """
    if name is not None:
        layers = dict(model.named_modules())
        if name not in layers:
            close = [key for key, m in layers.items() if isinstance(m, (*CONVOLUTIONS, nn.Linear))]
            raise FormatError(f"the model has no layer {name!r}; it has {', '.join(close[:8])}")
        return Found(name, layers[name])
    graph = _traced(model)
    if isinstance(model, (*CONVOLUTIONS, nn.Linear)):
        return Found("", model)
    modules = dict(model.named_modules(remove_duplicate=False))
    source = _source(graph)
    node, steps = source, list[fx.Node]()
    while True:
        node = _only_consumer(node, modules)
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if module is not None and _is_layer(module):
            _check_once(node, graph, modules)
            return Found(str(node.target), module, steps, modules, source)
        _check_step(node, module, modules)
        steps.append(node)


def _traced(model: nn.Module) -> fx.Graph:
    """The graph of a module: of its parts too, else of its own `forward`."""
    inner = _WRAPPERS.get(type(model).__name__)
    if inner is not None:
        raise FormatError(
            f"{type(model).__name__} wraps the model; fold what is inside, model.{inner}, and wrap "
            "that again"
        )
    reason: Exception | None = None
    for leaves in (False, True):
        try:
            return _Tracer(leaves).trace(model)
        except Exception as error:  # whatever the model's own code raises at a proxy
            reason = reason or error
    raise FormatError(
        f"{type(model).__name__} cannot be traced by torch.fx ({_first_line(reason)}); name the "
        "layer that takes the raw input: layer='...'"
    ) from reason


class _Tracer(fx.Tracer):
    """With `leaves`, only containers are looked into."""

    def __init__(self, leaves: bool) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if self.leaves:
            return type(m).forward is not nn.Sequential.forward
        return super().is_leaf_module(m, module_qualified_name)


def _first_line(error: Exception | None) -> str:
    return str(error).strip().partition("\n")[0][:120]


def _source(graph: fx.Graph) -> fx.Node:
    inputs = [n for n in graph.nodes if n.op == "placeholder" and n.users]
    if len(inputs) != 1:
        names = ", ".join(map(str, inputs)) or "none"
        raise FormatError(
            f"the model uses {len(inputs)} inputs ({names}), and one is to be normalized; wrap it "
            f"in a module of that one, {_BY_NAME}"
        )
    return inputs[0]


def _only_consumer(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    users = [user for user in node.users if user.target not in _SHAPES and user.op != "output"]
    if any(user.op == "output" for user in node.users) or not users:
        raise FormatError(
            "the input reaches the output without a Linear or Conv layer to fold into"
        )
    if len(users) > 1:
        names = ", ".join(_called(user, modules) for user in users)
        raise FormatError(
            f"the raw input would reach {len(users)} consumers ({names}), of which folding changes "
            "one; normalize in front of the model instead: torch.nn.Sequential(norm.torch(), model)"
        )
    return users[0]


def _called(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "call_module":
        return f"{type(modules[str(node.target)]).__name__} {str(node.target)!r}"
    return getattr(node.target, "__name__", None) or str(node.target)


def _is_layer(module: nn.Module) -> bool:
    return type(module) in (*CONVOLUTIONS, nn.Linear)


def _check_once(node: fx.Node, graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    layer = modules[str(node.target)]
    again = [
        other
        for other in graph.nodes
        if other is not node and other.op == "call_module" and modules[str(other.target)] is layer
    ]
    weights = [n for n in graph.nodes if n.op == "get_attr" and _owner(n, modules) is layer]
    if again or weights:
        raise FormatError(
            f"{_called(node, modules)} is used {1 + len(again) + len(weights)} times, and only its "
            "first use sees the input; give the first use a copy of the layer"
        )


def _owner(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules.get(str(node.target).rpartition(".")[0])


def _check_step(node: fx.Node, module: nn.Module | None, modules: dict[str, nn.Module]) -> None:
    """Refuse what does not commute with an affine map."""
    what = _called(node, modules)
    if module is not None:
        _check_module(module, what)
    elif node.target in _AFFINE:
        raise FormatError(
            f"the model itself begins with {what}, which may be a normalization: folding another "
            "in would apply two; `zeromean check` tells for an exported model. Take it out first"
        )
    elif node.target in _KEEPS:
        if any(isinstance(a, torch.dtype) and not a.is_floating_point for a in _given(node)):
            raise FormatError(f"{what} makes integers of the normalized input; take it out first")
    elif node.target is nn.functional.dropout:
        if node.kwargs.get("training", True):
            raise FormatError(_DROPOUT.format(what))
    elif _called(node, modules) in _AS_FUNCTIONS:
        raise FormatError(
            f"{what} is called as a function, by a layer with arithmetic of its own or with "
            "weights that are computed; replace it by a plain layer of torch.nn"
        )
    elif node.target not in _MOVES:
        raise FormatError(
            f"the first operation on the input is {what}, which is no Linear or Conv layer and "
            f"does not let an affine map pass; normalize in front of the model instead, {_BY_NAME}"
        )


def _given(node: fx.Node) -> list[Any]:
    return [*node.args, *node.kwargs.values()]


_DROPOUT = "{} sets normalized values to 0 while training; call model.eval() first"


def _check_module(module: nn.Module, what: str) -> None:
    if isinstance(module, _DROPPING):
        if module.training and module.p:
            raise FormatError(_DROPOUT.format(what))
        return
    name = type(module).__name__
    if isinstance(module, _AVERAGING):
        padded = any(np.ravel(getattr(module, "padding", 0)))
        if (padded and getattr(module, "count_include_pad", True)) or getattr(
            module, "divisor_override", None
        ):
            raise FormatError(
                f"{what} averages in zeros of its own, which normalized are not the raw ones; use "
                "count_include_pad=False and no divisor_override"
            )
    elif isinstance(module, _LARGEST):
        if getattr(module, "return_indices", False):
            raise FormatError(f"{what} returns indices too; use return_indices=False")
    elif "Norm" in name:
        affine = name.startswith("BatchNorm")
        raise FormatError(
            f"{what} stands before the first layer"
            + (
                ", a normalization of its own that was trained; merge it into the layer behind it "
                "first, or normalize in front of the model"
                if affine
                else ", which is not affine: it measures every input; normalize in front of the "
                "model instead"
            )
        )
    elif not isinstance(module, _MOVING + PADDING):
        raise FormatError(_no_layer(module, what))


def _no_layer(module: nn.Module, what: str) -> str:
    if nn.utils.parametrize.is_parametrized(module):
        return (
            f"the weights of {what} are computed by a parametrization; make them plain first: "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        )
    base = next((b for b in (*CONVOLUTIONS, nn.Linear) if isinstance(module, b)), None)
    if "quant" in type(module).__module__ or "Quant" in type(module).__name__:
        return f"{what} has quantized weights; fold before quantizing"
    if base is not None:
        return (
            f"{what} is a {base.__name__} with arithmetic of its own, which folding does not know; "
            f"replace it by a plain torch.nn.{base.__name__} of the same weights"
        )
    return (
        f"the first operation on the input is {what}, which is no Linear or Conv layer and does "
        f"not let an affine map pass; normalize in front of the model instead, {_BY_NAME}"
    )
