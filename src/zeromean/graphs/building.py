"""A normalizer as an ONNX graph: raw data in, float32 out, nearly correctly rounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, UnitError
from zeromean.graphs import metadata
from zeromean.graphs.model_files import TYPES, element_type, library
from zeromean.graphs.pictures import Axes, axes_of, in_layout, kept_places, order_between, spread_in
from zeromean.graphs.splitting import arithmetic_for, float32_scale, plain_shift, split

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
_OPSET = 17  # known to every runtime of the last years; the operators are the same in later ones
_IR = 8
_FLOATS = ("float32", "float64", "float16", "bfloat16")


@dataclass
class Nodes:
    """Operators in a row, each fed by the one before, and their constants.

    Attributes
    ----------
    prefix : str
        Of every name.
    current : str
        Name of the newest tensor.
    nodes, initializers : list
        Of onnx.NodeProto and onnx.TensorProto.
    """

    prefix: str
    current: str
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)

    def constant(self, name: str, values: _Array) -> str:
        """Keep numbers; the name that they got."""
        full = f"{self.prefix}{name}"
        self.initializers.append(library().numpy_helper.from_array(values, full))
        return full

    def add(self, operator: str, *constants: str, **attributes: Any) -> None:
        """Apply an operator to the newest tensor."""
        name = f"{self.prefix}{operator.lower()}{len(self.nodes)}"
        made = library().helper.make_node(
            operator, [self.current, *constants], [name], name=name, **attributes
        )
        self.nodes.append(made)
        self.current = name

    def end_as(self, name: str) -> None:
        """Call the newest tensor something else."""
        if not self.nodes:
            self.add("Identity")
        self.nodes[-1].output[0] = name
        self.current = name


@dataclass(frozen=True)
class Plan:
    """Everything that decides which operators a normalizer becomes.

    Attributes
    ----------
    norm : Normalizer
    axes : Axes
    input_dtype, output_dtype : str
    layout_in, layout_out : {"nhwc", "nchw"} or None
    arithmetic : {"float32", "float64"}
    """

    norm: Normalizer
    axes: Axes
    input_dtype: str
    output_dtype: str
    layout_in: str | None
    layout_out: str | None
    arithmetic: str

    @property
    def reduces(self) -> bool:
        """Whether a matrix leaves fewer features than there were."""
        return self.norm.matrix is not None and len(self.norm.matrix) != self.norm.shift.size


def build(
    norm: Normalizer,
    *,
    input_dtype: str | None = None,
    layout_in: str | None = None,
    layout_out: str | None = None,
    output_dtype: str = "float32",
    arithmetic: str | None = None,
    rank: int | None = None,
) -> Any:
    """A normalizer as an ONNX model of its own.

    Parameters
    ----------
    norm : Normalizer
    input_dtype : str, optional
        Of the raw data; what was measured unless given.
    layout_in, layout_out : {"nhwc", "nchw"}, optional
        Of pictures; as the pattern says unless given, and the result as the input.
    output_dtype : {"float32", "float64", "float16", "bfloat16"}
        The result is cast to it at the end.
    arithmetic : {"float32", "float64"}, optional
        float32, which every device has, unless the raw data does not fit into it. The result is
        then off by at most 3.5 units in the last place for integers, 1.5 where the scale is 1,
        also next to zero; `zeromean.graphs.splitting` derives it and the bound for floats. In
        float64, by at most 1. Whitening is a sum over features: (k + 3) 2⁻²⁴ Σ \\|matrix\\| \\|x -
        shift\\| for k features in float32.
    rank : int, optional
        How many axes the data has, for patterns with ``...``.

    Returns
    -------
    onnx.ModelProto
        Opset 17, with named open axes and the normalizer in its metadata.

    Raises
    ------
    PatternError
        When the numbers do not broadcast, or a layout is given for what is no picture.
    UnitError
        When an integer type cannot hold the raw data, or float32 the numbers.
    ImportError
        Without onnx, with what to install.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> from zeromean.graphs.building import build
    >>> pictures = np.array([[[[0, 8], [2, 6]]]], dtype=np.uint8)
    >>> model = build(zm.zero_mean(zm.measure(pictures, "n h w c -> c")))
    >>> [node.op_type for node in model.graph.node]
    ['Cast', 'Sub']
    >>> model.graph.doc_string
    'Expects raw uint8 (0..255), axes n h w c. Gives float32: zero_mean of it, axes n h w c.'
    """
    plan = planned(
        norm,
        input_dtype=input_dtype,
        layout_in=layout_in,
        layout_out=layout_out or layout_in,
        output_dtype=output_dtype,
        arithmetic=arithmetic,
        rank=rank,
    )
    nodes = nodes_of(plan, "raw", "normalized", prefix="zeromean_")
    return _model_of(plan, nodes)


def planned(
    norm: Normalizer,
    *,
    input_dtype: str | None = None,
    layout_in: str | None = None,
    layout_out: str | None = None,
    output_dtype: str = "float32",
    arithmetic: str | None = None,
    rank: int | None = None,
) -> Plan:
    """Check what was asked for; parameters and errors as for `build`."""
    from zeromean.normalizer import Normalizer

    if not isinstance(norm, Normalizer):
        raise PatternError(
            f"a graph needs numbers that are known beforehand; {type(norm).__name__} has none, or "
            "one set for each group. Give one Normalizer, which a recipe makes of a profile"
        )
    raw = norm.dtype if input_dtype is None else _name_of(input_dtype)
    if raw not in TYPES:
        raise PatternError(f"ONNX has no raw data of dtype {raw!r}; give input_dtype='float32'")
    _check_input(norm, raw)
    if output_dtype not in _FLOATS:
        raise PatternError(f"output_dtype is {output_dtype!r}; the choice is {', '.join(_FLOATS)}")
    arithmetic = arithmetic or ("float64" if output_dtype == "float64" else arithmetic_for(raw))
    if arithmetic not in ("float32", "float64"):
        raise PatternError(f"arithmetic is {arithmetic!r}; the choice is 'float32' or 'float64'")
    axes = axes_of(norm, rank)
    order_between(axes, layout_in, layout_out)
    return Plan(norm, axes, raw, output_dtype, layout_in, layout_out, arithmetic)


def _name_of(dtype: Any) -> str:
    return dtype if dtype in TYPES else str(np.dtype(dtype))


def _check_input(norm: Normalizer, raw: str) -> None:
    """Refuse integers that cannot hold the raw data: fractions, or values beyond their range."""
    if "float" in raw or raw == norm.dtype:
        return
    if "float" in norm.dtype and norm.units.range is None:
        raise UnitError(
            f"the normalizer was measured on {norm.dtype} data without a range, so {raw} input "
            "may be on another scale; measure with range=, or give input_dtype='float32'"
        )
    limits = (0, 1) if raw == "bool" else (np.iinfo(raw).min, np.iinfo(raw).max)
    low, high = norm.units.range or (-np.inf, np.inf)
    if norm.units.range is None:
        own = np.iinfo(norm.dtype)
        low, high = own.min, own.max
    if ("float" in norm.dtype and high <= 1) or low < limits[0] or high > limits[1]:
        raise UnitError(
            f"{raw} input cannot hold what was measured, {norm.dtype} from {low:g} to {high:g}; "
            f"give input_dtype={norm.dtype!r}, or measure {raw} data"
        )


# ---------------------------------------------------------------- operators


def nodes_of(plan: Plan, source: str, target: str, *, prefix: str) -> Nodes:
    """The operators between a raw tensor and the normalized one.

    Parameters
    ----------
    plan : Plan
    source, target : str
        Names of the two tensors.
    prefix : str
        Of all other names.

    Returns
    -------
    Nodes
    """
    nodes = Nodes(prefix, source)
    order = order_between(plan.axes, plan.layout_in, plan.layout_out)
    if order:
        nodes.add("Transpose", perm=list(order))
    if plan.input_dtype != plan.arithmetic:
        nodes.add("Cast", to=element_type(plan.arithmetic))
    _subtract(nodes, plan)
    if plan.norm.matrix is None:
        _divide(nodes, plan)
    else:
        _mix(nodes, plan, plan.norm.matrix)
    if plan.output_dtype != plan.arithmetic:
        nodes.add("Cast", to=element_type(plan.output_dtype))
    nodes.end_as(target)
    return nodes


def _subtract(nodes: Nodes, plan: Plan) -> None:
    """x - hi - lo, without the parts that are all zero."""
    norm = plan.norm
    pair: tuple[_Array, _Array] = (norm.shift, np.zeros_like(norm.shift))
    if norm.matrix is None:
        pair = plain_shift(norm)
    if plan.arithmetic == "float32":
        pair = split(*pair, plan.input_dtype)
    for name, part in zip(("shift", "shift_rest"), pair, strict=True):
        if part.any():
            nodes.add("Sub", nodes.constant(name, spread_in(plan.axes, part, plan.layout_out)))


def _divide(nodes: Nodes, plan: Plan) -> None:
    scale = plan.norm.scale
    if (scale == 1).all():
        return
    held = float32_scale(scale) if plan.arithmetic == "float32" else scale
    nodes.add("Div", nodes.constant("scale", spread_in(plan.axes, held, plan.layout_out)))


def _mix(nodes: Nodes, plan: Plan, matrix: _Array) -> None:
    """The product with a matrix: over channels where they are, else over rows of features."""
    axes = plan.axes
    if any(len(group) > 1 for group in axes.pattern.axes):
        raise PatternError(
            f"whitening under the pattern {str(axes.pattern)!r} would have to split an axis, "
            "whose length is open; measure with the axes apart"
        )
    held, offset = matrix.astype(plan.arithmetic), plan.norm.offset.astype(plan.arithmetic)
    kept = kept_places(axes, plan.layout_out)
    channels_first = axes.channel is not None and kept == (1,)
    if channels_first and plan.arithmetic == "float32" and _keeps_place(plan):
        constants = [nodes.constant("matrix", held[:, :, None, None])]
        if offset.any():
            constants.append(nodes.constant("offset", offset))
        nodes.add("Conv", *constants, kernel_shape=[1, 1])
        return
    _mix_rows(nodes, kept, plan, held, offset)


def _keeps_place(plan: Plan) -> bool:
    """Whether the result's features stay on the axis of the channels."""
    return not plan.reduces or plan.layout_out is not None


def _mix_rows(
    nodes: Nodes, kept: tuple[int, ...], plan: Plan, matrix: _Array, offset: _Array
) -> None:
    """Kept axes last and as one, the product, and back."""
    rank, shape = len(plan.axes.lengths), plan.norm.kept_shape
    others = [i for i in range(rank) if i not in kept]
    order = [*others, *kept]
    if order != list(range(rank)):
        nodes.add("Transpose", perm=order)
    if len(kept) != 1:
        nodes.add("Reshape", _shape(nodes, "rows", [0] * len(others) + [matrix.shape[1]]))
    nodes.add("MatMul", nodes.constant("matrix", np.ascontiguousarray(matrix.T)))
    if offset.any():
        nodes.add("Add", nodes.constant("offset", offset))
    if plan.reduces:
        if kept == (1,) and rank == 4 and _keeps_place(plan):
            nodes.add("Transpose", perm=[0, 3, 1, 2])
        return
    if len(kept) != 1:
        nodes.add("Reshape", _shape(nodes, "whole", [0] * len(others) + list(shape)))
    if order != list(range(rank)):
        nodes.add("Transpose", perm=sorted(range(rank), key=order.__getitem__))


def _shape(nodes: Nodes, name: str, lengths: list[int]) -> str:
    return nodes.constant(name, np.array(lengths, np.int64))


# ---------------------------------------------------------------- the model around them


def _model_of(plan: Plan, nodes: Nodes) -> Any:
    onnx = library()
    helper = onnx.helper
    raw = helper.make_tensor_value_info(
        "raw", element_type(plan.input_dtype), _dims(plan, plan.layout_in)
    )
    normalized = helper.make_tensor_value_info(
        nodes.current, element_type(plan.output_dtype), _dims_out(plan)
    )
    graph = helper.make_graph(
        nodes.nodes, "zeromean", [raw], [normalized], initializer=nodes.initializers
    )
    graph.doc_string = f"Expects {expectation(plan)}. Gives {_result(plan)}."
    graph.input[0].doc_string = expectation(plan)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
    )
    model.producer_name, model.doc_string = "zeromean", graph.doc_string
    tell(model, plan, "alone", "raw")
    onnx.checker.check_model(model, full_check=True)
    return model


def tell(model: Any, plan: Plan, how: str, source: str, **details: Any) -> None:
    """Write into a model what it holds."""
    layout = plan.layout_in or plan.axes.layout
    metadata.describe(
        model, plan.norm, how, input=source, dtype=plan.input_dtype, layout=layout, **details
    )


def expectation(plan: Plan) -> str:
    """What the raw input must be, in words: dtype, channels and range, axes."""
    names = " ".join(in_layout(plan.axes, plan.axes.names, plan.layout_in))
    units = plan.norm.units
    said = f" ({units})" if units.range is not None or units.channels else ""
    return f"raw {plan.input_dtype}{said}, axes {names}"


def _result(plan: Plan) -> str:
    names = plan.axes.names
    if plan.reduces and _dims_out(plan) != _dims(plan, plan.layout_out):
        names = tuple(str(d) for d in _dims_out(plan))
    else:
        names = in_layout(plan.axes, names, plan.layout_out)
    return f"{plan.output_dtype}: {plan.norm.recipe} of it, axes {' '.join(names)}"


def _dims(plan: Plan, layout: str | None) -> list[int | str]:
    pairs = zip(plan.axes.lengths, plan.axes.names, strict=True)
    dims = tuple(name if length is None else length for length, name in pairs)
    return list(in_layout(plan.axes, dims, layout))


def _dims_out(plan: Plan) -> list[int | str]:
    """Of the result: kept axes become one last one where a matrix leaves fewer features."""
    dims = _dims(plan, plan.layout_out)
    if not plan.reduces or plan.norm.matrix is None:
        return dims
    count = len(plan.norm.matrix)
    if plan.layout_out is not None and plan.axes.kept == (plan.axes.channel,):
        dims[1 if plan.layout_out == "nchw" else 3] = count
        return dims
    kept = kept_places(plan.axes, plan.layout_out)
    return [d for i, d in enumerate(dims) if i not in kept] + [count]
