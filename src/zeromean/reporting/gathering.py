"""What the page says about a profile: tables, provenance, the mean in standard deviations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.drawing import is_image
from zeromean.reporting.wording import Words, count, number
from zeromean.tables import columns_left_out, format_text

if TYPE_CHECKING:
    from zeromean.estimates import Estimate
    from zeromean.profile import Profile

_Floats = npt.NDArray[np.float64]

MOST_ROWS = 20
MOST_SKIPS = 8
_FAR = 0.3  # standard deviations between the mean and zero that are worth a sentence


@dataclass(frozen=True)
class Table:
    """A caption, column heads, rows of cells, and how many rows were left out."""

    caption: Any
    heads: list[str]
    rows: list[list[Any]]
    left: int = 0


def ratio(profile: Profile) -> float:
    """Mean ÷ std of the middle feature: how far from zero the data lies; NaN when constant.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> ratio(zm.measure(np.array([1.0, 3.0])))
    2.0
    """
    mean, std = (np.ravel(np.asarray(v, np.float64)) for v in (profile.mean, profile.std))
    varying = std > 0
    if not varying.any():
        return float("nan")
    return float(np.median(mean[varying] / std[varying]))


def lead(profile: Profile, words: Words) -> list[Any]:
    """The sentences under the title."""
    record = profile.provenance
    kind = "pictures" if profile.units.colors else "items" if record.items else "values"
    values = count(int(np.sum(profile.count)))
    dtype = format_text(profile.dtype)
    said = [words(f"lead.{kind}", items=count(record.items), values=values, dtype=dtype)]
    if to_gray(profile):
        said.append(words("lead.to_gray", count=count(to_gray(profile))))
    if profile.estimate is not None:
        said.append(words("lead.estimate", **_sampled(profile.estimate, words)))
    elif is_partial(profile):
        said.append(words("lead.quick"))
    distance = ratio(profile)
    if np.isfinite(distance):
        low, high = np.nanmin(profile.min), np.nanmax(profile.max)
        sign = "positive" if low >= 0 else "negative" if high <= 0 else "mixed"
        said.append(words(f"lead.{sign}"))
        where = "several" if profile.n_features > 1 else "distance"
        features = count(profile.n_features)
        said.append(words(f"lead.{where}", ratio=f"{abs(distance):.2f}", count=features))
        said.append(words(_how_far(profile, distance)))
    constant = constants(profile)
    if constant:
        said.append(words("lead.constant", names=words.listed(constant)))
    return said


def to_gray(profile: Profile) -> int:
    """How many color pictures were converted to gray."""
    held = profile.provenance.notes.get("color", 0) if profile.units.colors == "gray" else 0
    return int(held)


def is_partial(profile: Profile) -> bool:
    """Whether only a part of the data was measured: a quick look, or a sample."""
    quick = any("quick look" in source for source in profile.provenance.sources)
    return quick or profile.estimate is not None


def _sampled(estimate: Estimate, words: Words) -> dict[str, str]:
    return {
        "files": count(estimate.files),
        "whole": count(estimate.of_files),
        "clusters": words.plain(f"measured.{estimate.clusters}"),
    }


def trust(profile: Profile, words: Words) -> list[Any]:
    """How exact mean and std are, in sentences."""
    estimate = profile.estimate
    if estimate is None:
        return [words("measured.exact"), words("page.decimal_note")]
    given = {
        "sure": words.percent(estimate.confidence),
        "width": number(estimate.asked * estimate.scale),
        "share": number(estimate.asked),
    }
    return [words("measured.estimate", **_sampled(estimate, words), **given)]


def caution(profile: Profile, words: Words) -> Any:
    """What must be known before numbers of a sample are pasted; empty where they are exact."""
    estimate = profile.estimate
    if estimate is None:
        return ""
    given = _sampled(estimate, words)
    return words("paste.estimate", share=number(estimate.asked), **given)


def _how_far(profile: Profile, middle: float) -> str:
    """What the distance of the means from zero is worth, of the middle feature and of all."""
    if abs(middle) >= _FAR:
        return "lead.far"
    mean, std = (np.ravel(np.asarray(v, np.float64)) for v in (profile.mean, profile.std))
    varying = std > 0
    farthest = float(np.max(np.abs(mean[varying] / std[varying])))
    return "lead.some" if farthest >= _FAR else "lead.near"


def constants(profile: Profile) -> list[str]:
    """Names of the features without spread."""
    flat = np.ravel(profile.constant)
    if profile.n_features > 10_000 or not flat.any():
        return []
    names = profile.names if profile.kept_shape else [""]
    return [names[i] for i in np.flatnonzero(flat)]


def measured(profile: Profile, words: Words) -> Table:
    """Mean, std and extrema of every feature, or the reach of a mean image."""
    return _image_rows(profile, words) if is_image(profile) else _feature_rows(profile, words)


def _feature_rows(profile: Profile, words: Words) -> Table:
    kind = "channel" if profile.units.channels and len(profile.kept_shape) == 1 else "feature"
    columns: list[Any] = [profile.mean, profile.std, profile.min, profile.max]
    heads = [words.plain(f"measured.{key}") for key in (kind, "mean", "std", "min", "max")]
    top = profile.units.top
    if top is not None and top != 1:
        columns += [profile.unit_mean, profile.unit_std]
        heads += [
            words.plain(f"measured.{key}", top=f"{top:g}") for key in ("unit_mean", "unit_std")
        ]
    heads.append(words.plain("measured.ratio"))
    flat = [np.ravel(np.asarray(column, np.float64))[:MOST_ROWS] for column in columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        flat.append(flat[0] / flat[1])
    _add_widths(profile, heads, flat)
    names = _names(profile, MOST_ROWS, words)
    rows = [
        [name, *(_exact(v[i]) for v in flat[:-1]), f"{flat[-1][i]:.2f}".replace("-", "−")]
        for i, name in enumerate(names)
    ]
    caption = words("measured.caption", kind=words(f"measured.{kind}"))
    return Table(caption, heads, rows, profile.n_features - len(rows))


def _add_widths(profile: Profile, heads: list[str], flat: list[Any]) -> None:
    """Behind mean and std the half width of their intervals."""
    if profile.estimate is None:
        return
    for place, name in ((2, "std_half_width"), (1, "mean_half_width")):
        heads.insert(place + 1, "±")
        flat.insert(place, np.ravel(getattr(profile.estimate, name))[:MOST_ROWS])


def _names(profile: Profile, most: int, words: Words) -> list[str]:
    if not profile.kept_shape:
        return [words.plain("measured.all")]
    if profile.n_features <= 4 * most or profile.feature_names:
        return list(profile.names[:most])
    indices = [np.unravel_index(i, profile.kept_shape) for i in range(most)]
    return [",".join(str(int(k)) for k in index) for index in indices]


def _exact(value: float) -> str:
    """Six digits: more than a reader needs, fewer than the profile holds."""
    return "–" if not np.isfinite(value) else f"{value:.6g}".replace("-", "−")


def _image_rows(profile: Profile, words: Words) -> Table:
    height, width, depth = profile.kept_shape
    keys = ("channel", "lowest_mean", "highest_mean", "lowest_std", "highest_std")
    letters = profile.units.channels
    rows = []
    for k in range(depth):
        ends = [f(a[..., k]) for a in (profile.mean, profile.std) for f in (np.min, np.max)]
        name = letters[k] if len(letters) == depth else str(k)
        rows.append([name, *(_exact(float(v)) for v in ends)])
    caption = words("measured.image_caption", height=height, width=width)
    return Table(caption, [words.plain(f"measured.{key}") for key in keys], rows)


def three_stds(profile: Profile, words: Words) -> Table | None:
    """The std beside its two look-alikes, where items have a spread of their own."""
    pooled, mean, root = profile.std, profile.mean_of_item_stds, profile.root_mean_item_variance
    if mean is None or root is None or profile.n_features > 8:
        return None
    if np.allclose(pooled, mean, rtol=1e-6) and np.allclose(pooled, root, rtol=1e-6):
        return None
    scaled = bool(profile.units.top) and profile.units.top != 1
    top = profile.units.top if scaled else 1
    scale = words("measured.stds_unit" if scaled else "measured.stds_raw")
    rows = []
    for key, values, note in (
        ("pooled", pooled, "use"),
        ("mean_of_stds", mean, "published"),
        ("root_mean", root, ""),
    ):
        cells = [_exact(v / (top or 1)) for v in np.ravel(values).tolist()]
        rows.append([words(f"measured.{key}"), *cells, words(f"measured.{note}") if note else ""])
    heads = [words.plain("measured.std_column"), *_names(profile, 8, words), ""]
    return Table(words("measured.stds_caption", scale=scale), heads, rows)


def provenance(profile: Profile, words: Words) -> list[tuple[str, str]]:
    """Label and value of everything that is known about how the numbers came about."""
    record, said = profile.provenance, words.plain
    skipped = [f"{path}: {reason}" for path, reason in record.skipped[:MOST_SKIPS]]
    if len(record.skipped) > MOST_SKIPS:
        more = count(len(record.skipped) - MOST_SKIPS)
        skipped.append(said("provenance.skipped_more", count=more))
    held: list[tuple[str, Any]] = [
        ("sources", "; ".join(record.sources)),
        ("pattern", said("provenance.pattern_value", pattern=str(profile.pattern))),
        ("dtype", format_text(profile.dtype)),
        ("units", _units(profile, words)),
        ("items", count(record.items) if record.items else ""),
        ("values", count(int(np.sum(profile.count)))),
        ("nan", _some(profile.nan_count)),
        ("inf", _some(profile.inf_count)),
        ("bytes", count(record.bytes) if record.bytes else ""),
        ("decoders", _counted(record.decoders)),
        ("notes", _counted(_renamed(profile, words))),
        ("left_out", _counted(record.left_out) or "; ".join(columns_left_out(profile))),
        ("skipped", "; ".join(skipped)),
        ("warnings", "; ".join(record.warnings)),
        ("digest", f"{record.digest:064x}" if record.digest else ""),
        ("versions", _counted(record.versions)),
    ]
    return [(said(f"provenance.{key}"), value) for key, value in held if value]


def _renamed(profile: Profile, words: Words) -> dict[str, int]:
    """The notes of decoding, in which "color" says nothing of what became of it."""
    notes = dict(profile.provenance.notes)
    if to_gray(profile):
        notes[words.plain("provenance.color") + ":"] = notes.pop("color")
    return notes


def _units(profile: Profile, words: Words) -> str:
    units = profile.units
    if units.range is None and not units.channels:
        return words.plain("provenance.unknown_units")
    low, high = (number(v) for v in units.range) if units.range else ("", "")
    key = "only_channels" if not low else "channels_range" if units.channels else "only_range"
    return words.plain(f"provenance.{key}", channels=units.channels, low=low, high=high)


def _some(counts: Any) -> str:
    total = int(np.sum(counts))
    return count(total) if total else ""


def _counted(held: Any) -> str:
    return "; ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
                     for name, value in held.items())  # fmt: skip


def three_versions(profile: Profile, words: Words) -> Table:
    """Mean, std and range of original, zero-mean and standardized: the figure as a table."""
    mean, std, low, high = (
        np.ravel(np.asarray(v, np.float64))[:MOST_ROWS]
        for v in (profile.mean, profile.std, profile.min, profile.max)
    )
    scale = np.where(std > 0, std, 1.0)
    rows = []
    for index, name in enumerate(_names(profile, MOST_ROWS, words)):
        for key, shift, by in (
            ("original", 0.0, 1.0),
            ("zero_mean", mean[index], 1.0),
            ("standardized", mean[index], scale[index]),
        ):
            ends = [number((v[index] - shift) / by) for v in (low, high)]
            version = [words(f"distributions.{key}"), words(f"distributions.{key}_formula")]
            numbers = [number((mean[index] - shift) / by), number(std[index] / by)]
            reach = words("distributions.to", low=ends[0], high=ends[1])
            rows.append([name, *version, *numbers, reach])
    heads = [words.plain("measured.feature")]
    keys = ("version", "formula", "mean", "std", "range")
    heads += [words.plain(f"distributions.{key}") for key in keys]
    caption = words("distributions.table")
    return Table(caption, heads, rows, max(0, profile.n_features - MOST_ROWS))
