"""What was asked of a ledger: a file, the cache, the cache if it can be, or nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zeromean.accumulation import Plan
from zeromean.errors import SourceError
from zeromean.ledger.identity import about, cached
from zeromean.ledger.keeping import Where
from zeromean.sources import ListedSource, Source

#: For the command line: in the user's cache where that is of use, and else not at all.
IF_POSSIBLE = object()
_LEAST = 2  # files of which a ledger is kept that nobody asked for


def wanted(
    wish: Any, given: Any, opened: Sequence[Source], plan: Plan, options: Mapping[str, Any]
) -> Where | None:
    """The ledger of a run, None for none.

    Parameters
    ----------
    wish : path, bool, None or `IF_POSSIBLE`
    given : anything
        The source, as it was given.
    opened : sequence of Source
    plan : Plan
    options : mapping
        How the source is read, as JSON values.

    Raises
    ------
    SourceError
        When a ledger was asked for, and cannot be kept of such a run.
    """
    if wish is None or wish is False:
        return None
    reason = _against(opened, plan, options)
    if wish is IF_POSSIBLE:
        if reason or (opened[0].n_items or 0) < _LEAST:
            return None
    elif reason:
        raise SourceError(f"no ledger can be kept of {reason}")
    of = about(given, _identity(plan, options))
    if wish is True or wish is IF_POSSIBLE:
        return Where(cached(of), of, chosen=False)
    path = Path(os.fspath(wish))
    if path.is_dir():
        raise SourceError(f"the ledger {path} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise SourceError(f"the ledger {path} cannot be made: there is no such folder")
    return Where(path, of, chosen=True)


def _against(opened: Sequence[Source], plan: Plan, options: Mapping[str, Any]) -> str:
    """Of what no ledger can be kept; empty when one can."""
    if len(opened) != 1:
        return "several sources of different kinds; measure them one by one, and merge"
    if not isinstance(opened[0], ListedSource):
        return f"{opened[0].name}: it has no files that could be compared the next time"
    if plan.by is not None and plan.by.function is None:
        return "groups by labels, which belong to no files"
    if plan.covariance:
        return "covariances, whose sums are too large to be kept for each file"
    if getattr(plan, "transform", None) is not None:
        return "what a transform makes: nobody could tell when the function has changed"
    if getattr(plan, "mask", None) is not None:
        return "masked data: nobody could tell when a mask has changed"
    if options.get("limit") is not None:
        return "a quick look (limit=)"
    return ""


def _identity(plan: Plan, options: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the state of a file depends on."""
    return {
        **{name: value for name, value in options.items() if name != "limit"},
        "pattern": str(plan.pattern),
        "sizes": dict(plan.pattern.sizes),
        "quantiles": plan.quantiles,
        "nodata": [repr(value) for value in getattr(plan, "nodata", ())],
    }
