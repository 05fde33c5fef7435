"""The lines of clock and GPS in `soundranger-node check`, with a real gpsd."""

from pathlib import Path

import pytest
from tests.node.timekeeping.conftest import Gpsd, Nmea

from soundranger_node.check.clock import probe
from soundranger_node.config import Clock

pytestmark = pytest.mark.slow


def test_a_gps_with_a_fix_is_found_within_the_patience_of_a_check(gpsd: Gpsd, tmp_path: Path) -> None:
    gpsd.play(Nmea().seconds(2_000))
    clock = Clock(source="trusted", gpsd=gpsd.address)
    results = probe(clock, tmp_path / "place.json")
    assert [result.name for result in results] == ["clock", "GPS"]
    assert results[1].verdict == "ok", results[1]
    assert "has a fix by" in results[1].found
    assert [result.name for result in probe(clock, None)] == ["clock"]
