"""Running statistics of items of one kind, and what they come to: a `Partial`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
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

if TYPE_CHECKING:
    from zeromean.accumulation import Plan

_Array = npt.NDArray[Any]
_INTEGERS = ("bool", "uint8", "int8", "uint16", "int16")
_SMALL = 1 << 16  # what is below this is stacked, so that one call measures many
_STACK = 1 << 22  # up to this, so that it stays in the cache
_STACK_KEPT = 8 << 20  # where every entry is kept, each stack costs a large addition


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
            units=Units.of(self.dtype, channels, plan.colors if kind else "", plan.range),
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
        self.spreads: dict[int, list[tuple[_Array, _Array]]] = {}
        self.waiting: list[_Array] = []
        self.waiting_bytes = 0
        self.shape: tuple[int, ...] = ()

    def add(self, item: Item) -> None:
        assert item.array is not None
        array = item.array if item.batched else item.array[None]
        if array.shape[1:] != self.shape or array.dtype != self.format:
            self._check(item, array)
            self._add_waiting()
            self.shape = array.shape[1:]
        if self.plan.pattern.keeps_first or array.nbytes > (_SMALL if self.counted else _STACK):
            self._measure(array)
            return
        self.waiting.append(array if item.batched else array.copy())  # it may be passing
        self.waiting_bytes += array.nbytes
        if self.waiting_bytes >= (_STACK if self.counted else _STACK_KEPT):
            self._add_waiting()

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
        if self.waiting:
            self._measure(np.concatenate(self.waiting))
            self.waiting, self.waiting_bytes = [], 0

    def _measure(self, array: _Array) -> None:
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
                continue
            moments, extrema = Moments.with_extrema(block)
            self.statistics, self.extrema = self.statistics + moments, self.extrema + extrema
            if self.buckets is not None:
                self._add_buckets(block)

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
            self.spreads.setdefault(items.shape[1], []).append((sums, squares))

    def _add_spreads(self) -> None:
        for samples, pairs in self.spreads.items():
            sums, squares = (np.concatenate(each) for each in zip(*pairs, strict=True))
            self.stds += ItemStds.of_sums(samples, sums, squares)
        self.spreads = {}

    def finish(self) -> Partial:
        self._add_waiting()
        self._add_spreads()
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
