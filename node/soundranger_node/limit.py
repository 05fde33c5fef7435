"""The limit on what a node tells of a minute: which impulses are withheld where there are too many."""

import math
from collections import deque

# Ten seconds of automatic fire at 1,200 rounds a minute, each with an echo and a shock wave, and more where it ends.
DEFAULT_LIMIT_PER_MINUTE = 600
LIMIT_S = 60.0
# The first of a burst comes after this much without an impulse; echoes and rounds follow each other faster.
QUIET_S = 0.5
# The share of the limit that is kept for the first of bursts.
RESERVE = 0.1
# Where more than this many of the last 60 seconds had a sound that no muzzle blast is like, these are rain, voices or
# wind. Of sounds like blasts there is no such bound: a shooting may go on for many minutes.
CROWDED_S = 8
# What is this much louder than those, second for second, is told all the same.
STANDS_OUT_DB = 9.0


class Limit:
    """Decides which impulses of one stream are told; `withheld` counts the others.

    In any minute there are at most `limit_per_minute`, of which a tenth is kept for the first of bursts. Of what is
    unlike a blast, a crowd is withheld sooner; so neither rain nor talk uses up the limit.
    """

    def __init__(self, limit_per_minute: int, sample_rate_hz: float) -> None:
        self.withheld = 0
        self._limit = limit_per_minute
        self._sample_rate_hz = sample_rate_hz
        self._told: deque[float] = deque()
        self._last = -math.inf
        self._unlike = _Crowd()

    def admits(self, sample: float, level_db: float, *, like_blast: bool) -> bool:
        """Return whether to tell of an impulse at a sample of the stream; its level is re full scale."""
        quiet = sample - self._last >= QUIET_S * self._sample_rate_hz
        self._last = sample
        crowded = not like_blast and self._unlike.swallows(int(sample / self._sample_rate_hz), level_db)
        while self._told and not sample - LIMIT_S * self._sample_rate_hz < self._told[0] <= sample:
            self._told.popleft()
        limit = self._limit if quiet else self._limit - math.floor(RESERVE * self._limit)
        if crowded or len(self._told) >= limit:
            self.withheld += 1
            return False
        self._told.append(sample)
        return True


class _Crowd:
    """The impulses of the last minute: the seconds that had any, and the level of the loudest in each."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float]] = deque()

    def swallows(self, second: int, level_db: float) -> bool:
        """Return whether there is a crowd that an impulse does not stand out of; and remember its level.

        It stands out where it is 9 dB louder than all but CROWDED_S of the seconds.
        """
        while self._seconds and not second - LIMIT_S < self._seconds[0][0] <= second:
            self._seconds.popleft()
        loudest_db = sorted((level for _, level in self._seconds), reverse=True)
        before_db = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else -math.inf
        self._seconds.append((second, max(level_db, before_db)))
        return len(loudest_db) > CROWDED_S and level_db < loudest_db[CROWDED_S] + STANDS_OUT_DB
