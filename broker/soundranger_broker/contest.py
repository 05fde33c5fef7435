"""The contest: which bang owns which arrival where several overlap, by the evidence of all of them together.

The search takes one bang after the other, within a wide tolerance. Rounds of automatic fire, and shots of two shooters,
lie within that tolerance of one another: what it finds is a draft. The joint log evidence of a set of bangs is the sum
of

* for each, how much better it explains its own arrivals than clutter does, integrated over all its unknowns;
* for each, its log rate: of bangs anywhere and, after an earlier one, of one more round from about the same place that
  about the same nodes hear (a self-exciting process: Hawkes 1971; so Ogata 1988 describes aftershocks);
* for every other arrival that comes after a round as echoes of earlier rounds from there did, how much better that
  explains it than clutter;
* less, for each, the log odds that a bang must have to be taken.

Moves that raise it are made until none does: arrivals are dealt out anew, node by node, as an assignment problem;
rounds from about one place are looked for again, all at once, where most arrivals of all of them agree; bangs and
series that the others have left without evidence are dropped. So the joint evidence never falls.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.optimize import linear_sum_assignment

from soundranger_broker import series
from soundranger_broker.echoes import LATEST_S, echo_rates_hz
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import average
from soundranger_broker.search import TABLE_STEP_M, Arrivals, Evidence, Flags, Ints, Scene, level_evidence
from soundranger_broker.solver import UNKNOWNS, Problem, arrival_log_density, predict

# Log odds, point (east m, north m, firing time s) and arrivals (n,; -1: silent), as the search gives them.
Hypothesis = tuple[float, Floats, Ints]

# An arrival further off than this (s) is no bang's: sound that bends round a building is not that late.
MOST_OFF_S = 0.3
# Rounds this close to one another (m) may have one another's arrivals, and be from one place; so may those within
# this time (s) of one another: automatic fire with a round or two not heard.
FAMILY_M = 120.0
FAMILY_S = 1.0
# A round before the first or after the last one known is looked for this long (s) before and after.
MORE_S = 0.35
# Ghosts made of echoes follow their rounds after times that differ by less than this (s).
SAME_WAIT_S = 0.02
# A round looked for at a known place must have this score; the joint evidence decides of it.
LEAST_SCORE = 8.0
# A node that heard one round hears the next from there with this probability (live fire: 0.84 to 0.97 by the place).
HEARD_AGAIN = 0.85
# What does not raise the joint evidence by this much is the same.
LEAST_RISE = 1e-6
# A contest ends by itself after a few sweeps; more than this would be two that change places for ever.
MOST_SWEEPS = 10


class Again(NamedTuple):
    """How often one more round follows: `rates_hz` at first, each falling by e in its `decays_s`, and how near.

    The density of its place falls by e with every `fall_m`.
    """

    rates_hz: tuple[float, ...]
    decays_s: tuple[float, ...]
    fall_m: float


class Earlier(NamedTuple):
    """Bangs that are settled: places (k, 2), metres, times (k,), seconds, and the nodes that heard them (k, n)."""

    places: Floats
    times_s: Floats
    heard: Flags


@dataclass(frozen=True)
class Claim:
    """A bang in the contest: its arrivals (n,; -1: silent), and what they say of it.

    `theta` and `covariance` as in `location.Location`; `worth` is the log ratio of its arrivals' density to that of
    clutter, at a prior density of 1 per square metre and second.
    """

    chosen: Ints
    theta: Floats = field(repr=False)
    covariance: Floats = field(repr=False)
    path_sigma_s: float
    source_up_m: float
    worth: float


@njit(cache=True)
def _hearing(scene: Scene, point: Floats, chosen: Ints) -> tuple[float, int]:
    """Return the log chance that those who heard a bang did, and no others, and the loudness that makes it largest."""
    classes, bins = scene.log_hear.shape
    totals = np.full(classes, -math.log(classes))
    for n in range(len(scene.nodes)):
        distance = math.hypot(scene.nodes[n, 0] - point[0], scene.nodes[n, 1] - point[1])
        place = round(distance / TABLE_STEP_M)
        for k in range(classes):
            if chosen[n] >= 0:
                totals[k] += scene.log_hear[k, min(place, bins - 1)]
            elif place < bins:
                totals[k] += scene.log_silent[scene.doubtful[n], k, place]
    loudest = int(totals.argmax())
    return totals[loudest], loudest


@njit(cache=True)
def _heard_again(scene: Scene, points: Floats, chosen: Ints, heard: Flags) -> Floats:
    """Return how much likelier it is who heard bangs (k) if each came after a round like others (p) that `heard` tells.

    Log ratios (k, p) to the chances of a bang that nothing is known of.
    """
    bins = scene.log_hear.shape[1]
    ratios = np.zeros((len(chosen), len(heard)))
    for k in range(len(chosen)):
        _, loudest = _hearing(scene, points[k], chosen[k])
        for n in range(len(scene.nodes)):
            distance = math.hypot(scene.nodes[n, 0] - points[k, 0], scene.nodes[n, 1] - points[k, 1])
            place = min(round(distance / TABLE_STEP_M), bins - 1)
            if chosen[k, n] >= 0:
                ratio = math.log(HEARD_AGAIN) - scene.log_hear[loudest, place]
            else:
                ratio = math.log(1.0 - HEARD_AGAIN) - scene.log_silent[scene.doubtful[n], loudest, place]
            for p in range(len(heard)):
                if heard[p, n]:
                    ratios[k, p] += ratio
    return ratios


@njit(cache=True)
def _explain(
    scene: Scene, arrivals: Arrivals, evidence: Evidence, point: Floats, chosen: Ints
) -> tuple[Floats, Floats, float, float, float]:
    """Return theta, covariance, path sigma, height and worth (see `Claim`) of a bang near `point`."""
    picked = chosen[chosen >= 0]
    source_up_m = float(np.median(evidence.places[picked, 2]))
    problem = Problem(
        evidence.places[picked],
        arrivals.times_s[picked],
        evidence.sigmas_s[picked],
        source_up_m,
        evidence.medium,
        evidence.precision,
    )
    mean, covariance, path_sigma_s, log_evidence = average(problem, point.reshape(1, 3))
    east, north = evidence.places[picked, 0] - mean[0], evidence.places[picked, 1] - mean[1]
    levels = level_evidence(evidence.snr_db[picked], np.sqrt(east**2 + north**2))
    hearing, _ = _hearing(scene, mean, chosen)
    worth = log_evidence + levels + hearing - np.sum(evidence.log_clutter[picked])
    return mean, covariance, path_sigma_s, source_up_m, worth


@njit(cache=True)
def _stakes(
    scene: Scene,
    arrivals: Arrivals,
    evidence: Evidence,
    chosen: Ints,
    theta: Floats,
    covariance: Floats,
    path_sigma_s: float,
    source_up_m: float,
) -> Floats:
    """Return how much more each arrival (m,) is worth to a bang than as clutter, its node being silent instead."""
    _, loudest = _hearing(scene, theta, chosen)
    bins = scene.log_hear.shape[1]
    stakes = np.full(len(arrivals.times_s), -np.inf)
    slopes = np.empty((1, UNKNOWNS))
    for n in range(len(scene.nodes)):
        low, high = arrivals.starts[n], arrivals.starts[n + 1]
        place = round(math.hypot(scene.nodes[n, 0] - theta[0], scene.nodes[n, 1] - theta[1]) / TABLE_STEP_M)
        if low == high or place >= bins:
            continue
        expected = predict(theta, evidence.places[low : low + 1], source_up_m, slopes)[0]
        unsure = slopes[0] @ covariance @ slopes[0] + path_sigma_s**2
        hear = scene.log_hear[loudest, place] - scene.log_silent[scene.doubtful[n], loudest, place]
        for i in range(low, high):
            off = arrivals.times_s[i] - expected
            if abs(off) < MOST_OFF_S:
                density = arrival_log_density(off, math.sqrt(evidence.sigmas_s[i] ** 2 + unsure))[0]
                stakes[i] = density - evidence.log_clutter[i] + hear
    return stakes


class Contest:
    """A contest for the arrivals of a window, among bangs fired at `start_s` or later, heard by `min_nodes` or more.

    `earlier` bangs are settled and own none of the arrivals.
    """

    def __init__(
        self,
        scene: Scene,
        arrivals: Arrivals,
        evidence: Evidence,
        earlier: Earlier,
        again: Again,
        min_nodes: int,
        start_s: float,
    ) -> None:
        self._scene, self._arrivals, self._evidence = scene, arrivals, evidence
        self._earlier, self._again = earlier, again
        self._min_nodes, self._start_s = min_nodes, start_s
        self._owner = series.owners(arrivals)
        self._known: dict[bytes, Claim] = {}

    def settle(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Return the hypotheses that stand, each with its own arrivals, in the order of their log odds.

        The log odds of each are those given that all others stand.
        """
        claims = self.improve([self.claim(point, chosen) for _, point, chosen in hypotheses])
        odds = [self.odds(claims, k) for k in range(len(claims))]
        settled = [(value, one.theta[:3].copy(), one.chosen) for value, one in zip(odds, claims, strict=True)]
        return sorted(settled, key=lambda one: -one[0])

    def claim(self, point: Floats, chosen: Ints) -> Claim:
        """Return what arrivals say of a bang near a point."""
        key = chosen.tobytes()
        if key not in self._known:
            found = _explain(self._scene, self._arrivals, self._evidence, point, chosen)
            self._known[key] = Claim(chosen, *found)
        return self._known[key]

    def joint(self, claims: Sequence[Claim]) -> float:
        """Return the joint log evidence of bangs."""
        worth = sum(one.worth for one in claims) + float(self._echoes(claims).sum())
        return worth + float(self._log_rates(claims).sum()) - self._evidence.least_log_odds * len(claims)

    def odds(self, claims: Sequence[Claim], k: int) -> float:
        """Return the log odds of one of the bangs, given all others."""
        others = [one for number, one in enumerate(claims) if number != k]
        return self.joint(claims) - self.joint(others) + self._evidence.least_log_odds

    def improve(self, claims: list[Claim]) -> list[Claim]:
        """Return bangs of the highest joint evidence that moves from these lead to."""
        for _ in range(MOST_SWEEPS):
            before = claims
            for move in (self._dealt, self._in_series, self._dropped):
                better: list[Claim] | None = claims
                while better is not None:
                    claims = better
                    better = self._better(claims, move(claims))
            if claims is before:
                break
        return claims

    def _better(self, claims: list[Claim], proposals: Iterator[list[Claim]]) -> list[Claim] | None:
        """Return the first proposal of more joint evidence than the bangs have, or None."""
        least = self.joint(claims) + LEAST_RISE
        return next((proposal for proposal in proposals if self.joint(proposal) > least), None)

    def _log_rates(self, claims: Sequence[Claim]) -> Floats:
        """Return the log rate (m^-2 s^-1) of each bang (k,), given those before it."""
        evidence, again = self._evidence, self._again
        places = np.array([one.theta[:2] for one in claims]).reshape(-1, 2)
        times_s = np.array([one.theta[2] for one in claims])
        outside = np.maximum(np.maximum(evidence.low - places, places - evidence.high), 0.0)
        anywhere = evidence.log_prior - np.linalg.norm(outside, axis=1) / evidence.fall_m
        parents = np.concatenate([self._earlier.places, places])
        after_s = times_s[:, None] - np.concatenate([self._earlier.times_s, times_s])
        apart_m = np.linalg.norm(places[:, None] - parents, axis=2)
        chosen = np.array([one.chosen for one in claims]).reshape(-1, len(self._scene.nodes))
        heard = np.concatenate([self._earlier.heard, chosen >= 0])
        thetas = np.array([one.theta for one in claims]).reshape(-1, UNKNOWNS)
        likeness = _heard_again(self._scene, thetas, chosen, heard) - apart_m / again.fall_m
        waits_s = np.maximum(after_s, 0.0)[:, :, None]
        log_rates = np.logaddexp.reduce(np.log(again.rates_hz) - waits_s / np.array(again.decays_s), axis=2)
        more = log_rates + likeness - math.log(2.0 * math.pi * again.fall_m**2)
        more[after_s <= 0.0] = -np.inf
        summed: Floats = np.logaddexp.reduce(np.c_[anywhere, more], axis=1)
        return summed

    def _echoes(self, claims: Sequence[Claim]) -> Floats:
        """Return how much better than clutter the echoes of series explain each arrival (m,), in logarithms."""
        if not claims:
            return np.zeros(len(self._owner))
        claims = sorted(claims, key=lambda one: float(one.theta[2]))
        chosen, points = np.array([one.chosen for one in claims]), np.array([one.theta[:3] for one in claims])
        rates_hz = echo_rates_hz(self._arrivals, self._evidence.sigmas_s, chosen, points)
        explained: Floats = np.log1p(rates_hz * np.exp(-self._evidence.log_clutter))
        return explained

    def _dealt(self, claims: list[Claim]) -> Iterator[list[Claim]]:
        """Yield the bangs after all arrivals were dealt out anew; then those after the arrivals of one node were."""
        if not claims:
            return
        dealt = self._deal(claims)
        held = np.array([one.chosen for one in claims])
        changed = np.flatnonzero((dealt != held).any(axis=0))
        if len(changed) == 0:
            return
        points = [one.theta[:3] for one in claims]
        yield self._claims(points, dealt)
        for node in changed if len(changed) > 1 else ():
            one = held.copy()
            one[:, node] = dealt[:, node]
            yield self._claims(points, one)

    def _deal(self, claims: Sequence[Claim]) -> Ints:
        """Return who gets which arrival, (k, n), the arrivals of each node going where they are worth most."""
        stakes = np.array([self._stakes(one) for one in claims]) - self._echoes(claims)
        dealt = np.full((len(claims), len(self._scene.nodes)), -1)
        for node in range(dealt.shape[1]):
            low, high = self._arrivals.starts[node], self._arrivals.starts[node + 1]
            gains = np.maximum(stakes[:, low:high], 0.0)
            for k, i in zip(*linear_sum_assignment(gains, maximize=True), strict=True):
                if gains[k, i] > 0.0:
                    dealt[k, node] = low + i
        return dealt

    def _stakes(self, one: Claim) -> Floats:
        return _stakes(
            self._scene,
            self._arrivals,
            self._evidence,
            one.chosen,
            one.theta,
            one.covariance,
            one.path_sigma_s,
            one.source_up_m,
        )

    def _claims(self, points: Iterable[Floats], chosen: Ints) -> list[Claim]:
        """Return what arrivals (k, n) say of bangs near points, where these are bangs of this contest."""
        enough = ((one, row) for one, row in zip(points, chosen, strict=True) if (row >= 0).sum() >= self._min_nodes)
        claims = [self.claim(one, row) for one, row in enough]
        return [one for one in claims if one.theta[2] >= self._start_s]

    def _in_series(self, claims: list[Claim]) -> Iterator[list[Claim]]:
        """Yield the bangs after those near one of them were looked for again, at one place."""
        for family in self._families(claims):
            others = [one for number, one in enumerate(claims) if number not in family]
            free = self._free(others)
            times = [claims[k].theta[2] for k in family]
            span = np.array([max(min(times) - MORE_S, self._start_s), max(times) + MORE_S])
            centre = np.mean([claims[k].theta[:2] for k in family], axis=0)
            best = series.best_place(self._scene, self._arrivals, self._owner, free, centre, span)
            for place in (best, *(claims[k].theta[:2].copy() for k in family)):
                points, chosen = series.rounds_at(
                    self._scene, self._arrivals, self._owner, free, place, span, self._min_nodes, LEAST_SCORE
                )
                yield others + self._claims(points, chosen)

    def _free(self, claims: Sequence[Claim]) -> Ints:
        """Return the arrivals that are none of the bangs'."""
        free = np.ones(len(self._owner), dtype=bool)
        for one in claims:
            free[one.chosen[one.chosen >= 0]] = False
        return np.flatnonzero(free)

    def _families(self, claims: Sequence[Claim]) -> list[tuple[int, ...]]:
        """Return, for each bang, those near it in place and time, each set once."""
        places = np.array([one.theta[:2] for one in claims]).reshape(-1, 2)
        times_s = np.array([one.theta[2] for one in claims])
        near = np.linalg.norm(places[:, None] - places, axis=2) < FAMILY_M
        near &= np.abs(times_s[:, None] - times_s) < FAMILY_S
        return list(dict.fromkeys(tuple(np.flatnonzero(row).tolist()) for row in near))

    def _dropped(self, claims: list[Claim]) -> Iterator[list[Claim]]:
        """Yield the bangs without one of them, the least likely first, and without series of them."""
        for k in sorted(range(len(claims)), key=lambda k: self.odds(claims, k)):
            yield [one for number, one in enumerate(claims) if number != k]
        series_of = {found for family in self._families(claims) for found in self._series(claims, family)}
        for found in sorted(series_of, key=len):
            yield [one for number, one in enumerate(claims) if number not in found]

    @staticmethod
    def _series(claims: Sequence[Claim], family: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield the bangs of a family, and those of them that follow others after the same time, as echoes do."""
        yield family
        times_s = np.array([claims[k].theta[2] for k in family])
        waits_s = times_s - times_s[:, None]
        for wait_s in waits_s[(waits_s > 0.0) & (waits_s < LATEST_S)]:
            follows = (np.abs(waits_s - wait_s) < SAME_WAIT_S).any(axis=0)
            yield tuple(k for k, so in zip(family, follows, strict=True) if so)
