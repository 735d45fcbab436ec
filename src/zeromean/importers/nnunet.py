"""nnU-Net `dataset_fingerprint.json` and plans: what its CT scheme subtracts and divides by.

Read in nnunetv2's `preprocessing/normalization/default_normalization_schemes.py`: CTNormalization
clips to the percentiles 0.5 and 99.5, then (x - mean) / max(std, 1e-8). All other schemes measure
each image by itself and never look at the fingerprint. Arrays are (channels, z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zeromean.errors import FormatError, warn
from zeromean.importers.found import Found, exact, fractions, said

TITLE = "nnU-Net"
KEY = "foreground_intensity_properties_per_channel"
_CT = "CTNormalization"


def read(config: Mapping[str, Any], place: str) -> Found:
    """The numbers of all channels.

    Raises
    ------
    FormatError
        When a channel lacks a number, or the plans normalize it by each image.
    """
    channels = said(config, KEY, place)
    _check_schemes(config, place)
    if not isinstance(channels, Mapping) or not channels:
        raise FormatError(f"{place}: {KEY!r} holds no channels")
    names = sorted(channels, key=lambda name: (len(name), name))
    held = {field: _field(channels, names, field, place) for field in ("mean", "std")}
    if (held["std"] < 0).any():
        raise FormatError(f"{place}: a std is negative: extract the fingerprint again")
    low = _field(channels, names, "percentile_00_5", place)
    high = _field(channels, names, "percentile_99_5", place)
    limits = ", ".join(f"{float(a):g}..{float(b):g}" for a, b in zip(low, high, strict=True))
    warn(
        f"{place}: nnU-Net clips the data to {limits} first, which a normalizer does not: clip it "
        f"before, with np.clip; and it uses these numbers only for channels under {_CT}"
    )
    return Found(
        title=TITLE,
        place=place,
        shift=held["mean"],
        scale=np.maximum(held["std"], fractions(np.array([1e-8]))),
        pattern="n c z y x -> c",
        dtype="float32",
    )


def _field(channels: Mapping[str, Any], names: list[str], field: str, place: str) -> Any:
    values = [said(channels[name], field, f"{place}: channel {name}") for name in names]
    return exact(values, field, place)


def _check_schemes(config: Mapping[str, Any], place: str) -> None:
    """Plans say how each channel is normalized; a fingerprint does not."""
    held = config.get("configurations")
    schemes = {
        scheme
        for part in (held.values() if isinstance(held, Mapping) else ())
        for scheme in part.get("normalization_schemes", ())
    }
    others = sorted(schemes - {_CT})
    if others:
        raise FormatError(
            f"{place}: normalizes by {', '.join(others)}, which measures each image by itself; use "
            "zm.per_sample(zm.standardize, 'n c z y x -> n c')"
        )
