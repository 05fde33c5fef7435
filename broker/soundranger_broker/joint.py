"""Joint evidence: how well a set of bangs explains all arrivals of a window together.

The joint log evidence of a set of bangs is the sum of

* for each, how much better it explains its own arrivals than clutter does, integrated over all its unknowns;
* for each, its log rate: of bangs anywhere and, after an earlier one, of one more round from about the same place that
  about the same nodes hear, about as loud (a self-exciting process: Hawkes 1971; so Ogata 1988 describes aftershocks);
* for every other arrival that comes after a round as echoes of earlier rounds from there did, how much better that
  explains it than clutter;
* less, for each, the log odds that a bang must have to be taken.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from soundranger_broker import claims
from soundranger_broker.claims import Claim
from soundranger_broker.echoes import echo_rates_hz
from soundranger_broker.geodesy import Floats
from soundranger_broker.scoring import Arrivals, Evidence, Flags, Ints, Scene
from soundranger_broker.solver import UNKNOWNS


class Again(NamedTuple):
    """How often one more round follows: `rates_hz` at first, each falling by e in its `decays_s`, and how near.

    The density of its place falls by e with every `fall_m`.
    """

    rates_hz: tuple[float, ...]
    decays_s: tuple[float, ...]
    fall_m: float


class Earlier(NamedTuple):
    """Bangs that are settled: places (k, 2), m, times (k,), s, who heard them (k, n) and how loud (k, n, measures)."""

    places: Floats
    times_s: Floats
    heard: Flags
    levels_db: Floats


class JointEvidence:
    """What the arrivals of a window say of sets of bangs.

    `levels_db` (m, `MEASURES`) are those of the arrivals; `earlier` bangs are settled and own none of these.
    """

    def __init__(
        self,
        scene: Scene,
        arrivals: Arrivals,
        evidence: Evidence,
        levels_db: Floats,
        earlier: Earlier,
        again: Again,
    ) -> None:
        self.scene, self.arrivals, self.evidence = scene, arrivals, evidence
        # A row more, for what was not heard.
        self._levels_db = np.concatenate([levels_db, np.full((1, levels_db.shape[1]), np.nan)])
        self._earlier, self._again = earlier, again
        self._known: dict[bytes, Claim] = {}

    def claim(self, point: Floats, chosen: Ints) -> Claim:
        """Return what arrivals say of a bang near a point."""
        key = chosen.tobytes()
        if key not in self._known:
            found = claims.explain(self.scene, self.arrivals, self.evidence, point, chosen)
            self._known[key] = Claim(chosen, *found)
        return self._known[key]

    def stakes(self, one: Claim) -> Floats:
        """Return how much more each arrival (m,) is worth to a bang than as clutter, its node being silent instead."""
        return claims.stakes(
            self.scene, self.arrivals, self.evidence, one.chosen, one.theta, one.covariance, one.path_sigma_s
        )

    def of(self, bangs: Sequence[Claim]) -> float:
        """Return the joint log evidence of bangs."""
        if not bangs:
            return 0.0
        worth = sum(one.worth for one in bangs) + float(self.echoes(bangs).sum())
        return worth + float(self._log_rates(bangs).sum()) - self.evidence.least_log_odds * len(bangs)

    def odds(self, bangs: Sequence[Claim], k: int) -> float:
        """Return the log odds of one of the bangs, given all others."""
        return self.of(bangs) - self.of([*bangs[:k], *bangs[k + 1 :]]) + self.evidence.least_log_odds

    def echoes(self, bangs: Sequence[Claim]) -> Floats:
        """Return how much better than clutter the echoes of series explain each arrival (m,), in logarithms."""
        if not bangs:
            return np.zeros(len(self.arrivals.times_s))
        bangs = sorted(bangs, key=lambda one: float(one.theta[2]))
        chosen, points = np.array([one.chosen for one in bangs]), np.array([one.theta[:3] for one in bangs])
        rates_hz = echo_rates_hz(self.arrivals, self.evidence.sigmas_s, chosen, points)
        explained: Floats = np.log1p(rates_hz * np.exp(-self.evidence.log_clutter))
        return explained

    def _log_rates(self, bangs: Sequence[Claim]) -> Floats:
        """Return the log rate (m^-2 s^-1) of each bang (k,), given those before it."""
        evidence, again, earlier = self.evidence, self._again, self._earlier
        thetas = np.array([one.theta for one in bangs]).reshape(-1, UNKNOWNS)
        chosen = np.array([one.chosen for one in bangs])
        levels_db = self._levels_db[chosen]
        places, times_s = thetas[:, :2], thetas[:, 2]
        outside = np.maximum(np.maximum(evidence.low - places, places - evidence.high), 0.0)
        anywhere = evidence.log_prior - np.linalg.norm(outside, axis=1) / evidence.fall_m
        after_s = times_s[:, None] - np.concatenate([earlier.times_s, times_s])
        apart_m = np.linalg.norm(places[:, None] - np.concatenate([earlier.places, places]), axis=2)
        before_heard = np.concatenate([earlier.heard, chosen >= 0])
        before_db = np.concatenate([earlier.levels_db, levels_db])
        alike = claims.likeness(self.scene, thetas, chosen, levels_db, before_heard, before_db)
        waits_s = np.maximum(after_s, 0.0)[:, :, None]
        log_rates = np.logaddexp.reduce(np.log(again.rates_hz) - waits_s / np.array(again.decays_s), axis=2)
        more = log_rates + alike - apart_m / again.fall_m - math.log(2.0 * math.pi * again.fall_m**2)
        more[after_s <= 0.0] = -np.inf
        summed: Floats = np.logaddexp.reduce(np.c_[anywhere, more], axis=1)
        return summed
