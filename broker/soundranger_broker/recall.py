"""Recall: a centre that starts again goes on where it stopped, from what it has stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from soundranger_broker.locator import Locator
from soundranger_broker.storage import reading
from soundranger_broker.storage.reading import Page, Review, Wanted
from soundranger_broker.storage.store import Store
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.picture import MAX_EVENTS, MAX_INCIDENTS, Reviewed
from soundranger_node.messages import Event, Incident
from soundranger_node.utc import NS_PER_S

# What came in in the last so many ns before the end may not have been decided: lateness, flight time, and looks.
UNDECIDED_NS: Final = 120 * NS_PER_S


@dataclass(frozen=True)
class Memory:
    """What was told in the minutes before the end, and those of these events of which no clip has come."""

    told: Sequence[Event] = ()
    incidents: Sequence[Incident] = ()
    without_clips: Sequence[Event] = ()


def recall(store: Store, locator: Locator) -> Memory:
    """Give the locator the detections that it had not decided, and return what had been told until then."""
    with store.engine.begin() as connection:
        last_ns = reading.last_received_ns(connection)
        if last_ns is None:
            return Memory()
        since_ns = last_ns - UNDECIDED_NS
        told = [one.event for one in reading.all_events(connection, Wanted(since_ns=since_ns - UNDECIDED_NS))]
        incidents = reading.incidents(connection, Page(MAX_INCIDENTS), since_ns=since_ns)
        silent = [event for event in told if not reading.clip_headers_of(connection, event.id)]
        reports = list(reading.reports_received_since(connection, since_ns))
    for report in reports:
        locator.detection(report.payload, report.received_ns, report.node)
    return Memory(told, incidents, silent)


def show(store: Store, hub: Hub) -> None:
    """Put what was told last onto the page."""
    with store.engine.begin() as connection:
        for stored in reversed(reading.events(connection, Wanted(), Page(MAX_EVENTS))):
            hub.publish(stored.event)
            if stored.review.reviewed_ns is not None:
                hub.publish(_reviewed(stored.event.id, stored.review, stored.review.reviewed_ns))
        for incident in reversed(reading.incidents(connection, Page(MAX_INCIDENTS))):
            hub.publish(incident)


def _reviewed(event: str, review: Review, reviewed_ns: int) -> Reviewed:
    return Reviewed(
        event=event,
        verdict=review.verdict,
        reviewer=review.reviewer or "",
        note=review.note or "",
        reviewed_ns=reviewed_ns,
    )
