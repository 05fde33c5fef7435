"""A node at work: what its pipeline finds reaches the centre, whatever ends the sound."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import pytest
from nacl.signing import SigningKey
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from soundranger_node.blocks import Block, Moment, Timing, Undatable
from soundranger_node.errors import AudioError
from soundranger_node.link import Link, LinkSettings
from soundranger_node.messages import DETECTION, STATUS, ClockStatus, Detection, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.pipeline import Heard
from soundranger_node.runtime import Node, Retrospect, problems
from soundranger_node.signing import check, public_key
from soundranger_node.topics import node_topic

if TYPE_CHECKING:
    from tests.conftest import Mosquitto

PATIENCE_S = 15.0
NOW_NS = 1_700_000_000_000_000_000
LAT, LON = 48.1, 11.5
KEY = SigningKey(bytes(32))


class Ticking:
    """A source of silent blocks that never ends by itself, or after some blocks, or with an error."""

    sample_rate_hz = 1000.0

    def __init__(self, blocks: int | None = None, error: AudioError | None = None) -> None:
        self._blocks = blocks
        self._error = error
        self._closed = threading.Event()

    @property
    def timebase(self) -> "Ticking":
        return self

    def timing(self, sample: float) -> Timing:
        return Timing(NOW_NS + round(sample * 1e6), {"clock": 1e-3}, "free")

    def blocks(self) -> Iterator[Block]:
        number = 0
        while number != self._blocks and not self._closed.wait(0.001):
            yield Block(np.zeros(20, np.float32), number * 20)
            number += 1
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._closed.set()


@dataclass
class EveryBlock:
    """A pipeline that makes one detection of every block and one more at the end; blocks in `bad` give a bad one."""

    node: str
    bad: frozenset[int] = frozenset()
    noise_dbfs: float | None = -60.0
    withheld: int = 0
    undated: Moment | None = None
    made: list[str] = field(default_factory=list)

    def push(self, block: Block) -> list[Heard]:
        return [self._heard(block.first)]

    def flush(self) -> list[Heard]:
        return [self._heard(10_000_000)]

    def _heard(self, number: int) -> Heard:
        return Heard(self._detection(number), number, self.undated)

    def _detection(self, number: int) -> Detection:
        name = f"{self.node}-{number}"
        bad = number in self.bad
        if not bad:
            self.made.append(name)
        return Detection(
            id=name,
            node=self.node,
            # A clock that was never set says 1970, which only an undated detection may.
            time_ns=0 if self.undated or bad else NOW_NS + number,
            time_sigma_s=1e-3,
            sigma_terms_s={"clock": 1e-3, "onset": 3e-4},
            lat=91.0 if bad else LAT,
            lon=LON,
            alt_m=520.0,
            position_sigma_m=5.0,
            snr_db=20.0,
        )


def status_of(name: str) -> NodeStatus:
    clock = ClockStatus(tier="free", bound_s=0.05)
    return NodeStatus(
        node=name,
        online=True,
        time_ns=NOW_NS,
        version="1",
        lat=LAT,
        lon=LON,
        alt_m=520.0,
        position_sigma_m=5.0,
        clock=clock,
    )


@dataclass
class Received:
    """What a subscriber to everything heard."""

    detections: list[Detection] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    statuses: list[NodeStatus] = field(default_factory=list)


@pytest.fixture
def heard(mosquitto: "Mosquitto") -> Iterator[Received]:
    found = Received()

    def note(_client: Client, _data: Any, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        if message.topic.endswith("/status"):
            found.statuses.append(STATUS.decode(payload))
            return
        detection = DETECTION.decode(payload)
        assert message.topic == node_topic(LAT, LON, detection.node, "detection")
        found.payloads.append(payload)
        found.detections.append(detection)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = note
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(mosquitto.host, mosquitto.port)
    client.subscribe("soundranger/1/node/#", qos=1)
    client.loop_start()
    assert subscribed.wait(PATIENCE_S)
    yield found
    client.disconnect()
    client.loop_stop()


@dataclass
class Parts:
    node: Node
    source: Ticking
    pipeline: EveryBlock
    outbox: Outbox


Build = Callable[..., Parts]


@pytest.fixture
def build(mosquitto: "Mosquitto", tmp_path: Path) -> Iterator[Build]:
    nodes: list[Node] = []

    def make(
        name: str = "roof",
        source: Ticking | None = None,
        bad: frozenset[int] = frozenset(),
        undated: Moment | None = None,
        retrospect: Retrospect | None = None,
    ) -> Parts:
        source = source or Ticking()
        outbox = Outbox(tmp_path / f"{name}.sqlite")
        settings = LinkSettings(mosquitto.host, mosquitto.port, delivery="broker")
        link = Link(settings, outbox, status_of(name))
        pipeline = EveryBlock(name, bad, undated=undated)

        def status() -> NodeStatus:
            return msgspec.structs.replace(
                status_of(name), noise_dbfs=pipeline.noise_dbfs, problems=problems([*link.problems, outbox.problem])
            )

        nodes.append(Node(source, pipeline, outbox, link, status, key=KEY, retrospect=retrospect))
        return Parts(nodes[-1], source, pipeline, outbox)

    yield make
    for node in nodes:
        node.close()


def wait_until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def ids(detections: list[Detection]) -> set[str]:
    return {detection.id for detection in detections}


@pytest.mark.slow
def test_every_detection_reaches_the_broker_the_one_at_the_end_too(build: Build, heard: Received) -> None:
    parts = build(source=Ticking(blocks=50))
    parts.node.run()
    wait_until(lambda: parts.outbox.depth == 0)
    wait_until(lambda: len(heard.detections) >= 51)
    assert ids(heard.detections) == set(parts.pipeline.made)
    parts.node.close()
    wait_until(lambda: heard.statuses and not heard.statuses[-1].online)
    assert heard.statuses[0].online
    assert heard.statuses[-1].noise_dbfs == -60.0


@pytest.mark.slow
def test_every_detection_is_signed_and_a_resend_is_the_same_bytes(build: Build, heard: Received) -> None:
    parts = build(source=Ticking(blocks=20))
    parts.node.run()
    wait_until(lambda: ids(heard.detections) == set(parts.pipeline.made))
    assert {check(payload, public_key(KEY)) for payload in heard.payloads} == {"signed"}
    assert len(set(heard.payloads)) == len(parts.pipeline.made)


@pytest.mark.slow
def test_nine_nodes_work_in_one_process(build: Build, heard: Received) -> None:
    nodes = [build(f"roof-{number}") for number in range(9)]
    threads = [threading.Thread(target=parts.node.run) for parts in nodes]
    for thread in threads:
        thread.start()
    wait_until(lambda: {detection.node for detection in heard.detections} == {f"roof-{n}" for n in range(9)})
    for parts in nodes:
        parts.source.close()
    for thread in threads:
        thread.join()
    wait_until(lambda: sum(parts.outbox.depth for parts in nodes) == 0)
    for parts in nodes:
        parts.node.close()
    wait_until(lambda: ids(heard.detections) == {name for parts in nodes for name in parts.pipeline.made})


@pytest.mark.slow
def test_closing_from_another_thread_ends_the_run_after_its_flush(build: Build) -> None:
    parts = build()
    thread = threading.Thread(target=parts.node.run)
    thread.start()
    wait_until(lambda: parts.pipeline.made)
    parts.node.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert "roof-10000000" in parts.pipeline.made
    assert parts.outbox.lost_to == {}


@pytest.mark.slow
def test_a_source_that_fails_flushes_first_and_then_says_so(build: Build, heard: Received) -> None:
    parts = build(source=Ticking(blocks=3, error=AudioError("microphone", "is gone")))
    with pytest.raises(AudioError, match="microphone: is gone"):
        parts.node.run()
    wait_until(lambda: len(ids(heard.detections)) == 4)


@pytest.mark.slow
def test_a_detection_that_breaks_the_contract_is_counted_said_once_and_does_not_stop_the_others(
    build: Build, heard: Received, caplog: pytest.LogCaptureFixture
) -> None:
    parts = build(source=Ticking(blocks=10), bad=frozenset({40, 60}))
    parts.node.run()
    wait_until(lambda: ids(heard.detections) == set(parts.pipeline.made))
    assert len(parts.pipeline.made) == 9
    assert parts.outbox.lost_to == {"invalid": 2}
    assert sum("a detection is lost" in message for message in caplog.messages) == 1


@pytest.mark.slow
def test_a_detection_that_was_lost_in_an_earlier_life_does_not_hide_the_next(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    parts = build(source=Ticking(blocks=3), bad=frozenset({20}))
    parts.outbox.count_lost("invalid")
    parts.node.run()
    assert parts.outbox.lost_to == {"invalid": 2}
    assert sum("a detection is lost" in message for message in caplog.messages) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_node_of_which_a_thread_has_died_is_not_alive(build: Build, heard: Received) -> None:
    parts = build()
    thread = threading.Thread(target=parts.node.run)
    thread.start()
    wait_until(lambda: heard.statuses)
    assert parts.node.alive
    parts.node._retrospect = cast("Retrospect", "none that could date anything")
    parts.outbox.put_undated("u-1", Moment("boot", 1, 1e-3), b"")
    wait_until(lambda: not parts.node.alive)
    parts.source.close()
    thread.join()


@pytest.mark.slow
def test_the_status_comes_again_after_its_interval(
    build: Build, heard: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundranger_node.runtime.STATUS_INTERVAL_S", 0.2)
    monkeypatch.setattr("soundranger_node.runtime.ATTEND_S", 0.1)
    parts = build()
    thread = threading.Thread(target=parts.node.run)
    thread.start()
    wait_until(lambda: len(heard.statuses) >= 4)
    parts.node.close()
    thread.join()


@pytest.mark.slow
def test_without_a_broker_detections_wait_on_disk(build: Build, mosquitto: "Mosquitto", tmp_path: Path) -> None:
    mosquitto.kill()
    parts = build(source=Ticking(blocks=20))
    parts.node.run()
    parts.node.close()
    kept = Outbox(tmp_path / "roof.sqlite")
    assert {waiting.id for waiting in kept.before(1_000, 100)} == set(parts.pipeline.made)
    kept.close()


@dataclass
class ClockSetLater:
    """Dates every moment of one boot by adding what the system clock turned out to be ahead, once that is known."""

    boot: str
    ahead_ns: int | None = None

    def redate(self, moment: Moment) -> Timing | Undatable:
        if moment.boot != self.boot:
            return Undatable.EVER
        if self.ahead_ns is None:
            return Undatable.YET
        return Timing(moment.monotonic_ns + self.ahead_ns, {"clock": 0.01, "read": moment.sigma_s}, "ntp")


@pytest.mark.slow
def test_what_was_heard_before_the_clock_was_set_is_sent_once_it_is_with_its_right_time(
    build: Build, heard: Received
) -> None:
    clock = ClockSetLater("this-boot")
    parts = build(source=Ticking(blocks=150), undated=Moment("this-boot", 7_000, 1e-4), retrospect=clock)
    parts.node.run()
    wait_until(lambda: heard.statuses)
    assert (parts.outbox.undated, parts.outbox.depth) == (151, 0)
    clock.ahead_ns = NOW_NS
    wait_until(lambda: ids(heard.detections) == set(parts.pipeline.made))
    assert parts.outbox.undated == 0
    one = heard.detections[0]
    assert (one.time_ns, one.clock) == (NOW_NS + 7_000, "ntp")
    assert one.sigma_terms_s == {"clock": 0.01, "read": 1e-4, "onset": 3e-4}
    assert {check(payload, public_key(KEY)) for payload in heard.payloads} == {"signed"}


@dataclass
class SlowClock(ClockSetLater):
    """The same on a slow computer."""

    def redate(self, moment: Moment) -> Timing | Undatable:
        time.sleep(0.002)
        return super().redate(moment)


@pytest.mark.slow
def test_while_many_are_dated_the_status_goes_on_and_the_node_can_be_closed(
    build: Build, heard: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundranger_node.runtime.STATUS_INTERVAL_S", 0.1)
    monkeypatch.setattr("soundranger_node.runtime.DATED_AT_ONCE", 10)
    parts = build(source=Ticking(blocks=0), retrospect=SlowClock("this-boot", ahead_ns=NOW_NS))
    for number in range(1000):
        payload = DETECTION.encode(parts.pipeline._detection(number))
        parts.outbox.put_undated(f"roof-{number}", Moment("this-boot", number, 1e-4), payload)
    parts.node.run()
    wait_until(lambda: len(heard.statuses) >= 4)
    assert parts.outbox.undated > 0
    parts.node.close()
    assert parts.outbox.problem is None


@pytest.mark.slow
def test_what_was_heard_before_a_reboot_and_never_dated_is_given_up_and_counted(build: Build) -> None:
    clock = ClockSetLater("this-boot", ahead_ns=NOW_NS)
    parts = build(source=Ticking(blocks=3), undated=Moment("other-boot", 7_000, 1e-4), retrospect=clock)
    parts.node.run()
    wait_until(lambda: parts.outbox.undated == 0)
    assert parts.outbox.lost_to == {"undatable": 4}


@pytest.mark.slow
def test_a_time_that_the_contract_does_not_know_is_given_up_and_counted(build: Build) -> None:
    clock = ClockSetLater("this-boot", ahead_ns=-1_000_000)
    parts = build(source=Ticking(blocks=3), undated=Moment("this-boot", 7_000, 1e-4), retrospect=clock)
    parts.node.run()
    wait_until(lambda: parts.outbox.undated == 0)
    assert parts.outbox.lost_to == {"invalid": 4}


@pytest.mark.slow
def test_the_status_goes_on_while_no_sound_comes(
    build: Build, heard: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundranger_node.runtime.STATUS_INTERVAL_S", 0.1)
    monkeypatch.setattr("soundranger_node.runtime.ATTEND_S", 0.1)
    parts = build(source=Ticking(blocks=0))
    parts.node.run()
    wait_until(lambda: len(heard.statuses) >= 5)


def test_problems_fit_into_a_status(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / ("x" * 200) / "roof.sqlite")
    assert problems([outbox.problem]) is None
    outbox.close()
    outbox.upkeep(None)
    assert outbox.problem is not None
    found = problems([outbox.problem] * 20)
    STATUS.encode(msgspec.structs.replace(status_of("roof"), problems=found))
