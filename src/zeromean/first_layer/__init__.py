"""Folding a normalizer into the first layer of a model: the arithmetic, with NumPy alone.

A layer computes W y + b of the normalized input y = (x - shift) / scale + offset. With
t = offset - shift / scale, the value that raw zero becomes, that is W' x + b' where

- W' = W diag(1 / scale) and b' = b + W t,
- and with a whitening matrix M: W' = W M and b' = b + W (offset - M shift).

Everything is float64 and rounded once, to the dtype of the weights. A convolution that pads its
input with zeros pads *normalized* zeros, which are the raw value x0 = shift - offset scale; where
padding stays raw zero, each output has the bias of the weights that lie inside the picture.
"""

from __future__ import annotations

from zeromean.first_layer.arithmetic import Columns, correction_map, rounded
from zeromean.first_layer.entering import Entering
from zeromean.first_layer.inputs import (
    Lengths,
    Wanted,
    check_options,
    chosen,
    entering,
    expectation,
    guesses,
)
from zeromean.first_layer.probes import MOST_PROBED, SIZES, Probes
from zeromean.first_layer.record import Folding, Run, allowed, compared, nudge_of

__all__ = [
    "MOST_PROBED",
    "SIZES",
    "Columns",
    "Entering",
    "Folding",
    "Lengths",
    "Probes",
    "Run",
    "Wanted",
    "allowed",
    "check_options",
    "chosen",
    "compared",
    "correction_map",
    "entering",
    "expectation",
    "guesses",
    "nudge_of",
    "rounded",
]
