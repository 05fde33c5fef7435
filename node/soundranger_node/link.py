"""The link: carries the outbox and the node's status to an MQTT broker, and takes acks back."""

import logging
import random
import selectors
import socket
import ssl
import threading
import time
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from soundranger_node.errors import BrokerError, InputError, MessageError, SoundrangerError
from soundranger_node.messages import ACK, STATUS, NodeStatus
from soundranger_node.outbox import Outbox, Waiting
from soundranger_node.topics import node_topic

# What most brokers allow a client without being asked, mosquitto among them.
MAX_IN_FLIGHT = 20
# A dead connection is noticed, and the last will sent, within about twice this.
KEEPALIVE_S = 15
# How long a broker may take to accept a TCP connection.
CONNECT_TIMEOUT_S = 5.0
# How often the keep-alive and the resends are looked at when nothing else happens.
POLL_S = 1.0
# How long a closing link waits for the broker to confirm that the node is offline.
FAREWELL_S = 2.0
# The wait before a new attempt doubles from the first to the second.
MIN_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
# So that a street of nodes does not come back in step after a power cut.
JITTER_SHARE = 0.5

QOS = 1
UNSUPPORTED_PROTOCOL = "Unsupported protocol version"
SESSION_TAKEN_OVER = "Session taken over"
CREDENTIAL_REFUSALS = ("Bad user name or password", "Not authorized")

_LOG = logging.getLogger(__name__)


class LinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The MQTT broker, how to log in to it, and when a detection counts as delivered.

    `ca`, `cert` and `key` are paths of PEM files and need `tls`; without `ca`, the system's authorities are trusted.
    `delivery` is "ack" (the receiving side says that it has stored it) or "broker" (the broker has taken it).
    """

    host: Annotated[str, Meta(min_length=1)] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 1883
    user: str | None = None
    password: str | None = None
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    delivery: Literal["ack", "broker"] = "ack"


def tls_context(settings: LinkSettings) -> ssl.SSLContext | None:
    """Return the TLS context that the settings ask for, or None where they ask for none.

    Raises:
        InputError: a certificate or a key cannot be read, or is set although TLS is off.
    """
    if not settings.tls:
        if settings.ca or settings.cert or settings.key:
            raise InputError("[mqtt]", "names a certificate or a key, but TLS is off", "add tls = true")
        return None
    if settings.key and not settings.cert:
        raise InputError("[mqtt]", "names a key without its certificate", "set cert too")
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key)
    except OSError as error:
        remedy = "check ca, cert and key: PEM files that this user may read"
        raise InputError("[mqtt]", f"names a certificate or a key that cannot be used ({error})", remedy) from None
    return context


def backoff_s(failures: int, jitter: float) -> float:
    """Return the wait after some failures in a row (1 or more); `jitter` is a random number from 0 to 1."""
    doublings = min(failures - 1, 10)
    return min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0**doublings) * (1 + JITTER_SHARE * jitter)


def _both_statuses(status: NodeStatus) -> tuple[bytes, bytes]:
    """Return a status as published and as the last will has it."""
    return STATUS.encode(status), STATUS.encode(msgspec.structs.replace(status, online=False))


class _Waker:
    """Wakes the one thread that waits on a socket, from any other."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def wake(self) -> None:
        """Let the current or the next `wait` return at once."""
        try:
            self._writer.send(b"\0")
        except OSError:
            return  # Full: a wake-up is under way already. Closed: nobody waits any more.

    def wait(self, sock: socket.socket, *, write: bool, timeout_s: float) -> int:
        """Wait for the socket or for `wake`; return the selectors.EVENT_* that the socket is ready for."""
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return selectors.EVENT_READ
        with selectors.PollSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0))
            ready = {key.fd: events for key, events in selector.select(timeout_s)}
            if self._reader.fileno() in ready:
                self._reader.recv(4096)
            return ready.get(sock.fileno(), 0)

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()


class Link:
    """One node's connection to its MQTT broker: reconnects for ever, sends what waits, newest first.

    `status` says which node this is and where. `bad_acks` counts acks that could not be read, `refused` the
    publications that the broker did not allow (which only MQTT 5 tells).

    Raises:
        InputError: from the constructor: the TLS settings cannot be used.
        MessageError: from the constructor: the status is not valid.
    """

    def __init__(self, settings: LinkSettings, outbox: Outbox, status: NodeStatus) -> None:
        self.settings = settings
        self.outbox = outbox
        self.node = status.node
        self.status_topic = node_topic(status.lat, status.lon, status.node, "status")
        self.ack_topic = node_topic(status.lat, status.lon, status.node, "ack")
        self.tls = tls_context(settings)
        self.online, self.offline = _both_statuses(status)
        self.status_waits = threading.Event()
        self.stopping = threading.Event()
        self.waker = _Waker()
        self.bad_acks = 0
        self.refused = 0
        self.connected = False
        # What the broker is known to speak; None until it was asked.
        self._protocol: MQTTProtocolVersion | None = None
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=f"link {self.node}", daemon=True)

    @property
    def address(self) -> str:
        """The broker's address, as a person would write it."""
        return f"mqtt{'s' if self.tls else ''}://{self.settings.host}:{self.settings.port}"

    @property
    def alive(self) -> bool:
        """Whether the thread of the link runs; it does from `start` to `close`."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to connect; never fails for want of a broker."""
        self._thread.start()

    def wake(self) -> None:
        """Tell the link that the outbox has something new."""
        self.waker.wake()

    def give_status(self, status: NodeStatus) -> None:
        """Publish a status, now or when connected; the last one given is also the last will of the next connection.

        One that is not valid is logged and dropped.
        """
        try:
            self.online, self.offline = _both_statuses(status)
        except MessageError as error:
            self.say(error)
            return
        self.status_waits.set()
        self.waker.wake()

    def close(self) -> None:
        """Say that the node is offline, disconnect and end; safe more than once. The outbox stays open."""
        self.stopping.set()
        self.waker.wake()
        if self._thread.is_alive():
            self._thread.join(CONNECT_TIMEOUT_S + FAREWELL_S)
        if not self._thread.is_alive():
            self.waker.close()

    def say(self, problem: SoundrangerError) -> None:
        """Log a problem once until the next good connection, however often it happens."""
        if str(problem) not in self._said:
            self._said.add(str(problem))
            _LOG.warning("%s: %s", self.node, problem)

    def count_bad_ack(self, error: MessageError) -> None:
        """Count an ack that cannot be read; the first one is logged."""
        if self.bad_acks == 0:
            self.say(error)
        self.bad_acks += 1

    def greet(self) -> None:
        """Note that the broker has accepted a connection."""
        self.connected = True
        self.status_waits.set()
        self._said.clear()
        _LOG.info("%s: connected to %s", self.node, self.address)

    def _run(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            session = _Session(self, self._protocol or MQTTProtocolVersion.MQTTv5, probes=self._protocol is None)
            self._attempt(session)
            self._protocol = self._protocol_after(session)
            if session.probes and self._protocol is not None:
                continue
            failures = 1 if session.accepted else failures + 1
            self.stopping.wait(backoff_s(failures, random.random()))  # noqa: S311 - jitter is no secret

    def _protocol_after(self, session: "_Session") -> MQTTProtocolVersion | None:
        """Return the protocol for the next attempt; None asks the broker again."""
        if not session.probes:
            return None if session.refuses_protocol else self._protocol
        if session.refuses_protocol:
            return MQTTProtocolVersion.MQTTv311
        return MQTTProtocolVersion.MQTTv5 if session.answered else None

    def _attempt(self, session: "_Session") -> None:
        """Run one connection until it ends; whatever ends it becomes one sentence in the log."""
        try:
            session.run()
        except SoundrangerError as error:
            self.say(error)
        except OSError as error:
            self.say(self._unreachable(str(error)))
        except Exception as error:  # noqa: BLE001 - paho raises anything on a malformed packet, and the node must go on
            self.say(BrokerError(self.address, f"spoke no MQTT that we understand ({type(error).__name__})"))
        else:
            if not self.stopping.is_set() and not session.probes:
                self.say(session.refusal or self._unreachable("the connection was closed"))
        finally:
            self.connected = False
            self._return_to_outbox()

    def _return_to_outbox(self) -> None:
        if self.stopping.is_set():
            return
        try:
            self.outbox.mark_all_unsent()
        except InputError as error:
            self.say(error)

    def _unreachable(self, why: str) -> BrokerError:
        return BrokerError(
            self.address, f"cannot be reached ({why})", "detections wait in the outbox; check [mqtt] host and port"
        )


class _Session:
    """One connection, from its first packet to its last, all in one thread.

    Every connection has a paho client of its own: paho keeps nothing across one, so nothing is sent behind our back.
    One that `probes` only asks whether the broker speaks the protocol. It has neither will nor login, because amqtt
    misreads a CONNECT of version 5 that has them and waits for more of it.
    """

    def __init__(self, link: Link, protocol: MQTTProtocolVersion, *, probes: bool) -> None:
        self.probes = probes
        self._link = link
        self._sent_as: dict[int, str] = {}
        self._unconfirmed_statuses: set[int] = set()
        self.answered = False
        self.accepted = False
        self.refusal: BrokerError | None = None
        self.refuses_protocol = False
        self._client = self._new_client(protocol)

    def run(self) -> None:
        """Connect, send and receive, until the connection is lost or the link closes.

        Raises:
            OSError: the broker cannot be reached.
            SoundrangerError: the outbox failed.
        """
        settings = self._link.settings
        self._client.connect(settings.host, settings.port, keepalive=KEEPALIVE_S)
        try:
            while self._client.socket() is not None and not self._is_over():
                self._turn(POLL_S)
                if self.accepted:
                    self._send_status()
                    self._send_detections()
            if self.accepted:
                self._say_farewell()
        finally:
            self._client.disconnect()
        # A broker that closes on our first packet without a word does so for what it cannot read: the version.
        self.refuses_protocol |= not self.answered and not self._link.stopping.is_set()

    def _is_over(self) -> bool:
        return self._link.stopping.is_set() or (self.probes and self.answered)

    def _new_client(self, protocol: MQTTProtocolVersion) -> Client:
        settings = self._link.settings
        # The node's name as the client's: a broker ends a half-open older connection, and sends its will, before ours.
        client_id = "" if self.probes else f"soundranger-{self._link.node}"
        client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = MAX_IN_FLIGHT
        if self._link.tls is not None:
            client.tls_set_context(self._link.tls)
        if not self.probes:
            client.will_set(self._link.status_topic, self._link.offline, qos=QOS, retain=True)
            if settings.user is not None:
                client.username_pw_set(settings.user, settings.password)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _turn(self, timeout_s: float) -> None:
        """Wait for the broker or for a wake-up, and let paho do what there is to do."""
        client = self._client
        sock = client.socket()
        if not isinstance(sock, socket.socket):
            return
        ready = self._link.waker.wait(sock, write=client.want_write(), timeout_s=timeout_s)
        if ready & selectors.EVENT_READ:
            client.loop_read()
        if ready & selectors.EVENT_WRITE:
            client.loop_write()
        client.loop_misc()

    def _send_status(self) -> None:
        if self._link.status_waits.is_set():
            self._link.status_waits.clear()
            self._publish_status(self._link.online)

    def _publish_status(self, payload: bytes) -> None:
        published = self._client.publish(self._link.status_topic, payload, qos=QOS, retain=True)
        self._unconfirmed_statuses.add(published.mid)

    def _send_detections(self) -> None:
        now_s = time.monotonic()
        outbox = self._link.outbox
        room = MAX_IN_FLIGHT - outbox.in_flight(now_s)
        if room <= 0:
            return
        sent = [waiting.id for waiting in outbox.due(room, now_s) if self._publish(waiting)]
        outbox.mark_sent(sent, now_s)

    def _publish(self, waiting: Waiting) -> bool:
        published = self._client.publish(waiting.topic, waiting.payload, qos=QOS)
        if published.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        self._sent_as[published.mid] = waiting.id
        return True

    def _say_farewell(self) -> None:
        self._publish_status(self._link.offline)
        end_s = time.monotonic() + FAREWELL_S
        while self._unconfirmed_statuses and self._client.socket() is not None and time.monotonic() < end_s:
            self._turn(end_s - time.monotonic())

    def _on_connect(self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _p: Any) -> None:
        self.answered = True
        if reason.is_failure:
            self.refuses_protocol = str(reason) == UNSUPPORTED_PROTOCOL
            remedy = "check [mqtt] user and password" if str(reason) in CREDENTIAL_REFUSALS else ""
            self.refusal = BrokerError(self._link.address, f"refused the connection ({reason})", remedy)
            return
        if self.probes:
            return
        self.accepted = True
        client.subscribe(self._link.ack_topic, qos=QOS)
        self._link.greet()

    def _on_disconnect(self, _client: Any, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _p: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            remedy = "give every node a name of its own" if str(reason) == SESSION_TAKEN_OVER else ""
            self.refusal = BrokerError(self._link.address, f"ended the connection ({reason})", remedy)

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: list[ReasonCode], _p: Properties) -> None:
        if any(reason.is_failure for reason in reasons):
            remedy = f'let this user read it, or set delivery = "broker" in [mqtt]; {self._link.outbox.path} grows'
            problem = f"does not let us subscribe to {self._link.ack_topic} ({reasons[0]})"
            self._link.say(BrokerError(self._link.address, problem, remedy))

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _p: Properties) -> None:
        self._unconfirmed_statuses.discard(mid)
        detection_id = self._sent_as.pop(mid, None)
        if reason.is_failure:
            self._link.refused += 1
            problem = f"does not take what we publish ({reason})"
            remedy = "let this user write below soundranger/1/node"
            self._link.say(BrokerError(self._link.address, problem, remedy))
        elif detection_id is not None and self._link.settings.delivery == "broker":
            self._link.outbox.forget([detection_id])

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        """Take an ack; a broker that delivers what we did not subscribe to is not listened to."""
        if message.topic != self._link.ack_topic:
            return
        try:
            acked = ACK.decode(bytes(message.payload)).detections
        except MessageError as error:
            self._link.count_bad_ack(error)
        else:
            self._link.outbox.forget(acked)
