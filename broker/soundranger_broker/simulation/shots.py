"""What is fired in a simulated town: an endless schedule of incidents, the same for everyone who asks."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import Delaunay

from soundranger_broker.acoustics import Floats
from soundranger_broker.simulation.town import GROUND_ALT_M, Town
from soundranger_node.errors import InputError
from soundranger_node.utc import NS_PER_S

# Breast height.
MUZZLE_HEIGHT_M = 1.5
# Half of the incidents are one shot; the others are bursts.
SINGLE_SHARE = 0.5
BURST_ROUNDS = (2, 6)
BURST_ROUNDS_PER_MINUTE = (300.0, 700.0)
# From round to round, of the same gun: loads differ by about this much.
ROUND_LEVEL_SIGMA_DB = 0.5
# An incident starts in the middle half of its slot, so that the last round of the longest burst still lies within it.
START_IN_SLOT = (0.25, 0.75)
# The longest burst (6 rounds at 300 a minute) takes 1 s, which has to fit in the last quarter of a slot.
MIN_EVERY_S = 4.0
# Incidents that are kept after they were drawn: a scorer asks again for the last minutes.
KEPT_INCIDENTS = 256

# Peak level at 1 m (dB SPL) and positive phase (s) of guns: .22 rifle, 9 mm pistol, 12 gauge shotgun, .223 rifle.
# Measured peaks at 1 m beside the muzzle are 140 dB for .22, 159-163 dB for 9 mm and .223 (Murphy et al. 2012 as cited
# by Murphy et al. 2018; Dater 2014). The loud ones stand 4 dB lower here: so near, they are shock waves that decay
# faster than the 1/r by which this level is carried to the town. Blasts last 3 to 5 ms (Maher, Summary of gun shot
# acoustics, 2006), small calibres less; a Friedlander wave has faded to 3 % after 5 positive phases.
GUNS = ((140.0, 0.0004), (155.0, 0.0006), (157.0, 0.0010), (159.0, 0.0008))
GUN_SHARES = (0.1, 0.5, 0.15, 0.25)


@dataclass(frozen=True)
class Shot:
    """One round: when and where the muzzle blast began, its peak level at 1 m, its positive phase, and its incident."""

    id: str
    incident: str
    time_ns: int
    lat: float
    lon: float
    alt_m: float
    level_db_spl: float
    positive_phase_s: float


class Schedule:
    """The shots of a town: about every `every_s` an incident, at a random place in the hull of the nodes.

    Time from `start_ns` on is cut into slots of `every_s`; each holds one incident, a single shot or a
    burst of 2 to 6 rounds at 300 to 700 a minute. An incident depends on the seed and the number of its slot alone: so
    it is known before it happens, and every node and the scorer see the same, from any thread and in any order.

    Raises:
        InputError: `every_s` is below 4 s.
    """

    def __init__(self, town: Town, seed: int, start_ns: int, every_s: float = 8.0, end_ns: int | None = None) -> None:
        if not (math.isfinite(every_s) and every_s >= MIN_EVERY_S):
            raise InputError("simulated shots", f"an incident every {every_s} s", f"ask for {MIN_EVERY_S} s or more")
        self._town = town
        self._seed = seed
        self._start_ns = start_ns
        self._end_ns = end_ns
        self._slot_ns = round(every_s * NS_PER_S)
        self._places = _Hull(town.node_places_m()[:, :2])
        self._incident = lru_cache(maxsize=KEPT_INCIDENTS)(self._draw_incident)

    def shots(self, from_ns: int, to_ns: int) -> tuple[Shot, ...]:
        """Return the shots fired from `from_ns` up to but not at `to_ns`, in time order.

        There are none before the start, and none from `end_ns` on, where there is an end.
        """
        if self._end_ns is not None:
            to_ns = min(to_ns, self._end_ns)
        first = max(0, (from_ns - self._start_ns) // self._slot_ns)
        last = (to_ns - self._start_ns) // self._slot_ns
        return tuple(
            shot for slot in range(first, last + 1) for shot in self._incident(slot) if from_ns <= shot.time_ns < to_ns
        )

    def _draw_incident(self, slot: int) -> tuple[Shot, ...]:
        rng = np.random.default_rng([self._seed, slot])
        east_m, north_m = self._places.draw(rng)
        lat, lon, _ = self._town.frame.to_geodetic(east_m, north_m)
        level_db_spl, positive_phase_s = GUNS[rng.choice(len(GUNS), p=GUN_SHARES)]
        rounds = 1 if rng.random() < SINGLE_SHARE else int(rng.integers(*BURST_ROUNDS, endpoint=True))
        gap_ns = 60 * NS_PER_S / rng.uniform(*BURST_ROUNDS_PER_MINUTE)
        start_ns = self._start_ns + round((slot + rng.uniform(*START_IN_SLOT)) * self._slot_ns)
        incident = f"sim-{self._seed}-{slot}"
        return tuple(
            Shot(
                id=f"{incident}-{number + 1}",
                incident=incident,
                time_ns=start_ns + round(number * gap_ns),
                lat=lat,
                lon=lon,
                alt_m=GROUND_ALT_M + MUZZLE_HEIGHT_M,
                level_db_spl=level_db_spl + rng.normal(0.0, ROUND_LEVEL_SIGMA_DB),
                positive_phase_s=positive_phase_s,
            )
            for number in range(rounds)
        )


class _Hull:
    """Draws places evenly from the convex hull of points, shape (n, 2): a triangle by its area, then a place in it."""

    def __init__(self, points_m: Floats) -> None:
        self._triangles = points_m[Delaunay(points_m).simplices]
        legs = self._triangles[:, 1:] - self._triangles[:, :1]
        areas = np.abs(np.linalg.det(legs))
        self._shares = areas / areas.sum()

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        triangle = self._triangles[rng.choice(len(self._triangles), p=self._shares)]
        # Equal parts of a stick broken at random are even barycentric coordinates.
        east_m, north_m = rng.dirichlet([1.0, 1.0, 1.0]) @ triangle
        return float(east_m), float(north_m)
