"""Where the statistics of a pattern lie in a tensor of some number of axes; plain integers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor

from zeromean.errors import PatternError
from zeromean.pattern import Pattern

_ELLIPSIS = "..."
_MOST = 12  # axes that a tensor may have under a pattern with "..."
#: None: tensors are as the pattern says. "chw": their channels lie in front of height and width,
#: though the pattern has them last. "hwc->chw": they come last and go first.
LAYOUTS = (None, "chw", "hwc->chw")


@dataclass(frozen=True, slots=True)
class Axes:
    """How one number of axes matches a pattern; groups with a kept name count as split.

    Attributes
    ----------
    splits : tuple of (int, tuple of int)
        Tensor axes to split and into which lengths, -1 where it follows; last axis first.
    order : tuple of int
        How to permute the kept shape so that its axes come in the tensor's order.
    shape : tuple of int
        Of the statistics: kept lengths in their places, 1 elsewhere.
    kept : tuple of int
        Axes of the split tensor that are kept, in the order of the right side.
    checks : tuple of (int, int, bool)
        Tensor axes with a kept name, the length that they must have, and whether a multiple of it
        will do.
    """

    splits: tuple[tuple[int, tuple[int, ...]], ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]
    kept: tuple[int, ...]
    checks: tuple[tuple[int, int, bool], ...]

    @property
    def others(self) -> tuple[int, ...]:
        """Axes of the split tensor that are not kept."""
        return tuple(i for i in range(len(self.shape)) if i not in self.kept)

    def split(self, x: Tensor) -> Tensor:
        """The tensor with its groups split; a view."""
        for axis, lengths in self.splits:
            x = x.unflatten(axis, lengths)
        return x

    def merge(self, y: Tensor) -> Tensor:
        """Undo `split`."""
        for axis, lengths in reversed(self.splits):
            y = y.flatten(axis, axis + len(lengths) - 1)
        return y

    def spread(self, values: Tensor) -> Tensor:
        """Statistics of the kept shape, so that they broadcast against the split tensor."""
        return values.permute(self.order).reshape(self.shape)

    def fits(self, x: Tensor) -> bool:
        """Whether the kept axes of a tensor have their lengths."""
        return all(
            x.shape[axis] % length == 0 if open_ended else x.shape[axis] == length
            for axis, length, open_ended in self.checks
        )


def axes_of(
    pattern: Pattern,
    kept_shape: tuple[int, ...],
    layout: str | None = None,
    *,
    split_all: bool = False,
) -> dict[int, Axes]:
    """What matches the pattern, by the number of axes of a tensor.

    Parameters
    ----------
    pattern : Pattern
    kept_shape : tuple of int
    layout : {None, "chw", "hwc->chw"}
    split_all : bool
        Split groups without a kept name too.

    Returns
    -------
    dict of int to Axes
        One entry; two where the first axis may be missing; many under ``...``.

    Raises
    ------
    PatternError
        When there is no such layout, or the pattern has too few axes for it.
    """
    if layout not in LAYOUTS:
        raise PatternError(f"layout is {layout!r}; choose 'chw' or 'hwc->chw', or leave it out")
    if layout is not None and len(pattern.axes) < 3 and (_ELLIPSIS,) not in pattern.axes:
        raise PatternError(
            f"layout {layout!r} is for the axes h, w, c; the pattern {str(pattern)!r} has fewer"
        )
    found = {}
    for groups in _spelled_out(pattern, len(kept_shape)):
        if layout == "chw" and len(groups) >= 3:
            groups = [*groups[:-3], groups[-1], *groups[-3:-1]]
        elif layout is not None and len(groups) < 3:
            continue
        found[len(groups)] = _axes(pattern, groups, kept_shape, split_all)
    return found


def _spelled_out(pattern: Pattern, n_kept: int) -> list[list[tuple[str, ...]]]:
    """The axes of a pattern for each number that fits, ``...`` as ``...0``, ``...1`` and so on."""
    groups = list(pattern.axes)
    if (_ELLIPSIS,) not in groups:
        short = [] if pattern.keeps_first or len(groups[0]) > 1 else [groups[1:]]
        return [groups, *short]
    place = groups.index((_ELLIPSIS,))
    counts = range(_MOST - len(groups) + 2)
    if _ELLIPSIS in pattern.kept:
        counts = range(n_kept - len(pattern.kept) + 1, n_kept - len(pattern.kept) + 2)
    return [
        [*groups[:place], *((f"{_ELLIPSIS}{i}",) for i in range(n)), *groups[place + 1 :]]
        for n in counts
    ]


def _axes(
    pattern: Pattern, groups: list[tuple[str, ...]], kept_shape: tuple[int, ...], split_all: bool
) -> Axes:
    spread = [g[0] for g in groups if g[0].startswith(_ELLIPSIS)]
    spread.sort(key=lambda name: int(name.removeprefix(_ELLIPSIS)))  # as measured, not as moved
    kept = [n for k in pattern.kept for n in (spread if k == _ELLIPSIS else [k])]
    lengths = dict(zip(kept, kept_shape, strict=True))
    names: list[str] = []
    splits: list[tuple[int, tuple[int, ...]]] = []
    checks: list[tuple[int, int, bool]] = []
    for axis, group in enumerate(groups):
        sizes = [{**pattern.sizes, **lengths}.get(name, -1) for name in group]
        has_kept = any(name in lengths for name in group)
        if has_kept:
            checks.append((axis, prod(n for n in sizes if n > 0), -1 in sizes))
        if len(group) > 1 and (has_kept or split_all):
            splits.append((axis, tuple(sizes)))
            names += group
        else:
            names.append(group[0])
    positions = [names.index(name) for name in kept]
    return Axes(
        splits=tuple(reversed(splits)),
        order=tuple(sorted(range(len(kept)), key=positions.__getitem__)),
        shape=tuple(lengths.get(name, 1) for name in names),
        kept=tuple(positions),
        checks=tuple(checks),
    )
