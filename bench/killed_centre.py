"""A centre that is killed again and again, with its broker, under load: nothing that it acked is missing.

`soundranger-broker run` with a mosquitto of its own and a store on disk is killed (SIGKILL, all of its processes) and
started again. Nodes report bangs all the while, and what is not acked once more, as their outboxes do. At the end
every detection is acked, each that was acked is stored, no bang is told twice, the log holds, and the page answers.

    python bench/killed_centre.py              twenty kills, about four minutes
    python bench/killed_centre.py --kills 3    a short one
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pymap3d
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from bench_event_latency import MIDDLE, NODES, SIDE_M, detection, reports
from soundranger_broker.mqtt import free_port
from soundranger_broker.storage import audit, reading
from soundranger_broker.storage.reading import Wanted
from soundranger_broker.storage.store import Store
from soundranger_broker.warm import warm_up
from soundranger_node.messages import ACK, DETECTION
from soundranger_node.topics import every_node, node_topic
from soundranger_node.utc import NS_PER_S

SEED = 1
# A little more than two bangs a second and what chance adds.
RATE_HZ = 50.0
# A centre lives for so long (s) after it has answered; many die in the midst of what they do.
LIVES_S = (0.5, 6.0)
START_S = 60.0
# What is not acked within this is sent again: sooner than a node does, for there is less time.
AGAIN_S = 5.0
DRAIN_S = 120.0
POLL_S = 0.05
# At the end a bang has to be decided before the centre may go.
LAST_S = 12.0


class Town:
    """Nodes that report, keep what is not acked, and report it again."""

    def __init__(self, port: int) -> None:
        self.acked: set[str] = set()
        self.sent = 0
        self._waiting: dict[str, tuple[str, bytes, float]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(every_node("ack"), 1)
        self._client.on_message = self._acked
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many detections are not acked yet."""
        return len(self._waiting)

    def silence(self) -> None:
        """Report nothing new."""
        self._stopped.set()
        self._thread.join()

    def again(self) -> None:
        """Report once more what has waited for long."""
        now_s = time.monotonic()
        with self._lock:
            late = [(name, one) for name, one in self._waiting.items() if now_s - one[2] > AGAIN_S]
        for name, (topic, payload, _) in late:
            self._send(name, topic, payload)

    def _speak(self) -> None:
        rng = np.random.default_rng(SEED)
        places_m = rng.uniform(-0.5, 0.5, (NODES, 2)) * SIDE_M
        lats, lons, _ = pymap3d.enu2geodetic(places_m[:, 0], places_m[:, 1], np.full(NODES, 5.0), *MIDDLE, 0.0)
        start_ns, start_s = time.time_ns(), time.monotonic()
        for number, report in enumerate(reports(rng, places_m, 3_600.0, RATE_HZ)):
            if self._stopped.wait(max(0.0, start_s + report.publish_s - time.monotonic())):
                return
            name, node = f"d{number}.{report.bang}", f"node-{report.node:02}"
            place = float(lats[report.node]), float(lons[report.node])
            heard_ns = start_ns + round(report.heard_s * NS_PER_S)
            payload = DETECTION.encode(detection(name, node, heard_ns, place, report.level_db))
            self.sent += 1
            self._send(name, node_topic(*place, node, "detection"), payload)

    def _send(self, name: str, topic: str, payload: bytes) -> None:
        with self._lock:
            if name in self.acked:
                return
            self._waiting[name] = topic, payload, time.monotonic()
        if self._client.is_connected():
            self._client.publish(topic, payload, 1)

    def _acked(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with self._lock:
            for name in ACK.decode(bytes(message.payload)).detections:
                self.acked.add(name)
                self._waiting.pop(name, None)


class Whole:
    """The centre with all that it starts, as one thing that can be killed."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.database = database or str(folder / "centre.db")
        self.mqtt_port, self._port = free_port(), free_port()
        self._log = (folder / "log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once the page answers."""
        options = ["--database", self.database, "--mqtt-port", str(self.mqtt_port), "--port", str(self._port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soundranger_broker", "run", *options],
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        end_s = time.monotonic() + START_S
        while not self.answers():
            if time.monotonic() > end_s or self._process.poll() is not None:
                raise SystemExit(f"the centre does not come up; see {self._log.name}")
            time.sleep(POLL_S)

    def answers(self) -> bool:
        """Say whether the page's API does."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/api/1/events") as got:
            return bool(got.status == 200)
        return False

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._port}"

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End all of it: at once, or as a service manager does."""
        assert self._process is not None
        if how is signal.SIGKILL:
            os.killpg(self._process.pid, how)
        else:
            self._process.send_signal(how)
        self._process.wait()


def main() -> None:
    """Kill, and count what is missing; end with 1 where something is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how often everything is killed")
    kills = parser.parse_args().kills
    warm_up()
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix="soundranger-killed-") as folder:
        whole = Whole(Path(folder))
        whole.start()
        town, starts_s = Town(whole.mqtt_port), list[float]()
        for kill in range(kills):
            time.sleep(rng.uniform(*LIVES_S))
            whole.end(signal.SIGKILL)
            began_s = time.monotonic()
            whole.start()
            starts_s.append(time.monotonic() - began_s)
            town.again()
            print(f"{kill + 1} of {kills} kills", file=sys.stderr)
        time.sleep(LAST_S)
        town.silence()
        end_s = time.monotonic() + DRAIN_S
        while town.waiting and time.monotonic() < end_s:
            town.again()
            time.sleep(1.0)
        time.sleep(LAST_S)
        answers = whole.answers()
        whole.end()
        found = counted(whole.database, town)
        slowest_s = max(starts_s, default=0.0)
    found |= {"killed": kills, "page does not answer": int(not answers)}
    for name, count in found.items():
        print(f"{name:<34} {count}")
    print(f"{'slowest start until the page answers':<34} {slowest_s:.1f} s")
    wrong = ("never acked", "acked and not stored", "told twice", "wrong in the log", "page does not answer")
    sys.exit(int(any(found[name] for name in wrong)))


def counted(database: str, town: Town) -> dict[str, int]:
    """Return what is there of what the nodes sent, and what is wrong."""
    store = Store.open(database, create=False)
    with store.engine.begin() as connection:
        stored = {one.id for one in reading.reports_received_since(connection, 0)}
        finals = [one.event for one in reading.all_events(connection, Wanted(statuses=["final"]))]
        wrong = list(audit.verify(connection))
    store.close()
    claims = Counter(arrival.detection for event in finals for arrival in event.arrivals if arrival.used)
    for problem in wrong:
        print(problem, file=sys.stderr)
    return {
        "detections sent": town.sent,
        "detections acked": len(town.acked),
        "never acked": town.waiting,
        "acked and not stored": len(town.acked - stored),
        "events": len(finals),
        "told twice": sum(count > 1 for count in claims.values()),
        "wrong in the log": len(wrong),
    }


if __name__ == "__main__":
    main()
