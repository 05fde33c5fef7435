"""Nothing lost: a real node and a real mosquitto are killed again and again, the disk fills up, and all arrives once.

Three sides. The node is a process of its own: the real Node, Outbox and Link on a source that makes a numbered
detection every few milliseconds. It says which ones it has put into its outbox; a detection counts from the moment at
which `put` has returned and the outbox holds nothing back in memory. The MQTT broker is a mosquitto without
persistence. The far side stores an id that it does not have, commits, and then acks it, as a centre does. Exactly
once means that every id that counts is stored once.

    python bench/nothing_lost.py                                     the full run, about four minutes
    python bench/nothing_lost.py --detections 1500 --kills 3 --rate 150    a short one
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from soundranger_node.blocks import Block, Timing
from soundranger_node.link import Link, LinkSettings
from soundranger_node.messages import ACK, DETECTION, Ack, ClockStatus, Detection, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.pipeline import Heard
from soundranger_node.runtime import Node
from soundranger_node.topics import every_node, node_topic

NODE, LAT, LON, ALT_M, POSITION_SIGMA_M = "roof", 48.1, 11.5, 520.0, 5.0
# The far side gets what is left within this, or it is lost: a resend comes after a minute.
DRAIN_S = 150.0
START_S = 15.0
# How long the broker stays away, and the disk full.
BROKER_AWAY_S = (0.1, 2.0)
DISK_FULL_S = 3.0
# Room for all that waits, and no more than is quickly filled.
DISK_BYTES = 32_000_000
# Acks of what was stored last are on their way for less than this.
LAST_ACKS_S = 2.0
POLL_S = 0.02
SEED = 1


class Numbered:
    """A source and a pipeline in one: a detection every `1 / rate_hz` seconds, `count` of them."""

    noise_dbfs: float | None = None
    withheld = 0
    sample_rate_hz = 1000.0

    def __init__(self, boot: str, count: int, rate_hz: float) -> None:
        self._boot = boot
        self._count = count
        self._rate_hz = rate_hz
        self._closed = threading.Event()

    @property
    def timebase(self) -> "Numbered":
        """Dates samples, which nobody asks for here."""
        return self

    def timing(self, sample: float) -> Timing:
        """Return the time now, whatever the sample."""
        del sample
        return Timing(time.time_ns(), {"clock": 1e-3}, "free")

    def blocks(self) -> Iterator[Block]:
        """Yield a block for each detection, then wait to be closed."""
        for number in range(1, self._count + 1):
            if self._closed.wait(1 / self._rate_hz):
                return
            yield Block(np.zeros(1, np.float32), number)
        self._closed.wait()

    def close(self) -> None:
        """End `blocks`."""
        self._closed.set()

    def push(self, block: Block) -> list[Heard]:
        """Return the detection that a block stands for."""
        detection = Detection(
            id=f"{NODE}-{self._boot}-{block.first}",
            node=NODE,
            time_ns=time.time_ns(),
            time_sigma_s=1e-3,
            lat=LAT,
            lon=LON,
            alt_m=ALT_M,
            position_sigma_m=POSITION_SIGMA_M,
            snr_db=20.0,
            features={f"feature_{number}": number / 7 for number in range(12)},
        )
        return [Heard(detection, block.first)]

    def flush(self) -> list[Heard]:
        """Return nothing: no detection is ever half done."""
        return []


class TellingOutbox(Outbox):
    """An outbox that tells on standard output which detections are safe in it, and how many it held at most."""

    def __init__(self, path: Path) -> None:
        self._untold: list[str] = []
        super().__init__(path)

    def put(self, detection_id: str, time_ns: int, payload: bytes) -> None:
        """Put a detection and tell of it, or of it and those before once the disk takes them."""
        super().put(detection_id, time_ns, payload)
        self._untold.append(detection_id)
        if self.problem is None:
            os.write(sys.stdout.fileno(), "".join(f"{name}\n" for name in self._untold).encode())
            self._untold.clear()
        elif len(self._untold) % 10 == 0:
            os.write(sys.stdout.fileno(), f"held {len(self._untold)}\n".encode())


def be_the_node(path: Path, port: int, boot: str, count: int, rate_hz: float) -> None:
    """Run a node until the process is killed."""
    outbox = TellingOutbox(path)

    def status() -> NodeStatus:
        return NodeStatus(
            node=NODE,
            online=True,
            time_ns=time.time_ns(),
            version="bench",
            lat=LAT,
            lon=LON,
            alt_m=ALT_M,
            position_sigma_m=POSITION_SIGMA_M,
            clock=ClockStatus(tier="free"),
            outbox=outbox.depth,
        )

    source = Numbered(boot, count, rate_hz)
    link = Link(LinkSettings("127.0.0.1", port), outbox, status())
    Node(source, source, outbox, link, status).run()


class NodeProcess:
    """The node's process, started anew after each kill; `put` has the ids that counted, in order."""

    def __init__(self, path: Path, port: int, detections: int, rate_hz: float) -> None:
        self.put: list[str] = []
        self.most_held = 0
        self.lives = 0
        self._path = path
        self._port = port
        self._detections = detections
        self._rate_hz = rate_hz

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def start(self) -> None:
        """Start the next life, for as many detections as are missing."""
        self.lives += 1
        left = self._detections - len(self.put)
        command = [sys.executable, __file__, "--be-the-node", str(self._path), str(self._port)]
        command += [f"life{self.lives}", str(left), str(self._rate_hz)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def kill(self) -> None:
        """End it as a power cut would, and read what it said until then."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def check(self) -> None:
        """Raise RuntimeError where the node has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the node has ended by itself, status {self._process.returncode}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # The last line of a life may be cut off.
            text = line.decode()
            if text.startswith("held "):
                self.most_held = max(self.most_held, int(text.split()[1]))
            elif text.endswith("\n"):
                self.put.append(text.strip())


class MosquittoProcess:
    """A mosquitto that keeps nothing over a kill; the port stays the same."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            sys.exit("mosquitto is not installed: sudo apt install mosquitto")
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = int(server.getsockname()[1])
        settings = folder / "mosquitto.conf"
        settings.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        self._command = [program, "-c", str(settings)]

    def start(self) -> None:
        """Return once it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up_s = time.monotonic() + START_S
        while time.monotonic() < give_up_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise RuntimeError("mosquitto does not start")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class FarSide:
    """Stores ids in a database without any constraint, commits, then acks; counts what came more than once."""

    def __init__(self, path: Path, port: int) -> None:
        self.deliveries: Counter[str] = Counter()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("CREATE TABLE stored (id TEXT)")
        self._database.execute("CREATE INDEX by_id ON stored (id)")
        self._lock = threading.Lock()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(every_node("detection"), qos=1)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def stored(self) -> Counter[str]:
        """Return how often each id is in the database."""
        with self._lock:
            return Counter(name for (name,) in self._database.execute("SELECT id FROM stored"))

    def close(self) -> None:
        """End."""
        self._client.disconnect()
        self._client.loop_stop()
        self._database.close()

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        name = DETECTION.decode(bytes(message.payload)).id
        self.deliveries[name] += 1
        with self._lock:
            if self._database.execute("SELECT 1 FROM stored WHERE id = ?", (name,)).fetchone() is None:
                self._database.execute("INSERT INTO stored VALUES (?)", (name,))
        client.publish(node_topic(LAT, LON, NODE, "ack"), ACK.encode(Ack(detections=[name])), qos=1)


class Disk:
    """Where the outbox is: a small file system that can really be filled.

    Without the right to mount one, a folder, and for a while the node's process may not write to its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
        self.mounted = False
        with contextlib.suppress(OSError):
            self.mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
        self.how = "a tmpfs, filled up" if self.mounted else "no right to mount: RLIMIT_FSIZE of the node instead"

    def fill(self, pid: int) -> None:
        """Let every write that needs room fail."""
        if not self.mounted:
            self._before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, self._before[1]))
            return
        with contextlib.suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)):
                pass

    def empty(self, pid: int) -> None:
        """Let writes succeed again."""
        if self.mounted:
            (self.folder / "ballast").unlink()
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, self._before)

    def close(self) -> None:
        """Take the file system away."""
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


def run(detections: int, kills: int, rate_hz: float, folder: Path, say: Callable[[str], None]) -> dict[str, object]:
    """Let the detections be heard among `kills` of each kind and a full disk; return what came of them."""
    started_s = time.monotonic()
    (folder / "disk").mkdir()
    with contextlib.ExitStack() as stack:
        disk = Disk(folder / "disk")
        stack.callback(disk.close)
        mosquitto = MosquittoProcess(folder)
        mosquitto.start()
        stack.callback(mosquitto.kill)
        far_side = FarSide(folder / "far.sqlite", mosquitto.port)
        stack.callback(far_side.close)
        node = NodeProcess(disk.folder / "outbox.sqlite", mosquitto.port, detections, rate_hz)
        node.start()
        stack.callback(node.kill)
        _disturb(node, mosquitto, disk, detections, kills, say)
        _wait_for(node, lambda: len(node.put) >= detections)
        give_up_s = time.monotonic() + DRAIN_S
        _wait_for(node, lambda: not set(node.put) - far_side.stored().keys() or time.monotonic() > give_up_s)
        stored, put = far_side.stored(), set(node.put)
        time.sleep(LAST_ACKS_S)
        node.kill()
        outbox = Outbox(disk.folder / "outbox.sqlite")
        left, lost_to, problem = outbox.depth, outbox.lost_to, outbox.problem
        outbox.close()
        return {
            "detections put": len(put),
            "mosquitto killed": kills,
            "node killed": node.lives - 1,
            "disk full": f"{DISK_FULL_S:g} s ({disk.how})",
            "most held in memory meanwhile": node.most_held,
            "messages that arrived": far_side.deliveries.total(),
            "of these repeated, not stored again": far_side.deliveries.total() - stored.total(),
            "stored but cut off by a kill before they counted": len(stored.keys() - put),
            "missing": len(put - stored.keys()),
            "stored more than once": sum(count > 1 for count in stored.values()),
            "stored exactly once": sum(stored[name] == 1 for name in put),
            "left in the outbox": left,
            "given up by the node": sum(lost_to.values()),
            "damaged files": len(list(disk.folder.glob("*damaged*"))) + (problem is not None),
            "seconds": round(time.monotonic() - started_s),
        }


def _disturb(
    node: NodeProcess,
    mosquitto: MosquittoProcess,
    disk: Disk,
    detections: int,
    kills: int,
    say: Callable[[str], None],
) -> None:
    """Do each disturbance when its share of the detections is heard, in an order by chance."""
    rng = random.Random(SEED)

    def kill_mosquitto() -> None:
        mosquitto.kill()
        time.sleep(rng.uniform(*BROKER_AWAY_S))
        mosquitto.start()

    def kill_node() -> None:
        node.kill()
        node.start()

    def fill_disk() -> None:
        disk.fill(node.pid)
        time.sleep(DISK_FULL_S)
        disk.empty(node.pid)
        # What the disk did not take must be there before the next kill, or no outbox in the world could keep it.
        before = len(node.put)
        _wait_for(node, lambda: len(node.put) > before)

    disturbances = [kill_mosquitto] * kills + [kill_node] * kills + [fill_disk]
    rng.shuffle(disturbances)
    for number, disturb in enumerate(disturbances, 1):
        share = (number + rng.uniform(-0.4, 0.4)) / (len(disturbances) + 1)
        while len(node.put) < share * detections:
            node.check()
            time.sleep(POLL_S)
        say(f"{len(node.put):6d} heard: {disturb.__name__.replace('_', ' ')}")
        disturb()


def _wait_for(node: NodeProcess, holds: Callable[[], bool]) -> None:
    while not holds():
        node.check()
        time.sleep(POLL_S)


def main() -> None:
    """Print what came of it; fail where anything was lost or stored twice."""
    if len(sys.argv) > 1 and sys.argv[1] == "--be-the-node":
        path, port, boot, count, rate_hz = sys.argv[2:]
        be_the_node(Path(path), int(port), boot, int(count), float(rate_hz))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20, help="of the MQTT broker, and as many of the node")
    parser.add_argument("--rate", type=float, default=80.0, help="detections a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nothing-lost-") as folder:
        found = run(
            options.detections,
            options.kills,
            options.rate,
            Path(folder),
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    for name, value in found.items():
        print(f"{name:50s} {value}")
    wanted = {"stored exactly once": options.detections, "missing": 0, "stored more than once": 0, "damaged files": 0}
    if any(found[name] != value for name, value in wanted.items()):
        sys.exit("NOT every detection arrived exactly once")


if __name__ == "__main__":
    main()
