"""The link, against real brokers: nothing is lost, whatever dies."""

import contextlib
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from soundranger_node import session as session_module
from soundranger_node.errors import InputError, MessageError
from soundranger_node.link import MAX_SAID, Link, LinkSettings, backoff_s, tls_context
from soundranger_node.messages import ACK, STATUS, Ack, ClockStatus, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.sending import MAX_UNACKED
from soundranger_node.topics import every_node, node_topic, parse_node_topic

if TYPE_CHECKING:
    from tests.conftest import Mosquitto

PATIENCE_S = 15.0
NOW_NS = 1_700_000_000_000_000_000
STATUS_NOW = NodeStatus(
    node="roof",
    online=True,
    time_ns=NOW_NS,
    version="1",
    lat=48.1,
    lon=11.5,
    alt_m=520.0,
    position_sigma_m=5.0,
    clock=ClockStatus(tier="free", bound_s=0.05),
)
ACK_TOPIC = node_topic(STATUS_NOW.lat, STATUS_NOW.lon, "roof", "ack")
DIE_CONNECTED = """
import sys, time
from pathlib import Path
import msgspec
from soundranger_node.link import Link, LinkSettings
from soundranger_node.messages import STATUS
from soundranger_node.outbox import Outbox
status = STATUS.decode(sys.argv[3].encode())
link = Link(LinkSettings("127.0.0.1", int(sys.argv[1])), Outbox(Path(sys.argv[2])), status)
link.start()
time.sleep(60)
"""


class Centre:
    """A subscriber that notes what nodes publish and, where it is told to, acks every detection."""

    def __init__(self, port: int, *, acks: bool = True) -> None:
        self.acks = acks
        self.detections: list[str] = []
        self.statuses: list[NodeStatus] = []
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S)

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Client, *_: Any) -> None:
        client.subscribe([(every_node("detection"), 1), (every_node("status"), 1)])

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        topic = parse_node_topic(message.topic)
        assert topic is not None
        if topic.kind == "status":
            self.statuses.append(STATUS.decode(bytes(message.payload)))
            return
        name = bytes(message.payload).decode()
        self.detections.append(name)
        if self.acks:
            client.publish(ACK_TOPIC, ACK.encode(Ack(detections=[name])), qos=1)


class MuteBroker:
    """Accepts every connection, allows four unconfirmed messages, and confirms none; speaks MQTT 5, if it `answers`.

    `published` has the number of messages that came over each connection.
    """

    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers
        self.published: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.published.append(0)
                with connection, connection.makefile("rb") as stream:
                    while self._take(connection, stream):
                        pass

    def _take(self, connection: socket.socket, stream: BinaryIO) -> bool:
        """Read one packet; return whether there was one."""
        head = stream.read(1)
        if not head:
            return False
        length, scale, byte = 0, 1, 0x80
        while byte & 0x80:
            byte = stream.read(1)[0]
            length += (byte & 0x7F) * scale
            scale *= 0x80
        stream.read(length)
        kind = head[0] >> 4
        if kind == PacketTypes.CONNECT and self._answers:
            receive_maximum = b"\x21\x00\x04"
            connection.sendall(b"\x20\x06\x00\x00\x03" + receive_maximum)
        self.published[-1] += kind == PacketTypes.PUBLISH
        return True


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.sqlite")
    yield box
    box.close()


@pytest.fixture
def link(mosquitto: "Mosquitto", outbox: Outbox) -> Iterator[Link]:
    """Give a link that is not started yet."""
    made = Link(LinkSettings(mosquitto.host, mosquitto.port), outbox, STATUS_NOW)
    yield made
    made.close()


@pytest.fixture
def centre(mosquitto: "Mosquitto") -> Iterator[Centre]:
    made = Centre(mosquitto.port)
    yield made
    made.close()


@pytest.fixture
def amqtt(tmp_path: Path) -> Iterator[int]:
    """Give the port of a running amqtt, a broker that speaks MQTT 3.1.1 and nothing newer."""
    program = shutil.which("amqtt", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("amqtt is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    listener = f"listeners: {{default: {{type: tcp, bind: '127.0.0.1:{port}'}}}}\n"
    anonymous = "plugins: {amqtt.plugins.authentication.AnonymousAuthPlugin: {allow_anonymous: true}}\n"
    (tmp_path / "amqtt.yaml").write_text(listener + anonymous)
    command = [program, "-c", str(tmp_path / "amqtt.yaml")]
    with (tmp_path / "amqtt.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as broker:
        try:
            wait_until(lambda: is_open(port))
            yield port
        finally:
            broker.kill()


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def wait_until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def put(outbox: Outbox, *numbers: int) -> None:
    for number in numbers:
        outbox.put(f"n-{number}", NOW_NS + number, f"n-{number}".encode())


def names(*numbers: int) -> list[str]:
    return [f"n-{number}" for number in numbers]


def speak_3_1_1(link: Link) -> None:
    link._protocol = MQTTProtocolVersion.MQTTv311


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["MQTT 5", "MQTT 3.1.1"])
def test_a_detection_leaves_the_outbox_when_it_is_acked(link: Link, outbox: Outbox, centre: Centre, old: bool) -> None:
    if old:
        speak_3_1_1(link)
    link.start()
    put(outbox, *range(100))
    link.wake()
    wait_until(lambda: outbox.depth == 0)
    assert Counter(centre.detections) == Counter(names(*range(100)))
    assert link.connected


@pytest.mark.slow
def test_a_new_detection_travels_at_once(link: Link, outbox: Outbox, centre: Centre) -> None:
    link.start()
    wait_until(lambda: centre.statuses)
    delays_s = []
    for number in range(10):
        start_s = time.monotonic()
        put(outbox, number)
        link.wake()
        wait_until(lambda: outbox.depth == 0)
        delays_s.append(time.monotonic() - start_s)
    assert sorted(delays_s)[5] < 0.2


@pytest.mark.slow
def test_without_acks_twenty_old_ones_go_the_newest_first_and_new_ones_at_once(
    link: Link, outbox: Outbox, mosquitto: "Mosquitto"
) -> None:
    put(outbox, *range(50))
    silent = Centre(mosquitto.port, acks=False)
    link.start()
    wait_until(lambda: len(silent.detections) >= MAX_UNACKED)
    time.sleep(2 * session_module.POLL_S)
    assert silent.detections == names(*range(49, 29, -1))
    put(outbox, *range(100, 130))
    link.wake()
    wait_until(lambda: len(silent.detections) >= MAX_UNACKED + 30)
    assert silent.detections[MAX_UNACKED:] == names(*range(100, 130))
    assert outbox.depth == 80
    silent.publish(ACK_TOPIC, ACK.encode(Ack(detections=names(*range(40, 50), *range(100, 123)))))
    wait_until(lambda: len(silent.detections) >= MAX_UNACKED + 33)
    assert silent.detections[MAX_UNACKED + 30 :] == names(29, 28, 27)
    silent.close()


@pytest.mark.slow
def test_a_detection_that_was_not_acked_is_sent_again(
    link: Link, outbox: Outbox, mosquitto: "Mosquitto", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundranger_node.sending.RESEND_AFTER_S", 1.0)
    silent = Centre(mosquitto.port, acks=False)
    put(outbox, 1)
    link.start()
    wait_until(lambda: len(silent.detections) >= 2)
    assert outbox.depth == 1
    silent.close()


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["MQTT 5", "MQTT 3.1.1"])
def test_a_centre_that_comes_back_soon_gets_what_went_past_it(
    link: Link, outbox: Outbox, mosquitto: "Mosquitto", monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    if old:
        speak_3_1_1(link)
        monkeypatch.setattr("soundranger_node.sending.OVERTAKEN_AFTER_S", 0.2)
    link.start()
    wait_until(lambda: link.connected)
    put(outbox, *range(50))
    link.wake()
    time.sleep(0.5)
    centre = Centre(mosquitto.port)
    if old:
        # Its ack tells that what was sent long before has been lost; MQTT 5 said at once that nobody listened.
        put(outbox, 100)
        link.wake()
    wait_until(lambda: outbox.depth == 0)
    assert set(centre.detections) >= set(names(*range(50)))
    centre.close()


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["MQTT 5", "MQTT 3.1.1"])
def test_with_delivery_by_the_broker_its_word_is_enough(mosquitto: "Mosquitto", outbox: Outbox, old: bool) -> None:
    link = Link(LinkSettings(mosquitto.host, mosquitto.port, delivery="broker"), outbox, STATUS_NOW)
    if old:
        speak_3_1_1(link)
    put(outbox, *range(50))
    link.start()
    wait_until(lambda: outbox.depth == 0)
    link.close()


@pytest.mark.slow
def test_a_publication_that_the_broker_denies_stays_in_the_outbox(
    mosquitto: "Mosquitto", outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "acl").write_text("topic read #\n")
    (tmp_path / "acl").chmod(0o600)
    mosquitto.stop()
    mosquitto.configure("allow_anonymous true", f"acl_file {tmp_path / 'acl'}")
    mosquitto.start()
    link = Link(LinkSettings(mosquitto.host, mosquitto.port, delivery="broker"), outbox, STATUS_NOW)
    put(outbox, 1)
    link.start()
    wait_until(lambda: link.refused >= 2)
    assert outbox.depth == 1
    denied = [record for record in caplog.messages if "does not take what we publish (Not authorized)" in record]
    assert len(denied) == 1
    assert len(link.problems) == 1
    assert "does not take what we publish (Not authorized); let this user write" in link.problems[0]
    link.close()


@pytest.mark.slow
def test_a_status_that_is_taken_does_not_hide_that_detections_are_denied(
    mosquitto: "Mosquitto", outbox: Outbox, tmp_path: Path
) -> None:
    (tmp_path / "acl").write_text("topic read #\ntopic write soundranger/1/node/+/+/status\n")
    (tmp_path / "acl").chmod(0o600)
    mosquitto.stop()
    mosquitto.configure("allow_anonymous true", f"acl_file {tmp_path / 'acl'}")
    mosquitto.start()
    centre = Centre(mosquitto.port)
    link = Link(LinkSettings(mosquitto.host, mosquitto.port), outbox, STATUS_NOW)
    put(outbox, 1)
    link.start()
    wait_until(lambda: link.refused)
    link.give_status(STATUS_NOW)
    wait_until(lambda: len(centre.statuses) == 2)
    # Once this one is there, the one before is confirmed.
    link.give_status(STATUS_NOW)
    wait_until(lambda: len(centre.statuses) == 3)
    assert len(link.problems) == 1
    assert "does not take what we publish" in link.problems[0]
    link.close()
    centre.close()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "stop"])
@pytest.mark.parametrize("old", [False, True], ids=["MQTT 5", "MQTT 3.1.1"])
def test_a_broker_that_dies_in_mid_stream_loses_nothing(
    link: Link, outbox: Outbox, mosquitto: "Mosquitto", centre: Centre, old: bool, end: str
) -> None:
    if old:
        speak_3_1_1(link)
    link.start()
    for number in range(300):
        put(outbox, number)
        link.wake()
        if number == 150:
            (mosquitto.kill if end == "kill" else mosquitto.stop)()
        if number == 250:
            mosquitto.start()
    wait_until(lambda: outbox.depth == 0)
    assert set(centre.detections) == set(names(*range(300)))


@pytest.mark.slow
def test_a_broker_that_is_not_there_yet_is_said_once_and_waited_for(
    link: Link, outbox: Outbox, mosquitto: "Mosquitto", caplog: pytest.LogCaptureFixture
) -> None:
    mosquitto.stop()
    put(outbox, 1)
    link.start()
    wait_until(lambda: caplog.messages)
    time.sleep(2.5)
    mosquitto.start()
    centre = Centre(mosquitto.port)
    wait_until(lambda: outbox.depth == 0)
    problems = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(problems) == 1
    assert f"roof: mqtt://127.0.0.1:{mosquitto.port}: cannot be reached" in problems[0]
    centre.close()


@pytest.mark.slow
def test_a_broker_that_confirms_nothing_gets_no_more_than_it_allows_and_is_tried_anew(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session_module, "CONFIRM_S", 1.0)
    broker = MuteBroker()
    link = Link(LinkSettings("127.0.0.1", broker.port), outbox, STATUS_NOW)
    put(outbox, *range(50))
    link.start()
    # The first only asks for the protocol.
    wait_until(lambda: len(broker.published) >= 2 and broker.published[1] == 4)
    put(outbox, 100)
    link.wake()
    link.give_status(STATUS_NOW)
    wait_until(lambda: len(broker.published) >= 4)
    assert broker.published[:3] == [0, 4, 4]
    assert any("has confirmed nothing of what we publish for 1 s" in message for message in caplog.messages)
    assert outbox.depth == 51
    link.close()
    broker.close()


@pytest.mark.slow
def test_a_broker_that_accepts_connections_and_never_answers_is_said_once_to_do_so(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session_module, "KEEPALIVE_S", 1)
    broker = MuteBroker(answers=False)
    link = Link(LinkSettings("127.0.0.1", broker.port), outbox, STATUS_NOW)
    put(outbox, 1)
    link.start()
    wait_until(lambda: link.problems)
    assert "cannot be reached (it does not answer); detections wait" in link.problems[0]
    wait_until(lambda: len(broker.published) >= 4)
    assert len(caplog.messages) == 1
    link.close()
    broker.close()


@pytest.mark.slow
def test_a_wrong_password_is_said_in_one_sentence(
    mosquitto: "Mosquitto", outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    mosquitto.stop()
    mosquitto.configure("allow_anonymous false")
    mosquitto.start()
    link = Link(LinkSettings(mosquitto.host, mosquitto.port, user="roof", password="wrong"), outbox, STATUS_NOW)
    link.start()
    wait_until(lambda: caplog.messages)
    assert "refused the connection (Not authorized); check [mqtt] user and password" in caplog.messages[0]
    link.close()


@pytest.mark.slow
def test_the_status_is_retained_on_connection_and_whenever_given(
    link: Link, mosquitto: "Mosquitto", centre: Centre
) -> None:
    link.start()
    wait_until(lambda: centre.statuses)
    assert centre.statuses == [STATUS_NOW]
    louder = msgspec.structs.replace(STATUS_NOW, noise_dbfs=-40.0)
    link.give_status(louder)
    wait_until(lambda: len(centre.statuses) == 2)
    latecomer = Centre(mosquitto.port)
    wait_until(lambda: latecomer.statuses)
    assert centre.statuses[-1] == latecomer.statuses[0] == louder
    latecomer.close()


@pytest.mark.slow
def test_a_status_that_is_not_valid_is_dropped_and_nothing_else(link: Link, outbox: Outbox, centre: Centre) -> None:
    link.start()
    link.give_status(msgspec.structs.replace(STATUS_NOW, noise_dbfs=1e6))
    put(outbox, 1)
    link.wake()
    wait_until(lambda: outbox.depth == 0)
    assert {status.noise_dbfs for status in centre.statuses} == {None}


BROKEN = [
    {"clock": ClockStatus(tier="gps", sigma_s=float("nan"))},
    {"clock": ClockStatus(tier="gps", why="w" * 5000)},
    {"clock": ClockStatus(tier="gps"), "time_ns": 2**63 - 1},
    {"clock": ClockStatus(tier="gps"), "lost_to": {"": 1}},
    {"clock": ClockStatus(tier="gps"), "problems": ["x" * 300]},
]


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: list(broken)[-1])
def test_a_status_that_breaks_the_contract_makes_no_node_silent(
    link: Link, centre: Centre, broken: dict[str, Any]
) -> None:
    link.start()
    wait_until(lambda: centre.statuses)
    link.give_status(msgspec.structs.replace(STATUS_NOW, **{"time_ns": NOW_NS + 1, "noise_dbfs": -40.0, **broken}))
    wait_until(lambda: len(centre.statuses) == 2)
    told = centre.statuses[-1]
    assert told.online
    assert told.time_ns > NOW_NS
    assert told.clock == ClockStatus(tier="gps")
    assert told.noise_dbfs is None
    assert told.problems == [problem[:256] for problem in link.problems]
    assert "NodeStatus" in told.problems[0]
    link.give_status(STATUS_NOW)
    wait_until(lambda: len(centre.statuses) == 3)
    assert (centre.statuses[-1], link.problems) == (STATUS_NOW, [])


@pytest.mark.slow
def test_a_flood_of_messages_that_cannot_be_read_does_not_fill_the_log(
    link: Link, centre: Centre, caplog: pytest.LogCaptureFixture
) -> None:
    link.start()
    wait_until(lambda: centre.statuses)
    flood = 3 * MAX_SAID
    for length in range(flood):
        centre.publish(ACK_TOPIC, bytes(17_000 + length))
    wait_until(lambda: link.unreadable == flood)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == MAX_SAID


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["MQTT 5", "MQTT 3.1.1"])
def test_a_closed_link_has_said_that_the_node_is_offline(
    link: Link, mosquitto: "Mosquitto", centre: Centre, old: bool
) -> None:
    if old:
        speak_3_1_1(link)
    link.start()
    wait_until(lambda: centre.statuses)
    link.close()
    wait_until(lambda: len(centre.statuses) == 2)
    assert [status.online for status in centre.statuses] == [True, False]
    latecomer = Centre(mosquitto.port)
    wait_until(lambda: latecomer.statuses)
    assert not latecomer.statuses[0].online
    latecomer.close()


@pytest.mark.slow
def test_the_last_will_says_offline_when_the_process_dies(
    mosquitto: "Mosquitto", centre: Centre, tmp_path: Path
) -> None:
    arguments = [str(mosquitto.port), str(tmp_path / "its-outbox.sqlite"), STATUS.encode(STATUS_NOW).decode()]
    with subprocess.Popen([sys.executable, "-c", DIE_CONNECTED, *arguments]) as process:
        wait_until(lambda: centre.statuses)
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: len(centre.statuses) == 2)
    assert centre.statuses == [STATUS_NOW, msgspec.structs.replace(STATUS_NOW, online=False)]


@pytest.mark.slow
def test_an_ack_that_cannot_be_read_is_counted_and_told(link: Link, outbox: Outbox, centre: Centre) -> None:
    link.start()
    wait_until(lambda: centre.statuses)
    for payload in (b"nonsense", b"{}", b"\xff", b'{"detections": [3]}'):
        centre.publish(ACK_TOPIC, payload)
    put(outbox, 1)
    link.wake()
    wait_until(lambda: outbox.depth == 0)
    assert link.unreadable == 4
    assert any("Ack" in problem for problem in link.problems)


@pytest.mark.slow
def test_a_clip_that_cannot_be_sent_is_told_until_one_is(link: Link) -> None:
    def broken() -> bytes:
        raise MessageError("clip", "is no FLAC file")

    link.start()
    wait_until(lambda: link.connected)
    link.give_clip(broken)
    wait_until(lambda: link.problems)
    assert link.problems == ["clip: is no FLAC file"]
    link.give_clip(lambda: b"{}\nfLaC")
    wait_until(lambda: not link.problems)


@pytest.mark.slow
def test_an_outbox_that_fails_does_not_end_the_connection(link: Link, outbox: Outbox, centre: Centre) -> None:
    link.start()
    wait_until(lambda: centre.statuses)
    outbox.close()
    link.wake()
    wait_until(lambda: outbox.problem)
    link.give_status(msgspec.structs.replace(STATUS_NOW, noise_dbfs=-40.0))
    wait_until(lambda: len(centre.statuses) == 2)
    assert link.connected


@pytest.mark.slow
@pytest.mark.parametrize("user", [None, "roof"])
def test_a_broker_that_knows_only_3_1_1_is_spoken_to_in_3_1_1(
    amqtt: int, outbox: Outbox, caplog: pytest.LogCaptureFixture, user: str | None
) -> None:
    centre = Centre(amqtt)
    link = Link(LinkSettings("127.0.0.1", amqtt, user=user, password=user), outbox, STATUS_NOW)
    put(outbox, *range(50))
    start_s = time.monotonic()
    link.start()
    wait_until(lambda: outbox.depth == 0)
    assert time.monotonic() - start_s < 3
    assert link._protocol is MQTTProtocolVersion.MQTTv311
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    link.close()
    wait_until(lambda: not centre.statuses[-1].online)
    centre.close()


def test_the_wait_doubles_from_one_second_to_a_minute_and_jitter_adds_up_to_half() -> None:
    assert [backoff_s(failures, 0.0) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(10_000, 1.0) == 90


def test_tls_settings_that_cannot_work_are_refused_in_one_sentence(tmp_path: Path) -> None:
    assert tls_context(LinkSettings()) is None
    assert tls_context(LinkSettings(tls=True)) is not None
    with pytest.raises(InputError, match="TLS is off; add tls = true"):
        tls_context(LinkSettings(ca="ca.pem"))
    with pytest.raises(InputError, match="cannot be used"):
        tls_context(LinkSettings(tls=True, ca=str(tmp_path / "none.pem")))
    with pytest.raises(InputError, match="a key without its certificate"):
        tls_context(LinkSettings(tls=True, key="node.key"))


def test_a_link_needs_a_status_that_is_valid(outbox: Outbox) -> None:
    with pytest.raises(MessageError):
        Link(LinkSettings(), outbox, msgspec.structs.replace(STATUS_NOW, lat=91.0))


def test_a_link_that_never_started_closes(outbox: Outbox) -> None:
    link = Link(LinkSettings(), outbox, STATUS_NOW)
    link.close()
    link.close()
