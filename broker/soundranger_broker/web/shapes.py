"""The shapes of what the API answers, and how they are made from what is stored."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from soundranger_broker.storage.chain import Entry
from soundranger_broker.storage.reading import Review, Stored
from soundranger_broker.storage.store import Verdict
from soundranger_node.messages import Detection, Event, EventStatus, Incident, NodeStatus

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# RFC 3339, in UTC, with microseconds.
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
P = TypeVar("P")


class Point(msgspec.Struct, kw_only=True):
    """A place in GeoJSON: longitude and latitude in degrees."""

    # First, here and below: programs tell a file's kind by its beginning.
    type: Literal["Point"] = "Point"
    coordinates: tuple[float, float]


class Feature(msgspec.Struct, Generic[P], kw_only=True):
    """One thing in GeoJSON (RFC 7946)."""

    type: Literal["Feature"] = "Feature"
    id: str
    geometry: Point
    properties: P


class Page(msgspec.Struct, Generic[P], kw_only=True):
    """A page of features; `next` is the cursor of the page after it, null on the last."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[Feature[P]]
    next: str | None = None


class EventProperties(msgspec.Struct):
    """An event in short; `arrivals` counts those that its place rests on, the ellipse holds 95 %."""

    revision: int
    status: EventStatus
    time: Moment
    time_ns: int
    probability: float
    semi_major_m: float
    semi_minor_m: float
    bearing_deg: float
    alt_m: float
    arrivals: int
    label: str | None
    reason: str | None
    incident: str | None
    verdict: Verdict | None
    reviewer: str | None
    note: str | None
    reviewed: Moment | None


class IncidentProperties(msgspec.Struct):
    """An incident in short: from its first round to its last."""

    revision: int
    start: Moment
    end: Moment
    start_ns: int
    end_ns: int
    rounds: int
    events: list[str]


class NodeProperties(NodeStatus, frozen=True, kw_only=True, omit_defaults=True):
    """A node's last word on itself, and when it came in."""

    received_ns: int


class ToldRevision(msgspec.Struct):
    """A revision of an event, and when it was told."""

    told_ns: int
    event: Event


class ReceivedDetection(msgspec.Struct):
    """A detection, and when it came in."""

    received_ns: int
    detection: Detection


class ReceivedStatus(msgspec.Struct):
    """A node's word on itself, and when it came in."""

    received_ns: int
    status: NodeStatus


class ClipLink(msgspec.Struct):
    """Where the sound around a detection can be fetched, and when its first sample was."""

    node: str
    detection: str
    start_ns: int
    sample_rate_hz: int
    url: str


class EventDetail(msgspec.Struct):
    """All that is known of an event."""

    event: Event
    incident: str | None
    review: Review
    revisions: list[ToldRevision]
    detections: list[ReceivedDetection]
    clips: list[ClipLink]
    log: list[Entry]


class IncidentDetail(msgspec.Struct):
    """An incident and its events, the first first."""

    incident: Incident
    events: list[Feature[EventProperties]]


class Statuses(msgspec.Struct):
    """What a node said of itself, the first first."""

    statuses: list[ReceivedStatus]


class LogPage(msgspec.Struct):
    """A page of the log; `next` is what the page after it is asked for with, null on the last."""

    entries: list[Entry]
    next: int | None


class LogHead(msgspec.Struct):
    """The newest entry of the log: whoever notes it down can tell later whether the log up to it was changed."""

    seq: int
    hash: str


class Tally(msgspec.Struct, kw_only=True):
    """How final events were reviewed.

    `precision` is the share of gunshots among those of which it is known; who is unsure knows not.
    """

    events: int
    gunshot: int
    fireworks: int
    other: int
    unsure: int
    unreviewed: int
    precision: float | None


class Month(Tally, kw_only=True):
    """How final events of a month (UTC) were reviewed."""

    month: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$")]


class Quality(msgspec.Struct):
    """The months in which there were events, the first first, and all of them together."""

    months: list[Month]
    total: Tally


def rfc3339(time_ns: int) -> str:
    """Return a time as RFC 3339 tells it, in UTC, to the microsecond."""
    moment = EPOCH + timedelta(microseconds=time_ns // 1_000)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def event_feature(stored: Stored) -> Feature[EventProperties]:
    """Return an event as a feature."""
    event, review = stored.event, stored.review
    properties = EventProperties(
        revision=event.revision,
        status=event.status,
        time=rfc3339(event.time_ns),
        time_ns=event.time_ns,
        probability=event.probability,
        semi_major_m=event.ellipse95.semi_major_m,
        semi_minor_m=event.ellipse95.semi_minor_m,
        bearing_deg=event.ellipse95.bearing_deg,
        alt_m=event.alt_m,
        arrivals=sum(arrival.used for arrival in event.arrivals),
        label=event.label,
        reason=event.reason,
        incident=stored.incident,
        verdict=review.verdict,
        reviewer=review.reviewer,
        note=review.note,
        reviewed=None if review.reviewed_ns is None else rfc3339(review.reviewed_ns),
    )
    return Feature(id=event.id, geometry=Point(coordinates=(event.lon, event.lat)), properties=properties)


def incident_feature(incident: Incident) -> Feature[IncidentProperties]:
    """Return an incident as a feature."""
    properties = IncidentProperties(
        revision=incident.revision,
        start=rfc3339(incident.start_time_ns),
        end=rfc3339(incident.end_time_ns),
        start_ns=incident.start_time_ns,
        end_ns=incident.end_time_ns,
        rounds=incident.rounds,
        events=incident.events,
    )
    return Feature(id=incident.id, geometry=Point(coordinates=(incident.lon, incident.lat)), properties=properties)


def node_feature(received_ns: int, status: NodeStatus) -> Feature[NodeProperties]:
    """Return a node as a feature."""
    properties = NodeProperties(**msgspec.structs.asdict(status), received_ns=received_ns)
    return Feature(id=status.node, geometry=Point(coordinates=(status.lon, status.lat)), properties=properties)
