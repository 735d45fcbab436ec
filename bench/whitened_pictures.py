"""Draws docs/images/whitening.png: crops of two photographs; original, zero-mean and whitened.

    python bench/whitened_pictures.py -o docs/images/whitening.png

Needs ``pip install "zeromean[demo]"``, and half a minute for 3,072 eigenvectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

import zeromean as zm
from photographs import make_crops
from zeromean import figures

_Array = npt.NDArray[Any]
_PATTERN = "n h w c -> h w c"
_EPS = 10.0  # squared pixel values: what varies by less than about 3 is hardly blown up
_CAPTIONS = ("pixel values", "less the mean picture", "pixels uncorrelated, variance about one")


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--count", default=20_000, show_default=True, help="Crops to measure.")
@click.option("--side", default=32, show_default=True, help="Of a crop, in pixels.")
def main(output: Path, count: int, side: int) -> None:
    """Measure, whiten, draw."""
    crops = make_crops(count, side)
    profile = zm.measure(crops, _PATTERN, covariance=True)
    whitened = zm.whiten(profile, "zca", eps=_EPS)
    shown = crops[lively(crops, 9)]
    panels = {
        "original": shown,
        "zero-mean": zm.zero_mean(profile)(shown),
        "whitened (ZCA)": whitened(shown),
    }
    note = (
        f"Measured on {count:,} crops of {side} × {side} pixels. eps = {_EPS:g}, in squared pixel "
        "values, keeps directions that hardly vary from being blown up."
    )
    figure = figures.picture_grids(
        panels, captions=_CAPTIONS, title="What a network sees of two photographs", note=note
    )
    click.echo(f"wrote {figures.save(figure, output)}")


def lively(crops: _Array, count: int) -> list[int]:
    """Crops with much to see: those that vary most, of each photograph and scale in turn."""
    scales = 12  # crops come from two photographs at six scales, in turn
    spread = crops.std(axis=(1, 2, 3))
    chosen = []
    for turn in range(count):
        lot = np.arange((turn * 5 + 2) % scales, len(crops), scales)
        lot = lot[(lot // scales) % count == turn]  # so that no crop is chosen twice
        chosen.append(int(lot[np.argmax(spread[lot])]))
    return chosen


if __name__ == "__main__":
    main()
