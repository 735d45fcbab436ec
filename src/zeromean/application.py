"""Applies a normalizer to a folder of images or an array file, into files of floats; and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.destination import dtype_of
from zeromean.documents import write_atomically
from zeromean.errors import PatternError, SourceError, UnitError
from zeromean.group_normalizer import GroupedNormalizer
from zeromean.normalizer import Normalizer
from zeromean.outputs import FORMATS, Applied, Output, save_arrays, save_npy, units_of
from zeromean.samples import SampleNormalizer
from zeromean.shard_folders import ShardFolder, invert_folder, manifest_of
from zeromean.sources.arrays import ArraySource, ZippedArray
from zeromean.sources.images import ImageFiles
from zeromean.sources.opening import Options, open_source
from zeromean.sources.tables import is_table
from zeromean.table_files import apply_table

_Array = npt.NDArray[Any]
_FILES = (".npy", ".npz", ".safetensors", ".csv", ".tsv", ".gz", ".parquet", ".json")


def apply_files(
    norm: Normalizer | GroupedNormalizer | SampleNormalizer,
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
    norm : Normalizer, GroupedNormalizer or SampleNormalizer
        One for each group takes the class folders of a folder of images.
    source : str
        A folder or image, or a `.npy` or `.npz` file; to invert, also a folder that this wrote.
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
    _check_possible(norm, source, output)
    document = manifest_of(Path(source))
    if document is not None:
        _check_folder(target)
        return invert_folder(norm, Path(source), document, target, output)
    grouped = isinstance(norm, GroupedNormalizer)
    if is_table(source) and not grouped:
        return _apply_table(norm, source, target, output, progress)
    colors = units_of(norm).colors or "RGB"
    (opened,) = open_source(source, norm.pattern, Options(colors, extensions=extensions))
    if isinstance(opened, ImageFiles):
        if output.invert:
            raise SourceError(
                f"{source} holds pictures, which are raw data; --invert takes an array file, or a "
                "folder that `zeromean apply` wrote"
            )
        _check_folder(target)
        return ShardFolder(norm, opened, target, output, strict, progress).run()
    if grouped:
        raise SourceError(
            f"{source} has no class folders, so nobody knows which group's numbers to take; in "
            "Python: norm(x, by=labels)"
        )
    if not isinstance(opened, ArraySource | ZippedArray):
        raise SourceError(
            f"{source} cannot be normalized file by file: apply takes folders of pictures, .npy "
            "and .npz arrays, and tables; of what else measure reads, normalize arrays in Python"
        )
    given = opened.path if isinstance(opened, ZippedArray) else Path(source)
    if target.exists() and target.samefile(given):
        raise SourceError(f"{target} is the data itself; choose another output file")
    try:
        if isinstance(norm, Normalizer) and not (output.invert and norm.matrix is not None):
            norm.check_shape(_hwc(opened.shape, output))
        return _apply_array(norm, opened, target, output)
    except (PatternError, UnitError) as error:
        raise type(error)(f"{opened.name}: {error}") from None


def kind_of(source: str) -> str:
    """What a source is: "pictures", or "array", "table", "shards" by names and a manifest.

    Parameters
    ----------
    source : str

    Returns
    -------
    str
    """
    if is_table(source):
        return "table"
    if manifest_of(Path(source)) is not None:
        return "shards"
    named = Path(source).suffix in (".npy", ".npz") or ".npz:" in source
    return "array" if named and not Path(source).is_dir() else "pictures"


def _check_possible(norm: Any, source: str, output: Output) -> None:
    """What cannot be done at all is refused before anything is read or made."""
    if output.dtype is not None:
        dtype_of(output.dtype)  # bfloat16 is of an optional package
    kind = kind_of(source)
    if kind == "shards" and not output.invert:
        raise SourceError(
            f"{source} was written by `zeromean apply`; add --invert, or give the raw pictures"
        )
    if not isinstance(norm, SampleNormalizer):
        return
    if output.invert:
        raise SourceError(
            "numbers of single samples are gone once they are applied, so that cannot be undone; "
            "in Python: own = norm.of(x), then own.invert(y)"
        )
    if kind == "table":
        raise SourceError(
            f"{source} is a table, and the pattern {str(norm.pattern)!r} keeps the samples; give a "
            "profile or normalizer of its columns"
        )


def _check_folder(target: Path) -> None:
    if target.suffix.lower() in _FILES and not target.is_dir():
        raise SourceError(
            f"{target}: a folder of pictures becomes a folder of shards, so give the name of a new "
            "folder"
        )


def _apply_table(norm: Any, source: str, target: Path, output: Output, progress: Any) -> Applied:
    applied = Applied(files=[target])
    kinds: dict[str, None] = {}

    def saw(array: _Array) -> None:
        applied.saw(array)
        kinds[array.dtype.name] = None

    way: dict[str, Any] = {"invert": output.invert, "dtype": output.dtype}
    applied.items = apply_table(norm, source, target, **way, progress=progress, saw=saw)
    applied.dtype = ", ".join(kinds)
    return applied


def _hwc(shape: tuple[int, ...], output: Output) -> tuple[int, ...]:
    """Shape in the layout that was measured."""
    moved = output.invert and output.layout == "chw" and len(shape) >= 3
    return (*shape[:-3], *shape[-2:], shape[-3]) if moved else shape


# ---------------------------------------------------------------- array files


def _apply_array(
    norm: Any, source: ArraySource | ZippedArray, target: Path, output: Output
) -> Applied:
    applied = Applied(files=[target])
    reshaped = output.layout is not None or getattr(norm, "matrix", None) is not None
    if target.suffix == ".npy" and isinstance(source, ArraySource) and not reshaped:
        write_atomically(target, lambda p: _stream(norm, source, p, output, applied))
        return applied
    parts = []
    for shard in source.shards():
        for item in shard.items():
            assert item.array is not None
            parts.append(output.of(norm, item.array))
            applied.saw(parts[-1])
            applied.items += len(parts[-1])
    result = np.concatenate(parts)
    kind = target.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise SourceError(
            f"cannot write an array to {target.name!r}; use .npy, .npz or .safetensors"
        )
    if kind == "npy":
        write_atomically(target, lambda p: save_npy(p, result))
    else:
        write_atomically(target, lambda p: save_arrays(p, {"data": result}, kind))
    return applied


def _stream(norm: Any, source: ArraySource, path: Path, output: Output, applied: Applied) -> None:
    """Block by block from one memory map into another: memory stays small."""
    raw = norm.dtype if output.invert else "float32"
    written = np.lib.format.open_memmap(
        path, mode="w+", dtype=dtype_of(output.dtype or raw), shape=source.array.shape
    )
    begin = 0
    for shard in source.shards():
        for item in shard.items():
            assert item.array is not None
            part = written[begin : begin + len(item.array)]
            if output.invert:
                norm.invert(item.array, out=part)
            else:
                norm(item.array, out=part)
            applied.saw(part)
            begin += len(item.array)
    applied.items = begin
    written.flush()
