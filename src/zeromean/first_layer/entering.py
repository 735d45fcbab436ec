"""Follows a normalizer's numbers through a model's input, to the inputs of its first layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, UnitError
from zeromean.first_layer.arithmetic import Columns
from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
#: Of the axes of a model's input, the first one included; None where the model takes any.
Lengths = tuple[int | None, ...]
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


@dataclass(frozen=True, slots=True)
class Entering:
    """A tensor between the model's input and its first layer: which raw value is where.

    Attributes
    ----------
    norm : Normalizer
    layout : {"hwc", "chw"}
    shape : tuple of int
        Of the raw input, its first axis 1.
    index : ndarray of int64, (1, ...)
        The raw value, counted in C order, that each entry is made of; -1 for padding.
    feature, place : ndarray of int64, flat
        Of each raw value: which number of the normalizer it has, and which sample it belongs to.
    """

    norm: Normalizer
    layout: str
    shape: tuple[int, ...]
    index: _Ints
    feature: _Ints
    place: _Ints

    def moved(self, index: npt.ArrayLike) -> Entering:
        """After an operation that only moves, repeats or pads entries, given what it made."""
        return replace(self, index=np.asarray(index).astype(np.int64))

    def pooled(self, shape: Sequence[int], what: str) -> Entering:
        """After an average or a maximum over height and width, given the shape that is left.

        Parameters
        ----------
        shape : sequence of int
        what : str
            The operation, for the message.

        Raises
        ------
        PatternError
            When the numbers vary over what it takes together.
        """
        flat = self.index.reshape(*self.index.shape[:2], -1)
        if (self.index < 0).any():
            raise PatternError(f"{what} would mix the zeros of a padding with raw data")
        self._uniform(flat, 1, what)
        one = flat[:, :, :1].reshape(*flat.shape[:2], *(1,) * (len(shape) - 2))
        return self.moved(np.broadcast_to(one, shape))

    def check_rising(self, what: str) -> None:
        """Refuse what a maximum cannot pass: a negative scale, or a matrix."""
        if self.norm.matrix is not None or (self.norm.scale < 0).any():
            raise PatternError(
                f"{what} takes the largest normalized value, which is not that of the largest raw "
                "value under a matrix or a negative scale; normalize in front of the model instead"
            )

    def check_channels(self, axis: int, what: str) -> None:
        """Refuse the numbers of one channel for a convolution over another axis.

        One number fits any axis, so lengths cannot tell that a picture of one channel was measured
        and the model takes three.

        Parameters
        ----------
        axis : int
            Where the convolution's channels lie, from the end.
        what : str
            The layer, for the message.
        """
        count = self.index.shape[axis]
        if self.norm.shift.size != 1 or not self.norm.kept_shape or count == 1:
            return
        own = self._sources(self.index.ndim + axis)
        space = set().union(*map(self._sources, range(self.index.ndim + axis + 1, self.index.ndim)))
        if own and not own & space:
            raise PatternError(
                f"{what} has {count} inputs, and the normalizer keeps 1 number for "
                f"{' '.join(self.norm.pattern.kept)} under the pattern '{self.norm.pattern}'; "
                "measure data of the model's kind, or one number for everything ('n h w c ->')"
            )

    def _sources(self, axis: int) -> set[int]:
        """The axes of the input along which one moves along an axis of this tensor."""
        ends = np.moveaxis(self.index, axis, 0)
        first, second = ends[:-1], ends[1:]
        known = (first >= 0) & (second >= 0)
        places = (np.unravel_index(part[known], self.shape) for part in (first, second))
        return {i for i, (a, b) in enumerate(zip(*places, strict=True)) if (a != b).any()}

    # ------------------------------------------------------------ the numbers

    def columns(self, axis: int, what: str, *, anywhere: bool = False) -> Columns:
        """The normalization as a layer sees it that mixes one axis of this tensor.

        Parameters
        ----------
        axis : int
            1 for convolutions, -1 for linear layers.
        what : str
            The layer, for messages.
        anywhere : bool
            Let shift and offset vary along other axes; the ones returned are of no use then.

        Raises
        ------
        PatternError
            When the numbers vary along another axis.
        """
        rows = np.moveaxis(self.index, axis, -1).reshape(-1, self.index.shape[axis])
        if self.norm.matrix is not None:
            return self._mixing(rows, what)
        values = self._uniform(rows, 1, what, only_scale=anywhere)
        if any(np.isnan(v).any() for v in values):
            raise PatternError(f"{what} has inputs that are padding alone; take them out first")
        return Columns(*values)

    def constant_image(self) -> _Floats:
        """What raw zeros become, entry by entry, without the first axis."""
        norm = self.norm
        if norm.matrix is not None:
            constant = norm.offset - norm.matrix @ norm.shift
            if norm.matrix.shape[0] != norm.matrix.shape[1]:  # then the channels are the features
                return np.broadcast_to(
                    constant.reshape(-1, *(1,) * (self.index.ndim - 2)),
                    (len(constant), *self.index.shape[2:]),
                )
        else:
            constant = (norm.offset - norm.shift / norm.scale).ravel()
        if (self.index < 0).any():
            raise PatternError("border='map' has no room for a Pad in front; use border='pad'")
        image: _Floats = constant[self.feature[self.index[0]]]
        return image

    def padding_axis(self, value: float, what: str) -> tuple[int, _Floats]:
        """Where a padding of a normalized value differs, and the raw values that become it.

        Parameters
        ----------
        value : float
        what : str

        Returns
        -------
        axis : int
            Along which the raw values differ.
        raw : ndarray of float64
        """
        for axis in range(1, self.index.ndim):
            try:
                return axis, self.columns(axis, what).raw(value)
            except PatternError as error:
                refusal = error
        raise refusal

    def _table(self, values: _Floats) -> _Floats:
        """By raw value; NaN at the end, for padding."""
        return np.append(values.ravel()[self.feature], np.nan)

    def _uniform(
        self, rows: _Ints, axis: int, what: str, *, only_scale: bool = False
    ) -> tuple[_Floats, _Floats, _Floats]:
        """Shift, scale and offset along one axis, if they are the same along the others."""
        moved = np.moveaxis(rows, axis, -1).reshape(-1, rows.shape[axis])
        if self.norm.matrix is not None:
            features = np.append(self.feature, -1)[moved]
            if (features != features[:1]).any():
                raise PatternError(_varies(self.norm, what))
            return (np.empty(0),) * 3
        found = []
        for name in ("shift", "scale", "offset"):
            table = self._table(getattr(self.norm, name))[moved]
            low, high = np.fmin.reduce(table, axis=0), np.fmax.reduce(table, axis=0)
            if (low < high).any() and not (only_scale and name != "scale"):
                raise PatternError(_varies(self.norm, what))
            found.append(low)
        return found[0], found[1], found[2]

    def _mixing(self, rows: _Ints, what: str) -> Columns:
        """Of a matrix: whole places, each with all its features."""
        norm = self.norm
        assert norm.matrix is not None
        numbers = norm.shift.ravel(), np.ones(norm.shift.size), norm.offset, norm.matrix
        rows = rows[(rows >= 0).all(axis=1)]
        feature, place = self.feature[rows], self.place[rows]
        width = norm.shift.size
        if len(rows) and rows.shape[1] % width == 0:
            order = np.lexsort((feature[0], place[0]))
            features = feature[:, order].reshape(len(rows), -1, width)
            places = place[:, order].reshape(len(rows), -1, width)
            if (features == np.arange(width)).all() and (places == places[..., :1]).all():
                return Columns(*numbers, order)
        raise PatternError(
            f"{what} does not see the {width} features that the matrix mixes together: it has "
            f"{rows.shape[1]} inputs, and the normalizer's pattern is '{norm.pattern}'"
        )


def _varies(norm: Normalizer, what: str) -> str:
    one_scale = norm.matrix is None and (norm.scale == norm.scale.ravel()[0]).all()
    mend = ", or fold shifts that vary over places with border='map'" if one_scale else ""
    return (
        f"the normalizer keeps {' '.join(norm.pattern.kept)} under the pattern '{norm.pattern}', "
        f"and these numbers vary over what {what} treats alike; measure one number for each of its "
        f"inputs{mend}"
    )


# ---------------------------------------------------------------- the input


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
        For another word.
    UnitError
        When the normalizer was measured on something else than 0..255.
    """
    if border not in BORDERS:
        raise PatternError(f"border is {border!r}; choose 'pad' or 'map'")
    if input not in INPUTS:
        raise PatternError(f"input is {input!r}; choose 'float' or 'uint8'")
    units = getattr(norm, "units", None)
    if input == "uint8" and units is not None and units.range not in (None, (0, 255)):
        raise UnitError(
            f"uint8 data is 0..255, but the normalizer was measured on {norm.dtype} {units}; "
            "measure uint8 data, or leave the input float"
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
        For another layout, and for normalizers without numbers of their own.
    """
    if not isinstance(norm, Normalizer):
        raise PatternError(
            f"folding needs numbers that are known beforehand; {type(norm).__name__} has none. "
            "Give a Normalizer, which a recipe makes of a profile"
        )
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
        raise PatternError("the lengths of the model's input are not known; give shape=")
    known = math.prod(n for n in shape if n is not None)
    first = wanted.total // known if wanted.total % known == 0 else 1
    filled = [first if axis == unknown[0] else (n or 1) for axis, n in enumerate(shape)]
    return [int(n) for n in filled]


def _held(norm: Normalizer, layout: str, rank: int) -> list[int | None]:
    """The lengths that the normalizer knows, by axis of the model's input."""
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
    kept = [n for k in norm.pattern.kept for n in (_names(groups) if k == _ELLIPSIS else [k])]
    lengths: dict[Any, int] = dict(zip(kept, norm.kept_shape, strict=True))
    if layout == "chw":
        groups = [*groups[:-3], groups[-1], *groups[-3:-1]]
    sizes = {**norm.pattern.sizes, **lengths}
    return [
        math.prod(sizes[name] for name in group) if all(n in sizes for n in group) else None
        for group in groups
    ]


def _names(groups: list[tuple[str, ...]]) -> list[str]:
    return [g[0] for g in groups if g[0].startswith(_ELLIPSIS)]


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
            "channels first, and the numbers differ; say layout='hwc' or layout='chw'"
        )
    return found[-1]


def _same(first: Columns, second: Columns) -> bool:
    if first.matrix is not None:
        return np.array_equal(first.order, second.order)  # type: ignore[arg-type]
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("shift", "scale", "offset")
    )
