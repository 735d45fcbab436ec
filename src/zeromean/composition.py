"""Two normalizations, one after the other, as one affine map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, UnitError
from zeromean.pattern import Pattern

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]


def composed(first: Normalizer, second: Normalizer) -> Normalizer:
    """One normalizer that does what the first and then the second does.

    ((x - s₁) / c₁ + o₁ - s₂) / c₂ + o₂ = (x - s₁ - c₁ (s₂ - o₁)) / (c₁ c₂) + o₂, and likewise with
    matrices.

    Raises
    ------
    PatternError
        When the patterns cannot be brought together.
    UnitError
        When the second was measured on raw data.
    """
    if second.units.top is not None and second.units == first.units:
        raise UnitError(
            f"the second normalizer was measured on {second.dtype} {second.units}, which is raw "
            "data too; measure what the first one gives, and make the second from that"
        )
    if first.matrix is None:
        return _after_scaling(first, second)
    return _after_mixing(first, second)


def _after_scaling(first: Normalizer, second: Normalizer) -> Normalizer:
    wide = second if second.matrix is not None or _covers(second, first) else first
    if not (_covers(wide, first) and _covers(wide, second)):
        raise PatternError(
            f"cannot compose {str(first.pattern)!r} and {str(second.pattern)!r}: they must name "
            "the same axes, and one must keep all that the other keeps"
        )
    shape = wide.kept_shape
    s1, c1, o1 = (_widened(getattr(first, n), first, wide) for n in ("shift", "scale", "offset"))
    s2, c2 = (_widened(getattr(second, n), second, wide) for n in ("shift", "scale"))
    merged = _merged(first, second, wide, shift=s1 + c1 * (s2 - o1), scale=c1 * c2)
    if second.matrix is None:
        return replace(merged, offset=_widened(second.offset, second, wide))
    mixed = second.matrix / c1.ravel()
    return replace(merged, scale=np.ones(shape), matrix=mixed, offset=second.offset)


def _after_mixing(first: Normalizer, second: Normalizer) -> Normalizer:
    assert first.matrix is not None
    n_out = len(first.matrix)
    if second.matrix is not None:
        if second.shift.size != n_out:
            raise _misfit(first, second)
        offset = (first.offset - second.shift.ravel()) @ second.matrix.T + second.offset
        mixed = second.matrix @ first.matrix
    else:
        shift, scale, last = (_on_outputs(first, second, n) for n in ("shift", "scale", "offset"))
        offset, mixed = (first.offset - shift) / scale + last, first.matrix / scale[:, None]
    merged = _merged(first, second, first, shift=first.shift, scale=first.scale)
    return replace(merged, matrix=mixed, offset=offset)


def _on_outputs(first: Normalizer, second: Normalizer, name: str) -> _Floats:
    """Numbers of the second for every output of the first one's matrix."""
    assert first.matrix is not None
    n_out = len(first.matrix)
    values: _Floats = getattr(second, name)
    if n_out == first.shift.size and _covers(first, second):
        return _widened(values, second, first).ravel()
    if values.size not in (1, n_out):
        raise _misfit(first, second)
    return np.broadcast_to(values.ravel(), (n_out,))


def _misfit(first: Normalizer, second: Normalizer) -> PatternError:
    return PatternError(
        f"the first normalizer gives {len(first.matrix)} features, but the second was made for "  # type: ignore[arg-type]
        f"{second.kept_shape} under the pattern {str(second.pattern)!r}"
    )


def _merged(first: Normalizer, second: Normalizer, wide: Normalizer, **numbers: Any) -> Normalizer:
    return replace(
        first,
        pattern=wide.pattern,
        kept_shape=wide.kept_shape,
        feature_names=wide.feature_names or first.feature_names,
        recipe=f"{first.recipe}, {second.recipe}",
        constant=tuple(dict.fromkeys((*first.constant, *second.constant))),
        details={**first.details, **second.details},
        offset=np.zeros(()),
        matrix=None,
        **numbers,
    )


def _covers(wide: Normalizer, narrow: Normalizer) -> bool:
    """Whether one pattern keeps all that the other keeps, of the same axes."""
    a, b = wide.pattern, narrow.pattern
    if a == b:
        return wide.kept_shape == narrow.kept_shape
    if a.axes != b.axes or dict(a.sizes) != dict(b.sizes) or "..." in (*a.kept, *b.kept):
        return False
    lengths = dict(zip(a.kept, wide.kept_shape, strict=True))
    return all(
        lengths.get(name) == length for name, length in zip(b.kept, narrow.kept_shape, strict=True)
    )


def _widened(values: _Floats, narrow: Normalizer, wide: Normalizer) -> _Floats:
    """Numbers under one pattern, repeated for all that a wider one keeps."""
    if narrow.pattern == wide.pattern:
        return values
    kept, order = list(narrow.pattern.kept), _order(narrow.pattern, wide.pattern)
    moved = np.transpose(values, [kept.index(name) for name in order])
    shape = [
        length if name in kept else 1
        for name, length in zip(wide.pattern.kept, wide.kept_shape, strict=True)
    ]
    return np.broadcast_to(moved.reshape(shape), wide.kept_shape)


def _order(narrow: Pattern, wide: Pattern) -> list[str]:
    return [name for name in wide.kept if name in narrow.kept]
