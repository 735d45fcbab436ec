"""Changes an ONNX graph in place: constants, paddings, operators behind others, the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.graphs.model_files import element_type, library
from zeromean.graphs.walking import Walk, names_in

_Array = npt.NDArray[Any]


class Editor:
    """Edits the main graph of a model; every new tensor gets a name of its own.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.graph
        self._taken = names_in(model.graph)
        self._opset = next(
            (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1
        )
        model.ir_version = max(model.ir_version, 4)  # since then, initializers are no inputs

    # ------------------------------------------------------------ constants

    def set_constant(self, node: Any, index: int, values: _Array) -> None:
        """Let a node read a constant; its old one goes if nobody else reads it."""
        old = node.input[index] if index < len(node.input) else ""
        name = self.fresh(old or f"{node.output[0]}_bias")
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name
        self._add_initializer(name, values)
        self._drop_unread(old)

    def drop_bias(self, node: Any) -> None:
        """Take the third input away."""
        if len(node.input) > 2:
            old = node.input[2]
            del node.input[2:]
            self._drop_unread(old)

    def _add_initializer(self, name: str, values: _Array) -> str:
        tensor = library().numpy_helper.from_array(np.ascontiguousarray(values), name)
        self.graph.initializer.append(tensor)
        return name

    def _constant(self, stem: str, values: Any, dtype: Any) -> str:
        return self._add_initializer(self.fresh(stem), np.asarray(values, dtype))

    def _drop_unread(self, name: str) -> None:
        """Remove a constant that nobody reads, and what computed it."""
        walk = Walk(self.model)
        if not name or walk.uses(name) or name in walk.outputs:
            return
        for held in (self.graph.initializer, self.graph.input, self.graph.value_info):
            for entry in [e for e in held if e.name == name]:
                held.remove(entry)
        for node in [n for n in self.graph.node if name in n.output]:
            if not any(walk.uses(made) for made in node.output):
                self.graph.node.remove(node)
                for given in node.input:
                    self._drop_unread(given)

    def fresh(self, stem: str) -> str:
        """A name that nothing has, ending in "_folded"."""
        name = stem = f"{stem.replace('_folded', '')}_folded"
        count = 1
        while name in self._taken:
            count += 1
            name = f"{stem}{count}"
        self._taken.add(name)
        return name

    def set_attribute(self, node: Any, name: str, value: Any) -> None:
        """Set or, with None, remove an attribute."""
        for held in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(held)
        if value is not None:
            node.attribute.append(library().helper.make_attribute(name, value))

    # ------------------------------------------------------------ paddings

    def set_pads(self, node: Any, pads: Sequence[tuple[int, int]]) -> None:
        """Give a convolution explicit pads."""
        self.set_attribute(node, "auto_pad", None)
        self.set_attribute(node, "pads", [a for a, _ in pads] + [b for _, b in pads])

    def pad_in_front(
        self, node: Any, pads: Sequence[tuple[int, int]], axis: int, values: _Array
    ) -> None:
        """Let a convolution read a padded tensor, and pad nothing itself.

        Parameters
        ----------
        node : onnx.NodeProto
        pads : sequence of (before, after)
            Of every axis.
        axis : int
            Along which the values differ.
        values : ndarray
        """
        padded = self.fresh(f"{node.input[0]}_padded")
        made = self._padding(node.input[0], padded, pads, axis, values)
        self._insert(made, node)
        node.input[0] = padded
        self.set_pads(node, [(0, 0)] * (len(pads) - 2))

    def replace_padding(
        self, node: Any, pads: Sequence[tuple[int, int]], axis: int, values: _Array
    ) -> None:
        """Put paddings with other values in the place of a Pad."""
        self._insert(self._padding(node.input[0], node.output[0], pads, axis, values), node)
        rest = list(node.input[1:])
        self.graph.node.remove(node)
        for name in rest:
            self._drop_unread(name)

    def _padding(
        self, source: str, target: str, pads: Sequence[tuple[int, int]], axis: int, values: _Array
    ) -> list[Any]:
        """Pad takes one value, so channels of unlike values are padded each by itself."""
        make = library().helper.make_node
        flat = [a for a, _ in pads] + [b for _, b in pads]
        amounts = self._constant(f"{source}_pads", flat, np.int64)
        if (values == values[0]).all():
            value = self._constant(f"{source}_value", values[0], values.dtype)
            return [make("Pad", [source, amounts, value], [target], name=self.fresh("Pad"))]
        parts = [self.fresh(f"{source}_channel{i}") for i in range(len(values))]
        padded = [self.fresh(f"{source}_padded{i}") for i in range(len(values))]
        nodes = [self._split(source, parts, axis)]
        for part, out, value in zip(parts, padded, values, strict=True):
            held = self._constant(f"{source}_value", value, values.dtype)
            nodes.append(make("Pad", [part, amounts, held], [out], name=self.fresh("Pad")))
        joined = make("Concat", padded, [target], name=self.fresh("Concat"), axis=axis)
        return [*nodes, joined]

    def _split(self, source: str, parts: list[str], axis: int) -> Any:
        make, name = library().helper.make_node, self.fresh("Split")
        if self._opset < 13:
            ones = [1] * len(parts)
            return make("Split", [source], parts, name=name, axis=axis, split=ones)
        ones_name = self._constant(f"{source}_ones", [1] * len(parts), np.int64)
        return make("Split", [source, ones_name], parts, name=name, axis=axis)

    # ------------------------------------------------------------ operators and input

    def add_behind(self, node: Any, values: _Array) -> None:
        """Add a constant to what an operator gives."""
        target = node.output[0]
        before = self.fresh(f"{target}_product")
        node.output[0] = before
        held = self._add_initializer(self.fresh(f"{target}_bias"), values)
        added = library().helper.make_node("Add", [before, held], [target], name=self.fresh("Add"))
        place = list(self.graph.node).index(node)
        self.graph.node.insert(place + 1, added)

    def _insert(self, nodes: list[Any], before: Any) -> None:
        place = list(self.graph.node).index(before)
        for offset, node in enumerate(nodes):
            self.graph.node.insert(place + offset, node)

    def cast_input(self, name: str, dtype: str) -> None:
        """Let an input be uint8, and what reads it read floats of it.

        Parameters
        ----------
        name : str
        dtype : str
            Of the floats.
        """
        from zeromean.graphs.walking import rename

        value = next(v for v in self.graph.input if v.name == name)
        if value.type.tensor_type.elem_type == element_type("uint8"):
            return
        floats = self.fresh(f"{name}_float")
        rename(self.graph, name, floats)
        cast = library().helper.make_node(
            "Cast", [name], [floats], name=self.fresh("Cast"), to=value.type.tensor_type.elem_type
        )
        self.graph.node.insert(0, cast)
        value.type.tensor_type.elem_type = element_type("uint8")

    def resize_input(self, name: str, shape: Sequence[int]) -> None:
        """Fix the lengths of an input's axes, but for the first one.

        Parameters
        ----------
        name : str
        shape : sequence of int
            Its first entry is not looked at.
        """
        value = next(v for v in self.graph.input if v.name == name)
        dims = value.type.tensor_type.shape.dim
        for axis, length in enumerate(shape):
            if axis and axis < len(dims):
                dims[axis].dim_value = length
