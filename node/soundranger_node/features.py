"""What an impulse sounds like, in a few numbers: for telling shots from doors, here or years later.

docs/features.md has them all in one table.
"""

import numpy as np
from numpy.typing import NDArray

# The direct sound of a blast and its first reflections.
BODY_S = 0.05
# Muzzle blasts are loudest between these two, thumps below, clicks and glass above.
LOW_HZ, HIGH_HZ = 500.0, 2000.0
# A few samples have no shape.
MIN_SAMPLES = 8
# Where less than this share of the body's energy is more than was heard before, what that is like cannot be told.
LEAST_EXCESS = 0.1
# What is heard this long after the beginning is reverberation: streets have it, microphones that are touched do not.
TAIL_S = (0.05, 0.1)


def features(sound: NDArray[np.float64], before: NDArray[np.float64], sample_rate_hz: float) -> dict[str, float]:
    """Return the features of the high-passed sound of an impulse; `sound` has shape (n,), 100 ms of it count.

    `before` has shape (m,): what was heard just before.

    crest_factor: largest size over root mean square. kurtosis: 3 for noise, large for an impulse. zero_crossing_hz:
    changes of sign a second. centroid_hz: mean frequency, weighed by the energy that is more than before.
    bandwidth_hz: standard deviation of the frequency, weighed by energy. low_share, mid_share, high_share: of the
    energy, below 500 Hz, up to 2 kHz, above. All of these of the first 50 ms. tail_db: mean square of the next 50 ms
    over theirs. Digital silence, or next to no sound, has none.
    """
    body = sound[: round(BODY_S * sample_rate_hz)]
    square = np.square(body)
    power = float(square.mean()) if len(body) >= MIN_SAMPLES else 0.0
    if power <= 0:
        return {}
    spectrum = _power(body, len(body))
    frequency_hz = np.fft.rfftfreq(len(body), 1 / sample_rate_hz)
    share = spectrum / spectrum.sum()
    low, high = np.searchsorted(frequency_hz, (LOW_HZ, HIGH_HZ))
    mean_hz = float(share @ frequency_hz)
    # Else a faint blast at a high sample rate would sound as high as the hiss of the microphone under it.
    excess = spectrum - _power(before[-len(body) :], len(body))
    told = excess.sum() > LEAST_EXCESS * spectrum.sum()
    centroid_hz = np.clip(excess @ frequency_hz / excess.sum(), 0, frequency_hz[-1]) if told else mean_hz
    numbers = {
        "crest_factor": np.sqrt(square.max() / power),
        "kurtosis": np.square(square).mean() / power**2,
        "zero_crossing_hz": np.count_nonzero(np.diff(np.signbit(body))) * sample_rate_hz / len(body),
        "centroid_hz": centroid_hz,
        "bandwidth_hz": np.sqrt(share @ np.square(frequency_hz - mean_hz)),
        "low_share": share[:low].sum(),
        "mid_share": share[low:high].sum(),
        "high_share": share[high:].sum(),
    }
    start, end = (round(at_s * sample_rate_hz) for at_s in TAIL_S)
    tail = sound[start:end]
    if len(tail) >= MIN_SAMPLES and tail.any():
        numbers["tail_db"] = 10 * np.log10(np.square(tail).mean() / power)
    return {name: float(number) for name, number in numbers.items()}


def _power(sound: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return the power spectrum of a sound over so many samples, as if it went on as it is."""
    if not len(sound):
        return np.zeros(length // 2 + 1)
    return np.square(np.abs(np.fft.rfft(sound, length))) * (length / len(sound))
