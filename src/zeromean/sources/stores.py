"""Remote stores through fsspec, which is known here alone: URLs, first bytes, patterns, stamps.

A URL may be a chain, such as ``zip://train::s3://bucket/pictures.zip``: a folder inside an archive
inside a store.
"""

from __future__ import annotations

import calendar
import hashlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from zeromean.errors import SourceError
from zeromean.sources.access import INSIDE, Address, ReadError, address_of, shown

_HEAD = 2048
AT_ONCE = 16  # requests under way, where each waits for an answer
_FOLDERS = 50  # that are looked into to tell what a folder is of
_CHAINS_HELD = 16  # archives that stay open
#: Protocols whose file systems hold one connection or one open file that threads cannot share.
_SINGLE = INSIDE | {"ftp", "git"}
#: What the file systems need that fsspec brings itself.
_PACKAGES = {
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("hdfs", "arrow_hdfs"), "pyarrow"),
    **dict.fromkeys(("github", "gist", "webhdfs", "dbfs", "jupyter", "jlab"), "requests"),
    "git": "pygit2",
    "libarchive": "libarchive-c",
    "smb": "smbprotocol",
}
_GONE = "vanished before it was read"
_TIMES = (
    "LastModified last_modified mtime modified updated timeModified Last-Modified "
    "modificationTime created date_time"
).split()
_TAGS = "ETag etag md5Hash crc32c sha256 blob_id checksum Content-MD5 Digest CRC generation".split()


# ---------------------------------------------------------------- stores


@dataclass(frozen=True, slots=True)
class Store:
    """A file system, and what keeps threads apart where they cannot share it."""

    fs: Any
    guard: Any
    single: bool


_CHAINS: dict[tuple[int, str], Store] = {}
_GUARDS: dict[tuple[int, str], Any] = {}
_MAKING = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child may be born while another thread holds it
    os.register_at_fork(after_in_child=lambda: globals().update(_MAKING=threading.RLock()))


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise ImportError('URLs need fsspec: pip install "zeromean[remote]"') from None
    return fsspec


def _class_of(protocol: str) -> Any:
    """The file system of a protocol.

    Raises
    ------
    ImportError
        When its package is not installed, with what to install.
    SourceError
        When fsspec knows no such protocol.
    """
    _fsspec()
    from fsspec.registry import get_filesystem_class, known_implementations

    try:
        return get_filesystem_class(protocol)
    except ValueError:
        raise SourceError(
            f"{protocol}:// is no protocol that fsspec knows, such as s3, gs, az, hf, https, sftp"
        ) from None
    except ImportError as error:
        home = known_implementations.get(protocol, {}).get("class", "").split(".")[0]
        home = _PACKAGES.get(protocol, home)
        if home in ("", "fsspec"):
            raise ImportError(f"{protocol}:// needs another package: {error}") from None
        raise ImportError(
            f'{protocol}:// needs {home}: pip install "zeromean[remote]" {home}'
        ) from None


def _store_of(address: Address) -> Store:
    """The file system of a URL; one for each archive and process, which fsspec would make anew."""
    url = address.store_url()
    key = (os.getpid(), url)
    chain = address.lead or address.tail
    if chain and (known := _CHAINS.get(key)) is not None:
        return known
    _class_of(address.protocol)
    with _MAKING if chain else nullcontext():
        if chain and (known := _CHAINS.get(key)) is not None:
            return known
        with plainly("open", url):
            fs, _ = _fsspec().url_to_fs(url)
            if chain:
                fs.isdir("")  # an archive reads its list of files now, while nobody else looks
        single = bool(_SINGLE & address.protocols())
        guard = _GUARDS.setdefault(key, threading.RLock()) if single else nullcontext()
        store = Store(fs, guard, single)
        if chain:
            if len(_CHAINS) >= _CHAINS_HELD:
                _CHAINS.pop(next(iter(_CHAINS)))
            _CHAINS[key] = store
        return store


def locate(url: str) -> tuple[Store, str]:
    """Store and path of a URL."""
    address = address_of(url)
    store = _store_of(address)
    return store, _class_of(address.protocol)._strip_protocol(address.first)


@contextmanager
def plainly(doing: str, url: str) -> Iterator[None]:
    """Whatever a store raises, as a sentence with the URL."""
    try:
        yield
    except (ImportError, MemoryError, SourceError):
        raise
    except FileNotFoundError:
        silent = ", or no answer" if url.startswith("http") else ""  # fsspec does not tell which
        raise SourceError(f"no such folder or file{silent}: {shown(url)}") from None
    except Exception as error:  # botocore, aiohttp, google, zipfile: each has a tree of its own
        raise SourceError(f"cannot {doing} {shown(url)}: {why(error)}") from None


def why(error: BaseException) -> str:
    """What went wrong, in a few words and without what must not be written down."""
    if isinstance(error, FileNotFoundError):
        return _GONE
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, TimeoutError):
        return "the store does not answer in time"
    said = shown(str(error).strip().partition("\n")[0])
    name = type(error).__name__
    return f"{said[:200]} ({name})" if said else name


# ---------------------------------------------------------------- one URL


def head_of(url: str) -> bytes | None:
    """The first bytes of a file, None for a folder.

    Parameters
    ----------
    url : str

    Raises
    ------
    SourceError
        When there is nothing, or the store does not answer.
    ImportError
        When the protocol needs a package that is not there.
    """
    store, path = locate(url)
    with plainly("read", url), store.guard:
        info = info_of(store, url, path)
        if is_folder(info):
            return None
        if info.get("size") == 0:
            return b""
        return bytes(store.fs.cat_file(path, 0, _HEAD)[:_HEAD])


def size_of(url: str) -> int:
    """Size of a file in bytes, -1 where the store does not say.

    Parameters
    ----------
    url : str
    """
    store, path = locate(url)
    with plainly("read", url), store.guard:
        return stamp_in(info_of(store, url, path))[0]


def info_of(store: Store, url: str, path: str) -> dict[str, Any]:
    """What the store says of a file or folder."""
    if url.startswith(("http://", "https://")) and url.endswith("/"):
        return {"type": "directory"}  # a page of links; only the URL says so
    info: dict[str, Any] = store.fs.info(path)
    return info


def is_folder(info: dict[str, Any]) -> bool:
    """Whether it says that this is one."""
    return info.get("type") == "directory"


def finds_at_once(fs: Any) -> bool:
    """Whether a file system has a better way of its own to list everything below a folder."""
    from fsspec import AbstractFileSystem

    return not fs.async_impl and type(fs).find is not AbstractFileSystem.find


def names_below(url: str) -> Iterator[str]:
    """Names of files below a folder, relative to it, folder after folder; of very many, the first.

    Parameters
    ----------
    url : str
    """
    store, path = locate(url)
    with plainly("list", url):
        if finds_at_once(store.fs):
            with store.guard:
                names = sorted(store.fs.find(path))
            yield from (relative_to(name, path.rstrip("/")) for name in names)
            return
        waiting = [path]
        for _ in range(_FOLDERS):
            if not waiting:
                return
            folder = waiting.pop()
            try:
                with store.guard:
                    infos = store.fs.ls(folder, detail=True)
            except Exception:
                if folder == path:
                    raise
                continue  # whoever reads it all says so
            inside = sorted(info["name"].rstrip("/") for info in infos if is_folder(info))
            waiting += reversed([name for name in inside if relative_to(name, path)])
            names = sorted(info["name"] for info in infos if not is_folder(info))
            yield from (relative_to(name, path.rstrip("/")) for name in names)


def is_pattern(url: str) -> bool:
    """Whether a URL is a pattern of files; of a web page, ``?`` begins the query.

    Parameters
    ----------
    url : str
    """
    wild = "*" if url.startswith(("http://", "https://")) else "*?["
    return any(sign in url for sign in wild)


def globbed(url: str) -> list[str]:
    """The URLs that fit a pattern, sorted.

    Parameters
    ----------
    url : str
        With ``*``, ``?``, ``[...]``, and ``**`` for folders below.
    """
    address = address_of(url)
    store, path = locate(url)
    head = re.split(r"[*?\[]", address.first, maxsplit=1)[0]
    base = address.first[: head.rfind("/") + 1]
    with plainly("list", url), store.guard:
        names = store.fs.glob(path)
    above = _class_of(address.protocol)._strip_protocol(base).rstrip("/")
    belows = (relative_to(name, above) for name in names)
    return sorted(f"{address.lead}{base}{below}{address.tail}" for below in belows if below)


def relative_to(name: str, above: str) -> str:
    """A path relative to a folder; empty when it is not below it."""
    name = name.rstrip("/")
    if not above:
        return name.lstrip("/")
    return name[len(above) + 1 :] if name.startswith(above + "/") else ""


# ---------------------------------------------------------------- stamps

NOT_ASKED = (-1, 0, 0)


def stamp_in(info: dict[str, Any]) -> tuple[int, int, int]:
    """Size, time of change, and a number made from the tag or checksum: what the store tells."""
    size = info.get("size")
    time = next((t for key in _TIMES if (t := _nanoseconds(info.get(key)))), 0)
    tag = next((info[key] for key in _TAGS if info.get(key)), None)
    # 53 bits: as a time it would be long ago, so that nobody takes it for a change just now.
    number = 0 if tag is None else int(hashlib.sha256(str(tag).encode()).hexdigest()[:13], 16)
    return -1 if size is None else int(size), time, number


def _nanoseconds(moment: Any) -> int:
    """A moment as any store spells it; 0 for none."""
    try:
        if isinstance(moment, str):
            iso = moment[:4].isdigit()
            moment = datetime.fromisoformat(moment) if iso else parsedate_to_datetime(moment)
        if isinstance(moment, datetime):
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if isinstance(moment, tuple):
            moment = calendar.timegm(moment)
        return int(moment * 1_000_000_000) if isinstance(moment, int | float) else 0
    except (ValueError, OverflowError, TypeError):
        return 0


def stamps_of(urls: Sequence[str]) -> list[tuple[int, ...]]:
    """The stamps of files, several looked at at once; empty for what cannot be looked at.

    Parameters
    ----------
    urls : sequence of str
    """

    def look(url: str) -> tuple[int, ...]:
        store, path = locate(url)
        try:
            with store.guard:
                return stamp_in(store.fs.info(path))
        except Exception:  # reading it says what is wrong
            return ()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(look, urls))


def differ(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether two stamps are of different content, as far as the store says so."""
    if min(first[0], second[0]) >= 0 and first[0] != second[0]:
        return True
    by = 2 if first[2] and second[2] else 1  # of times, stores give more digits here than there
    return bool(first[by] and second[by]) and first[by] != second[by]


def looked_at(store: Store, path: str, gone: str = _GONE) -> tuple[int, int, int]:
    """The stamp of a file as it is now.

    Raises
    ------
    ReadError
        When it cannot be looked at.
    """
    try:
        with store.guard:
            store.fs.invalidate_cache(path)
            return stamp_in(store.fs.info(path))
    except (ImportError, MemoryError):
        raise
    except FileNotFoundError:
        raise ReadError(gone) from None
    except Exception as error:
        raise ReadError(why(error)) from None


def fetched(store: Store, paths: list[str]) -> list[Any]:
    """Content of files, or what went wrong; all are asked for at once where the store can."""
    nothing: list[None] = [None] * len(paths)
    held: list[Any] = store.fs.cat_ranges(paths, nothing, nothing, on_error="return")
    return held
