"""From the fourth node's detection to the event at a subscriber: real brokers, 30 nodes, 50 detections a second.

Nodes publish as they hear, in real time: bangs here and there in 2 km by 2 km, and clutter on top until it is 50 a
second. The clock starts when the fourth node that hears a bang publishes its detection, and stops when the first event
that rests on any of the bang's arrivals is received. The goal is 0.5 s at the 99th percentile.

Nodes and subscriber are a process of their own, so that they wait for the network and not for the centre's Python; the
embedded broker runs in the centre's process, where it also runs in a demonstration. With `--flood` one more process is
a node that has gone mad.
"""

import argparse
import multiprocessing
import resource
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pymap3d
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from soundranger_broker.centre import Centre
from soundranger_broker.elsewhere import Elsewhere
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import Address, EmbeddedBroker, SpawnedMosquitto
from soundranger_broker.storage.store import temporary_store
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
# How long the centre may take to come up.
CONNECT_S = 10.0


class Report(NamedTuple):
    """What a node reports of a sound, times in seconds from the start; `bang` is -1 where it was none."""

    publish_s: float
    heard_s: float
    node: int
    level_db: float
    bang: int


class Latencies(NamedTuple):
    """How many bangs four nodes heard, and how long (s) each of those that were told took."""

    bangs: int
    late_s: list[float]


def reports(rng: np.random.Generator, places_m: Any, seconds: float, rate_hz: float) -> list[Report]:
    """Return what all nodes report, in the order in which it is published."""
    heard: list[Report] = []
    for bang, at_s in enumerate(np.arange(1.0, seconds, BANG_EVERY_S)):
        distances_m = np.linalg.norm(places_m - rng.uniform(-0.35, 0.35, 2) * SIDE_M, axis=1)
        for node in np.flatnonzero(distances_m < HEARD_M).tolist():
            when_s = float(at_s + distances_m[node] / SPEED_MPS + rng.normal(0.0, 1e-3))
            level_db = 78.0 - 20.0 * np.log10(max(distances_m[node], 10.0)) + rng.normal(0.0, 4.0)
            heard.append(Report(when_s + rng.uniform(*DELAY_S), when_s, node, float(level_db), bang))
    for when_s in rng.uniform(0.0, seconds, max(0, round(rate_hz * seconds) - len(heard))).tolist():
        node, level_db = int(rng.integers(NODES)), float(rng.uniform(6.0, 25.0))
        heard.append(Report(when_s + rng.uniform(*DELAY_S), when_s, node, level_db, -1))
    return sorted(heard)


def live(address: Address, seconds: float, rate_hz: float) -> Latencies:
    """Be all nodes and a subscriber for a while, and return what the subscriber saw."""
    rng = np.random.default_rng(1)
    places_m = rng.uniform(-0.5, 0.5, (NODES, 2)) * SIDE_M
    lats, lons, _ = pymap3d.enu2geodetic(places_m[:, 0], places_m[:, 1], np.full(NODES, 5.0), *MIDDLE, 0.0)
    fourth_s, event_s, told = dict[int, float](), dict[int, float](), Counter[int]()

    def take(_client: Client, _data: Any, message: MQTTMessage) -> None:
        now_s = time.perf_counter()
        for arrival in EVENT.decode(bytes(message.payload)).arrivals:
            event_s.setdefault(int(arrival.detection.split(".")[1]), now_s)

    listener, nodes = _connected(address), _connected(address)
    listener.on_message = take
    listener.subscribe("soundranger/1/event/+", 1)
    time.sleep(1.0)
    start_ns, start_s = time.time_ns(), time.perf_counter()
    for number, report in enumerate(reports(rng, places_m, seconds, rate_hz)):
        time.sleep(max(0.0, start_s + report.publish_s - time.perf_counter()))
        one = detection(
            f"d{number}.{report.bang}", f"node-{report.node:02}", start_ns + round(report.heard_s * NS_PER_S),
            (float(lats[report.node]), float(lons[report.node])), report.level_db,
        )  # fmt: skip
        _publish(nodes, one)
        told[report.bang] += 1
        if report.bang >= 0 and told[report.bang] == FOURTH:
            fourth_s[report.bang] = time.perf_counter()
    time.sleep(AFTERGLOW_S)
    for client in (listener, nodes):
        client.disconnect()
        client.loop_stop()
    return Latencies(len(fourth_s), [event_s[bang] - at_s for bang, at_s in fourth_s.items() if bang in event_s])


def flood(address: Address, seconds: float, rate_hz: float) -> None:
    """Be a node that reports at a rate which no pipeline would let pass."""
    client, start_s = _connected(address), time.perf_counter()
    for number in range(round(seconds * rate_hz)):
        time.sleep(max(0.0, start_s + number / rate_hz - time.perf_counter()))
        _publish(client, detection(f"mad-{number}.-1", "mad", time.time_ns(), MIDDLE, 20.0))
    client.disconnect()
    client.loop_stop()


def _connected(address: Address) -> Client:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(address.host, address.port)
    client.loop_start()
    return client


def detection(name: str, node: str, time_ns: int, place: tuple[float, float], level_db: float) -> Detection:
    """Return a detection of a node at a place (degrees)."""
    return Detection(
        id=name, node=node, time_ns=time_ns, time_sigma_s=1e-3, lat=place[0], lon=place[1], alt_m=5.0,
        position_sigma_m=0.5, snr_db=level_db, temperature_c=15.0,
    )  # fmt: skip


def _publish(client: Client, detection: Detection) -> None:
    client.publish(
        node_topic(detection.lat, detection.lon, detection.node, "detection"), DETECTION.encode(detection), 1
    )


def measure(broker: EmbeddedBroker | SpawnedMosquitto, options: argparse.Namespace) -> Latencies:
    """Return what a subscriber of a centre at a broker sees of the bangs that are played to it."""
    with temporary_store() as store:
        # As `soundranger-broker run` does it.
        decider = Elsewhere()
        locator = Locator(LATENESS_NS, decider=decider)
        centre = Centre(broker.address, locator, time.time_ns, ready=decider.ready, store=store)
        centre.start(CONNECT_S)
        decider.ready.wait()
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
            seen = processes.submit(live, broker.address, options.seconds, options.rate)
            if options.flood:
                processes.submit(flood, broker.address, options.seconds, options.flood / 60.0)
            latencies = seen.result()
        centre.stop()
        decider.stop()
    return latencies


def main() -> None:
    """Print a table: a line for each broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the nodes speak, to each broker")
    parser.add_argument("--rate", type=float, default=50.0, help="detections a second")
    parser.add_argument("--flood", type=float, default=0.0, help="detections a minute of a node that has gone mad")
    options = parser.parse_args()
    warm_up()
    print("| broker | bangs that four nodes heard | told | p50 ms | p99 ms | at most ms | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for kind in (SpawnedMosquitto, EmbeddedBroker):
        broker = kind()
        bangs, late_s = measure(broker, options)
        broker.stop()
        p50, p99 = 1e3 * np.percentile(late_s, (50, 99)) if late_s else (np.nan, np.nan)
        most = 1e3 * max(late_s, default=np.nan)
        name = "embedded" if kind is EmbeddedBroker else "mosquitto"
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"| {name} | {bangs} | {len(late_s)} | {p50:.0f} | {p99:.0f} | {most:.0f} | {peak_mb:.0f} |", flush=True)


if __name__ == "__main__":
    main()
