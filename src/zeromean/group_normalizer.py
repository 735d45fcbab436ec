"""A normalizer for each group: `GroupedNormalizer`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean import documents, group_file, normalizer_file
from zeromean.errors import FormatError, PatternError
from zeromean.frames import joined, lazily, taken_rows
from zeromean.lone_columns import own_feature
from zeromean.normalizer import Normalizer
from zeromean.sources.frames import is_frame, labels_in, row_count, unwrapped
from zeromean.sources.labels import check_length, factorized, named
from zeromean.sources.nullable import label_name
from zeromean.statistics.groups import in_order, runs, taken
from zeromean.tabular import apply_frame, invert_frame

_Array = npt.NDArray[Any]
_MAX_ROWS = 12
_NAMED = 8
_BLOCK_BYTES = 32 << 20  # of data that is brought together at a time


class GroupedNormalizer(Mapping[str, Normalizer]):
    """A `Normalizer` for each group; the data says which one with its labels.

    Made by `zeromean.GroupedProfile.normalizers` or by `zeromean.load`.

    Parameters
    ----------
    normalizers : mapping of str to Normalizer
        At least one; all of one recipe, pattern and kept shape.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x, sites = np.array([[1.0], [3.0], [101.0], [103.0]]), ["a", "a", "b", "b"]
    >>> norm = zm.measure(x, by=sites).normalizers(zm.zero_mean)
    >>> norm(x, by=sites).ravel()
    array([-1.,  1., -1.,  1.], dtype=float32)
    >>> norm(np.array([5.0]), by="a")
    array([3.], dtype=float32)
    """

    def __init__(self, normalizers: Mapping[str, Normalizer]) -> None:
        self._held = {name: normalizers[name] for name in in_order(normalizers)}
        if not self._held:
            raise PatternError("there is no group, so there is nothing to normalize by")
        self._check_alike()

    def _check_alike(self) -> None:
        (first, one), *others = self._held.items()
        for name, other in others:
            for what in ("recipe", "pattern", "kept_shape", "dtype", "units", "feature_names"):
                mine, theirs = getattr(one, what), getattr(other, what)
                if mine != theirs:
                    raise PatternError(
                        f"groups must be alike, but {first!r} has {what.replace('_', ' ')} {mine} "
                        f"and {name!r} has {theirs}"
                    )

    # ------------------------------------------------------------ as a mapping

    def __getitem__(self, name: Any) -> Normalizer:
        key = str(name)
        if key not in self._held:
            raise KeyError(self._unknown(key))
        return self._held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def _unknown(self, *names: str) -> str:
        known = ", ".join(map(repr, list(self._held)[:_NAMED]))
        more = f", ... ({len(self)} in all)" if len(self) > _NAMED else ""
        asked = ", ".join(map(repr, names[:_NAMED]))
        return f"there is no normalizer for the group {asked}; there are {known}{more}"

    @property
    def _first(self) -> Normalizer:
        return next(iter(self._held.values()))

    @property
    def recipe(self) -> str:
        """The recipe of all groups."""
        return self._first.recipe

    @property
    def units(self) -> Any:
        """Range and channel order of the raw data of all groups."""
        return self._first.units

    @property
    def pattern(self) -> Any:
        """The pattern of all groups."""
        return self._first.pattern

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Shape of the numbers of every group."""
        return self._first.kept_shape

    @property
    def dtype(self) -> str:
        """Of the raw data of all groups."""
        return self._first.dtype

    def normalizer_for(self, label: Any) -> Normalizer:
        """The normalizer of one group.

        Parameters
        ----------
        label : str, int or bool

        Returns
        -------
        Normalizer

        Raises
        ------
        PatternError
            When there is none, with those that there are.
        """
        name = named(label, "the label")
        if name not in self._held:
            raise PatternError(self._unknown(name))
        return self._held[name]

    # ------------------------------------------------------------ there and back

    def __call__(
        self, x: Any, *, by: Any, out: Any = None, dtype: Any = None, layout: str | None = None
    ) -> Any:
        """Normalize each sample with the numbers of its group.

        Parameters
        ----------
        x : array, tensor or data frame
            As for `zeromean.Normalizer`.
        by : array or sequence of labels, or one label, or the name of a column
            One for each entry of the first axis; or a single one for all of `x`. The name of a
            column of a frame means its labels, even if a group has that name too.
        out, dtype, layout : optional
            As for `zeromean.Normalizer`.

        Returns
        -------
        ndarray, tensor or data frame
            Of the kind of `x`; a frame with the same rows, index and columns.

        Raises
        ------
        PatternError
            For a label without a normalizer, or another number of labels than samples.
        """
        if is_frame(x):
            return self._by_row(x, by, apply_frame, dtype, (out, layout))
        options = {"dtype": _dtype(dtype, out), "layout": layout}
        return self._by_group(x, by, out, lambda norm, part, **o: norm(part, **options, **o))

    def invert(
        self, y: Any, *, by: Any, out: Any = None, dtype: Any = None, layout: str | None = None
    ) -> Any:
        """Undo the normalization, each sample with the numbers of its group.

        Parameters
        ----------
        y : array, tensor or data frame
            As `__call__` gave it.
        by : array or sequence of labels, or one label, or the name of a column
        out, dtype, layout : optional
            As for `zeromean.Normalizer.invert`.

        Returns
        -------
        ndarray, tensor or data frame
            Of the kind of `y`.

        Raises
        ------
        PatternError
            As `__call__`.
        """
        if is_frame(y):
            return self._by_row(y, by, invert_frame, dtype, (out, layout))
        options = {"dtype": _dtype(dtype, out), "layout": layout}
        return self._by_group(y, by, out, lambda norm, part, **o: norm.invert(part, **options, **o))

    def torch(self, **options: Any) -> Any:
        """There is none: a module is not told the group of each sample.

        Parameters
        ----------
        **options
            Not used.

        Raises
        ------
        PatternError
            Always, with what to do.
        """
        name = next(iter(self._held))
        raise PatternError(
            "a module is not told the group of each sample; take that of one group, such as "
            f"norm[{name!r}].torch(), or call norm(tensor, by=labels)"
        )

    def _known(self, by: Any) -> tuple[tuple[str, ...], Any]:
        """Names of the groups, and the place of each label's among them."""
        names, codes = factorized(by.cpu() if _is_tensor(by) else by)
        unknown = [name for name in names if name not in self._held]
        if unknown:
            raise PatternError(self._unknown(*in_order(unknown)))
        return names, codes

    def _by_row(self, frame: Any, by: Any, change: Any, dtype: Any, arrays_only: Any) -> Any:
        """Change the rows of a frame, each by the numbers of its group."""
        if any(each is not None for each in arrays_only):
            raise PatternError("data frames take no out= or layout=; a new frame comes back")
        native = unwrapped(frame)
        column = by if isinstance(by, str) and by in _columns(native) else None
        if column is None and _is_label(by):
            return change(self.normalizer_for(by), frame, dtype)
        self._check_single(native)
        if column is None and (rows := row_count(native)) is not None:
            check_length(self._known(by)[1], rows)

        def changed(eager: Any) -> Any:
            if len(eager) == 0:  # and what a lazy frame is tried with
                return change(self._first, eager, dtype, by=column)
            names, codes = self._known(by if column is None else labels_in(eager, column))
            check_length(codes, len(eager))
            parts: list[Any] = []
            order = np.argsort(codes, kind="stable")
            for code in np.unique(codes):
                part = taken_rows(eager, np.flatnonzero(codes == code))
                norm, quiet = self._held[names[code]], bool(parts)
                parts.append(change(norm, part, dtype, by=column, quiet=quiet))
            if len({tuple(_columns(part)) for part in parts}) > 1:
                raise PatternError("the groups give different columns; normalize each by itself")
            return taken_rows(joined(parts), np.argsort(order, kind="stable"))

        return lazily(frame, changed)

    def _check_single(self, frame: Any) -> None:
        """Refuse a column by itself that is none of the features."""
        if _columns(frame) or hasattr(frame, "columns"):
            return
        name = str(getattr(frame, "name", ""))
        if own_feature(self._first, name) is None:
            raise PatternError(
                f"the column {name!r} is none of the {self._first.shift.size} features, so its "
                "rows are no samples; give a frame"
            )

    def _by_group(self, x: Any, by: Any, out: Any, apply: Any) -> Any:
        if _is_label(by):
            return apply(self.normalizer_for(by), x, out=out)
        names, codes = self._known(by)
        array = x if _is_tensor(x) else np.asarray(x)
        if array.ndim == 0 or len(codes) != len(array):
            length = len(array) if array.ndim else 0
            raise PatternError(f"there are {len(codes)} labels for {length} samples; give one each")
        if len(array) == 0:
            return apply(self._first, array, out=out)
        many = max(1, len(array) * _BLOCK_BYTES // max(_bytes(array), 1))
        for code, chosen in runs(np.arange(len(array)), codes, 8 * many):
            out = self._apply_to(self._held[names[code]], array, _stretch(chosen), out, apply)
        return out

    @staticmethod
    def _apply_to(norm: Normalizer, array: _Array, rows: Any, out: Any, apply: Any) -> Any:
        """Normalize some rows into their places; the first ones say what the result is like."""
        plain = isinstance(rows, slice) or _is_tensor(array)
        part = apply(norm, array[rows] if plain else taken(array, rows))
        shape = (len(array), *part.shape[1:])
        if out is None:
            tensor = _is_tensor(array)
            out = part.new_empty(shape) if tensor else np.empty(shape, part.dtype)
        elif out.shape != shape:
            raise PatternError(f"out has shape {out.shape}, but the result has {shape}")
        out[rows] = part
        return out

    # ------------------------------------------------------------ as a value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupedNormalizer):
            return NotImplemented
        return self._held == other._held

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        from zeromean.group_tables import counted, group_normalizer_rows
        from zeromean.tables import aligned, normalizer_headline

        heads, body, notes = group_normalizer_rows(self._held, _MAX_ROWS)
        head = f"GroupedNormalizer({counted(len(self))}, {normalizer_headline(self._first)})"
        return "\n".join([head, *aligned([heads, *body]), *(f"  {note}" for note in notes)])

    def _repr_html_(self) -> str:
        from zeromean.group_tables import counted, group_normalizer_rows
        from zeromean.tables import html_table, normalizer_headline

        heads, body, notes = group_normalizer_rows(self._held, _MAX_ROWS)
        title = f"{counted(len(self))}, {normalizer_headline(self._first)}"
        return html_table("GroupedNormalizer", title, heads, body, notes)

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to `.json` (up to 10 000 numbers in all groups together) or `.safetensors`.

        Parameters
        ----------
        path : path
            An old file is replaced at once, or stays as it is.

        Raises
        ------
        FormatError
            As `zeromean.Normalizer.save`.
        """
        documents.save(path, *self._document(tensors=str(path).endswith(".safetensors")))

    def to_json(self) -> str:
        """The text that `save` writes to a `.json` file."""
        return documents.to_text(self._document(tensors=False)[0])

    def _document(self, *, tensors: bool) -> tuple[dict[str, Any], documents.Tensors]:
        if not tensors:
            group_file.check_size(len(self) * self._first.shift.size)
        parts = {
            name: normalizer_file.to_document(norm, tensors=tensors)
            for name, norm in self._held.items()
        }
        first = next(iter(parts.values()))[0]
        head = {k: first[k] for k in group_file.SHARED if k in first}
        return group_file.packed(head, parts, "normalizers")

    @classmethod
    def from_document(cls, document: Mapping[str, Any], arrays: documents.Tensors) -> Self:
        """Normalizers from their document, every field checked.

        Parameters
        ----------
        document : mapping
        arrays : dict of str to ndarray

        Returns
        -------
        GroupedNormalizer

        Raises
        ------
        FormatError
            Naming the group and the field.
        """
        held = {}
        for name, part, own in group_file.unpacked(document, arrays, "normalizer"):
            try:
                held[name] = Normalizer.from_document(part, own)
            except FormatError as error:
                raise FormatError(f"group {name!r}: {error}") from None
        try:
            return cls(held)
        except PatternError as error:
            raise FormatError(f"field 'groups': {error}") from None


def check_recipe(recipe: Any, call: str) -> None:
    """Refuse what is no recipe.

    Parameters
    ----------
    recipe : anything
    call : str
        What to write instead, with a pair of braces where the recipe goes.

    Raises
    ------
    PatternError
        With that call.
    """
    if callable(recipe) and not isinstance(recipe, Normalizer | GroupedNormalizer | type):
        return
    name = recipe if isinstance(recipe, str) and recipe.isidentifier() else "standardize"
    what = f"the text {recipe!r}" if isinstance(recipe, str) else f"a {type(recipe).__name__}"
    raise PatternError(f"a recipe is a function, not {what}; write {call.format(f'zm.{name}')}")


def _is_label(by: Any) -> bool:
    return isinstance(by, str | int | bool | np.generic) or by is None


def _is_tensor(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] in ("torch", "torchvision")


def _bytes(array: Any) -> int:
    return int(array.numel() * array.element_size() if _is_tensor(array) else array.nbytes)


def _columns(frame: Any) -> list[str]:
    """The names of the columns of a frame; none of a column by itself."""
    if hasattr(frame, "collect_schema"):
        return list(frame.collect_schema().names())
    if hasattr(frame, "column_names"):
        return list(frame.column_names)
    if hasattr(frame, "schema") and hasattr(frame, "num_columns"):
        return list(frame.schema.names)
    return [label_name(label) for label in getattr(frame, "columns", ())]


def _dtype(dtype: Any, out: Any) -> Any:
    """The dtype of the result: that of the given array, unless another is asked for."""
    return dtype if dtype is not None or out is None else out.dtype


def _stretch(rows: npt.NDArray[np.intp]) -> Any:
    """A slice where rows follow each other, so that nothing is copied."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
