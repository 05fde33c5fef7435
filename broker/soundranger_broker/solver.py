"""The numerics of location, compiled: the likelihood of arrival times, its maximum, and its curvature there.

An arrival at a node is late by an error r with the density of a mixture:

* a Gaussian core of the arrival's own standard deviation: sound that came the direct way;
* that Gaussian with an exponential late tail (an exponentially modified Gaussian): echoes and diffraction around
  buildings only ever make sound late;
* a hump, early as well as late: the clock of the node is off;
* a flat floor: an arrival that has nothing to do with the source.

The unknowns are `theta` = (east m, north m, time s, speed of sound m/s, wind east m/s, wind north m/s, up m), the air
and the height with a Gaussian prior. The travel time along a path of unit vector u and length d is d / (speed + wind .
u), first order in wind over speed. The maximum is found by damped Newton steps (Levenberg 1944, Marquardt 1963) with
the observed curvature of each arrival where that is positive. Nothing is allocated on the way: a `Scratch` is made
once.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats

UNKNOWNS = 7
# Where time and height stand among the unknowns.
TIME, UP = 2, 6


class Problem(NamedTuple):
    """What is given: arrivals, and the priors of the source's height and of the air.

    `nodes` (n, 3) metres, `times_s` and `sigmas_s` (n,); `height` (4,) is a plane, up = height[0] + height[1] east +
    height[2] north (m), and the standard deviation (m) of the source's height around it; `medium` (3,) and `precision`
    (3, 3) are mean and inverse covariance of (speed of sound, wind east, wind north), m/s; `log_shares` (g,) the
    logarithm of how likely each path error of the grid is beforehand, `late_shares` (h,) how likely each of
    `LATE_SHARES` is; `floors_hz` (n,) the density (1/s) of arrivals that have nothing to do with the source.
    """

    nodes: Floats
    times_s: Floats
    sigmas_s: Floats
    height: Floats
    medium: Floats
    precision: Floats
    log_shares: Floats
    late_shares: Floats
    floors_hz: Floats


class Scratch(NamedTuple):
    """Memory that `maximise` works in: gradients, step, trial and row (7,), matrices (7, 7)."""

    gradient: Floats
    information: Floats
    trial_gradient: Floats
    trial_information: Floats
    damped: Floats
    factor: Floats
    step: Floats
    trial: Floats
    row: Floats


# The share of arrivals that come by a bent or reflected path: in a field, in a suburb, in a narrow town. Where nothing
# is known, each is as likely as the next, and one in seven does, as in the livefire tests and in towns ...
LATE_SHARES = np.array([0.02, 0.1, 0.33])
LATE_SHARE = float(LATE_SHARES.mean())
# ... by some 25 ms, 8 m of detour.
LATE_MEAN_S = 0.025
# One arrival in fifty that agrees with a place to within the search window is chance.
FLOOR_SHARE = 0.02
# That chance is spread over about a second of arrival times.
FLOOR_DENSITY_HZ = 1.0
FLOOR_HZ = FLOOR_SHARE * FLOOR_DENSITY_HZ
# Where more is heard by chance than that, more of it is taken for the bang: at nodes that missed it, one in seven.
MISSED_SHARE = 0.15
# One arrival in a hundred has a time that is off, by some 30 ms either way: only a clock, or an echo of another bang,
# makes sound early.
CLOCK_SHARE, CLOCK_S = 0.01, 0.03
CLOCK_PEAK_HZ = CLOCK_SHARE * 2.0 / (math.pi * CLOCK_S)
# What is left of all arrivals comes the direct way.
CORE_SHARE = 1.0 - LATE_SHARE - CLOCK_SHARE - FLOOR_SHARE

# Path errors from none (a field) to 16 ms (hills and high blocks), each as likely as the next.
PATH_SIGMAS_S = np.array([0.0, 0.001, 0.002, 0.004, 0.008, 0.016])

# Beyond this argument erfc underflows in steps that Newton's method would notice: its asymptotic series takes over.
ERFC_ASYMPTOTIC = 5.0
# Newton converges in 3 to 8 steps from any useful start; what has not converged by then lies in a flat valley.
MAX_STEPS = 25
# A step that makes the arrivals less than this more likely (log) is the last: it is under a hundredth of the ellipse.
CONVERGED_LOG = 1e-4

# Damping starts where Newton's step is nearly whole; past the most, no step is short enough to climb: the maximum.
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-9, 1e8
# A direction in which arrivals say less than this (1/m^2: 100 km) is flat: the step along it is kept finite.
WEAKEST_PER_M2 = 1e-10
# No path is shorter than this (m): a source at a node has no direction.
SHORTEST_M = 0.1


def floors_hz(clutter_hz: Floats) -> Floats:
    """Return the densities (1/s) of arrivals that have nothing to do with the source; chance has rates (n,)."""
    return FLOOR_HZ + MISSED_SHARE * clutter_hz


@njit(cache=True, error_model="numpy")
def scratch() -> Scratch:
    """Return memory for `maximise`."""
    return Scratch(
        np.zeros(UNKNOWNS),
        np.zeros((UNKNOWNS, UNKNOWNS)),
        np.zeros(UNKNOWNS),
        np.zeros((UNKNOWNS, UNKNOWNS)),
        np.zeros((UNKNOWNS, UNKNOWNS)),
        np.zeros((UNKNOWNS, UNKNOWNS)),
        np.zeros(UNKNOWNS),
        np.zeros(UNKNOWNS),
        np.zeros(UNKNOWNS),
    )


@njit(cache=True, error_model="numpy")
def late_density(residual_s: float, sigma_s: float, gaussian_hz: float) -> float:
    """Return the density (1/s) of the late tail at a residual, given that of the Gaussian there (1/s)."""
    z = (sigma_s / LATE_MEAN_S - residual_s / sigma_s) / math.sqrt(2.0)
    if z < ERFC_ASYMPTOTIC:
        exponent = 0.5 * (sigma_s / LATE_MEAN_S) ** 2 - residual_s / LATE_MEAN_S
        return 0.5 / LATE_MEAN_S * math.exp(exponent) * math.erfc(z)
    inverse = 0.5 / (z * z)
    series = 1.0 - inverse * (1.0 - 3.0 * inverse * (1.0 - 5.0 * inverse * (1.0 - 7.0 * inverse)))
    return gaussian_hz * sigma_s / LATE_MEAN_S * series / (z * math.sqrt(2.0))


@njit(cache=True, error_model="numpy")
def arrival_log_density(
    residual_s: float, sigma_s: float, late_share: float = LATE_SHARE, floor_hz: float = FLOOR_HZ
) -> tuple[float, float, float, float]:
    """Return log density (1/s), its slope and second derivative, and the share of the core, of one residual."""
    x = residual_s / sigma_s
    gaussian = math.exp(-0.5 * x * x) / (math.sqrt(2.0 * math.pi) * sigma_s)
    gaussian_slope = -x / sigma_s * gaussian
    late = late_density(residual_s, sigma_s, gaussian)
    # The tail is the Gaussian folded with an exponential, so its slope is their difference over the exponential's mean.
    late_slope = (gaussian - late) / LATE_MEAN_S
    late_second = (gaussian_slope - late_slope) / LATE_MEAN_S
    core_share = 1.0 - FLOOR_SHARE - CLOCK_SHARE - late_share
    off = residual_s * (1.0 / CLOCK_S)
    narrowing = 1.0 / (1.0 + off * off)
    clock = CLOCK_PEAK_HZ * narrowing * narrowing
    clock_slope = -4.0 / CLOCK_S * off * narrowing * clock
    clock_second = 4.0 / CLOCK_S**2 * narrowing * (6.0 * off * off * narrowing - 1.0) * clock
    density = core_share * gaussian + late_share * late + clock + floor_hz
    per_density = 1.0 / density
    slope = (core_share * gaussian_slope + late_share * late_slope + clock_slope) * per_density
    bend = core_share * gaussian * (x * x - 1.0) / (sigma_s * sigma_s) + late_share * late_second + clock_second
    return math.log(density), slope, bend * per_density - slope * slope, core_share * gaussian * per_density


@njit(cache=True, error_model="numpy")
def clock_density(residual_s: float) -> float:
    """Return the density (1/s) of one residual where the clock of its node is off, times the share of those."""
    off = residual_s / CLOCK_S
    return CLOCK_PEAK_HZ / (1.0 + off * off) ** 2


@njit(cache=True, error_model="numpy")
def direct_and_late(residual_s: float, sigma_s: float) -> tuple[float, float]:
    """Return the densities (1/s) of one residual where the sound came the direct way, and where it came late."""
    x = residual_s / sigma_s
    gaussian = math.exp(-0.5 * x * x) / (math.sqrt(2.0 * math.pi) * sigma_s)
    return gaussian, late_density(residual_s, sigma_s, gaussian)


@njit(cache=True, error_model="numpy")
def mixed_density(direct: float, late: float, late_share: float, outlier_hz: float) -> float:
    """Return the density (1/s) of one residual where so many come late, given what `direct_and_late` says of it."""
    return (1.0 - late_share - CLOCK_SHARE - FLOOR_SHARE) * direct + late_share * late + outlier_hz


@njit(cache=True, error_model="numpy")
def path_time_s(theta: Floats, nodes: Floats, node: int, row: Floats) -> float:
    """Return the arrival time (s) at one of the nodes (n, 3), and fill `row` (7,) with its derivatives."""
    east, north, up = nodes[node, 0] - theta[0], nodes[node, 1] - theta[1], nodes[node, 2] - theta[UP]
    distance = max(math.sqrt(east * east + north * north + up * up), SHORTEST_M)
    u_east, u_north, u_up = east / distance, north / distance, up / distance
    along = theta[4] * u_east + theta[5] * u_north
    slowness = 1.0 / (theta[3] + along)
    time_s = distance * slowness
    row[0] = -u_east * slowness + (theta[4] - along * u_east) * slowness * slowness
    row[1] = -u_north * slowness + (theta[5] - along * u_north) * slowness * slowness
    row[TIME] = 1.0
    row[3] = -time_s * slowness
    row[4] = row[3] * u_east
    row[5] = row[3] * u_north
    row[UP] = -u_up * slowness - along * u_up * slowness * slowness
    return float(theta[TIME] + time_s)


@njit(cache=True, error_model="numpy")
def add_priors(problem: Problem, theta: Floats, gradient: Floats, information: Floats) -> float:
    """Add what the priors say to gradient (7,) and lower information (7, 7); return their log, not normalised."""
    total: float = 0.0
    for a in range(3):
        for b in range(3):
            pull = problem.precision[a, b] * (theta[3 + b] - problem.medium[b])
            gradient[3 + a] -= pull
            total -= 0.5 * pull * (theta[3 + a] - problem.medium[a])
            if b <= a:
                information[3 + a, 3 + b] += problem.precision[a, b]
    height = problem.height
    weight = 1.0 / (height[3] * height[3])
    off_m = theta[UP] - height[0] - height[1] * theta[0] - height[2] * theta[1]
    gradient[0] += weight * off_m * height[1]
    gradient[1] += weight * off_m * height[2]
    gradient[UP] -= weight * off_m
    information[0, 0] += weight * height[1] * height[1]
    information[1, 0] += weight * height[1] * height[2]
    information[1, 1] += weight * height[2] * height[2]
    information[UP, 0] -= weight * height[1]
    information[UP, 1] -= weight * height[2]
    information[UP, UP] += weight
    return float(total - 0.5 * weight * off_m * off_m)


@njit(cache=True, error_model="numpy")
def mean_late_share(problem: Problem) -> float:
    """Return the share of late arrivals that is to be expected."""
    total = 0.0
    for s in range(len(LATE_SHARES)):
        total += problem.late_shares[s] * LATE_SHARES[s]
    return total


@njit(cache=True, error_model="numpy")
def log_posterior(
    problem: Problem, path_sigma_s: float, theta: Floats, gradient: Floats, information: Floats, row: Floats
) -> float:
    """Return the log posterior at `theta` where every path adds an error of `path_sigma_s`.

    Fill its gradient (7,) and the information (7, 7) that curves it; `row` (7,) is overwritten.
    """
    gradient[:] = 0.0
    information[:] = 0.0
    total = 0.0
    nodes, times_s, sigmas_s, floors_hz = problem.nodes, problem.times_s, problem.sigmas_s, problem.floors_hz
    late_share = mean_late_share(problem)
    for i in range(len(times_s)):
        residual = times_s[i] - path_time_s(theta, nodes, i, row)
        sigma = math.sqrt(sigmas_s[i] * sigmas_s[i] + path_sigma_s * path_sigma_s)
        density, slope, second, _ = arrival_log_density(residual, sigma, late_share, floors_hz[i])
        total += density
        weight = max(-second, 0.0)
        for a in range(UNKNOWNS):
            gradient[a] -= slope * row[a]
            weighted = weight * row[a]
            for b in range(a + 1):
                information[a, b] += weighted * row[b]
    total += add_priors(problem, theta, gradient, information)
    for a in range(UNKNOWNS):
        for b in range(a):
            information[b, a] = information[a, b]
    return total


@njit(cache=True, error_model="numpy")
def factorise(matrix: Floats, factor: Floats) -> bool:
    """Fill the lower `factor` (k, k) of a symmetric matrix (Cholesky); say whether that could be done."""
    for a in range(len(matrix)):
        for b in range(a + 1):
            total = matrix[a, b]
            for c in range(b):
                total -= factor[a, c] * factor[b, c]
            if a > b:
                factor[a, b] = total / factor[b, b]
            elif total > 0.0:
                factor[a, a] = math.sqrt(total)
            else:
                return False
    return True


@njit(cache=True, error_model="numpy")
def _damp(problem: Problem, information: Floats, damping: float) -> None:
    """Add to the diagonal of an information (7, 7): a share of itself, and what keeps flat directions finite."""
    for a in range(UNKNOWNS):
        # Steps are kept finite in metres: a second is worth the way that sound makes in it.
        metres = problem.medium[0] if a == TIME else 1.0
        information[a, a] += damping * information[a, a] + WEAKEST_PER_M2 * metres * metres


@njit(cache=True, error_model="numpy")
def solve_factorised(factor: Floats, right: Floats, solution: Floats) -> None:
    """Fill `solution` (k,) of the equations whose matrix has this Cholesky factor (k, k)."""
    for a in range(len(factor)):
        total = right[a]
        for c in range(a):
            total -= factor[a, c] * solution[c]
        solution[a] = total / factor[a, a]
    for a in range(len(factor) - 1, -1, -1):
        total = solution[a]
        for c in range(a + 1, len(factor)):
            total -= factor[c, a] * solution[c]
        solution[a] = total / factor[a, a]


@njit(cache=True, error_model="numpy")
def factorise_surely(problem: Problem, information: Floats, memory: Scratch) -> None:
    """Fill `memory.factor` with the factor of an information (7, 7), damped as little as makes it definite."""
    memory.damped[:] = information
    damping = 0.0
    _damp(problem, memory.damped, damping)
    # What is not a number is never definite.
    while damping <= MOST_DAMPING and not factorise(memory.damped, memory.factor):
        # Rounding has made it indefinite.
        damping = max(10.0 * damping, LEAST_DAMPING)
        _damp(problem, memory.damped, damping)


@njit(cache=True, error_model="numpy")
def log_determinant(problem: Problem, information: Floats, memory: Scratch) -> float:
    """Return the logarithm of the determinant of an information (7, 7)."""
    factorise_surely(problem, information, memory)
    total = 1.0
    for a in range(UNKNOWNS):
        total *= memory.factor[a, a]
    return 2.0 * math.log(total)


@njit(cache=True, error_model="numpy")
def invert(problem: Problem, information: Floats, covariance: Floats, memory: Scratch) -> None:
    """Fill the covariance (7, 7) that an information leaves."""
    factorise_surely(problem, information, memory)
    for a in range(UNKNOWNS):
        memory.trial[:] = 0.0
        memory.trial[a] = 1.0
        solve_factorised(memory.factor, memory.trial, memory.step)
        covariance[:, a] = memory.step


@njit(cache=True, error_model="numpy")
def maximise(problem: Problem, path_sigma_s: float, theta: Floats, memory: Scratch) -> float:
    """Move `theta` (7,) to the nearby maximum of the posterior and return the log posterior there.

    The information at the maximum is left in `memory.information`.
    """
    gradient, information, factor, step = memory.gradient, memory.information, memory.factor, memory.step
    value = log_posterior(problem, path_sigma_s, theta, gradient, information, memory.row)
    damping = FIRST_DAMPING
    for _ in range(MAX_STEPS):
        gain = 0.0
        memory.damped[:] = information
        _damp(problem, memory.damped, damping)
        if factorise(memory.damped, factor):
            solve_factorised(factor, gradient, step)
            for a in range(UNKNOWNS):
                memory.trial[a] = theta[a] + step[a]
                gain += 0.5 * gradient[a] * step[a]
            if gain < CONVERGED_LOG and damping <= FIRST_DAMPING:
                break
            trial_value = log_posterior(
                problem, path_sigma_s, memory.trial, memory.trial_gradient, memory.trial_information, memory.row
            )
            if trial_value >= value:
                value = trial_value
                theta[:] = memory.trial
                gradient[:] = memory.trial_gradient
                information[:] = memory.trial_information
                damping = max(damping * 0.1, LEAST_DAMPING)
                continue
        damping *= 10.0
        if damping > MOST_DAMPING:
            break
    return value
