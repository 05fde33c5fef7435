"""What the associator remembers of nodes: where each stands, its clutter, when it reported, and whether it is awake."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from soundranger_broker.acoustics import speed_of_sound_mps
from soundranger_broker.bang import Heard, Place
from soundranger_broker.clutter import ClutterModel
from soundranger_broker.learning import UNKNOWN_TEMPERATURE_C
from soundranger_node.messages import Detection
from soundranger_node.utc import NS_PER_S

# Two reports of one node within this time are one sound reported twice: rounds are 50 ms apart at the least.
DOUBLE_REPORT_S = 0.02
# No onset is known better than this, whatever a node says.
LEAST_SIGMA_S = 1e-4
# A detection that does not know its time to this is no evidence for any place.
USELESS_SIGMA_S = 0.5
# A node that reports more than this within a minute chatters: the rest says nothing.
MOST_A_MINUTE = 240
MINUTE_NS = 60 * NS_PER_S
# The silence of a node means something once it has reported twice, or once as part of a bang: a name that is made up
# anew for every report never does.
LEAST_CREDIT = 2
# More nodes than any network of this kind has: names that nobody stops must not fill the memory. Those without credit
# make room for new ones.
MOST_NODES = 5_000
# What a node said is remembered for this long: a minute before the oldest step that can be undecided.
MEMORY_NS = 180 * NS_PER_S


@dataclass
class Node:
    """What is remembered of a node; `credit` counts its reports and the bangs that it took part in."""

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
        if self.recent_ns and time_ns - self.recent_ns[-1] < DOUBLE_REPORT_S * NS_PER_S:
            return "reports a sound a second time"
        if self.reported(time_ns - MINUTE_NS, time_ns + 1) >= MOST_A_MINUTE:
            return "comes from a node that chatters"
        return None

    def hear(self, detection: Detection) -> float:
        """Remember a detection; return the rate of echoes (Hz) there."""
        self.recent_ns.append(detection.time_ns)
        self.credit += 1
        features = detection.features or {}
        compared = features.get("echo") if "echo_likeness" in features else None
        return self.clutter.hear(detection.time_ns, detection.snr_db, compared)


class Nodes:
    """All nodes that were heard of, by name, of bounded number; `dropped` counts reports that are no evidence."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._first_ns: int | None = None
        self.dropped: Counter[str] = Counter()

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def know(self, name: str, place: Place) -> None:
        """Remember that a node stands, awake, at a place."""
        known = self._nodes.get(name)
        if known is not None:
            known.place, known.asleep_ns = place, None
        elif self._make_room():
            self._nodes[name] = Node(place)

    def sleep(self, name: str, time_ns: int) -> None:
        """Remember that a node is off since a time: its silence means nothing from then on."""
        if name in self._nodes:
            self._nodes[name].asleep_ns = time_ns

    def hear(self, detection: Detection) -> Heard | None:
        """Remember a detection at its node; return it as evidence, or None, counted, where it is none of its own."""
        if detection.node not in self._nodes and not self._make_room():
            self.dropped["is of one node too many"] += 1
            return None
        self._first_ns = detection.time_ns if self._first_ns is None else self._first_ns
        place = (detection.lat, detection.lon, detection.alt_m)
        node = self._nodes.setdefault(detection.node, Node(place))
        node.place = place
        if node.asleep_ns is not None and detection.time_ns > node.asleep_ns:
            node.asleep_ns = None
        reason = node.refuses(detection.time_ns)
        if reason is not None:
            self.dropped[reason] += 1
            return None
        echo_hz = node.hear(detection)
        place_sigma_s = detection.position_sigma_m / speed_of_sound_mps(UNKNOWN_TEMPERATURE_C)
        sigma_s = max(math.hypot(detection.time_sigma_s, place_sigma_s), LEAST_SIGMA_S)
        if sigma_s > USELESS_SIGMA_S:
            self.dropped["does not know its time well enough"] += 1
            return None
        return Heard(detection, sigma_s, echo_hz)

    def claim(self, detection: Detection) -> None:
        """Remember that a bang made what a node reported."""
        if detection.node in self._nodes:
            self._nodes[detection.node].credit += 1
            self._nodes[detection.node].clutter.claim(detection.time_ns)

    def amid_background(self, heard: Heard) -> Heard:
        """Return an arrival, of which the rate of echoes is known, with the background that is left by now."""
        node = self._nodes.get(heard.detection.node)
        clutter = ClutterModel() if node is None else node.clutter
        time_ns = heard.detection.time_ns
        # The first report of all is the start of the minute that is still to be learnt from.
        listened_s = (time_ns - (time_ns if self._first_ns is None else self._first_ns)) / NS_PER_S
        background_hz = clutter.background_hz(time_ns, listened_s)
        return Heard(heard.detection, heard.sigma_s, heard.clutter_hz + background_hz)

    def awake(self, until_ns: int) -> Iterator[tuple[str, Node]]:
        """Yield those whose silence up to a time means something, with their names."""
        return ((name, node) for name, node in self._nodes.items() if node.awake(until_ns))

    def without_memory(self, names: Iterable[str]) -> "Nodes":
        """Return the nodes, of which those named can hear more without these remembering it."""
        nodes = Nodes()
        nodes._first_ns = self._first_ns
        nodes._nodes = self._nodes | {name: self._nodes[name].copy() for name in set(names) & self._nodes.keys()}
        return nodes

    def _make_room(self) -> bool:
        """Say whether there is room for one more; where there is none, forget the oldest of those without credit."""
        if len(self._nodes) < MOST_NODES:
            return True
        oldest = next((name for name, node in self._nodes.items() if node.credit < LEAST_CREDIT), None)
        if oldest is not None:
            del self._nodes[oldest]
        return oldest is not None
