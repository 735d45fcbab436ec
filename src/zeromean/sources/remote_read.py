"""Reads files of remote stores: small ones at once, several together; large ones in pieces."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from zeromean.sources.access import HeldFile, ReadError
from zeromean.sources.stores import Store, differ, fetched, locate, looked_at, why

_WHOLE = 16 << 20  # a file up to this is fetched by one request
_MISSING = "no such file"
_UNKNOWN = 4 << 20  # what a file of unknown size is taken for


class _Opened(io.RawIOBase):
    """A large file of a store, opened when it is first read."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path = store, path

    @cached_property
    def _file(self) -> Any:
        file = self._store.fs.open(self._path, "rb")
        # A file in memory is one for all who open it, with one place where it is read.
        return io.BytesIO(file.getvalue()) if isinstance(file, io.BytesIO) else file

    def _do(self, action: Callable[[Any], Any]) -> Any:
        try:
            with self._store.guard:
                return action(self._file)
        except (ImportError, MemoryError, ReadError):
            raise
        except Exception as error:
            raise ReadError(why(error)) from None

    def read(self, size: int | None = -1) -> bytes:
        return self._do(lambda file: bytes(file.read(-1 if size is None else size)))  # type: ignore[no-any-return]

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._do(lambda file: file.seek(offset, whence))
        return self.tell()

    def tell(self) -> int:
        return int(self._do(lambda file: file.tell()))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if "_file" in self.__dict__ and not self.closed:
            self._do(lambda file: file.close())
        super().close()


@contextmanager
def opened_remote(url: str, name: str, listed: tuple[int, ...] = ()) -> Iterator[HeldFile]:
    """Open a file for the time of a block.

    A small file is fetched by one request, which no change can come between. Of a large one the
    store is asked before and after whether it is the same.

    Parameters
    ----------
    url, name : str
    listed : tuple of int, optional
        Its stamp from a listing.

    Raises
    ------
    ReadError
        When it cannot be read, or has changed since it was listed.
    """
    store, path = locate(url)
    stamp = listed if listed and listed[0] >= 0 else looked_at(store, path, _MISSING)
    if stamp[0] > _WHOLE:
        file = _Opened(store, path)
        with file:
            yield HeldFile(url, name, file, stamp)  # type: ignore[arg-type]
            if differ(stamp, looked_at(store, path)):
                raise ReadError("changed while it was read")
        return
    with store.guard:
        (data,) = fetched(store, [path])
    with _held(url, name, data, stamp) as held:
        yield held


@contextmanager
def _held(url: str, name: str, data: Any, stamp: tuple[int, ...]) -> Iterator[HeldFile]:
    """A file whose content is here."""
    if isinstance(data, ImportError | MemoryError):
        raise data
    if isinstance(data, BaseException):
        never_seen = isinstance(data, FileNotFoundError) and (not stamp or stamp[0] < 0)
        raise ReadError(_MISSING if never_seen else why(data))
    if stamp and 0 <= stamp[0] != len(data):
        raise ReadError("changed since it was listed")
    yield HeldFile(url, name, io.BytesIO(data), (len(data), *stamp[1:]))


class Ahead:
    """Fetches the files of a shard, several at once where the store can do that.

    Parameters
    ----------
    files : sequence of (str, str, str)
        URL, name, and why it must not be opened.
    stamps : mapping of str to tuple of int
        By URL, from a listing; the size is -1 where it is not known.
    """

    def __init__(
        self, files: Sequence[tuple[str, str, str]], stamps: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.files, self.stamps = files, stamps
        self._data: dict[int, Any] = {}

    @contextmanager
    def opened(self, i: int) -> Iterator[HeldFile]:
        """Open one of them for the time of a block.

        Parameters
        ----------
        i : int
            They are asked for in order.
        """
        url, name, _ = self.files[i]
        stamp = self.stamps[url]
        if i not in self._data and stamp[0] <= _WHOLE:
            self._fetch(i)
        if i not in self._data:
            with opened_remote(url, name, stamp) as held:
                yield held
            return
        with _held(url, name, self._data.pop(i), stamp) as held:
            yield held

    def _fetch(self, begin: int) -> None:
        """A few from one store: together no more than a file that is fetched whole."""
        store, path = locate(self.files[begin][0])
        if not store.fs.async_impl:
            return
        chosen, paths, size = [begin], [path], self._weight(begin)
        for i in range(begin + 1, len(self.files)):
            size += self._weight(i)
            if size > _WHOLE:
                break
            if self.files[i][2] or self.files[i][0] not in self.stamps:
                continue
            other, path = locate(self.files[i][0])
            if other.fs is store.fs:
                chosen.append(i)
                paths.append(path)
        self._data = dict(zip(chosen, fetched(store, paths), strict=True))

    def _weight(self, i: int) -> int:
        known = self.stamps.get(self.files[i][0], (0,))[0]
        return _UNKNOWN if known < 0 else known
