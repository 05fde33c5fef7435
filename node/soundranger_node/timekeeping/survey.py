"""Surveys the node's place in: medians of a GPS's fixes over hours, with an honest sigma, then frozen on disk.

The model of a GPS's error, per axis: a part with a correlation time of about ten minutes (multipath, the receiver's
filter), and a part that stays over hours (orbits, ionosphere, the datum). The mean over a time T of the first, as a
first-order Gauss-Markov process of standard deviation s and correlation time tau, has the variance s^2 g(T) with
g = (2 tau / T) (1 - (tau / T) (1 - exp(-T / tau))), and not s^2 / n: more fixes a minute make it no better. Nothing
averages the second part away.
"""

import contextlib
import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from soundranger_node.messages import EARLIEST_NS, LATEST_NS, Altitude, Count, Latitude, Longitude, Metres, Sigma, UtcNs
from soundranger_node.timekeeping.gpsd import MAD_TO_SIGMA, MODE_3D, Fix

# Fixes a minute apart already say nearly the same; medians of a minute keep six hours in a few kB.
BLOCK_S = 60.0
# After this the part that can be averaged away is 0.6 of a typical 2.5 m over 2.5, below the part that cannot: the
# sigma of a survey of 24 h is a tenth smaller.
SURVEY_BLOCKS = 360
# A receiver that has just found its satellites needs some minutes to settle.
PROVISIONAL_BLOCKS = 5
CORRELATION_S = 600.0
# What stays over hours, east, north and up: broadcast orbits and clocks, and what a single-frequency receiver's model
# leaves of the ionosphere.
PERSISTENT_M = np.array([1.0, 1.0, 1.5])
# What varies within hours with a small receiver that sees most of the sky, east, north and up. It stands in for the
# spread of the fixes until they have been watched long enough to show their own.
TYPICAL_SPREAD_M = np.array([2.5, 2.5, 4.0])
# The typical spread counts like this many independent fixes: 40 minutes of them weigh as much.
TYPICAL_WEIGHT = 2.0
# Variance of the median over that of the mean, of a Gauss-Markov process: the integral of arcsin(exp(-t)).
MEDIAN_PENALTY = math.pi / 2 * math.log(2)
# A node that is this far from its place, and further than its fixes ever scatter, for every minute of half an hour, has
# been moved: by the model above that is three correlation times at eight standard deviations.
MOVED_M = 20.0
MOVED_SPREADS = 8.0
MOVED_BLOCKS = 30
NO_HEIGHT = "this gpsd does not tell heights above the ellipsoid: install 3.20 or later"

# WGS84 (NIMA TR8350.2).
EQUATOR_RADIUS_M = 6_378_137.0
ECCENTRICITY_SQUARED = 6.694_379_990_141e-3


class SurveyedPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place and how it was found: WGS84, metres above the ellipsoid, one standard deviation of all three.

    `spread_m` is the robust standard deviation of the fixes about it, in the horizontal, and `minutes` how many went
    in. It is provisional until it is `frozen`; `surveyed_ns` says when that was, by the GPS's own time.
    """

    lat: Latitude
    lon: Longitude
    alt_m: Altitude
    position_sigma_m: Sigma
    spread_m: Metres
    minutes: Count
    frozen: bool = False
    surveyed_ns: UtcNs | None = None


@dataclass(frozen=True)
class Estimate:
    """What blocks of fixes say: east, north, up (3,) of the place in metres, one sigma for all three, and spread."""

    place_m: NDArray[np.float64]
    sigma_m: float
    spread_m: float


def estimate(blocks_m: NDArray[np.float64]) -> Estimate:
    """Return the place that medians of minutes, shape (n, 3), n >= 1, in metres east, north and up, agree upon.

    The spread is the median absolute deviation, made larger by what of a correlated error does not show within the time
    (it moves mean and fixes alike), and drawn towards the typical one while the time is short.
    """
    place_m = np.median(blocks_m, axis=0)
    seen_m = MAD_TO_SIGMA * np.median(np.abs(blocks_m - place_m), axis=0)
    time_s = len(blocks_m) * BLOCK_S
    share = shared_variance(time_s)
    independent = time_s / (2 * CORRELATION_S)
    own = independent * seen_m**2 / (1 - share)
    variance = (TYPICAL_WEIGHT * TYPICAL_SPREAD_M**2 + own) / (TYPICAL_WEIGHT + independent)
    sigma_m = np.sqrt(variance * min(1.0, MEDIAN_PENALTY * share) + PERSISTENT_M**2)
    return Estimate(place_m, float(np.sqrt(np.mean(sigma_m**2))), float(np.sqrt(np.mean(seen_m[:2] ** 2))))


def shared_variance(time_s: float) -> float:
    """Return the variance of a Gauss-Markov process's mean over a time, as a share of the process's own."""
    ratio = CORRELATION_S / time_s
    return 2 * ratio * (1 - ratio * -math.expm1(-1 / ratio))


def metres_per_degree(lat: float) -> tuple[float, float]:
    """Return what a degree of longitude and one of latitude are on the ellipsoid, in metres."""
    sine = math.sin(math.radians(lat))
    flattened = 1 - ECCENTRICITY_SQUARED * sine**2
    across_m = EQUATOR_RADIUS_M / math.sqrt(flattened)
    along_m = across_m * (1 - ECCENTRICITY_SQUARED) / flattened
    # A place on the pole still has some width, so that nothing is divided by zero.
    return math.radians(1) * across_m * max(math.cos(math.radians(lat)), 1e-9), math.radians(1) * along_m


def offset_m(lat: float, lon: float, alt_m: float, origin: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return east, north, up (3,) of a place from an origin (lat, lon, alt_m), in metres; exact to 1e-4 within 1 km."""
    east_m, north_m = metres_per_degree(origin[0])
    degrees = (lon - origin[1] + 180) % 360 - 180
    return np.array([degrees * east_m, (lat - origin[0]) * north_m, alt_m - origin[2]])


class Survey:
    """The survey of one node, from fix to fix. `path` is the file that keeps the frozen place over restarts.

    Safe to `add` to in one thread and to ask in another. `problem` is what its owner should know, None where all is
    well.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._minute: list[NDArray[np.float64]] = []
        self._minute_began_s = 0.0
        self._origin: tuple[float, float, float] | None = None
        self._blocks: list[NDArray[np.float64]] = []
        self._place: SurveyedPlace | None = None
        self.problem: str | None = None
        self._load()

    @property
    def place(self) -> SurveyedPlace | None:
        """The place as far as it is known; None in the first minutes."""
        with self._lock:
            return self._place

    @property
    def progress(self) -> float:
        """How much of the survey is done, from 0 to 1 (frozen)."""
        with self._lock:
            return 1.0 if self._frozen else len(self._blocks) / SURVEY_BLOCKS

    def add(self, fix: Fix, came_s: float) -> None:
        """Take a fix, and the monotonic time in seconds at which it came; one without height counts for nothing."""
        if fix.mode != MODE_3D or fix.lat is None or fix.lon is None:
            return
        height_m = fix.height_m
        if height_m is None:
            if fix.alt is not None:
                self.problem = NO_HEIGHT
            return
        if self.problem == NO_HEIGHT:
            self.problem = None
        with self._lock:
            if self._origin is None:
                self._origin = (fix.lat, fix.lon, height_m)
            if self._minute and came_s - self._minute_began_s >= BLOCK_S:
                self._close_minute(fix.time_ns)
            if not self._minute:
                self._minute_began_s = came_s
            self._minute.append(offset_m(fix.lat, fix.lon, height_m, self._origin))

    @property
    def _frozen(self) -> bool:
        return self._place is not None and self._place.frozen

    def _close_minute(self, time_ns: int | None) -> None:
        block = np.median(self._minute, axis=0)
        self._minute = []
        if self._frozen:
            self._watch_for_a_move(block)
            return
        self._blocks.append(block)
        self._conclude(time_ns)

    def _conclude(self, time_ns: int | None) -> None:
        """Make the place of the blocks so far; freeze it once they are enough."""
        if len(self._blocks) < PROVISIONAL_BLOCKS:
            return
        self._place = self._surveyed(estimate(np.array(self._blocks)), time_ns)
        if self._place.frozen:
            self._start_watching(self._place)
            self.problem = None
            self._write(self._place)

    def _surveyed(self, found: Estimate, time_ns: int | None) -> SurveyedPlace:
        if self._origin is None:
            raise ValueError("no fix has come yet")
        lat, lon, alt_m = self._origin
        east_m, north_m = metres_per_degree(lat)
        # An old receiver may have lost count of the weeks.
        possible = time_ns is not None and EARLIEST_NS <= time_ns < LATEST_NS
        return SurveyedPlace(
            lat=lat + float(found.place_m[1]) / north_m,
            lon=(lon + float(found.place_m[0]) / east_m + 180) % 360 - 180,
            alt_m=alt_m + float(found.place_m[2]),
            position_sigma_m=found.sigma_m,
            spread_m=found.spread_m,
            minutes=len(self._blocks),
            frozen=len(self._blocks) >= SURVEY_BLOCKS,
            surveyed_ns=time_ns if possible else None,
        )

    def _start_watching(self, place: SurveyedPlace) -> None:
        """From now on blocks are measured from the place, and only those far away are kept."""
        self._origin = (place.lat, place.lon, place.alt_m)
        self._blocks = []
        self._place = place

    def _watch_for_a_move(self, block: NDArray[np.float64]) -> None:
        if self._place is None:
            return
        if math.hypot(block[0], block[1]) <= max(MOVED_M, MOVED_SPREADS * self._place.spread_m):
            self._blocks = []
            return
        self._blocks.append(block)
        if len(self._blocks) < MOVED_BLOCKS:
            return
        away_m = float(np.median([math.hypot(far[0], far[1]) for far in self._blocks]))
        self.problem = (
            f"the GPS has been {away_m:.0f} m from the surveyed place for {MOVED_BLOCKS} minutes: the node was moved, "
            "and its place is being surveyed in again"
        )
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._place = None
        self._conclude(None)

    def _load(self) -> None:
        try:
            text = self._path.read_bytes()
            place = msgspec.json.decode(text, type=SurveyedPlace)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self.problem = (
                f"{self._path}: the surveyed place cannot be read ({error}), so it is being surveyed in again"
            )
            return
        if place.frozen:
            self._start_watching(place)

    def _write(self, place: SurveyedPlace) -> None:
        """Put the place on disk whole or not at all, whenever the power goes."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_name(self._path.name + ".new")
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(place))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self.problem = f"{self._path}: the surveyed place cannot be kept over a restart ({error})"
