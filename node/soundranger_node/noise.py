"""The noise of a stream: its level, and what its louder moments reach; slow to rise, blind to digital silence."""

import math

import numpy as np
from numpy.typing import NDArray

# Below the least step of 24-bit sound (1.4e-14): a converter that hears anything is never this quiet.
DIGITAL_SILENCE = 1e-14
# A shot reverberates for 1-2 s and may lift the level by no more than a few dB; rain that starts is learnt in 10 s.
RISE_DB_PER_S = 2.0
# While impulses come, what is heard is them: ten seconds of automatic fire lift the level by no more than this each.
BUSY_RISE_DB_PER_S = 0.3
# Faster than it rises, since a level that is too high loses shots; slow enough to stay near the middle of gusts.
FALL_DB_PER_S = 8.0
# What the louder moments reach is forgotten more slowly: the next gust comes in seconds.
LOUDER_FALL_DB_PER_S = 2.0
# The start of a stream may hold a bang: the quieter part of it is the noise.
START_QUANTILE = 0.25
# Gusts, rain and talk reach no more than this over the median. What does, is over: a card that woke, a truck that left.
MOST_LOUDER_DB = 15.0
# What one hop in ten reaches tells a steady hiss from a rumble, a buzz or a drizzle of the same median.
LOUDER_QUANTILE = 0.9
# A frame says something about the noise where at least this share of it is sound.
MIN_SOUND = 0.5


class Noise:
    """Follows the energy of frames, by a few dB a second, so that no bang and no digital silence moves it far.

    `level_db` is the median of the energies of the hops, `louder_db` what one in ten of them reaches (at most 15 dB
    more), both in dB re full scale and None before `start` has found sound. Energies are mean squares re full scale,
    one a hop.
    """

    def __init__(self, frame_s: float) -> None:
        self.level_db: float | None = None
        self.louder_db: float | None = None
        self._frame_s = frame_s

    def start(self, energies: NDArray[np.float64]) -> None:
        """Set both from the first frames of a stream; `energies` has shape (hops,)."""
        sound = energies[energies > DIGITAL_SILENCE]
        if sound.size:
            self.level_db = self.louder_db = decibels(float(np.quantile(sound, START_QUANTILE)))

    def update(self, energies: NDArray[np.float64], *, busy: bool) -> None:
        """Move both towards those of one frame; `energies` has shape (hops,). `busy`: impulses come."""
        sound = energies if energies.min() > DIGITAL_SILENCE else energies[energies > DIGITAL_SILENCE]
        if self.level_db is None or self.louder_db is None or sound.size < MIN_SOUND * energies.size:
            return
        # np.quantile costs ten times as much, and this runs 16 times a second on a Pi.
        middle, louder = sound.size // 2, int(LOUDER_QUANTILE * sound.size)
        ordered = np.partition(sound, (middle, louder))
        rise_db = (BUSY_RISE_DB_PER_S if busy else RISE_DB_PER_S) * self._frame_s
        level_change_db = decibels(float(ordered[middle])) - self.level_db
        louder_change_db = decibels(float(ordered[louder])) - self.louder_db
        self.level_db += min(max(level_change_db, -FALL_DB_PER_S * self._frame_s), rise_db)
        self.louder_db += min(max(louder_change_db, -LOUDER_FALL_DB_PER_S * self._frame_s), rise_db)
        self.louder_db = min(self.louder_db, self.level_db + MOST_LOUDER_DB)


def decibels(energy: float) -> float:
    """Return a mean square re full scale in dB; nothing is below digital silence."""
    return 10 * math.log10(max(energy, DIGITAL_SILENCE))


def energy(level_db: float) -> float:
    """Return the mean square re full scale of a level in dB."""
    return float(10 ** (level_db / 10))
