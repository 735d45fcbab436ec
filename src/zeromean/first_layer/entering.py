"""Follows a normalizer's numbers through a model's input, to the inputs of its first layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.first_layer.arithmetic import Columns
from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


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
            raise PatternError(
                "border='map' has no room for a Pad in front; use border='pad' (--border pad)"
            )
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
    mend = (
        ", or fold shifts that vary over places with border='map' (--border map)"
        if one_scale
        else ""
    )
    return (
        f"the normalizer keeps {' '.join(norm.pattern.kept)} under the pattern '{norm.pattern}', "
        f"and these numbers vary over what {what} treats alike; measure one number for each of its "
        f"inputs{mend}"
    )
