"""Imported once by the process that workers are forked from, so that none of them starts cold.

Loading the compiler and a first kernel takes longer than a worker needs for a hundred pictures.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

import zeromean.sources.images  # noqa: F401
from zeromean.accumulation import Plan, measure_shard
from zeromean.pattern import NAMED, Pattern
from zeromean.sources import Item
from zeromean.sources.arrays import ItemShard

with suppress(Exception):  # the worker that needs it will say what is wrong
    _BLACK = Item(np.zeros((8, 8, 3), np.uint8), "a black picture")
    measure_shard(ItemShard((_BLACK,)), Plan(Pattern.parse(NAMED["channel"])))
