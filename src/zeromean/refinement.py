"""Exact quantiles of summed data: reads the source again, in bounded memory.

A radix selection (Knuth, *The Art of Computer Programming* 5.2.5 and 5.3.3): numbers become
integers of the same order; each pass counts the next 16 bits of the values that agree with a
wanted one so far, and the last one gathers what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, SourceError
from zeromean.masking import mask_of, nodata_values, representable
from zeromean.provenance import Provenance
from zeromean.readouts import Readouts
from zeromean.sources import Item
from zeromean.sources.columns import ColumnBatch
from zeromean.sources.opening import Options, open_source
from zeromean.sources.tables import TableFiles
from zeromean.statistics.gaps import aligned, found, rows_with_gaps

_Array = npt.NDArray[Any]
_Codes = npt.NDArray[np.uint64]
_GATHERED = 1 << 20  # values that may be held at once
_BITS = 16
_BLOCK = 4 << 20  # bytes that are copied at a time
_SIGN = np.uint64(1 << 63)


def exact_quantiles(
    profile: Readouts,
    source: Any,
    wanted: list[float],
    *,
    nodata: Any = None,
    mask: Any = None,
    ignore: Sequence[int] = (),
) -> Any:
    """Quantiles as `zeromean.Profile.quantile` gives them for counted formats.

    Parameters
    ----------
    profile : Profile
        Of the source.
    source : anything that can be measured twice
    wanted : list of float
        Between 0 and 1.
    nodata, mask, ignore
        As the profile was measured with.

    Returns
    -------
    ndarray of float64, (len(wanted), *kept shape)
        By linear interpolation at rank q (n - 1), rounded once.

    Raises
    ------
    SourceError
        When the source does not hold what was measured.
    """
    counts = np.ravel(profile.count).tolist()
    values = [_value_of(dtype) for dtype in profile.dtypes]
    left_out = nodata_values(nodata)
    selections = [_Selection(n, wanted) for n in counts]
    while any(not s.done for s in selections):
        gather = sum(s.held for s in selections) <= _GATHERED
        seen = [0] * len(counts)
        for j, codes in _columns(profile, _items(profile, source, mask, ignore), left_out):
            seen[j] += len(codes)
            selections[j].see(codes, gather)
        if seen != counts:
            raise SourceError(
                f"the source gives {sum(seen):,} values, but the profile has {sum(counts):,}; give "
                "what was measured, with the same nodata= and mask=, and something that can be "
                "read twice"
            )
        _check_ends(profile, selections, values)
        for selection in selections:
            selection.settle(gather)
    rows = [s.quantiles(value) for s, value in zip(selections, values, strict=True)]
    return np.array(rows).T.reshape(len(wanted), *profile.kept_shape)


def _check_ends(profile: Readouts, selections: list[_Selection], values: list[Any]) -> None:
    """Refuse other data than was measured; where min and max are known they must agree."""
    if not profile.extrema_exact:
        return
    known = profile.extrema
    for name, low, high, selection, value in zip(
        profile.names, known.low.tolist(), known.high.tolist(), selections, values, strict=True
    ):
        if low is None or selection.ends is None:
            continue
        first, last = (value(code) for code in selection.ends)
        if (first, last) != (Fraction(low), Fraction(high)):
            raise SourceError(
                f"the source is not what was measured: {name} goes from {float(first):.6g} to "
                f"{float(last):.6g}, but in the profile from {float(low):.6g} to {float(high):.6g}"
            )


class _Selection:
    """The search for some ranks among the values of one feature."""

    def __init__(self, n: int, wanted: list[float]) -> None:
        self.positions = [Fraction(q) * (n - 1) for q in wanted]
        low = [math.floor(p) for p in self.positions]
        self.ranks = sorted({r for k in low for r in (k, min(k + 1, n - 1))})
        # the leading bits known of each rank's value, and how many values lie below those
        self.known = dict.fromkeys(self.ranks, (0, 0))
        self.bits = 0
        self.found: dict[int, int] = {}
        self.counts: dict[int, _Array] = {}
        self.gathered: dict[int, list[_Codes]] = {}
        self.held = n
        self.ends: tuple[int, int] | None = None

    @property
    def done(self) -> bool:
        return len(self.found) == len(self.ranks)

    def see(self, codes: _Codes, gather: bool) -> None:
        """Count the next bits of the values that begin as a wanted one does, or keep them."""
        if len(codes):
            low, high = int(codes.min()), int(codes.max())
            known = self.ends or (low, high)
            self.ends = min(known[0], low), max(known[1], high)
        if self.done:
            return
        for prefix in {prefix for prefix, _ in self.known.values()}:
            part = codes
            if self.bits:
                part = codes[codes >> np.uint64(64 - self.bits) == np.uint64(prefix)]
            if gather:
                self.gathered.setdefault(prefix, []).append(part)
                continue
            shift = np.uint64(64 - self.bits - _BITS)
            digits = (part >> shift) & np.uint64((1 << _BITS) - 1)
            counts = np.bincount(digits.astype(np.int64), minlength=1 << _BITS)
            self.counts[prefix] = self.counts.get(prefix, 0) + counts

    def settle(self, gather: bool) -> None:
        """Know more of each wanted value after a pass."""
        if self.done:
            return
        if gather:
            whole = {p: np.sort(np.concatenate(parts)) for p, parts in self.gathered.items()}
            for rank, (prefix, below) in self.known.items():
                self.found[rank] = int(whole[prefix][rank - below])
            self.gathered = {}
            return
        held: dict[int, int] = {}
        for rank, (prefix, below) in self.known.items():
            cumulative = np.cumsum(self.counts[prefix])
            digit = int(np.searchsorted(cumulative, rank - below, side="right"))
            before = int(cumulative[digit - 1]) if digit else 0
            self.known[rank] = (prefix << _BITS | digit, below + before)
            held[prefix << _BITS | digit] = int(cumulative[digit]) - before
        self.bits += _BITS
        self.held = sum(held.values())
        self.counts = {}
        if self.bits == 64:
            self.found = {rank: prefix for rank, (prefix, _) in self.known.items()}

    def quantiles(self, value: Callable[[int], Fraction]) -> list[float]:
        """Interpolated between neighbors, rounded once."""
        result = []
        for position in self.positions:
            rank = math.floor(position)
            low, high = value(self.found[rank]), value(self.found[min(rank + 1, self.ranks[-1])])
            result.append(float(low + (high - low) * (position - rank)))
        return result


def _items(profile: Readouts, source: Any, mask: Any, ignore: Sequence[int]) -> Iterator[Item]:
    """What was measured, once more; of files that were skipped nothing, though they began well."""
    skipped = {name for name, _ in getattr(profile, "provenance", Provenance()).skipped}
    options = Options(profile.units.colors or "RGB")
    sources = open_source(source, profile.pattern, options)
    masked = mask_of(mask, ignore, sources)
    for opened in sources:
        if isinstance(opened, TableFiles):
            opened.expect(profile.feature_names, profile.dtypes)
        shards: Any = opened.shards()
        if masked is not None and masked.of_array:
            shards = masked.shards(opened, shards)
        for shard in shards:
            for item in shard.items():
                if item.name in skipped:
                    continue
                whole = item if masked is None else masked(item, opened.pattern)
                if whole.array is not None:
                    yield whole


def _columns(
    profile: Readouts, items: Iterator[Item], nodata: Sequence[float]
) -> Iterator[tuple[int, _Codes]]:
    """Feature number and codes of its finite values, block by block."""
    for item in items:
        if isinstance(item.array, ColumnBatch):
            yield from _table_columns(profile, item, nodata)
            continue
        array = item.array if item.batched else item.array[None]
        if array.dtype.name != profile.dtype:
            raise PatternError(
                f"{item.name} is {array.dtype.name}, but the profile is of {profile.dtype}"
            )
        unwanted = representable(nodata, array.dtype)
        if unwanted or item.missing is not None:
            gaps = None if item.missing is None else aligned(item.missing, array)
            for _, rows, own in rows_with_gaps(profile.pattern, array, gaps, _BLOCK):
                for j in range(rows.shape[1]):
                    missing = None if own is None else own[:, j]
                    yield j, _codes(_present(rows[:, j], missing, unwanted))
            continue
        for block in profile.pattern.blocks(array):
            for j in range(block.shape[1]):
                yield j, _codes(block[:, j].ravel())


def _present(values: _Array, missing: Any, nodata: Sequence[Any]) -> _Array:
    """The values that are there."""
    if nodata:
        same = found(values, nodata)
        missing = same if missing is None else missing | same
    return values if missing is None else values[~missing]


def _table_columns(
    profile: Readouts, item: Item, nodata: Sequence[float]
) -> Iterator[tuple[int, _Codes]]:
    batch: ColumnBatch = item.array
    if profile.feature_names:
        batch = batch.ordered(profile.feature_names, item.name)
    if batch.dtypes != profile.dtypes:
        pairs = zip(batch.names, batch.dtypes, profile.dtypes, strict=True)
        name, held, wanted = next((n, a, b) for n, a, b in pairs if a != b)
        raise PatternError(
            f"{item.name}: the column {name!r} is {held}, but the profile's is {wanted}"
        )
    for j, column in enumerate(batch.columns):
        values, missing = column.arrays()
        yield j, _codes(_present(values, missing, representable(nodata, values.dtype)))


def _codes(values: _Array) -> _Codes:
    """Finite numbers as unsigned 64-bit integers of the same order."""
    if values.dtype.kind in "ib":
        return values.astype(np.int64).view(np.uint64) ^ _SIGN
    if values.dtype.kind == "u":
        return values.astype(np.uint64)
    with np.errstate(invalid="ignore"):  # signaling NaN
        wide = values.astype(np.float64)
    bits = (wide[np.isfinite(wide)] + 0.0).view(np.uint64)  # -0.0 counts as 0.0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _value_of(dtype: str) -> Callable[[int], Fraction]:
    """From a code back to the number."""
    if "float" in dtype:
        return _of_float_code
    return Fraction if dtype.startswith("u") else lambda code: Fraction(code - (1 << 63))


def _of_float_code(code: int) -> Fraction:
    bits = code & ~(1 << 63) if code >> 63 else ~code & (1 << 64) - 1
    return Fraction(float(np.array([bits], np.uint64).view(np.float64)[0]))
