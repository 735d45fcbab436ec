"""Scikit-learn's scalers, exact: the same bits for every split into batches; merged, saved.

`StandardScaler`, `MinMaxScaler`, `MaxAbsScaler` and `RobustScaler` take the place of those of the
same name; `ZeroMean`, `MeanNormalizer` and `Whitener` are more of their kind. `load` reads what
their method `save` wrote.
"""

from __future__ import annotations

try:
    import sklearn as _scikit_learn  # noqa: F401
except ImportError as error:
    raise ImportError(
        'zeromean.sklearn needs scikit-learn: pip install "zeromean[sklearn]"'
    ) from error

from zeromean.sklearn.quartiles import RobustScaler
from zeromean.sklearn.ranges import MaxAbsScaler, MeanNormalizer, MinMaxScaler
from zeromean.sklearn.standard import StandardScaler, ZeroMean
from zeromean.sklearn.storing import load
from zeromean.sklearn.whitener import Whitener

#: Names of all estimators.
ESTIMATORS = (
    "MaxAbsScaler",
    "MeanNormalizer",
    "MinMaxScaler",
    "RobustScaler",
    "StandardScaler",
    "Whitener",
    "ZeroMean",
)

__all__ = [
    "MaxAbsScaler",
    "MeanNormalizer",
    "MinMaxScaler",
    "RobustScaler",
    "StandardScaler",
    "Whitener",
    "ZeroMean",
    "load",
]
