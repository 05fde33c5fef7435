"""Location: where and when one bang was, from its arrivals, and how sure that is.

Maximum likelihood on arrival times with the one-sided error model of `solver`, from the starts of `starts`, with the
speed of sound, the wind and the height of the source as unknowns that have a prior. Buildings and hills add an error to
every path that no node can state; how large it is (`path_sigma_s`) shows in the residuals alone, so the result is an
average over a grid of it, weighted by how well each value explains the arrivals. Where arrivals are few, or one may be
late or not, the covariance comes from `sampling`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats
from soundranger_broker.sampling import ambiguous, moments
from soundranger_broker.solver import (
    LATE_SHARES,
    PATH_SIGMAS_S,
    UNKNOWNS,
    UP,
    Problem,
    Scratch,
    arrival_log_density,
    clock_density,
    direct_and_late,
    floors_hz,
    invert,
    log_determinant,
    maximise,
    mean_late_share,
    mixed_density,
    path_time_s,
    scratch,
)
from soundranger_broker.starts import (
    OUTSIDE_FALL_M,
    START_MISFIT,
    candidates,
    closed_form,
    height_prior,
    mirrored,
    misfit,
    outside_m,
)

# Each path error, and each share of late arrivals, of the grid is as likely as the next where nothing is known.
ANY_PATH = tuple([1.0 / len(PATH_SIGMAS_S)] * len(PATH_SIGMAS_S))
ANY_LATE = tuple([1.0 / len(LATE_SHARES)] * len(LATE_SHARES))
# chi-square of two degrees of freedom at 95 %: the squared Mahalanobis radius of the 95 % ellipse.
CHI2_95_2D = -2.0 * math.log(0.05)
# Two equations cannot hold three unknowns.
LEAST_ARRIVALS = 3
# What is less likely than the best by this (log) changes no result.
NEGLIGIBLE_LOG = 8.0
# A place is surely likelier than the one that a caller knows of where it is so by this (log): who heard it and who did
# not, which the caller has weighed and arrivals do not show, is worth less.
SURELY_LOG = 5.0
# A path error with less of the probability than this changes no ellipse.
NEGLIGIBLE_SHARE = 1e-3
# Maxima closer than this (Mahalanobis, squared) are one.
SAME_MAXIMUM = 1.0
# As many maxima are told apart: three arrivals have two.
MOST_MAXIMA = 4
# As many starts are followed to their maximum ...
MOST_FOLLOWED = 5
# ... none of them this close to a likelier one (m).
SAME_START_M = 20.0
# An arrival agrees with a place that it more likely than not came from by the direct way.
LIKELIER = 0.5
# So many arrivals that agree on a place do so on no other but its mirror image.
PLENTY = 6
# Of places, only those with at least this share of the probability are told of.
LEAST_SHARE = 0.01


# What stands for no start, and no height, in compiled code.
_NOTHING = np.zeros(0)


@dataclass(frozen=True)
class Medium:
    """What is known beforehand of the air: speed of sound and wind (m/s, east and north), with standard deviations.

    `covariance` is that of (speed, wind east, wind north) where they are known to be correlated, in (m/s)^2.
    """

    speed_mps: float
    speed_sigma_mps: float
    wind_sigma_mps: float
    wind_mps: tuple[float, float] = (0.0, 0.0)
    covariance: tuple[tuple[float, ...], ...] | None = None

    @cached_property
    def mean(self) -> Floats:
        """Speed of sound and wind, shape (3,), m/s."""
        return np.array([self.speed_mps, *self.wind_mps])

    @cached_property
    def precision(self) -> Floats:
        """Inverse covariance of `mean`, shape (3, 3)."""
        if self.covariance is not None:
            return np.asarray(np.linalg.inv(np.array(self.covariance)), dtype=np.float64)
        return np.diag([self.speed_sigma_mps**-2, self.wind_sigma_mps**-2, self.wind_sigma_mps**-2])


@dataclass(frozen=True)
class Location:
    """A located bang: the mean over path errors of (east m, north m, time s, speed, wind east, wind north).

    `covariance` is (6, 6) in the same order, about `theta`; `up_m`, `up_sigma_m` the height and its standard deviation;
    `residuals_s` (n,) positive where an arrival is late; `weights` (n,) from 0 (an outlier) to 1; `log_evidence` is the
    log density of the arrivals, integrated over all unknowns, when every place (m^2) and time (s) has prior density 1.
    `alternatives` (k, 3) are other places that explain the arrivals: east m, north m, and the share of the probability
    that lies there; what they leave of 1 is the share of the place given. `path_shares` (g,) is how likely each path
    error of `PATH_SIGMAS_S` is, `late_shares` (h,) each share of late arrivals of `LATE_SHARES`.
    """

    theta: Floats
    covariance: Floats
    up_m: float
    up_sigma_m: float
    residuals_s: Floats
    weights: Floats
    distances_m: Floats
    path_sigma_s: float
    log_evidence: float
    alternatives: Floats
    path_shares: Floats
    late_shares: Floats


def locate(
    nodes: Floats,
    times_s: Floats,
    sigmas_s: Floats,
    medium: Medium,
    start: Floats | None = None,
    height: Floats | None = None,
    path_shares: Sequence[float] = ANY_PATH,
    late_shares: Sequence[float] = ANY_LATE,
    clutter_hz: Floats | None = None,
) -> Location:
    """Locate a bang from arrivals at `nodes` (n, 3) metres at `times_s` (n,) with standard deviations `sigmas_s` (n,).

    `start` is (east m, north m, time s) where the caller knows about where and when: that place is taken unless another
    is surely likelier; without it, the likeliest. `height` (4,) is what is known of the source's height, as in
    `solver.Problem`; otherwise `nodes` say it.
    `path_shares` (g,) is how likely each of `PATH_SIGMAS_S` is beforehand, `late_shares` (h,) each of `LATE_SHARES`;
    `clutter_hz` (n,) how often something like each arrival is heard by chance, where that is known to be often.

    Raises:
        ValueError: fewer than three arrivals.
    """
    if len(times_s) < LEAST_ARRIVALS:
        raise ValueError("a place and a time need at least three arrivals")
    begin, ground = _NOTHING if start is None else start, _NOTHING if height is None else height
    log_shares, lates = np.log(np.asarray(path_shares)), np.asarray(late_shares)
    floors = floors_hz(np.zeros(len(times_s)) if clutter_hz is None else clutter_hz)
    found = _locate(nodes, times_s, sigmas_s, medium.mean, medium.precision, log_shares, lates, floors, ground, begin)
    theta, covariance = found[:2]
    up_sigma_m = math.sqrt(covariance[UP, UP])
    return Location(theta[:UP], covariance[:UP, :UP], float(theta[UP]), up_sigma_m, *found[2:])


def ellipse95(covariance: Floats) -> tuple[float, float, float]:
    """Return semi-axes (m, major first) and bearing (degrees east of north, 0 to 180) of a 2x2 covariance's ellipse."""
    variances, axes = np.linalg.eigh(covariance)
    minor, major = np.sqrt(np.maximum(variances, 0.0) * CHI2_95_2D)
    bearing = math.degrees(math.atan2(axes[0, 1], axes[1, 1])) % 180.0
    return float(major), float(minor), bearing


@njit(cache=True, error_model="numpy")
def _from_point(problem: Problem, point: Floats) -> Floats:
    """Return the unknowns (7,) at (east, north, time), with the rest as their priors have it."""
    theta = np.empty(UNKNOWNS)
    theta[:3] = point[:3]
    theta[3:UP] = problem.medium
    theta[UP] = problem.height[0] + problem.height[1] * point[0] + problem.height[2] * point[1]
    return theta


@njit(cache=True, error_model="numpy")
def _same(theta: Floats, other: Floats, information: Floats) -> bool:
    """Say whether two unknowns (7,) are one maximum, in view of the information (7, 7) there."""
    total = 0.0
    for a in range(UNKNOWNS):
        for b in range(UNKNOWNS):
            total += (theta[a] - other[a]) * information[a, b] * (theta[b] - other[b])
    return total < SAME_MAXIMUM


@njit(cache=True, error_model="numpy")
def _agreed(problem: Problem, theta: Floats, memory: Scratch) -> bool:
    """Say whether every arrival is likelier to have come the direct way than not."""
    late_share = mean_late_share(problem)
    for i in range(len(problem.times_s)):
        residual = problem.times_s[i] - path_time_s(theta, problem.nodes, i, memory.row)
        sigma_s = math.hypot(problem.sigmas_s[i], PATH_SIGMAS_S[-1])
        if arrival_log_density(residual, sigma_s, late_share, problem.floors_hz[i])[3] < LIKELIER:
            return False
    return True


@njit(cache=True, error_model="numpy")
def _maxima(problem: Problem, start: Floats, memory: Scratch) -> tuple[Floats, Floats, int]:
    """Return maxima (k, 7) of the posterior with the widest path errors, its logarithm there, and how many there are.

    That which `start` (3,) leads to comes first. Without one (an empty array) the closed form does where many arrivals
    agree on it and its mirror image explains them badly; else all candidates compete.
    """
    found, values = np.empty((MOST_MAXIMA, UNKNOWNS)), np.full(MOST_MAXIMA, -np.inf)
    first = start if len(start) > 0 else closed_form(problem.nodes, problem.times_s, problem.medium[0])
    least = misfit(problem, first, np.inf)
    count = 0
    if len(start) > 0 or least < START_MISFIT:
        count = _follow(problem, first, found, values, 0, memory)
        if len(problem.times_s) >= PLENTY and _agreed(problem, found[0], memory):
            mirror_misfit = misfit(problem, mirrored(problem.nodes, found[0]), np.inf)
            if mirror_misfit > least + NEGLIGIBLE_LOG:
                return found, values, count
    points, misfits = candidates(problem, first, NEGLIGIBLE_LOG)
    for _ in range(MOST_FOLLOWED):
        k = misfits.argmin()
        least = min(least, misfits[k])
        if misfits[k] > least + NEGLIGIBLE_LOG or count == MOST_MAXIMA:
            break
        before = count
        count = _follow(problem, points[k], found, values, count, memory)
        _drop_near(points, misfits, points[k])
        if count > before:
            _drop_near(points, misfits, found[before])
            least = min(least, misfit(problem, found[before], np.inf))
    return found, values, count


@njit(cache=True, error_model="numpy")
def _drop_near(points: Floats, misfits: Floats, point: Floats) -> None:
    """Set the misfits of points (k, 3) near a point to infinity: they lead where it led."""
    for k in range(len(points)):
        if math.hypot(points[k, 0] - point[0], points[k, 1] - point[1]) < SAME_START_M:
            misfits[k] = np.inf


@njit(cache=True, error_model="numpy")
def _follow(problem: Problem, point: Floats, found: Floats, values: Floats, count: int, memory: Scratch) -> int:
    """Append the maximum that a point (3,) leads to, where it is new, to the first `count` found; return how many."""
    theta = _from_point(problem, point)
    value = maximise(problem, PATH_SIGMAS_S[-1], theta, memory)
    for k in range(count):
        if _same(theta, found[k], memory.information):
            return count
    found[count] = theta
    values[count] = value
    return count + 1


@njit(cache=True, error_model="numpy")
def average(problem: Problem, point: Floats) -> tuple[Floats, Floats, float, float, Floats]:
    """Return mean (7,), covariance (7, 7), path sigma (s), log evidence and shares (g,) of the path errors' mixture.

    `point` is (east m, north m, time s), near the maximum.
    """
    memory = scratch()
    return _average(problem, _from_point(problem, point), memory)


@njit(cache=True, error_model="numpy")
def _average(problem: Problem, start: Floats, memory: Scratch) -> tuple[Floats, Floats, float, float, Floats]:
    """Return what `average` does from a start (7,). Each path error is integrated over by Laplace's method."""
    grid = len(PATH_SIGMAS_S)
    thetas, informations = np.empty((grid, UNKNOWNS)), np.empty((grid, UNKNOWNS, UNKNOWNS))
    shares = np.zeros(grid)
    theta = start.copy()
    best, last = -np.inf, grid
    for k in range(grid - 1, -1, -1):
        value = maximise(problem, PATH_SIGMAS_S[k], theta, memory)
        value -= 0.5 * log_determinant(problem, memory.information, memory)
        shares[k] = value + problem.log_shares[k]
        thetas[k], informations[k] = theta, memory.information
        last, best = k, max(best, shares[k])
        # Narrower still explains them worse still, however likely it was beforehand.
        if value < best - NEGLIGIBLE_LOG:
            break
    shares[last:] = np.exp(shares[last:] - best)
    total = shares.sum()
    shares /= total
    mean = np.zeros(UNKNOWNS)
    for k in range(last, grid):
        mean += shares[k] * thetas[k]
    covariance, one = np.zeros((UNKNOWNS, UNKNOWNS)), np.empty((UNKNOWNS, UNKNOWNS))
    path_variance = 0.0
    for k in range(last, grid):
        if shares[k] < NEGLIGIBLE_SHARE:
            continue
        path_variance += shares[k] * PATH_SIGMAS_S[k] ** 2
        invert(problem, informations[k], one, memory)
        for a in range(UNKNOWNS):
            for b in range(UNKNOWNS):
                apart = (thetas[k, a] - mean[a]) * (thetas[k, b] - mean[b])
                covariance[a, b] += shares[k] * (one[a, b] + apart)
    log_evidence = best + math.log(total) + _log_prior_constant(problem)
    return mean, covariance, math.sqrt(path_variance), log_evidence, shares


@njit(cache=True, error_model="numpy")
def _log_prior_constant(problem: Problem) -> float:
    """Return what normalises the posterior that Laplace's method integrates: of its priors, and powers of 2 pi."""
    p = problem.precision
    det = p[0, 0] * (p[1, 1] * p[2, 2] - p[1, 2] * p[2, 1]) - p[0, 1] * (p[1, 0] * p[2, 2] - p[1, 2] * p[2, 0])
    det += p[0, 2] * (p[1, 0] * p[2, 1] - p[1, 1] * p[2, 0])
    free = UNKNOWNS - 4
    return 0.5 * math.log(det) - math.log(problem.height[3]) + 0.5 * free * math.log(2.0 * math.pi)


@njit(cache=True, error_model="numpy")
def _residuals(problem: Problem, theta: Floats, path_sigma_s: float) -> tuple[Floats, Floats, Floats]:
    """Return residuals (s), core shares and distances (m) of the arrivals, (n,) each."""
    count = len(problem.times_s)
    late_share = mean_late_share(problem)
    residuals, weights, distances, row = np.empty(count), np.empty(count), np.empty(count), np.empty(UNKNOWNS)
    for i in range(count):
        residuals[i] = problem.times_s[i] - path_time_s(theta, problem.nodes, i, row)
        sigma_s = math.hypot(problem.sigmas_s[i], path_sigma_s)
        weights[i] = arrival_log_density(residuals[i], sigma_s, late_share, problem.floors_hz[i])[3]
        east, north = problem.nodes[i, 0] - theta[0], problem.nodes[i, 1] - theta[1]
        distances[i] = math.sqrt(east * east + north * north + (problem.nodes[i, 2] - theta[UP]) ** 2)
    return residuals, weights, distances


@njit(cache=True, error_model="numpy")
def _late_shares(problem: Problem, residuals_s: Floats, path_sigma_s: float) -> Floats:
    """Return how likely each share of late arrivals (h,) is in view of all residuals (n,)."""
    shares = problem.late_shares.copy()
    for i in range(len(residuals_s)):
        direct, late = direct_and_late(residuals_s[i], math.hypot(problem.sigmas_s[i], path_sigma_s))
        outlier_hz = clock_density(residuals_s[i]) + problem.floors_hz[i]
        for s in range(len(shares)):
            shares[s] *= mixed_density(direct, late, LATE_SHARES[s], outlier_hz)
        shares /= shares.sum()
    return shares


@njit(cache=True, error_model="numpy", nogil=True)
def _locate(
    nodes: Floats,
    times_s: Floats,
    sigmas_s: Floats,
    medium: Floats,
    precision: Floats,
    log_shares: Floats,
    late_shares: Floats,
    chance_hz: Floats,
    height: Floats,
    start: Floats,
) -> tuple[Floats, Floats, Floats, Floats, Floats, float, float, Floats, Floats, Floats]:
    """Return the fields of a `Location`, the height among the unknowns; an empty `height` or `start` is none."""
    ground = height if len(height) > 0 else height_prior(nodes)
    problem = Problem(nodes, times_s, sigmas_s, ground, medium, precision, log_shares, late_shares, chance_hz)
    memory = scratch()
    known = len(start) > 0
    found, values, count = _maxima(problem, start, memory)
    least = values[:count].max() - NEGLIGIBLE_LOG
    main, path_sigma_s, path_shares = -1, 0.0, np.exp(log_shares)
    theta, covariance = np.empty(UNKNOWNS), np.empty((UNKNOWNS, UNKNOWNS))
    places, evidences = np.empty((count, 3)), np.full(count, -np.inf)
    for k in range(count):
        if values[k] < least and not (known and k == 0):
            continue
        mean, spread, path, evidence, shares = _average(problem, found[k], memory)
        evidence -= outside_m(nodes, mean) / OUTSIDE_FALL_M
        places[k], evidences[k] = mean[:3], evidence
        if main < 0 or evidence > evidences[main] + (SURELY_LOG if known and main == 0 else 0.0):
            main, theta, covariance, path_sigma_s, path_shares = k, mean, spread, path, shares
    log_evidence = evidences[main] + outside_m(nodes, theta) / OUTSIDE_FALL_M
    alternatives = _alternatives(places, evidences, main)
    if ambiguous(problem, theta, path_sigma_s, memory):
        covariance, path_sigma_s = moments(problem, theta, covariance, path_sigma_s, alternatives, memory)
    residuals, weights, distances = _residuals(problem, theta, path_sigma_s)
    lates = _late_shares(problem, residuals, path_sigma_s)
    return (
        theta,
        covariance,
        residuals,
        weights,
        distances,
        path_sigma_s,
        log_evidence,
        alternatives,
        path_shares,
        lates,
    )


@njit(cache=True, error_model="numpy")
def _alternatives(places: Floats, evidences: Floats, main: int) -> Floats:
    """Return (east, north, share) of the places (k, 3) other than `main` that are likely enough by their evidences."""
    shares = np.exp(evidences - evidences.max())
    shares /= shares.sum()
    told = np.empty((len(places), 3))
    count = 0
    for k in range(len(places)):
        if k != main and shares[k] >= LEAST_SHARE:
            told[count, 0], told[count, 1], told[count, 2] = places[k, 0], places[k, 1], shares[k]
            count += 1
    return told[:count]
