"""What a model's input may look like, and which layout of a normalizer's numbers fits it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, UnitError
from zeromean.first_layer.arithmetic import Columns
from zeromean.first_layer.entering import Entering
from zeromean.normalizer import Normalizer

_Ints = npt.NDArray[np.int64]
#: Of the axes of a model's input, the first one included; None where the model takes any.
Lengths = tuple[int | None, ...]
UNSAID = "channels in the order that was measured"
_ELLIPSIS = "..."
#: "hwc": tensors are as the pattern says; "chw": their channels lie in front of height and width.
LAYOUTS = ("hwc", "chw")
BORDERS = ("pad", "map")
INPUTS = ("float", "uint8")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is known of a model's input before numbers are followed through it.

    Attributes
    ----------
    lengths : tuple of int or None
        Of the input's axes, the first one included; None where the model takes any.
    total : int or None
        How many inputs the first layer has, where it may see several axes as one.
    filler : int
        What an axis of any length is tried with.
    """

    lengths: Lengths
    total: int | None = None
    filler: int = 32


def check_options(norm: Normalizer, border: str, input: str) -> None:
    """Refuse options that mean nothing, or nothing for this normalizer.

    Parameters
    ----------
    norm : Normalizer
    border : {"pad", "map"}
    input : {"float", "uint8"}

    Raises
    ------
    PatternError
        For another word, and for normalizers without numbers of their own.
    UnitError
        When the normalizer was measured on something else than 0..255.
    """
    if not isinstance(norm, Normalizer):
        raise PatternError(
            f"folding needs the numbers of one Normalizer, which a recipe makes of a profile; a "
            f"{type(norm).__name__} has others for each sample or group, or none"
        )
    if border not in BORDERS:
        raise PatternError(f"border is {border!r}; choose 'pad' or 'map'")
    if input not in INPUTS:
        raise PatternError(f"input is {input!r}; choose 'float' or 'uint8'")
    if input == "uint8":
        _check_bytes(norm)


def _check_bytes(norm: Normalizer) -> None:
    """uint8 data means 0..255, which must be what was measured."""
    instead = "or leave the input float (without input='uint8' or --uint8)"
    if norm.units.range is None and norm.dtype != "uint8":
        raise UnitError(
            f"uint8 data is 0..255, and the range of the {norm.dtype} data that the normalizer was "
            "measured on is not known: measure uint8 data, or with range=(0, 255) "
            f"(--range 0 255) if that is what they are, {instead}"
        )
    if norm.units.range not in (None, (0, 255)):
        raise UnitError(
            f"uint8 data is 0..255, but the normalizer was measured on {norm.dtype} {norm.units}; "
            f"measure uint8 data, {instead}"
        )


def layouts_of(norm: Normalizer, layout: str | None) -> tuple[str, ...]:
    """The layouts to try: the one that was asked for, or those that a pattern leaves open.

    Parameters
    ----------
    norm : Normalizer
    layout : {"hwc", "chw"}, optional

    Raises
    ------
    PatternError
        For another layout, and for numbers of samples.
    """
    if norm.pattern.keeps_first:
        raise PatternError(
            f"the pattern '{norm.pattern}' keeps the samples; a model needs the same numbers for "
            "all of them"
        )
    if layout is not None and layout not in LAYOUTS:
        raise PatternError(f"layout is {layout!r}; choose 'chw' or 'hwc', or leave it out")
    if layout is not None:
        return (layout,)
    axes = norm.pattern.axes
    return LAYOUTS if len(axes) >= 3 and axes[-1] == ("c",) and norm.kept_shape else LAYOUTS[:1]


def entering(norm: Normalizer, layout: str, wanted: Wanted) -> Entering:
    """The numbers at a model's input.

    Parameters
    ----------
    norm : Normalizer
    layout : {"hwc", "chw"}
    wanted : Wanted

    Raises
    ------
    PatternError
        When the model's input and the normalizer's pattern do not go together.
    """
    shape = _shape(norm, layout, wanted)
    measured = (*shape[:-3], *shape[-2:], shape[-3]) if layout == "chw" else shape
    pattern = norm.pattern
    norm.check_shape(measured)
    lengths, kept = pattern.layout(measured)

    def moved(values: _Ints) -> _Ints:
        full = np.broadcast_to(values, lengths).reshape(measured)
        return np.moveaxis(full, -1, -3).ravel() if layout == "chw" else full.ravel()

    ordered = np.arange(norm.shift.size).reshape(norm.kept_shape)
    feature = np.transpose(ordered, np.argsort(kept)) if kept else ordered
    spread = [n if i in kept else 1 for i, n in enumerate(lengths)]
    others = [1 if i in kept else n for i, n in enumerate(lengths)]
    return Entering(
        norm=norm,
        layout=layout,
        shape=shape,
        index=np.arange(math.prod(shape)).reshape(shape),
        feature=moved(feature.reshape(spread)),
        place=moved(np.arange(math.prod(others)).reshape(others)),
    )


def _shape(norm: Normalizer, layout: str, wanted: Wanted) -> tuple[int, ...]:
    """The model's input, every axis with a length, the first one 1."""
    rank = len(wanted.lengths)
    shape: list[int | None] = [1, *wanted.lengths[1:]]
    for axis, held in enumerate(_held(norm, layout, rank)):
        if axis and held is not None and wanted.lengths[axis] not in (None, held):
            said = tuple(n or "any" for n in wanted.lengths[1:])
            raise PatternError(
                f"the model takes inputs of shape {said}, and the normalizer keeps "
                f"{norm.kept_shape} under the pattern '{norm.pattern}'; measure data of the "
                "model's kind"
            )
        if axis and held is not None:
            shape[axis] = held
    return tuple(_filled(shape, wanted))


def _filled(shape: list[int | None], wanted: Wanted) -> list[int]:
    unknown = [axis for axis, length in enumerate(shape) if length is None]
    if wanted.total is None or not unknown:
        return [wanted.filler if n is None else n for n in shape]
    if unknown[-1] - unknown[0] != len(unknown) - 1:
        raise PatternError("the lengths of the model's input are not known; give shape= (--shape)")
    known = math.prod(n for n in shape if n is not None)
    first = wanted.total // known if wanted.total % known == 0 else 1
    filled = [first if axis == unknown[0] else (n or 1) for axis, n in enumerate(shape)]
    return [int(n) for n in filled]


def _groups(norm: Normalizer, layout: str, rank: int) -> list[tuple[str, ...]]:
    """The axes of the model's input, by what the pattern calls them; ``...`` spelled out."""
    groups: list[tuple[str, ...]] = list(norm.pattern.axes)
    if (_ELLIPSIS,) in groups:
        place = groups.index((_ELLIPSIS,))
        spread = [(f"{_ELLIPSIS}{i}",) for i in range(rank - len(groups) + 1)]
        groups[place : place + 1] = spread
    if len(groups) != rank or (layout == "chw" and rank < 3):
        raise PatternError(
            f"the model takes inputs of {rank} axes, and the pattern '{norm.pattern}' does not "
            "have as many; measure with a pattern for a batch of the model's inputs"
        )
    return [*groups[:-3], groups[-1], *groups[-3:-1]] if layout == "chw" else groups


def _held(norm: Normalizer, layout: str, rank: int) -> list[int | None]:
    """The lengths that the normalizer knows, by axis of the model's input."""
    groups = _groups(norm, layout, rank)
    spread = [group[0] for group in groups if group[0].startswith(_ELLIPSIS)]
    spread.sort(key=lambda name: int(name.removeprefix(_ELLIPSIS)))
    kept = [n for k in norm.pattern.kept for n in (spread if k == _ELLIPSIS else [k])]
    lengths: dict[Any, int] = dict(zip(kept, norm.kept_shape, strict=True))
    sizes = {**norm.pattern.sizes, **lengths}
    return [
        math.prod(sizes[name] for name in group) if all(n in sizes for n in group) else None
        for group in groups
    ]


def expectation(norm: Normalizer, layout: str, rank: int, dtype: str) -> str:
    """What a folded model must be given, in a phrase: dtype, range, channel order, axes.

    Parameters
    ----------
    norm : Normalizer
    layout : {"hwc", "chw"}
    rank : int
        How many axes the model's input has.
    dtype : str
        Of that input.

    Examples
    --------
    >>> import zeromean as zm
    >>> x = np.zeros((2, 4, 4, 3), np.uint8)
    >>> norm = zm.zero_mean(zm.measure(x, "n h w c -> c", channels="RGB"))
    >>> expectation(norm, "chw", 4, "float32")
    'float32 0..255, RGB, axes (n, c, h, w)'
    """
    names = [" ".join(group).replace(_ELLIPSIS, "axis") for group in _groups(norm, layout, rank)]
    unsaid = norm.pattern.kept == ("c",)
    return phrase(norm, dtype, norm.units.channels or UNSAID * unsaid, names)


def phrase(norm: Normalizer, dtype: str, channels: str, axes: Sequence[str]) -> str:
    """What data must be, for every message that says so: values, channel order, axes."""
    limits = norm.units.range
    span = " in the units of the measured data" if limits is None else " {:g}..{:g}".format(*limits)
    parts = (dtype + span, channels, f"axes ({', '.join(axes)})")
    return ", ".join(part for part in parts if part)


def guesses(lengths: Lengths, channels: int | None) -> list[Lengths]:
    """What an input may look like: as it is known, or with a convolution's channels somewhere.

    Parameters
    ----------
    lengths : tuple of int or None
    channels : int or None
        None for linear layers.
    """
    if channels is None:
        return [lengths]
    places = [i for i in (1, len(lengths) - 1) if i > 0 and lengths[i] is None]
    return [lengths, *((*lengths[:i], channels, *lengths[i + 1 :]) for i in places)]


def chosen(
    made: Callable[[str, Lengths], Any],
    norm: Normalizer,
    layout: str | None,
    tried: Sequence[Lengths],
    *,
    vary: bool = False,
) -> Any:
    """What comes of the one layout that fits; asked for where both do and differ.

    Parameters
    ----------
    made : function
        Of a layout and an input's lengths: something, and `Columns`; may raise PatternError.
    norm : Normalizer
    layout : {"hwc", "chw"}, optional
    tried : sequence of tuple of int or None
        Lengths to try in turn.
    vary : bool
        Whether numbers may vary over places, which `Columns` does not tell.

    Raises
    ------
    PatternError
        When no layout fits, or both do.
    """
    found, refusals = [], []
    for choice in layouts_of(norm, layout):
        errors: list[PatternError] = []
        for lengths in tried:
            try:
                found.append(made(choice, lengths))
                break
            except PatternError as error:
                errors.append(error)
        refusals += errors[:1]
    if not found:
        raise refusals[-1]  # of channels first, where both were tried
    if len(found) == 2 and (vary or not _same(*(columns for _, columns in found))):
        raise PatternError(
            f"the model may take its input as the pattern '{norm.pattern}' says or with its "
            "channels first, and the numbers differ; say layout='hwc' or layout='chw' (--layout)"
        )
    return found[-1]


def _same(first: Columns, second: Columns) -> bool:
    if first.matrix is not None:
        return np.array_equal(first.order, second.order)  # type: ignore[arg-type]
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("shift", "scale", "offset")
    )
