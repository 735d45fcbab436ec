"""Figures of every kind to test, and how to read their curves; imports matplotlib late."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeromean import figures

VALUES = np.arange(256)


def rgb_counts() -> np.ndarray[Any, Any]:
    """Three channels of different shape over 0..255: a ramp, a hump, and dark with a bright end."""
    hump = np.rint(1000 * np.exp(-(((VALUES - 90.0) / 30) ** 2))).astype(np.int64)
    dark = np.where(VALUES < 40, 400, 3) + np.where(VALUES > 250, 900, 0)
    return np.stack([VALUES, hump, dark])


def outlines(axes: Any) -> list[Any]:
    """The histograms' outlines, without the areas below them."""
    from matplotlib.patches import StepPatch

    return [
        patch for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()
    ]


def vertical_lines(axes: Any) -> list[float]:
    """Where vertical lines that span the axes stand."""
    lines = [np.asarray(line.get_xdata(), float) for line in axes.lines]
    return [float(x[0]) for x in lines if x.size == 2 and x[0] == x[1]]


def three(**options: Any) -> Any:
    """The signature picture of the three test channels."""
    named = {"names": ["R", "G", "B"], "unit": "pixel value (0..255)", "counted": "pixels"}
    return figures.three_distributions(VALUES, rgb_counts(), **{**named, **options})


def distribution(**options: Any) -> Any:
    """The histogram of the three test channels."""
    named = {"names": ["R", "G", "B"], "unit": "pixel value (0..255)", "counted": "pixels"}
    return figures.distribution(VALUES, rgb_counts(), **{**named, **options})


def summary(n_features: int, **options: Any) -> Any:
    """A feature summary of random features."""
    data = np.random.default_rng(1).normal(3, 2, (50, n_features))
    columns = data.mean(0), data.std(0), data.min(0), data.max(0)
    return figures.feature_summary(*columns, **options)


EVERY_FIGURE = {
    "distribution": lambda: distribution(title="Three channels"),
    "distribution of 8": lambda: figures.distribution(
        np.arange(9), np.ones((8, 9), int), names=[f"a long feature name {i}" for i in range(8)]
    ),
    "distribution of 20": lambda: figures.distribution(np.arange(9), np.ones((20, 9), int)),
    "distribution of 90": lambda: figures.distribution(np.arange(9), np.ones((90, 9), int)),
    "distribution of none": lambda: figures.distribution(VALUES, np.zeros((3, 256), int)),
    "three": lambda: three(title="Three channels, as a network sees them"),
    "three, long title": lambda: three(title="A very long title indeed " * 8),
    "three, one channel": lambda: figures.three_distributions(VALUES, rgb_counts()[0]),
    "three, 16 bits": lambda: figures.three_distributions(
        np.arange(65536), np.arange(65536), unit="gray value (0..65535)", title="16 bits"
    ),
    "three of none": lambda: figures.three_distributions(VALUES, np.zeros((3, 256), int)),
    "three of a constant": lambda: figures.three_distributions(VALUES, np.eye(1, 256, 7)),
    "summary of 1": lambda: summary(1),
    "summary of 30": lambda: summary(30, names=[f"feature_{i}$" for i in range(30)], title="30"),
    "summary of 60": lambda: summary(60),
    "summary of 784": lambda: summary(784, title="784 features"),
    "summary of magnitudes": lambda: figures.feature_summary(
        [0, 1e-9, 1e9], [1, 1e-9, 1e8], [-5, 0, 1e8], [5, 2e-9, 1e10], title="Magnitudes"
    ),
    "summary of nothing": lambda: figures.feature_summary(*[[np.nan] * 3] * 4),
    "mean image, gray": lambda: figures.mean_image(np.arange(12.0).reshape(3, 4), title="Gray"),
    "mean image, tall": lambda: figures.mean_image(np.arange(600.0).reshape(300, 2)),
    "mean image, wide": lambda: figures.mean_image(np.arange(600.0).reshape(2, 300)),
    "mean image, RGB": lambda: figures.mean_image(np.full((4, 9, 3), 99.5), title="RGB"),
}
