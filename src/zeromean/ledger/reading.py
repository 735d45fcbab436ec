"""`Ledger`: what a ledger tells of single files: the odd ones, and those that two splits share."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.accumulation import Partial, Plan
from zeromean.errors import SourceError
from zeromean.ledger.book import Book, about_of
from zeromean.ledger.identity import about, folder
from zeromean.ledger.rows import Row, numbers_of
from zeromean.pattern import Pattern
from zeromean.profile import Profile

_Floats = npt.NDArray[np.float64]
_LEAST = 8  # files from which "unusual" means anything


@dataclass(frozen=True, slots=True)
class File:
    """What one file gave.

    Attributes
    ----------
    name : str
    size : int
        In bytes.
    items : int
    reason : str
        Why it was skipped; empty when it was measured.
    sha256 : str
        Of its content, in hex.
    mean, std, min, max : tuple of float or None
        Of each feature, in the data's own units; empty where the ledger does not hold them for
        each file. Rounded, and meant for lists: exact numbers are those of a profile.
    """

    name: str
    size: int
    items: int
    reason: str
    sha256: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    min: tuple[float | None, ...] = ()
    max: tuple[float | None, ...] = ()


class Ledger:
    """A ledger that `zeromean.measure` kept, to be read.

    Parameters
    ----------
    path : path
        The ledger, or the folder or file that it is of: then the newest one in the user's cache.

    Attributes
    ----------
    path : Path
    source : tuple of str
        What it is of.
    files : tuple of File
        In order of name.

    Raises
    ------
    SourceError
        When there is no ledger.
    FormatError
        When it is damaged.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from PIL import Image
    >>> import zeromean as zm
    >>> data = pathlib.Path(tempfile.mkdtemp())
    >>> for i, level in enumerate((10, 200, 90)):
    ...     Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(data / f"{i}.png")
    >>> profile = zm.measure(data, ledger=data / "x.ledger")
    >>> ledger = zm.Ledger(data / "x.ledger")
    >>> [file.name for file in ledger.by("mean")]
    ['0.png', '2.png', '1.png']
    >>> ledger.profile() == profile
    True
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _found(Path(os.fspath(path)))
        book = Book(self.path, writing=False)
        try:
            self._about, self._total = book.about, book.total
            self.files = tuple(_file(row, part) for row, part in book.rows_with_numbers())
            self._record = book.record()
        finally:
            book.close()
        if not self._about:
            raise SourceError(f"the ledger {self.path} is empty: its first run was stopped early")
        self.source: tuple[str, ...] = tuple(self._about["source"])

    def profile(self) -> Profile:
        """The profile of all its files: of a stopped run, of those that were measured.

        Returns
        -------
        Profile
            Without what only a run knows: a range that was given, names of features.

        Raises
        ------
        SourceError
            When nothing was measured, or different kinds of pictures.
        """
        if len(self._total) != 1:
            kinds = ", ".join(sorted(self._total)) or "nothing"
            raise SourceError(f"the ledger {self.path} holds {kinds}, which is no single profile")
        ((kind, part),) = self._total.items()
        options = self._about["options"]
        pattern = Pattern.parse(options["pattern"], **options["sizes"])
        return part.profile(Plan(pattern, colors=options.get("colors", "")), kind, self._record)

    def by(self, what: str) -> list[File]:
        """Its measured files in order.

        Parameters
        ----------
        what : {"mean", "std", "unusual", "size", "name"}
            From dark to bright, from flat to rich, from the most unusual to the most usual, from
            small to large. Several features count by their mean; what is unusual is said in
            `unusual`.

        Returns
        -------
        list of File

        Raises
        ------
        SourceError
            When the ledger holds no numbers for each file.
        """
        files = [file for file in self.files if not file.reason]
        if what == "name":
            return files
        if what == "size":
            return sorted(files, key=lambda file: file.size)
        files = self._numbered()
        if what == "unusual":
            scores = dict(zip((f.name for f in files), self.unusual()[1], strict=True))
            return sorted(files, key=lambda file: -scores[file.name])
        if what not in ("mean", "std"):
            raise SourceError(f"files cannot be put in order of {what!r}")
        return sorted(files, key=lambda file: float(np.mean(getattr(file, what))))

    def unusual(self) -> tuple[list[File], _Floats]:
        """How unusual each measured file is.

        For each feature the distance of the file's mean from the median of all files' means, in
        units of their scaled median absolute deviation, and the same for stds; the largest of
        them. That is the modified z-score of Iglewicz and Hoaglin, *How to Detect and Handle
        Outliers*, ASQC 1993, without its factor.

        Returns
        -------
        files : list of File
        scores : ndarray of float64, (n_files,)
            3.5 and more is usually called an outlier.
        """
        files = self._numbered()
        table = np.array([[*file.mean, *file.std] for file in files])
        if len(files) < _LEAST:
            return files, np.zeros(len(files))
        away = np.abs(table - np.median(table, axis=0))
        scale = 1.4826 * np.median(away, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.where(scale > 0, away / scale, np.where(away > 0, np.inf, 0.0))
        return files, scores.max(axis=1)

    def _numbered(self) -> list[File]:
        files = [file for file in self.files if not file.reason and file.mean]
        if not files and any(not file.reason for file in self.files):
            pattern = self._about["options"]["pattern"]
            raise SourceError(
                f"the ledger {self.path} holds no numbers for each file: with the pattern "
                f"{pattern!r} they would be too many"
            )
        return [file for file in files if not any(map(math.isnan, file.mean))]

    def shared(self, other: Ledger) -> list[tuple[File, File]]:
        """Files of two ledgers with the same content: what leaks from training into validation.

        Parameters
        ----------
        other : Ledger

        Returns
        -------
        list of (File, File)
            One of this, one of the other, in order of name.
        """
        known: dict[str, File] = {}
        for file in other.files:
            if file.sha256:
                known.setdefault(file.sha256, file)
        return [(file, known[file.sha256]) for file in self.files if file.sha256 in known]

    def __repr__(self) -> str:
        skipped = sum(1 for file in self.files if file.reason)
        return (
            f"Ledger({str(self.path)!r}, {len(self.files):,} files"
            + (f", {skipped:,} skipped" if skipped else "")
            + ")"
        )


def _file(row: Row, part: Partial | None) -> File:
    """A row with its numbers read out."""
    plain = File(row.name, row.size, row.items, row.reason, row.sha256.hex())
    text = row.numbers or ("" if part is None else numbers_of(part))
    if not text:
        return plain
    n, sums, squares, low, high = json.loads(text)
    mean = [s / k if k else math.nan for s, k in zip(sums, n, strict=True)]
    spread = [
        math.sqrt(max(q / k - m * m, 0.0)) if k and math.isfinite(m * m) else math.nan
        for q, k, m in zip(squares, n, mean, strict=True)
    ]
    return File(
        plain.name, plain.size, plain.items, "", plain.sha256,
        tuple(mean), tuple(spread), tuple(low), tuple(high),
    )  # fmt: skip


def is_ledger(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a ledger, by its first bytes."""
    try:
        with open(path, "rb") as file:
            head = file.read(72)
    except OSError:
        return False
    return head[:16] == b"SQLite format 3\0" and head[68:72] == b"zero"


def _found(path: Path) -> Path:
    """The ledger itself, or the newest one of a source in the cache."""
    if path.is_file() and is_ledger(path):
        return path
    if not path.exists():
        raise SourceError(f"{path}: there is no such ledger, and no such data")
    wanted = about(path, {})["source"]
    newest = max(_of_source(wanted), key=lambda pair: pair[0], default=None)
    if newest is None:
        raise SourceError(
            f"no ledger of {path} is kept in {folder()}; measure it with a ledger first: "
            f"zeromean measure {path}"
        )
    return newest[1]


def _of_source(source: Any) -> Iterator[tuple[int, Path]]:
    for path in folder().glob("*.ledger"):
        if about_of(path).get("source") == source:
            yield path.stat().st_mtime_ns, path
