"""Activity: how many bangs are to be expected, from how many there were.

The rate has a gamma prior around what a network expects that has heard nothing yet; bangs are counted with a weight
that fades (the discounted Poisson-gamma model: Harvey, Fernandes 1989). It rises with the first few bangs, and falls
over minutes.
"""

import math
from dataclasses import dataclass

from soundranger_broker.given import EXPECTED_PER_HOUR_KM2

# What was heard counts less by e after this long: a series of bangs, or fireworks, go on for minutes.
MEMORY_S = 120.0
# The expectation before anything was heard weighs as much as so many bangs.
PRIOR_BANGS = 1.0
HOUR_S = 3600.0
# A network of less than this looks no smaller to the sky: bangs outside are heard as well.
LEAST_AREA_KM2 = 1.0


@dataclass(frozen=True)
class Activity:
    """How many bangs there were lately, `bangs` as of a time; older ones count less."""

    bangs: float = 0.0
    time_ns: int = 0

    def after(self, time_ns: int) -> "Activity":
        """Return the activity with one bang more."""
        return Activity(self._bangs(time_ns) + 1.0, max(time_ns, self.time_ns))

    def per_hour_km2(self, time_ns: int, area_km2: float) -> float:
        """Return how many bangs are expected at a time, in an area in which those counted were heard."""
        area = max(area_km2, LEAST_AREA_KM2)
        prior_hours = PRIOR_BANGS / (EXPECTED_PER_HOUR_KM2 * area)
        return (PRIOR_BANGS + self._bangs(time_ns)) / (prior_hours + MEMORY_S / HOUR_S) / area

    def _bangs(self, time_ns: int) -> float:
        return self.bangs * math.exp(-max(time_ns - self.time_ns, 0) / 1e9 / MEMORY_S)
