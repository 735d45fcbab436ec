"""What a foreign file says, in its own units, and what it leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import FormatError

_Floats = npt.NDArray[np.float64]
#: Arrays of `fractions.Fraction`: nothing is rounded before the end.
Exact = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Found:
    """y = (x / unit - shift) / scale + offset, or y = (x / unit - shift) matrixᵀ.

    Attributes
    ----------
    title : str
        What the format is called, for messages.
    place : str
        The file or the object, for messages.
    shift, scale, offset : ndarray of Fraction, kept shape
        In the units of the file.
    matrix : ndarray of float64, (n_out, n_features), or None
    unit : Fraction or None
        How many raw units one unit of the file is; None if it is the top of the raw range, so that
        the numbers are those of 0..1 data.
    top : float or None
        Of the data that the numbers are for, in their units, where the format says it: no mean and
        no std can be larger.
    pattern : str
    range : pair or None
        Of the raw data, where the format leaves no choice.
    usual_range : pair or None
        Where it says what raw data usually is; the user may say something else.
    asks_range : str
        The half sentence that says why the range must be told; empty if it need not be.
    channels : str or None
        None where it must be told.
    feeds_them : bool
        Whether the system decodes pictures to these channels itself, so that nobody can say another
        order.
    dtype : str
        Of the raw data; empty where the range says it.
    recipe : str
    feature_names : tuple of str
    document : object or None
        Ours, if it stands in the file.
    precision : {"float64", "float32"}
        What the file keeps its numbers in.
    details : mapping of str to float
    """

    title: str
    place: str
    shift: Exact
    scale: Exact
    pattern: str
    offset: Exact | None = None
    matrix: _Floats | None = None
    unit: Fraction | None = Fraction(1)
    top: float | None = None
    range: tuple[float, float] | None = None
    usual_range: tuple[float, float] | None = None
    asks_range: str = ""
    channels: str | None = ""
    feeds_them: bool = False
    dtype: str = ""
    recipe: str = "standardize"
    feature_names: tuple[str, ...] = ()
    document: Any = None
    precision: str = "float64"
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("shift", "scale", "offset"):  # NumPy makes scalars of arrays without axes
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), object))


# ---------------------------------------------------------------- reading numbers


def exact(value: Any, name: str, place: str) -> Exact:
    """Numbers of any kind, as exact fractions in the same shape.

    Raises
    ------
    FormatError
        For text, ragged lists, NaN and infinities, and nothing at all; names field and entry.
    """
    try:
        array = np.asarray(plain(value))
    except ValueError:  # ragged
        array = np.array(None)
    if array.dtype.kind not in "fiu" or array.size == 0:
        raise FormatError(
            f"{place}: {name!r} must hold numbers, not {value!r:.60}; write them into the file, or "
            "measure the data with `zeromean measure`"
        )
    wrong = np.flatnonzero(~np.isfinite(array.ravel()))
    if len(wrong):
        raise FormatError(
            f"{place}: {name!r} holds {array.ravel()[wrong[0]]} at place {wrong[0]}, so the data "
            "it was measured on had NaN, infinities or nothing there: measure them again with "
            "`zeromean measure`, which leaves these out"
        )
    return fractions(array)


def plain(value: Any) -> Any:
    """A tensor of any library as a NumPy array; lists and numbers as they are."""
    for step in ("detach", "cpu", "numpy"):
        if hasattr(value, step):
            value = getattr(value, step)()
    return value


def fractions(array: npt.NDArray[Any]) -> Exact:
    made = np.empty(array.shape, object)
    made[...] = np.reshape([Fraction(v) for v in array.ravel().tolist()], array.shape)
    return made


def pair(mean: Any, std: Any, names: tuple[str, str], place: str) -> tuple[Exact, Exact]:
    """Mean and std of equal length; one number may stand for all.

    Raises
    ------
    FormatError
        When they differ in length, or a std is not positive.
    """
    shift, scale = exact(mean, names[0], place), exact(std, names[1], place)
    if shift.shape != scale.shape and shift.ndim and scale.ndim:
        raise FormatError(
            f"{place}: {names[0]!r} holds {shift.size} numbers and {names[1]!r} {scale.size}; they "
            "must be one for each channel: mend the file where it was made"
        )
    check_positive(scale, names[1], place)
    shift, scale = np.broadcast_arrays(shift, scale)
    return shift, scale


def check_positive(scale: Exact, name: str, place: str) -> None:
    """Refuse to divide by nothing.

    Raises
    ------
    FormatError
    """
    for i, value in enumerate(scale.ravel().tolist()):
        if value <= 0:
            what = "a constant feature" if value == 0 else "no spread of any data"
            raise FormatError(
                f"{place}: {name!r} holds {float(value):g} at place {i}, which is {what} and "
                "cannot be divided by: write 1 there to leave it as it is, or measure again"
            )


def inverse(factor: Any, name: str, place: str) -> Fraction:
    """1 / factor, where a float that is next to 1/255 or 2/255 means just that.

    Raises
    ------
    FormatError
        When it is not a positive number.

    Examples
    --------
    >>> inverse(1 / 255, "rescale_factor", "x"), inverse(1 / 127.5, "rescale_factor", "x")
    (Fraction(255, 1), Fraction(255, 2))
    >>> float(inverse(0.3, "rescale_factor", "x"))
    3.3333333333333335
    """
    value = exact(factor, name, place)
    if value.size != 1 or value.item() <= 0:
        raise FormatError(
            f"{place}: {name!r} must be one positive number such as 1/255, not {factor!r:.40}"
        )
    number = float(value.item())
    meant = Fraction(1 / number).limit_denominator(10)
    if meant and float(1 / meant) == number:
        return meant
    return 1 / Fraction(value.item())


def channels_of(count: int, order: str) -> str | None:
    """What the channels are where a format has an order for three: None if it must be asked."""
    return {1: "", len(order): order}.get(count)


def said(config: Mapping[str, Any], name: str, place: str) -> Any:
    """A field that must be there.

    Raises
    ------
    FormatError
    """
    if name not in config or config[name] is None:
        raise FormatError(f"{place}: lacks the field {name!r}")
    return config[name]


def which(names: list[str], key: str | None, what: str, place: str) -> str:
    """The sentence that asks which of several is meant."""
    few = ", ".join(name or "(without a name)" for name in names[:12])
    few += ", ..." if len(names) > 12 else ""
    if not names:
        return f"{place}: holds no {what} with numbers to normalize by; is this the right file?"
    if key is None:
        return f"{place}: holds several {what}; say which, key= (--key): {few}"
    return f"{place}: holds no {key!r} among its {what}, which are: {few}"
