"""The centre, with real brokers: what nodes publish comes out as events, whatever else is published."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from soundranger_broker.centre import Centre
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import Address, EmbeddedBroker, SpawnedMosquitto
from soundranger_broker.warm import warm_up
from soundranger_node.errors import BrokerError
from soundranger_node.messages import (
    ACK,
    CENTRE,
    DETECTION,
    EVENT,
    INCIDENT,
    REFUSAL,
    STATUS,
    CentreStatus,
    ClockStatus,
    Detection,
    Event,
    Incident,
    NodeStatus,
    Refusal,
)
from soundranger_node.topics import NodeTopicKind, node_topic

if TYPE_CHECKING:
    from tests.broker.conftest import Town
    from tests.conftest import Mosquitto

pytestmark = pytest.mark.slow

PATIENCE_S = 40.0
LATENESS_NS = 1_000_000_000
# So late nothing is on any machine; who cannot wait for so long lets the centre conclude.
NEVER_LATE_NS = 120 * LATENESS_NS


class Nodes:
    """An MQTT client that publishes what nodes publish, and notes what the centre answers."""

    def __init__(self, address: Address) -> None:
        self.events: list[Event] = []
        self.incidents: list[Incident] = []
        self.refusals: list[Refusal] = []
        self.centre: list[CentreStatus] = []
        self.acked: list[str] = []
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._message
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S)

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)

    def report(self, detection: Detection) -> None:
        self.say(topic_of(detection), DETECTION.encode(detection))

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe([(f"soundranger/1/{kind}/+", 1) for kind in ("event", "incident", "refused", "centre")])
        client.subscribe("soundranger/1/node/+/+/ack", 1)

    def _message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        if "/event/" in message.topic:
            self.events.append(EVENT.decode(payload))
        elif "/incident/" in message.topic:
            self.incidents.append(INCIDENT.decode(payload))
        elif "/refused/" in message.topic:
            self.refusals.append(REFUSAL.decode(payload))
        elif "/centre/" in message.topic:
            self.centre.append(CENTRE.decode(payload))
        else:
            self.acked += ACK.decode(payload).detections


def topic_of(detection: Detection, kind: NodeTopicKind = "detection") -> str:
    return node_topic(detection.lat, detection.lon, detection.node, kind)


def eventually(true: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def running(address: Address, lateness_ns: int = 4 * LATENESS_NS) -> Iterator[Centre]:
    # The nearest node has heard `a_shot_now` one and a half seconds ago, and a busy machine takes its time.
    centre = Centre(address, Locator(lateness_ns), time.time_ns)
    centre.start(PATIENCE_S)
    try:
        yield centre
    finally:
        centre.stop()


@contextmanager
def nodes_of(address: Address) -> Iterator[Nodes]:
    nodes = Nodes(address)
    try:
        yield nodes
    finally:
        nodes.stop()


def a_shot_now(town: "Town", east_m: float = 60.0, north_m: float = -40.0, seed: int = 1) -> list[Detection]:
    """Return what the town hears of a bang that has just been heard by all."""
    shift_ns = time.time_ns() - 1_767_225_600_000_000_000 - 1_700_000_000
    return [
        msgspec.structs.replace(one, id=f"{one.node}-{one.time_ns + shift_ns}", time_ns=one.time_ns + shift_ns)
        for one in town.hear(east_m, north_m, 0.0, np.random.default_rng(seed))
    ]


def off_m(town: "Town", event: Event, east_m: float = 60.0, north_m: float = -40.0) -> float:
    return float(np.hypot(*np.subtract(town.offset_m(event.lat, event.lon), (east_m, north_m))))


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    warm_up()


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> Iterator[Address]:
    """Return the address of a running broker: either kind that soundranger brings along."""
    try:
        own = EmbeddedBroker() if request.param == "embedded" else SpawnedMosquitto()
    except BrokerError as error:
        pytest.skip(str(error))
    yield own.address
    own.stop()
    own.stop()


def test_detections_on_real_topics_come_out_as_an_event_and_are_acked(broker: Address, town: "Town") -> None:
    with running(broker, NEVER_LATE_NS) as centre, nodes_of(broker) as nodes:
        heard = a_shot_now(town)
        for one in heard:
            nodes.report(one)
        eventually(lambda: nodes.events)
        centre.conclude(PATIENCE_S)
        eventually(lambda: sorted(nodes.acked) == sorted(one.id for one in heard))
        eventually(lambda: nodes.events[-1].status == "final")
        eventually(lambda: nodes.incidents)
        assert nodes.events[0].status == "preliminary"
        assert len({event.id for event in nodes.events}) == 1
        assert off_m(town, nodes.events[-1]) < 10.0
        assert {arrival.detection for arrival in nodes.events[-1].arrivals} == {one.id for one in heard}
        assert nodes.incidents[-1].events == [nodes.events[-1].id]
        assert centre.received == len(heard)
        assert not centre.dropped()


def test_a_node_gone_mad_keeps_no_bang_from_being_told(broker: Address, town: "Town") -> None:
    with running(broker, NEVER_LATE_NS) as centre, nodes_of(broker) as nodes:
        heard = a_shot_now(town)
        mad = [
            msgspec.structs.replace(heard[0], id=f"mad-{number}", node="mad", time_ns=heard[0].time_ns + number * 10**6)
            for number in range(2_000)
        ]
        for number, one in enumerate(mad):
            nodes.report(one)
            if number % 200 == 0 and heard:
                nodes.report(heard.pop())
        eventually(lambda: centre.received == len(mad) + len(town.names))
        centre.conclude(PATIENCE_S)
        eventually(lambda: nodes.events and nodes.events[-1].status == "final")
        assert len({event.id for event in nodes.events}) == 1
        assert off_m(town, nodes.events[-1]) < 10.0


def test_bad_payloads_are_counted_and_logged_once_and_the_good_ones_between_are_located(
    broker: Address, town: "Town", caplog: pytest.LogCaptureFixture
) -> None:
    heard = a_shot_now(town)
    first = heard[0]
    fields = msgspec.to_builtins(first)
    cell_topic = topic_of(first)
    bad = {
        "2 MB": b" " * 2_000_000,
        "text": b"bang!",
        "1970": json.dumps(fields | {"id": "old", "time_ns": 1_000}).encode(),
        "2090": json.dumps(fields | {"id": "new", "time_ns": 3_800_000_000_000_000_000}).encode(),
        "nan": json.dumps(fields | {"id": "nan", "lat": float("nan")}).encode(),
        "wrong node": json.dumps(fields | {"id": "forged", "node": "someone-else"}).encode(),
    }
    with caplog.at_level(logging.WARNING), running(broker, NEVER_LATE_NS) as centre, nodes_of(broker) as nodes:
        for one in heard:
            for payload in bad.values():
                nodes.say(cell_topic, payload)
            nodes.report(one)
        nodes.say(topic_of(first, "status"), b"I am well")
        for _ in range(1_000):
            nodes.say(cell_topic, DETECTION.encode(first))
        eventually(lambda: centre.received == len(heard) * (len(bad) + 1) + 1_000)
        centre.conclude(PATIENCE_S)
        eventually(lambda: nodes.events and nodes.events[-1].status == "final")
        assert off_m(town, nodes.events[-1]) < 10.0
        dropped = centre.dropped()
        assert dropped.pop("came before") == 1_000 + len(heard) - 1
        assert dropped.pop("is no valid status") == 1
        assert sum(dropped.values()) == len(heard) * len(bad) - (len(heard) - 1)
        eventually(lambda: nodes.acked.count(first.id) == 1_001)
        assert "forged" not in nodes.acked
    warnings = [record.getMessage() for record in caplog.records if "was dropped" in record.getMessage()]
    # The bad status and the text are malformed in the same way.
    assert len(warnings) == len(set(warnings)) == len(bad)
    assert all(first.node in warning for warning in warnings)


def test_a_topic_outside_the_contract_harms_nobody(broker: Address, town: "Town") -> None:
    heard = a_shot_now(town)
    with running(broker), nodes_of(broker) as nodes:
        for topic in (
            "soundranger/1/node/somewhere/UPPER CASE/detection",
            f"soundranger/1/node/x/{heard[0].node}/detection",
            "soundranger/1/node///detection",
        ):
            nodes.say(topic, DETECTION.encode(heard[0]))
        for one in heard:
            nodes.report(one)
        eventually(lambda: nodes.events and nodes.events[-1].status == "final")
        eventually(lambda: sorted(nodes.acked) == sorted(one.id for one in heard))


def test_detections_at_the_edge_of_what_is_allowed_do_not_stop_the_centre(broker: Address, town: "Town") -> None:
    with running(broker) as centre, nodes_of(broker) as nodes:
        for one in a_shot_now(town, seed=2):
            nodes.report(
                msgspec.structs.replace(one, alt_m=-1_000.0, time_sigma_s=5e-324, position_sigma_m=5e-324, snr_db=400.0)
            )
        last_ns = time.time_ns()
        # Longer than it takes until nothing more can come of the first.
        eventually(lambda: centre.concluded_ns > last_ns + 12 * LATENESS_NS)
        for one in a_shot_now(town, seed=4):
            nodes.report(one)
        eventually(lambda: nodes.events and nodes.events[-1].status == "final" and off_m(town, nodes.events[-1]) < 10.0)


def test_a_status_makes_a_silent_node_count_and_a_last_will_does_not(broker: Address, town: "Town") -> None:
    deaf = 4
    lat, lon, alt_m = town.geodetic(town.places_m[deaf])
    status = NodeStatus(
        node=town.names[deaf],
        online=True,
        time_ns=time.time_ns(),
        version="1",
        lat=lat,
        lon=lon,
        alt_m=alt_m,
        position_sigma_m=1.0,
        clock=ClockStatus(tier="pps"),
    )
    topic = node_topic(lat, lon, status.node, "status")
    with nodes_of(broker) as nodes:
        nodes.say(topic, STATUS.encode(msgspec.structs.replace(status, online=False)), retain=True)
        with running(broker):
            for one in a_shot_now(town):
                if one.node != status.node:
                    nodes.report(one)
            eventually(lambda: nodes.events and nodes.events[-1].status == "final")
            assert nodes.events[-1].silent == []


class SlowLocator(Locator):
    """A locator that needs longer for a look than detections may be late."""

    def look(self, now_ns: int) -> list[Event]:
        time.sleep(2.0 * LATENESS_NS / 1e9)
        return super().look(now_ns)


def test_what_came_in_time_is_not_too_late_because_the_centre_is_slow(mosquitto: "Mosquitto", town: "Town") -> None:
    address = Address(mosquitto.host, mosquitto.port)
    centre = Centre(address, SlowLocator(LATENESS_NS), time.time_ns)
    centre.start(PATIENCE_S)
    with nodes_of(address) as nodes:
        for _ in range(3):
            for one in a_shot_now(town):
                if one.time_ns > time.time_ns() - LATENESS_NS // 2:
                    nodes.report(one)
            time.sleep(0.7)
        eventually(lambda: centre._intake.is_idle)
    centre.stop()
    assert not centre.dropped()


def test_detections_wait_while_the_numerics_are_compiled(mosquitto: "Mosquitto", town: "Town") -> None:
    address, ready = Address(mosquitto.host, mosquitto.port), threading.Event()
    centre = Centre(address, Locator(2 * LATENESS_NS), time.time_ns, ready=ready)
    centre.start(PATIENCE_S)
    with nodes_of(address) as nodes:
        heard = a_shot_now(town)
        for one in heard:
            nodes.report(one)
        eventually(lambda: sorted(nodes.acked) == sorted(one.id for one in heard))
        eventually(lambda: nodes.centre and nodes.centre[-1].problems)
        time.sleep(3.0)
        assert nodes.events == []
        ready.set()
        eventually(lambda: nodes.events)
        eventually(lambda: nodes.centre[-1].problems is None)
    centre.stop()
    assert {arrival.detection for arrival in nodes.events[-1].arrivals} == {one.id for one in heard}


def test_the_status_of_the_centre_is_there_for_whoever_asks_and_says_when_it_has_gone(broker: Address) -> None:
    with running(broker), nodes_of(broker) as nodes:
        eventually(lambda: nodes.centre and nodes.centre[-1].online)
    with nodes_of(broker) as nodes:
        eventually(lambda: nodes.centre)
        assert not nodes.centre[-1].online


def test_a_centre_that_dies_is_said_to_be_offline(mosquitto: "Mosquitto") -> None:
    address = Address(mosquitto.host, mosquitto.port)
    with running(address) as centre, nodes_of(address) as nodes:
        eventually(lambda: nodes.centre and nodes.centre[-1].online)
        connection = centre._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        eventually(lambda: not all(status.online for status in nodes.centre))
        # It connects again, and says that it is there.
        eventually(lambda: nodes.centre[-1].online)


def test_what_three_nodes_heard_is_refused_with_the_reason(broker: Address, town: "Town") -> None:
    with running(broker, NEVER_LATE_NS) as centre, nodes_of(broker) as nodes:
        for one in a_shot_now(town)[:3]:
            nodes.report(msgspec.structs.replace(one, snr_db=30.0))
        eventually(lambda: centre.received == 3)
        centre.conclude(PATIENCE_S)
        eventually(lambda: nodes.refusals)
        assert "four are needed" in nodes.refusals[-1].reason


def test_the_centre_comes_back_when_the_broker_does(mosquitto: "Mosquitto", town: "Town") -> None:
    address = Address(mosquitto.host, mosquitto.port)
    with running(address) as centre, nodes_of(address) as nodes:
        mosquitto.kill()
        time.sleep(2.0)
        mosquitto.start()
        eventually(nodes._client.is_connected)
        eventually(centre._connected.is_set)
        for one in a_shot_now(town):
            nodes.report(one)
        eventually(lambda: nodes.events and nodes.events[-1].status == "final")
        assert off_m(town, nodes.events[-1]) < 10.0


def test_a_broker_that_goes_amid_events_and_comes_back_loses_and_doubles_none(
    mosquitto: "Mosquitto", town: "Town"
) -> None:
    address, told = Address(mosquitto.host, mosquitto.port), list[Event]()
    places = ((60.0, -40.0), (-150.0, 100.0), (150.0, 120.0))
    centre = Centre(
        address,
        Locator(NEVER_LATE_NS),
        time.time_ns,
        on_news=lambda item: told.append(item) if isinstance(item, Event) else None,
    )
    centre.start(PATIENCE_S)

    def located(place: tuple[float, float]) -> bool:
        return any(off_m(town, event, *place) < 20.0 for event in told)

    with nodes_of(address) as nodes:
        for place in places:
            heard = a_shot_now(town, *place)
            for one in heard[:5]:
                nodes.report(one)
            eventually(partial(located, place))
            mosquitto.kill()
            time.sleep(2.0)
            mosquitto.start()
            eventually(nodes._client.is_connected)
            eventually(centre._connected.is_set)
            # A node sends again what was not acked: one that the broker took may have reached nobody.
            for one in heard:
                nodes.report(one)
        eventually(lambda: not centre.locator.has_unseen and centre.received >= len(places) * (len(town.names) + 5))
        centre.conclude(PATIENCE_S)
        finals = [event for event in told if event.status == "final"]
        eventually(lambda: {event.id for event in nodes.events if event.status == "final"} == {e.id for e in finals})
    centre.stop()
    assert len({event.id for event in told}) == len(finals) == len(places)
    for event, place in zip(sorted(finals, key=lambda event: event.time_ns), places, strict=True):
        assert off_m(town, event, *place) < 10.0
        assert len(event.arrivals) == len(town.names)


def test_the_centre_waits_for_a_broker_that_is_not_there_yet(mosquitto: "Mosquitto") -> None:
    address = Address(mosquitto.host, mosquitto.port)
    mosquitto.kill()
    centre = Centre(address, Locator(LATENESS_NS), time.time_ns)
    centre.start()
    mosquitto.start()
    eventually(centre._client.is_connected)
    centre.stop()


def test_no_broker_is_one_sentence(mosquitto: "Mosquitto") -> None:
    mosquitto.kill()
    centre = Centre(Address(mosquitto.host, mosquitto.port), Locator(LATENESS_NS), time.time_ns)
    with pytest.raises(BrokerError, match=rf"does not answer at 127\.0\.0\.1:{mosquitto.port}; check that it runs"):
        centre.start(0.5)


@pytest.mark.parametrize("gone", [False, True], ids=["connected", "broker gone"])
def test_the_end_is_prompt(mosquitto: "Mosquitto", gone: bool) -> None:
    centre = Centre(Address(mosquitto.host, mosquitto.port), Locator(LATENESS_NS), time.time_ns)
    centre.start(PATIENCE_S)
    if gone:
        mosquitto.kill()
        time.sleep(3.0)
    started_s = time.monotonic()
    centre.stop()
    assert time.monotonic() - started_s < 2.0
    assert not any(thread.name == "centre" and thread.is_alive() for thread in threading.enumerate())
    centre.stop()
