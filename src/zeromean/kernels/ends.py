"""Smallest and largest values of columns, and whether there are infinities; NaN is left out.

Names: ``x`` values, ``r`` row, ``j`` column, ``t0`` first column of a tile.
"""

from __future__ import annotations

from zeromean.kernels.compiling import jit, larger, smaller

_TILE = 2048  # columns whose extrema stay in the first-level cache


@jit
def find_ends(x, low, high):
    """Lower `low` and raise `high` by every column of `x`.

    Parameters
    ----------
    x : (rows, columns) float32 or float64, C order
    low, high : (columns,) of the same dtype
    """
    rows, columns = x.shape
    zero = low.dtype.type(0)
    for t0 in range(0, columns, _TILE):
        width = min(_TILE, columns - t0)
        least, most = low[t0 : t0 + width], high[t0 : t0 + width]
        whole = rows & ~3
        for r in range(0, whole, 4):
            x0, x1 = x[r, t0 : t0 + width], x[r + 1, t0 : t0 + width]
            x2, x3 = x[r + 2, t0 : t0 + width], x[r + 3, t0 : t0 + width]
            for j in range(width):
                a = smaller(x0[j], smaller(x1[j], smaller(x2[j], smaller(x3[j], least[j]))))
                b = larger(x0[j], larger(x1[j], larger(x2[j], larger(x3[j], most[j]))))
                least[j] = a + zero
                most[j] = b + zero
        for r in range(whole, rows):
            row = x[r, t0 : t0 + width]
            for j in range(width):
                least[j] = smaller(row[j], least[j]) + zero
                most[j] = larger(row[j], most[j]) + zero


@jit
def any_infinite(words, infinity):
    """Whether a flat array, seen as unsigned integers, holds an infinity of either sign.

    Parameters
    ----------
    words : (n,) uint32 or uint64
    infinity : of the same dtype
        The bits of +inf.
    """
    one = words.dtype.type(1)
    no_sign = ~(one << words.dtype.type(8 * words.itemsize - 1))
    least = no_sign  # of what is left of infinity's bits: 0 where there is one
    for i in range(len(words)):
        least = min(least, (words[i] & no_sign) ^ infinity)
    return least == 0
