"""What a person sees at a terminal: progress, messages, files written; options of all readers."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zeromean.profile import Profile

_SHOWN_SKIPS = 5
_Command = Callable[..., Any]


def reading(command: _Command) -> _Command:
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


def colored() -> bool:
    import os

    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def check_suffix(path: str | None, allowed: tuple[str, ...]) -> None:
    """Refuse a bad file name before hours of work, not after."""
    if path and Path(path).suffix not in allowed:
        raise click.UsageError(f"{path}: the file must end in {', '.join(allowed)}")
    if path and not Path(path).absolute().parent.is_dir():
        raise click.UsageError(f"{path}: there is no such folder")


def check_apart(output: str | None, *sources: str | None) -> None:
    """Refuse to write over what is read: a trained model may exist but once."""
    for source in sources:
        if output and source and Path(output).exists() and Path(output).samefile(source):
            raise click.UsageError(f"{output} is what is read; write to another file")


def silence(quiet: bool) -> None:
    from zeromean.errors import ZeromeanWarning

    if quiet:
        warnings.simplefilter("ignore", ZeromeanWarning)


def draw(profile: Profile, path: str, title: str, kind: str = "distribution") -> None:
    from zeromean import figures
    from zeromean.drawing import draw

    figures.save(draw(getattr(profile, "total", profile), kind, title), path)


def say_written(paths: list[str | None], quiet: bool) -> None:
    for path in paths:
        if path and not quiet:
            click.echo(f"wrote {path}", err=True)


def report_skips(skipped: list[tuple[str, str]], left_out: Any, quiet: bool) -> None:
    """Name what was not measured, on stderr."""
    left_out = {k: n for k, n in left_out.items() if not k.endswith(")")}  # columns: in the table
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
def measuring_bar(what: str, quiet: bool) -> Iterator[Callable[[Any], None] | None]:
    """A progress bar on a terminal: items/s, MB/s, time left; nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from zeromean.progress import bar

    with bar(what) as (update, _):
        yield update


@contextmanager
def counting(what: str, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from zeromean.progress import bar

    with bar(what) as (_, count):
        yield count
