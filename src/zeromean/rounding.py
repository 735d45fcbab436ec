"""Rounds an exact rational to float64, once.

Python's ``int / int`` is correctly rounded (CPython, ``long_true_divide``). The square
root of a rational is rounded through an integer square root with a sticky last bit, as in
Sylvie Boldo and Guillaume Melquiond, *Emulation of FMA and correctly rounded sums: proved
algorithms using rounding to odd*, IEEE Trans. Comput. 57(4), 2008.
"""

from __future__ import annotations

import math


def ratio(numerator: int, denominator: int) -> float:
    """numerator / denominator to the nearest float64; inf where it overflows.

    Parameters
    ----------
    numerator : int
    denominator : int
        Positive.

    Examples
    --------
    >>> ratio(1, 3)
    0.3333333333333333
    >>> ratio(10**400, 1)
    inf
    """
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def sqrt_ratio(numerator: int, denominator: int) -> float:
    """sqrt(numerator / denominator) to the nearest float64.

    The quotient is scaled by a power of four so that its integer square root has at least
    two bits more than a float64, and the remainder is kept as a last odd bit; the final
    conversion rounds once.

    Parameters
    ----------
    numerator : int
        Not negative.
    denominator : int
        Positive.

    Examples
    --------
    >>> sqrt_ratio(2, 1)
    1.4142135623730951
    >>> sqrt_ratio(0, 7)
    0.0
    """
    if numerator == 0:
        return 0.0
    # 4^shift * quotient gets 110..113 bits, so its root gets 55..57
    shift = (111 - numerator.bit_length() + denominator.bit_length()) // 2
    if shift >= 0:
        quotient, remainder = divmod(numerator << 2 * shift, denominator)
    else:
        quotient, remainder = divmod(numerator, denominator << -2 * shift)
    root = math.isqrt(quotient)
    root |= remainder != 0 or root * root != quotient
    if shift >= 0:
        return ratio(root, 1 << shift)
    return ratio(root << -shift, 1)
