"""The high-passes of the detector, made of running means: a few additions a sample at any rate."""

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Samples

# A mean over 4 ms passes what is above 250 Hz: wind, hum and traffic go (-28 dB at 100 Hz, -53 at 50), blasts stay.
MEAN_S = 0.004
# The onset's own filter: short, since what follows an onset must not be judged by what was long before.
TRAILING_MEAN_S = 0.002


def highpass_reach(sample_rate_hz: float) -> int:
    """Return how many samples on either side of a sample `highpass` looks at."""
    return 2 * _half_width(sample_rate_hz)


def highpass(samples: Samples, sample_rate_hz: float) -> Samples:
    """Return the samples without their low frequencies and without delay; it spreads an onset 4 ms to both sides.

    Twice the signal minus its centred running mean. `samples` has shape (n,); the result lacks the reach of the
    filter at both ends: shape (n - 2 * highpass_reach,).
    """
    half = _half_width(sample_rate_hz)
    return _without_mean(_without_mean(samples, half), half)


def causal_highpass(samples: Samples, sample_rate_hz: float) -> NDArray[np.float64]:
    """Return the samples without their low frequencies; nothing moves ahead of an onset.

    Twice the signal minus the mean of its last 2 ms. The shape stays (n,); before the first 2 ms are over, the mean is
    that of what there is.
    """
    width = max(1, round(TRAILING_MEAN_S * sample_rate_hz))
    return _without_trailing_mean(_without_trailing_mean(samples.astype(np.float64), width), width)


def _half_width(sample_rate_hz: float) -> int:
    return round(MEAN_S * sample_rate_hz / 2)


def _without_mean(samples: Samples, half: int) -> Samples:
    width = 2 * half + 1
    means = _running_sums(samples, width)
    means *= np.float32(1 / width)
    return np.subtract(samples[half : len(samples) - half], means, out=means)


def _running_sums(samples: Samples, width: int) -> Samples:
    """Return the sum of every `width` consecutive samples; shape (n - width + 1,).

    Put together of sums of 1, 2, 4, 8 ... samples: four times as fast as differences of a running total, since no
    addition waits for the last one, and exact enough in single precision, since none is of many samples.
    """
    count = len(samples) - width + 1
    sums = np.zeros(count, np.float32)
    # `powers` are the sums of `size` samples; the first `done` of the width are in.
    powers, size, done = samples, 1, 0
    while done < width:
        if width & size:
            sums += powers[done : done + count]
            done += size
        if done < width:
            powers = powers[:-size] + powers[size:]
            size *= 2
    return sums


def _without_trailing_mean(samples: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    total = _running_total(samples)
    means = total[1:].copy()
    means[width:] -= total[1:-width]
    means /= np.minimum(np.arange(1, len(samples) + 1), width)
    return samples - means


def _running_total(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the first 0, 1, ... n samples; shape (n + 1,)."""
    total = np.zeros(len(samples) + 1)
    np.cumsum(samples, out=total[1:])
    return total
