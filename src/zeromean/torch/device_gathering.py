"""Measures tensors where they live: the counterpart of `zeromean.accumulation` for devices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zeromean.accumulation import Partial, Plan, other_dtype, unequal
from zeromean.errors import PatternError
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.provenance import Provenance
from zeromean.statistics import ItemStds, is_counted
from zeromean.statistics.formats import UNIT_EXPONENT
from zeromean.torch.device_counts import Counts, bucket_codes, item_sums
from zeromean.torch.device_sums import CARRY_ROWS, FloatSums, IntegerSums

#: Values at a time, of 64 bits half as many: each takes up to 45 bytes on the way, and so many keep
#: a GPU busy while the processor sends it the next operations.
CHUNK = 1 << 24
_INTEGERS = ("bool", "uint8", "int8", "uint16", "int16")
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def dtype_name(tensor: Tensor) -> str:
    """The NumPy name of a tensor's dtype.

    Raises
    ------
    PatternError
        For complex, quantized and 8-bit floats, with what to convert to.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    if name in UNIT_EXPONENT:
        return name
    advice = "measure x.real and x.imag, or x.abs()" if tensor.is_complex() else "x.float()"
    raise PatternError(f"cannot measure values of dtype {name}; {advice}")


def measure_on_device(batches: Iterable[tuple[str, Tensor]], plan: Plan) -> Profile:
    """Measure named tensors where they are.

    Parameters
    ----------
    batches : iterable of (str, Tensor)
        At least one; with all axes of the pattern, or lacking the first.
    plan : Plan

    Returns
    -------
    Profile
        Equal to what `zeromean.measure` gives for the same values.

    Raises
    ------
    PatternError
        When a tensor does not fit the pattern, or the others; names both.
    """
    gathered: _Gathering | None = None
    for name, tensor in batches:
        kept_shape, whole = _fitted(plan.pattern, name, tensor)
        if gathered is None:
            gathered = _Gathering(plan, name, kept_shape, whole)
        gathered.add(name, kept_shape, whole)
    assert gathered is not None
    return gathered.partial().profile(plan, "", gathered.record())


def _fitted(pattern: Pattern, name: str, tensor: Tensor) -> tuple[tuple[int, ...], Tensor]:
    """Kept shape, and the tensor with all its axes."""
    shape = tuple(tensor.shape)
    try:
        whole = tensor if shape and pattern.complete(shape) else tensor[None]
        return pattern.kept_shape(tuple(whole.shape)), whole
    except PatternError as error:
        raise PatternError(f"{name} of shape {shape}: {error}") from None


class _Gathering:
    """Running statistics on one device; the first tensor sets shape and dtype."""

    def __init__(
        self, plan: Plan, example: str, kept_shape: tuple[int, ...], first: Tensor
    ) -> None:
        self.plan, self.example, self.kept_shape = plan, example, kept_shape
        self.dtype, self.size = dtype_name(first), math.prod(kept_shape)
        if plan.feature_names and len(plan.feature_names) != self.size:
            raise PatternError(
                f"there are {len(plan.feature_names)} feature names, but the pattern "
                f"{str(plan.pattern)!r} keeps {self.size} entries of {example}"
            )
        self.items = self.bytes = 0
        self.device = first.device
        self.chunk = CHUNK // (2 if first.element_size() == 8 else 1)
        self.counted = is_counted(self.dtype, self.size)
        kind: Any = Counts if self.counted else FloatSums if self._is_float else IntegerSums
        self.statistics = kind(self.size, self.dtype, self.device)
        with_stds = plan.pattern.per_item and self.counted and self.dtype in _INTEGERS
        self.stds = ItemStds.empty(self.size) if with_stds else None
        with_buckets = plan.quantiles and not self.counted and self.dtype in _FLOATS[2:]
        self.buckets = Counts(self.size, "bfloat16", self.device) if with_buckets else None

    @property
    def _is_float(self) -> bool:
        return self.dtype in _FLOATS

    def add(self, name: str, kept_shape: tuple[int, ...], tensor: Tensor) -> None:
        if dtype_name(tensor) != self.dtype:
            raise PatternError(other_dtype(name, dtype_name(tensor), self.example, self.dtype))
        if kept_shape != self.kept_shape:
            pattern = self.plan.pattern
            raise PatternError(unequal(pattern, name, kept_shape, self.example, self.kept_shape))
        self.items += len(tensor)
        self.bytes += tensor.numel() * tensor.element_size()
        for items in _items(self.plan.pattern, tensor.to(self.device), self.chunk):
            self._add_items(items)

    def _add_items(self, items: Tensor) -> None:
        """Add items, (n_items, n_samples, n_features), some samples at a time if one is large."""
        step = max(1, self.chunk // max(len(items) * self.size, 1))
        parts = items.split(step, dim=1) if items.numel() else ()
        for part in parts:
            self._add_part(part)
        if self.stds is not None and parts:
            sums = reduce(torch.add, map(item_sums, parts))
            self.stds += ItemStds.of_sums(items.shape[1], *sums.cpu().numpy())

    def _add_part(self, part: Tensor) -> None:
        if self.counted:
            self.statistics.add(part)  # in whatever order
            return
        for rows in part.flatten(0, 1).split(CARRY_ROWS):
            self.statistics.add(rows)
            if self.buckets is not None:
                self.buckets.add(bucket_codes(rows))

    def partial(self) -> Partial:
        if self.counted:
            statistics, extrema = self.statistics.histogram(), None
        else:
            statistics, extrema = self.statistics.finish()
        buckets = None if self.buckets is None else self.buckets.histogram()
        return Partial(
            self.example, self.kept_shape, self.dtype, statistics, extrema, self.stds, buckets
        )

    def record(self) -> Provenance:
        from zeromean import __version__

        versions = {"numpy": np.__version__, "torch": torch.__version__, "zeromean": __version__}
        source = f"tensors on {self.device}"
        return Provenance(self.items, bytes=self.bytes, sources=(source,), versions=versions)


def _items(pattern: Pattern, tensor: Tensor, chunk: int) -> Iterator[Tensor]:
    """Cut a tensor into (n_items, n_samples, n_features) along its first axis.

    Where the first axis is kept or split into a group, what counts as an item means nothing.
    """
    shape = tuple(tensor.shape)
    unit = max(1, pattern.unit(shape))
    step = max(1, chunk // max(math.prod(shape[1:]) * unit, 1)) * unit
    for part in tensor.split(step) if len(tensor) else ():
        lengths, kept = pattern.layout(tuple(part.shape))
        order = [i for i in range(len(lengths)) if i not in kept] + kept
        features = math.prod(lengths[i] for i in kept)
        view = part.reshape(lengths).permute(order)
        n_items = len(view) if order[0] not in kept else 1
        samples = part.numel() // max(n_items * features, 1)
        yield view.reshape(n_items, samples, features)
