"""A centre with a store: what it acks is safe, what it tells can be looked up, and after an end it goes on."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from paho.mqtt.client import Client, MQTTMessage
from tests.broker.test_centre import (
    NEVER_LATE_NS,
    PATIENCE_S,
    Nodes,
    a_shot_now,
    eventually,
    nodes_of,
    off_m,
    topic_of,
)

from soundranger_broker.centre import Centre
from soundranger_broker.keeping import AWAY
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import Address
from soundranger_broker.recall import show
from soundranger_broker.storage import audit, database, reading
from soundranger_broker.storage.reading import Page, Stored, Wanted
from soundranger_broker.storage.store import Store
from soundranger_broker.warm import warm_up
from soundranger_broker.web.hub import Hub
from soundranger_node.messages import (
    CLIP_REQUEST,
    STATUS,
    ClipHeader,
    ClockStatus,
    Detection,
    NodeStatus,
    encode_clip,
)
from soundranger_node.topics import every_node, parse_node_topic

if TYPE_CHECKING:
    from tests.broker.conftest import Town
    from tests.conftest import Mosquitto

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    warm_up()


@pytest.fixture
def address(mosquitto: "Mosquitto") -> Address:
    return Address(mosquitto.host, mosquitto.port)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(str(tmp_path / "centre.db"))
    yield opened
    opened.close()


@contextmanager
def remembering(address: Address, store: Store, hub: Hub | None = None) -> Iterator[Centre]:
    centre = Centre(address, Locator(NEVER_LATE_NS), time.time_ns, hub, store=store)
    centre.start(PATIENCE_S)
    try:
        yield centre
    finally:
        centre.stop()


def stored_events(store: Store) -> list[Stored]:
    with store.engine.begin() as connection:
        return reading.events(connection, Wanted(), Page())


def stored_ids(store: Store) -> set[str]:
    with store.engine.begin() as connection:
        return {one.id for one in reading.reports_received_since(connection, 0)}


def problems(store: Store) -> list[str]:
    with store.engine.begin() as connection:
        return list(audit.verify(connection))


def status_of(detection: Detection) -> NodeStatus:
    return NodeStatus(
        node=detection.node, online=True, time_ns=detection.time_ns, version="1", lat=detection.lat,
        lon=detection.lon, alt_m=detection.alt_m, position_sigma_m=1.0, clock=ClockStatus(tier="ntp"),
    )  # fmt: skip


def test_what_is_acked_is_stored_and_what_is_told_can_be_looked_up(
    address: Address, store: Store, town: "Town"
) -> None:
    with remembering(address, store) as centre, nodes_of(address) as nodes:
        heard = a_shot_now(town)
        for one in heard:
            nodes.say(topic_of(one, "status"), STATUS.encode(status_of(one)))
            nodes.report(one)
        eventually(lambda: len(nodes.acked) == len(heard))
        assert stored_ids(store) == set(nodes.acked)
        centre.conclude(PATIENCE_S)
        eventually(lambda: nodes.incidents)
        (stored,) = stored_events(store)
        assert stored.event == nodes.events[-1]
        assert stored.incident == nodes.incidents[-1].id
        with store.engine.begin() as connection:
            told = [one.event for one in reading.revisions(connection, stored.event.id)]
            assert told == nodes.events
            assert {one.node for _at, one in reading.latest_statuses(connection)} == {one.node for one in heard}
        assert problems(store) == []
        eventually(lambda: nodes.centre[-1].log_head is not None)


def test_while_the_store_takes_nothing_nothing_is_acked_and_events_are_told_all_the_same(
    address: Address, store: Store, town: "Town", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 100)
    with remembering(address, store), nodes_of(address) as nodes:
        other = sqlite3.connect(tmp_path / "centre.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        heard = a_shot_now(town)
        for one in heard:
            nodes.report(one)
        eventually(lambda: nodes.events)
        eventually(lambda: nodes.centre and AWAY in (nodes.centre[-1].problems or []))
        assert nodes.acked == []
        other.execute("ROLLBACK")
        other.close()

        def sent_again() -> bool:
            for one in heard:
                nodes.report(one)
            time.sleep(1.0)
            return set(nodes.acked) == {one.id for one in heard}

        eventually(sent_again)
        assert stored_ids(store) == {one.id for one in heard}
        eventually(lambda: [one.event.id for one in stored_events(store)] == [nodes.events[0].id])
        eventually(lambda: nodes.centre[-1].problems is None)


def test_a_centre_that_starts_again_ends_what_it_had_begun_under_the_same_name(
    address: Address, store: Store, town: "Town"
) -> None:
    with nodes_of(address) as nodes:
        with remembering(address, store):
            for one in a_shot_now(town):
                nodes.report(one)
            eventually(lambda: nodes.events)
        with remembering(address, store) as centre:
            centre.conclude(PATIENCE_S)
            eventually(lambda: nodes.events[-1].status == "final")
        with remembering(address, store) as centre:
            centre.conclude(PATIENCE_S)
            time.sleep(1.0)
        assert len({one.id for one in nodes.events}) == 1
        assert [one.revision for one in nodes.events] == list(range(len(nodes.events)))
        assert [one.status for one in nodes.events].count("final") == 1
        assert off_m(town, nodes.events[-1]) < 10.0
        (stored,) = stored_events(store)
        assert stored.event == nodes.events[-1]
        assert problems(store) == []


def test_after_an_end_the_page_shows_what_it_showed_before(address: Address, store: Store, town: "Town") -> None:
    before, after = Hub(), Hub()
    with remembering(address, store, before) as centre, nodes_of(address) as nodes:
        for one in a_shot_now(town):
            nodes.report(one)
        eventually(lambda: nodes.events)
        centre.conclude(PATIENCE_S)
        eventually(lambda: nodes.incidents)
        store.review(nodes.events[-1].id, "gunshot", "Ann", "", time.time_ns())
        show(store, after)
        assert after.snapshot()["events"] == before.snapshot()["events"]
        assert after.snapshot()["incidents"] == before.snapshot()["incidents"]
        assert [one["verdict"] for one in after.snapshot()["reviews"].values()] == ["gunshot"]


class Answering(Nodes):
    """Nodes that send a clip when they are asked for it."""

    def __init__(self, address: Address, answer: Callable[[str], bytes]) -> None:
        self.asked: list[str] = []
        self._answer = answer
        super().__init__(address)

    def _connected(self, client: Client, *args: Any) -> None:
        super()._connected(client, *args)
        client.subscribe(every_node("request"), 1)

    def _message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        topic = parse_node_topic(message.topic)
        if topic is None or topic.kind != "request":
            super()._message(client, data, message)
            return
        detection = CLIP_REQUEST.decode(bytes(message.payload)).detection
        self.asked.append(detection)
        client.publish(message.topic.replace("/request", "/clip"), self._answer(detection), 1)


def test_the_sound_of_a_final_event_is_asked_for_and_no_other_is_kept(
    address: Address, store: Store, town: "Town", tmp_path: Path
) -> None:
    file = tmp_path / "clip.flac"
    soundfile.write(file, np.random.default_rng(1).normal(0.0, 0.1, 96_000), 48_000)
    flac = file.read_bytes()
    heard = a_shot_now(town)
    starts_ns = {one.id: one.time_ns - 500_000_000 for one in heard}

    def clip(detection: str) -> bytes:
        return encode_clip(ClipHeader(detection=detection, start_ns=starts_ns[detection], sample_rate_hz=48_000), flac)

    hub = Hub()
    nodes = Answering(address, clip)
    with remembering(address, store, hub) as centre:
        for one in heard:
            nodes.say(topic_of(one, "status"), STATUS.encode(status_of(one)))
            nodes.report(one)
        eventually(lambda: nodes.events)
        nodes.say(topic_of(heard[0], "clip"), clip(heard[0].id))
        time.sleep(0.5)
        assert nodes.asked == []
        centre.conclude(PATIENCE_S)

        def kept() -> list[str]:
            with store.engine.begin() as connection:
                return [one.header.detection for one in reading.clips_of(connection, nodes.events[-1].id)]

        eventually(lambda: len(kept()) == len(heard))
        assert sorted(nodes.asked) == sorted(one.id for one in heard)
        assert problems(store) == []
    nodes.stop()
