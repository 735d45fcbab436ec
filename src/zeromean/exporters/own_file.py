"""Our own file: the normalizer itself, for `zeromean.load` and every command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from zeromean.exporters.forms import expected
from zeromean.exporters.targets import Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer


def _make(norm: Normalizer, order: Order) -> Made:
    gives = "float32, with zeromean.load(path)(x)"
    return Made(norm.to_json().encode(), norm, expected(norm), gives, norm)


def _run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    from zeromean.normalizer import Normalizer

    loaded = Normalizer.from_document(json.loads(made.content), {})
    result: npt.NDArray[Any] = loaded(x)
    return result


TARGET = Target("json", "zeromean normalizer", (".json",), _make, _run, library="zeromean")
