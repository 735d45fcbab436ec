"""Measures a random sample of the files of a source."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zeromean.accumulation import Measured, Plan, combine
from zeromean.errors import SourceError
from zeromean.estimates import Estimate, rounded_up
from zeromean.execution import Progress, Run, measured
from zeromean.sampling.clusters import ClusterSums
from zeromean.sampling.file_sums import FileSums, KeepSums, range_of
from zeromean.sampling.looks import CONFIDENCE, Seen, sample_size, size_floor
from zeromean.sampling.order import drawn
from zeromean.sources import ListedSource, Source

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_CHUNK = 1 << 21  # numbers of files that are held at once
_MOST_FILES, _FIRST_FILES = 1 << 16, 64

#: Measures some of the entries; see `measurer`.
MeasureSome = Callable[[Sequence[int], int], tuple[Measured, Sequence[FileSums]]]


def check_within(asked: float, opened: Sequence[Source], plan: Plan, limit: int | None) -> None:
    """Refuse what a sample of files cannot be taken of.

    Raises
    ------
    SourceError
        Saying what to leave out, or what is needed instead.
    """
    if not isinstance(asked, int | float) or isinstance(asked, bool) or not 0 < asked < 1:
        raise SourceError(f"within is {asked!r}; it is a share of the data's range, such as 0.001")
    for name, given in (("by", plan.by), ("covariance", plan.covariance), ("limit", limit)):
        if given:
            raise SourceError(
                f"within= and {name}= do not go together: a sample says how well it knows mean and "
                f"std of all the data, and nothing else; leave out {name}="
            )
    if len(opened) != 1:
        raise SourceError(
            "within takes a random sample of the files of one source, and these are "
            f"{len(opened)} of different kinds; measure them one by one"
        )
    if not isinstance(opened[0], ListedSource):
        raise SourceError(
            f"within takes a random sample of files, and {opened[0].name} is none of many files: "
            "measure it without within"
        )


def measurer(source: ListedSource, plan: Plan, run: Run) -> MeasureSome:
    """Measures some entries of a source, and keeps nothing.

    Parameters
    ----------
    source : ListedSource
    plan : Plan
        With `KeepSums`.
    run : Run
    """
    start, items, n_bytes = time.monotonic(), 0, 0

    def some(chosen: Sequence[int], target: int) -> tuple[Measured, Sequence[FileSums]]:
        rows: list[FileSums] = []

        def noted(parts: Iterator[Measured]) -> Iterator[Measured]:
            nonlocal items, n_bytes
            for part in parts:
                rows.extend(part.kept)
                items, n_bytes = items + part.handed, n_bytes + part.record.bytes
                if run.progress is not None:
                    run.progress(Progress(items, n_bytes, target, time.monotonic() - start))
                yield part

        with closing(measured(source.shards_of(chosen), source, plan, run)) as parts:
            return combine(noted(parts), plan.pattern), rows

    return some


def sampled(
    source: ListedSource,
    plan: Plan,
    run: Run,
    asked: float,
    *,
    some: MeasureSome | None = None,
    seed: int = 0,
) -> tuple[Measured, Estimate | None]:
    """Measure a random sample of the files of a source.

    Parameters
    ----------
    source : ListedSource
    plan : Plan
    run : Run
    asked : float
        Half width, on the scale where the range has length 1.
    some : callable, optional
        What measures the entries at some places of the list, given with how many will be read in
        all as far as is known; `measurer` unless given.
    seed : int
        Of the order of files.

    Returns
    -------
    (Measured, Estimate or None)
        What all files gave that were read, and None if these are all.

    Raises
    ------
    SourceError
        When the range of the data is not known.
    PatternError
        When the pattern keeps too many entries.
    """
    plan = replace(plan, keep=KeepSums(plan.range))
    order, sizes = drawn(source.entries(), seed)
    sample = _Sample(some or measurer(source, plan, run), plan, order)
    widths = None
    with suppress(_MixtureError):
        looks, widths = sample_size(len(order), asked, sample.read, size_floor(sizes, asked))
    assert sample.whole is not None
    if widths is None:
        return sample.whole, None
    ((_, part),) = sample.whole.partials.items()
    low, high = range_of(part.dtype, plan.range)
    means, stds = np.split(widths, 2)
    estimate = Estimate(
        confidence=CONFIDENCE,
        asked=float(asked),
        scale=float(high - low),
        files=looks[-1],
        of_files=len(order),
        clusters="files" if source.n_items == len(order) else "blocks",
        looks=looks,
        seed=seed,
        unit_mean_half_width=rounded_up(means, asked, part.kept_shape),
        unit_std_half_width=rounded_up(stds, asked, part.kept_shape),
    )
    return sample.whole, estimate


class _MixtureError(Exception):
    """Pictures of several kinds, which share no statistics: the caller says which."""


class _Sample:
    """A growing sample.

    Attributes
    ----------
    whole : Measured or None
        What all files gave that were read.
    """

    def __init__(self, some: MeasureSome, plan: Plan, order: _Ints) -> None:
        self.some, self.plan, self.order = some, plan, order
        self.whole: Measured | None = None
        self.sums: ClusterSums | None = None
        self.unreadable = self.n = 0  # the former: before the number of features was known

    def read(self, n: int) -> Seen:
        """Read files up to that many in all, a bounded number at once."""
        while self.n < n:
            # In the order of the list: archives and files of many pictures are read on and on.
            chosen = np.sort(self.order[self.n : min(n, self.n + self._at_once())])
            part, rows = self.some(chosen.tolist(), n)
            parts = [part] if self.whole is None else [self.whole, part]
            self.whole = combine(iter(parts), self.plan.pattern)
            if len(self.whole.partials) > 1:
                raise _MixtureError
            self._add(rows, len(chosen))
            self.n += len(chosen)
        none = np.zeros(0)
        return Seen(self.sums, *self._ends()) if self.sums else Seen(None, none, none)

    def _at_once(self) -> int:
        if self.sums is None:
            return _FIRST_FILES
        return min(_MOST_FILES, max(_FIRST_FILES, _CHUNK // (3 * self.sums.n_features)))

    def _add(self, rows: Sequence[FileSums], files: int) -> None:
        """Add sums in order of name: threads hand them over in any."""
        held = [row.sums for row in sorted(rows, key=lambda row: row.name) if row.sums is not None]
        if len(held) > files:
            raise SourceError(
                "within takes a random sample of files, and these hand over more than one item "
                "each; measure them without within"
            )
        if self.sums is None and held:
            self.sums = ClusterSums(len(held[0]))
            self._add_nothing(self.unreadable)
        if self.sums is None:
            self.unreadable += files
            return
        if held:
            self.sums.add(np.stack(held))
        self._add_nothing(files - len(held))

    def _add_nothing(self, files: int) -> None:
        """Files that could not be read are of size 0."""
        if files and self.sums is not None:
            self.sums.add(np.zeros((files, self.sums.n_features, 3)))

    def _ends(self) -> tuple[_Floats, _Floats]:
        """Extrema of all that was read."""
        assert self.whole is not None
        part = next(iter(self.whole.partials.values()))
        known = part.statistics.extrema if part.extrema is None else part.extrema
        limits = range_of(part.dtype, self.plan.range)
        ends = [[math.nan if v is None else v for v in e.tolist()] for e in (known.low, known.high)]
        low, high = (np.array(end, np.float64) - limits[0] for end in ends)
        return low / (limits[1] - limits[0]), high / (limits[1] - limits[0])
