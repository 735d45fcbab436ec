"""Columns of encoded pictures in Parquet and Arrow files, as a source for `measure`."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Entry, Item, ListedSource
from zeromean.sources.access import ReadError
from zeromean.sources.arrays import spread
from zeromean.sources.arrow_arrays import check_column
from zeromean.sources.arrow_columns import (
    PictureColumn,
    at_path,
    class_named,
    class_names,
    plain,
    same_pictures,
)
from zeromean.sources.arrow_encoded import (
    NOTHING,
    SHARD_BYTES,
    SHARD_ROWS,
    SMALL_PICTURE,
    Decoding,
    Encoded,
    in_shards,
)
from zeromean.sources.arrow_files import Broken, DataFile, Outline, noted, opened_rows
from zeromean.sources.decode import DecodeError
from zeromean.sources.images import ImageReader
from zeromean.sources.walk import why_unreadable

_Places = npt.NDArray[np.int64]
_BATCH_BYTES = 4 << 20
_LARGEST_GROUP = 32 << 20  # a larger row group is read once, here, and decoded in parts elsewhere
_BLOCK = 1 << 20  # entries whose row groups are brought together


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a row group.

    Attributes
    ----------
    group : int
    first : int
        The number of the group's first row in the file.
    rows : tuple of int or range
        Numbers in the group, ascending.
    size : int
        Of the average row in bytes.
    """

    group: int
    first: int
    rows: Sequence[int]
    size: int


@dataclass(frozen=True, slots=True)
class RowReader:
    """Reads encoded pictures out of one file; picklable.

    Attributes
    ----------
    file : DataFile
    column : PictureColumn
    by : str or None
        The column that says the group of each row.
    names : tuple of str
        Of the groups, where that column numbers them.
    """

    file: DataFile
    column: PictureColumn
    by: str | None = None
    names: tuple[str, ...] = ()

    def encoded(self, pieces: Sequence[Piece]) -> Iterator[Encoded]:
        """The rows in order; of those that cannot be read, the reason."""
        left = list(pieces)
        try:
            with opened_rows(self.file) as held:
                while left:
                    yield from self._rows(held, left.pop(0))
        except (OSError, MemoryError) as error:
            passing = not isinstance(error, DecodeError)
            for piece in left:
                yield from self._failed(piece, 0, (), why_unreadable(error), passing)

    def _rows(self, held: Any, piece: Piece) -> Iterator[Encoded]:
        """The rows of one row group; from where it breaks on, the reason."""
        done = 0
        try:
            for row in self._piece(held, piece):
                done += 1
                yield row
        except (ReadError, DecodeError) as error:
            passing = isinstance(error, ReadError)
            yield from self._failed(piece, done, held.stamp, str(error), passing)

    def _piece(self, held: Any, piece: Piece) -> Iterator[Encoded]:
        """The rows that are sound; nothing is read after the last one that is wanted."""
        at, wanted = 0, iter(piece.rows)
        row = next(wanted, None)
        n_rows = max(1, min(1024, _BATCH_BYTES // max(1, piece.size)))
        columns = (*self.column.read, *([] if self.by is None else [self.by]))
        for batch in held.batches(piece.group, columns, n_rows):
            values = self._values(batch)
            while row is not None and row < at + len(batch):
                number = piece.first + row
                stamp = (*held.stamp, number)
                yield self._row(values, row - at, f"{self.file.name}[{number}]", stamp)
                row = next(wanted, None)
            at += len(batch)
            if row is None:
                return
        raise DecodeError(f"has no more than {at:,} rows in row group {piece.group}")

    def _values(self, batch: Any) -> tuple[Any, Any, Any]:
        data, paths = self.column.values(batch)
        return data, paths, None if self.by is None else at_path(batch, (self.by,))

    def _row(self, values: Any, row: int, name: str, stamp: tuple[int, ...]) -> Encoded:
        data, paths, labels = values
        group = None if labels is None else class_named(plain(labels[row]), self.names)
        content = data[row].as_py()
        path = "" if paths is None else plain(paths[row]) or ""
        reason = NOTHING if content is None and not path else ""
        return Encoded(name, content, path, reason, False, stamp, group)

    def _failed(
        self, piece: Piece, done: int, stamp: tuple[int, ...], reason: str, passing: bool
    ) -> Iterator[Encoded]:
        for row in piece.rows[done:]:
            number = piece.first + row
            own = (*stamp, number) if stamp else ()
            name = f"{self.file.name}[{number}]"
            yield Encoded(name, reason=reason, passing=passing, stamp=own)


@dataclass(frozen=True, slots=True)
class PictureShard:
    """Rows of one file, read where they are decoded; picklable.

    Attributes
    ----------
    reader : RowReader
    pieces : tuple of Piece
    decoding : Decoding
    """

    reader: RowReader
    pieces: tuple[Piece, ...]
    decoding: Decoding

    @property
    def n_items(self) -> int:
        """How many rows."""
        return sum(len(piece.rows) for piece in self.pieces)

    def items(self) -> Iterator[Item]:
        """Read and decode them in order."""
        return self.decoding.items(self.reader.encoded(self.pieces), None)

    def passing_items(self) -> Iterator[Item]:
        """`items`, but each array may be written over when the next item is asked for."""
        memory = self.decoding.reader.scratch()
        return self.decoding.items(self.reader.encoded(self.pieces), memory)

    def split(self) -> Iterator[PictureShard]:
        """Shards of one picture each."""
        for piece in self.pieces:
            for row in piece.rows:
                yield replace(self, pieces=(replace(piece, rows=(row,)),))


class PictureRows(ListedSource):
    """A column of encoded pictures, each row a picture.

    Its entries are the rows: how many there are stands in the metadata, so none is read for it.

    Parameters
    ----------
    files : sequence of DataFile
    outlines : sequence of Outline or Broken
        Of each file. A broken one counts as one picture that cannot be read.
    column : PictureColumn
        Of the first sound file.
    name : str
        For messages.
    pattern : Pattern or None
        None for one number a channel.
    reader : ImageReader
    limit : int, optional
        Only that many rows, spread evenly.

    Attributes
    ----------
    warnings : tuple of str
        What is probably not meant.
    problems : tuple of (str, str)
        Folders that could not be listed, and why.

    Raises
    ------
    PatternError
        When a file has no such column, or one of another type.
    """

    warnings: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()

    def __init__(
        self,
        files: Sequence[DataFile],
        outlines: Sequence[Outline | Broken],
        column: PictureColumn,
        *,
        name: str,
        pattern: Pattern | None,
        reader: ImageReader,
        limit: int | None = None,
    ) -> None:
        self.name, self.files, self.reader, self.limit = name, tuple(files), reader, limit
        self.pattern = pattern or Pattern.parse(NAMED["channel"])
        self._outlines = tuple(outlines)
        self._columns = _columns(files, outlines, column)
        self._by: str | None = None
        self._names: tuple[str, ...] = ()
        counts = (1 if isinstance(o, Broken) else sum(o.rows) for o in outlines)
        self._starts = np.fromiter(accumulate(counts, initial=0), np.int64)
        whole = int(self._starts[-1])
        self._chosen: Sequence[int] = range(whole)
        if limit is not None and limit < whole:
            self._chosen = spread(whole, limit)

    @property
    def n_whole(self) -> int:
        """How many rows there are without a limit."""
        return int(self._starts[-1])

    @property
    def n_items(self) -> int:
        """How many rows will be read, or reported as skipped."""
        return len(self._chosen)

    @cached_property
    def n_bytes(self) -> int:
        """Size of the row groups, about that of the pictures."""
        size = sum(sum(o.sizes) for o in self._outlines if isinstance(o, Outline))
        return size * self.n_items // max(1, self.n_whole)

    @property
    def small_files(self) -> bool:  # type: ignore[override]
        """Whether threads would only get in each other's way."""
        return self.n_bytes < SMALL_PICTURE * self.n_items

    def group_by(self, column: str) -> None:
        """Take a column as the group of each picture.

        Parameters
        ----------
        column : str

        Raises
        ------
        PatternError
            When there is no such column.
        """
        check_column(self.files, self._outlines, column)
        first = next(o for o in self._outlines if isinstance(o, Outline))
        self._by, self._names = column, class_names(first.schema, column)

    def entries(self) -> Iterator[Entry]:
        """Name and stamp of every row."""
        for at in self._chosen:
            f, row = self._place(at)
            file, outline = self.files[f], self._outlines[f]
            if isinstance(outline, Broken):
                yield Entry(file.name, ())
            else:
                yield Entry(f"{file.name}[{row}]", (*outline.stamp, row))

    def _place(self, at: int) -> tuple[int, int]:
        f = bisect_right(self._starts, at) - 1
        return f, at - int(self._starts[f])

    def shards_of(self, chosen: Sequence[int]) -> Iterator[Any]:
        """Shards of some rows, file by file and row group by row group, each read once.

        A row group of more than 32 MB is read here, so that no two workers read it, and no worker
        holds much of it.
        """
        for begin in range(0, len(chosen), _BLOCK):
            places = np.asarray(chosen[begin : begin + _BLOCK], np.int64)
            if not isinstance(self._chosen, range):
                places = np.asarray(self._chosen, np.int64)[places]
            places = np.sort(places)
            owners = np.searchsorted(self._starts, places, side="right") - 1
            for f in np.unique(owners).tolist():
                yield from self._of_file(f, places[owners == f] - self._starts[f])

    def _of_file(self, f: int, rows: _Places) -> Iterator[Any]:
        file, outline = self.files[f], self._outlines[f]
        decoding = Decoding(self.reader, _folder(file.path))
        if isinstance(outline, Broken):
            lost = Encoded(file.name, reason=outline.reason, passing=outline.passing)
            yield from in_shards([lost], decoding)
            return
        reader = RowReader(file, self._columns[f], self._by, self._names)
        waiting: list[Piece] = []
        for piece in _pieces(outline, rows):
            if piece.size * (piece.rows[-1] + 1) > _LARGEST_GROUP:
                yield from in_shards(reader.encoded([piece]), decoding)
                continue
            waiting.append(piece)
            n_rows = sum(len(p.rows) for p in waiting)
            if n_rows >= SHARD_ROWS or n_rows * piece.size >= SHARD_BYTES:
                yield PictureShard(reader, tuple(waiting), decoding)
                waiting = []
        if waiting:
            yield PictureShard(reader, tuple(waiting), decoding)

    def complete(self, record: Any) -> Any:
        """With files whose pages have no checksums: damage in them may go unseen."""
        skipped = tuple(sorted((*record.skipped, *self.problems)))
        return noted(replace(record, skipped=skipped, warnings=self.warnings), self._outlines)


def _columns(
    files: Sequence[DataFile], outlines: Sequence[Outline | Broken], column: PictureColumn
) -> list[PictureColumn]:
    """The column in each file; a broken one is read by nobody."""
    pairs = list(zip(files, outlines, strict=True))
    first = next(file.name for file, o in pairs if isinstance(o, Outline))
    return [
        same_pictures(o.schema, column, file.where, first) if isinstance(o, Outline) else column
        for file, o in pairs
    ]


def _pieces(outline: Outline, rows: _Places) -> Iterator[Piece]:
    """Rows of a file, by row group."""
    starts = np.fromiter(accumulate(outline.rows, initial=0), np.int64)
    groups = np.searchsorted(starts, rows, side="right") - 1
    cuts = np.flatnonzero(np.diff(groups)) + 1
    for own in np.split(rows, cuts):
        if not len(own):
            continue
        group = int(np.searchsorted(starts, own[0], side="right")) - 1
        first = int(starts[group])
        inside: Sequence[int] = (own - first).tolist()
        if inside[-1] - inside[0] == len(inside) - 1:
            inside = range(inside[0], inside[-1] + 1)
        size = outline.sizes[group] // max(1, outline.rows[group])
        yield Piece(group, first, inside, size)


def _folder(path: str) -> str:
    return os.path.dirname(path) or "."
