"""The clutter rate of an arrival: how many arrivals a second a node would have had there without any new bang.

Two parts. The node's own background: what it reported in the last minute, each counted by how likely it was no echo
(the stochastic declustering of Zhuang, Ogata, Vere-Jones 2002, for earthquakes and their aftershocks). And echoes of
what it has just heard: their rate decays over seconds, and they are weaker than what made them. The numbers are those
of the live-fire tests in Pittsburgh: 2,373 direct arrivals and 1,835 echoes of them.
"""

import math
from collections import deque
from dataclasses import dataclass, field

# The background is what a node reported over this long.
MEMORY_S = 60.0
# A node that has said nothing yet is taken to report this much by itself, a minute.
PRIOR_COUNT = 1.0
# Echoes: many from the walls around, few from the hills far off. (Rate Hz, time constant s.)
ECHOES = ((1.5, 0.4), (0.15, 3.0))
# Echoes later than this are lost in the background.
ECHO_MEMORY_S = 10.0
# A sound this much (dB) weaker than a later one did not make it as an echo.
LOUDER_ECHO_DB = 8.0
# Level of an echo, and of the next direct sound, relative to the direct sound before it: mean and spread, dB.
ECHO_LEVEL_DB = (-10.0, 8.0)
DIRECT_LEVEL_DB = (-1.8, 5.0)
# Levels alone never decide: their ratio of likelihoods stays within these.
LEAST_LEVEL_RATIO, MOST_LEVEL_RATIO = 0.3, 3.0
# Nor does one comparison of sounds, which takes the level in: it is a fit to one kind of town.
LEAST_SOUND_RATIO, MOST_SOUND_RATIO = 0.1, 10.0


def _log_normal_density(value: float, mean: float, sigma: float) -> float:
    return -0.5 * ((value - mean) / sigma) ** 2 - math.log(sigma)


def echo_level_ratio(change_db: float) -> float:
    """Return how much likelier a change of level is for an echo than for the next direct sound, within bounds."""
    log_ratio = _log_normal_density(change_db, *ECHO_LEVEL_DB) - _log_normal_density(change_db, *DIRECT_LEVEL_DB)
    return math.exp(min(max(log_ratio, math.log(LEAST_LEVEL_RATIO)), math.log(MOST_LEVEL_RATIO)))


def echo_sound_ratio(echo: float) -> float:
    """Return how much likelier a sound is for an echo than for the next direct sound, within bounds."""
    return min(max(echo / max(1.0 - echo, 1e-9), LEAST_SOUND_RATIO), MOST_SOUND_RATIO)


@dataclass
class ClutterModel:
    """The clutter rate at one node; tell it of every detection, in time order."""

    heard: deque[tuple[int, float, float]] = field(default_factory=deque)

    def copy(self) -> "ClutterModel":
        """Return a model that can be told more without this one remembering it."""
        return ClutterModel(self.heard.copy())

    def rate_hz(self, time_ns: int, snr_db: float, echo: float | None = None) -> float:
        """Return the clutter rate at a detection, and remember the detection.

        `echo` is the probability that it is one, where echoes and further rounds are as common, of a node that compared
        its sound with what it heard before: that says more than levels do.
        """
        while self.heard and time_ns - self.heard[0][0] > MEMORY_S * 1e9:
            self.heard.popleft()
        background_hz = (PRIOR_COUNT + sum(share for _, _, share in self.heard)) / MEMORY_S
        echo_hz = max((self._echo_hz(time_ns, snr_db, echo, *earlier[:2]) for earlier in self.heard), default=0.0)
        rate_hz = background_hz + echo_hz
        self.heard.append((time_ns, snr_db, background_hz / rate_hz))
        return rate_hz

    @staticmethod
    def _echo_hz(time_ns: int, snr_db: float, echo: float | None, earlier_ns: int, earlier_snr_db: float) -> float:
        delay_s = (time_ns - earlier_ns) / 1e9
        change_db = snr_db - earlier_snr_db
        if delay_s > ECHO_MEMORY_S or change_db > LOUDER_ECHO_DB:
            return 0.0
        ratio = echo_level_ratio(change_db) if echo is None else echo_sound_ratio(echo)
        return ratio * sum(rate * math.exp(-delay_s / decay_s) for rate, decay_s in ECHOES)
