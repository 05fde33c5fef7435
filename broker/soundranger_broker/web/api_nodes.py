"""The API's nodes: how they are, how they were, and the sound that they sent."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Response

from soundranger_broker.storage import reading
from soundranger_broker.storage.store import Store
from soundranger_broker.web.answers import GEOJSON, answer, sent, told
from soundranger_broker.web.asking import DetectionName, NodeName, Since, Until
from soundranger_broker.web.problems import NotThere
from soundranger_broker.web.shapes import NodeProperties, Page, ReceivedStatus, Statuses, node_feature

FLAC: Final = "audio/flac"
# A day of a node is shown where nothing else is asked for.
DAY_NS: Final = 86_400 * 1_000_000_000


def nodes_router(store: Store, now_ns: Callable[[], int]) -> APIRouter:
    """Return the routes of nodes in a store."""
    router = APIRouter(tags=["nodes"], default_response_class=Response)

    @router.get("/nodes", responses=told(Page[NodeProperties], media_type=GEOJSON))
    def find_nodes() -> Response:
        """See the last word of every node."""
        with store.engine.begin() as connection:
            found = reading.latest_statuses(connection)
        nodes = [node_feature(received_ns, status) for received_ns, status in found]
        return answer(Page(features=nodes), GEOJSON)

    @router.get("/nodes/{node}/statuses", responses=told(Statuses, HTTPStatus.UNPROCESSABLE_ENTITY))
    def see_node(node: NodeName, since: Since = None, until: Until = None) -> Response:
        """See what a node said of itself: in the day before `until`, or now, unless `since` says otherwise."""
        last_ns = now_ns() if until is None else until - 1
        first_ns = last_ns - DAY_NS if since is None else since
        with store.engine.begin() as connection:
            found = reading.statuses(connection, node, first_ns, last_ns)
        return answer(Statuses([ReceivedStatus(received_ns, status) for received_ns, status in found]))

    @router.get(
        "/clips/{node}/{detection}", responses=sent(FLAC, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
    )
    def hear_clip(node: NodeName, detection: DetectionName) -> Response:
        """Hear the sound around a detection."""
        with store.engine.begin() as connection:
            found = reading.clip(connection, node, detection)
        if found is None:
            raise NotThere(f"clip of detection {detection} of node {node}")
        return Response(found.flac, media_type=FLAC)

    return router
