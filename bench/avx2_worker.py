"""A second process whose kernels are compiled for AVX2 and FMA, though the CPU may have more.

The process makes the same data, compiles into a cache folder of its own, proves that its code
holds AVX2 registers (ymm) and no AVX-512 ones (zmm), and then runs once whenever it is told to,
so that it takes its turn in the rounds of the first process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any, Self

import numpy as np

_TARGET = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+movbe,+popcnt,+sse4.2",
}


class Avx2Worker:
    """The worker as seen from the first process; a context manager.

    Parameters
    ----------
    name, rows, dtype
        As for `floats.make`.
    """

    def __init__(self, name: str, rows: int, dtype: str) -> None:
        self._arguments = [name, str(rows), dtype]

    def __enter__(self) -> Self:
        self._cache = tempfile.TemporaryDirectory()
        environment = {**os.environ, **_TARGET, "NUMBA_CACHE_DIR": self._cache.name}
        self._process = subprocess.Popen(
            [sys.executable, __file__, *self._arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()  # compiled and checked
        return self

    def clock(self) -> tuple[float, Any]:
        """One run over there: seconds as measured there, and the answer."""
        from rounds import Answer

        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        heard = self._hear()
        mean, std = (np.array([float.fromhex(v) for v in heard[k]]) for k in ("mean", "std"))
        return heard["seconds"], Answer(mean, std)

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the AVX2 worker ended with status {self._process.wait()}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
        self._cache.cleanup()


def _serve(name: str, rows: int, dtype: str) -> None:
    from floats import make, ours

    x = make(name, rows, dtype)
    ours(x)
    _check_code(dtype)
    _say(ready=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        answer = ours(x)
        seconds = time.perf_counter() - start
        mean, std = ([v.hex() for v in values.tolist()] for values in (answer.mean, answer.std))
        _say(seconds=seconds, mean=mean, std=std)


def _check_code(dtype: str) -> None:
    """Refuse to run under false colors."""
    from zeromean.kernels import floats

    code = "".join(getattr(floats, f"sum_{dtype}").inspect_asm().values())
    if "zmm" in code or "ymm" not in code:
        raise SystemExit("the kernels were not compiled for AVX2 alone")


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
