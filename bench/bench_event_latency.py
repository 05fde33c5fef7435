"""From the fourth node's detection to the event at a subscriber: real brokers, 30 nodes, 50 detections a second.

Nodes publish as they hear, in real time: bangs here and there in 2 km by 2 km, and clutter on top until it is 50 a
second. The clock starts when the fourth node that hears a bang publishes its detection, and stops when the first event
that rests on any of the bang's arrivals is received. The goal is 0.5 s at the 99th percentile.
"""

import argparse
import time
from typing import Any

import numpy as np
import pymap3d
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from soundranger_broker.centre import Centre
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import EmbeddedBroker, SpawnedMosquitto
from soundranger_broker.warm import warm_up
from soundranger_node.messages import DETECTION, EVENT, Detection
from soundranger_node.topics import node_topic
from soundranger_node.utc import NS_PER_S

MIDDLE = (48.137, 11.575)
NODES = 30
SIDE_M = 2_000.0
HEARD_M = 900.0
SPEED_MPS = 340.0
BANG_EVERY_S = 0.5
# A node's pipeline and its link.
DELAY_S = (0.05, 0.15)
FOURTH = 4
LATENESS_NS = 2 * NS_PER_S
# Nothing more comes of a bang after this.
AFTERGLOW_S = 6.0

# When it is published (s from the start), when it was heard, by which node, how loud, and of which bang (-1: none).
Report = tuple[float, float, int, float, int]


def reports(rng: np.random.Generator, places_m: Any, seconds: float, rate_hz: float) -> list[Report]:
    """Return what all nodes report, in the order in which it is published."""
    heard: list[Report] = []
    for bang, at_s in enumerate(np.arange(1.0, seconds, BANG_EVERY_S)):
        distances_m = np.linalg.norm(places_m - rng.uniform(-0.35, 0.35, 2) * SIDE_M, axis=1)
        for node in np.flatnonzero(distances_m < HEARD_M).tolist():
            when_s = float(at_s + distances_m[node] / SPEED_MPS + rng.normal(0.0, 1e-3))
            level_db = 78.0 - 20.0 * np.log10(max(distances_m[node], 10.0)) + rng.normal(0.0, 4.0)
            heard.append((when_s + rng.uniform(*DELAY_S), when_s, node, float(level_db), bang))
    for when_s in rng.uniform(0.0, seconds, max(0, round(rate_hz * seconds) - len(heard))).tolist():
        node, level_db = int(rng.integers(NODES)), float(rng.uniform(6.0, 25.0))
        heard.append((when_s + rng.uniform(*DELAY_S), when_s, node, level_db, -1))
    return sorted(heard)


def measure(broker: EmbeddedBroker | SpawnedMosquitto, seconds: float, rate_hz: float) -> tuple[int, list[float]]:
    """Return how many bangs four nodes heard, and the latencies (s) of those that became events."""
    rng = np.random.default_rng(1)
    places_m = rng.uniform(-0.5, 0.5, (NODES, 2)) * SIDE_M
    fourth_s, event_s, told = dict[int, float](), dict[int, float](), dict[int, int]()
    host, port = broker.address.host, broker.address.port

    def take(_client: Client, _data: Any, message: MQTTMessage) -> None:
        now_s = time.perf_counter()
        for arrival in EVENT.decode(bytes(message.payload)).arrivals:
            bang = int(arrival.detection.split(".")[1])
            if bang >= 0:
                event_s.setdefault(bang, now_s)

    listener, nodes = Client(CallbackAPIVersion.VERSION2), Client(CallbackAPIVersion.VERSION2)
    listener.on_message = take
    listener.on_connect = lambda client, *_: client.subscribe("soundranger/1/event/+", 1)
    centre = Centre(broker.address, Locator(LATENESS_NS), time.time_ns)
    centre.start(10.0)
    for client in (listener, nodes):
        client.connect(host, port)
        client.loop_start()
    time.sleep(1.0)
    start_ns, start_s = time.time_ns(), time.perf_counter()
    for number, (publish_s, when_s, node, level_db, bang) in enumerate(reports(rng, places_m, seconds, rate_hz)):
        time.sleep(max(0.0, start_s + publish_s - time.perf_counter()))
        lat, lon, _ = pymap3d.enu2geodetic(places_m[node, 0], places_m[node, 1], 5.0, *MIDDLE, 0.0)
        detection = Detection(
            id=f"d{number}.{bang}", node=f"node-{node:02}", time_ns=start_ns + round(when_s * NS_PER_S),
            time_sigma_s=1e-3, lat=float(lat), lon=float(lon), alt_m=5.0, position_sigma_m=0.5, snr_db=level_db,
            temperature_c=15.0,
        )  # fmt: skip
        nodes.publish(
            node_topic(detection.lat, detection.lon, detection.node, "detection"), DETECTION.encode(detection), 1
        )
        if bang >= 0:
            told[bang] = told.get(bang, 0) + 1
            if told[bang] == FOURTH:
                fourth_s[bang] = time.perf_counter()
    time.sleep(AFTERGLOW_S)
    for client in (listener, nodes):
        client.disconnect()
        client.loop_stop()
    centre.stop()
    return len(fourth_s), [event_s[bang] - at_s for bang, at_s in fourth_s.items() if bang in event_s]


def main() -> None:
    """Print a table: a line for each broker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0, help="detections a second")
    options = parser.parse_args()
    warm_up()
    print("| broker | bangs that four nodes heard | told | p50 ms | p99 ms | at most ms |\n|---|---|---|---|---|---|")
    for kind in (EmbeddedBroker, SpawnedMosquitto):
        broker = kind()
        bangs, late_s = measure(broker, options.seconds, options.rate)
        broker.stop()
        p50, p99 = 1e3 * np.percentile(late_s, (50, 99)) if late_s else (np.nan, np.nan)
        most = 1e3 * max(late_s, default=np.nan)
        name = "embedded" if kind is EmbeddedBroker else "mosquitto"
        print(f"| {name} | {bangs} | {len(late_s)} | {p50:.0f} | {p99:.0f} | {most:.0f} |", flush=True)


if __name__ == "__main__":
    main()
