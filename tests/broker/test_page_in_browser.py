"""The page as a person meets it, in a real browser that can reach this machine only."""

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pymap3d
import pytest
from playwright.sync_api import Browser, expect
from tests.broker.browsing import CHROMIUM, HOST, PATIENCE_MS, PHONE, PLACES, Visit, event, status, visit_with

from soundranger_broker.web.app import PageSettings, create_app
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.picture import Shot
from soundranger_broker.web.server import serve
from soundranger_node.messages import (
    Alternative,
    CentreStatus,
    ClockStatus,
    Incident,
    NodeFault,
    Refusal,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


@pytest.fixture
def hub() -> Hub:
    hub = Hub()
    for node in PLACES:
        hub.publish(status(node))
    return hub


@pytest.fixture
def desk(browser: Browser, hub: Hub) -> Iterator[Visit]:
    yield from visit_with(browser, hub, viewport={"width": 1280, "height": 800}, timezone_id="Asia/Tokyo")


@pytest.fixture
def phone(browser: Browser, hub: Hub) -> Iterator[Visit]:
    yield from visit_with(browser, hub, viewport=PHONE, has_touch=True, is_mobile=True)


def test_the_page_needs_no_internet_and_breaks_no_rule_of_its_own(desk: Visit) -> None:
    desk.hub.publish(event())
    desk.open()
    desk.page.locator(".list.events a").click()
    desk.page.get_by_role("button", name="Zoom to it").click()
    desk.page.get_by_role("button", name="Show all nodes").click()
    desk.page.wait_for_timeout(300)
    assert {urlsplit(url).hostname for url in desk.requests} == {HOST}
    assert desk.complaints == []


def test_an_event_appears_on_map_and_list_as_soon_as_it_is_published(desk: Visit) -> None:
    desk.open()
    expect(desk.page.locator(".empty")).to_contain_text("Nothing located yet")
    began = time.monotonic()
    desk.hub.publish(event())
    desk.page.locator(".list.events li").wait_for()
    assert time.monotonic() - began < 1.0
    expect(desk.page.locator(".event[data-event='event-1'].is-new")).to_be_visible()
    expect(desk.page.locator("path.ellipse")).to_have_count(1)
    expect(desk.page.locator("#event-count")).to_have_text(re.compile("1.event today"))
    expect(desk.page.locator("#announcement")).to_contain_text("New event at")


def test_a_preliminary_event_is_dashed_and_becomes_final_in_place(desk: Visit) -> None:
    desk.open()
    desk.hub.publish(event(status="preliminary"))
    outline = desk.page.locator("path.ellipse")
    expect(outline).to_have_css("stroke-dasharray", "6px, 5px")
    expect(desk.page.locator(".list.events li")).to_contain_text("preliminary")
    desk.hub.publish(event(revision=2, lat=52.3723))
    expect(outline).to_have_css("stroke-dasharray", "none")
    expect(outline).to_have_count(1)
    expect(desk.page.locator(".list.events li")).not_to_contain_text("preliminary")


def test_a_retracted_event_is_struck_through_and_leaves_the_map_after_a_moment(desk: Visit) -> None:
    desk.hub.publish(event())
    desk.open()
    expect(desk.page.locator("path.ellipse")).to_have_count(1)
    desk.hub.publish(event(revision=2, status="retracted", reason="Four of six arrivals belong to a later bang."))
    expect(desk.page.locator(".list.events .item-title")).to_have_css("text-decoration-line", "line-through")
    expect(desk.page.locator("path.ellipse[data-status='retracted']")).to_have_count(1)
    expect(desk.page.locator("path.ellipse")).to_have_count(0, timeout=20_000)
    expect(desk.page.locator("#event-count")).to_have_text(re.compile("0.events today"))


def test_an_opened_event_says_all_that_is_known_of_it(desk: Visit) -> None:
    # 2026-01-02 03:04:05.678 UTC.
    moment = 1_767_323_045_678_000_000
    desk.hub.publish(event(1, time_ns=moment, wind_mps=(3.0, 0.0), reason="One arrival is late."))
    desk.hub.publish(event(2, time_ns=moment + 300_000_000))
    desk.hub.publish(
        Incident(
            id="incident-1",
            revision=1,
            start_time_ns=moment,
            end_time_ns=moment + 300_000_000,
            lat=52.37,
            lon=4.9,
            rounds=2,
            events=["event-1", "event-2"],
        )
    )
    desk.hub.publish(Shot(id="shot-1", time_ns=moment, lat=52.3722, lon=4.9032))
    desk.open("/#event/event-1")
    told = " ".join(desk.page.locator("#content").inner_text().split())
    for part in (
        "Impulse at 12:04:05.6",
        "Final",
        "One arrival is late.",
        "2026-01-02 12:04:05.678",
        "2026-01-02 03:04:05.678",
        "52.372200, 4.903200",
        "12 m × 5.6 m, bearing 040°",  # noqa: RUF001 - a real sign of multiplication.
        "± 1.20 ms",
        "97.3 %",
        "341.3 m/s",
        "3.0 m/s from W (270°)",
        "0.0 m from here",
        "mill-2 290 m +21.00 no mill-1 340 m −0.25 yes",  # noqa: RUF001 - a real minus sign.
        "2 rounds from 12:04:05.6 to 12:04:05.9",
    ):
        assert part in told
    expect(desk.page.locator("path.link:not(.is-unused)")).to_have_count(1)
    expect(desk.page.locator("path.link.is-unused")).to_have_count(1)
    expect(desk.page.locator(".node[data-silent='true']")).to_have_text("mill-3")
    desk.page.locator(".names a", has_text="12:04:05.97").click()
    expect(desk.page.locator("h2")).to_contain_text("12:04:05.9")


def test_an_event_opens_from_the_map_and_closes_with_the_back_button(desk: Visit) -> None:
    desk.hub.publish(event())
    desk.open()
    desk.page.locator(".event[data-event='event-1']").click()
    expect(desk.page.locator("h2")).to_contain_text("Impulse at")
    desk.page.go_back()
    expect(desk.page.locator("h2")).to_have_text("Latest events")


def test_the_list_works_by_keyboard_alone(desk: Visit) -> None:
    desk.hub.publish(event())
    desk.open()
    desk.page.locator(".list.events a").focus()
    desk.page.keyboard.press("Enter")
    expect(desk.page.locator("h2")).to_be_focused()
    desk.page.keyboard.press("Shift+Tab")
    expect(desk.page.locator(".back")).to_be_focused()
    desk.page.keyboard.press("Enter")
    expect(desk.page.locator(".list.events a")).to_be_focused()


def test_health_is_shown_by_shape_and_counted(desk: Visit) -> None:
    desk.hub.publish(status("mill-2", time_ns=time.time_ns() - 200 * 10**9))
    desk.hub.publish(status("mill-3", online=False))
    desk.open("/#nodes")
    expect(desk.page.locator("#node-count")).to_have_text("1/3 nodes online")
    for name, state, shape in (
        ("mill-1", "online", "circle"),
        ("mill-2", "stale", "path"),
        ("mill-3", "offline", "rect"),
    ):
        marker = desk.page.get_by_role("button", name=f"Node {name}, {state}")
        expect(marker.locator(shape).first).to_be_visible()
    desk.page.get_by_role("button", name="Node mill-1, online").click()
    expect(desk.page.locator("#content")).to_contain_text(re.compile("pps, within 2.0.µs"))
    expect(desk.page.locator("#content")).to_contain_text(re.compile("61.5.dBFS"))


def test_an_opened_node_says_what_does_not_work_and_what_it_has_lost(desk: Visit) -> None:
    problem = "microphone: is unplugged; plug it in"
    desk.hub.publish(
        status(
            "mill-2",
            clock=ClockStatus(tier="free", good=False, source="kernel", why="nobody has set the clock"),
            undated=12,
            lost=5,
            lost_to={"size": 3, "undatable": 2},
            interruptions=4,
            problems=[problem, "the place is still being surveyed in"],
        )
    )
    desk.open("/#node/mill-2")
    expect(desk.page.locator(".reason")).to_have_text([problem, "the place is still being surveyed in"])
    told = " ".join(desk.page.locator("#content").inner_text().split())
    for part in (
        "Clock free, not good yet",
        "Clock, in words nobody has set the clock",
        "Waiting for the clock 12",
        "Lost 5 (size 3, undatable 2)",
        "Interruptions 4",
    ):
        assert part in told
    desk.page.goto(desk.page.url.replace("mill-2", "mill-1"))
    expect(desk.page.locator("h2")).to_have_text("mill-1")
    assert "Interruptions" not in desk.page.locator("#content").inner_text()


def test_a_script_in_a_name_or_a_text_is_shown_as_text(desk: Visit) -> None:
    script = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    # Decoding would refuse such a name; the page must not depend on that.
    desk.hub.publish(status(script))
    desk.hub.publish(event(label=script, reason=script, silent=[script]))
    desk.open()
    expect(desk.page.locator(".node-name", has_text="<script>")).to_have_text(script)
    desk.page.locator(".list.events a").click()
    expect(desk.page.locator(".reason")).to_have_text(script)
    expect(desk.page.locator("h2")).to_contain_text(script)
    desk.page.locator(".names a", has_text="<script>").click()
    expect(desk.page.locator("h2")).to_have_text(script)
    assert desk.page.title() == "soundranger"
    assert desk.page.locator("img, body script").count() == 0
    assert desk.complaints == []


def test_the_page_comes_back_by_itself_after_a_restart_with_what_is_true_then(desk: Visit) -> None:
    desk.hub.publish(event())
    desk.open()
    expect(desk.page.locator(".list.events li")).to_have_count(1)
    desk.server.stop()
    expect(desk.page.locator("#connection")).to_have_text("reconnecting…")
    after = Hub()
    after.publish(status("mill-9"))
    desk.server = serve(create_app(after), HOST, desk.server.port)
    expect(desk.page.locator("#connection")).to_have_text("live", timeout=20_000)
    expect(desk.page.locator(".node-name")).to_have_text(["mill-9"])
    expect(desk.page.locator(".list.events li")).to_have_count(0)
    after.publish(event(2))
    expect(desk.page.locator(".list.events li")).to_have_count(1)


def test_a_connection_that_went_silent_is_replaced(desk: Visit) -> None:
    desk.page.clock.install()
    desk.open()
    desk.page.clock.fast_forward(30_000)
    assert sum(url.startswith("ws:") for url in desk.requests) == 1
    with desk.page.expect_websocket():
        desk.page.clock.fast_forward(15_000)
        desk.page.clock.fast_forward(1_000)
    expect(desk.page.locator("#connection")).to_have_text("live", timeout=PATIENCE_MS)


def test_the_first_view_holds_all_nodes_and_follows_new_ones_until_a_person_moves_it(desk: Visit) -> None:
    desk.open()
    names = desk.page.locator(".node-name")
    expect(names).to_have_count(3)
    for name in PLACES:
        expect(names.get_by_text(name)).to_be_in_viewport(ratio=1)
    desk.hub.publish(status("far-away", lat=52.40, lon=4.95))
    expect(names.get_by_text("far-away")).to_be_in_viewport(ratio=1)
    desk.page.locator("#map").hover()
    desk.page.mouse.wheel(0, -600)
    expect(names.get_by_text("far-away")).not_to_be_in_viewport()
    desk.hub.publish(status("farther", lat=52.45, lon=4.99))
    expect(names).to_have_count(5)
    expect(names.get_by_text("farther")).not_to_be_in_viewport()
    desk.page.get_by_role("button", name="Show all nodes").click()
    expect(names.get_by_text("farther")).to_be_in_viewport(ratio=1)


def test_without_tiles_there_is_a_metric_grid_and_a_scale_bar(desk: Visit) -> None:
    desk.open()
    expect(desk.page.locator(".grid canvas").first).to_be_visible()
    expect(desk.page.locator(".grid-label")).to_have_text(re.compile(r"grid \d+.m"))
    expect(desk.page.locator(".leaflet-control-scale-line")).to_have_text(re.compile(r"\d+ m"))
    inks = desk.page.evaluate(
        "[...document.querySelectorAll('.grid canvas')].map((tile) => tile.getContext('2d')"
        ".getImageData(0, 0, tile.width, tile.height).data.some((byte) => byte !== 0))"
    )
    assert inks
    assert all(inks)


def test_the_grid_lines_are_as_far_apart_as_they_say(desk: Visit) -> None:
    desk.open()
    steps = desk.page.evaluate(
        "import('/static/grid.js').then((grid) => [8, 10, 13, 16, 19].map((zoom) => grid.gridIntervalM(52, zoom)))"
    )
    assert steps == [50_000, 10_000, 1_000, 100, 20]


@pytest.mark.parametrize("shown", [True, False])
def test_map_tiles_cover_the_grid_and_where_they_fail_it_stays(browser: Browser, hub: Hub, shown: bool) -> None:
    # Any picture will do for a tile; the page's own icon is at hand.
    path = "/static/icon.svg?{z}/{x}/{y}" if shown else "/static/none/{z}/{x}/{y}.png"
    settings = PageSettings(path, "Somebody's <b>map</b>")
    for visit in visit_with(browser, hub, settings, viewport={"width": 800, "height": 600}):
        visit.open()
        expect(visit.page.locator(".grid canvas").first).to_be_visible()
        if shown:
            expect(visit.page.locator("img.leaflet-tile-loaded").first).to_be_visible()
            expect(visit.page.locator(".attribution")).to_have_text("Somebody's <b>map</b>")
        else:
            expect(visit.page.locator("img.leaflet-tile").first).to_be_hidden()
            expect(visit.page.locator(".attribution")).to_have_text("")


@pytest.mark.parametrize("bearing_deg", [0.0, 37.0, 90.0, 171.0])
def test_the_outline_has_the_axes_and_the_bearing_of_the_ellipse(desk: Visit, bearing_deg: float) -> None:
    desk.open()
    lat, lon = 52.37, 4.9
    outline = desk.page.evaluate(
        "([lat, lon, ellipse]) => import('/static/ellipse.js').then((made) => made.ellipseOutline(lat, lon, ellipse))",
        [lat, lon, {"semi_major_m": 300.0, "semi_minor_m": 80.0, "bearing_deg": bearing_deg}],
    )
    azimuths, distances = [], []
    for corner in outline:
        azimuth, _, distance = pymap3d.geodetic2aer(corner[0], corner[1], 0.0, lat, lon, 0.0)
        azimuths.append(float(azimuth))
        distances.append(float(distance))
    farthest = max(range(len(outline)), key=distances.__getitem__)
    assert max(distances) == pytest.approx(300.0, rel=1e-3)
    assert min(distances) == pytest.approx(80.0, rel=1e-3)
    assert (azimuths[farthest] - bearing_deg + 90.0) % 180.0 - 90.0 == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("view", ["#", "#nodes", "#node/mill-1", "#event/event-1", "#event/unknown"])
def test_nothing_is_wider_than_a_phone_and_all_that_is_tapped_is_large_enough(phone: Visit, view: str) -> None:
    long_text = "w" * 200
    phone.hub.publish(status(long_text[:64], version=long_text))
    phone.hub.publish(
        status(
            "mill-1", problems=[long_text], clock=ClockStatus(tier="free", why=long_text), lost=1, lost_to={"w" * 32: 1}
        )
    )
    phone.hub.publish(a_refusal(reason=long_text))
    phone.hub.publish(
        centre(problems=[long_text], faults=[msgspec.structs.replace(late_clock("mill-1"), text=long_text)])
    )
    phone.hub.publish(event(label=long_text, reason=long_text, silent=[long_text[:64]]))
    phone.open(f"/{view}")
    assert phone.overflow_px() == 0
    boxes = [target.bounding_box() for target in phone.page.locator("a:visible, button:visible, summary").all()]
    assert len(boxes) > 5
    assert min(min(box["width"], box["height"]) for box in boxes if box) >= 40.0


def test_the_sheet_on_a_phone_grows_when_asked(phone: Visit) -> None:
    phone.open()
    panel = phone.page.locator(".panel")
    before = panel.bounding_box()
    phone.page.locator("#handle").tap()
    after = panel.bounding_box()
    assert before is not None
    assert after is not None
    assert after["height"] > before["height"] + 100
    expect(phone.page.locator("#handle")).to_have_attribute("aria-expanded", "true")


def test_nothing_moves_for_those_who_asked_for_less_motion(browser: Browser, hub: Hub) -> None:
    for visit in visit_with(browser, hub, reduced_motion="reduce"):
        visit.open()
        visit.hub.publish(event())
        expect(visit.page.locator(".event.is-new")).to_be_visible()
        assert visit.page.evaluate("document.getAnimations().length") == 0


def a_refusal(number: int = 1, **changes: Any) -> Refusal:
    made = Refusal(
        id=f"refused-{number}",
        time_ns=time.time_ns(),
        lat=52.372,
        lon=4.903,
        nodes=["mill-1", "mill-2", "mill-3"],
        detections=["a", "b", "c"],
        reason="Three nodes (mill-1, mill-2 and mill-3) heard something at 12:00:01 UTC, four are needed.",
    )
    return msgspec.structs.replace(made, **changes)


def centre(**changes: Any) -> CentreStatus:
    return msgspec.structs.replace(CentreStatus(online=True, time_ns=time.time_ns(), version="0.1.0"), **changes)


def late_clock(node: str = "mill-2") -> NodeFault:
    text = "clock is late by 310 ms (from fourteen bangs)"
    return NodeFault(node=node, kind="clock", size_s=0.31, sigma_s=0.01, since_ns=time.time_ns(), bangs=14, text=text)


def test_what_was_heard_and_not_located_is_listed_with_the_reason_by_keyboard_too(desk: Visit) -> None:
    desk.open()
    part = desk.page.locator(".refused")
    expect(part).to_be_hidden()
    desk.hub.publish(a_refusal(1))
    desk.hub.publish(a_refusal(2, left_out=7))
    expect(part.locator("summary")).to_have_text("Heard, not located (2)")
    part.locator("summary").focus()
    desk.page.keyboard.press("Enter")
    expect(part.locator("li")).to_have_count(2)
    expect(part.locator("li").first).to_contain_text("four are needed. Before it, 7 more were not told.")
    desk.hub.publish(event())
    expect(desk.page.locator(".list.events li")).to_have_count(1)
    expect(part.locator("li").last).to_be_visible()


def test_a_fault_that_bangs_have_told_is_said_at_the_node_until_it_is_gone(desk: Visit) -> None:
    desk.hub.publish(centre(faults=[late_clock()]))
    desk.open("/#nodes")
    line = desk.page.locator(".list.nodes li", has_text="mill-2")
    expect(line).to_contain_text("clock is late by 310 ms")
    line.locator("a").click()
    expect(desk.page.locator(".fault")).to_have_text("Its clock is late by 310 ms (from fourteen bangs)")
    desk.hub.publish(centre())
    expect(desk.page.locator(".fault")).to_have_count(0)


def test_the_page_says_when_the_middle_is_not_ready(desk: Visit) -> None:
    desk.hub.publish(centre(problems=["compiling the locator"]))
    desk.open()
    expect(desk.page.locator(".centre-problem")).to_have_text("compiling the locator")
    desk.hub.publish(centre())
    expect(desk.page.locator(".centre-problem")).to_be_hidden()


def test_another_place_where_it_may_have_been_is_told(desk: Visit) -> None:
    desk.hub.publish(event(alternatives=[Alternative(lat=52.3722, lon=4.9076, probability=0.2)]))
    desk.open("/#event/event-1")
    told = " ".join(desk.page.locator("#content").inner_text().split())
    assert "Or perhaps at 52.372200, 4.907600, 300 m from here: 20 %" in told
