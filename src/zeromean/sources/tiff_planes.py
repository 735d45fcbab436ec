"""Reads regions of TIFF pages segment by segment, so that a raster of any size takes little memory.

The pages are tifffile's. It decodes a single strip or tile; which ones, and whether their bytes
are all there, is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.sources.decode import DecodeError

_Array = npt.NDArray[Any]

PART = 8 << 20  # bytes of a part
WHOLE = 32 << 20  # bytes up to which an image is not cut, so that it stays one item
_LARGEST_SEGMENT = 128 << 20  # bytes of one decoded strip or tile
_JPEG = (7, 34892, 33007)
_OLD_JPEG = 6


@dataclass(frozen=True, slots=True)
class Region:
    """Rows and columns of a page: from, up to."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True, slots=True)
class Plane:
    """A page, or one of several images that lie behind a single page (ImageJ).

    Attributes
    ----------
    page : tifffile.TiffPage
    number : int
        Of the image behind the page.
    """

    page: Any
    number: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, bands."""
        page = self.page
        return page.imagelength, page.imagewidth, page.samplesperpixel

    @property
    def dtype(self) -> Any:
        """Of its values, in native byte order; None for what NumPy has not."""
        return self.page.dtype

    @property
    def _separate(self) -> bool:
        """Whether each band lies by itself."""
        return bool(self.page.planarconfig == 2 and self.page.samplesperpixel > 1)

    @property
    def _in_one(self) -> bool:
        """Whether rows lie one after another, as NumPy wants them."""
        return bool(self.page.is_final)

    @property
    def segment(self) -> tuple[int, int]:
        """Height and width that are decoded together."""
        if self.page.is_tiled:
            return self.page.tilelength, self.page.tilewidth
        return min(self.page.rowsperstrip, self.page.imagelength), self.page.imagewidth

    def check(self) -> None:
        """Refuse what cannot be read segment by segment.

        Raises
        ------
        DecodeError
        """
        page = self.page
        sizes = (*self.shape, *self.segment, page.imagedepth)
        if not all(isinstance(size, int) and 0 < size < 1 << 31 for size in sizes):
            raise DecodeError("damaged TIFF file: its size makes no sense")
        if self.dtype is None:
            bits = f"{page.bitspersample}-bit " if isinstance(page.bitspersample, int) else ""
            raise DecodeError(f"holds {bits}values of a format that NumPy does not have")
        if np.dtype(self.dtype).kind not in "buif":
            raise DecodeError(f"holds {self.dtype} values; measure their parts as arrays")
        if page.imagedepth > 1:
            raise DecodeError("is a volume in a single page; save its slices as pages")
        if page.compression == _OLD_JPEG:
            raise DecodeError("is compressed with the old JPEG of TIFF 6.0; save it anew")
        if not len(page.dataoffsets) or not any(page.databytecounts):
            raise DecodeError("holds no data")
        if self.number and not self._in_one:
            raise DecodeError("says that images follow its only page, but that one is compressed")
        if not self._in_one:
            self._check_segments()
        elif page.dataoffsets[0] + (self.number + 1) * page.nbytes > page.parent.filehandle.size:
            raise DecodeError("the TIFF file is cut short")

    def _check_segments(self) -> None:
        height, width = self.segment
        n_segments = math.prod(self._grid) * (self.shape[2] if self._separate else 1)
        if len(self.page.dataoffsets) < n_segments:
            raise DecodeError(
                f"is cut short: {len(self.page.dataoffsets)} of {n_segments} strips or tiles"
            )
        bands = 1 if self._separate else self.shape[2]
        size = height * width * bands * np.dtype(self.dtype).itemsize
        if size > _LARGEST_SEGMENT:
            raise DecodeError(
                f"has a strip or tile of {size >> 20:,} MB, too large to be decoded at once; "
                "save it with tiles"
            )

    @property
    def _grid(self) -> tuple[int, int]:
        """How many segments there are below and beside each other."""
        (high, wide), (height, width, _) = self.segment, self.shape
        return math.ceil(height / high), math.ceil(width / wide)

    def read(self, region: Region, fill: Any) -> _Array:
        """Values of a region.

        Parameters
        ----------
        region : Region
        fill : number
            What stands for segments that the file leaves out.

        Returns
        -------
        ndarray of shape (h, w, bands)

        Raises
        ------
        DecodeError
            When bytes are missing.
        """
        native = np.dtype(self.dtype).newbyteorder("=")
        out = np.full((*region.shape, self.shape[2]), fill, native)
        if self._in_one:
            self._read_rows(region, out)
            return out
        high, wide = self.segment
        for band in range(self.shape[2] if self._separate else 1):
            into = out[..., band : band + 1] if self._separate else out
            for y in range(region.top // high, math.ceil(region.bottom / high)):
                for x in range(region.left // wide, math.ceil(region.right / wide)):
                    self._paste(self._decoded(band, y, x), y, x, region, into)
        return out

    def _read_rows(self, region: Region, out: _Array) -> None:
        """Read what lies uncompressed in the file."""
        page, (height, width, bands) = self.page, self.shape
        stored = np.dtype(self.dtype).newbyteorder(page.parent.byteorder)
        together = 1 if self._separate else bands
        row = width * together * stored.itemsize
        begin = page.dataoffsets[0] + self.number * page.nbytes
        for band in range(bands // together):
            data = self._bytes(begin + (band * height + region.top) * row, region.shape[0] * row)
            rows = np.frombuffer(data, stored).reshape(region.shape[0], width, together)
            into = out[..., band : band + 1] if self._separate else out
            into[...] = rows[:, region.left : region.right]

    def _bytes(self, offset: int, size: int) -> bytes:
        handle = self.page.parent.filehandle
        if not 0 <= offset <= handle.size - size:
            raise DecodeError("the TIFF file is cut short")
        handle.seek(offset)
        data: bytes = handle.read(size)
        if len(data) < size:
            raise DecodeError("the TIFF file is cut short")
        return data

    def _decoded(self, band: int, y: int, x: int) -> _Array | None:
        """One segment, (h, w, bands); None where the file leaves it out."""
        page, (rows, columns) = self.page, self._grid
        index = (band * rows + y) * columns + x
        size = page.databytecounts[index]
        if size == 0:
            return None
        data = self._bytes(page.dataoffsets[index], size)
        more: dict[str, Any] = {}
        if page.compression in _JPEG:
            if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise DecodeError("damaged TIFF file: a JPEG tile in it is cut short")
            more = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        decoded: _Array = page.decode(data, index, **more)[0]
        return np.asarray(decoded[0])

    def _paste(self, segment: _Array | None, y: int, x: int, region: Region, out: Any) -> None:
        """Copy what a segment and a region share; what the file leaves out stays as it is."""
        if segment is None:
            return
        y, x = y * self.segment[0], x * self.segment[1]
        top, left = max(y, region.top), max(x, region.left)
        part = segment[top - y : region.bottom - y, left - x : region.right - x]
        high, wide = part.shape[:2]
        top, left = top - region.top, left - region.left
        out[top : top + high, left : left + wide] = part


def regions(plane: Plane, bands: int, rows: bool, columns: bool) -> Iterator[Region]:
    """Cut an image into regions of a few MB that hold whole segments.

    Parameters
    ----------
    plane : Plane
    bands : int
        Of all planes together.
    rows, columns : bool
        Whether it may be cut there.

    Yields
    ------
    Region
    """
    height, width, _ = plane.shape
    pixel = bands * np.dtype(plane.dtype).itemsize
    high, wide = (1, width) if plane._in_one else plane.segment
    tall, broad = height, width
    if height * width * pixel > WHOLE:
        if columns and high * width * pixel > PART:
            broad = max(1, PART // (high * wide * pixel)) * wide
        if rows:
            tall = max(1, PART // (high * min(broad, width) * pixel)) * high
    for top in range(0, height, tall):
        for left in range(0, width, broad):
            yield Region(top, min(top + tall, height), left, min(left + broad, width))
