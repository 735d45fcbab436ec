"""Imported once by the process that workers are forked from, so that none of them starts cold.

Loading the compiler and a first kernel takes longer than a worker needs for a hundred pictures.
"""

from __future__ import annotations

import signal
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

# Until here Ctrl-C was blocked, for it is meant for the program that started this process. What has
# come is forgotten; what is forked from here gets it as usual.
_HANDLER = signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
signal.signal(signal.SIGINT, _HANDLER)
