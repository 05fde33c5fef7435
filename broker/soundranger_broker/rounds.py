"""Rounds: how often one more follows from about the same place, as loud at about the same nodes; compiled.

A self-exciting process (Hawkes 1971; so Ogata 1988 describes aftershocks).
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats
from soundranger_broker.levels import level_ratio
from soundranger_broker.scoring import Flags


class Again(NamedTuple):
    """How often one more round follows: `rates_hz` at first, each falling by e in its `decays_s`, and how near.

    The density of its place falls by e with every `fall_m`.
    """

    rates_hz: tuple[float, ...]
    decays_s: tuple[float, ...]
    fall_m: float


class Rounds(NamedTuple):
    """Bangs: places (k, 2), m, times (k,), s, who heard them (k, n) and how loud (k, n, `MEASURES`), dB."""

    places: Floats
    times_s: Floats
    heard: Flags
    levels_db: Floats


@njit(cache=True)
def log_rates(alone: Floats, heard_again: Floats, rounds: Rounds, before: Rounds, again: Again) -> Floats:
    """Return the log rate (m^-2 s^-1) of bangs (k,) such as `rounds`, given those of them, `before`, that came earlier.

    `alone` (k,) is that without those; `heard_again` (k, n) as in `Claim`.
    """
    summed = alone.copy()
    for k in range(len(summed)):
        for p in range(len(before.times_s)):
            after_s = rounds.times_s[k] - before.times_s[p]
            if after_s > 0.0:
                alike = _likeness(heard_again[k], rounds, k, before, p)
                more = alike + _log_density(again, after_s, rounds.places[k] - before.places[p])
                summed[k] = np.logaddexp(summed[k], more)
    return summed


@njit(cache=True)
def _likeness(heard_again: Floats, rounds: Rounds, k: int, before: Rounds, p: int) -> float:
    """Return how much likelier it is who heard a bang, and how loud, if it came after a round like p (log ratio)."""
    total = 0.0
    for n in range(len(heard_again)):
        if before.heard[p, n]:
            total += heard_again[n]
            if rounds.heard[k, n]:
                total += level_ratio(before.levels_db[p, n], rounds.levels_db[k, n])
    return total


@njit(cache=True)
def _log_density(again: Again, after_s: float, apart_m: Floats) -> float:
    """Return the log density (m^-2 s^-1) of one more round so long after another and so far (2,) from it."""
    rate_hz = 0.0
    for k in range(len(again.rates_hz)):
        rate_hz += again.rates_hz[k] * math.exp(-after_s / again.decays_s[k])
    area_m2 = 2.0 * math.pi * again.fall_m**2
    return math.log(rate_hz / area_m2) - math.hypot(apart_m[0], apart_m[1]) / again.fall_m
