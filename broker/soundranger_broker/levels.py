"""Levels: what the loudness of arrivals says about their source, compiled.

Arrivals of one source fall off with the distance from it, and one round of a gun is as loud at a node as the last.
"""

import math

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats

# How far a gun at 1 m is over the noise of a node (dB): from a pistol by a street to a rifle in a field.
SOURCE_SNR_DB = (78.0, 12.0)
# What nodes differ by around that law: their noise, walls, foliage (dB).
NODE_SNR_SIGMA_DB = 9.0
# A node that is off by more standard deviations than this does not know its level: it speaks no more against a bang.
MOST_OFF_SIGMAS = 3.0
# The SNR of whatever else comes may be anything in a range this wide (dB): levels that keep to the law only as
# well as those of a real bang do speak neither for nor against it.
CHANCE_SNR_RANGE_DB = 37.0
# Absorption by the air of what is left of a blast, about that at 1 kHz.
AIR_DB_PER_M = 0.008
# Nearer than this, spreading is no more the law: microphones clip.
NEAREST_M = 20.0
# One round of a gun is as loud at a node as the last, in its peak (live fire: 1 dB, with outliers) and less so in its
# signal-to-noise ratio; whatever else comes is weaker, and may be anything. Means and standard deviations, dB.
PEAK_SPREAD_DB, SNR_SPREAD_DB = 2.5, 5.0
OTHER_LEVEL_DB = (-8.0, 9.0)
# A door that closes, or a gun that turns: no single level speaks more strongly against a round than this (log).
LEAST_LEVEL_RATIO = -3.0
# Measures of loudness, the best first: peak (dB SPL), peak (dB full scale) and signal-to-noise ratio, with the spread
# of each from round to round.
MEASURES = 3
_SPREADS_DB = (PEAK_SPREAD_DB, PEAK_SPREAD_DB, SNR_SPREAD_DB)


@njit(cache=True)
def level_evidence(snr_db: Floats, distances_m: Floats) -> float:
    """Return the log ratio of how well one source of some level explains the SNRs (n,), and how well chance does.

    A source that is `SOURCE_SNR_DB` over the noise at 1 m, give or take, falls with the distance; nodes differ in noise
    and in what stands around them. The common level is integrated over (a Gaussian with one shared component).
    """
    source_db, source_sigma_db = SOURCE_SNR_DB
    count = len(snr_db)
    losses = 20.0 * np.log10(np.maximum(distances_m, NEAREST_M)) + AIR_DB_PER_M * distances_m
    off = snr_db + losses - source_db
    middle, most_db = np.median(off), MOST_OFF_SIGMAS * NODE_SNR_SIGMA_DB
    off = np.minimum(np.maximum(off, middle - most_db), middle + most_db)
    shared = (source_sigma_db / NODE_SNR_SIGMA_DB) ** 2
    squares = (np.sum(off**2) - shared / (1.0 + count * shared) * np.sum(off) ** 2) / NODE_SNR_SIGMA_DB**2
    log_density = -0.5 * (squares + math.log(1.0 + count * shared))
    log_density -= count * math.log(math.sqrt(2.0 * math.pi) * NODE_SNR_SIGMA_DB)
    return log_density + count * math.log(CHANCE_SNR_RANGE_DB)


@njit(cache=True)
def level_ratio(before: Floats, now: Floats) -> float:
    """Return the log ratio of how likely a node's level is for one more round of a gun, and for anything else.

    `before` and `now` (`MEASURES`,) are NaN where a measure is not known; the best that both know counts. All of them
    are NaN where the level was clipped: that says nothing.
    """
    for measure in range(MEASURES):
        change_db, spread_db = now[measure] - before[measure], _SPREADS_DB[measure]
        if not math.isnan(change_db):
            again = -0.5 * (change_db / spread_db) ** 2 - math.log(spread_db)
            other_db, other_spread_db = OTHER_LEVEL_DB
            other = -0.5 * ((change_db - other_db) / other_spread_db) ** 2 - math.log(other_spread_db)
            return float(max(again - other, LEAST_LEVEL_RATIO))
    return 0.0
