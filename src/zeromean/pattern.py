"""Says which axes keep their own statistics, and turns an array into (n_samples, n_features).

``"n h w c -> c"`` reads: the array has axes n, h, w and c, and every c keeps its own
statistics; all other axes are samples. The notation is that of einops (Rogozhnikov,
*Einops: Clear and Reliable Tensor Manipulations with Einstein-like Notation*, ICLR 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.notation import ELLIPSIS, check_sizes, groups, tokens

_Array = npt.NDArray[Any]

#: What the common patterns are called on the command line, for a folder of images.
NAMED = {
    "all": "n h w c ->",
    "channel": "n h w c -> c",
    "pixel": "n h w c -> h w c",
    "feature": "n d -> d",
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which axes of an array keep their own statistics.

    Build one with `Pattern.parse`.

    Attributes
    ----------
    axes : tuple of tuple of str
        The left side; one tuple for each array axis, with several names for a group.
    kept : tuple of str
        The right side, in order.
    sizes : dict
        Known axis lengths, such as ``{"g": 8}`` for a group ``(g c)``.

    Examples
    --------
    >>> channels = Pattern.parse("n h w c -> c")
    >>> channels.kept_shape((100, 32, 32, 3))
    (3,)
    >>> Pattern.parse("n h w (g c) -> g", g=2).kept_shape((10, 4, 4, 6))
    (2,)
    >>> Pattern.parse("n d ->").kept_shape((5, 7))
    ()
    """

    axes: tuple[tuple[str, ...], ...]
    kept: tuple[str, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | Pattern, /, **sizes: int) -> Pattern:
        """Read a pattern from text.

        Parameters
        ----------
        text : str
            ``left -> right``. The left side names every axis; ``(g c)`` splits one axis into
            two; one ``...`` stands for any number of axes. The right side lists what is
            kept; nothing on the right side means one number for everything.
        **sizes : int
            Lengths of axes inside groups, all but one of each group.

        Returns
        -------
        Pattern

        Raises
        ------
        PatternError
            With the pattern, what is wrong with it, and what to write instead.
        """
        if isinstance(text, Pattern):
            if sizes:
                given = ", ".join(f"{name}={size}" for name, size in sizes.items())
                raise PatternError(f"{text!r} has its sizes already; it cannot be given {given}")
            return text
        try:
            return cls._parse(text, sizes)
        except PatternError as error:
            raise PatternError(f"pattern {text!r}: {error}") from None

    @classmethod
    def _parse(cls, text: str, sizes: Mapping[str, int]) -> Pattern:
        if text in NAMED:
            raise PatternError(f"is a name of the command line; write {NAMED[text]!r}")
        if text.count("->") != 1:
            raise PatternError('needs one "->", as in "n h w c -> c"')
        left_text, right_text = text.split("->")
        left = groups(tokens(left_text))
        if "(" in right_text:
            raise PatternError("has a group on the right; list the kept axes without brackets")
        right = [name for group in groups(tokens(right_text)) for name in group]
        names = [name for group in left for name in group]
        if not names:
            raise PatternError('names no axes on the left of "->"')
        for name in names:
            if names.count(name) > 1:
                raise PatternError(f"names the axis {name!r} twice on the left")
        for name in right:
            if name not in names:
                raise PatternError(f"keeps {name!r}, which is not an axis on the left")
            if right.count(name) > 1:
                raise PatternError(f"keeps {name!r} twice")
        check_sizes(left, names, sizes)
        return cls(tuple(left), tuple(right), dict(sizes))

    def __str__(self) -> str:
        left = " ".join(g[0] if len(g) == 1 else f"({' '.join(g)})" for g in self.axes)
        return f"{left} -> {' '.join(self.kept)}".rstrip()

    def __repr__(self) -> str:
        sizes = "".join(f", {name}={size}" for name, size in sorted(self.sizes.items()))
        return f"Pattern.parse({str(self)!r}{sizes})"

    def __hash__(self) -> int:
        return hash((self.axes, self.kept, tuple(sorted(self.sizes.items()))))

    @property
    def keeps_first(self) -> bool:
        """Whether the first axis is kept: then it cannot be left out, nor split over workers."""
        return self.axes[0][0] in self.kept

    @property
    def per_item(self) -> bool:
        """Whether each entry of the first axis holds several samples, as a picture does."""
        names = [name for group in self.axes for name in group]
        return not self.keeps_first and any(n not in self.kept for n in names[1:])

    def unit(self, shape: tuple[int, ...]) -> int:
        """How many entries of the first array axis belong together and cannot be parted.

        One, for a plain axis of samples; all, for a kept axis; the inner lengths of a group.

        Parameters
        ----------
        shape : tuple of int
            Of an array with all its axes.

        Returns
        -------
        int
            At least 1.
        """
        names, lengths = self._axes_of(shape)
        first = next(self._places(names), range(0))
        if first.start in self._kept_positions(names):
            return max(1, shape[0]) if shape else 1
        return max(1, math.prod(lengths[first.start + 1 : first.stop]))

    def _axes_of(self, shape: tuple[int, ...]) -> tuple[list[str], list[int]]:
        """Names and lengths of all axes of an array, groups split and ``...`` spelled out."""
        names: list[str] = []
        lengths: list[int] = []
        plain = [g for g in self.axes if g != (ELLIPSIS,)]
        spread = len(shape) - len(plain)
        if (spread < 0) if len(plain) < len(self.axes) else (spread != 0):
            raise PatternError(_misfit(self, shape))
        position = 0
        for group in self.axes:
            if group == (ELLIPSIS,):
                names += [f"{ELLIPSIS}{i}" for i in range(spread)]
                lengths += shape[position : position + spread]
                position += spread
                continue
            names += group
            lengths += self._split(group, shape[position], shape)
            position += 1
        return names, lengths

    def _split(self, group: tuple[str, ...], length: int, shape: tuple[int, ...]) -> list[int]:
        known = math.prod(self.sizes.get(name, 1) for name in group)
        unknown = [name for name in group if name not in self.sizes]
        if (length % known) if unknown else (length != known):
            sizes = " x ".join(str(self.sizes.get(name, "?")) for name in group)
            raise PatternError(
                f"pattern {str(self)!r}: an axis of length {length} in shape {shape} "
                f"cannot be split into ({' '.join(group)}) = {sizes}"
            )
        return [self.sizes.get(name, length // known) for name in group]

    def _kept_positions(self, names: list[str]) -> list[int]:
        spread = [name for name in names if name.startswith(ELLIPSIS)]
        kept = [n for name in self.kept for n in (spread if name == ELLIPSIS else [name])]
        return [names.index(name) for name in kept]

    def complete(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape has its first axis, or lacks just that one.

        Parameters
        ----------
        shape : tuple of int

        Returns
        -------
        bool

        Raises
        ------
        PatternError
            When the shape fits neither way.
        """
        wanted = len(self.axes)
        if (ELLIPSIS,) in self.axes or len(shape) == wanted:
            return True
        if len(shape) == wanted - 1 and not self.keeps_first and len(self.axes[0]) == 1:
            return False
        raise PatternError(_misfit(self, shape))

    def kept_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the statistics of an array of this shape.

        Parameters
        ----------
        shape : tuple of int
            Of an array with all its axes.

        Returns
        -------
        tuple of int

        Raises
        ------
        PatternError
            When the pattern does not fit the shape.
        """
        _, lengths, kept = _layout(self, shape)
        return tuple(lengths[i] for i in kept)

    def layout(self, shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
        """Lengths of all axes, groups split, and which of them are kept, in order.

        Parameters
        ----------
        shape : tuple of int
            Of an array with all its axes.

        Returns
        -------
        lengths, kept : list of int
        """
        _, lengths, kept = _layout(self, shape)
        return lengths, kept

    def can_keep(self, kept_shape: tuple[int, ...]) -> bool:
        """Whether statistics under this pattern can have a shape.

        Parameters
        ----------
        kept_shape : tuple of int

        Returns
        -------
        bool
        """
        if ELLIPSIS in self.kept:
            return len(kept_shape) >= len(self.kept) - 1
        known = [self.sizes.get(name) for name in self.kept]
        return len(known) == len(kept_shape) and all(
            size in (None, length) for size, length in zip(known, kept_shape, strict=True)
        )

    def broadcast_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Shape that lets kept statistics broadcast against the array; None if they cannot.

        They cannot when an axis is a group, or when the right side changes the order.

        Parameters
        ----------
        shape : tuple of int
            Of an array with all its axes.

        Returns
        -------
        tuple of int or None
        """
        names, lengths = self._axes_of(shape)
        kept = self._kept_positions(names)
        if len(names) != len(shape) or kept != sorted(kept):
            return None
        return tuple(n if i in kept else 1 for i, n in enumerate(lengths))

    def spread(self, kept: _Array, shape: tuple[int, ...]) -> _Array:
        """Statistics of the kept shape, so that they broadcast against an array.

        Parameters
        ----------
        kept : ndarray
            Of the kept shape.
        shape : tuple of int
            Of an array with all its axes.

        Returns
        -------
        ndarray
            As many axes as `shape`; a view, except for groups.
        """
        names, lengths = self._axes_of(shape)
        positions = self._kept_positions(names)
        wanted = [lengths[i] if i in positions else 1 for i in range(len(names))]
        ordered = np.transpose(kept, np.argsort(positions)) if positions else kept
        full = ordered.reshape(wanted)
        if len(names) == len(shape):
            return full
        for group in self._places(names):  # a group must be spelled out; nothing else
            if any(i in positions for i in group):
                wanted[group.start : group.stop] = lengths[group.start : group.stop]
        merged = [math.prod(wanted[i] for i in group) for group in self._places(names)]
        return np.broadcast_to(full, wanted).reshape(merged)

    def _places(self, names: list[str]) -> Iterator[range]:
        """For each array axis, where its names stand among all names."""
        begin = 0
        for group in self.axes:
            spread = group == (ELLIPSIS,)
            for _ in range(len(names) - sum(map(len, self.axes)) + 1 if spread else 1):
                yield range(begin, begin := begin + (1 if spread else len(group)))

    def blocks(self, array: _Array, max_bytes: int = 4 << 20) -> Iterator[_Array]:
        """Cut an array into contiguous (outer, n_features, inner) blocks; samples = outer x inner.

        Blocks are views where memory order allows, otherwise copies of at most about
        `max_bytes`; always in native byte order.

        Parameters
        ----------
        array : ndarray
            With all its axes.
        max_bytes : int
            Target size of what is copied at a time.

        Yields
        ------
        ndarray of shape (outer, n_features, inner), C order
        """
        names, lengths = self._axes_of(array.shape)
        kept = self._kept_positions(names)
        view = array.reshape(lengths)  # splits axes only, so never copies
        order = sorted(range(len(names)), key=lambda i: -abs(view.strides[i]))
        if not _in_order(kept, order):
            order = [i for i in order if i not in kept] + kept
        view = view.transpose(order)
        where = [i in kept for i in order]
        if view.flags.c_contiguous and view.dtype.isnative:
            yield _as_block(view, where)
            return
        for piece in _pieces(view, where, max_bytes):
            native = piece.dtype.newbyteorder("=")
            yield _as_block(np.ascontiguousarray(piece, dtype=native), where)

    def items(self, array: _Array, max_bytes: int = 4 << 20) -> Iterator[_Array]:
        """Cut an array into contiguous (n_items, n_samples, n_features) blocks along axis 0.

        For patterns that are `per_item`: each entry of the first axis is one item.

        Parameters
        ----------
        array : ndarray
            With all its axes.
        max_bytes : int
            Target size of a block.

        Yields
        ------
        ndarray of shape (n_items, n_samples, n_features), C order, native byte order
        """
        names, lengths, kept = _layout(self, array.shape)
        order = [i for i in range(len(names)) if i not in kept] + kept
        view = array.reshape(lengths).transpose(order)
        features = math.prod(lengths[i] for i in kept)
        step = max(1, len(view) * max_bytes // max(view.nbytes, 1))
        for begin in range(0, len(view), step):
            part = view[begin : begin + step]
            part = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("="))
            samples = part.size // (len(part) * features) if part.size else 0
            yield part.reshape(len(part), samples, features)


@lru_cache(maxsize=1024)  # asked for each picture of a folder, and pictures share shapes
def _layout(pattern: Pattern, shape: tuple[int, ...]) -> tuple[list[str], list[int], list[int]]:
    """Names and lengths of all axes, and the positions of the kept ones."""
    names, lengths = pattern._axes_of(shape)
    return names, lengths, pattern._kept_positions(names)


def _misfit(pattern: Pattern, shape: tuple[int, ...]) -> str:
    """A sentence that says how a pattern and a shape differ, and two likely patterns."""
    likely = [p for p in (NAMED["channel"], "n c h w -> c", "h w c -> c") if _rank(p) == len(shape)]
    hint = f"; for this array try {' or '.join(map(repr, likely))}" if likely else ""
    return (
        f"pattern {str(pattern)!r} names {len(pattern.axes)} axes, but the array has "
        f"{len(shape)}: {shape}{hint}"
    )


def _rank(text: str) -> int:
    return len(text.split("->")[0].split())


def _in_order(kept: list[int], order: list[int]) -> bool:
    """Whether the kept axes lie side by side in memory, in the order of the right side."""
    if not kept:
        return True
    first = order.index(kept[0])
    return order[first : first + len(kept)] == kept


def _as_block(view: _Array, kept: list[bool]) -> _Array:
    """Merge the axes before, of and after the kept ones."""
    if True not in kept:
        return view.reshape(view.size, 1, 1)
    first = kept.index(True)
    last = first + kept.count(True)
    shape = view.shape
    sizes = math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])
    return view.reshape(sizes)


def _pieces(view: _Array, kept: list[bool], max_bytes: int) -> Iterator[_Array]:
    """Cut along sample axes, outermost first, until a piece is small enough."""
    if view.nbytes > max_bytes:
        for axis, size in enumerate(view.shape):
            if kept[axis] or size == 1:
                continue
            step = max(1, size * max_bytes // view.nbytes)
            for begin in range(0, size, step):
                index = (slice(None),) * axis + (slice(begin, begin + step),)
                yield from _pieces(view[index], kept, max_bytes)
            return
    yield view
