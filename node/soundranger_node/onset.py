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

# How much background the picker sees before the trigger: enough to know its spectrum, short of the last shot.
BACKGROUND_S = 0.03
# The filter of the detector is centred: it tells of a loud blast up to 4 ms, and a hop, ahead.
AHEAD_OF_ONSET_S = 0.006
# Pink noise, after the high-pass, is white to what this many samples leave unpredicted; so many want 60 to learn from.
ORDER = 6
SAMPLES_PER_COEFFICIENT = 10
# Keeps the autoregression of hum and of silence finite.
RIDGE = 1e-3
# Noise is at least so much of the largest sound: no microphone has more than 70 dB from one to the other.
LEAST_NOISE = 3e-4
# Keeps divisions finite on digital silence; 40 dB below the least step of 24-bit sound.
LEAST = 1e-9

# Clipped samples differ by less than this share of their size, and are more than the two that a whole peak may have.
FLAT, MOST_FLAT = 1e-3, 2

# A blast is found by its first 2.5 ms, at every fourth of the times that are tried later.
OUTLINE_S = 0.0025
STRIDE = 4
# A matched filter gives noise 5 as a rule and 20 once in a hundred, in units of its variance; what is over 32 is sound.
SURELY_SOUND = 32.0
# Where nothing ahead of the trigger is much over that, as with echoes in reverberation, the first of half the largest.
FAINT_SHARE = 0.5
# Onset is the first that has an eighth of the energy of the loudest: reflections, and the end of clipped sound, may be
# the larger, and a forerunner of a third of its amplitude is not to be missed.
SHARE = 0.12
# The onset is looked for from this much before the place that was found ...
EARLIER_S = 0.001
# ... to a little after its outline, of which a loud blast needs only the last bit; then there is this much blast left.
LATER_S = OUTLINE_S + 0.0002
END_S = BLAST_S - EARLIER_S

# Onsets that explain the sound worse than the best by this much, in units of the logarithm, are not looked at closely.
UNLIKELY = 20.0
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

    `samples` has shape (n,) and should reach from 30 ms before the trigger to 10 ms after it; `trigger` is an index
    into it, 0 <= trigger < n; the onset is at most `lead` samples before that. Where the impulse has a weak forerunner
    among these (the shock wave of a bullet), that is the onset.
    """
    sound = causal_highpass(samples, sample_rate_hz)
    earliest = max(0, trigger - lead)
    latest = min(len(sound), trigger + 1 + round(AHEAD_OF_ONSET_S * sample_rate_hz))
    learnt = max(0, trigger - round(BACKGROUND_S * sample_rate_hz)) + round(TRAILING_MEAN_S * sample_rate_hz)
    whitening = _whitening(sound[learnt:earliest], LEAST_NOISE * float(np.abs(sound[earliest:latest]).max()))
    middle = float(np.median(samples[:latest]))
    known = blasts(sample_rate_hz, clipped=_is_clipped(samples[earliest:latest], middle))
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


def _is_clipped(samples: Samples, middle: float) -> bool:
    """Return whether so many samples are as far out on a loud side of the middle that they were cut off there."""
    sides = (samples - middle, middle - samples)
    tops = [float(side.max()) for side in sides]
    counts = [int(np.count_nonzero(side >= (1 - FLAT) * top)) for side, top in zip(sides, tops, strict=True)]
    return any(top > max(tops) / 2 and count > MOST_FLAT for top, count in zip(tops, counts, strict=True))


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
    filtered: Floats = whitening[0] * shapes
    for lag in range(1, min(len(whitening), shapes.shape[1])):
        filtered[:, lag:] += whitening[lag] * shapes[:, :-lag]
    return filtered


def _windows(white: Floats, onsets: NDArray[np.intp], length: int) -> Floats:
    """Return the sound around evenly spaced onsets; shape (onsets, length); 0 where there is none."""
    start, end = int(onsets[0]) - RINGING, int(onsets[-1]) - RINGING + length
    sound = np.pad(white[max(0, start) : end], (max(0, -start), max(0, end - len(white))))
    step = int(onsets[1] - onsets[0]) if len(onsets) > 1 else 1
    windows: Floats = sliding_window_view(sound, length)[::step]
    return windows


def _found(white: Floats, whitening: Floats, known: Blasts, span: tuple[int, int, int], sample_rate_hz: float) -> _Find:
    """Return where in a span (from, trigger, up to) of white sound a blast is first heard, by matched filters.

    The generalised likelihood ratio test of Kay 1998, "Fundamentals of Statistical Signal Processing", volume II.
    """
    earliest, trigger, latest = span
    length = RINGING + round(OUTLINE_S * sample_rate_hz)
    outlines = _filtered(known.shapes[:1, :length, known.outlines], whitening)[0]
    outlines /= np.sqrt(np.sum(np.square(outlines), axis=0)) + LEAST
    places = np.arange(earliest, latest, max(1, round(STRIDE * STEP_S * sample_rate_hz)))
    outputs = np.square(_windows(white, places, length) @ outlines).max(axis=1)
    faint = SHARE * float(outputs.max())
    before = float(outputs[places <= trigger].max())
    at = int(np.argmax(outputs >= max(faint, min(SURELY_SOUND, FAINT_SHARE * before))))
    middle = max(DOUBTFUL, faint * DOUBTFUL / SURELY_SOUND)
    sound = 1 / (1 + np.exp(np.clip((middle - outputs) / DOUBT_WIDTH, -50, 50)))
    return _Find(
        int(places[at]), _doubt(places - places[at], sound, sample_rate_hz) + _nothing(sound, latest - earliest)
    )


def _nothing(sound: Floats, span: int) -> float:
    """Return the variance of an onset for the probability that there is none, and its place is anywhere in a span."""
    return (1 - float(sound.max())) * span**2 / 12


def _doubt(away: NDArray[np.intp], sound: Floats, sample_rate_hz: float) -> float:
    """Return the variance of an onset, in samples squared, for other sounds that could be the one.

    `away` is how far they are from what was found, in samples, and `sound` how probably they are no noise.
    """
    early, late = away < -EARLIER_S * sample_rate_hz, away > LATER_S * sample_rate_hz
    apart = np.square(away) * sound
    missed = 1 - float(sound[~early & ~late].max())
    forerunner, follower = (float(np.max(apart, where=where, initial=0.0)) for where in (early, late))
    return FORERUNNER * forerunner + missed * follower


def _estimate(
    white: Floats, whitening: Floats, known: Blasts, span: tuple[int, int], sample_rate_hz: float
) -> tuple[float, float]:
    """Return the mean and the variance of the onset, in samples; it is one of a span, and in the white sound."""
    first, last = span
    shapes = _filtered(known.shapes[:, : len(white) - first + RINGING], whitening)
    largest = float(np.square(white[first:]).max())
    excesses = [misfit**2 * largest * max(1.0, MISFIT_S * sample_rate_hz) for misfit in MISFITS]
    step = max(1, round(STEP_S * sample_rate_hz))
    stride = max(1, round(STRIDE * STEP_S * sample_rate_hz))
    rough = _log_likelihoods(white, shapes[:1], np.arange(first, last + 1, stride), excesses).max(axis=(0, 1, 3))
    likely = first + stride * np.flatnonzero(rough >= rough.max() - UNLIKELY)
    onsets = np.arange(max(first, likely[0] - stride), min(last, likely[-1] + stride) + 1, step)
    logs = _log_likelihoods(white, shapes, onsets, excesses)
    likelihood = np.exp(logs - logs.max()).sum(axis=0)
    likelihood /= likelihood.sum()
    fractions = len(shapes)
    times = onsets + np.arange(fractions)[:, None] / fractions
    weights = likelihood.sum(axis=2)
    mean = float(np.clip(np.sum(weights * times), first, len(white) - 1))
    foot = FOOT_SHARE * float(likelihood.sum(axis=(0, 1)) @ known.rises_s) * sample_rate_hz
    variance = float(np.sum(weights * np.square(times - mean))) + (step / fractions) ** 2 / 12 + foot**2
    return mean, variance


def _log_likelihoods(white: Floats, shapes: Floats, onsets: NDArray[np.intp], excesses: list[float]) -> Floats:
    """Return how likely white sound is under each hypothesis, but for a constant.

    `shapes` has shape (fractions, samples, blasts), the result (excesses, fractions, onsets, blasts). The noise has
    variance 1; from the onset on, what the shape misses adds an excess to it.
    """
    length = shapes.shape[1]
    windows = _windows(white, onsets, length)
    heard = np.minimum(len(white) - onsets + RINGING, length)
    energies = np.cumsum(np.square(shapes), axis=1)
    ahead = energies[:, RINGING - 1, None]
    behind = energies[:, heard - 1] - ahead
    product_ahead = windows[:, :RINGING] @ shapes[:, :RINGING]
    product_behind = windows[:, RINGING:] @ shapes[:, RINGING:]
    power = np.concatenate(([0.0], np.cumsum(np.square(white[onsets[0] :]))))
    before = power[onsets - onsets[0]]
    logs = np.empty((len(excesses), *product_ahead.shape))
    for row, excess in enumerate(excesses):
        weight = 1 / (1 + excess)
        noise = before + weight * (power[-1] - before) - (len(white) - onsets) * np.log(weight)
        explained = np.square(product_ahead + weight * product_behind) / (ahead + weight * behind + LEAST)
        # The amplitude is integrated out, all its orders of magnitude being as likely.
        logs[row] = explained - np.log(np.maximum(explained, 1)) - noise[:, None]
    logs /= 2
    return logs


def _first_peak(size: Floats) -> int:
    """Return the index of the first maximum that is not small against the largest; a clipped one at its beginning."""
    peak = int(np.argmax(size >= PEAK_SHARE * size.max()))
    while peak + 1 < len(size) and size[peak + 1] > size[peak]:
        peak += 1
    return peak
