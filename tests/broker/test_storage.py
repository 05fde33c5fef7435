"""The store, on SQLite and on PostgreSQL alike: what is kept, found, forgotten, and never changed unseen."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st

from soundranger_broker.locator import locate_all
from soundranger_broker.storage import audit, reading, sizes
from soundranger_broker.storage.backup import backup, restore
from soundranger_broker.storage.chain import Head, broken, entry_after
from soundranger_broker.storage.database import connect
from soundranger_broker.storage.quality import UNREVIEWED, reviewed
from soundranger_broker.storage.reading import Page, Wanted
from soundranger_broker.storage.retention import DAY_NS, Limit, keep_within
from soundranger_broker.storage.store import Batch, Clip, NoEventError, Report, Store
from soundranger_broker.storage.tables import CLIPS, DETECTIONS, EVENTS, LOG, METADATA, REVISIONS
from soundranger_node.errors import InputError, MessageError
from soundranger_node.messages import (
    DETECTION,
    Arrival,
    ClipHeader,
    ClockStatus,
    Detection,
    Ellipse,
    Event,
    Incident,
    NodeStatus,
)

if TYPE_CHECKING:
    from tests.broker.conftest import Town
    from tests.conftest import Postgres

NOW_NS = 1_767_225_600_000_000_000
HOUR_NS = 3_600 * 1_000_000_000
FLAC = b"fLaC" + bytes(1_000)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is empty: a file, or one of a PostgreSQL that runs."""
    if request.param == "sqlite":
        return str(tmp_path / "centre.db")
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    opened = Store.open(where)
    yield opened
    opened.close()


def a_detection(node: str = "node-00", number: int = 1, time_ns: int = NOW_NS) -> Detection:
    return Detection(
        id=f"{node}-{number}",
        node=node,
        time_ns=time_ns,
        time_sigma_s=1e-3,
        lat=48.137,
        lon=11.575,
        alt_m=500.0,
        position_sigma_m=1.0,
        snr_db=20.0,
    )


def a_report(detection: Detection, received_ns: int | None = None) -> Report:
    came_ns = detection.time_ns if received_ns is None else received_ns
    return Report(detection.node, detection.id, detection.time_ns, came_ns, DETECTION.encode(detection))


def an_event(name: str = "event-1", revision: int = 0, time_ns: int = NOW_NS, **changes: Any) -> Event:
    event = Event(
        id=name,
        revision=revision,
        status="preliminary",
        time_ns=time_ns,
        time_sigma_s=1e-3,
        lat=48.137,
        lon=11.575,
        alt_m=500.0,
        covariance_en_m2=((4.0, 0.0), (0.0, 4.0)),
        ellipse95=Ellipse(semi_major_m=4.9, semi_minor_m=4.9, bearing_deg=0.0),
        probability=0.9,
        speed_of_sound_mps=340.0,
        arrivals=[
            Arrival(
                detection=f"node-0{node}-{time_ns % 997}", node=f"node-0{node}", residual_s=0.0, distance_m=1, used=True
            )
            for node in range(4)
        ],
        silent=[],
    )
    return msgspec.structs.replace(event, **changes)


def heard(event: Event) -> list[Report]:
    """Return the detections that an event names, as they came in."""
    return [
        a_report(msgspec.structs.replace(a_detection(one.node, 1, event.time_ns), id=one.detection))
        for one in event.arrivals
    ]


def a_clip(event: Event, received_ns: int | None = None) -> Clip:
    first = event.arrivals[0]
    header = ClipHeader(detection=first.detection, start_ns=event.time_ns, sample_rate_hz=48_000)
    return Clip(first.node, header, event.time_ns if received_ns is None else received_ns, FLAC)


def keep_event(store: Store, event: Event, *, clip: bool = False) -> Event:
    store.keep(Batch(reports=heard(event)))
    final = msgspec.structs.replace(event, status="final")
    store.keep(Batch(told=[(event.time_ns, final)], clips=[a_clip(final)] if clip else []))
    return final


def events(store: Store, wanted: Wanted | None = None, page: Page | None = None) -> list[str]:
    with store.engine.begin() as connection:
        return [one.event.id for one in reading.events(connection, wanted or Wanted(), page or Page())]


def problems(store: Store, noted: Head | None = None) -> list[str]:
    with store.engine.begin() as connection:
        return list(audit.verify(connection, noted))


def rows(store: Store, table: sa.Table) -> int:
    with store.engine.begin() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def tamper(store: Store, statement: Any) -> None:
    with store.writing() as connection:
        assert connection.execute(statement).rowcount == 1


def test_migrations_lead_to_the_tables_that_the_code_knows(store: Store) -> None:
    with store.engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_database_of_a_newer_version_is_left_alone(where: str, store: Store) -> None:
    tamper(store, sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match="has schema 9999"):
        connect(where)


def test_an_id_is_stored_once_with_what_came_first(store: Store) -> None:
    first = a_report(a_detection())
    store.keep(Batch(reports=[first]))
    again = replace(first, payload=first.payload.replace(b'"snr_db":20', b'"snr_db":21'))
    store.keep(Batch(reports=[again, a_report(a_detection("node-01"))]))
    with store.engine.begin() as connection:
        assert [one.payload for one in reading.reports_received_since(connection, NOW_NS) if one.node == "node-00"] == [
            first.payload
        ]
    assert rows(store, DETECTIONS) == 2


def test_a_batch_is_stored_whole_or_not_at_all(store: Store) -> None:
    broken_event = msgspec.structs.replace(an_event(), lat=float("nan"))
    with pytest.raises(MessageError):
        store.keep(Batch(reports=[a_report(a_detection())], told=[(NOW_NS, broken_event)]))
    assert rows(store, DETECTIONS) == 0


def test_an_event_is_its_newest_revision_and_all_are_kept(store: Store) -> None:
    for revision in (0, 2, 1):
        store.keep(Batch(told=[(NOW_NS + revision, an_event(revision=revision, probability=0.9 + revision / 100))]))
    with store.engine.begin() as connection:
        stored = reading.event(connection, "event-1")
        told = reading.revisions(connection, "event-1")
    assert stored is not None
    assert stored.event.revision == 2
    assert [one.event.revision for one in told] == [0, 2]


def test_events_are_found_by_time_place_certainty_and_review(store: Store) -> None:
    for hour in range(6):
        keep_event(
            store, an_event(f"event-{hour}", 0, NOW_NS + hour * HOUR_NS, lon=179.0 + hour / 2 - 360 * (hour > 2))
        )
    keep_event(store, an_event("doubtful", 0, NOW_NS - HOUR_NS, probability=0.6))
    store.review("event-3", "gunshot", "Ann", "clear", NOW_NS)

    assert events(store, Wanted(since_ns=NOW_NS + HOUR_NS, until_ns=NOW_NS + 3 * HOUR_NS)) == ["event-2", "event-1"]
    assert events(store, Wanted(least_probability=0.7, until_ns=NOW_NS + HOUR_NS)) == ["event-0"]
    assert events(store, Wanted(verdicts=["gunshot"])) == ["event-3"]
    assert len(events(store, Wanted(verdicts=["none"]))) == 6
    assert events(store, Wanted(box=(179.9, 48.0, -179.4, 49.0))) == ["event-3", "event-2"]
    assert events(store, Wanted(box=(11.0, 48.0, 12.0, 49.0))) == ["doubtful"]


def test_pages_of_events_leave_none_out_and_show_none_twice(store: Store) -> None:
    store.keep(Batch(told=[(NOW_NS, an_event(f"event-{number}", 0, NOW_NS + number // 3)) for number in range(20)]))
    seen, page = list[str](), Page(limit=7)
    while True:
        with store.engine.begin() as connection:
            found = reading.events(connection, Wanted(), page)
        if not found:
            break
        seen += [one.event.id for one in found]
        page = Page(7, found[-1].event.time_ns, found[-1].event.id)
    assert len(seen) == len(set(seen)) == 20


def test_an_incident_knows_its_events_and_they_know_it(store: Store) -> None:
    for number in range(3):
        keep_event(store, an_event(f"event-{number}", 0, NOW_NS + number))
    incident = Incident(
        id="incident-1", revision=0, start_time_ns=NOW_NS, end_time_ns=NOW_NS + 2, lat=48.0, lon=11.0, rounds=2,
        events=["event-0", "event-2"],
    )  # fmt: skip
    store.keep(Batch(told=[(NOW_NS, incident)]))
    assert events(store, Wanted(incident="incident-1")) == ["event-2", "event-0"]
    with store.engine.begin() as connection:
        assert reading.incidents(connection, Page()) == [incident]


def test_what_belongs_to_an_event_is_found_with_it(store: Store) -> None:
    event = keep_event(store, an_event(), clip=True)
    store.keep(Batch(reports=[a_report(a_detection("node-09", 9))]))
    with store.engine.begin() as connection:
        assert [one.node for one in reading.reports_of(connection, event.id)] == [one.node for one in event.arrivals]
        assert [one.flac for one in reading.clips_of(connection, event.id)] == [FLAC]
        assert reading.clip_headers_of(connection, event.id) == [("node-00", a_clip(event).header)]
        assert reading.events_naming(connection, "node-00", event.arrivals[0].detection) == [event.id]


def test_the_last_word_of_each_node_is_found(store: Store) -> None:
    for second in range(3):
        store.keep(Batch(statuses=[(NOW_NS + second, a_status(f"node-0{node}", second)) for node in range(2)]))
    with store.engine.begin() as connection:
        assert [(one.node, one.outbox) for _at, one in reading.latest_statuses(connection)] == [
            ("node-00", 2), ("node-01", 2),
        ]  # fmt: skip
        assert [one.outbox for _, one in reading.statuses(connection, "node-01", NOW_NS, NOW_NS + 1)] == [0, 1]


def a_status(node: str, outbox: int) -> NodeStatus:
    return NodeStatus(
        node=node, online=True, time_ns=NOW_NS, version="1", lat=48.0, lon=11.0, alt_m=0.0, position_sigma_m=1.0,
        clock=ClockStatus(tier="ntp"), outbox=outbox,
    )  # fmt: skip


def test_a_review_can_be_changed_and_the_log_keeps_both(store: Store) -> None:
    keep_event(store, an_event())
    store.review("event-1", "gunshot", "Ann", "two rounds", NOW_NS)
    store.review("event-1", "fireworks", "Bob", "", NOW_NS + 1)
    with store.engine.begin() as connection:
        stored = reading.event(connection, "event-1")
        said = [one for one in reading.entries(connection, ["event-1"]) if one.kind == "review"]
    assert stored is not None
    assert (stored.review.verdict, stored.review.reviewer) == ("fireworks", "Bob")
    assert [msgspec.json.decode(one.body)["verdict"] for one in said] == ["gunshot", "fireworks"]
    assert problems(store) == []


def test_a_review_of_no_event_is_refused(store: Store) -> None:
    with pytest.raises(NoEventError):
        store.review("event-1", "gunshot", "Ann", "", NOW_NS)
    assert store.head() == Head()


def test_final_events_are_counted_by_month_and_verdict(store: Store) -> None:
    for number, time_ns in enumerate([NOW_NS - 1, NOW_NS, NOW_NS + HOUR_NS, NOW_NS + 31 * DAY_NS]):
        keep_event(store, an_event(f"event-{number}", time_ns=time_ns))
    store.keep(Batch(told=[(NOW_NS, an_event("preliminary"))]))
    store.review("event-1", "gunshot", "Ann", "", NOW_NS)
    with store.engine.begin() as connection:
        months = reviewed(connection)
    assert list(months.items()) == [
        ("2025-12", {UNREVIEWED: 1}), ("2026-01", {"gunshot": 1, UNREVIEWED: 1}), ("2026-02", {UNREVIEWED: 1}),
    ]  # fmt: skip


def test_the_log_is_read_a_page_at_a_time(store: Store) -> None:
    for number in range(5):
        store.log("settings", "page", {"number": number}, NOW_NS + number)
    with store.engine.begin() as connection:
        assert [one.seq for one in reading.entries_after(connection, 0, 2)] == [1, 2]
        assert [one.seq for one in reading.entries_after(connection, 4, 2)] == [5]


def test_it_is_known_how_much_is_stored(store: Store) -> None:
    keep_event(store, an_event(), clip=True)
    with store.engine.begin() as connection:
        assert sizes.rows(connection) == {"events": 1, "incidents": 0, "clips": 1}
        assert sizes.total_bytes(connection) > 10_000


def test_what_is_older_than_its_age_goes_but_for_what_a_reviewed_event_needs(store: Store) -> None:
    for number, days in enumerate((100, 100, 1)):
        keep_event(store, an_event(f"event-{number}", 0, NOW_NS - days * DAY_NS - number), clip=True)
    store.review("event-0", "gunshot", "Ann", "", NOW_NS)
    gone = keep_within(store, {"detections": Limit(90.0), "clips": Limit(30.0), "events": Limit(50.0)}, NOW_NS)
    assert gone == {"detections": 4, "clips": 1, "events": 1}
    assert events(store) == ["event-2", "event-0"]
    with store.engine.begin() as connection:
        assert len(reading.reports_of(connection, "event-0")) == 4
        assert len(reading.clips_of(connection, "event-0")) == 1
    assert problems(store) == []


def test_what_is_too_much_goes_oldest_first(store: Store) -> None:
    for hour in range(10):
        keep_event(store, an_event(f"event-{hour}", 0, NOW_NS + hour * HOUR_NS), clip=True)
    assert keep_within(store, {"clips": Limit(None, 3.5 * len(FLAC) / 1e6)}, NOW_NS) == {"clips": 7}
    with store.engine.begin() as connection:
        assert [len(reading.clips_of(connection, f"event-{hour}")) for hour in range(10)] == [0] * 7 + [1] * 3
    assert keep_within(store, {"clips": Limit(None, 3.5 * len(FLAC) / 1e6)}, NOW_NS) == {}
    assert problems(store) == []


def test_retention_excuses_nothing_that_a_reviewed_event_needs(store: Store) -> None:
    keep_event(store, an_event(time_ns=NOW_NS - 100 * DAY_NS))
    keep_event(store, an_event("event-2", time_ns=NOW_NS - 100 * DAY_NS - 1))
    store.review("event-1", "gunshot", "Ann", "", NOW_NS)
    keep_within(store, {"detections": Limit(90.0)}, NOW_NS)
    tamper(store, DETECTIONS.delete().where(DETECTIONS.c.node == "node-02"))
    (problem,) = problems(store)
    assert problem.startswith("Detection node-02-")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (LOG.update().where(LOG.c.seq == 1).values(time_ns=1), "Entry 1 (event of event-1) was changed"),
        (LOG.update().where(LOG.c.seq == 1).values(body="{}"), "Entry 1 (event of event-1) was changed"),
        (LOG.delete().where(LOG.c.seq == 2), "Entry 2 is missing"),
        (REVISIONS.delete().where(REVISIONS.c.revision == 1), "Revision 1 of event event-1 is in the log, and is not"),
        (REVISIONS.update().where(REVISIONS.c.revision == 0).values(payload="{}"), "Revision 0 of event event-1 was"),
        (EVENTS.update().values(verdict="other"), "Event event-1 has another review than was logged"),
        (EVENTS.update().values(note="no"), "Event event-1 has another review than was logged"),
        (EVENTS.update().values(lat=48.2), "Event event-1 is searched by other contents"),
        (EVENTS.delete(), "Event event-1 was told, and is not there"),
        (DETECTIONS.update().where(DETECTIONS.c.node == "node-01").values(payload=b"{}"), "Detection node-01-"),
        (DETECTIONS.delete().where(DETECTIONS.c.node == "node-01"), "Detection node-01-"),
        (CLIPS.update().values(flac=b"fLaC"), "The clip of detection node-00-"),
        (CLIPS.delete(), "The clip of detection node-00-"),
    ],
)
def test_every_change_behind_its_back_is_found(store: Store, statement: Any, says: str) -> None:
    event = an_event()
    store.keep(Batch(reports=heard(event), told=[(NOW_NS, event)]))
    store.keep(
        Batch(told=[(NOW_NS, msgspec.structs.replace(event, revision=1, status="final"))], clips=[a_clip(event)])
    )
    store.review("event-1", "gunshot", "Ann", "yes", NOW_NS)
    assert problems(store) == []
    tamper(store, statement)
    assert any(problem.startswith(says) for problem in problems(store)), problems(store)


def test_an_event_that_was_slipped_in_is_found(store: Store) -> None:
    keep_event(store, an_event())
    with store.engine.begin() as connection:
        row = dict(connection.execute(sa.select(EVENTS)).one()._mapping)
    with store.writing() as connection:
        connection.execute(EVENTS.insert(), row | {"id": "event-9"})
    assert problems(store) == ["Event event-9 is there, and was never told."]


def test_entries_that_change_places_are_found(store: Store) -> None:
    for number in range(3):
        store.log("settings", "centre", {"number": number}, NOW_NS)
    for old, new in ((2, 99), (3, 2), (99, 3)):
        tamper(store, LOG.update().where(LOG.c.seq == old).values(seq=new))
    assert len(problems(store)) >= 2


def test_a_log_that_was_cut_off_is_found_by_who_noted_its_end(store: Store) -> None:
    for number in range(3):
        store.log("settings", "centre", {"number": number}, NOW_NS)
    noted = store.head()
    assert problems(store, noted) == []
    tamper(store, LOG.delete().where(LOG.c.seq == 3))
    assert problems(store) == []
    assert problems(store, noted) == [
        "Entry 3 is not there with the hash that was noted: the log was cut off or written anew."
    ]


def test_a_backup_is_all_there_and_a_restore_too(store: Store, tmp_path: Path) -> None:
    event = keep_event(store, an_event(), clip=True)
    store.review(event.id, "gunshot", "Ann", "", NOW_NS)
    seen = dict[str, int]()
    backup(store.engine, tmp_path / "backup.db", seen.__setitem__)
    assert seen["detections"] == 4
    assert {path.name for path in tmp_path.iterdir()} <= {"backup.db", "centre.db", "centre.db-wal", "centre.db-shm"}
    fresh = Store.open(str(tmp_path / "fresh.db"))
    restore(tmp_path / "backup.db", fresh.engine, seen.__setitem__)
    assert fresh.head() == store.head()
    assert problems(fresh) == []
    assert events(fresh) == [event.id]
    with pytest.raises(InputError, match="is not empty"):
        restore(tmp_path / "backup.db", fresh.engine, seen.__setitem__)
    with pytest.raises(InputError, match="is there already"):
        backup(store.engine, tmp_path / "backup.db", seen.__setitem__)
    fresh.close()


@pytest.mark.slow
def test_a_backup_of_one_kind_of_database_is_restored_into_the_other(postgres: "Postgres", tmp_path: Path) -> None:
    small, large = Store.open(str(tmp_path / "small.db")), Store.open(postgres.database())
    event = keep_event(small, an_event(), clip=True)
    backup(small.engine, tmp_path / "backup.db", lambda *_: None)
    restore(tmp_path / "backup.db", large.engine, lambda *_: None)
    assert problems(large) == []
    assert large.head() == small.head()
    assert events(large) == [event.id]
    for one in (small, large):
        one.close()


def test_events_of_the_locator_go_in_and_come_out_as_they_are(store: Store, town: "Town") -> None:
    rng = np.random.default_rng(3)
    detections = [one for at_s in (5.0, 25.0) for one in town.hear(*town.somewhere(rng), at_s, rng)]
    found, _ = locate_all([DETECTION.encode(one) for one in detections], NOW_NS + 10**12)
    store.keep(Batch(reports=[a_report(one) for one in detections]))
    store.keep(Batch(told=[(NOW_NS, one) for one in found]))
    with store.engine.begin() as connection:
        assert [one.event for one in reading.all_events(connection, Wanted())] == found
    assert problems(store) == []


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("mysql://host/x", "is neither SQLite nor PostgreSQL"),
        ("://", "is no URL"),
        ("postgresql://127.0.0.1:1/x", "cannot be opened"),
        ("/proc/nowhere/x.db", "cannot be made"),
        ("/dev/null", "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named(where: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        connect(where)


def test_a_password_is_not_told() -> None:
    with pytest.raises(InputError) as caught:
        connect("postgresql://ann:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


entries_of = st.lists(st.tuples(st.integers(0, 2**62), st.text(max_size=8), st.text(max_size=8), st.text(max_size=20)))


@given(entries_of, st.data())
def test_a_chain_holds_until_anything_in_it_changes(said: list[tuple[int, str, str, str]], data: st.DataObject) -> None:
    chain, head = [], Head()
    for one in said:
        chain.append(entry_after(head, *one))
        head = Head(chain[-1].seq, chain[-1].hash)
    assert list(broken(chain)) == []
    if chain:
        index = data.draw(st.integers(0, len(chain) - 1))
        name = data.draw(st.sampled_from(["time_ns", "kind", "subject", "body", "previous", "hash", "seq"]))
        old = getattr(chain[index], name)
        chain[index] = msgspec.structs.replace(chain[index], **{name: old + 1 if isinstance(old, int) else old + "x"})
        assert list(broken(chain))


def test_the_log_notes_the_key_of_a_node_and_when_it_is_another_one(store: Store) -> None:
    for second, key in enumerate(("one", "one", "two", "two")):
        status = msgspec.structs.replace(a_status("node-00", second), public_key=key)
        store.keep(Batch(statuses=[(NOW_NS + second, status)]))
    with store.engine.begin() as connection:
        assert [one.body for one in reading.entries(connection, ["node-00"])] == [
            '{"public_key":"one"}', '{"public_key":"two"}',
        ]  # fmt: skip
    assert problems(store) == []


def test_an_entry_without_its_body_holds_in_the_chain_all_the_same() -> None:
    first = entry_after(Head(), 1, "review", "event-1", {"note": "no"})
    second = entry_after(Head(1, first.hash), 2, "review", "event-1", {"note": "yes"})
    assert list(broken([first.without_body(), second])) == []
    assert list(broken([msgspec.structs.replace(first.without_body(), body="{}"), second]))
