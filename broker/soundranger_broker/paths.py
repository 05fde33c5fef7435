"""Paths: how late sound is along its ways from one place, as far as it is known, and where a bang is in view of that.

Around buildings and over hills sound is some 10 ms late, but from one place to one node always by as much, to about
1 ms. Seismologists know this as source-specific station terms (Richards-Dinger, Shearer 2000): what nobody can say of
one event, several events from one place say of each other. Here the delays of all nodes and the air are jointly
Gaussian. A bang is then a linear problem in its place and time (which have a flat prior) with correlated errors:
generalised least squares, and a Kalman update of what is known. That the place is not known better than the delays
allow stays in the covariance: repeated bangs land close together, and each keeps the whole uncertainty.

Two things keep it honest. Travel times are linearised where the first bang was found, and at one height, for all bangs
from there: linearised anew each time, what cannot be observed seems to be (Huang, Mourikis, Roumeliotis 2008). And an
arrival is judged by what all others say of it (expectation propagation, Minka 2001): no arrival vouches for itself.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from soundranger_broker.acoustics import travel_time_s
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import Medium
from soundranger_broker.solver import LATE_SHARE, arrival_log_density

# Speed of sound, wind east, wind north come before the delays.
AIR = 3
# From one round to the next a delay changes by this share of what delays are in that town: 1 ms of 8 (live fire).
REPEAT_SHARE = 0.1
# Paths from places this far apart have little in common: they pass other corners.
ALIKE_M = 25.0
# The air of now tells this little of the air so much later: wind turns within an hour.
AIR_LASTS_S = 3600.0
# Nearer than this a source has no direction.
NEAREST_M = 0.1
# Weights of arrivals settle within a few rounds; those at the border of two readings need not.
MOST_ROUNDS = 12
SETTLED_WEIGHT, SETTLED_M = 0.01, 0.001
# Place and time of which arrivals say less than this (m^-2, m^-2, s^-2: 100 km of sound) are kept finite.
WEAKEST = np.array([1e-10, 1e-10, 1e-5])
# An arrival with less weight than this says nothing.
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Paths:
    """What is known of the air and of the delays from one place.

    `anchor` (latitude, longitude, height) is where travel times are linearised; `mean` (3 + n,) is the speed of sound,
    the wind east and north (m/s) and the delays (s) to the `nodes`, `covariance` (3 + n, 3 + n) theirs; a path of
    which nothing is known has a delay of 0 give or take `path_sigma_s`.
    """

    anchor: tuple[float, float, float]
    path_sigma_s: float
    nodes: tuple[str, ...]
    mean: Floats
    covariance: Floats

    def rows(self, nodes: tuple[str, ...]) -> list[int]:
        """Return where the air and the delays to some nodes stand in `mean`."""
        index = {node: AIR + i for i, node in enumerate(self.nodes)}
        return [*range(AIR), *(index[node] for node in nodes)]

    def to(self, nodes: tuple[str, ...]) -> "Paths":
        """Return what is known of the paths to some of the nodes."""
        rows = self.rows(nodes)
        return replace(self, nodes=nodes, mean=self.mean[rows], covariance=self.covariance[np.ix_(rows, rows)])


class Arrivals(NamedTuple):
    """Arrivals of one bang: nodes (n, 3) in metres, times and standard deviations (n,) in seconds.

    `floors_hz` (n,) as in `solver.Problem`.
    """

    nodes: Floats
    times_s: Floats
    sigmas_s: Floats
    floors_hz: Floats


class Fit(NamedTuple):
    """A bang in view of its paths: place and time (east m, north m, s), air (3,) and their covariance (6, 6).

    `weights` (n,) from 0 (an outlier) to 1; `log_evidence` as in `Location`. A bang adds `pull` (3 + n,) times the
    covariance of the paths to their mean, and takes `information` (3 + n, 3 + n) between two of them from it.
    """

    theta: Floats
    covariance: Floats
    weights: Floats
    log_evidence: float
    pull: Floats
    information: Floats


def unknown(anchor: tuple[float, float, float], medium: Medium, path_sigma_s: float) -> Paths:
    """Return what is known of paths before any bang: the air, and how large delays are."""
    return Paths(anchor, path_sigma_s, (), medium.mean, _covariance(medium))


def expected(known: Paths, nodes: tuple[str, ...], medium: Medium, later_s: float, moved_m: float) -> Paths:
    """Return what is known of paths from `moved_m` beside, `later_s` later, to at least the nodes.

    What was learnt fades by its correlation; what is left comes from the prior, so that far off and much later
    nothing is known but that.
    """
    new = tuple(node for node in nodes if node not in known.nodes)
    old, size = len(known.mean), len(known.mean) + len(new)
    mean, covariance = np.zeros(size), np.zeros((size, size))
    mean[:old], covariance[:old, :old] = known.mean, known.covariance
    prior_mean, prior = np.zeros(size), np.diag(np.full(size, known.path_sigma_s**2))
    prior_mean[:AIR], prior[:AIR, :AIR] = medium.mean, _covariance(medium)
    lasting = np.full(size, math.exp(-moved_m / ALIKE_M))
    lasting[:AIR] = math.exp(-later_s / AIR_LASTS_S)
    lasting[old:] = 0.0
    shares = np.outer(lasting, lasting)
    return replace(
        known,
        nodes=known.nodes + new,
        mean=lasting * mean + (1.0 - lasting) * prior_mean,
        covariance=shares * covariance + (1.0 - shares) * prior,
    )


def _covariance(medium: Medium) -> Floats:
    return np.asarray(np.linalg.inv(medium.precision), dtype=np.float64)


def learnt(before: Paths, nodes: tuple[str, ...], fit: Fit) -> Paths:
    """Return what is known after a bang that was heard at `nodes`, in the order of its arrivals."""
    gain = before.covariance[:, before.rows(nodes)]
    covariance = before.covariance - gain @ fit.information @ gain.T
    return replace(before, mean=before.mean + gain @ fit.pull, covariance=(covariance + covariance.T) / 2.0)


def travel_slopes(offsets: Floats, air: Floats) -> Floats:
    """Return the slopes (n, 5) of `travel_time_s` to receivers at offsets (n, 3) in an air (3,).

    By place of the source (east, north, s/m), and by the air (s per m/s): the time t is implicit in
    |offset - wind t| = speed t.
    """
    times = travel_time_s(offsets, *air)
    rays = offsets[:, :2] - air[1:] * times[:, None]
    scale = np.maximum(rays @ air[1:] + air[0] ** 2 * times, NEAREST_M * air[0])[:, None]
    slopes: Floats = np.hstack([-rays, -air[0] * times[:, None] ** 2, -times[:, None] * rays]) / scale
    return slopes


def locate_along(paths: Paths, anchor: Floats, arrivals: Arrivals, start: Floats, weights: Floats) -> Fit:
    """Return where a bang was from its arrivals (n) and what is known of the paths to their nodes, in that order.

    `anchor` (3,) is that of the paths in the frame of the arrivals; `start` (east m, north m, time s) and the `weights`
    (n,) are first guesses.
    """
    air, delays = paths.mean[:AIR], paths.mean[AIR:]
    sigmas = np.hypot(arrivals.sigmas_s, REPEAT_SHARE * paths.path_sigma_s)
    slopes = travel_slopes(arrivals.nodes - anchor, air)
    count = len(sigmas)
    design = np.column_stack([slopes[:, :2], np.ones(count)])
    common = np.column_stack([slopes[:, 2:], np.eye(count)])
    shared = common @ paths.covariance @ common.T
    spreads = sigmas**2 + np.diag(shared)
    point = start.copy()
    for _ in range(MOST_ROUNDS):
        noise = sigmas**2 + spreads * (1.0 / np.maximum(weights, LEAST_WEIGHT) - 1.0)
        place = np.array([point[0], point[1], anchor[2]])
        residuals = arrivals.times_s - point[2] - travel_time_s(arrivals.nodes - place, *air) - delays
        solved = _least_squares(design, shared + np.diag(noise), residuals)
        point = point + solved.step
        spreads, log_ratio, judged = _judge(solved, noise, sigmas, arrivals.floors_hz)
        settled = np.abs(judged - weights).max() < SETTLED_WEIGHT and np.abs(solved.step[:2]).max() < SETTLED_M
        if settled:
            break
        weights = (weights + judged) / 2.0
    pull, information = common.T @ solved.pull, common.T @ solved.precision @ common
    cross = -solved.gain @ common @ paths.covariance[:, :AIR]
    learnt_air = paths.covariance[:AIR] @ information @ paths.covariance[:, :AIR]
    covariance = np.block([[solved.covariance, cross], [cross.T, paths.covariance[:AIR, :AIR] - learnt_air]])
    theta = np.concatenate([point, air + paths.covariance[:AIR] @ pull])
    return Fit(theta, covariance, judged, solved.log_evidence + log_ratio, pull, information)


class _Solved(NamedTuple):
    """Generalised least squares with a flat prior: step (k,), covariance (k, k) and gain (k, n) of the unknowns.

    `precision` (n, n) is that of the residuals with the unknowns integrated over, `pull` (n,) it times the residuals.
    """

    step: Floats
    covariance: Floats
    gain: Floats
    precision: Floats
    pull: Floats
    log_evidence: float


def _least_squares(design: Floats, covariance: Floats, residuals: Floats) -> _Solved:
    """Solve residuals (n,) = design (n, k) step + errors of a covariance (n, n)."""
    inverse = np.linalg.inv(covariance)
    weighted = inverse @ design
    normal = design.T @ weighted + np.diag(WEAKEST)
    unknowns = np.asarray(np.linalg.inv(normal), dtype=np.float64)
    gain = unknowns @ weighted.T
    precision = inverse - weighted @ gain
    pull = precision @ residuals
    freedom = len(residuals) - design.shape[1]
    log_determinants = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(normal)[1]
    log_evidence = -0.5 * (residuals @ pull + log_determinants + freedom * math.log(2.0 * math.pi))
    return _Solved(gain @ residuals, unknowns, gain, precision, pull, float(log_evidence))


def _judge(solved: _Solved, noise: Floats, sigmas_s: Floats, floors_hz: Floats) -> tuple[Floats, float, Floats]:
    """Return of every arrival the variance (s^2) with which all others foretell it, and its weight in view of them.

    Between them stands by how much the evidence grows (log) where arrivals have the late tail and the floor of `solver`
    instead of the `noise` (variances) that stood for them.
    """
    apart = np.maximum(np.diag(solved.precision), 1e-9 / noise)
    misses = solved.pull / apart
    variances = np.maximum(1.0 / apart - noise, 0.0) + sigmas_s**2
    judged = np.array(
        [
            arrival_log_density(miss, math.sqrt(variance), LATE_SHARE, floor_hz)
            for miss, variance, floor_hz in zip(misses, variances, floors_hz, strict=True)
        ]
    )
    gaussian = -0.5 * (misses**2 * apart + np.log(2.0 * math.pi / apart))
    return variances, float(np.sum(judged[:, 0] - gaussian)), judged[:, 3]
