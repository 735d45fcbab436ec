"""What a model does to an input before its first layer: which normalization is inside already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.graphs import metadata
from zeromean.graphs.affine_steps import Dims, State, after, joined, picked, start
from zeromean.graphs.model_files import library
from zeromean.graphs.pictures import axes_of
from zeromean.graphs.walking import Use, Walk, attribute, channel_axis, dims_of, dtype_of

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_BY_SAMPLE = frozenset(
    "InstanceNormalization LayerNormalization GroupNormalization MeanVarianceNormalization "
    "LpNormalization".split()
)


@dataclass(frozen=True, eq=False)
class Inside:
    """What a model does to one of its inputs before the first layer: y = gain x + bias.

    Attributes
    ----------
    name, dtype : str
        Of the input.
    dims : tuple or None
        Lengths or names of its axes.
    channel : int or None
        Which axis the channels are on, where the layers tell.
    gain, bias : ndarray of float64
        Broadcast against the input.
    steps : tuple of str
        Operators that make up gain and bias.
    order : tuple of int
        Which channel of the input each channel of the first layer is; empty if unchanged.
    first : str
        The operator that comes next, such as "Conv"; empty if there is none.
    learned : tuple of two ndarrays, or None
        Where that is a BatchNormalization: its running mean and std, in units of the input.
    by_sample : str
        Where it normalizes each sample by itself: the operator.
    held : tuple of Normalizer and dict, or None
        What zeromean wrote into the model about a normalizer, and where it is.
    behind : Inside or None
        Where that normalizer stands in front of a model: what the model does after it. Gain and
        bias are then those of the normalizer alone.
    """

    name: str
    dtype: str
    dims: Dims
    channel: int | None
    gain: _Floats
    bias: _Floats
    steps: tuple[str, ...]
    order: tuple[int, ...]
    first: str
    learned: tuple[_Floats, _Floats] | None
    by_sample: str
    held: tuple[Normalizer, dict[str, Any]] | None = None
    behind: Inside | None = None

    @property
    def shown(self) -> str:
        """dtype and axes, for messages."""
        if self.dims is None:
            return f"{self.dtype} of unknown shape"
        return f"{self.dtype} [{', '.join('?' if d is None else str(d) for d in self.dims)}]"

    @property
    def changes(self) -> bool:
        """Whether values are changed at all before the first layer."""
        return bool((self.gain != 1).any() or self.bias.any())

    @property
    def rescales(self) -> bool:
        """Whether values are only multiplied by one number."""
        one = (self.gain == self.gain.flat[0]).all() and not self.bias.any()
        return bool(self.changes and one)

    @property
    def shift(self) -> _Floats:
        """What is subtracted, in units of the input: y = (x - shift) / scale."""
        return np.asarray(-self.bias / self.gain + 0.0)

    @property
    def scale(self) -> _Floats:
        """What is divided by, in units of the input."""
        return np.asarray(1 / self.gain)


def inspect(
    model: Any, name: str | None = None, *, fits: Callable[[Any], bool] | None = None
) -> Inside:
    """Look at what a model does to an input before its first layer.

    Follows the input through Sub, Add, Mul, Div, Neg, Cast, Transpose, Resize, 1×1 convolutions
    that keep channels apart, and channels that are taken apart, changed and joined, all with
    constants, whatever these are computed from. It stops at the first other operator.

    Parameters
    ----------
    model : onnx.ModelProto
        Not changed.
    name : str, optional
        Of the input; may be left out where only one can be meant.
    fits : callable, optional
        Which inputs can be meant.

    Returns
    -------
    Inside

    Raises
    ------
    PatternError
        When there is no such input, or several.
    """
    held = metadata.described(model)
    if model.functions:
        model = library().inliner.inline_local_functions(model)
    walk = Walk(model)
    value = chosen(walk, name, fits)
    end = _end_of_ours(held)
    inside, stopped = _seen(walk, value.name, dims_of(value), dtype_of(value), end)
    if held is None or not end or stopped != end:
        return replace(inside, held=held)
    between = {v.name: v for v in model.graph.value_info}.get(end)
    dims = None if between is None else dims_of(between)
    behind, _ = _seen(walk, end, dims, str(held[1].get("takes", "float32")))
    return replace(inside, held=held, behind=behind)


def _end_of_ours(held: tuple[Normalizer, dict[str, Any]] | None) -> str:
    """The tensor at which a normalizer in front of a model ends, and the model begins."""
    if held is None or held[1].get("how") != "in front":
        return ""
    return str(held[1].get("normalized", ""))


def _seen(walk: Walk, name: str, dims: Dims, dtype: str, end: str = "") -> tuple[Inside, str]:
    """What is done to a tensor before the first layer, or before another one; where it stopped."""
    state = _followed(walk, name, dims, end)
    uses = walk.uses(state.name)
    channel = channel_axis(walk, name)
    gain, bias, order = _in_input_order(walk, state, dims, channel)
    inside = Inside(
        name=name,
        dtype=dtype,
        dims=dims,
        channel=channel,
        gain=gain,
        bias=bias,
        steps=state.steps,
        order=order,
        first=uses[0].node.op_type if uses else "",
        learned=_learned(walk, state, uses, dims, order),
        by_sample=_by_sample({use.node.op_type for use in uses}),
    )
    return inside, state.name


def chosen(walk: Walk, name: str | None, fits: Callable[[Any], bool] | None = None) -> Any:
    """The input that is meant.

    Raises
    ------
    PatternError
        With the names of all, when that is not clear.
    """
    values = walk.inputs()
    names = ", ".join(repr(v.name) for v in values) or "none"
    if name is not None:
        for value in values:
            if value.name == name:
                return value
        raise PatternError(f"the model has no input {name!r}; its inputs are {names}")
    likely = [v for v in values if dtype_of(v) and len(dims_of(v) or (1, 1)) >= 2]
    if len(likely) > 1 and fits is not None:
        likely = [v for v in likely if fits(v)]
    if len(likely) != 1:
        raise PatternError(
            f"the model's inputs are {names}, and which one takes the normalized data is not "
            "clear: say so with input= (--input)"
        )
    return likely[0]


def layout_told(norm: Normalizer, inside: Inside) -> str | None:
    """Where a model has the channels of pictures, by its first layer or else by its shape.

    Parameters
    ----------
    norm : Normalizer
        Of pictures.
    inside : Inside

    Returns
    -------
    {"nhwc", "nchw"} or None
        None where neither tells.
    """
    if inside.channel in (1, 3):
        return "nchw" if inside.channel == 1 else "nhwc"
    axes = axes_of(norm, 4)
    count = axes.lengths[axes.channel or 0]
    if norm.matrix is not None and axes.kept == (axes.channel,):
        count = len(norm.matrix)
    dims = inside.dims or (None,) * 4
    places = [i for i in (1, 3) if count is not None and dims[i] == count]
    return ("nchw" if places[0] == 1 else "nhwc") if len(places) == 1 else None


# ---------------------------------------------------------------- following


def _followed(walk: Walk, name: str, dims: Dims, end: str = "") -> State:
    """The last tensor that is affine in each value of the input by itself; no further than one."""
    state = start(name)
    while state.name not in walk.outputs and state.name != end:
        uses = walk.uses(state.name)
        made = after(walk, state, uses[0], dims) if len(uses) == 1 else None
        if made is None and dims is not None:
            made = _apart(walk, state, uses, dims)
        if made is None:
            break
        state = made
    if state.gone is not None:  # one entry was taken, and no axis put back
        return start(name)
    return state


def _apart(walk: Walk, state: State, uses: list[Use], dims: tuple[Any, ...]) -> State | None:
    """Channels taken apart, each changed by itself, and joined again."""
    if any(use.inner or use.index for use in uses):
        return None
    if len(uses) == 1 and uses[0].node.op_type == "Split":
        branches = _split(walk, state, uses[0].node, dims)
    elif len(uses) > 1 and {use.node.op_type for use in uses} <= {"Gather", "Slice"}:
        branches = [after(walk, state, use, dims) for use in uses]
    else:
        return None
    ends = [None if b is None else _to_concat(walk, b, dims) for b in branches]
    found = [end for end in ends if end is not None]
    if len(found) < len(branches) or not found:
        return None
    concat = found[0][1]
    by_name = {branch.name: branch for branch, node in found if node is concat}
    if list(by_name) and set(by_name) == set(concat.input):
        parts = [by_name[name] for name in concat.input]
        axis = attribute(concat, "axis", 1)
        return joined(parts, axis, concat.output[0], len(dims))
    return None


def _to_concat(walk: Walk, state: State, dims: Dims) -> tuple[State, Any] | None:
    while state.name not in walk.outputs:
        uses = walk.uses(state.name)
        if len(uses) != 1:
            return None
        if uses[0].node.op_type == "Concat":
            return state, uses[0].node
        made = after(walk, state, uses[0], dims)
        if made is None:
            return None
        state = made
    return None


def _split(walk: Walk, state: State, node: Any, dims: tuple[Any, ...]) -> list[State | None]:
    """The branches of a Split along the channels."""
    axis = attribute(node, "axis", 0) % len(dims)
    lengths = attribute(node, "split")
    if lengths is None and len(node.input) > 1 and node.input[1]:
        value = walk.constant(node.input[1])
        lengths = None if value is None else value.tolist()
    if lengths is None:
        total = dims[state.axis(axis)]
        if not isinstance(total, int) or total % len(node.output):
            return [None]
        lengths = [total // len(node.output)] * len(node.output)
    ends = np.cumsum(lengths)
    made = [
        picked(state, axis, np.arange(e - n, e), len(dims))
        for n, e in zip(lengths, ends, strict=True)
    ]
    return [m and replace(m, name=name) for m, name in zip(made, node.output, strict=True)]


def _in_input_order(
    walk: Walk, state: State, dims: Dims, channel: int | None
) -> tuple[_Floats, _Floats, tuple[int, ...]]:
    """Gain and bias with the input's axes and channels; and in which order it has these."""
    gain, bias = state.gain, state.bias
    rank = max(gain.ndim, bias.ndim) if dims is None else len(dims)
    gain, bias = (v.reshape((1,) * (rank - v.ndim) + v.shape) for v in (gain, bias))
    if state.order is not None:
        back = np.argsort(state.order)
        gain, bias = gain.transpose(back), bias.transpose(back)
    order: tuple[int, ...] = ()
    for axis, taken in state.picked.items():
        if sorted(taken.tolist()) != list(range(len(taken))):
            continue  # a crop
        if (taken == np.arange(len(taken))).all():
            continue
        if channel in (axis, None):
            order = tuple(taken.tolist())
        undo = np.argsort(taken)
        gain, bias = (v if v.shape[axis] == 1 else v.take(undo, axis) for v in (gain, bias))
    return gain, bias, order


# ---------------------------------------------------------------- layers that normalize


def _learned(
    walk: Walk, state: State, uses: list[Use], dims: Dims, order: tuple[int, ...]
) -> tuple[_Floats, _Floats] | None:
    """Running mean and std of a BatchNormalization that comes first, in units of the input."""
    if len(uses) != 1 or uses[0].node.op_type != "BatchNormalization" or uses[0].index:
        return None
    node = uses[0].node
    mean, variance = (walk.constant(name) for name in node.input[3:5])
    if mean is None or variance is None:
        return None
    std = np.sqrt(variance.astype(np.float64) + attribute(node, "epsilon", 1e-5))
    rank = len(dims) if dims is not None else max(state.gain.ndim, 2)
    gain, bias = (
        np.broadcast_to(v, _channels(v, rank, len(mean))) for v in (state.gain, state.bias)
    )
    if gain.size != len(mean) or bias.size != len(mean):
        return None
    undo = np.argsort(order) if len(order) == len(mean) else slice(None)
    return ((mean - bias.ravel()) / gain.ravel())[undo], (std / np.abs(gain.ravel()))[undo]


def _channels(values: _Floats, rank: int, count: int) -> tuple[int, ...]:
    """A shape of one number for each channel, or that of the values if they have more."""
    shape = [1] * (rank - values.ndim) + list(values.shape)
    shape[1] = max(shape[1], count)
    return tuple(shape)


def _by_sample(kinds: set[str]) -> str:
    whole = kinds & _BY_SAMPLE
    if whole:
        return min(whole)
    if kinds & {"ReduceMean", "GlobalAveragePool"} and "Sub" in kinds:
        return "ReduceMean"
    return ""
