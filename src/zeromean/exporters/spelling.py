"""Numbers and comments as source code spells them, with the digits that give the same float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean import __version__
from zeromean.errors import PatternError
from zeromean.estimates import said_of

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

#: A thousand numbers fill a screen of code; a mean image of 224 x 224 x 3 is a 3 MB source file.
MOST_NUMBERS = 200_000


def banner(norm: Normalizer, name: str) -> str:
    """Which numbers these are, in a line that fits any comment."""
    said = f" of {' '.join(name.split())}" if name else ""
    recipe = norm.recipe.replace("_", " ")
    what = f"Input normalization ({recipe}, pattern '{norm.pattern}')"
    estimate = f", {found}" if (found := said_of(norm.details)) else ""
    text = f"{what}{said}{estimate}; by zeromean {__version__}."
    return text.replace("*/", "* /").replace('"', "'").replace("\\", "/")


def nested(values: Any) -> str:
    """Nested lists of numbers, as Python and JavaScript write them.

    Examples
    --------
    >>> import numpy as np
    >>> nested(np.array([[0.1, 2.0], [3.0, 1e-9]]))
    '[[0.1, 2.0], [3.0, 1e-09]]'
    """
    return repr(np.asarray(values, np.float64).tolist())


def flat(values: Any, per_line: int = 4, indent: str = "    ") -> str:
    """Numbers between commas, a few on each line."""
    numbers = [repr(v) for v in np.asarray(values, np.float64).ravel().tolist()]
    rows = [", ".join(numbers[i : i + per_line]) for i in range(0, len(numbers), per_line)]
    return (",\n" + indent).join(rows)


def check_size(norm: Normalizer, title: str, most: int = MOST_NUMBERS) -> None:
    """Refuse numbers that no source file should hold.

    Raises
    ------
    PatternError
    """
    count = norm.shift.size if norm.matrix is None else norm.matrix.size
    if count > most:
        raise PatternError(
            f"{title} would hold {count:,} numbers; more than {most:,} belong in a file that is "
            "loaded: export to onnx or torch, or save the normalizer as .safetensors"
        )
