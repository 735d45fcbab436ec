"""Normalizes data frames, and undoes it: the same kind of frame comes back.

Columns are matched by their names. Those that were not measured pass through, so do the index,
the order of the columns, and missing values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, UnitError, warn
from zeromean.frames import Framed, New, frame_of, lazily
from zeromean.lone_columns import is_feature, one_sample, own_feature
from zeromean.sources.columns import few
from zeromean.sources.frames import is_frame
from zeromean.statistics.formats import split_dtype

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

__all__ = ["apply", "apply_frame", "invert", "invert_frame", "is_frame"]

_Array = npt.NDArray[Any]
_FLOATS = ("float16", "float32", "float64")
_ROWS = 1 << 14  # of a matrix product at a time
_TOGETHER = 64  # columns are mapped at a time
_SHORT = 1 << 15  # values; a call for each column below that would cost more than a copy


def apply(
    norm: Normalizer, x: Any, *, out: Any = None, dtype: Any = None, layout: str | None = None
) -> Any:
    """Normalize a frame; what `Normalizer.__call__` does with one.

    Parameters
    ----------
    norm : Normalizer
    x : frame
    out, layout : None
        For arrays only.
    dtype : optional
        As for `apply_frame`.

    Returns
    -------
    frame
        Of the kind of `x`.
    """
    _check_plain(out, layout)
    return apply_frame(norm, x, dtype)


def invert(
    norm: Normalizer, y: Any, *, out: Any = None, dtype: Any = None, layout: str | None = None
) -> Any:
    """Undo `apply`; what `Normalizer.invert` does with a frame.

    Parameters
    ----------
    norm : Normalizer
    y : frame
    out, layout : None
        For arrays only.
    dtype : optional
        As for `invert_frame`.

    Returns
    -------
    frame
        Of the kind of `y`.
    """
    _check_plain(out, layout)
    return invert_frame(norm, y, dtype)


def apply_frame(
    norm: Normalizer, frame: Any, dtype: Any = None, *, by: str | None = None, quiet: bool = False
) -> Any:
    """Normalize the measured columns of a frame.

    Parameters
    ----------
    norm : Normalizer
    frame : data frame, table, or a column of one
        pandas, polars (lazy frames stay lazy), PyArrow, or one of these in Narwhals.
    dtype : {"float16", "float32", "float64"}, optional
        Of the normalized columns. By default float32 and float16 stay what they are, and all
        others become float64.
    by : str, optional
        A column that says the group of each row, and is no feature unless it was measured.
    quiet : bool
        Whether columns that were not measured are no news.

    Returns
    -------
    frame
        Of the same kind, with the same index and columns; missing values stay missing. Whitening
        that leaves fewer features, or principal components, puts ``pca0``, ``pca1``, ... in
        place of the measured columns. A column by itself gets the numbers of the feature of its
        name, or the only ones that there are; else it is one sample, with a value for each
        feature: by its labels if these are the names of the features, by place otherwise.

    Raises
    ------
    PatternError
        When a measured column is not there or holds no numbers.
    UnitError
        When the data is visibly on another scale than what was measured.

    Examples
    --------
    >>> import numpy as np
    >>> import polars as pl
    >>> import zeromean as zm
    >>> frame = pl.DataFrame({"name": ["a", "b"], "size": [1, 3]})
    >>> zm.zero_mean(zm.measure(frame))(frame)["size"].to_list()
    [-1.0, 1.0]
    """
    wanted = _wanted(dtype, _FLOATS)
    return lazily(frame, lambda eager: _Forward(norm, frame_of(eager), wanted, by, quiet).run())


def invert_frame(
    norm: Normalizer, frame: Any, dtype: Any = None, *, by: str | None = None, quiet: bool = False
) -> Any:
    """Undo `apply_frame`.

    Parameters
    ----------
    norm : Normalizer
    frame : frame
        As `apply_frame` gave it.
    dtype : optional
        Of the measured columns; their raw dtypes by default. Integers are rounded and clipped.
    by, quiet : optional
        As for `apply_frame`.

    Returns
    -------
    frame
        Of the same kind.

    Raises
    ------
    PatternError
        When a column is not there, or NaN would have to become an integer.
    UnitError
        For columns of integers, which are raw data and not normalized.
    """
    wanted = None if dtype is None else np.dtype(dtype).name
    return lazily(frame, lambda eager: _Backward(norm, frame_of(eager), wanted, by, quiet).run())


def _check_plain(out: Any, layout: Any) -> None:
    if out is not None or layout is not None:
        raise PatternError("data frames take no out= or layout=; a new frame comes back")


def _wanted(dtype: Any, known: Sequence[str]) -> str | None:
    if dtype is None:
        return None
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in known:
        raise PatternError(f"dtype is {name}; frames take one of {', '.join(known)}")
    return name


# ---------------------------------------------------------------- what both ways share


@dataclass(frozen=True, slots=True)
class _Way:
    """One pass over one frame.

    Attributes
    ----------
    norm : Normalizer
    frame : Framed
    dtype : str or None
        Of the results; None for what the column had.
    by : str or None
        The column that says the group of each row.
    quiet : bool
        Whether columns that were not measured are no news.
    """

    norm: Normalizer
    frame: Framed
    dtype: str | None
    by: str | None = None
    quiet: bool = False

    def run(self) -> Any:
        """The frame with its measured columns changed."""
        norm, frame = self.norm, self.frame
        if (len(norm.kept_shape) > 1 and not frame.single) or norm.pattern.keeps_first:
            raise PatternError(
                f"a normalizer for {str(norm.pattern)!r} has no numbers for the columns of a "
                "frame; measure a frame, or a two-dimensional array"
            )
        if not frame.single:
            return self.changed()
        return self.changed() if is_feature(norm, frame) else one_sample(norm, frame, self.through)

    def changed(self) -> Any:
        """The frame with its measured columns changed, each by its own numbers."""
        raise NotImplementedError

    def through(self, values: _Array) -> _Array:
        """One sample of all features."""
        raise NotImplementedError

    def matched(self, wanted: Sequence[str]) -> dict[int, int]:
        """Where each numeric column of the frame stands among the features.

        Raises
        ------
        PatternError
            When one is missing.
        """
        fields = self.frame.fields
        if self.frame.single:
            return {0: own_feature(self.norm, fields[0].name) or 0}
        numeric = [i for i, field in enumerate(fields) if field.dtype]
        if not wanted:
            return self._by_place([i for i in numeric if fields[i].name != self.by])
        self._check_names(wanted)
        order = {name: j for j, name in enumerate(wanted)}
        return {i: order[fields[i].name] for i in numeric if fields[i].name in order}

    def _by_place(self, numeric: list[int]) -> dict[int, int]:
        """For a normalizer without names: one number for all, or as many as columns."""
        size = self.norm.shift.size
        if not self.norm.kept_shape:
            return dict.fromkeys(numeric, 0)
        if len(numeric) != size:
            raise PatternError(
                f"the normalizer holds {size} features without names, but the table has "
                f"{len(numeric)} numeric columns; measure the frame itself, or give feature_names="
            )
        return {i: j for j, i in enumerate(numeric)}

    def _check_names(self, wanted: Sequence[str]) -> None:
        fields = {field.name: field for field in self.frame.fields}
        lacking = [name for name in wanted if name not in fields]
        if lacking:
            raise PatternError(
                f"the table lacks {len(lacking)} of the {len(wanted)} measured columns: "
                f"{few(lacking)}"
            )
        odd = [name for name in wanted if not fields[name].dtype]
        if odd:
            raise PatternError(
                f"the column {odd[0]!r} holds {fields[odd[0]].type}, but numbers were measured"
            )
        known = Counter(field.name for field in self.frame.fields if field.dtype)
        twice = [name for name in wanted if known[name] > 1]
        if twice:
            raise PatternError(f"the table has several columns named {few(twice)}; rename them")
        measured = set(wanted)
        extra = [name for name in known if name not in measured and name != self.by]
        if extra and not self.quiet:
            text = f"columns that were not measured stay as they are: {few(extra)}"
            warn(text)

    def numbers(self, feature: int) -> tuple[_Array, _Array, _Array]:
        """Shift, scale and offset of a feature."""
        norm, own = self.norm, slice(feature, feature + 1)
        return norm.shift.ravel()[own], norm.scale.ravel()[own], norm.offset.ravel()[own]

    def block(self, places: Sequence[int]) -> tuple[_Array, _Array | None]:
        """Some columns as float64 side by side, NaN where missing, and which rows miss any."""
        held = np.empty((self.frame.length, len(places)))
        gaps: Any = None
        for k, i in enumerate(places):
            values, missing = self.frame.column(i)
            held[:, k] = values
            if missing is not None:
                held[missing, k] = np.nan
                gaps = missing if gaps is None else gaps | missing
        return held, gaps

    def swapped(
        self, places: Sequence[int], names: Sequence[str], columns: Sequence[_Array], gaps: Any
    ) -> Any:
        """The frame with other columns in the place of the first of these."""
        new = [New(names[k], columns[k], gaps, places[0]) for k in range(len(names))]
        if len(names) == len(places):
            at = dict(zip(places, [[entry] for entry in new], strict=True))
        else:
            at = {places[0]: new, **{i: [] for i in places[1:]}}
        entries = [e for i in range(len(self.frame.fields)) for e in at.get(i, [i])]
        return self.frame.rebuilt(entries)


class _Forward(_Way):
    """Normalizes."""

    def through(self, values: _Array) -> _Array:
        """One sample of all features."""
        y: _Array = self.norm(values, dtype=self._dtype(0))
        return y

    def changed(self) -> Any:
        """The frame with its measured columns normalized."""
        places = self.matched(self.norm.feature_names)
        self._check_units(places)
        if self.norm.matrix is not None:
            return self._mixed(places)
        entries: list[Any] = list(range(len(self.frame.fields)))
        alike: dict[tuple[str, str], list[int]] = {}
        for i in places:
            alike.setdefault((self.frame.fields[i].dtype, self._dtype(i)), []).append(i)
        for (_, dtype), same in alike.items():
            for begin in range(0, len(same), _TOGETHER):
                some = same[begin : begin + _TOGETHER]
                for entry in self._mapped({i: places[i] for i in some}, dtype):
                    entries[entry.like] = entry
        return self.frame.rebuilt(entries)

    def _mapped(self, places: dict[int, int], dtype: str) -> Iterator[New]:
        """A few columns of one dtype; short ones are first put below each other, for one call."""
        from zeromean.affine import forward

        pairs = [self.frame.column(i) for i in places]
        out = np.empty((len(pairs), self.frame.length), dtype)
        if self.frame.length < _SHORT:
            own = list(places.values())
            norm = self.norm
            shift, scale, offset = (
                a.ravel()[own, None] for a in (norm.shift, norm.scale, norm.offset)
            )
            forward(np.stack([values for values, _ in pairs]), shift, scale, offset, out)
        else:
            for row, (values, _), feature in zip(out, pairs, places.values(), strict=True):
                forward(values, *self.numbers(feature), row)
        for i, row, (_, missing) in zip(places, out, pairs, strict=True):
            yield New(self.frame.fields[i].name, row, missing, i)

    def _dtype(self, column: int) -> str:
        own = self.frame.fields[column].dtype
        return self.dtype or (own if own in _FLOATS else "float64")

    def _check_units(self, places: dict[int, int]) -> None:
        norm = self.norm
        raw = split_dtype(norm.dtype, max(1, norm.shift.size))
        kinds = {self.frame.fields[i].dtype for i in places}
        if norm.units.top is None or kinds <= set(raw) - set(_FLOATS):
            return
        low, high = np.nan, np.nan
        for i in places:
            values, missing = self.frame.column(i)
            held = values if missing is None else values[~missing]
            if held.size:
                low = np.fmin(low, np.fmin.reduce(held, axis=None))
                high = np.fmax(high, np.fmax.reduce(held, axis=None))
        kind = "float64" if any("float" in k for k in kinds) else next(iter(kinds))
        norm.units.check(norm.dtype, kind, float(low), float(high))

    def _mixed(self, places: dict[int, int]) -> Any:
        """Through a matrix: all columns depend on all others."""
        order = sorted(places, key=lambda i: places[i])
        names = output_names(self.norm, [self.frame.fields[i].name for i in order])
        block, gaps = self.block(order)
        kinds = {self._dtype(i) for i in order}
        out = np.empty((len(names), len(block)), kinds.pop() if len(kinds) == 1 else "float64")
        plain = replace(self.norm, units=replace(self.norm.units, range=None))
        for begin in range(0, len(block), _ROWS):
            part = block[begin : begin + _ROWS]
            out[:, begin : begin + _ROWS] = np.asarray(plain(part, dtype="float64")).T
        return self.swapped(order, names, list(out), gaps)


class _Backward(_Way):
    """Undoes."""

    def through(self, values: _Array) -> _Array:
        """One sample of all features; of several dtypes it becomes float64."""
        raw = "float64" if "," in self.norm.dtype else self.norm.dtype
        x: _Array = self.norm.invert(values, dtype=self.dtype or raw)
        return x

    def changed(self) -> Any:
        """The frame with its measured columns as they were."""
        if self.norm.matrix is not None:
            return self._unmixed()
        places = self.matched(self.norm.feature_names)
        entries: list[Any] = list(range(len(self.frame.fields)))
        for i, feature in places.items():
            values, missing = self.frame.column(i)
            out = self._back(values, missing, feature, self.frame.fields[i].name)
            entries[i] = New(self.frame.fields[i].name, out, missing, i)
        return self.frame.rebuilt(entries)

    def _back(self, values: _Array, missing: Any, feature: int, name: str) -> _Array:
        self._check_float(values, name)
        return self._rounded(values, missing, feature, name, self.numbers(feature))

    def _check_float(self, values: _Array, name: str) -> None:
        if values.dtype.kind in "iub":
            raise UnitError(
                f"invert takes what normalizing gave, floats around zero, but the column {name!r} "
                f"is {values.dtype.name}"
            )

    def _rounded(
        self, values: _Array, missing: Any, feature: int, name: str, numbers: Any
    ) -> _Array:
        from zeromean.affine import backward

        raw = split_dtype(self.norm.dtype, max(1, self.norm.shift.size))[feature]
        out = np.empty(len(values), self.dtype or raw)
        if missing is not None:
            values = np.where(missing, values.dtype.type(0), values)
        try:
            shift, scale, offset = numbers
            backward(values, shift, scale, offset, out)
        except PatternError as error:
            raise PatternError(f"the column {name!r}: {error}") from None
        return out

    def _unmixed(self) -> Any:
        norm = self.norm
        n_out = len(norm.matrix)  # type: ignore[arg-type]
        raw_names = norm.feature_names or tuple(map(str, range(norm.shift.size)))
        given = output_names(norm, raw_names)
        fields = [field.name for field in self.frame.fields]
        self._check_names(given)
        order = [fields.index(name) for name in given]
        for i in order:
            self._check_float(self.frame.column(i)[0][:0], fields[i])
        block, gaps = self.block(order)
        held = np.empty((norm.shift.size, len(block)))
        for begin in range(0, len(block), _ROWS):
            part = block[begin : begin + _ROWS].reshape(-1, n_out)
            held[:, begin : begin + _ROWS] = np.asarray(norm.invert(part, dtype="float64")).T
        one, zero = np.ones(1), np.zeros(1)
        columns = [
            self._rounded(held[j], gaps, j, name, (zero, one, zero))
            for j, name in enumerate(raw_names)
        ]
        return self.swapped(order, raw_names, columns, gaps)


def output_names(norm: Normalizer, names: Sequence[str]) -> list[str]:
    """What the columns are called that come out of a normalizer.

    Parameters
    ----------
    norm : Normalizer
    names : sequence of str
        Of the columns that go in.

    Returns
    -------
    list of str
        The same names; ``pca0``, ``pca1``, ... for principal components.
    """
    if norm.matrix is None or (len(norm.matrix) == len(names) and "pca" not in norm.recipe):
        return list(names)
    return [f"pca{i}" for i in range(len(norm.matrix))]
