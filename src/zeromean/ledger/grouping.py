"""Profiles by group from the rows of a ledger: any grouping by name, without another look."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from zeromean.accumulation import Partial
from zeromean.ledger.book import Book
from zeromean.partition import GroupedPartial, Grouping
from zeromean.provenance import Provenance
from zeromean.statistics import Extrema
from zeromean.statistics.groups import add_to


def grouped(book: Book, by: Grouping) -> dict[str, Any]:
    """The states of a ledger added up by group, for each kind.

    Parameters
    ----------
    book : Book
        Without sums of several files.
    by : Grouping
        By the names of files.

    Returns
    -------
    dict of str to GroupedPartial
    """
    kinds: dict[str, GroupedPartial] = {}
    for row, part in book.whole_rows():
        if part is None:
            continue
        if row.kind not in kinds:
            kinds[row.kind] = GroupedPartial(_blank(part))
        name = by.name_of(None, row.name)
        record = Provenance(
            items=row.items,
            bytes=row.size,
            digest=int.from_bytes(row.sha256, "big"),
            decoders={row.decoder: 1} if row.decoder else {},
            notes=dict.fromkeys(json.loads(row.notes), 1),
        )
        add_to(kinds[row.kind].parts, name, part)
        add_to(kinds[row.kind].records, name, record)
    return kinds


def _blank(part: Partial) -> Partial:
    """The same of no data."""
    nothing = part - part
    size = part.statistics.n_features
    return replace(nothing, extrema=None if part.extrema is None else Extrema.empty(size))
