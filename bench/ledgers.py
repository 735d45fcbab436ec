"""Part (c): what a ledger costs, and what it saves."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from containers import measured
from photographs import write_jpegs
from rounds import Contestant, Goal, Part, Race, Spread, run_race, same_bits, table, timed
from sizes import Sizes

_SIZE = (500, 375)
_COPIES = 5
WITHOUT, WITH = "without a ledger", "with a new ledger"
AGAIN, LISTING = "nothing has changed", "the listing alone: walk and look at each file"
MORE = "1 % of the files are new"


def run_ledgers(sizes: Sizes) -> Part:
    """All of part (c)."""
    part = Part("(c) The ledger")
    with tempfile.TemporaryDirectory() as below:
        _add_cost(part, sizes, Path(below))
        _add_more(part, sizes, Path(below))
        _add_known(part, sizes, Path(below))
    return part


def _add_cost(part: Part, sizes: Sizes, below: Path) -> None:
    folder, ledger = below / "pictures", below / "x.ledger"
    write_jpegs(folder, sizes.files, _SIZE)
    exact = measured(folder)
    race = Race(
        f"{sizes.files:,} JPEGs of {_SIZE[0]}×{_SIZE[1]}, two threads", sizes.files, "pictures"
    )

    def new() -> Any:
        ledger.unlink(missing_ok=True)
        return measured(folder, ledger=ledger)

    run_race(
        race,
        [
            Contestant(WITHOUT, timed(lambda: measured(folder)), same_bits(exact)),
            Contestant(WITH, timed(new), same_bits(exact)),
        ],
        sizes.file_rounds,
    )
    part.races.append(race)
    part.text.append(race.table(WITHOUT))
    part.goals.append(Goal("ledger on : off", race.ratio(WITH, WITHOUT), 1.08, at_most=True))


def _add_more(part: Part, sizes: Sizes, below: Path) -> None:
    """Five times the files, so that what is fixed does not hide what each file costs."""
    folder, ledger = below / "more", below / "more.ledger"
    for i in range(_COPIES):
        shutil.copytree(below / "pictures", folder / f"{i}")
    extra = below / "extra"
    count = sizes.files * _COPIES
    write_jpegs(extra, max(1, count // 100), _SIZE)

    def new() -> Any:
        ledger.unlink(missing_ok=True)
        return measured(folder, ledger=ledger)

    exact = new()
    race = Race(f"{count:,} JPEGs of {_SIZE[0]}×{_SIZE[1]}, two threads", count, "pictures")
    run_race(
        race,
        [
            Contestant(WITH, timed(new), same_bits(exact)),
            Contestant(AGAIN, timed(lambda: measured(folder, ledger=ledger)), same_bits(exact)),
            Contestant(LISTING, timed(lambda: _listed(folder)), lambda _: None),
            Contestant(MORE, _with_more(folder, extra, ledger), lambda _: None),
        ],
        min(3, sizes.file_rounds),
    )
    part.races.append(race)
    part.text.append(race.table(WITH))
    what = f"1 % of {count:,} files are new : full time, beyond the listing"
    part.goals.append(Goal(what, _share(race), 0.03, at_most=True))


def _share(race: Race) -> Spread:
    """What is beyond the listing, as a part of the full time."""
    seconds = race.seconds
    triples = zip(seconds[MORE], seconds[LISTING], seconds[WITH], strict=True)
    return Spread.of([max(more - listing, 0.0) / full for more, listing, full in triples])


def _with_more(folder: Path, extra: Path, ledger: Path) -> Callable[[], tuple[float, Any]]:
    """Times a run after some files were added; they are taken away again."""

    def clock() -> tuple[float, Any]:
        added = [Path(shutil.copy(p, folder / f"new-{p.name}")) for p in extra.iterdir()]
        time.sleep(0.05)  # past the tick of the file system's clock
        start = time.perf_counter()
        outcome = measured(folder, ledger=ledger)
        seconds = time.perf_counter() - start
        for path in added:
            path.unlink()
        return seconds, outcome

    return clock


def _listed(folder: Path) -> int:
    from zeromean.sources.images import ImageFiles

    return sum(1 for _ in ImageFiles(folder).entries())


def _add_known(part: Part, sizes: Sizes, below: Path) -> None:
    """Many small files that are all known."""
    folder, ledger = below / "small", below / "small.ledger"
    _write_small(folder, sizes.known)
    start = time.perf_counter()
    exact = measured(folder, ledger=ledger, workers=1)
    first = time.perf_counter() - start
    race = Race(f"{sizes.known:,} PNGs of 32×32", sizes.known, "pictures")
    clock = timed(lambda: measured(folder, ledger=ledger, workers=1))
    run_race(race, [Contestant(AGAIN, clock, same_bits(exact))], sizes.file_rounds)
    part.races.append(race)
    rows = [
        ["first run, with a new ledger", f"{first:.1f}"],
        [AGAIN, Spread.of(race.seconds[AGAIN]).text()],
        ["size of the ledger", f"{ledger.stat().st_size / 1e6:.0f} MB"],
    ]
    part.text.append(f"**{race.title}**\n\n" + table(["", "seconds"], rows))
    again = Spread.of(race.seconds[AGAIN])
    what = f"re-run with nothing changed, {sizes.known:,} files"
    part.goals.append(Goal(what, again, 3, None, " s", at_most=True))


def _write_small(folder: Path, count: int) -> None:
    """Small pictures in folders of a thousand; each content a hundred times, as hard links."""
    rng = np.random.default_rng(4)
    originals: list[Path] = []
    for i in range(count):
        path = folder / f"{i // 1000:04}" / f"{i:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 100 == 0:
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(path)
            originals.append(path)
        else:
            os.link(originals[-1], path)
