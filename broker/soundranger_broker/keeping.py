"""Keeping: what the centre hears and tells goes to the store a batch at a time, and waits where the store is away."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from soundranger_broker.storage import reading
from soundranger_broker.storage.chain import Head
from soundranger_broker.storage.store import Batch, Clip, Report, Store
from soundranger_node.messages import Detection, Event, Incident, NodeStatus
from soundranger_node.utc import NS_PER_S

# Nodes say every 30 s how they are; that nothing has changed is stored less often.
STATUS_EVERY_NS: Final = 300 * NS_PER_S
# News that waits for a store that is away: a night of it. Detections need not wait, for nodes send them again.
MOST_TOLD: Final = 20_000
# A store that is away is asked again after so long: asking takes a while, and meanwhile bangs are to be located.
AGAIN_NS: Final = 5 * NS_PER_S
AWAY: Final = "The database takes nothing just now; nodes keep their detections until it does."

_LOG = logging.getLogger(__name__)


@dataclass
class Keeper:
    """Collects what is to be stored, and stores it; `is_away` says that the store did not take the last batch."""

    store: Store
    is_away: bool = False
    _failed_ns: int = 0
    _batch: Batch = field(default_factory=Batch)
    _statuses: dict[str, tuple[int, NodeStatus]] = field(default_factory=dict)

    def heard(self, detection: Detection, payload: bytes, now_ns: int) -> None:
        """Take in a detection, with the bytes in which it came."""
        self._batch.reports.append(Report(detection.node, detection.id, detection.time_ns, now_ns, payload))

    def status(self, status: NodeStatus, now_ns: int) -> None:
        """Take in what a node says of itself, where it has not just said the same."""
        known = self._statuses.get(status.node)
        if known is None or now_ns - known[0] >= STATUS_EVERY_NS or _has_changed(known[1], status):
            self._statuses[status.node] = now_ns, status
            self._batch.statuses.append((now_ns, status))

    def clip(self, clip: Clip) -> None:
        """Take in a clip."""
        self._batch.clips.append(clip)

    def told(self, items: Iterable[Event | Incident], now_ns: int) -> None:
        """Take in what is told to people."""
        self._batch.told += [(now_ns, item) for item in items]
        del self._batch.told[:-MOST_TOLD]

    def commit(self, now_ns: int) -> Batch | None:
        """Store what was taken in, and return it; None where it is not safe.

        Where the store is away, news waits for the next time; what nodes sent does not, for they will send it again.
        """
        batch, self._batch = self._batch, Batch()
        if self.is_away and abs(now_ns - self._failed_ns) < AGAIN_NS:
            self._batch = Batch(told=batch.told)
            return None
        try:
            self.store.keep(batch)
        except SQLAlchemyError as error:
            if not self.is_away:
                _LOG.error("the database does not take what comes in: %s", str(error).splitlines()[0])
            self.is_away, self._failed_ns = True, now_ns
            self._batch = Batch(told=batch.told)
            self._statuses.clear()
            return None
        if self.is_away and batch:
            _LOG.warning("the database takes what comes in again")
            self.is_away = False
        return batch

    def events_naming(self, node: str, detection: str) -> list[str]:
        """Return the ids of the events that name a detection; none where the store is away."""
        try:
            with self.store.engine.begin() as connection:
                return reading.events_naming(connection, node, detection)
        except SQLAlchemyError:
            return []

    def head(self) -> Head | None:
        """Return the newest entry of the log, or None where the store is away."""
        try:
            return self.store.head()
        except SQLAlchemyError:
            return None


def _has_changed(before: NodeStatus, now: NodeStatus) -> bool:
    """Say whether a person would want to know since when it has been so."""
    return (
        (before.online, before.clock.tier, before.clock.good, before.problems, before.public_key, before.version)
        != (now.online, now.clock.tier, now.clock.good, now.problems, now.public_key, now.version)
    ) or (before.lat, before.lon, before.alt_m) != (now.lat, now.lon, now.alt_m)
