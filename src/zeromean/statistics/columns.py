"""`Columns`: the statistics of a table whose columns have different dtypes.

Columns of one dtype share one `Histogram` or `Moments`, so a table of a single dtype is no
special case: its statistics are those of the array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.errors import MergeError
from zeromean.statistics.extrema import Extrema
from zeromean.statistics.formats import PowerSums, exact, frozen, is_counted
from zeromean.statistics.histogram import Histogram, some
from zeromean.statistics.moments import Moments
from zeromean.statistics.running import RunningMoments

_Array = npt.NDArray[Any]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]
_Values = tuple[_Array, _Bools | None]

Tally = tuple[_Array, _Ints, bool]
BUCKETED = ("float32", "float64")  # formats of which `quantiles=True` counts buckets

_SHORT = 1 << 15  # values; a call for each shorter column would cost more than a copy
_TOGETHER = 64  # such columns are put side by side
_ROWS = 1 << 12  # piece by piece, so that the copies stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One exact statistic for each column, whatever its dtype.

    Attributes
    ----------
    dtypes : tuple of str
        Of the columns, in order; at least two different ones.
    groups : mapping of str to Histogram or Moments
        By dtype: the columns of that dtype, in order.

    Examples
    --------
    >>> ages = Histogram.of(np.array([[7], [9]], dtype=np.uint8))
    >>> weights = Moments.of(np.array([[0.5], [0.25]]))
    >>> both = Columns(("float64", "uint8"), {"uint8": ages, "float64": weights})
    >>> both.n_features, both + both - both == both
    (2, True)
    """

    dtypes: tuple[str, ...]
    groups: Mapping[str, Histogram | Moments]

    def __add__(self, other: Columns) -> Self:
        return self._paired(other, lambda a, b: a + b)

    def __sub__(self, other: Columns) -> Self:
        return self._paired(other, lambda a, b: a - b)

    def _paired(self, other: Columns, combine: Callable[[Any, Any], Any]) -> Self:
        if not isinstance(other, Columns):
            raise MergeError(f"cannot combine columns with {type(other).__name__}")
        if self.dtypes != other.dtypes:
            raise MergeError("cannot combine columns of different dtypes")
        pairs = {k: combine(group, other.groups[k]) for k, group in self.groups.items()}
        return type(self)(self.dtypes, pairs)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Columns)
            and self.dtypes == other.dtypes
            and all(group == other.groups[k] for k, group in self.groups.items())
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def n_features(self) -> int:
        """How many columns."""
        return len(self.dtypes)

    def places(self, dtype: str) -> list[int]:
        """Where the columns of a dtype stand."""
        return [i for i, held in enumerate(self.dtypes) if held == dtype]

    def group(self, column: int) -> tuple[Histogram | Moments, int]:
        """The statistic that holds a column, and which of its features that is."""
        dtype = self.dtypes[column]
        return self.groups[dtype], self.dtypes[:column].count(dtype)

    def _spread(self, read: Callable[[Any], Any]) -> list[Any]:
        """A read-out of every group, in the order of the columns."""
        spread: list[Any] = [None] * self.n_features
        for dtype, group in self.groups.items():
            for i, value in zip(self.places(dtype), read(group), strict=True):
                spread[i] = value
        return spread

    @property
    def special(self) -> _Ints:
        """Counts of NaN or missing values, +inf and -inf, shape (n_features, 3)."""
        return frozen(np.array(self._spread(lambda g: g.special), np.int64).reshape(-1, 3))

    @property
    def power_sums(self) -> PowerSums:
        """Exact sums, all in the smallest of the columns' units."""
        sums = {dtype: group.power_sums for dtype, group in self.groups.items()}
        unit = min(each.exponent for each in sums.values())

        def shifted(name: str, power: int) -> _Array:
            held: list[int] = [0] * self.n_features
            for dtype, each in sums.items():
                by = power * (each.exponent - unit)
                for i, value in zip(self.places(dtype), getattr(each, name).tolist(), strict=True):
                    held[i] = value << by
            return exact(held)

        n = frozen(np.array(self._spread(lambda g: g.power_sums.n), np.int64))
        return PowerSums(n, shifted("sums", 1), shifted("squares", 2), unit)

    @property
    def extrema(self) -> Extrema:
        """Of the columns whose values are counted; no value for the others."""

        def ends(name: str) -> Callable[[Any], Any]:
            def read(group: Any) -> list[Any]:
                if isinstance(group, Histogram):
                    return list(getattr(group.extrema, name))
                return [None] * group.n_features

            return read

        low, high = (self._spread(ends(name)) for name in ("low", "high"))
        return Extrema.of_lists(
            [_of_kind(v, d) for v, d in zip(low, self.dtypes, strict=True)],
            [_of_kind(v, d) for v, d in zip(high, self.dtypes, strict=True)],
        )


def _of_kind(value: Any, dtype: str) -> Any:
    """Integers for a column of integers: a histogram's bins are floats."""
    return value if value is None or "float" in dtype else int(value)


def feature_of(statistics: Histogram | Moments | Columns, place: int) -> Histogram | Moments:
    """The statistic of one feature alone.

    Parameters
    ----------
    statistics : Histogram, Moments or Columns
    place : int

    Returns
    -------
    Histogram or Moments
    """
    if isinstance(statistics, Columns):
        return feature_of(*statistics.group(place))
    own = slice(place, place + 1)
    if isinstance(statistics, Histogram):
        missing = some(statistics.lacking[own].copy())
        return Histogram(statistics.dtype, statistics.counts[own], missing)
    sums, squares = exact(statistics.sums[own]), exact(statistics.squares[own])
    return Moments(statistics.dtype, statistics.n[own], sums, squares, statistics.special[own])


def grouped(dtypes: Sequence[str]) -> dict[str, list[int]]:
    """Which columns have each dtype."""
    places: dict[str, list[int]] = {}
    for i, dtype in enumerate(dtypes):
        places.setdefault(dtype, []).append(i)
    return places


def empty_columns(dtypes: Sequence[str]) -> Histogram | Moments | Columns:
    """The statistics of no data in columns of these dtypes."""
    groups: dict[str, Histogram | Moments] = {}
    for dtype, places in grouped(dtypes).items():
        kind: type[Histogram] | type[Moments] = (
            Histogram if is_counted(dtype, len(places)) else Moments
        )
        groups[dtype] = kind.empty(len(places), dtype)
    return united(dtypes, groups)


def united(
    dtypes: Sequence[str], groups: Mapping[str, Histogram | Moments]
) -> Histogram | Moments | Columns:
    """Statistics of all columns: plain ones where they have one dtype."""
    if len(groups) == 1:
        return next(iter(groups.values()))
    return Columns(tuple(dtypes), {dtype: groups[dtype] for dtype in sorted(groups)})


def groups_of(
    statistics: Histogram | Moments | Columns, dtypes: Sequence[str]
) -> dict[str, Histogram | Moments]:
    """Statistics by dtype, also where all columns have the same."""
    if isinstance(statistics, Columns):
        return dict(statistics.groups)
    return dict.fromkeys(dtypes[:1], statistics)


def tallies(
    statistics: Histogram | Moments | Columns, buckets: Histogram | None, dtypes: Sequence[str]
) -> list[Tally | None]:
    """Values, counts and whether they are exact, of every feature; None where it is but summed.

    Parameters
    ----------
    statistics : Histogram, Moments or Columns
    buckets : Histogram or None
        Of the float32 and float64 features, for bounds.
    dtypes : sequence of str
        Of all features.
    """
    rows: list[Tally | None] = [None] * len(dtypes)
    for dtype, group in groups_of(statistics, dtypes).items():
        if isinstance(group, Histogram):
            _fill(rows, group, [i for i, held in enumerate(dtypes) if held == dtype], True)
    if buckets is not None:
        _fill(rows, buckets, [i for i, held in enumerate(dtypes) if held in BUCKETED], False)
    return rows


def _fill(rows: list[Tally | None], counted: Histogram, places: list[int], exact: bool) -> None:
    values, counts = counted.finite
    for i, row in zip(places, counts, strict=True):
        rows[i] = values, row, exact


def measured_columns(
    columns: Sequence[_Values], dtypes: Sequence[str]
) -> tuple[Histogram | Moments | Columns, Extrema | None]:
    """Statistics and extrema of some rows of a table.

    Parameters
    ----------
    columns : sequence of (ndarray, ndarray of bool or None)
        Values of each column, of one length, and where they are missing.
    dtypes : sequence of str

    Returns
    -------
    statistics : Histogram, Moments or Columns
    extrema : Extrema or None
        Of the summed columns; no value for the counted ones, None where all are counted.
    """
    groups: dict[str, Histogram | Moments] = {}
    ends: list[Any] = [None] * len(columns)
    summed = False
    for dtype, places in grouped(dtypes).items():
        held = [columns[i] for i in places]
        if is_counted(dtype, len(places)):
            groups[dtype] = _counted(held, dtype)
            continue
        summed = True
        groups[dtype], extrema = _summed(held, dtype)
        for i, pair in zip(places, zip(extrema.low, extrema.high, strict=True), strict=True):
            ends[i] = pair
    pairs = [end or (None, None) for end in ends]
    low, high = [a for a, _ in pairs], [b for _, b in pairs]
    return united(dtypes, groups), Extrema.of_lists(low, high) if summed else None


def _counted(columns: Sequence[_Values], dtype: str) -> Histogram:
    present, missing = _present(columns)
    parts = []
    for blocks in _blocks(present):
        first, *rest = (Histogram.of(block) for block in blocks)
        parts.append(sum(rest, start=first).counts)
    histogram = Histogram(dtype, frozen(np.concatenate(parts)))
    return _with_missing(histogram, missing)  # type: ignore[return-value]


def _summed(columns: Sequence[_Values], dtype: str) -> tuple[Moments, Extrema]:
    present, missing = _present(columns)
    pairs = [_sums(blocks) for blocks in _blocks(present)]
    moments = _with_missing(_joined([m for m, _ in pairs]), missing)
    return moments, _joined_ends([e for _, e in pairs])  # type: ignore[return-value]


def _sums(blocks: Iterator[_Array]) -> tuple[Moments, Extrema]:
    first = next(blocks)
    if first.dtype.name not in ("float32", "float64"):
        moments, extrema = Moments.with_extrema(first)
        for block in blocks:
            more, ends = Moments.with_extrema(block)
            moments, extrema = moments + more, extrema + ends
        return moments, extrema
    running = RunningMoments(first.shape[1], first.dtype.name)
    for block in chain([first], blocks):
        running.add(block)
    return Moments.of_running(running), running.extrema()


def _blocks(columns: Sequence[_Array]) -> Iterator[Iterator[_Array]]:
    """Blocks of few columns each: one as it is if it is long, else several side by side."""
    lengths = {len(values) for values in columns}
    if len(lengths) > 1 or not 0 < max(lengths) < _SHORT:
        for values in columns:
            yield iter([values.reshape(-1, 1)])
        return
    for j in range(0, len(columns), _TOGETHER):
        yield _stacked(columns[j : j + _TOGETHER])


def _stacked(columns: Sequence[_Array]) -> Iterator[_Array]:
    for begin in range(0, len(columns[0]), _ROWS):
        yield np.stack([values[begin : begin + _ROWS] for values in columns], axis=1)


def _joined(parts: Sequence[Moments]) -> Moments:
    """Features side by side."""
    n, special = (np.concatenate([getattr(p, name) for p in parts]) for name in ("n", "special"))
    sums, squares = (
        exact([v for p in parts for v in getattr(p, name).tolist()]) for name in ("sums", "squares")
    )
    return Moments(parts[0].dtype, frozen(n), sums, squares, frozen(special))


def _joined_ends(parts: Sequence[Extrema]) -> Extrema:
    low, high = ([v for p in parts for v in getattr(p, k).tolist()] for k in ("low", "high"))
    return Extrema.of_lists(low, high)


def _present(columns: Sequence[_Values]) -> tuple[list[_Array], _Ints]:
    """The values that are there, and how many are not."""
    present = [values if gaps is None else values[~gaps] for values, gaps in columns]
    missing = [0 if gaps is None else int(np.count_nonzero(gaps)) for _, gaps in columns]
    return present, np.array(missing, np.int64)


def _with_missing(statistic: Histogram | Moments, missing: _Ints) -> Histogram | Moments:
    """The same with missing values, which count as NaN."""
    if not missing.any():
        return statistic
    if isinstance(statistic, Moments):
        special = statistic.special.copy()
        special[:, 0] += missing
        return replace(statistic, special=frozen(special))
    if statistic.nan_bin is None:
        return replace(statistic, missing=some(statistic.lacking + missing))
    counts = statistic.counts.copy()
    counts[:, statistic.nan_bin] += missing
    return replace(statistic, counts=frozen(counts))
