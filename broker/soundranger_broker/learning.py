"""Learning: what settled bangs teach about the air, the paths and the nodes, for the looks that follow."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from soundranger_broker import air, offsets
from soundranger_broker.acoustics import speed_of_sound_mps
from soundranger_broker.activity import Activity
from soundranger_broker.bang import Bang, Heard, Place
from soundranger_broker.faults import Fault
from soundranger_broker.geodesy import roughly_m
from soundranger_broker.given import Given
from soundranger_broker.location import Medium
from soundranger_broker.nodeplaces import PlaceMemory
from soundranger_broker.patherrors import PathErrors
from soundranger_broker.pathmemory import PathMemory
from soundranger_broker.paths import ALIKE_M

# Where no node knows its temperature: temperate air, and a wide prior.
UNKNOWN_TEMPERATURE_C, UNKNOWN_TEMPERATURE_SIGMA_K = 12.0, 9.0
# A thermometer in a box on a wall is off by this much.
TEMPERATURE_SIGMA_K = 3.0
# Change of the speed of sound with temperature, m/s per K.
SPEED_PER_KELVIN = 0.6
# Wind is rarely more than 5 m/s; a component of it has this standard deviation.
WIND_SIGMA_MPS = 2.5
# A place from which bangs taught something teaches again after this long: the air is another by then.
TEACHES_AGAIN_NS = 3_600_000_000_000
# The middle half of nodes.
QUARTILES = (0.25, 0.75)
# So many places are remembered.
MOST_TEACHERS = 256


class Learner:
    """Takes bangs as they are settled, in a fixed order; says what is known before the next look.

    What it says depends on the detections alone, not on when or in which portions they came.
    """

    def __init__(self) -> None:
        self._paths = PathMemory()
        self._airs: tuple[air.Air, ...] = ()
        self._path_errors = PathErrors()
        self._offsets = offsets.OffsetMemory()
        self._places = PlaceMemory()
        self._activity = Activity()
        self._teachers: deque[tuple[Place, int]] = deque(maxlen=MOST_TEACHERS)

    def given(self, inside: Sequence[Heard]) -> Given:
        """Return what is known before a look at the arrivals `inside`."""
        time_ns = inside[0].detection.time_ns
        medium = air.medium(self._airs_at(time_ns, _weather(inside)))
        expected = self._activity.per_hour_km2(time_ns, _area_km2(inside))
        offsets_s = {**self._offsets.known(time_ns), **self._places.known()}
        return Given(medium, offsets_s, expected, self._path_errors.shares, self._path_errors.late_shares)

    def observe(self, bang: Bang, unclaimed: Sequence[Heard]) -> Bang:
        """Learn from a settled bang, and the arrivals that no bang made; return it as what is known makes it."""
        self._activity = self._activity.after(bang.time_ns)
        sharpened = self._paths.observe(bang)
        # Paths from one place have the same errors each time: what they would say again is said.
        if sharpened.given.paths is None and self._is_elsewhere(bang):
            self._teach(bang, unclaimed)
        return sharpened

    def _teach(self, bang: Bang, unclaimed: Sequence[Heard]) -> None:
        """Learn of the air, the paths and the nodes from a bang at a place of its own."""
        self._offsets.observe(bang, unclaimed)
        self._places.observe(bang, unclaimed)
        if air.tells_of_air(bang):
            self._teachers.append((bang.place, bang.time_ns))
            self._path_errors.observe(bang)
            airs = self._airs_at(bang.time_ns, _weather(bang.heard))
            self._airs = tuple(air.learnt(one, bang) for one in airs)

    def _airs_at(self, time_ns: int, stated: Medium) -> tuple[air.Air, ...]:
        """Return what is known of the air at a time, for calm and for changeable weather."""
        airs = self._airs or air.stated_airs(stated, time_ns)
        return tuple(air.drifted(one, stated, time_ns) for one in airs)

    def _is_elsewhere(self, bang: Bang) -> bool:
        """Say whether nothing was lately learnt from a bang nearby."""
        lately = [place for place, time_ns in self._teachers if bang.time_ns - time_ns < TEACHES_AGAIN_NS]
        if not lately:
            return True
        off = bang.frame.to_enu(*np.array(lately).T)[:, :2] - bang.location.theta[:2]
        return bool(np.hypot(off[:, 0], off[:, 1]).min() > ALIKE_M)

    def sharpen(self, bang: Bang) -> Bang:
        """Return a bang that may still change as what is known makes it."""
        return self._paths.sharpen(bang)

    def faults(self) -> Sequence[Fault]:
        """Return the nodes that are known to be wrong."""
        misplaced = self._places.faults()
        elsewhere = {fault.node for fault in misplaced}
        # A node that is elsewhere seems to be off by this or that, depending on where bangs come from.
        return [*(fault for fault in self._offsets.faults() if fault.node not in elsewhere), *misplaced]


def _weather(heard: Sequence[Heard]) -> Medium:
    """Return the prior of the air: the median of the nodes' temperatures where any knows it, and no wind."""
    # One a node: those that chatter have no more say than others.
    known = {
        one.detection.node: one.detection.temperature_c for one in heard if one.detection.temperature_c is not None
    }
    temperature_c = float(np.median(list(known.values()))) if known else UNKNOWN_TEMPERATURE_C
    sigma_k = TEMPERATURE_SIGMA_K if known else UNKNOWN_TEMPERATURE_SIGMA_K
    return Medium(speed_of_sound_mps(temperature_c), sigma_k * SPEED_PER_KELVIN, WIND_SIGMA_MPS)


def _area_km2(heard: Sequence[Heard]) -> float:
    """Return the area of the box around the nodes that were heard, wherever a few of them claim to be.

    Nodes that cover a box have their middle half in half its width.
    """
    places = np.array(sorted({(one.detection.lat, one.detection.lon) for one in heard}))
    lower, upper = np.quantile(roughly_m(*places.T), QUARTILES, axis=0, method="nearest")
    return float(np.prod(2.0 * (upper - lower))) / 1e6
