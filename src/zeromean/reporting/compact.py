"""Makes an SVG small without changing how it looks: short paths, shared styles, short ids."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_LINES = re.compile(r' d="([MLz\d\s.e-]*)"')  # without curves
_UPRIGHT = re.compile(r' transform="rotate\(-?0(?:\.0*)? [^"]*\)"')
_TAG = re.compile(r"<[^>]*>")
_EMPTY = re.compile(r"<g(?: [^>]*)?>\s*</g>\s*|<g/>\s*|<defs>\s*</defs>\s*")


def compact(svg: str, prefix: str) -> str:
    """The same drawing in fewer bytes.

    Coordinates are rounded to a tenth of a point, finer than any screen shows.

    Parameters
    ----------
    svg : str
        What matplotlib writes, without the opening tag.
    prefix : str
        Of all ids and classes, which must differ between the drawings of one page.
    """
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _UPRIGHT.sub("", svg).replace("xlink:href=", "href=")
    svg = _LINES.sub(lambda found: f' d="{_relative(found[1])}"', svg)
    svg = _TAG.sub(lambda tag: _NUMBER.sub(_short, tag[0]), svg)  # what is read keeps its digits
    svg = _styled(_named(svg, prefix), prefix)
    size = 0
    while size != len(svg):  # a group may become empty when what it held is gone
        size = len(svg)
        svg = _EMPTY.sub("", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _short(found: re.Match[str]) -> str:
    """Small numbers are scales and opacities: they keep four digits."""
    value = float(found[0])
    return f"{value:.4g}" if abs(value) < 1 else f"{value:.1f}".removesuffix(".0")


def _relative(path: str) -> str:
    """A path of lines by its steps: h, v and l.

    Steps lead from one rounded point to the next, so that roundings do not add up.

    >>> _relative("M 1 2 L 4 2 L 4 0.5 L 5 1 z")
    'M1 2h3v-1.5l1 .5z'
    """
    said: list[str] = []
    here = (0, 0)
    for letter, place in _points(path):
        if letter == "z":
            said.append("z")
            continue
        dx, dy = place[0] - here[0], place[1] - here[1]
        here = place
        if letter == "M":
            said.append(f"M{_tenths(place[0])} {_tenths(place[1])}")
        elif dy == 0 and dx:
            said.append(f"h{_tenths(dx)}")
        elif dx == 0 and dy:
            said.append(f"v{_tenths(dy)}")
        elif dx:
            said.append(f"l{_tenths(dx)} {_tenths(dy)}")
        elif said[-1].startswith("M"):  # a dot: round caps draw a line without length
            said.append("h0")
    return "".join(said)


def _points(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Letters with their absolute points, in tenths."""
    for part in re.findall(r"([ML])\s*(\S+)\s+([^\sMLz]+)|(z)", path):
        letter, x, y, close = part
        yield ("z", (0, 0)) if close else (letter, (round(float(x) * 10), round(float(y) * 10)))


def _tenths(value: int) -> str:
    """A number of tenths, as short as can be.

    >>> [_tenths(v) for v in (0, 5, -5, 10, -123)]
    ['0', '.5', '-.5', '1', '-12.3']
    """
    whole, tenth = divmod(abs(value), 10)
    text = f"{whole or ''}.{tenth}" if tenth else str(whole)
    return "-" + text if value < 0 else text


def _named(svg: str, prefix: str) -> str:
    """Ids that are used get short names; all others go."""
    used = re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)
    names = {old: f"{prefix}{k}" for k, old in enumerate(dict.fromkeys(used))}

    def one(found: re.Match[str]) -> str:
        return f' id="{names[found[1]]}"' if found[1] in names else ""

    svg = re.sub(r'\s+id="([^"]*)"', one, svg)
    return re.sub(r'(url\(#|href="#)([^)"]+)', lambda found: found[1] + names[found[2]], svg)


def _styled(svg: str, prefix: str) -> str:
    """Styles become classes, each written once."""
    styles = dict.fromkeys(re.findall(r' style="([^"]*)"', svg))
    names = {style: f"{prefix}-{k}" for k, style in enumerate(styles)}
    svg = re.sub(r' style="([^"]*)"', lambda found: f' class="{names[found[1]]}"', svg)
    tight = {re.sub(r"([:;]) ", r"\1", style): name for style, name in names.items()}
    rules = "\n".join(f".{name}{{{style}}}" for style, name in tight.items())
    return f"<style>\n{rules}\n</style>\n{svg.lstrip()}"
