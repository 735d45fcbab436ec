"""`Extremes`: what estimators of minimum and maximum keep; adds, and cannot subtract."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt

from zeromean.documents import Tensors, field
from zeromean.errors import FormatError, MergeError
from zeromean.sklearn.intake import coordinates, is_sparse, workers_for
from zeromean.sklearn.sums import InfiniteValueError
from zeromean.statistics.formats import read_only

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_MAX_ROWS = 1 << 62


class Extremes:
    """Smallest and largest value of each column, NaN left out, and how many rows there were.

    Attributes
    ----------
    n_features : int
    rows : int
    low, high : ndarray of float64, (n_features,)
        +inf and -inf where there is no value.
    cache : dict
        Read-outs; emptied by `add`.
    """

    def __init__(self, n_features: int) -> None:
        self.n_features, self.rows = n_features, 0
        self.low, self.high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        self.cache: dict[Any, Any] = {}

    def add(self, X: Any, *, known_finite: bool = True) -> None:
        """Add a batch.

        Parameters
        ----------
        X : ndarray of floats or sparse matrix, (n_samples, n_features)
        known_finite : bool

        Raises
        ------
        InfiniteValueError
            When infinities turn up that were not known of.
        """
        low, high = _sparse_ends(X) if is_sparse(X) else _dense_ends(X)
        if not known_finite and ((low == -np.inf).any() or (high == np.inf).any()):
            raise InfiniteValueError
        self.cache.clear()
        self.rows += X.shape[0]
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    @property
    def ends(self) -> tuple[_Floats, _Floats]:
        """Smallest and largest value, NaN where there is none; -0.0 is 0.0."""
        none = self.low > self.high
        return np.where(none, np.nan, self.low) + 0.0, np.where(none, np.nan, self.high) + 0.0

    def plus(self, other: Self) -> Self:
        """Both data sets together."""
        both = type(self)(self.n_features)
        both.rows = self.rows + other.rows
        both.low, both.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return both

    def minus(self, other: Self) -> NoReturn:
        """Not lawful.

        Raises
        ------
        MergeError
        """
        raise MergeError(
            "a minimum and a maximum do not tell what they would be without some of the data: "
            "fit again on what is left"
        )

    def copy(self) -> Self:
        """The same, not changed by further batches."""
        return self.plus(type(self)(self.n_features))

    def to_fields(self, names: tuple[str, ...], *, tensors: bool) -> tuple[dict[str, Any], Tensors]:
        """Both ends in hex, null where there is none."""
        low, high = ([None if v != v else v.hex() for v in end.tolist()] for end in self.ends)
        state = {"rows": format(self.rows, "x"), "low": low, "high": high}
        return {"feature_names": list(names), "statistics": state}, {}

    @classmethod
    def from_fields(cls, document: Mapping[str, Any], arrays: Tensors, n_features: int) -> Self:
        """From those fields, every one checked.

        Raises
        ------
        FormatError
        """
        from zeromean.documents import from_hex

        state = field(document, "statistics", dict)
        made = cls(n_features)
        made.rows = from_hex(field(state, "rows", str), "rows")
        low, high = (floats(state, name, n_features) for name in ("low", "high"))
        if made.rows >= _MAX_ROWS or (np.isnan(low) != np.isnan(high)).any() or (low > high).any():
            raise FormatError("fields 'rows', 'low' and 'high' contradict each other")
        made.low = np.where(np.isnan(low), np.inf, low)
        made.high = np.where(np.isnan(high), -np.inf, high)
        return made


def floats(state: Mapping[str, Any], name: str, length: int) -> _Floats:
    """A list of floats in hex, NaN for null.

    Raises
    ------
    FormatError
    """
    values = field(state, name, list)
    if len(values) != length:
        raise FormatError(f"field {name!r} must have {length} entries")
    return np.array([_float(value, name) for value in values])


def _float(value: Any, name: str) -> float:
    if value is None:
        return np.nan
    try:
        number = float.fromhex(value)
    except (ValueError, TypeError, OverflowError):
        raise FormatError(f"field {name!r} holds {value!r:.40}") from None
    if not np.isfinite(number) or number.hex() != value:
        raise FormatError(f"field {name!r} holds {value!r:.40}")
    return number


def _dense_ends(X: _Array) -> tuple[_Array, _Array]:
    from zeromean.kernels.ends import find_ends

    X = X.astype(np.float32) if X.dtype == np.float16 else X
    if not X.flags.c_contiguous and len(X) >= 1 << 12:  # long columns: NumPy reads them as fast
        return np.fmin.reduce(X, axis=0, initial=np.inf), np.fmax.reduce(X, axis=0, initial=-np.inf)
    rows = read_only(np.ascontiguousarray(X))
    workers = workers_for(rows.size)
    step = -(-len(rows) // workers)
    low = np.full((workers, X.shape[1]), np.inf, X.dtype)
    high = np.full((workers, X.shape[1]), -np.inf, X.dtype)

    def work(i: int) -> None:
        find_ends(rows[i * step : (i + 1) * step], low[i], high[i])

    if workers == 1:
        work(0)
        return low[0], high[0]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return low.min(axis=0), high.max(axis=0)


def _sparse_ends(X: Any) -> tuple[_Floats, _Floats]:
    """Extremes of a sparse matrix: zeros count where not every place is stored."""
    values, _, columns = coordinates(X)
    low, high = np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf)
    np.fmin.at(low, columns, values)
    np.fmax.at(high, columns, values)
    zeros = np.bincount(columns, minlength=X.shape[1]) < X.shape[0]
    return np.where(zeros, np.fmin(low, 0), low), np.where(zeros, np.fmax(high, 0), high)
