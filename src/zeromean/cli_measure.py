"""`zeromean measure`: what are the mean and std of my data?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from zeromean.cli_profiles import added, same_way, saved_profile
from zeromean.terminal import (
    check_suffix,
    colored,
    draw,
    measuring_bar,
    reading,
    report_skips,
    say_written,
    silence,
)

_PER = ("channel", "pixel", "feature", "all")
_WORTH_SAYING = 2.0  # seconds of a run, after which people want to know that it is kept


def _number(text: str) -> float:
    """A number as it is written: whole ones, of any size, stay whole."""
    try:
        return int(text)
    except ValueError:
        return float(text)


@click.command(short_help="Measure mean, std and distribution.")
@click.argument("source", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help=".json or .safetensors file.")
@click.option("-p", "--pattern", help='Axes and what is kept, such as "n h w c -> c".')
@click.option("--per", type=click.Choice(_PER), help="A common pattern by name.")
@click.option(
    "--colors",
    type=click.Choice(["RGB", "gray", "keep"]),
    default="RGB",
    show_default=True,
    help="How image files become channels.",
)
@click.option(
    "--by", metavar="class|COLUMN", help="Each class folder, or value of a column, by itself too."
)
@click.option("--group", help='With --colors keep: the kind to measure, such as "RGBA uint8".')
@click.option("--limit", type=click.IntRange(1), help="A quick look at N items, spread evenly.")
@click.option(
    "--range", "range_", type=float, nargs=2, metavar="LOW HIGH", help="Scale of the data."
)
@click.option("--channels", default="", help="Channel order of an array, such as RGB.")
@click.option(
    "--format", "format_", metavar="NAME", help="Kind of source, instead of recognizing it."
)
@click.option("--key", default="", help="Which array, variable or column of a file is meant.")
@click.option(
    "--features",
    type=click.Choice(["samples", "logmel"]),
    default="samples",
    show_default=True,
    help="What recordings are measured by.",
)
@click.option(
    "--nodata",
    type=_number,
    multiple=True,
    metavar="VALUE",
    help="A value that stands for no data.",
)
@click.option("--mask", metavar="FOLDER", help="Label images that say which pixels count.")
@click.option(
    "--ignore", type=int, multiple=True, help="A label of the mask that is left out (default: 0)."
)
@click.option("--transform", metavar="MODULE:FUNCTION", help="Measure what it makes of pictures.")
@click.option("--resize", metavar="N|HxW", help="Measure pictures resized, as torchvision does.")
@click.option("--crop", metavar="N|HxW", help="Measure the middle of each picture.")
@click.option(
    "--within", type=float, metavar="X", help="Stop when all is known to X on a 0..1 scale."
)
@click.option("--ledger", metavar="FILE", help="Where to keep what each file gave.")
@click.option("--no-ledger", is_flag=True, help="Keep nothing between runs.")
@click.option("--update", metavar="FILE", help="Add to what was measured before, and save there.")
@click.option("--executor", metavar="WHERE", help="processes:N, dask:tcp://HOST:PORT or mpi.")
@click.option("--quantiles", is_flag=True, help="Float data: also count values in buckets.")
@click.option("--covariance", is_flag=True, help="Also how features vary together, to whiten.")
@click.option("-j", "--workers", type=click.IntRange(1), help="Threads (default: all cores).")
@click.option("--json", "as_json", is_flag=True, help="Print what -o would write.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Also draw: .png, .svg or .pdf.")
@reading
def measure(
    source: tuple[str, ...],
    output: str | None,
    pattern: str | None,
    per: str | None,
    colors: str,
    by: str | None,
    group: str | None,
    limit: int | None,
    range_: tuple[float, float] | None,
    channels: str,
    format_: str | None,
    key: str,
    features: str,
    nodata: tuple[float, ...],
    mask: str | None,
    ignore: tuple[int, ...],
    transform: str | None,
    resize: str | None,
    crop: str | None,
    within: float | None,
    ledger: str | None,
    no_ledger: bool,
    update: str | None,
    executor: str | None,
    quantiles: bool,
    covariance: bool,
    workers: int | None,
    as_json: bool,
    plot: str | None,
    ext: tuple[str, ...],
    strict: bool,
    quiet: bool,
) -> None:
    """Measure mean, std and distribution of SOURCE: folders, archives, arrays, tables, recordings.

    SOURCE is recognized by its content. Patterns (data/*.tar), lists (@files.txt, - for standard
    input) and URLs (s3://...) will do as well. Of files it is kept what each one gave: the next run
    reads only what is new or changed.

    \b
    zeromean measure data/train
    zeromean measure data/train --by class -o by-class.json
    zeromean measure data/train --per pixel -o mean-image.safetensors
    zeromean measure x_train.npy -p "n h w c -> c" --json > train.json
    """
    from zeromean.ledger.wish import IF_POSSIBLE
    from zeromean.measurement import measure as run
    from zeromean.pattern import NAMED

    if pattern is not None and per is not None:
        raise click.UsageError("--pattern and --per say the same thing; give one")
    if ledger and no_ledger:
        raise click.UsageError("--ledger and --no-ledger contradict each other; give one")
    check_suffix(output, (".json", ".safetensors"))
    check_suffix(plot, (".png", ".svg", ".pdf"))
    silence(quiet)
    before = None
    if update:
        before = saved_profile(update)
        output = output or update
        pattern, colors = same_way(before, pattern or NAMED.get(per or ""), colors)
        per = None
    with _told(quiet) as progress:
        profile: Any = run(
            list(source) if len(source) > 1 else source[0],
            NAMED[per] if per else pattern,
            by=by,
            colors=colors,
            group=group,
            limit=limit,
            extensions=ext or None,
            range=range_ or None,
            format=format_,
            key=key,
            features=features,
            nodata=nodata or None,
            mask=mask,
            ignore=ignore,
            transform=_through(resize, crop, transform),
            within=within,
            ledger=None if no_ledger else ledger or IF_POSSIBLE,
            executor=executor,
            channels=channels,
            quantiles=quantiles,
            covariance=covariance,
            strict=strict,
            workers=workers,
            progress=progress,
        )
    report_skips(list(profile.provenance.skipped), profile.provenance.left_out, quiet)
    if before is not None:
        profile = added(before, profile, str(update))
    if output:
        profile.save(output)
    if plot:
        draw(profile, plot, ", ".join(source))
    if as_json:
        click.echo(profile.to_json(), nl=False)
        return
    from zeromean.summary import groups_text, profile_text

    options: Any = {"name": ", ".join(source), "color": colored()}
    if by is not None:
        click.echo(groups_text(profile, **options), nl=False)
    else:
        click.echo(profile_text(profile, **options, histogram=False), nl=False)
    say_written([output, plot], quiet)


def _through(resize: str | None, crop: str | None, transform: str | None) -> Any:
    """What pictures go through before they are measured, in this order; None for nothing."""
    if not (resize or crop or transform):
        return None
    from zeromean.transforming import CenterCrop, Resize, Steps, loaded, size_of

    steps: list[Any] = [Resize(size_of(resize))] if resize else []
    steps += [CenterCrop(size_of(crop))] if crop else []
    steps += [loaded(transform)] if transform else []
    return steps[0] if len(steps) == 1 else Steps(tuple(steps))


@contextmanager
def _told(quiet: bool) -> Iterator[Callable[[Any], None]]:
    """A progress bar, and at its end what a ledger has spared or will spare."""
    known: list[int] = []
    last: list[Any] = [None]
    with measuring_bar("measuring", quiet) as update:

        def progress(now: Any) -> None:
            if not known:
                known.append(now.known)
            last[0] = now
            if update is not None:
                update(now)

        yield progress
    if quiet or not known or not sys.stderr.isatty():
        return
    if known[0]:
        click.echo(f"{known[0]:,} were known from an earlier run (--no-ledger reads all)", err=True)
