"""ONNX: a model that normalizes and nothing else, or that stands in front of yours.

In float32 arithmetic, with the shift in two parts: off by at most 3.5 ulp of the result for 8- and
16-bit integers, also next to zero; `graphs.splitting` derives it, and the bound of raw floats, 4 u
of the result, is 8 ulp at the size of x and shift. Wider numbers are computed in float64 and
rounded once. Whitening of k features adds k products, (k + 3) u, of sums in which each difference
may be twice as large as x and shift: 2 (k + 3) ulp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.exporters.feeding import Fed, turned
from zeromean.exporters.forms import expected, form_of
from zeromean.exporters.targets import CannotRun, Made, Order, Target
from zeromean.graphs.building import build, planned
from zeromean.graphs.merging import merge
from zeromean.graphs.metadata import described
from zeromean.graphs.model_files import element_type, library, model_bytes
from zeromean.graphs.pictures import Axes, axes_of, in_layout
from zeromean.graphs.splitting import arithmetic_for, ulp_bound
from zeromean.graphs.walking import attribute

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
_TITLE = "an ONNX model"
_LAYOUTS = {"hwc": "nhwc", "chw": "nchw"}
_OURS = {"nhwc": "hwc", "nchw": "chw"}


@dataclass(frozen=True)
class InOnnx(Fed):
    """A normalizer in an ONNX model.

    Attributes
    ----------
    inner : str
        The tensor that holds normalized data, before it is cast to what a model takes.
    moved_inside : str
        The layout of that tensor.
    restored : bool
        Whether its channels are back in the order that was measured.
    """

    inner: str = ""
    moved_inside: str = ""
    restored: bool = False


def _make(norm: Normalizer, order: Order) -> Made:
    if norm.matrix is not None and order.channels not in ("", norm.units.channels):
        raise PatternError(
            "whitening mixes channels, and its numbers cannot be put into another order: measure "
            f"data with channels={order.channels!r}"
        )
    fed, own, layout, places = turned(norm, _TITLE, replace(order, layout=None))
    if order.layout is not None and own not in _LAYOUTS:
        raise PatternError(
            f"layout={order.layout!r} is about pictures with channels; the pattern "
            f"{str(norm.pattern)!r} has none"
        )
    dtype = norm.dtype if "," not in norm.dtype else "float64"  # columns of several dtypes
    turns = {"carried": norm, "own": own, "layout": order.layout or layout, "places": places}
    made = _alone if order.model is None else _in_front
    return made(fed, dtype, order, turns)


def _alone(norm: Normalizer, dtype: str, order: Order, turns: dict[str, Any]) -> Made:
    if ("...",) in norm.pattern.axes:
        raise PatternError(
            f"the pattern {str(norm.pattern)!r} fits any number of axes, and a file of its own has "
            "a fixed one: name them when measuring, or give the model to stand in front of"
        )
    layout = _LAYOUTS.get(order.layout or "")
    plan = planned(norm, input_dtype=dtype, layout_in=layout, layout_out=layout)
    model = build(norm, input_dtype=dtype, layout_in=layout)
    return InOnnx(
        model_bytes(model),
        model,
        f"{_expected(norm, plan.axes, order)}, as{_typed(norm, dtype)} input 'raw'",
        "float32, in the same layout, as output 'normalized'",
        bound=_bound(norm, dtype, plan.arithmetic),
        inner="normalized",
        moved_inside=order.layout or ("hwc" if plan.reduces else turns["layout"]),
        **turns,
    )


def _in_front(norm: Normalizer, dtype: str, order: Order, turns: dict[str, Any]) -> Made:
    layout = _LAYOUTS.get(order.layout or "")
    measured = turns["carried"].units.channels  # what the model was trained on
    model = merge(
        order.model,
        norm,
        input=order.input,
        input_dtype=dtype,
        layout=layout,
        model_layout=_LAYOUTS.get(order.model_layout or ""),
        channels=measured,
        reorder=True,
        force=order.force,
    )
    held = described(model)
    assert held is not None
    placed = held[1]
    gives = ", ".join(repr(value.name) for value in model.graph.output)
    said = norm.units.channels
    if measured and said != measured:
        turns["places"], turns["restored"] = tuple(map(measured.index, said)), True
    return InOnnx(
        model_bytes(model),
        model,
        f"{_expected(norm, axes_of(norm, placed['rank']), order)}, "
        f"as{_typed(norm, dtype)} input {placed['input']!r}",
        f"what the model gives: {gives}",
        bound=_bound(norm, dtype, arithmetic_for(dtype)),
        notes=_notes(placed, measured if turns.get("restored") else ""),
        inner=placed["normalized"],
        moved_inside=_OURS.get(placed["layout_inside"] or "", turns["layout"]),
        **turns,
    )


def _notes(placed: dict[str, Any], restored: str) -> tuple[str, ...]:
    """What the model is given, where that is not what one might think."""
    notes = []
    if restored:
        notes.append(f"the model is given {restored}, the order that was measured: swapped inside")
    if placed["takes"] != "float32":
        notes.append(f"normalized data is then cast to {placed['takes']}")
    if "already" in placed:
        notes.append(
            "normalized twice, as it was forced: the model itself does more to its input "
            f"({placed['already']})"
        )
    return tuple(notes)


def _expected(norm: Normalizer, axes: Axes, order: Order) -> str:
    names = in_layout(axes, axes.names, _LAYOUTS.get(order.layout or ""))
    return expected(norm, axes=" ".join(names))


def _typed(norm: Normalizer, dtype: str) -> str:
    return "" if dtype == norm.dtype else f" {dtype}"


def _bound(norm: Normalizer, dtype: str, arithmetic: str) -> float:
    if arithmetic == "float64":
        return 1.0
    if norm.matrix is not None:
        return 2.0 * (norm.shift.size + 3)
    bound = ulp_bound(norm, dtype, arithmetic) + (dtype == "bool")
    return 8.0 if math.isinf(bound) else math.ceil(bound * 100) / 100


# ---------------------------------------------------------------- running


def _run(made: Made, x: _Array) -> _Array:
    """Run the operators up to the normalized data."""
    assert isinstance(made, InOnnx)
    onnx = library()
    if ("...",) in made.carried.pattern.axes:
        raise CannotRun(f"probes cannot have as many axes as the model wants ({made.expects})")
    model = _up_to(onnx.load_from_string(made.content), made.inner)
    value = model.graph.input[0]
    if value.type.tensor_type.elem_type == element_type("bool"):  # probes lie between 0 and 1
        value.type.tensor_type.elem_type = element_type("float32")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if dtype.kind not in "biuf":
        raise CannotRun(f"runtimes take no {dtype} arrays from NumPy")
    raw = _with_channels(x, made) if made.restored else x
    y = _session(model)({value.name: made.there(raw).astype(dtype)})
    if made.carried.matrix is not None and len(made.carried.matrix) != made.carried.shift.size:
        y = y.transpose(0, 2, 3, 1) if made.moved_inside == "chw" and y.ndim == 4 else y
    else:
        places = () if made.restored else made.places
        y = replace(made, layout=made.moved_inside, places=places).back(y)
    return np.asarray(y) if raw is x else y.ravel()[: x.size].reshape(x.shape)


def _with_channels(x: _Array, made: InOnnx) -> _Array:
    """Where one number is for all, probes with as many channels as are swapped."""
    if form_of(made.carried).keeps != "one":
        return x
    n = len(made.places)
    pixels = np.resize(x, (-(-x.size // n), 1, 1, n))
    return pixels.transpose(0, 3, 1, 2) if made.own == "chw" else pixels


def _up_to(model: Any, inner: str) -> Any:
    """The part of a model that ends with a tensor, open in every axis that is not a constant's."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    last = producers[inner]
    cast = producers.get(last.input[0], last) if last.op_type == "Gather" else last
    if cast.op_type == "Cast" and attribute(cast, "to") != element_type("float32"):
        if cast is last:
            inner = cast.input[0]  # judged before it is rounded more
        else:
            last.input[0] = cast.input[0]
    kept, waiting = [], [inner]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node not in kept:
            kept.append(node)
            waiting += node.input
    read = {name for node in kept for name in node.input}
    nodes = [node for node in graph.node if node in kept]
    inputs = [value for value in graph.input if value.name in read]
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.input.extend(v for v in inputs if v.name not in {t.name for t in constants})
    for dim in graph.input[0].type.tensor_type.shape.dim:
        dim.Clear()
    graph.output.add(name=inner)
    return model


def _session(model: Any) -> Any:
    """A function that runs a model: by ONNX Runtime, or else by onnx itself."""
    try:
        import onnxruntime
    except ImportError:
        evaluator = library().reference.ReferenceEvaluator(model)
        return lambda feeds: evaluator.run(None, feeds)[0]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda feeds: session.run(None, feeds)[0]


TARGET = Target(
    "onnx",
    _TITLE,
    (".onnx",),
    _make,
    _run,
    library="onnxruntime" if find_spec("onnxruntime") else "onnx",
    options=frozenset({"layout", "channels", "model", "input", "model_layout", "force"}),
    text=False,
)
