"""Turns a tensor, a loader, a dataset or an iterable into one batch after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from zeromean.errors import PatternError, SourceError, ZeromeanWarning

#: Which part of a batch is the data: a position, a key, or a function of the batch.
Pick = int | str | Callable[[Any], Any]


def batches_of(source: Any, pick: Pick | None = None) -> Iterator[Any]:
    """The data of each batch or item, in order.

    Parameters
    ----------
    source : Tensor, DataLoader, Dataset, or iterable
    pick : int, str or callable, optional
        What to take of items that are tuples, lists or mappings. By default the first entry of
        a tuple or list; a mapping needs a key.

    Yields
    ------
    Tensor, ndarray or PIL image

    Raises
    ------
    PatternError
        When an item has no such part.
    SourceError
        When the source cannot be read item by item.
    """
    if isinstance(source, Tensor):
        yield source
        return
    for i, item in enumerate(_items(source)):
        yield _picked(item, pick, f"item {i}")


def _items(source: Any) -> Iterable[Any]:
    if isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        return (source[i] for i in range(_length(source)))
    if isinstance(source, Iterable) and not isinstance(source, str | bytes | Mapping):
        return source
    raise SourceError(
        f"cannot measure {type(source).__name__}; give a tensor, a DataLoader, a Dataset, or an "
        "iterable of tensors. For files there is zeromean.measure"
    )


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        raise SourceError(
            f"{type(dataset).__name__} has no length; give it one, or a DataLoader with a sampler"
        ) from None


def _picked(item: Any, pick: Pick | None, name: str) -> Any:
    if callable(pick):
        return pick(item)
    if isinstance(item, Mapping) and pick is None:
        keys = ", ".join(repr(key) for key in item)
        raise PatternError(f"{name} has the keys {keys}; say which is the data: pick='...'")
    if pick is None and not isinstance(item, tuple | list):
        return item
    try:
        return item[0 if pick is None else pick]
    except (LookupError, TypeError):
        what = (
            f"the keys {', '.join(map(repr, item))}"
            if isinstance(item, Mapping)
            else (f"{len(item)} entries" if isinstance(item, tuple | list) else type(item).__name__)
        )
        raise PatternError(f"{name} has no part {pick!r}: it is {what}") from None


def warn_of_sampling(source: Any) -> None:
    """Say so when a loader will give other data than its dataset holds."""
    if not isinstance(source, DataLoader):
        return
    sampler = getattr(source.batch_sampler, "sampler", source.sampler)
    if isinstance(sampler, DistributedSampler):
        text = _uneven(sampler)
    else:
        text = _dropped(source, sampler)
    if text:
        warnings.warn(text, ZeromeanWarning, stacklevel=3)


def _uneven(sampler: DistributedSampler[Any]) -> str:
    length, world = len(sampler.dataset), sampler.num_replicas  # type: ignore[arg-type]
    left = length % world
    if not left:
        return ""
    what = f"the DistributedSampler shares {length} samples among {world} processes"
    repair = (
        "Give each process its own part instead: "
        f"DataLoader(Subset(dataset, range(rank, {length}, {world})))"
    )
    if sampler.drop_last:
        return f"{what} and leaves out {left} of them. {repair}"
    return f"{what} and repeats {world - left} of them, which are counted twice. {repair}"


def _dropped(loader: DataLoader[Any], sampler: Any) -> str:
    if not loader.drop_last or loader.batch_size is None:
        return ""
    left = len(sampler) % loader.batch_size
    if not left:
        return ""
    return (
        f"the loader leaves out the last {left} of {len(sampler)} samples; "
        "set drop_last=False to measure them all"
    )


def plain(data: Any) -> Any:
    """A tensor as it is in memory: no gradients, subclasses or lazy conjugates.

    Raises
    ------
    PatternError
        For sparse and quantized tensors, with what to convert to.
    """
    if not isinstance(data, Tensor):
        return data
    if data.layout != torch.strided:
        raise PatternError(f"cannot measure a tensor of layout {data.layout}; x.to_dense()")
    if data.is_quantized:
        raise PatternError(
            "cannot measure a quantized tensor; give x.dequantize(), or x.int_repr()"
        )
    return data.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
