"""The demonstration: broker, simulated town, locator and page in one process, and every bang with its true error."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from soundranger_broker.centre import Centre, News
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import EmbeddedBroker
from soundranger_broker.scorecard import Line, Scorecard, Totals
from soundranger_broker.simulate import SimulatedTown
from soundranger_broker.simulation import Shot
from soundranger_broker.web.app import create_app
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.picture import Shot as ShotOnPage
from soundranger_broker.web.server import first_free_port, serve
from soundranger_node.messages import Event

# A node's pipeline and the broker deliver within this.
LATENESS_NS = 1_500_000_000
# How long the embedded broker may take to accept us.
CONNECT_S = 10.0
# Once the last sound has passed, everything is decided: the locator's clock is put forward by this to say so.
CONCLUDE_NS = 30_000_000_000
# How long the locator may take to conclude.
CONCLUDE_S = 10.0


@dataclass(frozen=True)
class DemoSettings:
    """What a demonstration is to do; no duration: until interrupted; no port: no page."""

    seed: int
    nodes: int
    duration_s: float | None
    host: str
    port: int | None


@dataclass
class _Clock:
    """The wall clock, which can be put forward."""

    ahead_ns: int = 0

    def now_ns(self) -> int:
        return time.time_ns() + self.ahead_ns


def run_demo(
    settings: DemoSettings,
    on_ready: Callable[[str | None, SimulatedTown], None],
    on_line: Callable[[Line], None],
    stopped: threading.Event,
) -> Totals:
    """Run a demonstration until its time is over or `stopped` is set, and return its totals.

    `on_ready` is told the address of the page and the town; `on_line` every event as it is published.

    Raises:
        SoundrangerError: the broker or the page could not be started.
    """
    card, lock, clock, hub = Scorecard(), threading.Lock(), _Clock(), Hub()

    def on_news(news: News) -> None:
        if isinstance(news, Event):
            with lock:
                line = card.published(news, time.time_ns())
            on_line(line)

    def on_shot(shot: Shot, heard: int) -> None:
        with lock:
            card.fired(shot, heard)
        hub.publish(ShotOnPage(id=shot.id, time_ns=shot.time_ns, lat=shot.lat, lon=shot.lon))

    with ExitStack() as stack:
        address = None
        if settings.port is not None:
            page = serve(create_app(hub), settings.host, first_free_port(settings.host, settings.port))
            stack.callback(page.stop)
            address = f"http://{settings.host}:{page.port}"
        broker = EmbeddedBroker()
        stack.callback(broker.stop)
        centre = Centre(broker.address, Locator(LATENESS_NS), clock.now_ns, hub, on_news)
        centre.start(CONNECT_S)
        stack.callback(centre.stop)
        town = SimulatedTown(settings.seed, settings.nodes, broker.address, settings.duration_s)
        stack.callback(town.close)
        on_ready(address, town)
        town.run(on_shot, stopped)
        if not stopped.is_set():
            town.drain()
            _conclude(centre, clock)
        with lock:
            return card.totals()


def _conclude(centre: Centre, clock: _Clock) -> None:
    """Let the locator decide what it still waits for."""
    clock.ahead_ns = CONCLUDE_NS
    give_up_s = time.monotonic() + CONCLUDE_S
    while centre.concluded_ns < clock.now_ns() - CONCLUDE_NS // 2 and time.monotonic() < give_up_s:
        time.sleep(0.05)
