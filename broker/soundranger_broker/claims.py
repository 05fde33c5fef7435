"""Claims: what its arrivals say of one bang among several, and what each arrival would be worth to it; compiled."""

import math
from dataclasses import dataclass, field

import numpy as np
from numba import njit

from soundranger_broker.bang import USED_WEIGHT
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import average
from soundranger_broker.scoring import TABLE_STEP_M, Arrivals, Evidence, Ints, Scene, levels_worth, problem_of, silence
from soundranger_broker.solver import UNKNOWNS, arrival_log_density, path_time_s

# An arrival further off than this (s) is no bang's: sound that bends round a building is not that late.
MOST_OFF_S = 0.3
# A node that heard one round hears the next from there with this probability (live fire: 0.84 to 0.97 by the place).
HEARD_AGAIN = 0.85


@dataclass(frozen=True, eq=False)
class Claim:
    """A bang in the contest: its arrivals (n,; -1: silent), and what they say of it.

    `theta` (7,) are the unknowns of `solver`; `used` is how many arrivals came the direct way; `worth` is the log ratio
    of its arrivals' density to that of clutter, at a prior density of 1 per square metre and second; `stakes` (m,) how
    much more each arrival is worth to it than as clutter, its node being silent instead; `again` (n,) how much likelier
    it is that a node heard it, or did not, where the node heard an earlier round from there; `log_rate` that (m^-2
    s^-1) of bangs such as this, given those that are settled.
    """

    chosen: Ints
    theta: Floats = field(repr=False)
    used: int
    worth: float
    stakes: Floats = field(repr=False)
    again: Floats = field(repr=False)
    log_rate: float


@njit(cache=True)
def hearing(scene: Scene, point: Floats, chosen: Ints) -> tuple[float, int]:
    """Return the log chance that those who heard a bang did, and no others, and the loudness that makes it largest."""
    classes, bins = scene.log_hear.shape
    totals = np.full(classes, -math.log(classes))
    for n in range(len(scene.nodes)):
        distance = math.hypot(scene.nodes[n, 0] - point[0], scene.nodes[n, 1] - point[1])
        place, due_s = round(distance / TABLE_STEP_M), point[2] + distance / scene.speed_mps
        for k in range(classes):
            if chosen[n] >= 0:
                totals[k] += scene.log_hear[k, min(place, bins - 1)]
            elif place < bins:
                totals[k] += silence(scene, n, k, place, due_s)
    loudest = int(totals.argmax())
    return totals[loudest], loudest


@njit(cache=True)
def explain(
    scene: Scene, arrivals: Arrivals, evidence: Evidence, point: Floats, chosen: Ints
) -> tuple[Floats, Floats, float, int, float, int]:
    """Return what the arrivals `chosen` say of a bang near `point` (east m, north m, time s).

    That is theta and its covariance, the path error, how many arrivals are used and what they are worth, see `Claim`,
    and how loud the bang was, see `hearing`.
    """
    picked = chosen[chosen >= 0]
    problem = problem_of(evidence, arrivals, picked)
    mean, covariance, path_sigma_s, log_evidence, _ = average(problem, point)
    used, row = 0, np.empty(UNKNOWNS)
    for i in range(len(picked)):
        residual = problem.times_s[i] - path_time_s(mean, problem.nodes, i, row)
        if arrival_log_density(residual, math.hypot(problem.sigmas_s[i], path_sigma_s))[3] >= USED_WEIGHT:
            used += 1
    levels = levels_worth(evidence, mean, picked)
    log_chance, loudest = hearing(scene, mean, chosen)
    worth = log_evidence + levels + log_chance - np.sum(evidence.log_clutter[picked])
    return mean, covariance, path_sigma_s, used, worth, loudest


@njit(cache=True)
def stakes(
    scene: Scene,
    arrivals: Arrivals,
    evidence: Evidence,
    theta: Floats,
    covariance: Floats,
    path_sigma_s: float,
    loudest: int,
) -> Floats:
    """Return how much more each arrival (m,) is worth to a bang than as clutter, its node being silent instead."""
    bins = scene.log_hear.shape[1]
    worth = np.full(len(arrivals.times_s), -np.inf)
    slopes = np.empty(UNKNOWNS)
    for n in range(len(scene.nodes)):
        low, high = arrivals.starts[n], arrivals.starts[n + 1]
        place = round(math.hypot(scene.nodes[n, 0] - theta[0], scene.nodes[n, 1] - theta[1]) / TABLE_STEP_M)
        if low == high or place >= bins:
            continue
        expected = path_time_s(theta, evidence.places, low, slopes)
        unsure = slopes @ covariance @ slopes + path_sigma_s**2
        hear = scene.log_hear[loudest, place] - silence(scene, n, loudest, place, expected)
        for i in range(low, high):
            off = arrivals.times_s[i] - expected
            if abs(off) < MOST_OFF_S:
                density = arrival_log_density(off, math.sqrt(evidence.sigmas_s[i] ** 2 + unsure))[0]
                worth[i] = density - evidence.log_clutter[i] + hear
    return worth


@njit(cache=True)
def heard_again(scene: Scene, point: Floats, chosen: Ints, loudest: int) -> Floats:
    """Return how much likelier it is of each node (n,) that it heard a bang, or did not, if it heard one before it.

    The bang before is a round from about the same place. Log ratios to the chances of a bang that nothing is known of.
    """
    bins = scene.log_hear.shape[1]
    ratios = np.empty(len(chosen))
    for n in range(len(scene.nodes)):
        distance = math.hypot(scene.nodes[n, 0] - point[0], scene.nodes[n, 1] - point[1])
        place, due_s = min(round(distance / TABLE_STEP_M), bins - 1), point[2] + distance / scene.speed_mps
        if chosen[n] >= 0:
            ratios[n] = math.log(HEARD_AGAIN) - scene.log_hear[loudest, place]
        elif due_s > scene.heard_until_s:
            ratios[n] = 0.0
        else:
            ratios[n] = math.log(1.0 - HEARD_AGAIN) - scene.log_silent[scene.doubtful[n], loudest, place]
    return ratios
