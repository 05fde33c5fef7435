"""The link: carries the outbox and the node's status to an MQTT broker, and takes acks back."""

import logging
import random
import ssl
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from paho.mqtt.enums import MQTTProtocolVersion

from soundranger_node.errors import BrokerError, InputError, MessageError, SoundrangerError
from soundranger_node.messages import LATEST_NS, MAX_SHORT_TEXT, STATUS, ClipRequest, ClockStatus, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.session import CONNECT_TIMEOUT_S, FAREWELL_S, Session, Waker
from soundranger_node.tls import tls_problem
from soundranger_node.topics import NODE_TOPIC_KINDS, NodeTopicKind, node_topic

# The wait before a new attempt doubles from the first to the second.
MIN_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
# So that a street of nodes does not come back in step after a power cut.
JITTER_SHARE = 0.5
# Clips that wait for the connection to take them, 192 kB each as a rule at 48 kHz: one for each round of a magazine.
MAX_CLIPS = 30
# Different sentences logged over one connection: more are somebody's flood of messages that cannot be read.
MAX_SAID = 100

# What a problem is about: a later one about the same takes its place.
About = Literal["connection", "status", "acks", "requests", "publishing", "messages", "clips"]

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


def _least_of(status: NodeStatus, problem: str) -> NodeStatus:
    """Return what every status has to say, and why this one says no more."""
    return NodeStatus(
        node=status.node,
        online=status.online,
        time_ns=min(max(status.time_ns, 0), LATEST_NS - 1),
        version=status.version,
        lat=status.lat,
        lon=status.lon,
        alt_m=status.alt_m,
        position_sigma_m=status.position_sigma_m,
        clock=ClockStatus(tier=status.clock.tier, good=status.clock.good),
        problems=[problem[:MAX_SHORT_TEXT]],
    )


class Link:
    """One node's connection to its MQTT broker: reconnects for ever, sends what waits, newest first.

    `status` says which node this is and where. Requests for clips are listened to only where `on_request` is there
    to take them, in the link's thread. `unreadable` counts messages to us that could not be read, `refused` the
    publications that the broker did not allow (which only MQTT 5 tells).

    Raises:
        InputError: from the constructor: the TLS settings cannot be used.
        MessageError: from the constructor: the status is not valid, not even what every status has to say.
    """

    def __init__(
        self,
        settings: LinkSettings,
        outbox: Outbox,
        status: NodeStatus,
        on_request: Callable[[ClipRequest], None] | None = None,
    ) -> None:
        self.settings = settings
        self.outbox = outbox
        self.node = status.node
        self.topics: dict[NodeTopicKind, str] = {
            kind: node_topic(status.lat, status.lon, status.node, kind) for kind in NODE_TOPIC_KINDS
        }
        self.on_request = on_request
        self._problems: dict[About, str] = {}
        self._said: set[str] = set()
        self._take_status(status)
        self.tls = tls_context(settings)
        self.status_waits = threading.Event()
        self.clips: deque[Callable[[], bytes]] = deque()
        self.stopping = threading.Event()
        self.waker = Waker()
        self.unreadable = 0
        self.refused = 0
        self.connected = False
        # What the broker is known to speak; None until it was asked.
        self._protocol: MQTTProtocolVersion | None = None
        self._thread = threading.Thread(target=self._run, name=f"link {self.node}", daemon=True)

    @property
    def address(self) -> str:
        """The broker's address, as a person would write it."""
        return f"mqtt{'s' if self.tls else ''}://{self.settings.host}:{self.settings.port}"

    @property
    def alive(self) -> bool:
        """Whether the link is at work, connected or not."""
        return self._thread.is_alive()

    @property
    def problems(self) -> list[str]:
        """What does not work just now, one sentence each."""
        return list(self._problems.copy().values())

    def start(self) -> None:
        """Begin to connect; never fails for want of a broker."""
        self._thread.start()

    def wake(self) -> None:
        """Tell the link that the outbox has something new."""
        self.waker.wake()

    def give_status(self, status: NodeStatus) -> None:
        """Publish a status, now or when connected; the last one given is also the last will of the next connection.

        Of one that breaks the contract, what every status has to say is published, with the reason as its problem; one
        that breaks it there too is dropped.
        """
        with suppress(MessageError):
            self._take_status(status)
            self.status_waits.set()
            self.waker.wake()

    def give_clip(self, encode: Callable[[], bytes]) -> None:
        """Publish what `encode` returns in the link's thread, if there is a connection: a clip is never kept."""
        if not self.connected:
            return
        if len(self.clips) >= MAX_CLIPS:
            self.say("clips", BrokerError(self.address, "asks for clips faster than it takes them", "ask for fewer"))
            return
        self.clips.append(encode)
        self.waker.wake()

    def close(self) -> None:
        """Say that the node is offline, disconnect and end; safe more than once. The outbox stays open."""
        self.stopping.set()
        self.waker.wake()
        if self._thread.is_alive():
            self._thread.join(CONNECT_TIMEOUT_S + FAREWELL_S)
        if not self._thread.is_alive():
            self.waker.close()

    def say(self, about: About, problem: SoundrangerError) -> None:
        """Note a problem until it is solved; log it once until the next good connection, however often it happens."""
        self._problems[about] = str(problem)
        if str(problem) not in self._said and len(self._said) < MAX_SAID:
            self._said.add(str(problem))
            _LOG.warning("%s: %s", self.node, problem)

    def solved(self, about: About) -> None:
        """Note that something works."""
        self._problems.pop(about, None)

    def greet(self) -> None:
        """Note that the broker has accepted a connection."""
        self.connected = True
        self.status_waits.set()
        self._said.clear()
        self._problems.clear()
        _LOG.info("%s: connected to %s", self.node, self.address)

    def _take_status(self, status: NodeStatus) -> None:
        try:
            self.online, self.offline = _both_statuses(status)
        except MessageError as error:
            self.say("status", error)
            self.online, self.offline = _both_statuses(_least_of(status, str(error)))
        else:
            self.solved("status")

    def _run(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            session = Session(self, self._protocol or MQTTProtocolVersion.MQTTv5, probes=self._protocol is None)
            self._attempt(session)
            self._protocol = self._protocol_after(session)
            if session.probes and self._protocol is not None:
                continue
            failures = 1 if session.accepted else failures + 1
            self.stopping.wait(backoff_s(failures, random.random()))  # noqa: S311 - jitter is no secret

    def _protocol_after(self, session: Session) -> MQTTProtocolVersion | None:
        """Return the protocol for the next attempt; None asks the broker again."""
        if not session.probes:
            return None if session.refuses_protocol else self._protocol
        if session.refuses_protocol:
            return MQTTProtocolVersion.MQTTv311
        return MQTTProtocolVersion.MQTTv5 if session.answered else None

    def _attempt(self, session: Session) -> None:
        """Run one connection until it ends; whatever ends it becomes one sentence in the log."""
        try:
            session.run()
        except SoundrangerError as error:
            self.say("connection", error)
        except ssl.SSLError as error:
            self.say("connection", tls_problem(self.address, str(error)))
        except OSError as error:
            self.say("connection", self._unreachable(error.strerror or str(error)))
        except Exception as error:  # noqa: BLE001 - paho raises anything on a malformed packet, and the node must go on
            problem = f"spoke no MQTT that we understand ({type(error).__name__})"
            self.say("connection", BrokerError(self.address, problem))
        else:
            if not self.stopping.is_set() and not session.probes:
                self.say("connection", session.refusal or self._unreachable(session.ended))
        finally:
            self.connected = False
            self.clips.clear()

    def _unreachable(self, why: str) -> BrokerError:
        return BrokerError(
            self.address, f"cannot be reached ({why})", "detections wait in the outbox; check [mqtt] host, port and tls"
        )
