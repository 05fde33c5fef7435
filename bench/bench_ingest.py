"""Ingest with storage: detections a second that are committed, and how long the page's API takes meanwhile.

First the store alone, in batches as the centre makes them, on SQLite and, where one is given, on PostgreSQL. Then the
whole: `soundranger-broker run` with a mosquitto, fed by 400 nodes over 20 km by 20 km that report what chance makes,
at the rate that is asked for; an API client asks for events all the while. Acked is what counts: it follows the commit.

    python bench/bench_ingest.py
    python bench/bench_ingest.py --database postgresql://postgres@127.0.0.1/test
"""

import argparse
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pymap3d
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from bench_event_latency import MIDDLE, detection
from killed_centre import Whole
from soundranger_broker.storage.store import Batch, Report, Store
from soundranger_broker.warm import warm_up
from soundranger_node.messages import ACK, DETECTION
from soundranger_node.topics import every_node, node_topic
from soundranger_node.utc import NS_PER_S

NODES = 400
SIDE_M = 20_000.0
ALONE = 20_000
BATCH = 500
# What is sent in one go, so many times a second.
TICKS_HZ = 20
ACKS_S = 60.0
ASK_EVERY_S = 0.05


def places() -> list[tuple[float, float]]:
    """Return where the nodes are, degrees."""
    places_m = np.random.default_rng(1).uniform(-0.5, 0.5, (NODES, 2)) * SIDE_M
    lats, lons, _ = pymap3d.enu2geodetic(places_m[:, 0], places_m[:, 1], np.zeros(NODES), *MIDDLE, 0.0)
    return list(zip(lats.tolist(), lons.tolist(), strict=True))


def store_alone(where: str) -> float:
    """Return how many detections a second a store commits, in batches."""
    store, where_they_are = Store.open(where), places()
    now_ns = time.time_ns()
    made = [
        detection(f"s{number}", f"node-{number % NODES:03}", now_ns + number, where_they_are[number % NODES], 20.0)
        for number in range(ALONE)
    ]
    rows = [Report(one.node, one.id, one.time_ns, now_ns, DETECTION.encode(one)) for one in made]
    began_s = time.perf_counter()
    for first in range(0, ALONE, BATCH):
        store.keep(Batch(reports=rows[first : first + BATCH]))
    took_s = time.perf_counter() - began_s
    store.close()
    return ALONE / took_s


class Asking:
    """A client that asks for the page or its API again and again, and notes how long it waits."""

    def __init__(self, address: str) -> None:
        self.waited_s: list[float] = []
        self._address = address
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(ASK_EVERY_S):
            began_s = time.perf_counter()
            with urllib.request.urlopen(self._address) as answer:
                answer.read()
            self.waited_s.append(time.perf_counter() - began_s)


class Acks:
    """Counts what is acked, and notes when the last ack came."""

    def __init__(self, port: int) -> None:
        self.count, self.last_s = 0, 0.0
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe(every_node("ack"), 1)
        self.client.on_message = self._take
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.count += len(ACK.decode(bytes(message.payload)).detections)
        self.last_s = time.perf_counter()


def chance(rng: np.random.Generator, rate_hz: float, seconds: float) -> Iterator[list[tuple[str, bytes]]]:
    """Yield, tick after tick, the topics and payloads of what is reported in it."""
    where, number = places(), 0
    for _ in range(round(seconds * TICKS_HZ)):
        some = []
        for node in rng.integers(NODES, size=round(rate_hz / TICKS_HZ)).tolist():
            number += 1
            heard_ns = time.time_ns() - round(float(rng.uniform(0.05, 0.15)) * NS_PER_S)
            one = detection(f"c{number}", f"node-{node:03}", heard_ns, where[node], float(rng.uniform(6.0, 25.0)))
            some.append((node_topic(one.lat, one.lon, one.node, "detection"), DETECTION.encode(one)))
        yield some


def whole(folder: Path, database: str | None, rate_hz: float, seconds: float) -> str:
    """Return a line of the table: what is acked a second, and the API's waiting times."""
    centre = Whole(folder, database)
    centre.start()
    acks = Acks(centre.mqtt_port)
    asking = [Asking(f"{centre.address}/api/1/events?limit=100"), Asking(f"{centre.address}/")]
    began_s, sent = time.perf_counter(), 0
    for tick, some in enumerate(chance(np.random.default_rng(2), rate_hz, seconds)):
        time.sleep(max(0.0, began_s + tick / TICKS_HZ - time.perf_counter()))
        for topic, payload in some:
            acks.client.publish(topic, payload, 1)
        sent += len(some)
    sending_s = time.perf_counter() - began_s
    while acks.count < sent and time.perf_counter() < began_s + sending_s + ACKS_S:
        time.sleep(0.1)
    for one in asking:
        one.stop()
    centre.end()
    waits_ms = [1e3 * float(np.percentile(one.waited_s, 99)) for one in asking]
    rate = acks.count / (acks.last_s - began_s)
    kind = "SQLite" if database is None else "PostgreSQL"
    return f"| {kind} | {rate_hz:.0f} | {sent} | {acks.count} | {rate:.0f} | {waits_ms[0]:.0f} | {waits_ms[1]:.0f} |"


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="URL of a PostgreSQL that may be filled")
    parser.add_argument("--rates", default="500,2000", help="detections a second, for the second table")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the nodes report, at each rate")
    options = parser.parse_args()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="soundranger-ingest-") as folder:
        print("| store alone | committed a second |\n|---|---|")
        for where in filter(None, (str(Path(folder) / "alone.db"), options.database)):
            print(f"| {'PostgreSQL' if '://' in where else 'SQLite'} | {store_alone(where):.0f} |", flush=True)
        print("\n| store | sent a second | sent | acked | acked a second | API p99 ms | page p99 ms |")
        print("|---|---|---|---|---|---|---|")
        for database in [None, options.database] if options.database else [None]:
            for rate_hz in map(float, options.rates.split(",")):
                with tempfile.TemporaryDirectory(dir=folder) as inside:
                    print(whole(Path(inside), database, rate_hz, options.seconds), flush=True)


if __name__ == "__main__":
    main()
