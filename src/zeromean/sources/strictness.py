"""Makes Pillow strict and silent in the threads that decode, and nowhere else."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_THREAD = threading.local()


class _InsideDecode:
    """Stands in a warning filter for the pattern of the message; matches in decoding threads."""

    def match(self, _message: str) -> bool:
        return bool(getattr(_THREAD, "decoding", False))

    def __reduce__(self) -> str:  # joblib pickles the warning filters
        return "_INSIDE_DECODE"


class _ExceptInsideDecode(int):
    """True, but in a thread that is decoding."""

    def __bool__(self) -> bool:
        return not getattr(_THREAD, "decoding", False)

    def __repr__(self) -> str:
        return "True"


_INSIDE_DECODE = _InsideDecode()
_SILENCE = ("ignore", _INSIDE_DECODE, Warning, None, 0)


class _Strictly:
    """While a thread is inside, Pillow warns of nothing and forgives nothing, there only.

    Warning filters and LOAD_TRUNCATED_IMAGES belong to the whole process. Setting and
    resetting them here would race with every other thread (ours and the user's), so each
    is replaced once by an object that answers for the thread that asks.
    """

    def __enter__(self) -> None:
        from PIL import ImageFile

        filters: list[Any] = warnings.filters  # type: ignore[assignment]
        if not filters or filters[0] is not _SILENCE:
            filters.insert(0, _SILENCE)
        lenient = ImageFile.LOAD_TRUNCATED_IMAGES
        if lenient and not isinstance(lenient, _ExceptInsideDecode):
            ImageFile.LOAD_TRUNCATED_IMAGES = _ExceptInsideDecode(1)  # type: ignore[assignment]
        _THREAD.decoding = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _THREAD.decoding = False


STRICTLY = _Strictly()
