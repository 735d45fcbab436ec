"""Measures by group: sends items, or the rows of arrays, to their group's own statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zeromean.accumulation import Partial, Plan, Record, gathering_of, other_dtype, unequal
from zeromean.errors import PatternError, SourceError
from zeromean.grouped import GroupedProfile
from zeromean.profile import Profile
from zeromean.provenance import Provenance
from zeromean.sources import Item
from zeromean.sources.arrays import ArraySource, ItemShard, ItemSource
from zeromean.sources.labels import ClassFolder, check_length, factorized, labeled, named
from zeromean.statistics.groups import add_to, runs, sorted_rows, taken

_LARGEST_STATE = 4 << 30  # bytes of counts that all groups together may take
_SHARD_BYTES = 16 << 20  # of rows that a worker brings together


@dataclass(frozen=True)
class Grouping:
    """How an item finds its group; pickled without the labels of a whole data set.

    Attributes
    ----------
    names : tuple of str
        Of the numbers that items carry.
    function : callable, optional
        From the name of an item to its group.
    codes : ndarray of int, optional
        For each sample the number of its group, in the process that cuts a source into shards.
    per_element : bool
        One code for each element of a list, whatever it holds.
    exact : bool
        Whether all codes must be used.
    """

    names: tuple[str, ...] = ()
    function: Callable[[str], Any] | None = None
    codes: Any = None
    per_element: bool = False
    exact: bool = True

    def __reduce__(self) -> Any:
        return Grouping, (self.names, self.function)

    def shards(self, opened: Any, shards: Iterable[Any]) -> Iterator[Any]:
        """Shards whose items carry their groups."""
        if self.codes is None:
            return iter(shards)
        if isinstance(opened, ArraySource) and _scattered(opened.array, self.codes):
            return _by_group(opened, self.codes)
        return labeled(shards, self.codes, self.per_element, self.exact)

    def gathering(self, plan: Plan, first: Item) -> Gathering:
        """Running statistics of items that are like the first one, by group."""
        return Gathering(self, plan, first)

    def name_of(self, group: Any, name: str) -> str:
        """The group of an item: what it carries, or what the function makes of its name."""
        if group is None:
            if self.function is None:
                raise PatternError(f"{name} has no label")
            return named(self.function(name), f"the group of {name}")
        if self.names and not isinstance(group, str):
            return self.names[int(group)]
        return named(group, f"the group of {name}")


@dataclass(frozen=True, slots=True)
class RowShard:
    """Rows of an array in memory, brought together by the worker; pickled as those rows alone.

    Attributes
    ----------
    source : ArraySource
    rows, codes : ndarray of int
        Which ones, and their groups.
    """

    source: ArraySource
    rows: Any
    codes: Any

    @property
    def n_items(self) -> int:
        """How many rows."""
        return len(self.rows)

    def items(self) -> Iterator[Item]:
        """All of them as one item."""
        part = taken(self.source.array, self.rows)
        name, n_bytes = self.source.name, part.nbytes
        yield Item(part, name, n_bytes=n_bytes, batched=True, group=self.codes)

    def __reduce__(self) -> Any:
        return ItemShard, (tuple(self.items()),)


def _scattered(array: Any, codes: Any) -> bool:
    """Whether groups are mixed in an array in memory, where any row is as near as another."""
    held: Any = array
    while held is not None and not isinstance(held, np.memmap):
        held = getattr(held, "base", None)
    return held is None and bool((codes[1:] < codes[:-1]).any())


def _by_group(source: ArraySource, codes: Any) -> Iterator[RowShard]:
    """Shards group after group, so that each group is in one shard or a few."""
    rows = sorted_rows(codes)
    step = max(1, len(rows) * _SHARD_BYTES // max(source.array.nbytes, 1))
    for begin in range(0, len(rows), step):
        chosen = rows[begin : begin + step]
        yield RowShard(source, chosen, codes[chosen])


@dataclass(frozen=True, slots=True)
class _Gappy:
    """An array and where it is missing, split together.

    Attributes
    ----------
    values : ndarray
    gaps : ndarray of bool, the same shape
    """

    values: Any
    gaps: Any

    @property
    def nbytes(self) -> int:
        """Size of the values."""
        return int(self.values.nbytes)

    def take(self, rows: Any) -> _Gappy:
        """Single rows, copied."""
        return _Gappy(taken(self.values, rows), self.gaps[rows])

    def part(self, begin: int, end: int) -> _Gappy:
        """Some rows, without a copy."""
        return _Gappy(self.values[begin:end], self.gaps[begin:end])


class Gathering:
    """Running statistics of each group; the first item sets shape and dtype of them all."""

    def __init__(self, grouping: Grouping, plan: Plan, first: Item) -> None:
        self.grouping, self.plan, self.example = grouping, plan, first.name
        self.blank: Partial = gathering_of(plan, first).finish()
        self.groups: dict[str, tuple[Any, Record]] = {}
        if plan.pattern.keeps_first or (first.batched and plan.pattern.unit(first.array.shape) > 1):
            raise PatternError(
                f"the pattern {str(plan.pattern)!r} does not have single samples along its first "
                "axis, so they cannot be told apart by group; with by= the first axis must be one "
                "name that is not kept"
            )

    def add(self, item: Item) -> None:
        if not isinstance(item.group, np.ndarray):
            self._add(self.grouping.name_of(item.group, item.name), item)
            return
        codes = item.group
        names: Any = self.grouping.names
        if codes.dtype.kind not in "iu" or not names:
            names, codes = factorized(codes)
        size = max(item.array.nbytes, 1)
        array: Any = item.array
        gaps = item.missing
        if gaps is not None:
            gaps = np.broadcast_to(gaps, array.shape)
            array = _Gappy(array, gaps)
        for code, rows in runs(array, codes):
            own = rows
            if isinstance(rows, _Gappy):
                own, gaps = rows.values, rows.gaps
            read = item.n_bytes * own.nbytes // size
            count = None if item.n_items == len(item.array) else item.n_items  # of its own rows
            part = replace(item, array=own, missing=gaps, n_bytes=read, group=None, n_items=count)
            self._add(names[code], part)

    def _add(self, name: str, item: Item) -> None:
        if name not in self.groups:
            self.groups[name] = (gathering_of(self.plan, item), Record())
        gathering, record = self.groups[name]
        gathering.add(item)
        record.note(item)

    def as_one_item(self) -> None:
        """What was added are the parts of one item."""
        for gathering, _ in self.groups.values():
            if hasattr(gathering, "as_one_item"):
                gathering.as_one_item()

    def finish(self) -> GroupedPartial:
        parts, records = {}, {}
        for name, (gathering, record) in self.groups.items():
            parts[name], records[name] = gathering.finish(), record.provenance()
            self._check(parts[name])
        return GroupedPartial(self.blank, parts, records)

    def _check(self, part: Partial) -> None:
        if part.kept_shape != self.blank.kept_shape:
            theirs = part.example, part.kept_shape
            raise PatternError(
                unequal(self.plan.pattern, *theirs, self.example, self.blank.kept_shape)
            )
        if part.dtype != self.blank.dtype:
            raise PatternError(
                other_dtype(part.example, part.dtype, self.example, self.blank.dtype)
            )


@dataclass(slots=True)
class GroupedPartial:
    """What a `zeromean.GroupedProfile` is made of, without the names.

    Attributes
    ----------
    blank : Partial
        Of no data.
    parts : dict of str to Partial
    records : dict of str to Provenance
    """

    blank: Partial
    parts: dict[str, Partial] = field(default_factory=dict)
    records: dict[str, Provenance] = field(default_factory=dict)

    @property
    def example(self) -> str:
        """Name of one of the items, for messages."""
        return self.blank.example

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Of every group."""
        return self.blank.kept_shape

    def __add__(self, other: GroupedPartial) -> GroupedPartial:
        # A new one: two futures of an executor may hand over the same object.
        both = GroupedPartial(self.blank + other.blank, dict(self.parts), dict(self.records))
        for name, part in other.parts.items():
            add_to(both.parts, name, part)
            add_to(both.records, name, other.records[name])
        both._check_size()
        return both

    def _check_size(self) -> None:
        """Refuse what would fill the memory: an ID of each row taken for a class."""
        counts = getattr(self.blank.statistics, "counts", None)
        size = 0 if counts is None else counts.nbytes * len(self.parts)
        if size > _LARGEST_STATE:
            raise PatternError(
                f"{len(self.parts):,} groups with {counts.nbytes:,} bytes of counts each, for "  # type: ignore[union-attr]
                f"{self.blank.dtype} data, take more than {_LARGEST_STATE >> 30} GB; use fewer "
                "groups, or convert to float32, which is summed"
            )

    def profile(self, plan: Plan, kind: str, record: Provenance) -> GroupedProfile:
        """The profiles of a whole run."""
        decoders = {name.rpartition(" ")[0]: name for name in record.decoders}
        shared = Provenance(sources=record.sources, versions=record.versions)
        skipped = _skipped(plan.by, record, self.parts)
        profiles: dict[str, Profile] = {}
        for name, part in self.parts.items():
            own = self.records[name]
            own = replace(
                own + shared,
                skipped=skipped.get(name, ()),
                decoders={decoders.get(k, k): n for k, n in own.decoders.items()},
            )
            profiles[name] = part.profile(plan, kind, own)
        return GroupedProfile(profiles, record, self.blank.profile(plan, kind, record))


def _skipped(
    grouping: Grouping, record: Provenance, known: Iterable[str]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """What was skipped, by group, where a group can be told by name."""
    if grouping.function is None:
        return {}
    groups: dict[str, list[tuple[str, str]]] = {name: [] for name in known}
    for path, reason in record.skipped:
        try:
            name = grouping.name_of(None, path)
        except (PatternError, SourceError):
            continue  # a folder that could not be listed
        groups.get(name, []).append((path, reason))
    return {name: tuple(held) for name, held in groups.items()}


# ---------------------------------------------------------------- what `by` may be


def grouping_of(by: Any, opened: Any, alone: bool) -> Grouping | None:
    """What ``by=`` means for a source.

    Parameters
    ----------
    by : as for `zeromean.measure`
    opened : an opened source
        One that has ``group_by(column)`` may be grouped by the name of a column.
    alone : bool
        Whether it is the only one.

    Raises
    ------
    PatternError, SourceError
        When the source has no such groups.
    """
    if by is None:
        return None
    if callable(by):
        return Grouping(function=by)
    if isinstance(by, str):
        return _by_name(by, opened)
    if hasattr(opened, "outside_classes"):
        raise PatternError(
            f"labels cannot be matched with the files of {opened.name}; give by='class', or a "
            "function from a file's name to its group"
        )
    if not alone:
        raise PatternError(
            "labels belong to one array; for several files give a function from a file's name to "
            "its group"
        )
    return _by_labels(by, opened)


def _by_name(by: str, opened: Any) -> Grouping:
    if hasattr(opened, "group_by"):
        opened.group_by(by)
        return Grouping()  # the items carry their labels
    if by != "class":
        raise PatternError(
            f"by is {by!r}; give 'class' for the folders of pictures, labels, or a function from a "
            "file's name to its group"
        )
    if not hasattr(opened, "outside_classes"):
        raise PatternError(
            f"{opened.name} lies in no class folder: by='class' is for folders of pictures; give "
            "one label for each sample, or a function from a file's name to its group"
        )
    folder = ClassFolder(opened.labels)
    for name in opened.outside_classes():
        folder(name)  # says so
    return Grouping(function=folder)


def _by_labels(labels: Any, opened: Any) -> Grouping:
    names, codes = factorized(labels)
    if isinstance(opened, ItemSource):
        return Grouping(names, None, codes, per_element=True, exact=opened.limit is None)
    if hasattr(opened, "chosen") and opened.n_whole is not None:
        check_length(codes, opened.n_whole)
        return Grouping(names, None, codes if opened.chosen is None else codes[opened.chosen])
    return Grouping(names, None, codes, exact=getattr(opened, "limit", None) is None)
