"""Folders of normalized pictures: shards, the manifest that names them, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.destination import dtype_of
from zeromean.documents import write_atomically
from zeromean.errors import SourceError, UnitError
from zeromean.group_normalizer import GroupedNormalizer
from zeromean.loading import load
from zeromean.normalizer import Normalizer
from zeromean.outputs import FORMATS, Applied, Output, save_arrays, save_npy, units_of
from zeromean.sources import Item
from zeromean.sources.images import ImageFiles
from zeromean.sources.labels import class_of

_Array = npt.NDArray[Any]
_SHARD_BYTES = 256 << 20
MANIFEST = "manifest.json"
_NORMALIZERS = ("normalizer.json", "normalizer.safetensors")  # small and large
_UNDONE = ", undone"
_MAX_LISTED = 10_000  # numbers in a file that people read


class ShardFolder:
    """One run over a folder; gathers pictures into shards."""

    def __init__(
        self,
        norm: Any,
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
        with _new_folder(self.target, self.applied.files):
            return self._run()

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
        saved = _save_normalizer(self.norm, self.target)
        document = _manifest(self.norm, self.output, self.applied, saved)
        _write_manifest(self.target, document, self.entries)
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
        channels, measured = item.kind.split(" ")[0], units_of(self.norm).channels
        if measured and channels != measured:
            raise UnitError(
                f"{item.name} has the channels {channels}, but the normalizer was measured on "
                f"{measured}"
            )
        norm = self.norm
        if isinstance(norm, GroupedNormalizer):
            norm = norm.normalizer_for(class_of(item.name))
        array = self.output.of(norm, item.array[None])[0]
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
            write_atomically(path, lambda p: save_npy(p, stacked))
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


def _manifest(norm: Any, output: Output, applied: Applied, saved: str) -> dict[str, Any]:
    """What `docs/format.md` says of a manifest, without the items."""
    numbers = getattr(norm, "shift", np.empty(0))
    named = isinstance(norm, Normalizer | GroupedNormalizer)
    document: dict[str, Any] = {
        "format": "zeromean/1",
        "kind": "manifest",
        "recipe": norm.recipe if named else norm.recipe.__name__,
        "pattern": str(norm.pattern),
    }
    if saved:
        document["normalizer"] = saved
    if 0 < numbers.size <= _MAX_LISTED:
        document |= {"shift": norm.shift.tolist(), "scale": norm.scale.tolist()}
    raw = {"dtype": norm.dtype} if named else {}
    return document | {
        "input": {**raw, **units_of(norm).to_fields()},
        "output": {"dtype": applied.dtype, "layout": output.layout or "hwc"},
        "skipped": [{"path": p, "reason": r} for p, r in applied.skipped],
    }


def _write_manifest(folder: Path, document: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    head = json.dumps(document, indent=1)[:-2]
    rows = ",\n".join("  " + json.dumps(entry) for entry in entries)
    text = f'{head},\n "items": [\n{rows}\n ]\n}}\n'

    def write(path: Path) -> None:
        path.write_text(text, encoding="ascii")

    write_atomically(folder / MANIFEST, write)


def _save_normalizer(norm: Any, folder: Path) -> str:
    """Beside the shards stands what made them; nothing for numbers of single samples."""
    if not isinstance(norm, Normalizer | GroupedNormalizer):
        return ""
    each = norm.values() if isinstance(norm, GroupedNormalizer) else [norm]
    size = sum(max(n.shift.size, 0 if n.matrix is None else n.matrix.size) for n in each)
    name = _NORMALIZERS[size > _MAX_LISTED]
    norm.save(folder / name)
    return name


# ---------------------------------------------------------------- the way back


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest in a folder that `zeromean apply` wrote; None for other folders.

    Raises
    ------
    SourceError
        When it is damaged.
    """
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # a `manifest.json` of somebody else's
    if not isinstance(document, dict) or document.get("kind") != "manifest":
        return None
    try:
        names = [document["recipe"], document["output"]["layout"], document.get("normalizer", "")]
        names += [item[key] for item in document["items"] for key in ("file", "shard")]
        shards = {item["shard"] for item in document["items"]}
        good = all(isinstance(name, str) for name in names)
    except (KeyError, TypeError) as error:
        raise SourceError(f"{path} is damaged: {error} is missing or no text") from None
    if not good or any(Path(name).name != name for name in shards):
        raise SourceError(f"{path} is damaged: shards must be names of files in the same folder")
    return document


def recorded_normalizer(folder: Path, document: dict[str, Any]) -> Any:
    """What a folder was made with, which stands beside its shards; None if it is gone.

    Raises
    ------
    SourceError
        When the folder holds raw values, or pictures that had numbers of their own.
    """
    if document["recipe"].endswith(_UNDONE):
        raise SourceError(f"{folder} holds raw values already: --invert wrote it")
    name = document.get("normalizer", "")
    if not name:
        raise SourceError(
            f"each picture in {folder} was normalized by its own numbers, which nobody kept; it "
            "cannot be undone, so take the raw pictures"
        )
    path = folder / Path(name).name
    return load(path) if path.exists() else None


def _check_same(norm: Any, folder: Path, document: dict[str, Any]) -> None:
    """Other numbers than those that made it would give wrong pictures without a word."""
    recorded = recorded_normalizer(folder, document)
    if norm.recipe == document["recipe"] and recorded in (None, norm):
        return
    same = norm.recipe == document["recipe"]
    mine = f"{norm.recipe} with other numbers" if same else norm.recipe
    repair = f"give {folder / document['normalizer']}" if recorded else "give what made it"
    raise SourceError(
        f"{folder} was written with {document['recipe']}, and the given numbers are {mine}; "
        f"{repair}"
    )


def invert_folder(
    norm: Any, source: Path, document: dict[str, Any], target: Path, output: Output
) -> Applied:
    """Undo a folder of shards: the same shards and items, raw values, height x width x channels."""
    _check_same(norm, source, document)
    layout = document["output"]["layout"]
    output = replace(output, layout=None if layout == "hwc" else layout)
    dtype = dtype_of(document["output"].get("dtype"))
    applied = Applied(items=len(document["items"]))
    with _new_folder(target, applied.files):
        for name in sorted({item["shard"] for item in document["items"]}):
            items = [item for item in document["items"] if item["shard"] == name]
            arrays = _undone(norm, output, _read_arrays(source / name, dtype), items)
            for array in arrays.values():
                applied.saw(array)
            write_atomically(target / name, partial(_save_shard, arrays, Path(name).suffix[1:]))
            applied.files.append(target / name)
        _write_manifest(target, *_raw_manifest(document, applied.dtype))
    return applied


def _raw_manifest(document: dict[str, Any], dtype: str) -> tuple[dict[str, Any], list[Any]]:
    """The manifest of raw values, which need no numbers; and its items, channels last."""
    moved = document["output"]["layout"] == "chw"
    gone = ("normalizer", "shift", "scale", "items")
    raw = {key: value for key, value in document.items() if key not in gone}
    raw["recipe"] += _UNDONE
    raw["output"] = {"dtype": dtype, "layout": "hwc"}
    items = [
        item | {"shape": [*item["shape"][1:], item["shape"][0]] if moved else item["shape"]}
        for item in document["items"]
    ]
    return raw, items


def _undone(
    norm: Any, output: Output, arrays: dict[str, _Array], items: list[dict[str, Any]]
) -> dict[str, _Array]:
    """Raw values of a shard, each item by the numbers of its group if there are groups."""
    if not isinstance(norm, GroupedNormalizer):
        return {key: output.of(norm, array) for key, array in arrays.items()}
    stacked, result = "" in arrays, {}
    for item in items:
        own = norm.normalizer_for(class_of(item["file"]))
        array = arrays[""][item["index"]] if stacked else arrays[item["key"]]
        result[str(item["index"]) if stacked else item["key"]] = output.of(own, array)
    return {"": np.stack(list(result.values()))} if stacked else result


def _save_shard(arrays: dict[str, _Array], kind: str, path: Path) -> None:
    """Write what `_read_arrays` reads."""
    if kind == "npy":
        save_npy(path, arrays[""])
    else:
        save_arrays(path, arrays, kind)


def _read_arrays(path: Path, dtype: np.dtype[Any]) -> dict[str, _Array]:
    """The arrays of a shard by their keys; the one of a `.npy` file under the empty name."""
    try:
        arrays = _loaded(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from None
    # NumPy's files keep the bits of bfloat16, and not its name
    return {key: a.view(dtype) if a.dtype.kind == "V" else a for key, a in arrays.items()}


def _loaded(path: Path) -> dict[str, _Array]:
    if path.suffix == ".npy":
        return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    from safetensors.numpy import load_file

    return dict(load_file(path))


@contextmanager
def _new_folder(folder: Path, files: list[Path]) -> Iterator[None]:
    """A folder to fill; a failure leaves nothing of it behind, and neither does Ctrl-C."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        _make_empty(folder)
        yield
    except BaseException:
        if folder in made or files:  # else it was not empty, and not ours
            names = (MANIFEST, *_NORMALIZERS)
            for path in (*files, *(folder / name for name in names)):
                path.unlink(missing_ok=True)
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SourceError(f"{folder} is not empty; choose a new folder, or empty it first")
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"cannot write to {folder}: {error.strerror}") from error
