"""What can be read from exact statistics: mean, std, extrema, quantiles; each rounded once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, ZeromeanWarning
from zeromean.estimates import Estimate
from zeromean.pattern import Pattern
from zeromean.profile_columns import column_fields
from zeromean.provenance import Units
from zeromean.rounding import ratio, sqrt_ratio
from zeromean.statistics import Columns, Covariance, Extrema, Histogram, ItemStds, PowerSums
from zeromean.statistics.columns import Tally, tallies
from zeromean.statistics.formats import split_dtype

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Any = npt.NDArray[Any]
_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}


class HistogramReadout(NamedTuple):
    """Bin values, and how often each occurs.

    Attributes
    ----------
    values : ndarray of float64, (n_bins,)
        Increasing, finite.
    counts : ndarray of int64, kept_shape + (n_bins,)
    """

    values: _Floats
    counts: _Ints


class Readouts:
    """The read-outs of a `zeromean.Profile`, from its statistics.

    A subclass holds `pattern`, `kept_shape`, `dtype`, `units`, `statistics`, `items_stds`,
    `buckets`, `known_extrema`, `extrema_exact` and `feature_names`.
    """

    pattern: Pattern
    kept_shape: tuple[int, ...]
    dtype: str
    units: Units
    statistics: Any
    items_stds: ItemStds | None
    buckets: Histogram | None
    known_extrema: Extrema | None
    extrema_exact: bool
    feature_names: tuple[str, ...]
    covariance: Covariance | None = None
    estimate: Estimate | None = None

    @cached_property
    def _sums(self) -> PowerSums:
        sums: PowerSums = self.statistics.power_sums
        return sums

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtype of each kept entry: they differ between the columns of a table."""
        return split_dtype(self.dtype, self.n_features)

    @cached_property
    def extrema(self) -> Extrema:
        """Smallest and largest finite values as Python numbers, so that integers stay integers."""
        if self.known_extrema is None:
            extrema: Extrema = self.statistics.extrema
        elif isinstance(self.statistics, Columns):
            extrema = self.statistics.extrema + self.known_extrema
        else:
            extrema = self.known_extrema
        return extrema

    def _shaped(self, values: Any, dtype: Any = np.float64) -> Any:
        array = np.array(values, dtype).reshape(self.kept_shape)
        array.flags.writeable = False
        return array[()]

    @cached_property
    def count(self) -> _Ints:
        """How many finite values, int64 of the kept shape."""
        return self._shaped(self._sums.n, np.int64)  # type: ignore[no-any-return]

    @cached_property
    def nan_count(self) -> _Ints:
        """How many NaN, int64 of the kept shape. They are left out of everything else."""
        return self._shaped(self.statistics.special[:, 0], np.int64)  # type: ignore[no-any-return]

    @cached_property
    def inf_count(self) -> _Ints:
        """How many +inf and -inf, int64 of the kept shape. They are left out too."""
        return self._shaped(self.statistics.special[:, 1:].sum(axis=1), np.int64)  # type: ignore[no-any-return]

    @cached_property
    def mean(self) -> _Floats:
        """Σx / n, correctly rounded; float64 of the kept shape, in the data's own units."""
        return self._mean(1)

    @cached_property
    def unit_mean(self) -> _Floats | None:
        """The mean divided by the range's top, rounded once; None without a range from 0."""
        return None if self.units.top is None else self._mean(self.units.top)

    def _mean(self, top: float) -> _Floats:
        self._warn_if_empty("mean")
        sums, (over, under) = self._sums, _power(self._sums.exponent)
        whole, part = top.as_integer_ratio()
        return self._shaped(  # type: ignore[no-any-return]
            [
                ratio(s * over * part, n * under * whole) if n else math.nan
                for n, s in zip(sums.n.tolist(), sums.sums.tolist(), strict=True)
            ]
        )

    def var(self, ddof: int = 0) -> _Floats:
        """Variance, correctly rounded: (Σx² - (Σx)²/n) / (n - ddof) as a rational.

        Parameters
        ----------
        ddof : int
            0 for the variance of these values, 1 to estimate that of a population.

        Returns
        -------
        ndarray of float64, kept shape
            NaN where n <= ddof.
        """
        self._warn_if_empty("variance")
        return self._spread(ratio, ddof, 1)

    @cached_property
    def std(self) -> _Floats:
        """Population standard deviation (ddof 0), correctly rounded from the exact rational.

        Normalizing with it gives the measured data a variance of exactly one. It is never the
        root of a rounded variance.
        """
        self._warn_if_empty("std")
        return self._spread(sqrt_ratio, 0, 1)

    def sample_std(self, ddof: int = 1) -> _Floats:
        """The std with another ddof, rounded from the exact rational like `std`.

        Parameters
        ----------
        ddof : int

        Returns
        -------
        ndarray of float64, kept shape
            NaN where n <= ddof.
        """
        self._warn_if_empty("std")
        return self._spread(sqrt_ratio, ddof, 1)

    def cov(self, ddof: int = 0) -> _Floats:
        """Covariance of all pairs of features; features are the kept entries in C order.

        Parameters
        ----------
        ddof : int
            0 for the covariance of these samples, 1 to estimate that of a population.

        Returns
        -------
        ndarray of float64, (n_features, n_features)
            Symmetric. Each entry rounded once from the exact rational for integers; for floats,
            ``covariance.error_bound`` says how far off it may be. NaN where n <= ddof.

        Raises
        ------
        PatternError
            When it was not measured.

        Examples
        --------
        >>> import numpy as np
        >>> import zeromean as zm
        >>> x = np.array([[1, 10], [2, 30], [6, 20]])
        >>> zm.measure(x, covariance=True).cov(ddof=1)
        array([[  7.,   5.],
               [  5., 100.]])
        """
        if self.covariance is None:
            raise PatternError(
                "how features vary together was not measured; measure(..., covariance=True) does"
            )
        self._warn_if_empty("covariance")
        return self.covariance.matrix(ddof)

    @cached_property
    def unit_std(self) -> _Floats | None:
        """The std divided by the range's top, rounded once; None without a range from 0."""
        return None if self.units.top is None else self._spread(sqrt_ratio, 0, self.units.top)

    def _spread(self, rounded: Any, ddof: int, top: float) -> _Floats:
        sums, (over, under) = self._sums, _power(2 * self._sums.exponent)
        whole, part = top.as_integer_ratio()
        over, under = over * part**2, under * whole**2
        return self._shaped(  # type: ignore[no-any-return]
            [
                rounded((n * q - s * s) * over, n * (n - ddof) * under) if n > ddof else math.nan
                for n, s, q in zip(
                    sums.n.tolist(), sums.sums.tolist(), sums.squares.tolist(), strict=True
                )
            ]
        )

    @cached_property
    def min(self) -> _Any:
        """Smallest finite value; int64 or uint64 for integers, else float64. A lower bound if
        not `extrema_exact`."""
        return self._bound(self.extrema.low)

    @cached_property
    def max(self) -> _Any:
        """Largest finite value; an upper bound if not `extrema_exact`."""
        return self._bound(self.extrema.high)

    def _bound(self, values: _Any) -> _Any:
        plain = values.tolist()
        if None in plain:
            return self._shaped([math.nan if v is None else v for v in plain])  # type: ignore[no-any-return]
        mixed = "," in self.dtype and "uint64" in self.dtypes
        kind = np.float64 if mixed or "float" in self.dtype else np.int64
        return self._shaped(plain, np.uint64 if self.dtype == "uint64" else kind)  # type: ignore[no-any-return]

    @property
    def histogram(self) -> HistogramReadout:
        """Every finite value and how often it occurs.

        Raises
        ------
        PatternError
            For formats and patterns that are summed instead of counted.
        """
        if isinstance(self.statistics, Columns):
            raise PatternError(
                "columns of different dtypes share no histogram; profile.column(name).histogram "
                "gives that of one"
            )
        if not isinstance(self.statistics, Histogram):
            raise PatternError(
                f"{self.dtype} data with {len(self._sums.n)} kept entries is summed, not counted, "
                "so there is no histogram; 8- and 16-bit data per channel has one"
            )
        values, counts = self.statistics.finite
        return HistogramReadout(values, counts.reshape(*self.kept_shape, len(values)))

    def quantile(self, q: float | Sequence[float]) -> _Floats:
        """Exact quantiles, as ``numpy.quantile(..., method="linear")`` defines them.

        Parameters
        ----------
        q : float or sequence of float
            Between 0 and 1.

        Returns
        -------
        ndarray of float64, shape of q + kept shape
            Rounded once; NaN without data.

        Raises
        ------
        PatternError
            For summed formats; measure with ``quantiles=True`` and read `quantile_bounds`.
        """
        if not isinstance(self.statistics, Histogram | Columns):
            raise PatternError(
                f"{self.dtype} data is summed, not counted, so quantiles are not known exactly; "
                "measure(..., quantiles=True) gives quantile_bounds"
            )
        return self._quantiles(q, self._tallies(buckets=False), exact=True)[0]

    def quantile_bounds(self, q: float | Sequence[float]) -> tuple[_Floats, _Floats]:
        """Bounds between which the q-quantile of the sorted values lies (order statistic
        at rank floor(q (n - 1))).

        Equal for counted formats; for floats the bounds of a bucket of width 1/128 or less of
        its value. What float32 cannot hold shares its first and last bucket.

        Parameters
        ----------
        q : float or sequence of float
            Between 0 and 1.

        Returns
        -------
        tuple of two ndarrays of float64, shape of q + kept shape

        Raises
        ------
        PatternError
            For summed data measured without ``quantiles=True``.
        """
        if self.buckets is None and not isinstance(self.statistics, Histogram | Columns):
            raise PatternError("quantiles of summed data need measure(..., quantiles=True)")
        low, high = self._quantiles(q, self._tallies(buckets=True), exact=False)
        if self.buckets is None:
            return low, high
        return np.maximum(low, self.min), np.minimum(high, self.max)

    def _tallies(self, *, buckets: bool) -> list[Tally]:
        """Values, counts and whether they are exact, of every feature.

        Raises
        ------
        PatternError
            When the values of a column are not counted.
        """
        rows = tallies(self.statistics, self.buckets if buckets else None, self.dtypes)
        summed = [name for name, row in zip(self.names, rows, strict=True) if row is None]
        if summed:
            raise PatternError(
                f"the columns {', '.join(summed[:6])} are summed, not counted, so their quantiles "
                "are not known; profile.column(name).quantile(q) gives those of another, and "
                "quantiles=True bounds those of float columns"
            )
        return rows  # type: ignore[return-value]

    def _quantiles(
        self, q: float | Sequence[float], tallies: list[Tally], *, exact: bool
    ) -> tuple[_Floats, _Floats]:
        from zeromean.quantiles import interpolated, truncated

        wanted = np.asarray(q, np.float64)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise PatternError(f"quantiles lie between 0 and 1, not {q!r}")

        def read(tally: Tally, p: float) -> tuple[float, float]:
            values, row, known = tally
            return interpolated(values, row, p) if exact else truncated(values, row, p, exact=known)

        pairs = [[read(tally, p) for tally in tallies] for p in wanted.ravel().tolist()]
        both = np.array(pairs, np.float64).reshape(*wanted.shape, *self.kept_shape, 2)
        return both[..., 0][()], both[..., 1][()]

    # ------------------------------------------------------------ three stds

    @cached_property
    def mean_of_item_stds(self) -> _Floats | None:
        """Average of the stds of single items: what many published constants really are."""
        return self._item_read(lambda total, n: ratio(total, n << 64), "stds")

    @cached_property
    def root_mean_item_variance(self) -> _Floats | None:
        """Root of the average variance of single items: the spread within items alone."""
        return self._item_read(lambda total, n: sqrt_ratio(total, n << 64), "variances")

    def _item_read(self, read: Any, name: str) -> _Floats | None:
        stds = self.items_stds
        if stds is None or stds.n == 0:
            return None
        return self._shaped([read(t, stds.n) for t in getattr(stds, name).tolist()])  # type: ignore[no-any-return]

    # ------------------------------------------------------------ names, warnings

    @property
    def n_features(self) -> int:
        """How many entries each read-out has."""
        return math.prod(self.kept_shape)

    @property
    def names(self) -> list[str]:
        """A name for each kept entry: given names, channel letters, or indices."""
        if self.feature_names:
            return list(self.feature_names)
        channels = self.units.channels
        letters = {"L": ["gray"], "LA": ["gray", "A"]}.get(channels, list(channels))
        if len(letters) == self.n_features and self.kept_shape:
            return letters
        if not self.kept_shape:
            return ["all"]
        return [",".join(map(str, index)) for index in np.ndindex(self.kept_shape)]

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Which features have no spread at all; bool of the kept shape. False without data."""
        sums = self._sums
        same = [
            n > 0 and n * q == s * s
            for n, s, q in zip(
                sums.n.tolist(), sums.sums.tolist(), sums.squares.tolist(), strict=True
            )
        ]
        return self._shaped(same, np.bool_)  # type: ignore[no-any-return]

    @property
    def negligible(self) -> npt.NDArray[np.bool_]:
        """Which features have a spread that is no more than rounding; bool of the kept shape.

        Constants, and floats with std <= u |mean|, where u is the unit roundoff of their format:
        numbers that were meant to be equal differ by that much.
        """
        roundoff = np.array([_ROUNDOFF.get(d, 0.0) for d in self.dtypes]).reshape(self.kept_shape)
        if not roundoff.any():
            return self.constant
        with np.errstate(invalid="ignore"):
            tiny = np.asarray((self.std > 0) & (self.std <= roundoff * np.abs(self.mean)))
        return self._shaped(tiny | self.constant, np.bool_)  # type: ignore[no-any-return]

    def column(self, name: str) -> ColumnReadouts:
        """The read-outs of one column alone, such as its own histogram and quantiles.

        Parameters
        ----------
        name : str

        Returns
        -------
        Readouts

        Raises
        ------
        PatternError
            When no column has this name.
        """
        if name not in self.feature_names:
            raise PatternError(
                f"there is no column {name!r}; the columns are {', '.join(self.feature_names[:8])}"
                + (", ..." if len(self.feature_names) > 8 else "" if self.feature_names else "none")
            )
        place = self.feature_names.index(name)
        estimate = None if self.estimate is None else self.estimate.of_entry(place)
        return ColumnReadouts({**column_fields(self, place), "estimate": estimate})

    def _warn_if_empty(self, what: str) -> None:
        empty = int((self._sums.n == 0).sum())
        if empty:
            which = "the profile is empty" if empty == self.n_features else f"{empty} are empty"
            warnings.warn(f"{what} is NaN: {which}", ZeromeanWarning, stacklevel=3)


class ColumnReadouts(Readouts):
    """The read-outs of one column of a table; made by `Readouts.column`."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.__dict__.update(fields)


def _power(exponent: int) -> tuple[int, int]:
    """2**exponent as (numerator, denominator)."""
    return (1 << exponent, 1) if exponent >= 0 else (1, 1 << -exponent)
