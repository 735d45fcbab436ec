"""The affine map, element by element: out = (x - shift) / scale + offset, and back.

Three shapes are enough, for all others are cut into them or folded onto them:

* *rows* ``(rows, features)``: the numbers of the map stand in vectors beside each row;
* *runs* ``(outer, features, run)``: one set of numbers for a whole run, such as a CHW plane;
* *weave* ``(outer, pixels, features)`` in, runs out: interleaved pixels become planes; on the
  way backward, runs in and pixels out.

Everything is computed in float64, operation by operation as NumPy does, and rounded once. The
*quick* kernels multiply by ``rate = 1 / scale`` instead, which is twice as fast; the caller has
compared their result with the formula's for every value that an integer x can have.

float16 and bfloat16, which Numba does not know, are written as their bits, into int16 and
uint16 arrays respectively.

Names: ``x`` values, ``r`` row, ``j`` feature, ``o`` outer index, ``i`` place in a run,
``v`` a value in float64.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from zeromean.kernels.compiling import float_of, inner, jit

TILE = 2048  # pixels whose planes fit the first-level cache before they are computed with


@inner
def _half_bits(v, fraction, bias):
    """Bits of v, rounded once to a 16-bit float with so many fraction bits; ties to even.

    Below the normal range, adding 2^52 units of the last place makes float64 itself round.
    """
    bits = np.float64(v).view(np.uint64)
    sign = (bits >> np.uint64(48)) & np.uint64(0x8000)
    bits &= np.uint64(0x7FFFFFFFFFFFFFFF)
    drop = np.uint64(52 - fraction)
    tie = ((bits >> drop) & np.uint64(1)) + (np.uint64(1) << (drop - np.uint64(1))) - np.uint64(1)
    normal = ((bits + tie) >> drop) - np.uint64((1023 - bias) << fraction)
    unit = np.uint64(1023 + 53 - bias - fraction) << np.uint64(52)
    small = np.float64(abs(v) + float_of(unit)).view(np.uint64) - unit
    top = np.uint64((2 * bias + 1) << fraction)
    lowest = np.uint64(1023 + 1 - bias) << np.uint64(52)
    size = small if bits < lowest else min(normal, top)
    nan = top | np.uint64(1 << (fraction - 1))
    return sign | (nan if v != v else size)


def _put(out, i, v):
    """out[i] = v, rounded once."""
    raise NotImplementedError  # compiled code only


@overload(_put)
def _compile_put(out, i, v):
    if out.dtype == types.int16:  # the bits of float16

        def put(out, i, v):
            out[i] = np.int16(_half_bits(v, 10, 15))

    elif out.dtype == types.uint16:  # the bits of bfloat16

        def put(out, i, v):
            out[i] = np.uint16(_half_bits(v, 7, 127))

    else:

        def put(out, i, v):
            out[i] = v

    return put


# ---------------------------------------------------------------- forward, by the formula


@jit
def rows(x, shift, scale, offset, out):
    """The formula where features lie side by side.

    Parameters
    ----------
    x : (rows, features) float32, float64, or integers of at most 16 bits; C order
    shift, scale : (features,) float64
    offset : (features,) float64, -0.0 for none; or of length 0 if there are none at all
    out : (rows, features) float32, float64, int16 or uint16, C order
    """
    for r in range(x.shape[0]):
        xs, ys = x[r], out[r]
        if len(offset) == 0:
            for j in range(len(ys)):
                _put(ys, j, (np.float64(xs[j]) - shift[j]) / scale[j])
        else:
            for j in range(len(ys)):
                _put(ys, j, (np.float64(xs[j]) - shift[j]) / scale[j] + offset[j])


@inner
def _run(xs, shift, scale, offset, ys):
    for i in range(len(ys)):
        _put(ys, i, (np.float64(xs[i]) - shift) / scale + offset)


@jit
def runs(x, shift, scale, offset, out):
    """The formula where each feature lies in runs.

    Parameters
    ----------
    x : (outer, features, run) float32 or float64, C order
    shift, scale, offset : (features,) float64; offset -0.0 for none
    out : (outer, features, run) as for `rows`
    """
    for o in range(x.shape[0]):
        for j in range(x.shape[1]):
            _run(x[o, j], shift[j], scale[j], offset[j], out[o, j])


@inner
def _unweave(x, planes):
    """Pixels into planes; three or four by loops that the compiler can vectorize."""
    pixels, features = x.shape
    if features == 3:
        flat = x.reshape(-1)
        first, second, third = planes[0], planes[1], planes[2]
        for i in range(pixels):
            first[i] = flat[3 * i]
            second[i] = flat[3 * i + 1]
            third[i] = flat[3 * i + 2]
        return
    if features == 4:
        flat = x.reshape(-1)
        first, second, third, fourth = planes[0], planes[1], planes[2], planes[3]
        for i in range(pixels):
            first[i] = flat[4 * i]
            second[i] = flat[4 * i + 1]
            third[i] = flat[4 * i + 2]
            fourth[i] = flat[4 * i + 3]
        return
    for j in range(features):
        plane = planes[j]
        for i in range(pixels):
            plane[i] = x[i, j]


@jit
def weave(x, first, last, shift, scale, offset, out):
    """The formula from interleaved pixels to planes.

    Parameters
    ----------
    x : (outer, pixels, features) float32 or float64, C order
    first, last : int
        Which tiles of `TILE` pixels to do; each outer item starts a new tile.
    shift, scale, offset : (features,) float64; offset -0.0 for none
    out : (outer, features, pixels) as for `rows`
    """
    pixels, features = x.shape[1:]
    planes = np.empty((features, TILE), x.dtype)
    tiles = (pixels + TILE - 1) // TILE
    for tile in range(first, last):
        o, begin = tile // tiles, tile % tiles * TILE
        end = min(begin + TILE, pixels)
        _unweave(x[o, begin:end], planes)
        for j in range(features):
            _run(planes[j], shift[j], scale[j], offset[j], out[o, j, begin:end])


# ---------------------------------------------------------------- forward, by reciprocals


@jit
def quick_rows(x, shift, rate, offset, out):
    """(x - shift) * rate + offset where features lie side by side.

    Parameters
    ----------
    x : (rows, features) integers of at most 16 bits, C order
    shift, rate, offset : (features,) float64, as for `rows`
    out : (rows, features) as for `rows`
    """
    for r in range(x.shape[0]):
        xs, ys = x[r], out[r]
        if len(offset) == 0:
            for j in range(len(ys)):
                _put(ys, j, (np.float64(np.int32(xs[j])) - shift[j]) * rate[j])
        else:
            for j in range(len(ys)):
                _put(ys, j, (np.float64(np.int32(xs[j])) - shift[j]) * rate[j] + offset[j])


@inner
def _quick_run(xs, shift, rate, offset, ys):
    if offset == 0.0:  # a fifth faster
        for i in range(len(ys)):
            _put(ys, i, (np.float64(np.int32(xs[i])) - shift) * rate)
    else:
        for i in range(len(ys)):
            _put(ys, i, (np.float64(np.int32(xs[i])) - shift) * rate + offset)


@jit
def quick_runs(x, shift, rate, offset, out):
    """(x - shift) * rate + offset where each feature lies in runs.

    Parameters
    ----------
    x : (outer, features, run) integers of at most 16 bits, C order
    shift, rate, offset : (features,) float64, as for `runs`
    out : (outer, features, run) as for `rows`
    """
    for o in range(x.shape[0]):
        for j in range(x.shape[1]):
            _quick_run(x[o, j], shift[j], rate[j], offset[j], out[o, j])


@jit
def quick_weave(x, first, last, shift, rate, offset, out):
    """(x - shift) * rate + offset from interleaved pixels to planes; see `weave`.

    Parameters
    ----------
    x : (outer, pixels, features) integers of at most 16 bits, C order
    first, last : int
    shift, rate, offset : (features,) float64
    out : (outer, features, pixels) as for `rows`
    """
    pixels, features = x.shape[1:]
    planes = np.empty((features, TILE), x.dtype)
    tiles = (pixels + TILE - 1) // TILE
    for tile in range(first, last):
        o, begin = tile // tiles, tile % tiles * TILE
        end = min(begin + TILE, pixels)
        _unweave(x[o, begin:end], planes)
        for j in range(features):
            _quick_run(planes[j], shift[j], rate[j], offset[j], out[o, j, begin:end])


# ---------------------------------------------------------------- backward


@jit
def back_rows(y, shift, scale, offset, out):
    """(y - offset) * scale + shift where features lie side by side.

    Parameters
    ----------
    y : (rows, features) float32 or float64, C order
    shift, scale : (features,) float64
    offset : (features,) float64, or of length 0 if there are none at all
    out : (rows, features) float32 or float64, C order
    """
    for r in range(y.shape[0]):
        ys, xs = y[r], out[r]
        if len(offset) == 0:
            for j in range(len(xs)):
                xs[j] = np.float64(ys[j]) * scale[j] + shift[j]
        else:
            for j in range(len(xs)):
                xs[j] = (np.float64(ys[j]) - offset[j]) * scale[j] + shift[j]


@jit
def back_runs(y, shift, scale, offset, out):
    """(y - offset) * scale + shift where each feature lies in runs.

    Parameters
    ----------
    y : (outer, features, run) float32 or float64, C order
    shift, scale, offset : (features,) float64
    out : (outer, features, run) float32 or float64, C order
    """
    for o in range(y.shape[0]):
        for j in range(y.shape[1]):
            ys, xs = y[o, j], out[o, j]
            s, d, a = shift[j], scale[j], offset[j]
            for i in range(len(xs)):
                xs[i] = (np.float64(ys[i]) - a) * d + s


@inner
def _reweave(planes, x):
    """Planes into pixels; the opposite of `_unweave`."""
    pixels, features = x.shape
    if features == 3:
        flat = x.reshape(-1)
        first, second, third = planes[0], planes[1], planes[2]
        for i in range(pixels):
            flat[3 * i] = first[i]
            flat[3 * i + 1] = second[i]
            flat[3 * i + 2] = third[i]
        return
    for j in range(features):
        plane = planes[j]
        for i in range(pixels):
            x[i, j] = plane[i]


@jit
def back_weave(y, first, last, shift, scale, offset, out):
    """(y - offset) * scale + shift from planes to interleaved pixels; tiles as for `weave`.

    Parameters
    ----------
    y : (outer, features, pixels) float32 or float64, C order
    first, last : int
    shift, scale, offset : (features,) float64
    out : (outer, pixels, features) float32 or float64, C order
    """
    pixels, features = out.shape[1:]
    planes = np.empty((features, TILE), out.dtype)
    tiles = (pixels + TILE - 1) // TILE
    for tile in range(first, last):
        o, begin = tile // tiles, tile % tiles * TILE
        end = min(begin + TILE, pixels)
        for j in range(features):
            ys, xs = y[o, j, begin:end], planes[j]
            s, d, a = shift[j], scale[j], offset[j]
            for i in range(len(ys)):
                xs[i] = (np.float64(ys[i]) - a) * d + s
        _reweave(planes, out[o, begin:end])


# ---------------------------------------------------------------- in place

# One array instead of two that are the same: otherwise the compiler finds, when it runs, that
# they overlap, and does one value at a time.


@jit
def rows_over(out, shift, scale, offset):
    """`rows` in place; out is float32 or float64."""
    for r in range(out.shape[0]):
        ys = out[r]
        if len(offset) == 0:
            for j in range(len(ys)):
                ys[j] = (np.float64(ys[j]) - shift[j]) / scale[j]
        else:
            for j in range(len(ys)):
                ys[j] = (np.float64(ys[j]) - shift[j]) / scale[j] + offset[j]


@jit
def runs_over(out, shift, scale, offset):
    """`runs` in place; out is float32 or float64."""
    for o in range(out.shape[0]):
        for j in range(out.shape[1]):
            ys = out[o, j]
            s, d, a = shift[j], scale[j], offset[j]
            for i in range(len(ys)):
                ys[i] = (np.float64(ys[i]) - s) / d + a


@jit
def back_rows_over(out, shift, scale, offset):
    """`back_rows` in place; out is float32 or float64."""
    for r in range(out.shape[0]):
        ys = out[r]
        if len(offset) == 0:
            for j in range(len(ys)):
                ys[j] = np.float64(ys[j]) * scale[j] + shift[j]
        else:
            for j in range(len(ys)):
                ys[j] = (np.float64(ys[j]) - offset[j]) * scale[j] + shift[j]


@jit
def back_runs_over(out, shift, scale, offset):
    """`back_runs` in place; out is float32 or float64."""
    for o in range(out.shape[0]):
        for j in range(out.shape[1]):
            ys = out[o, j]
            s, d, a = shift[j], scale[j], offset[j]
            for i in range(len(ys)):
                ys[i] = (np.float64(ys[i]) - a) * d + s


# ---------------------------------------------------------------- backward into integers


@inner
def _whole(v, low, high):
    """The nearest integer, ties to even, within low..high; what NaN gives does not matter."""
    v = np.rint(v)
    v = v if v > low else low
    return np.int64(v if v < high else high)


@jit
def whole_rows(y, shift, scale, offset, low, high, out):
    """`back_rows` into integers; says whether NaN was among them.

    Parameters
    ----------
    y : (rows, features) float32 or float64, C order
    shift, scale, offset : (features,) float64, as for `back_rows`
    low, high : float64
        Range of the integers; both are float64 numbers.
    out : (rows, features) integers of at most 16 bits, C order
    """
    nan = False
    for r in range(y.shape[0]):
        ys, xs = y[r], out[r]
        if len(offset) == 0:
            for j in range(len(xs)):
                v = np.float64(ys[j]) * scale[j] + shift[j]
                nan |= v != v
                xs[j] = _whole(v, low, high)
        else:
            for j in range(len(xs)):
                v = (np.float64(ys[j]) - offset[j]) * scale[j] + shift[j]
                nan |= v != v
                xs[j] = _whole(v, low, high)
    return nan


@jit
def whole_runs(y, shift, scale, offset, low, high, out):
    """`back_runs` into integers; says whether NaN was among them.

    Parameters
    ----------
    y : (outer, features, run) float32 or float64, C order
    shift, scale, offset : (features,) float64
    low, high : float64
    out : (outer, features, run) integers of at most 16 bits, C order
    """
    nan = False
    for o in range(y.shape[0]):
        for j in range(y.shape[1]):
            ys, xs = y[o, j], out[o, j]
            s, d, a = shift[j], scale[j], offset[j]
            for i in range(len(xs)):
                v = (np.float64(ys[i]) - a) * d + s
                nan |= v != v
                xs[i] = _whole(v, low, high)
    return nan


@jit
def whole_weave(y, first, last, shift, scale, offset, low, high, out):
    """`back_weave` into integers; says whether NaN was among them.

    Parameters
    ----------
    y : (outer, features, pixels) float32 or float64, C order
    first, last : int
    shift, scale, offset : (features,) float64
    low, high : float64
    out : (outer, pixels, features) integers of at most 16 bits, C order
    """
    nan = False
    pixels, features = out.shape[1:]
    planes = np.empty((features, TILE), out.dtype)
    tiles = (pixels + TILE - 1) // TILE
    for tile in range(first, last):
        o, begin = tile // tiles, tile % tiles * TILE
        end = min(begin + TILE, pixels)
        for j in range(features):
            ys, xs = y[o, j, begin:end], planes[j]
            s, d, a = shift[j], scale[j], offset[j]
            for i in range(len(ys)):
                v = (np.float64(ys[i]) - a) * d + s
                nan |= v != v
                xs[i] = _whole(v, low, high)
        _reweave(planes, out[o, begin:end])
    return nan
