"""A column of a table by itself: the values of one feature, or one sample of all features."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.frames import Framed, New
from zeromean.sources.columns import few

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]


def own_feature(norm: Normalizer, name: str) -> int | None:
    """The feature whose numbers a column by itself gets.

    Parameters
    ----------
    norm : Normalizer
    name : str
        Of the column.

    Returns
    -------
    int or None
        None when neither its name says so, nor that there is but one feature.
    """
    if norm.shift.size == 1:
        return 0
    return norm.feature_names.index(name) if name in norm.feature_names else None


def is_feature(norm: Normalizer, frame: Framed) -> bool:
    """Whether a column holds values of one feature; if not, it is one sample.

    Parameters
    ----------
    norm : Normalizer
    frame : Framed
        A single column.

    Returns
    -------
    bool

    Raises
    ------
    PatternError
        For a column without numbers; one that may as well be a sample; and one of the features
        that a matrix mixes.
    """
    field, size = frame.fields[0], norm.shift.size
    if not field.dtype:
        raise PatternError(f"the column holds {field.type} and no numbers")
    if own_feature(norm, field.name) is None:
        return False
    if size > 1 and norm.matrix is not None:
        raise PatternError(
            f"whitening mixes all {size} features, so the column {field.name!r} alone does not do; "
            "give the whole frame"
        )
    if size > 1 and _order(norm, frame) is not None:
        raise PatternError(
            f"the column {field.name!r} is named as a feature, and so are its rows; give "
            "x.to_frame() for a column, or x.to_frame().T for a row"
        )
    return True


def one_sample(norm: Normalizer, frame: Framed, change: Callable[[_Array], _Array]) -> Any:
    """Change a column that holds a value for each feature.

    Parameters
    ----------
    norm : Normalizer
    frame : Framed
        A single column; matched by the labels of its rows if these are the names of the features,
        by place otherwise.
    change : callable
        From the values of one sample, in the order of the features, to others.

    Returns
    -------
    column
        Of the same kind.

    Raises
    ------
    PatternError
        When there are not as many values as features, before or after.
    """
    name, size = frame.fields[0].name, norm.shift.size
    if norm.matrix is not None and len(norm.matrix) != size:
        raise PatternError(
            f"whitening to {len(norm.matrix)} of {size} features gives another index; give the "
            "column as an array"
        )
    if frame.length != size:
        named = f", or is named as one of {few(norm.feature_names)}" if norm.feature_names else ""
        raise PatternError(
            f"the column {name!r} of {frame.length} values does not fit a normalizer of {size} "
            f"features; give one that has a value for each{named}"
        )
    values, missing = frame.column(0)
    if missing is not None and norm.matrix is not None:
        values, missing = np.where(missing, np.nan, values), None
    elif missing is not None:
        values = np.where(missing, values.dtype.type(0), values)
    order = _order(norm, frame)
    if order is None:
        return frame.rebuilt([New(name, change(values), missing, 0)])
    result = change(values[order])
    out = np.empty_like(result)
    out[order] = result
    return frame.rebuilt([New(name, out, missing, 0)])


def _order(norm: Normalizer, frame: Framed) -> list[int] | None:
    """Where the value of each feature stands, if the labels of the rows are their names."""
    if frame.length != norm.shift.size or not norm.feature_names:
        return None
    places = {label: i for i, label in enumerate(frame.labels())}
    return (
        [places[n] for n in norm.feature_names] if set(places) == set(norm.feature_names) else None
    )
