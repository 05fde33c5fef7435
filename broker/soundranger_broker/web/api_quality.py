"""The API's figures of quality: how right the events were, as people reviewed them."""

from collections import Counter
from typing import Final

import msgspec
from fastapi import APIRouter, Response

from soundranger_broker.storage.quality import UNREVIEWED, reviewed
from soundranger_broker.storage.store import Store
from soundranger_broker.web import table
from soundranger_broker.web.answers import answer, sent, told
from soundranger_broker.web.shapes import Month, Quality, Tally

COLUMNS: Final = ("month", "events", "gunshot", "fireworks", "other", "unsure", "unreviewed", "precision")


def quality_router(store: Store) -> APIRouter:
    """Return the routes of the figures of a store."""
    router = APIRouter(tags=["quality"], default_response_class=Response)

    @router.get("/quality", responses=told(Quality))
    def see_quality() -> Response:
        """See how final events were reviewed, by month."""
        return answer(_quality(store))

    @router.get("/quality.csv", responses=sent(table.MEDIA_TYPE))
    def export_quality() -> Response:
        """Export how final events were reviewed: a line a month, and one for all of them."""
        quality = _quality(store)
        lines = [table.line(COLUMNS)]
        lines += [table.line(getattr(month, name) for name in COLUMNS) for month in quality.months]
        lines.append(table.line(["total", *(getattr(quality.total, name) for name in COLUMNS[1:])]))
        headers = {"Content-Disposition": 'attachment; filename="quality.csv"'}
        return Response("".join(lines), headers=headers, media_type=table.MEDIA_TYPE)

    return router


def _quality(store: Store) -> Quality:
    with store.engine.begin() as connection:
        months = reviewed(connection)
    total = sum(months.values(), Counter[str]())
    named = [Month(month=name, **msgspec.structs.asdict(_tally(counts))) for name, counts in months.items()]
    return Quality(named, _tally(total))


def _tally(counts: Counter[str]) -> Tally:
    judged = counts["gunshot"] + counts["fireworks"] + counts["other"]
    return Tally(
        events=counts.total(),
        gunshot=counts["gunshot"],
        fireworks=counts["fireworks"],
        other=counts["other"],
        unsure=counts["unsure"],
        unreviewed=counts[UNREVIEWED],
        precision=counts["gunshot"] / judged if judged else None,
    )
