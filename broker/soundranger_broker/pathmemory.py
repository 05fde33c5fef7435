"""The memory of paths: the places that bangs came from, and what those bangs taught of the paths from there."""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from soundranger_broker.acoustics import travel_time_s
from soundranger_broker.bang import MIN_NODES, USED_WEIGHT, Bang, Place
from soundranger_broker.given import RIGHT
from soundranger_broker.paths import Arrivals, Fit, Paths, expected, learnt, locate_along, unknown
from soundranger_broker.solver import floors_hz

# Bangs from one place are located, each for itself, to about this of each other beside what their ellipses say ...
REACH_M = 10.0
# ... and are looked up within so many standard deviations.
REACH_SIGMAS = 3.0
# Of places within reach only the nearest are tried: each costs a location.
MOST_TRIED = 3
# So many places are remembered; then the one that was silent longest is forgotten.
MOST_SPOTS = 64
# Travel times that were linearised at one place are right to the repeat scatter at another no further off than this.
SPOT_M = 5.0
# One place is known relative to the next to about this: a bang no further from the last one has the same paths.
SAME_M = 1.0
# A spot explains a bang where it does so better than unknown paths would by this (log): what is nearer to even teaches
# nothing, and with four arrivals is chance.
LEAST_LOG_RATIO = 1.0


@dataclass(frozen=True, eq=False)
class Spot:
    """A place that bangs came from: the paths from there, and where and when the last bang was."""

    paths: Paths
    last: Place
    time_ns: int


@dataclass(frozen=True, eq=False)
class Recalled:
    """A bang in view of what was known `before` of the paths from a spot."""

    spot: Spot
    before: Paths
    fit: Fit


class PathMemory:
    """Sharpens bangs by what earlier ones from the same place taught; they must be observed in a fixed order.

    A bang that the paths from a known place explain no better than paths of which nothing is known comes from
    elsewhere: it stays as it is, and founds a spot of its own.
    """

    def __init__(self) -> None:
        self._spots: deque[Spot] = deque(maxlen=MOST_SPOTS)

    def sharpen(self, bang: Bang) -> Bang:
        """Return a bang where known paths put it."""
        found = self._recall(bang)
        return bang if found is None else _along(bang, found)

    def observe(self, bang: Bang) -> Bang:
        """Return a bang where known paths put it, and learn from it."""
        found = self._recall(bang)
        if found is None:
            self._spots.append(_founded(bang))
            return bang
        sharpened = _along(bang, found)
        place = sharpened.place
        paths = learnt(found.before, _names(bang), found.fit)
        if _apart_m(sharpened, paths.anchor) > SPOT_M:
            paths = replace(paths, anchor=place)
        else:
            self._spots.remove(found.spot)
        self._spots.append(Spot(paths, place, bang.time_ns))
        return sharpened

    def _recall(self, bang: Bang) -> Recalled | None:
        """Return the bang in view of the spot that explains it best, if that is clearly better than none."""
        tried = [_recalled(bang, spot) for spot in self._near(bang)]
        agreed = [one for one in tried if (one.fit.weights >= USED_WEIGHT).sum() >= MIN_NODES]
        best = max(agreed, key=lambda one: one.fit.log_evidence, default=None)
        if best is None or best.fit.log_evidence < bang.location.log_evidence + LEAST_LOG_RATIO:
            return None
        return best

    def _near(self, bang: Bang) -> list[Spot]:
        """Return the spots nearest to a bang, of those within reach."""
        if not self._spots:
            return []
        off = bang.frame.to_enu(*np.array([spot.last for spot in self._spots]).T)[:, :2] - bang.location.theta[:2]
        spread = 2.0 * bang.location.covariance[:2, :2] + REACH_M**2 * np.eye(2)
        away = np.sqrt(np.einsum("ij,ij->i", off @ np.linalg.inv(spread), off))
        return [self._spots[i] for i in np.argsort(away, kind="stable")[:MOST_TRIED] if away[i] < REACH_SIGMAS]


def _founded(bang: Bang) -> Spot:
    """Return a spot of which one bang is known."""
    place = bang.place
    nothing = unknown(place, bang.given.medium, bang.location.path_sigma_s)
    before = expected(nothing, _names(bang), bang.given.medium, 0.0, 0.0)
    return Spot(learnt(before, _names(bang), _fit(bang, before)), place, bang.time_ns)


def _recalled(bang: Bang, spot: Spot) -> Recalled:
    """Return a bang in view of a spot; how much that still tells depends on how far from it the bang turns out."""
    later_s = max(bang.time_ns - spot.time_ns, 0) / 1e9
    before = expected(spot.paths, _names(bang), bang.given.medium, later_s, 0.0)
    fit = _fit(bang, before)
    moved_m = float(np.linalg.norm(fit.theta[:2] - bang.frame.to_enu(*spot.last)[:2]))
    if moved_m > SAME_M:
        before = expected(spot.paths, _names(bang), bang.given.medium, later_s, moved_m)
        fit = _fit(bang, before)
    return Recalled(spot, before, fit)


def _fit(bang: Bang, known: Paths) -> Fit:
    paths = known.to(_names(bang))
    anchor = bang.frame.to_enu(*known.anchor)
    return locate_along(paths, anchor, _arrivals(bang), bang.location.theta[:3], bang.location.weights)


def _along(bang: Bang, found: Recalled) -> Bang:
    """Return a bang as its paths have it; delays stay in the residuals, which are what sound was late by."""
    up_m = float(bang.frame.to_enu(*found.before.anchor)[2])
    arrivals, theta = _arrivals(bang), found.fit.theta
    offsets = arrivals.nodes - np.array([theta[0], theta[1], up_m])
    location = replace(
        bang.location,
        theta=theta,
        covariance=found.fit.covariance,
        residuals_s=arrivals.times_s - theta[2] - travel_time_s(offsets, *theta[3:]),
        weights=found.fit.weights,
        distances_m=np.linalg.norm(offsets, axis=1),
        path_sigma_s=found.before.path_sigma_s,
        log_evidence=found.fit.log_evidence,
    )
    given = replace(bang.given, paths=found.before.to(_names(bang)))
    return replace(bang, location=location, source_up_m=up_m, given=given)


def _arrivals(bang: Bang) -> Arrivals:
    """Return the arrivals of a bang as its location takes them: without what nodes are known to be off by."""
    detections = [one.detection for one in bang.heard]
    offsets = [bang.given.offsets.get(one.node, RIGHT) for one in detections]
    return Arrivals(
        bang.frame.to_enu(*np.array([(one.lat, one.lon, one.alt_m) for one in detections]).T),
        np.array([(one.time_ns - bang.epoch_ns) / 1e9 for one in detections]) - [off.mean_s for off in offsets],
        np.hypot([one.sigma_s for one in bang.heard], [off.sigma_s for off in offsets]),
        floors_hz(np.array([one.clutter_hz for one in bang.heard])),
    )


def _names(bang: Bang) -> tuple[str, ...]:
    return tuple(one.detection.node for one in bang.heard)


def _apart_m(bang: Bang, place: Place) -> float:
    """Return the distance of a bang from a place along the ground."""
    return float(np.linalg.norm(bang.frame.to_enu(*place)[:2] - bang.location.theta[:2]))
