"""The API, version 1: all its routes, and its description in OpenAPI."""

from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, FastAPI, Response

from soundranger_broker.storage.store import Store
from soundranger_broker.web.answers import JSON, described
from soundranger_broker.web.api_bundle import bundle_router
from soundranger_broker.web.api_events import events_router
from soundranger_broker.web.api_export import export_router
from soundranger_broker.web.api_incidents import incidents_router
from soundranger_broker.web.api_log import log_router
from soundranger_broker.web.api_nodes import nodes_router
from soundranger_broker.web.api_quality import quality_router
from soundranger_broker.web.hub import Hub

PREFIX: Final = "/api/1"


def add_api(app: FastAPI, hub: Hub, store: Store, now_ns: Callable[[], int]) -> None:
    """Add the API on a store to an application."""
    api = APIRouter(prefix=PREFIX, generate_unique_id_function=lambda route: route.name)
    for router in (
        events_router(store, hub, now_ns),
        bundle_router(store, now_ns),
        incidents_router(store),
        nodes_router(store, now_ns),
        log_router(store),
        quality_router(store),
        export_router(store, now_ns),
    ):
        api.include_router(router)

    @api.get("/openapi.json", include_in_schema=False)
    def describe() -> Response:
        return Response(described(app), media_type=JSON)

    app.include_router(api)
