"""The detector on rendered gunfire: one world, in closed form in the frequency domain, sampled at any rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Block, Samples
from soundranger_node.detector import Detector, Impulse

# Nothing above this is in the world, so that every sample rate from 12 kHz on holds all of it.
HIGHEST_HZ = 5_500.0
LOWEST_HZ = 20.0
NOISE_DBFS = -60.0
POSITIVE_PHASE_S = 0.0008
RATES_HZ = [12_000, 16_000, 44_100, 48_000, 96_000]
# From round to round: loads differ.
LEVEL_SIGMA_DB = 0.5


@dataclass(frozen=True)
class World:
    """Blasts at one microphone in pink noise. Each has the same echoes (delay s, level dB) and reverberation."""

    seconds: int
    blasts_s: Sequence[float]
    peak_dbfs: float
    echoes: Sequence[tuple[float, float]] = ()
    reverberation_db: float | None = None

    def sampled(self, rate_hz: int) -> Samples:
        """Return the samples that a microphone of any rate takes of this same world."""
        frequency_hz = np.arange(round(HIGHEST_HZ * self.seconds)) / self.seconds
        spectrum = self._noise(frequency_hz) + self._blasts(frequency_hz)
        count = self.seconds * rate_hz
        padded = np.zeros(count // 2 + 1, complex)
        padded[: len(spectrum)] = spectrum
        samples: Samples = (np.fft.irfft(padded, count) * rate_hz).astype(np.float32)
        return samples

    def _noise(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        rng = np.random.default_rng(5)
        draws = rng.standard_normal((2, len(frequency_hz)))
        amplitude = np.where(frequency_hz > LOWEST_HZ, np.maximum(frequency_hz, LOWEST_HZ) ** -0.5, 0)
        # Parseval: the mean square of the signal, of spectral lines 1 / seconds apart.
        power = 4 * np.square(amplitude).sum() / self.seconds**2
        spectrum: NDArray[np.complex128] = amplitude * (draws[0] + 1j * draws[1]) / np.sqrt(power)
        return spectrum * 10 ** (NOISE_DBFS / 20)

    def _blasts(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Friedlander waves (see the simulator's propagation), with an edge that the band can hold."""
        rng = np.random.default_rng(6)
        omega = 2j * np.pi * frequency_hz
        peaks = 10 ** ((self.peak_dbfs + LEVEL_SIGMA_DB * rng.standard_normal(len(self.blasts_s))) / 20)
        fired = sum(peak * np.exp(-omega * at_s) for peak, at_s in zip(peaks, self.blasts_s, strict=True))
        paths = 1 + sum(10 ** (level_db / 20) * np.exp(-omega * delay_s) for delay_s, level_db in self.echoes)
        if self.reverberation_db is not None:
            # Many weak paths, their power falling by 60 dB in a second.
            delays_s = rng.uniform(0.005, 0.5, 250)
            signs = rng.choice([-1, 1], 250) * 10 ** (self.reverberation_db / 20 - 3 * delays_s)
            paths = paths + sum(sign * np.exp(-omega * delay_s) for sign, delay_s in zip(signs, delays_s, strict=True))
        band = np.cos(np.pi / 2 * np.clip(2 * frequency_hz / HIGHEST_HZ - 1, 0, 1)) ** 2
        blast = omega / (1 / POSITIVE_PHASE_S + omega) ** 2
        return np.asarray(fired * paths * blast * band)


def detect(samples: Samples, rate_hz: int, block: int) -> list[Impulse]:
    detector = Detector(rate_hz)
    found = []
    for first in range(0, len(samples), block):
        found += detector.push(Block(samples[first : first + block], first))
    return found + detector.flush()
