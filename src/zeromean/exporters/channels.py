"""A mean and a std for each channel, in the units and the order that a target wants; or why not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, UnitError
from zeromean.exporters.forms import Form, form_of, plain_numbers
from zeromean.pattern import Pattern

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Channels:
    """Numbers for each channel.

    Attributes
    ----------
    mean, std : ndarray of float64, (n_channels,)
        y = (x / top - mean) / std, with top = 1 for numbers in raw units.
    top : float
        What the target divides raw data by before it uses the numbers.
    order : str
        Of the channels, such as "RGB"; empty where nobody said.
    carried : Normalizer
        What these numbers amount to, in the order of the normalizer that was given.
    lost : str
        What they cannot hold; empty where nothing is lost.
    form : Form
    """

    mean: _Floats
    std: _Floats
    top: float
    order: str
    carried: Normalizer
    lost: str
    form: Form

    def __len__(self) -> int:
        return len(self.mean)


def channels_of(
    norm: Normalizer,
    title: str,
    *,
    to_unit: bool,
    wants: str = "",
    declared: str = "",
    counts: tuple[int, ...] = (),
    instead: str = "torch, onnx or numpy",
) -> Channels:
    """The numbers of a normalizer for a target that holds one mean and std for each channel.

    Parameters
    ----------
    norm : Normalizer
    title : str
        Of the target, for the messages.
    to_unit : bool
        Whether the target divides the data by the top of its range first, so that mean and std
        are those of 0..1 data.
    wants : str
        The order in which the target feeds three channels, such as "RGB"; empty where it feeds
        what it is given.
    declared : str
        What the user says of the order.
    counts : tuple of int
        How many channels the target takes; any number if empty.
    instead : str
        Targets that carry everything.

    Raises
    ------
    PatternError
        For whitening, for data that are not pictures, and for a wrong number of channels.
    UnitError
        Where the range or the order of the channels is needed and not known, or another one.
    """
    form = form_of(norm)
    if form.kind != "pictures" or form.keeps == "other":
        raise PatternError(
            f"{title} takes pictures with one mean and std for each channel; the pattern "
            f"{str(norm.pattern)!r} is not of that kind: measure with 'n h w c -> c', or export to "
            f"{instead}"
        )
    if norm.matrix is not None:
        raise PatternError(
            f"{title} holds one mean and std for each channel, and {norm.recipe} mixes the "
            f"features with a matrix; export to {instead}"
        )
    carried, lost = _per_channel(norm, form)
    order = ordered(norm, title, wants or declared, declared)
    shift, scale = plain_numbers(carried)
    n_channels = shift.size if form.keeps != "one" else max(len(order), 1)
    _check_count(n_channels, counts, title, instead)
    places = _places(norm.units.channels, order, n_channels)
    shift, scale = (np.broadcast_to(v.ravel(), n_channels)[places] for v in (shift, scale))
    top = _top(norm, title) if to_unit else 1.0
    return Channels(_divided(shift, top), _divided(scale, top), top, order, carried, lost, form)


def ordered(norm: Normalizer, title: str, wants: str, declared: str) -> str:
    """The order of the channels that the target will be given.

    Raises
    ------
    UnitError
        When the measured order is another one, or not known, and the user did not say.
    """
    held, n = norm.units.channels, norm.kept_shape[-1] if norm.kept_shape else 0
    if declared and held and sorted(declared) != sorted(held):
        raise UnitError(f"channels={declared!r} is no reordering of the measured channels {held!r}")
    if declared and not held and form_of(norm).keeps == "channel" and len(declared) != n:
        raise UnitError(
            f"channels={declared!r} names {len(declared)} channels, but {n} were measured"
        )
    if not wants or len(wants) != len(held or wants):
        return declared or held
    if (
        not held
        and not declared
        and form_of(norm).keeps != "one"
        and len(wants) == 3 == _count(norm)
    ):
        raise UnitError(
            f"{title} feeds {wants}, and the order of the measured channels is not recorded: say "
            f"channels={wants!r} if that is their order, or measure with channels="
        )
    if held and held != wants and not declared and sorted(held) == sorted(wants):
        raise UnitError(
            f"the numbers are for {held}, and {title} feeds {wants}: channels={wants!r} puts them "
            "in that order"
        )
    if declared and declared != wants and sorted(declared) == sorted(wants):
        raise UnitError(f"{title} feeds {wants}, not {declared}: say channels={wants!r}")
    return declared or held


def _count(norm: Normalizer) -> int:
    """How many channels the numbers are for; 1 where they have none."""
    form = form_of(norm)
    sizes = dict(zip(norm.pattern.kept, norm.kept_shape, strict=False))
    return sizes.get(form.channel_axis, 1)


def _places(held: str, order: str, n: int) -> list[int]:
    """Where each channel of the new order stands in the old one."""
    if not held or not order or sorted(held) != sorted(order) or len(order) != n:
        return list(range(n))
    return [held.index(letter) for letter in order]


def _per_channel(norm: Normalizer, form: Form) -> tuple[Normalizer, str]:
    """A normalizer with one number a channel, and what it lost on the way.

    Of a mean image remain the mean of its pixels, and the root of what the squares of their scale
    and the spread of their means make together: the std of all pixels pooled.
    """
    if form.keeps != "pixel":
        return norm, ""
    kept = form.channel_axis
    axes = tuple(i for i, name in enumerate(norm.pattern.kept) if name != kept)
    shift, scale = plain_numbers(norm)
    pooled = np.sqrt((scale**2).mean(axis=axes) + shift.var(axis=axes))
    even = np.ptp(scale, axis=axes) == 0
    pattern = Pattern.parse(f"{' '.join(form.axes)} -> {kept}")
    reduced = replace(
        norm,
        pattern=pattern,
        kept_shape=(norm.shift.shape[norm.pattern.kept.index(kept)],) if kept else (),
        shift=shift.mean(axis=axes),
        scale=np.where(even, scale.mean(axis=axes), pooled),
        offset=np.zeros(()),
        feature_names=(),
        constant=(),
    )
    return reduced, "a mean image: it has one number for each channel"


def _check_count(n: int, counts: tuple[int, ...], title: str, instead: str) -> None:
    if counts and n not in counts:
        wanted = " or ".join(map(str, counts))
        raise PatternError(
            f"{title} takes {wanted} channels, and the normalizer has {n}: measure the channels "
            f"that the model is given, or export to {instead}"
        )


def _top(norm: Normalizer, title: str) -> float:
    if norm.units.top is None:
        said = "is not known" if norm.units.range is None else f"is {norm.units}"
        raise UnitError(
            f"{title} wants numbers in 0..1 units, and the range of the measured data {said}: "
            f"{_how_to_range(norm)}"
        )
    return norm.units.top


def _how_to_range(norm: Normalizer) -> str:
    """What to do where the range is not known, or does not begin at 0; only a range that fits."""
    if norm.units.range is not None:
        return "measure it as it was before it was centered, or export to torch, onnx or numpy"
    largest = float(np.max(np.abs(norm.shift) + np.abs(norm.scale)))
    guess = next((top for top in (1, 255, 65535) if largest <= top), None)
    if "float" not in norm.dtype or guess is None:
        return "measure with range=(0, top) (--range 0 TOP), of the largest value there can be"
    return (
        f"measure with range=(0, {guess}) (--range 0 {guess}) if that is the scale of these "
        "floats, or whatever it is"
    )


def _divided(values: _Floats, top: float) -> _Floats:
    """Divided exactly and rounded once."""
    return np.array([float(Fraction(v) / Fraction(top)) for v in values.tolist()])


def one_scale(norm: Normalizer) -> tuple[Normalizer, str]:
    """A normalizer with one scale for all channels, and what it lost; itself where they agree.

    The one scale is in the middle of the reciprocals, which makes the largest error smallest.

    Parameters
    ----------
    norm : Normalizer
        With one number for each channel.
    """
    scales = np.unique(norm.scale)
    if len(scales) < 2:
        return norm, ""
    middle = 2 / (1 / scales.min() + 1 / scales.max())
    shift, _ = plain_numbers(norm)
    one = replace(norm, shift=shift, scale=np.full(norm.kept_shape, middle), offset=np.zeros(()))
    return one, "one scale for each channel: it has one for all"


def error_of(norm: Normalizer, carried: Normalizer) -> float:
    """How far a normalizer is from another on the same data, at most, in units of the raw data.

    Two affine maps differ most at an end of the range; where no range is known, four scales around
    the shift are looked at. A difference of y counts as so much of x as makes it: times the scale.

    Parameters
    ----------
    norm, carried : Normalizer
        Without matrices; their patterns have the same axes.

    Returns
    -------
    float
    """
    shape = _common_shape(norm, carried)
    a = [norm.pattern.spread(v, shape) for v in (norm.shift, norm.scale, norm.offset)]
    b = [carried.pattern.spread(v, shape) for v in (carried.shift, carried.scale, carried.offset)]
    low, high = norm.units.range or (a[0] - 4 * a[1], a[0] + 4 * a[1])
    worst = 0.0
    for x in (low, high):
        there = (x - a[0]) / a[1] + a[2]
        here = (x - b[0]) / b[1] + b[2]
        worst = max(worst, float(np.max(np.abs(here - there) * a[1])))
    return worst


def _common_shape(norm: Normalizer, carried: Normalizer) -> tuple[int, ...]:
    sizes = dict(zip(norm.pattern.kept, norm.kept_shape, strict=True))
    sizes |= dict(zip(carried.pattern.kept, carried.kept_shape, strict=True))
    return tuple(sizes.get(group[0], 1) for group in norm.pattern.axes)
