"""Where nodes really stand: what settled bangs say of places that were mistyped, or of nodes that were moved.

The reverse of locating a bang: bangs whose place and time are known put the node that heard them where its arrivals
fit, with the error of its clock as the unknown time. A node whose times are merely off stays where it says it is.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from soundranger_broker.acoustics import travel_time_s
from soundranger_broker.bang import MIN_NODES, USED_WEIGHT, Bang, Heard, Place
from soundranger_broker.faults import Fault
from soundranger_broker.geodesy import Frame
from soundranger_broker.given import Offset
from soundranger_broker.location import Location, Medium, locate
from soundranger_broker.offsets import ways_m

# Of a node, so many arrivals are remembered: one that is right again is believed after a few.
MOST_HEARD = 10
# Four unknowns and some to spare: so many arrivals must agree on another place, and so large a share of all.
LEAST_AGREEING, LEAST_AGREEING_SHARE = 6, 0.7
# Another place must explain more arrivals than the stated one does by so many: it has three unknowns more to fit them.
LEAST_GAINED = 4
# An arrival agrees with the stated place up to so many of its standard deviations.
AGREEING_SIGMAS = 3.0
# What is said of a node must not rest on itself: there is no doubt about the bang, by the others.
LEAST_LOG_ODDS = 7.0
# Paths around buildings shift a node by less than this (m) ...
LEAST_M = 12.0
# ... and chance by less than so many standard deviations.
LEAST_SIGMAS = 5.0
# An arrival that misses by less than this (s) does not suggest another place.
SUSPICIOUS_S = 0.02
# Arrivals of one bang are looked for up to this (s) from where the stated place has them ...
WITHIN_S = 1.0
# ... so places up to this far (m) are found; that arrivals fit one further off is chance.
MOST_M = 350.0
# From bang to bang the air differs by this (m/s).
AIR_SIGMA_MPS = 0.5
# Sound is never slower than this (m/s).
SLOWEST_MPS = 300.0
# The height of a node is known to this (m).
UP_SIGMA_M = 5.0


@dataclass(frozen=True)
class Flight:
    """The way of a sound from a bang to a node: from where, how long (s), known to what (s), through which air."""

    source: Place
    time_s: float
    sigma_s: float
    air: tuple[float, float, float]
    heard_ns: int


@dataclass(eq=False)
class Stand:
    """A node that says it stands at a place: the sounds that it heard there, and its fault if it has one."""

    stated: Place
    flights: deque[Flight] = field(default_factory=lambda: deque(maxlen=MOST_HEARD))
    fault: Fault | None = None


class PlaceMemory:
    """Learns from settled bangs which nodes are not where they say; bangs must be observed in a fixed order."""

    def __init__(self) -> None:
        self._stands: dict[str, Stand] = {}

    def known(self) -> Mapping[str, Offset]:
        """Return how far the times of nodes at wrong places may be off: none of them may move a bang."""
        return {fault.node: Offset(0.0, (fault.size_m or 0.0) / SLOWEST_MPS) for fault in self.faults()}

    def faults(self) -> Sequence[Fault]:
        """Return the nodes that are known to be elsewhere."""
        return [stand.fault for _, stand in sorted(self._stands.items()) if stand.fault is not None]

    def observe(self, bang: Bang, unclaimed: Sequence[Heard]) -> None:
        """Learn from a bang, the arrivals that it made and those that no bang made."""
        if bang.log_odds < LEAST_LOG_ODDS:
            return
        weighed = zip(bang.heard, bang.location.weights.tolist(), strict=True)
        direct = {one.detection.node for one, weight in weighed if weight > USED_WEIGHT}
        heard = (*bang.heard, *unclaimed)
        travel_s = travel_time_s(ways_m(bang, heard), *bang.location.theta[3:]).tolist()
        gathered: dict[str, list[tuple[Heard, float]]] = {}
        for one, foretold_s in zip(heard, travel_s, strict=True):
            miss_s = (one.detection.time_ns - bang.time_ns) / 1e9 - foretold_s
            if abs(miss_s) < WITHIN_S:
                gathered.setdefault(one.detection.node, []).append((one, miss_s))
        flight = _flight(bang)
        for node, near in gathered.items():
            # Of several arrivals nobody knows which is this bang's.
            if len(near) == 1 and len(direct - {node}) >= MIN_NODES:
                one, miss_s = near[0]
                self._hear(one, _arriving(flight, bang, one), miss_s)

    def _hear(self, one: Heard, flight: Flight, miss_s: float) -> None:
        """Take in an arrival of a node that misses what its stated place foretells by so much."""
        node = one.detection.node
        stated = (one.detection.lat, one.detection.lon, one.detection.alt_m)
        stand = self._stands.get(node)
        if stand is None or (stand.stated != stated and _apart_m(stand.stated, stated) > LEAST_M / 2.0):
            stand = self._stands[node] = Stand(stated)
        # What bang made a sound may come out only later: the last one that it may be of counts.
        if stand.flights and flight.heard_ns in {earlier.heard_ns for earlier in stand.flights}:
            kept = [earlier for earlier in stand.flights if earlier.heard_ns != flight.heard_ns]
            stand.flights.clear()
            stand.flights.extend(kept)
        stand.flights.append(flight)
        if abs(miss_s) > SUSPICIOUS_S or stand.fault is not None:
            stand.fault = _judged(node, stand)


def _flight(bang: Bang) -> Flight:
    """Return what the flights of a bang's sound to all nodes have in common."""
    theta, covariance = bang.location.theta, bang.location.covariance
    speed, east, north = theta[3:].tolist()
    place_s = float(np.sqrt(np.trace(covariance[:2, :2]) / 2.0)) / speed
    # Seen from the node, the way goes against the wind.
    return Flight(
        bang.place, 0.0, math.hypot(bang.location.path_sigma_s, place_s), (speed, -east, -north), bang.time_ns
    )


def _arriving(flight: Flight, bang: Bang, one: Heard) -> Flight:
    """Return a flight that ends at an arrival."""
    time_ns = one.detection.time_ns
    sigma_s = math.hypot(flight.sigma_s, one.sigma_s)
    return replace(flight, time_s=(time_ns - bang.time_ns) / 1e9, sigma_s=sigma_s, heard_ns=time_ns)


def _apart_m(one: Place, other: Place) -> float:
    east_m, north_m, up_m = Frame(one[0], one[1]).to_enu(*other).tolist()
    return math.hypot(east_m, north_m, up_m - one[2])


def _judged(node: str, stand: Stand) -> Fault | None:
    """Return the fault of a node that its arrivals clearly put elsewhere, None where they do not."""
    flights = stand.flights
    if len(flights) < LEAST_AGREEING:
        return None
    found = _stands_at(stand)
    agreeing = int((found.weights > USED_WEIGHT).sum())
    off_m, covariance = found.theta[:2], found.covariance[:2, :2]
    size_m = float(np.hypot(*off_m))
    sigmas = float(np.sqrt(off_m @ np.linalg.solve(covariance, off_m)))
    if agreeing < max(LEAST_AGREEING, LEAST_AGREEING_SHARE * len(flights)) or len(found.alternatives):
        return None
    if not LEAST_M <= size_m <= MOST_M or sigmas < LEAST_SIGMAS:
        return None
    if agreeing < _agreeing_as_stated(stand) + LEAST_GAINED:
        return None
    since_ns = flights[0].heard_ns if stand.fault is None else stand.fault.since_ns
    return Fault(node, "place", size_m / sigmas, since_ns, agreeing, size_m=size_m)


def _sources_m(stand: Stand) -> NDArray[np.float64]:
    """Return where the sounds came from that a node heard: metres east, north and up of its stated place, (n, 3)."""
    frame = Frame(stand.stated[0], stand.stated[1])
    return frame.to_enu(*np.array([flight.source for flight in stand.flights]).T)


def _air(stand: Stand) -> tuple[float, float, float]:
    """Return the mean air that a node heard through: speed of sound and wind east and north as seen from it (m/s)."""
    speed, east, north = np.mean([flight.air for flight in stand.flights], axis=0).tolist()
    return speed, east, north


def _agreeing_as_stated(stand: Stand) -> int:
    """Return how many arrivals the stated place explains, with one error of the clock for all."""
    travel_s = travel_time_s(_sources_m(stand) - np.array([0.0, 0.0, stand.stated[2]]), *_air(stand))
    misses_s = np.array([flight.time_s for flight in stand.flights]) - travel_s
    within_s = AGREEING_SIGMAS * np.array([flight.sigma_s for flight in stand.flights])
    return int((np.abs(misses_s - misses_s[:, np.newaxis]) < within_s).sum(axis=1).max())


def _stands_at(stand: Stand) -> Location:
    """Return where arrivals put a node, east and north of the place that it states."""
    sources = _sources_m(stand)
    speed, east, north = _air(stand)
    medium = Medium(speed, AIR_SIGMA_MPS, AIR_SIGMA_MPS, (east, north))
    times_s = np.array([flight.time_s for flight in stand.flights])
    sigmas_s = np.array([flight.sigma_s for flight in stand.flights])
    return locate(sources, times_s, sigmas_s, medium, height=np.array([stand.stated[2], 0.0, 0.0, UP_SIGMA_M]))
