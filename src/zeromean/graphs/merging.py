"""Puts a normalizer in front of an existing ONNX model, so that the model takes raw data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zeromean.errors import PatternError, UnitError
from zeromean.graphs.building import Plan, expectation, nodes_of, planned, tell
from zeromean.graphs.inspecting import Inside, inspect, layout_told
from zeromean.graphs.model_files import element_type, library, read_model
from zeromean.graphs.pictures import axes_of, in_layout, nameless, order_between
from zeromean.graphs.walking import Walk, dims_of, dtype_of, names_in, rename
from zeromean.normalizer import Normalizer

_OLDEST = 7  # since this opset, arithmetic broadcasts as NumPy does
_NEWER = 13  # to which older models are converted
_CONSTANTS_APART = 4  # since this IR version, initializers need not be inputs as well
_LOOK = "look with `zeromean check norm.json --model model.onnx`"
_FLOATS = ("float32", "float64", "float16", "bfloat16")


def merge(
    model: Any,
    norm: Normalizer,
    *,
    input: str | None = None,
    input_dtype: str | None = None,
    layout: str | None = None,
    model_layout: str | None = None,
    channels: str = "",
    reorder: bool = False,
    arithmetic: str | None = None,
    force: bool = False,
) -> Any:
    """A model that takes raw data: a normalizer, and then the model that is given.

    The new input has the name of the old one where that is possible; all other inputs, outputs,
    open axes, operators and versions stay as they are. What goes in front are operators that mean
    the same in every version of ONNX since opset 7; only older models are converted.

    Parameters
    ----------
    model : path or onnx.ModelProto
        Takes normalized floats. It is not changed.
    norm : Normalizer
    input : str, optional
        Which input takes the normalized data; may be left out where only one can be meant.
    input_dtype : str, optional
        Of the raw data; what was measured unless given, such as uint8.
    layout : {"nhwc", "nchw"}, optional
        Of the raw pictures; as the normalizer's pattern says unless given. Where the model has
        the other one, the pictures are transposed inside, while they are still small integers.
    model_layout : {"nhwc", "nchw"}, optional
        Of the pictures that the model takes; needed only where neither its shapes nor its first
        layer tell.
    channels : str, optional
        The channel order that the model wants, such as "RGB". Refused where the normalizer is
        known to have another one, unless `reorder` is set.
    reorder : bool
        Bring the channels into the model's order.
    arithmetic : {"float32", "float64"}, optional
        As for `zeromean.graphs.building.build`.
    force : bool
        Also where the model normalizes by itself already.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    PatternError
        When numbers and input do not fit, or it is not clear which input or layout is meant.
    UnitError
        When the model normalizes already, takes integers, or wants other channels.
    FormatError, SourceError
        When the file cannot be read.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> import zeromean as zm
    >>> from zeromean.graphs.merging import merge
    >>> pictures = np.array([[[[0, 8], [2, 6]]]], dtype=np.uint8)
    >>> norm = zm.zero_mean(zm.measure(pictures, "n h w c -> c"))
    >>> net = onnx.parser.parse_model('''
    ...     <ir_version: 8, opset_import: ["" : 17]>
    ...     net (float[n, 2, h, w] x) => (float[n, 2, 1, 1] y) { y = GlobalAveragePool(x) }''')
    >>> served = merge(net, norm)
    >>> [node.op_type for node in served.graph.node]
    ['Transpose', 'Cast', 'Sub', 'GlobalAveragePool']
    >>> served.graph.input[0].name, served.graph.input[0].doc_string
    ('x', 'raw uint8 (0..255), axes n h w c; normalized inside')
    """
    merged = library().ModelProto()
    merged.CopyFrom(read_model(model))
    merged = _recent(merged)
    inside = inspect(merged, input, fits=lambda value: could_take(norm, value))
    if not force:
        _refuse_twice(inside)
    plan = _plan(norm, inside, input_dtype, layout, model_layout, arithmetic)
    swap = _reordering(norm, plan, channels, reorder)
    raw, normalized = _put_in_front(merged, plan, inside, swap)
    layout = plan.layout_out or plan.axes.layout
    details = {"normalized": normalized, "layout_inside": layout, "takes": plan.output_dtype}
    already = _by_itself(inside)
    if already:
        details["already"] = already
    tell(merged, plan, "in front", raw, rank=len(plan.axes.lengths), **details)
    return merged


def _recent(model: Any) -> Any:
    """The model itself, or converted where its operators do not broadcast yet."""
    onnx = library()
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions:  # only operators of others, or a model so old that it does not say
        model.opset_import.append(onnx.helper.make_opsetid("", _NEWER))
    version = max(versions, default=_NEWER)
    if version >= _OLDEST:
        return model
    try:
        return onnx.version_converter.convert_version(model, _NEWER)
    except Exception as error:  # of C++; whatever it is, the model cannot be used
        raise PatternError(
            f"the model is of opset {version}, and cannot be converted to {_NEWER} ({error}); "
            "export it again with a newer one"
        ) from None


def _by_itself(inside: Inside) -> str:
    """What a model does to its input by itself, in a phrase; empty where it does nothing."""
    if inside.held is not None:
        held, placement = inside.held
        return f"{held.recipe}, which zeromean has put {placement.get('how', 'somewhere')}"
    if not inside.changes:
        return ""
    if inside.rescales:
        return f"a factor of {inside.gain.flat[0]:.6g}"
    return f"{', '.join(inside.steps)} before {inside.first or 'its output'}"


def could_take(norm: Normalizer, value: Any, *, integers: bool = False) -> bool:
    """Whether an input may be the one that is meant, by dtype, number of axes and lengths."""
    dims, dtype = dims_of(value), dtype_of(value)
    if dtype not in _FLOATS and not (integers and dtype):
        return False
    if dims is None:
        return True
    try:
        axes = axes_of(norm, len(dims))
    except PatternError:
        return False
    orders = [axes.lengths]
    if axes.layout is not None:
        orders = [in_layout(axes, axes.lengths, layout) for layout in ("nhwc", "nchw")]
    return any(_fits(dims, lengths) for lengths in orders)


def _fits(dims: tuple[Any, ...], lengths: tuple[int | None, ...]) -> bool:
    pairs = zip(dims, lengths, strict=True)
    return all(not isinstance(d, int) or n is None or d == n for d, n in pairs)


# ---------------------------------------------------------------- refusals


def _refuse_twice(inside: Inside) -> None:
    """Not in front of a model that normalizes."""
    again = "; pass force=True (--force) to normalize all the same"
    if inside.held is not None:
        held, placement = inside.held
        raise UnitError(
            f"the model holds a normalizer of zeromean already ({held.recipe}, "
            f"{placement.get('how', 'somewhere')}), so data would be normalized twice{again}"
        )
    if "int" in inside.dtype or inside.dtype == "bool":
        raise UnitError(
            f"the model's input {inside.name!r} takes {inside.dtype}, which no normalized data is: "
            f"it seems to normalize by itself; {_LOOK}, or export the model again with a float "
            "input"
        )
    if inside.rescales:
        raise UnitError(
            f"the model multiplies its input {inside.name!r} by {inside.gain.flat[0]:.6g} itself, "
            f"so it wants raw data and not normalized data; remove that operator{again}"
        )
    if inside.changes:
        raise UnitError(
            f"the model normalizes its input {inside.name!r} already ({', '.join(inside.steps)} "
            f"before {inside.first or 'its output'}), so data would be normalized twice; "
            f"{_LOOK}{again}"
        )


def _plan(
    norm: Normalizer,
    inside: Inside,
    input_dtype: str | None,
    layout: str | None,
    model_layout: str | None,
    arithmetic: str | None,
) -> Plan:
    if inside.dtype not in _FLOATS:
        raise UnitError(
            f"the model's input {inside.name!r} takes {inside.dtype or 'no tensor'}, and a "
            "normalizer gives floats; export the model again with a float input"
        )
    rank = len(norm.pattern.axes) if inside.dims is None else len(inside.dims)
    if inside.dims is not None and rank < 2:
        raise PatternError(
            f"the model's input {inside.name!r} has {rank} axes, and needs 2 or more"
        )
    axes = axes_of(norm, rank)
    if axes.layout is not None and model_layout is None:
        model_layout = _told_layout(norm, inside, layout)
    plan = planned(
        norm,
        input_dtype=input_dtype,
        layout_in=layout,
        layout_out=model_layout,
        output_dtype=inside.dtype,
        arithmetic=arithmetic,
        rank=rank,
    )
    if axes.layout is not None and model_layout is None:
        plan = replace(plan, axes=nameless(axes))
    if plan.reduces:
        plan = _reduced(plan, inside)
    else:
        _check_lengths(plan, inside, in_layout(axes, axes.lengths, model_layout))
    return plan


def _reduced(plan: Plan, inside: Inside) -> Plan:
    """With a matrix that leaves fewer features: only where these stay on an axis of their own."""
    channels = plan.axes.channel is not None and plan.axes.kept == (plan.axes.channel,)
    rows = len(plan.axes.lengths) == 2 and plan.axes.kept == (1,)
    if not (channels or rows) or plan.norm.matrix is None:
        raise PatternError(
            f"whitening under the pattern {str(plan.norm.pattern)!r} gives rows of features, and "
            f"the model takes {inside.shown}; merge with a model that takes rows"
        )
    count = len(plan.norm.matrix)
    own = [count if i in plan.axes.kept else n for i, n in enumerate(plan.axes.lengths)]
    lengths = in_layout(plan.axes, tuple(own), plan.layout_out) if channels else tuple(own)
    _check_lengths(plan, inside, lengths)
    return replace(plan, layout_out=plan.layout_out or plan.axes.layout)


def _told_layout(norm: Normalizer, inside: Inside, layout: str | None) -> str | None:
    told = layout_told(norm, inside)
    if told is not None or (not norm.pattern.kept and layout is None):
        return told  # with one number for all, nothing depends on the layout
    raise PatternError(
        f"the model's input {inside.name!r} is {inside.shown}, and where its channels are is "
        "not clear: say so with model_layout= (--model-layout)"
    )


def _check_lengths(plan: Plan, inside: Inside, lengths: tuple[int | None, ...]) -> None:
    """The model's axes have the lengths of what the normalizer gives."""
    if inside.dims is None or _fits(inside.dims, lengths):
        return
    norm = plan.norm
    where = next(
        i
        for i, (d, n) in enumerate(zip(inside.dims, lengths, strict=True))
        if isinstance(d, int) and n is not None and d != n
    )
    name = in_layout(plan.axes, plan.axes.names, plan.layout_out)[where]
    what = "channels" if name == "c" else f"entries along {name!r}"
    raise PatternError(
        f"the model's input {inside.name!r} is {inside.shown}, with {inside.dims[where]} {what}, "
        f"but the normalizer has {lengths[where]}; measure the data that the model was trained on, "
        f"as {_likely(norm)}"
    )


def _likely(norm: Normalizer) -> str:
    return f"the model takes it, with the pattern {str(norm.pattern)!r}"


def _reordering(norm: Normalizer, plan: Plan, channels: str, reorder: bool) -> list[int] | None:
    """How to bring the channels into the model's order; None where they are."""
    own = norm.units.channels
    if not channels or own == channels:
        return None
    if not own:
        raise UnitError(
            f"the model wants {channels}, but the normalizer does not say which order its "
            f"channels have; measure with channels={channels!r}"
        )
    if sorted(own) != sorted(channels):
        raise UnitError(
            f"the model wants {channels}, but the normalizer was measured on {own}; measure "
            f"{channels} data"
        )
    if not reorder:
        raise UnitError(
            f"the model wants {channels}, but the normalizer was measured on {own}; pass "
            f"reorder=True, and the model takes raw {own} and swaps the channels inside"
        )
    if norm.matrix is not None:
        raise PatternError("only the channels of pictures that are not whitened can be reordered")
    if plan.axes.channel is None:
        raise PatternError(
            f"to bring {own} into the order {channels}, it must be clear where the model's "
            "channels are: say so with model_layout= (--model-layout)"
        )
    return [own.index(name) for name in channels]


# ---------------------------------------------------------------- surgery


def _put_in_front(
    model: Any, plan: Plan, inside: Inside, swap: list[int] | None
) -> tuple[str, str]:
    """The new operators, the new input, and everybody who read the old one on the new tensor.

    Returns the names of the raw tensor and the normalized one.
    """
    onnx, graph = library(), model.graph
    taken = names_in(graph)
    prefix = _free("zeromean_", taken)
    walk = Walk(model)
    passes = inside.name in walk.outputs  # an output of this name must keep it
    raw = _free(f"{inside.name}_raw", taken, exact=True) if passes else inside.name
    inner = inside.name if passes else f"{prefix}normalized"
    value = next(v for v in graph.input if v.name == inside.name)
    described = onnx.ValueInfoProto()
    described.CopyFrom(value)
    described.name = inner
    if not passes:
        rename(graph, inside.name, inner)
    nodes = nodes_of(plan, raw, inner, prefix=prefix)
    if swap is not None:
        _swap_channels(nodes, plan, swap, inner)
    made = [*_constants(model, nodes), *nodes.nodes]
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*made, *kept])
    if not passes and inside.dims is not None:
        graph.value_info.append(described)
    _become_raw(value, raw, plan, inside)
    return raw, inner


def _swap_channels(nodes: Any, plan: Plan, swap: list[int], target: str) -> None:
    import numpy as np

    axis = 1 if (plan.layout_out or plan.axes.layout) == "nchw" else 3
    nodes.end_as(f"{nodes.prefix}unordered")
    nodes.add("Gather", nodes.constant("order", np.array(swap, np.int64)), axis=axis)
    nodes.end_as(target)


def _constants(model: Any, nodes: Any) -> list[Any]:
    """Initializers, or operators that make them, where initializers would have to be inputs."""
    if model.ir_version >= _CONSTANTS_APART:
        model.graph.initializer.extend(nodes.initializers)
        return []
    make = library().helper.make_node
    return [make("Constant", [], [t.name], name=t.name, value=t) for t in nodes.initializers]


def _become_raw(value: Any, name: str, plan: Plan, inside: Inside) -> None:
    """Turn the description of the old input into that of the raw one; open axes stay open."""
    lengths = in_layout(plan.axes, plan.axes.lengths, plan.layout_in)
    names = in_layout(plan.axes, plan.axes.names, plan.layout_in)
    dims: list[Any] = [n if n is not None else s for n, s in zip(lengths, names, strict=True)]
    back = order_between(plan.axes, plan.layout_out, plan.layout_in)
    if inside.dims is not None:
        given = [inside.dims[i] for i in back] if back else list(inside.dims)
        dims = [n if n is not None else d for n, d in zip(lengths, given, strict=True)]
    info = library().helper.make_tensor_value_info(name, element_type(plan.input_dtype), dims)
    value.CopyFrom(info)
    value.doc_string = f"{expectation(plan)}; normalized inside"


def _free(wanted: str, taken: set[str], *, exact: bool = False) -> str:
    """A name, or prefix of names, that nothing in the graph has."""
    count, name = 1, wanted
    while any(t == name if exact else t.startswith(name) for t in taken):
        count += 1
        name = f"{wanted.rstrip('_')}{count}" + ("" if exact else "_")
    return name
