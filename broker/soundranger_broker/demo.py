"""The demonstration: broker, simulated town, locator and page in one process, and every bang with its true error."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from soundranger_broker.centre import Centre
from soundranger_broker.deciding import News
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import EmbeddedBroker
from soundranger_broker.scorecard import Line, Scorecard, Totals
from soundranger_broker.simulate import SimulatedTown
from soundranger_broker.simulation import Shot
from soundranger_broker.storage.store import temporary_store
from soundranger_broker.web.app import create_app
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.picture import Shot as ShotOnPage
from soundranger_broker.web.server import first_free_port, serve
from soundranger_node.messages import Event

# A node's pipeline and the broker deliver within this.
LATENESS_NS = 1_500_000_000
# How long the embedded broker may take to accept us.
CONNECT_S = 10.0
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
    card, lock, hub = Scorecard(), threading.Lock(), Hub()

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
        store = stack.enter_context(temporary_store())
        address = None
        if settings.port is not None:
            page = serve(create_app(hub, store=store), settings.host, first_free_port(settings.host, settings.port))
            stack.callback(page.stop)
            address = f"http://{settings.host}:{page.port}"
        broker = EmbeddedBroker()
        stack.callback(broker.stop)
        centre = Centre(broker.address, Locator(LATENESS_NS), time.time_ns, hub, on_news, store=store)
        centre.start(CONNECT_S)
        stack.callback(centre.stop)
        town = SimulatedTown(settings.seed, settings.nodes, broker.address, settings.duration_s)
        stack.callback(town.close)
        on_ready(address, town)
        town.run(on_shot, stopped)
        if not stopped.is_set():
            town.drain()
            centre.conclude(CONCLUDE_S)
        with lock:
            return card.totals()
