"""The outbox's file: opened or made, checked, and set aside where it is damaged or old, with what it holds kept."""

import errno
import logging
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from soundranger_node.errors import InputError

# "srob" in the file's header says that the database is an outbox and not another program's.
APPLICATION_ID = 0x73726F62
# Another process of this node that has just been told to end needs less than this to let go of the file.
BUSY_S = 5.0
# What the write-ahead log shrinks to after a burst; a commit of one detection adds about 12 kB.
MAX_LOG_BYTES = 1_000_000
# How many damaged files are kept for a person to look at; a dying memory card makes one after the other.
MOST_DAMAGED = 3
# What SQLite keeps beside a file; the file itself comes last.
SUFFIXES = ("-wal", "-shm", "")
# What a damaged file is replaced by, while it is being made.
NEW = ".new"
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# Keeps a second node off the file, and needs no shared memory beside it where it is said before anything is read.
ALONE = "PRAGMA locking_mode = EXCLUSIVE"
# Must be said before anything is written.
SHRINKABLE = "PRAGMA auto_vacuum = INCREMENTAL;"
SETTINGS = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = {MAX_LOG_BYTES};
"""
# `number` counts in the order of hearing, over both tables: the one order that no clock can spoil.
SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE IF NOT EXISTS detection (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time_ns INTEGER NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS undated (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, boot TEXT NOT NULL, monotonic_ns INTEGER NOT NULL,
    sigma_s REAL NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS lost (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID, STRICT;
COMMIT;
"""
COLUMNS = {
    "detection": ("number", "id", "time_ns", "payload"),
    "undated": ("number", "id", "boot", "monotonic_ns", "sigma_s", "payload"),
    "lost": ("reason", "count"),
}
# What every outbox had, also the first, which had no application id.
FIRST_COLUMNS = frozenset({"id", "time_ns", "topic", "payload"})

_LOG = logging.getLogger(__name__)


def open_outbox(path: Path) -> sqlite3.Connection:
    """Return a connection to the outbox, which is made where there is none.

    One that is damaged, or that another version made, is renamed to `<path>.damaged-1` (2, 3), and what can be read of
    it is put into a new one.

    Raises:
        InputError: it is another program's database.
        OSError, sqlite3.Error: the file cannot be read or written, or another program has it open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = _beside(path, NEW)
    if new.exists() and not path.exists():
        # Somebody pulled the plug between the two renamings.
        new.replace(path)
    try:
        connection = _opened(path)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return _replaced(path, f"is damaged ({error})")
    if all(_columns(connection, table) == columns for table, columns in COLUMNS.items()):
        return connection
    connection.close()
    return _replaced(path, "was made by another version")


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file's content is not what SQLite wrote."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in DAMAGE


def is_full(error: Exception) -> bool:
    """Return whether an error says that the disk has no room."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def unusable(path: Path, error: Exception) -> InputError:
    """Return the sentence for a file that does not serve as an outbox."""
    return InputError(
        str(path),
        f"cannot be used as the outbox ({error})",
        "let [outbox] path name a file that this user may write and that nothing else uses",
    )


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
    try:
        connection.execute(ALONE)
        if _is_outbox(path, connection):
            connection.executescript(SETTINGS)
            _check(connection)
        else:
            connection.executescript(SHRINKABLE + SETTINGS + SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_outbox(path: Path, connection: sqlite3.Connection) -> bool:
    """Return whether an outbox is there; then nothing is written, for the disk may be full.

    Raises:
        InputError: it is a sound database, but not an outbox: to rename it would be another program's loss.
    """
    if scalar(connection, "PRAGMA application_id") == APPLICATION_ID:
        return True
    if set(_columns(connection, "detection")) == FIRST_COLUMNS:
        return True
    if scalar(connection, "SELECT COUNT(*) FROM sqlite_master"):
        remedy = "let [outbox] path name another file, or move this one away"
        raise InputError(str(path), "is a database but no outbox", remedy)
    return False


def _check(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError where a page is torn; reads the whole file, a few seconds for 100 MB on a Pi."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        error = sqlite3.DatabaseError(found)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _replaced(path: Path, why: str) -> sqlite3.Connection:
    """Put what can be read into a new file before the old one goes: the power may fail at any moment."""
    new = _beside(path, NEW)
    for suffix in SUFFIXES:
        _beside(new, suffix).unlink(missing_ok=True)
    with closing(_opened(new)) as connection:
        saved = _salvage(path, connection)
    aside = _set_aside(path)
    new.replace(path)
    _LOG.error("%s: %s; it is now %s, and %d detections of it are saved", path, why, aside.name, saved)
    return _opened(path)


def _set_aside(path: Path) -> Path:
    """Rename the file and its log, so that SQLite still finds them together; the last name is used again and again."""
    names = [path.with_name(f"{path.name}.damaged-{count}") for count in range(1, MOST_DAMAGED + 1)]
    aside = next((name for name in names if not name.exists()), names[-1])
    for suffix in SUFFIXES:
        _beside(aside, suffix).unlink(missing_ok=True)
        # A log that stayed behind would be played into the new file.
        with suppress(FileNotFoundError):
            _beside(path, suffix).replace(_beside(aside, suffix))
    return aside


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _salvage(path: Path, connection: sqlite3.Connection) -> int:
    """Copy what can be read of an outbox into a new one; return the number of detections.

    What the old one's indices list beyond that is counted as lost.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as damaged:
        # Else SQLite reads nothing of a file that is shorter than its header says.
        damaged.execute("PRAGMA writable_schema = ON")
        connection.execute("BEGIN IMMEDIATE")
        for table, columns in COLUMNS.items():
            marks = ", ".join("?" * len(columns))
            for row in _readable(damaged, table, columns):
                # A row of another type than it should be is no row of ours.
                with suppress(sqlite3.Error):
                    connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608 - constants
        taken = _count(connection)
        with suppress(sqlite3.Error):
            count_lost(connection, "damage", max(0, _count(damaged) - taken))
        connection.execute("COMMIT")
    return taken


def _count(connection: sqlite3.Connection) -> int:
    return scalar(connection, "SELECT (SELECT COUNT(*) FROM detection) + (SELECT COUNT(*) FROM undated)")


def count_lost(connection: sqlite3.Connection, reason: str, count: int) -> None:
    """Add to the number of detections that are gone for a reason."""
    if count:
        query = "INSERT INTO lost VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count"
        connection.execute(query, (reason, count))


def _columns(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Return the names of a table's columns; none where there is no such table."""
    return tuple(name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)))


def _readable(damaged: sqlite3.Connection, table: str, columns: Iterable[str]) -> list[tuple[object, ...]]:
    """Return the rows before the first damaged page and those after the last one."""
    # Another name of `number`, and what stands for it in an outbox that had none.
    names = ", ".join("rowid" if name == "number" else name for name in columns)
    rows: list[tuple[object, ...]] = []
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            # Row by row: what was read before the error counts.
            for row in damaged.execute(f"SELECT {names} FROM {table} ORDER BY 1 {order}"):  # noqa: S608 - constants
                rows.append(row)  # noqa: PERF402 - a comprehension would lose them
    return rows


def scalar(connection: sqlite3.Connection, query: str) -> int:
    """Return the one number that a query asks for; 0 for null."""
    return int(connection.execute(query).fetchone()[0] or 0)
