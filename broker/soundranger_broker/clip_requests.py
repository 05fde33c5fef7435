"""Clip requests: which sounds are asked for, and again where none came; only those of final events."""

from dataclasses import dataclass, field
from typing import Final

from soundranger_node.messages import Event
from soundranger_node.utc import NS_PER_S

# A node sends no more than 60 clips an hour: sounds that are hardly of a bang must not use them up.
LEAST_PROBABILITY: Final = 0.8
# A node that was cut off for a moment is asked again after so long; after two minutes the sound is gone.
AGAIN_NS: Final = 25 * NS_PER_S
MOST_TIMES: Final = 3
# Requests that wait for an answer: an hour of the busiest network.
MOST_WAITING: Final = 20_000


@dataclass(frozen=True)
class Asked:
    """A clip that was asked for, how often, and when it is to be asked for again."""

    times: int
    again_ns: int


@dataclass
class ClipRequests:
    """The clips that are wanted and have not come, by node and detection."""

    _waiting: dict[tuple[str, str], Asked] = field(default_factory=dict)

    def want(self, event: Event, now_ns: int) -> None:
        """Ask for the sound at every node that a final event names."""
        if event.status != "final" or event.probability < LEAST_PROBABILITY:
            return
        for arrival in event.arrivals:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.setdefault((arrival.node, arrival.detection), Asked(0, now_ns))

    def came(self, node: str, detection: str) -> bool:
        """Ask no more for a clip that has come; return whether it was asked for."""
        return self._waiting.pop((node, detection), None) is not None

    def due(self, now_ns: int) -> list[tuple[str, str]]:
        """Return the nodes and detections that are to be asked about now; give up those that were, often enough."""
        due = [key for key, asked in self._waiting.items() if asked.again_ns <= now_ns]
        for key in due:
            times = self._waiting[key].times + 1
            if times > MOST_TIMES:
                del self._waiting[key]
            else:
                self._waiting[key] = Asked(times, now_ns + AGAIN_NS)
        return [key for key in due if key in self._waiting]
