"""What a person does with what the centre keeps: see, hear, judge and find again, in a real browser."""

import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Locator, expect
from tests.broker.browsing import CHROMIUM, HOST, PATIENCE_MS, PHONE, Visit, event, status, visit_with

from soundranger_broker.storage import reading
from soundranger_broker.storage.store import Batch, Clip, Report, Store, Verdict
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.picture import ClipStored, Reviewed
from soundranger_node.messages import DETECTION, Arrival, ClipHeader, Detection, Ellipse, Event, Incident

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]

LAT, LON = 52.3722, 4.9032
SPEED_MPS = 340.0
RATE_HZ = 16_000
BEFORE_S = 0.5
# North of the event, metres, and how late each arrival is, seconds.
HEARD = {"near": (-200.0, 0.001), "middle": (400.0, -0.002), "late": (500.0, 0.030), "far": (700.0, 0.0005)}
SILENT = "silent"
SILENT_M = 600.0


def place_m(north_m: float) -> tuple[float, float]:
    # A degree of latitude there, on the WGS84 ellipsoid.
    return LAT + north_m / 111_270.0, LON


def heard_by(name: str, of: Event) -> Detection:
    north_m, late_s = HEARD[name]
    lat, lon = place_m(north_m)
    return Detection(
        id=f"{name}.{of.id}",
        node=name,
        time_ns=of.time_ns + round((abs(north_m) / SPEED_MPS + late_s) * 1e9),
        time_sigma_s=1e-3,
        lat=lat,
        lon=lon,
        alt_m=0.0,
        position_sigma_m=1.0,
        snr_db=20.0,
    )


def bang(number: int = 1, **changes: Any) -> Event:
    made = event(number, revision=0, lat=LAT, lon=LON, speed_of_sound_mps=SPEED_MPS, wind_mps=(0.0, 0.0))
    made = msgspec.structs.replace(made, **changes)
    arrivals = [
        Arrival(
            detection=f"{name}.{made.id}",
            node=name,
            residual_s=late_s,
            distance_m=abs(north_m),
            used=name != "late",
        )
        for name, (north_m, late_s) in HEARD.items()
    ]
    return msgspec.structs.replace(made, arrivals=arrivals, silent=[SILENT])


def clip_of(detection: Detection) -> Clip:
    """Return two seconds of faint noise with a loud crack at the detection's time."""
    samples = np.random.default_rng(1).normal(0.0, 0.002, 2 * RATE_HZ)
    onset = round(BEFORE_S * RATE_HZ)
    samples[onset : onset + 80] += 0.8 * np.exp(-np.arange(80) / 20.0)
    flac = io.BytesIO()
    soundfile.write(flac, samples, RATE_HZ, format="FLAC", subtype="PCM_16")
    header = ClipHeader(
        detection=detection.id, start_ns=detection.time_ns - round(BEFORE_S * 1e9), sample_rate_hz=RATE_HZ
    )
    return Clip(detection.node, header, time.time_ns(), flac.getvalue())


@dataclass
class Past:
    """What the centre keeps, and the hub that tells of it."""

    store: Store
    hub: Hub

    def keep(self, *told: Event | Incident, clips: tuple[str, ...] = ()) -> None:
        """Store what is told, with its detections and the clips of some nodes, and tell it."""
        events = [one for one in told if isinstance(one, Event)]
        detections = [heard_by(name, one) for one in events for name in HEARD]
        reports = [Report(one.node, one.id, one.time_ns, one.time_ns, DETECTION.encode(one)) for one in detections]
        self.store.keep(Batch(reports=reports))
        sounds = [clip_of(one) for one in detections if one.node in clips]
        self.store.keep(Batch(told=[(time.time_ns(), one) for one in told], clips=sounds))
        for one in told:
            self.hub.publish(one)

    def review(self, event_id: str, verdict: Verdict | None, note: str = "", reviewer: str = "Ada") -> None:
        self.store.review(event_id, verdict, reviewer, note, time.time_ns())

    def verdict(self, event_id: str) -> str | None:
        with self.store.engine.begin() as connection:
            stored = reading.event(connection, event_id)
        assert stored is not None
        return stored.review.verdict

    def said(self, event_id: str) -> list[str | None]:
        """Return all verdicts that were ever given of an event, from the log."""
        with self.store.engine.begin() as connection:
            entries = [one for one in reading.entries(connection, [event_id]) if one.kind == "review"]
        return [msgspec.json.decode(one.body)["verdict"] for one in entries]


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    store, hub = Store.open(str(tmp_path / "centre.db")), Hub()
    for name, (north_m, _) in HEARD.items():
        lat, lon = place_m(north_m)
        hub.publish(status(name, lat=lat, lon=lon, alt_m=0.0))
    lat, lon = place_m(SILENT_M)
    hub.publish(status(SILENT, lat=lat, lon=lon, alt_m=0.0))
    yield Past(store, hub)
    store.close()


@pytest.fixture
def desk(browser: Browser, past: Past) -> Iterator[Visit]:
    size = {"width": 1280, "height": 800}
    yield from visit_with(browser, past.hub, store=past.store, viewport=size, timezone_id="Asia/Tokyo")


@pytest.fixture
def phone(browser: Browser, past: Past) -> Iterator[Visit]:
    yield from visit_with(browser, past.hub, store=past.store, viewport=PHONE, has_touch=True, is_mobile=True)


def number(locator: Locator, name: str) -> float:
    text = locator.get_attribute(name)
    assert text is not None
    return float(text)


def tallest_x(wave: Locator) -> float:
    """Return where a waveform is highest, in the record section's own units."""
    path = wave.get_attribute("d")
    assert path is not None
    points = [tuple(map(float, point.split())) for point in path.removeprefix("M").split("L")]
    return min(points, key=lambda point: point[1])[0]


def test_the_record_section_stacks_all_nodes_by_distance_and_tells_used_from_unused(desk: Visit, past: Past) -> None:
    past.keep(bang(), clips=("near", "late", "far"))
    desk.open("/#event/event-1")
    rows = desk.page.locator(".record-section .row")
    expect(desk.page.locator(".record-section .wave")).to_have_count(3)
    assert [row.get_attribute("data-node") for row in rows.all()] == ["near", "middle", "late", SILENT, "far"]
    assert [row.get_attribute("data-state") for row in rows.all()] == ["used", "used", "unused", "silent", "used"]
    texts = rows.locator(".row-residual").all_text_contents()
    expected = ["+1.00\u00a0ms", "\u22122.00\u00a0ms", "+30.00\u00a0ms", "silent", "+0.50\u00a0ms"]
    assert texts == expected
    # A node whose clip is missing still shows its arrival.
    expect(desk.page.locator(".row[data-node='middle'] .wave")).to_have_count(0)
    expect(desk.page.locator("circle.mark[data-node='middle']")).to_have_count(1)
    expect(desk.page.locator(f"circle.mark[data-node='{SILENT}']")).to_have_count(0)
    expect(desk.page.locator(".record-section")).to_have_attribute("aria-label", re.compile("3 arrivals used, 1 not"))
    assert desk.complaints == []


def test_a_sound_stands_in_the_record_section_where_it_was_heard(desk: Visit, past: Past) -> None:
    past.keep(bang(), clips=("near", "late", "far"))
    desk.open("/#event/event-1")
    for view in ("From the bang", "From the expected arrival"):
        desk.page.get_by_role("button", name=view).click()
        # Lined up, the late one is far out of the span of those that are used.
        for node in ("near", "far"):
            onset = number(desk.page.locator(f".onset[data-node='{node}']"), "x1")
            assert tallest_x(desk.page.locator(f".row[data-node='{node}'] .wave")) == pytest.approx(onset, abs=2.0)
    expect(desk.page.locator("path.mark[data-node='late']")).to_have_count(1)


def test_lined_up_an_arrival_is_off_the_line_by_its_residual(desk: Visit, past: Past) -> None:
    past.keep(bang())
    desk.open("/#event/event-1")
    desk.page.get_by_role("button", name="From the expected arrival").click()
    line = desk.page.locator(".record-section .travel-line").get_attribute("points")
    assert line is not None
    zeros = {float(point.split(",")[0]) for point in line.split()}
    assert len(zeros) == 1
    off = {
        node: number(desk.page.locator(f"circle.mark[data-node='{node}']"), "cx") - min(zeros)
        for node in ("near", "middle", "far")
    }
    assert off["near"] > 5.0
    assert off["middle"] / off["near"] == pytest.approx(-2.0, rel=0.05)
    assert off["far"] / off["near"] == pytest.approx(0.5, rel=0.05)


def test_a_clip_is_seen_and_played_and_stopped_by_mouse_and_by_keyboard(desk: Visit, past: Past) -> None:
    past.keep(bang(), clips=("near", "far"))
    desk.open("/#event/event-1")
    expect(desk.page.locator(".player canvas")).to_have_attribute(
        "aria-label", re.compile("near; the onset is 0.500 s")
    )
    play = desk.page.locator(".play")
    desk.page.get_by_role("button", name="Play far").click()
    expect(play).to_have_text("Stop")
    expect(desk.page.locator(".play-head")).to_be_visible()
    expect(desk.page.get_by_label("Node to listen to")).to_have_value("far.event-1")
    expect(play).to_have_text("Play", timeout=PATIENCE_MS)
    desk.page.locator("h2").focus()
    desk.page.keyboard.press("Space")
    expect(play).to_have_text("Stop")
    desk.page.keyboard.press("Space")
    expect(play).to_have_text("Play")
    link = desk.page.get_by_label("Download the sound at far").get_attribute("href")
    answer = httpx.get(f"http://{HOST}:{desk.server.port}/{link}")
    assert answer.content.startswith(b"fLaC")
    assert desk.complaints == []


def test_the_spectrogram_shows_the_crack_where_it_is_marked(desk: Visit, past: Past) -> None:
    past.keep(bang(), clips=("near",))
    desk.open("/#event/event-1")
    expect(desk.page.locator(".player canvas")).to_be_visible()
    onset_share = desk.page.locator(".player canvas").evaluate(
        """(canvas) => {
            const ratio = devicePixelRatio;
            const left = 30 * ratio;
            const row = canvas.getContext("2d").getImageData(left, 150 * ratio, canvas.width - left, 1).data;
            const light = Array.from({ length: canvas.width - left }, (_, x) => row[4 * x] + row[4 * x + 1]);
            return light.indexOf(Math.max(...light)) / light.length;
        }"""
    )
    assert onset_share == pytest.approx(0.25, abs=0.02)


def test_a_clip_that_comes_later_appears_by_itself(desk: Visit, past: Past) -> None:
    past.keep(bang())
    desk.open("/#event/event-1")
    expect(desk.page.locator(".player")).to_contain_text("No sound has come in yet")
    detection = heard_by("near", bang(time_ns=past.hub.picture.events["event-1"].time_ns))
    past.store.keep(Batch(clips=[clip_of(detection)]))
    past.hub.publish(ClipStored(node="near", detection=detection.id, events=["event-1"]))
    expect(desk.page.locator(".record-section .wave")).to_have_count(1)
    expect(desk.page.locator(".play")).to_be_enabled()


def test_the_circles_of_the_arrivals_meet_where_the_event_was(desk: Visit, past: Past) -> None:
    past.keep(bang())
    desk.open("/#event/event-1")
    toggle = desk.page.get_by_role("button", name="Circles on the map")
    expect(desk.page.locator("path.range")).to_have_count(0)
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    expect(desk.page.locator("path.range:not(.is-unused)")).to_have_count(3)
    expect(desk.page.locator("path.range.is-unused")).to_have_count(1)
    # As far as each arrival is late, in pixels; the circle of one that is on time goes through the event.
    gaps = desk.page.evaluate(
        """() => {
            const event = document.querySelector(".event .event-sign").getBoundingClientRect();
            const [x, y] = [event.x + event.width / 2, event.y + event.height / 2];
            return [...document.querySelectorAll("path.range:not(.is-unused)")].map((path) => {
                const toScreen = path.getScreenCTM();
                const steps = Array.from({ length: 2000 }, (_, step) => (step / 2000) * path.getTotalLength());
                const points = steps.map((step) => path.getPointAtLength(step).matrixTransform(toScreen));
                return Math.min(...points.map((point) => Math.hypot(point.x - x, point.y - y)));
            });
        }"""
    )
    assert max(gaps) < 3.0
    toggle.click()
    expect(desk.page.locator("path.range")).to_have_count(0)


def test_what_changed_from_revision_to_revision_is_told(desk: Visit, past: Past) -> None:
    at_ns = time.time_ns() - 5 * 10**9
    first = bang(time_ns=at_ns, status="preliminary", probability=0.81, reason="Four nodes heard it.")
    second = bang(time_ns=at_ns, lat=place_m(3.0)[0], ellipse95=Ellipse(semi_major_m=6, semi_minor_m=3, bearing_deg=0))
    past.keep(first)
    past.keep(msgspec.structs.replace(second, revision=1))
    desk.open("/#event/event-1")
    lines = desk.page.locator(".revisions li")
    expect(lines.nth(0)).to_contain_text(re.compile("preliminary, 5.* after the bang.*81.%"))
    expect(lines.nth(1)).to_contain_text("moved 3.0 m; ellipse 12 m → 6.0 m; probability 81 % → 97.3 %; no more doubt")
    desk.page.get_by_role("link", name="Evidence bundle").wait_for()
    link = desk.page.get_by_role("link", name="GeoJSON").get_attribute("href")
    found = httpx.get(f"http://{HOST}:{desk.server.port}/{link}").json()
    assert [feature["id"] for feature in found["features"]] == ["event-1"]


def test_the_address_of_an_event_can_be_copied(browser: Browser, past: Past) -> None:
    past.keep(bang())
    for visit in visit_with(browser, past.hub, store=past.store, permissions=["clipboard-read", "clipboard-write"]):
        visit.open("/#event/event-1")
        visit.page.get_by_role("button", name="Copy link").click()
        expect(visit.page.get_by_role("button", name="Copied")).to_be_visible()
        assert visit.page.evaluate("navigator.clipboard.readText()") == visit.page.url


def test_events_are_judged_by_keyboard_and_a_judgement_can_be_changed(desk: Visit, past: Past) -> None:
    now_ns = time.time_ns()
    for age in (1, 2, 3):
        past.keep(bang(age, time_ns=now_ns - age * 60 * 10**9), clips=("near",))
    past.review("event-3", "other")
    desk.open("/#review")
    expect(desk.page.locator(".queue-left")).to_have_text("2 events to review")
    expect(desk.page).to_have_url(re.compile("#review/event-1$"))
    desk.page.get_by_label("Your name").fill("Grace")
    desk.page.locator("h2").focus()
    desk.page.keyboard.press("Space")
    expect(desk.page.locator(".play")).to_have_text("Stop")
    desk.page.keyboard.press("g")
    expect(desk.page).to_have_url(re.compile("#review/event-2$"))
    expect(desk.page.locator(".queue-left")).to_have_text("1 event to review")
    expect(desk.page.locator("#announcement")).to_contain_text("judged gunshot. 1 event to review")
    assert past.verdict("event-1") == "gunshot"
    desk.page.keyboard.press("k")
    expect(desk.page.locator("[data-verdict='gunshot']")).to_have_attribute("aria-pressed", "true")
    expect(desk.page.locator(".review-state")).to_contain_text("Gunshot, said by Grace on")
    desk.page.get_by_label("Note").fill("Children with bangers")
    desk.page.locator("h2").focus()
    desk.page.keyboard.press("f")
    expect(desk.page).to_have_url(re.compile("#review/event-2$"))
    assert past.said("event-1") == ["gunshot", "fireworks"]
    desk.page.keyboard.press("u")
    expect(desk.page.locator(".queue-left")).to_have_text("0 events to review")
    assert past.verdict("event-2") == "unsure"
    desk.page.get_by_role("button", name="Take back").click()
    expect(desk.page.locator(".queue-left")).to_have_text("1 event to review")
    assert past.verdict("event-2") is None
    assert desk.complaints == []


def test_who_has_no_name_yet_is_asked_for_it_and_it_is_remembered(desk: Visit, past: Past) -> None:
    past.keep(bang())
    desk.open("/#event/event-1")
    desk.page.get_by_role("button", name="Unsure").click()
    expect(desk.page.get_by_label("Your name")).to_be_focused()
    expect(desk.page.locator(".review-state")).to_have_text("Say who you are first.")
    assert past.verdict("event-1") is None
    desk.page.keyboard.type("Grace, fog")
    desk.page.get_by_role("button", name="Unsure").click()
    expect(desk.page.locator(".review-state")).to_contain_text("Unsure, said by Grace, fog on")
    assert past.said("event-1") == ["unsure"]
    desk.page.reload()
    expect(desk.page.get_by_label("Your name")).to_have_value("Grace, fog")


def test_reviews_of_others_and_new_events_arrive_while_one_reviews(desk: Visit, past: Past) -> None:
    now_ns = time.time_ns()
    past.keep(bang(1, time_ns=now_ns - 60 * 10**9), bang(2, time_ns=now_ns - 120 * 10**9))
    desk.open("/#review/event-2")
    expect(desk.page.locator(".queue-left")).to_have_text("2 events to review")
    desk.page.get_by_label("Note").fill("still typing")
    past.review("event-2", "gunshot", "A dog barked after it")
    note = "A dog barked after it"
    told = Reviewed(event="event-2", verdict="gunshot", reviewer="Ada", note=note, reviewed_ns=now_ns)
    past.hub.publish(told)
    expect(desk.page.locator(".queue-left")).to_have_text("1 event to review")
    expect(desk.page.locator(".review-state")).to_contain_text("Gunshot, said by Ada")
    expect(desk.page.get_by_label("Note")).to_have_value("still typing")
    past.keep(bang(3))
    expect(desk.page.locator(".queue-left")).to_have_text("2 events to review")
    expect(desk.page).to_have_url(re.compile("#review/event-2$"))


def test_a_review_that_cannot_be_stored_says_so(desk: Visit, past: Past) -> None:
    past.keep(bang())
    desk.open("/#event/event-1")
    desk.page.get_by_label("Your name").fill("Grace")
    desk.page.route("**/review", lambda route: route.abort())
    desk.page.get_by_role("button", name="Other").click()
    expect(desk.page.locator(".review-state")).to_contain_text("Not stored:")
    assert past.verdict("event-1") is None


def test_a_script_in_a_note_or_a_reviewers_name_stays_text(desk: Visit, past: Past) -> None:
    script = "<img src=x onerror=\"document.title='taken'\">"
    past.keep(bang())
    past.review("event-1", "other", script, script)
    desk.open("/#event/event-1")
    expect(desk.page.locator(".review-state")).to_contain_text(script)
    expect(desk.page.get_by_label("Note")).to_have_value(script)
    assert desk.page.title() == "soundranger"
    assert desk.page.locator("img").count() == 0


def test_an_event_is_found_again_by_what_is_known_of_it(desk: Visit, past: Past) -> None:
    now_ns = time.time_ns()
    past.keep(
        bang(1, time_ns=now_ns - 60 * 10**9, probability=0.4),
        bang(2, time_ns=now_ns - 120 * 10**9, probability=0.95),
        bang(3, time_ns=now_ns - 180 * 10**9, probability=0.99, lat=LAT + 1.0),
        bang(4, time_ns=now_ns - 3 * 86_400 * 10**9, probability=0.95),
    )
    past.review("event-2", "fireworks")
    desk.open("/#search")
    items = desk.page.locator(".list.events li")
    expect(items).to_have_count(4)
    desk.page.get_by_label("Certainty").select_option("0.9")
    desk.page.get_by_role("button", name="Search").click()
    expect(items).to_have_count(3)
    desk.page.get_by_label("Only what the map shows").check()
    desk.page.get_by_role("button", name="Search").click()
    expect(items).to_have_count(2)
    desk.page.get_by_role("combobox", name="Review").select_option("none")
    desk.page.get_by_role("button", name="Search").click()
    expect(items).to_have_count(1)
    desk.page.get_by_role("combobox", name="Review").select_option("fireworks")
    desk.page.get_by_role("button", name="Search").click()
    expect(items).to_contain_text("Fireworks")
    link = desk.page.get_by_role("link", name="CSV").get_attribute("href")
    table = httpx.get(f"http://{HOST}:{desk.server.port}/{link}").text
    assert "event-2" in table
    assert "event-4" not in table
    items.locator("a").click()
    expect(desk.page).to_have_url(re.compile("#event/event-2$"))
    desk.page.go_back()
    expect(desk.page.get_by_label("Certainty")).to_have_value("0.9")
    expect(items).to_have_count(1)
    assert desk.complaints == []


def test_a_search_by_time_takes_local_time(desk: Visit, past: Past) -> None:
    # 2026-01-02 03:04:05 UTC, 12:04:05 in Tokyo.
    past.keep(bang(1, time_ns=1_767_323_045_000_000_000))
    desk.open("/#search")
    items = desk.page.locator(".list.events li")
    expect(items).to_have_count(1)
    desk.page.get_by_label("From").fill("2026-01-02T12:05")
    desk.page.get_by_role("button", name="Search").click()
    expect(items).to_have_count(0)
    expect(desk.page.get_by_text("No event is like that.")).to_be_visible()
    desk.page.get_by_label("From").fill("2026-01-02T12:04")
    desk.page.get_by_role("button", name="Search").click()
    expect(items).to_contain_text("12:04:05.0")
    expect(desk.page).to_have_url(re.compile("since=2026-01-02T03%3A04%3A00.000Z"))


def test_results_come_page_by_page(desk: Visit, past: Past) -> None:
    now_ns = time.time_ns()
    past.store.keep(Batch(told=[(now_ns, bang(age, time_ns=now_ns - age * 10**9)) for age in range(130)]))
    desk.open("/#search?status=final")
    expect(desk.page.locator(".list.events li")).to_have_count(100)
    desk.page.get_by_role("button", name="Show more").click()
    expect(desk.page.locator(".list.events li")).to_have_count(130)
    expect(desk.page.get_by_role("button", name="Show more")).to_be_hidden()


def rounds(offsets_s: tuple[float, ...], at_ns: int) -> list[Event | Incident]:
    events = [bang(index, time_ns=at_ns + round(offset * 1e9)) for index, offset in enumerate(offsets_s)]
    incident = Incident(
        id="incident-1",
        revision=len(events),
        start_time_ns=events[0].time_ns,
        end_time_ns=events[-1].time_ns,
        lat=LAT,
        lon=LON,
        rounds=len(events),
        events=[one.id for one in events],
    )
    return [*events, incident]


def test_an_incident_shows_its_rounds_along_time_with_their_cadence(desk: Visit, past: Past) -> None:
    at_ns = time.time_ns() - 10 * 10**9
    past.keep(*rounds((0.0, 0.5, 1.0, 3.0), at_ns))
    past.keep(bang(77))
    desk.open("/#incidents")
    desk.page.locator(".list.incidents a").click()
    expect(desk.page.locator("h2")).to_contain_text("4 rounds at")
    told = " ".join(desk.page.locator(".facts").inner_text().split())
    assert "Lasted 3.00 s Between rounds 0.50 to 2.00 s, mostly about 0.50 s Rounds a minute 60" in told
    xs = [number(line, "x1") for line in desk.page.locator(".strip .round line").all()]
    steps = np.diff(xs) / (xs[-1] - xs[0])
    assert steps.tolist() == pytest.approx([1 / 6, 1 / 6, 2 / 3], abs=0.01)
    expect(desk.page.locator(".list.rounds .item-age")).to_have_text(
        ["first", "0.50 s later", "0.50 s later", "2.00 s later"]
    )
    expect(desk.page.locator(".event[data-event]")).to_have_count(4)
    past.keep(*rounds((0.0, 0.5, 1.0, 3.0, 4.0), at_ns)[4:])
    expect(desk.page.locator(".list.rounds li")).to_have_count(5)
    desk.page.locator(".strip .round").first.click()
    expect(desk.page).to_have_url(re.compile("#event/event-0$"))


def test_the_quality_page_keeps_unknown_apart_from_false(desk: Visit, past: Past) -> None:
    past.keep(*(bang(index, time_ns=1_767_323_045_000_000_000 + index * 10**9) for index in range(6)))
    for index, verdict in enumerate(("gunshot", "gunshot", "gunshot", "fireworks", "unsure")):
        past.review(f"event-{index}", verdict)  # type: ignore[arg-type]
    desk.open("/#quality")
    row = desk.page.locator(".quality tbody tr")
    expect(row.locator("th")).to_have_text("2026-01")
    expect(row.locator("td")).to_have_text(["6", "3", "1", "0", "1", "1", "75.0 %"])
    link = desk.page.get_by_role("link", name="CSV").get_attribute("href")
    assert "2026-01" in httpx.get(f"http://{HOST}:{desk.server.port}/{link}").text
    past.review("event-5", "other")
    past.hub.publish(
        Reviewed(event="event-5", verdict="other", reviewer="Ada", note="", reviewed_ns=1_767_323_045_000_000_000)
    )
    expect(row.locator("td").last).to_have_text("60.0 %")


def test_older_events_are_on_the_map_and_open_by_a_click(desk: Visit, past: Past) -> None:
    now_ns = time.time_ns()
    east = [bang(age, time_ns=now_ns - age * 10**9, lon=LON + 0.004) for age in range(1, 200)]
    oldest = bang(999, time_ns=now_ns - 3600 * 10**9, lon=LON - 0.004, lat=LAT + 0.002)
    past.store.keep(Batch(told=[(now_ns, one) for one in [*east, oldest]]))
    desk.open()
    expect(desk.page.locator(".list.events li")).to_have_count(200)
    box = desk.page.locator("#map").bounding_box()
    assert box is not None
    spot = desk.page.evaluate(
        """() => {
            const canvas = document.querySelector("canvas.crowd");
            const { width, height } = canvas;
            const pixels = canvas.getContext("2d").getImageData(0, 0, width / 2, height).data;
            const solid = [];
            for (let index = 0; index < pixels.length; index += 4) {
                if (pixels[index + 3] > 60 && pixels[index] > 150 && pixels[index + 1] < 110) solid.push(index / 4);
            }
            const middle = solid[Math.floor(solid.length / 2)];
            const box = canvas.getBoundingClientRect();
            return [box.x + (middle % (width / 2)), box.y + Math.floor(middle / (width / 2))];
        }"""
    )
    desk.page.mouse.click(*spot)
    expect(desk.page).to_have_url(re.compile("#event/event-999$"))
    expect(desk.page.locator(".record-section .row")).to_have_count(5)


def test_a_new_event_shows_at_once_among_thousands(desk: Visit, past: Past) -> None:
    now_ns = time.time_ns()
    past.store.keep(Batch(told=[(now_ns, bang(age, time_ns=now_ns - age * 10**9)) for age in range(1, 2_000)]))
    desk.open()
    expect(desk.page.locator("#event-count")).not_to_have_text(re.compile("^0"), timeout=PATIENCE_MS)
    began = time.monotonic()
    past.hub.publish(bang(5_000))
    desk.page.locator(".event[data-event='event-5000']").wait_for()
    assert time.monotonic() - began < 1.0


def test_the_keys_are_listed_on_a_question_mark(desk: Visit) -> None:
    desk.open()
    desk.page.keyboard.press("?")
    expect(desk.page.get_by_role("dialog", name="Keys")).to_contain_text("gunshot, fireworks, other, unsure")
    desk.page.keyboard.press("Escape")
    expect(desk.page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize(
    "view",
    ["#event/event-1", "#review", "#review/event-1", "#search", "#quality", "#incidents", "#incident/incident-1"],
)
def test_a_phone_has_room_for_every_view(phone: Visit, past: Past, view: str) -> None:
    past.keep(*rounds((0.0, 0.5, 1.0), time.time_ns() - 10**9), clips=("near", "far"))
    past.review("event-2", "other", "w" * 2000, "w" * 128)
    phone.open(f"/{view}")
    expect(phone.page.locator("h2")).to_be_visible()
    phone.page.wait_for_timeout(500)
    assert phone.overflow_px() == 0
    # Only the panel scrolls.
    assert phone.page.evaluate("document.documentElement.scrollHeight - innerHeight") <= 0
    for target in phone.page.locator("a:visible, button:visible, summary, input:visible, select:visible").all():
        box = target.bounding_box()
        assert box is not None
        smallest = 18.0 if target.get_attribute("type") == "checkbox" else 40.0
        assert min(box["width"], box["height"]) >= smallest or "round" in (target.get_attribute("class") or "")
    assert phone.complaints == []
