"""A block of Markdown for a model card: the numbers, their units, and what is done with them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.exporters.forms import expected, plain_numbers
from zeromean.exporters.spelling import banner, check_size
from zeromean.exporters.targets import Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_TITLE = "Model card"
_MOST_ROWS = 64
_TITLE_LINE = "## Input normalization"


def _make(norm: Normalizer, order: Order) -> Made:
    if norm.matrix is not None:
        raise PatternError(
            f"a model card holds one line for each feature, and {norm.recipe} mixes the features "
            "with a matrix; export to onnx or torch, and name that file in the card"
        )
    check_size(norm, "a model card", _MOST_ROWS)
    expects = expected(norm)
    top = norm.units.top
    unit = top not in (None, 1)
    offset = bool(norm.offset.any())
    heads = ["feature", "subtract", "divide by", *(["add"] if offset else [])]
    if unit:
        heads += [f"mean, of x / {top:g}", f"std, of x / {top:g}"]
    formula = "y = (x - subtract) / (divide by)" + (" + add" if offset else "")
    lines = [
        _TITLE_LINE,
        "",
        f"Raw data: {expects}. The model must be fed `{formula}`, as float32.",
        "",
        _row(heads),
        _row(["---", *["--:"] * (len(heads) - 1)]),
        *(_row(row) for row in _rows(norm, offset, top if unit else None)),
        "",
        f"{banner(norm, order.name)} ddof {norm.ddof}.",
    ]
    text = "\n".join(lines) + "\n"
    return Made(text.encode(), None, expects, "a table to be read by people", norm)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rows(norm: Normalizer, offset: bool, top: float | None) -> list[list[str]]:
    columns = [norm.shift, norm.scale, *([norm.offset] if offset else [])]
    rows = [
        [name.replace("|", "\\|"), *map(repr, values)]
        for name, *values in zip(_names(norm), *(v.ravel().tolist() for v in columns), strict=True)
    ]
    if top is not None:  # a mean and a std hold the offset too
        pairs = zip(*(v.ravel().tolist() for v in plain_numbers(norm)), strict=True)
        for row, pair in zip(rows, pairs, strict=True):
            row += [f"{float(Fraction(v) / Fraction(top)):.6g}" for v in pair]
    return rows


def _names(norm: Normalizer) -> list[str]:
    if norm.feature_names:
        return list(norm.feature_names)
    if len(norm.units.channels) == norm.shift.size:
        return list(norm.units.channels)
    return [str(i) for i in range(norm.shift.size)]


def _run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What a person does who reads the table: the formula with the printed numbers, in float64."""
    norm = made.carried
    lines = made.content.decode().split("| ---")[1].splitlines()[1:]
    rows = [
        line.replace("\\|", "").strip("| ").split(" | ") for line in lines if line.startswith("|")
    ]
    last = 4 if norm.offset.any() else 3
    table = np.array([[float(cell) for cell in row[1:last]] for row in rows])
    numbers = [norm.pattern.spread(v.reshape(norm.kept_shape), x.shape) for v in table.T]
    y = (x.astype(np.float64) - numbers[0]) / numbers[1]
    return (y + numbers[2] if last == 4 else y).astype(np.float32)


TARGET = Target("markdown", _TITLE, (".md",), _make, _run, library="the formula in float64")
