"""The commutative monoids: `Histogram`, `Moments`, `Extrema`, `Covariance` and others; exact state.

The interface is on this page. A statistic has ``of(block)``, ``empty(n_features, dtype)``,
``+``, ``==`` and, where it is lawful, ``-``, and obeys ::

    of(a joined to b) == of(a) + of(b)          whatever the split
    of(a) + of(b) == of(b) + of(a)              whatever the order
    empty(k, dtype) + of(a) == of(a)
    (of(a) + of(b)) - of(b) == of(a)            where there is a minus

with ``==`` and not "nearly". State is integers; division and roots happen at read-out.
Values are immutable. Only the `Covariance` of floats cannot keep the laws: it says
``exact = False`` and states its `error_bound`.

A block is an array of shape (n_samples, n_features), or (outer, n_features, inner) when
the features lie in runs; any strides, any byte order.
"""

from __future__ import annotations

from zeromean.statistics.columns import Columns
from zeromean.statistics.covariance import Covariance
from zeromean.statistics.extrema import Extrema
from zeromean.statistics.formats import PowerSums, bin_values, check_dtype, is_counted
from zeromean.statistics.histogram import Histogram
from zeromean.statistics.items import ItemStds, counted_items
from zeromean.statistics.moments import Moments
from zeromean.statistics.running import RunningMoments
from zeromean.statistics.weighted import WeightedMoments

__all__ = [
    "Columns",
    "Covariance",
    "Extrema",
    "Histogram",
    "ItemStds",
    "Moments",
    "PowerSums",
    "RunningMoments",
    "WeightedMoments",
    "bin_values",
    "check_dtype",
    "counted_items",
    "is_counted",
]
