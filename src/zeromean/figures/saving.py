"""Writes a figure to a file: the same figure gives the same bytes."""

from __future__ import annotations

import io
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METADATA: dict[str, dict[str, Any]] = {  # what to leave out, by extension: dates and versions
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as .png, .svg or .pdf; the same figure gives the same bytes.

    No date and no version is written, and random ids in an SVG are replaced by numbers. The file
    appears whole or not at all: it is written beside its place and then moved there.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to write.
    path : path-like
        Where; the extension chooses the format. PNG has 150 dots per inch.

    Returns
    -------
    pathlib.Path
        The path written.

    Raises
    ------
    ValueError
        If the extension is none of the three.

    Examples
    --------
    >>> from zeromean.figures import distribution
    >>> save(distribution([0, 1], [1, 1]), "picture.jpg")
    Traceback (most recent call last):
    ...
    ValueError: cannot draw 'picture.jpg': the extension must be .png, .svg or .pdf
    """
    target = Path(path)
    extension = target.suffix.lower()
    if extension not in METADATA:
        raise ValueError(f"cannot draw {str(path)!r}: the extension must be .png, .svg or .pdf")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=extension[1:], dpi=150, metadata=METADATA[extension])
    content = buffer.getvalue()
    part = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_bytes(_stable_ids(content) if extension == ".svg" else content)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _stable_ids(svg: bytes) -> bytes:
    """Number the ids that matplotlib draws at random, in the order in which they first appear.

    The other way, rcParams["svg.hashsalt"], is global state.
    """
    drawn = dict.fromkeys(re.findall(rb'\bid="(\w*?[0-9a-f]{10})"', svg))
    numbered = {old: b"%sid%d" % (old[:-10], index) for index, old in enumerate(drawn)}
    return re.sub(rb"\b\w*?[0-9a-f]{10}\b", lambda m: numbered.get(m[0], m[0]), svg)
