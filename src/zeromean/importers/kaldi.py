"""Kaldi CMVN statistics, text or binary, and the same in WeNet's JSON.

Read in kaldi's `src/transform/cmvn.cc` and `src/matrix/kaldi-matrix.cc`: a 2 × (d + 1) matrix of
Σx and the count, Σx² and 0; mean = Σx / n, variance = Σx² / n - mean² floored at 1e-20.
`apply-cmvn` divides by the std only under `--norm-vars=true`. WeNet's `utils/cmvn.py` has the same
formula, and its `GlobalCMVN` always divides.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import FormatError, UnitError, warn
from zeromean.importers.found import Found, exact, fractions, said, which
from zeromean.rounding import sqrt_ratio

TITLE = "Kaldi"
WENET = "WeNet"
_FLOOR = Fraction(1e-20)
_BINARY = b"\0B"
_REALS = {b"DM": "<f8", b"FM": "<f4"}
_TEXT = re.compile(rb"(?:^|(?<=\s))([^\s\[\]]+)?\s*\[([^\[\]]*)\]")
_Floats = npt.NDArray[np.float64]


def is_statistics(content: bytes) -> bool:
    """Whether bytes look like one matrix or an archive of them."""
    head = content[:4096]
    key, _, rest = head.partition(b" ")
    if head.startswith(_BINARY) or (rest.startswith(_BINARY) and b"\n" not in key):
        return True
    found = _TEXT.match(content.lstrip())
    return found is not None and bool(found[2].strip())


def read(content: bytes, place: str, key: str | None, norm_vars: bool | None) -> Found:
    """The statistics of one key, or the only ones.

    Raises
    ------
    UnitError
        When it must be told which of several to take, or whether to divide by the std.
    FormatError
        When it holds no such statistics.
    """
    matrices = dict(_binary(content, place) if _is_binary(content) else _text(content, place))
    if key is None and len(matrices) == 1:
        key = next(iter(matrices))
    if key not in matrices:
        raise UnitError(which(list(matrices), key, "speakers or recordings", place))
    matrix = _checked(matrices[key], place)
    if norm_vars is None:
        raise UnitError(
            f"{place}: does not say whether features were also divided by their std; say "
            "norm_vars=True (--norm-vars) if apply-cmvn had --norm-vars=true, norm_vars=False "
            "(--no-norm-vars) if it had not, which is its default"
        )
    return _found(
        matrix[0, :-1], matrix[1, :-1], matrix[0, -1], place, norm_vars=norm_vars, title=TITLE
    )


def _checked(matrix: _Floats, place: str) -> _Floats:
    if matrix.ndim != 2 or len(matrix) != 2 or matrix.shape[1] < 2 or matrix[1, -1] != 0:
        raise FormatError(
            f"{place}: holds a matrix of shape {matrix.shape}, and CMVN statistics are 2 x (d + 1) "
            "with 0 in the last place: write them with compute-cmvn-stats"
        )
    return matrix


def read_json(config: Mapping[str, Any], place: str) -> Found:
    """WeNet's `global_cmvn`.

    Raises
    ------
    FormatError
        When a field is missing, or the two lists differ in length.
    """
    sums, squares, count = (said(config, n, place) for n in ("mean_stat", "var_stat", "frame_num"))
    return _found(sums, squares, count, place, norm_vars=True, title=WENET)


def _found(
    sums: Any, squares: Any, count: Any, place: str, *, norm_vars: bool, title: str
) -> Found:
    first, second = exact(sums, "sums", place).ravel(), exact(squares, "squares", place).ravel()
    n = exact(count, "count", place).item()
    if len(first) != len(second):
        raise FormatError(f"{place}: holds {len(first)} sums and {len(second)} sums of squares")
    if n < 1:
        raise FormatError(f"{place}: was measured on {float(n):g} frames; measure more data")
    mean = first / n
    scale = fractions(np.ones(len(mean)))
    if norm_vars:
        variance = second / n - mean * mean
        _say_floored(np.flatnonzero(variance < _FLOOR), place)
        stds = [_root(v) for v in variance.tolist()]
        scale = fractions(np.array(stds))
    return Found(
        title=title,
        place=place,
        shift=mean,
        scale=scale,
        pattern="n d -> d",
        dtype="float32",
        recipe="standardize" if norm_vars else "zero_mean",
        details={"frames": float(n)},
    )


def _root(variance: Fraction) -> float:
    floored = max(variance, _FLOOR)
    return sqrt_ratio(floored.numerator, floored.denominator)


def _say_floored(places: npt.NDArray[np.intp], place: str) -> None:
    if len(places):
        few = ", ".join(map(str, places[:8].tolist()))
        warn(
            f"{place}: {len(places)} feature(s) do not vary and are divided by 1e-10, as Kaldi "
            f"does: {few}"
        )


# ---------------------------------------------------------------- the files


def _is_binary(content: bytes) -> bool:
    return content.startswith(_BINARY) or content.partition(b" ")[2].startswith(_BINARY)


def _text(content: bytes, place: str) -> Iterator[tuple[str, _Floats]]:
    """Matrices in brackets, rows apart by newline or semicolon, each behind its key if any."""
    for match in _TEXT.finditer(content):
        rows = [row.split() for row in re.split(rb"[\n;]", match[2]) if row.strip()]
        try:
            matrix = np.array([[float(v) for v in row] for row in rows])
        except ValueError:
            raise FormatError(f"{place}: holds text where a matrix has numbers") from None
        yield (match[1] or b"").decode(errors="replace"), matrix


def _binary(content: bytes, place: str) -> Iterator[tuple[str, _Floats]]:
    """\\0B, a token, and rows and columns as an int32 behind its size in bytes; little-endian."""
    position = 0
    while position < len(content):
        start = content.find(_BINARY, position)
        if start < 0:
            raise FormatError(f"{place}: is damaged: no matrix at byte {position}")
        key = content[position:start].strip().decode(errors="replace")
        token, _, _ = content[start + 2 : start + 6].partition(b" ")
        if token not in _REALS:
            raise FormatError(
                f"{place}: holds {token.decode(errors='replace')!r} and no matrix of floats (FM, "
                "DM): rewrite it with copy-matrix --binary=false"
            )
        matrix, position = _matrix(content, start + 5, _REALS[token], place)
        yield key, matrix


def _matrix(content: bytes, position: int, kind: str, place: str) -> tuple[_Floats, int]:
    try:
        size, n_rows, size2, n_columns = struct.unpack_from("<bibi", content, position)
    except struct.error:
        raise FormatError(f"{place}: is cut off at byte {position}") from None
    begin = position + 10
    end = begin + max(n_rows, 0) * max(n_columns, 0) * np.dtype(kind).itemsize
    if size != 4 or size2 != 4 or min(n_rows, n_columns) < 0 or end > len(content):
        raise FormatError(f"{place}: is damaged or cut off: a matrix at byte {position}")
    values = np.frombuffer(content[begin:end], kind).astype(np.float64)
    return values.reshape(n_rows, n_columns), end
