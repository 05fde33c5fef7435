"""What an impulse sounds like, in a few numbers: for telling shots from doors, here or years later."""

import numpy as np
from numpy.typing import NDArray

# The direct sound of a blast and its first reflections.
BODY_S = 0.05
# Muzzle blasts are loudest between these two, thumps below, clicks and glass above.
LOW_HZ, HIGH_HZ = 500.0, 2000.0
# A few samples have no shape.
MIN_SAMPLES = 8


def features(sound: NDArray[np.float64], sample_rate_hz: float) -> dict[str, float]:
    """Return the features of the high-passed sound from its onset on; `sound` has shape (n,), 50 ms of it count.

    crest_factor: largest size over root mean square. kurtosis: 3 for noise, large for an impulse. zero_crossing_hz:
    changes of sign a second. centroid_hz: mean frequency, weighed by energy. low_share, mid_share, high_share: of the
    energy, below 500 Hz, up to 2 kHz, above. Digital silence, or next to no sound, has none.
    """
    body = sound[: round(BODY_S * sample_rate_hz)]
    square = np.square(body)
    power = float(square.mean()) if len(body) >= MIN_SAMPLES else 0.0
    if power <= 0:
        return {}
    spectrum = np.square(np.abs(np.fft.rfft(body)))
    frequency_hz = np.fft.rfftfreq(len(body), 1 / sample_rate_hz)
    share = spectrum / spectrum.sum()
    low, high = np.searchsorted(frequency_hz, (LOW_HZ, HIGH_HZ))
    numbers = {
        "crest_factor": np.sqrt(square.max() / power),
        "kurtosis": np.square(square).mean() / power**2,
        "zero_crossing_hz": np.count_nonzero(np.diff(np.signbit(body))) * sample_rate_hz / len(body),
        "centroid_hz": share @ frequency_hz,
        "low_share": share[:low].sum(),
        "mid_share": share[low:high].sum(),
        "high_share": share[high:].sum(),
    }
    return {name: float(f"{number:.4g}") for name, number in numbers.items()}
