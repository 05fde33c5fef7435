"""Tracking: gives bangs a name that lasts, and says what about them is new.

A bang is first seen when four nodes agree (preliminary), again as more arrive and change what is known of it (a higher
revision) and once more when nothing can change it (final); one that the final look does not confirm is retracted, with
the reason. Every event that was told has one last word, and each final bang is told under one name.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count

import msgspec
import numpy as np

from soundranger_broker import words
from soundranger_broker.bang import Bang
from soundranger_broker.events import event_id, to_event
from soundranger_broker.geodesy import Frame
from soundranger_broker.location import CHI2_95_2D
from soundranger_node.messages import Event, EventStatus

# Two looks at the same bang share at least this many of the arrivals that each rests on.
SHARED_ARRIVALS = 3
# What is seen on a map: a place that moves by this share of its ellipse, axes that change by this share ...
MOVED_SHARE, SIZE_SHARE = 0.25, 0.2
# ... and a probability that changes by this much.
PROBABILITY_STEP = 0.05
# Final events are remembered while an open one can still turn out to be a part of one: longer than any look goes back.
MOST_CLOSED = 500


@dataclass(frozen=True)
class _Open:
    """An event that is not final: as it was last told, and the arrivals that the last look gave it.

    `heard_since` are nodes that were heard between the last look that saw it and the first that did not.
    """

    told: Event
    arrivals: frozenset[str]
    heard_since: tuple[str, ...] | None = None


@dataclass
class Tracker:
    """The events that are not final yet, by their id, and the last of those that are."""

    _open: dict[str, _Open] = field(default_factory=dict)
    _closed: deque[Event] = field(default_factory=lambda: deque(maxlen=MOST_CLOSED))
    # What was final before the centre started again, and is found once more.
    _recalled: list[frozenset[str]] = field(default_factory=list)

    def recall(self, told: Sequence[Event]) -> None:
        """Take in what was told, the newest revision of each, before the centre started again."""
        for event in told:
            arrivals = frozenset(arrival.detection for arrival in event.arrivals)
            if event.status == "preliminary":
                self._open[event.id] = _Open(event, arrivals)
                continue
            self._closed.append(event)
            if event.status == "final":
                self._recalled.append(arrivals)

    def preliminary(self, bangs: Sequence[Bang], newly_heard: Sequence[str] = ()) -> list[Event]:
        """Return what is new in a look at bangs that may still change; `newly_heard` are nodes heard since the last."""
        news: list[Event] = []
        seen: set[str] = set()
        for bang, known in self._matched(self._not_recalled(bangs)):
            event = self._event(bang, known, "preliminary")
            seen.add(event.id)
            if known is not None and not worth_telling(known.told, event):
                self._open[event.id] = _Open(known.told, _detections(bang))
                continue
            self._open[event.id] = _Open(event, _detections(bang))
            news.append(event)
        for name, known in self._open.items():
            if name not in seen and known.heard_since is None:
                self._open[name] = _Open(known.told, known.arrivals, tuple(newly_heard))
        return news

    def final(self, bangs: Sequence[Bang], decided_ns: int) -> list[Event]:
        """Return the final events of bangs, and retractions of what was not confirmed before `decided_ns`."""
        news: list[Event] = []
        for bang, known in self._matched(self._not_recalled(bangs)):
            event = self._event(bang, known, "final")
            self._open.pop(event.id, None)
            self._closed.append(event)
            news.append(event)
        for known in [known for known in self._open.values() if known.told.time_ns < decided_ns]:
            event = self._retracted(known)
            del self._open[event.id]
            self._closed.append(event)
            news.append(event)
        return news

    def _not_recalled(self, bangs: Sequence[Bang]) -> list[Bang]:
        """Return the bangs that were not final before the centre started again."""
        return [
            bang
            for bang in bangs
            if not any(len(_detections(bang) & arrivals) >= SHARED_ARRIVALS for arrivals in self._recalled)
        ]

    def _event(self, bang: Bang, known: _Open | None, status: EventStatus) -> Event:
        if known is None:
            return to_event(bang, self._new_name(bang), 0, status)
        return to_event(bang, known.told.id, known.told.revision + 1, status)

    def _new_name(self, bang: Bang) -> str:
        """Return a name that no event has or had: two bangs can share a second and a first arrival."""
        taken = self._open.keys() | {event.id for event in self._closed}
        name = event_id(bang)
        others = (f"{name}-{number}" for number in count(2))
        return next(one for one in chain([name], others) if one not in taken)

    def _matched(self, bangs: Sequence[Bang]) -> list[tuple[Bang, _Open | None]]:
        """Return each bang with the open event that it is, or None; no two are the same event.

        Those that share most arrivals go together.
        """
        pairs = [
            (len(_detections(bang) & known.arrivals), index, name)
            for index, bang in enumerate(bangs)
            for name, known in self._open.items()
        ]
        match: dict[int, str] = {}
        for shared, index, name in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if shared >= SHARED_ARRIVALS and index not in match and name not in match.values():
                match[index] = name
        return [(bang, self._open.get(match.get(index, ""))) for index, bang in enumerate(bangs)]

    def _retracted(self, known: _Open) -> Event:
        return msgspec.structs.replace(
            known.told,
            revision=known.told.revision + 1,
            status="retracted",
            reason=words.sentence(self._why_false(known)),
        )

    def _why_false(self, known: _Open) -> str:
        """Return why an event that was told is none, as far as what was heard since then says it."""
        for event in reversed(self._closed):
            shared = known.arrivals & {arrival.detection for arrival in event.arrivals}
            if event.status == "final" and shared:
                nodes = sorted(arrival.node for arrival in event.arrivals if arrival.detection in shared)
                return f"the arrivals of {words.names(nodes)} belong to event {event.id}"
        if known.heard_since:
            heard = words.names(sorted(set(known.heard_since)))
            return f"once {heard} had been heard, chance explained its arrivals better than one bang"
        if known.told.silent:
            silent = words.names(known.told.silent)
            return f"{silent} should have heard it and did not, so that chance explains its arrivals better"
        return "once every node had been heard, its probability fell below what makes an event"


def worth_telling(told: Event, now: Event) -> bool:
    """Say whether a person would see what has changed: the place, the size of its ellipse, or how sure it is."""
    old, new = told.ellipse95, now.ellipse95
    sizes = ((old.semi_major_m, new.semi_major_m), (old.semi_minor_m, new.semi_minor_m))
    return (
        _moved_share(told, now) > MOVED_SHARE
        or any(abs(after - before) > SIZE_SHARE * before for before, after in sizes)
        or abs(now.probability - told.probability) > PROBABILITY_STEP
        or _doubts(now) != _doubts(told)
        or (now.alternatives is None) != (told.alternatives is None)
    )


def _doubts(event: Event) -> int:
    """Return how many sentences of doubt an event has; the numbers in them change with every arrival."""
    return 0 if event.reason is None else event.reason.count(". ") + 1


def _moved_share(told: Event, now: Event) -> float:
    """Return how far an event has moved, in radii of the 95 % ellipse that was told."""
    east, north, _ = Frame(told.lat, told.lon).to_enu(now.lat, now.lon)
    way = np.array([east, north])
    covariance = np.array(told.covariance_en_m2) + np.eye(2) * 1e-6
    return float(np.sqrt(way @ np.linalg.solve(covariance, way) / CHI2_95_2D))


def _detections(bang: Bang) -> frozenset[str]:
    return frozenset(one.detection.id for one in bang.heard)
