"""The API's evidence bundles."""

from collections.abc import Callable
from http import HTTPStatus

from fastapi import APIRouter, Response

from soundranger_broker.evidence.bundle import bundle
from soundranger_broker.storage.store import NoEventError, Store
from soundranger_broker.web.answers import sent
from soundranger_broker.web.asking import EventName
from soundranger_broker.web.problems import NotThere

ZIP = "application/zip"


def bundle_router(store: Store, now_ns: Callable[[], int]) -> APIRouter:
    """Return the route of bundles of what a store holds; each that is given out is logged."""
    router = APIRouter(tags=["events"], default_response_class=Response)

    @router.get("/events/{event}/bundle", responses=sent(ZIP, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY))
    def bundle_event(event: EventName) -> Response:
        """Take an event with all that it rests on, as a ZIP file that `soundranger-broker verify` checks anywhere."""
        try:
            content = bundle(store, event, now_ns())
        except NoEventError:
            raise NotThere(f"event {event}") from None
        # The id of an event has no letter that means anything in a header; a colon is none for a file's name.
        name = f"{event.replace(':', '-')}.zip"
        return Response(content, media_type=ZIP, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    return router
