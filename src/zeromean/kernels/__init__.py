"""The Numba loops: count, exact sums, table look-up, affine map; nothing else is compiled."""
