"""How sure the place of a bang is where the posterior is no Gaussian: importance sampling, compiled.

With few arrivals, or one that may be late or not, other choices of which arrivals are late are nearly as good as the
best, and each is a narrow maximum of its own. They are looked for from what three arrivals fit (`starts`); Student's t
distributions around them are the proposal, a fixed quasi-random design is drawn from it, and every point weighs what
the posterior has there over the density of the whole proposal (Veach, Guibas 1995), heavy weights cut (Ionides 2008).
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundranger_broker.geodesy import Floats
from soundranger_broker.solver import (
    LATE_MEAN_S,
    LATE_SHARES,
    PATH_SIGMAS_S,
    UNKNOWNS,
    Problem,
    Scratch,
    add_priors,
    arrival_log_density,
    clock_density,
    direct_and_late,
    factorise_surely,
    log_posterior,
    maximise,
    mean_late_share,
    mixed_density,
    path_time_s,
)
from soundranger_broker.starts import candidates, outside_fall_m, outside_m

Ints = NDArray[np.int64]

# So few arrivals leave one or two to spare: nothing shows which is late.
FEW = 6
# An arrival is off where it is likelier not to have come the direct way; past so many means of the late tail it is
# surely no late one, and takes none of the others' place.
LIKELIER, HOPELESS_LATE_MEANS = 0.5, 5.0
# Where path errors are taken to be wider than this (s), one late arrival may be what widened them.
WIDE_PATH_S = 0.003
# Narrow path errors have maxima of their own for every choice of late arrivals: from so many starts ...
MOST_CHAINS = 8
# ... none of them this close to a likelier one (m) ...
SAME_CHAIN_M = 3.0
# ... nor further (standard deviations) from the place than this, its ellipse widened by so much (m) ...
FARTHEST_SIGMAS, WIDENED_M = 5.0, 10.0
# ... from this path error of the grid down.
CHAIN_WIDEST = 2
# What is less likely than the best of its chain by this (log) changes no result.
NEGLIGIBLE_LOG = 8.0
# Path errors (s), from the narrowest, of what is proposed: late arrivals reach as far as the last ones.
PROPOSED_S = np.append(PATH_SIGMAS_S, [0.032, 0.064])
# Points of the design: fewer miss places that late arrivals leave possible.
POINTS = 1024
# Student's t of so many degrees of freedom (an even number) has tails that the posterior's late tails stay under.
FREEDOM = 4
# The unknowns that have no Gaussian prior, and come first: east, north, time.
PLACE_TIME = 3
# Logarithms are dear: one is taken of the product of so many densities, which is in no danger.
LOG_EVERY = 8
# Effective points below which the sampling is not believed.
LEAST_EFFECTIVE = 8.0


def _design() -> Floats:
    """Return points (POINTS, 7) around zero: additive recurrence by a generalised golden ratio (Roberts 2018).

    Place and time have Student's t distribution, the air and the height the normal one that their priors give them.
    """
    dimensions = UNKNOWNS + FREEDOM // 2
    ratio = 2.0
    for _ in range(50):
        ratio = (1.0 + ratio) ** (1.0 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1.0)
    uniform = (0.5 + np.outer(np.arange(1, POINTS + 1), steps)) % 1.0
    normal = np.vectorize(NormalDist().inv_cdf)(uniform[:, :UNKNOWNS])
    chi2 = -2.0 * np.log(uniform[:, UNKNOWNS:]).sum(axis=1)
    normal[:, :PLACE_TIME] /= np.sqrt(chi2 / FREEDOM)[:, None]
    return np.asarray(normal)


DESIGN = _design()


class Pool(NamedTuple):
    """Maxima: unknowns (k, 7), Cholesky factors of the information (k, 7, 7), log evidence (k,), path error (k,)."""

    thetas: Floats
    factors: Floats
    logs: Floats
    paths: Ints


@njit(cache=True, error_model="numpy")
def ambiguous(problem: Problem, theta: Floats, path_sigma_s: float, memory: Scratch) -> bool:
    """Say whether arrivals are few, or one is off by so little that others may be off instead."""
    if len(problem.times_s) <= FEW or path_sigma_s > WIDE_PATH_S:
        return True
    late_share = mean_late_share(problem)
    for i in range(len(problem.times_s)):
        residual = problem.times_s[i] - path_time_s(theta, problem.nodes, i, memory.row)
        sigma_s = math.hypot(problem.sigmas_s[i], path_sigma_s)
        share = arrival_log_density(residual, sigma_s, late_share, problem.floors_hz[i])[3]
        if share < LIKELIER and abs(residual) < HOPELESS_LATE_MEANS * LATE_MEAN_S:
            return True
    return False


@njit(cache=True, error_model="numpy")
def moments(
    problem: Problem, mean: Floats, covariance: Floats, path_sigma_s: float, others: Floats, memory: Scratch
) -> tuple[Floats, float]:
    """Return the mean square (7, 7) of how far the truth is from `mean` (7,), and of the path errors its root (s).

    `mean` and `covariance` are what Laplace's method says of a place, `others` (k, 3) other places: what is nearer to
    them is theirs. It is about the place that is stated: the mean of a posterior with tails on one side may lie where
    nothing is likely.
    """
    wide = len(PROPOSED_S)
    size = wide + MOST_CHAINS * (CHAIN_WIDEST + 1)
    pool = Pool(
        np.empty((size, UNKNOWNS)), np.zeros((size, UNKNOWNS, UNKNOWNS)), np.empty(size), np.empty(size, dtype=np.int64)
    )
    count = _descend(problem, mean.copy(), wide - 1, pool, 0, memory)
    count = _more_chains(problem, mean, covariance, others, pool, count, memory)
    points, logs, variances = np.empty((POINTS, UNKNOWNS)), np.empty(POINTS), np.empty(POINTS)
    shares = _shares(pool, count)
    _draw(pool, shares, points)
    needed = _needed(pool, count)
    fall_m = outside_fall_m(problem.nodes)
    for p in range(POINTS):
        if _nearest(points[p], mean, others):
            target, variances[p] = _log_target(problem, points[p], needed, memory)
            target -= outside_m(problem.nodes, points[p]) / fall_m
            logs[p] = target - _log_proposal(pool, shares, points[p])
        else:
            logs[p], variances[p] = -np.inf, 0.0
    weights = np.exp(logs - logs.max())
    weights = np.minimum(weights, math.sqrt(POINTS) * weights.mean())
    weights /= weights.sum()
    if not 1.0 / np.sum(weights * weights) > LEAST_EFFECTIVE:
        return covariance, path_sigma_s
    apart = points - mean
    return (apart.T * weights) @ apart, math.sqrt(weights @ variances)


@njit(cache=True, error_model="numpy")
def _descend(problem: Problem, theta: Floats, widest: int, pool: Pool, count: int, memory: Scratch) -> int:
    """Append to the first `count` of the pool the maxima that `theta` (7,) leads to, from the widest path error down.

    What is negligible ends it. Return how many there are then; `theta` is moved.
    """
    best = -np.inf
    for k in range(widest, -1, -1):
        value = maximise(problem, PROPOSED_S[k], theta, memory)
        factorise_surely(problem, memory.information, memory)
        log = value
        for a in range(UNKNOWNS):
            log -= math.log(memory.factor[a, a])
        pool.thetas[count], pool.factors[count], pool.logs[count], pool.paths[count] = theta, memory.factor, log, k
        best = max(best, log)
        count += 1
        # Narrower still explains them worse still.
        if log < best - NEGLIGIBLE_LOG:
            break
    return count


@njit(cache=True, error_model="numpy")
def _more_chains(
    problem: Problem, mean: Floats, covariance: Floats, others: Floats, pool: Pool, count: int, memory: Scratch
) -> int:
    """Append the maxima, for narrow path errors, that the likeliest starts around a place lead to."""
    points, logs = candidates(problem, mean[:3], np.inf)
    ee, nn, en = covariance[0, 0] + WIDENED_M**2, covariance[1, 1] + WIDENED_M**2, covariance[0, 1]
    theta = mean.copy()
    for k in range(len(points)):
        east, north = points[k, 0] - mean[0], points[k, 1] - mean[1]
        square = (nn * east * east - 2.0 * en * east * north + ee * north * north) / (ee * nn - en * en)
        if square > FARTHEST_SIGMAS**2 or not _nearest(points[k], mean, others):
            logs[k] = -np.inf
            continue
        theta[:3] = points[k]
        path_s = PATH_SIGMAS_S[CHAIN_WIDEST]
        logs[k] = log_posterior(problem, path_s, theta, memory.gradient, memory.information, memory.row)
    # A start is off its maximum, by some path errors.
    least = logs.max() - 4.0 * NEGLIGIBLE_LOG
    for _ in range(MOST_CHAINS):
        best = int(logs.argmax())
        if logs[best] <= least:
            break
        theta[:] = mean
        theta[:3] = points[best]
        count = _descend(problem, theta, CHAIN_WIDEST, pool, count, memory)
        for other in range(len(points)):
            if math.hypot(points[other, 0] - points[best, 0], points[other, 1] - points[best, 1]) < SAME_CHAIN_M:
                logs[other] = -np.inf
        logs[best] = -np.inf
    return count


@njit(cache=True, error_model="numpy")
def _nearest(point: Floats, place: Floats, others: Floats) -> bool:
    """Say whether a point (3,) is nearer to a place than to all others (k, 3)."""
    to_other = np.inf
    for k in range(len(others)):
        to_other = min(to_other, math.hypot(point[0] - others[k, 0], point[1] - others[k, 1]))
    return math.hypot(point[0] - place[0], point[1] - place[1]) <= to_other


@njit(cache=True, error_model="numpy")
def _shares(pool: Pool, count: int) -> Floats:
    """Return the share of the proposal of each maximum.

    A third goes by evidence, a third to each alike, and a third to the wide path errors, which no evidence is for.
    """
    shares = np.exp(pool.logs[:count] - pool.logs[:count].max())
    wide = pool.paths[:count] >= len(PATH_SIGMAS_S) - 1
    proposed: Floats = (shares / shares.sum() + 1.0 / count + wide / wide.sum()) / 3.0
    return proposed


@njit(cache=True, error_model="numpy")
def _needed(pool: Pool, count: int) -> Ints:
    """Return which path errors of the grid explain the arrivals well enough to matter."""
    needed = np.zeros(len(PROPOSED_S), dtype=np.bool_)
    # The widest of the grid always counts: what is wider yet is proposed only.
    needed[len(PATH_SIGMAS_S) - 1] = True
    best = pool.logs[:count].max()
    for k in range(count):
        if pool.logs[k] > best - NEGLIGIBLE_LOG:
            needed[pool.paths[k]] = True
    return np.flatnonzero(needed[: len(PATH_SIGMAS_S)])


@njit(cache=True, error_model="numpy")
def _draw(pool: Pool, shares: Floats, points: Floats) -> None:
    """Fill `points` (POINTS, 7) from the proposal."""
    cumulative, count = np.cumsum(shares), len(shares)
    k = 0
    for p in range(POINTS):
        while k < count - 1 and (p + 0.5) / POINTS > cumulative[k]:
            k += 1
        factor = pool.factors[k]
        for a in range(UNKNOWNS - 1, -1, -1):
            total = DESIGN[p, a]
            for c in range(a + 1, UNKNOWNS):
                total -= factor[c, a] * (points[p, c] - pool.thetas[k, c])
            points[p, a] = pool.thetas[k, a] + total / factor[a, a]


@njit(cache=True, error_model="numpy")
def _log_proposal(pool: Pool, shares: Floats, point: Floats) -> float:
    """Return the log density of the proposal at a point (7,), but for a constant."""
    density = 0.0
    for k in range(len(shares)):
        square = light = 0.0
        root: float = shares[k]
        for a in range(UNKNOWNS):
            total = 0.0
            for c in range(a, UNKNOWNS):
                total += pool.factors[k, c, a] * (point[c] - pool.thetas[k, c])
            if a < PLACE_TIME:
                square += total * total
            else:
                light += total * total
            root *= pool.factors[k, a, a]
        density += root * math.exp(-0.5 * light) * (1.0 + square / FREEDOM) ** (-0.5 * (FREEDOM + PLACE_TIME))
    return math.log(density)


@njit(cache=True, error_model="numpy")
def _log_target(problem: Problem, theta: Floats, paths: Ints, memory: Scratch) -> tuple[float, float]:
    """Return the log posterior of `theta` (7,), but for a constant, and the mean square of its path errors (s^2)."""
    count, shares = len(problem.times_s), len(LATE_SHARES)
    paths_s = PATH_SIGMAS_S[paths]
    residuals, outliers_hz = np.empty(count), np.empty(count)
    for i in range(count):
        residuals[i] = problem.times_s[i] - path_time_s(theta, problem.nodes, i, memory.row)
        outliers_hz[i] = clock_density(residuals[i]) + problem.floors_hz[i]
    logs, products = np.zeros((len(paths_s), shares)), np.ones(shares)
    for k in range(len(paths_s)):
        for i in range(count):
            direct, late = direct_and_late(residuals[i], math.hypot(problem.sigmas_s[i], paths_s[k]))
            for s in range(shares):
                products[s] *= mixed_density(direct, late, LATE_SHARES[s], outliers_hz[i])
            if (i + 1) % LOG_EVERY == 0 or i == count - 1:
                for s in range(shares):
                    logs[k, s] += math.log(products[s])
                    products[s] = 1.0
    best = logs.max()
    weights = (np.exp(logs - best + problem.log_shares[paths].reshape(-1, 1)) * problem.late_shares).sum(axis=1)
    prior = add_priors(problem, theta, memory.gradient, memory.information)
    return best + math.log(weights.sum()) + prior, float(weights @ (paths_s * paths_s)) / weights.sum()
