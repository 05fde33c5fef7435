"""Ingest: payloads as they come in, detections in the order of their times out.

Validates, takes an id once, refuses impossible times, and holds detections back until none that is older can still be
on its way.
"""

import heapq
import math
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from soundranger_broker.geodesy import Frame
from soundranger_node.errors import MessageError
from soundranger_node.messages import DETECTION, Detection
from soundranger_node.utc import NS_PER_S

# Ids are remembered for as long as a resend can come and no message is older: enough for an hour of a large network.
MOST_IDS = 200_000
# A node's clock may be ahead of ours by its bound and a little.
MOST_FUTURE_NS = 5 * NS_PER_S
# A node that reports more than this in a minute of its own time floods; the associator takes no more than a part of it
# for evidence anyway. Here it is counted and no more: nobody waits for it to be sorted.
MOST_A_MINUTE = 600
MINUTE_NS = 60 * NS_PER_S
# A place is another one where it is further off than so many standard deviations of both, and than this.
MOVED_SIGMAS, MOVED_M = 6.0, 30.0
# More nodes than any network of this kind has: names that nobody stops must not fill the memory.
MOST_NODES = 5_000
# Reasons hold lengths and places: more different ones than this are one node gone mad.
MOST_REASONS = 200
# What is dropped for these reasons is not stored either: it would fill the disk, or is another's under the same name.
FLOODS, OTHER_CONTENTS = "comes from a node that floods", "came before with other contents"
NOT_STORED = {FLOODS, OTHER_CONTENTS}


@dataclass(frozen=True)
class Taken:
    """What became of a payload: its detection's id where it has one (to be acked), and why it was dropped.

    `node` is the name of the node where it is located with; `moved_m` how far that has moved since it last said where
    it is, where that is more than it can be wrong. `stored` is the detection where it is to be stored: also one that
    came too late to be located, or came before, for the first may not have got as far as the store.
    """

    detection: str | None
    dropped: str | None = None
    node: str | None = None
    moved_m: float | None = None
    stored: Detection | None = None


@dataclass
class Ingest:
    """Takes payloads, gives detections in time order; `dropped` counts, by reason, what it did not keep.

    Safe from any thread.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    _seen: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    _places: dict[str, Detection] = field(default_factory=dict)
    _minutes: dict[int, Counter[str]] = field(default_factory=dict)
    _waiting: list[tuple[int, str, int, Detection]] = field(default_factory=list)
    _offered: int = 0
    _released_ns: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def offer(self, payload: bytes, now_ns: int, node: str | None = None) -> Taken:
        """Take a payload in; `node` is the name that its topic gives, where there is one."""
        try:
            detection = DETECTION.decode(payload)
        except MessageError as error:
            with self._lock:
                return self._drop(None, error.problem)
        with self._lock:
            return self._offer(detection, payload, now_ns, node)

    def counted(self) -> Counter[str]:
        """Return how much was dropped, by reason, until now."""
        with self._lock:
            return Counter(self.dropped)

    def _offer(self, detection: Detection, payload: bytes, now_ns: int, node: str | None) -> Taken:
        if node is not None and detection.node != node:
            return self._drop(None, "names another node than its topic")
        reason = self._refuses(detection, hash(payload), now_ns)
        if reason is not None:
            return self._drop(detection.id, reason, None if reason in NOT_STORED else detection)
        # An id that was forgotten can come again while the first still waits: the number keeps their order total.
        self._offered += 1
        heapq.heappush(self._waiting, (detection.time_ns, detection.id, self._offered, detection))
        return Taken(detection.id, node=detection.node, moved_m=self._moved_m(detection), stored=detection)

    def _refuses(self, detection: Detection, content: int, now_ns: int) -> str | None:
        """Return why a detection is not to be kept, or None; remember its id.

        `content` tells payloads apart: a node keeps what it sends as bytes, and sends the same again.
        """
        minute = detection.time_ns // MINUTE_NS
        if self._minutes.get(minute, Counter())[detection.node] >= MOST_A_MINUTE:
            return FLOODS
        # An id is a node's own: another that uses it, by mistake or not, takes nothing away.
        told = (detection.node, detection.id)
        if told in self._seen:
            return "came before" if self._seen[told] == content else OTHER_CONTENTS
        self._seen[told] = content
        if len(self._seen) > MOST_IDS:
            self._seen.popitem(last=False)
        if detection.time_ns > now_ns + MOST_FUTURE_NS:
            return "is dated in the future"
        if detection.time_ns < self._released_ns:
            return "came too late"
        self._minutes.setdefault(minute, Counter())[detection.node] += 1
        return None

    def _moved_m(self, detection: Detection) -> float | None:
        """Return how far a node has moved, or None; remember where it is now."""
        known = self._places.get(detection.node)
        if known is not None or len(self._places) < MOST_NODES:
            self._places[detection.node] = detection
        if known is None or (known.lat, known.lon) == (detection.lat, detection.lon):
            return None
        east_m, north_m, _ = Frame(known.lat, known.lon).to_enu(detection.lat, detection.lon)
        distance_m = math.hypot(east_m, north_m)
        sigma_m = math.hypot(known.position_sigma_m, detection.position_sigma_m)
        return distance_m if distance_m > max(MOVED_SIGMAS * sigma_m, MOVED_M) else None

    def release(self, until_ns: int) -> list[Detection]:
        """Return the detections up to `until_ns` in the order of their times; later ones must be younger."""
        with self._lock:
            self._released_ns = max(self._released_ns, until_ns)
            for minute in [minute for minute in self._minutes if minute < self._released_ns // MINUTE_NS]:
                del self._minutes[minute]
            ready: list[Detection] = []
            while self._waiting and self._waiting[0][0] < until_ns:
                ready.append(heapq.heappop(self._waiting)[-1])
            return ready

    def waiting(self) -> list[Detection]:
        """Return the detections that are held back, in the order of their times."""
        with self._lock:
            waiting = list(self._waiting)
        return [detection for *_, detection in sorted(waiting)]

    def _drop(self, detection: str | None, reason: str, stored: Detection | None = None) -> Taken:
        if reason not in self.dropped and len(self.dropped) >= MOST_REASONS:
            reason = "breaks rules in many ways"
        self.dropped[reason] += 1
        return Taken(detection, reason, stored=stored)
