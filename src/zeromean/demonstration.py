"""`zeromean demo`: the whole job on the two photographs that scikit-learn carries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeromean import figures
from zeromean.application import apply_files
from zeromean.drawing import draw
from zeromean.errors import SourceError
from zeromean.measurement import measure
from zeromean.outputs import Output
from zeromean.recipes import standardize, zero_mean
from zeromean.reporting import report
from zeromean.summary import profile_text

_SHARD = "shard-00000.npz"


def photographs() -> Path:
    """The folder of scikit-learn's sample photographs, found without importing its estimators.

    Raises
    ------
    ImportError
        When scikit-learn is not installed, with what to install.
    """
    from importlib.util import find_spec

    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ImportError('the demo needs two photographs: pip install "zeromean[demo]"')
    return Path(found.origin).parent / "datasets" / "images"


def run(target: Path, *, color: bool) -> Iterator[str]:
    """Measure, zero-mean, draw; yields what to print, step by step.

    Raises
    ------
    SourceError
        When `target` is a file, or holds something that the demo did not write.
    """
    source = photographs()
    _prepare(target)
    profile = measure(source)
    profile.save(target / "photos.json")
    yield profile_text(profile, name="Two photographs", color=color, histogram=True)
    norm = zero_mean(profile)
    norm.save(target / "zero-mean.json")
    standardize(profile).save(target / "standardize.json")
    applied = apply_files(norm, str(source), target / "zero-mean", Output())
    yield _before_and_after(target / "zero-mean" / _SHARD, profile.mean, applied.low, applied.high)
    picture = target / "three-distributions.png"
    figures.save(draw(profile, "three", "Two photographs, as a network sees them"), picture)
    page = target / "report.html"
    report(profile, path=page, source=source, title="Two photographs", file="photos.json")
    yield f"""
Written to {target}/
  photos.json              the profile: every count, exact; adds to other profiles
  zero-mean.json           the normalizer y = x - mean
  standardize.json         the normalizer y = (x - mean) / std
  zero-mean/               the zero-mean photographs as float32, with a manifest
  three-distributions.png  original, zero-mean and standardized, side by side
  report.html              all of it as a page to open, and why zero mean helps"""


def _before_and_after(shard: Path, mean: npt.NDArray[np.float64], low: float, high: float) -> str:
    with np.load(shard) as arrays:
        pixels = [a.reshape(-1, a.shape[-1]) for a in arrays.values()]
    after = np.concatenate(pixels).mean(axis=0, dtype=np.float64)
    before, centered = (", ".join(f"{v:.4g}" for v in m) for m in (mean, np.round(after, 4) + 0.0))
    return (
        f"Zero-mean: channel means {before} became {centered};\n"
        f"pixels now span {low:.4g} to {high:.4g} instead of 0 to 255."
    )


def _prepare(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise SourceError(f"{target} is a file; choose a folder with -o")
    shards = target / "zero-mean"
    ours = {"manifest.json", "normalizer.json", _SHARD}
    if shards.is_dir():
        foreign = sorted(p.name for p in shards.iterdir() if p.name not in ours)
        if foreign:
            raise SourceError(f"{shards} holds {foreign[0]}, which the demo did not write")
        for name in ours:
            (shards / name).unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
