"""From the onset of a bang to its detection at a subscriber: the real node and a real mosquitto, in real time.

The sound comes in blocks of 20 ms, each when its last sample would have been recorded; the goal is 300 ms.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from soundranger_broker.mqtt import SpawnedMosquitto
from soundranger_node.audiofile import FileTimebase
from soundranger_node.blocks import Block, Samples
from soundranger_node.detector import Detector
from soundranger_node.link import Link, LinkSettings
from soundranger_node.messages import DETECTION, ClockStatus, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.pipeline import Pipeline, Place
from soundranger_node.runtime import Node
from soundranger_node.topics import every_node
from soundranger_node.utc import NS_PER_S

RATE_HZ = 48_000
BLOCK = 960
SECONDS = 45
PLACE = Place(48.1, 11.5, 520.0, 1.0)
START_S = 3.0


class InTime:
    """A Source that yields sound block by block as time goes by."""

    sample_rate_hz = float(RATE_HZ)

    def __init__(self, sound: Samples, start_ns: int) -> None:
        self.timebase = FileTimebase(start_ns, RATE_HZ)
        self._sound = sound
        self._closed = threading.Event()

    def blocks(self) -> Iterator[Block]:
        """Yield each block when its last sample has been recorded."""
        for first in range(0, len(self._sound), BLOCK):
            end_ns = self.timebase.timing(first + BLOCK).time_ns
            if self._closed.wait(max(0.0, (end_ns - time.time_ns()) / NS_PER_S)):
                return
            yield Block(self._sound[first : first + BLOCK], first)

    def close(self) -> None:
        """End `blocks`."""
        self._closed.set()


def sound() -> tuple[Samples, int]:
    """Return noise with a blast about every 0.3 s, at all phases of blocks and frames, and how many there are."""
    rng = np.random.default_rng(1)
    made = rng.normal(0, 1e-3, SECONDS * RATE_HZ)
    time_s = np.arange(RATE_HZ // 20) / RATE_HZ
    blast = 0.3 * (1 - time_s / 3e-3) * np.exp(-time_s / 3e-3)
    onsets = np.arange(2.0, SECONDS - 2.0, 0.3137)
    for onset in (onsets * RATE_HZ).astype(int):
        made[onset : onset + len(blast)] += blast
    return made.astype(np.float32), len(onsets)


def main() -> None:
    """Print the percentiles of the latency."""
    broker = SpawnedMosquitto()
    late_s: list[float] = []

    def take(_client: Client, _data: Any, message: MQTTMessage) -> None:
        late_s.append((time.time_ns() - DETECTION.decode(bytes(message.payload)).time_ns) / NS_PER_S)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    client.on_connect = lambda connected, *_: connected.subscribe(every_node("detection"), 1)
    client.connect(broker.address.host, broker.address.port)
    client.loop_start()
    made, count = sound()
    source = InTime(made, time.time_ns() + round(START_S * NS_PER_S))
    with TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "outbox.sqlite")
        detector = Detector(RATE_HZ, limit_per_minute=6_000)
        pipeline = Pipeline(node="late", boot="1", place=PLACE, timebase=source.timebase, detector=detector)
        status = NodeStatus(
            node="late", online=True, time_ns=time.time_ns(), version="bench", clock=ClockStatus(tier="free"),
            lat=PLACE.lat, lon=PLACE.lon, alt_m=PLACE.alt_m, position_sigma_m=PLACE.position_sigma_m,
        )  # fmt: skip
        settings = LinkSettings(host=broker.address.host, port=broker.address.port, delivery="broker")
        node = Node(source, pipeline, outbox, Link(settings, outbox, status), lambda: status)
        node.run()
        node.close()
    client.loop_stop()
    broker.stop()
    ms = 1e3 * np.array(late_s)
    p50, p99 = np.percentile(ms, (50, 99))
    print(f"{count} blasts, {len(ms)} detections")
    print(f"onset to subscriber: p50 {p50:.0f}, p99 {p99:.0f}, at most {ms.max():.0f} ms")


if __name__ == "__main__":
    main()
