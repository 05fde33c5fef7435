"""One connection to an MQTT broker, from its first packet to its last."""

import selectors
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from soundranger_node.errors import BrokerError, MessageError, SoundrangerError
from soundranger_node.messages import ACK, CLIP_REQUEST
from soundranger_node.sending import Sending
from soundranger_node.tls import tls_problem

if TYPE_CHECKING:
    from soundranger_node.link import Link

# What most brokers allow a client without being asked, mosquitto among them.
MAX_IN_FLIGHT = 20
# A broker that confirms nothing for so long takes nothing any more, though it may still answer pings: twice what the
# keep-alive leaves a thin line to move a clip.
CONFIRM_S = 60.0
# A dead connection is noticed, and the last will sent, within about twice this.
KEEPALIVE_S = 15
# How long a broker may take to accept a TCP connection.
CONNECT_TIMEOUT_S = 5.0
# How often the keep-alive and the resends are looked at when nothing else happens.
POLL_S = 1.0
# How long a closing link waits for the broker to confirm that the node is offline.
FAREWELL_S = 2.0

QOS = 1
UNSUPPORTED_PROTOCOL = "Unsupported protocol version"
NO_ANSWER = "Keep alive timeout"
SESSION_TAKEN_OVER = "Session taken over"
# Only MQTT 5 tells, and not every broker that speaks it.
NOBODY_LISTENS = "No matching subscribers"
CREDENTIAL_REFUSALS = ("Bad user name or password", "Not authorized")


class Waker:
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


class Session:
    """One connection, all in one thread.

    Every connection has a paho client of its own: paho keeps nothing across one, so nothing is sent behind our back.
    One that `probes` only asks whether the broker speaks the protocol. It has neither will nor login, because amqtt
    misreads a CONNECT of version 5 that has them and waits for more of it.
    """

    def __init__(self, link: "Link", protocol: MQTTProtocolVersion, *, probes: bool) -> None:
        self.probes = probes
        self.answered = False
        self.accepted = False
        self.refusal: BrokerError | None = None
        self.refuses_protocol = False
        self.ended = "the connection was closed"
        self._link = link
        self._sending = Sending(link.outbox)
        # How many messages may be unconfirmed at once: MQTT 5 lets a broker allow fewer.
        self._window = MAX_IN_FLIGHT
        # The message ids that the broker has not confirmed yet, and what they carry: a detection's id, or nothing.
        self._unconfirmed: dict[int, str | None] = {}
        # When it last confirmed one, or had none to confirm.
        self._confirmed_s = 0.0
        self._last_error = ""
        self._client = self._new_client(protocol)

    def run(self) -> None:
        """Connect, send and receive, until the connection is lost or the link closes.

        Raises:
            OSError: the broker cannot be reached.
            BrokerError: it does not trust us, or confirms nothing any more.
        """
        settings = self._link.settings
        self._client.connect(settings.host, settings.port, keepalive=KEEPALIVE_S)
        try:
            while self._client.socket() is not None and not self._is_over():
                self._turn(POLL_S)
                if self.accepted:
                    self._refuse_silence()
                    self._send_status()
                    self._send_detections()
                    self._send_clips()
            if self.accepted:
                self._say_farewell()
        finally:
            self._client.disconnect()
        if self._link.stopping.is_set():
            return
        if self._link.tls is not None and self._last_error and not self.answered:
            raise tls_problem(self._link.address, self._last_error)
        # A broker that closes on our first packet without a word does so for what it cannot read: the version.
        self.refuses_protocol |= not self.answered

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
            client.will_set(self._link.topics["status"], self._link.offline, qos=QOS, retain=True)
            if settings.user is not None:
                client.username_pw_set(settings.user, settings.password)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_log = self._on_log
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

    def _refuse_silence(self) -> None:
        if self._unconfirmed and time.monotonic() - self._confirmed_s > CONFIRM_S:
            problem = f"has confirmed nothing of what we publish for {CONFIRM_S:g} s"
            raise BrokerError(self._link.address, problem, "restart the broker; detections wait in the outbox")

    @property
    def _room(self) -> int:
        return self._window - len(self._unconfirmed)

    def _publish(self, topic: str, payload: bytes, detection: str | None = None, *, retain: bool = False) -> None:
        published = self._client.publish(topic, payload, qos=QOS, retain=retain)
        if published.rc is MQTTErrorCode.MQTT_ERR_SUCCESS:
            if not self._unconfirmed:
                self._confirmed_s = time.monotonic()
            self._unconfirmed[published.mid] = detection

    def _send_status(self) -> None:
        if self._room > 0 and self._link.status_waits.is_set():
            self._link.status_waits.clear()
            self._publish(self._link.topics["status"], self._link.online, retain=True)

    def _send_detections(self) -> None:
        if self._room > 0:
            for waiting in self._sending.due(self._room, time.monotonic()):
                self._publish(self._link.topics["detection"], waiting.payload, waiting.id)

    def _send_clips(self) -> None:
        """Send a clip where nothing else is under way: on a thin line one takes a second or more."""
        if self._unconfirmed or not self._link.clips:
            return
        encode = self._link.clips.popleft()
        try:
            self._publish(self._link.topics["clip"], encode())
        except SoundrangerError as error:
            self._link.say("clips", error)
        else:
            self._link.solved("clips")

    def _say_farewell(self) -> None:
        self._publish(self._link.topics["status"], self._link.offline, retain=True)
        end_s = time.monotonic() + FAREWELL_S
        while self._unconfirmed and self._client.socket() is not None and time.monotonic() < end_s:
            self._turn(end_s - time.monotonic())

    def _on_connect(self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, allowed: Any) -> None:
        self.answered = True
        if reason.is_failure:
            self.refuses_protocol = str(reason) == UNSUPPORTED_PROTOCOL
            remedy = "check [mqtt] user and password" if str(reason) in CREDENTIAL_REFUSALS else ""
            self.refusal = BrokerError(self._link.address, f"refused the connection ({reason})", remedy)
            return
        if self.probes:
            return
        self.accepted = True
        self._window = min(MAX_IN_FLIGHT, getattr(allowed, "ReceiveMaximum", MAX_IN_FLIGHT))
        topics = [self._link.topics["ack"]]
        if self._link.on_request is not None:
            topics.append(self._link.topics["request"])
        client.subscribe([(topic, QOS) for topic in topics])
        self._link.greet()

    def _on_disconnect(self, _client: Any, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _p: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            remedy = "give every node a name of its own" if str(reason) == SESSION_TAKEN_OVER else ""
            self.refusal = BrokerError(self._link.address, f"ended the connection ({reason})", remedy)
        elif str(reason) == NO_ANSWER:
            self.ended = "it does not answer"

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: list[ReasonCode], _p: Properties) -> None:
        """Say what we may not listen to; `reasons` has the order of the subscriptions."""
        address = self._link.address
        if reasons[0].is_failure:
            remedy = f'let this user read it, or set delivery = "broker" in [mqtt]; {self._link.outbox.path} grows'
            problem = f"does not let us subscribe to {self._link.topics['ack']} ({reasons[0]})"
            self._link.say("acks", BrokerError(address, problem, remedy))
        if len(reasons) > 1 and reasons[1].is_failure:
            remedy = "let this user read it, or set allowed = false in [clips]"
            problem = f"does not let us subscribe to {self._link.topics['request']} ({reasons[1]})"
            self._link.say("requests", BrokerError(address, problem, remedy))

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _p: Properties) -> None:
        detection_id = self._unconfirmed.pop(mid, None)
        self._confirmed_s = time.monotonic()
        if reason.is_failure:
            self._link.refused += 1
            problem = f"does not take what we publish ({reason})"
            remedy = "let this user write below soundranger/1/node"
            self._link.say("publishing", BrokerError(self._link.address, problem, remedy))
            return
        if detection_id is None:
            return
        self._link.solved("publishing")
        if self._link.settings.delivery == "broker":
            self._deliver([detection_id])
        elif str(reason) == NOBODY_LISTENS:
            self._sending.unheard(detection_id)
        else:
            self._sending.passed_on()

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        """Take an ack or a request; a broker that delivers what we did not subscribe to is not listened to."""
        payload = bytes(message.payload)
        try:
            if message.topic == self._link.topics["ack"]:
                self._deliver(ACK.decode(payload).detections)
            elif message.topic == self._link.topics["request"] and self._link.on_request is not None:
                self._link.on_request(CLIP_REQUEST.decode(payload))
        except MessageError as error:
            self._link.unreadable += 1
            self._link.say("messages", error)

    def _deliver(self, ids: list[str]) -> None:
        """Note that detections have arrived."""
        self._link.outbox.forget(ids)
        self._sending.acked(ids)

    def _on_log(self, _client: Any, _data: Any, level: int, text: str) -> None:
        """Remember why paho gives up a connection: it tells nobody else."""
        if level == LogLevel.MQTT_LOG_ERR:
            self._last_error = text
