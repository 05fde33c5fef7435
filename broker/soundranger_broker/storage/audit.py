"""The audit: whether the log holds, and whether what is stored is what the log says."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from soundranger_broker.storage import reading
from soundranger_broker.storage.chain import Entry, Head, broken, sha256
from soundranger_broker.storage.tables import CLIPS, DETECTIONS, EVENTS, REVISIONS
from soundranger_node.messages import EVENT

# What of an event may not change after its review was logged.
REVIEWED: Final = ("verdict", "reviewer", "note")


class Due(NamedTuple):
    """Something that must be stored with these contents, as of a time; `event` is what it belongs to, if anything."""

    sha256: str
    time_ns: int
    event: str | None = None


class Key(NamedTuple):
    """What kind of thing is due, and its name: of an event and a revision, or of a node and a detection."""

    kind: str
    owner: str
    name: str


@dataclass
class Account:
    """What the log says that must be stored, what retention may have taken away since, and the last reviews."""

    due: dict[Key, Due] = field(default_factory=dict)
    may_be_gone: dict[Key, Due] = field(default_factory=dict)
    reviews: dict[str, dict[str, Any]] = field(default_factory=dict)
    noted_is_there: bool = False

    def take(self, entry: Entry) -> None:
        """Take an entry in; one that breaks the rules of its kind was changed, which its hash says."""
        try:
            body = msgspec.json.decode(entry.body)
            match entry.kind:
                case "event":
                    self._event(entry, body)
                case "clip":
                    node, detection = entry.subject.split("/", 1)
                    self.due.setdefault(Key("clips", node, detection), Due(body["sha256"], entry.time_ns))
                case "review":
                    self.reviews[entry.subject] = body
                case "retention":
                    self._forget(entry.subject, body["before_ns"])
        except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError):
            return

    def _event(self, entry: Entry, body: dict[str, Any]) -> None:
        time_ns = body["time_ns"]
        self.due[Key("events", entry.subject, str(body["revision"]))] = Due(body["sha256"], time_ns, entry.subject)
        for name, content in body.get("detections", {}).items():
            node, detection = name.split("/", 1)
            self.due[Key("detections", node, detection)] = Due(content, time_ns, entry.subject)

    def _forget(self, kind: str, before_ns: int) -> None:
        """Let retention have taken away what is older and belongs to nothing that was reviewed by then."""
        for key, due in list(self.due.items()):
            reviewed = due.event is not None and self.reviews.get(due.event, {}).get("verdict") is not None
            if key.kind == kind and due.time_ns < before_ns and not reviewed:
                self.may_be_gone[key] = self.due.pop(key)


def verify(connection: Connection, noted: Head | None = None) -> Iterator[str]:
    """Yield a sentence for everything that is not as it was written; nothing where all is well.

    `noted` is an entry that somebody wrote down earlier: it must still be there as it was.
    """
    account = Account()
    yield from broken(_noting(reading.entries(connection), account, noted))
    if noted is not None and noted.seq and not account.noted_is_there:
        yield f"Entry {noted.seq} is not there with the hash that was noted: the log was cut off or written anew."
    stored = {
        "events": sa.select(REVISIONS.c.event, REVISIONS.c.revision, REVISIONS.c.payload),
        "detections": sa.select(DETECTIONS.c.node, DETECTIONS.c.id, DETECTIONS.c.payload),
        "clips": sa.select(CLIPS.c.node, CLIPS.c.detection, CLIPS.c.flac),
    }
    for kind, query in stored.items():
        yield from _contents(connection, kind, query, account)
    for key in account.due:
        yield f"{_named(key)} is in the log, and is not stored any more."
    yield from _newest(connection)
    yield from _reviews(connection, account)


def _noting(entries: Iterator[Entry], account: Account, noted: Head | None) -> Iterator[Entry]:
    for entry in entries:
        account.take(entry)
        if noted is not None and (entry.seq, entry.hash) == (noted.seq, noted.hash):
            account.noted_is_there = True
        yield entry


def _contents(connection: Connection, kind: str, query: sa.Select[Any], account: Account) -> Iterator[str]:
    """Yield what is stored with other contents than were logged; strike off what is as it should be."""
    for owner, name, content in connection.execution_options(yield_per=reading.AT_ONCE).execute(query):
        key = Key(kind, owner, str(name))
        due = account.due.pop(key, None) or account.may_be_gone.get(key)
        if due is None:
            # Detections are many; only those that an event was made from are logged.
            if kind != "detections":
                yield f"{_named(key)} is stored, and is not in the log."
        elif sha256(content) != due.sha256:
            yield f"{_named(key)} was changed after it was logged."


def _newest(connection: Connection) -> Iterator[str]:
    """Yield the events that are not there, or not as their newest revision tells them."""
    newest = (
        sa.select(REVISIONS.c.event, sa.func.max(REVISIONS.c.revision).label("revision"))
        .group_by(REVISIONS.c.event)
        .subquery()
    )
    told = (
        sa.select(REVISIONS.c.event, REVISIONS.c.payload)
        .join(newest, (REVISIONS.c.event == newest.c.event) & (REVISIONS.c.revision == newest.c.revision))
        .subquery()
    )
    both = told.outerjoin(EVENTS, EVENTS.c.id == told.c.event)
    query = sa.select(told.c.event.label("told_of"), told.c.payload.label("told"), EVENTS).select_from(both)
    for row in connection.execution_options(yield_per=reading.AT_ONCE).execute(query):
        if row.id is None:
            yield f"Event {row.told_of} was told, and is not there any more."
        elif row.payload != row.told:
            yield f"Event {row.id} is shown with other contents than its newest revision has."
        elif not _searched_by_its_contents(row):
            yield f"Event {row.id} is searched by other contents than it has."
    never_told = sa.select(EVENTS.c.id).where(EVENTS.c.id.not_in(sa.select(REVISIONS.c.event)))
    for name in connection.execute(never_told).scalars():
        yield f"Event {name} is there, and was never told."


def _searched_by_its_contents(row: Any) -> bool:
    event = EVENT.decode(row.payload.encode())
    held = (event.id, event.revision, event.status, event.time_ns, event.lat, event.lon, event.probability, event.label)
    return held == (row.id, row.revision, row.status, row.time_ns, row.lat, row.lon, row.probability, row.label)


def _reviews(connection: Connection, account: Account) -> Iterator[str]:
    """Yield the events whose review is not the last one that was logged."""
    columns = [EVENTS.c[name] for name in REVIEWED]
    for row in connection.execution_options(yield_per=reading.AT_ONCE).execute(sa.select(EVENTS.c.id, *columns)):
        logged = account.reviews.get(row.id, {})
        if any(getattr(row, name) != logged.get(name) for name in REVIEWED):
            yield f"Event {row.id} has another review than was logged."


def _named(key: Key) -> str:
    if key.kind == "events":
        return f"Revision {key.name} of event {key.owner}"
    return f"{'Detection' if key.kind == 'detections' else 'The clip of detection'} {key.name} of node {key.owner}"
