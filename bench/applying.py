"""The parts of `bench_apply`: float columns and back, pictures, and a mean image."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

import zeromean as zm
from machine import cores
from rounds import (
    Contestant,
    Deviation,
    DisagreementError,
    Goal,
    Part,
    Race,
    run_race,
    timed,
)
from sizes import Sizes

_Array = npt.NDArray[Any]
_Check = Callable[[Any], Deviation | None]
_COLUMNS = 64
_SAMPLE = 61  # every so manieth value of a peer is compared
_POOL = ThreadPoolExecutor(cores())

OURS, NEW = "zeromean, out=", "zeromean, new array"
COPY, COPY_NEW, FILL = "bare memory copy", "bare x.copy(), new array", "bare memory write"
SKLEARN, INVERSE = "StandardScaler().transform", "StandardScaler().inverse_transform"
NUMPY = "NumPy, (x - mean) / std"
TORCH, VISION = "plain torch, as ToDtype + Normalize do", "torchvision v2 ToDtype + Normalize"
OPENCV, ALBUMENTATIONS = "OpenCV blobFromImages, / std", "Albumentations Normalize, HWC"


def run_columns(sizes: Sizes) -> Part:
    """Part (a): columns of floats to the same dtype."""
    part = Part(f"(a) Float columns, {sizes.rows:,} × {_COLUMNS}")
    for dtype in ("float32", "float64"):
        part.races.append(_columns(sizes, dtype))
        part.text.append(part.races[-1].table(OURS))
    part.text.append(
        "scikit-learn's transform always makes a new array, whose fresh memory the system must "
        "clear first; that alone takes longer than our arithmetic, as the bare x.copy() shows. "
        "The bare memory copy is NumPy's, into memory that was there, by as many threads as ours."
    )
    race = part.races[0]
    part.goals += [
        Goal("float32 columns : scikit-learn's transform", race.ratio(SKLEARN, OURS), 3),
        Goal("the same, new array : its transform", race.ratio(SKLEARN, NEW), 3),
        Goal("float32 columns, bytes/s : bare memory copy", race.ratio(COPY, OURS), 0.7),
    ]
    return part


def _columns(sizes: Sizes, dtype: str) -> Race:
    x = _make_columns(sizes.rows, dtype)
    norm = zm.standardize(zm.measure(x))
    exact = ((x - norm.shift) / norm.scale).astype(dtype)
    out, copied = np.empty_like(x), np.empty_like(x)
    scaler = _fitted_scaler(x)
    mean, std = norm.shift.astype(dtype), norm.scale.astype(dtype)
    rough = near(exact, 1e-5 if dtype == "float32" else 1e-12)
    contestants = [
        Contestant(OURS, timed(lambda: norm(x, out=out)), bits_of(exact)),
        Contestant(NEW, timed(lambda: norm(x, dtype=dtype)), bits_of(exact)),
        Contestant(SKLEARN, timed(lambda: scaler.transform(x)), rough),
        Contestant(NUMPY, timed(lambda: (x - mean) / std), rough),
        Contestant(COPY, timed(lambda: copy(x, copied)), copied_from(x)),
        Contestant(COPY_NEW, timed(x.copy), copied_from(x)),
    ]
    return run_race(Race(f"{dtype}", x.nbytes / 1e9, "GB"), contestants, sizes.rounds)


def run_inverse(sizes: Sizes) -> Part:
    """Part (b): the way back, to floats and to pixels."""
    part = Part(f"(b) Back again, {sizes.rows:,} × {_COLUMNS} and pictures")
    for dtype in ("float32", "float64"):
        part.races.append(_inverse(sizes, dtype))
    part.races.append(_inverse_pictures(sizes))
    part.text += [race.table(OURS) for race in part.races]
    return part


def _inverse(sizes: Sizes, dtype: str) -> Race:
    x = _make_columns(sizes.rows, dtype)
    norm = zm.standardize(zm.measure(x))
    y = norm(x, dtype=dtype)
    exact = (y * norm.scale + norm.shift).astype(dtype)
    out = np.empty_like(x)
    scaler = _fitted_scaler(x)
    copied = np.empty_like(x)
    rough = near(exact, 1e-4 if dtype == "float32" else 1e-12)
    contestants = [
        Contestant(OURS, timed(lambda: norm.invert(y, out=out)), bits_of(exact)),
        Contestant(INVERSE, timed(lambda: scaler.inverse_transform(y)), rough),
        Contestant(COPY, timed(lambda: copy(y, copied)), copied_from(y)),
    ]
    return run_race(Race(f"{dtype} to {dtype}", x.nbytes / 1e9, "GB"), contestants, sizes.rounds)


def _inverse_pictures(sizes: Sizes) -> Race:
    x, norm = _batch(sizes)
    y = norm(x)
    out = np.empty_like(x)
    mean, std = norm.shift.astype(np.float32), norm.scale.astype(np.float32)

    def with_numpy() -> _Array:
        return np.clip(np.rint(y * std + mean), 0, 255).astype(np.uint8)

    contestants = [
        Contestant(OURS, timed(lambda: norm.invert(y, out=out)), bits_of(x)),
        Contestant("NumPy, clip(rint(y * std + mean))", timed(with_numpy), bits_of(x)),
    ]
    title = f"float32 to uint8, {x.shape[0]} × {x.shape[1]} × {x.shape[2]} × 3"
    return run_race(Race(title, x.size / 3e6, "megapixels"), contestants, sizes.rounds)


def run_pictures(sizes: Sizes) -> Part:
    """Part (c): a batch of uint8 HWC pictures to normalized float32 CHW."""
    part = Part(f"(c) uint8 HWC pictures to float32 CHW, {sizes.batch} × {sizes.side}² × 3")
    race = _pictures(sizes)
    part.races.append(race)
    part.text.append(race.table(OURS))
    missing = [
        name for name in ("torch", "torchvision", "cv2", "albumentations") if not find_spec(name)
    ]
    if missing:
        part.text.append(f"Not installed, so left out: {', '.join(missing)}.")
    torch = VISION if VISION in race.seconds else TORCH
    for name, floor in ((torch, 8), (OPENCV, 5)):
        if name in race.seconds:
            part.goals.append(Goal(f"uint8 HWC to CHW : {name}", race.ratio(name, OURS), floor))
    return part


def _pictures(sizes: Sizes) -> Race:
    x, norm = _batch(sizes)
    planes = (len(x), 3, *x.shape[1:3])
    out, written = np.empty(planes, np.float32), np.empty(planes, np.float32)
    exact = np.moveaxis((x - norm.shift) / norm.scale, -1, 1).astype(np.float32)
    exact = np.ascontiguousarray(exact)
    rough = near(exact, 1e-5)
    mean, std = norm.shift.astype(np.float32), norm.scale.astype(np.float32)

    def with_numpy() -> _Array:
        return np.ascontiguousarray(np.moveaxis((x - mean) / std, -1, 1))

    contestants = [
        Contestant(OURS, timed(lambda: norm(x, layout="chw", out=out)), bits_of(exact)),
        Contestant(NEW, timed(lambda: norm(x, layout="chw")), bits_of(exact)),
        *_torch_contestants(x, norm, rough),
        *_other_contestants(x, norm, rough, near(np.moveaxis(exact, 1, -1), 1e-5)),
        Contestant(NUMPY, timed(with_numpy), rough),
        Contestant(FILL, timed(lambda: written.fill(0)), lambda _: None),
    ]
    race = Race("float32 CHW", x.size / 3e6, "megapixels")
    return run_race(race, contestants, sizes.rounds)


def _torch_contestants(x: _Array, norm: Any, check: _Check) -> list[Contestant]:
    """The operations of torchvision's v2 transforms, and these themselves if installed."""
    if not find_spec("torch"):
        return []
    import torch

    torch.set_num_threads(cores())
    mean, std = (torch.tensor(v / 255, dtype=torch.float32) for v in (norm.shift, norm.scale))
    mean, std = mean[:, None, None], std[:, None, None]

    def planes() -> Any:
        return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()

    def plainly() -> _Array:
        image = planes().to(torch.float32).div_(255)
        result: _Array = image.sub(mean).div_(std).numpy()
        return result

    contestants = [Contestant(TORCH, timed(plainly), check)]
    if find_spec("torchvision"):
        from torchvision.transforms import v2

        steps = [v2.ToDtype(torch.float32, scale=True)]
        steps.append(v2.Normalize((norm.shift / 255).tolist(), (norm.scale / 255).tolist()))
        transform = v2.Compose(steps)
        contestants.append(Contestant(VISION, timed(lambda: transform(planes()).numpy()), check))
    return contestants


def _other_contestants(x: _Array, norm: Any, check: _Check, check_hwc: _Check) -> list[Contestant]:
    contestants = []
    if find_spec("cv2"):
        import cv2

        size = x.shape[2], x.shape[1]
        mean, std = norm.shift.tolist(), norm.scale.astype(np.float32)[:, None, None]

        def blob() -> _Array:
            cv2.setNumThreads(cores())
            result: _Array = cv2.dnn.blobFromImages(list(x), 1.0, size, mean, False, False)
            result /= std
            return result

        contestants.append(Contestant(OPENCV, timed(blob), check))
    if find_spec("albumentations"):
        from albumentations import Normalize

        transform = Normalize((norm.shift / 255).tolist(), (norm.scale / 255).tolist())

        def one_by_one() -> _Array:
            return np.stack([transform(image=image)["image"] for image in x])

        contestants.append(Contestant(ALBUMENTATIONS, timed(one_by_one), check_hwc))
    return contestants


def run_pixels(sizes: Sizes) -> Part:
    """Part (d): every pixel has its own mean and std."""
    part = Part(f"(d) A mean image, {sizes.batch} × {sizes.side}² × 3")
    x, _ = _batch(sizes)
    norm = zm.standardize(zm.measure(x, "n h w c -> h w c"))
    for dtype in ("uint8", "float32"):
        part.races.append(_pixels(x.astype(dtype), norm, sizes.rounds))
        part.text.append(part.races[-1].table(OURS))
    return part


def _pixels(x: _Array, norm: Any, rounds: int) -> Race:
    exact = ((x - norm.shift) / norm.scale).astype(np.float32)
    out = np.empty(x.shape, np.float32)
    mean, std = norm.shift.astype(np.float32), norm.scale.astype(np.float32)
    rough = near(exact, 1e-4)
    contestants = [
        Contestant(OURS, timed(lambda: norm(x, out=out)), bits_of(exact)),
        Contestant(NUMPY, timed(lambda: (x - mean) / std), rough),
    ]
    if find_spec("torch"):
        import torch

        centers, scales = torch.from_numpy(mean), torch.from_numpy(std)

        def plainly() -> _Array:
            result: _Array = torch.from_numpy(x).sub(centers).div_(scales).numpy()
            return result

        contestants.append(Contestant("plain torch, sub and div_", timed(plainly), rough))
    race = Race(f"{x.dtype.name} to float32", x.size / 3e6, "megapixels")
    return run_race(race, contestants, rounds)


# ---------------------------------------------------------------- data and peers


def _make_columns(rows: int, dtype: str) -> _Array:
    rng = np.random.default_rng(20_24)
    x = rng.standard_normal((rows, _COLUMNS), dtype=dtype)  # type: ignore[call-overload]
    x *= 2
    x += 5
    return x  # type: ignore[no-any-return]


def _batch(sizes: Sizes) -> tuple[_Array, Any]:
    """Pictures, and their normalizer."""
    from photographs import make_tiles

    x = make_tiles(sizes.batch, sizes.side)
    return x, zm.standardize(zm.measure(x, "n h w c -> c"))


def _fitted_scaler(x: _Array) -> Any:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit(x)


def copy(x: _Array, out: _Array) -> _Array:
    """Copy with as many threads as there are cores."""
    step = -(-len(x) // cores())
    places = [slice(i, i + step) for i in range(0, len(x), step)]
    list(_POOL.map(lambda at: np.copyto(out[at], x[at]), places))
    return out


# ---------------------------------------------------------------- agreement


def bits_of(exact: _Array) -> _Check:
    """A check for ourselves: the bits of the formula."""

    def check(found: _Array) -> Deviation:
        if found.dtype != exact.dtype or not np.array_equal(found, exact):
            raise DisagreementError("differs from the formula")
        return Deviation(0.0, 0.0)

    return check


def near(exact: _Array, allowed: float) -> _Check:
    """A check for peers that compute in the result's precision, on a sample of the values."""
    wanted = np.asarray(exact, np.float64).ravel()[::_SAMPLE]

    def check(found: _Array) -> Deviation:
        if found.shape != exact.shape:
            raise DisagreementError(f"has shape {found.shape}, not {exact.shape}")
        off = float(np.abs(found.ravel()[::_SAMPLE] - wanted).max())
        if not off <= allowed:
            raise DisagreementError(f"is {off:.1e} off; at most {allowed:.0e} was expected")
        return Deviation(off, allowed)

    return check


def copied_from(x: _Array) -> _Check:
    """A check for the baseline: all bytes were copied."""

    def check(found: _Array) -> None:
        if not np.array_equal(found, x):
            raise DisagreementError("is not a copy")

    return check
