"""Gathering: all that the store holds of one event, as of one moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from soundranger_broker.evidence.contents import RevisionLine, StatusLine
from soundranger_broker.storage import reading
from soundranger_broker.storage.chain import Entry
from soundranger_broker.storage.store import Clip, NoEventError, Report
from soundranger_broker.storage.tables import LOG, REVISIONS, STATUSES
from soundranger_node.messages import STATUS, Event, NodeStatus

# The kind under which the log keeps what was set.
SETTINGS_KIND: Final = "settings"


@dataclass(frozen=True)
class Material:
    """What the store holds of an event.

    `statuses` are the last of each node before the event and the first after it; `settings` the newest entries on each
    subject by then; `log` the entries about the event and its clips.
    """

    stored: reading.Stored
    revisions: Sequence[RevisionLine]
    reports: Sequence[Report]
    clips: Sequence[Clip]
    statuses: Sequence[StatusLine]
    settings: Sequence[Entry]
    log: Sequence[Entry]

    @property
    def event(self) -> Event:
        """The event as it is now."""
        return self.stored.event

    def said(self) -> list[NodeStatus]:
        """Return what the statuses say."""
        return [STATUS.decode(bytes(line.status)) for line in self.statuses]


def gather(connection: Connection, name: str) -> Material:
    """Return what there is of an event.

    Raises:
        NoEventError: there is no such event.
    """
    stored = reading.event(connection, name)
    if stored is None:
        raise NoEventError(name)
    event = stored.event
    nodes = sorted({one.node for one in event.arrivals} | set(event.silent))
    log = about(connection, event)
    told_ns = max((entry.time_ns for entry in log if entry.kind == "event"), default=event.time_ns)
    return Material(
        stored=stored,
        revisions=_revisions(connection, name),
        reports=reading.reports_of(connection, name),
        clips=reading.clips_of(connection, name),
        statuses=[line for node in nodes for line in _statuses(connection, node, event.time_ns)],
        settings=_settings(connection, told_ns),
        log=log,
    )


def about(connection: Connection, event: Event) -> list[Entry]:
    """Return the entries of the log about an event and the clips of its detections."""
    subjects = [event.id, *(f"{one.node}/{one.detection}" for one in event.arrivals)]
    return list(reading.entries(connection, subjects))


def newest(connection: Connection) -> int:
    """Return the number of the log's newest entry; 0 where there is none."""
    seq: int = connection.execute(sa.select(sa.func.coalesce(sa.func.max(LOG.c.seq), 0))).scalar_one()
    return seq


def _revisions(connection: Connection, name: str) -> list[RevisionLine]:
    """Return all that was told, as the bytes that were told."""
    query = sa.select(REVISIONS).where(REVISIONS.c.event == name).order_by(REVISIONS.c.revision)
    return [RevisionLine(row.told_ns, msgspec.Raw(row.payload.encode())) for row in connection.execute(query)]


def _statuses(connection: Connection, node: str, time_ns: int) -> list[StatusLine]:
    """Return a node's last word up to a time, and the first after it."""
    own = sa.select(STATUSES).where(STATUSES.c.node == node)
    before = own.where(STATUSES.c.received_ns <= time_ns).order_by(STATUSES.c.received_ns.desc()).limit(1)
    after = own.where(STATUSES.c.received_ns > time_ns).order_by(STATUSES.c.received_ns).limit(1)
    rows = [row for query in (before, after) for row in connection.execute(query)]
    return [StatusLine(row.received_ns, msgspec.Raw(row.payload.encode())) for row in rows]


def _settings(connection: Connection, until_ns: int) -> list[Entry]:
    query = sa.select(LOG).where(LOG.c.kind == SETTINGS_KIND, LOG.c.time_ns <= until_ns).order_by(LOG.c.seq)
    newest = {row.subject: Entry(**row) for row in connection.execute(query).mappings()}
    return [newest[subject] for subject in sorted(newest)]
