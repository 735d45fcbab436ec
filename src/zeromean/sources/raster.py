"""Rasters in TIFF files: any number of bands, 16 bits and more, floats, nodata and masks.

Alone knows tifffile. Numbers are those that the file holds: scale and offset are not applied.
"""

from __future__ import annotations

import errno
import io
import logging
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Item, Source, sniff
from zeromean.sources.access import HeldFile, opened
from zeromean.sources.decode import DecodeError
from zeromean.sources.files import Files
from zeromean.sources.parts import can_cut, counted_once
from zeromean.sources.tiff_planes import Plane, Region, regions

_Array = npt.NDArray[Any]

EXTENSIONS = (".tif", ".tiff")
_GDAL_METADATA, _GDAL_NODATA = 42112, 42113
_GEOGRAPHY = (33550, 33922, 34264, 34735)  # scale, tie points, transformation, GeoKeys
_MASK, _REDUCED = 4, 1  # bits of NewSubfileType
_TRANSPARENCY = 4  # a photometric interpretation


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open folders and files of rasters as one source.

    Parameters
    ----------
    paths : list of str
    pattern : Pattern or None
        None for one number a band.
    options : Options
    name : str
        Of the format.
    """
    _tifffile()  # a missing one is said before any file is opened
    chosen = pattern or Pattern.parse(NAMED["channel"])
    files = Files(
        paths,
        RasterReader(chosen, options.group or ""),
        extensions=options.extensions or EXTENSIONS,
        pattern=chosen,
        limit=options.limit,
    )
    return [files]


# ---------------------------------------------------------------- recognition


def is_raster(source: str | bytes) -> bool:
    """Whether a TIFF file is more than a picture: geography, many bands, depth that Pillow cuts.

    Parameters
    ----------
    source : str or bytes
        A path or URL, or the content.
    """
    try:
        if isinstance(source, bytes):
            return _beyond_pictures(io.BytesIO(source))
        with opened(source, source) as held:
            return _beyond_pictures(held.file)
    except (OSError, struct.error, OverflowError):
        return False  # opening it says what is wrong


def _beyond_pictures(file: Any) -> bool:
    tags = _first_directory(file)
    if tags.keys() & {*_GEOGRAPHY, _GDAL_METADATA, _GDAL_NODATA}:
        return True
    samples = tags.get(277, [1])[0]
    deep = max(tags.get(258, [1])) > 8 or any(form in (2, 3, 5, 6) for form in tags.get(339, [1]))
    return samples > 4 or (samples > 1 and deep)


def _first_directory(file: Any) -> dict[int, list[int]]:
    """Tags of the first page; values of those that hold few 16-bit numbers."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    start = struct.unpack_from(f"{order}Q" if big else f"{order}I", head, 8 if big else 4)[0]
    file.seek(start)
    count = struct.unpack(f"{order}Q" if big else f"{order}H", file.read(8 if big else 2))[0]
    size, inside = (20, 8) if big else (12, 4)
    entries = file.read(min(count, 4096) * size)
    tags = {}
    for at in range(0, len(entries) - size + 1, size):
        tag, kind = struct.unpack_from(f"{order}HH", entries, at)
        n = struct.unpack_from(f"{order}Q" if big else f"{order}I", entries, at + 4)[0]
        value = entries[at + size - inside : at + size]
        tags[tag] = [0]
        if kind == 3 and 0 < n <= 4096:
            if 2 * n > inside:
                file.seek(struct.unpack(f"{order}Q" if big else f"{order}I", value)[0])
                value = file.read(2 * n)
            tags[tag] = list(struct.unpack_from(f"{order}{n}H", value))
    return tags


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class RasterReader:
    """Reads rasters: every page of full resolution is a sample.

    Attributes
    ----------
    pattern : Pattern
        Says whether an image may be cut.
    group : str
        The one kind that is wanted, such as ``"4-band uint16"``; empty for any.
    """

    pattern: Pattern
    group: str = ""

    def __call__(self, file: HeldFile, memory: Any) -> Iterator[Item]:
        """Parts of all images of the file, each of which counts as an item."""
        tifffile = _tifffile()
        file.file.seek(0)
        head = file.file.read(8)
        if sniff.image_format(head) != "TIFF":
            raise DecodeError("not a TIFF file" if head else "empty file")
        file.file.seek(0)
        try:
            with tifffile.TiffFile(file.file) as tiff:
                decoder = f"tifffile {tifffile.__version__}"
                yield from counted_once(
                    Item(values, file.name, "", kind, decoder, notes, n_items=n, missing=missing)
                    for values, missing, kind, notes, n in self._parts(tiff)
                )
        except (SourceError, MemoryError):
            raise
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place that no file has
                raise
            raise DecodeError("damaged TIFF file: it refers to no place in it") from None
        except Exception as error:  # tifffile and its codecs fail in every way there is
            raise DecodeError(_damaged(error)) from error

    def scratch(self) -> None:
        """None: parts wait for each other."""

    def _parts(self, tiff: Any) -> Iterator[tuple[Any, Any, str, tuple[str, ...], int]]:
        choices = _choices(tiff)
        kind, notes = self._described(tiff, choices)
        for choice in choices:
            image = choice.image(tiff)
            shape = (1, *image.planes[0].shape[:2], image.n_bands)
            cuts = (can_cut(self.pattern, shape, axis) for axis in (1, 2))
            for region in regions(image.planes[0], image.n_bands, *cuts):
                values = image.read(region)
                yield values, image.missing(values, region), kind, notes, len(choices)

    def _described(self, tiff: Any, choices: list[Choice]) -> tuple[str, tuple[str, ...]]:
        """Kind and notes of all images; pages are read anew, since stacks have very many."""
        kind = choices[0].image(tiff).kind
        if self.group and self.group not in (kind, kind.split(" ")[0]):
            raise DecodeError(f"{kind}, not the chosen group {self.group}")
        notes: dict[str, None] = {}
        for choice in choices:
            image = choice.image(tiff)
            if image.kind != kind:
                raise DecodeError(f"holds images of different kinds: {kind}, {image.kind}")
            notes.update(dict.fromkeys((*choice.notes, *image.notes)))
        return kind, tuple(notes)


@dataclass(frozen=True, slots=True)
class Choice:
    """The pages of one image.

    Attributes
    ----------
    pages : tuple of (int, int)
        Places in the file, and which image behind that page.
    mask : int or None
        The page of its mask.
    notes : tuple of str
    """

    pages: tuple[tuple[int, int], ...]
    mask: int | None = None
    notes: tuple[str, ...] = ()

    def image(self, tiff: Any) -> Image:
        """Read what the pages say."""
        planes = [Plane(tiff.pages[page].aspage(), number) for page, number in self.pages]
        return Image(planes, None if self.mask is None else Plane(tiff.pages[self.mask].aspage()))


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a file: pages whose bands belong together, and what says where it has no data.

    Attributes
    ----------
    planes : list of Plane
    mask : Plane or None
        Zero where there is no data.
    """

    planes: list[Plane]
    mask: Plane | None = None
    nodata: Any = field(init=False, default=None)
    notes: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        page = self.planes[0].page
        for plane in self.planes:
            plane.check()
        if len({(plane.shape, plane.dtype) for plane in self.planes}) > 1:
            raise DecodeError("holds channels of different sizes or formats")
        if self.mask is not None:
            self.mask.check()
            if self.mask.shape[:2] != self.planes[0].shape[:2]:
                raise DecodeError("has a mask of another size")
        nodata, note = _nodata(page, np.dtype(page.dtype))
        notes = (note, "mask" if self.mask else "", *_notes(page))
        object.__setattr__(self, "nodata", nodata)
        object.__setattr__(self, "notes", tuple(filter(None, notes)))

    @property
    def n_bands(self) -> int:
        """Of all planes together."""
        return sum(plane.shape[2] for plane in self.planes)

    @property
    def kind(self) -> str:
        """Such as ``"4-band uint16"``."""
        return f"{self.n_bands}-band {np.dtype(self.planes[0].dtype).name}"

    def read(self, region: Region) -> _Array:
        """Values of a region, (h, w, bands)."""
        fill = 0 if self.nodata is None else self.nodata
        parts = [plane.read(region, fill) for plane in self.planes]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def missing(self, values: _Array, region: Region) -> _Array | None:
        """Where a region has no data; None for nowhere."""
        missing: _Array | None = None if self.nodata is None else values == self.nodata
        if self.mask is not None:
            outside = self.mask.read(region, 0)[..., :1] == 0
            missing = (
                np.broadcast_to(outside, values.shape) if missing is None else missing | outside
            )
        return missing


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError:
        raise ImportError('GeoTIFF files need tifffile: pip install "zeromean[tiff]"') from None
    # Without a handler of anybody's, logging would print what we say in a sentence.
    logger = logging.getLogger("tifffile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return tifffile


def _damaged(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
    if "imagecodecs" in text:
        return f'{text}: pip install "zeromean[tiff]"'
    return f"damaged TIFF file: {text}"


def _choices(tiff: Any) -> list[Choice]:
    """The images of full resolution, with their masks; overviews are left out.

    Raises
    ------
    DecodeError
        When there is none.
    """
    _check_chain(tiff)
    found: list[tuple[int, int]] = []
    masks: dict[int, int] = {}
    for i, page in enumerate(tiff.pages):
        page = page.aspage()
        kind, older = _number(page, 254), _number(page, 255)
        if kind & _REDUCED or older == 2:
            continue
        if kind & _MASK or page.photometric == _TRANSPARENCY:
            masks.setdefault(len(found) - 1, i)
        else:
            found.append((i, 0))
    if not found:
        raise DecodeError("holds no image of full resolution")
    if tiff.is_imagej and len(found) == 1:
        n_images = int((tiff.imagej_metadata or {}).get("images", 1))
        found = [(found[0][0], number) for number in range(n_images)]
    axes, shape = _stack(tiff)
    if "C" not in axes or masks:
        return [Choice((page,), masks.get(i)) for i, page in enumerate(found)]
    if math.prod(shape) != len(found):
        return [Choice((page,), None, ("channels are not told apart",)) for page in found]
    at = axes.index("C")
    order = np.arange(len(found)).reshape(-1, shape[at], math.prod(shape[at + 1 :]))
    images = order.transpose(0, 2, 1).reshape(-1, shape[at]).tolist()
    return [Choice(tuple(found[i] for i in chosen)) for chosen in images]


def _check_chain(tiff: Any) -> None:
    """Refuse a file whose pages are not all there: tifffile takes those it finds, or goes round.

    Raises
    ------
    DecodeError
    """
    handle, order, big = tiff.filehandle, tiff.byteorder, tiff.is_bigtiff
    count, entry, offset, at = ("Q", 20, "Q", 8) if big else ("H", 12, "I", 4)
    counted, wide = struct.calcsize(f"={count}"), struct.calcsize(f"={offset}")
    seen: set[int] = set()
    while True:
        handle.seek(at)
        data = handle.read(wide)
        if len(data) < wide:
            raise DecodeError("the TIFF file is cut short")
        start = struct.unpack(f"{order}{offset}", data)[0]
        if start == 0 or tiff.is_ndpi:  # which has offsets of its own
            return
        if start in seen:
            raise DecodeError("damaged TIFF file: its pages go round in a circle")
        seen.add(start)
        handle.seek(start)
        data = handle.read(counted)
        if len(data) < counted:
            raise DecodeError("the TIFF file is cut short")
        at = start + counted + entry * struct.unpack(f"{order}{count}", data)[0]


def _number(page: Any, tag: int) -> int:
    value = page.tags.valueof(tag, 0)
    return int(value) if isinstance(value, int) else 0


def _stack(tiff: Any) -> tuple[str, tuple[int, ...]]:
    """Axes and lengths along which a microscope's pages lie; none where it is no such file."""
    if not (tiff.is_imagej or tiff.is_ome):
        return "", ()
    series = tiff.series
    if len(series) != 1:
        return "", ()
    axes, shape = series[0].axes, series[0].shape
    n = len(axes) - len(tiff.pages.first.axes)
    return axes[:n], shape[:n]


# ---------------------------------------------------------------- nodata and notes


def _nodata(page: Any, dtype: Any) -> tuple[Any, str]:
    """The value that stands for no data, in the dtype of the image, and a note about it.

    It is written in decimals, in which a float32 has to be found again; and it may be one that
    the dtype does not have, which then stands for nothing.
    """
    text = str(page.tags.valueof(_GDAL_NODATA, "")).strip("\0 ")
    if not text:
        return None, ""
    try:
        number: Any = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    except ValueError:
        return None, f"nodata {text[:40]!r} is no number"
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = dtype.type(number)
        if math.isfinite(number) and not np.isfinite(value):
            return None, f"nodata {text} is beyond {dtype.name}"
        return (None if math.isnan(number) else value), f"nodata {text}"
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not math.isfinite(number) or number != int(number) or not low <= number <= high:
        return None, f"nodata {text} is beyond {dtype.name}"
    return dtype.type(int(number)), f"nodata {text}"


def _notes(page: Any) -> Iterator[str]:
    """What was not done to the numbers, and what was."""
    if any(sample in (1, 2) for sample in page.extrasamples):
        yield "alpha kept as a band"
    if page.photometric == 3:
        yield "palette not applied"
    if page.photometric == 6:
        converted = page.compression == 7 and not page.extrasamples
        yield "YCbCr" if converted else "YCbCr kept"
    if _number(page, 274) > 1:
        yield "TIFF orientation not applied"
    items = re.findall(
        r'<Item name="(?:SCALE|OFFSET)" sample="\d+" role="(scale|offset)">([^<]*)</Item>',
        str(page.tags.valueof(_GDAL_METADATA, "")),
    )
    known = {role: sorted({value for name, value in items if name == role}) for role, _ in items}
    if any(len(values) > 1 for values in known.values()):
        yield "scales and offsets of the bands not applied"
    elif known:
        said = " ".join(
            f"{role} {values[0]}" for role, values in sorted(known.items(), reverse=True)
        )
        yield f"{said} not applied"
