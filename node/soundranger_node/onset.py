"""The onset of an impulse: when its sound began, to a fraction of a sample, and how sure that is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Samples
from soundranger_node.filters import causal_highpass

# How much background the picker sees before the trigger: enough to know its variance, short of the last echo.
BACKGROUND_S = 0.02
# The first peak of a blast comes within this of the trigger, also where it rises slowly.
PEAK_S = 0.008
# The first peak is the first maximum of at least this share of the largest: the reflection may be the larger.
PEAK_SHARE = 0.5
# What follows the first peak for this long steadies the variance of the sound; more would favour a later, louder part.
AFTER_PEAK_S = 0.001
# Air, microphone and latency are not known better than this.
MIN_SIGMA_S = 1e-4
# The pick is a whole sample, interpolated: on sharp onsets it was right to a quarter of one.
MIN_SIGMA_SAMPLES = 0.25
# A blast's foot rises about as the cube of time: (noise / peak)^(1/3) of its rise is hidden below the noise.
FOOT_POWER = 3
# Recorded shots that noise was added to were picked late by about this much of what should be hidden.
HIDDEN_FACTOR = 1.5
# Where the noise is as large as the peak, next to nothing of the rise is seen.
MOST_HIDDEN = 0.8
# Keeps the logarithm finite on digital silence; 100 dB below the least step of 24-bit sound.
LEAST_VARIANCE = 1e-24


@dataclass(frozen=True)
class Onset:
    """`sample` counts from the start of the samples it was picked in; `rise_s` is from there to the first peak."""

    sample: float
    sigma_s: float
    rise_s: float


def pick_onset(samples: Samples, trigger: int, lead: int, sample_rate_hz: float) -> Onset:
    """Return the onset of the impulse that set off a trigger.

    `samples` has shape (n,) and should reach from 20 ms before the trigger to 10 ms after it; `trigger` is an index
    into it, 0 <= trigger < n; the onset is at most `lead` samples before that. Where the impulse has a weak forerunner
    among these (the shock wave of a bullet), that is the onset.
    """
    sound = causal_highpass(samples, sample_rate_hz)
    earliest = max(0, trigger - lead)
    peak = earliest + _first_peak(np.abs(sound[earliest : trigger + round(PEAK_S * sample_rate_hz)]))
    start = max(0, min(earliest, trigger - round(BACKGROUND_S * sample_rate_hz)))
    end = peak + 1 + max(1, round(AFTER_PEAK_S * sample_rate_hz))
    criterion = akaike_criterion(sound[start:end])
    # Element k is for an onset at sample start + k + 1.
    candidates = criterion[max(0, earliest - start - 1) : peak - start]
    if not candidates.size:
        return Onset(float(peak), _sigma_s(1.0, BACKGROUND_S, sample_rate_hz), 0.0)
    split = max(0, earliest - start - 1) + int(np.argmin(candidates))
    onset = start + split + 1 + _vertex(criterion, split)
    rise_s = max(peak - onset, 0.0) / sample_rate_hz
    noise = float(sound[start : start + split + 1].std()) / max(abs(float(sound[peak])), LEAST_VARIANCE)
    return Onset(onset, _sigma_s(noise, rise_s, sample_rate_hz), rise_s)


def akaike_criterion(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Akaike's criterion that samples are noise up to a point and something louder from there on.

    `samples` has shape (n,), n > 2; element k of the result, of shape (n - 1,), is for k + 1 samples of noise. Least
    at the onset (Maeda 1985, "A method for reading and checking phase times in autoprocessing system of seismic wave
    data", Zisin 38).
    """
    count = np.arange(1, len(samples))
    rest = len(samples) - count
    total, square = np.cumsum(samples), np.cumsum(np.square(samples))
    before = square[:-1] / count - np.square(total[:-1] / count)
    after = (square[-1] - square[:-1]) / rest - np.square((total[-1] - total[:-1]) / rest)
    logarithms = np.log(np.maximum((before, after), LEAST_VARIANCE))
    criterion: NDArray[np.float64] = count * logarithms[0] + (rest - 1) * logarithms[1]
    return criterion


def _first_peak(size: NDArray[np.float64]) -> int:
    """Return the index of the first maximum that is not small against the largest; a clipped one at its beginning."""
    peak = int(np.argmax(size >= PEAK_SHARE * size.max()))
    while peak + 1 < len(size) and size[peak + 1] > size[peak]:
        peak += 1
    return peak


def _vertex(values: NDArray[np.float64], least: int) -> float:
    """Return how far, within half a sample, the minimum of a parabola through three values is from the middle one."""
    if not 0 < least < len(values) - 1:
        return 0.0
    left, middle, right = values[least - 1 : least + 2]
    curvature = left - 2 * middle + right
    return float(np.clip((left - right) / (2 * curvature), -0.5, 0.5)) if curvature > 0 else 0.0


def _sigma_s(noise: float, rise_s: float, sample_rate_hz: float) -> float:
    """Return one standard deviation of an onset from the noise as a share of the first peak, and the rise to that."""
    hidden = min(noise ** (1 / FOOT_POWER), MOST_HIDDEN)
    foot_s = max(rise_s, 1 / sample_rate_hz) * hidden / (1 - hidden)
    return float(np.hypot(max(MIN_SIGMA_S, MIN_SIGMA_SAMPLES / sample_rate_hz), HIDDEN_FACTOR * foot_s))
