"""A simulated town on MQTT: virtual nodes that hear its shots in real time, and what was really fired."""

import threading
import time
from collections.abc import Callable

from soundranger_broker.mqtt import Address
from soundranger_broker.simulation import (
    Schedule,
    Shot,
    SimulatedSource,
    Town,
    VirtualMicrophone,
    heard_by,
    make_town,
    wall_clock,
)
from soundranger_broker.virtual import VirtualNetwork, VirtualPlace

# Detectors learn the background of their place before the first shot.
LEAD_IN_NS = 3_000_000_000
# Sound from the far side of the town, and the pipeline behind it, need this long to come in.
AFTERGLOW_S = 6.0
# How long the last detections may take to be delivered.
DRAIN_S = 3.0
# How often shots that have fallen are told.
TICK_S = 0.05


class SimulatedTown:
    """A town, its schedule of shots and its virtual nodes, connected to a broker."""

    def __init__(self, seed: int, nodes: int, address: Address, duration_s: float | None) -> None:
        self.town: Town = make_town(seed, nodes)
        self.start_ns = time.time_ns() + LEAD_IN_NS
        self.end_ns = None if duration_s is None else self.start_ns + round(duration_s * 1e9)
        self._schedule = Schedule(self.town, seed, self.start_ns, end_ns=self.end_ns)
        self._told_ns = self.start_ns
        self._network = VirtualNetwork()
        for number, node in enumerate(self.town.nodes):
            microphone = VirtualMicrophone(self.town, number, time.time_ns(), seed)
            source = SimulatedSource(microphone, self._schedule, wall_clock)
            place = VirtualPlace(
                node=node.name,
                lat=node.lat,
                lon=node.lon,
                alt_m=node.alt_m,
                clock=node.clock_tier,
                clock_sigma_s=node.clock_sigma_s,
                temperature_c=self.town.temperature_c,
            )
            self._network.add(source, place, f"{self.start_ns:x}", address, time.time_ns)

    def _fired(self) -> list[tuple[Shot, int]]:
        """Return the shots fired since the last call, each with the number of nodes that hear it."""
        now_ns = time.time_ns()
        shots = self._schedule.shots(self._told_ns, now_ns)
        self._told_ns = max(self._told_ns, now_ns)
        return [(shot, len(heard_by(self.town, shot))) for shot in shots]

    @property
    def over(self) -> bool:
        """Whether the last shot was fired and its sound has passed every node."""
        return self.end_ns is not None and time.time_ns() > self.end_ns + AFTERGLOW_S * 1e9

    def drain(self) -> int:
        """Wait for the last deliveries; return how many detections are left behind."""
        return self._network.drain(DRAIN_S)

    def close(self) -> None:
        """End all nodes."""
        self._network.close()

    def run(self, on_shot: Callable[[Shot, int], None], stopped: threading.Event) -> None:
        """Let the town fire, telling of every shot and how many nodes hear it, until it is over or stopped."""
        self._network.start()
        while not self.over and not stopped.wait(TICK_S):
            for shot, heard in self._fired():
                on_shot(shot, heard)
