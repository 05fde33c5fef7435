"""Location: where and when one bang was, from its arrivals, and how sure that is.

Maximum likelihood on arrival times with the one-sided error model of `solver`, from closed-form starts, with the speed
of sound and the wind as unknowns that have a prior. Buildings and hills add an error to every path that no node can
state; how large it is (`path_sigma_s`) shows in the residuals alone, so the result is an average over a grid of it,
weighted by how well each value explains the arrivals.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats
from soundranger_broker.solver import (
    UNKNOWNS,
    WEAKEST_PER_M2,
    Problem,
    arrival_log_density,
    log_posterior,
    maximise,
    predict,
)

# Path errors from none (a field) to 16 ms (hills and high blocks), each as likely as the next.
PATH_SIGMAS_S = np.array([0.0, 0.001, 0.002, 0.004, 0.008, 0.016])
# chi-square of two degrees of freedom at 95 %: the squared Mahalanobis radius of the 95 % ellipse.
CHI2_95_2D = -2.0 * math.log(0.05)
# Two equations cannot hold three unknowns.
LEAST_ARRIVALS = 3
# Four unknowns of the closed form: east, north, time and the nuisance.
CLOSED_FORM_ARRIVALS = 4
# The most likely starts are followed to their maximum: more were never better, fewer lost the far side of a mirror.
MOST_STARTS = 3


@dataclass(frozen=True)
class Medium:
    """What is known beforehand of the air: speed of sound and wind (m/s, east and north), with standard deviations."""

    speed_mps: float
    speed_sigma_mps: float
    wind_sigma_mps: float
    wind_mps: tuple[float, float] = (0.0, 0.0)

    @property
    def mean(self) -> Floats:
        """Speed of sound and wind, shape (3,), m/s."""
        return np.array([self.speed_mps, *self.wind_mps])

    @property
    def precision(self) -> Floats:
        """Inverse covariance of `mean`, shape (3, 3)."""
        return np.diag([self.speed_sigma_mps**-2, self.wind_sigma_mps**-2, self.wind_sigma_mps**-2])


@dataclass(frozen=True)
class Location:
    """A located bang: the mean over path errors of (east m, north m, time s, speed, wind east, wind north).

    `covariance` is (6, 6) in the same order; `residuals_s` (n,) positive where an arrival is late; `weights` (n,) from
    0 (an outlier) to 1; `log_evidence` is the log density of the arrivals, integrated over all unknowns, when every
    place (m^2) and time (s) has prior density 1.
    `alternatives` (k, 3) are other places that explain the arrivals: east m, north m, and the share of the probability
    that lies there; what they leave of 1 is the share of the place given.
    """

    theta: Floats
    covariance: Floats
    residuals_s: Floats
    weights: Floats
    distances_m: Floats
    path_sigma_s: float
    log_evidence: float
    alternatives: Floats = field(default_factory=lambda: np.empty((0, 3)))


def locate(
    nodes: Floats, times_s: Floats, sigmas_s: Floats, source_up_m: float, medium: Medium, start: Floats | None = None
) -> Location:
    """Locate a bang from arrivals at `nodes` (n, 3) metres at `times_s` (n,) with standard deviations `sigmas_s` (n,).

    `start` is (east m, north m, time s) where the caller has one; otherwise closed-form starts are made.

    Raises:
        ValueError: fewer than three arrivals.
    """
    if len(times_s) < LEAST_ARRIVALS:
        raise ValueError("a place and a time need at least three arrivals")
    starts = _starts(nodes, times_s, medium.speed_mps) if start is None else start[None, :]
    problem = Problem(nodes, times_s, sigmas_s, source_up_m, medium.mean, medium.precision)
    theta, covariance, path_sigma_s, log_evidence = average(problem, starts)
    residuals, weights = _residuals(_widened(problem, path_sigma_s), theta)
    distances = np.linalg.norm(nodes - np.array([theta[0], theta[1], source_up_m]), axis=1)
    return Location(theta, covariance, residuals, weights, distances, path_sigma_s, log_evidence)


def ellipse95(covariance: Floats) -> tuple[float, float, float]:
    """Return semi-axes (m, major first) and bearing (degrees east of north, 0 to 180) of a 2x2 covariance's ellipse."""
    variances, axes = np.linalg.eigh(covariance)
    minor, major = np.sqrt(np.maximum(variances, 0.0) * CHI2_95_2D)
    bearing = math.degrees(math.atan2(axes[0, 1], axes[1, 1])) % 180.0
    return float(major), float(minor), bearing


@njit(cache=True)
def _closed_form(nodes: Floats, times_s: Floats, speed_mps: float) -> Floats:
    """Return (east, north, time) of the linear least-squares solution (Mathias, Leonardi, Galati 2008)."""
    count = len(times_s)
    centre_east, centre_north, centre_time = nodes[:, 0].mean(), nodes[:, 1].mean(), times_s.mean()
    design, right = np.empty((count, 4)), np.empty(count)
    for i in range(count):
        east, north = nodes[i, 0] - centre_east, nodes[i, 1] - centre_north
        path = speed_mps * (times_s[i] - centre_time)
        design[i] = np.array([2.0 * east, 2.0 * north, -2.0 * path, 1.0])
        right[i] = east * east + north * north - path * path
    # A little ridge keeps nodes on a line from being singular; at hundreds of metres it moves nothing.
    normal = design.T @ design + np.diag(np.array([1e-3, 1e-3, 1e-3, 1e-9]))
    solved = np.linalg.solve(normal, design.T @ right)
    return np.array([solved[0] + centre_east, solved[1] + centre_north, solved[2] / speed_mps + centre_time])


@njit(cache=True)
def _starts(nodes: Floats, times_s: Floats, speed_mps: float) -> Floats:
    """Return starting points (k, 3): the closed form of all arrivals, of all but one, and the earliest node."""
    count = len(times_s)
    leave_out = count if count > CLOSED_FORM_ARRIVALS else 0
    starts = np.empty((leave_out + 2, 3))
    first = np.argmin(times_s)
    starts[0] = np.array([nodes[first, 0], nodes[first, 1], times_s[first]])
    starts[1] = _closed_form(nodes, times_s, speed_mps)
    for out in range(leave_out):
        keep = np.arange(count) != out
        starts[2 + out] = _closed_form(nodes[keep], times_s[keep], speed_mps)
    return starts


@njit(cache=True)
def _best_start(problem: Problem, starts: Floats) -> Floats:
    """Return the maximum (6,) of the posterior that the starts (k, 3) lead to."""
    gradient, information = np.empty(UNKNOWNS), np.empty((UNKNOWNS, UNKNOWNS))
    theta = np.empty(UNKNOWNS)
    theta[3:] = problem.medium
    values = np.empty(len(starts))
    for k in range(len(starts)):
        theta[:3] = starts[k]
        values[k] = log_posterior(problem, theta, gradient, information)
    best, best_value = theta.copy(), -np.inf
    for k in np.argsort(-values)[:MOST_STARTS]:
        theta[:3] = starts[k]
        theta[3:] = problem.medium
        found, _, value = maximise(problem, theta)
        if value > best_value:
            best, best_value = found, value
    return best


@njit(cache=True)
def _widened(problem: Problem, path_sigma_s: float) -> Problem:
    """Return the problem with a path error added to every arrival."""
    return Problem(
        problem.nodes,
        problem.times_s,
        np.sqrt(problem.sigmas_s**2 + path_sigma_s**2),
        problem.source_up_m,
        problem.medium,
        problem.precision,
    )


@njit(cache=True)
def average(problem: Problem, starts: Floats) -> tuple[Floats, Floats, float, float]:
    """Return mean (6,), covariance (6, 6), path sigma (s) and log evidence of the mixture over path errors.

    Each path error is integrated over by Laplace's method.
    """
    grid = len(PATH_SIGMAS_S)
    theta = _best_start(_widened(problem, PATH_SIGMAS_S[-1]), starts)
    thetas, covariances = np.empty((grid, UNKNOWNS)), np.empty((grid, UNKNOWNS, UNKNOWNS))
    evidence = np.empty(grid)
    prior = 0.5 * np.log(np.linalg.det(problem.precision / (2.0 * np.pi))) - np.log(grid)
    flattest = np.diag(np.full(UNKNOWNS, WEAKEST_PER_M2))
    for k in range(grid - 1, -1, -1):
        theta, information, value = maximise(_widened(problem, PATH_SIGMAS_S[k]), theta)
        thetas[k] = theta
        covariances[k] = np.linalg.inv(information + flattest)
        evidence[k] = value + prior + 0.5 * np.log(np.linalg.det(2.0 * np.pi * covariances[k]))
    shares = np.exp(evidence - evidence.max())
    log_evidence = evidence.max() + np.log(shares.sum())
    shares /= shares.sum()
    mean, covariance = np.zeros(UNKNOWNS), np.zeros((UNKNOWNS, UNKNOWNS))
    for k in range(grid):
        mean += shares[k] * thetas[k]
    for k in range(grid):
        covariance += shares[k] * (covariances[k] + np.outer(thetas[k] - mean, thetas[k] - mean))
    return mean, covariance, np.sqrt(np.sum(shares * PATH_SIGMAS_S**2)), log_evidence


@njit(cache=True)
def _residuals(problem: Problem, theta: Floats) -> tuple[Floats, Floats]:
    """Return residuals (s) and core shares of the arrivals, (n,) each."""
    slopes = np.empty((len(problem.nodes), UNKNOWNS))
    residuals = problem.times_s - predict(theta, problem.nodes, problem.source_up_m, slopes)
    weights = np.empty(len(residuals))
    for i in range(len(residuals)):
        weights[i] = arrival_log_density(residuals[i], problem.sigmas_s[i])[3]
    return residuals, weights
