"""Log-mel features of recordings: windows of 25 ms, 80 mel bins, natural logarithm.

The definition, step by step:

1. Samples between −1 and 1, channels averaged, float64.
2. Windows of round(0.025 · rate) samples, one every round(0.010 · rate); only whole windows, no
   padding at either end.
3. Times a periodic Hann window, w[i] = (1 − cos(2πi / length)) / 2.
4. Power spectrum |X|² of the discrete Fourier transform, over the next power of two of the window's
   length (zeros after the window).
5. 80 triangular filters on Slaney's mel scale from 0 Hz to rate / 2, each of area 1 (times 2 / its
   width in Hz), as in Slaney, *Auditory Toolbox*, Technical Report 1998-010, Interval Research, and
   in the defaults of librosa.
6. ln(max(e, 1e−10)), rounded once to float32.

librosa, torchaudio and transformers give the same numbers with the same settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

N_MELS = 80
_FLOOR = 1e-10
_HIGHEST = 1_000_000  # Hz
_WINDOWS = 2048  # transformed at a time
_LINEAR = 200.0 / 3  # Hz a mel, below 1 000 Hz
_BREAK = 15.0  # the mel of 1 000 Hz
_STEP = np.log(6.4) / 27  # of the logarithm of the frequency, a mel, above

_Floats = npt.NDArray[np.float64]


def to_mels(hertz: npt.ArrayLike) -> _Floats:
    """Frequencies on Slaney's mel scale: linear below 1 000 Hz, logarithmic above."""
    f = np.asarray(hertz, np.float64)
    return np.where(f < 1000, f / _LINEAR, _BREAK + np.log(np.maximum(f, 1) / 1000) / _STEP)


def to_hertz(mels: npt.ArrayLike) -> _Floats:
    """The inverse of `to_mels`."""
    m = np.asarray(mels, np.float64)
    return np.where(m < _BREAK, m * _LINEAR, 1000 * np.exp((m - _BREAK) * _STEP))


def center_frequencies(rate: int) -> list[float]:
    """The middle of each mel bin, in Hz."""
    edges = to_hertz(np.linspace(0, float(to_mels(rate / 2)), N_MELS + 2))
    return [float(f) for f in edges[1:-1]]


@dataclass(frozen=True, slots=True)
class LogMel:
    """The features of recordings of one sample rate.

    Attributes
    ----------
    rate : int
        Samples a second.
    """

    rate: int

    @property
    def length(self) -> int:
        """Samples in a window."""
        return round(0.025 * self.rate)

    @property
    def hop(self) -> int:
        """Samples from one window to the next."""
        return round(0.010 * self.rate)

    @property
    def n_fft(self) -> int:
        """Length of the Fourier transform."""
        return 1 << max(self.length - 1, 0).bit_length()

    @property
    def usable(self) -> bool:
        """Whether it is a sample rate of recordings, with a frequency of its own in every bin."""
        return 1000 <= self.rate <= _HIGHEST and all(len(w) for _, w in _filters(self.rate))

    def blocks(
        self, signal: Iterable[npt.NDArray[np.floating]]
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Features of a recording that comes in pieces, which need not fit the windows.

        Parameters
        ----------
        signal : iterable of ndarray, (n,)
            Samples between −1 and 1.

        Yields
        ------
        ndarray of float32, (n_windows, 80)
        """
        rest = np.empty(0, np.float64)
        for piece in signal:
            rest = np.concatenate([rest, piece])
            step = _WINDOWS * self.hop
            while len(rest) >= step + self.length:
                yield self.features(rest[: step - self.hop + self.length])
                rest = rest[step:]
        if len(rest) >= self.length:
            yield self.features(rest)

    def features(self, samples: _Floats) -> npt.NDArray[np.float32]:
        """Features of all whole windows in some samples.

        Parameters
        ----------
        samples : ndarray of float64, (n,)

        Returns
        -------
        ndarray of float32, (n_windows, 80)
        """
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.length)[:: self.hop]
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.length) / self.length)
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinities are counted later
            spectrum = np.fft.rfft(windows * hann, self.n_fft)
            power = spectrum.real**2 + spectrum.imag**2
            energy = np.empty((len(windows), N_MELS))
            # Each filter spans a few frequencies: no product of matrices, whose bits would depend
            # on the threads of a BLAS.
            for i, (first, weights) in enumerate(_filters(self.rate)):
                energy[:, i] = (power[:, first : first + len(weights)] * weights).sum(axis=1)
            return np.log(np.maximum(energy, _FLOOR)).astype(np.float32)


@lru_cache(maxsize=16)
def _filters(rate: int) -> list[tuple[int, _Floats]]:
    """For each mel bin the first frequency of the transform in it, and the weights from there."""
    n_fft = LogMel(rate).n_fft
    edges = to_hertz(np.linspace(0, float(to_mels(rate / 2)), N_MELS + 2))
    frequencies = np.arange(n_fft // 2 + 1) * (rate / n_fft)
    filters = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising = (frequencies - low) / (middle - low)
        falling = (high - frequencies) / (high - middle)
        weights = np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))
        inside = np.flatnonzero(weights)
        first, last = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
        filters.append((int(first), weights[first:last]))
    return filters
