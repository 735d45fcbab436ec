"""y = (x - shift) / scale + offset on columns, dense or sparse, and back; rounded once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean import affine
from zeromean.sklearn.intake import refuse_infinities, workers_for

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_Numbers = tuple[Any, Any, Any]  # shift, scale, offset: one per column, or one for all
_WORDS: dict[str, Any] = {"f": np.uint32, "d": np.uint64}


def apply(
    estimator: Any, X: _Array, numbers: _Numbers, *, back: bool, copy: bool, known_finite: bool
) -> _Array:
    """Map columns, or map them back; the result has the dtype and memory order of the data.

    Parameters
    ----------
    estimator : estimator
        Named in errors.
    X : ndarray of floats, (n_samples, n_features)
    numbers : tuple of shift, scale and offset
    back : bool
    copy : bool
        False to write into `X` itself.
    known_finite : bool
        False to look for infinities first.

    Raises
    ------
    ValueError
        For infinities; `X` is as it was.
    """
    rows: _Numbers = tuple(_row(v, X.shape[1]) for v in numbers)  # type: ignore[assignment]
    mapped = affine.backward if back else affine.forward
    if known_finite or not copy or not X.flags.c_contiguous:
        if not known_finite and holds_infinities(X):
            refuse_infinities(estimator, X)
        out = np.empty_like(X, subok=False) if copy else X
        mapped(X, *rows, out)
        return out
    out = np.empty_like(X, subok=False)
    try:
        mapped(X, *rows, out, look=_refuse)
    except _InfiniteError:
        refuse_infinities(estimator, X)
    return out


class _InfiniteError(ValueError):
    """There is an infinity in the data."""


def _refuse(part: _Array) -> None:
    if _holds_infinities(part):
        raise _InfiniteError


def _row(values: _Floats | float, n_features: int) -> _Floats:
    return values[None] if isinstance(values, np.ndarray) else np.full((1, n_features), values)


def scale_sparse(X: Any, scale: _Floats, *, back: bool) -> Any:
    """Divide (or multiply) the columns of a CSR or CSC matrix, in place; rounded once."""
    values = scale[X.indices] if X.format == "csr" else np.repeat(scale, np.diff(X.indptr))
    with np.errstate(over="ignore"):
        data = X.data.astype(np.float64)
        X.data[:] = data * values if back else data / values
    return X


def holds_infinities(X: _Array) -> bool:
    """Whether a float32 or float64 array in one run of memory holds an infinity."""
    flat = X.reshape(-1, order="A")
    workers = workers_for(flat.size)
    if workers == 1:
        return _holds_infinities(flat)
    with ThreadPoolExecutor(workers) as pool:
        return any(pool.map(_holds_infinities, np.array_split(flat, workers)))


def _holds_infinities(X: _Array) -> bool:
    from zeromean.kernels.ends import any_infinite

    words = X.reshape(-1).view(_WORDS[X.dtype.char])
    words.flags.writeable = False
    return bool(any_infinite(words, np.array(np.inf, X.dtype).view(words.dtype)[()]))
