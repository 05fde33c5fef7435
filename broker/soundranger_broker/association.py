"""Association: which arrivals belong to one bang.

Detections come in time order. Firing times are looked at in steps of a fixed grid: once every arrival that a bang of a
step can have made is in, the best hypotheses are taken one after the other, each with its arrivals, until what is left
is more likely clutter. So the result depends on the detections alone, not on when or in which portions they came: a
stream and a file give the same events.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from soundranger_broker.acoustics import speed_of_sound_mps
from soundranger_broker.bang import MIN_NODES, Bang, Heard, Place
from soundranger_broker.clutter import ClutterModel
from soundranger_broker.coincidence import is_coincidence
from soundranger_broker.faults import Fault
from soundranger_broker.geodesy import roughly_m
from soundranger_broker.learning import UNKNOWN_TEMPERATURE_C, Learner
from soundranger_broker.search import AGAIN_S
from soundranger_broker.window import MAX_RANGE_M, Refused, Window
from soundranger_node.messages import Detection

# Firing times are decided this many seconds at a time, on a grid of whole seconds.
STEP_S = 1.0
# A hypothesis of a step competes with those fired up to this much later: one that is far off would otherwise take the
# arrivals of one that is near and was fired after it.
OVERLAP_S = 3.0
# A first look goes back over this many steps: longer than sound needs to cross most networks.
GLANCE_STEPS = 8
# Sound at -30 C into a strong wind.
SLOWEST_SOUND_MPS = 300.0
# Two reports of one node within this time are one sound reported twice: rounds are 50 ms apart at the least.
DOUBLE_REPORT_S = 0.02
# No onset is known better than this, whatever a node says.
LEAST_SIGMA_S = 1e-4
# A detection that does not know its time to this is no evidence for any place.
USELESS_SIGMA_S = 0.5
# The silence of a node that has said nothing for this long says little: it may be off.
HEARD_LATELY_NS = 60_000_000_000
# A node that reports more than this within a minute chatters: the rest says nothing.
MOST_A_MINUTE = 240
MINUTE_NS = 60_000_000_000
# The silence of a node means something once it has reported twice, or once as part of a bang: a name that is made up
# anew for every report never does.
LEAST_CREDIT = 2
# More nodes than any network of this kind has: names that nobody stops must not fill the memory. Those without credit
# make room for new ones.
MOST_NODES = 5_000
# Refused hypotheses that nobody fetches are not kept for ever: so many are of the last minute or so.
MOST_REFUSED = 200
# What a node said is remembered for this long: a minute before the oldest step that can be undecided.
MEMORY_NS = 180_000_000_000


@dataclass
class Node:
    """What the associator remembers of a node: its place, its clutter and when it reported.

    `credit` counts its reports and the bangs that it took part in.
    """

    place: Place
    clutter: ClutterModel = field(default_factory=ClutterModel)
    recent_ns: deque[int] = field(default_factory=deque)
    asleep_ns: int | None = None
    credit: int = 0

    def copy(self) -> "Node":
        """Return a node that can hear more without this one remembering it."""
        return Node(self.place, self.clutter.copy(), self.recent_ns.copy(), self.asleep_ns, self.credit)

    def reported(self, from_ns: int, to_ns: int) -> int:
        """Return how often the node reported from a time up to, but not at, another."""
        return sum(from_ns <= time_ns < to_ns for time_ns in self.recent_ns)

    def awake(self, until_ns: int) -> bool:
        """Say whether its silence up to a time means something."""
        return self.credit >= LEAST_CREDIT and (self.asleep_ns is None or self.asleep_ns > until_ns)

    def refuses(self, time_ns: int) -> str | None:
        """Return why a report at a time says nothing new, or None; forget what is too old to matter."""
        while self.recent_ns and time_ns - self.recent_ns[0] > MEMORY_NS:
            self.recent_ns.popleft()
        if self.recent_ns and time_ns - self.recent_ns[-1] < DOUBLE_REPORT_S * 1e9:
            return "reports a sound a second time"
        if self.reported(time_ns - MINUTE_NS, time_ns + 1) >= MOST_A_MINUTE:
            return "comes from a node that chatters"
        return None


class Associator:
    """Finds the bangs in a stream of detections, with bounded memory.

    `know` tells of nodes (so that their silence counts), `add` of detections in time order; `settle` returns the bangs
    that nothing to come can change, `refused` what was not likely enough there, `glance` those that the detections so
    far suggest. `dropped` counts, by the reason, the detections that were no evidence.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._waiting: deque[Heard] = deque()
        self._taken: set[str] = set()
        self._settled: deque[Bang] = deque()
        self._step = 0
        self._refused: deque[Refused] = deque(maxlen=MOST_REFUSED)
        self._learner = Learner()
        self.dropped: Counter[str] = Counter()

    def know(self, node: str, lat: float, lon: float, alt_m: float) -> None:
        """Remember that a node stands, awake, at a place."""
        place = (lat, lon, alt_m)
        known = self._nodes.get(node)
        if known is None:
            if _make_room(self._nodes):
                self._nodes[node] = Node(place)
        else:
            known.place, known.asleep_ns = place, None

    def sleep(self, node: str, time_ns: int) -> None:
        """Remember that a node is off since a time: its silence means nothing from then on."""
        if node in self._nodes:
            self._nodes[node].asleep_ns = time_ns

    def add(self, detection: Detection) -> None:
        """Take in a detection; they must come in the order of their times."""
        heard = self._hear(self._nodes, detection, self.dropped)
        if heard is not None:
            self._waiting.append(heard)

    def settle(self, until_ns: int) -> list[Bang]:
        """Return, in the order of time, the bangs of all steps whose arrivals cannot be later than `until_ns`."""
        bangs: list[Bang] = []
        while self._skip_to_next() and self._ready_ns() <= until_ns:
            looked, refused = self._associate(self._step, self._step + 1, self._waiting)
            looked.sort(key=lambda bang: bang.time_ns)
            self._refused += refused
            for one in (one.detection for bang in looked for one in bang.heard):
                self._taken.add(one.id)
                if one.node in self._nodes:
                    self._nodes[one.node].credit += 1
                    self._nodes[one.node].clutter.claim(one.time_ns)
            left = (one for one in self._waiting if one.detection.id not in self._taken) if looked else ()
            unclaimed = [self._amid_background(one) for one in left]
            found = [self._learner.observe(bang, unclaimed) for bang in looked]
            self._settled.extend(found)
            bangs += found
            self._step += 1
            while self._settled and self._settled[0].time_ns < (self._step * STEP_S - AGAIN_S - STEP_S) * 1e9:
                self._settled.popleft()
        return sorted(bangs, key=lambda bang: bang.time_ns)

    def refused(self) -> list[Refused]:
        """Return the best hypotheses that steps settled since the last call did not find likely enough."""
        refused = list(self._refused)
        self._refused.clear()
        return refused

    def glance(self, newcomers: Iterable[Detection] = ()) -> list[Bang]:
        """Return the bangs that the detections so far suggest and `settle` has not returned yet.

        `newcomers`, in time order, may still be overtaken by older ones; they are looked at and not remembered.
        """
        nodes = dict(self._nodes)
        heard = []
        for detection in newcomers:
            if nodes.get(detection.node) is self._nodes.get(detection.node) and detection.node in nodes:
                nodes[detection.node] = self._nodes[detection.node].copy()
            heard.append(self._hear(nodes, detection, Counter()))
        fresh = [one for one in heard if one is not None]
        self._skip_to_next()
        waiting = [*self._waiting, *fresh]
        if not waiting:
            return []
        last_step = math.floor(waiting[-1].detection.time_ns / 1e9 / STEP_S) + 1
        looked, _ = self._associate(max(self._step, last_step - GLANCE_STEPS), last_step, waiting)
        return [self._learner.sharpen(bang) for bang in looked]

    def faults(self) -> Sequence[Fault]:
        """Return the nodes that settled bangs say are wrong about the time or their place."""
        return self._learner.faults()

    @staticmethod
    def decided_ns(until_ns: int) -> int:
        """Return the firing time up to which `settle(until_ns)` has decided everything."""
        return until_ns - round((2 * STEP_S + _wait_s()) * 1e9)

    @staticmethod
    def _hear(nodes: dict[str, Node], detection: Detection, dropped: Counter[str]) -> Heard | None:
        """Remember a detection at its node; return it as evidence, or None, counted, where it is none of its own."""
        if detection.node not in nodes and not _make_room(nodes):
            dropped["is of one node too many"] += 1
            return None
        place = (detection.lat, detection.lon, detection.alt_m)
        node = nodes.setdefault(detection.node, Node(place))
        node.place = place
        if node.asleep_ns is not None and detection.time_ns > node.asleep_ns:
            node.asleep_ns = None
        reason = node.refuses(detection.time_ns)
        if reason is not None:
            dropped[reason] += 1
            return None
        node.recent_ns.append(detection.time_ns)
        node.credit += 1
        place_sigma_s = detection.position_sigma_m / speed_of_sound_mps(UNKNOWN_TEMPERATURE_C)
        sigma_s = max(math.hypot(detection.time_sigma_s, place_sigma_s), LEAST_SIGMA_S)
        features = detection.features or {}
        compared = features.get("echo") if "echo_likeness" in features else None
        echo_hz = node.clutter.hear(detection.time_ns, detection.snr_db, compared)
        if sigma_s > USELESS_SIGMA_S:
            dropped["does not know its time well enough"] += 1
            return None
        return Heard(detection, sigma_s, echo_hz)

    def _amid_background(self, heard: Heard) -> Heard:
        """Return an arrival, of which the rate of echoes is known, with the background that is left by now."""
        node = self._nodes.get(heard.detection.node)
        clutter = ClutterModel() if node is None else node.clutter
        background_hz = clutter.background_hz(heard.detection.time_ns)
        return Heard(heard.detection, heard.sigma_s, heard.clutter_hz + background_hz)

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
        return round(((self._step + 1) * STEP_S + _wait_s()) * 1e9)

    def _associate(self, first_step: int, end_step: int, waiting: Iterable[Heard]) -> tuple[list[Bang], list[Refused]]:
        """Return the bangs fired from `first_step` up to `end_step`, best first, in view of those shortly after.

        The best of what was not likely enough comes second.
        An arrival well before the epoch belongs to an earlier step.
        """
        epoch_ns = round(first_step * STEP_S * 1e9)
        earliest_ns = epoch_ns - round(USELESS_SIGMA_S * 1e9)
        span_s = (end_step - first_step) * STEP_S
        latest_ns = epoch_ns + round((span_s + _wait_s()) * 1e9)
        inside = _together(
            [
                self._amid_background(heard)
                for heard in waiting
                if earliest_ns <= heard.detection.time_ns < latest_ns and heard.detection.id not in self._taken
            ]
        )
        if len({heard.detection.node for heard in inside}) < MIN_NODES:
            return [], []
        awake = {name: node for name, node in self._nodes.items() if node.awake(latest_ns)}
        lately = {name for name, node in awake.items() if node.reported(epoch_ns - HEARD_LATELY_NS, latest_ns)}
        places = {name: node.place for name, node in awake.items()}
        window = Window(inside, places, lately, epoch_ns, self._learner.given(inside))
        earlier = [bang for bang in self._settled if bang.time_ns >= epoch_ns - AGAIN_S * 1e9]
        found = window.bangs(span_s, OVERLAP_S, earlier)
        bangs = [bang for bang in found if bang.location.theta[2] < span_s and not is_coincidence(bang, inside)]
        end_ns = round(end_step * STEP_S * 1e9)
        return bangs, [one for one in window.refused if one.time_ns < end_ns]


def _together(inside: Sequence[Heard]) -> list[Heard]:
    """Return the arrivals without those of nodes that can hear no bang together with enough others.

    A place that is mistyped by kilometres would else open wide country to the search, where nothing speaks against
    bangs.
    """
    places: dict[str, tuple[float, float]] = {}
    for one in inside:
        places.setdefault(one.detection.node, (one.detection.lat, one.detection.lon))
    if len(places) < MIN_NODES:
        return []
    # A node that jumps loses the arrivals from where it jumped to, and only those.
    fixes = np.array([*places.values(), *((one.detection.lat, one.detection.lon) for one in inside)])
    nodes, heard = np.split(roughly_m(*fixes.T), [len(places)])
    apart_m = np.linalg.norm(heard[:, None] - nodes[None, :], axis=2)
    numbers = {node: number for number, node in enumerate(places)}
    own = np.array([numbers[one.detection.node] for one in inside])[:, None] == np.arange(len(places))
    reached = ((apart_m <= 2.0 * MAX_RANGE_M) | own).sum(axis=1) >= MIN_NODES
    return [one for one, reaches in zip(inside, reached, strict=True) if reaches]


def _make_room(nodes: dict[str, Node]) -> bool:
    """Say whether there is room for one more node; where there is none, forget the oldest of those without credit."""
    if len(nodes) < MOST_NODES:
        return True
    oldest = next((name for name, node in nodes.items() if node.credit < LEAST_CREDIT), None)
    if oldest is not None:
        del nodes[oldest]
    return oldest is not None


def _wait_s() -> float:
    """Return how long after a bang its last arrival can come, seconds, in the slowest air there is."""
    return MAX_RANGE_M / SLOWEST_SOUND_MPS + USELESS_SIGMA_S
