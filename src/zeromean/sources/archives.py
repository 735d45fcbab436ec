"""Tar and zip archives: lists their members and reads them where they lie.

Nothing is ever unpacked to a disk. Members of plain tar and of zip archives are read by their
place, by whoever measures them; a compressed tar archive can only be read from its beginning, so
its shards carry the bytes.
"""

from __future__ import annotations

import os
import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from zeromean.errors import SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Entry, ListedSource
from zeromean.sources.access import is_remote, shown
from zeromean.sources.archive_kinds import KINDS, kind_held, kind_of_extensions
from zeromean.sources.archive_listing import Archive, Place, Wanted, listed, root_of
from zeromean.sources.archive_shards import Carrier, MemberShard, Row
from zeromean.sources.files import _SMALL_FILE, Reader, _normalized, _spread
from zeromean.sources.recognition import FORMATS, files_of, suffix_format
from zeromean.sources.walk import (
    Root,
    labels_of,
    nothing_found,
    printable,
    suffix_of,
    walk,
    warnings_about,
    why_unreadable,
)

_SHARD_ITEMS = 64
_SHARD_BYTES = 16 << 20
_FAR_ITEMS = 4096  # of remote archives: a small one is fetched whole for each shard
_CARRIED_BYTES = 4 << 20  # of a shard that carries them: several wait for a worker
_WINDOW = 32 << 20  # bytes that are taken out of compressed archives at once, in whatever order
_WINDOW_ITEMS = 1 << 14
_NAMED = 3  # archives in the name of a source


class NothingFoundError(SourceError):
    """No member of any archive is one to read.

    Attributes
    ----------
    suffixes : Counter
        How many members there are instead, by extension.
    """

    def __init__(self, text: str, suffixes: Counter[str]) -> None:
        super().__init__(text)
        self.suffixes = suffixes


class Archives(ListedSource):
    """Archives whose members are samples, as a source for `measure`.

    Parameters
    ----------
    paths : sequence of path
        Archives, and URLs of such.
    reader : Reader
        Of one member.
    form : {"tar", "zip"}
    extensions : sequence of str
        Of the members to read.
    pattern : Pattern
    limit : int, optional
        Take a quick look at that many members, spread evenly over the list.
    below : str
        The folder in the archives to read; all of it when empty.

    Attributes
    ----------
    n_items, n_whole : int
        Members that will be read, or reported as skipped, with a limit and without; an archive
        that is at fault itself is one more.
    warnings : tuple of str
    left_out : dict of str to int
        Other pictures, by extension.
    ignored : int
        Number of members of another kind altogether.

    Raises
    ------
    SourceError
        An archive does not exist, cannot be read at all, or there is no image in any.
    """

    def __init__(
        self,
        paths: Sequence[str],
        reader: Reader,
        *,
        form: str,
        extensions: Iterable[str],
        pattern: Pattern,
        limit: int | None = None,
        below: str = "",
    ) -> None:
        rest = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
        self.name = ", ".join(printable(shown(path)) for path in paths[:_NAMED]) + rest
        self.reader, self.pattern = reader, pattern
        self.extensions = _normalized(extensions)
        wanted = Wanted(self.extensions, below)
        self._archives, repeated = _all_listed(paths, form, wanted)
        self._check_any(wanted)
        roots = [archive.root for archive in self._archives]
        self.left_out = dict(sum((root.left_out for root in roots), Counter[str]()))
        self.ignored = sum(root.ignored.total() for root in roots)
        self.warnings = (*_warnings(self._archives), *repeated)
        self._starts = list(accumulate(map(len, self._archives), initial=0))
        self._chosen = _spread(range(self._starts[-1]), limit)

    @property
    def n_whole(self) -> int:
        """How many members there are without a limit."""
        return self._starts[-1]

    @property
    def n_items(self) -> int:
        """How many members will be read, or reported as skipped."""
        return len(self._chosen)

    @cached_property
    def n_bytes(self) -> int:
        """Size of all members together."""
        return sum(map(self._size, range(self.n_items)))

    @cached_property
    def median_size(self) -> int:
        """Median size of a member in bytes, from at most 255 of them."""
        return int(statistics.median(map(self._size, _spread(range(self.n_items), 255))))

    @property
    def small_files(self) -> bool:  # type: ignore[override]
        """Whether threads would only get in each other's way."""
        return self.median_size < _SMALL_FILE

    @property
    def labels(self) -> tuple[str, ...]:
        """What stands for each archive in the names of its members."""
        return tuple(archive.root.label for archive in self._archives)

    def outside_classes(self) -> Iterator[str]:
        """Names of the members that lie in no folder."""
        for archive in self._archives:
            listing = archive.listing
            for i, below in enumerate(listing.names()):
                if "/" not in below and not listing.reason(i):
                    yield archive.root.name(below)

    def entries(self) -> Iterator[Entry]:
        """Name and stamp of every member; its stamp is that of the archive, and its place in it."""
        for i in range(self.n_items):
            row = self._row(i)
            yield Entry(row.name, row.stamp)

    def shards_of(self, chosen: Sequence[int]) -> Iterator[MemberShard]:
        """Cut the members into shards of about 64 members or 16 MB, whichever comes first."""
        rows: list[Row] = []
        n_bytes = 0
        for row in self._rows(chosen):
            rows.append(row)
            carried = _SHARD_BYTES // _CARRIED_BYTES if row.data is not None else 1
            n_bytes += carried * (row.numbers[1] if row.numbers else 0)
            far = is_remote(self._archives[row.archive].place.path)
            if len(rows) >= (_FAR_ITEMS if far else _SHARD_ITEMS) or n_bytes >= _SHARD_BYTES:
                yield self._shard(rows)
                rows, n_bytes = [], 0
        if rows:
            yield self._shard(rows)

    def complete(self, record: Any) -> Any:
        """With what was come upon in the archives."""
        return replace(record, left_out=self.left_out, warnings=self.warnings)

    # ------------------------------------------------------------ members

    def _place(self, i: int) -> tuple[int, int]:
        """Which archive an entry is in, and its place there."""
        at = self._chosen[i]
        a = bisect_right(self._starts, at) - 1
        return a, at - self._starts[a]

    def _size(self, i: int) -> int:
        a, k = self._place(i)
        listing = self._archives[a].listing
        return listing.size(k) if k < len(listing) else 0

    def _row(self, i: int) -> Row:
        a, k = self._place(i)
        archive = self._archives[a]
        listing, place = archive.listing, archive.place
        if k == len(listing):  # the archive itself is at fault
            return Row(a, place.name, place.stamp, reason=archive.fault, passing=archive.passing)
        numbers = listing.numbers(k)
        times = (*place.stamp[1:3], 0, 0)[:2]
        return Row(
            a,
            archive.root.name(listing.name(k)),
            (numbers[1], *times, numbers[0]),
            numbers,
            listing.reason(k),
        )

    def _rows(self, chosen: Sequence[int]) -> Iterator[Row]:
        """The members in the order asked for; those of compressed archives with their bytes."""
        carrier = Carrier()
        waiting: list[Row] = []
        n_bytes = 0
        try:
            for i in chosen:
                row = self._row(i)
                needed = not row.reason and self._archives[row.archive].place.is_stream
                if not needed and not waiting:
                    yield row
                    continue
                waiting.append(row)
                n_bytes += row.numbers[1] if needed else 0
                if n_bytes >= _WINDOW or len(waiting) >= _WINDOW_ITEMS:
                    yield from self._carried(waiting, carrier)
                    waiting, n_bytes = [], 0
            yield from self._carried(waiting, carrier)
        finally:
            carrier.close()

    def _carried(self, rows: list[Row], carrier: Carrier) -> Iterator[Row]:
        """Rows with their bytes, archive after archive, given back in their own order."""
        needed: dict[int, list[Row]] = {}
        for row in rows:
            if not row.reason and self._archives[row.archive].place.is_stream:
                needed.setdefault(row.archive, []).append(row)
        found: dict[int, Any] = {}
        for a, own in needed.items():
            place = self._archives[a].place
            try:
                found[a] = carrier.fetch(place, [(r.numbers[0], r.numbers[1]) for r in own])
            except OSError as error:
                found[a] = f"its archive {place.name}: {why_unreadable(error)}"
        for row in rows:
            held = found.get(row.archive)
            if row.reason or held is None:
                yield row
            elif isinstance(held, str):
                yield row._replace(reason=held, stamp=(), passing=True)
            else:
                yield row._replace(data=held[row.numbers[0]])

    def _shard(self, rows: Sequence[Row]) -> MemberShard:
        """A shard that knows only the archives it needs."""
        used = sorted({row.archive for row in rows})
        number = {a: n for n, a in enumerate(used)}
        places: tuple[Place, ...] = tuple(self._archives[a].place for a in used)
        own = tuple(row._replace(archive=number[row.archive]) for row in rows)
        return MemberShard(places, own, self.reader)

    # ------------------------------------------------------------ what is there

    def _check_any(self, wanted: Wanted) -> None:
        """Refuse archives without any member to read, and say what is wrong or what they hold."""
        if any(archive.listing.is_readable for archive in self._archives):
            return
        faulty = next((archive for archive in self._archives if archive.faults), None)
        is_empty = not any(len(archive.listing) for archive in self._archives)
        whole = Root(self.name, "")
        for archive in self._archives:
            whole.left_out += archive.root.left_out
            whole.ignored += archive.root.ignored
        if faulty is not None and not (is_empty and whole.left_out + whole.ignored):
            where = shown(faulty.root.path)
            raise SourceError(f"{where!r} cannot be read: {faulty.fault}")
        if is_empty:
            text = _nothing_in(whole, wanted)
            text = text if faulty is None else f"{text}; {faulty.place.name}: {faulty.fault}"
            raise NothingFoundError(text, whole.ignored + whole.left_out)


def _nothing_in(whole: Root, wanted: Wanted) -> str:
    """Say what archives without images hold instead."""
    text = nothing_found(whole, frozenset(wanted.endings))
    if wanted.below:
        text += f"; only what is below {wanted.below!r} was looked at"
    others = {suffix_format("x" + suffix) for suffix in whole.ignored} - {"", *KINDS}
    if others:
        says = ", ".join(FORMATS[name].says for name in sorted(others))
        text += f"; {says} are not read out of archives: unpack them first"
    return text


def _all_listed(paths: Sequence[str], form: str, wanted: Wanted) -> tuple[list[Archive], list[str]]:
    """Every archive once; one that cannot be opened is at fault, unless it is the only one."""
    archives, repeated = [], []
    labels = labels_of([shown(path) for path in paths]) if len(paths) > 1 else [""]
    seen: set[tuple[int, int]] = set()
    for path, label in zip(paths, map(printable, labels), strict=True):
        try:
            if not is_remote(path):
                status = os.stat(path)
                if (status.st_dev, status.st_ino) in seen:
                    repeated.append(f"{printable(path)} was given twice; it is read once")
                    continue
                seen.add((status.st_dev, status.st_ino))
            archives.append(listed(path, label, form, wanted))
        except OSError as error:
            archives.append(_unreadable(path, label, form, error))
    return archives, repeated


def _unreadable(path: str, label: str, form: str, error: OSError) -> Archive:
    """An archive that cannot be opened, as one that is at fault.

    Raises
    ------
    SourceError
        When it is the only one.
    """
    if not label:
        if not os.path.exists(path) and not is_remote(path):
            walk([path], frozenset())  # says what is there instead
        raise SourceError(f"cannot read {shown(path)!r}: {why_unreadable(error)}") from error
    missing = isinstance(error, FileNotFoundError)
    reason = "no such file" if missing else f"cannot be read: {why_unreadable(error)}"
    place = Place(path, label, form, ())
    return Archive(place, root_of(path, label), faults=[reason], passing=True)


def _warnings(archives: Sequence[Archive]) -> Iterator[str]:
    """Say what is probably not meant."""
    yield from warnings_about([archive.root for archive in archives])
    for archive in archives:
        if archive.n_replaced:
            yield (
                f"{archive.place.name}: {archive.n_replaced:,} member(s) come again later under "
                "the same name; the last one counts, as when it is unpacked"
            )
        if not len(archive):
            yield f"{archive.place.name} holds nothing to read"


def open_paths(
    paths: list[str], pattern: Pattern | None, options: Any, name: str
) -> list[Archives]:
    """Open archives, and folders of them, as one source.

    Images are read; where there are none, recordings, DICOM or NIfTI files.

    Parameters
    ----------
    paths : list of str
    pattern : Pattern or None
        None for the usual one of what is read.
    options : Options
        Its key is a folder in the archives.
    name : {"tar", "zip"}

    Raises
    ------
    SourceError
        Naming the archive, or the folder that holds none.
    """
    files = list(dict.fromkeys(file for path in paths for file in _archives_at(path, name)))
    kind = kind_of_extensions(options.extensions)
    try:
        return [_opened(files, kind, pattern, options, name)]
    except NothingFoundError as error:
        other = kind_held(error.suffixes)
        if options.extensions is not None or not other:
            raise
    return [_opened(files, other, pattern, options, name)]


def _opened(
    files: Sequence[str], kind: str, pattern: Pattern | None, options: Any, form: str
) -> Archives:
    reader, extensions, chosen = KINDS[kind](pattern, options)
    return Archives(
        files,
        reader,
        form=form,
        extensions=extensions if options.extensions is None else options.extensions,
        pattern=chosen,
        limit=options.limit,
        below=options.key.strip("/"),
    )


def _archives_at(path: str, name: str) -> list[str]:
    """The archive at a path, or all below a folder."""
    if is_remote(path):
        return _remote_archives(path, name)
    files = [os.fspath(file) for file in files_of(path, name)]
    if not files:
        raise SourceError(f"{path!r} holds no {name} archive")
    return files


def _remote_archives(url: str, name: str) -> list[str]:
    from zeromean.sources.remote import head_of, walk_remote

    if suffix_format(url) == name or head_of(url) is not None:
        return [url]
    endings = frozenset(suffix_of("x" + suffix) for suffix in FORMATS[name].suffixes)
    found = [root.place(below) for root in walk_remote([url], endings) for below in root.files]
    files = [file for file in found if suffix_format(file) == name]
    if not files:
        raise SourceError(f"{shown(url)!r} holds no {name} archive")
    return files
