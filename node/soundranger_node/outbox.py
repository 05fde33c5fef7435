"""The outbox: every detection waits here, on disk, until somebody who keeps it has said so."""

import logging
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from soundranger_node.blocks import Moment
from soundranger_node.errors import InputError
from soundranger_node.outbox_file import count_lost, is_damage, is_full, open_outbox, scalar, unusable

# Half a year of a busy node, and no strain on a small memory card.
MAX_MB = 100.0
# After a month nobody waits for a bang any more; a node in a remote place may be visited less often: set it then.
MAX_AGE_DAYS = 31.0
DAY_NS = 86_400_000_000_000
# What memory holds while the disk takes nothing, about 10 MB: a quarter of an hour at the most that a detector tells.
MAX_HELD = 10_000
# Rows of one transaction: large enough to catch up fast, small enough to be done in well under a second.
BATCH = 100
# How many of the oldest go at once where the file is full: about ten pages' worth.
TRIM_ROWS = 64
# The file is shrunk where more than this, and more than half of it, is empty: that writes next to nothing.
SPARE_BYTES = 1_000_000
# At most this much of it at once, so that nobody waits for long.
SHRINK_PAGES = 2_560

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Waiting:
    """A detection that waits to be delivered: its number in the order of hearing, its id, and what to publish."""

    number: int
    id: str
    payload: bytes


@dataclass(frozen=True)
class Undated:
    """A detection that waits for a good clock: its id, the moment of its onset, and the message but for the time."""

    id: str
    moment: Moment
    payload: bytes


@dataclass(frozen=True)
class Dated:
    """What has become of an undated detection: its UTC and what to publish."""

    id: str
    time_ns: int
    payload: bytes


@dataclass(frozen=True)
class _Insert:
    """A row that is to be written but for its number, and the table that it belongs to."""

    table: str
    values: tuple[object, ...]


@dataclass(frozen=True)
class _Change:
    """What a transaction does: rows that are more by table, what is lost by reason, and what of memory it writes."""

    rows: Counter[str]
    lost: Counter[str] = field(default_factory=Counter)
    inserts: int = 0
    forgotten: Sequence[str] = ()


class Outbox:
    """Detections on disk, each until `forget` names it; safe to use from several threads.

    What the disk does not take waits in memory, in order, and is written as soon as it does; until then it is not
    sent. Over `max_mb` (of 10^6 bytes, without the write-ahead log of some 4 MB beside it) or `max_age_days` the
    oldest go; `lost_to` counts them, for good: by "size", "age", "disk" (no room in memory either), "damage" (of the
    file) and what `count_lost` was told. Nothing raises for a disk's trouble: `problem` tells it, while it lasts.

    Raises:
        InputError: from the constructor: the file cannot be used, not even replaced.
    """

    def __init__(self, path: Path, max_mb: float = MAX_MB, max_age_days: float = MAX_AGE_DAYS) -> None:
        self.path = path
        self.problem: str | None = None
        self._max_bytes = round(max_mb * 1e6)
        self._max_age_ns = round(max_age_days * DAY_NS)
        self._lock = threading.Lock()
        self._inserts: deque[_Insert] = deque()
        self._forgotten: dict[str, None] = {}
        self._uncounted: Counter[str] = Counter()
        self._closed = False
        self._is_full = False
        self._connection: sqlite3.Connection | None = None
        self._rows: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
        self._last_number = 0
        try:
            self._opened()
        except (OSError, sqlite3.Error) as error:
            if not is_full(error):
                raise unusable(path, error) from None
            self._note(error)

    @property
    def depth(self) -> int:
        """The number of detections that wait to be delivered."""
        return self._count("detection")

    @property
    def undated(self) -> int:
        """The number of detections that wait for a good clock."""
        return self._count("undated")

    @property
    def lost_to(self) -> dict[str, int]:
        """How many detections are gone for good, by the reason."""
        with self._lock:
            return dict(self._counted + self._uncounted)

    def put(self, detection_id: str, time_ns: int, payload: bytes) -> None:
        """Keep a detection; when this returns without a `problem` it is on disk. One already here stays as it is."""
        self._put(_Insert("detection", (detection_id, time_ns, payload)))

    def put_undated(self, detection_id: str, moment: Moment, payload: bytes) -> None:
        """Keep a detection of which only the moment is known, as `put`."""
        when = (moment.boot, moment.monotonic_ns, moment.sigma_s)
        self._put(_Insert("undated", (detection_id, *when, payload)))

    def waiting_for_clock(self, limit: int) -> list[Undated]:
        """Return the oldest detections that wait for a good clock."""
        query = "SELECT id, boot, monotonic_ns, sigma_s, payload FROM undated ORDER BY number LIMIT ?"
        rows = self._read(query, (limit,))
        return [Undated(name, Moment(boot, at_ns, sigma_s), payload) for name, boot, at_ns, sigma_s, payload in rows]

    def date(self, dated: Sequence[Dated]) -> None:
        """Let undated detections wait to be delivered from now on; those that are not here are left out."""
        with self._lock:
            if dated:
                self._transact(lambda connection: self._date(connection, dated))

    def drop_undated(self, ids: Sequence[str], reason: str) -> None:
        """Give up detections that wait for a good clock, and count them as lost to a reason."""
        with self._lock:
            if ids:
                self._transact(lambda connection: self._drop_undated(connection, ids, reason))

    def count_lost(self, reason: str) -> None:
        """Count a detection that never came here."""
        with self._lock:
            self._uncounted[reason] += 1
            self._write()

    def newest(self) -> int:
        """Return the number of the detection that was written last."""
        with self._lock:
            return self._last_number

    def since(self, number: int, limit: int) -> list[Waiting]:
        """Return the detections that come right after a number, in the order of hearing."""
        query = "SELECT number, id, payload FROM detection WHERE number > ? ORDER BY number LIMIT ?"
        return self._waiting(query, number, limit)

    def before(self, number: int, limit: int) -> list[Waiting]:
        """Return the newest detections before a number, the newest first."""
        query = "SELECT number, id, payload FROM detection WHERE number < ? ORDER BY number DESC LIMIT ?"
        return self._waiting(query, number, limit)

    def forget(self, ids: Iterable[str]) -> None:
        """Delete detections that are safely stored elsewhere; ids that are not here do no harm."""
        with self._lock:
            if len(self._forgotten) < MAX_HELD:
                self._forgotten.update(dict.fromkeys(ids))
            self._write()

    def upkeep(self, now_ns: int | None) -> None:
        """Write what could not be written before, give up what is too old, and give back empty space; now and then.

        `now_ns` is the UTC, None while nobody vouches for it: then nothing is too old.
        """
        with self._lock:
            if self.problem is not None and not self._is_full:
                # What is behind the path may be another disk by now.
                self._let_go()
            self._write()
            before_ns = 0 if now_ns is None else now_ns - self._max_age_ns
            self._transact(lambda connection: self._expire(connection, before_ns))
            self._attempt(self._shrink)

    def close(self) -> None:
        """Write what can be written and close the file; safe more than once."""
        with self._lock:
            if not self._closed:
                self._write()
                self._let_go()
            self._closed = True

    def _read_counts(self, connection: sqlite3.Connection) -> None:
        for table in ("detection", "undated"):
            self._rows[table] = scalar(connection, f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - a constant
            newest = scalar(connection, f"SELECT MAX(number) FROM {table}")  # noqa: S608 - a constant
            self._last_number = max(self._last_number, newest)
        self._counted = Counter(dict(connection.execute("SELECT reason, count FROM lost")))

    def _count(self, table: str) -> int:
        with self._lock:
            return self._rows[table] + sum(insert.table == table for insert in self._inserts)

    def _put(self, insert: _Insert) -> None:
        with self._lock:
            if len(self._inserts) >= MAX_HELD:
                self._inserts.popleft()
                self._uncounted["disk"] += 1
            self._inserts.append(insert)
            self._write()

    def _waiting(self, query: str, number: int, limit: int) -> list[Waiting]:
        rows = self._read(query, (number, limit + len(self._forgotten)))
        return [Waiting(*row) for row in rows if row[1] not in self._forgotten][:limit]

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._attempt(lambda connection: connection.execute(query, values).fetchall()) or []

    def _write(self) -> None:
        """Write what memory holds, batch by batch, as far as the disk takes it."""
        while self._inserts or self._forgotten or self._uncounted:
            if not self._transact(self._write_batch):
                return

    def _write_batch(self, connection: sqlite3.Connection) -> _Change:
        inserts = list(islice(self._inserts, BATCH))
        forgotten = list(islice(self._forgotten, BATCH))
        rows: Counter[str] = Counter()
        for number, insert in enumerate(inserts, self._last_number + 1):
            values = (number, *insert.values)
            marks = ", ".join("?" * len(values))
            query = f"INSERT INTO {insert.table} VALUES ({marks}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - a constant
            rows[insert.table] += connection.execute(query, values).rowcount
        keys = [(name,) for name in forgotten]
        rows["detection"] -= connection.executemany("DELETE FROM detection WHERE id = ?", keys).rowcount
        trimmed = self._trim(connection)
        rows.subtract(trimmed)
        return _Change(rows, Counter(size=trimmed.total()), len(inserts), forgotten)

    def _trim(self, connection: sqlite3.Connection) -> Counter[str]:
        """Delete the oldest detections until the file's used pages are within bounds; return how many, by table."""
        trimmed: Counter[str] = Counter()
        page_bytes = scalar(connection, "PRAGMA page_size")
        while _used_pages(connection) * page_bytes > self._max_bytes:
            query = (
                "SELECT MAX(number) FROM (SELECT number FROM detection UNION ALL SELECT number FROM undated "
                "ORDER BY number LIMIT ?)"
            )
            (last,) = connection.execute(query, (TRIM_ROWS,)).fetchone()
            if last is None:
                break
            for table in ("detection", "undated"):
                query = f"DELETE FROM {table} WHERE number <= ?"  # noqa: S608 - a constant
                trimmed[table] += connection.execute(query, (last,)).rowcount
        return trimmed

    def _expire(self, connection: sqlite3.Connection, before_ns: int) -> _Change:
        """Delete what is older, looking only at the oldest: numbers follow the times but for steps of the clock."""
        expired = 0
        while True:
            rows = connection.execute(
                "SELECT number, time_ns FROM detection ORDER BY number LIMIT ?", (BATCH,)
            ).fetchall()
            old = [(number,) for number, time_ns in rows if time_ns < before_ns]
            expired += connection.executemany("DELETE FROM detection WHERE number = ?", old).rowcount
            if len(old) < BATCH:
                break
        return _Change(Counter(detection=-expired), Counter(age=expired))

    def _date(self, connection: sqlite3.Connection, dated: Sequence[Dated]) -> _Change:
        moved: Counter[str] = Counter()
        query = "INSERT OR IGNORE INTO detection SELECT number, id, ?, ? FROM undated WHERE id = ?"
        for one in dated:
            values = (one.time_ns, one.payload, one.id)
            moved["detection"] += connection.execute(query, values).rowcount
            moved["undated"] -= connection.execute("DELETE FROM undated WHERE id = ?", (one.id,)).rowcount
        return _Change(moved)

    def _drop_undated(self, connection: sqlite3.Connection, ids: Sequence[str], reason: str) -> _Change:
        dropped = connection.executemany("DELETE FROM undated WHERE id = ?", [(name,) for name in ids]).rowcount
        return _Change(Counter(undated=-dropped), Counter({reason: dropped}))

    def _shrink(self, connection: sqlite3.Connection) -> None:
        page_bytes = scalar(connection, "PRAGMA page_size")
        spare = scalar(connection, "PRAGMA freelist_count")
        if spare * page_bytes > SPARE_BYTES and spare > _used_pages(connection):
            # Every step of the statement frees one page, and `execute` takes only the first.
            connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")

    def _transact(self, work: Callable[[sqlite3.Connection], _Change]) -> bool:
        """Do `work` in one transaction that also counts what is lost; return whether it is on disk."""

        def transaction(connection: sqlite3.Connection) -> _Change:
            connection.execute("BEGIN IMMEDIATE")
            try:
                change = work(connection)
                for reason, count in (change.lost + self._uncounted).items():
                    count_lost(connection, reason, count)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return change

        change = self._attempt(transaction)
        if change is not None:
            self._follow(change)
        return change is not None

    def _follow(self, change: _Change) -> None:
        """Let memory follow what is on disk now."""
        self._last_number += change.inserts
        for _ in range(change.inserts):
            self._inserts.popleft()
        for name in change.forgotten:
            del self._forgotten[name]
        self._rows.update(change.rows)
        self._counted += change.lost + self._uncounted
        self._uncounted.clear()
        if not self._inserts and not self._forgotten:
            self.problem = None

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something with the file; return None where it cannot be done now, and note why.

        Damage that shows is mended by opening the file anew.
        """
        for _ in range(2):
            try:
                return work(self._opened())
            except (OSError, sqlite3.Error, InputError) as error:
                self._note(error)
                if not (isinstance(error, sqlite3.Error) and is_damage(error)):
                    break
                self._let_go()
        return None

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("it is closed")
        if self._connection is None:
            self._connection = open_outbox(self.path)
            self._read_counts(self._connection)
        return self._connection

    def _let_go(self) -> None:
        """Close the file, to be opened again when it is needed."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _note(self, error: Exception) -> None:
        self._is_full = is_full(error)
        before, self.problem = self.problem, f"{self.path}: cannot be written ({error}); free room or mend the disk"
        if before is None:
            _LOG.error("%s; new detections wait in memory", self.problem)


def _used_pages(connection: sqlite3.Connection) -> int:
    return scalar(connection, "PRAGMA page_count") - scalar(connection, "PRAGMA freelist_count")
