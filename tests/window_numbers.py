"""Floats that stress the windows of `zeromean.torch.device_windows`: at the edges, and beyond."""

from __future__ import annotations

import numpy as np

OCTAVES = {"float32": 20, "float64": 14}  # of a window


def edges(dtype, shape, random):
    """A largest value just below a power of two; others at the window's floor and beside it."""
    own = np.dtype(dtype).type
    floor = own(2.0 ** -OCTAVES[dtype])
    ends = [floor, np.nextafter(floor, own(0)), np.nextafter(floor, own(1)), own(0), own(1.5)]
    x = random.choice(np.array(ends, dtype), shape) * random.choice([-1, 1], shape).astype(dtype)
    x[::700] = np.nextafter(own(1), own(0))
    return x


def low_parts(dtype, shape, random):
    """Near the floor of a window, all of one sign, with rests of the squares close to a half."""
    y = np.sqrt(random.integers(5, 50, shape) + random.uniform(0.49, 0.5, shape))
    x = y * 2.0 ** -(OCTAVES[dtype] + 1)
    x[::1024] = 0.999
    return x


def full(dtype, shape, random):
    """Nearly all just below a power of two, some small and odd: sums of as many bits as can be."""
    own = np.dtype(dtype).type
    x = np.full(shape, np.nextafter(own(1), own(0)))
    x[5::66] = (3 + 2.0**-22) / 2**21 if dtype == "float32" else (257 + 2.0**-44) / 2**22
    return x


def lognormal(dtype, shape, random):
    return random.choice([-1, 1], shape) * np.exp(8 * random.normal(size=shape))


def spread(dtype, shape, random):
    """All exponents that the format has, NaN and infinities as well."""
    bits = random.integers(0, 1 << 8 * np.dtype(dtype).itemsize, shape, np.uint64)
    return bits.astype("u4").view(dtype) if dtype == "float32" else bits.view(dtype)


def subnormal(dtype, shape, random):
    return random.uniform(-1, 1, shape) * float(np.finfo(dtype).smallest_normal)


def around_normal(dtype, shape, random):
    """Windows that would begin below the format's smallest numbers."""
    return subnormal(dtype, shape, random) * 2.0 ** random.integers(0, 60, (1, shape[1]))


def one_huge(dtype, shape, random):
    """Each block has one value that leaves no other a place in its window."""
    x = random.normal(size=shape)
    x[::512] = np.finfo(dtype).max
    return x


def alternating(dtype, shape, random):
    """Σx is tiny beside Σ|x|."""
    sign = np.where(np.arange(shape[0]) % 2, -1.0, 1.0)[:, None]
    return sign * (1e8 + random.normal(size=shape))


def offset(dtype, shape, random):
    return 1e8 + random.normal(size=shape)


def holes(dtype, shape, random):
    """Blocks with nothing but NaN, or NaN and infinities."""
    x = random.normal(size=shape)
    x[: shape[0] // 3], x[-5:] = np.nan, -np.inf
    x[shape[0] // 2] = np.inf
    return x


def sparse(dtype, shape, random):
    """Nearly all zeros, of both signs."""
    zeros = np.where(random.random(shape) < 0.5, 0.0, -0.0)
    return np.where(random.random(shape) < 0.01, random.normal(size=shape), zeros)


def normal(dtype, shape, random):
    return random.normal(size=shape)


CASES = {
    f.__name__: f
    for f in (
        edges, low_parts, full, lognormal, spread, subnormal, around_normal, one_huge,
        alternating, offset, holes, sparse, normal,
    )
}  # fmt: skip

#: Fewer samples than a window takes, whole blocks and more, folds of narrow tables, wide tables.
SHAPES = (
    (1, 3), (7, 2), (8, 2), (521, 1), (1023, 2), (1024, 3), (2048, 2), (2051, 5), (9, 300),
    (66000, 1),
)  # fmt: skip


def stressed(case, dtype, shape, seed=0):
    """An array of one of the cases, in C order."""
    with np.errstate(over="ignore", invalid="ignore"):
        made = CASES[case](dtype, shape, np.random.default_rng(seed))
        return np.ascontiguousarray(made, dtype)
