"""Series: where several rounds were fired from, and when, by all their arrivals at once; compiled.

Each arrival says when a bang at a given place was fired. At the right place these firing times gather, round by round;
where arrivals of one round are mistaken for those of the next, they gather less (the coherent stack of seismologists:
Kao, Shan 2004, The Source-Scanning Algorithm).
"""

import math

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats
from soundranger_broker.scoring import Arrivals, Flags, Ints, Scene, score

# A place that is off by a grid step still gathers firing times to within this.
GATHERED_S = 0.01
# Rounds taken for one another put a place off by up to the way that sound makes between them, about this far ...
REACH_M = 96.0
# ... and the first grid has steps of this, on which no place is far from one where they gather; then of the second.
GRID_M, FINEST_M = 6.0, 3.0
# A Gaussian, one and two standard deviations off.
NEXT_BIN, NEXT_BIN_BUT_ONE = math.exp(-0.5), math.exp(-2.0)
# Firing times further apart than this many standard deviations are not those of one round.
MOST_SIGMAS = 3.0


@njit(cache=True)
def owners(arrivals: Arrivals) -> Ints:
    """Return the node of each arrival, (m,)."""
    owner = np.empty(len(arrivals.times_s), dtype=np.int64)
    for n in range(len(arrivals.starts) - 1):
        owner[arrivals.starts[n] : arrivals.starts[n + 1]] = n
    return owner


@njit(cache=True)
def firing_times(scene: Scene, arrivals: Arrivals, owner: Ints, east_m: float, north_m: float) -> Floats:
    """Return when a bang at a place was fired, if an arrival was its, for each arrival (m,)."""
    fired = np.empty(len(owner))
    for i in range(len(owner)):
        east, north = scene.nodes[owner[i], 0] - east_m, scene.nodes[owner[i], 1] - north_m
        fired[i] = arrivals.times_s[i] - math.hypot(east, north) / scene.speed_mps
    return fired


@njit(cache=True)
def agreement(
    scene: Scene, arrivals: Arrivals, owner: Ints, free: Ints, place: Floats, span: Floats, within_s: float
) -> float:
    """Return how well the firing times within `span` of `free` arrivals agree, if the bangs were at a place.

    That is how many pairs of them are near one another, each counting less, as a Gaussian of standard deviation
    `within_s`, the more it is apart. They are counted in bins, shared out between the two that are nearest.
    """
    count = int((span[1] - span[0]) / within_s) + 1
    bins = np.zeros(count + 2)
    for i in free:
        east, north = scene.nodes[owner[i], 0] - place[0], scene.nodes[owner[i], 1] - place[1]
        fired = arrivals.times_s[i] - math.hypot(east, north) / scene.speed_mps
        at = (fired - span[0]) / within_s
        if 0.0 <= at < count:
            bins[int(at)] += 1.0 - at + int(at)
            bins[int(at) + 1] += at - int(at)
    total = 0.0
    for k in range(count):
        total += bins[k] * (bins[k] / 2.0 + NEXT_BIN * bins[k + 1] + NEXT_BIN_BUT_ONE * bins[k + 2])
    return total


@njit(cache=True)
def best_place(scene: Scene, arrivals: Arrivals, owner: Ints, free: Ints, centre: Floats, span: Floats) -> Floats:
    """Return the place (2,) near `centre` on which the most pairs of `free` arrivals agree."""
    fired = firing_times(scene, arrivals, owner, centre[0], centre[1])[free]
    margin_s = 2.0 * REACH_M / scene.speed_mps
    free = free[(fired > span[0] - margin_s) & (fired < span[1] + margin_s)]
    best, reach, grid = centre.copy(), REACH_M, GRID_M
    while grid >= FINEST_M:
        within_s = math.hypot(GATHERED_S, grid / 2.0 / scene.speed_mps)
        steps, middle, best_value = round(reach / grid), best.copy(), -1.0
        for a in range(-steps, steps + 1):
            for b in range(-steps, steps + 1):
                place = middle + np.array([a * grid, b * grid])
                value = agreement(scene, arrivals, owner, free, place, span, within_s)
                if value > best_value:
                    best, best_value = place, value
        reach, grid = grid, grid / 2.0
    return best


@njit(cache=True)
def _fitting(scene: Scene, arrivals: Arrivals, owner: Ints, fired: Floats, alive: Flags, moment: float) -> Ints:
    """Return the arrival of each node (n,; -1: none) that fits best to a round fired at a moment."""
    chosen = np.full(len(scene.nodes), -1)
    values = np.zeros(len(scene.nodes))
    for i in range(len(owner)):
        off = (fired[i] - moment) / arrivals.sigmas_s[i]
        value = arrivals.gains[i] - 0.5 * off * off
        if alive[i] and abs(off) <= MOST_SIGMAS and value > values[owner[i]]:
            chosen[owner[i]], values[owner[i]] = i, value
    return chosen


@njit(cache=True)
def rounds_at(
    scene: Scene, arrivals: Arrivals, owner: Ints, free: Ints, place: Floats, span: Floats, min_nodes: int, least: float
) -> tuple[Floats, Ints]:
    """Return points (k, 3) and arrivals (k, n) of the rounds fired at a place within `span`, the best first.

    Each has a score of at least `least`, from `min_nodes` nodes or more, with `free` arrivals that no better one has.
    """
    fired = firing_times(scene, arrivals, owner, place[0], place[1])
    alive = np.zeros(len(owner), dtype=np.bool_)
    alive[free] = True
    most = len(free) // min_nodes
    points, taken = np.empty((most, 3)), np.empty((most, len(scene.nodes)), dtype=np.int64)
    for count in range(most):
        best = least
        found = False
        for i in free:
            if not alive[i] or fired[i] < span[0] or fired[i] > span[1]:
                continue
            point = np.array([place[0], place[1], fired[i]])
            chosen = _fitting(scene, arrivals, owner, fired, alive, fired[i])
            value, _ = score(scene, arrivals, point, chosen)
            if value > best and (chosen >= 0).sum() >= min_nodes:
                best, found = value, True
                points[count], taken[count] = point, chosen
        if not found:
            return points[:count], taken[:count]
        for i in taken[count]:
            if i >= 0:
                alive[i] = False
    return points, taken
