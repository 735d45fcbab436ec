"""Part (f): peak memory of every kind of source, small and large."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import wave
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from photographs import jpeg, photographs
from rounds import Goal, Part, Spread, rounded, table
from sizes import Sizes

_MEGABYTE = 1 << 20
_SMALL = 1  # megabytes: what is measured first, so that libraries are loaded

# What a process holds before and after; the library's own is there after a small source.
_MEASURE = """
import json, sys
import zeromean as zm

def resident(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024

def run(path, options):
    if path.endswith(".dask"):
        import dask.array
        path = dask.array.from_npy_stack(path)
        options = dict(options, pattern="n h w c -> c")
    profile = zm.measure(path, workers=2, **options)
    profile.mean, profile.std

small, large, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
run(small, options)
own = resident("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak from here on
run(large, options)
print(json.dumps({"own": own, "peak": resident("VmHWM")}))
"""


def run_bounded(sizes: Sizes) -> Part:
    """All of part (f)."""
    part = Part(f"(f) Peak memory of sources of {sizes.heavy:,} MB, two threads")
    rows = []
    few = None if sizes.heavy >= 100 else 4  # a trial need not try all
    for name, (needs, write, options) in list(sources().items())[:few]:
        if not find_spec(needs):
            continue
        with tempfile.TemporaryDirectory() as below:
            paths = [write(Path(below), size) for size in (_SMALL, sizes.heavy)]
            told = _told(paths, options)
        above = told["peak"] - told["own"]
        rows.append([name, rounded(told["own"]), rounded(above)])
        what = f"memory above the library's own, {name}"
        part.goals.append(Goal(what, Spread.of([above]), 400, None, " MB", at_most=True))
    part.text += [
        table(["source", "library's own, MB", "above it at the peak, MB"], rows),
        "The library's own is what the process holds after a source of 1 MB of the same kind.",
    ]
    return part


def _told(paths: list[Path], options: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, "-c", _MEASURE, *map(str, paths), json.dumps(options)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise AssertionError(ended.stderr)
    told: dict[str, float] = json.loads(ended.stdout)
    return told


Writer = Callable[[Path, int], Path]


def sources() -> dict[str, tuple[str, Writer, dict[str, Any]]]:
    """By name: the package that is needed, what writes so many megabytes, and options."""
    images = {"pattern": "n h w c -> c"}
    return {
        "JPEG in tar": ("tarfile", _tar, {}),
        "JPEG in zip": ("zipfile", _zip, {}),
        "JPEG in Parquet": ("pyarrow", _parquet, {}),
        "npy": ("numpy", _npy, images),
        "HDF5, gzip": ("h5py", _hdf5, images),
        "Zarr 3": ("zarr", _zarr, images),
        "netCDF 4": ("netCDF4", _netcdf, {"pattern": "n h w c -> c"}),
        "Dask array": ("dask", _dask, {}),
        "CIFAR batch": ("numpy", _cifar, {}),
        "WAV, 2 channels": ("soundfile", _wav, {}),
        "TIFF, 4 bands": ("tifffile", _tiff, {"format": "tiff"}),
        "NIfTI": ("nibabel", _nifti, {}),
        "CSV": ("pyarrow", _csv, {}),
    }


def _pictures(megabytes: int) -> list[bytes]:
    """One JPEG again and again, so many megabytes together."""
    data = jpeg(photographs()[0].resize((500, 375)))
    return [data] * max(1, megabytes * _MEGABYTE // len(data))


def _name(below: Path, megabytes: int, suffix: str) -> Path:
    return below / f"{megabytes}{suffix}"


def _tar(below: Path, megabytes: int) -> Path:
    path = _name(below, megabytes, ".tar")
    with tarfile.open(path, "w") as archive:
        for i, data in enumerate(_pictures(megabytes)):
            member = tarfile.TarInfo(f"{i:06}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def _zip(below: Path, megabytes: int) -> Path:
    path = _name(below, megabytes, ".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, data in enumerate(_pictures(megabytes)):
            archive.writestr(f"{i:06}.jpg", data)
    return path


def _parquet(below: Path, megabytes: int) -> Path:
    import pyarrow
    from pyarrow import parquet

    path = _name(below, megabytes, ".parquet")
    held = [{"bytes": d, "path": f"{i}.jpg"} for i, d in enumerate(_pictures(min(megabytes, 50)))]
    piece: Any = pyarrow.table({"image": held})
    with parquet.ParquetWriter(path, piece.schema, use_dictionary=False) as writer:
        for _ in range(max(1, megabytes // 50)):
            writer.write_table(piece, row_group_size=len(held))
    return path


def _blocks(megabytes: int) -> tuple[Any, int]:
    """A megabyte of pictures, and how often it is repeated."""
    block = np.random.default_rng(5).integers(0, 256, (341, 32, 32, 3), dtype=np.uint8)
    return block, megabytes


def _npy(below: Path, megabytes: int) -> Path:
    path = _name(below, megabytes, ".npy")
    block, count = _blocks(megabytes)
    held = np.lib.format.open_memmap(path, "w+", np.uint8, (count * len(block), 32, 32, 3))
    for i in range(count):
        held[i * len(block) : (i + 1) * len(block)] = block
    held.flush()
    return path


def _hdf5(below: Path, megabytes: int) -> Path:
    import h5py

    path = _name(below, megabytes, ".h5")
    block, count = _blocks(megabytes)
    with h5py.File(path, "w") as file:
        shape = (count * len(block), 32, 32, 3)
        held = file.create_dataset("x", shape, "u1", chunks=(64, 32, 32, 3), compression="gzip")
        for i in range(count):
            held[i * len(block) : (i + 1) * len(block)] = block
    return path


def _zarr(below: Path, megabytes: int) -> Path:
    import zarr

    path = _name(below, megabytes, ".zarr")
    block, count = _blocks(megabytes)
    shape = (count * len(block), 32, 32, 3)
    held = zarr.create_array(path, shape=shape, chunks=(341, 32, 32, 3), dtype="uint8")
    for i in range(count):
        held[i * len(block) : (i + 1) * len(block)] = block
    return path


def _netcdf(below: Path, megabytes: int) -> Path:
    import netCDF4

    path = _name(below, megabytes, ".nc")
    block, count = _blocks(megabytes)
    with netCDF4.Dataset(path, "w") as file:
        for name, size in zip("nhwc", (None, 32, 32, 3), strict=True):
            file.createDimension(name, size)
        held = file.createVariable("x", "u1", tuple("nhwc"), chunksizes=(341, 32, 32, 3))
        for i in range(count):
            held[i * len(block) : (i + 1) * len(block)] = block
    return path


def _dask(below: Path, megabytes: int) -> Path:
    import dask.array

    path = _name(below, megabytes, ".dask")
    block, count = _blocks(megabytes)
    repeated = dask.array.concatenate([dask.array.from_array(block, chunks=-1)] * count)
    dask.array.to_npy_stack(path, repeated)
    return path


def _cifar(below: Path, megabytes: int) -> Path:
    path = _name(below, megabytes, ".bin")
    records = np.random.default_rng(6).integers(0, 10, (341, 3073), dtype=np.uint8).tobytes()
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(records)
    return path


def _wav(below: Path, megabytes: int) -> Path:
    path = _name(below, megabytes, ".wav")
    noise = np.random.default_rng(7).integers(-900, 900, _MEGABYTE // 2, dtype=np.int16).tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48_000)
        for _ in range(megabytes):
            file.writeframesraw(noise)
    return path


def _tiff(below: Path, megabytes: int) -> Path:
    import tifffile

    path = _name(below, megabytes, ".tif")
    band = np.random.default_rng(8).integers(0, 4096, (256, 512, 4), dtype=np.uint16)
    tiles = (band[:, x : x + 256] for _ in range(megabytes) for x in (0, 256))
    options: dict[str, Any] = {"tile": (256, 256), "photometric": "minisblack"}
    shape = (256 * megabytes, 512, 4)
    tifffile.imwrite(
        path, tiles, shape=shape, dtype=np.uint16, planarconfig="contig", extrasamples=(0,) * 3,
        bigtiff=True, **options,
    )  # fmt: skip
    return path


def _nifti(below: Path, megabytes: int) -> Path:
    import nibabel

    path = _name(below, megabytes, ".nii")
    volume = np.random.default_rng(9).integers(0, 900, (128, 128, 32 * megabytes), dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    return path


def _csv(below: Path, megabytes: int) -> Path:
    path = _name(below, megabytes, ".csv")
    rng = np.random.default_rng(10)
    lines = "".join(f"{a:.6f},{b:.6f},{c}\n" for a, b, c in rng.normal(size=(40_000, 3)))[
        :_MEGABYTE
    ]
    whole = lines[: lines.rindex("\n") + 1]
    with path.open("w", encoding="ascii") as file:
        file.write("a,b,c\n")
        for _ in range(megabytes):
            file.write(whole)
    return path
