"""Sizes: how much is stored, as far as that is cheap to find out."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from soundranger_broker.storage.tables import CLIPS, EVENTS, INCIDENTS

# Detections and statuses are too many to be counted every few seconds.
COUNTED: Final = (EVENTS, INCIDENTS, CLIPS)


def rows(connection: Connection) -> dict[str, int]:
    """Return how many rows some tables have, by their names."""
    return {
        table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in COUNTED
    }


def total_bytes(connection: Connection) -> int:
    """Return how large the database is."""
    if connection.dialect.name == "postgresql":
        size = sa.text("SELECT pg_database_size(current_database())")
    else:
        size = sa.text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    return int(connection.execute(size).scalar_one())
