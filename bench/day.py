"""A day in ten minutes: 24 h of sound through the real node, with the troubles of a day, and every shot counted.

The node is the real one from the sample clock to MQTT: StationClock, Detector, Pipeline, Outbox, Link and a mosquitto.
Only the sound card and the hours are simulated. On this day the clock steps three times: it is not set until ten
minutes after the boot, it is put right by 0.3 s after a daemon lost and found its server, and a leap second is inserted
at midnight. The microphone is unplugged twice, the network is away for an hour, and there are bursts of automatic fire.

Every shot must be delivered once, with a time within its own sigma, unless the microphone was unplugged when it came.
The process's memory is written down every hour.

    python bench/day.py               24 hours
    python bench/day.py --hours 3     a short one: the troubles come at the same shares of it
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from soundranger_broker.mqtt import SpawnedMosquitto, free_port
from soundranger_broker.simulation.sound_card import I2S, SoundCardModel
from soundranger_node.blocks import Block, Samples
from soundranger_node.detector import Detector
from soundranger_node.link import Link, LinkSettings
from soundranger_node.messages import ACK, DETECTION, Ack, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.pipeline import Pipeline, Place
from soundranger_node.runtime import Node
from soundranger_node.timekeeping.domain import recorded_monotonic_ns
from soundranger_node.timekeeping.quality import ClockQuality, Leap
from soundranger_node.timekeeping.station_clock import StationClock
from soundranger_node.timekeeping.utc_clock import ClockRead
from soundranger_node.topics import every_node
from soundranger_node.utc import NS_PER_S

HOUR_S = 3_600.0
RATE_HZ = 48_000
BLOCK = 960
PPM = 50.0
PLACE = Place(48.1, 11.5, 520.0, 1.0)
BOOT_NS = 100 * NS_PER_S
# Midnight UTC before a day whose end has a leap second in this story.
MIDNIGHT_NS = 1_798_675_200 * NS_PER_S
# How far off a clock without a battery is at boot, and the daemon's later mistake.
UNSET_S = -10_000.0
MISTAKE_S = 0.3
NTP_SIGMA_S = 1e-3
# As the watch on the clock does.
READ_S, JUDGE_S = 1.0, 10.0
# Shots come this far apart on average, at least this far, and now and then as a burst.
MEAN_GAP_S = 15.0
LEAST_GAP_S = 1.0
BURST_SHARE = 0.05
BURST_ROUNDS = 10
BURST_GAP_S = 0.1
PEAK = 0.2
# A true shot and a detection belong together within this; the clock is a few ms off at the most.
MATCH_S = 0.03
DRAIN_S = 120.0
SEED = 3


@dataclass(frozen=True)
class Plan:
    """When what happens, in seconds since the boot: the shares of a day at which its troubles come."""

    seconds: float

    @property
    def set_s(self) -> float:
        """When the clock is first set."""
        return min(600.0, 0.05 * self.seconds)

    @property
    def lost_s(self) -> tuple[float, float]:
        """From when to when the clock is wrong and nobody vouches for it."""
        return 0.33 * self.seconds, 0.33 * self.seconds + 300.0

    @property
    def leap_s(self) -> float:
        """When the leap second is inserted: midnight."""
        return 0.75 * self.seconds

    @property
    def unplugged_s(self) -> tuple[tuple[float, float], ...]:
        """From when to when there is no microphone."""
        return tuple((share * self.seconds, share * self.seconds + 180.0) for share in (0.25, 0.6))

    @property
    def offline_s(self) -> tuple[float, float]:
        """From when to when there is no network."""
        return 0.45 * self.seconds, 0.45 * self.seconds + self.seconds / 24

    def true_offset_ns(self, since_s: float) -> int:
        """Return UTC less the monotonic clock, in truth."""
        leapt = since_s >= self.leap_s
        return MIDNIGHT_NS - BOOT_NS - round(self.leap_s * NS_PER_S) - leapt * NS_PER_S

    def shown_offset_ns(self, since_s: float) -> int:
        """Return UTC less the monotonic clock, as the system clock has it."""
        wrong_s = UNSET_S if since_s < self.set_s else 0.0
        wrong_s += MISTAKE_S if self.lost_s[0] <= since_s < self.lost_s[1] else 0.0
        return self.true_offset_ns(since_s) + round(wrong_s * NS_PER_S)

    def quality(self, since_s: float) -> ClockQuality:
        """Return what a daemon would say of the system clock."""
        good = since_s >= self.set_s and not self.lost_s[0] <= since_s < self.lost_s[1]
        leap: Leap = "insert" if self.leap_s - 12 * HOUR_S < since_s < self.leap_s else "none"
        why = "chrony follows a server" if good else "chrony has no source of time"
        return ClockQuality("ntp", good, NTP_SIGMA_S, 3 * NTP_SIGMA_S if good else None, "chrony", why, leap=leap)


def shot_times(plan: Plan, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return when shots are heard, in true seconds since the boot, increasing."""
    times: list[float] = []
    at_s = 20.0
    while at_s < plan.seconds - 20.0:
        rounds = BURST_ROUNDS if rng.random() < BURST_SHARE else 1
        times += [at_s + number * BURST_GAP_S for number in range(rounds)]
        at_s = times[-1] + LEAST_GAP_S + rng.exponential(MEAN_GAP_S)
    return np.array(times)


def blast() -> Samples:
    """Return a muzzle blast that rises within a sample: Friedlander's wave of 3 ms with a tail."""
    time_s = np.arange(round(0.06 * RATE_HZ)) / RATE_HZ
    return (PEAK * (1 - time_s / 3e-3) * np.exp(-time_s / 3e-3)).astype(np.float32)


class DaySource:
    """A Source: the blocks of a simulated card, hour by hour, while its clocks are told to `clock` as capture would."""

    sample_rate_hz = float(RATE_HZ)

    def __init__(
        self, plan: Plan, clock: StationClock, shots_s: NDArray[np.float64], on_time: Callable[[float], None]
    ) -> None:
        self.heard_s: list[float] = []
        self.now_s = 0.0
        self._plan = plan
        self._clock = clock
        self._shots_s = shots_s
        self._on_time = on_time
        self._read_s = self._judged_s = -np.inf
        rng = np.random.default_rng(SEED)
        self._noise = rng.standard_normal(61 * RATE_HZ).astype(np.float32)
        self._rng = rng
        self._blast = blast()

    @property
    def timebase(self) -> StationClock:
        """The clock that is told of every block."""
        return self._clock

    def blocks(self) -> Iterator[Block]:
        """Yield the day's blocks, an empty one for each second without a microphone."""
        first = 0
        edges = sorted(
            {0.0, self._plan.seconds, *np.arange(0, self._plan.seconds, HOUR_S), *np.ravel(self._plan.unplugged_s)}
        )
        for start_s, end_s in pairwise(edges):
            if any(gone <= start_s < back for gone, back in self._plan.unplugged_s):
                yield from self._nothing(start_s, end_s, first)
                first += round((end_s - start_s + 1) * RATE_HZ)
                self._clock.restart()
                continue
            for block in self._stretch(start_s, end_s, first):
                yield block
                first = block.first + BLOCK

    def close(self) -> None:
        """End nothing: the day ends by itself."""

    def _nothing(self, start_s: float, end_s: float, first: int) -> Iterator[Block]:
        for second in np.arange(start_s, end_s):
            self._watch(float(second))
            yield Block(np.empty(0, np.float32), first)

    def _stretch(self, start_s: float, end_s: float, first: int) -> Iterator[Block]:
        """Yield the blocks of a stretch without a gap, whose first sample is taken at `start_s`."""
        card = SoundCardModel(
            I2S, seed=round(start_s), sample_rate_hz=RATE_HZ, block=BLOCK, ppm=PPM,
            start_ns=BOOT_NS + round(start_s * NS_PER_S), utc_offset_ns=0,
        )  # fmt: skip
        # The next stretch begins where the last block of this one ends, to a block's length.
        seconds = (end_s - start_s) / (1 + PPM * 1e-6)
        inside = self._shots_s[(self._shots_s >= start_s + 0.1) & (self._shots_s < end_s - 0.3)]
        onsets = np.ceil((inside - start_s) / (1 + PPM * 1e-6) * RATE_HZ).astype(int)
        self.heard_s += [start_s + card.true_s(onset) for onset in onsets]
        waiting = list(onsets)
        for callback in card.callbacks(seconds):
            since_s = (callback.monotonic_ns - BOOT_NS) / NS_PER_S
            self._watch(since_s)
            utc_ns = callback.monotonic_ns + self._plan.shown_offset_ns(since_s)
            at_ns = recorded_monotonic_ns(
                callback.adc_s, callback.current_s, callback.monotonic_ns, utc_ns, BLOCK / RATE_HZ
            )
            self._clock.add(first + callback.first, at_ns)
            yield Block(self._sound(callback.first, waiting), first + callback.first)
            while waiting and waiting[0] + len(self._blast) <= callback.first + BLOCK:
                waiting.pop(0)

    def _sound(self, first: int, onsets: list[int]) -> Samples:
        at = (
            int(self._rng.integers(0, len(self._noise) - BLOCK))
            if first % RATE_HZ == 0
            else (first * 7) % (60 * RATE_HZ)
        )
        level = 1e-3 * (1 + 2 * (first // (600 * RATE_HZ) % 3))
        sound = self._noise[at : at + BLOCK] * np.float32(level)
        for onset in onsets:
            if onset >= first + BLOCK:
                break
            start, end = max(onset, first), min(onset + len(self._blast), first + BLOCK)
            sound[start - first : end - first] += self._blast[start - onset : end - onset]
        return sound

    def _watch(self, since_s: float) -> None:
        """Do what the watch on the system clock does, as often."""
        self.now_s = since_s
        if since_s - self._read_s < READ_S:
            return
        self._read_s = since_s
        monotonic_ns = BOOT_NS + round(since_s * NS_PER_S)
        self._clock.read(ClockRead(monotonic_ns, monotonic_ns + self._plan.shown_offset_ns(since_s), 500))
        if since_s - self._judged_s >= JUDGE_S:
            self._judged_s = since_s
            self._clock.judge(self._plan.quality(since_s), monotonic_ns)
            self._on_time(since_s)


@dataclass
class FarSide:
    """A centre's part: keeps each detection's time and sigma once, so as not to grow much itself, and acks it."""

    port: int
    kept: dict[str, tuple[int, float]] = field(default_factory=dict)
    again: int = 0

    def __post_init__(self) -> None:
        """Connect, and go on trying."""
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="far-side")
        self._client.on_connect = lambda client, *_: client.subscribe(every_node("detection"), 1)
        self._client.on_message = self._take
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async("127.0.0.1", self.port)
        self._client.loop_start()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        detection = DETECTION.decode(bytes(message.payload))
        self.again += detection.id in self.kept
        self.kept[detection.id] = (detection.time_ns, detection.time_sigma_s)
        ack = message.topic.removesuffix("detection") + "ack"
        client.publish(ack, ACK.encode(Ack(detections=[detection.id])), 1)


class Network:
    """The MQTT broker, there or not as the plan says; and a line of figures every hour."""

    def __init__(self, plan: Plan) -> None:
        self.port = free_port()
        self._plan = plan
        self._broker: SpawnedMosquitto | None = SpawnedMosquitto(self.port)
        self._hour = 0
        self.memory_mb: list[float] = []
        self.line: Callable[[], str] = str

    def at(self, since_s: float) -> None:
        """Be as the network is at a time."""
        there = not self._plan.offline_s[0] <= since_s < self._plan.offline_s[1]
        if there and self._broker is None:
            self._broker = SpawnedMosquitto(self.port)
        elif not there and self._broker is not None:
            self.close()
        if since_s >= self._hour * HOUR_S:
            self.memory_mb.append(resident_mb())
            print(f"{self._hour:4d} h  {self.memory_mb[-1]:7.1f} MB  {self.line()}", flush=True)
            self._hour += 1

    def close(self) -> None:
        """Stop the broker."""
        if self._broker is not None:
            self._broker.stop()
            self._broker = None


def resident_mb() -> float:
    """Return what this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def run(hours: float) -> int:
    """Live the day, print its figures, and return how many shots are not accounted for."""
    plan = Plan(hours * HOUR_S)
    shots_s = shot_times(plan, np.random.default_rng(SEED))
    read = ClockRead(BOOT_NS, BOOT_NS + plan.shown_offset_ns(0.0), 500)
    clock = StationClock(RATE_HZ, boot="day", read=read, quality=plan.quality(0.0))
    network = Network(plan)
    far_side = FarSide(network.port)
    source = DaySource(plan, clock, shots_s, network.at)
    with TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "outbox.sqlite")
        pipeline = Pipeline(node="day", boot="1", place=PLACE, timebase=clock, detector=Detector(RATE_HZ))

        def status() -> NodeStatus:
            since_s = source.now_s
            now_ns = BOOT_NS + round(since_s * NS_PER_S) + plan.shown_offset_ns(since_s)
            return NodeStatus(
                node="day", online=True, time_ns=now_ns, version="day", lat=PLACE.lat, lon=PLACE.lon, alt_m=PLACE.alt_m,
                position_sigma_m=PLACE.position_sigma_m, clock=clock.status(),
            )  # fmt: skip

        link = Link(LinkSettings(port=network.port), outbox, status())
        node = Node(source, pipeline, outbox, link, status, retrospect=clock)
        network.line = lambda: f"{len(far_side.kept)} arrived, {outbox.depth} wait, {outbox.undated} undated"
        started_s = time.monotonic()
        node.run()
        took_s = time.monotonic() - started_s
        give_up_s = time.monotonic() + DRAIN_S
        while (outbox.depth or outbox.undated) and time.monotonic() < give_up_s:
            time.sleep(0.1)
        left, lost_to, withheld = outbox.depth + outbox.undated, outbox.lost_to, pipeline.withheld
        node.close()
    far_side.close()
    network.close()
    return report(plan, source, list(far_side.kept.values()), shots_s) + conclude(
        took_s, plan, network.memory_mb, left=left, again=far_side.again, lost=sum(lost_to.values()), withheld=withheld
    )


def report(plan: Plan, source: DaySource, kept: list[tuple[int, float]], shots_s: NDArray[np.float64]) -> int:
    """Print how shots and detections match; return how many shots that were heard have no detection."""
    true_ns = np.array([BOOT_NS + round(s * NS_PER_S) + plan.true_offset_ns(s) for s in source.heard_s])
    times_ns = np.array(sorted(time_ns for time_ns, _ in kept))
    sigma_s = dict(kept)
    nearest = np.clip(np.searchsorted(times_ns, true_ns), 1, len(times_ns) - 1)
    nearest -= np.abs(times_ns[nearest - 1] - true_ns) < np.abs(times_ns[nearest] - true_ns)
    error_s = (times_ns[nearest] - true_ns) / NS_PER_S
    # A shot from before the clock was first set is dated in retrospect, with the crystal's drift in its sigma.
    sigmas_s = np.array([sigma_s[int(at_ns)] for at_ns in times_ns[nearest]])
    found = np.abs(error_s) < np.maximum(MATCH_S, 5 * sigmas_s)
    for heard_s, off_s in zip(np.array(source.heard_s)[~found], error_s[~found], strict=True):
        print(f"missing: the shot at {heard_s:.1f} s; the nearest detection is {off_s:+.3f} s off")
    early = np.array(source.heard_s) < plan.set_s
    print(f"\nshots {len(shots_s)}, of these while the microphone was unplugged {len(shots_s) - len(true_ns)}")
    delivered, missing = np.count_nonzero(found), np.count_nonzero(~found)
    print(f"heard by the microphone {len(true_ns)}, delivered {delivered}, missing {missing}")
    print(f"detections {len(kept)}, of these belong to no shot {len(kept) - len(set(nearest[found].tolist()))}")
    for name, chosen in (("before the clock was set", early & found), ("after", ~early & found)):
        if chosen.any():
            pulls = error_s[chosen] / sigmas_s[chosen]
            middle_us, most_us = 1e6 * np.median(error_s[chosen]), 1e6 * np.abs(error_s[chosen]).max()
            print(
                f"{name}: {np.count_nonzero(chosen)} shots, error {middle_us:+.0f} us in the median, "
                f"{most_us:.0f} us at most; error/sigma at most {np.abs(pulls).max():.2f}"
            )
    return int(np.count_nonzero(~found))


def conclude(
    took_s: float, plan: Plan, memory_mb: list[float], *, left: int, again: int, lost: int, withheld: int
) -> int:
    """Print the figures of the run; return how many detections are not accounted for."""
    print(f"still waiting {left}, lost {lost}, withheld {withheld}, delivered more than once {again}")
    settled = memory_mb[min(2, len(memory_mb) - 1) :]
    print(
        f"memory: {settled[0]:.1f} MB after two hours, {max(settled):.1f} MB at most, {settled[-1]:.1f} MB at the end"
    )
    print(f"{plan.seconds / HOUR_S:g} h in {took_s:.0f} s: {plan.seconds / took_s:.0f} times faster than the day")
    return left + lost


def main() -> None:
    """Run from the command line; exit status 1 where a shot is not accounted for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0, help="how long the day is (default 24)")
    raise SystemExit(1 if run(parser.parse_args().hours) else 0)


if __name__ == "__main__":
    main()
