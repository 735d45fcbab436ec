"""What a sample needs of each file: number, sum and sum of squares of every feature."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from zeromean.accumulation import Partial
from zeromean.errors import PatternError, SourceError
from zeromean.provenance import Units
from zeromean.rounding import ratio
from zeromean.sources import Item
from zeromean.statistics import Histogram
from zeromean.statistics.formats import bin_values

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_MOST_FEATURES = 4096


class FileSums(NamedTuple):
    """What one file of a sample gave.

    Attributes
    ----------
    name : str
    sums : ndarray of float64, (features, 3), or None
        Number of values, Σx and Σx² of each feature, on the scale where the range goes from 0 to 1;
        None when the file could not be read.
    """

    name: str
    sums: _Floats | None

    @property
    def state(self) -> None:
        """No ledger is kept of it: see `zeromean.accumulation.Plan`."""
        return None


@dataclass(frozen=True, slots=True)
class KeepSums:
    """`Plan.keep`: what a sample needs of each file; picklable.

    Attributes
    ----------
    range : tuple of two numbers, or None
        As it was given.
    """

    range: tuple[float, float] | None
    counts: ClassVar[int] = 32  # features of a picture of bytes up to which its counts will do

    def alone(self, features: int) -> bool:
        """Each file is measured by itself, if it does not have too many features.

        Raises
        ------
        PatternError
        """
        if features > _MOST_FEATURES:
            raise PatternError(
                f"within knows up to {_MOST_FEATURES:,} kept entries, and this pattern keeps "
                f"{features:,}; a mean image is measured from all files, without within"
            )
        return True

    def __call__(self, item: Item, part: Partial | None) -> FileSums:
        """The sums of a file.

        Parameters
        ----------
        item : Item
            Its last part.
        part : Partial or None
            What it gave, if it could be read.

        Raises
        ------
        SourceError
            Where the range is not known.
        """
        if part is None:
            return FileSums(item.name, None)
        limits = range_of(part.dtype, self.range)
        return FileSums(item.name, unit_sums(part.statistics, limits))

    def picture(self, item: Item, counts: _Ints, shape: tuple[int, ...]) -> FileSums:
        """The sums of a picture of bytes.

        Parameters
        ----------
        item : Item
        counts : ndarray of int64, (features, 256)
        shape : tuple of int
            The kept one, which does not matter here.
        """
        limits = range_of("uint8", self.range)
        return FileSums(item.name, unit_sums(Histogram("uint8", counts), limits))


def range_of(dtype: str, given: tuple[float, float] | None) -> tuple[float, float]:
    """The range of the data, of which a half width is a share.

    Parameters
    ----------
    dtype : str
    given : tuple of two numbers, or None

    Raises
    ------
    SourceError
        Where it is not known.
    """
    limits = Units.of(dtype, range_=given).range
    if limits is None:
        raise SourceError(
            f"within is a share of the data's range, which is not known for {dtype}; give "
            "range=(low, high) (--range LOW HIGH)"
        )
    return limits


def unit_sums(statistics: Any, limits: tuple[float, float]) -> _Floats:
    """Number, Σu and Σu² of u = (x − low) / (high − low), rounded once.

    Parameters
    ----------
    statistics : Histogram or Moments
    limits : tuple of two numbers

    Returns
    -------
    ndarray of float64, (features, 3)

    Examples
    --------
    >>> import numpy as np
    >>> from zeromean.statistics import Histogram
    >>> unit_sums(Histogram.of(np.array([[51], [204]], dtype=np.uint8)), (0, 255))
    array([[2.  , 1.  , 0.68]])
    """
    if isinstance(statistics, Histogram) and limits[0] == 0 and _is_plain(statistics):
        sums = statistics.counts @ _powers(statistics.dtype)
        return np.asarray(sums / np.array([1.0, limits[1], limits[1] ** 2]))
    held = statistics.power_sums
    unit = Fraction(2) ** held.exponent
    low = Fraction(limits[0]) / unit
    length = Fraction(limits[1]) / unit - low
    over, under = length.denominator, length.numerator
    rows = []
    for n, s, q in zip(held.n.tolist(), held.sums.tolist(), held.squares.tolist(), strict=True):
        if low:
            q, s = q - 2 * low * s + n * low * low, s - n * low
        rows.append((n, _ratio(s * over, under), _ratio(q * over**2, under**2)))
    return np.array(rows, np.float64).reshape(-1, 3)


def _ratio(over: int | Fraction, under: int) -> float:
    return ratio(over.numerator, under * over.denominator)


def _is_plain(histogram: Histogram) -> bool:
    """Whether its power sums are plain products: integers, and not so many that they overflow."""
    return histogram.nan_bin is None and int(histogram.counts.sum(axis=1).max(initial=0)) < 1 << 30


@cache
def _powers(dtype: str) -> _Ints:
    """1, x and x² of each bin."""
    values = bin_values(dtype).astype(np.int64)
    return np.stack([np.ones_like(values), values, values * values], axis=1)
