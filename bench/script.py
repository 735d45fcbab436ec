"""What the benchmark scripts share: options, parts, their section of the page, raw seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import click

from machine import describe_machine, describe_software
from page import write_section
from rounds import Part, goal_table
from sizes import FULL, MEDIUM, TINY, Sizes

_TRIAL = "\n**A trial of the script at small sizes: the figures and verdicts mean nothing.**\n"


@dataclass(frozen=True, slots=True)
class Script:
    """One benchmark script.

    Attributes
    ----------
    name : str
        Of its file, without suffix.
    preface : str
        Markdown with a heading, and {options}, {minutes}, {machine}, {software}, {trial}.
    goals : str
        Heading of the table of goals.
    parts : dict of str to (module, function)
        By letter; imported when they run.
    """

    name: str
    preface: str
    goals: str
    parts: dict[str, tuple[str, str]]

    def command(self, sentence: str) -> click.Command:
        """The command line of the script."""
        letters = ",".join(self.parts)

        @click.command(help=sentence)
        @click.option("--only", default=letters, show_default=True, help="Parts, by commas.")
        @click.option("--tiny", "sizes", flag_value="tiny", help="Some seconds; means nothing.")
        @click.option("--medium", "sizes", flag_value="medium", help="About a minute.")
        @click.option("-o", "--output", type=click.Path(path_type=Path), help="The page to write.")
        @click.option("--json", "raw", type=click.Path(path_type=Path), help="For all seconds.")
        def main(only: str, sizes: str | None, output: Path | None, raw: Path | None) -> None:
            self._main(only, sizes, output, raw)

        return main

    def _main(self, only: str, sizes: str | None, output: Path | None, raw: Path | None) -> None:
        chosen = {"tiny": TINY, "medium": MEDIUM}.get(sizes or "", FULL)
        start = time.monotonic()
        letters = [letter.strip() for letter in only.split(",")]
        at_once = len(letters) if chosen is TINY else 1  # there only the answers count
        with ThreadPoolExecutor(at_once) as pool:
            parts = list(pool.map(partial(self._run, sizes=chosen), letters))
        some = f" --only {only}" if len(parts) < len(self.parts) else ""
        options = (f" --{sizes}" if sizes else "") + some
        text = self.section(parts, options, time.monotonic() - start)
        click.echo(text)
        if output is not None:
            write_section(output, self.name, text)
        if raw is not None:
            raw.write_text(json.dumps(raw_seconds(parts), indent=1), encoding="utf-8")

    def _run(self, letter: str, sizes: Sizes) -> Part:
        if letter not in self.parts:
            raise click.UsageError(f"there is no part {letter!r}; choose: {', '.join(self.parts)}")
        click.echo(f"part {letter} ...", err=True)
        module, name = self.parts[letter]
        run: Callable[[Sizes], Part] = getattr(import_module(module), name)
        return run(sizes)

    def section(self, parts: list[Part], options: str, seconds: float) -> str:
        """The whole section of the page."""
        trial = "--tiny" in options or "--medium" in options
        blocks = [
            self.preface.format(
                options=options,
                trial=_TRIAL if trial else "",
                minutes=in_words(seconds),
                machine=describe_machine(),
                software=describe_software(),
            )
        ]
        for part in parts:
            blocks += [f"### {part.title}", *part.text]
        goals = [goal for part in parts for goal in part.goals]
        if goals:
            blocks += [f"### {self.goals}", goal_table(goals)]
        return "\n\n".join(block.strip() for block in blocks) + "\n"


def in_words(seconds: float) -> str:
    """A length of time for a sentence."""
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def raw_seconds(parts: list[Part]) -> list[dict[str, object]]:
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
