"""Applies a normalizer to a folder of images or an array file, into files of floats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.documents import write_atomically
from zeromean.errors import PatternError, SourceError, UnitError
from zeromean.normalizer import Normalizer
from zeromean.sources import Item
from zeromean.sources.arrays import ArraySource, ZippedArray
from zeromean.sources.images import ImageFiles
from zeromean.sources.opening import Options, open_source

_Array = npt.NDArray[Any]
_SHARD_BYTES = 256 << 20
FORMATS = ("npy", "npz", "safetensors")


@dataclass(slots=True)
class Applied:
    """What was written.

    Attributes
    ----------
    files : list of Path
    items : int
    skipped : list of (str, str)
        Path and reason.
    low, high : float
        Range of the output.
    """

    files: list[Path] = field(default_factory=list)
    items: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    low: float = np.inf
    high: float = -np.inf

    def saw(self, array: _Array) -> None:
        """Widen the range."""
        if array.size:
            self.low = min(self.low, float(array.min()))
            self.high = max(self.high, float(array.max()))


@dataclass(frozen=True, slots=True)
class Output:
    """How results are written: dtype, channel layout, file format, pictures in a file."""

    dtype: str = "float32"
    layout: str | None = None
    format: str = "npz"
    shard_size: int | None = None


def apply_files(
    norm: Normalizer,
    source: str,
    target: Path,
    output: Output,
    *,
    strict: bool = False,
    extensions: tuple[str, ...] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Applied:
    """Normalize a folder of images into shards with a manifest, or an array file into another.

    Parameters
    ----------
    norm : Normalizer
    source : str
        A folder or image, or a `.npy` or `.npz` file.
    target : Path
        A new or empty folder for images; a `.npy`, `.npz` or `.safetensors` file for an array.
    output : Output
    strict : bool
        Stop at the first image that cannot be read.
    extensions : tuple of str, optional
        Of the images to read.
    progress : callable, optional
        Called with items done and the total.

    Returns
    -------
    Applied

    Raises
    ------
    SourceError
        When the source cannot be read, the target is not empty, or pictures of unequal size
        are to go into one array.
    """
    colors = norm.units.colors or "RGB"
    (opened,) = open_source(source, norm.pattern, Options(colors, extensions=extensions))
    if isinstance(opened, ImageFiles):
        return _Folder(norm, opened, target, output, strict, progress).run()
    assert isinstance(opened, ArraySource | ZippedArray)
    given = opened.path if isinstance(opened, ZippedArray) else Path(source)
    if target.exists() and target.samefile(given):
        raise SourceError(f"{target} is the data itself; choose another output file")
    try:
        norm.check_shape(opened.shape)
        return _apply_array(norm, opened, target, output)
    except (PatternError, UnitError) as error:
        raise type(error)(f"{opened.name}: {error}") from None


# ---------------------------------------------------------------- folders


class _Folder:
    """One run over a folder; gathers pictures into shards."""

    def __init__(
        self,
        norm: Normalizer,
        source: ImageFiles,
        target: Path,
        output: Output,
        strict: bool,
        progress: Callable[[int, int | None], None] | None,
    ) -> None:
        if output.format not in FORMATS:
            raise SourceError(f"format is {output.format!r}; choose {', '.join(FORMATS)}")
        self.norm, self.source, self.target, self.output = norm, source, target, output
        self.strict, self.progress = strict, progress
        self.applied = Applied()
        self.entries: list[dict[str, Any]] = []
        self.held: dict[str, _Array] = {}
        self.held_bytes = 0

    def run(self) -> Applied:
        _make_empty(self.target)
        try:
            return self._run()
        except BaseException:  # Ctrl-C too: leave no half of a data set behind
            for path in self.applied.files:
                path.unlink(missing_ok=True)
            raise

    def _run(self) -> Applied:
        for item in self._items():
            self._take(item)
            full = self.output.shard_size or 1 << 62
            if len(self.held) >= full or self.held_bytes >= _SHARD_BYTES:
                self._write()
        self._write()
        if not self.entries:
            path, reason = (self.applied.skipped or [("", "there is no image")])[0]
            raise SourceError(f"no image could be read; the first, {path}: {reason}")
        self.applied.skipped.sort()
        write_atomically(self.target / "manifest.json", self._write_manifest)
        return self.applied

    def _items(self) -> Iterator[Item]:
        self.applied.skipped += self.source.problems
        done = 0
        for shard in self.source.shards():
            for item in shard.items():
                done += 1
                yield item
                if self.progress is not None:
                    self.progress(done, self.source.n_items)

    def _take(self, item: Item) -> None:
        if item.array is None:
            if self.strict:
                raise SourceError(f"{item.name}: {item.reason}")
            self.applied.skipped.append((item.name, item.reason))
            return
        channels = item.kind.split(" ")[0]
        if self.norm.units.channels and channels != self.norm.units.channels:
            raise UnitError(
                f"{item.name} has the channels {channels}, but the normalizer was measured on "
                f"{self.norm.units.channels}"
            )
        array = self.norm(item.array, dtype=self.output.dtype, layout=self.output.layout)
        self.applied.saw(array)
        self.applied.items += 1
        self.held[item.name] = array
        self.held_bytes += array.nbytes

    def _write(self) -> None:
        if not self.held:
            return
        path = self.target / f"shard-{len(self.applied.files):05d}.{self.output.format}"
        if self.output.format == "npy":
            self._check_one_size()
            stacked = np.stack(list(self.held.values()))
            write_atomically(path, lambda p: _save_npy(p, stacked))
        else:
            keys = {f"{i:06d}": a for i, a in enumerate(self.held.values())}
            write_atomically(path, lambda p: save_arrays(p, keys, self.output.format))
        for i, (name, array) in enumerate(self.held.items()):
            entry: dict[str, Any] = {"file": name, "shard": path.name, "shape": list(array.shape)}
            entry |= {"index": i} if self.output.format == "npy" else {"key": f"{i:06d}"}
            self.entries.append(entry)
        self.applied.files.append(path)
        self.held, self.held_bytes = {}, 0

    def _check_one_size(self) -> None:
        (first, array), *others = self.held.items()
        for name, other in others:
            if other.shape != array.shape:
                raise SourceError(
                    f"{name} is {other.shape}, but {first} is {array.shape}: one .npy array needs "
                    "one size. Use --format npz or safetensors, or resize first"
                )

    def _write_manifest(self, path: Path) -> None:
        norm = self.norm
        document = {
            "format": "zeromean/1",
            "kind": "manifest",
            "recipe": norm.recipe,
            "pattern": str(norm.pattern),
            "shift": norm.shift.tolist(),
            "scale": norm.scale.tolist(),
            "input": {"dtype": norm.dtype, **norm.units.to_fields()},
            "output": {"dtype": self.output.dtype, "layout": self.output.layout or "hwc"},
            "skipped": [{"path": p, "reason": r} for p, r in self.applied.skipped],
        }
        head = json.dumps(document, indent=1)[:-2]
        rows = ",\n".join("  " + json.dumps(entry) for entry in self.entries)
        path.write_text(f'{head},\n "items": [\n{rows}\n ]\n}}\n', encoding="ascii")


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SourceError(f"{folder} is not empty; choose a new folder, or empty it first")
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"cannot write to {folder}: {error.strerror}") from error


# ---------------------------------------------------------------- array files


def _apply_array(
    norm: Normalizer, source: ArraySource | ZippedArray, target: Path, output: Output
) -> Applied:
    applied = Applied(files=[target])
    if target.suffix == ".npy" and isinstance(source, ArraySource) and output.layout is None:
        write_atomically(target, lambda p: _stream(norm, source, p, output, applied))
        return applied
    parts = []
    for shard in source.shards():
        for item in shard.items():
            assert item.array is not None
            parts.append(norm(item.array, dtype=output.dtype, layout=output.layout))
            applied.saw(parts[-1])
            applied.items += len(parts[-1])
    result = np.concatenate(parts)
    kind = target.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise SourceError(
            f"cannot write an array to {target.name!r}; use .npy, .npz or .safetensors"
        )
    if kind == "npy":
        write_atomically(target, lambda p: _save_npy(p, result))
    else:
        write_atomically(target, lambda p: save_arrays(p, {"data": result}, kind))
    return applied


def _stream(
    norm: Normalizer, source: ArraySource, path: Path, output: Output, applied: Applied
) -> None:
    """Block by block from one memory map into another: memory stays small."""
    written = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.dtype(output.dtype), shape=source.array.shape
    )
    begin = 0
    for shard in source.shards():
        for item in shard.items():
            assert item.array is not None
            part = written[begin : begin + len(item.array)]
            norm(item.array, out=part)
            applied.saw(part)
            begin += len(item.array)
    applied.items = begin
    written.flush()


def _save_npy(path: Path, array: _Array) -> None:
    with path.open("wb") as file:  # np.save would add a suffix to a temporary name
        np.save(file, array)


def save_arrays(path: Path, arrays: dict[str, _Array], kind: str) -> None:
    """Write named arrays to `.npz` or `.safetensors`."""
    if kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return
    from safetensors.numpy import save_file

    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, path)
