"""What a worker does with a shard: measures its items and hands back exact partial results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zeromean.errors import PatternError, SourceError
from zeromean.gathering import Partial, channels_of, gathering_of, other_dtype, unequal
from zeromean.pattern import Pattern
from zeromean.provenance import Provenance
from zeromean.sources import Item, Shard

__all__ = [
    "Measured",
    "Partial",
    "Plan",
    "Record",
    "add_to",
    "channels_of",
    "combine",
    "gathering_of",
    "kept_size",
    "measure_shard",
    "other_dtype",
    "unequal",
]


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
    nodata: tuple[float, ...] = ()  # values that stand for no data
    mask: Any = None  # a `zeromean.masking.Mask`, to measure some pixels only
    transform: Any = None  # a `zeromean.transforming.Transform`, to measure what it makes too
    keep: Any = None  # a `zeromean.ledger.rows.Keep`, to write down what each file gave


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
    before : Measured, str or None
        With ``plan.transform``: what the data gave as it was, or why it has no statistics.
    """

    partials: dict[str, Partial]
    record: Provenance
    handed: int
    kept: tuple[Any, ...] = ()
    together: dict[str, Partial] = field(default_factory=dict)
    before: Any = None


def measure_shard(shard: Shard, plan: Plan) -> Measured:
    """Measure one shard. Runs in threads and in other processes.

    Raises
    ------
    SourceError
        Under ``strict``, for the first item that cannot be read.
    PatternError
        When an item does not fit the pattern, or the other items; names both.
    """
    side, items = _Side(plan), getattr(shard, "passing_items", shard.items)()
    if plan.transform is None:
        for item in items:
            side.take(item if plan.mask is None else plan.mask(item, plan.pattern))
        return side.measured()
    before = _Before(replace(plan, transform=None, range=None))
    for item in items:
        for raw, made in plan.transform.pairs(item, plan.pattern):
            side.take(made)
            before.take(raw)
    return replace(side.measured(), before=before.measured())


class _Side:
    """Takes items in: what `measure_shard` adds up."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.sums, self.record = plan, _Sums(plan), Record()
        self.kept: list[Any] = []

    def take(self, item: Item) -> None:
        """Measure an item, or note why there is none."""
        if item.array is None:
            if self.plan.strict:
                raise SourceError(f"{item.name}: {item.reason}")
            self.sums.forget()
        else:
            self.sums.add(item)
        if item.more:
            return
        self.record.note(item)
        row = self.sums.settle(item)
        if row is not None:
            self.kept.append(row)

    def measured(self) -> Measured:
        """What all of them gave."""
        whole, together = self.sums.finish()
        record, handed = self.record.provenance(), self.record.handed
        return Measured(whole, record, handed, tuple(self.kept), together)


class _Before:
    """Takes in what a transform is given; pictures of many sizes may have no common statistics."""

    def __init__(self, plan: Plan) -> None:
        self.side, self.why = _Side(plan), ""

    def take(self, item: Item) -> None:
        """Measure an item."""
        if not self.why:
            try:
                self.side.take(item)
            except PatternError as error:
                self.why = str(error)

    def measured(self) -> Measured | str:
        """What all of them gave, or why nothing."""
        try:
            return self.why or self.side.measured()
        except PatternError as error:
            return str(error)


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
        self._pictures: dict[str, Any] = {}  # files whose states are kept, the short way
        self._own: Any = None
        self._parts = self._items = 0  # of that file
        self._counts: Any = None

    def add(self, item: Item) -> None:
        """Take in an item; what is measured by itself counts when it is settled."""
        self._counts = None if self._own is not None or item.more else self._counted(item)
        if self._counts is not None:
            return
        if self._own is None and not item.more and not self._alone(item):
            if item.kind not in self._gathering:
                self._gathering[item.kind] = self._begin(self.plan, item)
            self._gathering[item.kind].add(item)
            return
        if self._own is None:
            self._own, self._parts, self._items = self._begin(self.plan, item), 0, 0
        self._own.add(item)
        self._parts, self._items = self._parts + 1, self._items + item.count

    def _counted(self, item: Item) -> Any:
        """The counts of a picture of bytes whose state a ledger keeps; None for all others."""
        keep = self.plan.keep
        if keep is None or not keep.counts or getattr(item.array, "dtype", None) != np.uint8:
            return None
        if not 0 < kept_size(self.plan, item) <= keep.counts:
            return None
        if item.kind not in self._pictures:
            self._pictures[item.kind] = gathering_of(self.plan, item)
        return self._pictures[item.kind].add_picture(item)

    def _alone(self, item: Item) -> bool:
        """Whether a ledger wants to keep the state of the item."""
        if self.plan.keep is None:
            return False
        known = self._gathering.get(item.kind)
        return known is None and self.plan.keep.alone(kept_size(self.plan, item))

    def forget(self) -> None:
        """A file broke: what was measured of it does not count."""
        self._own = self._counts = None

    def settle(self, item: Item) -> Any:
        """The last part of a file has come: what ``plan.keep`` makes of it; None for nothing."""
        if self._counts is not None:
            counts, self._counts = self._counts, None
            return self.plan.keep.picture(item, counts, self._pictures[item.kind].kept_shape)
        if self._parts > 1 and self._items == 1 and hasattr(self._own, "as_one_item"):
            self._own.as_one_item()
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
        for kind, gathering in self._pictures.items():
            add_to(whole, kind, gathering.finish(), self.plan.pattern)
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


def combine(parts: Iterator[Measured], pattern: Pattern) -> Measured:
    """Add up what shards gave; the order does not matter.

    Raises
    ------
    PatternError
        When shards keep different shapes or dtypes.
    """
    partials: dict[str, Partial] = {}
    record, handed = Provenance(), 0
    before: Any = None
    for part in parts:
        for kind, partial in part.partials.items():
            add_to(partials, kind, partial, pattern)
        record += part.record
        handed += part.handed
        before = _with(before, part.before, pattern)
    return Measured(partials, record, handed, before=before)


def _with(first: Any, second: Any, pattern: Pattern) -> Measured | str | None:
    """What the data gave before, of two parts; of two reasons always the same one."""
    if first is None or second is None:
        return second if first is None else first  # type: ignore[no-any-return]
    reasons = [each for each in (first, second) if isinstance(each, str)]
    if reasons:
        return min(reasons)
    try:
        return combine(iter([first, second]), pattern)
    except PatternError as error:
        return str(error)
