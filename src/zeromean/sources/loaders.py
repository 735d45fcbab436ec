"""Data sets and loaders of PyTorch, TensorFlow and others, as the network sees them.

They are known by what they can do, not by their classes: no library is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from zeromean.errors import PatternError, SourceError, ZeromeanError
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Item, Source
from zeromean.sources.arrays import ItemShard, is_picture, spread
from zeromean.sources.samples import as_values, data_in, label_in, single_values

_SHARD_BYTES = 32 << 20
_SHARD_ITEMS = 64
_CHANNELS = (1, 3, 4)
_END: Any = object()
_CHANNELS_FIRST = "n c h w -> c"


def open_object(source: Any, pattern: Pattern | None, options: Any) -> Source:
    """Open a data set, a loader, or an iterable of tuples or dictionaries.

    Parameters
    ----------
    source : Dataset, DataLoader, tf.data.Dataset, or iterable
    pattern : Pattern or None
        None for the usual one of the first element.
    options : Options
        ``key`` names the part of an element that is the data.

    Raises
    ------
    PatternError
        When it is not clear which part of an element is the data, or what its axes are.
    SourceError
        When it can be read neither by number nor one after the other.
    """
    if callable(getattr(source, "as_numpy_iterator", None)):
        return Loader(_TensorFlow(source), pattern, options, _name_of(source))
    if hasattr(type(source), "__iter__"):
        return Loader(source, pattern, options, _name_of(source))
    if hasattr(type(source), "__getitem__"):
        return Indexed(source, pattern, options, _name_of(source))
    raise SourceError(
        f"cannot read {type(source).__name__}: it has neither __iter__ nor __getitem__"
    )


def _name_of(source: Any) -> str:
    kind = type(source).__name__
    if type(source).__module__ in ("builtins", "itertools"):
        return "items"
    inner = getattr(source, "dataset", None)
    return kind if inner is None else f"{kind} of {type(inner).__name__}"


class _TensorFlow:
    """A ``tf.data.Dataset``, whose elements are asked for as arrays."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data.as_numpy_iterator())


class _Elements(Source):
    """What loaders and data sets have in common: each element becomes items."""

    _batched: bool | None = None  # whether elements carry the sample axis; None where unknown
    _what = "item"
    _copied = True

    def __init__(self, pattern: Pattern | None, options: Any, name: str) -> None:
        self.name, self._options = name, options
        self._label: str | None = None
        self.pattern = self._usual(self._first()) if pattern is None else pattern

    def group_by(self, column: str) -> None:
        """Let each item carry its label.

        Parameters
        ----------
        column : str
            "class" for the second entry of a tuple, or what a mapping calls its label; else the
            key or the number of the entry.
        """
        self._label = column

    def _first(self) -> Any:
        """The first element, `_END` when there is none."""
        raise NotImplementedError

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        """Elements with their numbers; an `Item` where there is none."""
        raise NotImplementedError

    def shards(self, cores: int | None = None) -> Iterator[ItemShard]:
        """Gather items into shards of about 32 MB, in the calling thread."""
        held: list[Item] = []
        size = 0
        with closing(self._items()) as items:  # type: ignore[type-var]
            for item in items:
                held.append(item)
                size += item.n_bytes
                if size >= _SHARD_BYTES or len(held) == _SHARD_ITEMS:
                    yield ItemShard(tuple(held))
                    held, size = [], 0
        if held:
            yield ItemShard(tuple(held))

    def _items(self) -> Iterator[Item]:
        for i, element in self._numbered():
            if isinstance(element, Item):
                yield element
            else:
                yield from self._items_of(element, f"{self._what} {i}")

    def _items_of(self, element: Any, name: str) -> Iterator[Item]:
        """The data of one element: mostly one array."""
        data = data_in(element, self._options.key, name)
        values = single_values(data)
        labels = None if self._label is None else label_in(element, self._label, name)
        for j, value in enumerate(values):
            own = labels if labels is None or len(values) == 1 else labels[j]
            yield self._item(value, name if len(values) == 1 else f"{name}[{j}]", own)

    def _item(self, value: Any, name: str, label: Any) -> Item:
        if is_picture(value):
            return replace(self._picture(value, name), group=label)
        array = as_values(value, name)
        if self._copied:
            array = array.copy()  # it may be written over before it is measured
        try:
            batched = array.ndim > 0 and self.pattern.complete(array.shape)
        except PatternError as error:
            raise PatternError(f"{name}: {error}") from None
        if label is not None:
            label = _label_for(label, len(array) if batched else None, name)
        return Item(array, name, n_bytes=array.nbytes, batched=batched, group=label)

    def _picture(self, image: Any, name: str) -> Item:
        from zeromean.sources.decode import DecodeError, from_pil

        try:
            decoded = from_pil(image, self._options.colors)
        except DecodeError as error:
            return Item(None, name, str(error))
        kind = f"{decoded.mode} {decoded.pixels.dtype}"
        n_bytes = decoded.pixels.nbytes
        return Item(decoded.pixels, name, "", kind, decoded.decoder, decoded.notes, n_bytes=n_bytes)

    # ------------------------------------------------------------ the pattern

    def _usual(self, first: Any) -> Pattern:
        """The pattern of what is given without one."""
        if first is _END:
            return Pattern.parse(NAMED["channel"])  # there is nothing to measure
        name = f"{self._what} 0"
        value = single_values(data_in(first, self._options.key, name))[0]
        if is_picture(value):
            return Pattern.parse(NAMED["channel"])
        shape = as_values(value, name).shape
        tensor = hasattr(value, "detach")
        found = _usual_pattern(shape, self._batched, tensor)
        if found is not None:
            return Pattern.parse(found)
        one, other = _likely(shape, self._batched, tensor)
        raise PatternError(
            f"{name} of {self.name} has shape {shape}, which needs a pattern that names its axes, "
            f"such as {one!r} or {other!r}"
        )


def _usual_pattern(shape: tuple[int, ...], batched: bool | None, tensor: bool) -> str | None:
    """The pattern that nearly everybody means; None where two are likely."""
    samples = batched
    if samples is None:
        picture = len(shape) == 3 and (_is_channels(shape, -3) or _is_channels(shape, -1))
        samples = False if picture else {4: True, 0: False}.get(len(shape))
        if samples is None:
            return None
    axes = len(shape) + (0 if samples else 1)
    if axes == 4:
        first, last = _is_channels(shape, -3), _is_channels(shape, -1)
        if first and (tensor or not last):
            return _CHANNELS_FIRST
        return NAMED["channel"] if last and (not tensor or not first) else None
    return {1: "n ->", 2: NAMED["feature"]}.get(axes)


def _is_channels(shape: tuple[int, ...], axis: int) -> bool:
    return shape[axis] in _CHANNELS


def _likely(shape: tuple[int, ...], batched: bool | None, tensor: bool) -> tuple[str, str]:
    """Two patterns that may be meant."""
    if len(shape) == 1:
        return NAMED["feature"], "n ->"
    if len(shape) == 2:
        return ("n h w ->", "n t f -> f") if batched is False else ("n h w ->", NAMED["feature"])
    if len(shape) == 3 and batched:
        return "n h w ->", "n t f -> f"
    if len(shape) in (3, 4):
        pair = (NAMED["channel"], _CHANNELS_FIRST)
        return pair[::-1] if tensor else pair
    return "n c ... -> c", "n ... c -> c"


def _label_for(label: Any, rows: int | None, name: str) -> Any:
    """A label as an item carries it: one, or one for each row."""
    values = np.asarray(as_values(label, f"the label of {name}"))
    if rows is None:
        if values.size != 1:
            raise PatternError(f"{name} has {values.size} labels, and is one sample")
        return values.reshape(())[()].item()
    if values.shape != (rows,):
        raise PatternError(
            f"{name} has labels of shape {values.shape} for {rows} samples; give one for each"
        )
    return values


# ---------------------------------------------------------------- by number


class Indexed(_Elements):
    """A map-style data set: its samples are read by number, in order.

    A sample that cannot be read is skipped by its number.

    Parameters
    ----------
    data : object with ``__getitem__`` and ``__len__``
    pattern, options
        As for `open_object`. A limit takes samples that are spread evenly.
    name : str

    Raises
    ------
    SourceError
        When it has no length.
    """

    _batched = False

    def __init__(self, data: Any, pattern: Pattern | None, options: Any, name: str) -> None:
        self._data = data
        try:
            self._n_whole = len(data)
        except (TypeError, NotImplementedError):
            raise SourceError(
                f"{name} has no length: give it __len__, or measure a loader of it"
            ) from None
        limit = options.limit
        self.chosen: Any = None
        if limit is not None and limit < self._n_whole:
            self.chosen = np.array(spread(self._n_whole, limit))
        self._peeked: dict[int, Any] = {}
        super().__init__(pattern, options, name)

    @property
    def n_items(self) -> int:
        """How many samples are read."""
        return self._n_whole if self.chosen is None else len(self.chosen)

    @property
    def n_whole(self) -> int:
        """How many there are."""
        return self._n_whole

    def _numbers(self) -> Iterator[int]:
        return iter(range(self._n_whole) if self.chosen is None else self.chosen.tolist())

    def _first(self) -> Any:
        """The first sample that can be read; it is not read again."""
        for i in self._numbers():
            element = self._element(i)
            self._peeked[i] = element
            if not isinstance(element, Item):
                return element
        return _END

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        peeked, self._peeked = self._peeked, {}
        for i in self._numbers():
            yield i, peeked.pop(i) if i in peeked else self._element(i)

    def _element(self, i: int) -> Any:
        try:
            return self._data[i]
        except ZeromeanError:
            raise
        except Exception as error:  # whatever the user's own code raises
            return Item(None, f"{self._what} {i}", _said(error), passing=isinstance(error, OSError))


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# ---------------------------------------------------------------- one after the other


class Loader(_Elements):
    """A loader, or any iterable; its sampler, workers and transforms are its own business.

    Parameters
    ----------
    elements : iterable
    pattern, options
        As for `open_object`. A limit takes the first samples.
    name : str
    """

    def __init__(
        self, elements: Iterable[Any], pattern: Pattern | None, options: Any, name: str
    ) -> None:
        self._data: Any = elements
        self.limit = options.limit
        self._is_loader = hasattr(elements, "batch_size") and hasattr(elements, "sampler")
        if self._is_loader:
            collated = _batch_sampler(elements) is not None
            self._batched, self._what = collated, "batch" if collated else "item"
            self._copied = not collated  # a batch is put together anew
        elif isinstance(elements, _TensorFlow):
            self._batched = _has_batches(elements.data)
            self._what = "batch" if self._batched else "item"
        self._started: Iterator[Any] | None = None
        super().__init__(pattern, options, name)

    @cached_property
    def n_items(self) -> int | None:
        """How many samples will come, None where nobody knows."""
        known = self._known()
        return known if self.limit is None or known is None else min(known, self.limit)

    @property
    def n_whole(self) -> int | None:
        """The same without a limit."""
        return self._known()

    def _known(self) -> int | None:
        with suppress(TypeError, NotImplementedError, AttributeError):
            if not self._is_loader:
                return len(self._data) if isinstance(self._data, Sequence) else None
            samples = len(_sampler(self._data))
            size = self._data.batch_size
            return samples // size * size if size and self._data.drop_last else samples
        return None

    def _first(self) -> Any:
        """The first element, which is kept for the run: reading again might draw others."""
        elements = iter(self._data)
        first = self._next(elements, 0)
        self._started = elements if first is _END else chain([first], elements)
        return first

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        started, self._started = self._started, None
        elements = iter(self._data) if started is None else started
        i = 0
        while (element := self._next(elements, i)) is not _END:
            yield i, element
            i += 1

    def _next(self, elements: Iterator[Any], i: int) -> Any:
        try:
            return next(elements, _END)
        except ZeromeanError:
            raise
        except Exception as error:  # it cannot go on
            text = f"{self.name} failed at {self._what} {i}: {_said(error)}"
            raise SourceError(text) from error

    def _items(self) -> Iterator[Item]:
        left = self.limit
        if left is None:
            yield from super()._items()
            return
        for item in super()._items():
            if item.array is not None and item.batched and len(item.array) > left:
                own = item.group[:left] if isinstance(item.group, np.ndarray) else item.group
                array = item.array[:left]
                item = replace(item, array=array, group=own, n_bytes=array.nbytes)
            yield item
            left -= item.count
            if left <= 0:
                return

    def complete(self, record: Any) -> Any:
        """With what the loader leaves out."""
        text = self._left_out()
        return replace(record, warnings=(*record.warnings, text)) if text else record

    def _left_out(self) -> str:
        if not self._is_loader or self.limit is not None:
            return ""
        with suppress(TypeError, NotImplementedError, AttributeError):
            samples, size = len(_sampler(self._data)), self._data.batch_size
            if size and self._data.drop_last and samples % size:
                return (
                    f"the loader leaves out the last {samples % size} of {samples} samples; set "
                    "drop_last=False to measure them all"
                )
        return ""


def _batch_sampler(loader: Any) -> Any:
    return getattr(loader, "batch_sampler", None)


def _sampler(loader: Any) -> Any:
    """What draws single samples."""
    return getattr(_batch_sampler(loader), "sampler", None) or loader.sampler


def _has_batches(data: Any) -> bool | None:
    """Whether the elements of a ``tf.data.Dataset`` have a first axis of unknown length."""
    spec = getattr(data, "element_spec", None)
    while isinstance(spec, Mapping | tuple | list) and spec:
        spec = next(iter(spec.values())) if isinstance(spec, Mapping) else spec[0]
    with suppress(TypeError, ValueError, AttributeError):
        shape = list(spec.shape)  # type: ignore[union-attr]
        if shape and shape[0] is None and None not in shape[1:]:
            return True
    return None
