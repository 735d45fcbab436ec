"""Blocks of arrays in files that hold pictures, of which each may have a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.pattern import Pattern
from zeromean.sources import Item
from zeromean.sources.block_sources import FileBlocks
from zeromean.sources.blocks import Piece

_LEAKS = ("test", "t10k", "val")


@dataclass(frozen=True, slots=True)
class LabeledPiece(Piece):
    """A block of pictures; picklable.

    Attributes
    ----------
    kind : str
        As `zeromean.sources.Item.kind`.
    labels : ndarray, optional
        One for each entry of the first axis.
    """

    kind: str = ""
    labels: Any = None

    def item(self) -> Item:
        """Read it."""
        item = Piece.item(self)
        if item.array is None:
            return item
        return replace(item, kind=self.kind, group=self.labels)


class LabeledBlocks(FileBlocks):
    """Arrays in files, measured by label if that is wanted.

    Parameters
    ----------
    arrays, pattern, name, limit
        As for `zeromean.sources.block_sources.Blocks`. An array has ``labels(column)``.
    kind : str
        Of the pictures, as `zeromean.sources.Item.kind`; empty for arrays.
    left_out : mapping of str to int
        What was passed over, as in `zeromean.provenance.Provenance`.
    warnings : sequence of str
        What is probably not meant.
    """

    def __init__(
        self,
        arrays: Sequence[Any],
        pattern: Pattern | None,
        name: str,
        limit: int | None = None,
        *,
        kind: str = "",
        left_out: Mapping[str, int] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__(arrays, pattern, name, limit)
        self.kind = kind
        self._left_out, self._said = dict(left_out or {}), tuple(warnings)
        self._labels: dict[str, npt.NDArray[Any]] = {}

    def group_by(self, column: str) -> None:
        """Let each picture carry its label.

        Parameters
        ----------
        column : str
            "class", or another kind of label that the files have.

        Raises
        ------
        PatternError, SourceError
            When there are no such labels.
        """
        self._labels = {array.name: array.labels(column) for array in self._arrays}
        for array in self._arrays:
            n, own = array.layout.shape[0], len(self._labels[array.name])
            if n != own:
                raise PatternError(f"{array.name} holds {n} pictures and has {own} labels")
        self.cut_rows_only()

    def _piece(self, i: int) -> tuple[Piece, int]:
        piece, size = super()._piece(i)
        if i >= self._places[-1]:
            return piece, size
        labels = None
        array, (box, rows) = self._place(i)
        if self._labels:
            labels = self._labels[array.name][box[0][0] : box[0][1]]
            labels = labels if rows is None else labels[list(rows)]
        held = {field.name: getattr(piece, field.name) for field in fields(piece)}
        return LabeledPiece(**held, kind=self.kind, labels=labels), size

    def complete(self, record: Any) -> Any:
        """With what was passed over."""
        record = super().complete(record)
        return replace(record, left_out=self._left_out, warnings=(*record.warnings, *self._said))


def leaks_among(names: Sequence[str], folder: str) -> list[str]:
    """Warnings about files of a folder that hold data for validation or test.

    Parameters
    ----------
    names : sequence of str
    folder : str
    """
    leaking = [
        name for name in names if any(leak in name.rpartition("/")[2].lower() for leak in _LEAKS)
    ]
    if len(leaking) == len(names):
        return []  # the folder is for that
    return [
        f"{name} is inside the measured folder {folder}; "
        "statistics should come from training data only"
        for name in leaking
    ]


def called(labels: npt.NDArray[Any], names: Sequence[str]) -> npt.NDArray[Any]:
    """Labels by their names, where there is one for each.

    Parameters
    ----------
    labels : ndarray of int
    names : sequence of str
    """
    if len(names) <= int(labels.max(initial=0)):
        return labels.astype(np.int64)
    named: npt.NDArray[Any] = np.array(names, dtype=object)[labels]
    return named
