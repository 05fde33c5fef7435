"""Backup and restore: a copy of all tables, as of one moment, in a file of SQLite, whatever database is in use."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from soundranger_broker.storage.database import connect, for_writing
from soundranger_broker.storage.tables import METADATA
from soundranger_node.errors import InputError

# Clips are a few hundred kB each.
ROWS_AT_ONCE: Final = 200

Progress = Callable[[str, int], None]


def backup(source: Engine, path: Path, progress: Progress) -> None:
    """Write a copy of a database as of now to a new file; whoever uses the database meanwhile is not disturbed.

    `progress` is told the name of a table and how many of its rows were copied.

    Raises:
        InputError: the file is there already, or cannot be written.
    """
    if path.exists():
        raise InputError(str(path), "is there already", "name a new file: a backup replaces nothing")
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    target = connect(str(unfinished))
    try:
        _copy(source, target, progress)
    finally:
        target.dispose()
    # One file, not three.
    with contextlib.closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    unfinished.replace(path)


def restore(path: Path, target: Engine, progress: Progress) -> None:
    """Fill an empty database from a backup; it is all there or nothing.

    Raises:
        InputError: the backup cannot be read, or the database is not empty.
    """
    with target.begin() as connection:
        for table in METADATA.sorted_tables:
            if connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one():
                raise InputError("the database", "is not empty", "restore into a new one: a restore replaces nothing")
    source = connect(str(path), create=False)
    try:
        _copy(source, target, progress)
    finally:
        source.dispose()


def _copy(source: Engine, target: Engine, progress: Progress) -> None:
    with source.begin() as old, for_writing(target).begin() as new:
        for table in METADATA.sorted_tables:
            copied = 0
            for rows in old.execution_options(yield_per=ROWS_AT_ONCE).execute(sa.select(table)).partitions():
                new.execute(table.insert(), [dict(row._mapping) for row in rows])  # noqa: SLF001 - its public name
                copied += len(rows)
                progress(table.name, copied)
