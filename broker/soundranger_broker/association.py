"""Association: which arrivals belong to one bang.

Detections come in time order. Firing times are looked at in steps of a fixed grid: once every arrival that a bang of a
step can have made is in, the best hypotheses are taken one after the other, each with its arrivals, until what is left
is more likely clutter. So the result depends on the detections alone, not on when or in which portions they came: a
stream and a file give the same events.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from soundranger_broker.bang import MIN_NODES, Bang, Heard
from soundranger_broker.coincidence import is_coincidence
from soundranger_broker.faults import Fault
from soundranger_broker.geodesy import roughly_m
from soundranger_broker.learning import Learner
from soundranger_broker.nodes import USELESS_SIGMA_S, Nodes
from soundranger_broker.search import AGAIN_S
from soundranger_broker.window import MAX_RANGE_M, Draft, Look, Refused, Window
from soundranger_node.messages import Detection
from soundranger_node.utc import NS_PER_S

# Firing times are decided this many seconds at a time, on a grid of whole seconds.
STEP_S = 1.0
# A hypothesis of a step competes with those fired up to this much later: one that is far off would otherwise take the
# arrivals of one that is near and was fired after it.
OVERLAP_S = 3.0
# A first look goes back over this many steps: longer than sound needs to cross most networks.
GLANCE_STEPS = 8
# Glances try for so long whether what nobody owns is the first arrival of a bang: until four nodes have heard it.
SEEDING_NS = 1_500_000_000
# Sound at -30 C into a strong wind.
SLOWEST_SOUND_MPS = 300.0
# The silence of a node that has said nothing for this long says little: it may be off.
HEARD_LATELY_NS = 60 * NS_PER_S
# Refused hypotheses that nobody fetches are not kept for ever: so many are of the last minute or so.
MOST_REFUSED = 200


class Glimpse(NamedTuple):
    """What glances have `seen`, and their `drafts`, as in `Look`."""

    seen: frozenset[tuple[str, str]] = frozenset()
    drafts: tuple[Draft, ...] = ()


class Associator:
    """Finds the bangs in a stream of detections, with bounded memory.

    `know` tells of nodes (so that their silence counts), `add` of detections in time order; `settle` returns the bangs
    that nothing to come can change, `refused` what was not likely enough there, `glance` those that the detections so
    far suggest.
    """

    def __init__(self) -> None:
        self._nodes = Nodes()
        self._waiting: deque[Heard] = deque()
        self._taken: set[tuple[str, str]] = set()
        self._settled: deque[Bang] = deque()
        self._step = 0
        self._refused: deque[Refused] = deque(maxlen=MOST_REFUSED)
        self._glimpsed = Glimpse()
        self._learner = Learner()

    @property
    def dropped(self) -> Counter[str]:
        """How many detections were no evidence, by the reason."""
        return self._nodes.dropped

    def know(self, node: str, lat: float, lon: float, alt_m: float) -> None:
        """Remember that a node stands, awake, at a place."""
        self._nodes.know(node, (lat, lon, alt_m))

    def sleep(self, node: str, time_ns: int) -> None:
        """Remember that a node is off since a time: its silence means nothing from then on."""
        self._nodes.sleep(node, time_ns)

    def add(self, detection: Detection) -> None:
        """Take in a detection; they must come in the order of their times."""
        heard = self._nodes.hear(detection)
        if heard is not None:
            self._waiting.append(heard)

    def settle(self, until_ns: int) -> list[Bang]:
        """Return, in the order of time, the bangs of all steps whose arrivals cannot be later than `until_ns`."""
        bangs: list[Bang] = []
        while self._skip_to_next() and self._ready_ns() <= until_ns:
            looked = self._settle_step()
            left = (one for one in self._waiting if one.name not in self._taken) if looked else ()
            unclaimed = [self._nodes.amid_background(one) for one in left]
            found = [self._learner.observe(bang, unclaimed) for bang in looked]
            self._settled.extend(found)
            bangs += found
            self._step += 1
            while self._settled and self._settled[0].time_ns < (self._step * STEP_S - AGAIN_S - STEP_S) * NS_PER_S:
                self._settled.popleft()
        return sorted(bangs, key=lambda bang: bang.time_ns)

    def refused(self) -> list[Refused]:
        """Return the best hypotheses that steps settled since the last call did not find likely enough."""
        refused = list(self._refused)
        self._refused.clear()
        return refused

    def glance(self, newcomers: Sequence[Detection], heard_until_ns: int) -> list[Bang]:
        """Return the bangs that the detections so far suggest and `settle` has not returned yet.

        `newcomers`, in time order, may still be overtaken by older ones; they are looked at and not remembered. Of what
        sounded after `heard_until_ns`, reports may still be on their way. A glance goes on from the one before.
        """
        nodes = self._nodes.without_memory(one.node for one in newcomers)
        fresh = (nodes.hear(one) for one in newcomers)
        self._skip_to_next()
        waiting = [*self._waiting, *(one for one in fresh if one is not None)]
        if not waiting:
            return []
        last_step = math.floor(waiting[-1].detection.time_ns / NS_PER_S / STEP_S) + 1
        first_step = max(self._step, last_step - GLANCE_STEPS)
        epoch_ns = round(first_step * STEP_S * NS_PER_S)
        look = Look(
            epoch_ns=epoch_ns,
            span_s=(last_step - first_step) * STEP_S,
            thorough_s=0.0,
            overlap_s=OVERLAP_S,
            heard_until_s=(heard_until_ns - epoch_ns) / NS_PER_S,
            seen=self._glimpsed.seen,
            drafts=self._glimpsed.drafts,
        )
        looked, window = self._associate(look, waiting)
        if window is not None:
            since_ns = heard_until_ns - SEEDING_NS
            seen = (one.name for one in waiting if one.name in window.owned or one.detection.time_ns < since_ns)
            self._glimpsed = Glimpse(frozenset(seen), window.drafts)
        return [self._learner.sharpen(bang) for bang in looked]

    def faults(self) -> Sequence[Fault]:
        """Return the nodes that settled bangs say are wrong about the time or their place."""
        return self._learner.faults()

    @staticmethod
    def decided_ns(until_ns: int) -> int:
        """Return the firing time up to which `settle(until_ns)` has decided everything."""
        return until_ns - round((2 * STEP_S + _wait_s()) * 1e9)

    def _settle_step(self) -> list[Bang]:
        """Return the bangs of the step that is next, in the order of time, and take their arrivals."""
        look = Look(round(self._step * STEP_S * NS_PER_S), span_s=STEP_S, thorough_s=STEP_S, overlap_s=OVERLAP_S)
        looked, window = self._associate(look, self._waiting)
        looked.sort(key=lambda bang: bang.time_ns)
        if window is not None:
            end_ns = look.epoch_ns + round(STEP_S * NS_PER_S)
            self._refused += [one for one in window.refused if one.time_ns < end_ns]
        for one in (one for bang in looked for one in bang.heard):
            self._taken.add(one.name)
            self._nodes.claim(one.detection)
        return looked

    def _skip_to_next(self) -> bool:
        """Go to the next step that can hold a bang, dropping what is past; say whether there is one."""
        while self._waiting:
            first = self._waiting[0]
            before_s = first.detection.time_ns / NS_PER_S - _wait_s()
            self._step = max(self._step, math.floor(before_s / STEP_S))
            past = first.detection.time_ns / NS_PER_S < self._step * STEP_S - USELESS_SIGMA_S
            if not past and first.name not in self._taken:
                return True
            self._waiting.popleft()
            self._taken.discard(first.name)
        return False

    def _ready_ns(self) -> int:
        return round(((self._step + 1) * STEP_S + _wait_s()) * 1e9)

    def _associate(self, look: Look, waiting: Iterable[Heard]) -> tuple[list[Bang], Window | None]:
        """Return the bangs of a look, best first, and the window that it was through, if there was anything to see.

        An arrival well before the epoch belongs to an earlier step.
        """
        earliest_ns = look.epoch_ns - round(USELESS_SIGMA_S * NS_PER_S)
        latest_ns = look.epoch_ns + round((look.span_s + _wait_s()) * NS_PER_S)
        inside = _together(
            [
                self._nodes.amid_background(heard)
                for heard in waiting
                if earliest_ns <= heard.detection.time_ns < latest_ns and heard.name not in self._taken
            ]
        )
        if len({heard.detection.node for heard in inside}) < MIN_NODES:
            return [], None
        awake = dict(self._nodes.awake(latest_ns))
        since_ns = look.epoch_ns - HEARD_LATELY_NS
        lately = {name for name, node in awake.items() if node.reported(since_ns, latest_ns)}
        places = {name: node.place for name, node in awake.items()}
        window = Window(inside, places, lately, self._learner.given(inside), look)
        earlier = [bang for bang in self._settled if bang.time_ns >= look.epoch_ns - AGAIN_S * NS_PER_S]
        found = window.bangs(earlier)
        bangs = [bang for bang in found if bang.location.theta[2] < look.span_s and not is_coincidence(bang, inside)]
        return bangs, window


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


def _wait_s() -> float:
    """Return how long after a bang its last arrival can come, seconds, in the slowest air there is."""
    return MAX_RANGE_M / SLOWEST_SOUND_MPS + USELESS_SIGMA_S
