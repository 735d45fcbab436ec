"""A progress bar on stderr: items/s, MB/s and time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from zeromean.execution import Progress

_Update = Callable[[Progress], None]
_Count = Callable[[int, int | None], None]


@contextmanager
def bar(what: str) -> Iterator[tuple[_Update, _Count]]:
    """Show a bar while the block runs; it vanishes at the end.

    Yields
    ------
    update : callable, takes a `Progress`
    count : callable, takes items done and the total
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None, rate="")

        def update(progress: Progress) -> None:
            seconds = max(progress.seconds, 1e-9)
            rate = f"{progress.items / seconds:,.0f}/s  {progress.bytes / seconds / 1e6:,.0f} MB/s"
            shown.update(task, completed=progress.items, total=progress.total_items, rate=rate)

        def count(done: int, total: int | None) -> None:
            shown.update(task, completed=done, total=total)

        yield update, count


@contextmanager
def budget_bar() -> Iterator[Callable[[str, float], None]]:
    """Show what is being done and how much of the budget is spent; it vanishes at the end.

    Yields
    ------
    callable
        Takes a few words and a share from 0 to 1.
    """
    columns = (
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:3.0f} % of the budget"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("reading", total=1.0)

        def update(what: str, share: float) -> None:
            shown.update(task, completed=share, description=what)

        yield update
