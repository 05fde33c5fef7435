"""Echoes that repeat: a wall gives every round from one place back to a node after the same delay; compiled.

So an arrival that follows a round by a delay at which arrivals followed other rounds from there is likely its echo.
"""

import math

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats
from soundranger_broker.scoring import Arrivals, Flags, Ints

# Rounds this close together (m) have the same walls: the delay of an echo changes by less than onsets err.
SAME_PLACE_M = 15.0
# Echoes come this long (s) after what made them; what comes later is lost among those of other rounds.
EARLIEST_S, LATEST_S = 0.01, 1.0
# Delays that differ by more standard deviations than this are not the same.
MOST_SIGMAS = 3.0


@njit(cache=True)
def _repeats_hz(
    arrivals: Arrivals, sigmas_s: Floats, owned: Flags, node: int, i: int, direct: int, others: Ints
) -> float:
    """Return how many arrivals a second followed `others` (arrivals at the node) by about the delay of i and `direct`.

    An echo that followed all k rounds known follows one more with a chance of k / (k + 1): it may have been none.
    """
    delay_s = arrivals.times_s[i] - arrivals.times_s[direct]
    total = 0.0
    for other in others:
        best = 0.0
        expected_s = arrivals.times_s[other] + delay_s
        spread_s = math.sqrt(2.0 * (sigmas_s[i] ** 2 + sigmas_s[other] ** 2))
        low, high = arrivals.starts[node], arrivals.starts[node + 1]
        first = low + np.searchsorted(arrivals.times_s[low:high], expected_s - MOST_SIGMAS * spread_s)
        for j in range(first, high):
            off = (arrivals.times_s[j] - expected_s) / spread_s
            if off > MOST_SIGMAS:
                break
            if not owned[j] and j != i:
                best = max(best, math.exp(-0.5 * off * off) / (math.sqrt(2.0 * math.pi) * spread_s))
        total += best
    return total / (len(others) + 1.0)


@njit(cache=True)
def _earlier_rounds(chosen: Ints, points: Floats, k: int, node: int) -> Ints:
    """Return the arrivals at a node of the bangs before bang k that were fired where it was."""
    found = np.empty(k, dtype=np.int64)
    count = 0
    for earlier in range(k):
        apart_m = math.hypot(points[earlier, 0] - points[k, 0], points[earlier, 1] - points[k, 1])
        if chosen[earlier, node] >= 0 and apart_m < SAME_PLACE_M:
            found[count] = chosen[earlier, node]
            count += 1
    return found[:count]


@njit(cache=True)
def echo_rates_hz(arrivals: Arrivals, sigmas_s: Floats, chosen: Ints, points: Floats) -> Floats:
    """Return the rate (m,) of echoes at each arrival that earlier rounds foretell; 0 at the arrivals of bangs.

    `chosen` (k, n; -1: silent) and `points` (k, 3: east m, north m, time s) are the bangs, in the order of time. Each
    round foretells only those after it, so the product of all densities is a density.
    """
    rates = np.zeros(len(arrivals.times_s))
    owned = np.zeros(len(rates), dtype=np.bool_)
    for row in chosen:
        owned[row[row >= 0]] = True
    for k in range(1, len(chosen)):
        for n in range(chosen.shape[1]):
            direct = chosen[k, n]
            others = _earlier_rounds(chosen, points, k, n)
            if direct < 0 or len(others) == 0:
                continue
            for i in range(direct + 1, arrivals.starts[n + 1]):
                delay_s = arrivals.times_s[i] - arrivals.times_s[direct]
                if delay_s > LATEST_S:
                    break
                if not owned[i] and delay_s > EARLIEST_S:
                    rates[i] += _repeats_hz(arrivals, sigmas_s, owned, n, i, direct, others)
    return rates
