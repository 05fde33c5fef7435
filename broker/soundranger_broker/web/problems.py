"""Problems: every error is told as a problem document (RFC 9457), in words that a person can act on."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

MEDIA_TYPE: Final = "application/problem+json"


class Fault(msgspec.Struct):
    """What is wrong with one part of a request: `place` is query, path, header or body, `name` the part in it."""

    place: str
    name: str
    detail: str


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document: `title` is what its status is called, `detail` what is wrong this time, in one sentence."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Fault] = []


class NotThere(HTTPException):
    """What is asked for is not there."""

    def __init__(self, what: str) -> None:
        super().__init__(HTTPStatus.NOT_FOUND, f"There is no {what}.")


def problem(
    status: int, detail: str = "", errors: list[Fault] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the response that tells a problem."""
    title = HTTPStatus(status).phrase
    document = Problem("about:blank", title, status, detail or f"{title}.", errors or [])
    return Response(msgspec.json.encode(document), status, headers, MEDIA_TYPE)


def tell_problems(app: FastAPI) -> None:
    """Let an application tell all its refusals as problem documents."""

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> Response:
        plain = error.detail == HTTPStatus(error.status_code).phrase
        return problem(error.status_code, "" if plain else str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        faults = [_fault(one) for one in error.errors()]
        detail = "; ".join(f"{one.name or one.place}: {one.detail}" for one in faults)
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults)


def _fault(error: Mapping[str, Any]) -> Fault:
    place, *name = [str(part) for part in error["loc"]]
    # What was sent is left out: it may be anything, and large.
    return Fault(place, ".".join(name), str(error["msg"]).removeprefix("Value error, "))
