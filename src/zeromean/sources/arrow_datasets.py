"""The rows of a data set of Hugging Face: stored ones as tables, streamed ones as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from zeromean.errors import PatternError, SourceError
from zeromean.sources import sniff
from zeromean.sources.arrays import is_picture


class DatasetRows:
    """A data set as tables of some rows each, as they are stored.

    Attributes
    ----------
    name : str
    n_rows : int or None
        None for a stream.
    untyped : bool
        Whether a stream does not know the types of its columns.
    """

    def __init__(self, source: Any, key: str) -> None:
        self._key = key
        self.name = type(source).__name__
        self.n_rows = len(source) if hasattr(source, "__len__") else None
        self.untyped = source.features is None
        self._source = source
        if self.n_rows is None:
            self._source = source.with_format(None)
            if not self.untyped and hasattr(source, "decode"):
                self._source = self._source.decode(False)

    @cached_property
    def schema(self) -> Any:
        """Of the columns; what a stream does not know, its first rows tell."""
        return self._typed.features.arrow_schema

    @cached_property
    def _typed(self) -> Any:
        """The source when the types of its columns are known."""
        if not self.untyped:
            return self._source
        source = (
            self._source.select_columns([self._key]) if self._key in self.first else self._source
        )
        try:
            return source._resolve_features()
        except Exception as error:
            why = str(error) or "there are none"
            raise PatternError(
                f"{self.name} does not know the types of its columns, and its rows do not tell "
                f"them ({why}); give it features, with data.cast(features)"
            ) from error

    @cached_property
    def first(self) -> dict[str, Any]:
        """The first row of a stream."""
        return self._next(iter(self._source), 0) or {}

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return list(self.first) if self.untyped else list(self.schema.names)

    def pictures_of_first(self, key: str) -> list[str]:
        """The columns of pictures in the first row of a stream; of them the one that is wanted."""
        held = self.first.items()
        found = [name for name, value in held if _is_encoded(value) or is_picture(value)]
        return [name for name in found if name == key] if key else found

    def examples(self, path: Sequence[str], by: str | None, limit: int | None) -> Iterator[Any]:
        """One value after the other of a column of a stream, and the group of its row.

        Not by way of Arrow: there a decoded JPEG would become one again, with a loss.
        """
        source = self._source
        if not self.untyped:
            source = source.select_columns(list(dict.fromkeys((path[0], *([by] if by else [])))))
        at = 0
        examples = iter(source)
        while limit is None or at < limit:
            example = self._next(examples, at)
            if example is None:
                return
            value = example
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            yield value, example.get(by) if by else None
            at += 1

    def _next(self, rows: Iterator[Any], at: int) -> Any:
        try:
            return next(rows, None)
        except Exception as error:  # a generator of the user's, or a network
            raise SourceError(f"{self.name} fails after {at:,} rows: {error}") from error

    def blocks(
        self, columns: Iterable[str], n_rows: int, chosen: Sequence[int] | None = None
    ) -> Iterator[tuple[Sequence[int], Any]]:
        """Numbers of the rows, and a table of them.

        Parameters
        ----------
        columns : iterable of str
        n_rows : int
            At a time.
        chosen : sequence of int, optional
            Only these rows; of a stream so many as there are.
        """
        # What is chosen, shuffled and filtered is honored; transforms and formats are not asked.
        view = self._typed.select_columns(list(columns)).with_format("arrow")
        if self.n_rows is None:
            yield from self._streamed(view, n_rows, None if chosen is None else len(chosen))
            return
        rows: Sequence[int] = range(self.n_rows) if chosen is None else chosen
        for begin in range(0, len(rows), n_rows):
            own = rows[begin : begin + n_rows]
            yield own, view[own.start : own.stop] if isinstance(own, range) else view[list(own)]

    def _streamed(
        self, view: Any, n_rows: int, limit: int | None
    ) -> Iterator[tuple[Sequence[int], Any]]:
        at = 0
        tables = view.iter(batch_size=n_rows if limit is None else min(n_rows, limit))
        while limit is None or at < limit:
            table = self._next(tables, at)
            if table is None:
                return
            part = table if limit is None else table.slice(0, limit - at)
            yield range(at, at + len(part)), part
            at += len(part)


def _is_encoded(value: Any) -> bool:
    if isinstance(value, dict):
        return "bytes" in value and isinstance(value["bytes"], bytes | None)
    return isinstance(value, bytes) and bool(sniff.image_format(value))
