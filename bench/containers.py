"""Part (a): the same JPEGs in a folder, a tar archive, a zip archive and a Parquet file."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from photographs import write_jpegs
from rounds import Answer, Contestant, Goal, Part, Race, run_race, same_bits, timed
from sizes import Sizes

_SIZE = (500, 375)
FOLDER, TAR, ZIP, PARQUET = "folder", "tar", "zip, stored", "Parquet, bytes and path"


def run_containers(sizes: Sizes) -> Part:
    """All of part (a)."""
    part = Part(f"(a) {sizes.files:,} JPEGs of {_SIZE[0]}×{_SIZE[1]}, four containers")
    with tempfile.TemporaryDirectory() as below:
        race = _race(written(Path(below), sizes.files), sizes.file_rounds, sizes.files)
    part.races.append(race)
    part.text.append(race.table(FOLDER))
    part.goals.append(Goal("tar of JPEGs : folder, rate", race.ratio(FOLDER, TAR), 0.95))
    return part


def written(below: Path, files: int) -> dict[str, Path]:
    """The same pictures in each container."""
    folder = below / "pictures"
    write_jpegs(folder, files, _SIZE)
    paths = sorted(folder.iterdir())
    held = {
        FOLDER: folder, TAR: below / "p.tar", ZIP: below / "p.zip", PARQUET: below / "p.parquet",
    }  # fmt: skip
    with tarfile.open(held[TAR], "w") as tar, zipfile.ZipFile(held[ZIP], "w") as archive:
        for path in paths:
            tar.add(path, path.name)
            archive.write(path, path.name)
    import pyarrow
    from pyarrow import parquet

    column = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    table: Any = pyarrow.table({"image": column})
    parquet.write_table(table, held[PARQUET], row_group_size=200)
    return held


def _race(held: dict[str, Path], rounds: int, files: int) -> Race:
    race = Race("two threads", files, "pictures")
    exact = measured(held[FOLDER])
    contestants = [
        Contestant(name, timed(lambda path=path: measured(path)), same_bits(exact))  # type: ignore[misc]
        for name, path in held.items()
    ]
    return run_race(race, contestants, rounds)


def measured(path: Path, **options: Any) -> Answer:
    """zeromean, with the read-out."""
    import zeromean as zm

    profile = zm.measure(path, **{"workers": 2, **options})
    return Answer(profile.mean, profile.std)
