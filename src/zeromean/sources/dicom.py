"""DICOM files: pixels as modality values (rescale slope and intercept applied), frame by frame.

Alone knows pydicom. Only what describes the pixels is read of a header: nothing about a patient.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Item, Source
from zeromean.sources.access import HeldFile
from zeromean.sources.choosing import ChosenFiles, accepts
from zeromean.sources.decode import DecodeError
from zeromean.sources.dicom_header import known_name, pixel_element, read_header
from zeromean.sources.modality import Modality, modality_of, padding_of
from zeromean.sources.parts import counted_once
from zeromean.sources.strictness import STRICTLY

_Array = npt.NDArray[Any]

EXTENSIONS = (".dcm", ".dicom", ".ima")
_PART = 8 << 20  # bytes of frames that are handed over together
_LARGEST_FRAME = 512 << 20  # bytes
_UNDEFINED = 0xFFFFFFFF  # the length of pixels that lie in fragments


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open folders and files of images as one source.

    Parameters
    ----------
    paths : list of str
    pattern : Pattern or None
        None for one number a channel.
    options : Options
        When the format was given by name, every file of a folder is read.
    name : str
        Of the format.
    """
    _pydicom()  # a missing one is said before any file is opened
    files = ChosenFiles(
        paths,
        DicomReader(options.group or ""),
        accept=_choice(options),
        extensions=options.extensions or EXTENSIONS,
        pattern=pattern or Pattern.parse(NAMED["channel"]),
        limit=options.limit,
    )
    return [files]


def _choice(options: Any) -> Callable[[str], bool]:
    if options.extensions:
        return accepts(options.extensions)
    return _is_no_directory if options.format else may_be_dicom


def may_be_dicom(path: str) -> bool:
    """Whether a file may be a DICOM image by its name: scanners often give no extension, or a UID.

    Parameters
    ----------
    path : str
    """
    suffix = os.path.splitext(path)[1].lower()
    likely = suffix in EXTENSIONS or not suffix or suffix[1:].isdigit()
    return likely and _is_no_directory(path)


def _is_no_directory(path: str) -> bool:
    """Whether it is anything but the table of contents of a medium."""
    return os.path.basename(path).upper() != "DICOMDIR"


@dataclass(frozen=True, slots=True)
class DicomReader:
    """Reads DICOM images; every frame counts as an item.

    Attributes
    ----------
    group : str
        The one kind that is wanted, such as ``"1-channel int32"``; empty for any.
    """

    group: str = ""

    def __call__(self, file: HeldFile, memory: Any) -> Iterator[Item]:
        """The frames of one file, a few MB at a time."""
        try:
            with _buffered(file.file) as stream:
                with STRICTLY:
                    image = _image(stream, file.size)
                    kind, notes = image.kind, image.notes
                self._check(kind)
                decoder = f"pydicom {_pydicom().__version__}"
                yield from counted_once(
                    Item(
                        values, file.name, "", kind, decoder, notes,
                        batched=True, n_items=image.n_frames, missing=missing,
                    )
                    for values, missing in _together(image.frames())
                )  # fmt: skip
        except (SourceError, MemoryError):
            raise
        except Exception as error:  # pydicom and its decoders fail in every way there is
            raise DecodeError(_damaged(error)) from error

    def scratch(self) -> None:
        """None: frames wait for each other."""

    def _check(self, kind: str) -> None:
        if self.group and self.group not in (kind, kind.split(" ")[0]):
            raise DecodeError(f"{kind}, not the chosen group {self.group}")


def _pydicom() -> Any:
    try:
        import pydicom.pixels
    except ImportError:
        raise ImportError('DICOM files need pydicom: pip install "zeromean[medical]"') from None
    return pydicom


def _pixels() -> Any:
    """pydicom's functions on pixels."""
    return _pydicom().pixels


@contextmanager
def _buffered(file: Any) -> Iterator[Any]:
    """A file at its beginning, with a buffer: headers are read in very small pieces."""
    file.seek(0)
    if not isinstance(file, io.RawIOBase):
        yield file
        return
    stream = io.BufferedReader(file)
    try:
        yield stream
    finally:
        stream.detach()


def _damaged(error: Exception) -> str:
    """What a decoder said of pixels; of a header nothing, since errors quote what is in it."""
    lines = [line.strip() for line in str(error).splitlines()] or [""]
    if lines[0].startswith(("Unable to decode as", "Unable to generate frames")):
        return f"damaged DICOM file: {lines[-1][:160]}"
    return f"damaged DICOM file: its header does not fit its pixels ({type(error).__name__})"


# ---------------------------------------------------------------- one file


@dataclass(frozen=True, slots=True)
class _Image:
    """The pixels of one file.

    Attributes
    ----------
    header : pydicom.Dataset
        What describes the pixels.
    stream : binary file
        At the first byte of the pixels.
    syntax : pydicom.uid.UID
        How they are encoded.
    options : dict
        What the decoder must know.
    n_frames : int
    stored : str
        dtype of the stored values.
    modality : Modality
    """

    header: Any
    stream: Any
    syntax: Any
    options: dict[str, Any]
    n_frames: int
    stored: str
    modality: Modality

    @property
    def photometric(self) -> str:
        """What the header says that the samples are."""
        return str(self.header.get("PhotometricInterpretation", ""))

    @property
    def kind(self) -> str:
        """Such as ``"1-channel int32"`` or ``"RGB uint8"``."""
        if self.photometric == "PALETTE COLOR":
            alpha = "AlphaPaletteColorLookupTableData" in self.header
            return f"{'RGBA' if alpha else 'RGB'} {self._palette_dtype}"
        colors = self.photometric in ("RGB", *_TO_RGB)
        name = "RGB" if colors else f"{self.header.SamplesPerPixel}-channel"
        return f"{name} {self.modality.dtype}"

    @property
    def _palette_dtype(self) -> str:
        entries, _, bits = (int(v) for v in self.header.RedPaletteColorLookupTableDescriptor)
        data = self.header.get("RedPaletteColorLookupTableData")
        wide = bits > 8 if data is None else len(data) >= 2 * (entries or 1 << 16)
        return "uint16" if wide else "uint8"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to its values, and what is not."""
        header, notes = self.header, []
        if self.syntax.is_compressed:
            notes.append(known_name(self.syntax) or "another compression")
        if header.get("BitsStored", header.BitsAllocated) < header.BitsAllocated:
            notes.append(f"{header.BitsStored} of {header.BitsAllocated} bits stored")
        if self.photometric == "MONOCHROME1":
            notes.append("MONOCHROME1 not inverted")
        if self.photometric == "PALETTE COLOR":
            notes.append("palette")
        if self.photometric in _TO_RGB:
            notes.append(f"{self.photometric} to RGB")
        if (padding := self._padding) is not None:
            notes.append("pixel padding " + "..".join(str(v) for v in sorted({*padding})))
        return (*notes, self.modality.note) if self.modality.note else tuple(notes)

    @property
    def _padding(self) -> tuple[int, int] | None:
        return padding_of(self.header, self.stored) if self.header.SamplesPerPixel == 1 else None

    def frames(self) -> Iterator[tuple[_Array, _Array | None]]:
        """Values of each frame, (h, w, channels), and where they stand for no data.

        Raises
        ------
        DecodeError
            When there are fewer frames than the header says, or more.
        """
        padding, count = self._padding, 0
        for stored in self._decoded():
            if count == self.n_frames:
                raise DecodeError(f"holds more than the {count} frames of its header")
            frame = stored.astype(self.stored, copy=False)
            if frame.ndim == 2:
                frame = frame[..., None]
            missing = None
            if padding is not None:
                missing = (frame >= padding[0]) & (frame <= padding[1])
            if self.photometric == "PALETTE COLOR":
                frame, missing = self._looked_up(stored), None
            yield self.modality(frame, count), missing
            count += 1
        if count < self.n_frames:
            raise DecodeError(f"is cut short: {count} of {self.n_frames} frames")

    def _decoded(self) -> Iterator[_Array]:
        """Frames as pydicom gives them; silent and strict only while it is at work."""
        if self.stored == "bool" and not self.syntax.is_encapsulated:
            yield from self._unpacked_bits()
            return
        decoder = _pixels().get_decoder(self.syntax)
        # Without indices, pydicom 3.0 fails to correct the signs of JPEG 2000.
        signs = known_name(self.syntax).startswith(("JPEG 2000", "High-Throughput"))
        indices = range(self.n_frames) if signs else None
        frames = decoder.iter_array(self.stream, indices=indices, **self.options)
        while True:
            with STRICTLY:
                found = next(frames, None)
            if found is None:
                return
            yield found[0]

    def _unpacked_bits(self) -> Iterator[_Array]:
        """Frames of single bits, which begin within a byte; pydicom 3.0 reads them too short."""
        begin = self.stream.tell()
        size = self.header.Rows * self.header.Columns
        for first in range(0, size * self.n_frames, size):
            self.stream.seek(begin + first // 8)
            data = self.stream.read((first + size + 7) // 8 - first // 8)
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            frame = bits[first % 8 : first % 8 + size]
            yield frame.reshape(self.header.Rows, self.header.Columns)

    def _looked_up(self, frame: _Array) -> _Array:
        """The colors that indices of a palette stand for."""
        colors: _Array = _pixels().apply_color_lut(frame, self.header)
        return colors


_TO_RGB = ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom converts these


def _together(
    frames: Iterator[tuple[_Array, _Array | None]],
) -> Iterator[tuple[_Array, _Array | None]]:
    """Small frames stacked up to a few MB, (n, h, w, channels)."""
    held: list[_Array] = []
    gaps: list[_Array | None] = []
    for values, missing in frames:
        held.append(values)
        gaps.append(missing)
        if len(held) * values.nbytes >= _PART:
            yield _stacked(held), _stacked(gaps)
            held, gaps = [], []
    if held:
        yield _stacked(held), _stacked(gaps)


def _stacked(frames: list[Any]) -> Any:
    return None if frames[0] is None else np.stack(frames)


# ---------------------------------------------------------------- headers


def _image(stream: Any, size: int) -> _Image:
    """Read what describes the pixels; leaves the stream at them.

    Raises
    ------
    DecodeError
        When it is no DICOM file, holds no pixels, or such that cannot be read.
    """
    header, stream, size, syntax = read_header(stream, size)
    pixels, vr, length = pixel_element(stream, syntax, header)
    n_frames = _n_frames(header)
    stored = _stored_dtype(header, pixels)
    options = _pixels().as_pixel_options(
        header, number_of_frames=n_frames, pixel_keyword=pixels, **({"pixel_vr": vr} if vr else {})
    )
    _check_decoder(syntax, options)
    if not syntax.is_encapsulated:
        _check_length(header, n_frames, length, size - stream.tell())
    color = header.get("SamplesPerPixel") != 1 or "PALETTE" in str(
        header.get("PhotometricInterpretation", "")
    )
    modality = Modality(stored, stored) if color else modality_of(header, stored, n_frames)
    return _Image(header, stream, syntax, options, n_frames, stored, modality)


def _n_frames(header: Any) -> int:
    try:
        count = int(header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        raise DecodeError("damaged DICOM file: its number of frames is no number") from None
    if count < 1:
        raise DecodeError(f"damaged DICOM file: {count} frames")
    return count


def _stored_dtype(header: Any, pixels: str) -> str:
    for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"):
        if not isinstance(header.get(name), int):
            raise DecodeError(f"damaged DICOM file: it does not say {name}")
    if pixels != "PixelData":
        return "float32" if pixels.startswith("Float") else "float64"
    bits, high, stored = (header.get(n) for n in ("BitsAllocated", "HighBit", "BitsStored"))
    if isinstance(high, int) and isinstance(stored, int) and high != stored - 1:
        raise DecodeError(f"its pixels end in bit {high}, not in bit {stored - 1}")
    if bits not in (1, 8, 16, 32, 64):
        raise DecodeError(f"its pixels have {bits} bits")
    signed = header.get("PixelRepresentation") == 1
    return "bool" if bits == 1 else f"{'int' if signed else 'uint'}{bits}"


def _check_decoder(syntax: Any, options: dict[str, Any]) -> None:
    """Say what to install for pixels that cannot be decoded."""
    try:
        decoder = _pixels().get_decoder(syntax)
    except NotImplementedError:
        name = known_name(syntax) or "unknown"
        raise DecodeError(f"holds pixels of an encoding that is not read: {name}") from None
    twelve = known_name(syntax).startswith("JPEG Extended") and options.get("bits_stored") != 8
    if decoder.is_available and not (twelve and decoder.available_plugins == ("pillow",)):
        return
    needs = decoder.missing_dependencies[-1].partition(" requires ")[2].replace("numpy and ", "")
    raise DecodeError(f"holds {known_name(syntax)} pixels, for which pydicom needs {needs}")


def _check_length(header: Any, n_frames: int, length: int, held: int) -> None:
    """Refuse pixels that are not all there."""
    values = header.Rows * header.Columns * header.SamplesPerPixel
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        values = values // 3 * 2
    if values * header.BitsAllocated > 8 * _LARGEST_FRAME:
        raise DecodeError(f"has frames of {values:,} values, too large to be held")
    wanted = math.ceil(values * n_frames * header.BitsAllocated / 8)
    if length == _UNDEFINED:
        raise DecodeError("damaged DICOM file: its pixels are encapsulated, but not compressed")
    if min(length, held) < wanted:
        raise DecodeError(f"is cut short: {min(length, held):,} of {wanted:,} bytes of pixels")
