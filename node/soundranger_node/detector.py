"""The detector: finds loud impulses in a stream of samples, whatever the size of the blocks in which it comes."""

from collections import deque

import numpy as np

from soundranger_node.blasts import blasts
from soundranger_node.blocks import Block, Samples
from soundranger_node.echo import Echoes
from soundranger_node.filters import highpass, highpass_reach
from soundranger_node.limit import DEFAULT_LIMIT_PER_MINUTE, Limit
from soundranger_node.measure import Impulse, is_step, measure
from soundranger_node.onset import BACKGROUND_S
from soundranger_node.sample_buffer import SampleBuffer
from soundranger_node.trigger import (
    DEAD_HOPS,
    FRAME_HOPS,
    SILENCE_HOPS,
    Trigger,
    TriggerScan,
    hop_energies,
    hop_samples,
)

# How much sound after the trigger an impulse is described by; a detection is late by this.
ANALYSIS_S = 0.1
# Full scale is 1. What is so far beyond it, or no number at all, is no sound but a fault of the driver.
NO_SOUND = 1e3
# No block begins here.
NOWHERE = -1

__all__ = ["DEFAULT_LIMIT_PER_MINUTE", "Detector", "Impulse"]


class Detector:
    """Finds impulses in one stream of samples; the same samples give the same impulses, however they are cut.

    Samples that cannot be sound are taken as silent. The noise level is kept over a gap in the stream, and so are the
    last impulses, for limit and echoes; nothing else is. `limit_per_minute` bounds the impulses of any minute of sound.
    """

    def __init__(self, sample_rate_hz: float, limit_per_minute: int = DEFAULT_LIMIT_PER_MINUTE) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._hop = hop_samples(sample_rate_hz)
        self._frame = FRAME_HOPS * self._hop
        self._reach = highpass_reach(sample_rate_hz)
        self._background = round(BACKGROUND_S * sample_rate_hz)
        self._analysis = round(ANALYSIS_S * sample_rate_hz)
        self._scan = TriggerScan(sample_rate_hz)
        self._limit = Limit(limit_per_minute, sample_rate_hz)
        self._echoes = Echoes(sample_rate_hz)
        # Computed now, since the first shot would else wait for them, on a small Pi rather long.
        for clipped in (False, True):
            blasts(sample_rate_hz, clipped=clipped)
        self._restart(NOWHERE)

    @property
    def noise_dbfs(self) -> float | None:
        """The noise level above 250 Hz, in dB re full scale; None as long as there was no sound."""
        return self._scan.noise.level_db

    @property
    def withheld(self) -> int:
        """How many impulses were heard and not told, because there were too many."""
        return self._limit.withheld

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
            missing = self._next_frame + self._frame + self._reach - self._buffer.end
            self._buffer.append(np.repeat(self._buffer.samples(self._end - 1, self._end), max(missing, 0)))
            self._take_frames()
        self._open += self._scan.start()
        found = self._completed(None)
        self._restart(NOWHERE)
        return found

    def _restart(self, first: int) -> None:
        self._first = first
        self._end = first
        self._next_frame = first
        self._buffer = SampleBuffer(first - self._reach)
        self._open: deque[Trigger] = deque()
        self._scan.restart()

    def _append(self, samples: Samples) -> None:
        """Add samples to the buffer; the very first is repeated before itself, where the filter looks."""
        # Written so that what is no number fails it.
        if not (samples.min() > -NO_SOUND and samples.max() < NO_SOUND):
            samples = np.where(np.abs(samples) < NO_SOUND, samples, np.float32(0))
        if self._end == self._first:
            self._buffer.append(np.repeat(samples[:1], self._reach))
        self._buffer.append(samples)
        self._end += len(samples)

    def _take_frames(self) -> None:
        while self._next_frame + self._frame + self._reach <= self._buffer.end:
            start = self._next_frame
            around = self._buffer.samples(start - self._reach, start + self._frame + self._reach)
            self._open += self._scan.hear(start, hop_energies(highpass(around, self._sample_rate_hz), self._hop))
            self._next_frame += self._frame

    def _completed(self, heard: int | None) -> list[Impulse]:
        """Return the open impulses whose sound is there up to sample `heard`; None means that no more will come."""
        found = []
        while self._open and (heard is None or self._open[0].sample + self._analysis + self._reach <= heard):
            trigger = self._open.popleft()
            impulse = self._impulse(trigger)
            if impulse is None or impulse.faint_click:
                continue
            level_db = impulse.snr_db + trigger.noise_db
            if self._limit.admits(trigger.sample, level_db, like_blast=impulse.like_blast):
                found.append(impulse)
        return found

    def _impulse(self, trigger: Trigger) -> Impulse | None:
        """Return what set off a trigger; None where that is no sound."""
        start = max(self._first, trigger.sample - self._background)
        end = min(self._end, trigger.sample + self._analysis + self._reach)
        samples = self._buffer.samples(start, end)
        if trigger.sample >= end or self._is_cut(samples[trigger.sample - start :]):
            return None
        if is_step(samples, trigger.sample - start, self._sample_rate_hz):
            return None
        # Within the dead time of the trigger, the next one is known by now, whatever the size of the blocks.
        near = self._open and self._open[0].sample < trigger.sample + DEAD_HOPS * self._hop
        impulse, wave = measure(samples, start, trigger, self._open[0] if near else None, self._sample_rate_hz)
        level_db = impulse.snr_db + trigger.noise_db
        echo = self._echoes.features(impulse.onset_sample, level_db, wave, click=impulse.is_click)
        return impulse.with_features(echo)

    def _is_cut(self, samples: Samples) -> bool:
        """Return whether what set off a trigger, with whose samples these begin, was the step into digital silence."""
        after = samples[SILENCE_HOPS * self._hop : 2 * SILENCE_HOPS * self._hop]
        return len(after) >= self._hop and bool(np.all(after == after[0]))

    def _forget(self) -> None:
        """Drop the samples that neither an open impulse nor a coming trigger needs."""
        needed = self._next_frame if self._scan.first_unheard is None else self._scan.first_unheard
        if self._open:
            needed = min(needed, self._open[0].sample)
        self._buffer.forget(needed - self._background - self._reach)
