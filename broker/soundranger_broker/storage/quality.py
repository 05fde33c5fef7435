"""Quality: how final events were reviewed, by month."""

from collections import Counter
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from soundranger_broker.storage.tables import EVENTS

DAY_NS: Final = 86_400 * 1_000_000_000
UNREVIEWED: Final = "unreviewed"


def reviewed(connection: Connection) -> dict[str, Counter[str]]:
    """Return how many final events of each month (UTC, such as 2026-11) had each verdict, or none; oldest first."""
    day = (EVENTS.c.time_ns // DAY_NS).label("day")
    query = (
        sa.select(day, EVENTS.c.verdict, sa.func.count().label("events"))
        .where(EVENTS.c.status == "final")
        .group_by(day, EVENTS.c.verdict)
        .order_by(day)
    )
    months = dict[str, Counter[str]]()
    for row in connection.execute(query):
        month = datetime.fromtimestamp(row.day * 86_400, UTC).strftime("%Y-%m")
        months.setdefault(month, Counter())[row.verdict or UNREVIEWED] += row.events
    return months
