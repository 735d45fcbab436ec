"""What a ledger writes down of one file."""

from __future__ import annotations

import json
import math
import time
import zlib
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from zeromean.accumulation import Partial
from zeromean.ledger.states import encode, encode_picture
from zeromean.sources import Item

_LARGEST_STATE = 64 << 10  # bytes; what is larger is kept for all files of a shard together
_MANY = _LARGEST_STATE // 32  # features whose state would be larger, sums and extrema included
_TICK, _COARSE = 20_000_000, 2_000_000_000  # ns: of the clocks of usual and of old file systems
_FEW = 64  # features of which each file's own numbers are kept, to be listed


#: The reason of a file that was touched, and holds what it held.
SAME = "its content is what it was"


class Row(NamedTuple):
    """One file in a ledger; the columns of its table, in order.

    Attributes
    ----------
    name : str
    size, mtime_ns : int
        Bytes read, and when the file was last changed.
    stamp : str
        All that is compared to tell that it is the same: see `zeromean.sources.Entry`.
    sha256 : bytes
        Of its content; empty where it was not hashed.
    items : int
        Pictures, recordings or rows in it.
    kind, decoder : str
        As in `zeromean.sources.Item`.
    notes : str
        JSON list.
    reason : str
        Why it was skipped; empty when it was measured.
    numbers : str
        JSON: count, Σx, Σx², low and high of each feature, for lists of files; empty where they
        are too many, and for pictures of bytes, whose state is as quickly read.
    state : bytes or None
        What `zeromean.ledger.states` makes of its statistics; None when skipped, or when it is in
        the sum of a shard.
    shard : int or None
        That sum, by its number.
    """

    name: str
    size: int
    mtime_ns: int
    stamp: str
    sha256: bytes
    items: int
    kind: str
    decoder: str
    notes: str
    reason: str
    numbers: str
    state: bytes | None = None
    shard: int | None = None

    @property
    def check(self) -> int:
        """A checksum of all but the state, which has its own."""
        return zlib.crc32(repr(tuple(self[:-2])).encode("utf-8", "surrogatepass"))


def stamp_text(stamp: tuple[int, ...]) -> str:
    """A stamp as it is compared."""
    return " ".join(map(str, stamp))


@dataclass(frozen=True, slots=True)
class Keep:
    """`Plan.keep`: makes the row of a file; picklable.

    Attributes
    ----------
    every : bool
        Keep the state of every file, however large: groups are made of them.
    """

    every: bool = False
    counts: ClassVar[int] = 32  # features of a picture of bytes up to which its counts will do

    def alone(self, features: int) -> bool:
        """Whether files with so many features are measured by themselves."""
        return self.every or features <= _MANY

    def __call__(self, item: Item, part: Partial | None) -> Row | None:
        """The row of a file; None for a failure that may pass.

        Parameters
        ----------
        item : Item
            Its last part.
        part : Partial or None
            What it gave, if it was measured by itself.
        """
        if item.passing or (item.array is None and not item.stamp):
            return None
        state = None
        numbers = ""
        if item.array is not None and part is not None:
            state = encode(part)
            state = state if self.every or len(state) <= _LARGEST_STATE else None
            numbers = numbers_of(part)
        return self._row(item, numbers, state)

    def picture(self, item: Item, counts: npt.NDArray[np.int64], shape: tuple[int, ...]) -> Row:
        """The row of a picture of bytes: its counts say all of it.

        Parameters
        ----------
        item : Item
        counts : ndarray of int64, (n_features, 256)
        shape : tuple of int
            The kept one.
        """
        return self._row(item, "", encode_picture(counts, shape))

    def _row(self, item: Item, numbers: str, state: bytes | None) -> Row:
        return Row(
            item.name,
            item.n_bytes,
            item.stamp[1] if len(item.stamp) > 1 else 0,
            _settled(item.stamp),
            item.digest.to_bytes(32, "big") if item.digest else b"",
            item.count,
            item.kind,
            _versioned(item.decoder),
            json.dumps(item.notes) if item.notes else "[]",
            item.reason,
            numbers,
            state,
        )


def _settled(stamp: tuple[int, ...]) -> str:
    """A stamp to be compared; one that never fits when the file was changed just now.

    A second change within the same tick of the file system's clock would leave no trace (the "racy
    git" problem), so the file is read again the next time, and compared by content.
    """
    now, changed = time.time_ns(), max(stamp[1:3], default=0)
    tick = _COARSE if changed % 1_000_000_000 == 0 else _TICK
    return stamp_text(stamp) + (" unsettled" if now - changed < tick else "")


@cache
def _versioned(decoder: str) -> str:
    """A decoder with its version: rows of years may lie side by side."""
    if " " in decoder:  # it has told
        return decoder
    from zeromean.sources.decode import decoder_version

    return f"{decoder} {decoder_version(decoder)}" if decoder else ""


def numbers_of(part: Partial) -> str:
    """Count, sums and extrema of each feature as JSON; empty where they are too many."""
    if int(np.prod(part.kept_shape)) > _FEW:
        return ""
    statistics = part.statistics
    sums = statistics.power_sums
    ends = part.extrema if part.extrema is not None else statistics.extrema
    return json.dumps(
        [
            sums.n.tolist(),
            [_float(v, sums.exponent) for v in sums.sums.tolist()],
            [_float(v, 2 * sums.exponent) for v in sums.squares.tolist()],
            ends.low.tolist(),
            ends.high.tolist(),
        ]
    )


def _float(value: int, exponent: int) -> float:
    """An integer times a power of two, to some 15 digits; infinite where no float is so large."""
    shift = max(0, value.bit_length() - 62)
    try:
        return math.ldexp(value >> shift, shift + exponent)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
