"""The API's log: what was written down, so that anybody can check it."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from soundranger_broker.storage import reading
from soundranger_broker.storage.store import Store
from soundranger_broker.web.answers import answer, told
from soundranger_broker.web.asking import MOST_SEQ, Limit
from soundranger_broker.web.shapes import LogHead, LogPage


def log_router(store: Store) -> APIRouter:
    """Return the routes of a store's log."""
    router = APIRouter(tags=["log"], default_response_class=Response)

    @router.get("/log", responses=told(LogPage, HTTPStatus.UNPROCESSABLE_ENTITY))
    def read_log(
        after: Annotated[int, Query(ge=0, le=MOST_SEQ, description="After the entry of this number.")] = 0,
        limit: Limit = 100,
    ) -> Response:
        """Read the log in its order."""
        with store.engine.begin() as connection:
            entries = reading.entries_after(connection, after, limit)
        return answer(LogPage(entries, entries[-1].seq if len(entries) == limit else None))

    @router.get("/log/head", responses=told(LogHead))
    def read_head() -> Response:
        """Read the number and the hash of the newest entry."""
        head = store.head()
        return answer(LogHead(head.seq, head.hash))

    return router
