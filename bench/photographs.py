"""Test pictures cut from the two real photographs that scikit-learn carries."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

_Bytes = npt.NDArray[np.uint8]


def photographs() -> list[Image.Image]:
    """The two photographs, 640×427."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def make_tiles(count: int, side: int) -> _Bytes:
    """Square crops of different scales, flipped and brightened at random: (count, h, w, 3)."""
    rng, photos = np.random.default_rng(1), photographs()
    tiles = np.empty((count, side, side, 3), np.uint8)
    for i in range(count):
        tiles[i] = np.asarray(_crop(photos[i % 2], rng, (side, side)))
    return tiles


def make_crops(count: int, side: int = 32) -> _Bytes:
    """Small squares from both photographs at six scales, as in CIFAR: (count, h, w, 3)."""
    rng = np.random.default_rng(2)
    heights = (48, 64, 96, 128, 192, 256)
    scaled = [
        np.asarray(photo.resize((height * 3 // 2, height), Image.Resampling.LANCZOS))
        for photo in photographs()
        for height in heights
    ]
    crops = np.empty((count, side, side, 3), np.uint8)
    for i in range(count):
        source = scaled[i % len(scaled)]
        y, x = (int(rng.integers(size - side + 1)) for size in source.shape[:2])
        crops[i] = source[y : y + side, x : x + side]
    return crops


def write_jpegs(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> None:
    """JPEGs of quality 90 with 4:2:0 subsampling, each from another crop."""
    rng, photos = np.random.default_rng(3), photographs()
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i:05}.jpg").write_bytes(jpeg(_crop(photos[i % 2], rng, size)))


def jpeg(picture: Image.Image) -> bytes:
    """As cameras and data sets have it: quality 90, 4:2:0."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=90, subsampling=2)
    return data.getvalue()


def _crop(photo: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A random part of 60 to 100 % of the photograph's height, at another size."""
    height = photo.height * rng.uniform(0.6, 1.0)
    width = min(height * size[0] / size[1], photo.width)
    x, y = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    box: Any = (x, y, x + width, y + height)
    part = photo.resize(size, Image.Resampling.BICUBIC, box)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(part).enhance(rng.uniform(0.7, 1.3))
