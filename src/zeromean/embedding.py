"""Our whole document inside a foreign file, so that what we exported comes back to the last bit.

Foreign formats hold a mean and a std, rounded in their own units, and nothing else. An exporter
may put `embedded(norm)` beside these plain numbers: under `KEY` in a JSON file, as the member
`MEMBER` of a zip archive such as `.keras`, as the attribute `ATTRIBUTE` of a fitted object. An
importer hands it to `restored` together with the plain numbers that it read. Whoever edited these
meant it: where they no longer say the same, the plain numbers win, with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean import normalizer_file
from zeromean.errors import FormatError, warn
from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]

KEY = "zeromean"
MEMBER = "zeromean.json"
ATTRIBUTE = "zeromean_"
_ROUNDINGS = 8  # of the plain numbers, on their way into the foreign file and back


def embedded(norm: Normalizer) -> dict[str, Any]:
    """The document of a normalizer, as `norm.save` writes it, to go into a foreign file.

    Parameters
    ----------
    norm : Normalizer

    Returns
    -------
    dict
        Plain JSON values.

    Raises
    ------
    FormatError
        When it holds more numbers than JSON should.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> norm = zm.standardize(zm.measure(np.array([[0.0], [10.0]])))
    >>> restored(embedded(norm), shift=[5.0], scale=[5.0]) == norm
    True
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     print(restored(embedded(norm), shift=[5.1], scale=[5.0]))
    None
    >>> print(caught[0].message)
    the mean and std beside the field 'zeromean' were edited since it was written; they are taken...
    """
    return normalizer_file.to_document(norm, tensors=False)[0]


def restored(
    document: Any,
    shift: Any,
    scale: Any,
    *,
    offset: Any = 0.0,
    matrix: Any = None,
    channels: str = "",
    precision: str = "float64",
) -> Normalizer | None:
    """The normalizer in a foreign file, if the plain numbers beside it still say the same.

    Parameters
    ----------
    document : mapping
        What `embedded` gave.
    shift, scale, offset, matrix : array_like of float
        The plain numbers, brought to raw units: y = (x - shift) / scale + offset, or
        y = (x - shift) matrixᵀ + offset.
    channels : str
        The channel order of the plain numbers, such as "RGB"; the document may have another one.
    precision : {"float64", "float32"}
        What the foreign file keeps its plain numbers in.

    Returns
    -------
    Normalizer or None
        None, with a `ZeromeanWarning`, when they differ or the document is damaged.
    """
    try:
        if not isinstance(document, Mapping):
            raise FormatError("is not an object")
        norm = Normalizer.from_document(document, {})
    except FormatError as error:
        warn(f"the field {KEY!r} {error}; the plain numbers are taken without it")
        return None
    unit = _ROUNDINGS * float(np.finfo(precision).eps)
    same = _agree(norm, shift, scale, offset, matrix, _order(norm, channels), unit)
    if not same:
        warn(
            f"the mean and std beside the field {KEY!r} were edited since it was written; they are "
            "taken, and recipe and provenance are lost"
        )
    return norm if same else None


def _order(norm: Normalizer, channels: str) -> list[int] | None:
    """Where each channel of the plain numbers stands in the normalizer, if they can be matched."""
    own = norm.units.channels
    if not own or not channels or own == channels or sorted(own) != sorted(channels):
        return None
    return [own.index(name) for name in channels]


def _agree(
    norm: Normalizer,
    shift: Any,
    scale: Any,
    offset: Any,
    matrix: Any,
    order: list[int] | None,
    unit: float,
) -> bool:
    """Whether both are one map but for a few roundings, wherever they put its constant part."""
    if (norm.matrix is None) != (matrix is None):
        return False
    first = _map(norm.shift, norm.scale, norm.offset, norm.matrix, order)
    second = _map(shift, scale, offset, matrix, None)
    if len({part.ndim for part in (first[0], second[0])}) > 1:
        return False
    linear = (first[0], second[0], np.abs(first[0]))
    constant = (first[1], second[1], first[2])
    return _near(*linear, unit) and _near(*constant, unit)


def _map(
    shift: Any, scale: Any, offset: Any, matrix: Any, order: list[int] | None
) -> tuple[_Floats, _Floats, _Floats]:
    """Of y = a (x - b): a, b, and how large the parts of b are. With a matrix, y = A x + b."""
    shift, scale, offset = (np.ravel(np.asarray(v, np.float64)) for v in (shift, scale, offset))
    if matrix is not None:
        matrix = np.asarray(matrix, np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != shift.size:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        if order is not None and len(order) == shift.size:
            matrix, shift = matrix[:, order], shift[order]
        return matrix, offset - matrix @ shift, np.abs(matrix) @ np.abs(shift) + np.abs(offset)
    moved = scale * offset
    if order is not None and len(order) == shift.size:
        shift, scale, moved = shift[order], scale[order], np.resize(moved, shift.size)[order]
    return scale, shift - moved, np.abs(shift) + np.abs(moved)


def _near(first: _Floats, second: _Floats, size: _Floats, unit: float) -> bool:
    """Equal within `unit` of the given sizes; one number may stand for all features."""
    if first.size == 0 or second.size == 0:
        return False
    if first.shape != second.shape and 1 not in (first.size, second.size):
        return False
    return bool((np.abs(first - second) <= unit * size).all())
