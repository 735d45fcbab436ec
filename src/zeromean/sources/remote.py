"""Remote stores: what is below a folder, in the order of local ones; and all else from here."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from zeromean.errors import SourceError
from zeromean.sources.access import address_of, shown
from zeromean.sources.remote_read import Ahead, opened_remote
from zeromean.sources.stores import (
    AT_ONCE,
    NOT_ASKED,
    Store,
    finds_at_once,
    globbed,
    head_of,
    info_of,
    is_folder,
    locate,
    names_below,
    plainly,
    relative_to,
    size_of,
    stamp_in,
    stamps_of,
    why,
)
from zeromean.sources.walk import (
    Listed,
    Root,
    hidden,
    labels_of,
    nothing_found,
    printable,
    suffix_of,
)

__all__ = [
    "Ahead",
    "globbed",
    "head_of",
    "names_below",
    "opened_remote",
    "size_of",
    "stamps_of",
    "walk_remote",
]


def walk_remote(
    urls: Sequence[str], extensions: frozenset[str], labels: Sequence[str] | None = None
) -> list[Root]:
    """What is below each URL, with the stamps that the listing gives.

    As `zeromean.sources.walk.walk`: the same order, the same files passed over. Of several URLs,
    those with one of the extensions are taken for files without asking.

    Parameters
    ----------
    urls : sequence of str
    extensions : frozenset of str
        Of the files to read in folders.
    labels : sequence of str, optional
        What stands for each URL in names, when other things are given along with these.

    Raises
    ------
    SourceError
        When there is nothing at a URL, or a store cannot be listed.
    """
    roots: list[Root] = []
    files = _Urls("", "", remote=True)
    mixed = labels is not None
    if len(urls) > 1 and labels is None:
        labels = labels_of([shown(url) for url in urls])
    for i, url in enumerate(urls):
        if len(urls) > 1 and suffix_of(address_of(url).path) in extensions:
            files.files.append(url)
            files.stamps.extend(NOT_ASKED)
            continue
        store, path = locate(url)
        with plainly("open", url), store.guard:
            info = info_of(store, url, path)
        if is_folder(info):
            roots.append(_folder(url, labels[i] if labels else "", extensions, roots))
        else:
            files.files.append(url)
            files.stamps.extend(stamp_in(info))
    if roots and files.files:
        files.leave_out(roots, extensions)
    if files.files:
        files.call(dict(zip(urls, labels, strict=True)) if labels and (roots or mixed) else None)
    return [*roots, files] if files.files or files.repeated else roots


@dataclass(slots=True, eq=False)
class _Urls(Listed):
    """Files that were named one by one by their URLs.

    Attributes
    ----------
    tail : str
        That all of them share, and their names leave out.
    """

    def leave_out(self, roots: Sequence[Root], extensions: frozenset[str]) -> None:
        """Leave out what is in one of the folders too."""
        again = [_walked(url, roots, extensions) for url in self.files]
        kept = [i for i, known in enumerate(again) if not known]
        if len(kept) < len(again):
            self.repeated = shown(self.files[again.index(True)])
        stamps = self.stamps
        self.files = [self.files[i] for i in kept]
        self.stamps = array("q", (stamps[3 * i + k] for i in kept for k in range(3)))

    def call(self, labels: Mapping[str, str] | None) -> None:
        """Find what tells the files apart: labels, or what follows the folder they share."""
        tails = {address_of(url).tail for url in self.files}
        self.tail = tails.pop() if len(tails) == 1 else ""
        names = [self._plain(url) for url in self.files]
        shared = os.path.commonprefix(names)  # noqa: RUF071 (of URLs, in which "//" has a meaning)
        self.common = shared.rpartition("/")[0]
        count = Counter(names)
        if labels is None and len(count) == len(names):
            return
        for url, name in zip(self.files, names, strict=True):
            called = labels[url] if labels else self._short(name)
            twice = count[name] > 1  # they differ in what must not be written down
            self.names[url] = f"{called}?{_short_digest(url)}" if twice else called

    def _plain(self, url: str) -> str:
        return shown(url.removesuffix(self.tail))

    def _short(self, plain: str) -> str:
        return plain[len(self.common) :].lstrip("/")

    def name(self, below: str) -> str:
        """What tells a file from the others."""
        named = self.names.get(below)
        return printable(self._short(self._plain(below)) if named is None else named)


def _walked(url: str, roots: Sequence[Root], extensions: frozenset[str]) -> bool:
    """Whether a file is in one of the folders."""
    address = address_of(url)
    own = address.lead + address.first
    for root in roots:
        above = root.path.rstrip("/") + "/"
        if own.startswith(above) and address.tail == root.tail:
            below = own[len(above) :]
            if suffix_of(below) in extensions and not any(map(hidden, below.split("/"))):
                return True
    return False


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(slots=True)
class _Folder:
    """Names and stamps of the files of one folder."""

    names: list[str] = field(default_factory=list)
    stamps: array[int] = field(default_factory=lambda: array("q"))


def _folder(url: str, label: str, extensions: frozenset[str], earlier: Sequence[Root]) -> Root:
    """Everything below a folder, in the order of a local one."""
    address = address_of(url)
    store, path = locate(url)
    root = Root(address.lead + address.first, label, remote=True, tail=address.tail)
    folders: dict[str, _Folder] = {}
    with plainly("list", url):
        for info in _listing(store, path, root):
            _note(folders, root, info, path)
    taken = _Taken(root, earlier)
    for below in sorted(folders, key=lambda below: below.split("/") if below else []):
        held = folders.pop(below)
        found = False
        for i in sorted(range(len(held.names)), key=held.names.__getitem__):
            inside = f"{below}/{held.names[i]}" if below else held.names[i]
            if inside in taken:
                continue
            reason = "has '::' in its name, which no URL can hold" if "::" in inside else ""
            if root.take(inside, extensions, reason):
                root.stamps.extend(held.stamps[3 * i : 3 * i + 3])
                found = True
        if found:
            root.note_leak(below)
    if not root.files and not root.repeated:
        raise SourceError(nothing_found(root, extensions))
    return root


class _Taken:
    """Which files of a folder are in one of the folders before it."""

    def __init__(self, root: Root, earlier: Sequence[Root]) -> None:
        self.below: list[str] = []
        own = root.path.rstrip("/") + "/"
        for other in earlier:
            theirs = other.path.rstrip("/") + "/"
            if other.tail != root.tail:
                continue
            if own.startswith(theirs):
                self.below.append("")
                root.repeated = shown(root.place(""))
            elif theirs.startswith(own):
                self.below.append(theirs[len(own) :])

    def __contains__(self, inside: str) -> bool:
        return any(inside.startswith(below) for below in self.below)


def _note(folders: dict[str, _Folder], root: Root, info: dict[str, Any], path: str) -> None:
    below = relative_to(info["name"], path.rstrip("/"))
    if not below or is_folder(info) or any(map(hidden, below.split("/"))):
        return
    folder, _, name = below.rpartition("/")
    held = folders.setdefault(folder, _Folder())
    held.names.append(name)
    held.stamps.extend(stamp_in(info))


def _listing(store: Store, path: str, root: Root) -> Iterator[dict[str, Any]]:
    """All files below a folder; its sub-folders are listed several at once.

    fsspec's own `find` leaves out folders that cannot be listed without a word, and holds
    everything at once; only file systems that have a better one of their own are asked for it.
    """
    fs = store.fs
    if finds_at_once(fs):
        with store.guard:
            yield from fs.find(path, detail=True).values()
        return
    waiting, seen = [path], {path}
    with ThreadPoolExecutor(1 if store.single else AT_ONCE) as pool:
        running: dict[Any, str] = {}
        while waiting or running:
            while waiting and len(running) < 2 * AT_ONCE:
                folder = waiting.pop()
                running[pool.submit(_list, fs, folder)] = folder
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                folder = running.pop(future)
                try:
                    infos = future.result()
                except Exception as error:
                    if folder == path:
                        raise
                    root.problems.append((root.name(relative_to(folder, path)), why(error)))
                    continue
                for info in infos:
                    name = info["name"].rstrip("/")
                    if not is_folder(info):
                        yield info
                    elif name not in seen and not hidden(name.rpartition("/")[2]):
                        seen.add(name)
                        waiting.append(name)
    root.problems.sort()


def _list(fs: Any, folder: str) -> list[dict[str, Any]]:
    infos: list[dict[str, Any]] = fs.ls(folder, detail=True)
    fs.invalidate_cache(folder)  # else millions are held, and no change is ever seen
    return infos
