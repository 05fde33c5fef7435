"""The store: takes what the centre hears and tells, and commits it before anybody is told that it is safe."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from soundranger_broker.storage.chain import Entry, Head, canonical, entry_after, sha256
from soundranger_broker.storage.database import connect, for_writing
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
from soundranger_node.messages import EVENT, INCIDENT, STATUS, ClipHeader, Event, Incident, NodeStatus

# What a person may say that an event was.
Verdict = Literal["gunshot", "fireworks", "other", "unsure"]
# SQLite takes no more parameters in one statement than 32,766.
MOST_ROWS: Final = 1_000


@dataclass(frozen=True)
class Report:
    """A detection as it came in: by its node and id, with the bytes that were sent."""

    node: str
    id: str
    time_ns: int
    received_ns: int
    payload: bytes


@dataclass(frozen=True)
class Clip:
    """Sound around a detection, as its node sent it."""

    node: str
    header: ClipHeader
    received_ns: int
    flac: bytes


@dataclass
class Batch:
    """What is to be stored in one transaction."""

    reports: list[Report] = field(default_factory=list)
    statuses: list[tuple[int, NodeStatus]] = field(default_factory=list)
    told: list[tuple[int, Event | Incident]] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reports or self.statuses or self.told or self.clips)


class NoEventError(LookupError):
    """There is no event of this name."""


class Store:
    """A database of the newest schema; all methods are safe from any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = for_writing(engine)

    @classmethod
    def open(cls, where: str, *, create: bool = True) -> "Store":
        """Return the store at a file or URL.

        Raises:
            InputError: it cannot be opened.
        """
        return cls(connect(where, create=create))

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def writing(self) -> Any:
        """Return a context in which a connection writes; it commits at its end, or takes all back."""
        return self._writing.begin()

    def keep(self, batch: Batch) -> None:
        """Store a batch, all or nothing; what is there already stays as it is."""
        if not batch:
            return
        with self.writing() as connection:
            _keep_reports(connection, batch.reports)
            _keep_statuses(connection, batch.statuses)
            _keep_clips(connection, batch.clips)
            _keep_told(connection, batch.told)

    def log(self, kind: str, subject: str, body: object, now_ns: int) -> Entry:
        """Append an entry to the log, and return it."""
        with self.writing() as connection:
            return append(connection, [(now_ns, kind, subject, body)])[0]

    def review(self, event: str, verdict: Verdict | None, reviewer: str, note: str, now_ns: int) -> None:
        """Say what an event was, or, with None, that this is open again; the log keeps what was said before.

        Raises:
            NoEventError: there is no such event.
        """
        with self.writing() as connection:
            before = connection.execute(
                sa.select(EVENTS.c.verdict, EVENTS.c.revision).where(EVENTS.c.id == event)
            ).one_or_none()
            if before is None:
                raise NoEventError(event)
            said = {"verdict": verdict, "note": note, "reviewer": reviewer}
            connection.execute(EVENTS.update().where(EVENTS.c.id == event).values(**said, reviewed_ns=now_ns))
            body = said | {"before": before.verdict, "revision": before.revision}
            append(connection, [(now_ns, "review", event, body)])

    def head(self) -> Head:
        """Return the newest entry of the log."""
        with self.engine.begin() as connection:
            return _head(connection)


@contextmanager
def temporary_store() -> Iterator[Store]:
    """Yield a store that is gone at the end: for what is only shown."""
    with tempfile.TemporaryDirectory(prefix="soundranger-centre-") as folder:
        store = Store.open(str(Path(folder) / "centre.db"))
        try:
            yield store
        finally:
            store.close()


def append(connection: Connection, entries: Iterable[tuple[int, str, str, object]]) -> list[Entry]:
    """Append entries (time, kind, subject, body) to the log in a transaction that writes, and return them."""
    if connection.dialect.name == "postgresql":
        # SQLite lets one write at a time anyway.
        connection.execute(sa.text("LOCK TABLE log IN EXCLUSIVE MODE"))
    head, made = _head(connection), list[Entry]()
    for entry in entries:
        made.append(entry_after(head, *entry))
        head = Head(made[-1].seq, made[-1].hash)
    if made:
        rows = [{column.name: getattr(entry, column.name) for column in LOG.columns} for entry in made]
        connection.execute(LOG.insert(), rows)
    return made


def _head(connection: Connection) -> Head:
    row = connection.execute(sa.select(LOG.c.seq, LOG.c.hash).order_by(LOG.c.seq.desc()).limit(1)).one_or_none()
    return Head() if row is None else Head(row.seq, row.hash)


def _insert(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that are not there yet."""
    if rows:
        make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(make(table).on_conflict_do_nothing(), rows)


def _keep_reports(connection: Connection, reports: Sequence[Report]) -> None:
    _insert(
        connection,
        DETECTIONS,
        [
            {
                "node": one.node,
                "id": one.id,
                "time_ns": one.time_ns,
                "received_ns": one.received_ns,
                "payload": one.payload,
            }
            for one in reports
        ],
    )


def _keep_statuses(connection: Connection, statuses: Sequence[tuple[int, NodeStatus]]) -> None:
    """Store statuses; the log notes the key that a node signs with, and when it is another one."""
    rows = [
        {"node": one.node, "received_ns": received_ns, "payload": STATUS.encode(one).decode()}
        for received_ns, one in statuses
    ]
    _insert(connection, STATUSES, rows)
    for received_ns, one in statuses:
        if one.public_key is not None:
            last = sa.select(LOG.c.body).where(LOG.c.subject == one.node, LOG.c.kind == "key")
            known = connection.execute(last.order_by(LOG.c.seq.desc()).limit(1)).scalar_one_or_none()
            if known != canonical(body := {"public_key": one.public_key}):
                append(connection, [(received_ns, "key", one.node, body)])


def _keep_clips(connection: Connection, clips: Sequence[Clip]) -> None:
    _insert(
        connection,
        CLIPS,
        [
            {
                "node": one.node,
                "detection": one.header.detection,
                "received_ns": one.received_ns,
                "start_ns": one.header.start_ns,
                "sample_rate_hz": one.header.sample_rate_hz,
                "flac": one.flac,
            }
            for one in clips
        ],
    )
    append(
        connection,
        [(one.received_ns, "clip", f"{one.node}/{one.header.detection}", _logged_clip(one)) for one in clips],
    )


def _logged_clip(clip: Clip) -> dict[str, object]:
    return {
        "sha256": sha256(clip.flac),
        "start_ns": clip.header.start_ns,
        "sample_rate_hz": clip.header.sample_rate_hz,
    }


def _keep_told(connection: Connection, told: Sequence[tuple[int, Event | Incident]]) -> None:
    entries = list[tuple[int, str, str, object]]()
    for told_ns, item in told:
        if isinstance(item, Incident):
            _keep_incident(connection, item)
        elif _keep_event(connection, item, told_ns):
            entries.append((told_ns, "event", item.id, _logged(connection, item)))
    append(connection, entries)


def _keep_event(connection: Connection, event: Event, told_ns: int) -> bool:
    """Store a revision of an event; return False where it, or a later one, is there."""
    known = connection.execute(sa.select(EVENTS.c.revision).where(EVENTS.c.id == event.id)).scalar_one_or_none()
    if known is not None and known >= event.revision:
        return False
    payload = EVENT.encode(event).decode()
    row = {
        "revision": event.revision,
        "status": event.status,
        "time_ns": event.time_ns,
        "lat": event.lat,
        "lon": event.lon,
        "probability": event.probability,
        "semi_major_m": event.ellipse95.semi_major_m,
        "payload": payload,
    }
    if known is None:
        connection.execute(EVENTS.insert(), row | {"id": event.id})
    else:
        connection.execute(EVENTS.update().where(EVENTS.c.id == event.id), row)
        connection.execute(ARRIVALS.delete().where(ARRIVALS.c.event == event.id))
    connection.execute(
        REVISIONS.insert(),
        {"event": event.id, "revision": event.revision, "told_ns": told_ns, "payload": payload},
    )
    _insert(
        connection,
        ARRIVALS,
        [{"event": event.id, "node": one.node, "detection": one.detection} for one in event.arrivals],
    )
    return True


def _keep_incident(connection: Connection, incident: Incident) -> None:
    row = {
        "revision": incident.revision,
        "start_ns": incident.start_time_ns,
        "end_ns": incident.end_time_ns,
        "payload": INCIDENT.encode(incident).decode(),
    }
    known = connection.execute(
        sa.select(INCIDENTS.c.revision).where(INCIDENTS.c.id == incident.id)
    ).scalar_one_or_none()
    if known is not None and known >= incident.revision:
        return
    if known is None:
        connection.execute(INCIDENTS.insert(), row | {"id": incident.id})
    else:
        connection.execute(INCIDENTS.update().where(INCIDENTS.c.id == incident.id), row)
    for first in range(0, len(incident.events), MOST_ROWS):
        some = incident.events[first : first + MOST_ROWS]
        connection.execute(EVENTS.update().where(EVENTS.c.id.in_(some)).values(incident=incident.id))


def _logged(connection: Connection, event: Event) -> dict[str, object]:
    """Return what the log says of an event: the hash of the message, and, once final, of what it was made from."""
    said: dict[str, object] = {
        "revision": event.revision,
        "status": event.status,
        "time_ns": event.time_ns,
        "sha256": sha256(EVENT.encode(event)),
    }
    if event.status == "final":
        said["detections"] = {
            f"{row.node}/{row.id}": sha256(row.payload)
            for one in event.arrivals
            for row in connection.execute(
                sa.select(DETECTIONS.c.node, DETECTIONS.c.id, DETECTIONS.c.payload).where(
                    DETECTIONS.c.node == one.node, DETECTIONS.c.id == one.detection
                )
            )
        }
    return said
