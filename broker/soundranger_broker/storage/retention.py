"""Retention: what is kept how long, and how much of it; what a reviewed event needs is kept for ever."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from soundranger_broker.storage.store import Store
from soundranger_broker.storage.tables import ARRIVALS, CLIPS, DETECTIONS, EVENTS, INCIDENTS, REVISIONS, STATUSES

DAY_NS: Final = 86_400 * 1_000_000_000
MB: Final = 1_000_000
# Rows that one transaction deletes: whoever else wants to write waits no longer than that takes.
ROWS_AT_ONCE: Final = 5_000


@dataclass(frozen=True)
class Limit:
    """How old (days) and how large in all (MB) one kind may become; None is for ever, or any."""

    age_days: float | None = None
    size_mb: float | None = None


@dataclass(frozen=True)
class Kind:
    """A table, the time that its rows are aged by, their size, and the name of the detection that they belong to."""

    table: sa.Table
    time: sa.Column[int]
    size: sa.ColumnElement[int]
    owner: tuple[sa.Column[str], sa.Column[str]] | None = None


KINDS: Final = {
    "detections": Kind(
        DETECTIONS, DETECTIONS.c.received_ns, sa.func.length(DETECTIONS.c.payload), (DETECTIONS.c.node, DETECTIONS.c.id)
    ),
    "clips": Kind(CLIPS, CLIPS.c.received_ns, sa.func.length(CLIPS.c.flac), (CLIPS.c.node, CLIPS.c.detection)),
    "statuses": Kind(STATUSES, STATUSES.c.received_ns, sa.func.length(STATUSES.c.payload)),
    "events": Kind(EVENTS, EVENTS.c.time_ns, sa.func.length(EVENTS.c.payload)),
}

# Sound is large, and others' voices may be in it: a month. What a location rests on: a quarter. Events are small.
DEFAULTS: Final = {
    "detections": Limit(90.0, 4_000.0),
    "clips": Limit(30.0, 8_000.0),
    "statuses": Limit(30.0, 1_000.0),
    "events": Limit(),
}


def keep_within(store: Store, limits: dict[str, Limit], now_ns: int) -> dict[str, int]:
    """Delete what is beyond its limits, a little at a time, and log it; return how many rows of each kind went."""
    gone = dict[str, int]()
    for name, limit in limits.items():
        kind = KINDS[name]
        with store.engine.begin() as connection:
            before_ns = _before_ns(connection, kind, limit, now_ns)
        count = 0 if before_ns is None else _delete_before(store, kind, before_ns)
        if count:
            store.log("retention", name, {"before_ns": before_ns, "rows": count}, now_ns)
            gone[name] = count
    return gone


def _before_ns(connection: Connection, kind: Kind, limit: Limit, now_ns: int) -> int | None:
    """Return the time before which rows have to go, or None."""
    times = list[int]()
    if limit.age_days is not None:
        times.append(now_ns - round(limit.age_days * DAY_NS))
    if limit.size_mb is not None:
        so_far = sa.func.sum(kind.size).over(order_by=kind.time.desc()).label("so_far")
        sizes = sa.select(kind.time.label("time_ns"), so_far).subquery()
        over = sa.select(sa.func.max(sizes.c.time_ns)).where(sizes.c.so_far > limit.size_mb * MB)
        newest_ns = connection.execute(over).scalar_one()
        if newest_ns is not None:
            times.append(newest_ns + 1)
    return max(times, default=None)


def _delete_before(store: Store, kind: Kind, before_ns: int) -> int:
    count = 0
    while True:
        with store.writing() as connection:
            keys = [tuple(row) for row in connection.execute(_old(kind, before_ns).limit(ROWS_AT_ONCE))]
            if not keys:
                return count
            columns = list(kind.table.primary_key.columns)
            matches = sa.and_(*(column == sa.bindparam(f"key_{column.name}") for column in columns))
            connection.execute(
                kind.table.delete().where(matches),
                [{f"key_{column.name}": part for column, part in zip(columns, key, strict=True)} for key in keys],
            )
            if kind.table is EVENTS:
                _delete_parts(connection, [key[0] for key in keys])
        count += len(keys)


def _old(kind: Kind, before_ns: int) -> sa.Select[tuple[str, ...]]:
    """Select the keys of what is old and that no reviewed event needs."""
    query = sa.select(*kind.table.primary_key.columns).where(kind.time < before_ns)
    if kind.table is EVENTS:
        return query.where(EVENTS.c.verdict.is_(None))
    if kind.owner is None:
        return query
    node, detection = kind.owner
    needed = (
        sa.select(ARRIVALS.c.event)
        .join(EVENTS, EVENTS.c.id == ARRIVALS.c.event)
        .where(ARRIVALS.c.node == node, ARRIVALS.c.detection == detection, EVENTS.c.verdict.is_not(None))
    )
    return query.where(~needed.exists())


def _delete_parts(connection: Connection, events: list[str]) -> None:
    """Delete what belongs to events that are gone, and incidents of which none is left."""
    names = [{"gone": name} for name in events]
    connection.execute(REVISIONS.delete().where(REVISIONS.c.event == sa.bindparam("gone")), names)
    connection.execute(ARRIVALS.delete().where(ARRIVALS.c.event == sa.bindparam("gone")), names)
    left = sa.select(EVENTS.c.id).where(EVENTS.c.incident == INCIDENTS.c.id)
    connection.execute(INCIDENTS.delete().where(~left.exists()))
