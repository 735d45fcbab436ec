"""WAV and FLAC recordings: samples as the file holds them, or log-mel features.

Alone knows soundfile. libsndfile reads a file that is cut short without a word, so lengths are
compared with what the header promises, and the samples of a FLAC file with its checksum.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zeromean.errors import SourceError
from zeromean.pattern import Pattern
from zeromean.sources import Item, Source
from zeromean.sources.access import HeldFile, opened
from zeromean.sources.decode import DecodeError
from zeromean.sources.files import Files
from zeromean.sources.logmel import LogMel, center_frequencies
from zeromean.sources.parts import counted_once

_Array = npt.NDArray[Any]

EXTENSIONS = (".wav", ".flac")
FEATURES = ("samples", "logmel")
_BLOCK = 1 << 20  # values read at a time, of all channels together
_UNKNOWN = 0xFFFFFFFF  # length in the header of a recording that was piped

#: libsndfile's name of the samples, what they are read as, and the dtype they are measured in.
_SAMPLES = {
    "PCM_U8": ("int16", "uint8"),
    "PCM_S8": ("int16", "int8"),
    "PCM_16": ("int16", "int16"),
    "PCM_24": ("int32", "int32"),
    "PCM_32": ("int32", "int32"),
    "FLOAT": ("float32", "float32"),
    "DOUBLE": ("float64", "float64"),
    "ULAW": ("int16", "int16"),
    "ALAW": ("int16", "int16"),
}
#: What full scale is, where that is not known from the dtype.
_FULL_SCALE = {"PCM_24": 1 << 23, "PCM_32": 1 << 31}


def open_paths(paths: list[str], pattern: Pattern | None, options: Any, name: str) -> list[Source]:
    """Open folders and files of recordings as one source.

    Parameters
    ----------
    paths : list of str
    pattern : Pattern or None
        None for one number a channel, or a mel bin.
    options : Options
    name : str
        Of the format.
    """
    if options.features not in FEATURES:
        raise SourceError(f"features is {options.features!r}; choose 'samples' or 'logmel'")
    _soundfile()  # a missing one is said before any file is opened
    own = Pattern.parse("n c -> c" if options.features == "samples" else "n d -> d")
    files = AudioFiles(
        paths,
        AudioReader(options.features, options.group or ""),
        extensions=options.extensions or EXTENSIONS,
        pattern=pattern or own,
        limit=options.limit,
    )
    return [files]


@dataclass(frozen=True, slots=True)
class AudioReader:
    """Reads recordings in blocks of about a million values.

    Attributes
    ----------
    features : {"samples", "logmel"}
    group : str
        The one kind that is wanted, such as ``"mono-samples int16"``; empty for any.
    """

    features: str = "samples"
    group: str = ""

    def __call__(self, file: HeldFile, memory: Any) -> Iterator[Item]:
        """Parts of one recording, which counts as one item."""
        with recording(file) as sound:
            kind = self._kind(sound)
            if self.group and self.group not in (kind, kind.split(" ")[0]):
                raise DecodeError(f"{kind}, not the chosen group {self.group}")
            notes = (f"{sound.rate} Hz", *sound.notes)
            decoder = f"libsndfile {_soundfile().__libsndfile_version__}"
            parts: Iterator[_Array] = sound.blocks()
            if self.features == "logmel":
                parts = LogMel(sound.rate).blocks(sound.signals())
                notes += ("channels averaged",) if sound.channels > 1 else ()
            yield from counted_once(
                Item(part, file.name, "", kind, decoder, notes, batched=True, n_items=1)
                for part in parts
            )

    def scratch(self) -> None:
        """None: parts wait for each other."""

    def _kind(self, sound: Recording) -> str:
        if self.features == "samples":
            few = {1: "mono", 2: "stereo"}.get(sound.channels, f"{sound.channels}-channel")
            return f"{few}-samples {sound.dtype}"
        features = LogMel(sound.rate)
        if not features.usable:
            raise DecodeError(f"{sound.rate} Hz is no sample rate for 80 mel bins")
        if sound.frames is not None and sound.frames < features.length:
            raise DecodeError("is shorter than one window of 25 ms")
        return f"logmel-{sound.rate}-Hz float32"


class AudioFiles(Files):
    """Folders and files of recordings, as a source for `measure`."""

    reader: AudioReader

    def complete(self, record: Any) -> Any:
        """With a warning when sample rates differ."""
        record = super().complete(record)
        rates = {k: n for k, n in record.notes.items() if k.endswith(" Hz")}
        if len(rates) < 2:
            return record
        held = ", ".join(f"{rate} ({n:,})" for rate, n in sorted(rates.items()))
        text = f"recordings of different sample rates are measured together: {held}"
        return replace(record, warnings=(*record.warnings, text))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of mel bins, by their middle frequency; the first recording has the sample rate."""
        if self.reader.features == "samples":
            return ()
        for path, name, reason in self.files():
            rate = 0 if reason else self._rate(path, name)
            if rate:
                middles = center_frequencies(rate)
                return tuple(f"mel {i} ({f:.0f} Hz)" for i, f in enumerate(middles))
        return ()

    def _rate(self, path: str, name: str) -> int:
        """Sample rate of a recording; 0 for what cannot be read, or is not wanted."""
        try:
            with opened(path, name) as file, recording(file) as sound:
                kind = self.reader._kind(sound)
                wanted = self.reader.group in ("", kind, kind.split(" ")[0])
                return sound.rate if wanted else 0
        except (OSError, MemoryError):
            return 0  # reading it will say why


# ---------------------------------------------------------------- one recording


class _Header(NamedTuple):
    """What the file itself says of its length: frames, None when it does not, and its checksum."""

    frames: int | None
    notes: tuple[str, ...] = ()
    md5: bytes = b""


@dataclass(frozen=True, slots=True)
class Recording:
    """One opened recording.

    Attributes
    ----------
    sound : soundfile.SoundFile
    header : _Header
    """

    sound: Any
    header: _Header

    @property
    def rate(self) -> int:
        """Samples a second."""
        return int(self.sound.samplerate)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.sound.channels)

    @property
    def frames(self) -> int | None:
        """Samples of each channel, None when the header does not say."""
        return self.header.frames

    @property
    def dtype(self) -> str:
        """That its samples are measured in."""
        return _SAMPLES[self.sound.subtype][1]

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to know of it beside its sample rate."""
        law = {"ULAW": ("mu-law",), "ALAW": ("A-law",)}.get(self.sound.subtype, ())
        return (*law, *self.header.notes)

    def blocks(self) -> Iterator[_Array]:
        """All samples, (n, channels) at a time, each a new array.

        Raises
        ------
        DecodeError
            When there are fewer than the header promises, or others.
        """
        from soundfile import SoundFileError

        read_as = _SAMPLES[self.sound.subtype][0]
        step = max(1, _BLOCK // self.channels)
        checksum, frames = hashlib.md5(usedforsecurity=False), 0
        while True:
            try:
                block = self.sound.read(step, dtype=read_as, always_2d=True)
            except SoundFileError as error:
                raise DecodeError(_damaged(self.sound.format, error)) from None
            if not len(block):
                break
            frames += len(block)
            block = _as_stored(block, self.sound.subtype)
            if self.header.md5:
                checksum.update(_packed(block, self.sound.subtype))
            yield block
        if self.frames is not None and frames < self.frames:
            raise DecodeError(f"is cut short: {frames:,} of {self.frames:,} samples")
        if self.header.md5 and checksum.digest() != self.header.md5:
            raise DecodeError("damaged FLAC file: its samples do not fit its checksum")

    def signals(self) -> Iterator[npt.NDArray[np.float64]]:
        """Samples between −1 and 1, channels averaged."""
        dtype = np.dtype(self.dtype)
        full = _FULL_SCALE.get(self.sound.subtype, 1 << (8 * dtype.itemsize - 1))
        for block in self.blocks():
            with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinities are counted
                signal = block.astype(np.float64)
                if dtype == np.uint8:
                    signal -= 128
                if dtype.kind != "f":
                    signal /= full
                signal = signal[:, 0] if self.channels == 1 else signal.mean(axis=1)
            yield signal


@contextmanager
def recording(file: HeldFile) -> Iterator[Recording]:
    """Open a WAV or FLAC file for the time of a block.

    Raises
    ------
    DecodeError
        When it is none, is cut short, or holds compressed samples.
    """
    soundfile = _soundfile()
    header = _header(file.file, file.size)
    file.file.seek(0)
    try:
        sound = soundfile.SoundFile(_handle(file.file), closefd=False)
    except soundfile.SoundFileError as error:
        raise DecodeError(_damaged("WAV or FLAC", error)) from None
    with sound:
        if sound.subtype not in _SAMPLES:
            raise DecodeError(f"holds {sound.subtype_info} samples; convert them to PCM first")
        # soundfile seeks after each block to where it is, which fails where the length is unknown.
        sound.seekable = lambda: False
        yield Recording(sound, header)


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError:
        raise ImportError(
            'WAV and FLAC files need soundfile: pip install "zeromean[audio]"'
        ) from None
    except OSError as error:
        raise ImportError(f"soundfile finds no libsndfile: {error}") from None
    return soundfile


def _handle(file: Any) -> Any:
    """A file descriptor where there is one, which libsndfile reads without asking Python."""
    try:
        return file.fileno()
    except (AttributeError, OSError):
        return file


def _damaged(form: str, error: Exception) -> str:
    text = getattr(error, "error_string", str(error)).strip().rstrip(".")
    if text == "Format not recognised":
        return f"not a {form} file"
    return f"damaged {form} file: {text.removeprefix('Error : ')}"


def _as_stored(block: _Array, subtype: str) -> _Array:
    """Undo the shift by which libsndfile brings narrow samples to the width they are read in."""
    if subtype == "PCM_U8":
        return ((block >> 8) + 128).astype(np.uint8)
    if subtype == "PCM_S8":
        return (block >> 8).astype(np.int8)
    return block >> 8 if subtype == "PCM_24" else block


def _packed(block: _Array, subtype: str) -> bytes:
    """Samples as FLAC's checksum takes them: little-endian, in as few bytes as hold them."""
    little = np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
    if subtype == "PCM_24":
        return little.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return little.tobytes()


# ---------------------------------------------------------------- lengths


def _header(file: Any, size: int) -> _Header:
    file.seek(0)
    head = file.read(42)
    if head[:4] == b"fLaC" and len(head) == 42:
        frames = int.from_bytes(head[21:26], "big") & ((1 << 36) - 1)
        md5 = head[26:42]
        return _Header(frames or None, (), md5 if any(md5) else b"")
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return _wav_header(file, size, ">" if head[:4] == b"RIFX" else "<")
    if not head:
        raise DecodeError("empty file")
    raise DecodeError("not a WAV or FLAC file")


def _wav_header(file: Any, size: int, order: str) -> _Header:
    """Walk the chunks up to the samples."""
    at, align, wide = 12, 0, None
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(f"{order}4sI", _read(file, 8))
        if name == b"ds64":  # RF64: lengths of 64 bits
            wide = struct.unpack("<Q", _read(file, 16)[8:])[0]
        elif name == b"fmt ":
            align = struct.unpack(f"{order}H", _read(file, 14)[12:])[0]
        elif name == b"data":
            known = wide if wide is not None and length == _UNKNOWN else length
            return _data_header(known, size - at - 8, align)
        at += 8 + length + length % 2
    raise DecodeError("is cut short: it holds no samples")


def _data_header(length: int, held: int, align: int) -> _Header:
    if not align:
        raise DecodeError("damaged WAV file: its format is not before its samples")
    if length == _UNKNOWN:
        return _Header(held // align, ("length of the file, not of its header",))
    if length == 0 and held >= align:
        raise DecodeError(
            "its header says 0 samples, but more follow, as an interrupted recording leaves behind"
        )
    if length > held:
        raise DecodeError(f"is cut short: {held // align:,} of {length // align:,} samples")
    return _Header(length // align)


def _read(file: Any, size: int) -> bytes:
    data: bytes = file.read(size)
    if len(data) < size:
        raise DecodeError("is cut short within its header")
    return data
