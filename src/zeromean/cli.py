"""The command line: `zeromean` and its verbs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from zeromean import __version__
from zeromean.cli_apply import apply
from zeromean.cli_check import check
from zeromean.cli_export import export
from zeromean.cli_fold import fold
from zeromean.cli_import import import_
from zeromean.cli_report import report
from zeromean.cli_study import STUDY_KINDS, show_study, study
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
_SHOWN_SKIPS = 5
_INTERRUPTED = 130


class _Commands(click.Group):
    """Turns our errors into one sentence and an exit code, and Ctrl-C into a clean end."""

    def invoke(self, context: click.Context) -> Any:
        from zeromean.errors import ZeromeanError

        try:
            with _warnings_on_stderr():
                return super().invoke(context)
        except ZeromeanError as error:
            click.echo(f"error: {error}", err=True)
            context.exit(2)
        except ImportError as error:
            if "pip install" not in str(error):
                raise
            click.echo(f"error: {error}", err=True)
            context.exit(2)
        except BrokenPipeError:
            raise  # click ends quietly when `| head` has seen enough
        except OSError as error:  # no space, no permission, a folder for a file
            what = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {what}{error.strerror or error}", err=True)
            context.exit(2)
        except (KeyboardInterrupt, click.Abort):
            click.echo("stopped: nothing was written; run the same command again", err=True)
            context.exit(_INTERRUPTED)


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    from zeromean.errors import SkippedWarning, ZeromeanWarning

    def show(message: Any, category: Any, *rest: Any) -> None:
        if issubclass(category, SkippedWarning):
            return  # the commands list what was skipped themselves
        if issubclass(category, ZeromeanWarning):
            click.echo(f"warning: {message}", err=True)
        else:
            usual(message, category, *rest)

    with warnings.catch_warnings():
        warnings.simplefilter("always", ZeromeanWarning)
        usual = warnings.showwarning
        warnings.showwarning = show  # type: ignore[assignment]
        yield


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="zeromean %(version)s")
def main() -> None:
    """Measure training data once, exactly; center it, scale it, ship the numbers.

    \b
    zeromean measure data/train -o train.json    what are the mean and std of my data?
    zeromean show train.json --plot train.png    look at them again
    zeromean apply train.json data/train -o out  zero-mean the data itself
    zeromean export norm.json --to torchvision   write them for the model's framework
    zeromean demo                                try all of it on two photographs
    """


@main.command(short_help="Measure mean, std and distribution.")
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
@click.option("--nodata", type=float, multiple=True, help="A value that stands for no data.")
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
    """Measure mean, std and distribution of SOURCE: folders of images, images, arrays, tables.

    \b
    zeromean measure data/train
    zeromean measure data/train --by class -o by-class.json
    zeromean measure data/train --per pixel -o mean-image.safetensors
    zeromean measure x_train.npy -p "n h w c -> c" --json > train.json
    """
    from zeromean.measurement import measure as run
    from zeromean.pattern import NAMED

    if pattern is not None and per is not None:
        raise click.UsageError("--pattern and --per say the same thing; give one")
    check_suffix(output, (".json", ".safetensors"))
    check_suffix(plot, (".png", ".svg", ".pdf"))
    silence(quiet)
    with measuring_bar("measuring", quiet) as progress:
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
            within=within,
            executor=executor,
            channels=channels,
            quantiles=quantiles,
            covariance=covariance,
            strict=strict,
            workers=workers,
            progress=progress,
        )
    report_skips(list(profile.provenance.skipped), profile.provenance.left_out, quiet)
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


@main.command(short_help="Show saved numbers, or draw them.")
@click.argument("file", type=click.Path())
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw to a .png, .svg or .pdf file.")
@click.option(
    "--kind",
    type=click.Choice(
        ["distribution", "three", "features", "image", "rates", "zigzag", "prediction", "speedups"]
    ),
    help="Which figure --plot draws: the first four of a profile (default: distribution), the "
    "others of a study (default: rates).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def show(file: str, plot: str | None, kind: str | None, as_json: bool) -> None:
    """Show a saved profile, normalizer or study: table and histogram, or a figure.

    \b
    zeromean show train.json
    zeromean show train.json --kind three --plot three.png
    zeromean show study.json --kind zigzag --plot zigzag.png
    """
    from zeromean.loading import load
    from zeromean.summary import text_of

    check_suffix(plot, (".png", ".svg", ".pdf"))
    loaded: Any = load(file)
    if plot and hasattr(loaded, "recipe"):
        raise click.UsageError(f"{file} is a normalizer; --plot needs a profile")
    if hasattr(loaded, "benchmarks"):
        show_study(loaded, file, plot, kind, as_json=as_json)
        return
    if kind in STUDY_KINDS:
        raise click.UsageError(
            f"--kind {kind} is of a study, but {file} holds a {type(loaded).__name__}; choose "
            "distribution, three, features or image"
        )
    if plot:
        draw(loaded, plot, Path(file).name, kind or "distribution")
    if as_json:
        click.echo(loaded.to_json(), nl=False)
        return
    click.echo(text_of(loaded, name=file, color=colored()), nl=False)
    say_written([plot], False)


@main.command(short_help="Try it on two real photographs.")
@click.option(
    "-o", "--output", type=click.Path(), default="zeromean-demo", show_default=True, help="Folder."
)
def demo(output: str) -> None:
    """Measure two real photographs, zero-mean them, and draw the three distributions."""
    from zeromean.demonstration import run

    for text in run(Path(output), color=colored()):
        click.echo(text)


main.add_command(apply)
main.add_command(check)
main.add_command(export)
main.add_command(fold)
main.add_command(import_)
main.add_command(report)
main.add_command(study)

if __name__ == "__main__":
    main()
