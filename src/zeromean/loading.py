"""`load`: reads whatever a profile or normalizer saved."""

from __future__ import annotations

import os

from zeromean import documents
from zeromean.documents import field
from zeromean.errors import FormatError
from zeromean.normalizer import Normalizer
from zeromean.profile import Profile
from zeromean.profile_file import from_document


def load(path: str | os.PathLike[str]) -> Profile | Normalizer:
    """Read a profile or normalizer that `save` wrote.

    Parameters
    ----------
    path : path
        `.json` or `.safetensors`.

    Returns
    -------
    Profile or Normalizer

    Raises
    ------
    FormatError
        When the file is missing, damaged, not ours, or from a newer version; names file and
        field.
    """
    document, arrays = documents.load(path)
    try:
        kind = field(document, "kind", str)
        if kind == "profile":
            return from_document(document, arrays)
        if kind == "normalizer":
            return Normalizer.from_document(document, arrays)
        raise FormatError(f"holds a {kind!r}; this version reads profiles and normalizers")
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
