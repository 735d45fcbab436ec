"""What `zeromean show` tells of a ledger: its sum, its odd files, what two splits share."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from zeromean.terminal import colored

_LISTED = 5
_OUTLIER = 3.5  # of Iglewicz and Hoaglin


def show_ledger(
    path: str, *, by_file: bool, shared_with: str | None, count: int | None, as_json: bool
) -> int:
    """Print the profile of a ledger, or lists of its files.

    Parameters
    ----------
    path : str
        A ledger, or a folder that one is kept of.
    by_file : bool
        The darkest, brightest, flattest and most unusual files.
    shared_with : str or None
        Another ledger, or a folder that one is kept of: files with the same content.
    count : int or None
        Files in each list.
    as_json : bool

    Returns
    -------
    int
        The exit code: 1 when splits share files.
    """
    from zeromean.ledger.reading import Ledger

    ledger = Ledger(path)
    if shared_with is not None:
        return _show_shared(ledger, Ledger(shared_with), path, shared_with, count, as_json)
    if by_file:
        _show_files(ledger, path, count or _LISTED, as_json)
        return 0
    from zeromean.summary import text_of

    profile = ledger.profile()
    if as_json:
        click.echo(profile.to_json(), nl=False)
        return 0
    click.echo(text_of(profile, name=path, color=colored()), nl=False)
    return 0


def _show_files(ledger: Any, path: str, count: int, as_json: bool) -> None:
    if as_json:
        files, scores = ledger.unusual()
        unusual = {f.name: float(s) for f, s in zip(files, scores.tolist(), strict=True)}
        listed = [asdict(f) | {"unusual": _finite(unusual.get(f.name))} for f in ledger.files]
        click.echo(json.dumps(listed, indent=1))
        return
    from zeromean.summary import tables_text

    files, scores = ledger.unusual()
    by_name = dict(zip((f.name for f in files), scores.tolist(), strict=True))
    mean, std = ledger.by("mean"), ledger.by("std")
    sections = [
        ("Darkest", mean[:count], ""),
        ("Brightest", mean[::-1][:count], ""),
        ("Flattest", std[:count], "the smallest std: blank pages, black frames"),
        (
            "Most unusual",
            ledger.by("unusual")[:count],
            f"how far mean or std lies from the median, in robust stds; above {_OUTLIER} is odd",
        ),
    ]
    skipped = sum(1 for file in ledger.files if file.reason)
    odd = sum(1 for score in by_name.values() if score > _OUTLIER)
    subtitle = f"{len(files):,} files measured, {skipped:,} skipped, {odd:,} unusual"
    tables = [
        (title, ["file", "mean", "std", "min", "max", "unusual"], _rows(held, by_name), note)
        for title, held, note in sections
    ]
    click.echo(tables_text(path, subtitle, tables, [], color=colored()), nl=False)


def _finite(score: float | None) -> float | None:
    return score if score is not None and score != float("inf") else None


def _rows(files: list[Any], scores: dict[str, float]) -> list[list[str]]:
    return [
        [
            file.name,
            *(", ".join(f"{v:.1f}" for v in held) for held in (file.mean, file.std)),
            *(
                ", ".join("" if v is None else f"{v:g}" for v in held)
                for held in (file.min, file.max)
            ),
            f"{scores[file.name]:.1f}",
        ]
        for file in files
    ]


def _show_shared(
    ledger: Any, other: Any, path: str, their_path: str, count: int | None, as_json: bool
) -> int:
    pairs = ledger.shared(other)
    if as_json:
        click.echo(json.dumps([[mine.name, theirs.name] for mine, theirs in pairs], indent=1))
        return int(bool(pairs))
    if not pairs:
        click.echo(
            f"no file of {path} ({len(ledger.files):,}) has the content of one of "
            f"{their_path} ({len(other.files):,})"
        )
        return 0
    click.echo(
        f"{len(pairs):,} of {len(ledger.files):,} files of {path} have the content of a file of "
        f"{their_path}: what is measured or learned from them leaks"
    )
    shown = pairs if count is None else pairs[:count]
    for mine, theirs in shown:
        click.echo(f"  {mine.name} = {theirs.name}")
    if len(shown) < len(pairs):
        click.echo(f"  ... and {len(pairs) - len(shown):,} more (-n lists more)")
    return 1
