"""Measures `zeromean.measure` side by side with its peers, and writes the page about it.

    python bench/bench_measure.py                         # everything, to the terminal
    python bench/bench_measure.py -o docs/benchmarks.md   # and the page
    python bench/bench_measure.py --only a,c              # some parts
    python bench/bench_measure.py --tiny                  # a few seconds, for a test

Needs ``pip install "zeromean[bench]"`` and a quiet machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path

import click

from machine import describe_machine, describe_software
from rounds import Part, goal_table
from sizes import FULL, MEDIUM, TINY, Sizes

_PARTS = {
    "a": ("floats", "run_floats"),
    "b": ("pixels", "run_pixels"),
    "c": ("pictures", "run_pictures"),
    "d": ("footprint", "run_footprint"),
}

_PREFACE = """# Benchmarks

Made by `python bench/bench_measure.py{options}` in {minutes} on {machine}.
{software}.
{trial}
All contestants of a table ran in one process in interleaved rounds (A B C A B C …), after one round
to warm up. Each figure is the median over the rounds, with the smallest and largest in brackets;
ratios are taken within each round. Every answer of every round was compared with the exact mean and
std: the last column says how far off it was at most, in units of the std, and in brackets how far
the worst case of its arithmetic allows; further off would have stopped the run.
"""

_TRIAL = "\n**A trial of the script at small sizes: the figures and verdicts mean nothing.**\n"


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--only", default="a,b,c,d", show_default=True, help="Parts, separated by commas.")
@click.option("--tiny", "sizes", flag_value="tiny", help="A few seconds; the figures mean nothing.")
@click.option("--medium", "sizes", flag_value="medium", help="About a minute.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the page here.")
@click.option("--json", "raw", type=click.Path(path_type=Path), help="Write all seconds here.")
def main(only: str, sizes: str | None, output: Path | None, raw: Path | None) -> None:
    """Run, print, and write what was asked for."""
    chosen = {"tiny": TINY, "medium": MEDIUM}.get(sizes or "", FULL)
    start = time.monotonic()
    letters = [letter.strip() for letter in only.split(",")]
    at_once = len(letters) if chosen is TINY else 1  # there only the answers count
    with ThreadPoolExecutor(at_once) as pool:
        parts = list(pool.map(partial(_run, sizes=chosen), letters))
    options = "".join([f" --{sizes}" if sizes else "", f" --only {only}" if len(parts) < 4 else ""])
    text = page(parts, options, time.monotonic() - start)
    click.echo(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    if raw is not None:
        raw.write_text(json.dumps(_raw(parts), indent=1), encoding="utf-8")


def _run(letter: str, sizes: Sizes) -> Part:
    if letter not in _PARTS:
        raise click.UsageError(f"there is no part {letter!r}; choose among {', '.join(_PARTS)}")
    click.echo(f"part {letter} ...", err=True)
    module, name = _PARTS[letter]
    run: Callable[[Sizes], Part] = getattr(import_module(module), name)
    return run(sizes)


def page(parts: list[Part], options: str, seconds: float) -> str:
    """The whole page."""
    minutes = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    blocks = [
        _PREFACE.format(
            options=options,
            trial=_TRIAL if "--tiny" in options or "--medium" in options else "",
            minutes=minutes,
            machine=describe_machine(),
            software=describe_software(),
        )
    ]
    for part in parts:
        blocks += [f"## {part.title}", *part.text]
    goals = [goal for part in parts for goal in part.goals]
    blocks += ["## It must reach", goal_table(goals)]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _raw(parts: list[Part]) -> list[dict[str, object]]:
    """Every second that was measured, and how far off each contestant was."""
    return [
        {
            "part": part.title,
            "race": race.title,
            "contestant": name,
            "seconds": seconds,
            "off": None if name not in race.deviations else race.deviations[name].found,
            "allowed": None if name not in race.deviations else race.deviations[name].allowed,
        }
        for part in parts
        for race in part.races
        for name, seconds in race.seconds.items()
    ]


if __name__ == "__main__":
    main()
