"""Echoes: how likely an impulse is one of what was heard shortly before, rather than another round."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Samples

# Walls that give an echo later than this are 340 m off: such echoes are rare and weak.
MEMORY_S = 2.0
# What is compared of two arrivals: a blast, short of its first reflections; and how far their onsets may be off.
WAVE_S = 0.01
LAG_S = 0.002
# The log of the odds of an echo where both are as common: a constant, a term for each dB that it is weaker, and one for
# the square of its likeness. A wall, a roof and the ground blur; a second round comes by the same ways as the first and
# sounds the same. Fitted to 135 direct arrivals and 618 other impulses of the live-fire tests in Pittsburgh.
LOG_ODDS = 1.4
LOG_ODDS_A_DB = -0.24
LOG_ODDS_LIKENESS = -3.9
# Beyond these a level says no more: a second gun far off may be weaker by any amount, a rifle after a pistol louder.
LEVEL_RANGE_DB = (-12.0, 5.0)


def around_onset(sound: NDArray[np.float64], onset: int, sample_rate_hz: float) -> Samples:
    """Return what `Echoes` compares of a high-passed sound: from LAG_S before its onset to WAVE_S + LAG_S after it.

    `sound` has shape (n,), `onset` is an index into it; what it lacks at either end is silent.
    """
    lag = round(LAG_S * sample_rate_hz)
    length = round(WAVE_S * sample_rate_hz) + 2 * lag
    wave = np.zeros(length, np.float32)
    part = sound[max(onset - lag, 0) : onset - lag + length]
    missing = max(lag - onset, 0)
    wave[missing : missing + len(part)] = part[: length - missing]
    return wave


@dataclass(frozen=True)
class _Arrival:
    """An impulse that may echo: its onset, its level, whether it is a click, and its sound as `around_onset` has it."""

    onset_sample: float
    level_db: float
    click: bool
    wave: Samples


class Echoes:
    """Remembers the impulses of the last 2 s at one microphone."""

    def __init__(self, sample_rate_hz: float) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._lag = round(LAG_S * sample_rate_hz)
        self._heard: deque[_Arrival] = deque()

    def features(self, onset_sample: float, level_db: float, wave: Samples, *, click: bool) -> dict[str, float]:
        """Return what is to be said of the next impulse as an echo of the loudest one in memory; and remember it.

        `wave` is its sound as `around_onset` has it. Clicks are not compared with for what is no click: a blast that
        follows the shock wave of its bullet is no echo of that.

        echo: the probability that it is an echo, where echoes and further rounds are as common; 0 where nothing was
        heard in the 2 s before. echo_delay_s, echo_level_db: its onset and level after and over those of the loudest
        impulse in these 2 s. echo_likeness: the largest size of the normalised cross-correlation of both sounds, over
        10 ms from their onsets on, within 2 ms.
        """
        while self._heard and not 0 < onset_sample - self._heard[0].onset_sample <= MEMORY_S * self._sample_rate_hz:
            self._heard.popleft()
        alike = (one for one in self._heard if click or not one.click)
        loudest = max(alike, key=lambda one: one.level_db, default=None)
        self._heard.append(_Arrival(onset_sample, level_db, click, wave))
        if loudest is None:
            return {"echo": 0.0}
        change_db = level_db - loudest.level_db
        likeness = self._likeness(loudest.wave, wave)
        level_db = min(max(change_db, LEVEL_RANGE_DB[0]), LEVEL_RANGE_DB[1])
        log_odds = LOG_ODDS + LOG_ODDS_A_DB * level_db + LOG_ODDS_LIKENESS * likeness**2
        return {
            "echo": 1 / (1 + math.exp(-log_odds)),
            "echo_delay_s": (onset_sample - loudest.onset_sample) / self._sample_rate_hz,
            "echo_level_db": change_db,
            "echo_likeness": likeness,
        }

    def _likeness(self, first: Samples, second: Samples) -> float:
        """Return the largest normalised correlation of the first, from its onset on, with the second within LAG_S."""
        body = first[self._lag : len(first) - self._lag]
        products = np.abs(np.correlate(second, body, "valid"))
        power = np.convolve(np.square(second), np.ones(len(body)), "valid") * float(body @ body)
        likeness = products / np.sqrt(np.maximum(power, np.finfo(np.float32).tiny))
        return min(float(likeness.max()), 1.0)
