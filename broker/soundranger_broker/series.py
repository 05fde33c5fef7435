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
# ... and the first grid has steps of this, on which no place is far from one where they gather; then of half, until
# they have the second.
GRID_M, FINEST_M = 12.0, 3.0
# So many of the best places of the first grid are looked at more closely: near the best they gather about as well.
BEST_PLACES = 4
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
def within_reach(scene: Scene, arrivals: Arrivals, owner: Ints, free: Ints, centre: Floats, span: Floats) -> Ints:
    """Return those of the `free` arrivals that bangs near `centre`, fired within `span`, can have made."""
    fired = firing_times(scene, arrivals, owner, centre[0], centre[1])[free]
    margin_s = 2.0 * REACH_M / scene.speed_mps
    near: Ints = free[(fired > span[0] - margin_s) & (fired < span[1] + margin_s)]
    return near


@njit(cache=True)
def agreement(
    scene: Scene, arrivals: Arrivals, owner: Ints, free: Ints, place: Floats, span: Floats, within_s: float
) -> float:
    """Return how well the firing times within `span` of `free` arrivals agree, if the bangs were at a place.

    That is how many pairs of them are near one another, each counting less, as a Gaussian of standard deviation
    `within_s`, the more it is apart. They are counted in bins, shared out between the two that are nearest.
    """
    travel_s = np.empty(len(scene.nodes))
    for n in range(len(travel_s)):
        east, north = scene.nodes[n, 0] - place[0], scene.nodes[n, 1] - place[1]
        travel_s[n] = math.sqrt(east * east + north * north) / scene.speed_mps
    count, per_s = int((span[1] - span[0]) / within_s) + 1, 1.0 / within_s
    bins = np.zeros(count + 2)
    for i in free:
        at = (arrivals.times_s[i] - travel_s[owner[i]] - span[0]) * per_s
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
    steps = round(REACH_M / GRID_M)
    values = np.empty((2 * steps + 1, 2 * steps + 1))
    within_s = math.hypot(GATHERED_S, GRID_M / 2.0 / scene.speed_mps)
    for a in range(len(values)):
        for b in range(len(values)):
            place = centre + np.array([(a - steps) * GRID_M, (b - steps) * GRID_M])
            values[a, b] = agreement(scene, arrivals, owner, free, place, span, within_s)
    best, best_value = centre.copy(), -1.0
    for at in np.argsort(-values.ravel())[:BEST_PLACES]:
        place = centre + np.array([(at // len(values) - steps) * GRID_M, (at % len(values) - steps) * GRID_M])
        place, value = _climb(scene, arrivals, owner, free, place, span)
        if value > best_value:
            best, best_value = place, value
    return best


@njit(cache=True)
def _climb(
    scene: Scene, arrivals: Arrivals, owner: Ints, free: Ints, place: Floats, span: Floats
) -> tuple[Floats, float]:
    """Return the best place (2,) around one of the grid, and how well firing times agree there."""
    best, best_value, grid = place, -1.0, GRID_M / 2.0
    while grid >= FINEST_M:
        within_s = math.hypot(GATHERED_S, grid / 2.0 / scene.speed_mps)
        middle, best_value = best, -1.0
        for a in range(-1, 2):
            for b in range(-1, 2):
                place = middle + np.array([a * grid, b * grid])
                value = agreement(scene, arrivals, owner, free, place, span, within_s)
                if value > best_value:
                    best, best_value = place, value
        grid /= 2.0
    return best, best_value


@njit(cache=True)
def _fit(
    scene: Scene, arrivals: Arrivals, owner: Ints, free: Ints, fired: Floats, alive: Flags, point: Floats, fit: Ints
) -> float:
    """Fill `fit` (n,) with the arrival of each node that fits best to a round at a point, or -1; return the score."""
    fit[:] = -1
    values = np.zeros(len(scene.nodes))
    for i in free:
        off = (fired[i] - point[2]) / arrivals.sigmas_s[i]
        value = arrivals.gains[i] - 0.5 * off * off
        if alive[i] and abs(off) <= MOST_SIGMAS and value > values[owner[i]]:
            fit[owner[i]], values[owner[i]] = i, value
    return score(scene, arrivals, point, fit)[0]


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
    first = free[(fired[free] >= span[0]) & (fired[free] <= span[1])]
    points, fits, values = np.empty((len(first), 3)), np.full((len(first), len(scene.nodes)), -1), np.empty(len(first))
    for k in range(len(first)):
        points[k, :2], points[k, 2] = place, fired[first[k]]
        values[k] = _fit(scene, arrivals, owner, free, fired, alive, points[k], fits[k])
    found, taken, count = np.empty_like(points), np.empty_like(fits), 0
    while len(first) > 0 and values.max() > least:
        best = values.argmax()
        values[best] = -np.inf
        if (fits[best] >= 0).sum() < min_nodes:
            continue
        found[count], taken[count] = points[best], fits[best]
        alive[taken[count][taken[count] >= 0]] = False
        count += 1
        for k in range(len(first)):
            if not alive[first[k]]:
                values[k] = -np.inf
            elif not alive[fits[k][fits[k] >= 0]].all():
                values[k] = _fit(scene, arrivals, owner, free, fired, alive, points[k], fits[k])
    return found[:count], taken[:count]
