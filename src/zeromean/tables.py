"""Profiles and normalizers as small tables, in text and in HTML."""

from __future__ import annotations

import html
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean.estimates import DETAILS, said_of

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer
    from zeromean.profile import Profile

_MAX_LEFT_OUT = 8
_COLUMNS = ("feature", "mean", "std", "min", "max", "NaN", "inf")


def headline(profile: Profile) -> str:
    """Pattern, format, units and size in one line."""
    total = int(np.sum(profile.count))
    units = "" if str(profile.units) == "unknown units" else f" ({profile.units})"
    items = profile.provenance.items
    held = f"{items:,} item{'s' if items != 1 else ''}, " if items else ""
    held += "an estimate: " if profile.estimate is not None else ""
    held += "a quick look: " if any("quick look" in s for s in profile.provenance.sources) else ""
    return f'"{profile.pattern}", {format_text(profile.dtype)}{units}, {held}{total:,} values'


def number(value: Any) -> str:
    """A number for a table: seven significant digits, no trailing zeros, NaN as a dash."""
    if isinstance(value, float | np.floating):
        return "–" if math.isnan(value) else f"{float(value):.7g}"
    return str(value)


def rows(profile: Profile, limit: int) -> tuple[list[str], list[list[str]], int]:
    """Column heads, at most `limit` rows, and how many rows were left out."""
    if profile.n_features == 0 or not np.any(profile.count):
        columns: list[Any] = [np.full(profile.n_features, math.nan)] * 2
    else:
        columns = [np.where(profile.count > 0, a, math.nan) for a in _mean_std(profile)]
    ends = [[math.nan if v is None else v for v in e] for e in _ends(profile)]
    columns += [*ends, profile.nan_count, profile.inf_count]
    flat = [c if isinstance(c, list) else np.asarray(c).ravel().tolist() for c in columns]
    keep = 6 if any(flat[4]) or any(flat[5]) else 4
    heads, flat = list(_COLUMNS[: keep + 1]), flat[:keep]
    if profile.estimate is not None:
        for place, widths in (
            (2, profile.estimate.std_half_width),
            (1, profile.estimate.mean_half_width),
        ):
            heads.insert(place + 1, "±")
            flat.insert(place, [f"{v:.3g}" for v in np.ravel(widths).tolist()])
    names = profile.names if profile.n_features <= 4 * limit else _some_names(profile, limit)
    shown = min(limit, profile.n_features)
    body = [[names[i], *(number(c[i]) for c in flat)] for i in range(shown)]
    return heads, body, profile.n_features - shown


def _ends(profile: Profile) -> tuple[list[Any], list[Any]]:
    """Smallest and largest values; integers of integer columns in full."""
    if "," not in profile.dtype:
        return np.ravel(profile.min).tolist(), np.ravel(profile.max).tolist()
    return profile.extrema.low.tolist(), profile.extrema.high.tolist()


def format_text(dtype: str) -> str:
    """A dtype in few words: those of a table are counted."""
    counts = Counter(dtype.split(","))
    if len(counts) == 1:
        return dtype
    return ", ".join(name if n == 1 else f"{n} {name}" for name, n in counts.most_common())


def _mean_std(profile: Profile) -> tuple[Any, Any]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return profile.mean, profile.std


def _some_names(profile: Profile, limit: int) -> list[str]:
    if profile.feature_names:
        return list(profile.feature_names[:limit])
    indices = [np.unravel_index(i, profile.kept_shape) for i in range(limit)]
    return [",".join(str(int(k)) for k in index) for index in indices]


def as_text(profile: Profile, limit: int) -> str:
    """The table as aligned text."""
    heads, body, left = rows(profile, limit)
    lines = [f"Profile({headline(profile)})", *aligned([heads, *body])]
    return "\n".join(lines + _footnotes(profile, left))


def aligned(table: list[list[str]]) -> list[str]:
    """Rows as lines of text: the first column to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells))
    return lines


def _footnotes(profile: Profile, left: int) -> list[str]:
    notes = [f"  ... and {left:,} more"] if left else []
    notes += [f"  {line}" for line in estimate_lines(profile)]
    if not profile.extrema_exact:
        notes.append("  min and max are bounds: they cannot be known after a subtraction")
    left_out = columns_left_out(profile)
    if left_out:
        notes.append(f"  columns left out: {', '.join(left_out)}")
    if profile.provenance.skipped:
        notes.append(f"  {len(profile.provenance.skipped):,} skipped: see .provenance.skipped")
    return notes


def estimate_lines(profile: Profile) -> list[str]:
    """That the numbers are those of a sample, and what that means; empty where they are exact."""
    if profile.estimate is None:
        return []
    return [
        str(profile.estimate),
        f"min, max and all else are of these {profile.estimate.clusters} only",
    ]


def columns_left_out(profile: Profile) -> list[str]:
    """Columns of tables that hold no numbers, as "name (type)"; at most a few."""
    names = [name for name in profile.provenance.left_out if name.endswith(")")]
    more = len(names) - _MAX_LEFT_OUT
    return names if more <= 0 else [*names[:_MAX_LEFT_OUT], f"and {more:,} more"]


def as_html(profile: Profile, limit: int) -> str:
    """The table as HTML for a notebook."""
    heads, body, left = rows(profile, limit)
    return html_table("Profile", headline(profile), heads, body, _footnotes(profile, left))


def normalizer_rows(norm: Normalizer, limit: int) -> tuple[list[str], list[list[str]], list[str]]:
    """Column heads, at most `limit` rows, and notes: what is left out, matrix, constants."""
    columns = {"subtract": norm.shift, "divide by": norm.scale, "then add": norm.offset}
    if norm.matrix is not None:
        del columns["divide by"], columns["then add"]
    elif not norm.offset.any():
        del columns["then add"]
    flat = [np.ravel(values).tolist() for values in columns.values()]
    size, letters = norm.shift.size, list(norm.units.channels)
    names = list(norm.feature_names) or (letters if len(letters) == size else [])
    shown = min(limit, size)
    body = [
        [names[i] if names else _index_name(i, norm.kept_shape), *(number(c[i]) for c in flat)]
        for i in range(shown)
    ]
    notes = [f"... and {size - shown:,} more"] if size > shown else []
    if norm.matrix is not None:
        n_out, n_features = norm.matrix.shape
        notes.append(f"then a matrix: {n_features:,} features to {n_out:,}")
    if said := said_of(norm.details):
        notes.append(said)
    rest = {k: v for k, v in norm.details.items() if not said or k not in DETAILS}
    notes += [f"{name.replace('_', ' ')}: {value:.6g}" for name, value in rest.items()]
    if norm.constant:
        more = ", ..." if len(norm.constant) > 8 else ""
        notes.append(f"constant, scale 1: {', '.join(norm.constant[:8])}{more}")
    return ["feature", *columns], body, notes


def _index_name(i: int, shape: tuple[int, ...]) -> str:
    return ",".join(str(int(k)) for k in np.unravel_index(i, shape)) if shape else "all"


def normalizer_headline(norm: Normalizer) -> str:
    """Recipe, pattern, format and units in one line."""
    return f'{norm.recipe}, "{norm.pattern}", {format_text(norm.dtype)} ({norm.units})'


def normalizer_html(norm: Normalizer, limit: int) -> str:
    """A normalizer as HTML for a notebook."""
    heads, body, notes = normalizer_rows(norm, limit)
    return html_table("Normalizer", normalizer_headline(norm), heads, body, notes)


def html_table(
    what: str, headline: str, heads: list[str], body: list[list[str]], notes: list[str]
) -> str:
    """Rows and notes below them as HTML."""
    head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body
    )
    below = "<br>".join(html.escape(note.strip()) for note in notes)
    return (
        f"<div><b>{what}</b> <code>{html.escape(headline)}</code>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{below}</div>"
    )
