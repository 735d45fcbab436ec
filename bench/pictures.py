"""Part (c): a folder of JPEGs, against the loops that people write and the bare decoder."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import Pool
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from photographs import write_jpegs
from rounds import (
    Answer,
    Contestant,
    Deviation,
    Goal,
    Part,
    Race,
    compare,
    equals,
    run_race,
    same_bits,
    timed,
    within,
)
from sizes import Sizes

_Floats = npt.NDArray[np.float64]
_SIZE = (500, 375)
_BATCH = 64
_FLOAT32_ERROR = 4 * 2.0**-24  # of x/255 and its square in float32

OURS, TWO = "zeromean, 1 thread", "zeromean, 2 threads"
BARE, BARE_TWO = "bare simplejpeg, 1 thread", "bare simplejpeg, 2 threads"
LOOP, LOADER = "Pillow + /255. + mean/std loop", "torch-style loader, 2 processes"
VIPS, VIPS_INNER = "libvips stats, 1 thread", "libvips stats, 2 threads inside"
VIPS_OUTER = "libvips stats, 2 pictures at once"


def run_pictures(sizes: Sizes) -> Part:
    """All of part (c)."""
    part = Part(f"(c) A folder of {sizes.files:,} JPEGs of {_SIZE[0]}×{_SIZE[1]}, warm cache")
    with tempfile.TemporaryDirectory() as below, _loader_pool() as pool:
        folder = Path(below) / "pictures"
        write_jpegs(folder, sizes.files, _SIZE)
        paths = [str(path) for path in sorted(folder.iterdir())]
        mean_size = sum(path.stat().st_size for path in folder.iterdir()) / len(paths)
        race = _race(str(folder), paths, pool, sizes.file_rounds)
    part.races.append(race)
    part.goals += _goals(race)
    part.text += [
        race.table(OURS),
        f"Crops of two photographs, JPEG quality 90, 4:2:0, {mean_size / 1000:.0f} kB on average. "
        "The bare decoder reads each file and decodes it, nothing else; ours also hashes each "
        "file and gives the full histogram of each channel. The Pillow loop gives the mean of the "
        "stds of single pictures, which ours gives too and which it is compared with. The loader "
        "decodes with Pillow to float32 (c, h, w) as ToTensor does, hands batches of "
        f"{_BATCH} over in shared memory from processes that are already running, and the main "
        "process adds up x and x².",
    ]
    return part


def _goals(race: Race) -> list[Goal]:
    vips_two = min((VIPS_INNER, VIPS_OUTER), key=lambda name: min(race.seconds[name]))
    return [
        Goal("JPEG folder, one thread : bare decoder", race.ratio(BARE, OURS), 0.70, 0.85),
        Goal("JPEG folder, two threads : bare decoder", race.ratio(BARE_TWO, TWO), 0.80, 0.85),
        Goal("JPEG folder, one thread : usual Pillow loop", race.ratio(LOOP, OURS), 10),
        Goal("JPEG folder, two threads : usual Pillow loop", race.ratio(LOOP, TWO), 10),
        Goal("JPEG folder, one thread : libvips", race.ratio(VIPS, OURS), 2),
        Goal("JPEG folder, two threads : libvips, faster way", race.ratio(vips_two, TWO), 2),
    ]


def _race(folder: str, paths: list[str], pool: Pool, rounds: int) -> Race:
    race = Race(f"{len(paths):,} JPEGs", len(paths), "pictures")
    exact, items = ours_with_items(folder)
    n, pixels = len(paths) * _SIZE[0] * _SIZE[1], len(paths) * _SIZE[0] * _SIZE[1] * 3
    peer = within(exact, n, one_pass=True)
    loader = within(exact, n, value_error=_FLOAT32_ERROR, one_pass=True)
    contestants = [
        Contestant(OURS, timed(lambda: ours(folder)), same_bits(exact)),
        Contestant(TWO, timed(lambda: ours(folder, 2)), same_bits(exact)),
        Contestant(BARE, timed(lambda: bare(paths)), equals(pixels)),
        Contestant(BARE_TWO, timed(lambda: in_two(bare, paths)), equals(pixels)),
        Contestant(LOOP, timed(lambda: pillow_loop(paths)), _check_loop(items)),
        Contestant(LOADER, timed(lambda: loader_loop(paths, pool)), loader),
        Contestant(VIPS, timed(lambda: vips(paths, 1)), peer),
        Contestant(VIPS_INNER, timed(lambda: vips(paths, 2)), peer),
        Contestant(VIPS_OUTER, timed(lambda: vips(paths, 1, at_once=2)), peer),
    ]
    return run_race(race, contestants, rounds)


def _check_loop(items: Answer) -> Callable[[Answer], Deviation]:
    """For means of single pictures: each has 2e5 pixels and a std above 0.01 of the range."""
    bound = np.full_like(items.std, 1e-8 * 255)
    return lambda answer: compare(answer, items, bound, bound)


# ---------------------------------------------------------------- ours, and the bare decoder


def ours(folder: str, workers: int = 1) -> Answer:
    """zeromean, with the read-out."""
    import zeromean as zm

    profile = zm.measure(folder, workers=workers)
    return Answer(profile.mean, profile.std)


def ours_with_items(folder: str) -> tuple[Answer, Answer]:
    """The pooled std, and the mean of the stds of single pictures."""
    import zeromean as zm

    profile = zm.measure(folder, workers=1)
    assert profile.mean_of_item_stds is not None
    return Answer(profile.mean, profile.std), Answer(profile.mean, profile.mean_of_item_stds)


def bare(paths: Sequence[str]) -> int:
    """Read and decode, and count the values."""
    from simplejpeg import decode_jpeg

    n = 0
    for path in paths:
        with open(path, "rb") as file:
            n += decode_jpeg(file.read()).size
    return n


def in_two(function: Callable[[Sequence[str]], int], paths: Sequence[str]) -> int:
    """A function of paths over two threads; the results added up."""
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(function, _batches(paths)))


def _batches(paths: Sequence[str]) -> list[Sequence[str]]:
    size = min(_BATCH, -(-len(paths) // 4))  # something for two workers, however few there are
    return [paths[i : i + size] for i in range(0, len(paths), size)]


# ---------------------------------------------------------------- what people write


def pillow_loop(paths: Sequence[str]) -> Answer:
    """The loop of countless notebooks: averages of each picture's mean and std."""
    means, stds = np.zeros(3), np.zeros(3)
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB")) / 255.0
        means += image.mean(axis=(0, 1))
        stds += image.std(axis=(0, 1))
    return Answer(255 * means / len(paths), 255 * stds / len(paths))


@contextmanager
def _loader_pool() -> Iterator[Pool]:
    """Two processes that stay, as with persistent_workers=True; forked from a clean server."""
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        pool.map(_load_batch, [[]] * 4)
        yield pool


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch in shared memory."""

    name: str
    shape: tuple[int, ...]


def _load_batch(paths: Sequence[str]) -> _Batch | None:
    """In a loader's process: what a dataset's __getitem__ and the collate function do."""
    if not paths:
        return None
    tensors = [_to_tensor(Image.open(path).convert("RGB")) for path in paths]
    shape = (len(tensors), *tensors[0].shape)
    memory = SharedMemory(create=True, size=int(np.prod(shape)) * 4)
    np.stack(tensors, out=np.ndarray(shape, np.float32, memory.buf))
    memory.close()
    return _Batch(memory.name, shape)


def _to_tensor(image: Image.Image) -> npt.NDArray[np.float32]:
    """As torchvision's ToTensor: channels first, float32 in 0..1."""
    planes = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    return planes.astype(np.float32) / np.float32(255)


def loader_loop(paths: Sequence[str], pool: Pool) -> Answer:
    """Σx and Σx² over batches from a two-process loader."""
    sums, squares, n = np.zeros(3), np.zeros(3), 0
    for batch in pool.imap(_load_batch, _batches(paths)):
        assert batch is not None
        memory = SharedMemory(batch.name)
        x = np.ndarray(batch.shape, np.float32, memory.buf)
        sums += x.sum(axis=(2, 3), dtype=np.float64).sum(axis=0)
        squares += np.square(x).sum(axis=(2, 3), dtype=np.float64).sum(axis=0)
        n += x.size // 3
        del x
        memory.close()
        memory.unlink()
    return _from_sums(255 * sums, 255**2 * squares, n)


def vips(paths: Sequence[str], concurrency: int, *, at_once: int = 1) -> Answer:
    """Σx and Σx² from libvips `stats`, one picture after the other or two at once."""
    import pyvips

    pyvips.cache_set_max(0)  # it would remember the results of the last round
    pyvips.vips_lib.vips_concurrency_set(concurrency)
    with ThreadPoolExecutor(at_once) as pool:
        parts = list(pool.map(_vips_sums, _batches(paths)) if at_once > 1 else [_vips_sums(paths)])
    sums, squares = sum(part[0] for part in parts), sum(part[1] for part in parts)
    return _from_sums(sums, squares, len(paths) * _SIZE[0] * _SIZE[1])


def _vips_sums(paths: Sequence[str]) -> tuple[Any, Any]:
    from pyvips import Image as VipsImage

    sums, squares = np.zeros(3), np.zeros(3)
    for path in paths:
        read_out = VipsImage.new_from_file(path, access="sequential").stats().numpy()
        sums += read_out[1:, 2]
        squares += read_out[1:, 3]
    return sums, squares


def _from_sums(sums: _Floats, squares: _Floats, n: int) -> Answer:
    return Answer(sums / n, np.sqrt(np.maximum(squares / n - (sums / n) ** 2, 0)))
