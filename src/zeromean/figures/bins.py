"""Counts become histograms of as many bins as a picture can show, and numbers become words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MOST_BINS = 256  # more than a figure's pixels can tell apart


@dataclass(frozen=True)
class Counted:
    """Counts of shape (n_features, n_bins), and what each bin holds."""

    first: Floats  # smallest and largest value of each bin
    last: Floats
    edges: Floats
    counts: Floats

    def quantile(self, q: float) -> Floats:
        """The smallest value that at least the share q of each feature does not exceed."""
        running = np.cumsum(self.counts, axis=1)
        total = running[:, -1:]
        return _first_where((running >= q * total) & (total > 0), self.last)

    def extremes(self) -> tuple[Floats, Floats]:
        """The smallest and the largest value of each feature."""
        present = self.counts > 0
        return _first_where(present, self.first), _first_where(present[:, ::-1], self.last[::-1])

    def moments(self) -> tuple[Floats, Floats]:
        """Mean and std of each feature, as if all values lay in the middle of their bin."""
        total = self.counts.sum(axis=1, keepdims=True)
        share = self.counts / np.where(total > 0, total, 1.0)
        centers = (self.first + self.last) / 2
        mean = np.where(total > 0, share @ centers[:, None], np.nan)
        return mean[:, 0], np.sqrt(np.sum(share * (centers - mean) ** 2, axis=1))

    def occupied(self) -> tuple[int, int]:
        """The bins from the first to behind the last that any feature uses."""
        used = np.flatnonzero((self.counts > 0).any(axis=0))
        return (int(used[0]), int(used[-1]) + 1) if used.size else (0, self.first.size)


@dataclass(frozen=True)
class Bins:
    """Histograms ready to draw: shares of shape (n_features, n_bins) over shared edges."""

    names: list[str]
    edges: Floats
    first: Floats  # smallest and largest value of each bin
    last: Floats
    share: Floats
    mean: Floats
    std: Floats
    low: Floats  # smallest and largest value that occurs, per feature
    high: Floats

    @property
    def density(self) -> Floats:
        """Share per unit of value: the area of a feature's histogram is 1."""
        return self.share / np.diff(self.edges)

    @property
    def scale(self) -> Floats:
        """What standardizing divides by: the std, and 1 for a constant feature."""
        return np.where(self.std > 0, self.std, 1.0)


def checked(values: ArrayLike, counts: ArrayLike) -> Counted:
    """Check the arrays that a caller passes: one value per bin, or one more as edges."""
    points = np.asarray(values, dtype=np.float64)
    table = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    n_bins = table.shape[-1]
    if points.ndim != 1 or table.ndim != 2 or n_bins == 0 or points.size - n_bins not in (0, 1):
        raise ValueError(
            f"values of shape {points.shape} do not fit counts of shape {table.shape}: "
            "pass one value per bin, or one more as edges"
        )
    if not (np.isfinite(points).all() and (np.diff(points) > 0).all()):
        raise ValueError("values must be finite and increasing: leave out the bins of nan and inf")
    if points.size > n_bins:
        return Counted(points[:-1], points[1:], points, table)
    half = np.diff(points) / 2 if n_bins > 1 else np.array([0.5])
    edges = np.concatenate([points[:1] - half[0], points[:-1] + half[: n_bins - 1],
                            points[-1:] + half[-1]])  # fmt: skip
    return Counted(points, points, edges, table)


def binned(
    table: Counted,
    names: Sequence[str] | None = None,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    *,
    most: int = MOST_BINS,
    trim: bool = False,
) -> Bins:
    """Add neighboring bins until at most `most` are left; over 256 lose their empty ends first."""
    n_features, n_bins = table.counts.shape
    start, stop = table.occupied() if trim or n_bins > MOST_BINS else (0, n_bins)
    starts = start + _starts(table.edges[start : stop + 1], most)
    total = table.counts.sum(axis=1, keepdims=True)
    grouped = np.add.reduceat(table.counts[:, :stop], starts, axis=1)
    own_mean, own_std = table.moments()
    low, high = table.extremes()
    return Bins(
        names=short_names(names, n_features),
        edges=np.append(table.edges[starts], table.edges[stop]),
        first=table.first[starts],
        last=table.last[np.append(starts[1:], stop) - 1],
        share=grouped / np.where(total > 0, total, 1.0),
        mean=own_mean if mean is None else vector(mean, n_features),
        std=own_std if std is None else vector(std, n_features),
        low=low,
        high=high,
    )


def _starts(edges: Floats, most: int) -> NDArray[np.intp]:
    """Where each displayed bin starts: every k-th bin, or equal steps if their widths vary."""
    widths = np.diff(edges)
    if widths.size <= most:
        return np.arange(widths.size)
    if np.allclose(widths, widths[0], rtol=1e-6, atol=0):
        return np.arange(0, widths.size, -(-widths.size // most))
    targets = np.linspace(edges[0], edges[-1], most, endpoint=False)
    return np.unique(np.searchsorted(edges, targets, side="right") - 1)


def _first_where(true: NDArray[np.bool_], values: Floats) -> Floats:
    """The first value of each row at which it is true, NaN where it never is."""
    return np.where(true.any(axis=1), values[np.argmax(true, axis=1)], np.nan)


def vector(numbers: ArrayLike, length: int | None = None) -> Floats:
    """Numbers as a float64 vector, of this length if one is given."""
    flat = np.asarray(numbers, dtype=np.float64).ravel()
    if length is not None and flat.size != length:
        raise ValueError(f"expected one number for each of the {length} features, got {flat.size}")
    return flat


# --- words --------------------------------------------------------------------------------------


def short_names(names: Sequence[str] | None, length: int) -> list[str]:
    """One short name per feature; a single feature needs none."""
    if names is None:
        return [""] if length == 1 else [str(index) for index in range(length)]
    if len(names) != length:
        raise ValueError(f"expected {length} names, one per feature, got {len(names)}")
    words = (" ".join(str(name).split()) for name in names)
    return [name if len(name) <= 24 else f"{name[:14]}…{name[-9:]}" for name in words]


def channel(name: str) -> str:
    """The letter r, g or b for a color channel's name, else the name itself.

    >>> channel("Red"), channel("B"), channel("height")
    ('r', 'b', 'height')
    """
    return {"red": "r", "green": "g", "blue": "b"}.get(name.lower(), name.lower())


def number_text(number: float, digits: int = 4) -> str:
    """Few digits, without an exponent where it can be avoided.

    >>> [number_text(number) for number in (0.5, 117.21, 65535, -1.25e9)]
    ['0.5', '117.2', '65535', '−1.25e+09']
    """
    text = f"{number:.0f}" if 1000 <= abs(number) < 1e6 else f"{number:.{digits}g}"
    return "0" if text == "-0" else text.replace("-", "−")


def range_text(low: float, high: float, between: str = " to ") -> str:
    """One number or two, with three digits.

    >>> range_text(0, 254.96), range_text(1, 1)
    ('0 to 255', '1')
    """
    ends = number_text(low, digits=3), number_text(high, digits=3)
    return ends[0] if ends[0] == ends[1] else between.join(ends)
