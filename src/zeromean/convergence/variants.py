"""The ways to prepare the same data: what is subtracted, and what it is divided by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BASE, CONTROL = "original", "sign_flipped"


@dataclass(frozen=True)
class Variant:
    """(x − shift) / scale, entry by entry.

    Attributes
    ----------
    key : str
        As in `zeromean.convergence.results`.
    label : str
        Its one name, in tables, figures and on the page. What is not said to be divided by
        something else is divided by s, the standard deviation of all values.
    shift, scale : ndarray, (d,)
    trained : bool
        False when only its eigenvalue is reported.
    """

    key: str
    label: str
    shift: Floats
    scale: Floats
    trained: bool = True

    def of(self, x: Floats) -> npt.NDArray[np.float32]:
        """The samples as a network sees them, (n, d)."""
        return ((x - self.shift) / self.scale).astype(np.float32)


def variants_of(x: Floats, shape: tuple[int, ...], top: float | None) -> tuple[Variant, ...]:
    """Every variant that makes sense for these samples, the base first.

    Parameters
    ----------
    x : ndarray, (n, d)
    shape : tuple of int
        Of one sample: (h, w, c), or (d,).
    top : float or None
        Largest value of the dtype, for pictures of integers.

    Returns
    -------
    tuple of Variant
    """
    s = np.full(x.shape[1], x.std())
    zero, each, std = np.zeros_like(s), x.mean(axis=0), x.std(axis=0)
    spread = np.where(std > 0, std, 1.0)
    one = np.full_like(s, x.mean())
    made = [Variant(BASE, "original", zero, s)]
    if len(shape) == 1:
        made += [
            Variant("zero_mean", "zero-mean, one mean", one, s, trained=False),
            Variant("zero_mean_column", "zero-mean, column means", each, s),
            Variant("scaled", "each column ÷ its std, not centered", zero, spread),
            Variant("standardized", "zero-mean, column means, each column ÷ its std", each, spread),
        ]
    else:
        made += _of_pictures(x, shape, top, one, each, spread)
    signs = np.where(np.random.default_rng(0).permutation(len(s)) < len(s) // 2, -1.0, 1.0)
    return (*made, Variant(CONTROL, "half the inputs negated (A/A control)", zero, s * signs))


def _of_pictures(
    x: Floats, shape: tuple[int, ...], top: float | None, one: Floats, each: Floats, spread: Floats
) -> list[Variant]:
    s = np.full_like(one, x.std())
    channels = np.tile(x.reshape(-1, shape[-1]).mean(axis=0), shape[0] * shape[1])
    made = [Variant("zero_mean", "zero-mean, one mean", one, s)]
    if shape[-1] > 1:
        made.append(Variant("zero_mean_channel", "zero-mean, channel means", channels, s, False))
    made += [
        Variant("zero_mean_pixel", "zero-mean, mean picture", each, s),
        Variant("standardized", "zero-mean, mean picture, each pixel ÷ its std", each, spread),
    ]
    largest, zero = float(x.max()) if top is None else top, np.zeros_like(s)
    if x.min() >= 0:
        half = 128.0 if top == 255 else largest / 2
        top_scale = np.full_like(s, largest)
        made += [
            Variant("minus_128", f"minus {half:g}", np.full_like(s, half), s),
            Variant("original_255", f"original ÷ {largest:g} (scale control)", zero, top_scale),
        ]
    return made
