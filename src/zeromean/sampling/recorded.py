"""Measures a sample with a ledger: what it knows is not read, and what is read it keeps.

So a sample that was drawn before costs nothing, and measuring all files afterwards reads the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zeromean.accumulation import Measured, Plan
from zeromean.execution import Progress, Run
from zeromean.ledger.book import Book
from zeromean.ledger.keeping import Where, kept
from zeromean.sampling.file_sums import FileSums, KeepSums, range_of, unit_sums
from zeromean.sampling.measuring import MeasureSome, measurer
from zeromean.sources import ListedSource


def recorder(source: ListedSource, plan: Plan, run: Run, ledger: Where) -> MeasureSome:
    """Measures some entries of a source with a ledger.

    Where the ledger holds only sums of many files, because the state of each is too large, or
    cannot be kept at all, the rest of the sample is measured without it.

    Parameters
    ----------
    source : ListedSource
    plan : Plan
    run : Run
    ledger : Where
    """
    told = _Told(run)
    plain = measurer(source, replace(plan, keep=KeepSums(plan.range)), told.run)
    able = True

    def some(chosen: Sequence[int], target: int) -> tuple[Measured, Sequence[FileSums]]:
        nonlocal able
        told.begin(target)
        whole = kept(source, plan, told.run, ledger, chosen) if able else None
        rows = None if whole is None else _sums_of(source, plan, ledger, chosen, whole)
        if whole is None or rows is None:
            able = False
            told.begin(target)
            return plain(chosen, target)
        return whole, rows

    return some


def _sums_of(
    source: ListedSource, plan: Plan, ledger: Where, chosen: Sequence[int], whole: Measured
) -> list[FileSums] | None:
    """The sums of each file, from the states that the ledger keeps; None if it does not have all.

    Raises
    ------
    SourceError
        Where the range is not known.
    PatternError
        Where there are too many features.
    """
    wanted = set(chosen)
    names = {entry.name for i, entry in enumerate(source.entries()) if i in wanted}
    book = Book(ledger.path, writing=False)
    try:
        book.choose(names)
        rows = []
        for name, _, part in book.states(listed=True):
            sums = unit_sums(part.statistics, range_of(part.dtype, plan.range))
            KeepSums(plan.range).alone(len(sums))
            rows.append(FileSums(name, sums))
    finally:
        book.close()
    missing = names - {row.name for row in rows} - {name for name, _ in whole.record.skipped}
    return None if missing else rows


class _Told:
    """Makes one progress of those of several runs.

    Attributes
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self._tell, self._target = run.progress, 0
        self._before, self._now = Progress(0, 0, None, 0.0), Progress(0, 0, None, 0.0)
        self.run = run if run.progress is None else replace(run, progress=self._heard)

    def begin(self, target: int) -> None:
        """What is told from now on is on top of what was."""
        self._before, self._now, self._target = self._now, self._now, target

    def _heard(self, part: Progress) -> None:
        held = self._before
        self._now = Progress(
            held.items + part.items,
            held.bytes + part.bytes,
            self._target,
            held.seconds + part.seconds,
        )
        if self._tell is not None:
            self._tell(self._now)
