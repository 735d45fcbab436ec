"""The self-contained HTML page about a profile, and about a study where there is one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeromean.errors import FormatError, PatternError

if TYPE_CHECKING:
    from zeromean.profile import Profile

__all__ = ["report"]


def report(
    profile: Profile,
    study: Any = None,
    *,
    path: str | os.PathLike[str] | None = None,
    lang: str = "en",
    source: Any = None,
    samples: int = 4,
    title: str = "",
    file: str = "train.json",
) -> str:
    """Write one HTML page that says what was measured, what to paste, and why it helps.

    The page loads nothing: style, script, figures and pictures are inside. It is read top to
    bottom: the numbers and where they come from, the three distributions side by side, pictures
    before and after, code for frameworks, the study, an interactive picture, and what must not be
    concluded.

    Parameters
    ----------
    profile : Profile
        As `zeromean.measure` returns it.
    study : Study, optional
        As `zeromean.study` returns it, of the same data. What can be compared is compared: files,
        number of samples, columns, range, mean. The page says how sure that makes it.
    path : path, optional
        Where to write the page, as UTF-8.
    lang : {"en", "zh"}
        The language of the whole page.
    source : optional
        The data itself, as for `zeromean.measure`: a few pictures of it are then shown before and
        after.
    samples : int
        How many pictures are shown.
    title : str
        What the data is called; by default its folder's name.
    file : str
        What the profile's file is called in the commands that the page shows.

    Returns
    -------
    str
        The page.

    Raises
    ------
    PatternError
        For an empty profile, a language without texts, or what is no profile.
    MergeError
        When the study is provably of other data than the profile.
    FormatError
        When the page cannot be written.
    ImportError
        When jinja2 or matplotlib is missing: ``pip install "zeromean[report]"``.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> images = np.arange(96, dtype=np.uint8).reshape(4, 2, 4, 3)
    >>> page = zm.report(zm.measure(images, "n h w c -> c"), title="Stripes")
    >>> page[:15], "Stripes" in page, len(page) < 400_000
    ('<!doctype html>', True, True)
    """
    from zeromean.profile import Profile
    from zeromean.reporting.page import build

    if not isinstance(profile, Profile):
        raise PatternError(
            f"a report is about a Profile, not {type(profile).__name__}; measure the data, or take "
            "one group of a grouped profile"
        )
    page = build(profile, study, lang=lang, source=source, samples=samples, title=title, file=file)
    if path is not None:
        try:
            Path(path).write_text(page, encoding="utf-8")
        except OSError as error:
            raise FormatError(f"{path}: cannot be written ({error.strerror})") from None
    return page
