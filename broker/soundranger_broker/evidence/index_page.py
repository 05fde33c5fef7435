"""The first page of an examination: which recordings were listened to, and the bangs that they hold."""

from collections.abc import Sequence
from dataclasses import dataclass

from soundranger_broker.evidence.markup import Markup, tag
from soundranger_broker.evidence.report import page, table, utc
from soundranger_node.messages import Event
from soundranger_node.recordings import Recording


@dataclass(frozen=True)
class Source:
    """A recording, and how many impulses there are in it."""

    recording: Recording
    impulses: int


def index_page(folder: str, sources: Sequence[Source], events: Sequence[Event]) -> str:
    """Return the page as HTML, with a link to the report of each event."""
    recordings = [
        (
            one.recording.node,
            one.recording.file.name,
            utc(one.recording.start_ns),
            f"{one.recording.lat:.6f}",
            f"{one.recording.lon:.6f}",
            str(one.impulses),
        )
        for one in sources
    ]
    columns = ("node", "file", "from", "latitude", "longitude", "impulses")
    found: Markup | str = "No bang could be located: that takes four nodes which heard the same one."
    if events:
        found = table(
            ("event", "at", "latitude", "longitude", "within m", "probability", "arrivals"), map(_event_row, events)
        )
    title = f"Examination of {folder}"
    return page(
        title,
        tag("h1", title),
        tag("h2", "What was found"),
        tag("div", found),
        tag("h2", "What was listened to"),
        table(columns, recordings),
    )


def _event_row(event: Event) -> tuple[str, ...]:
    return (
        tag("a", event.id, href=f"{event.id}.html"),
        utc(event.time_ns),
        f"{event.lat:.6f}",
        f"{event.lon:.6f}",
        f"{event.ellipse95.semi_major_m:.1f} x {event.ellipse95.semi_minor_m:.1f}",
        f"{event.probability:.1%}",
        str(sum(one.used for one in event.arrivals)),
    )
