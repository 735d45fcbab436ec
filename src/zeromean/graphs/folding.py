"""Folds a normalizer into the first layer of an ONNX model, which then takes raw data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import FormatError, PatternError
from zeromean.first_layer import (
    Columns,
    Entering,
    Folding,
    Lengths,
    Wanted,
    check_options,
    chosen,
    correction_map,
    entering,
    expectation,
    guesses,
    rounded,
)
from zeromean.graphs import metadata
from zeromean.graphs.editing import Editor
from zeromean.graphs.first_operations import Reached, first_layer
from zeromean.graphs.inspecting import chosen as chosen_input
from zeromean.graphs.model_files import library
from zeromean.graphs.verifying import verified
from zeromean.graphs.walking import Walk, attribute, dims_of, dtype_of
from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]
_OLDEST = 11  # of the opsets: Pad takes its amounts as inputs since then


def fold_model(
    model: Any,
    norm: Normalizer,
    *,
    layout: str | None = None,
    shape: Sequence[int] | None = None,
    border: str = "pad",
    input: str = "float",
    name: str | None = None,
    verify: bool = True,
) -> tuple[Any, Folding]:
    """A copy of an ONNX model that takes raw data, and a record of what was done.

    Parameters
    ----------
    model : onnx.ModelProto
        Opset 11 or newer; its first layer is a Conv, Gemm or MatMul. Not changed.
    norm : Normalizer
    layout, shape, border, input
        As for `zeromean.fold`.
    name : str, optional
        Of the model's input, where it has several.
    verify : bool
        Compare both by ONNX Runtime, if it is installed.

    Returns
    -------
    onnx.ModelProto
        Checked by onnx.checker; its metadata names the normalizer.
    Folding

    Raises
    ------
    FormatError
        When the model has no first layer to fold into, with the reason.
    PatternError
        When the normalizer's numbers do not fit the layer's inputs.
    """
    check_options(norm, border, input)
    _check_model(model)
    folded = library().ModelProto()
    folded.CopyFrom(model)
    if folded.functions:
        folded = library().inliner.inline_local_functions(folded)
    plan = _plan(folded, norm, layout, shape, border, name)
    record = _rewritten(folded, plan, border)
    if input == "uint8":
        Editor(folded).cast_input(plan.source, plan.dtype)
    placed = {"input": plan.source, "dtype": input if input == "uint8" else plan.dtype}
    record = _with_expectation(record, folded, plan, placed["dtype"])
    metadata.describe(folded, norm, "folded", layout=plan.layout, **placed)
    _check_result(folded, model)
    if verify:
        record = verified(record, model, folded, norm, plan.source, plan.start, plan.terms)
    return folded, record


def _with_expectation(record: Folding, folded: Any, plan: _Plan, dtype: str) -> Folding:
    """What the model must be given, in the record and beside its input."""
    said = expectation(plan.norm, plan.layout, len(plan.start.shape), dtype)
    value = next(v for v in folded.graph.input if v.name == plan.source)
    value.doc_string = f"raw {said}; normalized by the first layer"
    return replace(record, expects=f"{said}, as input {plan.source!r}")


def _check_model(model: Any) -> None:
    held = metadata.described(model)
    if held is not None:
        raise FormatError(
            f"the model holds a normalizer already ({held[0].recipe}, "
            f"{held[1].get('how', 'somewhere')}), so it takes raw data; fold into the model as it "
            "was before. `zeromean check norm.json --model model.onnx` shows what is inside"
        )
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if versions and versions[0] < _OLDEST:
        raise FormatError(
            f"the model has opset {versions[0]}, and folding needs {_OLDEST} or newer; convert it: "
            "onnx.version_converter.convert_version(model, 17)"
        )


# ---------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the numbers go; `open` when the input's size is not fixed by the model."""

    reached: Reached
    norm: Normalizer
    layout: str
    start: Entering
    state: Entering
    columns: Columns
    paddings: list[tuple[Any, Entering]]
    open: bool

    @property
    def source(self) -> str:
        return self.reached.source

    @property
    def dtype(self) -> str:
        return str(self.reached.held_weight.dtype.name)

    @property
    def terms(self) -> int:
        return int(self.reached.weight[0].size)

    @property
    def what(self) -> str:
        return self.reached.called


def _plan(
    model: Any,
    norm: Normalizer,
    layout: str | None,
    shape: Sequence[int] | None,
    border: str,
    name: str | None,
) -> _Plan:
    walk = Walk(model)
    try:
        value = chosen_input(walk, name)
    except PatternError as error:  # there, the input's name is given by another option
        said, cut, _ = str(error).partition("with input=")
        raise PatternError(f"{said}with name= (--input)" if cut else said) from None
    _check_input(value)
    reached = first_layer(walk, value.name)
    anywhere = border == "map" and reached.is_convolution
    lengths = _lengths(value, shape)
    total = None if reached.is_convolution else reached.weight.shape[1]

    def made(choice: str, known: Lengths) -> Any:
        start = entering(norm, choice, Wanted(_reduced(norm, known, choice), total))
        state, paddings = reached.enter(start)
        _check_width(reached, norm, start, state)
        if total is None:
            state.check_channels(reached.axis, reached.called)
        columns = state.columns(reached.axis, reached.called, anywhere=anywhere)
        return (start, state, paddings), columns

    channels = reached.weight.shape[1] * reached.groups if reached.is_convolution else None
    tried = guesses(lengths or (None,) * _rank(norm, reached), channels)
    (start, state, paddings), columns = chosen(made, norm, layout, tried, vary=anywhere)
    is_open = lengths is None or None in lengths[1:]
    return _Plan(reached, norm, start.layout, start, state, columns, paddings, is_open)


def _check_input(value: Any) -> None:
    if dtype_of(value) in ("uint8", "int8", "uint16", "int16"):
        raise FormatError(
            f"the model's input {value.name!r} is {dtype_of(value)}: it takes raw data as it is, "
            "and `zeromean check norm.json --model model.onnx` shows what it does to them"
        )
    if dtype_of(value) not in ("float16", "float32", "float64"):
        raise FormatError(
            f"the model's input {value.name!r} is {dtype_of(value) or 'no tensor'}, and a "
            "normalizer gives floats; export a model of float inputs"
        )


def _rank(norm: Normalizer, reached: Reached) -> int:
    """Of an input without a shape."""
    return 1 - reached.axis if ("...",) in norm.pattern.axes else len(norm.pattern.axes)


def _lengths(value: Any, shape: Sequence[int] | None) -> Lengths | None:
    """Of the input's axes: those of the graph, completed by those that were given."""
    dims = dims_of(value)
    held = None if dims is None else tuple(d if isinstance(d, int) else None for d in dims)
    if shape is None:
        return held
    given = (None, *(int(n) for n in shape))
    fits = held is None or (
        len(held) == len(given)
        and all(h in (None, g) for h, g in zip(held[1:], given[1:], strict=True))
    )
    if not fits:
        raise PatternError(f"shape is {tuple(shape)}, but the model takes {dims} (samples first)")
    return given


def _is_reduced(norm: Normalizer) -> bool:
    return norm.matrix is not None and norm.matrix.shape[0] != norm.matrix.shape[1]


def _reduced(norm: Normalizer, lengths: Lengths, layout: str) -> Lengths:
    """Lengths of the raw input: a matrix that leaves fewer features changes those of channels."""
    if not _is_reduced(norm):
        return lengths
    place = len(lengths) - (3 if layout == "chw" else 1)
    return (*lengths[:place], None, *lengths[place + 1 :])


def _check_width(reached: Reached, norm: Normalizer, start: Entering, state: Entering) -> None:
    wanted = reached.weight.shape[1] * reached.groups
    if _is_reduced(norm):
        _check_reduced(reached, norm, start, state)
    if state.index.ndim < -reached.axis:
        raise PatternError(
            f"{reached.called} wants inputs of {-reached.axis} axes or more, and gets "
            f"{state.index.ndim} for the pattern '{norm.pattern}'"
        )
    width = len(norm.offset) if _is_reduced(norm) else state.index.shape[reached.axis]
    if width != wanted:
        raise PatternError(
            f"{reached.called} has {wanted} inputs, and the normalizer's {norm.kept_shape} under "
            f"the pattern '{norm.pattern}' come to {width} (an input of shape {start.shape[1:]}); "
            "measure data of the model's kind, or give shape= (--shape)"
        )


def _check_reduced(reached: Reached, norm: Normalizer, start: Entering, state: Entering) -> None:
    straight = norm.pattern.kept == norm.pattern.axes[-1] and np.array_equal(
        start.index, state.index
    )
    if not straight or (start.layout == "chw") != reached.is_convolution:
        raise PatternError(
            f"the matrix leaves {len(norm.offset)} of {norm.shift.size} features, so the raw input "
            "has another shape than the model's; folding does that only where they are the "
            "layer's own input axis. Keep all components, or use zca"
        )


# ---------------------------------------------------------------- the change


def _rewritten(model: Any, plan: _Plan, border: str) -> Folding:
    """Change the copy; say what was done."""
    reached, editor = plan.reached, Editor(model)
    values: list[_Floats] = []
    for step, before in plan.paddings:
        pads = reached.pads_of(step, before.index.ndim)
        axis, raw = before.padding_axis(reached.value_of(step), step.op_type)
        editor.replace_padding(step, pads, axis, rounded(raw, plan.dtype, "padding"))
        values.append(raw)
    if reached.layer.op_type == "Gemm":
        _rewrite_gemm(editor, plan)
    elif reached.layer.op_type == "MatMul":
        _rewrite_matmul(editor, plan)
    else:
        pads = _pads_of(plan)
        if border == "map" and (any(map(any, pads)) or _varies(plan)):
            _rewrite_mapped(editor, plan, pads)
            return Folding.of(plan.norm, plan.what, plan.layout, "map")
        _rewrite_conv(editor, plan)
        raw = plan.columns.raw(0.0) if any(map(any, pads)) else np.zeros(1)
        if raw.any():
            full = [(0, 0), (0, 0), *pads]
            editor.pad_in_front(reached.layer, full, 1, rounded(raw, plan.dtype, "padding"))
            values.append(raw)
    if _is_reduced(plan.norm):
        editor.resize_input(plan.source, plan.start.shape)
    done = "pad" if values else "none"
    return Folding.of(plan.norm, plan.what, plan.layout, done, values[-1] if values else ())


def _rewrite_weights(editor: Editor, plan: _Plan) -> None:
    reached = plan.reached
    weight = plan.columns.weights(reached.weight, reached.groups)
    turned = reached.layer.op_type == "MatMul" or (
        reached.layer.op_type == "Gemm" and not attribute(reached.layer, "transB", 0)
    )
    held = rounded(weight.T if turned else weight, plan.dtype, "weights")
    editor.set_constant(reached.layer, 1, np.ascontiguousarray(held))


def _added(plan: _Plan) -> _Floats:
    """What the layer makes of raw zeros, without its own bias."""
    return plan.columns.bias(plan.reached.weight, None, plan.reached.groups)


def _bias_of(plan: _Plan) -> _Floats | None:
    node = plan.reached.layer
    if len(node.input) < 3 or not node.input[2]:
        return None
    held = plan.reached.walk.constant(node.input[2])
    if held is None:
        raise FormatError(f"the bias of {plan.what} is computed while the model runs")
    return held.astype(np.float64)


def _rewrite_conv(editor: Editor, plan: _Plan) -> None:
    bias, added = _bias_of(plan), _added(plan)
    _rewrite_weights(editor, plan)
    if bias is not None or added.any():
        total = added if bias is None else added + bias
        editor.set_constant(plan.reached.layer, 2, rounded(total, plan.dtype, "bias"))


def _rewrite_gemm(editor: Editor, plan: _Plan) -> None:
    """Y = alpha X B + beta C; C may have any shape that broadcasts."""
    node = plan.reached.layer
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    held, added = _bias_of(plan), alpha * _added(plan)
    _rewrite_weights(editor, plan)
    if held is None or beta == 0:
        editor.set_attribute(node, "beta", 1.0)
        total = added
    else:
        total = held + added / beta
    editor.set_constant(node, 2, rounded(total, plan.dtype, "bias"))


def _rewrite_matmul(editor: Editor, plan: _Plan) -> None:
    """The bias is that of an Add behind, or of a new one."""
    added, walk = _added(plan), plan.reached.walk
    _rewrite_weights(editor, plan)
    behind = _addition(walk, plan.reached.layer.output[0])
    if behind is not None:
        node, index, held = behind
        editor.set_constant(node, index, rounded(held + added, plan.dtype, "bias"))
    elif added.any():
        editor.add_behind(plan.reached.layer, rounded(added, plan.dtype, "bias"))


def _addition(walk: Walk, name: str) -> tuple[Any, int, _Floats] | None:
    """An Add of a constant row that alone reads a tensor: which of its inputs, and the row."""
    uses = [] if name in walk.outputs else walk.uses(name)
    if len(uses) != 1 or uses[0].node.op_type != "Add" or uses[0].inner:
        return None
    other = 1 - uses[0].index
    held = walk.constant(uses[0].node.input[other])
    if held is None or held.size != (held.shape[-1] if held.ndim else 1):
        return None
    return uses[0].node, other, held.astype(np.float64)


def _rewrite_mapped(editor: Editor, plan: _Plan, pads: list[tuple[int, int]]) -> None:
    if plan.open:
        raise PatternError(
            "border='map' makes a map for inputs of one size, and the model takes any; give "
            "shape=(3, 224, 224) (--shape 3,224,224) or another, or use border='pad' (--border pad)"
        )
    node, reached = plan.reached.layer, plan.reached
    spatial = len(pads)
    bias_map = correction_map(
        reached.weight,
        _bias_of(plan),
        plan.state.constant_image(),
        pads=pads,
        strides=list(attribute(node, "strides", [1] * spatial)),
        dilations=list(attribute(node, "dilations", [1] * spatial)),
        groups=reached.groups,
    )
    _rewrite_weights(editor, plan)
    editor.drop_bias(node)
    editor.set_pads(node, pads)
    editor.add_behind(node, rounded(bias_map[None], plan.dtype, "bias map"))
    editor.resize_input(plan.source, plan.start.shape)


def _varies(plan: _Plan) -> bool:
    """Whether shift or offset vary over places, as those of a mean image."""
    image = plan.state.constant_image()
    flat = image.reshape(len(image), -1)
    return bool((flat != flat[:, :1]).any())


def _pads_of(plan: _Plan) -> list[tuple[int, int]]:
    """What a convolution pads with zeros, (before, after) for each axis."""
    node, kernel = plan.reached.layer, plan.reached.weight.shape[2:]
    rank = len(kernel)
    mode = attribute(node, "auto_pad", b"NOTSET")
    if mode == b"VALID":
        return [(0, 0)] * rank
    if mode == b"NOTSET":
        pads = list(attribute(node, "pads", [0] * (2 * rank)))
        return list(zip(pads[:rank], pads[rank:], strict=True))
    strides = attribute(node, "strides", [1] * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    if plan.open and any(s != 1 for s in strides):
        raise FormatError(
            f"{plan.what} has auto_pad={mode.decode()} and a stride, so its padding depends on the "
            "size of the input, which the model leaves open; give shape= (--shape) to fix it"
        )
    pairs = []
    for n, k, s, d in zip(plan.state.index.shape[-rank:], kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if mode == b"SAME_UPPER" else (large, small))
    return pairs


# ---------------------------------------------------------------- checks


def _check_result(folded: Any, model: Any) -> None:
    """Run onnx.checker, and shape inference, on what was made."""
    onnx = library()
    if folded.ByteSize() >= 2**31:
        return  # the checker takes such models from a file only
    errors = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
    try:
        onnx.checker.check_model(folded, full_check=True)
    except errors as error:
        try:
            onnx.checker.check_model(model, full_check=True)
        except errors:
            return  # it was not valid before either, and is not made worse
        raise FormatError(f"the folded model is not valid: {error}") from error
