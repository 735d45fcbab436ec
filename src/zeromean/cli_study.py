"""`zeromean study`: why zero mean, on one's own training data, in a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from zeromean.terminal import check_suffix, colored, say_written

if TYPE_CHECKING:
    from zeromean.convergence.results import Study

STUDY_KINDS = ("rates", "zigzag", "prediction", "speedups")


@click.command("study", short_help="Show why zero mean trains faster, on your data.")
@click.argument("source")
@click.option(
    "--labels", metavar="folder|COLUMN|none", help="Where the classes are (default: look for them)."
)
@click.option(
    "--task",
    type=click.Choice(["labels", "rotation", "teacher"]),
    help="What is learned (default: labels; without any, a made-up task).",
)
@click.option("--size", type=int, default=16, show_default=True, help="Pictures become this small.")
@click.option("--n", type=int, default=1500, show_default=True, help="Samples at most.")
@click.option("--seeds", type=int, default=8, show_default=True, help="Paired seeds.")
@click.option("--budget", default="60", show_default=True, metavar="SECONDS", help="Time at most.")
@click.option("--full", is_flag=True, help="Also tanh, Adam, batch norm, depth; 3 times as long.")
@click.option(
    "--colors", type=click.Choice(["gray", "RGB"]), default="gray", show_default=True,
    help="How pictures become channels.",
)  # fmt: skip
@click.option("-j", "--workers", type=click.IntRange(1), help="Threads (default: all cores).")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="A .json file.")
@click.option("--json", "as_json", is_flag=True, help="Print what -o would write.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Also draw: .png, .svg or .pdf.")
@click.option(
    "--kind", type=click.Choice(STUDY_KINDS), default="rates", show_default=True,
    help="Which figure --plot draws.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Only results and errors.")
def study(
    source: str,
    labels: str | None,
    task: str | None,
    size: int,
    n: int,
    seeds: int,
    budget: str,
    full: bool,
    colors: str,
    workers: int | None,
    output: str | None,
    as_json: bool,
    plot: str | None,
    kind: str,
    quiet: bool,
) -> None:
    """Show, on SOURCE, why zero-mean inputs train faster, by how much, and when they do not.

    SOURCE is training data: a folder of pictures, .npy, .npz, CSV or Parquet. Ctrl-C and the
    budget keep what is done.

    \b
    zeromean study data/train
    zeromean study data/train --colors RGB --full --budget 240 -o study.json
    zeromean study table.csv --labels species --plot rates.png
    """
    from zeromean.convergence.studying import study as run

    check_suffix(output, (".json",))
    check_suffix(plot, (".png", ".svg", ".pdf"))
    with _progress(quiet) as progress:
        found = run(
            source,
            labels=labels,
            task=task,
            size=size,
            n=n,
            seeds=seeds,
            budget=_seconds(budget),
            full=full,
            colors=colors,
            workers=workers,
            progress=progress,
        )
    if output:
        found.save(output)
    if plot:
        from zeromean import figures

        figures.save(found.plot(kind), plot)
    click.echo(found.to_json() if as_json else study_text(found, color=colored()), nl=False)
    say_written([output, plot], quiet)


def _seconds(text: str) -> float:
    """Seconds, as 60 or 60s."""
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise click.UsageError(f"--budget is {text!r}; give seconds, such as 60") from None


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """What is being done, and the share of the budget that is gone; nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from zeromean.progress import budget_bar

    with budget_bar() as update:
        yield update


def show_study(
    found: Study, file: str, plot: str | None, kind: str | None, *, as_json: bool
) -> None:
    """Print a saved study again, or draw one of its figures.

    Parameters
    ----------
    found : Study
    file : str
        What it was read from, for messages.
    plot, kind : str or None
        File and kind of the figure, the first kind by default.
    as_json : bool

    Raises
    ------
    click.UsageError
        For a kind that is not of studies.
    """
    if kind is not None and kind not in STUDY_KINDS:
        raise click.UsageError(
            f"--kind {kind} is of a profile, but {file} holds a Study; choose "
            f"{', '.join(STUDY_KINDS[:-1])} or {STUDY_KINDS[-1]}"
        )
    if plot:
        from zeromean import figures

        figures.save(found.plot(kind or STUDY_KINDS[0]), plot)
    click.echo(found.to_json() if as_json else study_text(found, color=colored()), nl=False)
    if not as_json:
        say_written([plot], False)


def study_text(study: Study, *, color: bool) -> str:
    """Headline and tables for a terminal or a pipe.

    Parameters
    ----------
    study : Study
    color : bool

    Returns
    -------
    str
    """
    from zeromean.convergence import wording
    from zeromean.summary import tables_text

    return tables_text(
        wording.headline(study),
        wording.what_was_studied(study),
        wording.sections(study),
        [note for note in wording.footnotes(study) if note],
        color=color,
    )
