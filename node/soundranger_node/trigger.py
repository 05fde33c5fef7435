"""The trigger: where, on a grid of milliseconds, the level of a sound rises as that of an impulse does."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from soundranger_node.noise import DIGITAL_SILENCE, Noise, energy

# The energy of every hop, in frames that are worked on at once.
HOP_S = 0.001
FRAME_HOPS = 64
# The first noise level comes from a quarter of a second: a bang fills less of it than its quarter that is quietest.
START_FRAMES = 4
# Short-term level: the mean of 3 ms, about as long as the blast of a gun.
LEVEL_HOPS = 3
# What it must rise above: the mean of the 30 ms before, so that each round of automatic fire counts and no decay.
BEFORE_HOPS = 30
# Sound that is only this much over the noise, or rises by less, is not an impulse. Measured on 265 arrivals of real
# shots at sensors 50-660 m away: lower values find no more of them but more echoes and noise; higher ones lose some.
OVER_NOISE_DB = 14.0
RISE_DB = 7.0
# Over what one hop in ten of the noise reaches: in a hiss less than the above, in wind and rumble it decides.
OVER_LOUDER_DB = 11.0
# Over the loudest of the 30 ms before, where hum, buzz and a low voice beat many times in these: one beat is as loud as
# the next. (2 dB would already lose one in a hundred of the echoes in the same recordings.)
OVER_BEATS_DB = 1.0
# Quieter impulses are a microphone's own crackle.
FLOOR_DBFS = -75.0
# One impulse, one trigger, for this long; but another after the shorter time where the level rises by this much more:
# so neither a bullet's shock wave nor an echo of the last round hides the blast that follows it. (15 ms, since the
# onset of the first is sought up to 8 ms after its trigger, that of the second from 5 ms before its own.)
DEAD_HOPS = 30
FORERUNNER_HOPS = 15
OVER_FORERUNNER_DB = 8.0
# The trigger follows a sharp onset by its own 3 ms; an onset further ahead of it is another sound.
LEAD_HOPS = 5
# The step between digital silence and sound rings through filter and level for this long.
SILENCE_HOPS = 12
# How far back the scan of a frame looks: what is deaf among the hops that the level is compared with.
HISTORY_HOPS = SILENCE_HOPS + BEFORE_HOPS + LEVEL_HOPS - 1
# What is heard within this of a trigger is the reverberation of an impulse as much as it is noise.
BUSY_S = 0.25

Energies = NDArray[np.float64]


@dataclass(frozen=True)
class Trigger:
    """The first sample of the hop at which the level had risen, how far ahead the onset may be, and the noise level."""

    sample: int
    lead: int
    noise_db: float


class TriggerScan:
    """Finds the triggers of one stream, frame by frame; `noise` is kept over a gap in it, nothing else is."""

    def __init__(self, sample_rate_hz: float) -> None:
        self._hop = hop_samples(sample_rate_hz)
        self.noise = Noise(FRAME_HOPS * self._hop / sample_rate_hz)
        self._busy = round(BUSY_S * sample_rate_hz)
        self.restart()

    def restart(self) -> None:
        """Forget what was heard before a gap."""
        self._recent = np.zeros(HISTORY_HOPS)
        self._unheard: list[tuple[int, Energies]] = []
        self._last: int | None = None

    @property
    def first_unheard(self) -> int | None:
        """The first sample of the frames that wait for a noise level; None where none do."""
        return self._unheard[0][0] if self._unheard else None

    def hear(self, first: int, energies: Energies) -> list[Trigger]:
        """Return the triggers of a frame, once there is a noise level to compare it with.

        `first` is its first sample; `energies` has shape (FRAME_HOPS,), mean squares above 250 Hz.
        """
        if self.noise.level_db is not None:
            return self._scan(first, energies)
        if self._unheard or energies.max() > DIGITAL_SILENCE:
            self._unheard.append((first, energies))
            if len(self._unheard) == START_FRAMES:
                return self.start()
        return []

    def start(self) -> list[Trigger]:
        """Set the noise level from the frames that wait for one, and return their triggers."""
        unheard, self._unheard = self._unheard, []
        if unheard:
            self.noise.start(np.concatenate([energies for _, energies in unheard]))
        return [trigger for first, energies in unheard for trigger in self._scan(first, energies)]

    def _scan(self, first: int, energies: Energies) -> list[Trigger]:
        hops = np.concatenate((self._recent, energies))
        self._recent = hops[-HISTORY_HOPS:]
        noise_db, louder_db = self.noise.level_db, self.noise.louder_db
        if noise_db is None or louder_db is None:
            return []
        found = []
        least = energy(max(noise_db + OVER_NOISE_DB, louder_db + OVER_LOUDER_DB, FLOOR_DBFS))
        # No mean of hops is above the loudest of them.
        if energies.max() > least or self._recent.max() > least:
            for hop, lead_hops, steep in _risen(hops, least):
                sample = first + hop * self._hop
                dead_hops = FORERUNNER_HOPS if steep else DEAD_HOPS
                if self._last is None or sample >= self._last + dead_hops * self._hop:
                    self._last = sample
                    found.append(Trigger(sample, lead_hops * self._hop, noise_db))
        self.noise.update(energies, busy=self._last is not None and first < self._last + self._busy)
        return found


def hop_samples(sample_rate_hz: float) -> int:
    """Return how many samples a hop has."""
    return round(HOP_S * sample_rate_hz)


def hop_energies(sound: NDArray[np.floating], hop: int) -> Energies:
    """Return the mean square of every whole hop; `sound` has shape (n,), the result (n // hop,)."""
    hops = sound[: len(sound) // hop * hop].reshape(-1, hop)
    energies: Energies = np.einsum("ij,ij->i", hops, hops).astype(np.float64)
    energies /= hop
    return energies


def means(energies: Energies, width: int) -> Energies:
    """Return the running mean over `width` hops, where there are so many; over all that there are, else."""
    if not len(energies):
        return np.zeros(1)
    width = min(width, len(energies))
    return np.convolve(energies, np.full(width, 1 / width), "valid")


def _risen(hops: Energies, least: float) -> Iterator[tuple[int, int, bool]]:
    """Yield each hop of a frame at which the level has risen as an impulse does.

    With it go how many hops before it the impulse may begin, and whether it stands out of one that came just before.

    `hops` has shape (HISTORY_HOPS + FRAME_HOPS,), `least` is the energy that the level must be above.
    """
    level = means(hops, LEVEL_HOPS)[-FRAME_HOPS:]
    if level.max() <= least:
        return
    deaf = _after_silence(hops)
    sound = np.where(deaf, 0.0, hops)[:-LEVEL_HOPS]
    before = means(sound, BEFORE_HOPS)[-FRAME_HOPS:]
    beats = sliding_window_view(means(sound, LEVEL_HOPS), BEFORE_HOPS - LEVEL_HOPS + 1).max(axis=1)[-FRAME_HOPS:]
    rises = level > np.maximum(np.maximum(energy(RISE_DB) * before, energy(OVER_BEATS_DB) * beats), least)
    for hop in np.flatnonzero(rises & ~deaf[-FRAME_HOPS:]).tolist():
        lead_hops = SILENCE_HOPS if deaf[HISTORY_HOPS + hop - 1] else LEAD_HOPS
        yield hop, lead_hops, bool(level[hop] > energy(OVER_FORERUNNER_DB) * beats[hop])


def _after_silence(energies: Energies) -> NDArray[np.bool_]:
    """Return which hops come so soon after digital silence that the step out of it is still heard."""
    silent = energies <= DIGITAL_SILENCE
    if not silent.any():
        return silent
    return np.convolve(silent, np.ones(SILENCE_HOPS))[: len(energies)] > 0
