"""Finds its way in an ONNX model: real inputs, who reads a tensor, what is constant."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.graphs.model_files import dtype_name, library

_Array = npt.NDArray[Any]
_MOST_CONSTANT = 1 << 26  # numbers; larger constants are weights, not operands to work out

_BROADCASTING = frozenset("Add Sub Mul Div Pow Max Min Sum Where".split())
#: Operators on constants that are run to know their result.
_WORKED_OUT = _BROADCASTING | frozenset(
    "Constant ConstantOfShape Identity Cast CastLike Reshape Unsqueeze Squeeze Transpose Flatten "
    "Concat Slice Split Gather Expand Neg Sqrt Reciprocal Abs Exp Log Shape".split()
)
#: Operators that change values, but no axes: on the way to the first one that tells the layout.
_ELEMENTWISE = frozenset(
    "Cast CastLike Identity Sub Add Mul Div Neg Sqrt Pow Clip Relu Dropout QuantizeLinear "
    "DequantizeLinear Pad Resize Upsample LeakyRelu Sigmoid Tanh".split()
)
#: Operators whose input has its channels on axis 1, always.
_CHANNELS_FIRST = frozenset(
    "Conv ConvInteger QLinearConv ConvTranspose MaxPool AveragePool GlobalAveragePool "
    "BatchNormalization InstanceNormalization".split()
)


@dataclass(frozen=True, eq=False)
class Use:
    """One place where a tensor is read.

    Attributes
    ----------
    node : onnx.NodeProto
        Of the main graph.
    index : int
        Which of its inputs; -1 where a graph inside the node reads it.
    """

    node: Any
    index: int

    @property
    def inner(self) -> bool:
        """Whether a graph inside the node reads the tensor, as in If and Loop."""
        return self.index < 0


class Walk:
    """An index of a model's main graph.

    Parameters
    ----------
    model : onnx.ModelProto
        Not changed.

    Attributes
    ----------
    initializers : dict of str to onnx.TensorProto
    producers : dict of str to onnx.NodeProto
        By the name of the tensor.
    outputs : frozenset of str
        Names of the graph's outputs.
    """

    def __init__(self, model: Any) -> None:
        graph = model.graph
        self._graph = graph
        self._opsets = {o.domain: o.version for o in model.opset_import}
        self.initializers = {t.name: t for t in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.outputs = frozenset(value.name for value in graph.output)
        self._uses: dict[str, list[Use]] = defaultdict(list)
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name:
                    self._uses[name].append(Use(node, index))
            for name in dict.fromkeys(captured(node)):
                self._uses[name].append(Use(node, -1))
        self._constants: dict[str, _Array | None] = {}

    def inputs(self) -> list[Any]:
        """Inputs that a caller must give: not those that are initializers as well (old models)."""
        sparse = {t.values.name for t in self._graph.sparse_initializer}
        held = self.initializers.keys() | sparse
        return [value for value in self._graph.input if value.name not in held]

    def uses(self, name: str) -> list[Use]:
        """Every place where a tensor is read, in order; graph outputs apart."""
        return self._uses.get(name, [])

    def constant(self, name: str) -> _Array | None:
        """The value of a tensor that does not depend on any input; None if it does.

        Initializers are read, and operators on constants are run by `onnx.reference`.
        """
        if name not in self._constants:
            self._constants[name] = None  # a broken model with a cycle ends here
            self._constants[name] = self._worked_out(name)
        return self._constants[name]

    def _worked_out(self, name: str) -> _Array | None:
        if name in self.initializers:
            tensor = self.initializers[name]
            if int(np.prod(tensor.dims, dtype=np.int64)) > _MOST_CONSTANT:
                return None
            return np.asarray(library().numpy_helper.to_array(tensor))
        node = self.producers.get(name)
        if node is None or node.op_type not in _WORKED_OUT or node.domain not in ("", "ai.onnx"):
            return None
        operands = {given: self.constant(given) for given in node.input if given}
        if any(value is None for value in operands.values()) or _too_large(node, operands):
            return None
        return self._run(node, operands)[list(node.output).index(name)]

    def _run(self, node: Any, operands: dict[str, Any]) -> list[_Array | None]:
        """Run one operator; nothing where the reference does not know it."""
        try:
            return list(self.run(node, operands))
        except Exception:  # whatever an unusual operator raises: it is no constant that we know
            return [None] * len(node.output)

    def run(self, node: Any, operands: dict[str, _Array]) -> list[_Array]:
        """What an operator makes of arrays, by `onnx.reference`; raises whatever that does.

        Parameters
        ----------
        node : onnx.NodeProto
        operands : dict of str to ndarray
            By the names of its inputs.
        """
        onnx = library()
        opsets = [onnx.helper.make_opsetid(domain, v) for domain, v in self._opsets.items()]
        single = onnx.helper.make_function(  # a node alone would be read as of the newest opset
            "zeromean", "step", list(operands), list(node.output), [node], opsets
        )
        results = onnx.reference.ReferenceEvaluator(single).run(None, operands, attributes={})
        return [np.asarray(result) for result in results]


def _too_large(node: Any, operands: dict[str, Any]) -> bool:
    """Whether a result would be larger than any operand of a normalization: a trap, or weights."""
    given = [operands[name] for name in node.input if name]
    sizes = [int(value.size) for value in given]
    if node.op_type == "ConstantOfShape":
        size = math.prod(int(n) for n in given[0].ravel())
    elif node.op_type == "Expand":
        size = sizes[0] * math.prod(int(n) for n in given[1].ravel())
    elif node.op_type == "Gather":
        size = sizes[0] * sizes[1]
    elif node.op_type in _BROADCASTING:
        try:
            size = math.prod(np.broadcast_shapes(*(value.shape for value in given)))
        except ValueError:
            return True
    else:
        size = sum(sizes)
    return size > _MOST_CONSTANT


def _graphs_of(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured(node: Any) -> Iterator[str]:
    """Tensors of outer graphs that the graphs inside a node read."""
    for graph in _graphs_of(node):
        own = {value.name for value in graph.input} | {t.name for t in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        for inner in graph.node:
            for name in (*inner.input, *captured(inner)):
                if name and name not in own:
                    yield name
        yield from (value.name for value in graph.output if value.name not in own)


def rename(graph: Any, old: str, new: str) -> None:
    """Let every reader of a tensor read another one, graphs inside nodes too.

    Parameters
    ----------
    graph : onnx.GraphProto
        Changed. Its inputs and outputs keep their names.
    old, new : str
    """
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for inner in _graphs_of(node):
            own = {value.name for value in inner.input} | {t.name for t in inner.initializer}
            if old in own or any(old in n.output for n in inner.node):
                continue  # its own tensor of this name
            rename(inner, old, new)
            for value in inner.output:
                if value.name == old:
                    value.name = new
    for annotation in graph.quantization_annotation:
        if annotation.tensor_name == old:
            annotation.tensor_name = new


def names_in(graph: Any) -> set[str]:
    """Every name of a tensor or node, graphs inside nodes too."""
    names = {v.name for group in (graph.input, graph.output, graph.value_info) for v in group}
    names |= {t.name for t in graph.initializer}
    for node in graph.node:
        names |= {node.name, *node.input, *node.output}
        for inner in _graphs_of(node):
            names |= names_in(inner)
    return names - {""}


# ---------------------------------------------------------------- shapes


def dims_of(value: Any) -> tuple[int | str | None, ...] | None:
    """Lengths of a tensor's axes: a number, a name, or None for neither; None without a shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim
    )


def dtype_of(value: Any) -> str:
    """Of a graph's input or output, such as "float32"; empty where it is no tensor."""
    if not value.type.HasField("tensor_type"):
        return ""
    return dtype_name(value.type.tensor_type.elem_type)


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    for held in node.attribute:
        if held.name == name:
            return library().helper.get_attribute_value(held)
    return default


def channel_axis(walk: Walk, name: str) -> int | None:
    """Which axis of a tensor the channels are on, as its first readers have it.

    Follows the tensor through operators that leave its axes alone, and transpositions, to one
    that has its channels on axis 1 by definition, such as Conv. None where that does not tell.

    Parameters
    ----------
    walk : Walk
    name : str

    Returns
    -------
    int or None
    """
    waiting: list[tuple[str, tuple[int, ...] | None]] = [(name, None)]
    seen = {name}
    while waiting:
        current, order = waiting.pop(0)
        for use in walk.uses(current):
            kind = use.node.op_type
            if kind in _CHANNELS_FIRST and use.index == 0:
                return 1 if order is None else order[1] if len(order) > 1 else None
            after = order
            if kind == "Transpose":
                moved = tuple(attribute(use.node, "perm", ()))
                if not moved or (order is not None and len(moved) != len(order)):
                    continue
                after = moved if order is None else tuple(order[i] for i in moved)
            elif kind not in _ELEMENTWISE:
                continue
            if use.node.output[0] not in seen:
                seen.add(use.node.output[0])
                waiting.append((use.node.output[0], after))
    return None
