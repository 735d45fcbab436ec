"""What one pass leaves behind: adds, subtracts, reads out, saves, loads."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from zeromean import profile_file
from zeromean.documents import save
from zeromean.errors import MergeError, PatternError, ZeromeanWarning
from zeromean.pattern import Pattern
from zeromean.provenance import Provenance, Units
from zeromean.rounding import ratio, sqrt_ratio
from zeromean.statistics import Extrema, Histogram, ItemStds, Moments, PowerSums

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Any = npt.NDArray[Any]
_MAX_ROWS = 12


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


@dataclass(frozen=True, eq=False)
class Profile:
    """Exact statistics of one data set; adds, subtracts, reads out, saves.

    Made by `zeromean.measure` or `zeromean.load`; profiles of parts add up to the profile of
    the whole, bit for bit, in any order.

    Attributes
    ----------
    pattern : Pattern
    kept_shape : tuple of int
        Shape of every read-out.
    dtype : str
        Of the raw data.
    units : Units
        Range, channel order and color handling of the raw data.
    statistics : Histogram or Moments
        The exact state.
    items_stds : ItemStds or None
        Per-item spread, for 8- and 16-bit pictures.
    buckets : Histogram or None
        Of bfloat16-truncated floats, when measured with ``quantiles=True``.
    known_extrema : Extrema or None
        For summed formats; a histogram knows its own.
    extrema_exact : bool
        False after a subtraction of float profiles: then min and max are bounds.
    feature_names : tuple of str
    provenance : Provenance

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.array([[1, 10], [2, 20], [6, 60]])
    >>> profile = zm.measure(x)
    >>> profile.mean
    array([ 3., 30.])
    >>> profile.var(ddof=1)
    array([  7., 700.])
    >>> zm.measure(x[:1]) + zm.measure(x[1:]) == profile
    True
    """

    pattern: Pattern
    kept_shape: tuple[int, ...]
    dtype: str
    units: Units
    statistics: Histogram | Moments
    items_stds: ItemStds | None = None
    buckets: Histogram | None = None
    known_extrema: Extrema | None = None
    extrema_exact: bool = True
    feature_names: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    # ------------------------------------------------------------ algebra

    def __add__(self, other: Profile) -> Self:
        """The profile of both data sets together. Exact, and the same in any order."""
        self._check_like(other, "add")
        return self._combined(other, self.statistics + other.statistics, _plus)  # type: ignore[operator]

    def __radd__(self, other: object) -> Self:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __sub__(self, other: Profile) -> Self:
        """The profile of what is left when `other` is taken out. Exact.

        Raises
        ------
        MergeError
            When the profiles describe different things, or `other` holds values that this
            one does not.
        """
        self._check_like(other, "subtract")
        rest = self._combined(other, self.statistics - other.statistics, _minus)  # type: ignore[operator]
        if self.known_extrema is None or other.known_extrema is None:
            return rest
        if other.extrema_exact and self.known_extrema + other.known_extrema != self.known_extrema:
            raise MergeError("cannot subtract a profile with values beyond all that this one holds")
        bounds = self.known_extrema.where(rest.statistics.power_sums.n > 0)
        return replace(rest, known_extrema=bounds, extrema_exact=False)

    def _combined(self, other: Profile, statistics: Any, combine: Any) -> Self:
        extrema = None
        if self.known_extrema is not None and other.known_extrema is not None:
            extrema = self.known_extrema + other.known_extrema
        provenance = combine(self.provenance, other.provenance)
        note = _decoder_note(self.provenance, other.provenance)
        if note and note not in provenance.warnings:
            provenance = replace(provenance, warnings=(*provenance.warnings, note))
        return replace(
            self,
            statistics=statistics,
            items_stds=_both(self.items_stds, other.items_stds, combine),
            buckets=_both(self.buckets, other.buckets, combine),
            known_extrema=extrema,
            extrema_exact=self.extrema_exact and other.extrema_exact,
            provenance=provenance,
        )

    def _check_like(self, other: object, verb: str) -> None:
        if not isinstance(other, Profile):
            raise MergeError(f"cannot {verb} a profile and {type(other).__name__}")
        for name in ("pattern", "kept_shape", "dtype", "units", "feature_names"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                cure = ""
                if name == "units" and bool(mine.channels) != bool(theirs.channels):
                    known = mine.channels or theirs.channels
                    cure = f"; if they are the same, measure the array with channels={known!r}"
                raise MergeError(
                    f"cannot {verb} profiles that differ in {name.replace('_', ' ')}: "
                    f"{_said(mine)} and {_said(theirs)}{cure}"
                )
        if (self.buckets is None) != (other.buckets is None):
            raise MergeError(
                f"cannot {verb} profiles that differ in quantiles: one was measured with "
                "quantiles=True and one without"
            )

    def __eq__(self, other: object) -> bool:
        """Same pattern, shape, dtype, names, units, counts and sums; provenance may differ."""
        if not isinstance(other, Profile):
            return NotImplemented
        names = ("pattern", "kept_shape", "dtype", "units", "feature_names", "statistics")
        return all(getattr(self, n) == getattr(other, n) for n in (*names, "items_stds", "buckets"))

    __hash__ = None  # type: ignore[assignment]

    # ------------------------------------------------------------ read-outs

    @cached_property
    def _sums(self) -> PowerSums:
        return self.statistics.power_sums

    @cached_property
    def _extrema(self) -> Extrema:
        return self.statistics.extrema if self.known_extrema is None else self.known_extrema  # type: ignore[union-attr]

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
        return self._bound(self._extrema.low)

    @cached_property
    def max(self) -> _Any:
        """Largest finite value; an upper bound if not `extrema_exact`."""
        return self._bound(self._extrema.high)

    def _bound(self, values: _Any) -> _Any:
        plain = values.tolist()
        if None in plain:
            return self._shaped([math.nan if v is None else v for v in plain])  # type: ignore[no-any-return]
        kind = np.float64 if "float" in self.dtype else np.int64
        return self._shaped(plain, np.uint64 if self.dtype == "uint64" else kind)  # type: ignore[no-any-return]

    @property
    def histogram(self) -> HistogramReadout:
        """Every finite value and how often it occurs.

        Raises
        ------
        PatternError
            For formats and patterns that are summed instead of counted.
        """
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
        if not isinstance(self.statistics, Histogram):
            raise PatternError(
                f"{self.dtype} data is summed, not counted, so quantiles are not known exactly; "
                "measure(..., quantiles=True) gives quantile_bounds"
            )
        return self._quantiles(q, self.statistics, exact=True)[0]

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
        counted = self.statistics if isinstance(self.statistics, Histogram) else self.buckets
        if counted is None:
            raise PatternError("quantiles of summed data need measure(..., quantiles=True)")
        low, high = self._quantiles(q, counted, exact=False)
        if counted is self.buckets:
            return np.maximum(low, self.min), np.minimum(high, self.max)
        return low, high

    def _quantiles(
        self, q: float | Sequence[float], counted: Histogram, *, exact: bool
    ) -> tuple[_Floats, _Floats]:
        from zeromean.quantiles import interpolated, truncated

        wanted = np.asarray(q, np.float64)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise PatternError(f"quantiles lie between 0 and 1, not {q!r}")
        values, counts = counted.finite
        cut = counted is self.buckets
        read: Any = interpolated if exact else partial(truncated, exact=not cut)
        pairs = [[read(values, row, p) for row in counts] for p in wanted.ravel().tolist()]
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

    def _warn_if_empty(self, what: str) -> None:
        empty = int((self._sums.n == 0).sum())
        if empty:
            which = "the profile is empty" if empty == self.n_features else f"{empty} are empty"
            warnings.warn(f"{what} is NaN: {which}", ZeromeanWarning, stacklevel=3)

    # ------------------------------------------------------------ files and pictures

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to `.json` (readable, up to 10 000 kept entries) or `.safetensors` (any size).

        Parameters
        ----------
        path : path
            An old file is replaced at once, or stays as it is.

        Raises
        ------
        FormatError
            For another suffix, too many entries for JSON, or a folder that cannot be written.
        """
        save(path, *profile_file.to_document(self, tensors=str(path).endswith(".safetensors")))

    def to_json(self) -> str:
        """The text that `save` writes to a `.json` file."""
        from zeromean.documents import to_text

        return to_text(profile_file.to_document(self, tensors=False)[0])

    def plot(self, kind: str = "distribution") -> Figure:
        """Draw the profile.

        Parameters
        ----------
        kind : {"distribution", "three", "features", "image"}
            The histogram; original, zero-mean and standardized side by side; mean, std and
            range of each feature; or the mean image.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from zeromean.drawing import draw

        return draw(self, kind)

    def __repr__(self) -> str:
        from zeromean.tables import as_text

        return as_text(self, _MAX_ROWS)

    def _repr_html_(self) -> str:
        from zeromean.tables import as_html

        return as_html(self, _MAX_ROWS)


def _plus(first: Any, second: Any) -> Any:
    return first + second


def _minus(first: Any, second: Any) -> Any:
    return first - second


def _both(first: Any, second: Any, combine: Any) -> Any:
    return None if first is None or second is None else combine(first, second)


def _power(exponent: int) -> tuple[int, int]:
    """2**exponent as (numerator, denominator)."""
    return (1 << exponent, 1) if exponent >= 0 else (1, 1 << -exponent)


def _said(value: Any) -> str:
    text = repr(str(value)) if isinstance(value, Pattern | str) else str(value)
    if isinstance(value, Units) and value.colors:
        text += f" (colors={value.colors!r})"
    return text if len(text) < 80 else text[:77] + "..."


def _decoder_note(first: Provenance, second: Provenance) -> str:
    if first.decoders and second.decoders and set(first.decoders) != set(second.decoders):
        mine, theirs = sorted(first.decoders), sorted(second.decoders)
        return f"parts were decoded by {', '.join(mine)} and by {', '.join(theirs)}"
    return ""
