"""What the page knows now: the newest word on the centre and on every node, event, refusal, incident and shot."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from soundranger_broker.storage.store import Verdict
from soundranger_node.messages import (
    CentreStatus,
    Count,
    DetectionId,
    Duration,
    Event,
    EventId,
    Incident,
    Latitude,
    Longitude,
    Message,
    NodeName,
    NodeStatus,
    Refusal,
    UtcNs,
)

# A night of fireworks, and still a snapshot that a phone takes in within a second.
MAX_EVENTS: Final = 1_000
MAX_INCIDENTS: Final = 1_000
MAX_SHOTS: Final = 1_000
# What was heard and not located: the last minutes of it, for whoever misses a bang.
MAX_REFUSALS: Final = 50


class Shot(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Where and when a simulated shot truly was."""

    id: EventId
    time_ns: UtcNs
    lat: Latitude
    lon: Longitude


class Figures(Message, frozen=True, kw_only=True, omit_defaults=True):
    """How the middle is doing: detections taken in since it started, those refused, and the delay of the last event."""

    detections: Count
    refused: Count
    delay_s: Duration | None = None


class Reviewed(Message, frozen=True, kw_only=True, omit_defaults=True):
    """What a person said of an event; no verdict where it is open again."""

    event: EventId
    verdict: Verdict | None
    reviewer: str
    note: str
    reviewed_ns: UtcNs


class ClipStored(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The sound around a detection has come in, and can be fetched; `events` are those that name the detection."""

    node: NodeName
    detection: DetectionId
    events: list[EventId]


PageMessage = NodeStatus | CentreStatus | Event | Refusal | Incident | Figures | Shot | Reviewed | ClipStored

KINDS: Final[dict[type[PageMessage], str]] = {
    NodeStatus: "status",
    CentreStatus: "centre",
    Refusal: "refusal",
    Event: "event",
    Incident: "incident",
    Figures: "figures",
    Shot: "shot",
    Reviewed: "review",
    ClipStored: "clip",
}

Held = TypeVar("Held", Event, Refusal, Incident, Shot)


class Picture:
    """The state behind the page; not safe to share between threads.

    `nodes` goes by name; `events`, `refusals`, `incidents` and `shots` by id, and hold the newest of them. `reviews`
    goes by event, and holds those of the events that are held.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeStatus] = {}
        self.events: dict[str, Event] = {}
        self.refusals: dict[str, Refusal] = {}
        self.incidents: dict[str, Incident] = {}
        self.shots: dict[str, Shot] = {}
        self.reviews: dict[str, Reviewed] = {}
        self.figures: Figures | None = None
        self.centre: CentreStatus | None = None

    def apply(self, message: PageMessage) -> bool:
        """Take a message in; return False where it changes nothing: an old revision, or older than all that is held."""
        is_news = True
        match message:
            case NodeStatus():
                self.nodes[message.node] = _last_heard(message, self.nodes.get(message.node))
            case CentreStatus():
                self.centre = message
            case Figures():
                self.figures = message
            case Event():
                is_news = _is_newer(message, self.events.get(message.id))
                is_news = is_news and _hold(self.events, message, MAX_EVENTS, lambda event: event.time_ns)
                self.reviews = {name: one for name, one in self.reviews.items() if name in self.events}
            case Incident():
                is_news = _is_newer(message, self.incidents.get(message.id))
                is_news = is_news and _hold(
                    self.incidents, message, MAX_INCIDENTS, lambda incident: incident.end_time_ns
                )
            case Refusal():
                is_news = _hold(self.refusals, message, MAX_REFUSALS, lambda refusal: refusal.time_ns)
            case Shot():
                is_news = _hold(self.shots, message, MAX_SHOTS, lambda shot: shot.time_ns)
            case Reviewed():
                is_news = self._review(message)
            case ClipStored():
                # Whoever shows one of its events fetches it.
                pass
        return is_news

    def _review(self, message: Reviewed) -> bool:
        """Take in what was said of an event; pages may show events that are not held here."""
        known = self.reviews.get(message.event)
        if known is not None and message.reviewed_ns < known.reviewed_ns:
            return False
        if message.event in self.events:
            self.reviews[message.event] = message
        return True

    def snapshot(self) -> dict[str, Any]:
        """Return all that is held, JSON-ready.

        That is a list each of what goes by name or id, `reviews` by event, and `figures` and `centre`.
        """
        snapshot: dict[str, Any] = msgspec.to_builtins(
            {
                "nodes": list(self.nodes.values()),
                "events": list(self.events.values()),
                "refusals": list(self.refusals.values()),
                "incidents": list(self.incidents.values()),
                "shots": list(self.shots.values()),
                "reviews": self.reviews,
                "figures": self.figures,
                "centre": self.centre,
            }
        )
        return snapshot


def _last_heard(status: NodeStatus, known: NodeStatus | None) -> NodeStatus:
    # A last will is dated when its node connected; what the node said since then is when it was last heard.
    if status.online or known is None or known.time_ns <= status.time_ns:
        return status
    return msgspec.structs.replace(status, time_ns=known.time_ns)


def _is_newer(message: Event | Incident, known: Event | Incident | None) -> bool:
    return known is None or message.revision > known.revision


def _hold(held: dict[str, Held], message: Held, limit: int, time_ns: Callable[[Held], int]) -> bool:
    held[message.id] = message
    if len(held) > limit:
        del held[min(held.values(), key=time_ns).id]
    return message.id in held
