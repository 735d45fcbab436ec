"""What folding did, and how far its result is from the model with the normalizer in front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import FormatError
from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
Bound = tuple[int, int]  # terms and digits, see `bound_of`
#: Of a model for normalized probes, of the folded one for raw probes, of the model for raw probes
#: where it takes them, and of the model for nudged probes.
Run = tuple[_Array, _Array, _Array | None, _Array]
_ALLOWED = 256.0  # how often the layers behind may repeat or amplify what the first one rounds
_LEAST = 4.0  # of which so many remain where nudging the input moves nothing
_TIMES = 4.0  # how much further than nudged inputs a folded model may be


@dataclass(frozen=True, slots=True)
class Folding:
    """A record of one fold.

    Attributes
    ----------
    recipe, pattern, units : str
        Of the normalizer that is in the weights now; units are those that the model takes.
    layer : str
        What it was folded into.
    layout : {"hwc", "chw"}
        "chw" when the model takes channels before height and width though the pattern has them
        last.
    border : {"none", "pad", "map"}
        How the zeros of a padding were kept: "none" where there were none to keep.
    pad_values : tuple of float
        The raw values that are padded with; empty unless `border` is "pad".
    expects : str
        What the folded model must be given: dtype, range, channel order and axes.
    difference : float or None
        The largest difference of any output on the probes; None when not verified.
    largest : float or None
        The largest output.
    bound : float or None
        What rounding explains; see `allowed`.
    verified : str
        By what, or why not.
    """

    recipe: str
    pattern: str
    units: str
    layer: str
    layout: str
    border: str
    pad_values: tuple[float, ...] = ()
    expects: str = ""
    difference: float | None = None
    largest: float | None = None
    bound: float | None = None
    verified: str = "not verified"

    @classmethod
    def of(cls, norm: Normalizer, layer: str, layout: str, border: str, pads: Any = ()) -> Folding:
        """Before it is verified."""
        units, pattern = str(norm.units), str(norm.pattern)
        values = tuple(float(v) for v in pads)
        return cls(norm.recipe, pattern, units, layer, layout, border, values)

    @property
    def lines(self) -> list[str]:
        """What a person must know, a sentence a line."""
        return [self.headline(), f"expects {self.expects}", self.sentence()]

    @property
    def fits(self) -> bool:
        """Whether rounding explains the difference; True when not verified."""
        return self.difference is None or self.bound is None or self.difference <= self.bound

    def sentence(self) -> str:
        """The figures in one line."""
        if self.difference is None or self.largest is None or self.bound is None:
            return self.verified
        share = self.difference / self.largest if self.largest else self.difference
        return (
            f"{self.verified}: outputs differ by at most {self.difference:.2g}, {share:.1g} of the "
            f"largest output {self.largest:.4g}; rounding explains up to {self.bound:.2g}"
        )

    def headline(self) -> str:
        """What was folded into what, in one line."""
        border = {
            "none": "no padding to mend",
            "pad": f"the border padded with {_few(self.pad_values)}, which normalized is 0",
            "map": "the border kept by a map of biases",
        }
        return f"{self.recipe} ({self.units}) is in {self.layer}; {border[self.border]}"

    def advice(self) -> str:
        """What may set results apart, and what to do."""
        return (
            "these numbers do not fit the digits of the weights (a shift far larger than the "
            "scale?); fold into a float64 model, or keep the normalizer in front"
        )

    def check(self) -> None:
        """Refuse a fold whose difference is more than rounding.

        Raises
        ------
        FormatError
        """
        if not self.fits:
            raise FormatError(
                f"folded into {self.layer}, the outputs differ by {self.difference:.3g} from those "
                f"of the normalized model, and rounding explains {self.bound:.3g} at most: "
                f"{self.advice()}"
            )

    def verified_by(self, what: str, runs: Sequence[Run], bound: Bound) -> Folding:
        """With the figures, if they can tell.

        Parameters
        ----------
        what : str
            Who ran the models.
        runs : sequence of Run
        bound : Bound
        """
        if not runs:
            return replace(self, verified="not verified: the model's outputs are no floats")
        difference, largest = compared((run[0], run[1]) for run in runs)
        most = allowed(largest, compared((run[0], run[3]) for run in runs)[0], bound)
        unnormalized = [(run[0], run[2]) for run in runs if run[2] is not None]
        if unnormalized and compared(unnormalized)[0] <= most and difference <= most:
            return replace(
                self,
                verified="not verified: the model gives the same for raw and for normalized probes",
            )
        return replace(self, verified=what, difference=difference, largest=largest, bound=most)


def _few(values: tuple[float, ...]) -> str:
    text = ", ".join(f"{v:.5g}" for v in values[:4])
    return text + (", ..." if len(values) > 4 else "")


def nudge_of(terms: int, digits: int) -> float:
    """How far, relative to its terms, a sum is off by rounding: √n u, for n terms.

    As a rule, that is (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., 2002,
    section 2.8), with u = 2^-24 for float32.

    Parameters
    ----------
    terms : int
        Products in one sum of the first layer.
    digits : int
        Of the dtype's significand: 24 for float32, and no more are asked of float64, behind which
        a model may go on in float32.

    Examples
    --------
    >>> nudge_of(144, 24) == 12 * 2**-24
    True
    """
    return math.sqrt(terms) * 2.0 ** -min(digits, 24)


def allowed(largest: float, moved: float, bound: Bound) -> float:
    """How much of a difference rounding explains.

    Both models round their first layer differently, by √n u of what it adds up, and the layers
    behind add to that and amplify it. By how much is seen where the model itself is run again, on
    raw values that were nudged by as much: four times what that moves the outputs is allowed, and
    never more than 256 √n u of the largest output, which would hide numbers that the weights
    cannot hold. A wrong fold is further off by orders: it moves outputs by per cents.

    Parameters
    ----------
    largest : float
        The largest output.
    moved : float
        How far nudged probes move any output.
    bound : Bound
        Terms and digits, see `nudge_of`.

    Examples
    --------
    >>> allowed(10.0, 2e-6, (144, 24))
    2.86...e-05
    >>> allowed(10.0, 1.0, (144, 24))
    0.00183...
    """
    rounding = nudge_of(*bound) * largest
    return min(_ALLOWED * rounding, max(_LEAST * rounding, _TIMES * moved))


def compared(pairs: Iterable[tuple[_Array, _Array]]) -> tuple[float, float]:
    """The largest difference and the largest output; infinite where only one is finite.

    Parameters
    ----------
    pairs : iterable of (ndarray, ndarray)
        Outputs of the normalized and of the folded model.
    """
    difference = largest = 0.0
    for expected, actual in pairs:
        expected, actual = expected.astype(np.float64), actual.astype(np.float64)
        same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
        if same.all() and not np.isfinite(expected).any():
            continue
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(expected - actual))
        difference = max(
            difference, float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max(initial=0.0))
        )
        sizes = np.abs(expected)[np.isfinite(expected)]
        largest = max(largest, float(sizes.max(initial=0.0)))
    return difference, largest
