"""Groups as a table: one row for each, items, means and stds beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean.tables import aligned, headline, html_table, number

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer
    from zeromean.profile import Profile

_FEATURES = 4  # whose columns are shown


def group_rows(
    groups: Mapping[str, Profile], total: Profile, limit: int
) -> tuple[list[str], list[list[str]], list[str]]:
    """Column heads, at most `limit` rows and the total, and notes on what is left out."""
    shown = min(_FEATURES, total.n_features)
    names = total.names[:shown] if total.n_features <= 64 else _indices(total, shown)
    heads = ["group", "items", *_heads(names, total)]
    listed = list(groups.items())[:limit]
    body = [_row(name, profile, shown) for name, profile in listed]
    notes = []
    if len(groups) > limit:
        notes.append(f"... and {len(groups) - limit:,} more groups")
    if total.n_features > shown:
        notes.append(f"... and {total.n_features - shown:,} more features")
    return heads, [*body, _row("total", total, shown)], notes


def _indices(total: Profile, shown: int) -> list[str]:
    if total.feature_names:
        return list(total.feature_names[:shown])
    places = (np.unravel_index(i, total.kept_shape) for i in range(shown))
    return [",".join(str(int(k)) for k in place) for place in places]


def _heads(names: list[str], total: Profile) -> list[str]:
    if not total.kept_shape:
        return ["mean", "std"]
    return [f"{what} {name}" for what in ("mean", "std") for name in names]


def _row(name: str, profile: Profile, shown: int) -> list[str]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty profile has no mean
        columns = [np.ravel(profile.mean)[:shown], np.ravel(profile.std)[:shown]]
    items = f"{profile.provenance.items:,}"
    return [name, items, *(number(float(v)) for column in columns for v in column)]


def groups_headline(groups: Mapping[str, Profile], total: Profile) -> str:
    """How many groups, and what they are of."""
    return f"{counted(len(groups))}, {headline(total)}"


def counted(n: int) -> str:
    """ "1 group", "2 groups"."""
    return f"{n:,} group{'' if n == 1 else 's'}"


def groups_as_text(groups: Mapping[str, Profile], total: Profile, limit: int) -> str:
    """The table as aligned text."""
    heads, body, notes = group_rows(groups, total, limit)
    lines = [f"GroupedProfile({groups_headline(groups, total)})", *aligned([heads, *body])]
    return "\n".join([*lines, *(f"  {note}" for note in [*notes, *_skips(total)])])


def groups_as_html(groups: Mapping[str, Profile], total: Profile, limit: int) -> str:
    """The table as HTML for a notebook."""
    heads, body, notes = group_rows(groups, total, limit)
    title = groups_headline(groups, total)
    return html_table("GroupedProfile", title, heads, body, [*notes, *_skips(total)])


def _skips(total: Profile) -> list[str]:
    skipped = len(total.provenance.skipped)
    return [f"{skipped:,} skipped: see .total.provenance.skipped"] if skipped else []


def group_normalizer_rows(
    groups: Mapping[str, Normalizer], limit: int
) -> tuple[list[str], list[list[str]], list[str]]:
    """Column heads, at most `limit` rows, and notes: what each group subtracts and divides by."""
    listed = list(groups.items())[:limit]
    first = next(iter(groups.values()))
    shown = min(_FEATURES, first.shift.size)
    names: list[Any] = list(first.feature_names) or list(first.units.channels)
    if len(names) != first.shift.size:
        names = list(range(shown)) if first.kept_shape else [""]
    spread = "divide by" if first.matrix is None else ""
    heads = ["group", *(f"subtract {n}".strip() for n in names[:shown])]
    heads += [f"{spread} {n}".strip() for n in names[:shown]] if spread else []
    body = []
    for name, norm in listed:
        columns = [norm.shift, norm.scale] if spread else [norm.shift]
        values = [number(float(v)) for c in columns for v in np.ravel(c)[:shown]]
        body.append([name, *values])
    notes = [f"... and {len(groups) - limit:,} more groups"] if len(groups) > limit else []
    if first.shift.size > shown:
        notes.append(f"... and {first.shift.size - shown:,} more features")
    if first.matrix is not None:
        notes.append("then a matrix")
    return heads, body, notes
