"""Reading from the store: events by what is asked of them, and all that belongs to one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from soundranger_broker.storage.chain import Entry
from soundranger_broker.storage.store import Clip, Report, Verdict
from soundranger_broker.storage.tables import (
    ARRIVALS,
    CLIPS,
    DETECTIONS,
    EVENTS,
    INCIDENTS,
    LOG,
    REVISIONS,
    STATUSES,
)
from soundranger_node.messages import EVENT, INCIDENT, STATUS, ClipHeader, Event, EventStatus, Incident, NodeStatus

# Rows fetched in one go while a table is walked through.
AT_ONCE: Final = 1_000


@dataclass(frozen=True)
class Page:
    """Where a page of results begins, after the one of this time and id, and how many it has; newest first."""

    limit: int = 100
    before_ns: int | None = None
    before_id: str = ""


@dataclass(frozen=True)
class Wanted:
    """Which events are asked for: all that fulfil every condition that is given.

    `box` is west, south, east and north in degrees, and may cross the date line. `verdicts` holds "none" for events
    that nobody has reviewed.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    box: tuple[float, float, float, float] | None = None
    least_probability: float | None = None
    statuses: Sequence[EventStatus] = ()
    verdicts: Sequence[Verdict | Literal["none"]] = ()
    label: str | None = None
    incident: str | None = None


@dataclass(frozen=True)
class Review:
    """What a person said of an event, last."""

    verdict: Verdict | None
    reviewer: str | None
    note: str | None
    reviewed_ns: int | None


@dataclass(frozen=True)
class Stored:
    """An event as it is now, the incident that it is part of, and what was said of it."""

    event: Event
    incident: str | None
    review: Review


@dataclass(frozen=True)
class Revision:
    """What was told of an event at one time."""

    told_ns: int
    event: Event


def events(connection: Connection, wanted: Wanted, page: Page) -> list[Stored]:
    """Return a page of events, newest first."""
    query = sa.select(EVENTS).where(*_conditions(wanted)).order_by(EVENTS.c.time_ns.desc(), EVENTS.c.id.desc())
    if page.before_ns is not None:
        query = query.where(sa.tuple_(EVENTS.c.time_ns, EVENTS.c.id) < sa.tuple_(page.before_ns, page.before_id))
    return [_stored(row) for row in connection.execute(query.limit(page.limit))]


def all_events(connection: Connection, wanted: Wanted) -> Iterator[Stored]:
    """Yield the events that are asked for, oldest first."""
    query = sa.select(EVENTS).where(*_conditions(wanted)).order_by(EVENTS.c.time_ns, EVENTS.c.id)
    for row in connection.execution_options(yield_per=AT_ONCE).execute(query):
        yield _stored(row)


def count(connection: Connection, wanted: Wanted) -> int:
    """Return how many events fulfil what is asked."""
    return connection.execute(sa.select(sa.func.count()).select_from(EVENTS).where(*_conditions(wanted))).scalar_one()


def event(connection: Connection, name: str) -> Stored | None:
    """Return an event by its id, or None."""
    row = connection.execute(sa.select(EVENTS).where(EVENTS.c.id == name)).one_or_none()
    return None if row is None else _stored(row)


def revisions(connection: Connection, name: str) -> list[Revision]:
    """Return all that was told of an event, the first first."""
    query = sa.select(REVISIONS).where(REVISIONS.c.event == name).order_by(REVISIONS.c.revision)
    return [Revision(row.told_ns, EVENT.decode(row.payload.encode())) for row in connection.execute(query)]


def reports_of(connection: Connection, name: str) -> list[Report]:
    """Return the detections that an event names and that are still kept, in the order of their times."""
    query = (
        sa.select(DETECTIONS)
        .join(ARRIVALS, (ARRIVALS.c.node == DETECTIONS.c.node) & (ARRIVALS.c.detection == DETECTIONS.c.id))
        .where(ARRIVALS.c.event == name)
        .order_by(DETECTIONS.c.time_ns, DETECTIONS.c.id)
    )
    return [_report(row) for row in connection.execute(query)]


def last_received_ns(connection: Connection) -> int | None:
    """Return when the last detection came in; None where there is none."""
    last_ns: int | None = connection.execute(sa.select(sa.func.max(DETECTIONS.c.received_ns))).scalar_one()
    return last_ns


def reports_received_since(connection: Connection, received_ns: int) -> Iterator[Report]:
    """Yield the detections that came in at a time and later, in the order in which they came in."""
    query = sa.select(DETECTIONS).where(DETECTIONS.c.received_ns >= received_ns)
    query = query.order_by(DETECTIONS.c.received_ns, DETECTIONS.c.time_ns, DETECTIONS.c.id)
    for row in connection.execution_options(yield_per=AT_ONCE).execute(query):
        yield _report(row)


def clips_of(connection: Connection, name: str) -> list[Clip]:
    """Return the clips of the detections that an event names."""
    query = (
        sa.select(CLIPS)
        .join(ARRIVALS, (ARRIVALS.c.node == CLIPS.c.node) & (ARRIVALS.c.detection == CLIPS.c.detection))
        .where(ARRIVALS.c.event == name)
        .order_by(CLIPS.c.start_ns, CLIPS.c.node)
    )
    return [_clip(row) for row in connection.execute(query)]


def clip_headers_of(connection: Connection, name: str) -> list[tuple[str, ClipHeader]]:
    """Return of which detections that an event names there are clips, by their nodes; without the sound."""
    query = (
        sa.select(CLIPS.c.node, CLIPS.c.detection, CLIPS.c.start_ns, CLIPS.c.sample_rate_hz)
        .join(ARRIVALS, (ARRIVALS.c.node == CLIPS.c.node) & (ARRIVALS.c.detection == CLIPS.c.detection))
        .where(ARRIVALS.c.event == name)
        .order_by(CLIPS.c.start_ns, CLIPS.c.node)
    )
    return [(row.node, _header(row)) for row in connection.execute(query)]


def clip(connection: Connection, node: str, detection: str) -> Clip | None:
    """Return the clip of a detection, or None."""
    query = sa.select(CLIPS).where(CLIPS.c.node == node, CLIPS.c.detection == detection)
    row = connection.execute(query).one_or_none()
    return None if row is None else _clip(row)


def events_naming(connection: Connection, node: str, detection: str) -> list[str]:
    """Return the ids of the events that name a detection."""
    query = sa.select(ARRIVALS.c.event).where(ARRIVALS.c.node == node, ARRIVALS.c.detection == detection)
    return list(connection.execute(query).scalars())


def incidents(connection: Connection, page: Page, since_ns: int | None = None) -> list[Incident]:
    """Return a page of incidents, newest first."""
    query = sa.select(INCIDENTS.c.payload).order_by(INCIDENTS.c.start_ns.desc(), INCIDENTS.c.id.desc())
    if since_ns is not None:
        query = query.where(INCIDENTS.c.end_ns >= since_ns)
    if page.before_ns is not None:
        query = query.where(sa.tuple_(INCIDENTS.c.start_ns, INCIDENTS.c.id) < sa.tuple_(page.before_ns, page.before_id))
    return [INCIDENT.decode(payload.encode()) for payload in connection.execute(query.limit(page.limit)).scalars()]


def incident(connection: Connection, name: str) -> Incident | None:
    """Return an incident by its id, or None."""
    payload = connection.execute(sa.select(INCIDENTS.c.payload).where(INCIDENTS.c.id == name)).scalar_one_or_none()
    return None if payload is None else INCIDENT.decode(payload.encode())


def statuses(connection: Connection, node: str, since_ns: int, until_ns: int) -> list[tuple[int, NodeStatus]]:
    """Return what a node said of itself in a time, and when that came in; oldest first."""
    query = (
        sa.select(STATUSES.c.received_ns, STATUSES.c.payload)
        .where(STATUSES.c.node == node, STATUSES.c.received_ns.between(since_ns, until_ns))
        .order_by(STATUSES.c.received_ns)
    )
    return [(row.received_ns, STATUS.decode(row.payload.encode())) for row in connection.execute(query)]


def latest_statuses(connection: Connection, until_ns: int | None = None) -> list[tuple[int, NodeStatus]]:
    """Return the last word of every node, up to a time, and when that came in."""
    names = _node_names()
    of_node = STATUSES.alias()
    last = sa.select(sa.func.max(of_node.c.received_ns)).where(of_node.c.node == names.c.node)
    if until_ns is not None:
        last = last.where(of_node.c.received_ns <= until_ns)
    query = (
        sa.select(STATUSES.c.received_ns, STATUSES.c.payload)
        .join(names, (STATUSES.c.node == names.c.node) & (STATUSES.c.received_ns == last.scalar_subquery()))
        .order_by(STATUSES.c.node)
    )
    return [(row.received_ns, STATUS.decode(row.payload.encode())) for row in connection.execute(query)]


def _node_names() -> sa.CTE:
    """Select the names of all nodes, each from the one before it: there are millions of statuses and few nodes."""
    first = sa.select(sa.func.min(STATUSES.c.node).label("node")).cte("names", recursive=True)
    following = sa.select(sa.func.min(STATUSES.c.node)).where(STATUSES.c.node > first.c.node).scalar_subquery()
    return first.union_all(sa.select(following).where(first.c.node.is_not(None)))


def entries(
    connection: Connection, subjects: Iterable[str] | None = None, between: tuple[int, int] | None = None
) -> Iterator[Entry]:
    """Yield the log in its order: all of it, what is about some subjects, or from one number to another."""
    query = sa.select(LOG).order_by(LOG.c.seq)
    if subjects is not None:
        query = query.where(LOG.c.subject.in_(list(subjects)))
    if between is not None:
        query = query.where(LOG.c.seq.between(*between))
    for row in connection.execution_options(yield_per=AT_ONCE).execute(query):
        yield Entry(**row._mapping)  # noqa: SLF001 - the public way to a row as a mapping


def entries_after(connection: Connection, seq: int, limit: int) -> list[Entry]:
    """Return the entries of the log that follow one, in their order."""
    query = sa.select(LOG).where(LOG.c.seq > seq).order_by(LOG.c.seq).limit(limit)
    return [Entry(**row) for row in connection.execute(query).mappings()]


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    conditions = list[sa.ColumnElement[bool]]()
    if wanted.since_ns is not None:
        conditions.append(EVENTS.c.time_ns >= wanted.since_ns)
    if wanted.until_ns is not None:
        conditions.append(EVENTS.c.time_ns < wanted.until_ns)
    if wanted.box is not None:
        west, south, east, north = wanted.box
        conditions.append(EVENTS.c.lat.between(south, north))
        inside = EVENTS.c.lon.between(west, east) if west <= east else ~EVENTS.c.lon.between(east, west)
        conditions.append(inside)
    if wanted.least_probability is not None:
        conditions.append(EVENTS.c.probability >= wanted.least_probability)
    if wanted.statuses:
        conditions.append(EVENTS.c.status.in_(list(wanted.statuses)))
    if wanted.verdicts:
        said = [verdict for verdict in wanted.verdicts if verdict != "none"]
        unsaid = EVENTS.c.verdict.is_(None) if "none" in wanted.verdicts else sa.false()
        conditions.append(EVENTS.c.verdict.in_(said) | unsaid)
    if wanted.label is not None:
        conditions.append(EVENTS.c.label == wanted.label)
    if wanted.incident is not None:
        conditions.append(EVENTS.c.incident == wanted.incident)
    return conditions


def _stored(row: Row[tuple[object, ...]]) -> Stored:
    review = Review(row.verdict, row.reviewer, row.note, row.reviewed_ns)
    return Stored(EVENT.decode(row.payload.encode()), row.incident, review)


def _report(row: Row[tuple[object, ...]]) -> Report:
    return Report(row.node, row.id, row.time_ns, row.received_ns, bytes(row.payload))


def _clip(row: Row[tuple[object, ...]]) -> Clip:
    return Clip(row.node, _header(row), row.received_ns, bytes(row.flac))


def _header(row: Any) -> ClipHeader:
    return ClipHeader(detection=row.detection, start_ns=row.start_ns, sample_rate_hz=row.sample_rate_hz)
