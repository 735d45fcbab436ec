"""Which members of archives are samples: images first, else recordings, DICOM or NIfTI files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from zeromean.errors import SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources.files import Reader
from zeromean.sources.images import IMAGE_EXTENSIONS, ImageReader
from zeromean.sources.recognition import suffix_format


class Kind(NamedTuple):
    """What is read, and by what.

    Attributes
    ----------
    reader : Reader
    extensions : sequence of str
        Ends of names; they may have two dots.
    pattern : Pattern
    """

    reader: Reader
    extensions: Sequence[str]
    pattern: Pattern


def _images(pattern: Pattern | None, options: Any) -> Kind:
    reader = ImageReader(options.colors, options.group or "")
    return Kind(reader, IMAGE_EXTENSIONS, pattern or Pattern.parse(NAMED["channel"]))


def _recordings(pattern: Pattern | None, options: Any) -> Kind:
    from zeromean.sources.audio import EXTENSIONS, AudioReader

    if options.features != "samples":
        raise SourceError(
            f"features={options.features!r}: of recordings in archives only samples are read; "
            "unpack them first"
        )
    reader = AudioReader(options.features, options.group or "")
    return Kind(reader, EXTENSIONS, pattern or Pattern.parse("n c -> c"))


def _dicom(pattern: Pattern | None, options: Any) -> Kind:
    from zeromean.sources.dicom import EXTENSIONS, DicomReader

    reader = DicomReader(options.group or "")
    return Kind(reader, EXTENSIONS, pattern or Pattern.parse(NAMED["channel"]))


def _nifti(pattern: Pattern | None, options: Any) -> Kind:
    from zeromean.sources.nifti import NiftiReader

    chosen = pattern or Pattern.parse("n ... ->")
    # Not pairs of .hdr and .img: a member is one file.
    return Kind(NiftiReader(chosen, options.group or ""), (".nii", ".nii.gz"), chosen)


#: By the name of their format.
KINDS: Mapping[str, Callable[[Pattern | None, Any], Kind]] = {
    "images": _images,
    "audio": _recordings,
    "dicom": _dicom,
    "nifti": _nifti,
}


def kind_of_extensions(extensions: Sequence[str] | None) -> str:
    """What was asked for: the kind of the first extension, images without one.

    Parameters
    ----------
    extensions : sequence of str or None
    """
    if not extensions:
        return "images"
    found = suffix_format("x." + extensions[0].lstrip("*").lstrip("."))
    return found if found in KINDS else "images"


def kind_held(suffixes: Mapping[str, int]) -> str:
    """What an archive without images holds most of; empty for nothing that is read.

    Parameters
    ----------
    suffixes : mapping of str to int
        How many members have each extension.
    """
    held: Counter[str] = Counter()
    for suffix, n in suffixes.items():
        held[suffix_format("x" + suffix)] += n
    known = [name for name in KINDS if held[name]]
    return max(known, key=held.__getitem__, default="")
