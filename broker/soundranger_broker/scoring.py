"""Scoring: what a hypothesis is worth, a place and a firing time that the arrivals of many nodes agree on.

Compiled. A hypothesis is scored by the log-likelihood ratio of "a bang of some loudness, and clutter" against "all of
this is clutter":

* a node whose arrival fits adds its gain, log(peak density of a residual / clutter rate), less a misfit that grows as
  a Gaussian for early arrivals and at most as an exponential for late ones, plus log P(hear);
* a node that stayed silent adds log(1 - P(hear)), less the further away it is.

The bound of a cube lets every node use its best arrival at the friendliest corner of the cube. What has a good score is
refined by weighted Gauss-Newton steps, and weighed: located, and compared with clutter over all its unknowns.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundranger_broker.geodesy import Floats
from soundranger_broker.levels import level_evidence
from soundranger_broker.location import average
from soundranger_broker.solver import FLOOR_HZ, FLOOR_SHARE, LATE_MEAN_S, LATE_SHARE, Problem
from soundranger_broker.starts import height_prior

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Point = tuple[float, float, float]

# Half the side of a cube that is refined rather than split, metres (and metres of sound travel): well inside the
# reach of Gauss-Newton among buildings.
LEAF_M = 12.0
# Ranges (m) at which half of the nodes hear a bang, from a pistol in a town to a rifle over open ground.
HALF_RANGES_M = np.array([250.0, 400.0, 600.0, 900.0, 1300.0, 2000.0])
# A node hears with at most this probability (trees, a truck, a box that faces away) ...
BEST_HEARING = 0.92
# ... and, far off, still with this one.
WORST_HEARING = 0.02
# The fall from hearing to not hearing happens over about this share of the half range.
FALL_SHARE = 0.2
# The chance that a node is off without anybody knowing: one that was heard lately, and one that was not.
OFF = (0.02, 0.5)
# Steps of refinement; the tolerance narrows from a leaf to the stated sigma on the way.
REFINE_STEPS = 8
NARROWING = 0.5
# The hearing tables go in steps of this (m).
TABLE_STEP_M = 10.0
# An arrival that is more than this too early, or this much too late (s), adds nothing to any hypothesis.
MOST_EARLY_S = 0.25
MOST_LATE_S = 12.0 * LATE_MEAN_S


class Arrivals(NamedTuple):
    """The arrivals of a window, sorted by node and then by time.

    `times_s`, `sigmas_s`, `gains` (log, see above) and `alive` have shape (m,); those of node n are
    `starts[n]` to `starts[n + 1]`.
    """

    times_s: Floats
    sigmas_s: Floats
    gains: Floats
    alive: Flags
    starts: Ints


class Scene(NamedTuple):
    """What stands still in a search: nodes (n, 2) metres, speed of sound (m/s) and hearing tables.

    `log_hear` has shape (classes, bins); `log_silent` (2, classes, bins), for a node that is surely awake and for one
    of the `doubtful` (n,: 0 or 1), which may as well be off. What sounded after `heard_until_s` may not be reported
    yet: nobody is silent about it.
    """

    nodes: Floats
    doubtful: Ints
    speed_mps: float
    log_hear: Floats
    log_silent: Floats
    heard_until_s: float


class Evidence(NamedTuple):
    """What weighs a hypothesis: of the arrivals, place (m, 3), stated sigma, log clutter rate and SNR (m,).

    `medium`, `precision`, `log_shares` and `late_shares` as in `solver.Problem`; `log_prior` of a bang at a place and
    time (m^-2 s^-1) inside the box from `low` to `high` (2,), falling by e with every `fall_m` outside it;
    `least_log_odds` to be taken.
    """

    places: Floats
    sigmas_s: Floats
    log_clutter: Floats
    snr_db: Floats
    medium: Floats
    precision: Floats
    log_shares: Floats
    late_shares: Floats
    log_prior: float
    low: Floats
    high: Floats
    fall_m: float
    least_log_odds: float


def make_scene(nodes: Floats, doubtful: Ints, speed_mps: float, max_range_m: float, heard_until_s: float) -> Scene:
    """Return the scene of nodes (n, 2), `doubtful` or not (n,), that can hear out to `max_range_m`."""
    distances = np.arange(0.0, max_range_m + TABLE_STEP_M, TABLE_STEP_M)
    fall = 1.0 / (1.0 + np.exp(np.minimum((distances / HALF_RANGES_M[:, None] - 1.0) / FALL_SHARE, 50.0)))
    chance = WORST_HEARING + (BEST_HEARING - WORST_HEARING) * fall
    log_silent = np.stack([np.log(off + (1.0 - off) * (1.0 - chance)) for off in OFF])
    return Scene(np.ascontiguousarray(nodes), doubtful, speed_mps, np.log(chance), log_silent, heard_until_s)


def should_have_heard(scene: Scene, point: Floats, heard: Flags) -> Flags:
    """Return the nodes (n,) that a bang at `point`, as loud as those who `heard` it say, missed against the odds."""
    distances = np.linalg.norm(scene.nodes - point[:2], axis=1)
    within = distances < TABLE_STEP_M * scene.log_hear.shape[1]
    within &= point[2] + distances / scene.speed_mps <= scene.heard_until_s
    bins = np.minimum(np.round(distances / TABLE_STEP_M).astype(np.int64), scene.log_hear.shape[1] - 1)
    silent = scene.log_silent[scene.doubtful, :, bins].T
    chances = np.where(heard, scene.log_hear[:, bins], np.where(within, silent, 0.0))
    loudest = int(chances.sum(axis=1).argmax())
    missed: Flags = within & ~heard & (scene.doubtful == 0) & (scene.log_hear[loudest, bins] > math.log(0.5))
    return missed


def gain(sigma_s: Floats, clutter_hz: Floats) -> Floats:
    """Return the log ratio of a residual's peak density to the clutter rate, (m,)."""
    core_share = 1.0 - LATE_SHARE - FLOOR_SHARE
    return np.log(core_share / (math.sqrt(2.0 * math.pi) * sigma_s * clutter_hz))


@njit(cache=True)
def late_offset(sigma_s: float) -> float:
    """Return how much less likely an arrival is that is late, but hardly so, than one on time (log)."""
    return math.log(LATE_MEAN_S / (LATE_SHARE * math.sqrt(2.0 * math.pi) * sigma_s))


@njit(cache=True)
def misfit(residual_s: float, sigma_s: float) -> float:
    """Return how much less likely a residual is than none at all (log, from 0)."""
    core = 0.5 * (residual_s / sigma_s) ** 2
    if residual_s <= sigma_s:
        return core
    # Late arrivals: whichever of core and tail explains them better.
    tail = residual_s / LATE_MEAN_S + late_offset(sigma_s)
    return min(core, max(tail, 0.5))


@njit(cache=True)
def silence(scene: Scene, node: int, loudness: int, place: int, due_s: float) -> float:
    """Return the log chance that a node, `place` steps of the tables away, says nothing of a sound due at a time."""
    return scene.log_silent[scene.doubtful[node], loudness, place] if due_s <= scene.heard_until_s else 0.0


@njit(cache=True)
def first_after(times: Floats, low: int, high: int, moment: float) -> int:
    """Return the first index in [low, high) whose time is not before `moment`."""
    while low < high:
        middle = (low + high) // 2
        if times[middle] < moment:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _best_arrival(arrivals: Arrivals, node: int, early_s: float, late_s: float, widening: float) -> tuple[float, int]:
    """Return value and index (or -1) of a node's best arrival where sound may come from `early_s` to `late_s`."""
    best, index = -np.inf, -1
    low, high = arrivals.starts[node], arrivals.starts[node + 1]
    for i in range(first_after(arrivals.times_s, low, high, early_s - MOST_EARLY_S), high):
        if arrivals.times_s[i] > late_s + MOST_LATE_S:
            break
        if not arrivals.alive[i]:
            continue
        off = min(arrivals.times_s[i] - early_s, 0.0) + max(arrivals.times_s[i] - late_s, 0.0)
        value = arrivals.gains[i] - misfit(off, arrivals.sigmas_s[i] * widening)
        if value > best:
            best, index = value, i
    return best, index


@njit(cache=True)
def bound(scene: Scene, arrivals: Arrivals, centre: Point, half_m: float) -> tuple[float, int]:
    """Return the bound on the score in a cube, and how many nodes can have heard it."""
    classes, bins = scene.log_hear.shape
    totals = np.full(classes, -math.log(classes))
    reach = half_m * math.sqrt(2.0)
    heard = 0
    for n in range(len(scene.nodes)):
        distance = math.hypot(scene.nodes[n, 0] - centre[0], scene.nodes[n, 1] - centre[1])
        nearest, farthest = max(distance - reach, 0.0), distance + reach
        near_bin, far_bin = int(nearest / TABLE_STEP_M), math.ceil(farthest / TABLE_STEP_M)
        if near_bin >= bins:
            continue
        early = centre[2] + (nearest - half_m) / scene.speed_mps
        late = centre[2] + (farthest + half_m) / scene.speed_mps
        value, _ = _best_arrival(arrivals, n, early, late, 1.0)
        if value > 0.0:
            heard += 1
        else:
            value = -np.inf
        for k in range(classes):
            silent = silence(scene, n, k, far_bin, late) if far_bin < bins else 0.0
            totals[k] += max(value + scene.log_hear[k, near_bin], silent)
    return totals.max(), heard


@njit(cache=True)
def assign(scene: Scene, arrivals: Arrivals, point: Floats, widening: float, chosen: Ints) -> None:
    """Fill `chosen` (n,) with each node's best arrival at a point, or -1 where none is better than clutter."""
    for n in range(len(scene.nodes)):
        distance = math.hypot(scene.nodes[n, 0] - point[0], scene.nodes[n, 1] - point[1])
        at = point[2] + distance / scene.speed_mps
        value, index = _best_arrival(arrivals, n, at, at, widening)
        chosen[n] = index if value > 0.0 else -1


@njit(cache=True)
def score(scene: Scene, arrivals: Arrivals, point: Floats, chosen: Ints) -> tuple[float, float]:
    """Return the score of a point with the arrivals `chosen`, and the part of it that who heard makes.

    Arrivals that a silence beats become -1 in `chosen`.
    """
    classes, bins = scene.log_hear.shape
    totals = np.full(classes, -math.log(classes))
    values = np.full(len(scene.nodes), -np.inf)
    places, due_s = np.empty(len(scene.nodes), dtype=np.int64), np.empty(len(scene.nodes))
    for n in range(len(scene.nodes)):
        distance = math.hypot(scene.nodes[n, 0] - point[0], scene.nodes[n, 1] - point[1])
        places[n], due_s[n] = round(distance / TABLE_STEP_M), point[2] + distance / scene.speed_mps
        if chosen[n] >= 0 and places[n] < bins:
            residual = arrivals.times_s[chosen[n]] - due_s[n]
            values[n] = arrivals.gains[chosen[n]] - misfit(residual, arrivals.sigmas_s[chosen[n]])
        if places[n] < bins:
            for k in range(classes):
                silent = silence(scene, n, k, places[n], due_s[n])
                totals[k] += max(values[n] + scene.log_hear[k, places[n]], silent)
    loudest = int(totals.argmax())
    hearing = -math.log(classes)
    for n in range(len(scene.nodes)):
        if places[n] >= bins:
            chosen[n] = -1
            continue
        hear = scene.log_hear[loudest, places[n]]
        silent = silence(scene, n, loudest, places[n], due_s[n])
        if values[n] + hear < silent:
            chosen[n] = -1
        hearing += hear if chosen[n] >= 0 else silent
    return float(totals[loudest]), hearing


@njit(cache=True)
def _add_solution(normal: Floats, right: Floats, point: Floats) -> None:
    """Add to `point` (3,) the solution of three equations, positive definite; spoils them."""
    for a in range(2):
        for b in range(a + 1, 3):
            share = normal[b, a] / normal[a, a]
            for c in range(a + 1, 3):
                normal[b, c] -= share * normal[a, c]
            right[b] -= share * right[a]
    for a in (2, 1, 0):
        for b in range(a + 1, 3):
            right[a] -= normal[a, b] * right[b]
        right[a] /= normal[a, a]
        point[a] += right[a]


@njit(cache=True)
def _step(scene: Scene, arrivals: Arrivals, point: Floats, widening: float, chosen: Ints) -> None:
    """Move `point` (east, north, time) by one weighted Gauss-Newton step towards the arrivals `chosen`."""
    normal, right, row = np.zeros((3, 3)), np.zeros(3), np.ones(3)
    for n in range(len(scene.nodes)):
        if chosen[n] < 0:
            continue
        east, north = scene.nodes[n, 0] - point[0], scene.nodes[n, 1] - point[1]
        distance = max(math.hypot(east, north), 1.0)
        residual = arrivals.times_s[chosen[n]] - point[2] - distance / scene.speed_mps
        sigma = arrivals.sigmas_s[chosen[n]] * widening
        weight = 1.0 / (sigma * max(sigma, residual))
        row[0], row[1] = -east / distance / scene.speed_mps, -north / distance / scene.speed_mps
        for a in range(3):
            right[a] += weight * row[a] * residual
            for b in range(3):
                normal[a, b] += weight * row[a] * row[b]
    # A step stays near the leaf that the bound was made for.
    normal[0, 0] += 1.0 / (2.0 * LEAF_M) ** 2
    normal[1, 1] += 1.0 / (2.0 * LEAF_M) ** 2
    normal[2, 2] += (scene.speed_mps / (2.0 * LEAF_M)) ** 2
    _add_solution(normal, right, point)


@njit(cache=True)
def refine(scene: Scene, arrivals: Arrivals, point: Floats, chosen: Ints) -> tuple[float, float]:
    """Move `point` to the nearby maximum, fill `chosen` (n,) with its arrivals, return what `score` says."""
    for step in range(REFINE_STEPS):
        widening = 1.0 + NARROWING**step * LEAF_M / scene.speed_mps / 0.01
        assign(scene, arrivals, point, widening, chosen)
        _step(scene, arrivals, point, widening, chosen)
    assign(scene, arrivals, point, 1.0, chosen)
    return score(scene, arrivals, point, chosen)


@njit(cache=True)
def problem_of(evidence: Evidence, arrivals: Arrivals, picked: Ints) -> Problem:
    """Return the problem of where a bang was that made the arrivals `picked`."""
    return Problem(
        evidence.places[picked],
        arrivals.times_s[picked],
        evidence.sigmas_s[picked],
        height_prior(evidence.places[picked]),
        evidence.medium,
        evidence.precision,
        evidence.log_shares,
        evidence.late_shares,
        np.full(len(picked), FLOOR_HZ),
    )


@njit(cache=True)
def levels_worth(evidence: Evidence, place: Floats, picked: Ints) -> float:
    """Return what the levels of the arrivals `picked` say of a bang at a place (east m, north m, ...)."""
    east, north = evidence.places[picked, 0] - place[0], evidence.places[picked, 1] - place[1]
    return level_evidence(evidence.snr_db[picked], np.sqrt(east**2 + north**2))


@njit(cache=True)
def weigh(evidence: Evidence, arrivals: Arrivals, point: Floats, chosen: Ints, hearing: float) -> tuple[float, Floats]:
    """Return the log odds that one bang near `point` made the arrivals `chosen`, not clutter, and its place (2,)."""
    picked = chosen[chosen >= 0]
    mean, _, _, log_evidence, _ = average(problem_of(evidence, arrivals, picked), point)
    outside = np.maximum(np.maximum(evidence.low - mean[:2], mean[:2] - evidence.high), 0.0)
    log_prior = evidence.log_prior - np.sqrt(np.sum(outside**2)) / evidence.fall_m
    levels = levels_worth(evidence, mean, picked)
    return float(log_evidence + levels - np.sum(evidence.log_clutter[picked]) + hearing + log_prior), mean[:2]
