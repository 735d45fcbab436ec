"""Folds a normalizer into the first layer of a module, which then takes raw data."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zeromean.errors import FormatError, PatternError
from zeromean.first_layer import (
    MOST_PROBED,
    SIZES,
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
)
from zeromean.normalizer import Normalizer
from zeromean.torch.fold_running import DIGITS, exact, verified
from zeromean.torch.normalizing import Normalize
from zeromean.torch.raw_layers import MAPPED, PADDED, Cast, PadEach
from zeromean.torch.single_rounding import rounded
from zeromean.torch.tracing import CONVOLUTIONS, Found, first_layer
from zeromean.torch.unit_checks import InputCheck

_Floats = npt.NDArray[np.float64]


def fold(
    model: nn.Module,
    norm: Normalizer,
    *,
    layout: str | None = None,
    shape: Sequence[int] | None = None,
    border: str = "pad",
    input: str = "float",
    layer: str | None = None,
    verify: bool = True,
    check_units: bool = True,
) -> nn.Module:
    """A copy of a module that takes raw data: the normalizer is in its first layer's weights.

    What the copy gives for x is what ``torch.nn.Sequential(norm.torch(layout=...), model)`` gives,
    but for rounding, at the border of zero-padded convolutions too. It keeps dtype, device and
    mode. It can be trained further and computes the same function, but on other weights:
    weight decay and learning rates act differently on them.

    Parameters
    ----------
    model : Module
        Its first layer, found by torch.fx, is a Linear or a Conv1d, 2d or 3d; in front of it
        there may be flattening, permuting, padding and pooling that let an affine map pass.
        It is not changed.
    norm : Normalizer
        One that keeps what the layer tells apart: channels for a convolution, anything for a
        linear layer. A mean image with one scale for each channel fits a convolution with
        ``border="map"``.
    layout : {"hwc", "chw"}, optional
        "chw": the model's input has its channels in front of height and width, though the pattern
        has them last. "hwc": it is as the pattern says. Read from the model unless given, and
        asked for where that leaves both open.
    shape : sequence of int, optional
        Of one raw input, such as (3, 224, 224). Needed for ``border="map"``, and where the
        model does not tell.
    border : {"pad", "map"}
        How normalized zeros at a convolution's border are kept. "pad": the raw values that
        become zero are padded in front. "map": raw zeros are padded, and each place of the output
        has its own bias, for inputs of one size.
    input : {"float", "uint8"}
        "uint8": a module in front casts integers to the model's dtype, and refuses other dtypes.
    layer : str, optional
        The layer to fold into, where a module cannot be traced. It is taken on trust that it
        takes the raw input, flattened for a linear layer, and that nothing else does; shared
        weights are still refused, and `verify` tells.
    verify : bool
        Compare both on probes, in evaluation mode.
    check_units : bool
        With float input, let a hook in front of the copy refuse data that is visibly on another
        scale than what was measured, such as 0..1 for 0..255. That is a look at all values, which
        on a GPU waits for them; it is left out while compiling and exporting, and a
        ``torch.jit.script`` cannot have it. An input of uint8 costs nothing to check.

    Returns
    -------
    Module
        Its attribute `folding`, a record of type `zeromean.first_layer.Folding`, has the figures
        and says what the copy `expects`.

    Raises
    ------
    FormatError
        When the model has no first layer to fold into, with the reason; when it shares that
        layer's weights; when more than rounding sets the results apart (see
        `zeromean.first_layer.allowed`).
    PatternError
        When the normalizer's numbers do not fit the layer's inputs.
    UnitError
        For uint8 input, when the normalizer was measured on something else than 0..255, or when
        that is not known; and by the copy, for data in other units.

    Notes
    -----
    W' = W diag(1 / scale) and b' = b + W (offset - shift / scale), in float64, rounded once; with
    a matrix M, W' = W M and b' = b + W (offset - M shift).

    Examples
    --------
    >>> import torch
    >>> import zeromean as zm
    >>> from zeromean.torch import fold, measure
    >>> images = torch.arange(96, dtype=torch.uint8).reshape(2, 3, 4, 4)
    >>> norm = zm.standardize(measure(images, "n c h w -> c"))
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
    >>> folded = fold(model, norm, input="uint8")
    >>> bool((folded(images) - model(norm(images))).abs().max() < 1e-5)
    True
    """
    check_options(norm, border, input)
    _check_model(model)
    found = first_layer(model, layer)
    _check_layer(model, found)
    held = None if shape is None else tuple(int(n) for n in shape)
    plan = _plan(found, norm, layout, held, border)
    folded = copy.deepcopy(model)
    record = _folded(folded, plan, border)
    weight = found.layer.weight
    dtype = "uint8" if input == "uint8" else str(weight.dtype).removeprefix("torch.")
    expects = expectation(norm, plan.layout, len(plan.start.shape), dtype)
    record = replace(record, expects=expects)
    if input == "uint8":
        parts = {"cast": Cast(weight.dtype, weight.device, expects), "model": folded}
        folded = nn.Sequential(OrderedDict(parts))
        folded.training = model.training
    elif check_units:
        hook = InputCheck(norm.units, norm.dtype, *found.argument)
        folded.register_forward_pre_hook(hook, with_kwargs=True)
    if verify:
        record = verified(record, model, folded, norm, weight, plan.shapes())
        record.check()
    setattr(folded, "folding", record)  # noqa: B010  # a record is no submodule
    return folded


# ---------------------------------------------------------------- checks


def _check_model(model: nn.Module) -> None:
    for name, module in model.named_modules():
        record = getattr(module, "folding", None)
        if isinstance(record, Folding):
            raise FormatError(
                f"{record.recipe} is folded into {record.layer} of this model already; fold into "
                "the model as it was trained"
            )
        if isinstance(module, Normalize):
            raise FormatError(
                f"the model has a zeromean normalizer in it already ({name or 'itself'}); take it "
                "out before folding"
            )


def _check_layer(model: nn.Module, found: Found) -> None:
    layer, what = found.layer, found.called
    if type(layer) not in (*CONVOLUTIONS, nn.Linear):
        raise FormatError(
            f"{what} is no plain Linear, Conv1d, Conv2d or Conv3d; name the layer that takes the "
            "raw input"
        )
    if "weight" not in layer._parameters:
        raise FormatError(f"the weights of {what} are computed (pruning?); make them plain first")
    if layer.weight.dtype not in DIGITS:
        raise FormatError(
            f"{what} has weights of {layer.weight.dtype}; fold before quantizing, or convert the "
            "model to float32"
        )
    if layer.weight.is_meta:
        raise FormatError(f"{what} has no weights yet (device 'meta'); load them first")
    if model._forward_pre_hooks or layer._forward_pre_hooks:
        raise FormatError(f"a hook changes the input of the model or of {what}; remove it first")
    _check_unshared(model, found)


def _check_unshared(model: nn.Module, found: Found) -> None:
    own = {f"{found.name}.{name}".lstrip(".") for name, _ in found.layer.named_parameters()}
    parts = [_span(p) for p in found.layer.parameters()]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        low, high = _span(parameter)
        if name not in own and any(low < end and begin < high for begin, end in parts):
            raise FormatError(
                f"{found.called} shares its weights with {name!r}, which does not take the raw "
                "input; give the layer a copy of them"
            )


def _span(parameter: Tensor) -> tuple[int, int]:
    begin = parameter.data_ptr()
    return begin, begin + parameter.numel() * parameter.element_size()


# ---------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the numbers go; `fixed` when the shape of the input is known."""

    found: Found
    norm: Normalizer
    layout: str
    start: Entering
    state: Entering
    columns: Columns
    fixed: bool
    lengths: Lengths

    def shapes(self) -> list[tuple[int, ...]]:
        """Of inputs to run on: the one that is known, or usual sizes that are not too large."""
        if self.fixed:
            return [self.start.shape]
        wanted = (Wanted(self.lengths, None, size) for size in SIZES)
        made = [entering(self.norm, self.layout, each).shape for each in wanted]
        return [shape for shape in made if math.prod(shape) <= MOST_PROBED]


def _axis(layer: nn.Module) -> int:
    """Where a layer's inputs lie, from the end."""
    kernel: Any = () if isinstance(layer, nn.Linear) else layer.kernel_size
    return -1 - len(kernel)


def _plan(
    found: Found, norm: Normalizer, layout: str | None, shape: tuple[int, ...] | None, border: str
) -> _Plan:
    layer = found.layer
    total = layer.in_features if isinstance(layer, nn.Linear) else None
    anywhere = border == "map" and total is None

    spelled = any("..." in group for group in norm.pattern.axes)
    rank = len(norm.pattern.axes) if not spelled else 1 - _axis(layer)
    lengths = (None, *shape) if shape is not None else (None,) * rank

    def made(choice: str, known: Lengths) -> tuple[tuple[Entering, Entering, Lengths], Columns]:
        start = entering(norm, choice, Wanted(known, total))
        state = found.enter(start)
        _check_width(found, norm, start, state)
        if total is None:
            state.check_channels(_axis(layer), found.called)
        columns = state.columns(_axis(layer), found.called, anywhere=anywhere)
        return (start, state, known), columns

    tried = guesses(lengths, None if total else layer.in_channels)
    (start, state, known), columns = chosen(made, norm, layout, tried, vary=anywhere)
    other = entering(norm, start.layout, Wanted(known, total, start.shape[-1] + 1))
    fixed = total is not None or start.shape == other.shape
    return _Plan(found, norm, start.layout, start, state, columns, fixed, known)


def _check_width(found: Found, norm: Normalizer, start: Entering, state: Entering) -> None:
    layer = found.layer
    wanted = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    matrix: Any = norm.matrix
    reduced = matrix is not None and matrix.shape[0] != matrix.shape[1]
    if reduced:
        _check_reduced(found, norm, start, state)
    axis = _axis(layer)
    if state.index.ndim < -axis:
        raise PatternError(
            f"{found.called} wants inputs of {-axis} axes or more, and gets {state.index.ndim} for "
            f"the pattern '{norm.pattern}'"
        )
    width = len(norm.offset) if reduced else state.index.shape[axis]
    if width != wanted:
        shape = start.shape[1:]
        raise PatternError(
            f"{found.called} has {wanted} inputs, and the normalizer's {norm.kept_shape} under the "
            f"pattern '{norm.pattern}' come to {width} (an input of shape {shape}); measure data "
            "of the model's kind, or give shape="
        )


def _check_reduced(found: Found, norm: Normalizer, start: Entering, state: Entering) -> None:
    last = norm.pattern.axes[-1]
    straight = norm.pattern.kept == last and np.array_equal(start.index, state.index)
    channels_first = start.layout == "chw"
    if not straight or channels_first == isinstance(found.layer, nn.Linear):
        raise PatternError(
            f"the matrix leaves {len(norm.offset)} of {norm.shift.size} features, so the raw "
            "input has another shape than the model's; folding does that only where they are the "
            "layer's own input axis. Keep all components, or use zca"
        )


# ---------------------------------------------------------------- the change


def _folded(model: nn.Module, plan: _Plan, border: str) -> Folding:
    """Change the copy of a model; say what was done."""
    layer: Any = model.get_submodule(plan.found.name)
    if isinstance(layer, nn.Linear):
        _rewrite(layer, plan.columns, 1, plan.found.called)
        layer.in_features = layer.weight.shape[1]
        return Folding.of(plan.norm, plan.found.called, plan.layout, "none")
    values = _replace_paddings(model, plan)
    pads = _zero_pads(layer)
    if border == "map" and (any(map(any, pads)) or _varies(plan)):
        return _mapped(layer, plan, pads)
    zero = plan.columns.raw(0.0) if any(map(any, pads)) else np.zeros(1)
    weight = layer.weight
    _rewrite(layer, plan.columns, layer.groups, plan.found.called)
    layer.in_channels = layer.weight.shape[1] * layer.groups
    if zero.any():
        layer.__class__ = PADDED[type(layer)]  # all else of the layer stays: names, hooks, mode
        layer.padding, layer.outer_pads = (0,) * len(pads), pads
        layer._reversed_padding_repeated_twice = [0] * (2 * len(pads))
        layer.register_buffer("pad_values", _like(zero, weight, plan.found.called))
        values.append(zero)
    done = "pad" if values else "none"
    return Folding.of(plan.norm, plan.found.called, plan.layout, done, values[-1] if values else ())


def _varies(plan: _Plan) -> bool:
    """Whether shift or offset vary over places, as those of a mean image."""
    image = plan.state.constant_image()
    flat = image.reshape(len(image), -1)
    return bool((flat != flat[:, :1]).any())


def _zero_pads(layer: Any) -> list[list[int]]:
    """What a convolution pads with zeros, [before, after] for each axis."""
    if layer.padding_mode != "zeros" or layer.padding == "valid":
        return [[0, 0] for _ in layer.kernel_size]
    if layer.padding == "same":
        spare = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [[n // 2, n - n // 2] for n in spare]
    return [[n, n] for n in layer.padding]


def _replace_paddings(model: nn.Module, plan: _Plan) -> list[_Floats]:
    """Paddings of normalized values in front of the layer become paddings of raw ones."""
    values = []
    for name, module, before in plan.found.paddings(plan.start):
        axis, raw = before.padding_axis(float(getattr(module, "value", 0.0)), name)
        flat: Any = module.padding
        pads = [list(flat[i : i + 2]) for i in range(0, len(flat), 2)][::-1]
        if axis != 1 or before.index.ndim != 2 + len(pads):
            raise PatternError(f"{name} pads inputs whose channels are not on axis 1")
        weight: Any = model.get_submodule(plan.found.name).weight
        parent, _, own = name.rpartition(".")
        made = PadEach(_like(raw, weight, name), pads).train(module.training)
        setattr(model.get_submodule(parent), own, made)
        values.append(raw)
    return values


def _mapped(layer: Any, plan: _Plan, pads: list[list[int]]) -> Folding:
    """A convolution of raw data, its bias a map."""
    if not plan.fixed:
        raise PatternError(
            "border='map' makes a map for inputs of one size; give shape=, such as "
            "shape=(3, 224, 224), or use border='pad'"
        )
    image = plan.state.constant_image()
    weight, bias = exact(layer.weight), exact(layer.bias)
    assert weight is not None
    if layer.padding_mode != "zeros":
        image, pads = _padded_image(layer, image), [[0, 0] for _ in pads]
    bias_map = correction_map(
        weight,
        bias,
        image,
        pads=[(a, b) for a, b in pads],
        strides=layer.stride,
        dilations=layer.dilation,
        groups=layer.groups,
    )
    like = layer.weight
    _rewrite(layer, plan.columns, layer.groups, plan.found.called, biased=False)
    layer.in_channels = layer.weight.shape[1] * layer.groups
    layer.bias = None
    layer.__class__ = MAPPED[type(layer)]
    layer.register_buffer("bias_map", _like(bias_map[None], like, plan.found.called))
    return Folding.of(plan.norm, plan.found.called, plan.layout, "map")


def _padded_image(layer: Any, image: _Floats) -> _Floats:
    pads, mode = layer._reversed_padding_repeated_twice, layer.padding_mode
    padded = nn.functional.pad(torch.from_numpy(image.copy())[None], list(pads), mode=mode)
    result: _Floats = padded[0].numpy()
    return result


def _rewrite(layer: Any, columns: Columns, groups: int, what: str, *, biased: bool = True) -> None:
    """New weights and bias in place of the old."""
    weight, bias = exact(layer.weight), exact(layer.bias)
    assert weight is not None
    _assign(layer, "weight", columns.weights(weight, groups), layer.weight, what)
    if biased:
        added = columns.bias(weight, bias, groups)
        if bias is not None or added.any():
            _assign(layer, "bias", added, layer.weight, what)


def _assign(layer: Any, name: str, values: _Floats, like: Tensor, what: str) -> None:
    made, held = _like(values, like, what), getattr(layer, name)
    if held is not None and held.shape == made.shape:
        with torch.no_grad():
            held.copy_(made)  # memory format and what else a parameter carries stay
    else:
        setattr(layer, name, nn.Parameter(made, requires_grad=like.requires_grad))


def _like(values: _Floats, like: Tensor, what: str) -> Tensor:
    """float64 as a tensor of the weights' dtype and device, rounded once."""
    wide = torch.from_numpy(np.ascontiguousarray(values))
    made = rounded(wide, like.dtype)
    if not bool(made.isfinite().all()):
        raise FormatError(
            f"folding into {what} gives numbers up to {np.abs(values).max():.3g}, which "
            f"{like.dtype} cannot hold; fold into a float32 model and convert it afterwards"
        )
    return made.to(like.device)
