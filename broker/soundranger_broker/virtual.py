"""Virtual nodes: the real node, from pipeline to MQTT, fed from a simulated microphone or a recording."""

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from soundranger_broker.mqtt import Address
from soundranger_node import __version__
from soundranger_node.blocks import Source
from soundranger_node.clips import Clips
from soundranger_node.detector import Detector
from soundranger_node.link import Link, LinkSettings
from soundranger_node.messages import ClockStatus, ClockTier, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.pipeline import Pipeline, Place
from soundranger_node.runtime import Node
from soundranger_node.signing import public_key

# How often an outbox is looked at while it drains.
DRAIN_POLL_S = 0.05


@dataclass(frozen=True)
class VirtualPlace:
    """What a virtual node says of itself: its name, its place, its clock and the temperature there."""

    node: str
    lat: float
    lon: float
    alt_m: float
    clock: ClockTier
    clock_sigma_s: float
    temperature_c: float | None
    position_sigma_m: float = 0.1


class VirtualNode:
    """One node in a thread of this process, with its own key, outbox and connection."""

    def __init__(
        self, source: Source, place: VirtualPlace, boot: str, address: Address, folder: Path, now_ns: Callable[[], int]
    ) -> None:
        self.place = place
        self._now_ns = now_ns
        self._started_s = time.monotonic()
        self._key = SigningKey.generate()
        self._outbox = Outbox(folder / f"{place.node}.db")
        self._pipeline = Pipeline(
            node=place.node,
            boot=boot,
            place=Place(place.lat, place.lon, place.alt_m, place.position_sigma_m),
            timebase=source.timebase,
            detector=Detector(source.sample_rate_hz),
            temperature_c=place.temperature_c,
        )
        settings = LinkSettings(host=address.host, port=address.port, user=address.user, password=address.password)
        clips = Clips(source.sample_rate_hz, source.timebase)
        link = Link(settings, self._outbox, self.status(), clips.ask)
        self._node = Node(source, self._pipeline, self._outbox, link, self.status, key=self._key, clips=clips)
        self._thread = threading.Thread(target=self._node.run, name=f"node {place.node}", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    @property
    def listening(self) -> bool:
        """Whether the source still yields sound."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many detections are not delivered yet."""
        return self._outbox.depth

    def close(self) -> None:
        """Say goodbye and end."""
        self._node.close()

    def status(self) -> NodeStatus:
        """Return the node's health."""
        place = self.place
        return NodeStatus(
            node=place.node,
            online=True,
            time_ns=self._now_ns(),
            version=__version__,
            lat=place.lat,
            lon=place.lon,
            alt_m=place.alt_m,
            position_sigma_m=place.position_sigma_m,
            clock=ClockStatus(tier=place.clock, bound_s=2 * place.clock_sigma_s, source="simulated"),
            noise_dbfs=self._pipeline.noise_dbfs,
            outbox=self._outbox.depth,
            withheld=self._pipeline.withheld,
            uptime_s=time.monotonic() - self._started_s,
            temperature_c=place.temperature_c,
            public_key=public_key(self._key),
        )


class VirtualNetwork:
    """Virtual nodes that start and end together; their outboxes live in a temporary folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="soundranger-nodes-")
        self.nodes: list[VirtualNode] = []

    def add(self, source: Source, place: VirtualPlace, boot: str, address: Address, now_ns: Callable[[], int]) -> None:
        """Add a node that hears `source`."""
        self.nodes.append(VirtualNode(source, place, boot, address, Path(self._folder.name), now_ns))

    def start(self) -> None:
        """Start all nodes."""
        for node in self.nodes:
            node.start()

    @property
    def listening(self) -> int:
        """How many nodes still hear."""
        return sum(node.listening for node in self.nodes)

    def drain(self, most_s: float) -> int:
        """Wait until every detection is delivered, `most_s` at the most; return how many are not."""
        give_up_s = time.monotonic() + most_s
        while time.monotonic() < give_up_s and any(node.waiting for node in self.nodes):
            time.sleep(DRAIN_POLL_S)
        return sum(node.waiting for node in self.nodes)

    def close(self) -> None:
        """End all nodes, at once rather than one after the other."""
        _all_at_once([node.close for node in self.nodes])
        self._folder.cleanup()


def _all_at_once(actions: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
