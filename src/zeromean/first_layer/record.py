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
#: What axes of any length are tried with, one after the other, until a model takes them.
SIZES = (32, 224, 28, 64, 96, 128, 16, 8, 299, 256, 384, 512)
MOST_PROBED = 1 << 22  # numbers in one raw input that is only tried
_ALLOWED = 256.0  # how often the layers behind may repeat or amplify what the first one rounds


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
    difference : float or None
        The largest difference of any output on the probes; None when not verified.
    largest : float or None
        The largest output.
    bound : float or None
        What rounding explains; see `bound_of`.
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

    def verified_by(
        self, what: str, runs: Sequence[tuple[_Array, _Array, _Array | None]], bound: Bound
    ) -> Folding:
        """With the figures, if they can tell.

        Parameters
        ----------
        what : str
            Who ran the models.
        runs : sequence of (ndarray, ndarray, ndarray or None)
            Outputs of the model for normalized probes, of the folded one for raw probes, and of
            the model for raw probes, where it takes them.
        bound : Bound
        """
        if not runs:
            return replace(self, verified="not verified: the model's outputs are no floats")
        difference, largest = compared((a, b) for a, b, _ in runs)
        allowed = bound_of(largest, *bound)
        unnormalized = [(a, c) for a, _, c in runs if c is not None]
        if unnormalized and compared(unnormalized)[0] <= allowed and difference <= allowed:
            return replace(
                self,
                verified="not verified: the model gives the same for raw and for normalized probes",
            )
        return replace(self, verified=what, difference=difference, largest=largest, bound=allowed)


def _few(values: tuple[float, ...]) -> str:
    text = ", ".join(f"{v:.5g}" for v in values[:4])
    return text + (", ..." if len(values) > 4 else "")


def bound_of(largest: float, terms: int, digits: int) -> float:
    """How much of a difference rounding explains.

    Both models round their first layer differently. The rounding errors of a sum of n products
    grow like √n u of its size as a rule (Higham, *Accuracy and Stability of Numerical Algorithms*,
    2nd ed., 2002, section 2.8), where u = 2^-24 for float32. The layers behind may add
    to that and amplify it; 256 times as much is allowed for. A wrong fold is further off by
    orders: it moves outputs by per cents.

    Parameters
    ----------
    largest : float
        The largest output.
    terms : int
        Products in one sum of the first layer.
    digits : int
        Of the dtype's significand: 24 for float32, and no more are asked of float64.

    Examples
    --------
    >>> round(bound_of(10.0, 147, 24), 5)
    0.00185
    """
    return _ALLOWED * math.sqrt(terms) * 2.0 ** -min(digits, 24) * largest


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


@dataclass(frozen=True, slots=True)
class Probes:
    """Raw inputs in a normalizer's range, its ends included.

    Attributes
    ----------
    raw : ndarray of float64, (n, ...)
        In the axes of the model.
    measured : ndarray of float64, (n, ...)
        The same in the axes of the pattern.
    """

    raw: _Array
    measured: _Array

    @classmethod
    def of(cls, norm: Normalizer, shape: tuple[int, ...], layout: str, count: int = 4) -> Probes:
        """Random values, and one probe each of the lowest, the highest and both in turn.

        Parameters
        ----------
        norm : Normalizer
        shape : tuple of int
            Of the model's input; its first axis is not looked at.
        layout : {"hwc", "chw"}
        count : int
            Of random probes.
        """
        rng = np.random.default_rng(20)
        size = (count + 3, *shape[1:])
        measured = (*size[:-3], *size[-2:], size[-3]) if layout == "chw" else size
        values = _in_range(norm, rng, measured)
        return cls(np.moveaxis(values, -1, -3) if layout == "chw" else values, values)

    def normalized(self, norm: Normalizer, dtype: Any, layout: str) -> _Array:
        """What the model took before, in its axes."""
        exact: _Array = norm(self.measured, dtype=dtype)
        moved: _Array = np.moveaxis(exact, -1, -3) if layout == "chw" else exact
        return moved


def _in_range(norm: Normalizer, rng: np.random.Generator, shape: tuple[int, ...]) -> _Array:
    if norm.units.range is None:
        return _around(norm, rng, shape)
    low, high = norm.units.range
    values = rng.uniform(low, high, shape)
    if not norm.dtype.startswith(("float", "bfloat")):
        values = np.rint(values)
    values[-3], values[-2] = low, high
    values[-1] = np.where(np.indices(shape[1:]).sum(axis=0) % 2, low, high)
    return values


def _around(norm: Normalizer, rng: np.random.Generator, shape: tuple[int, ...]) -> _Array:
    """Values that become normal noise, where no range is known."""
    reduced = norm.matrix is not None and norm.matrix.shape[0] != norm.matrix.shape[1]
    if reduced:
        spread: _Array = norm.pattern.spread(norm.shift, shape)
        noise = rng.normal(size=shape) * float(np.abs(norm.shift).max(initial=1.0))
        return np.add(spread, noise)
    values: _Array = norm.invert(3 * rng.normal(size=shape), dtype="float64")
    return np.rint(values) if norm.dtype.startswith(("int", "uint")) else values
