"""The guard: headers on every answer, no orders from other sites, no large bodies, and no failure without an answer."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from soundranger_broker.web.problems import problem

_LOG: Final = logging.getLogger(__name__)
# Methods that change nothing (RFC 9110, section 9.2.1).
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# The longest note, in an encoding of six bytes a character, and as much again.
MAX_BODY_BYTES: Final = 32_768


class Guard:
    """Wraps an application: what every request and every answer has in common."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand a WebSocket through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if scope["method"] not in SAFE and not same_site(HTTPConnection(scope)):
            refusal = problem(HTTPStatus.FORBIDDEN, "A page of another site may not do this.")
            await refusal(scope, receive, answer)
            return
        try:
            await self._app(scope, _bounded(receive), answer)
        except Exception:
            if started:
                raise
            _LOG.exception("failed at %s %s", scope["method"], scope["path"])
            failure = problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The centre failed; its own log says how.")
            await failure(scope, receive, answer)


def same_site(connection: HTTPConnection) -> bool:
    """Return False where a page of another site is behind a connection: browsers do not stop that by themselves."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).hostname == connection.url.hostname
    except ValueError:
        return False


def _bounded(receive: Receive) -> Receive:
    """Return what receives a body, and refuses one that is larger than anybody has reason to send."""
    size = 0

    async def receive_some() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body has {MAX_BODY_BYTES} bytes at most.")
        return message

    return receive_some
