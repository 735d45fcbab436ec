"""LeRobot `meta/stats.json`: statistics of each feature of a robot's data set.

Read in lerobot's `datasets/compute_stats.py` (pictures are measured as uint8 and divided by 255, of
shape (3, 1, 1)) and `processor/normalize_processor.py`: (x - mean) / (std + 1e-8) where a policy
normalizes by MEAN_STD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from zeromean.errors import FormatError, UnitError, warn
from zeromean.importers.found import Found, channels_of, exact, said, which

TITLE = "LeRobot"
#: What every version of LeRobot writes for a feature, and whatever else some do.
_WRITTEN = {"mean", "std", "min", "max"}
_STATISTIC = re.compile("mean|std|min|max|count|q[0-9]+")
_EPS = Fraction(1, 10**8)


def is_stats(config: Mapping[str, Any]) -> bool:
    """Whether a JSON object holds statistics by feature, and nothing else."""
    held = [value for value in config.values() if isinstance(value, Mapping)]
    known = all(_STATISTIC.fullmatch(name) for value in held for name in value)
    return known and len(held) == len(config) and any(value.keys() >= _WRITTEN for value in held)


def _features(config: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, held in config.items()
        if isinstance(held, Mapping) and "mean" in held and "std" in held
    ]


def read(config: Mapping[str, Any], place: str, key: str | None) -> Found:
    """The statistics of one feature.

    Raises
    ------
    UnitError
        When it must be told which feature is meant.
    FormatError
        When mean and std differ in shape, or a std is negative.
    """
    names = _features(config)
    if key is None and len(names) == 1:
        key = names[0]
    if key not in names:
        raise UnitError(which(names, key, "features", place))
    held, place = config[key], f"{place}: {key}"
    mean = exact(said(held, "mean", place), "mean", place)
    std = exact(said(held, "std", place), "std", place)
    if mean.shape != std.shape or (std < 0).any():
        raise FormatError(
            f"{place}: mean has shape {mean.shape} and std {std.shape}, and no std may be "
            "negative: measure the data set again"
        )
    _say_constant(std, place)
    picture = mean.ndim == 3 and mean.shape[1:] == (1, 1)
    return Found(
        title=TITLE,
        place=place,
        shift=mean.ravel(),
        scale=std.ravel() + _EPS,
        details={"eps": 1e-8},
        **(_picture(mean.size) if picture else {"pattern": "n d -> d", "dtype": "float32"}),
    )


def _picture(count: int) -> dict[str, Any]:
    return {
        "pattern": "n h w c -> c",
        "unit": None,
        "top": 1,
        "usual_range": (0, 255) if count == 3 else None,
        "asks_range": "" if count == 3 else "its pictures do not have three channels",
        "channels": channels_of(count, "RGB"),
        "feeds_them": True,
    }


def _say_constant(std: Any, place: str) -> None:
    places = np.flatnonzero(std == 0)
    if len(places):
        few = ", ".join(map(str, places[:8].tolist()))
        warn(
            f"{place}: {len(places)} feature(s) do not vary and are divided by 1e-8, as LeRobot "
            f"does: {few}"
        )
