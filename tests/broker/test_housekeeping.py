"""Housekeeping: what is too old goes by itself, while the centre runs."""

import time
from pathlib import Path

import pytest
from tests.broker.test_storage import NOW_NS, an_event, events, keep_event

from soundranger_broker import housekeeping
from soundranger_broker.housekeeping import Housekeeping
from soundranger_broker.storage.retention import DAY_NS, Limit
from soundranger_broker.storage.store import Store


def test_what_is_too_old_goes_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "FIRST_S", 0.01)
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.01)
    store = Store.open(str(tmp_path / "centre.db"))
    keeping = Housekeeping(store, {"events": Limit(1.0)}, lambda: NOW_NS)
    keeping.start()
    for round_ in range(2):
        keep_event(store, an_event(f"old-{round_}", 0, NOW_NS - 2 * DAY_NS))
        keep_event(store, an_event(f"new-{round_}", 0, NOW_NS))
        end_s = time.monotonic() + 20.0
        while any(name.startswith("old") for name in events(store)):
            assert time.monotonic() < end_s
            time.sleep(0.01)
    keeping.stop()
    assert sorted(events(store)) == ["new-0", "new-1"]
    store.close()
