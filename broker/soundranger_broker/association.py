"""Association: which arrivals belong to one bang.

Detections come in time order. Firing times are looked at in steps of a fixed grid: once every arrival that a bang of a
step can have made is in, the best hypotheses are taken one after the other, each with its arrivals, until what is left
is more likely clutter. So the result depends on the detections alone, not on when or in which portions they came: a
stream and a file give the same events.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from soundranger_broker import search
from soundranger_broker.acoustics import speed_of_sound_mps
from soundranger_broker.clutter import ClutterModel
from soundranger_broker.geodesy import Floats, Frame
from soundranger_broker.location import Location, Medium, locate
from soundranger_node.messages import Detection

# Firing times are decided this many seconds at a time, on a grid of whole seconds.
STEP_S = 1.0
# Hypotheses of the step compete with those fired up to this much later, within reach of their echoes.
OVERLAP_S = 0.6
# A first look goes back over this many steps: longer than sound needs to cross most networks.
GLANCE_STEPS = 8
# Two reports of one node within this time are one sound reported twice: rounds are 50 ms apart at the least.
DOUBLE_REPORT_S = 0.02
# The search allows for paths around buildings; location then finds out how large that error really is.
SEARCH_PATH_SIGMA_S = 0.008
# A detection that does not know its time to this is no evidence for any place.
USELESS_SIGMA_S = 0.5
# A bang further off than this is not heard; it bounds how long a step waits, and the search.
MAX_RANGE_M = 2000.0
# Sound at -30 C into a strong wind.
SLOWEST_SOUND_MPS = 300.0
# Bangs are looked for this far outside the nodes.
MARGIN_M = 500.0
# Outside the nodes a bang is less often heard at all, and echoes of bangs inside seem to come from there: the chance
# of one falls by e in this distance.
OUTSIDE_FALL_M = 300.0
# Bangs an hour and square kilometre that a network expects before it has heard any.
EXPECTED_PER_HOUR_KM2 = 4.0
# Three arrivals have two solutions, and agree with nearly any: they make no event.
MIN_NODES = 4
# A search is not pursued below this score: with places and times weighed in, it could not be likelier than clutter.
LEAST_SCORE = 15.0
# Better than clutter by e^2: of those at the border, one in eight is false.
LEAST_LOG_ODDS = 2.0
# A node that reports more than this within a minute chatters: the rest says nothing.
MOST_A_MINUTE = 240
MINUTE_NS = 60_000_000_000
# Where no node knows its temperature: temperate air, and a wide prior.
UNKNOWN_TEMPERATURE_C, UNKNOWN_TEMPERATURE_SIGMA_K = 12.0, 9.0
# A thermometer in a box on a wall is off by this much.
TEMPERATURE_SIGMA_K = 3.0
# Change of the speed of sound with temperature, m/s per K.
SPEED_PER_KELVIN = 0.6
# Wind is rarely more than 5 m/s; a component of it has this standard deviation.
WIND_SIGMA_MPS = 2.5


@dataclass(frozen=True)
class Heard:
    """A detection in the frame of the network: place (east, north, up; metres), time, error and clutter rate."""

    detection: Detection
    place_m: tuple[float, float, float]
    sigma_s: float
    clutter_hz: float


@dataclass(frozen=True)
class Bang:
    """A hypothesis that was taken: the arrivals, where they put the bang, and the log odds that there was one.

    `location.theta` holds the time in seconds after `epoch_ns`; `silent` are nodes likely to have heard it.
    """

    heard: tuple[Heard, ...]
    location: Location
    epoch_ns: int
    source_up_m: float
    log_odds: float
    silent: tuple[str, ...]
    frame: Frame

    @property
    def time_ns(self) -> int:
        """The UTC of the bang."""
        return self.epoch_ns + round(float(self.location.theta[2]) * 1e9)


@dataclass
class Node:
    """What the associator remembers of a node: its place, its clutter and when it last reported."""

    place_m: tuple[float, float, float]
    clutter: ClutterModel = field(default_factory=ClutterModel)
    last_ns: int | None = None
    recent_ns: deque[int] = field(default_factory=deque)
    asleep_ns: int | None = None

    def copy(self) -> "Node":
        """Return a node that can hear more without this one remembering it."""
        return Node(self.place_m, self.clutter.copy(), self.last_ns, self.recent_ns.copy(), self.asleep_ns)


class Associator:
    """Finds the bangs in a stream of detections, with bounded memory.

    `know` tells of nodes (so that their silence counts), `add` of detections in time order; `settle` returns the bangs
    that nothing to come can change, `glance` those that the detections so far suggest.
    """

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._nodes: dict[str, Node] = {}
        self._waiting: deque[Heard] = deque()
        self._taken: set[str] = set()
        self._step = 0
        self.doubled = 0
        self.crowded = 0
        self.useless = 0

    def know(self, node: str, lat: float, lon: float, alt_m: float) -> None:
        """Remember that a node stands, awake, at a place."""
        place_m = self._to_frame(lat, lon, alt_m)
        known = self._nodes.get(node)
        if known is None:
            self._nodes[node] = Node(place_m)
        else:
            known.place_m, known.asleep_ns = place_m, None

    def sleep(self, node: str, time_ns: int) -> None:
        """Remember that a node is off since a time: its silence means nothing from then on."""
        if node in self._nodes:
            self._nodes[node].asleep_ns = time_ns

    def add(self, detection: Detection) -> None:
        """Take in a detection; they must come in the order of their times."""
        heard = self._hear(self._nodes, detection)
        if heard is not None:
            self._waiting.append(heard)

    def settle(self, until_ns: int) -> list[Bang]:
        """Return, in the order of time, the bangs of all steps whose arrivals cannot be later than `until_ns`."""
        bangs: list[Bang] = []
        while self._skip_to_next() and self._ready_ns() <= until_ns:
            found = self._associate(self._step, self._step + 1, self._waiting)
            self._taken.update(heard.detection.id for bang in found for heard in bang.heard)
            bangs += found
            self._step += 1
        return sorted(bangs, key=lambda bang: bang.time_ns)

    def glance(self, newcomers: Iterable[Detection] = ()) -> list[Bang]:
        """Return the bangs that the detections so far suggest and `settle` has not returned yet.

        `newcomers`, in time order, may still be overtaken by older ones; they are looked at and not remembered.
        """
        nodes = dict(self._nodes)
        heard = []
        for detection in newcomers:
            if nodes.get(detection.node) is self._nodes.get(detection.node):
                nodes[detection.node] = self._nodes[detection.node].copy()
            heard.append(self._hear(nodes, detection))
        fresh = [one for one in heard if one is not None]
        self._skip_to_next()
        waiting = [*self._waiting, *fresh]
        if not waiting:
            return []
        last_step = math.floor(waiting[-1].detection.time_ns / 1e9 / STEP_S) + 1
        return self._associate(max(self._step, last_step - GLANCE_STEPS), last_step, waiting)

    @staticmethod
    def decided_ns(until_ns: int) -> int:
        """Return the firing time up to which `settle(until_ns)` has decided everything."""
        return until_ns - round((2 * STEP_S + OVERLAP_S + _wait_s()) * 1e9)

    def _to_frame(self, lat: float, lon: float, alt_m: float) -> tuple[float, float, float]:
        if self._frame is None:
            self._frame = Frame(lat, lon)
        east, north, up = self._frame.to_enu(lat, lon, alt_m)
        return float(east), float(north), float(up)

    def _hear(self, nodes: dict[str, Node], detection: Detection) -> Heard | None:
        """Put a detection into the frame and remember it at its node; None where it is no evidence of its own."""
        place_m = self._to_frame(detection.lat, detection.lon, detection.alt_m)
        node = nodes.setdefault(detection.node, Node(place_m))
        node.place_m, node.asleep_ns = place_m, None
        if not self._worth_keeping(node, detection):
            return None
        node.last_ns = detection.time_ns
        node.recent_ns.append(detection.time_ns)
        place_sigma_s = detection.position_sigma_m / speed_of_sound_mps(UNKNOWN_TEMPERATURE_C)
        sigma_s = math.hypot(detection.time_sigma_s, place_sigma_s)
        clutter_hz = node.clutter.rate_hz(detection.time_ns, detection.snr_db)
        if sigma_s > USELESS_SIGMA_S:
            self.useless += 1
            return None
        return Heard(detection, place_m, sigma_s, clutter_hz)

    def _worth_keeping(self, node: Node, detection: Detection) -> bool:
        while node.recent_ns and detection.time_ns - node.recent_ns[0] > MINUTE_NS:
            node.recent_ns.popleft()
        if node.last_ns is not None and detection.time_ns - node.last_ns < DOUBLE_REPORT_S * 1e9:
            self.doubled += 1
            return False
        if len(node.recent_ns) >= MOST_A_MINUTE:
            self.crowded += 1
            return False
        return True

    def _skip_to_next(self) -> bool:
        """Go to the next step that can hold a bang, dropping what is past; say whether there is one."""
        while self._waiting:
            first = self._waiting[0]
            before_s = first.detection.time_ns / 1e9 - _wait_s()
            self._step = max(self._step, math.floor(before_s / STEP_S))
            past = first.detection.time_ns / 1e9 < self._step * STEP_S - USELESS_SIGMA_S
            if not past and first.detection.id not in self._taken:
                return True
            self._waiting.popleft()
            self._taken.discard(first.detection.id)
        return False

    def _ready_ns(self) -> int:
        return round(((self._step + 1) * STEP_S + OVERLAP_S + _wait_s()) * 1e9)

    def _associate(self, first_step: int, end_step: int, waiting: Iterable[Heard]) -> list[Bang]:
        """Return the bangs fired from `first_step` up to `end_step`, best first, in view of those shortly after.

        An arrival well before the epoch belongs to an earlier step.
        """
        epoch_ns = round(first_step * STEP_S * 1e9)
        earliest_ns = epoch_ns - round(USELESS_SIGMA_S * 1e9)
        span_s = (end_step - first_step) * STEP_S
        latest_ns = epoch_ns + round((span_s + OVERLAP_S + _wait_s()) * 1e9)
        inside = [
            heard
            for heard in waiting
            if earliest_ns <= heard.detection.time_ns < latest_ns and heard.detection.id not in self._taken
        ]
        if len({heard.detection.node for heard in inside}) < MIN_NODES or self._frame is None:
            return []
        awake = {
            name: node.place_m
            for name, node in self._nodes.items()
            if node.asleep_ns is None or node.asleep_ns > latest_ns
        }
        window = _Window.of(inside, awake, epoch_ns, self._frame)
        return [bang for bang in window.bangs(span_s + OVERLAP_S) if bang.location.theta[2] < span_s]


@dataclass(frozen=True)
class _Window:
    """The arrivals and nodes of one search, as arrays; arrivals sorted by node and time."""

    heard: tuple[Heard, ...]
    names: tuple[str, ...]
    nodes: Floats
    arrivals: search.Arrivals
    scene: search.Scene
    evidence: search.Evidence
    medium: Medium
    epoch_ns: int
    frame: Frame

    @classmethod
    def of(
        cls, inside: Iterable[Heard], awake: dict[str, tuple[float, float, float]], epoch_ns: int, frame: Frame
    ) -> "_Window":
        """Build the window of detections; a node stands where its first detection in the window says."""
        heard = tuple(sorted(inside, key=lambda one: (one.detection.node, one.detection.time_ns)))
        places = awake | {one.detection.node: one.place_m for one in reversed(heard)}
        names = tuple(sorted(places))
        nodes = np.array([places[name] for name in names])
        owner = np.searchsorted(names, [one.detection.node for one in heard])
        sigmas = np.array([math.hypot(one.sigma_s, SEARCH_PATH_SIGMA_S) for one in heard])
        arrivals = search.Arrivals(
            times_s=np.array([(one.detection.time_ns - epoch_ns) / 1e9 for one in heard]),
            sigmas_s=sigmas,
            gains=search.gain(sigmas, np.array([one.clutter_hz for one in heard])),
            alive=np.ones(len(heard), dtype=bool),
            starts=np.searchsorted(owner, np.arange(len(names) + 1)),
        )
        medium = _medium(heard)
        scene = search.make_scene(nodes[:, :2], medium.speed_mps, MAX_RANGE_M)
        evidence = search.Evidence(
            places=np.array([one.place_m for one in heard]),
            sigmas_s=np.array([one.sigma_s for one in heard]),
            log_clutter=np.log([one.clutter_hz for one in heard]),
            medium=medium.mean,
            precision=medium.precision,
            log_prior=math.log(EXPECTED_PER_HOUR_KM2 / 3600.0 / 1e6),
            low=nodes[:, :2].min(axis=0),
            high=nodes[:, :2].max(axis=0),
            fall_m=OUTSIDE_FALL_M,
            least_log_odds=LEAST_LOG_ODDS,
        )
        return cls(heard, names, nodes, arrivals, scene, evidence, medium, epoch_ns, frame)

    def bangs(self, span_s: float) -> list[Bang]:
        """Return the bangs fired within `span_s` of the epoch, the best first."""
        active = np.array(sorted({one.place_m[:2] for one in self.heard}))
        lowest, highest = active.min(axis=0) - MARGIN_M, active.max(axis=0) + MARGIN_M
        region = search.Region(np.array([*lowest, 0.0]), np.array([*(highest - lowest), span_s]))
        found: list[Bang] = []
        while True:
            log_odds, point, chosen = search.best_hypothesis(
                self.scene, self.arrivals, self.evidence, region, MIN_NODES, LEAST_SCORE
            )
            if not math.isfinite(log_odds):
                return found
            found.append(self._bang(log_odds, point, chosen))
            self.arrivals.alive[chosen[chosen >= 0]] = False

    def _bang(self, log_odds: float, point: Floats, chosen: search.Ints) -> Bang:
        """Locate a hypothesis that was taken."""
        picked = chosen[chosen >= 0]
        places = self.evidence.places[picked]
        source_up_m = float(np.median(places[:, 2]))
        location = locate(
            places, self.arrivals.times_s[picked], self.evidence.sigmas_s[picked], source_up_m, self.medium, point
        )
        missed = search.should_have_heard(self.scene, location.theta, chosen >= 0)
        return Bang(
            heard=tuple(self.heard[i] for i in picked),
            location=location,
            epoch_ns=self.epoch_ns,
            source_up_m=source_up_m,
            log_odds=log_odds,
            silent=tuple(name for name, quiet in zip(self.names, missed, strict=True) if quiet),
            frame=self.frame,
        )


def _wait_s() -> float:
    """Return how long after a bang its last arrival can come, seconds, in the slowest air there is."""
    return MAX_RANGE_M / SLOWEST_SOUND_MPS + USELESS_SIGMA_S


def _medium(heard: Iterable[Heard]) -> Medium:
    """Return the prior of the air: the median of the nodes' temperatures where any knows it, and no wind."""
    known = [one.detection.temperature_c for one in heard if one.detection.temperature_c is not None]
    temperature_c = float(np.median(known)) if known else UNKNOWN_TEMPERATURE_C
    sigma_k = TEMPERATURE_SIGMA_K if known else UNKNOWN_TEMPERATURE_SIGMA_K
    return Medium(speed_of_sound_mps(temperature_c), sigma_k * SPEED_PER_KELVIN, WIND_SIGMA_MPS)
