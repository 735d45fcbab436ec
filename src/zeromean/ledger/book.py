"""The SQLite file of a ledger: rows of files, sums of shards, and the sum of all.

Each transaction brings rows and their sum together, so that whatever happens the sum is that of
the rows. A checksum over all rows tells when a bit of them has changed. The row of a file that was
touched is stale: it counts for nothing, until the file turns out to hold what it held.
"""

from __future__ import annotations

import json
import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zeromean.accumulation import Partial
from zeromean.errors import FormatError, SourceError
from zeromean.ledger.rows import Row, stamp_text
from zeromean.ledger.states import decode, encode
from zeromean.provenance import Provenance
from zeromean.sources import Entry

VERSION = 1
_APPLICATION = 0x7A65726F  # "zero": in the file's header
_CHECKED = 1 << 64
_COLUMNS = Row._fields
_PLACES = ", ".join("?" * len(_COLUMNS))
_HEAD = ", ".join(_COLUMNS[:-2])
_TABLES = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
  name TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, stamp TEXT NOT NULL,
  sha256 BLOB NOT NULL, items INTEGER NOT NULL, kind TEXT NOT NULL, decoder TEXT NOT NULL,
  notes TEXT NOT NULL, reason TEXT NOT NULL, numbers TEXT NOT NULL, state BLOB, shard INTEGER,
  stale INTEGER NOT NULL DEFAULT 0);
CREATE TABLE shards (shard INTEGER NOT NULL, kind TEXT NOT NULL, state BLOB NOT NULL,
  PRIMARY KEY (shard, kind)) WITHOUT ROWID;
CREATE INDEX files_of_shard ON files (shard) WHERE shard IS NOT NULL;
CREATE TABLE total (kind TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
"""


# A log that is written ahead needs no sync for each transaction: a killed process loses none of
# them, a power cut the last ones. In exclusive mode it needs no shared memory, which network file
# systems do not have.
_MANNERS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
"""


class DamagedError(FormatError):
    """The file is no ledger, or a bit of it has changed."""


class Book:
    """An open ledger; the caller holds its lock when it writes.

    Parameters
    ----------
    path : Path
    writing : bool
        Make it when it is not there.

    Attributes
    ----------
    total : dict of str to Partial
        The sum of all rows, by kind.
    about : dict
        What it is of: see `zeromean.ledger.identity`. Empty in a new one.

    Raises
    ------
    DamagedError
        When it is no ledger, or is damaged.
    OSError
        When it cannot be opened.
    """

    def __init__(self, path: Path, *, writing: bool) -> None:
        self.path = path
        self._check, self._count = 0, 0
        self.total: dict[str, Partial] = {}
        self.about: dict[str, Any] = {}
        new = not path.exists() or path.stat().st_size == 0
        if new and not writing:
            raise FileNotFoundError(2, "no such ledger", str(path))
        with _plainly(path):
            self._base = _connected(path, "rwc" if writing else "ro")
        try:
            with _plainly(path):
                if writing:
                    self._base.executescript("PRAGMA locking_mode = EXCLUSIVE;" + _MANNERS)
                if new:
                    script = "PRAGMA synchronous = OFF; BEGIN;" + _TABLES + "COMMIT;"
                    self._base.executescript(script + _MANNERS)
                else:
                    self._read()
        except BaseException:
            self._base.close()
            raise

    def close(self) -> None:
        """Close the file; SQLite brings the log into it."""
        self._base.close()

    # ------------------------------------------------------------ reading

    def _read(self) -> None:
        """Read what it is of and the sum, and check them against the rows."""
        pragmas = [self._one(f"PRAGMA {name}") for name in ("application_id", "user_version")]
        if pragmas[0] != _APPLICATION:
            raise DamagedError(f"{self.path} is no ledger of zeromean")
        if pragmas[1] != VERSION:
            raise SourceError(
                f"{self.path} is a ledger of version {pragmas[1]}, and this zeromean reads version "
                f"{VERSION}; upgrade, or give another file"
            )
        held = dict(self._base.execute("SELECT name, value FROM about"))
        self.about = json.loads(held.get("about", "{}"))
        for row in self._base.execute(f"SELECT {_HEAD}, NULL, NULL FROM files WHERE NOT stale"):
            self._check += Row(*row).check
            self._count += 1
        if json.loads(held.get("check", "[0, 0]")) != [self._count, self._check % _CHECKED]:
            raise DamagedError(f"the rows of {self.path} are not the ones that were written")
        for kind, state in self._base.execute("SELECT kind, state FROM total").fetchall():
            query = "SELECT min(name) FROM files WHERE kind = ? AND NOT stale"
            self.total[kind] = decode(state, self._one(query, (kind,)) or "the sum of all files")

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        return self._base.execute(query, values).fetchone()[0]

    def __len__(self) -> int:
        return self._count

    def whole_rows(self) -> Iterator[tuple[Row, Partial | None]]:
        """All rows of files that were measured, and their states."""
        query = f"SELECT {_HEAD}, state, shard FROM files WHERE NOT stale AND reason = ''"
        with _plainly(self.path):
            for values in self._base.execute(query):
                row = Row._make(values)
                yield row, None if row.state is None else decode(row.state, row.name)

    def rows_with_numbers(self) -> Iterator[tuple[Row, Partial | None]]:
        """All rows in order of name; with the state where the numbers are but in it."""
        query = (
            f"SELECT {_HEAD}, CASE WHEN numbers = '' THEN state END, shard FROM files"
            " WHERE NOT stale ORDER BY name"
        )
        with _plainly(self.path):
            for row in map(Row._make, self._base.execute(query)):
                yield row, None if row.state is None else decode(row.state, row.name)

    def record(self, listed: bool = False) -> Provenance:
        """Where the sum came from.

        Parameters
        ----------
        listed : bool
            Only of the files that `choose` chose.
        """
        only = " WHERE NOT stale" + (" AND name IN (SELECT name FROM chosen)" if listed else "")
        and_ = only + " AND reason"
        with _plainly(self.path):
            items, size, digest = 0, 0, 0
            for sha, n in self._base.execute(f"SELECT sha256, items FROM files{and_} = ''"):
                digest += int.from_bytes(sha, "big")
                items += n
            size = self._one(f"SELECT coalesce(sum(size), 0) FROM files{only}")
            skipped = self._base.execute(f"SELECT name, reason FROM files{and_} != ''")
            notes: dict[str, int] = {}
            query = f"SELECT notes, count(*) FROM files{and_} = '' GROUP BY notes"
            for text, n in self._base.execute(query):
                for note in json.loads(text):
                    notes[note] = notes.get(note, 0) + n
            query = (
                f"SELECT decoder, count(*) FROM files{and_} = '' AND decoder != '' GROUP BY decoder"
            )
            return Provenance(
                items=items,
                skipped=tuple(sorted(map(tuple, skipped))),
                bytes=size,
                digest=digest % (1 << 256),
                decoders=dict(sorted(self._base.execute(query))),
                notes=dict(sorted(notes.items())),
            )

    # ------------------------------------------------------------ comparing

    def compare(self, entries: Iterable[Entry]) -> bool:
        """Hold a list of files against the rows; `changed`, `gone` and `touched` then answer.

        Returns
        -------
        bool
            Whether all names are different.
        """
        with _plainly(self.path):
            self._base.execute("DROP TABLE IF EXISTS temp.listed")
            self._base.execute(
                "CREATE TEMP TABLE listed (name TEXT PRIMARY KEY, stamp TEXT, place INTEGER)"
                " WITHOUT ROWID"
            )
            self._base.execute("BEGIN")
            place = -1

            def values() -> Iterator[tuple[str, str, int]]:
                nonlocal place
                for place, entry in enumerate(entries):
                    yield entry.name, stamp_text(entry.stamp), place

            self._base.executemany("INSERT OR IGNORE INTO listed VALUES (?, ?, ?)", values())
            self._base.execute("COMMIT")
            return int(self._one("SELECT count(*) FROM listed")) == place + 1

    def changed(self) -> array[int]:
        """The places in the list of the files that are new, or are not what they were; sorted."""
        query = (
            "SELECT place FROM listed LEFT JOIN files USING (name)"
            " WHERE files.stamp IS NOT listed.stamp OR stale ORDER BY place"
        )
        with _plainly(self.path):
            return array("q", (place for (place,) in self._base.execute(query)))

    def touched(self) -> list[str]:
        """The names of rows whose files are not what they were."""
        query = (
            "SELECT name FROM listed JOIN files USING (name)"
            " WHERE files.stamp != listed.stamp AND NOT stale"
        )
        with _plainly(self.path):
            return [name for (name,) in self._base.execute(query)]

    def stale(self) -> dict[str, bytes]:
        """The content that stale rows are of."""
        query = "SELECT name, sha256 FROM files WHERE stale AND sha256 != x''"
        with _plainly(self.path):
            return dict(self._base.execute(query))

    def gone(self) -> list[str]:
        """The names of rows whose files are no longer in the list."""
        query = "SELECT name FROM files WHERE name NOT IN (SELECT name FROM listed)"
        with _plainly(self.path):
            return [name for (name,) in self._base.execute(query)]

    def shared_with_list(self) -> int:
        """How many rows have the name and the size of a file in the list."""
        return int(
            self._one(
                "SELECT count(*) FROM files JOIN listed USING (name)"
                " WHERE CAST(listed.stamp AS INTEGER) = CAST(files.stamp AS INTEGER)"
            )
        )

    def sharing(self, names: Sequence[str]) -> list[str]:
        """All files whose state is in the same sum as that of one of these, with these."""
        query = (
            "SELECT name FROM files WHERE shard IN"
            " (SELECT shard FROM files JOIN chosen USING (name) WHERE shard IS NOT NULL)"
        )
        with _plainly(self.path):
            self.choose(names)
            return [name for (name,) in self._base.execute(query)]

    def choose(self, names: Iterable[str]) -> None:
        """Choose the files that `states` and `record` are asked for."""
        with _plainly(self.path):
            self._base.execute("BEGIN")
            self._choose(names)
            self._base.execute("COMMIT")

    def _choose(self, names: Iterable[str]) -> None:
        self._base.execute("DROP TABLE IF EXISTS temp.chosen")
        self._base.execute("CREATE TEMP TABLE chosen (name TEXT PRIMARY KEY) WITHOUT ROWID")
        self._base.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", ((n,) for n in names))

    def state(self, name: str) -> tuple[str, Partial] | None:
        """Kind and state of one file, stale or not; None where it has none."""
        with _plainly(self.path):
            query = "SELECT kind, state FROM files WHERE name = ?"
            kind, state = self._base.execute(query, (name,)).fetchone()
            return None if state is None else (kind, decode(state, name))

    def states(self, listed: bool = False) -> Iterator[tuple[str, str, Partial]]:
        """Name, kind and state of files, and of the sums of shards.

        Parameters
        ----------
        listed : bool
            Only of the files that `choose` chose.

        Raises
        ------
        DamagedError
            When a state is not what was written.
        """
        only = " AND name IN (SELECT name FROM chosen)" if listed else ""
        with _plainly(self.path):
            query = (
                f"SELECT name, kind, state FROM files WHERE state IS NOT NULL AND NOT stale{only}"
            )
            for name, kind, state in self._base.execute(query):
                yield name, kind, decode(state, name)
            if not listed:
                for shard, kind, state in self._base.execute(
                    "SELECT shard, kind, state FROM shards"
                ):
                    yield f"shard {shard}", kind, decode(state, f"shard {shard}")

    # ------------------------------------------------------------ writing

    def begin(self, about: Mapping[str, Any]) -> None:
        """Write down what the ledger is of."""
        self.about = dict(about)
        with self._transaction():
            self._tell("about", self.about)

    def add(
        self,
        rows: Sequence[Row],
        shards: Mapping[int, Mapping[str, Partial]],
        same: Mapping[str, tuple[int, str]],
        total: Mapping[str, Partial],
    ) -> None:
        """Write rows, sums of shards and the new sum of all, together or not at all.

        Parameters
        ----------
        rows : sequence of Row
            New ones; they take the place of stale ones.
        shards : mapping of int to mapping of str to Partial
        same : mapping of str to (int, str)
            Stale rows that count again: time of change and stamp of the file.
        total : mapping of str to Partial
            With all of them.
        """
        held = [
            (number, kind, encode(part))
            for number, parts in shards.items()
            for kind, part in parts.items()
        ]
        with self._transaction():
            names = ", ".join(_COLUMNS)
            self._base.executemany(
                f"INSERT OR REPLACE INTO files ({names}) VALUES ({_PLACES})", rows
            )
            self._base.executemany("INSERT INTO shards VALUES (?, ?, ?)", held)
            check = sum(row.check for row in rows) + sum(
                self._revive(n, *t) for n, t in same.items()
            )
            self._change(check, len(rows) + len(same), total)

    def _revive(self, name: str, mtime_ns: int, stamp: str) -> int:
        """A stale row counts again; its checksum."""
        change = "UPDATE files SET mtime_ns = ?, stamp = ?, stale = 0 WHERE name = ?"
        self._base.execute(change, (mtime_ns, stamp, name))
        query = f"SELECT {_HEAD}, NULL, NULL FROM files WHERE name = ?"
        return Row(*self._base.execute(query, (name,)).fetchone()).check

    def set_aside(
        self, gone: Sequence[str], touched: Sequence[str], total: Mapping[str, Partial] | None
    ) -> None:
        """Take rows out of the sum.

        Parameters
        ----------
        gone : sequence of str
            Deleted, with the sums of shards that they were in.
        touched : sequence of str
            Stale from now on.
        total : mapping of str to Partial, or None
            Without them; None to add up what is left.
        """
        with self._transaction():
            check = count = 0
            for names, change in (
                (gone, "DELETE FROM files WHERE name IN (SELECT name FROM chosen)"),
                (touched, "UPDATE files SET stale = 1 WHERE name IN (SELECT name FROM chosen)"),
            ):
                self._choose(names)
                query = (
                    f"SELECT {_HEAD}, NULL, NULL FROM files JOIN chosen USING (name)"
                    " WHERE NOT stale"
                )
                for row in self._base.execute(query):
                    check, count = check + Row(*row).check, count + 1
                self._base.execute(change)
            self._base.execute(
                "DELETE FROM shards WHERE shard NOT IN"
                " (SELECT shard FROM files WHERE shard IS NOT NULL)"
            )
            if total is None:
                total = summed((kind, part) for _, kind, part in self.states())
            query = "SELECT DISTINCT kind FROM files WHERE reason = '' AND NOT stale"
            left = {kind for (kind,) in self._base.execute(query)}
            self._change(-check, -count, {k: part for k, part in total.items() if k in left})

    @property
    def has_shards(self) -> bool:
        """Whether there are sums of several files."""
        return bool(self._one("SELECT count(*) FROM shards"))

    @property
    def next_shard(self) -> int:
        """A number that no shard has."""
        return int(self._one("SELECT coalesce(max(shard), 0) + 1 FROM shards"))

    def _change(self, check: int, count: int, total: Mapping[str, Any]) -> None:
        self._tell("check", [self._count + count, (self._check + check) % _CHECKED])
        self._base.execute("DELETE FROM total")
        held = [(kind, encode(part)) for kind, part in total.items()]
        self._base.executemany("INSERT INTO total VALUES (?, ?)", held)
        self._after = (self._check + check, self._count + count, dict(total))

    def _tell(self, name: str, value: Any) -> None:
        self._base.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, json.dumps(value)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing, in the file and here."""
        self._after = (self._check, self._count, self.total)
        with _plainly(self.path):
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._base.execute("ROLLBACK")
                raise
        self._check, self._count, self.total = self._after


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file; for reading alone without a trace, unless a log lies beside it."""
    quiet = mode == "ro" and not path.with_name(path.name + "-wal").exists()
    address = f"{path.absolute().as_uri()}?mode={mode}" + ("&immutable=1" if quiet else "")
    return sqlite3.connect(address, uri=True, isolation_level=None)


def about_of(path: Path) -> dict[str, Any]:
    """What a ledger is of, read without a look at its rows; empty when it cannot be read."""
    with suppress(sqlite3.Error, OSError, ValueError):
        base = _connected(path, "ro")
        try:
            (text,) = base.execute("SELECT value FROM about WHERE name = 'about'").fetchone() or (
                "{}",
            )
            held: dict[str, Any] = json.loads(text)
            return held
        finally:
            base.close()
    return {}


def summed(parts: Iterable[tuple[str, Partial]]) -> dict[str, Partial]:
    """The sum of states by kind."""
    total: dict[str, Partial] = {}
    for kind, part in parts:
        total[kind] = total[kind] + part if kind in total else part
    return total


_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM)
_CLOSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    """Tell what SQLite says: the file is damaged, or cannot be written just now."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (*_FULL, *_CLOSED):
            reason = {sqlite3.SQLITE_FULL: "no space left on the disk"}.get(code, str(error))
            raise OSError(0, reason, os.fspath(path)) from None
        raise DamagedError(f"{path} is damaged: {error}") from None
    except FormatError as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"{path} is damaged: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from None
