"""Arrays of Dask, computed a few chunks at a time in the thread that measures them."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zeromean.errors import PatternError
from zeromean.pattern import Pattern
from zeromean.sources import Source
from zeromean.sources.arrays import likely_pattern
from zeromean.sources.block_sources import Blocks
from zeromean.sources.blocks import BlockShard, Piece, Reading, Values, picked, slices
from zeromean.sources.contents import what_it_holds
from zeromean.sources.cutting import Box, Layout


def open_object(source: Any, pattern: Pattern | None, options: Any) -> Source:
    """Open an array of Dask.

    Parameters
    ----------
    source : dask.array.Array
    pattern : Pattern or None
    options : Options

    Raises
    ------
    PatternError
        When it holds no numbers, or the pattern does not fit.
    """
    return of_dask(source, pattern, options, "dask array")


def of_dask(
    array: Any, pattern: Pattern | None, options: Any, name: str, dims: tuple[str, ...] = ()
) -> Source:
    """A source of an array of Dask.

    Parameters
    ----------
    array : dask.array.Array
    pattern : Pattern or None
    options : Options
    name : str
    dims : tuple of str
        Names of its axes, where they have some.
    """
    if holds := what_it_holds(array.dtype, array.shape):
        raise PatternError(f"{name} holds {holds}, not an array of numbers")
    if any(math.isnan(length) for length in array.shape):
        return UnknownLengths(array, pattern, name, options.limit)
    return Blocks([DaskArray(array, name, dims)], pattern, name, options.limit)


def _dask() -> Any:
    import dask
    import dask.optimization

    return dask


class DaskArray:
    """An array of Dask, as a `zeromean.sources.blocks.BlockArray`.

    Parameters
    ----------
    array : dask.array.Array
    name : str
    dims : tuple of str
    """

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __init__(self, array: Any, name: str, dims: tuple[str, ...] = ()) -> None:
        self._array, self.name, self.dims = array, name, dims
        self.layout = Layout(array.shape, array.dtype, array.chunks)

    @cached_property
    def _optimized(self) -> tuple[Any, dict[Any, Any] | None]:
        """The array with its tasks brought together, and all its tasks: once for all blocks.

        None for what the scheduler of a cluster must compute.
        """
        if _is_on_cluster(self._array):
            return self._array, None
        (array,) = _dask().optimize(self._array)
        return array, dict(array.__dask_graph__())

    def reading(self, box: Box, rows: tuple[int, ...] | None) -> Reading:
        """What computes a box."""
        array, tasks = self._optimized
        return self._computing(array[slices(box)], tasks, rows)

    def row_of_chunks(self, i: int) -> Reading:
        """What computes the chunks in one place along the first axis, however long they are."""
        array, tasks = self._optimized
        return self._computing(array.blocks[i], tasks, None)

    def _computing(self, part: Any, tasks: dict[Any, Any] | None, rows: Any) -> Reading:
        if tasks is None:
            return ClusterReading(part, rows)
        keys = part.__dask_keys__()
        own = part.__dask_graph__().layers.get(part.name, {})
        needed, _ = _dask().optimization.cull(ChainMap(dict(own), tasks), keys)
        finalize, more = part.__dask_postcompute__()
        return DaskReading(needed, keys, finalize, more, rows)

    def stamp(self, box: Box) -> tuple[int, ...]:
        """None: what it is computed from is not known."""
        return ()


def _is_on_cluster(array: Any) -> bool:
    """Whether parts of it were computed on a cluster, and lie there."""
    layers = array.__dask_graph__().layers.values()
    known = (layer.mapping.values() for layer in layers if hasattr(layer, "mapping"))
    return any(type(task).__module__.startswith("distributed.") for held in known for task in held)


@dataclass(frozen=True)
class DaskReading:
    """Computes a part of an array; pickled with the tasks of that part alone.

    Attributes
    ----------
    tasks : dict
        Of Dask.
    keys : list
        Those whose results are wanted, nested.
    finalize : callable
        From nested results to the array.
    more : tuple
        Arguments of it.
    rows : tuple of int or None
    """

    tasks: dict[Any, Any]
    keys: Any
    finalize: Any
    more: tuple[Any, ...]
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Compute it here, one task after the other, so that memory stays small."""
        held = self.finalize(_dask().get(self.tasks, self.keys), *self.more)
        return _values(held, self.rows)

    def stamp(self) -> tuple[int, ...]:
        """None."""
        return ()

    def __reduce__(self) -> Any:
        import cloudpickle

        own = (self.tasks, self.keys, self.finalize, self.more, self.rows)
        return _loaded, (cloudpickle.dumps(own),)  # tasks hold functions of every kind


def _loaded(data: bytes) -> DaskReading:
    import cloudpickle

    return DaskReading(*cloudpickle.loads(data))


@dataclass(frozen=True)
class ClusterReading:
    """Computes a part of an array on the cluster where parts of it lie, and fetches it.

    Attributes
    ----------
    part : dask.array.Array
    rows : tuple of int or None
    """

    part: Any
    rows: tuple[int, ...] | None

    def __call__(self) -> Values:
        """Let it be computed."""
        return _values(self.part.compute(), self.rows)

    def stamp(self) -> tuple[int, ...]:
        """None."""
        return ()


def _values(held: Any, rows: tuple[int, ...] | None) -> Values:
    """What was computed; of a masked array, where there is no data."""
    if not isinstance(held, np.ma.MaskedArray):
        return Values(picked(np.asarray(held), rows))
    if held.mask is np.ma.nomask:
        return Values(picked(held.data, rows))
    return Values(picked(held.data, rows), picked(np.ma.getmaskarray(held), rows))


class UnknownLengths(Source):
    """An array of Dask whose chunks have lengths that only computing them tells.

    Parameters
    ----------
    array : dask.array.Array
    pattern : Pattern or None
    name : str
    limit : int, optional
        Must be None.

    Raises
    ------
    PatternError
        When lengths would have to be known.
    """

    def __init__(
        self, array: Any, pattern: Pattern | None, name: str, limit: int | None = None
    ) -> None:
        given = likely_pattern(array.shape) if pattern is None else pattern
        advice = "call x.compute_chunk_sizes() first"
        if limit is not None:
            raise PatternError(f"{name} has an unknown length, of which no part is known; {advice}")
        if not given.complete(array.shape):
            raise PatternError(
                f"{name} has the shape {array.shape}, and lacks the first axis of {str(given)!r}"
            )
        if given.keeps_first or len(given.axes[0]) > 1:
            raise PatternError(
                f"{name} has an unknown length, and the pattern {str(given)!r} needs it; {advice}"
            )
        self.name, self.pattern = name, given
        self._held, self._n_blocks = DaskArray(array, name), array.numblocks[0]

    def shards(self, cores: int | None = None) -> Iterator[BlockShard]:
        """One for each chunk along the first axis."""
        for i in range(self._n_blocks):
            piece = UncountedPiece(f"{self.name}, chunk {i}", self._held.row_of_chunks(i), 0)
            yield BlockShard((piece,))


class UncountedPiece(Piece):
    """A block that counts as many items as it turns out to have."""

    __slots__ = ()

    def count(self, array: Any) -> int:
        """Its length."""
        return len(array)
