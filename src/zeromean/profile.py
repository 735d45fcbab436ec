"""What one pass leaves behind: adds, subtracts, reads out, saves, loads."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from zeromean import profile_file
from zeromean.documents import save
from zeromean.errors import MergeError
from zeromean.estimates import Estimate
from zeromean.pattern import Pattern
from zeromean.provenance import Provenance, Units
from zeromean.readouts import Readouts
from zeromean.statistics import Columns, Covariance, Extrema, Histogram, ItemStds, Moments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Any = npt.NDArray[Any]
_MAX_ROWS = 12


@dataclass(frozen=True, eq=False)
class Profile(Readouts):
    """Exact statistics of one data set; adds, subtracts, reads out, saves.

    Made by `zeromean.measure` or `zeromean.load`; profiles of parts add up to the profile of
    the whole, bit for bit, in any order.

    Attributes
    ----------
    pattern : Pattern
    kept_shape : tuple of int
        Shape of every read-out.
    dtype : str
        Of the raw data; where the columns of a table differ, theirs in order, with commas between.
    units : Units
        Range, channel order and color handling of the raw data.
    statistics : Histogram, Moments or Columns
        The exact state; of a table whose columns have several dtypes, one for each dtype.
    items_stds : ItemStds or None
        Per-item spread, for 8- and 16-bit pictures.
    buckets : Histogram or None
        Of bfloat16-truncated floats, when measured with ``quantiles=True``.
    covariance : Covariance or None
        Of all pairs of features, when measured with ``covariance=True``.
    known_extrema : Extrema or None
        For summed formats; a histogram knows its own.
    extrema_exact : bool
        False after a subtraction of float profiles: then min and max are bounds.
    feature_names : tuple of str
    provenance : Provenance
    estimate : Estimate or None
        How well mean and std are known, when only a random sample of the files was measured
        (``within=``); then min, max and all else are those of the sample. None where all was
        measured: the numbers are exact. Not compared by ``==``.
    before : Profile or None
        Of the same data before it went through ``transform=``. Adds and subtracts along; neither
        compared nor saved.

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
    statistics: Histogram | Moments | Columns
    items_stds: ItemStds | None = None
    buckets: Histogram | None = None
    known_extrema: Extrema | None = None
    extrema_exact: bool = True
    feature_names: tuple[str, ...] = ()
    covariance: Covariance | None = None
    provenance: Provenance = field(default_factory=Provenance)
    estimate: Estimate | None = None
    before: Profile | None = None

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
            covariance=_both(self.covariance, other.covariance, combine),
            known_extrema=extrema,
            extrema_exact=self.extrema_exact and other.extrema_exact,
            provenance=provenance,
            before=_befores(self.before, other.before, combine),
        )

    def _check_like(self, other: object, verb: str) -> None:
        if not isinstance(other, Profile):
            raise MergeError(f"cannot {verb} a profile and {type(other).__name__}")
        for profile in (self, other):
            if profile.estimate is not None:
                raise MergeError(
                    f"cannot {verb} an {profile.estimate.short}; measure all files, without "
                    "within=, for a profile that adds (with the same ledger only the rest is read)"
                )
        for name in ("pattern", "kept_shape", "dtype", "units", "feature_names"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                cure = ""
                if _reordered(self.feature_names, other.feature_names):
                    raise MergeError(
                        f"cannot {verb} profiles whose columns are the same, but in another order: "
                        f"{_said(self.feature_names)} and {_said(other.feature_names)}; select "
                        "them in one order and measure again"
                    )
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
        if (self.covariance is None) != (other.covariance is None):
            raise MergeError(
                f"cannot {verb} profiles of which one was measured with covariance=True and one "
                "without; dataclasses.replace(profile, covariance=None) drops it"
            )

    def __eq__(self, other: object) -> bool:
        """Same pattern, shape, dtype, names, units, counts and sums; provenance may differ."""
        if not isinstance(other, Profile):
            return NotImplemented
        names = ("pattern", "kept_shape", "dtype", "units", "feature_names", "statistics")
        more = ("items_stds", "buckets", "covariance")
        return all(getattr(self, n) == getattr(other, n) for n in (*names, *more))

    __hash__ = None  # type: ignore[assignment]

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


def _befores(first: Profile | None, second: Profile | None, combine: Any) -> Profile | None:
    """Of the data before a transform; None where it has no common profile."""
    try:
        combined: Profile | None = _both(first, second, combine)
    except MergeError:
        return None
    return combined


def _reordered(mine: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    return mine != theirs and sorted(mine) == sorted(theirs)


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
