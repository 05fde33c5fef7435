"""A browser as a person uses it, that can reach this machine only; and what a small network tells it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from playwright.sync_api import Browser, Page, expect

from soundranger_broker.storage.store import Store
from soundranger_broker.web.app import PageSettings, create_app
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.server import PageServer, serve
from soundranger_node.messages import Arrival, ClockStatus, Ellipse, Event, NodeStatus

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
HOST = "127.0.0.1"
PHONE = {"width": 390, "height": 844}
PLACES = {"mill-1": (52.3700, 4.9000), "mill-2": (52.3745, 4.9010), "mill-3": (52.3725, 4.9080)}
# Generous: a message takes a few milliseconds, but the machine may be busy.
PATIENCE_MS = 10_000


def status(node: str, **changes: Any) -> NodeStatus:
    lat, lon = PLACES.get(node, (52.3730, 4.9030))
    made = NodeStatus(
        node=node,
        online=True,
        time_ns=time.time_ns(),
        version="0.1.0",
        lat=lat,
        lon=lon,
        alt_m=3.0,
        position_sigma_m=2.0,
        clock=ClockStatus(tier="pps", bound_s=2e-6),
        noise_dbfs=-61.5,
        outbox=7,
    )
    return msgspec.structs.replace(made, **changes)


def event(number: int = 1, **changes: Any) -> Event:
    made = Event(
        id=f"event-{number}",
        revision=1,
        status="final",
        time_ns=time.time_ns(),
        time_sigma_s=1.2e-3,
        lat=52.3722,
        lon=4.9032,
        alt_m=0.0,
        covariance_en_m2=((9.0, 0.0), (0.0, 4.0)),
        ellipse95=Ellipse(semi_major_m=12.4, semi_minor_m=5.6, bearing_deg=40.0),
        probability=0.973,
        speed_of_sound_mps=341.3,
        arrivals=[
            Arrival(detection="mill-1.1.1", node="mill-1", residual_s=-2.5e-4, distance_m=340.0, used=True),
            Arrival(detection="mill-2.1.1", node="mill-2", residual_s=0.021, distance_m=290.0, used=False),
        ],
        silent=["mill-3"],
    )
    return msgspec.structs.replace(made, **changes)


@dataclass
class Visit:
    """An open page, and all that it asked for and complained about."""

    page: Page
    hub: Hub
    server: PageServer
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> None:
        self.page.goto(f"http://{HOST}:{self.server.port}{path}")
        expect(self.page.locator("#connection")).to_have_text("live", timeout=PATIENCE_MS)

    def overflow_px(self) -> int:
        return int(
            self.page.evaluate(
                "Math.max(...['html', '#content', '.bar'].map((name) => document.querySelector(name))"
                ".map((box) => box.scrollWidth - box.clientWidth))"
            )
        )


def visit_with(
    browser: Browser, hub: Hub, settings: PageSettings | None = None, store: Store | None = None, **options: Any
) -> Iterator[Visit]:
    server = serve(create_app(hub, settings, store), HOST, 0)
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    visit = Visit(page, hub, server)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("websocket", lambda live: visit.requests.append(live.url))
    page.on("console", lambda message: visit.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    yield visit
    context.close()
    visit.server.stop()
