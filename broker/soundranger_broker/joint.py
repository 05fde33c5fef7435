"""Joint evidence: how well a set of bangs explains all arrivals of a window together.

The joint log evidence of a set of bangs is the sum of

* for each, how much better it explains its own arrivals than clutter does, integrated over all its unknowns;
* for each, its log rate: of bangs anywhere and, after an earlier one, of one more round from about the same place that
  about the same nodes hear, about as loud (a self-exciting process: Hawkes 1971; so Ogata 1988 describes aftershocks);
* for every other arrival that comes after a round as echoes of earlier rounds from there did, how much better that
  explains it than clutter;
* less, for each, the log odds that a bang must have to be taken.
"""

from collections.abc import Collection

import numpy as np

from soundranger_broker import claims
from soundranger_broker.claims import Claim
from soundranger_broker.echoes import echo_rates_hz
from soundranger_broker.geodesy import Floats
from soundranger_broker.rounds import Again, Rounds, log_rates
from soundranger_broker.scoring import Arrivals, Evidence, Ints, Scene


class JointEvidence:
    """What the arrivals of a window say of sets of bangs; what was weighed once is remembered.

    `levels_db` (m, `MEASURES`) are those of the arrivals; `earlier` bangs are settled and own none of these.
    """

    def __init__(
        self,
        scene: Scene,
        arrivals: Arrivals,
        evidence: Evidence,
        levels_db: Floats,
        earlier: Rounds,
        again: Again,
    ) -> None:
        self.scene, self.arrivals, self.evidence = scene, arrivals, evidence
        # A row more, for what was not heard.
        self._levels_db = np.concatenate([levels_db, np.full((1, levels_db.shape[1]), np.nan)])
        self._earlier, self._again = earlier, again
        self._claims: dict[bytes, Claim] = {}
        self._weighed: dict[frozenset[Claim], tuple[float, Floats]] = {}

    def claim(self, point: Floats, chosen: Ints) -> Claim:
        """Return what arrivals say of a bang near a point."""
        key = chosen.tobytes()
        if key not in self._claims:
            self._claims[key] = self._claim(point, chosen)
        return self._claims[key]

    def of(self, bangs: Collection[Claim]) -> float:
        """Return the joint log evidence of bangs."""
        return self._weigh(frozenset(bangs))[0]

    def odds(self, bangs: Collection[Claim], one: Claim) -> float:
        """Return the log odds of one of the bangs, given all others."""
        every = frozenset(bangs)
        return self._weigh(every)[0] - self._weigh(every - {one})[0] + self.evidence.least_log_odds

    def echoes(self, bangs: Collection[Claim]) -> Floats:
        """Return how much better than clutter the echoes of series explain each arrival (m,), in logarithms."""
        return self._weigh(frozenset(bangs))[1]

    def _claim(self, point: Floats, chosen: Ints) -> Claim:
        scene, evidence = self.scene, self.evidence
        explained = claims.explain(scene, self.arrivals, evidence, point, chosen)
        theta, covariance, path_sigma_s, used, worth, loudest = explained
        stakes = claims.stakes(scene, self.arrivals, evidence, theta, covariance, path_sigma_s, loudest)
        again = claims.heard_again(scene, theta, chosen, loudest)
        outside = np.maximum(np.maximum(evidence.low - theta[:2], theta[:2] - evidence.high), 0.0)
        anywhere = np.array([evidence.log_prior - np.hypot(*outside) / evidence.fall_m])
        alone = self._rounds(theta[None], chosen[None])
        log_rate = log_rates(anywhere, again[None], alone, self._earlier, self._again)
        return Claim(chosen, theta, used, worth, stakes, again, float(log_rate[0]))

    def _weigh(self, bangs: frozenset[Claim]) -> tuple[float, Floats]:
        """Return the joint log evidence of bangs, and the part of it that echoes have, arrival by arrival (m,)."""
        if bangs not in self._weighed:
            self._weighed[bangs] = self._weigh_anew(sorted(bangs, key=lambda one: float(one.theta[2])))
        return self._weighed[bangs]

    def _weigh_anew(self, bangs: list[Claim]) -> tuple[float, Floats]:
        """Weigh bangs in the order of time."""
        if not bangs:
            return 0.0, np.zeros(len(self.arrivals.times_s))
        chosen, thetas = np.array([one.chosen for one in bangs]), np.array([one.theta for one in bangs])
        rates_hz = echo_rates_hz(self.arrivals, self.evidence.sigmas_s, chosen, thetas)
        echoes = np.log1p(rates_hz * np.exp(-self.evidence.log_clutter))
        alone, again = np.array([one.log_rate for one in bangs]), np.array([one.again for one in bangs])
        rounds = self._rounds(thetas, chosen)
        rates = log_rates(alone, again, rounds, rounds, self._again)
        worth = sum(one.worth for one in bangs) - self.evidence.least_log_odds * len(bangs)
        return worth + float(rates.sum()) + float(echoes.sum()), echoes

    def _rounds(self, thetas: Floats, chosen: Ints) -> Rounds:
        """Return bangs at `thetas` (k, 7) with the arrivals `chosen` (k, n)."""
        return Rounds(thetas[:, :2].copy(), thetas[:, 2].copy(), chosen >= 0, self._levels_db[chosen])
