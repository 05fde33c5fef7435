"""The scorecard of a simulation: which shots were located, how far off, how soon, and what was no shot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from soundranger_broker.geodesy import Frame
from soundranger_broker.simulation import Shot
from soundranger_node.messages import Event

# An event within this of a shot, in place and in time, is that shot.
MATCH_M = 100.0
MATCH_NS = 350_000_000
# As many nodes must have heard a shot for it to count as missed when it is not located.
ENOUGH_NODES = 4


class Line(msgspec.Struct, frozen=True):
    """One event of the demonstration, with what only the simulator knows: the true shot and the error."""

    event: str
    status: str
    time_ns: int
    lat: float
    lon: float
    semi_major_m: float
    semi_minor_m: float
    bearing_deg: float
    probability: float
    nodes: int
    shot: str | None
    error_m: float | None
    inside_ellipse: bool | None
    first_delay_s: float | None
    delay_s: float | None


class Totals(msgspec.Struct, frozen=True):
    """The last line of a demonstration."""

    totals: bool
    shots: int
    shots_heard_by_4: int
    located: int
    located_share: float | None
    events: int
    events_without_shot: int
    retracted: int
    median_error_m: float | None
    p95_error_m: float | None
    inside_ellipse95_share: float | None
    median_first_delay_s: float | None
    median_final_delay_s: float | None


@dataclass
class Scorecard:
    """Takes shots as they are fired and events as they are published."""

    shots: dict[str, tuple[Shot, int]] = field(default_factory=dict)
    _first_ns: dict[str, int] = field(default_factory=dict)
    _lines: list[Line] = field(default_factory=list)
    _retracted: int = 0

    def fired(self, shot: Shot, heard_by: int) -> None:
        """Note a shot and how many nodes hear it."""
        self.shots[shot.id] = shot, heard_by

    def published(self, event: Event, now_ns: int) -> Line:
        """Note an event that was published, and return what is to be said of it."""
        self._first_ns.setdefault(event.id, now_ns)
        line = self._line(event, now_ns)
        if event.status == "final":
            self._lines.append(line)
        self._retracted += event.status == "retracted"
        return line

    def totals(self) -> Totals:
        """Return the sums over all final events."""
        found = {line.shot for line in self._lines if line.shot is not None}
        audible = {name for name, (_, nodes) in self.shots.items() if nodes >= ENOUGH_NODES}
        matched = [line for line in self._lines if line.shot is not None]
        errors = [line.error_m for line in matched if line.error_m is not None]
        return Totals(
            totals=True,
            shots=len(self.shots),
            shots_heard_by_4=len(audible),
            located=len(found & audible),
            located_share=len(found & audible) / len(audible) if audible else None,
            events=len(self._lines),
            events_without_shot=len(self._lines) - len(found),
            retracted=self._retracted,
            median_error_m=_percentile(errors, 50),
            p95_error_m=_percentile(errors, 95),
            inside_ellipse95_share=_mean([line.inside_ellipse for line in matched]),
            median_first_delay_s=_percentile([line.first_delay_s for line in matched], 50),
            median_final_delay_s=_percentile([line.delay_s for line in matched], 50),
        )

    def _line(self, event: Event, now_ns: int) -> Line:
        shot = self._nearest(event)
        error = _error(event, shot) if shot is not None else None
        since_s = (lambda moment_ns: (moment_ns - shot.time_ns) / 1e9) if shot is not None else (lambda _: None)
        return Line(
            event=event.id,
            status=event.status,
            time_ns=event.time_ns,
            lat=event.lat,
            lon=event.lon,
            semi_major_m=event.ellipse95.semi_major_m,
            semi_minor_m=event.ellipse95.semi_minor_m,
            bearing_deg=event.ellipse95.bearing_deg,
            probability=event.probability,
            nodes=sum(arrival.used for arrival in event.arrivals),
            shot=shot.id if shot is not None else None,
            error_m=float(np.hypot(*error)) if error is not None else None,
            inside_ellipse=_inside(event, error) if error is not None else None,
            first_delay_s=since_s(self._first_ns[event.id]),
            delay_s=since_s(now_ns),
        )

    def _nearest(self, event: Event) -> Shot | None:
        """Return the shot that an event matches, if any."""
        near = [shot for shot, _ in self.shots.values() if abs(shot.time_ns - event.time_ns) <= MATCH_NS]
        distances = {shot.id: math.hypot(*_error(event, shot)) for shot in near}
        near = [shot for shot in near if distances[shot.id] <= MATCH_M]
        return min(near, key=lambda shot: abs(shot.time_ns - event.time_ns), default=None)


def _error(event: Event, shot: Shot) -> tuple[float, float]:
    east_m, north_m, _ = Frame(shot.lat, shot.lon).to_enu(event.lat, event.lon)
    return float(east_m), float(north_m)


def _inside(event: Event, error: tuple[float, float]) -> bool:
    off = np.array(error)
    return bool(off @ np.linalg.solve(np.array(event.covariance_en_m2), off) <= -2.0 * math.log(0.05))


def _percentile(values: Sequence[float | None], percent: float) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.percentile(known, percent)) if known else None


def _mean(values: Sequence[bool | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
