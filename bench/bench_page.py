"""The page with a large network and a long past: how soon it shows, how soon a new event shows, and what it holds.

200 nodes and 5,000 events by default; then three hours of a bang a second, told ninety times as fast. Times are in
milliseconds, as the browser sees them; memory is the browser's heap after a collection. The page holds 5,000 events:
those that it only looked up are small, those that were told live have all their arrivals, so its memory grows until
all of them are of these, and not after.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
from playwright.sync_api import CDPSession, Page, sync_playwright

from soundranger_broker.storage.store import Batch, Store
from soundranger_broker.web.app import create_app
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.server import serve
from soundranger_node.messages import Arrival, ClockStatus, Ellipse, Event, NodeStatus

CHROMIUM: Final = Path("/usr/bin/chromium")
# As the tests start it: without a graphics card, which is the worst case.
ARGUMENTS: Final = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
HOST: Final = "127.0.0.1"
VIEWS: Final = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
MIDDLE: Final = (52.53, 5.23)
# Half the width of the town, degrees of latitude: 3 km.
REACH_DEG: Final = 0.027
ARRIVALS: Final = 12
PATIENCE_MS: Final = 60_000
# Notes when the sign of an event was drawn: at the frame after it is on the map.
WATCH: Final = """() => {
    window.drawn = new Map();
    new MutationObserver((changes) => {
        for (const change of changes) for (const added of change.addedNodes) {
            const sign = added.querySelector?.("[data-event]");
            if (sign) requestAnimationFrame(() => setTimeout(() => {
                window.drawn.set(sign.dataset.event, performance.timeOrigin + performance.now());
            }));
        }
    }).observe(document.querySelector(".leaflet-events-pane"), { childList: true });
}"""


class Town:
    """Nodes and events at random places."""

    def __init__(self, nodes: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.nodes = [
            NodeStatus(
                node=f"node-{number:03}",
                online=True,
                time_ns=time.time_ns(),
                version="bench",
                lat=self._near(0),
                lon=self._near(1),
                alt_m=0.0,
                position_sigma_m=1.0,
                clock=ClockStatus(tier="ntp", bound_s=0.004),
                noise_dbfs=-60.0,
            )
            for number in range(nodes)
        ]

    def _near(self, axis: int) -> float:
        return float(MIDDLE[axis] + self._rng.uniform(-REACH_DEG, REACH_DEG))

    def event(self, name: str, time_ns: int) -> Event:
        """Return an event that a dozen nodes heard."""
        heard = self._rng.choice(len(self.nodes), ARRIVALS, replace=False)
        arrivals = [
            Arrival(
                detection=f"{self.nodes[one].node}.{name}",
                node=self.nodes[one].node,
                residual_s=float(self._rng.normal(0.0, 2e-3)),
                distance_m=float(self._rng.uniform(100.0, 1_000.0)),
                used=True,
            )
            for one in heard
        ]
        return Event(
            id=name,
            revision=0,
            status="final",
            time_ns=time_ns,
            time_sigma_s=1e-3,
            lat=self._near(0),
            lon=self._near(1),
            alt_m=0.0,
            covariance_en_m2=((9.0, 0.0), (0.0, 4.0)),
            ellipse95=Ellipse(semi_major_m=self._rng.uniform(5.0, 60.0), semi_minor_m=5.0, bearing_deg=40.0),
            probability=float(self._rng.uniform(0.4, 0.999)),
            speed_of_sound_mps=340.0,
            arrivals=arrivals,
            silent=[],
        )


def fill(store: Store, hub: Hub, town: Town, events: int) -> None:
    """Let the centre have known the town for as many seconds as there are events."""
    now_ns = time.time_ns()
    past = [town.event(f"past-{age}", now_ns - age * 10**9) for age in range(events, 0, -1)]
    for first in range(0, events, 1_000):
        store.keep(Batch(told=[(now_ns, one) for one in past[first : first + 1_000]]))
    for node in town.nodes:
        hub.publish(node)
    for event in past:
        hub.publish(event)


def first_sight(page: Page, url: str, events: int) -> None:
    """Print how long a page that is opened takes."""
    began_s = time.monotonic()
    page.goto(url)
    page.locator("#connection[data-state='live']").wait_for(timeout=PATIENCE_MS)
    live_ms = 1_000 * (time.monotonic() - began_s)
    paint_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
    page.wait_for_function(
        "(least) => parseInt(document.querySelector('#event-count').textContent) >= least",
        arg=events - 1,
        timeout=PATIENCE_MS,
    )
    whole_ms = 1_000 * (time.monotonic() - began_s)
    print(f"first paint {paint_ms:.0f} ms, newest events {live_ms:.0f} ms, all {events} events {whole_ms:.0f} ms")


def new_events(page: Page, hub: Hub, town: Town, number: int, every_s: float) -> None:
    """Print how long new events take from being published to being drawn."""
    page.evaluate(WATCH)
    told_ms = {}
    for count in range(number):
        name = f"new-{time.time_ns()}-{count}"
        event = town.event(name, time.time_ns())
        told_ms[name] = time.time_ns() / 1e6
        hub.publish(event)
        page.wait_for_timeout(1_000 * every_s)
    drawn_ms = dict(page.evaluate("[...window.drawn]"))
    delays = [drawn_ms[name] - told for name, told in told_ms.items() if name in drawn_ms]
    median, p95, worst = np.percentile(delays, [50, 95, 100])
    print(f"a new event: median {median:.0f} ms, p95 {p95:.0f} ms, worst {worst:.0f} ms ({len(delays)} of {number})")


def panning(page: Page) -> None:
    """Print how long the page is busy when the map is dragged."""
    busy_ms = page.evaluate(
        """async () => {
            let longest = 0;
            let last = performance.now();
            const watch = () => {
                longest = Math.max(longest, performance.now() - last);
                last = performance.now();
                window.watching = requestAnimationFrame(watch);
            };
            watch();
            const plus = document.querySelector(".leaflet-control-zoom-in");
            const minus = document.querySelector(".leaflet-control-zoom-out");
            for (const button of [plus, plus, minus, minus]) {
                button.click();
                await new Promise((resolve) => setTimeout(resolve, 600));
            }
            cancelAnimationFrame(window.watching);
            return longest;
        }"""
    )
    print(f"longest time without a frame while zooming: {busy_ms:.0f} ms")


def long_time(page: Page, tools: CDPSession, hub: Hub, town: Town, bangs: int, faster: float) -> None:
    """Tell bangs for a long time, and print what the page holds meanwhile."""
    print("bangs told   heap MB   elements")
    for count in range(bangs + 1):
        if count % (bangs // 6) == 0:
            tools.send("HeapProfiler.collectGarbage")
            metrics = {one["name"]: one["value"] for one in tools.send("Performance.getMetrics")["metrics"]}
            print(f"{count:10}   {metrics['JSHeapUsedSize'] / 1e6:7.1f}   {metrics['Nodes']:8.0f}", flush=True)
        hub.publish(town.event(f"long-{time.time_ns()}", time.time_ns()))
        hub.publish(town.nodes[count % len(town.nodes)])
        page.wait_for_timeout(1_000 / faster)


def main() -> None:
    """Measure, on a desktop and on a phone's size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--bangs", type=int, default=10_800)
    parser.add_argument("--faster", type=float, default=90.0)
    asked = parser.parse_args()
    if not CHROMIUM.exists():
        print(f"{CHROMIUM} is not there: skipped")
        return
    hub, town = Hub(), Town(asked.nodes, seed=1)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        store = Store.open(str(Path(folder) / "centre.db"))
        fill(store, hub, town, asked.events)
        server = serve(create_app(hub, store=store), HOST, 0)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name, size in VIEWS.items():
            page = browser.new_page(viewport=size)  # type: ignore[arg-type]
            print(f"\n{name}, {asked.nodes} nodes")
            first_sight(page, f"http://{HOST}:{server.port}/", asked.events)
            panning(page)
            new_events(page, hub, town, 40, 1.0)
            if name == "desktop":
                tools = page.context.new_cdp_session(page)
                tools.send("Performance.enable")
                long_time(page, tools, hub, town, asked.bangs, asked.faster)
            page.close()
        browser.close()
        server.stop()
        store.close()


if __name__ == "__main__":
    main()
