"""`measure`: runs a source over an executor and adds up what the shards give."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress
from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import Any, overload

import numpy as np

from zeromean.accumulation import Measured, Plan, combine
from zeromean.errors import (
    MergeError,
    PatternError,
    SkippedWarning,
    SourceError,
    UnitError,
    ZeromeanWarning,
    warn,
)
from zeromean.estimates import Estimate
from zeromean.execution import Progress, Run, measured, watched
from zeromean.grouped import GroupedProfile
from zeromean.ledger.keeping import Where, kept
from zeromean.ledger.wish import wanted
from zeromean.masking import mask_of, nodata_values, unheld
from zeromean.partition import grouping_of
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.provenance import Provenance
from zeromean.sampling import check_within, recorder, sampled
from zeromean.sources import ListedSource, Source
from zeromean.sources.opening import Options, open_source
from zeromean.sources.tables import Widened
from zeromean.transforming import transform_of

_FIXED_CORES = 8  # that shards are made for, where sums of floats must not depend on the machine


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
    format: str | None = None,
    key: str = "",
    features: str = "samples",
    range: tuple[float, float] | None = None,
    channels: str = "",
    feature_names: Sequence[str] = (),
    nodata: float | Sequence[float] | None = None,
    mask: Any = None,
    ignore: Sequence[int] = (),
    transform: Callable[[Any], Any] | None = None,
    quantiles: bool = False,
    covariance: bool = False,
    within: float | None = None,
    ledger: str | os.PathLike[str] | bool | None = None,
    strict: bool = False,
    workers: int | None = None,
    executor: Executor | str | None = None,
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
    format : str, optional
        What kind of source a path is, such as "tar" or "hdf5", instead of recognizing it.
    key : str, optional
        The part that is wanted of a file that holds several: a data set of an HDF5 file, an array
        of a Zarr store, a variable, an image column, an entry of what a loader gives.
    features : {"samples", "logmel"}
        What recordings are measured by: their samples, or the log-mel features of their frames.
    range : (low, high), optional
        Scale of the raw data. Known for uint8, uint16 and bool.
    channels : str, optional
        Order of the channels of an array, such as "RGB".
    feature_names : sequence of str, optional
        One name for each kept entry; tables bring their own.
    nodata : number or sequence of numbers, optional
        Values that stand for no data: left out, and counted as missing. NaN always is.
    mask : path or callable, optional
        Which pixels count: a folder of label images, by the names of the pictures, or a function
        from the name of an item to an array of labels. Pixels labeled 0 are left out.
    ignore : sequence of int, optional
        The labels of the mask that are left out, instead of 0.
    transform : callable, optional
        Measure what it makes of each picture: gets an (h, w, c) array, transforms of torchvision
        get a PIL image, and those of Albumentations are called as theirs are. ``.before`` of the
        profile then is that of the data as it was, and `range` is that of what comes out.
    quantiles : bool
        For float32 and float64: also count values in buckets, for `Profile.quantile_bounds`.
    covariance : bool
        Also how features vary together, for `zeromean.whiten` and `Profile.cov`; exact for
        integers. Floats are then measured in shards of a fixed size, added in order, so that
        neither cores nor workers change a bit; rows with a NaN or an infinity are left out of it.
    within : float, optional
        Measure a random sample of the files, and stop when mean and std of every channel are known
        that well, on a 0..1 scale and with 95 % confidence. The profile is marked as an estimate.
    ledger : path or bool, optional
        Where to write down what each file gave, so that a stopped run goes on where it was, and
        the next one reads only what is new or changed. True for the user's cache.
    strict : bool
        Stop at the first file that cannot be read, instead of skipping and reporting it.
    workers : int, optional
        Threads, or processes with ``executor="processes"``. By default all cores, or one thread
        where the files are so small that threads only get in each other's way. The result does not
        depend on it.
    executor : concurrent.futures.Executor or str, optional
        Run shards there instead of in threads: any executor, which stays open, or
        ``"processes:8"``, ``"loky:8"``, ``"dask:tcp://host:port"``, ``"mpi"``. Files that kill a
        worker twice are skipped.
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
    run = Run(workers, executor, progress)
    options = Options(colors, group, limit, names, format, key, features)
    opened = open_source(source, parsed, options)
    left_out, masked = nodata_values(nodata), mask_of(mask, ignore, opened, within)
    through = transform_of(transform, nodata=left_out, mask=mask, within=within)
    plans = [
        Plan(
            one.pattern,
            None if range is None else tuple(range),  # type: ignore[arg-type]
            channels,
            colors,
            quantiles,
            covariance,
            strict,
            tuple(feature_names),
            grouping_of(by, one, alone=len(opened) == 1),
            left_out,
            masked,
            through,
        )
        for one in opened
    ]
    if within is not None:
        check_within(within, opened, plans[0], limit)
    book = wanted(ledger, source, opened, plans[0], asdict(options))
    pairs = zip(opened, plans, strict=True)
    with run.opened() as run:
        parts = [_measure_one(one, plan, run, book, within) for one, plan in pairs]
    profile: Any = parts[0]
    for one, part in zip(opened[1:], parts[1:], strict=True):
        try:
            profile += part
        except MergeError as error:
            raise MergeError(f"{one.name}: {error}") from None
    whole = profile if by is None else profile.total
    _check_units(whole, channels)
    _check_nodata(left_out, whole)
    _warn(whole)
    return profile  # type: ignore[no-any-return]


def _check_nodata(values: Sequence[float], profile: Profile) -> None:
    """Warn of values that stand for no data, but that the data cannot hold."""
    for value in unheld(values, profile.dtypes):
        kinds = ", ".join(sorted(set(profile.dtypes)))
        warn(f"nodata={value!r} is no value of {kinds} data, so nothing was left out for it")


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


def _measure_one(
    source: Source, plan: Plan, run: Run, ledger: Where | None, within: float | None
) -> Any:
    """Measure one opened source and attach its provenance; again if a column had to be widened."""
    while True:
        names = plan.feature_names or source.feature_names
        with suppress(Widened):
            return _measure_once(source, replace(plan, feature_names=names), run, ledger, within)


def _measure_once(
    source: Source, plan: Plan, run: Run, ledger: Where | None, within: float | None
) -> Any:
    whole, estimate = None, None
    if within is not None and isinstance(source, ListedSource):
        some = None if ledger is None else recorder(source, plan, run, ledger)
        whole, estimate = sampled(source, plan, run, within, some=some)
    elif ledger is not None and isinstance(source, ListedSource):
        whole = kept(source, plan, run, ledger)
    if whole is None:
        with closing(measured(_shards(source, plan), source, plan, run)) as parts:
            whole = combine(watched(parts, source.n_items, run.progress), plan.pattern)
    look = _look(source, estimate)
    if plan.transform is None:
        profile = _profile(whole, source, plan, look)
        return profile if estimate is None else replace(profile, estimate=estimate)
    profile = _profile(whole, source, plan, f"{look} through {plan.transform.name}")
    return _beside(profile, whole.before, source, plan, look)


def _profile(whole: Measured, source: Source, plan: Plan, look: str) -> Any:
    """The profile of all that was measured; of each group, with ``by=``."""
    record = source.complete(whole.record)
    record = replace(record, decoders=_with_versions(record), versions=_versions(), sources=(look,))
    kinds = whole.partials
    if not kinds:
        raise SourceError(_nothing(record))
    if len(kinds) > 1:
        raise SourceError(_mixture(whole, plan))
    ((kind, partial),) = kinds.items()
    return partial.profile(plan, kind, record)


def _beside(profile: Any, before: Measured | str, source: Source, plan: Plan, look: str) -> Any:
    """The profile of what a transform made, with that of the data as it was."""
    try:
        if isinstance(before, str):
            raise SourceError(before)
        raw = _profile(before, source, replace(plan, transform=None, range=None), look)
    except SourceError as error:
        warn(f"there is no profile of the data before the transform: {error}")
        return profile
    if isinstance(profile, Profile):
        return replace(profile, before=raw)
    groups = {name: replace(own, before=raw[name]) for name, own in profile.items()}
    total = replace(profile.total, before=raw.total)
    return GroupedProfile(groups, profile.provenance, total)


def _look(source: Source, estimate: Estimate | None) -> str:
    """What was asked for, and that it was not all of it."""
    if estimate is not None:
        return f"{source.name} (an {estimate.short})"
    items, whole = source.n_items, source.n_whole
    if items is not None and whole is not None and items < whole:
        return f"{source.name} (a quick look at {items} of {whole})"
    return source.name


def _with_versions(record: Provenance) -> dict[str, int]:
    from zeromean.sources.decode import decoder_version

    return {
        name if " " in name else f"{name} {decoder_version(name)}": n  # a ledger knows its own
        for name, n in sorted(record.decoders.items())
    }


def _versions() -> dict[str, str]:
    from zeromean import __version__

    return {"numpy": np.__version__, "zeromean": __version__}


def _nothing(record: Provenance) -> str:
    if not record.skipped:
        return "there is nothing to measure: the source is empty"
    path, reason = record.skipped[0]
    return f"none of {len(record.skipped)} files could be measured; the first, {path}: {reason}"


def _mixture(measured: Measured, plan: Plan) -> str:
    kinds = measured.partials
    lines = [f"  {kind}: such as {kinds[kind].example}" for kind in sorted(kinds)]
    text = "pictures of different kinds cannot share statistics:\n" + "\n".join(lines) + "\n"
    if plan.transform is not None:
        return f"{text}let the transform {plan.transform.name} give one kind"
    first = min(kinds)
    convert = ", or convert with --colors RGB" if plan.colors == "keep" else ""
    return f"{text}choose one with --group {first!r} (group={first!r}){convert}"


def _shards(source: Source, plan: Plan) -> Iterator[Any]:
    """Shards of a source; for a covariance, the same ones on every machine."""
    shards = source.shards(cores=_FIXED_CORES if plan.covariance else None)
    if plan.mask is not None and plan.mask.of_array:
        masked: Iterator[Any] = plan.mask.shards(source, shards)
        return masked if plan.by is None else iter(plan.by.shards(None, masked))
    return iter(shards) if plan.by is None else plan.by.shards(source, shards)


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
