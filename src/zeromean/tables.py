"""A profile as a small table, in text and in HTML."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zeromean.profile import Profile

_COLUMNS = ("feature", "mean", "std", "min", "max", "NaN", "inf")


def headline(profile: Profile) -> str:
    """Pattern, format, units and size in one line."""
    total = int(np.sum(profile.count))
    units = "" if str(profile.units) == "unknown units" else f" ({profile.units})"
    items = profile.provenance.items
    held = f"{items:,} item{'s' if items != 1 else ''}, " if items else ""
    held += "a quick look: " if any("quick look" in s for s in profile.provenance.sources) else ""
    return f'"{profile.pattern}", {profile.dtype}{units}, {held}{total:,} values'


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
    columns += [profile.min, profile.max, profile.nan_count, profile.inf_count]
    flat = [np.asarray(c).ravel().tolist() for c in columns]
    keep = 6 if any(flat[4]) or any(flat[5]) else 4
    heads = list(_COLUMNS[: keep + 1])
    names = profile.names if profile.n_features <= 4 * limit else _some_names(profile, limit)
    shown = min(limit, profile.n_features)
    body = [[names[i], *(number(c[i]) for c in flat[:keep])] for i in range(shown)]
    return heads, body, profile.n_features - shown


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
    table = [heads, *body]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    lines = [f"Profile({headline(profile)})"]
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells))
    return "\n".join(lines + _footnotes(profile, left))


def _footnotes(profile: Profile, left: int) -> list[str]:
    notes = [f"  ... and {left:,} more"] if left else []
    if not profile.extrema_exact:
        notes.append("  min and max are bounds: they cannot be known after a subtraction")
    if profile.provenance.skipped:
        notes.append(f"  {len(profile.provenance.skipped):,} skipped: see .provenance.skipped")
    return notes


def as_html(profile: Profile, limit: int) -> str:
    """The table as HTML for a notebook."""
    heads, body, left = rows(profile, limit)
    head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body
    )
    notes = "<br>".join(html.escape(note.strip()) for note in _footnotes(profile, left))
    return (
        f"<div><b>Profile</b> <code>{html.escape(headline(profile))}</code>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{notes}</div>"
    )
