"""Encoded pictures in rows of tables: bytes, or the path of a file, until they are decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from zeromean.sources import Item
from zeromean.sources.access import is_remote, opened
from zeromean.sources.decode import DecodeError, Scratch, from_pil
from zeromean.sources.images import ImageReader, picture
from zeromean.sources.walk import printable, why_unreadable

NOTHING = "no image"
SHARD_ROWS = 64
SHARD_BYTES = 16 << 20
SMALL_PICTURE = 20_000  # bytes: below, two threads on one interpreter are slower than one


@dataclass(frozen=True, slots=True)
class Encoded:
    """One picture before it is decoded; picklable.

    Attributes
    ----------
    name : str
        Of the row.
    data : bytes or None
        Of the image file.
    image : PIL.Image.Image, optional
        Instead of them, where nobody has kept the file.
    path : str
        What the file was called; where it lies if there are no bytes.
    reason : str
        Why there is no picture at all.
    passing : bool
        Whether that may be gone the next time.
    stamp : tuple of int
        As in `zeromean.sources.Item`.
    group : str or int, optional
    """

    name: str
    data: bytes | None = None
    path: str = ""
    reason: str = ""
    passing: bool = False
    stamp: tuple[int, ...] = ()
    group: Any = None
    image: Any = None

    @property
    def size(self) -> int:
        """About its bytes in memory."""
        if self.image is not None:
            width, height = self.image.size
            return int(width * height * 3)
        return len(self.data or b"")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How encoded pictures become items; picklable.

    Attributes
    ----------
    reader : ImageReader
        With the colors and the group that are wanted.
    folder : str or None
        Where paths begin, and which they must not leave; None for paths of this machine, as data
        sets in memory have.
    """

    reader: ImageReader
    folder: str | None = None

    def item(self, encoded: Encoded, memory: Scratch | None = None) -> Item:
        """The picture, or the reason why there is none."""
        if encoded.reason:
            return Item(
                None,
                encoded.name,
                encoded.reason,
                stamp=encoded.stamp,
                passing=encoded.passing,
                group=encoded.group,
            )
        if encoded.image is not None:
            return self._from_pil(encoded)
        if encoded.data is None:
            return self._from_file(encoded, memory)
        digest = int.from_bytes(hashlib.sha256(encoded.data).digest(), "big")
        return self._decoded(encoded, encoded.data, digest, encoded.stamp, memory)

    def _decoded(
        self,
        encoded: Encoded,
        data: bytes,
        digest: int,
        stamp: tuple[int, ...],
        memory: Scratch | None,
    ) -> Item:
        known: dict[str, Any] = {
            "n_bytes": len(data),
            "digest": digest,
            "stamp": stamp,
            "group": encoded.group,
        }
        colors, group = self.reader.colors, self.reader.group
        try:
            # By the name of the file, as in a folder; by that of the row it would have no suffix.
            item = picture(data, encoded.path or encoded.name, colors, group, memory)
        except DecodeError as error:
            return Item(None, encoded.name, str(error), **known)
        return replace(item, name=encoded.name, **known)

    def _from_pil(self, encoded: Encoded) -> Item:
        name, group = encoded.name, encoded.group
        try:
            decoded = from_pil(encoded.image, self.reader.colors)
        except DecodeError as error:
            return Item(None, name, str(error), group=group)
        pixels, kind = decoded.pixels, f"{decoded.mode} {decoded.pixels.dtype}"
        if (wanted := self.reader.group) and wanted not in (kind, decoded.mode):
            return Item(None, name, f"{kind}, not the chosen group {wanted}", group=group)
        known: dict[str, Any] = {"notes": decoded.notes, "n_bytes": pixels.nbytes, "group": group}
        return Item(pixels, name, kind=kind, decoder=decoded.decoder, **known)

    def _from_file(self, encoded: Encoded, memory: Scratch | None) -> Item:
        """A picture that lies beside the table.

        It has no stamp: that of the table does not tell whether it has changed.
        """
        try:
            path = self._place(encoded.path)
            with opened(path, encoded.name) as file:
                data = file.data()
                return self._decoded(encoded, data, file.digest, (), memory)
        except DecodeError as error:
            return Item(None, encoded.name, str(error), group=encoded.group)
        except (OSError, MemoryError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else why_unreadable(error)
            reason = f"{printable(encoded.path)}: {reason}"
            return Item(None, encoded.name, reason, group=encoded.group, passing=True)

    def _place(self, path: str) -> str:
        """Where a path leads.

        Raises
        ------
        DecodeError
            When that is outside of the folder, or nowhere.
        """
        if self.folder is None:
            return path
        only = f"no image but the path {printable(path)}, which"
        outside = DecodeError(f"{only} lies outside of the folder of the table")
        if is_remote(self.folder):
            parts = path.split("/")
            if is_remote(path) or path.startswith("/") or ".." in parts:
                raise outside
            return f"{self.folder}/{path}"
        folder = os.path.realpath(self.folder)
        place = os.path.realpath(os.path.join(folder, path))
        if is_remote(path) or os.path.commonpath([folder, place]) != folder:
            raise outside
        if not os.path.exists(place):
            raise DecodeError(f"{only} does not exist")
        return place

    def items(self, rows: Iterable[Encoded], memory: Scratch | None) -> Iterator[Item]:
        """One after the other."""
        return (self.item(row, memory) for row in rows)


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """Encoded pictures in memory; picklable.

    Attributes
    ----------
    rows : tuple of Encoded
    decoding : Decoding
    """

    rows: tuple[Encoded, ...]
    decoding: Decoding

    @property
    def n_items(self) -> int:
        """How many rows."""
        return len(self.rows)

    def items(self) -> Iterator[Item]:
        """Decode them in order."""
        return self.decoding.items(self.rows, None)

    def passing_items(self) -> Iterator[Item]:
        """`items`, but each array may be written over when the next item is asked for."""
        return self.decoding.items(self.rows, self.decoding.reader.scratch())

    def split(self) -> Iterator[EncodedShard]:
        """Shards of one picture each."""
        return (EncodedShard((row,), self.decoding) for row in self.rows)


def in_shards(rows: Iterable[Encoded], decoding: Decoding) -> Iterator[EncodedShard]:
    """Cut encoded pictures into shards of 64, or of 16 MB.

    Parameters
    ----------
    rows : iterable of Encoded
        Read as shards are asked for.
    decoding : Decoding
    """
    held: list[Encoded] = []
    size = 0
    for row in rows:
        held.append(row)
        size += row.size
        if len(held) == SHARD_ROWS or size >= SHARD_BYTES:
            yield EncodedShard(tuple(held), decoding)
            held, size = [], 0
    if held:
        yield EncodedShard(tuple(held), decoding)
