"""The random order in which files are read: by a hash of their names."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.sources import Entry

_Ints = npt.NDArray[np.int64]


def random_order(names: Iterable[str], seed: int = 0) -> _Ints:
    """A random order of files that depends on nothing but their names.

    Each file gets a number, the BLAKE2b hash of its name with the seed as key, and they are sorted
    by it (permanent random numbers; E. Ohlsson, in *Business Survey Methods*, 1995). So every
    machine takes the same sample, and when files are added the old ones keep their order.

    Parameters
    ----------
    names : iterable of str
    seed : int

    Returns
    -------
    ndarray of int64
        Places in the list.

    Examples
    --------
    >>> random_order(["a", "b", "c", "d"])
    array([3, 0, 1, 2])
    """
    return _order([_random_number(name, seed) for name in names])


def _order(numbers: Any) -> _Ints:
    return np.argsort(np.array(numbers, np.uint64), kind="stable")


def _random_number(name: str, seed: int) -> int:
    key = seed.to_bytes(8, "little")
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=key)
    return int.from_bytes(digest.digest(), "little")


def drawn(entries: Iterable[Entry], seed: int) -> tuple[_Ints, _Ints]:
    """Places of all files in random order, and their sizes; 16 bytes for each file."""
    numbers, sizes = array("Q"), array("q")
    for entry in entries:
        numbers.append(_random_number(entry.name, seed))
        sizes.append(entry.stamp[0] if entry.stamp else 0)
    order = _order(numbers)
    return order, np.array(sizes, np.int64)[order]
