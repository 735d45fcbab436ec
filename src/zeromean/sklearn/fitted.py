"""`fitted`: a fitted attribute that is read out from exact state when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

_T = TypeVar("_T")
_ABSENT = object()


class fitted(Generic[_T]):  # noqa: N801  (used as `property` is)
    """Makes a read-out an attribute: absent before `fit`, computed once after each.

    A value that somebody assigns is kept, as with any attribute, until the next `fit`.

    Parameters
    ----------
    read : callable
        Takes the estimator.
    """

    def __init__(self, read: Callable[[Any], _T]) -> None:
        self._read, self.__doc__ = read, read.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, estimator: None, owner: type) -> Self: ...
    @overload
    def __get__(self, estimator: object, owner: type) -> _T: ...
    def __get__(self, estimator: Any, owner: type) -> Any:
        if estimator is None:
            return self
        given = estimator.__dict__.get(self._name, _ABSENT)
        if given is not _ABSENT:
            return given
        state = estimator._state
        if state is None:
            raise AttributeError(
                f"{type(estimator).__name__!r} object has no attribute {self._name!r}: "
                "it is not fitted"
            )
        key = self._name, estimator._told()
        known = state.cache.get(key, _ABSENT)
        if known is _ABSENT:
            known = state.cache[key] = self._read(estimator)
        return known

    def __set__(self, estimator: Any, value: _T) -> None:
        estimator.__dict__[self._name] = value

    def __delete__(self, estimator: Any) -> None:
        if self._name not in estimator.__dict__:
            raise AttributeError(self._name)
        del estimator.__dict__[self._name]


def given(estimator: Any) -> list[str]:
    """Names of the read-outs that somebody assigned."""
    return [k for k in vars(estimator) if isinstance(getattr(type(estimator), k, None), fitted)]
