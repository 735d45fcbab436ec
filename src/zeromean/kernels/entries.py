"""Exact sums of sparse entries, and exact weighted sums Σw, Σwx and Σwx².

Everything goes through integers: a float64 is a 53-bit integer times a power of two, so w x has
106 bits and w x² has 159. They are multiplied digit by digit, in digits of 27 bits, and land in
the limbs that `zeromean.kernels.floats` describes. Nothing can over- or underflow.

Names: ``a`` the integer of x, ``b`` that of w, ``k`` and ``l`` their exponents, ``j`` lane.
"""

from __future__ import annotations

import math

import numpy as np

from zeromean.kernels.compiling import inner, jit
from zeromean.kernels.floats import _add, _add_value

#: (exponent of the first limb, limbs) of Σw, Σwx and Σwx²: 2^63 terms of the largest size fit.
WEIGHTS, SUMS, SQUARES = (-1152, 72), (-2272, 139), (-3392, 206)

_DIGIT = 27
_MASK = (1 << _DIGIT) - 1


@jit
def sum_entries(values, columns, sums, squares, low, high, special, grid):
    """Add entries of a sparse matrix to the limbs of their columns; count what is not finite.

    Parameters
    ----------
    values : (entries,) float64
    columns : (entries,) int64
    sums, squares : (lanes, limbs) int64 on the grid, added to
    low, high : (lanes,) floats, lowered and raised
    special : (3, lanes) int64, counts of NaN, +inf and -inf, added to
    grid : FLOAT64_GRID
    """
    for i in range(len(values)):
        v, j = values[i], columns[i]
        if abs(v) < np.inf:
            _add_value(v, j, sums, squares, grid)
            low[j] = min(low[j], v)
            high[j] = max(high[j], v)
        else:
            special[0 if v != v else 1 if v > 0 else 2, j] += 1


@inner
def _integer(v):
    """A finite float as a 53-bit integer and an exponent."""
    mantissa, exponent = math.frexp(v)
    return np.int64(mantissa * 9007199254740992.0), np.int64(exponent) - 53


@inner
def _add_product(x, w, j, sums, squares):
    """Add w x and w x² to lane j, for finite x and w."""
    a, k = _integer(x)
    b, l = _integer(w)  # noqa: E741
    if a == 0 or b == 0:
        return
    sign = 1 if b > 0 else -1
    b = abs(b)
    b0, b1 = b & _MASK, b >> _DIGIT
    below = sign if a > 0 else -sign
    a = abs(a)
    a0, a1 = a & _MASK, a >> _DIGIT
    at = k + l - SUMS[0]
    _add(sums, j, below * (a0 * b0), at)
    _add(sums, j, below * (a0 * b1 + a1 * b0), at + _DIGIT)
    _add(sums, j, below * (a1 * b1), at + 2 * _DIGIT)
    c = a0 * a0  # the square in four digits
    d0, c = c & _MASK, (c >> _DIGIT) + 2 * a0 * a1
    d1, c = c & _MASK, (c >> _DIGIT) + a1 * a1
    d2, d3 = c & _MASK, c >> _DIGIT
    at = 2 * k + l - SQUARES[0]
    _add(squares, j, sign * (d0 * b0), at)
    _add(squares, j, sign * (d0 * b1 + d1 * b0), at + _DIGIT)
    _add(squares, j, sign * (d1 * b1 + d2 * b0), at + 2 * _DIGIT)
    _add(squares, j, sign * (d2 * b1 + d3 * b0), at + 3 * _DIGIT)
    _add(squares, j, sign * (d3 * b1), at + 4 * _DIGIT)


@inner
def _add_weight(w, j, weights, sign):
    """Add or subtract w."""
    b, l = _integer(w)  # noqa: E741
    if b != 0:
        _add(weights, j, sign * b, l - WEIGHTS[0])


@jit
def weigh_rows(x, w, weights, sums, squares):
    """Add Σw, Σwx and Σwx² of every column, leaving NaN out.

    Parameters
    ----------
    x : (rows, lanes) float64 without infinities
    w : (rows,) float64, finite
    weights, sums, squares : (lanes, limbs) int64 on WEIGHTS, SUMS and SQUARES, added to
    """
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            if x[r, j] == x[r, j]:
                _add_weight(w[r], j, weights, 1)
                _add_product(x[r, j], w[r], j, sums, squares)


@jit
def weigh_entries(values, rows, columns, w, weights, sums, squares):
    """The same for entries of a sparse matrix whose other values are zero.

    Parameters
    ----------
    values : (entries,) float64 without infinities
    rows, columns : (entries,) int64
    w, weights, sums, squares : as for `weigh_rows`
    """
    for r in range(len(w)):
        for j in range(len(weights)):
            _add_weight(w[r], j, weights, 1)
    for i in range(len(values)):
        if values[i] == values[i]:
            _add_product(values[i], w[rows[i]], columns[i], sums, squares)
        else:
            _add_weight(w[rows[i]], columns[i], weights, -1)
