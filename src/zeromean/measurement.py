"""`measure`: runs a source over an executor and adds up what the shards give."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from zeromean.accumulation import Measured, Plan, combine, measure_shard
from zeromean.errors import MergeError, PatternError, SkippedWarning, SourceError, ZeromeanWarning
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.provenance import Provenance
from zeromean.sources.arrays import ArraySource
from zeromean.sources.images import ImageFiles
from zeromean.sources.opening import Opened, Options, open_source, pattern_of

_SMALL_FILE = 20_000  # bytes: below, two threads on one interpreter are slower than one


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    items, bytes : int
        Done so far, skipped items included.
    total_items : int or None
        None when the source does not know.
    seconds : float
        Since the start.
    """

    items: int
    bytes: int
    total_items: int | None
    seconds: float


def measure(
    source: Any,
    pattern: str | Pattern | None = None,
    *,
    colors: str = "RGB",
    group: str | None = None,
    limit: int | None = None,
    extensions: Sequence[str] | None = None,
    range: tuple[float, float] | None = None,
    channels: str = "",
    feature_names: Sequence[str] = (),
    quantiles: bool = False,
    strict: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] | None = None,
    **sizes: int,
) -> Profile:
    """Measure data once, exactly.

    Parameters
    ----------
    source : array, path, or iterable
        An array (NumPy, memory map, CPU tensor, anything with ``__array__``); a folder of
        images; a `.npy` or `.npz` file (``data.npz:name`` for one of several arrays); a list of
        paths; a list or generator of arrays or PIL images, of unequal sizes if need be.
    pattern : str or Pattern, optional
        Which axes keep their own statistics, such as ``"n h w c -> c"``. Without one: a
        one-dimensional array gives one number, a two-dimensional array one for each column,
        pictures one for each channel.
    colors : {"RGB", "gray", "keep"}
        How image files become channels. "RGB" converts 8-bit files as torchvision's loader
        does; "keep" takes every file as it is, and refuses a mixture.
    group : str, optional
        With ``colors="keep"``, the one kind to measure, such as "RGB uint8".
    limit : int, optional
        A quick look at that many items, spread evenly; the first ones of a `.npz` file or a
        generator, which are read in order.
    extensions : sequence of str, optional
        Of the image files to read in folders, instead of the usual ones.
    range : (low, high), optional
        Scale of the raw data. Known for uint8, uint16 and bool.
    channels : str, optional
        Order of the channels of an array, such as "RGB".
    feature_names : sequence of str, optional
        One name for each kept entry.
    quantiles : bool
        For float32 and float64: also count values in buckets, for `Profile.quantile_bounds`.
    strict : bool
        Stop at the first file that cannot be read, instead of skipping and reporting it.
    workers : int, optional
        Threads. By default all cores, or one where the files are so small that threads only
        get in each other's way. The result does not depend on it.
    executor : concurrent.futures.Executor, optional
        Run shards there instead of in threads.
    progress : callable, optional
        Called with a `Progress` now and then, in the calling thread.
    **sizes : int
        Lengths inside groups of the pattern, such as ``g=8`` for ``(g c)``.

    Returns
    -------
    Profile

    Raises
    ------
    SourceError
        When the source does not exist, holds nothing that can be read, or, under `strict`,
        for the first unreadable file.
    PatternError
        When pattern and data do not fit, with the patterns that would.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> images = np.zeros((10, 4, 4, 3), dtype=np.uint8)
    >>> images[..., 0] = 255
    >>> zm.measure(images, "n h w c -> c").mean
    array([255.,   0.,   0.])
    """
    if pattern is None and sizes:
        raise PatternError(_unknown(sizes))
    parsed = None if pattern is None else Pattern.parse(pattern, **sizes)
    names = None if extensions is None else tuple(extensions)
    opened = open_source(source, parsed, Options(colors, group, limit, names))
    parts = [
        _measure_one(
            one,
            Plan(
                pattern_of(one, parsed),
                None if range is None else tuple(range),  # type: ignore[arg-type]
                channels,
                colors,
                quantiles,
                strict,
                tuple(feature_names),
            ),
            _Run(workers, executor, progress),
        )
        for one in opened
    ]
    profile = parts[0]
    for one, part in zip(opened[1:], parts[1:], strict=True):
        try:
            profile += part
        except MergeError as error:
            raise MergeError(f"{one.name}: {error}") from None
    _warn(profile)
    return profile


def _unknown(sizes: dict[str, int]) -> str:
    """The sentence for a keyword that is no option; without a pattern it is no length either."""
    given = ", ".join(f"{name}={size!r}" for name, size in sizes.items())
    options = [name for name in measure.__annotations__ if name not in ("sizes", "return")]
    near = [n for name in sizes for n in get_close_matches(name, options, 1)]
    hint = f"; did you mean {near[0]}?" if near else ""
    if "per" in sizes:
        hint = "; give the pattern itself, such as 'n h w c -> c'"
    return f"{given}: there is no such option, and no pattern that names it{hint}"


@dataclass(frozen=True, slots=True)
class _Run:
    workers: int | None
    executor: Executor | None
    progress: Callable[[Progress], None] | None

    def threads(self, opened: Opened) -> int:
        if self.workers is not None:
            if self.workers < 1:
                raise SourceError(f"workers is {self.workers}; choose 1 or more")
            return self.workers
        if isinstance(opened, ImageFiles) and opened.median_size < _SMALL_FILE:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores()


def _cores() -> int:
    return os.cpu_count() or 1


def _measure_one(opened: Opened, plan: Plan, run: _Run) -> Profile:
    """Measure one opened source and attach its provenance."""
    with closing(_mapped(opened, plan, run)) as parts:  # so that an error leaves no thread behind
        measured = combine(_watched(parts, opened, run), plan.pattern)
    record = measured.record
    if isinstance(opened, ImageFiles):
        record = replace(
            record,
            skipped=tuple(sorted((*record.skipped, *opened.problems))),
            left_out=opened.left_out,
            warnings=opened.warnings,
            decoders=_with_versions(record),
        )
    record = replace(record, versions=_versions(), sources=(_look(opened),))
    kinds = measured.partials
    if not kinds:
        raise SourceError(_nothing(record))
    if len(kinds) > 1:
        raise SourceError(_mixture(measured))
    ((kind, partial),) = kinds.items()
    return partial.profile(plan, kind, record)


def _look(opened: Opened) -> str:
    """What was asked for, and that it was not all of it."""
    if isinstance(opened, ImageFiles | ArraySource) and opened.n_items < opened.n_whole:
        return f"{opened.name} (a quick look at {opened.n_items} of {opened.n_whole})"
    return opened.name


def _with_versions(record: Provenance) -> dict[str, int]:
    from zeromean.sources.decode import decoder_version

    return {f"{name} {decoder_version(name)}": n for name, n in sorted(record.decoders.items())}


def _versions() -> dict[str, str]:
    from zeromean import __version__

    return {"numpy": np.__version__, "zeromean": __version__}


def _nothing(record: Provenance) -> str:
    if not record.skipped:
        return "there is nothing to measure: the source is empty"
    path, reason = record.skipped[0]
    return f"none of {len(record.skipped)} files could be measured; the first, {path}: {reason}"


def _mixture(measured: Measured) -> str:
    kinds = measured.partials
    lines = [f"  {kind}: such as {kinds[kind].example}" for kind in sorted(kinds)]
    first = min(kinds)
    return (
        "pictures of different kinds cannot share statistics:\n" + "\n".join(lines) + "\n"
        f"choose one with --group {first!r} (group={first!r}), or convert with --colors RGB"
    )


def _watched(parts: Iterable[Measured], opened: Opened, run: _Run) -> Iterator[Measured]:
    """Pass results on and report progress."""
    start, items, n_bytes = time.monotonic(), 0, 0
    for part in parts:
        items += part.handed
        n_bytes += part.record.bytes
        if run.progress is not None:
            seconds = time.monotonic() - start
            run.progress(Progress(items, n_bytes, opened.n_items, seconds))
        yield part


def _mapped(opened: Opened, plan: Plan, run: _Run) -> Generator[Measured, None, None]:
    """Measure all shards; results come in any order."""
    if run.executor is not None:
        yield from _through(run.executor, 2 * _cores() + 2, opened, plan)
        return
    threads = run.threads(opened)
    if threads == 1:
        for shard in opened.shards():
            yield measure_shard(shard, plan)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="zeromean")
    try:
        yield from _through(pool, threads + 2, opened, plan)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _through(executor: Executor, window: int, opened: Opened, plan: Plan) -> Iterator[Measured]:
    """Keep a bounded number of shards under way, so that memory stays bounded too."""
    pending: set[Future[Measured]] = set()
    try:
        for shard in opened.shards():
            pending.add(executor.submit(measure_shard, shard, plan))
            while len(pending) >= window:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in pending:
            future.cancel()


def _warn(profile: Profile) -> None:
    skipped = profile.provenance.skipped
    if skipped:
        path, reason = skipped[0]
        warnings.warn(
            f"skipped {len(skipped):,}, all listed in .provenance.skipped; the first, "
            f"{path}: {reason}",
            SkippedWarning,
            stacklevel=3,
        )
    for text in profile.provenance.warnings:
        warnings.warn(text, ZeromeanWarning, stacklevel=3)
    infinite = int(np.sum(profile.inf_count))
    if infinite:
        warnings.warn(
            f"{infinite:,} infinite value(s) were counted and left out of all statistics",
            ZeromeanWarning,
            stacklevel=3,
        )
