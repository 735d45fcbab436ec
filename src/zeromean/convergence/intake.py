"""Whatever was given becomes a few samples in one float64 array, and their classes if known."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.convergence.resizing import grayed, shrunk
from zeromean.convergence.tabular_intake import frame_sample, table_sample
from zeromean.convergence.thinning import spread
from zeromean.errors import PatternError, SourceError
from zeromean.sources.arrays import ZippedArray, as_array, is_path, open_npy
from zeromean.sources.frames import is_frame
from zeromean.sources.images import ImageFiles
from zeromean.sources.labels import factorized
from zeromean.sources.tables import is_table

Floats = npt.NDArray[np.float64]
_Array = npt.NDArray[Any]
NO_LABELS = "none"
_MOST_CLASSES, _FEWEST = 20, 20
_HASHED = 256 << 20  # bytes of files that are read for the digest alone


@dataclass(frozen=True)
class Sample:
    """Some samples of a source.

    Attributes
    ----------
    x : ndarray of float64, (n, h, w, c) or (n, d)
        In the data's own units.
    codes : ndarray of int, (n,), or None
        The class of each sample, as an index into `classes`.
    classes : tuple of str
    source : str
    available : int
        How many samples there are in all.
    top : float or None
        Largest value of the dtype, for pictures of integers.
    notes : tuple of str
    columns : tuple of str
        Their names, of a table.
    digest : str
        Of all picture files, 64 hex digits; empty for other sources.
    """

    x: Floats
    codes: npt.NDArray[np.int64] | None
    classes: tuple[str, ...]
    source: str
    available: int
    top: float | None = None
    notes: tuple[str, ...] = field(default=())
    columns: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Wanted:
    """What the caller asked for: as the parameters of `zeromean.study`."""

    labels: Any
    size: int
    n: int
    colors: str


def gather(source: Any, wanted: Wanted) -> Sample:
    """Read a few samples, evenly spread and always the same.

    Raises
    ------
    SourceError, PatternError
        Naming what was given and what can be.
    """
    source, labels = _apart(source, wanted.labels)
    wanted = replace(wanted, labels=labels)
    if is_path(source):
        sample = _from_path(os.fspath(source), wanted)
    elif is_frame(source):
        sample = Sample(**frame_sample(source, wanted.labels, wanted.n))
    else:
        sample = from_array(as_array(source), wanted, "array")
    return _checked(_few_classes(_in_order(sample)))


def _apart(source: Any, labels: Any) -> tuple[Any, Any]:
    """Data and labels of what scikit-learn hands out: a pair, or an object with `target`."""
    given = None
    if hasattr(source, "data") and hasattr(source, "target"):
        source, given = getattr(source, "images", source.data), source.target
    elif isinstance(source, tuple) and len(source) == 2 and np.ndim(source[1]) == 1:
        source, given = source
    return source, given if labels is None else labels


def _from_path(path: str, wanted: Wanted) -> Sample:
    if is_table(path):
        return Sample(**table_sample(Path(path), wanted.labels, wanted.n))
    head = path.rsplit(":", 1)[0] if ".npz:" in path and not Path(path).exists() else path
    if Path(head).suffix in (".npy", ".npz") and not Path(head).is_dir():
        return from_array(_array_file(Path(head), path[len(head) + 1 :]), wanted, Path(head).name)
    return _from_pictures(path, wanted)


def _array_file(path: Path, member: str) -> _Array:
    if not path.exists():
        raise SourceError(f"{path}: there is no such file")
    if path.suffix == ".npy":
        return open_npy(path)
    from zeromean.pattern import Pattern

    zipped = ZippedArray(path, member, Pattern.parse("n ... ->"))
    return np.concatenate([item.array for s in zipped.shards() for item in s.items()])


# ---------------------------------------------------------------- arrays


def from_array(array: _Array, wanted: Wanted, name: str) -> Sample:
    """Rows, or pictures, of an array.

    Raises
    ------
    PatternError
        For other axes than (n, columns), (n, h, w) and (n, h, w, channels), and for labels that
        do not fit.
    """
    if array.ndim not in (2, 3, 4) or array.dtype.kind not in "buif":
        raise PatternError(
            f"{name} has shape {array.shape} and dtype {array.dtype}; give numbers as "
            "(n, columns), (n, height, width) or (n, height, width, channels)"
        )
    if array.ndim == 4 and array.shape[-1] > 4:
        raise PatternError(
            f"{name} has {array.shape[-1]} channels in its last axis; a study takes 1 to 4: if the "
            "channels come first, give x.transpose(0, 2, 3, 1)"
        )
    chosen = spread(len(array), wanted.n)
    codes, classes = _given_codes(wanted.labels, len(array), chosen)
    x, notes = np.asarray(array[chosen], np.float64), ()
    if array.ndim > 2:
        x = x[..., None] if array.ndim == 3 else x
        x = x if wanted.colors == "RGB" else grayed(x)
        x = shrunk(x, *(min(wanted.size, side) for side in x.shape[1:3]))
    top = float(np.iinfo(array.dtype).max) if array.dtype.kind == "u" and array.ndim > 2 else None
    return Sample(x, codes, classes, name, len(array), top, notes)


def _given_codes(
    labels: Any, length: int, chosen: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    if labels is None or (isinstance(labels, str) and labels == NO_LABELS):
        return None, ()
    if isinstance(labels, str):
        raise PatternError(
            f"labels is {labels!r}, but an array has neither folders nor named columns; give an "
            "array of one class for each sample"
        )
    classes, codes = factorized(_whole(labels))
    if len(codes) != length:
        raise PatternError(f"there are {len(codes)} labels, but the data has {length} samples")
    return codes[chosen], classes


def _whole(labels: Any) -> Any:
    """Labels such as 1.0 and 2.0, which scikit-learn hands out, as integers."""
    array = np.asarray(labels)
    if array.dtype.kind == "f" and np.array_equal(array, np.rint(array)):
        return array.astype(np.int64)
    return labels


# ---------------------------------------------------------------- folders of pictures


def _from_pictures(path: str, wanted: Wanted) -> Sample:
    by_folder = wanted.labels is None or wanted.labels == "folder"
    if not by_folder and not (isinstance(wanted.labels, str) and wanted.labels == NO_LABELS):
        raise PatternError(
            "pictures take their classes from folders: labels must be 'folder' or 'none', not "
            f"{wanted.labels!r:.40}"
        )
    files = ImageFiles(path, colors="RGB" if wanted.colors == "RGB" else "gray", limit=wanted.n)
    held = [(item.array, item.name) for item in _pictures(files)]
    if not held:
        raise SourceError(f"{path}: none of the {files.n_items} pictures looked at can be read")
    side = min(wanted.size, *(min(a.shape[:2]) for a, _ in held))
    x = np.stack([shrunk(array, side, side) for array, _ in held])
    skipped = files.n_items - len(held)
    notes = (f"{skipped} of {files.n_items} pictures could not be read.",) if skipped else ()
    digest = _digest(path)
    sample = Sample(x, None, (), path, files.n_whole, 255.0, notes, digest=digest)
    folders = [name.partition("/")[0] if "/" in name else "" for _, name in held]
    if by_folder and "" not in folders and len(set(folders)) > 1:
        classes, codes = factorized(folders)
        return replace(sample, codes=codes, classes=classes)
    if wanted.labels == "folder":
        raise PatternError(
            f"{path} has no class folders (two or more, with every picture in one); leave labels "
            "out to study it without classes"
        )
    return sample


def _digest(path: str) -> str:
    """The sum that a profile of the whole folder records; nothing for large folders."""
    files, total = ImageFiles(path), 0
    if files.n_bytes > _HASHED:
        return ""
    for file, _, refused in files.files():
        with suppress(OSError):
            data = b"" if refused else Path(file).read_bytes()
            total += int.from_bytes(hashlib.sha256(data).digest(), "big") * (not refused)
    return f"{total % (1 << 256):064x}"


def _pictures(files: ImageFiles) -> Iterator[Any]:
    for shard in files.shards():
        for item in shard.items():
            if item.array is not None:
                yield item


# ---------------------------------------------------------------- checks


def _in_order(sample: Sample) -> Sample:
    """Classes sorted by name, whatever came first."""
    if sample.codes is None:
        return sample
    order = sorted(range(len(sample.classes)), key=sample.classes.__getitem__)
    place = np.argsort(order)
    return replace(
        sample, codes=place[sample.codes], classes=tuple(sample.classes[i] for i in order)
    )


def _few_classes(sample: Sample) -> Sample:
    """Ten classes are enough, and a hundred would have but few samples each."""
    count = len(sample.classes)
    if sample.codes is None or count <= _MOST_CLASSES:
        return sample
    if count > len(sample.codes) // 4:
        raise PatternError(
            f"{count} classes among {len(sample.codes)} samples: these are no classes; give "
            "labels='none', or labels that repeat"
        )
    kept = spread(count, 10)
    mask = np.isin(sample.codes, kept)
    note = f"Only 10 of the {count} classes were used, {int(mask.sum())} samples."
    return replace(
        sample,
        x=sample.x[mask],
        codes=np.searchsorted(kept, sample.codes[mask]),
        classes=tuple(sample.classes[k] for k in kept),
        notes=(*sample.notes, note),
    )


def _checked(sample: Sample) -> Sample:
    """Leave out rows with missing values and single classes; refuse what cannot be studied."""
    flat = sample.x.reshape(len(sample.x), -1)
    good = np.isfinite(flat).all(axis=1)
    notes = sample.notes
    if not good.all():
        notes = (*notes, f"{int((~good).sum())} samples with missing values were left out.")
    codes = None if sample.codes is None else sample.codes[good]
    if len(flat[good]) < _FEWEST:
        raise SourceError(
            f"{sample.source}: {int(good.sum())} samples without missing values; a study needs "
            f"{_FEWEST} or more"
        )
    if np.ptp(flat[good]) == 0:
        raise SourceError(f"{sample.source}: all values are the same; there is nothing to study")
    if codes is not None and len(np.unique(codes)) < 2:
        codes, notes = None, (*notes, "All samples are of one class.")
    classes = () if codes is None else sample.classes
    return replace(sample, x=sample.x[good], codes=codes, classes=classes, notes=notes)
