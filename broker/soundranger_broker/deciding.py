"""Deciding: what detections, in the order of their times, say of bangs, incidents and nodes; all that takes long."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from soundranger_broker.association import Associator
from soundranger_broker.faults import Fault
from soundranger_broker.incidents import IncidentBook
from soundranger_broker.location import Medium
from soundranger_broker.refusals import RefusalBook
from soundranger_broker.tracking import Tracker
from soundranger_node.messages import Detection, Event, Incident, NodeStatus, Refusal

News = Event | Incident | Refusal


@dataclass(frozen=True)
class State:
    """What is known beside events: nodes that are wrong, the last bang's air, groups refused, and what was dropped."""

    faults: tuple[Fault, ...] = ()
    medium: Medium | None = None
    refused: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Deciding(Protocol):
    """What decides, in this process or in another; one thread at a time."""

    @property
    def state(self) -> State:
        """What is known beside events, as of the last decision."""
        ...

    def status(self, status: NodeStatus, now_ns: int) -> None:
        """Take in what a node says of itself; a last will was written long before the node died."""
        ...

    def recall(self, told: Sequence[Event], incidents: Sequence[Incident]) -> None:
        """Take in what was told before the centre started again."""
        ...

    def decide(self, released: Sequence[Detection], until_ns: int) -> list[News]:
        """Take in detections and return what is decided as of a time: nothing that comes later changes it."""
        ...

    def look(self, waiting: Sequence[Detection], until_ns: int, heard: Sequence[str]) -> list[Event]:
        """Return what detections that are not released yet say; `heard` are nodes heard since the last look."""
        ...


@dataclass
class Decider:
    """Decides in this process."""

    associator: Associator = field(default_factory=Associator)
    tracker: Tracker = field(default_factory=Tracker)
    incidents: IncidentBook = field(default_factory=IncidentBook)
    refusals: RefusalBook = field(default_factory=RefusalBook)
    medium: Medium | None = None

    @property
    def state(self) -> State:
        """What is known beside events."""
        return State(
            tuple(self.associator.faults()), self.medium, self.refusals.refused, Counter(self.associator.dropped)
        )

    def status(self, status: NodeStatus, now_ns: int) -> None:
        """Take in what a node says of itself; a last will was written long before the node died."""
        if status.online:
            self.associator.know(status.node, status.lat, status.lon, status.alt_m)
        else:
            self.associator.sleep(status.node, max(status.time_ns, now_ns))

    def recall(self, told: Sequence[Event], incidents: Sequence[Incident]) -> None:
        """Take in what was told before the centre started again."""
        self.tracker.recall(told)
        self.incidents.recall(incidents, told)

    def decide(self, released: Sequence[Detection], until_ns: int) -> list[News]:
        """Take in detections and return what is decided as of a time: nothing that comes later changes it."""
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

    def look(self, waiting: Sequence[Detection], until_ns: int, heard: Sequence[str]) -> list[Event]:
        """Return what detections that are not released yet say; `heard` are nodes heard since the last look."""
        return self.tracker.preliminary(self.associator.glance(list(waiting), until_ns), heard)
