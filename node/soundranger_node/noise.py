"""The noise level of a stream: slow to rise, quicker to fall, blind to digital silence."""

import numpy as np
from numpy.typing import NDArray

# Below the least step of 24-bit sound (1.4e-14): a converter that hears anything is never this quiet.
DIGITAL_SILENCE = 1e-14
# A shot reverberates for 1-2 s and may lift the level by no more than a few dB; rain that starts is learnt in 10 s.
RISE_DB_PER_S = 2.0
# Faster than it rises, since a level that is too high loses shots; slow enough to stay near the middle of gusts.
FALL_DB_PER_S = 8.0
# The start of a stream may hold a bang: the quieter part of it is the noise.
START_QUANTILE = 0.25
# A frame says something about the noise where at least this share of it is sound.
MIN_SOUND = 0.5


class NoiseLevel:
    """Follows the median energy of frames, by a few dB a second, so that no bang and no digital silence moves it far.

    Energies are mean squares re full scale, one a hop.
    """

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s
        self._level_db: float | None = None

    @property
    def level_db(self) -> float | None:
        """The level in dB re full scale; None before `start` has found sound."""
        return self._level_db

    def start(self, energies: NDArray[np.float64]) -> None:
        """Set the level from the first frames of a stream; `energies` has shape (hops,)."""
        sound = energies[energies > DIGITAL_SILENCE]
        if sound.size:
            self._level_db = decibels(float(np.quantile(sound, START_QUANTILE)))

    def update(self, energies: NDArray[np.float64]) -> None:
        """Move the level towards the median of one frame; `energies` has shape (hops,)."""
        sound = energies[energies > DIGITAL_SILENCE]
        if self._level_db is None or sound.size < MIN_SOUND * energies.size:
            return
        # np.median costs three times as much, and this runs 16 times a second on a Pi.
        middle = sound.size // 2
        change_db = decibels(float(np.partition(sound, middle)[middle])) - self._level_db
        self._level_db += min(max(change_db, -FALL_DB_PER_S * self._frame_s), RISE_DB_PER_S * self._frame_s)


def decibels(energy: float) -> float:
    """Return a mean square re full scale in dB; nothing is below digital silence."""
    return float(10 * np.log10(max(energy, DIGITAL_SILENCE)))


def energy(level_db: float) -> float:
    """Return the mean square re full scale of a level in dB."""
    return float(10 ** (level_db / 10))
