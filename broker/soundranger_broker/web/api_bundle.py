"""The evidence bundle of an event, over HTTP."""

import time
from collections.abc import Callable

from fastapi import APIRouter, HTTPException, Response

from soundranger_broker.evidence.bundle import bundle
from soundranger_broker.storage.store import NoEventError, Store


def bundle_router(store: Store, now_ns: Callable[[], int] = time.time_ns) -> APIRouter:
    """Return the route that gives out bundles of what is in a store."""
    router = APIRouter(prefix="/api/1")

    @router.get(
        "/events/{event_id}/bundle",
        response_class=Response,
        responses={200: {"content": {"application/zip": {}}}, 404: {"description": "There is no such event."}},
    )
    def event_bundle(event_id: str) -> Response:
        """Return the evidence bundle of an event: a ZIP file that `soundranger-broker verify` checks anywhere."""
        try:
            content = bundle(store, event_id, now_ns())
        except NoEventError:
            raise HTTPException(404, "There is no such event.") from None
        # The id of an event that is there has no letter that means anything in a header.
        headers = {"Content-Disposition": f'attachment; filename="{event_id.replace(":", "-")}.zip"'}
        return Response(content, media_type="application/zip", headers=headers)

    return router
