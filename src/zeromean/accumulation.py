"""What a worker does with a shard: measures its items and hands back exact partial results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, SourceError
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.provenance import Provenance, Units
from zeromean.sources import Item, Shard
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

_Array = npt.NDArray[Any]
_INTEGERS = ("bool", "uint8", "int8", "uint16", "int16")
_SMALL = 1 << 16  # what is below this is stacked, so that one call measures many
_STACK = 1 << 22  # up to this, so that it stays in the cache
_STACK_KEPT = 8 << 20  # where every entry is kept, each stack costs a large addition


@dataclass(frozen=True, slots=True)
class Plan:
    """How every shard of a run is measured; picklable."""

    pattern: Pattern
    range: tuple[float, float] | None = None
    channels: str = ""
    colors: str = ""
    quantiles: bool = False
    covariance: bool = False
    strict: bool = False
    feature_names: tuple[str, ...] = ()
    by: Any = None  # a `zeromean.partition.Grouping`, to measure by group
    keep: Any = None  # a `zeromean.ledger.rows.Keep`, to write down what each file gave


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


@dataclass(frozen=True, slots=True)
class Measured:
    """What one shard, or several together, gave.

    Attributes
    ----------
    partials : dict of str to Partial
        By kind, such as "RGB uint8"; one entry unless files were kept as they are.
    record : Provenance
    handed : int
        Items seen, skipped ones included.
    kept : tuple
        What ``plan.keep`` made of each file, in order.
    together : dict of str to Partial
        With ``plan.keep``: the part of `partials` that is not in the states of single files.
    """

    partials: dict[str, Partial]
    record: Provenance
    handed: int
    kept: tuple[Any, ...] = ()
    together: dict[str, Partial] = field(default_factory=dict)


def measure_shard(shard: Shard, plan: Plan) -> Measured:
    """Measure one shard. Runs in threads and in other processes.

    Raises
    ------
    SourceError
        Under ``strict``, for the first item that cannot be read.
    PatternError
        When an item does not fit the pattern, or the other items; names both.
    """
    sums, record = _Sums(plan), Record()
    kept: list[Any] = []
    for item in getattr(shard, "passing_items", shard.items)():
        if item.array is None:
            if plan.strict:
                raise SourceError(f"{item.name}: {item.reason}")
            sums.forget()
        else:
            sums.add(item)
        if item.more:
            continue
        record.note(item)
        row = sums.settle(item)
        if row is not None:
            kept.append(row)
    whole, together = sums.finish()
    return Measured(whole, record.provenance(), record.handed, tuple(kept), together)


class _Sums:
    """Running statistics by kind.

    Files that come in parts, and those whose state a ledger keeps, are measured by themselves.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._begin = gathering_of if plan.by is None else plan.by.gathering
        self._gathering: dict[str, Any] = {}
        self._apart: dict[str, Any] = {}  # files whose states are kept
        self._together: dict[str, Any] = {}  # files that were measured by themselves, and are not
        self._own: Any = None

    def add(self, item: Item) -> None:
        """Take in an item; what is measured by itself counts when it is settled."""
        if self._own is None and not item.more and not self._alone(item):
            if item.kind not in self._gathering:
                self._gathering[item.kind] = self._begin(self.plan, item)
            self._gathering[item.kind].add(item)
            return
        if self._own is None:
            self._own = self._begin(self.plan, item)
        self._own.add(item)

    def _alone(self, item: Item) -> bool:
        """Whether a ledger wants to keep the state of the item."""
        if self.plan.keep is None:
            return False
        known = self._gathering.get(item.kind)
        return known is None and self.plan.keep.alone(kept_size(self.plan, item))

    def forget(self) -> None:
        """A file broke: what was measured of it does not count."""
        self._own = None

    def settle(self, item: Item) -> Any:
        """The last part of a file has come: what ``plan.keep`` makes of it; None for nothing."""
        part = None if self._own is None else self._own.finish()
        self._own = None
        row = None if self.plan.keep is None else self.plan.keep(item, part)
        if part is not None:
            apart = row is not None and row.state is not None
            sums = self._apart if apart else self._together
            add_to(sums, item.kind, part, self.plan.pattern)
        return row

    def finish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The statistics of each kind; and the part of them that is in no single file's state."""
        for kind, gathering in self._gathering.items():
            add_to(self._together, kind, gathering.finish(), self.plan.pattern)
        whole = dict(self._together)
        for kind, part in self._apart.items():
            add_to(whole, kind, part, self.plan.pattern)
        return whole, self._together if self.plan.keep is not None else {}


def kept_size(plan: Plan, item: Item) -> int:
    """How many entries the pattern keeps of an item."""
    shape: tuple[int, ...] = item.array.shape
    try:
        return math.prod(plan.pattern.kept_shape(shape if item.batched else (1, *shape)))
    except PatternError:
        return 0  # measuring it says what is wrong


def add_to(partials: dict[str, Any], kind: str, part: Any, pattern: Pattern) -> None:
    """Add one partial to those of its kind.

    Raises
    ------
    PatternError
        When they keep different shapes or dtypes.
    """
    known = partials.get(kind)
    if known is None:
        partials[kind] = part
        return
    if known.kept_shape != part.kept_shape:
        raise PatternError(
            unequal(pattern, part.example, part.kept_shape, known.example, known.kept_shape)
        )
    known += part
    partials[kind] = known


def gathering_of(plan: Plan, first: Item) -> _Gathering | _GatheringColumns:
    """Running statistics of items that are like the first one; not of several groups."""
    kind = _Gathering if isinstance(first.array, np.ndarray) else _GatheringColumns
    return kind(plan, first)


class Record:
    """Running provenance of one shard, or of one group in it."""

    def __init__(self) -> None:
        self.items = self.bytes = self.digest = self.handed = 0
        self.skipped: list[tuple[str, str]] = []
        self.decoders: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def note(self, item: Item) -> None:
        count = item.count
        self.handed += count
        self.bytes += item.n_bytes
        if item.array is None:
            self.skipped.append((item.name, item.reason))
            return
        self.items += count
        self.digest += item.digest
        if item.decoder:
            self.decoders[item.decoder] += 1
        self.notes.update(item.notes)

    def provenance(self) -> Provenance:
        return Provenance(
            items=self.items,
            skipped=tuple(sorted(self.skipped)),
            bytes=self.bytes,
            digest=self.digest % (1 << 256),
            decoders=dict(self.decoders),
            notes=dict(self.notes),
        )


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


def combine(parts: Iterator[Measured], pattern: Pattern) -> Measured:
    """Add up what shards gave; the order does not matter.

    Raises
    ------
    PatternError
        When shards keep different shapes or dtypes.
    """
    partials: dict[str, Partial] = {}
    record, handed = Provenance(), 0
    for part in parts:
        for kind, partial in part.partials.items():
            add_to(partials, kind, partial, pattern)
        record += part.record
        handed += part.handed
    return Measured(partials, record, handed)
