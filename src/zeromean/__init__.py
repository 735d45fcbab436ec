"""Measures training data once, exactly; centers it, scales it, and ships the numbers.

>>> import numpy as np
>>> import zeromean as zm
>>> profile = zm.measure(np.array([[-1, 2], [-0.5, 6], [0, 10], [1, 18]]))
>>> zm.standardize(profile)(np.array([[-1, 2], [-0.5, 6], [0, 10], [1, 18]]), dtype="float64")
array([[-1.18321596, -1.18321596],
       [-0.50709255, -0.50709255],
       [ 0.16903085,  0.16903085],
       [ 1.52127766,  1.52127766]])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeromean.convergence.results import Study
    from zeromean.convergence.studying import study
    from zeromean.diagnosis.checking import check
    from zeromean.diagnosis.findings import Finding, Findings
    from zeromean.errors import (
        FormatError,
        MergeError,
        PatternError,
        SkippedWarning,
        SourceError,
        UnitError,
        ZeromeanError,
        ZeromeanWarning,
    )
    from zeromean.exporters.exporting import Exported, export
    from zeromean.exporters.folding import fold
    from zeromean.group_normalizer import GroupedNormalizer
    from zeromean.grouped import GroupedProfile
    from zeromean.importers.importing import import_normalizer
    from zeromean.ledger.reading import Ledger
    from zeromean.loading import load
    from zeromean.measurement import measure
    from zeromean.normalizer import Normalizer
    from zeromean.pattern import Pattern
    from zeromean.profile import Profile
    from zeromean.recipes import (
        max_abs,
        mean_normalize,
        min_max,
        robust,
        standardize,
        zero_mean,
    )
    from zeromean.reporting import report
    from zeromean.reweighting import WeightedProfile
    from zeromean.samples import per_sample
    from zeromean.whitening import whiten

__version__ = "0.1.0"

_HOME = {
    "Exported": "exporters.exporting",
    "Finding": "diagnosis.findings",
    "Findings": "diagnosis.findings",
    "FormatError": "errors",
    "GroupedNormalizer": "group_normalizer",
    "GroupedProfile": "grouped",
    "Ledger": "ledger.reading",
    "MergeError": "errors",
    "Normalizer": "normalizer",
    "Pattern": "pattern",
    "PatternError": "errors",
    "Profile": "profile",
    "SkippedWarning": "errors",
    "SourceError": "errors",
    "Study": "convergence.results",
    "UnitError": "errors",
    "WeightedProfile": "reweighting",
    "ZeromeanError": "errors",
    "ZeromeanWarning": "errors",
    "check": "diagnosis.checking",
    "export": "exporters.exporting",
    "fold": "exporters.folding",
    "import_normalizer": "importers.importing",
    "load": "loading",
    "max_abs": "recipes",
    "mean_normalize": "recipes",
    "measure": "measurement",
    "min_max": "recipes",
    "per_sample": "samples",
    "report": "reporting",
    "robust": "recipes",
    "standardize": "recipes",
    "study": "convergence.studying",
    "whiten": "whitening",
    "zero_mean": "recipes",
}

__all__ = [
    "Exported",
    "Finding",
    "Findings",
    "FormatError",
    "GroupedNormalizer",
    "GroupedProfile",
    "Ledger",
    "MergeError",
    "Normalizer",
    "Pattern",
    "PatternError",
    "Profile",
    "SkippedWarning",
    "SourceError",
    "Study",
    "UnitError",
    "WeightedProfile",
    "ZeromeanError",
    "ZeromeanWarning",
    "__version__",
    "check",
    "export",
    "fold",
    "import_normalizer",
    "load",
    "max_abs",
    "mean_normalize",
    "measure",
    "min_max",
    "per_sample",
    "report",
    "robust",
    "standardize",
    "study",
    "whiten",
    "zero_mean",
]


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562), so that `import zeromean` costs next to nothing."""
    from importlib import import_module

    if name in ("sklearn", "torch"):  # zm.torch.fold(...) without another import
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
