"""The profile of a table as one part for each dtype, and back: what its file is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean.errors import FormatError
from zeromean.pattern import Pattern
from zeromean.provenance import Units
from zeromean.statistics import Columns, Extrema, Histogram, Moments
from zeromean.statistics.columns import BUCKETED, feature_of, grouped
from zeromean.statistics.formats import UNIT_EXPONENT, frozen, split_dtype

if TYPE_CHECKING:
    from zeromean.profile import Profile
    from zeromean.readouts import Readouts


@dataclass(frozen=True, slots=True)
class State:
    """What a file holds of the columns of one dtype, or of all.

    Attributes
    ----------
    statistics : Histogram, Moments or Columns
    extrema : Extrema or None
    extrema_exact : bool
    buckets : Histogram or None
    """

    statistics: Histogram | Moments | Columns
    extrema: Extrema | None
    extrema_exact: bool
    buckets: Histogram | None


def check_dtypes(dtype: str, size: int) -> None:
    """Refuse what is no dtype, nor one for each of `size` columns.

    Raises
    ------
    FormatError
    """
    dtypes = split_dtype(dtype, 1)
    unknown = [name for name in dtypes if name not in UNIT_EXPONENT]
    if unknown:
        raise FormatError(f"field 'dtype' is {dtype!r:.60}, which cannot be measured")
    if len(dtypes) > 1 and (len(dtypes) != size or len(set(dtypes)) == 1):
        raise FormatError(f"field 'dtype' must name one dtype, or one for each of {size} columns")


def parts(profile: Profile) -> dict[str, Profile]:
    """The columns of each dtype as a profile."""
    statistics = profile.statistics
    assert isinstance(statistics, Columns)
    held = {}
    for dtype, group in statistics.groups.items():
        places = statistics.places(dtype)
        buckets = None
        if profile.buckets is not None and dtype in BUCKETED:
            rows = [_bucket_row(statistics.dtypes, i) for i in places]
            buckets = Histogram("bfloat16", frozen(profile.buckets.counts[rows]))
        extrema = None
        if isinstance(group, Moments):
            low, high = profile.extrema.low[places], profile.extrema.high[places]
            extrema = Extrema.of_lists(low.tolist(), high.tolist())
        held[dtype] = replace(
            profile,
            kept_shape=(len(places),),
            dtype=dtype,
            statistics=group,
            buckets=buckets,
            known_extrema=extrema,
            feature_names=(),
        )
    return held


def column_fields(profile: Readouts, place: int) -> dict[str, Any]:
    """What the read-outs of one column are made of."""
    held, dtype = feature_of(profile.statistics, place), profile.dtypes[place]
    ends = [end[place : place + 1].tolist() for end in (profile.extrema.low, profile.extrema.high)]
    buckets: Any = None
    if profile.buckets is not None and dtype in BUCKETED:
        buckets = feature_of(profile.buckets, _bucket_row(profile.dtypes, place))
    return {
        "pattern": Pattern.parse("n ->"),
        "kept_shape": (),
        "dtype": dtype,
        "units": Units.of(dtype, range_=profile.units.range),
        "statistics": held,
        "known_extrema": None if isinstance(held, Histogram) else Extrema.of_lists(*ends),
        "extrema_exact": profile.extrema_exact,
        "buckets": buckets,
        "feature_names": (profile.feature_names[place],),
        "items_stds": None,
    }


def _bucket_row(dtypes: tuple[str, ...], column: int) -> int:
    """Which row of the buckets belongs to a column."""
    return sum(dtype in BUCKETED for dtype in dtypes[:column])


def united_state(dtype: str, states: Mapping[str, State]) -> State:
    """The state of a whole table from those of its dtypes.

    Raises
    ------
    FormatError
        When the parts disagree.
    """
    dtypes = split_dtype(dtype, 1)
    ends: list[Any] = [(None, None)] * len(dtypes)
    for name, places in grouped(dtypes).items():
        extrema = states[name].extrema
        if extrema is not None:
            for i, pair in zip(places, zip(extrema.low, extrema.high, strict=True), strict=True):
                ends[i] = pair
    summed = [state for state in states.values() if state.extrema is not None]
    if len({state.extrema_exact for state in summed}) > 1:
        raise FormatError("field 'extrema' is exact for some columns and not for others")
    groups = {name: state.statistics for name, state in sorted(states.items())}
    return State(
        Columns(dtypes, groups),  # type: ignore[arg-type]
        Extrema.of_lists([a for a, _ in ends], [b for _, b in ends]) if summed else None,
        all(state.extrema_exact for state in summed),
        _buckets(dtypes, states),
    )


def _buckets(dtypes: tuple[str, ...], states: Mapping[str, State]) -> Histogram | None:
    """Those of all float columns, in order."""
    held = [name for name in dtypes if name in BUCKETED]
    known = {states[name].buckets is not None for name in held}
    if len(known) > 1:
        raise FormatError("field 'buckets' is there for some float columns and not for others")
    if not held or not known.pop():
        return None
    rows = []
    for i, name in enumerate(held):
        buckets: Any = states[name].buckets
        rows.append(feature_of(buckets, held[:i].count(name)).counts)  # type: ignore[union-attr]
    return Histogram("bfloat16", frozen(np.concatenate(rows)))
