"""Onset error against truth for muzzle blasts, next to obspy's STA/LTA and its STA/LTA followed by AIC.

Truth is the instant at which the pressure begins to rise. Each blast is computed at many times the sample rate and
brought down by a linear-phase low-pass whose delay is taken out, as a converter does: so its foot rings before the
onset as real ones do. SNR is the largest size of the blast over the root mean square of the noise, both after the
detector's high-pass. Clipped sound is cut off halfway, in dB, between the noise and the peak: at 40 dB, 20 dB too low.

Every picker sees the same samples and looks in the same neighbourhood: from 5 ms before a trigger, which comes 1-3 ms
after the onset, to 8 ms after it. Both peers run on the sound after the node's causal high-pass and take, at every
point of the table and in hindsight, the best of many settings. What finds nothing is wrong by 5 ms.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from obspy.signal.trigger import aic_simple, recursive_sta_lta
from scipy.signal import fftconvolve, firwin

from soundranger_node.blocks import Block, Samples
from soundranger_node.detector import Detector
from soundranger_node.filters import causal_highpass, highpass
from soundranger_node.onset import MIN_SIGMA_S, pick_onset

Floats = NDArray[np.float64]

RATES_HZ = (12_000, 16_000, 48_000)
SNRS_DB = (10, 20, 30, 40)
SEEDS = 40
# Enough for the detector to know the noise, and for the long-term average of the peers.
BEFORE_S, AFTER_S = 0.4, 0.14
# Blasts are computed at this rate at least.
FINE_HZ = 768_000
# The converter passes what is below this share of the sample rate, as sigma-delta converters do.
PASS = 0.45
FILTER_PERIODS = 16
# The neighbourhood of a trigger.
LEAD_S, FOLLOW_S = 0.005, 0.008
MISSED_S = 0.005
# Errors beyond this are gross: another part of the sound was picked.
GROSS_S = 0.001
# The settings from which each peer takes the best.
STA_S, LTA_S = (0.0005, 0.001, 0.002), (0.03, 0.1)
THRESHOLDS = (2.0, 3.0, 4.0, 6.0, 10.0, 20.0)
AIC_BEFORE_S, AIC_AFTER_S = (0.005, 0.015), (0.001, 0.002, 0.004)


@dataclass(frozen=True)
class Blast:
    """A muzzle blast as it arrives: rise, positive phase, steepness of its decay, what absorption adds, reflection."""

    name: str
    rise_s: float
    positive_s: float
    steepness: float = 1.0
    absorption_s: float = 0.0
    reflection: float = 0.0
    reflection_s: float = 0.0


BLASTS = (
    Blast("rifle", 2e-5, 1e-3, 1.5),
    Blast("pistol, ground", 5e-5, 1.5e-3, 1.0, 0.0, 0.6, 2.6e-3),
    Blast("shotgun", 1e-4, 2.5e-3, 0.8, 2e-5, -0.4, 4e-3),
    Blast("rifle, 400 m", 5e-5, 2e-3, 1.2, 6e-5, 0.5, 0.9e-3),
    Blast("cannon, 1 km", 2e-4, 5e-3, 1.0, 1.5e-4, 0.7, 5e-3),
    Blast("behind a house", 6e-4, 3e-3, 0.6, 1e-4),
)


def pressure(blast: Blast, fine_hz: float, at_s: float, length: int) -> Floats:
    """Return the pressure, rising from `at_s` on to a peak near 1; shape (length,).

    Friedlander's blast wave with a linear rise, convolved with a causal kernel that begins like the time itself for
    the absorption of the air (two equal first-order low-passes); the reflection is a later copy of it.
    """
    after_s = np.arange(length) / fine_hz - at_s
    wave = _friedlander(blast, after_s)
    if blast.reflection:
        wave += blast.reflection * _friedlander(blast, after_s - blast.reflection_s)
    if blast.absorption_s:
        lags = np.arange(round(12 * blast.absorption_s * fine_hz)) / fine_hz / blast.absorption_s
        kernel = lags * np.exp(-lags)
        wave = fftconvolve(wave, kernel / kernel.sum())[:length]
    return wave


def _friedlander(blast: Blast, after_s: Floats) -> Floats:
    late = np.maximum(after_s - blast.rise_s, 0) / blast.positive_s
    wave: Floats = np.clip(after_s / blast.rise_s, 0, 1) * (1 - late) * np.exp(-blast.steepness * late)
    return wave


def recorded(blast: Blast, rate_hz: int, onset_s: float, length: int) -> Floats:
    """Return the samples that a converter makes of a blast; shape (length,)."""
    factor = FINE_HZ // rate_hz
    taps = firwin(2 * FILTER_PERIODS * factor + 1, 2 * PASS / factor, window=("kaiser", 8.0))
    first = max(0, int(onset_s * rate_hz) - 2 * FILTER_PERIODS)
    count = min(length - first, round(0.05 * rate_hz))
    fine = pressure(blast, FINE_HZ, onset_s - first / rate_hz, count * factor)
    samples = np.zeros(length)
    samples[first : first + count] = fftconvolve(fine, taps, "same")[::factor]
    return samples


def background(rate_hz: int, length: int, rng: np.random.Generator, *, pink: bool) -> Floats:
    """Return noise: white, or pink as a city's is, from 20 Hz up."""
    white = rng.standard_normal(length)
    if not pink:
        return white
    frequency_hz = np.maximum(np.fft.rfftfreq(length, 1 / rate_hz), 20.0)
    return np.fft.irfft(np.fft.rfft(white) / np.sqrt(frequency_hz), length)


@dataclass(frozen=True)
class Recording:
    """A blast in noise, and when it began."""

    blast: Blast
    samples: Samples
    rate_hz: int
    onset: float
    trigger: int


def recordings(rate_hz: int, snr_db: float, seeds: int = SEEDS, *, clipped: bool) -> Iterator[Recording]:
    """Yield each blast in as many noises as there are seeds, half of them white."""
    length = round((BEFORE_S + AFTER_S) * rate_hz)
    hop = rate_hz // 1000
    for index, blast in enumerate(BLASTS):
        for seed in range(seeds):
            rng = np.random.default_rng([rate_hz, round(snr_db), index, seed])
            onset = (BEFORE_S + rng.uniform(0, 0.001)) * rate_hz
            sound = recorded(blast, rate_hz, onset / rate_hz, length)
            noise = background(rate_hz, length, rng, pink=bool(seed % 2))
            peak = np.abs(highpass(sound, rate_hz)).max()
            sound /= peak
            noise *= 10 ** (-snr_db / 20) / highpass(noise, rate_hz).std()
            polarity = rng.choice((-1.0, 1.0))
            samples = polarity * sound + noise
            if clipped:
                full = 10 ** (-snr_db / 40)
                samples = np.clip(samples, -full, full)
            trigger = int((onset + rng.uniform(0.001, 0.003) * rate_hz) / hop) * hop
            yield Recording(blast, np.asarray(0.9 * samples / np.abs(samples).max(), np.float32), rate_hz, onset, trigger)
