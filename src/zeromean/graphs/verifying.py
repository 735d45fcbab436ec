"""Runs a folded ONNX model beside the one that it was made of, on raw and normalized probes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.first_layer import (
    MOST_PROBED,
    SIZES,
    Entering,
    Folding,
    Probes,
    Run,
    Wanted,
    entering,
    nudge_of,
)
from zeromean.graphs.walking import Walk, dims_of, dtype_of
from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]
_DIGITS = {"float16": 11, "float32": 24, "float64": 53}


def verified(
    record: Folding,
    model: Any,
    folded: Any,
    norm: Normalizer,
    name: str,
    start: Entering,
    terms: int,
) -> Folding:
    """A record with the largest difference on probes, by ONNX Runtime; or with why there is none.

    Parameters
    ----------
    record : Folding
    model, folded : onnx.ModelProto
    norm : Normalizer
    name : str
        Of the input.
    start : Entering
        At the input.
    terms : int
        Products in one sum of the first layer.
    """
    try:
        import onnxruntime
    except ImportError:
        return replace(record, verified="not verified: ONNX Runtime is not installed")
    if max(model.ByteSize(), folded.ByteSize()) >= 2**31:
        return replace(record, verified="not verified: the model is too large for memory")
    try:
        sessions = [_session(onnxruntime, m) for m in (model, folded)]
    except Exception as error:  # ONNX Runtime raises what it likes at operators that it lacks
        return replace(record, verified=f"not verified: ONNX Runtime cannot load it ({error})")
    value = next(v for v in Walk(folded).inputs() if v.name == name)
    before = next(v for v in Walk(model).inputs() if v.name == name)
    bound, reason = (terms, _DIGITS[dtype_of(before)]), ""
    for shape in _shapes(value, norm, start):
        try:
            by = nudge_of(*bound)
            runs = _runs(sessions, norm, name, shape, start.layout, before, value, by)
        except Exception as error:  # a size that does not fit raises as much
            reason = str(error).partition("\n")[0]
            continue
        return record.verified_by("ONNX Runtime", runs, bound)
    return replace(record, verified=f"not verified: no input of the tried sizes runs ({reason})")


def _session(onnxruntime: Any, model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _shapes(value: Any, norm: Normalizer, start: Entering) -> list[tuple[int, ...]]:
    dims = dims_of(value)
    lengths = [d if isinstance(d, int) else None for d in dims or (None,) * len(start.shape)]
    made = [entering(norm, start.layout, Wanted(tuple(lengths), None, n)).shape for n in SIZES]
    small = [shape for shape in made if math.prod(shape) <= MOST_PROBED]
    return list(dict.fromkeys([start.shape, *small]))


def _runs(
    sessions: list[Any],
    norm: Normalizer,
    name: str,
    shape: tuple[int, ...],
    layout: str,
    before: Any,
    value: Any,
    by: float,
) -> list[Run]:
    """Outputs of both models, of the first for raw and for nudged data, batch by batch."""
    dtype, taken = dtype_of(before), dtype_of(value)
    probes = Probes.of(norm, shape, layout, as_bytes=taken == "uint8")
    normalized = probes.normalized(norm, dtype, layout)
    nudged = probes.nudged(norm, dtype, layout, by)
    same = normalized.shape == probes.raw.shape
    first = (dims_of(value) or (None,))[0]
    size = first if isinstance(first, int) else len(probes.raw)
    found: list[Run] = []
    for begin in range(0, len(probes.raw), size):
        rows = np.arange(begin, begin + size) % len(probes.raw)
        raw = probes.raw[rows]
        expected = sessions[0].run(None, {name: normalized[rows]})
        actual = sessions[1].run(None, {name: raw.astype(taken)})
        plain = sessions[0].run(None, {name: raw.astype(dtype)}) if same else [None] * len(actual)
        moved = sessions[0].run(None, {name: nudged[rows]})
        found += [
            held
            for held in zip(expected, actual, plain, moved, strict=True)
            if isinstance(held[0], np.ndarray) and held[0].dtype.kind == "f"
        ]
    return found
