"""Runs a folded module beside the one that it was made of, on raw and normalized probes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zeromean.errors import ZeromeanWarning
from zeromean.first_layer import Folding, Probes, nudge_of
from zeromean.normalizer import Normalizer
from zeromean.torch.normalizing import Normalize

_Floats = npt.NDArray[np.float64]
#: Of the significands of the dtypes that weights may have.
DIGITS = {torch.float16: 11, torch.bfloat16: 8, torch.float32: 24, torch.float64: 53}


def verified(
    record: Folding,
    model: nn.Module,
    folded: nn.Module,
    norm: Normalizer,
    weight: Tensor,
    shapes: list[tuple[int, ...]],
) -> Folding:
    """A record with the largest difference on probes, at the first size that the model takes.

    Parameters
    ----------
    record : Folding
    model, folded : Module
        Run in evaluation mode, and put back.
    norm : Normalizer
    weight : Tensor
        Of the first layer, before.
    shapes : list of tuple of int
        Of inputs to try.
    """
    layout = "chw" if record.layout == "chw" else None
    before = Normalize(norm, dtype=weight.dtype, layout=layout, check_units=False)
    before = before.to(weight.device)
    bytes_in = record.expects.startswith("uint8")
    reason: Exception | None = None
    for shape in shapes:
        probes = Probes.of(norm, shape, record.layout, as_bytes=bytes_in)
        raw = _tensor(probes.raw, weight)
        with _evaluating(model), _evaluating(folded), torch.no_grad(), _full_precision():
            normalized = before(raw)
            try:
                expected = _leaves(model(normalized))
            except (RuntimeError, ValueError, AssertionError, IndexError) as error:
                reason = error  # the model takes no input of this size
                continue
            by = nudge_of(*_terms_and_digits(weight))
            nudged = probes.nudged(norm, "float64", record.layout, by)
            moved = _leaves(model(_tensor(nudged, weight)))
            actual = _leaves(folded(raw.to(torch.uint8) if bytes_in else raw))
            plain = _leaves(model(raw)) if raw.shape == normalized.shape else []
            return _with_figures(record, [expected, actual, plain, moved], weight)
    warnings.warn(
        f"the folded model is not verified: no input of the tried shapes runs ({reason}); give "
        "shape=, the shape of one raw input",
        ZeromeanWarning,
        stacklevel=3,
    )
    return record


def _tensor(values: _Floats, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.dtype).to(like.device)


def _terms_and_digits(weight: Tensor) -> tuple[int, int]:
    return weight[0].numel(), DIGITS[weight.dtype]


def _with_figures(record: Folding, runs: list[list[Tensor]], weight: Tensor) -> Folding:
    plain: list[Any] = runs[2] or [None] * len(runs[0])
    by_output = zip(runs[0], runs[1], plain, runs[3], strict=True)
    arrays = [tuple(map(exact, held)) for held in by_output if held[0].is_floating_point()]
    bound = _terms_and_digits(weight)
    return record.verified_by(f"PyTorch on {weight.device}", arrays, bound)  # type: ignore[arg-type]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, and back to what each module was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _full_precision() -> Iterator[None]:
    """Without TF32, whose 11 digits would hide what is looked for."""
    if not torch.cuda.is_available():
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        before = cudnn.allow_tf32, matmul.allow_tf32
    except RuntimeError:  # set by PyTorch's newer interface, which does not let this one look
        yield
        return
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def _leaves(output: Any) -> list[Tensor]:
    """The tensors in what a model returns."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [leaf for part in output for leaf in _leaves(part)]
    return []


def exact(parameter: Tensor | None) -> _Floats | None:
    """A parameter or result as a float64 array of its own; None for None."""
    if parameter is None:
        return None
    held: _Floats = parameter.detach().to("cpu", torch.float64).numpy()
    return held.copy()  # of float64 it would be the parameter itself, which is about to change
