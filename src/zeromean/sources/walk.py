"""Lists the files to read, below folders and named one by one, and says what else is there."""

from __future__ import annotations

import difflib
import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from zeromean.errors import SourceError
from zeromean.sources import sniff

# torchvision's IMG_EXTENSIONS, so that a folder means the same files to both.
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

_OTHER_PICTURES = frozenset(
    suffix for suffixes in sniff.SUFFIXES.values() for suffix in suffixes
) | frozenset(
    ".heic .heif .svg .svgz .eps .dds .exr .hdr .jxl .icns .cur .xbm .xpm .fits .raw .dng .cr2 .cr3"
    " .nef .arw .orf .rw2 .raf .dcm .wdp .jxr .fli .flc .im .msp .pcd .ras .wmf .emf".split()
)
_LEAKS = frozenset(("val", "valid", "validation", "test", "testing"))
_CLUTTER = frozenset(("__MACOSX", "Thumbs.db", "desktop.ini"))


@dataclass(slots=True, eq=False)
class Root:
    """What was found under one given path.

    Attributes
    ----------
    path : str
        As it was given.
    label : str
        What stands for it in the names of its files; empty for a single folder.
    files : list of str
        Paths below it of the files to read; a single empty one when it is a file itself.
    refused : dict of str to str
        Which of them must not be opened, and why.
    problems : list of (str, str)
        Folders that could not be listed, and why.
    left_out, ignored : Counter
        Other pictures, and files that are none, by extension.
    leaks : list of str
        Sub-folders that are for validation or test.
    repeated : str
        What in it was found before, and is not read again; empty for nothing.
    remote : bool
        Whether the path is a URL.
    tail : str
        What comes after the path of a file in a chain of URLs, such as ``"::s3://bucket/a.zip"``.
    stamps : array of int
        Of remote files, three numbers each, in the order of `files`: see `zeromean.sources.Entry`.
        The size is -1 where the store did not say.
    """

    path: str
    label: str
    files: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    repeated: str = ""
    remote: bool = False
    tail: str = ""
    stamps: array[int] = field(default_factory=lambda: array("q"))

    def name(self, below: str) -> str:
        """Name a file in messages and in saved records, always encodable."""
        return printable("/".join(part for part in (self.label, below) if part))

    def place(self, below: str) -> str:
        """Where a file is: its path or URL."""
        if not self.remote:
            return os.path.join(self.path, below) if below else self.path
        between = "/" if below and not self.path.endswith("/") else ""
        return f"{self.path}{between}{below}{self.tail}"

    def take(self, below: str, extensions: frozenset[str], reason: str = "") -> bool:
        """Whether a file is one to read; counts it where it belongs."""
        suffix = suffix_of(below)
        if suffix in extensions:
            self.files.append(below)
            if reason:
                self.refused[below] = reason
            return True
        if suffix in _OTHER_PICTURES or suffix in IMAGE_EXTENSIONS:
            self.left_out[suffix] += 1
        else:
            self.ignored[suffix] += 1
        return False

    def note_leak(self, folder: str) -> None:
        """Note when a folder that holds files to read says it is for validation or test."""
        if (leak := _leak(folder)) and leak not in self.leaks:
            self.leaks.append(leak)


@dataclass(slots=True, eq=False)
class Listed(Root):
    """Files that were named one by one; `files` has their paths as they were given.

    Attributes
    ----------
    common : str
        The folder that all of them are in, which their names leave out.
    names : dict of str to str
        What they are called instead, where other things were given along with them.
    """

    common: str = ""
    names: dict[str, str] = field(default_factory=dict)

    def name(self, below: str) -> str:
        """What tells a file from the others."""
        named = self.names.get(below)
        if named is None:
            named = os.path.normpath(below)
            if self.common:
                named = named.removeprefix(self.common).lstrip(os.sep)
        return printable(named)

    def place(self, below: str) -> str:
        """Its path."""
        return below


def printable(name: str) -> str:
    """Write out the bytes of a file name that are not UTF-8, which no JSON could hold."""
    if os.sep != "/":
        name = name.replace(os.sep, "/")
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


def why_unreadable(error: OSError | MemoryError) -> str:
    """Say in a few words, without the path, why a file or folder could not be opened."""
    if isinstance(error, SourceError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "vanished before it was read"
    if isinstance(error, MemoryError):
        return "takes more memory to read than there is"
    return (error.strerror or type(error).__name__).lower()


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def what_it_is(mode: int) -> str:
    """Name what is no regular file."""
    name = next((name for test, name in _KINDS if test(mode)), "something special")
    return f"{name}, not a file"


def walk(
    paths: Sequence[str], extensions: frozenset[str], labels: Sequence[str] | None = None
) -> list[Root]:
    """Look at every given path: one `Root` for each folder, and one for all files together.

    Folders come first, so that a file in one of them that is named as well is read once. Where
    files are given, those of them that are missing are skipped by name; a missing folder, and a
    file that is the only one, are errors.

    Parameters
    ----------
    paths : sequence of str
    extensions : frozenset of str
        Of the files to read in folders.
    labels : sequence of str, optional
        What stands for each path in names, when other things are given along with these.

    Raises
    ------
    SourceError
        A path does not exist, cannot be opened, or is a folder without images.
    """
    folders: list[int] = []
    named: list[int] = []
    keys: list[int] = []
    faults: dict[int, str] = {}
    first_fault: Exception | str = ""
    for i, path in enumerate(paths):
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            faults[i] = _short_reason(path, error)
            first_fault = first_fault or error
            continue
        if stat.S_ISDIR(status.st_mode):
            folders.append(i)
        elif stat.S_ISREG(status.st_mode):
            named.append(i)
            keys.append(_key(status))
        else:
            faults[i] = what_it_is(status.st_mode)
            first_fault = first_fault or faults[i]
    if faults and not named:
        raise SourceError(_why_not(paths[next(iter(faults))], first_fault))
    if folders and len(paths) > 1:
        labels = labels_of(paths) if labels is None else labels
    seen: set[int] = set()
    roots = [Root(paths[i], labels[i] if labels else "") for i in folders]
    for root in roots:
        _walk_folder(root, extensions, seen)
        if not root.files and not root.repeated:
            raise SourceError(nothing_found(root, extensions))
    if named:
        listed = _listed(paths, named, faults, labels)
        _take_files(listed, keys, extensions, seen)
        roots.append(listed)
    return roots


def _listed(
    paths: Sequence[str],
    named: list[int],
    faults: dict[int, str],
    labels: Sequence[str] | None,
) -> Listed:
    """The files that were named, with what they are called."""
    everything = sorted([*named, *faults]) if faults else named
    listed = Listed("", "", [paths[i] for i in everything])
    listed.refused = {paths[i]: reason for i, reason in faults.items()}
    if labels is not None:
        listed.names = {paths[i]: labels[i] for i in everything}
        return listed
    above = {os.path.dirname(os.path.normpath(path)) for path in listed.files}
    with suppress(ValueError):  # some begin at the root, others do not
        listed.common = os.path.commonpath(above)
    return listed


def _take_files(
    listed: Listed,
    keys: list[int],
    extensions: frozenset[str],
    seen: set[int],
) -> None:
    """Leave out the files that the walk has already, and what was named before."""
    known: dict[str, bool] = {}
    folders_were_walked = bool(seen)
    kept, again = [], []
    own = iter(keys)
    for path in listed.files:
        if path in listed.refused:
            kept.append(path)
            continue
        key = next(own)
        folder, name = os.path.split(path)
        if folders_were_walked and folder not in known:
            known[folder] = _key(os.stat(folder or os.curdir)) in seen
        walked = known.get(folder, False) and not hidden(name) and suffix_of(name) in extensions
        if key in seen or walked:
            again.append(path)
            continue
        seen.add(key)
        kept.append(path)
    listed.files = kept
    if again:
        listed.repeated = again[0] + (f" and {len(again) - 1:,} more" if len(again) > 1 else "")


def _short_reason(path: str, fault: Exception) -> str:
    """Why a file that was named among others is not read."""
    if isinstance(fault, FileNotFoundError | NotADirectoryError):
        return "a broken link" if os.path.islink(path) else "no such file"
    return why_unreadable(fault) if isinstance(fault, OSError) else f"no path: {fault}"


def _why_not(path: str, fault: Exception | str) -> str:
    """The sentence for a path that cannot be measured."""
    if isinstance(fault, str):
        return f"{path!r} is {fault} or a folder of images"
    if not isinstance(fault, OSError):
        return f"{path!r} is no path: {fault}"
    if os.path.islink(path):
        return f"{path!r} is a broken link to {os.readlink(path)!r}"
    if not isinstance(fault, FileNotFoundError | NotADirectoryError):
        return f"cannot open {path!r}: {why_unreadable(fault)}"
    return f"no such folder or file: {path!r}{_what_is_there(path)}"


def _what_is_there(path: str) -> str:
    """Say what the nearest existing folder holds instead, the closest names first."""
    parent = Path(os.path.abspath(path)).parent
    while not parent.is_dir():
        parent = parent.parent
    try:
        names = sorted(name for name in os.listdir(parent) if not name.startswith("."))
    except OSError:
        return ""
    near = difflib.get_close_matches(os.path.basename(os.path.normpath(path)), names)
    if near:
        return f"; did you mean {os.path.join(parent, near[0])!r}?"
    held = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; {str(parent)!r} holds {held or 'nothing'}"


def labels_of(paths: Sequence[str]) -> list[str]:
    """Name paths and URLs by their last part, or in full where that is not enough.

    Parameters
    ----------
    paths : sequence of str
    """
    short = [os.path.basename(os.path.abspath(path)) for path in paths]
    count = Counter(short)
    return [
        base if base and count[base] == 1 else path if "://" in path else os.path.normpath(path)
        for base, path in zip(short, paths, strict=True)
    ]


def _walk_folder(root: Root, extensions: frozenset[str], seen: set[int]) -> None:
    """Collect the files below a folder, depth first, each folder in order of names."""
    stack = [""]
    while stack:
        below = stack.pop()
        path = os.path.join(root.path, below) if below else root.path
        try:
            key = _key(os.stat(path))
            if key in seen:  # through a link that loops or doubles, or given twice
                root.repeated = root.repeated if below else root.path
                continue
            seen.add(key)
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not below:
                raise SourceError(f"cannot list {path!r}: {why_unreadable(error)}") from error
            root.problems.append((root.name(below), why_unreadable(error)))
            continue
        folders = _look_through(root, below, entries, extensions)
        stack.extend(reversed(folders))


def _look_through(
    root: Root, below: str, entries: list[os.DirEntry[str]], extensions: frozenset[str]
) -> list[str]:
    """Take the images of one folder; return its sub-folders."""
    folders, found = [], False
    for entry in entries:
        if hidden(entry.name):
            continue
        inside = os.path.join(below, entry.name)
        folder, reason = _sort_entry(entry)
        if folder:
            folders.append(inside)
        else:
            found = root.take(inside, extensions, reason) or found
    if found:
        root.note_leak(below)
    return folders


def _sort_entry(entry: os.DirEntry[str]) -> tuple[bool, str]:
    """Tell whether an entry is a folder, or why it cannot be read as a file."""
    try:
        if entry.is_file():
            return False, ""
        if entry.is_dir():
            return True, ""
        return False, what_it_is(entry.stat().st_mode)
    except FileNotFoundError:
        return False, "a broken link" if entry.is_symlink() else "vanished before it was read"
    except OSError as error:
        return False, why_unreadable(error)


def hidden(name: str) -> bool:
    """Whether a file or folder is passed over."""
    return name.startswith(".") or name in _CLUTTER


def _key(status: os.stat_result) -> int:
    return status.st_dev << 64 | status.st_ino  # one number: a list may name millions


def suffix_of(name: str) -> str:
    """The extension of a file's name, in small letters."""
    return os.path.splitext(name)[1].lower()


def _leak(below: str) -> str:
    """Name the topmost part of a path that says it is for validation or test."""
    parts = below.split(os.sep)
    for i, part in enumerate(parts):
        if part.lower() in _LEAKS:
            return os.sep.join(parts[: i + 1])
    return ""


def warnings_about(roots: list[Root]) -> Iterator[str]:
    """Say what was found that is probably not meant."""
    for root in roots:
        for leak in root.leaks:
            where = printable(root.place(leak))
            yield (
                f"{where} is inside the measured folder; "
                "statistics should come from training data only"
            )
        if root.repeated:
            yield f"{printable(root.repeated)} was given twice; it is read once"


def nothing_found(root: Root, extensions: frozenset[str]) -> str:
    """Say what a folder without images holds instead, and what to do."""
    text = f"{root.place('')!r} holds no image ({' '.join(sorted(extensions))})"
    found = root.left_out + root.ignored
    if found:
        kinds = [f"{n} {suffix or 'without extension'}" for suffix, n in found.most_common(5)]
        text += f", only {', '.join(kinds)}"
        if ".npy" in found or ".npz" in found:
            text += "; to measure arrays, name their files"
    elif not root.problems:
        text += " and no other file either"
    for name, reason in root.problems[:3]:
        text += f"; {name!r} could not be listed: {reason}"
    if root.left_out:
        suffix = root.left_out.most_common(1)[0][0]
        text += f"; read them with extensions=[{suffix!r}] (--ext {suffix})"
    return text
