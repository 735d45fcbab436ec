"""`zeromean report`: one HTML page about a saved profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zeromean.terminal import check_suffix, say_written

_MOST_SAMPLES = 24


@click.command("report", short_help="Write an HTML page about saved numbers.")
@click.argument("file", type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), required=True, help="An .html file."
)
@click.option("--study", "study_file", type=click.Path(), help="What `zeromean study` saved.")
@click.option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Language of the whole page.",
)
@click.option("--samples", "source", help="The data itself: show a few pictures before and after.")
@click.option(
    "--count",
    type=click.IntRange(1, _MOST_SAMPLES),
    default=4,
    show_default=True,
    help="How many pictures.",
)
@click.option("--title", default="", help="What the data is called (default: its folder).")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
def report(
    file: str,
    output: str,
    study_file: str | None,
    lang: str,
    source: str | None,
    count: int,
    title: str,
    quiet: bool,
) -> None:
    """Write one HTML page about FILE, a saved profile: numbers, distributions, code, and why.

    The page loads nothing from anywhere, so it can be mailed and read offline.

    \b
    zeromean report train.json -o report.html
    zeromean report train.json --samples data/train --study study.json -o report.html
    zeromean report train.json --lang zh -o report.zh.html
    """
    check_suffix(output, (".html",))
    from zeromean.profile import Profile
    from zeromean.reporting import report as write

    write(
        _loaded(file, Profile, "profile, as `zeromean measure` saves it"),
        None if study_file is None else _study(study_file),
        path=output,
        lang=lang,
        source=source,
        samples=count,
        title=title,
        file=Path(file).name,
    )
    say_written([output], quiet)


def _study(path: str) -> Any:
    from zeromean.convergence.results import Study

    return _loaded(path, Study, "study, as `zeromean study` saves it")


def _loaded(path: str, kind: type, what: str) -> Any:
    """What a file holds, if it is of this kind."""
    from zeromean.loading import load

    held = load(path)
    if not isinstance(held, kind):
        raise click.UsageError(f"{path} holds a {type(held).__name__}, not a {what}")
    return held
