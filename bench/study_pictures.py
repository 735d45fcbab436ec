"""Draws the figures of `docs/why-zero-mean.md` and prints the numbers that the page quotes.

Run it with a folder of photographs in class folders; the page used 5 000 training pictures of
CIFAR-10, 500 of each class:

    python bench/study_pictures.py cifar10-train-5k

The data sets of scikit-learn come on top.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn import datasets

import zeromean as zm
from zeromean import figures

IMAGES = Path(__file__).parents[1] / "docs" / "images"
_BUDGET = 900.0


def main(folder: str) -> None:
    """Study the photographs and the small data sets; write docs/images/study-*.png."""
    found = zm.study(folder, full=True, budget=_BUDGET)
    for kind in ("zigzag", "rates", "prediction", "speedups"):
        figures.save(found.plot(kind), IMAGES / f"study-{kind}.png")
    print(found.table)
    print("RGB:", zm.study(folder, colors="RGB", budget=_BUDGET).headline)
    print("dark:", zm.study(*darkened(folder), budget=_BUDGET).headline)
    for task in ("rotation", "teacher"):
        print(f"{task}:", zm.study(folder, task=task, budget=_BUDGET).headline)
    for name in ("digits", "breast_cancer", "wine"):
        print(f"{name}:", zm.study(getattr(datasets, f"load_{name}")(), budget=_BUDGET).headline)


def darkened(folder: str) -> tuple[tuple[np.ndarray, np.ndarray]]:
    """The same photographs at 30 % of their brightness, and their classes."""
    from zeromean.convergence.intake import Wanted, gather

    sample = gather(folder, Wanted(None, 16, 1500, "gray"))
    dark = (0.3 * sample.x[..., 0]).astype(np.uint8)
    return ((dark, sample.codes),)


if __name__ == "__main__":
    main(sys.argv[1])
