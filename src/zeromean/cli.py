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
from zeromean.cli_files import show_ledger
from zeromean.cli_fold import fold
from zeromean.cli_import import import_
from zeromean.cli_measure import measure
from zeromean.cli_merge import merge, subtract
from zeromean.cli_report import report
from zeromean.cli_study import STUDY_KINDS, show_study, study
from zeromean.terminal import (
    check_suffix,
    colored,
    draw,
    say_written,
)

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
        except (KeyboardInterrupt, click.Abort) as stop:
            kept = f"{stop}; run the same command again to go on" if str(stop) else ""
            text = kept or "nothing was written; run the same command again"
            click.echo(f"stopped: {text}", err=True)
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
@click.option("--by-file", is_flag=True, help="Of a ledger: the darkest, flattest, oddest files.")
@click.option("--shared-with", metavar="LEDGER", help="Of a ledger: files that another has too.")
@click.option("-n", "count", type=click.IntRange(1), help="How many files to list.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@click.pass_context
def show(
    context: click.Context,
    file: str,
    plot: str | None,
    kind: str | None,
    by_file: bool,
    shared_with: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Show a saved profile, normalizer or study: table and histogram, or a figure.

    FILE may also be a ledger, or a folder that was measured and whose ledger is in the cache.

    \b
    zeromean show data/train --by-file
    zeromean show data/train --shared-with data/val
    zeromean show train.json
    zeromean show train.json --kind three --plot three.png
    zeromean show study.json --kind zigzag --plot zigzag.png
    """
    from zeromean.ledger.reading import is_ledger
    from zeromean.loading import load
    from zeromean.summary import text_of

    if by_file or shared_with or is_ledger(file) or Path(file).is_dir():
        if plot or kind:
            raise click.UsageError("--plot draws a saved profile; measure with -o, and show that")
        options: Any = {"by_file": by_file, "shared_with": shared_with, "count": count}
        context.exit(show_ledger(file, **options, as_json=as_json))
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
main.add_command(measure)
main.add_command(merge)
main.add_command(report)
main.add_command(study)
main.add_command(subtract)

if __name__ == "__main__":
    main()
