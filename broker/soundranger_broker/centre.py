"""The centre: takes what nodes say from MQTT to the locator, and what the locator finds to MQTT and to the page."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from soundranger_broker import words
from soundranger_broker.bulletin import COMPILING, Bulletin
from soundranger_broker.clip_requests import ClipRequests
from soundranger_broker.deciding import News
from soundranger_broker.ingest import MOST_NODES
from soundranger_broker.intake import Intake
from soundranger_broker.keeping import AWAY, Keeper
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import Address
from soundranger_broker.recall import Memory, recall
from soundranger_broker.storage.store import Clip, Store
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.picture import ClipStored, Figures
from soundranger_node.errors import BrokerError, MessageError
from soundranger_node.messages import (
    ACK,
    CENTRE,
    CLIP_REQUEST,
    EVENT,
    INCIDENT,
    REFUSAL,
    STATUS,
    Ack,
    CentreStatus,
    ClipRequest,
    Event,
    Incident,
    NodeStatus,
    Refusal,
    decode_clip,
)
from soundranger_node.topics import (
    NodeTopic,
    NodeTopicKind,
    centre_topic,
    event_topic,
    every_node,
    incident_topic,
    parse_node_topic,
    refusal_topic,
)

# So many reasons are logged, once each; a node with endless ones is mad.
MOST_SAID = 500
# The most ids in one ack.
MOST_ACKED = 100
# How often news is looked for when nothing comes in.
TICK_S = 0.05
# How often the page is told the figures.
FIGURES_EVERY_NS = 1_000_000_000
KEEPALIVE_S = 30
STOP_S = 10.0
# How long a broker may take to take our last words.
GOODBYE_S = 1.0
# Beyond its lateness, the locator decides everything once its clock is further ahead than any sound can be late.
CONCLUDE_NS = 60_000_000_000
QOS = 1

_LOG = logging.getLogger(__name__)


class Centre:
    """Connects a locator to an MQTT broker, a store and a page; `now_ns` is the clock that the network lives by.

    With a store, nodes are told that a detection is safe once it is committed; without, once it was taken in.
    `concluded_ns` is the time up to which it has told all that there was to tell. `on_news` is called, in the centre's
    own thread, with every event, incident and refusal after it was published. Until `ready` is set, which says that the
    numerics are compiled, detections are taken in and wait.
    """

    def __init__(
        self,
        address: Address,
        locator: Locator,
        now_ns: Callable[[], int],
        hub: Hub | None = None,
        on_news: Callable[[News], None] | None = None,
        ready: threading.Event | None = None,
        store: Store | None = None,
    ) -> None:
        self.locator = locator
        self.bad_statuses = 0
        self._ahead_ns = 0
        self.concluded_ns = 0
        self._address = address
        self._now_ns = now_ns
        self._hub = hub
        self._on_news = on_news
        self._said: set[tuple[str, str]] = set()
        self._last_delay_s: float | None = None
        self._figures_ns = 0
        self._ready = ready
        # One for each thread: what nodes report is acked at once, however long the rest takes.
        self._keeper = None if store is None else Keeper(store)
        self._reports = None if store is None else Keeper(store)
        self._intake = Intake(locator, self._reports, self._acknowledge, now_ns)
        # What was told before the end, and what nodes said last: the locator is not told before it is ready.
        self._memory: Memory | None = None
        self._untold: dict[str, NodeStatus] = {}
        self._clips = ClipRequests()
        # By node: of the topic on which it says how it is.
        self._cells: dict[str, str] = {}
        self._bulletin = Bulletin(locator, now_ns())
        self._may_look_s = 0.0
        self._stopping = threading.Event()
        # Whether the broker has taken our subscriptions: from then on we miss nothing.
        self._connected = threading.Event()
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._run, name="centre", daemon=True)

    def start(self, wait_s: float = 0.0) -> None:
        """Connect, and go on trying for ever; wait up to `wait_s` for the first connection.

        Raises:
            BrokerError: there was none within `wait_s` (only where that is more than nothing).
        """
        if self._keeper is not None:
            self._memory = recall(self._keeper.store, self.locator)
            for event in self._memory.without_clips:
                self._clips.want(event, self._now_ns())
        self._client.connect_async(self._address.host, self._address.port, KEEPALIVE_S)
        self._client.loop_start()
        self._intake.start()
        self._thread.start()
        if wait_s and not self._connected.wait(wait_s):
            self.stop()
            where = f"{self._address.host}:{self._address.port}"
            raise BrokerError("the MQTT broker", f"does not answer at {where}", "check that it runs, and the address")

    def conclude(self, most_s: float) -> None:
        """Decide and tell what still waits, for nothing more will come; return after `most_s` at the latest."""
        self._ahead_ns = self.locator.lateness_ns + CONCLUDE_NS
        wanted_ns = self._now_ns() + self._ahead_ns
        give_up_s = time.monotonic() + most_s
        while self.concluded_ns < wanted_ns and time.monotonic() < give_up_s:
            time.sleep(TICK_S)

    def stop(self) -> None:
        """Handle what has come in, then end."""
        self._intake.stop()
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _make_client(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        if self._address.user is not None:
            client.username_pw_set(self._address.user, self._address.password)
        client.will_set(centre_topic(), CENTRE.encode(self._bulletin.will()), QOS, retain=True)
        client.on_connect = self._connect
        client.on_subscribe = lambda *_: self._connected.set()
        client.on_disconnect = self._disconnect
        client.on_message = self._message
        return client

    def _connect(
        self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            _LOG.warning("the MQTT broker refuses the centre: %s", reason)
            return
        kinds: list[NodeTopicKind] = ["detection", "status"]
        if self._keeper is not None:
            kinds.append("clip")
        client.subscribe([(every_node(kind), QOS) for kind in kinds])
        # The broker may have told of our end, or forgotten what it kept.
        self._bulletin.repeat()

    def _disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _props: Properties | None
    ) -> None:
        self._connected.clear()
        if not self._stopping.is_set():
            _LOG.warning("the MQTT broker has gone (%s); trying again", reason)

    def _message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        topic = parse_node_topic(message.topic)
        if topic is not None:
            self._intake.put(topic, bytes(message.payload))

    @property
    def received(self) -> int:
        """How many detections came in."""
        return self._intake.received

    @property
    def is_alive(self) -> bool:
        """Whether it still works: it ends where what it rests on is gone."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not (self._stopping.is_set() and self._intake.is_idle):
                self._turn()
        except (EOFError, OSError):
            _LOG.error("the process that locates is gone, and the centre ends with it; start it again")
        self._publish_status(self._bulletin.will(), GOODBYE_S if self._client.is_connected() else 0.0)

    def _turn(self) -> None:
        """Take in what came, tell what is news, and wait a little where nothing came."""
        self._intake.came.wait(TICK_S)
        self._intake.came.clear()
        now_ns = self._intake.until_ns() + self._ahead_ns
        self._hear()
        self._keep()
        if self._ready is None or self._ready.is_set():
            self._tell_locator()
            self._tell(self.locator.decide(now_ns))
            self._look(now_ns)
            self.concluded_ns = now_ns
        self._ask_for_clips()
        self._tell_figures()
        self._tell_status()

    def _tell_locator(self) -> None:
        """Tell the locator what it has to know before it decides."""
        if self._memory is not None:
            self.locator.decider.recall(self._memory.told, self._memory.incidents)
            self._memory = None
        while self._untold:
            self.locator.status(self._untold.popitem()[1], self._now_ns())

    def _hear(self) -> None:
        """Handle what came beside detections, and what is to be said of these."""
        for _ in range(self._intake.others.qsize()):
            topic, payload, came_ns = self._intake.others.get()
            if topic.kind == "status":
                self._take_status(topic, payload)
            elif topic.kind == "clip":
                self._take_clip(topic, payload, came_ns)
        for _ in range(self._intake.remarks.qsize()):
            node, taken, came_ns = self._intake.remarks.get()
            if taken.dropped is not None:
                self._say_once(node, taken.dropped)
            if taken.moved_m is not None:
                self._bulletin.jumped(node, taken.moved_m, came_ns)
                self._say_once(node, f"has moved by {words.metres(taken.moved_m)}", "node %s %s")

    def _keep(self) -> None:
        """Store what came beside detections; then the page may fetch it."""
        batch = None if self._keeper is None else self._keeper.commit(self._now_ns())
        if self._keeper is None or batch is None:
            return
        for clip in batch.clips:
            self._show_clip(clip, self._keeper.events_naming(clip.node, clip.header.detection))

    def _show_clip(self, clip: Clip, events: list[str]) -> None:
        if self._hub is not None:
            self._hub.publish(ClipStored(node=clip.node, detection=clip.header.detection, events=events))

    def _look(self, now_ns: int) -> None:
        """Look at what may become an event, at once where there is time for it: looks take half of it at most."""
        started_s = time.monotonic()
        if not self.locator.has_unseen or started_s < self._may_look_s:
            return
        self._tell(self.locator.look(now_ns))
        ended_s = time.monotonic()
        self._may_look_s = ended_s + (ended_s - started_s)

    def _take_clip(self, topic: NodeTopic, payload: bytes, came_ns: int) -> None:
        """Store a clip that was asked for; whatever else a node sends of its sound is nobody's business."""
        try:
            header, flac = decode_clip(payload)
        except MessageError as error:
            self._say_once(topic.node, error.problem)
            return
        if self._keeper is not None and self._clips.came(topic.node, header.detection):
            self._keeper.clip(Clip(topic.node, header, came_ns, flac))

    def _ask_for_clips(self) -> None:
        for node, detection in self._clips.due(self._now_ns()):
            if node not in self._cells:
                continue
            topic = NodeTopic(self._cells[node], node, "request")
            self._client.publish(str(topic), CLIP_REQUEST.encode(ClipRequest(detection=detection)), QOS)

    def _take_status(self, topic: NodeTopic, payload: bytes) -> None:
        try:
            status = STATUS.decode(payload)
        except MessageError as error:
            self.bad_statuses += 1
            self._say_once(topic.node, error.problem)
            return
        if status.node != topic.node:
            self.bad_statuses += 1
            self._say_once(topic.node, "names another node than its topic")
            return
        self._untold[status.node] = status
        if self._keeper is not None:
            self._keeper.status(status, self._now_ns())
        if len(self._cells) < MOST_NODES:
            self._cells[topic.node] = topic.cell
        if self._hub is not None:
            self._hub.publish(status)

    def _acknowledge(self, topic: NodeTopic, ids: list[str]) -> None:
        for first in range(0, len(ids), MOST_ACKED):
            self._client.publish(str(topic), ACK.encode(Ack(detections=ids[first : first + MOST_ACKED])), QOS)

    def _tell(self, news: Iterable[News]) -> None:
        items = [(item, payload) for item in news if (payload := self._encoded(item)) is not None]
        if self._keeper is not None:
            # What people are told can be looked up at once, and is in the log.
            self._keeper.told([item for item, _ in items if not isinstance(item, Refusal)], self._now_ns())
            self._keeper.commit(self._now_ns())
        for item, payload in items:
            self._publish(item, payload)
            self._bulletin.note(item)
            if self._keeper is not None and isinstance(item, Event):
                self._clips.want(item, self._now_ns())
            if isinstance(item, Event) and item.revision == 0:
                self._last_delay_s = (self._now_ns() - item.time_ns) / 1e9
            if self._hub is not None:
                self._hub.publish(item)
            if self._on_news is not None:
                self._on_news(item)

    def _encoded(self, item: News) -> bytes | None:
        try:
            if isinstance(item, Event):
                return EVENT.encode(item)
            return INCIDENT.encode(item) if isinstance(item, Incident) else REFUSAL.encode(item)
        except MessageError as error:
            # Nodes at the edge of what is allowed, say, put a bang just beyond it.
            _LOG.warning("%s is not told of: %s", item.id, error.problem)
            return None

    def _publish(self, item: News, payload: bytes) -> None:
        if isinstance(item, Event):
            topic = event_topic(item.lat, item.lon)
        elif isinstance(item, Incident):
            topic = incident_topic(item.lat, item.lon)
        else:
            topic = refusal_topic(item.lat, item.lon)
            _LOG.info("no event: %s", item.reason)
        self._client.publish(topic, payload, QOS)

    def _tell_figures(self) -> None:
        now_ns = self._now_ns()
        if self._hub is None or abs(now_ns - self._figures_ns) < FIGURES_EVERY_NS:
            return
        self._figures_ns = now_ns
        refused = sum(self.dropped().values())
        self._hub.publish(Figures(detections=self.received, refused=refused, delay_s=self._last_delay_s))

    def _tell_status(self) -> None:
        received, problems = self.received, self._problems()
        status = self._bulletin.due(self._now_ns(), received, self.dropped(), problems, self._log_head)
        if status is not None:
            self._publish_status(status)
        for change in self._bulletin.changes():
            _LOG.warning("%s", change)

    def _problems(self) -> list[str]:
        """Return a sentence for each thing that does not work in the middle just now."""
        compiling = self._ready is not None and not self._ready.is_set()
        away = any(keeper is not None and keeper.is_away for keeper in (self._keeper, self._reports))
        return [*([COMPILING] if compiling else []), *([AWAY] if away else [])]

    def _log_head(self) -> str | None:
        head = None if self._keeper is None else self._keeper.head()
        return None if head is None else str(head)

    def _publish_status(self, status: CentreStatus, wait_s: float = 0.0) -> None:
        """Publish the status for whoever asks later; wait until the broker has it, for so long at most."""
        try:
            sent = self._client.publish(centre_topic(), CENTRE.encode(status), QOS, retain=True)
            if wait_s:
                sent.wait_for_publish(wait_s)
        except MessageError as error:
            _LOG.warning("the status of the centre is not told: %s", error.problem)
            return
        if self._hub is not None:
            self._hub.publish(status)

    def dropped(self) -> Counter[str]:
        """Return how many messages were dropped, by the reason."""
        dropped = self.locator.ingest.counted() + self.locator.decider.state.dropped
        if self._intake.overflowed:
            dropped["came faster than they could be handled"] = self._intake.overflowed
        if self.bad_statuses:
            dropped["is no valid status"] = self.bad_statuses
        return dropped

    def _say_once(self, node: str, reason: str, text: str = "a message from node %s was dropped: %s") -> None:
        """Log a reason once a node; a node with endless reasons is bounded too."""
        if reason == "came before" or (node, reason) in self._said or len(self._said) >= MOST_SAID:
            return
        self._said.add((node, reason))
        _LOG.warning(text, node, reason)
