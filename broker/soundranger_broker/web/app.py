"""The web application: the page, its static files, the snapshot and the live WebSocket."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

import msgspec
from fastapi import FastAPI, Response, WebSocket
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

from soundranger_broker.storage.store import Store
from soundranger_broker.web.api import add_api
from soundranger_broker.web.guard import Guard, same_site
from soundranger_broker.web.hub import Hub, Subscription
from soundranger_broker.web.metrics import metrics_router
from soundranger_broker.web.problems import tell_problems
from soundranger_broker.web.tile_file import SUFFIX, TILE_URL, TileFile, add_tiles
from soundranger_node.errors import InputError

STATIC: Final = Path(__file__).parent / "static"
# A page that hears nothing for two and a half of these knows that its connection is dead, and opens a new one.
HEARTBEAT_S: Final = 15.0
# RFC 6455, section 7.4.1: the message breaks a rule of this server.
POLICY_VIOLATION: Final = 1008
# A host name or address with an optional port; Leaflet's {s} stands for one of several servers.
TILE_HOST: Final = re.compile(r"(\{s\}\.)?[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
# What tile servers commonly have.
SERVERS_MAX_ZOOM: Final = 19

Completer = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class PageSettings:
    """What the page shows beneath the events.

    `tiles` is a Leaflet template such as `https://tile.openstreetmap.org/{z}/{x}/{y}.png`, or a path on this server,
    or the name of a PMTiles file; None draws a plain metric grid. `attribution` is what the tiles' licence asks to be
    shown, as plain text; a file says it itself.
    """

    tiles: str | None = None
    attribution: str = ""


def create_app(
    hub: Hub,
    settings: PageSettings | None = None,
    store: Store | None = None,
    now_ns: Callable[[], int] = time.time_ns,
) -> FastAPI:
    """Return the application that shows what is published to `hub`, and, where there is a store, what it keeps.

    Raises:
        InputError: the tile address is none, or the tile file cannot be used.
    """
    settings = settings or PageSettings()
    file = TileFile(settings.tiles) if _names_file(settings.tiles) else None
    whole = _completer(_tiles(settings, file), keeps=store is not None)
    app = FastAPI(title="soundranger", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, headers=_headers(settings))
    tell_problems(app)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/api/snapshot", include_in_schema=False)
    async def snapshot() -> Response:
        return Response(msgspec.json.encode(whole(hub.snapshot())), media_type="application/json")

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        if not same_site(socket):
            await socket.close(POLICY_VIOLATION)
            return
        await socket.accept()
        with hub.subscribe() as subscription:
            await _first_of(_send(socket, subscription, whole), _gone(socket))

    app.include_router(metrics_router(hub, store))
    if store is not None:
        add_api(app, hub, store, now_ns)
    if file is not None:
        add_tiles(app, file)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


def _headers(settings: PageSettings) -> dict[str, str]:
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        # Leaflet empties a tile that it no longer needs with a data: image.
        "img-src": " ".join(["'self'", "data:", *_tile_sources(settings.tiles)]),
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{directive} {sources}" for directive, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
        # Modules of two versions must never meet in one page: the browser asks each time, and mostly hears "304".
        "Cache-Control": "no-cache",
    }


def _names_file(tiles: str | None) -> TypeGuard[str]:
    return tiles is not None and tiles.endswith(SUFFIX)


def _tile_sources(tiles: str | None) -> list[str]:
    if tiles is None or _names_file(tiles) or re.match(r"/(?!/)", tiles):
        return []
    problem = InputError(
        f"tile address {tiles!r}",
        "is not a web address that Leaflet can fill in",
        "write it like https://tile.openstreetmap.org/{z}/{x}/{y}.png, or leave it out for a plain grid",
    )
    try:
        parts = urlsplit(tiles)
    except ValueError:
        raise problem from None
    if parts.scheme not in {"http", "https"} or not TILE_HOST.fullmatch(parts.netloc):
        raise problem
    return [f"{parts.scheme}://{parts.netloc.replace('{s}', '*')}"]


def _tiles(settings: PageSettings, file: TileFile | None) -> dict[str, Any] | None:
    """Return what the page must know to show the tiles; beyond `max_zoom` it scales them."""
    if settings.tiles is None:
        return None
    return {
        "url": TILE_URL if file else settings.tiles,
        "attribution": settings.attribution or (file.attribution if file else ""),
        "is_vector": file is not None and file.is_vector,
        "min_zoom": file.min_zoom if file else 0,
        "max_zoom": file.max_zoom if file else SERVERS_MAX_ZOOM,
    }


def _completer(tiles: dict[str, Any] | None, *, keeps: bool) -> Completer:
    """Return what completes a snapshot: the time, the tiles, and whether the past can be asked for (`keeps`)."""
    return lambda snapshot: {"time_ns": time.time_ns(), "tiles": tiles, "keeps": keeps, **snapshot}


async def _send(socket: WebSocket, subscription: Subscription, whole: Completer) -> None:
    while True:
        try:
            payload = await asyncio.wait_for(subscription.next(), HEARTBEAT_S)
        except TimeoutError:
            payload = msgspec.json.encode({"kind": "heartbeat", "message": {"time_ns": time.time_ns()}})
        if payload is None:
            payload = msgspec.json.encode({"kind": "snapshot", "message": whole(subscription.catch_up())})
        await socket.send_text(payload.decode())


async def _gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # A page has nothing to say; this only notices that it has gone.


async def _first_of(*works: Awaitable[None]) -> None:
    """Run works side by side until the first ends, and cancel the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                raise outcome
