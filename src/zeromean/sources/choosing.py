"""Files that no single extension tells: chosen below folders by their whole names."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

from zeromean.errors import SourceError
from zeromean.pattern import Pattern
from zeromean.sources.files import Files, Reader, _named, _roots, _spread
from zeromean.sources.walk import Root, nothing_found, suffix_of, warnings_about


class _Every(frozenset[str]):
    """Extensions for a walk that passes over no file; the ones it holds are for messages."""

    def __contains__(self, suffix: object) -> bool:
        return True


class ChosenFiles(Files):
    """Folders and files, as `Files`, but chosen by a function of the whole path.

    Parameters
    ----------
    paths : sequence of path
        A file that is named here is read whatever its name.
    reader : Reader
    accept : callable
        Whether a file below a folder is read, by its path.
    extensions : sequence of str
        What the files are called mostly, for messages.
    pattern : Pattern
    limit : int, optional
        As for `Files`.

    Raises
    ------
    SourceError
        A path does not exist, or a folder holds no such file.
    """

    def __init__(
        self,
        paths: Sequence[str],
        reader: Reader,
        *,
        accept: Callable[[str], bool],
        extensions: Iterable[str],
        pattern: Pattern,
        limit: int | None = None,
    ) -> None:
        self.name = _named(list(paths))
        self.reader, self.pattern = reader, pattern
        self.extensions = tuple(extensions)
        roots = _roots(list(paths), _Every(self.extensions))
        for root in roots:
            _leave_out(root, accept, self.extensions)
        self.problems = [problem for root in roots for problem in root.problems]
        self.left_out = dict(sum((root.left_out for root in roots), Counter[str]()))
        self.ignored = sum(root.ignored.total() for root in roots)
        self.warnings = tuple(warnings_about(roots))
        self._roots = roots
        self._starts = list(accumulate((len(root.files) for root in roots), initial=0))
        self._chosen = _spread(range(self._starts[-1]), limit)


def accepts(extensions: Iterable[str]) -> Callable[[str], bool]:
    """A choice by the ends of names, which may have two dots: ``.nii.gz``.

    Parameters
    ----------
    extensions : sequence of str
    """
    ends = tuple("." + name.lower().lstrip("*").lstrip(".") for name in extensions)
    return lambda path: path.lower().endswith(ends)


def _leave_out(root: Root, accept: Callable[[str], bool], extensions: tuple[str, ...]) -> None:
    """Pass over what is below a folder and not accepted."""
    if not root.path:  # files that were named one by one
        return
    kept = [i for i, below in enumerate(root.files) if accept(root.place(below))]
    if len(kept) == len(root.files):
        return
    passed: Counter[Any] = Counter(map(suffix_of, root.files))
    passed.subtract(suffix_of(root.files[i]) for i in kept)
    root.ignored += +passed
    if root.stamps:
        root.stamps = array("q", (root.stamps[3 * i + k] for i in kept for k in range(3)))
    root.files = [root.files[i] for i in kept]
    if not root.files and not root.repeated:
        raise SourceError(nothing_found(root, frozenset(extensions)))
