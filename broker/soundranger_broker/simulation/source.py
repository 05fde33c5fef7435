"""A simulated node's source of sound: blocks of a virtual microphone, dated by a clock that is wrong."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event

import numpy as np

from soundranger_broker.simulation.microphone import VirtualMicrophone
from soundranger_broker.simulation.shots import Schedule
from soundranger_broker.simulation.town import Town, VirtualNode
from soundranger_node.blocks import Block, Timebase, Timing
from soundranger_node.utc import NS_PER_S

# What sound cards deliver at once, within a factor of a few.
BLOCK_S = 0.1
# For what the distances of nodes and walls leave out: heights, detours over screens, and the length of a blast.
FLIGHT_MARGIN_S = 0.5

# Returns when the UTC has come, or as soon as the event is set.
WaitUntil = Callable[[int, Event], None]


def wall_clock(utc_ns: int, closed: Event) -> None:
    """Wait until this machine's clock shows a UTC, or until `closed` is set."""
    closed.wait(max(0.0, (utc_ns - time.time_ns()) / NS_PER_S))


@dataclass(frozen=True)
class SimulatedTimebase:
    """Dates samples by the clock of a virtual node: wrong by its error, and stating its sigma."""

    node: VirtualNode
    start_ns: int
    sample_rate_hz: float

    def timing(self, sample: float) -> Timing:
        """Return the UTC of a sample as the node knows it."""
        since_start_s = sample / self.sample_rate_hz + self.node.clock_error_s
        terms_s = {"clock": self.node.clock_sigma_s}
        return Timing(self.start_ns + round(since_start_s * NS_PER_S), terms_s, self.node.clock_tier)


class SimulatedSource:
    """A source (see `soundranger_node.blocks`) that never ends by itself.

    It hears the shots of `schedule` with `microphone`. Before it yields a block it calls `wait_until` with the UTC of
    the block's end: `wall_clock` gives real time; one that returns at once gives blocks as fast as they are asked for.
    """

    def __init__(self, microphone: VirtualMicrophone, schedule: Schedule, wait_until: WaitUntil) -> None:
        self._microphone = microphone
        self._schedule = schedule
        self._wait_until = wait_until
        self._longest_flight_ns = round(_longest_flight_s(microphone.town) * NS_PER_S)
        self._closed = Event()

    @property
    def sample_rate_hz(self) -> float:
        """The rate of the samples, exact: a virtual sample clock does not drift."""
        return self._microphone.sample_rate_hz

    @property
    def timebase(self) -> Timebase:
        """Dates samples by the clock of the node."""
        return SimulatedTimebase(self._microphone.node, self._microphone.start_ns, self.sample_rate_hz)

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of 100 ms, until the source is closed."""
        count = round(BLOCK_S * self.sample_rate_hz)
        for first in itertools.count(0, count):
            end_ns = self._microphone.start_ns + round((first + count) / self.sample_rate_hz * NS_PER_S)
            self._wait_until(end_ns, self._closed)
            if self._closed.is_set():
                return
            shots = self._schedule.shots(end_ns - self._longest_flight_ns, end_ns)
            yield Block(self._microphone.render(first, count, shots), first)

    def close(self) -> None:
        """End `blocks` at once, also while it waits; safe from any thread, and more than once."""
        self._closed.set()


def _longest_flight_s(town: Town) -> float:
    """Return how long after a shot within the hull of the nodes any of it can still arrive, echoes included."""
    places_m = town.node_places_m()
    across_m = float(np.linalg.norm(places_m[:, None] - places_m[None, :], axis=-1).max())
    to_a_wall_m = max((wall.distance_m for node in town.nodes for wall in node.walls), default=0.0)
    slowest_mps = town.speed_of_sound_mps - math.hypot(town.wind_east_mps, town.wind_north_mps)
    return (across_m + 2 * to_a_wall_m) / slowest_mps + FLIGHT_MARGIN_S
