"""The exact state of a file as a few bytes, and back.

A state is a line of JSON, the numbers of its arrays behind it, and a checksum in front; all but the
checksum is compressed. That of a picture of bytes is its counts alone, each in as few bytes as hold
them: the rest follows. States never leave the ledger: what is exchanged is a saved profile.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.accumulation import Partial
from zeromean.errors import FormatError
from zeromean.statistics import Columns, Extrema, Histogram, ItemStds, Moments
from zeromean.statistics.formats import exact, frozen

_Array = npt.NDArray[Any]
_DENSE = 1024  # bins up to which all are written
_SMALLEST = (np.uint8, np.uint16, np.uint32)
_GENERAL, _PICTURE = 0, 1  # the first byte behind the checksum
_HEAD = struct.Struct("<BBB")  # of a picture: that byte, bytes for each count, kept axes
_VALUES = np.arange(256)


def encode(part: Partial) -> bytes:
    """A partial result as bytes.

    Parameters
    ----------
    part : Partial
        Without a covariance.
    """
    arrays: list[_Array] = []
    head = {
        "shape": list(part.kept_shape),
        "dtype": part.dtype,
        "statistics": _statistics(part.statistics, arrays),
        "extrema": None if part.extrema is None else _ends(part.extrema),
        "stds": None if part.stds is None else _stds(part.stds),
        "buckets": None if part.buckets is None else _histogram(part.buckets, arrays),
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    raw = b"".join([struct.pack("<I", len(text)), text, *(a.tobytes() for a in arrays)])
    return _signed(bytes([_GENERAL]) + zlib.compress(raw, 1))


def encode_picture(counts: _Array, shape: tuple[int, ...]) -> bytes:
    """The state of a picture of 8-bit values.

    Parameters
    ----------
    counts : ndarray of int64, (n_features, 256)
    shape : tuple of int
        The kept one.
    """
    size = next((k for k in (1, 2, 4) if int(counts.max()) < 1 << 8 * k), 8)
    head = _HEAD.pack(_PICTURE, size, len(shape)) + struct.pack(f"<{len(shape)}I", *shape)
    return _signed(head + counts.astype(f"<u{size}").tobytes())


def _signed(body: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(body)) + body


def decode(state: bytes, example: str) -> Partial:
    """The partial result again.

    Parameters
    ----------
    state : bytes
        From `encode`.
    example : str
        Name of the file, for messages.

    Raises
    ------
    FormatError
        When a bit of it has changed.
    """
    try:
        body = state[4:]
        if struct.unpack_from("<I", state)[0] != zlib.crc32(body):
            raise FormatError(f"the state of {example} does not have its checksum")
        if body[0] == _PICTURE:
            return _picture(body, example)
        raw = zlib.decompress(body[1:])
        (length,) = struct.unpack_from("<I", raw)
        head = json.loads(raw[4 : 4 + length])
        reader = _Reader(raw, 4 + length)
        return Partial(
            example,
            tuple(head["shape"]),
            head["dtype"],
            reader.statistics(head["statistics"]),
            None if head["extrema"] is None else _ends_of(head["extrema"]),
            None if head["stds"] is None else _stds_of(head["stds"]),
            None if head["buckets"] is None else reader.histogram(head["buckets"]),
        )
    except (struct.error, ValueError, LookupError, TypeError, zlib.error) as error:
        raise FormatError(f"the state of {example} cannot be read: {error}") from None


def _picture(body: bytes, example: str) -> Partial:
    _, size, axes = _HEAD.unpack_from(body)
    shape = struct.unpack_from(f"<{axes}I", body, _HEAD.size)
    features = math.prod(shape)
    counts = np.frombuffer(body, f"<u{size}", features * 256, _HEAD.size + 4 * axes)
    counts = counts.astype(np.int64).reshape(features, 256)
    n, sums, squares = int(counts[0].sum()), counts @ _VALUES, counts @ _VALUES**2
    stds = ItemStds.of_sums(n, sums[None], squares[None])
    return Partial(example, shape, "uint8", Histogram("uint8", frozen(counts)), None, stds, None)


# ---------------------------------------------------------------- out


def _statistics(statistics: Any, arrays: list[_Array]) -> dict[str, Any]:
    if isinstance(statistics, Columns):
        groups = {d: _statistics(g, arrays) for d, g in statistics.groups.items()}
        return {"dtypes": list(statistics.dtypes), "groups": groups}
    if isinstance(statistics, Histogram):
        return _histogram(statistics, arrays)
    assert isinstance(statistics, Moments)
    return {
        "moments": statistics.dtype,
        "n": statistics.n.tolist(),
        "special": statistics.special.tolist(),
        "sums": _hex(statistics.sums),
        "squares": _hex(statistics.squares),
    }


def _histogram(histogram: Histogram, arrays: list[_Array]) -> dict[str, Any]:
    counts = histogram.counts
    form: dict[str, Any] = {"histogram": histogram.dtype, "shape": list(counts.shape)}
    if histogram.missing is not None:
        form["missing"] = histogram.missing.tolist()
    if counts.shape[1] > _DENSE:
        places = np.flatnonzero(counts)
        counts = counts.ravel()[places]
        form["places"] = len(places)
        arrays.append(places.astype(np.uint32))
    top = int(counts.max(initial=0))
    small: Any = next((kind for kind in _SMALLEST if top <= np.iinfo(kind).max), np.int64)
    arrays.append(counts.astype(small))
    form["counts"] = np.dtype(small).str
    return form


def _ends(extrema: Extrema) -> dict[str, Any]:
    def plain(values: list[Any]) -> list[Any]:
        return [v.hex() if isinstance(v, float) else v for v in values]

    return {"low": plain(extrema.low.tolist()), "high": plain(extrema.high.tolist())}


def _stds(items: ItemStds) -> dict[str, Any]:
    return {"n": items.n, "stds": _hex(items.stds), "variances": _hex(items.variances)}


def _hex(values: _Array) -> list[str]:
    return [format(v, "x") for v in values.tolist()]


# ---------------------------------------------------------------- in


class _Reader:
    """Reads arrays one after the other."""

    def __init__(self, raw: bytes, at: int) -> None:
        self.raw, self.at = raw, at

    def take(self, dtype: str, count: int) -> _Array:
        values = np.frombuffer(self.raw, np.dtype(dtype), count, self.at)
        self.at += values.nbytes
        return values

    def statistics(self, form: dict[str, Any]) -> Any:
        if "groups" in form:
            groups = {d: self.statistics(g) for d, g in form["groups"].items()}
            return Columns(tuple(form["dtypes"]), groups)
        if "histogram" in form:
            return self.histogram(form)
        return Moments(
            form["moments"],
            frozen(np.array(form["n"], np.int64)),
            _integers(form["sums"]),
            _integers(form["squares"]),
            frozen(np.array(form["special"], np.int64).reshape(-1, 3)),
        )

    def histogram(self, form: dict[str, Any]) -> Histogram:
        shape = tuple(form["shape"])
        if "places" in form:
            places = self.take("<u4", form["places"])
            counts = np.zeros(shape[0] * shape[1], np.int64)
            counts[places] = self.take(form["counts"], form["places"])
        else:
            counts = self.take(form["counts"], shape[0] * shape[1]).astype(np.int64)
        missing = form.get("missing")
        lacking = None if missing is None else frozen(np.array(missing, np.int64))
        return Histogram(form["histogram"], frozen(counts.reshape(shape)), lacking)


def _integers(values: list[str]) -> _Array:
    return exact([int(v, 16) for v in values])


def _ends_of(form: dict[str, Any]) -> Extrema:
    def plain(values: list[Any]) -> list[Any]:
        return [float.fromhex(v) if isinstance(v, str) else v for v in values]

    return Extrema.of_lists(plain(form["low"]), plain(form["high"]))


def _stds_of(form: dict[str, Any]) -> ItemStds:
    return ItemStds(form["n"], _integers(form["stds"]), _integers(form["variances"]))
