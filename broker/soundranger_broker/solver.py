"""The numerics of location, compiled: the likelihood of arrival times, its maximum, and its curvature there.

An arrival at a node is late by an error r with the density of a mixture:

* a Gaussian core of the arrival's own standard deviation: sound that came the direct way;
* that Gaussian with an exponential late tail (an exponentially modified Gaussian): echoes and diffraction around
  buildings only ever make sound late;
* a flat floor: an arrival that has nothing to do with the source.

The unknowns are `theta` = (east m, north m, time s, speed of sound m/s, wind east m/s, wind north m/s), the last three
with a Gaussian prior. The travel time along a path of unit vector u and length d is d / (speed + wind . u), first order
in wind over speed. The maximum is found by damped Newton steps (Levenberg 1944, Marquardt 1963) with the observed
curvature of each arrival where that is positive.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats

UNKNOWNS = 6


class Problem(NamedTuple):
    """What is given: arrivals, the height of the source and the prior of the air.

    `nodes` (n, 3) metres, `times_s` and `sigmas_s` (n,); `medium` (3,) and `precision` (3, 3) are mean and inverse
    covariance of (speed of sound, wind east, wind north), m/s.
    """

    nodes: Floats
    times_s: Floats
    sigmas_s: Floats
    source_up_m: float
    medium: Floats
    precision: Floats


# In the livefire tests and in towns, one arrival in seven comes by a bent or reflected path ...
LATE_SHARE = 0.15
# ... by some 25 ms, 8 m of detour.
LATE_MEAN_S = 0.025
# One arrival in fifty that agrees with a place to within the search window is chance.
FLOOR_SHARE = 0.02
# That chance is spread over about a second of arrival times.
FLOOR_DENSITY_HZ = 1.0

# Beyond this argument erfc underflows in steps that Newton's method would notice: its asymptotic series takes over.
ERFC_ASYMPTOTIC = 5.0
# Newton converges in 4 to 8 steps from any useful start; what has not converged by then lies in a flat valley.
MAX_STEPS = 25
# A step below this length (m, with times and speeds scaled to metres) changes nothing that a person could see.
CONVERGED_M = 1e-4

# Damping starts where Newton's step is nearly whole; past the most, no step is short enough to climb: the maximum.
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-9, 1e8
# A direction in which arrivals say less than this (1/m^2: 100 km) is flat: the step along it is kept finite.
WEAKEST_PER_M2 = 1e-10


@njit(cache=True)
def late_log_density(residual_s: float, sigma_s: float) -> tuple[float, float, float]:
    """Return log density, its first and its second derivative, of the late tail at a residual."""
    z = (sigma_s / LATE_MEAN_S - residual_s / sigma_s) / math.sqrt(2.0)
    if z < ERFC_ASYMPTOTIC:
        log_erfc = math.log(math.erfc(z))
        hazard = 2.0 / math.sqrt(math.pi) * math.exp(-z * z - log_erfc)
    else:
        series = 1.0 - 1.0 / (2.0 * z * z) + 3.0 / (4.0 * z**4)
        log_erfc = -z * z - math.log(z * math.sqrt(math.pi)) + math.log(series)
        hazard = 2.0 * z / series
    log_density = (
        -math.log(2.0 * LATE_MEAN_S) + 0.5 * (sigma_s / LATE_MEAN_S) ** 2 - residual_s / LATE_MEAN_S + log_erfc
    )
    slope = -1.0 / LATE_MEAN_S + hazard / (sigma_s * math.sqrt(2.0))
    curvature = -(hazard * hazard - 2.0 * z * hazard) / (2.0 * sigma_s * sigma_s)
    return log_density, slope, min(curvature, 0.0)


@njit(cache=True)
def arrival_log_density(residual_s: float, sigma_s: float) -> tuple[float, float, float, float]:
    """Return log density (1/s), its slope and second derivative, and the share of the core, of one residual."""
    core = math.log((1.0 - LATE_SHARE - FLOOR_SHARE) / (math.sqrt(2.0 * math.pi) * sigma_s))
    core -= 0.5 * (residual_s / sigma_s) ** 2
    core_slope = -residual_s / (sigma_s * sigma_s)
    core_curvature = -1.0 / (sigma_s * sigma_s)
    late, late_slope, late_curvature = late_log_density(residual_s, sigma_s)
    late += math.log(LATE_SHARE)
    floor = math.log(FLOOR_SHARE * FLOOR_DENSITY_HZ)
    top = max(core, late, floor)
    total = top + math.log(math.exp(core - top) + math.exp(late - top) + math.exp(floor - top))
    share_core, share_late = math.exp(core - total), math.exp(late - total)
    slope = share_core * core_slope + share_late * late_slope
    second = share_core * (core_curvature + core_slope**2) + share_late * (late_curvature + late_slope**2) - slope**2
    return total, slope, second, share_core


@njit(cache=True)
def predict(theta: Floats, nodes: Floats, source_up_m: float, slopes: Floats) -> Floats:
    """Return the arrival time (s) at every node, shape (n,), and fill `slopes` (n, 6) with its derivatives."""
    count = nodes.shape[0]
    times = np.empty(count)
    for i in range(count):
        east, north, up = nodes[i, 0] - theta[0], nodes[i, 1] - theta[1], nodes[i, 2] - source_up_m
        distance = max(math.sqrt(east * east + north * north + up * up), 0.1)
        u_east, u_north = east / distance, north / distance
        along = theta[4] * u_east + theta[5] * u_north
        speed = theta[3] + along
        times[i] = theta[2] + distance / speed
        slopes[i, 0] = -u_east / speed + (theta[4] - along * u_east) / (speed * speed)
        slopes[i, 1] = -u_north / speed + (theta[5] - along * u_north) / (speed * speed)
        slopes[i, 2] = 1.0
        slopes[i, 3] = -distance / (speed * speed)
        slopes[i, 4] = -distance * u_east / (speed * speed)
        slopes[i, 5] = -distance * u_north / (speed * speed)
    return times


@njit(cache=True)
def log_posterior(problem: Problem, theta: Floats, gradient: Floats, information: Floats) -> float:
    """Return the log posterior at `theta`; fill its gradient (6,) and the information (6, 6) that curves it."""
    slopes = np.empty((len(problem.nodes), UNKNOWNS))
    residuals = problem.times_s - predict(theta, problem.nodes, problem.source_up_m, slopes)
    gradient[:] = 0.0
    information[:] = 0.0
    total = 0.0
    for i in range(len(problem.nodes)):
        density, slope, second, _ = arrival_log_density(residuals[i], problem.sigmas_s[i])
        total += density
        weight = max(-second, 0.0)
        for a in range(UNKNOWNS):
            gradient[a] -= slope * slopes[i, a]
            for b in range(UNKNOWNS):
                information[a, b] += weight * slopes[i, a] * slopes[i, b]
    off = theta[3:] - problem.medium
    pull = problem.precision @ off
    gradient[3:] -= pull
    information[3:, 3:] += problem.precision
    return total - 0.5 * np.sum(off * pull)


@njit(cache=True)
def maximise(problem: Problem, start: Floats) -> tuple[Floats, Floats, float]:
    """Return the maximum of the posterior near `start` (6,), the information there (6, 6) and the log posterior."""
    # Steps are judged, and damped, in metres: a second is worth the way that sound makes in it.
    metres = np.array([1.0, 1.0, problem.medium[0], 1.0, 1.0, 1.0])
    theta = start.copy()
    gradient, information = np.empty(UNKNOWNS), np.empty((UNKNOWNS, UNKNOWNS))
    trial_gradient, trial_information = np.empty(UNKNOWNS), np.empty((UNKNOWNS, UNKNOWNS))
    value = log_posterior(problem, theta, gradient, information)
    damping = FIRST_DAMPING
    for _ in range(MAX_STEPS):
        damped = information + np.diag(damping * np.diag(information) + WEAKEST_PER_M2 * metres**2)
        step = np.linalg.solve(damped, gradient)
        trial = theta + step
        trial_value = log_posterior(problem, trial, trial_gradient, trial_information)
        if trial_value >= value:
            theta, value = trial, trial_value
            gradient[:] = trial_gradient
            information[:] = trial_information
            damping = max(damping * 0.1, LEAST_DAMPING)
            if np.sqrt(np.sum((step[:3] * metres[:3]) ** 2)) < CONVERGED_M:
                break
        else:
            damping *= 10.0
            if damping > MOST_DAMPING:
                break
    return theta, information, value
