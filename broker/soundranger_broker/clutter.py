"""The clutter rate of an arrival: how many arrivals a second a node would have had there without any new bang.

Two parts. The node's own background: what it reported in the last minute and no bang explains, each counted by how
likely it was no echo (the stochastic declustering of Zhuang, Ogata, Vere-Jones 2002, for earthquakes and their
aftershocks). And echoes of what it has just heard: their rate decays over seconds, and they are weaker than what made
them. The numbers are those of the live-fire tests in Pittsburgh: 2,373 direct arrivals and 1,835 echoes of them.
"""

import math
from collections import deque
from dataclasses import dataclass, field

# The background is what a node reported over this long.
MEMORY_S = 60.0
# Of less than this (s) no rate is told.
LEAST_LISTENED_S = 10.0
# What a bang may still explain is remembered for longer: a minute before the oldest look that is still to come.
UNDECIDED_S = 180.0
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
    """The clutter rate at one node; tell it of every detection, in time order, and of those that bangs have made.

    `loud` are time and SNR of the last seconds, which may echo; `reports` time and share of background of the last
    minute, `reported` the sum of those shares; `unclaimed` the same of what no bang has explained so far.
    """

    loud: deque[tuple[int, float]] = field(default_factory=deque)
    reports: deque[tuple[int, float]] = field(default_factory=deque)
    unclaimed: deque[tuple[int, float]] = field(default_factory=deque)
    reported: float = 0.0

    def copy(self) -> "ClutterModel":
        """Return a model that can be told more without this one remembering it."""
        return ClutterModel(self.loud.copy(), self.reports.copy(), self.unclaimed.copy(), self.reported)

    def hear(self, time_ns: int, snr_db: float, echo: float | None = None) -> float:
        """Return the rate of echoes (Hz) at a detection, and remember the detection.

        `echo` is the probability that it is one, where echoes and further rounds are as common, of a node that compared
        its sound with what it heard before: that says more than levels do.
        """
        self._forget(time_ns)
        echo_hz = self._echo_hz(time_ns, snr_db, echo)
        background_hz = (PRIOR_COUNT + self.reported) / MEMORY_S
        share = background_hz / (background_hz + echo_hz)
        self.loud.append((time_ns, snr_db))
        self.reports.append((time_ns, share))
        self.unclaimed.append((time_ns, share))
        self.reported += share
        return echo_hz

    def claim(self, time_ns: int) -> None:
        """Remember that a bang made what was reported at a time: it is no background, though it still echoes."""
        self.unclaimed = deque(one for one in self.unclaimed if one[0] != time_ns)

    def background_hz(self, time_ns: int, listened_s: float = MEMORY_S) -> float:
        """Return the rate of what no bang has explained in the minute before a time, or in as much as was listened."""
        since_ns = time_ns - round(MEMORY_S * 1e9)
        count = sum(share for at_ns, share in self.unclaimed if since_ns <= at_ns < time_ns)
        return PRIOR_COUNT / MEMORY_S + count / min(max(listened_s, LEAST_LISTENED_S), MEMORY_S)

    def _forget(self, time_ns: int) -> None:
        while self.loud and time_ns - self.loud[0][0] > ECHO_MEMORY_S * 1e9:
            self.loud.popleft()
        while self.reports and time_ns - self.reports[0][0] > MEMORY_S * 1e9:
            self.reported -= self.reports.popleft()[1]
        while self.unclaimed and time_ns - self.unclaimed[0][0] > UNDECIDED_S * 1e9:
            self.unclaimed.popleft()

    def _echo_hz(self, time_ns: int, snr_db: float, echo: float | None) -> float:
        """Return the rate of echoes of whichever earlier sound is likeliest to have made one."""
        ratio = None if echo is None else echo_sound_ratio(echo)
        most_ratio = MOST_LEVEL_RATIO if ratio is None else ratio
        most_hz = 0.0
        for earlier_ns, earlier_snr_db in reversed(self.loud):
            delay_s = (time_ns - earlier_ns) / 1e9
            rate_hz = sum(rate * math.exp(-delay_s / decay_s) for rate, decay_s in ECHOES)
            if rate_hz * most_ratio <= most_hz:
                # Still earlier sounds have died away further.
                break
            change_db = snr_db - earlier_snr_db
            if change_db <= LOUDER_ECHO_DB:
                most_hz = max(most_hz, rate_hz * (echo_level_ratio(change_db) if ratio is None else ratio))
        return most_hz
