"""`load`: reads whatever a profile or normalizer saved."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zeromean import documents
from zeromean.documents import field
from zeromean.errors import FormatError
from zeromean.group_normalizer import GroupedNormalizer
from zeromean.grouped import GroupedProfile
from zeromean.normalizer import Normalizer
from zeromean.profile import Profile
from zeromean.profile_file import from_document

if TYPE_CHECKING:
    from zeromean.convergence.results import Study


def load(
    path: str | os.PathLike[str],
) -> Profile | Normalizer | GroupedProfile | GroupedNormalizer | Study:
    """Read a profile or normalizer, of one data set or by group, or a study, that `save` wrote.

    Parameters
    ----------
    path : path
        `.json` or `.safetensors`.

    Returns
    -------
    Profile, Normalizer, GroupedProfile, GroupedNormalizer or Study

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
        if kind == "groups":
            return GroupedProfile.from_document(document, arrays)
        if kind == "normalizers":
            return GroupedNormalizer.from_document(document, arrays)
        if kind == "study":
            from zeromean.convergence.document import from_document as study_from

            return study_from(document)
        if kind == "estimator":
            raise FormatError("holds an estimator; read it with zeromean.sklearn.load")
        raise FormatError(f"holds a {kind!r}; this version reads profiles, normalizers and studies")
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
