"""Each check of a model, as a function that yields what it finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.diagnosis.comparing import (
    SAME,
    Comparison,
    behind,
    compare,
    factors,
    is_of_unit_data,
    range_of,
    spelled,
)
from zeromean.diagnosis.findings import Finding
from zeromean.errors import PatternError
from zeromean.exporters.feeding import turned
from zeromean.exporters.forms import raw_unit
from zeromean.exporters.targets import Order
from zeromean.graphs.inspecting import Inside, inspect, layout_told
from zeromean.graphs.merging import could_take
from zeromean.graphs.model_files import read_model
from zeromean.graphs.pictures import axes_of, in_layout

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]
_NEAR = 0.25  # of a scale: how far running means stray from what a model was trained on
_FEW = 4
_CENTERING = ("zero_mean", "standardize", "mean_normalize")  # whose results have mean zero


def findings_of(norm: Normalizer, model: Any, name: str | None, channels: str) -> Iterator[Finding]:
    """Everything about a model that a normalizer's user should know.

    Parameters
    ----------
    norm : Normalizer
    model : path or onnx.ModelProto
    name : str or None
        Of the input.
    channels : str
        The order that the model wants, if known.
    """
    held = read_model(model)
    inside = inspect(held, name, fits=lambda value: could_take(norm, value, integers=True))
    fits = list(_shape(norm, inside))
    own, layout = (None, None) if fits else _layouts(norm, inside)
    yield from fits
    if inside.held is not None:
        yield from _held(norm, inside)
    elif inside.changes:
        yield from _numbers(norm, inside, layout, broken=bool(fits))
    else:
        yield from _untouched(norm, inside)
    if not fits and inside.held is None:
        yield from _axes(own, layout)
    yield from _channels(norm, inside, channels)


def _layouts(norm: Normalizer, inside: Inside) -> tuple[str | None, str | None]:
    """Of the normalizer's pictures and of the model's, where they are known."""
    own = axes_of(norm, None if inside.dims is None else len(inside.dims)).layout
    return own, None if own is None else layout_told(norm, inside)


# ---------------------------------------------------------------- shape


def _shape(norm: Normalizer, inside: Inside) -> Iterator[Finding]:
    """Number of axes, and lengths."""
    if inside.dims is None or (norm.matrix is not None and len(norm.matrix) != norm.shift.size):
        return
    what = f"the model's input {inside.name!r} is {inside.shown}"
    try:
        axes = axes_of(norm, len(inside.dims))
    except PatternError as error:
        yield Finding("shape", "error", f"{what}, but {error}", "Look whether this is the model.")
        return
    layouts = [None] if axes.layout is None else ["nhwc", "nchw"]
    told = None if axes.layout is None else layout_told(norm, inside)
    for layout in [told] if told is not None else layouts:
        lengths = in_layout(axes, axes.lengths, layout)
        pairs = zip(inside.dims, lengths, strict=True)
        if all(not isinstance(d, int) or n is None or d == n for d, n in pairs):
            return
    kept = ", ".join(
        f"{n} {name}" for n, name in zip(norm.kept_shape, norm.pattern.kept, strict=True)
    )
    yield Finding(
        "shape",
        "error",
        f"{what}, but the normalizer has numbers for {kept}",
        "Measure the data that the model was trained on.",
    )


def _axes(own: str | None, layout: str | None) -> Iterator[Finding]:
    if own is None or layout is None or own == layout:
        return
    first = "first" if layout == "nchw" else "last"
    how = "move them after normalizing"
    if own == "nhwc":
        how = "norm(x, layout='chw') (zeromean apply --layout chw) moves them"
    yield Finding(
        "layout",
        "note",
        f"the model takes channels {first} ({layout}), the normalizer was measured on {own}: {how}",
    )


def _channels(norm: Normalizer, inside: Inside, channels: str) -> Iterator[Finding]:
    own = norm.units.channels
    if channels and own and channels != own:
        yield Finding(
            "channels",
            "error",
            f"the model wants {channels}, but the normalizer was measured on {own}",
            f"Measure {channels} data, or put the channels into the order {channels} between the "
            "normalizer and the model.",
        )
    if inside.order:
        own = inside.held[0].units.channels if inside.held else own  # raw data as it is given
        named = len(own) == len(inside.order)
        given = own if named else "channels " + ", ".join(str(i) for i in range(len(inside.order)))
        seen = "".join(own[i] for i in inside.order) if named else ", ".join(map(str, inside.order))
        yield Finding(
            "channels",
            "note",
            f"the model reorders channels itself: of {given}, its first layer gets {seen}",
        )


# ---------------------------------------------------------------- a normalizer of ours


def _held(norm: Normalizer, inside: Inside) -> Iterator[Finding]:
    assert inside.held is not None
    held, placement = inside.held
    how = placement.get("how", "inside")
    raw = f"raw {placement.get('dtype', held.dtype)} ({held.units})"
    where = {
        "in front": "in front of its layers",
        "folded": "folded into its first layer",
        "alone": "and nothing else",
    }.get(how, "inside")
    advice = f": give it {raw}, not normalized"
    if how != "folded":
        yield from _held_indeed(held, inside)
    if inside.behind is not None and inside.behind.changes:
        again = _again(held, inside.behind, placement)
        yield again
        if again.name == "twice":
            where, advice = "in front of a normalization of its own", ""
    held = _in_order_of(norm, held)
    difference = _distance(norm, held)
    if difference == 0:
        yield Finding(
            "inside",
            "note",
            f"the model holds this very normalizer, {where}{advice}",
        )
        return
    unit = _other_unit(norm, held)
    if unit is not None:
        yours, _ = spelled(norm, unit)
        yield Finding(
            "units",
            "warning",
            f"the model holds the same numbers in other units, {where}: yours are of {yours}, the "
            f"model's of {held.units}",
            f"Give it {raw}, not normalized.",
        )
        return
    said = (
        "of another kind" if difference is None else f"up to {difference:.4g} {raw_unit(norm)} off"
    )
    yield Finding(
        "numbers",
        "warning",
        f"the model holds another normalizer, {where}: {held.recipe} of {held.units}, {said}",
        f"Give it {raw}, not normalized; or put the right numbers into the model without any.",
    )


def _in_order_of(norm: Normalizer, held: Normalizer) -> Normalizer:
    """The held numbers in the other's order of channels, where it is another one of the same."""
    mine, theirs = norm.units.channels, held.units.channels
    if mine == theirs or sorted(mine) != sorted(theirs) or held.matrix is not None:
        return held
    return turned(held, "the comparison", Order(channels=mine))[0]


def _again(held: Normalizer, own: Inside, placement: Mapping[str, Any]) -> Finding:
    """Ours in front of a model that changes what it is given."""
    where = f"({', '.join(own.steps)} before {own.first or 'its output'})"
    layout = placement.get("layout_inside")
    if together := behind(held, own, layout):
        return Finding(
            "renormalizes",
            "note",
            f"behind the normalizer in front of it, the model rescales {where}, and both together "
            f"give {together} data: it takes data normalized like this",
        )
    return Finding(
        "twice",
        "error",
        f"data is normalized twice: ours ({held.recipe} of {held.units}) stands in front of the "
        f"model's own {where}, which subtracts {_few(own.shift)} and divides by {_few(own.scale)}",
        "Take out its own, or use the model as it was before ours was put in front.",
    )


def _other_unit(norm: Normalizer, held: Normalizer) -> float | None:
    """What brings raw data to the units of the other normalizer, where both are the same then."""
    if held.matrix is not None:
        return None
    low, high = range_of(norm)
    units = factors(norm)
    if norm.units.top and held.units.top:
        units = {norm.units.top / held.units.top}
    near = []
    for unit in units:
        moved = replace(held, shift=held.shift * unit, scale=held.scale * unit, units=norm.units)
        apart = _distance(norm, moved)
        if unit != 1 and apart is not None and apart <= SAME * (high - low):
            near.append((apart, unit))
    return min(near)[1] if near else None


def _held_indeed(held: Normalizer, inside: Inside) -> Iterator[Finding]:
    """Whether the operators do what the metadata says."""
    if held.matrix is not None:
        return
    compared = compare(held, inside, _layouts(held, inside)[1])
    if compared.unit == 1 and compared.difference <= 1e-4 * compared.reach:
        return
    yield Finding(
        "metadata",
        "error",
        f"the model says that it holds {held.recipe} with shift {_few(held.shift)}, but its "
        f"operators subtract {_few(compared.shift)} and divide by {_few(compared.scale)}: it was "
        "edited afterwards",
        "Merge the normalizer with the original model again.",
    )


def _distance(norm: Normalizer, held: Normalizer) -> float | None:
    """How far two normalizers are apart, in raw units; None where they are of two kinds."""
    if (norm.matrix is None) != (held.matrix is None) or norm.kept_shape != held.kept_shape:
        return None
    if norm.matrix is not None and held.matrix is not None:
        same = norm.matrix.shape == held.matrix.shape and (norm.matrix == held.matrix).all()
        return 0.0 if same and (norm.shift == held.shift).all() else None
    low, high = norm.units.range or (float(norm.shift.min()), float(norm.shift.max()))
    apart = [
        ((x - norm.shift) / norm.scale + norm.offset - (x - held.shift) / held.scale - held.offset)
        for x in (low, high)
    ]
    return float(np.max(np.abs(apart) * np.abs(norm.scale)))


# ---------------------------------------------------------------- numbers of others


def _numbers(
    norm: Normalizer, inside: Inside, layout: str | None, *, broken: bool
) -> Iterator[Finding]:
    """The model changes its input before the first layer."""
    where = f"({', '.join(inside.steps)} before {inside.first or 'its output'})"
    if broken:
        yield Finding(
            "numbers",
            "warning",
            f"the model normalizes its input {inside.name!r} itself {where}: it subtracts "
            f"{_few(inside.shift)} and divides by {_few(inside.scale)}",
            f"Give it {_raw(norm, (norm.units.top or 1) if is_of_unit_data(inside) else 1)}.",
        )
        return
    compared = compare(norm, inside, layout)
    top = norm.units.top
    if compared.same and compared.foreign:
        yield _in_other_units(norm, inside, compared, where)
    elif compared.same:
        yield _twice(norm, inside, compared, where)
    elif inside.rescales and top is not None and abs(inside.scale.flat[0] / top - 1) < 1e-3:
        yield Finding(
            "rescale",
            "warning",
            f"the model divides its input {inside.name!r} by {top:g} itself {where} and subtracts "
            f"nothing: its layers were given 0..1 data",
            "Give it raw data, not normalized. To train with these numbers, remove that operator.",
        )
    elif together := behind(norm, inside, layout):
        yield Finding(
            "renormalizes",
            "note",
            f"the model rescales its input {inside.name!r} itself {where}, and behind this "
            f"normalizer that gives {together} data: it takes data normalized like this",
        )
    else:
        yield _others(norm, inside, compared, where)


def _twice(norm: Normalizer, inside: Inside, compared: Comparison, where: str) -> Finding:
    off = f"within {compared.difference:.2g} {raw_unit(norm)}"
    return Finding(
        "twice",
        "warning",
        f"the model normalizes its input {inside.name!r} itself {where}, by the same numbers "
        f"({off}): with this normalizer in front, data would be normalized twice",
        f"Give it {_raw(norm, compared.unit)}, not normalized.",
    )


def _in_other_units(norm: Normalizer, inside: Inside, compared: Comparison, where: str) -> Finding:
    yours, theirs = spelled(norm, compared.unit)
    times = (
        f"divided by {compared.unit:.6g}" if compared.unit > 1 else f"times {1 / compared.unit:.6g}"
    )
    return Finding(
        "units",
        "warning",
        f"the model normalizes its input {inside.name!r} itself {where}, by the same numbers in "
        f"other units (within {compared.difference:.2g} {raw_unit(norm)}): yours are of {yours}, "
        f"the model's of {theirs}",
        f"Give it raw data in {theirs} (yours {times}), not normalized.",
    )


def _raw(norm: Normalizer, unit: float) -> str:
    """What a model that normalizes by itself must be given."""
    known = "" if norm.units.range is None else f" ({norm.units})"
    return f"raw data{known}" + ("" if unit == 1 else f" divided by {unit:g}")


def _others(norm: Normalizer, inside: Inside, compared: Comparison, where: str) -> Finding:
    unit = "" if compared.unit == 1 else f" (for data in 0..1; here times {compared.unit:g})"
    off = f", up to {compared.difference:.4g} {raw_unit(norm)} off"
    return Finding(
        "numbers",
        "warning",
        f"the model normalizes its input {inside.name!r} itself {where}, by other numbers{unit}: "
        f"it subtracts {_few(compared.shift)} and divides by {_few(compared.scale)}; the "
        f"normalizer subtracts {_few(norm.shift)} and divides by {_few(norm.scale)}"
        f"{off if np.isfinite(compared.difference) else ''}",
        f"It was trained with another normalization: give it {_raw(norm, compared.unit)}, not "
        "normalized, or train it again.",
    )


def _untouched(norm: Normalizer, inside: Inside) -> Iterator[Finding]:
    """Nothing is changed before the first layer, which may normalize itself."""
    first = inside.first or "output"
    if "int" in inside.dtype or inside.dtype == "bool":
        yield Finding(
            "dtype",
            "error",
            f"the model's input {inside.name!r} takes {inside.dtype}, and the normalizer gives "
            f"floats; no normalization by constants was found before its first {first}",
            "Give it raw data if it was trained on it, or export it with a float input.",
        )
    elif inside.learned is not None:
        yield _learned(norm, inside, *inside.learned)
    elif inside.by_sample:
        yield Finding(
            "per-sample",
            "note",
            f"the model first normalizes each sample by itself ({inside.by_sample}): what a "
            "normalizer does before has next to no effect",
        )
    else:
        yield Finding(
            "none",
            "note",
            f"no normalization was found before the model's first {first}: give it data that this "
            "normalizer has normalized, or put it inside: zeromean export norm.json --to onnx "
            "--model net.onnx -o served.onnx",
        )


def _learned(norm: Normalizer, inside: Inside, mean: _Floats, std: _Floats) -> Finding:
    """A BatchNormalization comes first: its running mean tells what the model was trained on."""
    seen = (
        f"the model's first layer is a BatchNormalization, which has seen mean {_few(mean)} and "
        f"std {_few(std)}"
    )
    if norm.recipe not in _CENTERING or norm.matrix is not None or norm.shift.ndim > 1:
        repair = "Make sure that what the model gets has about this mean and std."
        return Finding("batch-norm", "note", seen, repair)
    like = (np.abs(np.log(std)) < _NEAR).all() or norm.recipe != "standardize"
    if like and (np.abs(mean) < _NEAR * std).all():
        said = f"{seen}: it was trained on data centered like this; go on giving it that"
        return Finding("batch-norm", "note", said)
    for unit, what in ((1.0, "raw data"), (norm.units.top or 1.0, "data in 0..1")):
        if norm.shift.size not in (1, mean.size):
            break
        if (np.abs(mean * unit - norm.shift) < _NEAR * _spread(norm.scale, std * unit)).all():
            said = f"{seen}, which is this normalizer's shift: it was trained on {what}"
            return Finding("batch-norm", "warning", said, f"Give it {what}, not normalized.")
    said = f"{seen}; the normalizer subtracts {_few(norm.shift)} and divides by {_few(norm.scale)}"
    return Finding("batch-norm", "warning", said, "Give it what it was trained on.")


def _spread(scale: _Floats, std: _Floats) -> _Floats:
    """The std of the data: the scale, or what the layer has seen where the scale is 1."""
    return np.where(scale == 1, std, scale)


# ---------------------------------------------------------------- words


def _few(values: _Floats) -> str:
    flat = np.ravel(values)
    if flat.size and (flat == flat[0]).all():
        return f"{flat[0]:.6g}"
    shown = ", ".join(f"{v:.6g}" for v in flat[:_FEW].tolist())
    return f"{shown}{', ...' if flat.size > _FEW else ''}"
