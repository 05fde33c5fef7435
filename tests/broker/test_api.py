"""The API over HTTP, on a real server and a real database: what is found, judged, exported, refused and told."""

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import httpx
import msgspec
import pytest
import schemathesis
from tests.broker.test_storage import (
    FLAC,
    HOUR_NS,
    NOW_NS,
    a_status,
    an_event,
    keep_event,
)
from websockets.sync.client import connect

from soundranger_broker.storage import audit, reading
from soundranger_broker.storage.chain import Entry, broken
from soundranger_broker.storage.store import Batch, Store
from soundranger_broker.storage.tables import EVENTS
from soundranger_broker.web.app import create_app
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.picture import ClipStored, Figures
from soundranger_broker.web.server import PageServer, serve
from soundranger_node.messages import CentreStatus, Event, Incident

if TYPE_CHECKING:
    from tests.conftest import Postgres

HOST: Final = "127.0.0.1"
PATIENCE_S: Final = 10.0
SCRIPT: Final = "<script>alert('x')</script>"
KML: Final = "{http://www.opengis.net/kml/2.2}"
HOURS: Final = 6


@pytest.fixture
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is empty: a file, unless a test asks for one of a PostgreSQL that runs."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return str(tmp_path / "centre.db")
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    """Six final events, an hour apart, the first two of one incident; the last is near the date line."""
    opened = Store.open(where)
    for hour in range(HOURS):
        lon = 179.5 if hour == HOURS - 1 else 11.575
        keep_event(
            opened, an_event(f"event-{hour}", time_ns=NOW_NS + hour * HOUR_NS, probability=0.9 + hour / 100, lon=lon),
            clip=True,
        )  # fmt: skip
    incident = Incident(
        id="incident-1", revision=0, start_time_ns=NOW_NS, end_time_ns=NOW_NS + HOUR_NS, lat=48.0, lon=11.0, rounds=2,
        events=["event-0", "event-1"],
    )  # fmt: skip
    opened.keep(Batch(statuses=[(NOW_NS, a_status("node-00", 3))], told=[(NOW_NS, incident)]))
    yield opened
    opened.close()


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def server(hub: Hub, store: Store) -> Iterator[PageServer]:
    server = serve(create_app(hub, store=store, now_ns=lambda: NOW_NS), HOST, 0)
    yield server
    server.stop()


@pytest.fixture
def client(server: PageServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{HOST}:{server.port}", timeout=PATIENCE_S) as opened:
        yield opened


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [feature["id"] for feature in answer.json()["features"]]


def find(client: httpx.Client, **asked: Any) -> list[str]:
    return ids(client.get("/api/1/events", params=asked))


def review(client: httpx.Client, event: str = "event-1", **said: Any) -> httpx.Response:
    body = {"verdict": "gunshot", "reviewer": "Ann", "note": ""} | said
    return client.post(f"/api/1/events/{event}/review", json=body)


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"] == "about:blank"
    return problem


def told_events(store: Store, name: str = "event-1") -> list[Entry]:
    return [one for one in log(store) if one.subject == name]


def log(store: Store) -> list[Entry]:
    with store.engine.begin() as connection:
        return list(reading.entries(connection))


def test_events_are_features_newest_first(client: httpx.Client) -> None:
    answer = client.get("/api/1/events")
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.text.startswith('{"type":"FeatureCollection","features":[{"type":"Feature"')
    assert ids(answer) == [f"event-{hour}" for hour in reversed(range(HOURS))]
    last = answer.json()["features"][-1]
    assert last["geometry"] == {"type": "Point", "coordinates": [11.575, 48.137]}
    assert last["properties"]["time"] == "2026-01-01T00:00:00.000000Z"
    assert last["properties"]["incident"] == "incident-1"
    assert last["properties"]["arrivals"] == 4
    assert last["properties"]["verdict"] is None


def test_events_are_found_by_what_is_asked_of_them(client: httpx.Client) -> None:
    review(client, "event-2", verdict="fireworks")
    assert find(client, since="2026-01-01T01:00:00Z", until="2026-01-01T03:00:00Z") == ["event-2", "event-1"]
    assert find(client, since="2026-01-01T06:00:00+01:00") == ["event-5"]
    assert find(client, least_probability=0.94) == ["event-5", "event-4"]
    assert find(client, verdict=["fireworks", "gunshot"]) == ["event-2"]
    assert len(find(client, verdict="none")) == HOURS - 1
    assert find(client, status="retracted") == []
    assert find(client, status=["final", "retracted"], limit=1) == ["event-5"]
    assert find(client, incident="incident-1") == ["event-1", "event-0"]
    assert find(client, bbox="179,48,-179.5,49") == ["event-5"]
    assert find(client, since="9999-12-31T23:59:59Z") == find(client, until="0001-01-01T00:00:00Z") == []


def test_pages_hold_every_event_once_whatever_comes_meanwhile(client: httpx.Client, store: Store) -> None:
    for number in range(20):
        keep_event(store, an_event(f"same-{number}", time_ns=NOW_NS - 1))
    before, seen = find(client, limit=1_000), list[str]()
    asked: dict[str, str | int] = {"limit": 7}
    for turn in range(100):
        answer = client.get("/api/1/events", params=asked)
        seen += ids(answer)
        keep_event(store, an_event(f"later-{turn}", time_ns=NOW_NS + 100 * HOUR_NS + turn))
        if answer.json()["next"] is None:
            break
        asked["cursor"] = answer.json()["next"]
    assert seen == before
    assert len(seen) == HOURS + 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", "yesterday"),
        ("since", "2026-01-01T00:00:00"),
        ("since", "2026-02-30T00:00:00Z"),
        ("since", ""),
        ("until", "2026-01-01"),
        ("bbox", "1,2,3"),
        ("bbox", "1,2,3,x"),
        ("bbox", "1,2,3,nan"),
        ("bbox", "181,0,182,1"),
        ("bbox", "0,91,1,92"),
        ("bbox", "1,3,2,1"),
        ("least_probability", "1.1"),
        ("least_probability", "nan"),
        ("status", "loud"),
        ("verdict", "guilty"),
        ("incident", "a b"),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "many"),
        ("cursor", "x"),
        ("cursor", "1~"),
        ("cursor", "-1~event-1"),
        ("cursor", "99999999999999999999~event-1"),
        ("cursor", "1~event-1'; DROP TABLE events"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(client: httpx.Client, name: str, value: str) -> None:
    problem = is_problem(client.get("/api/1/events", params={name: value}), 422)
    assert problem["detail"].startswith(name)
    assert [(one["place"], one["name"].split(".")[0]) for one in problem["errors"]] == [("query", name)]


@pytest.mark.parametrize(
    "address",
    [
        "incidents?since=now",
        "incidents?cursor=x",
        "export/events.csv?bbox=1",
        "nodes/node-00/statuses?until=later",
        "nodes/Node/statuses",
        "events/a%20b",
        "clips/node-00/%00",
        "log?after=-1",
        "log?after=9999999999999999999999",
    ],
)
def test_what_cannot_be_meant_is_refused_everywhere(client: httpx.Client, address: str) -> None:
    assert len(is_problem(client.get(f"/api/1/{address}"), 422)["errors"]) == 1


def test_an_event_is_seen_with_all_that_belongs_to_it(client: httpx.Client, store: Store) -> None:
    event = an_event("event-1", 1, NOW_NS + HOUR_NS, status="final", probability=0.99)
    store.keep(Batch(told=[(NOW_NS + HOUR_NS + 5, event)]))
    review(client, note="two rounds")
    seen = client.get("/api/1/events/event-1").json()
    assert msgspec.convert(seen["event"], Event) == event
    assert seen["incident"] == "incident-1"
    assert seen["review"] == {"verdict": "gunshot", "reviewer": "Ann", "note": "two rounds", "reviewed_ns": NOW_NS}
    assert [(one["told_ns"] - event.time_ns, one["event"]["revision"]) for one in seen["revisions"]] == [(0, 0), (5, 1)]
    assert [one["detection"]["node"] for one in seen["detections"]] == [f"node-0{node}" for node in range(4)]
    assert [one["kind"] for one in seen["log"]] == ["clip", "event", "event", "review"]
    (clip,) = seen["clips"]
    assert (clip["node"], clip["start_ns"]) == ("node-00", event.time_ns)
    sound = client.get(clip["url"])
    assert sound.headers["content-type"] == "audio/flac"
    assert sound.content == FLAC


def test_incidents_are_found_and_seen_with_their_events(client: httpx.Client) -> None:
    found = client.get("/api/1/incidents", params={"limit": 1})
    assert ids(found) == ["incident-1"]
    assert ids(client.get("/api/1/incidents", params={"limit": 1, "cursor": found.json()["next"]})) == []
    assert ids(client.get("/api/1/incidents", params={"since": "2026-01-01T00:30:00Z"})) == ["incident-1"]
    assert ids(client.get("/api/1/incidents", params={"since": "2026-01-01T02:00:00Z"})) == []
    seen = client.get("/api/1/incidents/incident-1").json()
    assert seen["incident"]["rounds"] == 2
    assert [one["id"] for one in seen["events"]] == ["event-0", "event-1"]


def test_nodes_are_seen_as_they_are_and_were(client: httpx.Client, store: Store) -> None:
    store.keep(Batch(statuses=[(NOW_NS - 30 * HOUR_NS, a_status("node-00", 1)), (NOW_NS - 1, a_status("node-01", 2))]))
    nodes = client.get("/api/1/nodes").json()["features"]
    assert [(one["id"], one["properties"]["outbox"]) for one in nodes] == [("node-00", 3), ("node-01", 2)]
    assert nodes[0]["properties"]["received_ns"] == NOW_NS
    address = "/api/1/nodes/node-00/statuses"
    assert [one["status"]["outbox"] for one in client.get(address).json()["statuses"]] == [3]
    longer = client.get(address, params={"since": "2025-12-30T00:00:00Z"}).json()["statuses"]
    assert [one["status"]["outbox"] for one in longer] == [1, 3]
    earlier = client.get(address, params={"until": "2025-12-31T00:00:00Z"}).json()["statuses"]
    assert [one["status"]["outbox"] for one in earlier] == [1]
    assert client.get(address, params={"until": "0231-05-29T11:01:39Z"}).json()["statuses"] == []


def test_a_review_is_kept_logged_and_told_to_every_page(
    client: httpx.Client, hub: Hub, server: PageServer, store: Store
) -> None:
    hub.publish(an_event("event-1", time_ns=NOW_NS + HOUR_NS))
    with connect(f"ws://{HOST}:{server.port}/live") as page:
        page.recv(timeout=PATIENCE_S)
        said = review(client, note="clear").json()
        heard = json.loads(page.recv(timeout=PATIENCE_S))
    assert said == {"verdict": "gunshot", "reviewer": "Ann", "note": "clear", "reviewed_ns": NOW_NS}
    assert heard == {"kind": "review", "message": said | {"event": "event-1"}}
    assert client.get("/api/snapshot").json()["reviews"] == {"event-1": said | {"event": "event-1"}}
    assert json.loads(told_events(store)[-1].body)["verdict"] == "gunshot"
    (shown,) = client.get("/api/1/events", params={"verdict": "gunshot"}).json()["features"]
    assert shown["properties"]["reviewed"] == "2026-01-01T00:00:00.000000Z"


def test_of_many_reviews_at_once_pages_and_store_keep_the_same(client: httpx.Client, hub: Hub, store: Store) -> None:
    hub.publish(an_event("event-1", time_ns=NOW_NS + HOUR_NS))
    with ThreadPoolExecutor(8) as people:
        answers = list(people.map(lambda number: review(client, reviewer=f"person {number}"), range(40)))
    assert {answer.status_code for answer in answers} == {200}
    kept = client.get("/api/1/events/event-1").json()["review"]
    assert client.get("/api/snapshot").json()["reviews"]["event-1"] == kept | {"event": "event-1"}
    assert len([one for one in told_events(store) if one.kind == "review"]) == 40


def test_a_review_can_be_changed_and_taken_back_but_not_unsaid(client: httpx.Client, store: Store) -> None:
    for verdict in ("gunshot", "unsure", None):
        assert review(client, verdict=verdict).json()["verdict"] == verdict
    assert [json.loads(one.body)["verdict"] for one in told_events(store) if one.kind == "review"] == [
        "gunshot", "unsure", None,
    ]  # fmt: skip
    assert len(find(client, verdict="none")) == HOURS


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"verdict": "guilty"}, "verdict"),
        ({"reviewer": ""}, "reviewer"),
        ({"reviewer": "  "}, "reviewer"),
        ({"reviewer": "Ann\nBob"}, "reviewer"),
        ({"reviewer": "A" * 129}, "reviewer"),
        ({"reviewer": 5}, "reviewer"),
        ({"note": "x" * 2_001}, "note"),
        ({"note": "\x00"}, "note"),
        ({"note": "\ud800"}, "note"),
        ({"when": 5}, "when"),
    ],
)
def test_a_review_that_cannot_be_meant_is_refused(
    client: httpx.Client, store: Store, said: dict[str, Any], name: str
) -> None:
    content = json.dumps({"verdict": "gunshot", "reviewer": "Ann"} | said)
    answer = client.post(
        "/api/1/events/event-1/review", content=content, headers={"content-type": "application/json"}
    )  # fmt: skip
    assert [one["name"] for one in is_problem(answer, 422)["errors"]] == [name]
    assert len(told_events(store)) == 1


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 422), (b"{", 422), (b"[]", 422), (b'"\xff"', 400), (b"[" * 30_000, 400), (b" " * 40_000, 413)],
)  # fmt: skip
def test_a_body_that_is_no_review_is_refused(client: httpx.Client, content: bytes, status: int) -> None:
    header = {"content-type": "application/json"}
    is_problem(client.post("/api/1/events/event-1/review", content=content, headers=header), status)


def test_a_long_note_in_any_script_fits(client: httpx.Client) -> None:
    content = json.dumps({"verdict": "other", "reviewer": "\u9234", "note": "\U0001f514" * 2_000})
    answer = client.post(
        "/api/1/events/event-1/review", content=content, headers={"content-type": "application/json"}
    )  # fmt: skip
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://[", "http://127.0.0.1.evil.example"])
def test_a_page_of_another_site_cannot_review(client: httpx.Client, store: Store, origin: str) -> None:
    content = json.dumps({"verdict": "other", "reviewer": "Eve"})
    for kind in ("application/json", "text/plain"):
        headers = {"origin": origin, "content-type": kind}
        is_problem(client.post("/api/1/events/event-1/review", content=content, headers=headers), 403)
    assert len(told_events(store)) == 1


def test_a_page_of_this_site_can_review(client: httpx.Client) -> None:
    headers = {"origin": str(client.base_url).rstrip("/")}
    answer = client.post(
        "/api/1/events/event-1/review", json={"verdict": "other", "reviewer": "Ann"}, headers=headers
    )  # fmt: skip
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/1/events/event-9",
        "/api/1/incidents/event-1",
        "/api/1/clips/node-00/event-1",
        "/api/1/nothing",
        "/api/2/events",
        "/nothing",
    ],
)
def test_what_is_not_there_is_said_so(client: httpx.Client, path: str) -> None:
    is_problem(client.get(path), 404)


def test_a_review_of_no_event_is_refused(client: httpx.Client, store: Store) -> None:
    before = store.head()
    is_problem(review(client, "event-9"), 404)
    assert store.head() == before


def test_a_method_that_is_not_for_this_is_refused_with_those_that_are(client: httpx.Client) -> None:
    answer = client.delete("/api/1/events/event-1")
    is_problem(answer, 405)
    assert answer.headers["allow"] == "GET"


def test_a_failure_is_told_without_its_inside(client: httpx.Client, store: Store) -> None:
    with store.writing() as connection:
        EVENTS.drop(connection)
    problem = is_problem(client.get("/api/1/events"), 500)
    assert "SELECT" not in json.dumps(problem)
    assert client.get("/api/1/nodes").status_code == 200


def test_without_a_store_there_is_no_api(hub: Hub) -> None:
    server = serve(create_app(hub), HOST, 0)
    try:
        with httpx.Client(base_url=f"http://{HOST}:{server.port}", timeout=PATIENCE_S) as client:
            is_problem(client.get("/api/1/events"), 404)
            assert client.get("/metrics").status_code == 200
    finally:
        server.stop()


def test_a_table_of_events_runs_no_formula(client: httpx.Client, store: Store) -> None:
    keep_event(store, an_event("event-9", time_ns=NOW_NS + 99 * HOUR_NS, label="+1", reason='-2+3,"', lon=-0.5))
    texts = ("=1+1", "@SUM(A1)", " =1", "\t=1", "\uff1d1", "plain, 'text'\nin two lines")
    for number, text in enumerate(texts):
        review(client, f"event-{number}", reviewer=text.strip("\t").split("\n")[0], note=text)
    answer = client.get("/api/1/export/events.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["id"] for row in rows] == [*(f"event-{hour}" for hour in range(HOURS)), "event-9"]
    assert [row["note"] for row in rows[:-1]] == [*(f"'{text}" for text in texts[:-1]), texts[-1]]
    assert (rows[-1]["label"], rows[-1]["reason"], rows[-1]["lon"]) == ("'+1", "'-2+3,\"", "-0.5")
    assert not re.search(r"(^|,)\"?\s*[=@+]", answer.text, re.MULTILINE)


def test_what_people_write_is_text_on_a_map_too(client: httpx.Client) -> None:
    review(client, reviewer=SCRIPT, note=f"a & b ]]> {SCRIPT} \ufffe")
    answer = client.get("/api/1/export/events.kml")
    document = ET.fromstring(answer.content)
    placemarks = list(document.iter(f"{KML}Placemark"))
    assert len(placemarks) == HOURS
    assert placemarks[1].findtext(f"{KML}Point/{KML}coordinates") == "11.575,48.137"
    assert placemarks[1].findtext(f"{KML}TimeStamp/{KML}when") == "2026-01-01T01:00:00.000000Z"
    # A viewer takes a description for HTML.
    description = placemarks[1].findtext(f"{KML}description") or ""
    assert "a &amp; b ]]&gt; &lt;script&gt;alert(" in description
    assert "<script" not in "".join(element.text or "" for element in document.iter())


def test_script_in_a_review_is_data_wherever_it_is_told(client: httpx.Client, hub: Hub) -> None:
    hub.publish(an_event("event-1", time_ns=NOW_NS + HOUR_NS))
    review(client, reviewer=SCRIPT, note=SCRIPT)
    for path in ("/api/1/events", "/api/1/events/event-1", "/api/1/export/events.geojson", "/api/snapshot"):
        answer = client.get(path)
        assert answer.headers["content-type"] in {"application/json", "application/geo+json"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert SCRIPT in json.dumps(answer.json())


def test_an_export_is_whole_and_the_log_keeps_its_hash(client: httpx.Client, store: Store) -> None:
    store.keep(Batch(told=[(NOW_NS, an_event(f"many-{number}", 0, NOW_NS - 1 - number)) for number in range(2_500)]))
    answer = client.get("/api/1/export/events.geojson", params={"status": "preliminary"})
    assert len(set(ids(answer))) == 2_500
    assert answer.headers["content-disposition"] == 'attachment; filename="events.geojson"'
    entry = log(store)[-1]
    assert (entry.kind, entry.subject) == ("export", "events.geojson")
    assert json.loads(entry.body) == {
        "asked": {"statuses": ["preliminary"]},
        "events": 2_500,
        "sha256": hashlib.sha256(answer.content).hexdigest(),
    }


def test_an_export_of_nothing_is_still_a_file_of_its_kind(client: httpx.Client) -> None:
    asked = {"status": "retracted"}
    assert ids(client.get("/api/1/export/events.geojson", params=asked)) == []
    assert len(client.get("/api/1/export/events.csv", params=asked).text.splitlines()) == 1
    document = ET.fromstring(client.get("/api/1/export/events.kml", params=asked).content)
    assert list(document.iter(f"{KML}Placemark")) == []


def test_quality_counts_what_nobody_knows_apart_from_what_was_wrong(client: httpx.Client, store: Store) -> None:
    keep_event(store, an_event("earlier", time_ns=NOW_NS - HOUR_NS))
    for number, verdict in enumerate(["gunshot", "gunshot", "fireworks", "other", "unsure"]):
        review(client, f"event-{number}", verdict=verdict)
    quality = client.get("/api/1/quality").json()
    nothing = {"gunshot": 0, "fireworks": 0, "other": 0, "unsure": 0}
    judged = {"gunshot": 2, "fireworks": 1, "other": 1, "unsure": 1, "unreviewed": 1, "precision": 0.5}
    assert quality["months"] == [
        {"month": "2025-12", "events": 1, "unreviewed": 1, "precision": None} | nothing,
        {"month": "2026-01", "events": 6} | judged,
    ]
    assert quality["total"] == judged | {"events": 7, "unreviewed": 2}
    assert client.get("/api/1/quality.csv").text.splitlines() == [
        "month,events,gunshot,fireworks,other,unsure,unreviewed,precision",
        "2025-12,1,0,0,0,0,1,",
        "2026-01,6,2,1,1,1,1,0.5",
        "total,7,2,1,1,1,2,0.5",
    ]


def test_the_log_can_be_read_and_checked_by_anybody(client: httpx.Client, store: Store) -> None:
    review(client)
    client.get("/api/1/export/events.csv")
    entries, after = list[Entry](), 0
    while True:
        part = client.get("/api/1/log", params={"after": after, "limit": 5}).json()
        entries += msgspec.convert(part["entries"], list[Entry])
        if part["next"] is None:
            break
        after = part["next"]
    assert list(broken(entries)) == []
    assert [one.kind for one in entries[-2:]] == ["review", "export"]
    with store.engine.begin() as connection:
        assert list(audit.verify(connection)) == []
    assert client.get("/api/1/log/head").json() == {"seq": len(entries), "hash": entries[-1].hash}


def test_prometheus_is_told_how_the_centre_is_doing(client: httpx.Client, hub: Hub, store: Store) -> None:
    odd = 'is "odd"\\\n'
    hub.publish(a_status("node-00", 1))
    hub.publish(msgspec.structs.replace(a_status("node-01", 1), online=False))
    hub.publish(Figures(detections=9, refused=1, delay_s=0.25))
    hub.publish(
        CentreStatus(
            online=True, time_ns=NOW_NS, version="1", detections=9, dropped={odd: 2}, events=5, retracted=1, refused=3
        )
    )
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert samples["soundranger_detections_total"] == "9"
    assert samples['soundranger_dropped_total{reason="is \\"odd\\"\\\\\\n"}'] == "2"
    assert samples["soundranger_events_total"] == "5"
    assert samples["soundranger_events_retracted_total"] == "1"
    assert samples["soundranger_refused_total"] == "3"
    assert (samples["soundranger_nodes_known"], samples["soundranger_nodes_online"]) == ("2", "1")
    assert samples["soundranger_last_event_delay_seconds"] == "0.25"
    assert samples["soundranger_log_entries_total"] == str(store.head().seq)
    assert samples['soundranger_stored_rows{kind="events"}'] == str(HOURS)
    assert int(samples["soundranger_stored_bytes"]) > 10_000


def test_a_clip_that_came_in_is_told_to_pages_and_not_kept(client: httpx.Client, hub: Hub, server: PageServer) -> None:
    with connect(f"ws://{HOST}:{server.port}/live") as page:
        before = json.loads(page.recv(timeout=PATIENCE_S))["message"]
        hub.publish(ClipStored(node="node-00", detection="node-00-1", events=["event-1"]))
        heard = json.loads(page.recv(timeout=PATIENCE_S))
    assert heard["message"] == {"node": "node-00", "detection": "node-00-1", "events": ["event-1"]}
    assert heard["kind"] == "clip"
    assert client.get("/api/snapshot").json() | {"time_ns": 0} == before | {"time_ns": 0}


def test_every_operation_is_described_with_what_it_answers(client: httpx.Client) -> None:
    answer = client.get("/api/1/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert {"/metrics", "/api/1/events", "/api/1/quality.csv", "/api/1/log/head"} < document["paths"].keys()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            assert "application/problem+json" in operation["responses"]["500"]["content"]
            assert operation["responses"]["200"]["content"]
    assert r"\\Z" not in answer.text


def test_every_address_and_condition_is_documented_and_no_other(client: httpx.Client) -> None:
    page = (Path(__file__).parents[2] / "docs" / "use-the-api.md").read_text()
    cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    paths = client.get("/api/1/openapi.json").json()["paths"]
    asked = {one["name"] for one in paths["/api/1/export/events.csv"]["get"]["parameters"]}
    assert listed == paths.keys() | asked


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sqlite", "postgresql"], indirect=True)
def test_nothing_that_can_be_asked_is_answered_otherwise_than_described(server: PageServer, tmp_path: Path) -> None:
    address = f"http://{HOST}:{server.port}/api/1/openapi.json"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", address, "--max-examples=10", "--seed=1", "--no-color"],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.broker.api_hooks", "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    tested = re.search(r"Selected: (\d+)/\1\s+Tested: \1\n", done.stdout)
    assert tested is not None, done.stdout
    assert int(tested[1]) >= 16


@pytest.mark.slow
def test_what_is_there_is_told_as_described(store: Store) -> None:
    described = schemathesis.openapi.from_asgi("/api/1/openapi.json", create_app(Hub(), store=store))
    store.review("event-1", "gunshot", SCRIPT, "=1", NOW_NS)
    clip = an_event(time_ns=NOW_NS + HOUR_NS).arrivals[0].detection
    known = {"event": "event-1", "incident": "incident-1", "node": "node-00", "detection": clip}
    for path, operations in described.items():
        for method in operations:
            said = {"body": {"verdict": "other", "reviewer": "Ann"}} if method == "post" else {}
            names = {name: known[name] for name in re.findall(r"{(\w+)}", path)}
            case = operations[method].Case(path_parameters=names, **said)
            assert case.call_and_validate().status_code == 200
