"""Tracking: gives bangs a name that lasts, and says what about them is new.

A bang is first seen when four nodes agree (preliminary), again as more arrive (a higher revision) and once more when
nothing can change it (final); one that the final look does not confirm is retracted, with the reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from soundranger_broker.events import event_id, to_event
from soundranger_broker.window import Bang
from soundranger_node.messages import Event

# Two looks at the same bang share at least this many of the arrivals that each rests on.
SHARED_ARRIVALS = 3


def _detections(event: Event) -> frozenset[str]:
    return frozenset(arrival.detection for arrival in event.arrivals)


@dataclass
class Tracker:
    """The events that are not final yet, by their id."""

    _open: dict[str, Event] = field(default_factory=dict)

    def preliminary(self, bangs: Iterable[Bang]) -> list[Event]:
        """Return what is new in a look at bangs that may still change."""
        news: list[Event] = []
        for bang in bangs:
            earlier = self._counterpart(bang)
            if earlier is None:
                event = to_event(bang, event_id(bang), 0, "preliminary")
            else:
                event = to_event(bang, earlier.id, earlier.revision + 1, "preliminary")
                if _detections(event) == _detections(earlier):
                    continue
            self._open[event.id] = event
            news.append(event)
        return news

    def final(self, bangs: Iterable[Bang], decided_ns: int) -> list[Event]:
        """Return the final events of bangs, and retractions of what was not confirmed before `decided_ns`."""
        news: list[Event] = []
        for bang in bangs:
            earlier = self._counterpart(bang)
            if earlier is None:
                news.append(to_event(bang, event_id(bang), 0, "final"))
            else:
                del self._open[earlier.id]
                news.append(to_event(bang, earlier.id, earlier.revision + 1, "final"))
        for event in [event for event in self._open.values() if event.time_ns < decided_ns]:
            del self._open[event.id]
            news.append(_retracted(event))
        return news

    def _counterpart(self, bang: Bang) -> Event | None:
        """Return the open event that shares most arrivals with a bang, if it shares enough, or else its name."""
        arrivals = {one.detection.id for one in bang.heard}
        best = max(self._open.values(), key=lambda event: len(arrivals & _detections(event)), default=None)
        if best is None or len(arrivals & _detections(best)) < SHARED_ARRIVALS:
            return self._open.get(event_id(bang))
        return best


def _retracted(event: Event) -> Event:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    fields |= {
        "revision": event.revision + 1,
        "status": "retracted",
        "reason": "once every node had been heard, the arrivals fitted other bangs or chance better",
    }
    return Event(**fields)
