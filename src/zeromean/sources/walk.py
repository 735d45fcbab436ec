"""Lists the image files below folders, and says what else is there."""

from __future__ import annotations

import difflib
import os
import stat
from collections import Counter
from collections.abc import Iterator
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
    repeated : bool
        Whether everything in it was found before.
    stamps : dict of str to tuple of int
        What is known of files without another look: of remote ones, from their listing.
    """

    path: str
    label: str
    files: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    repeated: bool = False
    stamps: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def name(self, below: str) -> str:
        """Name a file in messages and in saved records, always encodable."""
        return printable("/".join(part for part in (self.label, below) if part))


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


def walk(paths: list[str], extensions: frozenset[str]) -> list[Root]:
    """Look at every given path, one `Root` each.

    Folders come first, so that a file in one of them that is named as well is read once.

    Raises
    ------
    SourceError
        A path does not exist, cannot be opened, or is a folder without images.
    """
    status = [_status(path) for path in paths]
    roots = [Root(path, label) for path, label in zip(paths, _labels(paths), strict=True)]
    seen: set[tuple[int, int]] = set()
    files = []
    for root, found in zip(roots, status, strict=True):
        if not stat.S_ISDIR(found.st_mode):
            files.append((root, found))
            continue
        root.label = root.label if len(roots) > 1 else ""
        _walk_folder(root, extensions, seen)
        if not root.files and not root.repeated:
            raise SourceError(_nothing_found(root, extensions))
    for root, found in files:
        _take_file(root, found, extensions, seen)
    return roots


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        if os.path.islink(path):
            raise SourceError(f"{path!r} is a broken link to {os.readlink(path)!r}") from error
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise SourceError(f"cannot open {path!r}: {why_unreadable(error)}") from error
    raise SourceError(f"no such folder or file: {path!r}{_what_is_there(path)}")


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


def _labels(paths: list[str]) -> list[str]:
    """Name the given paths by their last part, or in full where that is not enough."""
    short = [os.path.basename(os.path.abspath(path)) for path in paths]
    count = Counter(short)
    return [
        base if base and count[base] == 1 else os.path.normpath(path)
        for base, path in zip(short, paths, strict=True)
    ]


def _take_file(
    root: Root, status: os.stat_result, extensions: frozenset[str], seen: set[tuple[int, int]]
) -> None:
    """Read a file that was named directly, unless the walk has it already."""
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{root.path!r} is {what_it_is(status.st_mode)} or a folder of images")
    folder, name = os.path.split(os.path.abspath(root.path))
    walked = _key(os.stat(folder)) in seen and not _hidden(name)
    root.repeated = _key(status) in seen or (walked and _suffix(name) in extensions)
    seen.add(_key(status))
    if not root.repeated:
        root.files.append("")


def _walk_folder(root: Root, extensions: frozenset[str], seen: set[tuple[int, int]]) -> None:
    """Collect the files below a folder, depth first, each folder in order of names."""
    stack = [""]
    while stack:
        below = stack.pop()
        path = os.path.join(root.path, below) if below else root.path
        try:
            key = _key(os.stat(path))
            if key in seen:  # through a link that loops or doubles, or given twice
                root.repeated = root.repeated or not below
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
    folders, n_before = [], len(root.files)
    for entry in entries:
        name = entry.name
        if _hidden(name):
            continue
        inside = os.path.join(below, name)
        suffix = _suffix(name)
        folder, reason = _sort_entry(entry)
        if folder:
            folders.append(inside)
        elif suffix in extensions:
            root.files.append(inside)
            if reason:
                root.refused[inside] = reason
        elif suffix in _OTHER_PICTURES or suffix in IMAGE_EXTENSIONS:
            root.left_out[suffix] += 1
        else:
            root.ignored[suffix] += 1
    if len(root.files) > n_before and (leak := _leak(below)) and leak not in root.leaks:
        root.leaks.append(leak)
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


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _CLUTTER


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _suffix(name: str) -> str:
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
            where = printable(os.path.join(root.path, leak))
            yield (
                f"{where} is inside the measured folder; "
                "statistics should come from training data only"
            )
        if root.repeated:
            yield f"{printable(root.path)} was given twice; it is read once"


def _nothing_found(root: Root, extensions: frozenset[str]) -> str:
    """Say what a folder without images holds instead, and what to do."""
    text = f"{root.path!r} holds no image ({' '.join(sorted(extensions))})"
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
