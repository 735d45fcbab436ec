"""Source code as a target: written for the layout and channel order that it will be fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.exporters.feeding import Fed, turned
from zeromean.exporters.targets import Order

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Code(Fed):
    """A normalizer as source code.

    Attributes
    ----------
    held : Normalizer
        For the data as the code is fed them.
    """

    held: Normalizer


def coded(
    norm: Normalizer,
    title: str,
    order: Order,
    write: Callable[[Normalizer], tuple[str, str, str]],
) -> Code:
    """Source code of a normalizer, for data in the order that was asked for.

    Parameters
    ----------
    norm : Normalizer
    title : str
    order : Order
    write : callable
        Of a normalizer: text, what it expects, what it gives.
    """
    held, own, layout, places = turned(norm, title, order)
    text, expects, gives = write(held)
    return Code(
        text.encode(), None, expects, gives, norm, own=own, layout=layout, places=places, held=held
    )


def run_code(made: Any, x: _Array, run: Callable[[bytes, Normalizer, _Array], _Array]) -> _Array:
    """Feed data to code, in its order, and put the answers back."""
    fed = np.ascontiguousarray(made.there(x))
    return np.asarray(made.back(run(made.content, made.held, fed)))
