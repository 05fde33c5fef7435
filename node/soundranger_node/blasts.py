"""The shapes of muzzle blasts as a converter records them: what the onset picker compares sound with."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from soundranger_node.filters import TRAILING_MEAN_S, causal_highpass

# Shapes begin this many samples before the onset: the converter's filter rings ahead of a sharp one.
RINGING = 6
# How much of a blast the shapes know; later, the ground and the houses have their say.
BLAST_S = 0.004
# Onsets are tried this close together; at lower sample rates that is between the samples.
STEP_S = 1 / 48_000
# No finer than an eighth of a sample: at rates far below those of sound, there is less to be known.
MOST_FRACTIONS = 8
# From a shot nearby to one whose rise a kilometre of air, or a house in the way, has made slow.
RISES_S = (1e-5, 6e-5, 1.2e-4, 1.8e-4, 2.7e-4, 4e-4, 6e-4, 9e-4, 1.35e-3)
# How much of the rise is its foot, like the time cubed, and its shoulder: nothing leaves a straight line.
TAPERS = (0.0, 0.35, 0.7)
# Rises shorter than this are over within a sample or two, and their tapers cannot be told apart.
TAPERED_S = 1e-4
# The overpressure of a pistol or rifle lasts about 1 ms, of larger guns and farther ones some.
OVERPRESSURE_S = (1e-3, 2e-3, 4e-3)
# The peak over full scale: half of it is not clipped; ten times that leaves a flat top and little of the rise.
WHOLE, OVERDRIVES = (0.5,), (0.5, 3.0, 10.0)
# Converters pass what is below this share of the sample rate, by filters that reach about so many samples either way.
PASS, FILTER_REACH = 0.45, 12
# Blasts are computed at least at this many times the sample rate, and brought down by a filter of 80 dB.
OVERSAMPLING, KAISER_BETA = 8, 8.0
# These are enough to find a blast by, if not to say when it began: sharp or well rounded, at most a little clipped.
OUTLINES = ((1e-5, 0.0), (2.7e-4, 0.7), (9e-4, 0.7))
OUTLINE_OVERDRIVE = 3.0


@dataclass(frozen=True)
class Blasts:
    """The shapes at one sample rate.

    `shapes` has shape (fractions, samples, blasts): in row k the onset is at sample RINGING + k / fractions. `rises_s`
    has shape (blasts,); `outlines` are the indices of those that are enough to find a blast by.
    """

    shapes: NDArray[np.float64]
    rises_s: NDArray[np.float64]
    outlines: NDArray[np.intp]


@lru_cache(maxsize=4)
def blasts(sample_rate_hz: float, *, clipped: bool) -> Blasts:
    """Return what a converter of this sample rate makes of blasts, after `causal_highpass`; clipped ones too, or not.

    The overpressure is Friedlander's (1946, "The diffraction of sound pulses", Proceedings of the Royal Society A 186).
    """
    every = product(RISES_S, TAPERS, OVERPRESSURE_S)
    kinds = [kind for kind in every if kind[0] > TAPERED_S or not kind[1]]
    overdrives = OVERDRIVES if clipped else WHOLE
    fractions = min(MOST_FRACTIONS, max(1, round(1 / (STEP_S * sample_rate_hz))))
    shift = -(-OVERSAMPLING // fractions)
    finer = shift * fractions
    length = RINGING + round(BLAST_S * sample_rate_hz)
    # The high-pass looks back; before the blast there must be enough of nothing.
    ahead = RINGING + 2 * round(TRAILING_MEAN_S * sample_rate_hz) + 2 * FILTER_REACH
    times_s = np.arange(-ahead * finer, (length + FILTER_REACH) * finer) / (finer * sample_rate_hz)
    shapes = np.empty((fractions, length, len(kinds), len(overdrives)))
    for number, kind in enumerate(kinds):
        fine = _converted(_pressure(times_s, *kind), finer)
        for fraction, (clip, overdrive) in product(range(fractions), enumerate(overdrives)):
            samples = fine[finer - fraction * shift :: finer]
            sound = causal_highpass(np.clip(overdrive * samples, -1, 1), sample_rate_hz)
            shapes[fraction, :, number, clip] = sound[ahead - RINGING - 1 :][:length]
    outlines = [
        number
        for number, (kind, overdrive) in enumerate(product(kinds, overdrives))
        if kind[:2] in OUTLINES and overdrive <= OUTLINE_OVERDRIVE
    ]
    rises_s = np.repeat([kind[0] for kind in kinds], len(overdrives))
    return Blasts(shapes.reshape(fractions, length, -1), rises_s, np.array(outlines))


def _pressure(time_s: NDArray[np.float64], rise_s: float, taper: float, overpressure_s: float) -> NDArray[np.float64]:
    """Return a blast that begins at time 0 and has its peak, 1, at `rise_s`; its slope till then is a Tukey window."""
    late = np.maximum(time_s - rise_s, 0) / overpressure_s
    wave: NDArray[np.float64] = _rise(np.clip(time_s / rise_s, 0, 1), taper) * (1 - late) * np.exp(-late)
    return wave


def _rise(share: NDArray[np.float64], taper: float) -> NDArray[np.float64]:
    """Return the integral of a Tukey window from 0 to each share of it, as a share of the whole."""
    if not taper:
        return share
    half = taper / 2
    from_end = np.minimum(share, 1 - share)
    foot = np.minimum(from_end, half)
    area = (foot - half / np.pi * np.sin(np.pi * foot / half)) / 2 + np.maximum(from_end - half, 0)
    area /= 1 - half
    return np.where(share < 1 / 2, area, 1 - area)


def _converted(pressure: NDArray[np.float64], finer: int) -> NDArray[np.float64]:
    """Return pressure, given at so many times the sample rate, after the linear-phase filter of a converter."""
    reach = np.arange(-FILTER_REACH * finer, FILTER_REACH * finer + 1) / finer
    taps = np.sinc(2 * PASS * reach) * np.kaiser(len(reach), KAISER_BETA)
    return np.convolve(pressure, taps / taps.sum(), "same")
