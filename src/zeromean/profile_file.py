"""A profile as a document, and back; `docs/format.md` says what each field means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean import covariance_file
from zeromean.documents import (
    FORMAT,
    Tensors,
    check_sum,
    checksum,
    field,
    from_bytes_tensor,
    from_hex,
    hex_list,
    plain,
    tensor,
    to_bytes_tensor,
    to_hex,
)
from zeromean.errors import FormatError, PatternError
from zeromean.estimates import Estimate
from zeromean.pattern import Pattern
from zeromean.profile_columns import State, check_dtypes, parts, united_state
from zeromean.provenance import Provenance, Units
from zeromean.statistics import Columns, Extrema, Histogram, ItemStds, Moments, is_counted
from zeromean.statistics.columns import grouped
from zeromean.statistics.formats import UNIT_EXPONENT, exact, frozen, n_bins, split_dtype
from zeromean.statistics.histogram import unused_bins
from zeromean.statistics.moments import possible

if TYPE_CHECKING:
    from zeromean.profile import Profile

_MAX_JSON_ENTRIES = 10_000
_READOUTS = ("count", "mean", "std", "min", "max", "unit_mean", "unit_std")
_OPTIONAL = ("mean_of_item_stds", "root_mean_item_variance", "extrema_exact")
_MAX_COUNT = 1 << 62  # of all values of a feature: so that sums of counts fit int64
_MAX_LENGTH = 1 << 40
_PARTS = {True: {"histogram", "item_stds", "missing"}, False: {"moments", "extrema", "buckets"}}


def to_document(profile: Profile, *, tensors: bool) -> tuple[dict[str, Any], Tensors]:
    """The fields of a profile's file; with `tensors`, its arrays stand apart.

    Raises
    ------
    FormatError
        When there are too many kept entries for JSON.
    """
    if not tensors:
        check_size(profile.n_features)
    arrays: Tensors = {}
    document = _head(profile)
    statistics = _state(profile, arrays if tensors else None)
    if not tensors:
        document |= _readouts(profile)
    if profile.covariance is not None:
        held = covariance_file.fields_of(profile.covariance, arrays if tensors else None)
        document["covariance"] = held
    document["checksum"] = _checksum(document, statistics, arrays)
    document["statistics"] = statistics
    document["provenance"] = profile.provenance.to_fields()
    return document, arrays


def check_size(entries: int) -> None:
    """Refuse to write more kept entries to JSON than a person would read."""
    if entries > _MAX_JSON_ENTRIES:
        raise FormatError(
            f"{entries} kept entries are too many for .json (at most {_MAX_JSON_ENTRIES}); "
            "save to .safetensors"
        )


_MEANING = (
    "channels",
    "colors",
    "dtype",
    "feature_names",
    "kept_shape",
    "pattern",
    "range",
    "sizes",
)  # what the statistics mean


def _checksum(document: Mapping[str, Any], statistics: Any, arrays: Tensors) -> str:
    """Over the numbers and what they mean; that they are an estimate is a part of it."""
    names = [*_MEANING, "estimate"] if "estimate" in document else _MEANING
    return checksum({"statistics": statistics} | {k: document[k] for k in names}, arrays)


def _head(profile: Profile) -> dict[str, Any]:
    skipped = [{"path": path, "reason": reason} for path, reason in profile.provenance.skipped]
    estimate = {} if profile.estimate is None else {"estimate": profile.estimate.to_fields()}
    return {
        "format": FORMAT,
        "kind": "profile",
        "pattern": str(profile.pattern),
        "sizes": dict(profile.pattern.sizes),
        "kept_shape": list(profile.kept_shape),
        "dtype": profile.dtype,
        **profile.units.to_fields(),
        "feature_names": list(profile.feature_names),
        "items": profile.provenance.items,
        "skipped": skipped,
        **estimate,
    }


def _readouts(profile: Profile) -> dict[str, Any]:
    import warnings

    with warnings.catch_warnings():  # an empty profile may be saved; its mean is null
        warnings.simplefilter("ignore")
        read = {name: plain(getattr(profile, name)) for name in _READOUTS}
    read |= {"nan_count": plain(profile.nan_count), "inf_count": plain(profile.inf_count)}
    for name in _OPTIONAL[:2]:
        if getattr(profile, name) is not None:
            read[name] = plain(getattr(profile, name))
    if not profile.extrema_exact:
        read["extrema_exact"] = False
    return read


# ---------------------------------------------------------------- state out


def _state(profile: Profile, arrays: Tensors | None, head: str = "") -> dict[str, Any]:
    """The canonical part: the same statistics give the same bytes."""
    statistics = profile.statistics
    if isinstance(statistics, Columns):
        held = parts(profile).items()
        return {"columns": {dtype: _state(part, arrays, f"{dtype}.") for dtype, part in held}}
    if isinstance(statistics, Histogram):
        state: dict[str, Any] = {"histogram": _sparse(statistics, f"{head}histogram", arrays)}
        if statistics.missing is not None:
            state["missing"] = _plain(statistics.missing, f"{head}missing", arrays)
    else:
        state = {"moments": _moments(statistics, arrays, head)}
        state["extrema"] = _extrema(profile)
    if profile.buckets is not None:
        state["buckets"] = _sparse(profile.buckets, f"{head}buckets", arrays)
    if profile.items_stds is not None:
        items = profile.items_stds
        state["item_stds"] = {
            "n": to_hex([items.n])[0],
            "stds": _big(items.stds, "item_stds.stds", arrays),
            "variances": _big(items.variances, "item_stds.variances", arrays),
        }
    return state


def _sparse(histogram: Histogram, name: str, arrays: Tensors | None) -> Any:
    if arrays is not None:
        arrays[name] = histogram.counts
        return name
    rows = []
    for row in histogram.counts:
        filled = np.flatnonzero(row).tolist()
        rows.append([[i, to_hex([int(row[i])])[0]] for i in filled])
    return rows


def _big(values: Any, name: str, arrays: Tensors | None) -> Any:
    if arrays is None:
        return to_hex(values)
    arrays[name] = to_bytes_tensor(values)
    return name


def _plain(counts: Any, name: str, arrays: Tensors | None) -> Any:
    if arrays is None:
        return to_hex(counts)
    arrays[name] = counts
    return name


def _moments(moments: Moments, arrays: Tensors | None, head: str) -> dict[str, Any]:
    return {
        "exponent": UNIT_EXPONENT[moments.dtype],
        "n": _plain(moments.n, f"{head}moments.n", arrays),
        "special": _plain(moments.special, f"{head}moments.special", arrays),
        "sums": _big(moments.sums, f"{head}moments.sums", arrays),
        "squares": _big(moments.squares, f"{head}moments.squares", arrays),
    }


def _extrema(profile: Profile) -> dict[str, Any]:
    extrema = profile.known_extrema
    assert extrema is not None
    ends = {
        name: [
            None if v is None else v.hex() if isinstance(v, float) else format(v, "x") for v in end
        ]
        for name, end in (("low", extrema.low.tolist()), ("high", extrema.high.tolist()))
    }
    return {**ends, "exact": profile.extrema_exact}


# ---------------------------------------------------------------- state in


def from_document(document: Mapping[str, Any], arrays: Tensors) -> Profile:
    """A profile from its document, every field checked.

    Raises
    ------
    FormatError
        Naming the field that is missing, of the wrong type, out of range, or that does not
        follow from the statistics.
    """
    from zeromean.profile import Profile

    pattern, shape, dtype, names = head_of(document)
    read, items = _read_state(field(document, "statistics", dict), arrays, math.prod(shape), dtype)
    profile = Profile(
        pattern=pattern,
        kept_shape=shape,
        dtype=dtype,
        units=Units.from_fields(document),
        statistics=read.statistics,
        items_stds=items,
        buckets=read.buckets,
        known_extrema=read.extrema,
        extrema_exact=read.extrema_exact,
        feature_names=names,
        provenance=Provenance.from_fields(document),
        estimate=Estimate.from_fields(document, shape),
    )
    held = covariance_file.covariance_of(document, arrays, profile)
    profile = replace(profile, covariance=held)
    _check_readouts(profile, document)
    check_sum(document, _checksum(document, document["statistics"], arrays))
    return profile


def head_of(
    document: Mapping[str, Any],
) -> tuple[Pattern, tuple[int, ...], str, tuple[str, ...]]:
    """Pattern, kept shape, dtype and feature names of a profile or normalizer, checked."""
    try:
        pattern = Pattern.parse(field(document, "pattern", str), **field(document, "sizes", dict))
    except PatternError as error:
        raise FormatError(f"field 'pattern': {error}") from None
    shape = tuple(field(document, "kept_shape", list))
    if not all(type(v) is int and 0 <= v < _MAX_LENGTH for v in shape):
        raise FormatError("field 'kept_shape' must hold lengths")
    if not pattern.can_keep(shape):
        raise FormatError(f"field 'kept_shape' is {list(shape)}, but the pattern is '{pattern}'")
    dtype = field(document, "dtype", str)
    names, size = field(document, "feature_names", list), math.prod(shape)
    check_dtypes(dtype, size)
    if names and (len(names) != size or not all(isinstance(n, str) for n in names)):
        raise FormatError(f"field 'feature_names' must hold {size} names or none")
    return pattern, shape, dtype, tuple(names)


def _check_readouts(profile: Profile, document: Mapping[str, Any]) -> None:
    """The numbers that people read must be the ones that the state gives."""
    if not any(name in document for name in _READOUTS):
        return
    expected = _readouts(profile)
    for name in (*expected, *_OPTIONAL):
        if name in expected and name not in document:
            raise FormatError(f"lacks the field {name!r}")
        if document.get(name) != expected.get(name):
            raise FormatError(
                f"field {name!r} does not follow from the statistics: the file was edited "
                "or damaged"
            )


def _read_state(
    state: Mapping[str, Any], arrays: Tensors, size: int, dtype: str
) -> tuple[State, ItemStds | None]:
    """The state of all kept entries; that of a table with several dtypes has a part for each."""
    if "," not in dtype:
        reader = _Reader(state, arrays, size, dtype)
        statistics = reader.statistics()
        extrema, exact = reader.extrema(statistics)
        return State(statistics, extrema, exact, reader.buckets(statistics)), reader.items()
    columns: Mapping[str, Any] = field(state, "columns", dict)
    wanted = grouped(split_dtype(dtype, size))
    if set(columns) != set(wanted) or len(state) > 1:
        raise FormatError("field 'columns' must hold one part for each dtype, with none beside it")
    states = {}
    for name, places in wanted.items():
        part = field(columns, name, dict)
        states[name], items = _read_state(part, arrays, len(places), name)
        if items is not None:
            raise FormatError("field 'columns' holds 'item_stds', which tables do not have")
    return united_state(dtype, states), None


class _Reader:
    """Reads the state of a file; `size` kept entries of `dtype`."""

    def __init__(self, state: Mapping[str, Any], arrays: Tensors, size: int, dtype: str) -> None:
        self.state, self.arrays, self.size, self.dtype = state, arrays, size, dtype
        self.counted = is_counted(dtype, size)
        unknown = sorted(set(state) - _PARTS[self.counted])
        if unknown:
            raise FormatError(f"field 'statistics' holds the unknown part {unknown[0]!r}")

    def statistics(self) -> Histogram | Moments:
        if self.counted:
            histogram = self._histogram("histogram", self.dtype)
            if "missing" not in self.state:
                return histogram
            missing = self._counts(self.state, "missing", 1)
            if not missing.any() or histogram.nan_bin is not None:
                raise FormatError("field 'missing' must count missing integers, or not be there")
            return replace(histogram, missing=missing)
        part = field(self.state, "moments", dict)
        if field(part, "exponent", int) != UNIT_EXPONENT[self.dtype]:
            raise FormatError(f"field 'exponent' must be {UNIT_EXPONENT[self.dtype]}")
        n, special = self._counts(part, "n", 1), self._counts(part, "special", 3)
        sums = exact(self._big(part, "moments", "sums"))
        squares = exact(self._big(part, "moments", "squares"))
        if not possible(n, sums, squares):
            raise FormatError("fields 'n', 'sums' and 'squares' contradict each other")
        return Moments(self.dtype, n, sums, squares, special)

    def items(self) -> ItemStds | None:
        if "item_stds" not in self.state:
            return None
        part = field(self.state, "item_stds", dict)
        n = from_hex(field(part, "n", str), "n")
        stds, variances = (self._big(part, "item_stds", k) for k in ("stds", "variances"))
        if n >= _MAX_COUNT or min((*stds, *variances), default=0) < 0:
            raise FormatError("field 'item_stds' holds impossible numbers")
        return ItemStds(n, exact(stds), exact(variances))

    def buckets(self, statistics: Histogram | Moments) -> Histogram | None:
        if "buckets" not in self.state:
            return None
        buckets = self._histogram("buckets", "bfloat16")
        same = np.array_equal(buckets.finite[1].sum(axis=1), statistics.power_sums.n)
        if not same or not np.array_equal(buckets.special, statistics.special):
            raise FormatError("field 'buckets' does not hold as many values as the statistics")
        return buckets

    def extrema(self, statistics: Histogram | Moments) -> tuple[Extrema | None, bool]:
        if self.counted:
            return None, True
        part = field(self.state, "extrema", dict)
        low, high = ([self._end(v) for v in self._list(part, name)] for name in ("low", "high"))
        for n, a, b in zip(statistics.power_sums.n.tolist(), low, high, strict=True):
            known = a is not None and b is not None
            if (known and not a <= b) or known != (n > 0) or (a is None) != (b is None):
                raise FormatError("field 'extrema' contradicts the statistics")
        return Extrema.of_lists(low, high), field(part, "exact", bool)

    def _end(self, value: Any) -> Any:
        if value is None:
            return None
        if "float" not in self.dtype:
            whole = from_hex(value, "extrema", negative=True)
            if (
                self.dtype == "bool"
                or not np.iinfo(self.dtype).min <= whole <= np.iinfo(self.dtype).max
            ):
                raise FormatError(f"field 'extrema' holds {whole}, which is no {self.dtype}")
            return whole
        try:
            number = float.fromhex(value)
        except (ValueError, TypeError, OverflowError):
            raise FormatError(f"field 'extrema' holds {value!r:.40}") from None
        if not np.isfinite(number) or number.hex() != value:
            raise FormatError(f"field 'extrema' holds {value!r:.40}")
        return number

    def _list(self, part: Mapping[str, Any], name: str) -> list[Any]:
        values = field(part, name, list)
        if len(values) != self.size:
            raise FormatError(f"field {name!r} must have {self.size} entries")
        return values

    def _histogram(self, name: str, dtype: str) -> Histogram:
        bins = n_bins(dtype)
        value: Any = field(self.state, name, (list, str))
        if isinstance(value, str):
            counts = tensor(self.arrays, value, np.int64, (self.size, bins)).copy()
            return _checked(dtype, counts, name)
        counts = np.zeros((self.size, bins), np.int64)
        for row, pairs in zip(counts, self._list(self.state, name), strict=True):
            last = -1
            for pair in pairs if isinstance(pairs, list) else [None]:
                if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) is not int:
                    raise FormatError(f"field {name!r} must hold [bin, count] pairs")
                count = from_hex(pair[1], name)
                if not last < pair[0] < bins or not 0 < count < 1 << 63:
                    raise FormatError(f"field {name!r} holds the impossible pair {pair!r:.60}")
                last = pair[0]
                row[last] = count
        return _checked(dtype, counts, name)

    def _counts(self, part: Mapping[str, Any], name: str, width: int) -> Any:
        value: Any = field(part, name, (list, str))
        shape = (self.size,) if width == 1 else (self.size, width)
        if isinstance(value, str):
            counts = tensor(self.arrays, value, np.int64, shape).copy()
        else:
            rows = self._list(part, name)
            if width == 1:
                numbers: Any = hex_list(rows, name, self.size)
            else:
                numbers = [hex_list(row, name, width) for row in rows]
            counts = np.array(numbers, object).reshape(shape)
        if ((counts < 0) | (counts >= _MAX_COUNT)).any():
            raise FormatError(f"field {name!r} holds impossible counts")
        return frozen(counts.astype(np.int64))

    def _big(self, part: Mapping[str, Any], group: str, name: str) -> list[int]:
        value: Any = field(part, name, (list, str))
        if isinstance(value, str):
            if value not in self.arrays:
                raise FormatError(f"lacks the tensor {value!r}")
            return from_bytes_tensor(self.arrays[value], value, self.size)
        return hex_list(value, f"{group}.{name}", self.size, negative=True)


def _checked(dtype: str, counts: Any, name: str) -> Histogram:
    """A histogram of counts that could have been counted."""
    if (counts < 0).any() or (counts.sum(axis=1, dtype=np.float64) >= _MAX_COUNT).any():
        raise FormatError(f"{name!r} holds impossible counts")
    if counts[:, unused_bins(dtype)].any():
        raise FormatError(f"{name!r} counts in bins that {dtype} never uses")
    return Histogram(dtype, frozen(counts))
