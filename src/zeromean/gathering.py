"""Running statistics of items of one kind, and what they come to: a `Partial`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.masking import representable
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.provenance import Provenance, Units
from zeromean.sources import Item
from zeromean.sources.columns import ColumnBatch
from zeromean.statistics import (
    Covariance,
    Extrema,
    Histogram,
    ItemStds,
    Moments,
    check_dtype,
    counted_items,
    is_counted,
)
from zeromean.statistics.columns import empty_columns, measured_columns
from zeromean.statistics.covariance import check_memory, joint_dtype, of_columns
from zeromean.statistics.formats import frozen, joined_dtype
from zeromean.statistics.gaps import (
    aligned,
    counted_without,
    dropped,
    filled,
    found,
    items_without,
    occurrences,
    rows_with_gaps,
    summed_without,
    taken_out,
)

if TYPE_CHECKING:
    from zeromean.accumulation import Plan

_Array = npt.NDArray[Any]
_Bools = npt.NDArray[np.bool_]
_Gaps = _Bools | None
_INTEGERS = ("bool", "uint8", "int8", "uint16", "int16")
_SMALL = 1 << 16  # what is below this is stacked, so that one call measures many
_STACK = 1 << 22  # up to this, so that it stays in the cache
_STACK_KEPT = 8 << 20  # where every entry is kept, each stack costs a large addition
_ROWS_KEPT = 32  # so many at least, for the same reason


def channels_of(kind: str) -> str:
    """The channel order that the kind of an item names, empty where it names none."""
    first = kind.split(" ")[0]
    return "" if "-" in first else first


@dataclass(frozen=True, slots=True)
class Partial:
    """Statistics of the items of one kind; what a profile is made of, without the names.

    Attributes
    ----------
    example : str
        Name of one of the items, for messages.
    kept_shape : tuple of int
    dtype : str
    statistics : Histogram or Moments
    extrema : Extrema or None
    stds : ItemStds or None
    buckets : Histogram or None
    covariance : Covariance or None
    """

    example: str
    kept_shape: tuple[int, ...]
    dtype: str
    statistics: Any
    extrema: Any
    stds: Any
    buckets: Any
    covariance: Any = None

    def __add__(self, other: Partial) -> Partial:
        if self.dtype != other.dtype:
            raise PatternError(other_dtype(other.example, other.dtype, self.example, self.dtype))
        return Partial(
            min(self.example, other.example),
            self.kept_shape,
            self.dtype,
            self.statistics + other.statistics,
            None if self.extrema is None else self.extrema + other.extrema,
            None if self.stds is None else self.stds + other.stds,
            None if self.buckets is None else self.buckets + other.buckets,
            None if self.covariance is None else self.covariance + other.covariance,
        )

    def __sub__(self, other: Partial) -> Partial:
        """What is left when other items are taken out; of such as have no extrema beside."""
        return replace(
            self,
            statistics=self.statistics - other.statistics,
            stds=None if self.stds is None else self.stds - other.stds,
            buckets=None if self.buckets is None else self.buckets - other.buckets,
            covariance=None if self.covariance is None else self.covariance - other.covariance,
        )

    def profile(self, plan: Plan, kind: str, record: Provenance) -> Profile:
        """The profile of a whole run."""
        channels = channels_of(kind) or plan.channels
        return Profile(
            pattern=plan.pattern,
            kept_shape=self.kept_shape,
            dtype=self.dtype,
            units=Units.of(
                self.dtype, channels, plan.colors if channels_of(kind) else "", plan.range
            ),
            statistics=self.statistics,
            items_stds=self.stds,
            buckets=self.buckets,
            covariance=None if self.covariance is None else self.covariance.settled(),
            known_extrema=self.extrema,
            feature_names=plan.feature_names,
            provenance=record,
        )


def gathering_of(plan: Plan, first: Item) -> _Gathering | _GatheringColumns:
    """Running statistics of items that are like the first one; not of several groups."""
    kind = _Gathering if isinstance(first.array, np.ndarray) else _GatheringColumns
    return kind(plan, first)


class _Gathering:
    """Running statistics of items of one kind; the first item sets shape and dtype."""

    def __init__(self, plan: Plan, first: Item) -> None:
        assert first.array is not None
        self.plan, self.example = plan, first.name
        try:
            self.dtype = check_dtype(first.array.dtype)
        except PatternError as error:
            raise PatternError(f"{first.name}: {error}") from None
        self.format = first.array.dtype
        self.kept_shape = self._kept(first)
        self.size = math.prod(self.kept_shape)
        if plan.feature_names and len(plan.feature_names) != self.size:
            raise PatternError(
                f"there are {len(plan.feature_names)} feature names, but the pattern "
                f"{str(plan.pattern)!r} keeps {self.size} entries of {first.name}"
            )
        self.counted = is_counted(self.dtype, self.size)
        kind: type[Histogram] | type[Moments] = Histogram if self.counted else Moments
        self.statistics: Any = kind.empty(self.size, self.dtype)
        self.extrema: Any = None if self.counted else Extrema.empty(self.size, self.dtype)
        with_stds = plan.pattern.per_item and self.counted and self.dtype in _INTEGERS
        self.stds: Any = ItemStds.empty(self.size) if with_stds else None
        self.covariance: Any = None
        if plan.covariance:
            check_memory(self.size)
            self.covariance = Covariance.empty(self.size, self.dtype)
        self.buckets: Any = None
        if plan.quantiles and not self.counted and self.dtype in ("float32", "float64"):
            self.buckets = Histogram.empty(self.size, "bfloat16")
        self.nodata = representable(plan.nodata, self.format)
        #: Where values are counted, those that stand for no data are dropped at the end; but rows
        #: of a covariance must be told apart one by one.
        self.marked = bool(self.nodata) and (plan.covariance or not self.counted)
        self.left_out = 0  # rows of a covariance
        self.spreads: dict[int, list[tuple[_Array, _Array]]] = {}
        self.uneven: list[tuple[_Array, _Array, _Array]] = []
        self.waiting: list[tuple[_Array, _Gaps]] = []
        self.waiting_bytes = 0
        self.shape: tuple[int, ...] = ()

    def add(self, item: Item) -> None:
        assert item.array is not None
        array = item.array if item.batched else item.array[None]
        gaps: _Gaps = None
        if item.missing is not None and item.missing.any():
            gaps = aligned(item.missing, array)
        if array.shape[1:] != self.shape or array.dtype != self.format:
            self._check(item, array)
            self._add_waiting()
            self.shape = array.shape[1:]
        if self.plan.pattern.keeps_first or array.nbytes > (_SMALL if self.counted else _STACK):
            self._measure(array, gaps)
            return
        if not item.batched:  # it may be passing
            array, gaps = array.copy(), None if gaps is None else gaps.copy()
        self.waiting.append((array, gaps))
        self.waiting_bytes += array.nbytes
        if self.waiting_bytes >= (_STACK if self.counted else _STACK_KEPT):
            self._add_waiting()

    def add_picture(self, item: Item) -> _Array | None:
        """Add one picture of bytes, and give its own counts; None, and nothing added, for others.

        What a ledger needs of each file, at next to no cost.
        """
        array: _Array = item.array
        plain = array.dtype == np.uint8 and not item.batched and item.missing is None
        if not plain or self.stds is None or self.nodata or self.dtype != "uint8" or not array.size:
            return None
        if array.shape != self.shape:
            self._check(item, array[None])
            self.shape = array.shape
        (items,) = self.plan.pattern.items(array[None], array.nbytes)
        histogram, sums, squares = counted_items(items)
        self.statistics += histogram
        self.spreads.setdefault(items.shape[1], []).append((sums, squares))
        return histogram.counts

    def _check(self, item: Item, array: _Array) -> None:
        if array.dtype.name != self.dtype:
            raise PatternError(other_dtype(item.name, array.dtype.name, self.example, self.dtype))
        shape = self._kept(item)
        if shape != self.kept_shape:
            raise PatternError(
                unequal(self.plan.pattern, item.name, shape, self.example, self.kept_shape)
            )

    def _kept(self, item: Item) -> tuple[int, ...]:
        """Kept shape of an item; a single picture gets its first axis here."""
        assert item.array is not None
        pattern, shape = self.plan.pattern, item.array.shape
        try:
            if item.batched:
                return pattern.kept_shape(shape)
            if pattern.keeps_first:
                raise PatternError(
                    f"pattern {str(pattern)!r} keeps {pattern.axes[0][0]!r}, but single pictures "
                    "have no such axis: they are the samples. Drop it from the right side"
                )
            return pattern.kept_shape((1, *shape))
        except PatternError as error:
            raise PatternError(f"{item.name} of shape {shape}: {error}") from None

    def _add_waiting(self) -> None:
        """Measure the pictures of one shape that have gathered."""
        if not self.waiting:
            return
        arrays, gaps = _stacked(self.waiting)
        self.waiting, self.waiting_bytes = [], 0
        self._measure(arrays, gaps)

    def _measure(self, array: _Array, gaps: _Gaps = None) -> None:
        if gaps is not None or self.marked:
            self._add_gappy(array, gaps)
            return
        if self.stds is not None:
            self._add_items(array)
        else:
            self._add_array(array)
        if self.covariance is not None:
            for block in self.plan.pattern.blocks(array):
                self.covariance += Covariance.of(block)

    def _add_array(self, array: _Array) -> None:
        for block in self.plan.pattern.blocks(array):
            if self.counted:
                self.statistics += Histogram.of(block)
            else:
                self._add_sums(*Moments.with_extrema(block), block)

    def _add_sums(
        self, moments: Moments, extrema: Extrema, block: _Array, gaps: _Gaps = None
    ) -> None:
        self.statistics, self.extrema = self.statistics + moments, self.extrema + extrema
        if self.buckets is not None:
            self._add_buckets(block)
            self.buckets = taken_out(self.buckets, gaps)

    def _add_buckets(self, block: _Array) -> None:
        from zeromean.quantiles import codes

        step = max(1, (1 << 20) * len(block) // max(block.size, 1))
        for begin in range(0, len(block), step):
            part = block[begin : begin + step]
            self.buckets += Histogram.of_codes(codes(part), "bfloat16")

    def _add_items(self, array: _Array) -> None:
        """Count all values, and note each item's own sums."""
        for items in self.plan.pattern.items(array, _STACK):
            histogram, sums, squares = counted_items(items)
            self.statistics += histogram
            lacking = np.zeros_like(sums)
            for value in self.nodata:
                if dropped(histogram, [value]) is not histogram:
                    times = occurrences(items, value)
                    lacking += times
                    sums -= times * int(value)
                    squares -= times * int(value) ** 2
            if lacking.any():
                self.uneven.append((items.shape[1] - lacking, sums, squares))
            else:
                self.spreads.setdefault(items.shape[1], []).append((sums, squares))

    def as_one_item(self) -> None:
        """What was added are the parts of one item: it has one std, and not one for each part."""
        self._add_waiting()
        rows = [(np.full(s.shape, n), s, q) for n, held in self.spreads.items() for s, q in held]
        rows += self.uneven
        if self.stds is None or not rows:
            return
        columns = (np.concatenate(each).astype(object) for each in zip(*rows, strict=True))
        n, sums, squares = (column.sum(axis=0, keepdims=True) for column in columns)
        self.spreads, self.uneven = {}, [(n.astype(np.int64), sums, squares)]

    def _add_spreads(self) -> None:
        for samples, pairs in self.spreads.items():
            sums, squares = (np.concatenate(each) for each in zip(*pairs, strict=True))
            self.stds += ItemStds.of_sums(samples, sums, squares)
        if self.uneven:
            held = (np.concatenate(each) for each in zip(*self.uneven, strict=True))
            self.stds += ItemStds.of_uneven_sums(*held)
        self.spreads, self.uneven = {}, []

    # ------------------------------------------------------------ with missing values

    def _add_gappy(self, array: _Array, gaps: _Gaps) -> None:
        """Measure an array of which some values are missing, in pieces that are copied."""
        n_items = self.plan.pattern.layout(array.shape)[0][0]
        items = None if self.stds is None else np.zeros((3, n_items, self.size), np.int64)
        limit = max(_STACK_KEPT, _ROWS_KEPT * self.size * array.itemsize)
        for place, rows, own in rows_with_gaps(self.plan.pattern, array, gaps, limit):
            if self.nodata:
                same = found(np.ascontiguousarray(rows), self.nodata)
                own = same if own is None else own | same
            own = None if own is None or not own.any() else own
            self._add_rows(rows, own, None if items is None else items[:, place])
        if items is not None:
            self.uneven.append((items[0], items[1], items[2]))

    def _add_rows(self, rows: _Array, gaps: _Gaps, of_items: Any) -> None:
        """Measure rows, (n_samples, n_features), and add up n, Σx and Σx² of their items."""
        full = filled(rows, gaps)
        if of_items is not None:
            histogram, sums = items_without(full, gaps, of_items.shape[1])
            self.statistics += histogram
            of_items += sums
        elif self.counted:
            self.statistics += counted_without(full, gaps)
        else:
            self._add_sums(*summed_without(full, gaps), full[:, :, None], gaps)
        if self.covariance is not None:
            self._add_complete(full, gaps)

    def _add_complete(self, full: _Array, gaps: _Gaps) -> None:
        """Rows without a gap."""
        if gaps is not None:
            complete = ~gaps.any(axis=1)
            self.left_out += len(full) - int(np.count_nonzero(complete))
            full = full[complete]
        self.covariance += Covariance.of(full)

    def finish(self) -> Partial:
        self._add_waiting()
        self._add_spreads()
        if self.counted and self.nodata:
            self.statistics = dropped(self.statistics, self.nodata)
        if self.left_out:
            self.covariance = self.covariance.less(self.left_out)
        return Partial(
            self.example,
            self.kept_shape,
            self.dtype,
            self.statistics,
            self.extrema,
            self.stds,
            self.buckets,
            self.covariance,
        )


def _stacked(waiting: list[tuple[_Array, _Gaps]]) -> tuple[_Array, _Gaps]:
    """Arrays along the first axis, and their gaps, None where there are none."""
    arrays = np.concatenate([array for array, _ in waiting])
    shapes = {own.shape[1:] for _, own in waiting if own is not None}
    if not shapes:
        return arrays, None
    shape = shapes.pop() if len(shapes) == 1 else arrays.shape[1:]
    gaps = np.zeros((len(arrays), *shape), np.bool_)
    begin = 0
    for array, own in waiting:
        if own is not None:
            gaps[begin : begin + len(array)] = own
        begin += len(array)
    return arrays, gaps


class _GatheringColumns:
    """Running statistics of the columns of tables; the first batch sets names and dtypes."""

    def __init__(self, plan: Plan, first: Item) -> None:
        batch: ColumnBatch = first.array
        if not isinstance(batch, ColumnBatch):
            raise PatternError(f"{first.name}: cannot measure {type(batch).__name__}")
        self.plan, self.example = plan, first.name
        self.kept_shape = batch.shape[1:]
        names = plan.feature_names
        if names and len(names) != len(batch.columns):
            raise PatternError(
                f"there are {len(names)} feature names, but {first.name} has "
                f"{len(batch.columns)} numeric columns"
            )
        self.dtypes = batch.dtypes
        self.statistics: Any = empty_columns(self.dtypes)
        self.extrema: Any = None
        floats = [d in ("float32", "float64") for d in self.dtypes]
        self.bucketed = [i for i, known in enumerate(floats) if known and plan.quantiles]
        self.buckets: Any = None
        if self.bucketed:
            self.buckets = Histogram.empty(len(self.bucketed), "bfloat16")
        self.covariance: Any = None
        if plan.covariance:
            check_memory(len(self.dtypes))
            self.covariance = Covariance.empty(len(self.dtypes), joint_dtype(self.dtypes))

    def add(self, item: Item) -> None:
        batch: ColumnBatch = item.array
        values = [column.arrays() for column in batch.columns]
        if self.plan.nodata:
            values = [_without_nodata(*column, self.plan.nodata) for column in values]
        statistics, extrema = measured_columns(values, self.dtypes)
        self.statistics += statistics
        self.extrema = extrema if self.extrema is None else self.extrema + extrema
        if self.buckets is not None:
            self.buckets += _bucketed([values[i] for i in self.bucketed])
        if self.covariance is not None:
            self.covariance += of_columns(values, self.dtypes)

    def finish(self) -> Partial:
        return Partial(
            self.example,
            self.kept_shape,
            joined_dtype(self.dtypes),
            self.statistics,
            self.extrema,
            None,
            self.buckets,
            self.covariance,
        )


def _without_nodata(values: _Array, missing: _Gaps, nodata: Any) -> tuple[_Array, _Gaps]:
    """A column with the values that stand for no data missing."""
    wanted = representable(nodata, values.dtype)
    if not wanted:
        return values, missing
    same = found(values, wanted)
    return values, same if missing is None else missing | same


def _bucketed(columns: list[Any]) -> Histogram:
    from zeromean.quantiles import codes

    rows = []
    for values, missing in columns:
        held = values if missing is None else values[~missing]
        counts = Histogram.of_codes(codes(held.reshape(-1, 1, 1)), "bfloat16").counts.copy()
        counts[:, 0x7FC0] += len(values) - len(held)  # what is missing counts as NaN
        rows.append(counts)
    return Histogram("bfloat16", frozen(np.concatenate(rows)))


def unequal(
    pattern: Pattern, name: str, shape: tuple[int, ...], other: str, kept: tuple[int, ...]
) -> str:
    """The sentence for two items whose kept shapes differ."""
    return (
        f"{name} keeps {shape}, but {other} keeps {kept}: with the pattern {str(pattern)!r} all "
        "must agree. Bring them to one size first, or keep only what they share, such as "
        "'n h w c -> c'"
    )


def other_dtype(name: str, dtype: str, other: str, kept: str) -> str:
    """The sentence for two items whose dtypes differ."""
    return f"{name} is {dtype}, but {other} is {kept}; convert to one dtype, or measure them apart"
