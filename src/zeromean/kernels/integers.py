"""Counts and exact sums of integers.

Counting goes through several tables in turn, because an increment that follows another
one of the same counter waits for it, and neighboring pixels are often equal. Sums are
kept in int64 and split into 32-bit halves before they could overflow.

Names: ``x`` values, ``j`` feature, ``r`` row, ``s`` sum of x, ``q`` sum of squares.
"""

from __future__ import annotations

import numpy as np

from zeromean.kernels.compiling import inner, jit, word_at

_PERIOD = 12  # tables used in turn: a multiple of 1, 2, 3, 4 and 6 channels
_STRIDE = 24  # bytes counted at a time: whole words, and whole turns of the tables
_SPILL = 1 << 30  # values after which 32-bit counters are moved to 64 bits
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@inner
def _tally(x, begin, end, tables):
    """Count bytes begin..end, a multiple of 24 of them; byte i goes to table i % 12.

    Three words are loaded for 24 bytes: loads, not additions, are what is scarce here.
    """
    byte = np.uint64(255)
    for i in range(begin, end, _STRIDE):
        for w in range(3):
            word = word_at(x, i + 8 * w)
            for k in range(8):
                table = np.uint64((8 * w + k) % _PERIOD * 256)
                tables[((word >> np.uint64(8 * k)) & byte) + table] += np.uint32(1)


@jit
def count_bytes(x, features, counts):
    """Count the bytes of a flat sequence whose features take turns.

    Parameters
    ----------
    x : (n,) uint8, contiguous; value i belongs to feature i % features
    features : int
    counts : (features, 256) int64, added to
    """
    n = len(x)
    if _PERIOD % features:
        for i in range(n):
            counts[i % features, x[i]] += 1
        return
    tables = np.zeros(_PERIOD * 256, np.uint32)
    step = _SPILL // _STRIDE * _STRIDE
    for begin in range(0, n, step):
        end = min(begin + step, n)
        whole = end - (end - begin) % _STRIDE
        _tally(x, begin, whole, tables)
        for i in range(whole, end):
            counts[i % features, x[i]] += 1
        for k in range(_PERIOD):
            for v in range(256):
                counts[k % features, v] += tables[k * 256 + v]
                tables[k * 256 + v] = 0


@jit
def count_items(x, features, values, counts, s, q):
    """`count_bytes` of several large items, with Σx and Σx² of each on the way.

    Parameters
    ----------
    x : (items, samples * features) uint8, C order
    features : int
        1, 2, 3, 4, 6 or 12.
    values : (256,) int64
        What each byte means.
    counts : (features, 256) int64, added to
    s, q : (items, features) int64, added to
    """
    items, size = x.shape
    tables = np.zeros(_PERIOD * 256, np.uint32)
    whole = size - size % _STRIDE
    for n in range(items):
        row = x[n]
        _tally(row, 0, whole, tables)
        for i in range(whole, size):
            tables[i % features * 256 + row[i]] += np.uint32(1)
        for j in range(features):
            for v in range(256):
                count = np.int64(0)
                for k in range(j, _PERIOD, features):
                    count += tables[k * 256 + v]
                    tables[k * 256 + v] = 0
                counts[j, v] += count
                s[n, j] += count * values[v]
                q[n, j] += count * values[v] * values[v]


@jit
def count_rows(x, counts):
    """Count bytes or 16-bit codes column by column.

    Parameters
    ----------
    x : (rows, features) uint8 or uint16, C order
    counts : (features, 256 or 65 536) int64, added to
    """
    rows, features = x.shape
    for r in range(rows):
        row = x[r]
        for j in range(features):
            counts[j, row[j]] += 1


@jit
def count_planes(x, counts):
    """Count bytes or 16-bit codes where every feature lies in runs.

    Parameters
    ----------
    x : (outer, features, inner) uint8 or uint16, each run contiguous
    counts : (features, 256 or 65 536) int64, added to
    """
    outer, features, inner = x.shape
    bins = counts.shape[1]
    tables = np.zeros((4, bins), np.uint32)
    for j in range(features):
        filled = 0
        for o in range(outer):
            run = x[o, j]
            whole = inner & ~3
            for i in range(0, whole, 4):
                tables[0, run[i]] += np.uint32(1)
                tables[1, run[i + 1]] += np.uint32(1)
                tables[2, run[i + 2]] += np.uint32(1)
                tables[3, run[i + 3]] += np.uint32(1)
            for i in range(whole, inner):
                tables[0, run[i]] += np.uint32(1)
            filled += inner
            if filled >= _SPILL or o == outer - 1:
                for v in range(bins):
                    for k in range(4):
                        counts[j, v] += tables[k, v]
                        tables[k, v] = 0
                filled = 0


@jit
def sum_small(x, s, q):
    """Add Σx and Σx² of 8- and 16-bit integers, column by column.

    Parameters
    ----------
    x : (rows, features), C order, fewer than 2^31 rows
    s, q : (features,) int64, added to
    """
    rows, features = x.shape
    for r in range(rows):
        row = x[r]
        for j in range(features):
            v = np.int64(row[j])
            s[j] += v
            q[j] += v * v


@jit
def sum_items(x, features, s, q):
    """Σx and Σx² of every item and feature of 8- and 16-bit integers.

    Parameters
    ----------
    x : (items, samples * features), C order; value i belongs to feature i % features
    s, q : (items, features) int64, added to
    """
    items, size = x.shape
    lanes = features * ((47 + features) // features)  # a few whole samples side by side
    part_s, part_q = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    brief_s, brief_q = np.zeros(lanes, np.int32), np.zeros(lanes, np.uint32)
    narrow = x.itemsize == 1
    for n in range(items):
        whole = size - size % lanes
        for begin in range(0, whole, lanes << 15):
            end = min(begin + (lanes << 15), whole)
            if narrow:  # 2^15 squares of bytes fit in 32 bits, twice as many at a time
                for i in range(begin, end, lanes):
                    row = x[n, i : i + lanes]
                    for j in range(lanes):
                        v = np.int32(row[j])
                        brief_s[j] += v
                        brief_q[j] += np.uint32(v * v)
                for j in range(lanes):
                    part_s[j] += brief_s[j]
                    part_q[j] += brief_q[j]
                    brief_s[j] = brief_q[j] = 0
            else:
                for i in range(begin, end, lanes):
                    row = x[n, i : i + lanes]
                    for j in range(lanes):
                        v = np.int64(row[j])
                        part_s[j] += v
                        part_q[j] += v * v
        for i in range(whole, size):
            v = np.int64(x[n, i])
            part_s[i - whole] += v
            part_q[i - whole] += v * v
        for k in range(0, lanes, features):
            for j in range(features):
                s[n, j] += part_s[k + j]
                q[n, j] += part_q[k + j]
                part_s[k + j] = part_q[k + j] = 0


@jit
def sum_wide(x, negative, halves):
    """Add Σx and Σx² of 32- and 64-bit integers, column by column, as 32-bit halves.

    With |x| = low + 2^32 high, x² = low² + 2^33 low high + 2^64 high²; every product fits
    64 bits and is added as two halves, so nothing overflows below 2^32 rows.

    Parameters
    ----------
    x : (rows, features) uint64, C order; magnitudes
    negative : (rows, features) bool, where the value is below zero
    halves : (features, 10) uint64, added to: low, high of positive values; low, high of
        negative ones; then two halves each of low², low high, high²
    """
    rows, features = x.shape
    for r in range(rows):
        for j in range(features):
            low, high = x[r, j] & _LOW, x[r, j] >> _HALF
            k = 2 if negative[r, j] else 0
            halves[j, k] += low
            halves[j, k + 1] += high
            a, b, c = low * low, low * high, high * high
            halves[j, 4] += a & _LOW
            halves[j, 5] += a >> _HALF
            halves[j, 6] += b & _LOW
            halves[j, 7] += b >> _HALF
            halves[j, 8] += c & _LOW
            halves[j, 9] += c >> _HALF
