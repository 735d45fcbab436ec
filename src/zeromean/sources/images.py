"""Folders and file lists of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from zeromean.errors import SourceError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Item
from zeromean.sources.access import HeldFile
from zeromean.sources.decode import COLORS, DecodeError, Scratch, decode
from zeromean.sources.files import Files
from zeromean.sources.walk import IMAGE_EXTENSIONS

__all__ = ["IMAGE_EXTENSIONS", "ImageFiles", "ImageReader", "picture"]


def picture(data: bytes, name: str, colors: str, group: str, memory: Scratch | None) -> Item:
    """The bytes of an image file as an item.

    Parameters
    ----------
    data : bytes
    name : str
    colors, group : str
        As for `ImageReader`.
    memory : Scratch or None
        The pixels may lie there.

    Raises
    ------
    DecodeError
        When they are no image, a damaged one, or one of another kind than the chosen one.
    """
    decoded = decode(data, name, colors, memory)
    kind = f"{decoded.mode} {decoded.pixels.dtype}"
    if group and group not in (kind, decoded.mode):
        raise DecodeError(f"{kind}, not the chosen group {group}")
    return Item(decoded.pixels, name, kind=kind, decoder=decoded.decoder, notes=decoded.notes)


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Decodes image files.

    Attributes
    ----------
    colors : str
        As for `zeromean.sources.decode.decode`.
    group : str
        The one kind of picture that is wanted, such as ``"RGB uint8"`` or ``"RGB"``;
        empty for any.
    """

    colors: str = "RGB"
    group: str = ""

    def __post_init__(self) -> None:
        if self.colors not in COLORS:
            raise SourceError(f"colors is {self.colors!r}; choose 'RGB', 'gray' or 'keep'")

    def __call__(self, file: HeldFile, memory: Any) -> Iterator[Item]:
        """The one picture of the file."""
        yield picture(file.data(), file.name, self.colors, self.group, memory)

    def scratch(self) -> Scratch:
        """Memory for the pixels."""
        return Scratch()


class ImageFiles(Files):
    """Folders and files of images, as a source for `measure`.

    Parameters
    ----------
    paths : path, or sequence of paths
        Folders and files. A file that is named here is read whatever its extension.
    pattern : Pattern, optional
        None for one number a channel.
    colors : {"RGB", "gray", "keep"}
        As for `zeromean.sources.decode.decode`.
    group : str, optional
        Under ``colors="keep"``: the one kind of picture to read, such as ``"RGB uint8"``
        or ``"RGB"``; the others are skipped with a reason.
    limit : int, optional
        As for `Files`.
    extensions : sequence of str, optional
        The extensions to read in folders, instead of `IMAGE_EXTENSIONS`.

    Raises
    ------
    SourceError
        A path does not exist, a folder holds no image, or an argument makes no sense.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        pattern: Pattern | None = None,
        *,
        colors: str = "RGB",
        group: str | None = None,
        limit: int | None = None,
        extensions: Iterable[str] | None = None,
    ) -> None:
        super().__init__(
            paths,
            ImageReader(colors, group or ""),
            extensions=IMAGE_EXTENSIONS if extensions is None else extensions,
            pattern=pattern or Pattern.parse(NAMED["channel"]),
            limit=limit,
        )
