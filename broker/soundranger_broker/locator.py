"""The locator: everything between a payload on a topic and the news about events, without any I/O.

Detections go through ingest, association and tracking; time comes in as an argument, so a replay can run at any speed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from soundranger_broker.association import Associator
from soundranger_broker.events import event_id, to_event
from soundranger_broker.incidents import IncidentBook
from soundranger_broker.ingest import Ingest, Taken
from soundranger_broker.location import Medium
from soundranger_broker.refusals import RefusalBook
from soundranger_broker.tracking import Tracker
from soundranger_node.messages import Event, Incident, NodeStatus, Refusal

# Later than anything that ingest lets pass can be.
FAR_NS = 1_000_000_000_000
# A node's report is here this long after the sound, if all is well: pipeline, link and broker.
REPORT_NS = 300_000_000

News = Event | Incident | Refusal


@dataclass
class Locator:
    """Turns payloads into events; `lateness_ns` is how long after its time a detection may come in.

    `medium` is the air with which the last bang was located.
    """

    lateness_ns: int
    ingest: Ingest = field(default_factory=Ingest)
    associator: Associator = field(default_factory=Associator)
    tracker: Tracker = field(default_factory=Tracker)
    incidents: IncidentBook = field(default_factory=IncidentBook)
    refusals: RefusalBook = field(default_factory=RefusalBook)
    medium: Medium | None = None
    _unseen: list[str] = field(default_factory=list)

    def recall(self, told: Sequence[Event], incidents: Iterable[Incident]) -> None:
        """Take in what was told before the centre started again; the detections it rests on come in as ever."""
        self.tracker.recall(told)
        self.incidents.recall(incidents, told)

    def status(self, status: NodeStatus, now_ns: int) -> None:
        """Take in what a node says of itself; a last will was written long before the node died."""
        if status.online:
            self.associator.know(status.node, status.lat, status.lon, status.alt_m)
        else:
            self.associator.sleep(status.node, max(status.time_ns, now_ns))

    def detection(self, payload: bytes, now_ns: int, node: str | None = None) -> Taken:
        """Take in a detection's payload."""
        taken = self.ingest.offer(payload, now_ns, node)
        if taken.node is not None:
            self._unseen.append(taken.node)
        return taken

    def advance(self, now_ns: int) -> list[News]:
        """Return the news as of a time, in the order in which they are to be published."""
        return [*self.decide(now_ns), *self.look(now_ns)]

    def decide(self, now_ns: int) -> list[News]:
        """Return what is decided as of a time: nothing that comes later changes it."""
        until_ns = now_ns - self.lateness_ns
        released = self.ingest.release(until_ns)
        for detection in released:
            self.associator.add(detection)
        self.refusals.add(released)
        bangs = self.associator.settle(until_ns)
        self.refusals.claim(bangs)
        self.refusals.weigh(self.associator.refused())
        decided_ns = self.associator.decided_ns(until_ns)
        news: list[News] = []
        for event in self.tracker.final(bangs, decided_ns):
            news.append(event)
            if event.status == "final":
                news.append(self.incidents.add(event))
        if bangs:
            self.medium = bangs[-1].given.medium
        return [*news, *self.refusals.refuse(decided_ns, self.medium)]

    @property
    def has_unseen(self) -> bool:
        """Whether detections have come in since the last look."""
        return bool(self._unseen)

    def look(self, now_ns: int) -> list[Event]:
        """Return what detections that came since the last look say of events that may still change, as of a time."""
        if not self._unseen:
            return []
        heard, self._unseen = self._unseen, []
        bangs = self.associator.glance(self.ingest.waiting(), now_ns - REPORT_NS)
        return self.tracker.preliminary(bangs, heard)


def locate_all(payloads: Iterable[bytes], now_ns: int) -> tuple[list[Event], Ingest]:
    """Return the final events of a whole set of detections in time order, and the ingest with what it dropped."""
    ingest, associator = Ingest(), Associator()
    for payload in payloads:
        if payload.strip():
            ingest.offer(payload, now_ns)
    detections = ingest.release(now_ns + FAR_NS)
    for detection in detections:
        associator.know(detection.node, detection.lat, detection.lon, detection.alt_m)
    bangs = []
    for detection in detections:
        associator.add(detection)
        bangs += associator.settle(detection.time_ns)
    bangs += associator.settle(now_ns + FAR_NS)
    bangs.sort(key=lambda bang: bang.time_ns)
    return [to_event(bang, event_id(bang), 0, "final") for bang in bangs], ingest
