"""The detector: finds loud impulses in a stream of samples, whatever the size of the blocks in which it comes."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Block, Samples
from soundranger_node.features import features
from soundranger_node.filters import highpass, highpass_reach
from soundranger_node.noise import DIGITAL_SILENCE, NoiseLevel, decibels, energy
from soundranger_node.onset import BACKGROUND_S, pick_onset

# The grid of the detector: the energy of every hop, in frames that are worked on at once.
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
# Quieter impulses are a microphone's own crackle.
FLOOR_DBFS = -75.0
# One impulse, one trigger; no longer, or a faint forerunner would hide the blast that follows it.
DEAD_HOPS = 30
# The trigger follows a sharp onset by its own 3 ms; an onset further ahead of it is another sound.
LEAD_HOPS = 5
# The step between digital silence and sound rings through filter and level for this long.
SILENCE_HOPS = 12
# How far back the scan of a frame looks: what is deaf among the hops that the level is compared with.
HISTORY_HOPS = SILENCE_HOPS + BEFORE_HOPS + LEVEL_HOPS - 1
# How much sound after the trigger an impulse is described by; a detection is late by this.
ANALYSIS_S = 0.1
# The loudest of an impulse comes within this of its trigger; what is louder later is an echo.
LOUDEST_HOPS = 20
# An impulse lasts until it has fallen this far below its loudest.
DURATION_FALL_DB = 10.0
# Full scale of 8-bit mu-law, which real sensors use, is 0.9804; of 16 bits 0.99997.
CLIPPED = 0.98
# Faster than any crowd at midnight on New Year's Eve is of use for locating.
DEFAULT_LIMIT_PER_MINUTE = 120
LIMIT_S = 60.0
# No block begins here.
NOWHERE = -1


@dataclass(frozen=True)
class Impulse:
    """One loud impulse. `onset_sample` is a count of samples of the stream, with a fraction.

    `snr_db` is its loudest 3 ms over the noise, `peak_dbfs` its largest sample; `clipped` counts samples at full
    scale; `rise_s` is from the onset to the first peak, `duration_s` until it is 10 dB below its loudest (at most
    what was listened to, 100 ms); `features` are those of `soundranger_node.features`.
    """

    onset_sample: float
    onset_sigma_s: float
    snr_db: float
    peak_dbfs: float
    clipped: int
    rise_s: float
    duration_s: float
    features: dict[str, float]


@dataclass(frozen=True)
class _Trigger:
    """The first sample of the hop at which the level had risen, how far ahead the onset may be, and the noise level."""

    sample: int
    lead: int
    noise_db: float


class Detector:
    """Finds impulses in one stream of samples; the same samples give the same impulses, however they are cut.

    The noise level is kept over a gap in the stream; nothing else is. `limit_per_minute` bounds the impulses of any
    minute of sound; `withheld` counts what was over it.
    """

    _samples: Samples
    _unheard: list[tuple[int, NDArray[np.float64]]]
    _open: deque[_Trigger]

    def __init__(self, sample_rate_hz: float, limit_per_minute: int = DEFAULT_LIMIT_PER_MINUTE) -> None:
        self.withheld = 0
        self._sample_rate_hz = sample_rate_hz
        self._limit = limit_per_minute
        self._hop = round(HOP_S * sample_rate_hz)
        self._frame = FRAME_HOPS * self._hop
        self._reach = highpass_reach(sample_rate_hz)
        self._background = round(BACKGROUND_S * sample_rate_hz)
        self._analysis = round(ANALYSIS_S * sample_rate_hz)
        self._noise = NoiseLevel(self._frame / sample_rate_hz)
        self._accepted: deque[int] = deque()
        self._restart(NOWHERE)

    @property
    def noise_dbfs(self) -> float | None:
        """The noise level above 250 Hz, in dB re full scale; None as long as there was no sound."""
        return self._noise.level_db

    def push(self, block: Block) -> list[Impulse]:
        """Return the impulses that are complete with this block; a gap before it ends what was open."""
        if not len(block.samples):
            return []
        found = []
        if block.first != self._end:
            found = self.flush()
            self._restart(block.first)
        self._append(block.samples)
        self._take_frames()
        found += self._completed(self._end)
        self._forget()
        return found

    def flush(self) -> list[Impulse]:
        """Return the impulses that were still open when the stream ended; a block after that begins anew."""
        if self._end > self._next_frame:
            end = self._next_frame + self._frame + self._reach
            self._samples = np.pad(self._samples, (0, max(0, end - self._buffer_end)), "edge")
            self._take_frames()
        self._start()
        found = list(self._completed(None))
        self._restart(NOWHERE)
        return found

    def _restart(self, first: int) -> None:
        self._first = first
        self._end = first
        self._next_frame = first
        self._buffer_start = first
        self._samples = np.empty(0, np.float32)
        self._recent = np.zeros(HISTORY_HOPS)
        self._unheard = []
        self._open = deque()
        self._dead_until = first

    @property
    def _buffer_end(self) -> int:
        return self._buffer_start + len(self._samples)

    def _append(self, samples: Samples) -> None:
        """Add samples to the buffer; the very first is repeated before itself, where the filter looks."""
        if self._end == self._first:
            self._samples = np.full(self._reach, samples[0])
            self._buffer_start = self._first - self._reach
        self._samples = np.concatenate((self._samples, samples))
        self._end += len(samples)

    def _take_frames(self) -> None:
        while self._next_frame + self._frame + self._reach <= self._buffer_end:
            start = self._next_frame - self._buffer_start
            sound = highpass(
                self._samples[start - self._reach : start + self._frame + self._reach], self._sample_rate_hz
            )
            self._hear(self._next_frame, self._hop_energies(sound))
            self._next_frame += self._frame

    def _hop_energies(self, sound: NDArray[np.float64]) -> NDArray[np.float64]:
        hops = sound[: len(sound) // self._hop * self._hop].reshape(-1, self._hop)
        energies: NDArray[np.float64] = np.einsum("ij,ij->i", hops, hops) / self._hop
        return energies

    def _hear(self, first: int, energies: NDArray[np.float64]) -> None:
        """Scan a frame for triggers, once there is a noise level to compare it with."""
        if self._noise.level_db is not None:
            self._scan(first, energies, self._noise.level_db)
        elif self._unheard or energies.max() > DIGITAL_SILENCE:
            self._unheard.append((first, energies))
            if len(self._unheard) == START_FRAMES:
                self._start()

    def _start(self) -> None:
        """Set the noise level from the first frames, and scan these."""
        unheard, self._unheard = self._unheard, []
        if unheard:
            self._noise.start(np.concatenate([energies for _, energies in unheard]))
        for first, energies in unheard:
            if self._noise.level_db is not None:
                self._scan(first, energies, self._noise.level_db)

    def _scan(self, first: int, energies: NDArray[np.float64], noise_db: float) -> None:
        """Find the triggers of the frame that begins at sample `first`; `energies` has shape (FRAME_HOPS,)."""
        hops = np.concatenate((self._recent, energies))
        self._recent = hops[-HISTORY_HOPS:]
        level = _means(hops, LEVEL_HOPS)[-FRAME_HOPS:]
        least = max(energy(noise_db + OVER_NOISE_DB), energy(FLOOR_DBFS))
        if level.max() > least:
            deaf = _after_silence(hops)
            before = _means(np.where(deaf, 0.0, hops)[:-LEVEL_HOPS], BEFORE_HOPS)[-FRAME_HOPS:]
            rises = (level > least) & (level > energy(RISE_DB) * before)
            for hop in np.flatnonzero(rises & ~deaf[-FRAME_HOPS:]).tolist():
                lead_hops = SILENCE_HOPS if deaf[HISTORY_HOPS + hop - 1] else LEAD_HOPS
                self._trigger(_Trigger(first + hop * self._hop, lead_hops * self._hop, noise_db))
        self._noise.update(energies)

    def _trigger(self, trigger: _Trigger) -> None:
        """Open an impulse, unless it is part of the last one, beyond the end of the sound, or over the limit."""
        if not self._dead_until <= trigger.sample < self._end:
            return
        self._dead_until = trigger.sample + DEAD_HOPS * self._hop
        while self._accepted and self._accepted[0] <= trigger.sample - LIMIT_S * self._sample_rate_hz:
            self._accepted.popleft()
        if len(self._accepted) >= self._limit:
            self.withheld += 1
            return
        self._accepted.append(trigger.sample)
        self._open.append(trigger)

    def _completed(self, heard: int | None) -> Iterator[Impulse]:
        """Yield the open impulses whose sound is there up to sample `heard`; None means that no more will come."""
        while self._open and (heard is None or self._open[0].sample + self._analysis + self._reach <= heard):
            trigger = self._open.popleft()
            if not self._is_cut(trigger):
                yield self._impulse(trigger)

    def _forget(self) -> None:
        """Drop the samples that neither an open impulse nor a coming trigger needs."""
        first_unheard = self._unheard[0][0] if self._unheard else self._next_frame
        needed = min(first_unheard, self._open[0].sample if self._open else first_unheard)
        start = max(self._buffer_start, needed - self._background - self._reach)
        self._samples = self._samples[start - self._buffer_start :]
        self._buffer_start = start

    def _is_cut(self, trigger: _Trigger) -> bool:
        """Return whether what set off a trigger was the step from sound to digital silence."""
        start = trigger.sample + SILENCE_HOPS * self._hop
        end = min(self._end, start + SILENCE_HOPS * self._hop)
        after = self._samples[start - self._buffer_start : end - self._buffer_start]
        return len(after) >= self._hop and bool(np.all(after == after[0]))

    def _impulse(self, trigger: _Trigger) -> Impulse:
        """Measure an impulse on the samples around its trigger."""
        start = max(self._first, trigger.sample - self._background)
        end = min(self._end, trigger.sample + self._analysis + self._reach)
        samples = self._samples[start - self._buffer_start : end - self._buffer_start]
        onset = pick_onset(samples, trigger.sample - start, trigger.lead, self._sample_rate_hz)
        first = int(onset.sample)
        background, blast = samples[:first], samples[first : trigger.sample - start + LOUDEST_HOPS * self._hop]
        offset = float(background.mean()) if len(background) else 0.0
        sound = highpass(np.pad(samples, self._reach, "edge"), self._sample_rate_hz)[first:]
        level = _means(self._hop_energies(sound), LEVEL_HOPS)
        loudest = int(np.argmax(level[:LOUDEST_HOPS]))
        fallen = np.flatnonzero(level[loudest:] < level[loudest] * energy(-DURATION_FALL_DB))
        return Impulse(
            onset_sample=start + onset.sample,
            onset_sigma_s=onset.sigma_s,
            snr_db=decibels(float(level[loudest])) - trigger.noise_db,
            peak_dbfs=decibels(float(np.max(np.square(blast - offset)))),
            clipped=int(np.count_nonzero(np.abs(samples[first:]) >= CLIPPED)),
            rise_s=onset.rise_s,
            duration_s=(loudest + int(fallen[0]) if len(fallen) else len(level)) * self._hop / self._sample_rate_hz,
            features=features(sound, self._sample_rate_hz),
        )


def _means(energies: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the running mean over `width` hops, where there are so many; over all that there are, else."""
    if not len(energies):
        return np.zeros(1)
    width = min(width, len(energies))
    return np.convolve(energies, np.full(width, 1 / width), "valid")


def _after_silence(energies: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which hops come so soon after digital silence that the step out of it is still heard."""
    silent = energies <= DIGITAL_SILENCE
    if not silent.any():
        return silent
    return np.convolve(silent, np.ones(SILENCE_HOPS))[: len(energies)] > 0
