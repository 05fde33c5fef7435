"""A sound card and the computer that it is in, as their clocks see it: what capture is told of each block, and when.

The truth is the computer's monotonic clock; UTC is that plus a difference which steps now and then. The card's samples
come at a rate of its own, its blocks are noticed late, some very late, and some are lost.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from soundranger_broker.acoustics import Floats
from soundranger_node.blocks import Samples
from soundranger_node.utc import NS_PER_S

# Edges of a pulse pass an anti-alias filter: a step takes about a sample.
EDGE_SAMPLES = 0.5
# How far beside an edge a filtered step differs from a sharp one.
EDGE_REACH = 8


@dataclass(frozen=True)
class Lateness:
    """How late a block is noticed: at the next of its bus's frames, then whenever the computer gets round to it.

    `frame_s` is 0 without frames. Frames run on the computer's own clock; with `scattered` each block meets them at a
    chance phase, as where a driver's transfers are not a whole number of frames. `scheduling_s` is the mean of an
    exponential delay, `late_share` of the blocks are a uniform up to `late_s` later still.
    """

    frame_s: float
    scheduling_s: float
    scattered: bool = False
    late_share: float = 0.01
    late_s: float = 0.03


USB_FULL_SPEED = Lateness(1e-3, 50e-6)
USB_FULL_SPEED_SCATTERED = replace(USB_FULL_SPEED, scattered=True)
USB_HIGH_SPEED = Lateness(125e-6, 50e-6)
USB_HIGH_SPEED_SCATTERED = replace(USB_HIGH_SPEED, scattered=True)
I2S = Lateness(0.0, 30e-6)


@dataclass(frozen=True)
class Callback:
    """What one callback is told: frames before its block, the driver's times, and the computer's clocks at its call.

    `missing` counts the frames that were lost just before this block; `overflow` is all that the driver says of it.
    """

    first: int
    adc_s: float
    current_s: float
    monotonic_ns: int
    utc_ns: int
    overflow: bool
    missing: int


@dataclass(frozen=True)
class SoundCardModel:
    """A card of `sample_rate_hz` whose samples come `ppm` late; its rate wanders by `wander_ppm` in `wander_period_s`.

    `losses` are (seconds, frames lost), `steps` are (seconds, by how many seconds the system clock steps), both since
    the first sample, in order. `domain` is the clock that the driver stamps by. The same seed gives the same card.
    """

    lateness: Lateness
    seed: int
    sample_rate_hz: int = 48_000
    block: int = 960
    ppm: float = 0.0
    wander_ppm: float = 0.0
    wander_period_s: float = 600.0
    losses: tuple[tuple[float, int], ...] = ()
    steps: tuple[tuple[float, float], ...] = ()
    domain: Literal["monotonic", "realtime"] = "monotonic"
    start_ns: int = 1_000 * NS_PER_S
    utc_offset_ns: int = 1_750_000_000 * NS_PER_S

    def true_s(self, sample: float) -> float:
        """Return when a sample (lost ones count) was taken, in monotonic seconds since the first."""
        return float(self._true_s(np.asarray(sample, dtype=float)))

    def true_monotonic_ns(self, sample: float) -> int:
        """Return when a sample (lost ones count) was taken, on the monotonic clock."""
        return self.start_ns + round(self.true_s(sample) * NS_PER_S)

    def offset_ns(self, monotonic_ns: int) -> int:
        """Return how far the system clock is ahead of the monotonic one, as it shows then."""
        since_s = (monotonic_ns - self.start_ns) / NS_PER_S
        return self.utc_offset_ns + sum(round(step_s * NS_PER_S) for at_s, step_s in self.steps if at_s <= since_s)

    def callbacks(self, seconds: float) -> Iterator[Callback]:
        """Yield what the blocks of so many seconds bring, in order; a little faster than a node can take them."""
        samples, first, missing = self._blocks(seconds)
        ends_s = self._true_s(samples + self.block)
        rng = np.random.default_rng(self.seed)
        noticed_s = ends_s + self._late_s(ends_s, rng)
        # The driver reads its clock when the block is noticed; the call comes a moment later.
        called_s = noticed_s + rng.exponential(20e-6, len(ends_s))
        for number, count in enumerate(first):
            noticed_ns = self.start_ns + round(noticed_s[number] * NS_PER_S)
            called_ns = self.start_ns + round(called_s[number] * NS_PER_S)
            stamp_ns = noticed_ns + (self.offset_ns(noticed_ns) if self.domain == "realtime" else 0)
            current_s = stamp_ns / NS_PER_S
            adc_s = current_s - self.block / self.sample_rate_hz
            utc_ns = called_ns + self.offset_ns(called_ns)
            lost = int(missing[number])
            yield Callback(int(count), adc_s, current_s, called_ns, utc_ns, lost > 0, lost)

    def times_ns(self, seconds: float) -> list[tuple[int, int]]:
        """Return (sample, lost ones count; monotonic time at which it seems to have been taken) of each block."""
        samples, _, _ = self._blocks(seconds)
        ends_s = self._true_s(samples + self.block)
        late_s = self._late_s(ends_s, np.random.default_rng(self.seed))
        taken_s = ends_s + late_s - self.block / self.sample_rate_hz
        return [(int(sample), self.start_ns + round(s * NS_PER_S)) for sample, s in zip(samples, taken_s, strict=True)]

    def _blocks(self, seconds: float) -> tuple[Floats, Floats, Floats]:
        """Return each block's first sample, the same as the driver counts it, and the frames lost just before it."""
        first = np.arange(0.0, seconds * self.sample_rate_hz - self.block, self.block)
        missing = np.zeros_like(first)
        for at_s, frames in self.losses:
            missing[np.searchsorted(first, at_s * self.sample_rate_hz)] += frames
        return first + np.cumsum(missing), first, missing

    def _true_s(self, samples: Floats) -> Floats:
        nominal_s = samples / self.sample_rate_hz
        turn = 2 * np.pi / self.wander_period_s
        phase = np.random.default_rng([self.seed, 1]).uniform(0, 2 * np.pi)
        wander_s = 1e-6 * self.wander_ppm / turn * (np.sin(turn * nominal_s + phase) - np.sin(phase))
        true_s: Floats = nominal_s * (1 + self.ppm * 1e-6) + wander_s
        return true_s

    def _late_s(self, ends_s: Floats, rng: np.random.Generator) -> Floats:
        law = self.lateness
        late_s = rng.exponential(law.scheduling_s, len(ends_s))
        late_s += np.where(rng.random(len(ends_s)) < law.late_share, rng.uniform(0, law.late_s, len(ends_s)), 0)
        phase_s = rng.uniform(0, law.frame_s, len(ends_s) if law.scattered else 1)
        if law.scattered:
            late_s += phase_s
        elif law.frame_s:
            late_s += -(ends_s + phase_s) % law.frame_s
        return late_s


@dataclass(frozen=True)
class PulseChannel:
    """The channel of a card that a GPS's pulse per second is wired to.

    A pulse rises at each whole second of UTC (`utc_offset_ns` of `card`, before any step), but those in `absent`,
    which count from the first of the stream. `coupling_s` is the time constant of an AC-coupled input, None for a DC
    one; `level` is negative where the wires are swapped. `noise` is the standard deviation of white noise.
    """

    card: SoundCardModel
    level: float = 0.5
    width_s: float = 0.1
    coupling_s: float | None = 0.005
    noise: float = 1e-3
    absent: range = range(0)

    def render(self, first: int, count: int) -> Samples:
        """Return samples `first` to `first + count`, shape (count,); lost ones count.

        The noise is another where the samples are cut otherwise.
        """
        card = self.card
        samples = np.arange(first, first + count, dtype=float)
        signal = np.random.default_rng([card.seed, 2, first]).normal(0, self.noise, count)
        origin_ns = card.start_ns + card.utc_offset_ns
        heard_ns = origin_ns + round((card.true_s(first) - self._reach_s()) * NS_PER_S)
        stop_ns = origin_ns + round(card.true_s(first + count) * NS_PER_S)
        for second in range(-(-max(heard_ns, origin_ns) // NS_PER_S), stop_ns // NS_PER_S + 1):
            if second - origin_ns // NS_PER_S not in self.absent:
                rise_s = (second * NS_PER_S - origin_ns) / NS_PER_S
                signal += self._step(samples - self._sample_at(rise_s))
                signal -= self._step(samples - self._sample_at(rise_s + self.width_s))
        return np.clip(signal, -1, 1).astype(np.float32)

    def _reach_s(self) -> float:
        """Return for how long a pulse is heard after its rise."""
        return self.width_s + 10 * (self.coupling_s or 0.0) + 1e-3

    def _sample_at(self, true_s: float) -> float:
        """Return the sample that is taken at a time: the rate error is small, so two steps find it."""
        sample = true_s * self.card.sample_rate_hz
        for _ in range(3):
            sample += (true_s - self.card.true_s(sample)) * self.card.sample_rate_hz
        return sample

    def _step(self, since: Floats) -> Floats:
        """Return a step at sample 0 as the card hears it, at so many samples after it."""
        rounded = 0.5 + np.tanh(np.clip(since / EDGE_SAMPLES, -EDGE_REACH, EDGE_REACH)) / 2
        decay_s = np.maximum(since, 0) / self.card.sample_rate_hz
        hold = 1.0 if self.coupling_s is None else np.exp(-decay_s / self.coupling_s)
        return np.asarray(self.level * rounded * hold)
