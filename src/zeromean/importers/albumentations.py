"""Albumentations: `Normalize`, alone or in a `Compose`, as an object or as `A.save` writes it.

Read in albumentations 2.0.8: `serialization.to_dict` gives `__version__` and `transform`, in which
each transform says its `__class_fullname__` and its arguments, and containers their `transforms`;
`Normalize` is (x - mean max_pixel_value) / (std max_pixel_value) under "standard"; `ToFloat` is
x / max_value; a transform is left out of one call in 1 / (1 - p).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from zeromean.embedding import KEY
from zeromean.errors import FormatError
from zeromean.importers.found import Found, channels_of, exact, pair, said

TITLE = "Albumentations"
_CLASS = "__class_fullname__"
_IN_ORDER = ("Compose", "Sequential", "ReplayCompose")
#: What `Normalize` takes without arguments.
_DEFAULTS = {"max_pixel_value": 255.0, "normalization": "standard", "p": 1.0}
_SAVED_P = 0.5  # what `A.from_dict` takes where a file does not say it
#: Others that bring pictures to another scale, and cannot be joined with a Normalize here.
_RESCALE = ("FromFloat", "Lambda")

#: A transform: its class, and how to read an argument, or None.
_Step = tuple[str, Callable[[str], Any]]


def is_config(config: Mapping[str, Any]) -> bool:
    """Whether a JSON object is what `A.save` writes, or one transform of it."""
    inner = config.get("transform", config)
    return isinstance(inner, Mapping) and isinstance(inner.get(_CLASS), str)


def read(source: Any, place: str) -> Found:
    """What a transform says, or the only Normalize in a container.

    Raises
    ------
    FormatError
        Without a Normalize, with several, with one that is left out at random, that measures each
        picture by itself, or behind what changes the scale in a way that cannot be seen.
    """
    saved = isinstance(source, Mapping)
    document = source.get(KEY) if saved else None
    steps = list(_saved(source.get("transform", source), 1) if saved else _held(source, 1))
    places = [i for i, (name, _) in enumerate(steps) if name == "Normalize"]
    if len(places) != 1:
        held = ", ".join(name for name, _ in steps[:8]) or "nothing"
        raise FormatError(
            f"{place}: holds {len(places)} Normalize among its transforms ({held}); import one "
            "that has exactly one, or pass that one alone"
        )
    _check(steps[places[0]][1], place)
    return _found(steps[places[0]][1], place, document, _before(steps[: places[0]], place))


# ---------------------------------------------------------------- the transforms


def _saved(transform: Any, chance: float) -> Iterator[_Step]:
    """All transforms in order, of a dictionary."""
    if not isinstance(transform, Mapping):
        return
    name = str(transform.get(_CLASS)).rpartition(".")[2]
    inner = transform.get("transforms")
    if isinstance(inner, list):
        for step in inner:
            yield from _saved(step, _chance(name, transform.get("p"), chance))
        return
    held = {"p": _SAVED_P} | dict(transform)
    yield name, (held | {"p": _product(held["p"], chance)}).get


def _held(transform: Any, chance: float) -> Iterator[_Step]:
    """All transforms in order, of an object."""
    name = type(transform).__name__
    inner = getattr(transform, "transforms", None)
    if inner is not None:
        for step in inner:
            yield from _held(step, _chance(name, getattr(transform, "p", 1.0), chance))
        return
    p = _product(getattr(transform, "p", 1.0), chance)
    yield name, lambda field: p if field == "p" else getattr(transform, field, None)


def _chance(name: str, p: Any, outer: float) -> float:
    """How often what is in a container is applied; OneOf and its like choose among theirs."""
    return 0.0 if name not in _IN_ORDER else _product(1.0 if p is None else p, outer)


def _product(p: Any, outer: float) -> float:
    return float(p) * outer if isinstance(p, int | float) else 0.0


def _check(step: Callable[[str], Any], place: str) -> None:
    if step("p") < 1:
        raise FormatError(
            f"{place}: its Normalize is left out at random (p, or a container that chooses), so "
            "the model was given two kinds of data; set p to 1 if that was not meant"
        )
    way = step("normalization") or _DEFAULTS["normalization"]
    if way != "standard":
        raise FormatError(
            f"{place}: normalization={way!r} measures each picture by itself; use "
            "zm.per_sample(zm.standardize, 'n h w c -> n c')"
        )


def _before(steps: list[_Step], place: str) -> Fraction | None:
    """What the transforms in front divide by; None where that depends on the pictures' dtype."""
    divisor = Fraction(1)
    for name, step in steps:
        if name in _RESCALE:
            raise FormatError(
                f"{place}: {name} stands in front of its Normalize and may change the scale; "
                "import the Normalize alone, if its numbers are for the raw data"
            )
        if name == "ToFloat":
            top = step("max_value")
            if top is None:
                return None
            divisor *= exact(top, "max_value", place).item()
    return divisor


# ---------------------------------------------------------------- its numbers


def _found(
    step: Callable[[str], Any], place: str, document: Any, divisor: Fraction | None
) -> Found:
    held = {name: step(name) for name in ("mean", "std")}
    mean, std = said(held, "mean", place), said(held, "std", place)
    shift, scale = pair(mean, std, ("mean", "std"), place)
    if shift.size == 1:
        shift, scale = shift.reshape(()), scale.reshape(())
    top = exact(step("max_pixel_value") or _DEFAULTS["max_pixel_value"], "max_pixel_value", place)
    units: dict[str, Any] = {"unit": None, "asks_range": "ToFloat divides by the top of the dtype"}
    if divisor is not None:
        raw = top.item() * divisor
        units = {"unit": raw, "usual_range": (0, int(raw) if raw.denominator == 1 else float(raw))}
    elif top.item() != 1:
        raise FormatError(
            f"{place}: ToFloat brings pictures to 0..1, and its Normalize divides by "
            f"max_pixel_value={float(top.item()):g} once more; set that to 1"
        )
    return Found(
        title=TITLE,
        place=place,
        shift=shift,
        scale=scale,
        top=1,
        pattern="n h w c -> c" if shift.ndim else "n h w c ->",
        channels=_order(document, shift.size) or channels_of(shift.size, "RGB"),
        document=document,
        **units,
    )


def _order(document: Any, count: int) -> str:
    """Of the channels, as our own document says it."""
    said = document.get("channels") if isinstance(document, Mapping) else None
    return said if isinstance(said, str) and len(said) == count else ""
