"""Groups with weights, combined exactly: what a weighted sampler would see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, reduce
from numbers import Rational, Real
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.pattern import Pattern
from zeromean.provenance import Units
from zeromean.readouts import HistogramReadout, Readouts
from zeromean.rounding import ratio
from zeromean.statistics import Histogram, PowerSums

if TYPE_CHECKING:
    from zeromean.profile import Profile

_Floats = npt.NDArray[np.float64]
_Any = npt.NDArray[Any]
_MAX_ROWS = 12
_NAMED = 8


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSums:
    """Σ w n, Σ w Σx and Σ w Σx² over groups, with whole numbers as weights; exact.

    Attributes
    ----------
    parts : tuple of (int, statistic)
        Weight of a group in units of 1 / `denominator`, and its `Histogram` or `Moments`.
    denominator : int
    """

    parts: tuple[tuple[int, Any], ...]
    denominator: int

    @property
    def power_sums(self) -> PowerSums:
        """Weighted; `n` holds Python integers."""
        held = [(weight, statistic.power_sums) for weight, statistic in self.parts]
        n, sums, squares = (
            reduce(add, (weight * getattr(s, name).astype(object) for weight, s in held))
            for name in ("n", "sums", "squares")
        )
        return PowerSums(n, sums, squares, held[0][1].exponent)

    @property
    def special(self) -> npt.NDArray[np.int64]:
        """Counts of NaN, +inf and -inf; not weighted."""
        total: npt.NDArray[np.int64] = sum(statistic.special for _, statistic in self.parts)
        return total

    @property
    def finite(self) -> tuple[_Any, _Any]:
        """Values of histogram bins in increasing order, and weighted counts, (n_features, bins)."""
        held = [(weight, *statistic.finite) for weight, statistic in self.parts]
        filled = reduce(np.logical_or, (counts.any(axis=0) for _, _, counts in held))
        weighted = (weight * counts[:, filled].astype(object) for weight, _, counts in held)
        return held[0][1][filled], reduce(add, weighted)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedCovariance:
    """The covariance of groups with weights: that within them, and that of their means.

    With p_g the share of a group's weighted samples, C = Σ p_g (C_g + (m_g - m)(m_g - m)ᵀ). Each
    C_g and m_g is rounded once; the sum is not exact.

    Attributes
    ----------
    parts : tuple of (int, Covariance)
        Weight of a group in units of 1 / `denominator`.
    denominator : int
    """

    parts: tuple[tuple[int, Any], ...]
    denominator: int

    @property
    def n(self) -> float:
        """Σ weight x rows that were taken."""
        return ratio(sum(weight * c.n for weight, c in self.parts), self.denominator)

    @property
    def left_out(self) -> int:
        """Rows with a NaN or an infinity in any feature, not weighted."""
        return sum(c.left_out for _, c in self.parts)

    def _shares(self) -> list[tuple[float, Any]]:
        total = sum(weight * c.n for weight, c in self.parts)
        return [(ratio(weight * c.n, total), c) for weight, c in self.parts if c.n]

    def means(self) -> _Floats:
        """Weighted mean of every feature."""
        total: _Floats = sum(share * c.means() for share, c in self._shares())
        return total

    def matrix(self, ddof: int = 0) -> _Floats:
        """The covariance matrix, (n_features, n_features).

        Raises
        ------
        PatternError
            For a ddof other than 0.
        """
        _check_ddof(ddof)
        center = self.means()
        size = len(center)
        total = np.zeros((size, size))
        for share, c in self._shares():
            away = c.means() - center
            total += share * (c.matrix() + np.outer(away, away))
        return total

    @property
    def error_bound(self) -> float:
        """Of an entry, in units of √(cᵢᵢ cⱼⱼ), while |mean| / std is small against 1e12."""
        largest: float = max(c.error_bound for _, c in self.parts)
        return largest + (len(self.parts) + 8) * 2.0**-52


@dataclass(frozen=True, eq=False)
class WeightedProfile(Readouts):
    """What `zeromean.GroupedProfile.reweight` gives: read-outs with a weight for each group.

    Every sample of a group counts as often as the group's weight says. For whole weights these are
    the numbers of the data with each group repeated that often. Weights are exact rationals, so
    each read-out is rounded once. It can be read and given to recipes; it neither adds nor saves.

    Attributes
    ----------
    pattern : Pattern
    kept_shape : tuple of int
    dtype : str
    units : Units
    statistics : WeightedSums
    known_extrema : Extrema
        Of the groups with a weight above 0.
    extrema_exact : bool
    feature_names : tuple of str
    weights : mapping of str to Fraction
    covariance : WeightedCovariance or None
    items_stds, buckets : None
        Are not weighted.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.array([[0.0], [0.0], [0.0], [10.0]])
    >>> by_site = zm.measure(x, by=["a", "a", "a", "b"])
    >>> by_site.total.mean, by_site.reweight("balanced").mean
    (array([2.5]), array([5.]))
    """

    pattern: Pattern
    kept_shape: tuple[int, ...]
    dtype: str
    units: Units
    statistics: WeightedSums
    known_extrema: Any
    extrema_exact: bool = True
    feature_names: tuple[str, ...] = ()
    weights: Mapping[str, Fraction] = field(default_factory=dict)

    covariance: Any = None
    items_stds: None = None
    buckets: None = None

    @cached_property
    def count(self) -> _Floats:  # type: ignore[override]
        """Σ weight x number of finite values; float64 of the kept shape."""
        unit = self.statistics.denominator
        return self._shaped([ratio(n, unit) for n in self._sums.n])  # type: ignore[no-any-return]

    def var(self, ddof: int = 0) -> _Floats:
        """Variance of the weighted data, correctly rounded.

        Parameters
        ----------
        ddof : int
            Only 0.

        Returns
        -------
        ndarray of float64, kept shape

        Raises
        ------
        PatternError
            For another ddof.
        """
        _check_ddof(ddof)
        return super().var(0)

    def sample_std(self, ddof: int = 1) -> _Floats:
        """The std, as `var`.

        Parameters
        ----------
        ddof : int
            Only 0.

        Returns
        -------
        ndarray of float64, kept shape

        Raises
        ------
        PatternError
            For another ddof.
        """
        _check_ddof(ddof)
        return self.std

    @property
    def histogram(self) -> HistogramReadout:
        """Every value, and the weight with which it occurs; float64, rounded once.

        Raises
        ------
        PatternError
            For formats and patterns that are summed instead of counted.
        """
        values, weights = self._counted("histogram")
        unit = self.statistics.denominator
        rows = np.array([[ratio(w, unit) for w in row] for row in weights])
        shaped: Any = rows.reshape(*self.kept_shape, len(values))
        return HistogramReadout(values, shaped)

    def quantile(self, q: float | Sequence[float]) -> _Floats:
        """The smallest value below or at which lies at least the share q of the weight.

        The inverse of the distribution function, definition 1 of Hyndman and Fan (1996) and
        NumPy's ``method="inverted_cdf"``: unlike an interpolated quantile it does not change when
        all weights are doubled.

        Parameters
        ----------
        q : float or sequence of float
            Between 0 and 1.

        Returns
        -------
        ndarray of float64, shape of q + kept shape

        Raises
        ------
        PatternError
            For summed formats.
        """
        values, weights = self._counted("quantile")
        wanted = np.asarray(q, np.float64)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise PatternError(f"quantiles lie between 0 and 1, not {q!r}")
        rows = [[_inverse(values, row, p) for row in weights] for p in wanted.ravel().tolist()]
        return np.array(rows, np.float64).reshape(*wanted.shape, *self.kept_shape)[()]

    def quantile_bounds(self, q: float | Sequence[float]) -> tuple[_Floats, _Floats]:
        """The quantile twice; see `quantile`.

        Parameters
        ----------
        q : float or sequence of float

        Returns
        -------
        tuple of two ndarrays of float64
        """
        value = self.quantile(q)
        return value, value

    def _counted(self, what: str) -> tuple[_Any, _Any]:
        if not all(isinstance(statistic, Histogram) for _, statistic in self.statistics.parts):
            raise PatternError(
                f"{self.dtype} data is summed, not counted, so there is no weighted {what}; 8- and "
                "16-bit data per channel has one"
            )
        return self.statistics.finite

    def __eq__(self, other: object) -> bool:
        """Same pattern, shape, dtype, units and names, and the same weighted sums."""
        if not isinstance(other, WeightedProfile):
            return NotImplemented
        names = ("pattern", "kept_shape", "dtype", "units", "feature_names")
        mine, theirs = self.statistics.denominator, other.statistics.denominator
        return all(getattr(self, n) == getattr(other, n) for n in names) and all(
            (getattr(self._sums, n) * theirs).tolist() == (getattr(other._sums, n) * mine).tolist()
            for n in ("n", "sums", "squares")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        from zeromean.tables import aligned, format_text, rows

        heads, body, left = rows(self, _MAX_ROWS)  # type: ignore[arg-type]
        units = "" if str(self.units) == "unknown units" else f" ({self.units})"
        lines = [f'WeightedProfile("{self.pattern}", {format_text(self.dtype)}{units})']
        lines += aligned([heads, *body])
        lines += [f"  ... and {left:,} more"] if left else []
        shown = [f"{name} {float(w):.6g}" for name, w in list(self.weights.items())[:_NAMED]]
        more = ", ..." if len(self.weights) > _NAMED else ""
        return "\n".join([*lines, f"  weights: {', '.join(shown)}{more}"])


def reweighted(groups: Mapping[str, Profile], weights: Any) -> WeightedProfile:
    """Combine profiles of groups, every sample counted as often as its group's weight says.

    Parameters
    ----------
    groups : mapping of str to Profile
        Not empty, and all alike.
    weights : mapping of str to number, or "balanced"

    Raises
    ------
    PatternError
        For names and weights that make no sense, by name.
    """
    exact = balanced(groups) if isinstance(weights, str) and weights == "balanced" else None
    exact = _checked(groups, weights) if exact is None else exact
    unit = math.lcm(*(weight.denominator for weight in exact.values()))
    held = {name: int(weight * unit) for name, weight in exact.items() if weight}
    like = next(iter(groups.values()))
    return WeightedProfile(
        pattern=like.pattern,
        kept_shape=like.kept_shape,
        dtype=like.dtype,
        units=like.units,
        statistics=WeightedSums(
            tuple((weight, groups[name].statistics) for name, weight in held.items()), unit
        ),
        known_extrema=reduce(add, (groups[name].extrema for name in held)),
        extrema_exact=all(groups[name].extrema_exact for name in held),
        feature_names=like.feature_names,
        weights=exact,
        covariance=_covariance(groups, held, unit),
    )


def _covariance(
    groups: Mapping[str, Profile], held: Mapping[str, int], unit: int
) -> WeightedCovariance | None:
    parts = [(weight, groups[name].covariance) for name, weight in held.items()]
    if any(covariance is None for _, covariance in parts):
        return None
    return WeightedCovariance(tuple(parts), unit)


def balanced(groups: Mapping[str, Profile]) -> dict[str, Fraction]:
    """n / (k n_g) for each of k groups with n_g items: as scikit-learn's class weights.

    ``sklearn.utils.class_weight.compute_class_weight("balanced", ...)``, after Gary King and
    Langche Zeng, *Logistic Regression in Rare Events Data*, Political Analysis 9(2), 2001.

    Raises
    ------
    PatternError
        When it is not known how many items a group has.
    """
    items = {name: profile.provenance.items for name, profile in groups.items()}
    unknown = [name for name, n in items.items() if n < 1]
    if unknown:
        raise PatternError(
            f"balanced weights need the number of items of {_few(unknown)}, which is not known; "
            "give the weights themselves"
        )
    total, k = sum(items.values()), len(items)
    return {name: Fraction(total, k * n) for name, n in items.items()}


def _checked(groups: Mapping[str, Profile], weights: Any) -> dict[str, Fraction]:
    """Weights as exact numbers, one for each group."""
    if not isinstance(weights, Mapping):
        raise PatternError(
            f"weights are {weights!r:.60}; give 'balanced', or a weight for each group such as "
            f"{{{next(iter(groups))!r}: 2.0, ...}}"
        )
    given = {name if isinstance(name, str) else str(name): w for name, w in weights.items()}
    unknown = [name for name in given if name not in groups]
    if unknown:
        raise PatternError(f"there is no group {_few(unknown)}; there are {_few(list(groups))}")
    missing = [name for name in groups if name not in given]
    if missing:
        raise PatternError(
            f"no weight for {_few(missing)}; give one for every group, 0 to leave it out"
        )
    exact = {name: _weight(name, given[name]) for name in groups}
    if not any(exact.values()):
        raise PatternError("all weights are 0, so nothing is left to combine")
    return exact


def _weight(name: str, weight: Any) -> Fraction:
    known = isinstance(weight, Real) and not isinstance(weight, bool | np.bool_)
    if not known or not (isinstance(weight, Rational) or math.isfinite(weight)) or weight < 0:
        raise PatternError(
            f"the weight of {name!r} is {weight!r:.60}; a weight is a finite number, 0 or more"
        )
    return Fraction(weight) if isinstance(weight, Rational) else Fraction(float(weight))


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown + (f", ... ({len(names)} in all)" if len(names) > _NAMED else "")


def _check_ddof(ddof: int) -> None:
    if ddof != 0:
        raise PatternError(
            f"ddof is {ddof!r}, but weights are shares and no counts of independent samples, so "
            "there is no n - ddof to divide by; use ddof=0"
        )


def _inverse(values: _Any, weights: _Any, q: float) -> float:
    """Smallest value with weight whose cumulated share reaches q."""
    cumulated = np.cumsum(weights)
    total = cumulated[-1] if len(cumulated) else 0
    if not total:
        return math.nan
    top, bottom = q.as_integer_ratio()
    need = max(1, -(-top * total // bottom))  # a whole number, rounded up
    return float(values[int(np.searchsorted(cumulated, need, side="left"))])
