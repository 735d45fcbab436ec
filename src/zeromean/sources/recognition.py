"""Tells by content what kind of source a path is: folder, archive, table, array file, recording."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from zeromean.errors import SourceError
from zeromean.sources import sniff, zip_members
from zeromean.sources.access import address_of, is_remote, opened, shown
from zeromean.sources.tar_members import Fault
from zeromean.sources.tar_streams import compression, decompressed
from zeromean.sources.walk import IMAGE_EXTENSIONS, printable

_HEAD = 2048
_PICKLES = (b"\2", b"\3", b"\4", b"\5")  # protocols, as in their second byte
_LOOKED_AT = 2000  # files of a folder that say what it is a folder of


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of source.

    Attributes
    ----------
    name : str
        What ``--format`` takes.
    says : str
        What it is, for people.
    module : str
        Below `zeromean.sources`; its ``open_paths(paths, pattern, options, name)`` gives the
        opened sources.
    suffixes : tuple of str
        Of the files that a folder of it holds, and of such files where content cannot tell.
    """

    name: str
    says: str
    module: str
    suffixes: tuple[str, ...] = ()


_TIFF = (".tif", ".tiff")  # pictures, or rasters of many bands: their tags tell
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_PICTURES = tuple(suffix for suffix in IMAGE_EXTENSIONS if suffix not in _TIFF)

#: Every kind that `measure` reads from a path.
FORMATS = {
    f.name: f
    for f in (
        Format("images", "image files", "opening", _PICTURES),
        Format("npy", "NumPy arrays", "opening", (".npy",)),
        Format("npz", "NumPy archives", "opening", (".npz",)),
        Format("csv", "CSV tables", "opening", (".csv", ".tsv", ".csv.gz", ".tsv.gz")),
        Format("parquet", "Parquet files", "parquet", (".parquet", ".pq")),
        Format("arrow", "Arrow or Feather files", "parquet", (".arrow", ".feather", ".ipc")),
        Format("dataset", "data sets saved by Hugging Face datasets", "parquet"),
        Format("tar", "tar archives of images", "archives", _TAR),
        Format("zip", "zip archives of images", "archives", (".zip",)),
        Format("hdf5", "HDF5 files", "hdf5", (".h5", ".hdf5", ".he5")),
        Format("netcdf", "netCDF files", "netcdf", (".nc", ".nc4", ".cdf")),
        Format("zarr", "Zarr stores", "zarr", (".zarr",)),
        Format("idx", "MNIST's IDX files", "idx", (".idx", "-ubyte", "-ubyte.gz")),
        Format("cifar", "CIFAR binary batches", "cifar"),
        Format("audio", "WAV and FLAC recordings", "audio", (".wav", ".flac")),
        Format("tiff", "rasters in TIFF (GeoTIFF)", "raster", _TIFF),
        Format("dicom", "DICOM files", "dicom", (".dcm", ".dicom", ".ima")),
        Format("nifti", "NIfTI volumes", "nifti", (".nii", ".nii.gz", ".img", ".img.gz")),
    )
}

#: First bytes that tell. What is not here is told by more than a few bytes, below.
_MAGIC = (
    (rb"\x93NUMPY", "npy"),
    (rb"(.{512}|.{1024})?\x89HDF\r\n\x1a\n", "hdf5"),  # MATLAB puts a text of its own in front
    (rb"CDF[\x01\x02\x05]", "netcdf"),
    (rb"PAR1", "parquet"),
    (rb"ARROW1|FEA1|\xff\xff\xff\xff..[\0-\x0f]\0[\x08-\x20]\0\0\0", "arrow"),  # the last: a stream
    (rb"RIFF....WAVE|RF64....WAVE|fLaC", "audio"),
    (rb"\0\0[\x08\x09\x0b-\x0e][\x01-\x08]", "idx"),
    (rb".{128}DICM", "dicom"),
    (rb".{257}ustar", "tar"),
    (rb".{344}(n\+1|ni1)\0|.{4}(n\+2|ni2)\0\r\n\x1a\n", "nifti"),
)
_COMPILED = tuple((re.compile(text, re.DOTALL), name) for text, name in _MAGIC)


_BY_ENDING = {suffix: f.name for f in FORMATS.values() for suffix in f.suffixes}
#: The first match from the left that reaches the end is the longest ending.
_ENDING = re.compile("(?:" + "|".join(map(re.escape, _BY_ENDING)) + r")\Z")


def suffix_format(name: str) -> str:
    """The format that a file's name promises, empty for none.

    Parameters
    ----------
    name : str
    """
    lower = (address_of(name).path if is_remote(name) else name).lower()
    found = _ENDING.search(lower)
    return _BY_ENDING[found.group()] if found else ""


def recognized(path: str) -> str:
    """The format of what lies at a path; ``"images"`` when only trying can tell.

    Parameters
    ----------
    path : str
        A file or folder, or a URL; ``file:name`` names a part of a file.

    Returns
    -------
    str
        A key of `FORMATS`.

    Raises
    ------
    SourceError
        When it is something else, with what was seen and what is supported.
    """
    if is_remote(path):
        from zeromean.sources.remote import head_of

        head = head_of(path)
        if head is None:
            return _of_remote_folder(path)
        return _of_file(head, path)
    if os.path.isdir(path):
        return _of_folder(path)
    if not os.path.isfile(path):  # missing, or a pipe, at which reading would wait
        return suffix_format(path) or "images"  # opening it says what is wrong
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return suffix_format(path) or "images"
    return _of_file(head, path)


def _of_file(head: bytes, path: str) -> str:
    for pattern, name in _COMPILED:
        if pattern.match(head):
            return _of_hdf5(path) if name == "hdf5" else name
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return _of_zip(path)
    if head.startswith(b"\x1f\x8b"):
        return _of_gzip(head, path)
    if kind := compression(head):
        return _of_compressed(path, kind)
    promised = suffix_format(path)
    found = sniff.image_format(head, path)
    if found == "TIFF":
        from zeromean.sources.raster import is_raster

        return "tiff" if is_raster(path) else "images"
    if found or promised in ("csv", "images"):
        return "images" if found else promised
    if _is_cifar(path):
        return "cifar"
    if head[:1] == b"\x80" and head[1:2] in _PICKLES and not promised:
        raise SourceError(
            f"{printable(shown(path))} is a Python pickle, which can run any program and is never "
            "loaded; save the data as an array (.npy), or take CIFAR's binary version"
        )
    if promised:  # damaged, or written without its mark: its own reader says so
        return promised
    raise SourceError(
        f"{printable(shown(path))} is {sniff.not_an_image(head)}; {_supported()}. Say which with "
        "format= (--format)"
    )


def _supported() -> str:
    return "supported are " + ", ".join(f"{f.says} ({f.name})" for f in FORMATS.values())


_MARKS_OF_ZARR = frozenset(("zarr.json", ".zarray", ".zgroup"))


def _of_zip(path: str) -> str:
    promised = suffix_format(path)
    if promised == "npz" or is_remote(path):
        return promised or "zip"
    count = arrays = 0
    try:
        with open(path, "rb") as file:
            for member in zip_members.members(file, os.path.getsize(path)):
                if isinstance(member, Fault):
                    return promised or "zip"  # damaged: its own reader says so
                if os.path.basename(member.name) in _MARKS_OF_ZARR:
                    return "zarr"
                count += 1
                arrays += member.name.endswith(".npy")
    except OSError:
        return promised or "zip"
    return "npz" if count == arrays > 0 else "zip"


def _of_gzip(head: bytes, path: str) -> str:
    """What is inside, by its first bytes."""
    try:
        inner = zlib.decompressobj(31).decompress(head, _HEAD)
    except zlib.error:
        inner = b""
    if len(inner) < 512 and not is_remote(path):  # the head was cut within its first block
        try:
            with gzip.open(path) as file:
                inner = file.read(_HEAD)
        except (OSError, EOFError, zlib.error):
            pass
    for pattern, name in _COMPILED:
        if pattern.match(inner) and name in ("tar", "idx", "nifti"):
            return name
    promised = suffix_format(path)
    if promised in ("csv", "tar", "idx", "nifti"):
        return promised
    raise SourceError(
        f"{printable(path)} is a gzip file of something else than a tar archive, IDX, NIfTI or "
        "CSV; unpack it first, or say which with format= (--format)"
    )


def _of_compressed(path: str, kind: str) -> str:
    """bzip2, xz and zstd: only tar archives are read."""
    inner = b""
    if not is_remote(path):
        try:
            with open(path, "rb") as file, decompressed(file, kind) as content:
                inner = content.read(_HEAD)
        except (ImportError, OSError, EOFError, lzma.LZMAError):
            pass
    if suffix_format(path) == "tar" or inner[257:262] == b"ustar":
        return "tar"
    raise SourceError(
        f"{printable(path)} is a {kind} file of something else than a tar archive; unpack it first"
    )


def _of_hdf5(path: str) -> str:
    """netCDF 4 files are HDF5 files that were written by its rules."""
    from zeromean.sources.netcdf import is_netcdf

    return "netcdf" if suffix_format(path) == "netcdf" or is_netcdf(path) else "hdf5"


def _is_cifar(path: str) -> bool:
    """By its size: batches of 1 or 2 label bytes and 3 072 of pixels carry no mark."""
    if not path.endswith(".bin"):
        return False
    if is_remote(path):
        from zeromean.sources.remote import size_of

        size = size_of(path)
    else:
        size = os.path.getsize(path)
    return size > 0 and (size % 3073 == 0 or size % 3074 == 0)


# ---------------------------------------------------------------- folders

_MARKS = {
    "zarr.json": "zarr",
    ".zarray": "zarr",
    ".zgroup": "zarr",
    "dataset_dict.json": "dataset",
    "state.json": "dataset",
    "batches.meta.txt": "cifar",
    "fine_label_names.txt": "cifar",
    "batches.meta": "cifar",  # of the Python version: its reader says what to take instead
}


def _of_folder(path: str) -> str:
    """By a file that marks it, else by what most of its files are; pictures come first."""
    try:
        for mark, name in _MARKS.items():
            if os.path.exists(os.path.join(path, mark)):
                return name
    except OSError:
        return "images"
    return _of_files(_files_below(path))


#: Kinds whose files hold data of their own, wherever they lie; lists of labels are often CSV.
_DATA = frozenset("tar zip parquet arrow hdf5 netcdf audio dicom nifti".split())


def beside(path: str, name: str) -> str:
    """What else a folder holds that could be measured, and is not; empty for nothing.

    Parameters
    ----------
    path : str
    name : str
        The format that its files are measured as.
    """
    found = Counter(map(suffix_format, islice(_files_below(path), _LOOKED_AT)))
    others = {kind: n for kind, n in sorted(found.items()) if kind in _DATA and kind != name}
    return ", ".join(f"{n:,} {kind}" for kind, n in others.items())


def _of_remote_folder(url: str) -> str:
    from zeromean.sources.remote import names_below

    if suffix_format(url.rstrip("/")) == "zarr":
        return "zarr"
    address = address_of(url)
    above = address.lead + address.first + ("" if address.first.endswith("/") else "/")
    names = list(islice(names_below(url), _LOOKED_AT))
    for mark, name in _MARKS.items():
        if mark in names:
            return name
    return _of_files(above + name + address.tail for name in names)


def _of_files(files: Iterable[str]) -> str:
    """What most of the first files of a folder are; pictures come first."""
    kinds: Counter[str] = Counter()
    rasters: list[str] = []
    bins: list[str] = []
    bare: list[str] = []
    for file in islice(files, _LOOKED_AT):
        found = suffix_format(file)
        if file.endswith(".bin"):
            bins.append(file)
        if found == "images":
            return found
        if found == "tiff":
            rasters.append(file)
        kinds[found] += 1
        if not found and _is_bare(file):
            bare.append(file)
    kinds.pop("", None)
    if bare and any(_is_dicom(file) for file in bare[:8]):
        kinds["dicom"] += len(bare)
    for other in ("npy", "npz"):  # a folder of arrays is not one data set: name the files
        kinds.pop(other, None)
    if rasters:
        from zeromean.sources.raster import is_raster

        if not any(is_raster(file) for file in rasters[:8]):
            return "images"
    if not kinds:
        return "cifar" if any(map(_is_cifar, bins[:8])) else "images"
    return max(sorted(kinds), key=lambda name: kinds[name])


def _is_bare(name: str) -> bool:
    """Whether a name ends in no extension, or in a number, as scanners write them."""
    suffix = os.path.splitext(name)[1]
    return not suffix or suffix[1:].isdigit()


def _is_dicom(path: str) -> bool:
    try:
        with opened(path, path) as held:
            return bool(held.file.read(132)[128:] == b"DICM")
    except OSError:
        return False


def _files_below(path: str) -> Iterator[str]:
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.join(folder, name)


def files_of(path: str, name: str) -> list[Path]:
    """The files of a format at a path: itself, or those below it in sorted order.

    Parameters
    ----------
    path : str
    name : str
        Of the format.
    """
    if is_remote(path):
        raise SourceError(f"{shown(path)}: copy it to a disk; {FORMATS[name].says} are read there")
    if not os.path.isdir(path):
        return [Path(path)]
    return [Path(file) for file in _files_below(path) if suffix_format(file) == name]
