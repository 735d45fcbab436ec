"""Weights, bias, pad values and correction map of a folded layer, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import FormatError, PatternError

_Floats = npt.NDArray[np.float64]
_SINGULAR = 1e-9  # how far from the wanted value the best raw value of a matrix may lie


@dataclass(frozen=True, slots=True)
class Columns:
    """The normalization as the k inputs of a layer see it, one row of the weights' columns each.

    Attributes
    ----------
    shift, scale, offset : ndarray of float64, (k,)
        Of each input; for a matrix of its features, (n_features,) and (n_out,).
    matrix : ndarray of float64, (n_out, n_features), or None
    order : ndarray of int, (k,)
        With a matrix: the inputs sorted by place, and by feature within a place.
    """

    shift: _Floats
    scale: _Floats
    offset: _Floats
    matrix: _Floats | None = None
    order: npt.NDArray[np.int64] | None = None

    @property
    def constant(self) -> _Floats:
        """(k,): what a raw zero becomes; NaN-free."""
        if self.matrix is None:
            return self.offset - self.shift / self.scale
        return self._placed(self.offset - self.matrix @ self.shift)

    def _placed(self, values: _Floats) -> _Floats:
        """One value for each feature, at all the inputs that hold it."""
        assert self.order is not None
        if len(self.order) == 0 or len(values) != self._features:
            return values  # a matrix that leaves fewer features has one place
        placed = np.empty(len(self.order))
        placed[self.order] = np.tile(values, len(self.order) // len(values))
        return placed

    @property
    def _features(self) -> int:
        return len(self.shift)

    def weights(self, weight: _Floats, groups: int = 1) -> _Floats:
        """The weights for raw data.

        Parameters
        ----------
        weight : ndarray of float64, (out, k / groups, ...)
        groups : int
            Of a convolution.

        Returns
        -------
        ndarray of float64
            Of the same shape, but for a matrix that leaves fewer features.

        Raises
        ------
        PatternError
            For whitening across the groups of a convolution.
        """
        if self.matrix is None:
            scale = _by_group(self.scale, weight, groups)
            return (_grouped(weight, groups) / scale).reshape(weight.shape)
        if groups != 1:
            raise PatternError(
                f"whitening mixes channels, and the first layer keeps {groups} groups of them "
                "apart; whiten the data instead, or use a convolution with groups=1"
            )
        return self._mixed(weight)

    def _mixed(self, weight: _Floats) -> _Floats:
        assert self.matrix is not None
        assert self.order is not None
        last = np.moveaxis(weight, 1, -1)
        if self.matrix.shape[0] != self.matrix.shape[1]:
            reduced: _Floats = np.moveaxis(last @ self.matrix, -1, 1)
            return reduced
        by_place = last[..., self.order].reshape(*last.shape[:-1], -1, self._features)
        mixed: _Floats = np.empty_like(last)
        mixed[..., self.order] = (by_place @ self.matrix).reshape(last.shape)
        folded: _Floats = np.moveaxis(mixed, -1, 1)
        return folded

    def bias(self, weight: _Floats, bias: _Floats | None, groups: int = 1) -> _Floats:
        """The bias for raw data, (out,).

        Parameters
        ----------
        weight : ndarray of float64, (out, k / groups, ...)
            Of the layer as it was.
        bias : ndarray of float64, (out,), or None
        groups : int
        """
        constant = _by_group(self.constant, weight, groups)
        axes = tuple(range(2, weight.ndim + 1))
        added: _Floats = (_grouped(weight, groups) * constant).sum(axis=axes).reshape(-1)
        return added if bias is None else added + bias

    def raw(self, value: float) -> _Floats:
        """The raw values that become one normalized value, such as the 0 of a padding.

        Parameters
        ----------
        value : float

        Returns
        -------
        ndarray of float64, (k,)

        Raises
        ------
        PatternError
            When a matrix cannot reach the value.
        """
        if self.matrix is None:
            return self.shift + (value - self.offset) * self.scale
        wanted = value - self.offset
        raw = np.linalg.pinv(self.matrix) @ wanted
        if np.abs(self.matrix @ raw - wanted).max() > _SINGULAR * max(1.0, np.abs(wanted).max()):
            raise PatternError(
                f"no raw value becomes {value:g} under this matrix, so it cannot be padded with; "
                "fold with border='map' (--border map)"
            )
        return self._placed(self.shift + raw)


def _grouped(weight: _Floats, groups: int) -> _Floats:
    """(groups, out / groups, k / groups, ...)."""
    return weight.reshape(groups, -1, *weight.shape[1:])


def _by_group(values: _Floats, weight: _Floats, groups: int) -> _Floats:
    """(groups, 1, k / groups, 1, ...), to go with `_grouped`."""
    return values.reshape(groups, 1, weight.shape[1], *(1,) * (weight.ndim - 2))


def correction_map(
    weight: _Floats,
    bias: _Floats | None,
    image: _Floats,
    *,
    pads: Sequence[tuple[int, int]],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int = 1,
) -> _Floats:
    """What a zero-padded convolution makes of an image: the bias of each output of the folded one.

    Given the image t = offset - shift / scale that raw zeros become, it is the part of the
    convolution that does not depend on the data. At the border fewer weights count.

    Parameters
    ----------
    weight : ndarray of float64, (out, channels / groups, *kernel)
        Of the layer as it was.
    bias : ndarray of float64, (out,), or None
    image : ndarray of float64, (channels, *size)
    pads : sequence of (before, after)
    strides, dilations : sequence of int
    groups : int

    Returns
    -------
    ndarray of float64, (out, *size of the output)

    Examples
    --------
    A mean filter of width 3 over ones: at both ends one weight lies outside.

    >>> weight = np.full((1, 1, 3), 1 / 3)
    >>> one = {"strides": [1], "dilations": [1]}
    >>> correction_map(weight, None, np.ones((1, 4)), pads=[(1, 1)], **one).round(3)
    array([[0.667, 1.   , 1.   , 0.667]])
    """
    kernel = weight.shape[2:]
    padded = np.pad(image, [(0, 0), *pads])
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(padded.shape[1:], kernel, strides, dilations, strict=True)
    ]
    parts = padded.reshape(groups, -1, *padded.shape[1:])
    rows = _grouped(weight, groups)
    result = np.zeros((groups, rows.shape[1], *sizes))
    for tap in product(*map(range, kernel)):
        seen = tuple(
            slice(i * d, i * d + s * (n - 1) + 1, s)
            for i, d, s, n in zip(tap, dilations, strides, sizes, strict=True)
        )
        weights, values = rows[(slice(None),) * 3 + tap], parts[(slice(None),) * 2 + seen]
        result += np.einsum("goc,gc...->go...", weights, values)
    result = result.reshape(-1, *sizes)
    return result if bias is None else result + bias.reshape(-1, *(1,) * len(sizes))


def rounded(values: _Floats, dtype: Any, what: str) -> npt.NDArray[Any]:
    """float64 in the dtype of the weights, rounded once.

    Parameters
    ----------
    values : ndarray of float64
    dtype : numpy dtype
    what : str
        For the message.

    Raises
    ------
    FormatError
        When a value is too large for it.
    """
    with np.errstate(over="ignore", under="ignore"):
        result = values.astype(dtype)
    if not np.isfinite(result.astype(np.float64)).all():
        raise FormatError(
            f"the folded {what} reaches {np.abs(values).max():.3g}, which {np.dtype(dtype).name} "
            "cannot hold; fold into a float32 model and convert it afterwards"
        )
    return result
