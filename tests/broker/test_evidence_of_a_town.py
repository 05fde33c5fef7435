"""Evidence from end to end: a town fires, real nodes hear it, sign, and give their sound; its bundle holds."""

import threading
import time
from pathlib import Path

import pytest

from soundranger_broker.centre import Centre
from soundranger_broker.evidence.bundle import bundle
from soundranger_broker.evidence.verify import verify
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import EmbeddedBroker
from soundranger_broker.simulate import SimulatedTown
from soundranger_broker.storage import reading
from soundranger_broker.storage.reading import Wanted
from soundranger_broker.storage.store import Store
from soundranger_broker.web.hub import Hub

LATENESS_NS = 1_500_000_000
FIRE_S = 16.0
CLIPS_S = 20.0


def with_sound(store: Store) -> dict[str, int]:
    """Return how many clips there are of each final event."""
    with store.engine.begin() as connection:
        finals = [one.event for one in reading.all_events(connection, Wanted(statuses=["final"]))]
        return {one.id: len(reading.clip_headers_of(connection, one.id)) for one in finals}


@pytest.mark.slow
def test_bundles_of_what_a_town_fired_hold_by_arrivals_and_by_sound(tmp_path: Path) -> None:
    store, broker = Store.open(str(tmp_path / "centre.db")), EmbeddedBroker()
    centre = Centre(broker.address, Locator(LATENESS_NS), time.time_ns, Hub(), store=store)
    centre.start(10.0)
    town = SimulatedTown(7, 9, broker.address, FIRE_S)
    town.run(lambda _shot, _heard: None, threading.Event())
    town.drain()
    centre.conclude(10.0)
    end_s = time.monotonic() + CLIPS_S
    while time.monotonic() < end_s and (not with_sound(store) or min(with_sound(store).values()) < 5):
        time.sleep(0.5)
    town.close()
    centre.stop()
    broker.stop()
    found = with_sound(store)
    assert len(found) >= 2
    for name in found:
        path = tmp_path / f"{name}.zip"
        path.write_bytes(bundle(store, name, time.time_ns()))
        outcome = verify(path, store.head())
        assert [str(problem) for problem in outcome.problems] == []
        assert {one.verdict for one in outcome.signatures} == {"signed"}
    store.close()
