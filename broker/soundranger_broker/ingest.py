"""Ingest: payloads as they come in, detections in the order of their times out.

Validates, takes an id once, refuses impossible times, and holds detections back until none that is older can still be
on its way.
"""

import heapq
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from soundranger_node.errors import MessageError
from soundranger_node.messages import DETECTION, Detection

# Ids are remembered for as long as a resend can come and no message is older: enough for an hour of a large network.
MOST_IDS = 200_000
# A node's clock may be ahead of ours by its bound and a little.
MOST_FUTURE_NS = 5_000_000_000
# Reasons hold lengths and places: more different ones than this are one node gone mad.
MOST_REASONS = 200


@dataclass(frozen=True)
class Taken:
    """What became of a payload: its detection's id where it has one (to be acked), and why it was dropped."""

    detection: str | None
    dropped: str | None = None


@dataclass
class Ingest:
    """Takes payloads, gives detections in time order; `dropped` counts, by reason, what it did not keep."""

    dropped: Counter[str] = field(default_factory=Counter)
    _seen: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    _waiting: list[tuple[int, str, int, Detection]] = field(default_factory=list)
    _offered: int = 0
    _released_ns: int = 0

    def offer(self, payload: bytes, now_ns: int, node: str | None = None) -> Taken:
        """Take a payload in; `node` is the name that its topic gives, where there is one."""
        try:
            detection = DETECTION.decode(payload)
        except MessageError as error:
            return self._drop(None, error.problem)
        if node is not None and detection.node != node:
            return self._drop(None, "names another node than its topic")
        # An id is a node's own: another that uses it, by mistake or not, takes nothing away.
        told = (detection.node, detection.id)
        if told in self._seen:
            return self._drop(detection.id, "came before")
        self._seen[told] = None
        if len(self._seen) > MOST_IDS:
            self._seen.popitem(last=False)
        if detection.time_ns > now_ns + MOST_FUTURE_NS:
            return self._drop(detection.id, "is dated in the future")
        if detection.time_ns < self._released_ns:
            return self._drop(detection.id, "came too late")
        # An id that was forgotten can come again while the first still waits: the number keeps their order total.
        self._offered += 1
        heapq.heappush(self._waiting, (detection.time_ns, detection.id, self._offered, detection))
        return Taken(detection.id)

    def release(self, until_ns: int) -> list[Detection]:
        """Return the detections up to `until_ns` in the order of their times; later ones must be younger."""
        self._released_ns = max(self._released_ns, until_ns)
        ready: list[Detection] = []
        while self._waiting and self._waiting[0][0] < until_ns:
            ready.append(heapq.heappop(self._waiting)[-1])
        return ready

    def waiting(self) -> list[Detection]:
        """Return the detections that are held back, in the order of their times."""
        return [detection for *_, detection in sorted(self._waiting)]

    def _drop(self, detection: str | None, reason: str) -> Taken:
        if reason not in self.dropped and len(self.dropped) >= MOST_REASONS:
            reason = "breaks rules in many ways"
        self.dropped[reason] += 1
        return Taken(detection, reason)
