"""The page's server side: the picture, the hub, the application and the port it stands on."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from soundranger_broker.web.app import PageSettings, create_app
from soundranger_broker.web.hub import MAX_WAITING, Hub
from soundranger_broker.web.picture import MAX_EVENTS, Figures, PageMessage, Picture, Reviewed, Shot
from soundranger_broker.web.server import PageServer, first_free_port, serve
from soundranger_node.errors import InputError
from soundranger_node.messages import EARLIEST_NS, Arrival, ClockStatus, Ellipse, Event, Incident, NodeStatus

HOST = "127.0.0.1"
PATIENCE_S = 10.0
STATUS = NodeStatus(
    node="mill-2",
    online=True,
    time_ns=EARLIEST_NS + 60_000_000_000,
    version="0.1.0",
    lat=52.37,
    lon=4.9,
    alt_m=3.0,
    position_sigma_m=2.0,
    clock=ClockStatus(tier="pps", bound_s=2e-6),
)
EVENT = Event(
    id="event-1",
    revision=1,
    status="final",
    time_ns=EARLIEST_NS,
    time_sigma_s=1e-3,
    lat=52.37,
    lon=4.9,
    alt_m=0.0,
    covariance_en_m2=((4.0, 0.0), (0.0, 1.0)),
    ellipse95=Ellipse(semi_major_m=4.9, semi_minor_m=2.4, bearing_deg=90.0),
    probability=0.98,
    speed_of_sound_mps=340.0,
    arrivals=[Arrival(detection="mill-2.1.1", node="mill-2", residual_s=1e-4, distance_m=120.0, used=True)],
    silent=[],
)
INCIDENT = Incident(
    id="incident-1",
    revision=1,
    start_time_ns=EARLIEST_NS,
    end_time_ns=EARLIEST_NS,
    lat=52.37,
    lon=4.9,
    rounds=1,
    events=["event-1"],
)


def revised(revision: int, **changes: Any) -> Event:
    return msgspec.structs.replace(EVENT, revision=revision, **changes)


def as_json(message: PageMessage) -> Any:
    return json.loads(msgspec.json.encode(message))


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def server(hub: Hub) -> Iterator[PageServer]:
    server = serve(create_app(hub), HOST, 0)
    yield server
    server.stop()


def page_of(server: PageServer, **options: Any) -> Connection:
    return connect(f"ws://{HOST}:{server.port}/live", **options)


def hear(page: Connection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(page.recv(timeout=PATIENCE_S))
    return message


def get(server: PageServer, path: str) -> httpx.Response:
    return httpx.get(f"http://{HOST}:{server.port}{path}", timeout=PATIENCE_S)


def test_a_higher_revision_replaces_a_lower_one() -> None:
    picture = Picture()
    assert picture.apply(revised(1))
    assert picture.apply(revised(2, status="retracted"))
    assert [event["status"] for event in picture.snapshot()["events"]] == ["retracted"]


@pytest.mark.parametrize("message", [EVENT, INCIDENT])
def test_a_revision_that_is_known_or_older_changes_nothing(message: Event | Incident) -> None:
    picture = Picture()
    newer = msgspec.structs.replace(message, revision=5)
    assert picture.apply(newer)
    before = picture.snapshot()
    assert not picture.apply(newer)
    assert not picture.apply(message)
    assert picture.snapshot() == before


@given(st.permutations(range(6)))
def test_revisions_in_any_order_end_with_the_highest(order: list[int]) -> None:
    picture = Picture()
    for revision in order:
        picture.apply(revised(revision))
    assert picture.events["event-1"].revision == 5


def test_only_the_newest_events_are_kept() -> None:
    picture = Picture()
    for number in range(MAX_EVENTS + 20):
        picture.apply(revised(1, id=f"event-{number}", time_ns=EARLIEST_NS + number))
    assert len(picture.events) == MAX_EVENTS
    assert min(event.time_ns for event in picture.events.values()) == EARLIEST_NS + 20


def test_an_event_older_than_all_that_is_kept_changes_nothing() -> None:
    picture = Picture()
    for number in range(MAX_EVENTS):
        picture.apply(revised(1, id=f"event-{number}", time_ns=EARLIEST_NS + 1 + number))
    assert not picture.apply(revised(1, id="late", time_ns=EARLIEST_NS))
    assert "late" not in picture.events


def test_a_last_will_does_not_set_back_when_a_node_was_last_heard() -> None:
    picture = Picture()
    picture.apply(STATUS)
    picture.apply(msgspec.structs.replace(STATUS, online=False, time_ns=EARLIEST_NS))
    (node,) = picture.snapshot()["nodes"]
    assert not node["online"]
    assert node["time_ns"] == STATUS.time_ns


def test_a_node_whose_clock_was_set_back_is_dated_by_its_new_clock() -> None:
    picture = Picture()
    picture.apply(STATUS)
    picture.apply(msgspec.structs.replace(STATUS, time_ns=EARLIEST_NS))
    assert picture.nodes["mill-2"].time_ns == EARLIEST_NS


def test_a_review_is_held_as_long_as_its_event() -> None:
    picture = Picture()
    said = Reviewed(event="event-1", verdict="gunshot", reviewer="Ann", note="", reviewed_ns=EARLIEST_NS)
    assert picture.apply(said)
    assert picture.snapshot()["reviews"] == {}
    picture.apply(EVENT)
    assert picture.apply(said)
    assert picture.snapshot()["reviews"] == {"event-1": as_json(said)}
    for number in range(MAX_EVENTS):
        picture.apply(revised(1, id=f"later-{number}", time_ns=EARLIEST_NS + 1 + number))
    assert picture.snapshot()["reviews"] == {}


def test_a_review_that_was_overtaken_changes_nothing() -> None:
    picture = Picture()
    picture.apply(EVENT)
    first = Reviewed(event="event-1", verdict="gunshot", reviewer="Ann", note="", reviewed_ns=EARLIEST_NS)
    later = msgspec.structs.replace(first, verdict=None, reviewed_ns=EARLIEST_NS + 1)
    assert picture.apply(later)
    assert not picture.apply(first)
    assert picture.reviews["event-1"] == later


def test_a_page_hears_a_snapshot_first_and_then_every_message_in_order(hub: Hub, server: PageServer) -> None:
    hub.publish(STATUS)
    with page_of(server) as page:
        first = hear(page)
        shot = Shot(id="shot-1", time_ns=EARLIEST_NS, lat=52.0, lon=4.0)
        figures = Figures(detections=9, refused=1, delay_s=0.2)
        messages: list[PageMessage] = [EVENT, revised(2), INCIDENT, figures, shot]
        for message in messages:
            hub.publish(message)
        heard = [hear(page) for _ in messages]
    assert first["kind"] == "snapshot"
    assert [node["node"] for node in first["message"]["nodes"]] == ["mill-2"]
    assert [message["kind"] for message in heard] == ["event", "event", "incident", "figures", "shot"]
    assert [message["message"] for message in heard] == [as_json(message) for message in messages]


def test_messages_of_many_threads_reach_a_page_each_once_and_in_each_threads_order(
    hub: Hub, server: PageServer
) -> None:
    threads, each = 4, 100

    def publish(thread: int) -> None:
        for number in range(each):
            hub.publish(revised(number, id=f"thread-{thread}"))

    with page_of(server) as page:
        hear(page)
        workers = [threading.Thread(target=publish, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        heard = [hear(page)["message"] for _ in range(threads * each)]
        for worker in workers:
            worker.join()
    for thread in range(threads):
        revisions = [event["revision"] for event in heard if event["id"] == f"thread-{thread}"]
        assert revisions == list(range(each))


def test_a_page_that_opens_in_the_middle_of_things_misses_and_repeats_nothing(hub: Hub, server: PageServer) -> None:
    last = 400

    def publish() -> None:
        for revision in range(last + 1):
            hub.publish(revised(revision))
            time.sleep(0.0005)

    worker = threading.Thread(target=publish)
    worker.start()
    try:
        with page_of(server) as page:
            snapshot = hear(page)["message"]["events"]
            revisions = [event["revision"] for event in snapshot]
            while not revisions or revisions[-1] < last:
                revisions.append(hear(page)["message"]["revision"])
    finally:
        worker.join()
    assert all(later == earlier + 1 for earlier, later in pairwise(revisions))


def test_a_page_is_told_now_and_then_that_a_quiet_server_is_still_there(
    server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundranger_broker.web.app.HEARTBEAT_S", 0.05)
    with page_of(server) as page:
        assert [hear(page)["kind"] for _ in range(3)] == ["snapshot", "heartbeat", "heartbeat"]


def test_an_old_revision_is_told_to_nobody(hub: Hub, server: PageServer) -> None:
    with page_of(server) as page:
        hear(page)
        hub.publish(revised(3))
        hub.publish(revised(2))
        hub.publish(STATUS)
        assert hear(page)["message"]["revision"] == 3
        assert hear(page)["kind"] == "status"


def test_a_page_that_falls_behind_is_sent_a_snapshot_and_no_stale_messages() -> None:
    hub = Hub()

    async def story() -> None:
        with hub.subscribe() as page:
            assert await page.next() is None
            page.catch_up()
            for revision in range(MAX_WAITING):
                hub.publish(revised(revision))
            first = await page.next()
            assert first is not None
            assert json.loads(first)["message"]["revision"] == 0
            hub.publish(revised(MAX_WAITING))
            hub.publish(revised(MAX_WAITING + 1))
            assert await page.next() is None
            assert page.catch_up()["events"][0]["revision"] == MAX_WAITING + 1
            hub.publish(revised(MAX_WAITING + 2))
            news = await page.next()
            assert news is not None
            assert json.loads(news)["message"]["revision"] == MAX_WAITING + 2

    asyncio.run(story())


def test_a_slow_page_holds_up_no_other_and_catches_up_with_a_snapshot(hub: Hub, server: PageServer) -> None:
    # 20 MB in all: far more than the system buffers for a page that does not read.
    last, long_reason = 1_000, "x" * 20_000
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.connect((HOST, server.port))
    with page_of(server, sock=narrow, compression=None, max_queue=1) as slow, page_of(server) as fast:
        hear(fast)
        longest_s = 0.0
        for revision in range(1, last + 1):
            began = time.monotonic()
            hub.publish(revised(revision, reason=long_reason))
            assert hear(fast)["message"]["revision"] == revision
            longest_s = max(longest_s, time.monotonic() - began)
        snapshots, newest = 0, 0
        while newest < last:
            message = hear(slow)
            if message["kind"] == "snapshot":
                snapshots += 1
                newest = max((event["revision"] for event in message["message"]["events"]), default=0)
            else:
                newest = message["message"]["revision"]
    assert longest_s < 2.0
    assert snapshots >= 2


def test_the_snapshot_can_be_fetched_too(hub: Hub, server: PageServer) -> None:
    hub.publish(STATUS)
    hub.publish(EVENT)
    snapshot = get(server, "/api/snapshot").json()
    assert snapshot["nodes"] == [as_json(STATUS)]
    assert snapshot["events"] == [as_json(EVENT)]
    assert snapshot["tiles"] is None
    assert abs(snapshot["time_ns"] - time.time_ns()) < PATIENCE_S * 1e9


def test_the_page_and_all_that_it_names_are_served(server: PageServer) -> None:
    page = get(server, "/")
    assert page.headers["content-type"].startswith("text/html")
    named = [part.split('"')[0] for part in page.text.split('"static/')[1:]]
    assert len(named) >= 5
    for name in named:
        assert get(server, f"/static/{name}").status_code == 200


def test_scripts_and_styles_are_allowed_from_this_server_only(server: PageServer) -> None:
    for path in ("/", "/static/app.js", "/api/snapshot", "/nothing"):
        headers = get(server, path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["img-src"] == "'self' data:"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("tile_url", "source"),
    [
        ("https://tile.example.org/{z}/{x}/{y}.png", " https://tile.example.org"),
        ("https://{s}.tile.example.org/{z}/{x}/{y}.png", " https://*.tile.example.org"),
        ("http://10.0.0.5:8080/{z}/{x}/{y}", " http://10.0.0.5:8080"),
        ("/tiles/{z}/{x}/{y}.png", ""),
    ],
)
def test_the_host_of_the_map_tiles_is_allowed_for_images(hub: Hub, tile_url: str, source: str) -> None:
    server = serve(create_app(hub, PageSettings(tile_url, "Somebody's map")), HOST, 0)
    try:
        policy = get(server, "/").headers["content-security-policy"]
        tiles = get(server, "/api/snapshot").json()["tiles"]
    finally:
        server.stop()
    assert f"img-src 'self' data:{source};" in policy
    assert tiles == {
        "url": tile_url,
        "attribution": "Somebody's map",
        "is_vector": False,
        "min_zoom": 0,
        "max_zoom": 19,
    }


@pytest.mark.parametrize(
    "tile_url",
    [
        "tile.example.org/{z}/{x}/{y}.png",
        "javascript:alert(1)",
        "https://a.example; script-src *",
        "https://*/{z}",
        "https://[/{z}",
        "//tile.example.org/{z}",
        "https://user@tile.example.org/",
        "",
    ],
)
def test_a_tile_address_that_is_none_is_refused_in_one_sentence(hub: Hub, tile_url: str) -> None:
    with pytest.raises(InputError, match="is not a web address"):
        create_app(hub, PageSettings(tile_url))


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/static/",
        "/static/nothing.js",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_but_the_page_is_served(server: PageServer, path: str) -> None:
    with socket.create_connection((HOST, server.port), timeout=PATIENCE_S) as client:
        # By hand, because clients tidy a path up before they send it.
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
    assert b"Traceback" not in answer


def test_a_page_of_another_site_cannot_listen_in(server: PageServer) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        page_of(server, origin="https://elsewhere.example")
    with page_of(server, origin=f"http://{HOST}:{server.port}") as page:
        assert hear(page)["kind"] == "snapshot"


def test_what_a_page_sends_is_ignored(hub: Hub, server: PageServer) -> None:
    with page_of(server) as page:
        hear(page)
        page.send("hello")
        page.send(b"\x00\xff")
        hub.publish(STATUS)
        assert hear(page)["kind"] == "status"


def test_messages_published_before_and_after_the_server_ran_do_no_harm(hub: Hub) -> None:
    hub.publish(STATUS)
    server = serve(create_app(hub), HOST, 0)
    page = page_of(server)
    hear(page)
    server.stop()
    hub.publish(EVENT)
    page.close()
    assert [event["id"] for event in hub.snapshot()["events"]] == ["event-1"]


def test_the_server_stops_promptly_with_pages_open_and_frees_its_port(hub: Hub) -> None:
    server = serve(create_app(hub), HOST, 0)
    pages = [page_of(server) for _ in range(3)]
    for page in pages:
        hear(page)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 3.0
    for page in pages:
        page.close()
    serve(create_app(hub), HOST, server.port).stop()


def test_a_page_that_takes_no_leave_does_not_keep_the_server_up(hub: Hub) -> None:
    server = serve(create_app(hub), HOST, 0)
    with socket.create_connection((HOST, server.port)) as silent:
        silent.sendall(
            b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert silent.recv(64).startswith(b"HTTP/1.1 101")
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3.0


def test_a_port_that_is_taken_is_named_in_one_sentence_and_the_next_free_one_is_found(server: PageServer) -> None:
    with pytest.raises(InputError, match=f"port {server.port} on {HOST}: is taken by another program; stop it or"):
        serve(create_app(Hub()), HOST, server.port)
    assert server.port < first_free_port(HOST, server.port) <= server.port + 50


def test_no_free_port_and_no_such_address_are_told_in_one_sentence() -> None:
    with socket.create_server((HOST, 65_535)), pytest.raises(InputError, match="are all taken; choose another port"):
        first_free_port(HOST, 65_535)
    # A documentation address (RFC 5737): never one of this machine.
    with pytest.raises(InputError, match="cannot be opened"):
        serve(create_app(Hub()), "203.0.113.1", 0)
    with pytest.raises(InputError, match="cannot be opened"):
        first_free_port("203.0.113.1", 8_000)
