"""How far off the times of nodes are: what settled bangs say of clocks that state too little an error.

For every node a distribution over its offset is kept on a grid, with most of its weight on none at all. A bang
foretells when its sound reached the node; every arrival near that time speaks for the offset that would explain it,
against chance at the node's clutter rate. So the arrivals of a wrong clock pile up at one offset, and chance spreads.
Between bangs each offset may change into any other (a step of the clock) at a small rate, so a clock that is right
again is believed again (a hidden Markov model: Rabiner 1989).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from soundranger_broker.acoustics import travel_time_s
from soundranger_broker.bang import MIN_NODES, USED_WEIGHT, Bang, Heard
from soundranger_broker.faults import Fault
from soundranger_broker.geodesy import Floats
from soundranger_broker.given import RIGHT, Offset
from soundranger_broker.paths import travel_slopes
from soundranger_broker.solver import CORE_SHARE, FLOOR_SHARE, LATE_MEAN_S, LATE_SHARE

# Offsets are looked for up to this: the times of a node that is off by more fit nothing, and are refused as chance.
MOST_S = 1.0
# The grid: finer than a bang foretells an arrival.
STEP_S = 0.002
# Paths around buildings make arrivals early or late by less than this, so a smaller offset could be one of those.
LEAST_S = 0.012
# One node in fifty is off.
OFF_SHARE = 0.02
# A clock changes its error about once a day: a step, a restart, a server that is lost.
CHANGES_PER_S = 1.0 / 86_400.0
# Errors of the path that no bang knows of.
PATH_SIGMA_S = 0.004
# A node that should hear a bang does so about this often.
HEARING = 0.7
# Further off than this a node may well not have heard it, and the air makes predictions poor.
MOST_RANGE_M = 1_000.0
# An offset is believed when it is this likely.
BELIEVED = 0.95
# A clock that is off is not trusted to keep that offset better than this share of it.
TRUSTED_SHARE = 0.05
# What is said of other nodes must not rest on the node itself: that many others agree, and there is no doubt.
OTHERS = MIN_NODES
LEAST_LOG_ODDS = 7.0
# An arrival of which all but this much is foretold by itself alone says nothing of its node.
LEAST_LEFT = 0.2
# The last arrivals of a bang come so much later than it.
LONGEST_S = MOST_RANGE_M / 300.0 + MOST_S

GRID_S = np.arange(-round(MOST_S / STEP_S), round(MOST_S / STEP_S) + 1) * STEP_S
NONE = len(GRID_S) // 2


def _prior() -> Floats:
    """Return the share of nodes that are off by each offset of the grid, (k,)."""
    shares = np.where(np.abs(GRID_S) < LEAST_S, 0.0, 1.0)
    shares *= OFF_SHARE / shares.sum()
    shares[NONE] = 1.0 - OFF_SHARE
    return shares


PRIOR = _prior()


@dataclass(eq=False)
class Clock:
    """What is known of the offset of a node: the probability of each of the grid (k,), since when, from how many bangs.

    `since_ns` and `bangs` are those since it is not known to be right.
    """

    shares: Floats
    time_ns: int
    since_ns: int = 0
    bangs: int = 0

    def drifted(self, time_ns: int) -> Floats:
        """Return the probabilities at a later time."""
        lasting = math.exp(-max(time_ns - self.time_ns, 0) / 1e9 * CHANGES_PER_S)
        return lasting * self.shares + (1.0 - lasting) * PRIOR

    def offset(self, time_ns: int) -> Offset | None:
        """Return how far off the node is known to be at a time, None if it is not known to be off."""
        shares = self.drifted(time_ns)
        if 1.0 - shares[NONE] < BELIEVED:
            return None
        shares[NONE] = 0.0
        shares /= shares.sum()
        mean_s = float(shares @ GRID_S)
        spread_s = math.sqrt(float(shares @ (GRID_S - mean_s) ** 2))
        return Offset(mean_s, math.hypot(spread_s, STEP_S, TRUSTED_SHARE * mean_s))


class OffsetMemory:
    """The offsets of all nodes that bangs said anything of; bangs must be observed in a fixed order."""

    def __init__(self) -> None:
        self._clocks: dict[str, Clock] = {}

    def known(self, time_ns: int) -> Mapping[str, Offset]:
        """Return the offsets, at a time, of the nodes that are known to be off."""
        offsets = ((node, clock.offset(time_ns)) for node, clock in self._clocks.items() if clock.bangs)
        return {node: offset for node, offset in offsets if offset is not None}

    def faults(self) -> Sequence[Fault]:
        """Return the nodes that are known to be off, as of the last bang that said something of them."""
        return [
            Fault(node, "clock", offset.sigma_s, clock.since_ns, clock.bangs, size_s=offset.mean_s)
            for node, clock in sorted(self._clocks.items())
            if clock.bangs and (offset := clock.offset(clock.time_ns)) is not None
        ]

    def observe(self, bang: Bang, unclaimed: Sequence[Heard]) -> None:
        """Learn from a bang, the arrivals that it made and those that no bang made."""
        if bang.log_odds < LEAST_LOG_ODDS or (bang.location.weights > USED_WEIGHT).sum() < OTHERS:
            return
        own = _own_evidence(bang)
        others = _other_evidence(bang, [one for one in unclaimed if one.detection.node not in own])
        for node, (log_ratios, heard_ns) in (own | others).items():
            self._update(node, log_ratios, heard_ns)

    def _update(self, node: str, ratios: Floats, time_ns: int) -> None:
        clock = self._clocks.setdefault(node, Clock(PRIOR.copy(), time_ns))
        shares = clock.drifted(time_ns) * ratios
        clock.shares = shares / shares.sum()
        clock.time_ns = max(time_ns, clock.time_ns)
        if clock.shares[NONE] > 1.0 - OFF_SHARE / 2.0:
            clock.since_ns, clock.bangs = 0, 0
        elif ratios.max() > 1.0:
            clock.since_ns = clock.since_ns or time_ns
            clock.bangs += 1


def _ratios(differences_s: Sequence[float], sigmas_s: Sequence[float], clutters_hz: Sequence[float]) -> Floats:
    """Return how much likelier a node's arrivals (m,) are than chance, for every offset of the grid (k,)."""
    total = np.full(len(GRID_S), 1.0 - HEARING)
    for difference_s, sigma_s, clutter_hz in zip(differences_s, sigmas_s, clutters_hz, strict=True):
        off = difference_s - GRID_S
        core = CORE_SHARE / (math.sqrt(2.0 * math.pi) * sigma_s) * np.exp(-0.5 * (off / sigma_s) ** 2)
        late = LATE_SHARE / LATE_MEAN_S * np.where(off > 0.0, np.exp(-np.maximum(off, 0.0) / LATE_MEAN_S), 0.0)
        total += HEARING * (core + late + FLOOR_SHARE) / clutter_hz
    return total


def _own_evidence(bang: Bang) -> dict[str, tuple[Floats, int]]:
    """Return what the arrivals that a bang rests on say of their nodes, as foretold by all the others."""
    foretold = _foretold(bang, ways_m(bang, bang.heard))
    evidence = {}
    for i, one in enumerate(bang.heard):
        offset = bang.given.offsets.get(one.detection.node, RIGHT)
        own = one.sigma_s**2 + offset.sigma_s**2 + bang.location.path_sigma_s**2
        left = 1.0 - bang.location.weights[i] * foretold[i] / own
        enough = (np.delete(bang.location.weights, i) > USED_WEIGHT).sum() >= OTHERS
        if not enough or left < LEAST_LEFT:
            continue
        # An arrival pulls the bang to itself by what it weighs there: without it, it would miss by this much more.
        miss_s = bang.location.residuals_s[i] / left
        sigma_s = math.sqrt(one.sigma_s**2 + bang.location.path_sigma_s**2 + foretold[i] / left)
        difference_s = miss_s + offset.mean_s
        ratios = _ratios([difference_s], [math.hypot(sigma_s, PATH_SIGMA_S)], [one.clutter_hz])
        evidence[one.detection.node] = (ratios, one.detection.time_ns)
    return evidence


def _other_evidence(bang: Bang, unclaimed: Sequence[Heard]) -> dict[str, tuple[Floats, int]]:
    """Return what arrivals near those that a bang foretells say of their nodes."""
    first_ns, last_ns = bang.time_ns - round(MOST_S * 1e9), bang.time_ns + round(LONGEST_S * 1e9)
    near = [one for one in unclaimed if first_ns <= one.detection.time_ns <= last_ns]
    if not near:
        return {}
    offsets_m = ways_m(bang, near)
    times_s = travel_time_s(offsets_m, *bang.location.theta[3:])
    foretold = _foretold(bang, offsets_m)
    gathered: dict[str, list[tuple[float, float, float, int]]] = {}
    for one, time_s, variance, offset_m in zip(near, times_s, foretold, offsets_m, strict=True):
        difference_s = (one.detection.time_ns - bang.time_ns) / 1e9 - time_s
        within = math.hypot(offset_m[0], offset_m[1]) < MOST_RANGE_M
        if within and abs(difference_s) <= MOST_S:
            sigma_s = math.sqrt(one.sigma_s**2 + bang.location.path_sigma_s**2 + variance + PATH_SIGMA_S**2)
            one_said = (difference_s, sigma_s, one.clutter_hz, one.detection.time_ns)
            gathered.setdefault(one.detection.node, []).append(one_said)
    return {
        node: (_ratios([d for d, *_ in said], [s for _, s, *_ in said], [c for _, _, c, _ in said]), said[0][3])
        for node, said in gathered.items()
    }


def _foretold(bang: Bang, offsets_m: Floats) -> Floats:
    """Return the variance (s^2) with which a bang foretells its arrivals `offsets_m` (n, 3) from it, (n,)."""
    slopes = travel_slopes(offsets_m, bang.location.theta[3:])
    rows = np.column_stack([slopes[:, :2], np.ones(len(slopes)), slopes[:, 2:]])
    variances: Floats = np.einsum("ia,ab,ib->i", rows, bang.location.covariance, rows)
    return variances


def ways_m(bang: Bang, heard: Sequence[Heard]) -> Floats:
    """Return where nodes are from a bang: east, north and up (n, 3), metres."""
    fixes = np.array([(one.detection.lat, one.detection.lon, one.detection.alt_m) for one in heard])
    source = np.array([bang.location.theta[0], bang.location.theta[1], bang.source_up_m])
    offsets_m: Floats = bang.frame.to_enu(*fixes.T) - source
    return offsets_m
