"""A covariance as fields of a profile's file, and back; `docs/format.md` says what each means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.documents import (
    Tensors,
    check_sum,
    checksum,
    field,
    from_bytes_tensor,
    from_hex,
    hex_list,
    tensor,
    to_bytes_tensor,
    to_hex,
)
from zeromean.errors import FormatError
from zeromean.statistics import Covariance
from zeromean.statistics.covariance import joint_dtype
from zeromean.statistics.formats import exact, frozen
from zeromean.statistics.products import exact_square
from zeromean.statistics.scatter import CenteredScatter, ExactScatter

if TYPE_CHECKING:
    from zeromean.readouts import Readouts

_Array = npt.NDArray[Any]
_MAX_JSON_ENTRIES = 10_000
_MAX_COUNT = 1 << 62
_COUNTS = ("n", "left_out")


def fields_of(covariance: Covariance, arrays: Tensors | None) -> dict[str, Any]:
    """The fields of a covariance; with `arrays`, its numbers go there and the fields name them.

    Raises
    ------
    FormatError
        When there are too many entries for JSON.
    """
    features = covariance.n_features
    entries = features * (features + 1) // 2
    if arrays is None and entries > _MAX_JSON_ENTRIES:
        raise FormatError(
            f"a covariance of {features} features has {entries} entries, too many for .json (at "
            f"most {_MAX_JSON_ENTRIES}); save to .safetensors"
        )
    state = covariance.scatter
    own: Tensors | None = None if arrays is None else {}
    held: dict[str, Any] = {"dtype": covariance.dtype}
    held |= {name: to_hex([getattr(state, name)])[0] for name in _COUNTS}
    if isinstance(state, ExactScatter):
        held["sums"] = _integers(state.sums, "sums", own)
        held["products"] = _integers(_upper(state.products), "products", own)
    else:
        held["blocks"] = to_hex([state.blocks])[0]
        held["center"] = _floats(state.center, "center", own)
        held["offset"] = _floats(state.offset, "offset", own)
        held["spread"] = _floats(_upper(state.spread), "spread", own)
    held["checksum"] = checksum({"covariance": held}, own or {})
    if arrays is not None and own is not None:
        arrays |= own
    return held


def _upper(square: _Array) -> _Array:
    """The diagonal and what is above it, row by row."""
    return square[np.triu_indices(len(square))]


def _integers(values: _Array, name: str, own: Tensors | None) -> Any:
    if own is None:
        return to_hex(values)
    fits = values.dtype == np.int64
    own[f"covariance.{name}"] = np.array(values) if fits else to_bytes_tensor(values)
    return f"covariance.{name}"


def _floats(values: _Array, name: str, own: Tensors | None) -> Any:
    if own is None:
        return [value.hex() for value in values.tolist()]
    own[f"covariance.{name}"] = np.array(values)
    return f"covariance.{name}"


# ---------------------------------------------------------------- back


def covariance_of(
    document: Mapping[str, Any], arrays: Tensors, profile: Readouts
) -> Covariance | None:
    """The covariance in a document, every field checked; None if there is none.

    Parameters
    ----------
    document : mapping
    arrays : dict of str to ndarray
    profile : Readouts
        The rest of the document; what both know must agree.

    Raises
    ------
    FormatError
        Naming the field.
    """
    if "covariance" not in document:
        return None
    held = field(document, "covariance", dict)
    reader = _Reader(held, arrays, profile.n_features)
    dtype = field(held, "dtype", str)
    if dtype != joint_dtype(profile.dtypes):
        raise FormatError(
            f"field 'covariance.dtype' is {dtype!r}, but the data is {profile.dtype!r}"
        )
    state = reader.centered() if "float" in dtype else reader.exact()
    _check_counts(state, profile)
    own = {name: v for name, v in arrays.items() if name.startswith("covariance.")}
    check_sum(held, checksum({"covariance": {k: held[k] for k in held if k != "checksum"}}, own))
    return Covariance(dtype, profile.n_features, state)


def _check_counts(state: ExactScatter | CenteredScatter, profile: Readouts) -> None:
    """A row that was taken has a finite value in every feature; if all were, sums agree too."""
    sums = profile.statistics.power_sums
    counts = sums.n.tolist()
    complete = state.left_out == 0
    if any(n < state.n or n > state.n + state.left_out for n in counts):
        raise FormatError("field 'covariance.n' contradicts the statistics")
    if isinstance(state, ExactScatter) and complete:
        diagonal = np.diagonal(state.products).tolist()
        if state.sums.tolist() != sums.sums.tolist() or diagonal != sums.squares.tolist():
            raise FormatError("field 'covariance' contradicts the statistics")


class _Reader:
    """Reads the fields of a covariance of so many features."""

    def __init__(self, held: Mapping[str, Any], arrays: Tensors, features: int) -> None:
        self.held, self.arrays, self.features = held, arrays, features
        self.entries = features * (features + 1) // 2

    def exact(self) -> ExactScatter:
        n, left_out = (self._count(name) for name in _COUNTS)
        sums = exact(self._integers("sums", self.features).tolist())
        products = exact_square(self._square(self._integers("products", self.entries)))
        state = ExactScatter(n, left_out, sums, products)
        if not state.possible:
            raise FormatError("fields 'covariance.n', 'sums' and 'products' contradict each other")
        return state

    def centered(self) -> CenteredScatter:
        n, left_out, blocks = (self._count(name) for name in (*_COUNTS, "blocks"))
        center, offset = (frozen(self._floats(k, self.features)) for k in ("center", "offset"))
        spread = self._square(self._floats("spread", self.entries))
        if (np.diagonal(spread) < 0).any() or (blocks == 0) != (n == 0):
            raise FormatError("field 'covariance' holds impossible numbers")
        return CenteredScatter(n, left_out, center, offset, frozen(spread), blocks)

    def _count(self, name: str) -> int:
        count = from_hex(field(self.held, name, str), f"covariance.{name}")
        if count >= _MAX_COUNT:
            raise FormatError(f"field 'covariance.{name}' holds an impossible count")
        return count

    def _integers(self, name: str, length: int) -> _Array:
        value: Any = field(self.held, name, (list, str))
        where = f"covariance.{name}"
        if not isinstance(value, str):
            return np.array(hex_list(value, where, length, negative=True), object)
        if value in self.arrays and self.arrays[value].dtype == np.uint8:
            return np.array(from_bytes_tensor(self.arrays[value], where, length), object)
        return tensor(self.arrays, value, np.int64, (length,)).copy()

    def _floats(self, name: str, length: int) -> _Array:
        value: Any = field(self.held, name, (list, str))
        if isinstance(value, str):
            return tensor(self.arrays, value, np.float64, (length,)).copy()
        if len(value) != length:
            raise FormatError(f"field 'covariance.{name}' must have {length} entries")
        try:
            numbers = [float.fromhex(text) for text in value]
        except (ValueError, TypeError, OverflowError):
            raise FormatError(f"field 'covariance.{name}' must hold hex floats") from None
        if any(number.hex() != text for number, text in zip(numbers, value, strict=True)):
            raise FormatError(f"field 'covariance.{name}' holds a hex float that is not canonical")
        return np.array(numbers, np.float64)

    def _square(self, entries: _Array) -> _Array:
        square = np.zeros((self.features, self.features), entries.dtype)
        above = np.triu_indices(self.features)
        square[above] = entries
        square.T[above] = entries
        return square
