"""Sources of arrays that are read in blocks: which blocks there are, and who reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from zeromean.errors import PatternError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Entry, ListedSource, Source
from zeromean.sources.arrays import likely_pattern, spread
from zeromean.sources.blocks import BlockShard, Piece, Reading, Unreadable, Values
from zeromean.sources.cutting import Box, Cut, Layout, Some, cut, some

_SHARD_BYTES = 16 << 20
_SHARD_BLOCKS = 256
_ALL_SAMPLES = Pattern.parse("n ... ->")
_WITH_ITEM_STDS = ("bool", "uint8", "int8", "uint16", "int16")  # whose items must stay whole


@dataclass(frozen=True, slots=True)
class _Plan:
    """The blocks of one array: all of a cut, or those of a quick look."""

    array: Any
    whole: Cut
    chosen: list[Some] | None

    def __len__(self) -> int:
        return len(self.whole) if self.chosen is None else len(self.chosen)

    def some(self, i: int) -> Some:
        return Some(self.whole[i]) if self.chosen is None else self.chosen[i]


class Blocks(Source):
    """Arrays that are read in blocks, one after the other along their first axis.

    Parameters
    ----------
    arrays : sequence of BlockArray or Unreadable
    pattern : Pattern or None
        None for the likely one.
    name : str
    limit : int, optional
        Only that many entries of the first axis, spread evenly.
    whole_items : bool
        Never cut an entry of the first axis.

    Raises
    ------
    PatternError
        When the pattern does not fit, or there is none and it cannot be guessed.
    """

    def __init__(
        self,
        arrays: Sequence[Any],
        pattern: Pattern | None,
        name: str,
        limit: int | None = None,
        *,
        whole_items: bool = False,
    ) -> None:
        self.name, self._limit = name, limit
        self._unreadable = [a for a in arrays if isinstance(a, Unreadable)]
        held = [a for a in arrays if not isinstance(a, Unreadable)]
        self._whole_items = whole_items
        if hasattr(held[0], "columns"):
            self.pattern, self._axes = Pattern.parse(NAMED["feature"]), _ALL_SAMPLES
            self.feature_names = held[0].columns
            self._arrays = [_like(array, held[0]) for array in held]
            return
        self.pattern = self._axes = _pattern_of(held[0]) if pattern is None else pattern
        self._arrays = [_led(array, self.pattern) for array in held]

    def cut_rows_only(self) -> None:
        """Cut along the first axis alone: its entries are told apart, by labels say."""
        self._whole_items = True
        for made in ("_plans", "_places"):
            self.__dict__.pop(made, None)

    @cached_property
    def _plans(self) -> list[_Plan]:
        plans = [_Plan(a, self._cut(a.layout), None) for a in self._arrays]
        if self.chosen is None:
            return plans
        for i, plan in enumerate(plans):
            rows = self.chosen[
                slice(*np.searchsorted(self.chosen, self._starts[i : i + 2]).tolist())
            ]
            unit = self._units[i]
            wanted = rows[::unit] - self._starts[i]
            plans[i] = replace(plan, chosen=some(plan.whole, plan.array.layout, wanted, unit))
        return plans

    def _cut(self, layout: Layout) -> Cut:
        whole = self._axes.per_item and layout.dtype.name in _WITH_ITEM_STDS
        return cut(layout, self._axes, whole_items=whole or self._whole_items)

    @cached_property
    def _units(self) -> list[int]:
        return [self._axes.unit(array.layout.shape) for array in self._arrays]

    @cached_property
    def _starts(self) -> list[int]:
        """Where each array begins among all entries, and the end."""
        lengths = [array.layout.shape[0] for array in self._arrays]
        return [0, *np.cumsum(lengths, dtype=np.int64).tolist()]

    @cached_property
    def chosen(self) -> Any:
        """The entries of the first axis that a quick look takes; None for all."""
        if self._limit is None:
            return None
        units = np.diff(self._starts) // self._units
        ends, wanted = np.cumsum(units), max(1, self._limit // max(self._units))
        if wanted >= ends[-1]:
            return None
        number = np.array(spread(int(ends[-1]), wanted))
        which = np.searchsorted(ends, number, side="right")
        unit = np.array(self._units)[which]
        begin = np.array(self._starts)[which] + (number - (ends - units)[which]) * unit
        rows = [np.arange(b, b + u) for b, u in zip(begin, unit, strict=True)]
        return np.concatenate(rows)

    @property
    def n_items(self) -> int:
        """How many entries of the first axis; a file that cannot be opened counts as one."""
        held = self._starts[-1] if self.chosen is None else len(self.chosen)
        return int(held) + len(self._unreadable)

    @property
    def n_whole(self) -> int:
        """The same without a limit."""
        return int(self._starts[-1]) + len(self._unreadable)

    @property
    def n_bytes(self) -> int:
        """Size of what is read, in memory."""
        held = sum(array.layout.nbytes for array in self._arrays)
        return int(held * self.n_items // max(1, self.n_whole))

    @property
    def small_files(self) -> bool:  # type: ignore[override]
        """Whether blocks are so large that there must not be several in memory."""
        return any(plan.whole.large for plan in self._plans)

    @cached_property
    def _places(self) -> list[int]:
        """Where the blocks of each array begin among all, and the end."""
        return [0, *np.cumsum([len(plan) for plan in self._plans], dtype=np.int64).tolist()]

    @property
    def _n_blocks(self) -> int:
        return int(self._places[-1]) + len(self._unreadable)

    def shards(self, cores: int | None = None) -> Iterator[BlockShard]:
        """About 16 MB each, the same on every machine."""
        return self.shards_of(range(self._n_blocks))

    def shards_of(self, chosen: Sequence[int]) -> Iterator[BlockShard]:
        """Shards of some of the blocks, in the order given."""
        pieces: list[Piece] = []
        n_bytes = 0
        for i in chosen:
            piece, size = self._piece(i)
            if pieces and (n_bytes + size > _SHARD_BYTES or len(pieces) == _SHARD_BLOCKS):
                yield BlockShard(tuple(pieces))
                pieces, n_bytes = [], 0
            pieces.append(piece)
            n_bytes += size
        if pieces:
            yield BlockShard(tuple(pieces))

    def _place(self, i: int) -> tuple[Any, Some]:
        at = int(np.searchsorted(self._places, i, side="right")) - 1
        plan = self._plans[at]
        return plan.array, plan.some(i - self._places[at])

    def _piece(self, i: int) -> tuple[Piece, int]:
        """A block, and its size in memory."""
        if i >= self._places[-1]:
            broken = self._unreadable[i - self._places[-1]]
            return Piece(broken.name, broken, 1), 0
        array, (box, rows) = self._place(i)
        count = len(rows) if rows is not None else box[0][1] - box[0][0]
        first = all(begin == 0 for begin, _ in box[1:])
        size = count * array.layout.dtype.itemsize
        for begin, end in box[1:]:
            size *= end - begin
        reading = array.reading(box, rows)
        return Piece(_block_name(array, box), reading, count if first else 0), size

    def complete(self, record: Any) -> Any:
        """With what is done to the values, and what is probably not meant."""
        notes = dict(record.notes)
        for note in dict.fromkeys(note for array in self._arrays for note in array.notes):
            notes[note] = record.items
        said = [text for array in self._arrays for text in array.warnings]
        said += [_several_times(plan) for plan in self._plans if plan.whole.passes > 1]
        return replace(record, notes=notes, warnings=(*record.warnings, *dict.fromkeys(said)))


class FileBlocks(Blocks, ListedSource):
    """Arrays in files; their blocks are the entries that a ledger knows."""

    def entries(self) -> Iterator[Entry]:
        """Name and stamp of every block."""
        for i in range(self._places[-1]):
            array, (box, _) = self._place(i)
            yield Entry(_block_name(array, box), array.stamp(box))
        for broken in self._unreadable:
            yield Entry(broken.name, broken.at)


def _block_name(array: Any, box: Box) -> str:
    """``x.h5:/images[0:512]``, with the other axes up to the last one that is cut."""
    if isinstance(array, _Led):
        box = box[1:]
    whole = [
        (b, e) == (0, length)
        for (b, e), length in zip(box, array.layout.shape[-len(box) :], strict=True)
    ]
    if all(whole):
        return str(array.name)
    last = max(i for i, full in enumerate(whole) if not full)
    sides = [":" if whole[i] and i else f"{b}:{e}" for i, (b, e) in enumerate(box[: last + 1])]
    return f"{array.name}[{', '.join(sides)}]"


def _several_times(plan: _Plan) -> str:
    row = plan.whole.passes * plan.whole.nbytes
    return (
        f"{plan.array.name}: each chunk was read {plan.whole.passes} times, because those that "
        f"hold one stretch of the first axis take {row / 1e9:.1f} GB together and the pattern "
        "keeps the axes that they are cut along; chunks along the first axis would be faster"
    )


# ---------------------------------------------------------------- axes


@dataclass(frozen=True)
class _Led:
    """An array that lacks its first axis, as one entry of it."""

    array: Any

    @property
    def layout(self) -> Layout:
        layout: Layout = self.array.layout
        return layout.led()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by pickle, when there is no array yet
            raise AttributeError(name)
        return getattr(self.array, name)

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        return _LedReading(self.array.reading(box[1:], None))

    def stamp(self, box: Box) -> tuple[int, ...]:
        return tuple(self.array.stamp(box[1:]))


@dataclass(frozen=True)
class _LedReading:
    reading: Any

    def __call__(self) -> Values:
        array, missing = self.reading()
        return Values(array[None], None if missing is None else missing[None])

    def stamp(self) -> tuple[int, ...]:
        return tuple(self.reading.stamp())


def _like(array: Any, first: Any) -> Any:
    """A table of variables with the columns of the first one."""
    if not hasattr(array, "columns"):
        names = ", ".join(first.columns)
        raise PatternError(
            f"{array.name} is one variable, and {first.name} holds {names}; name one"
        )
    return array.like(first)


def _led(array: Any, pattern: Pattern) -> Any:
    """An array with all axes of the pattern."""
    shape = array.layout.shape
    try:
        held = array if pattern.complete(shape) else _Led(array)
        pattern.unit(held.layout.shape)
    except PatternError as error:
        raise PatternError(f"{array.name}: {error}") from None
    names = [name for group in pattern.axes for name in group]
    if array.dims and names != list(array.dims) and sorted(names) == sorted(array.dims):
        raise PatternError(
            f"{array.name} has its axes in the order {' '.join(array.dims)}, and the pattern "
            f"{str(pattern)!r} in another; write them in the order of the array"
        )
    return held


def _pattern_of(array: Any) -> Pattern:
    """The likely pattern of an array; where there is none, one with the names of its axes."""
    try:
        return likely_pattern(array.layout.shape)
    except PatternError as error:
        if len(set(array.dims)) < len(array.layout.shape):
            raise PatternError(f"{array.name}: {error}") from None
    names = [re.sub(r"\W|^(?=\d)", "_", name, flags=re.ASCII) for name in array.dims]
    axes = " ".join(names)
    raise PatternError(
        f"{array.name} has the axes {', '.join(array.dims)} of shape {array.layout.shape}; give a "
        f"pattern that says which of them keep their own numbers: '{axes} ->' for one number, "
        f"'{axes} -> {' '.join(names[1:])}' for one at each place of the others"
    )
