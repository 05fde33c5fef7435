"""The locator: everything between a payload on a topic and the news about events, without any I/O.

Detections go through ingest, association and tracking; time comes in as an argument, so a replay can run at any speed.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from soundranger_broker.association import Associator
from soundranger_broker.deciding import Decider, Deciding, News
from soundranger_broker.events import event_id, to_event
from soundranger_broker.ingest import Ingest, Taken
from soundranger_node.messages import Event, NodeStatus

# Later than anything that ingest lets pass can be.
FAR_NS = 1_000_000_000_000
# A node's report is here this long after the sound, if all is well: pipeline, link and broker.
REPORT_NS = 300_000_000


@dataclass
class Locator:
    """Turns payloads into events; `lateness_ns` is how long after its time a detection may come in.

    `detection` may be called by one thread while another calls the rest.
    """

    lateness_ns: int
    ingest: Ingest = field(default_factory=Ingest)
    decider: Deciding = field(default_factory=Decider)
    _unseen: deque[str] = field(default_factory=deque)

    def status(self, status: NodeStatus, now_ns: int) -> None:
        """Take in what a node says of itself."""
        self.decider.status(status, now_ns)

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
        return self.decider.decide(self.ingest.release(until_ns), until_ns)

    @property
    def has_unseen(self) -> bool:
        """Whether detections have come in since the last look."""
        return bool(self._unseen)

    def look(self, now_ns: int) -> list[Event]:
        """Return what detections that came since the last look say of events that may still change, as of a time."""
        heard = [self._unseen.popleft() for _ in range(len(self._unseen))]
        if not heard:
            return []
        return self.decider.look(self.ingest.waiting(), now_ns - REPORT_NS, heard)


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
