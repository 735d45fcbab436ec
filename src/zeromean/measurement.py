"""`measure`: runs a source over an executor and adds up what the shards give."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, overload

import numpy as np

from zeromean.accumulation import Measured, Plan, combine, measure_shard
from zeromean.errors import (
    MergeError,
    PatternError,
    SkippedWarning,
    SourceError,
    UnitError,
    ZeromeanWarning,
)
from zeromean.grouped import GroupedProfile
from zeromean.partition import grouping_of
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.provenance import Provenance
from zeromean.sources.arrays import ArraySource
from zeromean.sources.frames import FrameSource
from zeromean.sources.images import ImageFiles
from zeromean.sources.opening import Opened, Options, open_source, pattern_of
from zeromean.sources.tables import TableFiles, Widened

_SMALL_FILE = 20_000  # bytes: below, two threads on one interpreter are slower than one
_FIXED_CORES = 8  # that shards are made for, where sums of floats must not depend on the machine


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


@overload
def measure(
    source: Any, pattern: str | Pattern | None = None, *, by: None = None, **options: Any
) -> Profile: ...


@overload
def measure(
    source: Any, pattern: str | Pattern | None = None, *, by: Any, **options: Any
) -> GroupedProfile: ...


def measure(
    source: Any,
    pattern: str | Pattern | None = None,
    *,
    by: Any = None,
    colors: str = "RGB",
    group: str | None = None,
    limit: int | None = None,
    extensions: Sequence[str] | None = None,
    range: tuple[float, float] | None = None,
    channels: str = "",
    feature_names: Sequence[str] = (),
    quantiles: bool = False,
    covariance: bool = False,
    strict: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] | None = None,
    **sizes: int,
) -> Profile | GroupedProfile:
    """Measure data once, exactly.

    Parameters
    ----------
    source : array, data frame, path, or iterable
        An array (NumPy, memory map, CPU tensor, anything with ``__array__``); a folder of
        images; a `.npy` or `.npz` file (``data.npz:name`` for one of several arrays); a data frame
        (pandas, polars, PyArrow, or anything with ``__arrow_c_stream__``); a `.csv` or `.parquet`
        file; a list of paths; a list or generator of frames, or of arrays or PIL images, of
        unequal sizes if need be.
    pattern : str or Pattern, optional
        Which axes keep their own statistics, such as ``"n h w c -> c"``. Without one: a
        one-dimensional array gives one number, a two-dimensional array one for each column, a
        table one for each column of numbers, pictures one for each channel.
    by : "class", array or sequence of labels, or callable, optional
        Measure each group by itself, in the same pass. "class": pictures by the first folder below
        the one that is measured. Labels: a text, whole number or truth value for each entry of the
        first axis, or for each element of a list or generator. A callable makes a group of the
        name of a file, relative to the source. For a table, the name of a column.
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
        One name for each kept entry; tables bring their own.
    quantiles : bool
        For float32 and float64: also count values in buckets, for `Profile.quantile_bounds`.
    covariance : bool
        Also how features vary together, for `zeromean.whiten` and `Profile.cov`; exact for
        integers. Floats are then measured in shards of a fixed size, added in order, so that
        neither cores nor workers change a bit; rows with a NaN or an infinity are left out of it.
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
    Profile, or GroupedProfile with ``by=``

    Raises
    ------
    SourceError
        When the source does not exist, holds nothing that can be read, or, under `strict`,
        for the first unreadable file.
    PatternError
        When pattern and data do not fit, with the patterns that would.
    UnitError
        When integers lie beyond the given range, or `channels` names another number of them.

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
                covariance,
                strict,
                tuple(feature_names),
                grouping_of(by, one, alone=len(opened) == 1),
            ),
            _Run(workers, executor, progress),
        )
        for one in opened
    ]
    profile: Any = parts[0]
    for one, part in zip(opened[1:], parts[1:], strict=True):
        try:
            profile += part
        except MergeError as error:
            raise MergeError(f"{one.name}: {error}") from None
    whole = profile if by is None else profile.total
    _check_units(whole, channels)
    _warn(whole)
    return profile  # type: ignore[no-any-return]


def _check_units(profile: Profile, channels: str) -> None:
    """Hold what was said of the data against the data.

    Raises
    ------
    UnitError
        For integers beyond the given range, and another number of channels than were named.
    """
    if channels and len(profile.kept_shape) == 1 and profile.n_features != len(channels):
        raise UnitError(
            f"channels={channels!r} names {len(channels)} channel(s), but {profile.n_features} "
            "were measured; name them all, or none"
        )
    limits, known = profile.units.range, profile.extrema
    low = min((v for v in known.low.tolist() if v is not None), default=None)
    high = max((v for v in known.high.tolist() if v is not None), default=None)
    if limits is None or low is None or high is None:
        return
    if low < limits[0] or high > limits[1]:
        text = (
            f"the data goes from {low:.6g} to {high:.6g}, beyond the range {limits[0]:g}.."
            f"{limits[1]:g} that was given"
        )
        if "float" not in profile.dtype:
            raise UnitError(f"{text}; give the true one")
        warnings.warn(text, ZeromeanWarning, stacklevel=3)
    elif "float" in profile.dtype and limits[0] == 0 and limits[1] > 1 >= high > low:
        warnings.warn(
            f"the data goes from {low:.6g} to {high:.6g}, which looks like 0..1 and not like "
            f"{limits[0]:g}..{limits[1]:g}: give the range that the values are in",
            ZeromeanWarning,
            stacklevel=3,
        )


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
    """Measure one opened source and attach its provenance; again if a column had to be widened."""
    while True:
        names = plan.feature_names or getattr(opened, "feature_names", ())
        with suppress(Widened):
            return _measure_once(opened, replace(plan, feature_names=names), run)


def _measure_once(opened: Opened, plan: Plan, run: _Run) -> Profile:
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
    if isinstance(opened, FrameSource | TableFiles):
        rows = max(1, record.items)
        record = replace(
            record, left_out=dict.fromkeys(opened.left_out, rows), warnings=opened.warnings
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
        for shard in _shards(opened, plan):
            yield measure_shard(shard, plan)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="zeromean")
    try:
        yield from _through(pool, threads + 2, opened, plan)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _through(executor: Executor, window: int, opened: Opened, plan: Plan) -> Iterator[Measured]:
    """Keep a bounded number of shards under way, so that memory stays bounded too."""
    pending: list[Future[Measured]] = []
    try:
        for shard in _shards(opened, plan):
            pending.append(executor.submit(measure_shard, shard, plan))
            while len(pending) >= window:
                yield from _finished(pending, plan)
        while pending:
            yield from _finished(pending, plan)
    finally:
        for future in pending:
            future.cancel()


def _finished(pending: list[Future[Measured]], plan: Plan) -> Iterator[Measured]:
    """Take out what is done; of a covariance, which is added in order, the oldest."""
    first = plan.covariance
    for future in pending[:1] if first else list(wait(pending, return_when=FIRST_COMPLETED).done):
        pending.remove(future)
        yield future.result()


def _shards(opened: Opened, plan: Plan) -> Iterator[Any]:
    """Shards of a source; for a covariance, the same ones on every machine."""
    fixed = plan.covariance and isinstance(opened, ArraySource | FrameSource | TableFiles)
    shards: Any = opened.shards(cores=_FIXED_CORES) if fixed else opened.shards()  # type: ignore[call-arg]
    return iter(shards) if plan.by is None else plan.by.shards(opened, shards)


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
