"""A case: an event with all that a report of it shows, wherever it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from soundranger_broker.storage.chain import Entry
from soundranger_broker.storage.reading import Review, Revision
from soundranger_node.blocks import Samples
from soundranger_node.messages import Arrival, Detection, Event
from soundranger_node.signing import Verdict

# Latitude and longitude, WGS84 degrees.
LatLon = tuple[float, float]


@dataclass(frozen=True)
class Trace:
    """The sound around one detection; `samples` has shape (n,), full scale at -1 and 1."""

    node: str
    detection: str
    start_ns: int
    sample_rate_hz: float
    samples: Samples


@dataclass(frozen=True)
class Record:
    """What the centre's memory holds of an event beside its arrivals: what was told and said, and the log's entries."""

    revisions: Sequence[Revision] = ()
    review: Review | None = None
    log: Sequence[Entry] = ()


@dataclass(frozen=True)
class Case:
    """An event, and what it rests on; `source` says in a sentence where all this is from.

    `silent` are the places of nodes that should have heard it, where they are known; `signatures` by node and id.
    """

    event: Event
    source: str
    detections: Sequence[Detection]
    silent: dict[str, LatLon] = field(default_factory=dict)
    traces: Sequence[Trace] = ()
    signatures: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    record: Record = field(default_factory=Record)

    def heard(self) -> list[tuple[Arrival, Detection]]:
        """Return the arrivals with their detections, the nearest first; those without one are left out."""
        known = {(one.node, one.id): one for one in self.detections}
        pairs = [
            (arrival, known[arrival.node, arrival.detection])
            for arrival in self.event.arrivals
            if (arrival.node, arrival.detection) in known
        ]
        return sorted(pairs, key=lambda pair: (pair[0].distance_m, pair[0].node, pair[0].detection))
