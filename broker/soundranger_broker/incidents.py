"""Incidents: final events that belong together, such as the rounds of one shooting."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from soundranger_broker.geodesy import Frame
from soundranger_node.messages import Event, Incident

# Rounds further apart than this are two incidents.
MOST_PAUSE_NS = 60_000_000_000
# A shooter who runs for a few seconds, and two who face each other, are one incident.
MOST_DISTANCE_M = 200.0
# A message that names more events than this would not fit on the wire.
MOST_EVENTS = 2_000


@dataclass
class IncidentBook:
    """The incidents that may still grow."""

    _open: dict[str, tuple[Incident, list[Event]]] = field(default_factory=dict)

    def recall(self, incidents: Iterable[Incident], events: Iterable[Event]) -> None:
        """Take in incidents that may still grow, and their events, from before the centre started again."""
        known = {event.id: event for event in events}
        for incident in incidents:
            self._open[incident.id] = incident, [known[name] for name in incident.events if name in known]

    def add(self, event: Event) -> Incident:
        """Return the incident that a final event belongs to, with the event in it."""
        self._close_before(event.time_ns - MOST_PAUSE_NS)
        for known, events in self._open.values():
            if len(events) < MOST_EVENTS and any(_near(event, other) for other in events):
                grown = _incident(known.id, known.revision + 1, [*events, event])
                self._open[known.id] = grown, [*events, event]
                return grown
        started = _incident(f"incident-{event.id}", 0, [event])
        self._open[started.id] = started, [event]
        return started

    def _close_before(self, time_ns: int) -> None:
        self._open = {name: pair for name, pair in self._open.items() if pair[0].end_time_ns >= time_ns}


def _near(event: Event, other: Event) -> bool:
    east, north, _ = Frame(other.lat, other.lon).to_enu(event.lat, event.lon)
    return math.hypot(east, north) <= MOST_DISTANCE_M


def _incident(name: str, revision: int, events: list[Event]) -> Incident:
    times = [event.time_ns for event in events]
    # Metres, not degrees: these jump at the date line.
    frame = Frame(events[0].lat, events[0].lon)
    offsets = frame.to_enu([event.lat for event in events], [event.lon for event in events])
    lat, lon, _ = frame.to_geodetic(*np.median(offsets, axis=0).tolist())
    return Incident(
        id=name,
        revision=revision,
        start_time_ns=min(times),
        end_time_ns=max(times),
        lat=lat,
        lon=lon,
        rounds=len(events),
        events=[event.id for event in events],
    )
