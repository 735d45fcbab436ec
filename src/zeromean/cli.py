"""The command line: `zeromean measure · show · apply · demo`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeromean import __version__

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer
    from zeromean.profile import Profile

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
            if "zeromean[" not in str(error):
                raise
            click.echo(f"error: {error}", err=True)
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
    zeromean demo                                try all of it on two photographs
    """


_Command = Callable[..., Any]


def _reading(command: _Command) -> _Command:
    """Options of every command that reads images."""
    for option in reversed(
        [
            click.option(
                "--ext", multiple=True, metavar=".EXT", help="Read only these extensions."
            ),
            click.option("--strict", is_flag=True, help="Stop at the first unreadable file."),
            click.option(
                "-q", "--quiet", is_flag=True, help="Only results, errors and skipped files."
            ),
        ]
    ):
        command = option(command)
    return command


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
@click.option("--group", help='With --colors keep: the kind to measure, such as "RGBA uint8".')
@click.option("--limit", type=click.IntRange(1), help="A quick look at N items, spread evenly.")
@click.option(
    "--range", "range_", type=float, nargs=2, metavar="LOW HIGH", help="Scale of the data."
)
@click.option("--channels", default="", help="Channel order of an array, such as RGB.")
@click.option("--quantiles", is_flag=True, help="Float data: also count values in buckets.")
@click.option("-j", "--workers", type=click.IntRange(1), help="Threads (default: all cores).")
@click.option("--json", "as_json", is_flag=True, help="Print what -o would write.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Also draw: .png, .svg or .pdf.")
@_reading
def measure(
    source: tuple[str, ...],
    output: str | None,
    pattern: str | None,
    per: str | None,
    colors: str,
    group: str | None,
    limit: int | None,
    range_: tuple[float, float] | None,
    channels: str,
    quantiles: bool,
    workers: int | None,
    as_json: bool,
    plot: str | None,
    ext: tuple[str, ...],
    strict: bool,
    quiet: bool,
) -> None:
    """Measure mean, std and distribution of SOURCE: folders of images, images, .npy, .npz.

    \b
    zeromean measure data/train
    zeromean measure data/train --per pixel -o mean-image.safetensors
    zeromean measure x_train.npy -p "n h w c -> c" --json > train.json
    """
    from zeromean.measurement import measure as run
    from zeromean.pattern import NAMED

    if pattern is not None and per is not None:
        raise click.UsageError("--pattern and --per say the same thing; give one")
    _check_suffix(output, (".json", ".safetensors"))
    _check_suffix(plot, (".png", ".svg", ".pdf"))
    _silence(quiet)
    with _bar("measuring", quiet) as progress:
        profile = run(
            list(source) if len(source) > 1 else source[0],
            NAMED[per] if per else pattern,
            colors=colors,
            group=group,
            limit=limit,
            extensions=ext or None,
            range=range_ or None,
            channels=channels,
            quantiles=quantiles,
            strict=strict,
            workers=workers,
            progress=progress,
        )
    _report_skips(list(profile.provenance.skipped), profile.provenance.left_out, quiet)
    if output:
        profile.save(output)
    if plot:
        _draw(profile, plot, ", ".join(source))
    if as_json:
        click.echo(profile.to_json(), nl=False)
        return
    from zeromean.summary import profile_text

    click.echo(
        profile_text(profile, name=", ".join(source), color=_colored(), histogram=False), nl=False
    )
    _say_written([output, plot], quiet)


@main.command(short_help="Show saved numbers, or draw them.")
@click.argument("file", type=click.Path())
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw to a .png, .svg or .pdf file.")
@click.option(
    "--kind",
    type=click.Choice(["distribution", "three", "features", "image"]),
    default="distribution",
    show_default=True,
    help="Which figure --plot draws.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def show(file: str, plot: str | None, kind: str, as_json: bool) -> None:
    """Show a saved profile or normalizer: table and histogram, or a figure.

    \b
    zeromean show train.json
    zeromean show train.json --kind three --plot three.png
    """
    from zeromean.loading import load
    from zeromean.normalizer import Normalizer
    from zeromean.summary import normalizer_text, profile_text

    _check_suffix(plot, (".png", ".svg", ".pdf"))
    loaded = load(file)
    if isinstance(loaded, Normalizer):
        if plot:
            raise click.UsageError(f"{file} is a normalizer; --plot needs a profile")
        if as_json:
            click.echo(loaded.to_json(), nl=False)
            return
        click.echo(normalizer_text(loaded, name=file, color=_colored()), nl=False)
        return
    if plot:
        _draw(loaded, plot, Path(file).name, kind)
    if as_json:
        click.echo(loaded.to_json(), nl=False)
        return
    click.echo(profile_text(loaded, name=file, color=_colored(), histogram=True), nl=False)
    _say_written([plot], False)


@main.command("apply", short_help="Normalize images or an array.")
@click.argument("numbers", type=click.Path())
@click.argument("source")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    required=True,
    help="A new folder for images; a file for an array.",
)
@click.option(
    "--method",
    type=click.Choice(["zero-mean", "standardize"]),
    help="What to make of a profile (default: zero-mean).",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["npy", "npz", "safetensors"]),
    default="npz",
    show_default=True,
    help="Of the shards of a folder; npy needs pictures of one size.",
)
@click.option("--shard-size", type=click.IntRange(1), help="Pictures in a shard (default: 256 MB).")
@click.option("--layout", type=click.Choice(["hwc", "chw"]), default="hwc", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32", "float64"]),
    default="float32",
    show_default=True,
)
@_reading
def apply(
    numbers: str,
    source: str,
    output: str,
    method: str | None,
    format_: str,
    shard_size: int | None,
    layout: str,
    dtype: str,
    ext: tuple[str, ...],
    strict: bool,
    quiet: bool,
) -> None:
    """Normalize SOURCE with NUMBERS, a saved profile or normalizer.

    A folder of images becomes float shards with a manifest; an array file becomes another.

    \b
    zeromean apply train.json data/train -o centered
    zeromean apply train.json x_test.npy --method standardize -o x_test.f32.npy
    """
    from zeromean.application import Output, apply_files

    _silence(quiet)
    norm = _normalizer(numbers, method)
    with _count("normalizing", quiet) as progress:
        applied = apply_files(
            norm,
            source,
            Path(output),
            Output(dtype, None if layout == "hwc" else layout, format_, shard_size),
            strict=strict,
            extensions=ext or None,
            progress=progress,
        )
    _report_skips(applied.skipped, {}, quiet)
    click.echo(
        f"{norm.recipe.replace('_', '-')}: {applied.items:,} items, {dtype} from "
        f"{applied.low:.6g} to {applied.high:.6g}, in {output}"
    )


def _normalizer(numbers: str, method: str | None) -> Normalizer:
    from zeromean.loading import load
    from zeromean.normalizer import Normalizer
    from zeromean.recipes import standardize, zero_mean

    loaded = load(numbers)
    if isinstance(loaded, Normalizer):
        if method is not None and method.replace("-", "_") != loaded.recipe:
            raise click.UsageError(f"{numbers} is a normalizer already ({loaded.recipe})")
        return loaded
    return standardize(loaded) if method == "standardize" else zero_mean(loaded)


@main.command(short_help="Try it on two real photographs.")
@click.option(
    "-o", "--output", type=click.Path(), default="zeromean-demo", show_default=True, help="Folder."
)
def demo(output: str) -> None:
    """Measure two real photographs, zero-mean them, and draw the three distributions."""
    from zeromean.demonstration import run

    for text in run(Path(output), color=_colored()):
        click.echo(text)


# ---------------------------------------------------------------- what a person sees


def _colored() -> bool:
    import os

    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _check_suffix(path: str | None, allowed: tuple[str, ...]) -> None:
    """Refuse a bad file name before hours of work, not after."""
    if path and Path(path).suffix not in allowed:
        raise click.UsageError(f"{path}: the file must end in {', '.join(allowed)}")
    if path and not Path(path).absolute().parent.is_dir():
        raise click.UsageError(f"{path}: there is no such folder")


def _silence(quiet: bool) -> None:
    from zeromean.errors import ZeromeanWarning

    if quiet:
        warnings.simplefilter("ignore", ZeromeanWarning)


def _draw(profile: Profile, path: str, title: str, kind: str = "distribution") -> None:
    from zeromean import figures
    from zeromean.drawing import draw

    figures.save(draw(profile, kind, title), path)


def _say_written(paths: list[str | None], quiet: bool) -> None:
    for path in paths:
        if path and not quiet:
            click.echo(f"wrote {path}", err=True)


def _report_skips(skipped: list[tuple[str, str]], left_out: Any, quiet: bool) -> None:
    """Name what was not measured, on stderr."""
    if left_out and not quiet:
        kinds = ", ".join(f"{n:,} {extension}" for extension, n in sorted(left_out.items()))
        click.echo(f"left out by extension: {kinds} (--ext names all to read)", err=True)
    if not skipped:
        return
    click.echo(f"skipped {len(skipped):,}:", err=True)
    shown = skipped if len(skipped) <= _SHOWN_SKIPS + 1 else skipped[:_SHOWN_SKIPS]
    for path, reason in shown:
        click.echo(f"  {path}: {reason}", err=True)
    if len(shown) < len(skipped):
        click.echo(f"  ... and {len(skipped) - len(shown):,} more, all in the saved file", err=True)


@contextmanager
def _bar(what: str, quiet: bool) -> Iterator[Callable[[Any], None] | None]:
    """A progress bar on a terminal: items/s, MB/s, time left; nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from zeromean.progress import bar

    with bar(what) as (update, _):
        yield update


@contextmanager
def _count(what: str, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from zeromean.progress import bar

    with bar(what) as (_, count):
        yield count


if __name__ == "__main__":
    main()
