"""The onset of an impulse: when its sound began, to a fraction of a sample, and how sure that is.

Sound is noise up to the onset and a blast from there on. All shapes of `soundranger_node.blasts` are tried at all
times; how well each explains the sound gives each its probability, and these the onset and its standard deviation: a
change point by Bayes with the amplitude integrated out (O Ruanaidh and Fitzgerald 1996, "Numerical Bayesian Methods
Applied to Signal Processing", chapter 5). The noise is made white first, by what an autoregression on the background
cannot predict (Leonard and Kennett 1999, "Multi-component autoregressive techniques for the analysis of seismograms",
Physics of the Earth and Planetary Interiors 113). Where to try is found by matched filters.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from soundranger_node.blasts import BLAST_S, RINGING, STEP_S, Blasts, blasts
from soundranger_node.blocks import Samples
from soundranger_node.filters import TRAILING_MEAN_S, causal_highpass

Floats = NDArray[np.float64]

# How much background the picker sees before the trigger: enough to know its spectrum, short of the last echo.
BACKGROUND_S = 0.02
# The filter of the detector is centred: it tells of a loud blast up to 4 ms, and a hop, ahead.
AHEAD_OF_ONSET_S = 0.006
# Pink noise, after the high-pass, is white to what this many samples leave unpredicted; so many want 60 to learn from.
ORDER = 6
SAMPLES_PER_COEFFICIENT = 10
# Keeps the autoregression of hum and of silence finite.
RIDGE = 1e-3
# Noise is at least so much of the largest sound: no microphone has more than 70 dB from one to the other.
LEAST_NOISE = 3e-4
# Keeps divisions finite on digital silence; 140 dB below the least step of 24-bit sound.
LEAST = 1e-14

# A blast is found by its first 2.5 ms, at every fourth of the times that are tried later.
OUTLINE_S = 0.0025
STRIDE = 4
# A matched filter gives noise 5 as a rule and 20 once in a hundred, in units of its variance; what is over 25 is sound.
SURELY_SOUND = 25.0
# Where nothing ahead of the trigger is as loud as that, the first that is not small against the loudest.
FAINT_SHARE = 0.7
# Onset is the first that has an eighth of the energy of the loudest: reflections, and the end of clipped sound, may be
# the larger, and a forerunner of a third of its amplitude is not to be missed.
SHARE = 0.12
# The onset is looked for from this much before the place that was found ...
EARLIER_S = 0.001
# ... to a little after its outline, of which a loud blast needs only the last bit; then there is this much blast left.
LATER_S = OUTLINE_S + 0.0002
END_S = BLAST_S - EARLIER_S

# Real shapes differ from ours by 5 % of the peak where nothing is in the way, and by 30 % on streets ...
MISFITS = (0.05, 0.3)
# ... and by the same for about so long, as more samples in it do not make us wiser.
MISFIT_S = 1e-4
# What the shape of the foot may hide, as a share of the rise.
FOOT_SHARE = 0.06
# Half the matched filters that give 20 are noise, with the probability falling by e for each 2 on both sides of it.
DOUBTFUL = 20.0
DOUBT_WIDTH = 2.0
# The probability that a sound ahead of a blast, and apart from it, belongs to it.
FORERUNNER = 0.2
# Air, microphone and latency are not known better than this.
MIN_SIGMA_S = 1e-4
# Not even a perfect shape is known to better than a quarter of a sample at rates far below those of sound.
MIN_SIGMA_SAMPLES = 0.25
# The first peak is the first maximum of at least this share of the largest: the reflection may be the larger.
PEAK_SHARE = 0.5


@dataclass(frozen=True)
class Onset:
    """`sample` counts from the start of the samples it was picked in; `rise_s` is from there to the first peak.

    `spread_s` is the picker's own standard deviation; `sigma_s` that and what air and microphone add to it.
    """

    sample: float
    sigma_s: float
    rise_s: float
    spread_s: float


@dataclass(frozen=True)
class _Find:
    """Where a blast was found, and the variance of its onset by what else could be one, in samples squared."""

    place: int
    doubt: float


def pick_onset(samples: Samples, trigger: int, lead: int, sample_rate_hz: float) -> Onset:
    """Return the onset of the impulse that set off a trigger.

    `samples` has shape (n,) and should reach from 20 ms before the trigger to 10 ms after it; `trigger` is an index
    into it, 0 <= trigger < n; the onset is at most `lead` samples before that. Where the impulse has a weak forerunner
    among these (the shock wave of a bullet), that is the onset.
    """
    sound = causal_highpass(samples, sample_rate_hz)
    earliest = max(0, trigger - lead)
    latest = min(len(sound), trigger + 1 + round(AHEAD_OF_ONSET_S * sample_rate_hz))
    learnt = max(0, trigger - round(BACKGROUND_S * sample_rate_hz)) + round(TRAILING_MEAN_S * sample_rate_hz)
    whitening = _whitening(sound[learnt:earliest], LEAST_NOISE * float(np.abs(sound[earliest:latest]).max()))
    known = blasts(sample_rate_hz)
    white = np.convolve(sound, whitening)[: len(sound)]
    find = _found(white, whitening, known, (earliest, trigger, latest), sample_rate_hz)
    end = min(len(sound), find.place + round(END_S * sample_rate_hz))
    first = max(earliest, find.place - round(EARLIER_S * sample_rate_hz))
    last = min(end - 1, find.place + round(LATER_S * sample_rate_hz))
    onset, variance = _estimate(white[:end], whitening, known, (first, last), sample_rate_hz)
    peak = int(onset) + _first_peak(np.abs(sound[int(onset) : end]))
    spread_s = float(np.sqrt(variance + find.doubt)) / sample_rate_hz
    floor_s = max(MIN_SIGMA_S, MIN_SIGMA_SAMPLES / sample_rate_hz)
    return Onset(onset, float(np.hypot(floor_s, spread_s)), max(peak - onset, 0.0) / sample_rate_hz, spread_s)


def _whitening(background: Floats, least_noise: float) -> Floats:
    """Return the filter that makes the background white with variance 1; shape (ORDER + 1,), or (1,) if it is short."""
    count = len(background)
    if count < ORDER * SAMPLES_PER_COEFFICIENT:
        spread = float(np.sqrt(np.mean(np.square(background)))) if count else 0.0
        return np.array([1 / max(spread, least_noise, LEAST)])
    products = np.array([background[: count - lag] @ background[lag:] for lag in range(ORDER + 1)]) / count
    products[0] += RIDGE * products[0] + LEAST**2
    lags = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
    coefficients = np.linalg.solve(products[lags], products[1:])
    spread = float(np.sqrt(max(products[0] - coefficients @ products[1:], 0.0)))
    return np.concatenate(([1.0], -coefficients)) / max(spread, least_noise, LEAST)


def _filtered(shapes: Floats, whitening: Floats) -> Floats:
    """Return the shapes after a filter along their second axis."""
    filtered = whitening[0] * shapes
    for lag in range(1, min(len(whitening), shapes.shape[1])):
        filtered[:, lag:] += whitening[lag] * shapes[:, :-lag]
    return filtered


def _windows(white: Floats, first: int, count: int, length: int, step: int) -> Floats:
    """Return the sound around `count` onsets, `step` apart from `first` on; shape (count, length); 0 where is none."""
    start = first - RINGING
    needed = start + (count - 1) * step + length
    padded = np.pad(white[max(0, start) : max(0, needed)], (max(0, -start), max(0, needed - len(white))))
    return sliding_window_view(padded, length)[::step]


def _found(
    white: Floats, whitening: Floats, known: Blasts, span: tuple[int, int, int], sample_rate_hz: float
) -> _Find:
    """Return where in a span (from, trigger, up to) of white sound a blast is first heard, by matched filters."""
    earliest, trigger, latest = span
    length = RINGING + round(OUTLINE_S * sample_rate_hz)
    outlines = _filtered(known.shapes[:1, :length, known.outlines], whitening)[0]
    outlines /= np.sqrt(np.sum(np.square(outlines), axis=0)) + LEAST
    step = max(1, round(STRIDE * STEP_S * sample_rate_hz))
    places = np.arange(earliest, latest, step)
    outputs = np.square(_windows(white, earliest, len(places), length, step) @ outlines).max(axis=1)
    loudest = float(outputs.max())
    before = float(outputs[places <= trigger].max())
    at = int(np.argmax(outputs >= max(SHARE * loudest, min(SURELY_SOUND, FAINT_SHARE * before))))
    place = int(places[at])
    middle = max(DOUBTFUL, SHARE * loudest * DOUBTFUL / SURELY_SOUND)
    sound = 1 / (1 + np.exp(np.clip((middle - outputs) / DOUBT_WIDTH, -50, 50)))
    away = (places - place) / sample_rate_hz
    apart = np.square(places - place) * sound
    early, late = away < -EARLIER_S, away > LATER_S
    missed = 1 - float(sound[~early & ~late].max())
    doubt = (
        FORERUNNER * float(np.max(apart, where=early, initial=0.0))
        + missed * float(np.max(apart, where=late, initial=0.0))
        + (1 - float(sound.max())) * (latest - earliest) ** 2 / 12
    )
    return _Find(place, doubt)


def _estimate(
    white: Floats, whitening: Floats, known: Blasts, span: tuple[int, int], sample_rate_hz: float
) -> tuple[float, float]:
    """Return the mean and the variance of the onset, in samples, from sound that ends with the white sound's end."""
    first, last = span
    step = max(1, round(STEP_S * sample_rate_hz))
    onsets = np.arange(first, last + 1, step)
    length = min(known.shapes.shape[1], len(white) - first + RINGING)
    shapes = _filtered(known.shapes[:, :length], whitening)
    windows = _windows(white, first, len(onsets), length, step)
    heard = np.minimum(len(white) - onsets + RINGING, length)
    energies = np.cumsum(np.square(shapes), axis=1)
    ahead = energies[:, RINGING - 1, None]
    behind = energies[:, heard - 1] - ahead
    product_ahead = windows[:, :RINGING] @ shapes[:, :RINGING]
    product_behind = windows[:, RINGING:] @ shapes[:, RINGING:]
    rest = white[max(0, first - RINGING) :]
    power = np.concatenate(([0.0], np.cumsum(np.square(rest))))
    before = power[onsets - max(0, first - RINGING)]
    largest = float(np.square(rest).max())
    logs = []
    for misfit in MISFITS:
        # Noise has variance 1; from the onset on, what the shape misses adds to it.
        weight = 1 / (1 + misfit**2 * largest * max(1.0, MISFIT_S * sample_rate_hz))
        explained = np.square(product_ahead + weight * product_behind) / (ahead + weight * behind + LEAST)
        noise = weight * (power[-1] - before) + before - (len(white) - onsets) * np.log(weight)
        # The amplitude, unknown by orders of magnitude, is integrated out: the larger, the smaller its own share.
        logs.append((explained - np.log(np.maximum(explained, 1)) - noise[:, None]) / 2)
    likelihood = np.exp(np.array(logs) - np.max(logs)).sum(axis=0)
    likelihood /= likelihood.sum()
    fractions = len(shapes)
    times = onsets + np.arange(fractions)[:, None] / fractions
    weights = likelihood.sum(axis=2)
    mean = float(np.sum(weights * times))
    variance = float(np.sum(weights * np.square(times - mean)))
    foot = FOOT_SHARE * float(likelihood.sum(axis=(0, 1)) @ known.rises_s) * sample_rate_hz
    return min(mean, float(len(white) - 1)), variance + (step / fractions) ** 2 / 12 + foot**2


def _first_peak(size: Floats) -> int:
    """Return the index of the first maximum that is not small against the largest; a clipped one at its beginning."""
    peak = int(np.argmax(size >= PEAK_SHARE * size.max()))
    while peak + 1 < len(size) and size[peak + 1] > size[peak]:
        peak += 1
    return peak
