"""A small town of nodes, and what they report of a bang: physics only, none of the code under test."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pymap3d
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, sync_playwright
from tests.broker.browsing import ARGUMENTS, CHROMIUM

from soundranger_broker.acoustics import speed_of_sound_mps, travel_time_s
from soundranger_node.messages import Detection

# 2026-01-01T00:00:00Z
EPOCH_NS = 1_767_225_600_000_000_000


@dataclass(frozen=True)
class Town:
    """Nodes on a jittered grid; places in metres east, north and up of the middle of the town."""

    lat: float = 48.137
    lon: float = 11.575
    side_m: float = 1200.0
    columns: int = 3
    seed: int = 1
    temperature_c: float = 15.0
    wind_mps: tuple[float, float] = (0.0, 0.0)
    sigma_s: float = 0.001
    places_m: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        cell = self.side_m / self.columns
        grid = np.array([(east, north) for north in range(self.columns) for east in range(self.columns)])
        flat = (grid + rng.uniform(0.3, 0.7, grid.shape)) * cell - self.side_m / 2
        object.__setattr__(self, "places_m", np.c_[flat, np.full(len(flat), 3.0)])

    @property
    def names(self) -> list[str]:
        return [f"node-{number:02}" for number in range(len(self.places_m))]

    def geodetic(self, place_m: NDArray[np.float64]) -> tuple[float, float, float]:
        lat, lon, alt_m = pymap3d.enu2geodetic(place_m[0], place_m[1], place_m[2], self.lat, self.lon, 0.0)
        return float(lat), float(lon), float(alt_m)

    def report(self, node: int, at_s: float, snr_db: float = 20.0, name: str | None = None) -> Detection:
        """Return what a node reports of a sound at `at_s` seconds after the epoch, error-free."""
        lat, lon, alt_m = self.geodetic(self.places_m[node])
        time_ns = EPOCH_NS + round(at_s * 1e9)
        return Detection(
            id=name or f"{self.names[node]}-{time_ns}",
            node=self.names[node],
            time_ns=time_ns,
            time_sigma_s=self.sigma_s,
            lat=lat,
            lon=lon,
            alt_m=alt_m,
            position_sigma_m=0.1,
            snr_db=snr_db,
            temperature_c=self.temperature_c,
        )

    def hear(
        self,
        east_m: float,
        north_m: float,
        at_s: float,
        rng: np.random.Generator | None = None,
        range_m: float = 1100.0,
        late_s: NDArray[np.float64] | None = None,
        weaker_db: float = 0.0,
    ) -> list[Detection]:
        """Return, in time order, what the nodes within `range_m` report of a bang.

        With `rng` the times have the stated errors; `late_s` (n,) makes the way to each node longer.
        """
        offsets = self.places_m - np.array([east_m, north_m, 3.0])
        distances = np.linalg.norm(offsets, axis=1)
        times = at_s + travel_time_s(offsets, speed_of_sound_mps(self.temperature_c), *self.wind_mps)
        if late_s is not None:
            times = times + late_s
        if rng is not None:
            times = times + rng.normal(0.0, self.sigma_s, len(times))
        levels = 75.0 - 20.0 * np.log10(np.maximum(distances, 1.0)) - weaker_db
        heard = [
            self.report(node, float(times[node]), float(levels[node]))
            for node in np.flatnonzero(distances <= range_m).tolist()
        ]
        return sorted(heard, key=lambda one: one.time_ns)

    def somewhere(self, rng: np.random.Generator) -> tuple[float, float]:
        """Return a place well inside the town, east and north of its middle, metres."""
        east_m, north_m = rng.uniform(-0.28, 0.28, 2) * self.side_m
        return float(east_m), float(north_m)

    def chatter(self, rng: np.random.Generator, seconds: float, per_minute: float) -> list[Detection]:
        """Return, in time order, false triggers of every node."""
        found = [
            self.report(node, float(at_s), float(rng.uniform(6.0, 25.0)))
            for node in range(len(self.places_m))
            for at_s in rng.uniform(0.0, seconds, rng.poisson(per_minute * seconds / 60.0))
        ]
        return sorted(found, key=lambda one: one.time_ns)

    def offset_m(self, lat: float, lon: float) -> tuple[float, float]:
        """Return east and north of a place from the middle of the town, metres."""
        east, north, _ = pymap3d.geodetic2enu(lat, lon, 0.0, self.lat, self.lon, 0.0)
        return float(east), float(north)


@pytest.fixture(scope="session")
def town() -> Town:
    """Nine nodes within 1,200 m."""
    return Town()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
