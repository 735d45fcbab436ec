"""How large everything is: full for the page, medium to try it, tiny for a test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes and numbers of rounds.

    Attributes
    ----------
    rows : int
        Of the float arrays, with 64 columns.
    rounds : int
        Of the races in memory.
    tiles, tile : int
        Pictures of the first uint8 array and their side.
    crops : int
        Pictures of 32×32 of the second one.
    batch, side : int
        Pictures of the batch that is normalized, and their side.
    files, file_rounds : int
        JPEGs in the folder, and rounds.
    few, many, large : int
        Pictures in the two folders for peak memory; megapixels of the largest.
    starts, installs : int
        Repetitions of start-up, and of the first call after an install.
    kinds : tuple of str
        Dtypes whose first call is timed.
    avx2 : tuple of str
        Dtypes that are measured with AVX2 code too.
    known : int
        Small files in the folder that a ledger knows.
    listed : int
        Files in a simulated listing.
    trials : int
        Simulated data sets, of which samples are drawn.
    population : int
        Files in each of them.
    workers : tuple of int
        On each engine.
    heavy : int
        Megabytes of the large sources for peak memory.
    """

    rows: int = 1_000_000
    rounds: int = 9
    tiles: int = 1_000
    tile: int = 320
    crops: int = 50_000
    batch: int = 64
    side: int = 224
    files: int = 2_000
    file_rounds: int = 5
    few: int = 200
    many: int = 20_000
    large: int = 12
    starts: int = 21
    installs: int = 3
    kinds: tuple[str, ...] = ("uint8", "float32", "float64")
    avx2: tuple[str, ...] = ("float32", "float64")
    known: int = 100_000
    listed: int = 10_000_000
    trials: int = 1_000
    population: int = 100_000
    workers: tuple[int, ...] = (1, 2, 4)
    heavy: int = 1_000


FULL = Sizes()
MEDIUM = Sizes(
    rows=200_000, rounds=5, tiles=200, crops=10_000, files=200, file_rounds=3,
    few=200, many=1_000, starts=7, installs=1,
    known=10_000, listed=100_000, trials=100, workers=(1, 2), heavy=300,
)  # fmt: skip
TINY = Sizes(
    rows=4_096, rounds=2, tiles=4, tile=64, crops=64, batch=8, side=48, files=8, file_rounds=2,
    few=6, many=24, large=1, starts=2, installs=1, kinds=("uint8",), avx2=("float32",),
    known=60, listed=2_000, trials=20, population=2_000, workers=(1, 2), heavy=8,
)  # fmt: skip
