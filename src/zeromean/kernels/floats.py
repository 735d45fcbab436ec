"""Exact Σx and Σx² of float32 and float64 at nearly the speed of plain additions.

If every summand is a multiple of 2^k and every partial sum stays below 2^(k+53), float64
additions make no error at all. So the sums run through *windows*: for one block of at most
128 rows and one lane (a column, or a fold of a column), a window with top exponent ``e``
and width ``W`` takes the values with 2^(e-W) <= |x| < 2^(e+1). Inside a window

* float32: x is a multiple of 2^(e-W-23), so with W = 22 a plain sum of 128 of them is exact;
* squares are cut on a power-of-two grid: an accumulator that starts at 2^(52+g) can hold
  nothing finer than 2^g, so ``new = fma(x, x, old)`` rounds the square to the grid,
  ``old - new`` is what was added, and ``fma(x, x, old - new)`` is the rest; all exact;
* float64: x itself is cut in the same way, and x*x is first split into its rounded product
  and that product's error, ``fma(x, x, -p)``; both are cut. W = 19.

This is the error-free extraction of Rump, Ogita and Oishi, *Accurate Floating-Point
Summation Part I*, SIAM J. Sci. Comput. 31(1), 2008; the binned sums of Demmel and Nguyen,
*Parallel Reproducible Summation*, IEEE Trans. Comput. 64(7), 2015, are its cousin that
keeps only the highest bins. Here nothing is dropped: what falls outside its window goes
through further windows, or through integers, and every path ends in *limbs*, int64 digits
of weight 2^32 on one fixed exponent grid, where addition is integer addition. The limbs
therefore depend on the values alone: not on order, blocks, threads or instruction set.

Names: ``x`` values, ``j`` lane, ``r`` row, ``e`` top exponent of a window, ``part`` the
float64 sums of a block, ``start`` what they start from, ``whole`` the same as integers.
"""

from __future__ import annotations

import math

import numpy as np

from zeromean.kernels.compiling import bits_of, float_of, fma, inner, jit, larger, prefetch, smaller

#: (exponent of the first limb of Σx, limbs of Σx, the same two for Σx²): wide enough for
#: 2^63 values of the format's largest magnitude and for the finest grid of any window.
FLOAT32_GRID = (-224, 16, -448, 27)
FLOAT64_GRID = (-1152, 72, -2304, 142)

ROWS = 128

# Bytes by which memory is asked for before it is needed, a line of 64 bytes at a time: several
# rows are read side by side, which the processor does not take for a stream. (These loops stand
# in the blocks because as a function they cost a quarter of the speed.)
_AHEAD = 4096
_TILE = 512  # lanes handled together: their sums stay in the first-level cache
_ROUNDS = 512  # blocks of sums below 2^53 that an int64 can hold
_LOWEST, _HIGHEST = -430, 500  # window tops for which no square or error under- or overflows

# The parts of a block, as (multiple of e, offset) of the exponent of their unit. First
# float32's: Σx, Σx² on its grid, the rest. Then the general ones: Σx on a grid, its rest,
# the rounded squares on a grid, their rest, the errors of the squares on a grid, their rest.
_WIDTH32, _UNITS32 = 22, ((1, -45), (2, -43), (2, -90))
_WIDTH64, _UNITS64 = 19, ((1, -43), (1, -71), (2, -43), (2, -90), (2, -96), (2, -142))
UNITS32, UNITS64 = np.array(_UNITS32), np.array(_UNITS64)
_NO_SIGN, _ONE = np.uint32(0x7FFFFFFF), np.uint32(1)

# A running extremum is stored plus zero: without that the compiler stores only the lanes that
# changed, and the next read of such a masked store waits until it has left the store buffer.
_ZERO32 = np.float32(0.0)


@jit
def carry(limbs):
    """Bring all limbs but the last into 0..2^32-1; the number stays the same."""
    for j in range(limbs.shape[0]):
        for i in range(limbs.shape[1] - 1):
            limbs[j, i + 1] += limbs[j, i] >> 32
            limbs[j, i] &= 0xFFFFFFFF


@inner
def _add(limbs, j, m, k):
    """Add m * 2^k to lane j, for |m| < 2^62 and k >= 0 counted from the first limb."""
    i = k >> 5
    shift = k & 31
    low = np.uint64(m & 0xFFFFFFFF) << np.uint64(shift)
    high = (m >> 32) << shift
    limbs[j, i] += np.int64(low & np.uint64(0xFFFFFFFF))
    limbs[j, i + 1] += np.int64(low >> np.uint64(32)) + (high & 0xFFFFFFFF)
    limbs[j, i + 2] += high >> 32


@inner
def _add_value(x, j, sums, squares, grid):
    """Add one finite float64 and its square to lane j, by integers."""
    mantissa, exponent = math.frexp(x)
    m = np.int64(mantissa * 9007199254740992.0)
    k = np.int64(exponent) - 53
    if m == 0:
        return
    if m & 0x1FFFFFFF == 0:  # a float32 in float64's clothes: stay on its coarser grid
        m >>= 29
        k += 29
    _add(sums, j, m, k - grid[0])
    m = abs(m)
    high, low = m >> 27, m & 0x7FFFFFF
    _add(squares, j, low * low, 2 * k - grid[2])
    if high:
        _add(squares, j, 2 * high * low, 2 * k + 27 - grid[2])
        _add(squares, j, high * high, 2 * k + 54 - grid[2])


@inner
def _power(k):
    """2.0**k for -1022 <= k <= 1023."""
    return float_of(np.uint64(k + 1023) << np.uint64(52))


@inner
def _exponent(a):
    """floor(log2(a)) for finite a > 0, and a very low number for a <= 0."""
    if a <= 0.0:
        return np.int64(-2000)
    return np.int64(math.frexp(np.float64(a))[1]) - 1


@inner
def _scan(x, r0, r1, t0, width, low, high, tiny, odd):
    """Finite extrema and smallest non-zero magnitude of each lane; NaN in `odd` if not finite."""
    zero, infinity = low.dtype.type(0), low.dtype.type(np.inf)
    for j in range(width):
        low[j] = infinity
        high[j] = -infinity
        tiny[j] = infinity
        odd[j] = zero
    for r in range(r0, r1):
        row = x[r, t0 : t0 + width]
        for j in range(width):
            v, a = row[j], abs(row[j])
            odd[j] += v - v
            low[j] = smaller(v if a < infinity else infinity, low[j]) + zero
            high[j] = larger(v if a < infinity else -infinity, high[j]) + zero
            tiny[j] = smaller(a if a > zero else infinity, tiny[j]) + zero


@inner
def _count_special(x, r0, r1, t0, width, odd, special):
    """Count NaN, +inf and -inf of the lanes that are odd."""
    n_odd = 0
    for j in range(width):
        n_odd += odd[j] != 0
    if n_odd == 0:
        return
    nan, above = special[0, t0 : t0 + width], special[1, t0 : t0 + width]
    below = special[2, t0 : t0 + width]
    infinity = x.dtype.type(np.inf)
    for r in range(r0, r1):
        row = x[r, t0 : t0 + width]
        for j in range(width):
            nan[j] += (row[j] != row[j]) & (odd[j] != 0)
            above[j] += (row[j] == infinity) & (odd[j] != 0)
            below[j] += (row[j] == -infinity) & (odd[j] != 0)


@inner
def _flush(j, lane, e, units, whole, sums, squares, grid):
    """Move a lane's integer sums, kept on the units of window e, to the limbs."""
    for i in range(len(units)):
        unit = units[i, 0] * e + units[i, 1]
        if units[i, 0] == 1:
            _add(sums, lane, whole[i, j], unit - grid[0])
        else:
            _add(squares, lane, whole[i, j], unit - grid[2])
        whole[i, j] = 0


@inner
def _open(j, k, units, e, top, start, scale):
    """Give lane j the window with top exponent k."""
    e[j] = k
    top[j] = _power(k + 1)
    for i in range(len(units)):
        scale[i, j] = _power(-(units[i, 0] * k + units[i, 1]))
        start[i, j] = 0.0
    if len(units) == 3:
        start[1, j] = _power(2 * k + 9)
    else:
        start[0, j] = 1.5 * _power(k + 9)
        start[2, j] = _power(2 * k + 9)
        start[4, j] = 1.5 * _power(2 * k - 44)


@inner
def _settle(width, bad, part, start, scale, whole):
    """Take the sums of the lanes that are not bad as integers."""
    for i in range(len(part)):
        sums, origin, factor, total = part[i], start[i], scale[i], whole[i]
        for j in range(width):
            total[j] += 0 if bad[j] else np.int64((sums[j] - origin[j]) * factor[j])


@inner
def _masked32(x, r0, r1, t0, width, floor, top, part):
    """float32's parts of one block, of the values with floor <= |x| < top."""
    s, h, rest = part[0], part[1], part[2]
    for r in range(r0, r1):
        row = x[r, t0 : t0 + width]
        for j in range(width):
            v = np.float64(row[j])
            v = v if (abs(v) >= floor[j]) & (abs(v) < top[j]) else 0.0
            s[j] += v
            new = fma(v, v, h[j])
            rest[j] += fma(v, v, h[j] - new)
            h[j] = new


@inner
def _masked64(x, r0, r1, t0, width, floor, top, part):
    """float64's parts of one block, of the values with floor <= |x| < top."""
    s, s_rest, p, p_rest, q, q_rest = part[0], part[1], part[2], part[3], part[4], part[5]
    for r in range(r0, r1):
        row = x[r, t0 : t0 + width]
        for j in range(width):
            v = np.float64(row[j])
            v = v if (abs(v) >= floor[j]) & (abs(v) < top[j]) else 0.0
            new = s[j] + v
            s_rest[j] += v - (new - s[j])
            s[j] = new
            square = v * v
            new = p[j] + square
            p_rest[j] += square - (new - p[j])
            p[j] = new
            error = fma(v, v, -square)
            new = q[j] + error
            q_rest[j] += error - (new - q[j])
            q[j] = new


@inner
def _wide(x, r0, r1, t0, width, todo, low, high, tiny, sums, squares, grid, units):
    """Add the lanes in `todo` of one block, window below window."""
    octaves = _WIDTH32 if len(units) == 3 else _WIDTH64
    e, floor, top = np.empty(width, np.int64), np.empty(width), np.empty(width)
    part, start = np.empty((len(units), width)), np.empty((len(units), width))
    scale, whole = np.empty((len(units), width)), np.zeros((len(units), width), np.int64)
    done = np.empty(width, np.bool_)
    for j in range(width):
        done[j] = not (todo[j] and tiny[j] < np.inf)
        _open(j, 0 if done[j] else _exponent(max(high[j], -low[j])), units, e, top, start, scale)
    left = width
    while left:
        for j in range(width):
            floor[j] = np.inf if done[j] else _power(e[j] - octaves)
            for i in range(len(units)):
                part[i, j] = start[i, j]
        if len(units) == 3:
            _masked32(x, r0, r1, t0, width, floor, top, part)
        else:
            _masked64(x, r0, r1, t0, width, floor, top, part)
        _settle(width, done, part, start, scale, whole)
        left = 0
        for j in range(width):
            if not done[j]:
                _flush(j, t0 + j, e[j], units, whole, sums, squares, grid)
                done[j] = tiny[j] >= floor[j]
                left += not done[j]
                _open(j, e[j] - octaves - 1, units, e, top, start, scale)


@inner
def _add_lane(x, r0, r1, lane, sums, squares, special, grid):
    """Add rows r0..r1 of one lane by integers; count what is not finite."""
    for r in range(r0, r1):
        v = np.float64(x[r, lane])
        if abs(v) < np.inf:
            _add_value(v, lane, sums, squares, grid)
        else:
            special[0 if v != v else 1 if v > 0 else 2, lane] += 1


@inner
def _defer(x, r0, r1, t0, width, bad, n_bad, left, sums, squares, special, grid):
    """Add the bad lanes of a block by integers if they are few; else leave them for `sum_wide`."""
    few = n_bad * 16 <= width or r1 - r0 < 4
    for j in range(width):
        if bad[j] and few:
            _add_lane(x, r0, r1, t0 + j, sums, squares, special, grid)
        left[r0 // ROWS, t0 + j] |= bad[j] and not few


@inner
def _size(a):
    """The magnitude of a float32 as an integer; zero wraps round to the largest of all."""
    return np.uint32((bits_of(a) & _NO_SIGN) - _ONE)


@inner
def _block32(x, r0, r1, t0, width, low, high, least, part):
    """Optimistic sums of float32 rows r0..r1 (a multiple of 4 of them), and what to check."""
    s, h, rest = part[0], part[1], part[2]
    ahead = max(4, _AHEAD // (width * x.itemsize))
    for r in range(r0, r1, 4):
        x0, x1 = x[r, t0 : t0 + width], x[r + 1, t0 : t0 + width]
        x2, x3 = x[r + 2, t0 : t0 + width], x[r + 3, t0 : t0 + width]
        for k in range(min(r + ahead, len(x) - 4), min(r + ahead, len(x) - 4) + 4):
            for j in range(0, width, 16):
                prefetch(x[k], t0 + j)
        for j in range(width):
            f0, f1, f2, f3 = x0[j], x1[j], x2[j], x3[j]
            m0, m1 = min(_size(f0), _size(f1)), min(_size(f2), _size(f3))
            least[j] = min(least[j], min(m0, m1))
            high[j] = larger(larger(larger(f0, f1), larger(f2, f3)), high[j]) + _ZERO32
            low[j] = smaller(smaller(smaller(f0, f1), smaller(f2, f3)), low[j]) + _ZERO32
            v0, v1, v2, v3 = np.float64(f0), np.float64(f1), np.float64(f2), np.float64(f3)
            s[j] += (v0 + v1) + (v2 + v3)
            h0 = h[j]
            h1 = fma(v0, v0, h0)
            h2 = fma(v1, v1, h1)
            h3 = fma(v2, v2, h2)
            h4 = fma(v3, v3, h3)
            h[j] = h4
            r0_, r1_ = fma(v0, v0, h0 - h1), fma(v1, v1, h1 - h2)
            r2_, r3_ = fma(v2, v2, h2 - h3), fma(v3, v3, h3 - h4)
            rest[j] += (r0_ + r1_) + (r2_ + r3_)


@inner
def _block64(x, r0, r1, t0, width, low, high, least, part):
    """Optimistic sums of float64 rows r0..r1, and what to check."""
    s, s_rest, p, p_rest, q, q_rest = part[0], part[1], part[2], part[3], part[4], part[5]
    ahead = max(2, _AHEAD // (width * x.itemsize))
    for r in range(r0, r1, 2):
        x0, x1 = x[r, t0 : t0 + width], x[r + 1, t0 : t0 + width]
        for k in range(min(r + ahead, len(x) - 2), min(r + ahead, len(x) - 2) + 2):
            for j in range(0, width, 8):
                prefetch(x[k], t0 + j)
        for j in range(width):
            v0, v1 = x0[j], x1[j]
            a, b = abs(v0), abs(v1)
            a, b = (a if a > 0.0 else np.inf), (b if b > 0.0 else np.inf)
            least[j] = smaller(smaller(a, b), least[j]) + 0.0
            high[j] = larger(larger(v0, v1), high[j]) + 0.0
            low[j] = smaller(smaller(v0, v1), low[j]) + 0.0
            n0 = s[j]
            n1 = n0 + v0
            n2 = n1 + v1
            s[j] = n2
            s_rest[j] += (v0 - (n1 - n0)) + (v1 - (n2 - n1))
            a, b = v0 * v0, v1 * v1
            n0 = p[j]
            n1 = n0 + a
            n2 = n1 + b
            p[j] = n2
            p_rest[j] += (a - (n1 - n0)) + (b - (n2 - n1))
            a, b = fma(v0, v0, -a), fma(v1, v1, -b)
            n0 = q[j]
            n1 = n0 + a
            n2 = n1 + b
            q[j] = n2
            q_rest[j] += (a - (n1 - n0)) + (b - (n2 - n1))


@inner
def _magnitude32(k):
    """The bits of 2^k as a float32, minus one as `least` has it; subnormal below 2^-126."""
    return np.uint32(((k + 127) << 23) if k >= -126 else (1 << (k + 149))) - _ONE


@inner
def _window(j, low, high, lowest, highest):
    """The top exponent for values like those just seen, with one octave of headroom."""
    return min(max(_exponent(max(high[j], -low[j])) + 1, lowest), highest)


@inner
def _extend(t0, width, low, high, lowest, highest):
    """Widen the running extrema by a block's."""
    lowest, highest = lowest[t0 : t0 + width], highest[t0 : t0 + width]
    zero = low.dtype.type(0)
    for j in range(width):
        lowest[j] = smaller(low[j], lowest[j]) + zero
        highest[j] = larger(high[j], highest[j]) + zero


@inner
def _judge(width, low, high, least, top, bottom, part, bad):
    """Mark the lanes whose values were not all inside their window; count them."""
    s = part[0]
    n_bad = 0
    for j in range(width):
        a = larger(high[j], -low[j])
        bad[j] = not ((a < top[j]) & (least[j] >= bottom[j]) & (s[j] - s[j] == 0.0))
        n_bad += bad[j]
    return n_bad


@inner
def _starts(rows):
    """First rows of the blocks: of 128 rows, then the multiple of 4 that is left, then the rest."""
    whole = rows & ~3
    starts = list(range(0, whole, ROWS))
    if whole < rows:
        starts.append(whole)
    return starts


@inner
def _begin(width, low, high, part, start):
    """Set a block's sums and extrema to where they start."""
    for j in range(width):
        low[j] = np.inf
        high[j] = -np.inf
    for i in range(len(part)):
        for j in range(width):
            part[i, j] = start[i, j]


@jit
def sum_float32(x, sums, squares, lowest, highest, special, left):
    """Add exact Σx and Σx² of every lane to limbs; keep finite extrema; count the rest.

    Parameters
    ----------
    x : (rows, lanes) float32, C order
    sums, squares : (lanes, limbs) int64 on FLOAT32_GRID, added to
    lowest, highest : (lanes,) float32, lowered and raised
    special : (3, lanes) int64, counts of NaN, +inf and -inf, added to
    left : (blocks of 128 rows, lanes) bool, set where `sum_wide` must add the block's lane

    Returns
    -------
    int
        How many entries of `left` are set.
    """
    n_left = 0
    rows, lanes = x.shape
    units = UNITS32
    size = min(_TILE, lanes)
    part, start = np.empty((len(units), size)), np.empty((len(units), size))
    scale, whole = np.empty((len(units), size)), np.zeros((len(units), size), np.int64)
    e, top, bad = np.empty(size, np.int64), np.empty(size), np.empty(size, np.bool_)
    low, high, tiny = np.empty(size, x.dtype), np.empty(size, x.dtype), np.empty(size, x.dtype)
    odd = np.empty(size, x.dtype)
    least, bottom = np.empty(size, np.uint32), np.empty(size, np.uint32)
    for t0 in range(0, lanes, _TILE):
        width = min(_TILE, lanes - t0)
        _scan(x, 0, min(ROWS, rows), t0, width, low, high, tiny, odd)
        for j in range(width):
            _open(j, _window(j, low, high, -127, 127), units, e, top, start, scale)
            bottom[j] = _magnitude32(e[j] - _WIDTH32)
        pending = 0
        for r0 in _starts(rows):
            r1 = rows if r0 == rows & ~3 else r0 + min(ROWS, (rows & ~3) - r0)
            if r0 == rows & ~3:  # the last one to three rows
                n_bad = width
                for j in range(width):
                    bad[j] = True
            else:
                _begin(width, low, high, part, start)
                for j in range(width):
                    least[j] = np.uint32(0xFFFFFFFF)
                _block32(x, r0, r1, t0, width, low, high, least, part)
                n_bad = _judge(width, low, high, least, top, bottom, part, bad)
                _settle(width, bad, part, start, scale, whole)
                pending += 1
            if n_bad:
                _scan(x, r0, r1, t0, width, low, high, tiny, odd)
                _defer(
                    x, r0, r1, t0, width, bad, n_bad, left, sums, squares, special, FLOAT32_GRID
                )  # fmt: skip
                for j in range(width):
                    n_left += left[r0 // ROWS, t0 + j] and r1 - r0 >= 4
                    k = _exponent(max(high[j], -low[j]))
                    if bad[j] and (k > e[j] or k < e[j] - 6):
                        _flush(j, t0 + j, e[j], units, whole, sums, squares, FLOAT32_GRID)
                        _open(j, _window(j, low, high, -127, 127), units, e, top, start, scale)
                        bottom[j] = _magnitude32(e[j] - _WIDTH32)
            _extend(t0, width, low, high, lowest, highest)
            if pending == _ROUNDS:
                for j in range(width):
                    _flush(j, t0 + j, e[j], units, whole, sums, squares, FLOAT32_GRID)
                pending = 0
        for j in range(width):
            _flush(j, t0 + j, e[j], units, whole, sums, squares, FLOAT32_GRID)
    return n_left


@jit
def sum_float64(x, sums, squares, lowest, highest, special, left):
    """Add exact Σx and Σx² of every lane to limbs; keep finite extrema; count the rest.

    Parameters
    ----------
    x : (rows, lanes) float64, C order
    sums, squares : (lanes, limbs) int64 on FLOAT64_GRID, added to
    lowest, highest : (lanes,) float64, lowered and raised
    special : (3, lanes) int64, counts of NaN, +inf and -inf, added to
    left : (blocks of 128 rows, lanes) bool, set where `sum_wide` must add the block's lane

    Returns
    -------
    int
        How many entries of `left` are set.
    """
    n_left = 0
    rows, lanes = x.shape
    units = UNITS64
    size = min(_TILE, lanes)
    part, start = np.empty((len(units), size)), np.empty((len(units), size))
    scale, whole = np.empty((len(units), size)), np.zeros((len(units), size), np.int64)
    e, top, bad = np.empty(size, np.int64), np.empty(size), np.empty(size, np.bool_)
    low, high, tiny = np.empty(size, x.dtype), np.empty(size, x.dtype), np.empty(size, x.dtype)
    odd = np.empty(size, x.dtype)
    least, bottom = np.empty(size, np.float64), np.empty(size, np.float64)
    for t0 in range(0, lanes, _TILE):
        width = min(_TILE, lanes - t0)
        _scan(x, 0, min(ROWS, rows), t0, width, low, high, tiny, odd)
        for j in range(width):
            _open(j, _window(j, low, high, _LOWEST, _HIGHEST), units, e, top, start, scale)
            bottom[j] = _power(e[j] - _WIDTH64)
        pending = 0
        for r0 in _starts(rows):
            r1 = rows if r0 == rows & ~3 else r0 + min(ROWS, (rows & ~3) - r0)
            if r0 == rows & ~3:  # the last one to three rows
                n_bad = width
                for j in range(width):
                    bad[j] = True
            else:
                _begin(width, low, high, part, start)
                for j in range(width):
                    least[j] = np.inf
                _block64(x, r0, r1, t0, width, low, high, least, part)
                n_bad = _judge(width, low, high, least, top, bottom, part, bad)
                _settle(width, bad, part, start, scale, whole)
                pending += 1
            if n_bad:
                _scan(x, r0, r1, t0, width, low, high, tiny, odd)
                _defer(
                    x, r0, r1, t0, width, bad, n_bad, left, sums, squares, special, FLOAT64_GRID
                )  # fmt: skip
                for j in range(width):
                    n_left += left[r0 // ROWS, t0 + j] and r1 - r0 >= 4
                    k = _exponent(max(high[j], -low[j]))
                    if bad[j] and (k > e[j] or k < e[j] - 6):
                        _flush(j, t0 + j, e[j], units, whole, sums, squares, FLOAT64_GRID)
                        _open(
                            j, _window(j, low, high, _LOWEST, _HIGHEST), units, e, top, start, scale
                        )
                        bottom[j] = _power(e[j] - _WIDTH64)
            _extend(t0, width, low, high, lowest, highest)
            if pending == _ROUNDS:
                for j in range(width):
                    _flush(j, t0 + j, e[j], units, whole, sums, squares, FLOAT64_GRID)
                pending = 0
        for j in range(width):
            _flush(j, t0 + j, e[j], units, whole, sums, squares, FLOAT64_GRID)
    return n_left


@jit
def sum_wide(x, left, sums, squares, special, grid, units):
    """Add the lanes and blocks that `sum_float32` or `sum_float64` left.

    Their values span more octaves than a window, or are not all finite.

    Parameters
    ----------
    x, left, sums, squares, special : as for those
    grid : FLOAT32_GRID or FLOAT64_GRID
    units : UNITS32 or UNITS64
    """
    rows, lanes = x.shape
    size = min(_TILE, lanes)
    low, high, tiny = np.empty(size, x.dtype), np.empty(size, x.dtype), np.empty(size, x.dtype)
    odd, todo = np.empty(size, x.dtype), np.empty(size, np.bool_)
    for block in range(len(left)):
        r0 = block * ROWS
        r1 = r0 + min(ROWS, (rows & ~3) - r0)
        for t0 in range(0, lanes, _TILE):
            width = min(_TILE, lanes - t0)
            n_todo = 0
            for j in range(width):
                todo[j] = left[block, t0 + j]
                n_todo += todo[j]
            if n_todo == 0:
                continue
            _scan(x, r0, r1, t0, width, low, high, tiny, odd)
            for j in range(width):
                extreme = _exponent(max(high[j], -low[j])) > _HIGHEST
                extreme |= tiny[j] < np.inf and _exponent(tiny[j]) - 20 < _LOWEST
                if todo[j] and extreme:
                    _add_lane(x, r0, r1, t0 + j, sums, squares, special, grid)
                    todo[j] = False
                odd[j] = odd[j] if todo[j] else 0
            _count_special(x, r0, r1, t0, width, odd, special)
            _wide(x, r0, r1, t0, width, todo, low, high, tiny, sums, squares, grid, units)
