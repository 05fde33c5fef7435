"""The outbox: every detection waits here, on disk, until somebody who keeps it has said so."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from soundranger_node.errors import InputError

# An ack takes well under a second; a minute without one means that the message or the ack was lost.
RESEND_AFTER_S = 60.0
# About 60 MB at 600 bytes a detection: a month of a busy node, and no strain on a small memory card.
MAX_ROWS = 100_000

# `sent` lives in memory: after a restart nothing counts as sent, and sending costs the memory card no write.
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA temp_store = MEMORY;
CREATE TABLE IF NOT EXISTS detection (
    id TEXT PRIMARY KEY, time_ns INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS detection_time ON detection (time_ns);
CREATE TEMP TABLE sent (id TEXT PRIMARY KEY, sent_at_s REAL NOT NULL);
CREATE INDEX temp.sent_time ON sent (sent_at_s);
"""
ROW = "detection.id, time_ns, topic, payload"
UNSENT = f"SELECT {ROW} FROM detection WHERE id NOT IN (SELECT id FROM sent) ORDER BY time_ns DESC LIMIT ?"  # noqa: S608 - a constant
OVERDUE = (
    f"SELECT {ROW} FROM sent JOIN detection ON detection.id = sent.id "  # noqa: S608 - a constant
    "WHERE sent_at_s < ? ORDER BY sent_at_s, time_ns DESC LIMIT ?"
)


@dataclass(frozen=True)
class Waiting:
    """A detection that waits in the outbox: its id, the UTC of its onset, and what to publish where."""

    id: str
    time_ns: int
    topic: str
    payload: bytes


class Outbox:
    """Detections on disk, each until `forget` names it; safe to use from several threads.

    At most `max_rows` are kept: beyond that the oldest go, and `lost` counts them. `now_s` is any clock that only
    runs forward.

    Raises:
        InputError: from the constructor and every method: the file cannot be written or is no outbox.
    """

    def __init__(self, path: Path, max_rows: int = MAX_ROWS) -> None:
        self.path = path
        self.lost = 0
        self._max_rows = max_rows
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            self._connection.executescript(SCHEMA)
            self._depth = int(self._connection.execute("SELECT COUNT(*) FROM detection").fetchone()[0])
        except sqlite3.Error as error:
            self._connection.close()
            raise self._unusable(error) from None

    @property
    def depth(self) -> int:
        """The number of detections that wait."""
        return self._depth

    def put(self, detection_id: str, time_ns: int, topic: str, payload: bytes) -> None:
        """Keep a detection; when this returns it is on disk. One that is already here stays as it is."""
        with self._transaction() as connection:
            added = connection.execute(
                "INSERT OR IGNORE INTO detection VALUES (?, ?, ?, ?)", (detection_id, time_ns, topic, payload)
            ).rowcount
            excess = max(0, self._depth + added - self._max_rows)
            connection.execute(
                "DELETE FROM detection WHERE id IN (SELECT id FROM detection ORDER BY time_ns LIMIT ?)", (excess,)
            )
        self._depth += added - excess
        self.lost += excess

    def due(self, limit: int, now_s: float) -> list[Waiting]:
        """Return what to send next: first what was never sent, newest first, then what has waited longest for its ack.

        What was sent less than RESEND_AFTER_S ago is left out. The order means that a detection that is never acked
        cannot hold up the others.
        """
        with self._locked() as connection:
            rows = connection.execute(UNSENT, (limit,)).fetchall()
            rows += connection.execute(OVERDUE, (now_s - RESEND_AFTER_S, limit - len(rows))).fetchall()
        return [Waiting(*row) for row in rows]

    def mark_sent(self, ids: Sequence[str], now_s: float) -> None:
        """Note that detections were sent: they are in flight for RESEND_AFTER_S."""
        with self._locked() as connection:
            connection.executemany("INSERT OR REPLACE INTO sent VALUES (?, ?)", [(name, now_s) for name in ids])

    def mark_all_unsent(self) -> None:
        """Note that nothing is in flight any more: the connection that carried it is gone."""
        with self._locked() as connection:
            connection.execute("DELETE FROM sent")

    def in_flight(self, now_s: float) -> int:
        """Return the number of detections that were sent less than RESEND_AFTER_S ago and not forgotten since."""
        with self._locked() as connection:
            query = "SELECT COUNT(*) FROM sent WHERE sent_at_s >= ?"
            return int(connection.execute(query, (now_s - RESEND_AFTER_S,)).fetchone()[0])

    def forget(self, ids: Sequence[str]) -> int:
        """Delete detections that are safely stored elsewhere; return how many of them were here."""
        keys = [(name,) for name in ids]
        with self._transaction() as connection:
            deleted = connection.executemany("DELETE FROM detection WHERE id = ?", keys).rowcount
            connection.executemany("DELETE FROM sent WHERE id = ?", keys)
        self._depth -= deleted
        return deleted

    def close(self) -> None:
        """Close the file; safe more than once."""
        with self._locked() as connection:
            connection.close()

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise self._unusable(error) from None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._locked() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            str(self.path),
            f"cannot be used as the outbox ({error})",
            "let [outbox] path name a file that this user may write and that nothing else uses",
        )
