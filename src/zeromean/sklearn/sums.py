"""`Sums`: what estimators of mean and variance keep; exact, so batches and merges cannot matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeromean.documents import Tensors, field, hex_list, to_hex
from zeromean.errors import FormatError, MergeError
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.profile_file import from_document, to_document
from zeromean.provenance import Units
from zeromean.sklearn.intake import coordinates, is_sparse, workers_for
from zeromean.sklearn.rounded import Totals, trimmed
from zeromean.statistics import Extrema, Moments, PowerSums, RunningMoments, WeightedMoments
from zeromean.statistics.formats import exact

_Array = npt.NDArray[Any]
_NAMES = {"f": "float32", "d": "float64"}
_PARTS = ("weights", "sums", "squares")


class InfiniteValueError(Exception):
    """The batch holds infinities; the state is as it was before."""


class Sums:
    """Running sums of float32 and of float64 batches, what was merged, and weighted sums.

    Attributes
    ----------
    n_features : int
    cache : dict
        Read-outs; emptied by `add`.
    """

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features
        self.cache: dict[Any, Any] = {}
        self._running: dict[str, RunningMoments] = {}
        self._held: Profile | None = None
        self._weighted: WeightedMoments | None = None

    # ------------------------------------------------------------ adding

    def add(self, X: Any, *, weight: _Array | None = None, known_finite: bool = True) -> None:
        """Add a batch.

        Parameters
        ----------
        X : ndarray of floats or sparse matrix, (n_samples, n_features)
        weight : ndarray of float64, (n_samples,), optional
        known_finite : bool

        Raises
        ------
        InfiniteValueError
            When infinities turn up that were not known of.
        """
        self.cache.clear()
        if weight is not None:
            more = self._weigh(X, weight)
            self._weighted = more if self._weighted is None else self._weighted + more
        elif is_sparse(X):
            values, _, columns = coordinates(X)
            self._for("float64").add_entries(values, columns, X.shape[0])
        else:
            X = X.astype(np.float32) if X.dtype == np.float16 else X
            running, workers = self._for(_NAMES[X.dtype.char]), workers_for(X.size)
            if known_finite:
                running.add(X, workers=workers)
            elif not running.add_finite(X, workers=workers):
                raise InfiniteValueError

    def _for(self, dtype: str) -> RunningMoments:
        if dtype not in self._running:
            self._running[dtype] = RunningMoments(self.n_features, dtype)
        return self._running[dtype]

    def _weigh(self, X: Any, weight: _Array) -> WeightedMoments:
        if is_sparse(X):
            return WeightedMoments.of_entries(*coordinates(X), weight, self.n_features)
        return WeightedMoments.of(X, weight)

    # ------------------------------------------------------------ reading

    @property
    def is_weighted(self) -> bool:
        """Whether any batch came with weights."""
        return self._weighted is not None

    @property
    def totals(self) -> Totals:
        """All sums together."""
        if "totals" not in self.cache:
            self.cache["totals"] = self._totals()
        return self.cache["totals"]  # type: ignore[no-any-return]

    def _totals(self) -> Totals:
        if self._weighted is not None:
            rest = WeightedMoments.of_moments(self.moments())
            return Totals.of_weighted(self._weighted + rest)
        parts = [running.power_sums for running in self._running.values()]
        if self._held is not None:
            parts.append(trimmed(self._held.statistics.power_sums))
        return Totals.of(parts or [PowerSums(*_nothing(self.n_features), 0)])

    def moments(self) -> Moments:
        """What came without weights, as float64's exact moments."""
        total = Moments.empty(self.n_features, "float64")
        for running in self._running.values():
            total += Moments.of_running(running, "float64")
        held = None if self._held is None else self._held.statistics
        return total if held is None else total + held  # type: ignore[operator]

    def extrema(self) -> Extrema:
        """Smallest and largest value of what came without weights."""
        total = Extrema.empty(self.n_features)
        for running in self._running.values():
            total += running.extrema()
        held = None if self._held is None else self._held.known_extrema
        return total if held is None else total + held

    @property
    def extrema_exact(self) -> bool:
        """False after data was taken out: then the extrema are bounds."""
        return self._held is None or self._held.extrema_exact

    def profile(self, names: tuple[str, ...] = ()) -> Profile:
        """What came without weights, as a profile of float64 columns."""
        return Profile(
            pattern=Pattern.parse("n d -> d"),
            kept_shape=(self.n_features,),
            dtype="float64",
            units=Units.of("float64"),
            statistics=self.moments(),
            known_extrema=self.extrema(),
            extrema_exact=self.extrema_exact,
            feature_names=names,
        )

    # ------------------------------------------------------------ algebra

    def plus(self, other: Self) -> Self:
        """Both data sets together."""
        both = None if self._weighted is None else self._weighted
        if other._weighted is not None:
            both = other._weighted if both is None else both + other._weighted
        return self._of(self.profile() + other.profile(), both)

    def minus(self, other: Self) -> Self:
        """What is left when the other data is taken out.

        Raises
        ------
        MergeError
            When it was not all there.
        """
        left = self._weighted
        if other._weighted is not None:
            if left is None:
                raise MergeError("cannot take weighted data out of data without weights")
            left = left - other._weighted
        return self._of(self.profile() - other.profile(), left)

    def copy(self) -> Self:
        """The same, at rest: small, picklable, and not changed by further batches."""
        return self._of(self.profile(), self._weighted)

    def _of(self, profile: Profile, weighted: WeightedMoments | None) -> Self:
        made = type(self)(self.n_features)
        made._held, made._weighted = profile, weighted
        return made

    # ------------------------------------------------------------ files

    def to_fields(self, names: tuple[str, ...], *, tensors: bool) -> tuple[dict[str, Any], Tensors]:
        """As the fields of a profile's file, with the weighted sums beside them."""
        document, arrays = to_document(self.profile(names), tensors=tensors)
        document["weighted"] = None
        if self._weighted is not None:
            document["weighted"] = {k: to_hex(getattr(self._weighted, k)) for k in _PARTS}
        return document, arrays

    @classmethod
    def from_fields(cls, document: Mapping[str, Any], arrays: Tensors, n_features: int) -> Self:
        """From those fields, every one checked.

        Raises
        ------
        FormatError
        """
        profile = from_document({k: v for k, v in document.items() if k != "weighted"}, arrays)
        if profile.dtype != "float64" or profile.kept_shape != (n_features,):
            raise FormatError(f"holds no statistics of {n_features} float64 columns")
        weighted: Any = field(document, "weighted", (dict, type(None)))
        made = cls(n_features)
        made._held = profile
        if weighted is not None:
            lists = [
                hex_list(weighted.get(k), f"weighted.{k}", n_features, negative=True)
                for k in _PARTS
            ]
            made._weighted = WeightedMoments(*map(exact, lists))
        return made


def _nothing(n_features: int) -> tuple[Any, Any, Any]:
    zeros = np.zeros(n_features, np.int64)
    return zeros, zeros, zeros
