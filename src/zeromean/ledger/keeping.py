"""Measures with a ledger: only what is new or changed, and writes down what each file gave."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zeromean.accumulation import Measured, Partial, Plan, add_to
from zeromean.errors import MergeError, SourceError, warn
from zeromean.execution import Progress, Run, measured, watched
from zeromean.ledger.book import Book, DamagedError, summed
from zeromean.ledger.grouping import grouped
from zeromean.ledger.identity import difference
from zeromean.ledger.lock import InUseError, Lock
from zeromean.ledger.rows import SAME, Keep, Row
from zeromean.provenance import Provenance
from zeromean.sources import Item, ListedSource
from zeromean.sources.access import HeldFile
from zeromean.sources.decode import DecodeError

_OFTEN = 0.25  # seconds between two transactions, so that a killed run loses no more
_SHARE = 0.02  # of the time, at most, that they may take
_MOVED = 0.5  # of the rows that must be found again in another place


class Stopped(KeyboardInterrupt):
    """Ctrl-C, in a run that can go on where it was."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which ledger a run keeps.

    Attributes
    ----------
    path : Path
    about : mapping
        What it must be of; see `zeromean.ledger.identity`.
    chosen : bool
        Whether somebody asked for this file: then a failure to open it is an error. The cache is
        a convenience, and a run without it says so and goes on.
    """

    path: Path
    about: Mapping[str, Any]
    chosen: bool


def kept(
    source: ListedSource,
    plan: Plan,
    run: Run,
    ledger: Where,
    chosen: Sequence[int] | None = None,
) -> Measured | None:
    """Measure what the ledger does not know; what comes back is the sum of all files listed.

    Parameters
    ----------
    source : ListedSource
    plan : Plan
    run : Run
    ledger : Where
    chosen : sequence of int, optional
        Measure only these entries, and give their sum; nothing is taken out.

    Returns
    -------
    Measured or None
        None where a ledger in the cache cannot be kept: measure without.

    Raises
    ------
    SourceError
        When the ledger is of other data or other options, is in use, or cannot be written.
    """
    lock = _locked(ledger)
    if lock is None:
        return None
    try:
        return _soundly(source, plan, run, ledger, chosen)
    except KeyboardInterrupt:
        raise Stopped(f"what was measured is kept in {ledger.path}") from None
    finally:
        lock.release()


def _soundly(
    source: ListedSource, plan: Plan, run: Run, ledger: Where, chosen: Sequence[int] | None
) -> Measured | None:
    """Measure; begin again with a new ledger where this one turns out to be damaged."""
    while True:
        book = None
        try:
            book = Book(ledger.path, writing=True)
            return _Run(source, plan, run, ledger, book).measured(chosen)
        except DamagedError as error:
            if _is_foreign(ledger.path):
                raise SourceError(f"{error}; give the name of a new file") from None
            if book is not None:
                book.close()
            _set_aside(ledger.path, str(error))
        except OSError as error:
            if book is not None or isinstance(error, SourceError):
                raise
            _refused(ledger, error)
            return None
        finally:
            if book is not None:
                book.close()


# ---------------------------------------------------------------- opening


def _locked(ledger: Where) -> Lock | None:
    """The lock; None, with a warning, where the cache cannot be had."""
    try:
        if not ledger.chosen:
            ledger.path.parent.mkdir(parents=True, exist_ok=True)
        return Lock(ledger.path)
    except OSError as error:
        _refused(ledger, error)
        return None


def _refused(ledger: Where, error: OSError) -> None:
    """A ledger cannot be had: an error where it was asked for, a warning where it is the cache."""
    if ledger.chosen:
        if isinstance(error, SourceError):
            raise error
        raise SourceError(f"cannot keep the ledger {ledger.path}: {_why(error)}") from None
    why = "it is in use" if isinstance(error, InUseError) else _why(error)
    warn(f"nothing is kept for the next run: {ledger.path}: {why}")


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _set_aside(path: Path, why: str) -> None:
    """Move a damaged ledger out of the way, and say so."""
    aside = _aside(path)
    path.replace(aside)
    for more in ("-journal", "-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + more).unlink()
    warn(f"{why}; it is set aside as {aside.name}, and all files are measured again")


def _is_foreign(path: Path) -> bool:
    """Whether it was never a ledger: nobody's notes are moved away."""
    with path.open("rb") as file:
        head = file.read(72)
    return head[:16] != b"SQLite format 3\0" or head[68:72] != b"zero"


def _aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


# ---------------------------------------------------------------- measuring


@dataclass(slots=True)
class _Waiting:
    """What has been measured and not yet written down.

    Attributes
    ----------
    rows, shards, same
        As for `Book.add`.
    records : list of Provenance
        Of all of it.
    """

    rows: list[Row] = field(default_factory=list)
    shards: dict[int, Mapping[str, Partial]] = field(default_factory=dict)
    same: dict[str, tuple[int, str]] = field(default_factory=dict)
    records: list[Provenance] = field(default_factory=list)


class _Run:
    """One run with a ledger."""

    def __init__(
        self, source: ListedSource, plan: Plan, run: Run, ledger: Where, book: Book
    ) -> None:
        self.source, self.plan, self.run, self.ledger, self.book = source, plan, run, ledger, book
        self.total: dict[str, Partial] = {}
        self.waiting = _Waiting()
        self.failed: list[tuple[str, str]] = []
        self.shard = book.next_shard
        self.full = False  # nothing can be written any more
        self.last, self.pause = time.monotonic(), _OFTEN

    def measured(self, chosen: Sequence[int] | None) -> Measured:
        """The sum of what is known and what is measured now."""
        if not self.book.compare(self.source.entries()):
            raise SourceError(
                f"{self.source.name} has files whose names cannot be told apart, so no ledger can "
                "be kept of it"
            )
        self._check_about()
        self._set_aside(chosen is None)
        self.total = self.book.total
        same = {} if self.plan.strict else self.book.stale()
        changed: Sequence[int] = self.book.changed()
        if chosen is not None:
            new = set(changed)
            changed = [i for i in chosen if i in new]
        if self.run.progress is not None:
            self.run.progress(Progress(0, 0, len(changed), 0.0, known=len(self.book)))
        if self.plan.by is not None and self.book.has_shards:
            raise SourceError(
                f"the ledger {self.ledger.path} keeps sums of many files together, which cannot be "
                "divided by group; give another file"
            )
        plan = replace(self.plan, keep=Keep(every=self.plan.by is not None), by=None)
        shards = _knowing(self.source.shards_of(changed), same)
        with closing(measured(shards, self.source, plan, self.run)) as parts:
            try:
                for part in watched(parts, len(changed), self.run.progress):
                    self._take(part)
            finally:  # Ctrl-C keeps what was done
                self._write()
        return self._whole(chosen)

    def _check_about(self) -> None:
        """Refuse a ledger of other options, or of other data."""
        held, wanted = self.book.about, self.ledger.about
        if held and (text := difference(held["options"], wanted["options"])):
            raise SourceError(
                f"the ledger {self.ledger.path} was kept with {text}; give another file"
            )
        if held and held["source"] != wanted["source"] and len(self.book):
            found = self.book.shared_with_list()
            if found < _MOVED * len(self.book):
                raise SourceError(
                    f"the ledger {self.ledger.path} is of {', '.join(held['source'])}: only "
                    f"{found:,} of its {len(self.book):,} files are here. Give another file"
                )
        if held != wanted:
            self.book.begin(wanted)

    def _set_aside(self, gone_too: bool) -> None:
        """Take out of the sum what is gone or was touched; exact."""
        gone, touched = self.book.gone() if gone_too else [], self.book.touched()
        if not gone and not touched:
            return
        sharing = self.book.sharing([*gone, *touched])
        if others := len({*sharing} - {*gone, *touched}):
            warn(
                f"{others:,} files are measured again, because their sums are kept together with "
                f"those of {len(gone) + len(touched):,} that have changed or are gone"
            )
        gone = list({*gone, *sharing})
        touched = list({*touched} - {*sharing})
        out = len(gone) + len(touched)
        can = not any(part.extrema is not None for part in self.book.total.values())
        total = None
        if can and not sharing and 2 * out < len(self.book):
            self.book.choose([*gone, *touched])
            total = _less(self.book.total, self.book.states(listed=True))
        self.book.set_aside(gone, touched, total)

    # ------------------------------------------------------------ on the way

    def _take(self, part: Measured) -> None:
        """Add up what a shard gave, and write it down now and then."""
        waiting, total = self.waiting, dict(self.total)
        for kind, own in part.partials.items():
            add_to(total, kind, own, self.plan.pattern)
        same = {r.name: (r.mtime_ns, r.stamp) for r in part.kept if r.reason == SAME}
        for name in same:
            if (known := self.book.state(name)) is not None:
                add_to(total, *known, self.plan.pattern)
        self.total = total
        waiting.same |= same
        for row in part.kept:
            together = part.together and row.state is None and not row.reason
            if row.name not in same:
                waiting.rows.append(row._replace(shard=self.shard) if together else row)
        named = {row.name for row in part.kept}
        self.failed += [pair for pair in part.record.skipped if pair[0] not in named]
        if part.together:
            waiting.shards[self.shard] = part.together
            self.shard += 1
        waiting.records.append(part.record)
        if time.monotonic() - self.last > self.pause:
            self._write()

    def _write(self) -> None:
        """Write down what waits; where there is no room, go on without."""
        waiting = self.waiting
        if self.full or not (waiting.rows or waiting.same):
            return
        begin = time.monotonic()
        try:
            self.book.add(waiting.rows, waiting.shards, waiting.same, self.total)
        except OSError as error:
            self.full = True
            warn(
                f"the ledger {self.ledger.path} cannot be written any more ({_why(error)}): the "
                "result is right, what was kept before stays, and the rest is measured again the "
                "next time"
            )
            return
        self.waiting = _Waiting()
        self.last = time.monotonic()
        self.pause = max(_OFTEN, (self.last - begin) / _SHARE)

    # ------------------------------------------------------------ at the end

    def _whole(self, chosen: Sequence[int] | None) -> Measured:
        """The sum of the files that are listed, or chosen."""
        if self.plan.by is not None:
            record = self._checked(self.book.record())
            return Measured(grouped(self.book, self.plan.by), record, record.items)
        if chosen is None:
            record = self._checked(self.book.record())
            return Measured(dict(self.total), record, record.items)
        wanted = set(chosen)
        entries = enumerate(self.source.entries())
        self.book.choose(entry.name for i, entry in entries if i in wanted)
        total = summed((kind, part) for _, kind, part in self.book.states(listed=True))
        record = self._checked(self.book.record(listed=True))
        return Measured(total, record, record.items)

    def _checked(self, record: Provenance) -> Provenance:
        """With what could not be read, and what could not be written down.

        Raises
        ------
        SourceError
            Under ``strict``, for the first file that an earlier run could not read.
        """
        if self.plan.strict and record.skipped:
            name, reason = record.skipped[0]
            raise SourceError(f"{name}: {reason}")
        for part in self.waiting.records:
            record += replace(part, skipped=tuple(p for p in part.skipped if p[1] != SAME))
        failed = [pair for pair in self.failed if pair not in record.skipped]
        skipped = tuple(sorted([*record.skipped, *failed]))
        return replace(record, skipped=skipped, warnings=_versions(record))


def _versions(record: Provenance) -> tuple[str, ...]:
    """Say when rows of years lie side by side that different versions have decoded."""
    names = [decoder.rpartition(" ")[0] for decoder in record.decoders]
    twice = sorted({name for name in names if names.count(name) > 1})
    return tuple(
        f"the ledger holds files decoded by {' and by '.join(versions)}"
        for name in twice
        if (versions := [d for d in record.decoders if d.rpartition(" ")[0] == name])
    )


def _less(total: Mapping[str, Partial], parts: Any) -> dict[str, Partial]:
    """A sum without some of its parts.

    Raises
    ------
    DamagedError
        When they are no parts of it.
    """
    rest = dict(total)
    for name, kind, part in parts:
        try:
            rest[kind] -= part
        except (MergeError, KeyError) as error:
            raise DamagedError(f"the state of {name} is no part of the sum: {error}") from None
    return rest


# ---------------------------------------------------------------- files that were touched


@dataclass(frozen=True, slots=True)
class _Known:
    """A reader that decodes nothing when the content of a file is what it was; picklable.

    Attributes
    ----------
    reader : Reader
    contents : mapping of str to bytes
        SHA-256 of the files of one shard, by name.
    """

    reader: Any
    contents: Mapping[str, bytes]

    def __call__(self, file: HeldFile, memory: Any) -> Iterator[Item]:
        known = self.contents.get(file.name)
        if known is not None and file.digest.to_bytes(32, "big") == known:
            raise DecodeError(SAME)
        yield from self.reader(file, memory)

    def scratch(self) -> Any:
        return self.reader.scratch()


def _knowing(shards: Iterator[Any], contents: Mapping[str, bytes]) -> Iterator[Any]:
    """Shards that look whether the content of touched files has changed at all."""
    for shard in shards:
        if contents and hasattr(shard, "reader"):
            own = {name: contents[name] for name in shard.names if name in contents}
            yield replace(shard, reader=_Known(shard.reader, own)) if own else shard
        else:
            yield shard
