"""NumPy code: one file that needs NumPy alone.

The function computes in float64 and rounds once, so it is within one unit in the last place of
float32 (whitening, a sum of products, too).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.exporters.forms import broadcastable, expected
from zeromean.exporters.sources import coded, run_code
from zeromean.exporters.spelling import banner, check_size, nested
from zeromean.exporters.targets import Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_TITLE = "NumPy code"


def _make(norm: Normalizer, order: Order) -> Made:
    check_size(norm, _TITLE)
    return coded(norm, _TITLE, order, lambda held: _written(held, order.name))


def _written(norm: Normalizer, name: str) -> tuple[str, str, str]:
    """The file, what it expects and what it gives."""
    expects = expected(norm)
    shape = broadcastable(norm, _TITLE)
    lines = [
        f'"""{banner(norm, name)}',
        "",
        f"Expects {expects}.",
        '"""',
        "",
        "import numpy as np",
        "",
        f"SHIFT = {_array(norm.shift, shape)}",
    ]
    lines += _mixed(norm) if norm.matrix is not None else _plain(norm, shape)
    text = "\n".join(lines) + "\n"
    gives = "float32, the same axes"
    if norm.matrix is not None and len(norm.matrix) != norm.shift.size:
        gives = f"float32, {len(norm.matrix)} features on the last axis"
    return text, expects, gives


def _plain(norm: Normalizer, shape: tuple[int, ...]) -> list[str]:
    offset = norm.offset.any()
    formula = f"y = (x - SHIFT) / SCALE{' + OFFSET' if offset else ''}"
    lines = [f"SCALE = {_array(norm.scale, shape)}"]
    if offset:
        lines.append(f"OFFSET = {_array(norm.offset, shape)}")
    return [
        *lines,
        "",
        "",
        "def normalize(x, dtype=np.float32):",
        f'    """{formula}, in float64, rounded once."""',
        f"    {formula.replace('x', 'np.asarray(x, np.float64)')}",
        "    return y.astype(dtype)",
    ]


def _mixed(norm: Normalizer) -> list[str]:
    """Features are the kept axes in C order; they are moved last, mixed, and moved back."""
    names = [group[0] for group in norm.pattern.axes]
    kept = tuple(names.index(name) - len(names) for name in norm.pattern.kept)
    last = tuple(range(-len(kept), 0))
    same = norm.matrix is not None and len(norm.matrix) == norm.shift.size
    back = f"np.moveaxis(y.reshape(moved.shape), {last}, {kept})"
    if not same:
        back = f"y.reshape(*moved.shape[: moved.ndim - {len(kept)}], -1)"
    return [
        f"MATRIX = np.array({nested(norm.matrix)})",
        f"OFFSET = np.array({nested(norm.offset)})",
        "",
        "",
        "def normalize(x, dtype=np.float32):",
        '    """y = (x - SHIFT) MATRIX^T + OFFSET, in float64, rounded once."""',
        f"    moved = np.moveaxis(np.asarray(x, np.float64) - SHIFT, {kept}, {last})",
        "    y = moved.reshape(-1, MATRIX.shape[1]) @ MATRIX.T + OFFSET",
        f"    return {back}.astype(dtype)",
    ]


def _array(values: npt.NDArray[Any], shape: tuple[int, ...]) -> str:
    """An array that broadcasts; without leading ones, so that samples need no axis."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    reshaped = "" if shape == values.shape else f".reshape({shape})"
    return f"np.array({nested(values)}){reshaped}"


def _run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return run_code(made, x, _executed)


def _executed(code: bytes, norm: Normalizer, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    scope: dict[str, Any] = {}
    exec(compile(code, "exported.py", "exec"), scope)
    return np.asarray(scope["normalize"](x))


TARGET = Target(
    "numpy",
    _TITLE,
    (".py",),
    _make,
    _run,
    library="numpy",
    options=frozenset({"layout", "channels"}),
)
