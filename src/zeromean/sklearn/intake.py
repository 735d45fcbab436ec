"""What estimators take: plain float arrays quickly, everything else as scikit-learn checks it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    validate_data,
)

FLOATS = (np.float64, np.float32, np.float16)
_PLAIN = (np.ndarray, np.memmap)
_PARALLEL = 1 << 20  # values above which more threads help


def fitting(estimator: Any, X: Any, *, reset: bool, formats: Any = False) -> tuple[Any, bool]:
    """Data to fit, and whether it is known to hold no infinities.

    A plain float array is not read: the exact sums find out about infinities on their way. For
    1 000 rows scikit-learn's own check takes longer than that.

    Parameters
    ----------
    estimator : estimator
    X : array-like or sparse matrix
    reset : bool
        Whether this is the first batch, which sets the number and names of the features.
    formats : tuple of str or False
        Sparse formats that are taken as they are.

    Returns
    -------
    tuple of (ndarray or sparse matrix, bool)
    """
    if is_plain(X) and (reset or _expected(estimator, X)):
        if reset:
            estimator.n_features_in_ = X.shape[1]
            estimator.__dict__.pop("feature_names_in_", None)
        return X, bool(get_config()["assume_finite"])
    checked = validate_data(
        estimator,
        X,
        accept_sparse=formats,
        dtype=FLOATS,
        ensure_all_finite="allow-nan",
        reset=reset,
    )
    return checked, True


def applying(
    estimator: Any, X: Any, *, copy: bool, formats: Any = False, back: bool = False
) -> tuple[Any, bool]:
    """Data to transform (or to transform back), and whether it is known to hold no infinities.

    What is not the caller's own plain array was copied by the check where `copy` asks for it.
    """
    if is_plain(X) and _expected(estimator, X) and (copy or X.flags.writeable):
        return X, bool(get_config()["assume_finite"])
    checks = {
        "accept_sparse": formats,
        "copy": copy,
        "dtype": FLOATS,
        "force_writeable": True,
        "ensure_all_finite": "allow-nan",
    }
    if back:  # as scikit-learn, without a look at names
        return check_array(X, **checks), True
    return validate_data(estimator, X, reset=False, **checks), True


def is_plain(X: Any) -> bool:
    """Whether this is a full two-dimensional float32 or float64 array in one run of memory."""
    return (
        type(X) in _PLAIN
        and X.ndim == 2
        and X.dtype.char in "fd"
        and X.dtype.isnative
        and X.size > 0
        and (X.flags.c_contiguous or X.flags.f_contiguous)
    )


def is_elsewhere(X: Any) -> bool:
    """Whether scikit-learn is told to leave arrays of other libraries where they are."""
    return (
        type(X) not in _PLAIN
        and hasattr(X, "__dlpack__")
        and not isinstance(X, np.ndarray)
        and bool(get_config()["array_api_dispatch"])
    )


def _expected(estimator: Any, X: Any) -> bool:
    """Whether the array has the features of those before it, and none of them had names."""
    fields = vars(estimator)
    return fields.get("n_features_in_") == X.shape[1] and "feature_names_in_" not in fields


def refuse_infinities(estimator: Any, X: Any) -> None:
    """Raise scikit-learn's own error for infinities.

    Raises
    ------
    ValueError
    """
    name = type(estimator).__name__
    with np.errstate(all="ignore"):  # it begins with a sum
        assert_all_finite(X, allow_nan=True, estimator_name=name, input_name="X")


def workers_for(size: int) -> int:
    """Threads for so many values."""
    if size < _PARALLEL:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def coordinates(X: Any) -> tuple[Any, Any, Any]:
    """Values, rows and columns of the stored entries of a CSR or CSC matrix, each place once."""
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    lines = np.repeat(np.arange(len(X.indptr) - 1), np.diff(X.indptr))
    inner = X.indices.astype(np.int64)
    rows, columns = (lines, inner) if X.format == "csr" else (inner, lines)
    return X.data, rows, columns


def is_sparse(X: Any) -> bool:
    """Whether this is a SciPy sparse matrix or array."""
    return bool(sparse.issparse(X))
