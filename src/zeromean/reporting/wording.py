"""Says things in one language: texts by key, numbers, percentages, lists."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from zeromean.figures.bins import number_text
from zeromean.reporting.texts import flat, load


class Words:
    """The texts of one language.

    Parameters
    ----------
    language : str
        ``"en"`` or ``"zh"``.

    Examples
    --------
    >>> say = Words("en")
    >>> say("page.title", name="<photos>")
    Markup('&lt;photos&gt;: what a network sees')
    >>> say.times(14.23), say.percent(0.958)
    ('14.2×', '96 %')
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self.nested = load(language)
        self.texts = flat(self.nested)

    def __call__(self, key: str, /, **values: Any) -> Any:
        """A text as HTML, its values escaped (KeyError for a key or value that is missing)."""
        from markupsafe import Markup

        return Markup(self.texts[key]).format(**values)

    def plain(self, key: str, /, **values: Any) -> str:
        """A text without markup, for attributes and figures."""
        return str(self.texts[key]).format(**values)

    def percent(self, share: float) -> str:
        """A share as a whole percentage; a small one with a digit more, never as nothing."""
        text = f"{100 * share:.0f}" if share >= 0.01 or share == 0 else f"{100 * share:.1g}"
        return self.plain("page.percent", number=text)

    def times(self, factor: float) -> str:
        """A factor with three digits."""
        return self.plain("page.times", number=factor_text(factor))

    def together(self, sentences: Iterable[Any]) -> Any:
        """Sentences one after the other, as HTML."""
        from markupsafe import Markup

        return Markup("" if self.language == "zh" else " ").join(sentences)

    def listed(self, names: Iterable[str], most: int = 8) -> str:
        """Names in a row, at most a few."""
        held = list(names)
        shown = held[:most] + (["…"] if len(held) > most else [])
        return self.plain("page.list_separator").join(shown)


def factor_text(factor: float) -> str:
    """Three digits, without an exponent below a million.

    >>> [factor_text(f) for f in (0.24, 1, 14.23, 214.8, 4409, 31234567.0)]
    ['0.24', '1.00', '14.2', '215', '4409', '3.1e+07']
    """
    if not math.isfinite(factor):
        return "–"
    if factor >= 1e6:
        return f"{factor:.1e}"
    return f"{factor:.{0 if factor >= 100 else 1 if factor >= 10 else 2}f}"


def number(value: float | None, digits: int = 4) -> str:
    """A few digits with a real minus sign; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    return number_text(float(value), digits)


def count(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{int(value):,}"


def silently(work: Any, given: Any) -> Any:
    """The work done without its warnings: what they say, the page says itself."""
    import warnings

    from zeromean.errors import ZeromeanWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeromeanWarning)
        return work(given)
