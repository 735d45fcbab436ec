"""What `measure` and `show` print: a table, the three stds, the line to paste, a histogram."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean.drawing import is_image
from zeromean.group_tables import group_normalizer_rows, group_rows, groups_headline
from zeromean.statistics import Histogram
from zeromean.tables import (
    columns_left_out,
    estimate_lines,
    headline,
    normalizer_headline,
    normalizer_rows,
    number,
    rows,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from zeromean.group_normalizer import GroupedNormalizer
    from zeromean.grouped import GroupedProfile
    from zeromean.normalizer import Normalizer
    from zeromean.profile import Profile

_MAX_ROWS = 20
_MAX_BLOCKS = 4
_WIDEST = 400  # for pipes: nothing is folded


def profile_text(profile: Profile, *, name: str = "", color: bool, histogram: bool) -> str:
    """Everything that is worth knowing about a profile, for a terminal or a pipe."""
    body = _image_table(profile) if is_image(profile) else _table(profile)
    parts: list[RenderableType] = [_title(name, headline(profile)), body]
    if profile.before is not None and not is_image(profile):
        parts = [_title(name, f"before: {headline(profile.before)}\nafter:  {headline(profile)}")]
        parts.append(_beside(profile.before, profile))
    if profile.estimate is not None:
        parts += ["", *estimate_lines(profile)]
    left_out = columns_left_out(profile)
    if left_out:
        parts += ["", f"columns left out: {', '.join(left_out)}"]
    stds = _three_stds(profile)
    if stds is not None:
        parts += ["", stds]
    pasted = paste_line(profile)
    if pasted:
        parts += ["", _paste_title(profile), f"  {pasted}"]
    if (
        histogram
        and isinstance(profile.statistics, Histogram)
        and profile.n_features <= _MAX_BLOCKS
    ):
        parts += ["", _histogram(profile, color)]
    return _rendered(parts, color)


def text_of(loaded: Any, *, name: str, color: bool) -> str:
    """Whatever was loaded: a profile, a normalizer, or one of them for each group."""
    if hasattr(loaded, "normalizer_for"):
        return group_normalizer_text(loaded, name=name, color=color)
    if hasattr(loaded, "shift"):
        return normalizer_text(loaded, name=name, color=color)
    if hasattr(loaded, "reweight"):
        return groups_text(loaded, name=name, color=color)
    return profile_text(loaded, name=name, color=color, histogram=True)


def groups_text(groups: GroupedProfile, *, name: str = "", color: bool) -> str:
    """A row for each group, and one for the total."""
    heads, body, notes = group_rows(groups, groups.total, _MAX_ROWS)
    table = _new_table(*heads)
    for row in body[:-1]:
        table.add_row(*row)
    table.add_section()
    table.add_row(*body[-1])
    notes = [f"{n} in the saved file" if n.startswith("...") else n for n in notes]
    parts: list[RenderableType] = [_title(name, groups_headline(groups, groups.total)), table]
    parts += notes
    return _rendered(parts, color)


def group_normalizer_text(norms: GroupedNormalizer, *, name: str = "", color: bool) -> str:
    """What each group subtracts and divides by."""
    heads, body, notes = group_normalizer_rows(norms, _MAX_ROWS)
    table = _new_table(*heads)
    for row in body:
        table.add_row(*row)
    first = next(iter(norms.values()))
    title = f"{len(norms):,} groups, {normalizer_headline(first)}"
    return _rendered([_title(name, title), table, *notes], color)


def normalizer_text(norm: Normalizer, *, name: str = "", color: bool) -> str:
    """A normalizer's numbers."""
    heads, body, notes = normalizer_rows(norm, _MAX_ROWS)
    table = _new_table(*heads)
    for row in body:
        table.add_row(*row)
    parts: list[RenderableType] = [_title(name, normalizer_headline(norm)), table, *notes]
    return _rendered(parts, color)


def tables_text(
    headline: str,
    subtitle: str,
    sections: Sequence[tuple[str, list[str], list[list[str]], str]],
    notes: Sequence[str],
    *,
    color: bool,
) -> str:
    """A headline, some tables with title and note, and footnotes."""
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = [Text(headline, "bold"), "", Text(subtitle, "dim")]
    for title, heads, body, note in sections:
        table = _new_table(*heads)
        for row in body:
            table.add_row(*row)
        parts += ["", Text(title, "bold"), table]
        parts += [Padding(Text(note, "dim"), (0, 0, 0, 1))] if note else []
    parts += ["", *(Text(note, "dim") for note in notes)]
    return _rendered(parts, color, _terminal_width())


def _terminal_width() -> int:
    """Of text that may be folded: tables are as wide as they are."""
    import shutil

    return max(150, shutil.get_terminal_size((150, 24)).columns)


def paste_line(profile: Profile) -> str:
    """`transforms.Normalize(...)` with six significant digits; empty without a 0..1 scale."""
    pair = profile.unit_mean, profile.unit_std
    if pair[0] is None and profile.before is not None and "float" in profile.dtype:
        pair = profile.mean, profile.std  # what a model is given, in no other units
    if pair[0] is None or np.ndim(pair[0]) > 1 or np.size(pair[0]) > 64:
        return ""
    if profile.units.range == (0, 1) and profile.dtype == "bool":
        return ""
    mean, std = (_digits(v) for v in pair)
    mark = "" if profile.estimate is None else f"  # {profile.estimate.short}"
    return f"transforms.Normalize(mean=[{mean}], std=[{std}]){mark}"


def _paste_title(profile: Profile) -> str:
    if profile.before is None:
        return "Paste into torchvision (0..1 input):"
    what = "0..1 input" if profile.units.top else "its output as it is"
    return f"Paste into torchvision, behind the transform ({what}):"


def _digits(values: Any) -> str:
    return ", ".join(f"{v:.6g}" for v in np.ravel(values).tolist())


def _title(name: str, text: str) -> Any:
    from rich.text import Text

    return Text.assemble((name, "bold"), "\n" if name else "", (text, "dim" if name else ""))


def _new_table(first: str, *others: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(first)
    for other in others:
        table.add_column(other, justify="right", no_wrap=True)
    return table


def _table(profile: Profile) -> Table:
    """Raw units, and 0..1 beside them where the scale is known."""
    heads, body, left = rows(profile, _MAX_ROWS)
    top = profile.units.top
    unit = profile.unit_mean is not None and top != 1
    kind = "channel" if profile.units.channels and len(profile.kept_shape) == 1 else "feature"
    table = _new_table(kind, *heads[1:], *([f"mean /{top:g}", f"std /{top:g}"] if unit else []))
    for i, row in enumerate(body):
        extra = []
        if unit:
            pair = (np.ravel(profile.unit_mean)[i], np.ravel(profile.unit_std)[i])  # type: ignore[arg-type]
            extra = [f"{v:.6f}" for v in pair]
        table.add_row(*row, *extra)
    if left:
        table.add_row(f"... {left:,} more")
    return table


def _beside(before: Profile, after: Profile) -> Table:
    """Mean and std of each channel before and after a transform, side by side."""
    table = _new_table("channel", "mean before", "mean after", "std before", "std after")
    sides = before, after
    names = [p.names if p.kept_shape else ["all"] for p in sides]
    columns = [[np.ravel(p.mean), np.ravel(p.std)] for p in sides]
    n = max(map(len, names))
    for i in range(min(n, _MAX_ROWS)):
        own = [held[i] if i < len(held) else "–" for held in names]
        cells = [
            number(float(columns[side][k][i])) if i < len(names[side]) else "–"
            for k in (0, 1)
            for side in (0, 1)
        ]
        table.add_row(own[0] if own[0] == own[1] else " / ".join(own), *cells)
    if n > _MAX_ROWS:
        table.add_row(f"... {n - _MAX_ROWS:,} more")
    return table


def _image_table(profile: Profile) -> Table:
    """One row a channel: from what to what the mean image and the std image reach."""
    height, width, _ = profile.kept_shape
    table = _new_table(
        f"{height} x {width}", "lowest mean", "highest mean", "lowest std", "highest std"
    )
    letters = profile.units.channels
    for k in range(profile.kept_shape[2]):
        ends = [f(a[..., k]) for a in (profile.mean, profile.std) for f in (np.min, np.max)]
        name = letters[k] if len(letters) == profile.kept_shape[2] else str(k)
        table.add_row(name, *(number(float(v)) for v in ends))
    return table


def _three_stds(profile: Profile) -> Table | None:
    """The std and its two look-alikes, where they differ."""
    pooled, mean, root = profile.std, profile.mean_of_item_stds, profile.root_mean_item_variance
    if mean is None or root is None or profile.n_features > 8:
        return None
    if np.allclose(pooled, mean, rtol=1e-6) and np.allclose(pooled, root, rtol=1e-6):
        return None
    top = profile.units.top or 1
    scale = "0..1" if profile.units.top and top != 1 else "raw"
    names = profile.names if profile.kept_shape else ["all"]
    table = _new_table(f"three stds ({scale})", *names)
    table.add_column("")
    for label, values, advice in (
        ("all values pooled", pooled, "<- use this one"),
        ("mean of item stds", mean, "often published"),
        ("root mean item variance", root, ""),
    ):
        table.add_row(label, *(f"{v / top:.6g}" for v in np.ravel(values).tolist()), advice)
    return table


def _histogram(profile: Profile, color: bool) -> Any:
    from rich.text import Text

    from zeromean.figures import terminal_histogram

    values, counts = profile.histogram
    text = terminal_histogram(
        values, counts.reshape(profile.n_features, -1), names=profile.names, color=color, width=64
    )
    return Text.from_ansi(text)


def _rendered(parts: list[RenderableType], color: bool, width: int = _WIDEST) -> str:
    from rich.console import Console

    stream = io.StringIO()
    console: Console = Console(
        file=stream, force_terminal=color, width=width, highlight=False, markup=False
    )
    for part in parts:
        console.print(part)
    lines = stream.getvalue().split("\n")
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"
