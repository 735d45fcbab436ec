"""Follows y = gain x + bias through the operators of a graph, as long as they are affine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.graphs.walking import Use, Walk, attribute

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
Dims = tuple[int | str | None, ...] | None
_MOST = 1 << 24  # numbers of a mean image that are followed
_FEW = 64  # channels, where a graph does not say how many there are


@dataclass(frozen=True, eq=False)
class State:
    """What a tensor is, seen from the input: y = gain x + bias, with axes moved or picked.

    Attributes
    ----------
    name : str
        Of the tensor.
    gain, bias : ndarray of float64
        Broadcast against the tensor.
    order : tuple of int or None
        Which axis of the input each axis of the tensor is; None while none moved.
    picked : dict of int to ndarray of int
        For axes of the input: which entries were taken, in order.
    gone : int or None
        Where an axis was taken away, to be put back by `Unsqueeze`.
    steps : tuple of str
        Operators that changed values.
    """

    name: str
    gain: _Floats
    bias: _Floats
    order: tuple[int, ...] | None = None
    picked: dict[int, _Array] = field(default_factory=dict)
    gone: int | None = None
    steps: tuple[str, ...] = ()

    def axis(self, place: int) -> int:
        """Which axis of the input an axis of the tensor is."""
        return place if self.order is None else self.order[place]


def start(name: str) -> State:
    """The input itself."""
    return State(name, np.ones(()), np.zeros(()))


def after(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    """What an operator leaves; None where it is not affine in each value by itself.

    Parameters
    ----------
    walk : Walk
    state : State
    use : Use
        Of the state's tensor.
    rank : int or None
        Of the input.
    """
    step = _STEPS.get(use.node.op_type)
    if step is None or use.inner or (use.index != 0 and use.node.op_type not in _TWO_SIDED):
        return None
    made: State | None = step(walk, state, use, dims)
    if made is None or made.gain.size > _MOST or made.bias.size > _MOST:
        return None
    if dims is not None and max(made.gain.ndim, made.bias.ndim) > len(dims):
        return None  # broadcast to more axes than the data has
    return replace(made, name=use.node.output[0])


# ---------------------------------------------------------------- arithmetic


def _operand(walk: Walk, state: State, use: Use) -> _Floats | None:
    """The other, constant operand of a two-sided operator."""
    value = walk.constant(use.node.input[1 - use.index])
    if value is None or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
        return None
    if state.gone is not None and value.ndim:
        return None if value.size > 1 else value.astype(np.float64).reshape(())
    return np.asarray(value, np.float64)


def _add(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    value = _operand(walk, state, use)
    if value is None:
        return None
    return replace(state, bias=state.bias + value, steps=(*state.steps, "Add"))


def _sub(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    value = _operand(walk, state, use)
    if value is None:
        return None
    sign = 1 if use.index == 0 else -1
    return replace(
        state,
        gain=sign * state.gain,
        bias=sign * (state.bias - value),
        steps=(*state.steps, "Sub"),
    )


def _mul(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    value = _operand(walk, state, use)
    if value is None or not value.all():
        return None
    return _scaled(state, value, "Mul")


def _div(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    value = _operand(walk, state, use) if use.index == 0 else None
    if value is None or not value.all():
        return None
    return _scaled(state, 1 / value, "Div")


def _scaled(state: State, factor: _Floats, step: str) -> State:
    return replace(
        state, gain=state.gain * factor, bias=state.bias * factor, steps=(*state.steps, step)
    )


def _neg(walk: Walk, state: State, use: Use, dims: Dims) -> State:
    return _scaled(state, np.float64(-1.0) * np.ones(()), "Neg")


def _cast(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    """To floats nothing changes; to integers there is more rounding than affine."""
    from zeromean.graphs.model_files import dtype_name

    target = dtype_name(attribute(use.node, "to", 0))
    return state if "float" in target else None


def _same(walk: Walk, state: State, use: Use, dims: Dims) -> State:
    return state


def _conv(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    """A 1×1 convolution that keeps channels apart."""
    weight = walk.constant(use.node.input[1])
    if weight is None or weight.ndim < 3 or any(n != 1 for n in weight.shape[2:]):
        return None
    plain = not any(attribute(use.node, "pads", ())) and all(
        n == 1 for n in attribute(use.node, "strides", ())
    )
    factors = _diagonal(weight.reshape(weight.shape[:2]), attribute(use.node, "group", 1))
    if not plain or factors is None or not factors.all() or use.node.op_type != "Conv":
        return None
    shape = (len(factors),) + (1,) * (weight.ndim - 2)
    state = _scaled(state, factors.astype(np.float64).reshape(shape), "Conv")
    if len(use.node.input) < 3 or not use.node.input[2]:
        return state
    bias = walk.constant(use.node.input[2])
    if bias is None:
        return None
    return replace(state, bias=state.bias + bias.astype(np.float64).reshape(shape))


def _diagonal(weight: _Array, groups: int) -> _Array | None:
    """Factors of a (outputs, inputs of a group) matrix that mixes nothing."""
    if weight.shape[1] == 1 and groups == len(weight):
        return weight[:, 0]
    if groups != 1 or weight.shape[0] != weight.shape[1] or len(weight) > 64:
        return None
    factors = np.diagonal(weight)
    return factors if (weight == np.diag(factors)).all() else None


# ---------------------------------------------------------------- axes


def _transpose(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    perm = tuple(attribute(use.node, "perm", ()) or range(len(dims or ()))[::-1])
    if not perm or state.gone is not None:
        return None
    order = state.order or tuple(range(len(perm)))
    return replace(
        state,
        gain=_full(state.gain, len(perm)).transpose(perm),
        bias=_full(state.bias, len(perm)).transpose(perm),
        order=tuple(order[i] for i in perm),
    )


def _full(values: _Floats, rank: int) -> _Floats:
    return values.reshape((1,) * (rank - values.ndim) + values.shape)


def _gather(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    """Channels in another order, or one of them."""
    indices = walk.constant(use.node.input[1])
    if indices is None or dims is None or indices.ndim > 1 or state.gone is not None:
        return None
    axis = attribute(use.node, "axis", 0) % len(dims)
    made = picked(state, axis, np.atleast_1d(indices), len(dims))
    return replace(made, gone=axis) if made is not None and indices.ndim == 0 else made


def _slice(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    """Some channels, the same in reverse, or a crop."""
    bounds = None if dims is None or state.gone is not None else _bounds(walk, use.node)
    if bounds is None or dims is None:
        return None
    made: State | None = state
    for begin, end, axis, step in zip(*bounds, strict=True):
        made = made and _sliced(made, slice(begin, end, step), axis % len(dims), dims)
    return made


def _sliced(state: State, part: slice, axis: int, dims: tuple[Any, ...]) -> State | None:
    """Part of one axis, whose length may not be known."""
    length = _axis_length(state, axis, dims)
    if length is not None and length > _MOST:
        return None
    if length is not None:
        return picked(state, axis, np.arange(length)[part], len(dims))
    if part.step < 0 or part.start < 0:
        return None
    if 0 <= part.stop <= _FEW:  # channels, of which there are as many as are taken
        return picked(state, axis, np.arange(part.start, part.stop, part.step), len(dims))
    return state  # a crop, along an axis that no number depends on


def _bounds(walk: Walk, node: Any) -> tuple[list[int], ...] | None:
    """Starts, ends, axes and steps of a Slice, attributes (before opset 10) or inputs."""
    if attribute(node, "starts") is not None:
        starts, ends = list(attribute(node, "starts")), list(attribute(node, "ends"))
        axes = list(attribute(node, "axes", ()) or range(len(starts)))
        return starts, ends, axes, [1] * len(starts)
    values = [walk.constant(name) if name else None for name in node.input[1:]]
    if any(v is None for v, name in zip(values, node.input[1:], strict=True) if name):
        return None
    lists = [None if v is None else [int(n) for n in v.ravel()] for v in values]
    lists += [None] * (4 - len(lists))
    starts, ends = lists[0] or [], lists[1] or []
    return starts, ends, lists[2] or list(range(len(starts))), lists[3] or [1] * len(starts)


def _axis_length(state: State, axis: int, dims: tuple[Any, ...]) -> int | None:
    """Of an axis of the tensor, if it is known."""
    source = state.axis(axis)
    if source in state.picked:
        return len(state.picked[source])
    if isinstance(dims[source], int):
        return int(dims[source])
    numbers = max(_full(v, len(dims)).shape[axis] for v in (state.gain, state.bias))
    return numbers if numbers > 1 else None


def picked(state: State, axis: int, indices: _Array, rank: int) -> State | None:
    """Some entries along an axis of the tensor, in some order; None where they are not there."""
    source = state.axis(axis)
    held = state.picked.get(source)
    if indices.min(initial=0) < 0 or (held is not None and indices.max(initial=0) >= len(held)):
        return None
    numbers = []
    for values in (state.gain, state.bias):
        full = _full(values, rank)
        if full.shape[axis] > 1 and indices.max(initial=0) >= full.shape[axis]:
            return None
        numbers.append(full if full.shape[axis] == 1 else full.take(indices, axis))
    taken = indices if held is None else held[indices]
    return replace(state, gain=numbers[0], bias=numbers[1], picked={**state.picked, source: taken})


def _unsqueeze(walk: Walk, state: State, use: Use, dims: Dims) -> State | None:
    """Only what puts back an axis that a Gather took."""
    axes = attribute(use.node, "axes")
    if axes is None and len(use.node.input) > 1:
        values = walk.constant(use.node.input[1])
        axes = None if values is None else values.ravel().tolist()
    if state.gone is None or dims is None or not axes or len(axes) != 1:
        return None
    return replace(state, gone=None) if axes[0] % len(dims) == state.gone else None


def joined(states: list[State], axis: int, name: str, rank: int) -> State | None:
    """Channels that were taken apart, one behind the other again.

    Parameters
    ----------
    states : list of State
        In the order of the Concat.
    axis : int
    name : str
        Of the result.
    rank : int
    """
    axis %= rank
    source = states[0].axis(axis)
    parts = [s.picked.get(source) for s in states]
    if any(p is None for p in parts) or any(s.gone is not None for s in states):
        return None
    numbers = []
    for which in ("gain", "bias"):
        pieces = []
        for state, part in zip(states, parts, strict=True):
            full = _full(getattr(state, which), rank)
            assert part is not None
            pieces.append(np.repeat(full, len(part), axis) if full.shape[axis] == 1 else full)
        if len({p.shape[:axis] + p.shape[axis + 1 :] for p in pieces}) > 1:
            return None
        numbers.append(np.concatenate(pieces, axis))
    steps = max((s.steps for s in states), key=len)
    picked = {**states[0].picked, source: np.concatenate([p for p in parts if p is not None])}
    return State(name, numbers[0], numbers[1], states[0].order, picked, None, steps)


_TWO_SIDED = {"Add", "Sub", "Mul", "Div"}
_STEPS: dict[str, Any] = {
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Neg": _neg,
    "Cast": _cast,
    "Identity": _same,
    "Dropout": _same,
    "Resize": _same,  # interpolation weights add up to one
    "Upsample": _same,
    "Conv": _conv,
    "Transpose": _transpose,
    "Gather": _gather,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
}
