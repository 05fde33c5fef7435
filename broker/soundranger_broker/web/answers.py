"""Answers: JSON made by msgspec, and what OpenAPI says of it."""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from soundranger_broker.storage.reading import Review
from soundranger_broker.web import problems
from soundranger_broker.web.shapes import (
    EventDetail,
    EventProperties,
    IncidentDetail,
    IncidentProperties,
    LogHead,
    LogPage,
    NodeProperties,
    Page,
    Quality,
    Statuses,
)

JSON: Final = "application/json"
GEOJSON: Final = "application/geo+json"
DESCRIPTION: Final = (
    "What soundranger has heard and located, what was said of it, and what was written down. Times that end in `_ns` "
    "are integer nanoseconds since 1970 UTC; places are WGS84 degrees; other numbers have their unit in their name."
)
SHAPES: Final = (
    Page[EventProperties],
    Page[IncidentProperties],
    Page[NodeProperties],
    EventDetail,
    IncidentDetail,
    Review,
    Statuses,
    Quality,
    LogPage,
    LogHead,
    problems.Problem,
)
_SCHEMAS, _COMPONENTS = msgspec.json.schema_components(SHAPES, ref_template="#/components/schemas/{name}")

# What FastAPI calls the answers of an operation, by their status.
Answers = dict[int | str, dict[str, Any]]


def answer(shape: object, media_type: str = JSON) -> Response:
    """Return a response that tells a shape as JSON."""
    return Response(msgspec.json.encode(shape), media_type=media_type)


def told(shape: Any, *refusals: HTTPStatus, media_type: str = JSON) -> Answers:
    """Return what OpenAPI says of an operation that answers with a shape, and how else it may answer."""
    return sent(media_type, *refusals, schema=_SCHEMAS[SHAPES.index(shape)])


def sent(media_type: str, *refusals: HTTPStatus, schema: dict[str, Any] | None = None) -> Answers:
    """Return what OpenAPI says of an operation that answers with a text or a file, and how else it may answer."""
    told_problem = {problems.MEDIA_TYPE: {"schema": _SCHEMAS[SHAPES.index(problems.Problem)]}}
    answers: Answers = {200: {"description": "As asked.", "content": {media_type: {"schema": schema or {}}}}}
    for status in (*refusals, HTTPStatus.INTERNAL_SERVER_ERROR):
        answers[status.value] = {"description": f"{status.phrase}.", "content": told_problem}
    return answers


def described(app: FastAPI) -> bytes:
    """Return the OpenAPI description of an application, as JSON."""
    document = get_openapi(title="soundranger", version="1", description=DESCRIPTION, routes=app.routes)
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update(_COMPONENTS)
    # The end of a text is \Z to Python, and $ to JSON Schema.
    return msgspec.json.encode(document).replace(rb'\\Z"', b'$"')
